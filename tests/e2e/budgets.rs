//! `gleaner budget`: what is told, and what is refused while a process uses a budget.

use crate::support::{Gleaner, ms};
use gleaner::budget::{BudgetConfig, End, Ledger, Want};
use gleaner::clock::SystemClock;
use gleaner::model::parse_rate;
use std::path::Path;
use std::sync::Arc;

fn open(home: &Path) -> Ledger {
    let folder = home.join(".local/state/gleaner/budgets");
    let rates = [parse_rate("5000/hour").unwrap()];
    let config = BudgetConfig { folder: &folder, name: "github", rates: &rates, burst: None, share: 0.8 };
    Ledger::open(&config, Arc::new(SystemClock::new())).unwrap()
}

fn budget(home: &Path, args: &[&str]) -> Gleaner {
    Gleaner::new(["budget"]).args(args).home(home)
}

#[test]
fn budgets_are_listed_shown_and_cleared() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let none = budget(home, &[]).expect(0);
    assert_eq!((none.out.as_str(), none.err.contains("no budgets in")), ("", true), "{}", none.err);
    assert_eq!(budget(home, &["--json"]).expect(0).out.trim(), "[]");
    let unknown = budget(home, &["show", "github"]).expect(65);
    assert!(unknown.err.contains("there is no budget \"github\""), "{}", unknown.err);
    budget(home, &["clear", "github"]).expect(65);
    budget(home, &["show", "../x"]).expect(65);

    let mut ledger = open(home);
    let mut granted = ledger.sync(&mut Vec::new(), &[Want { key: "api.github.com", weight: 1, count: 3 }]).unwrap().remove(0).granted;
    let mut told = vec![(granted.remove(0), End::Arrived { ago: ms(0) })];
    ledger.sync(&mut told, &[]).unwrap();
    ledger.hold("api.github.com", ms(60_000)).unwrap();
    let list = budget(home, &[]).expect(0).out;
    let pid = std::process::id();
    assert!(list.starts_with(&format!("github  3 of 4,000/hour  2 in flight  pid {pid}, held until 20")), "{list}");
    let shown = budget(home, &["show", "github"]).expect(0).out;
    assert!(shown.contains(&format!("process    pid {pid}, since 20")) && shown.contains("  api.github.com  3 of 4,000/hour"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&budget(home, &["show", "github", "--json"]).expect(0).out).unwrap();
    assert_eq!((&json["windows"][0]["used"], &json["windows"][0]["limit"]), (&3.into(), &4000.into()), "{json}");
    assert_eq!((&json["processes"][0]["pid"], &json["keys"][0]["in_flight"]), (&pid.into(), &2.into()), "{json}");

    let refused = budget(home, &["clear", "github"]).expect(73);
    assert!(refused.err.contains(&format!("in use by pid {pid}")), "{}", refused.err);
    drop(ledger);
    assert!(budget(home, &[]).expect(0).out.contains("no process"));
    budget(home, &["clear", "github"]).expect(0);
    assert_eq!(budget(home, &[]).expect(0).out, "");
}

#[test]
fn without_a_home_there_are_no_budgets_and_the_error_says_why() {
    let run = Gleaner::new(["budget"]).env("HOME", "").env("XDG_STATE_HOME", "").expect(65);
    assert!(run.err.contains("neither XDG_STATE_HOME nor HOME") && run.err.contains("leave out"), "{}", run.err);
}
