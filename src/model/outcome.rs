//! What one attempt on the wire gave.

use crate::clock::Moment;
use crate::model::Reason;
use std::net::SocketAddr;

/// One attempt's end.
#[derive(Debug)]
pub enum Outcome {
    /// Final response headers came, and the body as far as it was wanted.
    Answer(Answer),
    /// No whole answer.
    Failure(Failure),
}

/// A whole answer. A body that was cut is never one.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200 to 999; never 1xx.
    pub status: u16,
    /// As received, names in lower case.
    pub headers: http::HeaderMap,
    /// Decoded content. Whole where the status is accepted or may be by a rule of the job; at most 64 KiB, maybe cut, where it is
    /// not; empty for redirects.
    pub body: Vec<u8>,
    /// When the final response headers were in: what the limiter counts from.
    pub headers_at: Moment,
    /// Who answered; `None` through a proxy of unknown address.
    pub remote: Option<SocketAddr>,
    /// The connection had served an earlier request.
    pub reused: bool,
    /// Bytes of the body on the wire, before decoding.
    pub wire_bytes: u64,
    /// Oddities worth a counted warning, as stable codes (`unknown-coding`, `length-unknown`).
    pub warnings: Vec<&'static str>,
}

impl Answer {
    /// The header's value as text where it is visible ASCII or UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| std::str::from_utf8(v.as_bytes()).ok())
    }
}

/// How far a request came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No byte of it can have reached a server: repeating is always safe, and the limiter frees its permit.
    No,
    /// It was, or may have been, written to a connection.
    Maybe,
}

/// An attempt without a whole answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What happened.
    pub reason: Reason,
    /// Lowercase, names host or size, holds no secret and no control character.
    pub message: String,
    /// Whether a server may have seen it.
    pub sent: Sent,
    /// The connection had served an earlier request: a break before any answer byte is then free once.
    pub reused: bool,
    /// Status, where headers had come.
    pub status: Option<u16>,
    /// When final headers came, if they did.
    pub headers_at: Option<Moment>,
    /// Who was connected, where known.
    pub remote: Option<SocketAddr>,
    /// The answer's `Retry-After` may still count where the body broke.
    pub headers: Option<Box<http::HeaderMap>>,
}

impl Failure {
    /// A failure before anything was sent.
    #[must_use]
    pub fn unsent(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), sent: Sent::No, reused: false, status: None, headers_at: None, remote: None, headers: None }
    }
}
