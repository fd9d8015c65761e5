//! The same command goes on: after Ctrl-C, after a change of list or sink, beside a second process, or from the start.

use crate::support::origin::wait_until;
use crate::support::{Gleaner, Job, Origin, Reply, ms, page};
use rustix::process::Signal;
use std::io::Write as _;
use std::time::{Duration, Instant};

fn site() -> Origin {
    Origin::start(|r| if r.path().starts_with("/hang") { Reply::hang() } else { Reply::ok(page(r.path())) })
}

/// A job of 20 pages of which one hangs, stopped by Ctrl-C once the others are in the sink.
fn stopped(origin: &Origin, results: &str) -> Job {
    let mut urls: Vec<String> = (0..19).map(|i| origin.url(&format!("/{i}"))).collect();
    urls.push(origin.url("/hang"));
    let job = Job::over(&urls).outputs(results, "skipped.jsonl");
    let live = job.run().spawn();
    assert!(origin.wait_for(20, Duration::from_secs(20)));
    std::thread::sleep(ms(900));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(10)).assert_code(130);
    assert_eq!(job.results().len(), 19);
    job
}

#[test]
fn ctrl_c_stops_within_a_second_though_requests_hang() {
    let origin = Origin::start(|r| if r.path().starts_with("/hang") { Reply::hang() } else { Reply::ok(page("x")).after(ms(5)) });
    let urls: Vec<String> = (0..600).map(|i| origin.url(&format!("/{}/{i}", if i % 100 == 7 { "hang" } else { "ok" }))).collect();
    let job = Job::over(&urls);
    let live = job.run().spawn();
    assert!(origin.wait_for(300, Duration::from_secs(30)));
    let asked = Instant::now();
    live.signal(Signal::INT);
    let run = live.wait(Duration::from_secs(10));
    let took = asked.elapsed();
    run.assert_code(130);
    assert!(took < Duration::from_secs(1), "{took:?} to stop");
    let (results, skipped) = (job.results(), job.skipped());
    assert!(skipped.is_empty(), "work in flight is handed back, not skipped");
    assert_eq!(job.stats()["results"].as_u64(), Some(results.len() as u64));
}

#[test]
fn a_post_in_flight_at_ctrl_c_is_not_sent_again() {
    let origin = Origin::start(|r| match r.path() {
        "/hang" | "/end/hang" => Reply::hang(),
        "/moved" => Reply::redirect(303, "/end/hang"),
        "/large" => Reply::ok("x".repeat(2 << 20)).after(ms(5)),
        _ => Reply::ok(page("x")),
    });
    let job = Job::over(["/hang", "/moved", "/large", "/a"].map(|p| origin.url(p)))
        .set("request.method", "\"POST\"")
        .set("request.body", "\"order\"");
    let live = job.run().spawn();
    assert!(wait_until(Duration::from_secs(20), || origin.arrivals() == 5));
    std::thread::sleep(ms(900));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(10)).assert_code(130);
    assert_eq!(job.fates(), ["/hang", "/moved"].map(|p| (origin.url(p), ("maybe-sent".to_owned(), 1))).into());
    assert_eq!(job.results().len(), 2, "{:?}", job.fates());
    job.run().expect(1);
    assert_eq!(origin.arrivals(), 5, "nothing is sent again");
    job.exactly_once(4);
    // what may be repeated is
    let job = Job::over([origin.url("/hang")]).set("request.method", "\"POST\"").set("request.idempotent", "true");
    let live = job.run().spawn();
    assert!(wait_until(Duration::from_secs(20), || origin.arrivals() == 6));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(10)).assert_code(130);
    assert_eq!((job.skipped().len(), job.stats()["pending"].as_u64()), (0, Some(1)));
}

#[test]
fn a_post_that_a_stop_finds_between_two_hops_is_not_sent_again() {
    let origin = Origin::start(|r| match r.path() {
        "/moved" => Reply::redirect(303, "/done"),
        _ => Reply::ok(page("x")),
    });
    let job =
        Job::over([origin.url("/moved")]).set("request.method", "\"POST\"").set("request.body", "\"order\"").set("stop.requests", "1");
    job.run().expect(1);
    assert_eq!(job.fates(), [(origin.url("/moved"), ("maybe-sent".to_owned(), 1))].into());
    job.run().expect(1);
    assert_eq!(origin.arrivals(), 1, "nothing is sent again");
    job.exactly_once(1);
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let origin = site();
    let job = Job::over([origin.url("/hang")]);
    let live = job.run().spawn();
    assert!(origin.wait_for(1, Duration::from_secs(20)));
    live.signal(Signal::INT);
    live.signal(Signal::INT);
    let run = live.wait(Duration::from_secs(5));
    assert!(matches!(run.code, Some(130) | None), "{run:?}");
}

#[test]
fn a_resume_asks_only_for_what_is_left_and_says_where_it_stands() {
    let origin = site();
    let job = stopped(&origin, "results.csv");
    let before = origin.arrivals();
    let live = job.run().spawn();
    assert!(wait_until(Duration::from_secs(20), || origin.arrivals() > before));
    std::thread::sleep(ms(300));
    let err = live.stderr();
    live.kill9();
    assert_eq!(origin.arrivals(), before + 1, "only the page that hung is asked again");
    let first = err.lines().next().unwrap_or("");
    assert!(first.contains("19") && first.contains('1'), "the first line of a resume says done and pending: {err}");
}

#[test]
fn a_second_process_on_the_same_job_ends_with_73_and_touches_nothing() {
    let origin = site();
    let job = Job::over([origin.url("/a"), origin.url("/hang")]);
    let live = job.run().spawn();
    assert!(origin.wait_for(2, Duration::from_secs(20)));
    std::thread::sleep(ms(500));
    let second = job.run().expect(73);
    assert!(second.took < Duration::from_secs(5));
    assert!(second.err.contains(&live.pid().to_string()), "names the owner's pid: {}", second.err);
    assert_eq!(origin.arrivals(), 2);
    // another job on the same sink
    let other = job.file("other.toml", std::fs::read_to_string(job.path("job.toml")).unwrap().replace("\"job\"", "\"other\""));
    let third = Gleaner::new(["run"]).arg(other).home(job.dir()).expect(73);
    assert!(third.err.contains(&live.pid().to_string()), "names the pid of the sink's owner: {}", third.err);
    assert!(third.err.contains("started 20"), "and since when it runs: {}", third.err);
    // the owner's death frees it
    live.kill9();
    let third = job.run().spawn();
    assert!(origin.wait_for(3, Duration::from_secs(20)), "{}", third.stderr());
}

#[test]
fn a_sink_that_was_deleted_cut_edited_or_grown_is_refused_and_nothing_is_overwritten() {
    for results in ["results.csv", "results.jsonl", "results.jsonl.gz"] {
        for change in ["deleted", "cut", "edited", "grown"] {
            let origin = site();
            let job = stopped(&origin, results);
            let path = job.path(results);
            let whole = std::fs::read(&path).unwrap();
            match change {
                "deleted" => std::fs::remove_file(&path).unwrap(),
                "cut" => std::fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                "edited" => {
                    let mut other = whole.clone();
                    let at = other.len() - 12;
                    other[at] ^= 1;
                    std::fs::write(&path, other).unwrap();
                }
                _ => {
                    let mut f = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
                    f.write_all(b"one more line\n").unwrap();
                }
            }
            let (before, asked) = (std::fs::read(&path).ok(), origin.arrivals());
            let run = job.run().expect(65);
            assert!(run.err.contains(results), "{results} {change}: {}", run.err);
            assert_eq!(std::fs::read(&path).ok(), before, "{results} {change}: bytes are kept");
            assert_eq!(origin.arrivals(), asked, "{results} {change}: nothing is sent");
            assert!(run.err.contains("--fresh"), "{results} {change}: the way on is told: {}", run.err);
        }
    }
}

#[test]
fn a_foreign_file_in_the_sinks_place_is_refused_and_an_empty_one_used() {
    let origin = site();
    let job = Job::over([origin.url("/a")]).outputs("results.csv", "skipped.jsonl");
    job.file("results.csv", "mine,do not touch\n1,2\n");
    let run = job.run().expect(65);
    assert!(run.err.contains("results.csv"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(job.path("results.csv")).unwrap(), "mine,do not touch\n1,2\n");
    assert_eq!(origin.arrivals(), 0);
    let job = Job::over([origin.url("/a")]).outputs("results.csv", "skipped.jsonl");
    job.file("results.csv", "");
    job.run().expect(0);
    job.exactly_once(1);
}

#[test]
fn lines_appended_to_the_list_are_new_inputs() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let job = Job::over((0..5).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(0);
    job.list((0..8).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(0);
    job.exactly_once(8);
    assert_eq!(origin.arrivals(), 8, "what was done is not asked again");
}

#[test]
fn a_list_that_was_shortened_or_changed_is_told_and_nothing_is_overwritten() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    for (what, lines) in [("shortened", &["/0", "/1"][..]), ("changed", &["/0", "/other", "/2", "/3", "/4"]), ("emptied", &[])] {
        let job = Job::over((0..5).map(|i| origin.url(&format!("/{i}"))));
        job.run().expect(0);
        let (before, asked) = (std::fs::read(job.path("results.jsonl")).unwrap(), origin.arrivals());
        job.list(lines.iter().map(|p| origin.url(p)));
        let run = job.run().expect(65);
        assert!(run.err.contains("in.txt"), "{what}: {}", run.err);
        assert_eq!(std::fs::read(job.path("results.jsonl")).unwrap(), before, "{what}");
        assert_eq!(origin.arrivals(), asked, "{what}");
    }
    // a list that was only touched or copied is the same list
    let job = Job::over((0..5).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(0);
    let asked = origin.arrivals();
    job.list((0..5).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(0);
    assert_eq!(origin.arrivals(), asked);
}

#[test]
fn what_a_job_may_not_change_is_named_and_the_rest_may() {
    let origin = site();
    let job = stopped(&origin, "results.csv");
    for (key, value) in [("extract.fields", "{ t = \"css:h1\" }"), ("request.method", "\"POST\""), ("output.meta", "[\"_row\", \"_url\"]")]
    {
        let text = std::fs::read_to_string(job.path("job.toml")).unwrap();
        let (section, name) = key.split_once('.').unwrap();
        let changed = if text.contains(&format!("[{section}]")) {
            text.replace(&format!("[{section}]"), &format!("[{section}]\n{name} = {value}"))
        } else {
            format!("{text}\n[{section}]\n{name} = {value}\n")
        };
        job.file("changed.toml", changed);
        let run = Gleaner::new(["run"]).arg(job.path("changed.toml")).home(job.dir()).expect(65);
        assert!(run.err.contains(section) && run.err.contains("--fresh"), "{key}: {}", run.err);
    }
    let before = origin.arrivals();
    let job = job.set("limits.workers", "2").set("request.timeout", r#"{ first_byte = "400ms" }"#).set("retry.attempts", "1");
    job.run().expect(1);
    assert_eq!(origin.arrivals(), before + 1);
    assert_eq!(job.exactly_once(20).1[0].text("reason"), "first-byte-timeout");
}

#[test]
fn fresh_renames_the_old_outputs_and_starts_over() {
    let origin = Origin::start(|r| if r.path() == "/4" { Reply::status(404) } else { Reply::ok(page(r.path())) });
    let job = Job::over((0..5).map(|i| origin.url(&format!("/{i}"))));
    job.run().expect(1);
    let (old_results, old_skipped) = (std::fs::read(job.path("results.jsonl")).unwrap(), std::fs::read(job.path("skipped.jsonl")).unwrap());
    job.run().args(["--fresh", "--yes"]).expect(1);
    assert_eq!(origin.arrivals(), 10);
    job.exactly_once(5);
    let kept: Vec<Vec<u8>> = std::fs::read_dir(job.dir())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file() && !p.ends_with("results.jsonl") && !p.ends_with("skipped.jsonl"))
        .map(|p| std::fs::read(p).unwrap())
        .collect();
    assert!(kept.contains(&old_results) && kept.contains(&old_skipped), "the old outputs are kept under another name");
}

#[test]
fn a_list_longer_than_the_read_ahead_resumes_in_the_middle() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let job = Job::over((0..30_000).map(|i| origin.url(&format!("/{i}"))));
    let live = job.run().spawn();
    assert!(origin.wait_for(2000, Duration::from_secs(60)));
    live.signal(Signal::TERM);
    live.wait(Duration::from_secs(15)).assert_code(143);
    let stats = job.stats();
    assert!(stats["results"].as_u64().unwrap() < 30_000, "{stats}");
    job.run().expect(0);
    job.exactly_once(30_000);
    assert!(origin.arrivals() <= 30_000 + 128, "{} requests for 30,000 pages", origin.arrivals());
}

#[test]
fn a_job_with_compressed_outputs_ends_without_waiting_for_a_member() {
    let origin = Origin::start(|r| if r.path() == "/7" { Reply::status(404) } else { Reply::ok(page(r.path())) });
    for (results, skipped) in [("results.jsonl.gz", "skipped.jsonl.gz"), ("results.csv.zst", "skipped.jsonl")] {
        let job = Job::over((0..50).map(|i| origin.url(&format!("/{i}")))).outputs(results, skipped);
        let run = job.run().expect(1);
        assert!(run.took < Duration::from_secs(3), "{results}: {:?}", run.took);
        job.exactly_once(50);
    }
}

#[test]
fn a_list_that_grew_does_not_ask_for_robots_txt_again() {
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(404) } else { Reply::ok("x") });
    let job = Job::over([origin.url("/1")]).set("request.robots", "\"obey\"");
    job.run().expect(0);
    job.list([origin.url("/1"), origin.url("/2"), origin.url("/3")]);
    job.run().expect(0);
    let mut asked: Vec<String> = origin.log().iter().map(|r| r.path().to_owned()).collect();
    asked.sort();
    assert_eq!(asked, ["/1", "/2", "/3", "/robots.txt"]);
}
