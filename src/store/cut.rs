//! Links deeper than the crawl goes. They are no entries: known, counted apart, under the page that they stand on, and become
//! entries without a second fetch once the crawl goes deeper or a shorter way to that page is found.
//!
//! A cut link's depth is its page's plus one and is not stored, so that a page that moves up takes its links along. In
//! `known` its key has the page's number, negated.

use super::frontier::{Frontier, Known, NewEntry};
use crate::model::EntryId;
use rusqlite::{Connection, OptionalExtension as _, Result, params};

/// Pages with cut links that one step of [`Frontier::grow`] looks at.
const PAGES_LOOKED_AT: u64 = 1000;
/// Links that one step makes entries of, those of its last page aside.
const GROWN_AT_ONCE: u64 = 1000;

/// Cut links as the state has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// How deep this run goes.
    pub(super) limit: i64,
    /// How many there are.
    pub(super) count: u64,
    /// All are deeper than this.
    pub(super) below: i64,
    /// Pages up to this one were looked at for links that are not too deep any more; `None`: none is left.
    growing: Option<i64>,
}

impl Cut {
    /// `below`: what an earlier run left.
    pub(super) fn new(limit: Option<u32>, count: u64, below: Option<i64>) -> Self {
        let limit = limit.map_or(i64::MAX, i64::from);
        let left = below.filter(|_| count > 0).unwrap_or(i64::MAX);
        Self { limit, count, below: left.min(limit), growing: (limit > left).then_some(0) }
    }

    /// Whether links that are not too deep any more are still to become entries.
    pub(super) fn is_growing(&self) -> bool {
        self.growing.is_some()
    }
}

/// A link that is cut, with the page that it stands on.
pub(super) struct Page {
    pub(super) via: i64,
    pub(super) depth: i64,
}

impl Frontier {
    /// Keeps a link that is too deep; its key is taken already.
    pub(super) fn cut_off(&mut self, conn: &Connection, via: EntryId, key: &[u8; 16], url: &str, host: i64) -> Result<()> {
        conn.prepare_cached("INSERT INTO cut(via, key, url, host) VALUES (?1, ?2, ?3, ?4)")?.execute(params![via.0, key, url, host])?;
        self.cut.count += 1;
        Ok(())
    }

    /// The key is the entry's now, and cut no more.
    pub(super) fn uncut(&mut self, conn: &Connection, page: &Page, key: &[u8; 16], entry: i64) -> Result<()> {
        let gone = conn.prepare_cached("DELETE FROM cut WHERE via = ?1 AND key = ?2")?.execute(params![page.via, key])?;
        if gone != 1 {
            return Err(rusqlite::Error::StatementChangedRows(gone));
        }
        conn.prepare_cached("UPDATE known SET entry = ?2 WHERE key = ?1")?.execute(params![key, entry])?;
        self.cut.count -= 1;
        Ok(())
    }

    /// A shorter way to an entry: one that is not fetched yet moves up, and so do the links that were cut on its page; how
    /// many of these became entries.
    pub(super) fn shorten(&mut self, conn: &Connection, known: &Known, via: Option<EntryId>, depth: i64) -> Result<u64> {
        if known.depth <= depth {
            return Ok(0);
        }
        let has_cut = self.cut.count > 0
            && conn.prepare_cached("SELECT 1 FROM cut WHERE via = ?1 LIMIT 1")?.query_row([known.entry], |_| Ok(())).optional()?.is_some();
        if !(has_cut || known.is_pending()) {
            return Ok(0);
        }
        conn.prepare_cached("UPDATE entry SET depth = ?2, via = coalesce(?3, via) WHERE id = ?1")?.execute(params![
            known.entry,
            depth,
            via.map(|v| v.0)
        ])?;
        if known.is_pending() {
            self.move_up(conn, known, depth)?;
        }
        if has_cut && depth < self.cut.limit { self.grow_page(conn, known.entry, depth) } else { Ok(0) }
    }

    /// One step of making entries of links that are not too deep any more; how many.
    pub(super) fn grow(&mut self, conn: &Connection) -> Result<u64> {
        let (mut grown, mut looked) = (0, 0);
        while let Some(at) = self.cut.growing
            && grown < GROWN_AT_ONCE
            && looked < PAGES_LOOKED_AT
        {
            let page = conn
                .prepare_cached("SELECT c.via, e.depth FROM cut c JOIN entry e ON e.id = c.via WHERE c.via > ?1 ORDER BY c.via LIMIT 1")?
                .query_row([at], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)))
                .optional()?;
            let Some((via, depth)) = page else {
                self.cut.growing = None;
                self.cut.below = self.cut.limit;
                break;
            };
            if depth < self.cut.limit {
                grown += self.grow_page(conn, via, depth)?;
            }
            self.cut.growing = Some(via);
            looked += 1;
        }
        Ok(grown)
    }

    /// Makes entries of all links that were cut on a page.
    fn grow_page(&mut self, conn: &Connection, via: i64, depth: i64) -> Result<u64> {
        let parent = self.parent(conn, EntryId(via))?;
        let links: Vec<([u8; 16], String, i64)> = conn
            .prepare_cached("SELECT key, url, host FROM cut WHERE via = ?1")?
            .query_map([via], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
            .collect::<Result<_>>()?;
        let page = Page { via, depth };
        for (key, url, host) in &links {
            self.uncut(conn, &page, key, self.next_entry())?;
            let new = NewEntry {
                row: parent.row,
                url,
                host: Some(*host),
                via: Some(via),
                seed: Some(parent.seed),
                depth: depth + 1,
                columns: None,
                fate: 0,
            };
            let id = self.insert(conn, &new)?;
            self.enqueue(conn, id, *host, depth + 1)?;
        }
        Ok(links.len() as u64)
    }
}

/// A cut link stands on a page nearer to the seed too.
pub(super) fn nearer(conn: &Connection, page: &Page, via: EntryId, key: &[u8; 16]) -> Result<()> {
    conn.prepare_cached("UPDATE cut SET via = ?3 WHERE via = ?1 AND key = ?2")?.execute(params![page.via, key, via.0])?;
    conn.prepare_cached("UPDATE known SET entry = ?2 WHERE key = ?1")?.execute(params![key, -via.0])?;
    Ok(())
}
