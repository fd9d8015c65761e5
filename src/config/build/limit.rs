//! `[[limit]]`: more limits, by method, host and path.

use super::limits::{burst_below, left, methods};
use super::{Builder, line_of};
use crate::config::leaf::{Count, Name, OrOff, Set};
use crate::config::raw;
use crate::config::tree::{Node, Value};
use crate::model::plan::{LimitKeyKind, LimitPlan};
use crate::model::{HostGlob, Rate, path_glob};
use std::net::Ipv6Addr;
use url::Host;

/// What the first table of a name alone may have.
const OF_THE_FIRST: [&str; 4] = ["rate", "key", "burst", "concurrency"];

/// Puts what a table leaves out into the tree, so that it is shown.
pub(super) fn defaults(tree: &mut Node) {
    let mut names: Vec<String> = Vec::new();
    for table in tree.items_mut("limit") {
        table.default("weight", Value::Int(1));
        let name = table.get("name").and_then(Node::as_text).unwrap_or_default().to_owned();
        if name.is_empty() || !names.contains(&name) {
            table.default("key", Value::Text("host".into()));
            names.push(name);
        }
    }
}

/// `reserve` is that of `[limits]`: what it leaves of a rate has to let the heaviest request through.
pub(super) fn more(b: &mut Builder<'_>, tables: Vec<raw::Limit>, reserve: f64) -> Vec<LimitPlan> {
    let mut limits: Vec<LimitPlan> = Vec::with_capacity(tables.len());
    for (i, raw) in tables.into_iter().enumerate() {
        let at = format!("limit[{i}]");
        let name = b.take(&format!("{at}.name"), raw.name).map_or_else(String::new, |Name(name)| name);
        if b.context.tree.get(&format!("{at}.name")).is_none() {
            b.lacks(&at, "has no name: set name = \"…\", by which it is shown");
        }
        let methods = methods(b, &format!("{at}.match.method"), raw.matching.method);
        if b.context.tree.get(&format!("{at}.match.method")).is_some_and(|node| matches!(&node.value, Value::List(l) if l.is_empty())) {
            b.error(&format!("{at}.match.method"), "is an empty list: leave it out for every method");
        }
        let host =
            b.take(&format!("{at}.match.host"), raw.matching.host).and_then(|text| host_pattern(b, &format!("{at}.match.host"), &text));
        let path =
            b.take(&format!("{at}.match.path"), raw.matching.path).and_then(|text| path_pattern(b, &format!("{at}.match.path"), &text));
        let rates = b.take(&format!("{at}.rate"), raw.rate).and_then(OrOff::on).map_or_else(Vec::new, |r| r.0);
        let key = b.take(&format!("{at}.key"), raw.key);
        let burst = small(b, &format!("{at}.burst"), raw.burst);
        let concurrency = small(b, &format!("{at}.concurrency"), raw.concurrency);
        let weight = b.take(&format!("{at}.weight"), raw.weight).and_then(|c| u32::try_from(c.0).ok()).unwrap_or(1);

        let first = limits.iter().position(|l| l.name == name && !name.is_empty());
        if let Some(first) = first {
            only_the_first(b, &at, first, &name);
        } else {
            if rates.is_empty() && concurrency.is_none() {
                b.lacks(&at, "limits nothing: set rate = \"30/minute\" or concurrency = 4");
            } else if rates.is_empty() && burst.is_some() && !b.is_wrong(&format!("{at}.rate")) {
                b.error(&format!("{at}.burst"), "is how many of a rate go at once, and there is no rate");
            }
            burst_below(b, &format!("{at}.burst"), burst, &rates);
        }
        let quota = first.map_or(rates.as_slice(), |first| limits[first].rates.as_slice());
        if !b.is_wrong(&format!("limit[{}].rate", first.unwrap_or(i))) {
            fits(b, &format!("{at}.weight"), weight, quota, reserve);
        }
        limits.push(match first {
            // The key of the whole limit, so that each of its tables says the same.
            Some(first) => {
                LimitPlan { name, methods, host, path, rates: Vec::new(), key: limits[first].key, burst: None, weight, concurrency: None }
            }
            None => LimitPlan { name, methods, host, path, rates, key: key.unwrap_or(LimitKeyKind::Host), burst, weight, concurrency },
        });
    }
    limits
}

fn small<const MAX: u64>(b: &mut Builder<'_>, key: &str, raw: Set<OrOff<Count<1, MAX>>>) -> Option<u32> {
    b.take(key, raw).and_then(OrOff::on).and_then(|c| u32::try_from(c.0).ok())
}

fn only_the_first(b: &mut Builder<'_>, at: &str, first: usize, name: &str) {
    let place = line_of(&b.origin(&format!("limit[{first}]"))).unwrap_or_else(|| format!("limit[{first}]"));
    for key in OF_THE_FIRST.map(|key| format!("{at}.{key}")) {
        if b.context.tree.is_set(&key) {
            b.error(&key, format!("belongs to the first [[limit]] named {name:?}, at {place}: the others say what matches and its weight"));
        }
    }
}

/// A request that weighs more than a window holds would wait for ever.
fn fits(b: &mut Builder<'_>, key: &str, weight: u32, rates: &[Rate], reserve: f64) {
    let Some(rate) = rates.iter().min_by_key(|r| r.count) else {
        if weight > 1 {
            b.error(key, "is what a request takes of a rate, and there is no rate");
        }
        return;
    };
    if weight > rate.count {
        b.error(key, format!("{weight} is more than the rate {rate} lets through: at most {}", rate.count));
    } else if left(rate, reserve) < f64::from(weight) {
        b.error(key, format!("{weight} is more than [limits] reserve leaves of the rate {rate}"));
    }
}

/// Whether a glob reads more in it than itself.
fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '{', '}', '[', ']', '\\'])
}

/// A host name, or a glob over one, as [`HostGlob`] reads it: in lower case and, by label, as DNS writes it.
pub(super) fn host_pattern(b: &mut Builder<'_>, key: &str, text: &str) -> Option<String> {
    let found = host_text(text).and_then(|host| HostGlob::parse(&host).map(|_| host));
    found.map_err(|message| b.error(key, message)).ok()
}

fn host_text(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("is empty: write a host name like \"api.example.com\" or \"*.example.org\"".into());
    }
    if name.contains('/') {
        return Err(format!("{text:?} is more than a host name: leave scheme and path out"));
    }
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name).parse::<Ipv6Addr>();
    if let Ok(address) = address {
        return Ok(Host::<String>::Ipv6(address).to_string());
    }
    if name.contains(':') {
        return Err(format!("{text:?} has a port: a server is one by its host name, whatever the port"));
    }
    let parse = |name: &str| Host::parse(name).map(|host| host.to_string()).map_err(|e| format!("{text:?} is no host name: {e}"));
    if !is_glob(name) {
        return parse(name);
    }
    let label = |label: &str| match (label.is_ascii(), is_glob(label)) {
        (true, _) => Ok(label.to_ascii_lowercase()),
        (false, false) => parse(label),
        (false, true) => Err(format!("{label:?} is half a glob and half a name that DNS writes in another way: write it as xn--…")),
    };
    name.split('.').map(label).collect::<Result<Vec<_>, _>>().map(|labels| labels.join("."))
}

fn path_pattern(b: &mut Builder<'_>, key: &str, text: &str) -> Option<String> {
    if text.is_empty() {
        b.error(key, "is empty: leave it out for every path");
    } else if text.starts_with(|c: char| c.is_alphanumeric() || c == '.') {
        b.error(key, format!("{text:?} matches no path: a path begins with `/`, like \"/search/**\""));
    } else {
        match path_glob(text) {
            Ok(_) => return Some(text.to_owned()),
            Err(message) => b.error(key, message),
        }
    }
    None
}
