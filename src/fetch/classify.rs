//! A client's error to what happened: by the types in its chain of causes (`reference.md` A.4), by text only where a type is private
//! (hyper-util's connect, tunnel and SOCKS errors).

use super::dns::DnsFailure;
use crate::model::{Reason, Sent, printable};
use std::error::Error;
use std::io;
use std::net::SocketAddr;

/// What an attempt knows about its way when it breaks.
pub(super) struct Way<'a> {
    /// `host:port`, for messages.
    pub(super) target: &'a str,
    /// Host and port of the proxy, and its name alone.
    pub(super) proxy: Option<(&'a str, &'a str)>,
    pub(super) https: bool,
    /// TCP stands and the TLS handshake was under way.
    pub(super) in_tls: bool,
    /// A connection through the proxy was made lately: a time-out is then the target's.
    pub(super) proxy_works: bool,
}

/// What the chain of causes holds.
#[derive(Default)]
struct Causes<'a> {
    dns: Option<&'a DnsFailure>,
    tls: Option<&'a rustls::Error>,
    hyper: Option<&'a hyper::Error>,
    h2: Option<&'a h2::Error>,
    /// The innermost.
    io: Option<&'a io::Error>,
    /// What hyper-util's proxy connectors say.
    proxy: Option<String>,
    /// The address whose connection failed.
    dialled: Option<SocketAddr>,
    /// The innermost error's text.
    last: String,
}

impl<'a> Causes<'a> {
    fn of(err: &'a (dyn Error + 'static)) -> Self {
        let mut causes = Self::default();
        causes.walk(err, 0);
        causes
    }

    fn walk(&mut self, err: &'a (dyn Error + 'static), depth: usize) {
        if depth > 16 {
            return;
        }
        if let Some(e) = err.downcast_ref::<DnsFailure>() {
            self.dns = Some(e);
        } else if let Some(e) = err.downcast_ref::<rustls::Error>() {
            self.tls = Some(e);
        } else if let Some(e) = err.downcast_ref::<hyper::Error>() {
            self.hyper = self.hyper.or(Some(e));
        } else if let Some(e) = err.downcast_ref::<h2::Error>() {
            self.h2 = Some(e);
            if let Some(io) = e.get_io() {
                self.walk(io, depth + 1);
            }
        } else if let Some(e) = err.downcast_ref::<io::Error>() {
            self.io = Some(e);
            // an io::Error's source is the source of what it wraps, not that itself
            if let Some(inner) = e.get_ref() {
                self.last = e.to_string();
                return self.walk(inner, depth + 1);
            }
        }
        let text = err.to_string();
        if text.starts_with("tunnel error: ") || text.starts_with("SOCKS error: ") {
            self.proxy = Some(text.clone());
        }
        if text == CONNECT_ERROR {
            self.dialled = dialled(&format!("{err:?}"));
        }
        self.last = text;
        if let Some(source) = err.source() {
            self.walk(source, depth + 1);
        }
    }

    /// The innermost cause in words.
    fn why(&self) -> String {
        let text = self.tls.map_or_else(|| self.last.clone(), ToString::to_string);
        let mut text = printable(text.split(" (os error").next().unwrap_or_default());
        if let Some(first) = text.get_mut(0..1) {
            first.make_ascii_lowercase();
        }
        text
    }
}

/// hyper-util's `ConnectError`, whose type is private; its `Debug` names the address, its `Display` does not.
const CONNECT_ERROR: &str = "tcp connect error";

/// The address in `ConnectError("tcp connect error", 127.0.0.1:80, Os { … })`.
fn dialled(debug: &str) -> Option<SocketAddr> {
    debug.split_once(", ")?.1.split(", ").next()?.parse().ok()
}

/// Whether an error is a shortage on this machine: files, buffers or memory.
pub(super) fn is_shortage(e: &io::Error) -> bool {
    use rustix::io::Errno;
    e.raw_os_error().is_some_and(|n| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&Errno::from_raw_os_error(n)))
}

/// The same of a connection that did not come about. There are no more ports where an IPv4 address gives EADDRNOTAVAIL; an IPv6 one
/// gives it for ever on a machine without IPv6.
fn is_connect_shortage(e: &io::Error, dialled: Option<SocketAddr>) -> bool {
    is_shortage(e) || (e.kind() == io::ErrorKind::AddrNotAvailable && dialled.is_some_and(|a| a.is_ipv4()))
}

/// Why `send` failed.
pub(super) fn send_failure(err: &reqwest::Error, way: &Way<'_>) -> (Reason, String, Sent) {
    let causes = Causes::of(err);
    let target = printable(way.target);
    if err.is_builder() {
        return (Reason::BadInput, format!("{target}: the address has no form that can be sent"), Sent::No);
    }
    if err.is_connect() {
        let (reason, message) = connect_failure(err, &causes, way, &target);
        return (reason, message, Sent::No);
    }
    let say = |what: &str| format!("{target}: {what}");
    if let Some(h2) = causes.h2 {
        let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        let gone = h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
        if refused || gone {
            let what = if refused { "the server refused the stream" } else { "the server closed the connection before this request" };
            return (Reason::ConnClosed, say(what), Sent::No);
        }
        if !h2.is_io() {
            let what = format!("http/2: {}", causes.why());
            let reason = if h2.is_remote() { Reason::ConnReset } else { Reason::ProtocolError };
            return (reason, say(&what), Sent::Maybe);
        }
    }
    if let Some(tls) = causes.tls {
        let reason = if matches!(tls, rustls::Error::InvalidCertificate(_)) { Reason::TlsCert } else { Reason::TlsHandshake };
        return (reason, say(&causes.why()), Sent::Maybe);
    }
    if let Some(hyper) = causes.hyper {
        if hyper.is_canceled() {
            return (Reason::ConnClosed, say("the connection closed before the request was written"), Sent::No);
        }
        if hyper.is_incomplete_message() {
            return (Reason::ConnClosed, say("connection closed before the answer's head was complete"), Sent::Maybe);
        }
        if hyper.is_parse() {
            return (Reason::ProtocolError, say(&format!("the answer is no http: {}", causes.why())), Sent::Maybe);
        }
    }
    if let Some(io) = causes.io {
        use io::ErrorKind as K;
        let reason = match io.kind() {
            _ if is_shortage(io) => Reason::LocalResource,
            K::UnexpectedEof => Reason::ConnClosed,
            K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => Reason::NetUnreachable,
            K::InvalidData | K::InvalidInput => Reason::ProtocolError,
            // BrokenPipe: written into a connection whose other end had closed it; TimedOut: acknowledgements stopped
            _ => Reason::ConnReset,
        };
        return (reason, say(&causes.why()), Sent::Maybe);
    }
    let closed = causes.hyper.is_some_and(hyper::Error::is_closed);
    (if closed { Reason::ConnClosed } else { Reason::ProtocolError }, say(&causes.why()), Sent::Maybe)
}

/// Why no connection came about: always unsent.
fn connect_failure(err: &reqwest::Error, causes: &Causes<'_>, way: &Way<'_>, target: &str) -> (Reason, String) {
    let say = |what: &str| format!("{target}: {what}");
    if let Some(io) = causes.io.filter(|io| is_connect_shortage(io, causes.dialled)) {
        return (Reason::LocalResource, say(&printable(&io.to_string()).to_lowercase()));
    }
    if let Some(dns) = causes.dns.filter(|d| d.reason == Reason::LocalResource) {
        return (Reason::LocalResource, dns.message.clone());
    }
    if let Some((proxy, proxy_host)) = way.proxy {
        let via = |what: &str| format!("proxy {}: {what}", printable(proxy));
        if let Some(dns) = causes.dns {
            return if dns.host.trim_end_matches('.').eq_ignore_ascii_case(proxy_host.trim_end_matches('.')) {
                (Reason::ProxyUnreachable, via(&dns.message))
            } else {
                (dns.reason.clone(), dns.message.clone())
            };
        }
        if let Some(text) = &causes.proxy {
            let text = text.trim_start_matches("tunnel error: ").trim_start_matches("SOCKS error: ");
            return match text {
                "proxy authorization required" | "credentials not accepted" | "server does not support user/pass authentication" => {
                    (Reason::ProxyAuth, via(text))
                }
                "failed to create underlying connection" => (Reason::ProxyUnreachable, via(&causes.why())),
                _ if text.starts_with("io error") => (Reason::ProxyUnreachable, via(&causes.why())),
                "unsuccessful" => (Reason::ProxyRefused, via(&format!("refused to open the way to {target}"))),
                _ => (Reason::ProxyRefused, via(&format!("{text}, on the way to {target}"))),
            };
        }
        if err.is_timeout() {
            let what = if way.in_tls {
                format!("connected, but the TLS handshake on the way to {target} stalled")
            } else {
                format!("no connection to {target} in time")
            };
            return (if way.proxy_works { Reason::ConnectTimeout } else { Reason::ProxyUnreachable }, via(&what));
        }
        if !(way.https && causes.tls.is_some()) {
            return (Reason::ProxyUnreachable, via(&causes.why()));
        }
    }
    if let Some(dns) = causes.dns {
        return (dns.reason.clone(), dns.message.clone());
    }
    if let Some(tls) = causes.tls {
        let reason = if matches!(tls, rustls::Error::InvalidCertificate(_)) { Reason::TlsCert } else { Reason::TlsHandshake };
        return (reason, say(&causes.why()));
    }
    if err.is_timeout() {
        let what = if way.in_tls { "connected, but the TLS handshake stalled" } else { "no connection in time" };
        return (Reason::ConnectTimeout, say(what));
    }
    if let Some(io) = causes.io {
        use io::ErrorKind as K;
        return match io.kind() {
            K::ConnectionRefused => (Reason::ConnectRefused, say("connection refused")),
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => (Reason::ConnReset, say("connection reset while it was set up")),
            K::UnexpectedEof => (Reason::ConnClosed, say("connection closed while it was set up")),
            K::InvalidData | K::InvalidInput => (Reason::TlsHandshake, say(&causes.why())),
            _ => (Reason::NetUnreachable, say(&causes.why())),
        };
    }
    (if way.https { Reason::TlsHandshake } else { Reason::ProtocolError }, say(&causes.why()))
}

/// Why the body broke.
pub(super) fn body_failure(err: &reqwest::Error) -> (Reason, String) {
    let causes = Causes::of(err);
    let why = causes.why();
    if let Some(io) = causes.io.filter(|_| causes.h2.is_none()) {
        use io::ErrorKind as K;
        return match io.kind() {
            // hyper tells a bad chunk as InvalidInput or InvalidData; TLS errors are InvalidData too
            K::InvalidInput | K::InvalidData if causes.tls.is_none() => (Reason::ProtocolError, format!("broken framing: {why}")),
            _ => (Reason::BodyTruncated, format!("body cut: {why}")),
        };
    }
    if causes.h2.is_some_and(|e| e.is_library() && !e.is_io()) {
        return (Reason::ProtocolError, format!("broken framing: {why}"));
    }
    if causes.hyper.is_some_and(hyper::Error::is_parse) {
        return (Reason::ProtocolError, format!("broken framing: {why}"));
    }
    (Reason::BodyTruncated, format!("body cut: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_available_is_a_shortage_of_ports_for_ipv4_alone() {
        let (v4, v6) = ("127.0.0.1:80".parse().ok(), "[::1]:80".parse().ok());
        let short = |number, dialled| is_connect_shortage(&io::Error::from_raw_os_error(number), dialled);
        assert_eq!([v4, v6, None].map(|a| short(99, a)), [true, false, false]);
        assert_eq!([v4, v6, None].map(|a| short(24, a)), [true; 3], "files are short whatever is dialled");
        assert_eq!([v4, v6, None].map(|a| short(111, a)), [false; 3]);
    }

    #[tokio::test]
    async fn the_address_dialled_is_read_off_the_clients_error() {
        let tls = crate::fetch::client::tls(None).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        let e = client.get(format!("http://{closed}/")).send().await.unwrap_err();
        assert_eq!(Causes::of(&e).dialled, Some(closed), "{e:?}");
    }
}
