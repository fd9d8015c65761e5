//! What is wrong with a job, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `config/default.toml`, or a default that follows from the rest of the job.
    Default,
    /// The job as a whole.
    Job,
    /// A place in the job file, both from 1; columns count characters.
    File {
        /// Line.
        line: u32,
        /// Column.
        column: u32,
    },
    /// An environment variable.
    Env(String),
    /// A flag, as typed.
    Flag(String),
}

impl Origin {
    /// Of two layers the one with the greater rank wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Job | Self::File { .. } => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }

    fn order(&self) -> (u32, u32) {
        match self {
            Self::File { line, column } => (*line, *column),
            _ => (u32::MAX, u32::from(self.rank())),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was said.
    pub origin: Origin,
    /// The dotted key, empty where the file itself is wrong.
    pub key: String,
    /// What is wrong and, where there is one, the cure; lowercase, without secrets.
    pub message: String,
}

/// Everything that is wrong with a job: by line, then what has no line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: Option<PathBuf>,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(file: Option<PathBuf>, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|e| e.origin.order());
        let mut seen = std::collections::HashSet::new();
        errors.retain(|e| seen.insert((e.origin.order(), e.to_string())));
        Self { file, errors }
    }

    pub(super) fn of_file(file: PathBuf, message: impl Into<String>) -> Self {
        let error = ConfigError { origin: Origin::Job, key: String::new(), message: message.into() };
        Self { file: Some(file), errors: vec![error] }
    }

    /// Each of them.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Whether flags alone are wrong: then the exit code is that of wrong arguments.
    #[must_use]
    pub fn only_flags(&self) -> bool {
        self.errors.iter().all(|e| matches!(e.origin, Origin::Flag(_)))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Env(name) | Origin::Flag(name) => write!(f, "{name}: ")?,
            _ => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// `jobs/x.toml:12:3: limits.worker: unknown key; did you mean "workers"?`, one a line.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match (&error.origin, &self.file) {
                (Origin::File { line, column }, Some(file)) => write!(f, "{}:{line}:{column}: ", file.display())?,
                (Origin::Job | Origin::Default, Some(file)) => write!(f, "{}: ", file.display())?,
                _ => {}
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
