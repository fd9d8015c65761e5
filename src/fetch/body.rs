//! The body of an answer: how much of it is wanted, its time-outs, its caps.

use super::Want;
use super::classify::body_failure;
use super::decode::{Decoder, Trouble, codings};
use crate::model::Reason;
use crate::model::plan::{RequestPlan, Timeouts};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Version};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How much of an answer that is no result is read: enough for a challenge page or an API's error text.
const GLANCE: usize = 64 << 10;
const GLANCE_TIME: Duration = Duration::from_secs(2);
/// A redirect's body up to this is read so that its connection lives on.
const DRAIN: u64 = 16 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);
/// `max_body` of robots.txt; what lies beyond is not looked at (RFC 9309 section 2.5 asks for 500 KiB).
const ROBOTS: usize = 512_000;
/// Slower than this over a window is too slow.
const MIN_RATE: u64 = 1 << 10;
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// A body that was read as far as wanted.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) wire: u64,
    pub(super) warnings: Vec<&'static str>,
}

/// The limits of one body.
pub(super) struct Limits<'a> {
    pub(super) plan: &'a RequestPlan,
    pub(super) timeouts: Timeouts,
    pub(super) want: Want,
    pub(super) method: &'a Method,
    /// End of the attempt.
    pub(super) deadline: Instant,
}

/// What is to be done with a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// There is none.
    Empty,
    /// Whole or not at all.
    Whole(usize),
    /// Up to here; the rest is not wanted.
    Cut(usize),
    /// As much as comes soon.
    Glance,
    /// A redirect's.
    Drain,
}

/// Reads the body of `response`, whose headers are `headers`.
///
/// # Errors
/// Reason and message, where the body is wanted whole and is not.
pub(super) async fn read(response: &mut reqwest::Response, headers: &HeaderMap, limits: &Limits<'_>) -> Result<Content, (Reason, String)> {
    let status = response.status().as_u16();
    let length = declared_length(headers);
    match reading(status, headers, limits) {
        Reading::Empty => Ok(Content::default()),
        Reading::Drain => {
            if length.is_some_and(|n| n <= DRAIN) {
                let until = limits.deadline.min(Instant::now() + DRAIN_TIME);
                while let Ok(Ok(Some(_))) = timeout_at(until, response.chunk()).await {}
            }
            Ok(Content::default())
        }
        Reading::Glance => Ok(glance(response, headers, limits).await),
        Reading::Cut(cap) => whole(response, headers, limits, cap, true).await,
        Reading::Whole(cap) => {
            if status == 206 && !covers_all(headers) {
                return Err((Reason::BodyTruncated, "status 206 holds a part of the content only".to_owned()));
            }
            whole(response, headers, limits, cap, false).await
        }
    }
}

fn reading(status: u16, headers: &HeaderMap, limits: &Limits<'_>) -> Reading {
    let (accepted, whole) = match limits.want {
        Want::Accepted => (limits.plan.accepts(status), limits.plan.may_accept(status)),
        Want::Robots => ((200..300).contains(&status), (200..300).contains(&status)),
    };
    if limits.method == Method::HEAD || matches!(status, 204 | 304) {
        Reading::Empty
    } else if !accepted && matches!(status, 301 | 302 | 303 | 307 | 308) && headers.contains_key(LOCATION) {
        Reading::Drain
    } else if !whole {
        Reading::Glance
    } else if limits.want == Want::Robots {
        Reading::Cut(ROBOTS)
    } else {
        Reading::Whole(usize::try_from(limits.plan.max_body).unwrap_or(usize::MAX))
    }
}

async fn whole(
    response: &mut reqwest::Response,
    headers: &HeaderMap,
    limits: &Limits<'_>,
    cap: usize,
    cut: bool,
) -> Result<Content, (Reason, String)> {
    let (codings, unknown) = codings(headers).map_err(|why| (Reason::DecodeError, why))?;
    let length = declared_length(headers);
    if !cut
        && codings.is_empty()
        && let Some(n) = length.filter(|&n| n > cap as u64)
    {
        return Err((Reason::TooLarge, format!("body of {n} bytes passes the limit of {cap}")));
    }
    let hint = usize::try_from(length.unwrap_or(0)).unwrap_or(0).min(1 << 20);
    let mut decoder = Decoder::new(&codings, cap, hint);
    let mut window = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        if now - window.0 >= RATE_WINDOW {
            let came = decoder.wire() - window.1;
            if came < MIN_RATE * RATE_WINDOW.as_secs() {
                return Err((Reason::SlowBody, format!("{came} bytes of body in {} s", (now - window.0).as_secs())));
            }
            window = (now, decoder.wire());
        }
        let until = limits.deadline.min(now + limits.timeouts.idle);
        let chunk = match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(e)) => {
                let (reason, why) = body_failure(&e);
                return Err((reason, format!("{why}, after {} bytes", decoder.wire())));
            }
            Err(_) => {
                let total = until == limits.deadline;
                let what = if total { "the attempt passed its total time" } else { "the body stalled" };
                let limit = if total { limits.timeouts.total } else { limits.timeouts.idle };
                return Err((Reason::BodyTimeout, format!("{what} ({limit:?}), after {} bytes", decoder.wire())));
            }
        };
        match decoder.push(&chunk) {
            Ok(()) => {}
            Err(Trouble::Full | Trouble::Ratio) if cut => {
                return Ok(Content { wire: decoder.wire(), bytes: decoder.cut(), warnings: Vec::new() });
            }
            Err(trouble) => return Err(told(trouble, cap, decoder.wire())),
        }
    }
    let wire = decoder.wire();
    let (bytes, junk) = decoder.finish().map_err(|t| told(t, cap, wire))?;
    let mut warnings = Vec::new();
    if unknown {
        warnings.push("unknown-coding");
    }
    if junk {
        warnings.push("trailing-junk");
    }
    if response.version() < Version::HTTP_2 && length.is_none() && !chunked(headers) {
        warnings.push("length-unknown");
    }
    Ok(Content { bytes, wire, warnings })
}

/// The first part of a body that is no result; whatever breaks, what came is kept.
async fn glance(response: &mut reqwest::Response, headers: &HeaderMap, limits: &Limits<'_>) -> Content {
    let codings = codings(headers).map_or_else(|_| Vec::new(), |c| c.0);
    let mut decoder = Decoder::new(&codings, GLANCE, 0);
    let until = limits.deadline.min(Instant::now() + GLANCE_TIME);
    while let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await {
        if decoder.push(&chunk).is_err() {
            break;
        }
    }
    Content { wire: decoder.wire(), bytes: decoder.cut(), warnings: Vec::new() }
}

fn told(trouble: Trouble, cap: usize, wire: u64) -> (Reason, String) {
    match trouble {
        Trouble::Full => (Reason::TooLarge, format!("body passes the limit of {cap} bytes")),
        Trouble::Ratio => (Reason::TooLarge, format!("body grows more than 200 times in decoding, after {wire} bytes")),
        Trouble::Broken(why) => (Reason::DecodeError, why),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    last.is_some_and(|v| v.as_bytes().rsplit(|&b| b == b',').next().is_some_and(|t| t.trim_ascii().eq_ignore_ascii_case(b"chunked")))
}

/// Whether `Content-Range` (RFC 9110 section 14.4) covers the whole.
fn covers_all(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some((unit, rest)) = value.trim().split_once(' ') else { return false };
    let parsed = rest.split_once('/').and_then(|(range, total)| {
        let (first, last) = range.split_once('-')?;
        let read = |t: &str| t.trim().parse::<u64>().ok();
        Some((read(first)?, read(last)?, read(total)?))
    });
    unit.eq_ignore_ascii_case("bytes") && parsed.is_some_and(|(first, last, total)| first == 0 && last.checked_add(1) == Some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_whole_only_where_it_covers_the_whole() {
        for (value, whole) in [
            ("bytes 0-9/10", true),
            ("Bytes 0-9/10", true),
            ("bytes 0-8/10", false),
            ("bytes 1-9/10", false),
            ("bytes 0-9/*", false),
            ("bytes */10", false),
            ("", false),
            ("bytes 0-18446744073709551615/0", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, value.parse().unwrap())]);
            assert_eq!(covers_all(&headers), whole, "{value}");
        }
    }
}
