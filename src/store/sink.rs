//! One output: rows are gathered, appended at the mark, synced, and only then does the database say so.
//!
//! Bytes beyond `off` are garbage by definition; bytes below it are never touched again. A compressed sink grows by whole
//! members (gzip, RFC 1952 2.2) or frames (zstd, RFC 8878 3), so that `off` is always the end of one.

use super::error::{OpenError, StoreError};
use super::lock;
use crate::model::plan::{Codec, SinkFormat, SinkPlace, SinkPlan};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many bytes before the mark are hashed, so that an edited file is found at open.
const TAIL: usize = 4096;

/// What the state says of a sink.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) off: u64,
    pub(super) records: u64,
    pub(super) tail_len: u64,
    pub(super) tail_hash: Vec<u8>,
}

/// One append, as `verify` checks it later.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) off: u64,
    pub(super) len: u64,
    pub(super) records: u64,
    pub(super) hash: [u8; 16],
}

enum Out {
    File {
        file: File,
        path: PathBuf,
        /// Where the state says which file the first bytes went to.
        first: PathBuf,
        sync: bool,
    },
    Stdout(File),
}

/// What all sinks of a state are opened with.
pub(super) struct Opening<'a> {
    /// The state folder.
    pub(super) dir: &'a Path,
    pub(super) stdout: Option<&'a File>,
    pub(super) sync: bool,
    /// The last run ended cleanly.
    pub(super) clean: bool,
    /// The state took nothing and is made anew: its marks do not count any more.
    pub(super) blank: bool,
}

pub(super) struct Sink {
    pub(super) id: i64,
    pub(super) name: &'static str,
    pub(super) format: SinkFormat,
    pub(super) codec: Codec,
    out: Out,
    off: u64,
    records: u64,
    tail: Vec<u8>,
    /// Of a compressed sink: rows that are not in a member yet.
    raw: Vec<u8>,
    /// What is appended next.
    buffer: Vec<u8>,
    waiting: u64,
}

/// The first 16 bytes of blake3.
pub(super) fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    out
}

/// The place of a sink's file, made absolute; `None` for stdout.
///
/// # Errors
/// The working folder is gone.
pub(super) fn path_of(plan: &SinkPlan) -> Result<Option<PathBuf>, OpenError> {
    match &plan.place {
        SinkPlace::Stdout => Ok(None),
        SinkPlace::File(path) => std::path::absolute(path).map(Some).map_err(OpenError::io(path)),
    }
}

/// Refuses what is there and cannot be a sink; says its size where it is a file.
pub(super) fn look(path: &Path) -> Result<Option<u64>, OpenError> {
    use std::os::unix::fs::FileTypeExt as _;
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(OpenError::io(path)(e)),
    };
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(Some(meta.len())),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(OpenError::SinkKind { path: path.to_owned(), what })
}

impl Sink {
    /// Opens and locks the sink and compares it with its mark. Changes nothing but an absent file where there is no mark,
    /// or one of nothing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open(
        (id, name): (i64, &'static str),
        plan: &SinkPlan,
        stored: Option<&Mark>,
        with: &Opening<'_>,
        lost: impl FnOnce(u64) -> u64,
    ) -> Result<Self, OpenError> {
        let mark = stored.filter(|_| !with.blank);
        let (off, records) = mark.map_or((0, 0), |m| (m.off, m.records));
        let mut sink = Self {
            id,
            name,
            format: plan.format,
            codec: plan.codec,
            out: Out::Stdout(own_stdout(with.stdout)?),
            off,
            records,
            tail: Vec::new(),
            raw: Vec::new(),
            buffer: Vec::new(),
            waiting: 0,
        };
        let Some(path) = path_of(plan)? else {
            return if with.stdout.is_none() && stdout_was_closed() { Err(OpenError::StdoutClosed) } else { Ok(sink) };
        };
        let size = look(&path)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(OpenError::io(parent))?;
        }
        if off > 0 && size.is_none() {
            return Err(OpenError::SinkLost { records: lost(0), path, missing: true });
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(OpenError::io(&path))?;
        // Before its length means anything: another job that writes here is to be told as such.
        lock::sink(&file, &path)?;
        let len = file.metadata().map_err(OpenError::io(&path))?.len();
        if len < off {
            return Err(OpenError::SinkLost { records: lost(len), path, missing: false });
        }
        let first = with.dir.join(format!("{name}.first"));
        // Another job may have taken the file while it was empty, or made one in its place: without records below the mark
        // nothing but its identity says whose the bytes are.
        let known = mark.is_some_and(|m| m.records > 0 || with.clean);
        let ours =
            || stored.is_some_and(|m| !with.clean || len == m.off) && std::fs::read_to_string(&first).is_ok_and(|f| f == identity(&file));
        if len > off && !known && !ours() {
            return Err(OpenError::SinkForeign { path });
        }
        if let Some(mark) = mark.filter(|m| m.off > 0) {
            let len = mark.tail_len.min(mark.off).min(TAIL as u64);
            let mut tail = vec![0; usize::try_from(len).unwrap_or(TAIL)];
            file.read_exact_at(&mut tail, mark.off - len).map_err(OpenError::io(&path))?;
            if hash(&tail)[..] != mark.tail_hash[..] {
                return Err(OpenError::SinkEdited { path });
            }
            sink.tail = tail;
        }
        if with.sync && size.is_none() {
            file.sync_all().map_err(OpenError::io(&path))?;
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
        }
        sink.out = Out::File { file, path, first, sync: with.sync };
        Ok(sink)
    }

    /// How many bytes lie beyond the mark.
    pub(super) fn beyond(&self) -> Result<u64, OpenError> {
        match &self.out {
            Out::File { file, path, .. } => Ok(file.metadata().map_err(OpenError::io(path))?.len().saturating_sub(self.off)),
            Out::Stdout(_) => Ok(0),
        }
    }

    /// What the file system says of the file, as a clean end keeps it: an edit changes it, whatever it edits.
    pub(super) fn stamp(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        match &self.out {
            Out::File { file, .. } => file.metadata().ok().map(|m| format!("{} {} {}.{:09}", m.ino(), m.len(), m.mtime(), m.mtime_nsec())),
            Out::Stdout(_) => None,
        }
    }

    /// Whether the path still leads to the file that was written.
    pub(super) fn still_there(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let Out::File { file, path, .. } = &self.out else { return Ok(()) };
        let same = match (file.metadata(), std::fs::metadata(path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        if same { Ok(()) } else { Err(StoreError::SinkGone { path: path.clone(), records: self.records }) }
    }

    /// Cuts off what lies beyond the mark.
    pub(super) fn cut(&self) -> Result<(), OpenError> {
        if let Out::File { file, path, .. } = &self.out {
            file.set_len(self.off).and_then(|()| file.sync_all()).map_err(OpenError::io(path))?;
        }
        if self.off == 0 {
            self.disown();
        }
        Ok(())
    }

    /// Nothing was written yet: whoever takes the empty file may have it.
    pub(super) fn disown(&self) {
        if let Out::File { first, .. } = &self.out {
            let _ = std::fs::remove_file(first);
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match &self.out {
            Out::File { path, .. } => Some(path),
            Out::Stdout(_) => None,
        }
    }

    /// Whether nothing was ever written, so that a header is due.
    pub(super) fn is_blank(&self) -> bool {
        self.off == 0 && self.buffer.is_empty() && self.raw.is_empty()
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.codec != Codec::Plain
    }

    /// Takes whole records.
    pub(super) fn push(&mut self, bytes: &[u8], records: u64) {
        if self.is_compressed() {
            self.raw.extend_from_slice(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.waiting += records;
    }

    /// Where a record can be encoded right in place; [`Sink::count`] follows.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.is_compressed() { &mut self.raw } else { &mut self.buffer }
    }

    pub(super) fn count(&mut self, records: u64) {
        self.waiting += records;
    }

    /// Bytes that wait for the next commit.
    pub(super) fn len(&self) -> usize {
        self.raw.len() + self.buffer.len()
    }

    /// Whether a member is due before the database may say what it holds.
    pub(super) fn has_raw(&self) -> bool {
        !self.raw.is_empty()
    }

    /// Appends what waits at the mark and makes it durable. The mark itself moves with [`Sink::advance`].
    pub(super) fn append(&mut self) -> Result<(), StoreError> {
        if !self.raw.is_empty() {
            seal(self.codec, &self.raw, &mut self.buffer).map_err(|e| self.io(e))?;
            self.raw.clear();
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        match &self.out {
            Out::File { file, first, sync, .. } => {
                if self.off == 0 {
                    own(first, file, *sync).map_err(|e| StoreError::Io { path: first.clone(), source: Arc::new(e) })?;
                }
                file.write_all_at(&self.buffer, self.off).map_err(|e| self.io(e))?;
                if *sync {
                    file.sync_data().map_err(|e| self.io(e))?;
                }
            }
            Out::Stdout(out) => write_stdout(out, &self.buffer)?,
        }
        Ok(())
    }

    /// The chunk that the transaction records, and the mark after it; `None` where nothing was appended.
    pub(super) fn advance(&mut self) -> Option<(Chunk, Mark)> {
        if self.buffer.is_empty() {
            return None;
        }
        let len = self.buffer.len() as u64;
        let chunk = Chunk { off: self.off, len, records: self.waiting, hash: hash(&self.buffer) };
        self.off += len;
        self.records += self.waiting;
        self.waiting = 0;
        if self.buffer.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&self.buffer[self.buffer.len() - TAIL..]);
        } else {
            let surplus = (self.tail.len() + self.buffer.len()).saturating_sub(TAIL);
            self.tail.drain(..surplus);
            self.tail.extend_from_slice(&self.buffer);
        }
        self.buffer.clear();
        self.buffer.shrink_to(1 << 23);
        Some((chunk, self.mark()))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { off: self.off, records: self.records, tail_len: self.tail.len() as u64, tail_hash: hash(&self.tail).to_vec() }
    }

    /// What [`Sink::append`] would write now. For the crash tests' control alone, see `Writer::commit_first`.
    #[cfg(debug_assertions)]
    pub(super) fn hold_back(&self) -> Option<(File, u64, Vec<u8>)> {
        match &self.out {
            Out::File { file, .. } => Some((file.try_clone().ok()?, self.off, self.buffer.clone())),
            Out::Stdout(_) => None,
        }
    }

    /// After a failed append: takes back what it can, so that the file ends at its mark. The next open does it anyway.
    pub(super) fn take_back(&self) {
        if let Out::File { file, .. } = &self.out {
            let _ = file.set_len(self.off);
        }
    }

    fn io(&self, source: io::Error) -> StoreError {
        let path = self.path().map_or_else(|| PathBuf::from("stdout"), Path::to_owned);
        StoreError::Io { path, source: Arc::new(source) }
    }
}

/// Makes one member or frame of `raw`, appended to `out`.
fn seal(codec: Codec, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        Codec::Plain => out.extend_from_slice(raw),
        Codec::Gzip => {
            let mut member = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
            member.write_all(raw)?;
            member.finish()?;
        }
        Codec::Zstd => {
            let mut frame = zstd::stream::write::Encoder::new(out, 3)?;
            frame.include_checksum(true)?;
            frame.set_pledged_src_size(Some(raw.len() as u64))?;
            frame.write_all(raw)?;
            frame.finish()?;
        }
    }
    Ok(())
}

/// Tells a file from one that has its name or its inode number later: by when it was made, where the file system says so.
fn identity(file: &File) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = file.metadata() else { return String::new() };
    match meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) {
        Some(made) => format!("inode {} made {}\n", meta.ino(), made.as_nanos()),
        None => format!("inode {} of {}\n", meta.ino(), meta.dev()),
    }
}

/// Says in the state that the bytes of this file are its own, before the first of them is written.
fn own(first: &Path, file: &File, sync: bool) -> io::Result<()> {
    let mut note = File::create(first)?;
    note.write_all(identity(file).as_bytes())?;
    if sync {
        note.sync_all()?;
        first.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
    }
    Ok(())
}

fn own_stdout(given: Option<&File>) -> Result<File, OpenError> {
    let fd = match given {
        Some(file) => file.try_clone(),
        None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
    };
    fd.map_err(OpenError::io(Path::new("stdout")))
}

/// Whether the process began without a standard output: Rust's runtime then opens `/dev/null` in its place, for reading
/// and writing, where a shell's `> /dev/null` opens it for writing alone.
fn stdout_was_closed() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let null = std::fs::metadata("/dev/null").map(|m| m.rdev());
    let here = own_stdout(None).and_then(|f| f.metadata().map_err(OpenError::io(Path::new("stdout")))).map(|m| m.rdev());
    let mode = rustix::fs::fcntl_getfl(io::stdout());
    matches!((null, here), (Ok(null), Ok(here)) if null == here && null != 0) && mode.is_ok_and(|m| m.contains(rustix::fs::OFlags::RDWR))
}

/// Writes without a buffer between, so that what was written is out.
fn write_stdout(mut out: &File, mut bytes: &[u8]) -> Result<(), StoreError> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(StoreError::StdoutClosed),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Someone made the shared description non-blocking (ssh, node): wait a little, as a blocking one would.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(Duration::from_millis(5)),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(StoreError::StdoutClosed),
            Err(e) => return Err(StoreError::Io { path: "stdout".into(), source: Arc::new(e) }),
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(OpenError::io(dir))
}
