//! What an answer's headers say about when to come back: `Retry-After` and its kin, and the resets of rate limits.
//!
//! Sources: RFC 9110 10.2.3; the dialects of GitHub, X, Reddit, GitLab, Discord, Azure and OpenAI; the IETF drafts 03 to 10 of
//! `RateLimit`. A value that cannot be a time is no header.

use crate::clock::Wall;
use crate::model::parse_duration;
use http::HeaderMap;
use std::time::{Duration, UNIX_EPOCH};

/// Longer waits are cut to this: ten years.
pub const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Who chose the length of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFrom {
    /// `Retry-After`, `retry-after-ms`.
    RetryAfter,
    /// A rate limit's reset.
    Reset,
    /// Our own backoff.
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
    /// From the answer's arrival on, at most [`LONGEST`]. Zero where `Retry-After` is 0 or names a time that has passed: then our
    /// own backoff decides.
    pub wait: Duration,
    /// Never [`WaitFrom::Backoff`].
    pub from: WaitFrom,
}

/// What a refusal asks for: `Retry-After`, or the reset of its rate limit where there is none. Of two values the greater.
///
/// `wall` is our time at the answer's arrival; dates and epochs are read against the answer's own `Date` where it has one.
#[must_use]
pub fn asked(headers: &HeaderMap, wall: Wall) -> Option<Asked> {
    if let Some(wait) = retry_after(headers, wall) {
        return Some(Asked { wait, from: WaitFrom::RetryAfter });
    }
    reset(headers, wall).map(|wait| Asked { wait, from: WaitFrom::Reset })
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

/// Time to the reset of the rate limit that the headers describe; only worth asking on a refusal. A reset in the past is none.
#[must_use]
pub fn reset(headers: &HeaderMap, wall: Wall) -> Option<Duration> {
    const NAMES: [&str; 6] = [
        "x-ratelimit-reset",
        "x-rate-limit-reset",
        "ratelimit-reset",
        "ratelimit-resettime",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
    ];
    let now = server_now(headers, wall);
    let named = NAMES.into_iter().flat_map(|name| texts(headers, name)).filter_map(|t| greatest(t, |v| value(v, now)));
    let deltas = texts(headers, "x-ratelimit-reset-after").filter_map(|t| greatest(t, |v| from_seconds(number(v)?)));
    named.chain(deltas).chain(structured(headers)).filter(|wait| !wait.is_zero()).max()
}

/// Whether the headers say that nothing is left (`x-ratelimit-remaining: 0` and its spellings). Reddit writes fractions.
#[must_use]
pub fn exhausted(headers: &HeaderMap) -> bool {
    ["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"]
        .into_iter()
        .flat_map(|name| texts(headers, name))
        .any(|t| number(t.split(',').next().unwrap_or(t)).is_some_and(|n| n < 1.0))
}

/// `RateLimit: "burst";r=0;t=30` and `RateLimit: limit=100, remaining=0, reset=30`: of the policies with nothing left the longest
/// time, else the shortest (on a refusal `r` above zero is not to be trusted).
fn structured(headers: &HeaderMap) -> Option<Duration> {
    let mut spent: Option<Duration> = None;
    let mut open: Option<Duration> = None;
    for line in texts(headers, "ratelimit") {
        let dictionary = line.contains("reset=");
        let items: Vec<&str> = if dictionary { vec![line] } else { line.split(',').collect() };
        for item in items {
            let mut left = None;
            let mut wait = None;
            for part in item.split([',', ';']) {
                match part.trim().split_once('=') {
                    Some(("r" | "remaining", v)) => left = number(v),
                    Some(("t" | "reset", v)) => wait = number(v).and_then(from_seconds),
                    _ => {}
                }
            }
            if left.is_some_and(|n| n < 1.0) {
                spent = spent.max(wait);
            } else if let Some(wait) = wait {
                open = Some(open.map_or(wait, |o| o.min(wait)));
            }
        }
    }
    spent.or(open)
}

fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|v| std::str::from_utf8(v.as_bytes()).ok())
}

/// The server's clock in milliseconds since the epoch, ours where it names none.
fn server_now(headers: &HeaderMap, wall: Wall) -> i64 {
    headers.get("date").and_then(|v| v.to_str().ok()).and_then(|t| date(t.trim())).unwrap_or(wall.0)
}

/// The greatest valid value of a comma list; a date has a comma of its own.
fn greatest(text: &str, read: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
    if let Some(one) = read(text.trim()) {
        return Some(one);
    }
    let mut best = None;
    let mut before: Option<&str> = None;
    for part in text.split(',') {
        let found = read(part.trim()).or_else(|| read(format!("{},{part}", before?).trim()));
        best = best.max(found);
        before = Some(part);
    }
    best
}

/// One value: seconds, an epoch, a duration in words, or a date.
fn value(text: &str, now: i64) -> Option<Duration> {
    if let Some(n) = number(text) {
        return match n {
            n if n >= 1e12 => Some(between(now, n)),
            n if n >= 1e9 => Some(between(now, n * 1000.0)),
            n => from_seconds(n),
        };
    }
    #[allow(clippy::cast_precision_loss, reason = "calendar times are far below 2^53 ms")]
    if let Some(at) = date(text) {
        return Some(between(now, at as f64));
    }
    parse_duration(text).ok().map(|d| d.min(LONGEST))
}

/// Digits with at most one dot. `inf`, `NaN`, signs and exponents are no numbers here, though `f64` reads them.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if !plain {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok()
}

fn from_millis(millis: f64) -> Option<Duration> {
    from_seconds(millis / 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "calendar times are far below 2^53 ms")]
fn between(now: i64, at: f64) -> Duration {
    from_millis((at - now as f64).max(0.0)).unwrap_or(Duration::ZERO)
}

/// An HTTP date in its three forms, an RFC 3339 or an RFC 2822 one, as milliseconds since the epoch.
fn date(text: &str) -> Option<i64> {
    if !text.bytes().any(|b| b == b':') {
        return None;
    }
    if let Ok(at) = httpdate::parse_http_date(text) {
        return i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok();
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_millisecond());
    }
    jiff::fmt::rfc2822::parse(text).ok().map(|z| z.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wed, 21 Oct 2015 07:28:00 GMT.
    const NOW: Wall = Wall(1_445_412_480_000);

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut h = HeaderMap::new();
        for (n, v) in lines {
            h.append(*n, v.parse().unwrap());
        }
        h
    }

    fn wait(lines: &[(&'static str, &str)]) -> Option<f64> {
        asked(&map(lines), NOW).map(|a| a.wait.as_secs_f64())
    }

    #[test]
    fn retry_after_is_read_in_every_dress() {
        for (text, secs) in [
            ("120", 120.0),
            (" 2.0 ", 2.0),
            ("0", 0.0),
            ("6m0s", 360.0),
            ("500ms", 0.5),
            ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
            ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),
            ("Wed Oct 21 07:29:00 2015", 60.0),
            ("Wed, 21 Oct 2015 07:29:00 +0000", 60.0),
            ("2015-10-21T07:29:00Z", 60.0),
            ("1445412490", 10.0),
            ("1445412490000", 10.0),
            ("5, 7, x", 7.0),
            ("Wed, 21 Oct 2015 07:29:00 GMT, 5", 60.0),
            ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
            ("1300000000", 0.0),
        ] {
            assert_eq!(wait(&[("retry-after", text)]), Some(secs), "{text}");
        }
        assert_eq!(wait(&[("retry-after-ms", "1500")]), Some(1.5));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "1500")]), Some(1.5));
        assert_eq!(wait(&[("retry-after", "3"), ("retry-after", "9")]), Some(9.0));
    }

    #[test]
    fn junk_is_no_header_and_absurd_is_ten_years() {
        for text in ["", "inf", "-inf", "NaN", "nan", "-5", "soon", "1e400", "1e5", "+5", ".", "1.2.3", "0x10", ",", "12 apples", ":"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
        for text in ["99999999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "999999999d", "999999999"] {
            assert_eq!(wait(&[("retry-after", text)]), Some(LONGEST.as_secs_f64()), "{text}");
        }
    }

    #[test]
    fn dates_and_epochs_are_read_by_the_servers_own_clock() {
        let ahead = ("date", "Wed, 21 Oct 2015 08:28:00 GMT");
        assert_eq!(wait(&[ahead, ("retry-after", "Wed, 21 Oct 2015 08:28:30 GMT")]), Some(30.0));
        assert_eq!(wait(&[ahead, ("x-ratelimit-reset", "1445416090")]), Some(10.0));
        assert_eq!(wait(&[ahead, ("retry-after", "30")]), Some(30.0));
        assert_eq!(wait(&[("date", "yesterday"), ("retry-after", "1445412490")]), Some(10.0));
    }

    #[test]
    fn resets_count_where_there_is_no_retry_after() {
        let reset = asked(&map(&[("x-ratelimit-reset", "1445412540")]), NOW).unwrap();
        assert_eq!((reset.wait.as_secs(), reset.from), (60, WaitFrom::Reset));
        let both = asked(&map(&[("x-ratelimit-reset", "1445412540"), ("retry-after", "5")]), NOW).unwrap();
        assert_eq!((both.wait.as_secs(), both.from.as_str()), (5, "retry-after"));
        for (name, text, secs) in [
            ("x-rate-limit-reset", "1445412490", 10.0),
            ("ratelimit-reset", "30", 30.0),
            ("x-ratelimit-reset", "583.5", 583.5),
            ("x-ratelimit-reset-after", "64.57", 64.57),
            ("x-ratelimit-reset-requests", "6m0s", 360.0),
            ("ratelimit", "\"burst\";r=0;t=5, \"daily\";r=900;t=80000", 5.0),
            ("ratelimit", "\"burst\";r=3;t=5, \"daily\";r=9;t=80000", 5.0),
            ("ratelimit", "limit=100, remaining=0, reset=7", 7.0),
        ] {
            assert_eq!(wait(&[(name, text)]), Some(secs), "{name}: {text}");
        }
        assert_eq!(wait(&[("x-ratelimit-reset", "1445412490"), ("x-ratelimit-reset-after", "64")]), Some(64.0));
        for past in ["1445412470", "0", "1300000000000", "never"] {
            assert_eq!(wait(&[("x-ratelimit-reset", past)]), None, "{past}");
        }
    }

    #[test]
    fn nothing_left_is_told_in_three_spellings() {
        for (name, text, yes) in [
            ("x-ratelimit-remaining", "0", true),
            ("x-ratelimit-remaining", "0.0", true),
            ("ratelimit-remaining", "0", true),
            ("x-rate-limit-remaining", "1", false),
            ("x-ratelimit-remaining", "none", false),
        ] {
            assert_eq!(exhausted(&map(&[(name, text)])), yes, "{name}: {text}");
        }
    }
}
