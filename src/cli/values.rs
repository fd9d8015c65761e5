//! What single flags take: each is read here, so that a wrong one is told before anything starts.

use crate::model::{parse_duration, parse_rate};

/// `NAME=SPEC`.
pub(crate) fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, spec)) if !name.trim().is_empty() && !spec.trim().is_empty() => Ok((name.trim().to_owned(), spec.trim().to_owned())),
        _ => Err(format!("{text:?} is not NAME=SPEC, like \"title=css:h1\" or \"id=json:.id\"")),
    }
}

/// `Name: value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() && name.chars().all(token) => {
            if value.contains(['\r', '\n', '\0']) {
                return Err(format!("the value of header {name:?} holds a line break or NUL"));
            }
            Ok((name.to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!("{text:?} is no header: write it like \"Accept: application/json\"")),
    }
}

/// `KEY=VALUE` for any key of the job file; a whole section may be `off`, a list of tables replaced.
pub(crate) fn set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE, like \"limits.workers=8\"")),
    }
}

/// A rate that parses, as it was written.
pub(crate) fn rate(text: &str) -> Result<String, String> {
    parse_rate(text).map(|_| text.to_owned())
}

/// A duration that parses, as it was written.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_what_stands_behind_their_first_mark() {
        assert_eq!(field("a=css:b[c=d]").unwrap(), ("a".into(), "css:b[c=d]".into()));
        assert_eq!(header("X-A:  b: c ").unwrap(), ("X-A".into(), "b: c".into()));
        assert_eq!(set("limits.rate=1/2s").unwrap(), ("limits.rate".into(), "1/2s".into()));
        assert_eq!(set("limit=[{ a = 1 }]").unwrap(), ("limit".into(), "[{ a = 1 }]".into()));
        for bad in ["no", "a b: c", ": x", "X: a\r\nB: c"] {
            assert!(header(bad).is_err(), "{bad}");
        }
        assert!(field("=x").is_err() && field("x=").is_err() && set("=1").is_err() && set("x").is_err());
    }
}
