//! What every end-to-end test stands on: a scripted origin, a job in a folder of its own, the real binary as a process,
//! and strict readers of what it wrote.

pub(crate) mod job;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod reply;
pub(crate) mod sinks;
pub(crate) mod wire;

pub(crate) use job::Job;
pub(crate) use origin::{Origin, Req};
pub(crate) use process::Gleaner;
pub(crate) use reply::{Reply, Step};
pub(crate) use sinks::{Record, read};

use std::time::Duration;

/// Milliseconds, short.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A small HTML page whose heading is `title`.
pub(crate) fn page(title: &str) -> String {
    format!("<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>")
}

/// The part of `path` after its last slash, as a number.
pub(crate) fn number(path: &str) -> usize {
    path.rsplit('/').next().and_then(|t| t.split('?').next()).and_then(|t| t.parse().ok()).unwrap_or(0)
}
