//! Selectors on a parsed page: what a field, a row rule or a follow rule points at.

use html5ever::LocalName;
use scraper::{ElementRef, Html, Selector};

/// Where a selector looks.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// The whole page.
    Page(&'a Html),
    /// Within one element, itself left out.
    Within(ElementRef<'a>),
}

/// A compiled selector.
pub(super) enum Css {
    /// The row's element itself (`css:@href`, `css::scope`); of a page, its root.
    Own,
    /// One tag name: compared without the selector machine.
    Tag(LocalName),
    /// Any other.
    Any(Box<Selector>),
}

/// A parser's error in one line of words: `DanglingCombinator` is "dangling combinator".
fn why(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    let mut words = String::with_capacity(last.len() + 8);
    for (i, c) in last.char_indices() {
        if i > 0 && c.is_ascii_uppercase() && words.ends_with(|c: char| c.is_ascii_lowercase()) {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

impl Css {
    /// # Errors
    /// A lowercase sentence that names the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text == ":scope" {
            return Ok(Self::Own);
        }
        if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Ok(Self::Tag(LocalName::from(text)));
        }
        if let Some(end) = text.chars().last().filter(|c| matches!(c, '.' | '#' | ':')) {
            return Err(format!("{text:?} is no CSS selector: no name stands behind its last `{end}`"));
        }
        Selector::parse(text)
            .map(|s| Self::Any(Box::new(s)))
            .map_err(|e| format!("{text:?} is no CSS selector that is known here: {}", why(&e.to_string())))
    }

    pub(super) fn first<'a>(&self, scope: Scope<'a>) -> Option<ElementRef<'a>> {
        match (self, scope) {
            (Self::Own, Scope::Within(e)) => Some(e),
            (Self::Own, Scope::Page(html)) => root(html),
            (Self::Any(s), Scope::Page(html)) => html.select(s).next(),
            (Self::Any(s), Scope::Within(e)) => e.select(s).next(),
            (Self::Tag(t), Scope::Page(html)) => elements(html).find(|e| e.value().name.local == *t),
            (Self::Tag(t), Scope::Within(e)) => e.descendent_elements().skip(1).find(|e| e.value().name.local == *t),
        }
    }

    pub(super) fn all<'a>(&self, scope: Scope<'a>) -> Vec<ElementRef<'a>> {
        match (self, scope) {
            (Self::Own, _) => self.first(scope).into_iter().collect(),
            (Self::Any(s), Scope::Page(html)) => html.select(s).collect(),
            (Self::Any(s), Scope::Within(e)) => e.select(s).collect(),
            (Self::Tag(t), Scope::Page(html)) => elements(html).filter(|e| e.value().name.local == *t).collect(),
            (Self::Tag(t), Scope::Within(e)) => e.descendent_elements().skip(1).filter(|e| e.value().name.local == *t).collect(),
        }
    }
}

/// Every element of the page that is still in its tree, in the order of their start tags.
pub(super) fn elements(html: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    html.tree.nodes().filter_map(ElementRef::wrap).filter(|e| e.parent().is_some())
}

/// The `<html>` element.
pub(super) fn root(html: &Html) -> Option<ElementRef<'_>> {
    html.tree.root().children().find_map(ElementRef::wrap)
}

/// An attribute, its name in any case; the first of that name counts.
pub(super) fn attribute<'a>(element: ElementRef<'a>, name: &str) -> Option<&'a str> {
    element.value().attrs.iter().find(|(n, _)| str::eq_ignore_ascii_case(&n.local, name)).map(|(_, v)| &**v)
}

/// All text inside, joined, trimmed, each run of white space one space.
pub(super) fn text(element: ElementRef<'_>) -> String {
    let mut out = String::new();
    let mut gap = false;
    for part in element.text() {
        squeeze(part, &mut out, &mut gap);
    }
    out
}

/// `text` trimmed, each run of white space one space.
pub(super) fn squeezed(text: &str) -> String {
    let (mut out, mut gap) = (String::with_capacity(text.len()), false);
    squeeze(text, &mut out, &mut gap);
    out
}

fn squeeze(part: &str, out: &mut String, gap: &mut bool) {
    let mut rest = part;
    loop {
        let word = rest.trim_start();
        *gap |= word.len() < rest.len();
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        if end == 0 {
            return;
        }
        if *gap && !out.is_empty() {
            out.push(' ');
        }
        *gap = false;
        out.push_str(&word[..end]);
        rest = &word[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_joined_trimmed_and_squeezed() {
        let html = Html::parse_document("<h1>  A\u{a0}\n <b>b</b>c <i> d</i><!-- x --> </h1><p> <p>e");
        let first = |css| Css::parse(css).unwrap().first(Scope::Page(&html)).map(text);
        assert_eq!(first("h1").as_deref(), Some("A bc d"));
        assert_eq!(first("p").as_deref(), Some(""));
        assert_eq!(first("h2"), None);
        assert_eq!(squeezed(" \n"), "");
    }

    #[test]
    fn a_tag_finds_what_its_selector_finds() {
        let html = Html::parse_document("<div id=o><DIV id=i><p>1<svg><p>2</svg></div><p>3</div><table><p>4");
        let within = Css::parse("#o").unwrap().first(Scope::Page(&html)).unwrap();
        for scope in [Scope::Page(&html), Scope::Within(within)] {
            for tag in ["div", "p", "table", "nosuch"] {
                let slow = Css::Any(Box::new(Selector::parse(tag).unwrap()));
                let fast = Css::parse(tag).unwrap();
                assert!(matches!(fast, Css::Tag(_)));
                assert_eq!(fast.all(scope), slow.all(scope), "{tag}");
                assert_eq!(fast.first(scope), slow.first(scope), "{tag}");
            }
        }
    }
}
