//! What a limit lets through for long: for whoever forecasts a run.

use super::claims::LimitId;
use super::limits::Limits;
use crate::model::Rate;
use std::time::Duration;

/// One window of a limit, asked for as much as it lets through and answered evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sustained {
    /// As the job has it.
    pub rate: Rate,
    /// What is left of its count after `reserve`.
    pub own: u32,
    /// Weight a second.
    pub per_second: f64,
    /// The same as a share of `own`.
    pub usable: f64,
}

impl Limits {
    /// What each window of a limit lets through where a request counts `held` after it was sent: a permit is held until then and
    /// 1.001 W more, a large window rounds up to its sub-buckets, and pacing leaves room for a burst. In the order of the rates.
    #[must_use]
    pub fn sustained(&self, limit: LimitId, held: Duration) -> Vec<Sustained> {
        let Some(limit) = self.all.get(usize::from(limit)) else { return Vec::new() };
        let window = |w: &super::limits::Window| {
            let own = w.guard.limit();
            let guarded = f64::from(own) / (w.guard.hold() + w.guard.grain() + held).as_secs_f64();
            let per_second = guarded.min(1.0 / w.pacer.interval().as_secs_f64());
            Sustained { rate: w.rate, own, per_second, usable: per_second * w.rate.per.as_secs_f64() / f64::from(own) }
        };
        limit.windows.iter().map(window).collect()
    }

    /// How long after it was sent a request counts that is answered after `answer`.
    #[must_use]
    pub fn held_for(&self, answer: Duration) -> Duration {
        self.arrival().map_or(answer, |arrival| arrival.min(answer))
    }

    /// How many of one key may be under way.
    #[must_use]
    pub fn concurrency(&self, limit: LimitId) -> Option<u32> {
        self.all.get(usize::from(limit))?.concurrency()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::sim::{plan, rate};
    use crate::model::plan::LimitsPlan;

    fn usable(count: u32, per_ms: u64, burst: Option<u32>, held_ms: u64) -> f64 {
        let limits = Limits::new(&plan(&[rate(count, per_ms)], burst), &[]);
        limits.sustained(0, Duration::from_millis(held_ms))[0].usable
    }

    #[test]
    fn a_permit_held_until_the_answer_costs_a_small_window_much_and_a_large_one_nothing() {
        assert!((usable(10, 1000, None, 100) - 1.0 / 1.101).abs() < 1e-9);
        assert!((usable(10, 1000, None, 1000) - 1.0 / 2.001).abs() < 1e-9);
        assert!((usable(10, 1000, Some(5), 0) - 0.6).abs() < 1e-6, "pacing leaves room for a burst of five");
        assert!(usable(5000, 3_600_000, None, 10_000) > 0.985);
    }

    #[test]
    fn a_reserve_is_not_ones_own_and_arrival_ends_the_wait_for_slow_answers() {
        let plan = LimitsPlan { reserve: 0.2, arrival: Some(Duration::from_secs(1)), ..plan(&[rate(10, 1000)], None) };
        let limits = Limits::new(&plan, &[]);
        assert_eq!(limits.sustained(0, Duration::ZERO)[0].own, 8);
        assert_eq!(limits.held_for(Duration::from_secs(3)), Duration::from_secs(1));
        assert_eq!(limits.held_for(Duration::from_millis(3)), Duration::from_millis(3));
        assert!(limits.sustained(99, Duration::ZERO).is_empty());
    }
}
