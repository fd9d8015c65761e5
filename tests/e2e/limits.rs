//! Limits as the server counts them: no sliding window ever holds more than was allowed, over kills too; each key of `[limits]`
//! and `[[limit]]` by what it does there.

use crate::support::process::Live;
use crate::support::{Gleaner, Job, Origin, Reply, Req, ms, page};
use std::time::{Duration, Instant};

/// Most arrivals in any window of `per`, and when the first of all was.
fn most_in(origin: &Origin, per: Duration) -> (usize, Vec<Instant>) {
    most_of(origin, per, |_| true)
}

/// The same of those that `counts`.
fn most_of(origin: &Origin, per: Duration, counts: impl Fn(&Req) -> bool) -> (usize, Vec<Instant>) {
    let mut at: Vec<Instant> = origin.log().iter().filter(|r| counts(r)).map(|r| r.at).collect();
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

fn over(origin: &Origin, n: usize) -> Job {
    Job::over((0..n).map(|i| origin.url(&format!("/{i}"))))
}

#[test]
fn jitter_spreads_the_delay_by_half_around_it() {
    let origin = Origin::start(|_| Reply::ok("x"));
    over(&origin, 30).set("limits.delay", "\"120ms\"").set("limits.jitter", "true").run().expect(0);
    let (_, at) = most_in(&origin, ms(1));
    let gaps: Vec<Duration> = at.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|g| *g >= ms(50)), "{gaps:?}");
    assert!(gaps.iter().any(|g| *g < ms(100)) && gaps.iter().any(|g| *g > ms(140)), "{gaps:?}");
}

#[test]
fn a_reserve_leaves_its_share_of_the_rate_to_others() {
    let origin = Origin::start(|_| Reply::ok("x"));
    over(&origin, 14).set("limits.rate", "\"10/1500ms\"").set("limits.reserve", "\"50%\"").set("limits.burst", "4").run().expect(0);
    let (most, at) = most_in(&origin, ms(1500));
    assert!(at.len() == 14 && most <= 5, "{most} of 10");
}

#[test]
fn an_arrival_ends_the_wait_for_slow_answers() {
    let origin = Origin::start(|_| Reply::ok("x").after(ms(4000)));
    let job = over(&origin, 12).set("limits.rate", "\"4/1s\"").set("limits.per_host", "12");
    job.set("limits.arrival", "\"200ms\"").run().expect(0);
    let (most, at) = most_in(&origin, ms(990));
    assert!(most <= 4 && at[11] - at[0] < ms(6500), "{most} in a window, all within {:?}", at[11] - at[0]);
}

#[test]
fn nothing_is_sent_out_of_hours() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let minute = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60 % 1440;
    let hours = |in_hours: u64| {
        let time = |h: u64| (minute + 60 * h) % 1440;
        let (from, until) = (time(in_hours), time(in_hours + 2));
        format!("\"{:02}:{:02}-{:02}:{:02} UTC\"", from / 60, from % 60, until / 60, until % 60)
    };
    let job = over(&origin, 3).set("limits.max_wait", "\"2s\"").set("limits.hours", &hours(3));
    let run = job.run().expect(75);
    assert_eq!((origin.arrivals(), job.stats()["pending"].as_u64()), (0, Some(3)));
    assert!(run.err.contains("hours"), "{}", run.err);
    job.set("limits.hours", &hours(23)).run().expect(0);
    assert_eq!(origin.arrivals(), 3);
}

#[test]
fn a_refused_key_learns_a_lower_rate_unless_adapt_is_off() {
    let pace = |adapt: &str| {
        let origin = Origin::start(|r| if r.n == 12 { Reply::status(429).header("Retry-After", "1") } else { Reply::ok("x") });
        let job = over(&origin, 36).set("limits.rate", "\"10/1s\"").set("limits.adapt", adapt).set("limits.per_host", "1");
        job.run().expect(0);
        let (_, at) = most_in(&origin, ms(1));
        // The first ones after the hold go one by one.
        (at[36] - at[16]) / 20
    };
    let (adapts, does_not) = (pace("true"), pace("false"));
    assert!(adapts > does_not.mul_f64(1.15), "a request every {adapts:?}, and {does_not:?} without");
}

#[test]
fn a_domain_shares_one_limit() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let urls = (0..5).flat_map(|i| ["a.shop.co.uk", "b.shop.co.uk", "other.co.uk"].map(|h| format!("http://{h}:{}/{i}", origin.port)));
    let job = Job::over(urls).set("limits.rate", "\"4/1s\"").set("limits.burst", "2").set("limits.key", "\"domain\"");
    job.run().args(["--resolve", &format!("*:{}:127.0.0.1", origin.port)]).expect(0);
    let (shop, at) = most_of(&origin, ms(990), |r| r.host().contains("shop."));
    let (all, _) = most_in(&origin, ms(990));
    assert!(at.len() == 10 && shop <= 4 && all > 4, "{shop} and {all}");
}

fn bearer(r: &Req) -> &str {
    r.header("authorization").and_then(|a| a.strip_prefix("Bearer ")).unwrap_or("")
}

#[test]
fn each_token_has_limits_of_its_own_and_one_that_is_refused_fails_no_entry() {
    let origin = Origin::start(|r| if bearer(r) == "bad" { Reply::status(401) } else { Reply::ok("x") });
    let job = over(&origin, 20)
        .set("auth.hosts", &format!("[\"127.0.0.1:{}\"]", origin.port))
        .set("auth.tokens", "[\"${env:A}\", \"${env:B}\", \"${env:C}\"]")
        .set("limits.rate", "\"4/1s\"")
        .set("limits.burst", "2")
        .set("retry.attempts", "1");
    let env = |g: Gleaner| g.env("A", "one").env("B", "bad").env("C", "three");
    let shown = env(Gleaner::new(["check", "--explain"]).arg(job.write()).home(job.dir())).expect(0).out;
    assert!(shown.lines().any(|l| l.starts_with("limits.key = \"credential\"")), "{shown}");
    let run = env(job.run()).expect(0);
    let (results, _) = job.exactly_once(20);
    assert!(results.iter().all(|r| r.number("_attempts") == 1), "a refused token cost an attempt");
    let of = |token: &'static str| most_of(&origin, ms(990), move |r| bearer(r) == token);
    let ((one, a), (three, c), (_, bad)) = (of("one"), of("three"), of("bad"));
    assert!(one <= 4 && three <= 4 && most_in(&origin, ms(990)).0 > 4, "{one} and {three}");
    assert!(a.len() > 5 && c.len() > 5 && (1..=4).contains(&bad.len()), "{} {} {}", a.len(), c.len(), bad.len());
    assert_eq!(run.err.matches("token 2 of [auth] tokens").count(), 1, "{}", run.err);
    let last = origin.log().iter().filter(|r| bearer(r) == "bad").map(|r| r.at).max().unwrap();
    assert!(last - most_in(&origin, ms(1)).1[0] < ms(1000), "it was asked again later");
}

#[test]
fn the_token_with_most_quota_left_goes_next_and_all_refused_ones_fail_the_entry() {
    let origin = Origin::start(|r| {
        let left = if bearer(r) == "poor" { "100" } else { "900" };
        Reply::ok("x").header("RateLimit-Limit", "1000").header("RateLimit-Remaining", left).header("RateLimit-Reset", "600")
    });
    let auth = |job: Job, origin: &Origin| {
        job.set("auth.hosts", &format!("[\"127.0.0.1:{}\"]", origin.port))
            .set("auth.tokens", "[\"poor\", \"rich\"]")
            .set("limits.workers", "1")
    };
    auth(over(&origin, 20), &origin).run().expect(0);
    let of = |token: &str| origin.log().iter().filter(|r| bearer(r) == token).count();
    assert!((1..=2).contains(&of("poor")) && of("rich") >= 18, "{} {}", of("poor"), of("rich"));

    let origin = Origin::start(|_| Reply::status(401));
    let job = auth(over(&origin, 3), &origin);
    job.run().expect(1);
    assert!(job.fates().values().all(|(reason, _)| reason == "auth-required"), "{:?}", job.fates());
}

#[test]
fn further_limits_bind_what_they_match() {
    const SEARCH: &str = "name = \"search\"\nmatch = { path = \"/search/**\" }\nrate = \"3/1s\"\nburst = 2";
    let origin = Origin::start(|r| Reply::ok("x").after(if r.path().starts_with("/slow/") { ms(100) } else { ms(5) }));
    let paths = (0..7).flat_map(|i| ["/search/a", "/slow", "/free"].map(|p| format!("{p}/{i}")));
    let job = Job::over(paths.map(|p| origin.url(&p)))
        .set("limits.per_host", "21")
        .table("limit", SEARCH)
        .table("limit", "name = \"one\"\nmatch = { path = \"/slow/*\", host = \"127.0.0.*\" }\nconcurrency = 1")
        .table("limit", "name = \"posts\"\nmatch = { method = \"POST\" }\nrate = \"1/hour\"");
    job.run().expect(0);
    let (search, at) = most_of(&origin, ms(990), |r| r.path().starts_with("/search/"));
    assert!(at.len() == 7 && search <= 3, "{search}");
    let (_, slow) = most_of(&origin, ms(1), |r| r.path().starts_with("/slow/"));
    assert!(slow.windows(2).all(|w| w[1] - w[0] >= ms(95)), "{slow:?}");
    assert_eq!(most_of(&origin, ms(900), |r| r.path().starts_with("/free/")).0, 7);

    let origin = Origin::start(|_| Reply::ok("x"));
    let heavy = "name = \"points\"\nmatch = { path = \"/heavy/**\" }\nweight = 4\nrate = \"9/1s\"\nburst = 8";
    let paths = (0..4).flat_map(|i| [format!("/heavy/{i}"), format!("/light/{i}")]);
    let job = Job::over(paths.map(|p| origin.url(&p))).table("limit", heavy).table("limit", "name = \"points\"");
    job.run().expect(0);
    let (_, heavy) = most_of(&origin, ms(1), |r| r.path().starts_with("/heavy/"));
    let (_, all) = most_in(&origin, ms(1));
    for start in &all {
        let within = |at: &&Instant| **at >= *start && **at - *start < ms(990);
        let heavy: Vec<Instant> = heavy.iter().filter(within).copied().collect();
        let light = all.iter().filter(within).count() - heavy.len();
        assert!(4 * heavy.len() + light <= 9, "{} heavy and {light} light", heavy.len());
    }
}
