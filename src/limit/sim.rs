//! A server, a network and workers in virtual time: what the limiter's promises are judged on.

use super::{Claim, Limits, Permit, Why};
use crate::clock::{Moment, unit};
use crate::model::Rate;
use crate::model::plan::LimitsPlan;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

pub(super) const MS: u64 = 1_000_000;
pub(super) const SEC: u64 = 1000 * MS;

pub(super) fn rate(count: u32, per_ms: u64) -> Rate {
    Rate { count, per: Duration::from_millis(per_ms) }
}

pub(super) fn plan(rates: &[Rate], burst: Option<u32>) -> LimitsPlan {
    LimitsPlan { rates: rates.to_vec(), burst, per_host: 64, ..LimitsPlan::default() }
}

/// A claim on the first limit.
pub(super) fn one(key: &str) -> [Claim; 1] {
    [Claim { limit: 0, key: key.into(), weight: 1 }]
}

/// When the limiter is told that a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// As it must be.
    Held,
    /// The mutation: at the send decision, as most limiters do.
    AtSend,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) rates: Vec<Rate>,
    pub(super) burst: Option<u32>,
    pub(super) workers: usize,
    pub(super) seed: u64,
    pub(super) run: Duration,
    /// Shares: connects that stall 0.5 to 3 s; connects that fail; requests whose answer never comes.
    pub(super) stall: f64,
    pub(super) unsent: f64,
    pub(super) lost: f64,
    /// Answers take up to this long.
    pub(super) answer_ms: u64,
    /// The server's clock runs this much faster than ours.
    pub(super) drift: f64,
    /// Now and then nobody has work.
    pub(super) pauses: bool,
    pub(super) counting: Counting,
}

impl World {
    pub(super) fn new(rates: &[Rate]) -> Self {
        Self {
            rates: rates.to_vec(),
            burst: None,
            workers: 32,
            seed: 1,
            run: Duration::from_mins(1),
            stall: 0.01,
            unsent: 0.0,
            lost: 0.0,
            answer_ms: 200,
            drift: 0.0,
            pauses: false,
            counting: Counting::Held,
        }
    }

    /// Arrivals by the server's clock, in order.
    pub(super) fn arrivals(&self) -> Vec<Moment> {
        let mut limits = Limits::new(&plan(&self.rates, self.burst), &[]);
        let claims = one("a");
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut permits: std::collections::HashMap<u64, (Option<Permit>, Fate)> = std::collections::HashMap::new();
        let mut arrivals = Vec::new();
        let (mut now, mut id) = (Moment(SEC), 0u64);
        let end = now + self.run;
        let mut idle_until = Moment::ZERO;
        while now < end {
            while let Some(&Reverse((at, n))) = ends.peek()
                && at <= now.0
            {
                ends.pop();
                match permits.remove(&n) {
                    Some((Some(mut permit), Fate::Answered)) => {
                        limits.arrived(&mut permit, Moment(at));
                        limits.done(permit);
                    }
                    Some((Some(permit), Fate::Unsent)) => limits.unsent(permit),
                    Some((Some(permit), Fate::Lost)) => limits.lost(permit, Moment(at)),
                    _ => {}
                }
            }
            while permits.len() < self.workers && now >= idle_until {
                let verdict = limits.next_at(&claims, now);
                let Some(permit) = limits.take(&claims, now) else {
                    assert!(verdict.at > now, "refused though free: {verdict:?}");
                    break;
                };
                assert_eq!((verdict.at, verdict.why), (now, Why::Free));
                id += 1;
                let u = |n| unit(self.seed, id, n);
                let mut wire = 20 * MS + part(20 * MS, u(0));
                if u(1) < self.stall {
                    wire += 500 * MS + part(2500 * MS, u(2));
                }
                let arrival = now.0 + wire;
                let fate = match u(3) {
                    x if x < self.unsent => Fate::Unsent,
                    x if x < self.unsent + self.lost => Fate::Lost,
                    _ => Fate::Answered,
                };
                let over = match fate {
                    Fate::Answered => arrival + part(self.answer_ms * MS, u(4)),
                    // A lost request may be closed by us long before it reaches the server, within 5 s.
                    Fate::Lost => {
                        (arrival + part(2 * SEC, u(5))).saturating_sub(part(6 * SEC, u(6))).max(now.0).max(arrival.saturating_sub(5 * SEC))
                    }
                    Fate::Unsent => arrival,
                };
                if fate != Fate::Unsent {
                    #[allow(
                        clippy::cast_precision_loss,
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a test's clock"
                    )]
                    arrivals.push(Moment((arrival as f64 * (1.0 - self.drift)) as u64));
                }
                let mut permit = permit;
                let permit = if self.counting == Counting::AtSend {
                    limits.arrived(&mut permit, now);
                    limits.done(permit);
                    None
                } else {
                    Some(permit)
                };
                ends.push(Reverse((over, id)));
                permits.insert(id, (permit, fate));
                if self.pauses && u(7) < 0.02 {
                    idle_until = now + Duration::from_nanos(part(4 * SEC, u(8)));
                }
            }
            let wake = limits.next_at(&claims, now).at.max(idle_until);
            let next = ends.peek().map_or(Moment::FAR, |Reverse((at, _))| Moment(*at));
            let full = permits.len() >= self.workers;
            let step = if full { next } else { wake.min(next) };
            assert!(step < Moment::FAR, "nothing will ever happen again");
            now = step.max(Moment(now.0 + 1));
        }
        arrivals.sort();
        arrivals
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Unsent,
    Lost,
}

/// Most arrivals in any half-open window.
pub(super) fn most_in(arrivals: &[Moment], per: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (i, a) in arrivals.iter().enumerate() {
        while arrivals[first] + per <= *a {
            first += 1;
        }
        most = most.max(i + 1 - first);
    }
    most
}

/// A share of a time.
pub(super) fn part(of: u64, share: f64) -> u64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's randomness")]
    let n = (of as f64 * share) as u64;
    n
}
