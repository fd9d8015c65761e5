//! Which links belong to a crawl: the union of its seeds, which is known once every seed was read.
//!
//! A list is read twice: by the feeder as far as its entries are wanted, and once from end to end for the scope alone, beside
//! the first requests. Until that is through, a link or redirect that the scope leaves out may lead to the site of a seed that
//! is yet to come. So its page waits, fetched and parsed and in flight, and is judged then; how many may wait is bounded, and
//! after a crash they are simply pending. What can be read once only, standard input or a pipe, is read on to its end while
//! pages wait, and its scope is kept in the state.

use crate::clock::Clock as _;
use crate::engine::dispatcher::Dispatcher;
use crate::engine::extraction::Parsed;
use crate::engine::feeder::{Fed, FeedError};
use crate::engine::frontier::Reply;
use crate::engine::settle::is_same_site;
use crate::engine::work::{Flight, Item};
use crate::engine::worker::{Facts, Landing};
use crate::extract::{CrawlScope, ExtractFailure};
use crate::input::{self, InputError};
use crate::model::normalise;
use crate::model::plan::{InputPlan, InputSource, Plan};
use crate::retry::Judgement;
use crate::store::Offer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::mpsc::Sender;
use url::Url;

/// The rule that leaves out what belongs to no seed; it alone depends on seeds that are yet to come.
pub(crate) const OUTSIDE: &str = "scope";

/// The scope of a crawl while it grows.
pub(crate) struct Scope {
    seeds: RwLock<CrawlScope>,
    whole: AtomicBool,
    /// The seeds can be read once only.
    once: bool,
}

impl Scope {
    pub(crate) fn new(seeds: CrawlScope, plan: &Plan) -> Self {
        let any = plan.crawl.as_ref().is_some_and(|c| c.scope == crate::model::plan::Scope::Any);
        let once = match &plan.input.source {
            InputSource::File(path) => !path.metadata().is_ok_and(|m| m.is_file()),
            InputSource::Stdin => true,
            InputSource::Urls(_) | InputSource::Request => false,
        };
        Self { seeds: RwLock::new(seeds), whole: AtomicBool::new(any), once }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, CrawlScope> {
        self.seeds.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Widens it; gives those that did.
    pub(crate) fn add(&self, seeds: impl Iterator<Item = Url>) -> Vec<String> {
        let mut scope = self.seeds.write().unwrap_or_else(PoisonError::into_inner);
        seeds.filter(|url| scope.add_seed(url)).map(String::from).collect()
    }

    /// Every seed is in it: what it leaves out is out. To be asked before it is read.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    pub(crate) fn set_whole(&self) {
        self.whole.store(true, Ordering::Release);
    }

    /// Its seeds come from the feeder and more may follow.
    pub(crate) fn is_fed(&self) -> bool {
        self.once && !self.is_whole()
    }
}

/// Reads every seed of the job for the scope: a short list at once, a file on a thread of its own that tells `to`. What can
/// be read once only comes from the feeder, unless that has nothing more to read.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn read_seeds(plan: &InputPlan, scope: &Arc<Scope>, fed: bool, to: &Sender<Landing>) -> std::io::Result<()> {
    if scope.once && !fed {
        scope.set_whole();
    }
    if scope.once || scope.is_whole() {
        return Ok(());
    }
    if !matches!(plan.source, InputSource::File(_)) {
        // What cannot be read is told by the feeder.
        if read_all(plan, scope, to).is_ok() {
            scope.set_whole();
        }
        return Ok(());
    }
    let (plan, scope, to) = (plan.clone(), scope.clone(), to.clone());
    let read = move || drop(to.blocking_send(Landing::SeedsRead(read_all(&plan, &scope, &to))));
    std::thread::Builder::new().name("scope".into()).spawn(read).map(drop)
}

fn read_all(plan: &InputPlan, scope: &Scope, to: &Sender<Landing>) -> Result<(), InputError> {
    let mut reader = input::open(plan, None)?;
    while let Some(record) = reader.next()? {
        // The feeder tells them.
        drop((reader.notices(), reader.warnings()));
        let url = record.body.ok().and_then(|listed| normalise(&listed).ok());
        scope.add(url.into_iter());
        if to.is_closed() {
            break;
        }
    }
    Ok(())
}

/// What waits for the scope, in flight meanwhile.
pub(crate) enum Unjudged {
    Page(Parsed),
    Redirect(Judgement, Facts),
}

impl Dispatcher {
    /// Seeds that were read for their entries and are not read for the scope alone.
    pub(super) fn add_to_scope(&mut self, offers: &[Offer], last: bool) {
        let Some(scope) = self.kit.scope.clone().filter(|s| s.is_fed()) else { return };
        let wider = scope.add(offers.iter().filter_map(|o| o.body.as_ref().ok()).filter_map(|b| normalise(&b.url).ok()));
        self.keep_scope(&wider);
        if last {
            self.scope_is_whole();
        }
    }

    /// What widened the scope goes to the state, for the runs that do not read or ask it again: a part of its own, since all of
    /// it anew each time would grow with the square of the list.
    pub(super) fn keep_scope(&mut self, wider: &[String]) {
        if wider.is_empty() {
            return;
        }
        let (store, key, text) = (self.store.clone(), format!("scope {}", self.scope_parts), wider.join("\n"));
        self.scope_parts += 1;
        self.replies.push(Box::pin(async move { Reply::Told(store.put(&key, &text).await) }));
    }

    /// The thread that reads the seeds has ended.
    pub(super) fn seeds_read(&mut self, read: Result<(), InputError>) {
        match read {
            Ok(()) => self.scope_is_whole(),
            Err(e) => self.feed(Some(Fed::Failed(FeedError::Input(e)))),
        }
    }

    fn scope_is_whole(&mut self) {
        if let Some(scope) = &self.kit.scope {
            scope.set_whole();
            self.judge();
        }
    }

    /// A page is parsed. One with links that may be out of scope waits until that is known.
    pub(super) fn extracted(&mut self, id: u64, flight: Flight, parsed: Result<Parsed, ExtractFailure>) {
        match parsed {
            Ok(parsed) if !parsed.outside.is_empty() => self.wait_for_scope(id, flight, Unjudged::Page(parsed)),
            parsed => {
                if let Item::Entry(work) = flight.item {
                    self.parsed(work, parsed);
                }
            }
        }
    }

    pub(super) fn wait_for_scope(&mut self, id: u64, flight: Flight, what: Unjudged) {
        self.flights.insert(id, flight);
        if let Unjudged::Page(parsed) = &what {
            self.backlog.unjudged += parsed.weight();
        }
        self.unjudged.push((id, what));
        if self.kit.scope.as_ref().is_none_or(|s| s.is_whole()) {
            self.judge();
        } else if !self.has_room() {
            self.waits_on = Some("the end of the list, which decides what links belong to the crawl".into());
        }
    }

    /// Whether a redirect leads out of a scope that may yet grow.
    pub(super) fn may_lead_out(&self, flight: &Flight, judgement: &Judgement) -> bool {
        let (Some(scope), Judgement::Redirect { to, .. }, Item::Entry(work)) = (&self.kit.scope, judgement, &flight.item) else {
            return false;
        };
        let moves_along = work.lease.depth == 0 && work.hop.as_ref().is_some_and(|h| is_same_site(&h.url, to));
        !scope.is_whole() && !moves_along && scope.read().admits(to) == Err(OUTSIDE)
    }

    /// Judges what waited. Links may be many, so that is done elsewhere.
    fn judge(&mut self) {
        let now = self.clock.now();
        self.backlog.unjudged = 0;
        let mut pages = Vec::new();
        for (id, what) in std::mem::take(&mut self.unjudged) {
            match (what, self.flights.get(&id).map(|f| &f.item)) {
                (Unjudged::Page(parsed), Some(Item::Entry(work))) => pages.push((id, work.lease.clone(), parsed)),
                (Unjudged::Redirect(judgement, facts), Some(_)) => {
                    if let Some(flight) = self.flights.remove(&id) {
                        self.judged(flight, judgement, &facts, now);
                    }
                }
                _ => {}
            }
        }
        if pages.is_empty() {
            return;
        }
        let kit = self.kit.clone();
        let judged =
            move || -> Vec<(u64, Parsed)> { pages.into_iter().map(|(id, lease, parsed)| (id, kit.judge(&lease, parsed))).collect() };
        let judged = tokio::task::spawn_blocking(judged);
        self.replies.push(Box::pin(async move { Reply::LinksJudged(judged.await.ok()) }));
    }

    pub(super) fn links_judged(&mut self, pages: Vec<(u64, Parsed)>) {
        for (id, parsed) in pages {
            if let Some(Flight { item: Item::Entry(work), .. }) = self.flights.remove(&id) {
                self.parsed(work, Ok(parsed));
            }
        }
    }

    /// The run ends before the scope is known: what waited for it is pending.
    pub(super) fn let_go_of_unjudged(&mut self) {
        self.backlog.unjudged = 0;
        for (id, _) in self.unjudged.drain(..) {
            self.flights.remove(&id);
        }
    }
}
