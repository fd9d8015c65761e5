//! What a run tells of itself: figures, waits, ends that are no end, hints that can be followed.

use crate::support::origin::wait_until;
use crate::support::{Gleaner, Job, Origin, Reply, ms, page};
use rustix::process::Signal;
use std::time::Duration;

fn status(job: &Job) -> serde_json::Value {
    let out = Gleaner::new(["status", "--json"]).arg(job.path("job.toml")).home(job.dir()).expect(0).out;
    serde_json::from_str(&out).unwrap()
}

#[test]
fn what_is_in_flight_at_ctrl_c_was_a_request() {
    let origin = Origin::start(|r| if r.path().starts_with("/hang") { Reply::hang() } else { Reply::ok("x") });
    let job = Job::over(["/a", "/hang/1", "/hang/2", "/hang/3"].map(|p| origin.url(p)));
    let live = job.run().spawn();
    assert!(origin.wait_for(4, Duration::from_secs(20)));
    std::thread::sleep(ms(300));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(15)).assert_code(130);
    let stats = job.stats();
    assert_eq!((stats["requests"].as_u64(), stats["by_host"]["127.0.0.1"]["requests"].as_u64()), (Some(4), Some(4)), "{stats}");
}

#[test]
fn status_after_the_end_has_the_figures_of_the_end() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::over((0..20).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(0);
    let (stats, status) = (job.stats(), status(&job));
    assert_eq!(status["snapshot"]["requests"], stats["requests"], "{status}");
    assert_eq!(status["snapshot"]["in_flight"].as_u64(), Some(0));
    assert!(
        status["snapshot"]["elapsed_s"].as_f64() > Some(0.0) && status["snapshot"]["elapsed_s"].as_f64() <= stats["elapsed_s"].as_f64()
    );
}

#[test]
fn a_held_host_is_told_of_though_another_one_was_served_since() {
    let origin =
        Origin::on(1, |r| if r.path() == "/held" && r.nth == 1 { Reply::status(429).header("Retry-After", "6") } else { Reply::ok("x") });
    let mut urls = vec![origin.url_at(1, "/held")];
    urls.extend((0..14).map(|i| origin.url(&format!("/{i}"))));
    let job = Job::over(urls);
    let live = job.run().spawn();
    let waits = || {
        let s = status(&job);
        let waiting = s["snapshot"]["waiting"].as_str().unwrap_or_default().to_owned();
        s["account"]["results"] == 14
            && waiting.contains("hold at 127.0.1.1")
            && waiting.contains("next in")
            && s["snapshot"]["eta_s"].is_null()
    };
    assert!(origin.wait_for(15, Duration::from_secs(20)));
    assert!(wait_until(Duration::from_secs(4), waits), "{}", status(&job));
    live.wait(Duration::from_secs(30)).assert_code(0);
}

#[test]
fn verbose_shows_the_waits_for_a_rate_once_each() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let job = Job::over((0..4).map(|i| origin.url(&format!("/{i}")))).set("limits.rate", "\"1/1s\"");
    let run = job.run().arg("--verbose").expect(0);
    let waits: Vec<&str> = run.err.lines().filter(|l| l.contains("s wait ")).collect();
    assert!((2..=4).contains(&waits.len()), "{}", run.err);
    assert!(waits[0].contains(" for 1/s") && waits[0].contains(" at 127.0.0.1"), "{}", waits[0]);
}

#[test]
fn a_run_that_fails_under_way_prints_its_account_and_how_to_go_on() {
    let origin = Origin::start(|r| if r.path() == "/gone" { Reply::status(404) } else { Reply::ok("x") });
    let job = Job::over(Vec::<String>::new()).set("input.on_bad", "\"stop\"");
    job.list([origin.url("/a"), origin.url("/gone"), "nonsense".into(), origin.url("/b")]);
    let run = job.run().expect(65);
    assert_eq!(run.account(), Some("inputs 2 + discovered 0 = 1 results + 1 skipped + 0 pending"));
    let at = |what: &str| run.err.lines().position(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {}", run.err));
    assert!(at("http-404") < at("results.jsonl") && at("results.jsonl") < at("error: ") && at("error: ") < at("inputs 2 +"), "{}", run.err);
    assert!(run.err.lines().skip(at("inputs 2 +") + 1).all(|l| l.starts_with("hint: ")), "{}", run.err);
    assert!(at("on_bad") > at("inputs 2 +") && at("gleaner run") > at("inputs 2 +"), "{}", run.err);
    assert_eq!(job.stats()["finish"], "stopped:failure");
    let quiet = job.run().arg("--quiet").expect(65);
    assert!(quiet.err.starts_with("error: ") && quiet.err.lines().count() <= 2, "{}", quiet.err);
    // what never began is its error alone
    let none = Job::over([origin.url("/a")]).set("input.file", "\"absent.txt\"").run().expect(65);
    assert!(none.err.starts_with("error: ") && none.account().is_none(), "{}", none.err);
}

#[test]
fn a_file_size_limit_leaves_the_account_of_the_last_commit_and_the_command_to_go_on_with() {
    let origin = Origin::start(|r| Reply::ok(format!("<h1>{}{}</h1>", r.path(), "x".repeat(2000))).after(ms(20)));
    // Slow enough for several commits before the limit.
    let job = Job::over((0..2000).map(|i| origin.url(&format!("/{i}")))).set("extract.fields", r#"{ t = "css:h1" }"#);
    let run = job.run().shell("ulimit -f 2000").expect(74);
    let account = run.account().expect("an account");
    assert!(!account.contains("= 0 results"), "{account}");
    let after: Vec<&str> = run.err.lines().skip_while(|l| *l != account).skip(1).collect();
    assert!(after.iter().all(|l| l.starts_with("hint: ")) && after.iter().any(|l| l.contains("gleaner run")), "{}", run.err);
    assert_eq!(job.stats()["results"].as_u64().unwrap(), status(&job)["account"]["results"].as_u64().unwrap());
}

#[test]
fn rows_of_json_lines_are_read_whoever_says_so() {
    let origin = Origin::start(|_| Reply::ok("{\"a\":1}\n{\"a\":2}\n").header("Content-Type", "application/x-ndjson"));
    let job = Job::over([origin.url("/l")]).set("extract.rows", "\"jsonl:\"").set("extract.fields", "{ a = \"json:.a\" }");
    job.run().expect(0);
    assert_eq!(job.results().len(), 2);
    let fetch = || Gleaner::new(["fetch", "--field", "a=json:.a"]).arg(origin.url("/l"));
    for flags in [["--rows", "jsonl:"], ["--set", "extract.rows=jsonl:"]] {
        assert_eq!(fetch().args(flags).expect(0).out.lines().count(), 2, "{flags:?}");
    }
}

#[test]
fn the_address_as_listed_goes_into_body_and_headers_and_into_no_output() {
    let origin =
        Origin::start(|r| Reply::ok(page(&format!("{} {}", String::from_utf8_lossy(&r.body), r.header("x-listed").unwrap_or("")))));
    let job = Job::new()
        .set("input.url", &format!("{:?}", origin.url("/look-up?q={{url}}")))
        .set("request.method", "\"POST\"")
        .set("request.json", "{ id = \"{{url}}\" }")
        .set("request.headers", "{ X-Listed = \"{{url}}\" }")
        .set("extract.fields", "{ said = \"css:h1\" }");
    job.list(["a b", "c", "bad\u{200b}line"]);
    job.run().expect(0);
    let said: std::collections::BTreeSet<String> = job.results().iter().map(|r| r.text("said")).collect();
    assert!(said.contains("{\"id\":\"a b\"} a b") && said.contains("{\"id\":\"c\"} c"), "{said:?}");
    let text = std::fs::read_to_string(job.path("results.jsonl")).unwrap();
    assert!(!text.contains("\"url\"") && !text.contains("\\u0000"), "{text}");
    let out = Gleaner::new(["fetch", &origin.url("/x"), "--body", "<{{url}}>", "--field", "said=css:h1"]).expect(0).out;
    assert!(out.contains(&format!("said\":\"<{}>", origin.url("/x"))) || out.contains("/x"), "{out}");
    assert_eq!(origin.at_path("/x").last().unwrap().body, format!("<{}>", origin.url("/x")).into_bytes());
}

#[test]
fn extensions_any_follows_what_pages_leaves_alone() {
    let home = |r: &crate::support::Req| {
        let body = "<a href=/a.pdf>a</a><a href=/b.pdf/c>b</a><a href='/d?f=x.pdf'>d</a>";
        Reply::ok(if r.path() == "/" { body } else { "" }).header("Content-Type", "text/html")
    };
    let results = |value: &str| {
        let origin = Origin::start(home);
        let job = Job::crawl(&origin.url("/")).set("crawl.extensions", value);
        job.run().expect(0);
        (job.results().len(), job.stats()["out_of_scope"].clone())
    };
    assert_eq!(results("\"pages\""), (3, serde_json::json!({ "extensions": 1 })));
    assert_eq!(results("\"any\""), (4, serde_json::json!({})));
}

#[test]
fn check_tells_mistakes_in_files_at_once_with_the_place_of_their_key() {
    let job = Job::new()
        .set("input.file", "\"list.csv\"")
        .set("request.tls", "{ ca_file = \"absent.pem\" }")
        .set("extract.fields", "{ name = \"css:h1\" }");
    job.file("list.csv", "url,name\nhttps://h/,n\n");
    let run = Gleaner::new(["check"]).arg(job.write()).home(job.dir()).expect(65);
    let line = |what: &str| run.err.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {}", run.err)).to_owned();
    assert!(line("request.tls.ca_file").contains("job.toml:"), "{}", run.err);
    assert!(line("extract.fields.name: the input has a column").contains("job.toml:"), "{}", run.err);
    let job =
        job.unset("request.tls").unset("extract.fields").set("request.method", "\"POST\"").set("request.form", "{ a = \"{{nope}}\" }");
    let run = Gleaner::new(["check"]).arg(job.write()).home(job.dir()).expect(65);
    assert!(run.err.contains("job.toml:") && run.err.contains("request.form.a: the input has no column \"nope\""), "{}", run.err);
    let run = job.run().expect(65);
    assert!(run.err.contains("request.form.a: the input has no column"), "{}", run.err);
    let job = job.set("input.url", "\"https://h/{{nope}}\"");
    let run = Gleaner::new(["check"]).arg(job.write()).home(job.dir()).expect(65);
    assert!(run.err.contains("job.toml:") && run.err.contains("input.url: ") && run.err.contains("\"nope\""), "{}", run.err);
}

#[test]
fn a_frozen_key_is_shown_as_the_job_file_has_it_and_an_invisible_character_once_escaped() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let job = Job::over([origin.url("/a"), format!("{}\u{200b}x", origin.url("/b"))]);
    job.run().expect(1);
    assert!(job.skipped()[0].text("message").contains("/b\\u{200b}x"), "{}", job.skipped()[0].text("message"));
    let run = job.set("extract.fields", "{ t = \"css:h1\" }").set("request.method", "\"PUT\"").run().expect(65);
    assert!(
        run.err.contains("it was not set, it is {\"t\":\"css:h1\"}") || run.err.contains("it was \"GET\", it is \"PUT\""),
        "{}",
        run.err
    );
}

#[test]
fn status_of_a_deferred_run_says_what_holds_and_until_when() {
    let origin = Origin::start(|_| Reply::status(429).header("Retry-After", "200000"));
    let job = Job::over([origin.url("/a")]);
    job.run().expect(75);
    let text = Gleaner::new(["status"]).arg(job.path("job.toml")).home(job.dir()).expect(0).out;
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("state").contains("deferred"), "{text}");
    assert!(line("why").contains("hold at 127.0.0.1") && line("why").contains("Z or later"), "{text}");
}

#[test]
fn a_page_that_failed_is_named_in_the_record_with_its_secrets_masked() {
    let origin = Origin::start(|r| match r.query("p") {
        None | Some("1") => Reply::ok(r#"{"items":[1],"next":"?p=2&api_key=canary"}"#),
        _ => Reply::status(404),
    });
    let job =
        Job::pages(&origin.url("/list"), "json:.next").set("extract.rows", "\"json:.items[]\"").set("extract.fields", "{ n = \"json:.\" }");
    job.run().expect(1);
    let message = job.skipped()[0].text("message");
    assert!(message.starts_with(&format!("page {}", origin.url("/list?p=2"))) && message.contains("404"), "{message}");
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn a_robots_txt_that_fails_until_its_host_is_given_up_is_the_reason_that_is_told() {
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(503) } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a")]).set("request.robots", "\"obey\"").set("retry.host_give_up", "\"1s\"");
    let run = job.run().expect(1);
    let message = job.skipped()[0].text("message");
    assert_eq!(job.skipped()[0].text("reason"), "host-unreachable");
    assert!(message.contains("robots.txt") && message.contains("answered 503") && message.contains("for 1s"), "{message}");
    assert!(run.err.contains("gave no robots.txt for 1s") && run.err.contains("its robots.txt"), "{}", run.err);
}

#[test]
fn a_variable_that_is_no_setting_is_told_with_the_nearest_and_a_secret_is_not() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let job =
        Job::over([origin.url("/a")]).set("request.headers", "{ X-Key = \"${env:GLEANER_MY_KEY}\" }").set("auth.hosts", "[\"127.0.0.1\"]");
    let run = job.run().env("GLEANER_MY_KEY", "k").env("GLEANER_LIMITS_WORKERS", "3").env("GLEANER_LIMTS__DELAY", "1s").expect(0);
    let told: Vec<&str> = run.err.lines().filter(|l| l.contains("is no setting")).collect();
    assert!(told.len() == 2 && told.iter().all(|l| l.starts_with("warning: ")), "{}", run.err);
    assert!(run.err.contains("GLEANER_LIMITS__WORKERS?") && run.err.contains("GLEANER_LIMITS__DELAY?"), "{}", run.err);
}

#[test]
fn stats_into_a_folder_are_refused_before_the_run() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let dir = tempfile::tempdir().unwrap();
    let run = Gleaner::new(["fetch", &origin.url("/a"), "--stats"]).arg(dir.path()).expect(74);
    assert!(origin.arrivals() == 0 && run.err.contains("directory"), "{}", run.err);
}

#[test]
fn a_demo_that_was_stopped_starts_over_with_fresh_and_its_figures_are_of_both_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let live = Gleaner::new(["demo"]).home(dir.path()).spawn();
    assert!(wait_until(Duration::from_secs(20), || dir.path().join("gleaner-demo/crawl/results.csv").exists()));
    std::thread::sleep(ms(700));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(20)).assert_code(130);
    let stats = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(dir.path().join("s.json")).unwrap()).unwrap() };
    Gleaner::new(["demo", "--fresh", "--stats", "s.json"]).home(dir.path()).expect(0);
    let whole = stats();
    assert!(whole["crawl"]["requests"].as_u64() > Some(100) && whole["api"]["rows"] == 300, "{whole}");
    assert_eq!(whole["crawl"]["finish"], "done");
}

#[test]
fn what_was_still_connecting_at_ctrl_c_was_no_request_and_is_pending_whatever_its_method() {
    // The kernel takes the connection, nobody answers its handshake.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let job = Job::over([format!("https://{}/", silent.local_addr().unwrap())]).set("request.method", "\"POST\"");
    let live = job.run().spawn();
    let (_connection, _) = silent.accept().unwrap();
    std::thread::sleep(ms(300));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(15)).assert_code(130);
    let stats = job.stats();
    assert_eq!((stats["requests"].as_u64(), stats["pending"].as_u64()), (Some(0), Some(1)), "{stats}");
}
