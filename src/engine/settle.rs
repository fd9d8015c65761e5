//! What an attempt's end means for its entry, its host and its key; fates go to the store.

use crate::budget::End;
use crate::clock::{Clock, Moment, Wall, unit};
use crate::engine::dispatcher::{Dispatcher, add_counts};
use crate::engine::extraction::Parsed;
use crate::engine::frontier::Reply;
use crate::engine::purse::{Given, budget_failed};
use crate::engine::request::Hop;
use crate::engine::scope::Unjudged;
use crate::engine::work::{Flight, Item, Work};
use crate::engine::worker::{Facts, Landing};
use crate::events::Event;
use crate::extract::{ExtractFailure, PageStep};
use crate::limit::{Claim, Refusal};
use crate::model::plan::LimitKeyKind;
use crate::model::{Class, HostKey, Reason, SkippedRecord, mask_url, show_duration};
use crate::retry::{self, Change, Follow, Judgement, Reach, Repeat, Tried, Trouble, Verdict, WaitFrom, Whose};
use crate::schedule::Slot;
use crate::store::{Lease, Settle};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Keys whose refusals are remembered; past that all are forgotten, and a poison entry takes a little longer to be told.
const NEIGHBOURS: usize = 4096;

/// Why an entry is skipped, and of what class that is where the reason alone does not say it.
pub(crate) struct Why {
    reason: Reason,
    class: Class,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { class: reason.class(), reason }
    }
}

impl From<(Reason, Class)> for Why {
    fn from((reason, class): (Reason, Class)) -> Self {
        Self { reason, class }
    }
}

impl Dispatcher {
    /// Takes what a worker or an extraction thread tells.
    pub(crate) fn land(&mut self, landing: Landing, now: Moment) {
        match landing {
            Landing::Headers(id, at) => {
                let Some(flight) = self.flights.get_mut(&id) else { return };
                if let Some(permit) = &mut flight.permit {
                    self.limits.arrived(permit, at);
                }
                if let (Some(purse), Some(grant)) = (&mut self.purse, flight.grant.take()) {
                    purse.ended(grant, End::Arrived { ago: now - at });
                }
                self.unblock();
            }
            Landing::Given(given) => self.given(given, now),
            Landing::Done(id, facts, parsed) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.fetched(&mut flight, &facts, now);
                self.extracted(id, flight, *parsed);
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
                self.extracted(id, flight, parsed);
            }
            Landing::Judged(id, judgement, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                if self.asks_whether_named(&flight, &judgement) {
                    self.ask_whether_named(flight, judgement, facts);
                } else if self.may_lead_out(&flight, &judgement) {
                    self.wait_for_scope(id, flight, Unjudged::Redirect(judgement, facts));
                } else {
                    self.judged(flight, judgement, &facts, now);
                }
            }
            Landing::RestartPages(id, trouble, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                self.restart_pages(flight, trouble, &facts, now);
            }
            Landing::Stop(id, trouble, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                self.stop_by_rule(flight, &trouble, &facts);
            }
            Landing::SeedsRead(read) => self.seeds_read(read),
            Landing::Robots(id, outcome, facts) => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                self.came_down(&mut flight, &facts, now);
                self.robots_came(flight, &outcome, facts, now);
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
    }

    /// An attempt is off the wire: places, permits and counters.
    fn came_down(&mut self, flight: &mut Flight, facts: &Facts, now: Moment) {
        flight.landed = true;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.schedule.landed(flight.slot);
        if let Some(mut permit) = flight.permit.take() {
            match facts.headers_at {
                Some(at) => {
                    self.limits.arrived(&mut permit, at);
                    self.limits.done(permit);
                }
                None if facts.unsent => self.limits.unsent(permit),
                None => self.limits.lost(permit, now),
            }
            self.unblock();
        }
        let end = match facts.headers_at {
            Some(at) => End::Arrived { ago: now - at },
            None if facts.unsent => End::Unsent,
            None => End::Lost,
        };
        self.spent(flight, end);
        if !facts.unsent {
            self.tally.sent(&flight.url);
        }
        self.tally.bytes += facts.wire_bytes;
        if !facts.quotas.is_empty() {
            self.told_quotas(flight, &facts.quotas, now);
        }
        if facts.reach != Reach::Neither {
            self.short_since = None;
        }
        if let Item::Entry(work) = &flight.item {
            self.reached(flight.slot, work.lease.entry.0, facts.reach, now);
        }
    }

    pub(super) fn unblock(&mut self) {
        if self.blocked {
            self.blocked = false;
            self.schedule.wake_blocked();
        }
    }

    /// Grants came of a shared budget; those who waited for them go on.
    fn given(&mut self, given: Given, now: Moment) {
        match given {
            Given::Grants(answers) => {
                if let Some(purse) = &mut self.purse {
                    purse.given(answers, now);
                }
                self.blocked = true;
                self.unblock();
            }
            Given::Failed(e) => self.stop_after = Some(budget_failed(&e)),
        }
    }

    /// Tells the host's breaker.
    pub(super) fn reached(&mut self, slot: Slot, entry: i64, reach: Reach, now: Moment) {
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
    pub(super) fn not_refused(&mut self, flight: &Flight) {
        self.limits.succeeded(&flight.claims, flight.started);
        self.unblock();
        if let Item::Entry(work) = &flight.item
            && let Some(n) = flight.claims.first().and_then(|c| self.neighbours.get_mut(&c.key))
        {
            n.succeeded(work.lease.entry.0, flight.started);
        }
    }

    pub(super) fn tried(&self, work: &Work, started: Moment, start: Wall, facts: &Facts, whose: Whose) -> Tried {
        let entry = u64::try_from(work.lease.entry.0).unwrap_or_default();
        let (started, start) = work.began.unwrap_or((started, start));
        // The try before may be of an earlier lease: then its record tells when it ended.
        let before = work.tries.records.last().and_then(|r| {
            let began = r.start.parse::<jiff::Timestamp>().ok()?.as_millisecond();
            Some(Wall(began.saturating_add(i64::try_from(r.ms).ok()?)))
        });
        Tried {
            start,
            took: facts.ended.since(started),
            waited: before.map_or(Duration::ZERO, |ended| ended.until(start)),
            status: facts.status,
            unit: unit(self.seed, entry, work.tries.made),
            whose,
        }
    }

    /// Everything but an accepted answer.
    pub(super) fn judged(&mut self, flight: Flight, judgement: Judgement, facts: &Facts, now: Moment) {
        let judgement = self.without_circles(&flight, judgement);
        let said = match &judgement {
            Judgement::Redirect { .. } => "redirect".into(),
            Judgement::Refused { reason, .. } => reason.code(),
            Judgement::Trouble(t) => t.reason.code(),
            Judgement::Accept => "ok".into(),
        };
        self.tell(&flight, &said, facts);
        let refused = matches!(&judgement, Judgement::Refused { .. });
        if !refused && facts.status.is_some() {
            self.not_refused(&flight);
        }
        let Flight { item, slot, claims, token, started, started_wall, url, .. } = flight;
        let Item::Entry(mut work) = item else { return };
        if facts.status == Some(401) && !facts.ruled && token.is_some_and(|t| self.tokens.drop_one(t)) {
            self.token_dropped(token);
            work.hop = None;
            self.requeue(work);
            return;
        }
        let base = claims.first().map_or_else(|| "".into(), |c| Arc::clone(&c.key));
        let whose = if refused {
            work.refused_at = Some(Arc::clone(&base));
            self.neighbours.entry(base).or_default().refused(work.lease.entry.0, now)
        } else {
            Whose::Key
        };
        if let Judgement::Trouble(t) = &judgement {
            self.feel_shortage(&t.reason, started, now);
        }
        let refused = match &judgement {
            Judgement::Refused { asked, from, .. } => Some((*asked, *from)),
            _ => None,
        };
        let tried = self.tried(&work, started, started_wall, facts, whose);
        let first_of_hops = work.hop.as_ref().map(|h| h.url.clone());
        let verdict = retry::decide(&mut work.tries, judgement, &self.special(slot).retry, &tried);
        work.ended = Some(facts.ended);
        self.tell_of_proxies(now);
        // A 429 holds its key even where the entry itself is given up; a refusal that is no longer believed does not.
        let believed = matches!(verdict, Verdict::Hold { .. }) || facts.status == Some(429);
        if let Some((asked, from)) = refused.filter(|_| believed)
            && let Some(claim) = self.refused_claim(&claims, url.path(), facts.resource.as_deref())
        {
            let measured = self.measured(&url, now);
            let own = whose == Whose::Own;
            let change = self.limits.refused(
                &claim,
                Refusal { now, sent_at: started, asked, grows: from == WaitFrom::Backoff, jitter: tried.unit, measured, own },
            );
            self.pauses(&url, change.until);
            self.held(&claim, &change, facts.status.unwrap_or(0), from.as_str());
            let refused_for = self.limits.refused_for(&claim, now);
            if refused_for > self.plan.limits.max_wait {
                self.defer = Some(format!("{} has refused everything for {}", claim.key, crate::model::show_duration(refused_for)));
            }
        }
        match verdict {
            Verdict::Take => {}
            Verdict::Follow { to, follow } => self.follow(work, first_of_hops, to, follow),
            Verdict::Hold { .. } => {
                // Behind the others: they tell whether it is the key that is refused or this entry alone.
                work.hop = None;
                let at = self.slot_of(&mut work);
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
                // Once the sweep has begun the last try waits like any other.
                let sweep = sweep && !self.frontier.sweep;
                if after.is_zero() && !sweep {
                    self.requeue(work);
                } else {
                    self.tally.waits("backoff", now, after);
                    let due = self.calendar().plus(after + Duration::from_millis(1));
                    // The store has it under the host of its listed address.
                    let at = self.schedule.find(&HostKey::of(&work.target));
                    self.frontier.dues_to_come.push((now + after + Duration::from_millis(2), at));
                    if sweep {
                        self.frontier.sweep_waiting += 1;
                    }
                    let state = work.state();
                    self.settles.push(Settle::Later { entry: work.lease.entry, due, state, sweep });
                }
            }
            Verdict::GiveUp { reason, class, message, not_before } => {
                let next_at = not_before.map(|d| self.clock.wall().plus(d));
                self.skip(&work, (reason, class), facts.status, &message, next_at);
            }
        }
    }

    /// A redirect that leads in a circle, or one too many, is trouble of its try.
    fn without_circles(&self, flight: &Flight, judgement: Judgement) -> Judgement {
        let (Judgement::Redirect { to, follow }, Item::Entry(work)) = (&judgement, &flight.item) else { return judgement };
        let Some(hop) = &work.hop else { return judgement };
        let method = hop.method_after(*follow);
        let here = std::iter::once((&hop.method, &hop.url));
        let circle = hop.seen.iter().map(|(m, u)| (m, u)).chain(here).any(|(m, u)| *m == method && u == to);
        let (reason, message) = if circle {
            (Reason::RedirectLoop, format!("redirected back to {}", mask_url(to.as_str())))
        } else if hop.seen.len() >= self.plan.request.redirects as usize {
            (Reason::TooManyRedirects, format!("more than {} redirects", self.plan.request.redirects))
        } else {
            return judgement;
        };
        Judgement::Trouble(Trouble {
            class: reason.class(),
            reason,
            repeat: Repeat::Never,
            resend: false,
            fresh: false,
            floor: None,
            message,
        })
    }

    /// A key is held: told once an event, kept in the state.
    pub(super) fn held(&mut self, claim: &Claim, change: &crate::limit::HoldChange, status: u16, from: &'static str) {
        if change.new_event {
            let now = self.clock.now();
            self.tally.waits("hold", now, change.wait);
            self.events.emit(&Event::HoldBegan {
                key: match self.limits.name(claim.limit) {
                    Some(name) => format!("{} ({name})", claim.key),
                    None => claim.key.to_string(),
                },
                until: self.clock.wall().plus(change.wait),
                wait_ms: u64::try_from(change.wait.as_millis()).unwrap_or(u64::MAX),
                status,
                from,
            });
        }
        if let Some(purse) = self.purse.as_mut().filter(|_| claim.limit == 0) {
            purse.hold(&claim.key, change.wait);
        }
        let (store, key, until) = (self.store.clone(), self.limits.stored_key(claim), self.calendar().plus(change.wait));
        self.replies.push(Box::pin(async move { Reply::Told(store.hold(&key, until).await) }));
    }

    /// How fast a host is asked, where its key is the host's own.
    pub(super) fn measured(&self, url: &Url, now: Moment) -> Option<f64> {
        if self.plan.limits.key != LimitKeyKind::Host {
            return None;
        }
        let slot = self.schedule.find(&HostKey::of(url))?;
        self.hosts.get(&slot)?.pace.measured(now)
    }

    pub(super) fn pauses(&mut self, url: &Url, until: Moment) {
        if let Some(h) = self.schedule.find(&HostKey::of(url)).and_then(|slot| self.hosts.get_mut(&slot)) {
            h.pace.pauses(until);
        }
    }

    fn token_dropped(&self, token: Option<usize>) {
        let n = token.map_or(0, |t| t + 1);
        self.events.warn("token-dropped", || {
            format!("token {n} of [auth] tokens was refused with 401: it is not used any more, the others go on")
        });
    }

    /// A proxy that fails rests: told by its host and port, once. What goes through it waits, uncharged.
    fn tell_of_proxies(&mut self, now: Moment) {
        for rest in self.shop.fetcher.proxy_news() {
            if rest.until == Moment::FAR {
                self.events.warn("proxy-ended", || format!("{}, five times in a row: it is not asked again", rest.why));
            } else {
                let wait = show_duration(Duration::from_secs((rest.until.since(now) + Duration::from_millis(500)).as_secs()));
                self.events.warn("proxy-rests", || format!("{}: it rests for {wait}, what goes through it waits uncharged", rest.why));
            }
        }
    }

    /// A shortage of this machine halves concurrency, once an event; see `recover` for the way back. One that does not pass for
    /// `max_wait` ends the run, the rest pending: it charges nothing, so nothing else would.
    fn feel_shortage(&mut self, reason: &Reason, started: Moment, now: Moment) {
        if *reason != Reason::LocalResource {
            return;
        }
        let short_for = now.since(*self.short_since.get_or_insert(now));
        if short_for > self.plan.limits.max_wait {
            self.defer = Some(format!(
                "this machine has been short of open files, ports or buffers for {}, and nothing could be sent",
                show_duration(short_for)
            ));
        }
        if self.shortage.is_some_and(|at| started < at) {
            return;
        }
        self.shortage = Some(now);
        self.most = (self.most / 2).max(1);
        let most = self.most;
        self.events.warn("local-resource", || {
            format!("this machine is short of open files, ports or buffers: {most} attempts at once from now on (raise `ulimit -n` or lower workers)")
        });
    }

    /// Concurrency lowered by a shortage creeps back: a tenth a second once nothing was short for 5 s.
    pub(super) fn recover(&mut self, now: Moment) {
        let Some(at) = self.shortage else { return };
        if self.most >= self.shop.most {
            self.shortage = None;
        } else if now.since(at) >= Duration::from_secs(5) {
            self.shortage = Some(Moment(now.0.saturating_sub(4_000_000_000)));
            self.most = (self.most + self.most / 10 + 1).min(self.shop.most);
        }
    }

    /// The host of the work's next request.
    pub(super) fn slot_of(&mut self, work: &mut Work) -> Slot {
        work.next = match (self.kit.extractor.pager(), &work.page) {
            (Some(pager), Some(page)) => pager.request(&work.target, page).url,
            _ => work.target.clone(),
        };
        let key = HostKey::of(work.at());
        self.host(&key)
    }

    /// Back to the front of its host's queue.
    pub(crate) fn requeue(&mut self, mut work: Box<Work>) {
        let slot = self.slot_of(&mut work);
        self.schedule.push_front(slot, Item::Entry(work));
    }

    fn follow(&mut self, mut work: Box<Work>, from: Option<Url>, to: Url, follow: Follow) {
        let Some(hop) = work.hop.take() else { return };
        let method = hop.method_after(follow);
        let mut seen = hop.seen;
        seen.push((hop.method.clone(), hop.url.clone()));
        if let (Some(scope), Some(from)) = (self.kit.scope.clone(), from) {
            let refused = scope.read().admits(&to).err();
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
                    let wider = scope.add(std::iter::once(to.clone()));
                    self.keep_scope(&wider);
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
        self.skip_with(work, Reason::Duplicate.into(), None, &message, None, Some(first_row));
    }

    /// The policy refused an address on a host that may still be named by the operator's list: the store knows.
    pub(super) fn asks_whether_named(&self, flight: &Flight, judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Trouble(t) if t.reason == Reason::BlockedAddress)
            && matches!(&flight.item, Item::Entry(w) if w.named.is_none())
            && self.hosts.get(&flight.slot).is_none_or(|h| !h.named)
    }

    pub(super) fn ask_whether_named(&mut self, flight: Flight, judgement: Judgement, facts: Facts) {
        let (store, key) = (self.store.clone(), HostKey::of(&flight.url));
        self.replies.push(Box::pin(async move {
            let named = store.host_named(&key).await.unwrap_or(false);
            Reply::Named(Box::new((flight, judgement, facts)), named)
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

    pub(super) fn parsed(&mut self, mut work: Box<Work>, parsed: Result<Parsed, ExtractFailure>) {
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
        self.backlog.gathered += parsed.weight();
        for (code, message) in parsed.warnings {
            self.events.warn(code, || message);
        }
        add_counts(&mut self.tally.out_of_scope, parsed.out_of_scope);
        work.rows += parsed.rows.count;
        let too_deep = self.plan.crawl.as_ref().and_then(|c| c.depth).is_some_and(|d| work.lease.depth >= d);
        if !parsed.discovered.is_empty() && !too_deep {
            self.may_have_more(&parsed.discovered);
        }
        let entry = work.lease.entry;
        if let Some(PageStep::More(page)) = parsed.step {
            self.warn_of_other_origin(&work, &page);
            work.page = Some(page);
            work.tries = retry::Tries::default();
            work.hop = None;
            let state = work.state();
            self.settles.push(Settle::Page { entry, rows: parsed.rows, state, discovered: parsed.discovered });
            self.requeue(work);
        } else {
            let rows = work.rows;
            self.settles.push(Settle::Result { entry, rows: parsed.rows, discovered: parsed.discovered });
            self.fetched += 1;
            self.results += 1;
            self.fate(&work.lease, work.refused_at.as_ref(), work.target.host_str().unwrap_or_default(), "result", rows, None);
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

    /// The run stops while an entry's request may have been carried out and must not be sent again. `landed`: its answer came and
    /// was not extracted yet.
    pub(crate) fn skip_as_sent(&mut self, mut work: Box<Work>, landed: bool) {
        let message = "the run was stopped while the request was under way".to_owned();
        let (reason, class) = (Reason::MaybeSent, Reason::MaybeSent.class());
        if !landed {
            let now = self.clock.now();
            let (started, start) = work.began.unwrap_or((now, self.clock.wall()));
            let (repeat, message) = (Repeat::Never, message.clone());
            let trouble = Trouble { reason: reason.clone(), class, repeat, resend: false, fresh: false, floor: None, message };
            let (took, waited) = (now.since(started), Duration::ZERO);
            let tried = Tried { start, took, waited, status: None, unit: 0.0, whose: Whose::Key };
            retry::decide(&mut work.tries, Judgement::Trouble(trouble), &self.plan.retry, &tried);
        } else if let Some(last) = work.tries.records.last_mut() {
            last.outcome = reason.code().into_owned();
        }
        self.skip(&work, reason, None, &message, None);
    }

    /// An entry's end without a result.
    pub(crate) fn skip(&mut self, work: &Work, why: impl Into<Why>, status: Option<u16>, message: &str, next_at: Option<Wall>) {
        self.skip_with(work, why.into(), status, message, next_at, None);
    }

    fn skip_with(
        &mut self,
        work: &Work,
        Why { reason, class }: Why,
        status: Option<u16>,
        message: &str,
        next_at: Option<Wall>,
        first_row: Option<u64>,
    ) {
        let status = status.or_else(|| work.tries.records.iter().rev().find_map(|r| r.status));
        let of_page = self.page_of(work).map(|page| format!("page {page}: {message}"));
        let message = of_page.as_deref().unwrap_or(message);
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
        self.fate(&work.lease, work.refused_at.as_ref(), work.target.host_str().unwrap_or_default(), &code, 0, Some(message));
    }

    /// The masked address of the page that a paged entry stands at, where that is not its own.
    fn page_of(&self, work: &Work) -> Option<String> {
        let page = self.kit.extractor.pager()?.request(&work.target, work.page.as_ref()?).url;
        (page != work.target).then(|| mask_url(page.as_str()))
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
        self.fate(lease, None, "", &code, 0, Some(message));
    }

    /// `skipped`: why, where it was.
    fn fate(&mut self, lease: &Lease, refused_at: Option<&Arc<str>>, host: &str, fate: &str, rows: u64, skipped: Option<&str>) {
        self.pending = self.pending.saturating_sub(1);
        self.tally.ended(skipped.is_some());
        if let Some(n) = refused_at.and_then(|key| self.neighbours.get_mut(key)) {
            n.settled(lease.entry.0);
        }
        if self.neighbours.len() > NEIGHBOURS {
            self.neighbours.clear();
        }
        self.tally.host(host, |h| if skipped.is_some() { h.skipped += 1 } else { h.results += 1 });
        self.events.emit_detail(|| Event::Settled {
            row: lease.row,
            url: mask_url(&lease.url),
            fate: fate.to_owned(),
            rows,
            message: skipped.map(str::to_owned),
        });
    }

    pub(super) fn tell(&self, flight: &Flight, outcome: &str, facts: &Facts) {
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
}

/// Whether two addresses differ in scheme or `www.` alone, as far as their hosts go.
pub(super) fn is_same_site(a: &Url, b: &Url) -> bool {
    let bare = |u: &Url| u.host_str().map(|h| h.strip_prefix("www.").unwrap_or(h).to_owned());
    bare(a) == bare(b)
}
