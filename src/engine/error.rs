//! Why a run could not start or had to end, each with its exit code.

use crate::events::Stats;

/// An end that is no account.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another process has the job or a sink.
    #[error("{what} is in use by process {pid} (started {since})")]
    InUse {
        /// Job or sink.
        what: String,
        /// Its owner.
        pid: String,
        /// When that began.
        since: String,
    },
    /// The job file or its flags.
    #[error("{message}")]
    Job {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The list.
    #[error("{message}")]
    Input {
        /// File, line and what is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The state or a sink does not fit.
    #[error("{message}")]
    State {
        /// What does not fit.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The machine failed: disk full, a file that cannot be written, a closed stdout.
    #[error("{message}")]
    Io {
        /// What failed.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl RunError {
    /// The exit code of the contract.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } => 73,
            Self::Job { .. } | Self::Input { .. } | Self::State { .. } => 65,
            Self::Io { .. } => 74,
        }
    }

    /// One sentence of advice.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::InUse { .. } => Some("wait for it, or stop it with Ctrl-C in its terminal"),
            Self::Job { hint, .. } | Self::Input { hint, .. } | Self::State { hint, .. } | Self::Io { hint, .. } => hint.as_deref(),
        }
    }
}

/// The exit code of a run that ended with an account (contract, *Exit codes*): what the process ends with, and what the
/// state keeps of a finished job.
#[must_use]
pub fn exit_code(stats: &Stats) -> u8 {
    let duplicates = stats.by_reason.get("duplicate").copied().unwrap_or(0);
    match stats.finish.as_str() {
        "done" if stats.pending == 0 && stats.skipped == duplicates => 0,
        "deferred" => 75,
        "stopped:interrupt" => 130,
        "stopped:terminate" | "stopped:hang-up" => 143,
        "stopped:failure" => 74,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_contract() {
        let of = |finish: &str, skipped, duplicates, pending| {
            let by_reason = [("duplicate".to_owned(), duplicates), ("http-404".to_owned(), skipped - duplicates)].into();
            exit_code(&Stats { finish: finish.into(), skipped, by_reason, pending, ..Stats::default() })
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
    }
}
