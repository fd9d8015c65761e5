use super::*;

fn csv(content: impl AsRef<[u8]>) -> (Reader, Vec<InputRecord>) {
    read("list.csv", content)
}

#[test]
fn cells_are_kept_byte_for_byte() {
    let (reader, records) = csv("id, name ,url\r\n 1 ,\"a, \"\"b\"\"\r\nc\", http://h/1 \r\n\"\",x\"y,<http://h/2>\n");
    assert_eq!(reader.columns(), ["id", " name ", "url"]);
    assert_eq!(columns(&records[0]), r#"{"id":" 1 "," name ":"a, \"b\"\r\nc","url":" http://h/1 "}"#);
    assert_eq!(columns(&records[1]), r#"{"id":""," name ":"x\"y","url":"<http://h/2>"}"#);
    assert_eq!(told(&records), [(1, 2, "http://h/1"), (2, 4, "http://h/2")]);
}

#[test]
fn a_bom_is_no_part_of_the_first_column() {
    let (reader, records) = csv("\u{feff}url,a\nhttp://h/1,2\n");
    assert_eq!(reader.columns(), ["url", "a"]);
    assert_eq!(told(&records), [(1, 2, "http://h/1")]);
}

#[test]
fn the_url_column_is_found_by_its_name_case_and_blanks_aside() {
    let (mut reader, records) = csv("id, URL \n1,http://h/1\n");
    assert_eq!(told(&records), [(1, 2, "http://h/1")]);
    assert_eq!(columns(&records[0]), r#"{"id":"1"," URL ":"http://h/1"}"#);
    assert!(reader.notices()[0].ends_with("the addresses are read from the column \" URL \""));
    assert_eq!(reader.notices(), Vec::<String>::new());
    let mut exact = csv("url\nhttp://h/1\n").0;
    assert_eq!(exact.notices(), Vec::<String>::new());

    let none = fails("list.csv", "id,link\n1,http://h/1\n");
    assert!(none.to_string().ends_with("list.csv: there is no column \"url\": the columns are \"id\", \"link\""), "{none}");
    assert!(none.hint().unwrap().contains("{{id}}") && !none.is_io());
    let two = fails("list.csv", "url,URL\n");
    assert!(two.to_string().contains("several columns could be \"url\": the columns are \"url\", \"URL\""), "{two}");
    let headless = fails("list.csv", "http://h/1\nhttp://h/2\n");
    assert!(headless.hint().unwrap().contains(".txt"));
}

#[test]
fn another_delimiter_is_found_in_the_header_and_told() {
    for (content, name) in [("id;url\n1,5;http://h/1\n", "semicolons"), ("id\turl\n1,5\thttp://h/1\n", "tabs")] {
        let (mut reader, records) = csv(content);
        assert_eq!(columns(&records[0]), r#"{"id":"1,5","url":"http://h/1"}"#);
        assert!(reader.notices()[0].contains(name));
    }
    let spread = csv("\"a,\nb\";url\n1;http://h/1\n");
    assert_eq!((spread.0.columns(), told(&spread.1)), (&["a,\nb".to_owned(), "url".to_owned()][..], vec![(1, 3, "http://h/1")]));
    assert_eq!(csv("5\" pipe;url\n1;http://h/1\n").0.columns(), ["5\" pipe", "url"]);
    let quoted = csv("\"a;b\",url\n1,http://h/1\n").0;
    assert_eq!(quoted.columns(), ["a;b", "url"]);
}

#[test]
fn a_first_line_that_names_the_separator_is_obeyed() {
    let (mut reader, records) = csv("sep=|\r\na,b|url\r\n1|http://h/1\r\n");
    assert_eq!(reader.columns(), ["a,b", "url"]);
    assert_eq!(told(&records), [(1, 3, "http://h/1")]);
    assert!(reader.notices().is_empty());
}

#[test]
fn a_header_is_refused_where_it_cannot_be_read() {
    assert!(fails("list.csv", "url,a,a\n").to_string().ends_with("the header names the column \"a\" twice"));
    let latin = fails("list.csv", b"url,caf\xe9\nhttp://h/,1\n");
    assert!(latin.to_string().contains("line 1 is not valid UTF-8"));
    assert_eq!(latin.hint(), Some("`encoding` is not yet supported: save the file as UTF-8"));
    assert!(fails("list.csv", "url,\"a\nx,y\n").to_string().contains("quote"));
    assert!(fails("list.csv", "url,a\0\n").to_string().contains("NUL"));
    assert!(fails("list.csv", "x".repeat(2 << 20)).to_string().contains("1 MiB"));
}

#[test]
fn columns_without_a_name_are_not_carried() {
    let (mut reader, records) = csv("url,, ,a\nhttp://h/1,x,y,z\n");
    assert_eq!(reader.columns(), ["url", "a"]);
    assert_eq!(columns(&records[0]), r#"{"url":"http://h/1","a":"z"}"#);
    assert!(reader.notices()[0].ends_with("columns 2, 3 have no name and are not carried"));
}

#[test]
fn short_rows_are_padded_and_counted_and_extra_cells_are_bad() {
    let (mut reader, records) = csv("url,a,b\nhttp://h/1\nhttp://h/2,x\nhttp://h/3,1,2,,\"\"\nhttp://h/4,1,2,,3\nhttp://h/5,1,2\n");
    assert_eq!(columns(&records[1]), r#"{"url":"http://h/2","a":"x","b":""}"#);
    let warnings = reader.warnings();
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[1], ("short-row", "list.csv:3: 2 cells where the header has 3".to_owned()));
    assert!(reader.warnings().is_empty());
    assert!(records[2].body.is_ok() && records[4].body.is_ok());
    let bad = &records[3];
    assert_eq!(bad.body.as_ref().unwrap_err(), "list.csv:5: 5 cells where the header has 3: \"http://h/4,1,2,,3\"");
    assert_eq!((bad.row, bad.shown.as_str()), (4, "http://h/4"));
    assert_eq!(columns(bad), r#"{"url":"http://h/4","a":"1","b":"2"}"#);
}

#[test]
fn rows_of_delimiters_and_blank_lines_do_not_count() {
    let (mut reader, records) = csv("\nurl,a\n\n,\n,,,\n  \nhttp://h/1,\n\r\n\"\",\"\"\n");
    assert_eq!(told(&records), [(1, 7, "http://h/1"), (2, 9, "")]);
    assert!(reader.warnings().is_empty());
}

#[test]
fn a_quote_that_never_closes_costs_its_line_alone() {
    let content = "id,url\n1,http://h/1\n2,\"http://h/2\n3,http://h/3\n\"4\",\"http://h/4\"\n5,\"http://h/5\n";
    let (_, records) = csv(content);
    let got = told(&records);
    assert_eq!(got.iter().map(|(r, l, _)| (*r, *l)).collect::<Vec<_>>(), [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]);
    assert_eq!((got[0].2, got[2].2, got[3].2), ("http://h/1", "http://h/3", "http://h/4"));
    assert!(got[1].2.starts_with("list.csv:3: the quote that opens at line 3 does not close"), "{}", got[1].2);
    assert!(got[1].2.ends_with(": \"2,\"http://h/2\""), "{}", got[1].2);
    assert!(got[4].2.starts_with("list.csv:6: the quote that opens at line 6"));
    // It opens in a later line of its record.
    let (_, records) = csv("id,url\n\"a\nb\",\"http://h/1\nc,http://h/2\n");
    let got = told(&records);
    assert!(got[0].2.starts_with("list.csv:2: the quote that opens at line 3"), "{}", got[0].2);
    assert_eq!(got[1], (2, 4, "http://h/2"));
}

#[test]
fn an_open_quote_is_followed_for_one_mebibyte_and_no_further() {
    let body: String = (0..80_000).map(|i| format!("x,http://h/{i:010}\n")).collect();
    let (reader, records) = csv(format!("id,url\n\"open,http://h/\n{body}"));
    assert_eq!(records.len(), 80_001);
    assert!(records[0].body.is_err() && records[1..].iter().all(|r| r.body.is_ok()));
    assert!(reader.held_bytes() < 3 << 20);
}

#[test]
fn a_record_over_one_mebibyte_is_bad_and_the_next_is_read() {
    let (_, records) = csv(format!("id,url\n{},http://h/1\n2,http://h/2\n", "x".repeat(5 << 20)));
    assert!(records[0].body.as_ref().unwrap_err().starts_with("list.csv:2: the record is longer than 1 MiB"));
    assert_eq!(told(&records)[1], (2, 3, "http://h/2"));
}

#[test]
fn blanks_after_a_closing_quote_are_no_part_of_the_cell() {
    let (_, records) = csv("a,url\n\"x\" ,\"http://h/1\"  \n");
    assert_eq!(columns(&records[0]), r#"{"a":"x","url":"http://h/1"}"#);
}

#[test]
fn cr_alone_ends_records_too() {
    let (reader, records) = csv("a,url\r1,http://h/1\r\"x\ry\",http://h/2\r3,http://h/3");
    assert_eq!(reader.columns(), ["a", "url"]);
    assert_eq!(told(&records), [(1, 2, "http://h/1"), (2, 3, "http://h/2"), (3, 5, "http://h/3")]);
    assert_eq!(records[1].columns["a"], "x\ry");
}

#[test]
fn a_tsv_quote_counts_only_around_a_whole_cell() {
    let content =
        "a\tb\turl\n\"x\"\t\"y \"\" z\"\thttp://h/1\n5\" pipe\t\"open\thttp://h/2\n\"a\tb\"\thttp://h/3\n\"a\"b\t\"\thttp://h/4\n\t\t\n";
    let (_, records) = read("list.tsv", content);
    let cells: Vec<String> = records.iter().map(columns).collect();
    assert_eq!(
        cells,
        [
            r#"{"a":"x","b":"y \" z","url":"http://h/1"}"#,
            r#"{"a":"5\" pipe","b":"\"open","url":"http://h/2"}"#,
            r#"{"a":"\"a","b":"b\"","url":"http://h/3"}"#,
            r#"{"a":"\"a\"b","b":"\"","url":"http://h/4"}"#,
        ]
    );
}

#[test]
fn gleaners_own_columns_are_not_carried() {
    let (mut reader, records) = csv("_row,url,a,_url,_status\n7,http://h/1,x,http://h/0,200\n");
    assert_eq!(reader.columns(), ["url", "a"]);
    assert_eq!(columns(&records[0]), r#"{"url":"http://h/1","a":"x"}"#);
    assert!(reader.notices()[0].ends_with("the columns \"_row\", \"_url\", \"_status\" are gleaner's own and are not carried"));

    let (mut former, records) = csv("title,_row,_url\nT,1,http://h/0\n");
    assert_eq!(told(&records), [(1, 2, "http://h/0")]);
    assert_eq!(columns(&records[0]), r#"{"title":"T"}"#);
    assert!(former.notices().iter().any(|n| n.ends_with("the addresses are read from the column \"_url\"")));
}

#[test]
fn a_template_takes_its_values_from_the_columns() {
    let place = Place::new();
    let path = place.put("list.csv", "id, my name ,_url\na/b,c d,e\n,x,\n..,x,\n");
    let mut reader = open(&templated(&path, "https://h/{{id}}?n={{my name}}&u={{_url}}"), None).unwrap();
    let records = rest(&mut reader);
    assert_eq!(records[0].body.as_deref(), Ok("https://h/a%2Fb?n=c%20d&u=e"));
    assert_eq!(records[1].body.as_ref().unwrap_err(), "list.csv:3: column \"id\" is empty and stands in the path of the address: \",x,\"");
    assert!(records[2].body.is_err());
    assert_eq!(columns(&records[2]), r#"{"id":".."," my name ":"x"}"#);
    let error = open(&templated(&path, "https://h/{{nope}}"), None).err().unwrap();
    assert!(error.to_string().ends_with("names the column \"nope\": the columns are \"id\", \" my name \", \"_url\""), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_bad_records() {
    let (_, records) = csv(b"url,a\nhttp://h/1,\xff\nhttp://h/2,\0\nhttp://h/3,ok\n");
    assert!(records[0].body.as_ref().unwrap_err().starts_with("list.csv:2: the record is not valid UTF-8"));
    assert!(records[1].body.as_ref().unwrap_err().starts_with("list.csv:3: the record holds a NUL byte"));
    assert!(records[2].body.is_ok());
}
