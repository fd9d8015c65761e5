//! Which processes are alive: each holds a `flock` on a file of its own, which dies with it.
//!
//! A file is named by the number that the ledger gave its owner, never by a pid: so neither a pid that is used again nor one of
//! another container matters.

use super::error::BudgetError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where owner `id` of budget `name` holds its lock.
pub(super) fn path(folder: &Path, name: &str, id: i64) -> PathBuf {
    folder.join(format!("{name}.{id}.lock"))
}

/// Takes the lock of `id`; `None` where someone holds it. Within the transaction that makes the owner.
pub(super) fn claim(folder: &Path, name: &str, id: i64) -> Result<Option<File>, BudgetError> {
    let path = path(folder, name, id);
    let io = BudgetError::io(&path);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(&io)?;
    // `list` and `clear` hold a lock for the blink of an eye to see whether it is free.
    for last in [false, false, true] {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(e)) => return Err(io(e)),
            Err(TryLockError::WouldBlock) if last => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "pid {}", std::process::id())).map_err(&io)?;
    Ok(Some(file))
}

/// Whether owner `id` lives; where that cannot be told it does.
pub(super) fn is_alive(folder: &Path, name: &str, id: i64) -> bool {
    match File::open(path(folder, name, id)) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Owner numbers that have a lock file.
pub(super) fn on_disk(folder: &Path, name: &str) -> Vec<i64> {
    let Ok(found) = std::fs::read_dir(folder) else { return Vec::new() };
    let id = |file: &str| file.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".lock")?.parse().ok();
    found.filter_map(Result::ok).filter_map(|e| id(e.file_name().to_str()?)).collect()
}

/// The pid in the file of a living owner.
pub(super) fn pid(folder: &Path, name: &str, id: i64) -> Option<u32> {
    let mut text = String::new();
    File::open(path(folder, name, id)).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.strip_prefix("pid ")?.trim().parse().ok()
}
