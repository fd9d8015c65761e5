//! How many of a host's requests may be retries, so that a host in trouble is not asked twice as much.

/// Requests to a host before its budget binds.
pub const FREE: u64 = 100;

/// One host key's requests of this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A request went out; `retry`: it was a charged try of an entry after its first.
    pub fn sent(&mut self, retry: bool) {
        self.requests += 1;
        self.retries += u64::from(retry);
    }

    /// Whether one more retry stays within `share` (0 to 1) of the host's requests; else it waits, uncharged. `None` is no budget.
    /// `only_retries_left`: nothing of the host waits for its first try, so that waiting would be for ever.
    #[must_use]
    pub fn admits(&self, share: Option<f64>, only_retries_left: bool) -> bool {
        let Some(share) = share else { return true };
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let (retries, requests) = ((self.retries + 1) as f64, (self.requests + 1) as f64);
        only_retries_left || self.requests < FREE || retries <= share * requests
    }

    /// Requests that are written to the wire, and how many of them were retries.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.requests, self.retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_after_a_hundred_requests_and_then_by_share() {
        let mut b = Budget::default();
        for _ in 0..FREE {
            assert!(b.admits(Some(0.2), false));
            b.sent(true);
        }
        assert!(!b.admits(Some(0.2), false), "all of the first hundred were retries");
        assert!(b.admits(Some(0.2), true), "only retries are left");
        assert!(b.admits(None, false), "no budget is set");
        let mut first = 0;
        while !b.admits(Some(0.2), false) {
            b.sent(false);
            first += 1;
        }
        assert_eq!(first, 404);
        assert_eq!(b.counts(), (504, 100));
    }

    #[test]
    fn a_host_that_always_fails_is_asked_a_quarter_more_at_most() {
        let mut b = Budget::default();
        for _ in 0..1000 {
            b.sent(false);
            while b.admits(Some(0.2), false) && b.counts().1 < b.counts().0 / 2 {
                b.sent(true);
            }
        }
        let (all, retries) = b.counts();
        assert!(retries * 5 <= all, "{retries} of {all}");
    }
}
