//! The job's hand in a budget that it shares (`[limits] budget`): grants are fetched by a thread of its own, a few at a time and
//! only for what is about to be sent.

use crate::budget::{self, Answer, BudgetConfig, BudgetError, End, Grant, Ledger, Want};
use crate::clock::{Clock, Moment, SystemUptime};
use crate::engine::RunError;
use crate::engine::worker::Landing;
use crate::model::plan::LimitsPlan;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A grant that nothing was sent for goes back after this long.
const UNUSED: Duration = Duration::from_millis(300);
/// Grants that are asked for at once.
const AT_ONCE: u32 = 16;

/// What the thread is asked.
#[derive(Default)]
struct Ask {
    /// What became of grants, and when that was known.
    ended: Vec<(Grant, End, Moment)>,
    /// Nothing of a key for so long.
    holds: Vec<(Arc<str>, Duration)>,
    /// How many grants.
    wants: Vec<(Arc<str>, u32)>,
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
        self.next.holds.push((Arc::clone(key), wait));
    }

    /// Asks for what is wanted and tells what ended.
    pub(crate) fn flush(&mut self) {
        for (key, pocket) in &mut self.pockets {
            if pocket.wanted > 0 && !pocket.asked {
                pocket.asked = true;
                self.next.wants.push((Arc::clone(key), std::mem::take(&mut pocket.wanted)));
            }
        }
        let Ask { ended, holds, wants } = &self.next;
        if (ended.is_empty() && holds.is_empty() && wants.is_empty()) || self.to.is_none() {
            return;
        }
        let ask = std::mem::take(&mut self.next);
        // A thread that is behind takes more at once later.
        if let Some(Err(TrySendError::Full(ask))) = self.to.as_ref().map(|to| to.try_send(ask)) {
            self.next = ask;
        }
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
    let opened = tokio::task::spawn_blocking(move || {
        let clock = Arc::new(SystemUptime::new().map_err(BudgetError::Clock)?);
        let folder = budget::folder(|name| std::env::var_os(name))?;
        Ledger::open(&BudgetConfig { folder: &folder, name: &name, rates: &rates, burst, share }, clock)
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

fn serve(mut ledger: Ledger, asks: &Receiver<Ask>, land: &tokio::sync::mpsc::Sender<Landing>, clock: &dyn Clock) {
    while let Ok(first) = asks.recv() {
        let Ask { mut ended, mut holds, mut wants } = first;
        for ask in asks.try_iter() {
            ended.extend(ask.ended);
            holds.extend(ask.holds);
            wants.extend(ask.wants);
        }
        let result = holds.iter().try_for_each(|(key, wait)| ledger.hold(key, *wait));
        let mut ends: Vec<(Grant, End)> = ended
            .into_iter()
            .map(|(grant, end, told)| match end {
                End::Arrived { ago } => (grant, End::Arrived { ago: ago + (clock.now() - told) }),
                other => (grant, other),
            })
            .collect();
        let asked: Vec<Want<'_>> = wants.iter().map(|(key, count)| Want { key, weight: 1, count: *count }).collect();
        let given = match result.and_then(|()| ledger.sync(&mut ends, &asked)) {
            Ok(answers) => Given::Grants(wants.iter().map(|(k, _)| Arc::clone(k)).zip(answers).collect()),
            Err(e) => Given::Failed(e),
        };
        if matches!(&given, Given::Grants(list) if list.is_empty()) {
            continue;
        }
        let failed = matches!(given, Given::Failed(_));
        if land.blocking_send(Landing::Given(given)).is_err() || failed {
            break;
        }
    }
    let _ = ledger.close(Vec::new());
}
