//! [`Fetcher`]: one request, one attempt, one outcome.

use super::body::{self, Limits};
use super::classify::{self, Way};
use super::client::{Base, Pair, tls};
use super::dns::Dns;
use super::policy::Policy;
use super::proxy::{Blame, Proxies, ProxyRest, WayOut};
use super::sockets::Sockets;
use super::trip::Trip;
use super::{Request, SetupError};
use crate::clock::{Clock, Moment};
use crate::model::plan::{HostPlan, NetworkPlan, RequestPlan};
use crate::model::{Answer, Failure, Outcome, Reason, Sent, printable};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

const CODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, br, zstd");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Makes attempts. A cheap clone: all clones share connections, resolver and budget.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    plan: RequestPlan,
    clock: Arc<dyn Clock>,
    policy: Policy,
    dns: Arc<Dns>,
    sockets: Sockets,
    proxies: Proxies,
    /// By time to connect: it belongs to a client. The first is that of `[request]`.
    clients: Vec<(Duration, Clients)>,
}

/// Those of one time to connect.
struct Clients {
    direct: Pair,
    /// In the order of the proxies.
    via: Vec<Pair>,
}

impl Fetcher {
    /// Clients, resolver and roots for a plan, and for `[[host]]` tables in the job's order; nothing is sent. Reads `ca_file`, `/etc/resolv.conf`, `/etc/hosts`, the system's roots and,
    /// with [`ProxyPlan::Environment`](crate::model::plan::ProxyPlan::Environment), the proxy variables.
    ///
    /// # Errors
    /// [`SetupError`] where a proxy's address, `ca_file` or TLS itself is unusable.
    pub fn new(plan: &RequestPlan, hosts: &[HostPlan], net: &NetworkPlan, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Self::with_env(plan, hosts, net, clock, |name| std::env::var(name).ok())
    }

    pub(super) fn with_env(
        plan: &RequestPlan,
        hosts: &[HostPlan],
        net: &NetworkPlan,
        clock: Arc<dyn Clock>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let policy = Policy::new(net);
        let dns = Arc::new(Dns::new(net, policy.clone(), plan.connect_timeout).map_err(|e| SetupError::Resolver(e.to_string()))?);
        let sockets = Sockets::new(Arc::clone(&clock));
        let proxies = Proxies::new(&plan.proxy, hosts.iter().map(|h| h.proxy.as_ref()), env)?;
        let base =
            Base { tls: tls(plan.ca_file.as_deref())?, dns: Arc::clone(&dns), made: Arc::clone(&sockets.made), clock: Arc::clone(&clock) };
        let mut times = vec![plan.connect_timeout];
        for time in hosts.iter().filter_map(|h| h.timeouts[0]) {
            if !times.contains(&time) {
                times.push(time);
            }
        }
        let of = |connect: Duration| {
            let direct = Pair::new(&base, None, connect)?;
            let via = proxies.all.iter().map(|p| Pair::new(&base, Some(p), connect)).collect::<Result<_, _>>()?;
            Ok((connect, Clients { direct, via }))
        };
        let clients = times.into_iter().map(of).collect::<Result<_, SetupError>>()?;
        Ok(Self { inner: Arc::new(Inner { plan: plan.clone(), clock, policy, dns, sockets, proxies, clients }) })
    }

    /// How many attempts in flight the limit of file descriptors allows; at least 4.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.inner.sockets.budget()
    }

    /// Connections made so far, those to proxies included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.sockets.made.load(Ordering::Relaxed)
    }

    /// Where every proxy for `url` rests, when the first of them is usable again. An attempt before that is in vain.
    #[must_use]
    pub fn rest_until(&self, way: WayOut, url: &Url) -> Option<ProxyRest> {
        self.inner.proxies.rest(way, url, self.inner.clock.now())
    }

    /// Whether everything goes by proxies: where one address has no way, none has.
    #[must_use]
    pub fn goes_by_proxies_alone(&self) -> bool {
        self.inner.proxies.are_the_only_way()
    }

    /// Proxies that began to rest, or ended, since this was asked last.
    #[must_use]
    pub fn proxy_news(&self) -> Vec<ProxyRest> {
        self.inner.proxies.news()
    }

    /// One attempt. `on_headers` is called with the instant at which the final response headers were in (never for 1xx), before the
    /// body is read. No redirect is followed, nothing is repeated, no cookie is kept.
    ///
    /// Dropping the future ends the attempt and its connection.
    pub async fn attempt(&self, req: Request, on_headers: impl FnOnce(Moment) + Send) -> Outcome {
        match self.inner.attempt(req, on_headers).await {
            Ok(answer) => Outcome::Answer(answer),
            Err(failure) => Outcome::Failure(*failure),
        }
    }
}

impl Inner {
    async fn attempt(&self, req: Request, on_headers: impl FnOnce(Moment) + Send) -> Result<Answer, Box<Failure>> {
        let began = self.clock.now();
        let start = Instant::now();
        let timeouts = req.timeouts.unwrap_or_else(|| self.plan.timeouts());
        let deadline = start + timeouts.total;
        let port = check_address(&req.url)?;
        let literal = literal(&req.url);
        if let Some(ip) = literal
            && !self.policy.allows(ip, req.named)
        {
            return Err(Box::new(blocked(ip)));
        }
        let proxy = self.proxies.route(req.way, &req.url, began);
        let clients = self.clients.iter().find(|(connect, _)| *connect == timeouts.connect).unwrap_or(&self.clients[0]);
        let pair = proxy.map_or(&clients.1.direct, |i| &clients.1.via[i]);
        let in_flight = self.sockets.enter(&req.url, req.fresh, began);
        let lone = !in_flight.keeps;
        let client = if lone { &pair.lone } else { &pair.pooled };

        let Request { method, mut url, headers, body, named, identity, want, stage, .. } = req;
        if !url.username().is_empty() || url.password().is_some() {
            // in absolute form a proxy would see it; credentials are a header of the caller's
            let _ = url.set_username("").and_then(|()| url.set_password(None));
        }
        let named = named || (literal.is_none() && proxy.is_none() && self.dns.overridden(url.host_str().unwrap_or(""), port).is_some());
        let mut wire = reqwest::Request::new(method.clone(), url.clone());
        *wire.headers_mut() = headers;
        if identity {
            wire.headers_mut().insert(ACCEPT_ENCODING, IDENTITY);
        } else {
            wire.headers_mut().entry(ACCEPT_ENCODING).or_insert(CODINGS);
        }
        if let Some(body) = body {
            *wire.body_mut() = Some(body.into());
        }

        let until = deadline.min(start + timeouts.first_byte);
        let (sent, made) = Trip::new(port, named, stage.clone()).around(timeout_at(until, client.execute(wire))).await;
        if made {
            in_flight.made();
        }
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => {
                let proxy_addr = proxy.map(|i| &self.proxies.all[i]);
                let way = Way {
                    target: &shown(&url, port),
                    proxy: proxy_addr.map(|p| (p.shown.as_str(), p.url.host_str().unwrap_or(""))),
                    https: url.scheme() == "https",
                    in_tls: stage.is_in_tls(),
                    proxy_works: pair.made_since(Moment(began.0.saturating_sub(60_000_000_000))),
                };
                let (reason, message, sent) = classify::send_failure(&e, &way);
                self.blame(proxy, &reason, sent, &shown(&url, port), &message);
                let reused = !made && sent == Sent::Maybe;
                return Err(Box::new(Failure { sent, reused, ..Failure::unsent(reason, message) }));
            }
            Err(_) => {
                // On a connection of its own that never came about nothing was sent; in the pool one may have taken its place.
                let sent = if lone && !made { Sent::No } else { Sent::Maybe };
                let limit = timeouts.first_byte.min(timeouts.total);
                let what = if stage.is_in_tls() {
                    "connected, but no TLS handshake was done"
                } else if sent == Sent::No && stage.is_dialling() {
                    "no connection was made"
                } else {
                    "no answer began"
                };
                let message = format!("{}: {what} within {limit:?}", printable(&shown(&url, port)));
                let reused = !made && sent == Sent::Maybe;
                return Err(Box::new(Failure { sent, reused, ..Failure::unsent(Reason::FirstByteTimeout, message) }));
            }
        };
        let status = response.status().as_u16();
        if let Some(p) = proxy.map(|i| &self.proxies.all[i]).filter(|p| status == 407 && p.reads(&url)) {
            // The proxy's own words: no server was asked, but a request was written.
            let message = format!("proxy {}: proxy authorization required", p.shown);
            self.blame(proxy, &Reason::ProxyAuth, Sent::No, "", &message);
            return Err(Box::new(Failure { sent: Sent::Maybe, reused: !made, ..Failure::unsent(Reason::ProxyAuth, message) }));
        }
        let headers_at = self.clock.now();
        on_headers(headers_at);
        self.blame(proxy, &Reason::of_status(status), Sent::Maybe, "", "");
        let remote = if proxy.is_none() { response.remote_addr() } else { None };
        let headers = std::mem::take(response.headers_mut());
        let failed = |reason: Reason, message: String, headers| {
            let message = format!("{}: {message}", printable(&shown(&url, port)));
            Box::new(Failure {
                reason,
                message,
                sent: Sent::Maybe,
                reused: !made,
                status: Some(status),
                headers_at: Some(headers_at),
                remote,
                headers: Some(Box::new(headers)),
            })
        };
        // The resolver's answers were checked before they were dialled; this holds whatever the client does in between.
        if let Some(addr) = remote.filter(|a| !self.policy.allows(a.ip(), named)) {
            return Err(failed(Reason::BlockedAddress, format!("{} is not in the public internet", addr.ip()), headers));
        }
        if status < 200 {
            return Err(failed(Reason::ProtocolError, format!("status {status} is no final answer"), headers));
        }
        let limits = Limits { plan: &self.plan, timeouts, want, method: &method, deadline };
        match body::read(&mut response, &headers, &limits).await {
            Ok(content) => Ok(Answer {
                status,
                headers,
                body: content.bytes,
                headers_at,
                remote,
                reused: !made,
                wire_bytes: content.wire,
                warnings: content.warnings,
            }),
            Err((reason, message)) => Err(failed(reason, message, headers)),
        }
    }

    /// Keeps the proxies' health.
    fn blame(&self, proxy: Option<usize>, reason: &Reason, sent: Sent, target: &str, why: &str) {
        let Some(i) = proxy else { return };
        let blame = match (reason, sent) {
            (Reason::ProxyUnreachable, _) => Blame::Failed,
            (Reason::ProxyAuth, Sent::No) => Blame::Auth,
            (Reason::ProxyRefused, _) => Blame::Refused(target),
            (Reason::LocalResource, _) | (_, Sent::No) => return,
            _ => Blame::Fine,
        };
        self.proxies.report(i, blame, why, self.clock.now());
    }
}

/// The address's port, where it is one that http can send.
fn check_address(url: &Url) -> Result<u16, Box<Failure>> {
    let bad =
        |what: &str| Box::new(Failure::unsent(Reason::BadInput, format!("{}: {what}", printable(url.host_str().unwrap_or("address")))));
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("the address is not http or https"));
    }
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("the address names no host"))?;
    // `url` lets these pass, `http::Uri` does not
    if host.bytes().any(|b| matches!(b, b'"' | b'`' | b'{' | b'}')) {
        return Err(bad("a host name cannot hold that character"));
    }
    url.port_or_known_default().ok_or_else(|| bad("the address names no port"))
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

fn blocked(ip: IpAddr) -> Failure {
    Failure::unsent(Reason::BlockedAddress, format!("{ip} is not in the public internet"))
}

fn shown(url: &Url, port: u16) -> String {
    format!("{}:{port}", url.host_str().unwrap_or(""))
}
