//! Why an input cannot be read, or not any further.

use crate::model::printable;
use std::io;

/// Why an input cannot be read. A record that cannot be read is no such error: it is an [`InputRecord`] with its message.
///
/// [`InputRecord`]: super::InputRecord
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Missing, a folder, empty, of an unknown format, with a wrong header: what the operator gave does not fit.
    #[error("{file}: {message}")]
    Wrong {
        /// The file as it was named.
        file: String,
        /// What is wrong, lowercase.
        message: String,
        /// What helps, where something does.
        hint: Option<String>,
    },
    /// The template of the address names a column that the input does not have.
    #[error("{file}: {message}")]
    Template {
        /// The file as it was named.
        file: String,
        /// Which column, and which there are.
        message: String,
        /// What helps, where something does.
        hint: Option<String>,
    },
    /// The operating system failed to read.
    #[error("{file}: cannot be read at offset {offset}: {cause}")]
    Io {
        /// The file as it was named.
        file: String,
        /// Decoded bytes read before.
        offset: u64,
        /// What it said.
        cause: io::Error,
    },
    /// A compressed file that ends too early or holds something else. Records before the offset were returned.
    #[error("{file}: the compressed data is torn or damaged after {offset} decoded bytes: {cause}")]
    Torn {
        /// The file as it was named.
        file: String,
        /// Decoded bytes before the tear.
        offset: u64,
        /// What the decoder said.
        cause: io::Error,
    },
    /// What was read in an earlier run is no longer what stands there.
    #[error("{file}: changed since it was read up to record {row}: {what}")]
    Changed {
        /// The file as it was named.
        file: String,
        /// Records read before.
        row: u64,
        /// What changed, lowercase.
        what: String,
    },
}

impl InputError {
    pub(super) fn wrong(file: &str, message: impl Into<String>) -> Self {
        Self::Wrong { file: file.to_owned(), message: message.into(), hint: None }
    }

    pub(super) fn hinted(file: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Wrong { file: file.to_owned(), message: message.into(), hint: Some(hint.into()) }
    }

    /// Whether the machine failed (exit 74) and not the input (exit 65).
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Wrong { hint, .. } | Self::Template { hint, .. } => hint.as_deref(),
            Self::Io { .. } => None,
            Self::Torn { .. } => Some("the rows made so far stay: put the whole file in its place and run the same command again"),
            Self::Changed { .. } => Some("restore the file as it was, or start over with --fresh (nothing that was gathered is deleted)"),
        }
    }
}

/// What a failure to decode or to read becomes: decoders make their errors without an OS code.
pub(super) fn read_error(file: &str, offset: u64, compressed: bool, cause: io::Error) -> InputError {
    let file = file.to_owned();
    if compressed && cause.raw_os_error().is_none() {
        InputError::Torn { file, offset, cause }
    } else {
        InputError::Io { file, offset, cause }
    }
}

/// The first 200 characters of what was read, made safe for a terminal.
pub(super) fn head(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(800)];
    let text = printable(&String::from_utf8_lossy(bytes));
    text.char_indices().nth(200).map_or(text.as_str(), |(i, _)| &text[..i]).to_owned()
}
