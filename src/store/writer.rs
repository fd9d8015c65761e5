//! The one thread that owns the database and the sinks: takes commands, gathers them in an open transaction, commits.
//!
//! The order of a commit is the promise (`docs/delivery.md`): append and sync the sinks, then one transaction with the fates
//! and the new marks. Until that transaction is durable nothing has happened.

use super::encode::{Encoder, EncoderSpec};
use super::error::StoreError;
use super::frontier::Frontier;
use super::handle::{Command, Envelope, Shared};
use super::schema::{self, RESULT};
use super::sink::{Chunk, Mark, Sink};
use super::types::{InputMark, Settle};
use crate::clock::{Clock, Moment, Wall};
use crate::events::Account;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::oneshot;

/// From the first change to its commit.
const TICK: Duration = Duration::from_millis(200);
/// The same where a snapshot is all there is.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Settled entries that make a commit due.
const MOST_SETTLED: usize = 1000;
/// Bytes of rows that make a commit due.
const MOST_BYTES: usize = 4 << 20;
/// Raw bytes of a compressed sink that make a member due.
const MEMBER_BYTES: usize = 1 << 20;

/// Which sink.
pub(super) const RESULTS: usize = 0;
pub(super) const SKIPPED: usize = 1;

/// Where tests let the process die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Before = 1,
    Appended = 2,
    Recorded = 3,
    Committed = 4,
}

/// Settles whose rows wait for the next member of a compressed sink.
#[derive(Default)]
pub(super) struct Deferred {
    pub(super) ops: Vec<Settle>,
    pub(super) bytes: usize,
    pub(super) since: Option<Moment>,
}

/// A throwaway state folder.
pub(super) struct Throwaway(pub(super) PathBuf);

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Live skipped entries by reason.
#[derive(Default)]
pub(super) struct Reasons {
    pub(super) rows: HashMap<String, (i64, u64)>,
    pub(super) changed: bool,
}

impl Reasons {
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.rows.iter().filter(|(_, (_, n))| *n > 0).map(|(code, (_, n))| (code.clone(), *n)).collect()
    }
}

// Fields drop in this order: the database is closed before the locks go and the folder with them.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    /// Results, and skipped records where they are kept.
    pub(super) sinks: Vec<Sink>,
    pub(super) frontier: Frontier,
    pub(super) account: Account,
    pub(super) reasons: Reasons,
    pub(super) spec: EncoderSpec,
    /// Made when the columns are fixed.
    pub(super) encoder: Option<Arc<Encoder>>,
    pub(super) deferred: [Deferred; 2],
    /// Entries with deferred settles, and in which queue.
    pub(super) deferred_entries: HashMap<i64, usize>,
    /// What was wrong with a settle that concerns it alone; the next answer to a batch tells it.
    pub(super) stray: Option<StoreError>,
    pub(super) flush: Duration,
    pub(super) input: Option<InputMark>,
    pub(super) snapshot: Option<String>,
    /// What the state says that the next start has to assume of limits, and since when.
    pub(super) unsaved: Option<(BTreeMap<String, u32>, Option<Wall>)>,
    /// What the state says of cut links.
    pub(super) cut_recorded: Option<(u64, i64)>,
    /// Whether a transaction is open, and since when it holds changes.
    pub(super) begun: bool,
    pub(super) since: Option<Moment>,
    pub(super) idle_since: Option<Moment>,
    pub(super) settled: usize,
    /// Whether entries changed since the last commit, so that an earlier end of the job is void.
    pub(super) worked: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
    pub(super) _lock: Option<File>,
    pub(super) _throwaway: Option<Throwaway>,
}

/// How the loop ended.
enum End {
    /// Told to close: the answer is due once everything is let go.
    Closed(Account, oneshot::Sender<Result<Account, StoreError>>),
    /// A test's crash.
    #[cfg(test)]
    Crashed(oneshot::Sender<Result<(), StoreError>>),
    /// Every handle is gone.
    Dropped,
}

impl Writer {
    /// Runs until closed, dropped or failed; then lets go of everything.
    pub(super) fn run(mut self, commands: &Receiver<Envelope>) {
        let shared = Arc::clone(&self.shared);
        let end = self.work(commands);
        if let Err(e) = &end {
            shared.fail(e.clone());
        }
        drop(self);
        match end {
            Ok(End::Closed(account, reply)) => {
                shared.fail(StoreError::Closed);
                let _ = reply.send(Ok(account));
            }
            #[cfg(test)]
            Ok(End::Crashed(reply)) => {
                let _ = reply.send(Ok(()));
            }
            Ok(End::Dropped) | Err(_) => {}
        }
    }

    fn work(&mut self, commands: &Receiver<Envelope>) -> Result<End, StoreError> {
        loop {
            self.tick(self.clock.now())?;
            let received = match self.due_at() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => commands.recv_timeout(at.since(self.clock.now())),
            };
            match received {
                Ok(Envelope { command, room }) => {
                    drop(room);
                    if let Some(end) = self.command(command)? {
                        return Ok(end);
                    }
                }
                // The channel's own timer has waited, whatever the given clock says.
                Err(RecvTimeoutError::Timeout) => {
                    let at = self.due_at().unwrap_or(Moment::ZERO).max(self.clock.now());
                    self.tick(at)?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit(true)?;
                    return Ok(End::Dropped);
                }
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<Option<End>, StoreError> {
        match command {
            Command::Columns(columns, reply) => {
                let fixed = self.fix_columns(columns);
                self.answer(reply, fixed)?;
            }
            Command::Offer(offers, mark, reply) => {
                let offered = self.offer(offers, mark);
                self.answer(reply, offered)?;
            }
            Command::Lease(want, reply) => {
                let leased = self.lease(&want);
                self.answer(reply, leased)?;
            }
            Command::Settle(batch, reply) => {
                let settled = self.settle(batch);
                self.answer(reply, settled)?;
            }
            Command::Claim(key, entry, reply) => {
                let claim = self.claim(key, entry);
                self.answer(reply, claim)?;
            }
            Command::PutBack(what, reply) => {
                let counts = self.put_back(&what);
                self.answer(reply, counts)?;
            }
            Command::Commit(reply) => {
                let done = self.commit(true).map(|()| self.account);
                self.answer(reply, done)?;
            }
            Command::Close(finished, reply) => match self.close(finished) {
                Ok(account) => {
                    self.publish();
                    return Ok(Some(End::Closed(account, reply)));
                }
                Err(e) => self.answer(reply, Err(e))?,
            },
            Command::HostNamed(key, reply) => {
                self.answer(reply, self.frontier.host_named(&self.conn, &key).map_err(self.db()))?;
            }
            Command::PutHost(host, robots) => {
                self.begin()?;
                self.conn
                    .prepare_cached("UPDATE host SET robots = ?2, robots_body = ?3, robots_until = ?4 WHERE id = ?1")
                    .and_then(|mut s| s.execute(params![host.0, robots.verdict, robots.body, robots.until.0]))
                    .map_err(self.db())?;
            }
            Command::Hold(key, until) => {
                self.begin()?;
                self.conn
                    .prepare_cached("INSERT INTO hold(key, until) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET until = excluded.until")
                    .and_then(|mut s| s.execute(params![key, until.0]))
                    .map_err(self.db())?;
            }
            Command::Limits(save, reply) => {
                let saved = self.keep_limits(&save);
                self.answer(reply, saved)?;
            }
            Command::Put(key, value) => {
                self.begin()?;
                schema::put_meta(&self.conn, &format!("x.{key}"), &value).map_err(self.db())?;
            }
            Command::Snapshot(json) => {
                self.snapshot = Some(json);
                self.idle_since.get_or_insert(self.clock.now());
            }
            #[cfg(test)]
            Command::Crash(reply) => return Ok(Some(End::Crashed(reply))),
            #[cfg(test)]
            Command::Forget(entry) => self.frontier.release(entry.0),
            #[cfg(test)]
            Command::Panic => panic!("asked to"),
        }
        Ok(None)
    }

    /// Answers, and passes on what ends the store; by the time that the answer is read, later calls fail the same way.
    fn answer<T>(&mut self, reply: oneshot::Sender<Result<T, StoreError>>, result: Result<T, StoreError>) -> Result<(), StoreError> {
        self.publish();
        let fatal = result.as_ref().err().filter(|e| e.is_fatal()).cloned();
        if let Some(e) = &fatal {
            self.shared.fail(e.clone());
        }
        let _ = reply.send(result);
        fatal.map_or(Ok(()), Err)
    }

    /// The next instant at which something is to be committed.
    fn due_at(&self) -> Option<Moment> {
        let members = self.deferred.iter().filter_map(|d| d.since.map(|s| s + self.flush));
        let commit = self.since.map(|s| s + TICK);
        let idle = self.idle_since.map(|s| s + IDLE_TICK);
        members.chain(commit).chain(idle).min()
    }

    /// Commits what is due.
    pub(super) fn tick(&mut self, now: Moment) -> Result<(), StoreError> {
        let mut due = self.settled >= MOST_SETTLED || self.sinks.iter().map(Sink::len).sum::<usize>() >= MOST_BYTES;
        for i in [RESULTS, SKIPPED] {
            let d = &self.deferred[i];
            if d.bytes >= MEMBER_BYTES || d.since.is_some_and(|s| s + self.flush <= now) {
                self.apply_deferred(i)?;
                due = true;
            }
        }
        due |= self.since.is_some_and(|s| s + TICK <= now) || self.idle_since.is_some_and(|s| s + IDLE_TICK <= now);
        if due { self.commit(false) } else { Ok(()) }
    }

    /// Opens the transaction that gathers changes.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if !self.begun {
            self.conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([])).map_err(self.db())?;
            self.begun = true;
        }
        self.since.get_or_insert(self.clock.now());
        Ok(())
    }

    /// Makes everything so far durable; `all` takes what waits for a member along.
    pub(super) fn commit(&mut self, all: bool) -> Result<(), StoreError> {
        for i in [RESULTS, SKIPPED] {
            // Records of bad and repeated input are of this transaction, so a member is made anyway: let it hold all it can.
            let member = self.sinks.get(i).is_some_and(Sink::has_raw);
            if (all || member) && !self.deferred[i].ops.is_empty() {
                self.apply_deferred(i)?;
            }
        }
        if !self.begun && self.snapshot.is_none() {
            return Ok(());
        }
        // Rows for a file that nobody will find: told within the second, not after the night.
        if self.snapshot.is_some() {
            self.sinks.iter().try_for_each(Sink::still_there)?;
        }
        self.begin()?;
        self.point(Stage::Before)?;
        #[cfg(debug_assertions)]
        if std::env::var_os("GLEANER_TEST_BREAK").is_some_and(|b| b == "commit-first") {
            return self.commit_first();
        }
        if let Err(e) = self.sinks.iter_mut().try_for_each(Sink::append) {
            // Nothing of this commit is durable yet, so the bytes may go at once. Never after COMMIT was tried: it may have
            // reached the disk although it failed.
            self.sinks.iter().for_each(Sink::take_back);
            return Err(e);
        }
        self.point(Stage::Appended)?;
        self.record().map_err(self.db())?;
        self.point(Stage::Recorded)?;
        self.conn.prepare_cached("COMMIT").and_then(|mut s| s.execute([])).map_err(self.db())?;
        self.begun = false;
        self.since = None;
        self.idle_since = None;
        self.settled = 0;
        self.worked = false;
        self.point(Stage::Committed)?;
        self.shared.committed.send_replace(self.account);
        Ok(())
    }

    /// The protocol broken on purpose, in debug builds and where `GLEANER_TEST_BREAK=commit-first` asks for it: the control
    /// that shows that the crash tests would see it.
    #[cfg(debug_assertions)]
    fn commit_first(&mut self) -> Result<(), StoreError> {
        use std::os::unix::fs::FileExt as _;
        let late: Vec<_> = self.sinks.iter().filter_map(Sink::hold_back).collect();
        self.record().map_err(self.db())?;
        self.conn.execute_batch("COMMIT").map_err(self.db())?;
        (self.begun, self.since, self.idle_since, self.settled, self.worked) = (false, None, None, 0, false);
        std::thread::park_timeout(Duration::from_millis(30));
        for (file, off, bytes) in late {
            let _ = file.write_all_at(&bytes, off);
        }
        self.shared.committed.send_replace(self.account);
        Ok(())
    }

    /// Writes marks, counters and the rest of the commit into the transaction.
    fn record(&mut self) -> rusqlite::Result<()> {
        for sink in &mut self.sinks {
            let id = sink.id;
            if let Some((chunk, mark)) = sink.advance() {
                record_chunk(&self.conn, id, &chunk, &mark)?;
            }
        }
        self.account.pending = self.frontier.pending;
        let account = serde_json::to_string(&self.account).unwrap_or_default();
        schema::put_meta(&self.conn, "account", &account)?;
        schema::put_meta(&self.conn, "sweep", &self.frontier.sweep.to_string())?;
        self.record_cut()?;
        if self.reasons.changed {
            let mut put = self.conn.prepare_cached("UPDATE reason SET n = ?2 WHERE id = ?1")?;
            for (id, n) in self.reasons.rows.values() {
                put.execute([*id, n.cast_signed()])?;
            }
            self.reasons.changed = false;
        }
        if let Some(mark) = self.input.take() {
            schema::put_meta(&self.conn, "input", &mark.position)?;
            schema::put_meta(&self.conn, "input_done", if mark.done { "1" } else { "0" })?;
        }
        if let Some(json) = self.snapshot.take() {
            schema::put_meta(&self.conn, "snapshot", &json)?;
        }
        if self.worked {
            self.conn.prepare_cached("DELETE FROM meta WHERE k = 'finished'")?.execute([])?;
        }
        Ok(())
    }

    fn record_cut(&mut self) -> rusqlite::Result<()> {
        let cut = (self.frontier.cut.count, self.frontier.cut.below);
        if self.cut_recorded != Some(cut) {
            schema::put_meta(&self.conn, "cut", &cut.0.to_string())?;
            schema::put_meta(&self.conn, "cut_below", &cut.1.to_string())?;
            self.cut_recorded = Some(cut);
        }
        Ok(())
    }

    /// Commits everything, then says that the end was clean.
    fn close(&mut self, finished: Option<u8>) -> Result<Account, StoreError> {
        self.encoder()?;
        self.begin()?;
        self.write_headers()?;
        self.commit(true)?;
        self.begin()?;
        if let Some(code) = finished {
            schema::put_meta(&self.conn, "finished", &code.to_string()).map_err(self.db())?;
        }
        for sink in &self.sinks {
            sink.still_there()?;
            let stamp = sink.stamp().unwrap_or_default();
            schema::put_meta(&self.conn, &format!("stamp {}", sink.name), &stamp).map_err(self.db())?;
        }
        schema::put_meta(&self.conn, "clean", "1").map_err(self.db())?;
        self.commit(true)?;
        Ok(self.account)
    }

    /// Tells the handles how things stand, committed or not.
    fn publish(&mut self) {
        self.account.pending = self.frontier.pending;
        self.shared.publish(self.account, self.frontier.done, &self.reasons, self.frontier.cut.count);
    }

    pub(super) fn db(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Db { path: path.clone(), source: Arc::new(source) }
    }

    #[cfg(test)]
    fn point(&self, stage: Stage) -> Result<(), StoreError> {
        let armed = self.shared.die_at.load(std::sync::atomic::Ordering::SeqCst);
        if armed == stage as u8 { Err(StoreError::Gone) } else { Ok(()) }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests let the process die here")]
    fn point(&self, _stage: Stage) -> Result<(), StoreError> {
        Ok(())
    }

    /// The number of a reason, made where it is new.
    pub(super) fn reason(&mut self, code: &str) -> Result<i64, StoreError> {
        if let Some((id, _)) = self.reasons.rows.get(code) {
            return Ok(*id);
        }
        let id = RESULT + 1 + i64::try_from(self.reasons.rows.len()).unwrap_or(i64::MAX - 2);
        self.conn
            .prepare_cached("INSERT INTO reason(id, code, n) VALUES (?1, ?2, 0)")
            .and_then(|mut s| s.execute(params![id, code]))
            .map_err(self.db())?;
        self.reasons.rows.insert(code.to_owned(), (id, 0));
        Ok(id)
    }
}

fn record_chunk(conn: &Connection, sink: i64, chunk: &Chunk, mark: &Mark) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO chunk(sink, off, len, records, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        sink,
        chunk.off.cast_signed(),
        chunk.len.cast_signed(),
        chunk.records.cast_signed(),
        &chunk.hash[..]
    ])?;
    conn.prepare_cached("UPDATE sink SET off = ?2, records = ?3, tail_len = ?4, tail_hash = ?5 WHERE id = ?1")?.execute(params![
        sink,
        mark.off.cast_signed(),
        mark.records.cast_signed(),
        mark.tail_len.cast_signed(),
        mark.tail_hash
    ])?;
    Ok(())
}
