//! Real processes on one budget, killed by SIGKILL, against a server that stamps arrivals.
//!
//! The server is this test: a datagram socket behind which requests are delayed, as a slow connect delays them, and then stamped
//! and answered. What a process had sent before it was killed still arrives, so a ledger that frees its grants is seen to do so.

use super::*;
use crate::budget::file::uptime;
use crate::clock::SystemClock;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

const LIMIT: &str = "40/2s";

/// A source of chance that is the same for a seed.
struct Chance(u64, u32);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small numbers")]
        let drawn = (crate::clock::unit(self.0, 1, self.1) * n as f64) as u64;
        drawn
    }
}

/// Spends as fast as it may until it is killed: datagrams of 8 bytes, the number of the request, which come back as the answer.
#[test]
#[ignore = "the child of the tests below"]
fn child_that_spends() {
    let (Ok(root), Ok(number)) = (std::env::var("GLEANER_TEST_BUDGET"), std::env::var("GLEANER_TEST_NUMBER")) else { return };
    let root = Path::new(&root);
    let socket = UnixDatagram::bind(root.join(&number)).unwrap();
    socket.connect(root.join("server")).unwrap();
    let rates = [parse_rate(LIMIT).unwrap()];
    let mut ledger = Ledger::open(&config(&root.join("budgets"), &rates, Some(40)), Arc::new(SystemClock::new())).unwrap();
    // A burst of all is no pacing at all: the guard stands alone.
    let (mut open, mut ended, mut sent) = (HashMap::new(), Vec::new(), 0u64);
    loop {
        let wants = [Want { key: "host", weight: 1, count: 12 }];
        let answer = ledger.sync(&mut ended, &wants).unwrap().remove(0);
        for grant in answer.granted {
            sent += 1;
            socket.send(&sent.to_le_bytes()).unwrap();
            open.insert(sent, grant);
        }
        // What came meanwhile is told with the next question.
        let wait = answer.next.unwrap_or(ms(1)).clamp(ms(1), ms(50));
        socket.set_read_timeout(Some(wait)).unwrap();
        let mut answered = [0; 8];
        while socket.recv(&mut answered).is_ok() {
            let grant = open.remove(&u64::from_le_bytes(answered)).unwrap();
            ended.push((grant, ARRIVED));
            socket.set_read_timeout(Some(ms(1))).unwrap();
        }
    }
}

struct Server {
    root: tempfile::TempDir,
    socket: UnixDatagram,
    clock: SystemClock,
    chance: Chance,
    frees: bool,
    started: u32,
    /// When, which step (0 arrives, 1 is answered), of whom, which request.
    due: BinaryHeap<Reverse<(Moment, u8, PathBuf, u64)>>,
    arrivals: Vec<Moment>,
    /// Who is killed as soon as some of its requests are on their way, and how many are.
    victim: Option<(String, u32)>,
}

impl Server {
    fn new(seed: u64, frees: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(root.path().join("server")).unwrap();
        socket.set_read_timeout(Some(ms(1))).unwrap();
        let clock = SystemClock::new();
        Self { root, socket, clock, chance: Chance(seed, 0), frees, started: 0, due: BinaryHeap::new(), arrivals: Vec::new(), victim: None }
    }

    fn child(&mut self) -> (u32, Child) {
        self.started += 1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "budget::tests::processes::child_that_spends", "--ignored"]);
        command.env("GLEANER_TEST_BUDGET", self.root.path()).env("GLEANER_TEST_NUMBER", self.started.to_string());
        if self.frees {
            command.env("GLEANER_TEST_FREES", "1");
        }
        (self.started, command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Serves until `end`: most arrive within 100 ms, some stall for up to 1.5 s, and what one sends just before it is killed arrives
    /// after that. Ends early where it may be killed.
    fn serve(&mut self, end: Moment) {
        loop {
            let now = uptime(&self.clock);
            if now >= end || self.victim.as_ref().is_some_and(|(_, stalled)| *stalled >= 4) {
                return;
            }
            while self.due.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Some(Reverse((_, step, whom, request))) = self.due.pop() else { return };
                if step == 0 {
                    self.arrivals.push(uptime(&self.clock));
                    let answered = now + ms(self.chance.below(100));
                    self.due.push(Reverse((answered, 1, whom, request)));
                } else {
                    // Whoever was killed hears nothing.
                    let _ = self.socket.send_to(&request.to_le_bytes(), whom);
                }
            }
            let mut request = [0; 8];
            if let Ok((_, from)) = self.socket.recv_from(&mut request) {
                let (now, whom) = (uptime(&self.clock), from.as_pathname().unwrap().to_owned());
                let arrives = if let Some((_, stalled)) = self.victim.as_mut().filter(|(name, _)| whom.ends_with(name)) {
                    *stalled += 1;
                    now + ms(600 + self.chance.below(600))
                } else if self.chance.below(20) == 0 {
                    now + ms(500 + self.chance.below(1000))
                } else {
                    now + ms(self.chance.below(100))
                };
                self.due.push(Reverse((arrives, 0, whom, u64::from_le_bytes(request))));
            }
        }
    }

    /// Three processes, one of which is killed about every second; the largest window in units and the share of the quota that was used.
    fn run(&mut self, seconds: u64) -> (usize, f64, u32) {
        let rate = parse_rate(LIMIT).unwrap();
        let start = uptime(&self.clock);
        let mut children: Vec<(u32, Child)> = (0..3).map(|_| self.child()).collect();
        let mut kills = 0;
        while uptime(&self.clock) < start + s(seconds) {
            let end = uptime(&self.clock) + ms(self.chance.below(1000));
            self.serve(end);
            let i = usize::try_from(self.chance.below(3)).unwrap();
            self.victim = Some((children[i].0.to_string(), 0));
            let end = uptime(&self.clock) + ms(2500);
            self.serve(end);
            self.victim = None;
            let victim = &mut children[i].1;
            assert!(victim.try_wait().unwrap().is_none(), "a child ended by itself");
            victim.kill().unwrap();
            victim.wait().unwrap();
            children[i] = self.child();
            kills += 1;
        }
        let end = uptime(&self.clock);
        for (_, child) in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.serve(end + s(2));
        self.arrivals.sort_unstable();
        let in_window = |x: &Moment| self.arrivals.iter().filter(|a| **a >= *x && **a < *x + rate.per).count();
        let most = self.arrivals.iter().map(in_window).max().unwrap_or(0);
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let used = self.arrivals.len() as f64 / (f64::from(rate.count) * (end - start).as_secs_f64() / rate.per.as_secs_f64());
        (most, used, kills)
    }
}

#[test]
fn processes_that_are_killed_never_pass_the_limit_together() {
    let mut server = Server::new(7, false);
    let (most, used, kills) = server.run(20);
    println!("at most {most} in {LIMIT}, {used:.2} of the quota, {kills} kills");
    assert!(most <= 40, "{most} in a window");
    assert!(used >= 0.25, "only {used:.2} of the quota");
}

#[test]
fn control_the_same_with_a_ledger_that_frees_a_dead_ones_grants_at_once_passes_it() {
    for seed in 1..6 {
        let (most, used, kills) = Server::new(seed, true).run(8);
        println!("control: at most {most} in {LIMIT}, {used:.2} of the quota, {kills} kills");
        if most > 40 {
            return;
        }
    }
    panic!("the test above proves nothing");
}
