//! The decider in exact numbers.

use super::load::{Class, Load, Server};
use super::outlook::{By, Caps, Cause, Ended, Held, Outlook, Scenario, further, outlook};
use crate::clock::Wall;
use crate::limit::{About, Hours, Limits};
use crate::model::plan::{self, LimitKeyKind, LimitPlan, LimitsPlan};
use crate::model::{HostKey, Rate, parse_rate};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn secs(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn rate(text: &str) -> Rate {
    parse_rate(text).unwrap()
}

fn limits(rates: &[&str]) -> LimitsPlan {
    LimitsPlan { rates: rates.iter().map(|r| rate(r)).collect(), per_host: 64, ..LimitsPlan::default() }
}

/// One server with so many requests for each path.
fn server(plan: &LimitsPlan, host: &str, requests: &[(&str, u64)], tokens: usize) -> Server {
    let limits = Limits::new(plan, &[]);
    let key = HostKey::from_stored(&format!("https://{host}"));
    let claims = |path: &str, token| limits.claims(&About { host: &key, method: "GET", path, token });
    let class = |(path, n): &(&str, u64)| Class {
        claims: if tokens == 0 { [claims(path, None)].into() } else { (0..tokens).map(|t| claims(path, Some(t))).collect() },
        requests: *n,
    };
    Server {
        name: key.as_str().into(),
        most: plan.per_host,
        delay: plan.delay,
        robots: 0,
        robots_claims: claims("/robots.txt", None),
        classes: requests.iter().map(class).collect(),
    }
}

fn scenario(plan: &LimitsPlan) -> Scenario<'_> {
    Scenario {
        limits: plan,
        hosts: &[],
        workers: plan.workers,
        answer: 200 * MS,
        simulate: 30_000,
        start: Wall(1_800_000_000_000),
        holds: &[],
        counted: &[],
        unsaved: None,
        hours: None,
        caps: Caps::default(),
    }
}

fn load(plan: &LimitsPlan, requests: u64) -> Load {
    Load { servers: vec![server(plan, "a.example", &[("/", requests)], 0)] }
}

fn run(plan: &LimitsPlan, requests: u64) -> Outlook {
    outlook(&load(plan, requests), &scenario(plan))
}

fn held(o: &Outlook, by: By) -> Option<&Held> {
    o.held.iter().find(|h| h.by == by)
}

fn all_are_told(o: &Outlook) {
    assert_eq!(o.held.iter().map(|h| h.requests).sum::<u64>() + o.free, o.requests, "{o:?}");
}

#[test]
fn five_thousand_an_hour_is_five_thousand_in_the_first_hour() {
    let plan = limits(&["5000/hour"]);
    let o = run(&plan, 12_000);
    // A burst of 20, then one each 3600 s / 4981; of the third hour 2,000.
    assert_eq!((o.requests, o.first_minute, o.first_hour, o.simulated), (12_000, 103, 5000, 12_000));
    assert!((8640..8720).contains(&o.lasts.as_secs()), "2 h 24 min: {:?}", o.lasts);
    let by = held(&o, By::Rate(0, rate("5000/hour"))).unwrap();
    assert!(by.requests > 11_900 && by.key.as_deref() == Some("a.example"), "{by:?}");
    all_are_told(&o);
}

#[test]
fn of_two_rates_the_small_window_binds_at_first_and_the_large_one_after() {
    let plan = limits(&["10/second", "5000/hour"]);
    let o = run(&plan, 12_000);
    let second = held(&o, By::Rate(0, rate("10/second"))).unwrap();
    let hour = held(&o, By::Rate(0, rate("5000/hour"))).unwrap();
    // The first is free, then 10 a second until the burst of 20 of the hour is used up.
    assert_eq!((second.from, o.free), (100 * MS, 1));
    assert!((secs(2.0)..secs(3.5)).contains(&hour.from), "{hour:?}");
    assert!(hour.requests > 20 * second.requests && o.first_hour == 5000, "{o:?}");
    all_are_told(&o);
}

#[test]
fn workers_bind_where_nothing_else_does() {
    let plan = LimitsPlan { per_host: 100, ..limits(&[]) };
    // 64 at once, 200 ms each: 320 a second.
    let o = run(&plan, 25_600);
    assert_eq!((o.first_minute, o.first_hour, o.lasts), (19_200, 25_600, secs(80.0)));
    assert_eq!(held(&o, By::Workers(64)).map(|h| h.requests), Some(25_536));
    assert_eq!(o.free, 64);
}

#[test]
fn per_host_and_delay_bind_by_host() {
    let plan = LimitsPlan { per_host: 2, ..limits(&[]) };
    let o = run(&plan, 100);
    assert_eq!((o.lasts, held(&o, By::PerHost(2)).map(|h| h.requests)), (secs(10.0), Some(98)));
    let plan = LimitsPlan { delay: Duration::from_secs(1), ..limits(&[]) };
    let o = run(&plan, 100);
    assert_eq!((o.lasts, o.first_minute), (secs(99.2), 60));
    assert_eq!(held(&o, By::Delay(Duration::from_secs(1))).map(|h| h.requests), Some(99));
    // A slow host does not hold the others.
    let slow = Server { delay: Duration::from_secs(10), ..server(&plan, "slow.example", &[("/", 10)], 0) };
    let both = Load { servers: vec![server(&plan, "a.example", &[("/", 100)], 0), slow] };
    let o = outlook(&both, &scenario(&plan));
    assert_eq!((o.requests, o.lasts), (110, secs(99.2)));
}

#[test]
fn robots_txt_goes_first_and_counts() {
    let plan = limits(&["2/second"]);
    let mut load = load(&plan, 3);
    load.servers[0].robots = 1;
    let o = outlook(&load, &scenario(&plan));
    // robots.txt at 0, then 0.5 (paced); the window of two holds the next ones: 1.201 and 1.701; the last answer 200 ms later.
    assert_eq!((o.requests, o.free), (4, 1));
    assert_eq!(o.lasts, Duration::from_millis(1901), "{o:?}");
    let fast = limits(&[]);
    let mut free = self::load(&fast, 3);
    free.servers[0].robots = 1;
    let o = outlook(&free, &scenario(&fast));
    assert_eq!((o.lasts, held(&o, By::Robots).map(|h| h.requests)), (secs(0.4), Some(3)));
}

#[test]
fn a_named_limit_holds_its_paths_and_is_named() {
    let search = LimitPlan {
        name: "search".into(),
        methods: Vec::new(),
        host: None,
        path: Some("/search/**".into()),
        rates: vec![rate("30/minute")],
        key: LimitKeyKind::Host,
        burst: None,
        weight: 1,
        concurrency: None,
    };
    let plan = LimitsPlan { more: vec![search], ..limits(&["5000/hour"]) };
    let mixed = Load { servers: vec![server(&plan, "a.example", &[("/x", 300), ("/search/y", 100)], 0)] };
    let o = outlook(&mixed, &scenario(&plan));
    let search = held(&o, By::Rate(1, rate("30/minute"))).unwrap();
    // 100 at 30 a minute; the others, mixed with them, wait behind.
    assert!((secs(198.0)..secs(300.0)).contains(&o.lasts), "{o:?}");
    assert!(search.requests > 0 && o.requests == 400, "{o:?}");
    all_are_told(&o);
}

#[test]
fn each_token_has_its_own_limit() {
    let plan = LimitsPlan { key: LimitKeyKind::Credential, ..limits(&["5000/hour"]) };
    let two = Load { servers: vec![server(&plan, "a.example", &[("/", 12_000)], 2)] };
    let o = outlook(&two, &scenario(&plan));
    assert_eq!(o.first_hour, 10_000);
    assert_eq!(o.held[0].keys, 2);
    assert!((4300..4400).contains(&o.lasts.as_secs()), "{:?}", o.lasts);
}

#[test]
fn a_hold_of_an_earlier_run_is_waited_for() {
    let plan = limits(&["10/second"]);
    let holds = [("a.example".to_owned(), Wall(1_800_000_000_000 + 600_000))];
    let o = outlook(&load(&plan, 100), &Scenario { holds: &holds, ..scenario(&plan) });
    assert_eq!((o.first_minute, o.first_hour), (0, 100));
    let hold = held(&o, By::Hold).unwrap();
    assert_eq!((hold.from, hold.key.as_deref()), (secs(600.0), Some("a.example")));
    assert!(o.lasts > secs(610.0) && o.lasts < secs(625.0), "a probe, a ramp, then 10 a second: {:?}", o.lasts);
}

#[test]
fn outside_of_hours_nothing_goes() {
    let plan = limits(&["5000/hour"]);
    let hours = Hours::new(&plan::Hours { from: 22 * 60, until: 6 * 60, zone: Some("UTC".into()) });
    // Nine in the evening.
    let start = Wall((20_468 * 24 + 21) * 3_600_000);
    let night = Scenario { hours: Some(hours), start, ..scenario(&plan) };
    let o = outlook(&load(&plan, 12_000), &night);
    assert_eq!((o.first_minute, o.first_hour), (0, 0));
    assert!((8640 + 3600..8720 + 3600).contains(&o.lasts.as_secs()), "{:?}", o.lasts);
    assert!(held(&o, By::Hours).is_some());
    // 100,000 take 20.2 hours: two nights of eight and four hours of the third.
    let o = outlook(&load(&plan, 100_000), &night);
    let hours = o.lasts.as_secs_f64() / 3600.0;
    assert!((1.0 + 48.0 + 3.9..1.0 + 48.0 + 4.4).contains(&hours), "{hours}");
    let o = outlook(&load(&plan, 1_000_000), &night);
    assert_eq!((o.requests, o.simulated), (1_000_000, 30_000));
    let nights = o.lasts.as_secs_f64() / 86_400.0;
    assert!((25.0..25.4).contains(&nights), "202 hours are 25 nights and two hours: {nights}");
}

#[test]
fn caps_end_a_run_wherever_they_lie() {
    let plan = limits(&["100/minute"]);
    let with = |caps, n| outlook(&load(&plan, n), &Scenario { caps, ..scenario(&plan) });
    let o = with(Caps { entries: Some(150), ..Caps::default() }, 1000);
    assert_eq!((o.requests, o.ended), (150, Some(Ended::Entries)));
    let o = with(Caps { requests: Some(500_000), ..Caps::default() }, 1_000_000);
    assert_eq!((o.requests, o.simulated, o.ended), (500_000, 30_000, Some(Ended::Requests)));
    let o = with(Caps { time: Some(secs(3600.0)), ..Caps::default() }, 10_000);
    assert_eq!((o.lasts, o.ended, o.first_hour), (secs(3600.0), Some(Ended::Time), o.requests));
    assert!((5800..6001).contains(&o.requests), "{o:?}");
    let o = with(Caps { time: Some(Duration::from_hours(100)), ..Caps::default() }, 1_000_000);
    assert_eq!((o.lasts, o.ended, o.simulated), (Duration::from_hours(100), Some(Ended::Time), 30_000));
    assert!((580_000..600_000).contains(&o.requests), "{o:?}");
    all_are_told(&o);
    assert_eq!(with(Caps { entries: Some(1000), ..Caps::default() }, 1000).requests, 1000);
    let nothing = with(Caps::default(), 0);
    assert_eq!((nothing.requests, nothing.lasts, nothing.held.len(), nothing.ended), (0, Duration::ZERO, 0, None));
}

#[test]
fn what_is_extrapolated_goes_on_as_what_was_run() {
    // A thousand more of the same take as long as they take in virtual time.
    for (rates, per_host, delay_ms, answer) in [
        (&["10/second"][..], 64, 0, 200),
        (&["10/second"], 64, 0, 1500),
        (&["100/minute", "10/second"], 64, 0, 50),
        (&["5000/hour"], 64, 0, 200),
        (&[], 3, 0, 200),
        (&[], 64, 250, 200),
        (&["50/10s"], 64, 250, 200),
    ] {
        let plan = LimitsPlan { per_host, delay: delay_ms * MS, ..limits(rates) };
        let scenario = Scenario { answer: answer * MS, ..scenario(&plan) };
        let lasts = |n| outlook(&load(&plan, n), &scenario).lasts.as_secs_f64();
        let (run, steady) = ((lasts(20_000) - lasts(10_000)) / 10.0, further(&load(&plan, 1), &scenario, 1000, false).0.as_secs_f64());
        assert!((run / steady - 1.0).abs() < 0.02, "{rates:?} {per_host} {delay_ms} {answer}: {run} s, reckoned {steady} s");
    }
}

#[test]
fn arrival_frees_permits_of_slow_answers_early() {
    let slow = |arrival| {
        let plan = LimitsPlan { arrival, ..limits(&["10/second"]) };
        let scenario = Scenario { answer: Duration::from_secs(3), ..scenario(&plan) };
        outlook(&load(&plan, 1000), &scenario).lasts.as_secs()
    };
    // The last ten of 100 go after 99 times 4.001 s, or 2.001 s; their answers 3 s later.
    assert_eq!((slow(None), slow(Some(Duration::from_secs(1)))), (399, 201));
}

#[test]
fn the_pages_of_one_address_come_one_after_the_other() {
    let plan = limits(&[]);
    let one = load(&plan, 1);
    let more = |in_turn| further(&one, &scenario(&plan), 1000, in_turn);
    let by = |cause: Option<Cause>| cause.map(|c| c.by);
    assert_eq!((more(true).0, by(more(true).1)), (secs(200.0), Some(By::PerHost(1))));
    assert_eq!((more(false).0, by(more(false).1)), (secs(3.125), Some(By::PerHost(64))));
    let grown = Load { servers: vec![server(&plan, "a", &[("/", 3)], 0), server(&plan, "b", &[("/", 1)], 0)] }.grown(10, true);
    assert_eq!(grown.servers.iter().map(|s| (s.entries(), s.most)).collect::<Vec<_>>(), [(7, 3), (3, 1)]);
}

#[test]
fn a_job_limit_and_very_many_hosts() {
    let plan = LimitsPlan { key: LimitKeyKind::Job, ..limits(&["100/second"]) };
    let servers: Vec<Server> = (0..2000).map(|i| server(&plan, &format!("h{i}.example"), &[("/", 3)], 0)).collect();
    let o = outlook(&Load { servers }, &scenario(&plan));
    assert_eq!((o.requests, o.simulated), (6000, 6000));
    assert!((60..75).contains(&o.lasts.as_secs()), "{:?}", o.lasts);
    // One limit of a domain with very many hosts is asked in vain so often that it is reckoned.
    let plan = LimitsPlan { key: LimitKeyKind::Domain, ..limits(&["100/second"]) };
    let of_domain = |i| server(&plan, &format!("h{i}.example.com"), &[("/", 30)], 0);
    let o = outlook(&Load { servers: (0..2000).map(of_domain).collect() }, &scenario(&plan));
    assert_eq!(o.requests, 60_000);
    assert!(o.simulated < 60_000 && (600..750).contains(&o.lasts.as_secs()), "{o:?}");
}
