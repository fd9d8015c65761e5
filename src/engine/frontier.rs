//! The dispatcher's talk with the store: what is leased, settled and offered, and what is known of the frontier on disk.

use crate::clock::{Clock, Moment, Wall};
use crate::engine::RunError;
use crate::engine::dispatcher::{BATCH, Dispatcher, LONG_WAIT, PARKED_FOR, PER_HOST, PER_NEW_HOST, store_failed};
use crate::engine::extraction::Parsed;
use crate::engine::hosts::{HostState, Pace, Robots};
use crate::engine::work::{Flight, Item, SavedState, Work};
use crate::engine::worker::Facts;
use crate::events::Event;
use crate::limit::{About, SaveMark};
use crate::model::{HostKey, Special, mask_url, normalise};
use crate::retry::{Breaker, Budget, Judgement};
use crate::robots::Rules;
use crate::schedule::Slot;
use crate::store::{Claim, HostId, HostLease, Lease, LeaseRequest, Leased, Offered, Settle, StoreError, StoredRobots};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The state's name for [`Dispatcher::duplicates_differ`].
pub(super) const DUPLICATES_DIFFER: &str = "duplicates_differ";

/// What the store answered.
pub(crate) enum Reply {
    /// Of the records offered, where single ones are told, too: row, masked address, what is wrong with it.
    Offered(Vec<(u64, String, String)>, Result<Vec<Offered>, StoreError>),
    Leased(Result<Leased, StoreError>),
    /// With when what it put back becomes due: before, the store would have been asked in vain.
    Settled(Vec<Due>, Result<(), StoreError>),
    /// Whether the operator named the host of an entry that the network policy refused.
    Named(Box<(Flight, Judgement, Facts)>, bool),
    /// What a redirect of a crawl leads to: a new address that is the entry's now, or one that is known.
    Claimed(Box<Work>, Result<Claim, StoreError>),
    /// Pages that waited for the scope of the crawl, by flight.
    LinksJudged(Option<Vec<(u64, Parsed)>>),
    Told(Result<(), StoreError>),
    /// What limits have counted is durable.
    Kept(SaveMark, Result<(), StoreError>),
}

/// When something becomes due, and at which host in memory.
pub(crate) type Due = (Moment, Option<Slot>);

/// What is known of the frontier on disk.
pub(crate) struct Frontier {
    /// Something may be leased.
    pub more: bool,
    /// The last lease said that nothing waits, and nothing was added since.
    pub drained: bool,
    /// Entries that wait for the final sweep.
    pub sweep_waiting: u64,
    /// The final sweep has begun.
    pub sweep: bool,
    /// When waiting entries become due.
    pub dues: BinaryHeap<Reverse<Due>>,
    /// The same of entries that the store was not yet told of.
    pub dues_to_come: Vec<Due>,
    /// The last lease gave nothing, and nothing was added or became due since.
    pub looked: bool,
    /// Something was sent to the store beside the lease that is under way: what that says of the end does not count.
    pub stale: bool,
    /// Hosts in memory that may have more on disk. The store hands out other hosts by itself, these only by name.
    pub refill: HashSet<Slot>,
    /// Hosts that wait, whose entries went back but for one.
    pub trimmed: HashSet<Slot>,
    /// Hosts none of whose entries stayed, of which the store was not yet told, and until when they wait.
    pub to_park: Vec<(HostId, Wall)>,
    /// When room was made last.
    pub room_made: Moment,
}

impl Frontier {
    /// Something was added or may have become ready: what the last lease said of the end does not count any more.
    pub(crate) fn changed(&mut self) {
        self.drained = false;
        self.looked = false;
        self.stale = true;
    }
}

impl Dispatcher {
    pub(super) fn ask_store(&mut self) {
        let worth_it = self.settles.len() >= BATCH || self.in_flight < self.most || self.ticked;
        if !self.settling && !self.settles.is_empty() && worth_it {
            self.ticked = false;
            self.settling = true;
            self.backlog.settling = std::mem::take(&mut self.backlog.gathered);
            self.frontier.changed();
            let (store, batch) = (self.store.clone(), std::mem::take(&mut self.settles));
            let dues = std::mem::take(&mut self.frontier.dues_to_come);
            self.replies.push(Box::pin(async move { Reply::Settled(dues, store.settle(batch).await.map(|_| ())) }));
        }
        let now = self.clock.now();
        while let Some(Reverse((at, slot))) = self.frontier.dues.peek().copied()
            && at <= now
        {
            self.frontier.dues.pop();
            self.frontier.changed();
            self.frontier.more = true;
            self.frontier.refill.extend(slot);
        }
        if self.leasing || self.stopping.is_some() || self.stop_after.is_some() {
            return;
        }
        self.make_room(now);
        let quiet = self.is_quiet();
        let idle = self.in_flight < self.most && self.schedule.ready_hosts() == 0;
        let low = self.schedule.queued() < 2 * self.most || idle;
        let wanted = (self.frontier.more || !self.frontier.refill.is_empty()) && low && self.schedule.queued() < self.in_memory;
        let ask_drained =
            quiet && self.input_done && self.fed.is_none() && !self.frontier.drained && !self.frontier.more && !self.frontier.looked;
        if !(wanted || ask_drained) {
            return;
        }
        let per_host = (self.in_memory / 2 / self.schedule.busy_hosts().max(1)).clamp(2, PER_HOST);
        let refill: Vec<Slot> = self.frontier.refill.iter().filter(|s| self.is_short(**s, per_host)).take(256).copied().collect();
        let (mut hosts, mut first_tries) = (Vec::with_capacity(refill.len()), Vec::new());
        for slot in refill {
            self.frontier.refill.remove(&slot);
            let Some(host) = self.hosts.get(&slot) else { continue };
            if host.holds_retries(self.plan.retry.budget) { &mut first_tries } else { &mut hosts }.extend(host.id);
        }
        if hosts.is_empty() && first_tries.is_empty() && !self.frontier.more && !ask_drained {
            return;
        }
        let room = self.in_memory.saturating_sub(self.schedule.queued());
        let new_hosts = (4 * self.most).clamp(16, 512).min(room);
        let request = LeaseRequest {
            hosts,
            first_tries,
            park: std::mem::take(&mut self.frontier.to_park),
            new_hosts,
            per_host: per_host.min(room.max(1)),
            per_new: (room / 2 / new_hosts.max(1)).clamp(1, PER_NEW_HOST),
            sweep: self.frontier.sweep,
            now: self.calendar(),
        };
        self.leasing = true;
        self.frontier.stale = self.settling || self.offering;
        self.frontier.more = false;
        let store = self.store.clone();
        self.replies.push(Box::pin(async move { Reply::Leased(store.lease(request).await) }));
    }

    /// Whether a host's queue wants more from disk; retries that wait for the budget do not count.
    fn is_short(&self, slot: Slot, per_host: usize) -> bool {
        2 * self.schedule.queued_at(slot) <= per_host
            || (self.hosts.get(&slot).is_some_and(|h| h.holds_retries(self.plan.retry.budget))
                && 2 * self.schedule.count_at(slot, |i| !matches!(i, Item::Entry(w) if w.is_retry())) <= per_host)
    }

    /// Memory is half full of what waits, and workers idle: of each host that waits long one entry stays here, the others go
    /// back to the store until its turn comes. Where that does not make room, the last ones of those that wait longest go too.
    fn make_room(&mut self, now: Moment) {
        let idle = self.in_flight < self.most && self.schedule.ready_hosts() == 0;
        if !idle || self.schedule.queued() < self.in_memory / 2 || now < self.frontier.room_made + Duration::from_millis(250) {
            return;
        }
        self.frontier.room_made = now;
        let until = |at: Moment| if at == Moment::FAR { now + PARKED_FOR } else { at };
        let waiting = self.schedule.waiting().map(|(slot, _, at)| (until(at), slot));
        let mut waiting: Vec<(Moment, Slot)> = waiting.filter(|(at, _)| at.since(now) > LONG_WAIT).collect();
        for (_, slot) in &waiting {
            if self.give_back_entries(*slot, true) {
                self.frontier.trimmed.insert(*slot);
            }
        }
        waiting.sort_unstable_by_key(|w| Reverse(*w));
        for (at, slot) in waiting {
            if self.schedule.queued() < self.in_memory / 2 {
                break;
            }
            let Some(host) = self.hosts.get(&slot) else { continue };
            let Some(id) = host.id.filter(|_| !matches!(host.robots, Robots::Asking) && self.schedule.in_flight_at(slot) == 0) else {
                continue;
            };
            if self.give_back_entries(slot, false) {
                self.frontier.trimmed.remove(&slot);
                self.frontier.to_park.push((id, self.calendar().plus(at.since(now))));
                self.frontier.more = true;
                // What it waits for is asked anew when it is back.
                self.schedule.wake(slot);
            }
        }
    }

    /// Gives a host's own entries back to the store, but for those between two hops and, where one `stays`, the first; whether
    /// there were any.
    fn give_back_entries(&mut self, slot: Slot, stays: bool) -> bool {
        let Some(id) = self.hosts.get(&slot).and_then(|h| h.id) else { return false };
        let mut first = stays;
        let back = self.schedule.take_where(slot, |item| match item {
            // The entry that stays keeps the store from handing the host out as a new one.
            Item::Entry(work) => work.lease.host == id && !std::mem::take(&mut first) && work.hop.is_none(),
            Item::Robots(_) => false,
        });
        if back.is_empty() {
            return false;
        }
        self.frontier.refill.remove(&slot);
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.more_ready = true;
        }
        for item in back {
            let Item::Entry(work) = item else { continue };
            let entry = work.lease.entry;
            self.settles.push(if work.tries.made == 0 {
                Settle::Release { entry }
            } else {
                Settle::Later { entry, due: Wall(0), state: work.state(), sweep: false }
            });
        }
        true
    }

    /// A host whose entries went back for want of room has a turn: they may come again.
    pub(super) fn has_turn(&mut self, slot: Slot) {
        if self.frontier.trimmed.remove(&slot) {
            self.frontier.refill.insert(slot);
        }
    }

    pub(super) fn replied(&mut self, reply: Reply) -> Result<(), RunError> {
        match reply {
            Reply::Told(r) => r.map_err(store_failed)?,
            Reply::Kept(mark, r) => {
                r.map_err(store_failed)?;
                self.kept(mark);
            }
            Reply::Settled(dues, r) => {
                self.settling = false;
                self.frontier.dues.extend(dues.into_iter().map(Reverse));
                self.backlog.settling = 0;
                self.settled(r)?;
            }
            Reply::Offered(told, r) => {
                self.offering = false;
                self.frontier.changed();
                let mut told = told.into_iter();
                for offered in r.map_err(store_failed)? {
                    if let Some((row, url, bad)) = told.next() {
                        self.tell_of_record(&offered, row, url, &bad);
                    }
                    match offered {
                        Offered::New(lease) => {
                            self.pending += 1;
                            match lease {
                                Some(lease) => self.admit(*lease, None),
                                None => self.frontier.more = true,
                            }
                        }
                        // Seeds are never too deep.
                        Offered::Cut => {}
                        Offered::Known { differs, .. } => {
                            if differs && !std::mem::replace(&mut self.duplicates_differ, true) {
                                let store = self.store.clone();
                                self.replies.push(Box::pin(async move { Reply::Told(store.put(DUPLICATES_DIFFER, "1").await) }));
                            }
                            self.tally.ended(false);
                        }
                        Offered::Bad => {
                            self.tally.ended(true);
                        }
                    }
                }
            }
            Reply::Leased(r) => {
                self.leasing = false;
                let leased = r.map_err(store_failed)?;
                // The reply may be older than a settle or an offer: then the store had not heard of all that waits.
                let fresh = !self.frontier.stale && self.settles.is_empty();
                self.frontier.drained = leased.drained && fresh;
                self.frontier.sweep_waiting = leased.sweep_waiting;
                if let Some(due) = leased.next_due {
                    let at = self.clock.now() + self.calendar().until(due) + Duration::from_millis(1);
                    // A lease at an earlier instant will say it again.
                    if self.frontier.dues.peek().is_none_or(|Reverse((first, _))| *first > at) {
                        self.frontier.dues.push(Reverse((at, None)));
                    }
                }
                let mut got = 0;
                for host in leased.hosts {
                    got += host.entries.len();
                    self.take_host(host);
                }
                self.frontier.more |= got > 0 || leased.unfinished;
                self.frontier.looked = got == 0 && !leased.unfinished && fresh;
            }
            Reply::Claimed(work, claim) => match claim.map_err(store_failed)? {
                Claim::Yours => self.requeue(work),
                Claim::Known { first_row } => self.skip_known(&work, first_row),
            },
            Reply::LinksJudged(pages) => self.links_judged(pages.ok_or_else(judging_failed)?),
            Reply::Named(asked, named) => {
                let (flight, judgement, facts) = *asked;
                let now = self.clock.now();
                self.settle_named(flight, judgement, &facts, named, now);
            }
        }
        Ok(())
    }

    /// A record that ended without a request.
    fn tell_of_record(&self, offered: &Offered, row: u64, url: String, bad: &str) {
        let (fate, message) = match offered {
            Offered::New(_) | Offered::Cut => return,
            Offered::Known { first_row, .. } => ("duplicate", format!("row {first_row} was first")),
            Offered::Bad => ("bad-input", mask_url(bad)),
        };
        self.events.emit(&Event::Settled { row, url, fate: fate.to_owned(), rows: 0, message: Some(message) });
    }

    fn take_host(&mut self, host: HostLease) {
        let HostLease { id, key, named, robots, entries, more, ready_left, due_left, next_due } = host;
        if entries.is_empty() && self.schedule.find(&key).is_none() {
            return;
        }
        let slot = self.host(&key);
        let wall = self.calendar();
        if let Some(due) = next_due {
            self.frontier.dues.push(Reverse((self.clock.now() + wall.until(due) + Duration::from_millis(1), Some(slot))));
        } else if more && (due_left || !entries.is_empty()) {
            self.frontier.refill.insert(slot);
        }
        if let Some(state) = self.hosts.get_mut(&slot) {
            state.more_ready = ready_left;
            state.id = Some(id);
            state.named |= named;
            if matches!(state.robots, Robots::Unknown)
                && let Some(stored) = robots
            {
                state.robots = read_robots(&stored, wall);
                state.robots_until = self.clock.now() + wall.until(stored.until);
            }
        }
        self.tune(slot);
        for lease in entries {
            self.admit(lease, Some(slot));
        }
    }

    /// A lease becomes work in its host's queue.
    fn admit(&mut self, lease: Lease, at: Option<Slot>) {
        let saved: SavedState = lease.state.as_deref().and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
        let target = normalise(&lease.url).and_then(|u| self.builder.target(&u, &lease.columns));
        let target = match target {
            Ok(t) => t,
            Err(message) => {
                self.give_up_lease(&lease, crate::model::Reason::BadInput, &message);
                return;
            }
        };
        let page = saved.page.or_else(|| self.kit.extractor.pager().map(|p| p.first(&target)));
        let mut work = Work {
            next: target.clone(),
            began: None,
            lease: Arc::new(lease),
            target,
            tries: saved.tries,
            page,
            hop: None,
            identity: false,
            fresh: false,
            named: None,
            ended: None,
            refused_at: None,
            rows: 0,
        };
        // An entry that the feeder offered names its host.
        if at.is_none() {
            let slot = self.host(&HostKey::of(&work.target));
            if let Some(h) = self.hosts.get_mut(&slot) {
                h.id = Some(work.lease.host);
                h.named = true;
            }
        }
        let slot = self.slot_of(&mut work);
        self.schedule.push(slot, Item::Entry(Box::new(work)));
        // The budget may have sent the host to wait for its first tries.
        if self.hosts.get(&slot).is_some_and(|h| !h.budget.admits(self.plan.retry.budget, false)) {
            self.schedule.wake(slot);
        }
    }

    /// The slot of a host, with a state.
    pub(crate) fn host(&mut self, key: &HostKey) -> Slot {
        let slot = self.schedule.slot(key);
        if !self.hosts.contains_key(&slot) {
            let special = self.builder.specials().of(key.host());
            let state = HostState {
                id: None,
                named: false,
                robots: if special.robots { Robots::Unknown } else { Robots::Open },
                robots_until: Moment::FAR,
                breaker: Breaker::new(self.plan.retry.host_give_up),
                budget: Budget::default(),
                claims: self.limits.claims(&About { host: key, method: "GET", path: "/robots.txt", token: None }),
                pace: Pace::new(self.clock.now()),
                more_ready: false,
                robots_tries: (0, None),
                special,
            };
            self.hosts.insert(slot, state);
            self.tune(slot);
        }
        slot
    }

    /// Concurrency and delay of a host: its crawl delay wins over a shorter one of ours.
    pub(crate) fn tune(&mut self, slot: Slot) {
        let Some(h) = self.hosts.get(&slot) else { return };
        let (most, delay) = (h.special.per_host, h.special.delay);
        if let Robots::Rules(rules) = &h.robots
            && let Some(crawl_delay) = rules.crawl_delay()
        {
            self.schedule.tune(slot, 1, delay.max(crawl_delay), crawl_delay);
        } else {
            self.schedule.tune(slot, most, delay, Duration::ZERO);
        }
    }

    /// How the host of a slot is treated.
    pub(super) fn special(&self, slot: Slot) -> Arc<Special> {
        self.hosts.get(&slot).map_or_else(|| Arc::clone(self.builder.specials().everywhere()), |h| Arc::clone(&h.special))
    }
}

fn judging_failed() -> RunError {
    RunError::Io {
        message: "judging links failed in a way that it should not".into(),
        hint: Some("nothing committed is lost: run the same command again, and please report it".into()),
    }
}

fn read_robots(stored: &StoredRobots, wall: Wall) -> Robots {
    if stored.until < wall {
        return Robots::Unknown;
    }
    match stored.verdict.as_str() {
        "rules" => Robots::Rules(Box::new(Rules::parse(&stored.body))),
        "open" => Robots::Open,
        _ => Robots::Unknown,
    }
}
