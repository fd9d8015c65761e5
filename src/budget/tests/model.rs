//! Several processes in virtual time, killed and closed at random, against a list of every grant.

use super::*;
use proptest::prelude::*;

const LOST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// What happens to a request, in milliseconds after its grant.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Reaches the server, its headers come back later.
    Answered(u64, u64),
    Unsent(u64),
    /// Ends without an answer; reaches the server up to 5 s after.
    Lost(u64, u64),
}

#[derive(Clone, Debug)]
enum Op {
    Sync { process: usize, key: usize, weight: u32, count: u32, fates: Vec<Fate> },
    Wait(u64),
    Kill(usize),
    Close(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0u64..300, 0u64..300).prop_map(|(a, b)| Fate::Answered(a, a + b)),
        1 => (0u64..4000, 0u64..2000).prop_map(|(a, b)| Fate::Answered(a, a + b)),
        1 => (0u64..1000).prop_map(Fate::Unsent),
        1 => (0u64..1000, 0u64..6000).prop_map(|(a, b)| Fate::Lost(a, b.min(a + 5000))),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let sync = (0usize..3, 0usize..2, 1u32..4, 0u32..6, prop::collection::vec(fate(), 6))
        .prop_map(|(process, key, weight, count, fates)| Op::Sync { process, key, weight, count, fates });
    prop_oneof![
        12 => sync,
        6 => (0u64..400).prop_map(Op::Wait),
        1 => (0u64..12_000).prop_map(Op::Wait),
        1 => (0usize..3).prop_map(Op::Kill),
        1 => (0usize..3).prop_map(Op::Close),
    ]
}

/// One grant as it really was.
struct Truth {
    key: usize,
    weight: u32,
    process: usize,
    fate: Fate,
    granted: Moment,
    /// When the server saw it.
    arrives: Option<Moment>,
    /// Until the ledger is told, or its process found dead.
    in_flight: bool,
    /// As it was told.
    told: Option<Moment>,
}

struct Process {
    ledger: Ledger,
    open: Vec<(usize, Grant)>,
    looked: Option<Moment>,
}

struct World {
    bed: Bed,
    /// Of each process.
    rates: [Vec<&'static str>; 3],
    burst: Option<u32>,
    processes: [Option<Process>; 3],
    truths: Vec<Truth>,
    /// Grants of killed processes that nobody has found yet.
    orphans: Vec<usize>,
    /// GCRA's theoretical arrival time of each key and rate.
    tat: Vec<Vec<u64>>,
}

fn hold(rate: Rate) -> Duration {
    rate.per + Duration::from_nanos(u64::try_from(rate.per.as_nanos()).unwrap().div_ceil(1000))
}

impl World {
    fn rates(&self, process: usize) -> Vec<Rate> {
        self.rates[process].iter().map(|r| parse_rate(r).unwrap()).collect()
    }

    /// How many grants the rules give; for windows below 100.
    fn expected(&mut self, process: usize, key: usize, weight: u32, count: u32) -> usize {
        let (now, rates) = (self.bed.at(), self.rates(process));
        let mut given = 0;
        while given < count {
            let live = |rate: Rate| -> u32 {
                let counts = |t: &&Truth| t.key == key && (t.in_flight || t.told.is_some_and(|u| u + hold(rate) > now));
                self.truths.iter().filter(counts).map(|t| t.weight).sum()
            };
            let steps: Vec<(u64, u64)> = rates.iter().map(|r| step(*r, self.burst)).collect();
            let paced = steps.iter().zip(&self.tat[key]).all(|((t, b), tat)| *tat <= now.0 + (b - b.min(&weight.into())) * t);
            if !paced || rates.iter().any(|r| live(*r) + (given + 1) * weight > r.count) {
                break;
            }
            for (((t, _), tat), r) in steps.iter().zip(&mut self.tat[key]).zip(&rates) {
                *tat = ((*tat).max(now.0) + t * u64::from(weight)).min((now + hold(*r)).0);
            }
            given += 1;
        }
        given as usize
    }

    fn sync(&mut self, p: usize, key: usize, weight: u32, count: u32, fates: &[Fate], exact: bool) {
        let now = self.bed.at();
        if self.processes[p].is_none() {
            let rates = self.rates(p);
            let ledger = Ledger::open(&config(&self.bed.folder(), &rates, self.burst), self.bed.clock()).unwrap();
            self.find_dead(now);
            self.processes[p] = Some(Process { ledger, open: Vec::new(), looked: Some(now) });
        }
        let process = self.processes[p].as_mut().unwrap();
        if process.looked.is_none_or(|at| now - at >= LOOK) {
            process.looked = Some(now);
            self.find_dead(now);
        }
        let process = self.processes[p].as_mut().unwrap();
        let mut ended = Vec::new();
        for (i, grant) in std::mem::take(&mut process.open) {
            let truth = &mut self.truths[i];
            let since = now - truth.granted;
            let (over, end, told) = match truth.fate {
                Fate::Answered(_, b) => (since >= ms(b), End::Arrived { ago: since.saturating_sub(ms(b)) }, Some(truth.granted + ms(b))),
                Fate::Unsent(a) => (since >= ms(a), End::Unsent, None),
                Fate::Lost(a, _) => (since >= ms(a), End::Lost, Some(now + LOST)),
            };
            if over {
                (truth.in_flight, truth.told) = (false, told);
                ended.push((grant, end));
            } else {
                process.open.push((i, grant));
            }
        }
        let want = Want { key: ["x", "y"][key], weight, count };
        let answer = process.ledger.sync(&mut ended, &[want]).unwrap().remove(0);
        assert_eq!(answer.granted.len() < count as usize && weight <= 3, answer.next.is_some());
        assert!(answer.next.is_none_or(|d| !d.is_zero()));
        if exact {
            assert_eq!(answer.granted.len(), self.expected(p, key, weight, count), "at {now:?}");
        }
        let process = self.processes[p].as_mut().unwrap();
        for (grant, fate) in answer.granted.into_iter().zip(fates) {
            let after = match *fate {
                Fate::Answered(a, _) | Fate::Lost(_, a) => Some(now + ms(a)),
                Fate::Unsent(_) => None,
            };
            process.open.push((self.truths.len(), grant));
            self.truths.push(Truth { key, weight, process: p, fate: *fate, granted: now, arrives: after, in_flight: true, told: None });
        }
    }

    fn find_dead(&mut self, now: Moment) {
        for i in self.orphans.drain(..) {
            (self.truths[i].in_flight, self.truths[i].told) = (false, Some(now + LOST));
        }
    }

    /// What was sent before the death arrives until 5 s after.
    fn stop(&mut self, p: usize, kill: bool) {
        let Some(process) = self.processes[p].take() else { return };
        let now = self.bed.at();
        for (i, _) in &process.open {
            let truth = &mut self.truths[*i];
            truth.arrives = truth.arrives.map(|a| a.min(now + LOST));
        }
        if kill {
            self.orphans.extend(process.open.iter().map(|(i, _)| *i));
            process.ledger.kill();
        } else {
            for (i, _) in &process.open {
                (self.truths[*i].in_flight, self.truths[*i].told) = (false, Some(now + LOST));
            }
            // Whoever calls looks for the dead, this one included.
            if process.looked.is_none_or(|at| now - at >= LOOK) {
                self.find_dead(now);
            }
            process.ledger.close(Vec::new()).unwrap();
        }
    }

    /// No window of a process holds more than its limit, where the last granted in it is its own.
    fn judge(&self) {
        for x in self.truths.iter().filter(|t| t.arrives.is_some()) {
            for p in 0..3 {
                for rate in self.rates(p) {
                    let from = x.arrives.unwrap();
                    let inside = |t: &&Truth| t.key == x.key && t.arrives.is_some_and(|a| a >= from && a < from + rate.per);
                    let last = self.truths.iter().rfind(inside).unwrap();
                    let sum: u32 = self.truths.iter().filter(inside).map(|t| t.weight).sum();
                    assert!(last.process != p || sum <= rate.count, "{sum} in {rate} from {from:?}");
                }
            }
        }
    }
}

/// Nanoseconds a unit, and the burst.
fn step(rate: Rate, burst: Option<u32>) -> (u64, u64) {
    let b = burst.unwrap_or((rate.count / 100).clamp(1, 20)).clamp(1, rate.count);
    (u64::try_from(rate.per.as_nanos()).unwrap().div_ceil(u64::from(rate.count + 1 - b)), b.into())
}

fn play(rates: [Vec<&'static str>; 3], burst: Option<u32>, ops: &[Op], exact: bool) -> World {
    let tat = vec![vec![0; rates[0].len()]; 2];
    let mut world = World { bed: Bed::new(), rates, burst, processes: [None, None, None], truths: Vec::new(), orphans: Vec::new(), tat };
    for op in ops {
        match op {
            Op::Sync { process, key, weight, count, fates } => world.sync(*process, *key, *weight, *count, fates, exact),
            Op::Wait(n) => world.bed.advance(ms(*n)),
            Op::Kill(p) => world.stop(*p, true),
            Op::Close(p) => world.stop(*p, false),
        }
    }
    world.judge();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn processes_of_one_rate_grant_exactly_what_the_rule_gives(
        ops in prop::collection::vec(op(), 20..250),
        which in 0usize..3,
        burst in prop_oneof![Just(None), Just(Some(3)), Just(Some(8))],
    ) {
        let rates = [vec!["8/1s"], vec!["10/1s", "30/10s"], vec!["5/2s", "60/1m"]][which].clone();
        play([rates.clone(), rates.clone(), rates], burst, &ops, true);
    }

    #[test]
    fn processes_of_different_rates_never_pass_their_own(ops in prop::collection::vec(op(), 20..250)) {
        play([vec!["8/1s", "150/1m"], vec!["20/3s"], vec!["120/5s", "4/500ms"]], Some(8), &ops, false);
    }
}
