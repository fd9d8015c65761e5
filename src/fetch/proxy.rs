//! Which way out an address takes: a decider over the plan and the environment, with the proxies' health.

use super::SetupError;
use super::policy::within;
use crate::clock::Moment;
use crate::model::plan::ProxyPlan;
use crate::model::printable;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use url::{Host, Url};

/// First rest of a proxy that fails, doubled with each further failure.
const REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_hours(1);
/// This many 407 in a row end a proxy.
const MAX_407: u32 = 5;
/// A proxy that opened no way to this many different hosts in a row, and to none since, refuses them all: it rests.
const MAX_REFUSED: usize = 8;

/// One proxy.
pub(super) struct ProxyAddr {
    /// With userinfo: for the wire only.
    pub(super) url: Url,
    /// Host and port, for messages.
    pub(super) shown: String,
}

impl ProxyAddr {
    /// Whether it reads the requests for `url` and may answer them itself: an HTTP proxy, and no tunnel.
    pub(super) fn reads(&self, url: &Url) -> bool {
        url.scheme() == "http" && matches!(self.url.scheme(), "http" | "https")
    }
}

/// Number of a way out: 0 is that of `[request]`, each further one that of a table of `[[host]]`, in the job's order.
pub type WayOut = usize;

/// The proxies of a run.
pub(super) struct Proxies {
    /// Each once, with one health, however many ways lead by it.
    pub(super) all: Vec<ProxyAddr>,
    ways: Vec<Way>,
    health: Mutex<Vec<Health>>,
    /// Whether any of them is not in good health: asked before the lock is taken.
    troubled: AtomicBool,
}

enum Way {
    /// That of `[request]`.
    General,
    Direct,
    InTurn {
        of: Vec<usize>,
        next: AtomicUsize,
    },
    Environment {
        http: Option<usize>,
        https: Option<usize>,
        except: NoProxy,
    },
}

#[derive(Clone, Default)]
struct Health {
    failures: u32,
    auth_failures: u32,
    rests_until: Moment,
    /// When its trouble began.
    since: Moment,
    /// Hosts in a row to which it opened no way.
    refused: Vec<Box<str>>,
    /// What failed last.
    why: String,
    told: bool,
}

impl Health {
    /// Takes note of a host to which no way was opened.
    fn refuses_all(&mut self, host: &str) -> bool {
        if self.refused.len() < MAX_REFUSED && !self.refused.iter().any(|r| **r == *host) {
            self.refused.push(host.into());
        }
        self.refused.len() == MAX_REFUSED
    }

    fn is_troubled(&self) -> bool {
        self.failures > 0 || self.auth_failures > 0 || !self.refused.is_empty()
    }
}

/// How an attempt through a proxy went, as far as the proxy is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame<'a> {
    Fine,
    /// It cannot be reached, or does not speak.
    Failed,
    /// 407, or its like of SOCKS.
    Auth,
    /// It opened no way to this host.
    Refused(&'a str),
}

/// A proxy that is not asked for a while, or never again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRest {
    /// Its host and port, never its credentials.
    pub proxy: String,
    /// Not before this; [`Moment::FAR`]: it has ended.
    pub until: Moment,
    /// When its trouble began.
    pub since: Moment,
    /// What failed, for people; names the proxy.
    pub why: String,
}

impl Proxies {
    /// `hosts`: what each `[[host]]` says of its proxies; one that says nothing has the way of `plan`. `env` reads an environment
    /// variable.
    ///
    /// # Errors
    /// [`SetupError::Proxy`] where an address is none.
    pub(super) fn new<'a>(
        plan: &ProxyPlan,
        hosts: impl IntoIterator<Item = Option<&'a ProxyPlan>>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let mut all = Vec::new();
        let mut ways = vec![way(plan, &mut all, &env)?];
        for host in hosts {
            ways.push(host.map_or(Ok(Way::General), |plan| way(plan, &mut all, &env))?);
        }
        let health = Mutex::new(vec![Health::default(); all.len()]);
        Ok(Self { all, ways, health, troubled: AtomicBool::new(false) })
    }

    fn way(&self, way: WayOut) -> &Way {
        self.ways.get(way).filter(|way| !matches!(way, Way::General)).unwrap_or(&self.ways[0])
    }

    /// The proxy for `url`, as an index into `all`; `None`: direct. One that rests is passed over while another does not.
    pub(super) fn route(&self, way: WayOut, url: &Url, now: Moment) -> Option<usize> {
        match self.way(way) {
            Way::InTurn { of, next } => {
                let n = of.len();
                let start = next.fetch_add(1, Ordering::Relaxed) % n;
                let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = || (0..n).map(|i| of[(start + i) % n]);
                turn().find(|&i| health[i].rests_until <= now).or_else(|| turn().min_by_key(|&i| health[i].rests_until))
            }
            way => way.fixed(url),
        }
    }

    /// Where every proxy for `url` rests: the one that is usable first. An attempt before would only fail.
    pub(super) fn rest(&self, way: WayOut, url: &Url, now: Moment) -> Option<ProxyRest> {
        if !self.troubled.load(Ordering::Relaxed) {
            return None;
        }
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let i = match self.way(way) {
            Way::InTurn { of, .. } => of.iter().copied().min_by_key(|&i| health[i].rests_until)?,
            way => way.fixed(url)?,
        };
        (health[i].rests_until > now).then(|| self.resting(i, &health[i]))
    }

    /// Whether nothing goes but by a proxy, and each would be asked for any address: where one address has no way, none has.
    pub(super) fn are_the_only_way(&self) -> bool {
        let one = self.ways[1..].iter().all(|way| matches!(way, Way::General));
        one && match &self.ways[0] {
            Way::General | Way::Direct => false,
            Way::InTurn { .. } => true,
            Way::Environment { http, https, except } => http.is_some() && http == https && except.is_empty(),
        }
    }

    /// Those that began to rest, or ended, since this was asked last.
    pub(super) fn news(&self) -> Vec<ProxyRest> {
        if !self.troubled.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        for (i, h) in health.iter_mut().enumerate() {
            if h.failures > 0 && !std::mem::replace(&mut h.told, true) {
                news.push(self.resting(i, h));
            }
        }
        news
    }

    fn resting(&self, i: usize, h: &Health) -> ProxyRest {
        ProxyRest { proxy: self.all[i].shown.clone(), until: h.rests_until, since: h.since, why: h.why.clone() }
    }

    /// Tells how an attempt through proxy `i` went; `why` is what failed, for people.
    pub(super) fn report(&self, i: usize, blame: Blame<'_>, why: &str, now: Moment) {
        if blame == Blame::Fine && !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let h = &mut health[i];
        match blame {
            Blame::Fine => *h = Health::default(),
            // A host may be at fault itself: many have to be refused before the proxy is.
            Blame::Refused(host) if !h.refuses_all(host) => h.auth_failures = 0,
            _ => {
                h.auth_failures = if blame == Blame::Auth { h.auth_failures + 1 } else { 0 };
                if h.failures == 0 {
                    h.since = now;
                }
                // failures of attempts that were under way together are one
                if h.rests_until <= now {
                    h.rests_until = now + REST.saturating_mul(1 << h.failures.min(7)).min(LONGEST_REST);
                    h.failures += 1;
                    h.told = false;
                }
                if h.auth_failures >= MAX_407 && h.rests_until != Moment::FAR {
                    h.rests_until = Moment::FAR;
                    h.told = false;
                }
                why.clone_into(&mut h.why);
            }
        }
        self.troubled.store(health.iter().any(Health::is_troubled), Ordering::Relaxed);
    }
}

impl Way {
    /// The one proxy for `url`, where it is not one of several in turn.
    fn fixed(&self, url: &Url) -> Option<usize> {
        let Self::Environment { http, https, except } = self else { return None };
        let proxy = if url.scheme() == "https" { *https } else { *http };
        proxy.filter(|_| !except.matches(url))
    }
}

/// The way that a plan means; its proxies are added to `all`.
fn way(plan: &ProxyPlan, all: &mut Vec<ProxyAddr>, env: &impl Fn(&str) -> Option<String>) -> Result<Way, SetupError> {
    let mut add = |text: &str| -> Result<usize, SetupError> {
        let proxy = parse(text)?;
        // What is named twice is one, with one health.
        if let Some(same) = all.iter().position(|p| p.url == proxy.url) {
            return Ok(same);
        }
        all.push(proxy);
        Ok(all.len() - 1)
    };
    Ok(match plan {
        ProxyPlan::Off => Way::Direct,
        ProxyPlan::List(list) if list.is_empty() => Way::Direct,
        ProxyPlan::List(list) => {
            Way::InTurn { of: list.iter().map(|text| add(text)).collect::<Result<_, _>>()?, next: AtomicUsize::new(0) }
        }
        ProxyPlan::Environment => {
            let set = |name: &str| env(name).filter(|v| !v.trim().is_empty());
            let both = |lower: &str| set(lower).or_else(|| set(&lower.to_uppercase()));
            // HTTP_PROXY is what a client's `Proxy:` header becomes in CGI (CVE-2016-5385)
            let http = set("http_proxy").or_else(|| set("HTTP_PROXY").filter(|_| env("REQUEST_METHOD").is_none()));
            let any = both("all_proxy");
            let http = http.or_else(|| any.clone()).map(|text| add(&text)).transpose()?;
            let https = both("https_proxy").or(any).map(|text| add(&text)).transpose()?;
            Way::Environment { http, https, except: NoProxy::parse(&both("no_proxy").unwrap_or_default()) }
        }
    })
}

fn parse(text: &str) -> Result<ProxyAddr, SetupError> {
    let text = text.trim();
    let bad = |why: &str| {
        // userinfo is secret, and `mask_url` needs a scheme to find it
        let shown = text.rsplit('@').next().unwrap_or_default();
        SetupError::Proxy(format!("proxy {}: {why}", printable(shown)))
    };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).map_err(|e| bad(&e.to_string()))?;
    let port = match url.scheme() {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        other => return Err(bad(&format!("scheme {other} is not one of http, https, socks5, socks5h"))),
    };
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("no host"))?;
    let shown = format!("{}:{}", printable(host), url.port().unwrap_or(port));
    Ok(ProxyAddr { url, shown })
}

/// `NO_PROXY` by curl's rules: commas or blanks between; a name matches itself and what ends in it at a label, with or without a leading
/// dot, in any case; addresses and CIDR; `*` is all. Nothing is looked up.
#[derive(Debug, Default)]
struct NoProxy {
    all: bool,
    names: Vec<String>,
    nets: Vec<(IpAddr, u8)>,
}

impl NoProxy {
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for token in text.split([',', ' ', '\t', '\n']).filter(|t| !t.is_empty()) {
            let bare = token.trim_start_matches('[').trim_end_matches(']');
            let (addr, len) = token.split_once('/').unwrap_or((bare, ""));
            if token == "*" {
                found.all = true;
            } else if let Ok(ip) = addr.parse::<IpAddr>() {
                let full = if ip.is_ipv4() { 32 } else { 128 };
                match len.parse() {
                    Ok(len) if len <= full => found.nets.push((ip, len)),
                    Err(_) if len.is_empty() => found.nets.push((ip, full)),
                    _ => {}
                }
            } else {
                let name = token.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
                if !name.is_empty() {
                    found.names.push(name);
                }
            }
        }
        found
    }

    fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty() && self.nets.is_empty()
    }

    fn matches(&self, url: &Url) -> bool {
        let by_ip = |ip: IpAddr| self.nets.iter().any(|&(net, len)| within(ip, net, len));
        self.all
            || match url.host() {
                Some(Host::Ipv4(ip)) => by_ip(ip.into()),
                Some(Host::Ipv6(ip)) => by_ip(ip.into()),
                Some(Host::Domain(host)) => {
                    // the url crate lowers names
                    let host = host.trim_end_matches('.');
                    self.names.iter().any(|n| host.strip_suffix(n.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
                }
                None => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &'static [(&'static str, &'static str)]) -> Proxies {
        Proxies::new(&ProxyPlan::Environment, [], |name| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned())).unwrap()
    }

    fn way(p: &Proxies, url: &str) -> Option<String> {
        p.route(0, &Url::parse(url).unwrap(), Moment::ZERO).map(|i| p.all[i].shown.clone())
    }

    #[test]
    fn the_environment_is_read_as_curl_does() {
        let p = env(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:2"), ("HTTPS_PROXY", "socks5h://u:p@c")]);
        assert_eq!(way(&p, "http://x/").as_deref(), Some("a:1"));
        assert_eq!(way(&p, "https://x/").as_deref(), Some("c:1080"));
        let p = env(&[("HTTP_PROXY", "b:2"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(way(&p, "http://x/"), None);
        let p = env(&[("http_proxy", ""), ("all_proxy", "b:2"), ("https_proxy", " ")]);
        assert_eq!(way(&p, "http://x/").as_deref(), Some("b:2"));
        assert_eq!(way(&p, "https://x/").as_deref(), Some("b:2"));
        assert_eq!(way(&env(&[]), "https://x/"), None);
    }

    #[test]
    fn no_proxy_goes_by_labels_addresses_and_networks() {
        let p = env(&[("all_proxy", "p:1"), ("no_proxy", "Example.com .dot.org,10.0.0.0/8 ::1\t192.168.1.1")]);
        for url in ["http://example.com/", "http://A.example.com:81/", "http://example.com./", "http://dot.org/", "http://x.dot.org/"] {
            assert_eq!(way(&p, url), None, "{url}");
        }
        for url in ["http://10.2.3.4/", "http://[::1]/", "https://192.168.1.1/", "http://0xa.1/"] {
            assert_eq!(way(&p, url), None, "{url}");
        }
        for url in ["http://badexample.com/", "http://example.com.au/", "http://192.168.1.2/", "http://11.0.0.1/"] {
            assert!(way(&p, url).is_some(), "{url}");
        }
        assert_eq!(way(&env(&[("all_proxy", "p:1"), ("NO_PROXY", "*")]), "http://x/"), None);
    }

    #[test]
    fn a_list_goes_in_turn_and_passes_over_what_rests() {
        let list = ["http://a:1", "http://b:2", "http://c:3"].map(str::to_owned).to_vec();
        let p = Proxies::new(&ProxyPlan::List(list), [], |_| None).unwrap();
        let url = Url::parse("http://x/").unwrap();
        let now = Moment(1);
        assert_eq!([0; 4].map(|_| p.route(0, &url, now)), [Some(0), Some(1), Some(2), Some(0)]);
        p.report(1, Blame::Failed, "", now);
        assert_eq!([0; 3].map(|_| p.route(0, &url, now)), [Some(2), Some(2), Some(0)]);
        let later = now + REST;
        assert_eq!([0; 3].map(|_| p.route(0, &url, later)), [Some(1), Some(2), Some(0)]);
        p.report(1, Blame::Failed, "", later);
        assert_eq!(p.route(0, &url, later + REST), Some(2), "the second rest is twice as long");
        p.report(1, Blame::Fine, "", later + REST);
        for i in 0..3 {
            for _ in 0..5 {
                p.report(i, Blame::Auth, "", later);
            }
        }
        assert_eq!(p.rest(0, &url, later).unwrap().until, Moment::FAR);
    }

    #[test]
    fn where_all_rest_it_is_said_until_when_and_each_rest_is_news_once() {
        let p = Proxies::new(&ProxyPlan::List(["http://u:canary@a:1", "http://b:2"].map(str::to_owned).to_vec()), [], |_| None).unwrap();
        let url = Url::parse("http://x/").unwrap();
        let now = Moment(1);
        p.report(0, Blame::Failed, "proxy a:1: connection refused", now);
        assert_eq!(p.rest(0, &url, now), None, "the other one is usable");
        let news = p.news();
        assert_eq!((news.len(), news[0].proxy.as_str(), news[0].until), (1, "a:1", now + REST));
        assert!(p.news().is_empty());
        p.report(1, Blame::Failed, "", now + Duration::from_secs(10));
        assert_eq!(p.rest(0, &url, now + Duration::from_secs(10)).unwrap().until, now + REST);
        assert_eq!(p.rest(0, &url, now + REST), None);
        p.report(0, Blame::Failed, "", now + REST);
        let rest = p.rest(0, &url, now + REST).unwrap();
        assert_eq!((rest.proxy.as_str(), rest.until, rest.since), ("b:2", now + Duration::from_secs(40), now + Duration::from_secs(10)));
        p.report(0, Blame::Fine, "", now + REST);
        p.report(1, Blame::Fine, "", now + REST);
        assert_eq!((p.rest(0, &url, now + REST), p.news().len()), (None, 0));
    }

    #[test]
    fn one_host_that_a_proxy_refuses_is_no_fault_of_the_proxy_and_eight_are() {
        let p = env(&[("all_proxy", "p:1"), ("no_proxy", "direct.test")]);
        let url = Url::parse("https://x/").unwrap();
        let now = Moment(1);
        for _ in 0..100 {
            p.report(0, Blame::Refused("dead.test:443"), "", now);
        }
        assert_eq!(p.rest(0, &url, now), None);
        for i in 0..6 {
            p.report(0, Blame::Refused(&format!("h{i}:443")), "", now);
        }
        assert_eq!(p.rest(0, &url, now), None);
        p.report(0, Blame::Refused("h6:443"), "", now);
        assert_eq!(p.rest(0, &url, now).unwrap().until, now + REST);
        assert_eq!(p.rest(0, &Url::parse("https://direct.test/").unwrap(), now), None, "what goes around it does not wait");
        assert_eq!(p.all.len(), 1, "one proxy for both schemes is one");
        assert!(!p.are_the_only_way() && env(&[("all_proxy", "p:1")]).are_the_only_way());
        assert!(!env(&[("http_proxy", "p:1")]).are_the_only_way() && !env(&[]).are_the_only_way());
    }

    #[test]
    fn a_host_has_a_way_of_its_own_and_a_proxy_of_two_ways_one_health() {
        let list = |names: &[&str]| ProxyPlan::List(names.iter().map(|n| format!("http://{n}")).collect());
        let (general, own) = (list(&["a:1", "b:2"]), list(&["b:2"]));
        let p = Proxies::new(&general, [Some(&own), None, Some(&ProxyPlan::Off)], |_| None).unwrap();
        let url = Url::parse("http://x/").unwrap();
        let now = Moment(1);
        assert_eq!((p.all.len(), p.route(1, &url, now), p.route(3, &url, now)), (2, Some(1), None));
        assert!(p.route(2, &url, now).is_some(), "what says nothing goes as everywhere");
        p.report(1, Blame::Failed, "", now);
        assert_eq!(p.rest(1, &url, now).unwrap().proxy, "b:2");
        assert_eq!((p.rest(0, &url, now), p.rest(3, &url, now)), (None, None), "the others have a way left");
        assert_eq!([0; 3].map(|_| p.route(2, &url, now)), [Some(0); 3]);
        assert!(!p.are_the_only_way());
    }

    #[test]
    fn an_address_that_is_none_is_told_without_its_password() {
        for bad in ["ftp://u:canary@h", "http://u:canary@h:999999", "u:canary@"] {
            let Err(SetupError::Proxy(text)) = Proxies::new(&ProxyPlan::List(vec![bad.to_owned()]), [], |_| None) else { panic!("{bad}") };
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
