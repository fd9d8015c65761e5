//! Windows across restarts, SIGKILL included (promise P2): what a key has spent is saved, and what may have been spent since
//! the last save is bounded and counted as spent.
//!
//! ```text
//! start   reserve(commit interval); durable before the first request: the greater of reserved() and what the last run left
//!         to be assumed; assume_unsaved(now, what it left); restore(row, down, now) for every saved row
//! commit  (rows, mark) = save(now); rows written in the commit's transaction; when it is durable: saved(mark)
//! end     a last commit, with it what the next start has to assume: assumed(now)
//! ```
//!
//! Between two durable saves a key takes at most [`Limits::reserved`] permits, else it waits with `Why::Save`; so a run that
//! was killed sent at most that many which no row knows. They are counted as arrived 5 s after the next start, for every
//! key: one that no row names may have been asked too. Where that is so, a key's first permit waits until a row that counts
//! them is durable: else a second kill before the first save would leave two such lots, of which the next start assumes one.
//! A key that is not asked writes nothing, and the one assumption of each start covers it.

use super::limits::{Count, Limits, Rule, Slot};
use super::window::{Guard, LOST};
use crate::clock::Moment;
use crate::model::Rate;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One key's windows as they are kept in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedKey {
    /// As [`Limits::key_of`] gives it.
    pub key: String,
    /// On the wire at the save.
    pub in_flight: u32,
    /// One for each rate.
    pub windows: Vec<SavedWindow>,
}

/// One window of a [`SavedKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWindow {
    /// Its length in milliseconds.
    pub per_ms: u64,
    /// Milliseconds from arrival to the save (negative: later than the save), and how many.
    pub ago: Vec<(i64, u32)>,
}

impl SavedKey {
    /// The same `down` later, at the start of a run: what was on the wire counts as arrived 5 s after it.
    #[must_use]
    pub fn landed(mut self, down: Duration) -> Self {
        let down = ms_signed(down);
        let in_flight = std::mem::take(&mut self.in_flight);
        for window in &mut self.windows {
            for (ago, _) in &mut window.ago {
                *ago = ago.saturating_add(down);
            }
            window.ago.push((-ms_signed(LOST), in_flight));
        }
        self
    }

    /// How long after its save something of it still counts; `None` while something is on the wire.
    #[must_use]
    pub fn counts_for(&self) -> Option<Duration> {
        let left = |w: &SavedWindow| {
            let hold = Guard::new(Rate { count: 1, per: Duration::from_millis(w.per_ms) }).hold();
            let newest = w.ago.iter().map(|(ago, _)| *ago).min()?;
            // A millisecond for each rounding.
            Some(Duration::from_millis(u64::try_from(ms_signed(hold).saturating_sub(newest).saturating_add(2)).unwrap_or(0)))
        };
        (self.in_flight == 0).then(|| self.windows.iter().filter_map(left).max().unwrap_or_default())
    }
}

/// What a save covers, until it is durable.
#[derive(Debug, Default)]
#[must_use = "give it to Limits::saved once the rows are durable"]
pub struct SaveMark(Vec<(usize, u64, u64)>);

/// The bound of what no row knows.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Permits of a key between durable saves; 0: nothing is saved, nothing bounded.
    between: u32,
    /// Until when a new slot starts with this many spent at that instant.
    assumed: Option<(Moment, Moment, u32)>,
    /// Slots with their birth that changed since the last save.
    pub(super) dirty: Vec<(usize, u64)>,
}

impl Reserve {
    pub(super) fn is_on(&self) -> bool {
        self.between > 0
    }

    /// Whether the key may take one more before the next durable save.
    pub(super) fn covers(&self, slot: &Slot) -> bool {
        self.between == 0 || slot.taken.saturating_sub(slot.durable) < u64::from(self.between)
    }

    pub(super) fn assumes_at(&self, now: Moment) -> bool {
        self.assumed.is_some_and(|(until, _, _)| now < until)
    }

    /// Permits that a slot made at `now` counts as taken: all that may be, where it starts with what is assumed.
    pub(super) fn owed(&self, now: Moment) -> u64 {
        if self.assumes_at(now) { u64::from(self.between) } else { 0 }
    }

    /// What a slot made at `now` starts with.
    pub(super) fn assume(&self, rules: &[Rule], counts: &mut [Count], now: Moment) {
        if let Some((until, u, n)) = self.assumed
            && now < until
        {
            for (rule, count) in rules.iter().zip(counts) {
                count.spent.add(&rule.guard, u, n.min(rule.guard.limit()));
            }
        }
    }
}

impl Limits {
    /// From now on every key takes at most [`Limits::reserved`] permits between durable saves: twice what `interval`, the
    /// longest usual time from one commit to the next, lets through, and at least a burst.
    pub fn reserve(&mut self, interval: Duration) {
        let of = |r: &Rule| {
            let paced = interval.as_nanos().saturating_mul(2).div_ceil(r.pacer.interval().as_nanos().max(1));
            u32::try_from(paced).unwrap_or(u32::MAX).max(r.pacer.burst()).min(r.guard.limit())
        };
        self.reserve.between = self.rules.iter().map(of).min().unwrap_or(0);
    }

    /// The bound that is in force, 0 where none is; kept in the state before the first request.
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.reserve.between
    }

    /// The last run was killed: up to `reserved` requests of each key are known to no row and count as arrived 5 s after
    /// `now`. Before [`Limits::restore`].
    pub fn assume_unsaved(&mut self, now: Moment, reserved: u32) {
        let u = now + LOST;
        let longest = self.rules.iter().map(|r| r.guard.hold()).max().unwrap_or_default();
        self.reserve.assumed = (reserved > 0).then_some((u + longest, u, reserved));
    }

    /// What the next start has to assume if nothing more is taken: of earlier runs, for keys that were not saved since; 0 once
    /// that has left every window.
    #[must_use]
    pub fn assumed(&self, now: Moment) -> u32 {
        self.reserve.assumed.filter(|(until, _, _)| now < *until).map_or(0, |(_, _, n)| n)
    }

    /// Whether a key changed since the last save.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        !self.reserve.dirty.is_empty()
    }

    /// A row of an earlier run, saved `down` ago (zero where the calendar went back). A window of a new length is filled from
    /// the longest saved one, which is never too little.
    pub fn restore(&mut self, saved: &SavedKey, down: Duration, now: Moment) {
        let Some(longest) = saved.windows.iter().max_by_key(|w| w.per_ms) else {
            return;
        };
        let down = i128::try_from(down.as_nanos()).unwrap_or(i128::MAX / 4);
        let rules: Vec<_> = self.rules.iter().map(|r| (r.guard, ms(r.rate.per))).collect();
        let Some(slot) = self.slot_for(&saved.key, now) else {
            return;
        };
        for ((guard, per_ms), count) in rules.iter().zip(&mut slot.counts) {
            let window = saved.windows.iter().find(|w| w.per_ms == *per_ms).unwrap_or(longest);
            for (ago, n) in &window.ago {
                // Never later than a lost request of this very moment: rows from a clock that stepped do not hold for ever.
                let ago = (i128::from(*ago) * 1_000_000).saturating_add(down).max(-nanos(LOST));
                let leave = i128::from(now.0) - ago + nanos(guard.hold());
                if leave > i128::from(now.0) {
                    count.spent.add_leaving(u64::try_from(leave).unwrap_or(u64::MAX), *n);
                }
            }
            if saved.in_flight > 0 {
                count.spent.add(guard, now + LOST, saved.in_flight);
            }
        }
    }

    /// Rows of every key that changed since the last call, and what to give [`Limits::saved`] once they are durable. Calls and
    /// confirmations may overlap.
    pub fn save(&mut self, now: Moment) -> (Vec<SavedKey>, SaveMark) {
        let mut rows = Vec::new();
        let mut mark = Vec::new();
        for (i, born) in std::mem::take(&mut self.reserve.dirty) {
            let Some(slot) = self.slots.get_mut(i).and_then(Option::as_mut).filter(|s| s.born == born) else {
                continue;
            };
            slot.dirty = false;
            mark.push((i, born, slot.taken));
            let windows = self.rules.iter().zip(&mut slot.counts).map(|(rule, count)| {
                count.spent.forget(now);
                let hold = nanos(rule.guard.hold());
                let ago = |(leave, n): (u64, u32)| {
                    let nanos = i128::from(now.0) - (i128::from(leave) - hold);
                    (i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MIN), n)
                };
                SavedWindow { per_ms: ms(rule.rate.per), ago: count.spent.leaving().map(ago).collect() }
            });
            rows.push(SavedKey { key: slot.name.to_string(), in_flight: slot.in_flight, windows: windows.collect() });
        }
        (rows, SaveMark(mark))
    }

    /// The rows of this save are durable.
    pub fn saved(&mut self, mark: SaveMark) {
        for (i, born, taken) in mark.0 {
            if let Some(slot) = self.slots.get_mut(i).and_then(Option::as_mut).filter(|s| s.born == born) {
                slot.durable = slot.durable.max(taken);
            }
        }
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn ms_signed(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn nanos(d: Duration) -> i128 {
    i128::try_from(d.as_nanos()).unwrap_or(i128::MAX / 4)
}
