//! The budget of file descriptors: how many attempts may be in flight, and when a connection is not kept.

use crate::clock::{Clock, Moment};
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Left for state, sinks, the runtime and look-ups.
const RESERVED: u64 = 24;
/// More sockets than this are not kept open, whatever the limit.
const MOST: u64 = 16_384;
/// Open descriptors are counted this often at most.
const COUNT_EVERY: Duration = Duration::from_millis(50);
/// The peak of attempts in flight is forgotten over this.
const PEAK_FOR: Duration = Duration::from_secs(10);

/// Counts what is open. An upper bound is kept cheaply (last count + connections made since) and the truth asked of the kernel
/// only where that bound comes near the budget: the client's pool has no total cap (reqwest#2424).
pub(super) struct Sockets {
    budget: usize,
    clock: Arc<dyn Clock>,
    /// Connections made by all clients.
    pub(super) made: Arc<AtomicU64>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    peak_at: AtomicU64,
    counted: AtomicUsize,
    counted_made: AtomicU64,
    counted_at: AtomicU64,
}

/// An attempt in flight; ends when dropped.
pub(super) struct InFlight<'a>(&'a Sockets);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sockets {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_limit(soft, clock)
    }

    fn with_limit(soft: u64, clock: Arc<dyn Clock>) -> Self {
        let budget = usize::try_from(soft.saturating_sub(RESERVED).clamp(4, MOST)).unwrap_or(4);
        Self {
            budget,
            clock,
            made: Arc::default(),
            in_flight: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            peak_at: AtomicU64::new(0),
            counted: AtomicUsize::new(0),
            counted_made: AtomicU64::new(0),
            counted_at: AtomicU64::new(0),
        }
    }

    /// How many attempts in flight the soft limit allows; at least 4.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    pub(super) fn enter(&self) -> InFlight<'_> {
        let now_in = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if now_in >= self.peak.load(Ordering::Relaxed) {
            self.peak.store(now_in, Ordering::Relaxed);
            self.peak_at.store(self.clock.now().0, Ordering::Relaxed);
        }
        InFlight(self)
    }

    /// Whether the connection of the next attempt may stay open after it: idle ones, together with as many in flight as lately, must fit.
    pub(super) fn may_keep(&self, now: Moment) -> bool {
        let fits = |open: usize| {
            let flying = self.in_flight.load(Ordering::Relaxed);
            let peak = self.peak.load(Ordering::Relaxed).max(flying);
            open.saturating_sub(flying) + peak <= self.budget
        };
        let bound = || {
            let since = self.made.load(Ordering::Relaxed).saturating_sub(self.counted_made.load(Ordering::Relaxed));
            self.counted.load(Ordering::Relaxed).saturating_add(usize::try_from(since).unwrap_or(usize::MAX))
        };
        if fits(bound()) {
            return true;
        }
        let last = Moment(self.counted_at.load(Ordering::Relaxed));
        if now.since(last) >= COUNT_EVERY || last == Moment::ZERO {
            let made = self.made.load(Ordering::Relaxed);
            self.counted.store(open_descriptors().unwrap_or_else(|| bound() / 2), Ordering::Relaxed);
            self.counted_made.store(made, Ordering::Relaxed);
            self.counted_at.store(now.0.max(1), Ordering::Relaxed);
            if now.since(Moment(self.peak_at.load(Ordering::Relaxed))) > PEAK_FOR {
                self.peak.store(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
                self.peak_at.store(now.0, Ordering::Relaxed);
            }
        }
        fits(bound())
    }
}

/// Open descriptors of this process: the size of `/proc/self/fd` says so since Linux 6.2, its entries do elsewhere.
fn open_descriptors() -> Option<usize> {
    if let Ok(meta) = std::fs::metadata("/proc/self/fd")
        && meta.len() > 0
    {
        return usize::try_from(meta.len()).ok();
    }
    std::fs::read_dir("/dev/fd").ok().map(Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_budget_leaves_room_and_is_never_below_four() {
        let of = |soft| Sockets::with_limit(soft, Arc::new(ManualClock::default())).budget();
        assert_eq!((of(1024), of(64), of(10), of(u64::MAX)), (1000, 40, 4, 16_384));
    }

    #[test]
    fn nothing_is_kept_once_more_is_open_than_fits() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(1));
        let open = u64::try_from(open_descriptors().unwrap()).unwrap();
        assert!(open > 2);
        let roomy = Sockets::with_limit(open + RESERVED + 100, Arc::new(clock.clone()));
        roomy.made.store(1_000_000, Ordering::Relaxed);
        assert!(roomy.may_keep(clock.now()), "the kernel's count decides, not what was ever made");
        let tight = Sockets::with_limit(RESERVED + 4, Arc::new(clock.clone()));
        tight.made.store(5, Ordering::Relaxed);
        assert!(!tight.may_keep(clock.now()));
    }
}
