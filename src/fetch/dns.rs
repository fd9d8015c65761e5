//! Names to addresses: one shared resolver, `--resolve`, the network policy. What comes out is what is dialled.

use super::policy::Policy;
use super::trip::Trip;
use crate::model::plan::NetworkPlan;
use crate::model::{Reason, printable};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{Resolver, TokioResolver, lookup::Lookup};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Longest look-up in all.
const TOTAL: Duration = Duration::from_secs(10);
/// How long the other family is waited for once one has answered (RFC 8305 section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// An answer is kept for its time to live, at most this long, so that an overnight run follows a host that moves.
const MAX_TTL: Duration = Duration::from_mins(5);
const MAX_KNOWN: usize = 16_384;
/// A name that failed is asked for again after this, whatever its zone says: retries must be able to see it come.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// Why a name gave no address to dial; travels through the client's chain of causes.
#[derive(Clone, Debug)]
pub(super) struct DnsFailure {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// The name that was asked for.
    pub(super) host: Box<str>,
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DnsFailure {}

type Answer = Result<Arc<[IpAddr]>, DnsFailure>;
type Known = (Arc<[IpAddr]>, Instant);
type Flight = Shared<BoxFuture<'static, Answer>>;

/// The resolver of a run.
pub(super) struct Dns {
    resolver: TokioResolver,
    /// Whether there is a server to ask.
    configured: bool,
    searches: bool,
    ndots: usize,
    policy: Policy,
    overrides: Vec<(String, u16, IpAddr)>,
    limit: Duration,
    /// Usable answers until their time to live ends: a silent or empty other family is waited for once, not at each connection.
    known: Mutex<HashMap<Box<str>, Known>>,
    /// Equal questions in flight are asked once.
    flights: Mutex<HashMap<Box<str>, WeakShared<BoxFuture<'static, Answer>>>>,
}

impl Dns {
    /// `connect_timeout`: of the plan; a silent resolver has to be told from a silent host before it passes.
    pub(super) fn new(net: &NetworkPlan, policy: Policy, connect_timeout: Duration) -> Result<Self, NetError> {
        // Without a configuration nothing but /etc/hosts and localhost resolves.
        let system = hickory_resolver::system_conf::read_system_conf()
            .unwrap_or_else(|_| (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default()));
        Self::with_config(system, net, policy, connect_timeout)
    }

    fn with_config(
        (mut config, mut options): (ResolverConfig, ResolverOpts),
        net: &NetworkPlan,
        policy: Policy,
        connect_timeout: Duration,
    ) -> Result<Self, NetError> {
        if !net.dns_servers.is_empty() {
            let servers = net.dns_servers.iter().map(|a| server(*a)).collect();
            config = ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), servers);
        }
        let configured = !config.name_servers().is_empty();
        let searches = config.domain().is_some() || !config.search().is_empty();
        let limit = TOTAL.min(connect_timeout.mul_f64(0.9));
        options.timeout = options.timeout.min(limit.mul_f64(0.3));
        options.attempts = 2;
        options.cache_size = 16_384;
        options.max_active_requests = 4096;
        options.negative_max_ttl = Some(NEGATIVE_TTL);
        let ndots = options.ndots;
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self {
            resolver: builder.build()?,
            configured,
            searches,
            ndots,
            policy,
            overrides: net.resolve.clone(),
            limit,
            known: Mutex::default(),
            flights: Mutex::default(),
        })
    }

    /// The address that `--resolve` gives `host:port`; an exact name goes before `*`.
    pub(super) fn overridden(&self, host: &str, port: u16) -> Option<IpAddr> {
        let bare = host.trim_end_matches('.');
        let find =
            |exact: bool| self.overrides.iter().find(|(h, p, _)| *p == port && if exact { h.eq_ignore_ascii_case(bare) } else { h == "*" });
        find(true).or_else(|| find(false)).map(|o| o.2)
    }

    /// Addresses to dial, at least one, IPv4 first. `checked`: whether the network policy applies (not to a proxy, which the
    /// operator named).
    pub(super) async fn addresses(
        self: Arc<Self>,
        host: String,
        port: u16,
        named: bool,
        checked: bool,
    ) -> Result<Vec<SocketAddr>, DnsFailure> {
        let mut named = named;
        let found: Arc<[IpAddr]> = if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Arc::new([ip])
        } else if let Some(ip) = self.overridden(&host, port) {
            named = true;
            Arc::new([ip])
        } else if let Some(known) = self.known(&host) {
            known
        } else {
            self.flight(&host).await?
        };
        let mut allowed: Vec<IpAddr> = found.iter().copied().filter(|ip| !checked || self.policy.allows(*ip, named)).collect();
        if allowed.is_empty() {
            let first = found.first().map_or_else(String::new, ToString::to_string);
            let message = format!("{} resolves to {first}, which is not in the public internet", printable(&host));
            return Err(DnsFailure { reason: Reason::BlockedAddress, message, host: host.into() });
        }
        if allowed.len() > 1 && allowed.iter().any(IpAddr::is_ipv4) {
            allowed.retain(|ip| ip.is_ipv4() || routable(*ip));
        }
        allowed.sort_by_key(IpAddr::is_ipv6);
        Ok(allowed.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }

    fn known(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).filter(|(_, until)| *until > Instant::now()).map(|(ips, _)| Arc::clone(ips))
    }

    fn learn(&self, host: &str, ips: &Arc<[IpAddr]>, ttl: Duration) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(host.into(), (Arc::clone(ips), now + ttl.clamp(Duration::from_secs(1), MAX_TTL)));
    }

    fn flight(self: &Arc<Self>, host: &str) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(host).and_then(WeakShared::upgrade)
            && flight.peek().is_none()
        {
            return flight;
        }
        if flights.len() > 1024 {
            flights.retain(|_, f| f.upgrade().is_some_and(|f| f.peek().is_none()));
        }
        let (dns, name) = (Arc::clone(self), host.to_owned());
        let flight = async move { dns.lookup(&name).await }.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(host.into(), weak);
        }
        flight
    }

    async fn lookup(&self, host: &str) -> Answer {
        let fail = |reason: Reason, why: &str| DnsFailure { reason, message: format!("{}: {why}", printable(host)), host: host.into() };
        let impossible = || fail(Reason::DnsNxdomain, "no name that the domain name system can hold");
        let absolute = host.ends_with('.');
        let labels: Vec<&[u8]> = host.trim_end_matches('.').split('.').map(str::as_bytes).collect();
        if labels.iter().any(|l| l.is_empty()) {
            return Err(impossible());
        }
        let mut name = Name::from_labels(labels.iter().copied()).map_err(|_| impossible())?;
        // An absolute question first where ndots says so (resolv.conf(5)); its failure is the one to tell.
        let direct = absolute || !self.searches || labels.len() > self.ndots;
        name.set_fqdn(direct);
        let ask = async {
            match self.both(&name).await {
                Err((Reason::DnsNxdomain | Reason::DnsNodata, why)) if direct && !absolute && self.searches => {
                    let mut relative = name.clone();
                    relative.set_fqdn(false);
                    self.both(&relative).await.map_err(|_| (Reason::DnsNxdomain, why))
                }
                other => other,
            }
        };
        match tokio::time::timeout(self.limit, ask).await {
            Ok(Ok((ips, ttl))) => {
                let ips = ips.into();
                self.learn(host, &ips, ttl);
                Ok(ips)
            }
            Ok(Err((reason, why))) => Err(fail(reason, &why)),
            Err(_) => Err(fail(Reason::DnsTimeout, "no name server answered in time")),
        }
    }

    /// A and AAAA side by side: one usable answer is enough, the other is waited for 50 ms.
    async fn both(&self, name: &Name) -> Result<(Vec<IpAddr>, Duration), (Reason, String)> {
        let usable = |l: &Result<Lookup, NetError>| l.as_ref().is_ok_and(|l| l.answers().iter().any(|r| r.data.ip_addr().is_some()));
        let mut a = Box::pin(self.resolver.ipv4_lookup(name.clone()));
        let mut b = Box::pin(self.resolver.ipv6_lookup(name.clone()));
        let (first, second) = tokio::select! {
            biased;
            first = &mut a => {
                let rest = if usable(&first) { tokio::time::timeout(OTHER_FAMILY, b).await.ok() } else { Some(b.await) };
                (first, rest)
            }
            first = &mut b => {
                let rest = if usable(&first) { tokio::time::timeout(OTHER_FAMILY, a).await.ok() } else { Some(a.await) };
                (first, rest)
            }
        };
        let mut ips = Vec::new();
        let mut ttl = MAX_TTL;
        let mut troubles = Vec::new();
        for lookup in std::iter::once(first).chain(second) {
            match lookup {
                Ok(l) => {
                    let before = ips.len();
                    ips.extend(l.answers().iter().filter_map(|r| r.data.ip_addr()));
                    if ips.len() > before {
                        ttl = ttl.min(l.valid_until().saturating_duration_since(Instant::now().into_std()));
                    }
                }
                Err(e) => troubles.push(self.tell(&e)),
            }
        }
        if !ips.is_empty() {
            return Ok((ips, ttl));
        }
        // What may pass by itself goes before what is final; NXDOMAIN only where nothing else was said.
        let weight = |r: &Reason| match r {
            Reason::DnsNxdomain => 0,
            Reason::DnsNodata => 1,
            Reason::DnsTimeout => 3,
            Reason::LocalResource => 4,
            _ => 2,
        };
        troubles.sort_by_key(|(r, _)| std::cmp::Reverse(weight(r)));
        Err(troubles.into_iter().next().unwrap_or_else(|| (Reason::DnsNodata, "the name has no address".to_owned())))
    }

    fn tell(&self, e: &NetError) -> (Reason, String) {
        let servfail = |code: ResponseCode| (Reason::DnsServfail, format!("the name server answered {code}").to_lowercase());
        match e {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => (Reason::DnsNxdomain, "the name does not exist".to_owned()),
                ResponseCode::NoError => (Reason::DnsNodata, "the name has no address".to_owned()),
                code => servfail(code),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => servfail(*code),
            _ if !self.configured => (Reason::DnsServfail, "no resolver configured".to_owned()),
            NetError::Io(io) if super::classify::is_shortage(io) => (Reason::LocalResource, format!("look-up failed: {io}").to_lowercase()),
            NetError::Timeout | NetError::Io(_) | NetError::NoConnections => {
                (Reason::DnsTimeout, "no name server answered in time".to_owned())
            }
            other => (Reason::DnsServfail, format!("look-up failed: {other}").to_lowercase()),
        }
    }
}

/// Whether this machine has a route to an IPv6 address; asks the kernel, sends nothing (as glibc sorts by RFC 6724).
fn routable(ip: IpAddr) -> bool {
    match UdpSocket::bind("[::]:0").and_then(|s| s.connect((ip, 9))) {
        Ok(()) => true,
        Err(e) => super::classify::is_shortage(&e),
    }
}

fn server(addr: SocketAddr) -> NameServerConfig {
    let port = |mut c: ConnectionConfig| {
        c.port = addr.port();
        c
    };
    NameServerConfig::new(addr.ip(), true, vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())])
}

/// The face of [`Dns`] towards one client.
pub(super) struct HostResolver {
    pub(super) dns: Arc<Dns>,
    /// The client's proxy: its name is resolved without the network policy.
    pub(super) proxy_host: Option<Box<str>>,
}

impl reqwest::dns::Resolve for HostResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (port, named) = Trip::asked();
        let host = name.as_str().to_owned();
        let is_proxy = self.proxy_host.as_deref().is_some_and(|p| p.eq_ignore_ascii_case(&host));
        // `--resolve` goes by the port of the request, which is not the proxy's
        let port = if is_proxy { 0 } else { port };
        let found = Arc::clone(&self.dns).addresses(host, port, named, !is_proxy);
        Box::pin(async move {
            let addrs = found.await?;
            Ok(Box::new(addrs.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_configuration_only_localhost_resolves() {
        let none = (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default());
        let dns = Dns::with_config(none, &NetworkPlan::default(), Policy::default(), TOTAL).unwrap();
        let dns = Arc::new(dns);
        let found = Arc::clone(&dns).addresses("localhost".to_owned(), 80, true, true).await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback()));
        let e = dns.addresses("a.test".to_owned(), 80, true, true).await.unwrap_err();
        assert_eq!((e.reason, e.message.as_str()), (Reason::DnsServfail, "a.test: no resolver configured"));
    }

    #[tokio::test]
    async fn a_search_list_never_hides_what_the_name_itself_gave() {
        // nothing listens at the discard port: the absolute question fails, whatever the search list would say
        let search = vec![Name::from_ascii("search.test.").unwrap()];
        let config = (ResolverConfig::from_parts(None, search, vec![server("127.0.0.1:9".parse().unwrap())]), ResolverOpts::default());
        let dns = Dns::with_config(config, &NetworkPlan::default(), Policy::default(), Duration::from_millis(300)).unwrap();
        let e = Arc::new(dns).addresses("a.test".to_owned(), 80, true, true).await.unwrap_err();
        assert_eq!(e.reason, Reason::DnsTimeout, "{e}");
    }
}
