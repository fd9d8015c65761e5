//! What offers and settles do to the open transaction.

use super::cut;
use super::encode::Encoder;
use super::error::StoreError;
use super::frontier::{Held, Known, NewEntry, Place, Taken, claim, keep};
use super::handle::PutBack;
use super::schema::{RESULT, SWEEP};
use super::sink::Sink;
use super::types::{BadRecord, Claim, HostId, InputMark, Lease, LeaseRequest, Leased, Offer, OfferUrl, Offered, Origin, Settle, Settled};
use super::writer::{Deferred, RESULTS, SKIPPED, Writer};
use crate::model::plan::SinkFormat;
use crate::model::{Columns, EntryId, FetchKey, Reason, SkippedRecord};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

impl Writer {
    /// Fixes the carried columns, unless an earlier run did; the encoder for both sinks.
    pub(super) fn fix_columns(&mut self, columns: Vec<String>) -> Result<Arc<Encoder>, StoreError> {
        if let Some(encoder) = &self.encoder {
            return Ok(Arc::clone(encoder));
        }
        self.begin()?;
        let json = serde_json::to_string(&columns).unwrap_or_default();
        super::schema::put_meta(&self.conn, "columns", &json).map_err(self.db())?;
        self.frontier.columns.clone_from(&columns);
        let encoder = self.make_encoder(columns);
        // A compressed sink gets its header with its first rows: a member of its own would be waste.
        self.header_where(|s| !s.is_compressed());
        Ok(encoder)
    }

    pub(super) fn make_encoder(&mut self, columns: Vec<String>) -> Arc<Encoder> {
        let format = |i: usize| self.sinks.get(i).map_or(SinkFormat::Jsonl, |s| s.format);
        let encoder = Arc::new(Encoder::new(self.spec.clone(), format(RESULTS), format(SKIPPED), columns));
        self.encoder = Some(Arc::clone(&encoder));
        encoder
    }

    /// The encoder; columns that nobody fixed are none.
    pub(super) fn encoder(&mut self) -> Result<Arc<Encoder>, StoreError> {
        self.fix_columns(Vec::new())
    }

    /// Gives every blank sink its header.
    pub(super) fn write_headers(&mut self) -> Result<(), StoreError> {
        self.encoder()?;
        self.header_where(|_| true);
        Ok(())
    }

    fn header_where(&mut self, wanted: impl Fn(&Sink) -> bool) {
        let Some(encoder) = &self.encoder else { return };
        for (i, sink) in self.sinks.iter_mut().enumerate() {
            if sink.is_blank() && wanted(sink) {
                let header = if i == RESULTS { encoder.results_header() } else { encoder.skipped_header() };
                sink.push(&header, 0);
            }
        }
    }

    /// The sink, with its header before the first row.
    fn sink(&mut self, i: usize) -> Result<Option<&mut Sink>, StoreError> {
        if self.sinks.get(i).is_some_and(Sink::is_blank) {
            self.encoder()?;
            self.header_where(Sink::is_compressed);
        }
        Ok(self.sinks.get_mut(i))
    }

    /// Takes offers and the input's mark into one transaction; no commit comes between them.
    pub(super) fn offer(&mut self, offers: Vec<Offer>, mark: Option<InputMark>) -> Result<Vec<Offered>, StoreError> {
        self.begin()?;
        let mut out = Vec::with_capacity(offers.len());
        for offer in offers {
            out.push(self.offer_one(offer)?);
        }
        if mark.is_some() {
            self.input = mark;
        }
        Ok(out)
    }

    fn offer_one(&mut self, offer: Offer) -> Result<Offered, StoreError> {
        match (offer.origin, offer.body) {
            (Origin::Seed, Err(bad)) => {
                self.count_input();
                self.bad(offer.row, &offer.columns, &bad)?;
                Ok(Offered::Bad)
            }
            (Origin::Seed, Ok(body)) => {
                self.count_input();
                self.seed(offer.row, offer.columns, body, offer.hand)
            }
            (Origin::Discovered { via, depth }, Ok(body)) => self.discovered(via, depth, &body, offer.hand),
            // A link that is no address is nobody's input: it is not counted.
            (Origin::Discovered { .. }, Err(_)) => Ok(Offered::Bad),
        }
    }

    fn count_input(&mut self) {
        self.account.inputs += 1;
        self.worked = true;
    }

    fn seed(&mut self, row: u64, columns: Columns, body: OfferUrl, hand: bool) -> Result<Offered, StoreError> {
        let db = self.db();
        let host = self.frontier.host(&self.conn, &body.host, true).map_err(&db)?;
        let next = self.frontier.next_entry();
        let taken = claim(&self.conn, &body.key.0, next).map_err(&db)?;
        if let Some(Taken::Cut(page, _)) = &taken {
            self.frontier.uncut(&self.conn, page, &body.key.0, next).map_err(&db)?;
        }
        let packed = self.frontier.pack(&columns);
        let entry =
            NewEntry { row, url: &body.url, host: Some(host), via: None, seed: None, depth: 0, columns: packed.as_deref(), fate: 0 };
        if let Some(Taken::Entry(known)) = taken
            && !body.fetch_duplicates
        {
            let taken_over = self.frontier.take_over(&self.conn, &known, &entry).map_err(&db)?;
            self.shorten(&known, None, 0)?;
            if taken_over {
                self.account.discovered -= 1;
                return Ok(Offered::New(None));
            }
            let differs = self.frontier.differs(&self.conn, known.entry, &columns).map_err(&db)?;
            let fate = self.count_skip(&Reason::Duplicate)?;
            self.frontier.insert(&self.conn, &NewEntry { columns: None, fate, ..entry }).map_err(&db)?;
            let message = format!("the same request as record {}", known.row);
            self.skip_record(row, &columns, &body.url, &Reason::Duplicate, &message, Some(known.row))?;
            return Ok(Offered::Known { first_row: known.row, differs });
        }
        let id = self.frontier.insert(&self.conn, &entry).map_err(&db)?;
        self.frontier.enqueue(&self.conn, id, host, 0).map_err(&db)?;
        if !hand {
            return Ok(Offered::New(None));
        }
        self.frontier.hold(id, Held { host, prio: 0, place: Place::Ready, row, seed: id });
        let lease = Lease { entry: EntryId(id), host: HostId(host), row, url: body.url, columns, via: None, depth: 0, state: None };
        Ok(Offered::New(Some(Box::new(lease))))
    }

    fn bad(&mut self, row: u64, columns: &Columns, bad: &BadRecord) -> Result<(), StoreError> {
        let fate = self.count_skip(&Reason::BadInput)?;
        let entry = NewEntry { row, url: &bad.url, host: None, via: None, seed: None, depth: 0, columns: None, fate };
        self.frontier.insert(&self.conn, &entry).map_err(self.db())?;
        self.skip_record(row, columns, &bad.url, &Reason::BadInput, &bad.message, None)
    }

    fn discovered(&mut self, via: EntryId, depth: u32, body: &OfferUrl, hand: bool) -> Result<Offered, StoreError> {
        let db = self.db();
        let parent = self.frontier.parent(&self.conn, via).map_err(&db)?;
        // A shorter way to the page may have been found since it was leased.
        let depth = i64::from(depth).min(parent.depth + 1);
        let key = &body.key.0;
        let next = self.frontier.next_entry();
        let deep = depth > self.frontier.cut.limit;
        match claim(&self.conn, key, if deep { -via.0 } else { next }).map_err(&db)? {
            None if deep => {
                let host = self.frontier.host(&self.conn, &body.host, false).map_err(&db)?;
                self.frontier.cut_off(&self.conn, via, key, &body.url, host).map_err(&db)?;
                return Ok(Offered::Cut);
            }
            None => {}
            Some(Taken::Entry(known)) => {
                self.shorten(&known, Some(via), depth)?;
                return Ok(Offered::Known { first_row: known.row, differs: false });
            }
            Some(Taken::Cut(page, first_row)) if deep => {
                if depth <= page.depth {
                    cut::nearer(&self.conn, &page, via, key).map_err(&db)?;
                }
                return Ok(Offered::Known { first_row, differs: false });
            }
            Some(Taken::Cut(page, _)) => self.frontier.uncut(&self.conn, &page, key, next).map_err(&db)?,
        }
        let host = self.frontier.host(&self.conn, &body.host, false).map_err(&db)?;
        self.account.discovered += 1;
        self.worked = true;
        let entry = NewEntry {
            row: parent.row,
            url: &body.url,
            host: Some(host),
            via: Some(via.0),
            seed: Some(parent.seed),
            depth,
            columns: None,
            fate: 0,
        };
        let id = self.frontier.insert(&self.conn, &entry).map_err(&db)?;
        self.frontier.enqueue(&self.conn, id, host, depth).map_err(&db)?;
        if !hand {
            return Ok(Offered::New(None));
        }
        let (lease, seed) = self.frontier.read(&self.conn, id, host, None).map_err(&db)?;
        self.frontier.hold(id, Held { host, prio: depth, place: Place::Ready, row: parent.row, seed });
        Ok(Offered::New(Some(Box::new(lease))))
    }

    /// A shorter way to a known entry was found.
    fn shorten(&mut self, known: &Known, via: Option<EntryId>, depth: i64) -> Result<(), StoreError> {
        let grown = self.frontier.shorten(&self.conn, known, via, depth).map_err(self.db())?;
        self.grew(grown);
        Ok(())
    }

    fn grew(&mut self, links: u64) {
        self.account.discovered += links;
        self.worked |= links > 0;
    }

    /// Hands out entries; before that, a step of what a raised depth lets in.
    pub(super) fn lease(&mut self, want: &LeaseRequest) -> Result<Leased, StoreError> {
        if self.frontier.cut.is_growing() {
            self.begin()?;
            let grown = self.frontier.grow(&self.conn).map_err(self.db())?;
            self.grew(grown);
        }
        self.frontier.lease(&self.conn, want).map_err(self.db())
    }

    /// Encodes a skipped record of the store's own making.
    fn skip_record(
        &mut self,
        row: u64,
        columns: &Columns,
        url: &str,
        reason: &Reason,
        message: &str,
        first_row: Option<u64>,
    ) -> Result<(), StoreError> {
        let encoder = self.encoder()?;
        if let Some(sink) = self.sink(SKIPPED)? {
            let class = reason.class();
            let reason = reason.clone();
            let record = SkippedRecord { columns, row, url, reason, class, status: None, message, attempts: &[], next_at: None, first_row };
            encoder.encode_skipped(&record, sink.room());
            sink.count(1);
        }
        Ok(())
    }

    /// Counts one more entry under the reason; the reason's number.
    fn count_skip(&mut self, reason: &Reason) -> Result<i64, StoreError> {
        let code = reason.code();
        let id = self.reason(&code)?;
        if let Some((_, n)) = self.reasons.rows.get_mut(&*code) {
            *n += 1;
        }
        self.reasons.changed = true;
        self.account.skipped += 1;
        self.account.duplicates += u64::from(*reason == Reason::Duplicate);
        self.settled += 1;
        Ok(id)
    }

    /// Takes a batch of fates, committing in between where that is due.
    pub(super) fn settle(&mut self, batch: Vec<Settle>) -> Result<Settled, StoreError> {
        let mut sum = Settled::default();
        for op in batch {
            self.begin()?;
            let settled = self.settle_one(op, &mut sum);
            self.note(settled)?;
            self.tick(self.clock.now())?;
        }
        self.stray.take().map_or(Ok(sum), Err)
    }

    /// One settle that nobody is owed takes no others along: the last such is told with the batch.
    fn note(&mut self, settled: Result<(), StoreError>) -> Result<(), StoreError> {
        match settled {
            Err(e) if !e.is_fatal() => self.stray = Some(e),
            other => other?,
        }
        Ok(())
    }

    fn settle_one(&mut self, mut op: Settle, sum: &mut Settled) -> Result<(), StoreError> {
        let entry = op.entry();
        if self.frontier.held(entry).is_none() || self.frontier.is_let_go(entry) {
            return Err(StoreError::NotLeased(entry.0));
        }
        // What a page led to is known at once even where its rows wait for a member: after a crash the page is fetched again
        // and its links are known then.
        if let Settle::Result { discovered, .. } | Settle::Page { discovered, .. } = &mut op {
            for mut offer in std::mem::take(discovered) {
                offer.hand = false;
                match self.offer_one(offer)? {
                    Offered::New(_) => sum.new += 1,
                    Offered::Known { .. } => sum.known += 1,
                    Offered::Cut => sum.cut += 1,
                    Offered::Bad => {}
                }
            }
        }
        let target = self.member_of(&op);
        let waits = self.deferred_entries.get(&entry.0).copied();
        if let Some(queue) = waits
            && target != Some(queue)
        {
            self.apply_deferred(queue)?;
        }
        match target {
            None => self.apply(op),
            Some(queue) => {
                let now = self.clock.now();
                let d = &mut self.deferred[queue];
                d.bytes += match &op {
                    Settle::Result { rows, .. } | Settle::Page { rows, .. } => rows.bytes.len(),
                    Settle::Skipped { record, .. } => record.len(),
                    Settle::Later { .. } | Settle::Release { .. } => 0,
                };
                d.since.get_or_insert(now);
                if !matches!(op, Settle::Page { .. }) {
                    self.frontier.let_go(entry.0);
                }
                d.ops.push(op);
                self.deferred_entries.insert(entry.0, queue);
                Ok(())
            }
        }
    }

    /// The compressed sink whose member the settle has to wait for.
    fn member_of(&self, op: &Settle) -> Option<usize> {
        let compressed = |i: usize| self.sinks.get(i).is_some_and(Sink::is_compressed);
        match op {
            Settle::Result { entry, rows, .. } | Settle::Page { entry, rows, .. } => {
                let behind = self.deferred_entries.get(&entry.0) == Some(&RESULTS);
                (compressed(RESULTS) && (behind || !rows.bytes.is_empty())).then_some(RESULTS)
            }
            Settle::Skipped { .. } => compressed(SKIPPED).then_some(SKIPPED),
            Settle::Later { .. } | Settle::Release { .. } => None,
        }
    }

    /// Applies what waits for a member of the sink; the member itself is made by the commit.
    pub(super) fn apply_deferred(&mut self, queue: usize) -> Result<(), StoreError> {
        self.begin()?;
        let Deferred { ops, .. } = std::mem::take(&mut self.deferred[queue]);
        self.deferred_entries.retain(|_, q| *q != queue);
        for op in ops {
            let applied = self.apply(op);
            self.note(applied)?;
        }
        Ok(())
    }

    fn apply(&mut self, op: Settle) -> Result<(), StoreError> {
        let entry = op.entry();
        let held = self.frontier.held(entry).ok_or(StoreError::NotLeased(entry.0))?;
        let db = self.db();
        self.worked = true;
        match op {
            Settle::Result { rows, .. } => {
                self.take_rows(&rows.bytes, rows.count)?;
                self.frontier.finish(&self.conn, entry.0, held, RESULT).map_err(db)?;
                self.account.results += 1;
                self.settled += 1;
            }
            Settle::Page { rows, state, .. } => {
                self.take_rows(&rows.bytes, rows.count)?;
                keep(&self.conn, entry.0, held, &state).map_err(db)?;
                self.settled += 1;
            }
            Settle::Skipped { record, reason, state, .. } => {
                let fate = self.count_skip(&reason)?;
                if let Some(sink) = self.sink(SKIPPED)? {
                    sink.push(&record, 1);
                }
                if let Some(state) = state {
                    self.conn
                        .prepare_cached("INSERT OR REPLACE INTO parked(entry, state) VALUES (?1, ?2)")
                        .and_then(|mut s| s.execute(rusqlite::params![entry.0, state]))
                        .map_err(&db)?;
                }
                self.frontier.finish(&self.conn, entry.0, held, fate).map_err(db)?;
            }
            Settle::Later { due, state, sweep, .. } => {
                let place = match due.0 {
                    due if sweep => Place::Later(SWEEP + due.clamp(0, SWEEP - 1)),
                    ..=0 => Place::Ready,
                    at => Place::Later(at.min(SWEEP - 1)),
                };
                self.frontier.put_back(&self.conn, entry.0, held, place, &state).map_err(db)?;
            }
            Settle::Release { .. } => self.frontier.release(entry.0),
        }
        Ok(())
    }

    fn take_rows(&mut self, bytes: &[u8], count: u64) -> Result<(), StoreError> {
        if !bytes.is_empty()
            && let Some(sink) = self.sink(RESULTS)?
        {
            sink.push(bytes, count);
        }
        self.account.rows += count;
        Ok(())
    }

    /// Gives a second key (a redirect's target) to an entry.
    pub(super) fn claim(&mut self, key: FetchKey, entry: EntryId) -> Result<Claim, StoreError> {
        self.begin()?;
        let taken = claim(&self.conn, &key.0, entry.0).map_err(self.db())?;
        if let Some(Taken::Cut(page, _)) = &taken {
            self.frontier.uncut(&self.conn, page, &key.0, entry.0).map_err(self.db())?;
        }
        Ok(match taken {
            Some(Taken::Entry(k)) if k.entry != entry.0 => Claim::Known { first_row: k.row },
            _ => Claim::Yours,
        })
    }

    /// Puts skipped entries back; how many, by reason.
    pub(super) fn put_back(&mut self, what: &PutBack) -> Result<BTreeMap<String, u64>, StoreError> {
        self.begin()?;
        let mut out = BTreeMap::new();
        let inputs = [Reason::Duplicate.code(), Reason::BadInput.code()];
        let codes: Vec<(String, i64)> = self
            .reasons
            .rows
            .iter()
            .filter(|(code, (_, n))| *n > 0 && !inputs.contains(&code.as_str().into()))
            .filter(|(code, _)| what.reasons.is_empty() || what.reasons.contains(code))
            .map(|(code, (id, _))| (code.clone(), *id))
            .collect();
        for (code, id) in codes {
            let wanted = |key: &str| {
                let host = crate::model::HostKey::from_stored(key);
                let named = what.hosts.is_empty() || what.hosts.iter().any(|h| h == key || h == host.host() || h == host.authority());
                if named { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let n = self.frontier.revive(&self.conn, id, wanted).map_err(self.db())?;
            if n == 0 {
                continue;
            }
            if let Some((_, live)) = self.reasons.rows.get_mut(&code) {
                *live -= n;
            }
            self.reasons.changed = true;
            self.account.skipped -= n;
            self.worked = true;
            out.insert(code, n);
        }
        Ok(out)
    }
}
