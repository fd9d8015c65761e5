//! Exit codes, and what ends a command with one.

use crate::events::Stats;
use std::io;

/// The exit codes that scripts rely on (contract, *Exit codes*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done; also where only duplicates were skipped.
    Done = 0,
    /// Finished with skipped records, or stopped by a `[stop]` key or a cap.
    Skipped = 1,
    /// Wrong flags or arguments.
    Usage = 2,
    /// A wrong job file or input, a state or sink that does not fit.
    Data = 65,
    /// Another gleaner holds the job.
    InUse = 73,
    /// The system refused to read or write.
    Io = 74,
    /// Only long holds are left.
    Deferred = 75,
    /// SIGINT.
    Interrupt = 130,
    /// SIGTERM or SIGHUP.
    Terminate = 143,
}

impl Exit {
    /// The code of a run that came to an end of its own.
    #[must_use]
    pub fn of(stats: &Stats) -> Self {
        match stats.finish.as_str() {
            "deferred" => Self::Deferred,
            "stopped:interrupt" => Self::Interrupt,
            "stopped:terminate" | "stopped:hang-up" => Self::Terminate,
            "stopped:failure" => Self::Io,
            "done" if stats.pending == 0 && stats.skipped <= stats.duplicates => Self::Done,
            _ => Self::Skipped,
        }
    }

    /// Back from a number; what is unknown is an I/O failure.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Skipped,
            2 => Self::Usage,
            65 => Self::Data,
            73 => Self::InUse,
            75 => Self::Deferred,
            130 => Self::Interrupt,
            143 => Self::Terminate,
            _ => Self::Io,
        }
    }
}

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// With which code.
    pub(crate) exit: Exit,
    /// Lowercase, names the thing; may have several lines.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The system refused something about `what`.
    pub(crate) fn io(what: impl std::fmt::Display, e: &io::Error) -> Self {
        Self::new(Exit::Io, format!("{what}: {}", lowered(e)))
    }
}

/// The system's words without `(os error 2)`, in lower case as all messages are.
fn lowered(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}

/// The end of a command that only prints: a reader that went away ends it quietly.
pub(crate) fn printed(written: io::Result<()>) -> Result<Exit, Failure> {
    match written {
        Ok(()) => Ok(Exit::Done),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(e) => Err(Failure::io("standard output", &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_contract() {
        let of = |finish: &str, skipped, duplicates, pending| {
            Exit::of(&Stats { finish: finish.into(), skipped, duplicates, pending, ..Stats::default() }) as u8
        };
        assert_eq!(of("done", 0, 0, 0), 0);
        assert_eq!(of("done", 2, 2, 0), 0, "duplicates alone are no trouble");
        assert_eq!(of("done", 3, 2, 0), 1);
        assert_eq!(of("done", 0, 0, 7), 1, "a cap left some");
        assert_eq!(of("stopped:requests", 0, 0, 7), 1);
        assert_eq!(of("deferred", 0, 0, 7), 75);
        assert_eq!(of("stopped:interrupt", 0, 0, 7), 130);
        assert_eq!(of("stopped:terminate", 0, 0, 7), 143);
        assert_eq!(of("stopped:hang-up", 0, 0, 7), 143);
        assert_eq!(of("stopped:failure", 0, 0, 7), 74);
        for code in [0, 1, 2, 65, 73, 74, 75, 130, 143] {
            assert_eq!(Exit::from_code(code) as u8, code);
        }
    }

    #[test]
    fn a_closed_pipe_ends_a_printing_command_quietly() {
        assert_eq!(printed(Err(io::ErrorKind::BrokenPipe.into())).unwrap(), Exit::Done);
        assert_eq!(printed(Err(io::ErrorKind::StorageFull.into())).unwrap_err().exit, Exit::Io);
    }
}
