//! What kind of document a body is, by its Content-Type, and by a look at it where there is none.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Kinds of documents, as far as extraction tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `text/html`, `application/xhtml+xml`, or no type and looks like it: links are followed.
    Html,
    /// XML, or text that begins like HTML: selectors work, links are not followed.
    Markup,
    /// JSON by its type, or by a look where the type says nothing.
    Json,
    /// All else.
    Text,
}

impl Media {
    /// Whether selectors have something to read.
    pub(super) fn has_markup(self) -> bool {
        matches!(self, Self::Html | Self::Markup)
    }
}

/// The kind of a body and the charset that its header names.
pub(super) fn of<'h>(headers: &'h HeaderMap, body: &[u8]) -> (Media, Option<&'h str>) {
    let value = headers.get(CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or(""));
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    (kind(&essence.trim().to_ascii_lowercase(), body), charset(parameters))
}

/// The `charset` of a Content-Type's parameters, unquoted; the first counts (RFC 9110 8.3.2).
fn charset(parameters: &str) -> Option<&str> {
    parameters.split([';', ',']).find_map(|p| {
        let (name, value) = p.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then_some(value)
    })
}

fn kind(essence: &str, body: &[u8]) -> Media {
    let subtype = essence.split_once('/').map_or("", |(_, s)| s);
    match essence {
        "text/html" | "application/xhtml+xml" => Media::Html,
        // No type at all, or a word that stands for none (WHATWG MIME Sniffing 7).
        "" | "unknown/unknown" | "application/unknown" | "*/*" => match look(body) {
            Look::Html => Media::Html,
            Look::Xml => Media::Markup,
            Look::Json => Media::Json,
            Look::Other => Media::Text,
        },
        _ if subtype == "json" || subtype.ends_with("+json") || subtype.ends_with("-json") || essence == "text/javascript" => Media::Json,
        _ if subtype == "xml" || subtype.ends_with("+xml") => Media::Markup,
        _ => match look(body) {
            Look::Html | Look::Xml => Media::Markup,
            Look::Json => Media::Json,
            Look::Other => Media::Text,
        },
    }
}

enum Look {
    Html,
    Xml,
    Json,
    Other,
}

/// WHATWG MIME Sniffing 7.1, tags that begin HTML.
fn look(body: &[u8]) -> Look {
    const TAGS: [&str; 17] = [
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
        "<meta",
    ];
    let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if start.starts_with(b"<!--") {
        return Look::Html;
    }
    let tag = |t: &&str| {
        start.len() > t.len()
            && start[..t.len()].eq_ignore_ascii_case(t.as_bytes())
            && matches!(start[t.len()], b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n' | 0x0c)
    };
    match start {
        _ if TAGS.iter().any(tag) => Look::Html,
        [b'<', b'?', ..] => Look::Xml,
        [b'{' | b'[', ..] | [0, b'{' | b'[', ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Look::Json,
        _ => Look::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_type(t: Option<&str>, body: &str) -> Media {
        let mut h = HeaderMap::new();
        if let Some(t) = t {
            h.insert(CONTENT_TYPE, t.parse().unwrap());
        }
        of(&h, body.as_bytes()).0
    }

    #[test]
    fn html_is_by_type_or_by_look_and_never_plain_text() {
        assert_eq!(of_type(Some("Text/HTML; charset=x"), "{}"), Media::Html);
        assert_eq!(of_type(Some("application/xhtml+xml"), ""), Media::Html);
        assert_eq!(of_type(None, "\u{feff}\n <!DOCTYPE HTML >"), Media::Html);
        assert_eq!(of_type(None, "<article>"), Media::Text);
        assert_eq!(of_type(Some("text/plain"), "<html>"), Media::Markup);
        assert_eq!(of_type(Some("application/rss+xml"), "<rss>"), Media::Markup);
        assert_eq!(of_type(Some("application/vnd.api+json"), ""), Media::Json);
        assert_eq!(of_type(Some("text/plain"), " [1]"), Media::Json);
        assert_eq!(of_type(Some("image/png"), "x"), Media::Text);
    }

    #[test]
    fn charset_is_read_quoted_and_in_any_case() {
        for (p, want) in [
            ("charset=utf-8", Some("utf-8")),
            (" a=b; CharSet = \"x\"", Some("x")),
            ("charset=", None),
            ("", None),
            ("charset=;charset=b", Some("b")),
        ] {
            assert_eq!(charset(p), want, "{p}");
        }
    }
}
