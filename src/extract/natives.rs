//! The functions of jq filters beyond jaq's own core: regular expressions, escapes, `fromjson`.
//!
//! jaq-std gives its own only together with the clock, the environment and a log, which a filter over strangers' data must
//! not have; and its `fromjson` recurses without end. Names of definitions that would need those are left out, so that
//! using one is an error when the job is read.

use super::json;
use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Cv, Error, RunPtr, ValR};
use jaq_json::{Map, Val};
use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;

pub(super) type Data = JustLut<Val>;

/// Definitions that call what is not there: debugging output, mathematics beyond rounding, dates.
const LEFT_OUT: &[&str] = &[
    "stderr",
    "debug",
    "halt",
    "halt_error",
    "logb",
    "significand",
    "pow10",
    "drem",
    "nexttoward",
    "scalb",
    "gamma",
    "todate",
    "fromdate",
];

/// Compiled size of a regular expression.
pub(super) const REGEX_SIZE: usize = 1 << 20;

pub(super) fn defs() -> impl Iterator<Item = Def<&'static str>> {
    jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).filter(|d| !LEFT_OUT.contains(&d.name))
}

pub(super) fn funs() -> impl Iterator<Item = Fun<Data>> {
    let theirs = jaq_core::funs::<Data>().chain(jaq_std::base_funs::<Data>()).chain(jaq_json::funs::<Data>());
    theirs.filter(|(name, _, _)| *name != "fromjson" && *name != "halt").chain(own())
}

fn own() -> impl Iterator<Item = Fun<Data>> {
    let list: [jaq_core::native::Filter<RunPtr<Data>>; 10] = [
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("matches", v(2), |cv| bome(matches(cv, false, true))),
        ("split_matches", v(2), |cv| bome(matches(cv, true, true))),
        ("split_", v(2), |cv| bome(matches(cv, true, false))),
        ("escape_html", v(0), |cv| bome(text(&cv.1).map(|s| string(escape_html(&s))))),
        ("unescape_html", v(0), |cv| bome(text(&cv.1).map(|s| string(unescape_html(&s))))),
        ("encode_uri", v(0), |cv| bome(text(&cv.1).map(|s| string(super::percent::encode(&s))))),
        ("decode_uri", v(0), |cv| bome(text(&cv.1).map(|s| string(super::percent::decode(&s))))),
        ("encode_base64", v(0), |cv| bome(text(&cv.1).map(|s| string(base64(s.as_bytes()))))),
        ("decode_base64", v(0), |cv| {
            bome(text(&cv.1).and_then(|s| unbase64(&s).map(Val::utf8_str).ok_or_else(|| Error::str("the text is no base64"))))
        }),
    ];
    list.into_iter().map(run::<Data>)
}

fn string(s: String) -> Val {
    Val::utf8_str(s)
}

fn text(val: &Val) -> Result<String, Error<Val>> {
    match val {
        Val::TStr(s) | Val::BStr(s) => Ok(String::from_utf8_lossy(s).into_owned()),
        other => Err(Error::typ(other.clone(), "string")),
    }
}

fn from_json(val: &Val) -> ValR<Val> {
    json::read(&text(val)?).map(|d| d.value).map_err(|e| Error::str(format_args!("fromjson: {e}")))
}

fn escape_html(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn unescape_html(s: &str) -> String {
    s.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&apos;", "'").replace("&quot;", "\"").replace("&amp;", "&")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = ALPHABET[(n >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// RFC 4648 4, line ends and padding left aside, as APIs wrap it.
fn unbase64(s: &str) -> Option<Vec<u8>> {
    let (mut out, mut n, mut bits) = (Vec::with_capacity(s.len() / 4 * 3), 0u32, 0);
    for b in s.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        n = (n << 6 | u32::from(digit)) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((n >> bits & 0xff) as u8);
        }
    }
    Some(out)
}

/// jaq's `matches`, `split_matches` and `split_`: mismatched stretches as text, matches as arrays of capture objects.
fn matches(mut cv: Cv<'_, Data>, mismatches: bool, captures: bool) -> ValR<Val> {
    let flags = text(&cv.0.pop_var())?;
    let pattern = text(&cv.0.pop_var())?;
    let subject = text(&cv.1)?;
    let regex = cached(&pattern, &flags).map_err(|e| Error::str(format_args!("{e}")))?;
    let (mut out, mut last, mut bytes, mut chars) = (Vec::new(), 0, 0, 0);
    // Offsets are in characters; matches come in order, so that each stretch is counted once.
    for found in regex.captures_iter(&subject) {
        let Some(whole) = found.get(0) else { continue };
        if flags.contains('n') && whole.is_empty() {
            continue;
        }
        if mismatches {
            out.push(string(subject[last..whole.start()].to_owned()));
        }
        last = whole.end();
        if captures {
            let mut parts = Vec::new();
            for (group, name) in found.iter().zip(regex.capture_names()) {
                let Some(m) = group else { continue };
                if m.start() >= bytes {
                    chars += subject[bytes..m.start()].chars().count();
                    bytes = m.start();
                }
                let offset = if m.start() == bytes { chars } else { chars - subject[m.start()..bytes].chars().count() };
                let mut map = Map::default();
                map.insert(string("offset".into()), Val::from(offset));
                map.insert(string("length".into()), Val::from(m.as_str().chars().count()));
                map.insert(string("string".into()), string(m.as_str().to_owned()));
                if let Some(name) = name {
                    map.insert(string("name".into()), string(name.to_owned()));
                }
                parts.push(Val::obj(map));
            }
            out.push(parts.into_iter().collect());
        }
        if !flags.contains('g') {
            break;
        }
    }
    if mismatches {
        out.push(string(subject[last..].to_owned()));
    }
    Ok(out.into_iter().collect())
}

thread_local! {
    static COMPILED: RefCell<HashMap<(String, String), Regex>> = RefCell::default();
}

/// The regular expression, compiled once a thread; 64 of them are kept.
fn cached(pattern: &str, flags: &str) -> Result<Regex, String> {
    let key = (pattern.to_owned(), flags.to_owned());
    if let Some(regex) = COMPILED.with_borrow(|c| c.get(&key).cloned()) {
        return Ok(regex);
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(REGEX_SIZE);
    for flag in flags.chars() {
        match flag {
            'g' | 'n' => {}
            'i' => _ = builder.case_insensitive(true),
            'm' => _ = builder.multi_line(true),
            's' => _ = builder.dot_matches_new_line(true),
            'l' => _ = builder.swap_greed(true),
            'x' => _ = builder.ignore_whitespace(true),
            'p' => _ = builder.multi_line(true).dot_matches_new_line(true),
            other => return Err(format!("invalid regex flag: {other}")),
        }
    }
    let regex = builder.build().map_err(|e| format!("invalid regex: {e}"))?;
    COMPILED.with_borrow_mut(|c| {
        if c.len() >= 64 {
            c.clear();
        }
        c.insert(key, regex.clone());
    });
    Ok(regex)
}
