use super::*;
use crate::input::source::READ_SIZE;
use proptest::prelude::*;

/// Cells that hurt: delimiters, quotes, line ends, blanks, letters of all lengths.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z0-9 ,;|\t\"\r\n'#=\\\\]{0,12}",
        1 => "[\\PC\r\n\"]{0,8}",
        1 => Just(String::new()),
        1 => Just("\"".repeat(3)),
        1 => Just("\r\n\"\",\"".to_owned()),
    ]
}

fn table() -> impl Strategy<Value = Vec<Vec<String>>> {
    (1usize..5).prop_flat_map(|width| prop::collection::vec(prop::collection::vec(cell(), width), 0..30))
}

fn written(rows: &[Vec<String>], crlf: bool) -> Vec<u8> {
    let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
    let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
    let width = rows.first().map_or(1, Vec::len);
    let mut header = vec!["url".to_owned()];
    header.extend((0..width).map(|i| format!("c,{i}")));
    writer.write_record(&header).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let mut record = vec![format!("http://h/{i}")];
        record.extend(row.iter().cloned());
        writer.write_record(&record).unwrap();
    }
    writer.into_inner().unwrap()
}

/// Stopping after any number of records and going on gives what one pass gives.
fn resumes_anywhere(path: &Path) -> Result<(), TestCaseError> {
    let mut reader = open(&plan(path), None).unwrap();
    let mut positions = vec![reader.position()];
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        records.push(record);
        positions.push(reader.position());
    }
    for (n, position) in positions.iter().enumerate() {
        let mut again = open(&plan(path), Some(position)).unwrap();
        prop_assert_eq!(again.columns(), reader.columns());
        prop_assert_eq!(rest(&mut again), &records[n..]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_csv_crate_writes_reads_back_the_same(rows in table(), crlf: bool, packed: bool) {
        let place = Place::new();
        let path = place.put(if packed { "a.csv.gz" } else { "a.csv" }, written(&rows, crlf));
        let mut reader = open(&plan(&path), None).unwrap();
        let records = rest(&mut reader);
        prop_assert_eq!(records.len(), rows.len());
        for (i, (record, row)) in records.iter().zip(&rows).enumerate() {
            let got: Vec<&str> = record.columns.values().skip(1).map(|v| v.as_str().unwrap()).collect();
            prop_assert_eq!(&got, row);
            let want = format!("http://h/{i}");
            prop_assert_eq!(record.body.as_deref(), Ok(want.as_str()));
        }
        resumes_anywhere(&path)?;
    }

    #[test]
    fn any_bytes_are_read_to_their_end_and_go_on_from_anywhere(
        lines in prop::collection::vec(prop_oneof![
            "[ -~]{0,20}", "\"[a-z,\n]{0,9}", "[a-z\",\r\n\t]{0,12}", "\\{\"url\":\"[a-z]{0,4}\"\\}", Just("# x".to_owned()),
        ], 0..25),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        last: bool,
    ) {
        let place = Place::new();
        let mut body = lines.join(end);
        if last {
            body.push_str(end);
        }
        for name in ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.txt.gz", "a.csv.gz", "a.jsonl.gz", "a.csv.zst"] {
            let header = if name.contains("sv") { "url,a\turl\n" } else if name.contains("json") { "{\"url\":1}\n" } else { "" };
            let content = format!("{header}{body}");
            if content.is_empty() {
                continue;
            }
            let content = if name.contains("tsv") { content } else { content.replacen(",a\turl", ",a", 1) };
            resumes_anywhere(&place.put(name, content))?;
        }
    }

    #[test]
    fn edges_of_reads_are_nowhere_to_be_seen(rows in table(), crlf: bool, size in prop_oneof![1usize..12, 12usize..200], tail in "[a-z\",\r\n\t]{0,40}") {
        let place = Place::new();
        let mut content = written(&rows, crlf);
        content.extend(tail.bytes());
        for name in ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.csv.gz"] {
            if name == "a.tsv" {
                content.splice(..0, b"url\n".iter().copied());
            }
            let path = place.put(name, &content);
            let mut whole = open(&plan(&path), None).unwrap();
            let want = rest(&mut whole);
            READ_SIZE.set(size);
            let mut reader = open(&plan(&path), None).unwrap();
            let got = rest(&mut reader);
            let position = reader.position();
            READ_SIZE.set(64 * 1024);
            prop_assert_eq!(got, want, "{}", name);
            prop_assert_eq!(position, whole.position());
            prop_assert_eq!(reader.warnings(), whole.warnings());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_fail_oddly(bytes in prop::collection::vec(any::<u8>(), 1..400), name in "a\\.(txt|csv|tsv|jsonl)(\\.gz|\\.zst)?") {
        let place = Place::new();
        let path = place.0.path().join(&name);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(mut reader) = open(&plan(&path), None) {
            while let Ok(Some(record)) = reader.next() {
                prop_assert!(record.shown.chars().count() <= 200);
            }
        }
    }
}
