//! Values by the job's types. What does not parse is null, and counted by the caller.

use super::json;
use crate::model::plan::FieldType;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

/// The value as `kind`, element by element in a list; null and the empty text are null in every type but text.
///
/// # Errors
/// The value that does not parse, as text; the caller makes it null.
pub(super) fn convert(value: Value, kind: FieldType, misses: &mut Vec<String>) -> Value {
    match value {
        Value::Array(items) if kind != FieldType::Json && kind != FieldType::Text => {
            Value::Array(items.into_iter().map(|v| convert(v, kind, misses)).collect())
        }
        Value::Null => Value::Null,
        Value::String(s) if kind != FieldType::Text && s.trim().is_empty() => Value::Null,
        value => {
            let out = one(&value, kind);
            if out.is_none() {
                misses.push(plain(&value));
            }
            out.unwrap_or(Value::Null)
        }
    }
}

/// What a message calls the type.
pub(super) fn name(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Text => "text",
        FieldType::Number => "number",
        FieldType::Integer => "integer",
        FieldType::Bool => "bool",
        FieldType::Time => "time",
        FieldType::Json => "JSON",
    }
}

/// Text as it stands, everything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn one(value: &Value, kind: FieldType) -> Option<Value> {
    match kind {
        FieldType::Text => Some(match value {
            Value::Array(items) if items.iter().all(|v| !v.is_array() && !v.is_object()) => {
                Value::Array(items.iter().map(|v| if v.is_null() { Value::Null } else { Value::String(plain(v)) }).collect())
            }
            other => Value::String(plain(other)),
        }),
        FieldType::Number => number(scalar(value)?.trim()),
        FieldType::Integer => integer(scalar(value)?.trim()),
        FieldType::Bool => match value {
            Value::Bool(_) => Some(value.clone()),
            other => boolean(&plain(other)),
        },
        FieldType::Time => time(scalar(value)?.trim()).map(Value::String),
        FieldType::Json => match value {
            Value::String(s) => json::read(s).ok().map(|d| json::to_value(&d.value)),
            other => Some(other.clone()),
        },
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// Sign, digits, fraction, exponent; the digits stay as they are. A leading `+`, zeros before and a bare `.5` or `5.` are
/// mended to what JSON can carry.
fn number(text: &str) -> Option<Value> {
    let text = text.strip_prefix('+').filter(|t| t.starts_with(|c: char| c.is_ascii_digit() || c == '.')).unwrap_or(text);
    if json::number_length(text.as_bytes()) == Some(text.len()) {
        return Some(json::as_written(text.to_owned()));
    }
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |r| ("-", r));
    let (mantissa, exponent) = rest.find(['e', 'E']).map_or((rest, ""), |i| rest.split_at(i));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        w => w,
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    let mended = format!("{sign}{whole}{dot}{fraction}{exponent}");
    (json::number_length(mended.as_bytes()) == Some(mended.len())).then(|| json::as_written(mended))
}

/// A whole number of any length; `12.0` is none.
fn integer(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number(text)
}

fn boolean(text: &str) -> Option<Value> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(Value::Bool(true)),
        "false" | "no" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// RFC 3339 (also with a blank for the `T`), RFC 9110 date or `YYYY-MM-DD`, as RFC 3339 in UTC.
fn time(text: &str) -> Option<String> {
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(t.to_string());
    }
    if text.len() == 10
        && let Ok(date) = text.parse::<Date>()
    {
        return Some(format!("{date}T00:00:00Z"));
    }
    let seconds = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_type(value: &Value, kind: FieldType) -> (String, usize) {
        let mut misses = Vec::new();
        let out = convert(value.clone(), kind, &mut misses);
        (out.to_string(), misses.len())
    }

    fn text(s: &str, kind: FieldType) -> (String, usize) {
        as_type(&Value::from(s), kind)
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (s, want) in [
            (" 1.50 ", "1.50"),
            ("-3", "-3"),
            ("+7", "7"),
            ("1e5", "1e5"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
            ("007", "7"),
            (".5", "0.5"),
            ("5.", "5"),
        ] {
            assert_eq!(text(s, FieldType::Number), (want.into(), 0), "{s}");
        }
        for s in ["1,000", "1 000", "€ 5", "abc", "1.2.3", "--1", "0x10", "NaN", "1e", "+-1", "."] {
            assert_eq!(text(s, FieldType::Number), ("null".into(), 1), "{s}");
        }
        assert_eq!(text("", FieldType::Number), ("null".into(), 0));
    }

    #[test]
    fn integers_are_whole() {
        assert_eq!(text("+0012", FieldType::Integer), ("12".into(), 0));
        assert_eq!(as_type(&serde_json::json!(5), FieldType::Integer), ("5".into(), 0));
        assert_eq!(text("12.0", FieldType::Integer), ("null".into(), 1));
    }

    #[test]
    fn bools_are_words_or_digits() {
        assert_eq!(text("Yes", FieldType::Bool), ("true".into(), 0));
        assert_eq!(as_type(&serde_json::json!(0), FieldType::Bool), ("false".into(), 0));
        assert_eq!(text("on", FieldType::Bool), ("null".into(), 1));
    }

    #[test]
    fn times_are_utc() {
        for (s, want) in [
            ("2024-02-29T12:00:00+02:00", "2024-02-29T10:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("2024-01-01 00:00:00Z", "2024-01-01T00:00:00Z"),
        ] {
            assert_eq!(text(s, FieldType::Time), (format!("\"{want}\""), 0), "{s}");
        }
        for s in ["2024-13-01", "yesterday", "1700000000", "2024-02-29T12:00:00"] {
            assert_eq!(text(s, FieldType::Time), ("null".into(), 1), "{s}");
        }
    }

    #[test]
    fn json_and_text_and_lists() {
        assert_eq!(text("{\"a\":[1.0]}", FieldType::Json), ("{\"a\":[1.0]}".into(), 0));
        assert_eq!(text("{", FieldType::Json), ("null".into(), 1));
        assert_eq!(as_type(&serde_json::json!({"a": 1}), FieldType::Text), ("\"{\\\"a\\\":1}\"".into(), 0));
        assert_eq!(as_type(&serde_json::json!(["1", "x", null]), FieldType::Number), ("[1,null,null]".into(), 1));
    }
}
