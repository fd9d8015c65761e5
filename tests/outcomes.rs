//! `docs/outcomes.md` lists exactly what the code can say: each reason with its class and words, each exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests: they may fail loudly")]

use gleaner::model::REASONS;

/// The exit codes of the contract.
const EXIT_CODES: &[u8] = &[0, 1, 2, 65, 73, 74, 75, 130, 143];

/// The table's rows as they have to stand in the page.
fn reason_rows() -> Vec<String> {
    REASONS.iter().map(|d| format!("| `{}` | {} | {} | {} |", d.code, d.class.as_str(), d.what, d.advice)).collect()
}

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/outcomes.md")).expect("docs/outcomes.md")
}

/// First cells of the table under this heading.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|l| l.starts_with('|') && !l.starts_with("|--") && !l.starts_with("| --"));
    rows.skip(1).map(|l| l.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn the_page_lists_every_reason_as_the_code_has_it_and_no_other() {
    let page = page();
    for row in reason_rows() {
        assert!(page.lines().any(|l| l == row), "docs/outcomes.md lacks this line:\n{row}\nall of them:\n{}", reason_rows().join("\n"));
    }
    let mut listed = first_cells(&page, "Reasons");
    listed.retain(|code| code != "http-<number>");
    let known: Vec<&str> = REASONS.iter().map(|d| d.code).collect();
    assert_eq!(listed, known);
    assert!(page.contains("`http-<number>`"));
}

#[test]
fn the_page_lists_every_exit_code_and_no_other() {
    let listed: Vec<u8> = first_cells(&page(), "Exit codes").iter().map(|c| c.parse().unwrap()).collect();
    assert_eq!(listed, EXIT_CODES);
}
