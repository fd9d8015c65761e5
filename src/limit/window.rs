//! The guard that keeps promise P2: at most L requests reach the server in any window W by its own clock.
//!
//! A permit is held from admit until `u + W`, u being the instant at which the final response headers are in; a request is
//! admitted only if `in flight + settled within W < L`. *Proof* (`stack.md` 5): let more than L arrivals lie in
//! `[x, x + W)`, k the last admitted of them. Every other i has `u_i >= a_i >= x`, so its hold ends at or after
//! `x + W > a_k >= admit_k`, and began before admit_k: L holds were live when k was admitted, which is refused. No bound on
//! DNS, connect or answer time is used, and no foreign clock; counting at the send decision proves nothing.
//!
//! What the proof leaves: the server's clock may run apart from ours, so W is [`DRIFT`] longer here; a request whose answer
//! never came is taken to have arrived within [`LOST`] of its end.

use crate::clock::Moment;
use crate::model::Rate;
use std::collections::VecDeque;
use std::time::Duration;

/// A window counts 1/DRIFT longer than it is: 1.001 W.
const DRIFT: u64 = 1000;
/// After this long beyond its end a request without an answer has arrived or never will (`stack.md` 5, G).
pub(super) const LOST: Duration = Duration::from_secs(5);
/// From this many on a window counts in sub-buckets.
const LARGE: u32 = 100;
/// Sub-buckets of a large window: 16 bytes each, and 1/120 W of a settled request's time.
const BUCKETS: u64 = 120;

/// The rule of one window, shared by its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    limit: u32,
    /// Nanoseconds that a settled request counts on.
    hold: u64,
    /// Settled instants are rounded up to multiples of this; 1 keeps them exact.
    grain: u64,
}

impl Guard {
    pub(super) fn new(rate: Rate) -> Self {
        let w = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let hold = w.saturating_add(w.div_ceil(DRIFT));
        let grain = if rate.count < LARGE { 1 } else { hold.div_ceil(BUCKETS) };
        Self { limit: rate.count, hold, grain }
    }

    /// L.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// What instants are rounded up to.
    pub(super) fn grain(&self) -> Duration {
        Duration::from_nanos(self.grain)
    }

    /// How long a settled request counts, without rounding.
    pub(super) fn hold(&self) -> Duration {
        Duration::from_nanos(self.hold)
    }
}

/// What a key has spent in one window, without what is in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    /// When how many leave the window, earliest first; instants distinct.
    leaves: VecDeque<(u64, u32)>,
    total: u32,
}

impl Spent {
    /// Counts `n` requests that arrived at `u` or before.
    pub(super) fn add(&mut self, guard: &Guard, u: Moment, n: u32) {
        let rounded = u.0.div_ceil(guard.grain).saturating_mul(guard.grain);
        self.add_leaving(rounded.saturating_add(guard.hold), n);
    }

    /// Counts `n` that leave at the given nanosecond.
    pub(super) fn add_leaving(&mut self, leave: u64, n: u32) {
        self.total = self.total.saturating_add(n);
        // Headers come in nearly in order: the place is at the end or close to it.
        let after = self.leaves.iter().rposition(|(at, _)| *at <= leave);
        match after {
            Some(i) if self.leaves[i].0 == leave => self.leaves[i].1 = self.leaves[i].1.saturating_add(n),
            Some(i) => self.leaves.insert(i + 1, (leave, n)),
            None => self.leaves.push_front((leave, n)),
        }
    }

    /// Forgets what has left by `now`.
    pub(super) fn forget(&mut self, now: Moment) {
        while let Some(&(leave, n)) = self.leaves.front() {
            if leave > now.0 {
                return;
            }
            self.leaves.pop_front();
            self.total = self.total.saturating_sub(n);
        }
        if self.leaves.capacity() > 8 {
            self.leaves = VecDeque::new();
        }
    }

    /// Counts `n` no longer that were counted as arrived at `u`; those that have left since are gone anyway.
    pub(super) fn take_back(&mut self, guard: &Guard, u: Moment, n: u32) {
        let leave = u.0.div_ceil(guard.grain).saturating_mul(guard.grain).saturating_add(guard.hold);
        if let Ok(i) = self.leaves.binary_search_by_key(&leave, |(at, _)| *at) {
            let n = n.min(self.leaves[i].1);
            self.leaves[i].1 -= n;
            self.total -= n;
            if self.leaves[i].1 == 0 {
                self.leaves.remove(i);
            }
        }
    }

    /// What is counted, without what is in flight; [`Spent::forget`] first.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Whether one that weighs `weight` may go with `in_flight` on the way; [`Spent::forget`] first.
    pub(super) fn admits(&self, guard: &Guard, in_flight: u32, weight: u32) -> bool {
        self.total.saturating_add(in_flight).saturating_add(weight) <= guard.limit
    }

    /// The earliest instant from `now` on at which [`Spent::admits`] says yes if nothing is admitted meanwhile;
    /// [`Moment::FAR`] while those in flight alone fill the window. [`Spent::forget`] first.
    pub(super) fn opens_at(&self, guard: &Guard, in_flight: u32, weight: u32, now: Moment) -> Moment {
        let Some(room) = guard.limit.checked_sub(in_flight.saturating_add(weight)) else { return Moment::FAR };
        let mut left = self.total;
        let mut at = now;
        for (leave, n) in &self.leaves {
            if left <= room {
                break;
            }
            left = left.saturating_sub(*n);
            at = Moment(*leave);
        }
        at
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// When how many leave, earliest first.
    pub(super) fn leaving(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.leaves.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn guard(count: u32, secs: u64) -> Guard {
        Guard::new(Rate { count, per: Duration::from_secs(secs) })
    }

    #[test]
    fn settled_counts_until_a_window_after_its_headers() {
        let (g, mut spent) = (guard(2, 10), Spent::default());
        spent.add(&g, Moment(3 * S), 1);
        assert!(spent.admits(&g, 0, 1));
        assert!(!spent.admits(&g, 1, 1));
        assert_eq!(spent.opens_at(&g, 1, 1, Moment(4 * S)), Moment(13 * S + S / 100));
        spent.forget(Moment(13 * S + S / 100 - 1));
        assert!(!spent.admits(&g, 1, 1));
        spent.forget(Moment(13 * S + S / 100));
        assert!(spent.admits(&g, 1, 1));
        assert!(spent.is_empty());
    }

    #[test]
    fn opens_far_while_only_those_in_flight_fill_the_window() {
        let (g, spent) = (guard(2, 10), Spent::default());
        assert_eq!(spent.opens_at(&g, 2, 1, Moment(S)), Moment::FAR);
        assert_eq!(spent.opens_at(&g, 1, 1, Moment(S)), Moment(S));
    }

    #[test]
    fn out_of_order_arrivals_leave_in_order() {
        let (g, mut spent) = (guard(3, 10), Spent::default());
        for t in [9, 2, 5] {
            spent.add(&g, Moment(t * S), 1);
        }
        assert_eq!(spent.opens_at(&g, 0, 1, Moment(10 * S)), Moment(12 * S + S / 100));
        assert_eq!(spent.opens_at(&g, 1, 1, Moment(10 * S)), Moment(15 * S + S / 100));
        assert_eq!(spent.opens_at(&g, 2, 1, Moment(10 * S)), Moment(19 * S + S / 100));
    }

    proptest! {
        /// Against a list of every arrival: exact where small, late by a sub-bucket at most and never early where large.
        #[test]
        fn guard_agrees_with_a_naive_model(
            count in 1u32..300,
            steps in prop::collection::vec((0u64..400, 0u64..6000, 0u32..4), 1..400),
        ) {
            let g = guard(count, 10);
            let (mut spent, mut naive, mut now) = (Spent::default(), Vec::new(), Moment(0));
            for (wait, late, in_flight) in steps {
                now = now + Duration::from_millis(wait);
                spent.forget(now);
                let leaving_after = |t: u64| naive.iter().filter(|leave| **leave > t).count();
                let room = count.saturating_sub(in_flight) as usize;
                let (exact, slow) = (leaving_after(now.0) < room, leaving_after(now.0.saturating_sub(g.grain)) < room);
                let said = spent.admits(&g, in_flight, 1);
                prop_assert!(exact || !said, "admitted early");
                prop_assert!(said || !slow, "refused late");
                let opens = spent.opens_at(&g, in_flight, 1, now);
                prop_assert_eq!(said, opens == now);
                if opens < Moment::FAR {
                    let mut then = spent.clone();
                    then.forget(opens);
                    prop_assert!(then.admits(&g, in_flight, 1));
                    if opens > now {
                        let mut before = spent.clone();
                        before.forget(Moment(opens.0 - 1));
                        prop_assert!(!before.admits(&g, in_flight, 1), "could have opened earlier");
                    }
                } else {
                    prop_assert!(in_flight >= count);
                }
                if said {
                    let u = now + Duration::from_millis(late);
                    spent.add(&g, u, 1);
                    naive.push(u.0 + g.hold);
                }
            }
        }
    }

    #[test]
    fn large_windows_round_up_and_stay_small() {
        let (g, mut spent) = (guard(100_000, 3600), Spent::default());
        for i in 0..100_000u64 {
            let u = Moment(i * 36_000_000 + 7);
            spent.forget(u);
            spent.add(&g, u, 1);
        }
        assert!(spent.leaves.len() <= 122, "{}", spent.leaves.len());
        let (first, _) = spent.leaves[0];
        assert!(first >= 7 + g.hold && first <= 7 + g.hold + g.grain);
    }
}
