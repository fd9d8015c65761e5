//! `[crawl]`, `[pages]`, `[extract]`: what is followed and what is read.

use super::{Builder, take};
use crate::config::leaf::{Leaf, OrOff, Texts, nearest};
use crate::config::raw;
use crate::model::plan::{CrawlPlan, Extensions, ExtractPlan, FieldType, NextPage, PageParam, PagesPlan, Scope, StopRule};
use std::collections::BTreeMap;

/// `robots` is read with the request's own.
pub(super) fn crawl(b: &mut Builder<'_>, raw: raw::Crawl) -> Option<CrawlPlan> {
    if !b.context.tree.is_set("crawl") {
        return None;
    }
    let mut texts = |key: &str, set| b.take(key, set).map_or_else(Vec::new, |Texts(t)| t);
    let follow = texts("crawl.follow", raw.follow);
    let include = texts("crawl.include", raw.include);
    let exclude = texts("crawl.exclude", raw.exclude);
    for link in &follow {
        let attribute = link.trim().strip_suffix(']').and_then(|l| l.rsplit_once('[')).map(|(_, a)| a);
        if attribute.is_none_or(|a| a.is_empty() || a.contains(['=', '"', ' '])) {
            b.error("crawl.follow", format!("{link:?} names no attribute: write it like \"a[href]\""));
        }
    }
    let _ = take!(b, "crawl", raw.robots);
    if follow.is_empty() && b.context.tree.is_set("crawl.follow") && !b.is_wrong("crawl.follow") {
        b.error("crawl.follow", "is an empty list: leave [crawl] out to follow no links");
    }
    for (key, patterns) in [("crawl.include", &include), ("crawl.exclude", &exclude)] {
        if patterns.iter().any(String::is_empty) {
            b.error(key, "holds an empty pattern");
        }
    }
    Some(CrawlPlan {
        follow,
        include,
        exclude,
        depth: take!(b, "crawl", raw.depth).and_then(OrOff::on).and_then(|c| u32::try_from(c.0).ok()),
        scope: take!(b, "crawl", raw.scope).unwrap_or(Scope::Host),
        extensions: take!(b, "crawl", raw.extensions).unwrap_or(Extensions::Pages),
        max_pages: take!(b, "crawl", raw.max_pages).and_then(OrOff::on).map(|c| c.0),
    })
}

pub(super) fn pages(b: &mut Builder<'_>, raw: raw::Pages) -> Option<PagesPlan> {
    if !b.context.tree.is_set("pages") {
        return None;
    }
    if b.context.tree.get("pages.next").is_none() {
        b.lacks("pages", "does not say how the next page is found: set next = \"link\", \"json:…\", \"header:…\", \"page\" or \"offset\"");
    }
    let next = take!(b, "pages", raw.next).and_then(|text| next_page(b, &text));
    let param = take!(b, "pages", raw.param).and_then(|text| page_param(b, &text));
    let counts = matches!(next, Some(NextPage::Page | NextPage::Offset));
    let has_param = b.context.tree.get("pages.param").is_some();
    if counts && !has_param {
        b.error(
            "pages.next",
            "counts pages or rows, so it wants the query name that counts: set param = \"page\" (or \"offset\", as the API calls it)",
        );
    }
    if next == Some(NextPage::Link) && has_param {
        b.error("pages.param", "a Link header gives whole addresses: leave param out");
    }
    if matches!(param, Some(PageParam::Json(_))) && b.context.tree.get("request.json").is_none() {
        b.error("pages.param", "goes into a JSON body, and there is no [request] json");
    }
    let first = take!(b, "pages", raw.first).map(|c| c.0);
    if first.is_some() && next.is_some() && !counts {
        b.error("pages.first", "is for next = \"page\" and next = \"offset\" only");
    }
    let size = size(b, raw.size);
    let stop = take!(b, "pages", raw.stop);
    let stop = match stop {
        Some(Texts(rules)) => rules.iter().filter_map(|rule| stop_rule(b, rule)).collect(),
        None if counts => vec![StopRule::Empty],
        None => Vec::new(),
    };
    let next = next?;
    Some(PagesPlan { first: first.unwrap_or(u64::from(next == NextPage::Page)), next, param, size, stop })
}

fn next_page(b: &mut Builder<'_>, text: &str) -> Option<NextPage> {
    let words = ["link", "page", "offset"];
    match text.split_once(':') {
        Some(("json", filter)) if !filter.trim().is_empty() => return Some(NextPage::Json(filter.to_owned())),
        Some(("header", name)) if super::request::header_name(name).is_ok() => return Some(NextPage::Header(name.to_owned())),
        Some(("json", _)) => b.error("pages.next", "json: wants a filter, like \"json:.next\""),
        Some(("header", _)) => b.error("pages.next", "header: wants a header's name, like \"header:X-Next\""),
        _ => match text {
            "link" => return Some(NextPage::Link),
            "page" => return Some(NextPage::Page),
            "offset" => return Some(NextPage::Offset),
            "auto" => b.error("pages.next", "\"auto\" is not yet supported: write link, json:…, header:…, page or offset"),
            other => {
                let near = nearest(other, words).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                b.error("pages.next", format!("{other:?} is not known: write link, json:…, header:…, page or offset{near}"));
            }
        },
    }
    None
}

fn page_param(b: &mut Builder<'_>, text: &str) -> Option<PageParam> {
    match text.split_once(':') {
        Some(("header", name)) => match super::request::header_name(name) {
            Ok(()) => return Some(PageParam::Header(name.to_owned())),
            Err(message) => b.error("pages.param", message),
        },
        Some(("json", path)) => {
            let keys: Vec<String> = path.trim().trim_start_matches('.').split('.').map(str::to_owned).collect();
            if path.trim().starts_with('.') && keys.iter().all(|k| !k.is_empty() && !k.contains(['[', ']', '"', '|', ' '])) {
                return Some(PageParam::Json(keys));
            }
            b.error("pages.param", format!("{text:?} is no path into the body: write it like \"json:.variables.after\""));
        }
        _ if text == "path" => b.error("pages.param", "\"path\" is not yet supported: write a query name, header:… or json:…"),
        _ if text.is_empty() => b.error("pages.param", "is empty"),
        _ => return Some(PageParam::Query(text.to_owned())),
    }
    None
}

fn size(b: &mut Builder<'_>, raw: raw::PageSize) -> Option<(String, u64)> {
    let param = b.take("pages.size.param", raw.param);
    let value = b.take("pages.size.value", raw.value);
    b.context.tree.get("pages.size")?;
    for key in ["pages.size.param", "pages.size.value"] {
        if b.context.tree.get(key).is_none() {
            b.lacks("pages.size", "wants both: { param = \"per_page\", value = 100 }");
            return None;
        }
    }
    Some((param?, value?.0))
}

fn stop_rule(b: &mut Builder<'_>, text: &str) -> Option<StopRule> {
    let rule = match text.split_once(':') {
        None if text == "empty" => Some(StopRule::Empty),
        Some(("total", filter)) if !filter.trim().is_empty() => Some(StopRule::Total(filter.to_owned())),
        Some(("has_more", filter)) if !filter.trim().is_empty() => Some(StopRule::HasMore(filter.to_owned())),
        Some(("max", n)) => n.trim().parse().ok().filter(|n| *n > 0).map(StopRule::Max),
        _ => None,
    };
    if rule.is_none() {
        b.error("pages.stop", format!("{text:?} ends nothing: write \"empty\", \"total:.total\", \"has_more:.more\" or \"max:1000\""));
    }
    rule
}

pub(super) fn extract(b: &mut Builder<'_>, raw: raw::Extract) -> ExtractPlan {
    let rows = take!(b, "extract", raw.rows);
    if let Some(text) = &rows {
        prefix(b, "extract.rows", text, &["json", "css", "jsonl"], &[]);
    }
    let fields = take!(b, "extract", raw.fields).map_or_else(Vec::new, |p| p.0);
    for (i, (name, source)) in fields.iter().enumerate() {
        let key = format!("extract.fields.{name}");
        if name.trim().is_empty() {
            b.error("extract.fields", "a field has no name");
        } else if name.starts_with('_') {
            b.error(&key, "names with `_` in front are gleaner's own");
        } else if fields[..i].iter().any(|(n, _)| n == name) {
            b.error(&key, "the field stands twice");
        }
        prefix(b, &key, source, &["css", "json", "meta", "re", "links"], &["markdown", "jsonl", "xpath"]);
    }
    let types = take!(b, "extract", raw.types).and_then(OrOff::on).map_or_else(Vec::new, |p| p.0);
    let mut kinds = BTreeMap::new();
    for (name, text) in types {
        let key = format!("extract.types.{name}");
        known_field(b, &key, &name, &fields);
        match FieldType::read(&text.into()) {
            Ok(kind) => drop(kinds.insert(name, kind)),
            Err(message) => b.error(&key, message),
        }
    }
    let required = take!(b, "extract", raw.required).and_then(OrOff::on).map_or_else(Vec::new, |t| t.0);
    for name in &required {
        known_field(b, "extract.required", name, &fields);
    }
    ExtractPlan { rows, fields, types: kinds, required }
}

fn known_field(b: &mut Builder<'_>, key: &str, name: &str, fields: &[(String, String)]) {
    if fields.iter().all(|(field, _)| field != name) {
        let near =
            nearest(name, fields.iter().map(|(n, _)| n.as_str())).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        b.error(key, format!("there is no field {name:?}{near}"));
    }
}

/// The kind of source that a text begins with.
fn prefix(b: &mut Builder<'_>, key: &str, text: &str, known: &[&str], later: &[&str]) {
    let Some((kind, rest)) = text.split_once(':') else {
        b.error(
            key,
            format!(
                "{text:?} does not begin with its kind: write {}",
                known.iter().map(|k| format!("\"{k}:…\"")).collect::<Vec<_>>().join(", ")
            ),
        );
        return;
    };
    if known.contains(&kind) {
        // Both are whole as they stand; what they take behind them, nothing, is told by their compiler.
        if rest.trim().is_empty() && !matches!(kind, "links" | "jsonl") {
            b.error(key, format!("{kind}: has nothing behind it"));
        }
    } else if later.contains(&kind) {
        b.error(key, format!("{kind}: is not yet supported"));
    } else {
        let near = nearest(kind, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean \"{near}:\"?"));
        b.error(
            key,
            format!(
                "{kind:?} is no kind of source: write {}{near}",
                known.iter().map(|k| format!("\"{k}:…\"")).collect::<Vec<_>>().join(", ")
            ),
        );
    }
}
