//! Redirects: followed by us, each hop an attempt through the gate.

use crate::support::{Job, Origin, Reply, page};

#[test]
fn each_hop_is_a_request_and_the_row_names_the_end() {
    let origin = Origin::start(|r| match r.path() {
        "/a" => Reply::redirect(301, "/b?x=1"),
        "/b" => Reply::redirect(308, &format!("http://{}/c#top", r.host())),
        "/c" => Reply::redirect(302, "d e"),
        _ => Reply::ok(page(r.path())),
    });
    let job = Job::over([origin.url("/a")]);
    job.run().expect(0);
    let (results, _) = job.exactly_once(1);
    assert_eq!((results[0].text("_url"), results[0].text("_final_url")), (origin.url("/a"), origin.url("/d%20e")));
    assert_eq!((results[0].number("_attempts"), job.stats()["requests"].as_u64(), job.stats()["retries"].as_u64()), (1, Some(4), Some(0)));
    let seen: Vec<String> = origin.log().iter().map(|r| r.target.clone()).collect();
    assert_eq!(seen, ["/a", "/b?x=1", "/c", "/d%20e"]);
}

#[test]
fn loops_and_long_ways_and_wrong_targets_have_their_reasons() {
    let origin = Origin::start(|r| {
        let i = crate::support::number(r.path());
        match r.path().split('/').nth(1).unwrap_or("") {
            "self" => Reply::redirect(302, r.path()),
            "loop" => Reply::redirect(302, if r.path().ends_with("/1") { "/loop/2" } else { "/loop/1" }),
            "long" => Reply::redirect(302, &format!("/long/{}", i + 1)),
            "short" if i < 5 => Reply::redirect(302, &format!("/short/{}", i + 1)),
            "none" => Reply::status(301),
            "empty" => Reply::redirect(301, ""),
            "mail" => Reply::redirect(301, "mailto:a@b.c"),
            "junk" => Reply::redirect(301, "http://[::1"),
            _ => Reply::ok(page("x")),
        }
    });
    let names = ["self/0", "loop/1", "long/0", "none/0", "empty/0", "mail/0", "junk/0", "short/0"];
    let job = Job::over(names.map(|n| origin.url(&format!("/{n}")))).set("request.redirects", "5");
    job.run().expect(1);
    let fates = job.fates();
    let reason = |n: &str| fates.get(&origin.url(&format!("/{n}"))).map_or("ok", |f| f.0.as_str());
    let got: Vec<&str> = names.iter().map(|n| reason(n)).collect();
    let invalid = "redirect-invalid";
    assert_eq!(got, ["redirect-loop", "redirect-loop", "too-many-redirects", invalid, invalid, invalid, invalid, "ok"]);
    assert_eq!(origin.log().iter().filter(|r| r.path().starts_with("/long")).count(), 6, "the listed address and five hops");
}

#[test]
fn methods_change_as_browsers_change_them() {
    let origin = Origin::start(|r| match r.path() {
        "/301" | "/302" | "/303" | "/307" | "/308" => Reply::redirect(r.path()[1..].parse().unwrap(), &format!("/end{}", r.path())),
        _ => Reply::ok("x"),
    });
    let job = Job::over(["/301", "/302", "/303", "/307", "/308"].map(|p| origin.url(p)))
        .set("request.method", "\"POST\"")
        .set("request.body", "\"a=1\"");
    job.run().expect(0);
    let end = |p: &str| {
        let r = &origin.at_path(&format!("/end/{p}"))[0];
        (r.method.clone(), String::from_utf8_lossy(&r.body).into_owned())
    };
    for p in ["301", "302", "303"] {
        assert_eq!(end(p), ("GET".into(), String::new()), "{p}");
    }
    for p in ["307", "308"] {
        assert_eq!(end(p), ("POST".into(), "a=1".into()), "{p}");
    }
}

#[test]
fn credentials_stay_within_their_origin() {
    let other = Origin::start(|_| Reply::ok("x"));
    let there = other.url("/other-port");
    let origin = Origin::on(1, move |r| match r.path() {
        "/same" => Reply::redirect(302, "/end"),
        "/port" => Reply::redirect(302, &there),
        "/host" => Reply::redirect(302, &format!("http://127.0.1.1:{}/other-host", r.host().rsplit(':').next().unwrap())),
        _ => Reply::ok("x"),
    });
    let job = Job::over(["/same", "/port", "/host"].map(|p| origin.url(p)))
        .set("auth.bearer", "\"${env:T}\"")
        .set("auth.hosts", &format!("[\"127.0.0.1:{}\"]", origin.port))
        .set("request.headers", "{ Cookie = \"a=b\", Accept = \"text/plain\" }")
        .set("network.allow", "\"any\"");
    job.run().env("T", "tok").expect(0);
    let sent = |o: &Origin, p: &str| o.at_path(p)[0].header("authorization").map(str::to_owned);
    assert_eq!(sent(&origin, "/end").as_deref(), Some("Bearer tok"));
    assert_eq!(sent(&origin, "/port").as_deref(), Some("Bearer tok"));
    assert_eq!((sent(&other, "/other-port"), sent(&origin, "/other-host")), (None, None));
    let away = &other.at_path("/other-port")[0];
    assert_eq!((away.header("accept"), away.header("cookie")), (Some("text/plain"), None));
    assert_eq!(origin.at_path("/end")[0].header("cookie"), Some("a=b"));
}

/// Headers of `origin`'s requests that hold the canary.
fn canaries(origin: &Origin) -> usize {
    origin.log().iter().flat_map(|r| r.headers.clone()).filter(|(_, v)| v.contains("canary")).count()
}

#[test]
fn secrets_do_not_follow_links_to_hosts_that_the_operator_did_not_name() {
    let other = Origin::start(|_| Reply::ok("x"));
    let there = other.url("/port");
    let origin = Origin::on(1, move |r| {
        let port = r.host().rsplit(':').next().unwrap();
        match r.path() {
            "/" => Reply::ok(format!("<a href=\"/in\">a</a><a href=\"{there}\">b</a><a href=\"http://127.0.1.1:{port}/host\">c</a>")),
            _ => Reply::ok("x"),
        }
    });
    let seen = |p: &str| origin.at_path(p)[0].headers.iter().filter(|(_, v)| v.contains("canary")).count();
    let job = |seeds: &str| {
        Job::crawl(seeds)
            .set("crawl.scope", "\"any\"")
            .set("request.headers", "{ X-Key = \"${env:T}\", Accept-Language = \"${env:T}\" }")
            .set("network.allow", "\"any\"")
    };
    let literal = job(&origin.url("/"));
    literal.run().env("T", "canary").expect(0);
    assert_eq!((seen("/"), seen("/in"), seen("/host"), canaries(&other), other.arrivals()), (2, 2, 0, 0, 1));
    // a host by its name alone is the addresses of it that the list names, and no other port
    let job =
        job("").unset("input.urls").set("input.file", "\"in.txt\"").set("auth.bearer", "\"${env:T}\"").set("auth.hosts", "[\"127.0.0.1\"]");
    job.list([origin.url("/")]);
    job.run().env("T", "canary").expect(0);
    assert_eq!(origin.log().iter().filter(|r| r.path() == "/in" && r.header("authorization") == Some("Bearer canary")).count(), 1);
    assert_eq!((canaries(&other), other.arrivals()), (0, 2));
    assert!(origin.at_path("/host").iter().all(|r| r.headers.iter().all(|(_, v)| !v.contains("canary"))));
}

#[test]
fn a_list_with_a_secret_header_has_to_say_who_may_see_it() {
    let origin = Origin::start(|_| Reply::ok("x"));
    let job = Job::over([origin.url("/a")]).set("request.headers", "{ X-Key = \"${env:T}\" }");
    let run = job.run().env("T", "canary").expect(65);
    assert!(run.err.contains("request.headers.X-Key") && run.err.contains("[auth] hosts"), "{}", run.err);
    assert_eq!(origin.arrivals(), 0);
    job.set("auth.hosts", "[\"127.0.0.1\"]").run().env("T", "canary").expect(0);
    assert_eq!(canaries(&origin), 1);
}

#[test]
fn a_retry_after_a_failed_hop_starts_at_the_listed_address() {
    let origin = Origin::start(|r| match r.path() {
        "/a" => Reply::redirect(302, "/b"),
        _ if r.nth == 1 => Reply::status(500),
        _ => Reply::ok("x"),
    });
    let job = Job::over([origin.url("/a")]);
    job.run().expect(0);
    let seen: Vec<String> = origin.log().iter().map(|r| r.target.clone()).collect();
    assert_eq!(seen, ["/a", "/b", "/a", "/b"]);
    assert_eq!(job.results()[0].number("_attempts"), 2);
}

#[test]
fn redirects_can_be_switched_off() {
    let origin = Origin::start(|r| if r.path() == "/a" { Reply::redirect(302, "/b") } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a")]).set("request.redirects", "0");
    job.run().expect(1);
    assert_eq!(origin.arrivals(), 1);
    assert_eq!(job.fates()[&origin.url("/a")].0, "too-many-redirects");
}
