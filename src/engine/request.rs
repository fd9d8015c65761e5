//! From an entry to the request on the wire.

use crate::engine::work::Work;
use crate::fetch;
use crate::model::plan::{AuthKind, BodyPlan, HeaderValue as PlanHeader, Plan, UserAgent};
use crate::model::{Columns, FetchKey, Special, Specials, canonical};
use crate::retry::Follow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use std::sync::Arc;
use url::Url;

/// What a desktop browser sends besides its name; plain headers only, no imitation of its TLS or HTTP/2.
const BROWSER: &[(&str, &str)] = &[
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.9"),
    ("upgrade-insecure-requests", "1"),
];

/// Where a chain of redirects stands.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    /// The address of this request.
    pub url: Url,
    /// Its method, changed to GET by a 301, 302 or 303.
    pub method: http::Method,
    /// Whether the body goes along.
    pub body: bool,
    /// Whether the chain never left the origin it began at: credentials go along only then, and never come back.
    pub same_origin: bool,
    /// Method and address of every request so far.
    pub seen: Vec<(http::Method, Url)>,
}

impl Hop {
    /// The method of the next hop.
    pub(crate) fn method_after(&self, follow: Follow) -> http::Method {
        if follow == Follow::Get && self.method != http::Method::HEAD { http::Method::GET } else { self.method.clone() }
    }
}

/// What a page of a paged entry adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageParts {
    /// Headers that carry a token.
    pub headers: Vec<(String, String)>,
    /// A token inside a JSON body: path and value.
    pub body: Option<(Vec<String>, serde_json::Value)>,
}

/// A body and its `Content-Type`.
type Body = (Vec<u8>, Option<&'static str>);

/// Makes requests of one job.
pub(crate) struct Builder {
    plan: Arc<Plan>,
    method: http::Method,
    open: HeaderMap,
    repeatable: bool,
    specials: Specials,
}

impl Builder {
    pub(crate) fn new(plan: Arc<Plan>) -> Result<Self, String> {
        let method = http::Method::from_bytes(plan.request.method.as_bytes())
            .map_err(|_| format!("request.method: {:?} is no method", plan.request.method))?;
        let open = client_headers(&plan.request.user_agent).map_err(|e| format!("request.user_agent {e}"))?;
        for (i, host) in plan.hosts.iter().enumerate() {
            host.user_agent.as_ref().map(client_headers).transpose().map_err(|e| format!("host[{i}].user_agent {e}"))?;
        }
        let repeatable = plan.request.idempotent || plan.retry.methods.iter().any(|m| m.eq_ignore_ascii_case(method.as_str()));
        let specials = Specials::of_plan(&plan);
        Ok(Self { plan, method, open, repeatable, specials })
    }

    /// How hosts are treated.
    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }

    fn special_of(&self, url: &Url) -> Arc<Special> {
        self.specials.of(url.host_str().unwrap_or_default())
    }

    /// Method of the first request of an entry.
    pub(crate) fn method(&self) -> &http::Method {
        &self.method
    }

    /// Whether an entry's request may be sent again after it was sent.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// The address that is sent for a listed one: its WHATWG form with `[request] query` behind it.
    pub(crate) fn target(&self, listed: &Url, columns: &Columns) -> Result<Url, String> {
        let mut url = listed.clone();
        url.set_fragment(None);
        if !self.plan.request.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.plan.request.query {
                pairs.append_pair(name, &value.render_text(columns).map_err(|e| e.to_string())?);
            }
        }
        Ok(url)
    }

    /// The identity of an entry's request.
    pub(crate) fn key(&self, target: &Url, columns: &Columns) -> Result<FetchKey, String> {
        let mut extra = self.body(columns)?.map(|(b, _)| b).unwrap_or_default();
        let special = self.special_of(target);
        let kept = self.plan.request.headers.iter().filter(|(name, _)| !has(&special.headers, name));
        for (name, value) in kept.chain(&special.headers) {
            if let PlanHeader::Text(t) = value
                && !t.names().is_empty()
            {
                extra.extend(name.as_bytes());
                extra.push(b':');
                extra.extend(t.render_text(columns).map_err(|e| e.to_string())?.as_bytes());
                extra.push(b'\n');
            }
        }
        Ok(FetchKey::new(self.method.as_str(), &canonical(target), &extra))
    }

    /// Whether the next request of an entry carries a secret of `[auth]`. `named`: the operator's list names its host.
    pub(crate) fn signs(&self, work: &Work, named: bool) -> bool {
        self.plan.auth.is_some()
            && match &work.hop {
                Some(hop) => hop.same_origin && self.trusted(&hop.url, named),
                None => work.next.origin() == work.target.origin() && self.trusted(&work.next, named),
            }
            && !self.replaced(&self.special_of(work.at()))
    }

    /// Whether the first request of an entry at this origin carries a secret of `[auth]`.
    pub(crate) fn signs_at(&self, origin: &Url) -> bool {
        self.plan.auth.is_some() && self.trusted(origin, true) && !self.replaced(&self.special_of(origin))
    }

    /// The first hop of an entry or of one of its pages. `same_origin`: the page is of the entry's own origin.
    pub(crate) fn first(&self, url: Url, same_origin: bool) -> Hop {
        Hop { url, method: self.method.clone(), body: true, same_origin, seen: Vec::new() }
    }

    /// The request of a hop. Everything that the operator set, but for what every client sends, is bound to the origin
    /// where the chain began, and secrets to the origins that the operator named besides; headers of `[[host]]` to the hosts that
    /// it matches, whatever the chain. `named`: the operator's list names this one.
    pub(crate) fn request(
        &self,
        hop: &Hop,
        columns: &Columns,
        page: &PageParts,
        token: usize,
        identity: bool,
        named: bool,
    ) -> Result<fetch::Request, String> {
        // By the address itself: nothing of one host's goes to another, wherever the entry came from.
        let special = self.special_of(&hop.url);
        let mut headers = self.own_headers(&special)?;
        let mut body = None;
        let trusted = hop.same_origin && self.trusted(&hop.url, named);
        for (name, value) in &self.plan.request.headers {
            let name = header_name(name)?;
            let common = name == ACCEPT || name == ACCEPT_LANGUAGE || name == USER_AGENT || name.as_str().starts_with("accept");
            let bound = match value {
                PlanHeader::Text(_) => hop.same_origin || common,
                PlanHeader::Secret(_) => trusted,
            };
            if bound && !(name == USER_AGENT && special.user_agent.is_some()) {
                let value = header_value(&name, value, columns)?;
                headers.insert(name, value);
            }
        }
        if hop.body
            && let Some((bytes, kind)) = self.body(columns)?
        {
            let bytes = match &page.body {
                Some((path, value)) => set_in_body(&bytes, path, value)?,
                None => bytes,
            };
            if let Some(kind) = kind
                && !headers.contains_key(CONTENT_TYPE)
            {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            body = Some(bytes);
        }
        if hop.same_origin {
            sign_by_userinfo(&hop.url, &mut headers);
        }
        if trusted {
            self.sign(token, &mut headers)?;
        }
        for (name, value) in &special.headers {
            let name = header_name(name)?;
            let value = header_value(&name, value, columns)?;
            headers.insert(name, value);
        }
        for (name, value) in page.headers.iter().filter(|_| hop.same_origin) {
            if let (Ok(n), Some(v)) = (HeaderName::from_bytes(name.as_bytes()), sensitive(value)) {
                headers.insert(n, v);
            }
        }
        Ok(fetch::Request {
            method: hop.method.clone(),
            url: hop.url.clone(),
            headers,
            body,
            named,
            fresh: !self.repeatable && hop.method == self.method,
            identity,
            want: fetch::Want::Accepted,
            way: way_out(&special),
            timeouts: Some(special.timeouts),
            stage: fetch::Stage::default(),
        })
    }

    /// The request for a robots.txt: the client's own headers and nothing of the operator's.
    pub(crate) fn robots(&self, url: Url, named: bool) -> fetch::Request {
        let special = self.special_of(&url);
        fetch::Request {
            method: http::Method::GET,
            url,
            headers: self.own_headers(&special).unwrap_or_else(|_| self.open.clone()),
            body: None,
            named,
            fresh: false,
            identity: false,
            want: fetch::Want::Robots,
            way: way_out(&special),
            timeouts: Some(special.timeouts),
            stage: fetch::Stage::default(),
        }
    }

    /// What the client says of itself to a host.
    fn own_headers(&self, special: &Special) -> Result<HeaderMap, String> {
        special.user_agent.as_ref().map_or_else(|| Ok(self.open.clone()), client_headers)
    }

    /// Whether a host's own `Authorization` stands in the place of what `[auth]` would send.
    fn replaced(&self, special: &Special) -> bool {
        let by_header = matches!(self.plan.auth.as_ref().map(|a| &a.kind), Some(AuthKind::Header(_)));
        !by_header && has(&special.headers, AUTHORIZATION.as_str())
    }

    fn body(&self, columns: &Columns) -> Result<Option<Body>, String> {
        Ok(match &self.plan.request.body {
            None => None,
            Some(BodyPlan::Text(t)) => Some((t.render_text(columns).map_err(|e| e.to_string())?.into_bytes(), None)),
            Some(BodyPlan::Json(t)) => Some((t.render_json(columns).map_err(|e| e.to_string())?.into_bytes(), Some("application/json"))),
            Some(BodyPlan::Form(fields)) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    form.append_pair(name, &value.render_text(columns).map_err(|e| e.to_string())?);
                }
                Some((form.finish().into_bytes(), Some("application/x-www-form-urlencoded")))
            }
        })
    }

    /// Whether a secret may go to an address. `listed`: the operator's list names its origin.
    fn trusted(&self, url: &Url, listed: bool) -> bool {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(0);
        self.plan.secret_hosts.iter().any(|h| {
            if h.contains("://") {
                Url::parse(h).is_ok_and(|o| o.origin() == url.origin())
            } else {
                match h.rsplit_once(':') {
                    Some((name, p)) if !h.ends_with(']') && p.bytes().all(|b| b.is_ascii_digit()) => {
                        name.eq_ignore_ascii_case(host) && p.parse() == Ok(port)
                    }
                    _ => h.eq_ignore_ascii_case(host) && (listed || (url.scheme() == "https" && port == 443)),
                }
            }
        })
    }

    fn sign(&self, token: usize, headers: &mut HeaderMap) -> Result<(), String> {
        let bad = || "the secret of [auth] holds a character that no header may carry".to_owned();
        match self.plan.auth.as_ref().map(|a| &a.kind) {
            None => {}
            Some(AuthKind::Bearer(token)) => {
                headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", token.reveal())).ok_or_else(bad)?);
            }
            Some(AuthKind::Tokens(list)) => {
                if let Some(token) = list.get(token) {
                    headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", token.reveal())).ok_or_else(bad)?);
                }
            }
            Some(AuthKind::Basic { user, password }) => {
                let pair = BASE64.encode(format!("{}:{}", user.reveal(), password.reveal()));
                headers.insert(AUTHORIZATION, sensitive(&format!("Basic {pair}")).ok_or_else(bad)?);
            }
            Some(AuthKind::Header(list)) => {
                for (name, value) in list {
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("auth.header: {name:?} is no header name"))?;
                    headers.insert(name, sensitive(value.reveal()).ok_or_else(bad)?);
                }
            }
        }
        Ok(())
    }
}

/// The way out of a host.
pub(crate) fn way_out(special: &Special) -> fetch::WayOut {
    special.proxy.map_or(0, |table| table + 1)
}

/// What a client sends of itself.
fn client_headers(user_agent: &UserAgent) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    match user_agent {
        UserAgent::Text(text) => {
            let value = HeaderValue::from_str(text).map_err(|_| "holds a character that no header may carry".to_owned())?;
            headers.insert(USER_AGENT, value);
        }
        UserAgent::Browser => {
            for (k, v) in BROWSER {
                headers.insert(HeaderName::from_static(k), HeaderValue::from_static(v));
            }
        }
    }
    Ok(headers)
}

fn has(headers: &[(String, PlanHeader)], name: &str) -> bool {
    headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))
}

fn header_value(name: &HeaderName, value: &PlanHeader, columns: &Columns) -> Result<HeaderValue, String> {
    match value {
        PlanHeader::Text(t) => HeaderValue::from_str(&t.render_text(columns).map_err(|e| e.to_string())?)
            .map_err(|_| format!("the value of header {name} holds a character that no header may carry")),
        PlanHeader::Secret(s) => {
            sensitive(s.reveal()).ok_or_else(|| format!("the secret of header {name} holds a character that no header may carry"))
        }
    }
}

/// `http://user:password@host/` as every client reads it; a header of the job's own wins.
fn sign_by_userinfo(url: &Url, headers: &mut HeaderMap) {
    if url.username().is_empty() || headers.contains_key(AUTHORIZATION) {
        return;
    }
    let decoded = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
    if let Some(value) = sensitive(&format!("Basic {}", BASE64.encode(pair))) {
        headers.insert(AUTHORIZATION, value);
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn set_in_body(bytes: &[u8], path: &[String], value: &serde_json::Value) -> Result<Vec<u8>, String> {
    let mut root: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| format!("the request's body is no JSON that a page token could be set in: {e}"))?;
    let mut at = &mut root;
    for name in path {
        let Some(object) = at.as_object_mut() else {
            return Err(format!("the request's body has no object for the page token at {}", path.join(".")));
        };
        at = object.entry(name.clone()).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
    }
    *at = value.clone();
    serde_json::to_vec(&root).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_lands_in_the_body() {
        let out = set_in_body(br#"{"a":{"b":1},"id":123456789012345678901234567890}"#, &["a".into(), "c".into()], &"x".into()).unwrap();
        assert_eq!(out, br#"{"a":{"b":1,"c":"x"},"id":123456789012345678901234567890}"#);
        assert!(set_in_body(b"no", &["a".into()], &"x".into()).is_err());
    }
}
