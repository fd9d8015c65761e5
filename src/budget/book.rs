//! What one key of a budget has spent, by every rule that any of its processes goes by: a decider, which is told the time.
//!
//! The guard is that of `limit::window` (a request counts from its grant to its arrival plus 1.001 W), here over the grants of
//! all processes and in units of weight; so is the rounding of large windows.

use crate::clock::Moment;
use crate::model::Rate;
use std::collections::VecDeque;
use std::time::Duration;

/// A window counts 1/DRIFT longer than it is: 1.001 W.
const DRIFT: u64 = 1000;
/// After this long beyond its end a request without an answer has arrived or never will (`stack.md` 5, G).
pub(super) const LOST: Duration = Duration::from_secs(5);
/// From this many on a window counts in sub-buckets; twice as many instants are kept exact at most.
const LARGE: u32 = 100;
/// Sub-buckets of a window.
const BUCKETS: u64 = 120;
/// Largest window, so that sums stay within SQLite's integers: 73 years.
const TOP: u64 = u64::MAX / 8;
/// How often one asks again where only requests in flight stand in the way: 1/50 W within these.
const POLL: (u64, u64) = (20_000_000, 1_000_000_000);

/// How a process spends: at most `count` in any `per`, `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Nanoseconds; first, so that rules sort by it.
    pub(super) per: u64,
    /// Units; 0 in [`Rule::KEEPER`] alone.
    pub(super) count: u32,
    pub(super) burst: u32,
}

impl Rule {
    /// Nobody's rule: remembers a day for windows that are set later.
    pub(super) const KEEPER: Self = Self { per: 86_400_000_000_000, count: 0, burst: 0 };

    /// `share` of `rate`, at least 1; `burst` defaults to a hundredth of that, 1 to 20.
    pub(super) fn new(rate: Rate, burst: Option<u32>, share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        // So that 0.7 of 10 is 7.
        let count = (f64::from(rate.count) * share + 1e-6).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a u32")]
        let count = (count as u32).max(1);
        let burst = burst.unwrap_or((count / 100).clamp(1, 20)).clamp(1, count);
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(TOP).clamp(1, TOP);
        Self { per, count, burst }
    }

    pub(super) fn rate(self) -> Rate {
        Rate { count: self.count, per: Duration::from_nanos(self.per) }
    }

    /// Nanoseconds that an arrived request counts on, without rounding.
    pub(super) fn hold(self) -> u64 {
        self.per + self.per.div_ceil(DRIFT)
    }

    fn grain(self) -> u64 {
        self.hold().div_ceil(BUCKETS)
    }

    /// Between two units when the burst is spent: `T >= W / (L + 1 - b)`, as in `limit::pace`.
    fn interval(self) -> u64 {
        self.per.div_ceil(u64::from(self.count - self.burst) + 1).max(1)
    }

    fn poll(self) -> u64 {
        (self.per / 50).clamp(POLL.0, POLL.1)
    }
}

/// One rule's account.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    rule: Rule,
    /// Theoretical arrival time of GCRA, in nanoseconds.
    tat: u64,
    /// When how many units leave the window, earliest first; instants distinct.
    leaves: VecDeque<(u64, u32)>,
    total: u64,
}

impl Record {
    fn new(rule: Rule) -> Self {
        Self { rule, tat: 0, leaves: VecDeque::new(), total: 0 }
    }

    fn spend(&mut self, u: u64, n: u32) {
        let exact = self.rule.count > 0 && self.rule.count < LARGE && self.leaves.len() < 2 * LARGE as usize;
        let grain = if exact { 1 } else { self.rule.grain() };
        self.spend_leaving(u.div_ceil(grain).saturating_mul(grain).saturating_add(self.rule.hold()), n);
    }

    fn spend_leaving(&mut self, leave: u64, n: u32) {
        self.total += u64::from(n);
        match self.leaves.iter().rposition(|(at, _)| *at <= leave) {
            Some(i) if self.leaves[i].0 == leave => self.leaves[i].1 = self.leaves[i].1.saturating_add(n),
            Some(i) => self.leaves.insert(i + 1, (leave, n)),
            None => self.leaves.push_front((leave, n)),
        }
    }

    /// The latest arrival among what left by `now`.
    fn forget(&mut self, now: Moment) -> Option<u64> {
        let mut last = None;
        while let Some(&(leave, n)) = self.leaves.front().filter(|(leave, _)| *leave <= now.0) {
            self.leaves.pop_front();
            self.total = self.total.saturating_sub(u64::from(n));
            last = Some(leave.saturating_sub(self.rule.hold()));
        }
        last
    }

    /// When `weight` more may go beside `in_flight`: `now` where at once.
    fn opens_at(&self, in_flight: u64, weight: u32, now: Moment) -> Moment {
        let (limit, weight) = (u64::from(self.rule.count), u64::from(weight));
        if weight > limit {
            return Moment::FAR;
        }
        let Some(room) = limit.checked_sub(in_flight + weight) else {
            return Moment(now.0.saturating_add(self.rule.poll()));
        };
        let (mut left, mut at) = (self.total, now);
        for (leave, n) in &self.leaves {
            if left <= room {
                break;
            }
            left = left.saturating_sub(u64::from(*n));
            at = Moment(*leave);
        }
        at
    }

    /// When pacing lets `weight` more go; more than the burst needs an idle bucket.
    fn paced_at(&self, weight: u32, now: Moment) -> Moment {
        let ahead = u64::from(self.rule.burst.saturating_sub(weight)).saturating_mul(self.rule.interval());
        Moment(self.tat.saturating_sub(ahead).max(now.0))
    }

    fn pace(&mut self, weight: u32, now: Moment) {
        let step = self.rule.interval().saturating_mul(u64::from(weight));
        // Another process's larger rate, or a burst near the limit, runs ahead of this one by a window at most: the guard is enough.
        self.tat = self.tat.max(now.0).saturating_add(step).min(now.0.saturating_add(self.rule.hold()));
    }
}

/// One key's account: a record for every rule that is in use or was within a day, and the keeper's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    /// In the order of their rules.
    records: Vec<Record>,
}

impl Book {
    /// Makes the records those of `rules`, which are sorted and contain the keeper. A new rule's takes over what the next longer
    /// window remembers, or the longest where there is none: what that one forgot is [`Self::forget`]'s answer. Before
    /// [`Self::forget`].
    pub(super) fn fit(&mut self, rules: &[Rule], now: Moment) {
        if self.records.iter().map(|r| r.rule).eq(rules.iter().copied()) {
            return;
        }
        let old = std::mem::take(&mut self.records);
        self.records =
            rules.iter().map(|&rule| old.iter().find(|r| r.rule == rule).cloned().unwrap_or_else(|| derived(rule, &old, now))).collect();
    }

    /// Forgets what has left its window by `now`; the latest arrival that no record remembers any more.
    pub(super) fn forget(&mut self, now: Moment) -> Option<Moment> {
        let mut last = None;
        for record in &mut self.records {
            last = record.forget(now);
        }
        last.map(Moment)
    }

    /// Counts `n` units that arrived at `u` or before.
    pub(super) fn spend(&mut self, u: Moment, n: u32) {
        for record in &mut self.records {
            record.spend(u.0, n);
        }
    }

    /// Grants `weight` units, or tells when to ask again: [`Moment::FAR`] where that is never.
    ///
    /// `own` are the asking process's rules; what arrived up to `forgot` may be missing here, and counts as the whole quota.
    /// [`Self::forget`] first.
    pub(super) fn take(&mut self, own: &[Rule], in_flight: u64, weight: u32, forgot: Option<Moment>, now: Moment) -> Result<(), Moment> {
        let mut at = now;
        for rule in own {
            let Some(record) = self.records.iter().find(|r| r.rule == *rule) else { return Err(Moment(now.0 + rule.poll())) };
            let unknown = forgot.map_or(Moment::ZERO, |f| Moment(f.0.saturating_add(record.rule.hold())));
            at = at.max(record.opens_at(in_flight, weight, now)).max(record.paced_at(weight, now)).max(unknown);
        }
        if at > now {
            return Err(at);
        }
        for record in self.records.iter_mut().filter(|r| r.rule != Rule::KEEPER) {
            record.pace(weight, now);
        }
        Ok(())
    }

    /// Units that have arrived and still count by `rule`. [`Self::forget`] first.
    pub(super) fn used(&self, rule: Rule) -> u64 {
        self.records.iter().find(|r| r.rule == rule).map_or(0, |r| r.total)
    }

    /// From when on nothing of it counts.
    pub(super) fn idle_at(&self) -> Moment {
        self.records.iter().map(|r| r.leaves.back().map_or(0, |l| l.0).max(r.tat)).max().map_or(Moment::ZERO, Moment)
    }

    /// The latest arrival that is remembered.
    pub(super) fn last(&self) -> Option<Moment> {
        let longest = self.records.last()?;
        longest.leaves.back().map(|l| Moment(l.0.saturating_sub(longest.rule.hold())))
    }

    /// For the database: LEB128 numbers; of each record its rule, `tat`, how many leaves, and these with the difference from the
    /// one before.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put(&mut out, self.records.len() as u64);
        for r in &self.records {
            for n in [r.rule.per, r.rule.count.into(), r.rule.burst.into(), r.tat, r.leaves.len() as u64] {
                put(&mut out, n);
            }
            let mut before = 0;
            for (leave, n) in &r.leaves {
                put(&mut out, leave - before);
                put(&mut out, (*n).into());
                before = *leave;
            }
        }
        out
    }

    /// Back from [`Self::encode`]; `None`: it is none.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let small = |n: u64| u32::try_from(n).ok();
        let mut records = Vec::new();
        for _ in 0..get(from)? {
            let rule = Rule { per: get(from)?, count: small(get(from)?)?, burst: small(get(from)?)? };
            if rule.per > TOP || rule.burst > rule.count {
                return None;
            }
            let mut record = Record { tat: get(from)?, ..Record::new(rule) };
            let mut leave = 0u64;
            for i in 0..get(from)? {
                let step = get(from)?;
                leave = leave.checked_add(step).filter(|_| i == 0 || step > 0)?;
                let n = small(get(from)?)?;
                record.total += u64::from(n);
                record.leaves.push_back((leave, n));
            }
            records.push(record);
        }
        from.is_empty().then_some(Self { records })
    }
}

/// A record of `rule` by what the others remember: rounded up as theirs are, but nothing arrives later than [`LOST`] from now.
fn derived(rule: Rule, old: &[Record], now: Moment) -> Record {
    let mut record = Record::new(rule);
    if let Some(source) = old.iter().find(|r| r.rule.per >= rule.per).or(old.last()) {
        for (leave, n) in &source.leaves {
            let u = Moment(leave.saturating_sub(source.rule.hold())).min(now + LOST);
            record.spend(u.0, *n);
        }
    }
    record
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 128")]
    out.push(n as u8);
}

fn get(from: &mut &[u8]) -> Option<u64> {
    let (mut n, mut shift) = (0u64, 0);
    loop {
        let (first, rest) = from.split_first()?;
        *from = rest;
        n |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(n);
        }
        shift += 7;
    }
}
