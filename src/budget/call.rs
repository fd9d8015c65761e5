//! One call of a ledger: what it reads, decides and writes within its transaction.

use super::book::{Book, LOST, Rule};
use super::error::BudgetError;
use super::file::{self, BUSY, Seen, boot, moment, sql, uptime};
use super::owner;
use super::types::{Answer, BudgetConfig, End, Grant, Want};
use crate::clock::{Clock, Moment};
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often a process looks for dead ones.
const LOOK: Duration = Duration::from_millis(100);
/// How often a process says that its rules are in use.
const TELL: Duration = Duration::from_mins(1);
/// Idle keys that one call deletes at most.
const SWEEP: u32 = 16;
/// Rules that a ledger keeps at most while they are not in use.
const RULES: usize = 32;

/// What a process knows between its calls.
pub(super) struct Me {
    folder: PathBuf,
    name: String,
    pub(super) path: PathBuf,
    clock: Arc<dyn Clock>,
    /// Which start of the machine this is.
    boot: String,
    own: Vec<Rule>,
    pub(super) owner: Option<Owner>,
    /// Units in flight by key: this process alone writes its rows, and writes them whole.
    pub(super) open: HashMap<Arc<str>, u64>,
    looked: Option<Moment>,
    /// The ledger's rules as they were read last.
    rules: (String, Vec<Seen>),
    /// The control of the tests: frees a dead process's grants at once.
    #[cfg(test)]
    pub(super) frees_dead: bool,
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Me").field("path", &self.path).field("own", &self.own).field("open", &self.open).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) id: i64,
    _lock: File,
}

/// What one call found and did; nothing of it counts before its commit.
pub(super) struct Done {
    pub(super) now: Moment,
    forgot: Option<Moment>,
    /// As in the database; to be written where they differ.
    was: (Option<Moment>, String),
    seen: Vec<Seen>,
    rules: Vec<Rule>,
    sheets: BTreeMap<Arc<str>, Sheet>,
    entered: Option<Owner>,
    pub(super) dead: Vec<i64>,
    looked: Option<Moment>,
    answers: Vec<Answer>,
}

/// One key in one call.
pub(super) struct Sheet {
    book: Book,
    /// Units in flight of others.
    others: u64,
    /// Units in flight of this process.
    mine: u64,
    pub(super) held: Moment,
    pub(super) held_at: Moment,
    is_new: bool,
}

impl Me {
    pub(super) fn new(config: &BudgetConfig<'_>, clock: Arc<dyn Clock>) -> Result<Self, BudgetError> {
        let mut own: Vec<Rule> = config.rates.iter().map(|r| Rule::new(*r, config.burst, config.share)).collect();
        own.sort_unstable();
        own.dedup();
        Ok(Self {
            boot: boot(&*clock)?.to_owned(),
            folder: config.folder.to_owned(),
            name: config.name.to_owned(),
            path: file::path(config.folder, config.name),
            clock,
            own,
            owner: None,
            open: HashMap::new(),
            looked: None,
            rules: (String::new(), Vec::new()),
            #[cfg(test)]
            frees_dead: std::env::var_os("GLEANER_TEST_FREES").is_some(),
        })
    }

    pub(super) fn work(&self, tx: &Transaction<'_>, ended: &[(Grant, End)], wants: &[Want<'_>]) -> Result<Done, BudgetError> {
        let mut done = self.enter(tx)?;
        let now = done.now;
        for (grant, end) in ended {
            let sheet = self.sheet(tx, &mut done, &grant.key)?;
            sheet.mine = sheet.mine.saturating_sub(grant.weight.into());
            match end {
                End::Arrived { ago } => {
                    let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
                    sheet.book.spend(Moment(now.0.saturating_sub(ago)).max(grant.at), grant.weight);
                }
                End::Lost => sheet.book.spend(now + LOST, grant.weight),
                End::Unsent => {}
            }
        }
        for want in wants {
            let answer = self.grant(tx, &mut done, want)?;
            done.answers.push(answer);
        }
        self.store(tx, &mut done)?;
        Ok(done)
    }

    fn grant(&self, tx: &Transaction<'_>, done: &mut Done, want: &Want<'_>) -> Result<Answer, BudgetError> {
        let (now, forgot, weight) = (done.now, done.forgot, want.weight.max(1));
        let sheet = self.sheet(tx, done, want.key)?;
        let held = Some(sheet.held - now).filter(|d| !d.is_zero());
        let mut answer = Answer { granted: Vec::new(), next: None, held };
        let key: Arc<str> = want.key.into();
        for _ in 0..want.count {
            let asked =
                if held.is_some() { Err(sheet.held) } else { sheet.book.take(&self.own, sheet.others + sheet.mine, weight, forgot, now) };
            if let Err(at) = asked {
                answer.next = (at < Moment::FAR).then(|| at - now);
                break;
            }
            sheet.mine += u64::from(weight);
            answer.granted.push(Grant { key: Arc::clone(&key), weight, at: now });
        }
        Ok(answer)
    }

    /// Reads the ledger, makes this process one of its owners where it is not, and buries the dead.
    pub(super) fn enter(&self, tx: &Transaction<'_>) -> Result<Done, BudgetError> {
        let db = BudgetError::db(&self.path);
        let owner = self.owner.as_ref().map(|o| o.id);
        if owner.is_none() && !file::exists(tx, &self.path)? {
            file::create(tx, &self.boot).map_err(&db)?;
        }
        let mut done = self.read(tx)?;
        let now = done.now;
        let owners: Vec<i64> = tx
            .prepare_cached("SELECT id FROM owner")
            .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect::<Result<_, _>>())
            .map_err(&db)?;
        let is_in = owner.is_some_and(|id| owners.contains(&id));
        // Before any book is read: each has a record for each of this process's rules.
        let told = |r: &Rule| done.seen.iter().any(|s| s.rule == *r && now - s.at < TELL);
        if done.seen.is_empty() || !self.own.iter().all(told) {
            self.tell(&mut done);
        }
        if !is_in || self.looked.is_none_or(|at| now - at >= LOOK) {
            done.looked = Some(now);
            let dead: Vec<i64> = owners.into_iter().filter(|id| Some(*id) != owner && !self.is_alive(*id)).collect();
            self.bury(tx, &mut done, &dead)?;
        }
        if !is_in {
            done.entered = Some(self.make_owner(tx, now)?);
        }
        Ok(done)
    }

    /// Reads the ledger of this boot.
    pub(super) fn read(&self, tx: &Transaction<'_>) -> Result<Done, BudgetError> {
        let db = BudgetError::db(&self.path);
        // After BEGIN: so instants are in the order of the transactions.
        let now = uptime(&*self.clock);
        let row = |tx: &Transaction<'_>| {
            tx.prepare_cached("SELECT boot, forgot, rules FROM ledger")?
                .query_row([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Option<i64>>(1)?, r.get::<_, String>(2)?)))
        };
        let (boot, mut forgot, mut text) = row(tx).map_err(&db)?;
        if boot != self.boot {
            // No process outlives its boot.
            if owner::on_disk(&self.folder, &self.name).into_iter().any(|id| self.is_alive(id)) {
                return Err(BudgetError::Elsewhere { path: self.path.clone() });
            }
            file::reboot(tx, &self.boot, now).map_err(&db)?;
            (_, forgot, text) = row(tx).map_err(&db)?;
        }
        let seen = if text == self.rules.0 {
            self.rules.1.clone()
        } else {
            file::rules_of(&text).ok_or_else(|| self.damaged("its rules cannot be read"))?
        };
        let forgot = forgot.map(moment);
        Ok(Done {
            now,
            forgot,
            was: (forgot, text),
            rules: seen.iter().map(|s| s.rule).collect(),
            seen,
            sheets: BTreeMap::new(),
            entered: None,
            dead: Vec::new(),
            looked: self.looked,
            answers: Vec::new(),
        })
    }

    fn make_owner(&self, tx: &Transaction<'_>, now: Moment) -> Result<Owner, BudgetError> {
        let db = BudgetError::db(&self.path);
        loop {
            tx.execute("INSERT INTO owner(since) VALUES (?1)", [sql(now)]).map_err(&db)?;
            let id = tx.last_insert_rowid();
            if let Some(lock) = owner::claim(&self.folder, &self.name, id)? {
                for (key, n) in &self.open {
                    put_flight(tx, key, id, *n).map_err(&db)?;
                }
                self.sweep_locks(tx).map_err(&db)?;
                return Ok(Owner { id, _lock: lock });
            }
            // Someone removed the database below a process that lives on.
            tx.execute("DELETE FROM owner WHERE id = ?1", [id]).map_err(&db)?;
        }
    }

    /// Removes lock files of no owner: their process died between the file and the commit. Nobody else is at this point.
    fn sweep_locks(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut is_owner = tx.prepare("SELECT 1 FROM owner WHERE id = ?1")?;
        for id in owner::on_disk(&self.folder, &self.name) {
            if !is_owner.exists([id])? && !self.is_alive(id) {
                let _ = std::fs::remove_file(owner::path(&self.folder, &self.name, id));
            }
        }
        Ok(())
    }

    /// Says that this process's rules are in use, and drops some that are not any more.
    fn tell(&self, done: &mut Done) {
        let now = done.now;
        let keep = |s: &Seen| now - s.at < Duration::from_nanos(s.rule.hold().max(Rule::KEEPER.hold()).saturating_mul(2));
        let (mut seen, mut dropped): (Vec<Seen>, Vec<Seen>) = done.seen.iter().copied().partition(keep);
        for rule in self.own.iter().copied().chain([Rule::KEEPER]) {
            seen.retain(|s| s.rule != rule);
            seen.push(Seen { rule, at: now });
        }
        seen.sort_unstable_by_key(|s| s.at);
        while seen.len() > RULES && now - seen[0].at > TELL * 3 {
            dropped.push(seen.remove(0));
        }
        seen.sort_unstable_by_key(|s| s.rule);
        if dropped.iter().any(|s| s.rule.per > Rule::KEEPER.per) {
            // What the keeper does not remember is remembered by none.
            done.forget(Moment(now.0.saturating_sub(Rule::KEEPER.hold())));
        }
        done.rules = seen.iter().map(|s| s.rule).collect();
        done.seen = seen;
    }

    /// Turns dead processes' open grants into requests that arrive up to 5 s from now, and forgets the processes.
    pub(super) fn bury(&self, tx: &Transaction<'_>, done: &mut Done, dead: &[i64]) -> Result<(), BudgetError> {
        let db = BudgetError::db(&self.path);
        // All of them before a sheet is read: it counts the flights that are there.
        let mut flights: Vec<(String, i64)> = Vec::new();
        for id in dead {
            let of: Vec<(String, i64)> = tx
                .prepare_cached("DELETE FROM flight WHERE owner = ?1 RETURNING key, n")
                .and_then(|mut s| s.query_map([id], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>())
                .map_err(&db)?;
            flights.extend(of);
            tx.prepare_cached("DELETE FROM owner WHERE id = ?1").and_then(|mut s| s.execute([id])).map_err(&db)?;
        }
        let now = done.now;
        for (key, n) in flights {
            let sheet = self.sheet(tx, done, &key)?;
            #[cfg(test)]
            if self.frees_dead {
                continue;
            }
            sheet.book.spend(now + LOST, u32::try_from(n).unwrap_or(u32::MAX));
        }
        done.dead.extend(dead);
        Ok(())
    }

    /// The key's sheet in this call.
    pub(super) fn sheet<'d>(&self, tx: &Transaction<'_>, done: &'d mut Done, key: &str) -> Result<&'d mut Sheet, BudgetError> {
        if !done.sheets.contains_key(key) {
            let sheet = self.load(tx, done, key)?;
            done.sheets.insert(key.into(), sheet);
        }
        done.sheets.get_mut(key).ok_or_else(|| self.damaged("a key is missing"))
    }

    fn load(&self, tx: &Transaction<'_>, done: &mut Done, key: &str) -> Result<Sheet, BudgetError> {
        let db = BudgetError::db(&self.path);
        let now = done.now;
        let found: Option<(i64, i64, Option<Book>)> = tx
            .prepare_cached("SELECT held, held_at, book FROM key WHERE name = ?1")
            .and_then(|mut s| s.query_row([key], |r| Ok((r.get(0)?, r.get(1)?, Book::decode(r.get_ref(2)?.as_blob()?)))).optional())
            .map_err(&db)?;
        let is_new = found.is_none();
        let (held, held_at, book) = found.unwrap_or((0, 0, Some(Book::default())));
        let mut book = book.ok_or_else(|| self.damaged("a key's book cannot be read"))?;
        book.fit(&done.rules, now);
        if let Some(last) = book.forget(now) {
            done.forget(last);
        }
        let id = done.entered.as_ref().or(self.owner.as_ref()).map_or(0, |o| o.id);
        let others: i64 = tx
            .prepare_cached("SELECT ifnull(sum(n), 0) FROM flight WHERE key = ?1 AND owner <> ?2")
            .and_then(|mut s| s.query_row(params![key, id], |r| r.get(0)))
            .map_err(&db)?;
        let mine = self.open.get(key).copied().unwrap_or(0);
        Ok(Sheet { book, others: u64::try_from(others).unwrap_or(0), mine, held: moment(held), held_at: moment(held_at), is_new })
    }

    /// Writes what the call changed, and deletes some keys about which nothing is to be remembered.
    pub(super) fn store(&self, tx: &Transaction<'_>, done: &mut Done) -> Result<(), BudgetError> {
        self.store_all(tx, done).map_err(BudgetError::db(&self.path))
    }

    fn store_all(&self, tx: &Transaction<'_>, done: &mut Done) -> rusqlite::Result<()> {
        let id = done.entered.as_ref().or(self.owner.as_ref()).map(|o| o.id);
        for (key, sheet) in &done.sheets {
            if let Some(id) = id {
                put_flight(tx, key, id, sheet.mine)?;
            }
            let mine = if id.is_some() { sheet.mine } else { 0 };
            let idle = if sheet.others + mine > 0 { BUSY } else { sql(sheet.book.idle_at().max(sheet.held)) };
            let last = sheet.book.last().map(sql);
            let values = params![&**key, idle, last, sql(sheet.held), sql(sheet.held_at), sheet.book.encode()];
            let text = if sheet.is_new {
                "INSERT INTO key(name, idle_at, last, held, held_at, book) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            } else {
                "UPDATE key SET idle_at = ?2, last = ?3, held = ?4, held_at = ?5, book = ?6 WHERE name = ?1"
            };
            tx.prepare_cached(text)?.execute(values)?;
        }
        if done.entered.is_some() || done.sheets.values().any(|s| s.is_new) {
            let idle = "DELETE FROM key WHERE id IN (SELECT id FROM key WHERE idle_at <= ?1 LIMIT ?2) RETURNING last";
            let gone: Vec<Option<i64>> =
                tx.prepare_cached(idle)?.query_map(params![sql(done.now), SWEEP], |r| r.get(0))?.collect::<Result<_, _>>()?;
            if let Some(last) = gone.into_iter().flatten().max() {
                done.forget(moment(last));
            }
        }
        let text = file::rules_text(&done.seen);
        if (done.forgot, &text) != (done.was.0, &done.was.1) {
            tx.prepare_cached("UPDATE ledger SET forgot = ?1, rules = ?2")?.execute(params![done.forgot.map(sql), text])?;
            done.was = (done.forgot, text);
        }
        Ok(())
    }

    /// Remembers what a committed call did.
    pub(super) fn take_over(&mut self, done: Done) -> Vec<Answer> {
        for (key, sheet) in done.sheets {
            if sheet.mine == 0 {
                self.open.remove(&key);
            } else {
                self.open.insert(key, sheet.mine);
            }
        }
        self.remove_locks(&done.dead);
        self.owner = done.entered.or(self.owner.take());
        self.looked = done.looked;
        self.rules = (done.was.1, done.seen);
        done.answers
    }

    pub(super) fn is_alive(&self, id: i64) -> bool {
        owner::is_alive(&self.folder, &self.name, id)
    }

    pub(super) fn remove_locks(&self, dead: &[i64]) {
        for id in dead {
            let _ = std::fs::remove_file(owner::path(&self.folder, &self.name, *id));
        }
    }

    fn damaged(&self, detail: &str) -> BudgetError {
        BudgetError::Damaged { path: self.path.clone(), detail: detail.to_owned() }
    }
}

impl Done {
    fn forget(&mut self, last: Moment) {
        self.forgot = self.forgot.max(Some(last));
    }
}

fn put_flight(tx: &Transaction<'_>, key: &str, owner: i64, n: u64) -> rusqlite::Result<()> {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    if n == 0 {
        tx.prepare_cached("DELETE FROM flight WHERE key = ?1 AND owner = ?2")?.execute(params![key, owner])?;
    } else {
        let put = "INSERT INTO flight(key, owner, n) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET n = excluded.n WHERE n <> excluded.n";
        tx.prepare_cached(put)?.execute(params![key, owner, n])?;
    }
    Ok(())
}
