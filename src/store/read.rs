//! The state as other commands read it: beside a running job, never in its way.

use super::error::OpenError;
use super::lock::{self, Holder};
use super::schema::{self, PENDING, RESULT};
use super::sink;
use crate::clock::Wall;
use crate::events::Account;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `status` shows.
#[derive(Clone, Debug, Default)]
pub struct StatusView {
    /// The job's name.
    pub job: String,
    /// As last committed.
    pub account: Account,
    /// Skipped entries that count, by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// The engine's last snapshot (JSON).
    pub snapshot: Option<String>,
    /// The exit code that the job ended with, where it is done.
    pub finished: Option<u8>,
    /// Whether the last run ended cleanly, or is still on.
    pub clean: bool,
    /// Who runs it now.
    pub running: Option<Holder>,
    /// When its first run began.
    pub started: Option<Wall>,
    /// Sinks: name, path, committed bytes, committed records.
    pub sinks: Vec<SinkView>,
}

/// A sink as `status` and `verify` show it.
#[derive(Clone, Debug)]
pub struct SinkView {
    /// `results` or `skipped`.
    pub name: String,
    /// `None`: stdout.
    pub path: Option<PathBuf>,
    /// Committed bytes.
    pub bytes: u64,
    /// Committed records.
    pub records: u64,
}

/// Opens the state for reading. Readers are to be short: a long one stops checkpoints.
pub(super) fn reader(dir: &Path) -> Result<Option<(Connection, PathBuf)>, OpenError> {
    let path = dir.join("state.db");
    if !path.exists() {
        return Ok(None);
    }
    let db = OpenError::db(&path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = if is_at_rest(dir, &path).map_err(OpenError::io(dir))? {
        let uri = format!("file:{}?immutable=1", percent_encoding::percent_encode(path.as_os_str().as_bytes(), URI));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(&db)?
    } else {
        Connection::open_with_flags(&path, flags).map_err(&db)?
    };
    conn.busy_timeout(Duration::from_secs(5)).map_err(&db)?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&db)?;
    if version > schema::VERSION {
        return Err(OpenError::Newer { path: path.clone(), found: version, known: schema::VERSION });
    }
    if !schema::exists(&conn, &path)? {
        return Ok(None);
    }
    drop(db);
    Ok(Some((conn, path)))
}

/// What stands for itself in the path of a `file:` URI (<https://sqlite.org/uri.html>).
const URI: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Whether nobody has the state open and no journal is left: then it can be read without the files that SQLite makes beside it
/// otherwise, and leaves there. A run that begins meanwhile writes to a new journal first, and to the database itself only after
/// tens of megabytes or at its end.
fn is_at_rest(dir: &Path, db: &Path) -> std::io::Result<bool> {
    let beside = |what: &str| {
        let mut path = db.as_os_str().to_owned();
        path.push(what);
        Path::new(&path).exists()
    };
    Ok(!beside("-wal") && !beside("-journal") && lock::held(dir)?.is_none())
}

/// The state of a job, running or not; `None` where there is none.
///
/// # Errors
/// A damaged or newer state, or one that cannot be read.
pub fn status(dir: &Path) -> Result<Option<StatusView>, OpenError> {
    let Some((conn, path)) = reader(dir)? else { return Ok(None) };
    // One read transaction, so that the parts are of one commit.
    let mut view = conn.unchecked_transaction().and_then(|t| view(&t)).map_err(OpenError::db(&path))?;
    view.running = lock::held(dir).map_err(OpenError::io(dir))?;
    Ok(Some(view))
}

fn view(conn: &Connection) -> rusqlite::Result<StatusView> {
    let meta = |key: &str| schema::meta(conn, key);
    let mut reasons = conn.prepare("SELECT code, n FROM reason WHERE n > 0")?;
    let by_reason = reasons.query_map([], |r| Ok((r.get(0)?, r.get::<_, i64>(1)?.cast_unsigned())))?.collect::<Result<_, _>>()?;
    Ok(StatusView {
        job: meta("job")?.unwrap_or_default(),
        account: serde_json::from_str(&meta("account")?.unwrap_or_default()).unwrap_or_default(),
        by_reason,
        snapshot: meta("snapshot")?,
        finished: meta("finished")?.and_then(|v| v.parse().ok()),
        clean: meta("clean")?.as_deref() == Some("1"),
        running: None,
        started: meta("started")?.and_then(|v| v.parse().ok()).map(Wall),
        sinks: sinks(conn)?.into_iter().map(|(_, s)| s).collect(),
    })
}

fn sinks(conn: &Connection) -> rusqlite::Result<Vec<(i64, SinkView)>> {
    let mut sinks = conn.prepare("SELECT id, name, path, off, records FROM sink ORDER BY id")?;
    sinks
        .query_map([], |r| {
            let sink = SinkView {
                name: r.get(1)?,
                path: r.get::<_, Option<String>>(2)?.map(PathBuf::from),
                bytes: r.get::<_, i64>(3)?.cast_unsigned(),
                records: r.get::<_, i64>(4)?.cast_unsigned(),
            };
            Ok((r.get(0)?, sink))
        })?
        .collect()
}

/// Live skipped entries of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedGroup {
    /// The code.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Address of one of them, as listed.
    pub example: String,
    /// Its input record.
    pub example_row: u64,
}

/// The skipped entries that count, by reason, most first.
///
/// # Errors
/// As [`status`].
pub fn skipped(dir: &Path) -> Result<Vec<SkippedGroup>, OpenError> {
    let Some((conn, path)) = reader(dir)? else { return Ok(Vec::new()) };
    let groups = || {
        let mut groups = conn.prepare(
            "SELECT r.code, r.n, e.url, e.row FROM reason r JOIN entry e ON e.id = (SELECT id FROM entry WHERE fate = r.id LIMIT 1)
             WHERE r.n > 0 ORDER BY r.n DESC, r.code",
        )?;
        groups
            .query_map([], |r| {
                let (count, row) = (r.get::<_, i64>(1)?.cast_unsigned(), r.get::<_, i64>(3)?.cast_unsigned());
                Ok(SkippedGroup { reason: r.get(0)?, count, example: r.get(2)?, example_row: row })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    groups().map_err(OpenError::db(&path))
}

/// The account counted anew from the entries, one by one: takes time in a large state. `rows` is what the results sink
/// holds.
///
/// # Errors
/// As [`status`].
pub fn counts(dir: &Path) -> Result<Option<Account>, OpenError> {
    let Some((conn, path)) = reader(dir)? else { return Ok(None) };
    recount(&conn).map(Some).map_err(OpenError::db(&path))
}

fn recount(conn: &Connection) -> rusqlite::Result<Account> {
    let duplicate: i64 = conn.query_row("SELECT coalesce(max(id), -1) FROM reason WHERE code = 'duplicate'", [], |r| r.get(0))?;
    let rows: i64 = conn.query_row("SELECT coalesce(max(records), 0) FROM sink WHERE name = 'results'", [], |r| r.get(0))?;
    conn.query_row(
        "SELECT count(*) FILTER (WHERE via IS NULL), count(*) FILTER (WHERE via IS NOT NULL), count(*) FILTER (WHERE fate = ?2),
         count(*) FILTER (WHERE fate > ?2), count(*) FILTER (WHERE fate = ?3), count(*) FILTER (WHERE fate = ?1) FROM entry",
        params![PENDING, RESULT, duplicate],
        |r| {
            let n = |i: usize| r.get::<_, i64>(i).map(i64::cast_unsigned);
            Ok(Account {
                inputs: n(0)?,
                discovered: n(1)?,
                results: n(2)?,
                rows: rows.cast_unsigned(),
                skipped: n(3)?,
                duplicates: n(4)?,
                pending: n(5)?,
            })
        },
    )
}

/// Compares the state with itself and every committed byte of every sink with the hash of its commit. What is found is
/// told in sentences; none: all is as it was written. Takes as long as reading everything.
///
/// # Errors
/// As [`status`], and where a sink cannot be read.
pub fn verify(dir: &Path) -> Result<Option<Vec<String>>, OpenError> {
    let Some((conn, path)) = reader(dir)? else { return Ok(None) };
    let db = OpenError::db(&path);
    let mut found = Vec::new();
    let check: String = conn.query_row("PRAGMA integrity_check(5)", [], |r| r.get(0)).map_err(&db)?;
    if check != "ok" {
        found.push(format!("the state is damaged: {check}"));
        return Ok(Some(found));
    }
    let conn = conn.unchecked_transaction().map_err(&db)?;
    let account = view(&conn).map_err(&db)?.account;
    if !account.closes() {
        found.push(format!("the account does not close: {account}"));
    }
    let counted = recount(&conn).map_err(&db)?;
    if counted != account {
        found.push(format!("the account says {account}, {} rows; the entries say {counted}, {} rows", account.rows, counted.rows));
    }
    let waiting: i64 =
        conn.query_row("SELECT (SELECT count(*) FROM todo) + (SELECT count(*) FROM later)", [], |r| r.get(0)).map_err(&db)?;
    if waiting.cast_unsigned() != account.pending {
        found.push(format!("{} entries are pending, {waiting} are in the frontier", account.pending));
    }
    let cut: (Option<String>, i64, i64) = conn
        .query_row(
            "SELECT (SELECT v FROM meta WHERE k = 'cut'), (SELECT count(*) FROM cut), (SELECT count(*) FROM known WHERE entry < 0)",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .map_err(&db)?;
    let told = cut.0.and_then(|n| n.parse().ok()).unwrap_or(0);
    if (cut.1, cut.2) != (told, told) {
        found.push(format!("{told} links are too deep for now, {} are kept and {} known", cut.1, cut.2));
    }
    for (id, sink) in sinks(&conn).map_err(&db)? {
        if let Some(at) = &sink.path {
            verify_sink(&conn, id, &sink, at, &mut found, &db)?;
        }
    }
    Ok(Some(found))
}

/// Whether the committed bytes of a sink are not what was written.
pub(super) fn edited(conn: &Connection, id: i64, file: &Path) -> Result<bool, OpenError> {
    let db = OpenError::db(file);
    let mut found = Vec::new();
    for (_, sink) in sinks(conn).map_err(&db)?.into_iter().filter(|(i, _)| *i == id) {
        verify_sink(conn, id, &sink, file, &mut found, &db)?;
    }
    Ok(!found.is_empty())
}

/// Whether the first commit's bytes of a sink are not what was written.
pub(super) fn head_edited(conn: &Connection, id: i64, path: &Path) -> Result<bool, OpenError> {
    let first = conn
        .query_row("SELECT len, hash FROM chunk WHERE sink = ?1 AND off = 0", [id], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, Vec<u8>>(1)?)))
        .optional()
        .map_err(OpenError::db(path))?;
    let Some((len, hash)) = first else { return Ok(false) };
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    File::open(path).and_then(|f| f.read_exact_at(&mut bytes, 0)).map_err(OpenError::io(path))?;
    Ok(sink::hash(&bytes)[..] != hash[..])
}

fn verify_sink(
    conn: &Connection,
    id: i64,
    sink: &SinkView,
    path: &Path,
    found: &mut Vec<String>,
    db: &impl Fn(rusqlite::Error) -> OpenError,
) -> Result<(), OpenError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if sink.bytes > 0 {
                found.push(format!("{} is missing: {} records are gone", path.display(), sink.records));
            }
            return Ok(());
        }
        Err(e) => return Err(OpenError::io(path)(e)),
    };
    let mut chunks = conn.prepare("SELECT off, len, records, hash FROM chunk WHERE sink = ?1 ORDER BY off").map_err(db)?;
    let mut rows = chunks.query([id]).map_err(db)?;
    let (mut at, mut records, mut bytes) = (0u64, 0u64, Vec::new());
    while let Some(row) = rows.next().map_err(db)? {
        let off = row.get::<_, i64>(0).map_err(db)?.cast_unsigned();
        let len = row.get::<_, i64>(1).map_err(db)?.cast_unsigned();
        let hash: Vec<u8> = row.get(3).map_err(db)?;
        if off != at {
            found.push(format!("{}: the state lacks bytes {at} to {off}", path.display()));
        }
        at = off + len;
        records += row.get::<_, i64>(2).map_err(db)?.cast_unsigned();
        bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        match file.read_exact_at(&mut bytes, off) {
            Ok(()) if sink::hash(&bytes)[..] == hash[..] => {}
            Ok(()) => found.push(format!("{}: bytes {off} to {at} are not what was written", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                found.push(format!("{} ends before byte {at}", path.display()));
                break;
            }
            Err(e) => return Err(OpenError::io(path)(e)),
        }
    }
    if (at, records) != (sink.bytes, sink.records) && !found.iter().any(|f| f.contains("ends before")) {
        found.push(format!(
            "{}: commits add up to {records} records in {at} bytes, the mark says {} in {}",
            path.display(),
            sink.records,
            sink.bytes
        ));
    }
    Ok(())
}
