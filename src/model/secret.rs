//! Secrets that mask themselves, and text made safe for a terminal.

use std::fmt;

/// A value of `${env:…}` or of `[auth]`: it never shows itself, in no output, log or state file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the wire only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Query keys whose values look like secrets, compared without case.
const SECRET_KEYS: &[&str] = &[
    "key",
    "api_key",
    "apikey",
    "api-key",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth",
    "sig",
    "signature",
    "secret",
    "client_secret",
    "password",
    "passwd",
    "pwd",
    "session",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "code",
];

/// An address with its userinfo and the values of secret-looking query keys replaced by `***`, for terminal and logs.
///
/// Files keep the address whole: what the operator listed is data (contract, *Secrets*).
#[must_use]
pub fn mask_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (head, rest) = match text.find("://") {
        Some(i) => text.split_at(i + 3),
        None => ("", text),
    };
    out.push_str(head);
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let rest = match rest[..authority].rfind('@') {
        Some(at) if !head.is_empty() => {
            out.push_str("***");
            &rest[at..]
        }
        _ => rest,
    };
    let Some(q) = rest.find('?') else {
        out.push_str(rest);
        return out;
    };
    let (before, query) = rest.split_at(q + 1);
    out.push_str(before);
    let (query, fragment) = match query.find('#') {
        Some(i) => query.split_at(i),
        None => (query, ""),
    };
    for (i, pair) in query.split('&').enumerate() {
        if i > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((k, v)) if !v.is_empty() && SECRET_KEYS.iter().any(|s| s.eq_ignore_ascii_case(k)) => {
                out.push_str(k);
                out.push_str("=***");
            }
            _ => out.push_str(pair),
        }
    }
    out.push_str(fragment);
    out
}

/// `text` without control, bidirectional-override and other characters that could drive a terminal: each becomes `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_and_secret_keys_are_masked_and_nothing_else() {
        assert_eq!(mask_url("https://u:p@h/a?b=1&API_KEY=zz&c=#f"), "https://***@h/a?b=1&API_KEY=***&c=#f");
        assert_eq!(mask_url("https://h/a@b?x=a@b"), "https://h/a@b?x=a@b");
        assert_eq!(mask_url("not a url"), "not a url");
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let s = Secret::new("canary");
        assert_eq!(format!("{s} {s:?}"), "*** ***");
    }

    #[test]
    fn terminal_escapes_become_text() {
        assert_eq!(printable("a\x1b]0;x\x07\u{202e}b"), "a\\u{1b}]0;x\\u{7}\\u{202e}b");
    }
}
