//! Why a run could not start or had to end, each with its exit code.

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

/// The exit code of a run that ended with an account.
#[must_use]
pub fn exit_code(stats: &crate::events::Stats) -> u8 {
    match stats.finish.as_str() {
        "done" if stats.skipped == stats.by_reason.get("duplicate").copied().unwrap_or(0) => 0,
        "deferred" => 75,
        "stopped:interrupt" => 130,
        "stopped:terminate" | "stopped:hang-up" => 143,
        _ => 1,
    }
}
