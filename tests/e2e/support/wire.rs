//! The origin's side of the wire: HTTP/1.1 by hand, so that every break of the rules can be made; HTTP/2 by `h2`.

use super::origin::{Arrival, Shared};
use super::reply::{Act, Reply, Step, encode};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A stream that can be ended by RST.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A server configuration of a fresh authority, and the authority's PEM file.
pub(crate) fn acceptor(h2: bool) -> (Option<TlsAcceptor>, Option<(tempfile::TempDir, PathBuf)>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "gleaner test authority");
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1", "localhost", "*.example.com", "example.com"]
        .iter()
        .chain(super::origin::APIS)
        .map(|n| (*n).to_owned())
        .collect::<Vec<_>>();
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca_pem).unwrap();
    (Some(TlsAcceptor::from(Arc::new(config))), Some((dir, file)))
}

/// Accepts for ever.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let conn = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_open.fetch_max(open, Ordering::SeqCst);
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            let Ok(ip) = stream.local_addr().map(|a| a.ip()) else { return };
            let _ = match tls {
                None => http1(stream, &shared, conn, ip).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(s) if s.get_ref().1.alpn_protocol() == Some(b"h2") => http2(s, Arc::clone(&shared), conn, ip).await,
                    Ok(s) => http1(s, &shared, conn, ip).await,
                    Err(e) => Err(e),
                },
            };
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn http1<S: Wire>(mut stream: S, shared: &Shared, conn: usize, ip: IpAddr) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(arrival) = read_request(&mut stream, &mut buffer, conn, ip).await? else { return Ok(()) };
        let method = arrival.method.clone();
        let Reply { delay, act } = shared.arrive(arrival);
        if !delay.is_zero() && gone_within(&mut stream, &mut buffer, delay).await {
            return Ok(());
        }
        match act {
            Act::Answer { status, headers, body } => {
                stream.write_all(&encode(&method, status, &headers, &body)).await?;
                stream.flush().await?;
                if headers.iter().any(|(k, v)| k.eq_ignore_ascii_case("connection") && v == "close") {
                    return stream.shutdown().await;
                }
            }
            Act::Script(steps) => {
                if !play(&mut stream, &mut buffer, steps).await? {
                    return Ok(());
                }
            }
            Act::Tunnel(to) => {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                let mut onward = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut onward).await?;
                return Ok(());
            }
        }
    }
}

/// Plays a script; false where it ended the connection.
async fn play<S: Wire>(stream: &mut S, buffer: &mut Vec<u8>, steps: Vec<Step>) -> io::Result<bool> {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Step::Wait(d) => {
                if gone_within(stream, buffer, d).await {
                    return Ok(false);
                }
            }
            Step::Forever(bytes, pause) => loop {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                if gone_within(stream, buffer, pause).await {
                    return Ok(false);
                }
            },
            Step::Reset => {
                stream.tcp().set_zero_linger()?;
                return Ok(false);
            }
            Step::Close => {
                stream.shutdown().await?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Waits, and tells whether the client left meanwhile, so that abandoned connections do not count as open.
async fn gone_within<S: Wire>(stream: &mut S, buffer: &mut Vec<u8>, wait: std::time::Duration) -> bool {
    let watch = async {
        loop {
            match stream.read_buf(buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(wait, watch).await.is_ok()
}

/// The next request; `None` where the client left.
async fn read_request<S: Wire>(stream: &mut S, buffer: &mut Vec<u8>, conn: usize, ip: IpAddr) -> io::Result<Option<Arrival>> {
    let head_end = loop {
        if let Some(i) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break i;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    buffer.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or("").split(' ');
    let method = first.next().unwrap_or("").to_owned();
    let target = first.next().unwrap_or("").to_owned();
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length = headers.iter().find(|(k, _)| k == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer.drain(..length).collect();
    Ok(Some(Arrival { conn, ip, h2: false, method, target, headers, body }))
}

async fn http2(stream: TlsStream<TcpStream>, shared: Arc<Shared>, conn: usize, ip: IpAddr) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(next) = connection.accept().await {
        let Ok((request, mut respond)) = next else { break };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let uri = request.uri();
            let mut headers: Vec<(String, String)> =
                request.headers().iter().map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
            headers.push(("host".into(), uri.authority().map_or(String::new(), ToString::to_string)));
            let target = uri.path_and_query().map_or(String::new(), ToString::to_string);
            let method = request.method().to_string();
            let Reply { delay, act } = shared.arrive(Arrival { conn, ip, h2: true, method, target, headers, body: Vec::new() });
            tokio::time::sleep(delay).await;
            let Act::Answer { status, headers, body } = act else {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                return;
            };
            let mut answer = http::Response::builder().status(status);
            for (k, v) in headers {
                answer = answer.header(k, v);
            }
            if let Ok(mut out) = respond.send_response(answer.body(()).unwrap(), body.is_empty())
                && !body.is_empty()
            {
                let _ = out.send_data(body.into(), true);
            }
        });
    }
    Ok(())
}
