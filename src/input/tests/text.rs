use super::*;

fn lines(content: impl AsRef<[u8]>) -> Vec<(u64, u64, String)> {
    tell("list.txt", content)
}

fn of(want: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
    want.iter().map(|(r, l, t)| (*r, *l, (*t).to_owned())).collect()
}

#[test]
fn blank_lines_and_comments_are_no_records() {
    let content = "http://h/1\n\n  # no http://h/x\n \t\n#\n  http://h/2 \nhttp://h/3#frag\n";
    assert_eq!(lines(content), of(&[(1, 1, "http://h/1"), (2, 6, "http://h/2"), (3, 7, "http://h/3#frag")]));
}

#[test]
fn every_line_end_ends_a_line_and_the_last_needs_none() {
    let want = of(&[(1, 1, "http://h/1"), (2, 2, "http://h/2"), (3, 4, "http://h/3")]);
    for content in [
        "http://h/1\nhttp://h/2\n\nhttp://h/3\n",
        "http://h/1\r\nhttp://h/2\r\n\r\nhttp://h/3",
        "http://h/1\rhttp://h/2\r\rhttp://h/3\r",
        "\u{feff}http://h/1\nhttp://h/2\r\n\nhttp://h/3",
    ] {
        assert_eq!(lines(content), want, "{content:?}");
    }
}

#[test]
fn a_crlf_over_the_edge_of_a_read_is_one_line_end() {
    for pad in 65_520..65_540 {
        let content = format!("http://h/{}\r\nhttp://h/2\r\n", "a".repeat(pad - 9));
        let got = lines(content);
        assert_eq!((got.len(), got[1].1), (2, 2), "{pad}");
    }
}

#[test]
fn white_space_and_angle_brackets_around_an_address_are_trimmed() {
    assert_eq!(lines("\u{a0} <http://h/1>\u{200b}\n"), of(&[(1, 1, "http://h/1")]));
    // Brackets around nothing, or around what looks like a comment, are still a record.
    assert_eq!(lines("<>\n<#a>\n\u{200b}\n\u{feff}# a\n"), of(&[(1, 1, ""), (2, 2, "#a")]));
}

#[test]
fn a_line_over_one_mebibyte_is_one_bad_record_and_is_not_held() {
    let place = Place::new();
    let content = format!("http://h/1\n{}\nhttp://h/2\n# {}\nhttp://h/3", "x".repeat(10 << 20), "c".repeat(2 << 20));
    let mut reader = open(&plan(&place.put("list.txt", content)), None).unwrap();
    let records = rest(&mut reader);
    let message = records[1].body.as_ref().unwrap_err();
    assert!(message.starts_with("list.txt:2: the line is longer than 1 MiB: \"xxx"), "{message}");
    assert!(message.chars().count() < 260 && records[1].shown.len() == 200);
    assert_eq!(told(&records)[2], (3, 3, "http://h/2"));
    assert_eq!(told(&records)[3], (4, 5, "http://h/3"));
    assert!(reader.held_bytes() < 3 << 20, "{}", reader.held_bytes());
}

#[test]
fn a_line_of_exactly_one_mebibyte_is_a_record() {
    let line = format!("http://h/{}", "x".repeat((1 << 20) - 9));
    let got = lines(format!("{line}\n{line}y\n{line}"));
    assert_eq!((got[0].2.len(), got[2].2.len()), (1 << 20, 1 << 20));
    assert!(got[1].2.contains("longer"));
}

#[test]
fn bytes_that_are_no_text_are_bad_records_that_name_file_and_line() {
    let got = lines(b"http://h/\xff\nhttp://h/a\0b\n#\xff\nhttp://h/\x1b[31m\xff\n");
    assert_eq!(got[0].2, "list.txt:1: the record is not valid UTF-8: \"http://h/\u{fffd}\"");
    assert_eq!(got[1].2, "list.txt:2: the record holds a NUL byte: \"http://h/a\\u{0}b\"");
    assert_eq!((got[2].1, got[2].2.as_str()), (4, "list.txt:4: the record is not valid UTF-8: \"http://h/\\u{1b}[31m\u{fffd}\""));
}

#[test]
fn the_template_of_a_list_knows_url_alone() {
    let place = Place::new();
    let path = place.put("list.txt", "a b\n..\n");
    let mut reader = open(&templated(&path, "https://h/{{ url }}?u={{url}}"), None).unwrap();
    let records = rest(&mut reader);
    assert_eq!(records[0].body.as_deref(), Ok("https://h/a%20b?u=a%20b"));
    let message = records[1].body.as_ref().unwrap_err();
    assert!(message.starts_with("list.txt:2: column \"url\" gives the path segment \"..\""), "{message}");
    assert!(records[1].columns.is_empty() && reader.columns().is_empty());
    let error = open(&templated(&path, "https://h/{{id}}"), None).err().unwrap();
    assert!(error.to_string().contains("\"id\"") && !error.is_io());
}

#[test]
fn a_list_of_addresses_and_a_single_request_are_records() {
    let urls = InputSource::Urls(vec![" http://h/1".into(), "x".into(), "http://h/3".into()]);
    let mut reader = open(&plan_of(urls.clone(), None), None).unwrap();
    reader.next().unwrap();
    let position = reader.position();
    assert_eq!(told(&rest(&mut reader)), [(2, 2, "x"), (3, 3, "http://h/3")]);
    let mut again = open(&plan_of(urls, None), Some(&position)).unwrap();
    assert_eq!(told(&rest(&mut again)), [(2, 2, "x"), (3, 3, "http://h/3")]);

    let mut one = open(&plan_of(InputSource::Request, Some("http://h/a?b=%20")), None).unwrap();
    let records = rest(&mut one);
    assert_eq!(told(&records), [(1, 1, "http://h/a?b=%20")]);
    assert!(records[0].columns.is_empty());
    let done = one.position();
    assert_eq!(rest(&mut open(&plan_of(InputSource::Request, Some("http://h/a")), Some(&done)).unwrap()), []);
    assert!(open(&plan_of(InputSource::Request, Some("http://h/{{id}}")), None).is_err());
}

#[test]
fn stdin_of_an_earlier_run_is_at_its_end_and_says_what_is_held() {
    let held = Position { row: 42, ..Position::default() };
    let mut reader = open(&plan_of(InputSource::Stdin, None), Some(&held)).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    assert!(reader.notices()[0].contains("42"));
    assert_eq!(reader.position(), held);
}
