//! JSON lines: one object a line.

use super::address::{Address, find_address, is_own, own_notice, resolve};
use super::error::{InputError, head};
use super::lines::{Cursor, Found, find_line, text_of};
use super::reader::{Asides, InputRecord};
use crate::model::plan::InputPlan;
use crate::model::{Columns, TemplateError, trim_address, value_text};
use serde_json::Value;
use std::collections::HashSet;

/// Records whose keys tell the columns.
const SAMPLE: u64 = 100;
/// Bytes that may be read ahead for them.
const SAMPLE_BYTES: usize = 4 << 20;

/// Records that are JSON objects.
pub(super) struct Jsonl {
    pub(super) cursor: Cursor,
    names: Vec<String>,
    known: HashSet<String>,
    sampled: u64,
    address: Address,
    own_told: bool,
}

impl Jsonl {
    /// Looks at the first 100 records, 4 MiB at most, without passing over them. `sampled` is how many of them told the
    /// columns in an earlier run, so that columns stay what they were though records were appended; 0: none did.
    ///
    /// # Errors
    /// No key among them can be the address, or they cannot be read.
    pub(super) fn open(mut cursor: Cursor, plan: &InputPlan, sampled: u64, asides: &mut Asides) -> Result<Self, InputError> {
        cursor.start()?;
        let limit = if sampled == 0 { SAMPLE } else { sampled.min(SAMPLE) };
        let (mut all, mut known) = (Vec::new(), HashSet::new());
        let (mut at, mut looked, mut objects) = (0, 0, 0u64);
        while looked < limit && at < SAMPLE_BYTES {
            // A failure to read on is told when these records have been returned.
            let Ok(Found::Line(line)) = find_line(&mut cursor.source, at) else { break };
            let bytes = &cursor.source.available()[at..at + line.len];
            at += line.end;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            looked += 1;
            if let Ok(object) = parse(bytes) {
                objects += 1;
                for (key, _) in object {
                    if known.insert(key.clone()) {
                        all.push(key);
                    }
                }
            }
        }
        let file = cursor.source.file.clone();
        let found: Vec<&str> = all.iter().map(String::as_str).collect();
        let address =
            if objects == 0 && !plan.url_set { Address::Column("url".to_owned()) } else { find_address(&file, &found, plan, asides)? };
        let own: Vec<&str> = found.iter().copied().filter(|c| is_own(c)).collect();
        let own_told = !own.is_empty();
        if own_told {
            asides.notices.push(own_notice(&file, &own));
        }
        let names = all.into_iter().filter(|c| !is_own(c)).collect();
        Ok(Self { cursor, names, known, sampled: looked, address, own_told })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.names
    }

    pub(super) fn sampled(&self) -> u64 {
        self.sampled
    }

    pub(super) fn next(&mut self, asides: &mut Asides) -> Result<Option<InputRecord>, InputError> {
        loop {
            let line = match find_line(&mut self.cursor.source, 0)? {
                Found::End => return Ok(None),
                Found::Line(line) => line,
                Found::Long => {
                    let begin = self.cursor.source.available();
                    let (message, shown) = (self.cursor.bad("the line is longer than 1 MiB", begin), head(begin));
                    let record = self.make(Columns::new(), Err(message), shown);
                    self.cursor.skip()?;
                    return Ok(Some(record));
                }
            };
            let bytes = &self.cursor.source.available()[..line.len];
            if bytes.trim_ascii().is_empty() {
                self.cursor.take(line);
                continue;
            }
            let record = match parse(bytes) {
                Ok(object) => self.record(object, line.len, asides),
                Err(what) => {
                    let (message, shown) = (self.cursor.bad(&what, bytes), head(bytes));
                    self.make(Columns::new(), Err(message), shown)
                }
            };
            self.cursor.take(line);
            return Ok(Some(record));
        }
    }

    fn record(&mut self, mut columns: Columns, len: usize, asides: &mut Asides) -> InputRecord {
        let made = match &self.address {
            Address::Column(name) => match columns.get(name) {
                Some(value) => Ok(trim_address(&value_text(value)).to_owned()),
                None => Err(TemplateError::Unknown(name.clone())),
            },
            Address::Template(t) => t.render_url_with(|name| {
                let at = resolve(name, columns.keys().map(String::as_str))?;
                columns.values().nth(at).map(value_text)
            }),
        };
        let bytes = &self.cursor.source.available()[..len];
        let (body, shown) = match made {
            Ok(url) => (Ok(url), String::new()),
            Err(e) => (Err(self.cursor.bad(&e.to_string(), bytes)), head(bytes)),
        };
        let own: Vec<String> = columns.keys().filter(|k| is_own(k)).cloned().collect();
        for name in &own {
            columns.shift_remove(name);
        }
        if !own.is_empty() && !self.own_told {
            self.own_told = true;
            let names: Vec<&str> = own.iter().map(String::as_str).collect();
            asides.notices.push(own_notice(&self.cursor.source.file, &names));
        }
        for key in columns.keys().filter(|k| !self.known.contains(*k)) {
            let (name, line) = (&self.cursor.name, self.cursor.line + 1);
            let key: String = key.chars().take(60).collect();
            asides.warnings.push(("late-column", format!("{name}:{line}: the key {key:?} is none of the first {} records", self.sampled)));
        }
        self.make(columns, body, shown)
    }

    fn make(&mut self, columns: Columns, body: Result<String, String>, shown: String) -> InputRecord {
        self.cursor.row += 1;
        InputRecord { row: self.cursor.row, line: self.cursor.line + 1, columns, body, shown }
    }
}

/// The object that a line is, or what else it is.
fn parse(line: &[u8]) -> Result<Columns, String> {
    let text = text_of(line)?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "an array",
                Value::String(_) => "a text",
                Value::Number(_) => "a number",
                Value::Bool(_) => "true or false",
                Value::Null | Value::Object(_) => "null",
            };
            Err(format!("the line is {kind}, not a JSON object"))
        }
        // serde_json counts lines within the text that it is given, which is one.
        Err(e) => Err(format!("the line is no JSON: {}", e.to_string().replace(" at line 1 column ", " at column "))),
    }
}
