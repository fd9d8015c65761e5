//! `[[host]]`: what differs for some hosts, as their servers see it.

use crate::support::{Gleaner, Job, Origin, Reply, Req, Step, ms, page};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Every name leads to the origin.
fn run(job: &Job, origin: &Origin) -> Gleaner {
    job.run().args(["--resolve", &format!("*:{}:127.0.0.1", origin.port)])
}

fn urls(origin: &Origin, host: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("http://{host}:{}/{i}", origin.port)).collect()
}

/// What arrived for a host, in order; its robots.txt too.
fn at(origin: &Origin, host: &str) -> Vec<Arc<Req>> {
    origin.log().into_iter().filter(|r| r.host().split(':').next() == Some(host)).collect()
}

fn gaps(of: &[Arc<Req>]) -> Vec<Duration> {
    of.windows(2).map(|w| w[1].at - w[0].at).collect()
}

fn echo() -> Origin {
    Origin::start(|r| Reply::ok(page(r.path())))
}

#[test]
fn headers_go_to_their_hosts_whatever_the_origin_rule_says_and_to_no_other() {
    let origin = Origin::start(|r| match r.path() {
        "/out" => Reply::redirect(302, &format!("http://{}/landed", r.host().replace("a.test", "b.test"))),
        "/in" => Reply::redirect(302, &format!("http://{}/landed", r.host().replace("b.test", "a.test"))),
        _ => Reply::ok(page("x")),
    });
    let job = Job::new()
        .set("input.file", "\"in.csv\"")
        .set("request.headers", r#"{ X-All = "all", X-Swap = "general" }"#)
        .table("host", "match = \"a.test\"\nheaders = { x-swap = \"own\", X-Id = \"n{{id}}\", X-Key = \"${env:CANARY}\" }")
        .table("host", "match = \"*.test\"\nheaders = { X-Id = \"wide\" }");
    let port = origin.port;
    job.file(
        "in.csv",
        format!("url,id\nhttp://a.test:{port}/out,1\nhttp://b.test:{port}/in,2\nhttp://b.test:{port}/plain,3\nhttp://c.org:{port}/,4\n"),
    );
    let ran = run(&job, &origin).env("CANARY", "canary-7").arg("--verbose").expect(0);
    let seen = |host: &str, path: &str| {
        let all = at(&origin, host);
        let r = all.iter().find(|r| r.path() == path).unwrap_or_else(|| panic!("{host}{path}"));
        ["x-all", "x-swap", "x-id", "x-key"].map(|n| r.header(n).unwrap_or("-").to_owned())
    };
    assert_eq!(seen("a.test", "/out"), ["all", "own", "n1", "canary-7"]);
    assert_eq!(seen("b.test", "/landed"), ["-", "-", "wide", "-"], "nothing of a.test's after a redirect");
    assert_eq!(seen("b.test", "/plain"), ["all", "general", "wide", "-"]);
    assert_eq!(seen("a.test", "/landed"), ["-", "own", "n2", "canary-7"], "by the pattern, wherever it came from");
    assert_eq!(seen("c.org", "/"), ["all", "general", "-", "-"]);
    assert!(!ran.err.contains("canary"), "{}", ran.err);
}

#[test]
fn a_header_over_a_column_makes_two_requests_of_one_address() {
    let origin = echo();
    let rows = format!("url,id\nhttp://a.test:{0}/,1\nhttp://a.test:{0}/,2\nhttp://b.test:{0}/,1\nhttp://b.test:{0}/,2\n", origin.port);
    let of = |header: &str| {
        let job =
            Job::new().set("input.file", "\"in.csv\"").table("host", &format!("match = \"a.test\"\nheaders = {{ X-Id = \"{header}\" }}"));
        job.file("in.csv", &rows);
        job
    };
    run(&of("{{id}}"), &origin).expect(0);
    let mut ids: Vec<_> = at(&origin, "a.test").iter().map(|r| r.header("x-id").unwrap().to_owned()).collect();
    ids.sort();
    assert_eq!((ids, at(&origin, "b.test").len()), (vec!["1".to_owned(), "2".into()], 1));
    let wrong = run(&of("{{nr}}"), &origin).expect(65);
    assert!(wrong.err.contains("headers.X-Id") && wrong.err.contains("\"nr\""), "{}", wrong.err);
    assert_eq!(origin.arrivals(), 3);
}

#[test]
fn a_host_is_told_another_user_agent_in_its_robots_txt_too() {
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(404) } else { Reply::ok(page("x")) });
    let job = Job::over([urls(&origin, "a.test", 1), urls(&origin, "b.test", 1), urls(&origin, "c.test", 1)].concat())
        .set("request.robots", "\"obey\"")
        .set("request.user_agent", "\"general/1\"")
        .table("host", "match = \"a.test\"\nuser_agent = \"special/1 (me@example.org)\"")
        .table("host", "match = \"c.test\"\nuser_agent = \"browser\"");
    run(&job, &origin).expect(0);
    let agents = |host: &str| at(&origin, host).iter().map(|r| r.header("user-agent").unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(agents("a.test"), ["special/1 (me@example.org)"; 2]);
    assert_eq!(agents("b.test"), ["general/1"; 2]);
    assert!(agents("c.test").iter().all(|a| a.starts_with("Mozilla/5.0")), "{:?}", agents("c.test"));
    assert_eq!(
        (at(&origin, "b.test")[1].header("accept-language"), at(&origin, "c.test")[1].header("accept-language").is_some()),
        (None, true)
    );
}

#[test]
fn robots_of_a_host_are_ignored_or_obeyed_in_lists_and_crawls() {
    let forbids = |r: &Req| match r.path() {
        "/robots.txt" => Reply::ok("User-agent: *\nDisallow: /"),
        "/0" => Reply::ok(format!("<a href=\"/1\">1</a><a href=\"http://b.test:{}/0\">b</a>", r.host().rsplit(':').next().unwrap())),
        _ => Reply::ok(page("x")),
    };
    let origin = Origin::start(forbids);
    let job = Job::over([urls(&origin, "a.test", 2), urls(&origin, "b.test", 2)].concat())
        .set("request.robots", "\"obey\"")
        .table("host", "match = \"a.test\"\nrobots = \"ignore\"");
    run(&job, &origin).expect(1);
    assert!(job.fates().values().all(|(reason, _)| reason == "robots-disallowed"), "{:?}", job.fates());
    let asked = |origin: &Origin, host: &str| {
        let mut paths: Vec<String> = at(origin, host).iter().map(|r| r.path().to_owned()).collect();
        paths.sort();
        paths
    };
    assert_eq!((asked(&origin, "a.test"), asked(&origin, "b.test")), (vec!["/0".into(), "/1".into()], vec!["/robots.txt".to_owned()]));

    let origin = Origin::start(forbids);
    let seed = format!("http://a.test:{}/0", origin.port);
    let job = Job::crawl(&seed)
        .unset("request.robots")
        .set("crawl.scope", "\"any\"")
        .set("crawl.robots", "\"ignore\"")
        .table("host", "match = \"b.*\"\nrobots = \"obey\"");
    run(&job, &origin).expect(1);
    assert_eq!((asked(&origin, "a.test"), asked(&origin, "b.test")), (vec!["/0".into(), "/1".into()], vec!["/robots.txt".to_owned()]));
}

#[test]
fn attempts_at_once_and_the_delay_are_a_hosts_own_and_a_longer_crawl_delay_wins() {
    let origin = Origin::start(|r| match r.path() {
        "/robots.txt" if r.host().starts_with("slow.test") => Reply::ok("User-agent: *\nCrawl-delay: 1"),
        "/robots.txt" => Reply::status(404),
        _ => Reply::ok(page("x")).after(ms(120)),
    });
    let hosts = [("one.test", 5), ("many.test", 8), ("gap.test", 5), ("slow.test", 3)];
    let job = Job::over(hosts.iter().flat_map(|(h, n)| urls(&origin, h, *n)))
        .set("request.robots", "\"obey\"")
        .table("host", "match = \"one.test\"\nper_host = 1")
        .table("host", "match = \"gap.test\"\ndelay = \"200ms\"")
        .table("host", "match = \"slow.test\"\ndelay = \"10ms\"");
    run(&job, &origin).expect(0);
    let pages = |host: &str| at(&origin, host).into_iter().filter(|r| r.path() != "/robots.txt").collect::<Vec<_>>();
    assert!(gaps(&pages("one.test")).iter().all(|g| *g >= ms(115)), "{:?}", gaps(&pages("one.test")));
    let many = pages("many.test");
    assert!(many[7].at - many[0].at < ms(115), "{:?}", gaps(&many));
    assert!(gaps(&pages("gap.test")).iter().all(|g| *g >= ms(190)), "{:?}", gaps(&pages("gap.test")));
    assert!(gaps(&pages("slow.test")).iter().all(|g| *g >= ms(990)), "{:?}", gaps(&pages("slow.test")));
}

#[test]
fn hosts_of_a_group_are_one_to_the_delay_to_attempts_at_once_and_to_holds() {
    let origin = Origin::start(|r| Reply::ok(page("x")).after(if r.host().starts_with('d') { ms(20) } else { ms(100) }));
    let names = ["d1.test", "d2.test", "d3.org", "p1.test", "p2.test", "free.test"];
    let job = Job::over(names.iter().flat_map(|h| urls(&origin, h, 4)))
        .table("host", "match = \"d*.test\"\ngroup = \"delayed\"\ndelay = \"150ms\"")
        .table("host", "match = \"d3.org\"\ngroup = \"delayed\"")
        .table("host", "match = \"p?.test\"\ngroup = \"pair\"\nper_host = 1");
    run(&job, &origin).expect(0);
    let of = |first: char| origin.log().into_iter().filter(|r| r.host().starts_with(first)).collect::<Vec<_>>();
    assert_eq!((of('d').len(), of('p').len(), of('f').len()), (12, 8, 4));
    assert!(gaps(&of('d')).iter().all(|g| *g >= ms(160)), "the delay counts from the answer's head: {:?}", gaps(&of('d')));
    assert!(gaps(&of('p')).iter().all(|g| *g >= ms(95)), "{:?}", gaps(&of('p')));
    assert!(of('f')[3].at - of('f')[0].at < ms(95), "{:?}", gaps(&of('f')));

    let origin = Origin::start(|r| {
        let refuse = r.n == 0;
        if refuse { Reply::status(429).header("Retry-After", "2") } else { Reply::ok(page("x")) }
    });
    let job = Job::over([urls(&origin, "a.test", 2), urls(&origin, "b.test", 2)].concat())
        .set("limits.workers", "1")
        .table("host", "match = \"*.test\"\ngroup = \"g\"");
    run(&job, &origin).expect(0);
    let log = origin.log();
    assert!(log[1].at - log[0].at >= ms(1990), "one host's refusal holds the group: {:?}", gaps(&log));
}

#[test]
fn a_host_goes_by_its_own_proxies_or_by_none() {
    let (proxy, other, origin) = (echo(), echo(), echo());
    let way = |p: &Origin| format!("{:?}", p.url(""));
    let job = Job::over(["http://far.test/x".to_owned(), "http://own.test/x".into(), format!("http://near.test:{}/x", origin.port)])
        .set("request.proxy", &way(&proxy))
        .set("request.robots", "\"obey\"")
        .table("host", &format!("match = \"own.test\"\nproxy = {}", way(&other)))
        .table("host", "match = \"near.test\"\nproxy = \"off\"");
    run(&job, &origin).expect(0);
    let targets = |o: &Origin| o.log().iter().map(|r| r.target.clone()).collect::<Vec<_>>();
    assert_eq!(targets(&proxy), ["http://far.test/robots.txt", "http://far.test/x"]);
    assert_eq!(targets(&other), ["http://own.test/robots.txt", "http://own.test/x"]);
    assert_eq!(targets(&origin), ["/robots.txt", "/x"]);
}

#[test]
fn a_dead_proxy_of_some_hosts_rests_and_stops_no_others() {
    let origin = echo();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let job = Job::over([urls(&origin, "a.test", 20), urls(&origin, "b.test", 20)].concat())
        .set("limits.max_wait", "\"1s\"")
        .table("host", &format!("match = \"a.test\"\nproxy = \"http://u:pw@{dead}\""));
    let ran = run(&job, &origin).expect(75);
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["pending"].as_u64(), at(&origin, "a.test").len()), (Some(20), Some(20), 0));
    assert!(ran.err.contains("[[host]]") && ran.err.contains(&dead.to_string()) && !ran.err.contains("pw@"), "{}", ran.err);
}

#[test]
fn tries_and_backoff_are_a_hosts_own() {
    let origin = Origin::start(|_| Reply::status(500));
    let job = Job::over(["a", "b", "c"].map(|h| format!("http://{h}.test:{}/", origin.port)))
        .set("retry.attempts", "1")
        .set("retry.backoff", "\"30s\"")
        .set("retry.max_backoff", "\"60s\"")
        .table("host", "match = \"a.test\"\nretry = { attempts = 6, backoff = \"1ms\", max_backoff = \"2ms\" }")
        .table("host", "match = \"c.test\"\nretry.attempts = 2\nretry.backoff = \"5ms\"\nretry.max_backoff = \"5ms\"");
    let began = Instant::now();
    run(&job, &origin).expect(1);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(["a.test", "b.test", "c.test"].map(|h| at(&origin, h).len()), [6, 1, 2]);
}

#[test]
fn time_outs_are_a_hosts_own() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<p>a";
    let origin = Origin::start(move |r| match r.path() {
        "/late" => Reply::ok(page("x")).after(ms(900)),
        "/stall" => Reply::script([Step::Send(head.into()), Step::Wait(ms(900)), Step::Send("bcde".into())]),
        _ => Reply::script([
            Step::Send(head.into()),
            Step::Wait(ms(400)),
            Step::Send("b".into()),
            Step::Wait(ms(500)),
            Step::Send("cde".into()),
        ]),
    });
    // Accepts connections and says nothing: no TLS handshake.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = silent.local_addr().unwrap().port();
    let at = |host: &str, path: &str| format!("http://{host}.test:{}{path}", origin.port);
    let mut all: Vec<String> = ["/late", "/stall", "/long"].iter().map(|p| at("patient", p)).collect();
    all.extend([at("first", "/late"), at("idle", "/stall"), at("total", "/long"), format!("https://connect.test:{to}/")]);
    let job = Job::over(&all)
        .set("retry.attempts", "1")
        .set("request.timeout", r#"{ connect = "20s", first_byte = "30s", idle = "30s", total = "60s" }"#)
        .table("host", "match = \"first.test\"\ntimeout = { first_byte = \"300ms\" }")
        .table("host", "match = \"idle.test\"\ntimeout = { idle = \"300ms\" }")
        .table("host", "match = \"total.test\"\ntimeout = { total = \"600ms\" }")
        .table("host", "match = \"connect.test\"\ntimeout.connect = \"300ms\"");
    let ran = run(&job, &origin).args(["--resolve", &format!("*:{to}:127.0.0.1")]).expect(1);
    assert!(ran.took < Duration::from_secs(15), "{:?}", ran.took);
    let fates = job.fates();
    let reason = |url: &str| fates.get(url).map_or("-", |(reason, _)| reason.as_str());
    assert_eq!(
        all.iter().map(|u| reason(u)).collect::<Vec<_>>(),
        ["-", "-", "-", "first-byte-timeout", "body-timeout", "body-timeout", "connect-timeout"]
    );
}

#[test]
fn a_rate_is_a_hosts_own_and_off_is_none() {
    let origin = echo();
    let job = Job::over(["slow.test", "free.test", "usual.test"].iter().flat_map(|h| urls(&origin, h, 6)))
        .set("limits.rate", "\"4/1s\"")
        .table("host", "match = \"slow.test\"\nrate = \"2/1s\"")
        .table("host", "match = \"free.test\"\nrate = \"off\"");
    run(&job, &origin).expect(0);
    let most = |host: &str| {
        let all = at(&origin, host);
        (0..all.len()).map(|i| all[i..].iter().filter(|r| r.at - all[i].at < ms(990)).count()).max().unwrap()
    };
    assert!(
        most("slow.test") <= 2 && most("usual.test") <= 4 && most("free.test") == 6,
        "{:?}",
        ["slow.test", "usual.test", "free.test"].map(most)
    );
}
