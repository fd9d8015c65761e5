//! The rows of `reference.md` A.4 that loopback can make.

use super::*;
use crate::model::{Reason, Sent};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One broken answer on a first connection: reason, sent, and the status if headers had come.
async fn breaks(reply: impl AsRef<[u8]>, then: Then) -> Failure {
    let origin = Origin::reply(reply, then).await;
    let e = failure(&fetcher(&plan()), get(origin.url())).await;
    assert!(!e.reused);
    assert_eq!(e.sent, Sent::Maybe);
    assert!(e.message.contains(&origin.addr.to_string()), "{}", e.message);
    e
}

#[tokio::test]
async fn a_refused_connection_was_never_sent() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = failure(&fetcher(&plan()), get(format!("http://{addr}/?token=canary"))).await;
    assert_eq!((e.reason, e.sent, e.reused), (Reason::ConnectRefused, Sent::No, false));
    assert!(e.message.contains(&addr.to_string()) && !e.message.contains("canary"), "{}", e.message);
}

#[tokio::test]
async fn connections_that_end_before_an_answer() {
    assert_eq!(breaks("", Then::Close).await.reason, Reason::ConnClosed);
    assert_eq!(breaks("HTTP/1.1 200 OK\r\nContent-", Then::Close).await.reason, Reason::ConnClosed);
    assert_eq!(breaks("", Then::Reset).await.reason, Reason::ConnReset);
}

#[tokio::test]
async fn answers_that_are_no_http() {
    for reply in [
        "garbage\r\n\r\n",
        "<html>an answer of http/0.9</html>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ] {
        let e = breaks(reply, Then::Close).await;
        assert_eq!(e.reason, Reason::ProtocolError, "{reply}: {}", e.message);
    }
    let many = (0..600).fold(String::new(), |all, i| all + &format!("X-{i}: y\r\n"));
    assert_eq!(breaks(format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Then::Close).await.reason, Reason::ProtocolError);
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(breaks(large, Then::Close).await.reason, Reason::ProtocolError);
}

#[tokio::test]
async fn bodies_that_are_cut() {
    let e = breaks("HTTP/1.1 200 OK\r\nRetry-After: 7\r\nContent-Length: 10\r\n\r\nabc", Then::Close).await;
    assert_eq!((e.reason, e.status), (Reason::BodyTruncated, Some(200)));
    assert!(e.headers_at.is_some() && e.remote.is_some());
    assert_eq!(e.headers.unwrap()["retry-after"], "7");
    assert_eq!(breaks("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Then::Reset).await.reason, Reason::BodyTruncated);
    assert_eq!(breaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", Then::Close).await.reason, Reason::BodyTruncated);
    assert_eq!(
        breaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Then::Close).await.reason,
        Reason::BodyTruncated
    );
    assert_eq!(breaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", Then::Close).await.reason, Reason::ProtocolError);
}

#[tokio::test]
async fn a_part_is_no_result_unless_it_covers_the_whole() {
    let part = |range: &str| format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(breaks(part("bytes 0-1/9"), Then::Keep).await.reason, Reason::BodyTruncated);
    let origin = Origin::reply(part("bytes 0-1/2"), Then::Keep).await;
    assert_eq!(answer(&fetcher(&plan()), get(origin.url())).await.body, b"ok");
}

#[tokio::test]
async fn silence_at_each_stage() {
    let quick = RequestPlan {
        first_byte_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(100),
        total_timeout: Duration::from_millis(300),
        ..plan()
    };
    let f = fetcher(&quick);
    let origin = Origin::reply("", Then::Hang).await;
    let e = failure(&f, get(origin.url())).await;
    assert_eq!((e.reason, e.sent, e.status), (Reason::FirstByteTimeout, Sent::Maybe, None));
    // 1xx are no answer
    let origin = Origin::reply("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", Then::Hang).await;
    assert_eq!(failure(&f, get(origin.url())).await.reason, Reason::FirstByteTimeout);
    let origin = Origin::reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Then::Hang).await;
    let e = failure(&f, get(origin.url())).await;
    assert_eq!((e.reason, e.status), (Reason::BodyTimeout, Some(200)));
    assert!(e.message.contains("stalled"), "{}", e.message);
}

/// Sends `every` after each pause for ever.
async fn drip(every: &'static [u8], pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n").await.unwrap();
        while stream.write_all(every).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    });
    addr
}

#[tokio::test]
async fn a_drip_ends_at_the_total_time() {
    let addr = drip(b"x", Duration::from_millis(20)).await;
    let quick = RequestPlan { total_timeout: Duration::from_millis(300), ..plan() };
    let e = failure(&fetcher(&quick), get(format!("http://{addr}/"))).await;
    assert_eq!(e.reason, Reason::BodyTimeout);
    assert!(e.message.contains("total time"), "{}", e.message);
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_minimum_rate_is_too_slow() {
    let addr = drip(b"x", Duration::from_secs(1)).await;
    let patient = RequestPlan { total_timeout: Duration::from_mins(10), first_byte_timeout: Duration::from_mins(10), ..plan() };
    let patient = RequestPlan { connect_timeout: Duration::from_mins(10), ..patient };
    let e = failure(&fetcher(&patient), get(format!("http://{addr}/"))).await;
    assert_eq!(e.reason, Reason::SlowBody, "{}", e.message);
}

#[tokio::test]
async fn a_connection_is_reused_and_its_death_is_told() {
    let origin = Origin::replies(vec![(OK.to_vec(), Then::Keep), (Vec::new(), Then::Close), (OK.to_vec(), Then::Keep)]).await;
    let f = fetcher(&plan());
    answer(&f, get(origin.url())).await;
    let e = failure(&f, get(origin.url())).await;
    assert_eq!((e.reason, e.reused, e.sent), (Reason::ConnClosed, true, Sent::Maybe));
    answer(&f, get(origin.url())).await;
    assert_eq!((origin.connections(), f.connections()), (2, 2));
}

#[tokio::test]
async fn an_idle_connection_that_ended_costs_nothing() {
    let origin = Origin::replies(vec![(OK.to_vec(), Then::Close)]).await;
    let f = fetcher(&plan());
    for _ in 0..3 {
        assert_eq!(answer(&f, get(origin.url())).await.body, b"ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_fresh_request_takes_no_pooled_connection() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let f = fetcher(&plan());
    for fresh in [false, true, true, false] {
        answer(&f, Request { fresh, ..get(origin.url()) }).await;
    }
    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn bytes_after_an_answer_never_reach_the_next() {
    let reply = [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"].concat();
    let origin = Origin::replies(vec![(reply, Then::Hang), (OK.to_vec(), Then::Keep)]).await;
    let f = fetcher(&plan());
    for _ in 0..2 {
        assert_eq!(answer(&f, get(origin.url())).await.body, b"ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn heads_as_the_web_has_them() {
    for reply in [
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\na line without a colon\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: \u{e9}\u{1f600}\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let origin = Origin::reply(reply, Then::Keep).await;
        let a = answer(&fetcher(&plan()), get(origin.url())).await;
        assert_eq!((a.status, a.body.as_slice(), a.wire_bytes), (200, b"ok".as_slice(), 2), "{reply}");
        assert!(a.warnings.is_empty());
    }
    let many = (0..500).fold(String::new(), |all, i| all + &format!("X-{i}: y\r\n"));
    let origin = Origin::reply(format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok"), Then::Keep).await;
    assert_eq!(answer(&fetcher(&plan()), get(origin.url())).await.headers.len(), 501);
}

#[tokio::test]
async fn what_is_sent_is_what_was_given() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let f = fetcher(&plan());
    let mut req = get(format!("{}p/%c3?b=+&a=%zz#fragment", origin.url()));
    req.headers.insert("x-b", "1".parse().unwrap());
    req.headers.insert("x-a", "2".parse().unwrap());
    answer(&f, req).await;
    answer(&f, Request { identity: true, ..get(origin.url()) }).await;
    let mut post = get(origin.url());
    post.method = http::Method::POST;
    post.body = Some(b"{}".to_vec());
    post.headers.insert("accept-encoding", "br".parse().unwrap());
    answer(&f, post).await;
    let heads = origin.heads();
    assert!(heads[0].starts_with("GET /p/%c3?b=+&a=%zz HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].find("x-b: 1").unwrap() < heads[0].find("x-a: 2").unwrap());
    for line in ["accept-encoding: gzip, deflate, br, zstd\r\n", "accept: */*\r\n", &format!("host: {}\r\n", origin.addr)] {
        assert!(heads[0].contains(line), "{line} in {}", heads[0]);
    }
    assert!(heads[1].contains("accept-encoding: identity\r\n"));
    assert!(heads[2].starts_with("POST / ") && heads[2].contains("content-length: 2\r\n") && heads[2].contains("accept-encoding: br\r\n"));
    for head in &heads {
        for word in ["cookie", "referer", "user-agent"] {
            assert!(!head.to_lowercase().contains(word), "{head}");
        }
    }
}

#[tokio::test]
async fn no_redirect_is_followed_and_its_connection_lives_on() {
    let hop = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /next\r\nContent-Length: 5\r\n\r\nmoved".to_vec();
    let origin = Origin::replies(vec![(hop, Then::Keep), (OK.to_vec(), Then::Keep)]).await;
    let f = fetcher(&plan());
    let a = answer(&f, get(origin.url())).await;
    assert_eq!((a.status, a.body.len(), a.header("location")), (302, 0, Some("/next")));
    answer(&f, get(origin.url())).await;
    assert_eq!((origin.connections(), origin.heads().len()), (1, 2));
    assert!(!origin.heads()[1].contains("cookie"));
}

#[tokio::test]
async fn headers_are_told_before_the_body_is_read() {
    let origin = Origin::reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Then::Close).await;
    let mut told = None;
    let outcome = fetcher(&plan()).attempt(get(origin.url()), |at| told = Some(at)).await;
    let Outcome::Failure(e) = outcome else { panic!() };
    assert_eq!((told, e.reason), (e.headers_at, Reason::BodyTruncated));
    assert!(told.is_some());
}

#[tokio::test]
async fn addresses_that_cannot_be_sent_are_bad_input() {
    for url in ["ftp://h/", "http://a\"b/", "http://a`b/", "http://a{b}/", "data:text/plain,x"] {
        let Ok(parsed) = Url::parse(url) else { continue };
        let e = failure(&fetcher(&plan()), Request { url: parsed, ..get("http://h/") }).await;
        assert_eq!((e.reason, e.sent), (Reason::BadInput, Sent::No), "{url}");
    }
}

#[tokio::test]
async fn private_literals_are_not_dialled_unless_named() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let f = fetcher(&plan());
    let port = origin.addr.port();
    for host in ["127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "169.254.169.254", "10.0.0.1"] {
        let e = failure(&f, Request { named: false, ..get(format!("http://{host}:{port}/")) }).await;
        assert_eq!((e.reason, e.sent), (Reason::BlockedAddress, Sent::No), "{host}");
    }
    let e = failure(&f, get("http://169.254.169.254/latest/meta-data/")).await;
    assert_eq!(e.reason, Reason::BlockedAddress);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn attempts_side_by_side_share_nothing_but_the_pool() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let f = fetcher(&plan());
    for _ in 0..3 {
        let all = (0..16).map(|_| answer(&f, get(origin.url())));
        for a in futures::future::join_all(all).await {
            assert_eq!(a.body, b"ok");
        }
    }
    assert!(origin.connections() <= 16);
    assert!(f.budget() >= 4);
}

#[tokio::test]
async fn an_answer_of_101_is_none() {
    let e = breaks("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Then::Hang).await;
    assert_eq!((e.reason, e.status), (Reason::ProtocolError, Some(101)));
}

#[tokio::test]
async fn userinfo_of_the_address_is_not_sent() {
    let origin = Origin::reply(OK, Then::Keep).await;
    answer(&fetcher(&plan()), get(format!("http://user:canary@{}/", origin.addr))).await;
    let proxied = RequestPlan { proxy: ProxyPlan::List(vec![origin.addr.to_string()]), ..plan() };
    answer(&fetcher(&proxied), get("http://user:canary@a.invalid/")).await;
    assert!(origin.heads().iter().all(|h| !h.contains("canary") && !h.to_lowercase().contains("authorization")), "{:?}", origin.heads());
}

#[tokio::test]
#[ignore = "run by a_wide_list_passes_with_few_descriptors in a process of its own"]
async fn child_of_few_descriptors() {
    let addr: SocketAddr = std::env::var("GLEANER_TEST_ORIGIN").unwrap().parse().unwrap();
    let resolve = vec![("*".to_owned(), addr.port(), addr.ip())];
    let f = fetcher_on(&plan(), &NetworkPlan { resolve, ..NetworkPlan::default() });
    assert_eq!(f.budget(), 20);
    let (f, port) = (&f, addr.port());
    // one server for all: its connections are kept
    for _ in 0..10 {
        futures::future::join_all((0..20).map(|_| answer(f, get(format!("http://one.test:{port}/"))))).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = f.connections();
    assert!(before < 100, "{before} connections for 200 requests");
    for round in 0..20 {
        let all = (0..20).map(|i| answer(f, get(format!("http://h{round}-{i}.test:{port}/"))));
        futures::future::join_all(all).await;
        // a connection that is not kept is closed by a task of its own
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(f.connections() - before, 400);
}

#[tokio::test]
async fn a_wide_list_passes_with_few_descriptors() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let me = std::env::current_exe().unwrap();
    let child = tokio::task::spawn_blocking(move || {
        std::process::Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" fetch::tests::shapes::child_of_few_descriptors --ignored --exact"])
            .arg(me)
            .env("GLEANER_TEST_ORIGIN", origin.addr.to_string())
            .output()
            .unwrap()
    });
    let out = child.await.unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

#[test]
fn shortages_of_this_machine_are_told_by_their_number() {
    for (number, short) in [(24, true), (23, true), (99, false), (105, true), (12, true), (111, false), (104, false)] {
        assert_eq!(crate::fetch::classify::is_shortage(&std::io::Error::from_raw_os_error(number)), short, "{number}");
    }
}
