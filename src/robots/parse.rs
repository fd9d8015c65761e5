//! Lines of a robots.txt to the patterns of one token, after RFC 9309 and google's parser (`robots.cc`, its typos included: they
//! all err towards obeying).

use super::rules::{MAX_BYTES, MAX_RULES, Oddities, canonical};
use std::time::Duration;

/// Longer lines are cut (google's `kMaxLineLen`).
const MAX_LINE: usize = 2083 * 8;
const MAX_SITEMAPS: usize = 1000;

/// What the lines say to one token.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Canonical patterns and whether they allow, in the file's order.
    pub(super) patterns: Vec<(String, bool)>,
    /// As written, not capped.
    pub(super) delay: Option<Duration>,
    pub(super) sitemaps: Vec<Box<str>>,
    pub(super) oddities: Oddities,
}

/// One audience's rules: those who are named, or `*`.
#[derive(Default)]
struct Audience {
    seen: bool,
    patterns: Vec<(String, bool)>,
    too_many: bool,
    delay: Option<Duration>,
}

impl Audience {
    fn rule(&mut self, pattern: String, allow: bool) {
        // Hostile files say the same thing over and over.
        if self.patterns.last().is_some_and(|(p, a)| *p == pattern && *a == allow) {
            return;
        }
        if self.patterns.len() < MAX_RULES {
            self.patterns.push((pattern, allow));
        } else {
            self.too_many = true;
        }
    }
}

/// The group that is being read: whom it speaks to.
#[derive(Default)]
struct Group {
    named: bool,
    everyone: bool,
    /// A rule was read: the next user-agent line begins another group.
    has_rules: bool,
    delay: Option<Duration>,
}

enum Key {
    UserAgent,
    Allow,
    Disallow,
    CrawlDelay,
    Sitemap,
    Other,
}

pub(super) fn read(body: &[u8], token: &str) -> Found {
    let mut found = Found::default();
    let body = within_cap(body, &mut found.oddities);
    let body = without_bom(body);
    if mostly_html(body) {
        found.oddities.html = true;
        return found;
    }
    let mut named = Audience::default();
    let mut everyone = Audience::default();
    let mut group = Group::default();
    for line in lines(body) {
        let Some((key, value)) = key_value(line) else { continue };
        match key_of(key) {
            Key::UserAgent => {
                if group.has_rules {
                    group = Group::default();
                }
                match value {
                    [b'*'] => group.everyone = true,
                    [b'*', next, ..] if next.is_ascii_whitespace() => group.everyone = true,
                    _ if agent(value).eq_ignore_ascii_case(token.as_bytes()) => group.named = true,
                    _ => {}
                }
                named.seen |= group.named;
                everyone.seen |= group.everyone;
                spread_delay(&group, &mut named, &mut everyone);
            }
            key @ (Key::Allow | Key::Disallow) => {
                group.has_rules = true;
                // Only what begins with `/` or `*` can match a path; an empty one forbids nothing.
                if matches!(value.first(), Some(b'/' | b'*')) {
                    let allow = matches!(key, Key::Allow);
                    let pattern = pattern(value);
                    if group.named {
                        named.rule(pattern.clone(), allow);
                    }
                    if group.everyone && !named.seen {
                        everyone.rule(pattern, allow);
                    }
                }
            }
            Key::CrawlDelay => {
                if let Some(d) = seconds(value) {
                    group.delay = group.delay.max(Some(d));
                    spread_delay(&group, &mut named, &mut everyone);
                }
            }
            Key::Sitemap => {
                if found.sitemaps.len() < MAX_SITEMAPS && !value.is_empty() {
                    found.sitemaps.push(String::from_utf8_lossy(value).into());
                }
            }
            Key::Other => {}
        }
    }
    let ours = if named.seen { named } else { everyone };
    found.patterns = ours.patterns;
    found.oddities.too_many = ours.too_many;
    found.delay = ours.delay;
    found
}

fn spread_delay(group: &Group, named: &mut Audience, everyone: &mut Audience) {
    if group.named {
        named.delay = named.delay.max(group.delay);
    }
    if group.everyone {
        everyone.delay = everyone.delay.max(group.delay);
    }
}

/// At most [`MAX_BYTES`]. A body of just that length was cut by the fetcher. The last line is dropped where it may be partial.
fn within_cap<'a>(body: &'a [u8], oddities: &mut Oddities) -> &'a [u8] {
    if body.len() < MAX_BYTES {
        return body;
    }
    let body = &body[..MAX_BYTES];
    oddities.cut = true;
    let end = body.iter().rposition(|b| matches!(b, b'\n' | b'\r')).unwrap_or(0);
    &body[..end]
}

/// Also a partial one, as google's parser does.
fn without_bom(body: &[u8]) -> &[u8] {
    let n = body.iter().zip([0xef, 0xbb, 0xbf]).take_while(|(a, b)| **a == *b).count();
    &body[n..]
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|b| matches!(b, b'\n' | b'\r')).map(|l| &l[..l.len().min(MAX_LINE)]).filter(|l| !l.is_empty())
}

fn mostly_html(body: &[u8]) -> bool {
    let (mut all, mut html) = (0u32, 0u32);
    for line in lines(body).filter(|l| !l.trim_ascii().is_empty()) {
        all += 1;
        html += u32::from(line.contains(&b'<'));
    }
    html * 2 > all
}

/// Key and value of a line, trimmed, its comment cut. A missing colon is forgiven where there are just two words.
fn key_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.split(|b| *b == b'#').next()?.trim_ascii();
    if let Some(at) = line.iter().position(|b| *b == b':') {
        let (key, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
        return (!key.is_empty()).then_some((key, value));
    }
    let at = line.iter().position(|b| matches!(b, b' ' | b'\t'))?;
    let (key, value) = (&line[..at], line[at..].trim_ascii());
    let one_word = !value.iter().any(|b| matches!(b, b' ' | b'\t'));
    one_word.then_some((key, value))
}

fn key_of(key: &[u8]) -> Key {
    let is = |names: &[&str]| names.iter().any(|n| key.get(..n.len()).is_some_and(|k| k.eq_ignore_ascii_case(n.as_bytes())));
    if is(&["user-agent", "useragent", "user agent"]) {
        Key::UserAgent
    } else if is(&["allow"]) {
        Key::Allow
    } else if is(&["disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"]) {
        Key::Disallow
    } else if is(&["crawl-delay", "crawldelay", "crawl delay"]) {
        Key::CrawlDelay
    } else if is(&["sitemap", "site-map"]) {
        Key::Sitemap
    } else {
        Key::Other
    }
}

/// The product token: up to the first octet outside of `[A-Za-z_-]` (`Gleaner/1.2` is `Gleaner`).
fn agent(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|b| !(b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'))).unwrap_or(value.len());
    &value[..end]
}

/// A canonical pattern: runs of `*` are one, a `$` that is not the last octet is the character.
fn pattern(value: &[u8]) -> String {
    let (value, to_end) = match value {
        [head @ .., b'$'] => (head, true),
        _ => (value, false),
    };
    let mut out = canonical(value, |b| b == b'$');
    while out.contains("**") {
        out = out.replace("**", "*");
    }
    if to_end {
        out.push('$');
    }
    out
}

/// Digits with at most one dot; `inf`, NaN, signs and junk are no value, zero is none.
fn seconds(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let n: f64 = text.parse().ok()?;
    // Any delay above the cap is as good as another.
    Duration::try_from_secs_f64(n.min(1e6)).ok().filter(|d| !d.is_zero())
}
