//! Every call from the command line into `config`, `engine` and `store`.

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::Settings;
use crate::events::{Events, Stats};
use crate::model::plan::Plan;
use crate::report::StatusReport;
use std::path::Path;
use tokio::sync::mpsc;

/// A job that may run, and its settings for `check --explain`.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) explain: String,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "the words of the engine")]
pub(crate) enum Interrupt {
    Interrupt,
    Terminate,
    HangUp,
}

/// How a run is begun.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunOptions {
    pub(crate) fresh: bool,
    pub(crate) seed: Option<u64>,
}

/// A job file with flags and environment above it.
pub(crate) fn load(job: &Path, settings: &Settings) -> Result<Job, Failure> {
    let _ = (&settings.network, environment());
    Err(missing("config::load").hint(job.display().to_string()))
}

/// The job that flags alone amount to.
pub(crate) fn assemble(settings: &Settings) -> Result<Job, Failure> {
    let _ = settings;
    Err(missing("config::assemble"))
}

/// The JSON Schema of job files.
pub(crate) fn schema() -> String {
    "{}".to_owned()
}

/// Runs a plan to an end.
pub(crate) async fn run(plan: Plan, options: RunOptions, events: Events, signals: mpsc::Receiver<Interrupt>) -> Result<Stats, Failure> {
    let _ = (plan, options.fresh, options.seed, events, signals);
    std::future::ready(Err(missing("engine::run"))).await
}

/// Where the job of a state folder stands.
pub(crate) fn status(state: &Path) -> Result<StatusReport, Failure> {
    Err(missing("store::read::status").hint(state.display().to_string()))
}

fn missing(what: &str) -> Failure {
    Failure::new(Exit::Data, format!("{what} is not connected yet"))
}

/// The environment as far as it is text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}
