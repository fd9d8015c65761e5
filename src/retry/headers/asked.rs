//! What a refusal asks for: how long, whom it holds, what it is about.

use super::quota::{Reading, readings};
use super::values::{from_millis, from_seconds, greatest, least, name, number, server_now, texts, value};
use crate::clock::Wall;
use http::HeaderMap;
use std::time::Duration;

/// GitHub's rule for its secondary limits: at least a minute where no header says how long (*Exceeding the rate limit*).
pub const SECONDARY: Duration = Duration::from_mins(1);

/// A larger body is no refusal's.
const LONGEST_BODY: usize = 64 * 1024;

/// Who chose the length of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFrom {
    /// `Retry-After`, `retry-after-ms`, a body's `retry_after`.
    RetryAfter,
    /// A rate limit's reset.
    Reset,
    /// Our own backoff, and the minute of [`SECONDARY`].
    Backoff,
}

impl WaitFrom {
    /// The word that events carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetryAfter => "retry-after",
            Self::Reset => "reset",
            Self::Backoff => "backoff",
        }
    }
}

/// A wait that the server asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// From the answer's arrival on, at most [`super::LONGEST`]. Zero where `Retry-After` is 0 or names a time that has passed: then
    /// our own backoff decides.
    pub wait: Duration,
    /// [`WaitFrom::Backoff`] only with [`SECONDARY`], the least that the server's documentation asks for.
    pub from: WaitFrom,
}

/// What a refusal asks for: `Retry-After`, or the reset of its rate limit where there is none. Of two values the greater.
///
/// `wall` is our time at the answer's arrival; dates and epochs are read against the answer's own `Date` where it has one. On GitHub
/// a refusal with quota left is one by a secondary limit, of which the reset says nothing: without `Retry-After` [`SECONDARY`].
#[must_use]
pub fn asked(headers: &HeaderMap, wall: Wall) -> Option<Asked> {
    if let Some(wait) = retry_after(headers, wall) {
        return Some(Asked { wait, from: WaitFrom::RetryAfter });
    }
    if secondary(headers) {
        return Some(Asked { wait: SECONDARY, from: WaitFrom::Backoff });
    }
    reset(headers, wall).map(|wait| Asked { wait, from: WaitFrom::Reset })
}

/// The number of seconds in `retry_after` of a JSON object, as Discord's refusals carry it: finer than their `Retry-After`, and at
/// times longer. `None` for other bodies, for text, negative and non-finite numbers, and beyond 64 KiB; at most [`super::LONGEST`].
#[must_use]
pub fn asked_in_body(body: &[u8]) -> Option<Duration> {
    const KEY: &[u8] = b"\"retry_after\"";
    if body.len() > LONGEST_BODY || !body.windows(KEY.len()).any(|w| w == KEY) {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let seconds = object.get("retry_after")?.as_f64().filter(|n| n.is_finite())?;
    from_seconds(seconds)
}

/// `Retry-After`, `retry-after-ms` and `x-ms-retry-after-ms`: the greatest valid value of all lines and lists. Zero is a value.
#[must_use]
pub fn retry_after(headers: &HeaderMap, wall: Wall) -> Option<Duration> {
    let now = server_now(headers, wall);
    let whole = texts(headers, "retry-after").filter_map(|t| greatest(t, |v| value(v, now)));
    let millis = ["retry-after-ms", "x-ms-retry-after-ms"]
        .into_iter()
        .flat_map(|name| texts(headers, name))
        .filter_map(|t| greatest(t, |v| from_millis(number(v)?)));
    whole.chain(millis).max()
}

/// Time to the reset of the rate limit that refused; only worth asking on a refusal. A reset in the past is none.
///
/// Of the limits with nothing left the longest. Where none says so (what is left is not to be trusted on a refusal): the greatest of
/// the plain fields, the shortest of the policies in `RateLimit`, of the two the greater.
#[must_use]
pub fn reset(headers: &HeaderMap, wall: Wall) -> Option<Duration> {
    let all = readings(headers, wall);
    let spent: Vec<&Reading> = all.iter().filter(|r| r.spent() && r.latest.is_some()).collect();
    if !spent.is_empty() {
        return spent.iter().filter_map(|r| r.latest).max().filter(|wait| !wait.is_zero());
    }
    let open = |structured| all.iter().filter(move |r| r.structured == structured).filter_map(|r| r.latest).filter(|w| !w.is_zero());
    open(false).max().max(open(true).min())
}

/// Whether the headers say that nothing is left (`x-ratelimit-remaining: 0` and its spellings). Reddit writes fractions.
#[must_use]
pub fn exhausted(headers: &HeaderMap) -> bool {
    ["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"]
        .into_iter()
        .any(|name| least(headers, name).is_some_and(|n| n < 1.0))
}

/// Whether a refusal is one by a secondary limit of GitHub (github.com or GitHub Enterprise): its headers, and quota left.
fn secondary(headers: &HeaderMap) -> bool {
    let github = headers.contains_key("x-github-request-id")
        || (headers.contains_key("x-ratelimit-resource") && headers.contains_key("x-ratelimit-used"));
    github && !exhausted(headers)
}

/// What Stripe says of another try: `Stripe-Should-Retry: true` or `false`, over any guess from the status.
#[must_use]
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    let text = texts(headers, "stripe-should-retry").next()?.trim();
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("false").then_some(false)
}

/// What a refusal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole credential, on every host that it is sent to.
    Global,
    /// The resource that [`resource`] names, and nothing else.
    Shared,
    /// The limiter's key, as every refusal that says no more.
    Key,
}

/// Whom a refusal holds: Discord's `X-RateLimit-Global` and `X-RateLimit-Scope: global` the credential; a named resource itself
/// alone (Discord's buckets of both other scopes, GitHub's and GitLab's limits by name, an exhausted policy of the IETF draft); a
/// secondary limit of GitHub, which counts over all resources, and everything else the key.
#[must_use]
pub fn scope(headers: &HeaderMap) -> Scope {
    let says = |name, word: &str| texts(headers, name).any(|t| t.trim().eq_ignore_ascii_case(word));
    if says("x-ratelimit-global", "true") || says("x-ratelimit-scope", "global") {
        return Scope::Global;
    }
    if secondary(headers) || resource(headers).is_none() {
        return Scope::Key;
    }
    Scope::Shared
}

/// The resource that an answer was counted against: GitHub's `X-RateLimit-Resource`, Discord's `X-RateLimit-Bucket`, GitLab's
/// `RateLimit-Name`; where no field names it, the limit with nothing left: a policy of the IETF draft (of several the one with the
/// longest wait), a resource of Azure.
///
/// The words are those of [`super::Quota::resource`]. Whether a refusal is about the resource, [`scope`] tells.
#[must_use]
pub fn resource(headers: &HeaderMap) -> Option<String> {
    named(headers).or_else(|| {
        let spent = readings(headers, Wall::default()).into_iter().filter(|r| r.spent() && r.resource.is_some());
        spent.max_by_key(|r| r.latest)?.resource
    })
}

/// The first of the fields that name a resource.
fn named(headers: &HeaderMap) -> Option<String> {
    ["x-ratelimit-resource", "x-ratelimit-bucket", "ratelimit-name"].into_iter().flat_map(|f| texts(headers, f)).find_map(name)
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
