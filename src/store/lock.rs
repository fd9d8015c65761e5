//! Who holds a state folder or a sink: `flock`, which dies with its holder.

use super::error::OpenError;
use crate::clock::Wall;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

/// The holder of a lock, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: Option<u32>,
    /// When it began, RFC 3339.
    pub since: Option<String>,
}

/// Locks the folder by its `LOCK` file, which then names this process.
///
/// # Errors
/// [`OpenError::InUse`] names the holder.
pub(super) fn folder(dir: &Path, now: Wall) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let io = || OpenError::io(&path);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io())?;
    // `status` holds the lock for the blink of an eye to see whether it is free.
    for last in [false, false, false, true] {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(e)) => return Err(io()(e)),
            Err(TryLockError::WouldBlock) if last => {
                let holder = read(&mut file);
                return Err(OpenError::InUse { what: dir.to_owned(), pid: holder.pid, since: holder.since });
            }
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
    file.set_len(0).map_err(io())?;
    file.seek(SeekFrom::Start(0)).map_err(io())?;
    write!(file, "pid {}\nsince {now}\n", std::process::id()).map_err(io())?;
    Ok(file)
}

/// Locks a sink by itself: two jobs with different states may name the same file.
///
/// # Errors
/// [`OpenError::InUse`]; the holder is looked up in `/proc/locks` where there is one.
pub(super) fn sink(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::Error(e)) => Err(OpenError::io(path)(e)),
        Err(TryLockError::WouldBlock) => {
            let pid = holder_of(file);
            Err(OpenError::InUse { what: path.to_owned(), pid, since: pid.and_then(started) })
        }
    }
}

/// Who holds the folder now; `None` where nobody does.
///
/// # Errors
/// The `LOCK` file cannot be read.
pub(super) fn held(dir: &Path) -> std::io::Result<Option<Holder>> {
    let mut file = match File::open(dir.join("LOCK")) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read(&mut file))),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn read(file: &mut File) -> Holder {
    let mut text = String::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.take(200).read_to_string(&mut text);
    let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
    Holder { pid: value("pid ").and_then(|p| p.parse().ok()), since: value("since ") }
}

fn holder_of(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = file.metadata().ok()?.ino();
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

/// proc(5): `1: FLOCK  ADVISORY  WRITE 123 08:01:4567 0 EOF`; one who waits has `->` after the number. The device is not
/// compared: btrfs and overlays show another one here than `stat` does. Pid 0 is a process outside this pid namespace.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|l| {
        let mut words = l.split_whitespace().skip(1);
        let is_flock = words.next()? == "FLOCK";
        let pid: u32 = words.nth(2)?.parse().ok()?;
        let of: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
        (is_flock && of == inode && pid > 0).then_some(pid)
    })
}

/// Whether nobody holds the folder: its lock is free, or it has none.
pub(super) fn is_free(dir: &Path) -> bool {
    File::open(dir.join("LOCK")).map_or_else(|e| e.kind() == std::io::ErrorKind::NotFound, |f| f.try_lock().is_ok())
}

/// proc(5): boot time and the process's start in clock ticks, 100 a second on Linux.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = all.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Wall((boot * 1000).saturating_add(ticks * 10)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_inode_and_waiters_are_passed_over() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:4567 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 8 08:01:4567 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 00:2a:4567 0 EOF\n4: FLOCK  ADVISORY  WRITE 9 00:2a:14567 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 123 00:2a:4567 0 EOF\n";
        assert_eq!(holder_in(locks, 4567), Some(123));
        assert_eq!(holder_in(locks, 567), None);
    }

    #[test]
    fn a_locked_sink_names_its_holder_and_when_that_began() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let (held, other) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        sink(&held, &path).unwrap();
        let Err(OpenError::InUse { pid, since, .. }) = sink(&other, &path) else { panic!("it was not held") };
        if Path::new("/proc/locks").exists() {
            assert_eq!(pid, Some(std::process::id()));
            assert!(since.is_some_and(|s| s.starts_with("20")));
        }
    }
}
