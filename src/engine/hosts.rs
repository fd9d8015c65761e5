//! What the run knows of one host while it has work in memory.

use crate::clock::Moment;
use crate::retry::{Breaker, Budget};
use crate::robots::Rules;
use crate::store::HostId;
use std::sync::Arc;

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
    pub robots: Robots,
    /// Host name or `job`.
    pub limit_key: Arc<str>,
    pub breaker: Breaker,
    pub budget: Budget,
    /// Times its robots.txt was asked in vain, kept while it is asked anew.
    pub robots_tries: (u32, Option<Moment>),
}
