//! A run in virtual time: the real limits and the real schedule, every answer after the same time, nothing refused.

use super::load::Load;
use super::outlook::{By, CENTURY, Cause, Causes, Ended, Scenario};
use crate::clock::Moment;
use crate::limit::{Claim, Limits, Permit};
use crate::model::HostKey;
use crate::schedule::{Gate, Schedule, Slot, Turn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Times that a limit is asked at most: very many hosts under one limit are asked for nothing again and again.
const ASKS: u64 = 1_500_000;
/// Not zero, which is no instant to some.
const START: Moment = Moment(1_000_000);

pub(super) struct VirtualRun<'a> {
    load: &'a Load,
    scenario: &'a Scenario<'a>,
    limits: Limits,
    schedule: Schedule<usize>,
    live: Vec<Live>,
    landings: VecDeque<Landing>,
    now: Moment,
    last: Moment,
    asks: u64,
    total: u64,
    /// Uses of each token.
    used: Vec<u64>,
    robots: u64,
    entries: u64,
    minute: u64,
    hour: u64,
    causes: Causes,
    /// What the one key of a job waits for, until then.
    job: Option<Wait>,
    hours_opened: Option<Moment>,
    open_until: Moment,
    full: bool,
    /// When a worker was free again after all were busy.
    freed: Option<Moment>,
    /// When a permit came back last.
    woken: Moment,
    blocked: bool,
}

/// Not before then, and why.
type Wait = (Moment, Cause);

/// A server under way.
struct Live {
    slot: Slot,
    robots_left: u64,
    robots_out: u64,
    /// Left of each class.
    left: Vec<u64>,
    in_flight: usize,
    started: Option<Moment>,
    full: bool,
    /// When there was room again after `per_host` were under way.
    room: Option<Moment>,
    /// What it was told to wait for, until then.
    refused: Option<Wait>,
}

struct Landing {
    at: Moment,
    sent: Moment,
    server: usize,
    robots: bool,
    permit: Permit,
    claims: Arc<[Claim]>,
}

/// What the gate let go.
struct Admitted {
    server: usize,
    /// `None`: its robots.txt.
    class: Option<usize>,
    permit: Permit,
    claims: Arc<[Claim]>,
}

impl<'a> VirtualRun<'a> {
    pub(super) fn new(load: &'a Load, scenario: &'a Scenario<'a>) -> Self {
        let limits = scenario.limits_at(START);
        let mut schedule = Schedule::new(1, Duration::ZERO);
        let mut live = Vec::with_capacity(load.servers.len());
        for (i, server) in load.servers.iter().enumerate() {
            let slot = schedule.slot(&HostKey::from_stored(&server.name));
            schedule.tune(slot, server.most, server.delay, Duration::ZERO);
            let left: Vec<u64> = server.classes.iter().map(|c| c.requests).collect();
            if left.iter().any(|n| *n > 0) {
                schedule.push(slot, i);
            }
            live.push(Live {
                slot,
                robots_left: server.robots,
                robots_out: 0,
                left,
                in_flight: 0,
                started: None,
                full: false,
                room: None,
                refused: None,
            });
        }
        let tokens = load.servers.iter().flat_map(|s| &s.classes).map(|c| c.claims.len()).max().unwrap_or(0);
        Self {
            load,
            scenario,
            limits,
            schedule,
            live,
            landings: VecDeque::new(),
            now: START,
            last: START,
            asks: 0,
            total: load.entries() + load.robots(),
            used: vec![0; tokens],
            robots: 0,
            entries: 0,
            minute: 0,
            hour: 0,
            causes: Causes::default(),
            job: None,
            hours_opened: None,
            open_until: Moment::ZERO,
            full: false,
            freed: None,
            woken: START,
            blocked: false,
        }
    }

    /// Runs until all is sent, a cap is reached, or enough was seen.
    pub(super) fn go(&mut self) {
        loop {
            self.land();
            if self.left() == 0 || self.ended().is_some() || self.sent() >= self.scenario.simulate || self.asks >= ASKS {
                return;
            }
            let wake = self.send();
            let next = self.landings.front().map_or(wake, |l| l.at.min(wake));
            if next == Moment::FAR || next.since(START) > CENTURY || self.left() == 0 {
                return;
            }
            self.now = next.max(Moment(self.now.0 + 1));
        }
    }

    /// Sends what may be sent now; gives when more may be.
    fn send(&mut self) -> Moment {
        while self.left() > 0 && self.ended().is_none() && self.sent() < self.scenario.simulate && self.asks < ASKS {
            if self.landings.len() >= self.scenario.workers {
                self.full = true;
                return Moment::FAR;
            }
            if let Some(at) = self.shut_until() {
                self.hours_opened = Some(at);
                return at;
            }
            if self.limits.is_one() {
                let job = [Claim { limit: 0, key: "job".into(), weight: 1 }];
                let verdict = self.limits.next_at(&job, self.now);
                if verdict.at > self.now {
                    self.job = Some((verdict.at, Cause::told(verdict, 0, &job[0].key)));
                    return verdict.at;
                }
            }
            let now = self.now;
            let mut admitted = None;
            let Self { load, schedule, limits, live, asks, used, blocked, .. } = self;
            let turn = schedule.turn(now, |_, _, server, _| {
                *asks += 1;
                let (live, of) = (&mut live[*server], &load.servers[*server]);
                let class = if live.robots_left > 0 { None } else { live.next(of) };
                if live.robots_left == 0 && (live.robots_out > 0 || class.is_none()) {
                    return Gate::Blocked;
                }
                let choices = match class {
                    None => std::slice::from_ref(&of.robots_claims),
                    Some(class) => &of.classes[class].claims[..],
                };
                match admit(limits, used, choices, now) {
                    Ok((permit, claims)) => {
                        admitted = Some(Admitted { server: *server, class, permit, claims });
                        if class.is_some() { Gate::Go } else { Gate::Instead }
                    }
                    Err((at, cause)) => {
                        *blocked |= at == Moment::FAR;
                        live.refused = Some((at, cause));
                        Gate::At(at)
                    }
                }
            });
            match (turn, admitted) {
                (Turn::Send(..) | Turn::Instead(_), Some(admitted)) => self.went(admitted),
                (Turn::Wait(at), _) => return at,
                _ => return Moment::FAR,
            }
        }
        Moment::FAR
    }

    fn went(&mut self, admitted: Admitted) {
        let Admitted { server, class, permit, claims } = admitted;
        let (now, after) = (self.now, self.now.since(START));
        let cause = self.cause(server, &claims);
        self.causes.add(cause, 1.0, after, after);
        self.last = now;
        self.minute += u64::from(after < Duration::from_mins(1));
        self.hour += u64::from(after < Duration::from_hours(1));
        let (live, of) = (&mut self.live[server], &self.load.servers[server]);
        live.started = Some(now);
        live.in_flight += 1;
        live.full = live.in_flight >= of.most;
        match class {
            None => {
                self.robots += 1;
                live.robots_left -= 1;
                live.robots_out += 1;
            }
            Some(class) => {
                self.entries += 1;
                live.left[class] -= 1;
                if live.left.iter().any(|n| *n > 0) {
                    self.schedule.push(live.slot, server);
                }
            }
        }
        self.landings.push_back(Landing { at: now + self.scenario.answer, sent: now, server, robots: class.is_none(), permit, claims });
    }

    /// What the request waited for last, and goes by these claims.
    fn cause(&self, server: usize, claims: &[Claim]) -> Option<Cause> {
        let (now, of) = (self.now, &self.load.servers[server]);
        let live = &self.live[server];
        let since = live.started.unwrap_or(START);
        let waited = |at: Moment| at <= now && (at == now || at > since);
        let told = |told: &Option<Wait>| {
            told.clone().map(|(at, cause)| (if at == Moment::FAR { self.woken } else { at }, cause)).filter(|(at, _)| waited(*at))
        };
        let mut best = told(&live.refused);
        let mut later = |at: Moment, cause: Cause| {
            if waited(at) && best.as_ref().is_none_or(|(b, _)| at > *b) {
                best = Some((at, cause));
            }
        };
        if let Some((at, cause)) = told(&self.job).filter(|(at, _)| *at == now) {
            later(at, cause);
        }
        if let Some(at) = self.hours_opened {
            later(at, Cause::all(By::Hours));
        }
        if let Some(at) = live.started.filter(|_| !of.delay.is_zero()) {
            later(at + of.delay, Cause::of(By::Delay(of.delay), &of.name));
        }
        if let Some(at) = live.room {
            later(at, Cause::of(By::PerHost(of.most), &of.name));
        }
        if let Some(at) = self.freed {
            later(at, Cause::all(By::Workers(self.scenario.workers)));
        }
        let mut cause = best?.1;
        // Of several tokens the one that went is not the first that was asked.
        if let By::Rate(limit, _) | By::Concurrency(limit, _) = cause.by
            && let Some(claim) = claims.iter().find(|c| c.limit == limit)
        {
            cause.key = Some(Arc::clone(&claim.key));
        }
        Some(cause)
    }

    /// Answers that are in by now.
    fn land(&mut self) {
        let mut any = false;
        while self.landings.front().is_some_and(|l| l.at <= self.now) {
            let Some(mut l) = self.landings.pop_front() else { break };
            any = true;
            self.limits.arrived(&mut l.permit, l.at);
            self.limits.done(l.permit);
            self.limits.succeeded(&l.claims, l.sent);
            if std::mem::take(&mut self.full) {
                self.freed = Some(l.at);
            }
            let live = &mut self.live[l.server];
            live.in_flight -= 1;
            if std::mem::take(&mut live.full) {
                live.room = Some(l.at);
            }
            self.schedule.landed(live.slot);
            if l.robots {
                live.robots_out -= 1;
                if live.robots_out == 0 {
                    live.refused = Some((l.at, Cause::all(By::Robots)));
                    self.schedule.wake(live.slot);
                }
            }
            self.woken = l.at;
        }
        if any && std::mem::take(&mut self.blocked) {
            self.schedule.wake_blocked();
        }
    }

    /// When the hours open, where they are not open.
    fn shut_until(&mut self) -> Option<Moment> {
        let hours = self.scenario.hours.as_ref()?;
        if self.now < self.open_until {
            return None;
        }
        let wall = self.scenario.start.plus(self.now.since(START));
        if let Some(wait) = hours.opens_in(wall) {
            return Some(self.now + wait);
        }
        self.open_until = hours.closes_in(wall).map_or(Moment::FAR, |open| self.now + open);
        None
    }

    pub(super) fn sent(&self) -> u64 {
        self.robots + self.entries
    }

    pub(super) fn entries_sent(&self) -> u64 {
        self.entries
    }

    /// Requests that are not sent.
    pub(super) fn left(&self) -> u64 {
        self.total - self.sent()
    }

    /// Requests that went within so many seconds.
    pub(super) fn within(&self, seconds: u64) -> u64 {
        if seconds <= 60 { self.minute } else { self.hour }
    }

    /// Which cap is reached.
    pub(super) fn ended(&self) -> Option<Ended> {
        let caps = self.scenario.caps;
        if caps.entries.is_some_and(|most| self.entries >= most) {
            Some(Ended::Entries)
        } else if caps.requests.is_some_and(|most| self.sent() >= most) {
            Some(Ended::Requests)
        } else if caps.time.is_some_and(|most| self.now.since(START) >= most) {
            Some(Ended::Time)
        } else {
            None
        }
    }

    /// Until the answer of the last request so far.
    pub(super) fn lasts(&self) -> Duration {
        if self.sent() == 0 { Duration::ZERO } else { self.last.since(START) + self.scenario.answer }
    }

    /// Virtual time so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    pub(super) fn take_causes(&mut self) -> Causes {
        std::mem::take(&mut self.causes)
    }

    /// What is not sent.
    pub(super) fn rest(&self) -> Load {
        let mut rest = self.load.clone();
        for (server, live) in rest.servers.iter_mut().zip(&self.live) {
            server.robots = live.robots_left;
            server.classes.iter_mut().zip(&live.left).for_each(|(class, left)| class.requests = *left);
        }
        rest
    }
}

impl Live {
    /// The class of its next address: the one that is behind most, so that they come as mixed as they can be.
    fn next(&self, of: &super::load::Server) -> Option<usize> {
        let (mut best, mut found) = (None, (0u128, 1u128));
        for (i, (class, left)) in of.classes.iter().zip(&self.left).enumerate().filter(|(_, (_, left))| **left > 0) {
            let (sent, all) = (u128::from(class.requests - left), u128::from(class.requests));
            if best.is_none() || (sent + 1) * found.1 < found.0 * all {
                (best, found) = (Some(i), (sent + 1, all));
            }
        }
        best
    }
}

/// Takes a permit of the token with most quota left, as a run does, or says what to wait for.
fn admit(limits: &mut Limits, used: &mut [u64], choices: &[Arc<[Claim]>], now: Moment) -> Result<(Permit, Arc<[Claim]>), Wait> {
    let mut best: Option<(f64, usize)> = None;
    let mut first: Option<Wait> = None;
    for (token, claims) in choices.iter().enumerate() {
        let verdict = limits.next_at(claims, now);
        if verdict.at > now {
            if first.as_ref().is_none_or(|(at, _)| verdict.at < *at)
                && let Some(claim) = claims.get(verdict.claim)
            {
                first = Some((verdict.at, Cause::told(verdict, claim.limit, &claim.key)));
            }
            continue;
        }
        let left = if choices.len() > 1 { limits.left(claims, now) } else { 1.0 };
        if best.is_none_or(|(l, t)| left > l || (left >= l && used[token] < used[t])) {
            best = Some((left, token));
        }
    }
    let wait = (Moment::FAR, Cause::all(By::Hold));
    let Some((_, token)) = best else { return Err(first.unwrap_or(wait)) };
    let permit = limits.take(&choices[token], now).ok_or(wait)?;
    if let Some(n) = used.get_mut(token) {
        *n += 1;
    }
    Ok((permit, Arc::clone(&choices[token])))
}
