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
    assert!(waits[0].contains("127.0.0.1 for ") && waits[0].contains("1/s"), "{}", waits[0]);
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
    let origin = Origin::start(|r| Reply::ok(format!("<h1>{}{}</h1>", r.path(), "x".repeat(2000))));
    let job = Job::over((0..2000).map(|i| origin.url(&format!("/{i}")))).set("extract.fields", r#"{ t = "css:h1" }"#);
    let run = job.run().shell("ulimit -f 2000").expect(74);
    let account = run.account().expect("an account");
    assert!(!account.contains("= 0 results"), "{account}");
    let after: Vec<&str> = run.err.lines().skip_while(|l| *l != account).skip(1).collect();
    assert!(after.iter().all(|l| l.starts_with("hint: ")) && after.iter().any(|l| l.contains("gleaner run")), "{}", run.err);
    assert_eq!(job.stats()["results"].as_u64().unwrap(), status(&job)["account"]["results"].as_u64().unwrap());
}
