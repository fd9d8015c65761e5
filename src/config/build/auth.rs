//! `[auth]`: credentials and the hosts that may see them and the secrets of headers.

use super::request::{header_name, header_value};
use super::{Builder, take};
use crate::config::leaf::Texts;
use crate::config::raw;
use crate::config::tree::Value;
use crate::model::plan::{AuthKind, AuthPlan, HeaderValue};
use crate::model::{Secret, normalise};
use url::Url;

const KINDS: [&str; 4] = ["auth.bearer", "auth.basic", "auth.header", "auth.tokens"];

/// The credentials, and who may see them and the secrets of `headers`.
pub(super) fn auth(b: &mut Builder<'_>, raw: raw::Auth, headers: &[(String, HeaderValue)]) -> (Option<AuthPlan>, Vec<String>) {
    let secret = headers.iter().find(|(_, value)| matches!(value, HeaderValue::Secret(_))).map(|(name, _)| name);
    let is_set = b.context.tree.is_set("auth");
    if !is_set && secret.is_none() {
        return (None, Vec::new());
    }
    let said: Vec<&str> = KINDS.into_iter().filter(|key| b.context.tree.get(key).is_some()).collect();
    match said.as_slice() {
        [] if is_set && secret.is_none() => b.lacks("auth", "says nothing: set bearer, basic, header or tokens"),
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
    let hosts = match (take!(b, "auth", raw.hosts), secret) {
        (Some(hosts), _) => listed(b, &hosts.0),
        (None, Some(header)) if said.is_empty() => literal_origins(b, header),
        _ => own(b),
    };
    (bearer.or(basic.flatten()).or(header).or(tokens).map(|kind| AuthPlan { kind }), hosts)
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

/// `hosts = […]`: names, `host:port` or origins, in lower case as WHATWG writes them. A name alone is its addresses in the job,
/// else its https origin; where the addresses come from a list it stays a name, for the list to say.
fn listed(b: &mut Builder<'_>, hosts: &[String]) -> Vec<String> {
    let literals: Vec<Url> = addresses(b).into_iter().flatten().collect();
    let from_list = literals.is_empty() && b.context.tree.is_set("input.file");
    let bare = |host: &str| {
        let own = origins(literals.iter().filter(|url| url.host_str() == Some(host)));
        match own.is_empty() {
            true if from_list => vec![host.to_owned()],
            true => vec![format!("https://{host}")],
            false => own,
        }
    };
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
            Some(host) => match text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
                Some((_, port)) if !text.ends_with(']') => out.push(format!("{host}:{port}")),
                _ => out.extend(bare(host)),
            },
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
    let literals: Option<Vec<Url>> = addresses(b).into_iter().collect();
    let literals = literals.unwrap_or_default();
    let one_host = literals.iter().all(|url| url.host_str() == literals[0].host_str());
    if literals.is_empty() || !one_host {
        // Whoever may see them has nothing to do with what is wrong with the credentials themselves.
        let elsewhere = |key: &str| {
            key.starts_with("auth.")
                && !KINDS.iter().any(|k| key.strip_prefix(k).is_some_and(|r| r.is_empty() || r.starts_with(['.', '['])))
        };
        if b.errors.iter().any(|e| elsewhere(&e.key)) {
            return origins(literals.iter());
        }
        b.error("auth", "it is not clear who may see the credentials, as the job has no one literal host: set [auth] hosts = [\"…\"]");
    }
    origins(literals.iter())
}

/// The literal origins of the job's addresses, for the secret of a header.
fn literal_origins(b: &mut Builder<'_>, header: &str) -> Vec<String> {
    let literals: Vec<Url> = addresses(b).into_iter().flatten().collect();
    if literals.is_empty() && (b.context.tree.is_set("input.file") || b.context.tree.is_set("input.url")) {
        let message = "it is not clear who may see this secret, as the job has no literal host: set [auth] hosts = [\"…\"]";
        b.error(&format!("request.headers.{header}"), message);
    }
    origins(literals.iter())
}

/// The job's addresses, `None` for each whose origin is not literal.
fn addresses(b: &Builder<'_>) -> Vec<Option<Url>> {
    let tree = b.context.tree;
    let texts: Vec<&str> = match (tree.get("input.url"), tree.get("request.url"), tree.get("input.urls")) {
        (Some(template), _, _) => template.as_text().into_iter().collect(),
        (None, Some(url), _) => url.as_text().into_iter().collect(),
        (None, None, Some(urls)) => match &urls.value {
            Value::List(items) => items.iter().filter_map(|n| n.as_text()).collect(),
            _ => urls.as_text().into_iter().collect(),
        },
        _ => Vec::new(),
    };
    texts.into_iter().map(literal).collect()
}

/// Each once.
fn origins<'a>(of: impl Iterator<Item = &'a Url>) -> Vec<String> {
    let mut names: Vec<String> = of.map(|url| url.origin().ascii_serialization()).collect();
    names.sort();
    names.dedup();
    names
}

/// The origin of an address or template whose scheme, host and port are literal.
fn literal(text: &str) -> Option<Url> {
    let text = text.trim();
    let after = text.find("://")? + 3;
    let end = text[after..].find(['/', '?', '#', '\\']).map_or(text.len(), |i| after + i);
    if text[..end].contains("{{") { None } else { normalise(&text[..end]).ok() }
}
