//! `gleaner status`: where a job stands, from another terminal while it runs, or afterwards.

use crate::clock::Wall;
use crate::events::{Account, LimitShown, Snapshot, thousands};
use crate::model::{Reason, printable};
use crate::report::text::{count, show_bytes, show_ms, show_rate, show_seconds, table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What `status` knows; `--json` prints it as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusReport {
    /// The job's name.
    pub job: String,
    /// `running`, `done`, `stopped`, `deferred` (75), or `killed` where the last run had no end of its own.
    pub state: String,
    /// Who runs it.
    pub pid: Option<u32>,
    /// When that run began.
    pub since: Option<String>,
    /// When the job first ran.
    pub started: Option<Wall>,
    /// The exit code that it ended with, where it is done.
    pub exit: Option<u8>,
    /// The account at the last commit.
    pub account: Account,
    /// Live figures, where a run has written some.
    pub snapshot: Option<Snapshot>,
    /// Skipped entries by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Outputs as far as they are committed.
    pub files: Vec<StatusFile>,
}

/// One output.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusFile {
    /// `results` or `skipped`.
    pub name: String,
    /// `None`: standard output.
    pub path: Option<PathBuf>,
    /// Committed records.
    pub records: u64,
    /// Committed bytes.
    pub bytes: u64,
}

/// The report for people.
#[must_use]
pub fn status_text(s: &StatusReport) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, text: String| rows.push(vec![name.to_owned(), text]);
    row("job", printable(&s.job));
    let mut state = printable(&s.state);
    if let Some(pid) = s.pid {
        let _ = write!(state, ", pid {pid}");
    }
    if let Some(since) = &s.since {
        let _ = write!(state, ", since {since}");
    }
    row("state", state);
    if let Some(why) = s.snapshot.as_ref().and_then(|live| live.deferred.as_ref()).filter(|_| s.state == "deferred") {
        row("why", printable(why));
    }
    let a = &s.account;
    let (done, all) = (a.results + a.skipped, a.inputs + a.discovered);
    let share = done.saturating_mul(100).checked_div(all).map_or(String::new(), |p| format!(" ({p}%)"));
    row("done", format!("{} of {}{share}, {} rows", thousands(done), thousands(all), thousands(a.rows)));
    let live = s.snapshot.as_ref();
    if let Some(live) = live {
        let eta = live.eta_s.filter(|_| a.pending > 0).map_or(String::new(), |eta| format!(", eta {}", show_seconds(eta)));
        if s.state == "running" {
            row("rate", format!("{}{eta}, {} in flight", show_rate(live.rate), thousands(live.in_flight)));
        }
        row(
            "sent",
            format!(
                "{} requests, {} of them retries, in {}",
                thousands(live.requests),
                thousands(live.retries),
                show_seconds(live.elapsed_s)
            ),
        );
        if let Some(waiting) = live.waiting.as_ref().filter(|_| s.state == "running") {
            row("waiting", printable(waiting.strip_prefix("waiting: ").unwrap_or(waiting)));
        }
    }
    if let Some(code) = s.exit {
        row("exit code", code.to_string());
    }
    if let Some(started) = s.started {
        row("first run", started.to_string());
    }
    for file in &s.files {
        let path = file.path.as_ref().map_or("standard output".into(), |p| p.to_string_lossy());
        row(&file.name, format!("{}  {}, {}", printable(&path), count(file.records, "record", "records"), show_bytes(file.bytes)));
    }
    let mut text = table(&rows);
    let hosts = live.filter(|_| s.state == "running").map_or(&[][..], |l| &l.hosts);
    if !hosts.is_empty() {
        text.push_str("hosts that wait:\n");
        let host = |h: &crate::events::HostWait| vec![format!("  {}", printable(&h.host)), printable(&h.cause), show_ms(h.wait_ms)];
        text.push_str(&table(&hosts.iter().map(host).collect::<Vec<_>>()));
    }
    let limits = live.filter(|_| s.state == "running").map_or(&[][..], |l| &l.limits);
    if !limits.is_empty() {
        text.push_str("limits:\n");
        text.push_str(&table(&limits.iter().map(limit).collect::<Vec<_>>()));
    }
    if !s.by_reason.is_empty() {
        text.push_str("skipped:\n");
        let mut by: Vec<_> = s.by_reason.iter().collect();
        by.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let reason =
            |(code, n): (&String, &u64)| vec![format!("  {}", printable(code)), thousands(*n), Reason::from_code(code).advice().to_owned()];
        text.push_str(&table(&by.into_iter().map(reason).collect::<Vec<_>>()));
    }
    let _ = writeln!(text, "{a}");
    text
}

/// Whose, how much is spent, and what holds it.
fn limit(l: &LimitShown) -> Vec<String> {
    let mut parts: Vec<String> = l.rates.iter().map(|r| format!("{} of {}", thousands(r.used.into()), r.rate)).collect();
    if let Some(left) = l.left {
        let of = l.of.map_or(String::new(), |of| format!(" of {}", thousands(of)));
        let reset = l.reset_ms.map_or(String::new(), |ms| format!(", reset in {}", show_ms(ms)));
        parts.push(format!("the server says {}{of} left{reset}", thousands(left)));
    }
    if let Some(ms) = l.held_ms {
        parts.push(format!("held for {}", show_ms(ms)));
    }
    if let Some(percent) = l.learned_percent {
        parts.push(format!("slowed to {percent}% after refusals"));
    }
    let name = l.limit.as_ref().map_or(String::new(), |n| format!(" ({})", printable(n)));
    vec![format!("  {}{name}", printable(&l.key)), parts.join("; ")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{HostWait, RateShown};

    #[test]
    fn a_running_job_tells_what_each_host_waits_for() {
        let s = StatusReport {
            job: "repos".into(),
            state: "running".into(),
            pid: Some(42),
            account: Account { inputs: 200, results: 90, rows: 90, skipped: 10, pending: 100, ..Account::default() },
            snapshot: Some(Snapshot {
                rate: 12.0,
                eta_s: Some(8.0),
                in_flight: 3,
                requests: 104,
                retries: 4,
                elapsed_s: 9.0,
                waiting: Some("waiting: hold".into()),
                hosts: vec![HostWait { host: "h\x1b[2J".into(), cause: "hold (429)".into(), wait_ms: 12_000 }],
                limits: vec![LimitShown {
                    limit: Some("search".into()),
                    key: "h".into(),
                    rates: vec![RateShown { rate: "5000/hour".into(), used: 1200, of: 5000 }],
                    held_ms: Some(12_000),
                    left: Some(3800),
                    of: Some(5000),
                    reset_ms: Some(60_000),
                    learned_percent: Some(70),
                }],
                ..Snapshot::default()
            }),
            by_reason: [("http-404".to_owned(), 10)].into(),
            files: vec![StatusFile { name: "results".into(), path: Some("out/a.csv".into()), records: 90, bytes: 2048 }],
            ..StatusReport::default()
        };
        assert_eq!(
            status_text(&s),
            "\
job      repos
state    running, pid 42
done     100 of 200 (50%), 90 rows
rate     12/s, eta 8s, 3 in flight
sent     104 requests, 4 of them retries, in 9s
waiting  hold
results  out/a.csv  90 records, 2.0 KiB
hosts that wait:
  h\\u{1b}[2J  hold (429)  12s
limits:
  h (search)  1,200 of 5000/hour; the server says 3,800 of 5,000 left, reset in 1m; held for 12s; slowed to 70% after refusals
skipped:
  http-404  10  the page is gone; check where the list came from
inputs 200 + discovered 0 = 90 results + 10 skipped + 100 pending
"
        );
    }
}
