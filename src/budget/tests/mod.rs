//! Tests of budgets.

mod model;
mod processes;
mod speed;
mod views;

use super::*;
use crate::clock::{Clock, Moment, Wall};
use crate::model::{Rate, parse_rate};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A machine's clock that is told.
pub(super) struct Told {
    now: Arc<AtomicU64>,
    boot: &'static str,
}

impl Clock for Told {
    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::SeqCst))
    }
    fn wall(&self) -> Wall {
        panic!("a budget reads no calendar")
    }
    fn up(&self) -> Duration {
        Duration::from_nanos(self.now().0)
    }
    fn boot(&self) -> Option<&str> {
        Some(self.boot)
    }
}

/// A folder of budgets and the time there.
pub(super) struct Bed {
    pub(super) dir: tempfile::TempDir,
    pub(super) now: Arc<AtomicU64>,
    pub(super) boot: &'static str,
}

impl Bed {
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicU64::new(100_000_000_000));
        Self { dir: tempfile::tempdir().unwrap(), now, boot: "a" }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.path().join("budgets")
    }

    pub(super) fn clock(&self) -> Arc<Told> {
        Arc::new(Told { now: Arc::clone(&self.now), boot: self.boot })
    }

    pub(super) fn advance(&self, d: Duration) {
        self.now.fetch_add(u64::try_from(d.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn at(&self) -> Moment {
        Moment(self.now.load(Ordering::SeqCst))
    }

    pub(super) fn open(&self, rates: &[&str]) -> Ledger {
        self.try_open(rates, Some(1000)).unwrap()
    }

    pub(super) fn try_open(&self, rates: &[&str], burst: Option<u32>) -> Result<Ledger, BudgetError> {
        let rates: Vec<Rate> = rates.iter().map(|r| parse_rate(r).unwrap()).collect();
        Ledger::open(&config(&self.folder(), &rates, burst), self.clock())
    }
}

pub(super) fn config<'a>(folder: &'a Path, rates: &'a [Rate], burst: Option<u32>) -> BudgetConfig<'a> {
    BudgetConfig { folder, name: "github", rates, burst, share: 1.0 }
}

pub(super) fn take(ledger: &mut Ledger, key: &str, count: u32) -> Answer {
    ledger.sync(&mut Vec::new(), &[Want { key, weight: 1, count }]).unwrap().remove(0)
}

pub(super) fn end(ledger: &mut Ledger, grants: Vec<Grant>, how: End) {
    let mut ended = grants.into_iter().map(|g| (g, how)).collect();
    assert!(ledger.sync(&mut ended, &[]).unwrap().is_empty());
    assert!(ended.is_empty());
}

const ARRIVED: End = End::Arrived { ago: Duration::ZERO };

#[test]
fn two_processes_spend_one_quota() {
    let bed = Bed::new();
    let (mut a, mut b) = (bed.open(&["5/10s"]), bed.open(&["5/10s"]));
    let (of_a, of_b) = (take(&mut a, "h", 3), take(&mut b, "h", 3));
    assert_eq!((of_a.granted.len(), of_b.granted.len()), (3, 2));
    assert_eq!((of_a.next, of_b.next), (None, Some(ms(200))), "those in flight may come back at any time");
    assert_eq!(take(&mut b, "other", 5).granted.len(), 5, "keys are limits of their own");
    bed.advance(s(2));
    end(&mut a, of_a.granted, End::Arrived { ago: s(1) });
    assert_eq!(take(&mut b, "h", 1).next, Some(ms(9010)));
    bed.advance(ms(9009));
    assert!(take(&mut b, "h", 1).granted.is_empty());
    bed.advance(ms(1));
    end(&mut b, of_b.granted, End::Unsent);
    assert_eq!(take(&mut b, "h", 9).granted.len(), 5);
}

#[test]
fn what_is_unsent_is_free_at_once_and_what_is_lost_counts_5_s_longer() {
    let bed = Bed::new();
    let mut a = bed.try_open(&["2/1s"], Some(1)).unwrap();
    let one = take(&mut a, "h", 2);
    assert_eq!((one.granted.len(), one.next), (1, Some(ms(500))), "paced");
    end(&mut a, one.granted, End::Unsent);
    bed.advance(ms(500));
    let one = take(&mut a, "h", 1).granted;
    end(&mut a, one, End::Lost);
    bed.advance(ms(500));
    let two = take(&mut a, "h", 1).granted;
    assert_eq!(two.len(), 1);
    end(&mut a, two, ARRIVED);
    bed.advance(ms(600));
    assert_eq!(take(&mut a, "h", 1).next, Some(ms(401)), "the arrived one leaves first");
    bed.advance(ms(401));
    let three = take(&mut a, "h", 1).granted;
    end(&mut a, three, ARRIVED);
    bed.advance(ms(1001));
    // Of the two of the window the lost one is one until 5 s and a window after its end.
    assert_eq!(bed.at(), Moment(100_000_000_000) + ms(500 + 500 + 600 + 401 + 1001));
    let four = take(&mut a, "h", 1).granted;
    assert_eq!(four.len(), 1);
    assert!(take(&mut a, "h", 1).granted.is_empty());
    bed.advance(ms(6001 - 500 - 600 - 401 - 1001 - 1));
    assert!(take(&mut a, "h", 1).granted.is_empty());
    bed.advance(ms(1));
    assert_eq!(take(&mut a, "h", 1).granted.len(), 1);
}

#[test]
fn a_killed_process_costs_what_was_in_flight_for_5_s_and_a_window() {
    let bed = Bed::new();
    let (mut a, mut b) = (bed.open(&["5/10s"]), bed.open(&["5/10s"]));
    let granted = take(&mut a, "h", 4).granted;
    assert_eq!(granted.len(), 4);
    bed.advance(s(60));
    assert_eq!(take(&mut b, "h", 2).granted.len(), 1, "a living one may take as long as it likes");
    drop(granted);
    a.kill();
    assert!(take(&mut b, "h", 1).granted.is_empty());
    bed.advance(ms(100));
    assert_eq!(take(&mut b, "h", 1).next, Some(ms(15_010)), "found dead now");
    bed.advance(ms(15_009));
    assert!(take(&mut b, "h", 1).granted.is_empty());
    bed.advance(ms(1));
    let view = show(&bed.folder(), "github", &*bed.clock()).unwrap();
    assert_eq!((view.keys[0].used[0], view.keys[0].in_flight), (1, 1));
}

#[test]
fn two_that_died_are_counted_once_by_the_call_that_finds_them() {
    let bed = Bed::new();
    let (mut a, mut b, mut c) = (bed.open(&["10/10s"]), bed.open(&["10/10s"]), bed.open(&["10/10s"]));
    let of_both = [take(&mut a, "h", 2), take(&mut b, "h", 3), take(&mut a, "idle", 1), take(&mut b, "idle", 1)];
    assert_eq!(of_both.map(|a| a.granted.len()), [2, 3, 1, 1]);
    a.kill();
    b.kill();
    bed.advance(s(1));
    assert_eq!(take(&mut c, "h", 10).granted.len(), 5);
    let idle_at: i64 = c.me().0.query_row("SELECT idle_at FROM key WHERE name = 'idle'", [], |r| r.get(0)).unwrap();
    assert!(idle_at < i64::MAX, "nothing of it is in flight");
}

#[test]
fn control_a_ledger_that_frees_a_dead_ones_grants_at_once_gives_them_again() {
    let bed = Bed::new();
    let (mut a, mut b) = (bed.open(&["5/10s"]), bed.open(&["5/10s"]));
    *b.me().1 = true;
    let _sent = take(&mut a, "h", 5).granted;
    a.kill();
    bed.advance(s(10));
    assert_eq!(take(&mut b, "h", 1).granted.len(), 1);
}

#[test]
fn a_closed_process_leaves_what_it_told_and_the_rest_as_lost() {
    let bed = Bed::new();
    let mut a = bed.open(&["5/10s"]);
    let mut granted = take(&mut a, "h", 5).granted;
    let told = vec![(granted.remove(0), End::Unsent), (granted.remove(0), ARRIVED)];
    a.close(told).unwrap();
    assert!(std::fs::read_dir(bed.folder()).unwrap().all(|f| f.unwrap().path().extension().is_none_or(|e| e != "lock")));
    let used = |at: Duration| {
        bed.advance(at);
        show(&bed.folder(), "github", &*bed.clock()).unwrap().keys.first().map_or(0, |k| k.used[0])
    };
    assert_eq!((used(s(0)), used(ms(10_010)), used(s(5))), (4, 3, 0));
}

#[test]
fn another_boot_counts_as_spent_for_a_window_and_keeps_holds() {
    let mut bed = Bed::new();
    let mut a = bed.open(&["5/10s", "100/1h"]);
    let _ = take(&mut a, "h", 1);
    a.hold("h", s(30)).unwrap();
    bed.advance(s(20));
    a.kill();
    bed.boot = "b";
    bed.now.store(1_000_000_000, Ordering::SeqCst);
    assert_eq!(show(&bed.folder(), "github", &*bed.clock()).unwrap().unknown, Some(s(3600) + ms(3600)));
    let mut b = bed.open(&["5/10s"]);
    let answer = take(&mut b, "h", 1);
    assert_eq!((answer.held, answer.next), (Some(s(30)), Some(s(30))), "from the instant it was set, at most");
    assert_eq!(take(&mut b, "new", 1).next, Some(ms(15_010)), "no key knows what was spent");
    bed.advance(ms(15_010));
    assert_eq!(take(&mut b, "new", 1).granted.len(), 1);
    let mut c = bed.open(&["100/1h"]);
    assert_eq!(take(&mut c, "new", 1).next, Some(ms(3_608_600 - 15_010)));
    bed.boot = "c";
    let Err(BudgetError::Elsewhere { .. }) = bed.try_open(&["5/10s"], None) else { panic!("two boots at once are two machines") };
}

#[test]
fn a_stricter_process_never_passes_its_own_limit() {
    let bed = Bed::new();
    let (mut loose, mut strict) = (bed.open(&["10/10s"]), bed.open(&["4/10s"]));
    let of_loose = take(&mut loose, "h", 3).granted;
    end(&mut loose, of_loose, ARRIVED);
    assert_eq!(take(&mut strict, "h", 3).granted.len(), 1);
    assert_eq!(take(&mut loose, "h", 9).granted.len(), 6);
}

#[test]
fn a_window_that_comes_later_knows_what_was_spent() {
    let bed = Bed::new();
    let mut a = bed.open(&["10/1s"]);
    for _ in 0..7 {
        let granted = take(&mut a, "h", 1).granted;
        end(&mut a, granted, ARRIVED);
        bed.advance(s(600));
    }
    let mut hour = bed.open(&["5/1h"]);
    assert!(take(&mut hour, "h", 1).granted.is_empty());
    let mut day = bed.open(&["8/1d"]);
    assert_eq!(take(&mut day, "h", 2).granted.len(), 1);
    // Nothing is forgotten yet, so a longer one knows all too.
    let mut month = bed.open(&["9/30d"]);
    let one = take(&mut month, "h", 2);
    assert_eq!(one.granted.len(), 1);
    day.close(Vec::new()).unwrap();
    month.close(Vec::new()).unwrap();
    bed.advance(s(30 * 86_400));
    // The month's record went with its last process; what is older than a day may be more than anyone knows.
    let granted = take(&mut a, "h", 1).granted;
    end(&mut a, granted, ARRIVED);
    bed.advance(s(70 * 86_400));
    let granted = take(&mut a, "h", 1).granted;
    end(&mut a, granted, ARRIVED);
    let mut month = bed.open(&["9/30d"]);
    let next = take(&mut month, "h", 1).next.unwrap();
    assert!(next > s(29 * 86_400) && next < s(31 * 86_400), "{next:?}");
    let mut day = bed.open(&["8/1d"]);
    assert_eq!(take(&mut day, "h", 1).granted.len(), 1);
}

#[test]
fn weights_take_as_much_or_nothing_and_too_heavy_ones_never_go() {
    let bed = Bed::new();
    let mut a = bed.open(&["10/10s", "25/60s"]);
    let want = |weight, count| Want { key: "h", weight, count };
    let answers = a.sync(&mut Vec::new(), &[want(4, 5), want(2, 1), want(11, 1)]).unwrap();
    assert_eq!(answers.iter().map(|a| a.granted.len()).collect::<Vec<_>>(), [2, 1, 0]);
    assert!(answers[0].next.is_some() && answers[1].next.is_none() && answers[2].next.is_none());
    assert_eq!((answers[0].granted[0].key(), answers[0].granted[0].weight()), ("h", 4));
}

#[test]
fn a_reserve_is_left_and_one_is_always_used() {
    let bed = Bed::new();
    for (rate, share, given) in [("10/10s", 0.7, 7), ("10/10s", 1.0 - 0.9, 1), ("1/10s", 0.5, 1), ("5000/1h", 0.8, 4000)] {
        let rates = [parse_rate(rate).unwrap()];
        let name = format!("b{given}-{share}").replace('.', "_");
        let config = BudgetConfig { share, name: &name, ..config(Path::new(""), &rates, Some(5000)) };
        let mut ledger = Ledger::open(&BudgetConfig { folder: &bed.folder(), ..config }, bed.clock()).unwrap();
        assert_eq!(take(&mut ledger, "h", 5000).granted.len(), given);
    }
}

#[test]
fn two_processes_together_keep_one_pace() {
    let bed = Bed::new();
    let mut both = [bed.try_open(&["100/10s"], Some(2)).unwrap(), bed.try_open(&["100/10s"], Some(2)).unwrap()];
    let mut sent = Vec::new();
    for step in 0..200 {
        bed.advance(ms(10));
        for ledger in &mut both {
            let granted = take(ledger, "h", 5).granted;
            sent.extend(granted.iter().map(|_| step * 10));
            end(ledger, granted, ARRIVED);
        }
    }
    // 2 at once, then one each 10 s / 99.
    assert_eq!(sent.len(), 2 + 1990 / 102, "{sent:?}");
    assert!(sent.windows(3).all(|w| w[2] - w[0] >= 100), "{sent:?}");
}

#[test]
fn a_hold_is_seen_by_all_and_never_shortened() {
    let bed = Bed::new();
    let (mut a, mut b) = (bed.open(&["5/10s"]), bed.open(&["5/10s"]));
    a.hold("h", s(60)).unwrap();
    b.hold("h", s(10)).unwrap();
    bed.advance(s(1));
    let answer = take(&mut b, "h", 1);
    assert_eq!((answer.granted.len(), answer.next, answer.held), (0, Some(s(59)), Some(s(59))));
    assert_eq!(take(&mut b, "h", 0).held, Some(s(59)), "asking for none is asking for the hold");
    assert_eq!(take(&mut b, "other", 1).granted.len(), 1);
    bed.advance(s(59));
    assert_eq!(take(&mut b, "h", 1).granted.len(), 1);
}

#[test]
fn one_that_was_taken_for_dead_enters_again_and_counts_twice_at_most() {
    let bed = Bed::new();
    let (mut a, mut b) = (bed.open(&["5/10s"]), bed.open(&["5/10s"]));
    let granted = take(&mut a, "h", 2).granted;
    for file in std::fs::read_dir(bed.folder()).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "lock") {
            std::fs::remove_file(file).unwrap();
        }
    }
    bed.advance(s(1));
    assert_eq!(take(&mut b, "h", 9).granted.len(), 3);
    bed.advance(s(17));
    assert!(take(&mut a, "h", 1).granted.is_empty(), "2 and 3 are in flight");
    end(&mut a, granted, End::Unsent);
    assert!(take(&mut b, "h", 1).granted.is_empty());
    assert_eq!(show(&bed.folder(), "github", &*bed.clock()).unwrap().processes.len(), 2);
}

#[test]
fn idle_keys_are_deleted_and_books_stay_small() {
    let bed = Bed::new();
    let mut a = bed.try_open(&["10/1s", "1000000/1h"], Some(20)).unwrap();
    for i in 0..3000 {
        let key = format!("h{}", i % 300);
        let granted = take(&mut a, &key, 1).granted;
        end(&mut a, granted, ARRIVED);
        bed.advance(ms(997));
    }
    let count =
        |a: &mut Ledger| a.me().0.query_row("SELECT count(*), max(length(book)) FROM key", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let (keys, _): (u32, u32) = count(&mut a);
    assert_eq!(keys, 300);
    for _ in 0..20_000 {
        let granted = take(&mut a, "busy", 10).granted;
        end(&mut a, granted, ARRIVED);
        bed.advance(ms(250));
    }
    let (_, length): (u32, u32) = count(&mut a);
    assert!(length < 2500, "{length}");
    bed.advance(s(2 * 86_400));
    for i in 0..30 {
        let _ = take(&mut a, &format!("new{i}"), 1);
    }
    let (keys, _): (u32, u32) = count(&mut a);
    assert_eq!(keys, 30);
}
