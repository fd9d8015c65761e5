//! Pages in, rows out.

use super::*;
use crate::extract::pages::PageStep;
use crate::model::plan::{Extensions, FieldType, NextPage, Scope as CrawlWide, StopRule};
use proptest::prelude::*;

fn plan(rows: Option<&str>, fields: &[(&str, &str)]) -> ExtractPlan {
    ExtractPlan {
        rows: rows.map(str::to_owned),
        fields: fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        ..ExtractPlan::default()
    }
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().unwrap())).collect()
}

fn run_as(plan: &ExtractPlan, kind: &str, status: u16, body: &[u8]) -> Result<Extracted, ExtractFailure> {
    let url = Url::parse("http://h.example/d/page").unwrap();
    let list = [("content-type", kind)];
    let headers = headers(if kind.is_empty() { &[] } else { &list });
    Extractor::compile(plan, None, None).unwrap().run(&Page::new(&url, status, &headers, body))
}

/// Rows as JSON, fields without their names; `! reason` of a failure.
fn rows(rows: Option<&str>, fields: &[(&str, &str)], kind: &str, body: &str) -> String {
    show(run_as(&plan(rows, fields), kind, 200, body.as_bytes()))
}

fn show(result: Result<Extracted, ExtractFailure>) -> String {
    match result {
        Ok(e) => Value::from(e.rows.into_iter().map(|r| r.into_iter().map(|(_, v)| v).collect::<Vec<_>>()).collect::<Vec<_>>()).to_string(),
        Err(e) => format!("! {} {}", e.reason.code(), e.message),
    }
}

const HTML: &str = "<!DOCTYPE html><html lang=' de '><head><title> A  title </title><meta name=Description content='d  e'>
<meta property=og:image content=/i.png><link rel='x canonical' href='../c#f'><base href='/b/'></head>
<body><h1 data-x=' v '>One <b>two</b></h1><ul><li class=t id=1>a<a href=1#x>l</a><li class=t>b<a href=2>m</a><a href=1>n</a></ul></body></html>";

#[test]
fn fields_of_a_page() {
    let fields = [
        ("a", "css:h1"),
        ("b", "css:h1 @data-x"),
        ("c", "css:.t []"),
        ("d", "css:.t @id []"),
        ("e", "css:.none"),
        ("f", "css:.none []"),
        ("g", "re:(?s)<b>(.*?)</b>"),
        ("h", "re:href=\\d []"),
        ("i", "meta:title"),
        ("j", "meta:description"),
        ("k", "meta:og:image"),
        ("l", "meta:canonical"),
        ("m", "meta:language"),
        ("n", "meta:nosuch"),
        ("o", "links:"),
        ("p", "css:a[href='2']"),
    ];
    assert_eq!(
        rows(None, &fields, "text/html", HTML),
        r#"[["One two","v",["al","bmn"],["1"],null,[],"two",["href=1","href=2","href=1"],"A title","d e","/i.png","http://h.example/c","de",null,["http://h.example/b/1","http://h.example/b/2"],"m"]]"#
    );
}

#[test]
fn rows_of_a_page_are_relative_to_their_element() {
    let fields = [
        ("id", "css: @id"),
        ("own", "css::scope"),
        ("a", "css:a"),
        ("all", "css:a @href []"),
        ("links", "links:"),
        ("child", "css::scope > a"),
        ("re", "re:[ab]"),
        ("t", "meta:title"),
    ];
    assert_eq!(
        rows(Some("css:li.t"), &fields, "text/html", HTML),
        r#"[["1","al","l",["1#x"],["http://h.example/b/1"],"l","a","A title"],[null,"bmn","m",["2","1"],["http://h.example/b/2","http://h.example/b/1"],"m","b","A title"]]"#
    );
    assert_eq!(rows(Some("css:li.none"), &fields, "text/html", HTML), "[]");
    assert!(rows(Some("css:li"), &fields, "application/json", "{}").starts_with("! rows-missing"));
}

#[test]
fn rows_of_json_by_array_or_by_many_outputs() {
    let body = r#"{"items":[{"id":123456789012345678901234567890,"tags":["x","y"]},{"id":"b"}],"none":[],"o":{"id":1}}"#;
    let fields = [("id", "json:.id"), ("tags", "json:.tags []"), ("each", "json:.tags[]? []"), ("re", "re:[0-9]{3}")];
    let want = r#"[[123456789012345678901234567890,["x","y"],["x","y"],"123"],["b",[],[],null]]"#;
    for filter in ["json:.items[]", "json:.items", "json:.items[] | select(.id)", "json:.items // []"] {
        assert_eq!(rows(Some(filter), &fields, "application/json", body), want, "{filter}");
    }
    assert_eq!(rows(Some("json:.items[] | select(.id == \"b\")"), &fields[..1], "application/json", body), r#"[["b"]]"#);
    assert_eq!(rows(Some("json:.none"), &fields, "application/json", body), "[]");
    assert_eq!(rows(Some("json:.none[]"), &fields, "application/json", body), "[]");
    assert_eq!(rows(Some("json:.items[] | select(.id == 5)"), &fields, "application/json", body), "[]");
    for filter in ["json:.o", "json:.nosuch", "json:.nosuch[]", "json:.items[0].id", "json:empty"] {
        assert!(rows(Some(filter), &fields, "application/json", body).starts_with("! rows-missing"), "{filter}");
    }
    assert_eq!(rows(Some("json:.[]"), &[("a", "json:.")], "", "[[1],[2]]"), "[[[1]],[[2]]]");
    assert_eq!(rows(Some("json:.[]"), &[("a", "json:.[0]")], "", "[[1]]"), "[[1]]");
}

#[test]
fn json_lines_are_rows_and_a_bad_line_is_named() {
    assert_eq!(rows(Some("jsonl:"), &[("a", "json:.a")], "application/x-ndjson", "{\"a\":1}\r\n\n{\"a\":2}\n{}"), "[[1],[2],[null]]");
    assert!(rows(Some("jsonl:"), &[("a", "json:.a")], "", "{\"a\":1}\n{\"a\":").starts_with("! bad-json line 2"));
}

#[test]
fn what_is_no_json_fails_and_an_empty_answer_does_not() {
    let fields = [("a", "json:.a")];
    assert!(rows(None, &fields, "text/html", "<html>").starts_with("! bad-json the answer is HTML"));
    assert!(rows(None, &fields, "application/json", "{\"a\":").starts_with("! bad-json"));
    assert!(rows(Some("json:.a"), &fields, "", "oops").starts_with("! bad-json"));
    for body in ["", " \n"] {
        assert_eq!(rows(None, &fields, "application/json", body), "[[null]]");
        assert_eq!(rows(Some("json:.a"), &fields, "application/json", body), "[]");
        assert_eq!(rows(Some("css:a"), &[], "text/html", body), "[]");
        assert_eq!(rows(Some("jsonl:"), &fields, "", body), "[]");
    }
    assert_eq!(show(run_as(&plan(Some("json:.a"), &fields), "application/json", 204, b"ignored")), "[]");
    assert_eq!(
        rows(None, &[("a", "css:h1"), ("b", "meta:title"), ("c", "links:"), ("d", "re:\\d")], "application/json", "[7]"),
        "[[null,null,null,\"7\"]]"
    );
}

#[test]
fn json_comes_in_utf16_with_bom_and_with_nan() {
    let utf16: Vec<u8> = "\u{feff}{\"a\":\"ä\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(show(run_as(&plan(None, &[("a", "json:.a")]), "application/json", 200, &utf16)), "[[\"ä\"]]");
    let out = run_as(&plan(None, &[("a", "json:.a")]), "", 200, b"\xef\xbb\xbf{\"a\":NaN}").unwrap();
    assert_eq!((out.warnings.len(), out.warnings[0].0), (1, "json-nan"));
}

#[test]
fn deep_json_fails_and_its_message_says_so() {
    assert!(rows(None, &[("a", "json:.a")], "", &"[".repeat(100_000)).contains("nested deeper than 512"));
}

#[test]
fn types_make_null_of_what_does_not_parse_and_count_it() {
    let mut p = plan(Some("json:.[]"), &[("n", "json:.n"), ("t", "json:.t")]);
    p.types = [("n".to_owned(), FieldType::Number), ("t".to_owned(), FieldType::Time)].into();
    let out = run_as(&p, "", 200, br#"[{"n":"1.50","t":"2024-01-02"},{"n":"x\u001b","t":null}]"#).unwrap();
    assert_eq!(out.warnings, [("type-miss", "field n: \"x\\\\u{1b}\" is no number".to_owned())]);
    assert_eq!(show(Ok(out)), r#"[[1.50,"2024-01-02T00:00:00Z"],[null,null]]"#);
}

#[test]
fn a_required_field_that_is_empty_in_any_row_fails_the_page() {
    let mut p = plan(Some("json:.[]"), &[("a", "json:.a")]);
    p.required = vec!["a".into()];
    assert_eq!(show(run_as(&p, "", 200, br#"[{"a":0},{"a":false}]"#)), "[[0],[false]]");
    for bad in [r#"[{"a":1},{"a":""}]"#, r#"[{"a":1},{}]"#, r#"[{"a":1},{"a":[]}]"#] {
        assert_eq!(show(run_as(&p, "", 200, bad.as_bytes())), "! missing-field the required field a is empty in row 2 of the page");
    }
    assert_eq!(show(run_as(&p, "", 200, b"")), "[]");
    let mut page = plan(None, &[("a", "css:h1")]);
    page.required = vec!["a".into()];
    assert!(show(run_as(&page, "text/html", 200, b"<p>")).starts_with("! missing-field"));
    assert!(show(run_as(&page, "text/html", 204, b"")).starts_with("! missing-field"));
}

#[test]
fn a_filter_that_errs_is_a_null_field_and_counted() {
    let out = run_as(&plan(None, &[("a", "json:.a.b"), ("c", "json:.c")]), "", 200, br#"{"a":"text","c":1}"#).unwrap();
    assert_eq!(out.warnings[0].0, "filter-error");
    assert_eq!(show(Ok(out)), "[[null,1]]");
}

#[test]
fn all_that_is_wrong_is_named_with_its_key() {
    let mut p = plan(
        Some("xpath://a"),
        &[
            ("a", "css:!!"),
            ("b", "json:("),
            ("c", "re:("),
            ("d", "markdown:"),
            ("e", "h1"),
            ("f", "meta:"),
            ("g", "re:(?:x{1000}){1000}"),
            ("h", "re:(a+)+$"),
        ],
    );
    p.required = vec!["nosuch".into()];
    p.types = [("other".to_owned(), FieldType::Text)].into();
    let crawl = CrawlPlan {
        follow: vec!["a".into()],
        depth: None,
        scope: CrawlWide::Any,
        include: vec![],
        exclude: vec![],
        extensions: Extensions::Pages,
        max_pages: None,
    };
    let pages = PagesPlan { next: NextPage::Json("(".into()), param: None, first: 1, size: None, stop: vec![] };
    let errors = Extractor::compile(&p, Some(&crawl), Some(&pages)).err().unwrap();
    let keys: Vec<&str> = errors.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "extract.rows",
            "extract.fields.a",
            "extract.fields.b",
            "extract.fields.c",
            "extract.fields.d",
            "extract.fields.e",
            "extract.fields.f",
            "extract.fields.g",
            "extract.types.other",
            "extract.required",
            "crawl.follow[0]",
            "pages.next"
        ]
    );
    assert!(errors.iter().all(|e| e.message.starts_with(|c: char| !c.is_uppercase())), "{errors:?}");
    let misfit = |rows, field| Extractor::compile(&plan(Some(rows), &[("a", field)]), None, None).is_err();
    assert!(misfit("css:li", "json:.a") && misfit("json:.a", "css:h1") && misfit("jsonl:", "links:") && !misfit("json:.a", "re:x"));
}

fn crawled(kind: &str, body: &str, robots: &str) -> Extracted {
    let crawl = CrawlPlan {
        follow: vec![],
        depth: None,
        scope: CrawlWide::Any,
        include: vec![],
        exclude: vec![],
        extensions: Extensions::Pages,
        max_pages: None,
    };
    let extractor = Extractor::compile(&ExtractPlan::default(), Some(&crawl), None).unwrap();
    let url = Url::parse("http://h/").unwrap();
    let headers = headers(&[("content-type", kind), ("x-robots-tag", robots)]);
    extractor.run(&Page { links: true, ..Page::new(&url, 200, &headers, body.as_bytes()) }).unwrap()
}

#[test]
fn links_are_taken_from_html_alone_and_unless_robots_say_no() {
    assert_eq!(crawled("text/html; charset=windows-1252", "<a href='/?x=ä'>", "all").links, ["http://h/?x=%C3%A4"]);
    assert_eq!(crawled("text/plain", "<html><a href=/x>", "").links.len(), 0);
    assert_eq!(crawled("application/xml", "<a href=/x>", "").links.len(), 0);
    let out = crawled("text/html", "<a href=/x>", "nofollow");
    assert!(out.nofollow && out.links.is_empty());
    let out = crawled("text/html", "<meta name=robots content=none><a href=/x>", "");
    assert!(out.nofollow && out.links.is_empty());
    assert_eq!(out.rows, [vec![]]);
}

#[test]
fn an_empty_answer_ends_a_crawl_page_without_fuss() {
    assert_eq!(crawled("text/html", "", "").links.len(), 0);
}

#[test]
fn paging_counts_raw_rows_cuts_and_drops() {
    let pages = PagesPlan { next: NextPage::Page, param: None, first: 1, size: None, stop: vec![StopRule::Max(3)] };
    let x = Extractor::compile(&plan(Some("json:.[]"), &[("a", "json:.")]), None, Some(&pages)).unwrap();
    let (url, headers) = (Url::parse("http://h/").unwrap(), HeaderMap::new());
    let ask =
        |state: &PageState, body: &str| x.run(&Page { paging: Some(state), ..Page::new(&url, 200, &headers, body.as_bytes()) }).unwrap();
    let state = x.pager().unwrap().first(&url);
    let Some(PageStep::More(second)) = ask(&state, "[1, 2]").paging else { panic!() };
    let repeated = ask(&second, "[1,2]");
    assert_eq!((repeated.rows.len(), repeated.warnings[0].0), (0, "repeated-page"));
    let last = ask(&second, "[3,4]");
    assert_eq!(last.rows.len(), 1);
    assert!(matches!(last.paging, Some(PageStep::End { why: "max", .. })));
    let empty = ask(&second, "");
    assert!(matches!(empty.paging, Some(PageStep::End { why: "empty", .. })));
}

#[test]
fn without_rows_a_page_is_one_row_and_an_empty_root_array_ends() {
    let pages = PagesPlan { next: NextPage::Page, param: None, first: 1, size: None, stop: vec![] };
    let x = Extractor::compile(&plan(None, &[("a", "json:.")]), None, Some(&pages)).unwrap();
    let (url, headers) = (Url::parse("http://h/").unwrap(), HeaderMap::new());
    let ask = |body: &str| x.run(&Page { paging: Some(&PageState::default()), ..Page::new(&url, 200, &headers, body.as_bytes()) }).unwrap();
    assert!(matches!(ask("[1]").paging, Some(PageStep::More(PageState { rows: 1, .. }))));
    assert!(matches!(ask("[]").paging, Some(PageStep::End { why: "empty", .. })));
}

#[test]
fn an_extractor_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Extractor>();
}

#[test]
fn nested_elements_do_not_multiply_their_text() {
    let body = format!("{}{}", "<div>".repeat(400), "x ".repeat(10_000));
    for (rule, field) in [(None, ("a", "css:div []")), (Some("css:div"), ("a", "css::scope"))] {
        assert!(rows(rule, &[field], "text/html", &body).starts_with("! too-deep the values"), "{rule:?}");
    }
}

#[test]
fn nan_in_lines_is_counted() {
    let out = run_as(&plan(Some("jsonl:"), &[("a", "json:.")]), "", 200, b"NaN\n[Infinity,1]").unwrap();
    assert_eq!(out.warnings, [("json-nan", "2 NaN or Infinity read as null".to_owned())]);
}

#[test]
fn a_late_page_ends_as_parse_timeout() {
    let (url, headers) = (Url::parse("http://h/").unwrap(), HeaderMap::new());
    for (rows, fields, body) in
        [(None, ("a", "css:h1"), "<html>"), (Some("json:.[]"), ("a", "json:."), "[1]"), (Some("jsonl:"), ("a", "json:."), "1\n2")]
    {
        let x = Extractor::compile(&plan(rows, &[fields]), None, None).unwrap();
        let page = Page { deadline: &|| true, ..Page::new(&url, 200, &headers, body.as_bytes()) };
        assert_eq!(x.run(&page).err().unwrap().reason, Reason::ParseTimeout, "{body}");
    }
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), html in "[<>a-z/='\" ]{0,120}", which in 0usize..4) {
        let kind = ["", "text/html", "application/json", "text/plain; charset=utf-16"][which];
        let p = plan(None, &[("a", "css:a @href []"), ("b", "meta:title"), ("c", "links:"), ("d", "re:(.)")]);
        let j = plan(Some("json:.[]"), &[("a", "json:.a")]);
        for body in [body.as_slice(), html.as_bytes()] {
            let _ = run_as(&p, kind, 200, body);
            let _ = run_as(&j, kind, 200, body);
        }
    }
}
