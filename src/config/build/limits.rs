//! `[limits]`, `[retry]`, `[network]`, `[stop]`.

use super::{Builder, limit, take};
use crate::config::leaf::{Count, Name, OrOff, Set, Share, Size, Span, Texts, Wait};
use crate::config::raw;
use crate::model::Rate;
use crate::model::plan::{LimitKeyKind, LimitsPlan, NetworkPlan, RetryPlan, StopPlan};
use std::time::Duration;

fn small(count: Option<Count<1, 10_000>>) -> usize {
    count.and_then(|c| usize::try_from(c.0).ok()).unwrap_or(1)
}

fn span(span: Option<Span>) -> Duration {
    span.map_or(Duration::ZERO, |s| s.0)
}

pub(super) fn limits(b: &mut Builder<'_>, raw: raw::Limits, more: Vec<raw::Limit>) -> LimitsPlan {
    let rates = take!(b, "limits", raw.rate).and_then(OrOff::on).map_or_else(Vec::new, |r| r.0);
    let burst = take!(b, "limits", raw.burst).and_then(OrOff::on).and_then(|c| u32::try_from(c.0).ok());
    burst_below(b, "limits.burst", burst, &rates);
    let budget = take!(b, "limits", raw.budget).and_then(OrOff::on).map(|Name(name)| name);
    if budget.is_some() && rates.is_empty() && !b.is_wrong("limits.rate") {
        b.error("limits.budget", "shares [limits] rate, and there is none: set rate to what is shared");
    }
    let reserve = reserve(b, raw.reserve, &rates);
    LimitsPlan {
        reserve,
        rates,
        burst,
        key: take!(b, "limits", raw.key).unwrap_or(LimitKeyKind::Host),
        workers: small(take!(b, "limits", raw.workers)),
        per_host: small(take!(b, "limits", raw.per_host)),
        delay: span(take!(b, "limits", raw.delay)),
        max_wait: span(take!(b, "limits", raw.max_wait)),
        jitter: take!(b, "limits", raw.jitter).unwrap_or(false),
        adapt: take!(b, "limits", raw.adapt).unwrap_or(true),
        budget,
        arrival: take!(b, "limits", raw.arrival).and_then(OrOff::on).map(|Wait(d)| d),
        hours: take!(b, "limits", raw.hours).and_then(OrOff::on),
        more: limit::more(b, more, if reserve < 1.0 { reserve } else { 0.0 }),
    }
}

/// A burst that is no less than a rate is that rate twice.
pub(super) fn burst_below(b: &mut Builder<'_>, key: &str, burst: Option<u32>, rates: &[Rate]) {
    if let (Some(burst), Some(rate)) = (burst, rates.iter().min_by_key(|r| r.count))
        && burst >= rate.count
    {
        b.error(key, format!("{burst} at once is no less than the rate {rate}: a burst has to be below each rate's count"));
    }
}

/// What is left of a rate's count, in whole requests.
pub(super) fn left(rate: &Rate, reserve: f64) -> f64 {
    (f64::from(rate.count) * (1.0 - reserve) + 1e-9).floor()
}

fn reserve(b: &mut Builder<'_>, raw: Set<OrOff<Share>>, rates: &[Rate]) -> f64 {
    let reserve = b.take("limits.reserve", raw).and_then(OrOff::on).map_or(0.0, |Share(s)| s);
    if reserve >= 1.0 {
        b.error("limits.reserve", "100% leaves nothing for this job: write a share below it");
    } else if let Some(rate) = rates.iter().find(|rate| left(rate, reserve) < 1.0) {
        b.error("limits.reserve", format!("leaves less than one request of the rate {rate}"));
    }
    reserve
}

pub(super) fn retry(b: &mut Builder<'_>, raw: raw::Retry) -> RetryPlan {
    let backoff = span(take!(b, "retry", raw.backoff));
    let max_backoff = span(take!(b, "retry", raw.max_backoff));
    if backoff > max_backoff && b.errors.iter().all(|e| !e.key.starts_with("retry.")) {
        let key = if b.context.tree.is_set("retry.backoff") { "retry.backoff" } else { "retry.max_backoff" };
        b.error(key, "backoff is longer than max_backoff");
    }
    RetryPlan {
        attempts: take!(b, "retry", raw.attempts).and_then(|c| u32::try_from(c.0).ok()).unwrap_or(1),
        backoff,
        max_backoff,
        statuses: take!(b, "retry", raw.statuses).map_or_else(Vec::new, |c| c.0),
        methods: methods(b, "retry.methods", raw.methods),
        budget: take!(b, "retry", raw.budget).and_then(OrOff::on).map(|s| s.0),
        final_sweep: take!(b, "retry", raw.final_sweep).unwrap_or(true),
        host_give_up: take!(b, "retry", raw.host_give_up).map_or(Duration::ZERO, |w| w.0),
    }
}

/// In upper case.
pub(super) fn methods(b: &mut Builder<'_>, key: &str, raw: Set<Texts>) -> Vec<String> {
    let methods = b.take(key, raw).map_or_else(Vec::new, |t| t.0);
    for method in &methods {
        if http::Method::from_bytes(method.as_bytes()).is_err() {
            b.error(key, format!("{method:?} is no HTTP method"));
        }
    }
    methods.into_iter().map(|m| m.to_ascii_uppercase()).collect()
}

pub(super) fn network(b: &mut Builder<'_>, raw: raw::Network) -> NetworkPlan {
    NetworkPlan { allow: take!(b, "network", raw.allow).unwrap_or_default(), ..b.context.network.clone() }
}

pub(super) fn stop(b: &mut Builder<'_>, raw: raw::Stop) -> StopPlan {
    let errors = take!(b, "stop", raw.errors).and_then(OrOff::on).map(|Share(s)| s);
    if errors == Some(0.0) {
        b.error("stop.errors", "0% would end every run: write \"off\" or a share above it");
    }
    StopPlan {
        time: take!(b, "stop", raw.time).and_then(OrOff::on).map(|Wait(d)| d),
        requests: take!(b, "stop", raw.requests).and_then(OrOff::on).map(|Count(n)| n),
        bytes: take!(b, "stop", raw.bytes).and_then(OrOff::on).map(|Size(n)| n),
        results: take!(b, "stop", raw.results).and_then(OrOff::on).map(|Count(n)| n).filter(|n| *n > 0),
        errors,
    }
}
