//! The budget of file descriptors: how many attempts may be in flight, and whose connections are kept.

use super::client::IDLE;
use crate::clock::{Clock, Moment};
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// Left for state, sinks, the runtime and look-ups.
const RESERVED: u64 = 24;
/// Descriptors of one attempt at worst: A and AAAA side by side, two families raced, or a connect that the pool overtook.
const EACH: usize = 2;
/// More sockets than this are not kept open, whatever the limit.
const MOST: u64 = 16_384;
/// Open descriptors are counted this often at most.
const COUNT_EVERY: Duration = Duration::from_millis(50);
/// The peak of attempts in flight is forgotten over this.
const PEAK_FOR: Duration = Duration::from_secs(10);
/// Room is left for this many attempts in flight before so many were seen.
const PEAK_FLOOR: usize = 128;
/// Servers remembered before those not asked lately are forgotten.
const SERVERS: usize = 4096;

/// Counts what is open. An upper bound is kept cheaply (last count + connections made since) and the truth asked of the kernel
/// only where that bound comes near the limit: the client's pool has no total cap (reqwest#2424). Where sockets are tight, a server
/// keeps the connections that it has, one asked lately may get more, and for all others none is kept.
pub(super) struct Sockets {
    /// Descriptors for the network.
    room: usize,
    /// Open when the run began.
    base: usize,
    clock: Arc<dyn Clock>,
    /// Connections made by all clients.
    pub(super) made: Arc<AtomicU64>,
    in_flight: AtomicUsize,
    /// Those of them whose connection is kept.
    keeping: AtomicUsize,
    peak: AtomicUsize,
    peak_at: AtomicU64,
    counted: AtomicUsize,
    counted_made: AtomicU64,
    counted_at: AtomicU64,
    servers: Mutex<HashMap<u64, Server>>,
}

/// The kept connections of one server, as far as attempts tell.
#[derive(Clone, Copy, Default)]
struct Server {
    kept: usize,
    in_use: usize,
    last: Moment,
}

/// An attempt in flight; ends when dropped.
pub(super) struct InFlight<'a> {
    sockets: &'a Sockets,
    server: u64,
    /// Its connection may stay open after it.
    pub(super) keeps: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.sockets.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.keeps {
            self.sockets.keeping.fetch_sub(1, Ordering::Relaxed);
            if let Some(server) = self.sockets.servers().get_mut(&self.server) {
                server.in_use = server.in_use.saturating_sub(1);
            }
        }
    }
}

impl InFlight<'_> {
    /// A new connection was made for it.
    pub(super) fn made(&self) {
        if self.keeps
            && let Some(server) = self.sockets.servers().get_mut(&self.server)
        {
            server.kept += 1;
        }
    }
}

impl Sockets {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_limit(soft, clock)
    }

    fn with_limit(soft: u64, clock: Arc<dyn Clock>) -> Self {
        let room = usize::try_from(soft.saturating_sub(RESERVED).clamp(8, MOST)).unwrap_or(8);
        let base = open_descriptors().unwrap_or(0);
        Self {
            room,
            base,
            clock,
            made: Arc::default(),
            in_flight: AtomicUsize::new(0),
            keeping: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            peak_at: AtomicU64::new(0),
            counted: AtomicUsize::new(base),
            counted_made: AtomicU64::new(0),
            counted_at: AtomicU64::new(0),
            servers: Mutex::default(),
        }
    }

    /// How many attempts in flight the soft limit allows; at least 4.
    pub(super) fn budget(&self) -> usize {
        self.room / EACH
    }

    /// Begins an attempt; `fresh`: on a connection of its own in any case.
    pub(super) fn enter(&self, url: &Url, fresh: bool, now: Moment) -> InFlight<'_> {
        let flying = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if flying >= self.peak.load(Ordering::Relaxed) {
            self.peak.store(flying, Ordering::Relaxed);
            self.peak_at.store(now.0, Ordering::Relaxed);
        }
        let mut hasher = DefaultHasher::new();
        (url.scheme(), url.host_str(), url.port()).hash(&mut hasher);
        let server = hasher.finish();
        let mut servers = self.servers();
        if servers.len() >= SERVERS {
            servers.retain(|_, s| s.in_use > 0 || now.since(s.last) < IDLE);
        }
        let entry = servers.entry(server).or_default();
        let known = entry.last != Moment::ZERO && now.since(entry.last) < IDLE;
        if !known && entry.in_use == 0 {
            // what was kept has ended by now
            entry.kept = 0;
        }
        let idle = entry.kept > entry.in_use;
        let keeps = !fresh && (idle || self.may_keep(known, now));
        entry.last = now;
        if keeps {
            entry.in_use += 1;
            self.keeping.fetch_add(1, Ordering::Relaxed);
        }
        drop(servers);
        InFlight { sockets: self, server, keeps }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<u64, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open, what attempts in flight may yet keep, and as many attempts as lately on new connections, must fit.
    fn may_keep(&self, known: bool, now: Moment) -> bool {
        let open = || {
            let since = self.made.load(Ordering::Relaxed).saturating_sub(self.counted_made.load(Ordering::Relaxed));
            let counted = self.counted.load(Ordering::Relaxed).saturating_sub(self.base);
            counted.saturating_add(usize::try_from(since).unwrap_or(usize::MAX))
        };
        let peak = self.peak.load(Ordering::Relaxed).max(PEAK_FLOOR.min(self.budget()));
        let fits = |open: usize| {
            let kept = open.saturating_add(self.keeping.load(Ordering::Relaxed) + 1);
            kept.saturating_add(peak) <= self.room || (known && kept <= self.room * 5 / 8)
        };
        if fits(open()) {
            return true;
        }
        let last = Moment(self.counted_at.load(Ordering::Relaxed));
        if now.since(last) >= COUNT_EVERY || last == Moment::ZERO {
            let made = self.made.load(Ordering::Relaxed);
            // where nothing can be counted, half of what was made is taken to have ended
            self.counted.store(open_descriptors().unwrap_or_else(|| self.base + open() / 2), Ordering::Relaxed);
            self.counted_made.store(made, Ordering::Relaxed);
            self.counted_at.store(self.clock.now().0.max(1), Ordering::Relaxed);
            if now.since(Moment(self.peak_at.load(Ordering::Relaxed))) > PEAK_FOR {
                self.peak.store(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
                self.peak_at.store(now.0, Ordering::Relaxed);
            }
        }
        fits(open())
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

    fn sockets(limit: u64) -> Sockets {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(1));
        Sockets::with_limit(limit, Arc::new(clock))
    }

    fn url(n: usize) -> Url {
        Url::parse(&format!("http://h{n}.test/")).unwrap()
    }

    #[test]
    fn the_budget_leaves_room_and_is_never_below_four() {
        assert_eq!([1024, 64, 10, u64::MAX].map(|soft| sockets(soft).budget()), [500, 20, 4, 8192]);
    }

    #[test]
    fn where_sockets_are_tight_only_servers_asked_lately_keep_theirs() {
        let s = sockets(40);
        let now = s.clock.now();
        let few = s.enter(&url(1), false, now);
        few.made();
        drop(few);
        let _many: Vec<_> = (10..30).map(|i| s.enter(&url(i), false, now)).collect();
        assert!(s.enter(&url(1), false, now).keeps, "its own idle connection");
        assert!(!s.enter(&url(1), true, now).keeps);
        assert!(!s.enter(&url(2), false, now).keeps);
        let s = sockets(1024);
        let flight: Vec<_> = (0..400).map(|i| s.enter(&url(i), false, now)).collect();
        assert!(flight[..100].iter().all(|f| f.keeps));
    }

    #[test]
    fn the_kernels_count_decides_and_not_what_was_ever_made() {
        let s = sockets(10_000);
        s.made.store(1_000_000, Ordering::Relaxed);
        assert!(s.enter(&url(1), false, s.clock.now()).keeps);
    }
}
