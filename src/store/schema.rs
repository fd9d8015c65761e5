//! The database: its layout, its version, and a connection whose settings were read back.

use super::error::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// The version in `PRAGMA user_version`; `docs/delivery.md` describes it.
pub(super) const VERSION: i64 = 1;

/// `later.due` of entries that wait for the final sweep is this and the time before which they wait in it too (0: none);
/// `limiter.dead` of a key with something on the wire is this: later than every wall time.
pub(super) const SWEEP: i64 = i64::MAX / 2;

/// `entry.fate` while there is none.
pub(super) const PENDING: i64 = 0;
/// `entry.fate` of a result; greater ones are `reason.id`.
pub(super) const RESULT: i64 = 1;

const TABLES: &str = "
CREATE TABLE entry(id INTEGER PRIMARY KEY, row INTEGER NOT NULL, url TEXT NOT NULL, host INTEGER, via INTEGER, seed INTEGER,
  depth INTEGER NOT NULL, columns TEXT, fate INTEGER NOT NULL);
CREATE TABLE known(key BLOB PRIMARY KEY, entry INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cut(via INTEGER NOT NULL, key BLOB NOT NULL, url TEXT NOT NULL, host INTEGER NOT NULL,
  PRIMARY KEY(via, key)) WITHOUT ROWID;
CREATE TABLE todo(host INTEGER NOT NULL, prio INTEGER NOT NULL, entry INTEGER NOT NULL, state TEXT,
  PRIMARY KEY(host, prio, entry)) WITHOUT ROWID;
CREATE TABLE later(host INTEGER NOT NULL, due INTEGER NOT NULL, entry INTEGER NOT NULL, prio INTEGER NOT NULL, state TEXT,
  PRIMARY KEY(host, due, entry)) WITHOUT ROWID;
CREATE INDEX later_due ON later(due, host);
CREATE TABLE parked(entry INTEGER PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE host(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, named INTEGER NOT NULL, robots TEXT, robots_body BLOB,
  robots_until INTEGER);
CREATE TABLE reason(id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, n INTEGER NOT NULL);
CREATE TABLE sink(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT, format TEXT NOT NULL, codec TEXT NOT NULL,
  off INTEGER NOT NULL, records INTEGER NOT NULL, tail_len INTEGER NOT NULL, tail_hash BLOB NOT NULL);
CREATE TABLE chunk(sink INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT NULL, records INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY(sink, off)) WITHOUT ROWID;
CREATE TABLE hold(key TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE limiter(key TEXT PRIMARY KEY, row TEXT NOT NULL, at INTEGER NOT NULL, dead INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX limiter_dead ON limiter(dead);
CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT NOT NULL) WITHOUT ROWID;
";

/// How hard the state is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Write-ahead log, synced at every commit.
    Wal,
    /// Network file systems have no shared memory for a write-ahead log: a rollback journal, with its folder synced.
    Rollback,
    /// A throwaway state: nothing is synced.
    None,
}

impl Durability {
    /// What the file system under `dir` allows.
    pub(super) fn of(dir: &Path) -> Self {
        // NFS, SMB1, CIFS/SMB2, 9p (statfs(2)).
        const NETWORK: [u64; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0x0102_1997];
        const SMB2: u64 = 0xFE53_4D42;
        let Ok(stat) = rustix::fs::statfs(dir) else { return Self::Wal };
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            clippy::cast_lossless,
            reason = "the width of f_type is the platform's own"
        )]
        let magic = (stat.f_type as u64) & 0xFFFF_FFFF;
        if NETWORK.contains(&magic) || magic == SMB2 { Self::Rollback } else { Self::Wal }
    }
}

/// Opens `path` for the one writer.
///
/// # Errors
/// A newer version, a file that is no state of gleaner, settings that SQLite did not take, or a refusing system.
pub(super) fn open(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    let db = OpenError::db(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(&db)?;
    conn.busy_timeout(Duration::from_secs(10)).map_err(&db)?;
    conn.set_prepared_statement_cache_capacity(64);
    let (journal, synchronous) = match durability {
        Durability::Wal => ("wal", 2),
        Durability::Rollback => ("delete", 3),
        Durability::None => ("wal", 0),
    };
    let version: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&db)?;
    if version > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    conn.pragma_update(None, "journal_mode", journal).map_err(&db)?;
    conn.pragma_update(None, "synchronous", synchronous).map_err(&db)?;
    conn.pragma_update(None, "foreign_keys", 1).map_err(&db)?;
    conn.pragma_update(None, "mmap_size", 0).map_err(&db)?;
    conn.pragma_update(None, "wal_autocheckpoint", 16_000).map_err(&db)?;
    // A larger one grows with the list: at 8 MiB 200,000 addresses took a fifth more memory than 20,000. At 4 MiB they take a tenth
    // more, and a crawl page some 20 us of CPU.
    conn.pragma_update(None, "cache_size", -4096).map_err(&db)?;
    let text = |name: &str| conn.pragma_query_value(None, name, |r| r.get::<_, String>(0)).map_err(&db);
    let number = |name: &str| conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(&db);
    let wrong = |name: &str| OpenError::Damaged { path: path.to_owned(), detail: format!("the setting {name} was not taken") };
    if text("journal_mode")? != journal {
        return Err(wrong("journal_mode"));
    }
    for (name, want) in [("synchronous", synchronous), ("foreign_keys", 1), ("wal_autocheckpoint", 16_000)] {
        if number(name)? != want {
            return Err(wrong(name));
        }
    }
    // A build without memory mapping answers with no row at all.
    if conn.pragma_query_value(None, "mmap_size", |r| r.get::<_, i64>(0)).unwrap_or(0) != 0 {
        return Err(wrong("mmap_size"));
    }
    Ok(conn)
}

/// Whether `conn` holds a state already; a database of something else is refused.
pub(super) fn exists(conn: &Connection, path: &Path) -> Result<bool, OpenError> {
    let db = OpenError::db(path);
    let version: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&db)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(&db)?;
    match (version, tables) {
        (0, 0) => Ok(false),
        (0, _) => Err(OpenError::Damaged { path: path.to_owned(), detail: "it holds tables of something else".into() }),
        _ => Ok(true),
    }
}

/// Makes the tables; within the caller's transaction, so that a state is whole or not there.
pub(super) fn create(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(TABLES)?;
    conn.pragma_update(None, "user_version", VERSION)
}

/// Takes every table away again, in one transaction.
pub(super) fn clear(conn: &Connection) -> rusqlite::Result<()> {
    let names: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
        .query_map([], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    let drops: String = names.iter().flat_map(|n| ["DROP TABLE IF EXISTS \"", n, "\";"]).collect();
    conn.execute_batch(&format!("BEGIN IMMEDIATE; {drops} PRAGMA user_version = 0; COMMIT"))
}

/// Reads one value of `meta`.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    use rusqlite::OptionalExtension as _;
    conn.prepare_cached("SELECT v FROM meta WHERE k = ?1")?.query_row([key], |r| r.get(0)).optional()
}

/// Writes one value of `meta`.
pub(super) fn put_meta(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO meta(k, v) VALUES (?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v")?.execute([key, value])?;
    Ok(())
}
