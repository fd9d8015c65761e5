//! Fields of a row: `css:`, `json:`, `re:`, `meta:`, `links:`, each with ` []` for every match.

use super::css::{self, Css, Scope};
use super::error::shown;
use super::filter::{Filter, Trouble};
use super::json;
use super::links::{self, Resolver};
use super::natives::REGEX_SIZE;
use crate::model::plan::FieldType;
use jaq_json::Val;
use regex::{Regex, RegexBuilder};
use scraper::{ElementRef, Html};
use serde_json::Value;
use std::borrow::Cow;

/// Text that the values of one page may hold beyond the page itself: nested elements repeat what is inside them.
pub(super) const MAX_TEXT: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// One field of `[extract]`.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) source: Source,
    /// ` []`: every match, as a JSON array.
    pub(super) list: bool,
    pub(super) kind: Option<FieldType>,
    pub(super) required: bool,
}

/// Where a value comes from.
pub(super) enum Source {
    Css { css: Css, attribute: Option<String> },
    Json(Filter),
    Re(Regex),
    Meta(Meta),
    Links,
}

/// Page metadata by name.
pub(super) enum Meta {
    Title,
    Canonical,
    Language,
    /// `<meta name=…>` or `<meta property=…>`, lower case.
    Named(String),
}

/// What a row or a page offers to its fields.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) html: Option<&'a Html>,
    pub(super) scope: Option<Scope<'a>>,
    pub(super) json: Option<&'a Val>,
    pub(super) text: &'a str,
    pub(super) resolver: Option<&'a Resolver>,
}

/// A source and whether it is a list.
///
/// # Errors
/// A lowercase sentence that names what is wrong.
pub(super) fn parse(text: &str) -> Result<(Source, bool), String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once(':').ok_or_else(|| unknown(text))?;
    let (body, list) = match rest.trim_end().strip_suffix("[]") {
        Some(before) if before.is_empty() || before.ends_with(char::is_whitespace) => (before.trim_end(), true),
        _ => (rest, false),
    };
    let source = match scheme {
        "css" => {
            let (selector, attribute) = split_attribute(body);
            let end = selector.rsplit(char::is_whitespace).next().unwrap_or_default();
            if attribute.is_none() && end.starts_with('@') {
                return Err(format!("{end:?} names no attribute: write it like `css:a @href`"));
            }
            Source::Css { css: Css::parse(selector)?, attribute: attribute.map(str::to_owned) }
        }
        // `json: []` is the empty array, not a list of nothing.
        "json" if list && body.trim().is_empty() => return Ok((Source::Json(Filter::compile(rest)?), false)),
        "json" => Source::Json(Filter::compile(body)?),
        "re" => Source::Re(regex(body)?),
        "meta" => Source::Meta(match body.trim().to_ascii_lowercase().as_str() {
            "" => return Err("`meta:` wants a name, as in meta:title".into()),
            "title" => Meta::Title,
            "canonical" => Meta::Canonical,
            "language" => Meta::Language,
            name => Meta::Named(name.to_owned()),
        }),
        "links" if body.trim().is_empty() => Source::Links,
        "links" => return Err("`links:` takes nothing after it".into()),
        "markdown" => return Err("`markdown:` is not there yet".into()),
        _ => return Err(unknown(text)),
    };
    let list = list || matches!(source, Source::Links);
    Ok((source, list))
}

fn unknown(text: &str) -> String {
    format!("{:?} begins with none of css:, json:, re:, meta:, links:", shown(text))
}

/// A regular expression of the job, its compiled size limited.
pub(super) fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_SIZE).nest_limit(100).build().map_err(|e| {
        let whole = e.to_string();
        let last = whole.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{:?} is no regular expression that can be used: {last}", shown(text))
    })
}

/// `h1 @title` is `h1` and `title`.
fn split_attribute(body: &str) -> (&str, Option<&str>) {
    let body = body.trim();
    let start = body.rfind(char::is_whitespace).map_or(0, |i| i + body[i..].chars().next().map_or(1, char::len_utf8));
    match body[start..].strip_prefix('@') {
        Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(&b)) => {
            (body[..start].trim_end(), Some(name))
        }
        _ => (body, None),
    }
}

impl Source {
    /// Whether it reads a parsed page.
    pub(super) fn wants_html(&self) -> bool {
        matches!(self, Self::Css { .. } | Self::Meta(_) | Self::Links)
    }

    /// Whether it turns links into addresses.
    pub(super) fn resolves(&self) -> bool {
        matches!(self, Self::Meta(Meta::Canonical) | Self::Links)
    }

    /// The value, null where nothing matches; always an array where `list`.
    ///
    /// # Errors
    /// A filter's own error: the field is null and it is counted.
    pub(super) fn value(&self, from: Material<'_>, list: bool, late: &dyn Fn() -> bool) -> Result<Value, Trouble> {
        let value = match self {
            Self::Css { css, attribute } => {
                let of = |e: ElementRef<'_>| match attribute {
                    Some(name) => css::attribute(e, name).map(|v| Value::from(v.trim())),
                    None => Some(Value::String(css::text(e))),
                };
                match from.scope {
                    None => return Ok(Value::Null),
                    Some(scope) if list => {
                        let (mut out, mut room) = (Vec::new(), MAX_TEXT + from.text.len());
                        for value in css.all(scope).into_iter().filter_map(of) {
                            room = room.checked_sub(value.as_str().map_or(0, str::len)).ok_or(Trouble::TooBig)?;
                            out.push(value);
                        }
                        Value::Array(out)
                    }
                    // The first match that has the attribute.
                    Some(scope) => match css.first(scope) {
                        None => Value::Null,
                        Some(e) => match of(e) {
                            Some(v) => v,
                            None => css.all(scope).into_iter().find_map(of).unwrap_or(Value::Null),
                        },
                    },
                }
            }
            Self::Json(filter) => match from.json {
                None => return Ok(Value::Null),
                Some(input) if list => {
                    let (values, trouble) = filter.all(input, late);
                    if let Some(trouble) = trouble {
                        return Err(trouble);
                    }
                    match values.as_slice() {
                        [Val::Arr(items)] => Value::Array(items.iter().map(json::to_value).collect()),
                        [Val::Null] => Value::Array(Vec::new()),
                        many => Value::Array(many.iter().map(json::to_value).collect()),
                    }
                }
                Some(input) => json::to_value(&filter.first(input)?),
            },
            Self::Re(regex) => {
                let of = |c: regex::Captures<'_>| c.get(1).or_else(|| c.get(0)).map(|m| Value::from(m.as_str()));
                let text = from.own_text();
                if list {
                    let mut out = Vec::new();
                    for captures in regex.captures_iter(&text) {
                        if out.len() % 256 == 255 && late() {
                            return Err(Trouble::Late);
                        }
                        out.extend(of(captures));
                    }
                    Value::Array(out)
                } else {
                    regex.captures(&text).and_then(of).unwrap_or(Value::Null)
                }
            }
            Self::Meta(meta) => {
                let Some(html) = from.html else { return Ok(Value::Null) };
                let mut values = meta.values(html, from.resolver).map(Value::String);
                if list { Value::Array(values.collect()) } else { values.next().unwrap_or(Value::Null) }
            }
            Self::Links => match (from.scope, from.resolver) {
                (Some(scope), Some(resolver)) => Value::from(links::anchors(scope, resolver)),
                _ => Value::Null,
            },
        };
        Ok(value)
    }
}

impl<'a> Material<'a> {
    /// What `re:` searches: the page's text as it came, a row element's text, a row value as text or JSON.
    fn own_text(&self) -> Cow<'a, str> {
        match (self.scope, self.json) {
            (Some(Scope::Within(e)), _) => Cow::Owned(e.text().collect()),
            (None, Some(Val::TStr(s))) => String::from_utf8_lossy(s),
            (None, Some(value)) if self.text.is_empty() => Cow::Owned(json::to_value(value).to_string()),
            _ => Cow::Borrowed(self.text),
        }
    }
}

impl Meta {
    /// Values in document order. Text is trimmed, white space squeezed; an address is made absolute.
    fn values<'a>(&'a self, html: &'a Html, resolver: Option<&'a Resolver>) -> Box<dyn Iterator<Item = String> + 'a> {
        let named = |e: &ElementRef<'_>, tag: &str| &*e.value().name.local == tag && e.value().name.ns == html5ever::ns!(html);
        match self {
            Self::Title => Box::new(css::elements(html).filter(move |e| named(e, "title")).map(css::text)),
            Self::Language => Box::new(
                css::root(html)
                    .and_then(|e| css::attribute(e, "lang").or_else(|| css::attribute(e, "xml:lang")))
                    .map(|l| l.trim().to_owned())
                    .into_iter(),
            ),
            Self::Canonical => Box::new(css::elements(html).filter(move |e| named(e, "link")).filter_map(move |e| {
                let rel = css::attribute(e, "rel")?;
                let href = css::attribute(e, "href").filter(|h| !h.trim().is_empty())?;
                rel.split_whitespace()
                    .any(|r| r.eq_ignore_ascii_case("canonical"))
                    .then(|| resolver.and_then(|r| r.resolve(href)).map_or_else(|| href.trim().to_owned(), String::from))
            })),
            Self::Named(name) => Box::new(css::elements(html).filter(move |e| named(e, "meta")).filter_map(move |e| {
                let is = |a: &str| css::attribute(e, a).is_some_and(|n| n.trim().eq_ignore_ascii_case(name));
                (is("name") || is("property")).then(|| css::attribute(e, "content").map(css::squeezed))?
            })),
        }
    }
}
