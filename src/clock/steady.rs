//! The calendar by which stored times are kept: it does not jump when somebody sets the machine's clock.
//!
//! Holds and dues are stored as calendar times, since only these mean something after a reboot. While the machine is up the
//! time that passed is known better: by the clock that runs from its start and that nobody sets. So a state keeps, with its
//! times, one [`Stamp`] of both clocks; its times are counted on from there. A run on the same boot goes on counting; if the
//! calendar was set meanwhile, the stored times are moved by as much, once, at the start. On another boot the calendar is all
//! there is.

use super::Wall;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Smaller differences between the clocks are not corrected, and not forgotten either: the old stamp stands.
const JUMP_MS: i64 = 2000;

/// Both clocks of the machine, read together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Which start of the machine; `None` where the system does not say.
    pub boot: Option<String>,
    /// Since that start, sleep included.
    pub up: Duration,
    /// The calendar.
    pub wall: Wall,
}

impl Stamp {
    /// Time from `earlier` to `self`, where both are of one boot.
    fn since(&self, earlier: &Self) -> Option<Duration> {
        if self.boot.is_none() || self.boot != earlier.boot {
            return None;
        }
        self.up.checked_sub(earlier.up)
    }
}

impl fmt::Display for Stamp {
    /// `<boot or -> <nanoseconds up> <milliseconds since 1970>`, as the state keeps it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.boot.as_deref().unwrap_or("-"), self.up.as_nanos(), self.wall.0)
    }
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(' ');
        let (Some(boot), Some(up), Some(wall), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(());
        };
        let boot = (boot != "-").then(|| boot.to_owned());
        let up = Duration::from_nanos(up.parse().map_err(drop)?);
        Ok(Self { boot, up, wall: Wall(wall.parse().map_err(drop)?) })
    }
}

/// A calendar that is read once and then counted on by the clock that nobody sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steady {
    base: Stamp,
}

impl Steady {
    /// As the calendar is at `now`.
    #[must_use]
    pub fn new(now: Stamp) -> Self {
        Self { base: now }
    }

    /// Goes on from the stamp that a state keeps. Gives the milliseconds by which the stored times have to be moved: 0 but
    /// where the calendar was set, by more than 2 s, on the same boot.
    #[must_use]
    pub fn resume(stored: Option<Stamp>, now: Stamp) -> (Self, i64) {
        let Some((stored, passed)) = stored.and_then(|s| now.since(&s).map(|d| (s, d))) else {
            return (Self::new(now), 0);
        };
        let jump = now.wall.0.saturating_sub(stored.wall.plus(passed).0);
        if jump.abs() <= JUMP_MS { (Self { base: stored }, 0) } else { (Self::new(now), jump) }
    }

    /// The time when the machine has been up for `up`, which is not before the base.
    #[must_use]
    pub fn at(&self, up: Duration) -> Wall {
        self.base.wall.plus(up.saturating_sub(self.base.up))
    }

    /// What a state has to keep beside times by this calendar.
    #[must_use]
    pub fn base(&self) -> &Stamp {
        &self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    const HOUR: i64 = 3_600_000;

    fn steady(clock: &ManualClock) -> Steady {
        Steady::new(clock.stamp())
    }

    #[test]
    fn a_calendar_that_is_set_moves_nothing_within_a_run() {
        for jump in [HOUR, -HOUR] {
            let clock = ManualClock::default();
            let (calendar, start) = (steady(&clock), clock.wall());
            clock.advance(Duration::from_secs(10));
            clock.set_wall_by(jump);
            clock.advance(Duration::from_secs(10));
            assert_eq!(calendar.at(clock.up()), start.plus(Duration::from_secs(20)));
            assert_eq!(clock.wall().0, start.0 + 20_000 + jump);
        }
    }

    #[test]
    fn on_the_same_boot_stored_times_move_with_the_calendar() {
        for jump in [HOUR, -HOUR] {
            let clock = ManualClock::default();
            let stored = clock.stamp();
            let hold = steady(&clock).at(clock.up()).plus(Duration::from_mins(1));
            clock.advance(Duration::from_secs(20));
            clock.set_wall_by(jump);
            let clock = clock.restarted();
            let (calendar, moved) = Steady::resume(Some(stored), clock.stamp());
            assert_eq!(moved, jump);
            assert_eq!(calendar.at(clock.up()), clock.wall(), "shown times are right again");
            assert_eq!(calendar.at(clock.up()).until(Wall(hold.0 + moved)), Duration::from_secs(40));
        }
    }

    #[test]
    fn small_differences_do_not_add_up() {
        let mut clock = ManualClock::default();
        let (first, start) = (clock.stamp(), clock.wall());
        let (mut stored, mut moved) = (first.clone(), 0);
        for _ in 0..100 {
            clock.advance(Duration::from_secs(1));
            clock.set_wall_by(-70);
            clock = clock.restarted();
            let (calendar, by) = Steady::resume(Some(stored), clock.stamp());
            moved += by;
            let passed = calendar.at(clock.up()).0 - moved - start.0;
            assert_eq!(passed % 1000, 0, "no millisecond is lost or won");
            stored = calendar.base().clone();
        }
        assert!((-7000..=-5000).contains(&moved), "{moved}");
    }

    #[test]
    fn after_a_reboot_and_without_a_boot_the_calendar_is_all_there_is() {
        let clock = ManualClock::default();
        let stored = clock.stamp();
        clock.advance(Duration::from_secs(20));
        for now in [clock.rebooted().stamp(), Stamp { boot: None, ..clock.stamp() }] {
            let (calendar, moved) = Steady::resume(Some(stored.clone()), now.clone());
            assert_eq!((calendar.at(now.up), moved), (now.wall, 0));
        }
        let unsaid = Stamp { boot: None, ..stored.clone() };
        assert_eq!(Steady::resume(Some(unsaid.clone()), unsaid.clone()).0.base(), &unsaid);
        assert_eq!(Steady::resume(None, stored.clone()).0.base(), &stored);
        // Another time namespace may have started its clock later.
        let younger = Stamp { up: Duration::ZERO, wall: Wall(5), ..stored.clone() };
        assert_eq!(Steady::resume(Some(stored), younger.clone()).0.base(), &younger);
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = ManualClock::default().stamp();
        assert_eq!(stamp.to_string().parse(), Ok(stamp.clone()));
        let unsaid = Stamp { boot: None, ..stamp };
        assert_eq!(unsaid.to_string().parse(), Ok(unsaid));
        for text in ["", "- 1", "- 1 x", "- 1 2 3"] {
            assert_eq!(text.parse::<Stamp>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_taken_off() {
        let offset = crate::clock::offset_in;
        assert_eq!(offset("monotonic           0         0\nboottime       -5        20\n"), -4_999_999_980);
        assert_eq!((offset(""), offset("boottime x")), (0, 0));
    }

    #[test]
    fn the_machine_says_which_boot_it_is_and_how_long_it_is_up() {
        let (a, b) = (crate::clock::SystemClock::new(), crate::clock::SystemClock::new());
        let (first, then) = (a.stamp(), b.stamp());
        assert_eq!(first.boot, then.boot, "two processes of one boot");
        assert!(then.up >= first.up);
        if cfg!(target_os = "linux") {
            assert!(first.boot.is_some_and(|b| b.len() >= 36));
        }
    }
}
