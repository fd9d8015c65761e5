use super::*;
use std::fs::OpenOptions;
use std::time::{Duration, SystemTime};

fn list(n: u64) -> String {
    (1..=n).map(|i| format!("http://h.example/{i}\n")).collect()
}

/// Opens, reads `n` records and takes the position.
fn stop_after(path: &Path, n: usize) -> Position {
    let mut reader = open(&plan(path), None).unwrap();
    for _ in 0..n {
        reader.next().unwrap().unwrap();
    }
    reader.position()
}

fn append(path: &Path, more: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(more.as_bytes()).unwrap();
}

/// Gives the file another time without touching its bytes.
fn touch(path: &Path) {
    let file = OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

fn refused(path: &Path, position: &Position) -> String {
    let error = open(&plan(path), Some(position)).err().unwrap();
    assert!(matches!(error, InputError::Changed { .. }) && !error.is_io());
    assert!(error.hint().unwrap().contains("--fresh") && error.hint().unwrap().contains("restore"));
    error.to_string()
}

#[test]
fn an_untouched_file_goes_on_without_its_prefix_being_read() {
    let place = Place::new();
    let path = place.put("a.txt", list(200_000));
    let position = stop_after(&path, 150_000);
    let small = serde_json::to_string(&position).unwrap();
    assert!(small.len() < 600, "{small}");
    let mut reader = open(&plan(&path), Some(&serde_json::from_str(&small).unwrap())).unwrap();
    assert!(reader.notices().is_empty());
    assert!(reader.held_bytes() < 10_000, "only the mark was read");
    let first = reader.next().unwrap().unwrap();
    assert_eq!(told(&[first]), [(150_001, 150_001, "http://h.example/150001")]);
    // The position of the second run is what one run would have had.
    assert_eq!(reader.position(), stop_after(&path, 150_001));
}

#[test]
fn a_position_is_good_anywhere_in_a_block() {
    let place = Place::new();
    let content = list(120_000);
    let path = place.put("a.txt", &content);
    let mut reader = open(&plan(&path), None).unwrap();
    let mut near = Vec::new();
    while reader.next().unwrap().is_some() {
        let position = reader.position();
        if position.offset % (1 << 20) < 60 || position.offset % (1 << 20) > (1 << 20) - 60 {
            near.push(position);
        }
    }
    assert!(near.len() >= 8);
    for position in near {
        let mut again = open(&plan(&path), Some(&position)).unwrap();
        assert_eq!(again.position(), position);
        assert_eq!(again.next().unwrap().unwrap().row, position.row + 1);
    }
}

#[test]
fn appended_lines_are_read_with_a_notice() {
    let place = Place::new();
    let path = place.put("a.txt", list(3));
    let position = stop_after(&path, 3);
    append(&path, "http://h.example/4\n");
    let mut reader = open(&plan(&path), Some(&position)).unwrap();
    assert!(reader.notices()[0].contains("has grown by 19 bytes"));
    assert_eq!(told(&rest(&mut reader)), [(4, 4, "http://h.example/4")]);
}

#[test]
fn a_copy_with_the_same_bytes_goes_on_with_a_notice() {
    let place = Place::new();
    let path = place.put("a.csv", format!("url\n{}", list(100)));
    let position = stop_after(&path, 40);
    touch(&path);
    let mut reader = open(&plan(&path), Some(&position)).unwrap();
    assert!(reader.notices()[0].contains("what was read is the same"));
    assert_eq!(rest(&mut reader)[0].row, 41);
}

#[test]
fn a_changed_prefix_and_a_shorter_file_are_refused_and_said() {
    let place = Place::new();
    let path = place.put("a.txt", list(1000));
    let position = stop_after(&path, 500);
    std::fs::write(&path, list(1000).replace("/400\n", "/4x0\n")).unwrap();
    assert!(
        refused(&path, &position).contains("a.txt: changed since it was read up to record 500: the part that was read is not the same")
    );
    std::fs::write(&path, list(1000).replace("/1\n", "/!\n")).unwrap();
    assert!(refused(&path, &position).contains("its beginning is not the same"));
    std::fs::write(&path, list(900)).unwrap();
    assert!(refused(&path, &position).contains("it is shorter"));
    // Same size and time, other bytes before the mark.
    let stamp = position.file.as_ref().unwrap().mtime_ns;
    std::fs::write(&path, list(1000).replace("/500\n", "/5o0\n")).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(stamp).unwrap());
    OpenOptions::new().append(true).open(&path).unwrap().set_modified(at).unwrap();
    refused(&path, &position);
}

#[test]
fn a_line_that_may_have_been_cut_is_not_gone_on_with() {
    let place = Place::new();
    let path = place.put("a.txt", "http://h/1\nhttp://h/2");
    let position = stop_after(&path, 2);
    assert_eq!(rest(&mut open(&plan(&path), Some(&position)).unwrap()), []);
    append(&path, "22\n");
    assert!(refused(&path, &position).contains("no line end, and now it goes on"));
    // A line end and more lines leave it what it was.
    std::fs::write(&path, "http://h/1\nhttp://h/2\nhttp://h/3\n").unwrap();
    assert_eq!(told(&rest(&mut open(&plan(&path), Some(&position)).unwrap())), [(3, 3, "http://h/3")]);
}

#[test]
fn a_compressed_file_goes_on_by_its_decoded_bytes() {
    let place = Place::new();
    for name in ["a.txt.gz", "a.txt.zst"] {
        let path = place.put(name, list(50_000));
        let position = stop_after(&path, 30_000);
        let mut reader = open(&plan(&path), Some(&position)).unwrap();
        assert!(reader.notices().is_empty());
        assert_eq!(rest(&mut reader).len(), 20_000);
        // Packed anew with more lines.
        place.put(name, list(60_000));
        let mut reader = open(&plan(&path), Some(&position)).unwrap();
        assert_eq!((reader.notices().len(), rest(&mut reader).len()), (1, 30_000));
        place.put(name, list(60_000).replace("/7\n", "/8\n"));
        refused(&path, &position);
        place.put(name, list(10));
        assert!(refused(&path, &position).contains("it ends after"));
    }
}

#[test]
fn columns_of_jsonl_stay_what_they_were_though_records_were_appended() {
    let place = Place::new();
    let path = place.put("a.jsonl", "{\"url\":\"http://h/1\"}\n{\"url\":\"http://h/2\"}\n");
    let position = stop_after(&path, 1);
    append(&path, "{\"url\":\"http://h/3\",\"new\":1}\n");
    let mut reader = open(&plan(&path), Some(&position)).unwrap();
    assert_eq!(reader.columns(), ["url"]);
    assert_eq!(rest(&mut reader).len(), 2);
    assert_eq!(reader.warnings().len(), 1);
    assert_eq!(reader.position().sampled, 2);
}

#[test]
fn a_header_that_came_later_is_still_a_header() {
    let place = Place::new();
    let path = place.put("a.csv", "\n");
    let position = stop_after(&path, 0);
    append(&path, "url\nhttp://h/1\n");
    assert_eq!(told(&rest(&mut open(&plan(&path), Some(&position)).unwrap())), [(1, 3, "http://h/1")]);
}
