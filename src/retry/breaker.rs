//! The circuit breaker of one host key: a host out of reach is asked by one probe at a time, and given up at last.

use crate::clock::Moment;
use std::time::Duration;

/// Different entries in a row that open it.
pub const OPENS_AFTER: usize = 8;
/// Before the first probe; doubles up to [`LAST_WAIT`].
pub const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest wait between probes.
pub const LAST_WAIT: Duration = Duration::from_mins(5);

/// What the host's entries may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Go.
    Closed,
    /// Wait. [`Moment::FAR`] while a probe is out.
    Open {
        /// When to ask again.
        until: Moment,
    },
    /// One of them may go; tell by [`Breaker::probe`].
    Probe,
    /// The rest of the host is `host-unreachable`.
    GivenUp,
}

/// What a failure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It opened, or stayed open after a failed probe.
    Opened {
        /// The next probe.
        until: Moment,
    },
    /// It was given up.
    GaveUp,
}

/// State of one host key. In memory only: a new run asks anew.
#[derive(Clone, Debug)]
pub struct Breaker {
    give_up: Duration,
    /// Different entries that failed since the last success.
    failed: Vec<i64>,
    /// First failure since the last success.
    since: Option<Moment>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    at: Moment,
    until: Moment,
    wait: Duration,
    probe: Option<i64>,
    probes_failed: u32,
}

impl Breaker {
    /// `host_give_up` of the plan.
    #[must_use]
    pub fn new(host_give_up: Duration) -> Self {
        Self { give_up: host_give_up, failed: Vec::new(), since: None, open: None }
    }

    /// An entry failed to connect, to resolve or to be answered in time ([`super::Reach::No`]).
    pub fn failed(&mut self, entry: i64, now: Moment) -> Change {
        let since = *self.since.get_or_insert(now);
        if let Some(open) = &mut self.open {
            if open.probe != Some(entry) {
                // It was in flight when the breaker opened: old news.
                return Change::None;
            }
            open.probe = None;
            open.probes_failed += 1;
            open.wait = (open.wait * 2).min(LAST_WAIT);
            open.until = now + open.wait;
            let until = open.until;
            return if now.since(since) >= self.give_up { Change::GaveUp } else { Change::Opened { until } };
        }
        if !self.failed.contains(&entry) {
            self.failed.push(entry);
        }
        if self.failed.len() < OPENS_AFTER {
            return Change::None;
        }
        let until = now + FIRST_WAIT;
        self.open = Some(Open { at: now, until, wait: FIRST_WAIT, probe: None, probes_failed: 0 });
        Change::Opened { until }
    }

    /// The host answered an entry, with whatever status ([`super::Reach::Yes`]). True where this closed it.
    pub fn succeeded(&mut self) -> bool {
        self.failed.clear();
        self.since = None;
        self.open.take().is_some()
    }

    /// The entry goes out as the probe.
    pub fn probe(&mut self, entry: i64) {
        if let Some(open) = &mut self.open {
            open.probe = Some(entry);
        }
    }

    /// The probe ended without saying anything about the host ([`super::Reach::Neither`], or it was never sent): another may go.
    pub fn probe_lost(&mut self, entry: i64) {
        if let Some(open) = &mut self.open
            && open.probe == Some(entry)
        {
            open.probe = None;
        }
    }

    /// What may be done at `now`. It is given up after `host_give_up` without a success and one failed probe at least, so that a
    /// host that was left in peace meanwhile is not judged by old failures.
    #[must_use]
    pub fn state(&self, now: Moment) -> State {
        let Some(open) = &self.open else { return State::Closed };
        let ends = self.since.map_or(Moment::FAR, |s| s + self.give_up);
        if open.probe.is_some() {
            return State::Open { until: Moment::FAR };
        }
        if open.probes_failed > 0 && now >= ends {
            return State::GivenUp;
        }
        if now >= open.until {
            return State::Probe;
        }
        State::Open { until: if open.probes_failed > 0 { open.until.min(ends) } else { open.until } }
    }

    /// An outage that began at `began` is over: what it opened closes, what was open before goes on without its time.
    pub fn outage_over(&mut self, began: Moment, now: Moment) {
        let lasted = now.since(began);
        match &mut self.open {
            Some(open) if open.at < began => {
                open.until = open.until + lasted;
                self.since = self.since.map(|s| s + lasted);
            }
            _ => {
                self.succeeded();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment(s * 1_000_000_000)
    }

    fn opened(give_up: u64) -> Breaker {
        let mut b = Breaker::new(Duration::from_secs(give_up));
        for e in 1..8 {
            assert_eq!(b.failed(e, at(0)), Change::None);
        }
        assert_eq!(b.failed(8, at(0)), Change::Opened { until: at(5) });
        b
    }

    #[test]
    fn opens_after_eight_different_entries_in_a_row() {
        let mut b = Breaker::new(Duration::from_mins(5));
        for _ in 0..100 {
            b.failed(1, at(0));
        }
        assert_eq!(b.state(at(0)), State::Closed);
        for e in 2..8 {
            b.failed(e, at(0));
        }
        b.succeeded();
        for e in 1..8 {
            assert_eq!(b.failed(e, at(1)), Change::None);
        }
        assert_eq!(b.state(at(1)), State::Closed);
    }

    #[test]
    fn one_probe_at_a_time_after_5_10_20_up_to_300_seconds() {
        let mut b = opened(100_000);
        let mut now = 0;
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(b.state(at(now + wait - 1)), State::Open { until: at(now + wait) });
            now += wait;
            assert_eq!(b.state(at(now)), State::Probe);
            b.probe(9);
            assert_eq!(b.state(at(now)), State::Open { until: Moment::FAR });
            assert_eq!(b.failed(4, at(now)), Change::None, "one that was in flight");
            assert!(matches!(b.failed(9, at(now)), Change::Opened { .. }));
        }
        b.probe(10);
        b.probe_lost(10);
        assert_eq!(b.state(at(now + 300)), State::Probe);
        assert!(b.succeeded());
        assert_eq!(b.state(at(now)), State::Closed);
    }

    #[test]
    fn given_up_after_host_give_up_without_a_success() {
        let mut b = opened(30);
        b.probe(9);
        b.failed(9, at(5));
        b.probe(9);
        assert_eq!(b.failed(9, at(15)), Change::Opened { until: at(35) });
        assert_eq!(b.state(at(16)), State::Open { until: at(30) });
        assert_eq!(b.state(at(30)), State::GivenUp);
    }

    #[test]
    fn old_failures_alone_do_not_give_a_host_up() {
        let mut b = Breaker::new(Duration::from_secs(30));
        b.failed(1, at(0));
        for e in 2..9 {
            b.failed(e, at(1000));
        }
        assert_eq!(b.state(at(1005)), State::Probe);
        b.probe(9);
        assert_eq!(b.failed(9, at(1010)), Change::GaveUp);
    }

    #[test]
    fn an_outage_closes_what_it_opened_and_counts_for_nothing() {
        let mut b = opened(60);
        b.outage_over(at(0), at(500));
        assert_eq!(b.state(at(500)), State::Closed);
        let mut b = opened(60);
        b.probe(9);
        b.failed(9, at(5));
        b.outage_over(at(10), at(510));
        assert_eq!(b.state(at(511)), State::Open { until: at(515) });
        assert_eq!(b.state(at(559)), State::Probe);
        assert_eq!(b.state(at(560)), State::GivenUp);
    }
}
