//! Where a redirect leads.

use http::HeaderMap;
use std::fmt::Write as _;
use url::Url;

/// What becomes of the method when a redirect is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The same method, the same body.
    Keep,
    /// GET, without body and its headers (`Content-Type`, `Content-Length`).
    Get,
}

/// The address that `Location` names, read against `base`, the address of the hop that answered: blanks and tabs around and within
/// are trimmed, bytes above 127 percent-encoded, resolved by WHATWG, the fragment dropped.
///
/// # Errors
/// A lowercase sentence where it is missing, empty, unreadable or not http(s).
pub fn redirect_target(headers: &HeaderMap, base: &Url) -> Result<Url, String> {
    let Some(raw) = headers.get("location") else {
        return Err("the redirect has no Location".into());
    };
    let mut text = String::with_capacity(raw.len());
    for &b in raw.as_bytes() {
        if b.is_ascii() {
            text.push(char::from(b));
        } else {
            let _ = write!(text, "%{b:02X}");
        }
    }
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() {
        return Err("the redirect's Location is empty".into());
    }
    let mut to = base.join(text).map_err(|e| format!("the redirect's Location cannot be read: {e}"))?;
    if !matches!(to.scheme(), "http" | "https") {
        return Err(format!("the redirect leads to the scheme {:?}", to.scheme()));
    }
    to.set_fragment(None);
    Ok(to)
}

/// How a redirect status treats the method: 301 and 302 turn POST into GET, 303 everything but GET and HEAD (Fetch standard,
/// HTTP-redirect fetch, step 12); 307 and 308 keep it. `None` for statuses that are not followed.
#[must_use]
pub(super) fn follow(status: u16, method: &http::Method) -> Option<Follow> {
    let get = match status {
        301 | 302 => method == http::Method::POST,
        303 => method != http::Method::GET && method != http::Method::HEAD,
        307 | 308 => false,
        _ => return None,
    };
    Some(if get { Follow::Get } else { Follow::Keep })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method};

    fn to(location: &[u8]) -> Result<String, String> {
        let mut h = HeaderMap::new();
        h.insert("location", HeaderValue::from_bytes(location).unwrap());
        redirect_target(&h, &Url::parse("https://h/a/b?q#f").unwrap()).map(String::from)
    }

    #[test]
    fn locations_resolve_against_the_hop() {
        for (location, want) in [
            ("c", "https://h/a/c"),
            ("/c#frag", "https://h/c"),
            (" \t/c d\t ", "https://h/c%20d"),
            ("//x/y", "https://x/y"),
            ("?z", "https://h/a/b?z"),
            ("http://X:80/%c3", "http://x/%c3"),
            ("http:/\\e/p", "http://e/p"),
        ] {
            assert_eq!(to(location.as_bytes()).as_deref(), Ok(want), "{location}");
        }
        assert_eq!(to("/ü?ü".as_bytes()).as_deref(), Ok("https://h/%C3%BC?%C3%BC"));
        assert_eq!(to(b"/\xfc").as_deref(), Ok("https://h/%FC"));
    }

    #[test]
    fn a_location_that_cannot_be_followed_is_an_error() {
        for location in ["", "  ", "ftp://h/", "javascript:alert(1)", "mailto:a@b", "data:,x", "http://[::1", "file:///etc/passwd"] {
            assert!(to(location.as_bytes()).is_err(), "{location}");
        }
        assert!(redirect_target(&HeaderMap::new(), &Url::parse("http://h/").unwrap()).unwrap_err().contains("no Location"));
    }

    #[test]
    fn post_becomes_get_where_browsers_do_so() {
        for (status, method, want) in [
            (301, Method::POST, Some(Follow::Get)),
            (302, Method::POST, Some(Follow::Get)),
            (303, Method::POST, Some(Follow::Get)),
            (303, Method::PUT, Some(Follow::Get)),
            (303, Method::HEAD, Some(Follow::Keep)),
            (301, Method::PUT, Some(Follow::Keep)),
            (307, Method::POST, Some(Follow::Keep)),
            (308, Method::POST, Some(Follow::Keep)),
            (300, Method::GET, None),
            (304, Method::GET, None),
            (305, Method::GET, None),
        ] {
            assert_eq!(follow(status, &method), want, "{status} {method}");
        }
    }
}
