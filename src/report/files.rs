//! `--events` and `--stats`: the run for programs. A file named `-` is standard output.

use crate::clock::{Clock, Wall};
use crate::events::{Event, Listener};
use crate::report::Output;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One JSON line for each event, with `t`, the time, first. Lines of later runs are added at the end, so that a resumed
/// job keeps its story; each run begins with `run-started`.
///
/// A file that can no longer be written costs a warning, never the run.
pub struct EventsFile {
    to: Mutex<Option<BufWriter<Box<dyn Write + Send>>>>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    out: Output,
}

#[derive(Serialize)]
struct Line<'a> {
    t: Wall,
    #[serde(flatten)]
    event: &'a Event,
}

impl EventsFile {
    /// Opens it.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, out: Output) -> io::Result<Self> {
        let to: Box<dyn Write + Send> =
            if is_stdout(path) { Box::new(io::stdout()) } else { Box::new(OpenOptions::new().create(true).append(true).open(path)?) };
        Ok(Self { to: Mutex::new(Some(BufWriter::new(to))), path: path.to_owned(), clock, out })
    }
}

impl Listener for EventsFile {
    fn event(&self, event: &Event) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = to.as_mut() else { return };
        let line = Line { t: self.clock.wall(), event };
        // Attempts come by the thousand and are flushed with the next commit; all else is there at once.
        let detail = matches!(event, Event::Attempted { .. } | Event::Settled { .. } | Event::Connected { .. } | Event::Waiting { .. });
        let written = serde_json::to_writer(&mut *file, &line)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| if detail { Ok(()) } else { file.flush() });
        if let Err(e) = written {
            *to = None;
            self.out.warning(&format!("{}: {e}; no more events are written", self.path.display()));
        }
    }
}

/// Whether a file can be made at `path`, asked before a run that would end with writing it.
///
/// # Errors
/// What the system said.
pub fn check_writable(path: &Path) -> io::Result<()> {
    if is_stdout(path) {
        return Ok(());
    }
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if is_special(path) {
        return Ok(());
    }
    let probe = beside(path);
    File::create(&probe)?;
    fs::remove_file(&probe)
}

/// Writes the object whole or not at all: into a file beside it, synced, then renamed.
///
/// # Errors
/// What the system said.
pub fn write_stats(path: &Path, stats: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(stats)?;
    text.push('\n');
    if is_stdout(path) {
        let mut out = io::stdout().lock();
        return out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    if is_special(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
    }
    let temporary = beside(path);
    let written = File::create(&temporary).and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Whether the name means standard output.
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// A pipe or device is written as it is; a folder fails by itself.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::events::Stats;
    use crate::report::Look;
    use crate::report::output::tests::kept;

    #[test]
    fn events_are_lines_of_json_with_their_time_and_a_resume_adds_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for _ in 0..2 {
            let (out, _) = kept(Look::default());
            let file = EventsFile::open(&path, Arc::new(ManualClock::default()), out).unwrap();
            file.event(&Event::RunStarted { job: "j".into(), resumed: false, results: 0, skipped: 0, pending: 0 });
            file.event(&Event::Attempted {
                row: 1,
                url: "http://h/".into(),
                attempt: 1,
                outcome: "ok".into(),
                status: Some(200),
                ms: 1,
                bytes: 2,
                remote: None,
                message: None,
            });
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with(r#"{"t":"2023-11-14T22:13:20.000Z","event":"run-started","job":"j""#), "{text}");
    }

    #[test]
    fn stats_replace_the_old_file_whole_and_leave_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.json");
        check_writable(&path).unwrap();
        fs::write(&path, "old").unwrap();
        let stats = Stats { inputs: 3, results: 3, finish: "done".into(), ..Stats::default() };
        write_stats(&path, &stats).unwrap();
        let read: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read["finish"], "done");
        for key in ["inputs", "discovered", "results", "rows", "skipped", "duplicates", "pending", "requests", "retries"] {
            assert!(read[key].is_number(), "{key}");
        }
        for key in ["by_reason", "by_host", "warnings", "out_of_scope"] {
            assert!(read[key].is_object(), "{key}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(check_writable(&folder.path().join("no/such/stats.json")).is_err());
        assert!(check_writable(folder.path()).is_err(), "a folder");
    }
}
