use super::*;

fn jsonl(content: impl AsRef<[u8]>) -> (Reader, Vec<InputRecord>) {
    read("list.jsonl", content)
}

#[test]
fn columns_keep_their_json_type_and_numbers_every_digit() {
    let line = r#"{"url":"http://h/1","n":123456789012345678901234567890.120,"b":true,"z":null,"o":{"a":[1.50e-7]}}"#;
    let (reader, records) = jsonl(format!("\u{feff}{line}\r\n"));
    assert_eq!(columns(&records[0]), line);
    assert_eq!(reader.columns(), ["url", "n", "b", "z", "o"]);
    assert_eq!(told(&records), [(1, 1, "http://h/1")]);
}

#[test]
fn a_line_that_is_no_object_is_a_bad_record() {
    let (_, records) = jsonl(
        "{\"url\":\"http://h/1\"}\n\n[1]\n3\nnull\n{\"url\":\n{\"url\":\"\\ud800\"}\n{\"url\":\"http://h/2\"} x\n  {\"url\":\"http://h/3\"}  ",
    );
    let got = told(&records);
    assert_eq!(got.iter().map(|(r, l, _)| (*r, *l)).collect::<Vec<_>>(), [(1, 1), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)]);
    assert_eq!(got[1].2, "list.jsonl:3: the line is an array, not a JSON object: \"[1]\"");
    assert!(got[3].2.contains("is null") && got[4].2.starts_with("list.jsonl:6: the line is no JSON: "));
    assert!(got[1..7].iter().all(|(_, _, t)| t.starts_with("list.jsonl:")), "{got:?}");
    assert_eq!(got[7].2, "http://h/3");
}

#[test]
fn columns_are_the_keys_of_the_first_hundred_records_and_later_ones_are_counted() {
    let mut content: String = (0..100).map(|i| format!("{{\"url\":\"http://h/{i}\",\"k{}\":1}}\n\n", i / 50)).collect();
    content.push_str("{\"url\":\"http://h/x\",\"late\":1,\"k0\":2}\n");
    let (mut reader, records) = jsonl(content);
    assert_eq!(reader.columns(), ["url", "k0", "k1"]);
    assert_eq!(columns(&records[100]), r#"{"url":"http://h/x","late":1,"k0":2}"#);
    let warnings = reader.warnings();
    assert_eq!(warnings, [("late-column", "list.jsonl:201: the key \"late\" is none of the first 100 records".to_owned())]);
}

#[test]
fn the_url_key_is_found_as_in_a_header() {
    let (mut reader, records) = jsonl("{\"Url\":\"http://h/1\"}\n{\"x\":1}\n");
    assert_eq!(told(&records)[0], (1, 1, "http://h/1"));
    assert_eq!(records[1].body.as_ref().unwrap_err(), "list.jsonl:2: there is no column \"Url\": \"{\"x\":1}\"");
    assert_eq!(reader.notices().len(), 1);
    let none = fails("list.jsonl", "{\"link\":\"x\"}\n");
    assert!(none.to_string().ends_with("there is no column \"url\": the columns are \"link\""), "{none}");
    let former = jsonl("{\"title\":\"T\",\"_url\":\"http://h/0\",\"_row\":1}\n");
    assert_eq!(told(&former.1), [(1, 1, "http://h/0")]);
    assert_eq!((columns(&former.1[0]).as_str(), former.0.columns()), (r#"{"title":"T"}"#, &["title".to_owned()][..]));
    // Where nothing can be read, every record says so.
    assert_eq!(jsonl("x\ny\n").1.len(), 2);
}

#[test]
fn a_template_takes_json_values_as_text() {
    let place = Place::new();
    let path = place.put("list.jsonl", "{\"id\":12345678901234567890123,\"q\":null}\n{\"q\":1}\n{\"id\":{\"a\":1},\"q\":false}\n");
    let mut reader = open(&templated(&path, "https://h/{{id}}?q={{q}}"), None).unwrap();
    let records = rest(&mut reader);
    assert_eq!(records[0].body.as_deref(), Ok("https://h/12345678901234567890123?q="));
    assert!(records[1].body.as_ref().unwrap_err().starts_with("list.jsonl:2: there is no column \"id\""));
    assert_eq!(columns(&records[1]), r#"{"q":1}"#);
    assert_eq!(records[2].body.as_deref(), Ok("https://h/%7B%22a%22%3A1%7D?q=false"));
}

#[test]
fn huge_lines_and_wrong_bytes_cost_one_record_each() {
    let mut content = format!("{{\"url\":\"http://h/1\",\"a\":\"{}\"}}\n", "x".repeat(3 << 20)).into_bytes();
    content.extend(b"{\"url\":\"http://h/\xff\"}\n{\"url\":\"http://h/\0\"}\n{\"url\":\"http://h/4\"}\n");
    let (reader, records) = jsonl(content);
    let got = told(&records);
    assert!(got[0].2.contains("1 MiB") && got[1].2.contains("UTF-8") && got[2].2.contains("NUL"));
    assert_eq!(got[3], (4, 4, "http://h/4"));
    assert!(reader.held_bytes() < 5 << 20);
}
