//! What differs for some hosts (`[[host]]`): of the tables that match a host the most specific one counts, key by key; what none
//! of them says is as everywhere. A decider.

use crate::model::HostGlob;
use crate::model::plan::{HeaderValue, HostPlan, Plan, RetryPlan, Timeouts, UserAgent};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Sets of tables whose sum is remembered; past that all are forgotten and made again.
const MADE: usize = 1024;

/// How one host is treated: what holds everywhere, with what its tables say laid over it.
#[derive(Clone, Debug)]
pub struct Special {
    /// Attempts in flight to one of its host keys.
    pub per_host: usize,
    /// Between two starts to one of its host keys.
    pub delay: Duration,
    /// Hosts of one group are one to limits, holds, `per_host` and `delay`.
    pub group: Option<Arc<str>>,
    /// Its tables' own headers, besides those of `[request]` or in their place; each name once, in any case.
    pub headers: Vec<(String, HeaderValue)>,
    /// Where a table says it, in the place of all that `[request]` says of it.
    pub user_agent: Option<UserAgent>,
    /// Which table's proxies it goes by, from 0 in the job's order; `None`: those of `[request]`.
    pub proxy: Option<usize>,
    /// Whether its robots.txt is obeyed.
    pub robots: bool,
    /// How its failures are tried again.
    pub retry: RetryPlan,
    /// Of one attempt.
    pub timeouts: Timeouts,
}

/// Tells how a host is treated.
#[derive(Debug)]
pub struct Specials {
    everywhere: Arc<Special>,
    /// In the job's order.
    hosts: Vec<HostPlan>,
    /// Globs and places among these, the most specific first; of equals the first in the job.
    tables: Vec<(HostGlob, usize)>,
    /// Hosts that the same tables match share one.
    made: Mutex<HashMap<Box<[usize]>, Arc<Special>>>,
}

impl Specials {
    /// Those of a job.
    #[must_use]
    pub fn of_plan(plan: &Plan) -> Self {
        let everywhere = Special {
            per_host: plan.limits.per_host.max(1),
            delay: plan.limits.delay,
            group: None,
            headers: Vec::new(),
            user_agent: None,
            proxy: None,
            robots: plan.request.robots,
            retry: plan.retry.clone(),
            timeouts: plan.request.timeouts(),
        };
        Self::new(everywhere, plan.hosts.clone())
    }

    /// Globs that are none (refused by `config`) match nothing.
    #[must_use]
    pub fn new(everywhere: Special, hosts: Vec<HostPlan>) -> Self {
        let mut tables: Vec<_> = hosts.iter().enumerate().filter_map(|(i, h)| Some((HostGlob::new(&h.pattern)?, i))).collect();
        tables.sort_by_key(|(glob, _)| Reverse(glob.specificity()));
        Self { everywhere: Arc::new(everywhere), hosts, tables, made: Mutex::default() }
    }

    /// How a host that no table matches is treated.
    #[must_use]
    pub fn everywhere(&self) -> &Arc<Special> {
        &self.everywhere
    }

    /// How a host (lower case, without port) is treated.
    #[must_use]
    pub fn of(&self, host: &str) -> Arc<Special> {
        let matching: Box<[usize]> = self.tables.iter().filter(|(glob, _)| glob.matches(host)).map(|(_, i)| *i).collect();
        if matching.is_empty() {
            return Arc::clone(&self.everywhere);
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(special) = made.get(&matching) {
            return Arc::clone(special);
        }
        if made.len() >= MADE {
            made.clear();
        }
        let special = Arc::new(self.merged(&matching));
        made.insert(matching, Arc::clone(&special));
        special
    }

    /// The sum of tables, the most specific first.
    fn merged(&self, matching: &[usize]) -> Special {
        let mut sum = (*self.everywhere).clone();
        // From the least specific to the most: each says over what was said before.
        for i in matching.iter().rev() {
            let host = &self.hosts[*i];
            sum.per_host = host.per_host.map_or(sum.per_host, |n| n.max(1));
            sum.delay = host.delay.unwrap_or(sum.delay);
            sum.group = host.group.as_deref().map(Into::into).or(sum.group);
            for (name, value) in &host.headers {
                sum.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
                sum.headers.push((name.clone(), value.clone()));
            }
            sum.user_agent = host.user_agent.clone().or(sum.user_agent);
            sum.proxy = host.proxy.as_ref().map(|_| *i).or(sum.proxy);
            sum.robots = host.robots.unwrap_or(sum.robots);
            sum.retry.attempts = host.attempts.unwrap_or(sum.retry.attempts);
            sum.retry.backoff = host.backoff.unwrap_or(sum.retry.backoff);
            sum.retry.max_backoff = host.max_backoff.unwrap_or(sum.retry.max_backoff);
            let [connect, first_byte, idle, total] = host.timeouts;
            let t = sum.timeouts;
            sum.timeouts = Timeouts {
                connect: connect.unwrap_or(t.connect),
                first_byte: first_byte.unwrap_or(t.first_byte),
                idle: idle.unwrap_or(t.idle),
                total: total.unwrap_or(t.total),
            };
        }
        // Each table was checked by itself: the backoff of one may be longer than the longest of another.
        sum.retry.max_backoff = sum.retry.max_backoff.max(sum.retry.backoff);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Template;
    use crate::model::plan::{LimitsPlan, ProxyPlan};

    const SECOND: Duration = Duration::from_secs(1);

    fn specials(hosts: Vec<HostPlan>) -> Specials {
        let limits = LimitsPlan::default();
        let everywhere = Special {
            per_host: limits.per_host,
            delay: limits.delay,
            group: None,
            headers: Vec::new(),
            user_agent: None,
            proxy: None,
            robots: true,
            retry: RetryPlan {
                attempts: 5,
                backoff: SECOND,
                max_backoff: 60 * SECOND,
                statuses: Vec::new(),
                methods: Vec::new(),
                budget: None,
                final_sweep: true,
                host_give_up: 300 * SECOND,
            },
            timeouts: Timeouts { connect: 10 * SECOND, first_byte: 30 * SECOND, idle: 30 * SECOND, total: 120 * SECOND },
        };
        Specials::new(everywhere, hosts)
    }

    fn table(pattern: &str) -> HostPlan {
        HostPlan { pattern: pattern.into(), ..HostPlan::default() }
    }

    fn header(name: &str, value: &str) -> (String, HeaderValue) {
        (name.into(), HeaderValue::Text(Template::parse(value).unwrap()))
    }

    fn headers(special: &Special) -> Vec<(&str, &str)> {
        let text = |value: &'_ HeaderValue| match value {
            HeaderValue::Text(t) => t.source().to_owned().leak() as &str,
            HeaderValue::Secret(_) => "***",
        };
        special.headers.iter().map(|(n, v)| (n.as_str(), text(v))).collect()
    }

    #[test]
    fn the_most_specific_table_counts_key_by_key_whatever_the_order() {
        let wide = HostPlan {
            per_host: Some(3),
            delay: Some(SECOND),
            group: Some("g".into()),
            robots: Some(false),
            attempts: Some(2),
            timeouts: [Some(SECOND), None, None, Some(9 * SECOND)],
            user_agent: Some(UserAgent::Browser),
            ..table("*.example.org")
        };
        let narrow = HostPlan {
            per_host: Some(1),
            robots: Some(true),
            timeouts: [None, None, None, Some(5 * SECOND)],
            ..table("*.sub.example.org")
        };
        let exact = HostPlan { delay: Some(Duration::ZERO), backoff: Some(2 * SECOND), ..table("a.sub.example.org") };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let all = [&wide, &narrow, &exact];
            let s = specials(order.iter().map(|i| all[*i].clone()).collect());
            let a = s.of("a.sub.example.org");
            assert_eq!((a.per_host, a.delay, a.group.as_deref(), a.robots), (1, Duration::ZERO, Some("g"), true));
            assert_eq!((a.retry.attempts, a.retry.backoff, a.retry.max_backoff), (2, 2 * SECOND, 60 * SECOND));
            assert_eq!((a.timeouts.connect, a.timeouts.first_byte, a.timeouts.total), (SECOND, 30 * SECOND, 5 * SECOND));
            assert_eq!(a.user_agent, Some(UserAgent::Browser));
            let b = s.of("b.example.org");
            assert_eq!((b.per_host, b.delay, b.robots, b.timeouts.total), (3, SECOND, false, 9 * SECOND));
            let other = s.of("example.org");
            assert!(Arc::ptr_eq(&other, s.everywhere()) && (other.per_host, other.robots) == (8, true));
            assert!(Arc::ptr_eq(&s.of("c.example.org"), &b), "what the same tables match is one");
        }
    }

    #[test]
    fn each_header_is_a_key_of_its_own_in_any_case() {
        let s = specials(vec![
            HostPlan { headers: vec![header("X-A", "exact")], ..table("a.org") },
            HostPlan { headers: vec![header("x-a", "wide"), header("X-B", "{{b}}")], ..table("*.org") },
        ]);
        assert_eq!(headers(&s.of("a.org")), [("X-B", "{{b}}"), ("X-A", "exact")]);
        assert_eq!(headers(&s.of("b.org")), [("x-a", "wide"), ("X-B", "{{b}}")]);
        assert!(headers(&s.of("a.net")).is_empty());
    }

    #[test]
    fn proxies_are_told_by_their_table_and_a_backoff_is_never_above_the_longest() {
        let s = specials(vec![
            HostPlan { proxy: Some(ProxyPlan::Off), backoff: Some(50 * SECOND), ..table("*.org") },
            HostPlan { max_backoff: Some(2 * SECOND), ..table("a.org") },
            HostPlan { proxy: Some(ProxyPlan::List(vec!["http://p:1".into()])), ..table("b.org") },
        ]);
        assert_eq!((s.of("a.org").proxy, s.of("b.org").proxy, s.of("c.net").proxy), (Some(0), Some(2), None));
        let a = &s.of("a.org").retry;
        assert_eq!((a.backoff, a.max_backoff), (50 * SECOND, 50 * SECOND));
    }
}
