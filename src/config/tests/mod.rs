mod errors;
mod hosts;
mod layers;
mod limits;
mod plan;
mod reference;
mod responses;
mod secrets;
mod tables;

use super::{ConfigErrors, Loaded, Overrides, load};
use std::path::PathBuf;

/// A job file in a folder of its own.
struct Job {
    folder: tempfile::TempDir,
    overrides: Overrides,
    env: Vec<(String, String)>,
}

impl Job {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.toml"), text).unwrap();
        Self { folder, overrides: Overrides::default(), env: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: &str, value: &str, flag: &str) -> Self {
        self.overrides.set(key, value, flag);
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.toml")
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.path(), &self.overrides, self.env.clone())
    }

    fn ok(&self) -> Loaded {
        self.load().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The errors, one a line, `x.toml` without its folder.
    fn errors(&self) -> Vec<String> {
        let text = self.load().expect_err("the job should be wrong").to_string();
        text.replace(&format!("{}/", self.folder.path().display()), "").lines().map(str::to_owned).collect()
    }
}

/// The smallest job, and `more`.
fn job(more: &str) -> Job {
    Job::new(&format!("input.urls = [\"https://h.example/\"]\n{more}"))
}
