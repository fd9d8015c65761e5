//! `[limits]`, and what else says how fast a job may be.

use super::job;
use crate::config::{Hours, LimitKeyKind, LimitsPlan};
use std::time::Duration;

fn limits(more: &str) -> LimitsPlan {
    job(&format!("[limits]\n{more}\n")).ok().plan.limits
}

/// The one error of `[limits]` with `more`, without its key.
fn wrong(more: &str) -> String {
    let errors = job(&format!("[limits]\n{more}\n")).errors();
    assert_eq!(errors.len(), 1, "{more}: {errors:?}");
    let key = more.rsplit('\n').next().unwrap().split(' ').next().unwrap();
    let line = 2 + more.lines().count();
    let place = format!("x.toml:{line}:{}: limits.{key}: ", key.len() + 4);
    errors[0].strip_prefix(&place).unwrap_or_else(|| panic!("{place} is not where {} is", errors[0])).to_owned()
}

#[test]
fn defaults_of_limits_are_those_of_the_plan() {
    let (read, own) = (limits(""), LimitsPlan::default());
    assert_eq!(format!("{read:?}"), format!("{own:?}"));
}

#[test]
fn limits_are_read() {
    let l =
        limits("rate = \"100/hour\"\njitter = true\nadapt = false\nreserve = \"12.5%\"\nbudget = \"Git.hub_2-x\"\narrival = \"1500ms\"");
    assert_eq!((l.jitter, l.adapt, l.reserve, l.budget.as_deref()), (true, false, 0.125, Some("Git.hub_2-x")));
    assert_eq!(l.arrival, Some(Duration::from_millis(1500)));
    for (word, kind) in [
        ("host", LimitKeyKind::Host),
        ("domain", LimitKeyKind::Domain),
        ("credential", LimitKeyKind::Credential),
        ("job", LimitKeyKind::Job),
    ] {
        assert_eq!(limits(&format!("key = \"{word}\"")).key, kind);
    }
}

#[test]
fn off_and_higher_layers_reach_the_new_limits_too() {
    let text = "[limits]\nrate = \"9/s\"\nreserve = \"50%\"\nbudget = \"b\"\narrival = \"1s\"\nhours = \"1:00-2:00\"\n";
    let job = job(text)
        .env("GLEANER_LIMITS__RESERVE", "off")
        .env("GLEANER_LIMITS__BUDGET", "2024")
        .env("GLEANER_LIMITS__JITTER", "true")
        .flag("limits.arrival", "off", "--set")
        .flag("limits.hours", "off", "--set");
    let loaded = job.ok();
    let l = loaded.plan.limits;
    assert_eq!((l.reserve, l.budget.as_deref(), l.jitter, l.arrival, l.hours), (0.0, Some("2024"), true, None, None));
    let shown = |key: &str| loaded.explain.iter().find(|s| s.key == key).unwrap().value.clone();
    assert_eq!((shown("limits.adapt"), shown("limits.hours"), shown("limits.jitter")), ("true".into(), "\"off\"".into(), "true".into()));
}

#[test]
fn hours_are_a_time_of_day_in_a_zone_that_there_is() {
    let hours = |text: &str| limits(&format!("hours = \"{text}\"")).hours.unwrap();
    let of = |from, until, zone: Option<&str>| Hours { from, until, zone: zone.map(str::to_owned) };
    assert_eq!(hours("22:00-06:00 Europe/Berlin"), of(1320, 360, Some("Europe/Berlin")));
    assert_eq!(hours(" 8:05-24:00 "), of(485, 0, None));
    assert_eq!(hours("00:00-12:30   america/new_york"), of(0, 750, Some("America/New_York")));
    assert_eq!(hours("00:00-23:59 UTC").zone.as_deref(), Some("UTC"));
}

#[test]
fn wrong_limits_are_told_with_the_cure() {
    let help = "write two times of day and, where they are not this machine's, a time zone, like \"22:00-06:00 Europe/Berlin\"";
    for hours in
        ["", "22:00", "22-06", "22:00-6", "24:00-06:00", "22:00-25:00", "22:60-23:00", "+1:00-02:00", "22:00 - 06:00", "-1:00-02:00"]
    {
        assert_eq!(wrong(&format!("hours = \"{hours}\"")), format!("{hours:?} are no hours: {help}"));
    }
    let name = "is no name: up to 64 letters, digits, `.`, `_` and `-`, no mark in front";
    let long = "a".repeat(65);
    for (more, wanted) in [
        ("jitter = \"yes\"", "wants true or false, without quotes, not text".to_owned()),
        ("adapt = 1", "wants true or false, without quotes, not a number".into()),
        ("key = \"token\"", "\"token\" is not known: write \"host\", \"domain\", \"credential\" or \"job\"".into()),
        ("key = \"credentials\"", "\"credentials\" is not known; did you mean \"credential\"?".into()),
        ("reserve = 10", "\"10\" is no share: write it like \"20%\"".into()),
        ("reserve = \"101%\"", "\"101%\" is not between 0% and 100%".into()),
        ("reserve = \"100%\"", "100% leaves nothing for this job: write a share below it".into()),
        ("rate = [\"10/s\", \"5/minute\"]\nreserve = \"81%\"", "leaves less than one request of the rate 5/minute".into()),
        ("budget = \"\"", format!("\"\" {name}")),
        ("budget = \"a b\"", format!("\"a b\" {name}")),
        ("budget = \"..\"", format!("\"..\" {name}")),
        ("budget = \"a/b\"", format!("\"a/b\" {name}")),
        (&format!("budget = \"{long}\""), format!("{long:?} {name}")),
        ("budget = [\"a\"]", "wants text in quotes, not a list".into()),
        ("budget = \"b\"", "shares [limits] rate, and there is none: set rate to what is shared".into()),
        ("arrival = \"0s\"", "must be longer than 0s".into()),
        (
            "arrival = \"soon\"",
            "\"soon\" is no duration: write a number and a unit, like \"250ms\", \"10s\", \"15m\", \"8h\" or \"2d\"".into(),
        ),
        ("hours = 22", "wants text in quotes, not a number".into()),
        ("hours = \"22:00-06:00 Europe/Berln\"", "\"Europe/Berln\" is no time zone: did you mean \"Europe/Berlin\"?".into()),
        (
            "hours = \"22:00-06:00 the moon\"",
            "\"the moon\" is no time zone: write a name of the IANA database, like \"Europe/Berlin\"".into(),
        ),
    ] {
        assert_eq!(wrong(more), wanted, "{more}");
    }
    assert!(limits("rate = \"5/minute\"\nreserve = \"80%\"").reserve > 0.79);
}
