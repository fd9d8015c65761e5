//! `list`, `show`, `clear`, names and folders.

use super::*;

#[test]
fn a_view_tells_what_is_used_and_by_whom() {
    let bed = Bed::new();
    let clock = bed.clock();
    assert!(list(&bed.folder(), &*clock).unwrap().is_empty());
    let mut a = bed.open(&["5/10s", "100/1h"]);
    let b = bed.open(&["5/10s", "100/1h"]);
    let mut granted = take(&mut a, "h", 3).granted;
    let one = vec![granted.remove(0)];
    end(&mut a, one, ARRIVED);
    a.hold("g", s(60)).unwrap();
    bed.advance(s(20));
    b.kill();
    let views = list(&bed.folder(), &*clock).unwrap();
    let (name, view) = &views[0];
    let view = view.as_ref().unwrap();
    assert_eq!((views.len(), name.as_str(), view.rates[0].count), (1, "github", 5));
    assert_eq!(view.keys.len(), 2);
    assert_eq!(view.keys[0], KeyView { key: "g".into(), used: vec![0, 0], in_flight: 0, held: Some(s(40)) });
    assert_eq!(view.keys[1], KeyView { key: "h".into(), used: vec![2, 3], in_flight: 2, held: None });
    assert_eq!(view.processes, [ProcessView { pid: Some(std::process::id()), age: s(20) }]);
    assert_eq!(view.unknown, None);
    assert!(matches!(show(&bed.folder(), "other", &*clock), Err(BudgetError::Unknown(_))));
}

#[test]
fn a_budget_is_cleared_where_nobody_uses_it() {
    let bed = Bed::new();
    let clock = bed.clock();
    let mut a = bed.open(&["5/10s"]);
    let _ = take(&mut a, "h", 5);
    let refused = clear(&bed.folder(), "github").unwrap_err();
    assert_eq!(refused.to_string(), format!("budget \"github\" is in use by pid {}", std::process::id()));
    assert_eq!(refused.exit_code(), 73);
    a.kill();
    clear(&bed.folder(), "github").unwrap();
    assert!(list(&bed.folder(), &*clock).unwrap().is_empty());
    assert!(matches!(clear(&bed.folder(), "github"), Err(BudgetError::Unknown(_))));
    assert_eq!(take(&mut bed.open(&["5/10s"]), "h", 9).granted.len(), 5);
}

#[test]
fn a_damaged_budget_says_so_and_can_be_cleared() {
    let bed = Bed::new();
    drop(bed.open(&["5/10s"]));
    let path = bed.folder().join("github.db");
    std::fs::write(&path, [7; 9000]).unwrap();
    let damaged = bed.try_open(&["5/10s"], None).unwrap_err();
    assert!(matches!(damaged, BudgetError::Damaged { .. }), "{damaged:?}");
    assert_eq!((damaged.exit_code(), damaged.hint().unwrap().contains("budget clear github")), (65, true));
    assert!(list(&bed.folder(), &*bed.clock()).unwrap()[0].1.is_err());
    clear(&bed.folder(), "github").unwrap();
    assert!(!path.exists());
    bed.open(&["5/10s"]);
}

#[test]
fn newer_and_foreign_databases_are_refused() {
    let bed = Bed::new();
    drop(bed.open(&["5/10s"]));
    let path = bed.folder().join("github.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(bed.try_open(&["5/10s"], None), Err(BudgetError::Newer { found: 99, .. })));
    let other = rusqlite::Connection::open(bed.folder().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE t(x)").unwrap();
    let rates = [parse_rate("1/s").unwrap()];
    let config = BudgetConfig { name: "other", ..config(Path::new(""), &rates, None) };
    let foreign = Ledger::open(&BudgetConfig { folder: &bed.folder(), ..config }, bed.clock());
    assert!(matches!(foreign, Err(BudgetError::Damaged { .. })));
}

#[test]
fn budgets_are_in_the_state_folder_of_the_user() {
    let of = |xdg: Option<&str>, home: Option<&str>| folder(|name| if name == "HOME" { home.map(Into::into) } else { xdg.map(Into::into) });
    assert_eq!(of(Some("/s"), Some("/h")).unwrap(), Path::new("/s/gleaner/budgets"));
    for xdg in [None, Some(""), Some("relative")] {
        assert_eq!(of(xdg, Some("/h")).unwrap(), Path::new("/h/.local/state/gleaner/budgets"));
        assert!(matches!(of(xdg, None), Err(BudgetError::NoHome)));
    }
    for right in ["github", "api.example-1_x", "7"] {
        check_name(right).unwrap();
    }
    for wrong in ["", ".", "../x", "a/b", "a b", "é", &"x".repeat(65)] {
        assert!(check_name(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_folder_is_of_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new();
    bed.open(&["5/10s"]);
    assert_eq!(std::fs::metadata(bed.folder()).unwrap().permissions().mode() & 0o777, 0o700);
}
