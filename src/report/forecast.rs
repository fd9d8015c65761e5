//! `plan`: what a run would do, for people.

use crate::clock::Wall;
use crate::engine::forecast::{Binds, Forecast, Held, Hold, Hosts, QuotaUse, Spent};
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
    text_in(&TimeZone::system(), f, again)
}

fn text_in(zone: &TimeZone, f: &Forecast, again: &str) -> String {
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
            section("finish", finish(f, zone));
            section("held by", f.held.iter().map(held).chain(free(f)).collect());
            section("quota", f.quotas.iter().map(|q| quota(q, f)).chain(reserve(f)).collect());
            section("spent", f.spent.iter().map(spent).collect());
            section("hours", f.assumed.hours.iter().map(|h| format!("requests are sent {h} only")).collect());
        }
        section("holds", f.holds.iter().map(|h| hold(h, f.start, zone)).collect());
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
        lines.push(format!("{} left out (bad-input)", count(i.bad, "record without an address is", "records without an address are")));
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
    if let Some((most, cap)) = f.growth.as_ref().and_then(|g| g.at_most.zip(g.cap)) {
        let bound = if cap == "pages.stop" { "[pages] stop, where pages are full" } else { key_of(cap) };
        lines.push(format!("at most {} by {bound}", thousands(most)));
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
            format!("in about {} ({})", show_seconds(seconds), clock(at, f.start, zone))
        }
    };
    let known = if f.growth.is_some() { format!("of the {} that are known ", thousands(t.requests)) } else { String::new() };
    let mut lines = vec![format!("{known}{}, if every answer takes {answer}", when(t.lasts_s, t.finish))];
    if t.simulated < t.requests {
        lines.push(format!("the first {} requests were run in virtual time, the others go on at that pace", thousands(t.simulated)));
    }
    if t.ends != "done" {
        let key = key_of(t.ends);
        lines.push(format!("{key} ends the run then, after {}", count(t.requests, "request", "requests")));
    }
    if let Some(g) = &f.growth {
        let by = g.held_by.as_ref().map(|by| format!(" ({})", what(by))).unwrap_or_default();
        lines.push(format!("each further 1,000 requests take about {}{by}", show_seconds(g.thousand_more_s)));
        if let (Some(most), Some(lasts), Some(at)) = (g.at_most, g.at_most_lasts_s, g.at_most_finish) {
            lines.push(format!("all {} on these hosts: {}", thousands(most), when(lasts, at)));
        }
    }
    lines
}

/// A cap as the job file has it.
fn key_of(cap: &str) -> &'static str {
    match cap {
        "max_pages" => "[crawl] max_pages",
        "requests" => "[stop] requests",
        "results" => "[stop] results",
        _ => "[stop] time",
    }
}

fn what(by: &Binds) -> String {
    let name = |limit: &Option<String>| limit.as_ref().map(|n| format!("{} ", printable(n))).unwrap_or_default();
    match by {
        Binds::Rate { limit, count, per_s } => format!("{}{}", name(limit), rate(*count, *per_s)),
        Binds::Concurrency { limit, most } => format!("{}concurrency {most}", name(limit)),
        Binds::Hold => "a hold".to_owned(),
        Binds::Probe => "first answers after a hold".to_owned(),
        Binds::PerHost { most } => format!("per_host {most}"),
        Binds::Delay { delay_ms } => format!("delay {}", show_duration(Duration::from_millis(*delay_ms))),
        Binds::Workers { most } => format!("workers {most}"),
        Binds::RobotsTxt => "the answer to robots.txt".to_owned(),
        Binds::Hours => "hours".to_owned(),
    }
}

fn held(h: &Held) -> String {
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
    format!("{}{whose}: {}{span}", what(&h.by), count(h.requests, "request", "requests"))
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

fn spent(s: &Spent) -> String {
    let name = s.limit.as_ref().map(|n| format!("{} ", printable(n))).unwrap_or_default();
    format!("{} of {name}{} at {} already", thousands(u64::from(s.spent)), rate(s.count, s.per_s), printable(&s.key))
}

fn reserve(f: &Forecast) -> Option<String> {
    f.assumed.reserve.map(|r| format!("{} of each quota is left for others (reserve)", percent(r)))
}

fn hold(h: &Hold, now: Wall, zone: &TimeZone) -> String {
    let limit = h.limit.as_ref().map(|l| format!("{} of ", printable(l))).unwrap_or_default();
    let beyond = if h.beyond_max_wait { "; longer than max_wait: where nothing else is left the run ends with 75" } else { "" };
    format!("{limit}{}: nothing is sent before {}{beyond}", printable(&h.key), clock(h.until, now, zone))
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
        (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("%H:%M %Z today").to_string(),
        (Ok(at), Ok(_)) => at.strftime("%A %Y-%m-%d %H:%M %Z").to_string(),
        _ => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::forecast::{Assumed, Growth, HostLoad, InputTold, Requests, StateTold, Time};

    fn held(by: Binds, requests: u64, key: Option<&str>, (from_s, until_s): (f64, f64)) -> Held {
        Held { by, requests, keys: u64::from(key.is_some()), key: key.map(Into::into), from_s, until_s }
    }

    fn forecast() -> Forecast {
        // 2026-01-10, nine in the evening in Berlin
        let start = Wall(1_768_075_200_000);
        let search = || Some("search".to_owned());
        Forecast {
            job: "repos".into(),
            start,
            state: Some(StateTold { results: 5000, skipped: 12, pending: 6988, finished: false, pid: Some(42), running: true }),
            input: InputTold {
                file: Some("repos.csv".into()),
                records: 5029,
                bad: 3,
                first_bad: Some("repos.csv:17: the address has no host".into()),
                repeated: 14,
                repeated_exact: false,
                complete: true,
                ..InputTold::default()
            },
            requests: Requests { total: 12_001, addresses: 12_000, robots: 1, more: Vec::new() },
            hosts: crate::engine::forecast::Hosts {
                count: 12,
                exact: true,
                top: vec![
                    HostLoad { host: "https://api.example.com".into(), addresses: 10_000, robots: false },
                    HostLoad { host: "http://h\u{1b}[2J:81".into(), addresses: 1500, robots: true },
                ],
                others: 500,
            },
            assumed: Assumed {
                answer_ms: 200,
                workers: 64,
                arrival_ms: Some(1000),
                reserve: Some(0.2),
                budget: Some("github".into()),
                hours: Some("22:00-06:00 Europe/Berlin".into()),
            },
            time: Time {
                requests: 12_001,
                first_minute: 0,
                first_hour: 0,
                lasts_s: 100_000.0,
                finish: start.plus(Duration::from_secs(100_000)),
                simulated: 12_001,
                ends: "done",
            },
            held: vec![
                held(Binds::Rate { limit: search(), count: 30, per_s: 60.0 }, 11_000, Some("api.example.com"), (3600.0, 100_000.0)),
                held(Binds::Workers { most: 64 }, 1000, None, (3600.0, 3600.5)),
            ],
            free: 1,
            growth: None,
            quotas: vec![QuotaUse {
                limit: search(),
                count: 30,
                per_s: 60.0,
                own: 24,
                usable: 0.959,
                without_arrival: Some(0.5),
                with_arrival_1s: None,
            }],
            spent: vec![Spent { limit: search(), key: "api.example.com".into(), count: 30, per_s: 60.0, spent: 12 }],
            holds: vec![Hold {
                limit: None,
                key: "api.example.com".into(),
                until: start.plus(Duration::from_mins(5)),
                beyond_max_wait: false,
            }],
        }
    }

    fn text(f: &Forecast) -> String {
        text_in(&TimeZone::get("Europe/Berlin").unwrap(), f, "gleaner run repos.toml")
    }

    #[test]
    fn a_plan_reads_from_the_list_to_the_finish() {
        assert_eq!(
            text(&forecast()),
            "\
job          repos
state        5,012 entries done, 6,988 pending, a run is on now (pid 42)
             counted is what is pending and what was not read yet
input        repos.csv: 5,029 records not read before
             3 records without an address are left out (bad-input)
             the first: repos.csv:17: the address has no host
             about 14 repeated addresses are left out (duplicate, estimated from a sample)
requests     12,001: 12,000 addresses, 1 robots.txt
hosts        api.example.com  10,000
             h\\u{1b}[2J:81     1,500
             10 others           500
sends        0 in the first minute, 0 in the first hour
finish       in about 1d 3h (Monday 2026-01-12 00:46 CET), if every answer takes 200ms
held by      search 30/minute at api.example.com: 11,000 requests, from 1h to 1d 3h
             workers 64: 1,000 requests
             nothing: 1 request
quota        95% of search 24/minute can be used at answers of 200ms (50% without arrival)
             20% of each quota is left for others (reserve)
spent        12 of search 30/minute at api.example.com already
hours        requests are sent 22:00-06:00 Europe/Berlin only
holds        api.example.com: nothing is sent before 21:05 CET today
not counted  retries, redirects, and refusals of the server
             what others spend of the budget github
nothing was sent; run it with: gleaner run repos.toml
"
        );
    }

    #[test]
    fn what_nobody_knows_yet_is_said() {
        let mut f = forecast();
        f.requests = Requests { total: 2, addresses: 1, robots: 1, more: vec!["links"] };
        f.time = Time { requests: 2, first_minute: 2, first_hour: 2, lasts_s: 1.2, finish: f.start, simulated: 2, ends: "done" };
        f.growth = Some(Growth {
            thousand_more_s: 1000.0,
            held_by: Some(Binds::Delay { delay_ms: 1000 }),
            at_most: Some(501),
            at_most_lasts_s: Some(500.2),
            at_most_finish: Some(f.start),
            cap: Some("max_pages"),
        });
        let text = text(&f);
        for line in [
            "requests     at least 2: 1 address, 1 robots.txt\n",
            "  at most 501 by [crawl] max_pages\n",
            "finish       of the 2 that are known in about 1.2s (",
            "  each further 1,000 requests take about 16m 40s (delay 1s)\n",
            "  all 501 on these hosts: in about 8m 20s (",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_century_is_enough() {
        let mut f = forecast();
        f.time.lasts_s = 4e9;
        assert!(text(&f).contains("not within a hundred years"));
    }
}
