//! [`Limits`]: windows, pacing and holds of every key, admitted all or none.

use super::hold::{Cleared, Gate, Hold, HoldChange, Refusal};
use super::pace::{Pacer, Tat};
use super::save::Reserve;
use super::window::{Guard, LOST, Spent};
use crate::clock::Moment;
use crate::model::plan::{LimitKeyKind, LimitsPlan};
use crate::model::{HostKey, Rate};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Slots that are looked at, and dropped where idle, for each slot made: the table stays within a third of what is alive.
const SWEEP: usize = 4;

/// When a key's next request may go, and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Now or later. [`Moment::FAR`]: not before a permit of the key comes back or a save is confirmed; ask again then.
    pub at: Moment,
    /// The one that decides.
    pub why: Why,
}

/// What a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing.
    Free,
    /// The server asked for it, or our own backoff after its refusal.
    Hold,
    /// So many were sent within the window, or are on their way.
    Window(Rate),
    /// The window's quota is spread over it.
    Pace(Rate),
    /// After a hold: the probe, or one of the few that are let out at once, is on its way.
    Probe,
    /// The state on disk does not yet cover more (see [`Limits::reserve`]).
    Save,
}

/// The right to send one request; goes back by [`Limits::arrived`], [`Limits::unsent`] or [`Limits::lost`]. One that is
/// dropped counts as in flight for ever.
#[derive(Debug)]
#[must_use = "a permit that is not given back counts as in flight for ever"]
pub struct Permit {
    slot: u32,
    /// Of the hold's event, 0 without one.
    epoch: u32,
}

impl Permit {
    /// Of a key about which nothing is kept.
    const FREE: Self = Self { slot: u32::MAX, epoch: 0 };
}

/// One window's rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rate: Rate,
    pub(super) guard: Guard,
    pub(super) pacer: Pacer,
}

/// One key's state in one window.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) spent: Spent,
    pub(super) tat: Tat,
    /// What `tat` goes back to where a further window refuses.
    before: Tat,
}

/// One key.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) in_flight: u32,
    /// In the order of the rules.
    pub(super) counts: Box<[Count]>,
    hold: Option<Box<Hold>>,
    /// Permits taken, and how many of them the state on disk knows; of a slot that starts with what an earlier run may have
    /// sent as many as may be taken, so that the first waits for a save of that.
    pub(super) taken: u64,
    pub(super) durable: u64,
    /// Tells this slot from an earlier one in its place.
    pub(super) born: u64,
    pub(super) dirty: bool,
}

impl Slot {
    fn is_idle(&mut self, now: Moment) -> bool {
        self.in_flight == 0
            && !self.dirty
            && self.hold.as_ref().is_none_or(|h| h.is_stale(now))
            && self.counts.iter_mut().all(|c| {
                c.spent.forget(now);
                c.spent.is_empty() && c.tat.is_idle(now)
            })
    }
}

/// The limiter of a run: token buckets, window guards and holds over keys.
///
/// Every request on the wire takes a permit: first tries, retries, redirect hops, robots.txt, pages. No I/O, no clock, no
/// randomness: instants and jitter units are told. Without rates and holds nothing is kept about a key. A call costs well
/// under a microsecond; memory is about 0.2 KB for a key with a small window, 2.5 KB with a busy large one, and goes when the
/// key has been idle for its windows.
#[derive(Debug)]
pub struct Limits {
    kind: LimitKeyKind,
    pub(super) rules: Box<[Rule]>,
    /// How many at once end the slow start after a hold.
    full: u32,
    keys: HashMap<Arc<str>, u32>,
    pub(super) slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    cursor: usize,
    /// Number of the newest event; never 0 in a hold.
    epoch: u32,
    born: u64,
    pub(super) reserve: Reserve,
}

impl Limits {
    /// The limits of a job; rates of count 0 and burst above L (refused by `config`) are taken as 1 and L.
    #[must_use]
    pub fn new(plan: &LimitsPlan) -> Self {
        let rule = |rate: &Rate| {
            let rate = Rate { count: rate.count.max(1), per: rate.per };
            Rule { rate, guard: Guard::new(rate), pacer: Pacer::new(rate, plan.burst) }
        };
        let full = match plan.key {
            LimitKeyKind::Host | LimitKeyKind::Domain | LimitKeyKind::Credential => plan.per_host,
            LimitKeyKind::Job => plan.workers,
        };
        Self {
            kind: plan.key,
            rules: plan.rates.iter().map(rule).collect(),
            full: u32::try_from(full).unwrap_or(u32::MAX).max(1),
            keys: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            cursor: 0,
            epoch: 0,
            born: 0,
            reserve: Reserve::default(),
        }
    }

    /// The key of a host: its name (http and https, all ports, are one server), or `job`.
    #[must_use]
    pub fn key_of<'a>(&self, host: &'a HostKey) -> &'a str {
        match self.kind {
            LimitKeyKind::Host | LimitKeyKind::Domain | LimitKeyKind::Credential => host.host(),
            LimitKeyKind::Job => "job",
        }
    }

    /// The earliest instant at which every window and the hold of `key` let one go, if nothing else happens to the key
    /// meanwhile; `now` itself where that is now. Takes nothing.
    #[must_use]
    pub fn next_at(&mut self, key: &str, now: Moment) -> Verdict {
        let mut verdict = Verdict { at: now, why: Why::Free };
        let mut later = |at: Moment, why: Why| {
            if at > verdict.at {
                verdict = Verdict { at, why };
            }
        };
        let assumed = self.reserve.assumes_at(now) && !self.rules.is_empty();
        let Some(i) = self.find(key).or_else(|| assumed.then(|| self.make(key, now))) else {
            return verdict;
        };
        let Some(slot) = self.slots.get_mut(i).and_then(Option::as_mut) else {
            return verdict;
        };
        match slot.hold.as_ref().map_or(Gate::Open, |h| h.gate(now)) {
            Gate::Open => {}
            Gate::Held(at) => later(at, Why::Hold),
            Gate::Probing(at) => later(at, Why::Probe),
        }
        for (rule, count) in self.rules.iter().zip(&mut slot.counts) {
            count.spent.forget(now);
            later(count.spent.opens_at(&rule.guard, slot.in_flight, now), Why::Window(rule.rate));
            later(rule.pacer.next_at(count.tat, now), Why::Pace(rule.rate));
        }
        if verdict.at <= now && !self.reserve.covers(slot) {
            self.touch(i);
            verdict = Verdict { at: Moment::FAR, why: Why::Save };
        }
        verdict
    }

    /// Takes one of all windows of `key`, or none: `None` exactly where [`Limits::next_at`] is later than `now`.
    pub fn take(&mut self, key: &str, now: Moment) -> Option<Permit> {
        let found = self.find(key);
        let i = match found {
            Some(i) => i,
            None if self.rules.is_empty() => return Some(Permit::FREE),
            None => self.make(key, now),
        };
        let slot = self.slots.get_mut(i).and_then(Option::as_mut)?;
        if slot.hold.as_ref().is_some_and(|h| h.gate(now) != Gate::Open) {
            return None;
        }
        // The guards decide first: they are the promise.
        for (rule, count) in self.rules.iter().zip(&mut slot.counts) {
            count.spent.forget(now);
            if !count.spent.admits(&rule.guard, slot.in_flight) {
                return None;
            }
        }
        if !self.reserve.covers(slot) {
            self.touch(i);
            return None;
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let count = &mut slot.counts[n];
            count.before = count.tat;
            if !rule.pacer.take(&mut count.tat, now) {
                slot.counts[..n].iter_mut().for_each(|c| c.tat = c.before);
                return None;
            }
        }
        slot.in_flight = slot.in_flight.saturating_add(1);
        slot.taken += 1;
        let epoch = slot.hold.as_mut().map_or(0, |h| h.take(now));
        self.touch(i);
        Some(Permit { slot: u32::try_from(i).unwrap_or(u32::MAX), epoch })
    }

    /// The final response headers were in at `at`: the request counts until `at` + 1.001 W.
    pub fn arrived(&mut self, permit: Permit, at: Moment) {
        self.end(permit, Some(at), Some(at));
    }

    /// The request never reached a server (resolve, connect or handshake failed): freed at once.
    pub fn unsent(&mut self, permit: Permit) {
        self.end(permit, None, None);
    }

    /// The request was written, at least in part, and ended at `at` without response headers: it may have arrived until 5 s
    /// later, and counts for the window after that.
    pub fn lost(&mut self, permit: Permit, at: Moment) {
        self.end(permit, Some(at + LOST), None);
    }

    #[allow(clippy::needless_pass_by_value, reason = "a permit is used up here")]
    fn end(&mut self, permit: Permit, counted: Option<Moment>, answered: Option<Moment>) {
        let i = permit.slot as usize;
        let Some(slot) = self.slots.get_mut(i).and_then(Option::as_mut) else {
            return;
        };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        if let Some(hold) = slot.hold.as_mut() {
            hold.ended(permit.epoch, answered);
        }
        if let Some(u) = counted {
            for (rule, count) in self.rules.iter().zip(&mut slot.counts) {
                count.spent.add(&rule.guard, u, 1);
            }
        }
        self.touch(i);
        self.drop_if_bare(i);
    }

    /// A refusal (429 and its kin) of a request that was sent at `sent_at`, the instant of its permit, was read at `now`; the
    /// whole key is held.
    ///
    /// `asked` is the server's wait, never undercut; zero and `None` give our own backoff, 2 s doubling to 5 min with equal
    /// jitter. `jitter` is a uniform number in 0.0..1.0.
    pub fn refused(&mut self, key: &str, now: Moment, sent_at: Moment, asked: Option<Duration>, jitter: f64) -> HoldChange {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let epoch = self.epoch;
        let refusal = Refusal { now, sent_at, asked, jitter };
        match self.slot_for(key, now) {
            Some(Slot { hold: Some(hold), .. }) => hold.refused(refusal, epoch),
            slot => {
                let (hold, change) = Hold::begin(refusal, epoch);
                if let Some(slot) = slot {
                    slot.hold = Some(Box::new(hold));
                }
                change
            }
        }
    }

    /// A request that was sent at `sent_at` got an answer that is no refusal, whatever its status: of one sent after the hold
    /// the refusals are forgotten and one more may go at once, of one sent before nothing changes.
    pub fn succeeded(&mut self, key: &str, sent_at: Moment, _now: Moment) {
        let full = self.full;
        let Some(i) = self.find(key) else {
            return;
        };
        if let Some(slot) = self.slots[i].as_mut()
            && let Some(hold) = slot.hold.as_mut()
            && hold.succeeded(sent_at, full) == Cleared::Whole
        {
            slot.hold = None;
            self.drop_if_bare(i);
        }
    }

    /// The hold's end, where it is later than `now`.
    #[must_use]
    pub fn held_until(&self, key: &str, now: Moment) -> Option<Moment> {
        self.hold(key).map(Hold::until).filter(|until| *until > now)
    }

    /// How long the key has seen nothing but refusals; zero without one.
    #[must_use]
    pub fn refused_for(&self, key: &str, now: Moment) -> Duration {
        self.hold(key).and_then(Hold::refused_since).map_or(Duration::ZERO, |since| now - since)
    }

    /// Every key that is held at `now` and for how long still; for the state and for `status`. In no order.
    #[must_use]
    pub fn holds(&self, now: Moment) -> Vec<(String, Duration)> {
        let left = |s: &Slot| s.hold.as_ref().map(|h| (s.name.to_string(), h.until() - now));
        self.slots.iter().flatten().filter_map(left).filter(|(_, left)| !left.is_zero()).collect()
    }

    /// A hold of an earlier run; never shortens one that stands.
    pub fn restore_hold(&mut self, key: &str, until: Moment) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let epoch = self.epoch;
        if let Some(slot) = self.slot_for(key, Moment::ZERO) {
            slot.hold.get_or_insert_with(|| Box::new(Hold::restored(until, epoch))).lengthen(until);
        }
    }

    /// Keys about which something is kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.keys.len()
    }

    fn find(&self, key: &str) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        self.keys.get(key).map(|i| *i as usize)
    }

    fn hold(&self, key: &str) -> Option<&Hold> {
        self.slots.get(self.find(key)?)?.as_ref()?.hold.as_deref()
    }

    pub(super) fn slot_for(&mut self, key: &str, now: Moment) -> Option<&mut Slot> {
        let i = self.find(key).unwrap_or_else(|| self.make(key, now));
        self.slots.get_mut(i)?.as_mut()
    }

    /// A slot for a key that has none; drops some that are idle.
    fn make(&mut self, key: &str, now: Moment) -> usize {
        for _ in 0..SWEEP.min(self.slots.len()) {
            self.cursor = (self.cursor + 1) % self.slots.len();
            if self.slots[self.cursor].as_mut().is_some_and(|s| s.is_idle(now)) {
                self.remove(self.cursor);
            }
        }
        self.born += 1;
        let name: Arc<str> = key.into();
        let mut counts: Box<[Count]> = self.rules.iter().map(|_| Count::default()).collect();
        self.reserve.assume(&self.rules, &mut counts, now);
        let taken = self.reserve.owed(now);
        let slot = Slot { name: Arc::clone(&name), in_flight: 0, counts, hold: None, taken, durable: 0, born: self.born, dirty: false };
        let i = if let Some(i) = self.free.pop() {
            self.slots[i as usize] = Some(slot);
            i
        } else {
            self.slots.push(Some(slot));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        self.keys.insert(name, i);
        i as usize
    }

    /// Without rates a slot serves its hold alone.
    fn drop_if_bare(&mut self, i: usize) {
        let bare = |s: &Slot| s.hold.is_none() && s.in_flight == 0;
        if self.rules.is_empty() && self.slots[i].as_ref().is_some_and(bare) {
            self.remove(i);
        }
    }

    fn remove(&mut self, i: usize) {
        if let Some(slot) = self.slots[i].take() {
            self.keys.remove(&slot.name);
            self.free.extend(u32::try_from(i));
        }
    }

    fn touch(&mut self, i: usize) {
        if self.reserve.is_on()
            && let Some(slot) = self.slots[i].as_mut()
            && !slot.dirty
        {
            slot.dirty = true;
            self.reserve.dirty.push((i, slot.born));
        }
    }
}
