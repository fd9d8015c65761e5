//! `[limits] hours`: when requests may be sent at all.

use crate::clock::Wall;
use crate::model::plan::Hours as Plan;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use std::time::Duration;

/// The hours of a job.
#[derive(Clone, Debug)]
pub struct Hours {
    from: Time,
    until: Time,
    zone: TimeZone,
}

impl Hours {
    /// Hours of a plan; a zone that nobody knows (refused by `config`) is UTC.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let time = |minutes: u16| {
            let (h, m) = (i8::try_from(minutes / 60 % 24).unwrap_or(0), i8::try_from(minutes % 60).unwrap_or(0));
            Time::new(h, m, 0, 0).unwrap_or(Time::MIN)
        };
        let zone = match &plan.zone {
            Some(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
            None => TimeZone::system(),
        };
        Self { from: time(plan.from), until: time(plan.until), zone }
    }

    /// How long it is until requests may be sent; `None`: they may be now.
    #[must_use]
    pub fn opens_in(&self, now: Wall) -> Option<Duration> {
        let now = Timestamp::from_millisecond(now.0).ok()?.to_zoned_datetime(self.zone.clone());
        let time = now.time();
        if self.is_open_at(time) {
            return None;
        }
        // A day of summer time may skip the hour: then it is open as soon as the clock is beyond it.
        self.next(&now, self.from)
    }

    /// How long requests may still be sent; `None`: they may not be now. What closes and opens at one instant closes too.
    #[must_use]
    pub fn closes_in(&self, now: Wall) -> Option<Duration> {
        let now = Timestamp::from_millisecond(now.0).ok()?.to_zoned_datetime(self.zone.clone());
        if self.is_open_at(now.time()) { self.next(&now, self.until) } else { None }
    }

    fn is_open_at(&self, time: Time) -> bool {
        if self.from < self.until { self.from <= time && time < self.until } else { time >= self.from || time < self.until }
    }

    /// Until this time of day is next, later than now.
    fn next(&self, now: &ZonedDateTime, time: Time) -> Option<Duration> {
        let at = |day: &ZonedDateTime| day.date().to_datetime(time).to_zoned_datetime(self.zone.clone()).ok();
        let next = at(now).filter(|at| at > now).or_else(|| at(&now.tomorrow().ok()?))?;
        let millis = next.timestamp().as_millisecond() - now.timestamp().as_millisecond();
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(1).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(from: u16, until: u16, now: &str) -> Option<u64> {
        let hours = Hours::new(&Plan { from, until, zone: Some("Europe/Berlin".into()) });
        let now: Timestamp = now.parse().unwrap();
        hours.opens_in(Wall(now.as_millisecond())).map(|d| d.as_secs())
    }

    #[test]
    fn hours_over_midnight_and_within_a_day() {
        // Berlin is an hour ahead in winter
        assert_eq!(opens(22 * 60, 6 * 60, "2026-01-10T21:00:00Z"), None);
        assert_eq!(opens(22 * 60, 6 * 60, "2026-01-10T20:59:59Z"), Some(1));
        assert_eq!(opens(22 * 60, 6 * 60, "2026-01-10T04:59:59Z"), None);
        assert_eq!(opens(22 * 60, 6 * 60, "2026-01-10T05:00:00Z"), Some(16 * 3600));
        assert_eq!(opens(9 * 60, 17 * 60, "2026-01-10T16:30:00Z"), Some(15 * 3600 + 1800));
        assert_eq!(opens(9 * 60, 17 * 60, "2026-07-10T07:00:00Z"), None, "summer time");
    }

    #[test]
    fn it_tells_how_long_it_stays_open() {
        let closes = |from: u16, until: u16, now: &str| {
            let hours = Hours::new(&Plan { from, until, zone: Some("Europe/Berlin".into()) });
            hours.closes_in(Wall(now.parse::<Timestamp>().unwrap().as_millisecond())).map(|d| d.as_secs())
        };
        assert_eq!(closes(22 * 60, 6 * 60, "2026-01-10T21:00:00Z"), Some(8 * 3600));
        assert_eq!(closes(22 * 60, 6 * 60, "2026-01-10T05:00:00Z"), None);
        assert_eq!(closes(22 * 60, 6 * 60, "2026-01-10T04:59:59Z"), Some(1));
        assert_eq!(closes(0, 0, "2026-01-10T23:00:00Z"), Some(24 * 3600), "always open");
    }

    #[test]
    fn a_night_of_summer_time_is_an_hour_shorter() {
        assert_eq!(opens(9 * 60, 17 * 60, "2026-03-28T16:00:00Z"), Some(15 * 3600));
        assert_eq!(opens(2 * 60 + 30, 5 * 60, "2026-03-28T22:00:00Z"), Some(3 * 3600 + 1800), "03:30, since 02:30 is no time of that day");
    }
}
