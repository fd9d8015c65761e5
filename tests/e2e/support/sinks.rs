//! Strict readers of outputs: whole records, one header, one cell a column, one fate an input.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// One record, whatever its format; a CSV cell is a string.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record(pub(crate) Map<String, Value>);

impl Record {
    pub(crate) fn text(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(Value::String(s)) => s.clone(),
            Some(Value::Null) | None => String::new(),
            Some(v) => v.to_string(),
        }
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or_else(|_| panic!("{key} of {:?} is no number", self.0))
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The attempts of a skipped record; a CSV cell holds them as JSON.
    pub(crate) fn attempts(&self) -> Vec<Value> {
        match self.0.get("attempts") {
            Some(Value::Array(a)) => a.clone(),
            Some(Value::String(s)) if !s.is_empty() => serde_json::from_str(s).unwrap(),
            _ => Vec::new(),
        }
    }
}

/// The bytes of a plain, `.gz` or `.zst` file; a torn member is an error.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let raw = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut out = Vec::new();
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => {
            flate2::read::MultiGzDecoder::new(&raw[..]).read_to_end(&mut out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        Some("zst") => {
            zstd::Decoder::new(&raw[..]).unwrap().read_to_end(&mut out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        _ => out = raw,
    }
    out
}

/// Every record of a sink.
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap().to_owned();
    let content = bytes(path);
    assert!(content.is_empty() || content.ends_with(b"\n"), "{name}: its last line is torn");
    let text = String::from_utf8(content).unwrap_or_else(|e| panic!("{name}: {e}"));
    let plain = name.trim_end_matches(".gz").trim_end_matches(".zst");
    if plain.ends_with(".csv") { parse_csv(&text).unwrap_or_else(|e| panic!("{name}: {e}")) } else { parse_jsonl(&text) }
}

pub(crate) fn parse_jsonl(text: &str) -> Vec<Record> {
    text.lines().map(|l| Record(serde_json::from_str(l).unwrap_or_else(|e| panic!("{e} in {l:?}")))).collect()
}

pub(crate) fn parse_csv(text: &str) -> Result<Vec<Record>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut rows = reader.records();
    let Some(header) = rows.next() else { return Ok(Vec::new()) };
    let header = header.map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for row in rows {
        let row = row.map_err(|e| e.to_string())?;
        if row.len() != header.len() {
            return Err(format!("{} cells under {} columns: {row:?}", row.len(), header.len()));
        }
        if row == header {
            return Err("a second header".into());
        }
        out.push(Record(header.iter().zip(&row).map(|(k, v)| (k.to_owned(), Value::from(v))).collect()));
    }
    Ok(out)
}

/// Each row number from 1 to `inputs` stands in exactly one record of the two outputs together.
pub(crate) fn exactly_once(results: &[Record], skipped: &[Record], inputs: usize) -> Result<(), String> {
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for r in results.iter().chain(skipped) {
        *seen.entry(r.number("_row")).or_default() += 1;
    }
    let lost: Vec<u64> = (1..=inputs as u64).filter(|i| !seen.contains_key(i)).collect();
    let doubled: Vec<u64> = seen.iter().filter(|(_, n)| **n > 1).map(|(i, _)| *i).collect();
    let strange: Vec<u64> = seen.keys().filter(|i| **i == 0 || **i > inputs as u64).copied().collect();
    if lost.is_empty() && doubled.is_empty() && strange.is_empty() {
        return Ok(());
    }
    let few = |v: &[u64]| format!("{} {:?}", v.len(), &v[..v.len().min(5)]);
    Err(format!("of {inputs} inputs lost {}, doubled {}, unknown {}", few(&lost), few(&doubled), few(&strange)))
}

/// `inputs + discovered = results + skipped + pending`.
pub(crate) fn account_closes(stats: &Value) {
    let n = |k: &str| stats[k].as_u64().unwrap_or_else(|| panic!("stats lack {k}: {stats}"));
    assert_eq!(n("inputs") + n("discovered"), n("results") + n("skipped") + n("pending"), "{stats}");
}
