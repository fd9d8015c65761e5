//! `plan`: what a run would do, for people.

use crate::clock::Wall;
use crate::engine::forecast::{Binds, Forecast, Held, Hosts, QuotaUse};
use crate::events::thousands;
use crate::model::{Rate, printable, show_duration};
use crate::report::text::{count, show_seconds, table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::time::Duration;

/// Beyond this nobody plans.
const YEARS: f64 = 99.0 * 365.0 * 86_400.0;

/// The report for people; `again` is the command that runs the job.
#[must_use]
pub fn forecast_text(f: &Forecast, again: &str) -> String {
    let zone = TimeZone::system();
    let mut rows: Vec<Vec<String>> = Vec::new();
    {
        let mut section = |name: &str, lines: Vec<String>| {
            for (i, line) in lines.into_iter().enumerate() {
                rows.push(vec![if i == 0 { name.to_owned() } else { String::new() }, line]);
            }
        };
        section("job", vec![printable(&f.job)]);
        section("state", state(f));
        section("input", input(f));
        section("requests", requests(f));
        section("hosts", hosts(&f.hosts));
        if f.requests.total > 0 {
            section("sends", vec![first(f)]);
            section("finish", finish(f, &zone));
            section("held by", f.held.iter().map(held).chain(free(f)).collect());
            section("quota", f.quotas.iter().map(|q| quota(q, f)).chain(reserve(f)).collect());
            section("hours", f.assumed.hours.iter().map(|h| format!("requests are sent {h} only")).collect());
        }
        section("holds", f.holds.iter().map(|h| hold(h, f.start, &zone)).collect());
        section("not counted", not_counted(f));
    }
    let mut text = table(&rows);
    let _ = writeln!(text, "nothing was sent; run it with: {again}");
    text
}

fn state(f: &Forecast) -> Vec<String> {
    let Some(s) = &f.state else { return vec!["none: the job has not run yet".to_owned()] };
    let done = s.results + s.skipped;
    let mut line = format!("{} done, {} pending", count(done, "entry", "entries"), thousands(s.pending));
    if s.running {
        line.push_str(", a run is on now");
        if let Some(pid) = s.pid {
            let _ = write!(line, " (pid {pid})");
        }
    }
    let mut lines = vec![line];
    if s.finished && f.requests.total == 0 {
        lines.push("the job is done: a run would send nothing".to_owned());
    } else {
        lines.push("counted is what is pending and what was not read yet".to_owned());
    }
    if s.running {
        lines.push("what the run that is on has spent of its limits is not known here".to_owned());
    }
    lines
}

fn input(f: &Forecast) -> Vec<String> {
    let i = &f.input;
    let mut lines = Vec::new();
    if !i.complete {
        lines.push("standard input is a terminal and was not read: pipe the list into this command to have it counted".to_owned());
    } else if i.file.is_some() || i.records > 1 {
        let file = i.file.as_ref().map_or(String::new(), |file| format!("{}: ", printable(&file.to_string_lossy())));
        let read = if f.state.is_some() { "not read before" } else { "read to the end" };
        lines.push(format!("{file}{} {read}", count(i.records, "record", "records")));
    }
    if i.bad > 0 {
        lines.push(format!(
            "{} no address to ask for (bad-input)",
            count(i.bad, "is", "are").replacen("is", "record is", 1).replacen("are", "records are", 1)
        ));
        lines.extend(i.first_bad.iter().map(|m| format!("the first: {}", printable(m))));
    }
    if i.repeated > 0 {
        let about = if i.repeated_exact { "" } else { "about " };
        let sample = if i.repeated_exact { "" } else { ", estimated from a sample" };
        lines.push(format!("{about}{} left out (duplicate{sample})", count(i.repeated, "repeated address is", "repeated addresses are")));
    }
    if i.warnings > 0 {
        lines.push(format!("{} of the reader: `check` and `run` tell", count(i.warnings, "warning", "warnings")));
    }
    lines.extend(i.notices.iter().map(|n| printable(n)));
    lines
}

fn requests(f: &Forecast) -> Vec<String> {
    let r = &f.requests;
    let parts = if r.robots == 0 {
        String::new()
    } else {
        format!(": {}, {} robots.txt", count(r.addresses, "address", "addresses"), thousands(r.robots))
    };
    let at_least = if r.more.is_empty() { "" } else { "at least " };
    let mut lines = vec![format!("{at_least}{}{parts}", thousands(r.total))];
    for why in &r.more {
        lines.push(match *why {
            "links" => "links are followed, and nobody knows yet how many there are".to_owned(),
            _ => "pages are turned, and nobody knows yet how many there are".to_owned(),
        });
    }
    if let Some(g) = &f.growth
        && let (Some(most), Some(cap)) = (g.at_most, g.cap)
    {
        let key = if cap == "max_pages" { "[crawl] max_pages" } else { "[pages] stop" };
        let full = if cap == "max_pages" { "" } else { ", where pages are full" };
        lines.push(format!("at most {} by {key}{full}", thousands(most)));
    }
    lines
}

fn hosts(h: &Hosts) -> Vec<String> {
    let name = |host: &str| printable(host.split_once("://").map_or(host, |(_, rest)| rest));
    let width = h.top.iter().map(|t| name(&t.host).chars().count()).max().unwrap_or(0);
    let digits = h.top.iter().map(|t| t.addresses).chain([h.others]).map(|n| thousands(n).len()).max().unwrap_or(0);
    let line = |host: &str, n: u64| format!("{host:width$}  {:>digits$}", thousands(n));
    let mut lines: Vec<String> = h.top.iter().map(|t| line(&name(&t.host), t.addresses)).collect();
    let more = h.count.saturating_sub(h.top.len() as u64);
    if more > 0 {
        let about = if h.exact { "" } else { "about " };
        lines.push(line(&format!("{about}{}", count(more, "other", "others")), h.others));
    }
    lines
}

fn first(f: &Forecast) -> String {
    let t = &f.time;
    if t.first_hour >= t.requests {
        if t.first_minute >= t.requests {
            "all in the first minute".to_owned()
        } else {
            format!("{} in the first minute, all in the first hour", thousands(t.first_minute))
        }
    } else {
        format!("{} in the first minute, {} in the first hour", thousands(t.first_minute), thousands(t.first_hour))
    }
}

fn finish(f: &Forecast, zone: &TimeZone) -> Vec<String> {
    let t = &f.time;
    let answer = show_duration(Duration::from_millis(f.assumed.answer_ms));
    let when = |seconds: f64, at: Wall| {
        if seconds > YEARS {
            "not within a hundred years".to_owned()
        } else {
            format!("in about {}, {}", show_seconds(seconds), clock(at, f.start, zone))
        }
    };
    let mut lines = vec![format!("{}, if every answer takes {answer}", when(t.lasts_s, t.finish))];
    if t.simulated < t.requests {
        lines.push(format!("the first {} requests were run in virtual time, the others go on at that pace", thousands(t.simulated)));
    }
    if t.ends != "done" {
        let key = if t.ends == "max_pages" { "[crawl] max_pages".to_owned() } else { format!("[stop] {}", t.ends) };
        lines.push(format!("{key} ends the run then, after {}", count(t.requests, "request", "requests")));
    }
    if let Some(g) = &f.growth {
        lines.push(format!("each further 1,000 requests take about {}", show_seconds(g.thousand_more_s)));
        if let (Some(most), Some(lasts), Some(at)) = (g.at_most, g.at_most_lasts_s, g.at_most_finish) {
            lines.push(format!("all {} on these hosts: {}", thousands(most), when(lasts, at)));
        }
    }
    lines
}

fn held(h: &Held) -> String {
    let name = |limit: &Option<String>| limit.as_ref().map(|n| format!("{} ", printable(n))).unwrap_or_default();
    let what = match &h.by {
        Binds::Rate { limit, count, per_s } => format!("{}{}", name(limit), rate(*count, *per_s)),
        Binds::Concurrency { limit, most } => format!("{}concurrency {most}", name(limit)),
        Binds::Hold => "a hold".to_owned(),
        Binds::Probe => "first answers after a hold".to_owned(),
        Binds::PerHost { most } => format!("per_host {most}"),
        Binds::Delay { delay_ms } => format!("delay {}", show_duration(Duration::from_millis(*delay_ms))),
        Binds::Workers { most } => format!("workers {most}"),
        Binds::RobotsTxt => "the answer to robots.txt".to_owned(),
        Binds::Hours => "hours".to_owned(),
    };
    let whose = match (&h.key, h.keys) {
        (Some(key), 1) => format!(" at {}", printable(key)),
        (Some(key), n) => format!(" at {} keys, most at {}", thousands(n), printable(key)),
        (None, _) => String::new(),
    };
    let span = if h.until_s - h.from_s < 1.0 {
        String::new()
    } else {
        format!(", from {} to {}", show_seconds(h.from_s), show_seconds(h.until_s))
    };
    format!("{what}{whose}: {}{span}", count(h.requests, "request", "requests"))
}

fn free(f: &Forecast) -> Option<String> {
    (f.free > 0).then(|| format!("nothing: {}", count(f.free, "request", "requests")))
}

fn quota(q: &QuotaUse, f: &Forecast) -> String {
    let name = q.limit.as_ref().map(|n| format!("{} ", printable(n))).unwrap_or_default();
    let answer = show_duration(Duration::from_millis(f.assumed.answer_ms));
    let mut line = format!("{} of {name}{} can be used at answers of {answer}", percent(q.usable), rate(q.own, q.per_s));
    if let Some(without) = q.without_arrival {
        let _ = write!(line, " ({} without arrival)", percent(without));
    }
    if let Some(with) = q.with_arrival_1s {
        let _ = write!(line, "; {} with [limits] arrival = \"1s\"", percent(with));
    }
    line
}

fn reserve(f: &Forecast) -> Option<String> {
    f.assumed.reserve.map(|r| format!("{} of each quota is left for others (reserve)", percent(r)))
}

fn hold(h: &crate::engine::forecast::Hold, now: Wall, zone: &TimeZone) -> String {
    let limit = h.limit.as_ref().map(|l| format!("{} of ", printable(l))).unwrap_or_default();
    let beyond = if h.beyond_max_wait { "; longer than max_wait: where nothing else is left the run ends with 75" } else { "" };
    format!("{limit}{}: nothing before {}{beyond}", printable(&h.key), clock(h.until, now, zone))
}

fn not_counted(f: &Forecast) -> Vec<String> {
    let mut lines = vec!["retries, redirects, and refusals of the server".to_owned()];
    if let Some(budget) = &f.assumed.budget {
        lines.push(format!("what others spend of the budget {}", printable(budget)));
    }
    lines
}

fn rate(count: u32, per_s: f64) -> String {
    Rate { count, per: Duration::try_from_secs_f64(per_s).unwrap_or_default() }.to_string()
}

fn percent(share: f64) -> String {
    format!("{:.0}%", (share * 100.0).floor().max(0.0))
}

/// A time of day, with its date where it is not of today.
fn clock(at: Wall, now: Wall, zone: &TimeZone) -> String {
    let zoned = |wall: Wall| Timestamp::from_millisecond(wall.0).map(|t| t.to_zoned_datetime(zone.clone()));
    match (zoned(at), zoned(now)) {
        (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("at %H:%M %Z today").to_string(),
        (Ok(at), Ok(_)) => at.strftime("on %A %Y-%m-%d at %H:%M %Z").to_string(),
        _ => at.to_string(),
    }
}
