//! Whose turn it is: schedule, robots, breaker, budget and limits asked together, and the request sent.

use crate::budget::End;
use crate::clock::{Clock, Moment};
use crate::engine::counting::{Admitted, Counter, words};
use crate::engine::dispatcher::Dispatcher;
use crate::engine::hosts::{HostState, Robots};
use crate::engine::request::{PageParts, way_out};
use crate::engine::work::{Flight, Item, RobotsWork, Work};
use crate::engine::worker::{ForParse, robots_url};
use crate::events::{Event, Events};
use crate::fetch::{Fetcher, ProxyRest, Stage, WayOut};
use crate::limit::{Claim, Verdict, Why};
use crate::model::plan::Plan;
use crate::model::{Class, HostKey, Reason};
use crate::retry::State;
use crate::schedule::{Gate, Slot, Turn};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a robots.txt is called as its host's probe; entries count from 1.
pub(super) const ROBOTS: i64 = 0;

/// Waits for a rate from this length on are told with `--verbose` and in `--events`,
const TOLD_FROM: Duration = Duration::from_millis(100);
/// of one key no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Keys told of are known up to this many; further ones are not told.
const WAITS_TOLD: usize = 4096;

impl Dispatcher {
    /// Starts as many attempts as may be started now.
    pub(crate) fn take_turns(&mut self) {
        self.next_turn = Moment::FAR;
        while self.has_room() {
            if self.plan.crawl.as_ref().and_then(|c| c.max_pages).is_some_and(|n| self.fetched + self.entries_under_way() >= n) {
                return;
            }
            let now = self.clock.now();
            if self.limits.is_one() {
                let job = [Claim { limit: 0, key: "job".into(), weight: 1 }];
                let verdict = self.limits.next_at(&job, now);
                if verdict.at > now {
                    self.next_turn = verdict.at;
                    self.keeper.waited_for |= verdict.why == Why::Save;
                    let what = words(&self.limits, verdict, &job);
                    tell_of_wait(&self.events, &mut self.waits_told, &job, verdict, &what, now);
                    self.waits_on = Some(what);
                    return;
                }
            }
            if let Some(wait) = self.hours.as_ref().and_then(|h| h.opens_in(self.clock.wall())) {
                self.next_turn = now + wait;
                self.waits_on = Some("the hours of [limits] hours".into());
                return;
            }
            if self.defer.is_some() {
                return;
            }
            let may_be_fed = self.may_be_fed(now);
            let room = self.most.saturating_sub(self.in_flight);
            let Self {
                schedule,
                limits,
                hosts,
                plan,
                waits_on,
                waits_told,
                events,
                blocked,
                keeper,
                shop,
                defer,
                no_way,
                builder,
                tokens,
                resources,
                frontier,
                purse,
                ..
            } = self;
            let mut counter = Counter { limits, builder, tokens, resources, purse: purse.as_mut(), room };
            let mut admitted = None;
            // Of a host's items that wait each for a limit of its own, when the first may go.
            let mut soonest: Option<(Slot, Moment)> = None;
            let turn = schedule.turn(now, |slot, key, item, alone| {
                let Some(host) = hosts.get_mut(&slot) else { return Gate::Blocked };
                let wanted = wanted(plan, host, item, alone && !may_be_fed, now);
                if alone && wanted == Gate::Back {
                    // First tries are on disk alone, or not read yet.
                    frontier.trimmed.remove(&slot);
                    frontier.refill.insert(slot);
                }
                if wanted == Gate::Back {
                    waits_on.get_or_insert_with(|| format!("the retry budget of {} ([retry] budget)", key.authority()));
                }
                if !matches!(wanted, Gate::Go | Gate::Instead) {
                    if matches!(wanted, Gate::At(_)) && waits_on.is_none() {
                        let parked = matches!(host.robots, Robots::Parked { .. });
                        let what = if parked { "whose robots.txt fails" } else { "which does not answer" };
                        *waits_on = Some(format!("{}, {what}", key.authority()));
                    }
                    return wanted;
                }
                match proxies(&shop.fetcher, way_out(&host.special), item, plan.limits.max_wait) {
                    Way::Open => {}
                    Way::At(rest) => {
                        waits_on.get_or_insert_with(|| format!("proxy {} to be usable again", rest.proxy));
                        return Gate::At(rest.until);
                    }
                    Way::Never(why) => {
                        if shop.fetcher.goes_by_proxies_alone() {
                            *defer = Some(why);
                        } else {
                            *no_way = Some(why);
                        }
                        return Gate::Blocked;
                    }
                }
                match counter.admit(host, key, item, wanted == Gate::Instead, now) {
                    Ok(a) => {
                        host.pace.sent(now);
                        admitted = Some(a);
                        wanted
                    }
                    Err((verdict, claims)) => {
                        let what = words(counter.limits, verdict, &claims);
                        tell_of_wait(events, waits_told, &claims, verdict, &what, now);
                        *waits_on = Some(what);
                        keeper.waited_for |= verdict.why == Why::Save;
                        let mut at = verdict.at;
                        // What its path or method alone waits for holds no other item of the host.
                        let is_own = claims.get(verdict.claim).is_some_and(|c| verdict.claim > 0 && !host.claims.contains(c));
                        if is_own && wanted == Gate::Go {
                            at = soonest.filter(|(of, _)| *of == slot).map_or(at, |(_, first)| at.min(first));
                            soonest = Some((slot, at));
                            if !alone {
                                return Gate::Back;
                            }
                        }
                        *blocked |= at == Moment::FAR;
                        Gate::At(at)
                    }
                }
            });
            match turn {
                Turn::Wait(at) => {
                    self.next_turn = at;
                    return;
                }
                Turn::Dropped(slot, item) => {
                    self.has_turn(slot);
                    self.dropped(slot, item, now);
                }
                Turn::Instead(slot) => self.ask_robots(slot, admitted, now),
                Turn::Send(slot, Item::Robots(robots)) => self.send_robots(slot, robots, admitted, now),
                Turn::Send(slot, Item::Entry(work)) => {
                    self.waits_on = None;
                    self.has_turn(slot);
                    self.send_entry(slot, work, admitted, now);
                }
            }
        }
    }

    fn send_entry(&mut self, slot: Slot, mut work: Box<Work>, admitted: Option<Admitted>, now: Moment) {
        let is_try = work.hop.is_none();
        let mut parts = PageParts::default();
        let mut first = None;
        if let (Some(pager), Some(page)) = (self.kit.extractor.pager(), &work.page) {
            let asked = pager.request(&work.target, page);
            first = Some(asked.url);
            parts = PageParts { headers: asked.headers, body: asked.body_set };
        }
        if is_try {
            let url = first.unwrap_or_else(|| work.target.clone());
            let same = url.origin() == work.target.origin();
            work.hop = Some(self.builder.first(url, same));
            work.began = Some((now, self.clock.wall()));
        }
        let token = admitted.as_ref().and_then(|a| a.token).unwrap_or(0);
        let named = work.named.unwrap_or_else(|| self.hosts.get(&slot).is_some_and(|h| h.named));
        let Some(hop) = &work.hop else { return };
        let request = match self.builder.request(hop, &work.lease.columns, &parts, token, work.identity, named) {
            Ok(mut r) => {
                r.fresh |= work.fresh;
                r
            }
            Err(message) => {
                if let Some(a) = admitted {
                    self.give_back(a);
                }
                self.schedule.landed(slot);
                self.skip(&work, Reason::BadInput, None, &message, None);
                return;
            }
        };
        let url = hop.url.clone();
        if let Some(h) = self.hosts.get_mut(&slot) {
            if is_try {
                h.budget.sent(work.tries.charged > 0);
            }
            if matches!(h.breaker.state(now), State::Probe) {
                h.breaker.probe(work.lease.entry.0);
            }
        }
        if is_try && work.tries.made > 0 {
            self.tally.retries += 1;
            self.tally.host(url.host_str().unwrap_or_default(), |h| h.retries += 1);
        }
        // Links beyond the depth too: the store keeps them for a run that goes deeper.
        let links = self.plan.crawl.is_some();
        let parse = ForParse { lease: work.lease.clone(), attempts: work.tries.charged + 1, page: work.page.clone(), links };
        let flight = self.fly(Item::Entry(work), slot, admitted, (url, request.stage.clone()), now);
        self.tasks.spawn(self.shop.clone().entry(flight, request, parse));
    }

    /// Asks for the robots.txt of a host; its entries wait meanwhile.
    fn ask_robots(&mut self, slot: Slot, admitted: Option<Admitted>, now: Moment) {
        let Some(key) = self.schedule.key(slot).cloned() else { return };
        let url = if let Ok(u) = url::Url::parse(key.as_str()) {
            robots_url(&u)
        } else {
            if let Some(h) = self.hosts.get_mut(&slot) {
                h.robots = Robots::Open;
            }
            if let Some(a) = admitted {
                self.give_back(a);
            }
            self.schedule.landed(slot);
            return;
        };
        if let Some(h) = self.hosts.get_mut(&slot) {
            if let Robots::Parked { times, since, .. } = h.robots {
                h.robots_tries = (times, Some(since));
            }
            h.robots = Robots::Asking;
        }
        let probe = self.hosts.get_mut(&slot).is_some_and(|h| {
            let probes = matches!(h.breaker.state(now), State::Probe);
            if probes {
                h.breaker.probe(ROBOTS);
            }
            probes
        });
        self.send_robots(slot, Box::new(RobotsWork { of: key, url, hops: 0, probe }), admitted, now);
    }

    /// Nothing was sent after all.
    fn give_back(&mut self, admitted: Admitted) {
        self.limits.unsent(admitted.permit);
        if let (Some(purse), Some(grant)) = (&mut self.purse, admitted.grant) {
            purse.ended(grant, End::Unsent);
        }
    }

    fn send_robots(&mut self, slot: Slot, robots: Box<RobotsWork>, admitted: Option<Admitted>, now: Moment) {
        let named = self.hosts.get(&slot).is_some_and(|h| h.named);
        let request = self.builder.robots(robots.url.clone(), named);
        let url = robots.url.clone();
        let flight = self.fly(Item::Robots(robots), slot, admitted, (url, request.stage.clone()), now);
        self.tasks.spawn(self.shop.clone().robots(flight, request));
    }

    fn fly(&mut self, item: Item, slot: Slot, admitted: Option<Admitted>, (url, stage): (url::Url, Stage), now: Moment) -> u64 {
        let (permit, grant, claims, token) = match admitted {
            #[cfg(debug_assertions)]
            Some(mut a) if self.counts_at_send => {
                self.limits.arrived(&mut a.permit, now);
                (Some(a.permit), a.grant, a.claims, a.token)
            }
            Some(a) => (Some(a.permit), a.grant, a.claims, a.token),
            None => (None, None, Arc::from([]), None),
        };
        let id = self.next_flight;
        self.next_flight += 1;
        self.in_flight += 1;
        self.flights.insert(
            id,
            Flight { item, slot, claims, token, permit, grant, started: now, started_wall: self.clock.wall(), url, stage, landed: false },
        );
        id
    }

    /// The gate would never send it: robots.txt forbids it, or its host is given up.
    fn dropped(&mut self, slot: Slot, item: Item, now: Moment) {
        let Item::Entry(work) = item else { return };
        let Some(host) = self.hosts.get(&slot) else { return };
        let robots = match &host.robots {
            Robots::GivenUp(why) => Some(why.clone()),
            _ => None,
        };
        if robots.is_some() || matches!(host.breaker.state(now), State::GivenUp) {
            // An entry never loses its own last reason.
            let own = work.tries.records.iter().rev().find(|r| r.charged).map(|r| (Reason::from_code(&r.outcome), r.status));
            let (reason, status) = own.unwrap_or((Reason::HostUnreachable, None));
            // Of the job's own words only that of `then = "retry"` leaves an entry with a charged try.
            let class = if matches!(reason, Reason::Rule(_)) { Class::Transient } else { reason.class() };
            let host = self.schedule.key(slot).map_or("the host", HostKey::authority);
            let long = crate::model::show_duration(self.plan.retry.host_give_up);
            let message = match robots {
                Some(why) => format!("{host} gave no robots.txt for {long} ({why}), and robots.txt is obeyed"),
                None => format!("{host} gave no answer for {long}"),
            };
            self.skip(&work, (reason, class), status, &message, None);
        } else {
            self.tell_of_robots();
            let message = format!("robots.txt of {} forbids it", self.schedule.key(slot).map_or("the host", HostKey::authority));
            self.skip(&work, Reason::RobotsDisallowed, None, &message, None);
        }
    }

    fn tell_of_robots(&mut self) {
        if self.drops == 0 {
            let key = if self.plan.crawl.is_some() { "[crawl] robots = \"ignore\"" } else { "[request] robots = \"ignore\"" };
            self.events.notice(format!(
                "a robots.txt forbids addresses of this job; they are skipped `robots-disallowed` ({key} asks for them all the same)"
            ));
        }
        self.drops += 1;
    }
}

/// What robots, breaker and budget say of a host's first item.
fn wanted(plan: &Plan, host: &mut HostState, item: &Item, alone: bool, now: Moment) -> Gate {
    let Item::Entry(work) = item else { return Gate::Go };
    match host.breaker.state(now) {
        State::Closed | State::Probe => {}
        State::Open { until } => return Gate::At(until),
        State::GivenUp => return Gate::Drop,
    }
    host.expire_robots(now);
    match &host.robots {
        Robots::Open => {}
        Robots::Asking => return Gate::Blocked,
        Robots::Parked { until, .. } if *until > now => return Gate::At(*until),
        Robots::Unknown | Robots::Parked { .. } => return Gate::Instead,
        Robots::GivenUp(_) => return Gate::Drop,
        Robots::Rules(rules) => {
            if !rules.allows(work.at()) {
                return Gate::Drop;
            }
        }
    }
    if work.is_retry() && !host.budget.admits(plan.retry.budget, alone && !host.more_ready) {
        return Gate::Back;
    }
    Gate::Go
}

/// What the proxies on an item's way say.
enum Way {
    Open,
    /// All of them rest, this one the shortest.
    At(ProxyRest),
    /// None of them will be usable within `max_wait`.
    Never(String),
}

fn proxies(fetcher: &Fetcher, way: WayOut, item: &Item, max_wait: Duration) -> Way {
    let url = match item {
        Item::Entry(work) => work.at(),
        Item::Robots(robots) => &robots.url,
    };
    match fetcher.rest_until(way, url) {
        None => Way::Open,
        Some(rest) if rest.until == Moment::FAR || rest.until.since(rest.since) > max_wait => {
            let whose = if way == 0 { "[request] proxy or the http_proxy variables" } else { "the proxy of its [[host]]" };
            Way::Never(format!("no proxy is left that works ({}): mend {whose}", rest.why))
        }
        Some(rest) => Way::At(rest),
    }
}

/// A wait for a rate is told when it begins, not whenever a host asks again meanwhile. `what` names the rate and its key.
fn tell_of_wait(events: &Events, told: &mut HashMap<Arc<str>, Moment>, claims: &[Claim], verdict: Verdict, what: &str, now: Moment) {
    if matches!(verdict.why, Why::Free | Why::Hold | Why::Probe | Why::Save | Why::Concurrency(_)) {
        return;
    }
    let key = claims.get(verdict.claim).map_or("", |c| &*c.key);
    let wait = verdict.at.since(now);
    if !events.detail() || wait < TOLD_FROM || verdict.at == Moment::FAR || told.get(key).is_some_and(|until| *until > now) {
        return;
    }
    if told.len() >= WAITS_TOLD {
        told.retain(|_, until| *until > now);
    }
    if told.len() >= WAITS_TOLD {
        return;
    }
    told.insert(key.into(), verdict.at.max(now + TOLD_EVERY));
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    events.emit(&Event::Waiting { key: key.to_owned(), why: what.to_owned(), wait_ms });
}
