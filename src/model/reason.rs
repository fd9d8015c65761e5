//! The stable codes of a skipped record. `docs/outcomes.md` is the list for people; a test holds the two together.

use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// What kind of trouble an outcome is, which decides whether it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// May pass by itself: tried again with backoff, charged.
    Transient,
    /// The server asks for less: the key is held, no attempt is charged.
    Throttled,
    /// The server refuses this client; not tried again.
    Blocked,
    /// Will not change; not tried again.
    Permanent,
    /// A shortage on this machine or of its network; not charged.
    Local,
    /// The input record itself is wrong or repeated.
    Input,
}

impl Class {
    /// The kebab-case word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Blocked => "blocked",
            Self::Permanent => "permanent",
            Self::Local => "local",
            Self::Input => "input",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident = $code:literal, $class:ident, $what:literal, $advice:literal;)*) => {
        /// Why an entry gave no result: a stable kebab-case code.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $what] $variant,)*
            /// A status that is no result and has no code of its own: `http-<number>`.
            Http(u16),
            /// A code that the job's own rule gave.
            Rule(String),
        }

        /// Every fixed reason: code, class, what happened, what to do.
        pub const REASONS: &[ReasonDoc] = &[$(ReasonDoc { code: $code, class: Class::$class, what: $what, advice: $advice },)*];

        impl Reason {
            /// The code.
            #[must_use]
            pub fn code(&self) -> Cow<'static, str> {
                match self {
                    $(Self::$variant => Cow::Borrowed($code),)*
                    Self::Http(n) => Cow::Owned(format!("http-{n}")),
                    Self::Rule(code) => Cow::Owned(code.clone()),
                }
            }

            /// The class that the code has by itself; for statuses the table of `retry` decides.
            #[must_use]
            pub fn class(&self) -> Class {
                match self {
                    $(Self::$variant => Class::$class,)*
                    Self::Http(429) => Class::Throttled,
                    Self::Http(408 | 421 | 425 | 500 | 502..=504 | 520..=524 | 529 | 598 | 599) => Class::Transient,
                    Self::Http(n) if *n >= 600 => Class::Blocked,
                    Self::Http(_) | Self::Rule(_) => Class::Permanent,
                }
            }

            /// Reads a code back.
            #[must_use]
            pub fn from_code(code: &str) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => match code.strip_prefix("http-").and_then(|n| n.parse().ok()) {
                        Some(n) => Self::Http(n),
                        None => Self::Rule(code.to_owned()),
                    },
                }
            }
        }
    };
}

/// What a person may want to know about a reason.
#[derive(Clone, Copy, Debug)]
pub struct ReasonDoc {
    /// Kebab-case code.
    pub code: &'static str,
    /// Retry class.
    pub class: Class,
    /// What happened, one sentence without its stop.
    pub what: &'static str,
    /// What to do about it, one sentence without its stop.
    pub advice: &'static str,
}

reasons! {
    BadInput = "bad-input", Input, "the input record has no address that can be asked for", "mend the line that the message names, or the template";
    Duplicate = "duplicate", Input, "the address was listed before; `first_row` names where", "set [input] duplicates = \"fetch\" to ask for each";
    AuthRequired = "auth-required", Permanent, "the server wants credentials (401)", "set [auth] for this host";
    Forbidden = "forbidden", Blocked, "the server refuses this client (403)", "ask for an API key, or set user_agent to a contact that the site knows";
    ProxyAuth = "proxy-auth", Permanent, "the proxy wants credentials (407)", "put them into the proxy's address";
    ProxyUnreachable = "proxy-unreachable", Local, "the proxy does not answer", "check [request] proxy and the http_proxy variables";
    ProxyRefused = "proxy-refused", Transient, "the proxy refused to open the way", "ask the proxy's log why";
    WafChallenge = "waf-challenge", Blocked, "a bot-protection page came instead of the content", "use the site's API, or ask for access; slower and honest helps, disguise does not";
    ConnectRefused = "connect-refused", Transient, "nothing listens at that address and port", "check the port, and whether the server is up";
    ConnectTimeout = "connect-timeout", Transient, "no connection within the time-out", "check the address and the firewall, or raise timeout.connect";
    NetUnreachable = "net-unreachable", Transient, "no route to that address", "check the network and its routes";
    LocalResource = "local-resource", Local, "this machine ran out of files, ports or buffers", "raise `ulimit -n` or lower [limits] workers";
    DnsNxdomain = "dns-nxdomain", Permanent, "the name does not exist", "check its spelling";
    DnsNodata = "dns-nodata", Permanent, "the name exists and has no address", "check whether the host moved";
    DnsServfail = "dns-servfail", Transient, "the name server failed to answer for this name", "try later, or another server with --dns-server";
    DnsTimeout = "dns-timeout", Transient, "no name server answered in time", "check the resolver, or try --dns-server";
    TlsCert = "tls-cert", Permanent, "the server's certificate is not to be trusted", "check the host; for a private authority set [request] tls.ca_file";
    TlsHandshake = "tls-handshake", Permanent, "no TLS connection could be agreed on", "check that the port speaks TLS 1.2 or newer";
    ConnClosed = "conn-closed", Transient, "the server closed the connection before it answered", "lower per_host or workers";
    ConnReset = "conn-reset", Transient, "the server reset the connection", "lower per_host or workers";
    ProtocolError = "protocol-error", Permanent, "the answer is no valid HTTP", "look at it with `curl -v`";
    FirstByteTimeout = "first-byte-timeout", Transient, "no answer began within the time-out", "raise timeout.first_byte or lower per_host";
    BodyTruncated = "body-truncated", Transient, "the body ended before its declared end", "try later; the server or a proxy cuts answers";
    BodyTimeout = "body-timeout", Transient, "the body stalled or passed the total time", "raise timeout.idle or timeout.total";
    SlowBody = "slow-body", Transient, "the body came below the minimum rate", "try later";
    DecodeError = "decode-error", Permanent, "the content coding is broken", "look at it with `curl --compressed -v`";
    TooLarge = "too-large", Permanent, "the body passes the size limit", "raise [request] max_body";
    TooDeep = "too-deep", Permanent, "the page is nested deeper than 512 elements", "it may be hostile; leave it out";
    ParseTimeout = "parse-timeout", Permanent, "the page took too long to parse", "it may be hostile; leave it out";
    TooManyRedirects = "too-many-redirects", Permanent, "more redirects than allowed", "raise [request] redirects, or mend the address";
    RedirectLoop = "redirect-loop", Permanent, "the redirects lead in a circle", "the site may want cookies, or the address is wrong";
    RedirectInvalid = "redirect-invalid", Permanent, "a redirect without an address that can be followed", "look at its Location header";
    RobotsDisallowed = "robots-disallowed", Permanent, "robots.txt forbids this address", "if it is your site or you have leave, set robots = \"ignore\"";
    BlockedAddress = "blocked-address", Permanent, "the address leads into a private network", "list the host itself, or name the range with --allow-net";
    OutOfScope = "out-of-scope", Permanent, "a redirect leads out of the crawl's scope", "widen [crawl] scope or include";
    HostUnreachable = "host-unreachable", Transient, "the host stayed out of reach until host_give_up", "check the host and its robots.txt, or raise [retry] host_give_up";
    MaybeSent = "maybe-sent", Permanent, "a request that must not be repeated broke after it was sent, or the run was stopped meanwhile", "check at the server; set idempotent = true where repeating is safe";
    BadJson = "bad-json", Permanent, "the answer is no JSON", "check the address and its Accept header";
    RowsMissing = "rows-missing", Permanent, "the rows filter gave no array", "check [extract] rows against the answer";
    MissingField = "missing-field", Permanent, "a required field is empty", "check [extract] fields against the page";
    InternalError = "internal-error", Permanent, "gleaner failed on this entry", "please report it with the address";
}

impl Reason {
    /// The reason of a status that is no result (contract, *Reasons*).
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::AuthRequired,
            403 => Self::Forbidden,
            407 => Self::ProxyAuth,
            n => Self::Http(n),
        }
    }

    /// One sentence of advice, without its stop.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Http(429) => "lower [limits] rate to what the server allows",
            Self::Http(404 | 410) => "the page is gone; check where the list came from",
            Self::Http(500..=599) => "the server failed each time; try later",
            Self::Http(200..=299) => "a [[response]] rule of the job says so, or [request] accept leaves it out",
            Self::Http(300..=399) => "add the status to [request] accept if it is a result for you",
            Self::Http(_) => "check the request against the site's documentation",
            Self::Rule(_) => "a [[response]] rule of the job says so",
            other => {
                let code = other.code();
                REASONS.iter().find(|d| d.code == code).map_or("", |d| d.advice)
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_as_themselves() {
        for doc in REASONS {
            let r = Reason::from_code(doc.code);
            assert_eq!((r.code().as_ref(), r.class()), (doc.code, doc.class));
            assert!(doc.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", doc.code);
            assert!(!r.advice().is_empty());
        }
        assert_eq!(Reason::from_code("http-404"), Reason::Http(404));
        assert_eq!(Reason::of_status(403), Reason::Forbidden);
    }
}
