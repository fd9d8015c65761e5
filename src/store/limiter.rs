//! What limits have counted, in the state: rows by key, and how much no row knows.
//!
//! The rows are the engine's; the store knows when each was taken and from when on it may be deleted. Kept also through
//! `--fresh`, as holds are: the server has not forgotten.

use super::StoreError;
use super::schema::{self, SWEEP};
use super::types::{KeptLimit, LimitsSave, Opened};
use super::writer::Writer;
use crate::clock::{Stamp, Steady, Wall};
use rusqlite::{Connection, OpenFlags, Result, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a state says of servers' patience: holds, limits, and the stamp that these times stand on.
#[derive(Default)]
pub(super) struct Patience {
    stamp: Option<Stamp>,
    holds: Vec<(String, i64)>,
    rows: Vec<Row>,
    unsaved: BTreeMap<String, u32>,
    /// Since when it is assumed; unknown where the run that left it did not end.
    unsaved_at: Option<i64>,
    /// By how much the stored times have to be moved.
    moved: i64,
}

struct Row {
    key: String,
    value: String,
    at: i64,
    dead: i64,
}

/// Each number of `more` where `of` has none or a smaller one.
pub fn keep_greater(of: &mut BTreeMap<String, u32>, more: &BTreeMap<String, u32>) {
    for (name, n) in more {
        let kept = of.entry(name.clone()).or_default();
        *kept = (*kept).max(*n);
    }
}

fn json(unsaved: &BTreeMap<String, u32>) -> String {
    serde_json::to_string(unsaved).unwrap_or_default()
}

fn put_unsaved_at(conn: &Connection, at: Option<i64>) -> Result<()> {
    schema::put_meta(conn, "unsaved_at", &at.map(|at| at.to_string()).unwrap_or_default())
}

impl Patience {
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        let stamp = schema::meta(conn, "clock")?.and_then(|text| text.parse().ok());
        let unsaved = schema::meta(conn, "unsaved")?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let unsaved_at = schema::meta(conn, "unsaved_at")?.and_then(|text| text.parse().ok());
        let mut holds = conn.prepare("SELECT key, until FROM hold ORDER BY key")?;
        let holds = holds.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_>>()?;
        let mut rows = conn.prepare("SELECT key, row, at, dead FROM limiter")?;
        let rows =
            rows.query_map([], |r| Ok(Row { key: r.get(0)?, value: r.get(1)?, at: r.get(2)?, dead: r.get(3)? }))?.collect::<Result<_>>()?;
        Ok(Self { stamp, holds, rows, unsaved, unsaved_at, moved: 0 })
    }

    /// Of a state that is about to be set aside; nothing where it cannot be read.
    pub(super) fn of_other(db: &Path) -> Self {
        if !db.exists() {
            return Self::default();
        }
        Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|conn| Self::read(&conn)).unwrap_or_default()
    }

    /// Goes on with the stored times, corrected where the calendar was set, and drops what is over.
    pub(super) fn resume(&mut self, now: Stamp, reserved: Option<&BTreeMap<String, u32>>, opened: &mut Opened) {
        let up = now.up;
        (opened.calendar, self.moved) = Steady::resume(self.stamp.take(), now);
        let now = opened.calendar.at(up);
        for (_, until) in &mut self.holds {
            *until = until.saturating_add(self.moved);
        }
        self.holds.retain(|(_, until)| *until > now.0);
        for row in &mut self.rows {
            row.at = row.at.saturating_add(self.moved);
            row.dead = if row.dead >= SWEEP { SWEEP } else { row.dead.saturating_add(self.moved) };
        }
        self.rows.retain(|row| row.dead > now.0);
        self.unsaved_at = self.unsaved_at.map(|at| at.saturating_add(self.moved));
        opened.holds = self.holds.iter().map(|(key, until)| (key.clone(), Wall(*until))).collect();
        if let Some(reserved) = reserved {
            // A stamp is up to a millisecond earlier than what it stands for.
            let down = |at: i64| Wall(at.saturating_add(1)).until(now);
            opened.limiter = self.rows.iter().map(|r| KeptLimit { row: r.value.clone(), down: down(r.at) }).collect();
            opened.unsaved = self.unsaved.clone();
            // Not before a row that is there already, whatever the calendar did.
            let first = || self.rows.iter().map(|r| r.at).max().map_or(now.0, |at| at.max(now.0));
            let at = self.unsaved_at.take().unwrap_or_else(first);
            (opened.unsaved_at, opened.unsaved_for) = (Wall(at), down(at));
            keep_greater(&mut self.unsaved, reserved);
        }
    }

    /// Writes what changed by [`Patience::resume`], or all of it into tables that are new.
    pub(super) fn record(&self, conn: &Connection, new: bool, calendar: &Steady, up: Duration) -> Result<()> {
        schema::put_meta(conn, "clock", &calendar.base().to_string())?;
        schema::put_meta(conn, "unsaved", &json(&self.unsaved))?;
        put_unsaved_at(conn, self.unsaved_at)?;
        if new {
            let mut hold = conn.prepare("INSERT INTO hold(key, until) VALUES (?1, ?2)")?;
            for (key, until) in &self.holds {
                hold.execute(params![key, until])?;
            }
            let mut put = conn.prepare("INSERT INTO limiter(key, row, at, dead) VALUES (?1, ?2, ?3, ?4)")?;
            for r in &self.rows {
                put.execute(params![r.key, r.value, r.at, r.dead])?;
            }
            return Ok(());
        }
        if self.moved != 0 {
            conn.execute("UPDATE hold SET until = min(until, ?2) + ?1", [self.moved, SWEEP])?;
            conn.execute("UPDATE later SET due = due + ?1 WHERE due < ?2", [self.moved, SWEEP])?;
            conn.execute("UPDATE limiter SET at = at + ?1, dead = min(dead + ?1, ?2)", [self.moved, SWEEP])?;
        }
        let now = calendar.at(up).0;
        conn.execute("DELETE FROM hold WHERE until <= ?1", [now])?;
        conn.execute("DELETE FROM limiter WHERE dead <= ?1", [now])?;
        Ok(())
    }
}

impl Writer {
    /// One commit with what limits have counted.
    pub(super) fn keep_limits(&mut self, save: &LimitsSave) -> Result<(), StoreError> {
        self.begin()?;
        self.write_limits(save).map_err(self.db())?;
        self.commit(false)
    }

    fn write_limits(&mut self, save: &LimitsSave) -> Result<()> {
        let mut put = self.conn.prepare_cached(
            "INSERT INTO limiter(key, row, at, dead) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(key) DO UPDATE SET row = excluded.row, at = excluded.at, dead = excluded.dead",
        )?;
        for r in &save.rows {
            let dead = r.counts_for.map_or(SWEEP, |d| save.at.plus(d).0.min(SWEEP));
            if dead > save.at.0 {
                put.execute(params![r.key, r.row, save.at.0, dead])?;
            } else {
                self.conn.prepare_cached("DELETE FROM limiter WHERE key = ?1")?.execute([&r.key])?;
            }
        }
        self.conn.prepare_cached("DELETE FROM limiter WHERE dead <= ?1")?.execute([save.at.0])?;
        let unsaved = (&save.unsaved, save.unsaved_at);
        if self.unsaved.as_ref().map(|(each, at)| (each, *at)) != Some(unsaved) {
            schema::put_meta(&self.conn, "unsaved", &json(&save.unsaved))?;
            put_unsaved_at(&self.conn, save.unsaved_at.map(|at| at.0))?;
            self.unsaved = Some((save.unsaved.clone(), save.unsaved_at));
        }
        Ok(())
    }
}
