//! `Link` headers (RFC 8288 3): the address of `rel=next`.

use http::HeaderMap;
use http::header::LINK;

/// The target of the first link whose `rel` holds `wanted`, over every header line, as written. A link with an `anchor` is
/// about another page and left aside (RFC 8288 3.2).
pub(super) fn target(headers: &HeaderMap, wanted: &str) -> Option<String> {
    headers.get_all(LINK).iter().find_map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut links = Links { rest: &text };
        std::iter::from_fn(|| links.next_link())
            .find(|l| l.about_here && l.rel.split_ascii_whitespace().any(|r| r.eq_ignore_ascii_case(wanted)))
            .map(|l| l.target)
    })
}

struct Link {
    target: String,
    rel: String,
    about_here: bool,
}

struct Links<'t> {
    rest: &'t str,
}

impl Links<'_> {
    fn next_link(&mut self) -> Option<Link> {
        // What stands before `<` is no link; it is passed over.
        self.rest = &self.rest[self.rest.find('<')? + 1..];
        let (target, rest) = self.rest.split_once('>')?;
        self.rest = rest;
        let mut link = Link { target: target.trim().to_owned(), rel: String::new(), about_here: true };
        let mut rel = None;
        while let Some((name, value)) = self.parameter() {
            if name.eq_ignore_ascii_case("rel") {
                // The first counts (RFC 8288 3.3).
                rel.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("anchor") && !value.is_empty() {
                link.about_here = false;
            }
        }
        link.rel = rel.unwrap_or_default();
        Some(link)
    }

    /// The next `; name=value`, unquoted; `None` at the comma before the next link, or at the end.
    fn parameter(&mut self) -> Option<(String, String)> {
        let rest = self.rest.trim_start_matches([' ', '\t']).strip_prefix(';')?.trim_start_matches([' ', '\t', ';']);
        let end = rest.find(['=', ';', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim().to_owned();
        let Some(value) = rest[end..].strip_prefix('=') else {
            self.rest = &rest[end..];
            return if name.is_empty() { None } else { Some((name, String::new())) };
        };
        let value = value.trim_start_matches([' ', '\t']);
        let Some(quoted) = value.strip_prefix('"') else {
            let end = value.find([';', ',']).unwrap_or(value.len());
            self.rest = &value[end..];
            return Some((name, value[..end].trim().to_owned()));
        };
        let (mut text, mut escaped) = (String::new(), false);
        for (i, c) in quoted.char_indices() {
            match c {
                c if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.rest = &quoted[i + 1..];
                    return Some((name, text));
                }
                c => text.push(c),
            }
        }
        self.rest = "";
        Some((name, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(LINK, http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        target(&headers, "next")
    }

    #[test]
    fn every_line_is_read_by_rfc_8288() {
        for (lines, want) in [
            (&["<a>; rel=\"next\""][..], Some("a")),
            (&["<a>; rel=prev, <b,c;d>;rel=NEXT"], Some("b,c;d")),
            (&["<a>; rel=first", "<b>; title=\"x, <no>; rel=next\"; rel=\"last next\""], Some("b")),
            (&["<a> ; Rel = \"next\" "], Some("a")),
            (&["< a >;rel='x';foo;rel=next"], None),
            (&["<a>; foo; bar=\"\\\"\"; rel=next"], Some("a")),
            (&["<a>; rel=next; rel=prev"], Some("a")),
            (&["<a>; rel=prev; rel=next"], None),
            (&["<a>; rel=\"next\"; anchor=\"#x\", <b>; rel=next"], Some("b")),
            (&["a; rel=next", "<b"], None),
            (&["<>; rel=next"], Some("")),
            (&["<a>; rel=nextpage, <b>; rel=\"http://x/ext next\""], Some("b")),
            (&[], None),
        ] {
            assert_eq!(next(lines).as_deref(), want, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in "[<>;,=\" \\\\relnext]{0,60}") {
            let _ = next(&[&line]);
        }
    }
}
