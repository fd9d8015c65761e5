//! Physical lines at the front of a source's window.

use super::error::{InputError, head};
use super::source::Source;

/// Bytes of a record at most.
pub(super) const MAX_RECORD: usize = 1 << 20;

/// A line in the window, from where it was looked for.
#[derive(Clone, Copy)]
pub(super) struct Line {
    /// Without its line end.
    pub(super) len: usize,
    /// With it.
    pub(super) end: usize,
}

impl Line {
    /// Whether it has a line end, or the input ended first.
    pub(super) fn ended(self) -> bool {
        self.end > self.len
    }
}

/// What stands at a place of the window.
pub(super) enum Found {
    /// A whole line.
    Line(Line),
    /// A line of more than [`MAX_RECORD`] bytes; not all of it is in the window.
    Long,
    /// Nothing more.
    End,
}

/// The line that begins `at` bytes after the front of the window. CR, LF and CRLF end lines.
///
/// # Errors
/// As [`Source::more`].
pub(super) fn find_line(source: &mut Source, at: usize) -> Result<Found, InputError> {
    let mut seen = at;
    loop {
        let bytes = source.available();
        if let Some(i) = find_end(&bytes[seen..]) {
            let stop = seen + i;
            if stop - at > MAX_RECORD {
                return Ok(Found::Long);
            }
            let end = stop + line_end(source, stop);
            return Ok(Found::Line(Line { len: stop - at, end: end - at }));
        }
        seen = bytes.len();
        if seen - at > MAX_RECORD {
            return Ok(Found::Long);
        }
        if !source.more()? {
            return Ok(if seen == at { Found::End } else { Found::Line(Line { len: seen - at, end: seen - at }) });
        }
    }
}

/// Length of the line end at `stop`: a LF after a CR belongs to it. A failure to read on is told to whoever needs more.
pub(super) fn line_end(source: &mut Source, stop: usize) -> usize {
    if source.available()[stop] == b'\n' {
        return 1;
    }
    if stop + 1 == source.available().len() {
        source.more().unwrap_or(false);
    }
    if source.available().get(stop + 1) == Some(&b'\n') { 2 } else { 1 }
}

/// Passes over the line at the front without holding it; false where it had no line end.
///
/// # Errors
/// As [`Source::more`].
pub(super) fn skip_line(source: &mut Source) -> Result<bool, InputError> {
    loop {
        let bytes = source.available();
        if let Some(stop) = find_end(bytes) {
            let end = line_end(source, stop);
            source.consume(stop + end);
            return Ok(true);
        }
        let all = bytes.len();
        source.consume(all);
        if !source.more()? {
            return Ok(false);
        }
    }
}

/// Where the first CR or LF stands.
fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| matches!(b, b'\n' | b'\r'))
}

/// How many line ends stand in a record of several lines.
pub(super) fn count_ends(bytes: &[u8]) -> u64 {
    let mut ends = 0;
    let mut last = 0;
    for b in bytes {
        ends += u64::from(*b == b'\r' || (*b == b'\n' && last != b'\r'));
        last = *b;
    }
    ends
}

/// Where reading stands in a source, in the operator's terms.
pub(super) struct Cursor {
    pub(super) source: Source,
    /// File name for messages about records.
    pub(super) name: String,
    /// Records so far.
    pub(super) row: u64,
    /// Line ends so far.
    pub(super) line: u64,
    /// The last line had no line end.
    pub(super) torn: bool,
}

impl Cursor {
    pub(super) fn new(source: Source) -> Self {
        let name = source.file.rsplit('/').next().unwrap_or(&source.file).to_owned();
        Self { source, name: crate::model::printable(&name), row: 0, line: 0, torn: false }
    }

    /// Passes over a byte order mark.
    ///
    /// # Errors
    /// One of UTF-16, or as [`Source::more`].
    pub(super) fn start(&mut self) -> Result<(), InputError> {
        while self.source.available().len() < 3 && self.source.more()? {}
        match self.source.available() {
            [0xef, 0xbb, 0xbf, ..] => self.source.consume(3),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(InputError::hinted(&self.source.file, "is UTF-16, which is not yet read", "save the file as UTF-8"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Passes over a line in the window.
    pub(super) fn take(&mut self, line: Line) {
        self.source.consume(line.end);
        self.line += u64::from(line.ended());
        self.torn = !line.ended();
    }

    /// Passes over a line, however long.
    ///
    /// # Errors
    /// As [`Source::more`].
    pub(super) fn skip(&mut self) -> Result<(), InputError> {
        let ended = skip_line(&mut self.source)?;
        self.line += u64::from(ended);
        self.torn = !ended;
        Ok(())
    }

    /// A `bad-input` message about the record that begins in the current line.
    pub(super) fn bad(&self, what: &str, record: &[u8]) -> String {
        format!("{}:{}: {what}: \"{}\"", self.name, self.line + 1, head(record))
    }
}

/// Why the bytes of a record are no text, or the text.
pub(super) fn text_of(record: &[u8]) -> Result<&str, &'static str> {
    if record.contains(&0) {
        return Err("the record holds a NUL byte");
    }
    std::str::from_utf8(record).map_err(|_| "the record is not valid UTF-8")
}
