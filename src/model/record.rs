//! The rows that leave gleaner, before they are encoded for a sink.

use crate::clock::Wall;
use crate::model::{Class, Reason};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of an entry in the frontier, from 1, in the order of its offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId(pub i64);

/// The input's own columns in their order; text for CSV and TSV, any JSON for JSONL.
pub type Columns = serde_json::Map<String, Value>;

/// The column in which an entry of a list without columns has its address as listed, where the request asks for it as
/// `{{url}}` (the address itself may be made by a template). No input can have it, and no output gets it.
pub const LISTED: &str = "\0url";

/// The `_` columns that a result row can carry, the first six by default (`[output] meta`).
pub const META_COLUMNS: &[&str] = &["_row", "_url", "_final_url", "_status", "_fetched_at", "_attempts", "_via", "_depth"];

/// One result row: columns, fields, then meta.
#[derive(Clone, Debug)]
pub struct ResultRow<'a> {
    /// Columns of the input record.
    pub columns: &'a Columns,
    /// Extracted fields in the job's order; `Null` where a field gave nothing.
    pub fields: &'a [(String, Value)],
    /// Number of the input record, from 1.
    pub row: u64,
    /// The address as asked: as listed, trimmed, its template filled in.
    pub url: &'a str,
    /// After redirects; of a paged row the page's own address.
    pub final_url: &'a str,
    /// Status of the page.
    pub status: u16,
    /// When the answer's headers came.
    pub fetched_at: Wall,
    /// Charged tries.
    pub attempts: u32,
    /// Address of the page that linked here.
    pub via: Option<&'a str>,
    /// Links from the seed.
    pub depth: u32,
}

/// One attempt as the skipped record lists it. Uncharged ones are listed too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// From 1, over charged and uncharged ones.
    pub n: u32,
    /// RFC 3339, UTC, milliseconds.
    pub start: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// `ok`, or the reason's code.
    pub outcome: String,
    /// Status where headers came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Milliseconds waited since the attempt before it ended.
    #[serde(default)]
    pub wait_ms: u64,
    /// False for a refusal, a free repeat or a local shortage.
    pub charged: bool,
}

/// One skipped record: the second output.
#[derive(Clone, Debug)]
pub struct SkippedRecord<'a> {
    /// Columns of the input record, as far as it could be read.
    pub columns: &'a Columns,
    /// Number of the input record, from 1.
    pub row: u64,
    /// The address as asked, or as much of a bad record as could be read.
    pub url: &'a str,
    /// Stable code.
    pub reason: Reason,
    /// Its class.
    pub class: Class,
    /// Last status seen.
    pub status: Option<u16>,
    /// For people; lowercase, masks secrets.
    pub message: &'a str,
    /// The last 50 at most.
    pub attempts: &'a [AttemptRecord],
    /// Where it may be tried again: not before this.
    pub next_at: Option<Wall>,
    /// Of a `duplicate`: the record that came first.
    pub first_row: Option<u64>,
}
