//! The async side: cheap to clone, never blocks the runtime, waits where the writer is behind.

use super::encode::Encoder;
use super::error::StoreError;
use super::types::{Claim, HostId, InputMark, LeaseRequest, Leased, LimitsSave, Offer, Offered, Settle, Settled, StoredRobots};
use super::writer::Reasons;
use crate::clock::Wall;
use crate::events::Account;
use crate::model::{EntryId, FetchKey, HostKey};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Commands that wait for the writer at most.
const ROOM: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Which skipped entries [`Store::put_back`] means; empty lists mean all. Duplicates and bad records never are.
#[derive(Clone, Debug, Default)]
pub struct PutBack {
    /// Reason codes.
    pub reasons: Vec<String>,
    /// Host names, `host:port`, or host keys.
    pub hosts: Vec<String>,
}

pub(super) enum Command {
    Columns(Vec<String>, Reply<Arc<Encoder>>),
    Offer(Vec<Offer>, Option<InputMark>, Reply<Vec<Offered>>),
    Lease(LeaseRequest, Reply<Leased>),
    Settle(Vec<Settle>, Reply<Settled>),
    Claim(FetchKey, EntryId, Reply<Claim>),
    PutBack(PutBack, Reply<BTreeMap<String, u64>>),
    Commit(Reply<Account>),
    Close(Option<u8>, Reply<Account>),
    HostNamed(HostKey, Reply<bool>),
    PutHost(HostId, StoredRobots),
    Hold(String, Wall),
    Limits(LimitsSave, Reply<()>),
    Put(String, String),
    Snapshot(String),
    #[cfg(test)]
    Crash(Reply<()>),
    #[cfg(test)]
    Panic,
    #[cfg(test)]
    Forget(EntryId),
}

/// A command and its place in the queue, which is free again once the writer has taken it.
pub(super) struct Envelope {
    pub(super) command: Command,
    pub(super) room: OwnedSemaphorePermit,
}

/// What writer and handles share.
pub(super) struct Shared {
    failure: OnceLock<StoreError>,
    live: Mutex<(Account, BTreeMap<String, u64>)>,
    cut: AtomicU64,
    left: AtomicU64,
    pub(super) committed: watch::Sender<Account>,
    #[cfg(test)]
    pub(super) die_at: std::sync::atomic::AtomicU8,
}

impl Shared {
    pub(super) fn new(account: Account, by_reason: BTreeMap<String, u64>, cut: u64) -> Self {
        Self {
            failure: OnceLock::new(),
            live: Mutex::new((account, by_reason)),
            cut: AtomicU64::new(cut),
            left: AtomicU64::new(account.pending),
            committed: watch::Sender::new(account),
            #[cfg(test)]
            die_at: std::sync::atomic::AtomicU8::new(0),
        }
    }

    /// The first failure stands.
    pub(super) fn fail(&self, e: StoreError) {
        let _ = self.failure.set(e);
    }

    /// `done`: how many of the pending entries only wait for their fate to be written.
    pub(super) fn publish(&self, account: Account, done: u64, reasons: &Reasons, cut: u64) {
        self.cut.store(cut, Ordering::Relaxed);
        self.left.store(account.pending.saturating_sub(done), Ordering::Relaxed);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.0.skipped != account.skipped || reasons.changed {
            live.1 = reasons.counts();
        }
        live.0 = account;
    }
}

/// The store, from the engine's side. Dropping every handle commits what is there but does not mark the end as clean.
///
/// Futures of this type may be dropped at any point: a command that was sent is carried out, its answer is lost. A lease
/// whose answer is lost stays held until the next run, so `lease` and `offer` with `hand` are to be driven to their end.
#[derive(Clone)]
pub struct Store {
    commands: SyncSender<Envelope>,
    room: Arc<Semaphore>,
    pub(super) shared: Arc<Shared>,
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Receiver<Envelope>) {
        let (commands, taken) = sync_channel(ROOM);
        (Self { commands, room: Arc::new(Semaphore::new(ROOM)), shared }, taken)
    }

    /// Fixes the carried columns, before the first row: they make the CSV headers. A later call, and a call in a resumed
    /// job, changes nothing: the columns that were fixed first stand. Workers encode with the encoder given back.
    pub async fn columns(&self, columns: Vec<String>) -> Result<Arc<Encoder>, StoreError> {
        self.ask(|reply| Command::Columns(columns, reply)).await
    }

    /// Gives addresses to the frontier, together with the mark of the input that they were read up to. One transaction;
    /// bad and repeated seeds become skipped records in it. Answers stand in the order of the offers.
    pub async fn offer(&self, offers: Vec<Offer>, mark: Option<InputMark>) -> Result<Vec<Offered>, StoreError> {
        self.ask(|reply| Command::Offer(offers, mark, reply)).await
    }

    /// Hands out entries, none twice until it is settled. Nothing is written.
    pub async fn lease(&self, want: LeaseRequest) -> Result<Leased, StoreError> {
        self.ask(|reply| Command::Lease(want, reply)).await
    }

    /// Tells the fate of leased entries; durable with the next commit (200 ms, 1,000 entries or 4 MiB of rows; where rows
    /// go to a compressed sink, with its next member). Order within a batch and between calls is kept.
    pub async fn settle(&self, batch: Vec<Settle>) -> Result<Settled, StoreError> {
        self.ask(|reply| Command::Settle(batch, reply)).await
    }

    /// Gives a second key (a redirect's target) to an entry, or says whose it is.
    pub async fn claim(&self, key: FetchKey, entry: EntryId) -> Result<Claim, StoreError> {
        self.ask(|reply| Command::Claim(key, entry, reply)).await
    }

    /// Puts skipped entries back among the pending ones, with the state they were skipped with; how many, by reason. The
    /// old records stay in the skipped sink: it is a log.
    pub async fn put_back(&self, what: PutBack) -> Result<BTreeMap<String, u64>, StoreError> {
        self.ask(|reply| Command::PutBack(what, reply)).await
    }

    /// Makes everything so far durable, members of compressed sinks too.
    pub async fn commit(&self) -> Result<Account, StoreError> {
        self.ask(Command::Commit).await
    }

    /// Commits, marks the end as clean, with its exit code where the job is done, and lets go of state and sinks. Leases
    /// that are left are pending in the next run.
    pub async fn close(&self, finished: Option<u8>) -> Result<Account, StoreError> {
        self.ask(|reply| Command::Close(finished, reply)).await
    }

    /// Whether the operator's input named the host.
    pub async fn host_named(&self, key: &HostKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.ask(|reply| Command::HostNamed(key, reply)).await
    }

    /// Keeps a host's robots.txt; rides on the next commit.
    pub async fn put_host(&self, host: HostId, robots: StoredRobots) -> Result<(), StoreError> {
        self.tell(Command::PutHost(host, robots)).await
    }

    /// Keeps a hold until a time of [`super::Opened::calendar`]; rides on the next commit.
    pub async fn hold(&self, key: &str, until: Wall) -> Result<(), StoreError> {
        self.tell(Command::Hold(key.to_owned(), until)).await
    }

    /// Commits what limits have counted, with everything so far; done when it is durable. The caller keeps the rhythm.
    pub async fn limits(&self, save: LimitsSave) -> Result<(), StoreError> {
        self.ask(|reply| Command::Limits(save, reply)).await
    }

    /// Keeps a small value of the engine's; rides on the next commit.
    pub async fn put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.tell(Command::Put(key.to_owned(), value.to_owned())).await
    }

    /// Replaces the snapshot that `status` reads; rides on the next commit, which comes within 1 s.
    pub async fn snapshot(&self, json: String) -> Result<(), StoreError> {
        self.tell(Command::Snapshot(json)).await
    }

    /// The account as last committed, and its changes.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<Account> {
        self.shared.committed.subscribe()
    }

    /// The account with what is not committed yet (what waits for a compressed sink's member is pending).
    #[must_use]
    pub fn account(&self) -> Account {
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Pending entries that are still to be fetched: those of [`Store::account`] without what waits for a member.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// Skipped entries that count, by reason, with what is not committed yet.
    #[must_use]
    pub fn by_reason(&self) -> BTreeMap<String, u64> {
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Links that are kept because they are too deep, with what is not committed yet.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn tell(&self, command: Command) -> Result<(), StoreError> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| self.gone())?;
        // The permit stands for a place in the channel, so this never finds it full.
        self.commands.try_send(Envelope { command, room }).map_err(|_| self.gone())
    }

    fn gone(&self) -> StoreError {
        self.shared.failure.get().cloned().unwrap_or(StoreError::Gone)
    }

    /// Ends the writer as a kill would: without a commit.
    #[cfg(test)]
    pub(crate) async fn crash(&self) {
        let _ = self.ask(Command::Crash).await;
    }

    /// Whether the writer still takes commands: a failed one lets go a moment after its answer.
    #[cfg(test)]
    pub(super) async fn crash_done(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.tell(Command::Crash(reply)).await.is_ok();
        let _ = answer.await;
        sent
    }

    /// Takes a lease away, so that what was settled of it fails.
    #[cfg(test)]
    pub(super) async fn forget(&self, entry: EntryId) {
        let _ = self.tell(Command::Forget(entry)).await;
    }

    /// Lets the writer panic.
    #[cfg(test)]
    pub(super) async fn panic(&self) {
        let _ = self.tell(Command::Panic).await;
    }
}
