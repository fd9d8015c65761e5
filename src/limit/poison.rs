//! Poison entries: one whose every request is refused while the rest of its key gets through.
//!
//! Contract, *Holds*: every 429 holds the key, but a refusal of an entry after whose earlier refusal others of the key were
//! sent and succeeded is counted as its own; the count falls to nothing when the limit refuses others too; at
//! [`POISON_AT`] the entry is skipped `http-429`.

use crate::clock::Moment;
use std::collections::HashMap;

/// Own refusals at which an entry is skipped.
pub const POISON_AT: u32 = 5;
/// Entries that one key remembers; the one refused longest ago is forgotten.
const MEMORY: usize = 256;
/// From this many refusals with successes of others between them on, an entry is suspect itself: its refusals are no sign
/// that the limit refuses others. Else two poison entries of one key would acquit each other for ever.
const SUSPECT: u32 = 3;

/// One key's bookkeeping of who is refused and who gets through; at most 256 entries, about 10 KB.
#[derive(Clone, Debug, Default)]
pub struct Poison {
    entries: HashMap<i64, Refusals>,
    /// When the latest of those that succeeded was sent.
    success_sent: Option<Moment>,
    /// Refusals that speak of the limit.
    by_limit: u64,
}

#[derive(Clone, Copy, Debug)]
struct Refusals {
    last: Moment,
    /// [`Poison::by_limit`] after the last one.
    by_limit: u64,
    /// With successes of others between, whatever the limit did.
    lone: u32,
    own: u32,
}

impl Poison {
    /// The entry was refused at `now`: how many refusals count as its own, skipped at [`POISON_AT`].
    pub fn refused(&mut self, entry: i64, now: Moment) -> u32 {
        let by_limit = self.by_limit;
        let others_succeeded = |since: Moment| self.success_sent.is_some_and(|sent| sent >= since);
        let mut r = match self.entries.get(&entry) {
            Some(old) => {
                let mut r = *old;
                let alone = others_succeeded(r.last);
                r.lone += u32::from(alone);
                if by_limit != r.by_limit {
                    r.own = 0;
                } else if alone {
                    r.own += 1;
                }
                r
            }
            None => Refusals { last: now, by_limit, lone: 0, own: 0 },
        };
        if r.lone < SUSPECT && r.own == 0 {
            self.by_limit += 1;
        }
        r.last = now;
        r.by_limit = self.by_limit;
        if self.entries.len() >= MEMORY && !self.entries.contains_key(&entry) {
            let oldest = self.entries.iter().min_by_key(|(id, r)| (r.last, **id)).map(|(id, _)| *id);
            oldest.map(|id| self.entries.remove(&id));
        }
        self.entries.insert(entry, r);
        r.own
    }

    /// A request of the entry that was sent at `sent_at` was answered with no refusal.
    pub fn succeeded(&mut self, entry: i64, sent_at: Moment) {
        if !self.entries.is_empty() {
            self.entries.remove(&entry);
        }
        self.success_sent = self.success_sent.max(Some(sent_at));
    }

    /// The entry has its fate: nothing more of it is remembered.
    pub fn forget(&mut self, entry: i64) {
        self.entries.remove(&entry);
    }

    /// Whether no refused entry is remembered: the whole may be dropped.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifth_refusal_after_others_succeeded_is_poison() {
        let mut p = Poison::default();
        let counts: Vec<u32> = (0..6)
            .map(|i| {
                let own = p.refused(7, Moment(i * 100));
                p.succeeded(1000, Moment(i * 100 + 50));
                own
            })
            .collect();
        assert_eq!(counts, [0, 1, 2, 3, 4, POISON_AT]);
    }

    #[test]
    fn refusals_without_a_success_of_others_between_are_not_its_own() {
        let mut p = Poison::default();
        assert!((0..50).all(|i| p.refused(7, Moment(i)) == 0));
    }

    #[test]
    fn success_of_one_sent_before_the_refusal_tells_nothing() {
        let mut p = Poison::default();
        for i in 1..20 {
            assert_eq!(p.refused(7, Moment(i * 100)), 0);
            p.succeeded(1000, Moment(i * 100 - 1));
        }
    }

    #[test]
    fn count_falls_to_nothing_when_the_limit_refuses_others_too() {
        let mut p = Poison::default();
        for i in 0..4u32 {
            assert_eq!(p.refused(7, Moment(u64::from(i) * 100)), i);
            p.succeeded(1000, Moment(u64::from(i) * 100 + 50));
        }
        assert_eq!(p.refused(8, Moment(360)), 0);
        p.succeeded(1001, Moment(370));
        assert_eq!(p.refused(7, Moment(400)), 0);
    }

    #[test]
    fn an_ordinary_limit_poisons_nobody() {
        // 40 entries, five get through a round, then five others are refused.
        let mut p = Poison::default();
        let mut queue: std::collections::VecDeque<i64> = (0..40).collect();
        let mut now = 0;
        while !queue.is_empty() {
            now += 100;
            for _ in 0..5 {
                queue.pop_front().inspect(|id| p.succeeded(*id, Moment(now)));
            }
            for _ in 0..5 {
                if let Some(id) = queue.pop_front() {
                    assert!(p.refused(id, Moment(now + 10)) < POISON_AT);
                    queue.push_back(id);
                }
            }
        }
    }

    #[test]
    fn several_poison_entries_do_not_acquit_each_other_for_ever() {
        let mut p = Poison::default();
        let mut most = [0; 3];
        for i in 0..20u64 {
            for (n, most) in (0u32..).zip(&mut most) {
                *most = p.refused(i64::from(n), Moment(i * 100 + u64::from(n))).max(*most);
                p.succeeded(1000, Moment(i * 100 + 50 + u64::from(n)));
            }
        }
        assert!(most.iter().all(|m| *m >= POISON_AT), "{most:?}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut p = Poison::default();
        for i in 0..10_000i64 {
            p.refused(i, Moment(i.unsigned_abs()));
        }
        assert_eq!(p.entries.len(), MEMORY);
        assert!(p.entries.contains_key(&9999) && !p.is_empty());
    }
}
