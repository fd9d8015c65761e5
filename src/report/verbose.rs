//! `--verbose`: one aligned line for each connection, attempt, retry, hold and wait.

use crate::events::{Event, thousands};
use crate::report::text::{count, show_bytes, show_ms};
use std::time::Duration;

/// The line for an event at `since` the run's start; `None` for what is told otherwise.
#[must_use]
pub(crate) fn verbose_line(event: &Event, since: Duration) -> Option<String> {
    let (word, rest) = match event {
        Event::Connected { host, remote } => {
            ("connect", format!("{host}{}", remote.as_ref().map_or(String::new(), |r| format!(" at {r}"))))
        }
        Event::Attempted { row, url, attempt, outcome, status, ms, bytes, remote: _, message } => {
            let status = status.map_or("---".to_owned(), |s| s.to_string());
            let size = if *bytes > 0 { show_bytes(*bytes) } else { String::new() };
            let why = message.as_ref().map_or(String::new(), |m| format!("  ({m})"));
            // A robots.txt belongs to no record.
            let row = if *row == 0 { format!("{:<10}", "robots.txt") } else { format!("row {row:<6}") };
            ("attempt", format!("{row} try {attempt:<2} {status} {outcome:<18} {:>7} {size:>8}  {url}{why}", show_ms(*ms)))
        }
        Event::RetryScheduled { row, url, reason, wait_ms, charged } => {
            let free = if *charged { "" } else { ", not charged" };
            ("retry", format!("row {row:<6} in {} after {reason}{free}  {url}", show_ms(*wait_ms)))
        }
        Event::HoldBegan { key, wait_ms, status, from, .. } => ("hold", format!("{key} for {} ({status}, {from})", show_ms(*wait_ms))),
        Event::Waiting { why, wait_ms, .. } => ("wait", format!("{} for {why}", show_ms(*wait_ms))),
        Event::HostParked { host, why, wait_ms } => ("park", format!("{host} ({why}), asked again in {}", show_ms(*wait_ms))),
        Event::HostBack { host } => ("back", host.clone()),
        Event::Settled { row, url, fate, rows, message } => {
            let rows = if fate == "result" { format!(", {}", count(*rows, "row", "rows")) } else { String::new() };
            let why = message.as_ref().map_or(String::new(), |m| format!("  ({m})"));
            ("settle", format!("row {row:<6} {fate}{rows}  {url}{why}"))
        }
        Event::RunStarted { job, pending, .. } => ("start", format!("{job}, {} pending", thousands(*pending))),
        Event::Notice { .. } | Event::Warned { .. } | Event::Committed { .. } | Event::Stopping { .. } | Event::RunEnded { .. } => {
            return None;
        }
    };
    Some(format!("{:>9.3}s {word:<8} {rest}", since.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_line_up_under_each_other() {
        let at = |ms, status, outcome: &str, message: Option<&str>| {
            let event = Event::Attempted {
                row: 7,
                url: "http://h/a".into(),
                attempt: 1,
                outcome: outcome.into(),
                status,
                ms,
                bytes: 1536,
                remote: None,
                message: message.map(str::to_owned),
            };
            verbose_line(&event, Duration::from_millis(1234)).unwrap()
        };
        let (a, b) = (at(45, Some(200), "ok", None), at(2000, None, "connect-timeout", Some("no answer")));
        assert_eq!(a, "    1.234s attempt  row 7      try 1  200 ok                    45ms  1.5 KiB  http://h/a");
        assert_eq!(a.find("http://"), b.find("http://"), "{a}\n{b}");
        assert!(b.ends_with("(no answer)"));
    }
}
