//! CSV and TSV: a header, then records.

use super::address::{Address, find_address, is_own, list, own_notice, resolve};
use super::error::{InputError, head};
use super::format::Format;
use super::lines::{Cursor, Found, Line, MAX_RECORD, count_ends, find_line, text_of};
use super::reader::{Asides, InputRecord};
use super::source::Source;
use super::split::{Dialect, Split, Splitter};
use crate::model::plan::InputPlan;
use crate::model::{Columns, TemplateError, trim_address};
use serde_json::Value;

/// Records of delimited text.
pub(super) struct Delimited {
    pub(super) cursor: Cursor,
    splitter: Splitter,
    /// All cells of the header.
    header: Vec<String>,
    /// Cells of the carried ones.
    carried: Vec<usize>,
    names: Vec<String>,
    address: Address,
    /// Cells that the template names, in its order of names.
    places: Vec<(String, usize)>,
}

impl Delimited {
    /// Reads the header.
    ///
    /// # Errors
    /// It cannot be read, names a column twice, or has no column for the address.
    pub(super) fn open(mut cursor: Cursor, format: Format, plan: &InputPlan, asides: &mut Asides) -> Result<Self, InputError> {
        cursor.start()?;
        let file = cursor.source.file.clone();
        let dialect = dialect_of(&mut cursor, format, asides)?;
        let mut splitter = Splitter::new(dialect);
        let Some(header) = read_header(&mut cursor, &mut splitter)? else {
            // Nothing but blank lines: an empty run.
            let address = Address::Column("url".to_owned());
            return Ok(Self { cursor, splitter, header: vec![], carried: vec![], names: vec![], address, places: vec![] });
        };
        let found: Vec<&str> = header.iter().map(String::as_str).filter(|c| !c.trim().is_empty()).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find_map(|w| (w[0] == w[1]).then_some(w[0])) {
            return Err(InputError::wrong(&file, format!("the header names the column {twice:?} twice")));
        }
        let address = find_address(&file, &found, plan, asides)?;
        let wanted: Vec<&str> = match &address {
            Address::Column(name) => vec![name],
            Address::Template(t) => t.names(),
        };
        let mut places = Vec::new();
        for name in wanted {
            let at = resolve(name, header.iter().map(String::as_str)).ok_or_else(|| {
                let message = format!("the template of the address names the column {name:?}: {}", list(&found));
                InputError::Template { file: file.clone(), message, hint: None }
            })?;
            places.push((name.to_owned(), at));
        }
        let own: Vec<&str> = found.iter().copied().filter(|c| is_own(c)).collect();
        if !own.is_empty() {
            asides.notices.push(own_notice(&file, &own));
        }
        let nameless: Vec<String> =
            header.iter().enumerate().filter(|(_, c)| c.trim().is_empty()).map(|(i, _)| (i + 1).to_string()).collect();
        match nameless.as_slice() {
            [] => {}
            [one] => asides.notices.push(format!("{file}: column {one} has no name and is not carried")),
            some => asides.notices.push(format!("{file}: columns {} have no name and are not carried", some.join(", "))),
        }
        let carried: Vec<usize> = (0..header.len()).filter(|i| !header[*i].trim().is_empty() && !is_own(&header[*i])).collect();
        let names = carried.iter().map(|i| header[*i].clone()).collect();
        Ok(Self { cursor, splitter, header, carried, names, address, places })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.names
    }

    pub(super) fn next(&mut self, asides: &mut Asides) -> Result<Option<InputRecord>, InputError> {
        if self.header.is_empty() {
            return Ok(None);
        }
        loop {
            match self.splitter.split(&mut self.cursor.source)? {
                Split::End => return Ok(None),
                Split::Row { len, end } => {
                    if self.splitter.is_blank(&self.cursor.source.available()[..len]) {
                        self.cursor.take(Line { len, end });
                        continue;
                    }
                    let record = self.record(len, asides);
                    if self.splitter.cells.iter().any(|c| c.quoted) {
                        self.cursor.line += count_ends(&self.cursor.source.available()[..len]);
                    }
                    self.cursor.take(Line { len, end });
                    return Ok(Some(record));
                }
                Split::Unclosed { at } => {
                    let bytes = &self.cursor.source.available()[..at];
                    let before = count_ends(bytes);
                    let opens = self.cursor.line + before + 1;
                    let what = format!("the quote that opens at line {opens} does not close before a delimiter or a line end");
                    let from = bytes.iter().rposition(|b| matches!(b, b'\n' | b'\r')).map_or(0, |i| i + 1);
                    fill(&mut self.cursor.source, from);
                    let shown = first_line(&self.cursor.source.available()[from..]);
                    let record = self.bad(self.cursor.bad(&what, shown), head(shown));
                    self.cursor.source.consume(at);
                    self.cursor.line += before;
                    self.cursor.skip()?;
                    return Ok(Some(record));
                }
                Split::Long => {
                    let bytes = first_line(self.cursor.source.available());
                    let record = self.bad(self.cursor.bad("the record is longer than 1 MiB", bytes), head(bytes));
                    self.cursor.skip()?;
                    return Ok(Some(record));
                }
            }
        }
    }

    fn bad(&mut self, message: String, shown: String) -> InputRecord {
        self.cursor.row += 1;
        InputRecord { row: self.cursor.row, line: self.cursor.line + 1, columns: Columns::new(), body: Err(message), shown }
    }

    /// The record of `len` bytes at the front of the window, as the splitter has it.
    fn record(&mut self, len: usize, asides: &mut Asides) -> InputRecord {
        let bytes = &self.cursor.source.available()[..len];
        let text = match text_of(bytes) {
            Ok(text) => text,
            Err(what) => return self.bad(self.cursor.bad(what, bytes), head(bytes)),
        };
        let cells = &self.splitter.cells;
        let cell = |i: usize| cells.get(i).map_or(std::borrow::Cow::Borrowed(""), |c| c.text(text));
        let mut columns = Columns::with_capacity(self.carried.len());
        for (i, name) in self.carried.iter().zip(&self.names) {
            columns.insert(name.clone(), Value::String(cell(*i).into_owned()));
        }
        let body = if cells.len() > self.header.len() && cells[self.header.len()..].iter().any(|c| !c.is_empty()) {
            let what = format!("{} cells where the header has {}", cells.len(), self.header.len());
            Err(self.cursor.bad(&what, bytes))
        } else {
            let made = match &self.address {
                Address::Column(_) => Ok(self.places.first().map_or(String::new(), |(_, i)| trim_address(&cell(*i)).to_owned())),
                Address::Template(t) => t.render_url_with(|name| self.places.iter().find(|(n, _)| n == name).map(|(_, i)| cell(*i))),
            };
            made.map_err(|e: TemplateError| self.cursor.bad(&e.to_string(), bytes))
        };
        if cells.len() < self.header.len() {
            let (name, line) = (&self.cursor.name, self.cursor.line + 1);
            asides.warnings.push(("short-row", format!("{name}:{line}: {} cells where the header has {}", cells.len(), self.header.len())));
        }
        let shown = match (&body, &self.address) {
            (Ok(_), _) => String::new(),
            (Err(_), Address::Column(_)) => self.places.first().map_or(String::new(), |(_, i)| head(cell(*i).as_bytes())),
            (Err(_), Address::Template(_)) => head(bytes),
        };
        self.cursor.row += 1;
        InputRecord { row: self.cursor.row, line: self.cursor.line + 1, columns, body, shown }
    }
}

/// Bytes of a line that a message may want to quote.
const QUOTED: usize = 1000;

/// Brings what a message quotes of the line at `from` into the window. A failure is told to whoever needs more.
fn fill(source: &mut Source, from: usize) {
    let wants = |bytes: &[u8]| bytes.len() < QUOTED && !bytes.iter().any(|b| matches!(b, b'\n' | b'\r'));
    while wants(&source.available()[from..]) && source.more().unwrap_or(false) {}
}

/// Bytes up to the first line end.
fn first_line(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(QUOTED)];
    &bytes[..bytes.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(bytes.len())]
}

/// Passes over blank lines and `sep=X`, and tells how cells are told apart.
fn dialect_of(cursor: &mut Cursor, format: Format, asides: &mut Asides) -> Result<Dialect, InputError> {
    let own = if format == Format::Tsv { b'\t' } else { b',' };
    let spans = format == Format::Csv;
    loop {
        let Found::Line(line) = find_line(&mut cursor.source, 0)? else {
            return Ok(Dialect { delimiter: own, spans });
        };
        let bytes = &cursor.source.available()[..line.len];
        if bytes.trim_ascii().is_empty() {
            cursor.take(line);
            continue;
        }
        if let Some([delimiter]) = bytes.strip_prefix(b"sep=")
            && delimiter.is_ascii()
            && !delimiter.is_ascii_alphanumeric()
            && *delimiter != b'"'
        {
            let dialect = Dialect { delimiter: *delimiter, spans };
            cursor.take(line);
            return Ok(dialect);
        }
        let [commas, semicolons, tabs] = count_delimiters(&mut cursor.source)?;
        if format == Format::Csv && commas == 0 && semicolons + tabs > 0 {
            let (delimiter, name) = if semicolons >= tabs { (b';', "semicolons") } else { (b'\t', "tabs") };
            asides
                .notices
                .push(format!("{}: the header has {name} and no comma, so cells are read as separated by {name}", cursor.source.file));
            return Ok(Dialect { delimiter, spans });
        }
        return Ok(Dialect { delimiter: own, spans });
    }
}

/// Commas, semicolons and tabs outside of quotes in the record at the front.
fn count_delimiters(source: &mut Source) -> Result<[usize; 3], InputError> {
    loop {
        let (mut quoted, mut counts, mut ended, mut last) = (false, [0; 3], false, b',');
        for b in source.available() {
            match b {
                b'"' => quoted = !quoted && matches!(last, b',' | b';' | b'\t' | b'"'),
                _ if quoted => {}
                b',' => counts[0] += 1,
                b';' => counts[1] += 1,
                b'\t' => counts[2] += 1,
                b'\n' | b'\r' => {
                    ended = true;
                    break;
                }
                _ => {}
            }
            last = *b;
        }
        if ended || source.available().len() > MAX_RECORD || !source.more()? {
            return Ok(counts);
        }
    }
}

/// The header's cells; `None` where there is nothing but blank lines.
fn read_header(cursor: &mut Cursor, splitter: &mut Splitter) -> Result<Option<Vec<String>>, InputError> {
    let wrong =
        |cursor: &Cursor, what: &str| InputError::wrong(&cursor.source.file, format!("the header in line {} {what}", cursor.line + 1));
    loop {
        match splitter.split(&mut cursor.source)? {
            Split::End => return Ok(None),
            Split::Unclosed { .. } => return Err(wrong(cursor, "has a quote that does not close before a delimiter or a line end")),
            Split::Long => return Err(wrong(cursor, "is longer than 1 MiB")),
            Split::Row { len, end } => {
                let bytes = &cursor.source.available()[..len];
                if splitter.is_blank(bytes) {
                    cursor.take(Line { len, end });
                    continue;
                }
                if bytes.contains(&0) {
                    let message = format!("the header in line {} holds a NUL byte", cursor.line + 1);
                    return Err(InputError::hinted(&cursor.source.file, message, "if the file is UTF-16, save it as UTF-8"));
                }
                let Ok(text) = std::str::from_utf8(bytes) else {
                    return Err(InputError::hinted(
                        &cursor.source.file,
                        format!("the header in line {} is not valid UTF-8", cursor.line + 1),
                        "`encoding` is not yet supported: save the file as UTF-8",
                    ));
                };
                let header = splitter.cells.iter().map(|c| c.text(text).into_owned()).collect();
                let ends = count_ends(bytes);
                cursor.line += ends;
                cursor.take(Line { len, end });
                return Ok(Some(header));
            }
        }
    }
}
