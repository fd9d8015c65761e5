//! [`Limits`]: windows, pacing and holds of every key, admitted all or none.

use super::adapt::Adapt;
use super::claims::{About, Claim, Claims, LimitId, LimitRates};
use super::hold::{Cleared, Gate, Hold, HoldChange, Refusal};
use super::pace::{Pacer, Tat};
use super::quota::{Quota, Told};
use super::save::Reserve;
use super::window::{Guard, LOST, Spent};
use crate::clock::Moment;
use crate::model::Rate;
use crate::model::plan::{HostPlan, LimitKeyKind, LimitsPlan};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Slots that are looked at, and dropped where idle, for each slot made: the table stays within a third of what is alive.
const SWEEP: usize = 4;

/// Windows of a server that are kept of one key.
const QUOTAS: usize = 8;

/// When a request may go, and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Now or later. [`Moment::FAR`]: not before a permit of the key comes back or a save is confirmed; ask again then.
    pub at: Moment,
    /// What decides.
    pub why: Why,
    /// The claim that it is about.
    pub claim: usize,
}

/// What a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// So many are under way.
    Concurrency(u32),
    /// The server says that nothing, or less than the work that waits, is left of its quota.
    Quota,
    /// The key learned a lower rate from refusals.
    Adapted,
    /// A budget that is shared with other runs has nothing left, or its answer is awaited. [`Limits`] never says so.
    Budget,
}

/// The right to send one request. It ends by [`Limits::unsent`], [`Limits::lost`], or [`Limits::arrived`] and
/// [`Limits::done`]. One that is dropped counts as in flight for ever.
#[derive(Debug)]
#[must_use = "a permit that is not given back counts as in flight for ever"]
pub struct Permit {
    parts: Vec<Part>,
    /// When it was taken.
    taken: Moment,
    /// The final response headers were in.
    counted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    slot: u32,
    /// Of the hold's event, 0 without one.
    epoch: u32,
    weight: u32,
}

/// One window of a limit.
#[derive(Debug)]
pub(super) struct Window {
    /// As the job has it.
    pub(super) rate: Rate,
    pub(super) guard: Guard,
    pub(super) pacer: Pacer,
}

/// One limit.
#[derive(Debug)]
pub(super) struct Limit {
    /// Of a `[[limit]]`.
    name: Option<Arc<str>>,
    stored: Option<Arc<str>>,
    pub(super) windows: Box<[Window]>,
    concurrency: Option<u32>,
    /// The most that one request takes.
    pub(super) heaviest: u32,
    /// Requests a second that the windows allow for long.
    ceiling: Option<f64>,
    /// Whether what it counted holds over restarts.
    lasts: bool,
}

impl Limit {
    fn new(of: LimitRates, reserve: f64) -> Self {
        let window = |rate: &Rate| {
            let rate = Rate { count: rate.count.max(1), per: rate.per };
            let own = Rate { count: share(rate.count, 1.0 - reserve).max(of.heaviest.min(rate.count)), per: rate.per };
            Window { rate, guard: Guard::new(own), pacer: Pacer::new(own, of.burst) }
        };
        let windows: Box<[Window]> = of.rates.iter().map(window).collect();
        let ceiling = windows.iter().map(|w| f64::from(w.guard.limit()) / w.rate.per.as_secs_f64()).reduce(f64::min);
        Self { name: of.name, stored: of.stored, windows, concurrency: of.concurrency, heaviest: of.heaviest, ceiling, lasts: of.lasts }
    }

    /// What the state calls it; `None` for that of `[limits]`.
    pub(super) fn stored(&self) -> Option<&str> {
        self.stored.as_deref()
    }

    /// Requests a second that the windows allow for long.
    pub(super) fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// Whether what it counted holds over restarts.
    pub(super) fn lasts(&self) -> bool {
        self.lasts
    }

    /// How many of one key may be under way.
    pub(super) fn concurrency(&self) -> Option<u32> {
        self.concurrency
    }

    /// Whether something is counted of every key.
    fn counts(&self) -> bool {
        !self.windows.is_empty() || self.concurrency.is_some()
    }
}

/// One key's state in one window.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) spent: Spent,
    pub(super) tat: Tat,
    /// What `tat` goes back to where a further window refuses.
    before: Tat,
}

/// One key of one limit.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) limit: LimitId,
    pub(super) key: Arc<str>,
    /// What those weigh whose final response headers are not in.
    pub(super) in_flight: u32,
    /// Those whose bodies are not in.
    open: u32,
    /// In the order of the windows.
    pub(super) counts: Box<[Count]>,
    hold: Option<Box<Hold>>,
    pub(super) adapt: Option<Box<Adapt>>,
    /// One for each of the server's windows.
    quotas: Vec<Quota>,
    /// What was taken, and how much of it the state on disk knows; of a slot that starts with what an earlier run may have
    /// sent as much as may be taken, so that the first waits for a save of that.
    pub(super) taken: u64,
    pub(super) durable: u64,
    /// Tells this slot from an earlier one in its place.
    pub(super) born: u64,
    pub(super) dirty: bool,
}

impl Slot {
    fn is_idle(&mut self, now: Moment) -> bool {
        self.in_flight == 0
            && self.open == 0
            && !self.dirty
            && self.hold.as_ref().is_none_or(|h| h.is_stale(now))
            && self.adapt.as_ref().is_none_or(|a| a.is_over(now))
            && self.quotas.iter().all(|q| q.is_over(now))
            && self.counts.iter_mut().all(|c| {
                c.spent.forget(now);
                c.spent.is_empty() && c.tat.is_idle(now)
            })
    }

    fn is_bare(&self) -> bool {
        self.in_flight == 0 && self.open == 0 && self.hold.is_none() && self.adapt.is_none() && self.quotas.is_empty()
    }
}

/// What is known of a key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// Of a `[[limit]]`.
    pub limit: Option<String>,
    /// Whose.
    pub key: String,
    /// Each rate of the job and how much of it is spent or under way.
    pub windows: Vec<(Rate, u32)>,
    /// Left of the hold.
    pub held: Option<Duration>,
    /// What the server said is left, of how many, and the time to its reset.
    pub quota: Option<(u64, Option<u64>, Duration)>,
    /// Thousandths of the ceiling that the learned rate is.
    pub adapted: Option<u32>,
}

/// The limiter of a run: token buckets, window guards, holds, learned rates and the server's quotas over keys.
///
/// Every request on the wire takes a permit: first tries, retries, redirect hops, robots.txt, pages. No I/O, no clock, no
/// randomness: instants and jitter units are told. Without rates and holds nothing is kept about a key. A call costs well
/// under a microsecond; memory is about 0.2 KB for a key with a small window, 2.5 KB with a busy large one, and goes when the
/// key has been idle for its windows.
#[derive(Debug)]
pub struct Limits {
    claims: Claims,
    pub(super) all: Box<[Limit]>,
    adapt: bool,
    /// After this a request counts as arrived, answered or not.
    arrival: Option<Duration>,
    /// How many at once end the slow start after a hold.
    full: u32,
    /// By limit.
    keys: Vec<HashMap<Arc<str>, u32>>,
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
    pub fn new(plan: &LimitsPlan, hosts: &[HostPlan]) -> Self {
        let full = if plan.key == LimitKeyKind::Job { plan.workers } else { plan.per_host };
        let (claims, rates) = Claims::new(plan, hosts);
        let all: Box<[Limit]> = rates.into_iter().map(|r| Limit::new(r, plan.reserve)).collect();
        Self {
            claims,
            adapt: plan.adapt,
            arrival: plan.arrival,
            full: u32::try_from(full).unwrap_or(u32::MAX).max(1),
            keys: all.iter().map(|_| HashMap::new()).collect(),
            all,
            slots: Vec::new(),
            free: Vec::new(),
            cursor: 0,
            epoch: 0,
            born: 0,
            reserve: Reserve::default(),
        }
    }

    /// What a request counts in. The first claim is where its refusals are held, unless they name a limit.
    #[must_use]
    pub fn claims(&self, about: &About<'_>) -> Arc<[Claim]> {
        self.claims.of(about).into()
    }

    /// Whether all requests to a host count alike, so that they need not be asked about one by one.
    #[must_use]
    pub fn depend_on_host_alone(&self) -> bool {
        self.claims.depend_on_host_alone()
    }

    /// Whether one key is everybody's, and nothing else is.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.claims.is_one()
    }

    /// Whether anything counts from an answer's head, so that it is worth to be told at once.
    #[must_use]
    pub fn counts_heads(&self) -> bool {
        self.all.iter().any(|l| !l.windows.is_empty())
    }

    /// After this a request counts as arrived, answered or not.
    pub(super) fn arrival(&self) -> Option<Duration> {
        self.arrival
    }

    /// What a limit is called, where it is a `[[limit]]`.
    #[must_use]
    pub fn name(&self, limit: LimitId) -> Option<&str> {
        self.all.get(usize::from(limit))?.name.as_deref()
    }

    /// The claim that an answer is about whose headers name `resource`: the limit of that name, else that resource of the first
    /// claim's key, and without a name the first claim.
    #[must_use]
    pub fn about(&self, claims: &[Claim], resource: Option<&str>) -> Option<Claim> {
        let base = claims.first()?;
        let Some(resource) = resource else { return Some(base.clone()) };
        let named = claims.iter().find(|c| self.name(c.limit) == Some(resource));
        Some(named.cloned().unwrap_or_else(|| self.claims.resource(base, resource)))
    }

    /// Whether a claim is one of the job's own limits, and no resource that a server named.
    #[must_use]
    pub fn is_own(&self, claim: &Claim) -> bool {
        usize::from(claim.limit) + 1 < self.all.len()
    }

    /// The earliest instant at which all claims let the request go, if nothing else happens to their keys meanwhile; `now`
    /// itself where that is now. Takes nothing.
    #[must_use]
    pub fn next_at(&mut self, claims: &[Claim], now: Moment) -> Verdict {
        let mut verdict = Verdict { at: now, why: Why::Free, claim: 0 };
        for (n, claim) in claims.iter().enumerate() {
            let assumed = self.reserve.assumes_at(now) && self.counts(claim.limit);
            let Some(i) = self.find(claim).or_else(|| assumed.then(|| self.make(claim, now))) else { continue };
            let mut later = |at: Moment, why: Why| {
                if at > verdict.at {
                    verdict = Verdict { at, why, claim: n };
                }
            };
            let Self { all, slots, arrival, .. } = self;
            let (Some(slot), Some(limit)) = (slots[i].as_mut(), all.get(usize::from(claim.limit))) else { continue };
            match slot.hold.as_ref().map_or(Gate::Open, |h| h.gate(now)) {
                Gate::Open => {}
                Gate::Held(at) => later(at, Why::Hold),
                Gate::Probing(at) => later(at, Why::Probe),
            }
            if let Some(at) = slot.quotas.iter().filter_map(|q| q.opens_at(slot.in_flight, claim.weight, now)).max() {
                later(at, Why::Quota);
            }
            if let Some(adapt) = slot.adapt.as_ref().filter(|a| !a.is_over(now)) {
                later(adapt.next(), Why::Adapted);
            }
            if let Some(most) = limit.concurrency.filter(|most| slot.open >= *most) {
                later(Moment::FAR, Why::Concurrency(most));
            }
            let in_flight = if arrival.is_some() { 0 } else { slot.in_flight };
            for (window, count) in limit.windows.iter().zip(&mut slot.counts) {
                count.spent.forget(now);
                later(count.spent.opens_at(&window.guard, in_flight, claim.weight, now), Why::Window(window.rate));
                later(window.pacer.next_at(count.tat, now), Why::Pace(window.rate));
            }
        }
        if verdict.at <= now
            && let Some(n) = self.ask_to_save(claims)
        {
            verdict = Verdict { at: Moment::FAR, why: Why::Save, claim: n };
        }
        verdict
    }

    /// Takes what the request weighs of all windows of all claims, or nothing: `None` exactly where [`Limits::next_at`] is
    /// later than `now`.
    pub fn take(&mut self, claims: &[Claim], now: Moment) -> Option<Permit> {
        let mut permit = Permit { parts: Vec::new(), taken: now, counted: false };
        let missing = claims.iter().filter(|c| self.counts(c.limit) && self.find(c).is_none()).count();
        // Slots that are idle go first: none of those taken below is one of them then.
        self.sweep(missing * SWEEP, now);
        for claim in claims {
            let slot = match self.find(claim) {
                Some(i) => i,
                None if self.counts(claim.limit) => self.make(claim, now),
                None => continue,
            };
            permit.parts.push(Part { slot: u32::try_from(slot).unwrap_or(u32::MAX), epoch: 0, weight: claim.weight });
        }
        if !permit.parts.iter().all(|part| self.admits(part, now)) || self.ask_to_save(claims).is_some() || !self.pace(&permit.parts, now) {
            return None;
        }
        for part in &mut permit.parts {
            let Some(slot) = self.slots[part.slot as usize].as_mut() else { continue };
            slot.in_flight = slot.in_flight.saturating_add(part.weight);
            slot.open = slot.open.saturating_add(1);
            slot.taken += u64::from(part.weight);
            part.epoch = slot.hold.as_mut().map_or(0, |h| h.take(now));
            if let Some(adapt) = &mut slot.adapt {
                adapt.take(part.weight, now);
            }
            slot.quotas.iter_mut().for_each(|q| q.take(now));
            if let Some(arrival) = self.arrival {
                let windows = &self.all[usize::from(slot.limit)].windows;
                windows.iter().zip(&mut slot.counts).for_each(|(w, c)| c.spent.add(&w.guard, now + arrival, part.weight));
            }
            self.touch(part.slot as usize);
        }
        Some(permit)
    }

    /// The first claim that has to wait for a save, if one has; all such keys have one coming then. Asked last, so that a key that
    /// waits for something else writes nothing.
    fn ask_to_save(&mut self, claims: &[Claim]) -> Option<usize> {
        let mut first = None;
        for (n, claim) in claims.iter().enumerate() {
            let uncovered = |i: &usize| self.slots[*i].as_ref().is_some_and(|slot| !self.reserve.covers(slot, claim.weight));
            if let Some(i) = self.find(claim).filter(uncovered) {
                self.touch(i);
                first.get_or_insert(n);
            }
        }
        first
    }

    /// Everything but a save that is to come, and pacing, which would have to be taken back.
    fn admits(&mut self, part: &Part, now: Moment) -> bool {
        let Self { all, slots, arrival, .. } = self;
        let Some(slot) = slots.get_mut(part.slot as usize).and_then(Option::as_mut) else { return false };
        let limit = &all[usize::from(slot.limit)];
        let in_flight = if arrival.is_some() { 0 } else { slot.in_flight };
        slot.hold.as_ref().is_none_or(|h| h.gate(now) == Gate::Open)
            && slot.quotas.iter().all(|q| q.opens_at(slot.in_flight, part.weight, now).is_none())
            && slot.adapt.as_ref().is_none_or(|a| a.next() <= now || a.is_over(now))
            && limit.concurrency.is_none_or(|most| slot.open < most)
            // The guards decide first: they are the promise.
            && limit.windows.iter().zip(&mut slot.counts).all(|(window, count)| {
                count.spent.forget(now);
                count.spent.admits(&window.guard, in_flight, part.weight)
            })
    }

    /// Takes of every pacer, or puts back what was taken.
    fn pace(&mut self, parts: &[Part], now: Moment) -> bool {
        for (n, part) in parts.iter().enumerate() {
            let Some(slot) = self.slots[part.slot as usize].as_mut() else { return false };
            let windows = &self.all[usize::from(slot.limit)].windows;
            for (w, window) in windows.iter().enumerate() {
                let count = &mut slot.counts[w];
                count.before = count.tat;
                if !window.pacer.take(&mut count.tat, part.weight, now) {
                    slot.counts[..w].iter_mut().for_each(|c| c.tat = c.before);
                    for earlier in &parts[..n] {
                        if let Some(slot) = self.slots[earlier.slot as usize].as_mut() {
                            slot.counts.iter_mut().for_each(|c| c.tat = c.before);
                        }
                    }
                    return false;
                }
            }
        }
        true
    }

    /// The final response headers were in at `at`: the request counts until `at` + 1.001 W, and the permit is held on for the
    /// body. Only the first call counts.
    pub fn arrived(&mut self, permit: &mut Permit, at: Moment) {
        if !std::mem::replace(&mut permit.counted, true) {
            self.count(permit, Some(at), Some(at));
        }
    }

    /// The body is in, or will not come any more; after [`Limits::arrived`].
    #[allow(clippy::needless_pass_by_value, reason = "a permit is used up here")]
    pub fn done(&mut self, permit: Permit) {
        for part in &permit.parts {
            if let Some(slot) = self.slots.get_mut(part.slot as usize).and_then(Option::as_mut) {
                slot.open = slot.open.saturating_sub(1);
            }
            self.drop_if_bare(part.slot as usize);
        }
    }

    /// The request never reached a server (resolve, connect or handshake failed): freed at once.
    pub fn unsent(&mut self, permit: Permit) {
        if !permit.counted {
            self.count(&permit, None, None);
        }
        self.done(permit);
    }

    /// The request was written, at least in part, and ended at `at` without response headers: it may have arrived until 5 s
    /// later, and counts for the window after that.
    pub fn lost(&mut self, permit: Permit, at: Moment) {
        if !permit.counted {
            self.count(&permit, Some(at + LOST), None);
        }
        self.done(permit);
    }

    fn count(&mut self, permit: &Permit, counted: Option<Moment>, answered: Option<Moment>) {
        for part in &permit.parts {
            let i = part.slot as usize;
            let Some(slot) = self.slots.get_mut(i).and_then(Option::as_mut) else { continue };
            slot.in_flight = slot.in_flight.saturating_sub(part.weight);
            if let Some(hold) = slot.hold.as_mut() {
                hold.ended(part.epoch, answered);
            }
            if counted.is_some() {
                slot.quotas.iter_mut().for_each(|q| q.unseen(part.weight));
            }
            let latest = self.arrival.map(|a| permit.taken + a);
            let windows = &self.all[usize::from(slot.limit)].windows;
            for (window, count) in windows.iter().zip(&mut slot.counts) {
                // Counted already as of the latest instant at which it may arrive.
                if let Some(latest) = latest {
                    if counted.is_some_and(|at| at >= latest) {
                        continue;
                    }
                    count.spent.take_back(&window.guard, latest, part.weight);
                }
                if let Some(u) = counted {
                    count.spent.add(&window.guard, u, part.weight);
                }
            }
            self.touch(i);
        }
    }

    /// A refusal: the whole key is held, and may learn a lower rate.
    pub fn refused(&mut self, claim: &Claim, refusal: Refusal) -> HoldChange {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let (epoch, now, measured) = (self.epoch, refusal.now, refusal.measured);
        let ceiling = self
            .all
            .get(usize::from(claim.limit))
            .and_then(|l| l.ceiling)
            .or(measured.map(|m| m.max(1.0)))
            .filter(|c| self.adapt && *c > 0.0);
        let i = self.slot_for(claim, now);
        let Some(slot) = self.slots[i].as_mut() else {
            return Hold::begin(refusal, epoch).1;
        };
        let change = if let Some(hold) = &mut slot.hold {
            hold.refused(refusal, epoch)
        } else {
            let (hold, change) = Hold::begin(refusal, epoch);
            slot.hold = Some(Box::new(hold));
            change
        };
        if change.new_event && !refusal.own {
            match (&mut slot.adapt, ceiling) {
                (Some(adapt), _) if !adapt.is_over(now) => adapt.event(measured, now),
                (adapt, Some(ceiling)) => *adapt = Some(Box::new(Adapt::begin(ceiling, measured, now))),
                _ => {}
            }
            self.touch(i);
        }
        change
    }

    /// A request that was sent at `sent_at` got an answer that is no refusal, whatever its status: of one sent after the hold
    /// the refusals are forgotten and one more may go at once, of one sent before nothing changes.
    pub fn succeeded(&mut self, claims: &[Claim], sent_at: Moment) {
        let full = self.full;
        for claim in claims {
            let Some(i) = self.find(claim) else { continue };
            if let Some(slot) = self.slots[i].as_mut()
                && let Some(hold) = slot.hold.as_mut()
                && hold.succeeded(sent_at, full) == Cleared::Whole
            {
                slot.hold = None;
                self.drop_if_bare(i);
            }
        }
    }

    /// The server told at `now` what is left of the key's quota; `backlog` requests wait to be sent.
    pub fn told(&mut self, claim: &Claim, told: Told, backlog: u64, now: Moment) {
        let i = self.slot_for(claim, now);
        let Some(slot) = self.slots[i].as_mut() else { return };
        let in_flight = slot.in_flight;
        slot.quotas.retain(|q| !q.is_over(now));
        if let Some(quota) = slot.quotas.iter_mut().find(|q| q.is_of(told)) {
            quota.told(told, now);
        } else if slot.quotas.len() < QUOTAS {
            slot.quotas.push(Quota::new(told, now));
        }
        slot.quotas.iter_mut().for_each(|q| q.pace(in_flight, backlog, now));
    }

    /// Share of the quota that is left of all that the claims count in, 0.0 to 1.0: which of several tokens goes next.
    #[must_use]
    pub fn left(&mut self, claims: &[Claim], now: Moment) -> f64 {
        let mut least = 1.0f64;
        for claim in claims {
            let Some(i) = self.find(claim) else { continue };
            let (Some(slot), Some(limit)) = (self.slots[i].as_mut(), self.all.get(usize::from(claim.limit))) else { continue };
            for (window, count) in limit.windows.iter().zip(&mut slot.counts) {
                count.spent.forget(now);
                let spent = f64::from(count.spent.total().saturating_add(slot.in_flight));
                least = least.min(1.0 - spent / f64::from(window.guard.limit()));
            }
            for (left, of, _) in slot.quotas.iter().map(Quota::view).filter(|(_, _, reset)| *reset > now) {
                let Some(of) = of.filter(|n| *n > 0) else { continue };
                #[allow(clippy::cast_precision_loss, reason = "a share")]
                let share = left.saturating_sub(u64::from(slot.in_flight)) as f64 / of as f64;
                least = least.min(share);
            }
        }
        least.max(0.0)
    }

    /// The hold's end, where it is later than `now`.
    #[must_use]
    pub fn held_until(&self, claims: &[Claim], now: Moment) -> Option<Moment> {
        claims.iter().filter_map(|c| self.hold(c)).map(Hold::until).max().filter(|until| *until > now)
    }

    /// How long the key has seen nothing but refusals; zero without one.
    #[must_use]
    pub fn refused_for(&self, claim: &Claim, now: Moment) -> Duration {
        self.hold(claim).and_then(Hold::refused_since).map_or(Duration::ZERO, |since| now - since)
    }

    /// How the state on disk calls a key; [`Limits::restore_hold`] and [`Limits::restore`] read it back.
    #[must_use]
    pub fn stored_key(&self, claim: &Claim) -> String {
        stored_key(self.all.get(usize::from(claim.limit)).and_then(Limit::stored), &claim.key)
    }

    /// The claim of a stored key; `None` where the job has no such limit any more.
    pub(super) fn claim_of(&self, stored: &str) -> Option<Claim> {
        let (key, name) = stored.split_once('\t').map_or((stored, None), |(k, n)| (k, Some(n)));
        let limit = match name {
            None => 0,
            Some(_) => self.all.iter().position(|l| l.stored() == name)?,
        };
        Some(Claim { limit: LimitId::try_from(limit).ok()?, key: key.into(), weight: 1 })
    }

    /// A hold of an earlier run; never shortens one that stands.
    pub fn restore_hold(&mut self, stored: &str, until: Moment) {
        let Some(mut claim) = self.claim_of(stored) else { return };
        if !self.is_own(&claim) {
            // Which requests a server's resource means is not known any more: its whole key is held.
            let Some((base, _)) = claim.key.rsplit_once(' ') else { return };
            claim = Claim { limit: 0, key: base.into(), weight: 1 };
        }
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let epoch = self.epoch;
        let i = self.slot_for(&claim, Moment::ZERO);
        if let Some(slot) = self.slots[i].as_mut() {
            slot.hold.get_or_insert_with(|| Box::new(Hold::restored(until, epoch))).lengthen(until);
        }
    }

    /// The keys that are busiest or held, at most `most` of them, for `status`.
    #[must_use]
    pub fn views(&mut self, most: usize, now: Moment) -> Vec<LimitView> {
        let Self { slots, all, .. } = self;
        let mut views: Vec<(u64, LimitView)> = Vec::new();
        // A glance: of very many keys the first ones stand for all.
        for slot in slots.iter_mut().flatten().take(4096) {
            let Some(limit) = all.get(usize::from(slot.limit)) else { continue };
            let windows = limit.windows.iter().zip(&mut slot.counts).map(|(window, count)| {
                count.spent.forget(now);
                (window.rate, count.spent.total().saturating_add(slot.in_flight))
            });
            let view = LimitView {
                limit: limit.name.as_deref().map(str::to_owned),
                key: slot.key.to_string(),
                windows: windows.collect(),
                held: slot.hold.as_ref().map(|h| h.until() - now).filter(|left| !left.is_zero()),
                quota: slot.quotas.iter().map(Quota::view).filter(|(_, _, at)| *at > now).min().map(|(left, of, at)| (left, of, at - now)),
                adapted: slot.adapt.as_ref().filter(|a| !a.is_over(now)).map(|a| thousandths(a.share(now))),
            };
            let spent: u64 = view.windows.iter().map(|(_, n)| u64::from(*n)).sum();
            if spent > 0 || view.held.is_some() || view.quota.is_some() || view.adapted.is_some() {
                let first = u64::from(view.held.is_some()) << 40 | u64::from(view.quota.is_some()) << 33;
                views.push((first + spent, view));
            }
        }
        views.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.key.cmp(&y.key)));
        views.into_iter().map(|(_, v)| v).take(most).collect()
    }

    fn counts(&self, limit: LimitId) -> bool {
        self.all.get(usize::from(limit)).is_some_and(Limit::counts)
    }

    fn find(&self, claim: &Claim) -> Option<usize> {
        let keys = self.keys.get(usize::from(claim.limit))?;
        if keys.is_empty() {
            return None;
        }
        keys.get(&claim.key).map(|i| *i as usize)
    }

    fn hold(&self, claim: &Claim) -> Option<&Hold> {
        self.slots.get(self.find(claim)?)?.as_ref()?.hold.as_deref()
    }

    pub(super) fn slot_for(&mut self, claim: &Claim, now: Moment) -> usize {
        self.find(claim).unwrap_or_else(|| {
            self.sweep(SWEEP, now);
            self.make(claim, now)
        })
    }

    /// Drops idle slots among the next `n`.
    fn sweep(&mut self, n: usize, now: Moment) {
        for _ in 0..n.min(self.slots.len()) {
            self.cursor = (self.cursor + 1) % self.slots.len();
            if self.slots[self.cursor].as_mut().is_some_and(|s| s.is_idle(now)) {
                self.remove(self.cursor);
            }
        }
    }

    /// A slot for a key that has none.
    fn make(&mut self, claim: &Claim, now: Moment) -> usize {
        self.born += 1;
        let windows = self.all.get(usize::from(claim.limit)).map_or(&[][..], |l| &l.windows[..]);
        let mut counts: Box<[Count]> = windows.iter().map(|_| Count::default()).collect();
        self.reserve.assume(claim.limit, windows, &mut counts, now);
        let slot = Slot {
            limit: claim.limit,
            key: Arc::clone(&claim.key),
            in_flight: 0,
            open: 0,
            counts,
            hold: None,
            adapt: None,
            quotas: Vec::new(),
            taken: self.reserve.owed(claim.limit, now),
            durable: 0,
            born: self.born,
            dirty: false,
        };
        let i = if let Some(i) = self.free.pop() {
            self.slots[i as usize] = Some(slot);
            i
        } else {
            self.slots.push(Some(slot));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        if let Some(keys) = self.keys.get_mut(usize::from(claim.limit)) {
            keys.insert(Arc::clone(&claim.key), i);
        }
        i as usize
    }

    /// Where nothing is counted a slot serves its hold, its learned rate and the server's quota alone.
    fn drop_if_bare(&mut self, i: usize) {
        let bare = |s: &Slot| s.is_bare() && !self.counts(s.limit);
        if self.slots.get(i).and_then(Option::as_ref).is_some_and(bare) {
            self.remove(i);
        }
    }

    fn remove(&mut self, i: usize) {
        if let Some(slot) = self.slots[i].take() {
            if let Some(keys) = self.keys.get_mut(usize::from(slot.limit)) {
                keys.remove(&slot.key);
            }
            self.free.extend(u32::try_from(i));
        }
    }

    pub(super) fn touch(&mut self, i: usize) {
        if self.reserve.is_on()
            && let Some(slot) = self.slots[i].as_mut()
            && !slot.dirty
            && self.all.get(usize::from(slot.limit)).is_some_and(Limit::lasts)
        {
            slot.dirty = true;
            self.reserve.dirty.push((i, slot.born));
        }
    }

    /// Keys about which something is kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.keys.iter().map(HashMap::len).sum()
    }
}

/// A tab stands in no host name and in no name of a limit.
pub(super) fn stored_key(name: Option<&str>, key: &str) -> String {
    name.map_or_else(|| key.to_owned(), |name| format!("{key}\t{name}"))
}

fn share(count: u32, of: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32")]
    let n = (f64::from(count) * of.clamp(0.0, 1.0)) as u32;
    n.max(1)
}

fn thousandths(share: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    let n = (share.clamp(0.0, 1.0) * 1000.0).round() as u32;
    n
}
