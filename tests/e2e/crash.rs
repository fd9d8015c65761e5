//! SIGKILL at random moments: whatever was cut off, the outputs in the end are those of a run that never was.

use crate::support::process::Live;
use crate::support::sinks::{exactly_once, parse_csv};
use crate::support::{Job, Origin, Record, Reply, Req, ms, page};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// splitmix64: the kills of a test are the same in every run of it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

fn kind(i: usize) -> &'static str {
    match i {
        700 | 1400 => "dead",
        _ if i.is_multiple_of(10) => "flaky",
        _ if i % 10 == 3 => "gone",
        _ => "ok",
    }
}

fn flaky_site(r: &Req) -> Reply {
    let i = crate::support::number(r.path());
    let delay = ms((r.n as u64 * 7919) % 40);
    let reply = match kind(i) {
        "dead" => Reply::status(500),
        "gone" => Reply::status(404),
        "flaky" if r.nth == 1 => Reply::status(503),
        _ => Reply::ok(page(&format!("Item {i}"))),
    };
    reply.after(delay)
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// Starts the job again and again and kills it, two of three times just after a sink grew, where append and commit meet.
/// Gives the number of kills before it was done.
fn kill_loop(job: &Job, kills: usize, sinks: &[PathBuf], dice: &mut Dice, shortest: u64, longest: u64, broken: &str) -> usize {
    for life in 0..kills {
        let mut live: Live = job.run().arg("--quiet").env("GLEANER_TEST_BREAK", broken).spawn();
        std::thread::sleep(ms(shortest + dice.below(longest - shortest)));
        if life % 3 != 0 {
            let before: Vec<u64> = sinks.iter().map(|p| size(p)).collect();
            let end = Instant::now() + ms(800);
            while Instant::now() < end && !live.ended() && sinks.iter().zip(&before).all(|(p, n)| size(p) == *n) {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(dice.below(6000)));
        }
        if live.ended() {
            let run = live.wait(ms(1000));
            assert!(matches!(run.code, Some(0 | 1)), "life {life} ended by itself: {run:?}");
            return life;
        }
        live.kill9();
    }
    kills
}

fn crash_round(n: usize, kills: usize, results: &str, skipped: &str) {
    crash_round_of(n, kills, results, skipped, "");
}

/// `broken` names a mistake that the debug build makes on purpose.
fn crash_round_of(n: usize, kills: usize, results: &str, skipped: &str, broken: &str) {
    let origin = Origin::start(flaky_site);
    let job = Job::new()
        .set("input.file", "\"in.csv\"")
        .set("extract.fields", r#"{ title = "css:h1" }"#)
        .set("output.flush", "\"500ms\"")
        .outputs(results, skipped);
    let mut list = String::from("url,tag\n");
    for i in 1..=n {
        list.push_str(&format!("{},t{i}\n", origin.url(&format!("/{i}"))));
    }
    job.file("in.csv", list);
    let killed = kill_loop(&job, kills, &[job.path(results), job.path(skipped)], &mut Dice(n as u64), 40, 400, broken);
    assert!(killed >= kills * 3 / 5, "only {killed} kills before it was done");
    job.run().expect(1);
    let (results, skipped) = job.exactly_once(n);
    right_fates(&results, &skipped);
    let asked = origin.arrivals();
    job.run().expect(1);
    assert_eq!(origin.arrivals(), asked, "a finished job run again sends nothing");
}

fn right_fates(results: &[Record], skipped: &[Record]) {
    for r in results {
        let i = r.number("_row") as usize;
        assert!(matches!(kind(i), "ok" | "flaky"), "row {i} is a result");
        assert_eq!((r.text("title"), r.text("tag")), (format!("Item {i}"), format!("t{i}")));
    }
    for r in skipped {
        let i = r.number("_row") as usize;
        let reason = if kind(i) == "dead" { "http-500" } else { "http-404" };
        assert_eq!(r.text("reason"), reason, "row {i}");
        assert_eq!(r.text("tag"), format!("t{i}"));
    }
}

#[test]
fn csv_is_exact_through_25_kills() {
    crash_round(2000, 25, "results.csv", "skipped.csv");
}

/// The control of the tests here: a build that commits before it appends does not get through.
#[cfg(debug_assertions)]
#[test]
fn a_build_that_commits_before_it_appends_is_caught() {
    // A kill has to hit the 30 ms between commit and append; on a busy machine a round may miss them.
    let caught = (0..5).any(|k| {
        let round = std::panic::catch_unwind(|| crash_round_of(2002 + k, 25, "results.csv", "skipped.csv", "commit-first"));
        let said = round.err().and_then(|e| e.downcast_ref::<String>().cloned()).unwrap_or_default();
        said.contains("committed records are gone")
    });
    assert!(caught, "kills of a broken build went unnoticed");
}

#[test]
fn jsonl_is_exact_through_25_kills() {
    crash_round(2001, 25, "results.jsonl", "skipped.jsonl");
}

#[test]
fn gzip_is_exact_through_kills() {
    crash_round(900, 10, "results.csv.gz", "skipped.jsonl.gz");
}

#[test]
fn zstd_is_exact_through_kills() {
    crash_round(901, 8, "results.jsonl.zst", "skipped.csv.zst");
}

const PAGES: usize = 2000;

/// A site of 2,000 pages: each links to its children, to its parent and to strangers.
fn linked_site(r: &Req) -> Reply {
    let i = crate::support::number(r.path());
    if i >= PAGES {
        return Reply::status(404);
    }
    if i % 17 == 5 && r.nth == 1 {
        return Reply::status(503).after(ms(3));
    }
    let links = (1..=8).map(|k| i * 8 + k).filter(|c| *c < PAGES).chain([i / 8, (i * 31 + 7) % PAGES]);
    let links: String = links.map(|c| format!("<a href=\"/p/{c}\">{c}</a> ")).collect();
    Reply::ok(format!("<html><body><h1>Page {i}</h1>{links}</body></html>")).after(ms((r.n as u64 * 31) % 25))
}

#[test]
fn a_crawl_is_exact_through_kills() {
    let origin = Origin::start(linked_site);
    let job = Job::crawl(&origin.url("/p/0"))
        .set("limits.per_host", "8")
        .set("extract.fields", r#"{ title = "css:h1" }"#)
        .outputs("results.csv", "skipped.jsonl");
    let sinks = [job.path("results.csv"), job.path("skipped.jsonl")];
    let killed = kill_loop(&job, 25, &sinks, &mut Dice(3), 40, 400, "");
    assert!(killed >= 12, "only {killed} kills before it was done");
    job.run().expect(0);
    let results = job.results();
    let mut titles: Vec<String> = results.iter().map(|r| r.text("title")).collect();
    titles.sort();
    let mut truth: Vec<String> = (0..PAGES).map(|i| format!("Page {i}")).collect();
    truth.sort();
    assert_eq!(titles, truth);
    assert!(results.iter().all(|r| r.text("_url").ends_with(&r.text("title").replace("Page ", "/"))));
    assert!(job.skipped().is_empty());
    let stats = job.stats();
    assert_eq!((stats["inputs"].as_u64(), stats["discovered"].as_u64(), stats["pending"].as_u64()), (Some(1), Some(1999), Some(0)));
}

const API_PAGES: usize = 300;

fn api(r: &Req) -> Reply {
    let page: usize = r.query("page").and_then(|p| p.parse().ok()).unwrap_or(1);
    if page.is_multiple_of(23) && r.nth == 1 {
        return Reply::status(502);
    }
    let rows: Vec<serde_json::Value> = (0..10).map(|k| serde_json::json!({ "id": (page - 1) * 10 + k })).collect();
    let next = if page < API_PAGES { serde_json::json!(format!("/items?page={}", page + 1)) } else { serde_json::Value::Null };
    Reply::json(&serde_json::json!({ "items": rows, "next": next })).after(ms(12))
}

#[test]
fn a_paged_api_is_exact_through_kills() {
    let origin = Origin::start(api);
    let job = Job::pages(&origin.url("/items?page=1"), "json:.next")
        .set("extract.rows", "\"json:.items[]\"")
        .set("extract.fields", r#"{ id = "json:.id" }"#)
        .outputs("results.csv", "skipped.jsonl");
    let killed = kill_loop(&job, 14, &[job.path("results.csv")], &mut Dice(4), 200, 700, "");
    assert!(killed >= 5, "only {killed} kills before it was done");
    job.run().expect(0);
    let ids: Vec<u64> = job.results().iter().map(|r| r.number("id")).collect();
    let unique: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!((ids.len(), unique.len(), unique.last().copied()), (3000, 3000, Some(2999)));
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["rows"].as_u64(), stats["pending"].as_u64()), (Some(1), Some(3000), Some(0)), "{stats}");
    assert!(origin.arrivals() < API_PAGES + 13 + killed * 60, "{} requests: the cursor was not durable", origin.arrivals());
}

fn copy_dir(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap() {
        let e = e.unwrap();
        if e.file_type().unwrap().is_dir() {
            copy_dir(&e.path(), &to.join(e.file_name()));
        } else {
            std::fs::copy(e.path(), to.join(e.file_name())).unwrap();
        }
    }
}

/// The control: rows that were appended and never committed. The product cuts them; the same rows left in place, as a
/// program without truncation would leave them, must make the checker fail. So must rows committed and never appended.
#[test]
fn rows_beyond_the_mark_are_cut_and_the_checker_knows_when_they_are_not() {
    let n = 800;
    let origin = Origin::start(|r| Reply::ok(page(r.path())).after(ms(25)));
    let job = Job::over((0..n).map(|i| origin.url(&format!("/{i}")))).outputs("results.csv", "skipped.jsonl");
    let (sink, state, kept) = (job.path("results.csv"), job.path(".gleaner"), job.path("kept"));
    let live = |arrivals: usize| {
        let live = job.run().arg("--quiet").spawn();
        assert!(origin.wait_for(arrivals, Duration::from_secs(30)));
        std::thread::sleep(ms(300));
        live.kill9();
    };
    live(150);
    copy_dir(&state, &kept);
    let early = std::fs::read(&sink).unwrap();
    live(500);
    let late = std::fs::read(&sink).unwrap();
    assert!(late.len() > early.len());

    // commit before append: the newer state beside the older sink is refused, nothing is guessed
    std::fs::write(&sink, &early).unwrap();
    job.run().expect(65);
    assert_eq!(std::fs::read(&sink).unwrap(), early);

    // append without commit: the older state beside the newer sink
    std::fs::write(&sink, &late).unwrap();
    copy_dir(&kept, &state);
    job.run().expect(0);
    job.exactly_once(n);

    // the controls
    let finished = std::fs::read(&sink).unwrap();
    let mark = finished.iter().zip(&late).take_while(|(a, b)| a == b).count();
    let mark = finished[..mark].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let not_cut = [&late[..], &finished[mark..]].concat();
    let rows = |bytes: &[u8]| parse_csv(&String::from_utf8_lossy(bytes));
    assert_eq!(rows(&finished).and_then(|r| exactly_once(&r, &[], n)), Ok(()));
    let doubled = rows(&not_cut).and_then(|r| exactly_once(&r, &[], n));
    assert!(doubled.is_err(), "the checker does not see rows that were not cut");
    let not_appended = [&early[..mark.min(early.len()) / 2], b"\n", &finished[mark..]].concat();
    assert!(rows(&not_appended).and_then(|r| exactly_once(&r, &[], n)).is_err(), "the checker does not see rows that are gone");
}
