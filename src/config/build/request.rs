//! `[request]`: what is sent.

use super::{Builder, source, take};
use crate::config::leaf::{OrOff, Robots, Set, Size, Texts, Wait};
use crate::config::raw;
use crate::model::plan::{BodyPlan, HeaderValue, HostPlan, ProxyPlan, RequestPlan, UserAgent};
use crate::model::{Secret, Template};
use std::fmt::Write as _;
use std::time::Duration;

/// Headers that gleaner or its HTTP client sets for each request.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn request(b: &mut Builder<'_>, raw: raw::Request, crawl_robots: &Set<Robots>) -> RequestPlan {
    if let Some(url) = take!(b, "request", raw.url) {
        source::request_url(b, &url);
    }
    let method = method(b, raw.method);
    let user_agent = user_agent(b, "request.user_agent", raw.user_agent).unwrap_or(UserAgent::Text(String::new()));
    let robots = take!(b, "request", raw.robots).unwrap_or(Robots::Obey);
    let robots = if let Set::To(own) = crawl_robots { *own } else { robots };
    if b.context.tree.is_set("crawl.robots") && b.context.tree.is_set("request.robots") {
        b.error("request.robots", "set with [crawl] robots: say it once");
    }
    let time = |b: &mut Builder<'_>, key, set| b.take(key, set).map_or(Duration::ZERO, |Wait(d)| d);
    let query = take!(b, "request", raw.query).map_or_else(Vec::new, |p| p.0);
    let headers = take!(b, "request", raw.headers).map_or_else(Vec::new, |p| p.0);
    let ca_file = b.take("request.tls.ca_file", raw.tls.ca_file).map(|text| b.path("request.tls.ca_file", &text));
    RequestPlan {
        query: templates(b, "request.query", query),
        headers: self::headers(b, "request.headers", headers),
        body: body(b, raw.body, raw.json, raw.form),
        user_agent,
        proxy: proxy(b, "request.proxy", raw.proxy),
        connect_timeout: time(b, "request.timeout.connect", raw.timeout.connect),
        first_byte_timeout: time(b, "request.timeout.first_byte", raw.timeout.first_byte),
        idle_timeout: time(b, "request.timeout.idle", raw.timeout.idle),
        total_timeout: time(b, "request.timeout.total", raw.timeout.total),
        max_body: take!(b, "request", raw.max_body).map_or(0, |Size(n)| n),
        accept: take!(b, "request", raw.accept).map_or_else(Vec::new, |s| s.0),
        may_accept: Vec::new(),
        redirects: take!(b, "request", raw.redirects).and_then(|c| u32::try_from(c.0).ok()).unwrap_or(0),
        robots: robots == Robots::Obey,
        ca_file,
        idempotent: take!(b, "request", raw.idempotent).unwrap_or(false),
        method,
    }
}

/// Whether a template of the request, its address left out, has a place for the column `url`.
pub(super) fn names_url(request: &RequestPlan, hosts: &[HostPlan]) -> bool {
    let query = request.query.iter().map(|(_, t)| t);
    let headers = request.headers.iter().chain(hosts.iter().flat_map(|h| &h.headers)).filter_map(|(_, value)| match value {
        HeaderValue::Text(t) => Some(t),
        HeaderValue::Secret(_) => None,
    });
    let body: Vec<&Template> = match &request.body {
        None => Vec::new(),
        Some(BodyPlan::Text(t) | BodyPlan::Json(t)) => vec![t],
        Some(BodyPlan::Form(fields)) => fields.iter().map(|(_, t)| t).collect(),
    };
    query.chain(headers).chain(body).any(|t| t.names().contains(&"url"))
}

fn method(b: &mut Builder<'_>, raw: Set<String>) -> String {
    let method = b.take("request.method", raw).unwrap_or_default().to_ascii_uppercase();
    if b.context.tree.get("request.method").is_some_and(|n| n.as_text().is_some()) {
        match http::Method::from_bytes(method.as_bytes()) {
            Err(_) => b.error("request.method", format!("{method:?} is no HTTP method")),
            Ok(http::Method::CONNECT) => b.error("request.method", "CONNECT opens a tunnel and fetches nothing"),
            Ok(_) => {}
        }
    }
    method
}

pub(super) fn user_agent(b: &mut Builder<'_>, key: &str, raw: Set<String>) -> Option<UserAgent> {
    let text = b.take(key, raw)?;
    if text.trim().is_empty() {
        b.error(key, "is empty: name your program and a contact");
    } else if let Err(message) = header_value(&text) {
        b.error(key, message);
    }
    Some(if text == "browser" { UserAgent::Browser } else { UserAgent::Text(text) })
}

fn templates(b: &mut Builder<'_>, key: &str, pairs: Vec<(String, String)>) -> Vec<(String, Template)> {
    pairs.into_iter().filter_map(|(name, text)| Some((b.template(&format!("{key}.{name}"), &text)?, name))).map(|(t, n)| (n, t)).collect()
}

pub(super) fn headers(b: &mut Builder<'_>, table: &str, pairs: Vec<(String, String)>) -> Vec<(String, HeaderValue)> {
    let mut out: Vec<(String, HeaderValue)> = Vec::new();
    for (name, text) in pairs {
        let key = format!("{table}.{name}");
        if let Err(message) = header_name(&name) {
            b.error(&key, message);
            continue;
        }
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            b.error(&key, "gleaner sets this header itself");
        }
        if out.iter().any(|(n, _)| n.eq_ignore_ascii_case(&name)) {
            b.error(&key, "the header stands twice: letter case does not tell headers apart");
        }
        let value = match b.secret(&key, &text, str::to_owned) {
            Some(_) if text.contains("{{") => {
                b.error(&key, "holds both `${env:…}` and `{{column}}`: a header is either a secret or a template");
                continue;
            }
            Some(secret) => {
                if let Err(message) = header_value(&secret) {
                    b.error(&key, message);
                }
                HeaderValue::Secret(Secret::new(secret))
            }
            None => {
                if let Err(message) = header_value(&text) {
                    b.error(&key, message);
                }
                let Some(template) = b.template(&key, &text) else { continue };
                HeaderValue::Text(template)
            }
        };
        out.push((name, value));
    }
    out
}

pub(super) fn header_name(name: &str) -> Result<(), &'static str> {
    http::HeaderName::from_bytes(name.as_bytes()).map(|_| ()).map_err(|_| "is no header name: letters, digits and `-`")
}

/// Never repeats the value: it may be a secret.
pub(super) fn header_value(value: &str) -> Result<(), &'static str> {
    if value.contains(['\r', '\n', '\0']) {
        Err("holds a line break or a NUL, which no header may")
    } else if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        Err("holds a control character, which no header may")
    } else {
        Ok(())
    }
}

fn body(
    b: &mut Builder<'_>,
    body: Set<String>,
    json: Set<crate::config::leaf::Any>,
    form: Set<crate::config::leaf::Pairs>,
) -> Option<BodyPlan> {
    let said: Vec<&str> =
        ["request.body", "request.json", "request.form"].into_iter().filter(|key| b.context.tree.get(key).is_some()).collect();
    if let [_, second, ..] = said.as_slice() {
        b.error(second, format!("a request has one body: {} is set too", said[0]));
    }
    let body = b.take("request.body", body).and_then(|text| b.template("request.body", &text)).map(BodyPlan::Text);
    let json = b.take("request.json", json).and_then(|any| b.template("request.json", &any.0.to_string())).map(BodyPlan::Json);
    let form = b.take("request.form", form).map(|pairs| BodyPlan::Form(templates(b, "request.form", pairs.0)));
    body.or(json).or(form)
}

pub(super) fn proxy(b: &mut Builder<'_>, key: &str, raw: Set<OrOff<Texts>>) -> ProxyPlan {
    let Texts(list) = match b.take(key, raw) {
        None => return ProxyPlan::Environment,
        Some(OrOff::Off) => return ProxyPlan::Off,
        Some(OrOff::On(list)) => list,
    };
    if list.is_empty() {
        b.error(key, "is an empty list: write \"off\" for no proxy");
    }
    let proxies: Vec<String> = list.iter().map(|text| one_proxy(b, key, text)).collect();
    ProxyPlan::List(proxies)
}

/// With its scheme; a secret within a longer text is percent-encoded, since it stands in the userinfo. Messages never
/// repeat the address.
fn one_proxy(b: &mut Builder<'_>, key: &str, text: &str) -> String {
    let whole = text.starts_with("${env:") && text.ends_with('}') && text.matches("${").count() == 1;
    let encode = |value: &str| if whole { value.to_owned() } else { userinfo(value) };
    let resolved = b.secret(key, text, encode).unwrap_or_else(|| text.to_owned());
    if resolved.is_empty() {
        if !whole {
            b.error(key, "is empty: write \"off\" for no proxy");
        }
        return resolved;
    }
    let resolved = if resolved.contains("://") { resolved } else { format!("http://{resolved}") };
    match url::Url::parse(&resolved) {
        Err(e) => b.error(key, format!("the proxy's address cannot be read: {e}")),
        Ok(url) if !["http", "https", "socks5", "socks5h"].contains(&url.scheme()) => {
            b.error(key, format!("the scheme {:?} is none of http, https, socks5, socks5h", url.scheme()));
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => b.error(key, "the proxy's address has no host"),
        Ok(url) if !matches!(url.path(), "" | "/") || url.query().is_some() => {
            b.error(key, "a proxy's address ends after its port");
        }
        Ok(_) => {}
    }
    resolved
}

fn userinfo(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
