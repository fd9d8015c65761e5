//! Random sequences of calls and crashes against a plain model: in the end every entry is in the sinks exactly once.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    /// So many addresses of a small pool are offered next, some of them known.
    Offer(u8),
    Bad,
    Lease(u8, u8),
    /// Settles the n-th leased entry.
    Settle(u8, Fate),
    Commit,
    Close,
    /// Ends cleanly; the next run goes so deep, from 4 on all the way.
    Depth(u8),
    Crash,
    DieAt(u8),
}

#[derive(Clone, Debug)]
enum Fate {
    Result(u8),
    Links(u8),
    Page,
    Skip,
    Later(bool),
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        4 => (0..3u8).prop_map(Fate::Result),
        2 => (1..4u8).prop_map(Fate::Links),
        2 => Just(Fate::Page),
        1 => Just(Fate::Skip),
        1 => any::<bool>().prop_map(Fate::Later),
        1 => Just(Fate::Release),
    ];
    let step = prop_oneof![
        3 => (1..6u8).prop_map(Step::Offer),
        1 => Just(Step::Bad),
        4 => (1..4u8, 1..4u8).prop_map(|(a, b)| Step::Lease(a, b)),
        10 => (any::<u8>(), fate).prop_map(|(n, f)| Step::Settle(n, f)),
        2 => Just(Step::Commit),
        1 => Just(Step::Close),
        1 => (0..5u8).prop_map(Step::Depth),
        1 => Just(Step::Crash),
        1 => (1..5u8).prop_map(Step::DieAt),
    ];
    prop::collection::vec(step, 1..60)
}

/// The world outside the store: an input of which the store keeps the place, and pages of two parts.
struct World {
    bed: Bed,
    store: Option<Store>,
    encoder: Option<Arc<encode::Encoder>>,
    leased: Vec<Lease>,
    next_row: u64,
}

/// The input: record `row` is always the same, whoever reads it.
fn record(row: u64) -> Offer {
    match row % 13 {
        0 => bad(row, "no address"),
        k => seed(row, &format!("http://h{}/{}", k % 3, row - row % 5)),
    }
}

impl World {
    async fn open(&mut self) {
        let (store, opened) = self.bed.open();
        assert!(opened.account.closes(), "{}", opened.account);
        self.compare_depths();
        self.next_row = opened.input.map_or(1, |m| m.position.parse().unwrap());
        assert_eq!(opened.account.inputs, self.next_row - 1);
        self.encoder = Some(columns(&store).await);
        self.store = Some(store);
        self.leased.clear();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// The order of serving is by the depth that the entry has, and a page is nearer to the seed than what was found on it.
    fn compare_depths(&self) {
        let conn = rusqlite::Connection::open(self.bed.dir().join("state.db")).unwrap();
        let wrong: i64 = conn
            .query_row(
                "SELECT (SELECT count(*) FROM todo t JOIN entry e ON e.id = t.entry WHERE t.prio <> e.depth)
                 + (SELECT count(*) FROM later t JOIN entry e ON e.id = t.entry WHERE t.prio <> e.depth)
                 + (SELECT count(*) FROM entry e JOIN entry p ON p.id = e.via WHERE e.depth <= p.depth)",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(wrong, 0);
    }

    async fn offer(&mut self, n: u64) {
        let offers = (self.next_row..self.next_row + n)
            .map(|row| {
                let mut offer = record(row);
                offer.hand = row % 4 == 0;
                offer
            })
            .collect();
        self.next_row += n;
        let place = mark(&self.next_row.to_string(), false);
        for offered in self.store().offer(offers, place).await.unwrap() {
            if let Offered::New(Some(lease)) = offered {
                self.leased.push(*lease);
            }
        }
    }

    async fn lease(&mut self, want: LeaseRequest) -> bool {
        let leased = self.store().lease(want).await.unwrap();
        let known: BTreeSet<_> = self.leased.iter().map(|l| l.entry).collect();
        for lease in leased.hosts.into_iter().flat_map(|h| h.entries) {
            assert!(!known.contains(&lease.entry), "leased twice");
            self.leased.push(lease);
        }
        leased.drained
    }

    async fn settle(&mut self, n: u8, fate: &Fate) {
        if self.leased.is_empty() {
            return;
        }
        let at = usize::from(n) % self.leased.len();
        let lease = self.leased[at].clone();
        let encoder = self.encoder.clone().unwrap();
        let entry = lease.entry;
        let first = lease.state.as_deref() != Some("paged");
        let rows = |title: &str| rows_of(&encoder, &lease, &[title]);
        let op = match fate {
            Fate::Result(0) if first => Settle::Result { entry, rows: EncodedRows::default(), discovered: vec![] },
            Fate::Result(_) => Settle::Result { entry, rows: rows(if first { "whole" } else { "second" }), discovered: vec![] },
            Fate::Links(k) => {
                let links =
                    (0..*k).map(|i| link(entry, lease.depth + 1, &format!("http://l{}/{}", i % 2, (entry.0 * 3 + i64::from(i)) % 40)));
                Settle::Result { entry, rows: rows(if first { "whole" } else { "second" }), discovered: links.collect() }
            }
            Fate::Page if first => Settle::Page { entry, rows: rows("first"), state: "paged".into(), discovered: vec![] },
            Fate::Page => Settle::Result { entry, rows: rows("second"), discovered: vec![] },
            Fate::Skip => skip(&encoder, &lease, Reason::Http(404)),
            Fate::Later(sweep) => {
                let state = lease.state.clone().unwrap_or_else(|| "{}".into());
                Settle::Later { entry, due: Wall(now().0 + 10), state, sweep: *sweep }
            }
            Fate::Release => Settle::Release { entry },
        };
        if matches!(op, Settle::Page { .. }) {
            self.leased[at].state = Some("paged".into());
        } else {
            self.leased.swap_remove(at);
        }
        self.store().settle(vec![op]).await.unwrap();
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Offer(n) => self.offer(u64::from(*n)).await,
            Step::Bad => self.offer(13).await,
            Step::Lease(hosts, each) => drop(self.lease(want((*hosts).into(), (*each).into())).await),
            Step::Settle(n, fate) => self.settle(*n, fate).await,
            Step::Commit => {
                assert!(self.store().commit().await.unwrap().closes());
            }
            Step::Close => {
                self.store().close(None).await.unwrap();
                self.open().await;
            }
            Step::Depth(depth) => {
                self.store().close(None).await.unwrap();
                self.bed.verified();
                self.bed.depth = Some(u32::from(*depth)).filter(|d| *d < 4);
                self.open().await;
            }
            Step::Crash => {
                self.store().crash().await;
                self.open().await;
            }
            Step::DieAt(stage) => {
                let stage = [Stage::Before, Stage::Appended, Stage::Recorded, Stage::Committed][usize::from(stage - 1)];
                self.store().shared.die_at.store(stage as u8, Ordering::SeqCst);
                // Nothing to commit: nothing to die of.
                if self.store().commit().await.is_ok() {
                    self.store().crash().await;
                }
                gone(self.store()).await;
                self.open().await;
            }
        }
    }

    /// Works everything off, then compares the sinks with the entries.
    async fn finish(&mut self) {
        self.step(&Step::Depth(4)).await;
        while self.next_row <= 30 {
            self.offer(5).await;
        }
        loop {
            let all = LeaseRequest { sweep: true, now: Wall(now().0 + 100), ..want(100, 100) };
            let drained = self.lease(all).await;
            if self.leased.is_empty() {
                assert!(drained);
                break;
            }
            while !self.leased.is_empty() {
                self.settle(0, &Fate::Result(1)).await;
            }
        }
        let account = self.store().close(Some(0)).await.unwrap();
        assert!(account.closes() && account.pending == 0, "{account}");
        assert_eq!(self.store().cut(), 0);
        self.bed.verified();
        self.compare(account);
    }

    fn compare(&self, account: crate::events::Account) {
        let mut titles: BTreeMap<(u64, String), Vec<String>> = BTreeMap::new();
        for line in self.bed.text("results").lines() {
            let v: Value = serde_json::from_str(line).unwrap();
            let key = (v["_row"].as_u64().unwrap(), v["_url"].as_str().unwrap().to_owned());
            titles.entry(key).or_default().push(v["title"].as_str().unwrap().to_owned());
        }
        let mut skipped: BTreeMap<(u64, String), Vec<String>> = BTreeMap::new();
        for line in self.bed.text("skipped").lines() {
            let v: Value = serde_json::from_str(line).unwrap();
            let key = (v["_row"].as_u64().unwrap(), v["_url"].as_str().unwrap().to_owned());
            skipped.entry(key).or_default().push(v["reason"].as_str().unwrap().to_owned());
        }
        let conn = rusqlite::Connection::open(self.bed.dir().join("state.db")).unwrap();
        let mut entries = conn.prepare("SELECT row, url, fate, (SELECT code FROM reason r WHERE r.id = fate) FROM entry").unwrap();
        let entries = entries
            .query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?, r.get::<_, Option<String>>(3)?)));
        let (mut results, mut rows) = (0, 0);
        for entry in entries.unwrap() {
            let (row, url, fate, reason) = entry.unwrap();
            let key = (row.cast_unsigned(), url);
            if fate == 1 {
                results += 1;
                let got = titles.remove(&key).unwrap_or_default();
                rows += got.len() as u64;
                let got: Vec<&str> = got.iter().map(String::as_str).collect();
                assert!(matches!(&got[..], [] | ["whole"] | ["first", "second"]), "{key:?} {got:?}");
            } else {
                // Rows of finished pages stay delivered where a later page is skipped.
                if let Some(got) = titles.remove(&key) {
                    assert_eq!(got, ["first"]);
                    rows += 1;
                }
                assert_eq!(skipped.get_mut(&key).and_then(Vec::pop), reason, "{key:?}");
            }
        }
        assert!(titles.is_empty(), "rows of nobody: {titles:?}");
        assert!(skipped.values().all(Vec::is_empty), "records of nobody: {skipped:?}");
        assert_eq!((account.results, account.rows), (results, rows));
    }
}

/// `GLEANER_MODEL_CASES=5000` for a long run.
fn config() -> ProptestConfig {
    let cases = std::env::var("GLEANER_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48);
    ProptestConfig { cases, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_entry_ends_in_the_sinks_exactly_once(steps in steps(), codec in prop_oneof![Just(Codec::Plain), Just(Codec::Gzip), Just(Codec::Zstd)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let bed = Bed { flush: Duration::from_mins(1), ..Bed::new(SinkFormat::Jsonl, codec) };
            let mut world = World { bed, store: None, encoder: None, leased: Vec::new(), next_row: 1 };
            world.open().await;
            for step in &steps {
                world.step(step).await;
            }
            world.finish().await;
        });
    }
}
