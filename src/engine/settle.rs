//! What an attempt's end means for its entry, its host and its key; fates go to the store.

use crate::clock::{Clock, Moment, Wall, unit};
use crate::engine::dispatcher::{Dispatcher, Reply, add_counts};
use crate::engine::extraction::Parsed;
use crate::engine::hosts::Robots;
use crate::engine::request::Hop;
use crate::engine::work::{Flight, Item, RobotsWork, Work};
use crate::engine::worker::{Facts, Landing};
use crate::events::Event;
use crate::extract::{ExtractFailure, PageStep};
use crate::model::{Class, HostKey, Outcome, Reason, SkippedRecord, mask_url};
use crate::retry::{self, Change, Follow, Judgement, Reach, Tried, Verdict, Whose};
use crate::robots::{self, RobotsVerdict};
use crate::schedule::Slot;
use crate::store::{Lease, Settle, StoredRobots};
use std::time::Duration;
use url::Url;

/// How long a robots.txt is good for (RFC 9309 2.4).
const ROBOTS_FOR: Duration = Duration::from_secs(24 * 3600);

impl Dispatcher {
    /// Takes what a worker or an extraction thread tells.
    pub(crate) fn land(&mut self, landing: Landing, now: Moment) {
        match landing {
            Landing::Headers(id, at) => {
                if let Some(f) = self.flights.get_mut(&id)
                    && let Some(permit) = f.permit.take()
                {
                    self.limits.arrived(permit, at);
                    self.unblock();
                }
            }
            Landing::Done(id, facts, parsed) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.fetched(&mut flight, &facts, now);
                if let Item::Entry(work) = flight.item {
                    self.parsed(work, *parsed);
                }
            }
            Landing::Fetched(id, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.fetched(&mut flight, &facts, now);
                self.parsing += 1;
                self.flights.insert(id, flight);
            }
            Landing::Parsed(id, parsed) => {
                let Some(flight) = self.flights.remove(&id) else { return };
                if flight.landed {
                    self.parsing = self.parsing.saturating_sub(1);
                }
                if let Item::Entry(work) = flight.item {
                    self.parsed(work, parsed);
                }
            }
            Landing::Judged(id, judgement, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                if self.asks_whether_named(&flight, &judgement) {
                    self.ask_whether_named(flight, judgement, facts);
                } else {
                    self.judged(flight, judgement, &facts, now);
                }
            }
            Landing::Robots(id, outcome, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                let said = match &outcome {
                    Outcome::Answer(_) => "ok".into(),
                    Outcome::Failure(f) => f.reason.code(),
                };
                self.tell(&flight, &said, &facts);
                self.robots_came(flight, &outcome, &facts, now);
            }
        }
    }

    /// An accepted answer is in.
    fn fetched(&mut self, flight: &mut Flight, facts: &Facts, now: Moment) {
        self.came_down(flight, facts, now);
        self.tell(flight, "ok", facts);
        for code in &facts.warnings {
            self.events.warn(code, || format!("{code}: {}", mask_url(flight.url.as_str())));
        }
        if let Item::Entry(work) = &mut flight.item {
            let tried = self.tried(work, flight.started, flight.started_wall, facts, Whose::Key);
            retry::decide(&mut work.tries, Judgement::Accept, &self.plan.retry, &tried);
            work.ended = Some(facts.ended);
        }
        self.not_refused(flight);
        self.proxy_trouble.0 = 0;
    }

    /// A task that ended without a word (a panic) costs its one entry.
    pub(crate) fn land_lost(&mut self, now: Moment) {
        if self.tasks.is_empty() && self.in_flight > 0 && self.landings.is_empty() {
            let lost: Vec<u64> = self.flights.iter().filter(|(_, f)| !f.landed).map(|(id, _)| *id).collect();
            for id in lost {
                let Some(flight) = self.flights.remove(&id) else { continue };
                self.in_flight = self.in_flight.saturating_sub(1);
                self.schedule.landed(flight.slot);
                if let Some(p) = flight.permit {
                    self.limits.lost(p, now);
                }
                match flight.item {
                    Item::Entry(work) => {
                        self.skip(&work, Reason::InternalError, None, "the attempt failed in a way that it should not", None)
                    }
                    Item::Robots(r) => {
                        let slot = self.host(&r.of);
                        if let Some(h) = self.hosts.get_mut(&slot) {
                            h.robots = Robots::Open;
                        }
                        self.schedule.wake(slot);
                    }
                }
            }
        }
    }

    /// An attempt is off the wire: places, permits and counters.
    fn came_down(&mut self, flight: &mut Flight, facts: &Facts, now: Moment) {
        flight.landed = true;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.schedule.landed(flight.slot);
        if let Some(permit) = flight.permit.take() {
            match facts.headers_at {
                Some(at) => self.limits.arrived(permit, at),
                None if facts.unsent => self.limits.unsent(permit),
                None => self.limits.lost(permit, now),
            }
            self.unblock();
        }
        if !facts.unsent {
            self.tally.requests += 1;
            let host = flight.url.host_str().unwrap_or_default();
            self.tally.host(host, |h| h.requests += 1);
        }
        self.tally.bytes += facts.wire_bytes;
        if let Item::Entry(work) = &flight.item {
            self.reached(flight.slot, work.lease.entry.0, facts.reach, now);
        }
    }

    fn unblock(&mut self) {
        if self.blocked {
            self.blocked = false;
            self.schedule.wake_blocked();
        }
    }

    /// Tells the host's breaker.
    fn reached(&mut self, slot: Slot, entry: i64, reach: Reach, now: Moment) {
        let Some(host) = self.hosts.get_mut(&slot) else { return };
        let name = || self.schedule.key(slot).map(ToString::to_string).unwrap_or_default();
        match reach {
            Reach::Yes => {
                if host.breaker.succeeded() {
                    self.events.emit(&Event::HostBack { host: name() });
                    self.schedule.wake(slot);
                }
            }
            Reach::No => match host.breaker.failed(entry, now) {
                Change::None => {}
                Change::Opened { until } => {
                    let wait_ms = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
                    self.events.emit(&Event::HostParked { host: name(), why: "breaker", wait_ms });
                    self.schedule.wake(slot);
                }
                Change::GaveUp => {
                    let name = name();
                    self.events.notice(format!(
                        "{name} gave no answer for {}: its entries are skipped `host-unreachable`",
                        crate::model::show_duration(self.plan.retry.host_give_up)
                    ));
                    self.schedule.wake(slot);
                }
            },
            Reach::Neither => {
                host.breaker.probe_lost(entry);
                self.schedule.wake(slot);
            }
        }
    }

    /// An answer that is no refusal: the key's hold and the neighbours hear of it.
    fn not_refused(&mut self, flight: &Flight) {
        let now = self.clock.now();
        self.limits.succeeded(&flight.limit_key, flight.started, now);
        self.unblock();
        if let Item::Entry(work) = &flight.item
            && let Some(n) = self.neighbours.get_mut(&flight.limit_key)
        {
            n.succeeded(work.lease.entry.0, flight.started);
        }
    }

    fn tried(&self, work: &Work, started: Moment, start: Wall, facts: &Facts, whose: Whose) -> Tried {
        let entry = u64::try_from(work.lease.entry.0).unwrap_or_default();
        Tried {
            start,
            took: facts.ended.since(started),
            waited: work.ended.map_or(Duration::ZERO, |e| started.since(e)),
            status: facts.status,
            unit: unit(self.seed, entry, work.tries.made),
            whose,
        }
    }

    /// Everything but an accepted answer.
    fn judged(&mut self, flight: Flight, judgement: Judgement, facts: &Facts, now: Moment) {
        let said = match &judgement {
            Judgement::Redirect { .. } => "redirect".into(),
            Judgement::Refused { reason, .. } => reason.code(),
            Judgement::Trouble(t) => t.reason.code(),
            Judgement::Accept => "ok".into(),
        };
        self.tell(&flight, &said, facts);
        let Flight { item, slot, limit_key, started, started_wall, .. } = flight;
        let Item::Entry(mut work) = item else { return };
        let whose = if let Judgement::Refused { .. } = &judgement {
            self.neighbours.entry(limit_key.clone()).or_default().refused(work.lease.entry.0, now)
        } else {
            if facts.status.is_some() {
                self.limits.succeeded(&limit_key, started, now);
                self.unblock();
                if let Some(n) = self.neighbours.get_mut(&limit_key) {
                    n.succeeded(work.lease.entry.0, started);
                }
            }
            Whose::Key
        };
        if let Judgement::Trouble(t) = &judgement {
            self.feel_shortage(&t.reason);
        }
        let refused = match &judgement {
            Judgement::Refused { asked, from, .. } => Some((*asked, from.as_str())),
            _ => None,
        };
        let tried = self.tried(&work, started, started_wall, facts, whose);
        let first_of_hops = work.hop.as_ref().map(|h| h.url.clone());
        let verdict = retry::decide(&mut work.tries, judgement, &self.plan.retry, &tried);
        work.ended = Some(facts.ended);
        self.mind_proxy(&said, now);
        if let Some((asked, from)) = refused {
            // The key is held even where the entry itself is given up.
            let change = self.limits.refused(&limit_key, now, started, asked, tried.unit);
            self.held(&limit_key, &change, facts.status.unwrap_or(0), from);
            let refused_for = self.limits.refused_for(&limit_key, now);
            if refused_for > self.plan.limits.max_wait {
                self.defer = Some(format!("{limit_key} has refused everything for {}", crate::model::show_duration(refused_for)));
            }
        }
        match verdict {
            Verdict::Take => {}
            Verdict::Follow { to, follow } => self.follow(work, first_of_hops, to, follow),
            Verdict::Hold { .. } => {
                // Behind the others: they tell whether it is the key that is refused or this entry alone.
                work.hop = None;
                let at = self.slot_of(&work);
                self.schedule.push(at, Item::Entry(work));
            }
            Verdict::Again { after, sweep, charged, identity, fresh } => {
                self.events.emit_detail(|| Event::RetryScheduled {
                    row: work.lease.row,
                    url: mask_url(&work.lease.url),
                    reason: said.clone().into_owned(),
                    wait_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                    charged,
                });
                work.hop = None;
                work.identity = identity;
                work.fresh = fresh;
                if after.is_zero() && !sweep {
                    self.requeue(work);
                } else {
                    self.tally.waited("backoff", after);
                    let due = self.clock.wall().plus(after + Duration::from_millis(1));
                    self.frontier.dues.push(std::cmp::Reverse((now + after + Duration::from_millis(2), Some(slot))));
                    if sweep {
                        self.frontier.sweep_waiting += 1;
                    }
                    let state = work.state();
                    self.settles.push(Settle::Later { entry: work.lease.entry, due, state, sweep });
                }
            }
            Verdict::GiveUp { reason, message, not_before, .. } => {
                let next_at = not_before.map(|d| self.clock.wall().plus(d));
                self.skip(&work, reason, facts.status, &message, next_at);
            }
        }
    }

    /// A key is held: told once an event, kept in the state.
    fn held(&mut self, key: &str, change: &crate::limit::HoldChange, status: u16, from: &'static str) {
        let until = self.clock.wall().plus(change.wait);
        if change.new_event {
            self.tally.waited("hold", change.wait);
            self.events.emit(&Event::HoldBegan {
                key: key.to_owned(),
                until,
                wait_ms: u64::try_from(change.wait.as_millis()).unwrap_or(u64::MAX),
                status,
                from,
            });
        }
        let (store, key) = (self.store.clone(), key.to_owned());
        self.replies.push(Box::pin(async move { Reply::Told(store.hold(&key, until).await) }));
    }

    /// Twenty attempts in a row that failed at a proxy, for half a minute: nothing is charged, and the run ends for now.
    fn mind_proxy(&mut self, said: &str, now: Moment) {
        if !matches!(said, "proxy-unreachable" | "proxy-auth" | "proxy-refused") {
            self.proxy_trouble.0 = 0;
            return;
        }
        if self.proxy_trouble.0 == 0 {
            self.proxy_trouble.1 = now;
            self.events.warn("proxy", || format!("the proxy fails ({said}); its entries wait uncharged"));
        }
        self.proxy_trouble.0 += 1;
        let dead = self.shop.fetcher.proxies_exhausted();
        if dead || (self.proxy_trouble.0 >= 20 && now.since(self.proxy_trouble.1) >= Duration::from_secs(30)) {
            self.defer = Some(format!("no proxy is left that works ({said}); mend [request] proxy or the http_proxy variables"));
        }
    }

    /// A shortage of this machine lowers concurrency; it creeps back with what goes well.
    fn feel_shortage(&mut self, reason: &Reason) {
        if *reason == Reason::LocalResource {
            self.most = (self.most / 2).max(1);
            let most = self.most;
            self.events.warn("local-resource", || format!("this machine is short of open files, ports or buffers: {most} attempts at once from now on (raise `ulimit -n` or lower workers)"));
        }
    }

    /// The host of the work's next request.
    fn slot_of(&mut self, work: &Work) -> Slot {
        let url = match (&work.hop, self.kit.extractor.pager(), &work.page) {
            (Some(hop), _, _) => hop.url.clone(),
            (None, Some(pager), Some(page)) => pager.request(&work.target, page).url,
            _ => work.target.clone(),
        };
        self.host(&HostKey::of(&url))
    }

    /// Back to the front of its host's queue.
    pub(crate) fn requeue(&mut self, work: Box<Work>) {
        let slot = self.slot_of(&work);
        self.schedule.push_front(slot, Item::Entry(work));
    }

    fn follow(&mut self, mut work: Box<Work>, from: Option<Url>, to: Url, follow: Follow) {
        let Some(hop) = work.hop.take() else { return };
        let method = if follow == Follow::Get && hop.method != http::Method::HEAD { http::Method::GET } else { hop.method.clone() };
        let mut seen = hop.seen;
        seen.push((hop.method.clone(), hop.url.clone()));
        if seen.iter().any(|(m, u)| *m == method && *u == to) {
            self.skip(&work, Reason::RedirectLoop, None, &format!("redirected back to {}", mask_url(to.as_str())), None);
            return;
        }
        if seen.len() > self.plan.request.redirects as usize {
            self.skip(&work, Reason::TooManyRedirects, None, &format!("more than {} redirects", self.plan.request.redirects), None);
            return;
        }
        if let (Some(scope), Some(from)) = (self.kit.scope.clone(), from) {
            let refused = scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).admits(&to).err();
            if let Some(rule) = refused {
                if work.lease.depth > 0 {
                    self.skip(
                        &work,
                        Reason::OutOfScope,
                        None,
                        &format!("redirected to {}, which {rule} leaves out", mask_url(to.as_str())),
                        None,
                    );
                    return;
                }
                if is_same_site(&from, &to) {
                    scope.write().unwrap_or_else(std::sync::PoisonError::into_inner).add_seed(&to);
                    self.seeds_of_scope.push(to.as_str().to_owned());
                    self.keep_scope();
                } else {
                    self.events.warn("seed-moved", || {
                        format!(
                            "the start page {} redirects to {}, whose links are out of scope (list it, or widen [crawl] scope)",
                            mask_url(from.as_str()),
                            mask_url(to.as_str())
                        )
                    });
                }
            }
        }
        let same_origin = hop.same_origin && to.origin() == hop.url.origin();
        let body = hop.body && follow == Follow::Keep;
        work.named = None;
        let key = self.builder.key(&to, &work.lease.columns);
        work.hop = Some(Hop { url: to, method, body, same_origin, seen });
        match key {
            // The target becomes known with the entry, or is known and fetched on its own.
            Ok(key) if self.kit.scope.is_some() => {
                let (store, entry) = (self.store.clone(), work.lease.entry);
                self.replies.push(Box::pin(async move {
                    let claim = store.claim(key, entry).await;
                    Reply::Claimed(work, claim)
                }));
            }
            _ => self.requeue(work),
        }
    }

    /// A redirect led to an address that another entry has.
    pub(crate) fn skip_known(&mut self, work: &Work, first_row: u64) {
        let to = work.hop.as_ref().map_or("", |h| h.url.as_str());
        let message = format!("redirects to {}, which is an entry of its own", mask_url(to));
        self.skip_with(work, Reason::Duplicate, None, &message, None, Some(first_row));
    }

    /// The policy refused an address on a host that may still be named by the operator's list: the store knows.
    fn asks_whether_named(&self, flight: &Flight, judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Trouble(t) if t.reason == Reason::BlockedAddress)
            && matches!(&flight.item, Item::Entry(w) if w.named.is_none())
            && self.hosts.get(&flight.slot).is_none_or(|h| !h.named)
    }

    fn ask_whether_named(&mut self, flight: Flight, judgement: Judgement, facts: Facts) {
        let (store, key) = (self.store.clone(), HostKey::of(&flight.url));
        self.replies.push(Box::pin(async move {
            let named = store.host_named(&key).await.unwrap_or(false);
            Reply::Named(Box::new(flight), judgement, facts, named)
        }));
    }

    pub(crate) fn settle_named(&mut self, mut flight: Flight, judgement: Judgement, facts: &Facts, named: bool, now: Moment) {
        if let Item::Entry(work) = &mut flight.item {
            work.named = Some(named);
        }
        if !named {
            self.judged(flight, judgement, facts, now);
            return;
        }
        if let Some(h) = self.hosts.get_mut(&flight.slot) {
            h.named = true;
        }
        if let Item::Entry(work) = flight.item {
            self.requeue(work);
        }
    }

    // -- extraction's end

    fn parsed(&mut self, mut work: Box<Work>, parsed: Result<Parsed, ExtractFailure>) {
        let parsed = match parsed {
            Ok(p) => p,
            Err(ExtractFailure { reason, message, .. }) => {
                let status = work.tries.records.last().and_then(|r| r.status);
                if let Some(last) = work.tries.records.last_mut() {
                    last.outcome = reason.code().into_owned();
                }
                self.skip(&work, reason, status, &message, None);
                return;
            }
        };
        for (code, message) in parsed.warnings {
            self.events.warn(code, || message);
        }
        add_counts(&mut self.tally.out_of_scope, parsed.out_of_scope);
        work.rows += parsed.rows.count;
        if !parsed.discovered.is_empty() {
            self.may_have_more(&parsed.discovered);
        }
        let entry = work.lease.entry;
        match parsed.step {
            Some(PageStep::More(page)) => {
                self.warn_of_other_origin(&work, &page);
                work.page = Some(page);
                work.tries = retry::Tries::default();
                work.hop = None;
                let state = work.state();
                self.settles.push(Settle::Page { entry, rows: parsed.rows, state, discovered: parsed.discovered });
                self.requeue(work);
            }
            _ => {
                let rows = work.rows;
                self.settles.push(Settle::Result { entry, rows: parsed.rows, discovered: parsed.discovered });
                self.fetched += 1;
                self.results += 1;
                self.fate(&work.lease, work.target.host_str().unwrap_or_default(), "result", rows, false);
            }
        }
        if self.most < self.shop.most && self.tally.ended.is_multiple_of(50) {
            self.most += 1;
        }
    }

    /// A next page elsewhere is asked for without anything that the operator set.
    fn warn_of_other_origin(&self, work: &Work, page: &crate::extract::PageState) {
        let set = self.plan.auth.is_some() || !self.plan.request.headers.is_empty();
        let Some(next) = self.kit.extractor.pager().map(|p| p.request(&work.target, page).url) else { return };
        if set && next.origin() != work.target.origin() {
            self.events.warn("other-origin", || {
                format!(
                    "the next page {} is at another origin than {}: it is asked for without the job's credentials and headers",
                    mask_url(next.as_str()),
                    mask_url(&work.lease.url)
                )
            });
        }
    }

    /// An entry's end without a result.
    pub(crate) fn skip(&mut self, work: &Work, reason: Reason, status: Option<u16>, message: &str, next_at: Option<Wall>) {
        self.skip_with(work, reason, status, message, next_at, None);
    }

    fn skip_with(
        &mut self,
        work: &Work,
        reason: Reason,
        status: Option<u16>,
        message: &str,
        next_at: Option<Wall>,
        first_row: Option<u64>,
    ) {
        let status = status.or_else(|| work.tries.records.iter().rev().find_map(|r| r.status));
        let class = if reason == Reason::Forbidden { Class::Blocked } else { reason.class() };
        let record = SkippedRecord {
            columns: &work.lease.columns,
            row: work.lease.row,
            url: &work.lease.url,
            reason: reason.clone(),
            class,
            status,
            message,
            attempts: &work.tries.records,
            next_at,
            first_row,
        };
        let mut bytes = Vec::new();
        if let Some(encoder) = self.kit.encoder.get() {
            encoder.encode_skipped(&record, &mut bytes);
        }
        if !matches!(
            reason,
            Reason::RobotsDisallowed
                | Reason::BadInput
                | Reason::BlockedAddress
                | Reason::HostUnreachable
                | Reason::OutOfScope
                | Reason::Duplicate
        ) {
            self.fetched += 1;
        }
        let code = reason.code();
        self.settles.push(Settle::Skipped { entry: work.lease.entry, record: bytes, reason, state: Some(work.state()) });
        self.fate(&work.lease, work.target.host_str().unwrap_or_default(), &code, 0, true);
    }

    /// A lease that gives no request.
    pub(crate) fn give_up_lease(&mut self, lease: &Lease, reason: Reason, message: &str) {
        let record = SkippedRecord {
            columns: &lease.columns,
            row: lease.row,
            url: &lease.url,
            class: reason.class(),
            reason: reason.clone(),
            status: None,
            message,
            attempts: &[],
            next_at: None,
            first_row: None,
        };
        let mut bytes = Vec::new();
        if let Some(encoder) = self.kit.encoder.get() {
            encoder.encode_skipped(&record, &mut bytes);
        }
        let code = reason.code();
        self.settles.push(Settle::Skipped { entry: lease.entry, record: bytes, reason, state: None });
        self.fate(lease, "", &code, 0, true);
    }

    fn fate(&mut self, lease: &Lease, host: &str, fate: &str, rows: u64, skipped: bool) {
        self.pending = self.pending.saturating_sub(1);
        self.tally.ended(skipped);
        if !self.neighbours.is_empty() {
            self.neighbours.values_mut().for_each(|n| n.settled(lease.entry.0));
        }
        self.tally.host(host, |h| if skipped { h.skipped += 1 } else { h.results += 1 });
        self.events.emit_detail(|| Event::Settled { row: lease.row, url: mask_url(&lease.url), fate: fate.to_owned(), rows });
    }

    fn tell(&self, flight: &Flight, outcome: &str, facts: &Facts) {
        if facts.connected {
            self.events.emit_detail(|| Event::Connected {
                host: HostKey::of(&flight.url).as_str().to_owned(),
                remote: facts.remote.map(|a| a.to_string()),
            });
        }
        self.events.emit_detail(|| {
            let (row, attempt) = match &flight.item {
                Item::Entry(w) => (w.lease.row, w.tries.made + 1),
                Item::Robots(_) => (0, 1),
            };
            Event::Attempted {
                row,
                url: mask_url(flight.url.as_str()),
                attempt,
                outcome: outcome.to_owned(),
                status: facts.status,
                ms: u64::try_from(facts.ended.since(flight.started).as_millis()).unwrap_or(u64::MAX),
                bytes: facts.body_bytes,
                remote: facts.remote.map(|a| a.to_string()),
                message: facts.message.clone(),
            }
        });
    }

    // -- robots.txt

    fn robots_came(&mut self, flight: Flight, outcome: &Outcome, facts: &Facts, now: Moment) {
        let Item::Robots(robots_work) = &flight.item else { return };
        let slot = self.host(&robots_work.of);
        let wall = self.clock.wall();
        let method = http::Method::GET;
        let judgement = retry::classify(outcome, &self.shop.ctx(wall, &robots_work.url, &method));
        if let Judgement::Refused { asked, from, .. } = &judgement {
            let change = self.limits.refused(&flight.limit_key, now, flight.started, *asked, unit(self.seed, 0, robots_work.hops));
            self.held(&flight.limit_key.clone(), &change, facts.status.unwrap_or(0), from.as_str());
        } else if facts.status.is_some() {
            self.limits.succeeded(&flight.limit_key, flight.started, now);
            self.unblock();
        }
        match robots::decide(outcome, robots_work.hops, self.plan.crawl.is_some()) {
            RobotsVerdict::Rules(rules) => {
                let body = match outcome {
                    Outcome::Answer(a) => a.body.clone(),
                    Outcome::Failure(_) => Vec::new(),
                };
                self.robots_known(slot, Robots::Rules(Box::new(rules)), "rules", body);
            }
            RobotsVerdict::AllowAll => self.robots_known(slot, Robots::Open, "open", Vec::new()),
            RobotsVerdict::Redirect => {
                let to = match outcome {
                    Outcome::Answer(a) => retry::redirect_target(&a.headers, &robots_work.url).ok(),
                    Outcome::Failure(_) => None,
                };
                let Some(to) = to else {
                    self.robots_known(slot, Robots::Open, "open", Vec::new());
                    return;
                };
                let at = self.host(&HostKey::of(&to));
                let next = RobotsWork { of: robots_work.of.clone(), url: to, hops: robots_work.hops + 1 };
                self.schedule.push_front(at, Item::Robots(Box::new(next)));
                self.schedule.wake(at);
            }
            RobotsVerdict::Park { why } => self.robots_parked(slot, &why, now),
            RobotsVerdict::EntryFailure => {
                // The failure is the entry's own, with its reason and attempts.
                if let Some(h) = self.hosts.get_mut(&slot) {
                    h.robots = Robots::Unknown;
                }
                let first = self.schedule.take_first(slot, |i| matches!(i, Item::Entry(_)));
                self.schedule.wake(slot);
                if let Some(Item::Entry(work)) = first {
                    self.reached(slot, work.lease.entry.0, facts.reach, now);
                    let own = Flight {
                        item: Item::Entry(work),
                        slot,
                        url: flight.url.clone(),
                        permit: None,
                        limit_key: flight.limit_key.clone(),
                        ..flight
                    };
                    self.judged(own, judgement, facts, now);
                }
            }
        }
    }

    fn robots_known(&mut self, slot: Slot, robots: Robots, verdict: &str, body: Vec<u8>) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.robots = robots;
            h.robots_tries = (0, None);
            if let Some(id) = h.id {
                let stored = StoredRobots { verdict: verdict.to_owned(), body, until: self.clock.wall().plus(ROBOTS_FOR) };
                let store = self.store.clone();
                self.replies.push(Box::pin(async move { Reply::Told(store.put_host(id, stored).await) }));
            }
        }
        self.tune(slot);
        self.schedule.wake(slot);
    }

    /// 5xx and the like: asked again after 1, 5 and 30 minutes, until `host_give_up`.
    fn robots_parked(&mut self, slot: Slot, why: &str, now: Moment) {
        let Some(h) = self.hosts.get_mut(&slot) else { return };
        let (times, since) = h.robots_tries;
        let since = since.unwrap_or(now);
        if now.since(since) >= self.plan.retry.host_give_up {
            h.robots = Robots::GivenUp;
        } else {
            let wait = robots::reask(times + 1);
            let give_up = since + self.plan.retry.host_give_up;
            let until = (now + wait).min(give_up);
            h.robots = Robots::Parked { until, times: times + 1, since };
            let host = self.schedule.key(slot).map(ToString::to_string).unwrap_or_default();
            self.events.warn("robots-unavailable", || format!("{host}: {why}; its entries wait"));
            self.events.emit(&Event::HostParked {
                host,
                why: "robots",
                wait_ms: u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.schedule.wake(slot);
    }
}

/// Whether two addresses differ in scheme or `www.` alone, as far as their hosts go.
fn is_same_site(a: &Url, b: &Url) -> bool {
    let bare = |u: &Url| u.host_str().map(|h| h.strip_prefix("www.").unwrap_or(h).to_owned());
    bare(a) == bare(b)
}
