//! The one table that says what an attempt's outcome means. By outcome, never by the text of an error.

use super::challenge::challenge;
use super::headers::{self, Asked, WaitFrom};
use super::location::{Follow, follow, redirect_target};
use crate::clock::Wall;
use crate::model::plan::{RequestPlan, RetryPlan};
use crate::model::{Class, Failure, Outcome, Reason, Sent};
use http::{HeaderMap, Method};
use std::time::Duration;
use url::Url;

/// What the table has to know beside the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    /// `[retry]`.
    pub retry: &'a RetryPlan,
    /// `[request]`.
    pub request: &'a RequestPlan,
    /// Calendar time at the answer's arrival.
    pub wall: Wall,
    /// Method of the request as listed: a repeat starts there.
    pub listed: &'a Method,
    /// Method of this hop; another one than `listed` after a redirect turned POST into GET.
    pub method: &'a Method,
    /// Address of this hop, for relative redirects.
    pub url: &'a Url,
}

/// What an outcome means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// A result.
    Accept,
    /// To be asked for at another address. The engine counts hops and knows loops.
    Redirect {
        /// http or https, without fragment.
        to: Url,
        /// What becomes of method and body.
        follow: Follow,
    },
    /// The server asks for less: hold the key, charge nothing, send again whatever the method.
    Refused {
        /// `http-429`, `http-503`, `http-413`, `forbidden`.
        reason: Reason,
        /// How long, from the answer's arrival; `None`: our own backoff, also where the server said 0 or a time that has passed.
        asked: Option<Duration>,
        /// Who chose it.
        from: WaitFrom,
        /// Known by the body's text alone: believed three times.
        by_text: bool,
        /// For people.
        message: String,
    },
    /// No result, no redirect, no refusal.
    Trouble(Trouble),
}

/// An outcome that is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Stable code.
    pub reason: Reason,
    /// Its class in a skipped record.
    pub class: Class,
    /// Whether and how it is tried again.
    pub repeat: Repeat,
    /// Whether the request may be sent again at all: its method or the job says so, or nothing of it was sent.
    pub resend: bool,
    /// The next try has to go on a new connection.
    pub fresh: bool,
    /// `Retry-After` of the answer: the next try comes no earlier.
    pub floor: Option<Duration>,
    /// For people; lowercase, masked, printable.
    pub message: String,
}

/// How trouble is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Not.
    Never,
    /// With backoff, charged, up to `attempts`.
    Backoff,
    /// Once, charged: what will hardly change, yet does at times.
    Once,
    /// At once and uncharged, three times at most for an entry, then as [`Repeat::Backoff`].
    Free,
    /// At once and uncharged with `Accept-Encoding: identity`, one time.
    Identity,
    /// With a wait and uncharged: a shortage of this machine, or a proxy's fault. The engine ends the run where it
    /// does not pass (`max_wait`, 75).
    Local,
}

impl Judgement {
    /// The same judgement where an outage or a sleep of this machine caused it: trouble that would be tried again is not charged.
    #[must_use]
    pub fn excused(mut self) -> Self {
        if let Self::Trouble(t) = &mut self
            && matches!(t.repeat, Repeat::Backoff | Repeat::Once | Repeat::Free)
            && t.resend
        {
            t.repeat = Repeat::Local;
        }
        self
    }
}

/// Judges one attempt.
#[must_use]
pub fn classify(outcome: &Outcome, ctx: &Ctx<'_>) -> Judgement {
    match outcome {
        Outcome::Answer(a) => answer(a.status, &a.headers, &a.body, ctx),
        Outcome::Failure(f) => match (f.status, &f.headers) {
            // The body of an answer that is no result, and that no rule of the job makes one, does not matter: a 429 stays one
            // though its page broke.
            (Some(status), Some(headers)) if status == 429 || !ctx.request.may_accept(status) => answer(status, headers, &[], ctx),
            _ => Judgement::Trouble(failure(f, ctx)),
        },
    }
}

fn answer(status: u16, headers: &HeaderMap, body: &[u8], ctx: &Ctx<'_>) -> Judgement {
    let accepted = status != 429 && ctx.request.accepts(status);
    if let Some(vendor) = challenge(status, headers, body, accepted) {
        let message = format!("a challenge page ({vendor}) came with status {status}");
        return trouble(Reason::WafChallenge, Repeat::Never, message, ctx);
    }
    if accepted {
        return match partial(status, headers) {
            None => Judgement::Accept,
            Some(message) => trouble(Reason::BodyTruncated, Repeat::Backoff, message, ctx),
        };
    }
    if let Some(follow) = follow(status, ctx.method) {
        return match redirect_target(headers, ctx.url) {
            Ok(to) => Judgement::Redirect { to, follow },
            Err(message) => trouble(Reason::RedirectInvalid, Repeat::Never, message, ctx),
        };
    }
    refusal(status, headers, body, ctx).unwrap_or_else(|| other_status(status, headers, ctx))
}

/// A 206 is a result only where its range is the whole (RFC 9110 14.4).
fn partial(status: u16, headers: &HeaderMap) -> Option<String> {
    if status != 206 {
        return None;
    }
    let range = headers.get("content-range").and_then(|v| v.to_str().ok()).unwrap_or("");
    let whole = || {
        let (span, size) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.trim().split_once('-')?;
        let (last, size): (u64, u64) = (last.trim().parse().ok()?, size.trim().parse().ok()?);
        (first.trim() == "0" && last.checked_add(1) == Some(size)).then_some(())
    };
    if whole().is_some() { None } else { Some(format!("the server sent a part (206, Content-Range {range:?})")) }
}

/// The refusals (contract, *What an attempt is*): 429; 503 and 413 with Retry-After; a 403 that is about rate.
fn refusal(status: u16, headers: &HeaderMap, body: &[u8], ctx: &Ctx<'_>) -> Option<Judgement> {
    let after = headers::retry_after(headers, ctx.wall);
    let body = if matches!(status, 403 | 429) && body.len() < 64 * 1024 { body } else { &[] };
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    let secondary = text.contains(SECONDARY);
    let mut by_text = false;
    match status {
        429 => {}
        503 | 413 if after.is_some() => {}
        403 if after.is_some() || headers::exhausted(headers) => {}
        403 if secondary || text.contains("rate limit exceeded") || text.contains("too many requests") => by_text = true,
        _ => return None,
    }
    let reason = Reason::of_status(status);
    Some(refused(reason, by_text, wait_of(headers, body, secondary, ctx.wall), said(status), ctx))
}

/// How long a refusal asks for, from the answer's arrival, and who chose it.
pub(super) type Wait = (Option<Duration>, WaitFrom);

/// What GitHub calls a limit whose headers say nothing of it.
pub(super) const SECONDARY: &str = "secondary rate limit";

/// `secondary`: the body speaks of a secondary limit.
pub(super) fn wait_of(headers: &HeaderMap, body: &[u8], secondary: bool, wall: Wall) -> Wait {
    let mut told = headers::asked(headers, wall);
    let explicit = told.filter(|a| a.from == WaitFrom::RetryAfter);
    if let Some(wait) = headers::asked_in_body(body).filter(|w| !w.is_zero()) {
        told = Some(Asked { wait: explicit.map_or(wait, |a| a.wait.max(wait)), from: WaitFrom::RetryAfter });
    } else if secondary && !headers::exhausted(headers) && explicit.is_none() {
        // GitHub by its words alone, as behind a proxy that strips its headers: the reset is another limit's.
        told = Some(Asked { wait: headers::SECONDARY, from: WaitFrom::Backoff });
    }
    match told {
        Some(a) if !a.wait.is_zero() => (Some(a.wait), a.from),
        // Also where Retry-After is 0 or has passed.
        _ => (None, WaitFrom::Backoff),
    }
}

/// A refusal by an answer, which may be sent again whatever the method.
pub(super) fn refused(reason: Reason, by_text: bool, (asked, from): Wait, message: String, ctx: &Ctx<'_>) -> Judgement {
    if !may_resend(Sent::Maybe, ctx) && ctx.method != ctx.listed {
        // The listed request was carried out before the redirect: it is not repeated for the sake of the hop.
        return trouble(Reason::MaybeSent, Repeat::Never, format!("{message} after the request was redirected"), ctx);
    }
    Judgement::Refused { reason, asked, from, by_text, message }
}

/// Every status that is neither result nor redirect nor refusal.
fn other_status(status: u16, headers: &HeaderMap, ctx: &Ctx<'_>) -> Judgement {
    let reason = Reason::of_status(status);
    let listed = ctx.retry.statuses.contains(&status);
    let again = headers::should_retry(headers).unwrap_or(listed);
    let (class, repeat) = if again { (Class::Transient, Repeat::Backoff) } else { (reason.class(), Repeat::Never) };
    Judgement::Trouble(of_answer(status, headers, (reason, class), repeat, ctx))
}

/// Trouble that a whole answer is.
pub(super) fn of_answer(status: u16, headers: &HeaderMap, (reason, class): (Reason, Class), repeat: Repeat, ctx: &Ctx<'_>) -> Trouble {
    // A misdirected (RFC 9110 15.5.20) or too early (RFC 8470 5.2) request was not processed: any method may repeat it.
    let unprocessed = matches!(status, 421 | 425) && ctx.method == ctx.listed;
    Trouble {
        class,
        repeat,
        resend: unprocessed || may_resend(Sent::Maybe, ctx),
        fresh: matches!(status, 408 | 421 | 425),
        floor: headers::retry_after(headers, ctx.wall).filter(|w| !w.is_zero()),
        message: said(status),
        reason,
    }
}

fn trouble(reason: Reason, repeat: Repeat, message: String, ctx: &Ctx<'_>) -> Judgement {
    let resend = may_resend(Sent::Maybe, ctx);
    Judgement::Trouble(Trouble { class: reason.class(), repeat, resend, fresh: false, floor: None, message, reason }.checked())
}

/// No whole answer.
fn failure(f: &Failure, ctx: &Ctx<'_>) -> Trouble {
    // A proxy that opened no way passed nothing on, whatever was written to it.
    let no_way = matches!(f.reason, Reason::ProxyAuth | Reason::ProxyRefused | Reason::ProxyUnreachable);
    let sent = if no_way { Sent::No } else { f.sent };
    let unwritten = sent == Sent::No;
    let no_head = f.headers_at.is_none() && f.status.is_none();
    let repeat = match &f.reason {
        Reason::ConnClosed | Reason::ConnReset if unwritten || (f.reused && no_head) => Repeat::Free,
        // GOAWAY above the last id, REFUSED_STREAM.
        Reason::ProtocolError if unwritten => Repeat::Free,
        Reason::ProtocolError | Reason::TlsHandshake | Reason::DnsNxdomain | Reason::DnsNodata => Repeat::Once,
        Reason::DecodeError => Repeat::Identity,
        // A way that the proxy does not open to this host (CONNECT not 2xx) is a host out of reach, charged as such; a proxy that
        // refuses all of them rests.
        Reason::ProxyAuth => Repeat::Local,
        // `host-unreachable` is the engine's own word for entries that it gives up.
        Reason::HostUnreachable => Repeat::Never,
        other => match other.class() {
            Class::Transient => Repeat::Backoff,
            Class::Local => Repeat::Local,
            _ => Repeat::Never,
        },
    };
    Trouble {
        reason: f.reason.clone(),
        class: f.reason.class(),
        repeat,
        resend: may_resend(sent, ctx),
        fresh: matches!(f.reason, Reason::ConnClosed | Reason::ConnReset | Reason::ProtocolError),
        floor: f.headers.as_deref().and_then(|h| headers::retry_after(h, ctx.wall)).filter(|w| !w.is_zero()),
        message: f.message.clone(),
    }
    .checked()
}

impl Trouble {
    /// A request that must not be repeated and broke after it was written is `maybe-sent`. Where a head or garbage came (a status,
    /// `protocol-error`, `decode-error`) its own reason says more.
    fn checked(mut self) -> Self {
        let broke = matches!(
            self.reason,
            Reason::ConnClosed
                | Reason::ConnReset
                | Reason::FirstByteTimeout
                | Reason::BodyTruncated
                | Reason::BodyTimeout
                | Reason::SlowBody
        );
        // A shortage of this machine after sending is such a break too.
        if !self.resend && (broke || self.repeat == Repeat::Local) {
            self.message = format!("{}: {}", self.reason, self.message);
            self.reason = Reason::MaybeSent;
            self.class = Class::Permanent;
            self.repeat = Repeat::Never;
        }
        self
    }
}

/// Whether a request of this kind that came so far may be sent again (RFC 9110 9.2.2).
fn may_resend(sent: Sent, ctx: &Ctx<'_>) -> bool {
    ctx.request.idempotent || ctx.retry.methods.iter().any(|m| m == ctx.listed.as_str()) || (sent == Sent::No && ctx.method == ctx.listed)
}

pub(super) fn said(status: u16) -> String {
    match http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()) {
        Some(words) => format!("the server answered {status} ({words})"),
        None => format!("the server answered {status}"),
    }
}

/// What an outcome says about the host's being in reach: for its breaker and for outages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answered, with whatever status.
    Yes,
    /// It could not be resolved or connected, or did not answer in time.
    No,
    /// Says nothing about the host: broken connections, TLS, our own shortages, proxies, a name that does not exist (its entries
    /// end by that reason, at once).
    Neither,
}

/// Reads the host's reach off an outcome. Statuses never speak against a host.
#[must_use]
pub fn reach(outcome: &Outcome) -> Reach {
    match outcome {
        Outcome::Answer(_) => Reach::Yes,
        Outcome::Failure(f) if f.status.is_some() || f.headers_at.is_some() => Reach::Yes,
        Outcome::Failure(f) => match f.reason {
            Reason::ConnectRefused
            | Reason::ProxyRefused
            | Reason::ConnectTimeout
            | Reason::NetUnreachable
            | Reason::DnsServfail
            | Reason::DnsTimeout
            | Reason::FirstByteTimeout => Reach::No,
            _ => Reach::Neither,
        },
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(super) mod tests;
