//! The forecast itself: counts and limits in, times out. A decider: no I/O, and the time is told.
//!
//! The first requests, some hundred thousand, are sent in virtual time by the run's own [`crate::limit::Limits`] and
//! [`crate::schedule::Schedule`] ([`super::virtual_run`]); what is left then goes on at the rates that last
//! ([`super::steady`]).

use super::load::Load;
use super::steady::Steady;
use super::virtual_run::VirtualRun;
use crate::clock::{Moment, Wall};
use crate::limit::{Hours, LimitId, Limits, SavedKey, Unsaved, Verdict, Why};
use crate::model::Rate;
use crate::model::plan::{HostPlan, LimitsPlan};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Nothing is foretold beyond this.
pub(super) const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// Under what a load is sent.
#[derive(Clone, Debug)]
pub(super) struct Scenario<'a> {
    pub(super) limits: &'a LimitsPlan,
    pub(super) hosts: &'a [HostPlan],
    /// Attempts in flight at most.
    pub(super) workers: usize,
    /// Every answer takes this long.
    pub(super) answer: Duration,
    /// Requests that are sent in virtual time at most.
    pub(super) simulate: u64,
    pub(super) start: Wall,
    /// As the state has them.
    pub(super) holds: &'a [(String, Wall)],
    /// What earlier runs, or one that is on, have counted: rows with their age, and what is in none, assumed for so long.
    pub(super) counted: &'a [(SavedKey, Duration)],
    pub(super) unsaved: Option<(&'a Unsaved, Duration)>,
    pub(super) hours: Option<Hours>,
    pub(super) caps: Caps,
}

impl Scenario<'_> {
    /// The limits as they stand at the start, which is `now`.
    pub(super) fn limits_at(&self, now: Moment) -> Limits {
        let mut limits = Limits::new(self.limits, self.hosts);
        if let Some((unsaved, since)) = self.unsaved {
            limits.assume_unsaved(now, since, unsaved.clone());
        }
        for (row, down) in self.counted {
            limits.restore(row, *down, now);
        }
        for (key, until) in self.holds {
            limits.restore_hold(key, now + self.start.until(*until));
        }
        limits
    }
}

/// What ends a run before its load is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Caps {
    /// Addresses.
    pub(super) entries: Option<u64>,
    /// Requests, robots.txt included.
    pub(super) requests: Option<u64>,
    pub(super) time: Option<Duration>,
}

/// What will happen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlook {
    /// Robots.txt included.
    pub(super) requests: u64,
    pub(super) first_minute: u64,
    pub(super) first_hour: u64,
    /// From the start to the last answer; [`CENTURY`] at most.
    pub(super) lasts: Duration,
    /// So many of the requests were sent in virtual time; the others are extrapolated.
    pub(super) simulated: u64,
    /// Whether a cap ended it.
    pub(super) ended: Option<Ended>,
    /// What requests waited for last before they went, most first.
    pub(super) held: Vec<Held>,
    /// Requests that waited for nothing.
    pub(super) free: u64,
}

/// Which of [`Caps`] ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Entries,
    Requests,
    Time,
}

/// One thing that held requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) by: By,
    pub(super) requests: u64,
    /// So many keys or hosts, and the one with most of the requests.
    pub(super) keys: u64,
    pub(super) key: Option<Arc<str>>,
    /// When the first and the last of the requests were sent, from the start.
    pub(super) from: Duration,
    pub(super) until: Duration,
}

/// What may hold a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    Rate(LimitId, Rate),
    Concurrency(LimitId, u32),
    /// The server asked for it in an earlier run.
    Hold,
    /// The first answers after a hold.
    Probe,
    PerHost(usize),
    Delay(Duration),
    Workers(usize),
    Robots,
    Hours,
}

/// What held one request: by what, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cause {
    pub(super) by: By,
    pub(super) key: Option<Arc<str>>,
}

impl Cause {
    pub(super) fn of(by: By, key: &Arc<str>) -> Self {
        Self { by, key: Some(Arc::clone(key)) }
    }

    /// Of the job as a whole.
    pub(super) fn all(by: By) -> Self {
        Self { by, key: None }
    }

    /// What a verdict of the limits says.
    pub(super) fn told(verdict: Verdict, limit: LimitId, key: &Arc<str>) -> Self {
        let by = match verdict.why {
            Why::Window(rate) | Why::Pace(rate) => By::Rate(limit, rate),
            Why::Concurrency(most) => By::Concurrency(limit, most),
            Why::Probe => By::Probe,
            Why::Free | Why::Hold | Why::Save | Why::Quota | Why::Adapted | Why::Budget => By::Hold,
        };
        Self::of(by, key)
    }
}

/// How many requests each cause held, and when.
#[derive(Debug, Default)]
pub(super) struct Causes {
    by: HashMap<Cause, Span>,
    free: f64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    requests: f64,
    from: Duration,
    until: Duration,
}

impl Causes {
    /// `n` requests went between two instants, each as soon as this let them.
    pub(super) fn add(&mut self, cause: Option<Cause>, n: f64, from: Duration, until: Duration) {
        let Some(cause) = cause else {
            self.free += n;
            return;
        };
        let span = self.by.entry(cause).or_insert(Span { requests: 0.0, from, until });
        span.requests += n;
        span.from = span.from.min(from);
        span.until = span.until.max(until);
    }

    fn held(self) -> (Vec<Held>, u64) {
        let mut sums: HashMap<By, (Held, f64, f64)> = HashMap::new();
        let mut all: Vec<_> = self.by.into_iter().collect();
        all.sort_by(|(a, x), (b, y)| y.requests.total_cmp(&x.requests).then_with(|| a.key.cmp(&b.key)));
        for (cause, span) in all {
            let held = Held { by: cause.by, requests: 0, keys: 0, key: cause.key.clone(), from: span.from, until: span.until };
            let (held, sum, most) = sums.entry(cause.by).or_insert((held, 0.0, span.requests));
            *sum += span.requests;
            if span.requests > *most {
                (*most, held.key) = (span.requests, cause.key.clone());
            }
            held.keys += u64::from(cause.key.is_some());
            held.from = held.from.min(span.from);
            held.until = held.until.max(span.until);
        }
        let mut held: Vec<Held> = sums.into_values().map(|(h, sum, _)| Held { requests: whole(sum), ..h }).collect();
        held.retain(|h| h.requests > 0);
        held.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.from.cmp(&b.from)).then_with(|| a.key.cmp(&b.key)));
        (held, whole(self.free))
    }
}

/// How a run goes.
pub(super) fn outlook(load: &Load, scenario: &Scenario<'_>) -> Outlook {
    let mut run = VirtualRun::new(load, scenario);
    run.go();
    let sent = run.sent();
    let calendar = Calendar { hours: scenario.hours.as_ref(), start: scenario.start };
    let mut causes = run.take_causes();
    let mut outlook = Outlook {
        requests: sent,
        first_minute: run.within(60),
        first_hour: run.within(3600),
        lasts: if run.ended() == Some(Ended::Time) { scenario.caps.time.unwrap_or_default() } else { run.lasts() },
        simulated: sent,
        ended: run.ended(),
        held: Vec::new(),
        free: 0,
    };
    if outlook.ended.is_none() && run.left() > 0 {
        let (left, at) = (run.rest(), run.elapsed());
        let steady = Steady::new(&left, &Limits::new(scenario.limits, scenario.hosts), scenario);
        let room = |cap: Option<u64>, sent: u64| cap.map_or(f64::INFINITY, |cap| float(cap.saturating_sub(sent)));
        let caps = scenario.caps;
        // Robots.txt are asked for early: what is left is taken for addresses.
        let (by_entries, by_requests) = (room(caps.entries, run.entries_sent()), room(caps.requests, sent));
        let (mut work, mut ended) = (steady.lasts(), None);
        for (room, why) in [(by_entries, Ended::Entries), (by_requests, Ended::Requests)] {
            if room < steady.requests() && steady.reach(room) < work {
                (work, ended) = (steady.reach(room), Some(why));
            }
        }
        let mut end = calendar.spend(at, work);
        if let Some(time) = caps.time.filter(|t| *t < end) {
            (end, ended) = (time, Some(Ended::Time));
            work = calendar.work(at, end);
        }
        let by = |seconds: u64| whole(steady.by(work.min(calendar.work(at, Duration::from_secs(seconds)))));
        outlook.requests = sent + whole(steady.by(work));
        outlook.first_minute += by(60);
        outlook.first_hour += by(3600);
        // A run that time ends does not wait for answers.
        outlook.lasts = if ended == Some(Ended::Time) { end } else { end + scenario.answer }.min(CENTURY);
        outlook.ended = ended;
        for (cause, n, time) in steady.parts(work) {
            causes.add(Some(cause), n, at, calendar.spend(at, time));
        }
    }
    (outlook.held, outlook.free) = causes.held();
    outlook
}

/// How long `entries` more of the same kind take once the run is under way, and what holds them.
pub(super) fn further(load: &Load, scenario: &Scenario<'_>, entries: u64, in_turn: bool) -> (Duration, Option<Cause>) {
    let mut more = load.grown(entries, in_turn);
    more.servers.iter_mut().for_each(|s| s.robots = 0);
    let steady = Steady::new(&more, &Limits::new(scenario.limits, scenario.hosts), scenario);
    (steady.lasts(), steady.binds())
}

/// `hours`, counted from the start.
struct Calendar<'a> {
    hours: Option<&'a Hours>,
    start: Wall,
}

impl Calendar<'_> {
    /// When `work` is done that goes on from `from`.
    fn spend(&self, from: Duration, work: Duration) -> Duration {
        let Some(hours) = self.hours else { return from.saturating_add(work).min(CENTURY) };
        let (mut at, mut left) = (from, work);
        while !left.is_zero() && at < CENTURY {
            let now = self.start.plus(at);
            if let Some(wait) = hours.opens_in(now) {
                at += wait;
            } else {
                let open = hours.closes_in(now).unwrap_or(left).min(left);
                at += open;
                left -= open;
            }
        }
        at.min(CENTURY)
    }

    /// How much may be worked between two instants.
    fn work(&self, from: Duration, to: Duration) -> Duration {
        let Some(hours) = self.hours else { return to.saturating_sub(from) };
        let (mut at, mut work) = (from, Duration::ZERO);
        while at < to {
            let now = self.start.plus(at);
            if let Some(wait) = hours.opens_in(now) {
                at += wait;
            } else {
                let left = to.saturating_sub(at);
                let open = hours.closes_in(now).unwrap_or(left).min(left);
                at += open;
                work += open;
            }
        }
        work
    }
}

#[allow(clippy::cast_precision_loss, reason = "a forecast is no account")]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
pub(super) fn whole(n: f64) -> u64 {
    n.round() as u64
}
