//! What one call costs; `cargo test --release budget::tests::speed -- --ignored --nocapture`.

use super::*;
use crate::clock::SystemUptime;

#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "it measures real time")]
fn cost_of_a_sync() {
    let bed = Bed::new();
    let clock: Arc<dyn Uptime> = Arc::new(SystemUptime::new().unwrap());
    for (what, rates, keys, others) in [
        ("10/1s", vec!["1000000/1s"], 1, 0),
        ("5000/h and 100/min, one key", vec!["5000000/1h", "100000/1m"], 1, 0),
        ("the same, two more processes alive", vec!["5000000/1h", "100000/1m"], 1, 2),
        ("the same, 1000 keys in turn", vec!["5000000/1h", "100000/1m"], 1000, 2),
    ] {
        let rates: Vec<Rate> = rates.iter().map(|r| parse_rate(r).unwrap()).collect();
        let name = format!("b{keys}-{others}-{}", rates.len());
        let config = BudgetConfig { folder: &bed.folder(), name: &name, rates: &rates, burst: Some(1_000_000), share: 1.0 };
        let _more: Vec<Ledger> = (0..others).map(|_| Ledger::open(&config, Arc::clone(&clock)).unwrap()).collect();
        let mut ledger = Ledger::open(&config, Arc::clone(&clock)).unwrap();
        let mut ended: Vec<(Grant, End)> = Vec::new();
        let mut times = Vec::new();
        for i in 0..20_000 {
            let key = format!("host-{}.example.com", i % keys);
            let start = std::time::Instant::now();
            let mut answer = ledger.sync(&mut ended, &[Want { key: &key, weight: 1, count: 1 }]).unwrap();
            times.push(start.elapsed());
            ended.extend(answer.remove(0).granted.into_iter().map(|g| (g, ARRIVED)));
        }
        times.sort_unstable();
        let mean = times.iter().sum::<Duration>() / 20_000;
        println!("{what}: mean {mean:?}, median {:?}, 99 % {:?}, longest {:?}", times[10_000], times[19_800], times[19_999]);
    }
}
