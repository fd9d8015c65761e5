//! A job in a folder of its own.

use super::process::Gleaner;
use super::sinks::{self, Record};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A job file under construction and its folder. Keys are `section.key`, values TOML as it is written.
///
/// The defaults are quick: three tries, backoff of milliseconds, no final sweep, robots off, so that counts at the server
/// are exact; a test sets what it is about.
pub(crate) struct Job {
    dir: tempfile::TempDir,
    keys: BTreeMap<String, Vec<(String, String)>>,
    results: String,
    skipped: String,
    tables: String,
}

impl Job {
    /// Over `in.txt`, which [`Job::list`] writes.
    pub(crate) fn new() -> Self {
        let mut job = Self {
            dir: tempfile::tempdir().unwrap(),
            keys: BTreeMap::new(),
            results: "results.jsonl".into(),
            skipped: "skipped.jsonl".into(),
            tables: String::new(),
        };
        for (key, value) in [
            ("job.name", "\"job\""),
            ("input.file", "\"in.txt\""),
            ("request.robots", "\"ignore\""),
            ("request.timeout", r#"{ connect = "5s", first_byte = "20s", idle = "20s", total = "60s" }"#),
            ("retry.attempts", "3"),
            ("retry.backoff", "\"40ms\""),
            ("retry.max_backoff", "\"120ms\""),
            ("retry.budget", "\"100%\""),
            ("retry.final_sweep", "false"),
            ("output.results", "\"results.jsonl\""),
            ("output.skipped", "\"skipped.jsonl\""),
        ] {
            job.put(key, value);
        }
        job
    }

    /// Over these addresses, one a line of `in.txt`.
    pub(crate) fn over(urls: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let job = Self::new();
        job.list(urls);
        job
    }

    /// A crawl from `seed`; `[crawl]` is there, robots stay as crawls have them by default unless set.
    pub(crate) fn crawl(seed: &str) -> Self {
        Self::new().unset("input.file").set("input.urls", &format!("[{seed:?}]")).set("limits.delay", "\"0s\"").set("crawl.depth", "100")
    }

    /// A paged API at one address.
    pub(crate) fn pages(url: &str, next: &str) -> Self {
        Self::new().unset("input.file").set("request.url", &format!("{url:?}")).set("pages.next", &format!("{next:?}"))
    }

    /// Sets a key; `value` is TOML.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.put(key, value);
        self
    }

    /// Adds a table of a list: `[[host]]` or `[[limit]]`, as TOML.
    pub(crate) fn table(mut self, name: &str, keys: &str) -> Self {
        let _ = write!(self.tables, "[[{name}]]\n{keys}\n");
        self
    }

    pub(crate) fn unset(mut self, key: &str) -> Self {
        let (section, name) = key.rsplit_once('.').unwrap();
        if let Some(keys) = self.keys.get_mut(section) {
            keys.retain(|(k, _)| k != name);
        }
        self
    }

    /// Names of the outputs.
    pub(crate) fn outputs(self, results: &str, skipped: &str) -> Self {
        let mut job = self.set("output.results", &format!("{results:?}")).set("output.skipped", &format!("{skipped:?}"));
        (job.results, job.skipped) = (results.to_owned(), skipped.to_owned());
        job
    }

    fn put(&mut self, key: &str, value: &str) {
        let (section, name) = key.rsplit_once('.').unwrap();
        let keys = self.keys.entry(section.to_owned()).or_default();
        match keys.iter_mut().find(|(k, _)| k == name) {
            Some((_, v)) => value.clone_into(v),
            None => keys.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Writes `in.txt`.
    pub(crate) fn list(&self, urls: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut text = String::new();
        for url in urls {
            text.push_str(url.as_ref());
            text.push('\n');
        }
        self.file("in.txt", text);
    }

    /// Writes any file of the folder.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes `job.toml` and gives its path.
    pub(crate) fn write(&self) -> PathBuf {
        let mut text = String::new();
        for (section, keys) in &self.keys {
            let _ = writeln!(text, "[{section}]");
            for (k, v) in keys {
                let _ = writeln!(text, "{k} = {v}");
            }
        }
        text.push_str(&self.tables);
        self.file("job.toml", text)
    }

    /// `gleaner run job.toml --stats stats.json`, not yet started.
    pub(crate) fn run(&self) -> Gleaner {
        Gleaner::new(["run"]).arg(self.write()).arg("--stats").arg(self.path("stats.json")).home(self.dir.path())
    }

    pub(crate) fn results(&self) -> Vec<Record> {
        sinks::read(&self.path(&self.results))
    }

    pub(crate) fn skipped(&self) -> Vec<Record> {
        sinks::read(&self.path(&self.skipped))
    }

    /// The stats of the last run; its account closes.
    pub(crate) fn stats(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.path("stats.json")).expect("a stats file at every end");
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        sinks::account_closes(&stats);
        stats
    }

    /// Every record ended once, the account says the same; gives results and skipped.
    pub(crate) fn exactly_once(&self, inputs: usize) -> (Vec<Record>, Vec<Record>) {
        let (results, skipped) = (self.results(), self.skipped());
        sinks::exactly_once(&results, &skipped, inputs).unwrap();
        let stats = self.stats();
        let n = |k: &str| stats[k].as_u64().unwrap_or(u64::MAX);
        assert_eq!((n("inputs"), n("results"), n("skipped"), n("pending")), (inputs as u64, results.len() as u64, skipped.len() as u64, 0));
        (results, skipped)
    }

    /// Reason and number of listed attempts by the record's own address.
    pub(crate) fn fates(&self) -> BTreeMap<String, (String, usize)> {
        self.skipped().iter().map(|r| (r.text("_url"), (r.text("reason"), r.attempts().len()))).collect()
    }
}
