//! Content codings (RFC 9110 section 8.4), undone chunk by chunk under caps. Pure: bytes in, bytes out.

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// More codings than this around one body are an attack.
const MAX_CODINGS: usize = 2;
/// Decoded bytes before the ratio counts.
const RATIO_FROM: usize = 1 << 20;
/// Decoded bytes for each byte on the wire.
const RATIO: u64 = 200;
/// RFC 9659 section 3: windows of at most 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
const SCRATCH: usize = 32 << 10;

/// A coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Why decoding stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The decoded length passes the cap; the output holds exactly the cap.
    Full,
    /// It grows faster than 200 to 1.
    Ratio,
    /// The coding is broken: what and how.
    Broken(String),
}

/// The codings of a head in the order they were applied, and whether a token was unknown (taken as identity).
///
/// # Errors
/// Text, where there are more than two.
pub(super) fn codings(headers: &HeaderMap) -> Result<(Vec<Coding>, bool), String> {
    let mut found = Vec::new();
    let mut unknown = false;
    for value in headers.get_all(CONTENT_ENCODING) {
        for token in value.as_bytes().split(|&b| b == b',') {
            let token = token.trim_ascii();
            let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if token.is_empty() || is("identity") => {}
                () if is("gzip") || is("x-gzip") => found.push(Coding::Gzip),
                () if is("deflate") => found.push(Coding::Deflate),
                () if is("br") => found.push(Coding::Brotli),
                () if is("zstd") => found.push(Coding::Zstd),
                () => unknown = true,
            }
        }
    }
    if found.len() > MAX_CODINGS {
        return Err(format!("{} content codings around one body, more than {MAX_CODINGS}", found.len()));
    }
    Ok((found, unknown))
}

/// A body on its way in: wire bytes are pushed, decoded bytes come out, never more than the cap.
pub(super) struct Decoder {
    out: Vec<u8>,
    cap: usize,
    wire: u64,
    /// Outermost first: the last applied coding is undone first.
    stages: Vec<Stage>,
    scratch: Vec<u8>,
    /// Decoded bytes between two codings, which the cap bounds too.
    between: u64,
}

impl Decoder {
    /// `hint`: the length to expect where the head tells, in bytes.
    pub(super) fn new(codings: &[Coding], cap: usize, hint: usize) -> Self {
        let room = if codings.is_empty() { hint.min(cap) } else { hint.saturating_mul(3).min(cap).min(1 << 20) };
        Self {
            out: Vec::with_capacity(room),
            cap,
            wire: 0,
            stages: codings.iter().rev().map(|c| Stage::new(*c)).collect(),
            scratch: Vec::new(),
            between: 0,
        }
    }

    /// Bytes pushed so far.
    pub(super) fn wire(&self) -> u64 {
        self.wire
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    /// [`Trouble`]; nothing may be pushed after it.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Trouble> {
        self.wire += chunk.len() as u64;
        if self.stages.is_empty() {
            let room = self.cap - self.out.len();
            self.out.extend_from_slice(&chunk[..chunk.len().min(room)]);
            return if chunk.len() > room { Err(Trouble::Full) } else { Ok(()) };
        }
        self.decode(chunk)
    }

    fn decode(&mut self, mut chunk: &[u8]) -> Result<(), Trouble> {
        let (first, rest) = self.stages.split_at_mut(1);
        let Some(second) = rest.first_mut() else {
            return drain(&mut first[0], chunk, &mut self.out, self.cap, self.wire);
        };
        if self.scratch.capacity() == 0 {
            self.scratch.reserve_exact(SCRATCH);
        }
        loop {
            self.scratch.clear();
            let used = first[0].step(chunk, &mut self.scratch)?;
            chunk = &chunk[used..];
            self.between += self.scratch.len() as u64;
            if self.between > self.cap as u64 {
                return Err(Trouble::Full);
            }
            drain(second, &self.scratch, &mut self.out, self.cap, self.wire)?;
            if self.scratch.is_empty() && (used == 0 || chunk.is_empty()) {
                return Ok(());
            }
        }
    }

    /// What is there by now, whole or not.
    pub(super) fn cut(self) -> Vec<u8> {
        self.out
    }

    /// The end of the body: the content, and whether bytes came after the coding's own end (they are ignored).
    ///
    /// # Errors
    /// [`Trouble::Broken`] where a coding has not ended.
    pub(super) fn finish(self) -> Result<(Vec<u8>, bool), Trouble> {
        let mut junk = false;
        if self.wire > 0 {
            for stage in &self.stages {
                if !stage.ended() {
                    return Err(Trouble::Broken(format!("{} stream ends early", stage.name())));
                }
                junk |= stage.junk;
            }
        }
        Ok((self.out, junk))
    }
}

/// Runs `stage` until `input` is used up and nothing more comes.
fn drain(stage: &mut Stage, mut input: &[u8], out: &mut Vec<u8>, cap: usize, wire: u64) -> Result<(), Trouble> {
    loop {
        if out.capacity() - out.len() < 1024 {
            out.reserve(input.len().saturating_mul(3).clamp(4096, 256 << 10));
        }
        let before = out.len();
        let used = stage.step(input, out)?;
        input = &input[used..];
        if out.len() > cap {
            out.truncate(cap);
            return Err(Trouble::Full);
        }
        if out.len() > RATIO_FROM && out.len() as u64 > RATIO * wire {
            return Err(Trouble::Ratio);
        }
        let produced = out.len() > before;
        if !produced && (used == 0 || input.is_empty()) {
            return Ok(());
        }
    }
}

type Brotli = BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>;

struct Stage {
    inner: Inner,
    /// Within a member or frame.
    open: bool,
    /// One member or frame has ended.
    done: bool,
    /// Bytes that are no further member follow; all input is ignored from here.
    junk: bool,
}

enum Inner {
    Gzip(Decompress),
    /// `None` until two bytes tell a zlib header from raw deflate.
    Deflate(Option<Decompress>, Option<u8>),
    Brotli(Box<Brotli>),
    Zstd(ZstdDecoder<'static>),
    /// The codec could not be made.
    Failed(String),
}

impl Stage {
    fn new(coding: Coding) -> Self {
        let inner = match coding {
            Coding::Gzip => Inner::Gzip(Decompress::new_gzip(15)),
            Coding::Deflate => Inner::Deflate(None, None),
            Coding::Brotli => {
                Inner::Brotli(Box::new(BrotliState::new(HeapAlloc::new(0), HeapAlloc::new(0), HeapAlloc::new(HuffmanCode::default()))))
            }
            Coding::Zstd => {
                let made = ZstdDecoder::new().and_then(|mut d| d.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map(|()| d));
                made.map_or_else(|e| Inner::Failed(e.to_string()), Inner::Zstd)
            }
        };
        Self { inner, open: false, done: false, junk: false }
    }

    fn name(&self) -> &'static str {
        match self.inner {
            Inner::Gzip(_) => "gzip",
            Inner::Deflate(..) => "deflate",
            Inner::Brotli(_) => "brotli",
            Inner::Zstd(_) | Inner::Failed(_) => "zstd",
        }
    }

    fn ended(&self) -> bool {
        self.done && !self.open
    }

    fn broken(&self, why: &str) -> Trouble {
        Trouble::Broken(format!("broken {} stream: {why}", self.name()))
    }

    /// One step: how many bytes of `input` were used; output is appended within `out`'s spare room, of which there must be some.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Trouble> {
        let several = matches!(self.inner, Inner::Gzip(_) | Inner::Zstd(_));
        if self.ended() {
            if input.is_empty() {
                return Ok(0);
            }
            let more = match self.inner {
                Inner::Gzip(_) => input[0] == 0x1f,
                // 0x28 begins a frame (RFC 8878), 0x50 to 0x5f a skippable one
                Inner::Zstd(_) => input[0] == 0x28 || input[0] & 0xf0 == 0x50,
                _ => false,
            };
            if self.junk || !several || !more {
                self.junk = true;
                return Ok(input.len());
            }
            if let Inner::Gzip(d) = &mut self.inner {
                *d = Decompress::new_gzip(15);
            }
        }
        self.open |= !input.is_empty();
        let had_member = self.done;
        match &mut self.inner {
            Inner::Gzip(d) => match inflate(d, input, out) {
                Ok((used, end)) => self.note(used, end),
                Err(_) if had_member && d.total_out() == 0 => {
                    (self.open, self.junk) = (false, true);
                    Ok(input.len())
                }
                Err(why) => Err(self.broken(&why)),
            },
            Inner::Deflate(Some(d), _) => match inflate(d, input, out) {
                Ok((used, end)) => self.note(used, end),
                Err(why) => Err(self.broken(&why)),
            },
            Inner::Deflate(decided @ None, held) => {
                let two = match (*held, input) {
                    (None, [a, b, ..]) => (*a, *b),
                    (Some(a), [b, ..]) => (a, *b),
                    (None, [a]) => {
                        *held = Some(*a);
                        return Ok(1);
                    }
                    (_, []) => return Ok(0),
                };
                let zlib = two.0 & 0x0f == 8 && (u16::from(two.0) << 8 | u16::from(two.1)) % 31 == 0;
                let mut d = Decompress::new(zlib);
                if let Some(byte) = held.take()
                    && let Err(why) = inflate(&mut d, &[byte], out)
                {
                    return Err(self.broken(&why));
                }
                *decided = Some(d);
                self.step(input, out)
            }
            Inner::Brotli(state) => {
                let mut buf = [0; 8192];
                let (mut left, mut at, mut room, mut made, mut total) = (input.len(), 0, buf.len(), 0, 0);
                let result = BrotliDecompressStream(&mut left, &mut at, input, &mut room, &mut made, &mut buf, &mut total, state);
                out.extend_from_slice(&buf[..made]);
                match result {
                    BrotliResult::ResultFailure => Err(self.broken("invalid data")),
                    BrotliResult::ResultSuccess => self.note(at, true),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => self.note(at, false),
                }
            }
            Inner::Zstd(d) => {
                let mut src = InBuffer::around(input);
                let at = out.len();
                let mut dst = OutBuffer::around_pos(out, at);
                match d.run(&mut src, &mut dst) {
                    Ok(hint) => {
                        let used = src.pos();
                        // with no input between two frames the hint is that of the next frame's head
                        let end = hint == 0 && self.open;
                        self.note(used, end)
                    }
                    Err(e) => Err(self.broken(&e.to_string())),
                }
            }
            Inner::Failed(why) => Err(Trouble::Broken(why.clone())),
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "the arms of step read alike")]
    fn note(&mut self, used: usize, end: bool) -> Result<usize, Trouble> {
        if end {
            (self.open, self.done) = (false, true);
        }
        Ok(used)
    }
}

/// One step of zlib: bytes used, and whether the stream ended.
fn inflate(d: &mut Decompress, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), String> {
    let before = d.total_in();
    let status = d.decompress_vec(input, out, FlushDecompress::None).map_err(|e| e.message().unwrap_or("invalid data").to_owned())?;
    let used = usize::try_from(d.total_in() - before).unwrap_or(usize::MAX);
    Ok((used, status == Status::StreamEnd))
}
