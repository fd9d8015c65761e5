//! The site's server: HTTP/1.1 with keep-alive on a loopback port, asked as a proxy or by `Host`.

use crate::demo::pages::{Page, answer};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const HEAD_MAX: usize = 16 * 1024;
const CONNECTIONS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(30);

/// The running site; it ends when this is dropped.
pub struct Site {
    address: SocketAddr,
    _task: JoinSet<()>,
}

/// How often each address was asked for.
type Visits = Arc<Mutex<HashMap<String, u32>>>;

impl Site {
    /// Starts on a free port of 127.0.0.1. Must be called within a runtime.
    ///
    /// # Errors
    /// What the system said.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(accept(listener));
        Ok(Self { address, _task: task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener) {
    let visits = Visits::default();
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            // A connection that breaks is its client's affair.
            Ok((stream, _)) => drop(connections.spawn(serve(stream, visits.clone()))),
            // Out of files, most likely: what is served now frees some.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Answers one request after the other until the client closes, asks for it, or says what is no request.
async fn serve(mut stream: TcpStream, visits: Visits) {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(i) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break i + 4;
            }
            match timeout(IDLE, stream.read_buf(&mut read)).await {
                Ok(Ok(n)) if n > 0 && read.len() <= HEAD_MAX => {}
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end);
        let Some(request) = Request::parse(&head) else { return };
        let page = request.answer(&visits);
        sleep(page.delay).await;
        let bytes = request.encode(&page);
        if stream.write_all(&bytes).await.is_err() || request.close {
            return;
        }
    }
}

/// As much of a request as the site looks at.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    host: String,
    path: String,
    close: bool,
}

impl Request {
    /// Absolute form (as proxies are asked) or origin form with `Host`; bodies are not read, so they end the connection.
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        let (mut host, mut close, mut body) = (String::new(), version == "HTTP/1.0", false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "host" => value.trim().clone_into(&mut host),
                "connection" | "proxy-connection" => close |= value.trim().eq_ignore_ascii_case("close"),
                "content-length" => body |= value.trim() != "0",
                "transfer-encoding" => body = true,
                _ => {}
            }
        }
        let path = match target.strip_prefix("http://") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                authority.clone_into(&mut host);
                if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
            }
            None => target.to_owned(),
        };
        Some(Self { method: method.to_owned(), host: host.to_ascii_lowercase(), path, close: close || body })
    }

    fn answer(&self, visits: &Visits) -> Page {
        if !matches!(self.method.as_str(), "GET" | "HEAD") {
            let mut page = answer("", "/no-such-page", 1);
            page.status = 405;
            return page;
        }
        let visit = {
            let mut visits = visits.lock().unwrap_or_else(PoisonError::into_inner);
            let n = visits.entry(format!("{}{}", self.host, self.path)).or_insert(0);
            *n += 1;
            *n
        };
        answer(&self.host, &self.path, visit)
    }

    fn encode(&self, page: &Page) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nServer: gleaner-demo\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            page.status,
            phrase(page.status),
            page.content_type,
            page.body.len()
        );
        if let Some((name, value)) = &page.header {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str(if self.close { "Connection: close\r\n\r\n" } else { "\r\n" });
        let mut bytes = head.into_bytes();
        if self.method != "HEAD" {
            bytes.extend_from_slice(page.body.as_bytes());
        }
        bytes
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        loop {
            stream.read_buf(&mut read).await.unwrap();
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse::<usize>().unwrap();
                if body.len() >= length {
                    return text.into_owned();
                }
            }
        }
    }

    #[tokio::test]
    async fn one_connection_serves_proxy_and_plain_requests_and_faults_come_once() {
        let site = Site::start().await.unwrap();
        let mut stream = TcpStream::connect(site.address()).await.unwrap();
        let flaky = "GET http://shop.demo.test/p/4 HTTP/1.1\r\nHost: shop.demo.test\r\n\r\n";
        assert!(ask(&mut stream, flaky).await.starts_with("HTTP/1.1 503 "));
        assert!(ask(&mut stream, flaky).await.contains("<h1>Plain Radio 4</h1>"));
        let limited = ask(&mut stream, "GET http://shop.demo.test/p/40 HTTP/1.1\r\n\r\n").await;
        assert!(limited.starts_with("HTTP/1.1 429 ") && limited.contains("\r\nRetry-After: 1\r\n"), "{limited}");
        let plain = ask(&mut stream, "GET /orders?page=30 HTTP/1.1\r\nHost: API.demo.test\r\n\r\n").await;
        assert!(plain.contains("100300") && !plain.contains("rel="), "{plain}");
        let moved = ask(&mut stream, "GET http://shop.demo.test/deals HTTP/1.1\r\nConnection: close\r\n\r\n").await;
        assert!(moved.contains("\r\nLocation: /offers/today\r\n"), "{moved}");
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[test]
    fn requests_are_read_in_both_forms() {
        let request = Request::parse("GET http://h.test?q=1 HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
        assert_eq!((request.host.as_str(), request.path.as_str(), request.close), ("h.test", "/?q=1", false));
        assert!(Request::parse("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").unwrap().close);
        assert!(Request::parse("nonsense\r\n\r\n").is_none());
    }
}
