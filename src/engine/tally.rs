//! The run's own figures: what was on the wire, by host and reason, how fast, and when it will end.

use crate::clock::Moment;
use crate::events::{HostStats, Snapshot};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use url::Url;

/// Hosts kept apart while a run lasts; past that the smallest are folded into `other`, so that memory stays flat.
const HOSTS: usize = 4096;
/// Hosts named in `--stats`.
const HOSTS_SHOWN: usize = 1000;
/// The live rate looks back this far.
const LOOK_BACK: Duration = Duration::from_secs(10);

/// Ends of waits are known to this many nanoseconds.
const WAIT_STEP: u64 = 100_000_000;

/// Counters of one run.
#[derive(Default)]
pub(crate) struct Tally {
    pub requests: u64,
    pub retries: u64,
    pub bytes: u64,
    pub ended: u64,
    waited: BTreeMap<&'static str, Duration>,
    /// Time of workers, by what it went to.
    workers: BTreeMap<&'static str, Duration>,
    /// Ends of waits that may still run, by cause and 100 ms: how many.
    waits: BTreeMap<(&'static str, u64), u32>,
    pub out_of_scope: BTreeMap<String, u64>,
    hosts: HashMap<Box<str>, HostStats>,
    other: HostStats,
    marks: VecDeque<(Moment, u64)>,
    /// Ends of the last 200 entries, true for a skip.
    last: VecDeque<bool>,
}

impl Tally {
    /// A request was written to a connection, or may have been.
    pub(crate) fn sent(&mut self, url: &Url) {
        self.requests += 1;
        self.host(url.host_str().unwrap_or_default(), |h| h.requests += 1);
    }

    pub(crate) fn host(&mut self, name: &str, change: impl FnOnce(&mut HostStats)) {
        if let Some(h) = self.hosts.get_mut(name) {
            change(h);
            return;
        }
        if self.hosts.len() >= HOSTS {
            self.fold();
        }
        change(self.hosts.entry(name.into()).or_default());
    }

    /// Keeps the larger half.
    fn fold(&mut self) {
        let mut sizes: Vec<u64> = self.hosts.values().map(|h| h.requests).collect();
        let middle = sizes.len() / 2;
        let (_, limit, _) = sizes.select_nth_unstable(middle);
        let limit = *limit;
        let other = &mut self.other;
        let mut kept = 0;
        self.hosts.retain(|_, h| {
            let keep = h.requests > limit || (h.requests == limit && kept < middle / 2);
            if keep {
                kept += 1;
            } else {
                add(other, *h);
            }
            keep
        });
    }

    /// So much time of workers went to this.
    pub(crate) fn idle(&mut self, cause: &'static str, time: Duration) {
        let sum = self.workers.entry(cause).or_default();
        *sum = sum.saturating_add(time);
    }

    /// Seconds of workers by what they went to, of `workers` in `elapsed`.
    pub(crate) fn workers_s(&self, workers: usize, elapsed: Duration) -> BTreeMap<String, f64> {
        let all = elapsed.saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX));
        let idle: Duration = self.workers.values().sum();
        let busy = [("busy", all.saturating_sub(idle))];
        let seconds = |(k, d): (&str, Duration)| (k.to_owned(), (d.as_secs_f64() * 1000.0).round() / 1000.0);
        self.workers.iter().map(|(k, d)| (*k, *d)).chain(busy).map(seconds).collect()
    }

    pub(crate) fn ended(&mut self, skipped: bool) {
        self.ended += 1;
        if self.last.len() == 200 {
            self.last.pop_front();
        }
        self.last.push_back(skipped);
    }

    /// Share of skips among the last 200 ends, once there are 200.
    pub(crate) fn error_share(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "at most 200")]
        (self.last.len() == 200).then(|| self.last.iter().filter(|s| **s).count() as f64 / 200.0)
    }

    /// A wait begins.
    pub(crate) fn waits(&mut self, cause: &'static str, now: Moment, d: Duration) {
        *self.waited.entry(cause).or_default() += d;
        // Those that are over need not be known any more.
        if self.waits.len() > 4096 {
            self.waits.retain(|(_, end), _| end * WAIT_STEP > now.0);
        }
        // Rounded up: of a wait that the run's end cuts short no more is told than the run lasted.
        *self.waits.entry((cause, (now + d).0.div_ceil(WAIT_STEP))).or_insert(0) += 1;
    }

    /// Seconds by cause that were waited for until now: of a wait that still runs only what has passed.
    pub(crate) fn waited_s(&self, now: Moment) -> BTreeMap<String, f64> {
        let mut sums = self.waited.clone();
        for ((cause, end), n) in &self.waits {
            let left = Moment(end * WAIT_STEP).since(now).saturating_mul(*n);
            if let Some(sum) = sums.get_mut(cause) {
                *sum = sum.saturating_sub(left);
            }
        }
        sums.into_iter().map(|(cause, sum)| (cause.to_owned(), sum.as_secs_f64())).collect()
    }

    /// Entries that ended a second over the last 10 s.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn rate(&mut self, now: Moment) -> f64 {
        self.marks.push_back((now, self.ended));
        while self.marks.len() > 2 && now.since(self.marks[0].0) > LOOK_BACK {
            self.marks.pop_front();
        }
        let (then, ended) = self.marks[0];
        let span = now.since(then).as_secs_f64();
        if span < 0.05 { 0.0 } else { (self.ended - ended) as f64 / span }
    }

    /// The largest hosts by requests, the rest as `other`.
    pub(crate) fn by_host(&self) -> BTreeMap<String, HostStats> {
        let mut all: Vec<(&str, HostStats)> = self.hosts.iter().map(|(k, v)| (&**k, *v)).collect();
        all.sort_by_key(|(k, h)| (std::cmp::Reverse(h.requests + h.skipped), k.to_owned()));
        let mut other = self.other;
        for (_, h) in all.iter().skip(HOSTS_SHOWN) {
            add(&mut other, *h);
        }
        let mut out: BTreeMap<String, HostStats> = all.into_iter().take(HOSTS_SHOWN).map(|(k, h)| (k.to_owned(), h)).collect();
        if other.requests + other.results + other.skipped + other.retries > 0 {
            out.insert("other".into(), other);
        }
        out
    }

    /// Fills in what the tally knows of a snapshot.
    #[allow(clippy::cast_precision_loss, reason = "an estimate for people")]
    pub(crate) fn fill(&mut self, snapshot: &mut Snapshot, now: Moment, crawl: bool) {
        snapshot.requests = self.requests;
        snapshot.retries = self.retries;
        snapshot.rate = self.rate(now);
        snapshot.elapsed_s = Duration::from_nanos(now.0).as_secs_f64();
        snapshot.eta_s = (snapshot.input_done && !crawl && snapshot.rate > 0.0).then(|| snapshot.account.pending as f64 / snapshot.rate);
    }
}

fn add(to: &mut HostStats, h: HostStats) {
    to.requests += h.requests;
    to.results += h.results;
    to.skipped += h.skipped;
    to.retries += h.retries;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hosts_fold_into_other_and_nothing_is_lost() {
        let mut t = Tally::default();
        for i in 0..20_000u64 {
            t.host(&format!("h{i}"), |h| h.requests += 1 + u64::from(i == 7) * 500);
        }
        assert!(t.hosts.len() <= HOSTS);
        let shown = t.by_host();
        assert_eq!(shown.len(), HOSTS_SHOWN + 1);
        assert_eq!(shown["h7"].requests, 501);
        assert_eq!(shown.values().map(|h| h.requests).sum::<u64>(), 20_500);
    }

    #[test]
    fn of_a_wait_that_still_runs_only_what_has_passed_counts() {
        let at = |s: u64| Moment(s * 1_000_000_000);
        let mut t = Tally::default();
        t.waits("hold", at(1), Duration::from_secs(200_000));
        t.waits("backoff", at(1), Duration::from_secs(2));
        t.waits("backoff", at(1), Duration::from_secs(2));
        let waited = t.waited_s(at(2));
        assert_eq!((waited["hold"], waited["backoff"]), (1.0, 2.0));
        let mut cut = Tally::default();
        cut.waits("hold", Moment(1_010_000_000), Duration::from_millis(30_070));
        assert!(cut.waited_s(Moment(1_050_000_000))["hold"] <= 0.04, "no longer than the run was there to wait");
        assert!((t.waited_s(at(300_000))["hold"] - 200_000.0).abs() < 1e-6);
        for i in 0..20_000 {
            t.waits("hold", at(i), Duration::from_secs(1));
        }
        assert!(t.waits.len() <= 4097);
    }

    #[test]
    fn the_error_share_speaks_only_of_two_hundred() {
        let mut t = Tally::default();
        for i in 0..199 {
            t.ended(i % 2 == 0);
        }
        assert_eq!(t.error_share(), None);
        t.ended(true);
        assert!(t.error_share().is_some_and(|s| (s - 0.505).abs() < 1e-9));
    }
}
