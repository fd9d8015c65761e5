//! Paged APIs: each way to the next page, each way to stop, and what a failing page leaves.

use crate::support::{Job, Origin, Reply, Req};
use serde_json::{Value, json};

fn items(from: usize, to: usize) -> Vec<Value> {
    (from..to).map(|id| json!({ "id": id })).collect()
}

fn paged(url: &str, next: &str) -> Job {
    let job = Job::pages(url, next).set("extract.rows", "\"json:.items[]\"").set("extract.fields", r#"{ id = "json:.id" }"#);
    if matches!(next, "page" | "offset") { job.set("pages.param", &format!("{next:?}")) } else { job }
}

fn ids(job: &Job) -> Vec<u64> {
    let mut ids: Vec<u64> = job.results().iter().map(|r| r.number("id")).collect();
    ids.sort_unstable();
    ids
}

fn number(r: &Req, name: &str, default: usize) -> usize {
    r.query(name).and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn targets(origin: &Origin) -> Vec<String> {
    origin.log().iter().map(|r| r.target.clone()).collect()
}

#[test]
fn link_headers_are_followed() {
    let origin = Origin::start(|r| {
        let page = number(r, "page", 1);
        let reply = Reply::json(&json!({ "items": items(page * 10, page * 10 + 10) }));
        let link = format!("</x?page={}&sig=a%2Fb>; rel=\"next\", </x?page=9>; rel=last", page + 1);
        if page < 4 {
            reply.header("Link", "</first>; rel=first").header("Link", &link)
        } else {
            reply.header("Link", "</x?page=1>; rel=\"prev\"")
        }
    });
    let job = paged(&origin.url("/x"), "link");
    job.run().expect(0);
    assert_eq!(ids(&job), (10..50).collect::<Vec<u64>>());
    assert_eq!(targets(&origin), ["/x", "/x?page=2&sig=a%2Fb", "/x?page=3&sig=a%2Fb", "/x?page=4&sig=a%2Fb"]);
    let stats = job.stats();
    assert_eq!((stats["inputs"].as_u64(), stats["results"].as_u64(), stats["rows"].as_u64()), (Some(1), Some(1), Some(40)));
    assert!(job.results().iter().all(|r| r.text("_url") == origin.url("/x")));
}

#[test]
fn json_tokens_and_addresses_are_followed() {
    for end in [Value::Null, json!(""), json!(false)] {
        let origin = Origin::start(move |r| {
            let at = r.query("cursor").map_or(0, |c| c.trim_start_matches("c%2B").parse().unwrap());
            let next = if at < 3 { json!(format!("c+{}", at + 1)) } else { end.clone() };
            Reply::json(&json!({ "items": items(at * 5, at * 5 + 5), "next": next }))
        });
        let job = paged(&origin.url("/x?keep=1"), "json:.next").set("pages.param", "\"cursor\"");
        job.run().expect(0);
        assert_eq!(ids(&job), (0..20).collect::<Vec<u64>>());
        assert_eq!(targets(&origin)[1], "/x?keep=1&cursor=c%2B1", "a token goes out encoded");
    }
}

#[test]
fn page_and_offset_styles_count_and_stop_on_an_empty_page() {
    let origin = Origin::start(|r| {
        let page = number(r, "page", 99);
        Reply::json(&json!({ "items": if page <= 3 { items(page * 10, page * 10 + 10) } else { vec![] } }))
    });
    let job = paged(&origin.url("/x"), "page").set("pages.size", r#"{ param = "per_page", value = 10 }"#);
    job.run().expect(0);
    assert_eq!(ids(&job), (10..40).collect::<Vec<u64>>());
    assert_eq!(origin.arrivals(), 4);
    assert!(targets(&origin)[0].contains("page=1") && targets(&origin)[0].contains("per_page=10"), "{:?}", targets(&origin));

    // the server clamps 100 to 7: offsets move by the rows received
    let origin = Origin::start(|r| {
        let offset = number(r, "offset", 0);
        Reply::json(&json!({ "items": items(offset, (offset + 7).min(25)), "total": "25" }))
    });
    let job = paged(&origin.url("/x"), "offset")
        .set("pages.size", r#"{ param = "limit", value = 100 }"#)
        .set("pages.stop", r#"["total:.total"]"#);
    job.run().expect(0);
    assert_eq!(ids(&job), (0..25).collect::<Vec<u64>>());
    assert_eq!(origin.arrivals(), 4);
}

#[test]
fn max_and_has_more_stop() {
    let endless = |r: &Req| {
        let page = number(r, "page", 1);
        Reply::json(&json!({ "items": items(page * 10, page * 10 + 10), "more": page < 3 }))
    };
    let origin = Origin::start(endless);
    let job = paged(&origin.url("/x"), "page").set("pages.stop", r#"["max:25"]"#);
    job.run().expect(0);
    assert!(origin.arrivals() == 3 && (25..=30).contains(&ids(&job).len()), "{} rows", ids(&job).len());
    let origin = Origin::start(endless);
    let job = paged(&origin.url("/x"), "page").set("pages.stop", r#"["has_more:.more"]"#);
    job.run().expect(0);
    assert_eq!((origin.arrivals(), ids(&job).len()), (3, 30));
}

#[test]
fn a_repeated_page_or_cursor_ends_the_paging_with_a_warning() {
    let origin = Origin::start(|r| {
        let page = number(r, "page", 1).min(3);
        Reply::json(&json!({ "items": items(page * 10, page * 10 + 10) }))
    });
    let job = paged(&origin.url("/x"), "page");
    let run = job.run().expect(0);
    assert_eq!(ids(&job), (10..40).collect::<Vec<u64>>(), "the repeated page's rows are not delivered");
    assert_eq!((origin.arrivals(), job.stats()["warnings"]["repeated-page"].as_u64()), (4, Some(1)));
    assert!(run.err.contains("repeated"), "{}", run.err);

    let origin = Origin::start(|r| Reply::json(&json!({ "items": items(r.n * 10, r.n * 10 + 10), "next": "same" })));
    let job = paged(&origin.url("/x"), "json:.next").set("pages.param", "\"cursor\"");
    job.run().expect(0);
    assert_eq!(job.stats()["warnings"]["repeated-cursor"].as_u64(), Some(1));
    assert!(origin.arrivals() <= 3);
}

#[test]
fn a_page_that_fails_for_good_skips_the_entry_and_keeps_the_rows_before_it() {
    let origin = Origin::start(|r| {
        let page = number(r, "page", 1);
        if page == 3 { Reply::status(404) } else { Reply::json(&json!({ "items": items(page * 10, page * 10 + 10) })) }
    });
    let job = paged(&origin.url("/x"), "page");
    job.run().expect(1);
    assert_eq!(ids(&job), (10..30).collect::<Vec<u64>>());
    let skipped = job.skipped();
    assert_eq!((skipped.len(), skipped[0].text("reason").as_str(), skipped[0].text("_url")), (1, "http-404", origin.url("/x")));
    assert_eq!(job.stats()["results"], 0);
}

#[test]
fn flaky_pages_and_limits_do_not_lose_a_row() {
    let origin = Origin::start(|r| {
        let page = number(r, "page", 1);
        match r.nth {
            1 if page == 2 => Reply::status(500),
            1 if page == 3 => Reply::status(429).header("Retry-After", "0.5"),
            1 if page == 4 => Reply::cut("{\"items\":[", 100),
            _ => Reply::json(&json!({ "items": if page <= 5 { items(page * 10, page * 10 + 10) } else { vec![] } })),
        }
    });
    let job = paged(&origin.url("/x"), "page");
    job.run().expect(0);
    assert_eq!(ids(&job), (10..60).collect::<Vec<u64>>());
    assert_eq!(origin.arrivals(), 9);
}

#[test]
fn each_entry_of_a_list_is_paged_by_itself() {
    let origin = Origin::start(|r| {
        let (who, page) = (crate::support::number(r.path()), number(r, "page", 1));
        Reply::json(&json!({ "items": if page <= who { items(who * 100 + page * 10, who * 100 + page * 10 + 2) } else { vec![] } }))
    });
    let job = Job::over((1..=4).map(|i| origin.url(&format!("/who/{i}"))))
        .set("pages.next", "\"page\"")
        .set("pages.param", "\"page\"")
        .set("extract.rows", "\"json:.items[]\"")
        .set("extract.fields", r#"{ id = "json:.id" }"#);
    job.run().expect(0);
    let stats = job.stats();
    assert_eq!((stats["inputs"].as_u64(), stats["results"].as_u64(), stats["rows"].as_u64()), (Some(4), Some(4), Some(20)));
    assert_eq!(origin.arrivals(), 2 + 3 + 4 + 5);
}

#[test]
fn a_next_link_to_another_origin_goes_without_credentials_and_says_so() {
    let other = Origin::start(|_| Reply::json(&json!({ "items": items(10, 20) })));
    let there = other.url("/y");
    let origin = Origin::start(move |_| Reply::json(&json!({ "items": items(0, 10), "next": there })));
    let job = paged(&origin.url("/x"), "json:.next")
        .set("auth.bearer", "\"${env:T}\"")
        .set("auth.hosts", &format!("[\"127.0.0.1:{}\"]", origin.port))
        .set("network.allow", "\"any\"");
    let run = job.run().env("T", "tok").expect(0);
    assert_eq!(ids(&job).len(), 20);
    assert_eq!(origin.log()[0].header("authorization"), Some("Bearer tok"));
    assert_eq!(other.log()[0].header("authorization"), None);
    assert!(run.err.contains("warning") || !job.stats()["warnings"].as_object().unwrap().is_empty(), "{}", run.err);
}

#[test]
fn a_run_does_not_end_while_its_one_entry_waits_for_its_next_try() {
    // a short wait passes while an earlier commit is on its way to the disk: many at once, so that commits are slow
    let origin = Origin::start(|r| {
        let page = number(r, "page", 1);
        if r.nth == 1 && page.is_multiple_of(3) {
            return Reply::status(502);
        }
        let next = if page < 40 { json!(format!("{}?page={}", r.path(), page + 1)) } else { Value::Null };
        Reply::json(&json!({ "items": items(page, page + 1), "next": next }))
    });
    let ended: Vec<(Option<i32>, usize)> = std::thread::scope(|s| {
        let workers: Vec<_> = (0..8)
            .map(|w| {
                let origin = &origin;
                s.spawn(move || {
                    let run = |i: usize| {
                        let job = paged(&origin.url(&format!("/{w}/{i}?page=1")), "json:.next")
                            .set("retry.backoff", "\"30ms\"")
                            .set("retry.max_backoff", "\"30ms\"");
                        let code = job.run().arg("--quiet").go().code;
                        (code, ids(&job).len())
                    };
                    (0..3).map(run).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let early = ended.iter().filter(|e| **e != (Some(0), 40)).count();
    assert_eq!(early, 0, "{early} of {} runs ended early: {ended:?}", ended.len());
}
