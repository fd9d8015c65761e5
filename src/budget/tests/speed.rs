//! What one call costs: `cargo test --release budget::tests::speed -- --ignored --nocapture`.

use super::*;
use std::sync::atomic::AtomicBool;

/// One request after the other: the last one's end and the next one's grant in one call, 0.2 s of the ledger's time apart, so that
/// windows are full.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "it measures real time")]
fn cost_of_a_sync() {
    const CALLS: u32 = 20_000;
    for (what, rates, keys, others, writers) in [
        ("10/1s", vec!["10/1s"], 1, 0, 0),
        ("5000/h and 100/m, one key", vec!["50000/1h", "1000/1m"], 1, 0, 0),
        ("the same, two more processes alive", vec!["50000/1h", "1000/1m"], 1, 2, 0),
        ("the same, 1000 keys in turn", vec!["50000/1h", "1000/1m"], 1000, 2, 0),
        ("the same, one key, two more that write every 1 ms", vec!["50000/1h", "1000/1m"], 1, 0, 2),
    ] {
        let bed = Bed::new();
        let _alive: Vec<Ledger> = (0..others).map(|_| bed.open(&rates)).collect();
        let stop = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            for _ in 0..writers {
                let mut other = bed.open(&rates);
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        let granted = take(&mut other, "host", 1).granted;
                        end(&mut other, granted, ARRIVED);
                        std::thread::park_timeout(ms(1));
                    }
                });
            }
            let mut ledger = bed.open(&rates);
            let (mut ended, mut times) = (Vec::new(), Vec::new());
            for i in 0..CALLS {
                bed.advance(ms(200));
                let key = if keys == 1 { "host".to_owned() } else { format!("host-{}.example.com", i % keys) };
                let start = std::time::Instant::now();
                let mut answer = ledger.sync(&mut ended, &[Want { key: &key, weight: 1, count: 1 }]).unwrap();
                times.push(start.elapsed());
                ended.extend(answer.remove(0).granted.into_iter().map(|g| (g, ARRIVED)));
            }
            stop.store(true, Ordering::SeqCst);
            times
        });
        let mean = times.iter().sum::<Duration>() / CALLS;
        let mut sorted = times;
        sorted.sort_unstable();
        println!("{what}: mean {mean:?}, median {:?}, 99 % {:?}, longest {:?}", sorted[10_000], sorted[19_800], sorted[19_999]);
    }
}
