//! `[[host]]`.

use super::job;
use crate::config::{HeaderValue, HostPlan, ProxyPlan, UserAgent, explain_text};
use crate::model::Rate;
use std::time::Duration;

#[test]
fn overrides_of_hosts_are_read() {
    let text = "[[host]]\nmatch = \"*.Example.org\"\nrate = [\"10/minute\", \"1/s\"]\nper_host = 2\ndelay = \"1s\"\ngroup = \"one-server\"\nheaders = { Accept = \"a\", X-Page = \"{{url}}\" }\nuser_agent = \"browser\"\nproxy = [\"p:1\", \"socks5://q\"]\nrobots = \"ignore\"\nretry = { attempts = 3, max_backoff = \"5s\" }\ntimeout = { first_byte = \"7s\", total = \"9s\" }\n[[host]]\nmatch = \"b.example\"\nrate = \"off\"\nproxy = \"off\"\nrobots = \"obey\"\nretry.backoff = \"2s\"\n[[host]]\nmatch = \"c.example\"\nburst = 3\n[limits]\nrate = \"4/s\"\n";
    let hosts = job(text).ok().plan.hosts;
    let (secs, a) = (Duration::from_secs, &hosts[0]);
    let rates = vec![Rate { count: 10, per: secs(60) }, Rate { count: 1, per: secs(1) }];
    assert_eq!((a.pattern.as_str(), a.rates.as_ref(), a.burst), ("*.example.org", Some(&rates), None));
    assert_eq!((a.per_host, a.delay, a.group.as_deref()), (Some(2), Some(secs(1)), Some("one-server")));
    assert!(
        matches!(&a.headers[..], [(n, HeaderValue::Text(_)), (m, HeaderValue::Text(t))] if n == "Accept" && m == "X-Page" && t.names() == ["url"])
    );
    assert_eq!((a.user_agent.as_ref(), a.robots), (Some(&UserAgent::Browser), Some(false)));
    assert_eq!(a.proxy, Some(ProxyPlan::List(vec!["http://p:1".into(), "socks5://q".into()])));
    assert_eq!((a.attempts, a.backoff, a.max_backoff), (Some(3), None, Some(secs(5))));
    assert_eq!(a.timeouts, [None, Some(secs(7)), None, Some(secs(9))]);
    let b = &hosts[1];
    assert_eq!((b.rates.as_deref(), b.proxy.as_ref(), b.robots), (Some([].as_slice()), Some(&ProxyPlan::Off), Some(true)));
    assert_eq!((b.attempts, b.backoff, b.max_backoff, b.timeouts), (None, Some(secs(2)), None, [None; 4]));
    let bare = HostPlan { pattern: "c.example".into(), burst: Some(3), ..HostPlan::default() };
    assert_eq!(format!("{:?}", hosts[2]), format!("{bare:?}"));
    assert!(job("host = \"off\"").ok().plan.hosts.is_empty());
}

#[test]
fn wrong_overrides_are_told_with_their_line() {
    for (more, wanted) in [
        ("delay = \"1s\"", "x.toml:2:1: host[0]: does not say which hosts: set match = \"api.example.com\" or \"*.example.org\""),
        ("match = \"a\"", "x.toml:2:1: host[0]: changes nothing: say what differs for these hosts, like delay = \"1s\""),
        (
            "match = \"a:80\"\ndelay = \"1s\"",
            "x.toml:3:9: host[0].match: \"a:80\" has a port: a server is one by its host name, whatever the port",
        ),
        ("match = \"*[\"\ndelay = \"1s\"", "x.toml:3:9: host[0].match: \"*[\" is no glob: unclosed character class; missing ']'"),
        (
            "match = \"a\"\ndelay = 1",
            "x.toml:4:9: host[0].delay: \"1\" is no duration: write a number and a unit, like \"250ms\", \"10s\", \"15m\", \"8h\" or \"2d\"",
        ),
        (
            "match = \"a\"\nrate = \"x\"",
            "x.toml:4:8: host[0].rate: \"x\" is no rate: write a number and a window, like \"5000/hour\", \"10/second\", \"100/15m\" or \"1/2s\"",
        ),
        ("match = \"a\"\nburst = 3", "x.toml:4:9: host[0].burst: is how many of a rate go at once, and there is no rate"),
        ("match = \"a\"\nburst = \"off\"", "x.toml:4:9: host[0].burst: wants a whole number, not text"),
        (
            "match = \"a\"\nrate = \"9/s\"\nburst = 9",
            "x.toml:5:9: host[0].burst: 9 at once is no less than the rate 9/second: a burst has to be below each rate's count",
        ),
        (
            "match = \"a\"\nburst = 9\n[limits]\nrate = \"8/s\"",
            "x.toml:4:9: host[0].burst: 9 at once is no less than the rate 8/second: a burst has to be below each rate's count",
        ),
        (
            "match = \"a\"\nrate = \"9/s\"\n[limits]\nrate = \"80/s\"\nburst = 9",
            "x.toml:4:8: host[0].rate: 9/second is no more than the burst of [limits], 9: set burst here too, below the rate's count",
        ),
        (
            "match = \"a\"\nrate = \"9/s\"\n[limits]\nreserve = \"90%\"",
            "x.toml:4:8: host[0].rate: [limits] reserve leaves less than one request of the rate 9/second",
        ),
        ("match = \"a\"\nper_host = 0", "x.toml:4:12: host[0].per_host: 0 is not between 1 and 10000"),
        (
            "match = \"a\"\ngroup = \"a b\"",
            "x.toml:4:9: host[0].group: \"a b\" is no name: up to 64 letters, digits, `.`, `_` and `-`, no mark in front",
        ),
        ("match = \"a\"\nheaders = { \"a b\" = \"x\" }", "x.toml:4:21: host[0].headers.a b: is no header name: letters, digits and `-`"),
        ("match = \"a\"\nheaders = { Host = \"x\" }", "x.toml:4:20: host[0].headers.Host: gleaner sets this header itself"),
        (
            "match = \"a\"\nheaders = { a = \"{{id}}\" }",
            "x.toml:4:17: host[0].headers.a: there is no column \"id\": the job has no input file",
        ),
        ("match = \"a\"\nuser_agent = \"\"", "x.toml:4:14: host[0].user_agent: is empty: name your program and a contact"),
        ("match = \"a\"\nproxy = \"ftp://h\"", "x.toml:4:9: host[0].proxy: the scheme \"ftp\" is none of http, https, socks5, socks5h"),
        ("match = \"a\"\nrobots = \"no\"", "x.toml:4:10: host[0].robots: \"no\" is not known: write \"obey\" or \"ignore\""),
        ("match = \"a\"\nretry = { attempts = 0 }", "x.toml:4:22: host[0].retry.attempts: 0 is not between 1 and 1000"),
        ("match = \"a\"\nretry = { budget = \"1%\" }", "x.toml:4:11: host[0].retry.budget: unknown key; `budget` belongs into [limits]"),
        (
            "match = \"a\"\nretry = { backoff = \"2m\" }",
            "x.toml:4:21: host[0].retry.backoff: backoff is longer than the max_backoff of [retry]",
        ),
        (
            "match = \"a\"\nretry = { max_backoff = \"1ms\" }",
            "x.toml:4:25: host[0].retry.max_backoff: the backoff of [retry] is longer than this max_backoff",
        ),
        (
            "match = \"a\"\nretry = { backoff = \"2s\", max_backoff = \"1s\" }",
            "x.toml:4:21: host[0].retry.backoff: backoff is longer than max_backoff",
        ),
        ("match = \"a\"\ntimeout = { idle = \"0s\" }", "x.toml:4:20: host[0].timeout.idle: must be longer than 0s"),
        ("match = \"a\"\ntimeout = { idel = \"1s\" }", "x.toml:4:13: host[0].timeout.idel: unknown key; did you mean `idle`?"),
        (
            "match = \"a.b\"\ndelay = \"1s\"\n[[host]]\nmatch = \"A.B.\"\nrate = \"1/s\"",
            "x.toml:6:9: host[1].match: \"a.b\" stands at line 2 already: say all of it in one table",
        ),
    ] {
        assert_eq!(job(&format!("[[host]]\n{more}\n")).errors(), [wanted], "{more}");
    }
}

#[test]
fn secrets_of_hosts_are_in_the_plan_and_in_nothing_that_is_shown() {
    let text = "[[host]]\nmatch = \"a\"\nheaders = { X-Key = \"${env:CANARY}\", Cookie = \"canary-cookie\" }\nproxy = [\"http://u:${env:CANARY}@p:1\", \"u:canary-plain@q:2\"]\n";
    let job = job(text).env("CANARY", "canary@1");
    let loaded = job.ok();
    let explain = explain_text(&loaded.explain, Some(&job.path()));
    assert!(explain.contains("host[0].headers.X-Key = \"${env:CANARY}\"") && !explain.contains("canary"), "{explain}");
    let host = &loaded.plan.hosts[0];
    assert!(matches!(&host.headers[0].1, HeaderValue::Secret(s) if s.reveal() == "canary@1"));
    assert_eq!(host.proxy, Some(ProxyPlan::List(vec!["http://u:canary%401@p:1".into(), "http://u:canary-plain@q:2".into()])));
    assert!(!format!("{:?}", (&host.proxy, &host.headers[0])).contains("canary"));
    let stray = super::job("[[host]]\nmatch = \"${env:K}\"\nuser_agent = \"${env:K}\"\n").env("K", "k").errors();
    assert!(stray.iter().filter(|e| e.contains("has its place in")).count() == 2, "{stray:?}");
}
