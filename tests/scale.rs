//! What needs the release binary, a quiet machine and minutes: `cargo test --release --test scale -- --ignored --test-threads 1`.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::duration_suboptimal_units,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "tests: they may fail loudly, ask the clock and sleep, and do not use every helper"
)]

#[path = "e2e/support/mod.rs"]
mod support;

use rustix::process::Signal;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::origin::{Setup, wait_until};
use support::process::{Gleaner, Run};
use support::{Job, Origin, Reply, ms};

const LONG: Duration = Duration::from_secs(600);

fn forgetful(addresses: u8) -> Origin {
    Origin::with(Setup { addresses, forget: true, ..Setup::default() }, |r| Reply::ok(format!("<h1>{}</h1>", r.path())))
}

/// A job over `n` addresses, spread over four hosts.
fn list(origin: &Origin, n: usize) -> Job {
    let mut text = String::with_capacity(n * 40);
    for i in 0..n {
        let _ = writeln!(text, "{}", origin.url_at(i % 4 + 1, &format!("/{i}")));
    }
    let job = Job::new().set("extract.fields", r#"{ t = "css:h1" }"#).outputs("results.csv", "skipped.jsonl");
    job.file("in.txt", text);
    job
}

/// Runs to the end; gives the peak of its resident memory in KiB.
fn peak(command: Gleaner) -> (Run, u64) {
    let live = command.spawn();
    let status = format!("/proc/{}/status", live.pid());
    let highest = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&highest);
    let watcher = std::thread::spawn(move || {
        while let Ok(text) = std::fs::read_to_string(&status) {
            let Some(line) = text.lines().find(|l| l.starts_with("VmHWM:")) else { return };
            let kib = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            seen.fetch_max(kib, Ordering::SeqCst);
            std::thread::sleep(ms(20));
        }
    });
    let run = live.wait(LONG);
    let _ = watcher.join();
    (run, highest.load(Ordering::SeqCst))
}

#[test]
#[ignore = "minutes, on the release binary"]
fn memory_does_not_grow_with_the_list() {
    let measure = |n: usize| {
        let origin = forgetful(4);
        let job = list(&origin, n);
        let (run, kib) = peak(job.run().arg("--quiet"));
        run.assert_code(0);
        assert_eq!(job.exactly_once(n).0.len(), n);
        eprintln!("{n} addresses in {:.1} s, peak {} MiB", run.took.as_secs_f64(), kib / 1024);
        kib
    };
    let (small, large) = (measure(20_000), measure(200_000));
    assert!(large < 150 * 1024, "peak {large} KiB at 200,000");
    assert!(large as f64 <= small as f64 * 1.2, "peak {large} KiB at 200,000 is more than 20 % above {small} KiB at 20,000");
}

/// The time from the start of the process to its first request.
fn first_request(origin: &Origin, job: &Job, end: impl FnOnce(support::process::Live)) -> Duration {
    let before = origin.arrivals();
    let start = Instant::now();
    let live = job.run().arg("--quiet").spawn();
    assert!(wait_until(LONG, || origin.arrivals() > before));
    let took = start.elapsed();
    end(live);
    took
}

#[test]
#[ignore = "minutes, on the release binary"]
fn the_first_request_of_a_million_lines_goes_out_within_200_ms() {
    let origin = forgetful(4);
    let kill = |live: support::process::Live| drop(live.kill9());
    let cold = (0..3).map(|_| first_request(&origin, &list(&origin, 1_000_000), kill)).min().unwrap();
    eprintln!("cold: {cold:?}");
    let job = list(&origin, 1_000_000);
    let before = origin.arrivals();
    let live = job.run().arg("--quiet").spawn();
    assert!(origin.wait_for(before + 500_000, LONG), "{} requests", origin.arrivals());
    live.signal(Signal::TERM);
    live.wait(Duration::from_secs(20)).assert_code(143);
    let half = (0..3)
        .map(|_| {
            first_request(&origin, &job, |live| {
                live.signal(Signal::TERM);
                live.wait(Duration::from_secs(20)).assert_code(143);
            })
        })
        .min()
        .unwrap();
    eprintln!("half done: {half:?}");
    let killed: Vec<Duration> = (0..4)
        .map(|_| {
            first_request(&origin, &job, |live| {
                std::thread::sleep(ms(700));
                live.kill9();
            })
        })
        .collect();
    eprintln!("after kill -9: {killed:?}");
    let killed = *killed[1..].iter().min().unwrap();
    for (what, took) in [("cold", cold), ("half done", half), ("after kill -9", killed)] {
        assert!(took < ms(200), "{what}: {took:?}");
    }
}

#[test]
#[ignore = "minutes, on the release binary"]
fn twenty_thousand_hosts_pass_under_1024_descriptors() {
    let origin = Origin::with(Setup { forget: true, ..Setup::default() }, |_| Reply::ok("x").after(ms(5)));
    let job = Job::over((0..20_000).map(|i| format!("http://h{i}.test:{}/x", origin.port)));
    let run =
        job.run().arg("--quiet").args(["--resolve", &format!("*:{}:127.0.0.1", origin.port)]).shell("ulimit -n 1024").spawn().wait(LONG);
    run.assert_code(0);
    assert_eq!(job.exactly_once(20_000).0.len(), 20_000);
    eprintln!("20,000 hosts in {:.1} s, {} connections at most", run.took.as_secs_f64(), origin.max_open());
    assert!(origin.max_open() < 1024);
}

#[test]
#[ignore = "minutes, on the release binary"]
fn two_thousand_hosts_pass_over_http2() {
    let origin = Origin::with(Setup { tls: true, h2: true, forget: true, ..Setup::default() }, |_| Reply::ok("x"));
    let job = Job::over((0..2000).map(|i| format!("https://h{i}.example.com:{}/x", origin.port)));
    let resolve = format!("*:{}:127.0.0.1", origin.port);
    let command = job.run().args(["--resolve", &resolve, "--ca-file"]).arg(origin.ca_file()).shell("ulimit -n 1024");
    command.spawn().wait(LONG).assert_code(0);
    assert_eq!(job.exactly_once(2000).0.len(), 2000);
    assert!(origin.max_open() < 1024, "{} connections at one time", origin.max_open());
}

#[test]
#[ignore = "minutes, on the release binary"]
fn ten_thousand_addresses_pass_under_64_descriptors() {
    let origin = Origin::with(Setup { addresses: 40, forget: true, ..Setup::default() }, |_| Reply::ok("x").after(ms(3)));
    let job = Job::over((0..10_000).map(|i| origin.url_at(i % 40 + 1, &format!("/{i}"))));
    job.run().arg("--quiet").shell("ulimit -n 64").spawn().wait(LONG).assert_code(0);
    let (results, _) = job.exactly_once(10_000);
    assert_eq!(results.len(), 10_000);
    assert!(results.iter().all(|r| r.number("_attempts") == 1), "a shortage of this machine was charged");
    assert!(origin.max_open() < 64, "{} connections at one time", origin.max_open());
}

/// Entries a second of four free hosts, with or without a held host before them.
fn throughput(held: bool) -> f64 {
    let first = AtomicUsize::new(0);
    let origin = Origin::on(5, move |r| {
        if r.path().starts_with("/held") {
            first.fetch_add(1, Ordering::SeqCst);
            return Reply::status(429).header("Retry-After", "60");
        }
        Reply::ok("x").after(ms(30))
    });
    let mut urls: Vec<String> = if held { (0..10_000).map(|i| origin.url_at(1, &format!("/held/{i}"))).collect() } else { Vec::new() };
    urls.extend((0..8000).map(|i| origin.url_at(i % 4 + 2, &format!("/free/{i}"))));
    let job = Job::over(&urls);
    let live = job.run().arg("--quiet").spawn();
    let free = || origin.log().iter().filter(|r| r.path().starts_with("/free")).map(|r| r.at).collect::<Vec<_>>();
    assert!(wait_until(LONG, || origin.arrivals() >= 8000 && free().len() == 8000));
    drop(live);
    let mut at = free();
    at.sort();
    at.len() as f64 / (at[at.len() - 1] - at[0]).as_secs_f64()
}

#[test]
#[ignore = "half a minute, on the release binary and a quiet machine"]
fn a_held_host_costs_the_others_less_than_5_percent() {
    let (alone, beside) = (throughput(false), throughput(true));
    eprintln!("{alone:.0}/s alone, {beside:.0}/s beside a held host");
    assert!(beside >= alone * 0.95);
}
