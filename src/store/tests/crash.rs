//! Deaths between the steps of a commit, and writes that fail.

use super::*;

const STAGES: [Stage; 4] = [Stage::Before, Stage::Appended, Stage::Recorded, Stage::Committed];

#[tokio::test]
async fn a_death_at_any_step_of_a_commit_loses_and_doubles_nothing() {
    for codec in [Codec::Plain, Codec::Gzip] {
        for stage in STAGES {
            let bed = Bed::new(SinkFormat::Jsonl, codec);
            let (store, _) = bed.open();
            let encoder = columns(&store).await;
            store.offer(seeds(10), mark("10", false)).await.unwrap();
            let leases = lease_all(&store).await;
            store.settle(leases[..3].iter().map(|l| result(&encoder, l)).collect()).await.unwrap();
            store.commit().await.unwrap();
            let size = bed.size("results");
            store.settle(leases[3..6].iter().map(|l| result(&encoder, l)).collect()).await.unwrap();
            store.offer(vec![seed(11, "http://h1/p1")], mark("11", true)).await.unwrap();
            die_at(&store, stage).await;
            drop(store);

            let (store, opened) = bed.open();
            let committed = stage == Stage::Committed;
            let cut = matches!(stage, Stage::Appended | Stage::Recorded);
            assert_eq!(opened.notices.len(), if cut { 2 } else { 0 }, "{stage:?} {:?}", opened.notices);
            assert_eq!(opened.input.as_ref().unwrap().position, if committed { "11" } else { "10" });
            assert_eq!(opened.account.results, if committed { 6 } else { 3 });
            assert_eq!(bed.size("results") == size, !committed);
            assert!(opened.account.closes());
            if !committed {
                store.offer(vec![seed(11, "http://h1/p1")], mark("11", true)).await.unwrap();
            }
            let encoder = columns(&store).await;
            let rest: Vec<_> = lease_all(&store).await.iter().map(|l| result(&encoder, l)).collect();
            store.settle(rest).await.unwrap();
            let account = store.close(Some(0)).await.unwrap();
            assert_eq!(account.to_string(), "inputs 11 + discovered 0 = 10 results + 1 skipped + 0 pending");
            let mut rows: Vec<u64> = bed.values("results", "_row").iter().map(|v| v.as_u64().unwrap()).collect();
            rows.sort_unstable();
            assert_eq!(rows, (1..=10).collect::<Vec<_>>());
            assert_eq!(bed.values("skipped", "_row"), [11]);
            bed.verified();
        }
    }
}

#[tokio::test]
async fn a_recovery_that_dies_is_done_again() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(2), None).await.unwrap();
    let leases = lease_all(&store).await;
    store.settle(vec![result(&encoder, &leases[0])]).await.unwrap();
    die_at(&store, Stage::Appended).await;
    for _ in 0..3 {
        let (store, opened) = bed.open();
        assert_eq!((opened.account.inputs, bed.size("results")), (0, 0));
        store.crash().await;
    }
}

#[tokio::test]
async fn dropped_handles_commit_and_do_not_count_as_a_clean_end() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(2), None).await.unwrap();
    let leases = lease_all(&store).await;
    store.settle(vec![result(&encoder, &leases[0])]).await.unwrap();
    let dir = bed.dir();
    drop(store);
    while read::status(&dir).unwrap().unwrap().running.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let view = read::status(&dir).unwrap().unwrap();
    assert_eq!((view.account.results, view.clean), (1, false));
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_ends_the_store_and_the_next_run_goes_on() {
    // Writing beyond the limit gives EFBIG where SIGXFSZ is ignored; a sink on /dev/full is a device and refused before.
    let bed = Bed::jsonl();
    let mut config = bed.config();
    config.skipped = None;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    config.results.place = SinkPlace::Stdout;
    config.stdout = Some(full);
    let (store, _) = open(config, Arc::new(SystemClock::new())).unwrap();
    let encoder = columns(&store).await;
    store.offer(seeds(1), mark("1", true)).await.unwrap();
    store.commit().await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    let Err(StoreError::Io { path, source }) = store.commit().await else { panic!() };
    assert_eq!((path.to_str(), source.kind()), (Some("stdout"), std::io::ErrorKind::StorageFull));
    assert!(matches!(store.settle(vec![]).await, Err(StoreError::Io { .. })));
    gone(&store).await;
    let view = read::status(&bed.dir()).unwrap().unwrap();
    assert_eq!((view.account.results, view.account.pending), (0, 1));
}

/// What a killed process does: takes up the input where the store says, offers and settles as fast as it can.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn child_that_is_killed() {
    let Ok(root) = std::env::var("GLEANER_TEST_KILLED") else { return };
    let codec = if root.ends_with("gz") { Codec::Gzip } else { Codec::Plain };
    let bed = Bed { flush: Duration::from_millis(20), ..Bed::new(SinkFormat::Jsonl, codec) };
    let under = |mut config: StoreConfig| {
        let root = PathBuf::from(&root);
        config.dir = Some(root.join("state"));
        config.results.place = SinkPlace::File(root.join("results"));
        config.skipped.as_mut().unwrap().place = SinkPlace::File(root.join("skipped"));
        config
    };
    let (store, opened) = open(under(bed.config()), Arc::new(SystemClock::new())).unwrap();
    assert!(opened.account.closes());
    let encoder = columns(&store).await;
    let mut row: u64 = opened.input.map_or(1, |m| m.position.parse().unwrap());
    let last: u64 = 4000;
    loop {
        if row <= last {
            let offers = (row..row + 40).map(|r| (r, r - u64::from(r % 10 == 0)));
            let offers = offers.map(|(r, page)| seed(r, &format!("http://h{}/{page}", page % 7))).collect();
            row += 40;
            store.offer(offers, mark(&row.to_string(), row > last)).await.unwrap();
        }
        let leased = store.lease(want(3, 9)).await.unwrap();
        let taken: Vec<_> = leased.hosts.into_iter().flat_map(|h| h.entries).collect();
        if taken.is_empty() && row > last && leased.drained {
            break;
        }
        for l in &taken {
            let fate = match l.row % 9 {
                0 => skip(&encoder, l, Reason::Http(404)),
                1 if l.state.is_none() => Settle::Later { entry: l.entry, due: Wall(1), state: "{}".into(), sweep: false },
                _ => result(&encoder, l),
            };
            store.settle(vec![fate]).await.unwrap();
        }
        if row % 400 == 1 {
            store.commit().await.unwrap();
        }
    }
    store.close(Some(1)).await.unwrap();
}

/// The child's program, on a state below `root`.
fn child(root: &Path, wrap: &str) -> std::process::Child {
    std::process::Command::new("sh")
        .args(["-c", &format!("{wrap} exec \"$0\" --exact store::tests::crash::child_that_is_killed --ignored")])
        .arg(std::env::current_exe().unwrap())
        .env("GLEANER_TEST_KILLED", root)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Every record of the child's input is in one of its sinks, once.
fn nothing_lost_or_doubled(root: &Path, codec: Codec) {
    let state = root.join("state");
    assert_eq!(read::verify(&state).unwrap(), Some(Vec::new()));
    let view = read::status(&state).unwrap().unwrap();
    assert_eq!((view.account.inputs, view.account.pending, view.finished), (4000, 0, Some(1)));
    assert_eq!(view.account.duplicates, 400);
    let bed = Bed::new(SinkFormat::Jsonl, codec);
    std::fs::create_dir_all(bed.path("")).unwrap();
    let mut rows = Vec::new();
    for sink in ["results", "skipped"] {
        std::fs::copy(root.join(sink), bed.path(sink)).unwrap();
        rows.extend(bed.values(sink, "_row").iter().map(|v| v.as_u64().unwrap()));
    }
    rows.sort_unstable();
    assert!(rows.into_iter().eq(1..=4000));
}

#[test]
fn a_process_killed_again_and_again_loses_and_doubles_nothing() {
    for (name, codec) in [("plain", Codec::Plain), ("gz", Codec::Gzip)] {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join(name);
        let mut kills = 0;
        loop {
            let mut running = child(&root, "");
            // Ever later, so that some die while they open, some in a commit, and the last one ends.
            std::thread::park_timeout(Duration::from_millis(15 + kills * 13));
            if running.try_wait().unwrap().is_some_and(|s| s.success()) {
                break;
            }
            running.kill().unwrap();
            running.wait().unwrap();
            kills += 1;
            assert!(kills < 200);
        }
        println!("{name}: {kills} kills");
        nothing_lost_or_doubled(&root, codec);
    }
}

#[test]
fn a_full_disk_stops_the_run_and_the_next_one_goes_on() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("plain");
    // EFBIG in place of ENOSPC: it needs no file system of its own. In blocks of 512 bytes; the database meets the larger
    // ones, a sink the smaller ones.
    for blocks in [40, 90, 150, 300, 500, 700, 900] {
        let status = child(&root, &format!("trap '' XFSZ; ulimit -f {blocks};")).wait().unwrap();
        println!("{blocks} blocks: {status}");
        if let Ok(Some(view)) = read::status(&root.join("state")) {
            assert!(view.account.closes());
        }
    }
    assert!(child(&root, "").wait().unwrap().success());
    nothing_lost_or_doubled(&root, Codec::Plain);
}

#[test]
fn a_rollback_journal_serves_where_a_write_ahead_log_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let conn = super::super::schema::open(&dir.path().join("state.db"), super::super::schema::Durability::Rollback).unwrap();
    super::super::schema::create(&conn).unwrap();
    assert_eq!(conn.pragma_query_value(None, "journal_mode", |r| r.get::<_, String>(0)).unwrap(), "delete");
}
