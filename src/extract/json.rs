//! JSON in: strict but for what real servers send, number for number, within a depth.
//!
//! Own reader, since jaq's recurses without end, takes comments and byte strings, and refuses lone surrogates; serde_json
//! refuses lone surrogates and NaN.

use jaq_json::{Map, Num, Val};
use serde_json::Value;

/// Deepest array or object that is read.
pub(super) const MAX_DEPTH: usize = 512;
/// Integers of more digits stay text inside filters: turning them into machine form is quadratic.
const MAX_INTEGER: usize = 1_000;

/// A document, and how many numbers in it were NaN or infinite and became null.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Val,
    pub(super) not_numbers: u32,
}

/// Reads exactly one JSON value with white space around it. Of a repeated key the last value counts; a lone surrogate is
/// U+FFFD; `NaN`, `Infinity` and `-Infinity` are null and counted.
///
/// # Errors
/// A lowercase sentence with the line and column (in characters) where it stops being JSON.
pub(super) fn read(text: &str) -> Result<Document, String> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, not_numbers: 0 };
    let whole = reader.value(0).and_then(|value| {
        reader.blanks();
        if reader.at < reader.text.len() { Err("text after the value") } else { Ok(value) }
    });
    match whole {
        Ok(value) => Ok(Document { value, not_numbers: reader.not_numbers }),
        Err(what) => Err(format!("{what} at {}", place(text, reader.at))),
    }
}

/// `line 3 column 7`.
fn place(text: &str, at: usize) -> String {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let line = before.split(|b| *b == b'\n').count();
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    format!("line {line} column {column}")
}

struct Reader<'a> {
    /// Valid UTF-8.
    text: &'a [u8],
    at: usize,
    not_numbers: u32,
}

type Read<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Read<Val> {
        self.blanks();
        match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => Err("nested deeper than 512"),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Val::utf8_str(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') if self.word("true") => Ok(Val::Bool(true)),
            Some(b'f') if self.word("false") => Ok(Val::Bool(false)),
            Some(b'n') if self.word("null") => Ok(Val::Null),
            Some(b'N') if self.word("NaN") => Ok(self.not_number()),
            Some(b'I') if self.word("Infinity") => Ok(self.not_number()),
            Some(_) => Err("no JSON value"),
            None => Err("the text ends where a value is wanted"),
        }
    }

    fn not_number(&mut self) -> Val {
        self.not_numbers += 1;
        Val::Null
    }

    fn array(&mut self, depth: usize) -> Read<Val> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Val::Arr(items.into()));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Val::Arr(items.into()));
                }
                _ => return Err("no comma or ] after an item"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<Val> {
        self.at += 1;
        let mut map = Map::default();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Val::obj(map));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err("no key in an object");
            }
            let key = Val::utf8_str(self.string()?);
            self.blanks();
            if self.peek() != Some(b':') {
                return Err("no colon after a key");
            }
            self.at += 1;
            map.insert(key, self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Val::obj(map));
                }
                _ => return Err("no comma or } after a value"),
            }
        }
    }

    fn string(&mut self) -> Read<Vec<u8>> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(run) = plain_run(rest) else {
                self.at = self.text.len();
                return Err("a string without end");
            };
            self.at += run + 1;
            if rest[run] == b'"' && out.is_empty() {
                // Of the exact size, which the shared text that it becomes takes over as it is.
                return Ok(rest[..run].to_vec());
            }
            out.extend_from_slice(&rest[..run]);
            match rest[run] {
                b'"' => return Ok(out),
                b'\\' => self.escape(&mut out)?,
                // Raw control characters are wrong by RFC 8259 7; many servers send tabs and line ends, which read well.
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let c = self.peek().ok_or("a string without end")?;
        self.at += 1;
        out.push(match c {
            b'"' | b'\\' | b'/' => c,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.unicode()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err("an unknown escape in a string"),
        });
        Ok(())
    }

    fn unicode(&mut self) -> Read<char> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or('\u{fffd}'));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or('\u{fffd}'))
    }

    fn hex4(&mut self) -> Read<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or("a string without end")?;
        let mut n = 0;
        for d in digits {
            n = n << 4 | char::from(*d).to_digit(16).ok_or("no four hex digits after \\u")?;
        }
        self.at += 4;
        Ok(n)
    }

    fn number(&mut self) -> Read<Val> {
        let start = self.at;
        if self.word("-Infinity") {
            return Ok(self.not_number());
        }
        let length = number_length(&self.text[start..]).ok_or("no number")?;
        self.at += length;
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        Ok(Val::Num(number(text)))
    }
}

/// Where the first quote, backslash or control character is. In blocks without a branch, which the compiler makes wide.
#[allow(clippy::needless_bitwise_bool, reason = "the point of it")]
fn plain_run(text: &[u8]) -> Option<usize> {
    let special = |b: u8| (b == b'"') | (b == b'\\') | (b < 0x20);
    let blocks = text.chunks_exact(16).take_while(|block| !block.iter().fold(false, |any, b| any | special(*b))).count();
    let at = blocks * 16;
    text[at..].iter().position(|b| special(*b)).map(|i| at + i)
}

/// The bytes that a JSON number takes at the start of `text` (RFC 8259 6).
pub(super) fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || whole > 1 && text[at] == b'0' {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

/// A number that prints as it was written: what machine form would change stays text.
fn number(text: &str) -> Num {
    let integer = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if integer
        && text != "-0"
        && text.len() <= MAX_INTEGER
        && let Some(n) = Num::from_str_radix(text, 10)
    {
        return n;
    }
    Num::Dec(text.to_owned().into())
}

/// The value as rows carry it: text as UTF-8 (what is none becomes U+FFFD), NaN and infinity null.
pub(super) fn to_value(val: &Val) -> Value {
    match val {
        Val::Null => Value::Null,
        Val::Bool(b) => Value::Bool(*b),
        Val::Num(n) => to_number(n),
        Val::TStr(s) | Val::BStr(s) => Value::String(String::from_utf8_lossy(s).into_owned()),
        Val::Arr(items) => Value::Array(items.iter().map(to_value).collect()),
        Val::Obj(map) => Value::Object(map.iter().map(|(k, v)| (key_text(k), to_value(v))).collect()),
    }
}

fn to_number(n: &Num) -> Value {
    match n {
        Num::Int(i) => Value::from(*i),
        Num::Float(f) if !f.is_finite() => Value::Null,
        Num::Float(_) | Num::BigInt(_) | Num::Dec(_) => as_written(n.to_string()),
    }
}

/// A number whose digits are kept. The text is a JSON number or the value is null.
pub(super) fn as_written(text: String) -> Value {
    if number_length(text.as_bytes()) == Some(text.len()) {
        Value::Number(serde_json::Number::from_string_unchecked(text))
    } else {
        Value::Null
    }
}

fn key_text(key: &Val) -> String {
    match key {
        Val::TStr(s) | Val::BStr(s) => String::from_utf8_lossy(s).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(text: &str) -> String {
        to_value(&read(text).unwrap().value).to_string()
    }

    #[test]
    fn numbers_are_kept_digit_for_digit() {
        for n in [
            "123456789012345678901234567890",
            "-0",
            "1.10",
            "1e400",
            "-1E-7",
            "0.1000000000000000055511151231257827",
            "9007199254740993",
            "-9223372036854775808",
        ] {
            assert_eq!(json(n), n);
        }
        let long = "7".repeat(100_000);
        assert_eq!(json(&long), long);
        for bad in ["01", "1.", ".5", "+1", "1e", "-", "0x1", "1_000"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_are_unescaped_and_lone_surrogates_replaced() {
        assert_eq!(json(r#""a\u00e4\ud83d\ude00\n\/""#), "\"aä😀\\n/\"");
        assert_eq!(json(r#""\ud800x\udc00\ud800\u0041""#), "\"\u{fffd}x\u{fffd}\u{fffd}A\"");
        assert_eq!(json("\"a\tb\""), "\"a\\tb\"");
        assert!(read(r#""\x""#).is_err() && read(r#""\u12"#).is_err() && read("\"").is_err());
    }

    #[test]
    fn nan_and_infinity_are_null_and_counted() {
        let d = read("[NaN, -Infinity, Infinity, 1]").unwrap();
        assert_eq!((to_value(&d.value).to_string().as_str(), d.not_numbers), ("[null,null,null,1]", 3));
    }

    #[test]
    fn depth_is_capped_without_overflow() {
        assert!(read(&format!("{}{}", "[".repeat(512), "]".repeat(512))).is_ok());
        for deep in ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("{}{}", "[".repeat(513), "]".repeat(513))] {
            assert!(read(&deep).unwrap_err().contains("deeper than 512"));
        }
    }

    #[test]
    fn what_is_no_json_says_where() {
        assert_eq!(read("{\"ä\": 1,\n \"b\" 2}").unwrap_err(), "no colon after a key at line 2 column 6");
        for bad in ["", " ", "<html>", "[1,]", "{\"a\":1,}", "[1 2]", "{} {}", "nul", "{a:1}", "# c\n1", "b\"x\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(json(" {\"a\": 1, \"b\": [], \"a\": 2} "), "{\"a\":2,\"b\":[]}");
    }

    proptest! {
        #[test]
        fn a_run_ends_at_the_first_special_byte(text in proptest::collection::vec(prop_oneof![9 => Just(b'a'), 1 => any::<u8>()], 0..70)) {
            prop_assert_eq!(plain_run(&text), text.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)));
        }

        #[test]
        fn never_panics(text in "[\\[\\]{}:,\"\\\\ut0-9eE.+NaInfty -]{0,80}", any in "\\PC{0,60}") {
            let _ = read(&text);
            let _ = read(&any);
        }

        #[test]
        fn agrees_with_serde_json(value in arb_json()) {
            let text = value.to_string();
            prop_assert_eq!(to_value(&read(&text).unwrap().value), value);
        }
    }

    fn arb_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec(("\\PC{0,4}", inner), 0..5).prop_map(|kv| Value::Object(kv.into_iter().collect())),
            ]
        })
    }
}
