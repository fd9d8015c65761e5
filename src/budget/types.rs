//! What is asked of a ledger, and what it answers.

use crate::clock::Moment;
use crate::model::Rate;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Which budget, and how this process spends from it.
#[derive(Clone, Copy, Debug)]
pub struct BudgetConfig<'a> {
    /// Where budgets are: [`super::folder()`].
    pub folder: &'a Path,
    /// See [`super::check_name`].
    pub name: &'a str,
    /// All hold at once, in units of weight; without any only holds are shared.
    pub rates: &'a [Rate],
    /// Units at once, for all rates; default a hundredth of each, 1 to 20.
    pub burst: Option<u32>,
    /// Part of each rate that may be used, 0.0 to 1.0: `1 - reserve`. At least one unit is.
    pub share: f64,
}

/// The right to send one request. It counts as in flight until it is told of by [`super::Ledger::sync`]; one that is dropped does so until
/// the ledger is closed.
#[derive(Debug)]
#[must_use = "a grant that is not told of counts as in flight"]
pub struct Grant {
    pub(super) key: Arc<str>,
    pub(super) weight: u32,
    /// When it was given.
    pub(super) at: Moment,
}

impl Grant {
    /// What it is of.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Units.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }
}

/// What became of a granted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its final response headers were in so long before the call; never more than is true.
    Arrived {
        /// Measured by any clock of the process.
        ago: Duration,
    },
    /// It never reached a server (resolve, connect or handshake failed), or was not sent at all.
    Unsent,
    /// It ended without response headers, at the latest now: it may arrive until 5 s from now.
    Lost,
}

/// Grants that are needed now: the requests go out at once, so that a killed process wastes few.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// The limit key: a host, a domain, a token's label, `job`.
    pub key: &'a str,
    /// Units of each request, at least 1.
    pub weight: u32,
    /// Requests.
    pub count: u32,
}

/// The answer to one [`Want`].
#[derive(Debug)]
pub struct Answer {
    /// As many as there may be now.
    pub granted: Vec<Grant>,
    /// When to ask again, where they are fewer than were wanted; `None` then: never, the weight is above a limit. Where only
    /// requests in flight stand in the way it is a guess, 20 ms to 1 s.
    pub next: Option<Duration>,
    /// For how long the key is held, by whichever process.
    pub held: Option<Duration>,
}
