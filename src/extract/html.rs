//! Parsing a page that may be hostile: in bounded time, to a bounded depth.

use super::error::ExtractFailure;
use super::sink::WatchingSink;
use crate::model::Reason;
use html5ever::driver::{ParseOpts, Parser, parse_document};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::TreeBuilderOpts;
use scraper::Html;

/// Deepest element that is read; what is deeper ends the page as `too-deep`.
pub(super) const MAX_DEPTH: u32 = 512;
/// Attributes of one tag: html5ever compares each with all before it.
const MAX_ATTRIBUTES: usize = 4_000;
/// Elements and comments of one page: each takes about 200 bytes.
const MAX_NODES: usize = 1_000_000;
/// Bytes fed between two looks at depth and time, where the tree is shallow.
const CHUNK: usize = 8 * 1024;

/// Parses `text` with scripting off, so that `noscript` has its elements, on the calling thread.
///
/// # Errors
/// `too-deep` for a tree deeper than 512, for a tag of more than 4,000 attributes, for more than a million elements,
/// and for formatting elements that multiply into more of them than the page has bytes; `parse-timeout` once `late` says so. Both are checked every 8 KiB, more often
/// where the tree is deep.
pub(super) fn parse(text: &str, late: &dyn Fn() -> bool) -> Result<Html, ExtractFailure> {
    let opts =
        ParseOpts { tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() }, ..ParseOpts::default() };
    let mut parser = parse_document(WatchingSink::sized(text.len()), opts);
    let most_nodes = MAX_NODES.min(text.len() + 10_000);
    let mut quiet = Quiet::default();
    let mut at = 0;
    while at < text.len() {
        let depth = sink(&parser).depth(MAX_DEPTH);
        // A tag can open a copy of every formatting element around it, so that steps are small where there are many.
        let size = if depth < 100 { CHUNK } else { CHUNK / 16 };
        let end = boundary(text, at + size);
        let calls = sink(&parser).calls();
        parser.process(StrTendril::from_slice(&text[at..end]));
        let sink = sink(&parser);
        if sink.depth(MAX_DEPTH) > MAX_DEPTH {
            return Err(ExtractFailure::new(Reason::TooDeep, "the page is nested deeper than 512 elements"));
        }
        if sink.nodes() > most_nodes {
            return Err(ExtractFailure::new(
                Reason::TooDeep,
                "unclosed formatting elements multiply into more nodes than the page has bytes",
            ));
        }
        if quiet.attributes(text, at, end, sink.calls() == calls) > MAX_ATTRIBUTES {
            return Err(ExtractFailure::new(Reason::TooDeep, "a tag has more than 4,000 attributes"));
        }
        if late() {
            return Err(ExtractFailure::timeout("parsing the page"));
        }
        at = end;
    }
    Ok(parser.finish())
}

fn sink(parser: &Parser<WatchingSink>) -> &WatchingSink {
    &parser.tokenizer.sink.sink
}

/// The greatest character boundary at or before `at`, past nothing but the end.
fn boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    let mut at = at;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Input that the tree builder has not heard of yet: the inside of one tag, comment or the like.
#[derive(Default)]
struct Quiet {
    /// Where the last chunk began in which something happened.
    from: usize,
    tag: Option<TagScan>,
}

impl Quiet {
    /// How many attributes the tag has that is open at `end`; 0 unless the chunk was quiet.
    fn attributes(&mut self, text: &str, at: usize, end: usize, quiet: bool) -> usize {
        if !quiet {
            (self.from, self.tag) = (at, None);
            return 0;
        }
        let bytes = text.as_bytes();
        let tag = match &mut self.tag {
            Some(tag) => tag,
            // The tag was open before this chunk, or it begins in it.
            none => none.insert(TagScan::last(bytes, self.from, at, end).unwrap_or_else(|| TagScan::first(bytes, at, end))),
        };
        tag.scan(&bytes[tag.at..end]);
        tag.count
    }
}

/// Counts the attributes of one tag as the tokenizer would; a `>` outside of quotes shows that it was no tag.
struct TagScan {
    at: usize,
    count: usize,
    state: TagState,
}

#[derive(Clone, Copy, PartialEq)]
enum TagState {
    Between,
    Name,
    BeforeValue,
    Unquoted,
    Quoted(u8),
    NoTag,
}

impl TagScan {
    /// From the last `<letter` in `bytes[from..at]`, if no `>` has closed it before `end`.
    fn last(bytes: &[u8], from: usize, at: usize, end: usize) -> Option<Self> {
        let mut tag = Self::new((from..at).rev().find(|i| opens_tag(bytes, *i))?);
        tag.scan(&bytes[tag.at..end]);
        (tag.state != TagState::NoTag).then_some(tag)
    }

    /// From the first `<letter` in `bytes[at..end]`.
    fn first(bytes: &[u8], at: usize, end: usize) -> Self {
        match (at..end).find(|i| opens_tag(bytes, *i)) {
            Some(at) => Self::new(at),
            None => Self { at: end, count: 0, state: TagState::NoTag },
        }
    }

    fn new(at: usize) -> Self {
        Self { at, count: 0, state: TagState::Name }
    }

    fn scan(&mut self, bytes: &[u8]) {
        use TagState::{BeforeValue, Between, Name, NoTag, Quoted, Unquoted};
        for &b in bytes {
            let blank = b.is_ascii_whitespace();
            self.state = match (self.state, b) {
                (NoTag, _) => break,
                (Quoted(q), _) if b != q => Quoted(q),
                (Quoted(_), _) => Between,
                (_, b'>') => NoTag,
                (BeforeValue, b'"' | b'\'') => Quoted(b),
                (BeforeValue, _) if blank => BeforeValue,
                (Unquoted, _) if blank => Between,
                (BeforeValue | Unquoted, _) => Unquoted,
                (Name | Between, b'=') => BeforeValue,
                (Name | Between, _) if blank || b == b'/' => Between,
                (Between, _) => {
                    self.count += 1;
                    Name
                }
                (Name, _) => Name,
            };
        }
        self.at += bytes.len();
        if self.state == NoTag {
            self.count = 0;
        }
    }
}

fn opens_tag(bytes: &[u8], i: usize) -> bool {
    bytes[i] == b'<' && bytes.get(i + 1).is_some_and(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn parsed(text: &str) -> Result<Html, ExtractFailure> {
        parse(text, &|| false)
    }

    fn reason(text: &str) -> Option<Reason> {
        parsed(text).err().map(|e| e.reason)
    }

    /// Within the time that a debug build is given; release is ten times as fast.
    fn quick<T>(f: impl FnOnce() -> T) -> T {
        #[allow(clippy::disallowed_methods, reason = "a test of time")]
        let start = Instant::now();
        let out = f();
        assert!(start.elapsed() < Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 2 }), "took {:?}", start.elapsed());
        out
    }

    #[test]
    fn deep_pages_end_soon_as_too_deep() {
        for text in [
            "<div>".repeat(50_000),
            "<ul><li>".repeat(64_000),
            format!("{}{}", "<a>".repeat(40_000), "<i>".repeat(40_000)),
            "<table><tr><td>".repeat(20_000),
            "<svg><g>".repeat(40_000),
            "<template>".repeat(20_000),
        ] {
            assert_eq!(quick(|| reason(&text)), Some(Reason::TooDeep), "{}", &text[..20]);
        }
    }

    #[test]
    fn many_unclosed_items_are_no_depth() {
        for text in [
            "<li>x".repeat(20_000),
            "<p>x".repeat(20_000),
            "<b><p>".repeat(40_000),
            "<option>x".repeat(20_000),
            "<a href=x>y</a> ".repeat(20_000),
        ] {
            assert_eq!(quick(|| reason(&text)), None, "{}", &text[..10]);
        }
    }

    #[test]
    fn misnested_pages_that_pass_are_shallow() {
        let fills =
            ["<font><a><i><b><table>", "<a><p><b></a>", "<b><i><p></b>", "<table><b><tr>x", "<p><nobr><div></nobr>x", "<a><table><a>"];
        for fill in fills {
            if let Ok(html) = quick(|| parsed(&fill.repeat(5_000))) {
                assert!(super::super::sink::measure(&html) <= MAX_DEPTH, "{fill}");
            }
        }
    }

    #[test]
    fn five_hundred_levels_are_read() {
        let inner = 512 - 2; // html and body above
        let text = format!("{}x", "<div>".repeat(inner));
        assert_eq!(reason(&text), None);
        assert_eq!(reason(&format!("<div>{text}")), Some(Reason::TooDeep));
    }

    #[test]
    fn a_tag_of_a_hundred_thousand_attributes_ends_soon() {
        let attributes: String = (0..100_000).fold(String::new(), |s, i| format!("{s} a{i}=1"));
        for before in ["", "<p>x", "<p>x<!-- <b y -->", &"<p>".repeat(CHUNK / 3), &format!("{} ", "<b>x</b>".repeat(CHUNK / 8))] {
            assert_eq!(quick(|| reason(&format!("{before}<a{attributes}>y"))), Some(Reason::TooDeep), "{}", before.len());
        }
        assert_eq!(quick(|| reason(&format!("<p>x<a title='{attributes}'>y"))), None);
        assert_eq!(quick(|| reason(&format!("<p>x<!-- {attributes} -->y"))), None);
        assert_eq!(quick(|| reason(&format!("<p>x<script>{attributes}</script>y"))), None);
    }

    #[test]
    fn formatting_elements_do_not_multiply() {
        let bold: String = (0..400).fold(String::new(), |s, i| format!("{s}<b id={i}>"));
        assert_eq!(quick(|| reason(&format!("<p>{bold}{}", "<p>x".repeat(300_000)))), Some(Reason::TooDeep));
        assert_eq!(quick(|| reason(&"<br>".repeat(1_100_000))), Some(Reason::TooDeep));
    }

    #[test]
    fn time_is_checked_between_chunks() {
        let e = parse(&"<p>x".repeat(10_000), &|| true).unwrap_err();
        assert_eq!(e.reason, Reason::ParseTimeout);
    }

    #[test]
    fn noscript_has_elements() {
        let html = parsed("<body><noscript><a href=x>y</a></noscript>").unwrap();
        assert_eq!(html.select(&scraper::Selector::parse("noscript a").unwrap()).count(), 1);
    }

    fn whole(text: &str) -> Html {
        let opts =
            ParseOpts { tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() }, ..ParseOpts::default() };
        parse_document(WatchingSink::new(), opts).one(text)
    }

    fn in_chunks(text: &str, size: usize) -> Html {
        let opts =
            ParseOpts { tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() }, ..ParseOpts::default() };
        let mut parser = parse_document(WatchingSink::new(), opts);
        let mut at = 0;
        while at < text.len() {
            let end = boundary(text, at + size.max(4));
            parser.process(StrTendril::from_slice(&text[at..end]));
            at = end;
        }
        parser.finish()
    }

    proptest! {
        #[test]
        fn chunks_give_the_same_tree(
            parts in proptest::collection::vec(prop_oneof![
                Just("<p>"), Just("<b>"), Just("</p>"), Just("<table>"), Just("<td>"), Just("<a href='x y'>"), Just("\r\n"), Just("&amp;"),
                Just("&notit;"), Just("<!-- c -->"), Just("<script>a<b"), Just("</script>"), Just("ä€"), Just("<svg><a/>"), Just("</a>"), Just("<template>"),
            ], 0..60),
            size in 4usize..40,
        ) {
            let text: String = parts.concat();
            prop_assert_eq!(in_chunks(&text, size).html(), whole(&text).html());
            prop_assert_eq!(parse(&text, &|| false).unwrap().html(), whole(&text).html());
        }

        #[test]
        fn never_panics(text in "\\PC{0,200}", tags in "[<>/!abdipt =\"'-]{0,200}") {
            let _ = parse(&text, &|| false);
            let _ = parse(&tags, &|| false);
        }
    }
}
