//! What is found at open: locks, sinks that changed, jobs that changed, `--fresh`.

use super::*;
use std::fs;
use std::io::Write as _;

/// A state with 5 results and 1 skipped record, ended cleanly.
async fn done() -> Bed {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(6), mark("6", true)).await.unwrap();
    let leases = lease_all(&store).await;
    let mut batch: Vec<_> = leases[1..].iter().map(|l| result(&encoder, l)).collect();
    batch.push(skip(&encoder, &leases[0], Reason::Http(404)));
    store.settle(batch).await.unwrap();
    store.close(Some(1)).await.unwrap();
    bed
}

#[tokio::test]
async fn a_state_in_use_names_its_holder_and_touches_nothing() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let e = bed.refused();
    let OpenError::InUse { pid, since, .. } = &e else { panic!("{e}") };
    assert_eq!((*pid, since.is_some(), e.exit_code()), (Some(std::process::id()), true, 73));
    assert!(e.to_string().contains(&format!("is in use by process {} (started 20", std::process::id())), "{e}");
    // Another state that names the same sink.
    let mut config = bed.config();
    config.dir = Some(bed.root.path().join("other"));
    let e = bed.refuse(config);
    assert!(matches!(&e, OpenError::InUse { what, .. } if *what == bed.path("results")), "{e}");
    assert_eq!(e.exit_code(), 73);
    store.close(None).await.unwrap();
    bed.open();
}

#[tokio::test]
async fn a_lost_sink_is_refused_with_what_is_gone() {
    let bed = done().await;
    let whole = fs::read(bed.path("results")).unwrap();
    fs::write(bed.path("results"), &whole[..whole.len() - 3]).unwrap();
    let e = bed.refused();
    assert!(matches!(e, OpenError::SinkLost { records: 5, missing: false, .. }), "{e}");
    fs::remove_file(bed.path("results")).unwrap();
    let e = bed.refused();
    assert!(e.to_string().ends_with("results is missing: 5 committed records are gone from it"), "{e}");
    assert_eq!(e.exit_code(), 65);
    assert!(!exists(&bed.path("results")), "nothing is made in its place");
    fs::write(bed.path("results"), whole).unwrap();
    bed.open();
}

#[tokio::test]
async fn an_edited_sink_is_refused() {
    let bed = done().await;
    let mut whole = fs::read(bed.path("results")).unwrap();
    let at = whole.len() - 5;
    whole[at] ^= 1;
    fs::write(bed.path("results"), &whole).unwrap();
    assert!(matches!(bed.refused(), OpenError::SinkEdited { .. }));
    assert!(read::verify(&bed.dir()).unwrap().unwrap()[0].contains("are not what was written"));
}

#[tokio::test]
async fn after_a_kill_an_edit_at_the_head_is_seen_too() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(200), mark("200", true)).await.unwrap();
    for lease in lease_all(&store).await {
        store.settle(vec![result(&encoder, &lease)]).await.unwrap();
        store.commit().await.unwrap();
    }
    store.crash().await;
    let mut whole = fs::read(bed.path("results")).unwrap();
    assert!(whole.len() > 8192);
    whole[5] ^= 1;
    fs::write(bed.path("results"), &whole).unwrap();
    assert!(matches!(bed.refused(), OpenError::SinkEdited { .. }));
}

#[tokio::test]
async fn a_sink_that_grew_after_a_clean_stop_is_refused_and_kept() {
    let bed = done().await;
    fs::OpenOptions::new().append(true).open(bed.path("results")).unwrap().write_all(b"mine\n").unwrap();
    let size = bed.size("results");
    let e = bed.refused();
    assert!(matches!(e, OpenError::SinkGrown { bytes: 5, .. }), "{e}");
    assert_eq!((bed.size("results"), e.exit_code()), (size, 65));
}

#[tokio::test]
async fn a_sink_of_no_state_is_refused_and_an_empty_one_is_used() {
    let bed = Bed::jsonl();
    fs::create_dir_all(bed.path("")).unwrap();
    fs::write(bed.path("results"), "precious").unwrap();
    let e = bed.refused();
    assert!(matches!(e, OpenError::SinkForeign { .. }) && e.hint().unwrap().contains("--fresh"));
    assert_eq!(bed.text("results"), "precious");
    fs::write(bed.path("results"), "").unwrap();
    bed.open();
}

#[tokio::test]
async fn what_is_no_plain_file_is_refused() {
    let bed = Bed::jsonl();
    fs::create_dir_all(bed.path("results")).unwrap();
    assert!(matches!(bed.refused(), OpenError::SinkKind { what: "a folder", .. }));
    fs::remove_dir(bed.path("results")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bed.path("results"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert!(matches!(bed.refused(), OpenError::SinkKind { what: "a pipe", .. }));
    fs::remove_file(bed.path("results")).unwrap();
    let mut config = bed.config();
    config.skipped = Some(config.results.clone());
    assert!(matches!(bed.refuse(config), OpenError::SinkKind { .. }));
    let mut config = bed.config();
    config.dir = Some("/proc/none/state".into());
    let e = bed.refuse(config);
    assert!(matches!(e, OpenError::Io { .. }) && e.exit_code() == 74, "{e}");
}

#[tokio::test]
async fn a_frozen_key_that_changed_is_named() {
    let bed = done().await;
    let mut config = bed.config();
    config.frozen.insert("input.file".into(), "b.csv".into());
    let e = bed.refuse(config);
    assert!(matches!(&e, OpenError::Frozen { key, .. } if key == "input.file"), "{e}");
    assert!(e.to_string().contains("it was a.csv, it is b.csv"), "{e}");
    let mut config = bed.config();
    config.results.format = SinkFormat::Csv;
    assert!(matches!(bed.refuse(config), OpenError::Frozen { key, .. } if key == "output.results"));
}

#[tokio::test]
async fn a_newer_or_foreign_or_broken_state_is_refused() {
    let bed = done().await;
    let db = bed.dir().join("state.db");
    let version = |v: i64| rusqlite::Connection::open(&db).unwrap().pragma_update(None, "user_version", v).unwrap();
    version(99);
    assert!(matches!(bed.refused(), OpenError::Newer { found: 99, .. }));
    version(0);
    assert!(matches!(bed.refused(), OpenError::Damaged { .. }));
    fs::write(&db, vec![7; 8192]).unwrap();
    let e = bed.refused();
    assert!(matches!(e, OpenError::Damaged { .. }) && e.exit_code() == 65, "{e}");
}

#[tokio::test]
async fn fresh_renames_outputs_and_state_and_starts_over() {
    let bed = done().await;
    let before = bed.text("results");
    let mut config = bed.config();
    config.fresh = true;
    let (store, opened) = open(config, Arc::new(SystemClock::new())).unwrap();
    assert!(!opened.resumed && opened.account.inputs == 0 && opened.notices.len() == 2, "{:?}", opened.notices);
    assert_eq!((bed.size("results"), bed.size("skipped")), (0, 0));
    store.close(None).await.unwrap();
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let kept = names(&bed.path(""));
    assert_eq!(kept.len(), 4, "{kept:?}");
    let old = kept.iter().find(|n| n.starts_with("results.2")).unwrap();
    assert_eq!(fs::read_to_string(bed.path(old)).unwrap(), before);
    assert!(names(&bed.dir()).iter().any(|n| n.starts_with("state.2") && n.ends_with("Z.db")));
    // Without any earlier state it works too, and takes a foreign output out of the way.
    let bed = Bed::jsonl();
    fs::create_dir_all(bed.path("")).unwrap();
    fs::write(bed.path("results"), "precious").unwrap();
    let mut config = bed.config();
    config.fresh = true;
    open(config, Arc::new(SystemClock::new())).unwrap();
    assert_eq!(names(&bed.path("")).len(), 3);
}

#[tokio::test]
async fn fresh_leaves_a_running_job_alone() {
    let bed = Bed::jsonl();
    let (_store, _) = bed.open();
    let mut config = bed.config();
    config.fresh = true;
    assert!(matches!(bed.refuse(config), OpenError::InUse { .. }));
}

/// Another job with the same outputs; it ends with two rows.
async fn another_on_the_same_outputs(bed: &Bed) -> String {
    let mut config = bed.config();
    config.dir = Some(bed.root.path().join("other"));
    let (store, _) = open(config, Arc::new(SystemClock::new())).unwrap();
    let encoder = columns(&store).await;
    store.offer(seeds(2), mark("2", true)).await.unwrap();
    store.settle(lease_all(&store).await.iter().map(|l| result(&encoder, l)).collect()).await.unwrap();
    store.close(Some(0)).await.unwrap();
    bed.text("results")
}

#[tokio::test]
async fn a_job_that_committed_nothing_keeps_its_hands_off_anothers_results() {
    for format in [SinkFormat::Jsonl, SinkFormat::Csv] {
        // Killed before it wrote anything, its list changed since or not; killed with a header; the other's file is in its place.
        for (list, header, replaced) in [("a.csv", false, false), ("b.csv", false, false), ("a.csv", true, true), ("b.csv", true, true)] {
            let bed = Bed::new(format, Codec::Plain);
            let (store, _) = bed.open();
            if header {
                columns(&store).await;
                store.commit().await.unwrap();
            }
            store.crash().await;
            if replaced {
                fs::remove_file(bed.path("results")).unwrap();
                fs::remove_file(bed.path("skipped")).unwrap();
            }
            let rows = another_on_the_same_outputs(&bed).await;
            let mut config = bed.config();
            config.frozen.insert("input.file".into(), list.into());
            let e = bed.refuse(config);
            assert!(matches!(e, OpenError::SinkForeign { .. }), "{format:?} {list} {header} {replaced}: {e}");
            assert_eq!(bed.text("results"), rows, "{list} {header} {replaced}");
        }
    }
}

#[tokio::test]
async fn what_a_cured_job_takes_away_is_locked_and_its_own() {
    use std::os::unix::fs::MetadataExt as _;
    let bed = Bed::new(SinkFormat::Csv, Codec::Plain);
    let inode = || fs::metadata(bed.path("results")).unwrap().ino();
    let cured = || {
        let mut config = bed.config();
        config.frozen.insert("input.file".into(), "b.csv".into());
        config
    };
    for clean in [true, false] {
        let (store, _) = bed.open();
        columns(&store).await;
        if clean {
            store.close(None).await.unwrap();
        } else {
            die_at(&store, Stage::Recorded).await;
        }
        let (size, was) = (bed.size("results"), inode());
        assert!(size > 0);
        let held = fs::File::open(bed.path("results")).unwrap();
        held.lock().unwrap();
        assert!(matches!(bed.refuse(cured()), OpenError::InUse { .. }));
        drop(held);
        assert_eq!((bed.size("results"), inode()), (size, was), "another job holds it");
        if clean {
            fs::OpenOptions::new().append(true).open(bed.path("results")).unwrap().write_all(b"mine\n").unwrap();
            assert!(matches!(bed.refuse(cured()), OpenError::SinkForeign { .. }));
            fs::OpenOptions::new().write(true).open(bed.path("results")).unwrap().set_len(size).unwrap();
        }
        let (store, opened) = open(cured(), Arc::new(SystemClock::new())).unwrap();
        assert_eq!((opened.resumed, bed.size("results"), inode()), (false, 0, was));
        store.crash().await;
        fs::remove_dir_all(bed.dir()).unwrap();
    }
}
