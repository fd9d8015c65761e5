//! Counts what was retried and what was waited for, for an end that tells it by name.

use crate::events::{Event, Listener};
use crate::report::text::{count, show_ms};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A listener that counts retries by reason and holds by key. Clones count together.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    retries: BTreeMap<String, u64>,
    holds: BTreeMap<(String, u16, bool), (u64, u64)>,
}

impl Tally {
    /// `5 after http-503, 1 after http-500`, most first; empty where nothing was.
    #[must_use]
    pub fn retried(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by: Vec<_> = counts.retries.iter().collect();
        by.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        by.iter().map(|(reason, n)| format!("{n} after {reason}")).collect::<Vec<_>>().join(", ")
    }

    /// Retries that were put off, of every reason.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retries.values().sum()
    }

    /// `2 pauses that shop.demo.test asked for (429)`, `1 pause after shop.demo.test refused (429)`; empty where nobody did.
    #[must_use]
    pub fn holds(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |((key, status, asked), (n, ms)): (&(String, u16, bool), &(u64, u64))| {
            let why = if *asked { format!("that {key} asked for") } else { format!("after {key} refused") };
            format!("{} {why} ({status}), {} in all", count(*n, "pause", "pauses"), show_ms(*ms))
        };
        counts.holds.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl Listener for Tally {
    fn event(&self, event: &Event) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RetryScheduled { reason, .. } => *counts.retries.entry(reason.clone()).or_insert(0) += 1,
            Event::HoldBegan { key, wait_ms, status, from, .. } => {
                let (n, ms) = counts.holds.entry((key.clone(), *status, *from != "backoff")).or_insert((0, 0));
                *n += 1;
                *ms += wait_ms;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_and_holds_are_told_by_name() {
        let tally = Tally::default();
        assert_eq!((tally.retried(), tally.holds()), (String::new(), String::new()));
        for reason in ["http-500", "http-503", "http-503"] {
            tally.event(&Event::RetryScheduled { row: 1, url: String::new(), reason: reason.into(), wait_ms: 1, charged: true });
        }
        for _ in 0..2 {
            let until = crate::clock::Wall(0);
            tally.event(&Event::HoldBegan { key: "h".into(), until, wait_ms: 1000, status: 429, from: "retry-after" });
        }
        assert_eq!(tally.retried(), "2 after http-503, 1 after http-500");
        assert_eq!((tally.holds().as_str(), tally.retries()), ("2 pauses that h asked for (429), 2s in all", 3));
        let until = crate::clock::Wall(0);
        tally.event(&Event::HoldBegan { key: "h".into(), until, wait_ms: 2000, status: 429, from: "backoff" });
        assert!(tally.holds().starts_with("1 pause after h refused (429), 2s in all; "), "{}", tally.holds());
    }
}
