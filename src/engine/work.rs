//! What is queued and what is in flight.

use crate::budget::Grant;
use crate::clock::{Moment, Wall};
use crate::engine::request::Hop;
use crate::extract::PageState;
use crate::fetch::Stage;
use crate::limit::{Claim, Permit};
use crate::model::HostKey;
use crate::retry::Tries;
use crate::schedule::Slot;
use crate::store::Lease;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

/// One unit of a host's queue.
pub(crate) enum Item {
    /// An entry of the frontier.
    Entry(Box<Work>),
    /// A robots.txt, asked for on behalf of a host (a redirect may have led it elsewhere).
    Robots(Box<RobotsWork>),
}

/// An entry in memory.
pub(crate) struct Work {
    pub lease: Arc<Lease>,
    /// The address first sent: canonical credentials' origin, and where each try begins.
    pub target: Url,
    pub tries: Tries,
    /// Where a paged entry stands.
    pub page: Option<PageState>,
    /// Inside a chain of redirects.
    pub hop: Option<Hop>,
    /// Ask for no content coding: the last answer's was broken.
    pub identity: bool,
    /// Ask on a new connection.
    pub fresh: bool,
    /// The policy refused the address for want of a name, and the store was asked whether the operator named it.
    pub named: Option<bool>,
    /// When the try under way began, its redirect hops included.
    pub began: Option<(Moment, Wall)>,
    /// Where the next request goes, as far as it is known.
    pub next: Url,
    /// When the last attempt ended.
    pub ended: Option<Moment>,
    /// The key under which it was refused last.
    pub refused_at: Option<Arc<str>>,
    /// Result rows of earlier pages of this entry in this run.
    pub rows: u64,
}

impl Work {
    /// Where the next request goes: the hop of a redirect, else the page, else the listed address.
    pub(crate) fn at(&self) -> &Url {
        self.hop.as_ref().map_or(&self.next, |h| &h.url)
    }

    /// Whether the next request is a charged try after the first: what the retry budget counts.
    pub(crate) fn is_retry(&self) -> bool {
        self.tries.charged > 0 && self.hop.is_none()
    }

    /// The durable part, as the store keeps it.
    pub(crate) fn state(&self) -> String {
        serde_json::to_string(&StateRef { tries: &self.tries, page: self.page.as_ref() }).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct StateRef<'a> {
    tries: &'a Tries,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a PageState>,
}

/// What the store kept of an entry.
#[derive(Deserialize, Default)]
pub(crate) struct SavedState {
    #[serde(default)]
    pub tries: Tries,
    #[serde(default)]
    pub page: Option<PageState>,
}

/// A robots.txt on its way.
pub(crate) struct RobotsWork {
    /// Whose rules they will be.
    pub of: HostKey,
    pub url: Url,
    pub hops: u32,
    /// It is the probe of the host's breaker.
    pub probe: bool,
}

/// An attempt in flight.
pub(crate) struct Flight {
    pub item: Item,
    pub slot: Slot,
    /// What it counts in; never empty.
    pub claims: Arc<[Claim]>,
    /// The token of `[auth]` that signs it.
    pub token: Option<usize>,
    pub permit: Option<Permit>,
    /// Of a budget that is shared with other runs.
    pub grant: Option<Grant>,
    pub started: Moment,
    pub started_wall: Wall,
    pub url: Url,
    /// How far it came.
    pub stage: Stage,
    /// Off the wire; its answer is in extraction.
    pub landed: bool,
}
