//! Every call from the command line into `config`, `engine` and `store`.

use crate::budget::{BudgetError, BudgetView};
use crate::cli::exit::{Exit, Failure};
use crate::cli::fetch::has_input_extension;
use crate::cli::session::shown;
use crate::cli::settings::{Settings, Value};
use crate::clock::{Clock as _, SystemClock, Wall};
use crate::config::{ConfigErrors, Loaded, Origin, Overrides, Setting};
use crate::engine::RunError;
use crate::engine::forecast::Forecast;
use crate::events::{Events, Stats};
use crate::model::plan::{Plan, StatePlace};
use crate::report::{BudgetKey, BudgetProcess, BudgetReport, BudgetWindow, StatusFile, StatusReport};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

pub(crate) use crate::config::{parse_allow_net, parse_dns_server, parse_resolve};
pub(crate) use crate::engine::{Interrupt, RunOptions};

/// A job that may run, and its settings for `check --explain`.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) explain: String,
    /// What is odd and harms nothing.
    pub(crate) warnings: Vec<String>,
    places: Vec<Setting>,
}

/// A job file with flags and environment above it.
pub(crate) fn load(job: &Path, settings: &Settings) -> Result<Job, Failure> {
    finished(crate::config::load(job, &overrides(settings), environment()), Some(job))
}

/// Where a job file has its state: also where a variable of the job is unset, or something else in it is wrong.
pub(crate) fn state_place(job: &Path, settings: &Settings) -> Result<StatePlace, Failure> {
    crate::config::state_place(job, &overrides(settings), environment()).map_err(|e| wrong(&e, Some(job)))
}

/// The job that flags alone amount to.
pub(crate) fn assemble(settings: &Settings) -> Result<Job, Failure> {
    finished(crate::config::assemble(&overrides(settings), environment()), None)
}

fn finished(loaded: Result<Loaded, ConfigErrors>, job: Option<&Path>) -> Result<Job, Failure> {
    let loaded = loaded.map_err(|e| wrong(&e, job))?;
    let explain = crate::config::explain_text(&loaded.explain, job);
    Ok(Job { plan: loaded.plan, explain, warnings: loaded.warnings, places: loaded.explain })
}

/// Where there is no file, or the file is right, the arguments are wrong.
fn wrong(e: &ConfigErrors, job: Option<&Path>) -> Failure {
    let exit = if job.is_none() || e.only_flags() { Exit::Usage } else { Exit::Data };
    let failure = Failure::new(exit, e.to_string());
    match job {
        Some(job) if !job.exists() => failure.hint(format!("write one with: gleaner fetch URL --save {}", shown(job))),
        Some(job) if has_input_extension(&job.to_string_lossy()) => {
            failure.hint(format!("a list is fetched with: gleaner fetch {}", shown(job)))
        }
        _ => failure,
    }
}

/// Opens what a job names before anything is sent; what its reader has to say. Every mistake at once, with line and column
/// where it is one of a key that the job file sets.
pub(crate) fn check(file: &Path, job: &Job) -> Result<Vec<String>, Failure> {
    crate::engine::check(&job.plan).map_err(|errors| {
        let all: Vec<Failure> = errors.iter().map(failed).collect();
        let lines: Vec<String> = all.iter().flat_map(|f| f.message.lines()).map(|line| job.with_place(file, line)).collect();
        let exit = all.first().map_or(Exit::Data, |f| f.exit);
        let failure = Failure::new(exit, lines.join("\n"));
        let hints: Vec<&str> = all.iter().filter_map(|f| f.hint.as_deref()).collect();
        if hints.is_empty() { failure } else { failure.hint(hints.join("; ")) }
    })
}

impl Job {
    /// `extract.fields.a: …` as `job.toml:3:5: extract.fields.a: …`.
    fn with_place(&self, file: &Path, line: &str) -> String {
        let key = line.split(": ").next().unwrap_or_default();
        // An entry of a table that is one value stands where the table does.
        let of = |key: &str| self.places.iter().find(|s| s.key == key).map(|s| &s.origin);
        match of(key).or_else(|| of(key.rsplit_once('.')?.0)) {
            Some(Origin::File { line: at, column }) => format!("{}:{at}:{column}: {line}", file.display()),
            Some(Origin::Env(name) | Origin::Flag(name)) => format!("{name}: {line}"),
            _ => line.to_owned(),
        }
    }
}

fn failed(e: &RunError) -> Failure {
    let failure = Failure::new(Exit::from_code(e.exit_code()), e.to_string());
    match e.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn overrides(settings: &Settings) -> Overrides {
    let mut overrides = Overrides::default();
    overrides.network = settings.network.clone();
    for setting in &settings.list {
        let (key, flag) = (setting.key.as_str(), setting.flag);
        match &setting.value {
            Value::Typed(value) => overrides.set(key, value, flag),
            Value::Text(value) => overrides.set_text(key, value, flag),
            Value::List(values) => overrides.set_list(key, values.iter().map(String::as_str), flag),
            Value::Pairs(pairs) => pairs.iter().for_each(|(name, value)| overrides.set_pair(key, name, value, flag)),
        }
    }
    overrides
}

/// The JSON Schema of job files.
pub(crate) fn schema() -> String {
    crate::config::schema()
}

/// The exit code of a run that came to an end of its own; the state keeps the same one.
pub(crate) fn exit(stats: &Stats) -> Exit {
    Exit::from_code(crate::engine::exit_code(stats))
}

/// Runs a plan to an end.
pub(crate) async fn run(plan: Plan, options: RunOptions, events: Events, signals: mpsc::Receiver<Interrupt>) -> Result<Stats, Failure> {
    crate::engine::run(plan, options, events, signals).await.map_err(|e| failed(&e))
}

/// What a run of a plan would do, if every answer took `answer`.
pub(crate) fn forecast(plan: Plan, answer: Duration) -> Result<Forecast, Failure> {
    crate::engine::forecast(plan, answer).map_err(|e| failed(&e))
}

/// Where the job of a state folder stands.
pub(crate) fn status(state: &Path) -> Result<StatusReport, Failure> {
    let view = crate::store::read::status(state).map_err(|e| Failure::new(Exit::from_code(e.exit_code()), e.to_string()))?;
    let Some(view) = view else { return Err(Failure::new(Exit::Data, format!("{} holds no state", state.display()))) };
    let snapshot: Option<crate::events::Snapshot> = view.snapshot.as_deref().and_then(|s| serde_json::from_str(s).ok());
    let word = match (&view.running, view.finished, view.clean) {
        (Some(_), ..) => "running",
        (None, Some(_), _) => "done",
        (None, None, true) if snapshot.as_ref().is_some_and(|s| s.deferred.is_some()) => "deferred",
        (None, None, true) => "stopped",
        (None, None, false) => "killed",
    };
    let (pid, since) = view.running.map_or((None, None), |holder| (holder.pid, holder.since));
    let file = |s: crate::store::read::SinkView| StatusFile { name: s.name, path: s.path, records: s.records, bytes: s.bytes };
    Ok(StatusReport {
        job: view.job,
        state: word.to_owned(),
        pid,
        since,
        started: view.started,
        exit: view.finished,
        account: view.account,
        snapshot,
        by_reason: view.by_reason,
        files: view.sinks.into_iter().map(file).collect(),
    })
}

/// Where this user's budgets are, and all of them.
pub(crate) fn budgets() -> Result<(PathBuf, Vec<BudgetReport>), Failure> {
    let folder = budget_folder()?;
    let found = crate::budget::list(&folder, &SystemClock::new()).map_err(|e| budget_failed(&e))?;
    let report = |(name, view): (String, Result<BudgetView, BudgetError>)| match view {
        Ok(view) => budget_report(view),
        Err(e) => BudgetReport { name, error: Some(budget_failed(&e).message), ..BudgetReport::default() },
    };
    Ok((folder, found.into_iter().map(report).collect()))
}

/// One of this user's budgets.
pub(crate) fn budget(name: &str) -> Result<BudgetReport, Failure> {
    let view = crate::budget::show(&budget_folder()?, name, &SystemClock::new()).map_err(|e| budget_failed(&e))?;
    Ok(budget_report(view))
}

/// Forgets what a budget has spent.
pub(crate) fn clear_budget(name: &str) -> Result<(), Failure> {
    crate::budget::clear(&budget_folder()?, name).map_err(|e| budget_failed(&e))
}

fn budget_folder() -> Result<PathBuf, Failure> {
    crate::budget::folder(|name| std::env::var_os(name)).map_err(|e| budget_failed(&e))
}

fn budget_failed(e: &BudgetError) -> Failure {
    let cause = std::error::Error::source(e).map_or(String::new(), |s| format!(": {s}"));
    let failure = Failure::new(Exit::from_code(e.exit_code()), format!("{e}{cause}"));
    match e.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A view's durations as instants of the calendar.
fn budget_report(view: BudgetView) -> BudgetReport {
    let now = SystemClock::new().wall();
    let until = |left: Option<Duration>| left.map(|d| now.plus(d));
    let fullest = |i: usize| view.keys.iter().filter_map(|k| k.used.get(i)).max().copied().unwrap_or(0);
    let windows = view.rates.iter().enumerate().map(|(i, rate)| BudgetWindow {
        rate: rate.to_string(),
        limit: rate.count,
        per_s: rate.per.as_secs_f64(),
        used: fullest(i),
    });
    let since = |age: Duration| Wall(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
    BudgetReport {
        windows: windows.collect(),
        in_flight: view.keys.iter().map(|k| k.in_flight).sum(),
        held_until: until(view.keys.iter().filter_map(|k| k.held).max()),
        spent_until: until(view.unknown),
        processes: view.processes.iter().map(|p| BudgetProcess { pid: p.pid, since: since(p.age) }).collect(),
        name: view.name,
        path: view.path,
        keys: (view.keys.into_iter())
            .map(|k| BudgetKey { key: k.key, used: k.used, in_flight: k.in_flight, held_until: until(k.held) })
            .collect(),
        error: None,
    }
}

/// The environment as far as it is text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}
