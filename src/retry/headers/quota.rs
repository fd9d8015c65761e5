//! How much of a quota is left, in every dialect.

use super::structured::{Item, items, triples};
use super::values::{from_seconds, greatest, least, name, number, server_now, texts, value};
use crate::clock::Wall;
use http::HeaderMap;
use std::time::Duration;

/// Windows and resets beyond this (366 days) are no plausible ones and are left out: nobody is paced towards next year by a header.
pub const LONGEST_WINDOW: Duration = Duration::from_hours(366 * 24);

/// No more quotas than this are read off one answer; the rest is ignored.
pub const MOST_QUOTAS: usize = 32;

/// Counts above this are cut to it, so that sums of them stay exact in `f64`.
const MOST: f64 = 1e15;

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaUnit {
    /// Requests: ours to pace.
    Requests,
    /// Tokens, bytes, concurrent requests, entities: what one request costs is not known beforehand.
    Other,
}

/// One limit of a server and what is left of it, as an answer's headers tell.
///
/// A hint, no promise: it may only tighten a limit that the operator set. Several quotas of an answer may have the same resource (or
/// none); they differ in their windows then.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// What the quota belongs to, where the server names it: GitHub's resource, Discord's bucket, GitLab's limit by name, a policy of
    /// the IETF draft (with its partition key), Azure's resource. `None`: the key as a whole. Visible ASCII, 100 bytes at most; the
    /// server chooses it, so whoever keeps quotas by resource has to bound them.
    pub resource: Option<String>,
    /// The quota of a window, or the size of a bucket; never zero.
    pub limit: Option<u64>,
    /// What is left, never more than `limit`. Reddit tells fractions. Where the server tells a limit alone: that limit.
    pub remaining: f64,
    /// Time to the reset from the answer's arrival, at most [`LONGEST_WINDOW`]; epochs and dates are corrected by the server's own
    /// `Date`. Zero where it has passed or is less than a second off. `None` for buckets, and where it is not told.
    pub reset: Option<Duration>,
    /// Length of the window, where it is told; at most [`LONGEST_WINDOW`].
    pub window: Option<Duration>,
    /// What is counted.
    pub unit: QuotaUnit,
}

/// Every quota that an answer's headers tell of, in the dialects of GitHub, X, Reddit, Shopify, GitLab, Discord, OpenAI, Azure, Docker
/// Hub, Kong, and the IETF drafts 03 to 10.
///
/// `status` is the answer's: on a 429 what is said to be left is not trusted (GitLab and Discord send refusals with quota left), so
/// that only the quotas with nothing left are told. `wall` is our time at the answer's arrival.
///
/// Ignored: every quota of an answer from a cache (`Age` above 0; the draft, *Caching*), fields that are malformed, negative, no
/// numbers or not finite, resets and windows longer than [`LONGEST_WINDOW`], limits of 0 without a reset or
/// with something left (some servers mean "unlimited"), and what is beyond [`MOST_QUOTAS`]. Capped: what is left at the limit, counts at 10^15. Of several values of a plain
/// field the tightest counts: the least limit and remaining, the latest reset.
#[must_use]
pub fn quotas(status: u16, headers: &HeaderMap, wall: Wall) -> Vec<Quota> {
    if texts(headers, "age").any(|t| number(t).is_some_and(|age| age > 0.0)) {
        return Vec::new();
    }
    let mut out: Vec<Quota> = Vec::new();
    for quota in readings(headers, wall).into_iter().filter_map(Reading::quota) {
        let trusted = status != 429 || quota.remaining < 1.0;
        if trusted && !out.contains(&quota) {
            out.push(quota);
        }
    }
    out
}

/// What the fields of one limit say, before it is judged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) resource: Option<String>,
    limit: Option<f64>,
    remaining: Option<f64>,
    /// The most exact one; at most `LONGEST`.
    reset: Option<Duration>,
    /// The latest one that any field of the limit tells.
    pub(super) latest: Option<Duration>,
    window: Option<Duration>,
    unit: QuotaUnit,
    /// From `RateLimit` and `RateLimit-Policy`.
    pub(super) structured: bool,
}

impl Reading {
    const NOTHING: Self = Self {
        resource: None,
        limit: None,
        remaining: None,
        reset: None,
        latest: None,
        window: None,
        unit: QuotaUnit::Requests,
        structured: false,
    };

    /// Says that nothing is left.
    pub(super) fn spent(&self) -> bool {
        self.remaining.is_some_and(|n| n < 1.0)
    }

    fn at(self, reset: Option<Duration>) -> Self {
        Self { reset, latest: reset, ..self }
    }

    fn quota(self) -> Option<Quota> {
        let plausible = |d: &Duration| *d <= LONGEST_WINDOW;
        let reset = self.reset.filter(plausible);
        let window = self.window.filter(plausible).filter(|w| !w.is_zero());
        let limit = self.limit.map(|n| n.min(MOST).floor()).filter(|n| *n >= 1.0 || self.remaining.is_none_or(|left| left < 1.0));
        let remaining = match (self.remaining, limit) {
            (Some(left), Some(limit)) => left.min(limit),
            (Some(left), None) => left.min(MOST),
            (None, Some(limit)) if reset.is_some() || window.is_some() => limit,
            (None, _) => return None,
        };
        let none_at_all = limit.is_some_and(|n| n < 1.0);
        if none_at_all && reset.is_none() {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10^15, without a fraction")]
        let limit = limit.filter(|n| *n >= 1.0).map(|n| n as u64);
        Some(Quota { resource: self.resource, limit, remaining, reset, window, unit: self.unit })
    }
}

/// Everything that the headers say about limits, dialect by dialect; [`MOST_QUOTAS`] at most.
pub(super) fn readings(headers: &HeaderMap, wall: Wall) -> Vec<Reading> {
    let mut out = Vec::new();
    // Every field below has the word; most answers have none of them.
    if !headers.keys().any(|field| field.as_str().contains("limit")) {
        return out;
    }
    let now = server_now(headers, wall);
    x_ratelimit(headers, now, &mut out);
    x_rate_limit(headers, now, &mut out);
    ietf(headers, now, &mut out);
    by_suffix(headers, now, &mut out);
    azure(headers, &mut out);
    shopify(headers, &mut out);
    out.truncate(MOST_QUOTAS);
    out
}

/// `X-RateLimit-Limit`, `-Remaining`, `-Reset`: GitHub (`-Resource`), Discord (`-Bucket`, `-Reset-After`), Reddit (seconds to go), and
/// half the world.
fn x_ratelimit(headers: &HeaderMap, now: i64, out: &mut Vec<Reading>) {
    let after = latest(headers, "x-ratelimit-reset-after", |v| from_seconds(number(v)?));
    let reset = latest(headers, "x-ratelimit-reset", |v| value(v, now));
    let resource = ["x-ratelimit-resource", "x-ratelimit-bucket"].into_iter().flat_map(|f| texts(headers, f)).find_map(name);
    // The list form of the first IETF drafts under the older name, as WHOOP sends it.
    let limits = Limits::of(&items(headers, "x-ratelimit-limit"), least(headers, "x-ratelimit-limit"));
    let told = Reading {
        resource,
        limit: limits.limit,
        remaining: least(headers, "x-ratelimit-remaining"),
        reset: after.or(reset),
        latest: after.max(reset),
        window: limits.window,
        ..Reading::NOTHING
    };
    push(told, out);
    limits.others(out);
}

/// X (Twitter): a hyphen more.
fn x_rate_limit(headers: &HeaderMap, now: i64, out: &mut Vec<Reading>) {
    let told =
        Reading { limit: least(headers, "x-rate-limit-limit"), remaining: least(headers, "x-rate-limit-remaining"), ..Reading::NOTHING };
    push(told.at(latest(headers, "x-rate-limit-reset", |v| value(v, now))), out);
}

/// The fields of the IETF drafts and of those who use their names otherwise: GitLab (`-Reset` is an epoch, `-ResetTime`, `-Name`),
/// Docker Hub (`;w=` on both).
fn ietf(headers: &HeaderMap, now: i64, out: &mut Vec<Reading>) {
    let (numbered, policies): (Vec<Item>, Vec<Item>) = items(headers, "ratelimit-policy").into_iter().partition(|i| i.bare.is_some());
    let triples = triples(headers, "ratelimit");
    // Drafts 03 to 05 have the policies in `RateLimit-Limit`, 06 and 07 in `RateLimit-Policy`.
    let mut listed = items(headers, "ratelimit-limit");
    listed.extend(numbered);
    let plain = least(headers, "ratelimit-limit");
    let mut limits = Limits::of(&listed, plain.or(triples.first().and_then(|t| t.limit)));

    let reset = latest(headers, "ratelimit-reset", |v| value(v, now));
    let reset = reset.max(latest(headers, "ratelimit-resettime", |v| value(v, now)));
    let remaining = least(headers, "ratelimit-remaining");
    let limit = plain.and(limits.limit);
    let resource = texts(headers, "ratelimit-name").find_map(name);
    push(Reading { resource, limit, remaining, window: limits.window, ..Reading::NOTHING }.at(reset), out);
    for t in triples {
        let window = if t.limit == limits.limit { limits.window } else { limits.window_of(t.limit) };
        limits.policies.retain(|policy| Some(*policy) != t.limit.zip(window));
        let told = Reading { limit: t.limit, remaining: t.remaining, window, structured: true, ..Reading::NOTHING };
        push(told.at(t.reset.and_then(from_seconds)), out);
    }
    limits.others(out);
    named_policies(items(headers, "ratelimit"), policies, out);
}

/// `RateLimit-Policy: "burst";q=100;w=60` with `RateLimit: "burst";r=50;t=30`, joined by name and partition; a policy without a
/// partition key speaks for all partitions.
fn named_policies(limits: Vec<Item>, policies: Vec<Item>, out: &mut Vec<Reading>) {
    let mut joined = vec![false; policies.len()];
    for limit in limits.into_iter().filter(|i| i.bare.is_none()) {
        let same = |p: &Item| p.name.is_some() && p.name == limit.name;
        let wider = |p: &Item| p.policy.is_some() && p.policy == limit.policy && p.name == p.policy;
        let found = policies.iter().position(same).or_else(|| policies.iter().position(wider));
        let policy = found.and_then(|at| {
            joined[at] = true;
            policies.get(at)
        });
        let told = Reading {
            limit: policy.and_then(|p| p.quota),
            remaining: limit.remaining,
            window: policy.and_then(|p| p.window).and_then(from_seconds),
            unit: unit(policy.and_then(|p| p.unit.as_deref()).or(limit.unit.as_deref())),
            resource: limit.name,
            structured: true,
            ..Reading::NOTHING
        };
        push(told.at(limit.reset.and_then(from_seconds)), out);
    }
    // Policies of which the answer does not tell what is left.
    for (policy, _) in policies.into_iter().zip(joined).filter(|(_, joined)| !joined) {
        let told = Reading {
            resource: policy.name,
            limit: policy.quota,
            window: policy.window.and_then(from_seconds),
            unit: unit(policy.unit.as_deref()),
            structured: true,
            ..Reading::NOTHING
        };
        push(told, out);
    }
}

/// OpenAI (`X-RateLimit-Remaining-Requests`, tokens beside it; also on Azure) and Kong (`X-RateLimit-Remaining-Minute`).
fn by_suffix(headers: &HeaderMap, now: i64, out: &mut Vec<Reading>) {
    const HOUR: Duration = Duration::from_hours(1);
    for (suffix, unit, window) in [
        ("requests", QuotaUnit::Requests, None),
        ("tokens", QuotaUnit::Other, None),
        ("second", QuotaUnit::Requests, Some(Duration::from_secs(1))),
        ("minute", QuotaUnit::Requests, Some(Duration::from_mins(1))),
        ("hour", QuotaUnit::Requests, Some(HOUR)),
        ("day", QuotaUnit::Requests, Some(HOUR * 24)),
        ("month", QuotaUnit::Requests, Some(HOUR * 24 * 31)),
        ("year", QuotaUnit::Requests, Some(LONGEST_WINDOW)),
    ] {
        let told = Reading {
            limit: least(headers, &format!("x-ratelimit-limit-{suffix}")),
            remaining: least(headers, &format!("x-ratelimit-remaining-{suffix}")),
            unit,
            window,
            ..Reading::NOTHING
        };
        push(told.at(latest(headers, &format!("x-ratelimit-reset-{suffix}"), |v| value(v, now))), out);
    }
}

/// Azure Resource Manager: `x-ms-ratelimit-remaining-subscription-reads: 11999`, and `x-ms-ratelimit-remaining-resource:
/// Microsoft.Compute/HighCostGet3Min;159` of its providers, several lines of it. Neither limit nor reset: token buckets.
fn azure(headers: &HeaderMap, out: &mut Vec<Reading>) {
    const PREFIX: &str = "x-ms-ratelimit-remaining-";
    for field in headers.keys() {
        let Some(kind) = field.as_str().strip_prefix(PREFIX) else { continue };
        if kind != "resource" {
            let unit = if kind.contains("entities") { QuotaUnit::Other } else { QuotaUnit::Requests };
            push(Reading { resource: name(kind), remaining: least(headers, field.as_str()), unit, ..Reading::NOTHING }, out);
            continue;
        }
        for part in texts(headers, field.as_str()).flat_map(|t| t.split(',')).take(MOST_QUOTAS) {
            if let Some((bucket, count)) = part.rsplit_once(';') {
                push(Reading { resource: name(bucket), remaining: number(count), ..Reading::NOTHING }, out);
            }
        }
    }
}

/// Shopify's REST API: `X-Shopify-Shop-Api-Call-Limit: 32/40`, used of a leaky bucket's size.
fn shopify(headers: &HeaderMap, out: &mut Vec<Reading>) {
    for field in ["x-shopify-shop-api-call-limit", "x-shopify-api-call-limit"] {
        for text in texts(headers, field).take(MOST_QUOTAS) {
            let Some((Some(used), Some(size))) = text.split_once('/').map(|(used, size)| (number(used), number(size))) else { continue };
            push(Reading { limit: Some(size), remaining: Some((size - used).max(0.0)), ..Reading::NOTHING }, out);
        }
    }
}

/// `requests` (the registry of draft 10 writes `request`) is the default.
fn unit(word: Option<&str>) -> QuotaUnit {
    match word {
        None | Some("requests" | "request") => QuotaUnit::Requests,
        Some(_) => QuotaUnit::Other,
    }
}

/// The latest time of all lines and lists of a field.
fn latest(headers: &HeaderMap, field: &str, read: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
    texts(headers, field).filter_map(|t| greatest(t, &read)).max()
}

/// A limit of which nothing is told is none.
fn push(told: Reading, out: &mut Vec<Reading>) {
    if told.limit.is_some() || told.remaining.is_some() || told.latest.is_some() {
        out.push(told);
    }
}

/// The list form of the old drafts: the limit that counts first, then the policies with their windows (`100, 100;w=60, 5000;w=3600`).
struct Limits {
    limit: Option<f64>,
    window: Option<Duration>,
    policies: Vec<(f64, Duration)>,
}

impl Limits {
    /// `plain` is the limit as far as it can be read without the list.
    fn of(listed: &[Item], plain: Option<f64>) -> Self {
        let with_window = |i: &Item| Some((i.bare?, i.window.and_then(from_seconds)?));
        let policies: Vec<(f64, Duration)> = listed.iter().filter_map(with_window).collect();
        let bare = listed.iter().filter(|i| i.window.is_none()).filter_map(|i| i.bare).min_by(f64::total_cmp);
        let limit = bare.or(plain);
        let mut it = Self { limit, window: None, policies };
        it.window = it.window_of(limit);
        // A single policy of more is the one that the server lowered for now (draft 03, *Dynamic limits*).
        if let ([(quota, window)], Some(limit)) = (&it.policies[..], limit)
            && *quota >= limit
        {
            it.window = Some(*window);
            it.policies.clear();
        }
        it
    }

    /// The shortest window of the policies with this limit.
    fn window_of(&self, limit: Option<f64>) -> Option<Duration> {
        self.policies.iter().filter(|(quota, _)| Some(*quota) == limit).map(|(_, window)| *window).min()
    }

    /// The policies that are not the limit told of: all that can be left of them is their quota.
    fn others(self, out: &mut Vec<Reading>) {
        for (quota, window) in &self.policies {
            if Some(*quota) != self.limit || Some(*window) != self.window {
                push(Reading { limit: Some(*quota), window: Some(*window), ..Reading::NOTHING }, out);
            }
        }
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
