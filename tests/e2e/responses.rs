//! `[[response]]`: one test for each thing that a rule can look for, and for each that it can say.

use crate::support::reply::gzip;
use crate::support::{Job, Origin, Record, Reply, Req, ms, page};
use serde_json::{Value, json};
use std::time::Duration;

/// `gleaner run` with these rules.
fn run(job: &Job, rules: &str) -> crate::support::Gleaner {
    job.run().args(["--set", &format!("response=[{rules}]")])
}

/// A job over these paths, one after the other, that takes the heading of each page.
fn over(origin: &Origin, paths: &[&str]) -> Job {
    Job::over(paths.iter().map(|p| origin.url(p)))
        .set("limits.per_host", "1")
        .set("limits.workers", "1")
        .set("extract.fields", r#"{ title = "css:h1" }"#)
}

fn paths(job: &Job) -> Vec<String> {
    let mut paths: Vec<String> = job.results().iter().map(|r| path(&r.text("_url"))).collect();
    paths.sort_unstable();
    paths
}

/// `/a/b` of an address.
fn path(url: &str) -> String {
    url.splitn(4, '/').nth(3).map_or_else(String::new, |p| format!("/{p}"))
}

/// Reason and class of each skipped record by its path.
fn skips(job: &Job) -> Vec<(String, String, String)> {
    let of = |r: &Record| (path(&r.text("_url")), r.text("reason"), r.text("class"));
    let mut all: Vec<_> = job.skipped().iter().map(of).collect();
    all.sort_unstable();
    all
}

fn skip(path: &str, reason: &str, class: &str) -> (String, String, String) {
    (path.into(), reason.into(), class.into())
}

// -- what a rule looks for

/// Asks for each path; those in `hit` alone are skipped `hit` by the rule.
fn matches(when: &str, script: fn(&Req) -> Reply, paths: &[&str], hit: &[&str]) {
    let origin = Origin::start(script);
    let job = over(&origin, paths);
    run(&job, &format!("{{ when = {when}, then = \"skip\", reason = \"hit\" }}")).go();
    let by_rule: Vec<String> = skips(&job).into_iter().filter(|s| s.1 == "hit").map(|s| s.0).collect();
    assert_eq!(by_rule, hit, "{when}: {:?}", skips(&job));
    assert_eq!(job.stats()["by_reason"]["hit"], hit.len());
    job.exactly_once(paths.len());
}

#[test]
fn by_status() {
    let script = |r: &Req| Reply::status(r.path()[1..].parse().unwrap()).body(page("x"));
    matches(r#"{ status = [200, "500..599"] }"#, script, &["/200", "/201", "/404", "/503", "/600"], &["/200", "/503"]);
}

#[test]
fn by_header() {
    let script = |r: &Req| match r.path() {
        "/none" => Reply::ok(page("x")),
        "/other" => Reply::ok(page("x")).header("X-Error", "fine"),
        _ => Reply::ok(page("x")).header("X-Error", "fine").header("x-error", "quota used up"),
    };
    matches(r#"{ header = "X-Error" }"#, script, &["/none", "/other", "/quota"], &["/other", "/quota"]);
    matches(r#"{ header = { name = "x-error", match = "^quota" } }"#, script, &["/none", "/other", "/quota"], &["/quota"]);
}

#[test]
fn by_the_text_of_the_body() {
    let script = |r: &Req| match r.path() {
        "/latin" => Reply::status(200).header("Content-Type", "text/html; charset=iso-8859-1").body(b"<p>zu sp\xe4t".to_vec()),
        "/zipped" => Reply::ok(gzip("<p>ZU SPÄT".as_bytes())).header("Content-Encoding", "gzip"),
        // On a thread beside the wire.
        "/large" => Reply::ok(format!("<p>{} zu spät", "x".repeat(300_000))),
        // Of what is no result the first 64 KiB are there.
        "/far" => Reply::status(404).body(format!("{} zu spät", "x".repeat(70_000))),
        "/near" => Reply::status(404).body(format!("{} zu spät", "x".repeat(60_000))),
        _ => Reply::ok(page("x")),
    };
    let all = ["/latin", "/zipped", "/large", "/far", "/near", "/fine"];
    matches(r#"{ body = "(?i)zu spät" }"#, script, &all, &["/large", "/latin", "/near", "/zipped"]);
}

#[test]
fn by_a_selector() {
    let captcha = "<!doctype html><body><form><div class='g captcha'></div></form>";
    let script = move |r: &Req| match r.path() {
        "/captcha" => Reply::ok(captcha),
        "/large" => Reply::ok(format!("{captcha}{}", "<p>x</p>".repeat(10_000))),
        "/spoken-of" => Reply::ok(page("div.captcha")),
        "/json" => Reply::json(&json!({ "html": captcha })),
        _ => Reply::ok(page("x")),
    };
    let origin = Origin::start(script);
    let job = over(&origin, &["/captcha", "/large", "/spoken-of", "/json", "/fine"]);
    run(&job, r#"{ when.selector = "form > div.captcha", then = "skip", reason = "hit" }"#).expect(1);
    assert_eq!(skips(&job), [skip("/captcha", "hit", "permanent"), skip("/large", "hit", "permanent")]);
    job.exactly_once(5);
}

#[test]
fn by_a_filter_over_json_and_one_that_errs_is_no_match() {
    let script = |r: &Req| match r.path() {
        "/limited" => Reply::json(&json!({ "error": { "code": "rate_limited" } })),
        "/large" => Reply::json(&json!({ "error": { "code": "rate_limited" }, "pad": "x".repeat(100_000) })),
        // `.error.code` errs on text.
        "/text" => Reply::json(&json!({ "error": "rate_limited" })),
        "/other" => Reply::json(&json!({ "error": { "code": "other" } })),
        "/as-text" => Reply::status(400).header("Content-Type", "text/plain").body(r#"{"error":{"code":"rate_limited"}}"#),
        _ => Reply::ok(page("x")),
    };
    let all = ["/limited", "/large", "/text", "/other", "/as-text", "/html"];
    matches(r#"{ json = '.error.code == "rate_limited"' }"#, script, &all, &["/as-text", "/large", "/limited"]);
}

#[test]
fn all_that_is_said_has_to_match_and_the_first_that_does_wins() {
    let origin = Origin::start(|r| match r.path() {
        "/both" => Reply::status(500).header("X-A", "1"),
        "/one" => Reply::status(500),
        _ => Reply::status(503).header("X-A", "1"),
    });
    let job = over(&origin, &["/both", "/one", "/other"]).set("retry.attempts", "1");
    let rules = r#"{ when = { status = 500, header = "x-a" }, then = "skip", reason = "first" },
        { when.status = 500, then = "skip", reason = "second" }, { when.header = "x-a", then = "skip", reason = "third" }"#;
    run(&job, &rules.replace('\n', " ")).expect(1);
    let want = [skip("/both", "first", "permanent"), skip("/one", "second", "permanent"), skip("/other", "third", "permanent")];
    assert_eq!(skips(&job), want);
    assert_eq!(origin.arrivals(), 3);
}

#[test]
fn robots_txt_is_not_looked_at_and_redirects_are() {
    let origin = Origin::start(|r| match r.path() {
        "/robots.txt" => {
            Reply::status(200).header("Content-Type", "text/plain").header("X-Hit", "1").body("User-agent: *\nDisallow: /no\n")
        }
        "/yes" => Reply::ok(page("x")),
        "/login" => Reply::redirect(302, "/sign-in?from=login"),
        _ => Reply::ok(page("y")),
    });
    let job = over(&origin, &["/yes", "/no", "/login"]).set("request.robots", "\"obey\"");
    let rules = r#"{ when.header = "x-hit", then = "stop" }, { when = { status = 302, header = { name = "location", match = "sign-in" } }, then = "skip", reason = "logged-out" }"#;
    run(&job, rules).expect(1);
    assert_eq!(skips(&job), [skip("/login", "logged-out", "permanent"), skip("/no", "robots-disallowed", "permanent")]);
    assert_eq!(paths(&job), ["/yes"]);
    assert!(!origin.log().iter().any(|r| r.path() == "/sign-in"), "the redirect was followed");
}

// -- what a rule says

#[test]
fn accept_makes_a_result_of_any_status_with_its_whole_body() {
    let long = |title: &str| format!("<p>{}</p><h1>{title}</h1>", "x".repeat(200_000));
    let origin = Origin::start(move |r| match (r.path(), r.nth) {
        ("/404", _) => Reply::status(404).header("Content-Type", "text/html").body(long("gone")),
        ("/429", _) => Reply::status(429).header("Content-Type", "text/html").header("Retry-After", "60").body(long("slow")),
        ("/waf", _) => Reply::ok("<title>Just a moment...</title><script src=\"/cdn-cgi/challenge-platform/h/b/orchestrate/x\"></script>"),
        // Broken, it is no answer: neither a result nor the 404 that it would be without the rule.
        ("/cut", 1) => Reply::raw("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 900\r\n\r\n<h1>cut"),
        ("/cut", _) => Reply::status(404).header("Content-Type", "text/html").body(page("whole")),
        _ => Reply::status(503),
    });
    let job = over(&origin, &["/404", "/429", "/waf", "/cut"]);
    let run = run(&job, r#"{ when.status = [200, 404, 429], then = "accept" }"#).expect(0);
    assert!(run.took < Duration::from_secs(30), "held by a status that the rule makes a result");
    let (results, _) = job.exactly_once(4);
    let mut got: Vec<_> = results.iter().map(|r| (path(&r.text("_url")), r.text("title"), r.number("_status"))).collect();
    got.sort_unstable();
    let want = [("/404", "gone", 404), ("/429", "slow", 429), ("/cut", "whole", 404), ("/waf", "", 200)];
    assert_eq!(got, want.map(|(p, t, s)| (p.to_owned(), t.to_owned(), s)));
}

#[test]
fn retry_tries_again_with_backoff_and_gives_up_with_its_reason() {
    let origin = Origin::start(|r| match (r.path(), r.nth) {
        ("/soon", 1 | 2) | ("/never", _) => Reply::ok("<h1>please wait</h1>"),
        ("/asks", 1) => Reply::status(404).header("Retry-After", "1"),
        ("/bare", _) => Reply::status(404),
        _ => Reply::ok(page("x")),
    });
    let job = over(&origin, &["/soon", "/never", "/asks", "/bare"]).set("limits.workers", "4").set("limits.per_host", "4");
    let rules = r#"{ when.body = "please wait", then = "retry", reason = "not-ready" }, { when.status = 404, then = "retry" }"#;
    let run = run(&job, rules).expect(1);
    assert_eq!(paths(&job), ["/asks", "/soon"]);
    assert_eq!(skips(&job), [skip("/bare", "http-404", "transient"), skip("/never", "not-ready", "transient")]);
    let tries = |p: &str| origin.log().iter().filter(|r| r.path() == p).map(|r| r.at).collect::<Vec<_>>();
    assert_eq!((tries("/soon").len(), tries("/never").len(), tries("/bare").len()), (3, 3, 3));
    assert!(tries("/asks")[1] - tries("/asks")[0] >= ms(1000), "Retry-After is the least");
    let soon = job.results().iter().find(|r| path(&r.text("_url")) == "/soon").map(|r| r.number("_attempts"));
    assert_eq!(soon, Some(3));
    let never = job.skipped().into_iter().find(|r| r.text("reason") == "not-ready").unwrap();
    let attempts: Vec<_> = never.attempts().iter().map(|a| (a["outcome"].clone(), a["charged"].clone())).collect();
    assert_eq!(attempts, vec![(json!("not-ready"), json!(true)); 3]);
    assert!(never.text("message").contains("rule 1 of [[response]]"), "{}", never.text("message"));
    assert!(run.err.contains("a [[response]] rule of the job says so"), "{}", run.err);
}

#[test]
fn retry_does_not_repeat_a_request_that_must_not_be_repeated() {
    for (more, arrivals) in [("request.redirects", 1), ("request.idempotent", 3)] {
        let origin = Origin::start(|_| Reply::ok("please wait"));
        let value = if more == "request.idempotent" { "true" } else { "5" };
        let job = over(&origin, &["/x"]).set("request.method", "\"POST\"").set("request.body", "\"b\"").set(more, value);
        run(&job, r#"{ when.body = "please wait", then = "retry", reason = "not-ready" }"#).expect(1);
        assert_eq!((origin.arrivals(), skips(&job)), (arrivals, vec![skip("/x", "not-ready", "transient")]), "{more}");
    }
}

#[test]
fn limited_holds_the_key_as_asked_and_costs_no_attempt() {
    let origin = Origin::start(|r| {
        if r.n == 3 {
            return Reply::json(&json!({ "error": "quota" })).header("Retry-After", "2");
        }
        Reply::json(&json!({ "n": r.n })).after(ms(5))
    });
    let all: Vec<String> = (0..12).map(|i| format!("/{i}")).collect();
    let job = Job::over(all.iter().map(|p| origin.url(p)))
        .set("limits.per_host", "1")
        .set("retry.attempts", "1")
        .set("request.method", "\"POST\"")
        .set("request.body", "\"b\"");
    run(&job, r#"{ when.json = '.error == "quota"', then = "limited", reason = "quota" }"#).expect(0);
    let (results, _) = job.exactly_once(12);
    assert!(results.iter().all(|r| r.number("_attempts") == 1), "a refusal was charged");
    let log = origin.log();
    assert_eq!(log.len(), 13, "the refused one is sent again, though it is a POST");
    let gap = log[4].at - log[3].at;
    assert!(gap >= ms(1990) && gap < Duration::from_secs(12), "the whole host waits: {gap:?}");
}

#[test]
fn limited_without_a_header_waits_our_own_backoff_and_reads_rate_headers() {
    let script = |reset: bool| {
        move |r: &Req| {
            let refusal = Reply::status(200).body("slow down");
            match r.n {
                1 if reset => refusal.header("RateLimit-Remaining", "0").header("RateLimit-Reset", "3"),
                1 => refusal,
                _ => Reply::ok(page("x")),
            }
        }
    };
    for (reset, least, most) in [(false, 250, 4000), (true, 2900, 12_000)] {
        let origin = Origin::start(script(reset));
        let job = over(&origin, &["/0", "/1", "/2", "/3"]).set("retry.attempts", "1");
        run(&job, r#"{ when.body = "slow down", then = "limited" }"#).expect(0);
        job.exactly_once(4);
        let log = origin.log();
        let gap = log[2].at - log[1].at;
        assert!(gap >= ms(least) && gap < ms(most), "reset {reset}: {gap:?}");
    }
}

#[test]
fn limited_of_one_entry_alone_is_a_poison_entry() {
    let origin = Origin::start(|r| {
        if r.path() == "/poison" { Reply::ok("slow down").header("Retry-After", "0.3") } else { Reply::ok(page("x")).after(ms(30)) }
    });
    let all: Vec<String> = std::iter::once("/poison".to_owned()).chain((0..60).map(|i| format!("/{i}"))).collect();
    let job = Job::over(all.iter().map(|p| origin.url(p))).set("limits.per_host", "1");
    run(&job, r#"{ when.body = "slow down", then = "limited", reason = "quota" }"#).expect(1);
    let (results, _) = job.exactly_once(61);
    assert_eq!(results.len(), 60);
    assert_eq!(skips(&job), [skip("/poison", "quota", "throttled")]);
    let attempts = job.skipped()[0].attempts();
    assert!(attempts.iter().all(|a| a["charged"] == json!(false)) && attempts.len() >= 5, "{attempts:?}");
}

#[test]
fn skip_ends_the_entry_at_once() {
    let origin = Origin::start(|r| match r.path() {
        "/sold" => Reply::ok("<h1>sold out</h1>"),
        "/bare" => Reply::status(503),
        "/accepted" => Reply::status(202).body(page("later")),
        _ => Reply::ok(page("x")),
    });
    let job = over(&origin, &["/sold", "/bare", "/accepted", "/fine"]);
    let run = run(
        &job,
        r#"{ when.body = "sold out", then = "skip", reason = "sold-out" }, { when.status = 503, then = "skip" }, { when.status = 202, then = "skip" }"#,
    )
    .expect(1);
    let want = [skip("/accepted", "http-202", "permanent"), skip("/bare", "http-503", "permanent"), skip("/sold", "sold-out", "permanent")];
    assert_eq!(skips(&job), want);
    assert_eq!((origin.arrivals(), paths(&job)), (4, vec!["/fine".to_owned()]));
    assert!(run.err.contains("sold-out") && run.err.contains("a [[response]] rule of the job says so"), "{}", run.err);
}

#[test]
fn stop_ends_the_run_cleanly_and_the_entry_stays_pending() {
    let origin = Origin::start(|r| if r.path() == "/4" && r.nth == 1 { Reply::ok("account closed") } else { Reply::ok(page("x")) });
    let all: Vec<String> = (0..10).map(|i| format!("/{i}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let job = over(&origin, &all);
    let rule = r#"{ when.body = "account closed", then = "stop", reason = "closed" }"#;
    let stopped = run(&job, rule).expect(1);
    let stats = job.stats();
    assert_eq!((stats["finish"].as_str(), stats["skipped"].as_u64()), (Some("stopped:response"), Some(0)));
    assert_eq!((stats["results"].as_u64(), stats["pending"].as_u64(), origin.arrivals()), (Some(4), Some(6), 5));
    let said = "stopping: closed (";
    assert!(
        stopped.err.contains(said) && stopped.err.contains("/4): the server answered 200 (OK); rule 1 of [[response]]"),
        "{}",
        stopped.err
    );
    assert!(stopped.err.contains("a [[response]] rule ended the run; go on with:"), "{}", stopped.err);
    // The same command goes on, and asks for the entry again.
    run(&job, rule).expect(0);
    let (results, _) = job.exactly_once(10);
    assert!(results.iter().all(|r| r.number("_attempts") == 1), "the stop was charged");
    assert_eq!(origin.arrivals(), 11);
}

// -- pages

fn items(from: usize, to: usize) -> Vec<Value> {
    (from..to).map(|id| json!({ "id": id })).collect()
}

fn paged(origin: &Origin) -> Job {
    Job::pages(&origin.url("/x"), "json:.next")
        .set("pages.param", "\"cursor\"")
        .set("extract.rows", "\"json:.items[]\"")
        .set("extract.fields", r#"{ id = "json:.id" }"#)
}

fn ids(job: &Job) -> Vec<u64> {
    let mut ids: Vec<u64> = job.results().iter().map(|r| r.number("id")).collect();
    ids.sort_unstable();
    ids
}

/// Page `n` of ten rows each, the `session` part of the cursor and the next.
fn page_of(n: usize, session: &str, last: usize) -> Reply {
    let next = if n < last { json!(format!("{session}-{}", n + 1)) } else { Value::Null };
    Reply::json(&json!({ "items": items(n * 10, n * 10 + 10), "next": next }))
}

/// Session and page number of a cursor like `s1-3`.
fn cursor(r: &Req) -> Option<(String, usize)> {
    let (session, n) = r.query("cursor")?.split_once('-')?;
    Some((session.to_owned(), n.parse().ok()?))
}

#[test]
fn end_of_pages_makes_a_result_of_the_pages_so_far() {
    let origin = Origin::start(|r| match cursor(r) {
        None => page_of(0, "s", 9),
        Some((_, n)) if n < 3 => page_of(n, "s", 9),
        Some(_) => Reply::status(400).header("Content-Type", "application/json").body(r#"{"error":"past the end","items":[{"id":999}]}"#),
    });
    let job = paged(&origin);
    run(&job, r#"{ when = { status = 400, json = '.error == "past the end"' }, then = "end-of-pages" }"#).expect(0);
    assert_eq!(ids(&job), (0..30).collect::<Vec<u64>>());
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["rows"].as_u64(), origin.arrivals()), (Some(1), Some(30), 4));
}

#[test]
fn end_of_pages_on_the_first_page_is_a_result_without_rows() {
    let origin = Origin::start(|_| Reply::status(404));
    let job = paged(&origin);
    run(&job, r#"{ when.status = 404, then = "end-of-pages" }"#).expect(0);
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["rows"].as_u64(), ids(&job)), (Some(1), Some(0), vec![]));
}

const EXPIRED: &str = r#"{ when = { status = 410 }, then = "restart-pages" }"#;

#[test]
fn restart_pages_asks_from_the_first_again_and_delivers_each_row_once() {
    // The first session's cursors end before page 3, the second's before page 2, the third's not at all.
    let origin = Origin::start(|r| match cursor(r) {
        None => page_of(0, &format!("s{}", r.nth), 5),
        Some((s, n)) if (s == "s1" && n >= 3) || (s == "s2" && n >= 2) => Reply::status(410),
        Some((s, n)) => page_of(n, &s, 5),
    });
    let job = paged(&origin);
    let run = run(&job, EXPIRED).expect(0);
    assert_eq!(ids(&job), (0..60).collect::<Vec<u64>>());
    let stats = job.stats();
    assert_eq!(
        (stats["rows"].as_u64(), stats["warnings"]["pages-restarted"].as_u64(), stats["retries"].as_u64()),
        (Some(60), Some(2), Some(0))
    );
    assert_eq!(origin.arrivals(), 4 + 3 + 6);
    assert!(run.err.contains("from the first again"), "{}", run.err);
}

#[test]
fn restart_pages_is_trouble_after_three_restarts() {
    let origin = Origin::start(|r| match cursor(r) {
        None => page_of(0, &format!("s{}", r.nth), 5),
        Some((_, n)) if n >= 2 => Reply::status(410),
        Some((s, n)) => page_of(n, &s, 5),
    });
    let job = paged(&origin);
    run(&job, EXPIRED).expect(1);
    assert_eq!(ids(&job), (0..20).collect::<Vec<u64>>());
    assert_eq!(origin.arrivals(), 4 * 3);
    let skipped = job.skipped();
    assert_eq!((skipped.len(), skipped[0].text("reason"), skipped[0].text("class")), (1, "http-410".into(), "permanent".into()));
    assert!(skipped[0].text("message").contains("after 3 restarts"), "{}", skipped[0].text("message"));
}

#[test]
fn restart_pages_survives_a_kill_with_each_row_once() {
    // On the first page that is asked for again, in the midst of those, and on the first that is new.
    let killed_at = [5, 8, 11];
    let origin = Origin::start(move |r| {
        let reply = match cursor(r) {
            None => page_of(0, &format!("s{}", r.nth), 5),
            Some((s, n)) if s == "s1" && n >= 4 => Reply::status(410),
            Some((s, n)) => page_of(n, &s, 5),
        };
        reply.after(ms(if killed_at.contains(&r.n) { 2000 } else { 20 }))
    });
    let job = paged(&origin);
    for n in killed_at {
        let live = run(&job, EXPIRED).spawn();
        assert!(origin.wait_for(n + 1, Duration::from_secs(20)));
        std::thread::sleep(ms(800));
        live.kill9();
    }
    run(&job, EXPIRED).expect(0);
    assert_eq!(ids(&job), (0..60).collect::<Vec<u64>>());
    assert_eq!(job.stats()["rows"].as_u64(), Some(60));
    let asked = |cursor: &str| origin.log().iter().filter(|r| r.query("cursor").unwrap_or_default() == cursor).count();
    // Each place was durable: what was asked for twice is what was killed.
    assert_eq!(["", "s1-4", "s3-1", "s3-2", "s3-3", "s3-4", "s3-5"].map(asked), [3, 1, 1, 2, 1, 2, 1]);
    assert_eq!(origin.arrivals(), 14);
}
