//! Where budgets are, and their database: its layout, its version, its settings.

use super::book::{LOST, Rule};
use super::error::BudgetError;
use crate::clock::{Clock, Moment};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version in `PRAGMA user_version`; `docs/budgets.md` describes it.
pub(super) const VERSION: i64 = 1;

/// `key.idle_at` while something is in flight.
pub(super) const BUSY: i64 = i64::MAX;

/// Instants and nanoseconds are of the machine's uptime clock in the boot that `ledger` names.
const TABLES: &str = "
CREATE TABLE ledger(boot TEXT NOT NULL, forgot INTEGER, rules TEXT NOT NULL);
CREATE TABLE owner(id INTEGER PRIMARY KEY AUTOINCREMENT, since INTEGER NOT NULL);
CREATE TABLE key(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, idle_at INTEGER NOT NULL, last INTEGER,
  held INTEGER NOT NULL, held_at INTEGER NOT NULL, book BLOB NOT NULL);
CREATE INDEX key_idle ON key(idle_at);
CREATE TABLE flight(key TEXT NOT NULL, owner INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(key, owner)) WITHOUT ROWID;
";

/// How long a call waits for another process's transaction (some 50 us each) before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder of this user's budgets: `$XDG_STATE_HOME/gleaner/budgets`, else `$HOME/.local/state/gleaner/budgets`.
///
/// `variable` reads the environment; relative paths in it are ignored, as the XDG base directory specification has it.
///
/// # Errors
/// [`BudgetError::NoHome`] where neither is set.
pub fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, BudgetError> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|s| s.join("gleaner/budgets")).ok_or(BudgetError::NoHome)
}

/// Whether `name` can be a budget's.
///
/// # Errors
/// [`BudgetError::Name`].
pub fn check_name(name: &str) -> Result<(), BudgetError> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let right = name.len() <= 64 && name.starts_with(plain) && name.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'));
    if right { Ok(()) } else { Err(BudgetError::Name(name.to_owned())) }
}

/// The database of a budget.
pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.db"))
}

/// NFS, SMB1, CIFS, SMB2 (statfs(2)): there several machines would share a budget, and WAL has no shared memory.
const NETWORK: [u64; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42];

/// Makes the folder, for this user alone.
pub(super) fn make_folder(folder: &Path) -> Result<(), BudgetError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(BudgetError::io(folder))?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, clippy::cast_lossless, reason = "the width of f_type is the platform's own")]
    let magic = rustix::fs::statfs(folder).map_or(0, |s| (s.f_type as u64) & 0xFFFF_FFFF);
    if NETWORK.contains(&magic) { Err(BudgetError::Network { path: folder.to_owned() }) } else { Ok(()) }
}

/// A connection with its settings; the database may still be empty.
///
/// # Errors
/// No file and not `create`, a newer version, something else than a budget, or a refusing system.
pub(super) fn connect(path: &Path, create: bool) -> Result<Connection, BudgetError> {
    let db = BudgetError::db(path);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let conn = Connection::open_with_flags(path, flags).map_err(&db)?;
    conn.busy_timeout(PATIENCE).map_err(&db)?;
    conn.set_prepared_statement_cache_capacity(32);
    let found: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&db)?;
    if found > VERSION {
        return Err(BudgetError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    // Several that make the file at once are told "busy" without a wait.
    let mut tries = 0;
    while let Err(e) = conn.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get::<_, String>(0)) {
        if tries > 200 || e.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
            return Err(db(e));
        }
        tries += 1;
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // Nothing of a killed process is lost: the page cache outlives it. After a loss of power the boot is another one, and whatever
    // commits are missing count as spent; NORMAL syncs at checkpoints alone, so that the file is whole even then.
    conn.pragma_update(None, "synchronous", 1).map_err(&db)?;
    conn.pragma_update(None, "cache_size", -512).map_err(&db)?;
    let journal: String = conn.pragma_query_value(None, "journal_mode", |r| r.get(0)).map_err(&db)?;
    let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |r| r.get(0)).map_err(&db)?;
    if journal != "wal" || synchronous != 1 {
        return Err(BudgetError::Damaged { path: path.to_owned(), detail: "its journal mode was not taken".into() });
    }
    Ok(conn)
}

/// Begins a transaction that waits for the other processes'.
pub(super) fn begin(conn: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    conn.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Whether there is a ledger; a database of something else is refused.
pub(super) fn exists(conn: &Connection, path: &Path) -> Result<bool, BudgetError> {
    let db = BudgetError::db(path);
    let version: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&db)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'", [], |r| r.get(0)).map_err(&db)?;
    match (version, tables) {
        (0, 0) => Ok(false),
        (0, _) => Err(BudgetError::Damaged { path: path.to_owned(), detail: "it holds tables of something else".into() }),
        _ => Ok(true),
    }
}

/// Makes the tables; within the caller's transaction.
pub(super) fn create(conn: &Connection, boot: &str) -> rusqlite::Result<()> {
    conn.execute_batch(TABLES)?;
    conn.execute("INSERT INTO ledger(boot, rules) VALUES (?1, '[]')", [boot])?;
    conn.pragma_update(None, "user_version", VERSION)
}

/// Takes every table away again; within the caller's transaction.
pub(super) fn empty(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("DROP TABLE IF EXISTS ledger; DROP TABLE IF EXISTS owner; DROP TABLE IF EXISTS key; DROP TABLE IF EXISTS flight;")?;
    conn.pragma_update(None, "user_version", 0)
}

/// What is known of another boot: what was spent in it counts as the whole quota for a window from now on, and holds last as long
/// as they would have from the instant they were set.
pub(super) fn reboot(conn: &Connection, boot: &str, now: Moment) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM flight", [])?;
    conn.execute("DELETE FROM owner", [])?;
    conn.execute("DELETE FROM key WHERE held <= held_at", [])?;
    let empty = super::book::Book::default().encode();
    let held = "UPDATE key SET held = ?1 + held - held_at, held_at = ?1, idle_at = ?1 + held - held_at, last = NULL, book = ?2";
    conn.execute(held, rusqlite::params![sql(now), empty])?;
    // Their instants are of another clock.
    conn.execute("UPDATE ledger SET boot = ?1, forgot = ?2, rules = '[]'", rusqlite::params![boot, sql(now + LOST)])?;
    Ok(())
}

/// A rule of the ledger, and when a process that goes by it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) rule: Rule,
    pub(super) at: Moment,
}

/// `ledger.rules`: a JSON list of `[per, count, burst, seen]`, nanoseconds and units.
pub(super) fn rules_text(rules: &[Seen]) -> String {
    let lists: Vec<String> = rules.iter().map(|s| format!("[{},{},{},{}]", s.rule.per, s.rule.count, s.rule.burst, s.at.0)).collect();
    format!("[{}]", lists.join(","))
}

/// Back from [`rules_text`].
pub(super) fn rules_of(text: &str) -> Option<Vec<Seen>> {
    let lists: Vec<(u64, u32, u32, u64)> = serde_json::from_str(text).ok()?;
    Some(lists.into_iter().map(|(per, count, burst, at)| Seen { rule: Rule { per, count, burst }, at: Moment(at) }).collect())
}

/// An instant as SQLite keeps it.
pub(super) fn sql(at: Moment) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// Back from [`sql`].
pub(super) fn moment(at: i64) -> Moment {
    Moment(u64::try_from(at).unwrap_or(0))
}

/// The machine's time: one for every process on it, which no change of the calendar touches.
pub(super) fn uptime(clock: &dyn Clock) -> Moment {
    Moment(u64::try_from(clock.up().as_nanos()).unwrap_or(u64::MAX))
}

/// Which start of the machine its time is of.
pub(super) fn boot(clock: &dyn Clock) -> Result<&str, BudgetError> {
    clock.boot().ok_or(BudgetError::Clock)
}
