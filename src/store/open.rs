//! From a folder and two files to a running store: locks, comparisons, recovery. Nothing here grows with what was done.

use super::cut::Cut;
use super::error::OpenError;
use super::frontier::Frontier;
use super::handle::{Shared, Store};
use super::limiter::Patience;
use super::schema::{self, Durability};
use super::sink::{self, Mark, Opening, Sink};
use super::types::{InputMark, Opened, StoreConfig};
use super::writer::{RESULTS, Reasons, SKIPPED, Throwaway, Writer};
use super::{aside, lock, read};
use crate::clock::{Clock, Wall};
use crate::model::plan::{Codec, SinkFormat, SinkPlan};
use crate::model::printable;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Opens or makes a state and its sinks, and starts the writer. Blocks; call it before the run's tasks.
///
/// # Errors
/// See [`OpenError`]; each knows its exit code and advice. Nothing that was gathered is overwritten or deleted.
pub fn open(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<(Store, Opened), OpenError> {
    let stamp = clock.stamp();
    let now = stamp.wall;
    let (dir, throwaway) = folder(config.dir.as_deref(), now)?;
    let lock = lock::folder(&dir, now)?;
    let plans: Vec<(&'static str, &SinkPlan)> =
        std::iter::once(("results", &config.results)).chain(config.skipped.as_ref().map(|p| ("skipped", p))).collect();
    let paths = distinct(&plans)?;
    let durability = if throwaway.is_some() { Durability::None } else { Durability::of(&dir) };
    let sync = throwaway.is_none();
    let path = dir.join("state.db");
    let mut opened = Opened::default();
    let mut patience = Patience::default();
    if config.fresh {
        patience = Patience::of_other(&path);
        aside::set_aside(&dir, &paths, now, &mut opened.notices)?;
    }
    let conn = schema::open(&path, durability)?;
    opened.resumed = schema::exists(&conn, &path)?;
    let db = OpenError::db(&path);
    let mut stored = Stored::default();
    let mut blank = false;
    if opened.resumed {
        stored = read(&conn, &mut opened).map_err(&db)?;
        patience = Patience::read(&conn).map_err(&db)?;
        let changed = compare(&stored.frozen, &config.frozen);
        let took_nothing = opened.input.is_none() && opened.account.inputs == 0 && opened.finished.is_none();
        // Nothing was ever taken: the cured job starts clean, whatever was changed in it or in its list.
        blank = took_nothing && (changed.is_err() || opened.columns.is_some());
        if !blank {
            changed?;
        }
    }
    let mut sinks = Vec::new();
    let with = Opening { dir: &dir, stdout: config.stdout.as_ref(), sync, clean: stored.clean, blank };
    for (id, (name, plan)) in (1..).zip(&plans) {
        let mark = stored.sinks.get(*name);
        if let Some((form, _)) = mark.filter(|_| !blank)
            && *form != form_of(plan)
        {
            return Err(OpenError::Frozen { key: format!("output.{name}"), was: form.clone(), now: form_of(plan) });
        }
        let lost = |size: u64| lost_records(&conn, id, size);
        sinks.push(Sink::open((id, *name), plan, mark.map(|(_, m)| m), &with, lost)?);
    }
    if blank {
        // The sinks are locked and hold nothing but the header of this state: first that goes, then the state.
        recover(&sinks, false, &mut Vec::new())?;
        schema::clear(&conn).map_err(&db)?;
        opened = Opened { notices: opened.notices, ..Opened::default() };
        stored = Stored::default();
    }
    if opened.resumed {
        untouched(&conn, &sinks, stored.clean, &path)?;
    } else {
        sinks.iter().for_each(Sink::disown);
    }
    recover(&sinks, stored.clean, &mut opened.notices)?;
    let up = stamp.up;
    patience.resume(stamp, config.reserved.as_ref(), &mut opened);
    let record = || patience.record(&conn, !opened.resumed, &opened.calendar, up);
    begin_run(&conn, &config, &sinks, &stored, opened.resumed, now, record).map_err(&db)?;
    if sync {
        sink::sync_folder(&dir)?;
    }
    let columns = opened.columns.clone();
    let cut = Cut::new(config.depth, stored.cut, stored.cut_below);
    let frontier = Frontier::open(&conn, opened.account.pending, stored.sweep, cut, columns.clone().unwrap_or_default()).map_err(&db)?;
    let shared = Arc::new(Shared::new(opened.account, opened.by_reason.clone(), cut.count));
    let (store, commands) = Store::new(Arc::clone(&shared));
    let mut writer = Writer {
        conn,
        path: path.clone(),
        sinks,
        frontier,
        account: opened.account,
        reasons: Reasons { rows: stored.reasons, changed: false },
        spec: config.encoder,
        encoder: None,
        deferred: Default::default(),
        deferred_entries: HashMap::new(),
        stray: None,
        flush: config.flush,
        input: None,
        snapshot: None,
        unsaved: None,
        cut_recorded: None,
        begun: false,
        since: None,
        idle_since: None,
        settled: 0,
        worked: false,
        clock,
        shared,
        _lock: Some(lock),
        _throwaway: throwaway,
    };
    if let Some(columns) = columns {
        writer.make_encoder(columns);
    }
    std::thread::Builder::new().name("gleaner-store".into()).spawn(move || writer.run(&commands)).map_err(OpenError::io(&path))?;
    Ok((store, opened))
}

/// What the state says, beside [`Opened`].
#[derive(Default)]
struct Stored {
    frozen: BTreeMap<String, String>,
    sinks: HashMap<String, (String, Mark)>,
    reasons: HashMap<String, (i64, u64)>,
    sweep: u64,
    cut: u64,
    cut_below: Option<i64>,
    clean: bool,
}

/// Tells throwaway folders of one process apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

fn folder(dir: Option<&Path>, now: Wall) -> Result<(PathBuf, Option<Throwaway>), OpenError> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
        return Ok((dir.to_owned(), None));
    }
    let base = std::env::temp_dir();
    sweep_dead(&base);
    loop {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("gleaner-{}-{}-{n}", std::process::id(), now.0));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok((dir.clone(), Some(Throwaway(dir)))),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(OpenError::io(&dir)(e)),
        }
    }
}

/// Removes throwaway folders of processes that were killed: their pid is of nobody and their lock is free. (The lock alone
/// says nothing of one that is just being made, the pid nothing of a process in another container.)
fn sweep_dead(base: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(found) = std::fs::read_dir(base) else { return };
    for entry in found.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(pid_of_throwaway) else { continue };
        let ours = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::geteuid().as_raw());
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        if ours && gone && lock::is_free(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// `gleaner-<pid>-<since>-<n>` and nothing else.
fn pid_of_throwaway(name: &str) -> Option<rustix::process::Pid> {
    let mut parts = name.strip_prefix("gleaner-")?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let numbers = parts.next()?.parse::<u64>().is_ok() && parts.next()?.parse::<u32>().is_ok();
    if numbers && parts.next().is_none() { rustix::process::Pid::from_raw(pid) } else { None }
}

/// The sinks' paths; two sinks in one file would overwrite each other.
fn distinct(plans: &[(&'static str, &SinkPlan)]) -> Result<Vec<PathBuf>, OpenError> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for (_, plan) in plans {
        let Some(path) = sink::path_of(plan)? else { continue };
        sink::look(&path)?;
        if paths.iter().any(|p| same_file(p, &path)) {
            return Err(OpenError::SinkKind { path, what: "the file of both results and skipped records" });
        }
        paths.push(path);
    }
    Ok(paths)
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    a == b || matches!((std::fs::metadata(a), std::fs::metadata(b)), (Ok(x), Ok(y)) if (x.dev(), x.ino()) == (y.dev(), y.ino()))
}

fn read(conn: &Connection, opened: &mut Opened) -> rusqlite::Result<Stored> {
    let meta = |key: &str| schema::meta(conn, key);
    let mut stored = Stored::default();
    let json = |text: Option<String>| text.unwrap_or_default();
    opened.account = serde_json::from_str(&json(meta("account")?)).unwrap_or_default();
    opened.finished = meta("finished")?.and_then(|v| v.parse().ok());
    opened.columns = meta("columns")?.and_then(|v| serde_json::from_str(&v).ok());
    if let Some(position) = meta("input")? {
        opened.input = Some(InputMark { position, done: meta("input_done")?.as_deref() == Some("1") });
    }
    stored.frozen = serde_json::from_str(&json(meta("frozen")?)).unwrap_or_default();
    stored.clean = meta("clean")?.as_deref() == Some("1");
    stored.cut = meta("cut")?.and_then(|v| v.parse().ok()).unwrap_or(0);
    stored.cut_below = meta("cut_below")?.and_then(|v| v.parse().ok());
    stored.sweep = meta("sweep")?.and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut extra = conn.prepare("SELECT substr(k, 3), v FROM meta WHERE k GLOB 'x.*'")?;
    opened.extra = extra.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut reasons = conn.prepare("SELECT code, id, n FROM reason")?;
    stored.reasons =
        reasons.query_map([], |r| Ok((r.get(0)?, (r.get(1)?, r.get::<_, i64>(2)?.cast_unsigned()))))?.collect::<Result<_, _>>()?;
    opened.by_reason = stored.reasons.iter().filter(|(_, (_, n))| *n > 0).map(|(code, (_, n))| (code.clone(), *n)).collect();
    let mut sinks = conn.prepare("SELECT name, format || ' ' || codec, off, records, tail_len, tail_hash FROM sink")?;
    stored.sinks = sinks
        .query_map([], |r| {
            let mark = Mark {
                off: r.get::<_, i64>(2)?.cast_unsigned(),
                records: r.get::<_, i64>(3)?.cast_unsigned(),
                tail_len: r.get::<_, i64>(4)?.cast_unsigned(),
                tail_hash: r.get(5)?,
            };
            Ok((r.get(0)?, (r.get(1)?, mark)))
        })?
        .collect::<Result<_, _>>()?;
    Ok(stored)
}

pub(super) fn compare(was: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Result<(), OpenError> {
    let Some(key) = was.keys().chain(now.keys()).find(|k| was.get(*k) != now.get(*k)) else { return Ok(()) };
    let text = |side: &BTreeMap<String, String>| side.get(key).map_or_else(|| "not set".to_owned(), |v| shorten(v));
    Err(OpenError::Frozen { key: key.clone(), was: text(was), now: text(now) })
}

/// A value of the job, which is kept as JSON, as the job file has it.
fn shorten(json: &str) -> String {
    let text = printable(json);
    text.char_indices().nth(200).map_or(text.as_str(), |(at, _)| &text[..at]).to_owned()
        + if text.chars().count() > 200 { "…" } else { "" }
}

fn format_name(plan: &SinkPlan) -> (&'static str, &'static str) {
    let format = match plan.format {
        SinkFormat::Csv => "csv",
        SinkFormat::Jsonl => "jsonl",
    };
    let codec = match plan.codec {
        Codec::Plain => "plain",
        Codec::Gzip => "gzip",
        Codec::Zstd => "zstd",
    };
    (format, codec)
}

fn form_of(plan: &SinkPlan) -> String {
    let (format, codec) = format_name(plan);
    format!("{format} {codec}")
}

/// Records in what lies beyond `size`, a torn one counted.
fn lost_records(conn: &Connection, sink: i64, size: u64) -> u64 {
    conn.query_row("SELECT sum(records) FROM chunk WHERE sink = ?1 AND off + len > ?2", params![sink, size.cast_signed()], |r| {
        r.get::<_, Option<i64>>(0)
    })
    .optional()
    .ok()
    .flatten()
    .flatten()
    .map_or(0, i64::cast_unsigned)
}

/// Where a file is not as a clean end left it, all of it is compared with what was committed; after an unclean one its head,
/// beside the bytes before its mark that [`Sink::open`] compares.
fn untouched(conn: &Connection, sinks: &[Sink], clean: bool, path: &Path) -> Result<(), OpenError> {
    for sink in sinks {
        if !clean {
            if let Some(file) = sink.path().filter(|_| sink.mark().off > 0)
                && read::head_edited(conn, sink.id, file)?
            {
                return Err(OpenError::SinkEdited { path: file.to_owned() });
            }
            continue;
        }
        let was = schema::meta(conn, &format!("stamp {}", sink.name)).map_err(OpenError::db(path))?;
        if let (Some(was), Some(file)) = (was.filter(|w| !w.is_empty()), sink.path())
            && sink.stamp().as_ref() != Some(&was)
            && read::edited(conn, sink.id, file)?
        {
            return Err(OpenError::SinkEdited { path: file.to_owned() });
        }
    }
    Ok(())
}

/// First looks at every sink, then changes any: after a clean stop bytes beyond a mark are someone else's.
fn recover(sinks: &[Sink], clean: bool, notices: &mut Vec<String>) -> Result<(), OpenError> {
    let beyond: Vec<u64> = sinks.iter().map(Sink::beyond).collect::<Result<_, _>>()?;
    for (sink, &bytes) in sinks.iter().zip(&beyond) {
        if clean && bytes > 0 {
            return Err(OpenError::SinkGrown { path: sink.path().map(Path::to_owned).unwrap_or_default(), bytes });
        }
    }
    for (sink, &bytes) in sinks.iter().zip(&beyond) {
        if bytes > 0 {
            sink.cut()?;
            let path = sink.path().map(|p| p.display().to_string()).unwrap_or_default();
            notices.push(format!("the last run did not end cleanly: {bytes} bytes of an unfinished commit were cut from {path}"));
        }
    }
    Ok(())
}

/// Makes a new state whole, or says of an old one that a run is on; `record` writes what limits need to be durable by then.
fn begin_run(
    conn: &Connection,
    config: &StoreConfig,
    sinks: &[Sink],
    stored: &Stored,
    resumed: bool,
    now: Wall,
    record: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let work = || {
        if !resumed {
            schema::create(conn)?;
            schema::put_meta(conn, "frozen", &serde_json::to_string(&config.frozen).unwrap_or_default())?;
            schema::put_meta(conn, "account", &serde_json::to_string(&crate::events::Account::default()).unwrap_or_default())?;
            schema::put_meta(conn, "started", &now.0.to_string())?;
        }
        schema::put_meta(conn, "job", &config.job)?;
        schema::put_meta(conn, "run_started", &now.0.to_string())?;
        schema::put_meta(conn, "clean", "0")?;
        record()?;
        for (i, sink) in sinks.iter().enumerate() {
            let path = sink.path().map(|p| p.to_string_lossy().into_owned());
            if stored.sinks.contains_key(sink.name) {
                conn.execute("UPDATE sink SET path = ?2 WHERE id = ?1", params![sink.id, path])?;
                continue;
            }
            let plan = if i == RESULTS { Some(&config.results) } else { config.skipped.as_ref().filter(|_| i == SKIPPED) };
            let Some((format, codec)) = plan.map(format_name) else { continue };
            let mark = sink.mark();
            conn.execute(
                "INSERT INTO sink(id, name, path, format, codec, off, records, tail_len, tail_hash) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, ?6)",
                params![sink.id, sink.name, path, format, codec, mark.tail_hash],
            )?;
        }
        conn.execute_batch("COMMIT")
    };
    work()
}
