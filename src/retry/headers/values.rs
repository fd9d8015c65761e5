//! Numbers, durations, dates and names as servers write them.

use crate::clock::Wall;
use crate::model::parse_duration;
use http::HeaderMap;
use std::time::{Duration, UNIX_EPOCH};

/// Longer waits are cut to this: ten years.
pub const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Longer names are none.
const LONGEST_NAME: usize = 100;

/// The lines of a field that are text.
pub(super) fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().filter_map(|v| std::str::from_utf8(v.as_bytes()).ok())
}

/// The server's clock in milliseconds since the epoch, ours where it names none.
pub(super) fn server_now(headers: &HeaderMap, wall: Wall) -> i64 {
    headers.get("date").and_then(|v| v.to_str().ok()).and_then(|t| date(t.trim())).unwrap_or(wall.0)
}

/// The greatest valid value of a comma list; a date has a comma of its own.
pub(super) fn greatest(text: &str, read: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
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

/// The least number of all lines and lists of a field, parameters left out: `98.0`, `59, 4999`, `76;w=21600`.
pub(super) fn least(headers: &HeaderMap, name: &str) -> Option<f64> {
    texts(headers, name).flat_map(|t| t.split(',')).filter_map(|part| number(part.split(';').next().unwrap_or(part))).min_by(f64::total_cmp)
}

/// One value: seconds, an epoch, a duration in words, or a date.
pub(super) fn value(text: &str, now: i64) -> Option<Duration> {
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
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if !plain {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// At most [`LONGEST`]; negative and NaN are none.
pub(super) fn from_seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok().filter(|_| !seconds.is_nan())
}

/// As [`from_seconds`].
pub(super) fn from_millis(millis: f64) -> Option<Duration> {
    from_seconds(millis / 1000.0)
}

/// A name that may be shown and kept as a key: visible ASCII, a hundred bytes at most.
pub(super) fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    fits.then(|| text.to_owned())
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
