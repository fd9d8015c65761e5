//! Promise P2 by the server's own log, in real time: `cargo test --test limits -- --ignored`. Two minutes; little CPU.
//!
//! The server stamps what arrives; between it and gleaner stands a forwarder that stalls one connection of a hundred for 0.5 to
//! 3 s before it goes on, and every request comes on a connection of its own. Answers take 0 to 200 ms.
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

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Job, Origin, Reply, ms};

const RUN: Duration = Duration::from_secs(120);

/// The same numbers in every run: in 0.0..1.0.
fn chance(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Forwards connections to `to`; one of a hundred waits first. Gives its port.
fn stalling(to: SocketAddr, seed: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, client) in listener.incoming().flatten().enumerate() {
            std::thread::spawn(move || {
                if chance(seed, 2 * n as u64) < 0.01 {
                    std::thread::sleep(Duration::from_secs_f64(0.5 + 2.5 * chance(seed, 2 * n as u64 + 1)));
                }
                let Ok(server) = TcpStream::connect(to) else { return };
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, into));
                copy(server, client);
            });
        }
    });
    port
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
        && to.write_all(&buffer[..n]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Write);
}

/// Most arrivals in any half-open window.
fn most_in(arrivals: &[Instant], window: Duration) -> usize {
    let (mut first, mut most) = (0, 0);
    for (i, at) in arrivals.iter().enumerate() {
        while arrivals[first] + window <= *at {
            first += 1;
        }
        most = most.max(i + 1 - first);
    }
    most
}

/// Runs for [`RUN`] with these rates; the arrivals in order.
fn arrivals(rates: &str, seed: u64, broken: &str) -> Vec<Instant> {
    let n = AtomicU64::new(0);
    let origin = Origin::start(move |_| {
        let n = n.fetch_add(1, Ordering::SeqCst);
        Reply::ok("x").header("Connection", "close").after(Duration::from_secs_f64(0.2 * chance(!seed, n)))
    });
    let port = stalling(origin.addr(), seed);
    let job = Job::over((0..3000).map(|i| format!("http://127.0.0.1:{port}/{i}")))
        .set("limits.rate", rates)
        .set("limits.workers", "64")
        .set("limits.per_host", "64")
        .set("stop.time", &format!("\"{}s\"", RUN.as_secs()));
    let run = job.run().arg("--quiet").env("GLEANER_TEST_BREAK", broken).spawn().wait(RUN + Duration::from_secs(20));
    assert_eq!(run.code, Some(1), "{}", run.err);
    let mut at: Vec<Instant> = origin.log().iter().map(|r| r.at).collect();
    at.sort();
    at
}

/// Share of the quota that was used after the first window.
fn used(arrivals: &[Instant], count: u32, window: Duration) -> f64 {
    let start = arrivals[0] + window;
    let span = RUN.saturating_sub(window).as_secs_f64();
    let n = arrivals.iter().filter(|a| **a >= start).count();
    n as f64 / (f64::from(count) * span / window.as_secs_f64())
}

const TEN_SECONDS: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "two minutes"]
fn fifty_in_ten_seconds_is_never_passed_and_nearly_used() {
    let at = arrivals("\"50/10s\"", 1, "");
    let (most, used) = (most_in(&at, TEN_SECONDS), used(&at, 50, TEN_SECONDS));
    eprintln!("50/10s: {} arrivals, at most {most} in a window, {used:.3} of the quota used", at.len());
    assert!(most <= 50 && used >= 0.93, "{most} in a window, {used:.3} used");
}

#[test]
#[ignore = "two minutes"]
fn ten_a_second_is_never_passed_and_mostly_used() {
    let at = arrivals("\"10/1s\"", 2, "");
    let (most, used) = (most_in(&at, SECOND), used(&at, 10, SECOND));
    eprintln!("10/1s: {} arrivals, at most {most} in a window, {used:.3} of the quota used", at.len());
    assert!(most <= 10 && used >= 0.80, "{most} in a window, {used:.3} used");
}

#[test]
#[ignore = "two minutes"]
fn both_together_are_never_passed() {
    let at = arrivals("[\"50/10s\", \"10/1s\"]", 3, "");
    let (small, large, used) = (most_in(&at, SECOND), most_in(&at, TEN_SECONDS), used(&at, 50, TEN_SECONDS));
    eprintln!("both: {} arrivals, at most {small} in 1 s and {large} in 10 s, {used:.3} of 50/10s used", at.len());
    assert!(small <= 10 && large <= 50 && used >= 0.93, "{small} in 1 s, {large} in 10 s, {used:.3} used");
}

/// The control: a guard that counts at the send decision is seen by the same server.
#[test]
#[ignore = "two minutes"]
fn a_guard_that_counts_at_send_is_seen() {
    if std::env::var_os("GLEANER_BIN").is_some() {
        return;
    }
    let over: usize = std::thread::scope(|s| {
        let runs: Vec<_> = (4..8).map(|seed| s.spawn(move || most_in(&arrivals("\"10/1s\"", seed, "count-at-send"), SECOND))).collect();
        runs.into_iter().map(|r| usize::from(r.join().unwrap() > 10)).sum()
    });
    eprintln!("counting at send: {over} of 4 runs passed the limit");
    assert!(over > 0, "the server saw nothing wrong");
}
