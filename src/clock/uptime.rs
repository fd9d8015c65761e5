//! The machine's own clock: one for every process on it, which no change of the calendar touches.

use crate::clock::Moment;
use std::io;

/// Time since the machine started, and which start that was.
pub trait Uptime: Send + Sync {
    /// Since the machine started, sleep included: the same instant for every process of this start.
    fn now(&self) -> Moment;
    /// Names this start of the machine; instants of different ones say nothing about each other.
    fn boot(&self) -> &str;
}

/// `CLOCK_BOOTTIME` (clock_gettime(2)) and `/proc/sys/kernel/random/boot_id` (random(4)).
#[derive(Clone, Debug)]
pub struct SystemUptime {
    boot: String,
    /// What the process's time namespace adds to the machine's clock, in nanoseconds (time_namespaces(7)).
    offset: i64,
}

impl SystemUptime {
    /// The clock of this machine.
    ///
    /// # Errors
    /// The system tells no boot id.
    pub fn new() -> io::Result<Self> {
        const ID: &str = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(ID).map_err(|e| io::Error::new(e.kind(), format!("{ID}: {e}")))?.trim().to_owned();
        if boot.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{ID} is empty")));
        }
        let offset = std::fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| offset_in(&text));
        Ok(Self { boot, offset })
    }
}

impl Uptime for SystemUptime {
    fn now(&self) -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let t = rustix::time::clock_gettime(CLOCK);
        let nanos = t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec).saturating_sub(self.offset);
        Moment(u64::try_from(nanos).unwrap_or(0))
    }

    fn boot(&self) -> &str {
        &self.boot
    }
}

/// Nanoseconds in the line `boottime <seconds> <nanoseconds>`.
fn offset_in(text: &str) -> i64 {
    let line = text.lines().find_map(|l| l.strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(|n| n.parse::<i64>().unwrap_or(0));
    let seconds = numbers.next().unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_names_its_boot() {
        let clock = SystemUptime::new().unwrap();
        let (a, b) = (clock.now(), clock.now());
        assert!(Moment::ZERO < a && a <= b && !clock.boot().is_empty());
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_taken_off() {
        assert_eq!(offset_in("monotonic           0         0\nboottime       -5        20\n"), -4_999_999_980);
        assert_eq!(offset_in(""), 0);
    }
}
