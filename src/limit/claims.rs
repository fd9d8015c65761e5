//! Which limits a request counts in.

use crate::model::plan::{HostPlan, LimitKeyKind, LimitsPlan};
use crate::model::{HostGlob, HostKey, Rate, path_glob};
use globset::GlobMatcher;
use std::sync::Arc;

/// Number of a limit: 0 is that of `[limits]`.
pub type LimitId = u16;

/// What the limit of servers' own resources is called in the state; no `[[limit]]` may be.
const RESOURCE: &str = "(resource)";

/// What the limit of a `[[host]] group` is called.
const GROUP: &str = "(group)";

/// One limit that a request counts in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Which limit.
    pub limit: LimitId,
    /// Whose quota of it: a host, a domain, a token's number, or `job`.
    pub key: Arc<str>,
    /// What the request takes of it, at least 1.
    pub weight: u32,
}

/// What a request is to the limits.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Where it goes.
    pub host: &'a HostKey,
    /// Upper case.
    pub method: &'a str,
    /// As it is sent, without the query.
    pub path: &'a str,
    /// The token of `[auth]` that signs it, from 0; `None` where it is not signed.
    pub token: Option<usize>,
}

/// The rates of one limit.
#[derive(Clone, Debug)]
pub(super) struct LimitRates {
    /// Of a `[[limit]]`.
    pub(super) name: Option<Arc<str>>,
    /// What the state calls it: the name, or which `[[host]]` it is of.
    pub(super) stored: Option<Arc<str>>,
    pub(super) rates: Vec<Rate>,
    pub(super) burst: Option<u32>,
    pub(super) concurrency: Option<u32>,
    /// The most that one request takes.
    pub(super) heaviest: u32,
    /// Whether what it counted holds over restarts: the delay of a group, like that of a host, is of one run.
    pub(super) lasts: bool,
}

/// `[[limit]]`, compiled.
#[derive(Debug)]
struct Further {
    limit: LimitId,
    kind: LimitKeyKind,
    methods: Vec<String>,
    host: Option<HostGlob>,
    path: Option<GlobMatcher>,
    weight: u32,
}

/// `[[host]]`, as far as limits go.
#[derive(Debug)]
struct Special {
    glob: HostGlob,
    group: Option<Arc<str>>,
    limit: Option<LimitId>,
}

/// Tells which limits a request counts in.
#[derive(Debug)]
pub(super) struct Claims {
    kind: LimitKeyKind,
    /// The limit without rates under which a server's own resources are kept.
    resources: LimitId,
    further: Vec<Further>,
    /// The most specific first.
    special: Vec<Special>,
    /// The limit of each group that shares `per_host` and `delay`.
    groups: Vec<(Arc<str>, LimitId)>,
}

impl Claims {
    /// The limits of a job and who counts in them; globs that are none (refused by `config`) match nothing.
    pub(super) fn new(plan: &LimitsPlan, hosts: &[HostPlan]) -> (Self, Vec<LimitRates>) {
        let mut limits = vec![LimitRates {
            name: None,
            stored: None,
            rates: plan.rates.clone(),
            burst: plan.burst,
            concurrency: None,
            heaviest: 1,
            lasts: true,
        }];
        let mut further = Vec::new();
        for table in &plan.more {
            let same = limits.iter().position(|l| l.name.as_deref() == Some(&*table.name));
            let i = same.unwrap_or_else(|| {
                limits.push(LimitRates {
                    name: Some(table.name.as_str().into()),
                    stored: Some(table.name.as_str().into()),
                    rates: table.rates.clone(),
                    burst: table.burst,
                    concurrency: table.concurrency,
                    heaviest: 1,
                    lasts: true,
                });
                limits.len() - 1
            });
            let weight = table.weight.max(1);
            limits[i].heaviest = limits[i].heaviest.max(weight);
            let first = further.iter().find(|f: &&Further| usize::from(f.limit) == i).map(|f| f.kind);
            let Ok(limit) = LimitId::try_from(i) else { continue };
            let host = table.host.as_deref().map(HostGlob::new);
            let path = table.path.as_deref().map(|glob| path_glob(glob).ok());
            if matches!(host, Some(None)) || matches!(path, Some(None)) {
                continue;
            }
            further.push(Further {
                limit,
                kind: first.unwrap_or(table.key),
                methods: table.methods.clone(),
                host: host.flatten(),
                path: path.flatten(),
                weight,
            });
        }
        let mut special = Vec::new();
        for host in hosts.iter().filter(|h| h.rates.is_some() || h.burst.is_some() || h.group.is_some()) {
            let Some(glob) = HostGlob::new(&host.pattern) else { continue };
            let own = host.rates.is_some() || host.burst.is_some();
            let limit = own.then(|| {
                // What a table leaves out is as in [limits].
                let rates = host.rates.clone().unwrap_or_else(|| plan.rates.clone());
                // No name of a `[[limit]]` looks like that.
                let (stored, burst) = (Some(format!("(host) {}", host.pattern).into()), host.burst.or(plan.burst));
                limits.push(LimitRates { name: None, stored, rates, burst, concurrency: None, heaviest: 1, lasts: true });
                LimitId::try_from(limits.len() - 1).unwrap_or(0)
            });
            special.push(Special { glob, group: host.group.as_deref().map(Into::into), limit });
        }
        let groups = groups(plan, hosts, &mut limits);
        limits.push(LimitRates {
            name: Some(RESOURCE.into()),
            stored: Some(RESOURCE.into()),
            rates: Vec::new(),
            burst: None,
            concurrency: None,
            heaviest: 1,
            lasts: true,
        });
        let resources = LimitId::try_from(limits.len() - 1).unwrap_or(0);
        special.sort_by_key(|s| std::cmp::Reverse(s.glob.specificity()));
        (Self { kind: plan.key, resources, further, special, groups }, limits)
    }

    /// What the request counts in; the first is where refusals that name no resource are held.
    pub(super) fn of(&self, about: &About<'_>) -> Vec<Claim> {
        let host = about.host.host();
        let mut matching = self.special.iter().filter(|s| s.glob.matches(host));
        let (mut limit, mut group) = (None, None);
        for special in matching.by_ref() {
            limit = limit.or(special.limit);
            group = group.or_else(|| special.group.clone());
        }
        let key = |kind| match kind {
            LimitKeyKind::Job => "job".into(),
            LimitKeyKind::Credential if about.token.is_some() => {
                about.token.map_or_else(|| "".into(), |n| format!("token {}", n + 1).into())
            }
            LimitKeyKind::Domain => group.clone().unwrap_or_else(|| domain(host).into()),
            LimitKeyKind::Host | LimitKeyKind::Credential => group.clone().unwrap_or_else(|| host.into()),
        };
        let mut claims = vec![Claim { limit: limit.unwrap_or(0), key: key(self.kind), weight: 1 }];
        for f in &self.further {
            let is = (f.methods.is_empty() || f.methods.iter().any(|m| m == about.method))
                && f.host.as_ref().is_none_or(|g| g.matches(host))
                && f.path.as_ref().is_none_or(|g| g.is_match(about.path));
            if is && claims[1..].iter().all(|c| c.limit != f.limit) {
                claims.push(Claim { limit: f.limit, key: key(f.kind), weight: f.weight });
            }
        }
        // Last, so that no refusal is held there.
        if let Some((group, limit)) = group.as_ref().and_then(|g| self.groups.iter().find(|(name, _)| name == g)) {
            claims.push(Claim { limit: *limit, key: Arc::clone(group), weight: 1 });
        }
        claims
    }

    /// What a request counts in besides, whose answers name a resource of the server's that is no `[[limit]]`.
    pub(super) fn resource(&self, base: &Claim, resource: &str) -> Claim {
        Claim { limit: self.resources, key: format!("{} {resource}", base.key).into(), weight: 1 }
    }

    /// Whether all requests to a host count alike.
    pub(super) fn depend_on_host_alone(&self) -> bool {
        let by_token = |kind| kind == LimitKeyKind::Credential;
        !by_token(self.kind) && self.further.iter().all(|f| f.methods.is_empty() && f.path.is_none() && !by_token(f.kind))
    }

    /// Whether one key is everybody's, and nothing else is.
    pub(super) fn is_one(&self) -> bool {
        self.kind == LimitKeyKind::Job
            && self.further.is_empty()
            && self.groups.is_empty()
            && self.special.iter().all(|s| s.limit.is_none())
    }
}

/// The limit that hosts of one group have together: as many under way as one of them may have, and a start no sooner than `delay`
/// after the answer's head before. Of several tables of a group the least and the longest count.
fn groups(plan: &LimitsPlan, hosts: &[HostPlan], limits: &mut Vec<LimitRates>) -> Vec<(Arc<str>, LimitId)> {
    let mut groups: Vec<(Arc<str>, LimitId)> = Vec::new();
    for name in hosts.iter().filter_map(|h| h.group.as_deref()) {
        if groups.iter().any(|(group, _)| **group == *name) {
            continue;
        }
        let own = || hosts.iter().filter(|h| h.group.as_deref() == Some(name));
        let most = own().filter_map(|h| h.per_host).min().unwrap_or(plan.per_host);
        let delay = own().filter_map(|h| h.delay).max().unwrap_or(plan.delay);
        limits.push(LimitRates {
            name: Some(GROUP.into()),
            stored: Some(format!("{GROUP} {name}").into()),
            rates: if delay.is_zero() { Vec::new() } else { vec![Rate { count: 1, per: delay }] },
            burst: None,
            concurrency: Some(u32::try_from(most).unwrap_or(u32::MAX).max(1)),
            heaviest: 1,
            lasts: false,
        });
        groups.push((name.into(), LimitId::try_from(limits.len() - 1).unwrap_or(0)));
    }
    groups
}

/// The registrable domain of a host name; an address, or a name of the list itself, is its own.
fn domain(host: &str) -> &str {
    if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return host;
    }
    psl::domain_str(host.trim_end_matches('.')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::sim::rate;
    use crate::model::plan::LimitPlan;

    fn limit(name: &str, path: Option<&str>, methods: &[&str], weight: u32) -> LimitPlan {
        LimitPlan {
            name: name.into(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            host: None,
            path: path.map(Into::into),
            rates: vec![rate(30, 60_000)],
            key: LimitKeyKind::Host,
            burst: None,
            weight,
            concurrency: None,
        }
    }

    fn told(claims: &Claims, host: &str, method: &str, path: &str) -> Vec<(LimitId, String, u32)> {
        let host = HostKey::from_stored(&format!("https://{host}"));
        claims.of(&About { host: &host, method, path, token: None }).into_iter().map(|c| (c.limit, c.key.to_string(), c.weight)).collect()
    }

    #[test]
    fn every_matching_limit_counts_and_of_one_name_the_first_match() {
        let plan = LimitsPlan {
            more: vec![
                limit("search", Some("/search/**"), &[], 1),
                limit("points", None, &["POST", "PATCH"], 5),
                limit("points", None, &[], 1),
            ],
            ..LimitsPlan::default()
        };
        let (claims, limits) = Claims::new(&plan, &[]);
        assert_eq!((limits.len(), limits[2].heaviest), (4, 5));
        let h = |l: LimitId, w| (l, "h.org".to_owned(), w);
        assert_eq!(told(&claims, "h.org", "GET", "/search/code/x"), [h(0, 1), h(1, 1), h(2, 1)]);
        assert_eq!(told(&claims, "h.org", "POST", "/searches"), [h(0, 1), h(2, 5)]);
        assert!(!claims.depend_on_host_alone());
    }

    #[test]
    fn keys_are_hosts_domains_tokens_groups_or_the_job() {
        let of = |kind, host: &str, token| {
            let (claims, _) = Claims::new(&LimitsPlan { key: kind, ..LimitsPlan::default() }, &[]);
            let host = HostKey::from_stored(&format!("http://{host}"));
            claims.of(&About { host: &host, method: "GET", path: "/", token })[0].key.to_string()
        };
        assert_eq!(of(LimitKeyKind::Host, "a.b.co.uk:81", None), "a.b.co.uk");
        assert_eq!(of(LimitKeyKind::Domain, "a.b.co.uk", None), "b.co.uk");
        assert_eq!(of(LimitKeyKind::Domain, "127.0.0.1:80", None), "127.0.0.1");
        assert_eq!(of(LimitKeyKind::Domain, "[::1]:80", None), "[::1]");
        assert_eq!(of(LimitKeyKind::Credential, "h", Some(1)), "token 2");
        assert_eq!(of(LimitKeyKind::Credential, "h", None), "h", "what is not signed counts by its host");
        assert_eq!(of(LimitKeyKind::Job, "h", Some(1)), "job");
    }

    #[test]
    fn a_group_is_one_key_and_the_most_specific_rate_counts() {
        let host = |pattern: &str, rates: Option<Rate>, group: Option<&str>| HostPlan {
            pattern: pattern.into(),
            rates: rates.map(|r| vec![r]),
            group: group.map(Into::into),
            ..HostPlan::default()
        };
        let hosts = [
            host("*.cdn.org", Some(rate(1, 1000)), Some("cdn")),
            host("img.cdn.org", Some(rate(9, 1000)), None),
            host("other.net", None, Some("cdn")),
        ];
        let (claims, limits) = Claims::new(&LimitsPlan::default(), &hosts);
        assert_eq!((limits.len(), limits[3].concurrency, limits[3].rates.len()), (5, Some(8), 0));
        let group = || (3, "cdn".to_owned(), 1);
        assert_eq!(told(&claims, "a.cdn.org", "GET", "/"), [(1, "cdn".into(), 1), group()]);
        assert_eq!(told(&claims, "img.cdn.org", "GET", "/"), [(2, "cdn".into(), 1), group()]);
        assert_eq!(told(&claims, "other.net", "GET", "/"), [(0, "cdn".into(), 1), group()]);
        assert_eq!(told(&claims, "cdn.org", "GET", "/"), [(0, "cdn.org".into(), 1)]);
        let shared = |per_host, delay, pattern: &str| HostPlan { per_host, delay, ..host(pattern, None, Some("g")) };
        let second = std::time::Duration::from_secs(1);
        let hosts = [shared(Some(3), Some(second), "a"), shared(None, None, "b"), shared(Some(2), Some(second / 2), "c")];
        let (claims, limits) = Claims::new(&LimitsPlan { key: LimitKeyKind::Job, ..LimitsPlan::default() }, &hosts);
        assert_eq!((limits[1].concurrency, &limits[1].rates[..], limits[1].lasts), (Some(2), &[Rate { count: 1, per: second }][..], false));
        assert_eq!(told(&claims, "b", "GET", "/"), [(0, "job".into(), 1), (1, "g".into(), 1)]);
        assert!(!claims.is_one() && claims.depend_on_host_alone());
    }
}
