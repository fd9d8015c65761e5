//! Several limits at once, weights, concurrency, arrival, reserve, quotas and learned rates: the limiter against exact models.

use super::sim::{MS, SEC, one, part, plan, rate};
use super::{About, Claim, Limits, Permit, Told, Why};
use crate::clock::{Moment, unit};
use crate::model::plan::{LimitKeyKind, LimitPlan, LimitsPlan};
use crate::model::{HostKey, Rate};
use proptest::prelude::*;
use std::time::Duration;

fn table(name: &str, rates: Vec<Rate>, methods: &[&str], weight: u32) -> LimitPlan {
    LimitPlan {
        name: name.into(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        host: None,
        path: None,
        rates,
        key: LimitKeyKind::Host,
        burst: None,
        weight,
        concurrency: None,
    }
}

fn about<'a>(host: &'a HostKey, method: &'a str) -> About<'a> {
    About { host, method, path: "/", token: None }
}

/// The most that any half-open window holds, by weight.
fn heaviest(arrivals: &mut [(u64, u32)], per: Duration) -> u32 {
    arrivals.sort_unstable();
    let per = u64::try_from(per.as_nanos()).unwrap();
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for i in 0..arrivals.len() {
        sum += arrivals[i].1;
        while arrivals[first].0 + per <= arrivals[i].0 {
            sum -= arrivals[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

#[derive(Clone, Debug)]
struct World {
    base: Rate,
    points: Rate,
    weight: u32,
    concurrency: Option<u32>,
    reserve: f64,
    seed: u64,
    /// The mutation: weights are counted as one.
    weightless: bool,
}

/// When, and what it weighs.
type Arrivals = Vec<(u64, u32)>;

/// GET and POST of one host in 60 s of virtual time, POST weighing more in a second limit. Gives arrivals with weights for
/// both limits, and the most that were under way at once.
fn run(world: &World) -> (Arrivals, Arrivals, usize) {
    let mut points = table("points", vec![world.points], &["POST"], world.weight);
    points.concurrency = world.concurrency;
    let any = table("points", Vec::new(), &[], 1);
    let plan = LimitsPlan { more: vec![points, any], reserve: world.reserve, ..plan(&[world.base], None) };
    let mut limits = Limits::new(&plan, &[]);
    let host = HostKey::from_stored("http://h");
    let (mut base, mut heavy) = (Vec::new(), Vec::new());
    let mut wire: Vec<(u64, u64, Option<Permit>)> = Vec::new();
    let (mut now, mut id, mut most) = (SEC, 0u64, 0);
    while now < 61 * SEC {
        for (headers, _, permit) in &mut wire {
            if *headers <= now
                && let Some(p) = permit
            {
                limits.arrived(p, Moment(*headers));
            }
        }
        for (_, _, permit) in wire.extract_if(.., |(_, end, _)| *end <= now) {
            if let Some(p) = permit {
                limits.done(p);
            }
        }
        loop {
            let post = unit(world.seed, id, 1) < 0.4;
            let mut claims: Vec<Claim> = limits.claims(&about(&host, if post { "POST" } else { "GET" })).to_vec();
            let weight = claims[1].weight;
            if world.weightless {
                claims[1].weight = 1;
            }
            let verdict = limits.next_at(&claims, Moment(now));
            let Some(permit) = limits.take(&claims, Moment(now)) else {
                assert!(verdict.at.0 > now, "refused though free: {verdict:?}");
                break;
            };
            assert_eq!((verdict.at.0, verdict.why), (now, Why::Free));
            id += 1;
            let stall = if unit(world.seed, id, 2) < 0.02 { part(3 * SEC, unit(world.seed, id, 3)) } else { 0 };
            let arrival = now + stall + part(30 * MS, unit(world.seed, id, 4));
            base.push((arrival, 1));
            heavy.push((arrival, weight));
            let headers = arrival + part(100 * MS, unit(world.seed, id, 5));
            wire.push((headers, headers + part(300 * MS, unit(world.seed, id, 6)), Some(permit)));
            most = most.max(wire.len());
        }
        now += 5 * MS;
    }
    (base, heavy, most)
}

fn world() -> impl Strategy<Value = World> {
    ((2u32..60, 500u64..8000), (5u32..80, 500u64..8000), 1u32..6, prop_oneof![Just(None), (1u32..8).prop_map(Some)], 0.0..0.5, any::<u64>())
        .prop_map(|((n, per), (m, wide), weight, concurrency, reserve, seed)| World {
            base: rate(n, per),
            points: rate(m, wide),
            weight: weight.min(m),
            concurrency,
            reserve,
            seed,
            weightless: false,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn several_limits_with_weights_are_never_passed(world in world()) {
        let (mut base, mut heavy, most) = run(&world);
        let own = |r: Rate, least: u32| (f64::from(r.count) * (1.0 - world.reserve)).max(f64::from(least));
        prop_assert!(f64::from(heaviest(&mut base, world.base.per)) <= own(world.base, 1));
        prop_assert!(f64::from(heaviest(&mut heavy, world.points.per)) <= own(world.points, world.weight));
        prop_assert!(world.concurrency.is_none_or(|n| most <= n as usize));
        prop_assert!(!base.is_empty());
    }
}

#[test]
fn a_guard_that_counts_weights_as_one_is_seen() {
    let world =
        World { base: rate(1000, 1000), points: rate(20, 5000), weight: 5, concurrency: None, reserve: 0.0, seed: 7, weightless: true };
    let (_, mut heavy, _) = run(&world);
    assert!(heaviest(&mut heavy, world.points.per) > 20);
    let (_, mut heavy, _) = run(&World { weightless: false, ..world.clone() });
    assert!(heaviest(&mut heavy, world.points.per) <= 20);
}

#[test]
fn a_refusal_of_one_limit_takes_nothing_of_another() {
    let more = vec![table("small", vec![rate(1, 10_000)], &["POST"], 1)];
    let mut l = Limits::new(&LimitsPlan { more, ..plan(&[rate(100, 1000)], Some(50)) }, &[]);
    let host = HostKey::from_stored("http://h");
    let (get, post) = (l.claims(&about(&host, "GET")), l.claims(&about(&host, "POST")));
    let t = Moment(SEC);
    let _first = l.take(&post, t).unwrap();
    for _ in 0..1000 {
        assert!(l.take(&post, t).is_none());
    }
    let verdict = l.next_at(&post, t);
    assert_eq!((verdict.at, verdict.claim, l.name(post[1].limit)), (Moment::FAR, 1, Some("small")));
    assert_eq!(std::iter::from_fn(|| l.take(&get, t)).count(), 49, "the burst of 50 less the one that went");
}

#[test]
fn concurrency_counts_until_the_body_is_in() {
    let mut one_at_once = table("c", Vec::new(), &[], 1);
    one_at_once.concurrency = Some(1);
    let mut l = Limits::new(&LimitsPlan { more: vec![one_at_once], ..plan(&[], None) }, &[]);
    let claims = l.claims(&about(&HostKey::from_stored("http://h"), "GET"));
    let mut p = l.take(&claims, Moment(SEC)).unwrap();
    l.arrived(&mut p, Moment(SEC));
    assert_eq!((l.next_at(&claims, Moment(2 * SEC)).why, l.take(&claims, Moment(2 * SEC)).is_none()), (Why::Concurrency(1), true));
    l.done(p);
    let p = l.take(&claims, Moment(2 * SEC)).unwrap();
    l.unsent(p);
    assert!(l.take(&claims, Moment(2 * SEC)).is_some());
}

#[test]
fn with_arrival_a_late_answer_counts_as_arrived_then() {
    let mut l = Limits::new(&LimitsPlan { arrival: Some(Duration::from_secs(1)), ..plan(&[rate(1, 1000)], None) }, &[]);
    let a = one("a");
    let mut late = l.take(&a, Moment(10 * SEC)).unwrap();
    assert_eq!(l.next_at(&a, Moment(10 * SEC)).at, Moment(12 * SEC + MS), "though no answer is in");
    let mut early = l.take(&a, Moment(12 * SEC + MS)).unwrap();
    l.arrived(&mut early, Moment(12 * SEC + 101 * MS));
    assert_eq!(l.next_at(&a, Moment(12 * SEC + 101 * MS)).at, Moment(13 * SEC + 102 * MS), "an early one when it came");
    l.arrived(&mut late, Moment(13 * SEC));
    l.done(late);
    assert_eq!(l.next_at(&a, Moment(13 * SEC)).at, Moment(13 * SEC + 102 * MS), "the late one is past");
    let p = l.take(&a, Moment(14 * SEC)).unwrap();
    l.unsent(p);
    assert!(l.take(&a, Moment(14 * SEC + 900 * MS)).is_none(), "pacing stays");
    assert!(l.take(&a, Moment(15 * SEC)).is_some(), "what was never sent counts no more");
}

#[test]
fn a_reserve_is_left_for_others() {
    let mut l = Limits::new(&LimitsPlan { reserve: 0.25, ..plan(&[rate(100, 10_000)], Some(100)) }, &[]);
    assert_eq!(std::iter::from_fn(|| l.take(&one("a"), Moment(SEC))).count(), 75);
}

#[test]
fn the_servers_quota_tightens_until_its_reset() {
    let mut l = Limits::new(&plan(&[], None), &[]);
    let a = one("a");
    let told = Told { remaining: 2.0, reset: Duration::from_secs(9), limit: Some(10), window: None };
    l.told(&a[0], told, 2, Moment(SEC));
    let (p, _q) = (l.take(&a, Moment(SEC)).unwrap(), l.take(&a, Moment(SEC)).unwrap());
    assert_eq!((l.next_at(&a, Moment(SEC)).at, l.next_at(&a, Moment(SEC)).why), (Moment::FAR, Why::Quota));
    l.unsent(p);
    let p = l.take(&a, Moment(SEC)).expect("what was never sent is left");
    l.lost(p, Moment(2 * SEC));
    assert!(l.take(&a, Moment(2 * SEC)).is_none());
    assert!(l.take(&a, Moment(11 * SEC)).is_some());
    assert!(l.take(&one("b"), Moment(SEC)).is_some());
    let mut configured = Limits::new(&plan(&[rate(2, 1000)], Some(2)), &[]);
    configured.told(&a[0], Told { remaining: 1e9, ..told }, 0, Moment(SEC));
    assert_eq!(std::iter::from_fn(|| configured.take(&a, Moment(SEC))).count(), 2, "headers never loosen");
}

#[test]
fn each_of_the_servers_windows_is_kept() {
    let mut l = Limits::new(&plan(&[], None), &[]);
    let a = one("a");
    let told = |remaining, secs, limit, window| Told {
        remaining,
        reset: Duration::from_secs(secs),
        limit: Some(limit),
        window: Some(Duration::from_secs(window)),
    };
    for (small, large) in [(3.0, 800.0), (2.0, 799.0), (1.0, 798.0)] {
        l.told(&a[0], told(small, 20, 50, 60), 0, Moment(SEC));
        l.told(&a[0], told(large, 40_000, 1000, 86_400), 0, Moment(SEC));
    }
    let p = l.take(&a, Moment(SEC)).unwrap();
    assert_eq!(l.next_at(&a, Moment(SEC)).at, Moment::FAR, "what is on its way may be the one that is left");
    l.answered(p, Moment(SEC));
    assert_eq!(l.next_at(&a, Moment(SEC)).at, Moment(22 * SEC));
    assert_eq!(l.views(1, Moment(SEC))[0].quota.map(|q| (q.0, q.1)), Some((0, Some(50))));
    assert!(l.take(&a, Moment(22 * SEC)).is_some());
}

#[test]
fn a_rate_is_learned_from_refusals_and_survives_a_restart() {
    let mut l = Limits::new(&plan(&[rate(10, 1000)], Some(5)), &[]);
    l.reserve(Duration::from_millis(200));
    let a = one("a");
    let until = l.refuse(&a[0], Moment(SEC), Moment(0), Some(Duration::from_secs(1)), 0.0, Some(8.0)).until;
    let mut p = l.take(&a, until).unwrap();
    l.arrived(&mut p, until);
    l.done(p);
    l.succeeded(&a, until);
    // 0.7 of the 8 a second that were measured, and what a second gave back
    let verdict = l.next_at(&a, until);
    assert_eq!((verdict.why, (verdict.at - until).as_millis()), (Why::Adapted, 178));
    let (rows, _mark) = l.save(until);
    assert!((rows[0].adapted.unwrap() - 0.5617).abs() < 0.001, "{rows:?}");
    let mut again = Limits::new(&plan(&[rate(10, 1000)], Some(5)), &[]);
    again.restore(&rows[0], Duration::from_secs(20), Moment(SEC));
    let view = &again.views(1, Moment(SEC))[0];
    assert_eq!(view.adapted.map(|n| n / 10), Some(56));
    let mut off = Limits::new(&LimitsPlan { adapt: false, ..plan(&[rate(10, 1000)], Some(5)) }, &[]);
    off.refuse(&a[0], Moment(SEC), Moment(0), None, 0.0, Some(8.0));
    assert_eq!(off.views(1, Moment(SEC))[0].adapted, None);
}

#[test]
fn a_resource_that_the_server_names_is_held_alone() {
    let more = vec![table("core", vec![rate(5000, 3_600_000)], &["GET"], 1)];
    let mut l = Limits::new(&LimitsPlan { more, ..plan(&[], None) }, &[]);
    let host = HostKey::from_stored("http://h");
    let claims = l.claims(&about(&host, "GET"));
    let core = l.about(&claims, Some("core")).unwrap();
    assert!(l.is_own(&core) && core.limit == claims[1].limit);
    let search = l.about(&claims, Some("search")).unwrap();
    assert!(!l.is_own(&search));
    l.refuse(&search, Moment(SEC), Moment(0), Some(Duration::from_mins(1)), 0.0, None);
    assert!(l.take(&claims, Moment(2 * SEC)).is_some());
    let with = [claims[0].clone(), search.clone()];
    assert_eq!(l.next_at(&with, Moment(2 * SEC)).why, Why::Hold);
    let stored = l.stored_key(&search);
    let mut again = Limits::new(&plan(&[], None), &[]);
    again.restore_hold(&stored, Moment(61 * SEC));
    assert_eq!(again.held_until(&one("h"), Moment(SEC)), Some(Moment(61 * SEC)), "whose requests it means is not known any more");
}

#[test]
fn of_several_tokens_the_share_that_is_left_tells() {
    let mut l = Limits::new(&LimitsPlan { key: LimitKeyKind::Credential, ..plan(&[rate(10, 60_000)], Some(10)) }, &[]);
    let host = HostKey::from_stored("http://h");
    let token = |l: &Limits, n| l.claims(&About { token: Some(n), ..about(&host, "GET") });
    let (a, b) = (token(&l, 0), token(&l, 1));
    let _p = l.take(&a, Moment(SEC)).unwrap();
    assert!(l.left(&a, Moment(SEC)) < l.left(&b, Moment(SEC)));
    l.told(&b[0], Told { remaining: 1.0, reset: Duration::from_secs(9), limit: Some(10), window: None }, 0, Moment(SEC));
    assert!(l.left(&a, Moment(SEC)) > l.left(&b, Moment(SEC)));
}

#[test]
fn limits_of_hosts_and_of_tables_come_back_each_with_its_own() {
    let host =
        crate::model::plan::HostPlan { pattern: "*.slow".into(), rates: Some(vec![rate(3, 60_000)]), burst: Some(1), ..Default::default() };
    let few = table("few", vec![rate(4, 60_000)], &["POST"], 1);
    let plan = LimitsPlan { more: vec![few], burst: Some(500), ..plan(&[rate(1000, 1000)], None) };
    let new = || {
        let mut l = Limits::new(&plan, std::slice::from_ref(&host));
        l.reserve(Duration::from_millis(200));
        l
    };
    let mut old = new();
    let (fast, slow) = (HostKey::from_stored("http://fast"), HostKey::from_stored("http://a.slow"));
    let [get, post, special] = [about(&fast, "GET"), about(&fast, "POST"), about(&slow, "GET")].map(|a| old.claims(&a));
    let reserved = old.reserved();
    assert_eq!(reserved.values().copied().collect::<Vec<_>>(), [500, 1, 1], "{reserved:?}");
    let now = Moment(SEC);
    let permits = [&special, &post].map(|claims| old.take(claims, now).unwrap());
    let (rows, mark) = old.save(now);
    old.saved(mark);
    drop(permits);
    old.refused(
        &special[0],
        super::Refusal { now, sent_at: now, asked: Some(Duration::from_secs(20)), grows: false, jitter: 0.0, measured: None, own: false },
    );
    let held = old.stored_key(&special[0]);

    // A clean end: what was on the wire, of the limit it was on.
    let mut l = new();
    for row in &rows {
        l.restore(row, Duration::ZERO, now);
    }
    let left = |l: &mut Limits, claims: &[Claim]| format!("{:.3}", l.left(claims, now));
    assert_eq!([&special, &post, &get].map(|c| left(&mut l, c)), ["0.667", "0.750", "0.999"]);
    l.restore_hold(&held, Moment(9 * SEC));
    assert_eq!(l.held_until(&special, now), Some(Moment(9 * SEC)));
    // A kill: each limit assumes what it may have sent itself, not what the fastest may.
    let mut l = new();
    l.assume_unsaved(now, Duration::ZERO, reserved.clone());
    for row in &rows {
        l.restore(row, Duration::ZERO, now);
    }
    let _ = (l.next_at(&special, now), l.next_at(&post, now), l.next_at(&get, now));
    assert_eq!([&special, &post, &get].map(|c| left(&mut l, c)), ["0.333", "0.499", "0.499"]);
    assert_eq!(l.assumed(now), reserved);
}
