//! Inputs: every form that a list comes in, every way it can be wrong.

use crate::support::reply::{gzip, zstd};
use crate::support::{Gleaner, Job, Origin, Record, Reply, page};
use std::collections::BTreeMap;

fn echo() -> Origin {
    Origin::start(|r| Reply::ok(page(r.path_and_query())))
}

fn paths(records: &[Record]) -> Vec<String> {
    let mut all: Vec<(u64, String)> =
        records.iter().map(|r| (r.number("_row"), r.text("_url").splitn(4, '/').nth(3).unwrap_or("").to_owned())).collect();
    all.sort();
    all.into_iter().map(|(_, p)| p).collect()
}

/// Runs a job over `name` with these bytes in it.
fn run_over(origin: &Origin, name: &str, text: &str, code: i32) -> (Job, String) {
    let text = text.replace("ORIGIN", origin.url("").trim_end_matches('/'));
    let bytes = match name.rsplit('.').next() {
        Some("gz") => gzip(text.as_bytes()),
        Some("zst") => zstd(text.as_bytes()),
        _ => text.into_bytes(),
    };
    let job = Job::new().set("input.file", &format!("{name:?}"));
    job.file(name, bytes);
    let run = job.run().expect(code);
    (job, run.err)
}

#[test]
fn a_text_list_ignores_blanks_and_comments_and_trims() {
    let origin = echo();
    let text = "\u{feff}# a comment\r\nORIGIN/a\r\n\r\n  <ORIGIN/b> \r\n   # another\r\n\u{a0}ORIGIN/c";
    for name in ["in.txt", "in.txt.gz", "in.txt.zst"] {
        let (job, _) = run_over(&origin, name, text, 0);
        let (results, _) = job.exactly_once(3);
        assert_eq!(paths(&results), ["a", "b", "c"], "{name}");
    }
}

#[test]
fn columns_of_csv_travel_untouched() {
    let origin = echo();
    let nasty = "\"a, \"\"b\"\"\nc\"";
    let text = format!("sku,note one,URL ,n\u{e4}me\nS1,{nasty},ORIGIN/1,\u{17d}lu\u{165}\nS2,  x ,ORIGIN/2,\"=1+1\"\nS3,,ORIGIN/3,0123\n");
    for (name, results_name) in [("in.csv", "r.jsonl"), ("in.csv.gz", "r.csv"), ("in.csv.zst", "r.csv.gz")] {
        let bytes = text.replace("ORIGIN", origin.url("").trim_end_matches('/'));
        let bytes = if name.ends_with("gz") {
            gzip(bytes.as_bytes())
        } else if name.ends_with("zst") {
            zstd(bytes.as_bytes())
        } else {
            bytes.into_bytes()
        };
        let job = Job::new().set("input.file", &format!("{name:?}")).outputs(results_name, "s.jsonl");
        job.file(name, bytes);
        job.run().expect(0);
        let (mut results, _) = job.exactly_once(3);
        results.sort_by_key(|r| r.number("_row"));
        let column = |c: &str| results.iter().map(|r| r.text(c)).collect::<Vec<_>>();
        assert_eq!(column("sku"), ["S1", "S2", "S3"], "{name}");
        assert_eq!(column("note one"), ["a, \"b\"\nc", "  x ", ""], "{name}");
        assert_eq!(column("n\u{e4}me"), ["\u{17d}lu\u{165}", "=1+1", "0123"], "{name}: carried columns are never prefixed");
        let keys: Vec<String> = results[0].keys().iter().map(|k| k.trim().to_owned()).collect();
        assert_eq!(keys, ["sku", "note one", "URL", "n\u{e4}me", "_row", "_url", "_final_url", "_status", "_fetched_at", "_attempts"]);
    }
}

#[test]
fn tsv_and_jsonl_and_odd_delimiters_are_read() {
    let origin = echo();
    let (job, _) = run_over(&origin, "in.tsv", "id\turl\n1\tORIGIN/a\n2\tORIGIN/b\n", 0);
    assert_eq!(paths(&job.exactly_once(2).0), ["a", "b"]);
    let (job, err) = run_over(&origin, "in.csv", "id;url\n1;ORIGIN/a\n2;ORIGIN/b\n", 0);
    assert_eq!(paths(&job.exactly_once(2).0), ["a", "b"]);
    assert!(err.contains("semicolon"), "a notice names the delimiter: {err}");
    let (job, _) = run_over(&origin, "in.csv", "sep=|\nid|url\n1|ORIGIN/a\n", 0);
    assert_eq!(paths(&job.exactly_once(1).0), ["a"]);
    let text = "{\"url\":\"ORIGIN/a\",\"id\":12345678901234567890123456789012,\"tags\":[1,\"x\"]}\n\n{\"url\":\"ORIGIN/b\",\"id\":1.50}\n";
    for name in ["in.jsonl", "in.jsonl.gz", "in.jsonl.zst"] {
        let (job, _) = run_over(&origin, name, text, 0);
        let (mut results, _) = job.exactly_once(2);
        results.sort_by_key(|r| r.number("_row"));
        assert_eq!(results[0].text("id"), "12345678901234567890123456789012", "{name}: numbers digit for digit");
        assert_eq!(results[0].0["tags"], serde_json::json!([1, "x"]));
        assert_eq!(results[1].text("id"), "1.50");
    }
}

#[test]
fn a_template_encodes_values_by_where_they_stand() {
    let origin = echo();
    let job = Job::new()
        .set("input.file", "\"in.csv\"")
        .set("input.url", &format!("\"{}/repos/{{{{owner}}}}/{{{{repo name}}}}?q={{{{q}}}}\"", origin.url("").trim_end_matches('/')));
    job.file("in.csv", "owner,repo name,q\na/b,c d,x&y=z\n%20,\u{e9},+\n,empty,1\n..,dots,1\n");
    job.run().expect(1);
    let (results, skipped) = job.exactly_once(4);
    assert_eq!(results.len(), 2, "{skipped:?}");
    let mut seen: Vec<String> = origin.log().iter().map(|r| r.target.clone()).collect();
    seen.sort();
    assert_eq!(seen, ["/repos/%2520/%C3%A9?q=%2B", "/repos/a%2Fb/c%20d?q=x%26y%3Dz"]);
    assert!(skipped.iter().all(|r| r.text("reason") == "bad-input"));
}

#[test]
fn an_unknown_column_is_an_error_before_any_request() {
    let origin = echo();
    let job = Job::new().set("input.file", "\"in.csv\"").set("input.url", &format!("\"{}\"", origin.url("/{{ownr}}")));
    job.file("in.csv", "owner\na\n");
    let run = job.run().expect(65);
    assert!(run.err.contains("ownr") && run.err.contains("owner"), "{}", run.err);
    assert_eq!(origin.arrivals(), 0);
}

#[test]
fn bad_lines_are_skipped_with_file_and_line() {
    let origin = echo();
    let bad = [
        "not a url",
        "ftp://127.0.0.1/x",
        "http://",
        "javascript:alert(1)",
        "//127.0.0.1/x",
        "http://[::1",
        "mailto:a@b.c",
        "http://127.0.0.1:99999/",
        "file:///etc/passwd",
        "example.com/x",
        "http://h/a\u{200b}b",
    ];
    let text = format!("# head\nORIGIN/good\n{}\n\nORIGIN/last\n", bad.join("\n"));
    let (job, err) = run_over(&origin, "in.txt", &text, 1);
    let (results, skipped) = job.exactly_once(bad.len() + 2);
    assert_eq!(paths(&results), ["good", "last"]);
    for (i, (listed, r)) in bad.iter().zip(&skipped).enumerate() {
        assert_eq!((r.text("reason").as_str(), r.text("class").as_str()), ("bad-input", "input"), "{listed}");
        let place = format!("in.txt:{}", i + 3);
        assert!(r.text("message").contains(&place), "{listed}: {:?} does not name {place}", r.text("message"));
    }
    assert!(err.contains("bad-input"), "{err}");
    assert!(skipped[9].text("message").contains("https://{{url}}"), "{:?}", skipped[9].text("message"));
    assert!(skipped[10].text("message").contains("U+200B"), "{:?}", skipped[10].text("message"));
}

#[test]
fn hostile_records_cost_one_skipped_record_each() {
    let origin = echo();
    let base = origin.url("");
    let mut list = format!("{base}/first\n").into_bytes();
    list.extend(base.as_bytes());
    list.extend(vec![b'x'; 10 << 20]);
    list.extend(format!("\n{base}/mid\n").as_bytes());
    list.extend(b"http://127.0.0.1/\xff\xfe\n");
    list.extend(b"http://127.0.0.1/\x00nul\n");
    list.extend(format!("{base}/last").as_bytes());
    let job = Job::new();
    job.file("in.txt", list);
    job.run().expect(1);
    let (results, skipped) = job.exactly_once(6);
    assert_eq!(
        results.len(),
        3,
        "{:?}",
        skipped.iter().map(|r| r.text("message").chars().take(200).collect::<String>()).collect::<Vec<_>>()
    );
    for r in &skipped {
        assert_eq!(r.text("reason"), "bad-input");
        assert!(r.text("message").len() < 1000 && r.text("_url").len() < 2000, "a message quotes 200 characters at most");
    }
}

#[test]
fn csv_troubles_are_counted_or_skipped() {
    let origin = echo();
    let text = "id,url,note\n1,ORIGIN/1\n2,ORIGIN/2,x,,\n3,ORIGIN/3,x,extra\n,,\n4,ORIGIN/4,\"open\n5,ORIGIN/5,y\n";
    let (job, _) = run_over(&origin, "in.csv", text, 1);
    let (results, skipped) = job.exactly_once(5);
    assert_eq!(paths(&results), ["1", "2", "5"], "{skipped:?}");
    let messages: Vec<String> = skipped.iter().map(|r| r.text("message")).collect();
    assert!(messages.iter().any(|m| m.contains("in.csv:4")) && messages.iter().any(|m| m.contains("in.csv:6")), "{messages:?}");
    let warnings = &job.stats()["warnings"];
    assert!(warnings.as_object().unwrap().values().any(|n| n == 1), "a short row is a counted warning: {warnings}");
}

#[test]
fn duplicates_are_fetched_once_counted_and_listed() {
    let origin = echo();
    let text = "url,tag\nORIGIN/a,1\nORIGIN/b,2\nORIGIN/a#frag,3\nORIGIN/%61,4\nORIGIN/A,5\nORIGIN/b,6\n";
    let (job, err) = run_over(&origin, "in.csv", text, 0);
    let (results, skipped) = job.exactly_once(6);
    assert_eq!(results.len(), 3);
    let firsts: BTreeMap<u64, u64> = skipped.iter().map(|r| (r.number("_row"), r.number("first_row"))).collect();
    assert_eq!(firsts, BTreeMap::from([(3, 1), (4, 1), (6, 2)]));
    assert!(skipped.iter().all(|r| r.text("reason") == "duplicate"));
    assert_eq!((origin.arrivals(), job.stats()["duplicates"].as_u64()), (3, Some(3)));
    assert!(err.contains("duplicates = \"fetch\""), "{err}");
    // where the repeated rows say nothing else there is nothing to ask for again
    for (name, text) in [("in.csv", "url,tag\nORIGIN/a,1\nORIGIN/a,1\n"), ("in.txt", "ORIGIN/a\nORIGIN/a\n")] {
        let (_, err) = run_over(&origin, name, text, 0);
        assert!(err.contains("1 repeated address") && !err.contains("duplicates = "), "{name}: {err}");
    }
}

#[test]
fn duplicates_may_be_fetched() {
    let origin = echo();
    let job = Job::over([origin.url("/a"), origin.url("/a"), origin.url("/a")]).set("input.duplicates", "\"fetch\"");
    job.run().expect(0);
    assert_eq!(job.exactly_once(3).0.len(), 3);
    assert_eq!(origin.arrivals(), 3);
}

#[test]
fn inputs_that_cannot_be_read_are_told_before_any_request() {
    let origin = echo();
    let job = Job::new().set("input.file", "\"absent.txt\"");
    let run = job.run().expect(65);
    assert!(run.err.contains("absent.txt"), "{}", run.err);

    let job = Job::new().set("input.file", "\"folder.txt\"");
    std::fs::create_dir(job.path("folder.txt")).unwrap();
    let run = job.run().expect(65);
    assert!(run.err.contains("folder.txt") && run.err.contains("folder"), "{}", run.err);

    let job = Job::new().set("input.file", "\"in.csv\"");
    job.file("in.csv", "id,link\n1,http://127.0.0.1/\n");
    let run = job.run().expect(65);
    assert!(run.err.contains("link") && run.err.contains("url"), "the columns are listed: {}", run.err);

    let job = Job::new().set("input.file", "\"in.txt.gz\"");
    let whole = gzip(format!("{}\n", origin.url("/a")).repeat(5000).as_bytes());
    job.file("in.txt.gz", &whole[..whole.len() / 2]);
    let run = job.run().expect(65);
    assert!(run.err.contains("in.txt.gz"), "{}", run.err);
    job.file("in.txt.gz", &whole);
    job.run().expect(0);
    assert_eq!(job.stats()["inputs"], 5000, "goes on once the file is whole");
}

#[test]
fn a_list_of_nothing_but_bad_records_ends_with_the_cure_and_commits_nothing() {
    let job = Job::over((0..20).map(|i| format!("site{i}.example.com/x")));
    let run = job.run().expect(65);
    assert!(run.err.contains("https://{{url}}"), "{}", run.err);
    let origin = echo();
    job.list([origin.url("/a")]);
    job.run().expect(0);
    job.exactly_once(1);
}

#[test]
fn an_empty_list_is_done_at_once() {
    for text in ["", "# nothing\n\n"] {
        let job = Job::new();
        job.file("in.txt", text);
        let run = job.run().go();
        assert!(matches!(run.code, Some(0 | 65)), "{run:?}");
        assert!(run.err.contains("in.txt") || run.err.contains("inputs 0"), "{}", run.err);
    }
}

#[test]
fn stdin_is_a_list_and_a_resume_does_not_need_it_again() {
    let origin = Origin::start(|r| if r.path() == "/slow" && r.nth == 1 { Reply::hang() } else { Reply::ok(page("x")) });
    let job = Job::new().set("input.file", "\"-\"");
    let list = format!("{}\n{}\n", origin.url("/slow"), origin.url("/b"));
    let live = job.run().stdin(list).spawn();
    assert!(origin.wait_for(2, std::time::Duration::from_secs(20)));
    std::thread::sleep(std::time::Duration::from_millis(600));
    live.kill9();
    job.run().expect(0);
    job.exactly_once(2);
}

#[test]
fn on_bad_stop_ends_the_run_at_the_line() {
    let origin = echo();
    let job = Job::over([origin.url("/a"), "not a url".into(), origin.url("/b")]).set("input.on_bad", "\"stop\"");
    let run = job.run().expect(65);
    assert!(run.err.contains("in.txt:2"), "{}", run.err);
}

#[test]
fn own_columns_of_a_former_result_file_are_dropped_with_a_notice() {
    let origin = echo();
    let (job, err) = run_over(&origin, "in.csv", "url,_status,status\nORIGIN/a,200,new\nORIGIN/b\n", 0);
    let (results, _) = job.exactly_once(2);
    assert_eq!(results[0].number("_status"), 200);
    assert!(err.contains("_status"), "{err}");
}

#[test]
fn the_address_is_sent_as_listed() {
    let origin = echo();
    let (job, _) = run_over(&origin, "in.txt", "ORIGIN/a%2fb/%7Ex?b=2&a=1&c=+%e4&d\nORIGIN/\u{17e}?q=\u{17e}#frag\n", 0);
    job.exactly_once(2);
    let mut seen: Vec<String> = origin.log().iter().map(|r| r.target.clone()).collect();
    seen.sort();
    assert_eq!(seen, ["/%C5%BE?q=%C5%BE", "/a%2fb/%7Ex?b=2&a=1&c=+%e4&d"]);
    let listed: Vec<String> = job.results().iter().map(|r| r.text("_url")).collect();
    assert!(listed.iter().any(|u| u.ends_with("#frag")), "{listed:?}");
}

#[test]
fn fetch_gives_a_typed_address_its_scheme_and_a_named_list_must_exist() {
    let run = Gleaner::new(["fetch", "absent-list.txt"]).expect(65);
    assert!(run.err.contains("absent-list.txt"), "{}", run.err);
}
