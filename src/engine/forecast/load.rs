//! What is to be sent, as counts: the one thing that the forecast knows of a job's input.

use crate::limit::Claim;
use std::sync::Arc;
use std::time::Duration;

/// Requests that count alike.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// What one of them counts in: one set for each token of `[auth]` that may sign it, else one set.
    pub(super) claims: Arc<[Arc<[Claim]>]>,
    pub(super) requests: u64,
}

/// What one server is asked.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Its host key, or the `[[host]] group` that it is of.
    pub(super) name: Arc<str>,
    /// `per_host`.
    pub(super) most: usize,
    pub(super) delay: Duration,
    /// Files of robots.txt to be asked for first, and what such a request counts in.
    pub(super) robots: u64,
    pub(super) robots_claims: Arc<[Claim]>,
    /// Addresses; mixed evenly.
    pub(super) classes: Vec<Class>,
}

impl Server {
    pub(super) fn entries(&self) -> u64 {
        self.classes.iter().map(|c| c.requests).sum()
    }
}

/// What a job has to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    pub(super) servers: Vec<Server>,
}

impl Load {
    pub(super) fn entries(&self) -> u64 {
        self.servers.iter().map(Server::entries).sum()
    }

    pub(super) fn robots(&self) -> u64 {
        self.servers.iter().map(|s| s.robots).sum()
    }

    /// The same with `entries` in all, shared out as they are now; pages of one entry come one after the other.
    pub(super) fn grown(&self, entries: u64, in_turn: bool) -> Self {
        let have = u128::from(self.entries().max(1));
        let mut grown = self.clone();
        let (mut before, mut given) = (0u128, 0u128);
        for server in &mut grown.servers {
            if in_turn {
                server.most = server.most.min(usize::try_from(server.entries()).unwrap_or(usize::MAX)).max(1);
            }
            for class in &mut server.classes {
                before += u128::from(class.requests);
                let upto = before * u128::from(entries) / have;
                class.requests = u64::try_from(upto - given).unwrap_or(u64::MAX);
                given = upto;
            }
        }
        grown
    }
}
