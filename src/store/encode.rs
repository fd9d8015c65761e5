//! Rows to bytes: JSONL and CSV. Pure; workers encode, the store only appends.
//!
//! JSONL keeps every value's JSON type, numbers digit for digit; one object a line. CSV is RFC 4180 with LF, quotes where
//! needed, lists and objects as JSON text, null as an empty cell, NUL as U+FFFD.

use crate::model::plan::SinkFormat;
use crate::model::{Columns, LISTED, ResultRow, SkippedRecord};
use serde::Serialize;
use serde_json::Value;
use std::io::Write as _;

/// Keys of a skipped record, in order, after the carried columns.
pub const SKIPPED_KEYS: &[&str] = &["_row", "_url", "reason", "class", "status", "message", "attempts", "next_at", "first_row"];

/// What of a job decides the form of rows; the carried columns come later, when the input is open.
#[derive(Clone, Debug, Default)]
pub struct EncoderSpec {
    /// Extracted fields, in the job's order.
    pub fields: Vec<String>,
    /// Meta columns, in order (`[output] meta`).
    pub meta: Vec<String>,
    /// Whether extracted text that a spreadsheet would run gets a `'` before it (CSV only).
    pub csv_safe: bool,
}

/// Encodes rows for both sinks.
#[derive(Clone, Debug)]
pub struct Encoder {
    spec: EncoderSpec,
    columns: Vec<String>,
    results: SinkFormat,
    skipped: SinkFormat,
}

impl Encoder {
    /// `columns` are the carried columns of CSV sinks, in order; JSONL rows carry whatever a record has.
    #[must_use]
    pub fn new(spec: EncoderSpec, results: SinkFormat, skipped: SinkFormat, columns: Vec<String>) -> Self {
        Self { spec, columns, results, skipped }
    }

    /// The carried columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The first bytes of the results sink: a CSV header with its LF; empty for JSONL.
    #[must_use]
    pub fn results_header(&self) -> Vec<u8> {
        if self.results == SinkFormat::Jsonl {
            return Vec::new();
        }
        let names = self.columns.iter().chain(&self.spec.fields).chain(&self.spec.meta);
        header(names.map(String::as_str))
    }

    /// The first bytes of the skipped sink.
    #[must_use]
    pub fn skipped_header(&self) -> Vec<u8> {
        if self.skipped == SinkFormat::Jsonl {
            return Vec::new();
        }
        let names: Vec<String> = self.columns.iter().map(|c| skipped_name(c)).collect();
        header(names.iter().map(String::as_str).chain(SKIPPED_KEYS.iter().copied()))
    }

    /// Appends one result row with its line end.
    pub fn encode_result(&self, row: &ResultRow<'_>, out: &mut Vec<u8>) {
        match self.results {
            SinkFormat::Jsonl => {
                let mut object = Object::begin(out);
                for (name, value) in row.columns.iter().filter(|(name, _)| *name != LISTED) {
                    object.member(name, value);
                }
                for (name, value) in row.fields {
                    object.member(name, value);
                }
                for name in &self.spec.meta {
                    meta(name, row, |m| match m {
                        Meta::Text(t) => object.member(name, t),
                        Meta::Number(n) => object.member(name, &n),
                        Meta::None => object.member(name, &()),
                    });
                }
                object.end();
            }
            SinkFormat::Csv => {
                let mut cells = Cells::begin(out);
                for name in &self.columns {
                    cells.value(row.columns.get(name), false);
                }
                for (i, name) in self.spec.fields.iter().enumerate() {
                    let value = match row.fields.get(i) {
                        Some((n, v)) if n == name => Some(v),
                        _ => row.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
                    };
                    cells.value(value, self.spec.csv_safe);
                }
                for name in &self.spec.meta {
                    meta(name, row, |m| match m {
                        Meta::Text(t) => cells.text(t),
                        Meta::Number(n) => cells.text(&n.to_string()),
                        Meta::None => cells.text(""),
                    });
                }
                cells.end();
            }
        }
    }

    /// Appends one skipped record with its line end.
    pub fn encode_skipped(&self, record: &SkippedRecord<'_>, out: &mut Vec<u8>) {
        let reason = record.reason.code();
        match self.skipped {
            SinkFormat::Jsonl => {
                let mut object = Object::begin(out);
                for (name, value) in record.columns.iter().filter(|(name, _)| *name != LISTED) {
                    object.member(&skipped_name(name), value);
                }
                object.member("_row", &record.row);
                object.member("_url", record.url);
                object.member("reason", &*reason);
                object.member("class", record.class.as_str());
                object.member("status", &record.status);
                object.member("message", record.message);
                object.member("attempts", record.attempts);
                object.member("next_at", &record.next_at);
                if let Some(first) = record.first_row {
                    object.member("first_row", &first);
                }
                object.end();
            }
            SinkFormat::Csv => {
                let mut cells = Cells::begin(out);
                for name in &self.columns {
                    cells.value(record.columns.get(name), false);
                }
                cells.text(&record.row.to_string());
                cells.text(record.url);
                cells.text(&reason);
                cells.text(record.class.as_str());
                cells.text(&record.status.map(|s| s.to_string()).unwrap_or_default());
                cells.text(record.message);
                cells.text(&serde_json::to_string(record.attempts).unwrap_or_default());
                cells.text(&record.next_at.map(|t| t.to_string()).unwrap_or_default());
                cells.text(&record.first_row.map(|r| r.to_string()).unwrap_or_default());
                cells.end();
            }
        }
    }
}

/// The name of a carried column in a skipped record: `in_…` where it is a key of the record itself.
fn skipped_name(column: &str) -> String {
    if SKIPPED_KEYS.contains(&column) { format!("in_{column}") } else { column.to_owned() }
}

enum Meta<'a> {
    Text(&'a str),
    Number(u64),
    None,
}

fn meta(name: &str, row: &ResultRow<'_>, mut put: impl FnMut(Meta<'_>)) {
    match name {
        "_row" => put(Meta::Number(row.row)),
        "_url" => put(Meta::Text(row.url)),
        "_final_url" => put(Meta::Text(row.final_url)),
        "_status" => put(Meta::Number(row.status.into())),
        "_fetched_at" => put(Meta::Text(&row.fetched_at.to_string())),
        "_attempts" => put(Meta::Number(row.attempts.into())),
        "_depth" => put(Meta::Number(row.depth.into())),
        "_via" => put(row.via.map_or(Meta::None, Meta::Text)),
        _ => put(Meta::None),
    }
}

/// One JSON object and its LF, member by member: `serde_json` would want a map that owns everything.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn member<V: Serialize + ?Sized>(&mut self, name: &str, value: &V) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        // Writing to a Vec cannot fail, and no value here has keys that are not text.
        let _ = serde_json::to_writer(&mut *self.out, name);
        self.out.push(b':');
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

/// One CSV record and its LF.
struct Cells<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    count: usize,
}

impl<'o> Cells<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start, count: 0 }
    }

    fn separate(&mut self) {
        if self.count > 0 {
            self.out.push(b',');
        }
        self.count += 1;
    }

    fn value(&mut self, value: Option<&Value>, safe: bool) {
        match value {
            None | Some(Value::Null) => self.separate(),
            Some(Value::Bool(b)) => self.text(if *b { "true" } else { "false" }),
            Some(Value::String(s)) if safe && runs_in_a_spreadsheet(s) => self.text(&format!("'{s}")),
            Some(Value::String(s)) => self.text(s),
            Some(Value::Number(n)) => {
                self.separate();
                // Digits, sign, point and exponent never need quotes.
                let _ = write!(self.out, "{n}");
            }
            Some(v @ (Value::Array(_) | Value::Object(_))) => self.text(&v.to_string()),
        }
    }

    fn text(&mut self, text: &str) {
        self.separate();
        let clean;
        let text = if text.contains('\0') {
            clean = text.replace('\0', "\u{fffd}");
            &clean
        } else {
            text
        };
        if !text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
            self.out.extend_from_slice(text.as_bytes());
            return;
        }
        self.out.push(b'"');
        for (i, part) in text.split('"').enumerate() {
            if i > 0 {
                self.out.extend_from_slice(b"\"\"");
            }
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.push(b'"');
    }

    fn end(self) {
        // A record of one empty cell would be an empty line, which readers skip.
        if self.out.len() == self.start && self.count > 0 {
            self.out.extend_from_slice(b"\"\"");
        }
        self.out.push(b'\n');
    }
}

fn header<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut cells = Cells::begin(&mut out);
    for name in names {
        cells.text(name);
    }
    cells.end();
    out
}

/// Whether a spreadsheet takes the text for a formula or a command (OWASP, *CSV Injection*); plain numbers are not.
fn runs_in_a_spreadsheet(text: &str) -> bool {
    match text.chars().next() {
        Some('+' | '-') => !is_number(text),
        Some('=' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => true,
        _ => false,
    }
}

/// `-5`, `+1.5`, `-2e-3`.
fn is_number(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole) && fraction.is_none_or(digits) && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Columns as the state keeps them: values alone where the names are the frozen ones, else the object; `None` where empty.
pub(super) fn pack_columns(columns: &Columns, frozen: &[String]) -> Option<String> {
    if columns.is_empty() {
        return None;
    }
    if columns.len() == frozen.len() && columns.keys().eq(frozen) {
        return serde_json::to_string(&columns.values().collect::<Vec<_>>()).ok();
    }
    serde_json::to_string(columns).ok()
}

/// Reads [`pack_columns`] back.
pub(super) fn unpack_columns(packed: Option<&str>, frozen: &[String]) -> Columns {
    match packed.map(serde_json::from_str) {
        Some(Ok(Value::Object(columns))) => columns,
        Some(Ok(Value::Array(values))) => frozen.iter().cloned().zip(values).collect(),
        _ => Columns::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::model::{AttemptRecord, Class, Reason};
    use serde_json::json;

    fn encoder(format: SinkFormat, columns: &[&str]) -> Encoder {
        let spec = EncoderSpec {
            fields: vec!["title".into(), "tags".into()],
            meta: ["_row", "_url", "_status", "_via"].map(String::from).to_vec(),
            csv_safe: true,
        };
        Encoder::new(spec, format, format, columns.iter().map(|c| (*c).to_owned()).collect())
    }

    fn encoded(e: &Encoder, columns: &Columns, fields: &[(String, Value)]) -> String {
        let mut out = Vec::new();
        let row = ResultRow {
            columns,
            fields,
            row: 7,
            url: "http://h/a,b",
            final_url: "http://h/",
            status: 200,
            fetched_at: Wall(0),
            attempts: 1,
            via: None,
            depth: 0,
        };
        e.encode_result(&row, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn columns(text: &str) -> Columns {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn jsonl_keeps_order_types_and_digits() {
        let c = columns(r#"{"z":123456789012345678901234567890,"a":[1.50,null],"n":-0.0}"#);
        let line = encoded(&encoder(SinkFormat::Jsonl, &[]), &c, &[("title".into(), json!("x\"\n")), ("tags".into(), Value::Null)]);
        assert_eq!(
            line,
            "{\"z\":123456789012345678901234567890,\"a\":[1.50,null],\"n\":-0.0,\"title\":\"x\\\"\\n\",\"tags\":null,\"_row\":7,\"_url\":\"http://h/a,b\",\"_status\":200,\"_via\":null}\n"
        );
    }

    #[test]
    fn csv_is_read_back_by_the_csv_crate() {
        let e = encoder(SinkFormat::Csv, &["id", "note"]);
        let c = columns(r#"{"note":"=keep","late":"dropped","id":"a\"b,c\r\nd\u0000"}"#);
        let mut text = String::from_utf8(e.results_header()).unwrap();
        text.push_str(&encoded(&e, &c, &[("title".into(), json!("=1+1")), ("tags".into(), json!(["a", 1]))]));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(
            reader.headers().unwrap().iter().collect::<Vec<_>>(),
            ["id", "note", "title", "tags", "_row", "_url", "_status", "_via"]
        );
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(
            record.iter().collect::<Vec<_>>(),
            ["a\"b,c\r\nd\u{fffd}", "=keep", "'=1+1", "[\"a\",1]", "7", "http://h/a,b", "200", ""]
        );
    }

    #[test]
    fn numbers_and_number_like_text_are_left_alone_by_csv_safe() {
        for plain in ["-5", "+1.5", "-2e-3", "+49301234", "x=1", "", "'="] {
            assert!(!runs_in_a_spreadsheet(plain), "{plain}");
        }
        for formula in ["=1", "+1-2", "-a", "-", "-1e", "-1.", "@x", "\tx", "\rx", "\nx", "＝1", "＠x", "-5+cmd|' /C calc'!A0"] {
            assert!(runs_in_a_spreadsheet(formula), "{formula}");
        }
    }

    #[test]
    fn a_record_of_one_empty_cell_is_no_empty_line() {
        let spec = EncoderSpec { fields: vec!["a".into()], ..EncoderSpec::default() };
        let e = Encoder::new(spec, SinkFormat::Csv, SinkFormat::Csv, Vec::new());
        assert_eq!(encoded(&e, &Columns::new(), &[("a".into(), Value::Null)]), "\"\"\n");
    }

    #[test]
    fn skipped_record_renames_columns_that_clash() {
        let c = columns(r#"{"status":"new","id":1}"#);
        let attempts =
            [AttemptRecord { n: 1, start: "s".into(), ms: 2, outcome: "http-500".into(), status: Some(500), wait_ms: 0, charged: true }];
        let mut record = SkippedRecord {
            columns: &c,
            row: 3,
            url: "http://h/",
            reason: Reason::Http(500),
            class: Class::Transient,
            status: None,
            message: "m",
            attempts: &attempts,
            next_at: Some(Wall(0)),
            first_row: None,
        };
        let mut out = Vec::new();
        encoder(SinkFormat::Jsonl, &[]).encode_skipped(&record, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(r#"{"in_status":"new","id":1,"_row":3,"_url":"http://h/","reason":"http-500","class":"transient","status":null,"message":"m","attempts":[{"#), "{text}");
        assert!(text.ends_with("}],\"next_at\":\"1970-01-01T00:00:00.000Z\"}\n"), "{text}");
        record.first_row = Some(1);
        record.next_at = None;
        let e = encoder(SinkFormat::Csv, &["status", "id"]);
        let mut out = e.skipped_header();
        e.encode_skipped(&record, &mut out);
        let mut reader = csv::Reader::from_reader(&out[..]);
        assert_eq!(reader.headers().unwrap().get(0), Some("in_status"));
        let r = reader.records().next().unwrap().unwrap();
        assert_eq!((r.get(0), r.get(1), r.get(9), r.get(10)), (Some("new"), Some("1"), Some(""), Some("1")));
    }

    #[test]
    fn packed_columns_come_back() {
        let frozen = ["a".to_owned(), "b".to_owned()];
        for text in [r#"{"a":1.10,"b":"x"}"#, r#"{"b":"x","a":1}"#, "{}", r#"{"c":[1]}"#] {
            let c = columns(text);
            let packed = pack_columns(&c, &frozen);
            let back = unpack_columns(packed.as_deref(), &frozen);
            assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&c).unwrap());
        }
    }
}
