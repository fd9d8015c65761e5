//! The forecast as people and scripts get it.

use super::count;
use super::load::Load;
use super::outlook::{self, By, Ended, Outlook, Scenario};
use crate::clock::{Moment, Wall};
use crate::engine::run::fetched_before;
use crate::limit::{LimitId, Limits};
use crate::model::Rate;
use crate::model::plan::{Hours, InputPlan, InputSource, Plan, Scope, StopRule};
use crate::store::backlog::Backlog;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Hosts that are shown one by one.
const SHOWN: usize = 10;
/// What is worth offering where answers are slower than this.
const ARRIVAL: Duration = Duration::from_secs(1);

/// What a run would do; `plan --json` prints it as it is (`docs/plan.md`).
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The job's name.
    pub job: String,
    /// When the run is taken to begin: now.
    pub start: Wall,
    /// Where the job stands, where it has begun.
    pub state: Option<StateTold>,
    /// What was read.
    pub input: InputTold,
    /// What is to be sent.
    pub requests: Requests,
    /// To whom.
    pub hosts: Hosts,
    /// Under what it was reckoned.
    pub assumed: Assumed,
    /// How it goes.
    pub time: Time,
    /// What requests wait for last before they go, most first.
    pub held: Vec<Held>,
    /// Requests that wait for nothing.
    pub free: u64,
    /// What pages and links that nobody knows yet may add.
    pub growth: Option<Growth>,
    /// How much of each quota can be used.
    pub quotas: Vec<QuotaUse>,
    /// What is spent of limits already, ten keys at most.
    pub spent: Vec<Spent>,
    /// Holds that stand from an earlier run.
    pub holds: Vec<Hold>,
}

/// A job that has begun.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StateTold {
    /// Entries that are results.
    pub results: u64,
    /// Entries that are skipped.
    pub skipped: u64,
    /// Entries of the state that are not done.
    pub pending: u64,
    /// Whether a run before came to its end.
    pub finished: bool,
    /// Process that runs it now, where that is known.
    pub pid: Option<u32>,
    /// Whether it runs now.
    pub running: bool,
}

/// The part of the input that no run has read yet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InputTold {
    /// File; `None`: addresses of the job, or standard input.
    pub file: Option<PathBuf>,
    /// Records read now.
    pub records: u64,
    /// Of them such without an address: `bad-input`.
    pub bad: u64,
    /// The first of these.
    pub first_bad: Option<String>,
    /// Of them repeated addresses: `duplicate`.
    pub repeated: u64,
    /// Whether that number is exact; else it is an estimate from a sample.
    pub repeated_exact: bool,
    /// False where standard input is a terminal and was not read.
    pub complete: bool,
    /// Warnings of the reader.
    pub warnings: u64,
    /// What the reader said.
    pub notices: Vec<String>,
}

/// Requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// Addresses and robots.txt.
    pub total: u64,
    /// One request each, if all goes well.
    pub addresses: u64,
    /// Files of robots.txt that are asked for first.
    pub robots: u64,
    /// Why there may be more; empty: there are not.
    pub more: Vec<&'static str>,
}

/// Hosts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hosts {
    /// How many.
    pub count: u64,
    /// Whether that is exact.
    pub exact: bool,
    /// Those with most addresses, ten at most.
    pub top: Vec<HostLoad>,
    /// Addresses of all the others.
    pub others: u64,
}

/// One host.
#[derive(Clone, Debug, Serialize)]
pub struct HostLoad {
    /// Scheme, host and port.
    pub host: String,
    /// Addresses.
    pub addresses: u64,
    /// Whether its robots.txt is asked for first.
    pub robots: bool,
}

/// Assumptions.
#[derive(Clone, Debug, Serialize)]
pub struct Assumed {
    /// Every answer takes so long.
    pub answer_ms: u64,
    /// `workers`, lowered to what the limit of file descriptors allows.
    pub workers: usize,
    /// `[limits] arrival`.
    pub arrival_ms: Option<u64>,
    /// `[limits] reserve`, where it is set.
    pub reserve: Option<f64>,
    /// `[limits] budget`.
    pub budget: Option<String>,
    /// `[limits] hours`.
    pub hours: Option<String>,
}

/// How the run goes.
#[derive(Clone, Debug, Serialize)]
pub struct Time {
    /// Requests that the run sends.
    pub requests: u64,
    /// Of them in the first minute.
    pub first_minute: u64,
    /// Of them in the first hour.
    pub first_hour: u64,
    /// From the start to the last answer; a century at most.
    pub lasts_s: f64,
    /// When that is.
    pub finish: Wall,
    /// So many of the requests were sent in virtual time; the others are extrapolated.
    pub simulated: u64,
    /// `done`, or the key that ends it before.
    pub ends: &'static str,
}

/// One thing that holds requests.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// What.
    pub by: Binds,
    /// How many.
    pub requests: u64,
    /// Keys or hosts that it holds, each by itself; 0: it is of the whole job.
    pub keys: u64,
    /// The one with most of the requests.
    pub key: Option<String>,
    /// When the first of them goes, from the start.
    pub from_s: f64,
    /// When the last of them goes.
    pub until_s: f64,
}

/// What may hold requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Binds {
    /// A rate.
    Rate {
        /// Of this `[[limit]]`.
        limit: Option<String>,
        /// Requests…
        count: u32,
        /// …in so many seconds.
        per_s: f64,
    },
    /// `concurrency` of a `[[limit]]`.
    Concurrency {
        /// Its name.
        limit: Option<String>,
        /// At once.
        most: u32,
    },
    /// A hold.
    Hold,
    /// The first answers after a hold.
    Probe,
    /// `per_host`.
    PerHost {
        /// At once.
        most: usize,
    },
    /// `delay`, or a Crawl-delay that is known.
    Delay {
        /// Between two starts.
        delay_ms: u64,
    },
    /// `workers`.
    Workers {
        /// At once.
        most: usize,
    },
    /// The answer to robots.txt.
    RobotsTxt,
    /// `hours`.
    Hours,
}

/// What may come on top.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// How long a thousand requests more take.
    pub thousand_more_s: f64,
    /// What holds those.
    pub held_by: Option<Binds>,
    /// Requests where a cap of the job bounds them.
    pub at_most: Option<u64>,
    /// How long those take, if the hosts are the same.
    pub at_most_lasts_s: Option<f64>,
    /// When that is over.
    pub at_most_finish: Option<Wall>,
    /// The cap's key.
    pub cap: Option<&'static str>,
}

/// What holding permits until the answer costs.
#[derive(Clone, Debug, Serialize)]
pub struct QuotaUse {
    /// Of this `[[limit]]`.
    pub limit: Option<String>,
    /// Requests…
    pub count: u32,
    /// …in so many seconds.
    pub per_s: f64,
    /// What `reserve` leaves of the count.
    pub own: u32,
    /// Share of `own` that can be used where all answers take `answer_ms`.
    pub usable: f64,
    /// The same without `arrival`, where that is set.
    pub without_arrival: Option<f64>,
    /// The same with `arrival = "1s"`, where that would help.
    pub with_arrival_1s: Option<f64>,
}

/// What is spent of one window.
#[derive(Clone, Debug, Serialize)]
pub struct Spent {
    /// Of this `[[limit]]`.
    pub limit: Option<String>,
    /// Whose.
    pub key: String,
    /// Requests…
    pub count: u32,
    /// …in so many seconds.
    pub per_s: f64,
    /// What still counts of earlier runs, or of the one that is on.
    pub spent: u32,
}

/// A hold of an earlier run.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    /// The `[[limit]]` or resource, where it is one's.
    pub limit: Option<String>,
    /// Whose.
    pub key: String,
    /// Nothing of it is sent before.
    pub until: Wall,
    /// It is longer than `max_wait`: where nothing else is left the run ends with 75.
    pub beyond_max_wait: bool,
}

impl InputTold {
    pub(super) fn new(plan: &InputPlan) -> Self {
        let file = match &plan.source {
            InputSource::File(file) => Some(file.clone()),
            _ => None,
        };
        Self { file, complete: true, repeated_exact: true, ..Self::default() }
    }
}

/// What was found out.
pub(super) struct Known<'a> {
    pub(super) load: Load,
    pub(super) hosts: count::Told,
    pub(super) input: InputTold,
    pub(super) state: Option<&'a Backlog>,
    pub(super) limits: &'a Limits,
}

pub(super) fn tell(plan: &Plan, known: Known<'_>, mut scenario: Scenario<'_>) -> Forecast {
    let Known { load, hosts, input, state, limits } = known;
    let caps = Caps::of(plan, state);
    scenario.caps = outlook::Caps { entries: caps.entries.map(|(n, _)| n), requests: plan.stop.requests, time: plan.stop.time };
    let run = outlook::outlook(&load, &scenario);
    let growth = growth(plan, &load, limits, &scenario, &caps, &run);
    let requests = Requests {
        total: load.entries() + load.robots(),
        addresses: load.entries(),
        robots: load.robots(),
        more: if growth.is_some() { unknown(plan) } else { Vec::new() },
    };
    let ends = match run.ended {
        None => "done",
        Some(Ended::Entries) => caps.entries.map_or("done", |(_, key)| key),
        Some(Ended::Requests) => "requests",
        Some(Ended::Time) => "time",
    };
    Forecast {
        job: plan.name.clone(),
        start: scenario.start,
        time: Time {
            requests: run.requests,
            first_minute: run.first_minute,
            first_hour: run.first_hour,
            lasts_s: run.lasts.as_secs_f64(),
            finish: scenario.start.plus(run.lasts),
            simulated: run.simulated,
            // A cap that is reached with the last of all ends nothing.
            ends: if run.requests >= requests.total && growth.is_none() { "done" } else { ends },
        },
        held: run.held.iter().map(|h| held(h, limits)).collect(),
        free: run.free,
        quotas: quotas(&load, limits, &scenario),
        hosts: shown(hosts),
        assumed: assumed(plan, &scenario),
        spent: spent(&scenario),
        holds: state.map_or(&[][..], |s| &s.holds).iter().map(|(key, until)| hold(key, *until, plan, scenario.start)).collect(),
        state: state.map(|s| StateTold {
            results: s.account.results,
            skipped: s.account.skipped,
            pending: s.account.pending,
            finished: s.finished.is_some(),
            pid: s.running.as_ref().and_then(|r| r.pid),
            running: s.running.is_some(),
        }),
        input,
        requests,
        growth,
    }
}

/// Keys that end a run after so many addresses.
struct Caps {
    entries: Option<(u64, &'static str)>,
}

impl Caps {
    fn of(plan: &Plan, state: Option<&Backlog>) -> Self {
        let (fetched, results) = state.map_or((0, 0), |s| (fetched_before(&s.account, &s.by_reason), s.account.results));
        let pages = plan.crawl.as_ref().and_then(|c| c.max_pages).map(|n| (n.saturating_sub(fetched), "max_pages"));
        let results = plan.stop.results.filter(|n| *n > 0).map(|n| (n.saturating_sub(results), "results"));
        Self { entries: pages.into_iter().chain(results).min() }
    }
}

/// Why nobody knows how many requests there will be.
fn unknown(plan: &Plan) -> Vec<&'static str> {
    let links = plan.crawl.as_ref().is_some_and(|c| c.scope != Scope::Page && c.depth != Some(0));
    let mut why = Vec::new();
    if links {
        why.push("links");
    }
    if plan.pages.is_some() {
        why.push("pages");
    }
    why
}

fn growth(plan: &Plan, load: &Load, limits: &Limits, scenario: &Scenario<'_>, caps: &Caps, run: &Outlook) -> Option<Growth> {
    let entries = load.entries();
    if unknown(plan).is_empty() || entries == 0 || run.ended.is_some() {
        return None;
    }
    let in_turn = plan.pages.is_some();
    // Pages of each address, where all of them are full.
    let pages = plan.pages.as_ref().and_then(|pages| {
        let rows = pages.stop.iter().filter_map(|rule| if let StopRule::Max(n) = rule { Some(*n) } else { None }).min()?;
        Some((entries.saturating_mul(rows.div_ceil(pages.size.as_ref().map_or(1, |(_, size)| (*size).max(1))).max(1)), "pages.stop"))
    });
    let most = if in_turn { pages } else { caps.entries };
    let at_most = most.map(|(most, key)| {
        let grown = load.grown(most.max(entries), in_turn);
        (grown.entries() + grown.robots(), outlook::outlook(&grown, scenario).lasts, key)
    });
    let (thousand, cause) = outlook::further(load, scenario, 1000, in_turn);
    Some(Growth {
        thousand_more_s: thousand.as_secs_f64(),
        held_by: cause.map(|c| binds(c.by, limits)),
        at_most: at_most.map(|(n, ..)| n),
        at_most_lasts_s: at_most.map(|(_, lasts, _)| lasts.as_secs_f64()),
        at_most_finish: at_most.map(|(_, lasts, _)| scenario.start.plus(lasts)),
        cap: at_most.map(|(.., key)| key),
    })
}

fn shown(told: count::Told) -> Hosts {
    let count = told.hosts.len() as u64 + told.others.0;
    let others = told.hosts.iter().skip(SHOWN).map(|(_, n, _)| n).sum::<u64>() + told.others.1;
    let top = told.hosts.into_iter().take(SHOWN);
    let top = top.map(|(host, addresses, robots)| HostLoad { host: host.to_string(), addresses, robots }).collect();
    Hosts { count, exact: told.exact, top, others }
}

fn assumed(plan: &Plan, scenario: &Scenario<'_>) -> Assumed {
    Assumed {
        answer_ms: millis(scenario.answer),
        workers: scenario.workers,
        arrival_ms: plan.limits.arrival.map(millis),
        reserve: Some(plan.limits.reserve).filter(|r| *r > 0.0),
        budget: plan.limits.budget.clone(),
        hours: plan.limits.hours.as_ref().map(hours),
    }
}

fn hours(hours: &Hours) -> String {
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let zone = hours.zone.as_ref().map(|z| format!(" {z}")).unwrap_or_default();
    format!("{}-{}{zone}", time(hours.from), time(hours.until))
}

fn binds(by: By, limits: &Limits) -> Binds {
    let name = |limit: LimitId| limits.name(limit).map(str::to_owned);
    match by {
        By::Rate(limit, rate) => Binds::Rate { limit: name(limit), count: rate.count, per_s: rate.per.as_secs_f64() },
        By::Concurrency(limit, most) => Binds::Concurrency { limit: name(limit), most },
        By::Hold => Binds::Hold,
        By::Probe => Binds::Probe,
        By::PerHost(most) => Binds::PerHost { most },
        By::Delay(delay) => Binds::Delay { delay_ms: millis(delay) },
        By::Workers(most) => Binds::Workers { most },
        By::Robots => Binds::RobotsTxt,
        By::Hours => Binds::Hours,
    }
}

fn held(held: &outlook::Held, limits: &Limits) -> Held {
    let key = held.key.as_ref().map(|key| key.split_once("://").map_or(&**key, |(_, rest)| rest).to_owned());
    let (from_s, until_s) = (held.from.as_secs_f64(), held.until.as_secs_f64());
    Held { by: binds(held.by, limits), requests: held.requests, keys: held.keys, key, from_s, until_s }
}

/// Each limit that something of the load counts in.
fn quotas(load: &Load, limits: &Limits, scenario: &Scenario<'_>) -> Vec<QuotaUse> {
    let claims = load.servers.iter().flat_map(|s| &s.classes).flat_map(|c| c.claims.iter()).flat_map(|c| c.iter());
    let ids: BTreeSet<LimitId> = claims.map(|c| c.limit).collect();
    let mut out = Vec::new();
    for id in ids {
        let usable = |held: Duration| limits.sustained(id, held);
        let (now, without, second) =
            (usable(limits.held_for(scenario.answer)), usable(scenario.answer), usable(ARRIVAL.min(scenario.answer)));
        for ((now, without), second) in now.iter().zip(without).zip(second) {
            let Rate { count, per } = now.rate;
            let offer = scenario.limits.arrival.is_none() && second.usable > now.usable + 0.005;
            out.push(QuotaUse {
                limit: limits.name(id).map(str::to_owned),
                count,
                per_s: per.as_secs_f64(),
                own: now.own,
                usable: now.usable.min(1.0),
                without_arrival: scenario.limits.arrival.map(|_| without.usable.min(1.0)),
                with_arrival_1s: offer.then_some(second.usable.min(1.0)),
            });
        }
    }
    out
}

fn spent(scenario: &Scenario<'_>) -> Vec<Spent> {
    let now = Moment(1);
    let views = scenario.limits_at(now).views(SHOWN, now);
    let windows = views.iter().flat_map(|view| view.windows.iter().map(move |(rate, n)| (view, *rate, *n)));
    let spent = windows.filter(|(.., n)| *n > 0).map(|(view, rate, spent)| Spent {
        limit: view.limit.clone(),
        key: view.key.clone(),
        count: rate.count,
        per_s: rate.per.as_secs_f64(),
        spent,
    });
    spent.take(SHOWN).collect()
}

fn hold(stored: &str, until: Wall, plan: &Plan, now: Wall) -> Hold {
    let (key, limit) = stored.split_once('\t').map_or((stored, None), |(key, limit)| (key, Some(limit)));
    Hold { limit: limit.map(str::to_owned), key: key.to_owned(), until, beyond_max_wait: now.until(until) > plan.limits.max_wait }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
