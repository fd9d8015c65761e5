//! What a server says is left of a key's quota, and how it is made to last: headers tighten, never loosen.

use crate::clock::Moment;
use std::time::Duration;

/// A quota as an answer told it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Requests left; fractions are cut.
    pub remaining: f64,
    /// From the answer's arrival to its reset.
    pub reset: Duration,
    /// Requests in the whole window, where it is told.
    pub limit: Option<u64>,
    /// The window's length, where it is told.
    pub window: Option<Duration>,
}

/// Resets that are this close together are the same one, seen through clocks of whole seconds.
const SAME: Duration = Duration::from_secs(2);
/// Resets are told in whole seconds: this much later it has surely come.
const LATE: Duration = Duration::from_secs(1);

/// One key's quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quota {
    /// At the latest answer.
    left: u64,
    /// Of them not spent: a hundredth of the window, for those that share it.
    kept: u64,
    limit: Option<u64>,
    window: Option<Duration>,
    reset: Moment,
    /// The next one not before, where there is more work than quota.
    next: Moment,
    /// Between two, where there is more work than quota.
    gap: Duration,
}

impl Quota {
    /// The answer that arrived at `now`; `in_flight` were on their way meanwhile, `backlog` wait to be sent.
    pub(super) fn new(told: Told, now: Moment) -> Self {
        let left = whole(told.remaining);
        let kept = told.limit.unwrap_or(0) / 100;
        Self { left, kept, limit: told.limit, window: told.window, reset: now + told.reset + LATE, next: Moment::ZERO, gap: Duration::ZERO }
    }

    /// Whether it is the window that an answer tells of.
    pub(super) fn is_of(&self, told: Told) -> bool {
        (self.limit, self.window) == (told.limit, told.window)
    }

    /// A further answer: of one window the least that was told counts, since answers overtake each other.
    pub(super) fn told(&mut self, told: Told, now: Moment) {
        let new = Self::new(told, now);
        let same = new.reset < self.reset + SAME && self.reset < new.reset + SAME && now < self.reset;
        if same {
            self.left = self.left.min(new.left);
            self.reset = self.reset.max(new.reset);
            (self.limit, self.kept) = (new.limit, new.kept);
        } else if new.reset >= self.reset || now >= self.reset || new.left < self.left {
            *self = Self { next: self.next, ..new };
        }
    }

    /// Spreads what is left over the time to the reset where more than that waits to be sent.
    pub(super) fn pace(&mut self, in_flight: u32, backlog: u64, now: Moment) {
        let left = self.spendable(in_flight);
        self.gap = match u32::try_from(left) {
            Ok(n) if n > 0 && backlog > left => (self.reset - now) / n,
            _ => Duration::ZERO,
        };
        if self.gap.is_zero() {
            self.next = Moment::ZERO;
        }
    }

    /// When one may go that takes `weight`; `None`: now; [`Moment::FAR`]: not before an answer tells that less was spent than may
    /// be by those in flight.
    pub(super) fn opens_at(&self, in_flight: u32, weight: u32, now: Moment) -> Option<Moment> {
        if now >= self.reset {
            None
        } else if in_flight > 0 && self.spendable(in_flight) < u64::from(weight) && self.spendable(0) >= u64::from(weight) {
            Some(Moment::FAR)
        } else if self.spendable(in_flight) < u64::from(weight) {
            Some(self.reset)
        } else {
            Some(self.next).filter(|next| *next > now)
        }
    }

    /// One goes. It stays counted as in flight until its answer says what is left.
    pub(super) fn take(&mut self, now: Moment) {
        self.next = self.next.max(now) + self.gap;
    }

    /// An answer without such headers, or none at all, came for one that was sent: it may have been counted.
    pub(super) fn unseen(&mut self, weight: u32) {
        self.left = self.left.saturating_sub(u64::from(weight));
    }

    fn spendable(&self, in_flight: u32) -> u64 {
        self.left.saturating_sub(self.kept).saturating_sub(u64::from(in_flight))
    }

    /// Left, of how many where that is known, and until when.
    pub(super) fn view(&self) -> (u64, Option<u64>, Moment) {
        (self.left, self.limit, self.reset)
    }

    /// Whether its reset has passed.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        now >= self.reset
    }
}

fn whole(n: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to what a u64 holds")]
    let n = n.clamp(0.0, 1e15) as u64;
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn told(remaining: f64, reset: u64, limit: u64) -> Told {
        Told { remaining, reset: Duration::from_secs(reset), limit: Some(limit), window: None }
    }

    #[test]
    fn what_is_left_is_spent_and_then_the_reset_awaited() {
        let mut q = Quota::new(told(3.9, 10, 10), Moment(0));
        assert_eq!(q.opens_at(2, 1, Moment(0)), None);
        assert_eq!(q.opens_at(3, 1, Moment(0)), Some(Moment::FAR), "those in flight may not be counted");
        assert_eq!(q.opens_at(0, 4, Moment(0)), Some(Moment(11 * S)), "a heavy one does not fit");
        q.unseen(3);
        assert!((q.spendable(0) == 0) && q.opens_at(0, 1, Moment(10 * S)).is_some());
        assert_eq!(q.opens_at(0, 1, Moment(11 * S)), None);
    }

    #[test]
    fn answers_that_overtake_each_other_leave_the_least() {
        let mut q = Quota::new(told(5.0, 10, 10), Moment(0));
        q.told(told(7.0, 9, 10), Moment(S));
        assert_eq!(q.view().0, 5);
        q.told(told(4.0, 10, 10), Moment(S));
        assert_eq!(q.view(), (4, Some(10), Moment(12 * S)));
        q.told(told(9.0, 30, 10), Moment(2 * S));
        assert_eq!(q.view(), (9, Some(10), Moment(33 * S)), "a new window");
    }

    #[test]
    fn a_hundredth_is_kept_for_others_and_the_rest_spread_where_work_is_more() {
        let mut q = Quota::new(told(101.0, 99, 100), Moment(0));
        q.pace(0, 100, Moment(0));
        q.take(Moment(0));
        assert_eq!(q.opens_at(0, 1, Moment(0)), None, "there is quota for all that waits");
        q.pace(0, 10_000, Moment(0));
        q.take(Moment(0));
        assert_eq!(q.opens_at(0, 1, Moment(0)), Some(Moment(S)));
        let q = Quota::new(told(50.0, 9, 5000), Moment(0));
        assert!((q.spendable(0) == 0));
        assert_eq!(Quota::new(told(-3.0, 9, 10), Moment(0)).view().0, 0);
    }
}
