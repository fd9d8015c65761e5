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
