//! Links deeper than the crawl goes, and what becomes of them.

use super::*;

fn rows() -> EncodedRows {
    EncodedRows::default()
}

/// Of the first host by its number, as entries of it may be leased already.
async fn all(store: &Store) -> Vec<Lease> {
    let leased = store.lease(LeaseRequest { hosts: vec![HostId(1)], ..want(99, 9999) }).await.unwrap();
    leased.hosts.into_iter().flat_map(|h| h.entries).collect()
}

async fn page(store: &Store, lease: &Lease, urls: &[&str]) -> Settled {
    let discovered = urls.iter().map(|u| link(lease.entry, lease.depth + 1, u)).collect();
    store.settle(vec![Settle::Result { entry: lease.entry, rows: rows(), discovered }]).await.unwrap()
}

async fn leased(store: &Store) -> Vec<(String, u32)> {
    all(store).await.into_iter().map(|l| (l.url, l.depth)).collect()
}

/// A crawl of one level: the seed, `http://h/a`, and what was cut on that page.
async fn one_level(bed: &mut Bed, cut: &[&str]) -> (Store, Lease, Settled) {
    bed.depth = Some(1);
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(7, "http://h/")], None).await.unwrap();
    let root = all(&store).await.remove(0);
    page(&store, &root, &["http://h/a"]).await;
    let a = all(&store).await.remove(0);
    let settled = page(&store, &a, cut).await;
    (store, a, settled)
}

#[tokio::test]
async fn links_too_deep_are_kept_and_become_entries_when_a_run_goes_deeper() {
    let mut bed = Bed::jsonl();
    let (store, _, settled) = one_level(&mut bed, &["http://h/x", "http://other/y", "http://h/x", "http://h/"]).await;
    assert_eq!((settled, store.cut()), (Settled { new: 0, known: 2, cut: 2 }, 2));
    let account = store.close(Some(0)).await.unwrap();
    assert_eq!(account.to_string(), "inputs 1 + discovered 1 = 2 results + 0 skipped + 0 pending");
    bed.verified();
    // The same depth, and a smaller one: they stay, and the job stays finished.
    for depth in [1, 0, 1] {
        bed.depth = Some(depth);
        let (store, opened) = bed.open();
        let none = store.lease(want(9, 9)).await.unwrap();
        assert_eq!((opened.finished, none.drained, none.hosts.len(), store.cut()), (Some(0), true, 0, 2));
        store.close(Some(0)).await.unwrap();
    }
    bed.depth = Some(2);
    let (store, _) = bed.open();
    let got = all(&store).await;
    let shown: Vec<_> = got.iter().map(|l| (l.url.as_str(), l.depth, l.row, l.via.as_deref(), &l.columns["id"])).collect();
    let id = Value::from(7);
    assert_eq!(shown, [("http://h/x", 2, 7, Some("http://h/a"), &id), ("http://other/y", 2, 7, Some("http://h/a"), &id)]);
    assert_eq!(store.cut(), 0);
    assert_eq!(page(&store, &got[0], &["http://h/deep"]).await.cut, 1);
    let account = store.close(None).await.unwrap();
    assert_eq!(account.to_string(), "inputs 1 + discovered 3 = 3 results + 0 skipped + 1 pending");
    bed.verified();
    bed.depth = None;
    let (store, opened) = bed.open();
    assert_eq!(opened.finished, None);
    assert_eq!(leased(&store).await.len(), 2);
}

#[tokio::test]
async fn a_crash_while_they_become_entries_loses_none() {
    let mut bed = Bed::jsonl();
    let urls: Vec<String> = (0..2500).map(|i| format!("http://h{}/{i}", i % 5)).collect();
    let (store, ..) = one_level(&mut bed, &["http://h/0", "http://h/1", "http://h/2"]).await;
    store.close(None).await.unwrap();
    bed.depth = Some(2);
    let (store, _) = bed.open();
    for (at, l) in all(&store).await.iter().enumerate() {
        let part: Vec<&str> = urls.iter().skip(at).step_by(3).map(String::as_str).collect();
        assert_eq!(page(&store, l, &part).await.cut, part.len() as u64);
    }
    store.close(None).await.unwrap();
    bed.depth = None;
    let (store, _) = bed.open();
    // The first step is of two pages; it becomes durable, the second does not.
    let first = store.lease(want(9, 1)).await.unwrap();
    assert!(first.unfinished && !first.drained && first.hosts.iter().all(|h| h.more));
    assert_eq!(store.commit().await.unwrap().pending, 1667);
    let second = store.lease(want(9, 1)).await.unwrap();
    assert!(!second.unfinished && store.cut() == 0);
    store.crash().await;
    let (store, opened) = bed.open();
    assert_eq!((opened.account.pending, store.cut()), (1667, 833));
    let mut all: Vec<_> = leased(&store).await.into_iter().map(|(u, _)| u).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2500);
    let account = store.close(None).await.unwrap();
    assert!(account.closes() && account.pending == 2500);
    bed.verified();
}

#[tokio::test]
async fn a_shorter_way_to_a_page_lets_in_what_was_cut_on_it() {
    let mut bed = Bed::jsonl();
    bed.depth = Some(2);
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = all(&store).await.remove(0);
    store
        .settle(vec![Settle::Page {
            entry: root.entry,
            rows: rows(),
            state: "1".into(),
            discovered: vec![link(root.entry, 1, "http://h/a")],
        }])
        .await
        .unwrap();
    let a = all(&store).await.remove(0);
    page(&store, &a, &["http://h/b"]).await;
    let b = all(&store).await.remove(0);
    assert_eq!(page(&store, &b, &["http://h/c", "http://h/d"]).await.cut, 2);
    assert_eq!(leased(&store).await, []);
    // The seed's second page links to b: b is one link away, its links are two.
    let settled = page(&store, &root, &["http://h/b"]).await;
    assert_eq!((settled, store.cut()), (Settled { new: 0, known: 1, cut: 0 }, 0));
    assert_eq!(leased(&store).await, [("http://h/c".into(), 2), ("http://h/d".into(), 2)]);
    assert!(store.close(None).await.unwrap().closes());
    bed.verified();
}

#[tokio::test]
async fn a_link_cut_on_two_pages_stands_under_the_nearer_one() {
    let mut bed = Bed::jsonl();
    bed.depth = Some(2);
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = all(&store).await.remove(0);
    page(&store, &root, &["http://h/a", "http://h/b"]).await;
    let (a, b) = {
        let l = all(&store).await;
        (l[0].clone(), l[1].clone())
    };
    page(&store, &a, &["http://h/c"]).await;
    let c = all(&store).await.remove(0);
    page(&store, &c, &["http://h/x"]).await;
    store.close(None).await.unwrap();
    // This run goes less deep: b's links are cut too, x among them.
    bed.depth = Some(1);
    let (store, _) = bed.open();
    assert_eq!(all(&store).await[0].entry, b.entry);
    assert_eq!(page(&store, &b, &["http://h/x", "http://h/y"]).await, Settled { new: 0, known: 1, cut: 1 });
    store.close(None).await.unwrap();
    bed.depth = Some(2);
    let (store, _) = bed.open();
    let mut found = leased(&store).await;
    found.sort();
    assert_eq!(found, [("http://h/x".into(), 2), ("http://h/y".into(), 2)]);
    store.close(None).await.unwrap();
    bed.verified();
}

#[tokio::test]
async fn a_seed_or_a_redirect_takes_a_link_that_was_cut() {
    let mut bed = Bed::jsonl();
    let (store, ..) = one_level(&mut bed, &["http://h/x", "http://h/y"]).await;
    let offered = store.offer(vec![seed(8, "http://h/x")], None).await.unwrap();
    assert!(matches!(offered[0], Offered::New(None)));
    let x = all(&store).await.remove(0);
    assert_eq!((x.row, x.depth, x.via.as_deref(), store.cut()), (8, 0, None, 1));
    let key = url_offer("http://h/y").key;
    assert_eq!(store.claim(key, x.entry).await.unwrap(), Claim::Yours);
    assert_eq!(store.cut(), 0);
    let offered = store.offer(vec![seed(9, "http://h/y")], None).await.unwrap();
    assert!(matches!(offered[0], Offered::Known { first_row: 8, .. }));
    store.close(None).await.unwrap();
    bed.verified();
}

#[tokio::test]
async fn a_shorter_way_found_while_a_page_is_leased_counts_for_its_links() {
    let mut bed = Bed::jsonl();
    bed.depth = Some(2);
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = all(&store).await.remove(0);
    let first = vec![link(root.entry, 1, "http://h/a")];
    store.settle(vec![Settle::Page { entry: root.entry, rows: rows(), state: "1".into(), discovered: first }]).await.unwrap();
    let a = all(&store).await.remove(0);
    page(&store, &a, &["http://h/b"]).await;
    let b = all(&store).await.remove(0);
    assert_eq!(b.depth, 2);
    page(&store, &root, &["http://h/b"]).await;
    assert_eq!(page(&store, &b, &["http://h/c"]).await, Settled { new: 1, known: 0, cut: 0 });
    assert_eq!(leased(&store).await, [("http://h/c".into(), 2)]);
    store.close(None).await.unwrap();
    bed.verified();
}
