//! Monotonic and wall time and seeded randomness, passed in so that tests set them.
//!
//! Deciders never read a clock: they are told a [`Moment`] (monotonic) or a [`Wall`] (calendar) and return a
//! decision. Only this module may call the operating system for the time.

mod steady;

pub use steady::{Stamp, Steady};

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A point on the run's monotonic clock, in nanoseconds since that clock began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The beginning of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than every instant that a run can reach.
    pub const FAR: Self = Self(u64::MAX);

    /// Time since `earlier`, zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A point on the calendar, in milliseconds since 1970-01-01T00:00:00Z. Durable not-befores use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

impl Wall {
    /// `self` moved later by `d`.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time until `later`, zero where it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl serde::Serialize for Wall {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with milliseconds, as `_fetched_at` and the attempts of a skipped record show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// The clocks of a run.
pub trait Clock: Send + Sync {
    /// Now, monotonic; counts on while the machine sleeps only where the system's own clock does.
    fn now(&self) -> Moment;
    /// Now, by the calendar: for what people read and for what servers say in dates. It jumps when it is set.
    fn wall(&self) -> Wall;
    /// How long the machine has been up, sleep included. Nobody sets it, and every process of this boot reads the same.
    fn up(&self) -> Duration;
    /// Which start of the machine this is; `None` where the system does not say.
    fn boot(&self) -> Option<&str>;
    /// Calendar and up-time together.
    fn stamp(&self) -> Stamp {
        Stamp { boot: self.boot().map(str::to_owned), up: self.up(), wall: self.wall() }
    }
}

/// The machine's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
    boot: Option<Arc<str>>,
    /// What the process's time namespace adds to the machine's clock, in nanoseconds (time_namespaces(7)).
    offset: i64,
}

impl SystemClock {
    /// A clock that begins now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    pub fn new() -> Self {
        let offset = std::fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| offset_in(&text));
        Self { start: std::time::Instant::now(), boot: boot_id(), offset }
    }

    /// The `Instant` that stands for `moment`, for timers of the runtime.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Option<std::time::Instant> {
        self.start.checked_add(Duration::from_nanos(moment.0))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn wall(&self) -> Wall {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => Wall(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Err(e) => Wall(-i64::try_from(e.duration().as_millis()).unwrap_or(0)),
        }
    }
    fn up(&self) -> Duration {
        #[cfg(target_os = "linux")]
        {
            let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            let nanos = t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec).saturating_sub(self.offset);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
        }
        // Without a boot to name it need be right within this process alone.
        #[cfg(not(target_os = "linux"))]
        self.start.elapsed()
    }
    fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }
}

/// The boot as the kernel names it (random(4)).
fn boot_id() -> Option<Arc<str>> {
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().into()).filter(|id: &Arc<str>| !id.is_empty())
}

/// Nanoseconds in the line `boottime <seconds> <nanoseconds>`.
fn offset_in(text: &str) -> i64 {
    let line = text.lines().find_map(|l| l.strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(|n| n.parse::<i64>().unwrap_or(0));
    let seconds = numbers.next().unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(numbers.next().unwrap_or(0))
}

/// Clocks that stand still until told otherwise.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    machine: Arc<Machine>,
    /// Up-time at which this process began.
    began: u64,
}

/// What the clocks of one boot share.
#[derive(Debug)]
struct Machine {
    boot: String,
    up: AtomicU64,
    /// The calendar at its start.
    wall: AtomicI64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { boot: "boot-1".into(), up: AtomicU64::new(0), wall: AtomicI64::new(1_700_000_000_000) }
    }
}

impl ManualClock {
    /// Moves all clocks on by `d`.
    pub fn advance(&self, d: Duration) {
        self.machine.up.fetch_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Somebody sets the calendar, so many milliseconds later or, negative, earlier.
    pub fn set_wall_by(&self, ms: i64) {
        self.machine.wall.fetch_add(ms, Ordering::SeqCst);
    }

    /// The clocks of a new process on this boot.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { machine: self.machine.clone(), began: self.machine.up.load(Ordering::SeqCst) }
    }

    /// The clocks of a process after a reboot that took no time by the calendar.
    #[must_use]
    pub fn rebooted(&self) -> Self {
        let machine = Machine { boot: format!("{}+", self.machine.boot), up: AtomicU64::new(0), wall: AtomicI64::new(self.wall().0) };
        Self { machine: Arc::new(machine), began: 0 }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(self.machine.up.load(Ordering::SeqCst) - self.began)
    }
    fn wall(&self) -> Wall {
        let up = i64::try_from(self.machine.up.load(Ordering::SeqCst) / 1_000_000).unwrap_or(0);
        Wall(self.machine.wall.load(Ordering::SeqCst) + up)
    }
    fn up(&self) -> Duration {
        Duration::from_nanos(self.machine.up.load(Ordering::SeqCst))
    }
    fn boot(&self) -> Option<&str> {
        Some(&self.machine.boot)
    }
}

/// A uniform number in `0.0..1.0` that is a function of seed, key and try alone, so that a seed repeats a run's jitter.
#[must_use]
pub fn unit(seed: u64, key: u64, attempt: u32) -> f64 {
    // splitmix64 (Steele, Lea, Flood 2014) over the mixed words; 53 bits make the fraction.
    let mut z = seed ^ key.rotate_left(32) ^ u64::from(attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let f = (z >> 11) as f64 / (1u64 << 53) as f64;
    f
}
