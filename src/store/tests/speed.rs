//! Figures, by `cargo test --release --lib store::tests::speed -- --ignored --nocapture --test-threads 1`.

use super::*;
use crate::clock::{Clock as _, SystemClock};

/// CPU time of this process, in microseconds (proc(5), `schedstat` of every thread would be finer; ticks do).
fn cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

async fn fill(bed: &Bed, n: u64, settle: u64, row_bytes: usize) {
    let (store, _) = bed.open();
    columns(&store).await;
    let clock = SystemClock::new();
    let offers: Vec<Offer> = (1..=n).map(|i| seed(i, &format!("http://host{}.example/some/path/page-{i}?x={i}", i % 50))).collect();
    let (cpu, wall) = (cpu_us(), clock.now());
    let mut offers = offers.into_iter();
    loop {
        let batch: Vec<Offer> = offers.by_ref().take(1000).collect();
        if batch.is_empty() {
            break;
        }
        store.offer(batch, mark("x", false)).await.unwrap();
    }
    store.commit().await.unwrap();
    let us = (cpu_us() - cpu) / n as f64;
    println!("offer: {us:.2} us CPU each, {:.2} s wall for {n}", (clock.now() - wall).as_secs_f64());
    let row = vec![b'x'; row_bytes];
    let (cpu, wall) = (cpu_us(), clock.now());
    let mut left = settle;
    let mut hosts = Vec::new();
    while left > 0 {
        let leased = store.lease(LeaseRequest { hosts: hosts.clone(), ..want(50, 40) }).await.unwrap();
        hosts = leased.hosts.iter().map(|h| h.id).collect();
        let entries: Vec<_> = leased.hosts.into_iter().flat_map(|h| h.entries).take(usize::try_from(left).unwrap()).collect();
        assert!(!entries.is_empty());
        left -= entries.len() as u64;
        for part in entries.chunks(64) {
            let batch = part.iter().map(|l| Settle::Result {
                entry: l.entry,
                rows: EncodedRows { bytes: row.clone(), count: 1 },
                discovered: vec![],
            });
            store.settle(batch.collect()).await.unwrap();
        }
    }
    store.commit().await.unwrap();
    let us = (cpu_us() - cpu) / settle as f64;
    println!("lease + settle: {us:.2} us CPU each, {:.2} s wall for {settle}", (clock.now() - wall).as_secs_f64());
    store.close(None).await.unwrap();
}

#[tokio::test]
#[ignore = "a figure, not a check"]
async fn offers_and_settles() {
    fill(&Bed::jsonl(), 100_000, 100_000, 1024).await;
}

#[tokio::test]
#[ignore = "a figure, not a check"]
async fn a_crawl_with_20_new_links_a_page() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let pages: u64 = 20_000;
    let (mut settled, mut next, mut links_us) = (0, 0u64, 0.0);
    let (cpu, wall) = (cpu_us(), SystemClock::new());
    while settled < pages {
        let leased = store.lease(want(50, 40)).await.unwrap();
        let mut batch = Vec::new();
        let making = cpu_us();
        for l in leased.hosts.iter().flat_map(|h| &h.entries) {
            let links = (0..20).map(|_| {
                next += 1;
                link(l.entry, l.depth + 1, &format!("http://host{}.example/some/path/page-{next}", next % 50))
            });
            let rows = EncodedRows { bytes: vec![b'x'; 1024], count: 1 };
            batch.push(Settle::Result { entry: l.entry, rows, discovered: links.collect() });
        }
        links_us += cpu_us() - making;
        settled += batch.len() as u64;
        store.settle(batch).await.unwrap();
    }
    store.commit().await.unwrap();
    let us = (cpu_us() - cpu - links_us) / settled as f64;
    println!("crawl: {us:.0} us CPU a page, {:.2} s wall for {settled} pages, {next} links", wall.now().0 as f64 / 1e9);
}

#[tokio::test]
#[ignore = "a figure, not a check"]
async fn open_of_a_large_state() {
    let bed = Bed::jsonl();
    fill(&bed, 1_000_000, 500_000, 64).await;
    for _ in 0..3 {
        let clock = SystemClock::new();
        let (store, opened) = bed.open();
        let at_open = clock.now();
        let leased = store.lease(want(50, 8)).await.unwrap();
        println!(
            "open of {} entries: {:.1} ms, with the first {} leases {:.1} ms",
            opened.account.inputs,
            at_open.0 as f64 / 1e6,
            leased.hosts.iter().map(|h| h.entries.len()).sum::<usize>(),
            clock.now().0 as f64 / 1e6
        );
        store.close(None).await.unwrap();
    }
}
