//! Exit codes, and what ends a command with one.

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
    fn codes_read_back_as_themselves() {
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
