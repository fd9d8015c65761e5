//! `[[response]]`: what its rules look for, read by the compilers that fields are read by, and found in an answer by the
//! readers that fields are found by.

use super::charset;
use super::css::{Css, Scope};
use super::error::CompileError;
use super::extractor::Page;
use super::field;
use super::filter::{Filter, Trouble};
use super::html;
use super::json;
use super::media::{self, Media};
use crate::model::Reason;
use crate::model::plan::ResponsePlan;
use http::HeaderMap;
use jaq_json::Val;
use regex::Regex;
use scraper::Html;
use std::borrow::Cow;
use std::cell::OnceCell;

/// The rules of `[[response]]`, compiled once.
pub struct Responses {
    rules: Vec<Rule>,
}

/// What a rule looks for; all of it has to match.
struct Rule {
    statuses: Vec<(u16, u16)>,
    header: Option<(String, Option<Regex>)>,
    body: Option<Regex>,
    selector: Option<Css>,
    json: Option<Filter>,
}

/// What status and headers say by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHead {
    /// The first rule that matches, by its place; `None`: none does.
    Rule(Option<usize>),
    /// A rule that may be the first has to see the body.
    Body,
}

/// The page's time was up before a rule was found or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// Every pattern, selector and filter of `rules` that cannot be read, as `response[0].when.json`.
pub fn check_responses(rules: &[ResponsePlan]) -> Vec<CompileError> {
    Responses::compile(rules).err().unwrap_or_default()
}

impl Responses {
    /// # Errors
    /// As [`check_responses`].
    pub fn compile(rules: &[ResponsePlan]) -> Result<Self, Vec<CompileError>> {
        let mut errors = Vec::new();
        let rules = rules.iter().enumerate().map(|(i, rule)| Rule::compile(i, rule, &mut errors)).collect();
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// What can be said without the body.
    #[must_use]
    pub fn by_head(&self, status: u16, headers: &HeaderMap) -> ByHead {
        match self.rules.iter().enumerate().find(|(_, rule)| rule.fits_head(status, headers)) {
            Some((_, rule)) if rule.reads_body() => ByHead::Body,
            found => ByHead::Rule(found.map(|(i, _)| i)),
        }
    }

    /// The first rule that an answer matches, by its place. A filter that errs and a page that cannot be parsed are no match.
    ///
    /// # Errors
    /// [`Late`]
    pub fn find(&self, page: &Page<'_>) -> Result<Option<usize>, Late> {
        let reading = Reading::new(page);
        for (i, rule) in self.rules.iter().enumerate() {
            if rule.fits_head(page.status, page.headers) && rule.fits_body(&reading)? {
                return Ok(Some(i));
            }
            if (page.deadline)() {
                return Err(Late);
            }
        }
        Ok(None)
    }
}

impl Rule {
    fn compile(i: usize, plan: &ResponsePlan, errors: &mut Vec<CompileError>) -> Self {
        fn read<T>(
            i: usize,
            key: &str,
            text: Option<&str>,
            by: impl Fn(&str) -> Result<T, String>,
            errors: &mut Vec<CompileError>,
        ) -> Option<T> {
            by(text?).map_err(|message| errors.push(CompileError::new(format!("response[{i}].when.{key}"), message))).ok()
        }
        let header = plan.header.as_ref().map(|(name, pattern)| {
            let pattern = read(i, "header.match", pattern.as_deref(), field::regex, errors);
            (name.clone(), pattern)
        });
        Self {
            statuses: plan.statuses.clone(),
            header,
            body: read(i, "body", plan.body.as_deref(), field::regex, errors),
            selector: read(i, "selector", plan.selector.as_deref(), Css::parse, errors),
            json: read(i, "json", plan.json.as_deref(), Filter::compile, errors),
        }
    }

    fn fits_head(&self, status: u16, headers: &HeaderMap) -> bool {
        let header = |(name, pattern): &(String, Option<Regex>)| {
            let mut values = headers.get_all(name.as_str()).iter();
            match pattern {
                None => values.next().is_some(),
                Some(pattern) => values.any(|v| pattern.is_match(&String::from_utf8_lossy(v.as_bytes()))),
            }
        };
        (self.statuses.is_empty() || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)))
            && self.header.as_ref().is_none_or(header)
    }

    fn reads_body(&self) -> bool {
        self.body.is_some() || self.selector.is_some() || self.json.is_some()
    }

    fn fits_body(&self, reading: &Reading<'_>) -> Result<bool, Late> {
        if self.body.as_ref().is_some_and(|pattern| !pattern.is_match(reading.text())) {
            return Ok(false);
        }
        if let Some(filter) = &self.json {
            let Some(value) = reading.json() else { return Ok(false) };
            match filter.all(value, reading.page.deadline) {
                (_, Some(Trouble::Late)) => return Err(Late),
                (_, Some(_)) => return Ok(false),
                (values, None) if values.iter().all(|v| matches!(v, Val::Null | Val::Bool(false))) => return Ok(false),
                _ => {}
            }
        }
        if let Some(css) = &self.selector {
            let Some(html) = reading.html()? else { return Ok(false) };
            return Ok(css.first(Scope::Page(html)).is_some());
        }
        Ok(true)
    }
}

/// An answer, read as far as a rule asks.
struct Reading<'a> {
    page: &'a Page<'a>,
    body: &'a [u8],
    media: Media,
    label: Option<&'a str>,
    text: OnceCell<Cow<'a, str>>,
    html: OnceCell<Result<Option<Html>, Late>>,
    json: OnceCell<Option<Val>>,
}

impl<'a> Reading<'a> {
    fn new(page: &'a Page<'a>) -> Self {
        let body = if page.body.trim_ascii().is_empty() { &[] } else { page.body };
        let (media, label) = media::of(page.headers, body);
        Self { page, body, media, label, text: OnceCell::new(), html: OnceCell::new(), json: OnceCell::new() }
    }

    fn decoded(&self, media: Media) -> Cow<'a, str> {
        charset::decode(self.body, media, self.label, self.page.url.host_str()).text
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| self.decoded(self.media))
    }

    /// `None` for what has no markup and for what is too deep to be parsed.
    fn html(&self) -> Result<Option<&Html>, Late> {
        let parsed = self.html.get_or_init(|| {
            if self.body.is_empty() || !self.media.has_markup() {
                return Ok(None);
            }
            match html::parse(self.text(), self.page.deadline) {
                Ok(html) => Ok(Some(html)),
                Err(e) if e.reason == Reason::ParseTimeout => Err(Late),
                Err(_) => Ok(None),
            }
        });
        parsed.as_ref().map(Option::as_ref).map_err(|late| *late)
    }

    /// `None` for what is no JSON; its Content-Type does not matter.
    fn json(&self) -> Option<&Val> {
        let read = || {
            let as_json = |text: &str| json::read(text).ok().map(|document| document.value);
            match self.media {
                Media::Text => as_json(&self.decoded(Media::Json)),
                _ => as_json(self.text()),
            }
        };
        self.json.get_or_init(read).as_ref()
    }
}

#[cfg(test)]
#[path = "responses_tests.rs"]
mod tests;
