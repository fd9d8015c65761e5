//! The whole of it: one page in, what it holds out.

use super::charset::{self, Decoded};
use super::css::{Css, Scope};
use super::error::{CompileError, ExtractFailure, shown};
use super::field::{self, Field, Material, Source};
use super::filter::{Filter, Trouble};
use super::html;
use super::json;
use super::links::{self, Follow, Resolver};
use super::media::{self, Media};
use super::pages::{PageFacts, PageState, PageStep, Pager};
use super::typed;
use crate::model::Reason;
use crate::model::plan::{CrawlPlan, ExtractPlan, PagesPlan};
use http::HeaderMap;
use jaq_json::Val;
use scraper::{ElementRef, Html};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use url::Url;

/// `[extract]`, `[crawl] follow` and `[pages]`, compiled once and shared by all extraction threads.
pub struct Extractor {
    rows: Option<Rows>,
    fields: Vec<Field>,
    names: Vec<String>,
    follow: Option<Follow>,
    pager: Option<Pager>,
}

enum Rows {
    Css(Css),
    Json(Filter),
    JsonLines,
}

/// One fetched page.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    /// After redirects: relative links start from here.
    pub url: &'a Url,
    /// Of the final answer; 204 has no rows.
    pub status: u16,
    /// Of the final answer: Content-Type, Link, X-Robots-Tag and the job's own next-page header are read.
    pub headers: &'a HeaderMap,
    /// Decompressed.
    pub body: &'a [u8],
    /// Whether links to follow are wanted.
    pub links: bool,
    /// Where a paged entry stands: the state that asked for this page.
    pub paging: Option<&'a PageState>,
    /// Whether the page's time is up; asked every 8 KiB of HTML, every row and every 64 outputs of a filter.
    pub deadline: &'a dyn Fn() -> bool,
}

impl<'a> Page<'a> {
    /// A page of a list: no links, no paging, all the time it takes.
    #[must_use]
    pub fn new(url: &'a Url, status: u16, headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        Self { url, status, headers, body, links: false, paging: None, deadline: &|| false }
    }
}

/// What a page holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Each row has every field of [`Extractor::field_names`], in that order; null where a field gave nothing.
    pub rows: Vec<Vec<(String, Value)>>,
    /// Absolute http(s) addresses to follow: WHATWG form, fragment dropped, document order, each once. Empty where they were
    /// not asked for, where the page is no HTML, and where `nofollow`.
    pub links: Vec<String>,
    /// The page (meta robots, X-Robots-Tag) asks that its links be left alone. Looked at only where links were asked for.
    pub nofollow: bool,
    /// What follows, where [`Page::paging`] was given.
    pub paging: Option<PageStep>,
    /// To be counted by code: `type-miss`, `filter-error`, `json-nan`, `repeated-page`, `repeated-cursor`, `bad-next`.
    pub warnings: Vec<(&'static str, String)>,
    /// WHATWG name of the encoding that the page was read in.
    pub charset: &'static str,
}

impl Extractor {
    /// Reads everything that the job says about extraction.
    ///
    /// # Errors
    /// All that is wrong, each with its key, in the order of the job file.
    pub fn compile(extract: &ExtractPlan, crawl: Option<&CrawlPlan>, pages: Option<&PagesPlan>) -> Result<Self, Vec<CompileError>> {
        let mut errors = Vec::new();
        let rows =
            extract.rows.as_deref().and_then(|text| Rows::parse(text).map_err(|m| errors.push(CompileError::new("extract.rows", m))).ok());
        let mut fields = Vec::with_capacity(extract.fields.len());
        for (name, text) in &extract.fields {
            let key = format!("extract.fields.{name}");
            match field::parse(text) {
                Ok((source, list)) => {
                    if let Some(message) = rows.as_ref().and_then(|r| r.misfit(&source)) {
                        errors.push(CompileError::new(key, message));
                    }
                    let (kind, required) = (extract.types.get(name).copied(), extract.required.contains(name));
                    fields.push(Field { name: name.clone(), source, list, kind, required });
                }
                Err(message) => errors.push(CompileError::new(key, message)),
            }
        }
        let known = |name: &str| extract.fields.iter().any(|(n, _)| n == name);
        for name in extract.types.keys().filter(|n| !known(n)) {
            errors.push(CompileError::new(format!("extract.types.{name}"), format!("there is no field {name:?}")));
        }
        for name in extract.required.iter().filter(|n| !known(n)) {
            errors.push(CompileError::new("extract.required", format!("there is no field {name:?}")));
        }
        let follow = crawl.map(|c| Follow::compile(&c.follow, &mut errors));
        let turner = pages.and_then(|p| Pager::new(p).map_err(|e| errors.extend(e)).ok());
        if !errors.is_empty() {
            return Err(errors);
        }
        let names = fields.iter().map(|f| f.name.clone()).collect();
        Ok(Self { rows, fields, names, follow, pager: turner })
    }

    /// Names of the fields, in the job's order.
    pub fn field_names(&self) -> &[String] {
        &self.names
    }

    /// `[pages]`, for the first state and the requests.
    pub fn pager(&self) -> Option<&Pager> {
        self.pager.as_ref()
    }

    /// Reads one page.
    ///
    /// # Errors
    /// `too-deep`, `parse-timeout`: a hostile page. `bad-json`: JSON is wanted and the answer is none. `rows-missing`: the rows
    /// filter gave no array. `missing-field`: a required field is empty, in any row.
    pub fn run(&self, page: &Page<'_>) -> Result<Extracted, ExtractFailure> {
        let empty = page.status == 204 || page.body.trim_ascii().is_empty();
        let body = if empty { &[] } else { page.body };
        let (media, label) = media::of(page.headers, body);
        let media = if self.rows.as_ref().is_some_and(Rows::is_json) && !media.has_markup() { Media::Json } else { media };
        let Decoded { text, encoding } = charset::decode(body, media, label, page.url.host_str());
        let mut out = Extracted { charset: encoding.name(), ..Extracted::default() };

        let follows = page.links && media == Media::Html;
        let selects = matches!(self.rows, Some(Rows::Css(_))) || self.fields.iter().any(|f| f.source.wants_html());
        let html = if !empty && media.has_markup() && (selects || follows) { Some(html::parse(&text, page.deadline)?) } else { None };
        let pointed = follows || self.fields.iter().any(|f| f.source.resolves());
        let pointers = html.as_ref().filter(|_| pointed).map(links::pointers);
        let resolver = pointers.as_ref().map(|p| Resolver::new(p, page.url, encoding));
        if page.links {
            out.nofollow = links::nofollow(pointers.as_deref().unwrap_or_default(), page.headers);
        }
        if let (Some(html), Some(pointers), Some(resolver), true, false) = (&html, &pointers, &resolver, follows, out.nofollow) {
            let default = Follow::default();
            out.links = links::follow(html, pointers, self.follow.as_ref().unwrap_or(&default), resolver);
        }
        drop(pointers);

        let reading = Reading { page, media, empty, text, html, resolver, json: OnceCell::new(), not_numbers: Cell::new(0) };
        let found = self.rows(&reading)?;
        if let Some(state) = page.paging
            && let Some(pager) = &self.pager
        {
            let facts = PageFacts {
                url: page.url,
                headers: page.headers,
                json: if pager.wants_json() { reading.json()? } else { None },
                rows: found.len(),
                empty: found.is_empty(&reading),
                fingerprint: found.fingerprint(&reading),
            };
            let paged = pager.step(state, &facts)?;
            let keep = usize::try_from(paged.keep).unwrap_or(usize::MAX);
            out.rows = self.records(&reading, &found, keep, &mut out.warnings)?;
            if let PageStep::End { warning: Some(code), .. } = &paged.step {
                out.warnings.push((code, format!("paging ends at {}", shown(page.url.as_str()))));
            }
            out.paging = Some(paged.step);
        } else {
            out.rows = self.records(&reading, &found, usize::MAX, &mut out.warnings)?;
        }
        if reading.not_numbers.get() > 0 {
            out.warnings.push(("json-nan", format!("{} NaN or Infinity read as null", reading.not_numbers.get())));
        }
        Ok(out)
    }

    fn rows<'r>(&self, reading: &'r Reading<'_>) -> Result<Found<'r>, ExtractFailure> {
        let missing = |m: String| ExtractFailure::new(Reason::RowsMissing, m);
        match &self.rows {
            None => Ok(Found::Page),
            Some(_) if reading.empty => Ok(Found::Values(Cow::Borrowed(&[]))),
            Some(Rows::Css(css)) => match &reading.html {
                Some(html) => Ok(Found::Elements(css.all(Scope::Page(html)))),
                None => Err(missing("rows are taken by a selector, and the answer is no HTML".into())),
            },
            Some(Rows::JsonLines) => reading.lines().map(|v| Found::Values(Cow::Owned(v))),
            Some(Rows::Json(filter)) => {
                let Some(input) = reading.json()? else { return Ok(Found::Values(Cow::Borrowed(&[]))) };
                let (mut values, trouble) = filter.all(input, reading.page.deadline);
                match trouble {
                    Some(Trouble::Late) => return Err(ExtractFailure::timeout("the rows filter")),
                    // Part of a list must not pass for the whole.
                    Some(t) => return Err(missing(format!("the rows filter fails on the answer: {t}"))),
                    None => {}
                }
                match values.as_mut_slice() {
                    [Val::Arr(items)] if !filter.ends_iterating() => Ok(Found::Values(Cow::Owned(items.to_vec()))),
                    _ if filter.gives_many() => Ok(Found::Values(Cow::Owned(values))),
                    [] => Err(missing("the rows filter gave nothing".into())),
                    [one, ..] => Err(missing(format!("the rows filter gave no array but {}", kind_of(one)))),
                }
            }
        }
    }

    fn records(
        &self,
        reading: &Reading<'_>,
        found: &Found<'_>,
        keep: usize,
        warnings: &mut Vec<(&'static str, String)>,
    ) -> Result<Vec<Vec<(String, Value)>>, ExtractFailure> {
        let mut room = field::MAX_TEXT + 2 * reading.text.len();
        let mut spend = |row: &[(String, Value)]| {
            if (reading.page.deadline)() {
                return Err(ExtractFailure::timeout("reading the rows"));
            }
            let used = row.iter().map(|(_, v)| weight(v)).sum();
            room = room.checked_sub(used).ok_or_else(too_much)?;
            Ok(())
        };
        let html = reading.html.as_ref();
        let whole = Material { html, scope: html.map(Scope::Page), json: None, text: &reading.text, resolver: reading.resolver.as_ref() };
        match found {
            Found::Page if keep == 0 => Ok(Vec::new()),
            Found::Page => {
                let wants_json = !reading.empty && self.fields.iter().any(|f| matches!(f.source, Source::Json(_)));
                let json = if wants_json { reading.json()? } else { None };
                if reading.empty {
                    return Ok(vec![self.record(None, reading, None, warnings)?]);
                }
                Ok(vec![self.record(Some(Material { json, ..whole }), reading, None, warnings)?])
            }
            Found::Elements(elements) => {
                let mut out = Vec::with_capacity(elements.len().min(keep));
                for (i, element) in elements.iter().take(keep).enumerate() {
                    let material = Material { scope: Some(Scope::Within(*element)), ..whole };
                    let row = self.record(Some(material), reading, Some(i), warnings)?;
                    spend(&row)?;
                    out.push(row);
                }
                Ok(out)
            }
            Found::Values(values) => {
                let mut out = Vec::with_capacity(values.len().min(keep));
                for (i, value) in values.iter().take(keep).enumerate() {
                    let material = Material { html: None, scope: None, json: Some(value), text: "", resolver: None };
                    let row = self.record(Some(material), reading, Some(i), warnings)?;
                    spend(&row)?;
                    out.push(row);
                }
                Ok(out)
            }
        }
    }

    /// One row; without material all fields are null.
    fn record(
        &self,
        material: Option<Material<'_>>,
        reading: &Reading<'_>,
        row: Option<usize>,
        warnings: &mut Vec<(&'static str, String)>,
    ) -> Result<Vec<(String, Value)>, ExtractFailure> {
        let mut out = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let mut value = match material.map(|m| field.source.value(m, field.list, reading.page.deadline)) {
                None => Value::Null,
                Some(Ok(value)) => value,
                Some(Err(Trouble::Late)) => return Err(ExtractFailure::timeout(&format!("the field {}", field.name))),
                Some(Err(Trouble::TooBig)) => return Err(too_much()),
                Some(Err(trouble)) => {
                    warnings.push(("filter-error", format!("field {}: {trouble}", field.name)));
                    Value::Null
                }
            };
            if let Some(kind) = field.kind {
                let mut misses = Vec::new();
                value = typed::convert(value, kind, &mut misses);
                let what = typed::name(kind);
                warnings.extend(misses.into_iter().map(|m| ("type-miss", format!("field {}: {:?} is no {what}", field.name, shown(&m)))));
            }
            if field.required && is_empty(&value) {
                let place = row.map_or(String::new(), |r| format!(" in row {} of the page", r + 1));
                return Err(ExtractFailure::new(Reason::MissingField, format!("the required field {} is empty{place}", field.name)));
            }
            out.push((field.name.clone(), value));
        }
        Ok(out)
    }
}

impl Rows {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("css", selector)) => match Css::parse(selector)? {
                Css::Own => Err("the selector is empty".into()),
                css => Ok(Self::Css(css)),
            },
            Some(("json", filter)) => Filter::compile(filter).map(Self::Json),
            Some(("jsonl", "")) => Ok(Self::JsonLines),
            Some(("jsonl", _)) => Err("`jsonl:` takes nothing after it".into()),
            _ => Err(format!("{:?} begins with none of css:, json:, jsonl:", shown(text))),
        }
    }

    fn is_json(&self) -> bool {
        matches!(self, Self::Json(_) | Self::JsonLines)
    }

    /// Why a field has nothing to read in a row of this kind.
    fn misfit(&self, source: &Source) -> Option<String> {
        match (self, source) {
            (Self::Css(_), Source::Json(_)) => Some("rows are elements of a page, so that a json: field has nothing to read".into()),
            (Self::Json(_) | Self::JsonLines, s) if s.wants_html() => {
                Some("rows are JSON, so that css:, meta: and links: have nothing to read".into())
            }
            _ => None,
        }
    }
}

/// A page, as far as it had to be read.
struct Reading<'a> {
    page: &'a Page<'a>,
    media: Media,
    empty: bool,
    text: Cow<'a, str>,
    html: Option<Html>,
    resolver: Option<Resolver>,
    json: OnceCell<Result<Val, ExtractFailure>>,
    /// NaN and Infinity, read as null.
    not_numbers: Cell<u32>,
}

impl Reading<'_> {
    /// The answer as JSON; `None` where it is empty.
    fn json(&self) -> Result<Option<&Val>, ExtractFailure> {
        if self.empty {
            return Ok(None);
        }
        let read = self.json.get_or_init(|| {
            json::read(&self.text).map(|d| self.count(d)).map_err(|e| {
                let what = if self.media.has_markup() { "the answer is HTML and no JSON: ".to_owned() } else { String::new() };
                ExtractFailure::new(Reason::BadJson, format!("{what}{e}"))
            })
        });
        match read {
            Ok(value) => Ok(Some(value)),
            Err(e) => Err(e.clone()),
        }
    }

    fn count(&self, document: json::Document) -> Val {
        self.not_numbers.set(self.not_numbers.get().saturating_add(document.not_numbers));
        document.value
    }

    /// NDJSON: one value a line, blank lines left out.
    fn lines(&self) -> Result<Vec<Val>, ExtractFailure> {
        let mut out = Vec::new();
        for (i, line) in self.text.split('\n').enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let document =
                json::read(line).map_err(|e| ExtractFailure::new(Reason::BadJson, format!("line {} of the answer: {e}", i + 1)))?;
            out.push(self.count(document));
            if out.len() % 64 == 0 && (self.page.deadline)() {
                return Err(ExtractFailure::timeout("reading the lines"));
            }
        }
        Ok(out)
    }
}

/// Rows before their fields.
enum Found<'r> {
    /// No rows rule: the page is the row.
    Page,
    Elements(Vec<ElementRef<'r>>),
    Values(Cow<'r, [Val]>),
}

impl Found<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Page => 1,
            Self::Elements(e) => e.len() as u64,
            Self::Values(v) => v.len() as u64,
        }
    }

    fn is_empty(&self, reading: &Reading<'_>) -> bool {
        match self {
            Self::Page if reading.media.has_markup() => reading.empty,
            Self::Page => reading.empty || reading.json().is_ok_and(|v| matches!(v, Some(Val::Arr(items)) if items.is_empty())),
            found => found.len() == 0,
        }
    }

    /// 128 bits over the raw items, or over the text where the page is the row.
    fn fingerprint(&self, reading: &Reading<'_>) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |item: &str| {
            hasher.update(&(item.len() as u64).to_le_bytes());
            hasher.update(item.as_bytes());
        };
        match self {
            Self::Page => add(&reading.text),
            // A late page fails at its rows, so that its fingerprint does not matter.
            Self::Elements(elements) => elements.iter().take_while(|_| !(reading.page.deadline)()).for_each(|e| add(&e.html())),
            Self::Values(values) => values.iter().for_each(|v| add(&v.to_string())),
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

fn too_much() -> ExtractFailure {
    ExtractFailure::new(Reason::TooDeep, "the values of nested elements add up to more than 64 MiB beyond the page")
}

/// Bytes of text in a value, about.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(s) => s.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + weight(v)).sum(),
        _ => 8,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

fn kind_of(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "a boolean",
        Val::Num(_) => "a number",
        Val::TStr(_) | Val::BStr(_) => "text",
        Val::Arr(_) => "an array",
        Val::Obj(_) => "an object",
    }
}

#[cfg(test)]
#[path = "extractor_tests.rs"]
mod tests;
