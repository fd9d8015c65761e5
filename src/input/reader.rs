//! The one reader over all sources.

use super::delimited::Delimited;
use super::error::InputError;
use super::format::{Format, format_of};
use super::json::Jsonl;
use super::lines::Cursor;
use super::listed::Listed;
use super::position::Position;
use super::source::Source;
use super::text::Text;
use crate::model::Columns;
use crate::model::plan::{Codec, InputPlan, InputSource};
use std::path::Path;

/// One record of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRecord {
    /// Number of the record, from 1: blank lines, comments and the header do not count, bad records do.
    pub row: u64,
    /// Physical line where it begins, from 1.
    pub line: u64,
    /// The columns that are carried; of a bad record as far as they could be read.
    pub columns: Columns,
    /// The address, its template filled in, trimmed; or a `bad-input` message that names file and line.
    pub body: Result<String, String>,
    /// Of a bad record: what could be read of it, 200 characters at most, safe for a terminal.
    pub shown: String,
}

/// What a reader found out beside its records.
#[derive(Debug, Default)]
pub(super) struct Asides {
    pub(super) notices: Vec<String>,
    pub(super) warnings: Vec<(&'static str, String)>,
}

/// Reads records, one after the other.
pub struct Reader {
    kind: Kind,
    asides: Asides,
}

enum Kind {
    Listed(Listed),
    Text(Box<Text>),
    Delimited(Box<Delimited>),
    Jsonl(Box<Jsonl>),
    /// Standard input that an earlier run read.
    Held(Position),
}

/// Opens the input, at its start or exactly after `resume`.
///
/// # Errors
/// [`InputError::Wrong`] where the file is missing, a folder, empty, of no known format, or its header does not fit the
/// template; [`InputError::Changed`] where it is not what `resume` was taken from; [`InputError::Io`] and
/// [`InputError::Torn`] where it cannot be read.
pub fn open(plan: &InputPlan, resume: Option<&Position>) -> Result<Reader, InputError> {
    let mut asides = Asides::default();
    let kind = match &plan.source {
        InputSource::Urls(urls) => Kind::Listed(Listed::new(urls.clone(), plan, resume)?),
        InputSource::Request => Kind::Listed(Listed::request(plan, resume)?),
        InputSource::Stdin => {
            if let Some(held) = resume {
                asides.notices.push(format!("stdin is not read again: the {} records that were read of it are held", held.row));
                Kind::Held(held.clone())
            } else {
                Kind::Text(Box::new(Text::new(Cursor::new(Source::stdin()), plan)?))
            }
        }
        InputSource::File(path) => open_file(path, plan, resume, &mut asides)?,
    };
    Ok(Reader { kind, asides })
}

fn open_file(path: &Path, plan: &InputPlan, resume: Option<&Position>, asides: &mut Asides) -> Result<Kind, InputError> {
    let file = crate::model::printable(&path.to_string_lossy());
    let kind = std::fs::metadata(path).map(|m| m.file_type());
    if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
        return Err(InputError::wrong(&file, "is a folder, not a file"));
    }
    // To open a pipe without a writer would wait forever.
    if let (Some(position), Ok(kind)) = (resume, kind)
        && !kind.is_file()
    {
        let what = "it is no regular file, so what was read cannot be found again".to_owned();
        return Err(InputError::Changed { file, row: position.row, what });
    }
    let (format, codec) = format_of(&file)?;
    // Where no record was returned, a header may not have been there yet either.
    let resume = resume.filter(|p| p.row > 0);
    let ahead = resume.map(|position| go_on(path, &file, codec, position, asides)).transpose()?;
    let open = || Source::open(path, &file, codec).map(Cursor::new);
    Ok(match format {
        Format::Text => {
            let mut cursor = match ahead {
                Some(cursor) => cursor,
                None => open()?,
            };
            if cursor.source.offset() == 0 {
                cursor.start()?;
            }
            Kind::Text(Box::new(Text::new(cursor, plan)?))
        }
        Format::Csv | Format::Tsv => {
            let mut reader = Delimited::open(open()?, format, plan, asides)?;
            if let Some(cursor) = ahead {
                reader.cursor = cursor;
            }
            Kind::Delimited(Box::new(reader))
        }
        Format::Jsonl => {
            let mut reader = Jsonl::open(open()?, plan, resume.map_or(0, |p| p.sampled), asides)?;
            if let Some(cursor) = ahead {
                reader.cursor = cursor;
            }
            Kind::Jsonl(Box::new(reader))
        }
    })
}

/// A cursor right after `position`.
fn go_on(path: &Path, file: &str, codec: Codec, position: &Position, asides: &mut Asides) -> Result<Cursor, InputError> {
    let mut source = Source::open(path, file, codec)?;
    asides.notices.extend(source.go_on(position)?);
    let mut cursor = Cursor::new(source);
    (cursor.row, cursor.line, cursor.torn) = (position.row, position.line, position.torn);
    Ok(cursor)
}

impl Reader {
    /// Names of the carried columns, in order: a header's, or the keys of the first 100 JSONL records; none of a list.
    pub fn columns(&self) -> &[String] {
        match &self.kind {
            Kind::Delimited(r) => r.columns(),
            Kind::Jsonl(r) => r.columns(),
            Kind::Listed(_) | Kind::Text(_) | Kind::Held(_) => &[],
        }
    }

    /// Whether the columns are those of the first records only.
    pub fn is_sampled(&self) -> bool {
        matches!(self.kind, Kind::Jsonl(_))
    }

    /// What the operator should know once, as lowercase sentences; taken.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asides.notices)
    }

    /// Counted warnings (`short-row`, `late-column`), each occurrence once, with its place; taken. Take them as often as
    /// records: they are held until then.
    pub fn warnings(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.asides.warnings)
    }

    /// The next record; `None` at the end. A record that cannot be read is one whose body is a message.
    ///
    /// # Errors
    /// [`InputError::Io`] and [`InputError::Torn`]: every whole record before was returned, and asking again tells it
    /// again.
    #[allow(clippy::should_implement_trait, reason = "it can fail, and ends with the input")]
    pub fn next(&mut self) -> Result<Option<InputRecord>, InputError> {
        match &mut self.kind {
            Kind::Listed(r) => Ok(r.next()),
            Kind::Text(r) => r.next(),
            Kind::Delimited(r) => r.next(&mut self.asides),
            Kind::Jsonl(r) => r.next(&mut self.asides),
            Kind::Held(_) => Ok(None),
        }
    }

    /// Where reading stands: after the last record returned. Hashes 20 KiB at most and reads nothing.
    pub fn position(&self) -> Position {
        let (cursor, sampled) = match &self.kind {
            Kind::Listed(r) => return Position { row: r.row(), line: r.row(), ..Position::default() },
            Kind::Held(position) => return position.clone(),
            Kind::Text(r) => (&r.cursor, 0),
            Kind::Delimited(r) => (&r.cursor, 0),
            Kind::Jsonl(r) => (&r.cursor, r.sampled()),
        };
        let mut position = Position { row: cursor.row, line: cursor.line, torn: cursor.torn, sampled, ..Position::default() };
        cursor.source.mark(&mut position);
        position
    }

    #[cfg(test)]
    fn source(&self) -> Option<&Source> {
        match &self.kind {
            Kind::Text(r) => Some(&r.cursor.source),
            Kind::Delimited(r) => Some(&r.cursor.source),
            Kind::Jsonl(r) => Some(&r.cursor.source),
            Kind::Listed(_) | Kind::Held(_) => None,
        }
    }

    /// Memory of the window.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.source().map_or(0, Source::held)
    }

    /// Decoded bytes asked of the source so far.
    #[cfg(test)]
    pub(super) fn read_bytes(&self) -> u64 {
        self.source().map_or(0, |s| s.offset() + s.available().len() as u64)
    }
}
