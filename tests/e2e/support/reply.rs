//! What the origin does for one request: an answer, or bytes and silences step by step.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// One thing done to the connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes, as they are.
    Send(Vec<u8>),
    /// Silence.
    Wait(Duration),
    /// These bytes again and again, with this silence between, until the client leaves.
    Forever(Vec<u8>, Duration),
    /// RST.
    Reset,
    /// FIN.
    Close,
}

/// The end of one request as the server sees it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) delay: Duration,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    Script(Vec<Step>),
    /// `200` to a CONNECT, then bytes both ways.
    Tunnel(SocketAddr),
}

impl Reply {
    /// `200` with HTML.
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).header("Content-Type", "text/html; charset=utf-8").body(body)
    }

    /// `200` with JSON.
    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::status(200).header("Content-Type", "application/json").body(body.to_string())
    }

    /// An empty answer.
    pub(crate) fn status(status: u16) -> Self {
        Self { delay: Duration::ZERO, act: Act::Answer { status, headers: Vec::new(), body: Vec::new() } }
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("Location", location)
    }

    /// Step by step; the connection stays open for the next request if no step ends it.
    pub(crate) fn script(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { delay: Duration::ZERO, act: Act::Script(steps.into_iter().collect()) }
    }

    /// RST, no byte sent.
    pub(crate) fn reset() -> Self {
        Self::script([Step::Reset])
    }

    /// FIN, no byte sent.
    pub(crate) fn close() -> Self {
        Self::script([Step::Close])
    }

    /// These bytes, then FIN.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::script([Step::Send(bytes.into()), Step::Close])
    }

    /// Silence for longer than any test waits.
    pub(crate) fn hang() -> Self {
        Self::script([Step::Wait(Duration::from_secs(300)), Step::Close])
    }

    /// A body that ends before its declared length.
    pub(crate) fn cut(body: &str, missing: usize) -> Self {
        let declared = body.len() + missing;
        Self::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {declared}\r\n\r\n{body}"))
    }

    /// The head of a chunked answer, then these bytes as they are.
    pub(crate) fn chunked_raw(tail: &str, end: Step) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
        Self::script([Step::Send(format!("{head}{tail}").into_bytes()), end])
    }

    pub(crate) fn tunnel(to: SocketAddr) -> Self {
        Self { delay: Duration::ZERO, act: Act::Tunnel(to) }
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Act::Answer { headers, .. } = &mut self.act {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Act::Answer { body, .. } = &mut self.act {
            *body = bytes.into();
        }
        self
    }
}

/// The bytes of an answer in HTTP/1.1.
pub(crate) fn encode(method: &str, status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} {}\r\n", phrase(status)).into_bytes();
    let has = |n: &str| headers.iter().any(|(k, _)| k.eq_ignore_ascii_case(n));
    if !has("content-length") && !has("transfer-encoding") && status != 204 && status != 304 {
        out.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    for (k, v) in headers {
        out.extend(format!("{k}: {v}\r\n").as_bytes());
    }
    out.extend(b"\r\n");
    if method != "HEAD" && status != 204 && status != 304 {
        out.extend(body);
    }
    out
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Whatever",
    }
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// The `deflate` coding with its zlib header.
pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// The `deflate` coding without it.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// One zstd frame.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// The `br` coding.
pub(crate) fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ::brotli::CompressorWriter::new(&mut out, 4096, 3, 20).write_all(bytes).unwrap();
    out
}
