//! `gleaner budget`: what is left of the limits that several processes share.

use crate::clock::Wall;
use crate::events::thousands;
use crate::model::printable;
use crate::report::text::{count, table};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Keys that are shown to people; `--json` has all.
const SHOWN: usize = 50;

/// One budget; `--json` prints it as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BudgetReport {
    /// Its name.
    pub name: String,
    /// The database.
    pub path: PathBuf,
    /// Windows that its processes go by, their reserve taken off.
    pub windows: Vec<BudgetWindow>,
    /// Requests on their way, in units of weight.
    pub in_flight: u64,
    /// Limit keys, the fullest first.
    pub keys: Vec<BudgetKey>,
    /// Living processes.
    pub processes: Vec<BudgetProcess>,
    /// The latest of its keys' holds.
    pub held_until: Option<Wall>,
    /// Until then the longest window counts as spent, because the machine was started anew or the window is new.
    pub spent_until: Option<Wall>,
    /// Why nothing else is known of it.
    pub error: Option<String>,
}

/// One window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BudgetWindow {
    /// As people say it, like `5,000/hour`.
    pub rate: String,
    /// Units that may be used.
    pub limit: u32,
    /// The window in seconds.
    pub per_s: f64,
    /// Units that count now, of the fullest key.
    pub used: u64,
}

/// One limit key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BudgetKey {
    /// A host, a domain, a token's label, `job`.
    pub key: String,
    /// Units that count now, those in flight included, in the order of the windows.
    pub used: Vec<u64>,
    /// Units on their way.
    pub in_flight: u64,
    /// Nothing is sent before.
    pub held_until: Option<Wall>,
}

/// One living process.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetProcess {
    /// Its id, as it knows it.
    pub pid: Option<u32>,
    /// When it opened the budget.
    pub since: Wall,
}

/// All budgets, one a line.
#[must_use]
pub fn budgets_text(budgets: &[BudgetReport]) -> String {
    let row = |b: &BudgetReport| {
        let mut cells = vec![printable(&b.name)];
        if let Some(error) = &b.error {
            cells.push(printable(error));
            return cells;
        }
        cells.push(used(b, b.windows.iter().map(|w| w.used)));
        cells.push(format!("{} in flight", thousands(b.in_flight)));
        let mut last = match b.processes.as_slice() {
            [] => "no process".to_owned(),
            some => some.iter().map(|p| p.pid.map_or("a process".into(), |pid| format!("pid {pid}"))).collect::<Vec<_>>().join(", "),
        };
        if let Some(until) = b.held_until {
            let _ = write!(last, ", held until {until}");
        }
        cells.push(last);
        cells
    };
    table(&budgets.iter().map(row).collect::<Vec<_>>())
}

/// One budget with its processes and keys.
#[must_use]
pub fn budget_text(b: &BudgetReport) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, text: String| rows.push(vec![name.to_owned(), text]);
    row("budget", printable(&b.name));
    row("file", printable(&b.path.to_string_lossy()));
    for w in &b.windows {
        row("window", format!("{}, {} of the fullest key used", w.rate, thousands(w.used)));
    }
    row("in flight", thousands(b.in_flight));
    if b.processes.is_empty() {
        row("process", "none".into());
    }
    for p in &b.processes {
        row("process", format!("{}, since {}", p.pid.map_or("unknown".into(), |pid| format!("pid {pid}")), p.since));
    }
    if let Some(until) = b.spent_until {
        row("spent", format!("until {until} what was spent before is not known, and counts as all"));
    }
    let mut text = table(&rows);
    if !b.keys.is_empty() {
        text.push_str("keys:\n");
        let key = |k: &BudgetKey| {
            let mut cells = vec![format!("  {}", printable(&k.key)), used(b, k.used.iter().copied())];
            cells.push(format!("{} in flight", thousands(k.in_flight)));
            cells.extend(k.held_until.map(|until| format!("held until {until}")));
            cells
        };
        text.push_str(&table(&b.keys.iter().take(SHOWN).map(key).collect::<Vec<_>>()));
        let more = b.keys.len().saturating_sub(SHOWN) as u64;
        if more > 0 {
            let _ = writeln!(text, "  and {}; --json has all", count(more, "more", "more"));
        }
    }
    text
}

/// `3,120 of 5,000/hour, 7 of 100/minute`.
fn used(b: &BudgetReport, used: impl Iterator<Item = u64>) -> String {
    let each: Vec<String> = used.zip(&b.windows).map(|(n, w)| format!("{} of {}", thousands(n), w.rate)).collect();
    if each.is_empty() { "no limit".to_owned() } else { each.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_tell_what_is_used_by_whom_and_what_is_held() {
        let window = |rate: &str, limit, used| BudgetWindow { rate: rate.into(), limit, per_s: 1.0, used };
        let b = BudgetReport {
            name: "github".into(),
            path: "/s/github.db".into(),
            windows: vec![window("100/minute", 100, 7), window("5,000/hour", 5000, 3120)],
            in_flight: 3,
            keys: vec![BudgetKey { key: "h\x1b".into(), used: vec![7, 3120], in_flight: 3, held_until: Some(Wall(0)) }],
            processes: vec![BudgetProcess { pid: Some(42), since: Wall(0) }, BudgetProcess { pid: Some(43), since: Wall(0) }],
            held_until: Some(Wall(0)),
            spent_until: Some(Wall(0)),
            error: None,
        };
        let damaged = BudgetReport { name: "x".into(), error: Some("it is damaged".into()), ..BudgetReport::default() };
        assert_eq!(
            budgets_text(&[b.clone(), damaged]),
            "\
github  7 of 100/minute, 3,120 of 5,000/hour  3 in flight  pid 42, pid 43, held until 1970-01-01T00:00:00.000Z
x       it is damaged
"
        );
        assert_eq!(
            budget_text(&b),
            "\
budget     github
file       /s/github.db
window     100/minute, 7 of the fullest key used
window     5,000/hour, 3,120 of the fullest key used
in flight  3
process    pid 42, since 1970-01-01T00:00:00.000Z
process    pid 43, since 1970-01-01T00:00:00.000Z
spent      until 1970-01-01T00:00:00.000Z what was spent before is not known, and counts as all
keys:
  h\\u{1b}  7 of 100/minute, 3,120 of 5,000/hour  3 in flight  held until 1970-01-01T00:00:00.000Z
"
        );
    }
}
