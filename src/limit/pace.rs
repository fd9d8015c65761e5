//! Pacing: spreads requests over a window so that its quota is not spent in one gulp.
//!
//! The one file that knows `governor` (GCRA, its `src/gcra.rs`). One [`Pacer`] serves every key of a window: governor's
//! state is one number, the theoretical arrival time, and lives with the key as a [`Tat`]; it is lent to governor for one
//! call through a clock that is told the time and a `StateStore` of our own. So it can be looked at without being changed,
//! and put back where another window refuses.
//!
//! Pacing is never the guarantee (governor #219 passes more than its quota): [`super::window`] is.

use crate::clock::Moment;
use crate::model::Rate;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Largest instant and interval that are handed to governor, whose sums are unchecked: 146 years.
const TOP: u64 = u64::MAX / 4;

/// A key's pacing state in one window: nanoseconds of the run's clock before which the bucket is not full again; 0: unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tat(u64);

impl Tat {
    /// Whether nothing of it is left at `now`.
    pub(super) fn is_idle(self, now: Moment) -> bool {
        self.0 <= now.0
    }
}

/// What governor reads and writes during one call.
#[derive(Debug, Default)]
struct Desk {
    now: AtomicU64,
    tat: AtomicU64,
}

#[derive(Clone, Debug)]
struct ToldClock(Arc<Desk>);

impl Clock for ToldClock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::from(self.0.now.load(Relaxed))
    }
}

#[derive(Debug)]
struct LentState(Arc<Desk>);

impl StateStore for LentState {
    type Key = NotKeyed;
    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let old = self.0.tat.load(Relaxed);
        let (answer, new) = f((old != 0).then(|| Nanos::from(old)))?;
        self.0.tat.store(new.into(), Relaxed);
        Ok(answer)
    }
}

/// The pacing rule of one window, shared by its keys.
#[derive(Debug)]
pub(super) struct Pacer {
    limiter: RateLimiter<NotKeyed, LentState, ToldClock, NoOpMiddleware<Nanos>>,
    desk: Arc<Desk>,
    interval: Duration,
    burst: u32,
}

impl Pacer {
    /// Paces `rate` with `burst` at once (contract, *Keys*: default L/100, at least 1, at most 20); a burst above L is L.
    pub(super) fn new(rate: Rate, burst: Option<u32>) -> Self {
        let limit = rate.count.max(1);
        let burst = burst.unwrap_or((limit / 100).clamp(1, 20)).clamp(1, limit);
        let interval = interval(rate, burst);
        // So that governor's interval times burst stays a u64: only windows of years with bursts of hundreds are cut.
        let fits = u32::try_from(TOP / interval).unwrap_or(u32::MAX).max(1);
        let burst = burst.min(fits);
        let desk = Arc::new(Desk::default());
        let size = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let interval = Duration::from_nanos(interval);
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(size);
        let limiter = RateLimiter::new(quota, LentState(Arc::clone(&desk)), ToldClock(Arc::clone(&desk)));
        Self { limiter, desk, interval, burst }
    }

    /// At once.
    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Between two when the burst is spent.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// The earliest instant from `now` on at which [`Pacer::take`] says yes; changes nothing.
    pub(super) fn next_at(&self, tat: Tat, now: Moment) -> Moment {
        self.ask(tat, now).map_or_else(|at| at, |_| now)
    }

    /// Takes one that weighs `weight`, or leaves `tat` as it is. What weighs more than one goes where one could, and the bucket
    /// is in debt then.
    pub(super) fn take(&self, tat: &mut Tat, weight: u32, now: Moment) -> bool {
        match self.ask(*tat, now) {
            Ok(new) => {
                let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(TOP);
                *tat = Tat(new.0.saturating_add(interval.saturating_mul(u64::from(weight.saturating_sub(1)))).min(TOP));
                true
            }
            Err(_) => false,
        }
    }

    fn ask(&self, tat: Tat, now: Moment) -> Result<Tat, Moment> {
        self.desk.now.store(now.0.min(TOP), Relaxed);
        self.desk.tat.store(tat.0, Relaxed);
        match self.limiter.check() {
            Ok(()) => Ok(Tat(self.desk.tat.load(Relaxed))),
            Err(refusal) => Err(Moment(refusal.earliest_possible().into())),
        }
    }
}

/// Nanoseconds between two, so that a burst and what follows never pass L in a half-open window: T >= W / (L + 1 - b)
/// (`t_n >= t_1 + (n - b) T`, hence n < b + W/T).
fn interval(rate: Rate, burst: u32) -> u64 {
    let w = u64::try_from(rate.per.as_nanos()).unwrap_or(TOP).min(TOP);
    w.div_ceil(u64::from(rate.count.max(1) - burst) + 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, secs: u64) -> Rate {
        Rate { count, per: Duration::from_secs(secs) }
    }

    #[test]
    fn default_burst_is_a_hundredth_between_1_and_20() {
        for (count, burst) in [(1, 1), (10, 1), (199, 1), (200, 2), (1000, 10), (5000, 20)] {
            assert_eq!(Pacer::new(rate(count, 10), None).burst(), burst, "{count}");
        }
        assert_eq!(Pacer::new(rate(10, 10), Some(5)).burst(), 5);
        assert_eq!(Pacer::new(rate(10, 10), Some(50)).burst(), 10);
    }

    #[test]
    fn asking_changes_nothing_and_tells_when() {
        let pacer = Pacer::new(rate(10, 1), None);
        let mut tat = Tat::default();
        let now = Moment(5_000_000_000);
        assert_eq!(pacer.next_at(tat, now), now);
        assert_eq!(tat, Tat::default());
        assert!(pacer.take(&mut tat, 1, now));
        assert!(!pacer.take(&mut tat, 1, now));
        assert_eq!(pacer.next_at(tat, now), now + Duration::from_millis(100));
        assert!(pacer.take(&mut tat, 1, now + Duration::from_millis(100)));
    }

    #[test]
    fn pacing_alone_never_passes_the_limit_in_a_half_open_window() {
        for (count, per_ms, burst) in [(1, 1000, 1), (7, 1000, 7), (10, 1000, 1), (10, 1000, 5), (10, 999, 9), (300, 1000, 20)] {
            let r = Rate { count, per: Duration::from_millis(per_ms) };
            let pacer = Pacer::new(r, Some(burst));
            let (mut tat, mut now, mut sent) = (Tat::default(), Moment(1), Vec::new());
            for _ in 0..2000 {
                now = pacer.next_at(tat, now);
                assert!(pacer.take(&mut tat, 1, now));
                sent.push(now);
            }
            let most = sent.iter().map(|x| sent.iter().filter(|a| **a >= *x && **a < *x + r.per).count()).max();
            assert!(most <= Some(count as usize), "{most:?} of {count} per {per_ms} ms, burst {burst}");
        }
    }

    #[test]
    fn absurd_windows_and_instants_do_not_overflow() {
        let pacer = Pacer::new(Rate { count: u32::MAX, per: Duration::MAX }, Some(u32::MAX));
        let mut tat = Tat::default();
        assert!(pacer.take(&mut tat, 1, Moment::FAR));
        let _ = pacer.next_at(tat, Moment::FAR);
    }
}
