//! Readers by what they promise: each line of the contract's *Inputs* has a test here.

#![allow(clippy::format_collect, clippy::case_sensitive_file_extension_comparisons, reason = "lists are small and names are ours")]

mod delimited;
mod files;
mod json;
mod property;
mod resume;
mod text;

use super::{InputError, InputRecord, Position, Reader, open};
use crate::model::Template;
use crate::model::plan::{InputPlan, InputSource, OnBad};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A file of this name and content, compressed as its name says.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        let content = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => gz(content.as_ref()),
            Some("zst") => zstd::encode_all(content.as_ref(), 0).unwrap(),
            _ => content.as_ref().to_vec(),
        };
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn plan_of(source: InputSource, template: Option<&str>) -> InputPlan {
    InputPlan {
        source,
        url: Template::parse(template.unwrap_or("{{url}}")).unwrap(),
        url_set: template.is_some(),
        on_bad: OnBad::Skip,
        fetch_duplicates: false,
        keeps_listed: false,
    }
}

fn plan(path: &Path) -> InputPlan {
    plan_of(InputSource::File(path.to_owned()), None)
}

fn templated(path: &Path, template: &str) -> InputPlan {
    plan_of(InputSource::File(path.to_owned()), Some(template))
}

/// All records to the end.
fn rest(reader: &mut Reader) -> Vec<InputRecord> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn read(name: &str, content: impl AsRef<[u8]>) -> (Reader, Vec<InputRecord>) {
    let place = Place::new();
    let mut reader = open(&plan(&place.put(name, content)), None).unwrap();
    let records = rest(&mut reader);
    (reader, records)
}

/// Row, line and address or message of each record.
fn told(records: &[InputRecord]) -> Vec<(u64, u64, &str)> {
    records.iter().map(|r| (r.row, r.line, r.body.as_ref().map_or_else(String::as_str, String::as_str))).collect()
}

/// Row, line and address or message of each record of a file.
fn tell(name: &str, content: impl AsRef<[u8]>) -> Vec<(u64, u64, String)> {
    told(&read(name, content).1).into_iter().map(|(r, l, t)| (r, l, t.to_owned())).collect()
}

fn fails(name: &str, content: impl AsRef<[u8]>) -> InputError {
    let place = Place::new();
    open(&plan(&place.put(name, content)), None).err().unwrap()
}

/// The columns of a record as one JSON text.
fn columns(record: &InputRecord) -> String {
    serde_json::to_string(&record.columns).unwrap()
}
