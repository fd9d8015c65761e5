//! What a run shows of its limits, and what its idle workers wait for.

use crate::clock::{Clock as _, Moment};
use crate::engine::dispatcher::Dispatcher;
use crate::events::{LimitShown, RateShown};
use crate::limit::{LimitView, Why};
use std::time::Duration;

/// Keys shown.
const KEYS: usize = 20;

impl Dispatcher {
    /// The limits that are busiest or held.
    pub(super) fn limits_shown(&mut self, now: Moment) -> Vec<LimitShown> {
        self.limits.views(KEYS, now).into_iter().map(shown).collect()
    }

    /// Books the time since the last look, for each worker that had nothing in flight, to what kept it from work.
    pub(super) fn book_idle(&mut self, now: Moment) {
        let since = std::mem::replace(&mut self.idle_booked, now);
        let idle = self.most.saturating_sub(self.in_flight);
        if idle > 0 {
            let cause = self.idle_cause(now);
            let workers = u32::try_from(idle).unwrap_or(u32::MAX);
            self.tally.idle(cause, now.since(since).saturating_mul(workers));
        }
    }

    fn idle_cause(&mut self, now: Moment) -> &'static str {
        if !self.has_room() {
            // There are free workers, so it is what comes after them.
            return if self.answers_wait() { "extraction" } else { "disk" };
        }
        if self.hours.as_ref().is_some_and(|h| h.opens_in(self.clock.wall()).is_some()) {
            return "hours";
        }
        let first = self.schedule.waiting().min_by_key(|(_, _, at)| *at).map(|(slot, _, _)| slot);
        let Some(slot) = first else {
            return match () {
                () if self.schedule.ready_hosts() > 0 => "turns",
                () if self.schedule.busy_hosts() > 0 => "per_host",
                () if self.leasing || self.offering => "disk",
                () if !self.frontier.dues.is_empty() => "backoff",
                () if self.fed.is_some() && !self.input_done => "input",
                () => "nothing to do",
            };
        };
        let Some(host) = self.hosts.get(&slot) else { return "delay" };
        match self.limits.next_at(&host.claims, now).why {
            Why::Hold | Why::Probe => "hold",
            Why::Window(_) | Why::Pace(_) | Why::Concurrency(_) | Why::Quota | Why::Adapted | Why::Budget => "limit",
            Why::Save => "disk",
            Why::Free => match self.cause(slot, now).as_str() {
                "robots.txt" => "robots.txt",
                "breaker" => "breaker",
                // A [[limit]] of some requests, or a budget, speaks of the request and not of the host.
                _ if self.plan.limits.delay.is_zero() => "limit",
                _ => "delay",
            },
        }
    }
}

fn shown(view: LimitView) -> LimitShown {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    LimitShown {
        limit: view.limit,
        key: view.key,
        rates: view.windows.into_iter().map(|(rate, used)| RateShown { rate: rate.to_string(), used, of: rate.count }).collect(),
        held_ms: view.held.map(ms),
        left: view.quota.map(|(left, _, _)| left),
        of: view.quota.and_then(|(_, of, _)| of),
        reset_ms: view.quota.map(|(_, _, reset)| ms(reset)),
        learned_percent: view.adapted.map(|n| n / 10),
    }
}
