//! Limits as the server counts them, over kills: no sliding window ever holds more than was allowed.

use crate::support::process::Live;
use crate::support::{Gleaner, Job, Origin, Reply, ms, page};
use std::time::{Duration, Instant};

/// Most arrivals in any window of `per`, and when the first of all was.
fn most_in(origin: &Origin, per: Duration) -> (usize, Vec<Instant>) {
    let mut at: Vec<Instant> = origin.log().iter().map(|r| r.at).collect();
    at.sort();
    let most = (0..at.len()).map(|i| at[i..].iter().take_while(|t| **t - at[i] < per).count()).max().unwrap_or(0);
    (most, at)
}

#[test]
fn no_window_is_passed_though_the_run_is_killed_again_and_again() {
    const LIMIT: usize = 20;
    const PER: Duration = Duration::from_secs(4);
    // Every seventh answer takes its time, so that kills meet requests on the wire.
    let origin = Origin::start(|r| Reply::ok(page(r.path())).after(ms(if r.n % 7 == 3 { 300 } else { 5 })));
    let inputs = 55;
    let job = Job::over((0..inputs).map(|i| origin.url(&format!("/{i}")))).set("limits.rate", r#""20/4s""#).set("limits.burst", "4");
    let began = Instant::now();
    let start = || -> Live { job.run().arg("--quiet").spawn() };

    // The first dies on its first arrivals, before anything of them was committed; the next before it sent anything.
    let first = start();
    assert!(origin.wait_for(4, Duration::from_secs(20)));
    first.kill9();
    let mut kills = 1;
    for life in [30, 700, 1500, 900, 150, 1200, 800, 1400, 20, 1000, 1300] {
        let mut live = start();
        std::thread::sleep(ms(life));
        if live.ended() {
            break;
        }
        live.kill9();
        kills += 1;
    }
    let sent_by_killed = origin.arrivals();
    let killing = began.elapsed();
    job.run().expect(0);
    let (most, at) = most_in(&origin, PER);
    let took = began.elapsed();
    let share = |n: usize, t: Duration| n as f64 * PER.as_secs_f64() / LIMIT as f64 / t.as_secs_f64();
    println!(
        "{kills} kills in {killing:?}: {sent_by_killed} arrivals, {:.2} of the quota; in all {} in {took:?}, {:.2}; at most {most} in 4 s",
        share(sent_by_killed, killing),
        at.len(),
        share(at.len(), took)
    );
    assert!(most <= LIMIT, "{most} arrivals in a window of {PER:?}");
    job.exactly_once(inputs);
    assert!(share(at.len(), took) >= 0.25, "{} arrivals in {took:?}: a limiter that does not send passes every test", at.len());
}

#[test]
fn two_runs_on_one_budget_keep_it_though_one_is_killed_again_and_again() {
    let origin = Origin::start(|_| Reply::ok("x").header("Connection", "close").after(ms(60)));
    let state = tempfile::tempdir().unwrap();
    let over = |name: &str| {
        Job::over((0..2000).map(|i| origin.url(&format!("/{name}/{i}"))))
            .set("limits.rate", "\"20/2s\"")
            .set("limits.budget", "\"shared\"")
            .set("limits.workers", "16")
    };
    let (steady, killed) = (over("a"), over("b"));
    let start = |job: &Job| job.run().arg("--quiet").env("XDG_STATE_HOME", state.path()).spawn();
    let began = Instant::now();
    let live = start(&steady);
    let mut kills = 0;
    while began.elapsed() < Duration::from_secs(16) {
        let other = start(&killed);
        std::thread::sleep(ms(700 + 311 * (kills % 4)));
        other.kill9();
        kills += 1;
    }
    let took = began.elapsed();
    let shown = Gleaner::new(["budget", "show", "shared"]).env("XDG_STATE_HOME", state.path()).expect(0);
    assert!(shown.out.contains(&live.pid().to_string()), "{}", shown.out);
    live.kill9();
    let (most, at) = most_in(&origin, Duration::from_secs(2));
    let of_b = origin.log().iter().filter(|r| r.path().starts_with("/b/")).count();
    let share = at.len() as f64 / (10.0 * took.as_secs_f64());
    eprintln!("{kills} kills, {} arrivals, {of_b} of the killed one, at most {most} in 2 s, {share:.2} of the quota used", at.len());
    assert!(most <= 20, "{most} in a window");
    assert!(share >= 0.25 && of_b > 5, "{share:.2} used, {of_b} of the killed one");
}
