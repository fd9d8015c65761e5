//! `{{name}}` templates over an input row's columns.

use crate::model::{Columns, LISTED};
use serde_json::Value;
use std::borrow::Cow;

/// A parsed template: literal text and `{{column}}` places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place { name: String, at: Where },
}

/// Where a place stands in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// At the very start or where the authority begins: the value brings its own structure.
    Raw,
    /// Within the authority, after some of its text.
    Authority,
    Path,
    Query,
    Fragment,
}

/// Why a row gives no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself is wrong (`{{` without `}}`, an empty name).
    #[error("{0}")]
    Syntax(String),
    /// No such column.
    #[error("there is no column {0:?}")]
    Unknown(String),
    /// A value that would leave a hole or climb in a path.
    #[error("{0}")]
    Value(String),
}

impl Template {
    /// Parses. Blanks around a name are trimmed; a name may hold blanks and any letter, but no brace.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        // What stands before a place, each place before it shown as one letter.
        let mut before = String::new();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            let (text, after) = (&rest[..open], &rest[open + 2..]);
            let close = after.find("}}").ok_or_else(|| {
                TemplateError::Syntax(format!("{:?} opens a place with {{{{ and does not close it with }}}}", clip(&rest[open..])))
            })?;
            let name = after[..close].trim();
            if name.is_empty() {
                return Err(TemplateError::Syntax("{{}} names no column".into()));
            }
            if name.contains(['{', '}']) {
                return Err(TemplateError::Syntax(format!("{name:?} is no name of a column: it holds a brace")));
            }
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
                before.push_str(text);
            }
            parts.push(Part::Place { name: name.to_owned(), at: Where::after(&before) });
            before.push('x');
            rest = &after[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The column names it uses, in order, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for part in &self.parts {
            if let Part::Place { name, .. } = part
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
        names
    }

    /// The one column that is the whole text (`{{url}}`), if it is.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Place { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// Fills in an address: each value is percent-encoded by where it stands (path segment, query, fragment: everything
    /// but the unreserved characters of RFC 3986 2.3); a value at the very start or where the authority begins goes in as
    /// it is, trimmed.
    ///
    /// # Errors
    /// Unknown column; an empty value, `.` or `..` in a path.
    pub fn render_url(&self, row: &Columns) -> Result<String, TemplateError> {
        self.render_url_with(|name| find(row, name).map(value_text))
    }

    /// [`Template::render_url`] with values from anywhere: `value` gives a column's text, `None` where there is no such
    /// column.
    ///
    /// # Errors
    /// As there.
    pub fn render_url_with<'v>(&self, mut value: impl FnMut(&str) -> Option<Cow<'v, str>>) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(self.source.len() + 32);
        let mut in_path: Vec<(usize, usize, &str)> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place { name, at } => {
                    let text = value(name).ok_or_else(|| TemplateError::Unknown(name.clone()))?;
                    let place = match at {
                        Where::Path => "path",
                        Where::Authority => "host",
                        Where::Raw | Where::Query | Where::Fragment => "",
                    };
                    if text.is_empty() && !place.is_empty() {
                        return Err(TemplateError::Value(format!("column {name:?} is empty and stands in the {place} of the address")));
                    }
                    let start = out.len();
                    match at {
                        Where::Raw => out.push_str(trim_address(&text)),
                        _ => encode(&mut out, &text),
                    }
                    if *at == Where::Path {
                        in_path.push((start, out.len(), name));
                    }
                }
            }
        }
        for (start, end, name) in in_path {
            let from = out[..start].rfind('/').map_or(0, |i| i + 1);
            let to = out[end..].find(['/', '?', '#']).map_or(out.len(), |i| end + i);
            if is_dots(&out[from..to]) {
                return Err(TemplateError::Value(format!(
                    "column {name:?} gives the path segment {:?}, which would climb",
                    &out[from..to]
                )));
            }
        }
        Ok(out)
    }

    /// Fills in plain text (headers, form values before their own encoding), values as they are.
    ///
    /// # Errors
    /// Unknown column; CR, LF or NUL in the result.
    pub fn render_text(&self, row: &Columns) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(self.source.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place { name, .. } => {
                    let value = find(row, name).ok_or_else(|| TemplateError::Unknown(name.clone()))?;
                    out.push_str(&value_text(value));
                }
            }
        }
        match out.chars().find(|c| matches!(c, '\r' | '\n' | '\0')) {
            None => Ok(out),
            Some(c) => {
                let what = match c {
                    '\r' | '\n' => "a line break",
                    _ => "a NUL",
                };
                Err(TemplateError::Value(format!("{:?} would hold {what}", clip(&self.source))))
            }
        }
    }

    /// Fills in a JSON body: values are JSON-escaped inside string quotes, so that a place that is a whole string stays
    /// a string. A place outside of quotes gives the value as JSON.
    ///
    /// # Errors
    /// Unknown column.
    pub fn render_json(&self, row: &Columns) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(self.source.len() + 32);
        let (mut quoted, mut escaped) = (false, false);
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    for b in text.bytes() {
                        match b {
                            _ if escaped => escaped = false,
                            b'\\' if quoted => escaped = true,
                            b'"' => quoted = !quoted,
                            _ => {}
                        }
                    }
                    out.push_str(text);
                }
                Part::Place { name, .. } => {
                    let value = find(row, name)
                        .or_else(|| find(row, &serde_json::from_str::<String>(&format!("\"{name}\"")).ok()?))
                        .ok_or_else(|| TemplateError::Unknown(name.clone()))?;
                    if quoted {
                        let json = Value::from(value_text(value)).to_string();
                        out.push_str(&json[1..json.len() - 1]);
                    } else {
                        out.push_str(&value.to_string());
                    }
                }
            }
        }
        Ok(out)
    }
}

impl Where {
    /// Where a place stands after this text.
    fn after(before: &str) -> Self {
        let before = before.trim_start();
        if before.is_empty() {
            return Self::Raw;
        }
        let rest = match before.split_once("://") {
            Some((scheme, "")) if !scheme.contains(['/', '?', '#']) => return Self::Raw,
            Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => {
                if !rest.contains(['/', '?', '#']) {
                    return Self::Authority;
                }
                rest
            }
            _ => before,
        };
        if rest.contains('#') {
            Self::Fragment
        } else if rest.contains('?') {
            Self::Query
        } else {
            Self::Path
        }
    }
}

/// A value's text: numbers digit for digit, null empty, objects and arrays as JSON.
#[must_use]
pub fn value_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(s) => Cow::Borrowed(s),
        other => Cow::Owned(other.to_string()),
    }
}

/// White space, NBSP, ZWSP and BOM around an address taken off, and then `<…>`.
#[must_use]
pub fn trim_address(text: &str) -> &str {
    let blank = |c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}');
    let text = text.trim_matches(blank);
    text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).map_or(text, |t| t.trim_matches(blank))
}

/// The column of this name, or the one that has it between blanks.
fn find<'r>(row: &'r Columns, name: &str) -> Option<&'r Value> {
    row.get(name).or_else(|| row.get(LISTED).filter(|_| name == "url")).or_else(|| {
        let mut like = row.iter().filter(|(k, _)| k.trim() == name);
        match (like.next(), like.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    })
}

fn encode(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

/// `.` or `..` as the WHATWG parser sees it, `%2e` included.
fn is_dots(segment: &str) -> bool {
    segment.len() <= 6 && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn clip(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(i, _)| &text[..i])
}

#[cfg(test)]
mod tests;
