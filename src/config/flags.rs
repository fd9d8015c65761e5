//! What the command line says: settings by key, and the switches for tests and odd networks.

use super::errors::Origin;
use super::leaf::nearest;
use super::tree::{Node, Value, parse_typed};
use crate::model::plan::NetworkPlan;
use std::net::{IpAddr, SocketAddr};

/// Settings that win over every other layer. Their values may be secrets, so `Debug` leaves them out.
#[derive(Clone, Default)]
pub struct Overrides {
    layers: Vec<Node>,
    /// `--allow-net`, `--resolve`, `--dns-server`: no job file has them. `allow` here is unused.
    pub network: NetworkPlan,
}

impl std::fmt::Debug for Overrides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overrides").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Overrides {
    /// A value as typed: TOML where it reads as one value of TOML, else text. `key` is dotted (`limits.workers`), `flag`
    /// is its name for messages (`--workers`).
    pub fn set(&mut self, key: &str, value: &str, flag: &str) {
        self.push(&key.split('.').collect::<Vec<_>>(), parse_typed(value, &Origin::Flag(flag.to_owned())));
    }

    /// A text that is never read as TOML: paths, addresses.
    pub fn set_text(&mut self, key: &str, value: &str, flag: &str) {
        self.push(&key.split('.').collect::<Vec<_>>(), Node::text(Origin::Flag(flag.to_owned()), value));
    }

    /// A list of texts.
    pub fn set_list(&mut self, key: &str, values: impl IntoIterator<Item = impl Into<String>>, flag: &str) {
        let origin = Origin::Flag(flag.to_owned());
        let items = values.into_iter().map(|v| Node::text(origin.clone(), v)).collect();
        self.push(&key.split('.').collect::<Vec<_>>(), Node::new(origin, Value::List(items)));
    }

    /// One entry of a table whose names are the job's own: `set_pair("request.headers", "Accept", "text/html", "--header")`.
    /// Repeats; the same name twice is an error when the job is loaded.
    pub fn set_pair(&mut self, table: &str, name: &str, value: &str, flag: &str) {
        let path: Vec<&str> = table.split('.').chain([name]).collect();
        self.push(&path, Node::text(Origin::Flag(flag.to_owned()), value));
    }

    fn push(&mut self, path: &[&str], node: Node) {
        let mut layer = Node::table(node.at.clone());
        layer.put(path, node);
        self.layers.push(layer);
    }

    pub(super) fn layers(&self) -> &[Node] {
        &self.layers
    }
}

/// The layers of `GLEANER_SECTION__KEY` variables, by name. Names without a section that gleaner knows are not settings.
pub(super) fn environment<'a>(
    variables: impl IntoIterator<Item = (&'a String, &'a String)>,
    is_section: impl Fn(&str) -> bool,
) -> Vec<Node> {
    let mut layers = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix("GLEANER_") else { continue };
        let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        if path.len() < 2 || !is_section(&path[0]) {
            continue;
        }
        if path[0] == "request" && path[1] == "headers" {
            path.iter_mut().skip(2).for_each(|name| *name = name.replace('_', "-"));
        }
        let origin = Origin::Env(name.clone());
        let mut layer = Node::table(origin.clone());
        layer.put(&path.iter().map(String::as_str).collect::<Vec<_>>(), parse_typed(value, &origin));
        layers.push(layer);
    }
    layers
}

/// A warning for each `GLEANER_…` variable that is no setting and no secret of the job (`used`), with the nearest setting.
pub(super) fn strangers<'a>(
    names: impl IntoIterator<Item = &'a String>,
    is_section: impl Fn(&str) -> bool,
    known: &[String],
    used: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut out = Vec::new();
    for name in names {
        let Some(rest) = name.strip_prefix("GLEANER_").map(str::to_lowercase) else { continue };
        let setting = rest.split_once("__").is_some_and(|(section, _)| is_section(section));
        // Those of gleaner's own test suite.
        if setting || used(name) || rest.starts_with("test_") {
            continue;
        }
        let near = nearest(&rest, known.iter().map(String::as_str));
        let cure = near.map_or_else(|| "write GLEANER_SECTION__KEY".into(), |n| format!("did you mean GLEANER_{}?", n.to_uppercase()));
        out.push(format!("the environment variable {name} is no setting; {cure}"));
    }
    out
}

/// Reads `--allow-net`: `10.0.0.0/8`, `fd00::/8`, or one address.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_allow_net(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr =
        bare(address).parse().map_err(|_| format!("{text:?} is no network: write it like \"10.0.0.0/8\" or \"fd00::/8\""))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(l) => l.parse().ok().filter(|l| *l <= most).ok_or_else(|| format!("{text:?}: a prefix length goes from 0 to {most}"))?,
    };
    Ok((address, length))
}

/// Reads `--resolve`: `HOST:PORT:IP`. HOST may be `*` (every host); an IPv6 address stands in brackets or bare at the end.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_resolve(text: &str) -> Result<(String, u16, IpAddr), String> {
    let bad = |what: &str| format!("{text:?} {what}: write HOST:PORT:IP, like \"example.com:443:127.0.0.1\"");
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:").ok_or_else(|| bad("has no port"))?,
        None => text.split_once(':').ok_or_else(|| bad("has no port"))?,
    };
    let (port, address) = rest.split_once(':').ok_or_else(|| bad("has no address"))?;
    if host.trim_end_matches('.').is_empty() {
        return Err(bad("has no host"));
    }
    let port = port.parse().ok().filter(|p| *p > 0).ok_or_else(|| bad("has no port from 1 to 65535"))?;
    let address = bare(address).parse().map_err(|_| bad("has no IP address"))?;
    Ok((host.trim_end_matches('.').to_ascii_lowercase(), port, address))
}

/// Reads `--dns-server`: `IP:PORT`, an IPv6 address in brackets.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let like = match bare(text).parse() {
        Ok(ip @ IpAddr::V4(_)) => format!("\"{ip}:53\""),
        Ok(ip @ IpAddr::V6(_)) => format!("\"[{ip}]:53\""),
        Err(_) => "\"127.0.0.1:53\" or \"[::1]:53\"".into(),
    };
    let server: SocketAddr = text.parse().map_err(|_| format!("{text:?} is no DNS server: write IP:PORT, like {like}"))?;
    if server.port() == 0 { Err(format!("{text:?} has no port from 1 to 65535")) } else { Ok(server) }
}

fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address)
}
