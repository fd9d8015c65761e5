//! Tells a refusal of the key from a refusal of one entry: a poison entry must not hold its key for ever.

use super::policy::Whose;
use crate::clock::Moment;
use std::collections::HashMap;

/// Entries of one key whose refusals are remembered; past that all are forgotten, and a poison entry takes a little longer to be told.
const MOST: usize = 4096;

/// What the entries of one limit key have met, as far as it tells whose a refusal is. In memory only: after a restart an entry's
/// next refusal counts as the key's.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Latest sends that succeeded.
    succeeded: Latest,
    /// Latest refusals.
    refused: Latest,
    /// Latest refusals that came while others were refused too.
    joint: Latest,
    /// Each entry's first refusal since others were refused too; entries leave when they settle. Those that wait in the state stay.
    earlier: HashMap<i64, Moment>,
}

impl Neighbours {
    /// An entry of the key that was sent at `sent_at` got an answer that is no refusal.
    pub fn succeeded(&mut self, entry: i64, sent_at: Moment) {
        self.succeeded.put(entry, sent_at);
    }

    /// An entry of the key was refused at `now`. Own is a refusal after whose earlier one others were sent and succeeded and were
    /// not refused.
    pub fn refused(&mut self, entry: i64, now: Moment) -> Whose {
        let alone = match (self.refused.but(entry), self.succeeded.but(entry)) {
            (Some(refused), Some(sent)) => sent > refused,
            (None, _) => true,
            (Some(_), None) => false,
        };
        let before = self.earlier.get(&entry).copied();
        let whose = match before {
            Some(before) if !alone || self.joint.but(entry).is_some_and(|at| at >= before) => Whose::Others,
            Some(before) if self.succeeded.but(entry).is_some_and(|sent| sent > before) => Whose::Own,
            _ => Whose::Key,
        };
        // It stays as it was while refusals are its own: the last entry of a key has no others any more to tell by.
        if before.is_none() || whose == Whose::Others {
            if before.is_none() && self.earlier.len() >= MOST {
                self.earlier.clear();
            }
            self.earlier.insert(entry, now);
        }
        self.refused.put(entry, now);
        if !alone {
            self.joint.put(entry, now);
        }
        whose
    }

    /// The entry has its fate.
    pub fn settled(&mut self, entry: i64) {
        self.earlier.remove(&entry);
    }
}

/// The latest moments of two different entries, so that there is one of another whoever asks.
#[derive(Clone, Copy, Debug, Default)]
struct Latest([Option<(i64, Moment)>; 2]);

impl Latest {
    fn put(&mut self, entry: i64, at: Moment) {
        let [first, second] = self.0;
        self.0 = match first {
            Some((e, old)) if e == entry => [Some((e, old.max(at))), second],
            Some((_, old)) if old > at => match second {
                Some((e, other)) if e != entry && other > at => [first, second],
                Some((e, other)) if e == entry => [first, Some((e, other.max(at)))],
                _ => [first, Some((entry, at))],
            },
            _ => [Some((entry, at)), first],
        };
    }

    fn but(&self, entry: i64) -> Option<Moment> {
        self.0.iter().flatten().find(|(e, _)| *e != entry).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment(s * 1_000_000_000)
    }

    #[test]
    fn an_entry_refused_while_others_succeed_is_its_own() {
        let mut n = Neighbours::default();
        assert_eq!(n.refused(1, at(0)), Whose::Key);
        for t in 1..=5 {
            n.succeeded(2, at(t * 10 - 5));
            assert_eq!(n.refused(1, at(t * 10)), Whose::Own, "{t}");
        }
    }

    #[test]
    fn a_limit_that_refuses_others_too_counts_against_nobody() {
        let mut n = Neighbours::default();
        n.refused(1, at(0));
        for t in 1..=20 {
            n.succeeded(50, at(t * 10 - 5));
            let first = n.refused(1, at(t * 10));
            assert!(t == 1 || first == Whose::Others, "{t} {first:?}");
            n.refused(2, at(t * 10 + 1));
            n.refused(3, at(t * 10 + 1));
        }
    }

    #[test]
    fn a_success_sent_before_the_refusal_says_nothing() {
        let mut n = Neighbours::default();
        n.refused(1, at(10));
        n.succeeded(2, at(5));
        assert_eq!(n.refused(1, at(20)), Whose::Key);
        n.succeeded(1, at(25));
        assert_eq!(n.refused(1, at(30)), Whose::Key);
    }

    #[test]
    fn the_last_entry_of_a_key_is_told_by_what_succeeded_before() {
        let mut n = Neighbours::default();
        assert_eq!(n.refused(1, at(0)), Whose::Key);
        n.succeeded(2, at(5));
        for t in 1..=5 {
            assert_eq!(n.refused(1, at(t * 10)), Whose::Own, "{t}");
        }
    }

    #[test]
    fn entries_that_never_settle_are_forgotten_past_a_bound() {
        let mut n = Neighbours::default();
        for entry in 0..20_000 {
            n.refused(entry, at(u64::try_from(entry).unwrap()));
            assert!(n.earlier.len() <= MOST);
        }
    }

    #[test]
    fn two_poison_entries_do_not_hide_each_other() {
        let mut n = Neighbours::default();
        let mut own = 0;
        for t in 0..12 {
            n.refused(1, at(t * 10));
            n.succeeded(9, at(t * 10 + 2));
            own += u32::from(n.refused(2, at(t * 10 + 4)) == Whose::Own);
            n.succeeded(9, at(t * 10 + 6));
        }
        assert!(own >= 5, "{own}");
    }
}
