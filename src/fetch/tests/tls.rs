//! TLS by an authority of the tests' own, HTTP/2.

use super::*;
use crate::fetch::SetupError;
use crate::model::{Reason, Sent};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Tls = TlsStream<TcpStream>;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    Authority { issuer, file }
}

impl Authority {
    fn server(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn trusted(&self) -> Fetcher {
        fetcher(&RequestPlan { ca_file: Some(self.file.path().to_owned()), ..plan() })
    }
}

async fn serve<F, Fut>(acceptor: TlsAcceptor, handle: F) -> SocketAddr
where
    F: Fn(Tls) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(stream).await {
                    handle(tls).await;
                }
            });
        }
    });
    addr
}

async fn hello(mut tls: Tls) {
    while read_head(&mut tls).await.is_some() {
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        tls.flush().await.unwrap();
    }
}

#[tokio::test]
async fn an_authority_of_ca_file_is_trusted_and_no_other() {
    let ours = authority();
    let addr = serve(ours.server("127.0.0.1", &[]), hello).await;
    let f = ours.trusted();
    for _ in 0..2 {
        assert_eq!(answer(&f, get(format!("https://{addr}/"))).await.body, b"ok");
    }
    assert_eq!(f.connections(), 1);
    for f in [fetcher(&plan()), authority().trusted()] {
        let e = failure(&f, get(format!("https://{addr}/"))).await;
        assert_eq!((e.reason, e.sent), (Reason::TlsCert, Sent::No), "{}", e.message);
        assert!(e.message.contains(&addr.to_string()), "{}", e.message);
    }
    let other = serve(ours.server("other.example", &[]), hello).await;
    assert_eq!(failure(&ours.trusted(), get(format!("https://{other}/"))).await.reason, Reason::TlsCert);
}

#[test]
fn a_ca_file_that_is_none_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_owned(), "/nonexistent/ca.pem".into()] {
        let with = RequestPlan { ca_file: Some(path.clone()), ..plan() };
        let Err(e) = Fetcher::new(&with, &[], &NetworkPlan::default(), Arc::new(SystemClock::new())) else { panic!() };
        assert!(matches!(e, SetupError::CaFile(_)) && e.to_string().contains(path.to_str().unwrap()), "{e}");
    }
}

#[test]
fn mozillas_roots_are_bundled() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    assert!(crate::fetch::client::bundled(Vec::new(), &provider).is_ok());
}

#[tokio::test]
async fn what_is_no_tls_is_a_handshake() {
    let f = fetcher(&plan());
    let plain = Origin::reply("HTTP/1.1 400 no\r\n\r\n", Then::Close).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nthis port speaks plain text").await;
        }
    });
    let e = failure(&f, get(format!("https://{addr}/"))).await;
    assert_eq!((e.reason, e.sent), (Reason::TlsHandshake, Sent::No), "{}", e.message);
    // one that says nothing at all
    let e =
        failure(&fetcher(&RequestPlan { connect_timeout: Duration::from_millis(200), ..plan() }), get(format!("https://{}/", plain.addr)))
            .await;
    assert_eq!((e.reason, e.sent), (Reason::ConnectTimeout, Sent::No), "{}", e.message);
}

#[tokio::test]
async fn an_end_without_close_notify_is_a_cut() {
    let ours = authority();
    let head = b"HTTP/1.1 200 OK\r\n\r\npart";
    let rude = serve(ours.server("127.0.0.1", &[]), move |mut tls| async move {
        read_head(&mut tls).await;
        tls.write_all(head).await.unwrap();
        tls.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(tls.into_inner());
    })
    .await;
    let e = failure(&ours.trusted(), get(format!("https://{rude}/"))).await;
    assert_eq!((e.reason, e.status), (Reason::BodyTruncated, Some(200)), "{}", e.message);
    let polite = serve(ours.server("127.0.0.1", &[]), move |mut tls| async move {
        read_head(&mut tls).await;
        tls.write_all(head).await.unwrap();
        tls.shutdown().await.unwrap();
    })
    .await;
    let a = answer(&ours.trusted(), get(format!("https://{polite}/"))).await;
    assert_eq!((a.body.as_slice(), a.warnings.as_slice()), (b"part".as_slice(), ["length-unknown"].as_slice()));
}

/// What an HTTP/2 server does with the requests of a connection.
#[derive(Clone, Copy)]
enum H2 {
    Ok,
    Refuse,
    Reset,
    Cut,
    GoAway,
}

async fn h2_server(ours: &Authority, does: H2) -> SocketAddr {
    serve(ours.server("127.0.0.1", &["h2", "http/1.1"]), move |tls| async move {
        let Ok(mut conn) = h2::server::handshake(tls).await else { return };
        if matches!(does, H2::GoAway) {
            conn.graceful_shutdown();
        }
        while let Some(Ok((_, mut respond))) = conn.accept().await {
            match does {
                H2::Refuse => respond.send_reset(h2::Reason::REFUSED_STREAM),
                H2::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                H2::Ok | H2::Cut | H2::GoAway => {
                    let reply = http::Response::builder().status(200).body(()).unwrap();
                    let mut body = respond.send_response(reply, false).unwrap();
                    body.send_data(vec![b'x'; 70_000].into(), matches!(does, H2::Ok | H2::GoAway)).unwrap();
                    if matches!(does, H2::Cut) {
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            body.send_reset(h2::Reason::INTERNAL_ERROR);
                        });
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn http2_by_alpn_on_one_connection() {
    let ours = authority();
    let addr = h2_server(&ours, H2::Ok).await;
    let f = ours.trusted();
    let url = format!("https://{addr}/");
    assert_eq!(answer(&f, get(&url)).await.body.len(), 70_000);
    for a in futures::future::join_all((0..10).map(|_| answer(&f, get(&url)))).await {
        assert_eq!((a.body.len(), a.warnings.len()), (70_000, 0));
    }
    assert_eq!(f.connections(), 1);
    let a = answer(&f, Request { fresh: true, ..get(&url) }).await;
    assert_eq!((a.status, f.connections()), (200, 2));
}

#[tokio::test]
async fn http2_streams_that_break() {
    let ours = authority();
    for (does, reason, sent) in [
        (H2::Refuse, Reason::ConnClosed, Sent::No),
        (H2::Reset, Reason::ConnReset, Sent::Maybe),
        (H2::Cut, Reason::BodyTruncated, Sent::Maybe),
    ] {
        let addr = h2_server(&ours, does).await;
        let e = failure(&ours.trusted(), get(format!("https://{addr}/"))).await;
        assert_eq!((e.reason, e.sent), (reason, sent), "{}", e.message);
    }
    // a shutdown under way: answered, or told as unsent
    let addr = h2_server(&ours, H2::GoAway).await;
    let f = ours.trusted();
    for _ in 0..5 {
        if let Outcome::Failure(e) = f.attempt(get(format!("https://{addr}/")), |_| ()).await {
            assert_eq!((e.reason, e.sent), (Reason::ConnClosed, Sent::No), "{}", e.message);
        }
    }
}

/// An HTTP proxy that opens every way to `target`.
async fn tunnel(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut down, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut down).await.unwrap();
                assert!(head.starts_with("CONNECT ") && head.contains("Proxy-Authorization: Basic"), "{head}");
                down.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut up = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut down, &mut up).await;
            });
        }
    });
    addr
}

#[tokio::test]
async fn through_connect_the_targets_troubles_are_its_own() {
    let ours = authority();
    let target = serve(ours.server("far.invalid", &[]), hello).await;
    let h2 = h2_server(&ours, H2::Ok).await;
    let plain = Origin::reply("HTTP/1.1 400 no\r\n\r\n", Then::Close).await;
    let through = |proxy: SocketAddr, trusted: bool| {
        let ca_file = trusted.then(|| ours.file.path().to_owned());
        fetcher(&RequestPlan { proxy: ProxyPlan::List(vec![format!("http://u:canary@{proxy}")]), ca_file, ..plan() })
    };
    let proxy = tunnel(target).await;
    let e = failure(&through(proxy, false), get("https://far.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::TlsCert, Sent::No), "{}", e.message);
    let e = failure(&through(proxy, true), get("https://other.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::TlsCert, Sent::No), "{}", e.message);
    let f = through(tunnel(h2).await, true);
    for _ in 0..2 {
        assert_eq!(answer(&f, get(format!("https://127.0.0.1:{}/", h2.port()))).await.body.len(), 70_000);
    }
    assert_eq!(f.connections(), 1);
    assert_eq!(answer(&through(proxy, true), Request { named: false, ..get("https://far.invalid/") }).await.body, b"ok");
    let silent = RequestPlan { connect_timeout: Duration::from_millis(300), ..plan() };
    let list = ProxyPlan::List(vec![format!("http://u:canary@{}", tunnel(plain.addr).await)]);
    let e = failure(&fetcher(&RequestPlan { proxy: list, ..silent }), get("https://far.invalid/")).await;
    assert_eq!((e.reason, e.sent), (Reason::ProxyUnreachable, Sent::No), "which of the two is silent cannot be told: {}", e.message);
}

#[tokio::test]
async fn a_handshake_that_stalls_is_told_apart_from_a_connection_and_nothing_was_written() {
    let silent = Origin::reply("", Then::Hang).await;
    let f = fetcher(&RequestPlan { connect_timeout: Duration::from_millis(300), ..plan() });
    let e = failure(&f, get(format!("https://{}/", silent.addr))).await;
    assert_eq!((e.reason, e.sent), (Reason::ConnectTimeout, Sent::No));
    assert!(e.message.contains("TLS handshake stalled"), "{}", e.message);
    for (scheme, written) in [("https", false), ("http", true)] {
        let f = fetcher(&plan());
        let request = get(format!("{scheme}://{}/", silent.addr));
        let stage = request.stage.clone();
        assert!(!stage.may_be_written());
        assert!(tokio::time::timeout(Duration::from_millis(300), f.attempt(request, |_| ())).await.is_err());
        assert_eq!(stage.may_be_written(), written, "{scheme}");
    }
}
