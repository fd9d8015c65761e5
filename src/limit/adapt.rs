//! The rate that a key has learned from refusals: down once an event, back up in quiet times, never above its ceiling.

use crate::clock::Moment;
use std::time::Duration;

/// What an event leaves of the rate (`reference.md` B.7).
const LEFT: f64 = 0.7;
/// Least share of the ceiling.
const FLOOR: f64 = 0.02;
/// Each quiet half minute gives back this share of the ceiling.
const BACK: f64 = 0.05;
const QUIET: f64 = 30.0;
/// A saved rate is forgotten by a factor e in this time.
const DECAY: f64 = 24.0 * 3600.0;

/// One key's learned rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Adapt {
    /// Requests a second at most.
    ceiling: f64,
    /// Requests a second at `at`.
    rate: f64,
    at: Moment,
    /// The next one not before.
    next: Moment,
}

impl Adapt {
    /// The first event of a key whose rate was at most `ceiling` a second, and `measured` in fact.
    pub(super) fn begin(ceiling: f64, measured: Option<f64>, now: Moment) -> Self {
        let mut adapt = Self { ceiling, rate: ceiling, at: now, next: now };
        adapt.event(measured, now);
        adapt
    }

    /// A share of the ceiling from an earlier run, saved `age` ago.
    pub(super) fn restored(ceiling: f64, share: f64, age: Duration, now: Moment) -> Option<Self> {
        let lost = (1.0 - share.clamp(FLOOR, 1.0)) * (-age.as_secs_f64() / DECAY).exp();
        (lost > 0.01).then_some(Self { ceiling, rate: ceiling * (1.0 - lost), at: now, next: now })
    }

    /// The server refused: once an event.
    pub(super) fn event(&mut self, measured: Option<f64>, now: Moment) {
        let rate = self.rate(now);
        let was = measured.filter(|m| m.is_finite() && *m > 0.0).map_or(rate, |m| m.min(rate));
        self.rate = (LEFT * was).max(FLOOR * self.ceiling);
        self.at = now;
    }

    /// Requests a second at `now`.
    pub(super) fn rate(&self, now: Moment) -> f64 {
        (self.rate + BACK * self.ceiling * (now - self.at).as_secs_f64() / QUIET).min(self.ceiling)
    }

    /// Its rate as a share of its ceiling.
    pub(super) fn share(&self, now: Moment) -> f64 {
        self.rate(now) / self.ceiling
    }

    /// Whether it is back at its ceiling, and nothing is to be remembered.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.rate(now) >= self.ceiling
    }

    /// Not before.
    pub(super) fn next(&self) -> Moment {
        self.next
    }

    /// One that weighs so much goes.
    pub(super) fn take(&mut self, weight: u32, now: Moment) {
        let gap = Duration::try_from_secs_f64(f64::from(weight) / self.rate(now)).unwrap_or(Duration::from_mins(10));
        self.next = self.next.max(now) + gap.min(Duration::from_mins(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn an_event_takes_three_tenths_and_quiet_gives_them_back() {
        let mut a = Adapt::begin(10.0, Some(8.0), Moment(S));
        assert!((a.rate(Moment(S)) - 5.6).abs() < 1e-9);
        a.event(None, Moment(S));
        assert!((a.rate(Moment(S)) - 3.92).abs() < 1e-9);
        assert!((a.rate(Moment(31 * S)) - 4.42).abs() < 1e-9);
        assert!(!a.is_over(Moment(31 * S)) && a.is_over(Moment(400 * S)));
        assert!((a.rate(Moment(4000 * S)) - 10.0).abs() < 1e-9, "never above the ceiling");
        for _ in 0..50 {
            a.event(Some(0.001), Moment(S));
        }
        assert!((a.share(Moment(S)) - FLOOR).abs() < 1e-9);
        a.event(Some(f64::NAN), Moment(S));
        assert!(a.rate(Moment(S)).is_finite());
    }

    #[test]
    fn it_paces_by_what_it_learned() {
        let mut a = Adapt::begin(10.0, None, Moment(0));
        a.take(1, Moment(0));
        assert_eq!(a.next().0 / 1_000_000, 142);
        a.take(7, Moment(0));
        assert_eq!(a.next().0 / 1_000_000, 1142);
    }

    #[test]
    fn what_was_learned_fades_in_a_day() {
        let of = |hours: u64| Adapt::restored(10.0, 0.5, Duration::from_hours(hours), Moment(0)).map(|a| a.rate(Moment(0)));
        assert!((of(0).unwrap() - 5.0).abs() < 1e-9);
        assert!((of(24).unwrap() - 8.16).abs() < 0.01);
        assert_eq!(of(24 * 7), None);
    }
}
