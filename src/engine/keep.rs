//! Limits across restarts: what they have counted goes into the state, and comes back out of it.
//!
//! A save is due 200 ms after the first change since the last one, or as soon as a key waits for it, but no sooner than 200 ms
//! after the last. It is taken then and committed at once, so that little happens between the two; whatever else waits for a
//! commit goes along. While nothing changes nothing is written and nothing wakes up.

use crate::clock::{Clock as _, Moment, Wall};
use crate::engine::RunError;
use crate::engine::dispatcher::{Dispatcher, store_failed};
use crate::engine::frontier::Reply;
use crate::limit::{Limits, SaveMark, SavedKey, Unsaved};
use crate::store::{LimitRow, LimitsSave, Opened};
use futures::StreamExt as _;
use std::time::Duration;

/// From a change to its save, and between saves: the rhythm of the state's own commits.
pub(crate) const RHYTHM: Duration = Duration::from_millis(200);

/// When limits are saved.
#[derive(Default)]
pub(crate) struct Keeper {
    /// Whether they are: the job has rates, and a state that outlives it.
    on: bool,
    /// Since when it is assumed what an earlier run may have sent.
    assumed_at: Wall,
    /// Rows of an earlier run that have to be written anew.
    rows: Vec<SavedKey>,
    /// When the first change since the last save was seen.
    since: Option<Moment>,
    /// When the last save was taken.
    last: Option<Moment>,
    saving: bool,
    /// A key waits for a save.
    pub waited_for: bool,
}

impl Keeper {
    /// Prepares `limits` for a run whose state is kept; gives what the state has to say before the first request.
    pub(crate) fn reserve(limits: &mut Limits) -> Unsaved {
        limits.reserve(RHYTHM);
        limits.reserved()
    }

    /// Fills `limits` with what the state knows of earlier runs.
    pub(crate) fn restore(limits: &mut Limits, opened: &Opened, now: Moment) -> Self {
        let mut keeper = Self { on: !limits.reserved().is_empty(), assumed_at: opened.unsaved_at, ..Self::default() };
        if !keeper.on {
            return keeper;
        }
        limits.assume_unsaved(now, opened.unsaved_for, opened.unsaved.clone());
        for kept in &opened.limiter {
            // A row that cannot be read is as good as lost, and its key as one that no row names.
            let Ok(row) = serde_json::from_str::<SavedKey>(&kept.row) else { continue };
            limits.restore(&row, kept.down, now);
            // What was on the wire is counted from this start on, in later ones too.
            if row.in_flight > 0 {
                keeper.rows.push(limits.landed(row, kept.down));
            }
        }
        keeper
    }

    /// The instant of the next save; [`Moment::FAR`] while none is wanted, or one is under way.
    pub(crate) fn due(&mut self, limits: &Limits, now: Moment) -> Moment {
        if !self.on || (!limits.has_unsaved() && self.rows.is_empty()) {
            return Moment::FAR;
        }
        let since = *self.since.get_or_insert(now);
        if self.saving {
            return Moment::FAR;
        }
        let soonest = self.last.map_or(now, |at| at + RHYTHM);
        if self.waited_for { soonest } else { soonest.max(since + RHYTHM) }
    }

    /// Takes a save.
    pub(crate) fn take(&mut self, limits: &mut Limits, now: Moment, at: Wall) -> (LimitsSave, SaveMark) {
        (self.since, self.last, self.waited_for, self.saving) = (None, Some(now), false, true);
        let (rows, mark) = limits.save(now);
        // A key that changed meanwhile has a newer row.
        let earlier = std::mem::take(&mut self.rows);
        let rows = earlier.iter().chain(&rows).map(row_of).collect();
        let mut unsaved = limits.assumed(now);
        crate::store::keep_greater(&mut unsaved, &limits.reserved());
        (LimitsSave { at, rows, unsaved, unsaved_at: None }, mark)
    }

    /// The save that was taken is durable.
    pub(crate) fn saved(&mut self, limits: &mut Limits, mark: SaveMark) {
        self.saving = false;
        limits.saved(mark);
    }

    /// Takes the last save of a run that sends nothing more: the next start has nothing to assume that this one had not.
    pub(crate) fn take_last(&mut self, limits: &mut Limits, now: Moment, at: Wall) -> Option<LimitsSave> {
        if !self.on {
            return None;
        }
        let (save, _mark) = self.take(limits, now, at);
        Some(LimitsSave { unsaved: limits.assumed(now), unsaved_at: Some(self.assumed_at), ..save })
    }
}

fn row_of(key: &SavedKey) -> LimitRow {
    LimitRow { key: key.key.clone(), row: serde_json::to_string(key).unwrap_or_default(), counts_for: key.counts_for() }
}

impl Dispatcher {
    /// The time by which holds and dues are stored.
    pub(crate) fn calendar(&self) -> Wall {
        self.calendar.at(self.clock.up())
    }

    /// Sends a save to the state where one is due; else says when.
    pub(crate) fn keep_limits(&mut self, now: Moment) -> Moment {
        let due = self.keeper.due(&self.limits, now);
        if due > now {
            return due;
        }
        let at = self.calendar();
        let (save, mark) = self.keeper.take(&mut self.limits, now, at);
        let store = self.store.clone();
        self.replies.push(Box::pin(async move { Reply::Kept(mark, store.limits(save).await) }));
        Moment::FAR
    }

    /// A save is durable: keys that waited for it go on.
    pub(crate) fn kept(&mut self, mark: SaveMark) {
        self.keeper.saved(&mut self.limits, mark);
        self.unblock();
    }

    /// Saves for the last time; nothing is in flight any more.
    pub(crate) async fn keep_limits_for_good(&mut self) -> Result<(), RunError> {
        while self.keeper.saving {
            match self.replies.next().await {
                Some(reply) => self.replied(reply)?,
                None => break,
            }
        }
        let (now, at) = (self.clock.now(), self.calendar());
        match self.keeper.take_last(&mut self.limits, now, at) {
            Some(save) => self.store.limits(save).await.map_err(store_failed),
            None => Ok(()),
        }
    }
}
