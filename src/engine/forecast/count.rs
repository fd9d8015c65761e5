//! Counts what is to be sent, record by record, in memory that the number of records does not change.

use super::load::{Class, Load, Server};
use super::sample::{Sample, Seen};
use crate::engine::request::Builder;
use crate::limit::{About, Claim, Limits};
use crate::model::plan::{AuthKind, Plan};
use crate::model::{HostKey, normalise};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Hosts that are counted one by one; the others are counted together.
const HOSTS: usize = 50_000;
/// Different others of which the number is exact.
const OTHERS: usize = 100_000;
/// Kinds of requests of one host that are told apart; the others count as its last.
const CLASSES: usize = 32;

/// One set of claims for each token that may sign the request, or one set.
type Choices = Arc<[Arc<[Claim]>]>;

/// What is known of a host before it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Robots {
    /// Its robots.txt was read and still counts.
    pub(super) known: bool,
    /// Its Crawl-delay.
    pub(super) delay: Option<Duration>,
}

#[derive(Debug, Default)]
struct Host {
    entries: u64,
    robots: Robots,
    classes: Vec<(Choices, u64)>,
}

/// Requests by host and by what they count in.
pub(super) struct Counter<'a> {
    plan: &'a Plan,
    builder: &'a Builder,
    limits: &'a Limits,
    tokens: usize,
    /// All requests to a host count alike.
    by_host: bool,
    hosts: HashMap<HostKey, Host>,
    /// What is past [`HOSTS`]: which hosts, how many requests, and what these count in that is not their host's own.
    others: Sample,
    of_others: u64,
    other_classes: Vec<(Choices, u64)>,
}

/// The hosts as they are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Host, addresses, and whether its robots.txt is asked for first; most addresses first.
    pub(super) hosts: Vec<(HostKey, u64, bool)>,
    /// Further hosts and their addresses.
    pub(super) others: (u64, u64),
    /// Whether the number of further hosts is exact.
    pub(super) exact: bool,
}

impl<'a> Counter<'a> {
    pub(super) fn new(plan: &'a Plan, builder: &'a Builder, limits: &'a Limits) -> Self {
        let tokens = match plan.auth.as_ref().map(|a| &a.kind) {
            Some(AuthKind::Tokens(list)) => list.len(),
            Some(_) => 1,
            None => 0,
        };
        Self {
            plan,
            builder,
            limits,
            tokens,
            by_host: limits.depend_on_host_alone() && tokens < 2,
            hosts: HashMap::new(),
            others: Sample::new(OTHERS),
            of_others: 0,
            other_classes: Vec::new(),
        }
    }

    /// Whether addresses are to be told one by one.
    pub(super) fn wants_addresses(&self) -> bool {
        !self.by_host
    }

    /// What the state knows of a host.
    pub(super) fn knows(&mut self, key: &HostKey, robots: Robots) {
        if self.hosts.len() < HOSTS || self.hosts.contains_key(key) {
            self.hosts.entry(key.clone()).or_default().robots = robots;
        }
    }

    /// So many addresses of a host, whatever they are.
    pub(super) fn add_many(&mut self, key: &HostKey, n: u64) {
        let choices = self.choices(key, "/");
        self.put(key, n, &choices);
    }

    /// One address, as listed.
    pub(super) fn add(&mut self, key: &HostKey, listed: &str) {
        if self.by_host {
            if let Some(host) = self.hosts.get_mut(key)
                && let Some((_, n)) = host.classes.first_mut()
            {
                host.entries += 1;
                *n += 1;
                return;
            }
            return self.add_many(key, 1);
        }
        let path = normalise(listed).map_or_else(|_| "/".to_owned(), |url| url.path().to_owned());
        let choices = self.choices(key, &path);
        self.put(key, 1, &choices);
    }

    /// So many addresses of a host turned out to be repeats.
    pub(super) fn take_back(&mut self, key: &HostKey, n: u64) {
        let (entries, classes) = match self.hosts.get_mut(key) {
            Some(host) => (&mut host.entries, &mut host.classes),
            None => (&mut self.of_others, &mut self.other_classes),
        };
        if let Some((_, most)) = classes.iter_mut().max_by_key(|(_, n)| *n) {
            let n = n.min(*most);
            *most -= n;
            *entries -= n;
        }
    }

    fn put(&mut self, key: &HostKey, n: u64, choices: &Choices) {
        if !self.hosts.contains_key(key) && self.hosts.len() >= HOSTS {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let bits = u128::from(hasher.finish());
            self.others.see(bits << 64 | bits);
            self.of_others += n;
            let shared: Choices = choices.iter().map(|claims| not_of_host(claims)).collect();
            return count(&mut self.other_classes, &shared, n);
        }
        let host = self.hosts.entry(key.clone()).or_default();
        host.entries += n;
        count(&mut host.classes, choices, n);
    }

    /// What a first try counts in.
    fn choices(&self, key: &HostKey, path: &str) -> Choices {
        let about = |token| About { host: key, method: self.plan.request.method.as_str(), path, token };
        let signed = self.tokens > 0 && Url::parse(key.as_str()).is_ok_and(|url| self.builder.signs_at(&url));
        if signed {
            (0..self.tokens).map(|token| self.limits.claims(&about(Some(token)))).collect()
        } else {
            [self.limits.claims(&about(None))].into()
        }
    }

    /// The load, and the hosts for people.
    pub(super) fn finish(self) -> (Load, Told) {
        let mut hosts: Vec<(HostKey, Host)> = self.hosts.into_iter().filter(|(_, h)| h.entries > 0).collect();
        hosts.sort_by(|(a, x), (b, y)| y.entries.cmp(&x.entries).then_with(|| a.cmp(b)));
        let mut told = Told { others: (self.others.distinct(), self.of_others), exact: self.others.is_exact(), ..Told::default() };
        let mut servers: Vec<Server> = Vec::with_capacity(hosts.len());
        let mut groups: HashMap<Arc<str>, usize> = HashMap::new();
        for (key, host) in hosts {
            let of = self.builder.specials().of(key.host());
            let robots = of.robots && !host.robots.known;
            told.hosts.push((key.clone(), host.entries, robots));
            let classes = host.classes.into_iter().map(|(claims, requests)| Class { claims, requests });
            // Hosts of one group are one host to `per_host` and `delay`.
            if let Some(i) = of.group.as_ref().and_then(|g| groups.get(g)) {
                servers[*i].robots += u64::from(robots);
                servers[*i].classes.extend(classes);
                continue;
            }
            if let Some(group) = &of.group {
                groups.insert(Arc::clone(group), servers.len());
            }
            let (most, delay) = (of.per_host, of.delay);
            let about = About { host: &key, method: "GET", path: "/robots.txt", token: None };
            servers.push(Server {
                name: of.group.as_ref().map_or_else(|| key.as_str().into(), |g| format!("group {g}").into()),
                most: if host.robots.delay.is_some() { 1 } else { most },
                delay: host.robots.delay.map_or(delay, |d| d.max(delay)),
                robots: u64::from(robots),
                robots_claims: self.limits.claims(&about),
                classes: classes.collect(),
            });
        }
        if self.of_others > 0 {
            let classes = self.other_classes.into_iter().map(|(claims, requests)| Class { claims, requests });
            let robots_claims = not_of_host(&self.limits.claims(&About {
                host: &HostKey::from_stored("http://other"),
                method: "GET",
                path: "/robots.txt",
                token: None,
            }));
            // Of very many hosts none binds by itself.
            servers.push(Server {
                name: "other hosts".into(),
                most: usize::MAX,
                delay: Duration::ZERO,
                robots: if self.plan.request.robots { told.others.0 } else { 0 },
                robots_claims,
                classes: classes.collect(),
            });
        }
        (Load { servers }, told)
    }
}

fn count(classes: &mut Vec<(Choices, u64)>, choices: &Choices, n: u64) {
    let full = classes.len() >= CLASSES;
    if let Some((_, have)) = classes.iter_mut().find(|(c, _)| c == choices) {
        *have += n;
    } else if full {
        if let Some((_, last)) = classes.last_mut() {
            *last += n;
        }
    } else {
        classes.push((Arc::clone(choices), n));
    }
}

/// What a request counts in besides its own host's limits.
fn not_of_host(claims: &[Claim]) -> Arc<[Claim]> {
    claims.iter().filter(|c| &*c.key == "job" || c.key.starts_with("token ")).cloned().collect()
}

/// Which addresses are repeats.
pub(super) struct Repeats<'a> {
    seen: Sample,
    /// Whether the state knows a key.
    known: &'a dyn Fn(crate::model::FetchKey) -> bool,
    pub(super) repeated: u64,
}

impl<'a> Repeats<'a> {
    pub(super) fn new(most: usize, known: &'a dyn Fn(crate::model::FetchKey) -> bool) -> Self {
        Self { seen: Sample::new(most), known, repeated: 0 }
    }

    /// What an address takes of the count: `Ok` where it is new or may be, else how many repeats it stands for.
    pub(super) fn see(&mut self, key: crate::model::FetchKey) -> Result<(), u64> {
        let stands_for = match self.seen.see(u128::from_le_bytes(key.0)) {
            Seen::Again(n) => n,
            Seen::New(n) if (self.known)(key) => n,
            Seen::New(_) | Seen::Unknown => return Ok(()),
        };
        self.repeated += stands_for;
        Err(stands_for)
    }

    pub(super) fn are_exact(&self) -> bool {
        self.seen.is_exact()
    }
}
