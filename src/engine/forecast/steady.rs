//! What goes on once a run has settled: every request at the rate of the tightest thing that it has to pass.

use super::load::Load;
use super::outlook::{By, CENTURY, Cause, Scenario, float};
use crate::limit::{Claim, LimitId, Limits};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A load that flows: as each constraint is shared by those who pass it, what it takes longest to let through is what binds.
#[derive(Debug)]
pub(super) struct Steady {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    requests: f64,
    /// From the beginning to its last request.
    time: f64,
    cause: Cause,
}

/// One thing that requests have to pass.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Pass {
    Workers,
    PerHost(usize),
    Delay(usize),
    Window(LimitId, usize, Arc<str>),
    Concurrency(LimitId, Arc<str>),
}

struct Passed {
    load: f64,
    per_second: f64,
    cause: Cause,
}

impl Steady {
    pub(super) fn new(load: &Load, limits: &Limits, scenario: &Scenario<'_>) -> Self {
        let mut all = Flow { passed: HashMap::new(), limits, answer: scenario.answer, sustained: HashMap::new() };
        let workers = (scenario.workers, Cause::all(By::Workers(scenario.workers)));
        let mut flows: Vec<(f64, Vec<Pass>)> = Vec::new();
        for (i, server) in load.servers.iter().enumerate() {
            let robots = (&server.robots, std::slice::from_ref(&server.robots_claims));
            for (requests, choices) in server.classes.iter().map(|c| (&c.requests, &c.claims[..])).chain([robots]) {
                let n = float(*requests);
                if n == 0.0 {
                    continue;
                }
                let mut passes = vec![Pass::Workers];
                all.slots(Pass::Workers, n, workers.0, || workers.1.clone());
                all.slots(Pass::PerHost(i), n, server.most, || Cause::of(By::PerHost(server.most), &server.name));
                passes.push(Pass::PerHost(i));
                if !server.delay.is_zero() {
                    let cause = || Cause::of(By::Delay(server.delay), &server.name);
                    all.add(Pass::Delay(i), n, 1.0 / server.delay.as_secs_f64(), cause);
                    passes.push(Pass::Delay(i));
                }
                #[allow(clippy::cast_precision_loss, reason = "a few tokens")]
                let each = n / choices.len() as f64;
                for claim in choices.iter().flat_map(|claims| claims.iter()) {
                    all.claim(claim, each, &mut passes);
                }
                flows.push((n, passes));
            }
        }
        let parts = flows.into_iter().filter_map(|(requests, passes)| {
            let times = passes.iter().filter_map(|p| all.passed.get(p)).map(|p| (p.load / p.per_second, &p.cause));
            let (time, cause) = times.max_by(|a, b| a.0.total_cmp(&b.0))?;
            Some(Part { requests, time, cause: cause.clone() })
        });
        Self { parts: parts.collect() }
    }

    pub(super) fn requests(&self) -> f64 {
        self.parts.iter().map(|p| p.requests).sum()
    }

    /// Until the last of them.
    pub(super) fn lasts(&self) -> Duration {
        span(self.parts.iter().map(|p| p.time).fold(0.0, f64::max))
    }

    /// What holds the last of them.
    pub(super) fn binds(&self) -> Option<Cause> {
        self.parts.iter().max_by(|a, b| a.time.total_cmp(&b.time)).map(|p| p.cause.clone())
    }

    /// How many go within a time.
    pub(super) fn by(&self, time: Duration) -> f64 {
        self.parts.iter().map(|p| p.within(time)).sum()
    }

    /// When so many have gone.
    pub(super) fn reach(&self, requests: f64) -> Duration {
        let (mut low, mut high) = (0.0, self.lasts().as_secs_f64());
        for _ in 0..64 {
            let middle = f64::midpoint(low, high);
            if self.by(span(middle)) < requests { low = middle } else { high = middle }
        }
        span(high)
    }

    /// What held how many of those that go within a time, and until when.
    pub(super) fn parts(&self, time: Duration) -> impl Iterator<Item = (Cause, f64, Duration)> {
        self.parts.iter().map(move |p| (p.cause.clone(), p.within(time), span(p.time).min(time)))
    }
}

impl Part {
    fn within(&self, time: Duration) -> f64 {
        let time = time.as_secs_f64();
        if time >= self.time { self.requests } else { self.requests * time / self.time }
    }
}

struct Flow<'a> {
    passed: HashMap<Pass, Passed>,
    limits: &'a Limits,
    answer: Duration,
    sustained: HashMap<LimitId, Vec<crate::limit::Sustained>>,
}

impl Flow<'_> {
    fn add(&mut self, pass: Pass, load: f64, per_second: f64, cause: impl FnOnce() -> Cause) {
        self.passed.entry(pass).or_insert_with(|| Passed { load: 0.0, per_second, cause: cause() }).load += load;
    }

    /// So many at once, each for as long as its answer takes.
    fn slots(&mut self, pass: Pass, load: f64, most: usize, cause: impl FnOnce() -> Cause) {
        #[allow(clippy::cast_precision_loss, reason = "a number of workers")]
        let per_second = most.max(1) as f64 / self.answer.as_secs_f64();
        self.add(pass, load, per_second, cause);
    }

    fn claim(&mut self, claim: &Claim, load: f64, passes: &mut Vec<Pass>) {
        let (limits, held) = (self.limits, self.limits.held_for(self.answer));
        let windows = self.sustained.entry(claim.limit).or_insert_with(|| limits.sustained(claim.limit, held)).clone();
        for (w, window) in windows.iter().enumerate() {
            let pass = Pass::Window(claim.limit, w, Arc::clone(&claim.key));
            let cause = || Cause::of(By::Rate(claim.limit, window.rate), &claim.key);
            self.add(pass.clone(), load * f64::from(claim.weight), window.per_second, cause);
            passes.push(pass);
        }
        if let Some(most) = limits.concurrency(claim.limit) {
            let pass = Pass::Concurrency(claim.limit, Arc::clone(&claim.key));
            self.slots(pass.clone(), load, most as usize, || Cause::of(By::Concurrency(claim.limit, most), &claim.key));
            passes.push(pass);
        }
    }
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(CENTURY).min(CENTURY)
}
