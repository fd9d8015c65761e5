//! Records of delimited text as RFC 4180 and the contract read them.
//!
//! The `csv` crate is not used here: a quote that never closes has to give back all lines but its own, a record has a
//! cap, and a resume needs the byte where each record ends.

use super::error::InputError;
use super::lines::{Found, MAX_RECORD, find_line, line_end};
use super::source::Source;
use std::borrow::Cow;

/// How cells are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    /// Quoted cells may hold delimiters and line ends (CSV); else a quote counts only where it closes within its cell (TSV).
    pub(super) spans: bool,
}

/// A cell: the bytes between its delimiters or quotes, from the front of the record.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) quoted: bool,
    /// Holds doubled quotes.
    doubled: bool,
}

impl Cell {
    /// Its text.
    pub(super) fn text<'r>(&self, record: &'r str) -> Cow<'r, str> {
        let raw = &record[self.from..self.to];
        if self.doubled { Cow::Owned(raw.replace("\"\"", "\"")) } else { Cow::Borrowed(raw) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

/// What stands at the front of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// A record, its cells in the splitter: bytes without and with its line end.
    Row { len: usize, end: usize },
    /// The quote at this byte does not close before a delimiter or a line's end.
    Unclosed { at: usize },
    /// More than [`MAX_RECORD`] bytes.
    Long,
    /// Nothing more.
    End,
}

/// Splits the record at the front of a window; its buffers are used again.
pub(super) struct Splitter {
    dialect: Dialect,
    pub(super) cells: Vec<Cell>,
    state: State,
    /// Next byte to look at.
    at: usize,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Plain { from: usize },
    Quoted { open: usize, doubled: bool },
    Closed { open: usize, close: usize, doubled: bool },
}

enum Step {
    Need,
    Stop(usize),
    Unclosed(usize),
}

impl Splitter {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, cells: Vec::new(), state: State::Start, at: 0 }
    }

    /// Finds the record at the front of the window, without passing over it.
    ///
    /// # Errors
    /// As [`Source::more`].
    pub(super) fn split(&mut self, source: &mut Source) -> Result<Split, InputError> {
        self.cells.clear();
        if !self.dialect.spans {
            return self.split_line(source);
        }
        (self.state, self.at) = (State::Start, 0);
        let mut last = false;
        loop {
            match self.step(source.available(), last) {
                Step::Stop(len) if len > MAX_RECORD => return Ok(Split::Long),
                Step::Stop(0) if source.available().is_empty() => return Ok(Split::End),
                Step::Stop(len) if len == source.available().len() => return Ok(Split::Row { len, end: len }),
                Step::Stop(len) => return Ok(Split::Row { len, end: len + line_end(source, len) }),
                Step::Unclosed(at) => return Ok(Split::Unclosed { at }),
                Step::Need if source.available().len() > MAX_RECORD => {
                    return Ok(match self.state {
                        State::Quoted { open, .. } | State::Closed { open, .. } => Split::Unclosed { at: open },
                        _ => Split::Long,
                    });
                }
                Step::Need => last = !source.more()?,
            }
        }
    }

    /// Goes on in `bytes`, of which all before `self.at` were seen. `last`: no more will come.
    fn step(&mut self, bytes: &[u8], last: bool) -> Step {
        let delimiter = self.dialect.delimiter;
        loop {
            match self.state {
                State::Start => match bytes.get(self.at) {
                    None if !last => return Step::Need,
                    Some(b'"') => {
                        self.state = State::Quoted { open: self.at, doubled: false };
                        self.at += 1;
                    }
                    _ => self.state = State::Plain { from: self.at },
                },
                State::Plain { from } => {
                    let stop = bytes[self.at..].iter().position(|b| *b == delimiter || matches!(b, b'\n' | b'\r'));
                    let Some(stop) = stop.map(|i| self.at + i) else {
                        self.at = bytes.len();
                        if !last {
                            return Step::Need;
                        }
                        self.cells.push(Cell { from, to: self.at, quoted: false, doubled: false });
                        return Step::Stop(self.at);
                    };
                    self.cells.push(Cell { from, to: stop, quoted: false, doubled: false });
                    if bytes[stop] != delimiter {
                        return Step::Stop(stop);
                    }
                    (self.state, self.at) = (State::Start, stop + 1);
                }
                State::Quoted { open, doubled } => {
                    let Some(quote) = bytes[self.at..].iter().position(|b| *b == b'"').map(|i| self.at + i) else {
                        self.at = bytes.len();
                        return if last { Step::Unclosed(open) } else { Step::Need };
                    };
                    self.at = quote;
                    match bytes.get(quote + 1) {
                        None if !last => return Step::Need,
                        Some(b'"') => {
                            self.state = State::Quoted { open, doubled: true };
                            self.at = quote + 2;
                        }
                        _ => {
                            self.state = State::Closed { open, close: quote, doubled };
                            self.at = quote + 1;
                        }
                    }
                }
                State::Closed { open, close, doubled } => {
                    let cell = Cell { from: open + 1, to: close, quoted: true, doubled };
                    match bytes.get(self.at) {
                        None if !last => return Step::Need,
                        Some(b) if *b == delimiter => {
                            self.cells.push(cell);
                            self.state = State::Start;
                            self.at += 1;
                        }
                        None | Some(b'\n' | b'\r') => {
                            self.cells.push(cell);
                            return Step::Stop(self.at);
                        }
                        Some(b' ' | b'\t') => self.at += 1,
                        Some(_) => return Step::Unclosed(open),
                    }
                }
            }
        }
    }

    fn split_line(&mut self, source: &mut Source) -> Result<Split, InputError> {
        let line = match find_line(source, 0)? {
            Found::Line(line) => line,
            Found::Long => return Ok(Split::Long),
            Found::End => return Ok(Split::End),
        };
        let mut from = 0;
        for raw in source.available()[..line.len].split(|b| *b == self.dialect.delimiter) {
            let to = from + raw.len();
            self.cells.push(match closed(raw) {
                Some(doubled) => Cell { from: from + 1, to: to - 1, quoted: true, doubled },
                None => Cell { from, to, quoted: false, doubled: false },
            });
            from = to + 1;
        }
        Ok(Split::Row { len: line.len, end: line.end })
    }

    /// Delimiters only, or white space only.
    pub(super) fn is_blank(&self, record: &[u8]) -> bool {
        match self.cells.as_slice() {
            [one] => !one.quoted && record.trim_ascii().is_empty(),
            cells => cells.iter().all(|c| c.is_empty() && !c.quoted),
        }
    }
}

/// Whether a cell is quoted from its first byte to its last, and then whether it holds doubled quotes.
fn closed(raw: &[u8]) -> Option<bool> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut quotes = inner.split(|b| *b == b'"');
    // Quotes stand in pairs: every second piece between quotes is empty.
    let mut doubled = false;
    quotes.next();
    while let Some(between) = quotes.next() {
        if !between.is_empty() {
            return None;
        }
        quotes.next()?;
        doubled = true;
    }
    Some(doubled)
}
