//! Each row of the retry table that loopback can make: its reason, its attempts at the server, the gaps between them.

use crate::support::process::Live;
use crate::support::reply::{Act, gzip};
use crate::support::{Job, Origin, Reply, Req, Step, ms, page};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One row: a path of its own on a host of its own, so that breaker, budget and reused connections stay out of it.
struct Case {
    name: &'static str,
    script: fn(&Req) -> Reply,
    /// A reason, or `ok`.
    fate: &'static str,
    arrivals: usize,
}

const fn case(name: &'static str, fate: &'static str, arrivals: usize, script: fn(&Req) -> Reply) -> Case {
    Case { name, script, fate, arrivals }
}

fn big_head(headers: usize, bytes: usize) -> Reply {
    let mut head = String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
    for i in 0..headers {
        head.push_str(&format!("X-{i}: {}\r\n", "v".repeat(bytes)));
    }
    Reply::script([Step::Send(format!("{head}\r\nok").into_bytes())])
}

const PARTIAL: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n<h1>half";

fn table() -> Vec<Case> {
    vec![
        case("ok", "ok", 1, |_| Reply::ok(page("x"))),
        case("reset-before-head", "conn-reset", 3, |_| Reply::reset()),
        case("close-before-head", "conn-closed", 3, |_| Reply::close()),
        case("half-a-head", "conn-closed", 3, |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Ty")),
        case("cut-length", "body-truncated", 3, |_| Reply::cut("<h1>cut", 4000)),
        case("reset-in-body", "body-truncated", 3, |_| Reply::script([Step::Send(PARTIAL.into()), Step::Wait(ms(30)), Step::Reset])),
        case("cut-chunks", "body-truncated", 3, |_| Reply::chunked_raw("40\r\n<h1>cut", Step::Close)),
        case("no-last-chunk", "body-truncated", 3, |_| Reply::chunked_raw("3\r\nabc\r\n", Step::Close)),
        case("bad-chunk-size", "protocol-error", 2, |_| Reply::chunked_raw("zz\r\nabc\r\n0\r\n\r\n", Step::Close)),
        case("garbage", "protocol-error", 2, |_| Reply::raw("\x00\x01\x02 what is this\r\n\r\n")),
        case("http-0.9", "protocol-error", 2, |_| Reply::raw("<html>hello</html>\r\n\r\n")),
        case("two-lengths", "protocol-error", 2, |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
        case("negative-length", "protocol-error", 2, |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc")),
        case("head-of-2-mib", "protocol-error", 2, |_| big_head(1, 2 << 20)),
        case("600-headers", "protocol-error", 2, |_| big_head(600, 3)),
        case("300-headers", "ok", 1, |_| big_head(300, 3)),
        case("silence", "first-byte-timeout", 3, |_| Reply::hang()),
        case("endless-1xx", "first-byte-timeout", 3, |_| {
            Reply::script([Step::Forever(b"HTTP/1.1 102 Processing\r\n\r\n".to_vec(), ms(50))])
        }),
        case("early-hints", "ok", 1, |_| {
            Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }),
        case("stalled-body", "body-timeout", 3, |_| Reply::script([Step::Send(PARTIAL.into()), Step::Wait(Duration::from_secs(60))])),
        case("drip", "body-timeout", 3, |_| Reply::script([Step::Send(PARTIAL.into()), Step::Forever(b"x".to_vec(), ms(100))])),
        case("not-gzip", "decode-error", 2, |_| Reply::ok("plain").header("Content-Encoding", "gzip")),
        case("half-gzip", "decode-error", 2, |_| {
            let whole = gzip(page("x").as_bytes());
            Reply::ok(&whole[..whole.len() / 2]).header("Content-Encoding", "gzip")
        }),
        case("gzip-cured", "ok", 2, |r| {
            if r.header("accept-encoding") == Some("identity") {
                Reply::ok(page("x"))
            } else {
                Reply::ok("no").header("Content-Encoding", "gzip")
            }
        }),
        case("close-delimited", "ok", 1, |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>x</h1>")),
        case("large", "too-large", 1, |_| Reply::ok(vec![b'x'; 200_000])),
        case("large-chunked", "too-large", 1, |_| {
            let chunk = format!("{:x}\r\n{}\r\n", 90_000, "x".repeat(90_000));
            Reply::chunked_raw(&format!("{chunk}{chunk}0\r\n\r\n"), Step::Wait(Duration::ZERO))
        }),
        case("bomb", "too-large", 1, |_| Reply::ok(gzip(&vec![0; 20 << 20])).header("Content-Encoding", "gzip")),
        case("no-location", "redirect-invalid", 1, |_| Reply::status(302)),
        case("ftp-location", "redirect-invalid", 1, |_| Reply::redirect(302, "ftp://127.0.0.1/x")),
        case("multiple-choices", "http-300", 1, |_| Reply::redirect(300, "/ok")),
        case("unasked-304", "http-304", 1, |_| Reply::status(304)),
        case("unasked-part", "body-truncated", 3, |_| Reply::status(206).header("Content-Range", "bytes 0-1/10").body("ab")),
        case("part-that-is-all", "ok", 1, |_| Reply::status(206).header("Content-Range", "bytes 0-1/2").body("ab")),
        case("401", "auth-required", 1, |_| Reply::status(401)),
        case("403", "forbidden", 1, |_| Reply::status(403)),
        case("challenge-403", "waf-challenge", 1, |_| Reply::status(403).header("cf-mitigated", "challenge")),
        case("challenge-429", "waf-challenge", 1, |_| Reply::status(429).header("cf-mitigated", "challenge").header("Retry-After", "9")),
        case("challenge-200", "waf-challenge", 1, |_| {
            Reply::ok("<title>Just a moment...</title><script src=\"/cdn-cgi/challenge-platform/h/b/orchestrate/x\"></script>")
        }),
        case("999", "http-999", 1, |_| Reply::status(999)),
        case("503-then-ok", "ok", 2, |r| if r.nth == 1 { Reply::status(503) } else { Reply::ok(page("x")) }),
        case("reset-then-ok", "ok", 2, |r| if r.nth == 1 { Reply::reset() } else { Reply::ok(page("x")) }),
    ]
}

const PERMANENT: &[u16] = &[400, 404, 405, 406, 409, 410, 411, 414, 415, 422, 451, 501, 505];
const TRANSIENT: &[u16] = &[408, 421, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 598, 599];

fn answer(cases: &BTreeMap<&'static str, fn(&Req) -> Reply>, r: &Req) -> Reply {
    let name = r.path().trim_start_matches('/');
    match cases.get(name) {
        Some(script) => script(r),
        None => Reply::status(name.trim_start_matches("status-").parse().unwrap_or(404)),
    }
}

/// Runs the table with `method`; gives the origin and the job behind it. Waits are long enough to be measured.
fn run(cases: Vec<Case>, extra: Vec<String>, configure: impl FnOnce(Job) -> Job) -> (Origin, Job, Vec<Case>) {
    let scripts = cases.iter().map(|c| (c.name, c.script)).collect();
    let origin = Origin::on(u8::try_from(cases.len()).unwrap(), move |r| answer(&scripts, r));
    let mut urls: Vec<String> = cases.iter().enumerate().map(|(k, c)| origin.url_at(k + 1, &format!("/{}", c.name))).collect();
    urls.extend(extra.into_iter().map(|u| u.replace("PORT", &origin.port.to_string())));
    let job = Job::over(&urls)
        .set("request.timeout", r#"{ connect = "800ms", first_byte = "1500ms", idle = "900ms", total = "2500ms" }"#)
        .set("request.max_body", "\"128KiB\"")
        .set("request.accept", r#"["200..299"]"#)
        .set("retry.backoff", "\"300ms\"")
        .set("retry.max_backoff", "\"500ms\"");
    let job = configure(job);
    let events = job.path("events.jsonl");
    job.run().args(["--seed", "7", "--events"]).arg(events).expect(1);
    job.exactly_once(urls.len());
    (origin, job, cases)
}

fn events(job: &Job, kind: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(job.path("events.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).filter(|e: &serde_json::Value| e["event"] == kind).collect()
}

#[test]
fn each_row_has_its_reason_its_attempts_and_its_waits() {
    let dead = full_backlog();
    let plain = plain_server_for_tls();
    let mut extra: Vec<String> = PERMANENT.iter().chain(TRANSIENT).map(|s| format!("http://127.0.0.1:PORT/status-{s}")).collect();
    extra.push("http://127.0.2.1:PORT/refused".into());
    extra.push(format!("http://127.0.0.1:{}/connect-timeout", dead.port));
    extra.push(format!("https://127.0.0.1:{}/tls-to-plain", plain.port));
    let (origin, job, cases) = run(table(), extra, |job| job);

    let skipped: BTreeMap<String, _> =
        job.skipped().into_iter().map(|r| (r.text("_url").rsplit('/').next().unwrap().to_owned(), r)).collect();
    let results: BTreeMap<String, _> =
        job.results().into_iter().map(|r| (r.text("_url").rsplit('/').next().unwrap().to_owned(), r)).collect();
    let mut wrong = Vec::new();
    let mut expect = |name: &str, fate: &str, arrivals: Option<usize>, attempts: usize| {
        if let Some(n) = arrivals {
            let seen = origin.at_path(&format!("/{name}")).len();
            if seen != n {
                wrong.push(format!("{name}: {seen} arrivals, not {n}"));
            }
        }
        match (fate == "ok", results.get(name), skipped.get(name)) {
            (true, Some(_), None) => {}
            (false, None, Some(r)) => {
                let (reason, listed) = (r.text("reason"), r.attempts().len());
                if reason != fate || listed != attempts {
                    wrong.push(format!("{name}: {reason} after {listed} attempts, not {fate} after {attempts}: {}", r.text("message")));
                }
            }
            (_, result, skip) => wrong.push(format!(
                "{name}: should be {fate}; result {}, skipped {:?}",
                result.is_some(),
                skip.map(|r| (r.text("reason"), r.text("message")))
            )),
        }
    };
    for c in &cases {
        expect(c.name, c.fate, Some(c.arrivals), c.arrivals);
    }
    for s in PERMANENT {
        expect(&format!("status-{s}"), &format!("http-{s}"), Some(1), 1);
    }
    for s in TRANSIENT {
        expect(&format!("status-{s}"), &format!("http-{s}"), Some(3), 3);
    }
    expect("refused", "connect-refused", None, 3);
    expect("connect-timeout", "connect-timeout", None, 3);
    expect("tls-to-plain", "tls-handshake", None, 2);
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));

    assert_eq!(results["gzip-cured"].number("_attempts"), 1, "the repeat with identity coding is not charged");
    assert_eq!(results["503-then-ok"].number("_attempts"), 2);
    let again = &origin.at_path("/not-gzip")[1];
    assert_eq!(again.header("accept-encoding"), Some("identity"));
    waits_lie_within_the_jitter_bounds(&origin, &job);
}

/// The k-th wait is drawn from `0..=min(max, b * 2^(k-1))`, and the server sees no gap shorter than it.
fn waits_lie_within_the_jitter_bounds(origin: &Origin, job: &Job) {
    let bounds = [300.0, 500.0];
    let mut by_url: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for e in events(job, "retry-scheduled") {
        if e["charged"] == true && e["reason"] != "protocol-error" && e["reason"] != "tls-handshake" {
            by_url.entry(e["url"].as_str().unwrap().to_owned()).or_default().push(e["wait_ms"].as_f64().unwrap());
        }
    }
    let mut shares = Vec::new();
    for (url, waits) in &by_url {
        for (k, wait) in waits.iter().enumerate() {
            assert!(*wait <= bounds[k] + 1.0, "{url}: wait {k} of {wait} ms passes {} ms", bounds[k]);
            shares.push(wait / bounds[k]);
        }
        // gaps at the server, where the failure is known as soon as the request is there
        let path = url.splitn(4, '/').nth(3).unwrap();
        if path.starts_with("status-") || path == "close-before-head" {
            let seen = origin.at_path(&format!("/{path}"));
            for (pair, wait) in seen.windows(2).zip(waits) {
                let gap = (pair[1].at - pair[0].at).as_secs_f64() * 1000.0;
                assert!(gap + 5.0 >= *wait, "{url}: asked again after {gap} ms, the wait was {wait} ms");
                assert!(gap <= wait + 4000.0, "{url}: asked again only after {gap} ms, the wait was {wait} ms");
            }
        }
    }
    assert!(shares.len() > 50, "only {} waits", shares.len());
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!((0.3..0.7).contains(&mean), "full jitter is uniform: the mean share of {} waits is {mean:.2}", shares.len());
}

#[test]
fn a_seed_repeats_the_waits_and_another_seed_does_not() {
    let waits = |seed: &str| {
        let origin = Origin::start(|_| Reply::status(500));
        // the same key in each run: jitter is a function of seed, key and try, and a port is a part of the key
        let url = |i: usize| format!("http://site{i}.test:7/x");
        let job = Job::over((0..12).map(url)).set("retry.attempts", "4").set("retry.backoff", "\"60ms\"");
        let events_file = job.path("events.jsonl");
        job.run().args(["--seed", seed, "--events"]).arg(events_file).env("http_proxy", origin.url("/")).expect(1);
        let mut all: Vec<(String, u64)> = events(&job, "retry-scheduled")
            .iter()
            .map(|e| (e["url"].as_str().unwrap().to_owned(), e["wait_ms"].as_u64().unwrap()))
            .collect();
        all.sort();
        all
    };
    let first = waits("7");
    assert_eq!(first.len(), 36);
    assert_eq!(first, waits("7"));
    assert_ne!(first, waits("8"));
}

#[test]
fn a_post_that_was_sent_is_never_sent_again_and_one_that_was_not_is() {
    let cases = || {
        vec![
            case("reset", "maybe-sent", 1, |_| Reply::reset()),
            case("close", "maybe-sent", 1, |_| Reply::close()),
            case("cut", "maybe-sent|body-truncated", 1, |_| Reply::cut("<h1>", 900)),
            case("silence", "maybe-sent|first-byte-timeout", 1, |_| Reply::hang()),
            case("500", "http-500", 1, |_| Reply::status(500)),
            case("503", "http-503", 1, |_| Reply::status(503)),
            case("429", "ok", 2, |r| if r.nth == 1 { Reply::status(429).header("Retry-After", "0.3") } else { Reply::ok("x") }),
            case("503-held", "ok", 2, |r| if r.nth == 1 { Reply::status(503).header("Retry-After", "0.3") } else { Reply::ok("x") }),
            case("ok", "ok", 1, |_| Reply::ok("x")),
        ]
    };
    let extra = vec!["http://127.0.2.1:PORT/refused".to_owned()];
    let post = |job: Job| job.set("request.method", "\"POST\"").set("request.body", "\"a=1\"");
    let (origin, job, cases) = run(cases(), extra, post);
    let fates = job.fates();
    for (k, c) in cases.iter().enumerate() {
        assert_eq!(origin.at_path(&format!("/{}", c.name)).len(), c.arrivals, "{}: {fates:?}", c.name);
        let fate = fates.get(&origin.url_at(k + 1, &format!("/{}", c.name))).map_or("ok", |f| f.0.as_str());
        assert!(c.fate.split('|').any(|f| f == fate), "{}: {fate}, not {}", c.name, c.fate);
    }
    let refused = &fates[&format!("http://127.0.2.1:{}/refused", origin.port)];
    assert_eq!(refused, &("connect-refused".to_owned(), 3));
    let mut connections: Vec<usize> = origin.log().iter().map(|r| r.conn).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), origin.arrivals(), "each POST goes on a connection of its own");
    assert!(origin.log().iter().all(|r| r.method == "POST" && r.body == b"a=1"));
}

#[test]
fn a_post_that_is_declared_idempotent_is_repeated() {
    let cases = vec![case("reset", "conn-reset", 3, |_| Reply::reset()), case("500", "http-500", 3, |_| Reply::status(500))];
    let (origin, job, cases) = run(cases, Vec::new(), |job| job.set("request.method", "\"POST\"").set("request.idempotent", "true"));
    for c in &cases {
        assert_eq!(origin.at_path(&format!("/{}", c.name)).len(), c.arrivals, "{}: {:?}", c.name, job.fates());
    }
}

#[test]
fn the_last_try_is_kept_for_the_end_of_the_run() {
    let origin = Origin::on(2, |r| if r.path().starts_with("/bad") { Reply::status(503) } else { Reply::ok(page("x")).after(ms(20)) });
    let mut urls: Vec<String> = (0..5).map(|i| origin.url_at(1, &format!("/bad/{i}"))).collect();
    urls.extend((0..300).map(|i| origin.url_at(2, &format!("/good/{i}"))));
    let job = Job::over(&urls).set("retry.final_sweep", "true").set("retry.attempts", "3");
    job.run().expect(1);
    let log = origin.log();
    let last_good = log.iter().filter(|r| r.path().starts_with("/good")).map(|r| r.n).max().unwrap();
    for i in 0..5 {
        let tries: Vec<usize> = log.iter().filter(|r| r.path() == format!("/bad/{i}")).map(|r| r.n).collect();
        assert_eq!(tries.len(), 3, "attempts is the number of tries in all, the sweep's one included");
        assert!(tries[1] < last_good && tries[2] > last_good, "tries at {tries:?}, the last other request is {last_good}");
    }
}

#[test]
fn retries_stay_within_their_budget_until_only_retries_are_left() {
    let origin = Origin::start(|_| Reply::status(503).after(ms(2)));
    let job = Job::over((0..1000).map(|i| origin.url(&format!("/{i}"))))
        .set("retry.budget", "\"20%\"")
        .set("retry.attempts", "4")
        .set("retry.backoff", "\"1ms\"")
        .set("retry.max_backoff", "\"2ms\"");
    job.run().expect(1);
    job.exactly_once(1000);
    let log = origin.log();
    assert_eq!(log.len(), 4000, "each entry has its four tries in the end");
    let last_first = log.iter().filter(|r| r.nth == 1).map(|r| r.n).max().unwrap();
    let retries = log.iter().filter(|r| r.n < last_first && r.nth > 1).count();
    // the budget binds after 100 requests; what is in flight at that moment may pass it
    let allowed = (last_first as f64 * 0.2) as usize + 120;
    assert!(retries <= allowed, "{retries} retries among the first {last_first} requests, the budget allows {allowed}");
}

#[test]
fn a_reused_connection_that_was_dead_costs_nothing() {
    // every second request of a connection meets a server that has just closed it
    let served = Arc::new(std::sync::Mutex::new(std::collections::HashMap::<usize, usize>::new()));
    let origin = Origin::start(move |r| {
        let mut served = served.lock().unwrap();
        let n = served.entry(r.conn).or_insert(0);
        *n += 1;
        if *n == 1 { Reply::ok(page("x")) } else { Reply::close() }
    });
    let job = Job::over((0..60).map(|i| origin.url(&format!("/{i}")))).set("retry.attempts", "1").set("limits.per_host", "1");
    job.run().expect(0);
    let (results, _) = job.exactly_once(60);
    assert!(results.iter().all(|r| r.number("_attempts") == 1));
    assert!(origin.arrivals() > 60, "no connection was reused: {} arrivals", origin.arrivals());
    assert_eq!(job.stats()["requests"], origin.arrivals(), "the free repeat was on the wire and counts as a request");
}

#[test]
fn tries_after_the_first_are_counted_as_retries_and_all_requests_as_requests() {
    let origin = Origin::start(|r| match r.path() {
        "/hop" => Reply::redirect(302, "/end"),
        "/flaky" if r.nth < 3 => Reply::status(500),
        _ => Reply::ok(page("x")),
    });
    let job = Job::over(["/hop", "/flaky", "/plain"].map(|p| origin.url(p)));
    job.run().expect(0);
    let stats = job.stats();
    assert_eq!((stats["requests"].as_u64(), stats["retries"].as_u64()), (Some(6), Some(2)), "{stats}");
    let by_host = stats["by_host"].as_object().unwrap().values().next().unwrap();
    assert_eq!((by_host["requests"].as_u64(), by_host["results"].as_u64()), (Some(6), Some(3)), "{stats}");
}

#[test]
fn the_wait_is_spent_without_a_worker() {
    let origin = Origin::on(2, |r| if r.path().starts_with("/bad") { Reply::status(500) } else { Reply::ok(page("x")).after(ms(10)) });
    let mut urls: Vec<String> = (0..20).map(|i| origin.url_at(1, &format!("/bad/{i}"))).collect();
    urls.extend((0..60).map(|i| origin.url_at(2, &format!("/good/{i}"))));
    let job = Job::over(&urls)
        .set("limits.workers", "2")
        .set("retry.attempts", "2")
        .set("retry.backoff", "\"30s\"")
        .set("retry.max_backoff", "\"30s\"");
    let live: Live = job.run().spawn();
    let good = || origin.log().iter().filter(|r| r.path().starts_with("/good")).count() == 60;
    assert!(crate::support::origin::wait_until(Duration::from_secs(15), good), "good pages wait behind a backoff");
    drop(live);
}

/// A listener whose backlog is full, so that a SYN is never answered.
struct FullBacklog {
    port: u16,
    _held: (tokio::runtime::Runtime, tokio::net::TcpListener, Vec<std::net::TcpStream>),
}

fn full_backlog() -> FullBacklog {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap()
    });
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(s) = std::net::TcpStream::connect_timeout(&addr, ms(200)) {
        held.push(s);
        assert!(held.len() < 100, "the backlog never fills");
    }
    FullBacklog { port: addr.port(), _held: (runtime, listener, held) }
}

/// Answers anything with a plain `400`, as web servers do where TLS comes to their plain port.
struct PlainServer {
    port: u16,
}

fn plain_server_for_tls() -> PlainServer {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut s in listener.incoming().flatten() {
            let _ = s.read(&mut [0; 2048]);
            let _ = s.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    PlainServer { port }
}

#[test]
fn the_origin_answers_as_scripted() {
    // the harness itself: a delay, a reset and a count, seen with a plain socket
    use std::io::{Read as _, Write as _};
    let origin = Origin::start(|r| if r.nth == 1 { Reply::ok("one") } else { Reply::reset() });
    let ask = || {
        let mut s = std::net::TcpStream::connect(origin.addr()).unwrap();
        s.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = [0; 300];
        s.read(&mut bytes).map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned())
    };
    assert!(ask().unwrap().starts_with("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"));
    assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((origin.arrivals(), origin.connections()), (2, 2));
    assert!(matches!(Reply::ok("x").act, Act::Answer { status: 200, .. }));
}

#[test]
fn a_retry_after_a_short_wait_does_not_come_last() {
    // all workers are busy and something was settled just before, so that the store hears of the retry after it became due
    let origin = Origin::on(3, |r| match r.path().split('/').nth(1).unwrap() {
        "flaky" if r.nth == 1 => Reply::status(500).after(ms(50)),
        "slow" => Reply::ok(page("x")).after(ms(1500)),
        "quick" => Reply::ok(page("x")).after(ms(40)),
        _ => Reply::ok(page("x")),
    });
    let mut urls = vec![origin.url_at(1, "/flaky/0")];
    urls.extend((0..4).map(|i| origin.url_at(2, &format!("/slow/{i}"))));
    urls.extend((0..5).map(|i| origin.url_at(3, &format!("/quick/{i}"))));
    let job = Job::over(&urls).set("limits.workers", "4").set("limits.per_host", "2");
    job.set("retry.backoff", "\"2ms\"").set("retry.max_backoff", "\"2ms\"").run().expect(0);
    let flaky = origin.at_path("/flaky/0");
    let waited = flaky[1].at - flaky[0].at;
    assert!(waited < ms(1200), "{waited:?}");
}

#[test]
fn a_last_try_waits_as_it_was_asked_to_once_the_sweep_is_on_and_after_a_restart() {
    let slow_down = || Reply::status(500).header("Retry-After", "3");
    let gap = |origin: &Origin, p: &str| {
        let asked = origin.at_path(p);
        asked[1].at - asked[0].at
    };
    // the seed comes in the sweep, what it links to after that
    let origin = Origin::start(move |r| match r.path() {
        "/" if r.nth == 1 => Reply::status(500),
        "/" => Reply::ok("<a href='/x'>x</a>"),
        _ if r.nth == 1 => slow_down(),
        _ => Reply::ok(page("x")),
    });
    let last = |job: Job| job.set("retry.attempts", "2").set("retry.final_sweep", "true");
    last(Job::crawl(&origin.url("/"))).run().expect(0);
    assert!(gap(&origin, "/x") >= ms(2990), "{:?}", gap(&origin, "/x"));
    let origin = Origin::start(move |r| if r.nth == 1 { slow_down() } else { Reply::ok(page("x")) });
    let job = last(Job::over([origin.url("/x")]));
    let live = job.run().spawn();
    assert!(origin.wait_for(1, Duration::from_secs(20)));
    std::thread::sleep(ms(1000));
    live.kill9();
    job.run().expect(0);
    assert_eq!((origin.arrivals(), job.results()[0].number("_attempts")), (2, 2));
    assert!(gap(&origin, "/x") >= ms(2990), "{:?}", gap(&origin, "/x"));
}

#[test]
fn the_retry_budget_binds_though_the_list_is_longer_than_memory() {
    const N: usize = 10_000;
    let origin = Origin::start(|_| Reply::status(503));
    let job = Job::over((0..N).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "32").set("retry.attempts", "2");
    job.set("retry.budget", "\"20%\"").run().arg("--quiet").expect(1);
    let log = origin.log();
    assert_eq!(log.len(), 2 * N, "once only retries are left they are all sent");
    let (mut firsts, mut retries) = (0, 0);
    for r in &log {
        if r.nth == 1 {
            firsts += 1;
        } else if firsts < N {
            retries += 1;
        }
    }
    // the first hundred are free, some are on their way
    assert!(retries <= N / 4 + 200, "{retries} retries before the last of {N} first tries");
}
