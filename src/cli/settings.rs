//! Flags as settings above the job file: dotted key, value, and the flag that said it.

use crate::cli::args::{Common, Crawl, Fetch, Global, Robots, ScopeArg};
use crate::cli::exit::{Exit, Failure};
use crate::cli::fetch::Source;
use crate::model::plan::NetworkPlan;
use std::path::Path;

/// What a flag says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// As typed: TOML where it reads as one value of TOML, else text.
    Typed(String),
    /// Text, never read as TOML.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A table whose names are the job's own, in order.
    Pairs(Vec<(String, String)>),
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Dotted key of the job file.
    pub(crate) key: String,
    /// What it is set to.
    pub(crate) value: Value,
    /// As people type it.
    pub(crate) flag: &'static str,
}

/// Everything that the command line sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// In order; the later of one key wins.
    pub(crate) list: Vec<Setting>,
    /// `--resolve`, `--dns-server`, `--allow-net`.
    pub(crate) network: NetworkPlan,
}

impl Settings {
    /// What the flags of every command say.
    pub(crate) fn of_global(global: &Global) -> Result<Self, Failure> {
        let flags = &global.network;
        let mut s = Self {
            list: Vec::new(),
            network: NetworkPlan {
                allow_net: flags.allow_net.clone(),
                resolve: flags.resolve.clone(),
                dns_servers: flags.dns_server.clone(),
                ..NetworkPlan::default()
            },
        };
        if let Some(file) = &flags.ca_file {
            s.text("request.tls.ca_file", absolute(file)?, "--ca-file");
        }
        for (key, value) in &global.set {
            s.put(key, Value::Typed(value.clone()), "--set");
        }
        Ok(s)
    }

    /// What `fetch` amounts to; `source` is what its arguments are.
    pub(crate) fn add_fetch(&mut self, args: &Fetch, source: &Source) -> Result<(), Failure> {
        self.add_source(source);
        self.maybe("input.url", args.url.as_deref(), "--url");
        self.maybe("request.robots", args.robots.map(robots), "--robots");
        self.add_common(&args.common)
    }

    /// What `crawl` amounts to.
    pub(crate) fn add_crawl(&mut self, args: &Crawl, source: &Source) -> Result<(), Failure> {
        self.add_source(source);
        let scope = args.scope.map_or("host", |s| match s {
            ScopeArg::Page => "page",
            ScopeArg::Host => "host",
            ScopeArg::Domain => "domain",
            ScopeArg::Prefix => "prefix",
            ScopeArg::Any => "any",
        });
        // Always said: [crawl] is what makes it a crawl.
        self.text("crawl.scope", scope, "--scope");
        self.number("crawl.depth", args.depth, "--depth");
        self.list("crawl.include", &args.include, "--include");
        self.list("crawl.exclude", &args.exclude, "--exclude");
        self.number("crawl.max_pages", args.max_pages, "--max-pages");
        self.maybe("crawl.robots", args.robots.map(robots), "--robots");
        self.add_common(&args.common)
    }

    fn add_source(&mut self, source: &Source) {
        match source {
            Source::Urls(urls) => self.list("input.urls", urls, "URL"),
            Source::File(file) => self.text("input.file", file, "FILE"),
            Source::Stdin => self.text("input.file", "-", "-"),
        }
    }

    fn add_common(&mut self, c: &Common) -> Result<(), Failure> {
        self.maybe("extract.rows", c.rows.as_deref(), "--rows");
        self.pairs("extract.fields", &c.field, "--field")?;
        self.list("limits.rate", &c.rate, "--rate");
        self.number("limits.workers", c.workers, "--workers");
        self.number("limits.per_host", c.per_host, "--per-host");
        self.maybe("limits.delay", c.delay.as_deref(), "--delay");
        self.number("retry.attempts", c.attempts, "--attempts");
        self.pairs("request.headers", &c.header, "--header")?;
        self.maybe("request.user_agent", c.user_agent.as_deref(), "--user-agent");
        match c.proxy.as_slice() {
            [] => {}
            [one] => self.text("request.proxy", one, "--proxy"),
            several => self.list("request.proxy", several, "--proxy"),
        }
        self.maybe("request.timeout.total", c.timeout.as_deref(), "--timeout");
        match (&c.method, &c.body) {
            (Some(method), _) => self.text("request.method", method.to_ascii_uppercase(), "--method"),
            (None, Some(_)) => self.text("request.method", "POST", "--body"),
            (None, None) => {}
        }
        self.maybe("request.body", c.body.as_deref(), "--body");
        self.list("request.accept", &c.accept, "--accept");
        Ok(())
    }

    /// Sets `key`.
    pub(crate) fn put(&mut self, key: &str, value: Value, flag: &'static str) {
        self.list.push(Setting { key: key.to_owned(), value, flag });
    }

    pub(crate) fn text(&mut self, key: &str, value: impl Into<String>, flag: &'static str) {
        self.put(key, Value::Text(value.into()), flag);
    }

    fn maybe(&mut self, key: &str, value: Option<&str>, flag: &'static str) {
        if let Some(value) = value {
            self.text(key, value, flag);
        }
    }

    fn number(&mut self, key: &str, value: Option<impl ToString>, flag: &'static str) {
        if let Some(value) = value {
            self.put(key, Value::Typed(value.to_string()), flag);
        }
    }

    fn list(&mut self, key: &str, values: &[String], flag: &'static str) {
        if !values.is_empty() {
            self.put(key, Value::List(values.to_vec()), flag);
        }
    }

    fn pairs(&mut self, key: &str, pairs: &[(String, String)], flag: &'static str) -> Result<(), Failure> {
        for (i, (name, _)) in pairs.iter().enumerate() {
            if pairs[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::new(Exit::Usage, format!("{flag} {name:?} is given twice")));
            }
        }
        if !pairs.is_empty() {
            self.put(key, Value::Pairs(pairs.to_vec()), flag);
        }
        Ok(())
    }
}

fn robots(robots: Robots) -> &'static str {
    match robots {
        Robots::Obey => "obey",
        Robots::Ignore => "ignore",
    }
}

/// A path from a flag, for a job whose own paths count from its file.
pub(crate) fn absolute(path: &Path) -> Result<String, Failure> {
    let whole = std::path::absolute(path).map_err(|e| Failure::io(path.display(), &e))?;
    utf8(&whole).map(str::to_owned)
}

/// Paths become settings, which are text.
pub(crate) fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::new(Exit::Usage, format!("the path {} is no UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn settings(line: &[&str]) -> Result<Vec<(String, Value, &'static str)>, Failure> {
        let cli = Cli::try_parse_from(line).unwrap();
        let mut s = Settings::of_global(&cli.global)?;
        match &cli.command {
            Command::Fetch(f) => s.add_fetch(f, &Source::Urls(f.what.clone()))?,
            Command::Crawl(c) => s.add_crawl(c, &Source::Urls(c.what.clone()))?,
            _ => {}
        }
        Ok(s.list.into_iter().map(|s| (s.key, s.value, s.flag)).collect())
    }

    #[test]
    fn flags_become_settings_of_the_job_file_in_order() {
        let text = |t: &str| Value::Text(t.into());
        let got = settings(&[
            "gleaner",
            "fetch",
            "https://h/",
            "--field",
            "b=css:b",
            "--field",
            "a=json:.a",
            "--rate",
            "5000/hour",
            "--rate",
            "2/1s",
            "--per-host",
            "3",
            "--timeout",
            "5s",
            "--body",
            "x={{x}}",
            "-H",
            "Accept: text/html",
            "--robots",
            "ignore",
            "--set",
            "limits.max_wait=1h",
        ])
        .unwrap();
        assert_eq!(
            got,
            vec![
                ("limits.max_wait".into(), Value::Typed("1h".into()), "--set"),
                ("input.urls".into(), Value::List(vec!["https://h/".into()]), "URL"),
                ("request.robots".into(), text("ignore"), "--robots"),
                ("extract.fields".into(), Value::Pairs(vec![("b".into(), "css:b".into()), ("a".into(), "json:.a".into())]), "--field"),
                ("limits.rate".into(), Value::List(vec!["5000/hour".into(), "2/1s".into()]), "--rate"),
                ("limits.per_host".into(), Value::Typed("3".into()), "--per-host"),
                ("request.headers".into(), Value::Pairs(vec![("Accept".into(), "text/html".into())]), "--header"),
                ("request.timeout.total".into(), text("5s"), "--timeout"),
                ("request.method".into(), text("POST"), "--body"),
                ("request.body".into(), text("x={{x}}"), "--body"),
            ]
        );
    }

    #[test]
    fn a_crawl_always_has_its_section_and_robots_belong_there() {
        let got = settings(&["gleaner", "crawl", "https://h/", "--depth", "2", "--robots", "obey"]).unwrap();
        let keys: Vec<_> = got.iter().map(|(k, ..)| k.as_str()).collect();
        assert_eq!(keys, ["input.urls", "crawl.scope", "crawl.depth", "crawl.robots"]);
    }

    #[test]
    fn a_column_given_twice_is_a_wrong_argument() {
        let failure = settings(&["gleaner", "fetch", "u", "--field", "a=css:a", "--field", "a=css:b"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn wrong_values_are_told_by_the_flag() {
        for line in [
            vec!["gleaner", "fetch", "u", "--rate", "fast"],
            vec!["gleaner", "fetch", "u", "--delay", "1"],
            vec!["gleaner", "fetch", "u", "--workers", "-1"],
            vec!["gleaner", "fetch"],
            vec!["gleaner", "run"],
            vec!["gleaner", "run", "j", "-q", "-v"],
            vec!["gleaner", "crawl", "u", "--scope", "wide"],
        ] {
            assert_eq!(Cli::try_parse_from(&line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
