//! The one task that decides: it owns schedule, limits, holds, breakers and tries, and is told of everything that happens.
//!
//! Nothing here waits for one thing: turns, landings, input, the store's replies and signals are served as they come, and
//! what has to wait lies in the schedule's heap or in the store under its due time.

use crate::clock::{Clock, Moment, Steady, SystemClock};
use crate::engine::RunError;
use crate::engine::counting::{Resources, Tokens};
use crate::engine::extraction::Kit;
use crate::engine::feeder::{Fed, FeedError};
use crate::engine::frontier::{Frontier, Reply};
use crate::engine::hosts::{HostState, Robots};
use crate::engine::keep::Keeper;
use crate::engine::purse::Purse;
use crate::engine::request::Builder;
use crate::engine::run::{Interrupt, Signals, encoder_spec, wrong_columns};
use crate::engine::scope::Unjudged;
use crate::engine::tally::Tally;
use crate::engine::work::{Flight, Item};
use crate::engine::worker::{Landing, Shop};
use crate::events::{Account, Event, Events, HostWait, Snapshot};
use crate::limit::{Hours, Limits};
use crate::model::plan::Plan;
use crate::model::{mask_url, show_duration};
use crate::retry::Neighbours;
use crate::schedule::{Schedule, Slot};
use crate::store::encode::Encoder;
use crate::store::{Offer, Settle, Store, StoreError};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

/// Entries that wait in the state before the feeder pauses while there is work.
const FEED_AHEAD: u64 = 8192;
/// Entries that may wait on disk while workers idle: a list whose first part is one held host does not hold the rest.
const FEED_FAR: u64 = 1_000_000;
/// Entries in memory at most, those in flight aside.
const IN_MEMORY: usize = 8192;
/// Entries taken into memory for one host at a time.
pub(super) const PER_HOST: usize = 128;
/// The same for a host that was not in memory: many may come at once.
pub(super) const PER_NEW_HOST: usize = 16;
/// A host that waits longer keeps one entry in memory where that is full, and none where that does not make room.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(2);
/// How long a host is left out that waits for something without a time, and has no entry in memory.
pub(super) const PARKED_FOR: Duration = Duration::from_secs(30);
/// Settles that may wait for the store, and pages for the scope, before no more attempts are started.
const UNSETTLED: usize = 2048;
/// Bytes of these, and of bodies that wait for extraction, before no more attempts are started: a few large ones are as much as
/// many small ones. What is in flight then still comes.
const BACKLOG: usize = 64 << 20;
/// While all workers are busy fewer settles wait for more, but no longer than to the next tick: each batch wakes the store.
pub(super) const BATCH: usize = 64;
/// Hosts kept in memory without work for what is known of them.
const IDLE_HOSTS: usize = 2048;

/// Entries in memory at most; a test of what happens there needs fewer hosts with fewer.
pub(super) fn in_memory() -> usize {
    #[cfg(debug_assertions)]
    if let Some(n) = std::env::var("GLEANER_TEST_IN_MEMORY").ok().and_then(|n| n.parse().ok()) {
        return n;
    }
    IN_MEMORY
}

/// How the dispatcher ended.
pub(crate) struct End {
    /// `done`, `deferred`, `stopped:…`.
    pub finish: String,
    /// The frontier is drained and the input read.
    pub done: bool,
}

/// Bytes of what is parsed and not with the store yet.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Of pages that wait for the scope.
    pub unjudged: usize,
    /// Of settles that are gathered.
    pub gathered: usize,
    /// Of those that the store is at.
    pub settling: usize,
}

pub(crate) struct Dispatcher {
    pub plan: Arc<Plan>,
    pub builder: Arc<Builder>,
    pub kit: Arc<Kit>,
    pub shop: Arc<Shop>,
    pub store: Store,
    pub events: Events,
    pub clock: Arc<SystemClock>,
    pub seed: u64,

    pub schedule: Schedule<Item>,
    pub limits: Limits,
    pub keeper: Keeper,
    /// What stored times are times of.
    pub calendar: Steady,
    pub neighbours: HashMap<Arc<str>, Neighbours>,
    pub hosts: HashMap<Slot, HostState>,

    pub flights: HashMap<u64, Flight>,
    pub next_flight: u64,
    pub in_flight: usize,
    pub parsing: usize,
    /// Attempts in flight at most, lowered while the machine is short of something.
    pub most: usize,
    pub tasks: JoinSet<()>,
    pub landings: Receiver<Landing>,

    pub fed: Option<Receiver<Fed>>,
    pub input_done: bool,
    /// Since when the feeder is waited for.
    pub hungry_since: Moment,
    pub offering: bool,
    pub stop_after: Option<RunError>,

    pub frontier: Frontier,
    /// Entries in memory at most, those in flight aside.
    pub in_memory: usize,
    pub leasing: bool,
    pub settles: Vec<Settle>,
    pub settling: bool,
    /// A tick came since the last settles were sent.
    pub ticked: bool,
    pub replies: FuturesUnordered<BoxFuture<'static, Reply>>,

    pub tally: Tally,
    /// Pending entries as far as this task knows; discovered ones come with the next commit.
    pub pending: u64,
    /// Entries that were fetched to an end, over the job's life (`max_pages`).
    pub fetched: u64,
    pub results: u64,
    pub next_turn: Moment,
    pub waits_on: Option<String>,
    /// Limit keys whose wait was told, and until when that is enough.
    pub waits_told: HashMap<Arc<str>, Moment>,
    /// A host waits for a permit to come back.
    pub blocked: bool,
    pub stopping: Option<String>,
    /// Parts of the scope that the state holds.
    pub scope_parts: u64,
    /// Landed flights that wait for the scope to be whole.
    pub unjudged: Vec<(u64, Unjudged)>,
    pub backlog: Backlog,
    pub last_snapshot: Moment,
    /// Until when idle workers are booked.
    pub idle_booked: Moment,
    pub drops: u32,
    /// When this machine was last short of something.
    pub shortage: Option<Moment>,
    /// Since when nothing but shortages of this machine came of what was tried.
    pub short_since: Option<Moment>,
    /// Among the repeated records were some with other columns than their first.
    pub duplicates_differ: bool,
    /// Why the run cannot go on now (a key that only refuses, no proxy left).
    pub defer: Option<String>,
    /// Why the run ended with 75, for `status`.
    pub deferred_for: Option<String>,
    /// Why some hosts cannot be asked in this run: their proxies are dead, others go on.
    pub no_way: Option<String>,
    /// The state is one of an earlier run.
    pub resumed: bool,
    /// When anything may be sent.
    pub hours: Option<Hours>,
    pub tokens: Tokens,
    pub resources: Resources,
    /// Where `[limits] budget` is set.
    pub purse: Option<Purse>,
    /// The guard broken on purpose (`GLEANER_TEST_BREAK=count-at-send`): the control that shows that the tests would see it.
    #[cfg(debug_assertions)]
    pub counts_at_send: bool,
}

impl Dispatcher {
    /// Runs to the end of the job, to a stop, or to an error. What was settled is with the store in every case.
    pub(crate) async fn run(&mut self, signals: &mut Signals) -> Result<End, RunError> {
        let mut landed = Vec::with_capacity(256);
        let mut committed = self.store.committed();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.reached_a_stop();
            if self.takes_turns() {
                self.take_turns();
            }
            self.ask_store();
            if let Some(Err(e)) = self.purse.as_mut().map(Purse::flush) {
                self.stop_after.get_or_insert(e);
            }
            if let Some(end) = self.end()? {
                return Ok(end);
            }
            let save = self.keep_limits(self.clock.now());
            let wake = self.wake_at().min(save);
            let hungry = self.wants_input();
            if !hungry {
                self.hungry_since = self.clock.now();
            }
            tokio::select! {
                biased;
                Some(why) = signals.recv() => {
                    let why = match why {
                        Interrupt::Interrupt => "interrupt",
                        Interrupt::Terminate => "terminate",
                        Interrupt::HangUp => "hang-up",
                    };
                    self.events.emit(&Event::Stopping { why: why.into() });
                    let now = self.clock.now();
                    while let Ok(landing) = self.landings.try_recv() {
                        self.land(landing, now);
                    }
                    return Ok(End { finish: format!("stopped:{why}"), done: false });
                }
                Some(reply) = self.replies.next(), if !self.replies.is_empty() => self.replied(reply)?,
                n = self.landings.recv_many(&mut landed, 256) => {
                    if n > 0 {
                        let now = self.clock.now();
                        for landing in landed.drain(..) {
                            self.land(landing, now);
                        }
                    }
                }
                fed = recv(&mut self.fed), if hungry => self.feed(fed),
                () = sleep_until(&self.clock, wake) => {}
                Ok(()) = committed.changed() => self.events.emit(&Event::Committed { account: *committed.borrow_and_update() }),
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Ends what is in flight; its entries are simply pending, but for those whose request must not be sent again. What was sent may
    /// arrive all the same, and was a request.
    pub(super) fn abandon(&mut self) {
        self.tasks.abort_all();
        let now = self.clock.now();
        let repeatable = self.builder.is_repeatable();
        for (_, flight) in std::mem::take(&mut self.flights) {
            let written = flight.stage.may_be_written();
            if !flight.landed && written {
                self.tally.sent(&flight.url);
            }
            if let Some(permit) = flight.permit {
                self.limits.lost(permit, now);
            }
            if let Item::Entry(work) = flight.item
                && !repeatable
                && (flight.landed || written || work.hop.as_ref().is_some_and(|h| !h.seen.is_empty()))
            {
                self.skip_as_sent(work, flight.landed);
            }
        }
        self.in_flight = 0;
        if repeatable {
            return;
        }
        // Between two hops the listed request was carried out, too.
        let slots: Vec<Slot> = self.hosts.keys().copied().collect();
        for slot in slots {
            let between = |i: &Item| matches!(i, Item::Entry(w) if w.hop.as_ref().is_some_and(|h| !h.seen.is_empty()));
            for item in self.schedule.take_where(slot, between) {
                if let Item::Entry(work) = item {
                    self.skip_as_sent(work, false);
                }
            }
        }
    }

    /// Hands everything that is settled to the store.
    pub(crate) async fn flush(&mut self) -> Result<(), RunError> {
        while self.settling || self.offering {
            match self.replies.next().await {
                Some(reply) => self.replied(reply)?,
                None => break,
            }
        }
        if !self.settles.is_empty() {
            let batch = std::mem::take(&mut self.settles);
            let settled = self.store.settle(batch).await.map(|_| ());
            self.settled(settled)?;
        }
        Ok(())
    }

    /// What is wrong with one settle alone ends no run.
    pub(super) fn settled(&self, settled: Result<(), StoreError>) -> Result<(), RunError> {
        match settled {
            Err(e) if !e.is_fatal() => self.events.warn("internal", || e.to_string()),
            other => other.map_err(store_failed)?,
        }
        Ok(())
    }

    // -- input

    fn wants_input(&self) -> bool {
        if self.offering || self.fed.is_none() || self.stopping.is_some() {
            return false;
        }
        // Pages wait for what these seeds say of the scope; their entries lie on disk.
        if self.kit.scope.as_ref().is_some_and(|s| s.is_fed()) {
            return true;
        }
        let idle = self.in_flight < self.most && self.schedule.ready_hosts() == 0 && !self.leasing;
        self.pending < FEED_AHEAD || (idle && self.pending < FEED_FAR)
    }

    /// Whether first tries may come that were not read yet; a pipe that gives nothing for a second is not waited for.
    pub(crate) fn may_be_fed(&self, now: Moment) -> bool {
        self.fed.is_some() && self.pending < FEED_FAR && now.since(self.hungry_since) < Duration::from_secs(1)
    }

    pub(super) fn feed(&mut self, fed: Option<Fed>) {
        self.hungry_since = self.clock.now();
        match fed {
            None => {
                self.fed = None;
                if !self.input_done {
                    self.stop_after = Some(RunError::Io {
                        message: "reading the input failed in a way that it should not".into(),
                        hint: Some("nothing committed is lost: run the same command again, and please report it".into()),
                    });
                }
            }
            Some(Fed::Columns { names: columns, sampled }) => {
                if let Some(e) = wrong_columns(&self.plan, &self.kit.extractor, &columns, sampled) {
                    self.stop_after = Some(e);
                    self.fed = None;
                    return;
                }
                let spec = encoder_spec(&self.plan, &self.kit.extractor);
                let skipped = self.plan.output.skipped.as_ref().map_or(self.plan.output.results.format, |s| s.format);
                // A resumed job's columns were set when its state was opened; the first to come count.
                if self.kit.encoder.set(Encoder::new(spec, self.plan.output.results.format, skipped, columns.clone())).is_ok() {
                    let store = self.store.clone();
                    self.replies.push(Box::pin(async move { Reply::Told(store.columns(columns).await.map(|_| ())) }));
                }
            }
            Some(Fed::Notice(message)) => self.events.notice(message),
            Some(Fed::Warning(code, message)) => self.events.warn(code, || message),
            Some(Fed::Failed(e)) => {
                let (message, hint, io) = match e {
                    FeedError::Input(e) => (e.to_string(), e.hint().map(str::to_owned), e.is_io()),
                    FeedError::Bad { message, hint } => (message, hint, false),
                };
                self.stop_after = Some(if io { RunError::Io { message, hint } } else { RunError::Input { message, hint } });
                self.fed = None;
            }
            Some(Fed::Batch(mut offers, mark)) => {
                if mark.done {
                    self.input_done = true;
                }
                // What the state knows of a host (its robots.txt) comes with a lease.
                let hand = self.schedule.queued() < self.in_memory / 2 && !(self.resumed && self.plan.request.robots);
                for o in &mut offers {
                    o.hand = hand;
                }
                if !hand {
                    self.may_have_more(&offers);
                }
                self.add_to_scope(&offers, mark.done);
                self.offering = true;
                self.frontier.changed();
                let told = if self.events.detail() { offers.iter().map(told).collect() } else { Vec::new() };
                let store = self.store.clone();
                self.replies.push(Box::pin(async move { Reply::Offered(told, store.offer(offers, Some(mark)).await) }));
            }
        }
    }

    /// Addresses go to disk: their hosts, where in memory, have to be refilled by name.
    pub(crate) fn may_have_more(&mut self, offers: &[Offer]) {
        self.frontier.more = true;
        let mut last = None;
        for host in offers.iter().filter_map(|o| o.body.as_ref().ok()).map(|b| &b.host) {
            if last != Some(host) {
                if let Some(slot) = self.schedule.find(host) {
                    self.frontier.refill.insert(slot);
                    if let Some(h) = self.hosts.get_mut(&slot) {
                        h.more_ready = true;
                    }
                }
                last = Some(host);
            }
        }
    }

    // -- the end

    /// Nothing in memory has work to do or to tell.
    pub(super) fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.replies.is_empty() && self.settles.is_empty() && self.schedule.queued() == 0
    }

    fn end(&mut self) -> Result<Option<End>, RunError> {
        if !self.takes_turns() {
            self.let_go_of_unjudged();
        }
        if let Some(why) = &self.stopping {
            if self.flights.is_empty() && self.replies.is_empty() && self.settles.is_empty() {
                return Ok(Some(End { finish: format!("stopped:{why}"), done: false }));
            }
            return Ok(None);
        }
        if self.stop_after.is_some() {
            let landed = self.flights.is_empty() && self.replies.is_empty() && self.settles.is_empty();
            return if landed { self.stop_after.take().map_or(Ok(None), Err) } else { Ok(None) };
        }
        if !self.input_done && self.fed.is_some() {
            return Ok(self.deferred());
        }
        if self.is_quiet() && self.frontier.drained && !self.frontier.more && self.frontier.dues.is_empty() {
            return Ok(Some(End { finish: "done".into(), done: true }));
        }
        if self.is_quiet() && self.frontier.looked && !self.frontier.drained && self.frontier.dues.is_empty() {
            self.frontier.looked = false;
            if self.frontier.sweep_waiting > 0 && !self.frontier.sweep {
                self.frontier.sweep = true;
                self.frontier.more = true;
            } else {
                // Something waits that nothing here knows of: look again, without haste.
                self.frontier.dues.push(Reverse((self.clock.now() + Duration::from_secs(1), None)));
            }
        }
        Ok(self.deferred())
    }

    /// Only holds longer than `max_wait` are left.
    fn deferred(&mut self) -> Option<End> {
        if let Some(why) = self.defer.clone() {
            if !self.flights.is_empty() || !self.replies.is_empty() || !self.settles.is_empty() {
                return None;
            }
            return Some(self.defers(&format!("{why}; run the same command again later")));
        }
        if !self.flights.is_empty()
            || !self.replies.is_empty()
            || !self.settles.is_empty()
            || (self.frontier.more && self.schedule.queued() < self.in_memory / 2)
            || (self.schedule.queued() == 0 && self.frontier.dues.is_empty())
            || self.wants_input()
        {
            return None;
        }
        let now = self.clock.now();
        let soonest = self.frontier.dues.peek().map_or(self.next_turn, |Reverse((d, _))| self.next_turn.min(*d));
        if soonest == Moment::FAR {
            let why = self.no_way.clone()?;
            return Some(self.defers(&format!("{why}; run the same command again later")));
        }
        if soonest.since(now) <= self.plan.limits.max_wait {
            return None;
        }
        let until = self.clock.wall().plus(soonest.since(now));
        let most = show_duration(self.plan.limits.max_wait);
        if self.hours.as_ref().is_some_and(|h| h.opens_in(self.clock.wall()).is_some()) {
            let why = format!("[limits] hours begin later than max_wait ({most}) from now; run the same command again at {until} or later");
            return Some(self.defers(&why));
        }
        let what = self.first_wait(now).map_or_else(String::new, |(what, _)| format!(", the first a {what}"));
        Some(
            self.defers(&format!(
                "only holds longer than max_wait ({most}) are left{what}; run the same command again at {until} or later"
            )),
        )
    }

    fn defers(&mut self, why: &str) -> End {
        self.events.emit(&Event::Stopping { why: format!("deferred: {why}") });
        self.deferred_for = Some(why.to_owned());
        End { finish: "deferred".into(), done: false }
    }

    fn reached_a_stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let stop = &self.plan.stop;
        let now = self.clock.now();
        let why = if stop.time.is_some_and(|t| now.since(Moment::ZERO) >= t) {
            "time"
        } else if stop.requests.is_some_and(|n| self.tally.requests >= n) {
            "requests"
        } else if stop.bytes.is_some_and(|n| self.tally.bytes >= n) {
            "bytes"
        } else if stop.results.is_some_and(|n| n > 0 && self.results >= n) {
            "results"
        } else if stop.errors.is_some_and(|share| self.tally.error_share().is_some_and(|s| s >= share)) {
            "errors"
        } else if self.plan.crawl.as_ref().and_then(|c| c.max_pages).is_some_and(|n| self.fetched >= n)
            && self.flights.is_empty()
            && self.settles.is_empty()
            && !self.settling
            && self.store.left() > 0
        {
            "max_pages"
        } else {
            return;
        };
        self.events.emit(&Event::Stopping { why: why.into() });
        self.stopping = Some(why.into());
    }

    /// Entries in flight or in extraction, robots.txt left out.
    pub(crate) fn entries_under_way(&self) -> u64 {
        self.flights.values().filter(|f| matches!(f.item, Item::Entry(_))).count() as u64
    }

    // -- time

    /// Whether new attempts are started at all: not while the run winds down.
    fn takes_turns(&self) -> bool {
        self.stopping.is_none() && self.stop_after.is_none() && self.defer.is_none()
    }

    fn wake_at(&self) -> Moment {
        let due = self.frontier.dues.peek().map_or(Moment::FAR, |Reverse((d, _))| *d);
        let turn = if self.in_flight < self.most && self.takes_turns() { self.next_turn } else { Moment::FAR };
        turn.min(due)
    }

    fn tick(&mut self) {
        self.ticked = true;
        let now = self.clock.now();
        while let Some(joined) = self.tasks.try_join_next() {
            if let Err(e) = joined
                && e.is_panic()
            {
                self.events.warn("internal", || "an attempt failed in a way that it should not".into());
            }
        }
        self.book_idle(now);
        self.recover(now);
        if let Some(purse) = &mut self.purse {
            purse.tidy(now);
        }
        if now.since(self.last_snapshot) >= Duration::from_millis(250) {
            self.last_snapshot = now;
            self.forget_idle_hosts(now);
            let snapshot = self.snapshot(now);
            self.events.snapshot(&snapshot);
            let (store, json) = (self.store.clone(), serde_json::to_string(&snapshot).unwrap_or_default());
            if self.replies.len() < 64 {
                self.replies.push(Box::pin(async move { Reply::Told(store.snapshot(json).await) }));
            }
        }
    }

    pub(crate) fn snapshot(&mut self, now: Moment) -> Snapshot {
        let mut snapshot =
            Snapshot { account: self.account(), in_flight: self.in_flight as u64, input_done: self.input_done, ..Snapshot::default() };
        let crawl = self.plan.crawl.is_some();
        self.tally.fill(&mut snapshot, now, crawl);
        if self.in_flight == 0 || self.next_turn != Moment::FAR {
            // A turn of another host makes what was last waited for forgotten; whoever waits still does. A retry that is due
            // before a hold ends goes first; one that a rate holds back all the same does not.
            let told = match (self.waits_on.clone(), self.first_wait(now)) {
                (Some(what), Some((_, at))) if at >= self.next_turn || !what.starts_with("hold") => Some((what, self.next_turn)),
                (_, Some(first)) => Some(first),
                (what, None) => what.map(|what| (what, self.next_turn)),
            };
            snapshot.waiting = told.map(|(what, at)| match at {
                Moment::FAR => format!("waiting: {what}"),
                at => format!("waiting: {what}, next in {}", show_duration(at.since(now))),
            });
        }
        snapshot.deferred.clone_from(&self.deferred_for);
        let mut hosts: Vec<HostWait> = self
            .schedule
            .waiting()
            .map(|(slot, key, at)| HostWait {
                host: key.authority().to_owned(),
                cause: self.cause(slot, now),
                wait_ms: if at == Moment::FAR { 0 } else { u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX) },
            })
            .take(512)
            .collect();
        // At the pace of before, what is held or out of reach does not come to its end.
        let stuck = |h: &HostWait| !matches!(h.cause.as_str(), "delay" | "limit");
        if self.in_flight == 0 && self.schedule.ready_hosts() == 0 && !hosts.is_empty() && hosts.iter().all(stuck) {
            snapshot.eta_s = None;
        }
        hosts.sort_by_key(|h| Reverse(h.wait_ms));
        hosts.truncate(20);
        snapshot.hosts = hosts;
        snapshot.limits = self.limits_shown(now);
        snapshot
    }

    /// Of all that waits, what may go first and when.
    fn first_wait(&self, now: Moment) -> Option<(String, Moment)> {
        let host = self.schedule.waiting().filter(|(_, _, at)| *at != Moment::FAR).min_by_key(|(_, _, at)| *at);
        let due = self.frontier.dues.peek().map(|Reverse((at, _))| *at);
        match (host, due) {
            (Some((slot, key, at)), due) if due.is_none_or(|due| at <= due) => {
                Some((format!("{} at {}", self.cause(slot, now), key.authority()), at))
            }
            // Where retries wait for the budget, what is due next does not tell.
            (_, Some(_)) if self.waits_on.as_ref().is_some_and(|what| what.starts_with("the retry budget")) => None,
            (_, due) => due.map(|at| ("wait before a retry".to_owned(), at)),
        }
    }

    /// The account, with what is not committed yet.
    pub(crate) fn account(&self) -> Account {
        self.store.account()
    }

    /// Whether answers that are not extracted yet keep attempts from starting.
    pub(super) fn answers_wait(&self) -> bool {
        self.parsing >= 2 * self.most.max(16) || self.kit.bodies.load(Ordering::Relaxed) >= BACKLOG
    }

    pub(super) fn cause(&self, slot: Slot, now: Moment) -> String {
        if self.hosts.get(&slot).is_some_and(|h| self.limits.held_until(&h.claims, now).is_some()) {
            return "hold".into();
        }
        if let Some(Robots::Asking | Robots::Parked { .. }) = self.hosts.get(&slot).map(|h| &h.robots) {
            return "robots.txt".into();
        }
        if self.hosts.get(&slot).is_some_and(|h| breaker_is_open(h, now)) {
            return "breaker".into();
        }
        if self.plan.limits.rates.is_empty() { "delay".into() } else { "limit".into() }
    }

    /// Drops what is known of hosts without work, so that memory stays flat.
    fn forget_idle_hosts(&mut self, now: Moment) {
        let idle: Vec<Slot> = self
            .hosts
            .iter()
            .filter(|(slot, h)| {
                self.schedule.queued_at(**slot) == 0
                    && self.schedule.in_flight_at(**slot) == 0
                    && matches!(h.robots, Robots::Unknown | Robots::Open | Robots::Rules(_))
            })
            .map(|(slot, _)| *slot)
            .collect();
        if idle.len() <= IDLE_HOSTS {
            return;
        }
        for slot in idle {
            if self.hosts.get(&slot).is_some_and(|h| !breaker_is_open(h, now)) && self.schedule.forget(slot, now) {
                self.hosts.remove(&slot);
                self.frontier.more |= self.frontier.refill.remove(&slot) | self.frontier.trimmed.remove(&slot);
            }
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        let parsed = self.backlog.unjudged + self.backlog.gathered + self.backlog.settling;
        self.in_flight < self.most
            && self.parsing < 2 * self.most.max(16)
            && self.settles.len() + self.unjudged.len() < UNSETTLED
            && parsed < BACKLOG
            && self.kit.bodies.load(Ordering::Relaxed) < BACKLOG
    }
}

pub(crate) fn breaker_is_open(h: &HostState, now: Moment) -> bool {
    !matches!(h.breaker.state(now), crate::retry::State::Closed)
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn store_failed(e: StoreError) -> RunError {
    RunError::Io { message: e.to_string(), hint: e.hint().map(str::to_owned) }
}

/// A record, for those who want to hear of each.
fn told(offer: &Offer) -> (u64, String, String) {
    match &offer.body {
        Ok(body) => (offer.row, mask_url(&body.url), String::new()),
        Err(bad) => (offer.row, mask_url(&bad.url), bad.message.clone()),
    }
}

async fn recv(fed: &mut Option<Receiver<Fed>>) -> Option<Fed> {
    match fed {
        Some(fed) => fed.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &SystemClock, at: Moment) {
    match clock.instant(at) {
        Some(instant) if at != Moment::FAR => tokio::time::sleep_until(instant.into()).await,
        _ => std::future::pending().await,
    }
}

/// Sums by key.
pub(crate) fn add_counts(to: &mut BTreeMap<String, u64>, from: BTreeMap<&'static str, u64>) {
    for (k, n) in from {
        *to.entry(k.to_owned()).or_default() += n;
    }
}
