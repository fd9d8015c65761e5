//! What makes two addresses the same, and which server an address belongs to.

use std::fmt;
use std::sync::Arc;
use url::{Position, Url};

/// Scheme, host and port (`https://example.com`, `http://127.0.0.1:8080`): the unit of politeness, of robots.txt, of the
/// circuit breaker and of connections. Limits and holds go by [`HostKey::host`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostKey(Arc<str>);

impl HostKey {
    /// The host key of an http or https address.
    #[must_use]
    pub fn of(url: &Url) -> Self {
        if matches!(url.scheme(), "http" | "https") {
            // The origin's own parts as the address holds them: scheme, host, and the port where it is not the scheme's.
            let (whole, host) = (&url[..Position::BeforeUsername], &url[Position::BeforeHost..Position::BeforePath]);
            if whole.len() + host.len() == url[..Position::BeforePath].len() {
                return Self(url[..Position::BeforePath].into());
            }
        }
        Self(url.origin().ascii_serialization().into())
    }

    /// From the text that [`HostKey::as_str`] gave.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// `scheme://host[:port]`, the port only where it is not the scheme's own.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host name or address alone, IPv6 in brackets: http and https, all ports, are one server here.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or(&*self.0, |(_, r)| r);
        match rest.rfind(':') {
            Some(i) if !rest.ends_with(']') => &rest[..i],
            _ => rest,
        }
    }

    /// Host with its port where one is written, for messages.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&*self.0, |(_, r)| r)
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a request for dedup: 128 bits of blake3 over method, canonical URL, body and templated headers.
/// Strangers choose the addresses, so the hash has to resist collisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FetchKey(pub [u8; 16]);

impl FetchKey {
    /// `extra` is the rendered body and the templated headers, empty for a plain GET.
    #[must_use]
    pub fn new(method: &str, canonical: &str, extra: &[u8]) -> Self {
        let mut h = blake3::Hasher::new();
        h.update(method.as_bytes());
        h.update(b"\n");
        h.update(canonical.as_bytes());
        if !extra.is_empty() {
            h.update(b"\n");
            h.update(extra);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&h.finalize().as_bytes()[..16]);
        Self(key)
    }
}

/// The canonical form of an address, for comparing only and never sent: WHATWG form without fragment and default port,
/// percent-escapes in upper case, escaped unreserved octets decoded (RFC 3986 6.2.2). Letter case of the path, a final
/// slash, parameter order and `?` alone stay distinct.
#[must_use]
pub fn canonical(url: &Url) -> String {
    let whole = url.as_str();
    let whole = url.fragment().map_or(whole, |f| &whole[..whole.len() - f.len() - 1]);
    if !whole.contains('%') {
        return whole.to_owned();
    }
    let bytes = whole.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' && i + 2 < bytes.len() && bytes[i + 1].is_ascii_hexdigit() && bytes[i + 2].is_ascii_hexdigit() {
            let hex = |b: u8| if b.is_ascii_digit() { b - b'0' } else { (b | 0x20) - b'a' + 10 };
            let octet = hex(bytes[i + 1]) << 4 | hex(bytes[i + 2]);
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
                out.push(octet);
            } else {
                out.extend([b'%', bytes[i + 1].to_ascii_uppercase(), bytes[i + 2].to_ascii_uppercase()]);
            }
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| whole.to_owned())
}

/// Why an address is refused, and the address where it is not.
pub type LinkUrl = Result<Url, String>;

/// Reads an address as listed: trims white space, NBSP, ZWSP, BOM and `<…>` around it, wants http or https and a host.
///
/// # Errors
/// A lowercase sentence that says what is wrong and, where there is one, the cure.
pub fn normalise(listed: &str) -> LinkUrl {
    let text = listed.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{a0}' | '\u{200b}' | '\u{feff}'));
    let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text).trim();
    if text.is_empty() {
        return Err("the address is empty".into());
    }
    let plain = text.is_ascii() && !text.bytes().any(|b| b.is_ascii_control());
    if !plain
        && let Some(c) = text.chars().find(|c| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
        })
    {
        return Err(format!("the address holds the invisible character U+{:04X}", u32::from(c)));
    }
    let begins = |scheme: &[u8]| text.as_bytes().get(..scheme.len()).is_some_and(|b| b.eq_ignore_ascii_case(scheme));
    if !(begins(b"http:") || begins(b"https:")) {
        let scheme = text.split_once(':').map(|(s, _)| s);
        return Err(match scheme {
            Some(s)
                if !s.is_empty()
                    && !s.contains(['.', '/', ' ', '@'])
                    && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'-')
                    && s != "localhost" =>
            {
                format!("the scheme {s:?} is not http or https")
            }
            _ => "the address has no scheme: where the list holds bare names, set [input] url = \"https://{{url}}\"".into(),
        });
    }
    let after = &text[text.find(':').map_or(0, |i| i + 1)..];
    if !after.starts_with("//") || after[2..].starts_with('/') || after.len() == 2 {
        return Err("the address has no host".into());
    }
    let url = Url::parse(text).map_err(|e| format!("the address cannot be read: {e}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the address has no host".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(s: &str) -> Url {
        Url::parse(s).unwrap()
    }

    #[test]
    fn canonical_changes_escapes_and_nothing_else() {
        assert_eq!(canonical(&url("HTTP://EX.com:80/%c3%7E/a%2fb/?b=%e4+1&a=&a#frag")), "http://ex.com/%C3~/a%2Fb/?b=%E4+1&a=&a");
        assert_ne!(canonical(&url("http://h/q?")), canonical(&url("http://h/q")));
        assert_eq!(canonical(&url("http://h/%zz%")), "http://h/%zz%");
        assert_eq!(canonical(&url("http://h/x%4")), "http://h/x%4");
        assert_eq!(canonical(&url("http://h/x%41")), "http://h/xA");
    }

    #[test]
    fn host_key_tells_scheme_and_port_apart_and_host_does_not() {
        let (a, b) = (HostKey::of(&url("http://h:8080/x")), HostKey::of(&url("https://h/")));
        assert_eq!((a.as_str(), b.as_str()), ("http://h:8080", "https://h"));
        assert_eq!((a.host(), b.host()), ("h", "h"));
        assert_eq!(HostKey::of(&url("http://[::1]:9/")).host(), "[::1]");
        assert_eq!(HostKey::of(&url("http://[::1]/")).host(), "[::1]");
    }

    #[test]
    fn a_host_key_is_the_origin() {
        for text in [
            "http://h/",
            "http://h:80/",
            "https://h:80",
            "https://u:p@h:8443/a@b",
            "http://u@h/",
            "http://:p@h/",
            "http://@h/",
            "http://[::1]:9/?q",
            "http://0x7f.1/a",
            "http://MÜNCHEN.de./",
            "http://h?a/b@c",
            "ftp://h/",
            "file:///a",
            "data:x",
            "ws://h:81/",
        ] {
            let url = url(text);
            assert_eq!(HostKey::of(&url).as_str(), url.origin().ascii_serialization(), "{text}");
        }
    }

    #[test]
    fn listed_addresses_are_trimmed_and_refused_with_the_cure() {
        assert_eq!(normalise(" \u{a0}<https://h/a b> \u{feff}").unwrap().as_str(), "https://h/a%20b");
        for bad in [
            "",
            "not a url",
            "ftp://127.0.0.1/x",
            "http://",
            "javascript:alert(1)",
            "//127.0.0.1/x",
            "http://[::1",
            "mailto:a@b.c",
            "http://127.0.0.1:99999/",
            "file:///etc/passwd",
            "http:///x",
            "http:/x",
            "https://h/a\u{200b}b",
        ] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
        assert!(normalise("example.com/x").unwrap_err().contains("https://{{url}}"));
        assert!(normalise("example.com:8080/x").unwrap_err().contains("https://{{url}}"));
        assert!(normalise("http://h/\u{202e}x").unwrap_err().contains("U+202E"));
    }
}
