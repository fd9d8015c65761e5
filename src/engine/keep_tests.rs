//! Limits over restarts, kills and calendars that are set, on a real state under a clock that is told.

use crate::clock::{Clock as _, ManualClock, Moment};
use crate::engine::keep::{Keeper, RHYTHM};
use crate::limit::{Claim, Limits, Permit, Why};
use crate::model::Rate;
use crate::model::plan::{Codec, LimitsPlan, SinkFormat, SinkPlace, SinkPlan};
use crate::store::encode::EncoderSpec;
use crate::store::{self, Opened, Store, StoreConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const HOUR: i64 = 3_600_000;
/// A window of a minute counts so long.
const HOLD: Duration = left_of_hold(0);
/// What rounding may add.
const SLACK: Duration = Duration::from_millis(5);

/// So many seconds later this is left of it.
const fn left_of_hold(secs: u64) -> Duration {
    Duration::from_millis(60_060 - 1000 * secs)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn one(key: &str) -> [Claim; 1] {
    [Claim { limit: 0, key: key.into(), weight: 1 }]
}

fn answered(limits: &mut Limits, mut permit: Permit, at: Moment) {
    limits.arrived(&mut permit, at);
    limits.done(permit);
}

struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// A run with `count` a minute, all of them at once.
    fn start(&self, clock: &ManualClock, count: u32) -> Life {
        self.begin(clock, count, false)
    }

    fn begin(&self, clock: &ManualClock, count: u32, fresh: bool) -> Life {
        let clock = clock.restarted();
        let rate = Rate { count, per: secs(60) };
        let mut limits = Limits::new(&LimitsPlan { rates: vec![rate], burst: Some(count), ..LimitsPlan::default() }, &[]);
        let reserved = Some(Keeper::reserve(&mut limits));
        let config = StoreConfig {
            dir: Some(self.state()),
            job: "job".into(),
            results: SinkPlan { place: SinkPlace::File(self.0.path().join("results")), format: SinkFormat::Jsonl, codec: Codec::Plain },
            skipped: None,
            flush: secs(5),
            frozen: [].into(),
            encoder: EncoderSpec { fields: Vec::new(), meta: Vec::new(), csv_safe: false },
            depth: None,
            fresh,
            reserved,
            stdout: None,
        };
        let (store, opened) = store::open(config, Arc::new(clock.clone())).unwrap();
        let keeper = Keeper::restore(&mut limits, &opened, clock.now());
        Life { clock, limits, keeper, store, opened }
    }

    fn rows(&self) -> i64 {
        let db = rusqlite::Connection::open(self.state().join("state.db")).unwrap();
        db.query_row("SELECT count(*) FROM limiter", [], |r| r.get(0)).unwrap()
    }
}

struct Life {
    clock: ManualClock,
    limits: Limits,
    keeper: Keeper,
    store: Store,
    opened: Opened,
}

impl Life {
    fn take(&mut self) -> Option<Permit> {
        self.limits.take(&one("a"), self.clock.now())
    }

    /// Takes as many as may go at once and answers them; how many.
    fn spend(&mut self) -> usize {
        let permits: Vec<_> = std::iter::from_fn(|| self.take()).collect();
        let n = permits.len();
        for permit in permits {
            answered(&mut self.limits, permit, self.clock.now());
        }
        n
    }

    /// What the start had to assume of the one limit.
    fn unsaved(&self) -> u32 {
        self.opened.unsaved.values().sum()
    }

    /// How long until the key's next request; `None`: until a save.
    fn wait(&mut self) -> Option<Duration> {
        let verdict = self.limits.next_at(&one("a"), self.clock.now());
        (verdict.at < Moment::FAR).then(|| verdict.at - self.clock.now())
    }

    async fn save(&mut self) {
        let at = self.opened.calendar.at(self.clock.up());
        let (save, mark) = self.keeper.take(&mut self.limits, self.clock.now(), at);
        self.store.limits(save).await.unwrap();
        self.keeper.saved(&mut self.limits, mark);
    }

    /// What [`Bed::start`] is to go on with.
    async fn end(mut self) -> ManualClock {
        let at = self.opened.calendar.at(self.clock.up());
        let save = self.keeper.take_last(&mut self.limits, self.clock.now(), at).unwrap();
        self.store.limits(save).await.unwrap();
        self.store.close(None).await.unwrap();
        self.clock
    }

    async fn kill(self) -> ManualClock {
        self.store.crash().await;
        self.clock
    }
}

#[track_caller]
fn about(got: Option<Duration>, want: Duration) {
    let got = got.expect("a wait of known length");
    assert!(got >= want && got <= want + SLACK, "waits {got:?}, is to wait {want:?}");
}

#[tokio::test]
async fn a_window_goes_on_over_a_clean_end_whatever_the_calendar_does() {
    for jump in [0, HOUR, -HOUR] {
        let bed = Bed::new();
        let mut life = bed.start(&ManualClock::default(), 10);
        life.clock.advance(secs(3));
        assert_eq!(life.spend(), 10);
        life.clock.set_wall_by(jump / 2);
        let clock = life.end().await;
        clock.advance(secs(20));
        clock.set_wall_by(jump / 2);
        let mut life = bed.start(&clock, 10);
        assert_eq!(life.unsaved(), 0, "nothing to assume after a clean end");
        about(life.wait(), left_of_hold(20));
        life.clock.advance(secs(41));
        assert_eq!(life.spend(), 10);
        life.kill().await;
    }
}

#[tokio::test]
async fn after_a_reboot_the_calendar_counts_and_never_backwards() {
    for (set, left) in [(20_000, left_of_hold(20)), (-HOUR, HOLD)] {
        let bed = Bed::new();
        let mut life = bed.start(&ManualClock::default(), 10);
        assert_eq!(life.spend(), 10);
        let clock = life.end().await.rebooted();
        clock.set_wall_by(set);
        about(bed.start(&clock, 10).wait(), left);
    }
}

#[tokio::test]
async fn a_killed_run_is_taken_to_have_sent_what_it_was_allowed_to() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    assert_eq!(life.spend(), 10, "as many as are reserved");
    // Nothing was saved, nothing but the start was committed.
    let clock = life.kill().await;
    clock.advance(secs(1));
    let mut life = bed.start(&clock, 10);
    assert_eq!((life.unsaved(), life.opened.limiter.len()), (10, 0));
    about(life.wait(), secs(5) + HOLD);
    // A clean end before that is over, and without a word about the key, leaves it to the next start.
    life.clock.advance(secs(30));
    let clock = life.end().await;
    let mut life = bed.start(&clock, 10);
    assert_eq!(life.unsaved(), 10);
    about(life.wait(), left_of_hold(25));
    // A smaller rate does not make less of it.
    let clock = life.kill().await;
    let life = bed.start(&clock, 2);
    assert_eq!(life.unsaved(), 10);
    let clock = life.kill().await;
    let life = bed.start(&clock, 10);
    assert_eq!(life.unsaved(), 10);
    // Once it is over, there is nothing to be said of it.
    life.clock.advance(secs(66));
    let clock = life.end().await;
    let mut life = bed.start(&clock, 10);
    assert_eq!(life.unsaved(), 0);
    assert_eq!(life.spend(), 10);
}

#[tokio::test]
async fn one_kill_is_counted_once_however_many_runs_end_before_it_is_over() {
    // Whether the key is saved meanwhile, or what was on the wire alone, or nothing.
    for (on_wire, asked) in [(0, true), (0, false), (4, true), (4, false)] {
        let bed = Bed::new();
        let mut life = bed.start(&ManualClock::default(), 10);
        let permits: Vec<_> = (0..on_wire).map(|_| life.take().unwrap()).collect();
        life.save().await;
        drop(permits);
        let mut clock = life.kill().await;
        for start in 0..5 {
            clock.advance(secs(if start == 0 { 1 } else { 5 }));
            let mut life = bed.start(&clock, 10);
            let left = if start == 0 { secs(5) + HOLD } else { left_of_hold(start * 10 - 5) };
            if asked {
                assert_eq!(life.spend(), 0);
            }
            life.clock.advance(RHYTHM);
            life.save().await;
            // A row of what was on the wire alone is as of the start, and saved as of now.
            let waits = life.wait().unwrap();
            assert!(waits + RHYTHM >= left && waits <= left + SLACK, "waits {waits:?}, is to wait {left:?}");
            life.clock.advance(Duration::from_millis(4800));
            clock = life.end().await;
        }
        // A second kill adds its own lot, which counts from the next start.
        let mut life = bed.start(&clock, 20);
        let _ = life.wait();
        life.save().await;
        assert_eq!(life.spend(), 10 - on_wire, "{on_wire} {asked}");
        let clock = life.kill().await;
        clock.advance(secs(1));
        let mut life = bed.start(&clock, 20);
        assert_eq!(life.unsaved(), 20);
        about(life.wait(), secs(5) + HOLD);
    }
}

#[tokio::test]
async fn a_row_of_before_a_kill_has_nothing_of_it_even_where_the_calendar_goes_back() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    let permit = life.take().unwrap();
    answered(&mut life.limits, permit, life.clock.now());
    life.save().await;
    let clock = life.kill().await.rebooted();
    clock.set_wall_by(-10_000);
    let life = bed.start(&clock, 10);
    let clock = life.end().await;
    clock.advance(secs(20));
    let mut life = bed.start(&clock, 10);
    let _ = life.wait();
    life.save().await;
    assert_eq!(life.spend(), 0);
}

#[tokio::test]
async fn after_a_kill_a_key_waits_for_the_first_save() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    let permits: Vec<_> = (0..4).map(|_| life.take().unwrap()).collect();
    life.save().await;
    drop(permits);
    let clock = life.kill().await;
    // 4 on the wire, 10 that no row knows: of 20 there are 6 left, none before the first save.
    let mut life = bed.start(&clock, 20);
    assert_eq!(life.keeper.due(&life.limits, life.clock.now()), life.clock.now() + RHYTHM, "the row of what was on the wire");
    assert!(life.take().is_none());
    assert_eq!(life.limits.next_at(&one("a"), life.clock.now()).why, Why::Save);
    life.keeper.waited_for = true;
    assert_eq!(life.keeper.due(&life.limits, life.clock.now()), life.clock.now(), "somebody waits");
    let unconfirmed = life.limits.save(life.clock.now());
    assert!(life.take().is_none(), "taken is not durable");
    drop(unconfirmed);
    life.save().await;
    assert_eq!(life.spend(), 6);
    about(life.wait(), HOLD);
    // Killed once more before a save: the 10 are in the row now, and 20 are assumed.
    let clock = life.kill().await;
    let mut life = bed.start(&clock, 20);
    assert_eq!(life.unsaved(), 20);
    about(life.wait(), secs(5) + HOLD);
}

#[tokio::test]
async fn what_was_on_the_wire_counts_from_one_start_only() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    let permits: Vec<_> = std::iter::from_fn(|| life.take()).collect();
    assert_eq!(permits.len(), 10);
    // A clean end with them on the wire.
    let clock = life.end().await;
    clock.advance(secs(100));
    let mut life = bed.start(&clock, 10);
    assert_eq!(life.unsaved(), 0);
    about(life.wait(), secs(5) + HOLD);
    life.clock.advance(secs(1));
    life.save().await;
    life.clock.advance(secs(9));
    let clock = life.kill().await;
    let life = bed.start(&clock, 20);
    about(Some(wait_by_the_row(&life)), left_of_hold(4));
    life.clock.advance(secs(60));
    let clock = life.end().await;
    clock.advance(secs(1));
    assert_eq!(bed.start(&clock, 20).opened.limiter.len(), 0);
    assert_eq!(bed.rows(), 0);
}

/// How long the only row of a start goes on counting ten of ten.
fn wait_by_the_row(life: &Life) -> Duration {
    let kept = &life.opened.limiter[0];
    let rate = Rate { count: 10, per: secs(60) };
    let mut limits = Limits::new(&LimitsPlan { rates: vec![rate], burst: Some(10), ..LimitsPlan::default() }, &[]);
    limits.restore(&serde_json::from_str(&kept.row).unwrap(), kept.down, life.clock.now());
    limits.next_at(&one("a"), life.clock.now()).at - life.clock.now()
}

#[tokio::test]
async fn a_hold_is_neither_undercut_nor_prolonged_by_a_calendar_that_is_set() {
    for jump in [HOUR, -HOUR] {
        let bed = Bed::new();
        let life = bed.start(&ManualClock::default(), 10);
        life.clock.advance(secs(7));
        life.clock.set_wall_by(jump);
        let until = life.opened.calendar.at(life.clock.up()).plus(secs(600));
        life.store.hold("a", until).await.unwrap();
        life.store.commit().await.unwrap();
        let mut clock = life.kill().await;
        for restart in 1..4 {
            clock.advance(secs(100));
            clock.set_wall_by(-jump * restart);
            let life = bed.start(&clock, 10);
            let [(key, until)] = &life.opened.holds[..] else { panic!("{:?}", life.opened.holds) };
            assert_eq!(key, "a");
            let left = life.opened.calendar.at(life.clock.up()).until(*until);
            assert_eq!(left, secs(600 - 100 * u64::try_from(restart).unwrap()));
            clock = life.kill().await;
        }
    }
}

#[tokio::test]
async fn what_servers_have_seen_is_kept_through_fresh() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    life.save().await;
    assert_eq!(life.spend(), 10);
    life.save().await;
    let until = life.opened.calendar.at(life.clock.up()).plus(secs(600));
    life.store.hold("b", until).await.unwrap();
    let clock = life.end().await;
    clock.advance(secs(20));
    clock.set_wall_by(HOUR);
    let mut life = bed.begin(&clock, 10, true);
    assert!(!life.opened.resumed);
    about(life.wait(), left_of_hold(20));
    assert_eq!(life.opened.calendar.at(life.clock.up()).until(life.opened.holds[0].1), secs(580));
    // In the new state too.
    let clock = life.kill().await;
    let life = bed.start(&clock, 10);
    assert_eq!((life.opened.limiter.len(), life.opened.holds.len()), (1, 1));
}

#[tokio::test]
async fn rows_of_idle_keys_go() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    for i in 0..300 {
        let key = format!("host{i}");
        let permit = life.limits.take(&one(&key), life.clock.now()).unwrap();
        answered(&mut life.limits, permit, life.clock.now());
        life.clock.advance(secs(1));
        life.save().await;
        assert!(bed.rows() <= 62, "{} rows", bed.rows());
    }
    assert!(bed.rows() >= 59);
    life.clock.advance(secs(62));
    life.save().await;
    assert_eq!(bed.rows(), 0);
}

#[tokio::test]
async fn saves_come_in_their_rhythm_and_only_where_something_changed() {
    let bed = Bed::new();
    let mut life = bed.start(&ManualClock::default(), 10);
    let due = |life: &mut Life| life.keeper.due(&life.limits, life.clock.now());
    assert_eq!(due(&mut life), Moment::FAR);
    let first = life.take().unwrap();
    assert_eq!(due(&mut life), Moment::ZERO + RHYTHM);
    life.clock.advance(Duration::from_millis(150));
    let second = life.take().unwrap();
    assert_eq!(due(&mut life), Moment::ZERO + RHYTHM, "counted from the first change");
    life.clock.advance(Duration::from_millis(50));
    let now = life.clock.now();
    let (_, mark) = life.keeper.take(&mut life.limits, now, crate::clock::Wall(0));
    assert_eq!(due(&mut life), Moment::FAR);
    answered(&mut life.limits, first, now);
    assert_eq!(due(&mut life), Moment::FAR, "one at a time");
    life.keeper.saved(&mut life.limits, mark);
    assert_eq!(due(&mut life), now + RHYTHM);
    life.keeper.waited_for = true;
    assert_eq!(due(&mut life), now + RHYTHM, "no more often, whoever waits");
    life.save().await;
    life.clock.advance(secs(100));
    assert_eq!(due(&mut life), Moment::FAR, "an idle run writes nothing");
    answered(&mut life.limits, second, life.clock.now());
    assert_eq!(due(&mut life), life.clock.now() + RHYTHM);
    // Without rates there is nothing to save.
    let mut none = Limits::new(&LimitsPlan::default(), &[]);
    assert!(Keeper::reserve(&mut none).is_empty());
    let mut keeper = Keeper::restore(&mut none, &life.opened, Moment::ZERO);
    let _permit = none.take(&one("a"), Moment::ZERO);
    assert_eq!(keeper.due(&none, Moment::ZERO), Moment::FAR);
}
