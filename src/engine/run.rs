//! The story of one run.

use crate::clock::{Clock, Moment, SystemClock};
use crate::engine::RunError;
use crate::engine::counting::{Resources, Tokens};
use crate::engine::dispatcher::{Backlog, Dispatcher, End, in_memory, store_failed};
use crate::engine::error::exit_code;
use crate::engine::extraction::{self, Kit};
use crate::engine::feeder::{Fed, Feeder};
use crate::engine::frontier::{DUPLICATES_DIFFER, Frontier};
use crate::engine::keep::Keeper;
use crate::engine::purse;
use crate::engine::request::Builder;
use crate::engine::scope::{self, Scope};
use crate::engine::tally::Tally;
use crate::engine::worker::{Landing, Shop};
use crate::events::{Account, Event, Events, Snapshot, Stats};
use crate::extract::{CompileError, CrawlScope, Extractor, Responses};
use crate::fetch::{Fetcher, SetupError};
use crate::input::InputError;
use crate::limit::{Hours, Limits};
use crate::model::Template;
use crate::model::plan::{BodyPlan, HeaderValue, InputSource, Plan, StatePlace};
use crate::schedule::Schedule;
use crate::store::encode::{Encoder, EncoderSpec};
use crate::store::{self, OpenError, Opened, Store, StoreConfig};
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// What asks a run to stop; it stops cleanly and resumes with the same command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    HangUp,
}

/// Where interrupts come from.
pub type Signals = mpsc::Receiver<Interrupt>;

/// What a run is told beside its plan.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Start over; what was gathered is renamed.
    pub fresh: bool,
    /// Of all jitter; a number from the clock where there is none.
    pub seed: Option<u64>,
}

/// Runs a job to its end, or until it is stopped, and accounts for every input.
///
/// # Errors
/// Where it cannot start, or has to end without an account; what was committed stands.
pub async fn run(plan: Plan, options: RunOptions, events: Events, mut signals: Signals) -> Result<Stats, RunError> {
    let plan = Arc::new(plan);
    let clock = Arc::new(SystemClock::new());
    let shared: Arc<dyn Clock> = clock.clone();

    let extractor = compile(&plan)?;
    let builder = Arc::new(Builder::new(plan.clone()).map_err(job)?);
    let scope = compile_scope(&plan)?;
    let rules = Responses::compile(&plan.responses).map_err(|list| job(lines(&list)))?;
    let fetcher = Fetcher::new(&plan.request, &plan.hosts, &plan.network, shared.clone()).map_err(|e| setup_failed(&e))?;
    let most = plan.limits.workers.min(fetcher.budget()).max(1);

    let mut limits = Limits::new(&plan.limits, &plan.hosts);
    // Of a throwaway state nothing is there to be read again.
    let kept = plan.state != StatePlace::Throwaway;
    let reserved = kept.then(|| Keeper::reserve(&mut limits)).filter(|r| !r.is_empty());
    let (store, mut opened) = open_store(&plan, &extractor, options.fresh, reserved, shared.clone()).await?;
    for notice in &opened.notices {
        events.notice(notice.clone());
    }
    events.emit(&Event::RunStarted {
        job: plan.name.clone(),
        resumed: opened.resumed,
        results: opened.account.results,
        skipped: opened.account.skipped,
        pending: opened.account.pending,
    });

    let kit = Arc::new(Kit {
        extractor,
        encoder: OnceLock::new(),
        builder: builder.clone(),
        scope,
        clock: shared.clone(),
        bodies: AtomicUsize::new(0),
    });
    let scope_parts = restore_scope(&kit, &mut opened);
    restore_encoder(&plan, &kit, &opened);

    let (to_dispatcher, landings) = mpsc::channel(4096);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let extraction = {
        let to = to_dispatcher.clone();
        extraction::start(threads, 4 * most.max(16), &kit, move |id, parsed| drop(to.blocking_send(Landing::Parsed(id, parsed))))
            .map_err(|e| RunError::Io { message: format!("no thread for extraction: {e}"), hint: None })?
    };
    let shop = Arc::new(Shop {
        plan: plan.clone(),
        method: builder.method().clone(),
        fetcher,
        clock: shared,
        to: to_dispatcher,
        extraction,
        kit: kit.clone(),
        rules,
        looks: Semaphore::new(threads),
        early: limits.counts_heads(),
        most,
    });

    let (fed, input_done) = start_feeder(&plan, &builder, &opened, &events)?;
    let (now, calendar) = (clock.now(), opened.calendar.clone());
    if let Some(scope) = &kit.scope {
        scope::read_seeds(&plan.input, scope, !input_done, &shop.to)
            .map_err(|e| RunError::Io { message: format!("no thread for the scope: {e}"), hint: None })?;
    }
    // Before the holds: a key that is held starts with what is assumed too.
    let keeper = Keeper::restore(&mut limits, &opened, now);
    for (key, until) in &opened.holds {
        limits.restore_hold(key, now + calendar.at(clock.up()).until(*until));
    }
    let purse = purse::open(&plan.limits, &shop.to, clock.clone()).await?;
    let seed = options.seed.unwrap_or_else(|| u64::from_ne_bytes(clock.wall().0.to_ne_bytes()) ^ u64::from(std::process::id()) << 40);
    let schedule = Schedule::new(plan.limits.per_host, plan.limits.delay);
    let mut dispatcher = Dispatcher {
        schedule: if plan.limits.jitter { schedule.with_jitter(seed) } else { schedule },
        limits,
        keeper,
        calendar,
        neighbours: HashMap::new(),
        hosts: HashMap::new(),
        flights: HashMap::new(),
        next_flight: 0,
        in_flight: 0,
        parsing: 0,
        most,
        tasks: JoinSet::new(),
        landings,
        fed,
        input_done,
        hungry_since: now,
        offering: false,
        stop_after: None,
        frontier: Frontier {
            more: opened.account.pending > 0,
            drained: false,
            sweep_waiting: 0,
            sweep: false,
            dues: BinaryHeap::new(),
            dues_to_come: Vec::new(),
            looked: false,
            stale: false,
            refill: HashSet::new(),
            trimmed: HashSet::new(),
            to_park: Vec::new(),
            room_made: Moment::ZERO,
        },
        in_memory: in_memory(),
        leasing: false,
        settles: Vec::new(),
        settling: false,
        ticked: false,
        replies: FuturesUnordered::new(),
        tally: Tally::default(),
        pending: opened.account.pending,
        fetched: fetched_before(&opened.account, &opened.by_reason),
        results: opened.account.results,
        next_turn: Moment::FAR,
        waits_on: None,
        waits_told: HashMap::new(),
        blocked: false,
        stopping: None,
        scope_parts,
        unjudged: Vec::new(),
        backlog: Backlog::default(),
        last_snapshot: Moment::ZERO,
        idle_booked: clock.now(),
        drops: 0,
        shortage: None,
        short_since: None,
        duplicates_differ: opened.extra.contains_key(DUPLICATES_DIFFER),
        defer: None,
        deferred_for: None,
        no_way: None,
        resumed: opened.resumed,
        hours: plan.limits.hours.as_ref().map(Hours::new),
        tokens: Tokens::new(plan.auth.as_ref()),
        resources: Resources::default(),
        purse,
        #[cfg(debug_assertions)]
        counts_at_send: std::env::var_os("GLEANER_TEST_BREAK").is_some_and(|b| b == "count-at-send"),
        seed,
        plan: plan.clone(),
        builder,
        kit,
        shop,
        store: store.clone(),
        events: events.clone(),
        clock: clock.clone(),
    };
    // On the runtime's own threads: a wake-up from a worker is then a push to a queue and no system call.
    let mut deciding = JoinSet::new();
    deciding.spawn(async move {
        let ended = dispatcher.run(&mut signals).await;
        (dispatcher, ended)
    });
    let Some(Ok((mut dispatcher, ended))) = deciding.join_next().await else {
        return Err(RunError::Io {
            message: "the dispatcher failed in a way that it should not".into(),
            hint: Some("nothing committed is lost: run the same command again, and please report it".into()),
        });
    };
    // However it ended: a request that must not be sent again may wait between two hops.
    dispatcher.abandon();
    let flushed = dispatcher.flush().await;
    // Those in flight count as sent from here on. The budget's thread is not to wait for room to tell of grants.
    dispatcher.landings.close();
    if let Some(purse) = &mut dispatcher.purse {
        purse.close();
    }
    dispatcher.book_idle(clock.now());
    let snapshot = Snapshot { in_flight: 0, waiting: None, eta_s: None, ..dispatcher.snapshot(clock.now()) };
    // What `status` tells of the run from now on; it rides on the last commit.
    let _ = store.snapshot(serde_json::to_string(&snapshot).unwrap_or_default()).await;
    let ended = match flushed {
        Err(e) if ended.is_ok() => Err(e),
        _ => ended,
    };
    let (stats, failed) = finish(&mut dispatcher, &store, ended, &opened).await;
    events.snapshot(&snapshot);
    events.emit(&Event::RunEnded { stats: Box::new(stats.clone()) });
    failed.map_or(Ok(stats), Err)
}

/// What a job's files say before anything is sent: the list can be opened and its columns fit template and fields, the
/// authorities of `ca_file` can be read. Gives the reader's notices.
///
/// # Errors
/// All that is found; the first is how [`run`] would end, state and sinks left out. Those of a key begin with it.
pub fn check(plan: &Plan) -> Result<Vec<String>, Vec<RunError>> {
    let mut errors = Vec::new();
    let extractor = compile(plan).map_err(|e| errors.push(e)).ok();
    errors.extend(Builder::new(Arc::new(plan.clone())).err().map(job));
    errors.extend(Fetcher::new(&plan.request, &plan.hosts, &plan.network, Arc::new(SystemClock::new())).err().map(|e| setup_failed(&e)));
    let reader = matches!(plan.input.source, InputSource::File(_)).then(|| crate::input::open(&plan.input, None));
    let mut notices = Vec::new();
    match reader {
        None => {}
        Some(Err(e)) => {
            let (message, hint) = (e.to_string(), e.hint().map(str::to_owned));
            errors.push(match e {
                InputError::Template { .. } => RunError::Job { message: format!("input.url: {message}"), hint },
                e if e.is_io() => RunError::Io { message, hint },
                _ => RunError::Input { message, hint },
            });
        }
        Some(Ok(mut reader)) => {
            errors.extend(extractor.as_ref().and_then(|e| same_name(e, reader.columns())).map(name_taken));
            errors.extend(unknown_columns(plan, reader.columns(), reader.is_sampled()));
            notices = reader.notices();
        }
    }
    if errors.is_empty() { Ok(notices) } else { Err(errors) }
}

/// Places of the request that no column fills; a list without columns has `url` alone. Of `sampled` columns only those of the
/// first records are known, and a later record may have what these lack.
fn unknown_columns(plan: &Plan, columns: &[String], sampled: bool) -> Vec<RunError> {
    if sampled {
        return Vec::new();
    }
    let r = &plan.request;
    let mut templates: Vec<(String, &Template)> = r.query.iter().map(|(name, t)| (format!("request.query.{name}"), t)).collect();
    let of_hosts = plan.hosts.iter().enumerate().map(|(i, h)| (format!("host[{i}]"), &h.headers));
    for (section, headers) in std::iter::once(("request".to_owned(), &r.headers)).chain(of_hosts) {
        for (name, value) in headers {
            if let HeaderValue::Text(t) = value {
                templates.push((format!("{section}.headers.{name}"), t));
            }
        }
    }
    match &r.body {
        None => {}
        Some(BodyPlan::Text(t)) => templates.push(("request.body".into(), t)),
        Some(BodyPlan::Json(t)) => templates.push(("request.json".into(), t)),
        Some(BodyPlan::Form(fields)) => templates.extend(fields.iter().map(|(name, t)| (format!("request.form.{name}"), t))),
    }
    let known = |name: &str| columns.iter().any(|c| c.trim() == name) || (columns.is_empty() && name == "url");
    let mut errors = Vec::new();
    for (key, template) in templates {
        for name in template.names().into_iter().filter(|name| !known(name)) {
            let have =
                if columns.is_empty() { "a list of addresses has \"url\" alone".to_owned() } else { format!("there are {columns:?}") };
            errors.push(job(format!("{key}: the input has no column {name:?}: {have}")));
        }
    }
    errors
}

/// What is wrong with the columns of the input, as far as a run cannot do without.
pub(crate) fn wrong_columns(plan: &Plan, extractor: &Extractor, columns: &[String], sampled: bool) -> Option<RunError> {
    let taken = same_name(extractor, columns).map(name_taken);
    taken.or_else(|| unknown_columns(plan, columns, sampled).into_iter().next())
}

pub(crate) fn setup_failed(e: &SetupError) -> RunError {
    job(if matches!(e, SetupError::CaFile(_)) { format!("request.tls.{e}") } else { e.to_string() })
}

/// A field that has the name of a carried column.
fn same_name<'a>(extractor: &'a Extractor, columns: &[String]) -> Option<&'a str> {
    extractor.field_names().iter().find(|f| columns.contains(f)).map(String::as_str)
}

fn name_taken(name: &str) -> RunError {
    RunError::Job {
        message: format!("extract.fields.{name}: the input has a column of that name"),
        hint: Some("name the field otherwise".into()),
    }
}

pub(crate) fn encoder_spec(plan: &Plan, extractor: &Extractor) -> EncoderSpec {
    EncoderSpec { fields: extractor.field_names().to_vec(), meta: plan.output.meta.clone(), csv_safe: plan.output.csv_safe }
}

pub(crate) fn job(message: String) -> RunError {
    RunError::Job { message, hint: None }
}

pub(crate) fn compile(plan: &Plan) -> Result<Extractor, RunError> {
    Extractor::compile(&plan.extract, plan.crawl.as_ref(), plan.pages.as_ref()).map_err(|list| job(lines(&list)))
}

fn lines(errors: &[CompileError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn compile_scope(plan: &Plan) -> Result<Option<Arc<Scope>>, RunError> {
    let Some(crawl) = &plan.crawl else { return Ok(None) };
    let scope = CrawlScope::compile(crawl).map_err(|list| job(lines(&list)))?;
    Ok(Some(Arc::new(Scope::new(scope, plan))))
}

/// Takes the scope as earlier runs left it out of what the state held; in how many parts.
fn restore_scope(kit: &Kit, opened: &mut Opened) -> u64 {
    let Some(scope) = &kit.scope else { return 0 };
    let (parts, others) = std::mem::take(&mut opened.extra).into_iter().partition(|(key, _)| key.starts_with("scope "));
    opened.extra = others;
    let parts: BTreeMap<String, String> = parts;
    scope.add(parts.values().flat_map(|text| text.lines()).filter_map(|s| url::Url::parse(s).ok()));
    parts.len() as u64
}

fn restore_encoder(plan: &Plan, kit: &Kit, opened: &Opened) {
    if let Some(columns) = &opened.columns {
        let skipped = plan.output.skipped.as_ref().map_or(plan.output.results.format, |s| s.format);
        let _ = kit.encoder.set(Encoder::new(encoder_spec(plan, &kit.extractor), plan.output.results.format, skipped, columns.clone()));
    }
}

async fn open_store(
    plan: &Arc<Plan>,
    extractor: &Extractor,
    fresh: bool,
    reserved: Option<BTreeMap<String, u32>>,
    clock: Arc<dyn Clock>,
) -> Result<(Store, Opened), RunError> {
    let config = StoreConfig {
        dir: match &plan.state {
            StatePlace::Folder(dir) => Some(dir.clone()),
            StatePlace::Throwaway => None,
        },
        job: plan.name.clone(),
        results: plan.output.results.clone(),
        skipped: plan.output.skipped.clone(),
        flush: plan.output.flush,
        frozen: plan.frozen.clone(),
        encoder: encoder_spec(plan, extractor),
        depth: plan.crawl.as_ref().and_then(|c| c.depth),
        fresh,
        reserved,
        stdout: None,
    };
    let opened = tokio::task::spawn_blocking(move || store::open(config, clock)).await;
    match opened {
        Ok(Ok(pair)) => Ok(pair),
        Ok(Err(e)) => Err(open_failed(&e)),
        Err(_) => Err(RunError::Io { message: "opening the state failed in a way that it should not".into(), hint: None }),
    }
}

pub(crate) fn open_failed(e: &OpenError) -> RunError {
    let (message, hint) = (e.to_string(), e.hint().map(str::to_owned));
    match (e.exit_code(), e) {
        (73, OpenError::InUse { what, pid, since }) => RunError::InUse {
            what: what.display().to_string(),
            pid: pid.map_or_else(|| "unknown".into(), |p| p.to_string()),
            since: since.clone().unwrap_or_else(|| "at an unknown time".into()),
        },
        (74, _) => RunError::Io { message, hint },
        _ => RunError::State { message, hint },
    }
}

/// Starts the feeder where the input was not read to its end. Returns its channel and whether the input is done.
fn start_feeder(
    plan: &Arc<Plan>,
    builder: &Arc<Builder>,
    opened: &Opened,
    events: &Events,
) -> Result<(Option<mpsc::Receiver<Fed>>, bool), RunError> {
    let mark = opened.input.as_ref();
    let done = mark.is_some_and(|m| m.done);
    // A file may have grown since; other sources end once.
    if done && !matches!(plan.input.source, InputSource::File(_)) {
        return Ok((None, true));
    }
    if mark.is_some() && plan.input.source == InputSource::Stdin {
        events.notice(format!(
            "standard input ended early in an earlier run: the {} records that the state holds are all that this job has",
            crate::events::thousands(opened.account.inputs)
        ));
        return Ok((None, true));
    }
    // Nobody waits for the thread: it ends when nobody listens.
    let (fed, _thread) = Feeder::start(&plan.input, builder, mark)?;
    Ok((Some(fed), false))
}

/// Entries that were fetched to an end in earlier runs, for `max_pages`.
pub(crate) fn fetched_before(account: &Account, by_reason: &BTreeMap<String, u64>) -> u64 {
    let unfetched: u64 = ["bad-input", "duplicate", "robots-disallowed", "blocked-address", "host-unreachable", "out-of-scope"]
        .iter()
        .filter_map(|code| by_reason.get(*code))
        .sum();
    (account.results + account.skipped).saturating_sub(unfetched)
}

/// Commits what is settled and draws up the figures: of a run that failed those of its last commit, with what failed.
async fn finish(d: &mut Dispatcher, store: &Store, ended: Result<End, RunError>, opened: &Opened) -> (Stats, Option<RunError>) {
    const FAILED: &str = "stopped:failure";
    let (end, failed) = match ended {
        Ok(end) => (end, None),
        Err(e) => (End { finish: FAILED.into(), done: false }, Some(e)),
    };
    let kept = d.keep_limits_for_good().await;
    let committed = store.commit().await;
    let (account, by_reason) = match &committed {
        Ok(account) => {
            d.events.emit(&Event::Committed { account: *account });
            (*account, store.by_reason())
        }
        Err(_) => (*store.committed().borrow(), durable_reasons(&d.plan)),
    };
    let stats = stats(d, end.finish, account, by_reason);
    let failed = failed.or(kept.err()).or_else(|| committed.err().map(store_failed));
    if failed.is_none() {
        tell_of_cut(d, store.cut());
        if d.duplicates_differ {
            d.events.notice("repeated addresses stand in rows that differ in other columns: [input] duplicates = \"fetch\" asks for each");
        }
    }
    let code = (end.done && failed.is_none()).then(|| exit_code(&stats));
    let failed = match (failed, store.close(code).await) {
        (None, Err(e)) => Some(store_failed(e)),
        (failed, _) => failed,
    };
    if failed.is_some() {
        return (Stats { finish: FAILED.into(), ..stats }, failed);
    }
    if opened.finished.is_some() && stats.requests == 0 && end.done {
        d.events.notice("this job was done before; nothing was sent".to_owned());
    }
    (stats, None)
}

/// Skipped entries by reason as the last commit left them, where the store can no longer say.
fn durable_reasons(plan: &Plan) -> BTreeMap<String, u64> {
    match &plan.state {
        StatePlace::Folder(dir) => store::read::status(dir).ok().flatten().map_or_else(BTreeMap::new, |view| view.by_reason),
        StatePlace::Throwaway => BTreeMap::new(),
    }
}

/// What `depth` cut is named with its key.
fn tell_of_cut(d: &Dispatcher, links: u64) {
    let Some(depth) = d.plan.crawl.as_ref().and_then(|c| c.depth).filter(|_| links > 0) else { return };
    let (n, are) = (crate::events::thousands(links), if links == 1 { "link is" } else { "links are" });
    let way = match d.plan.state {
        StatePlace::Folder(_) => "kept in the state; raise it and run again to go on there",
        StatePlace::Throwaway => "left out",
    };
    d.events.notice(format!("{n} {are} deeper than [crawl] depth = {depth} and {way}"));
}

fn stats(d: &Dispatcher, finish: String, account: Account, by_reason: BTreeMap<String, u64>) -> Stats {
    Stats {
        job: d.plan.name.clone(),
        inputs: account.inputs,
        discovered: account.discovered,
        results: account.results,
        rows: account.rows,
        skipped: account.skipped,
        duplicates: account.duplicates,
        pending: account.pending,
        requests: d.tally.requests,
        retries: d.tally.retries,
        by_reason,
        by_host: d.tally.by_host(),
        warnings: d.events.warnings(),
        out_of_scope: d.tally.out_of_scope.clone(),
        bytes: d.tally.bytes,
        elapsed_s: d.clock.now().since(Moment::ZERO).as_secs_f64(),
        waited_s: d.tally.waited_s(d.clock.now()),
        workers_s: d.tally.workers_s(d.shop.most, d.clock.now().since(Moment::ZERO)),
        finish,
    }
}
