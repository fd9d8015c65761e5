//! `[[host]]`: what differs for some hosts.

use super::limit::host_pattern;
use super::limits::{burst_below, left};
use super::request::{headers, proxy, user_agent};
use super::{Builder, line_of};
use crate::config::leaf::{Name, OrOff, Robots, Set, Span, Wait};
use crate::config::raw;
use crate::config::tree::Node;
use crate::model::Rate;
use crate::model::plan::{HostPlan, LimitsPlan, RetryPlan};
use std::time::Duration;

/// What the tables say, with what they leave to `[limits]` and `[retry]` checked against those.
pub(super) fn hosts(b: &mut Builder<'_>, tables: Vec<raw::Host>, limits: &LimitsPlan, retry: &RetryPlan) -> Vec<HostPlan> {
    let mut hosts: Vec<HostPlan> = Vec::with_capacity(tables.len());
    for (i, raw) in tables.into_iter().enumerate() {
        let at = format!("host[{i}]");
        let key = |name: &str| format!("{at}.{name}");
        let pattern = pattern(b, &at, raw.matching, &hosts);
        let table = b.context.tree.get(&at).map(Node::entries).unwrap_or_default();
        if table.iter().all(|(name, _)| name == "match") {
            b.lacks(&at, "changes nothing: say what differs for these hosts, like delay = \"1s\"");
        }
        let rates = b.take(&key("rate"), raw.rate).map(|rates| OrOff::on(rates).map_or_else(Vec::new, |r| r.0));
        let burst = b.take(&key("burst"), raw.burst).and_then(|c| u32::try_from(c.0).ok());
        rated(b, &at, rates.as_deref(), burst, limits);
        let pairs = b.take(&key("headers"), raw.headers).map_or_else(Vec::new, |p| p.0);
        let timeout = raw.timeout;
        let mut time = |name: &str, set| b.take(&format!("{at}.timeout.{name}"), set).map(|Wait(d)| d);
        let timeouts = [
            time("connect", timeout.connect),
            time("first_byte", timeout.first_byte),
            time("idle", timeout.idle),
            time("total", timeout.total),
        ];
        let (backoff, max_backoff) = backoff(b, &at, (raw.retry.backoff, raw.retry.max_backoff), retry);
        hosts.push(HostPlan {
            pattern,
            rates,
            burst,
            per_host: b.take(&key("per_host"), raw.per_host).and_then(|c| usize::try_from(c.0).ok()),
            delay: b.take(&key("delay"), raw.delay).map(|d| d.0),
            group: b.take(&key("group"), raw.group).map(|Name(name)| name),
            headers: headers(b, &key("headers"), pairs),
            user_agent: user_agent(b, &key("user_agent"), raw.user_agent),
            proxy: b.context.tree.get(&key("proxy")).is_some().then(|| proxy(b, &key("proxy"), raw.proxy)),
            robots: b.take(&key("robots"), raw.robots).map(|robots| robots == Robots::Obey),
            attempts: b.take(&key("retry.attempts"), raw.retry.attempts).and_then(|c| u32::try_from(c.0).ok()),
            backoff,
            max_backoff,
            timeouts,
        });
    }
    hosts
}

/// Two tables of one pattern would leave open which of them counts.
fn pattern(b: &mut Builder<'_>, at: &str, raw: Set<String>, before: &[HostPlan]) -> String {
    let key = format!("{at}.match");
    if b.context.tree.get(&key).is_none() {
        b.lacks(at, "does not say which hosts: set match = \"api.example.com\" or \"*.example.org\"");
    }
    let Some(pattern) = b.take(&key, raw).and_then(|text| host_pattern(b, &key, &text)) else { return String::new() };
    if let Some(first) = before.iter().position(|host| host.pattern == pattern) {
        let first = format!("host[{first}]");
        let place = line_of(&b.origin(&first)).unwrap_or(first);
        b.error(&key, format!("{pattern:?} stands at {place} already: say all of it in one table"));
    }
    pattern
}

fn rated(b: &mut Builder<'_>, at: &str, own: Option<&[Rate]>, burst: Option<u32>, limits: &LimitsPlan) {
    let rates = own.unwrap_or(&limits.rates);
    let (rate_key, burst_key) = (format!("{at}.rate"), format!("{at}.burst"));
    if b.is_wrong(&rate_key) || b.is_wrong(&burst_key) {
        return;
    }
    if burst.is_some() && rates.is_empty() {
        b.error(&burst_key, "is how many of a rate go at once, and there is no rate");
    }
    burst_below(b, &burst_key, burst, rates);
    let Some(least) = own.and_then(|own| own.iter().min_by_key(|r| r.count)) else { return };
    if let Some(general) = limits.burst.filter(|general| burst.is_none() && *general >= least.count) {
        b.error(&rate_key, format!("{least} is no more than the burst of [limits], {general}: set burst here too, below the rate's count"));
    }
    if left(least, limits.reserve) < 1.0 && limits.reserve < 1.0 {
        b.error(&rate_key, format!("[limits] reserve leaves less than one request of the rate {least}"));
    }
}

/// What the table leaves out is that of `[retry]`.
fn backoff(b: &mut Builder<'_>, at: &str, raw: (Set<Span>, Set<Span>), general: &RetryPlan) -> (Option<Duration>, Option<Duration>) {
    let (first_key, most_key) = (format!("{at}.retry.backoff"), format!("{at}.retry.max_backoff"));
    let first = b.take(&first_key, raw.0).map(|d| d.0);
    let most = b.take(&most_key, raw.1).map(|d| d.0);
    let wrong = first.unwrap_or(general.backoff) > most.unwrap_or(general.max_backoff);
    if (first.is_some() || most.is_some()) && wrong && !b.is_wrong(&first_key) && !b.is_wrong(&most_key) {
        let message = match (first, most) {
            (Some(_), None) => "backoff is longer than the max_backoff of [retry]",
            (None, _) => "the backoff of [retry] is longer than this max_backoff",
            _ => "backoff is longer than max_backoff",
        };
        b.error(if first.is_some() { &first_key } else { &most_key }, message);
    }
    (first, most)
}
