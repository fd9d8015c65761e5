//! What a state still has to do, for whoever forecasts a run: read beside a running job, never in its way.

use super::error::OpenError;
use super::limiter::Patience;
use super::lock::{self, Holder};
use super::read::reader;
use super::types::{InputMark, KeptLimit, Opened, StoredRobots};
use super::{open, schema};
use crate::clock::{Stamp, Wall};
use crate::events::Account;
use crate::model::{FetchKey, HostKey};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Entries that are read in one transaction: a reader that stays long stops checkpoints.
const PAGE: i64 = 4096;

/// A job that has begun.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// As last committed.
    pub account: Account,
    /// Skipped entries that count, by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// How far the input was read.
    pub input: Option<InputMark>,
    /// The exit code that the job ended with, where it is done.
    pub finished: Option<u8>,
    /// Holds that stand, with their ends by today's calendar, the last to end first; keys as the limiter calls them.
    pub holds: Vec<(String, Wall)>,
    /// What limits have counted and still count.
    pub limiter: Vec<KeptLimit>,
    /// How much may have been sent of each key and is in no row of `limiter`, by limit.
    pub unsaved: BTreeMap<String, u32>,
    /// Since how long that is assumed.
    pub unsaved_for: Duration,
    /// Who runs it now.
    pub running: Option<Holder>,
}

/// A host of the state.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Scheme, host and port.
    pub key: HostKey,
    /// Entries that are pending, in work or wait for their next try.
    pub pending: u64,
    /// Its robots.txt, where it was read and still counts.
    pub robots: Option<StoredRobots>,
}

/// The state of a job; `None` where there is none, or where it never took anything and was made by another job file.
///
/// # Errors
/// A damaged or newer state, one that cannot be read, or one that the job does not fit any more ([`OpenError::Frozen`]).
pub fn backlog(dir: &Path, frozen: &BTreeMap<String, String>, now: Stamp) -> Result<Option<Backlog>, OpenError> {
    let Some((conn, path)) = reader(dir)? else { return Ok(None) };
    let (mut backlog, was) = conn.unchecked_transaction().and_then(|t| read(&t, now)).map_err(OpenError::db(&path))?;
    if let Err(e) = open::compare(&was, frozen) {
        let blank = backlog.input.is_none() && backlog.account.inputs == 0 && backlog.finished.is_none();
        return if blank { Ok(None) } else { Err(e) };
    }
    backlog.running = lock::held(dir).map_err(OpenError::io(dir))?;
    Ok(Some(backlog))
}

fn read(conn: &Connection, now: Stamp) -> rusqlite::Result<(Backlog, BTreeMap<String, String>)> {
    let meta = |key: &str| schema::meta(conn, key);
    let mut reasons = conn.prepare("SELECT code, n FROM reason WHERE n > 0")?;
    let by_reason = reasons.query_map([], |r| Ok((r.get(0)?, r.get::<_, i64>(1)?.cast_unsigned())))?.collect::<Result<_, _>>()?;
    let mut opened = Opened::default();
    let (up, wall) = (now.up, now.wall);
    Patience::read(conn)?.resume(now, Some(&BTreeMap::new()), &mut opened);
    let then = opened.calendar.at(up);
    let mut holds: Vec<_> = opened.holds.into_iter().map(|(key, until)| (key, wall.plus(then.until(until)))).collect();
    holds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let done = meta("input_done")?.as_deref() == Some("1");
    let backlog = Backlog {
        account: serde_json::from_str(&meta("account")?.unwrap_or_default()).unwrap_or_default(),
        by_reason,
        input: meta("input")?.map(|position| InputMark { position, done }),
        finished: meta("finished")?.and_then(|v| v.parse().ok()),
        holds,
        limiter: opened.limiter,
        unsaved: opened.unsaved,
        unsaved_for: opened.unsaved_for,
        running: None,
    };
    Ok((backlog, serde_json::from_str(&meta("frozen")?.unwrap_or_default()).unwrap_or_default()))
}

/// A state that is asked for more than its [`Backlog`].
pub struct Look {
    conn: Connection,
    path: PathBuf,
}

impl Look {
    /// Opens a state for reading; `None` where there is none.
    ///
    /// # Errors
    /// A damaged or newer state, or one that cannot be read.
    pub fn open(dir: &Path) -> Result<Option<Self>, OpenError> {
        Ok(reader(dir)?.map(|(conn, path)| Self { conn, path }))
    }

    /// Every host that has something pending or a robots.txt that counts.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn hosts(&self, now: Wall, mut each: impl FnMut(Waiting)) -> Result<(), OpenError> {
        let mut look = || {
            let mut pending: BTreeMap<i64, u64> = BTreeMap::new();
            for sql in ["SELECT host, count(*) FROM todo GROUP BY host", "SELECT host, count(*) FROM later GROUP BY host"] {
                let mut counts = self.conn.prepare(sql)?;
                let mut rows = counts.query([])?;
                while let Some(row) = rows.next()? {
                    *pending.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?.cast_unsigned();
                }
            }
            let mut hosts = self.conn.prepare("SELECT id, key, robots, robots_body, robots_until FROM host")?;
            let mut rows = hosts.query([])?;
            while let Some(row) = rows.next()? {
                let pending = pending.get(&row.get(0)?).copied().unwrap_or(0);
                let until = row.get::<_, Option<i64>>(4)?.filter(|until| *until > now.0);
                let robots = match (row.get::<_, Option<String>>(2)?, until) {
                    (Some(verdict), Some(until)) => {
                        Some(StoredRobots { verdict, body: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(), until: Wall(until) })
                    }
                    _ => None,
                };
                if pending > 0 || robots.is_some() {
                    each(Waiting { key: HostKey::from_stored(&row.get::<_, String>(1)?), pending, robots });
                }
            }
            Ok(())
        };
        look().map_err(OpenError::db(&self.path))
    }

    /// The address of every pending entry, a few thousand at a time.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn pending(&self, mut each: impl FnMut(&str)) -> Result<(), OpenError> {
        let mut look = |sql: &str| {
            let mut page = self.conn.prepare(sql)?;
            let mut after = (i64::MIN, i64::MIN, i64::MIN);
            loop {
                let mut rows = page.query(params![after.0, after.1, after.2, PAGE])?;
                let mut any = false;
                while let Some(row) = rows.next()? {
                    any = true;
                    after = (row.get(0)?, row.get(1)?, row.get(2)?);
                    each(row.get_ref(3)?.as_str().unwrap_or_default());
                }
                if !any {
                    return Ok(());
                }
            }
        };
        look(
            "SELECT t.host, t.prio, t.entry, e.url FROM todo t JOIN entry e ON e.id = t.entry
             WHERE (t.host, t.prio, t.entry) > (?1, ?2, ?3) ORDER BY t.host, t.prio, t.entry LIMIT ?4",
        )
        .and_then(|()| {
            look(
                "SELECT t.host, t.due, t.entry, e.url FROM later t JOIN entry e ON e.id = t.entry
                 WHERE (t.host, t.due, t.entry) > (?1, ?2, ?3) ORDER BY t.host, t.due, t.entry LIMIT ?4",
            )
        })
        .map_err(OpenError::db(&self.path))
    }

    /// Whether a key has an entry.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn knows(&self, key: FetchKey) -> Result<bool, OpenError> {
        let asked = || self.conn.prepare_cached("SELECT 1 FROM known WHERE key = ?1 AND entry > 0")?.exists([key.0]);
        asked().map_err(OpenError::db(&self.path))
    }
}
