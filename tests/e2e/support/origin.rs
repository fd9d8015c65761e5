//! The origin: a scripted loopback server on a thread of its own. It stamps and keeps every arrival.

use super::reply::Reply;
use super::wire;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Debug)]
pub(crate) struct Req {
    /// When its whole head and body were read.
    pub(crate) at: Instant,
    /// Arrival number, from 0.
    pub(crate) n: usize,
    /// How many times this method, `Host` and target were asked for, this one included.
    pub(crate) nth: usize,
    /// Connection number, from 0.
    pub(crate) conn: usize,
    /// The address that was dialled.
    pub(crate) ip: IpAddr,
    /// Whether it came over HTTP/2.
    pub(crate) h2: bool,
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Req {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn host(&self) -> &str {
        self.header("host").unwrap_or("")
    }

    /// Path and query, also of the absolute form that a proxy gets.
    pub(crate) fn path_and_query(&self) -> &str {
        match self.target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |i| &rest[i..]),
            None => &self.target,
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.path_and_query().split('?').next().unwrap_or("")
    }

    /// The value of a query parameter, undecoded.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let query = self.path_and_query().split_once('?')?.1;
        query.split('&').find_map(|p| p.split_once('=').filter(|(k, _)| *k == name).map(|(_, v)| v))
    }
}

type Handler = dyn Fn(&Req) -> Reply + Send + Sync;

/// What connections share.
pub(crate) struct Shared {
    handler: Box<Handler>,
    log: Mutex<Vec<Arc<Req>>>,
    counts: Mutex<HashMap<String, usize>>,
    forget: bool,
    forgotten: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) max_open: AtomicUsize,
    pub(crate) accepted: AtomicUsize,
}

/// A request before it has its numbers.
pub(crate) struct Arrival {
    pub(crate) conn: usize,
    pub(crate) ip: IpAddr,
    pub(crate) h2: bool,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Shared {
    /// Stamps, numbers and keeps a request, and asks the script what to do.
    pub(crate) fn arrive(&self, a: Arrival) -> Reply {
        if self.forget {
            let n = self.forgotten.fetch_add(1, Ordering::SeqCst);
            let Arrival { conn, ip, h2, method, target, headers, body } = a;
            return (self.handler)(&Req { at: Instant::now(), n, nth: 1, conn, ip, h2, method, target, headers, body });
        }
        let host = a.headers.iter().find(|(k, _)| k == "host").map_or("", |(_, v)| v.as_str());
        let key = format!("{} {host} {}", a.method, a.target);
        let nth = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let n = counts.entry(key).or_insert(0);
            *n += 1;
            *n
        };
        let req = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let Arrival { conn, ip, h2, method, target, headers, body } = a;
            let req = Arc::new(Req { at: Instant::now(), n: log.len(), nth, conn, ip, h2, method, target, headers, body });
            log.push(Arc::clone(&req));
            req
        };
        (self.handler)(&req)
    }
}

/// The APIs of `docs/limits.md`.
pub(crate) const APIS: &[&str] = &[
    "api.github.com",
    "api.x.com",
    "oauth.reddit.com",
    "example.myshopify.com",
    "api.stripe.com",
    "gitlab.com",
    "discord.com",
    "api.openai.com",
    "en.wikipedia.org",
    "api.notion.com",
];

/// How the origin listens.
#[derive(Default)]
pub(crate) struct Setup {
    /// How many addresses, `127.0.1.1` and on, beside `127.0.0.1`; all on one port.
    pub(crate) addresses: u8,
    /// TLS with a certificate for `127.0.0.1`, `localhost`, `*.example.com` and [`APIS`].
    pub(crate) tls: bool,
    /// Offer HTTP/2 by ALPN.
    pub(crate) h2: bool,
    /// Count arrivals and keep none, for runs of hundreds of thousands.
    pub(crate) forget: bool,
}

/// The server; it ends when dropped.
pub(crate) struct Origin {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    ca: Option<(tempfile::TempDir, PathBuf)>,
}

impl Origin {
    /// Plain HTTP/1.1 on `127.0.0.1`.
    pub(crate) fn start(handler: impl Fn(&Req) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Setup::default(), handler)
    }

    /// Plain HTTP/1.1 on `127.0.0.1` and on `127.0.1.1` to `127.0.1.n`.
    pub(crate) fn on(addresses: u8, handler: impl Fn(&Req) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Setup { addresses, ..Setup::default() }, handler)
    }

    pub(crate) fn with(setup: Setup, handler: impl Fn(&Req) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            log: Mutex::default(),
            counts: Mutex::default(),
            forget: setup.forget,
            forgotten: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            max_open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (acceptor, ca) = if setup.tls { wire::acceptor(setup.h2) } else { (None, None) };
        let (port, listeners) = runtime.block_on(listen(setup.addresses));
        for listener in listeners {
            runtime.spawn(wire::accept(listener, Arc::clone(&shared), acceptor.clone()));
        }
        Self { port, shared, runtime: Some(runtime), ca }
    }

    /// `http://127.0.0.1:port/path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The same at address `127.0.1.k`.
    pub(crate) fn url_at(&self, k: usize, path: &str) -> String {
        format!("http://127.0.1.{k}:{}{path}", self.port)
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// PEM file of the authority behind its certificate.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca.as_ref().expect("an origin with TLS").1
    }

    /// Every arrival so far.
    pub(crate) fn log(&self) -> Vec<Arc<Req>> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests arrived.
    pub(crate) fn arrivals(&self) -> usize {
        let kept = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).len();
        kept + self.shared.forgotten.load(Ordering::SeqCst)
    }

    /// Arrivals at one path, in order.
    pub(crate) fn at_path(&self, path: &str) -> Vec<Arc<Req>> {
        self.log().into_iter().filter(|r| r.path() == path).collect()
    }

    /// Most connections open at one time.
    pub(crate) fn max_open(&self) -> usize {
        self.shared.max_open.load(Ordering::SeqCst)
    }

    /// Connections made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until so many requests arrived.
    pub(crate) fn wait_for(&self, arrivals: usize, deadline: Duration) -> bool {
        wait_until(deadline, || self.arrivals() >= arrivals)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(r) = self.runtime.take() {
            r.shutdown_background();
        }
    }
}

/// Polls until `what` is true or the time is up.
pub(crate) fn wait_until(deadline: Duration, what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + deadline;
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    what()
}

/// One port on all addresses; another port where one of them is taken.
async fn listen(addresses: u8) -> (u16, Vec<TcpListener>) {
    'port: loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for k in 1..=addresses {
            match TcpListener::bind((Ipv4Addr::new(127, 0, 1, k), port)).await {
                Ok(l) => all.push(l),
                Err(_) => continue 'port,
            }
        }
        return (port, all);
    }
}
