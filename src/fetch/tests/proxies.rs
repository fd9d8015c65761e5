//! Proxies of the tests' own: HTTP with and without CONNECT, SOCKS5.

use super::*;
use crate::clock::Moment;
use crate::model::{Reason, Sent};
use tokio::io::copy_bidirectional;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn through(proxy: &str) -> Fetcher {
    through_all(&[proxy])
}

fn through_all(proxies: &[&str]) -> Fetcher {
    let list = proxies.iter().map(|p| (*p).to_owned()).collect();
    fetcher(&RequestPlan { proxy: ProxyPlan::List(list), connect_timeout: Duration::from_millis(500), ..plan() })
}

/// A SOCKS5 proxy (RFC 1928) that wants `user:pass` if given, answers `status`, and leads every way to `target`. Tells what was asked for.
async fn socks(auth: Option<&'static str>, status: u8, target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let _ = async {
                    let mut head = [0; 2];
                    s.read_exact(&mut head).await?;
                    let mut methods = vec![0; usize::from(head[1])];
                    s.read_exact(&mut methods).await?;
                    if let Some(want) = auth {
                        s.write_all(&[5, 2]).await?;
                        let mut parts = Vec::new();
                        s.read_u8().await?;
                        for _ in 0..2 {
                            let mut text = vec![0; usize::from(s.read_u8().await?)];
                            s.read_exact(&mut text).await?;
                            parts.push(String::from_utf8(text).unwrap());
                        }
                        let ok = parts.join(":") == want;
                        s.write_all(&[1, u8::from(!ok)]).await?;
                        if !ok {
                            return Ok(());
                        }
                    } else {
                        s.write_all(&[5, 0]).await?;
                    }
                    let mut request = [0; 4];
                    s.read_exact(&mut request).await?;
                    let host = if request[3] == 3 {
                        let mut name = vec![0; usize::from(s.read_u8().await?)];
                        s.read_exact(&mut name).await?;
                        String::from_utf8(name).unwrap()
                    } else {
                        std::net::Ipv4Addr::from(s.read_u32().await?).to_string()
                    };
                    s.read_u16().await?;
                    log.lock().unwrap().push(host);
                    s.write_all(&[5, status, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
                    if status == 0 {
                        let mut up = TcpStream::connect(target).await?;
                        copy_bidirectional(&mut s, &mut up).await?;
                    }
                    std::io::Result::Ok(())
                }
                .await;
            });
        }
    });
    (addr, asked)
}

#[tokio::test]
async fn http_goes_in_absolute_form_with_the_proxys_credentials() {
    let proxy = Origin::reply(OK, Then::Keep).await;
    let f = through(&format!("http://us%40er:p%3aw@{}", proxy.addr));
    // the name is not resolved here
    let a = answer(&f, Request { named: false, ..get("http://nowhere.invalid/x") }).await;
    assert_eq!((a.body.as_slice(), a.remote), (b"ok".as_slice(), None));
    let head = &proxy.heads()[0];
    assert!(head.starts_with("GET http://nowhere.invalid/x HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dxnazxi6cdp3\r\n") || head.contains("dXNAZXI6cDp3"), "{head}");
    // literals are checked all the same
    let e = failure(&f, Request { named: false, ..get("http://10.0.0.1/") }).await;
    assert_eq!(e.reason, Reason::BlockedAddress);
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https", "socks5h", "socks5"] {
        let f = through(&format!("{scheme}://user:canary@{dead}"));
        for url in ["http://127.0.0.1/", "https://127.0.0.1/"] {
            let e = failure(&f, get(url)).await;
            assert_eq!((e.reason, e.sent), (Reason::ProxyUnreachable, Sent::No), "{scheme} {url}: {}", e.message);
            assert!(e.message.contains(&dead.to_string()) && !e.message.contains("canary"), "{}", e.message);
        }
    }
    let silent = Origin::reply("", Then::Hang).await;
    let e = failure(&through(&format!("http://{}", silent.addr)), get("https://a.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyUnreachable, Sent::No), "{}", e.message);
    let e = failure(&through("http://proxy.invalid.:3128"), get("http://a.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyUnreachable, Sent::No), "{}", e.message);
}

#[tokio::test]
async fn connect_refusals_are_the_proxys() {
    for (reply, reason) in [
        ("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", Reason::ProxyAuth),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", Reason::ProxyRefused),
        ("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", Reason::ProxyRefused),
        ("", Reason::ProxyRefused),
    ] {
        let proxy = Origin::reply(reply, Then::Close).await;
        let e = failure(&through(&format!("http://u:canary@{}", proxy.addr)), get("https://a.invalid/")).await;
        assert_eq!((e.reason, e.sent), (reason, Sent::No), "{reply}: {}", e.message);
        assert!(e.message.contains(&proxy.addr.to_string()) && !e.message.contains("canary"), "{}", e.message);
        assert!(proxy.heads()[0].starts_with("CONNECT a.invalid:443 HTTP/1.1\r\n"));
    }
    // without CONNECT too a 407 is the proxy's and no server was asked; but the request was written
    let proxy = Origin::reply("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", Then::Keep).await;
    let e = failure(&through(&format!("http://u:canary@{}", proxy.addr)), get("http://a.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyAuth, Sent::Maybe), "{}", e.message);
    assert!(e.message.contains(&proxy.addr.to_string()) && !e.message.contains("canary"), "{}", e.message);
}

#[tokio::test]
async fn five_407_in_a_row_end_a_proxy() {
    let proxy = Origin::reply("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", Then::Close).await;
    let f = through(&format!("http://{}", proxy.addr));
    let url = url::Url::parse("https://a.invalid/").unwrap();
    for i in 0..5 {
        assert!(f.rest_until(0, &url).is_none_or(|r| r.until != Moment::FAR), "{i}");
        failure(&f, get(url.as_str())).await;
    }
    assert_eq!(f.rest_until(0, &url).unwrap().until, Moment::FAR);
    assert_eq!(f.proxy_news().len(), 1);
}

#[tokio::test]
async fn a_list_goes_in_turn_and_leaves_out_a_dead_one() {
    let (one, two) = (Origin::reply(OK, Then::Keep).await, Origin::reply(OK, Then::Keep).await);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let f = through_all(&[&format!("http://{}", one.addr), &format!("http://{dead}"), &format!("http://{}", two.addr)]);
    let mut failed = 0;
    for _ in 0..9 {
        match f.attempt(get("http://a.invalid/"), |_| ()).await {
            Outcome::Answer(_) => {}
            Outcome::Failure(e) => {
                assert_eq!(e.reason, Reason::ProxyUnreachable);
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 1);
    assert!(one.heads().len() >= 3 && two.heads().len() >= 3);
}

#[tokio::test]
async fn socks5h_resolves_there_and_socks5_here() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let (addr, asked) = socks(Some("u:p w"), 0, origin.addr).await;
    assert_eq!(answer(&through(&format!("socks5h://u:p%20w@{addr}")), get("http://far.invalid:81/")).await.body, b"ok");
    assert_eq!(asked.lock().unwrap().as_slice(), ["far.invalid"]);
    let (addr, asked) = socks(None, 0, origin.addr).await;
    let f = through(&format!("socks5://{addr}"));
    assert_eq!(answer(&f, get("http://localhost:81/")).await.body, b"ok");
    assert_eq!(asked.lock().unwrap().as_slice(), ["127.0.0.1"]);
    let e = failure(&f, Request { named: false, ..get("http://localhost:82/") }).await;
    assert_eq!(e.reason, Reason::BlockedAddress, "{}", e.message);
}

#[tokio::test]
async fn socks_refusals_are_the_proxys() {
    let origin = Origin::reply(OK, Then::Keep).await;
    let (addr, _) = socks(None, 5, origin.addr).await;
    let e = failure(&through(&format!("socks5h://{addr}")), get("http://far.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyRefused, Sent::No), "{}", e.message);
    let (addr, _) = socks(Some("u:right"), 0, origin.addr).await;
    let e = failure(&through(&format!("socks5h://u:canary@{addr}")), get("http://far.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyAuth, Sent::No), "{}", e.message);
    assert!(!e.message.contains("canary"));
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn the_environments_proxies_are_used_as_told() {
    let proxy = Origin::reply(OK, Then::Keep).await;
    let origin = Origin::reply(OK, Then::Keep).await;
    let addr = proxy.addr.to_string();
    let env = move |name: &str| match name {
        "http_proxy" => Some(addr.clone()),
        "no_proxy" => Some("127.0.0.0/8".to_owned()),
        _ => None,
    };
    let with_env = RequestPlan { proxy: ProxyPlan::Environment, ..plan() };
    let f = Fetcher::with_env(&with_env, &[], &NetworkPlan::default(), Arc::new(SystemClock::new()), env).unwrap();
    answer(&f, get("http://a.invalid/")).await;
    answer(&f, get(origin.url())).await;
    assert_eq!((proxy.heads().len(), origin.heads().len()), (1, 1));
}
