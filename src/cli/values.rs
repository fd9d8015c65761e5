//! What single flags take: each is read here, so that a wrong one is told before anything starts.

use crate::model::{parse_duration, parse_rate};
use std::net::{IpAddr, SocketAddr};

/// `HOST:PORT:IP`; `*` is every host, IPv6 addresses may stand in brackets.
pub(crate) fn resolve(text: &str) -> Result<(String, u16, IpAddr), String> {
    let bad = || format!("{text:?} is not HOST:PORT:IP, like \"example.com:443:127.0.0.1\" or \"*:80:[::1]\"");
    let (host, rest) = text.split_once(':').ok_or_else(bad)?;
    let (port, ip) = rest.split_once(':').ok_or_else(bad)?;
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() {
        return Err(bad());
    }
    let port = port.parse().map_err(|_| bad())?;
    Ok((host, port, unbracketed(ip).parse().map_err(|_| bad())?))
}

/// `IP:PORT`; the port is 53 where it is left out.
pub(crate) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let whole = text.parse::<SocketAddr>();
    whole
        .or_else(|_| unbracketed(text).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
        .map_err(|_| format!("{text:?} is no address of a name server: write IP:PORT, like \"9.9.9.9:53\" or \"[2620:fe::fe]:53\""))
}

/// `10.0.0.0/8`, `fd00::/8`, or one address.
pub(crate) fn allow_net(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("{text:?} is no network: write it like \"10.0.0.0/8\", \"fd00::/8\" or \"127.0.0.1\"");
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, Some(length.parse::<u8>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let ip: IpAddr = unbracketed(ip).parse().map_err(|_| bad())?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(whole);
    if length <= whole { Ok((ip, length)) } else { Err(bad()) }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text)
}

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

/// `KEY=VALUE` for any key of the job file.
pub(crate) fn set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.trim().to_owned())),
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
    fn network_flags_read_both_families_and_refuse_the_rest() {
        assert_eq!(resolve("Ex.com.:443:127.0.0.1").unwrap(), ("ex.com".into(), 443, "127.0.0.1".parse().unwrap()));
        assert_eq!(resolve("*:80:[::1]").unwrap(), ("*".into(), 80, "::1".parse().unwrap()));
        assert_eq!(resolve("h:80:::1").unwrap().2, "::1".parse::<IpAddr>().unwrap());
        for bad in ["", "h", "h:80", ":80:1.1.1.1", "h:99999:1.1.1.1", "h:80:name"] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
        assert_eq!(dns_server("9.9.9.9:5353").unwrap().port(), 5353);
        assert_eq!(dns_server("9.9.9.9").unwrap().port(), 53);
        assert_eq!(dns_server("[::1]:54").unwrap().port(), 54);
        assert!(dns_server("name:53").is_err());
        assert_eq!(allow_net("10.0.0.0/8").unwrap().1, 8);
        assert_eq!(allow_net("::1").unwrap().1, 128);
        assert!(allow_net("10.0.0.0/33").is_err() && allow_net("x/8").is_err());
    }

    #[test]
    fn pairs_keep_what_stands_behind_their_first_mark() {
        assert_eq!(field("a=css:b[c=d]").unwrap(), ("a".into(), "css:b[c=d]".into()));
        assert_eq!(header("X-A:  b: c ").unwrap(), ("X-A".into(), "b: c".into()));
        assert_eq!(set("limits.rate=1/2s").unwrap(), ("limits.rate".into(), "1/2s".into()));
        for bad in ["no", "a b: c", ": x", "X: a\r\nB: c"] {
            assert!(header(bad).is_err(), "{bad}");
        }
        assert!(field("=x").is_err() && field("x=").is_err() && set("x=1").is_err());
    }
}
