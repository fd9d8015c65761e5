//! What limits have counted: rows that are written with the commit and lost without it, and times that move with the calendar.

use super::*;
use crate::clock::{Clock as _, ManualClock};

fn save(at: Wall, rows: &[(&str, &str, u64)], unsaved: u32) -> LimitsSave {
    let row = |(key, row, secs): &(&str, &str, u64)| LimitRow {
        key: (*key).to_owned(),
        row: (*row).to_owned(),
        counts_for: (*secs < u64::MAX).then(|| Duration::from_secs(*secs)),
    };
    LimitsSave { at, rows: rows.iter().map(row).collect(), unsaved: each(unsaved), unsaved_at: None }
}

fn each(n: u32) -> std::collections::BTreeMap<String, u32> {
    if n == 0 { [].into() } else { [("a".to_owned(), n)].into() }
}

/// A job with rates, under a clock that is told.
fn limited(bed: &Bed, clock: &ManualClock, reserved: Option<u32>) -> (Store, Opened) {
    open(StoreConfig { reserved: reserved.map(each), ..bed.config() }, Arc::new(clock.clone())).unwrap()
}

fn kept(opened: &Opened) -> Vec<(&str, u64)> {
    opened.limiter.iter().map(|k| (k.row.as_str(), k.down.as_secs())).collect()
}

#[tokio::test]
async fn rows_are_durable_when_the_save_is_answered_and_gone_without_its_commit() {
    for stage in [None, Some(Stage::Before), Some(Stage::Appended), Some(Stage::Recorded), Some(Stage::Committed)] {
        let bed = Bed::jsonl();
        let clock = ManualClock::default();
        let (store, opened) = limited(&bed, &clock, Some(7));
        let encoder = columns(&store).await;
        store.offer(seeds(2), mark("2", true)).await.unwrap();
        let leases = lease_all(&store).await;
        store.limits(save(clock.wall(), &[("a", "A1", 60), ("b", "B1", 60)], 7)).await.unwrap();
        store.settle(vec![result(&encoder, &leases[0])]).await.unwrap();
        if let Some(stage) = stage {
            store.shared.die_at.store(stage as u8, Ordering::SeqCst);
        }
        let saved = store.limits(save(clock.wall(), &[("a", "A2", 60), ("c", "C1", 60)], 9)).await;
        assert_eq!(saved.is_ok(), stage.is_none());
        store.crash().await;
        gone(&store).await;
        clock.advance(Duration::from_secs(10));
        assert_eq!(opened.unsaved, each(0));
        let (store, opened) = limited(&bed, &clock, Some(7));
        // A row of the other time goes with the same commit, or not.
        let durable = matches!(stage, None | Some(Stage::Committed));
        assert_eq!(opened.account.results, u64::from(durable), "{stage:?}");
        assert_eq!(opened.unsaved, each(if durable { 9 } else { 7 }));
        let expected: &[_] = if durable { &[("A2", 9), ("B1", 9), ("C1", 9)] } else { &[("A1", 9), ("B1", 9)] };
        assert_eq!(kept(&opened), expected, "{stage:?}");
        store.close(None).await.unwrap();
        bed.verified();
    }
}

#[tokio::test]
async fn what_a_start_reserves_is_durable_before_the_store_is_there() {
    let bed = Bed::jsonl();
    let clock = ManualClock::default();
    let (store, _) = limited(&bed, &clock, Some(7));
    store.crash().await;
    let (store, opened) = limited(&bed, &clock, Some(3));
    assert_eq!(opened.unsaved, each(7));
    store.crash().await;
    // Of the run before that one nothing is known either.
    let (store, opened) = limited(&bed, &clock, None);
    assert_eq!((opened.unsaved, opened.limiter.len()), (each(0), 0));
    store.close(None).await.unwrap();
    // A run without rates says nothing, so it ends nothing.
    let (store, opened) = limited(&bed, &clock, Some(3));
    assert_eq!(opened.unsaved, each(7));
    store.limits(save(clock.wall(), &[], 0)).await.unwrap();
    store.close(None).await.unwrap();
    assert_eq!(limited(&bed, &clock, Some(3)).1.unsaved, each(0));
}

#[tokio::test]
async fn a_cured_job_that_starts_clean_remembers_what_may_have_been_sent() {
    let bed = Bed::jsonl();
    let clock = ManualClock::default();
    let (store, _) = limited(&bed, &clock, Some(7));
    store.crash().await;
    let mut config = bed.config();
    config.frozen.insert("input.file".into(), "b.csv".into());
    config.reserved = Some(each(3));
    let (_store, opened) = open(config, Arc::new(clock.clone())).unwrap();
    assert_eq!((opened.resumed, opened.unsaved), (false, each(7)));
}

#[tokio::test]
async fn rows_go_when_nothing_of_them_counts_any_more() {
    let bed = Bed::jsonl();
    let clock = ManualClock::default();
    let count = || -> i64 {
        let db = rusqlite::Connection::open(bed.dir().join("state.db")).unwrap();
        db.query_row("SELECT count(*) FROM limiter", [], |r| r.get(0)).unwrap()
    };
    let (store, _) = limited(&bed, &clock, Some(7));
    store.limits(save(clock.wall(), &[("a", "A", 60), ("b", "B", 90), ("wire", "W", u64::MAX)], 7)).await.unwrap();
    store.limits(save(clock.wall(), &[("b", "B", 0)], 7)).await.unwrap();
    assert_eq!(count(), 2);
    clock.advance(Duration::from_mins(1));
    store.limits(save(clock.wall(), &[], 7)).await.unwrap();
    assert_eq!(count(), 1);
    store.limits(save(clock.wall(), &[("a", "A", 60)], 7)).await.unwrap();
    store.crash().await;
    clock.advance(Duration::from_secs(61));
    let (store, opened) = limited(&bed, &clock, Some(7));
    assert_eq!((kept(&opened), count()), (vec![("W", 120)], 1));
    store.close(None).await.unwrap();
}

#[tokio::test]
async fn stored_times_move_with_the_calendar_of_the_same_boot_and_with_no_other() {
    const HOUR: i64 = 3_600_000;
    for (set, reboot) in [(HOUR, false), (-HOUR, false), (1500, false), (HOUR, true)] {
        let bed = Bed::jsonl();
        let clock = ManualClock::default();
        let (store, opened) = limited(&bed, &clock, Some(7));
        let encoder = columns(&store).await;
        store.offer(seeds(3), mark("3", true)).await.unwrap();
        let leases = lease_all(&store).await;
        let start = clock.wall();
        let due = opened.calendar.at(clock.up()).plus(Duration::from_secs(100));
        let later = |i: usize, sweep| Settle::Later { entry: leases[i].entry, due, state: "{}".into(), sweep };
        store.settle(vec![later(0, false), later(1, true), result(&encoder, &leases[2])]).await.unwrap();
        store.hold("a", due).await.unwrap();
        store.hold("ever", Wall(i64::MAX)).await.unwrap();
        store.limits(save(start, &[("a", "A", 1000), ("wire", "W", u64::MAX)], 7)).await.unwrap();
        store.crash().await;

        clock.advance(Duration::from_secs(40));
        clock.set_wall_by(set);
        let clock = if reboot { clock.rebooted() } else { clock.restarted() };
        let (store, opened) = limited(&bed, &clock, Some(7));
        let now = opened.calendar.at(clock.up());
        let want = |now| LeaseRequest { now, ..want(9, 9) };
        let given = store.lease(want(now)).await.unwrap();
        let waits = now.until(given.next_due.unwrap_or(now)).as_secs();
        // By the calendar alone an hour has passed and everything is due.
        assert_eq!((waits, opened.holds.len()), if reboot { (0, 1) } else { (60, 2) }, "{set} {reboot}");
        assert_eq!(given.sweep_waiting, 1);
        assert_eq!(kept(&opened), if reboot { vec![("W", 3639)] } else { vec![("A", 39), ("W", 39)] });
        if !reboot {
            assert_eq!(now.until(opened.holds[0].1).as_secs(), 60);
            assert!(store.lease(want(now.plus(Duration::from_secs(59)))).await.unwrap().hosts.iter().all(|h| h.entries.is_empty()));
            assert_eq!(store.lease(want(now.plus(Duration::from_mins(1)))).await.unwrap().hosts[0].entries.len(), 1);
        }
        store.close(None).await.unwrap();
        bed.verified();
    }
}
