//! A layer against the schema: unknown keys with their nearest name, keys of later versions, tables where tables belong.

use super::errors::{ConfigError, Origin};
use super::leaf::{nearest, type_name};
use super::raw::SWITCHABLE;
use super::tree::{Node, Value};
use serde_json::Value as Json;

/// Keys that a later version brings: an error, so that none is silently without effect.
pub(super) const NOT_YET: &[&str] = &[
    "step",
    "since",
    "store",
    "host.auth",
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
    "auth.oauth2",
    "auth.login",
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

const LATER: &str = "not yet: this version of gleaner does not have it";

/// Whether a dotted key is one of a later version's, or lies within one; of a list's tables `host.auth` means each.
pub(super) fn is_not_yet(key: &str) -> bool {
    let key = &without_places(key);
    NOT_YET.iter().any(|later| key == *later || key.strip_prefix(later).is_some_and(|rest| rest.starts_with('.')))
}

/// `host[3].headers` is `host.headers`.
pub(super) fn without_places(key: &str) -> String {
    let mut parts = key.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |key, part| match part.split_once(']') {
        Some((place, rest)) if place.bytes().all(|b| b.is_ascii_digit()) => key + rest,
        _ => format!("{key}[{part}"),
    })
}

/// What each table of a list of tables is, `None` for all else.
pub(super) fn items(schema: &Json) -> Option<&Json> {
    let own = schema.get("items");
    let items = own.or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(|s| s.get("items")));
    items.filter(|items| properties(items).is_some())
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
    fn home_of(&self, name: &str) -> Option<String> {
        let sections = properties(self.0)?;
        sections
            .iter()
            .find(|(_, section)| properties(items(section).unwrap_or(section)).is_some_and(|keys| keys.contains_key(name)))
            .map(|(section, schema)| if items(schema).is_some() { format!("[[{section}]]") } else { format!("[{section}]") })
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
        if SWITCHABLE.contains(&key.as_str()) && node.as_text() == Some("off") {
            return true;
        }
        if let Some(item) = items(schema) {
            return list(node, &key, item, root, errors);
        }
        // What may be a text too is a leaf where it is no table.
        let leaf = properties(schema).is_none() || kinds(schema).any(|kind| kind == "string") && !matches!(node.value, Value::Table(_));
        if leaf {
            typed(node, schema);
            return true;
        }
        if matches!(node.value, Value::Table(_)) {
            table(node, &key, schema, root, errors);
            return true;
        }
        let message = if let Value::List(_) = node.value {
            format!("is a table of its own: write [{key}], not [[{key}]]")
        } else {
            format!("wants a table with some of {}, not {}", names(schema), type_name(&node.json()))
        };
        errors.push(ConfigError { origin: node.at.clone(), key, message });
        false
    });
}

/// A list of tables; whether it is one. Each is walked like a section of its own, `limit[0]`.
fn list(node: &mut Node, key: &str, item: &Json, root: &Root<'_>, errors: &mut Vec<ConfigError>) -> bool {
    let place = node.at.clone();
    let mut told = |origin: &Origin, message: String| errors.push(ConfigError { origin: origin.clone(), key: key.to_owned(), message });
    match &mut node.value {
        Value::List(tables) => {
            let strange: Vec<_> = tables.iter().filter(|table| !matches!(table.value, Value::Table(_))).collect();
            for other in &strange {
                told(&other.at, format!("wants tables with some of {}, not {}", names(item), type_name(&other.json())));
            }
            if !strange.is_empty() {
                return false;
            }
            for (i, node) in tables.iter_mut().enumerate() {
                table(node, &format!("{key}[{i}]"), item, root, errors);
            }
            return true;
        }
        Value::Table(_) if matches!(place, Origin::Env(_) | Origin::Flag(_)) => {
            told(&place, format!("is a list of tables, which has no keys of its own here: write [[{key}]] in the job file"));
        }
        Value::Table(_) => told(&place, format!("is a list of tables: write [[{key}]], not [{key}]")),
        _ => {
            let message = format!("wants tables [[{key}]] with some of {}, not {}", names(item), type_name(&node.json()));
            told(&place, message);
        }
    }
    false
}

/// The keys of a table, for messages.
fn names(schema: &Json) -> String {
    properties(schema).into_iter().flat_map(|p| p.keys()).map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn unknown(key: &str, name: &str, known: &serde_json::Map<String, Json>, root: &Root<'_>) -> String {
    if is_not_yet(key) {
        return LATER.into();
    }
    let section = if key.contains('.') { "key" } else { "section" };
    match (nearest(name, known.keys().map(String::as_str)), root.home_of(name)) {
        (Some(near), _) => format!("unknown {section}; did you mean `{near}`?"),
        (None, Some(home)) => format!("unknown {section}; `{name}` belongs into {home}"),
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
