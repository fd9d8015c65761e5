//! Decoded bytes of an input, as a window that moves on: 64 KiB are read at a time, and only when they are needed.

use super::error::{InputError, read_error};
use super::position::{FileMark, Position};
use super::prefix::{BLOCK, Chain, block_hash, parse_link};
use crate::model::plan::Codec;
use flate2::bufread::MultiGzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes asked of the stream at once.
const READ: usize = 64 * 1024;
/// Consumed bytes that stay in the window for the mark of a position, and length of a file's head.
const MARK: usize = 4096;
/// Consumed bytes after which they are hashed.
const HASH_STEP: usize = 16 * 1024;

#[cfg(test)]
thread_local! {
    /// Lets a test put the edges of reads anywhere.
    pub(super) static READ_SIZE: std::cell::Cell<usize> = const { std::cell::Cell::new(READ) };
}

fn read_size() -> usize {
    #[cfg(test)]
    return READ_SIZE.get();
    #[cfg(not(test))]
    READ
}

/// What bytes come from.
enum Stream {
    Plain(File),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<File>>>),
    Stdin,
}

/// A window over the decoded bytes: `[.. consumed | not yet ..]`.
pub(super) struct Source {
    /// As it was named, for messages.
    pub(super) file: String,
    stream: Stream,
    buf: Vec<u8>,
    /// First byte that is not consumed.
    start: usize,
    /// End of what was read.
    end: usize,
    /// Decoded offset of `buf[0]`.
    base: u64,
    eof: bool,
    /// A failure is told again to whoever asks again.
    failed: Option<(io::ErrorKind, String, Option<i32>)>,
    chain: Chain,
    /// Consumed bytes up to here are in the chain.
    hashed: usize,
    stat: Option<FileMark>,
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// Missing, a folder, without permission, empty, or the machine failed.
    pub(super) fn open(path: &Path, file: &str, codec: Codec) -> Result<Self, InputError> {
        let opened = File::open(path).and_then(|f| Ok((f.metadata()?, f)));
        let (meta, handle) = opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                InputError::hinted(file, "there is no such file", "[input] file counts from the folder of the job file")
            }
            io::ErrorKind::PermissionDenied => InputError::hinted(file, "permission to read it is denied", format!("chmod +r {file}")),
            io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
                InputError::wrong(file, format!("cannot be opened: {e}"))
            }
            _ => read_error(file, 0, false, e),
        })?;
        if meta.is_dir() {
            return Err(InputError::wrong(file, "is a folder, not a file"));
        }
        let stat = if meta.is_file() {
            if meta.len() == 0 {
                return Err(InputError::hinted(file, "is empty", "put one address a line into it"));
            }
            Some(stat_of(&handle, &meta).map_err(|e| read_error(file, 0, false, e))?)
        } else {
            None
        };
        let stream = match codec {
            Codec::Plain => Stream::Plain(handle),
            Codec::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ, handle)))),
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(READ, handle));
                Stream::Zstd(Box::new(decoder.map_err(|e| read_error(file, 0, false, e))?))
            }
        };
        Ok(Self::new(stream, file, stat))
    }

    /// Standard input.
    pub(super) fn stdin() -> Self {
        Self::new(Stream::Stdin, "stdin", None)
    }

    fn new(stream: Stream, file: &str, stat: Option<FileMark>) -> Self {
        Self {
            file: file.to_owned(),
            stream,
            buf: Vec::new(),
            start: 0,
            end: 0,
            base: 0,
            eof: false,
            failed: None,
            chain: Chain::new(),
            hashed: 0,
            stat,
        }
    }

    /// What is read and not consumed.
    pub(super) fn available(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Decoded offset of the first byte that is not consumed.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Reads at least one byte more, 64 KiB at most; false at the end.
    ///
    /// # Errors
    /// The machine failed, or a compressed file is torn.
    pub(super) fn more(&mut self) -> Result<bool, InputError> {
        if self.eof {
            return Ok(false);
        }
        if let Some((kind, text, code)) = &self.failed {
            let again = code.map_or_else(|| io::Error::new(*kind, text.clone()), io::Error::from_raw_os_error);
            return Err(read_error(&self.file, self.base + self.end as u64, self.compressed(), again));
        }
        self.make_room();
        let room = &mut self.buf[self.end..self.end + read_size()];
        let read = loop {
            let read = match &mut self.stream {
                Stream::Plain(f) => f.read(room),
                Stream::Gzip(d) => d.read(room),
                Stream::Zstd(d) => d.read(room),
                Stream::Stdin => io::stdin().lock().fill_buf().map(|b| {
                    let n = b.len().min(room.len());
                    room[..n].copy_from_slice(&b[..n]);
                    n
                }),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(n) => {
                if matches!(self.stream, Stream::Stdin) {
                    io::stdin().lock().consume(n);
                }
                self.eof = n == 0;
                self.end += n;
                Ok(n > 0)
            }
            Err(e) => {
                self.failed = Some((e.kind(), e.to_string(), e.raw_os_error()));
                Err(read_error(&self.file, self.base + self.end as u64, self.compressed(), e))
            }
        }
    }

    /// Bytes that the window takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buf.capacity()
    }

    /// Passes over `n` available bytes.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start - self.hashed >= HASH_STEP {
            self.hash_consumed();
        }
    }

    fn hash_consumed(&mut self) {
        self.chain.update(&self.buf[self.hashed..self.start]);
        self.hashed = self.start;
    }

    /// Room for one read, got by dropping what is consumed, but for the mark.
    fn make_room(&mut self) {
        if self.buf.len() - self.end >= READ {
            return;
        }
        self.hash_consumed();
        let drop = self.start.saturating_sub(MARK);
        self.buf.copy_within(drop..self.end, 0);
        self.base += drop as u64;
        self.start -= drop;
        self.end -= drop;
        self.hashed = self.start;
        // A window that one huge record blew up goes back to its size.
        let need = (self.end + READ).max(3 * READ);
        if self.buf.len() < need {
            self.buf.resize(need.max(2 * self.buf.len()), 0);
        } else if self.buf.len() > 4 * need {
            self.buf.truncate(need);
            self.buf.shrink_to_fit();
        }
    }

    fn compressed(&self) -> bool {
        matches!(self.stream, Stream::Gzip(_) | Stream::Zstd(_))
    }

    /// The fingerprint of what is consumed.
    pub(super) fn mark(&self, position: &mut Position) {
        let mut chain = self.chain.clone();
        chain.update(&self.buf[self.hashed..self.start]);
        position.offset = self.offset();
        position.link = chain.link();
        position.prefix = chain.whole();
        position.mark = block_hash(&self.buf[self.start.saturating_sub(MARK)..self.start]);
        position.file.clone_from(&self.stat);
    }

    /// Goes on exactly after `position`, in a source that has just been opened. Gives a notice where the file is not
    /// quite what it was but its consumed part is.
    ///
    /// A plain file of the same size, time, inode, head and mark is not read up to there; of any other the consumed part
    /// is hashed, and a compressed one is decoded from its start.
    ///
    /// # Errors
    /// [`InputError::Changed`], or as [`Source::more`].
    pub(super) fn go_on(&mut self, position: &Position) -> Result<Option<String>, InputError> {
        let changed = |what: &str| InputError::Changed { file: self.file.clone(), row: position.row, what: what.to_owned() };
        let (Some(now), Some(then)) = (self.stat.clone(), position.file.clone()) else {
            return Err(changed("it is no regular file, so what was read cannot be found again"));
        };
        let same = now == then;
        let plain = matches!(self.stream, Stream::Plain(_));
        if plain && now.size < then.size.max(position.offset) {
            return Err(changed(&format!("it is shorter: {} bytes, it had {}", now.size, then.size.max(position.offset))));
        }
        if same && plain && self.jump(position)? {
            return Ok(None);
        }
        self.walk(position)?;
        if self.chain.whole() != position.prefix {
            let begins = now.head == then.head || then.size < MARK as u64;
            let what = if begins { "the part that was read is not the same" } else { "its beginning is not the same" };
            return Err(InputError::Changed { file: self.file.clone(), row: position.row, what: what.to_owned() });
        }
        if position.torn && (self.start < self.end || self.more()?) && !matches!(self.available().first(), Some(b'\n' | b'\r')) {
            return Err(InputError::Changed {
                file: self.file.clone(),
                row: position.row,
                what: "the last line that was read had no line end, and now it goes on".to_owned(),
            });
        }
        Ok((!same).then(|| {
            if plain && now.size > then.size {
                format!(
                    "{}: has grown by {} bytes since it was read; what was read is the same, so reading goes on",
                    self.file,
                    now.size - then.size
                )
            } else {
                format!("{}: was written to since it was read; what was read is the same, so reading goes on", self.file)
            }
        }))
    }

    /// Sets the window right after `position` if the last block of the file up to there is what it was.
    fn jump(&mut self, position: &Position) -> Result<bool, InputError> {
        let Some(link) = parse_link(&position.link) else { return Ok(false) };
        let Stream::Plain(handle) = &mut self.stream else { return Ok(false) };
        let full = position.offset - position.offset % BLOCK;
        let from = full.min(position.offset.saturating_sub(MARK as u64));
        let mut last = vec![0; usize::try_from(position.offset - from).unwrap_or(0)];
        if handle.read_exact_at(&mut last, from).is_err() {
            return Ok(false);
        }
        let mut chain = Chain::after(link, full);
        chain.update(&last[usize::try_from(full - from).unwrap_or(0)..]);
        let mark = last.len().saturating_sub(MARK);
        if chain.whole() != position.prefix || block_hash(&last[mark..]) != position.mark {
            return Ok(false);
        }
        handle.seek(SeekFrom::Start(position.offset)).map_err(|e| read_error(&self.file, position.offset, false, e))?;
        let last = last[mark..].to_vec();
        let kept = last.len();
        self.base = position.offset - kept as u64;
        (self.start, self.end, self.hashed) = (kept, kept, kept);
        self.buf = last;
        self.chain = chain;
        Ok(true)
    }

    /// Reads and hashes up to `position`.
    fn walk(&mut self, position: &Position) -> Result<(), InputError> {
        while self.offset() < position.offset {
            let left = usize::try_from(position.offset - self.offset()).unwrap_or(usize::MAX);
            let have = self.available().len();
            if have == 0 && !self.more()? {
                return Err(InputError::Changed {
                    file: self.file.clone(),
                    row: position.row,
                    what: format!("it ends after {} bytes, {} were read", self.offset(), position.offset),
                });
            }
            self.consume(left.min(self.available().len()));
        }
        self.hash_consumed();
        Ok(())
    }
}

fn stat_of(handle: &File, meta: &Metadata) -> io::Result<FileMark> {
    let mut head = [0; MARK];
    let mut len = 0;
    loop {
        match handle.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(FileMark {
        size: meta.len(),
        mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        inode: meta.ino(),
        head: block_hash(&head[..len]),
    })
}
