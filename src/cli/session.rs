//! One run of one plan: the runtime, the signals, the listeners, the end.

use crate::cli::args::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cli::signals;
use crate::cli::wire::{self, RunOptions};
use crate::clock::{Clock, SystemClock};
use crate::events::{Account, Event, Events, Listener, Stats};
use crate::model::plan::{Plan, SinkPlace, SinkPlan};
use crate::report::{Ending, EventsFile, Output, Places, Terminal, check_writable, is_stdout, write_stats};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A runtime with at least two workers, so that one that waits for the terminal does not stop the wire.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(cores.max(2)).enable_all().build();
    built.map_err(|e| Failure::io("the runtime", &e))
}

/// A plan and how it is run.
pub(crate) struct Session<'a> {
    pub(crate) global: &'a Global,
    pub(crate) out: &'a Output,
    pub(crate) options: RunOptions,
    /// Where this run's figures go.
    pub(crate) stats: Option<&'a Path>,
    /// Asks for the facts of single attempts, which these want.
    pub(crate) listeners: Vec<Box<dyn Listener>>,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) stats: Stats,
    pub(crate) exit: Exit,
    /// What ended it before its end, where something did.
    pub(crate) failure: Option<Failure>,
    pub(crate) places: Places,
    /// Links were followed.
    pub(crate) crawl: bool,
}

impl Session<'_> {
    /// Runs within the runtime; tells the run, not its end. `--stats` is written at every end, a failure included.
    ///
    /// A run that did something and then failed has ended, with its failure; one that did nothing is that failure alone.
    pub(crate) async fn run(self, plan: Plan) -> Result<Ended, Failure> {
        one_on_stdout(self.global, &plan)?;
        let rows_here = plan.output.results.place == SinkPlace::Stdout && std::io::stdout().is_terminal();
        let out = if rows_here { self.out.clone().without_live() } else { self.out.clone() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let detail = out.look().verbose || self.global.events.is_some() || !self.listeners.is_empty();
        let mut listeners = self.listeners;
        let last = Last::default();
        listeners.push(Box::new(last.clone()));
        if let Some(path) = &self.global.events {
            let file = EventsFile::open(path, clock.clone(), out.clone()).map_err(|e| Failure::io(path.display(), &e))?;
            listeners.push(Box::new(file));
        }
        if let Some(path) = self.stats {
            check_writable(path).map_err(|e| Failure::io(path.display(), &e))?;
        }
        listeners.push(Box::new(Terminal::new(out.clone(), clock.clone())));
        let events = Events::new(listeners, detail);

        let (_watch, signals) = signals::watch(out.clone()).map_err(|e| Failure::io("signals", &e))?;
        let places = places(&plan);
        let (name, crawl) = (plan.name.clone(), plan.crawl.is_some());
        let begin = clock.now();
        let ended = wire::run(plan, self.options, events, signals).await;
        out.clear();
        let seen = last.take();
        let (stats, failure) = match ended {
            Ok(stats) => (stats, None),
            Err(failure) => (seen.stats(&name, clock.now().since(begin).as_secs_f64()), Some(failure)),
        };
        // A run that did not begin (the job is in use, say) leaves the figures of another alone.
        let ran = failure.is_none() || seen.began;
        let written = self.stats.filter(|_| ran).map(|path| write_stats(path, &stats).map_err(|e| Failure::io(path.display(), &e)));
        let exit = match failure {
            Some(failure) if stats.inputs + stats.discovered + stats.requests == 0 => return Err(failure),
            Some(failure) => {
                let exit = failure.exit;
                return Ok(Ended { stats, exit, failure: Some(failure), places, crawl });
            }
            None => wire::exit(&stats),
        };
        let exit = match written {
            Some(Err(failure)) => {
                out.error(&failure.message, None);
                Exit::Io
            }
            _ => exit,
        };
        Ok(Ended { stats, exit, failure: None, places, crawl })
    }
}

impl Ended {
    /// What the summary tells.
    pub(crate) fn ending(&self, again: Option<String>) -> Ending {
        let error = self.failure.as_ref().map(|f| (f.message.clone(), f.hint.clone()));
        Ending { places: self.places.clone(), again, crawl: self.crawl, error, hints: Vec::new() }
    }
}

/// Standard output takes one thing: whoever reads it could not tell two apart.
fn one_on_stdout(global: &Global, plan: &Plan) -> Result<(), Failure> {
    let rows = (plan.output.results.place == SinkPlace::Stdout).then_some("the rows");
    let named = |flag, path: &Option<PathBuf>| path.as_deref().filter(|p| is_stdout(p)).map(|_| flag);
    let here: Vec<&str> = [rows, named("--events -", &global.events), named("--stats -", &global.stats)].into_iter().flatten().collect();
    if here.len() < 2 {
        return Ok(());
    }
    let failure = Failure::new(Exit::Usage, format!("{} cannot share standard output", here.join(" and ")));
    Err(failure.hint("name files for all of them but one, like --stats stats.json, or -o FILE for the rows"))
}

/// Where a plan's files are, as seen from the working folder.
fn places(plan: &Plan) -> Places {
    let place = |sink: &SinkPlan| match &sink.place {
        SinkPlace::File(path) => Some(shown(path)),
        SinkPlace::Stdout => None,
    };
    Places { results: place(&plan.output.results), skipped: plan.output.skipped.as_ref().and_then(place) }
}

/// A path as it can be pasted: relative where it lies in the working folder.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let path = here.as_ref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    let path = path.strip_prefix(".").unwrap_or(path);
    crate::report::quoted_for_shell(&path.to_string_lossy())
}

/// Keeps the last figures, for the end of a run that fails.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<Seen>>);

#[derive(Clone, Default)]
struct Seen {
    began: bool,
    account: Account,
    ended: Option<Box<Stats>>,
}

impl Last {
    fn take(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Listener for Last {
    fn event(&self, event: &Event) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { results, skipped, pending, .. } => {
                seen.began = true;
                seen.account = Account { results: *results, skipped: *skipped, pending: *pending, ..Account::default() };
                // Only until the first commit tells inputs from discovered ones; it closes.
                seen.account.inputs = results + skipped + pending;
            }
            Event::Committed { account } => seen.account = *account,
            Event::RunEnded { stats } => seen.ended = Some(stats.clone()),
            _ => {}
        }
    }
}

impl Seen {
    /// The figures of a run that failed: what was durable at the last commit.
    fn stats(&self, job: &str, elapsed_s: f64) -> Stats {
        if let Some(stats) = &self.ended {
            return stats.as_ref().clone();
        }
        let a = self.account;
        Stats {
            job: job.to_owned(),
            inputs: a.inputs,
            discovered: a.discovered,
            results: a.results,
            rows: a.rows,
            skipped: a.skipped,
            duplicates: a.duplicates,
            pending: a.pending,
            elapsed_s,
            finish: "stopped:failure".to_owned(),
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_fails_still_has_the_figures_of_its_last_commit() {
        let last = Last::default();
        let account = Account { inputs: 5, results: 3, pending: 2, ..Account::default() };
        last.event(&Event::Committed { account });
        let stats = last.take().stats("j", 1.5);
        assert_eq!((stats.account(), stats.finish.as_str()), (account, "stopped:failure"));
    }

    #[test]
    fn paths_are_shown_as_they_can_be_pasted() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(shown(&here.join("a b/c.csv")), "'a b/c.csv'");
        assert_eq!(shown(Path::new("./x.csv")), "x.csv");
        assert_eq!(shown(Path::new("/elsewhere/x.csv")), "/elsewhere/x.csv");
    }
}
