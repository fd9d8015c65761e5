//! What the run knows of one host while it has work in memory.

use crate::clock::Moment;
use crate::limit::Claim;
use crate::model::Special;
use crate::retry::{Breaker, Budget};
use crate::robots::Rules;
use crate::store::HostId;
use std::sync::Arc;
use std::time::Duration;

/// A host's robots.txt, as far as it is known.
pub(crate) enum Robots {
    /// Not asked yet.
    Unknown,
    /// On its way; the host's entries wait and hold no worker.
    Asking,
    /// There are none, or they are not obeyed.
    Open,
    /// These.
    Rules(Box<Rules>),
    /// The server failed to say: ask again then.
    Parked {
        /// Not before this.
        until: Moment,
        /// Times it was asked in vain.
        times: u32,
        /// When the first of them was.
        since: Moment,
    },
    /// Given up; what it last gave, like `the server answered 503`.
    GivenUp(String),
}

/// One host.
pub(crate) struct HostState {
    /// Its number in the store, where an entry of it came from there.
    pub id: Option<HostId>,
    /// The operator named it.
    pub named: bool,
    /// How it is treated.
    pub special: Arc<Special>,
    pub robots: Robots,
    /// Good until then; [`Moment::FAR`] where none is asked for.
    pub robots_until: Moment,
    /// What its requests count in, where that depends on the host alone; its robots.txt always.
    pub claims: Arc<[Claim]>,
    /// How fast it is asked.
    pub pace: Pace,
    pub breaker: Breaker,
    pub budget: Budget,
    /// Entries wait on disk for their first try.
    pub more_ready: bool,
    /// Times its robots.txt was asked in vain, kept while it is asked anew.
    pub robots_tries: (u32, Option<Moment>),
}

/// How fast a host is asked: a count over the last seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    since: Moment,
    sent: u32,
    /// A second, in the span before.
    before: Option<f64>,
}

impl Pace {
    const SPAN: Duration = Duration::from_secs(5);

    pub(crate) fn new(now: Moment) -> Self {
        Self { since: now, sent: 0, before: None }
    }

    /// A request goes.
    pub(crate) fn sent(&mut self, now: Moment) {
        if now - self.since > Self::SPAN {
            // A long silence says nothing of how fast the host was asked.
            let before = (now - self.since <= 2 * Self::SPAN).then(|| self.rate(now));
            *self = Self { since: now, sent: 0, before };
        }
        self.sent = self.sent.saturating_add(1);
    }

    /// Nothing goes until then: what comes after is a rate of its own.
    pub(crate) fn pauses(&mut self, until: Moment) {
        *self = Self::new(until);
    }

    /// Requests a second; `None` where nothing was sent.
    pub(crate) fn measured(&self, now: Moment) -> Option<f64> {
        let young = now - self.since < Duration::from_secs(1);
        let current = (self.sent > 0).then(|| self.rate(now));
        match self.before.filter(|_| young) {
            Some(before) => Some(current.map_or(before, |c| c.max(before))),
            None => current,
        }
    }

    fn rate(&self, now: Moment) -> f64 {
        f64::from(self.sent) / (now - self.since).as_secs_f64().max(0.02)
    }
}

impl HostState {
    /// Whether its retries wait for the budget while first tries are left.
    pub(crate) fn holds_retries(&self, share: Option<f64>) -> bool {
        self.more_ready && !self.budget.admits(share, false)
    }

    /// Forgets a robots.txt whose time is over, so that it is asked for anew (RFC 9309 2.4).
    pub(crate) fn expire_robots(&mut self, now: Moment) {
        if now >= self.robots_until && matches!(self.robots, Robots::Open | Robots::Rules(_)) {
            self.robots = Robots::Unknown;
        }
    }
}
