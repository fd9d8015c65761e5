//! Extraction end to end: fields, types, required, charsets, codings, hostile pages, spreadsheets.

use crate::support::reply::{brotli, deflate, gzip, zlib, zstd};
use crate::support::{Job, Origin, Record, Reply, page};
use std::time::Duration;

const SHOP: &str = r#"<!doctype html><html lang="cs"><head><title> A  shop </title>
<meta name="description" content="Things"><link rel="canonical" href="/canon"><meta property="og:image" content="i.png"></head>
<body><h1>One <b>thing</b></h1><p class="price" data-value="12.50">12,50</p><span class="tag">a</span><span class="tag">b</span>
<a href="/x#f">x</a><a href="y?q=1">y</a><p>Mail me@example.com now</p>
<ul><li class="p"><h2>A</h2><i>1</i></li><li class="p"><h2>B</h2><i>two</i></li></ul></body></html>"#;

fn shop() -> Origin {
    Origin::start(|_| Reply::ok(SHOP))
}

fn one(job: &Job) -> Record {
    job.exactly_once(1).0.remove(0)
}

#[test]
fn css_regex_meta_and_links_give_fields_in_order() {
    let origin = shop();
    let fields = r#"{ title = "css:h1", price = "css:.price @data-value", tags = "css:.tag []", mail = "re:[\\w.]+@[\\w.]+", page = "meta:title", about = "meta:description", lang = "meta:language", out = "links:" }"#;
    let job = Job::over([origin.url("/dir/p")]).set("extract.fields", fields);
    job.run().expect(0);
    let r = one(&job);
    assert_eq!(r.text("title"), "One thing");
    assert_eq!((r.text("price"), r.0["tags"].clone()), ("12.50".into(), serde_json::json!(["a", "b"])));
    assert_eq!((r.text("about"), r.text("lang")), ("Things".into(), "cs".into()));
    assert!(r.text("page").contains("shop") && r.text("mail").starts_with("me@example.com"), "{r:?}");
    assert_eq!(r.0["out"], serde_json::json!([origin.url("/x"), origin.url("/dir/y?q=1")]));
    assert_eq!(r.keys()[..8], ["title", "price", "tags", "mail", "page", "about", "lang", "out"]);
    let csv = Job::over([origin.url("/")]).set("extract.fields", r#"{ tags = "css:.tag []" }"#).outputs("r.csv", "s.csv");
    csv.run().expect(0);
    assert_eq!(one(&csv).text("tags"), r#"["a","b"]"#, "a list is a JSON array in a CSV cell");
}

#[test]
fn a_page_may_give_many_rows_with_types() {
    let origin = shop();
    let job = Job::over([origin.url("/")])
        .set("extract.rows", "\"css:li.p\"")
        .set("extract.fields", r#"{ name = "css:h2", n = "css:i" }"#)
        .set("extract.types", r#"{ n = "integer" }"#);
    job.run().expect(0);
    let rows: Vec<(String, String)> = job.results().iter().map(|r| (r.text("name"), r.text("n"))).collect();
    assert_eq!(rows, [("A".into(), "1".into()), ("B".into(), String::new())]);
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["rows"].as_u64()), (Some(1), Some(2)));
    assert!(!stats["warnings"].as_object().unwrap().is_empty(), "a value that does not parse is counted: {stats}");
}

#[test]
fn a_required_field_that_is_empty_is_a_skipped_record() {
    let origin = Origin::start(|r| Reply::ok(if r.path() == "/none" { "<p>x</p>".to_owned() } else { page("x") }));
    let job = Job::over([origin.url("/none"), origin.url("/some")])
        .set("extract.fields", r#"{ t = "css:h1" }"#)
        .set("extract.required", r#"["t"]"#);
    job.run().expect(1);
    let (_, skipped) = job.exactly_once(2);
    assert_eq!(skipped[0].text("reason"), "missing-field");
    assert!(skipped[0].text("message").contains('t'));
    assert_eq!(origin.at_path("/none").len(), 1);
}

#[test]
fn json_keeps_numbers_and_tells_what_is_none() {
    let origin = Origin::start(|r| {
        let body = match r.path() {
            "/good" => r#"{"items":[{"id":123456789012345678901234567890,"p":1.10,"s":"a\ud800b"},{"id":2,"p":null}]}"#,
            "/bom" => "\u{feff}{\"items\":[{\"id\":3}]}",
            "/empty" => r#"{"items":[]}"#,
            "/missing" => r#"{"other":1}"#,
            "/text" => "<html>not json</html>",
            _ => r#"{"items":[{"id":4}]} trailing"#,
        };
        Reply::status(200).header("Content-Type", "application/json").body(body)
    });
    let job = Job::over(["/good", "/bom", "/empty", "/missing", "/text", "/trailing"].map(|p| origin.url(p)))
        .set("extract.rows", "\"json:.items[]\"")
        .set("extract.fields", r#"{ id = "json:.id", p = "json:.p", s = "json:.s" }"#);
    job.run().expect(1);
    let reason = |p: &str| job.fates().get(&origin.url(p)).map_or("ok".into(), |f| f.0.clone());
    assert_eq!(["/good", "/bom", "/empty", "/missing", "/text"].map(reason), ["ok", "ok", "ok", "rows-missing", "bad-json"]);
    assert_eq!(job.fates()[&origin.url("/trailing")].0, "bad-json");
    let rows = job.results();
    let big = rows.iter().find(|r| r.text("_url").ends_with("/good")).unwrap();
    assert_eq!((big.text("id"), big.text("p")), ("123456789012345678901234567890".into(), "1.10".into()));
    assert_eq!(big.text("s"), "a\u{fffd}b");
    assert_eq!(job.stats()["results"], 3, "a page without rows is a result");
}

#[test]
fn every_content_coding_is_decoded() {
    let origin = Origin::start(|r| {
        let body = page("decoded");
        let plain = body.as_bytes();
        let (coding, bytes) = match r.path() {
            "/gzip" => ("gzip", gzip(plain)),
            "/x-gzip" => ("X-GZIP", gzip(plain)),
            "/members" => ("gzip", [gzip(&plain[..20]), gzip(&plain[20..])].concat()),
            "/br" => ("br", brotli(plain)),
            "/zstd" => ("zstd", zstd(plain)),
            "/zlib" => ("deflate", zlib(plain)),
            "/raw-deflate" => ("deflate", deflate(plain)),
            "/twice" => ("deflate, gzip", gzip(&zlib(plain))),
            "/unknown" => ("utf-8", plain.to_vec()),
            _ => ("gzip", Vec::new()),
        };
        Reply::ok(bytes).header("Content-Encoding", coding)
    });
    let names = ["/gzip", "/x-gzip", "/members", "/br", "/zstd", "/zlib", "/raw-deflate", "/twice", "/unknown", "/nothing"];
    let job = Job::over(names.map(|p| origin.url(p))).set("extract.fields", r#"{ t = "css:h1" }"#);
    job.run().expect(0);
    let (results, _) = job.exactly_once(names.len());
    for r in results {
        let want = if r.text("_url").ends_with("/nothing") { "" } else { "decoded" };
        assert_eq!(r.text("t"), want, "{}", r.text("_url"));
    }
    let asked = origin.at_path("/gzip")[0].header("accept-encoding").unwrap().to_owned();
    assert!(["gzip", "br", "zstd"].iter().all(|c| asked.contains(c)), "{asked}");
}

#[test]
fn charsets_go_by_bom_then_header_then_meta_then_detection() {
    let origin = Origin::start(|r| {
        let text = "\u{17d}lu\u{165}ou\u{10d}k\u{fd}";
        let cp1250: Vec<u8> = vec![0x8e, b'l', b'u', 0x9d, b'o', b'u', 0xe8, b'k', 0xfd];
        let wrap = |head: &str, body: &[u8]| [format!("<html><head>{head}</head><h1>").as_bytes(), body, b"</h1></html>"].concat();
        let (kind, bytes) = match r.path() {
            "/bom" => ("text/html; charset=iso-8859-1", [&b"\xef\xbb\xbf"[..], &wrap("", text.as_bytes())].concat()),
            "/header" => ("text/html; charset=windows-1250", wrap("", &cp1250)),
            "/meta" => ("text/html", wrap("<meta charset=\"windows-1250\">", &cp1250)),
            "/bad-label" => ("text/html; charset=nonsense", wrap("<meta charset=\"windows-1250\">", &cp1250)),
            "/meta-utf-16" => ("text/html", wrap("<meta charset=\"utf-16\">", text.as_bytes())),
            _ => ("text/html", wrap("", text.as_bytes())),
        };
        Reply::status(200).header("Content-Type", kind).body(bytes)
    });
    let names = ["/bom", "/header", "/meta", "/bad-label", "/meta-utf-16", "/detected"];
    let job = Job::over(names.map(|p| origin.url(p))).set("extract.fields", r#"{ t = "css:h1" }"#);
    job.run().expect(0);
    for r in job.exactly_once(names.len()).0 {
        assert_eq!(r.text("t"), "\u{17d}lu\u{165}ou\u{10d}k\u{fd}", "{}", r.text("_url"));
    }
}

#[test]
fn formulas_are_prefixed_in_csv_and_carried_columns_are_not() {
    let origin = Origin::start(|_| Reply::ok("<h1>=cmd|'/c calc'!A1</h1><b>-5</b>"));
    let job = Job::new()
        .set("input.file", "\"in.csv\"")
        .set("extract.fields", r#"{ t = "css:h1", n = "css:b" }"#)
        .set("extract.types", r#"{ n = "number" }"#);
    job.file("in.csv", format!("url,note\n{},=1+1\n", origin.url("/")));
    let job = job.outputs("r.csv", "s.csv");
    job.run().expect(0);
    let r = one(&job);
    assert_eq!((r.text("t"), r.text("note"), r.text("n")), ("'=cmd|'/c calc'!A1".into(), "=1+1".into(), "-5".into()));
}

#[test]
fn hostile_pages_cost_one_record_each_and_never_the_run() {
    let origin = Origin::start(|r| match r.path() {
        "/deep" => Reply::ok(format!("<h1>d</h1>{}", "<div>".repeat(200_000))),
        "/flat" => Reply::ok(format!("<h1>flat</h1><ul>{}", "<li>x".repeat(20_000))),
        "/attributes" => {
            let many: String = (0..60_000).map(|i| format!(" a{i}=1")).collect();
            Reply::ok(format!("<h1>a</h1><p{many}>x</p>"))
        }
        "/bomb" => Reply::ok(gzip(&vec![b'a'; 80 << 20])).header("Content-Encoding", "gzip"),
        "/double-bomb" => Reply::ok(gzip(&gzip(&vec![0; 200 << 20]))).header("Content-Encoding", "gzip, gzip"),
        "/deep-json" => Reply::status(200).header("Content-Type", "application/json").body("[".repeat(500_000)),
        _ => Reply::ok(page("fine")),
    });
    let names = ["/deep", "/flat", "/attributes", "/bomb", "/double-bomb", "/deep-json", "/a", "/b"];
    let job = Job::over(names.map(|p| origin.url(p))).set("extract.fields", r#"{ t = "css:h1" }"#).set("request.max_body", "\"8MiB\"");
    let run = job.run().expect(1);
    assert!(run.took < Duration::from_secs(100));
    job.exactly_once(names.len());
    let reason = |p: &str| job.fates().get(&origin.url(p)).map_or("ok".into(), |f| f.0.clone());
    assert_eq!(
        ["/deep", "/flat", "/bomb", "/double-bomb", "/a", "/b"].map(reason),
        ["too-deep", "ok", "too-large", "too-large", "ok", "ok"]
    );
}

#[test]
fn a_field_of_the_name_of_a_column_is_an_error() {
    let job = Job::new().set("input.file", "\"in.csv\"").set("extract.fields", r#"{ title = "css:h1" }"#);
    job.file("in.csv", "url,title\nhttp://127.0.0.1:9/,x\n");
    let run = job.run().expect(65);
    assert!(run.err.contains("title"), "{}", run.err);
}
