//! The last lines of a run.

use crate::events::{Stats, thousands};
use crate::model::{Reason, printable};
use crate::report::Output;
use crate::report::text::{count, show_bytes, show_seconds, table};
use std::fmt::Write as _;

/// Where the files are, as people may paste it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Results; `None` on stdout.
    pub results: Option<String>,
    /// Skipped records; `None` where they are only told.
    pub skipped: Option<String>,
}

/// What the end of a run tells beside its figures.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Where the files are.
    pub places: Places,
    /// The command that goes on with this job; `None` where nothing is kept.
    pub again: Option<String>,
    /// Links were followed: what is pending waits behind a cap.
    pub crawl: bool,
    /// What ended the run before its end, with its advice.
    pub error: Option<(String, Option<String>)>,
    /// More to do next, in words.
    pub hints: Vec<String>,
}

/// Tells the end: reasons with their advice, what was sent and waited for, where the files are, the account, hints.
///
/// The account is the last line but for the hints (contract, *The account line*).
pub fn summary(out: &Output, stats: &Stats, ending: &Ending) {
    out.clear();
    let reasons = reasons(stats);
    if !reasons.is_empty() {
        out.line(&format!("skipped {}:", thousands(stats.skipped)));
        out.line(&reasons);
    }
    for line in [warnings(stats), out_of_scope(stats), duplicates(stats)].into_iter().flatten() {
        out.line(&line);
    }
    out.line(&sent(stats));
    if let Some(line) = workers(stats) {
        out.line(&line);
    }
    out.line(&files(stats, &ending.places));
    if let Some((message, hint)) = &ending.error {
        // Else the advice stands with the others, behind the account.
        out.error(message, hint.as_deref().filter(|_| out.look().quiet));
    }
    out.line(&stats.account().to_string());
    for hint in hints(stats, ending) {
        out.hint(&hint);
    }
}

/// One row a reason, largest first: code, count, one sentence of advice.
fn reasons(stats: &Stats) -> String {
    let mut by: Vec<_> = stats.by_reason.iter().collect();
    by.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let row = |(code, n): (&String, &u64)| {
        // The notice about duplicates says more, just below.
        let advice = if code == "duplicate" { "" } else { Reason::from_code(code).advice() };
        vec![format!("  {}", printable(code)), thousands(*n), advice.to_owned()]
    };
    let rows: Vec<_> = by.into_iter().map(row).collect();
    table(&rows).trim_end().to_owned()
}

fn counts<'a>(by: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let mut by: Vec<_> = by.into_iter().collect();
    by.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    by.iter().map(|(code, n)| format!("{code} {}", thousands(**n))).collect::<Vec<_>>().join(", ")
}

fn warnings(stats: &Stats) -> Option<String> {
    (!stats.warnings.is_empty()).then(|| format!("warnings: {}", counts(&stats.warnings)))
}

/// Links that were left out, each rule with the key that would let them in.
fn out_of_scope(stats: &Stats) -> Option<String> {
    (!stats.out_of_scope.is_empty()).then(|| format!("links left out by [crawl] rules: {}", counts(&stats.out_of_scope)))
}

fn duplicates(stats: &Stats) -> Option<String> {
    (stats.duplicates > 0).then(|| format!("{} fetched once", count(stats.duplicates, "repeated address was", "repeated addresses were")))
}

fn sent(stats: &Stats) -> String {
    let mut line = format!("sent {} in {}", count(stats.requests, "request", "requests"), show_seconds(stats.elapsed_s));
    if stats.retries > 0 {
        let _ = write!(line, ", {}", count(stats.retries, "of them a retry", "of them retries"));
    }
    if stats.bytes > 0 {
        let _ = write!(line, ", {} received", show_bytes(stats.bytes));
    }
    let waits = waits(stats);
    if !waits.is_empty() {
        let _ = write!(line, "; entries and keys waited {waits}, summed");
    }
    line
}

/// What workers did with their time, where it is worth a line: `workers: 12% busy; idle: 80% limit, 8% nothing to do`.
fn workers(stats: &Stats) -> Option<String> {
    let all: f64 = stats.workers_s.values().sum();
    if stats.elapsed_s < 2.0 || all <= 0.0 {
        return None;
    }
    let share = |s: f64| (100.0 * s / all).round();
    let busy = share(stats.workers_s.get("busy").copied().unwrap_or(0.0));
    let mut idle: Vec<_> = stats.workers_s.iter().filter(|(k, s)| *k != "busy" && share(**s) >= 1.0).collect();
    idle.sort_by(|a, b| b.1.total_cmp(a.1));
    let idle: Vec<String> = idle.into_iter().map(|(cause, s)| format!("{}% {cause}", share(*s))).collect();
    let idle = if idle.is_empty() { String::new() } else { format!("; idle: {}", idle.join(", ")) };
    Some(format!("workers: {busy}% busy{idle}"))
}

/// `2s for holds, 1.2s for backoff`; empty where nothing was waited for.
#[must_use]
pub fn waits(stats: &Stats) -> String {
    let mut by: Vec<_> = stats.waited_s.iter().filter(|(_, s)| **s >= 0.05).collect();
    by.sort_by(|a, b| b.1.total_cmp(a.1));
    let word = |cause: &str| match cause {
        "hold" => "pauses after refusals".to_owned(),
        "backoff" => "backoff before retries".to_owned(),
        "limit" => "the rate limit".to_owned(),
        other => other.to_owned(),
    };
    by.iter().map(|(cause, s)| format!("{} for {}", show_seconds(**s), word(cause))).collect::<Vec<_>>().join(", ")
}

fn files(stats: &Stats, places: &Places) -> String {
    let rows = count(stats.rows, "row", "rows");
    let mut lines = vec![vec!["results".to_owned(), places.results.clone().unwrap_or_else(|| "standard output".into()), rows]];
    if let Some(skipped) = &places.skipped {
        lines.push(vec!["skipped".to_owned(), skipped.clone(), count(stats.skipped, "record", "records")]);
    }
    table(&lines).trim_end().to_owned()
}

fn hints(stats: &Stats, ending: &Ending) -> Vec<String> {
    let mut hints: Vec<String> = ending.error.iter().filter_map(|(_, hint)| hint.clone()).collect();
    let stopped = stats.finish.strip_prefix("stopped:");
    match (&ending.again, stopped) {
        (Some(again), Some("interrupt" | "terminate" | "hang-up" | "failure")) => hints.push(format!("go on with: {again}")),
        (Some(again), Some("max_pages")) => hints.push(format!("raise [crawl] max_pages to go on with: {again}")),
        (Some(again), Some("response")) => hints.push(format!("a [[response]] rule ended the run; go on with: {again}")),
        (Some(again), Some(key)) => hints.push(format!("[stop] {key} ended the run; go on with: {again}")),
        (None, Some(_)) => hints.push("nothing is kept: the next call starts anew; -o FILE makes it resumable".to_owned()),
        (Some(again), None) if stats.finish == "deferred" => {
            hints.push(format!("only long waits are left; go on later with: {again}"));
        }
        (Some(again), None) if stats.pending > 0 && !ending.crawl => {
            hints.push(format!("{} are still pending; go on with: {again}", count(stats.pending, "entry", "entries")));
        }
        (Some(again), None) if stats.pending > 0 => {
            hints.push(format!("{} wait behind [crawl] max_pages or depth; raise it and go on with: {again}", thousands(stats.pending)));
        }
        (Some(again), None) if stats.skipped > stats.by_reason.get("duplicate").copied().unwrap_or(0) => {
            let place = ending
                .places
                .skipped
                .as_ref()
                .map_or(String::new(), |file| format!("each skipped record with its attempts is in {file}; "));
            hints.push(format!("{place}to ask for everything again: {again} --fresh"));
        }
        _ => {}
    }
    if stats.finish == "done" && stats.inputs + stats.discovered == 0 {
        hints.push("the input holds no record: there was nothing to ask for".to_owned());
    }
    hints.extend(ending.hints.iter().cloned());
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Look;
    use crate::report::output::tests::kept;

    fn stats() -> Stats {
        Stats {
            job: "repos".into(),
            inputs: 2000,
            results: 1988,
            rows: 3990,
            skipped: 12,
            duplicates: 2,
            requests: 2031,
            retries: 31,
            by_reason: [("http-404".to_owned(), 8), ("duplicate".to_owned(), 2), ("dns-nxdomain".to_owned(), 2)].into(),
            workers_s: [("busy".to_owned(), 50.0), ("limit".to_owned(), 40.0), ("nothing to do".to_owned(), 10.0)].into(),
            waited_s: [("hold".to_owned(), 60.0), ("backoff".to_owned(), 0.01)].into(),
            bytes: 12 << 20,
            elapsed_s: 80.0,
            finish: "done".into(),
            ..Stats::default()
        }
    }

    fn places() -> Places {
        Places { results: Some("out/repos.csv".into()), skipped: Some("out/skipped.jsonl".into()) }
    }

    #[test]
    fn the_end_reads_from_reasons_to_the_account() {
        let (out, kept) = kept(Look::default());
        summary(&out, &stats(), &Ending { places: places(), ..Ending::default() });
        assert_eq!(
            kept.text(),
            "\
skipped 12:
  http-404      8  the page is gone; check where the list came from
  dns-nxdomain  2  check its spelling
  duplicate     2
2 repeated addresses were fetched once
sent 2,031 requests in 1m 20s, 31 of them retries, 12 MiB received; entries and keys waited 1m for pauses after refusals, summed
workers: 50% busy; idle: 40% limit, 10% nothing to do
results  out/repos.csv      3,990 rows
skipped  out/skipped.jsonl  12 records
inputs 2,000 + discovered 0 = 1,988 results + 12 skipped + 0 pending
"
        );
    }

    #[test]
    fn the_account_is_last_but_for_the_hints_of_a_stop() {
        let (out, kept) = kept(Look::default());
        let stats = Stats { finish: "stopped:interrupt".into(), pending: 5, ..stats() };
        let ending = Ending { places: places(), again: Some("gleaner run repos.toml".into()), ..Ending::default() };
        summary(&out, &stats, &ending);
        let text = kept.text();
        let last: Vec<_> = text.lines().rev().take(2).collect();
        assert_eq!(last[0], "hint: go on with: gleaner run repos.toml");
        assert!(last[1].starts_with("inputs 2,000 + "), "{text}");
    }

    #[test]
    fn a_finished_run_with_skipped_records_says_where_they_are_and_how_to_ask_again() {
        let ending = Ending { places: places(), again: Some("gleaner run j".into()), ..Ending::default() };
        let told = hints(&stats(), &ending).join("\n");
        assert!(told.contains("out/skipped.jsonl") && told.ends_with("gleaner run j --fresh"), "{told}");
        let duplicates = Stats { skipped: 2, by_reason: [("duplicate".to_owned(), 2)].into(), ..stats() };
        assert_eq!(hints(&duplicates, &ending).join("\n"), "");
    }

    #[test]
    fn the_caps_of_a_crawl_are_named_in_crawls_only() {
        let stats = Stats { pending: 5, ..stats() };
        let hint = |crawl| hints(&stats, &Ending { again: Some("gleaner run j".into()), crawl, ..Ending::default() }).join("\n");
        assert!(hint(true).contains("[crawl] max_pages or depth"));
        assert_eq!(hint(false), "5 entries are still pending; go on with: gleaner run j");
    }
}
