//! `[[response]]`: what an answer means that the built-in table would read otherwise.

use super::Builder;
use super::request::header_name;
use crate::config::leaf::{Code, HeaderRule, Set};
use crate::config::raw;
use crate::model::plan::{ResponsePlan, Then};
use crate::model::{Class, Reason};

pub(super) fn responses(b: &mut Builder<'_>, tables: Vec<raw::Response>) -> Vec<ResponsePlan> {
    let rules: Vec<ResponsePlan> = tables.into_iter().enumerate().map(|(i, raw)| response(b, &format!("response[{i}]"), raw)).collect();
    for error in crate::extract::check_responses(&rules) {
        // What was said of a key above says it better.
        if !b.is_wrong(&error.key) {
            b.error(&error.key, error.message);
        }
    }
    rules
}

/// Statuses that a rule makes results.
pub(super) fn may_accept(rules: &[ResponsePlan]) -> Vec<(u16, u16)> {
    let accepting = rules.iter().filter(|rule| rule.then == Then::Accept);
    accepting.flat_map(|rule| if rule.statuses.is_empty() { vec![(200, 999)] } else { rule.statuses.clone() }).collect()
}

fn response(b: &mut Builder<'_>, at: &str, raw: raw::Response) -> ResponsePlan {
    let key = |name: &str| format!("{at}.{name}");
    if b.context.tree.get(&key("when")).is_none_or(|when| when.entries().is_empty()) && !b.is_wrong(&key("when")) {
        b.lacks(&key("when"), "matches nothing: say status, header, body, selector or json");
    }
    let when = raw.when;
    let statuses = b.take(&key("when.status"), when.status).map_or_else(Vec::new, |s| s.0);
    let header = b.take(&key("when.header"), when.header).map(|rule| header(b, at, rule));
    let mut text = |name: &str, set: Set<String>| {
        let key = format!("{at}.when.{name}");
        let text = b.take(&key, set);
        if text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            b.error(&key, "is empty: leave it out where it does not count");
        }
        text
    };
    let (body, selector, json) = (text("body", when.body), text("selector", when.selector), text("json", when.json));
    if b.context.tree.get(&key("then")).is_none() {
        b.lacks(at, "does not say what the answer means: set then = \"retry\", \"limited\", \"skip\" or another");
    }
    let then = b.take(&key("then"), raw.then);
    let reason = b.take(&key("reason"), raw.reason).map(|Code(code)| code);
    match then {
        Some(Then::EndOfPages | Then::RestartPages) if !b.context.tree.is_set("pages") => {
            b.error(&key("then"), "is about pages, and the job has no [pages]");
        }
        Some(Then::Accept | Then::EndOfPages | Then::RestartPages) if reason.is_some() => {
            b.error(&key("reason"), "is for answers that are skipped, tried again or held, and this rule does nothing of it");
        }
        _ => {}
    }
    if let Some(code) = reason.as_deref().filter(|code| Reason::from_code(code).class() == Class::Input) {
        b.error(&key("reason"), format!("{code:?} is gleaner's own, for records of the input"));
    }
    ResponsePlan { statuses, header, body, selector, json, then: then.unwrap_or_default(), reason }
}

/// In lower case.
fn header(b: &mut Builder<'_>, at: &str, rule: HeaderRule) -> (String, Option<String>) {
    let table = format!("{at}.when.header.name");
    let key = if b.context.tree.get(&table).is_some() { table } else { format!("{at}.when.header") };
    if let Err(message) = header_name(&rule.name) {
        b.error(&key, message);
    }
    if rule.pattern.as_deref() == Some("") {
        b.error(&format!("{at}.when.header.match"), "is empty: leave it out where the header only has to be there");
    }
    (rule.name.to_ascii_lowercase(), rule.pattern)
}
