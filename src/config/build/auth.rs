//! `[auth]`: credentials and the hosts that may see them.

use super::request::{header_name, header_value};
use super::{Builder, take};
use crate::config::leaf::Texts;
use crate::config::raw;
use crate::config::tree::Value;
use crate::model::plan::{AuthKind, AuthPlan};
use crate::model::{Secret, normalise};
use url::Url;

const KINDS: [&str; 4] = ["auth.bearer", "auth.basic", "auth.header", "auth.tokens"];

pub(super) fn auth(b: &mut Builder<'_>, raw: raw::Auth) -> Option<AuthPlan> {
    if !b.context.tree.is_set("auth") {
        return None;
    }
    let said: Vec<&str> = KINDS.into_iter().filter(|key| b.context.tree.get(key).is_some()).collect();
    match said.as_slice() {
        [] => b.lacks("auth", "says nothing: set bearer, basic, header or tokens"),
        [first, second, ..] => b.error(second, format!("{first} is set too: set exactly one of bearer, basic, header and tokens")),
        _ => {}
    }
    let bearer = take!(b, "auth", raw.bearer).map(|text| AuthKind::Bearer(value(b, "auth.bearer", &text)));
    let basic = b.context.tree.get("auth.basic").is_some().then(|| basic(b, raw.basic));
    let header = take!(b, "auth", raw.header).map(|pairs| {
        if pairs.0.is_empty() {
            b.error("auth.header", "is empty");
        }
        AuthKind::Header(pairs.0.iter().map(|(name, text)| header(b, name, text)).collect())
    });
    let tokens = take!(b, "auth", raw.tokens).map(|Texts(texts)| tokens(b, &texts));
    let hosts = match take!(b, "auth", raw.hosts) {
        Some(hosts) => listed(b, &hosts.0),
        None => own(b),
    };
    Some(AuthPlan { hosts, kind: bearer.or(basic.flatten()).or(header).or(tokens)? })
}

/// A value of `[auth]`, resolved; fit for a header.
fn value(b: &mut Builder<'_>, key: &str, text: &str) -> Secret {
    let errors = b.errors.len();
    let resolved = b.secret(key, text, str::to_owned).unwrap_or_else(|| text.to_owned());
    if b.errors.len() == errors {
        if resolved.is_empty() {
            b.error(key, "is empty");
        } else if let Err(message) = header_value(&resolved) {
            b.error(key, message);
        }
    }
    Secret::new(resolved)
}

fn basic(b: &mut Builder<'_>, raw: raw::Basic) -> Option<AuthKind> {
    let (user, password) = (b.take("auth.basic.user", raw.user), b.take("auth.basic.password", raw.password));
    for key in ["auth.basic.user", "auth.basic.password"] {
        if b.context.tree.get(key).is_none() {
            b.lacks("auth.basic", "wants both: { user = \"…\", password = \"${env:…}\" }");
            return None;
        }
    }
    let user = value(b, "auth.basic.user", &user?);
    if user.reveal().contains(':') {
        b.error("auth.basic.user", "holds a colon, which no user of basic authentication may");
    }
    let text = password?;
    let password = if text.is_empty() { Secret::new("") } else { value(b, "auth.basic.password", &text) };
    Some(AuthKind::Basic { user, password })
}

fn header(b: &mut Builder<'_>, name: &str, text: &str) -> (String, Secret) {
    let key = format!("auth.header.{name}");
    if let Err(message) = header_name(name) {
        b.error(&key, message);
    }
    (name.to_owned(), value(b, &key, text))
}

/// Two that are one and the same would spend one quota twice.
fn tokens(b: &mut Builder<'_>, texts: &[String]) -> AuthKind {
    if texts.len() < 2 {
        b.error("auth.tokens", "wants two tokens or more: a single one is bearer = \"${env:…}\"");
    }
    let tokens: Vec<Secret> = texts.iter().enumerate().map(|(i, text)| value(b, &format!("auth.tokens[{i}]"), text)).collect();
    for (i, token) in tokens.iter().enumerate().filter(|(_, token)| !token.reveal().is_empty()) {
        if let Some(first) = tokens[..i].iter().position(|other| other == token) {
            b.error(&format!("auth.tokens[{i}]"), format!("is the same token as auth.tokens[{first}]: each has limits of its own"));
        }
    }
    AuthKind::Tokens(tokens)
}

/// `hosts = […]`: names, `host:port` or origins, in lower case as WHATWG writes them.
fn listed(b: &mut Builder<'_>, hosts: &[String]) -> Vec<String> {
    if hosts.is_empty() {
        b.error("auth.hosts", "is an empty list: name who may see the credentials");
    }
    let mut out = Vec::new();
    for text in hosts {
        let origin = text.contains("://");
        let full = if origin { text.clone() } else { format!("https://{text}") };
        let url = Url::parse(&full).ok().filter(|url| {
            let bare = url.username().is_empty()
                && url.password().is_none()
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none();
            bare && matches!(url.scheme(), "http" | "https") && !text.contains(['*', '{', '/']) | origin && !text.contains(['*', '{'])
        });
        match url.as_ref().and_then(Url::host_str) {
            Some(_) if origin => out.extend(url.map(|u| u.origin().ascii_serialization())),
            Some(host) => out.push(match text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
                Some((_, port)) if !text.ends_with(']') => format!("{host}:{port}"),
                _ => host.to_owned(),
            }),
            None => b.error(
                "auth.hosts",
                format!(
                    "{:?} is no host: write \"api.example.com\", \"api.example.com:8443\" or \"https://api.example.com\"",
                    text.rsplit('@').next().unwrap_or_default()
                ),
            ),
        }
    }
    out
}

/// The one literal origin of the job's address.
fn own(b: &mut Builder<'_>) -> Vec<String> {
    let tree = b.context.tree;
    let addresses: Vec<&str> = match (tree.get("input.url"), tree.get("request.url"), tree.get("input.urls")) {
        (Some(template), _, _) => template.as_text().into_iter().collect(),
        (None, Some(url), _) => url.as_text().into_iter().collect(),
        (None, None, Some(urls)) => match &urls.value {
            Value::List(items) => items.iter().filter_map(|n| n.as_text()).collect(),
            _ => urls.as_text().into_iter().collect(),
        },
        _ => Vec::new(),
    };
    let origins: Option<Vec<Url>> = addresses.iter().map(|text| literal(text)).collect();
    let origins = origins.unwrap_or_default();
    let one_host = origins.iter().all(|url| url.host_str() == origins[0].host_str());
    let mut names: Vec<String> = origins.iter().map(|url| url.origin().ascii_serialization()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() || !one_host {
        // Whoever may see them has nothing to do with what is wrong with the credentials themselves.
        let elsewhere = |key: &str| {
            key.starts_with("auth.")
                && !KINDS.iter().any(|k| key.strip_prefix(k).is_some_and(|r| r.is_empty() || r.starts_with(['.', '['])))
        };
        if b.errors.iter().any(|e| elsewhere(&e.key)) {
            return names;
        }
        b.error("auth", "it is not clear who may see the credentials, as the job has no one literal host: set [auth] hosts = [\"…\"]");
    }
    names
}

/// The origin of an address or template whose scheme, host and port are literal.
fn literal(text: &str) -> Option<Url> {
    let text = text.trim();
    let after = text.find("://")? + 3;
    let end = text[after..].find(['/', '?', '#', '\\']).map_or(text.len(), |i| after + i);
    if text[..end].contains("{{") { None } else { normalise(&text[..end]).ok() }
}
