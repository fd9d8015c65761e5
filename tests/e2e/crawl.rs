//! Crawls: depth, scope, filters, robots.txt, the account of what was found.

use crate::support::{Gleaner, Job, Origin, Reply, Req, ms};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;

fn links(hrefs: &[&str]) -> Reply {
    let body: String = hrefs.iter().map(|h| format!("<a href=\"{h}\">x</a>")).collect();
    Reply::ok(format!("<html><body><h1>p</h1>{body}</body></html>"))
}

fn asked(origin: &Origin) -> BTreeSet<String> {
    origin.log().iter().map(|r| r.target.clone()).collect()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|p| (*p).to_owned()).collect()
}

fn chain(r: &Req) -> Reply {
    let i = crate::support::number(r.path());
    links(&[&format!("/c/{}", i + 1), "/c/0#again", "/c/0"])
}

#[test]
fn depth_is_inclusive_and_each_page_is_fetched_once() {
    let origin = Origin::start(chain);
    let job = Job::crawl(&origin.url("/c/0")).set("crawl.depth", "3").set("output.meta", r#"["_row", "_url", "_via", "_depth"]"#);
    job.run().expect(0);
    assert_eq!(asked(&origin), set(&["/c/0", "/c/1", "/c/2", "/c/3"]));
    assert_eq!(origin.arrivals(), 4);
    let stats = job.stats();
    assert_eq!((stats["inputs"].as_u64(), stats["discovered"].as_u64(), stats["results"].as_u64()), (Some(1), Some(3), Some(4)));
    let rows = job.results();
    let third = rows.iter().find(|r| r.text("_url").ends_with("/c/3")).unwrap();
    assert_eq!((third.text("_via"), third.number("_depth"), third.number("_row")), (origin.url("/c/2"), 3, 1));
}

#[test]
fn raised_limits_go_on_where_the_crawl_stood() {
    let origin = Origin::start(chain);
    let job = Job::crawl(&origin.url("/c/0")).set("crawl.depth", "2");
    let run = job.run().expect(0);
    assert_eq!(origin.arrivals(), 3);
    assert!(run.err.contains("1 link is deeper than [crawl] depth = 2"), "the cut is named with its key: {}", run.err);
    assert_eq!(job.stats()["discovered"].as_u64(), Some(2), "what was cut is no entry");
    let job = job.set("crawl.depth", "4");
    job.run().expect(0);
    assert_eq!((asked(&origin).len(), origin.arrivals()), (5, 5), "no page is asked for twice");
    let job = job.unset("crawl.depth").set("crawl.max_pages", "8");
    job.run().expect(1);
    assert_eq!((asked(&origin).len(), origin.arrivals()), (8, 8), "a limit that is gone goes on too");
}

#[test]
fn max_pages_ends_the_crawl_with_the_rest_pending() {
    let origin = Origin::start(|r| {
        let i = crate::support::number(r.path());
        links(&[&format!("/c/{}", 2 * i + 1), &format!("/c/{}", 2 * i + 2)])
    });
    let job = Job::crawl(&origin.url("/c/0")).set("crawl.max_pages", "20").set("limits.per_host", "2");
    let run = job.run().expect(1);
    let stats = job.stats();
    assert_eq!(stats["results"].as_u64(), Some(20), "{stats}");
    assert!(run.err.contains("max_pages"), "{}", run.err);
}

#[test]
fn scope_include_exclude_and_extensions_decide() {
    let home = |r: &Req| {
        let port = r.host().rsplit(':').next().unwrap_or("").to_owned();
        if r.path() == "/docs/" {
            return links(&[
                "/docs/a",
                "/docs/private/b",
                "/blog/c",
                "/docs/pic.png",
                "/docs/d.html",
                "mailto:a@b.c",
                &format!("http://127.0.1.1:{port}/docs/other"),
            ]);
        }
        links(&[])
    };
    let run = |configure: &dyn Fn(Job) -> Job| {
        let origin = Origin::on(1, home);
        let job = configure(Job::crawl(&origin.url("/docs/")));
        job.run().expect(0);
        let stats = job.stats();
        (asked(&origin), stats)
    };
    let (seen, stats) = run(&|job| job.set("crawl.scope", "\"host\""));
    assert_eq!(seen, set(&["/docs/", "/docs/a", "/docs/private/b", "/blog/c", "/docs/d.html"]));
    assert!(!stats["out_of_scope"].as_object().unwrap().is_empty(), "{stats}");
    let (seen, _) = run(&|job| job.set("crawl.scope", "\"prefix\""));
    assert_eq!(seen, set(&["/docs/", "/docs/a", "/docs/private/b", "/docs/d.html"]));
    let (seen, _) = run(&|job| job.set("crawl.scope", "\"page\""));
    assert_eq!(seen, set(&["/docs/"]));
    let (seen, _) = run(&|job| job.set("crawl.exclude", "[\"**/private/**\"]").set("crawl.include", "[\"/\\\\/docs\\\\//\"]"));
    assert_eq!(seen, set(&["/docs/", "/docs/a", "/docs/d.html"]));
}

#[test]
fn robots_is_asked_once_a_host_and_obeyed() {
    let origin = Origin::start(|r| match r.path() {
        "/robots.txt" => Reply::status(200)
            .header("Content-Type", "text/plain")
            .body("User-agent: *\nDisallow: /\n\nUser-agent: Gleaner\nDisallow: /private\nAllow: /private/open\n"),
        "/" => links(&["/a", "/private/x", "/private/open", "/b"]),
        _ => links(&[]),
    });
    let job = Job::crawl(&origin.url("/")).unset("request.robots");
    job.run().expect(1);
    assert_eq!(asked(&origin), set(&["/robots.txt", "/", "/a", "/private/open", "/b"]));
    assert_eq!(origin.at_path("/robots.txt").len(), 1);
    assert_eq!(origin.log()[0].path(), "/robots.txt");
    let skipped = job.skipped();
    assert_eq!((skipped.len(), skipped[0].text("reason").as_str()), (1, "robots-disallowed"));
    assert_eq!(job.stats()["requests"], 5, "robots.txt is a request too");
}

#[test]
fn a_robots_whose_day_is_over_is_asked_for_again_while_the_run_goes_on() {
    let origin = Origin::start(|r| match r.path() {
        "/robots.txt" if r.nth == 1 => Reply::status(404),
        "/robots.txt" => Reply::status(200).body("User-agent: *\nDisallow: /\n"),
        _ => Reply::ok("x"),
    });
    let urls = (0..20).map(|i| origin.url(&format!("/{i}")));
    let job = Job::over(urls).unset("request.robots").set("limits.per_host", "1").set("limits.delay", "\"300ms\"");
    let live = job.run().spawn();
    assert!(origin.wait_for(3, Duration::from_secs(20)));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(10)).assert_code(130);
    // a day passes: the state says that it is over two seconds from now
    let until = std::time::UNIX_EPOCH.elapsed().unwrap() + ms(2000);
    let state = rusqlite::Connection::open(job.path(".gleaner/job/state.db")).unwrap();
    assert_eq!(state.execute("UPDATE host SET robots_until = ?1", [until.as_millis() as i64]).unwrap(), 1);
    drop(state);
    job.run().expect(1);
    assert_eq!(origin.at_path("/robots.txt").len(), 2);
    let (results, skipped) = job.exactly_once(20);
    assert!((4..=12).contains(&results.len()), "{} before it was over", results.len());
    assert!(skipped.iter().all(|r| r.text("reason") == "robots-disallowed"));
}

#[test]
fn lists_obey_robots_by_default_and_the_first_skip_says_how_not_to() {
    let origin = Origin::start(|r| match r.path() {
        "/robots.txt" => Reply::status(200).body("User-agent: *\r\nDisallow: /no\r\n"),
        _ => Reply::ok("x"),
    });
    let job = Job::over([origin.url("/no"), origin.url("/yes")]).unset("request.robots");
    let run = job.run().expect(1);
    assert_eq!(job.fates()[&origin.url("/no")].0, "robots-disallowed");
    assert!(run.err.contains("robots"), "{}", run.err);
    assert_eq!(origin.at_path("/no").len(), 0);
}

#[test]
fn a_robots_that_is_missing_allows_and_one_that_fails_parks_a_crawl() {
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(404) } else { links(&[]) });
    Job::crawl(&origin.url("/")).unset("request.robots").run().expect(0);
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(500) } else { links(&[]) });
    let job = Job::crawl(&origin.url("/")).unset("request.robots").set("retry.host_give_up", "\"2s\"");
    job.run().go();
    assert_eq!(asked(&origin), set(&["/robots.txt"]), "nothing but robots.txt is asked of a host whose robots.txt fails");
}

#[test]
fn the_politeness_delay_lies_between_starts() {
    let origin = Origin::start(chain);
    let job = Job::crawl(&origin.url("/c/0")).set("crawl.depth", "5").set("limits.delay", "\"200ms\"");
    job.run().expect(0);
    let log = origin.log();
    // a busy machine may send one late, which brings it nearer to the next; all together keep their distance
    let span = log[5].at - log[0].at;
    assert!(log.len() == 6 && span >= ms(850), "six starts within {span:?}");
    assert!(log.windows(2).all(|w| w[1].at - w[0].at >= ms(30)));
}

#[test]
fn base_and_nofollow_and_frames_are_read_as_browsers_read_them() {
    let origin = Origin::start(|r| match r.path() {
        "/" => Reply::ok(
            "<base href=\"/sub/\"><a href=\"a\">a</a><a rel=\"nofollow\" href=\"b\">b</a><iframe src=\"f\"></iframe>\
             <noscript><a href=\"n\">n</a></noscript><!-- <a href=\"no\">no</a> --><a href=\"javascript:x()\">j</a>\
             <meta http-equiv=\"refresh\" content=\"5; url=m\">",
        ),
        "/sub/a" => Reply::ok("<meta name=\"robots\" content=\"nofollow\"><a href=\"hidden\">x</a>"),
        "/sub/b" => links(&["hidden2"]).header("X-Robots-Tag", "none"),
        _ => Reply::status(200).header("Content-Type", "text/plain").body("<a href=\"/text\">x</a>"),
    });
    let job = Job::crawl(&origin.url("/"));
    job.run().expect(0);
    assert_eq!(asked(&origin), set(&["/", "/sub/a", "/sub/b", "/sub/f", "/sub/n", "/sub/m"]));
}

#[test]
fn a_dead_link_is_a_skipped_record_with_where_it_stood() {
    let origin = Origin::start(|r| {
        if r.path() == "/" {
            links(&["/dead", "/ok"])
        } else if r.path() == "/dead" {
            Reply::status(404)
        } else {
            links(&[])
        }
    });
    let job = Job::crawl(&origin.url("/"));
    job.run().expect(1);
    assert_eq!(job.fates()[&origin.url("/dead")].0, "http-404");
    assert_eq!((job.stats()["results"].as_u64(), job.stats()["skipped"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn the_crawl_command_needs_no_job_file() {
    let origin = Origin::start(|r| if r.path() == "/robots.txt" { Reply::status(404) } else { chain(r) });
    let dir = tempfile::tempdir().unwrap();
    let run = Gleaner::new(["crawl", &origin.url("/c/0"), "--depth", "2", "--delay", "0s", "-o", "out.jsonl"]).home(dir.path()).expect(0);
    assert_eq!(crate::support::read(&dir.path().join("out.jsonl")).len(), 3, "{}", run.err);
}

#[test]
fn a_crawl_begins_at_addresses_or_at_a_list_of_them() {
    let origin = Origin::start(chain);
    let job = Job::new();
    let list = job.file("seeds.txt", format!("{}\n# and\n{}\n", origin.url("/c/10"), origin.url("/c/20")));
    let crawl = |what: &std::path::Path| {
        Gleaner::new(["crawl"]).arg(what).args(["--depth", "1", "--delay", "0s", "--robots", "ignore"]).home(job.dir())
    };
    let run = crawl(&list).expect(0);
    assert_eq!(run.out.lines().count(), 5, "{}\n{}", run.out, run.err);
    assert_eq!(asked(&origin), set(&["/c/10", "/c/11", "/c/20", "/c/21", "/c/0"]));
    let run = crawl(&job.path("none.txt")).expect(65);
    assert!(run.err.contains("none.txt: no such file"), "{}", run.err);
}

/// What the state holds of the scope, in the order of its keys.
fn scope_parts(job: &Job) -> Vec<String> {
    let db = rusqlite::Connection::open(job.path(".gleaner/job/state.db")).unwrap();
    let mut parts = db.prepare("SELECT v FROM meta WHERE k GLOB 'x.scope*' ORDER BY k").unwrap();
    parts.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_redirects_add_to_the_scope_is_kept_in_parts_and_once() {
    let origin = Origin::start(|r| {
        if let Some((host, _)) = r.host().split_once(".test:").filter(|(h, _)| !h.starts_with("www.")) {
            let port = r.host().rsplit(':').next().unwrap();
            return Reply::status(301).header("Location", &format!("http://www.{host}.test:{port}{}", r.path()));
        }
        match r.path() {
            "/found" => links(&["/deep"]),
            "/deep" => links(&[]),
            _ => links(&["/found"]),
        }
    });
    let site = |i: usize, page: usize| format!("http://s{i}.test:{}/{page}", origin.port);
    let job = Job::new().set("crawl.depth", "0").set("limits.delay", "\"0s\"").set("limits.per_host", "8");
    job.list((0..300).map(|i| site(i % 30, i)));
    let (resolve, net) = (format!("*:{}:127.0.0.1", origin.port), "127.0.0.0/8");
    let run = |job: &Job| job.run().args(["--resolve", &resolve, "--allow-net", net]).expect(0);
    run(&job);
    let parts = scope_parts(&job);
    let moved: Vec<&String> = parts.iter().filter(|p| p.contains("//www.")).collect();
    assert_eq!(moved.len(), 30, "one for each site: {parts:?}");
    assert!(moved.iter().all(|p| p.lines().count() == 1), "each holds what is new alone: {parts:?}");
    // The next run asks no start page again and still knows where they moved to.
    let asked = origin.arrivals();
    let job = job.set("crawl.depth", "2");
    run(&job);
    assert_eq!((origin.at_path("/found").len(), origin.at_path("/deep").len(), origin.arrivals() - asked), (30, 30, 60));
}

#[test]
fn a_link_to_the_site_of_a_seed_far_down_the_list_is_followed() {
    let origin = Origin::start(|r| {
        let port = r.host().rsplit(':').next().unwrap();
        match (r.host().split('.').next(), r.path()) {
            (Some("s0"), "/") => links(&[&format!("http://s2999.test:{port}/deep"), &format!("http://other.test:{port}/out")]),
            _ => links(&[]),
        }
    });
    let job = Job::new().set("crawl.depth", "1").set("limits.delay", "\"0s\"");
    job.list((0..3000).map(|i| format!("http://s{i}.test:{}/", origin.port)));
    job.run().args(["--resolve", &format!("*:{}:127.0.0.1", origin.port), "--allow-net", "127.0.0.0/8"]).expect(0);
    assert_eq!((origin.at_path("/deep").len(), origin.at_path("/out").len(), origin.arrivals()), (1, 0, 3001));
    assert_eq!(job.stats()["out_of_scope"], serde_json::json!({ "scope": 1 }));
}

#[test]
fn links_and_redirects_wait_for_seeds_that_standard_input_is_yet_to_bring() {
    let origin = Origin::on(2, |r| {
        let port = r.host().rsplit(':').next().unwrap();
        let at = |k: u8, path: &str| format!("http://127.0.1.{k}:{port}{path}");
        match r.path() {
            "/" => links(&[&at(1, "/deep"), "/moved", &at(2, "/out")]),
            "/moved" => Reply::status(302).header("Location", &at(1, "/target")),
            _ => links(&[]),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "{{ echo {}; sleep 1; echo {}; }} | {} crawl - --depth 1 --delay 0s --robots ignore --stats stats.json",
        origin.url("/"),
        origin.url_at(1, "/second"),
        env!("CARGO_BIN_EXE_gleaner")
    );
    let out = std::process::Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{err}");
    assert_eq!(asked(&origin), set(&["/", "/moved", "/target", "/deep", "/second"]), "{err}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 4, "{err}");
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.path().join("stats.json")).unwrap()).unwrap();
    assert_eq!(stats["out_of_scope"], serde_json::json!({ "scope": 1 }));
}
