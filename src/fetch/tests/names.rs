//! A name server of the tests' own.

use super::*;
use crate::model::{Reason, Sent};
use std::net::IpAddr;
use tokio::net::UdpSocket;

/// What the server says about a name's A and AAAA records.
#[derive(Clone)]
enum Says {
    Code(u8),
    Silence,
    Records(Vec<IpAddr>),
    /// For A, for AAAA.
    Split(Box<Says>, Box<Says>),
}

/// Answers by the first label of the name.
async fn server(script: Vec<(&'static str, Says)>) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buf = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buf).await {
            count.fetch_add(1, Ordering::SeqCst);
            let query = &buf[..n];
            let label = String::from_utf8_lossy(&query[13..13 + usize::from(query[12])]).to_lowercase();
            let end = 12 + query[12..].iter().position(|&b| b == 0).unwrap();
            let v6 = query[end + 2] == 28;
            let says = script.iter().find(|(l, _)| *l == label).map_or(Says::Code(3), |s| s.1.clone());
            let says = match says {
                Says::Split(a, aaaa) => *(if v6 { aaaa } else { a }),
                other => other,
            };
            let (code, records) = match says {
                Says::Silence | Says::Split(..) => continue,
                Says::Code(c) => (c, Vec::new()),
                Says::Records(ips) => (0, ips.into_iter().filter(|ip| ip.is_ipv6() == v6).collect()),
            };
            let mut reply = query[..2].to_vec();
            reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
            reply.extend(&query[12..end + 5]);
            for ip in records {
                reply.extend([0xc0, 12, 0, query[end + 2], 0, 1, 0, 0, 0, 60]);
                match ip {
                    IpAddr::V4(ip) => reply.extend([&[0, 4][..], &ip.octets()].concat()),
                    IpAddr::V6(ip) => reply.extend([&[0, 16][..], &ip.octets()].concat()),
                }
            }
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (addr, asked)
}

fn ips(list: &[&str]) -> Says {
    Says::Records(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

async fn with_server(script: Vec<(&'static str, Says)>) -> (Fetcher, Arc<AtomicUsize>) {
    let (addr, asked) = server(script).await;
    let quick = RequestPlan { connect_timeout: Duration::from_millis(900), ..plan() };
    (fetcher_on(&quick, &NetworkPlan { dns_servers: vec![addr], ..NetworkPlan::default() }), asked)
}

async fn ok_origin() -> Origin {
    Origin::reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Keep).await
}

#[tokio::test]
async fn failures_of_names_are_told_apart() {
    let split = |a, b| Says::Split(Box::new(a), Box::new(b));
    let (f, _) = with_server(vec![
        ("servfail", Says::Code(2)),
        ("refused", Says::Code(5)),
        ("nodata", ips(&[])),
        ("silent", Says::Silence),
        ("half", split(Says::Code(3), Says::Code(2))),
    ])
    .await;
    for (host, reason) in [
        ("nx.test", Reason::DnsNxdomain),
        ("servfail.test", Reason::DnsServfail),
        ("refused.test", Reason::DnsServfail),
        ("nodata.test", Reason::DnsNodata),
        ("silent.test", Reason::DnsTimeout),
        ("half.test", Reason::DnsServfail),
        ("a..test", Reason::DnsNxdomain),
    ] {
        let e = failure(&f, get(format!("http://{host}/"))).await;
        assert_eq!((e.reason, e.sent), (reason, Sent::No), "{host}: {}", e.message);
        assert!(e.message.contains(host), "{}", e.message);
    }
}

#[tokio::test]
async fn one_usable_answer_is_enough() {
    let origin = ok_origin().await;
    let split = |other| Says::Split(Box::new(ips(&["127.0.0.1"])), Box::new(other));
    let (f, asked) = with_server(vec![
        ("good", ips(&["127.0.0.1"])),
        ("v4nx", split(Says::Code(3))),
        ("v4fail", split(Says::Code(2))),
        ("v4silent", split(Says::Silence)),
        ("_odd_-", ips(&["127.0.0.1"])),
        ("-dash", ips(&["127.0.0.1"])),
        ("dead", ips(&["127.0.0.1", "::2"])),
    ])
    .await;
    for host in
        ["good.test", "good.test.", "GOOD.test", "v4nx.test", "v4fail.test", "v4silent.test", "_odd_-.test", "-dash.test", "dead.test"]
    {
        let a = answer(&f, get(format!("http://{host}:{}/", origin.addr.port()))).await;
        assert_eq!(a.remote, Some(origin.addr), "{host}");
    }
    let before = asked.load(Ordering::SeqCst);
    let all = (0..8).map(|_| answer(&f, Request { fresh: true, ..get(format!("http://good.test:{}/", origin.addr.port())) }));
    futures::future::join_all(all).await;
    assert_eq!(asked.load(Ordering::SeqCst), before, "answers are kept for their time to live");
}

#[tokio::test]
async fn equal_questions_in_flight_are_asked_once() {
    let origin = ok_origin().await;
    let (f, asked) = with_server(vec![("good", ips(&["127.0.0.1"]))]).await;
    let all = (0..8).map(|_| answer(&f, Request { fresh: true, ..get(format!("http://good.test:{}/", origin.addr.port())) }));
    futures::future::join_all(all).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "one A, one AAAA");
}

#[tokio::test]
async fn a_private_answer_is_blocked_unless_the_host_is_named() {
    let origin = ok_origin().await;
    let script = || {
        vec![
            ("inner", ips(&["127.0.0.1", "::1"])),
            ("mapped", ips(&["::ffff:127.0.0.1"])),
            ("meta", ips(&["169.254.169.254"])),
            ("mixed", ips(&["127.0.0.1", "169.254.169.254", "10.0.0.1"])),
        ]
    };
    let (f, _) = with_server(script()).await;
    let url = |host: &str| format!("http://{host}.test:{}/", origin.addr.port());
    for host in ["inner", "mapped", "meta", "mixed"] {
        let e = failure(&f, Request { named: false, ..get(url(host)) }).await;
        assert_eq!((e.reason, e.sent), (Reason::BlockedAddress, Sent::No), "{host}: {}", e.message);
    }
    assert_eq!(failure(&f, get(url("meta"))).await.reason, Reason::BlockedAddress);
    assert_eq!(origin.connections(), 0);
    answer(&f, get(url("inner"))).await;
    // only what is allowed of a mixed answer is dialled
    let (addr, _) = server(script()).await;
    let net = NetworkPlan { dns_servers: vec![addr], allow_net: vec![("127.0.0.0".parse().unwrap(), 8)], ..NetworkPlan::default() };
    let a = answer(&fetcher_on(&plan(), &net), Request { named: false, ..get(url("mixed")) }).await;
    assert_eq!(a.remote, Some(origin.addr));
}

#[tokio::test]
async fn resolve_gives_a_host_its_address_by_port() {
    let origin = ok_origin().await;
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let dead: IpAddr = "127.0.0.9".parse().unwrap();
    let (addr, asked) = server(vec![]).await;
    let port = origin.addr.port();
    let resolve = vec![("*".to_owned(), port, dead), ("Shop.example".to_owned(), port, loopback), ("shop.example".to_owned(), 1, dead)];
    let net = NetworkPlan { resolve, dns_servers: vec![addr], ..NetworkPlan::default() };
    let f = fetcher_on(&plan(), &net);
    for host in ["shop.example", "SHOP.example", "shop.example."] {
        let a = answer(&f, Request { named: false, ..get(format!("http://{host}:{port}/")) }).await;
        assert_eq!(a.remote, Some(origin.addr));
    }
    assert!(origin.heads()[0].contains(&format!("host: shop.example:{port}")));
    assert_eq!(failure(&f, get(format!("http://other.example:{port}/"))).await.reason, Reason::ConnectRefused);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert_eq!(failure(&f, get("http://shop.example/")).await.reason, Reason::DnsNxdomain);
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
    let origin = ok_origin().await;
    let f = fetcher_on(&plan(), &NetworkPlan { dns_servers: vec!["127.0.0.1:9".parse().unwrap()], ..NetworkPlan::default() });
    let url = format!("http://localhost:{}/", origin.addr.port());
    assert_eq!(answer(&f, get(&url)).await.remote, Some(origin.addr));
    assert_eq!(failure(&f, Request { named: false, ..get(&url) }).await.reason, Reason::BlockedAddress);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(failure(&f, get(format!("http://localhost:{dead}/"))).await.reason, Reason::ConnectRefused);
}
