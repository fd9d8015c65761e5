//! `gleaner demo`: two real jobs against the built-in site.

use crate::cli::args::{Demo, Global};
use crate::cli::commands::program;
use crate::cli::exit::{Exit, Failure};
use crate::cli::session::{Ended, Session, runtime};
use crate::cli::settings::Settings;
use crate::cli::wire::{self, RunOptions};
use crate::demo::{JOBS, Job, Site};
use crate::events::{Stats, thousands};
use crate::report::{Output, Tally, check_writable, table, waits, write_stats};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FOLDER: &str = "gleaner-demo";

/// One job of the demo, done.
struct Told {
    job: &'static Job,
    ended: Ended,
    tally: Tally,
}

/// Runs both jobs in turn. Killed and run again it goes on; finished, it starts over (old rows are renamed, as `--fresh`
/// does). Exits 0 when both accounts close: skipped records belong to the show.
pub(crate) fn run(global: &Global, out: &Output, args: &Demo) -> Result<Exit, Failure> {
    if let Some(path) = &global.stats {
        check_writable(path).map_err(|e| Failure::io(path.display(), &e))?;
    }
    let files: Vec<_> = JOBS.iter().map(job_file).collect::<Result<_, _>>()?;
    let finished: Vec<_> = files.iter().map(|file| finished(global, file)).collect();
    let all_finished = finished.iter().all(|f| *f);
    let runtime = runtime()?;
    let site = runtime.block_on(Site::start()).map_err(|e| Failure::io("127.0.0.1", &e))?;
    let address = site.address();
    out.line(&format!("a small shop and its API, served on this machine ({address}); nothing is sent elsewhere"));
    let mut told: Vec<Told> = Vec::new();
    for (i, ((job, file), finished)) in JOBS.iter().zip(&files).zip(&finished).enumerate() {
        out.line("");
        out.line(&format!("{} of {}: {} ({})", i + 1, JOBS.len(), job.what, file.display()));
        let mut settings = Settings::of_global(global)?;
        settings.text("request.proxy", format!("http://{address}"), "demo");
        let plan = wire::load(file, &settings)?.plan;
        // A finished job goes on with nothing; it starts over with the whole, or when the job before it had work to do.
        let worked = told.last().is_some_and(|t| t.ended.stats.requests > 0);
        let fresh = args.fresh || (*finished && (all_finished || worked));
        let tally = Tally::default();
        let options = RunOptions { fresh, seed: global.network.seed };
        // The figures of both jobs go into one file.
        let session = Session { global, out, options, stats: None, listeners: vec![Box::new(tally.clone())] };
        let mut ended = runtime.block_on(session.run(plan))?;
        let failure = ended.failure.take();
        let stopped = ended.stats.finish != "done";
        tell(out, &ended.stats, &tally);
        let exit = ended.exit;
        told.push(Told { job, ended, tally });
        if let Some(path) = &global.stats {
            let by_job: BTreeMap<&str, &Stats> = told.iter().map(|t| (t.job.folder, &t.ended.stats)).collect();
            write_stats(path, &by_job).map_err(|e| Failure::io(path.display(), &e))?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if stopped {
            out.hint(&format!("go on with: {} demo", program()));
            return Ok(exit);
        }
    }
    drop(site);
    end(out, &told);
    let closed = told.iter().all(|t| t.ended.stats.account().closes() && t.ended.stats.pending == 0);
    Ok(if closed { Exit::Done } else { Exit::Skipped })
}

/// Writes the job file where it is missing or of an older gleaner, and gives its place.
fn job_file(job: &Job) -> Result<PathBuf, Failure> {
    let folder = Path::new(FOLDER).join(job.folder);
    fs::create_dir_all(&folder).map_err(|e| Failure::io(folder.display(), &e))?;
    let file = folder.join("job.toml");
    if fs::read_to_string(&file).ok().as_deref() != Some(job.text) {
        fs::write(&file, job.text).map_err(|e| Failure::io(file.display(), &e))?;
    }
    Ok(file)
}

fn finished(global: &Global, file: &Path) -> bool {
    let state = Settings::of_global(global).and_then(|s| wire::load(file, &s)).map(|job| job.plan.state);
    match state {
        Ok(crate::model::plan::StatePlace::Folder(folder)) if folder.exists() => {
            wire::status(&folder).is_ok_and(|s| s.state == "done" && s.account.pending == 0)
        }
        _ => false,
    }
}

/// One job's end.
fn tell(out: &Output, stats: &Stats, tally: &Tally) {
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    out.line(&format!("  sent         {} requests in {:.1} s", thousands(stats.requests), stats.elapsed_s));
    out.line(&format!("  tried again  {}", or(retried(stats, tally), "nothing")));
    out.line(&format!("  kept         {}", or(tally.holds(), "no pause: nobody refused")));
    out.line(&format!("  waited       {}", or(waits(stats), "for nothing")));
    let skipped = stats.by_reason.iter().map(|(code, n)| format!("{code} {n}")).collect::<Vec<_>>().join(", ");
    out.line(&format!("  skipped      {}", or(skipped, "nothing")));
    out.line(&format!("  {}", stats.account()));
}

/// `5 after http-503, 2 after a pause`: what is sent again when a hold ends is no failure, and a retry all the same.
fn retried(stats: &Stats, tally: &Tally) -> String {
    let (by_reason, held) = (tally.retried(), stats.retries.saturating_sub(tally.retries()));
    match (by_reason.is_empty(), held) {
        (_, 0) => by_reason,
        (true, held) => format!("{held} after a pause"),
        (false, held) => format!("{by_reason}, {held} after a pause"),
    }
}

fn end(out: &Output, told: &[Told]) {
    out.line("");
    let requests: u64 = told.iter().map(|t| t.ended.stats.requests).sum();
    let retries: u64 = told.iter().map(|t| t.ended.stats.retries).sum();
    out.line(&format!(
        "both jobs are done: {} requests in this run, {} of them retries; every input ended once, as rows or with its reason",
        thousands(requests),
        thousands(retries)
    ));
    let mut files = Vec::new();
    for t in told {
        let (folder, stats) = (t.job.folder, &t.ended.stats);
        files.push(vec![format!("  {FOLDER}/{folder}/results.csv"), format!("{} rows", thousands(stats.rows))]);
        files.push(vec![format!("  {FOLDER}/{folder}/skipped.jsonl"), format!("{} records", thousands(stats.skipped))]);
    }
    out.line(table(&files).trim_end_matches('\n'));
    // What was waited for is worth a look only where there was something.
    if told.iter().all(|t| retried(&t.ended.stats, &t.tally).is_empty() && t.tally.holds().is_empty()) {
        out.line("nothing failed this time: the site's faults come once in its life");
    }
    let gleaner = program();
    out.line("");
    out.line("what to try next:");
    for command in [
        format!("head -5 {FOLDER}/crawl/results.csv"),
        format!("cat {FOLDER}/crawl/skipped.jsonl"),
        format!("{gleaner} status {FOLDER}/crawl/job.toml"),
        format!("{gleaner} check --explain {FOLDER}/api/job.toml"),
        format!("{gleaner} fetch https://example.com/ --field title=css:title"),
    ] {
        out.line(&format!("  {command}"));
    }
}
