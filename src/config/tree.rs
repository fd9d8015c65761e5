//! Values that know where they came from, and layers of them laid over one another.

use super::errors::{ConfigError, Origin};
use serde_json::Value as Json;

/// One value of a layer.
#[derive(Clone)]
pub(super) struct Node {
    /// Where its key stands.
    pub(super) key_at: Origin,
    /// Where its value stands.
    pub(super) at: Origin,
    /// The text as typed, where a variable or flag was read as TOML.
    pub(super) typed: Option<String>,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    /// In the order written.
    Table(Vec<(String, Node)>),
}

/// The parts of a dotted key that stand in one table of the job file and merge part by part; other tables are one value.
const MERGED: &[&str] = &["request.timeout", "request.tls", "request.headers", "request.query", "extract.fields", "extract.types"];

/// Of these a higher layer's choice replaces a lower one's.
const EXCLUSIVE: &[&[&str]] = &[
    &["input.file", "input.urls"],
    &["request.body", "request.json", "request.form"],
    &["auth.bearer", "auth.basic", "auth.header", "auth.tokens"],
];

impl Node {
    pub(super) fn new(at: Origin, value: Value) -> Self {
        Self { key_at: at.clone(), at, typed: None, value }
    }

    pub(super) fn text(at: Origin, text: impl Into<String>) -> Self {
        Self::new(at, Value::Text(text.into()))
    }

    pub(super) fn table(at: Origin) -> Self {
        Self::new(at, Value::Table(Vec::new()))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    pub(super) fn entries(&self) -> &[(String, Node)] {
        if let Value::Table(table) = &self.value { table } else { &[] }
    }

    /// The items of a list, none where it is none.
    pub(super) fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The items of the list under a name, none where it is none.
    pub(super) fn items_mut(&mut self, name: &str) -> &mut [Self] {
        let Value::Table(table) = &mut self.value else { return &mut [] };
        match table.iter_mut().find(|(k, _)| k == name).map(|(_, node)| &mut node.value) {
            Some(Value::List(items)) => items,
            _ => &mut [],
        }
    }

    /// The value under a dotted key of plain parts; `limit[0].rate` is a key of a list's first table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        key.split('.').try_fold(self, |node, part| {
            let named = |name: &str| node.entries().iter().find(|(k, _)| k == name).map(|(_, n)| n);
            named(part).or_else(|| {
                let (list, place) = part.strip_suffix(']')?.rsplit_once('[')?;
                named(list)?.items().get(place.parse::<usize>().ok()?)
            })
        })
    }

    /// Whether a layer above the defaults says something about `key`, other than `"off"`.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| node.at.rank() > 0 && node.as_text() != Some("off"))
    }

    /// Puts a value under a dotted key, making the tables on its way.
    pub(super) fn put(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else { return };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(Vec::new());
        }
        let Value::Table(table) = &mut self.value else { return };
        let place = table.iter().position(|(k, _)| k == first);
        match (place, rest.is_empty()) {
            (Some(i), true) => table[i].1 = node,
            (None, true) => table.push(((*first).to_owned(), node)),
            (Some(i), false) => table[i].1.put(rest, node),
            (None, false) => {
                let mut inner = Self::table(node.key_at.clone());
                inner.put(rest, node);
                table.push(((*first).to_owned(), inner));
            }
        }
    }

    /// Puts a default under a dotted key unless a higher layer has it.
    pub(super) fn default(&mut self, key: &str, value: Value) {
        if self.get(key).is_none_or(|node| node.at.rank() == 0) {
            self.put(&key.split('.').collect::<Vec<_>>(), Self::new(Origin::Default, value));
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Self> {
        let (parent, last) = key.rsplit_once('.').map_or((None, key), |(p, l)| (Some(p), l));
        let mut node = self;
        for part in parent.iter().flat_map(|p| p.split('.')) {
            let Value::Table(table) = &mut node.value else { return None };
            node = &mut table.iter_mut().find(|(k, _)| k == part)?.1;
        }
        let Value::Table(table) = &mut node.value else { return None };
        let place = table.iter().position(|(k, _)| k == last)?;
        Some(table.remove(place).1)
    }

    /// Lays `over` on top. What one layer says twice (two `--field` of one name) is an error.
    pub(super) fn lay(&mut self, over: Self, errors: &mut Vec<ConfigError>) {
        for group in EXCLUSIVE {
            for chosen in *group {
                let Some(rank) = over.get(chosen).map(|n| n.at.rank()) else { continue };
                for other in group.iter().filter(|other| *other != chosen) {
                    if self.get(other).is_some_and(|n| n.at.rank() < rank) {
                        self.remove(other);
                    }
                }
            }
        }
        self.lay_at("", over, errors);
    }

    fn lay_at(&mut self, path: &str, over: Self, errors: &mut Vec<ConfigError>) {
        let merges = path.is_empty() || !path.contains('.') || MERGED.contains(&path);
        let (Value::Table(under), Value::Table(table), true) = (&mut self.value, &over.value, merges) else {
            *self = over;
            return;
        };
        let same = |a: &str, b: &str| a == b || path == "request.headers" && a.eq_ignore_ascii_case(b);
        for (name, node) in table.clone() {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match under.iter().position(|(k, _)| same(k, &name)) {
                Some(i) if MERGED.contains(&path) && under[i].1.at.rank() == 3 && node.at.rank() == 3 => {
                    errors.push(ConfigError { origin: node.at.clone(), key, message: "given twice".into() });
                }
                Some(i) => {
                    under[i].1.lay_at(&key, node, errors);
                    under[i].0 = name;
                }
                None => under.push((name, node)),
            }
        }
        if over.at.rank() > self.at.rank() {
            self.key_at = over.key_at;
            self.at = over.at;
        }
    }

    /// As JSON; numbers that JSON has not become null.
    pub(super) fn json(&self) -> Json {
        match &self.value {
            Value::Text(text) => Json::String(text.clone()),
            Value::Int(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Bool(b) => (*b).into(),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Table(table) => Json::Object(table.iter().map(|(k, n)| (k.clone(), n.json())).collect()),
        }
    }

    /// Calls `visit` with the dotted key of each text within; a list's texts have the list's key, those of its tables
    /// their own.
    pub(super) fn each_text(&self, key: &str, visit: &mut dyn FnMut(&str, &Self, &str)) {
        match &self.value {
            Value::Text(text) => visit(key, self, text),
            Value::List(items) => {
                for (i, node) in items.iter().enumerate() {
                    let table = matches!(node.value, Value::Table(_));
                    node.each_text(&if table { format!("{key}[{i}]") } else { key.to_owned() }, visit);
                }
            }
            Value::Table(table) => {
                for (name, node) in table {
                    node.each_text(&if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, visit);
                }
            }
            _ => {}
        }
    }
}

/// A TOML text as a layer whose values stand in a file.
///
/// # Errors
/// The first place that is no TOML, with what is wrong there.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let places = Places::new(body);
    match toml_span::parse(body) {
        Ok(root) => Ok(places.node(&root, None)),
        Err(error) => Err(ConfigError {
            origin: places.at(error.span.start),
            key: String::new(),
            message: format!("not TOML: {}", explain(&error, &places)),
        }),
    }
}

/// A text of a variable or flag: TOML where it is one value of TOML, else text.
pub(super) fn parse_typed(text: &str, origin: &Origin) -> Node {
    let document = format!("v = {text}");
    let parsed = toml_span::parse(&document).ok().filter(|_| !text.contains('\n'));
    let value = parsed.as_ref().and_then(toml_span::Value::as_table).filter(|t| t.len() == 1).and_then(|t| t.values().next());
    let mut node = value.map_or_else(|| Node::text(origin.clone(), text), |value| Places::new("").node(value, Some(origin)));
    node.typed = Some(text.to_owned());
    node
}

fn explain(error: &toml_span::Error, places: &Places<'_>) -> String {
    use toml_span::ErrorKind as Kind;
    let line = |span: &toml_span::Span| match places.at(span.start) {
        Origin::File { line, .. } => line,
        _ => 0,
    };
    match &error.kind {
        Kind::UnquotedString => "a value without quotes: write text as \"text\"".into(),
        Kind::DuplicateKey { key, first } => format!("the key `{key}` stands twice, first in line {}", line(first)),
        Kind::DuplicateTable { name, first } => format!("the section [{name}] stands twice, first in line {}", line(first)),
        Kind::UnexpectedEof => "the file ends within a value".into(),
        other => {
            let text = toml_span::Error { kind: other.clone(), span: error.span, line_info: None }.to_string();
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
        }
    }
}

/// Lines and columns of byte offsets.
struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { text, starts }
    }

    fn at(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset.min(self.text.len())).map_or(1, |before| before.chars().count() + 1);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Origin::File { line: number(line), column: number(column) }
    }

    /// Where a value begins: the span of a text leaves its quotes out.
    fn value_at(&self, value: &toml_span::Value<'_>) -> Origin {
        let mut start = value.span.start;
        if value.as_str().is_some() {
            let before = self.text.get(..start).unwrap_or("").trim_end_matches(['\r', '\n']);
            let quotes = before.len() - before.trim_end_matches(['"', '\'']).len();
            start = before.len() - quotes.min(3);
            if quotes == 0 {
                start = value.span.start;
            }
        }
        self.at(start)
    }

    fn node(&self, value: &toml_span::Value<'_>, fixed: Option<&Origin>) -> Node {
        use toml_span::value::ValueInner as Inner;
        let at = fixed.cloned().unwrap_or_else(|| self.value_at(value));
        let inner = match value.as_ref() {
            Inner::String(text) => Value::Text(text.to_string()),
            Inner::Integer(n) => Value::Int(*n),
            Inner::Float(n) => Value::Float(*n),
            Inner::Boolean(b) => Value::Bool(*b),
            Inner::Array(items) => Value::List(items.iter().map(|item| self.node(item, fixed)).collect()),
            Inner::Table(table) => {
                let mut keys: Vec<_> = table.iter().collect();
                keys.sort_by_key(|(key, _)| key.span.start);
                let entry = |(key, value): (&toml_span::value::Key<'_>, &toml_span::Value<'_>)| {
                    let mut node = self.node(value, fixed);
                    node.key_at = fixed.cloned().unwrap_or_else(|| self.at(key.span.start));
                    if matches!(node.value, Value::Table(_)) {
                        node.at = node.key_at.clone();
                    }
                    (key.name.to_string(), node)
                };
                Value::Table(keys.into_iter().map(entry).collect())
            }
        };
        Node::new(at, inner)
    }
}
