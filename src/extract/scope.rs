//! Which discovered addresses belong to the crawl.

use super::error::CompileError;
use super::field;
use crate::model::canonical;
use crate::model::plan::{CrawlPlan, Extensions, Scope};
use regex::Regex;
use std::collections::{HashMap, HashSet};
use url::{Host, Position, Url};

/// File name endings that are left alone: images, archives, media, fonts, programs, office documents, styles, scripts.
const BINARY: &[&str] = &[
    "7z", "aac", "ai", "aiff", "apk", "avi", "avif", "bin", "bmp", "bz2", "cab", "css", "deb", "dmg", "doc", "docx", "eot", "eps", "epub",
    "exe", "flac", "flv", "gif", "gz", "heic", "ico", "ics", "iso", "jar", "jpeg", "jpg", "js", "m4a", "m4v", "map", "mid", "mjs", "mkv",
    "mobi", "mov", "mp3", "mp4", "mpeg", "mpg", "msi", "odp", "ods", "odt", "ogg", "ogv", "opus", "otf", "pdf", "pkg", "png", "pps", "ppt",
    "pptx", "ps", "psd", "rar", "rpm", "rtf", "svg", "swf", "tar", "tgz", "tif", "tiff", "ttf", "wasm", "wav", "webm", "webp", "wma",
    "wmv", "woff", "woff2", "xls", "xlsx", "xz", "zip", "zst",
];

/// `[crawl] scope include exclude extensions`, over all seeds of the job.
pub struct CrawlScope {
    scope: Scope,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    extensions: Extensions,
    /// Canonical addresses, host names or registrable domains of the seeds, by `scope`.
    names: HashSet<String>,
    /// Host name to the paths of its seeds, each up to its last slash.
    prefixes: HashMap<String, HashSet<String>>,
}

impl CrawlScope {
    /// A scope that admits nothing until it has a seed (but where it is `any`).
    ///
    /// # Errors
    /// Every pattern that cannot be read, as `crawl.include[0]`, `crawl.exclude[1]`.
    pub fn compile(plan: &CrawlPlan) -> Result<Self, Vec<CompileError>> {
        let mut errors = Vec::new();
        let mut patterns = |texts: &[String], key: &str| -> Vec<Pattern> {
            let read =
                texts.iter().enumerate().map(|(i, t)| Pattern::parse(t).map_err(|m| CompileError::new(format!("crawl.{key}[{i}]"), m)));
            read.filter_map(|p| p.map_err(|e| errors.push(e)).ok()).collect()
        };
        let (include, exclude) = (patterns(&plan.include, "include"), patterns(&plan.exclude, "exclude"));
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { scope: plan.scope, include, exclude, extensions: plan.extensions, names: HashSet::new(), prefixes: HashMap::new() })
    }

    /// Widens the scope by a seed, or by where a seed's redirect moved it to; whether it was not as wide before.
    pub fn add_seed(&mut self, url: &Url) -> bool {
        let host = host(url);
        match self.scope {
            Scope::Any => false,
            Scope::Page => self.names.insert(canonical(url)),
            Scope::Host => self.names.insert(host.to_owned()),
            Scope::Domain => self.names.insert(domain(url).to_owned()),
            Scope::Prefix => {
                let paths = self.prefixes.entry(host.to_owned()).or_default();
                !lies_under(paths, url) && paths.insert(folder(url).to_owned())
            }
        }
    }

    /// Whether a link belongs to the crawl. `exclude` wins over `include`; seeds are not asked.
    ///
    /// # Errors
    /// The rule that keeps it out: `scope`, `exclude`, `include` or `extensions`.
    pub fn admits(&self, url: &Url) -> Result<(), &'static str> {
        let within = match self.scope {
            Scope::Any => true,
            Scope::Page => self.names.contains(&canonical(url)),
            Scope::Host => self.names.contains(host(url)),
            Scope::Domain => self.names.contains(domain(url)),
            Scope::Prefix => self.prefixes.get(host(url)).is_some_and(|paths| lies_under(paths, url)),
        };
        if !within {
            Err("scope")
        } else if self.exclude.iter().any(|p| p.matches(url)) {
            Err("exclude")
        } else if !self.include.is_empty() && !self.include.iter().any(|p| p.matches(url)) {
            Err("include")
        } else if self.extensions == Extensions::Pages && binary(url) {
            Err("extensions")
        } else {
            Ok(())
        }
    }
}

/// The host name without a final dot.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_end_matches('.')
}

/// The registrable domain by the public suffix list; an IP address or a name without one is its own.
fn domain(url: &Url) -> &str {
    match url.host() {
        Some(Host::Domain(_)) => psl::domain_str(host(url)).unwrap_or_else(|| host(url)),
        _ => host(url),
    }
}

/// The path up to its last slash.
fn folder(url: &Url) -> &str {
    let path = url.path();
    &path[..path.rfind('/').map_or(0, |i| i + 1)]
}

/// Whether one of the paths, which all end with a slash, is where the address's own begins.
fn lies_under(paths: &HashSet<String>, url: &Url) -> bool {
    let path = url.path();
    path.match_indices('/').any(|(i, _)| paths.contains(&path[..=i]))
}

fn binary(url: &Url) -> bool {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    !stem.is_empty() && ending.len() <= 5 && BINARY.binary_search(&ending.to_ascii_lowercase().as_str()).is_ok()
}

/// A glob or a `/regex/` over an address.
///
/// In a glob `*` is any run of characters (`**` too) and all else is itself, `?` included. With `://` in it, or a `*` first,
/// it is compared with the whole address; with a `/` first, with path and query; else with what follows `://`.
struct Pattern {
    part: Part,
    regex: Regex,
}

enum Part {
    Whole,
    AfterScheme,
    PathAndQuery,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the pattern is empty".into());
        }
        if let Some(regex) = text.strip_prefix('/').and_then(|t| t.strip_suffix('/')).filter(|t| !t.is_empty()) {
            return Ok(Self { part: Part::Whole, regex: field::regex(regex)? });
        }
        let part = if text.starts_with('/') {
            Part::PathAndQuery
        } else if text.contains("://") || text.starts_with('*') {
            Part::Whole
        } else {
            Part::AfterScheme
        };
        let glob: Vec<String> = text.split('*').map(regex::escape).collect();
        Ok(Self { part, regex: field::regex(&format!("^(?s:{})$", glob.join(".*")))? })
    }

    fn matches(&self, url: &Url) -> bool {
        let whole = url.as_str();
        let whole = url.fragment().map_or(whole, |f| &whole[..whole.len() - f.len() - 1]);
        self.regex.is_match(match self.part {
            Part::Whole => whole,
            Part::AfterScheme => whole.split_once("://").map_or(whole, |(_, r)| r),
            Part::PathAndQuery => &whole[url[..Position::BeforePath].len().min(whole.len())..],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(scope: Scope, include: &[&str], exclude: &[&str], seeds: &[&str]) -> CrawlScope {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let plan = CrawlPlan {
            follow: vec![],
            depth: None,
            scope,
            include: own(include),
            exclude: own(exclude),
            extensions: Extensions::Pages,
            max_pages: None,
        };
        let mut out = CrawlScope::compile(&plan).unwrap();
        for s in seeds {
            out.add_seed(&Url::parse(s).unwrap());
        }
        out
    }

    fn says(s: &CrawlScope, url: &str) -> &'static str {
        s.admits(&Url::parse(url).unwrap()).err().unwrap_or("ok")
    }

    #[test]
    fn the_list_of_endings_is_sorted() {
        assert!(BINARY.is_sorted());
    }

    #[test]
    fn scope_is_the_union_of_the_seeds() {
        let host = scope(Scope::Host, &[], &[], &["https://a.example.com/x", "http://b.org:8080/"]);
        assert_eq!(says(&host, "http://a.example.com:81/other"), "ok");
        assert_eq!(says(&host, "http://a.example.com./other"), "ok");
        assert_eq!(says(&host, "http://b.org/"), "ok");
        assert_eq!(says(&host, "http://www.b.org/"), "scope");
        let domain = scope(Scope::Domain, &[], &[], &["http://www.shop.co.uk/", "http://127.0.0.1/", "http://localhost/"]);
        assert_eq!(says(&domain, "http://img.shop.co.uk/"), "ok");
        assert_eq!(says(&domain, "http://other.co.uk/"), "scope");
        assert_eq!(says(&domain, "http://127.0.0.1:99/"), "ok");
        assert_eq!(says(&domain, "http://128.0.0.1/"), "scope");
        assert_eq!(says(&domain, "http://localhost/x"), "ok");
        let any = scope(Scope::Any, &[], &[], &[]);
        assert_eq!(says(&any, "http://anywhere/"), "ok");
    }

    #[test]
    fn prefix_is_the_path_up_to_its_last_slash_and_page_the_seed_alone() {
        let prefix = scope(Scope::Prefix, &[], &[], &["http://h/docs/intro.html", "http://h/docs/deep/x"]);
        assert_eq!(says(&prefix, "http://h/docs/other"), "ok");
        assert_eq!(says(&prefix, "http://h/docs/"), "ok");
        assert_eq!(says(&prefix, "http://h/docs"), "scope");
        assert_eq!(says(&prefix, "http://o/docs/"), "scope");
        let mut prefix = prefix;
        let mut wider = |url: &str| prefix.add_seed(&Url::parse(url).unwrap());
        assert_eq!(
            (wider("http://h/docs/deep/y"), wider("http://h/x"), wider("http://h/y/z"), wider("http://o/x")),
            (false, true, false, true)
        );
        let page = scope(Scope::Page, &[], &[], &["http://h/a?b"]);
        assert_eq!((says(&page, "http://h/a?b#c"), says(&page, "http://h/a")), ("ok", "scope"));
    }

    #[test]
    fn exclude_wins_and_include_is_needed_where_set() {
        let s = scope(Scope::Any, &["http://h/blog/*", "/tag=\\d+/", "/shop/*"], &["*logout*", "/a?b=*"], &[]);
        assert_eq!(says(&s, "http://h/blog/x"), "ok");
        assert_eq!(says(&s, "http://h/blog/logout"), "exclude");
        assert_eq!(says(&s, "http://h/x?tag=12"), "ok");
        assert_eq!(says(&s, "http://h/x?tag="), "include");
        assert_eq!(says(&s, "https://o/shop/y?z"), "ok");
        assert_eq!(says(&s, "http://h/a?b=1"), "exclude");
        let bare = scope(Scope::Any, &["h/x/*"], &[], &[]);
        assert_eq!((says(&bare, "https://h/x/1"), says(&bare, "https://o/h/x/1")), ("ok", "include"));
    }

    #[test]
    fn endings_count_in_the_last_segment_only() {
        let s = scope(Scope::Any, &[], &[], &[]);
        for out in ["http://h/a.PDF", "http://h/x/a.tar.gz?b=c", "http://h/a.min.js"] {
            assert_eq!(says(&s, out), "extensions", "{out}");
        }
        for ok in [
            "http://h/a.pdf/",
            "http://h/a.zip/x",
            "http://h/?f=a.zip",
            "http://h/a.html",
            "http://h.zip",
            "http://h/v1.2",
            "http://h/.js",
            "http://h/a.php",
        ] {
            assert_eq!(says(&s, ok), "ok", "{ok}");
        }
    }

    #[test]
    fn wrong_patterns_are_all_named() {
        let plan = CrawlPlan {
            follow: vec![],
            depth: None,
            scope: Scope::Any,
            include: vec!["/(/".into()],
            exclude: vec!["*".into(), String::new(), "/(?:x{1000}){1000}/".into()],
            extensions: Extensions::Any,
            max_pages: None,
        };
        let errors = CrawlScope::compile(&plan).err().unwrap();
        assert_eq!(errors.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["crawl.include[0]", "crawl.exclude[1]", "crawl.exclude[2]"]);
    }
}
