//! What an answer for `/robots.txt` means for the host (RFC 9309 2.3.1; contract, *Crawl*).

use super::rules::Rules;
use crate::model::{Outcome, Reason};
use std::time::Duration;

/// Hops that are followed for one robots.txt, across hosts.
pub const MAX_HOPS: u32 = 5;

/// What becomes of the host's entries.
#[derive(Clone, Debug, PartialEq)]
pub enum RobotsVerdict {
    /// 2xx: these rules. Keep the body's bytes to make them again ([`Rules::parse`]).
    Rules(Rules),
    /// 4xx but 429, odd numbers from 600 on, more than [`MAX_HOPS`] redirects, a redirect that is not followed: no rules.
    AllowAll,
    /// The host's entries are parked; ask again after [`reask`], on every new run, until `host_give_up`.
    Park {
        /// For people; lowercase.
        why: String,
    },
    /// The outcome is the waiting entry's own: judge it by `retry::classify` as if it were the entry's.
    EntryFailure,
    /// 301, 302, 303, 307, 308: ask at its Location; the rules count for the host that was asked first. Where the Location cannot be
    /// followed (`retry::redirect_target` errs, the network policy blocks it) the verdict is [`RobotsVerdict::AllowAll`].
    Redirect,
}

/// Decides. `hops` is the number of redirects followed so far; `crawl` whether links are followed (else the job is a list).
///
/// A failure to resolve, to connect or to shake hands, and one on our side, is the entry's own; so is any failure in a list. In a
/// crawl silence and breaks park the host, for nobody knows what is forbidden.
#[must_use]
pub fn decide(outcome: &Outcome, hops: u32, crawl: bool) -> RobotsVerdict {
    match outcome {
        Outcome::Answer(a) => match a.status {
            200..=299 => RobotsVerdict::Rules(Rules::parse(&a.body)),
            other => by_status(other, hops),
        },
        Outcome::Failure(f) => {
            if let Some(status) = f.status.filter(|s| !(200..=299).contains(s)) {
                return by_status(status, hops);
            }
            if hops > 0 {
                // The host itself answered; what it led to says nothing of its pages.
                return match f.reason {
                    Reason::BlockedAddress => RobotsVerdict::AllowAll,
                    _ => RobotsVerdict::Park { why: format!("robots.txt: {}: {}", f.reason, f.message) },
                };
            }
            match f.reason {
                // It came, and no line of it can be read (RFC 9309 2.3.1.1).
                Reason::DecodeError if f.headers_at.is_some() => RobotsVerdict::AllowAll,
                Reason::ConnClosed
                | Reason::ConnReset
                | Reason::FirstByteTimeout
                | Reason::BodyTruncated
                | Reason::BodyTimeout
                | Reason::SlowBody
                | Reason::ProtocolError
                | Reason::DecodeError
                | Reason::TooLarge
                    if crawl =>
                {
                    RobotsVerdict::Park { why: format!("robots.txt: {}: {}", f.reason, f.message) }
                }
                _ => RobotsVerdict::EntryFailure,
            }
        }
    }
}

fn by_status(status: u16, hops: u32) -> RobotsVerdict {
    match status {
        301 | 302 | 303 | 307 | 308 if hops < MAX_HOPS => RobotsVerdict::Redirect,
        // Google takes 429 for a server in trouble; Nutch too.
        429 | 500..=599 => RobotsVerdict::Park { why: format!("robots.txt: the server answered {status}") },
        _ => RobotsVerdict::AllowAll,
    }
}

/// How long a parked host waits before its robots.txt is asked for again: 1, 5, 30, 30… minutes; `asked` is how often it was asked
/// for in this run, from 1. `host_give_up` and a longer hold are the engine's.
#[must_use]
pub fn reask(asked: u32) -> Duration {
    Duration::from_secs(match asked {
        0 | 1 => 60,
        2 => 300,
        _ => 1800,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::model::{Answer, Failure, Sent};
    use url::Url;

    fn status(status: u16) -> Outcome {
        Outcome::Answer(Answer {
            status,
            headers: http::HeaderMap::new(),
            body: b"User-agent: *\nDisallow: /x".to_vec(),
            headers_at: Moment::ZERO,
            remote: None,
            reused: false,
            wire_bytes: 0,
            warnings: Vec::new(),
        })
    }

    fn short(v: &RobotsVerdict) -> &'static str {
        match v {
            RobotsVerdict::Rules(_) => "rules",
            RobotsVerdict::AllowAll => "allow",
            RobotsVerdict::Park { .. } => "park",
            RobotsVerdict::EntryFailure => "entry",
            RobotsVerdict::Redirect => "redirect",
        }
    }

    #[test]
    fn statuses_decide_by_rfc_9309_and_429_is_a_server_in_trouble() {
        for (s, hops, want) in [
            (200, 0, "rules"),
            (204, 0, "rules"),
            (301, 0, "redirect"),
            (308, 4, "redirect"),
            (302, 5, "allow"),
            (300, 0, "allow"),
            (304, 0, "allow"),
            (401, 0, "allow"),
            (403, 0, "allow"),
            (404, 0, "allow"),
            (410, 0, "allow"),
            (429, 0, "park"),
            (500, 0, "park"),
            (503, 0, "park"),
            (999, 0, "allow"),
        ] {
            assert_eq!(short(&decide(&status(s), hops, false)), want, "{s}");
        }
        let RobotsVerdict::Rules(r) = decide(&status(200), 0, true) else { unreachable!() };
        assert!(!r.allows(&Url::parse("http://h/x").unwrap()));
    }

    #[test]
    fn failures_are_the_entrys_own_but_in_crawls_silence_and_breaks_park() {
        for (reason, crawl, list) in [
            (Reason::ConnectRefused, "entry", "entry"),
            (Reason::ConnectTimeout, "entry", "entry"),
            (Reason::DnsNxdomain, "entry", "entry"),
            (Reason::DnsServfail, "entry", "entry"),
            (Reason::TlsCert, "entry", "entry"),
            (Reason::TlsHandshake, "entry", "entry"),
            (Reason::BlockedAddress, "entry", "entry"),
            (Reason::LocalResource, "entry", "entry"),
            (Reason::ProxyUnreachable, "entry", "entry"),
            (Reason::FirstByteTimeout, "park", "entry"),
            (Reason::ConnReset, "park", "entry"),
            (Reason::ConnClosed, "park", "entry"),
            (Reason::BodyTruncated, "park", "entry"),
            (Reason::ProtocolError, "park", "entry"),
        ] {
            let f = Outcome::Failure(Failure { sent: Sent::Maybe, ..Failure::unsent(reason.clone(), "m") });
            assert_eq!((short(&decide(&f, 0, true)), short(&decide(&f, 0, false))), (crawl, list), "{reason}");
        }
        for (s, want) in [(404, "allow"), (503, "park"), (302, "redirect")] {
            let f = Outcome::Failure(Failure { status: Some(s), ..Failure::unsent(Reason::BodyTruncated, "m") });
            assert_eq!(short(&decide(&f, 0, false)), want, "{s}");
        }
    }

    #[test]
    fn a_parked_host_is_asked_again_after_1_5_and_30_minutes() {
        assert_eq!([1, 2, 3, 4].map(|n| reask(n).as_secs() / 60), [1, 5, 30, 30]);
    }
}
