//! Exactly one attempt on the wire: a request in, an [`Outcome`](crate::model::Outcome) out.
//!
//! ```text
//! Request ─ literal address checked ─ way out (proxy.rs) ─ client (client.rs) ─ send ─ headers ─ body (body.rs) ─ Answer
//!              policy.rs                                     │  names: dns.rs, policy.rs              decode.rs
//!                                                            └─ breaks: classify.rs ─ Failure
//! ```
//!
//! No redirect is followed, nothing is repeated, no cookie is kept, no content coding is undone by the client: what is on the wire is
//! what the gate let pass. A body that was cut is a [`Failure`](crate::model::Failure), never a short success.
//!
//! Time-outs, all of one attempt: `connect` (name, TCP, TLS), `first_byte` (from its start to the final headers), `idle` (between two
//! pieces of the body), `total`.

mod body;
mod classify;
mod client;
mod decode;
mod dns;
mod fetcher;
mod policy;
mod proxy;
mod sockets;
#[cfg(test)]
mod tests;
mod trip;

pub use fetcher::Fetcher;
pub use policy::{Policy, is_private};
pub use proxy::{ProxyRest, WayOut};
pub use trip::Stage;

use crate::model::plan::Timeouts;
use url::Url;

/// One request, ready for the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// Any method; the body of an answer to `HEAD` is empty.
    pub method: http::Method,
    /// http or https; sent as it is, without its fragment and userinfo.
    pub url: Url,
    /// Sent in this order. `Host`, `Accept` (`*/*`) and `Accept-Encoding` are added where they are missing.
    pub headers: http::HeaderMap,
    /// Sent with its length.
    pub body: Option<Vec<u8>>,
    /// The operator named this host: private addresses are allowed (link-local ones are not).
    pub named: bool,
    /// Must go on a new connection, because it must not be repeated: a pooled one may be dead already.
    pub fresh: bool,
    /// The repeat after `decode-error`: `Accept-Encoding: identity`.
    pub identity: bool,
    /// How much of the body is wanted.
    pub want: Want,
    /// By which proxies it goes, if by any.
    pub way: WayOut,
    /// Where they are not the plan's.
    pub timeouts: Option<Timeouts>,
    /// Told how far it comes.
    pub stage: Stage,
}

/// How much of a body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Whole where the plan accepts the status or may accept it, up to `max_body`; otherwise at most 64 KiB and 2 s of it.
    Accepted,
    /// Any 2xx, cut without an error after 512,000 bytes.
    Robots,
}

/// Why no fetcher could be made. Texts are lowercase and hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A proxy's address.
    #[error("{0}")]
    Proxy(String),
    /// `tls.ca_file`.
    #[error("ca_file: {0}")]
    CaFile(String),
    /// TLS itself.
    #[error("tls: {0}")]
    Tls(String),
    /// The resolver.
    #[error("resolver: {0}")]
    Resolver(String),
    /// The HTTP client.
    #[error("http client: {0}")]
    Client(String),
}
