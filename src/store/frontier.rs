//! The frontier: every address known and who holds it. Works on the open transaction; leases live in memory only.

use super::cut::{Cut, Page};
use super::encode::{pack_columns, unpack_columns};
use super::schema::{PENDING, SWEEP};
use super::types::{HostId, HostLease, Lease, LeaseRequest, Leased, StoredRobots};
use crate::clock::Wall;
use crate::model::{Columns, EntryId, HostKey, LISTED, canonical, normalise};
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Rows that are due that one lease looks at in their order; many of one host may come first, so then it goes host by host.
const DUE_LOOKED_AT: i64 = 1000;
/// Hosts with waiting entries that one lease then looks at.
const HOSTS_LOOKED_AT: usize = 10_000;
/// Hosts that are parked at most; others come as if they were not.
const PARKED: usize = 65_536;
/// Host keys kept in memory beside the table.
const HOSTS_CACHED: usize = 65_536;

/// Where an entry waits on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `todo`.
    Ready,
    /// In `later`, until then; from [`SWEEP`] on until the final sweep and so long after [`SWEEP`].
    Later(i64),
}

impl Place {
    fn is_sweep(self) -> bool {
        matches!(self, Self::Later(SWEEP..))
    }
}

/// What memory keeps of a leased entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) host: i64,
    pub(super) prio: i64,
    pub(super) place: Place,
    pub(super) row: u64,
    /// The seed that it descends from; itself for a seed.
    pub(super) seed: i64,
}

/// A new entry.
pub(super) struct NewEntry<'a> {
    pub(super) row: u64,
    pub(super) url: &'a str,
    pub(super) host: Option<i64>,
    pub(super) via: Option<i64>,
    pub(super) seed: Option<i64>,
    pub(super) depth: i64,
    pub(super) columns: Option<&'a str>,
    pub(super) fate: i64,
}

/// An entry that has the key.
pub(super) struct Known {
    pub(super) entry: i64,
    pub(super) row: u64,
    pub(super) depth: i64,
    fate: i64,
    host: Option<i64>,
}

impl Known {
    pub(super) fn is_pending(&self) -> bool {
        self.fate == PENDING
    }
}

/// Who has a key already.
pub(super) enum Taken {
    Entry(Known),
    /// A link that was cut, with the input record that it descends from.
    Cut(Page, u64),
}

/// The page that a link was found on.
pub(super) struct Parent {
    pub(super) row: u64,
    pub(super) seed: i64,
    pub(super) depth: i64,
}

/// A leased entry that counts for its host.
#[derive(Clone, Copy)]
struct OfHost;

/// A round over the hosts of `later`.
#[derive(Default)]
struct Round {
    /// The host seen last.
    cursor: i64,
    /// Where a round that one lease did not end began, and whether it is beyond the last host.
    under_way: Option<(i64, bool)>,
}

pub(super) struct Frontier {
    next_entry: i64,
    next_host: i64,
    /// Over the hosts with ready entries, those with entries that are due, and those whose entries of the final sweep are.
    ready: Round,
    due: Round,
    swept: Round,
    hosts: HashMap<HostKey, (i64, bool)>,
    /// Entries that are not to be handed out; `None` beside those whose fate only waits for a member of a compressed sink.
    leased: HashMap<i64, (Held, Option<OfHost>)>,
    /// Hosts with leased entries that the engine still has, and how many.
    leased_hosts: HashMap<i64, usize>,
    /// Hosts that nothing is handed out of before the time that stands here.
    parked: HashMap<i64, i64>,
    /// Entries without a fate.
    pub(super) pending: u64,
    /// Of these, let go: done but for their fate.
    pub(super) done: u64,
    /// Of these, waiting for the final sweep.
    pub(super) sweep: u64,
    /// Links that are too deep.
    pub(super) cut: Cut,
    /// The frozen columns, by which seeds are packed.
    pub(super) columns: Vec<String>,
}

impl Frontier {
    pub(super) fn open(conn: &Connection, pending: u64, sweep: u64, cut: Cut, columns: Vec<String>) -> Result<Self> {
        let last = |table: &str| conn.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |r| r.get::<_, i64>(0));
        Ok(Self {
            next_entry: last("entry")? + 1,
            next_host: last("host")? + 1,
            ready: Round::default(),
            due: Round::default(),
            swept: Round::default(),
            hosts: HashMap::new(),
            leased: HashMap::new(),
            leased_hosts: HashMap::new(),
            parked: HashMap::new(),
            pending,
            done: 0,
            sweep,
            cut,
            columns,
        })
    }

    /// The host's number; made where it is new, named where a seed names it.
    pub(super) fn host(&mut self, conn: &Connection, key: &HostKey, named: bool) -> Result<i64> {
        if let Some(&(id, was)) = self.hosts.get(key) {
            if named && !was {
                self.name_host(conn, key, id)?;
            }
            return Ok(id);
        }
        let found = conn
            .prepare_cached("SELECT id, named FROM host WHERE key = ?1")?
            .query_row([key.as_str()], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, bool>(1)?)))
            .optional()?;
        if self.hosts.len() >= HOSTS_CACHED {
            self.hosts.clear();
        }
        let Some((id, was)) = found else {
            let id = self.next_host;
            self.next_host += 1;
            conn.prepare_cached("INSERT INTO host(id, key, named) VALUES (?1, ?2, ?3)")?.execute(params![id, key.as_str(), named])?;
            self.hosts.insert(key.clone(), (id, named));
            return Ok(id);
        };
        self.hosts.insert(key.clone(), (id, was));
        if named && !was {
            self.name_host(conn, key, id)?;
        }
        Ok(id)
    }

    fn name_host(&mut self, conn: &Connection, key: &HostKey, id: i64) -> Result<()> {
        conn.prepare_cached("UPDATE host SET named = 1 WHERE id = ?1")?.execute([id])?;
        self.hosts.insert(key.clone(), (id, true));
        Ok(())
    }

    /// Whether a seed named the host.
    pub(super) fn host_named(&self, conn: &Connection, key: &HostKey) -> Result<bool> {
        if let Some(&(_, named)) = self.hosts.get(key) {
            return Ok(named);
        }
        let named = conn.prepare_cached("SELECT named FROM host WHERE key = ?1")?.query_row([key.as_str()], |r| r.get(0)).optional()?;
        Ok(named.unwrap_or(false))
    }

    /// Writes an entry; its number.
    pub(super) fn insert(&mut self, conn: &Connection, e: &NewEntry<'_>) -> Result<i64> {
        let id = self.next_entry;
        self.next_entry += 1;
        conn.prepare_cached(
            "INSERT INTO entry(id, row, url, host, via, seed, depth, columns, fate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![id, e.row.cast_signed(), e.url, e.host, e.via, e.seed, e.depth, e.columns, e.fate])?;
        Ok(id)
    }

    /// Whether a record carries other columns than an entry does.
    pub(super) fn differs(&self, conn: &Connection, entry: i64, columns: &Columns) -> Result<bool> {
        if columns.keys().all(|name| name == LISTED) {
            return Ok(false);
        }
        let packed: Option<String> =
            conn.prepare_cached("SELECT columns FROM entry WHERE id = ?1")?.query_row([entry], |r| r.get(0)).optional()?.flatten();
        Ok(packed != self.pack(columns))
    }

    pub(super) fn pack(&self, columns: &Columns) -> Option<String> {
        pack_columns(columns, &self.columns)
    }

    /// The number of the next entry.
    pub(super) fn next_entry(&self) -> i64 {
        self.next_entry
    }

    /// Makes a link that is pending, and that the engine does not hold, the seed that its address turns out to be; whether it
    /// was one. Its depth is still the link's.
    pub(super) fn take_over(&mut self, conn: &Connection, known: &Known, seed: &NewEntry<'_>) -> Result<bool> {
        if !known.is_pending() || known.host != seed.host || self.leased.contains_key(&known.entry) {
            return Ok(false);
        }
        let found: Option<String> = conn
            .prepare_cached("SELECT url FROM entry WHERE id = ?1 AND via IS NOT NULL")?
            .query_row([known.entry], |r| r.get(0))
            .optional()?;
        // The key may be that of a redirect's target, which is another address than the entry's own.
        let same = |a: &str, b: &str| matches!((normalise(a), normalise(b)), (Ok(a), Ok(b)) if canonical(&a) == canonical(&b));
        if !found.is_some_and(|url| same(&url, seed.url)) {
            return Ok(false);
        }
        conn.prepare_cached("UPDATE entry SET row = ?2, url = ?3, via = NULL, seed = NULL, columns = ?4 WHERE id = ?1")?
            .execute(params![known.entry, seed.row.cast_signed(), seed.url, seed.columns])?;
        Ok(true)
    }

    /// Moves a pending entry up in its host's order, where it is leased in what memory keeps of it too.
    pub(super) fn move_up(&mut self, conn: &Connection, known: &Known, depth: i64) -> Result<()> {
        let Some(host) = known.host else { return Ok(()) };
        if let Some((held, _)) = self.leased.get_mut(&known.entry) {
            held.prio = depth;
        }
        let moved = conn.prepare_cached("UPDATE todo SET prio = ?4 WHERE host = ?1 AND prio = ?2 AND entry = ?3")?.execute(params![
            host,
            known.depth,
            known.entry,
            depth
        ])?;
        if moved == 0 {
            conn.prepare_cached("UPDATE later SET prio = ?3 WHERE host = ?1 AND entry = ?2")?.execute(params![host, known.entry, depth])?;
        }
        Ok(())
    }

    /// Puts a new entry among the ready ones.
    pub(super) fn enqueue(&mut self, conn: &Connection, entry: i64, host: i64, depth: i64) -> Result<()> {
        self.put(conn, entry, host, depth, Place::Ready, None)?;
        self.pending += 1;
        Ok(())
    }

    fn put(&mut self, conn: &Connection, entry: i64, host: i64, prio: i64, place: Place, state: Option<&str>) -> Result<()> {
        match place {
            Place::Ready => conn
                .prepare_cached("INSERT INTO todo(host, prio, entry, state) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![host, prio, entry, state])?,
            Place::Later(due) => conn
                .prepare_cached("INSERT INTO later(host, due, entry, prio, state) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![host, due, entry, prio, state])?,
        };
        self.sweep += u64::from(place.is_sweep());
        Ok(())
    }

    fn remove(&mut self, conn: &Connection, entry: i64, held: Held) -> Result<()> {
        let gone = match held.place {
            Place::Ready => conn
                .prepare_cached("DELETE FROM todo WHERE host = ?1 AND prio = ?2 AND entry = ?3")?
                .execute(params![held.host, held.prio, entry])?,
            Place::Later(due) => conn
                .prepare_cached("DELETE FROM later WHERE host = ?1 AND due = ?2 AND entry = ?3")?
                .execute(params![held.host, due, entry])?,
        };
        self.sweep -= u64::from(held.place.is_sweep());
        // The account stands on this: a leased entry has exactly one place.
        if gone == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(gone)) }
    }

    pub(super) fn held(&self, entry: EntryId) -> Option<Held> {
        self.leased.get(&entry.0).map(|(held, _)| *held)
    }

    /// Marks an entry as leased, in memory.
    pub(super) fn hold(&mut self, entry: i64, held: Held) {
        if self.leased.insert(entry, (held, Some(OfHost))).is_none() {
            *self.leased_hosts.entry(held.host).or_insert(0) += 1;
        }
    }

    /// The engine is done with the entry, its fate is yet to be written: its host may come as a new one again.
    pub(super) fn let_go(&mut self, entry: i64) {
        if let Some((held, counts)) = self.leased.get_mut(&entry)
            && counts.take().is_some()
        {
            let host = held.host;
            self.done += 1;
            self.uncount(host);
        }
    }

    /// Whether the engine is done with the entry, so that nothing more may be said of it.
    pub(super) fn is_let_go(&self, entry: EntryId) -> bool {
        matches!(self.leased.get(&entry.0), Some((_, None)))
    }

    /// The lease ends; nothing on disk changes.
    pub(super) fn release(&mut self, entry: i64) {
        match self.leased.remove(&entry) {
            Some((held, Some(OfHost))) => self.uncount(held.host),
            Some((_, None)) => self.done -= 1,
            None => {}
        }
    }

    fn uncount(&mut self, host: i64) {
        if let Some(n) = self.leased_hosts.get_mut(&host) {
            *n -= 1;
            if *n == 0 {
                self.leased_hosts.remove(&host);
            }
        }
    }

    /// The entry finds its fate.
    pub(super) fn finish(&mut self, conn: &Connection, entry: i64, held: Held, fate: i64) -> Result<()> {
        self.remove(conn, entry, held)?;
        conn.prepare_cached("UPDATE entry SET fate = ?2 WHERE id = ?1")?.execute([entry, fate])?;
        self.pending -= 1;
        self.release(entry);
        Ok(())
    }

    /// The entry goes back, to another place and with another state.
    pub(super) fn put_back(&mut self, conn: &Connection, entry: i64, held: Held, place: Place, state: &str) -> Result<()> {
        if place == held.place {
            keep(conn, entry, held, state)?;
        } else {
            self.remove(conn, entry, held)?;
            self.put(conn, entry, held.host, held.prio, place, Some(state))?;
        }
        self.release(entry);
        Ok(())
    }

    /// An entry as the parent of what was found on its page.
    pub(super) fn parent(&self, conn: &Connection, entry: EntryId) -> Result<Parent> {
        if let Some((held, _)) = self.leased.get(&entry.0) {
            return Ok(Parent { row: held.row, seed: held.seed, depth: held.prio });
        }
        conn.prepare_cached("SELECT row, coalesce(seed, id), depth FROM entry WHERE id = ?1")?
            .query_row([entry.0], |r| Ok(Parent { row: r.get::<_, i64>(0)?.cast_unsigned(), seed: r.get(1)?, depth: r.get(2)? }))
    }

    /// Hands out entries, each once until it is settled.
    pub(super) fn lease(&mut self, conn: &Connection, want: &LeaseRequest) -> Result<Leased> {
        let mut out = Leased::default();
        let mut taken: HashSet<i64> = want.hosts.iter().map(|h| h.0).collect();
        taken.extend(want.first_tries.iter().map(|h| h.0));
        self.parked.retain(|_, due| *due > want.now.0);
        for (host, due) in &want.park {
            if self.parked.len() < PARKED {
                self.parked.insert(host.0, due.0);
            }
        }
        for host in &want.hosts {
            out.hosts.push(self.named_host(conn, host.0, Share::of(want.per_host), want)?);
        }
        for host in &want.first_tries {
            out.hosts.push(self.named_host(conn, host.0, Share { most: want.per_host, due: 0 }, want)?);
        }
        let mut wanted = Vec::new();
        let mut unseen = false;
        if want.new_hosts > 0 {
            taken.extend(self.leased_hosts.keys());
            taken.extend(self.parked.keys());
            unseen = self.due.hosts(conn, (i64::MIN, want.now.0), want.new_hosts, &mut taken, &mut wanted)?;
            unseen |= self.ready.ready_hosts(conn, want.new_hosts, &mut taken, &mut wanted)?;
            if want.sweep && self.sweep > 0 {
                unseen |= self.swept.hosts(conn, (SWEEP, swept_until(want.now)), want.new_hosts, &mut taken, &mut wanted)?;
            }
        }
        for host in wanted {
            out.hosts.push(self.lease_host(conn, host, Share::of(want.per_new), want)?);
        }
        out.unfinished = unseen || self.cut.is_growing();
        out.drained = self.pending == self.leased.len() as u64 && !out.unfinished;
        out.sweep_waiting = self.sweep;
        let mut next = conn.prepare_cached("SELECT min(due) FROM later WHERE due > ?1 AND due < ?2")?;
        let due = next_due(want, |after, before| next.query_row([after, before], |r| r.get(0)))?;
        out.next_due = due.into_iter().chain(self.parked.values().min().map(|at| Wall(*at))).min();
        Ok(out)
    }

    /// A host that was asked for; nothing of it while it is parked.
    fn named_host(&mut self, conn: &Connection, host: i64, share: Share, want: &LeaseRequest) -> Result<HostLease> {
        let Some(due) = self.parked.get(&host).copied() else { return self.lease_host(conn, host, share, want) };
        let none = self.lease_host(conn, host, Share { most: 0, due: 0 }, want)?;
        Ok(HostLease { next_due: none.more.then_some(Wall(due)), ..none })
    }

    fn lease_host(&mut self, conn: &Connection, host: i64, share: Share, want: &LeaseRequest) -> Result<HostLease> {
        let (key, named, robots) = conn
            .prepare_cached("SELECT key, named, robots, robots_body, robots_until FROM host WHERE id = ?1")?
            .query_row([host], |r| {
                let robots = match (r.get::<_, Option<String>>(2)?, r.get::<_, Option<Vec<u8>>>(3)?, r.get::<_, Option<i64>>(4)?) {
                    (Some(verdict), Some(body), Some(until)) => Some(StoredRobots { verdict, body, until: Wall(until) }),
                    _ => None,
                };
                Ok((HostKey::from_stored(&r.get::<_, String>(0)?), r.get(1)?, robots))
            })?;
        let Share { most, due: most_due } = share;
        let mut ready = Picked { most, entries: Vec::new(), more: false };
        let mut rows = conn.prepare_cached("SELECT entry, prio, NULL, state FROM todo WHERE host = ?1 ORDER BY prio, entry")?;
        self.pick(rows.query([host])?, &mut ready)?;
        let most_due = if most_due == 0 { 0 } else { most_due.max(most - ready.entries.len()) };
        let mut picked = Picked { most: most_due, entries: Vec::new(), more: false };
        let mut rows =
            conn.prepare_cached("SELECT entry, prio, due, state FROM later WHERE host = ?1 AND due <= ?2 ORDER BY due, entry")?;
        self.pick(rows.query([host, want.now.0])?, &mut picked)?;
        let due_left = picked.more;
        let room = most - picked.entries.len();
        let ready_left = ready.more || ready.entries.len() > room;
        ready.entries.truncate(room);
        picked.entries.append(&mut ready.entries);
        picked.more |= ready_left;
        let mut due_next = None;
        if !picked.more {
            let mut last = Picked { most: if want.sweep { most } else { 0 }, entries: std::mem::take(&mut picked.entries), more: false };
            if self.sweep > 0 {
                let until = if want.sweep { swept_until(want.now) } else { i64::MAX };
                let mut sweep = conn.prepare_cached(
                    "SELECT entry, prio, due, state FROM later WHERE host = ?1 AND due >= ?2 AND due <= ?3 ORDER BY due, entry",
                )?;
                self.pick(sweep.query([host, SWEEP, until])?, &mut last)?;
            }
            if !(want.sweep && last.more) {
                let mut next = conn.prepare_cached("SELECT min(due) FROM later WHERE host = ?1 AND due > ?2 AND due < ?3")?;
                due_next = next_due(want, |after, before| next.query_row([host, after, before], |r| r.get(0)))?;
            }
            picked = Picked { more: last.more || due_next.is_some(), ..last };
        }
        let mut entries = Vec::with_capacity(picked.entries.len());
        for (entry, prio, place, state) in picked.entries {
            let (lease, seed) = self.read(conn, entry, host, state)?;
            self.hold(entry, Held { host, prio, place, row: lease.row, seed });
            entries.push(lease);
        }
        let more = picked.more || self.cut.is_growing();
        Ok(HostLease { id: HostId(host), key, named, robots, entries, more, ready_left, due_left, next_due: due_next })
    }

    /// Takes rows that are not leased until there are enough; one row beyond says that there are more.
    fn pick(&self, mut rows: rusqlite::Rows<'_>, picked: &mut Picked) -> Result<()> {
        while let Some(row) = rows.next()? {
            let entry: i64 = row.get(0)?;
            if self.leased.contains_key(&entry) {
                continue;
            }
            if picked.entries.len() >= picked.most {
                picked.more = true;
                break;
            }
            let place = row.get::<_, Option<i64>>(2)?.map_or(Place::Ready, Place::Later);
            picked.entries.push((entry, row.get(1)?, place, row.get(3)?));
        }
        Ok(())
    }

    /// An entry as its lease shows it, and its seed.
    pub(super) fn read(&self, conn: &Connection, entry: i64, host: i64, state: Option<String>) -> Result<(Lease, i64)> {
        let (row, url, via, seed, depth, packed) =
            conn.prepare_cached("SELECT row, url, via, seed, depth, columns FROM entry WHERE id = ?1")?.query_row([entry], |r| {
                let packed: Option<String> = r.get(5)?;
                Ok((r.get::<_, i64>(0)?, r.get(1)?, r.get::<_, Option<i64>>(2)?, r.get::<_, Option<i64>>(3)?, r.get(4)?, packed))
            })?;
        let text = |sql: &str, id: i64| conn.prepare_cached(sql)?.query_row([id], |r| r.get::<_, Option<String>>(0));
        let via = via.map(|id| text("SELECT url FROM entry WHERE id = ?1", id)).transpose()?.flatten();
        let packed = match seed {
            Some(seed) => text("SELECT columns FROM entry WHERE id = ?1", seed)?,
            None => packed,
        };
        let columns = unpack_columns(packed.as_deref(), &self.columns);
        let lease = Lease { entry: EntryId(entry), host: HostId(host), row: row.cast_unsigned(), url, columns, via, depth, state };
        Ok((lease, seed.unwrap_or(entry)))
    }

    /// Puts skipped entries back among the ready ones, with the state they were skipped with; calls `each` with the
    /// reason's number for every one. Entries that `each` refuses stay skipped.
    pub(super) fn revive(&mut self, conn: &Connection, reason: i64, mut each: impl FnMut(&str) -> ControlFlow<()>) -> Result<u64> {
        let mut ids = conn.prepare("SELECT e.id, e.host, e.depth, h.key FROM entry e JOIN host h ON h.id = e.host WHERE e.fate = ?1")?;
        let mut rows = ids.query([reason])?;
        let mut n = 0;
        while let Some(row) = rows.next()? {
            let (entry, host, depth): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if each(&row.get::<_, String>(3)?).is_break() {
                continue;
            }
            let state: Option<String> =
                conn.prepare_cached("DELETE FROM parked WHERE entry = ?1 RETURNING state")?.query_row([entry], |r| r.get(0)).optional()?;
            conn.prepare_cached("UPDATE entry SET fate = ?2 WHERE id = ?1")?.execute([entry, PENDING])?;
            self.put(conn, entry, host, depth, Place::Ready, state.as_deref())?;
            self.pending += 1;
            n += 1;
        }
        Ok(n)
    }
}

/// How many entries of a host one lease takes.
#[derive(Clone, Copy)]
struct Share {
    most: usize,
    /// Of these, entries that are due while ready ones wait; 0: none at all.
    due: usize,
}

impl Share {
    /// Half for those that are due: many retries leave first tries their part.
    fn of(most: usize) -> Self {
        Self { most, due: most.div_ceil(2) }
    }
}

struct Picked {
    most: usize,
    entries: Vec<(i64, i64, Place, Option<String>)>,
    more: bool,
}

/// Entries of the final sweep are due up to here.
fn swept_until(now: Wall) -> i64 {
    SWEEP.saturating_add(now.0.max(0))
}

/// When the next entry becomes due, in the final sweep one of it too; `first` gives the least `due` between two.
fn next_due(want: &LeaseRequest, mut first: impl FnMut(i64, i64) -> Result<Option<i64>>) -> Result<Option<Wall>> {
    let usual = first(want.now.0, SWEEP)?;
    let swept = if want.sweep { first(swept_until(want.now), i64::MAX)?.map(|due| due - SWEEP) } else { None };
    Ok(usual.into_iter().chain(swept).min().map(Wall))
}

impl Round {
    /// Round robin over the hosts with ready entries, by one seek for each host passed; true where more may have some than were
    /// looked at.
    fn ready_hosts(&mut self, conn: &Connection, most: usize, taken: &mut HashSet<i64>, wanted: &mut Vec<i64>) -> Result<bool> {
        let mut next = conn.prepare_cached("SELECT host FROM todo WHERE host > ?1 ORDER BY host LIMIT 1")?;
        let (start, mut wrapped) = self.under_way.take().unwrap_or((self.cursor, false));
        for _ in 0..HOSTS_LOOKED_AT {
            if wanted.len() >= most {
                return Ok(false);
            }
            match next.query_row([self.cursor], |r| r.get(0)).optional()? {
                Some(host) if !wrapped || host <= start => {
                    self.cursor = host;
                    if taken.insert(host) {
                        wanted.push(host);
                    }
                }
                None if !wrapped => (self.cursor, wrapped) = (0, true),
                _ => return Ok(false),
            }
        }
        self.under_way = Some((start, wrapped));
        Ok(true)
    }

    /// Hosts with entries whose `due` is within `range`, in that order as far as it is short, until there are `most`; true where
    /// more may be due than were looked at.
    fn hosts(
        &mut self,
        conn: &Connection,
        (from, until): (i64, i64),
        most: usize,
        taken: &mut HashSet<i64>,
        wanted: &mut Vec<i64>,
    ) -> Result<bool> {
        let mut due = conn.prepare_cached("SELECT host FROM later WHERE due >= ?1 AND due <= ?2 ORDER BY due LIMIT ?3")?;
        let mut rows = due.query([from, until, DUE_LOOKED_AT])?;
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            if wanted.len() == most {
                return Ok(false);
            }
            let host = row.get(0)?;
            if taken.insert(host) {
                wanted.push(host);
            }
            looked_at += 1;
        }
        if looked_at < DUE_LOOKED_AT {
            return Ok(false);
        }
        let mut next = conn.prepare_cached("SELECT host, due FROM later WHERE host > ?1 AND due >= ?2 ORDER BY host, due LIMIT 1")?;
        let (start, mut wrapped) = self.under_way.take().unwrap_or((self.cursor, false));
        for _ in 0..HOSTS_LOOKED_AT {
            if wanted.len() == most {
                return Ok(false);
            }
            match next.query_row([self.cursor, from], |r| Ok((r.get(0)?, r.get::<_, i64>(1)?))).optional()? {
                Some((host, due)) if !wrapped || host <= start => {
                    self.cursor = host;
                    if due <= until && taken.insert(host) {
                        wanted.push(host);
                    }
                }
                None if !wrapped => (self.cursor, wrapped) = (0, true),
                _ => return Ok(false),
            }
        }
        self.under_way = Some((start, wrapped));
        Ok(true)
    }
}

/// Takes `key` for `entry` (negative: for a cut link on that entry's page); who has it where it was taken.
pub(super) fn claim(conn: &Connection, key: &[u8; 16], entry: i64) -> Result<Option<Taken>> {
    let fresh = conn.prepare_cached("INSERT OR IGNORE INTO known(key, entry) VALUES (?1, ?2)")?.execute(params![&key[..], entry])?;
    if fresh == 1 {
        return Ok(None);
    }
    conn.prepare_cached("SELECT k.entry, e.row, e.depth, e.fate, e.host FROM known k JOIN entry e ON e.id = abs(k.entry) WHERE k.key = ?1")?
        .query_row([&key[..]], |r| {
            let (entry, row, depth) = (r.get::<_, i64>(0)?, r.get::<_, i64>(1)?.cast_unsigned(), r.get(2)?);
            if entry < 0 {
                return Ok(Taken::Cut(Page { via: -entry, depth }, row));
            }
            Ok(Taken::Entry(Known { entry, row, depth, fate: r.get(3)?, host: r.get(4)? }))
        })
        .map(Some)
}

/// Replaces the durable state of an entry that goes on.
pub(super) fn keep(conn: &Connection, entry: i64, held: Held, state: &str) -> Result<()> {
    let kept = match held.place {
        Place::Ready => conn
            .prepare_cached("UPDATE todo SET state = ?4 WHERE host = ?1 AND prio = ?2 AND entry = ?3")?
            .execute(params![held.host, held.prio, entry, state])?,
        Place::Later(due) => conn
            .prepare_cached("UPDATE later SET state = ?4 WHERE host = ?1 AND due = ?2 AND entry = ?3")?
            .execute(params![held.host, due, entry, state])?,
    };
    if kept == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(kept)) }
}
