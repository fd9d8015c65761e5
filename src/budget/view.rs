//! What other processes may know of budgets, and the one thing they may do: clear one that nobody uses.

use super::book::{Book, Rule};
use super::error::BudgetError;
use super::file::{self, boot, moment, uptime};
use super::owner;
use crate::clock::{Clock, Moment};
use crate::model::Rate;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rules that were seen within this of the newest are shown: processes say every minute which are theirs.
const CURRENT: Duration = Duration::from_mins(2);

/// One budget now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Its name.
    pub name: String,
    /// The database.
    pub path: PathBuf,
    /// Windows that processes go by (their reserve taken off), or went by last.
    pub rates: Vec<Rate>,
    /// Keys about which something is known, the fullest first.
    pub keys: Vec<KeyView>,
    /// Living processes.
    pub processes: Vec<ProcessView>,
    /// For so long nothing is granted by some window: the machine was started anew, or a window longer than what is remembered
    /// was set, and all of it counts as spent.
    pub unknown: Option<Duration>,
}

/// One key of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub key: String,
    /// Units that count now, those in flight included, in the order of [`BudgetView::rates`].
    pub used: Vec<u64>,
    /// Units in flight.
    pub in_flight: u64,
    /// For how long it is held.
    pub held: Option<Duration>,
}

/// A living process of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessView {
    /// As in its own pid namespace.
    pub pid: Option<u32>,
    /// How long ago it opened the budget.
    pub age: Duration,
}

/// Every budget of `folder` by name, each with its view or why there is none.
///
/// # Errors
/// The folder cannot be read; one that is not there is empty.
#[allow(clippy::type_complexity, reason = "one damaged budget hides no other")]
pub fn list(folder: &Path, clock: &dyn Clock) -> Result<Vec<(String, Result<BudgetView, BudgetError>)>, BudgetError> {
    let found = match std::fs::read_dir(folder) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(BudgetError::io(folder)(e)),
    };
    let name = |e: std::fs::DirEntry| e.file_name().to_str().and_then(|f| f.strip_suffix(".db")).map(str::to_owned);
    let mut names: Vec<String> = found.filter_map(Result::ok).filter_map(name).filter(|n| file::check_name(n).is_ok()).collect();
    names.sort_unstable();
    let views = names.into_iter().map(|n| (show(folder, &n, clock), n)).filter(|(v, _)| !matches!(v, Err(BudgetError::Unknown(_))));
    Ok(views.map(|(v, n)| (n, v)).collect())
}

/// One budget now.
///
/// # Errors
/// [`BudgetError::Unknown`], or a database that cannot be read.
pub fn show(folder: &Path, name: &str, clock: &dyn Clock) -> Result<BudgetView, BudgetError> {
    let (mut conn, path) = existing(folder, name)?;
    let db = BudgetError::db(&path);
    // A snapshot: it waits for nobody.
    let tx = conn.transaction().map_err(&db)?;
    if !file::exists(&tx, &path)? {
        return Err(BudgetError::Unknown(name.to_owned()));
    }
    let now = uptime(clock);
    let damaged = |detail: &str| BudgetError::Damaged { path: path.clone(), detail: detail.to_owned() };
    let row = |r: &rusqlite::Row<'_>| Ok((r.get::<_, String>(0)?, r.get::<_, Option<i64>>(1)?, r.get::<_, String>(2)?));
    let (of_boot, forgot, rules) = tx.query_row("SELECT boot, forgot, rules FROM ledger", [], row).map_err(&db)?;
    let mut rules = file::rules_of(&rules).ok_or_else(|| damaged("its rules cannot be read"))?;
    let newest = rules.iter().map(|s| s.at).max().unwrap_or_default();
    rules.retain(|s| s.rule != Rule::KEEPER && newest - s.at <= CURRENT);
    let rules: Vec<Rule> = rules.into_iter().map(|s| s.rule).collect();
    let longest = Duration::from_nanos(rules.last().map_or(0, |r| r.hold()));
    let of_this_boot = of_boot == boot(clock)?;
    let unknown = if of_this_boot { forgot.map_or(Duration::ZERO, |f| (moment(f) + longest) - now) } else { longest };
    let mut keys = Vec::new();
    if of_this_boot {
        let flights = "SELECT name, held, book, ifnull((SELECT sum(n) FROM flight WHERE flight.key = key.name), 0) FROM key";
        let mut rows = tx.prepare(flights).map_err(&db)?;
        let row = |r: &rusqlite::Row<'_>| {
            Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, Book::decode(r.get_ref(2)?.as_blob()?), r.get::<_, i64>(3)?))
        };
        for row in rows.query_map([], row).map_err(&db)? {
            let (key, held, book, in_flight) = row.map_err(&db)?;
            let book = book.ok_or_else(|| damaged("a key's book cannot be read"))?;
            keys.extend(key_view(key, moment(held), book, u64::try_from(in_flight).unwrap_or(0), &rules, now));
        }
    }
    let share = |k: &KeyView| {
        let shares = k.used.iter().zip(&rules).map(|(used, r)| used.saturating_mul(1_000_000) / u64::from(r.count.max(1)));
        (k.held.is_some(), shares.max())
    };
    keys.sort_by(|a, b| share(b).cmp(&share(a)).then_with(|| a.key.cmp(&b.key)));
    let processes = if of_this_boot { processes(&tx, folder, name, now).map_err(&db)? } else { Vec::new() };
    Ok(BudgetView {
        name: name.to_owned(),
        path: path.clone(),
        rates: rules.into_iter().map(Rule::rate).collect(),
        keys,
        processes,
        unknown: Some(unknown).filter(|d| !d.is_zero()),
    })
}

fn key_view(key: String, held: Moment, mut book: Book, in_flight: u64, rules: &[Rule], now: Moment) -> Option<KeyView> {
    // A key that was not used since a rule came has no record of it yet.
    let mut with_keeper = rules.to_vec();
    with_keeper.push(Rule::KEEPER);
    with_keeper.sort_unstable();
    book.fit(&with_keeper, now);
    book.forget(now);
    let used: Vec<u64> = rules.iter().map(|r| book.used(*r) + in_flight).collect();
    let held = Some(held - now).filter(|d| !d.is_zero());
    (in_flight > 0 || held.is_some() || used.iter().any(|n| *n > 0)).then_some(KeyView { key, used, in_flight, held })
}

fn processes(conn: &Connection, folder: &Path, name: &str, now: Moment) -> rusqlite::Result<Vec<ProcessView>> {
    let mut owners = conn.prepare("SELECT id, since FROM owner ORDER BY id")?;
    let owners: Vec<(i64, i64)> = owners.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    let alive = owners.into_iter().filter(|(id, _)| owner::is_alive(folder, name, *id));
    Ok(alive.map(|(id, since)| ProcessView { pid: owner::pid(folder, name, id), age: now - moment(since) }).collect())
}

/// Forgets everything about a budget: what was spent may be spent again. A damaged one is removed.
///
/// # Errors
/// [`BudgetError::Unknown`]; [`BudgetError::InUse`] while a living process uses it.
pub fn clear(folder: &Path, name: &str) -> Result<(), BudgetError> {
    let cleared = existing(folder, name).and_then(|(mut conn, path)| {
        let db = BudgetError::db(&path);
        {
            let tx = file::begin(&mut conn).map_err(&db)?;
            if !file::exists(&tx, &path)? {
                return Err(BudgetError::Unknown(name.to_owned()));
            }
            refuse_living(folder, name)?;
            // The file stays: one who is just opening it has to find this very database, empty.
            file::empty(&tx).map_err(&db)?;
            remove_locks(folder, name);
            tx.commit().map_err(&db)?;
        }
        let _ = conn.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()));
        Ok(())
    });
    let Err(BudgetError::Damaged { path, .. }) = cleared else { return cleared };
    refuse_living(folder, name)?;
    remove_locks(folder, name);
    for end in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(end);
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(BudgetError::io(Path::new(&file))(e)),
            _ => {}
        }
    }
    Ok(())
}

fn existing(folder: &Path, name: &str) -> Result<(Connection, PathBuf), BudgetError> {
    file::check_name(name)?;
    let path = file::path(folder, name);
    if !path.exists() {
        return Err(BudgetError::Unknown(name.to_owned()));
    }
    Ok((file::connect(&path, false)?, path))
}

fn refuse_living(folder: &Path, name: &str) -> Result<(), BudgetError> {
    let living: Vec<i64> = owner::on_disk(folder, name).into_iter().filter(|id| owner::is_alive(folder, name, *id)).collect();
    if living.is_empty() {
        return Ok(());
    }
    let mut pids: Vec<u32> = living.into_iter().filter_map(|id| owner::pid(folder, name, id)).collect();
    pids.sort_unstable();
    Err(BudgetError::InUse { name: name.to_owned(), pids })
}

fn remove_locks(folder: &Path, name: &str) {
    for id in owner::on_disk(folder, name) {
        let _ = std::fs::remove_file(owner::path(folder, name, id));
    }
}
