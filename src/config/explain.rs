//! Each setting, its value and who set it.

use super::errors::Origin;
use super::tree::{Node, Value};
use super::walk::{items, properties, without_places};
use crate::model::mask_url;
use crate::model::plan::Plan;
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::path::Path;

/// One setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Its value as TOML would write it; a secret is `${env:NAME}` as written, or `***`.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
}

/// `key = value   # who`, one a line; `job_file` is how the file is called in it.
#[must_use]
pub fn explain_text(settings: &[Setting], job_file: Option<&Path>) -> String {
    let file = job_file.and_then(Path::file_name).map_or_else(|| "job".into(), |n| n.to_string_lossy());
    let mut out = String::new();
    let width = settings.iter().map(|s| s.key.chars().count() + s.value.chars().count() + 3).filter(|w| *w <= 60).max().unwrap_or(0);
    for Setting { key, value, origin } in settings {
        let line = format!("{key} = {value}");
        let who = match origin {
            Origin::Default => "default".to_owned(),
            Origin::Job => file.to_string(),
            Origin::File { line, .. } => format!("{file}:{line}"),
            Origin::Env(name) | Origin::Flag(name) => name.clone(),
        };
        let _ = writeln!(out, "{line:width$}  # {who}");
    }
    out
}

/// All settings of a merged tree, in the schema's order.
pub(super) fn settings(tree: &Node, schema: &Json) -> Vec<Setting> {
    let mut out = Vec::new();
    collect(tree, "", schema, &mut out);
    out
}

fn collect(node: &Node, path: &str, schema: &Json, out: &mut Vec<Setting>) {
    let Some(known) = properties(schema) else { return };
    for (name, schema) in known {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let found = node.entries().iter().find(|(k, _)| k == name).map(|(_, n)| n);
        match found {
            Some(node) if properties(schema).is_some() && matches!(node.value, Value::Table(_)) => collect(node, &key, schema, out),
            Some(node) if items(schema).is_some() && !node.items().is_empty() => {
                for (i, node) in node.items().iter().enumerate() {
                    collect(node, &format!("{key}[{i}]"), items(schema).unwrap_or(schema), out);
                }
            }
            Some(node) if TABLES.contains(&role(&key).as_str()) && !node.entries().is_empty() => {
                for (name, node) in node.entries() {
                    out.push(Setting {
                        key: format!("{key}.{}", toml_key(name)),
                        value: show(&role(&key), Some(name), node),
                        origin: node.at.clone(),
                    });
                }
            }
            Some(node) => out.push(Setting { value: show(&role(&key), None, node), key, origin: node.at.clone() }),
            // What a table of a list leaves out follows from elsewhere.
            None if path.contains('[') => {}
            None if properties(schema).is_some() => collect(&Node::table(Origin::Default), &key, schema, out),
            None => {
                let said = UNSET.iter().find(|(k, _)| *k == key).map(|(_, what)| *what);
                let value = said.unwrap_or(if may_be_off(schema) { "\"off\"" } else { NOT_SET });
                out.push(Setting { key, value: value.into(), origin: Origin::Default });
            }
        }
    }
}

/// The value of a key that nobody set and that has no default.
const NOT_SET: &str = "(not set)";

/// What holds where nothing is said.
const UNSET: &[(&str, &str)] = &[
    ("request.proxy", "the usual environment variables"),
    ("limits.burst", "a hundredth of each rate, 1 to 20"),
    ("crawl.follow", "a, area, frame, iframe and meta refresh"),
];

/// Puts in what the plan alone knows.
pub(super) fn complete(settings: &mut [Setting], plan: &Plan) {
    let unset = settings.iter_mut().find(|s| s.key == "auth.hosts" && s.value == NOT_SET);
    if let Some(hosts) = unset.filter(|_| !plan.secret_hosts.is_empty()) {
        let names: Vec<String> = plan.secret_hosts.iter().map(|h| quote(h)).collect();
        hosts.value = format!("[{}]", names.join(", "));
    }
}

/// Tables whose entries come from several layers.
const TABLES: &[&str] = &["request.headers", "request.query", "extract.fields", "extract.types", "auth.header"];

/// What a key is as to its secrets: the headers and the proxy of `[[host]]` are those of `[request]`.
fn role(key: &str) -> String {
    let key = without_places(key);
    match key.as_str() {
        "host.headers" => "request.headers".into(),
        "host.proxy" => "request.proxy".into(),
        _ => key,
    }
}

fn may_be_off(schema: &Json) -> bool {
    schema.get("anyOf").and_then(Json::as_array).is_some_and(|any| any.iter().any(|s| s.get("const").is_some_and(|c| c == "off")))
}

/// A value without its secrets.
fn show(key: &str, name: Option<&str>, node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quote(&masked(key, name, text)),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) if secret(key, name) => "\"***\"".into(),
        Value::Int(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(|n| show(key, name, n)).collect::<Vec<_>>().join(", ")),
        Value::Table(table) if table.is_empty() => "{}".into(),
        Value::Table(table) => {
            let entries: Vec<String> = table.iter().map(|(k, n)| format!("{} = {}", toml_key(k), show(key, Some(k), n))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn masked(key: &str, name: Option<&str>, text: &str) -> String {
    let placeholder = text.find("${env:").and_then(|start| Some((start, start + text[start..].find('}')? + 1)));
    match placeholder {
        Some((start, end)) if secret(key, name) => {
            let rest = if start > 0 || end < text.len() { "***" } else { "" };
            let (before, after) = (if start > 0 { rest } else { "" }, if end < text.len() { rest } else { "" });
            format!("{before}{}{after}", &text[start..end])
        }
        Some(_) if key == "request.headers" => text.to_owned(),
        _ if secret(key, name) => "***".into(),
        _ if key == "request.proxy" && !text.contains("://") => mask_url(&format!("http://{text}")),
        _ => mask_url(text),
    }
}

fn secret(key: &str, name: Option<&str>) -> bool {
    let Some(name) = name.filter(|_| !key.starts_with("auth.")) else {
        return key.starts_with("auth.") && key != "auth.hosts" && key != "auth.basic.user";
    };
    let header = key == "request.headers"
        && ["authorization", "proxy-authorization", "cookie", "x-api-key"].iter().any(|h| h.eq_ignore_ascii_case(name));
    header || mask_url(&format!("x://h/?{name}=v")).ends_with("=***")
}

fn quote(text: &str) -> String {
    serde_json::Value::from(crate::model::printable(text)).to_string()
}

fn toml_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { quote(name) }
}
