//! The leaves of a job file: one value each, read with a message of its own and described to the schema.

use crate::model::plan::{AllowNetwork, Extensions, FieldType, LimitKeyKind, OnBad, Scope, Then};
use crate::model::{Rate, parse_duration, parse_percent, parse_rate, parse_size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::time::Duration;

/// A value of one key.
pub trait Leaf: Sized {
    /// Reads it; the message says what is wanted, lowercase, and never repeats a text that may be a secret.
    ///
    /// # Errors
    /// What is wrong with the value.
    fn read(value: &Json) -> Result<Self, String>;
    /// Its JSON Schema.
    fn schema() -> Schema;
}

/// What a layer says about one key. A wrong value is kept as its message, so that one mistake does not hide the others.
#[derive(Clone, Debug, Default)]
pub enum Set<T> {
    /// No layer says anything.
    #[default]
    Unset,
    /// Said, and wrong: what of it, or which items of a list, counted from 0.
    Wrong(Vec<(Option<usize>, String)>),
    /// Said.
    To(T),
}

impl<'de, T: Leaf> Deserialize<'de> for Set<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Json::deserialize(deserializer)?;
        let message = match T::read(&value) {
            Ok(read) => return Ok(Set::To(read)),
            Err(message) => message,
        };
        let read = |items: Vec<Json>| T::read(&Json::Array(items)).err();
        // What is said of no items too is said of the list.
        let of_list = read(Vec::new());
        let items = value.as_array().map_or(&[][..], Vec::as_slice).iter().enumerate();
        let wrong: Vec<_> = items
            .filter_map(|(i, item)| Some((Some(i), read(vec![item.clone()]).filter(|message| Some(message) != of_list.as_ref())?)))
            .collect();
        Ok(Set::Wrong(if wrong.is_empty() { vec![(None, message)] } else { wrong }))
    }
}

impl<T: Leaf> JsonSchema for Set<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Leaf".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// A key that `"off"` switches off; so does a list of it alone (a flag that may be repeated).
#[derive(Clone, Debug)]
pub enum OrOff<T> {
    /// `"off"`.
    Off,
    /// On, with its value.
    On(T),
}

impl<T> OrOff<T> {
    /// The value where it is on.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: Leaf> Leaf for OrOff<T> {
    fn read(value: &Json) -> Result<Self, String> {
        let one = value.as_array().filter(|list| list.len() == 1).and_then(|list| list.first()).unwrap_or(value);
        if one.as_str() == Some("off") { Ok(Self::Off) } else { T::read(value).map(Self::On) }
    }
    fn schema() -> Schema {
        json_schema!({ "anyOf": [T::schema(), { "const": "off" }] })
    }
}

/// How a value's type is called in messages.
pub(super) fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "nothing",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a table",
    }
}

fn wants(what: &str, value: &Json) -> String {
    format!("wants {what}, not {}", type_name(value))
}

impl Leaf for String {
    fn read(value: &Json) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| wants("text in quotes", value))
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Leaf for bool {
    fn read(value: &Json) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wants("true or false, without quotes", value))
    }
    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A whole number within bounds, both included.
#[derive(Clone, Copy, Debug)]
pub struct Count<const MIN: u64, const MAX: u64>(pub u64);

/// The largest whole number of TOML.
pub const MAX_COUNT: u64 = i64::MAX as u64;

impl<const MIN: u64, const MAX: u64> Leaf for Count<MIN, MAX> {
    fn read(value: &Json) -> Result<Self, String> {
        let Json::Number(number) = value else { return Err(wants("a whole number", value)) };
        match number.as_u64() {
            Some(n) if (MIN..=MAX).contains(&n) => Ok(Self(n)),
            _ if number.as_i64().is_none() && number.as_u64().is_none() => Err(format!("wants a whole number, not {number}")),
            _ if MAX == MAX_COUNT => Err(format!("{number} is too small: at least {MIN}")),
            _ => Err(format!("{number} is not between {MIN} and {MAX}")),
        }
    }
    fn schema() -> Schema {
        if MAX == MAX_COUNT {
            json_schema!({ "type": "integer", "minimum": MIN })
        } else {
            json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
        }
    }
}

/// Numbers without their unit get the message that shows how to write one.
fn with_unit<T>(value: &Json, what: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    match value {
        Json::String(text) => parse(text),
        Json::Number(number) => parse(&number.to_string()),
        _ => Err(wants(what, value)),
    }
}

/// `10s`; zero allowed.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl Leaf for Span {
    fn read(value: &Json) -> Result<Self, String> {
        with_unit(value, "a duration like \"10s\"", parse_duration).map(Self)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9.]+ *(us|µs|ms|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?))+$" })
    }
}

/// `10s`; longer than nothing.
#[derive(Clone, Copy, Debug)]
pub struct Wait(pub Duration);

impl Leaf for Wait {
    fn read(value: &Json) -> Result<Self, String> {
        let Span(duration) = Span::read(value)?;
        if duration.is_zero() { Err("must be longer than 0s".into()) } else { Ok(Self(duration)) }
    }
    fn schema() -> Schema {
        Span::schema()
    }
}

/// `32MiB`, or a number of bytes; at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl Leaf for Size {
    fn read(value: &Json) -> Result<Self, String> {
        match with_unit(value, "a size like \"32MiB\"", parse_size)? {
            0 => Err("must be at least 1 byte".into()),
            bytes => Ok(Self(bytes)),
        }
    }
    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1 }] })
    }
}

/// `20%`, as `0.2`.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub f64);

impl Leaf for Share {
    fn read(value: &Json) -> Result<Self, String> {
        with_unit(value, "a share like \"20%\"", parse_percent).map(Self)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9.]+ *%$" })
    }
}

/// What a thing of the job is called; it may become a file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Leaf for Name {
    fn read(value: &Json) -> Result<Self, String> {
        let text = String::read(value)?;
        let fits = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no name: up to 64 letters, digits, `.`, `_` and `-`, no mark in front"))
        }
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })
    }
}

/// One text or a list of texts.
#[derive(Clone, Debug)]
pub struct Texts(pub Vec<String>);

fn one_or_many<T>(value: &Json, read: impl Fn(&Json) -> Result<T, String>) -> Result<Vec<T>, String> {
    match value {
        Json::Array(items) => items.iter().map(read).collect(),
        one => read(one).map(|value| vec![value]),
    }
}

impl Leaf for Texts {
    fn read(value: &Json) -> Result<Self, String> {
        one_or_many(value, String::read).map(Self)
    }
    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// `5000/hour`, or a list of such.
#[derive(Clone, Debug)]
pub struct Rates(pub Vec<Rate>);

impl Leaf for Rates {
    fn read(value: &Json) -> Result<Self, String> {
        one_or_many(value, |v| with_unit(v, "a rate like \"10/second\"", parse_rate)).map(Self)
    }
    fn schema() -> Schema {
        Texts::schema()
    }
}

/// `["200..299", 404]`: inclusive ranges of statuses.
#[derive(Clone, Debug)]
pub struct Statuses(pub Vec<(u16, u16)>);

fn status(text: &str) -> Result<u16, String> {
    match text.trim().parse::<u16>() {
        Ok(n) if (200..=999).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is no status from 200 to 999: write 404, \"404\" or \"200..299\"")),
    }
}

fn ranges(value: &Json) -> Result<Vec<(u16, u16)>, String> {
    one_or_many(value, |item| match item {
        Json::Number(n) => status(&n.to_string()).map(|s| (s, s)),
        Json::String(text) => match text.split_once("..") {
            None => status(text).map(|s| (s, s)),
            Some((from, to)) => match (status(from)?, status(to.trim_start_matches('='))?) {
                (from, to) if from <= to => Ok((from, to)),
                _ => Err(format!("{text:?} ends before it begins")),
            },
        },
        other => Err(wants("statuses like 404 or \"200..299\"", other)),
    })
}

impl Leaf for Statuses {
    fn read(value: &Json) -> Result<Self, String> {
        let ranges = ranges(value)?;
        if ranges.is_empty() { Err("no status would be a result: name at least one".into()) } else { Ok(Self(ranges)) }
    }
    fn schema() -> Schema {
        let one = json_schema!({ "anyOf": [{ "type": "integer", "minimum": 200, "maximum": 999 }, { "type": "string", "pattern": "^[0-9]{3}(\\.\\.[0-9]{3})?$" }] });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// [`Statuses`] that a rule looks for.
#[derive(Clone, Debug)]
pub struct StatusRanges(pub Vec<(u16, u16)>);

impl Leaf for StatusRanges {
    fn read(value: &Json) -> Result<Self, String> {
        let ranges = ranges(value)?;
        if ranges.is_empty() { Err("is an empty list: leave it out for every status".into()) } else { Ok(Self(ranges)) }
    }
    fn schema() -> Schema {
        Statuses::schema()
    }
}

/// `"x-foo"`, or `{ name = "x-foo", match = "regex" }`.
#[derive(Clone, Debug)]
pub struct HeaderRule {
    /// As written.
    pub name: String,
    /// A regex over its value.
    pub pattern: Option<String>,
}

impl Leaf for HeaderRule {
    fn read(value: &Json) -> Result<Self, String> {
        let text = |key: &str| {
            let value = value.get(key)?;
            Some(String::read(value).map_err(|message| format!("{key} {message}")))
        };
        match value {
            Json::String(name) => Ok(Self { name: name.clone(), pattern: None }),
            Json::Object(_) => match text("name") {
                Some(name) => Ok(Self { name: name?, pattern: text("match").transpose()? }),
                None => Err("names no header: write { name = \"x-foo\", match = \"…\" }".into()),
            },
            other => Err(wants("a header's name, or { name = \"x-foo\", match = \"…\" }", other)),
        }
    }
    fn schema() -> Schema {
        let table = json_schema!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "Name of the header." },
                "match": { "type": "string", "description": "Regex over its value; default: it only has to be there." },
            },
            "required": ["name"],
            "additionalProperties": false,
        });
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

/// A reason of the job's own, in kebab-case.
#[derive(Clone, Debug)]
pub struct Code(pub String);

impl Leaf for Code {
    fn read(value: &Json) -> Result<Self, String> {
        let text = String::read(value)?;
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let fits = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(word);
        if fits {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no reason: up to 64 small letters and digits with dashes between, like \"quota-used-up\""))
        }
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "maxLength": 64 })
    }
}

/// `[408, 429, 503]`.
#[derive(Clone, Debug)]
pub struct Codes(pub Vec<u16>);

impl Leaf for Codes {
    fn read(value: &Json) -> Result<Self, String> {
        one_or_many(value, |item| {
            let Count(n) = Count::<100, 999>::read(item)?;
            u16::try_from(n).map_err(|e| e.to_string())
        })
        .map(Self)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "array", "items": Count::<100, 999>::schema() })
    }
}

/// A table of texts, in the order written; numbers and truth values become their text.
#[derive(Clone, Debug)]
pub struct Pairs(pub Vec<(String, String)>);

impl Leaf for Pairs {
    fn read(value: &Json) -> Result<Self, String> {
        let Json::Object(table) = value else { return Err(wants("a table like { name = \"value\" }", value)) };
        let text = |(name, value): (&String, &Json)| match value {
            Json::String(text) => Ok((name.clone(), text.clone())),
            Json::Number(number) => Ok((name.clone(), number.to_string())),
            Json::Bool(truth) => Ok((name.clone(), truth.to_string())),
            other => Err(format!("{name:?} {}", wants("text", other))),
        };
        table.iter().map(text).collect::<Result<_, _>>().map(Self)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
    }
}

/// Any table or list.
#[derive(Clone, Debug)]
pub struct Any(pub Json);

impl Leaf for Any {
    fn read(value: &Json) -> Result<Self, String> {
        if value.is_object() || value.is_array() {
            return Ok(Self(value.clone()));
        }
        Err(format!(
            "{}: JSON that is text already goes into body, with a Content-Type header",
            wants("a table like { key = \"value\" } or a list", value)
        ))
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["object", "array"] })
    }
}

/// The known word nearest to `word`, where one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&word, k), strsim::damerau_levenshtein(&word, k), k))
        .filter(|(near, steps, k)| *near > 0.85 || *steps <= 1.max(k.len() / 3))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, _, k)| k)
}

/// What is wrong with a word that is none of `known`.
pub(super) fn no_such_word(word: &str, known: &[&str], later: &[&str]) -> String {
    if later.contains(&word) {
        return format!("{word:?} is not yet supported: {}", list(known));
    }
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("{word:?} is not known; did you mean {near:?}?"),
        None => format!("{word:?} is not known: {}", list(known)),
    }
}

fn list(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("write {} or {last}", rest.join(", ")),
        _ => format!("write {}", quoted.concat()),
    }
}

/// Makes a word-valued key's [`Leaf`] out of a plan's enum: its words, then those of later versions.
macro_rules! words {
    ($type:ty { $($word:literal => $value:expr),+ $(,)? } later [$($later:literal),* $(,)?]) => {
        impl Leaf for $type {
            fn read(value: &Json) -> Result<Self, String> {
                match String::read(value)?.as_str() {
                    $($word => Ok($value),)+
                    other => Err(no_such_word(other, &[$($word),+], &[$($later),*])),
                }
            }
            fn schema() -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}

/// `skip` or `fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// Counted and listed.
    Skip,
    /// Fetched again.
    Fetch,
}

/// What an edited list does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// The run ends with 65.
    Stop,
}

/// What robots.txt is to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Robots {
    /// Obeyed.
    Obey,
    /// Not even asked for.
    Ignore,
}

words!(Duplicates { "skip" => Self::Skip, "fetch" => Self::Fetch } later []);
words!(OnChange { "stop" => Self::Stop } later ["merge"]);
words!(Robots { "obey" => Self::Obey, "ignore" => Self::Ignore } later []);
words!(OnBad { "skip" => Self::Skip, "stop" => Self::Stop } later []);
words!(LimitKeyKind { "host" => Self::Host, "domain" => Self::Domain, "credential" => Self::Credential, "job" => Self::Job } later []);
words!(Then {
    "accept" => Self::Accept, "retry" => Self::Retry, "limited" => Self::Limited, "skip" => Self::Skip, "stop" => Self::Stop,
    "end-of-pages" => Self::EndOfPages, "restart-pages" => Self::RestartPages,
} later ["refresh-auth"]);
words!(Scope { "page" => Self::Page, "host" => Self::Host, "domain" => Self::Domain, "prefix" => Self::Prefix, "any" => Self::Any } later []);
words!(Extensions { "pages" => Self::Pages, "any" => Self::Any } later []);
words!(AllowNetwork { "named" => Self::Named, "public" => Self::Public, "any" => Self::Any } later []);
words!(FieldType {
    "text" => Self::Text, "number" => Self::Number, "integer" => Self::Integer,
    "bool" => Self::Bool, "time" => Self::Time, "json" => Self::Json,
} later []);
