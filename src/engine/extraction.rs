//! Extraction on threads of its own: an answer in, encoded rows, discovered offers and the next page out.
//!
//! A page that takes long holds one of these threads and no worker; a panic costs its one entry.

use crate::clock::{Clock, Moment, Wall};
use crate::engine::request::Builder;
use crate::engine::scope::{OUTSIDE, Scope};
use crate::extract::{CrawlScope, ExtractFailure, Extractor, Page, PageState, PageStep};
use crate::model::{Answer, HostKey, Reason, ResultRow, normalise};
use crate::store::encode::Encoder;
use crate::store::{EncodedRows, Lease, Offer, OfferUrl, Origin};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use url::Url;

/// Longest parse of one page on these threads.
pub(super) const PARSE_TIME: Duration = Duration::from_secs(10);

/// An accepted answer with what its rows need.
pub(crate) struct Task {
    pub flight: u64,
    pub lease: Arc<Lease>,
    pub answer: Answer,
    /// Address of the answer's hop.
    pub url: Url,
    pub fetched_at: Wall,
    /// Charged tries, this one included.
    pub attempts: u32,
    pub page: Option<PageState>,
    /// Whether links are offered (a crawl).
    pub links: bool,
}

/// What extraction gave.
#[derive(Default)]
pub(crate) struct Parsed {
    pub rows: EncodedRows,
    pub discovered: Vec<Offer>,
    pub step: Option<PageStep>,
    pub warnings: Vec<(&'static str, String)>,
    pub out_of_scope: BTreeMap<&'static str, u64>,
    /// Links that belong to no seed so far, while more may come.
    pub outside: Vec<String>,
}

impl Parsed {
    /// Roughly, its bytes in memory.
    pub(crate) fn weight(&self) -> usize {
        let offers = self.discovered.iter().map(|o| size_of::<Offer>() + o.body.as_ref().map_or(0, |b| b.url.len()));
        let outside = self.outside.iter().map(|link| size_of::<String>() + link.len());
        self.rows.bytes.len() + offers.chain(outside).sum::<usize>()
    }
}

/// What every thread shares.
pub(crate) struct Kit {
    pub extractor: Extractor,
    /// Set once the carried columns are known, which is before the first entry is.
    pub encoder: OnceLock<Encoder>,
    pub builder: Arc<Builder>,
    pub scope: Option<Arc<Scope>>,
    pub clock: Arc<dyn Clock>,
    /// Bytes of the bodies that wait for an extraction thread or are with one.
    pub bodies: AtomicUsize,
}

/// Starts `threads` threads over a queue of `room` answers; each end is told to `done`. They end when the queue's senders
/// are gone; nobody waits for one that still parses.
pub(crate) fn start(
    threads: usize,
    room: usize,
    kit: &Arc<Kit>,
    done: impl Fn(u64, Result<Parsed, ExtractFailure>) + Clone + Send + 'static,
) -> std::io::Result<SyncSender<Task>> {
    let (queue, tasks) = sync_channel(room.max(1));
    let tasks = Arc::new(Mutex::new(tasks));
    for i in 0..threads.max(1) {
        let (kit, tasks, done) = (kit.clone(), tasks.clone(), done.clone());
        std::thread::Builder::new().name(format!("extract-{i}")).stack_size(8 << 20).spawn(move || work(&kit, &tasks, &done))?;
    }
    Ok(queue)
}

fn work(kit: &Kit, tasks: &Mutex<Receiver<Task>>, done: &impl Fn(u64, Result<Parsed, ExtractFailure>)) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        let parsed = kit.parse(&task, PARSE_TIME);
        kit.bodies.fetch_sub(task.answer.body.len(), Ordering::Relaxed);
        done(task.flight, parsed);
    }
}

impl Kit {
    /// An answer's rows, links and next page. A panic costs the one entry.
    pub(crate) fn parse(&self, task: &Task, within: Duration) -> Result<Parsed, ExtractFailure> {
        let message = "the extraction of this page failed in a way that it should not";
        catch_unwind(AssertUnwindSafe(|| self.extract(task, within)))
            .unwrap_or_else(|_| Err(ExtractFailure { reason: Reason::InternalError, message: message.into() }))
    }

    fn extract(&self, task: &Task, within: Duration) -> Result<Parsed, ExtractFailure> {
        let end: Moment = self.clock.now() + within;
        let late = || self.clock.now() > end;
        let page = Page {
            url: &task.url,
            status: task.answer.status,
            headers: &task.answer.headers,
            body: &task.answer.body,
            links: task.links,
            paging: task.page.as_ref(),
            deadline: &late,
        };
        let out = self.extractor.run(&page)?;
        let dropped = matches!(&out.paging, Some(PageStep::End { drop_rows: true, .. }));
        let delivered = task.page.as_ref().is_some_and(PageState::is_delivered);
        let mut rows = EncodedRows::default();
        if !dropped
            && !delivered
            && let Some(encoder) = self.encoder.get()
        {
            for fields in &out.rows {
                let row = ResultRow {
                    columns: &task.lease.columns,
                    fields,
                    row: task.lease.row,
                    url: &task.lease.url,
                    final_url: task.url.as_str(),
                    status: task.answer.status,
                    fetched_at: task.fetched_at,
                    attempts: task.attempts,
                    via: task.lease.via.as_deref(),
                    depth: task.lease.depth,
                };
                encoder.encode_result(&row, &mut rows.bytes);
                rows.count += 1;
            }
        }
        let mut parsed = Parsed { rows, step: out.paging, warnings: out.warnings, ..Parsed::default() };
        if task.links
            && let Some(scope) = &self.scope
        {
            let whole = scope.is_whole();
            self.sort_links(&mut parsed, &scope.read(), &task.lease, out.links, whole);
        }
        Ok(parsed)
    }

    /// Judges what was outside of a scope that is whole now.
    pub(crate) fn judge(&self, from: &Lease, mut parsed: Parsed) -> Parsed {
        let links = std::mem::take(&mut parsed.outside);
        if let Some(scope) = &self.scope {
            self.sort_links(&mut parsed, &scope.read(), from, links, true);
        }
        parsed
    }

    fn sort_links(&self, parsed: &mut Parsed, scope: &CrawlScope, from: &Lease, links: Vec<String>, whole: bool) {
        for link in links {
            match self.discover(scope, from, &link) {
                Ok(offer) => parsed.discovered.push(offer),
                Err(OUTSIDE) if !whole => parsed.outside.push(link),
                Err(rule) => *parsed.out_of_scope.entry(rule).or_insert(0) += 1,
            }
        }
    }

    fn discover(&self, scope: &CrawlScope, from: &Lease, link: &str) -> Result<Offer, &'static str> {
        let url = normalise(link).map_err(|_| "no-address")?;
        scope.admits(&url)?;
        let target = self.builder.target(&url, &from.columns).map_err(|_| "template")?;
        let key = self.builder.key(&target, &from.columns).map_err(|_| "template")?;
        Ok(Offer {
            row: from.row,
            origin: Origin::Discovered { via: from.entry, depth: from.depth + 1 },
            body: Ok(OfferUrl { url: link.to_owned(), key, host: HostKey::of(&target), fetch_duplicates: false }),
            columns: crate::model::Columns::new(),
            hand: false,
        })
    }
}
