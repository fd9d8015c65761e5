//! Windows across restarts, SIGKILL included (promise P2): what a key has spent is saved, and what may have been spent since
//! the last save is bounded and counted as spent.
//!
//! ```text
//! start   reserve(commit interval); durable before the first request: the greater of reserved() and what the last run left
//!         to be assumed; assume_unsaved(now, since, what it left); restore(row, down, now) for every saved row
//! commit  (rows, mark) = save(now); rows written in the commit's transaction; when it is durable: saved(mark)
//! end     a last commit, with it what the next start has to assume: assumed(now), and since when it is
//! ```
//!
//! Between two durable saves a key takes at most [`Limits::reserved`] permits, else it waits with `Why::Save`; so a run that
//! was killed sent at most that many which no row knows. They are counted as arrived 5 s after the next start, for every
//! key: one that no row names may have been asked too. A start after one that ended cleanly counts them from the same instant,
//! and not again for a key whose row is of later than that and so has them. Where they are counted, a key's first permit waits until a row that counts
//! them is durable: else a second kill before the first save would leave two such lots, of which the next start assumes one.
//! A key that is not asked writes nothing, and the one assumption of each start covers it.

use super::adapt::Adapt;
use super::claims::LimitId;
use super::limits::{Count, Limit, Limits, Slot, Window, stored_key};
use super::window::{Guard, LOST};
use crate::clock::Moment;
use crate::model::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many requests of a key may be in no row, by the stored name of the limit (empty: that of `[limits]`).
pub type Unsaved = BTreeMap<String, u32>;

/// After this long nothing is left of a learned rate: a day by a factor e, forgotten at a hundredth.
const LEARNED: Duration = Duration::from_hours(24 * 5);

/// One key's windows as they are kept in the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedKey {
    /// As [`Limits::stored_key`] gives it.
    pub key: String,
    /// On the wire at the save.
    pub in_flight: u32,
    /// One for each rate.
    pub windows: Vec<SavedWindow>,
    /// Of its ceiling, what the learned rate is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<f64>,
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
        let adapted = self.adapted.map(|_| LEARNED).unwrap_or_default();
        (self.in_flight == 0).then(|| self.windows.iter().filter_map(left).max().unwrap_or_default().max(adapted))
    }
}

/// What a save covers, until it is durable.
#[derive(Debug, Default)]
#[must_use = "give it to Limits::saved once the rows are durable"]
pub struct SaveMark(Vec<(usize, u64, u64)>);

/// The bound of what no row knows.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// What a key may take between durable saves, by limit; empty: nothing is saved, nothing bounded.
    between: Vec<u32>,
    /// What new slots start with.
    assumed: Option<Assumed>,
    /// Slots with their birth that changed since the last save.
    pub(super) dirty: Vec<(usize, u64)>,
}

/// What a killed run may have sent.
#[derive(Debug)]
struct Assumed {
    /// Until when a new slot starts with it.
    until: Moment,
    /// In nanoseconds, when it counts as arrived: it may be before the clock began.
    at: i128,
    /// How long ago it was first assumed.
    since: Duration,
    /// By limit.
    each: Vec<u32>,
    /// As it was told: with limits that the job has no more.
    told: Unsaved,
}

impl Reserve {
    pub(super) fn is_on(&self) -> bool {
        !self.between.is_empty()
    }

    /// Whether the key may take `weight` more before the next durable save.
    pub(super) fn covers(&self, slot: &Slot, weight: u32) -> bool {
        let between = self.between_of(slot.limit);
        between == 0 || slot.taken.saturating_sub(slot.durable) + u64::from(weight) <= u64::from(between)
    }

    pub(super) fn assumes_at(&self, now: Moment) -> bool {
        self.assumed.as_ref().is_some_and(|a| now < a.until)
    }

    /// Permits that a slot made at `now` counts as taken: all that may be, where it starts with what is assumed.
    pub(super) fn owed(&self, limit: LimitId, now: Moment) -> u64 {
        if self.assumed_of(limit, now).is_some() { u64::from(self.between_of(limit)) } else { 0 }
    }

    /// When how many count as arrived, for a slot of that limit.
    fn assumed_of(&self, limit: LimitId, now: Moment) -> Option<(i128, u32)> {
        let assumed = self.assumed.as_ref().filter(|a| now < a.until)?;
        let n = assumed.each.get(usize::from(limit)).copied().filter(|n| *n > 0)?;
        Some((assumed.at, n))
    }

    fn between_of(&self, limit: LimitId) -> u32 {
        self.between.get(usize::from(limit)).copied().unwrap_or(0)
    }

    /// What a slot made at `now` starts with.
    pub(super) fn assume(&self, limit: LimitId, windows: &[Window], counts: &mut [Count], now: Moment) {
        if let Some((u, n)) = self.assumed_of(limit, now) {
            for (window, count) in windows.iter().zip(counts) {
                if let Ok(leave) = u64::try_from(u + nanos(window.guard.hold())) {
                    count.spent.add_leaving(leave, n.min(window.guard.limit()));
                }
            }
        }
    }

    /// Whether a row that was saved `down` before the start has what is assumed: it is of later than the first assumption. One
    /// that seems to be of this very moment, as after a calendar that went back, is not relied on.
    fn is_in_row(&self, down: Duration) -> bool {
        self.assumed.as_ref().is_some_and(|a| !down.is_zero() && down < a.since)
    }
}

impl Limits {
    /// From now on every key takes at most [`Limits::reserved`] permits between durable saves: twice what `interval`, the
    /// longest usual time from one commit to the next, lets through, and at least a burst. Nothing where no limit has a rate.
    pub fn reserve(&mut self, interval: Duration) {
        let of = |w: &Window| {
            let paced = interval.as_nanos().saturating_mul(2).div_ceil(w.pacer.interval().as_nanos().max(1));
            u32::try_from(paced).unwrap_or(u32::MAX).max(w.pacer.burst()).min(w.guard.limit())
        };
        let between = |l: &Limit| l.windows.iter().map(of).min().filter(|_| l.lasts()).map_or(0, |n| n.max(l.heaviest));
        let all: Vec<u32> = self.all.iter().map(between).collect();
        self.reserve.between = if all.iter().any(|n| *n > 0) { all } else { Vec::new() };
    }

    /// The bounds that are in force, empty where none is; kept in the state before the first request.
    #[must_use]
    pub fn reserved(&self) -> Unsaved {
        let stored = |(l, n): (&Limit, &u32)| (*n > 0).then(|| (l.stored().unwrap_or_default().to_owned(), *n));
        self.all.iter().zip(&self.reserve.between).filter_map(stored).collect()
    }

    /// A run was killed, and `since` ago the next one started: up to so many requests of each key are known to no row and count
    /// as arrived 5 s after that start. Before [`Limits::restore`].
    pub fn assume_unsaved(&mut self, now: Moment, since: Duration, unsaved: Unsaved) {
        let at = i128::from(now.0) - nanos(since) + nanos(LOST);
        let longest = self.all.iter().flat_map(|l| &l.windows).map(|w| w.guard.hold()).max().unwrap_or_default();
        let until = Moment(u64::try_from((at + nanos(longest)).max(0)).unwrap_or(u64::MAX));
        let each = self.all.iter().map(|l| unsaved.get(l.stored().unwrap_or_default()).copied().unwrap_or(0)).collect();
        self.reserve.assumed = (!unsaved.is_empty() && now < until).then_some(Assumed { until, at, since, each, told: unsaved });
    }

    /// [`SavedKey::landed`] of a row that was saved `down` before the start, with what is assumed of its key.
    #[must_use]
    pub fn landed(&self, row: SavedKey, down: Duration) -> SavedKey {
        let mut row = row.landed(down);
        if let Some(assumed) = self.reserve.assumed.as_ref().filter(|_| !self.reserve.is_in_row(down)) {
            let name = row.key.split_once('\t').map_or("", |(_, name)| name);
            let n = assumed.told.get(name).copied().unwrap_or(0);
            let ago = ms_signed(assumed.since).saturating_sub(ms_signed(LOST));
            for window in row.windows.iter_mut().filter(|_| n > 0) {
                window.ago.push((ago, n));
            }
        }
        row
    }

    /// What the next start has to assume if nothing more is taken: of earlier runs, for keys that were not saved since; nothing
    /// once that has left every window.
    #[must_use]
    pub fn assumed(&self, now: Moment) -> Unsaved {
        self.reserve.assumed.as_ref().filter(|a| now < a.until).map(|a| a.told.clone()).unwrap_or_default()
    }

    /// Whether a key changed since the last save.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        !self.reserve.dirty.is_empty()
    }

    /// A row of an earlier run, saved `down` ago (zero where the calendar went back). A window of a new length is filled from
    /// the longest saved one, which is never too little.
    pub fn restore(&mut self, saved: &SavedKey, down: Duration, now: Moment) {
        let Some(claim) = self.claim_of(&saved.key) else { return };
        let assumed = if self.reserve.is_in_row(down) { self.reserve.assumed.take() } else { None };
        let i = self.slot_for(&claim, now);
        self.reserve.assumed = assumed.or(self.reserve.assumed.take());
        let limit = &self.all[usize::from(claim.limit)];
        let Some(slot) = self.slots[i].as_mut() else { return };
        if let (Some(share), Some(ceiling)) = (saved.adapted, limit.ceiling()) {
            slot.adapt = Adapt::restored(ceiling, share, down, now).map(Box::new);
        }
        let Some(longest) = saved.windows.iter().max_by_key(|w| w.per_ms) else { return };
        let down = i128::try_from(down.as_nanos()).unwrap_or(i128::MAX / 4);
        for (of, count) in limit.windows.iter().zip(&mut slot.counts) {
            let (guard, per_ms) = (&of.guard, ms(of.rate.per));
            let window = saved.windows.iter().find(|w| w.per_ms == per_ms).unwrap_or(longest);
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
            let limit = &self.all[usize::from(slot.limit)];
            let windows = limit.windows.iter().zip(&mut slot.counts).map(|(window, count)| {
                count.spent.forget(now);
                let hold = nanos(window.guard.hold());
                let ago = |(leave, n): (u64, u32)| {
                    let nanos = i128::from(now.0) - (i128::from(leave) - hold);
                    (i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MIN), n)
                };
                SavedWindow { per_ms: ms(window.rate.per), ago: count.spent.leaving().map(ago).collect() }
            });
            let windows = windows.collect();
            let key = stored_key(limit.stored(), &slot.key);
            let adapted = slot.adapt.as_ref().filter(|a| !a.is_over(now)).map(|a| a.share(now));
            rows.push(SavedKey { key, in_flight: slot.in_flight, windows, adapted });
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
