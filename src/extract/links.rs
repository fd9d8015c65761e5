//! Links of a page: which elements point elsewhere, resolved against its base, and whether robots may follow them.

use super::css::{self, Css, Scope};
use super::error::CompileError;
use encoding_rs::{EncoderResult, Encoding};
use html5ever::{LocalName, local_name, ns};
use http::HeaderMap;
use scraper::{ElementRef, Html};
use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use url::{Position, Url};

/// Names by which a page's robots rules speak to this crawler.
const ROBOTS: [&str; 2] = ["robots", "gleaner"];

/// `[crawl] follow`, compiled.
#[derive(Default)]
pub(super) struct Follow {
    /// Empty: the default of a, area, frame, iframe and meta refresh.
    rules: Vec<Rule>,
}

struct Rule {
    css: RuleCss,
    attribute: LocalName,
}

enum RuleCss {
    /// `tag[attr]`.
    Tag(LocalName),
    Any(Css),
}

impl Follow {
    /// Each rule is `selector[attr]`: elements that match, with the attribute, which is the link.
    pub(super) fn compile(rules: &[String], errors: &mut Vec<CompileError>) -> Self {
        let mut out = Vec::with_capacity(rules.len());
        for (i, text) in rules.iter().enumerate() {
            match Rule::parse(text) {
                Ok(rule) => out.push(rule),
                Err(message) => errors.push(CompileError::new(format!("crawl.follow[{i}]"), message)),
            }
        }
        Self { rules: out }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wanted = || format!("{text:?} does not end in [attribute], as a[href] does");
        let (selector, attribute) = text.strip_suffix(']').and_then(|t| t.rsplit_once('[')).ok_or_else(wanted)?;
        let attribute = attribute.trim();
        if attribute.is_empty() || !attribute.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b)) {
            return Err(wanted());
        }
        let css = match Css::parse(selector) {
            Ok(Css::Tag(tag)) => RuleCss::Tag(tag),
            _ => RuleCss::Any(Css::parse(text)?),
        };
        Ok(Self { css, attribute: LocalName::from(attribute.to_ascii_lowercase()) })
    }
}

/// The elements of a page that can point elsewhere or say how: collected in one walk, read several times.
pub(super) fn pointers(html: &Html) -> Vec<ElementRef<'_>> {
    css::elements(html).filter(|e| points(&e.value().name.local)).collect()
}

fn points(tag: &LocalName) -> bool {
    [local_name!("a"), local_name!("area"), local_name!("frame"), local_name!("iframe"), local_name!("meta"), local_name!("base")]
        .contains(tag)
}

/// Turns the links of one page into addresses.
pub(super) struct Resolver {
    base: Url,
    encoding: &'static Encoding,
    /// Whether the base is an ordinary http or https address, in which plain links need no parser.
    plain: bool,
}

impl Resolver {
    /// `url` is the page's own address after redirects; the first `<base href>` counts, resolved against it.
    pub(super) fn new(pointers: &[ElementRef<'_>], url: &Url, encoding: &'static Encoding) -> Self {
        let mut this = Self { base: url.clone(), encoding: encoding.output_encoding(), plain: false };
        let base = pointers
            .iter()
            .filter(|e| e.value().name.local == local_name!("base") && e.value().name.ns == ns!(html))
            .find_map(|e| attribute(*e, &local_name!("href")));
        if let Some(base) = base.and_then(|b| this.parse(b)) {
            this.base = base;
        }
        this.plain = is_web(&this.base);
        this
    }

    /// The two parts of a resolved link where the parser would copy both as they are: `/a/b?c`, `a/b?c` and absolute ones of
    /// the base's own origin, if they hold nothing that is escaped, dropped or shortened. `None`: ask the parser.
    fn by_copy<'t>(&'t self, link: &'t str) -> Option<(&'t str, &'t str)> {
        if !self.plain {
            return None;
        }
        let link = link.trim_matches(|c: char| c <= ' ');
        let link = link.find('#').map_or(link, |at| &link[..at]);
        let bytes = link.as_bytes();
        match bytes {
            [b'/', b'/', ..] => None,
            [b'/', ..] => copies(bytes).then(|| (&self.base[..Position::BeforePath], link)),
            [b'h', b't', b't', b'p', ..] if bytes[4..].starts_with(b"://") || bytes[4..].starts_with(b"s://") => {
                let rest = link.strip_prefix(&self.base[..Position::BeforeUsername])?;
                let rest = rest.strip_prefix(&self.base[Position::BeforeHost..Position::BeforePath])?;
                // A host of plain letters and digits reads as itself; names in other forms need not.
                let host = self.base.host_str()?.as_bytes();
                let plain = host.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
                    && !host.windows(4).any(|w| w == b"xn--");
                (plain && rest.starts_with('/') && copies(rest.as_bytes())).then_some(("", link))
            }
            [first, ..] if first.is_ascii_alphanumeric() && !bytes.contains(&b':') && copies(bytes) => {
                let path = &self.base[..Position::AfterPath];
                Some((&path[..=path.rfind('/')?], link))
            }
            _ => None,
        }
    }

    /// The address by WHATWG, http or https only, its fragment dropped. Non-ASCII in the query is written in the page's
    /// charset, in the path in UTF-8.
    pub(super) fn resolve(&self, link: &str) -> Option<Url> {
        let link = link.trim_matches(|c: char| c <= ' ');
        if link.starts_with('#') {
            // The page itself, but that the base may be another.
            return self.parse("").filter(is_web);
        }
        let mut url = self.parse(link).filter(is_web)?;
        url.set_fragment(None);
        Some(url)
    }

    fn parse(&self, link: &str) -> Option<Url> {
        let options = Url::options().base_url(Some(&self.base));
        if link.is_ascii() { options.parse(link).ok() } else { options.encoding_override(Some(&encoder(self.encoding))).parse(link).ok() }
    }
}

fn joined(before: &str, rest: &str) -> String {
    let mut text = String::with_capacity(before.len() + rest.len());
    text.push_str(before);
    text.push_str(rest);
    text
}

/// Whether a path with its query is written as the URL standard writes it: no dot segments, nothing to escape. Says no where
/// it is not certain.
fn copies(link: &[u8]) -> bool {
    let mut before = b' ';
    for &b in link {
        let plain = match b {
            b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'-'
            | b'_'
            | b'~'
            | b'/'
            | b'?'
            | b'='
            | b'&'
            | b'+'
            | b','
            | b';'
            | b':'
            | b'@'
            | b'!'
            | b'$'
            | b'*'
            | b'('
            | b')' => true,
            b'.' => before != b'/',
            _ => false,
        };
        if !plain {
            return false;
        }
        before = b;
    }
    true
}

/// Query text in `encoding`; what it cannot write is `%26%23N%3B`, the escaped form of `&#N;` (WHATWG URL,
/// percent-encode after encoding).
fn encoder(encoding: &'static Encoding) -> impl Fn(&str) -> Cow<'_, [u8]> {
    move |text| {
        let (bytes, _, unmappable) = encoding.encode(text);
        if !unmappable {
            return bytes;
        }
        let mut encoder = encoding.new_encoder();
        let (mut out, mut rest, mut buffer) = (Vec::new(), text, [0; 1024]);
        loop {
            let (result, read, written) = encoder.encode_from_utf8_without_replacement(rest, &mut buffer, true);
            out.extend_from_slice(&buffer[..written]);
            rest = &rest[read..];
            match result {
                EncoderResult::InputEmpty => return Cow::Owned(out),
                EncoderResult::OutputFull => {}
                EncoderResult::Unmappable(c) => out.extend_from_slice(format!("%26%23{}%3B", u32::from(c)).as_bytes()),
            }
        }
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|h| !h.is_empty())
}

/// Addresses in their order, each once. Known ones are kept by 64 bits of a hash with a key of this process, so that strangers
/// cannot make two collide.
struct Once<'r> {
    resolver: &'r Resolver,
    hasher: RandomState,
    /// As resolved, and as written where the parser is needed: pages repeat their links, and a look here is cheaper.
    seen: HashSet<u64, BuildHasherDefault<AsItIs>>,
    out: Vec<String>,
}

/// The hasher of what is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl<'r> Once<'r> {
    fn new(resolver: &'r Resolver) -> Self {
        Self { resolver, hasher: RandomState::new(), seen: HashSet::default(), out: Vec::new() }
    }

    fn extend<'p>(&mut self, links: impl IntoIterator<Item = &'p str>) {
        for link in links {
            let url = if let Some((before, rest)) = self.resolver.by_copy(link) {
                joined(before, rest)
            } else if self.seen.insert(self.hasher.hash_one((0u8, link)))
                && let Some(url) = self.resolver.resolve(link)
            {
                url.into()
            } else {
                continue;
            };
            if self.seen.insert(self.hasher.hash_one((1u8, url.as_str()))) {
                self.out.push(url);
            }
        }
    }
}

/// The links to follow: absolute, in document order, each once.
pub(super) fn follow(html: &Html, pointers: &[ElementRef<'_>], follow: &Follow, resolver: &Resolver) -> Vec<String> {
    let mut once = Once::new(resolver);
    if follow.rules.is_empty() {
        for &element in pointers {
            let name = &element.value().name;
            if name.ns != ns!(html) {
                // SVG's `a` is a link too; its frames and metas are not.
                if name.local == local_name!("a") {
                    once.extend(attribute(element, &local_name!("href")));
                }
                continue;
            }
            if name.local == local_name!("a") || name.local == local_name!("area") {
                once.extend(attribute(element, &local_name!("href")));
            } else if name.local == local_name!("frame") || name.local == local_name!("iframe") {
                once.extend(attribute(element, &local_name!("src")));
            } else if name.local == local_name!("meta") {
                once.extend(refresh(element));
            }
        }
    } else if follow.rules.iter().all(|r| matches!(&r.css, RuleCss::Tag(tag) if points(tag))) {
        for &element in pointers {
            add_by_tag(&mut once, element, &follow.rules);
        }
    } else if follow.rules.iter().all(|r| matches!(r.css, RuleCss::Tag(_))) {
        for element in css::elements(html) {
            add_by_tag(&mut once, element, &follow.rules);
        }
    } else {
        // In document order within each rule.
        for rule in &follow.rules {
            let found = match &rule.css {
                RuleCss::Tag(tag) => css::elements(html).filter(|e| e.value().name.local == *tag).collect(),
                RuleCss::Any(css) => css.all(Scope::Page(html)),
            };
            for element in found {
                add(&mut once, element, &rule.attribute);
            }
        }
    }
    once.out
}

fn add_by_tag(once: &mut Once<'_>, element: ElementRef<'_>, rules: &[Rule]) {
    for rule in rules {
        if matches!(&rule.css, RuleCss::Tag(tag) if element.value().name.local == *tag) {
            add(once, element, &rule.attribute);
        }
    }
}

fn add(once: &mut Once<'_>, element: ElementRef<'_>, name: &LocalName) {
    let Some(value) = attribute(element, name) else { return };
    if matches!(&**name, "srcset" | "imagesrcset") {
        once.extend(srcset(value));
    } else if *name == local_name!("content") && element.value().name.local == local_name!("meta") {
        once.extend(refresh(element));
    } else {
        once.extend([value]);
    }
}

/// `links:`: every `a[href]` within the scope, canonical, in document order, each once.
pub(super) fn anchors(scope: Scope<'_>, resolver: &Resolver) -> Vec<String> {
    let mut once = Once::new(resolver);
    for element in Css::Tag(local_name!("a")).all(scope) {
        once.extend(attribute(element, &local_name!("href")));
    }
    // Only escapes can make two written forms of one address, or a form that is not canonical yet.
    if !once.out.iter().any(|u| u.contains('%')) {
        return once.out;
    }
    let mut seen = HashSet::new();
    let canonical = once.out.into_iter().map(|u| Url::parse(&u).map_or(u, |url| crate::model::canonical(&url)));
    canonical.filter(|u| seen.insert(u.clone())).collect()
}

fn attribute<'p>(element: ElementRef<'p>, name: &LocalName) -> Option<&'p str> {
    element.value().attrs.iter().find(|(n, _)| n.local == *name).map(|(_, v)| &**v)
}

/// The address of a `<meta http-equiv=refresh content="5; url=…">` (WHATWG HTML, shared declarative refresh steps).
fn refresh(meta: ElementRef<'_>) -> Option<&str> {
    if !attribute(meta, &local_name!("http-equiv"))?.trim().eq_ignore_ascii_case("refresh") {
        return None;
    }
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = attribute(meta, &local_name!("content"))?.trim_start_matches(blank);
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rest = rest.trim_start_matches(blank);
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start_matches(blank);
    let after_url = rest.get(..3).filter(|w| w.eq_ignore_ascii_case("url")).map(|_| rest[3..].trim_start_matches(blank));
    let rest = after_url.and_then(|r| r.strip_prefix('=')).map_or(rest, |r| r.trim_start_matches(blank));
    let link = match rest.chars().next()? {
        q @ ('"' | '\'') => rest[1..].split(q).next().unwrap_or(""),
        _ => rest,
    };
    (!link.is_empty()).then_some(link)
}

/// The addresses of a `srcset` (WHATWG HTML, parsing a srcset attribute).
fn srcset(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (link, after) = rest.split_at(end);
        if link.is_empty() {
            return None;
        }
        if link.ends_with(',') {
            rest = after;
        } else {
            let mut open = 0u32;
            let next = after.find(|c: char| {
                match c {
                    '(' => open += 1,
                    ')' => open = open.saturating_sub(1),
                    _ => {}
                }
                c == ',' && open == 0
            });
            rest = next.map_or("", |i| &after[i..]);
        }
        Some(link.trim_end_matches(','))
    })
}

/// Whether the page asks that none of its links be followed: `nofollow` or `none` for all robots or for `gleaner`, in
/// `<meta name=robots>` or X-Robots-Tag. Negative rules add up; what other robots are told is left aside.
pub(super) fn nofollow(pointers: &[ElementRef<'_>], headers: &HeaderMap) -> bool {
    let by_header = headers.get_all("x-robots-tag").iter().any(|v| v.to_str().is_ok_and(header_forbids));
    by_header
        || pointers.iter().filter(|e| e.value().name.local == local_name!("meta")).any(|&e| {
            attribute(e, &local_name!("name")).is_some_and(|n| ROBOTS.iter().any(|r| n.trim().eq_ignore_ascii_case(r)))
                && attribute(e, &local_name!("content")).is_some_and(|c| c.split(|c: char| c == ',' || c.is_whitespace()).any(forbids))
        })
}

fn forbids(rule: &str) -> bool {
    let rule = rule.trim();
    rule.eq_ignore_ascii_case("nofollow") || rule.eq_ignore_ascii_case("none")
}

/// One X-Robots-Tag value: `nofollow`, `otherbot: noindex, nofollow`, `unavailable_after: …` (a rule, not a robot).
fn header_forbids(value: &str) -> bool {
    let mut ours = true;
    for part in value.split(',') {
        let mut rule = part.trim();
        if let Some((name, after)) = rule.split_once(':') {
            let name = name.trim();
            let is_rule =
                ["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"].iter().any(|r| name.eq_ignore_ascii_case(r));
            if !is_rule && !name.contains(char::is_whitespace) {
                ours = ROBOTS.iter().any(|r| name.eq_ignore_ascii_case(r));
                rule = after;
            }
        }
        if ours && forbids(rule) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(html: &str, url: &str, encoding: &'static Encoding, rules: &[&str]) -> Vec<String> {
        let html = crate::extract::html::parse(html, &|| false).unwrap();
        let mut errors = Vec::new();
        let rules: Vec<String> = rules.iter().map(|r| (*r).to_owned()).collect();
        let f = Follow::compile(&rules, &mut errors);
        assert_eq!(errors, []);
        let found = pointers(&html);
        follow(&html, &found, &f, &Resolver::new(&found, &Url::parse(url).unwrap(), encoding))
    }

    fn links(html: &str) -> Vec<String> {
        page(html, "http://h/d/p?q", encoding_rs::UTF_8, &[])
    }

    proptest::proptest! {
        #[test]
        fn what_is_copied_is_what_the_parser_gives(
            base in proptest::sample::select(vec![
                "http://h.example/", "http://h.example/d/e/p.html?q=/x#f", "https://u:p@h.example:8443/a/b;c/", "http://127.0.0.1:80/x?y",
                "http://[::1]:9/a", "https://xn--mnchen-3ya.de/a/b", "http://h.example?q/r", "http://a_b.c/%2e/x/..", "http://10/a", "file:///C:/a/b", "http://h./a",
            ]),
            start in proptest::sample::select(vec![
                "", "/", "//", "a", "a/", "./", "../", "?", "http://h.example", "http://h.example/", "https://h.example:8443/", "https://u:p@h.example:8443/",
                "http://127.0.0.1", "http://127.0.0.1/", "http://127.0.0.1:80/", "https://xn--mnchen-3ya.de/", "http://[::1]:9/", "http:a", "http:/a", "httpa/b", "http://0.0.0.10/",
                "/C:/", "/C|/", "c:", "http://h./",
            ]),
            rest in "([a-zA-Z0-9/.?=&+,;:@!$*()'%#{}|^~_ \\\\\t-]|%2e|/\\.|ä|\\[|\\]|<|\"){0,12}",
        ) {
            let base = Url::parse(base).unwrap();
            let link = format!("{start}{rest}");
            for encoding in [encoding_rs::UTF_8, encoding_rs::WINDOWS_1252] {
                let resolver = Resolver::new(&[], &base, encoding);
                if let Some((before, rest)) = resolver.by_copy(&link) {
                    proptest::prop_assert_eq!(Some(joined(before, rest)), resolver.resolve(&link).map(String::from), "{} at {}", link, base);
                }
            }
        }
    }

    #[test]
    fn plain_links_are_copied() {
        let resolver = Resolver::new(&[], &Url::parse("http://u@h:81/d/e?f").unwrap(), encoding_rs::UTF_8);
        let copied = |link| resolver.by_copy(link).map(|(a, b)| joined(a, b));
        for (link, url) in
            [("/page/1?a=b#c", "http://u@h:81/page/1?a=b"), (" x.html\n", "http://u@h:81/d/x.html"), ("http://h:81/y/", "http://h:81/y/")]
        {
            assert_eq!(copied(link).as_deref(), Some(url), "{link}");
        }
        for link in ["", "#a", "?a", "//h/x", "/a/../b", ".", "/%41", "mailto:a", "http://h/", "http://h:81", "/a b", "/a\\b"] {
            assert_eq!(copied(link), None, "{link}");
        }
    }

    #[test]
    fn the_default_follows_a_area_frames_and_refresh() {
        let html = "<meta http-equiv=Refresh content=\"0; URL='r'\"><a href=' a\n '>x</a><area href=b><iframe src=i></iframe><img src=no><link href=no><form action=no></form><noscript><a href=n>n</a></noscript>";
        assert_eq!(links(html), ["http://h/d/r", "http://h/d/a", "http://h/d/b", "http://h/d/i", "http://h/d/n"]);
        assert_eq!(links("<frameset><frame src=f></frameset>"), ["http://h/d/f"]);
    }

    #[test]
    fn links_are_absolute_once_and_without_fragment() {
        let html = "<a href=x#1><a href=x#2><a href='x'><a href=#top><a href=''><a href=//o/y><a href=mailto:a@b><a href=javascript:x><a href=data:,x><a href='http://'><a href=ftp://h/>";
        assert_eq!(links(html), ["http://h/d/x", "http://h/d/p?q", "http://o/y"]);
    }

    #[test]
    fn the_first_base_with_href_counts_resolved_against_the_page() {
        assert_eq!(links("<base target=x><base href='../up/'><base href=http://no/><a href=x>"), ["http://h/up/x"]);
        assert_eq!(links("<base href='http://['><a href=x>"), ["http://h/d/x"]);
        assert_eq!(links("<a href=x><base href=//o/>"), ["http://o/x"]);
    }

    #[test]
    fn the_query_is_in_the_pages_charset_and_the_path_in_utf8() {
        let html = "<a href='/ä?ä=€#ä'>";
        assert_eq!(page(html, "http://h/", encoding_rs::WINDOWS_1252, &[]), ["http://h/%C3%A4?%E4=%80"]);
        assert_eq!(page(html, "http://h/", encoding_rs::UTF_16LE, &[]), ["http://h/%C3%A4?%C3%A4=%E2%82%AC"]);
        assert_eq!(page("<a href='?ж'>", "http://h/", encoding_rs::WINDOWS_1252, &[]), ["http://h/?%26%231078%3B"]);
    }

    #[test]
    fn rules_name_the_attribute_and_srcset_is_split() {
        let html = "<a href=1><p data-u=2><img srcset='3 1x, 4,5 2x,, data:a,b 3x' src=6><a href=7 class=n>";
        assert_eq!(
            page(html, "http://h/", encoding_rs::UTF_8, &["img[srcset]", "p[data-u]"]),
            ["http://h/2", "http://h/3", "http://h/4,5"]
        );
        assert_eq!(page(html, "http://h/", encoding_rs::UTF_8, &["a.n[href]"]), ["http://h/7"]);
        assert_eq!(page(html, "http://h/", encoding_rs::UTF_8, &["a[href]"]), ["http://h/1", "http://h/7"]);
        assert_eq!(page(html, "http://h/", encoding_rs::UTF_8, &["[src]"]), ["http://h/6"]);
    }

    #[test]
    fn wrong_rules_are_named() {
        let mut errors = Vec::new();
        Follow::compile(&["a[href]".into(), "a".into(), "a[href^=x]".into(), "!!![href]".into()], &mut errors);
        assert_eq!(errors.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["crawl.follow[1]", "crawl.follow[2]", "crawl.follow[3]"]);
    }

    #[test]
    fn robots_rules_for_us_are_heard_and_others_are_not() {
        let meta = |m: &str| nofollow(&pointers(&Html::parse_document(m)), &HeaderMap::new());
        assert!(meta("<meta name=ROBOTS content='noindex, NoFollow'>") && meta("<meta name=gleaner content=none>"));
        assert!(!meta("<meta name=googlebot content=nofollow>") && !meta("<meta name=robots content=follow>"));
        let header = |values: &[&str]| {
            let mut h = HeaderMap::new();
            for v in values {
                h.append("x-robots-tag", v.parse().unwrap());
            }
            nofollow(&[], &h)
        };
        assert!(
            header(&["noindex", "nofollow"]) && header(&["gleaner: noindex, none"]) && header(&["otherbot: noindex, gleaner: nofollow"])
        );
        assert!(header(&["unavailable_after: 25 Jun 2010 15:00:00 PST, nofollow"]) && header(&["robots: nofollow"]));
        assert!(!header(&["otherbot: noindex, nofollow"]) && !header(&["noindex"]) && !header(&[]));
    }
}
