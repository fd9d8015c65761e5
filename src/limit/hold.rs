//! A key's hold: what a refusal (429 and its kin) does to everything that goes by one key (promise P3; contract, *Holds*).
//!
//! ```text
//! refused -> held until T -> one probe -> its answer is no refusal -> slow start: each success lets one more at once
//!    ^                          |                                       |
//!    +--------------------------+--- refused: a new event, backoff doubles or starts anew
//! ```
//!
//! An *event* is one refusal by the server however many requests hear of it: those that were sent before the hold's probe
//! belong to it. They may move the hold later, never back, and do not grow the backoff; nor do successes among them clear
//! anything (Crawlee `throttling_request_manager.ts` has the same two rules).

use crate::clock::Moment;
use std::time::Duration;

/// Own backoff of a first refusal without a header, before jitter.
const BACKOFF: Duration = Duration::from_secs(2);
/// Own backoff never grows past this.
const BACKOFF_TOP: Duration = Duration::from_mins(5);
/// Shortest wait where the server asks for none (`Retry-After: 0`).
const LEAST: Duration = Duration::from_millis(250);
/// Most that is added to an asked wait, besides a tenth of it.
const EXTRA_TOP: Duration = Duration::from_secs(5);
/// How long after a probe's headers its verdict is awaited before another probe may go.
const VERDICT: Duration = Duration::from_secs(1);
/// A hold that nobody asked about for this long after its end is forgotten.
const STALE: Duration = Duration::from_mins(30);

/// One refusal (429 and its kin).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal {
    /// Its arrival.
    pub now: Moment,
    /// When its request's permit was taken.
    pub sent_at: Moment,
    /// The server's wait, never undercut; zero and `None` give our own backoff, 2 s doubling to 5 min with equal jitter.
    pub asked: Option<Duration>,
    /// `asked` is a floor of the server's rules (GitHub's secondary limit): our own backoff where that is longer.
    pub grows: bool,
    /// Uniform in 0.0..1.0.
    pub jitter: f64,
    /// The rate at which the key was asked, a second, where it is known.
    pub measured: Option<f64>,
    /// It tells of this entry alone: the key is held, but learns nothing.
    pub own: bool,
}

/// What a refusal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldChange {
    /// Nothing of the key is sent before.
    pub until: Moment,
    /// Whether this refusal began an event; else it belongs to the one that holds already.
    pub new_event: bool,
    /// From now to `until`.
    pub wait: Duration,
}

/// What a success did to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleared {
    /// It was sent before the hold's probe: nothing.
    Nothing,
    /// Refusals are forgotten, the ramp goes on.
    Ramping,
    /// The ramp is at its end: the hold may go.
    Whole,
}

/// When the next may go, as far as the hold is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Now.
    Open,
    /// Held by the server.
    Held(Moment),
    /// Only so many at once after a hold; [`Moment::FAR`] until one of them is answered.
    Probing(Moment),
}

/// One key's hold and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    until: Moment,
    /// Events since the last success, at least 1.
    events: u32,
    /// First refusal since the last success; unknown after a restart.
    since: Option<Moment>,
    /// When this event's probe was taken: what was sent before belongs to the event.
    resumed: Option<Moment>,
    /// Tells this event's permits from older ones.
    epoch: u32,
    /// Of this epoch.
    in_flight: u32,
    /// At once: 1 for the probe, one more for each success.
    allowed: u32,
    /// No second probe before, unless the first one's verdict comes.
    verdict_by: Moment,
}

impl Hold {
    /// A hold without a refusal of this run: from the state, at the start.
    pub(super) fn restored(until: Moment, epoch: u32) -> Self {
        Self { until, events: 1, since: None, resumed: None, epoch, in_flight: 0, allowed: 1, verdict_by: Moment::ZERO }
    }

    /// The first refusal of a key; `epoch` is unlike that of every earlier event.
    pub(super) fn begin(refusal: Refusal, epoch: u32) -> (Self, HoldChange) {
        let mut hold = Self::restored(Moment::ZERO, epoch);
        hold.since = Some(refusal.now);
        let change = hold.extend(refusal, true);
        (hold, change)
    }

    /// A further refusal; `epoch` is unlike that of every earlier event.
    pub(super) fn refused(&mut self, refusal: Refusal, epoch: u32) -> HoldChange {
        self.since.get_or_insert(refusal.now);
        let new_event = self.sent_after(refusal.sent_at);
        if new_event {
            self.events = self.events.saturating_add(1);
            self.epoch = epoch;
            self.in_flight = 0;
        }
        // A straggler of the event may come after its probe went: the hold stands again, and the next is a probe again.
        self.events = self.events.max(1);
        self.resumed = None;
        self.allowed = 1;
        self.verdict_by = Moment::ZERO;
        self.extend(refusal, new_event)
    }

    fn extend(&mut self, refusal: Refusal, new_event: bool) -> HoldChange {
        let own = if refusal.grows { wait(None, self.events, refusal.jitter) } else { Duration::ZERO };
        self.until = self.until.max(refusal.now + wait(refusal.asked, self.events, refusal.jitter).max(own));
        HoldChange { until: self.until, new_event, wait: self.until - refusal.now }
    }

    /// A success of a request that was sent at `sent_at`; `full` is how many at once end the ramp.
    pub(super) fn succeeded(&mut self, sent_at: Moment, full: u32) -> Cleared {
        if !self.sent_after(sent_at) {
            return Cleared::Nothing;
        }
        self.events = 0;
        self.since = None;
        self.verdict_by = Moment::ZERO;
        self.allowed = self.allowed.saturating_add(1);
        if self.allowed > full { Cleared::Whole } else { Cleared::Ramping }
    }

    fn sent_after(&self, sent_at: Moment) -> bool {
        self.resumed.is_some_and(|r| sent_at >= r)
    }

    /// Whether one may go at `now`.
    pub(super) fn gate(&self, now: Moment) -> Gate {
        if now < self.until {
            Gate::Held(self.until)
        } else if self.in_flight >= self.allowed {
            Gate::Probing(Moment::FAR)
        } else if now < self.verdict_by {
            Gate::Probing(self.verdict_by)
        } else {
            Gate::Open
        }
    }

    /// One goes: the first after a hold is its probe. Gives the epoch that its permit carries.
    pub(super) fn take(&mut self, now: Moment) -> u32 {
        self.resumed.get_or_insert(now);
        self.in_flight = self.in_flight.saturating_add(1);
        self.epoch
    }

    /// A permit's request came to its end; `answered_at` where it was answered.
    pub(super) fn ended(&mut self, epoch: u32, answered_at: Option<Moment>) {
        if epoch != self.epoch {
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(at) = answered_at
            && self.allowed == 1
        {
            self.verdict_by = at + VERDICT;
        }
    }

    /// The hold's end, past or not.
    pub(super) fn until(&self) -> Moment {
        self.until
    }

    /// No later hold than what stands is shortened by this.
    pub(super) fn lengthen(&mut self, until: Moment) {
        self.until = self.until.max(until);
    }

    /// First refusal since the last success.
    pub(super) fn refused_since(&self) -> Option<Moment> {
        self.since
    }

    /// Whether it may be forgotten.
    pub(super) fn is_stale(&self, now: Moment) -> bool {
        self.in_flight == 0 && now >= self.until + STALE
    }
}

/// The wait of an event's refusal: an asked one plus up to min(10 %, 5 s), else equal jitter over 2 s doubling to 5 min
/// (AWS "Exponential Backoff And Jitter").
fn wait(asked: Option<Duration>, events: u32, jitter: f64) -> Duration {
    let unit = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    match asked {
        Some(d) if !d.is_zero() => d.saturating_add((d / 10).min(EXTRA_TOP).mul_f64(unit)),
        none_or_zero => {
            let doublings = events.saturating_sub(1).min(8);
            let x = BACKOFF.saturating_mul(1 << doublings).min(BACKOFF_TOP);
            let own = x / 2 + (x / 2).mul_f64(unit);
            if none_or_zero.is_some() { own.max(LEAST) } else { own }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Moment {
        Moment(n * 1_000_000)
    }
    const fn d(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn begin(now: Moment, asked: Option<Duration>, jitter: f64) -> (Hold, HoldChange) {
        Hold::begin(Refusal { now, asked, jitter, ..Refusal::default() }, 1)
    }
    fn refused(hold: &mut Hold, now: Moment, sent_at: Moment, asked: Option<Duration>, jitter: f64) -> HoldChange {
        let epoch = hold.epoch + 1;
        hold.refused(Refusal { now, sent_at, asked, jitter, ..Refusal::default() }, epoch)
    }

    #[test]
    fn asked_wait_is_never_undercut_and_gets_a_tenth_or_5_s_at_most_on_top() {
        for (asked, unit, least) in [(10_000, 0.0, 10_000), (10_000, 1.0, 11_000), (3_600_000, 1.0, 3_605_000), (100, 0.5, 105)] {
            assert_eq!(wait(Some(d(asked)), 1, unit), d(least));
        }
        assert_eq!(wait(Some(Duration::MAX), 1, 1.0), Duration::MAX);
    }

    #[test]
    fn own_backoff_is_2_s_doubling_to_5_min_with_equal_jitter() {
        for (events, low, high) in [(1, 1000, 2000), (2, 2000, 4000), (8, 128_000, 256_000), (9, 150_000, 300_000), (99, 150_000, 300_000)]
        {
            assert_eq!(wait(None, events, 0.0), d(low));
            assert_eq!(wait(None, events, 1.0), d(high));
            assert_eq!(wait(None, events, f64::NAN), d(low));
        }
    }

    #[test]
    fn retry_after_zero_waits_own_backoff() {
        assert_eq!(wait(Some(Duration::ZERO), 1, 0.0), d(1000));
        assert!(wait(Some(Duration::ZERO), 0, 0.0) >= LEAST);
    }

    #[test]
    fn later_429_of_the_same_event_moves_the_hold_on_but_grows_no_backoff() {
        let (mut hold, first) = begin(ms(1000), Some(d(3000)), 0.0);
        assert_eq!((first.until, first.new_event, first.wait), (ms(4000), true, d(3000)));
        let second = refused(&mut hold, ms(1500), ms(900), Some(d(3000)), 0.0);
        assert_eq!((second.until, second.new_event), (ms(4500), false));
        let shorter = refused(&mut hold, ms(1600), ms(900), Some(d(1000)), 0.0);
        assert_eq!(shorter.until, ms(4500));
        let bare = refused(&mut hold, ms(4400), ms(900), None, 0.0);
        assert_eq!(bare.until, ms(5400), "the first backoff, not the second");
    }

    #[test]
    fn refused_probe_is_a_new_event_and_doubles_the_backoff() {
        let (mut hold, _) = begin(ms(0), None, 1.0);
        assert_eq!(hold.gate(ms(1999)), Gate::Held(ms(2000)));
        assert_eq!(hold.gate(ms(2000)), Gate::Open);
        let epoch = hold.take(ms(2000));
        assert_eq!(hold.gate(ms(2000)), Gate::Probing(Moment::FAR));
        hold.ended(epoch, Some(ms(2050)));
        let change = refused(&mut hold, ms(2060), ms(2000), None, 1.0);
        assert_eq!((change.new_event, change.wait), (true, d(4000)));
    }

    #[test]
    fn success_sent_before_hold_does_not_clear_it() {
        let (mut hold, _) = begin(ms(1000), None, 1.0);
        assert_eq!(hold.succeeded(ms(999), 8), Cleared::Nothing);
        assert_eq!(hold.gate(ms(1001)), Gate::Held(ms(3000)));
        assert_eq!(hold.refused_since(), Some(ms(1000)));
        hold.take(ms(3000));
        assert_eq!(hold.succeeded(ms(999), 8), Cleared::Nothing, "nor after the probe went");
        assert_eq!(hold.refused_since(), Some(ms(1000)));
    }

    #[test]
    fn after_a_hold_one_probe_then_twice_as_many_each_round() {
        let (mut hold, _) = begin(ms(0), Some(d(1000)), 0.0);
        let mut now = 1000;
        for round in [1u32, 2, 4, 8] {
            let mut sent = 0;
            while hold.gate(ms(now)) == Gate::Open {
                hold.take(ms(now));
                sent += 1;
            }
            assert_eq!(sent, round);
            for _ in 0..sent {
                hold.ended(1, Some(ms(now + 10)));
            }
            for _ in 0..sent {
                hold.succeeded(ms(now), 1000);
            }
            now += 20;
        }
        assert_eq!(hold.refused_since(), None);
    }

    #[test]
    fn success_after_the_hold_starts_the_backoff_anew() {
        let (mut hold, _) = begin(ms(0), None, 1.0);
        for (at, wait) in [(2000, 4000), (6000, 8000)] {
            hold.take(ms(at));
            assert_eq!(refused(&mut hold, ms(at), ms(at), None, 1.0).wait, d(wait));
        }
        hold.take(ms(14_000));
        assert_eq!(hold.succeeded(ms(14_000), 8), Cleared::Ramping);
        assert_eq!(refused(&mut hold, ms(14_010), ms(14_005), None, 1.0).wait, d(2000));
    }

    #[test]
    fn probe_without_a_verdict_lets_another_go_soon() {
        let (mut hold, _) = begin(ms(0), Some(d(1000)), 0.0);
        let epoch = hold.take(ms(1000));
        hold.ended(epoch, Some(ms(1100)));
        assert_eq!(hold.gate(ms(1100)), Gate::Probing(ms(2100)));
        assert_eq!(hold.gate(ms(2100)), Gate::Open);
        let epoch = hold.take(ms(2100));
        hold.ended(epoch, None);
        assert_eq!(hold.gate(ms(2100)), Gate::Open, "one that was never answered tells nothing");
    }

    #[test]
    fn permits_of_an_older_event_do_not_free_the_probe() {
        let (mut hold, _) = begin(ms(0), Some(d(1000)), 0.0);
        let old = hold.take(ms(1000));
        refused(&mut hold, ms(1100), ms(1000), Some(d(1000)), 0.0);
        hold.take(ms(2100));
        hold.ended(old, Some(ms(2150)));
        assert_eq!(hold.gate(ms(2200)), Gate::Probing(Moment::FAR));
    }
}
