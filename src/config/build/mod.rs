//! Raw job to plan, section by section; each finds all that is wrong with it.

mod auth;
mod frozen;
mod host;
mod limit;
mod limits;
mod output;
mod pages;
mod request;
mod response;
mod source;

use super::errors::{ConfigError, Origin};
use super::leaf::Set;
use super::raw;
use super::tree::{Node, Value};
use super::walk::without_places;
use crate::model::Template;
use crate::model::plan::{InputPlan, NetworkPlan, Plan, StatePlace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The kinds of job that differ in their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Has an input.
    List,
    /// One `[request] url`, or pages.
    Api,
    /// Follows links.
    Crawl,
}

impl Shape {
    pub(super) fn of(tree: &Node) -> Self {
        let input = tree.is_set("input.file") || tree.is_set("input.urls");
        if tree.is_set("crawl") {
            Self::Crawl
        } else if tree.is_set("pages") || (tree.is_set("request.url") && !input) {
            Self::Api
        } else {
            Self::List
        }
    }
}

/// What the plan is made from besides the raw job.
pub(super) struct Context<'a> {
    pub(super) tree: &'a Node,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) job_file: Option<&'a Path>,
    pub(super) network: &'a NetworkPlan,
}

/// Puts the defaults that follow from the rest of the job into the tree.
pub(super) fn defaults(tree: &mut Node, shape: Shape, job_file: Option<&Path>) {
    let text = |text: &str| Value::Text(text.to_owned());
    tree.default("request.user_agent", text(concat!("gleaner/", env!("CARGO_PKG_VERSION"))));
    let list = |items: &[&str]| Value::List(items.iter().map(|item| Node::text(Origin::Default, *item)).collect());
    if let Some(style @ ("page" | "offset")) = tree.get("pages.next").and_then(Node::as_text) {
        let first = i64::from(style == "page");
        tree.default("pages.first", Value::Int(first));
        tree.default("pages.stop", list(&["empty"]));
    }
    if shape == Shape::Api {
        tree.default("request.robots", text("ignore"));
    }
    if shape == Shape::Crawl {
        tree.default("limits.per_host", Value::Int(2));
        tree.default("limits.delay", text("1s"));
        tree.default("retry.host_give_up", text("2h"));
        tree.default("crawl.scope", text("host"));
        tree.default("crawl.include", list(&[]));
        tree.default("crawl.exclude", list(&[]));
        tree.default("crawl.extensions", text("pages"));
        let robots = if tree.is_set("request.robots") {
            tree.get("request.robots").and_then(Node::as_text).unwrap_or("obey").to_owned()
        } else {
            "obey".into()
        };
        tree.default("crawl.robots", Value::Text(robots));
    }
    // Each token has limits of its own, whatever the host.
    if tree.is_set("auth.tokens") {
        tree.default("limits.key", text("credential"));
    }
    limit::defaults(tree);
    output::defaults(tree, job_file);
}

/// The plan; `None` only where there are errors.
pub(super) fn plan(context: Context<'_>, job: raw::Job, errors: &mut Vec<ConfigError>) -> Option<Plan> {
    let mut b = Builder { context, errors };
    b.no_stray_secrets();
    let frozen = frozen::frozen(b.context.tree);
    let input = source::input(&mut b, job.input);
    let mut request = request::request(&mut b, job.request, &job.crawl.robots);
    let (auth, secret_hosts) = auth::auth(&mut b, job.auth, &request.headers);
    let crawl = pages::crawl(&mut b, job.crawl);
    let pages = pages::pages(&mut b, job.pages);
    let extract = pages::extract(&mut b, job.extract);
    for (key, message) in check_extract(&extract, crawl.as_ref(), pages.as_ref()) {
        // What was said of a key above says it better.
        if !b.errors.iter().any(|e| e.key == key.split('[').next().unwrap_or_default()) {
            b.error(&key, message);
        }
    }
    let (name, state) = output::job(&mut b, job.job);
    let output = output::output(&mut b, job.output);
    let limits = limits::limits(&mut b, job.limits, job.limit);
    let retry = limits::retry(&mut b, job.retry);
    request.idempotent |= retry.methods.contains(&request.method);
    let hosts = host::hosts(&mut b, job.host, &limits, &retry);
    let input = input.map(|input| InputPlan { keeps_listed: request::names_url(&request, &hosts), ..input });
    let responses = response::responses(&mut b, job.response);
    request.may_accept = response::may_accept(&responses);
    let network = limits::network(&mut b, job.network);
    let stop = limits::stop(&mut b, job.stop);
    let job_file = b.context.job_file.map(Path::to_path_buf);
    Some(Plan {
        name,
        job_file,
        state,
        input: input?,
        request,
        auth,
        secret_hosts,
        limits,
        hosts,
        responses,
        retry,
        crawl,
        pages,
        extract,
        output,
        network,
        stop,
        frozen,
    })
}

/// Where the state is, by the section `[job]` alone.
pub(super) fn state_place(context: Context<'_>, job: raw::JobSection, errors: &mut Vec<ConfigError>) -> StatePlace {
    output::job(&mut Builder { context, errors }, job).1
}

/// What the compilers of selectors, filters and patterns say: dotted key and message, for each source that is wrong.
fn check_extract(
    extract: &crate::model::plan::ExtractPlan,
    crawl: Option<&crate::model::plan::CrawlPlan>,
    pages: Option<&crate::model::plan::PagesPlan>,
) -> Vec<(String, String)> {
    let fields = crate::extract::Extractor::compile(extract, crawl, pages).err().unwrap_or_default();
    let scope = crawl.and_then(|c| crate::extract::CrawlScope::compile(c).err()).unwrap_or_default();
    let mut errors: Vec<_> = fields.into_iter().chain(scope).map(|e| (e.key, e.message)).collect();
    errors.dedup();
    errors
}

/// `line 12`, where a place has one.
fn line_of(origin: &Origin) -> Option<String> {
    if let Origin::File { line, .. } = origin { Some(format!("line {line}")) } else { None }
}

struct Builder<'a> {
    context: Context<'a>,
    errors: &'a mut Vec<ConfigError>,
}

impl Builder<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>) {
        let origin = self.origin(key);
        self.errors.push(ConfigError { origin, key: key.to_owned(), message: message.into() });
    }

    /// What is wrong with one item of a list, told where it stands.
    fn error_in(&mut self, key: &str, item: Option<usize>, message: impl Into<String>) {
        let origin = item.map_or_else(|| self.origin(key), |i| self.origin(&format!("{key}[{i}]")));
        self.errors.push(ConfigError { origin, key: key.to_owned(), message: message.into() });
    }

    /// Something that a section lacks; not told where a mistake in the section may be the cause.
    fn lacks(&mut self, section: &str, message: impl Into<String>) {
        let within = |key: &str| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        if !self.errors.iter().any(|e| within(&e.key)) {
            self.error(section, message);
        }
    }

    /// Whether something was found wrong with a key.
    fn is_wrong(&self, key: &str) -> bool {
        self.errors.iter().any(|e| e.key == key)
    }

    /// Who set a key, else its section, else the job as a whole. `crawl.follow[1]` is the second of a list.
    fn origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            let found = self.context.tree.get(key);
            let list = key.strip_suffix(']').and_then(|k| k.rsplit_once('[')).map(|(list, _)| list);
            match (found, list, key.rsplit_once('.')) {
                (Some(node), ..) if node.at.rank() > 0 => return node.at.clone(),
                (_, Some(list), _) => key = list,
                (_, _, Some((section, _))) if section.contains(['.', '[']) || found.is_none() => key = section,
                _ => return Origin::Job,
            }
        }
    }

    /// A leaf's value; what is wrong with it is told.
    fn take<T>(&mut self, key: &str, set: Set<T>) -> Option<T> {
        match set {
            Set::Unset => None,
            Set::To(value) => Some(value),
            Set::Wrong(messages) => {
                for (item, message) in messages {
                    self.error_in(key, item, message);
                }
                None
            }
        }
    }

    /// Parses a template; a job of one address has no columns.
    fn template(&mut self, key: &str, text: &str) -> Option<Template> {
        let parsed = match Template::parse(text) {
            Ok(template) => template,
            Err(e) => {
                self.error(key, e.to_string());
                return None;
            }
        };
        let tree = self.context.tree;
        if !tree.is_set("input.file") && (tree.is_set("request.url") || tree.is_set("input.urls")) {
            let known: &[&str] = if tree.is_set("input.urls") { &["url"] } else { &[] };
            let strange: Vec<String> = parsed.names().into_iter().filter(|n| !known.contains(n)).map(str::to_owned).collect();
            for name in strange {
                self.error(key, format!("there is no column {name:?}: the job has no input file"));
            }
        }
        Some(parsed)
    }

    /// A path of the job: those of the command line are relative to the working folder, all others to the job file's.
    fn path(&self, key: &str, text: &str) -> PathBuf {
        let typed = matches!(self.context.tree.get(key).map(|n| &n.at), Some(Origin::Flag(_)));
        match self.context.job_file.and_then(Path::parent) {
            Some(folder) if !typed => folder.join(text),
            _ => PathBuf::from(text),
        }
    }

    /// `text` with each `${env:NAME}` resolved; `None` where it holds none. `encode` is applied to what is put in.
    fn secret(&mut self, key: &str, text: &str, encode: impl Fn(&str) -> String) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        let mut found = false;
        while let Some(start) = rest.find("${env:") {
            found = true;
            out.push_str(&rest[..start]);
            let after = &rest[start + "${env:".len()..];
            let Some((name, tail)) = after.split_once('}') else {
                self.error(key, "`${env:` without `}`");
                return Some(String::new());
            };
            rest = tail;
            let fits = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            match self.context.env.get(name).filter(|value| !value.is_empty()) {
                _ if !fits => self.error(key, format!("{name:?} is no name of an environment variable")),
                None => self.error(key, format!("the environment variable {name} is not set or empty")),
                Some(value) if value.chars().any(char::is_control) => {
                    self.error(key, format!("the environment variable {name} holds a line break or another control character"));
                }
                Some(value) => out.push_str(&encode(value)),
            }
        }
        out.push_str(rest);
        found.then_some(out)
    }

    fn no_stray_secrets(&mut self) {
        let allowed = |key: &str| {
            let key = without_places(key);
            let headers = key.starts_with("request.headers.") || key.starts_with("host.headers.");
            headers || key == "request.proxy" || key == "host.proxy" || key.starts_with("auth.") && key != "auth.hosts"
        };
        let mut stray = Vec::new();
        self.context.tree.each_text("", &mut |key, node, text| {
            if text.contains("${env:") && !allowed(key) {
                stray.push((node.at.clone(), key.to_owned()));
            }
        });
        for (origin, key) in stray {
            self.errors.push(ConfigError {
                origin,
                key,
                message: "`${env:…}` has its place in [auth], in headers and in the proxy only".into(),
            });
        }
    }
}

/// `take!(b, limits, raw.workers)`: the leaf of the key `limits.workers`.
macro_rules! take {
    ($b:ident, $section:literal, $raw:ident.$key:ident) => {
        $b.take(concat!($section, ".", stringify!($key)), $raw.$key)
    };
}
use take;
