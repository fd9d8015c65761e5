//! `[job]` and `[output]`: names, places, formats.

use super::{Builder, take};
use crate::config::leaf::{Texts, nearest};
use crate::config::raw;
use crate::config::tree::{Node, Value};
use crate::model::META_COLUMNS;
use crate::model::plan::{Codec, OutputPlan, SinkFormat, SinkPlace, SinkPlan, StatePlace};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Names that follow from the job file's, or from the results file where there is no job file.
pub(super) fn defaults(tree: &mut Node, job_file: Option<&Path>) {
    let stem = job_file.and_then(Path::file_stem).map(|s| s.to_string_lossy().into_owned());
    let results = tree.get("output.results").and_then(Node::as_text).map(str::to_owned);
    let beside = results.filter(|r| r != "-").map(|r| r.strip_suffix('/').unwrap_or(&r).to_owned());
    let named = beside.as_deref().map(stem_of).and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    tree.default("job.name", Value::Text(stem.or(named).unwrap_or_else(|| "fetch".into())));
    let name = tree.get("job.name").and_then(Node::as_text).unwrap_or_default().to_owned();
    if job_file.is_some() {
        tree.default("job.state", Value::Text(format!(".gleaner/{name}")));
        tree.default("output.results", Value::Text(format!("{name}.results.csv")));
        tree.default("output.skipped", Value::Text(format!("{name}.skipped.jsonl")));
    } else if let Some(results) = beside {
        tree.default("job.state", Value::Text(format!("{results}.gleaner")));
        tree.default("output.skipped", Value::Text(format!("{}.skipped.jsonl", stem_of(&results).display())));
    } else {
        tree.default("output.results", Value::Text("-".into()));
    }
}

/// A sink's path without its format and compression.
fn stem_of(path: &str) -> &Path {
    let bare = [".gz", ".zst"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
    Path::new([".csv", ".jsonl"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare))
}

pub(super) fn job(b: &mut Builder<'_>, raw: raw::JobSection) -> (String, StatePlace) {
    let name = take!(b, "job", raw.name).unwrap_or_default();
    if name.trim().is_empty() || name.starts_with('.') || name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\')) {
        b.error("job.name", "is used in file names: it wants a text without slashes, control characters or a dot in front");
    }
    let state = match take!(b, "job", raw.state) {
        Some(text) if text.trim().is_empty() => {
            b.error("job.state", "is empty");
            StatePlace::Throwaway
        }
        Some(text) => StatePlace::Folder(b.path("job.state", &text)),
        None => StatePlace::Throwaway,
    };
    (name, state)
}

pub(super) fn output(b: &mut Builder<'_>, raw: raw::Output) -> OutputPlan {
    let results = take!(b, "output", raw.results).map(|text| sink(b, "output.results", &text));
    let skipped = take!(b, "output", raw.skipped).map(|text| sink(b, "output.skipped", &text));
    if let (Some(results), Some(skipped)) = (&results, &skipped)
        && same(&results.place, &skipped.place)
    {
        b.error("output.skipped", "is the same place as output.results: the two differ in their columns");
    }
    for (key, sink) in [("output.results", &results), ("output.skipped", &skipped)] {
        let Some(SinkPlan { place: SinkPlace::File(path), .. }) = sink else { continue };
        let input = b.context.tree.get("input.file").and_then(Node::as_text).filter(|f| *f != "-").map(|f| b.path("input.file", f));
        if input.is_some_and(|input| resolved(&input) == resolved(path)) {
            b.error(key, "is the input file itself");
        }
        if b.context.job_file.is_some_and(|job| resolved(job) == resolved(path)) {
            b.error(key, "is the job file itself");
        }
    }
    OutputPlan {
        results: results.unwrap_or(SinkPlan { place: SinkPlace::Stdout, format: SinkFormat::Jsonl, codec: Codec::Plain }),
        skipped,
        meta: meta(b, raw.meta),
        csv_safe: take!(b, "output", raw.csv_safe).unwrap_or(true),
        flush: take!(b, "output", raw.flush).map_or(Duration::ZERO, |w| w.0),
    }
}

fn meta(b: &mut Builder<'_>, raw: crate::config::leaf::Set<Texts>) -> Vec<String> {
    let meta = b.take("output.meta", raw).map_or_else(Vec::new, |t| t.0);
    for (i, name) in meta.iter().enumerate() {
        if meta[..i].contains(name) {
            b.error("output.meta", format!("{name:?} stands twice"));
        } else if !META_COLUMNS.contains(&name.as_str()) {
            let near = nearest(name, META_COLUMNS.iter().copied()).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            b.error("output.meta", format!("{name:?} is no meta column: there are {}{near}", META_COLUMNS.join(", ")));
        }
    }
    meta
}

const FORMATS: &str = "end it in .csv or .jsonl, each also with .gz or .zst, or write \"-\" for stdout";

fn sink(b: &mut Builder<'_>, key: &str, text: &str) -> SinkPlan {
    if text == "-" {
        return SinkPlan { place: SinkPlace::Stdout, format: SinkFormat::Jsonl, codec: Codec::Plain };
    }
    let name = text.to_ascii_lowercase();
    let (bare, codec) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(bare), _) => (bare, Codec::Gzip),
        (_, Some(bare)) => (bare, Codec::Zstd),
        _ => (name.as_str(), Codec::Plain),
    };
    let format = if bare.strip_suffix(".jsonl").is_some() { SinkFormat::Jsonl } else { SinkFormat::Csv };
    if text.contains("{{") {
        b.error(key, "templates like {{date}} in an output's name are not yet supported");
    } else if [".parquet", ".db", ".sqlite"].iter().any(|end| bare.ends_with(end)) {
        b.error(key, format!("this format is not yet supported: {FORMATS}"));
    } else if ![".csv", ".jsonl"].iter().any(|end| bare.ends_with(end)) {
        b.error(key, format!("the name {text:?} tells no format: {FORMATS}"));
    }
    SinkPlan { place: SinkPlace::File(b.path(key, text)), format, codec }
}

fn same(a: &SinkPlace, b: &SinkPlace) -> bool {
    match (a, b) {
        (SinkPlace::File(a), SinkPlace::File(b)) => resolved(a) == resolved(b),
        _ => a == b,
    }
}

/// The file that a path leads to: links followed where it exists, else its folder's; `.` and `..` taken out of the rest.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    match (clean.parent().and_then(|p| p.canonicalize().ok()), clean.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => clean,
    }
}
