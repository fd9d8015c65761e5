//! `--fresh`: what an earlier pass gathered is renamed with the time of its run, never deleted.

use super::error::OpenError;
use super::{lock, sink};
use crate::clock::Wall;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Renames outputs and state. Outputs go first: a crash in between leaves a state without its sinks, which the next run
/// refuses, and which another `--fresh` finishes.
///
/// # Errors
/// A sink that another run holds, or a system that refuses to rename.
pub(super) fn set_aside(dir: &Path, sinks: &[PathBuf], now: Wall, notices: &mut Vec<String>) -> Result<(), OpenError> {
    let db = dir.join("state.db");
    let (started, recorded) = earlier(&db).unwrap_or_default();
    let mut outputs = sinks.to_vec();
    outputs.extend(recorded.into_iter().filter(|p| !sinks.contains(p)));
    for path in outputs {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() > 0 => {}
            _ => continue,
        }
        let file = File::open(&path).map_err(OpenError::io(&path))?;
        lock::sink(&file, &path)?;
        let to = free_name(&path, &stamp(started.or_else(|| modified(&path)).unwrap_or(now)));
        std::fs::rename(&path, &to).map_err(OpenError::io(&path))?;
        if let Some(parent) = path.parent() {
            sink::sync_folder(parent)?;
        }
        notices.push(format!("{} was kept as {}", path.display(), to.display()));
    }
    if std::fs::metadata(&db).is_ok_and(|m| m.len() > 0) {
        let to = free_name(&db, &stamp(started.or_else(|| modified(&db)).unwrap_or(now)));
        // The log belongs to the database: it goes first, so that a new database never meets an old log.
        for suffix in ["-wal", "-shm", "-journal"] {
            let (from, to) = (with_suffix(&db, suffix), with_suffix(&to, suffix));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(OpenError::io(&from))?;
            }
        }
        std::fs::rename(&db, &to).map_err(OpenError::io(&db))?;
        sink::sync_folder(dir)?;
    }
    Ok(())
}

/// When the state's first run began, and where its sinks are, as far as it can be read; its log is folded in.
fn earlier(db: &Path) -> Option<(Option<Wall>, Vec<PathBuf>)> {
    let conn = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    let started: Option<i64> =
        conn.query_row("SELECT v FROM meta WHERE k = 'started'", [], |r| r.get::<_, String>(0)).ok().and_then(|v| v.parse().ok());
    let mut paths = conn.prepare("SELECT path FROM sink WHERE path IS NOT NULL").ok()?;
    let paths = paths.query_map([], |r| r.get::<_, String>(0)).ok()?.filter_map(Result::ok).map(PathBuf::from).collect();
    let _ = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Some((started.map(Wall), paths))
}

fn modified(path: &Path) -> Option<Wall> {
    let since = std::fs::metadata(path).ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall)
}

/// `20260102T030405Z`: RFC 3339's basic form, as file names cannot hold colons everywhere.
fn stamp(at: Wall) -> String {
    let text = at.to_string();
    let whole = text.split('.').next().unwrap_or(&text);
    format!("{}Z", whole.replace(['-', ':'], ""))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `x.results.csv.gz` to `x.results.<stamp>.csv.gz`, with a number where that is taken.
fn free_name(path: &Path, stamp: &str) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let outer = [".gz", ".zst"].into_iter().find(|e| name.ends_with(e)).unwrap_or("");
    let inner = &name[..name.len() - outer.len()];
    let dot = inner.rfind('.').filter(|&i| i > 0).unwrap_or(inner.len());
    let (stem, extension) = inner.split_at(dot);
    let candidate = |n: u32| {
        let number = if n == 1 { String::new() } else { format!("-{n}") };
        path.with_file_name(format!("{stem}.{stamp}{number}{extension}{outer}"))
    };
    (1..=u32::MAX).map(candidate).find(|p| !p.exists()).unwrap_or_else(|| candidate(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_extensions() {
        let at = stamp(Wall(1_700_000_000_123));
        assert_eq!(at, "20231114T221320Z");
        for (from, to) in [
            ("/d/x.results.csv", "/d/x.results.T.csv"),
            ("/d/x.jsonl.gz", "/d/x.T.jsonl.gz"),
            ("/d/rows", "/d/rows.T"),
            ("/d/.hidden", "/d/.hidden.T"),
            ("/d/a.zst", "/d/a.T.zst"),
        ] {
            assert_eq!(free_name(Path::new(from), "T"), Path::new(to), "{from}");
        }
    }
}
