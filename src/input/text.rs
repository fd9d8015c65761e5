//! One address a line.

use super::address::{listed_alone, only_url};
use super::error::{InputError, head};
use super::lines::{Cursor, Found, find_line, text_of};
use super::reader::InputRecord;
use crate::model::plan::InputPlan;
use crate::model::{Columns, Template, trim_address};
use std::borrow::Cow;

/// Lines; blank ones and comments are passed over.
pub(super) struct Text {
    pub(super) cursor: Cursor,
    /// `None`: the line is the address.
    template: Option<Template>,
    keeps_listed: bool,
}

impl Text {
    pub(super) fn new(cursor: Cursor, plan: &InputPlan) -> Result<Self, InputError> {
        let template = only_url(&cursor.source.file, plan)?;
        Ok(Self { cursor, template, keeps_listed: plan.keeps_listed })
    }

    pub(super) fn next(&mut self) -> Result<Option<InputRecord>, InputError> {
        if self.cursor.source.offset() == 0 {
            self.cursor.start()?;
        }
        loop {
            let line = match find_line(&mut self.cursor.source, 0)? {
                Found::End => return Ok(None),
                Found::Line(line) => line,
                Found::Long => {
                    let begin = self.cursor.source.available();
                    if begin.trim_ascii_start().first() == Some(&b'#') {
                        self.cursor.skip()?;
                        continue;
                    }
                    let (message, shown) = (self.cursor.bad("the line is longer than 1 MiB", begin), head(begin));
                    let record = self.record(Columns::new(), Err(message), shown);
                    self.cursor.skip()?;
                    return Ok(Some(record));
                }
            };
            let bytes = &self.cursor.source.available()[..line.len];
            let mut columns = Columns::new();
            let (body, shown) = match text_of(bytes) {
                Ok(text) => {
                    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}'));
                    if begin.is_empty() || begin.starts_with('#') {
                        self.cursor.take(line);
                        continue;
                    }
                    let text = trim_address(begin);
                    columns = listed_alone(self.keeps_listed, text);
                    let made = match &self.template {
                        None => Ok(text.to_owned()),
                        Some(t) => t.render_url_with(|_| Some(Cow::Borrowed(text))),
                    };
                    match made {
                        Ok(url) => (Ok(url), String::new()),
                        Err(e) => (Err(self.cursor.bad(&e.to_string(), bytes)), head(bytes)),
                    }
                }
                Err(_) if bytes.trim_ascii_start().first() == Some(&b'#') => {
                    self.cursor.take(line);
                    continue;
                }
                Err(what) => (Err(self.cursor.bad(what, bytes)), head(bytes)),
            };
            let record = self.record(columns, body, shown);
            self.cursor.take(line);
            return Ok(Some(record));
        }
    }

    fn record(&mut self, columns: Columns, body: Result<String, String>, shown: String) -> InputRecord {
        self.cursor.row += 1;
        InputRecord { row: self.cursor.row, line: self.cursor.line + 1, columns, body, shown }
    }
}
