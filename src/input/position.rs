//! Where reading stands, so that a resume goes on exactly there.

use serde::{Deserialize, Serialize};

/// Where a reader stands after the last record that it returned, and what is needed to know the file again.
///
/// Its size does not depend on the input's. A position belongs to the plan it was taken with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes consumed, decoded; of a list of addresses always 0.
    pub offset: u64,
    /// Records returned.
    pub row: u64,
    /// Line ends consumed.
    pub line: u64,
    /// The last consumed line had no line end: it may have been cut.
    pub(super) torn: bool,
    /// Records that told the columns of a JSONL input.
    pub(super) sampled: u64,
    /// The file as it was when it was opened; `None` for all that is no regular file.
    pub(super) file: Option<FileMark>,
    /// Hex blake3 of the up to 4 KiB before the offset.
    pub(super) mark: String,
    /// Hex link of the chain over the full 1 MiB blocks consumed.
    pub(super) link: String,
    /// Hex hash of everything consumed.
    pub(super) prefix: String,
}

/// A file's outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    /// Bytes on disk, not decoded.
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) inode: u64,
    /// Hex blake3 of its first 4 KiB.
    pub(super) head: String,
}
