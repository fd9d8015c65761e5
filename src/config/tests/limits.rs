//! `[limits]`, and what else says how fast a job may be.

use super::job;
use crate::config::{Hours, LimitKeyKind, LimitPlan, LimitsPlan};
use crate::model::Rate;
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

#[test]
fn more_limits_are_read_and_tables_of_one_name_are_one() {
    let text = "[[limit]]\nname = \"search\"\nmatch = { method = \"get\", host = \"API.*.Example.com.\", path = \"/search/**\" }\nrate = [\"30/minute\", \"500/hour\"]\nkey = \"credential\"\nburst = 3\nweight = 2\nconcurrency = 4\n[[limit]]\nname = \"all\"\nconcurrency = 1\nrate = \"off\"\n[[limit]]\nname = \"search\"\nmatch = { method = [\"POST\", \"delete\"] }\nweight = 30\n";
    let more = job(text).ok().plan.limits.more;
    let rate = |count, secs| Rate { count, per: Duration::from_secs(secs) };
    assert_eq!(
        more[0],
        LimitPlan {
            name: "search".into(),
            methods: vec!["GET".into()],
            host: Some("api.*.example.com".into()),
            path: Some("/search/**".into()),
            rates: vec![rate(30, 60), rate(500, 3600)],
            key: LimitKeyKind::Credential,
            burst: Some(3),
            weight: 2,
            concurrency: Some(4),
        }
    );
    let bare = LimitPlan {
        name: "all".into(),
        methods: Vec::new(),
        host: None,
        path: None,
        rates: Vec::new(),
        key: LimitKeyKind::Host,
        burst: None,
        weight: 1,
        concurrency: Some(1),
    };
    assert_eq!(more[1], bare);
    let methods = vec!["POST".into(), "DELETE".into()];
    assert_eq!(more[2], LimitPlan { name: "search".into(), methods, key: LimitKeyKind::Credential, weight: 30, concurrency: None, ..bare });
}

#[test]
fn hosts_of_a_match_are_written_as_dns_and_whatwg_have_them() {
    let host = |text: &str| {
        job(&format!("[[limit]]\nname = \"a\"\nconcurrency = 1\nmatch.host = \"{text}\"\n")).ok().plan.limits.more[0].host.clone().unwrap()
    };
    for (text, read) in [
        ("Example.ORG.", "example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[::1]", "[::1]"),
        ("0:0::1", "[::1]"),
        ("127.1", "127.0.0.1"),
        ("a_b.example", "a_b.example"),
        ("{a,b}.example", "{a,b}.example"),
    ] {
        assert_eq!(host(text), read);
    }
}

/// What the last of the lines after `[[limit]]` says wrong, with the whole job in front.
#[test]
fn wrong_tables_of_limits_are_told_with_their_line() {
    for (more, wanted) in [
        ("rate = \"1/s\"", "x.toml:2:1: limit[0]: has no name: set name = \"…\", by which it is shown"),
        (
            "name = \"a b\"\nrate = \"1/s\"",
            "x.toml:3:8: limit[0].name: \"a b\" is no name: up to 64 letters, digits, `.`, `_` and `-`, no mark in front",
        ),
        ("name = \"a\"", "x.toml:2:1: limit[0]: limits nothing: set rate = \"30/minute\" or concurrency = 4"),
        ("name = \"a\"\nrate = []", "x.toml:2:1: limit[0]: limits nothing: set rate = \"30/minute\" or concurrency = 4"),
        ("name = \"a\"\nrate = \"off\"", "x.toml:2:1: limit[0]: limits nothing: set rate = \"30/minute\" or concurrency = 4"),
        (
            "name = \"a\"\nrate = \"1\"",
            "x.toml:4:8: limit[0].rate: \"1\" is no rate: write a number and a window, like \"5000/hour\", \"10/second\", \"100/15m\" or \"1/2s\"",
        ),
        ("name = \"a\"\nrate = \"5/s\"\nkey = \"hots\"", "x.toml:5:7: limit[0].key: \"hots\" is not known; did you mean \"host\"?"),
        (
            "name = \"a\"\nrate = [\"9/s\", \"5/m\"]\nburst = 5",
            "x.toml:5:9: limit[0].burst: 5 at once is no less than the rate 5/minute: a burst has to be below each rate's count",
        ),
        ("name = \"a\"\nconcurrency = 2\nburst = 5", "x.toml:5:9: limit[0].burst: is how many of a rate go at once, and there is no rate"),
        ("name = \"a\"\nconcurrency = 0", "x.toml:4:15: limit[0].concurrency: 0 is not between 1 and 10000"),
        (
            "name = \"a\"\nrate = [\"9/s\", \"5/m\"]\nweight = 6",
            "x.toml:5:10: limit[0].weight: 6 is more than the rate 5/minute lets through: at most 5",
        ),
        (
            "name = \"a\"\nconcurrency = 2\nweight = 2",
            "x.toml:5:10: limit[0].weight: is what a request takes of a rate, and there is no rate",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nweight = 9\n[limits]\nreserve = \"1%\"",
            "x.toml:5:10: limit[0].weight: 9 is more than [limits] reserve leaves of the rate 9/second",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\n[limits]\nreserve = \"95%\"",
            "x.toml:2:1: limit[0].weight: 1 is more than [limits] reserve leaves of the rate 9/second",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.method = []",
            "x.toml:5:16: limit[0].match.method: is an empty list: leave it out for every method",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.method = [\"GET\", \"G T\"]",
            "x.toml:5:16: limit[0].match.method: \"G T\" is no HTTP method",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"\"",
            "x.toml:5:14: limit[0].match.host: is empty: write a host name like \"api.example.com\" or \"*.example.org\"",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"https://a/\"",
            "x.toml:5:14: limit[0].match.host: \"https://a/\" is more than a host name: leave scheme and path out",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"a:80\"",
            "x.toml:5:14: limit[0].match.host: \"a:80\" has a port: a server is one by its host name, whatever the port",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"a b\"",
            "x.toml:5:14: limit[0].match.host: \"a b\" is no host name: invalid international domain name",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"{a\"",
            "x.toml:5:14: limit[0].match.host: \"{a\" is no glob: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.host = \"ü*.example\"",
            "x.toml:5:14: limit[0].match.host: \"ü*\" is half a glob and half a name that DNS writes in another way: write it as xn--…",
        ),
        ("name = \"a\"\nrate = \"9/s\"\nmatch.path = \"\"", "x.toml:5:14: limit[0].match.path: is empty: leave it out for every path"),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.path = \"search/**\"",
            "x.toml:5:14: limit[0].match.path: \"search/**\" matches no path: a path begins with `/`, like \"/search/**\"",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\nmatch.path = \"/a[\"",
            "x.toml:5:14: limit[0].match.path: \"/a[\" is no glob: unclosed character class; missing ']'",
        ),
        (
            "name = \"a\"\nrate = \"9/s\"\n[[limit]]\nname = \"a\"\nweight = 10",
            "x.toml:7:10: limit[1].weight: 10 is more than the rate 9/second lets through: at most 9",
        ),
    ] {
        assert_eq!(job(&format!("[[limit]]\n{more}\n")).errors(), [wanted], "{more}");
    }
    let later =
        "[[limit]]\nname = \"a\"\nrate = \"9/s\"\n[[limit]]\nname = \"a\"\nrate = \"1/s\"\nkey = \"job\"\nburst = 2\nconcurrency = 3\n";
    let why = "belongs to the first [[limit]] named \"a\", at line 2: the others say what matches and its weight";
    assert_eq!(
        job(later).errors(),
        [
            format!("x.toml:7:8: limit[1].rate: {why}"),
            format!("x.toml:8:7: limit[1].key: {why}"),
            format!("x.toml:9:9: limit[1].burst: {why}"),
            format!("x.toml:10:15: limit[1].concurrency: {why}"),
        ]
    );
}
