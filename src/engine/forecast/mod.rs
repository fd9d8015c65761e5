//! What a run would do, told before it: how many requests, to which hosts, held by what, until when. Nothing is sent and nothing
//! is written.
//!
//! [`forecast()`] reads the state, where there is one, and the input to its end with the run's own feeder (`count`). What is
//! counted goes to a decider (`outlook`): the first requests in virtual time, by the run's own limits and schedule
//! (`virtual_run`), the others at the rates that last (`steady`).

mod count;
mod load;
mod outlook;
mod sample;
mod steady;
#[cfg(test)]
mod tests;
mod told;
mod virtual_run;

pub use told::{Assumed, Binds, Forecast, Growth, Held, Hold, HostLoad, Hosts, InputTold, QuotaUse, Requests, Spent, StateTold, Time};

use crate::clock::{Clock, Stamp, SystemClock, Wall};
use crate::engine::RunError;
use crate::engine::feeder::{Fed, FeedError, Feeder, Feeding};
use crate::engine::request::Builder;
use crate::engine::run::{compile, job, open_failed, setup_failed, wrong_columns};
use crate::fetch::Fetcher;
use crate::limit::{Hours, Limits};
use crate::model::plan::{InputSource, Plan, StatePlace};
use crate::robots::Rules;
use crate::store::backlog::{Backlog, Look, backlog};
use count::{Counter, Repeats, Robots};
use std::sync::Arc;
use std::time::Duration;

/// Addresses of which repeats are told exactly.
const EXACT: usize = 2_000_000;
/// Requests that are sent in virtual time at most.
const SIMULATE: u64 = 300_000;
/// Shorter answers are taken for this.
const LEAST_ANSWER: Duration = Duration::from_millis(1);

/// What a run of this job would do, if every answer took `answer` and nothing failed. Reads the input to its end.
///
/// # Errors
/// As [`super::run()`] could not start.
pub fn forecast(plan: Plan, answer: Duration) -> Result<Forecast, RunError> {
    let plan = Arc::new(plan);
    let clock = SystemClock::new();
    let stamp = clock.stamp();
    let now = stamp.wall;
    let extractor = compile(&plan)?;
    let builder = Arc::new(Builder::new(plan.clone()).map_err(job)?);
    let fetcher = Fetcher::new(&plan.request, &plan.hosts, &plan.network, Arc::new(clock)).map_err(|e| setup_failed(&e))?;
    let workers = plan.limits.workers.min(fetcher.budget()).max(1);

    let limits = Limits::new(&plan.limits, &plan.hosts);
    let mut counter = Counter::new(&plan, &builder, &limits);
    let state = State::open(&plan, stamp)?;
    if let Some(state) = &state {
        state.count(&mut counter, now)?;
    }
    let mut input = InputTold::new(&plan.input);
    let known = |key| state.as_ref().is_some_and(|s| s.look.knows(key).unwrap_or(false));
    let mut repeats = Repeats::new(EXACT, &known);
    if let Some(feeder) = feeder(&plan, &builder, state.as_ref(), &mut input)? {
        read(feeder, &mut counter, &mut repeats, &mut input, |columns, sampled| wrong_columns(&plan, &extractor, columns, sampled))?;
    }
    (input.repeated, input.repeated_exact) = (repeats.repeated, repeats.are_exact());

    // A row that cannot be read is as good as lost, as for a run.
    let rows = state.iter().flat_map(|s| &s.backlog.limiter);
    let spent: Vec<_> = rows.filter_map(|kept| Some((serde_json::from_str(&kept.row).ok()?, kept.down))).collect();
    let (load, hosts) = counter.finish();
    let scenario = outlook::Scenario {
        limits: &plan.limits,
        hosts: &plan.hosts,
        workers,
        answer: answer.max(LEAST_ANSWER),
        simulate: SIMULATE,
        start: now,
        holds: state.as_ref().map_or(&[][..], |s| &s.backlog.holds),
        counted: &spent,
        unsaved: state.as_ref().map(|s| (&s.backlog.unsaved, s.backlog.unsaved_for)),
        hours: plan.limits.hours.as_ref().map(Hours::new),
        caps: outlook::Caps::default(),
    };
    let known = told::Known { load, hosts, input, state: state.as_ref().map(|s| &s.backlog), limits: &limits };
    Ok(told::tell(&plan, known, scenario))
}

/// A job that has begun.
struct State {
    backlog: Backlog,
    look: Look,
}

impl State {
    fn open(plan: &Plan, now: Stamp) -> Result<Option<Self>, RunError> {
        let StatePlace::Folder(dir) = &plan.state else { return Ok(None) };
        let Some(backlog) = backlog(dir, &plan.frozen, now).map_err(|e| open_failed(&e))? else { return Ok(None) };
        Ok(Look::open(dir).map_err(|e| open_failed(&e))?.map(|look| Self { backlog, look }))
    }

    /// Counts what is pending, and what is known of robots.txt.
    fn count(&self, counter: &mut Counter<'_>, now: Wall) -> Result<(), RunError> {
        let one_by_one = counter.wants_addresses();
        let hosts = self.look.hosts(now, |host| {
            if let Some(robots) = &host.robots {
                let delay = (robots.verdict == "rules").then(|| Rules::parse(&robots.body).crawl_delay()).flatten();
                counter.knows(&host.key, Robots { known: matches!(robots.verdict.as_str(), "rules" | "open"), delay });
            }
            if host.pending > 0 && !one_by_one {
                counter.add_many(&host.key, host.pending);
            }
        });
        hosts.map_err(|e| open_failed(&e))?;
        if one_by_one {
            let each = |url: &str| {
                if let Ok(parsed) = crate::model::normalise(url) {
                    counter.add(&crate::model::HostKey::of(&parsed), url);
                }
            };
            self.look.pending(each).map_err(|e| open_failed(&e))?;
        }
        Ok(())
    }
}

/// The feeder of the part of the input that was not read yet; `None` where a run would read nothing.
fn feeder(plan: &Arc<Plan>, builder: &Arc<Builder>, state: Option<&State>, input: &mut InputTold) -> Result<Option<Feeding>, RunError> {
    let mark = state.and_then(|s| s.backlog.input.as_ref());
    let is_file = matches!(plan.input.source, InputSource::File(_));
    let is_stdin = plan.input.source == InputSource::Stdin;
    if mark.is_some_and(|m| m.done && !is_file || is_stdin) {
        return Ok(None);
    }
    if is_stdin && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        input.complete = false;
        return Ok(None);
    }
    Feeder::start(&plan.input, builder, mark).map(Some)
}

fn read(
    (mut fed, thread): Feeding,
    counter: &mut Counter<'_>,
    repeats: &mut Repeats<'_>,
    input: &mut InputTold,
    wrong_columns: impl Fn(&[String], bool) -> Option<RunError>,
) -> Result<(), RunError> {
    let mut done = false;
    while let Some(fed) = fed.blocking_recv() {
        match fed {
            Fed::Columns { names: columns, sampled } => {
                if let Some(e) = wrong_columns(&columns, sampled) {
                    return Err(e);
                }
            }
            Fed::Batch(offers, mark) => {
                done |= mark.done;
                for offer in offers {
                    input.records += 1;
                    let url = match offer.body {
                        Ok(url) => url,
                        Err(bad) => {
                            input.bad += 1;
                            input.first_bad.get_or_insert_with(|| crate::model::mask_url(&bad.message));
                            continue;
                        }
                    };
                    match if url.fetch_duplicates { Ok(()) } else { repeats.see(url.key) } {
                        Ok(()) => counter.add(&url.host, &url.url),
                        Err(stands_for) => counter.take_back(&url.host, stands_for - 1),
                    }
                }
            }
            Fed::Notice(notice) => input.notices.push(notice),
            Fed::Warning(..) => input.warnings += 1,
            Fed::Failed(e) => {
                let (message, hint, io) = match e {
                    FeedError::Input(e) => (e.to_string(), e.hint().map(str::to_owned), e.is_io()),
                    FeedError::Bad { message, hint } => (message, hint, false),
                };
                return Err(if io { RunError::Io { message, hint } } else { RunError::Input { message, hint } });
            }
        }
    }
    if thread.join().is_err() || !done {
        return Err(RunError::Io { message: "reading the input failed in a way that it should not".into(), hint: None });
    }
    Ok(())
}
