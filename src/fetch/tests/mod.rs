//! Attempts against origins, proxies and name servers of the tests' own, all on loopback.
#![allow(clippy::disallowed_methods, reason = "tests own their tasks and read the time")]

mod bodies;
mod cost;
mod names;
mod proxies;
mod shapes;
mod tls;

use super::{Fetcher, Request, Want};
use crate::clock::SystemClock;
use crate::model::plan::{NetworkPlan, ProxyPlan, RequestPlan, UserAgent};
use crate::model::{Answer, Failure, Outcome};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

fn plan() -> RequestPlan {
    RequestPlan {
        method: "GET".to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        user_agent: UserAgent::Text("gleaner/test".to_owned()),
        proxy: ProxyPlan::Off,
        connect_timeout: Duration::from_secs(3),
        first_byte_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(20),
        max_body: 32 << 20,
        accept: vec![(200, 299)],
        may_accept: Vec::new(),
        redirects: 10,
        robots: false,
        ca_file: None,
        idempotent: true,
    }
}

fn fetcher(plan: &RequestPlan) -> Fetcher {
    fetcher_on(plan, &NetworkPlan::default())
}

fn fetcher_on(plan: &RequestPlan, net: &NetworkPlan) -> Fetcher {
    Fetcher::new(plan, &[], net, Arc::new(SystemClock::new())).unwrap()
}

fn get(url: impl AsRef<str>) -> Request {
    Request {
        method: http::Method::GET,
        url: Url::parse(url.as_ref()).unwrap(),
        headers: http::HeaderMap::new(),
        body: None,
        named: true,
        fresh: false,
        identity: false,
        want: Want::Accepted,
        way: 0,
        timeouts: None,
        stage: super::Stage::default(),
    }
}

async fn answer(f: &Fetcher, req: Request) -> Answer {
    match f.attempt(req, |_| ()).await {
        Outcome::Answer(a) => a,
        Outcome::Failure(e) => panic!("{e:?}"),
    }
}

async fn failure(f: &Fetcher, req: Request) -> Failure {
    match f.attempt(req, |_| ()).await {
        Outcome::Failure(e) => {
            assert!(!e.message.is_empty() && !e.message.contains('\n'), "{}", e.message);
            e
        }
        Outcome::Answer(a) => panic!("{} {:?}", a.status, String::from_utf8_lossy(&a.body)),
    }
}

/// What an origin does after a reply.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Keep,
    Close,
    Reset,
    Hang,
}

#[derive(Clone)]
struct Origin {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// Gives reply `n` (the last one again and again) to request `n`, counted over all connections.
    async fn replies(list: Vec<(Vec<u8>, Then)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { addr: listener.local_addr().unwrap(), connections: Arc::default(), heads: Arc::default() };
        let (this, list) = (origin.clone(), Arc::new(list));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::SeqCst);
                let (this, list) = (this.clone(), Arc::clone(&list));
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        let n = {
                            let mut heads = this.heads.lock().unwrap();
                            heads.push(head);
                            heads.len() - 1
                        };
                        let (reply, then) = &list[n.min(list.len() - 1)];
                        let _ = stream.write_all(reply).await;
                        match then {
                            Then::Keep => {}
                            Then::Close => return,
                            Then::Reset => return reset(stream).await,
                            Then::Hang => std::future::pending::<()>().await,
                        }
                    }
                });
            }
        });
        origin
    }

    async fn reply(reply: impl AsRef<[u8]>, then: Then) -> Self {
        Self::replies(vec![(reply.as_ref().to_vec(), then)]).await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn reset(stream: TcpStream) {
    // what was written has to leave before the reset
    tokio::time::sleep(Duration::from_millis(30)).await;
    stream.set_zero_linger().unwrap();
}

/// Everything up to the blank line; `None` at the end of the connection.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        head.push(byte);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn with_body(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend_from_slice(body);
    reply
}
