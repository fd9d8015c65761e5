//! What can go wrong, each with its exit code.

use std::io;
use std::path::{Path, PathBuf};

/// Why a budget could not be used. Nothing was granted and nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// There is no folder to keep budgets in.
    #[error("no folder for budgets: neither XDG_STATE_HOME nor HOME is set to an absolute path")]
    NoHome,
    /// A name that is no file name.
    #[error("{0:?} is no name of a budget: use letters, digits, '-', '_' and '.', at most 64, the first a letter or digit")]
    Name(String),
    /// Nothing is known of it.
    #[error("there is no budget {0:?}")]
    Unknown(String),
    /// Living processes spend from it.
    #[error("budget {name:?} is in use by {}", Pids(.pids))]
    InUse {
        /// The budget.
        name: String,
        /// Who, where it can be told.
        pids: Vec<u32>,
    },
    /// Processes of another machine, or of another start of this one, hold it now.
    #[error("{} is in use on another machine", .path.display())]
    Elsewhere {
        /// The database.
        path: PathBuf,
    },
    /// A file system that several machines share.
    #[error("{} is on a network file system: a budget is of one machine", .path.display())]
    Network {
        /// The folder.
        path: PathBuf,
    },
    /// A later gleaner wrote it.
    #[error("{} was written by a newer gleaner (format {found}, this one knows {known})", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It is not one of ours, or is damaged.
    #[error("{} is damaged or no budget of gleaner: {detail}", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The machine tells no boot id.
    #[error("the clock of this machine cannot be told from that of another start")]
    Clock,
    /// The system refused.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot use {}", .path.display())]
    Db {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl BudgetError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn db(path: &Path) -> impl Fn(rusqlite::Error) -> Self + '_ {
        |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path: path.to_owned(), detail: source.to_string() }
            }
            _ => Self::Db { path: path.to_owned(), source },
        }
    }

    /// By the contract.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } | Self::Elsewhere { .. } => 73,
            Self::Io { .. } | Self::Db { .. } | Self::Clock => 74,
            _ => 65,
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHome => Some("set XDG_STATE_HOME or HOME, or leave out [limits] budget".into()),
            Self::Network { .. } => Some("set XDG_STATE_HOME to a folder on a local disk".into()),
            Self::Damaged { path, .. } => {
                path.file_stem().map(|n| format!("forget what was spent with: gleaner budget clear {}", n.to_string_lossy()))
            }
            Self::InUse { .. } => Some("stop them first; what they spend would be forgotten".into()),
            _ => None,
        }
    }

    /// Whether another process was writing for longer than is waited; the same call may succeed later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Db { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy))
    }
}

struct Pids<'a>(&'a [u32]);

impl std::fmt::Display for Pids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self.0.iter().map(u32::to_string).collect();
        match shown.as_slice() {
            [] => f.write_str("another process"),
            [one] => write!(f, "pid {one}"),
            many => write!(f, "pids {}", many.join(", ")),
        }
    }
}
