use super::*;
use crate::input::error::read_error;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_name_tells_format_and_compression() {
    let csv = "url\nhttp://h/1\n";
    for (name, content) in [
        ("a.txt", "http://h/1"),
        ("a.TXT.GZ", "http://h/1"),
        ("a.csv", csv),
        ("a.csv.gz", csv),
        ("a.csv.zst", csv),
        ("a.tsv", csv),
        ("a.b.tsv.gz", csv),
        ("a.jsonl", "{\"url\":\"http://h/1\"}"),
        ("a.ndjson.zst", "{\"url\":\"http://h/1\"}"),
    ] {
        let content = if name.ends_with(".GZ") { gz(content.as_bytes()) } else { content.as_bytes().to_vec() };
        assert_eq!(tell(name, content)[0].2, "http://h/1", "{name}");
    }
}

#[test]
fn other_names_are_refused_with_what_there_is() {
    for name in ["a.xlsx", "a", "a.gz", ".csv.bak", "a.json"] {
        let error = fails(name, "x");
        assert!(error.to_string().contains(".txt, .csv, .tsv, .jsonl, .ndjson"), "{error}");
    }
    let xml = fails("a.xml", "x");
    assert!(xml.to_string().contains("not yet") && xml.hint().unwrap().contains(".csv"));
}

#[test]
fn what_cannot_be_opened_is_wrong_input_and_says_why() {
    let place = Place::new();
    let missing = open(&plan(&place.0.path().join("no.csv")), None).err().unwrap();
    assert!(missing.to_string().contains("no.csv: there is no such file") && !missing.is_io());
    std::fs::create_dir(place.0.path().join("d.csv")).unwrap();
    let folder = open(&plan(&place.0.path().join("d.csv")), None).err().unwrap();
    assert!(folder.to_string().ends_with("is a folder, not a file"), "{folder}");
    for name in ["e.txt", "e.csv", "e.jsonl", "e.tsv"] {
        assert!(fails(name, "").to_string().ends_with("is empty"));
    }
    for name in ["e.txt.gz", "e.csv.zst"] {
        let path = place.0.path().join(name);
        std::fs::write(&path, b"").unwrap();
        assert!(open(&plan(&path), None).err().unwrap().to_string().ends_with("is empty"));
    }
    let locked = place.put("l.txt", "http://h/");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if let Err(error) = open(&plan(&locked), None) {
        assert!(error.to_string().contains("permission"), "{error}");
    }
}

#[test]
fn a_file_without_a_record_is_an_empty_run() {
    for (name, content) in [
        ("a.txt", "# nothing\n\n"),
        ("a.txt", "\u{feff}"),
        ("a.csv", "url\n"),
        ("a.csv", "url"),
        ("a.csv", "\n\n"),
        ("a.tsv", "url\n\n"),
        ("a.jsonl", "\n"),
        ("a.txt.gz", ""),
    ] {
        assert_eq!(tell(name, content), [], "{name} {content:?}");
    }
}

#[test]
fn utf_16_is_refused_with_the_cure() {
    for name in ["a.txt", "a.csv", "a.jsonl"] {
        for bom in [b"\xff\xfeh\0", b"\xfe\xff\0h"] {
            let error = fails(name, bom);
            assert!(error.to_string().contains("UTF-16") && error.hint().unwrap().contains("UTF-8"), "{error}");
        }
    }
}

#[test]
fn members_and_frames_in_a_row_are_one_file() {
    let place = Place::new();
    let want: Vec<String> = (1..=4).map(|i| format!("http://h/{i}")).collect();
    let halves = ["http://h/1\nhttp://h/2\nhttp", "://h/3\nhttp://h/4\n"].map(str::as_bytes);
    let zst: Vec<u8> = halves.iter().flat_map(|h| zstd::encode_all(*h, 0).unwrap()).collect();
    let gzip: Vec<u8> = halves.iter().flat_map(|h| gz(h)).collect();
    for (name, bytes) in [("a.txt.gz", gzip), ("a.txt.zst", zst)] {
        let path = place.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let got: Vec<String> = rest(&mut open(&plan(&path), None).unwrap()).into_iter().map(|r| r.body.unwrap()).collect();
        assert_eq!(got, want, "{name}");
    }
}

/// Text that does not compress to nothing.
fn noise(records: u64) -> String {
    (0..records).map(|i| format!("http://h/{}\n", blake3::hash(&i.to_le_bytes()).to_hex())).collect()
}

#[test]
fn a_torn_compressed_file_gives_its_records_and_then_file_and_offset() {
    let place = Place::new();
    let content = noise(5000);
    for name in ["a.txt.gz", "a.txt.zst", "a.jsonl.gz"] {
        let content =
            if name.contains("jsonl") { content.lines().map(|l| format!("{{\"url\":\"{l}\"}}\n")).collect() } else { content.clone() };
        let path = place.put(name, &content);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let mut reader = open(&plan(&path), None).unwrap();
        let mut last = 0;
        let error = loop {
            match reader.next() {
                Ok(Some(record)) => {
                    assert!(record.body.is_ok());
                    last = record.row;
                }
                Ok(None) => panic!("a torn file has no end"),
                Err(e) => break e,
            }
        };
        assert!(last > 1000 && last < 4999, "{name} {last}");
        let InputError::Torn { offset, .. } = &error else { panic!("{error}") };
        assert!(*offset >= reader.position().offset && error.to_string().contains(name));
        assert!(!error.is_io() && error.hint().unwrap().contains("whole file"));
        assert!(reader.next().is_err(), "told again");

        // The same command goes on once the file is whole.
        let position = reader.position();
        std::fs::write(&path, &whole).unwrap();
        let mut again = open(&plan(&path), Some(&position)).unwrap();
        let records = rest(&mut again);
        assert_eq!((records[0].row, last + records.len() as u64), (last + 1, 5000), "{name}");
    }
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_damaged_at_zero() {
    let place = Place::new();
    for name in ["a.csv.gz", "a.txt.zst"] {
        let path = place.0.path().join(name);
        std::fs::write(&path, "url\nhttp://h/1\n").unwrap();
        let error = open(&plan(&path), None).err().unwrap();
        assert!(matches!(error, InputError::Torn { offset: 0, .. }), "{error}");
    }
}

#[test]
fn a_million_lines_take_no_time() {
    let place = Place::new();
    let path = place.put("a.txt", (0..1_000_000).map(|i| format!("http://h.example/page/{i}\n")).collect::<String>());
    #[allow(clippy::disallowed_methods, reason = "what is tested is time itself")]
    let start = std::time::Instant::now();
    let mut reader = open(&plan(&path), None).unwrap();
    let mut rows = 0;
    while let Some(record) = reader.next().unwrap() {
        rows += 1;
        if record.row % 256 == 0 {
            std::hint::black_box(reader.position());
        }
    }
    let took = start.elapsed();
    println!("1,000,000 lines in {took:?}");
    assert_eq!(rows, 1_000_000);
    assert!(took.as_secs() < if cfg!(debug_assertions) { 30 } else { 1 }, "{took:?}");
}

#[test]
fn the_first_record_needs_one_read() {
    let place = Place::new();
    let path = place.put("a.txt", noise(100_000));
    let mut reader = open(&plan(&path), None).unwrap();
    reader.next().unwrap();
    assert!(reader.read_bytes() <= 64 * 1024);
}

#[test]
fn a_pipe_is_read_as_it_comes_and_is_not_gone_on_with() {
    let place = Place::new();
    let path = place.0.path().join("p.jsonl");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let end = path.clone();
    let writer = std::thread::spawn(move || std::fs::write(end, "{\"url\":\"http://h/1\"}\n{\"url\":\"http://h/2\"}\n").unwrap());
    let mut reader = open(&plan(&path), None).unwrap();
    assert_eq!(reader.columns(), ["url"]);
    assert_eq!(told(&rest(&mut reader)), [(1, 1, "http://h/1"), (2, 2, "http://h/2")]);
    writer.join().unwrap();
    let error = open(&plan(&path), Some(&reader.position())).err().unwrap();
    assert!(matches!(error, InputError::Changed { row: 2, .. }), "{error}");
}

#[test]
fn a_failing_machine_is_told_from_wrong_data() {
    let eio = || std::io::Error::from_raw_os_error(5);
    let decoder = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "cut");
    let io = read_error("a.txt.gz", 7, true, eio());
    assert!(io.is_io() && io.hint().is_none());
    assert!(io.to_string().starts_with("a.txt.gz: cannot be read at offset 7: "), "{io}");
    assert!(!read_error("a.txt.gz", 7, true, decoder).is_io());
}

#[test]
fn a_reader_can_be_given_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Reader>();
    sendable::<InputError>();
}
