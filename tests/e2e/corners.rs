//! Corners where parts meet: each was a defect once.

use crate::support::origin::wait_until;
use crate::support::{Job, Origin, Reply, ms, page};
use std::net::TcpListener;
use std::time::Instant;

/// A port of 127.0.0.1 where nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_dead_host_is_given_up_with_robots_on_too() {
    for robots in ["obey", "ignore"] {
        let port = closed_port();
        let job = Job::over((0..40).map(|i| format!("http://127.0.0.1:{port}/{i}")))
            .set("request.robots", &format!("{robots:?}"))
            .set("retry.attempts", "2")
            .set("retry.host_give_up", "\"6s\"");
        let began = Instant::now();
        let run = job.run().expect(1);
        assert!(began.elapsed() < ms(40_000), "{robots}: {:?}", began.elapsed());
        let (_, skipped) = job.exactly_once(40);
        let given_up = skipped.iter().filter(|r| r.text("reason") == "host-unreachable").count();
        let refused = skipped.iter().filter(|r| r.text("reason") == "connect-refused").count();
        assert!(given_up >= 20 && given_up + refused == 40, "{robots}: {given_up} given up, {refused} refused\n{}", run.err);
        let asked = job.stats()["requests"].as_u64().unwrap();
        assert_eq!(asked, 0, "{robots}: nothing was on the wire");
    }
}

#[test]
fn a_record_that_stopped_the_run_is_read_again() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::new().set("input.on_bad", "\"stop\"");
    job.list([origin.url("/1"), "not an address".into(), origin.url("/3")]);
    job.run().expect(65);
    let run = job.run().expect(65);
    assert!(run.err.contains("in.txt:2"), "{}", run.err);
}

#[test]
fn a_job_that_stopped_at_its_first_record_is_cured_in_any_key() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::new().set("input.on_bad", "\"stop\"").outputs("results.csv", "skipped.csv");
    job.list([origin.url("/1").trim_start_matches("http://"), origin.url("/2").trim_start_matches("http://")]);
    let run = job.run().expect(65);
    assert!(run.err.contains("in.txt:1"), "{}", run.err);
    let job = job.set("input.url", "\"http://{{url}}\"").set("extract.fields", r#"{ title = "css:h1" }"#);
    job.run().expect(0);
    assert_eq!(job.exactly_once(2).0[0].keys()[0], "title");
}

#[test]
fn a_cured_job_starts_clean_where_nothing_was_taken() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let bare: Vec<String> = (0..5).map(|i| origin.url(&format!("/{i}")).trim_start_matches("http://").to_owned()).collect();
    let job = Job::over(&bare).outputs("results.csv", "skipped.csv");
    let run = job.run().expect(65);
    assert!(run.err.contains("https://{{url}}"), "{}", run.err);
    let job = job.set("input.url", "\"http://{{url}}\"");
    job.run().expect(0);
    job.exactly_once(5);
}

#[test]
fn a_missing_list_can_be_named_right_and_the_job_goes_on() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::over([origin.url("/1")]).set("input.file", "\"other.txt\"");
    job.run().expect(65);
    let job = job.set("input.file", "\"in.txt\"");
    job.run().expect(0);
}

#[test]
fn a_page_token_goes_along_with_a_redirect_that_keeps_the_body() {
    let origin = Origin::start(|r| {
        if r.path() == "/api" {
            return Reply::status(307).header("Location", "/api2");
        }
        let body: serde_json::Value = serde_json::from_slice(&r.body).unwrap();
        let at = body["cur"].as_u64().unwrap_or(0);
        let next = if at < 4 { serde_json::json!(at + 1) } else { serde_json::Value::Null };
        Reply::ok(serde_json::json!({ "items": [{ "id": at * 2 }, { "id": at * 2 + 1 }], "next": next }).to_string())
            .header("Content-Type", "application/json")
    });
    let job = Job::pages(&origin.url("/api"), "json:.next")
        .set("pages.param", "\"json:.cur\"")
        .set("request.method", "\"POST\"")
        .set("request.json", "{ q = \"x\" }")
        .set("request.idempotent", "true")
        .set("extract.rows", "\"json:.items[]\"")
        .set("extract.fields", "{ id = \"json:.id\" }");
    job.run().expect(0);
    assert_eq!(job.results().len(), 10);
}

#[test]
fn a_retry_that_the_server_puts_past_max_wait_defers_the_run() {
    let origin = Origin::start(|_| Reply::status(502).header("Retry-After", "100000"));
    let job = Job::over([origin.url("/1")]).set("limits.max_wait", "\"5s\"");
    let began = Instant::now();
    job.run().expect(75);
    assert!(began.elapsed() < ms(4000));
}

#[test]
fn a_crawl_of_just_max_pages_is_done() {
    let origin = Origin::start(|r| Reply::ok(if r.path() == "/" { "<a href=/1>1</a><a href=/2>2</a>".to_owned() } else { page("x") }));
    for results in ["results.jsonl", "results.jsonl.gz"] {
        let job = Job::crawl(&origin.url("/")).set("crawl.max_pages", "3").outputs(results, "skipped.jsonl");
        job.run().expect(0);
        assert_eq!(job.stats()["finish"], "done");
        let job = Job::crawl(&origin.url("/")).set("crawl.max_pages", "2").outputs(results, "skipped.jsonl");
        job.run().expect(1);
        assert_eq!((job.stats()["finish"].as_str(), job.stats()["pending"].as_u64()), (Some("stopped:max_pages"), Some(1)));
    }
}

#[test]
fn a_secret_in_a_bad_address_stays_out_of_terminal_and_events() {
    let job = Job::over(["ftp://user:canarypw@h/x?token=canarytok", "http://127.0.0.1:1/"]).set("retry.attempts", "1");
    let events = job.path("events.jsonl");
    let run = job.run().arg("--verbose").arg("--events").arg(&events).expect(1);
    let told = run.err + &std::fs::read_to_string(events).unwrap();
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn the_wait_before_a_try_is_told() {
    let origin = Origin::start(|_| Reply::status(500));
    let job = Job::over([origin.url("/1")]).set("retry.backoff", "\"400ms\"").set("retry.max_backoff", "\"400ms\"");
    job.run().arg("--seed").arg("7").expect(1);
    let waits: Vec<u64> = job.skipped()[0].attempts().iter().map(|a| a["wait_ms"].as_u64().unwrap()).collect();
    assert_eq!(waits[0], 0);
    assert!(waits[1..].iter().sum::<u64>() > 20, "{waits:?}");
}

#[test]
fn a_robots_txt_with_a_broken_coding_does_not_cost_the_entries() {
    let origin = Origin::start(|r| {
        if r.path() == "/robots.txt" { Reply::ok("not gzip".to_owned()).header("Content-Encoding", "gzip") } else { Reply::ok(page("x")) }
    });
    let job = Job::over((0..3).map(|i| origin.url(&format!("/{i}")))).set("request.robots", "\"obey\"");
    job.run().expect(0);
}

#[test]
fn an_edit_far_from_the_end_of_the_results_is_told() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::over((0..300).map(|i| origin.url(&format!("/{i}"))))
        .outputs("results.csv", "skipped.csv")
        .set("extract.fields", r#"{ title = "css:h1" }"#);
    job.run().expect(0);
    job.run().expect(0);
    let path = job.path("results.csv");
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 10_000);
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let run = job.run().expect(65);
    assert!(run.err.contains("was edited"), "{}", run.err);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is overwritten");
    // Touched and not changed: nothing to tell.
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    job.run().expect(0);
}

#[test]
fn results_that_are_removed_under_a_run_end_it_and_put_back_they_go_on() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())).after(ms(20)));
    let job = Job::over((0..800).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "4");
    let live = job.run().spawn();
    let results = job.path("results.jsonl");
    assert!(wait_until(ms(30_000), || results.metadata().is_ok_and(|m| m.len() > 0)));
    std::fs::rename(&results, job.path("moved")).unwrap();
    let run = live.wait(ms(5000));
    run.assert_code(74);
    assert!(origin.arrivals() < 800, "it was told before the end");
    assert!(run.err.contains("removed or replaced") && run.err.contains("committed records"), "{}", run.err);
    assert!(run.err.contains("--fresh") && !run.err.contains("is lost"), "{}", run.err);
    std::fs::rename(job.path("moved"), &results).unwrap();
    job.run().expect(0);
    job.exactly_once(800);
}

/// How many requests come until none came for a while.
fn arrivals_at_rest(origin: &Origin) -> usize {
    let (mut seen, mut since) = (0, Instant::now());
    let end = Instant::now() + ms(40_000);
    while (seen == 0 || since.elapsed() < ms(1500)) && Instant::now() < end {
        if origin.arrivals() > seen {
            (seen, since) = (origin.arrivals(), Instant::now());
        }
        std::thread::sleep(ms(10));
    }
    seen
}

#[test]
fn large_rows_that_nobody_takes_stop_new_requests() {
    let big = serde_json::json!({ "x": "y".repeat(1 << 20) });
    let origin = Origin::start(move |_| Reply::json(&big));
    let job = Job::over((0..200).map(|i| origin.url(&format!("/{i}"))))
        .set("output.results", "\"-\"")
        .set("extract.fields", r#"{ x = "json:.x" }"#)
        .set("limits.workers", "4");
    let pipe = job.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let _nobody_reads = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let live = job.run().shell(&format!("exec > {}", pipe.display())).spawn();
    let asked = arrivals_at_rest(&origin);
    let run = live.kill9();
    assert!((60..150).contains(&asked), "{asked} pages of 1 MiB: {}", run.err);
}

#[test]
fn large_bodies_that_wait_for_extraction_stop_new_requests() {
    let big = serde_json::json!({ "x": "y".repeat(4 << 20) });
    let origin = Origin::start(move |_| Reply::json(&big));
    let job = Job::over((0..100).map(|i| origin.url(&format!("/{i}"))))
        .set("extract.fields", r#"{ x = "json:last(range(1000000000))" }"#)
        .set("limits.per_host", "4");
    let live = job.run().spawn();
    let asked = arrivals_at_rest(&origin);
    let run = live.kill9();
    assert!((16..32).contains(&asked), "{asked} bodies of 4 MiB: {}", run.err);
}
