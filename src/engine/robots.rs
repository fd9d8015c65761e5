//! A robots.txt came, or did not: what that means for its host.

use crate::clock::{Clock, Moment, unit};
use crate::engine::dispatcher::Dispatcher;
use crate::engine::frontier::Reply;
use crate::engine::hosts::Robots;
use crate::engine::turns::ROBOTS;
use crate::engine::work::{Flight, Item, RobotsWork};
use crate::engine::worker::Facts;
use crate::events::Event;
use crate::limit::Refusal;
use crate::model::{HostKey, Outcome, show_duration};
use crate::retry::{self, Judgement, WaitFrom};
use crate::robots::{self, RobotsVerdict};
use crate::schedule::Slot;
use crate::store::StoredRobots;
use std::time::Duration;

/// How long a robots.txt is good for (RFC 9309 2.4).
const ROBOTS_FOR: Duration = Duration::from_hours(24);

impl Dispatcher {
    #[allow(clippy::needless_pass_by_value, reason = "the flight ends here")]
    pub(super) fn robots_came(&mut self, flight: Flight, outcome: &Outcome, facts: Facts, now: Moment) {
        let Item::Robots(robots_work) = &flight.item else { return };
        let slot = self.host(&robots_work.of);
        let wall = self.clock.wall();
        let method = http::Method::GET;
        let judgement = retry::classify(outcome, &self.shop.ctx(wall, &robots_work.url, &method));
        if let Judgement::Refused { asked, from, .. } = &judgement {
            if let Some(claim) = self.refused_claim(&flight.claims, flight.url.path(), facts.resource.as_deref()) {
                let (measured, jitter) = (self.measured(&flight.url, now), unit(self.seed, 0, robots_work.hops));
                let refusal = Refusal {
                    now,
                    sent_at: flight.started,
                    asked: *asked,
                    grows: *from == WaitFrom::Backoff,
                    jitter,
                    measured,
                    own: false,
                };
                let change = self.limits.refused(&claim, refusal);
                self.pauses(&flight.url, change.until);
                self.held(&claim, &change, facts.status.unwrap_or(0), from.as_str());
            }
        } else if facts.status.is_some() {
            self.limits.succeeded(&flight.claims, flight.started);
            self.unblock();
        }
        if robots_work.probe {
            self.reached(slot, ROBOTS, facts.reach, now);
        }
        let verdict = robots::decide(outcome, robots_work.hops, self.plan.crawl.is_some());
        if !matches!(verdict, RobotsVerdict::EntryFailure) {
            let said = match outcome {
                Outcome::Answer(_) => "ok".into(),
                Outcome::Failure(f) => f.reason.code(),
            };
            self.tell(&flight, &said, &facts);
        }
        match verdict {
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
                let next = RobotsWork { of: robots_work.of.clone(), url: to, hops: robots_work.hops + 1, probe: false };
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
                    if !robots_work.probe {
                        self.reached(slot, work.lease.entry.0, facts.reach, now);
                    }
                    let own = Flight {
                        item: Item::Entry(work),
                        slot,
                        url: flight.url.clone(),
                        permit: None,
                        claims: flight.claims.clone(),
                        ..flight
                    };
                    if self.asks_whether_named(&own, &judgement) {
                        self.ask_whether_named(own, judgement, facts);
                    } else {
                        self.judged(own, judgement, &facts, now);
                    }
                }
            }
        }
    }

    fn robots_known(&mut self, slot: Slot, robots: Robots, verdict: &str, body: Vec<u8>) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.robots = robots;
            h.robots_until = self.clock.now() + ROBOTS_FOR;
            h.robots_tries = (0, None);
            if let Some(id) = h.id {
                let stored = StoredRobots { verdict: verdict.to_owned(), body, until: self.calendar().plus(ROBOTS_FOR) };
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
            let why = why.strip_prefix("robots.txt: ").unwrap_or(why);
            h.robots = Robots::GivenUp(why.to_owned());
            let host = self.schedule.key(slot).map(ToString::to_string).unwrap_or_default();
            self.events.notice(format!(
                "{host} gave no robots.txt for {} ({why}): its entries are skipped `host-unreachable`",
                show_duration(self.plan.retry.host_give_up)
            ));
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
