//! The rules of one robots.txt that are meant for us, and whether they allow an address.

use super::parse;
use std::time::Duration;
use url::Url;

/// The name that a group has to carry to be meant for us; a part of the default User-Agent.
pub const TOKEN: &str = "gleaner";
/// More bytes than this are not read (RFC 9309 2.5 wants 500 KiB at least).
pub const MAX_BYTES: usize = 512_000;
/// More rules than this are not kept.
pub const MAX_RULES: usize = 10_000;
/// Longer crawl delays are cut to this.
pub const MAX_DELAY: Duration = Duration::from_mins(1);

/// What is odd about a robots.txt, for counted warnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// More than [`MAX_BYTES`]; the last partial line was dropped.
    pub cut: bool,
    /// More than [`MAX_RULES`] rules for us; the first ones count.
    pub too_many: bool,
    /// Most of its lines are HTML: treated as empty.
    pub html: bool,
    /// Its Crawl-delay was above [`MAX_DELAY`].
    pub delay_cut: bool,
}

/// The rules of RFC 9309 for our token. A few words of memory where nothing is forbidden.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// All patterns, one after the other, in canonical form.
    text: Box<str>,
    /// Longest first, of equal ones the allowing first: the first that matches decides.
    patterns: Box<[Rule]>,
    delay: Option<Duration>,
    sitemaps: Box<[Box<str>]>,
    oddities: Oddities,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    start: u32,
    end: u32,
    allow: bool,
}

impl Rules {
    /// Nothing is forbidden: no robots.txt (4xx), or one without rules for us.
    #[must_use]
    pub fn allow_all() -> Self {
        Self::default()
    }

    /// Reads the body of a robots.txt, whatever its type, line ends and errors. Never fails: what cannot be read is no line.
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        Self::parse_for(body, TOKEN)
    }

    /// As [`Rules::parse`] for another token.
    #[must_use]
    pub fn parse_for(body: &[u8], token: &str) -> Self {
        let found = parse::read(body, token);
        let mut patterns: Vec<(String, bool)> = found.patterns;
        patterns.sort_by(|(a, allow_a), (b, allow_b)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)).then_with(|| allow_b.cmp(allow_a)));
        patterns.dedup_by(|later, kept| later.0 == kept.0);
        // Equal patterns: the allowing one was first. Equal lengths of different patterns: an allowing one has to be seen first too.
        patterns.sort_by(|(a, allow_a), (b, allow_b)| b.len().cmp(&a.len()).then_with(|| allow_b.cmp(allow_a)));
        let mut text = String::new();
        let mut rules = Vec::with_capacity(patterns.len());
        for (pattern, allow) in &patterns {
            let start = text.len();
            text.push_str(pattern);
            if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(text.len())) {
                rules.push(Rule { start, end, allow: *allow });
            }
        }
        if rules.iter().all(|r| r.allow) {
            (text, rules) = (String::new(), Vec::new());
        }
        Self {
            text: text.into(),
            patterns: rules.into(),
            delay: found.delay.map(|d| d.min(MAX_DELAY)),
            sitemaps: found.sitemaps.into(),
            oddities: Oddities { delay_cut: found.delay.is_some_and(|d| d > MAX_DELAY), ..found.oddities },
        }
    }

    /// Whether the address may be fetched: path and query count, the fragment does not. `/robots.txt` always may (RFC 9309 2.2.2).
    #[must_use]
    pub fn allows(&self, url: &Url) -> bool {
        self.forbidden_by(url).is_none()
    }

    /// The pattern that forbids the address, in canonical form, for messages.
    #[must_use]
    pub fn forbidden_by(&self, url: &Url) -> Option<&str> {
        if self.patterns.is_empty() || url.path() == "/robots.txt" {
            return None;
        }
        let path = match url.query() {
            Some(query) => canonical_path(&format!("{}?{query}", url.path())),
            None => canonical_path(url.path()),
        };
        self.patterns.iter().find_map(|r| {
            let pattern = self.text.get(r.start as usize..r.end as usize)?;
            matches(&path, pattern).then_some((!r.allow).then_some(pattern))
        })?
    }

    /// Least time between two starts to the host, at most [`MAX_DELAY`]; with it goes one request at a time.
    #[must_use]
    pub fn crawl_delay(&self) -> Option<Duration> {
        self.delay
    }

    /// The values of its `Sitemap` lines as written, 1,000 at most; they may be relative. They belong to no group.
    pub fn sitemaps(&self) -> impl Iterator<Item = &str> {
        self.sitemaps.iter().map(|s| &**s)
    }

    /// What is odd about it.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// How many rules are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether nothing is forbidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

/// Whether a canonical pattern matches from the first octet of a canonical path: `*` any run, `$` at the end the end.
///
/// Google's `robots.cc` keeps the set of positions reached. As the language has no more than `*`, the leftmost position alone
/// decides the same: each literal part is looked for once, from where the part before it ended. So a rule costs about the length
/// of path and pattern, and `*a*a*a*a` costs no more.
fn matches(path: &str, pattern: &str) -> bool {
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(p) => (p, true),
        None => (pattern, false),
    };
    let Some((first, mut parts)) = pattern.split_once('*') else {
        return if to_end { path == pattern } else { path.starts_with(pattern) };
    };
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    loop {
        let (part, more) = match parts.split_once('*') {
            Some((part, more)) => (part, Some(more)),
            None => (parts, None),
        };
        match more {
            None if to_end => return rest.ends_with(part),
            None => return rest.contains(part),
            Some(more) => {
                let Some(at) = find(rest, part) else { return false };
                rest = &rest[at + part.len()..];
                parts = more;
            }
        }
    }
}

/// `str::find`, quick for the one-byte parts of hostile patterns.
fn find(text: &str, part: &str) -> Option<usize> {
    match part.as_bytes() {
        [] => Some(0),
        [one] => text.as_bytes().iter().position(|b| b == one),
        _ => text.find(part),
    }
}

/// A path in the form that patterns are compared in. Its own `*` and `$` become escapes, so that they are no wildcards.
fn canonical_path(path: &str) -> String {
    canonical(path.as_bytes(), |b| matches!(b, b'*' | b'$'))
}

/// Canonical octets (RFC 9309 2.2.2): escapes of unreserved octets decoded, other escapes in upper case, octets outside of ASCII,
/// controls and those that no URL holds bare escaped, and those that `escape` picks. ASCII by construction.
pub(super) fn canonical(raw: &[u8], escape: impl Fn(u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = String::with_capacity(raw.len());
    let push_escaped = |out: &mut String, b: u8| {
        out.push('%');
        out.push(char::from(HEX[usize::from(b >> 4)]));
        out.push(char::from(HEX[usize::from(b & 15)]));
    };
    let mut i = 0;
    while let Some(&b) = raw.get(i) {
        if b == b'%'
            && let (Some(high), Some(low)) = (hex(raw.get(i + 1)), hex(raw.get(i + 2)))
        {
            let octet = high << 4 | low;
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(octet));
            } else {
                push_escaped(&mut out, octet);
            }
            i += 3;
            continue;
        }
        if !b.is_ascii_graphic() || matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') || escape(b) {
            push_escaped(&mut out, b);
        } else {
            out.push(char::from(b));
        }
        i += 1;
    }
    out
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
