//! What a job may not change between its runs (contract, *Crawl*).

use crate::config::tree::Node;
use std::collections::BTreeMap;

const KEYS: &[&str] = &[
    "input.file",
    "input.urls",
    "input.url",
    "request.method",
    "request.url",
    "request.query",
    "request.body",
    "request.json",
    "request.form",
    "extract.rows",
    "extract.fields",
    "extract.types",
    "extract.required",
    "output.results",
    "output.skipped",
    "output.meta",
];

/// Key to its value as JSON text, as written: paths are not resolved, so that the job may be run from another folder.
/// Keys that are unset are absent.
pub(super) fn frozen(tree: &Node) -> BTreeMap<String, String> {
    let set =
        |key: &&str| tree.get(key).filter(|node| node.as_text() != Some("off")).map(|node| ((*key).to_owned(), node.json().to_string()));
    KEYS.iter().filter_map(set).collect()
}
