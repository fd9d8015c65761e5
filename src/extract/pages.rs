//! Paging: what to ask for next, and when to stop.
//!
//! The cursor is part of the durable state: [`PageState`] holds all that is needed to go on after a kill. Without
//! `[extract] rows` a page's one row is one row received, and an empty page is a JSON array without items or an empty body.

use super::error::CompileError;
use super::filter::Filter;
use super::json;
use super::link_header;
use super::percent;
use crate::model::Reason;
use crate::model::plan::{NextPage, PageParam, PagesPlan, StopRule};
use http::HeaderMap;
use jaq_json::Val;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::error::ExtractFailure;

/// How often the pages of an entry are begun again (`then = "restart-pages"`).
pub const RESTARTS: u32 = 3;

/// Cursors that are remembered, so that going in circles shows.
const CURSORS: usize = 64;

/// Where a paged entry stands: the page that is to be asked for next, and what the stop rules know. Serialised with the
/// entry; at most about 2 KB and the length of one token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageState {
    /// Page number or offset of the page to ask for (page and offset styles).
    #[serde(default)]
    pub number: u64,
    /// Token or address of the page to ask for; `None`: the entry's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Value>,
    /// Pages done since the first, or since they were begun again.
    #[serde(default)]
    pub pages: u64,
    /// Pages from the first on whose rows were delivered before the pages were begun again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delivered: u64,
    /// How often they were begun again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Rows received so far, those cut by `max` left out.
    #[serde(default)]
    pub rows: u64,
    /// Rows in all, as the newest page told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Fingerprint of the last page's raw items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// Hashes of the last cursors, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cursors: Vec<u64>,
}

impl PageState {
    /// Whether the rows of the page to ask for were delivered before the pages were begun again.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.pages < self.delivered
    }
}

fn is_zero<T: Default + PartialEq>(n: &T) -> bool {
    *n == T::default()
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq)]
pub enum PageStep {
    /// Another page.
    More(PageState),
    /// The entry is done, and a result.
    End {
        /// `no-next`, `empty`, `total`, `has-more`, `max`, `repeated-page`, `repeated-cursor` or `bad-next`.
        why: &'static str,
        /// A warning to count and show: `repeated-page`, `repeated-cursor` or `bad-next` (an address that is none).
        warning: Option<&'static str>,
        /// Whether this page's rows were delivered before and must not be again (`Extracted::rows` is empty then).
        drop_rows: bool,
    },
}

/// One page's request, as changes to the entry's.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRequest {
    /// The address to ask for.
    pub url: Url,
    /// Headers to set.
    pub headers: Vec<(String, String)>,
    /// A value to set in the JSON body, under these object keys.
    pub body_set: Option<(Vec<String>, Value)>,
}

/// `[pages]`, compiled.
pub struct Pager {
    next: Next,
    param: Option<PageParam>,
    first: u64,
    size: Option<(String, u64)>,
    empty: bool,
    total: Option<Filter>,
    has_more: Option<Filter>,
    max: Option<u64>,
}

enum Next {
    Link,
    Json(Filter),
    Header(String),
    Page,
    Offset,
}

/// What the pager is told about a page.
pub(super) struct PageFacts<'a> {
    /// After redirects.
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    /// `None` for a page without a body.
    pub(super) json: Option<&'a Val>,
    /// Raw rows received.
    pub(super) rows: u64,
    pub(super) empty: bool,
    pub(super) fingerprint: String,
}

/// The step, and how many of the page's rows are delivered.
pub(super) struct Paged {
    pub(super) step: PageStep,
    pub(super) keep: u64,
}

impl Pager {
    /// # Errors
    /// Every filter that cannot be read, as `pages.next`, `pages.stop[1]`; a parameter without a name as `pages.param`.
    pub fn new(plan: &PagesPlan) -> Result<Self, Vec<CompileError>> {
        let mut errors = Vec::new();
        let mut filter = |key: String, text: &str| Filter::compile(text).map_err(|m| errors.push(CompileError::new(key, m))).ok();
        let next = match &plan.next {
            NextPage::Link => Some(Next::Link),
            NextPage::Json(text) => filter("pages.next".into(), text).map(Next::Json),
            NextPage::Header(name) => Some(Next::Header(name.clone())),
            NextPage::Page => Some(Next::Page),
            NextPage::Offset => Some(Next::Offset),
        };
        let (mut empty, mut total, mut has_more, mut max) = (false, None, None, None);
        for (i, rule) in plan.stop.iter().enumerate() {
            match rule {
                StopRule::Empty => empty = true,
                StopRule::Total(text) => total = filter(format!("pages.stop[{i}]"), text),
                StopRule::HasMore(text) => has_more = filter(format!("pages.stop[{i}]"), text),
                StopRule::Max(n) => max = Some(max.map_or(*n, |m: u64| m.min(*n))),
            }
        }
        match &plan.next {
            NextPage::Header(name) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => {
                errors.push(CompileError::new("pages.next", format!("{name:?} is no header name")));
            }
            _ => {}
        }
        match &plan.param {
            Some(PageParam::Query(name)) if name.is_empty() => errors.push(CompileError::new("pages.param", "the name is empty")),
            Some(PageParam::Header(name)) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => {
                errors.push(CompileError::new("pages.param", format!("{name:?} is no header name")));
            }
            Some(PageParam::Json(path)) if path.is_empty() => errors.push(CompileError::new("pages.param", "the path is empty")),
            _ => {}
        }
        let counted = matches!(plan.next, NextPage::Page | NextPage::Offset);
        // `max` is a cap and says nothing about where the list ends, so that it leaves the rule of the empty page alone.
        let ends = plan.stop.iter().any(|r| !matches!(r, StopRule::Max(_)));
        match next {
            Some(next) if errors.is_empty() => Ok(Self {
                next,
                param: plan.param.clone(),
                first: plan.first,
                size: plan.size.clone(),
                empty: empty || counted && !ends,
                total,
                has_more,
                max,
            }),
            _ => Err(errors),
        }
    }

    /// The state before the first page of an entry.
    #[must_use]
    pub fn first(&self, entry_url: &Url) -> PageState {
        let mut state = PageState { number: self.first, ..PageState::default() };
        if self.param.is_none() && matches!(self.next, Next::Link | Next::Json(_) | Next::Header(_)) {
            state.cursors.push(hash(self.entry(entry_url).as_str().as_bytes()));
        }
        state
    }

    /// The state before the first page of an entry whose pages are asked for again from the first. Those that were done are
    /// counted, so that their rows are not delivered again.
    #[must_use]
    pub fn restart(&self, entry_url: &Url, state: &PageState) -> PageState {
        PageState { delivered: state.pages.max(state.delivered), restarts: state.restarts + 1, ..self.first(entry_url) }
    }

    /// The request of the page that `state` stands before. Next addresses go out as they came.
    #[must_use]
    pub fn request(&self, entry_url: &Url, state: &PageState) -> PageRequest {
        let mut out = PageRequest { url: self.entry(entry_url), headers: Vec::new(), body_set: None };
        let value = match self.next {
            Next::Page | Next::Offset => Some(Value::from(state.number)),
            _ => state.next.clone(),
        };
        let Some(value) = value else { return out };
        let name = match (&self.next, &self.param) {
            (Next::Page, None) => &PageParam::Query("page".into()),
            (Next::Offset, None) => &PageParam::Query("offset".into()),
            (Next::Link, _) | (_, None) => {
                if let Some(url) = value.as_str().and_then(|u| Url::parse(u).ok()) {
                    out.url = url;
                }
                return out;
            }
            (_, Some(param)) => param,
        };
        match name {
            PageParam::Query(name) => set_query(&mut out.url, name, &text(&value)),
            PageParam::Header(name) => out.headers.push((name.clone(), text(&value))),
            PageParam::Json(path) => out.body_set = Some((path.clone(), value)),
        }
        out
    }

    /// The entry's address with the page size.
    fn entry(&self, entry_url: &Url) -> Url {
        let mut url = entry_url.clone();
        if let Some((name, value)) = &self.size {
            set_query(&mut url, name, &value.to_string());
        }
        url
    }

    /// Whether the pager has to see the answer as JSON.
    pub(super) fn wants_json(&self) -> bool {
        matches!(self.next, Next::Json(_)) || self.total.is_some() || self.has_more.is_some()
    }

    /// What follows the page that was asked for by `state`.
    ///
    /// # Errors
    /// `bad-json` where a filter errs on the answer: an end that is not known is not an end.
    pub(super) fn step(&self, state: &PageState, page: &PageFacts<'_>) -> Result<Paged, ExtractFailure> {
        let next = self.next_value(page)?;
        let cursor = next.as_ref().map(|v| hash(text(v).as_bytes()));
        let circles = cursor.is_some_and(|c| state.cursors.contains(&c));
        if state.last.as_deref() == Some(&page.fingerprint) && (!page.empty || circles) {
            return Ok(Paged { step: end("repeated-page", Some("repeated-page"), true), keep: 0 });
        }
        let room = self.max.map_or(u64::MAX, |m| m.saturating_sub(state.rows));
        let keep = page.rows.min(room);
        let rows = state.rows + keep;
        let total = match &self.total {
            Some(filter) => count(&run(filter, page, "total")?).or(state.total),
            None => None,
        };
        let received = if matches!(self.next, Next::Offset) { state.number + page.rows } else { rows };
        let done = |step| Ok(Paged { step, keep });
        if self.max.is_some_and(|m| rows >= m) {
            return done(end("max", None, false));
        }
        if total.is_some_and(|t| received >= t) {
            return done(end("total", None, false));
        }
        if let Some(filter) = &self.has_more
            && !truthy(&run(filter, page, "has_more")?)
        {
            return done(end("has-more", None, false));
        }
        if self.empty && page.empty {
            return done(end("empty", None, false));
        }
        let mut after = PageState {
            number: state.number,
            next: None,
            pages: state.pages + 1,
            delivered: state.delivered,
            restarts: state.restarts,
            rows,
            total,
            last: Some(page.fingerprint.clone()),
            cursors: state.cursors.clone(),
        };
        match self.next {
            Next::Page => after.number = state.number.saturating_add(1),
            // An offset that does not move would ask for the same page again.
            Next::Offset if page.rows == 0 => return done(end("repeated-cursor", Some("repeated-cursor"), false)),
            Next::Offset => after.number = state.number.saturating_add(page.rows),
            Next::Link | Next::Json(_) | Next::Header(_) => {
                let (Some(value), Some(cursor)) = (next, cursor) else { return done(end("no-next", None, false)) };
                if value.is_null() {
                    return done(end("bad-next", Some("bad-next"), false));
                }
                if circles {
                    return done(end("repeated-cursor", Some("repeated-cursor"), false));
                }
                after.next = Some(value);
                after.cursors.push(cursor);
                let surplus = after.cursors.len().saturating_sub(CURSORS);
                after.cursors.drain(..surplus);
            }
        }
        done(PageStep::More(after))
    }

    /// The token, or the address resolved against the page; `None` at the end of the list; null for what is neither.
    fn next_value(&self, page: &PageFacts<'_>) -> Result<Option<Value>, ExtractFailure> {
        let found = match &self.next {
            Next::Page | Next::Offset => return Ok(None),
            Next::Link => link_header::target(page.headers, "next").map(Value::String),
            Next::Header(name) => page.headers.get(name).map(|v| Value::String(String::from_utf8_lossy(v.as_bytes()).trim().to_owned())),
            Next::Json(filter) => Some(run(filter, page, "next")?),
        };
        let found = match found {
            None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
            Some(Value::String(s)) if s.trim().is_empty() => return Ok(None),
            Some(Value::String(s))
                if matches!(self.next, Next::Header(_)) && (s.eq_ignore_ascii_case("null") || s.eq_ignore_ascii_case("false")) =>
            {
                return Ok(None);
            }
            Some(v) => v,
        };
        if self.param.is_some() && !matches!(self.next, Next::Link) {
            let in_body = matches!(self.param, Some(PageParam::Json(_)));
            return Ok(Some(match found {
                Value::String(_) | Value::Number(_) => found,
                // A key of several parts (DynamoDB) fits into a body alone.
                Value::Array(_) | Value::Object(_) if in_body => found,
                _ => Value::Null,
            }));
        }
        let address = found.as_str().and_then(|s| page.url.join(s.trim()).ok()).filter(|u| matches!(u.scheme(), "http" | "https"));
        Ok(Some(address.map_or(Value::Null, |mut u| {
            u.set_fragment(None);
            Value::String(u.into())
        })))
    }
}

fn end(why: &'static str, warning: Option<&'static str>, drop_rows: bool) -> PageStep {
    PageStep::End { why, warning, drop_rows }
}

fn run(filter: &Filter, page: &PageFacts<'_>, what: &str) -> Result<Value, ExtractFailure> {
    let Some(input) = page.json else { return Ok(Value::Null) };
    let value = filter
        .first(input)
        .map_err(|e| ExtractFailure::new(Reason::BadJson, format!("the filter of pages.{what} fails on the answer: {e}")))?;
    Ok(json::to_value(&value))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// A whole number, also as text.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64().or_else(|| text(value).strip_suffix(".0").and_then(|t| t.parse().ok())),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !matches!(s.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "0"),
        Value::Number(n) => n.as_f64() != Some(0.0),
        _ => true,
    }
}

/// Sets one query parameter and leaves the rest of the query as it is written, since signed addresses depend on it. Of
/// several of that name the first is set and the others are dropped.
pub(super) fn set_query(url: &mut Url, name: &str, value: &str) {
    let pair = format!("{}={}", percent::encode(name), percent::encode(value));
    let mut set = false;
    let mut pairs: Vec<&str> = Vec::new();
    for part in url.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let key = part.split_once('=').map_or(part, |(k, _)| k);
        if percent::decode(&key.replace('+', " ")) != name {
            pairs.push(part);
        } else if !set {
            set = true;
            pairs.push(&pair);
        }
    }
    if !set {
        pairs.push(&pair);
    }
    let query = pairs.join("&");
    url.set_query(Some(&query));
}

fn hash(bytes: &[u8]) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
