//! What a request counts in: limits, tokens, and resources that servers name.

use crate::budget::{End, Grant};
use crate::clock::Moment;
use crate::engine::dispatcher::Dispatcher;
use crate::engine::hosts::HostState;
use crate::engine::purse::Purse;
use crate::engine::request::Builder;
use crate::engine::work::{Flight, Item};
use crate::limit::{About, Claim, Limits, Permit, Told, Verdict, Why};
use crate::model::HostKey;
use crate::model::plan::{AuthKind, AuthPlan};
use crate::retry::{Quota, QuotaUnit};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Entries that wait, from which on an input that is not read to its end counts as endless.
const MANY: u64 = 4096;
/// Places whose resource is remembered; past that all are forgotten and learned again.
const PLACES: usize = 4096;

/// The tokens of `[auth]`.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Whether it still works, and how often it was used.
    all: Vec<(bool, u64)>,
}

impl Tokens {
    pub(crate) fn new(auth: Option<&AuthPlan>) -> Self {
        let n = match auth.map(|a| &a.kind) {
            Some(AuthKind::Tokens(list)) => list.len(),
            Some(_) => 1,
            None => 0,
        };
        Self { all: vec![(true, 0); n] }
    }

    /// The server refused it with 401. True where another one still works.
    pub(crate) fn drop_one(&mut self, token: usize) -> bool {
        let others = self.all.iter().enumerate().any(|(i, (works, _))| i != token && *works);
        if others && let Some(t) = self.all.get_mut(token) {
            t.0 = false;
        }
        others
    }
}

/// Which resource a server named for which part of it: `api.example.com /search` is `search`.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    by_place: HashMap<(Arc<str>, Box<str>), Arc<str>>,
}

impl Resources {
    fn learn(&mut self, key: &Arc<str>, path: &str, resource: &str) {
        if self.by_place.len() >= PLACES {
            self.by_place.clear();
        }
        self.by_place.insert((Arc::clone(key), place(path).into()), resource.into());
    }

    fn of(&self, key: &Arc<str>, path: &str) -> Option<&str> {
        if self.by_place.is_empty() {
            return None;
        }
        self.by_place.get(&(Arc::clone(key), place(path).into())).map(|r| &**r)
    }
}

/// The first segment of a path.
fn place(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// What a request was let go by.
pub(super) struct Admitted {
    pub(super) permit: Permit,
    pub(super) grant: Option<Grant>,
    pub(super) claims: Arc<[Claim]>,
    pub(super) token: Option<usize>,
}

/// Asks the limits for a host's next request: `Err` says what it waits for, and under which claim.
pub(super) struct Counter<'a> {
    pub(super) limits: &'a mut Limits,
    pub(super) builder: &'a Builder,
    pub(super) tokens: &'a mut Tokens,
    pub(super) resources: &'a Resources,
    pub(super) purse: Option<&'a mut Purse>,
    /// How many more could be sent at once.
    pub(super) room: usize,
}

impl Counter<'_> {
    /// `robots`: the host's robots.txt goes in the item's place.
    pub(super) fn admit(
        &mut self,
        host: &HostState,
        key: &HostKey,
        item: &Item,
        robots: bool,
        now: Moment,
    ) -> Result<Admitted, (Verdict, Arc<[Claim]>)> {
        let (work, url) = match item {
            Item::Entry(work) if !robots => (Some(work), work.at()),
            Item::Robots(r) => (None, &r.url),
            Item::Entry(_) => return self.take(Arc::clone(&host.claims), None, now),
        };
        let signed = work.is_some_and(|w| self.builder.signs(w, w.named.unwrap_or(host.named)));
        if self.limits.depend_on_host_alone() && self.resources.by_place.is_empty() && (!signed || self.tokens.all.len() < 2) {
            return self.take(Arc::clone(&host.claims), signed.then_some(0), now);
        }
        let method = work.map_or("GET", |w| w.hop.as_ref().map_or(self.builder.method(), |h| &h.method).as_str());
        let mut best: Option<(f64, u64, Arc<[Claim]>, usize)> = None;
        let mut first: Option<(Verdict, Arc<[Claim]>)> = None;
        let mut far: Option<(Verdict, Arc<[Claim]>)> = None;
        let choices: Vec<Option<usize>> = if signed {
            self.tokens.all.iter().enumerate().filter(|(_, (works, _))| *works).map(|(i, _)| Some(i)).collect()
        } else {
            vec![None]
        };
        for token in choices {
            let claims = self.claims(&About { host: key, method, path: url.path(), token });
            let Some(token) = token else { return self.take(claims, None, now) };
            let verdict = self.limits.next_at(&claims, now);
            if verdict.at == Moment::FAR {
                far = Some((verdict, claims));
                continue;
            }
            if verdict.at > now {
                if first.as_ref().is_none_or(|(v, _)| verdict.at < v.at) {
                    first = Some((verdict, claims));
                }
                continue;
            }
            let (left, used) = (self.limits.left(&claims, now), self.tokens.all[token].1);
            if best.as_ref().is_none_or(|(l, u, ..)| left > *l || (left >= *l && used < *u)) {
                best = Some((left, used, claims, token));
            }
        }
        match (best, first) {
            (Some((_, _, claims, token)), _) => {
                let admitted = self.take(claims, Some(token), now)?;
                self.tokens.all[token].1 += 1;
                Ok(admitted)
            }
            // One token waits for something to come back, another for a time: soon enough for both.
            (None, first) if let Some((verdict, claims)) = far => {
                let at = first.map_or(Moment::FAR, |(v, _)| v.at.min(now + Duration::from_millis(250)));
                Err((Verdict { at, ..verdict }, claims))
            }
            (None, Some(waits)) => Err(waits),
            (None, None) => self.take(Arc::clone(&host.claims), None, now),
        }
    }

    fn claims(&self, about: &About<'_>) -> Arc<[Claim]> {
        let claims = self.limits.claims(about);
        let Some(base) = claims.first() else { return claims };
        match self.resources.of(&base.key, about.path) {
            None => claims,
            // A resource that is one of the job's own limits is there already.
            Some(resource) => match self.limits.about(&claims, Some(resource)) {
                Some(more) if !claims.contains(&more) => claims.iter().cloned().chain([more]).collect(),
                _ => claims,
            },
        }
    }

    fn take(&mut self, claims: Arc<[Claim]>, token: Option<usize>, now: Moment) -> Result<Admitted, (Verdict, Arc<[Claim]>)> {
        // What is spent of a budget is [limits] rate.
        let mut purse = self.purse.as_deref_mut().zip(claims.first().filter(|c| c.limit == 0));
        if let Some((purse, base)) = &mut purse {
            let verdict = self.limits.next_at(&claims, now);
            if verdict.at > now {
                return Err((verdict, claims));
            }
            if let Err(empty) = purse.has(&base.key, self.room, now) {
                let why = if empty.held { Why::Hold } else { Why::Budget };
                return Err((Verdict { at: empty.at, why, claim: 0 }, claims));
            }
        }
        let Some(permit) = self.limits.take(&claims, now) else { return Err((self.limits.next_at(&claims, now), claims)) };
        let grant = purse.and_then(|(purse, base)| purse.take(&base.key));
        Ok(Admitted { permit, grant, claims, token })
    }
}

impl Dispatcher {
    /// The budget hears what became of a request, as soon as it is known.
    pub(super) fn spent(&mut self, flight: &mut Flight, end: End) {
        if let (Some(purse), Some(grant)) = (&mut self.purse, flight.grant.take()) {
            purse.ended(grant, end);
        }
    }

    /// An answer told what is left of quotas.
    pub(super) fn told_quotas(&mut self, flight: &Flight, quotas: &[Quota], now: Moment) {
        let path = flight.url.path();
        let Some(base) = flight.claims.first().map(|c| Arc::clone(&c.key)) else { return };
        // Where the feeder is far ahead nobody knows how much more there is; where it is not, what it gave is all that there is for now.
        let many = !self.input_done && self.pending >= MANY;
        let backlog = if many { u64::MAX } else { self.pending.saturating_sub(self.in_flight as u64) };
        for quota in quotas {
            if let Some(resource) = &quota.resource {
                self.resources.learn(&base, path, resource);
            }
            // A bucket that leaks has neither reset nor window: its refusals alone tell.
            let Some(reset) = quota.reset.or(quota.window).filter(|_| quota.unit == QuotaUnit::Requests) else { continue };
            let Some(claim) = self.limits.about(&flight.claims, quota.resource.as_deref()) else { continue };
            let told = Told { remaining: quota.remaining, reset, limit: quota.limit, window: quota.window };
            self.limits.told(&claim, told, backlog, now);
        }
    }

    /// The claim of a flight that a refusal holds, and what is measured of its rate.
    pub(super) fn refused_claim(&mut self, flight_claims: &[Claim], path: &str, resource: Option<&str>) -> Option<Claim> {
        let base = flight_claims.first()?;
        if let Some(resource) = resource {
            self.resources.learn(&base.key, path, resource);
        }
        // As long as nobody knew that the request was of this resource, others on their way may be too: the whole key is held.
        self.limits.about(flight_claims, resource).filter(|c| flight_claims.contains(c)).or_else(|| Some(base.clone()))
    }
}

/// What a wait is called, for people.
pub(super) fn words(limits: &Limits, verdict: Verdict, claims: &[Claim]) -> String {
    let claim = claims.get(verdict.claim);
    let key = claim.map_or("", |c| &*c.key);
    let named = claim.and_then(|c| limits.name(c.limit)).map(|n| format!("{n} ")).unwrap_or_default();
    match verdict.why {
        Why::Free => format!("turn at {key}"),
        Why::Hold => format!("{named}hold at {key}"),
        Why::Window(rate) | Why::Pace(rate) => format!("{named}{rate} at {key}"),
        Why::Probe => format!("first answer after the hold at {key}"),
        Why::Save => "the state on disk".into(),
        Why::Concurrency(most) => format!("{named}one of {most} at once at {key}"),
        Why::Quota => format!("{named}quota that {key} says is left"),
        Why::Adapted => format!("{named}rate learned from refusals at {key}"),
        Why::Budget => format!("the budget of {key}, which other runs spend too"),
    }
}
