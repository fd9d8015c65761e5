//! Holds: a server that asks for less is left alone as long as it asked, as a whole key, and nobody else notices.

use crate::support::origin::wait_until;
use crate::support::{Job, Origin, Reply, Req, ms, page};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long after a refusal was written requests may still arrive that were on their way.
const ON_THE_WAY: Duration = ms(500);

/// Refuses the `at`-th request of each address with what `dialect` says, and remembers when.
struct Refuser {
    at: usize,
    served: Mutex<HashMap<IpAddr, usize>>,
    refused: Mutex<HashMap<IpAddr, Instant>>,
}

impl Refuser {
    fn new(at: usize) -> Arc<Self> {
        Arc::new(Self { at, served: Mutex::default(), refused: Mutex::default() })
    }

    fn answer(&self, r: &Req, dialect: impl FnOnce() -> Reply) -> Reply {
        let n = {
            let mut served = self.served.lock().unwrap();
            let n = served.entry(r.ip).or_insert(0);
            *n += 1;
            *n
        };
        if n == self.at {
            self.refused.lock().unwrap().insert(r.ip, Instant::now());
            return dialect();
        }
        Reply::ok(page("x")).after(ms(10))
    }

    fn when(&self, ip: IpAddr) -> Option<Instant> {
        self.refused.lock().unwrap().get(&ip).copied()
    }
}

fn epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn date(at: Duration) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + at)
}

const TWO: Duration = Duration::from_secs(2);

type Dialect = (&'static str, fn() -> Reply);

/// Each asks for a hold of two seconds at least.
const DIALECTS: &[Dialect] = &[
    ("seconds", || Reply::status(429).header("Retry-After", "2")),
    ("a fraction", || Reply::status(429).header("Retry-After", "2.0")),
    ("units", || Reply::status(429).header("Retry-After", "0m2s")),
    ("milliseconds with unit", || Reply::status(429).header("Retry-After", "2000ms")),
    ("retry-after-ms", || Reply::status(429).header("retry-after-ms", "2000")),
    ("a date", || Reply::status(429).header("Date", &date(epoch())).header("Retry-After", &date(epoch() + ms(3000)))),
    ("a date of a server an hour ahead", || {
        let ahead = epoch() + ms(3_600_000);
        Reply::status(429).header("Date", &date(ahead)).header("Retry-After", &date(ahead + ms(3000)))
    }),
    ("epoch seconds", || {
        let reset = (epoch() + ms(3000)).as_secs().to_string();
        Reply::status(429).header("Date", &date(epoch())).header("X-RateLimit-Remaining", "0").header("X-RateLimit-Reset", &reset)
    }),
    ("epoch milliseconds", || {
        let reset = (epoch() + ms(3000)).as_millis().to_string();
        Reply::status(429).header("Date", &date(epoch())).header("x-rate-limit-reset", &reset)
    }),
    ("a delta", || Reply::status(429).header("RateLimit-Remaining", "0").header("RateLimit-Reset", "2")),
    ("the greater of two", || Reply::status(429).header("Retry-After", "1").header("retry-after-ms", "2000")),
    ("503 with Retry-After", || Reply::status(503).header("Retry-After", "2")),
    ("413 with Retry-After", || Reply::status(413).header("Retry-After", "2")),
    ("403 with nothing left", || Reply::status(403).header("X-RateLimit-Remaining", "0").header("Retry-After", "2")),
    ("403 with Retry-After", || Reply::status(403).header("Retry-After", "2")),
];

#[test]
fn every_dialect_holds_its_whole_key_and_costs_no_attempt() {
    let refuser = Refuser::new(6);
    let script = Arc::clone(&refuser);
    let origin = Origin::on(u8::try_from(DIALECTS.len()).unwrap(), move |r| {
        let k: usize = r.path()[1..].split('/').next().unwrap().parse().unwrap();
        script.answer(r, DIALECTS[k].1)
    });
    let mut urls = Vec::new();
    for i in 0..24 {
        urls.extend((0..DIALECTS.len()).map(|k| origin.url_at(k + 1, &format!("/{k}/{i}"))));
    }
    let job = Job::over(&urls).set("limits.per_host", "3").set("limits.workers", "32").set("retry.attempts", "1");
    job.run().expect(0);
    let (results, _) = job.exactly_once(urls.len());
    assert!(results.iter().all(|r| r.number("_attempts") == 1), "a refusal cost an attempt");
    let log = origin.log();
    let mut wrong = Vec::new();
    for (k, (name, _)) in DIALECTS.iter().enumerate() {
        let ip: IpAddr = format!("127.0.1.{}", k + 1).parse().unwrap();
        let refused = refuser.when(ip).unwrap();
        let after: Vec<Duration> = log.iter().filter(|r| r.ip == ip && r.at > refused).map(|r| r.at - refused).collect();
        let early: Vec<&Duration> = after.iter().filter(|d| **d > ON_THE_WAY && **d + ms(1) < TWO).collect();
        let woke = after.iter().find(|d| **d >= TWO);
        if !early.is_empty() {
            wrong.push(format!("{name}: {} requests inside the hold, after {early:?}", early.len()));
        }
        if woke.is_none_or(|d| *d > Duration::from_secs(9)) {
            wrong.push(format!("{name}: woke after {woke:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn junk_in_retry_after_is_no_header_and_never_a_panic() {
    const JUNK: &[&str] = &["inf", "NaN", "-5", "", "soon", "1e400", "0", "99999999999999999999999999999999"];
    let refuser = Refuser::new(2);
    let script = Arc::clone(&refuser);
    let origin = Origin::on(u8::try_from(JUNK.len()).unwrap(), move |r| {
        let k: usize = r.path()[1..].split('/').next().unwrap().parse().unwrap();
        script.answer(r, || Reply::status(429).header("Retry-After", JUNK[k]))
    });
    // the last value is a number: a hold without end, which only max_wait answers
    let urls: Vec<String> =
        (0..JUNK.len() - 1).flat_map(|k| (0..4).map(move |i| (k, i))).map(|(k, i)| origin.url_at(k + 1, &format!("/{k}/{i}"))).collect();
    let job = Job::over(&urls).set("limits.per_host", "1");
    job.run().expect(0);
    job.exactly_once(urls.len());
    for (k, junk) in JUNK[..JUNK.len() - 1].iter().enumerate() {
        let ip: IpAddr = format!("127.0.1.{}", k + 1).parse().unwrap();
        let refused = refuser.when(ip).unwrap();
        let next = origin.log().iter().filter(|r| r.ip == ip && r.at > refused).map(|r| r.at - refused).min().unwrap();
        assert!(next >= ms(245), "Retry-After: {junk:?} was answered after {next:?}");
    }
}

#[test]
fn other_hosts_are_not_slowed_while_one_is_held() {
    let refuser = Refuser::new(1);
    let script = Arc::clone(&refuser);
    let origin = Origin::on(2, move |r| {
        if r.path().starts_with("/held") {
            script.answer(r, || Reply::status(429).header("Retry-After", "20"))
        } else {
            Reply::ok(page("x")).after(ms(40))
        }
    });
    // 10,000 entries of the held host stand before the others; the run is ended when the others are through
    let mut urls: Vec<String> = (0..10_000).map(|i| origin.url_at(1, &format!("/held/{i}"))).collect();
    urls.extend((0..400).map(|i| origin.url_at(2, &format!("/free/{i}"))));
    let job = Job::over(&urls).set("limits.workers", "12").set("limits.per_host", "8");
    let live = job.run().spawn();
    let free = || origin.log().iter().filter(|r| r.path().starts_with("/free")).map(|r| r.at).collect::<Vec<_>>();
    assert!(wait_until(Duration::from_secs(60), || free().len() == 400), "{} of 400 others", free().len());
    drop(live);
    let refused = refuser.when("127.0.1.1".parse().unwrap()).unwrap();
    let held =
        origin.log().iter().filter(|r| r.path().starts_with("/held") && r.at > refused + ON_THE_WAY && r.at < refused + ms(20_000)).count();
    assert_eq!(held, 0, "requests inside the hold");
    let last = *free().iter().max().unwrap();
    assert!(last < refused + ms(15_000), "the others needed {:?}, two seconds were enough without the held host", last - refused);
}

#[test]
fn a_hold_survives_kill_minus_nine() {
    let refuser = Refuser::new(5);
    let script = Arc::clone(&refuser);
    let origin = Origin::start(move |r| script.answer(r, || Reply::status(429).header("Retry-After", "4")));
    let job = Job::over((0..40).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "2");
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    let live = job.run().spawn();
    assert!(wait_until(Duration::from_secs(20), || refuser.when(ip).is_some()));
    std::thread::sleep(ms(1200));
    live.kill9();
    let refused = refuser.when(ip).unwrap();
    job.run().expect(0);
    job.exactly_once(40);
    let early: Vec<Duration> =
        origin.log().iter().filter(|r| r.at > refused + ON_THE_WAY && r.at < refused + ms(3999)).map(|r| r.at - refused).collect();
    assert!(early.is_empty(), "asked {early:?} after a refusal for 4 s");
}

#[test]
fn when_only_longer_holds_are_left_the_run_ends_at_once_and_says_when() {
    let origin = Origin::on(2, |r| match r.path() {
        p if p.starts_with("/held") => Reply::status(429).header("Retry-After", "7200"),
        _ => Reply::ok(page("x")),
    });
    let mut urls: Vec<String> = (0..5).map(|i| origin.url_at(1, &format!("/held/{i}"))).collect();
    urls.extend((0..5).map(|i| origin.url_at(2, &format!("/free/{i}"))));
    let job = Job::over(&urls).set("limits.max_wait", "\"1h\"");
    let run = job.run().expect(75);
    assert!(run.took < Duration::from_secs(20), "{:?}", run.took);
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["pending"].as_u64(), &stats["finish"]), (Some(5), Some(5), &"deferred".into()), "{stats}");
    let when = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d").unwrap();
    assert!(when.is_match(&run.err), "no time is told: {}", run.err);
    // and again: the hold is known, nothing is sent
    let before = origin.arrivals();
    job.run().expect(75);
    assert_eq!(origin.arrivals(), before, "a held host was asked again");
}

#[test]
fn max_wait_ends_a_key_that_gives_nothing_but_refusals() {
    let origin = Origin::start(|_| Reply::status(429).header("Retry-After", "1"));
    let job = Job::over((0..5).map(|i| origin.url(&format!("/{i}")))).set("limits.max_wait", "\"3s\"");
    let run = job.run().expect(75);
    assert!(run.took < Duration::from_secs(30), "{:?}", run.took);
    let stats = job.stats();
    assert_eq!((stats["pending"].as_u64(), stats["skipped"].as_u64()), (Some(5), Some(0)), "{stats}");
}

#[test]
fn an_entry_that_alone_is_refused_is_skipped_and_the_run_ends() {
    let origin = Origin::start(|r| {
        if r.path() == "/poison" { Reply::status(429).header("Retry-After", "0.3") } else { Reply::ok(page("x")).after(ms(15)) }
    });
    let mut urls = vec![origin.url("/poison")];
    urls.extend((0..900).map(|i| origin.url(&format!("/{i}"))));
    let job = Job::over(&urls).set("limits.per_host", "2");
    let run = job.run().expect(1);
    let (results, skipped) = job.exactly_once(901);
    assert_eq!((results.len(), skipped.len()), (900, 1), "{}", run.err);
    assert_eq!(skipped[0].text("reason"), "http-429");
    let asked = origin.at_path("/poison").len();
    assert!((5..=8).contains(&asked), "asked {asked} times");
    assert!(skipped[0].attempts().iter().all(|a| a["charged"] == false), "{:?}", skipped[0].attempts());
}

#[test]
fn a_later_refusal_of_the_same_event_moves_the_hold_and_never_back() {
    // eight in flight at once, all refused: the one that asks for most counts
    let origin = Origin::start(|r| {
        if r.n < 8 {
            let wait = if r.n == 0 { "3" } else { "1" };
            Reply::status(429).header("Retry-After", wait).after(ms(if r.n == 0 { 200 } else { 300 }))
        } else {
            Reply::ok(page("x"))
        }
    });
    let job = Job::over((0..20).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "8").set("limits.workers", "8");
    job.run().expect(0);
    let log = origin.log();
    let held_from = log[0].at + ms(200);
    let next = log.iter().filter(|r| r.n >= 8).map(|r| r.at).min().unwrap();
    assert!(next >= held_from + ms(2990), "woke {:?} after a hold of 3 s began", next - held_from);
}

#[test]
fn a_burst_of_refusals_is_one_event() {
    let origin = Origin::start(|r| if r.n < 8 { Reply::status(429).after(ms(100)) } else { Reply::ok(page("x")) });
    let job = Job::over((0..20).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "8").set("limits.workers", "8");
    let events = job.path("events.jsonl");
    job.run().arg("--events").arg(&events).expect(0);
    let log = origin.log();
    let next = log.iter().filter(|r| r.n >= 8).map(|r| r.at).min().unwrap() - log[7].at;
    // own backoff: equal jitter of 2 s, so 1 to 2 s; eight doublings would be minutes
    assert!(next > ms(900) && next < ms(8000), "woke after {next:?}");
    let text = std::fs::read_to_string(events).unwrap();
    assert_eq!(text.lines().filter(|l| l.contains("\"hold-began\"")).count(), 1, "one event, told once");
}

#[test]
fn a_job_wide_key_holds_every_host() {
    let refuser = Refuser::new(5);
    let script = Arc::clone(&refuser);
    let origin = Origin::on(2, move |r| {
        if r.path().starts_with("/a") {
            script.answer(r, || Reply::status(429).header("Retry-After", "2"))
        } else {
            Reply::ok(page("x")).after(ms(30))
        }
    });
    let urls: Vec<String> = (0..60).flat_map(|i| [origin.url_at(1, &format!("/a/{i}")), origin.url_at(2, &format!("/b/{i}"))]).collect();
    let job = Job::over(&urls).set("limits.key", "\"job\"").set("limits.per_host", "2");
    job.run().expect(0);
    let refused = refuser.when("127.0.1.1".parse().unwrap()).unwrap();
    let early = origin.log().iter().filter(|r| r.at > refused + ON_THE_WAY && r.at < refused + ms(1999)).count();
    assert_eq!(early, 0);
}

#[test]
fn rates_pace_every_request_in_every_window() {
    let origin = Origin::start(|r| if r.path() == "/flaky" && r.nth < 3 { Reply::status(500) } else { Reply::ok(page("x")) });
    let mut urls = vec![origin.url("/flaky")];
    urls.extend((0..40).map(|i| origin.url(&format!("/{i}"))));
    let job = Job::over(&urls).set("limits.rate", r#"["10/second"]"#).set("limits.burst", "2");
    job.run().expect(0);
    let mut at: Vec<Instant> = origin.log().iter().map(|r| r.at).collect();
    at.sort();
    assert_eq!(at.len(), 43);
    for w in at.windows(11) {
        let span = w[10] - w[0];
        assert!(span >= ms(930), "11 requests within {span:?}");
    }
}

#[test]
fn more_held_hosts_than_memory_holds_entries_of_stop_nobody() {
    let origin =
        Origin::start(|r| if r.host().starts_with("held") { Reply::status(429).header("Retry-After", "60") } else { Reply::ok("x") });
    let of = |kind: &str, hosts: usize, each: usize| -> Vec<String> {
        let port = origin.port;
        (0..hosts * each).map(|i| format!("http://{kind}{}.example.com:{port}/{i}", i / each)).collect()
    };
    let job = Job::over(of("held", 160, 100).into_iter().chain(of("free", 20, 100)));
    let live = job.run().args(["--quiet", "--resolve", &format!("*:{}:127.0.0.1", origin.port)]).spawn();
    let free = || origin.log().iter().filter(|r| r.host().starts_with("free")).count();
    assert!(wait_until(Duration::from_secs(30), || free() == 2000), "{} of 2000", free());
    let held = origin.log().iter().filter(|r| r.host().starts_with("held")).count();
    assert!(held <= 160 * 8, "{held} requests to 160 held hosts");
    drop(live);
}

#[test]
fn a_refusal_that_names_an_unknown_resource_holds_the_whole_key_also_after_a_kill() {
    let origin = Origin::start(|_| Reply::status(429).header("Retry-After", "20").header("X-RateLimit-Resource", "core"));
    let job = Job::over((0..60).map(|i| origin.url(&format!("/x{i}/a"))));
    let live = job.run().arg("--quiet").spawn();
    assert!(wait_until(Duration::from_secs(10), || origin.arrivals() > 0));
    std::thread::sleep(ms(1500));
    live.kill9();
    let first = origin.arrivals();
    assert!(first <= 8, "{first} requests into a hold");
    let live = job.run().arg("--quiet").spawn();
    std::thread::sleep(ms(2000));
    live.kill9();
    assert_eq!(origin.arrivals(), first, "the hold stands after a restart");
}

#[test]
fn what_a_named_limit_holds_back_does_not_hold_its_hosts_other_requests() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let paths = (0..20).map(|i| format!("/search/{i}")).chain((0..200).map(|i| format!("/core/{i}")));
    let job = Job::over(paths.map(|p| origin.url(&p)));
    let text = std::fs::read_to_string(job.write()).unwrap()
        + "[[limit]]\nname = \"search\"\nmatch = { path = \"/search/**\" }\nrate = \"1/2s\"\n";
    job.file("limited.toml", text);
    let live = crate::support::Gleaner::new(["run", "limited.toml", "--quiet"]).home(job.dir()).spawn();
    let core = || origin.log().iter().filter(|r| r.path().starts_with("/core")).count();
    let all = wait_until(Duration::from_secs(8), || core() == 200);
    let searches = origin.log().len() - core();
    live.kill9();
    assert!(all && searches < 8, "{} of 200, {searches} searches", core());
}

#[test]
fn more_held_hosts_than_fit_into_memory_hold_no_other_back_and_come_when_due() {
    const HOLD: Duration = Duration::from_secs(8);
    let origin = Origin::start(|r| {
        let refused = r.host().starts_with("held") && r.path() == "/0" && r.nth == 1;
        if refused { Reply::status(429).header("Retry-After", "8") } else { Reply::ok(page("x")) }
    });
    let url = |host: String, path: usize| format!("http://{host}.test:{}/{path}", origin.port);
    let held = (0..400).flat_map(|i| (0..2).map(move |path| (format!("held{i}"), path)));
    let urls: Vec<String> = held.chain((0..40).map(|i| (format!("good{i}"), 0))).map(|(host, path)| url(host, path)).collect();
    let job = Job::over(&urls).set("limits.per_host", "1");
    let resolve = format!("*:{}:127.0.0.1", origin.port);
    job.run().args(["--quiet", "--resolve", &resolve]).env("GLEANER_TEST_IN_MEMORY", "256").expect(0);
    assert_eq!(job.exactly_once(840).0.len(), 840);
    let (mut first, mut second, mut good) = (HashMap::new(), HashMap::new(), Vec::new());
    for r in origin.log() {
        let host = r.host().to_owned();
        if host.starts_with("good") {
            good.push(r.at);
        } else if let Some(before) = first.get(&host) {
            second.entry(host).or_insert(r.at - *before);
        } else {
            first.insert(host, r.at);
        }
    }
    let start = *first.values().min().unwrap();
    let last = *good.iter().max().unwrap();
    assert!(last - start < HOLD, "the others waited for held hosts: {:?}", last - start);
    let (soonest, latest) = (second.values().min().unwrap(), second.values().max().unwrap());
    assert_eq!(second.len(), 400);
    assert!(*soonest >= HOLD && *latest < HOLD + Duration::from_secs(8), "{soonest:?} to {latest:?} after the refusal");
}
