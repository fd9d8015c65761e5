//! A layer against the schema: unknown keys with their nearest name, keys of later versions, tables where tables belong.

use super::errors::ConfigError;
use super::leaf::{nearest, type_name};
use super::raw::SWITCHABLE;
use super::tree::{Node, Value};
use serde_json::Value as Json;

/// Keys that a later version brings: an error, so that none is silently without effect.
pub(super) const NOT_YET: &[&str] = &[
    "step",
    "since",
    "store",
    "limit",
    "host",
    "response",
    "input.sitemap",
    "input.range",
    "input.format",
    "input.delimiter",
    "input.encoding",
    "request.graphql",
    "request.variables",
    "request.cookies",
    "request.idempotency_key",
    "request.tls.client_cert",
    "request.tls.client_key",
    "request.tls.min",
    "auth.query",
    "auth.tokens",
    "auth.oauth2",
    "auth.login",
    "limits.jitter",
    "limits.adapt",
    "limits.reserve",
    "limits.budget",
    "limits.arrival",
    "limits.hours",
    "crawl.sitemaps",
    "crawl.order",
    "crawl.max_per_section",
    "crawl.sort_params",
    "crawl.nofollow",
    "crawl.drop_params",
    "pages.size.shrink",
    "pages.parallel",
    "extract.min_fill",
    "output.bom",
    "output.rotate",
    "stop.disk_free",
];

/// Whether a dotted key is one of a later version's, or lies within one.
pub(super) fn is_not_yet(key: &str) -> bool {
    NOT_YET.iter().any(|later| key == *later || key.strip_prefix(later).is_some_and(|rest| rest.starts_with('.')))
}

/// The keys of a table that has names of its own, `None` for a leaf.
pub(super) fn properties(schema: &Json) -> Option<&serde_json::Map<String, Json>> {
    let own = schema.get("properties").and_then(Json::as_object);
    own.or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(|s| s.get("properties")?.as_object()))
}

/// Every dotted key of the schema.
pub(super) fn keys(schema: &Json) -> Vec<String> {
    let Some(known) = properties(schema) else { return vec![String::new()] };
    let within = |(name, schema): (&String, &Json)| -> Vec<String> {
        keys(schema).into_iter().map(|key| if key.is_empty() { name.clone() } else { format!("{name}.{key}") }).collect()
    };
    known.iter().flat_map(within).collect()
}

/// Takes out of `layer` whatever does not belong there, an error for each. `schema` is the root.
pub(super) fn check(layer: &mut Node, schema: &Json, errors: &mut Vec<ConfigError>) {
    table(layer, "", schema, &Root(schema), errors);
}

/// The schema of a whole job.
struct Root<'a>(&'a Json);

impl Root<'_> {
    /// The section that has a key of this very name.
    fn home_of(&self, name: &str) -> Option<&str> {
        let sections = properties(self.0)?;
        sections
            .iter()
            .find(|(_, section)| properties(section).is_some_and(|keys| keys.contains_key(name)))
            .map(|(section, _)| section.as_str())
    }
}

fn table(node: &mut Node, path: &str, schema: &Json, root: &Root<'_>, errors: &mut Vec<ConfigError>) {
    let (Value::Table(entries), Some(known)) = (&mut node.value, properties(schema)) else { return };
    entries.retain_mut(|(name, node)| {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let Some(schema) = known.get(name.as_str()) else {
            errors.push(ConfigError { origin: node.key_at.clone(), message: unknown(&key, name, known, root), key });
            return false;
        };
        if properties(schema).is_none() {
            typed(node, schema);
            return true;
        }
        let off = SWITCHABLE.contains(&key.as_str()) && node.as_text() == Some("off");
        if off || matches!(node.value, Value::Table(_)) {
            table(node, &key, schema, root, errors);
            return true;
        }
        let message = if let Value::List(_) = node.value {
            format!("is a table of its own: write [{key}], not [[{key}]]")
        } else {
            let keys: Vec<_> = properties(schema).into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
            format!("wants a table with some of {}, not {}", keys.join(", "), type_name(&node.json()))
        };
        errors.push(ConfigError { origin: node.at.clone(), key, message });
        false
    });
}

fn unknown(key: &str, name: &str, known: &serde_json::Map<String, Json>, root: &Root<'_>) -> String {
    if is_not_yet(key) {
        return "not yet: this version of gleaner does not have it".into();
    }
    let section = if key.contains('.') { "key" } else { "section" };
    match (nearest(name, known.keys().map(String::as_str)), root.home_of(name)) {
        (Some(near), _) => format!("unknown {section}; did you mean `{near}`?"),
        (None, Some(home)) => format!("unknown {section}; `{name}` belongs into [{home}]"),
        (None, None) => {
            let names: Vec<String> = known.keys().map(|k| format!("`{k}`")).collect();
            format!("unknown {section}; known: {}", names.join(", "))
        }
    }
}

/// `GLEANER_JOB__NAME=2024` is text though it reads as a number: what was typed counts where the key wants text only.
fn typed(node: &mut Node, schema: &Json) {
    let Some(text) = node.typed.take() else { return };
    let scalar = matches!(node.value, Value::Int(_) | Value::Float(_) | Value::Bool(_));
    let wants = |kind: &str| kinds(schema).any(|k| k == kind);
    if scalar && wants("string") && !wants("integer") && !wants("number") {
        node.value = Value::Text(text);
    }
}

fn kinds(schema: &Json) -> impl Iterator<Item = &str> {
    let alternatives = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
    std::iter::once(schema).chain(alternatives).filter_map(|s| s.get("type")?.as_str())
}
