//! The job's hand in a budget that it shares (`[limits] budget`): grants are fetched by a thread of its own, a few at a time and
//! only for what is about to be sent.

use crate::budget::{self, Answer, BudgetConfig, BudgetError, End, Grant, Ledger, Want};
use crate::clock::{Clock, Moment};
use crate::engine::RunError;
use crate::engine::worker::Landing;
use crate::model::plan::LimitsPlan;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A grant that nothing was sent for goes back after this long.
const UNUSED: Duration = Duration::from_millis(300);
/// Grants that are asked for at once.
const AT_ONCE: u32 = 16;
/// A budget that is busy is asked again after so long, until it answers; whoever ends waits no longer either.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two tries, which each wait.
const PAUSE: Duration = Duration::from_millis(20);

/// What the thread is asked.
#[derive(Default)]
struct Ask {
    /// What became of grants, and when that was known.
    ended: Vec<(Grant, End, Moment)>,
    /// Nothing of a key until then.
    holds: Vec<(Arc<str>, Moment)>,
    /// How many grants.
    wants: Vec<(Arc<str>, u32)>,
}

impl Ask {
    fn add(&mut self, more: Self) {
        self.ended.extend(more.ended);
        self.holds.extend(more.holds);
        self.wants.extend(more.wants);
    }

    /// Puts it to the ledger, and gives the answers to what is wanted. After an error what was not done is still in it.
    fn put(&mut self, ledger: &mut Ledger, clock: &dyn Clock) -> Result<Vec<(Arc<str>, Answer)>, BudgetError> {
        while let Some((key, until)) = self.holds.last() {
            ledger.hold(key, *until - clock.now())?;
            self.holds.pop();
        }
        let now = clock.now();
        let told: Vec<(End, Moment)> = self.ended.iter().map(|(_, end, told)| (*end, *told)).collect();
        let passed = |end, told| match end {
            End::Arrived { ago } => End::Arrived { ago: ago + (now - told) },
            other => other,
        };
        let mut ends: Vec<(Grant, End)> = self.ended.drain(..).map(|(grant, end, told)| (grant, passed(end, told))).collect();
        let asked: Vec<Want<'_>> = self.wants.iter().map(|(key, count)| Want { key, weight: 1, count: *count }).collect();
        let answers = ledger.sync(&mut ends, &asked);
        // Empty where it was done.
        self.ended = ends.into_iter().zip(told).map(|((grant, _), (end, told))| (grant, end, told)).collect();
        let answers = answers?;
        Ok(self.wants.drain(..).map(|(key, _)| key).zip(answers).collect())
    }
}

/// What the thread answers.
#[derive(Debug)]
pub(crate) enum Given {
    /// By key.
    Grants(Vec<(Arc<str>, Answer)>),
    /// The ledger cannot be used any more.
    Failed(BudgetError),
}

/// One key's grants in hand.
#[derive(Debug, Default)]
struct Pocket {
    grants: Vec<(Grant, Moment)>,
    asked: bool,
    wanted: u32,
    /// Not asked for before.
    again: Moment,
    held: bool,
}

/// Grants of every key.
pub(crate) struct Purse {
    to: Option<SyncSender<Ask>>,
    pockets: HashMap<Arc<str>, Pocket>,
    next: Ask,
    clock: Arc<dyn Clock>,
    thread: Option<JoinHandle<()>>,
}

/// Why no grant is in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Empty {
    /// Ask again then; [`Moment::FAR`] while an answer is awaited.
    pub at: Moment,
    /// Another process was refused: the key is held for all.
    pub held: bool,
}

impl Purse {
    /// Starts the thread; answers come as [`Landing::Given`].
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(ledger: Ledger, land: tokio::sync::mpsc::Sender<Landing>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (to, asks) = sync_channel(16);
        let own = Arc::clone(&clock);
        let thread = std::thread::Builder::new().name("gleaner-budget".into()).spawn(move || serve(ledger, &asks, &land, &*own))?;
        Ok(Self { to: Some(to), pockets: HashMap::new(), next: Ask::default(), clock, thread: Some(thread) })
    }

    /// Whether a grant of the key is in hand; else `count` are wanted.
    pub(crate) fn has(&mut self, key: &Arc<str>, count: usize, now: Moment) -> Result<(), Empty> {
        let pocket = self.pockets.entry(Arc::clone(key)).or_default();
        if !pocket.grants.is_empty() {
            return Ok(());
        }
        if !pocket.asked && pocket.again <= now {
            pocket.wanted = u32::try_from(count).unwrap_or(AT_ONCE).clamp(1, AT_ONCE);
        }
        let waits = pocket.again > now && !pocket.asked;
        Err(Empty { at: if waits { pocket.again } else { Moment::FAR }, held: pocket.held })
    }

    /// Takes a grant in hand; see [`Purse::has`].
    pub(crate) fn take(&mut self, key: &Arc<str>) -> Option<Grant> {
        self.pockets.get_mut(key)?.grants.pop().map(|(grant, _)| grant)
    }

    /// What became of a grant.
    pub(crate) fn ended(&mut self, grant: Grant, end: End) {
        self.next.ended.push((grant, end, self.clock.now()));
    }

    /// Holds a key for every process.
    pub(crate) fn hold(&mut self, key: &Arc<str>, wait: Duration) {
        self.next.holds.push((Arc::clone(key), self.clock.now() + wait));
    }

    /// Asks for what is wanted and tells what ended.
    ///
    /// # Errors
    /// Once, where the thread is gone: nobody would ever be answered.
    pub(crate) fn flush(&mut self) -> Result<(), RunError> {
        for (key, pocket) in &mut self.pockets {
            if pocket.wanted > 0 && !pocket.asked {
                pocket.asked = true;
                self.next.wants.push((Arc::clone(key), std::mem::take(&mut pocket.wanted)));
            }
        }
        let Ask { ended, holds, wants } = &self.next;
        if (ended.is_empty() && holds.is_empty() && wants.is_empty()) || self.to.is_none() {
            return Ok(());
        }
        let ask = std::mem::take(&mut self.next);
        match self.to.as_ref().map(|to| to.try_send(ask)) {
            // A thread that is behind takes more at once later.
            Some(Err(TrySendError::Full(ask))) => self.next = ask,
            Some(Err(TrySendError::Disconnected(_))) => {
                self.to = None;
                return Err(RunError::Io { message: "the thread of the budget failed in a way that it should not".into(), hint: None });
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives back what was not used, and forgets keys about which nothing is known.
    pub(crate) fn tidy(&mut self, now: Moment) {
        let ended = &mut self.next.ended;
        self.pockets.retain(|_, pocket| {
            let old = |at: &Moment| now - *at > UNUSED;
            for (grant, _) in pocket.grants.extract_if(.., |(_, at)| old(at)) {
                ended.push((grant, End::Unsent, now));
            }
            !pocket.grants.is_empty() || pocket.asked || pocket.wanted > 0 || pocket.again > now
        });
    }

    /// Takes what the thread gave.
    pub(crate) fn given(&mut self, answers: Vec<(Arc<str>, Answer)>, now: Moment) {
        for (key, answer) in answers {
            let pocket = self.pockets.entry(key).or_default();
            pocket.asked = false;
            pocket.held = answer.held.is_some();
            let next = answer.held.max(answer.next).filter(|_| answer.granted.is_empty());
            pocket.again = next.map_or(Moment::ZERO, |wait| now + wait);
            pocket.grants.extend(answer.granted.into_iter().map(|g| (g, now)));
        }
    }

    /// Tells what ended and leaves the budget; what is in flight still counts as sent.
    pub(crate) fn close(&mut self) {
        if let Some(to) = self.to.take() {
            let _ = to.send(std::mem::take(&mut self.next));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens the budget of a job, where it has one.
///
/// # Errors
/// A budget that cannot be used, see [`BudgetError`].
pub(crate) async fn open(
    plan: &LimitsPlan,
    land: &tokio::sync::mpsc::Sender<Landing>,
    clock: Arc<dyn Clock>,
) -> Result<Option<Purse>, RunError> {
    let Some(name) = plan.budget.clone() else { return Ok(None) };
    let (rates, burst, share) = (plan.rates.clone(), plan.burst, 1.0 - plan.reserve);
    let of_machine = Arc::clone(&clock);
    let opened = tokio::task::spawn_blocking(move || {
        let folder = budget::folder(|name| std::env::var_os(name))?;
        Ledger::open(&BudgetConfig { folder: &folder, name: &name, rates: &rates, burst, share }, of_machine)
    })
    .await;
    let ledger = match opened {
        Ok(ledger) => ledger.map_err(|e| budget_failed(&e))?,
        Err(_) => return Err(RunError::Io { message: "opening the budget failed in a way that it should not".into(), hint: None }),
    };
    let purse = Purse::start(ledger, land.clone(), clock)
        .map_err(|e| RunError::Io { message: format!("no thread for the budget: {e}"), hint: None })?;
    Ok(Some(purse))
}

/// What a budget that cannot be used means for the run.
pub(crate) fn budget_failed(e: &BudgetError) -> RunError {
    let (message, hint) = (e.to_string(), e.hint());
    if e.exit_code() == 65 { RunError::State { message, hint } } else { RunError::Io { message, hint } }
}

fn serve(ledger: Ledger, asks: &Receiver<Ask>, land: &tokio::sync::mpsc::Sender<Landing>, clock: &dyn Clock) {
    let mut ledger = ledger;
    let mut ask = Ask::default();
    let mut failed = ledger.set_patience(PATIENCE).err();
    let mut busy = false;
    while failed.is_none() {
        match if busy { asks.recv_timeout(PAUSE) } else { asks.recv().map_err(|_| RecvTimeoutError::Disconnected) } {
            Ok(more) => ask.add(more),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for more in asks.try_iter() {
            ask.add(more);
        }
        match ask.put(&mut ledger, clock) {
            Ok(answers) => {
                busy = false;
                if !answers.is_empty() && land.blocking_send(Landing::Given(Given::Grants(answers))).is_err() {
                    break;
                }
            }
            // Somebody else writes: what was asked stays.
            Err(e) if e.is_busy() => busy = true,
            Err(e) => failed = Some(e),
        }
    }
    if let Some(e) = failed {
        let _ = land.blocking_send(Landing::Given(Given::Failed(e)));
        drop(ledger);
        // Whoever asks until that is seen is to see that, and no thread that is gone.
        asks.iter().for_each(drop);
        return;
    }
    // Nothing more is sent.
    ask.wants.clear();
    match ask.put(&mut ledger, clock) {
        Err(e) if e.is_busy() => ledger.abandon(),
        _ => drop(ledger),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use rusqlite::Connection;
    use std::path::Path;
    use tokio::sync::mpsc;

    const LONGER_THAN_PATIENCE: Duration = Duration::from_millis(700);

    fn ledger(folder: &Path) -> Ledger {
        let rates = [crate::model::parse_rate("10/hour").unwrap()];
        let config = BudgetConfig { folder, name: "b", rates: &rates, burst: Some(10), share: 1.0 };
        Ledger::open(&config, Arc::new(SystemClock::new())).unwrap()
    }

    fn granted(landing: Option<Landing>) -> Vec<(Arc<str>, Answer)> {
        match landing {
            Some(Landing::Given(Given::Grants(answers))) => answers,
            Some(Landing::Given(Given::Failed(e))) => panic!("{e}: {e:?}"),
            _ => panic!("no grants"),
        }
    }

    #[test]
    fn a_budget_that_is_busy_is_waited_for_and_left_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (to, mut landed) = mpsc::channel(16);
        let mut purse = Purse::start(ledger(dir.path()), to, Arc::clone(&clock)).unwrap();
        let other = Connection::open(dir.path().join("b.db")).unwrap();
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());

        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(purse.has(&one, 3, clock.now()).is_err());
        purse.flush().unwrap();
        std::thread::park_timeout(LONGER_THAN_PATIENCE);
        assert!(purse.has(&two, 1, clock.now()).is_err());
        purse.hold(&two, Duration::from_mins(1));
        purse.flush().unwrap();
        std::thread::park_timeout(LONGER_THAN_PATIENCE);
        assert!(landed.try_recv().is_err());
        other.execute_batch("COMMIT").unwrap();
        let answers = granted(landed.blocking_recv());
        let told: Vec<_> = answers.iter().map(|(key, a)| (&**key, a.granted.len())).collect();
        assert_eq!(told, [("one", 3), ("two", 0)]);
        let held = answers[1].1.held.unwrap();
        assert!(held > Duration::from_secs(50) && held + LONGER_THAN_PATIENCE / 2 < Duration::from_mins(1), "since it was said: {held:?}");
        purse.given(answers, clock.now());

        // What became of them is told once it can be.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let grant = purse.take(&one).unwrap();
        purse.ended(grant, End::Unsent);
        purse.flush().unwrap();
        std::thread::park_timeout(LONGER_THAN_PATIENCE);
        other.execute_batch("COMMIT").unwrap();
        assert!(purse.has(&"three".into(), 1, clock.now()).is_err());
        purse.flush().unwrap();
        granted(landed.blocking_recv());
        let n: i64 = other.query_row("SELECT n FROM flight WHERE key = 'one'", [], |r| r.get(0)).unwrap();
        assert_eq!(n, 2);

        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let grant = purse.take(&one).unwrap();
        purse.ended(grant, End::Unsent);
        purse.flush().unwrap();
        let start = clock.now();
        purse.close();
        let took = clock.now() - start;
        assert!(took < Duration::from_millis(900), "{took:?}");
        other.execute_batch("COMMIT").unwrap();
        // Found dead: its grants are lost, and its lock is free.
        drop(ledger(dir.path()));
        let left: i64 = other.query_row("SELECT count(*) FROM owner", [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_thread_that_is_gone_ends_the_run() {
        let (to, asks) = sync_channel(16);
        drop(asks);
        let clock = Arc::new(SystemClock::new());
        let mut purse = Purse { to: Some(to), pockets: HashMap::new(), next: Ask::default(), clock, thread: None };
        assert!(purse.flush().is_ok(), "nothing is asked");
        assert!(purse.has(&"one".into(), 1, Moment::ZERO).is_err());
        let gone = purse.flush().unwrap_err();
        assert_eq!(gone.exit_code(), 74);
        assert!(purse.flush().is_ok(), "said once");
        purse.close();
    }
}
