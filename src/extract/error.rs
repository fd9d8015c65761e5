//! What can go wrong: at compile, in the job's words; at run, as the reason of a skipped record.

use crate::model::Reason;

/// One thing that is wrong with `[extract]`, `[crawl]`, `[pages]` or `[[response]]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct CompileError {
    /// Where it stands in the job: `extract.fields.title`, `crawl.follow[0]`, `pages.next`.
    pub key: String,
    /// Lowercase, names the text that cannot be read.
    pub message: String,
}

impl CompileError {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Why a page gave no rows: it becomes a skipped record, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExtractFailure {
    /// `too-deep`, `parse-timeout`, `bad-json`, `rows-missing` or `missing-field`.
    pub reason: Reason,
    /// For people; lowercase.
    pub message: String,
}

impl ExtractFailure {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(super) fn timeout(what: &str) -> Self {
        Self::new(Reason::ParseTimeout, format!("{what} took longer than the page's time"))
    }
}

/// `text` cut to 80 characters, control characters escaped, for messages.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
