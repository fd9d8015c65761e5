//! What can go wrong, each with its exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a state and its sinks could not be opened. Nothing was changed, except where a recovery was under way.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another run holds the state folder or a sink.
    #[error("{} is in use{}", .what.display(), Owner(*.pid, .since.as_deref()))]
    InUse {
        /// The folder or file.
        what: PathBuf,
        /// Who.
        pid: Option<u32>,
        /// When it began, RFC 3339.
        since: Option<String>,
    },
    /// A later gleaner wrote the state.
    #[error("{} was written by a newer gleaner (format {found}, this one knows {known})", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database is not one of ours, or is damaged.
    #[error("{} is damaged or no state of gleaner: {detail}", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// The job changed where it may not.
    #[error("{key} is not what the earlier runs of this job had: it was {was}, it is {now}")]
    Frozen {
        /// Key of the job file.
        key: String,
        /// Then.
        was: String,
        /// Now.
        now: String,
    },
    /// Committed rows are gone.
    #[error("{} is {}: {records} committed records are gone from it", .path.display(), if *.missing { "missing" } else { "shorter than it was" })]
    SinkLost {
        /// The sink.
        path: PathBuf,
        /// How many records lie in what is gone (a torn one counts).
        records: u64,
        /// Whether the whole file is.
        missing: bool,
    },
    /// Committed rows are not what was written.
    #[error("{} was edited since the last run: its last committed bytes are not what was written", .path.display())]
    SinkEdited {
        /// The sink.
        path: PathBuf,
    },
    /// Someone appended after a clean stop.
    #[error("{} grew by {bytes} bytes since the last run, and not by gleaner", .path.display())]
    SinkGrown {
        /// The sink.
        path: PathBuf,
        /// By how much.
        bytes: u64,
    },
    /// The output is there and belongs to no state.
    #[error("{} is not empty and belongs to no state", .path.display())]
    SinkForeign {
        /// The sink.
        path: PathBuf,
    },
    /// The output is no plain file, or both outputs are one.
    #[error("{} cannot take rows: it is {what}", .path.display())]
    SinkKind {
        /// The sink.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Results go to standard output and there is none.
    #[error("standard output is closed, and the rows go there")]
    StdoutClosed,
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database refused.
    #[error("{}: {source}", .path.display())]
    Db {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// 73 in use, 74 I/O, 65 a state or sink that does not fit.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } => 73,
            Self::StdoutClosed | Self::Io { .. } | Self::Db { .. } => 74,
            _ => 65,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => Some("wait until the other run ends, or stop it"),
            Self::Newer { .. } => Some("update gleaner, or start over with --fresh, which renames what is there"),
            Self::Damaged { .. } => {
                Some("bring the state folder back from a backup, or start over with --fresh, which renames what is there")
            }
            Self::Frozen { .. } => Some("put the key back, or start over with --fresh, which renames what is there"),
            Self::SinkLost { .. } | Self::SinkEdited { .. } => {
                Some("bring the file back as it was, or start over with --fresh, which renames what is there")
            }
            Self::SinkGrown { .. } => Some("take out what was appended, or start over with --fresh, which renames what is there"),
            Self::SinkForeign { .. } => Some("move it away, or use --fresh, which renames it"),
            Self::SinkKind { .. } => Some("name another file in [output]"),
            Self::StdoutClosed => Some("name a file for them with -o FILE, or write > /dev/null where none are wanted"),
            Self::Io { .. } | Self::Db { .. } => None,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// A database error, told apart: damage is 65, a refusing system 74.
    pub(super) fn db(path: &Path) -> impl Fn(rusqlite::Error) -> Self + '_ {
        |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) | None => {
                Self::Damaged { path: path.to_owned(), detail: source.to_string() }
            }
            Some(_) => Self::Db { path: path.to_owned(), source },
        }
    }
}

struct Owner<'a>(Option<u32>, Option<&'a str>);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.0 {
            write!(f, " by process {pid}")?;
        }
        match self.1 {
            Some(since) => write!(f, " (started {since})"),
            None => Ok(()),
        }
    }
}

/// Why a running store failed. Every call after the first failure gives that failure again: nothing was committed since,
/// and the next run cuts the sinks back to the last commit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A sink could not be written or synced.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The sink.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The database could not be written.
    #[error("{}: {source}", .path.display())]
    Db {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Arc<rusqlite::Error>,
    },
    /// The sink's path does not lead to the file any more that the run writes.
    #[error("{} was removed or replaced while the run wrote it: {records} committed records are not there", .path.display())]
    SinkGone {
        /// The sink.
        path: PathBuf,
        /// How many were committed.
        records: u64,
    },
    /// Whoever read stdout is gone.
    #[error("stdout was closed")]
    StdoutClosed,
    /// A settle named an entry that is not leased: a mistake of the caller. Nothing of that settle was done, all others
    /// of its batch were; the store goes on.
    #[error("entry {0} is not leased")]
    NotLeased(i64),
    /// The store was closed before.
    #[error("the store is closed")]
    Closed,
    /// The writer thread ended without a word.
    #[error("the store's writer ended unexpectedly")]
    Gone,
}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::StdoutClosed => None,
            Self::SinkGone { .. } => Some("put the file back where it was and run the same command again, or gather anew with --fresh"),
            _ => Some("nothing committed is lost: free space or mend the disk, then run the same command again"),
        }
    }

    /// Whether the store goes on.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::NotLeased(_))
    }
}
