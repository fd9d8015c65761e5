//! The job file as it is written: its keys, their leaves and their descriptions. The JSON Schema is made of these types,
//! and unknown keys are found against it.

use super::leaf::{
    Any, Code, Codes, Count, Duplicates, HeaderRule, MAX_COUNT, Name, OnChange, OrOff, Pairs, Rates, Robots, Set, Share, Size, Span,
    StatusRanges, Statuses, Texts, Wait,
};
use crate::model::plan::{AllowNetwork, Extensions, Hours, LimitKeyKind, OnBad, Scope, Then};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;

/// A gleaner job: what to fetch, how, how fast, and where the rows go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Job {
    /// The job itself.
    pub job: JobSection,
    /// Where the records come from: exactly one of `file` and `urls`, or none for a single `[request] url`.
    pub input: Input,
    /// What is sent.
    pub request: Request,
    /// Credentials, bound to hosts. `"off"` switches them off.
    pub auth: Auth,
    /// How fast.
    pub limits: Limits,
    /// More limits, by method, host and path; a request waits for every one that matches it. `"off"` switches them off.
    pub limit: Vec<Limit>,
    /// What differs for some hosts; of several that match the most specific counts. `"off"` switches them off.
    pub host: Vec<Host>,
    /// What is tried again.
    pub retry: Retry,
    /// What an answer means that the built-in table would read otherwise; the first that matches counts. `"off"` switches
    /// them off.
    pub response: Vec<Response>,
    /// What is read out of each page.
    pub extract: Extract,
    /// Where the rows go.
    pub output: Output,
    /// Which addresses may be dialled.
    pub network: Network,
    /// What ends a run cleanly and resumably.
    pub stop: Stop,
    /// Following links; absent: none are followed. `"off"` switches it off.
    pub crawl: Crawl,
    /// Pagination; absent: one page for each entry. `"off"` switches it off.
    pub pages: Pages,
}

/// `[job]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JobSection {
    /// Name of the job and of its files; default: the job file's stem.
    pub name: Set<String>,
    /// Folder of the job's state; default: `.gleaner/<name>` beside the job file.
    pub state: Set<String>,
}

/// `[input]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Input {
    /// A list: .txt, .csv, .tsv or .jsonl, each also .gz or .zst; `-` is stdin, one address a line.
    pub file: Set<String>,
    /// Addresses in the job itself.
    pub urls: Set<Texts>,
    /// Template of the address over a record's columns; default: the column `url`.
    pub url: Set<String>,
    /// A record that cannot be read: a skipped record, or the end of the run.
    pub on_bad: Set<OnBad>,
    /// A repeated address: skipped (counted, listed), or fetched again.
    pub duplicates: Set<Duplicates>,
    /// A list that was edited between runs.
    pub on_change: Set<OnChange>,
}

/// `[request]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Request {
    /// HTTP method.
    pub method: Set<String>,
    /// The one address of a job without input, or the start of a crawl.
    pub url: Set<String>,
    /// Query parameters added to every address; templates.
    pub query: Set<Pairs>,
    /// Headers; templates, or text with `${env:NAME}`.
    pub headers: Set<Pairs>,
    /// Body as text; a template.
    pub body: Set<String>,
    /// Body as JSON; templates inside its strings.
    pub json: Set<Any>,
    /// Body as a form; templates.
    pub form: Set<Pairs>,
    /// `User-Agent`; `browser`: the plain headers a desktop browser sends.
    pub user_agent: Set<String>,
    /// Proxies: http, https, socks5, socks5h; a list rotates, `off` uses none; default: the usual environment variables.
    pub proxy: Set<OrOff<Texts>>,
    /// Time-outs of one attempt.
    pub timeout: Timeout,
    /// Largest decoded body.
    pub max_body: Set<Size>,
    /// Statuses that are results.
    pub accept: Set<Statuses>,
    /// Redirect hops at most.
    pub redirects: Set<Count<0, 100>>,
    /// robots.txt; default: obeyed for lists and crawls, ignored for APIs.
    pub robots: Set<Robots>,
    /// TLS.
    pub tls: Tls,
    /// Whether a request that was sent may be sent again though its method alone does not say so.
    pub idempotent: Set<bool>,
}

/// `[request] timeout`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timeout {
    /// To a connection.
    pub connect: Set<Wait>,
    /// From the start of the attempt to the answer's headers.
    pub first_byte: Set<Wait>,
    /// Longest silence within a body.
    pub idle: Set<Wait>,
    /// The whole attempt.
    pub total: Set<Wait>,
}

/// `[request] tls`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tls {
    /// PEM file of roots that are trusted besides the system's.
    pub ca_file: Set<String>,
}

/// `[auth]`: exactly one of `bearer`, `basic`, `header` and `tokens`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Auth {
    /// Hosts, `host:port` or origins that may see it; default: the one literal origin of the job's address.
    pub hosts: Set<Texts>,
    /// Token of `Authorization: Bearer`.
    pub bearer: Set<String>,
    /// User and password.
    pub basic: Basic,
    /// Headers of its own.
    pub header: Set<Pairs>,
    /// Several tokens of `Authorization: Bearer`, each with limits of its own.
    pub tokens: Set<Texts>,
}

/// `[auth] basic`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Basic {
    /// User.
    pub user: Set<String>,
    /// Password.
    pub password: Set<String>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Requests in any window, like `5000/hour`; of a list all hold at once.
    pub rate: Set<OrOff<Rates>>,
    /// What a limit and a hold belong to.
    pub key: Set<LimitKeyKind>,
    /// Requests at once, below each rate's count; default: a hundredth of each, 1 to 20.
    pub burst: Set<OrOff<Count<1, 1_000_000>>>,
    /// Attempts in flight.
    pub workers: Set<Count<1, 10_000>>,
    /// Attempts in flight to one host; default 8, crawls 2.
    pub per_host: Set<Count<1, 10_000>>,
    /// Politeness delay between starts to one host; default 0s, crawls 1s.
    pub delay: Set<Span>,
    /// Whether the delay is spread, by half to one and a half of it.
    pub jitter: Set<bool>,
    /// Whether the rate goes down where the server refuses, and comes back.
    pub adapt: Set<bool>,
    /// Share of each quota that is left for others, below 100%.
    pub reserve: Set<OrOff<Share>>,
    /// Name of a budget: its rates are shared by every gleaner of this user on this machine.
    pub budget: Set<OrOff<Name>>,
    /// An answer that comes later than this still counts as arrived then.
    pub arrival: Set<OrOff<Wait>>,
    /// When requests are sent, like `22:00-06:00 Europe/Berlin`; without a zone by this machine's own.
    pub hours: Set<OrOff<Hours>>,
    /// Longest hold that is waited for; longer ones end the run with 75.
    pub max_wait: Set<Span>,
}

/// `[[limit]]`; tables of one name are one limit, and the first of them has its rates.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limit {
    /// What it is called where it is shown, and what a server's rate headers call it.
    pub name: Set<Name>,
    /// Which requests; default: every one.
    #[serde(rename = "match")]
    pub matching: LimitMatch,
    /// Requests in any window, like `30/minute`; of a list all hold at once.
    pub rate: Set<OrOff<Rates>>,
    /// What it belongs to.
    pub key: Set<LimitKeyKind>,
    /// Requests at once, below each rate's count; default: a hundredth of each, 1 to 20.
    pub burst: Set<OrOff<Count<1, 1_000_000>>>,
    /// What one request takes of the rate; default 1.
    pub weight: Set<Count<1, 4_294_967_295>>,
    /// Requests of one key between their start and the end of their body at most.
    pub concurrency: Set<OrOff<Count<1, 10_000>>>,
}

/// `[[limit]] match`; all that is said has to match.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitMatch {
    /// A method or several.
    pub method: Set<Texts>,
    /// Host name, or a glob over it.
    pub host: Set<String>,
    /// Glob over the path: `*` within a segment, `**` across.
    pub path: Set<String>,
}

/// `[[host]]`; what it leaves out is as everywhere.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Host {
    /// Host name, or a glob over it like `*.example.org`.
    #[serde(rename = "match")]
    pub matching: Set<String>,
    /// As `[limits] rate`.
    pub rate: Set<OrOff<Rates>>,
    /// As `[limits] burst`.
    pub burst: Set<Count<1, 1_000_000>>,
    /// As `[limits] per_host`.
    pub per_host: Set<Count<1, 10_000>>,
    /// As `[limits] delay`.
    pub delay: Set<Span>,
    /// Hosts of one group are one host to limits, holds, `per_host` and `delay`.
    pub group: Set<Name>,
    /// Headers besides those of `[request]`, or in their place; templates, or text with `${env:NAME}`.
    pub headers: Set<Pairs>,
    /// As `[request] user_agent`.
    pub user_agent: Set<String>,
    /// As `[request] proxy`.
    pub proxy: Set<OrOff<Texts>>,
    /// As `[request] robots` and `[crawl] robots`.
    pub robots: Set<Robots>,
    /// As `[retry]`.
    pub retry: HostRetry,
    /// As `[request] timeout`.
    pub timeout: Timeout,
}

/// `[[host]] retry`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostRetry {
    /// Tries in all.
    pub attempts: Set<Count<1, 1000>>,
    /// First backoff; it doubles, with full jitter.
    pub backoff: Set<Span>,
    /// Largest backoff.
    pub max_backoff: Set<Span>,
}

/// `[retry]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// Tries in all.
    pub attempts: Set<Count<1, 1000>>,
    /// First backoff; it doubles, with full jitter.
    pub backoff: Set<Span>,
    /// Largest backoff.
    pub max_backoff: Set<Span>,
    /// Statuses that are tried again; 429 holds whatever stands here.
    pub statuses: Set<Codes>,
    /// Methods that may be sent again after they were sent.
    pub methods: Set<Texts>,
    /// Share of a host's requests that may be retries.
    pub budget: Set<OrOff<Share>>,
    /// Whether the last try is kept for the end of the run.
    pub final_sweep: Set<bool>,
    /// Without a success for this long, the rest of a host is given up; default 5m, crawls 2h.
    pub host_give_up: Set<Wait>,
}

/// `[[response]]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Response {
    /// Which answers; all that is said has to match.
    pub when: When,
    /// What they mean.
    pub then: Set<Then>,
    /// Kebab-case reason of the skipped record, or of the attempt.
    pub reason: Set<Code>,
}

/// `[[response]] when`; at least one of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct When {
    /// Statuses, as in `[request] accept`.
    pub status: Set<StatusRanges>,
    /// A header that is there, or whose value a regex finds something in.
    pub header: Set<HeaderRule>,
    /// Regex that finds something in the decoded body.
    pub body: Set<String>,
    /// CSS selector that finds something.
    pub selector: Set<String>,
    /// jq filter that gives neither `false` nor `null`; one that errs is no match.
    pub json: Set<String>,
}

/// `[extract]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Extract {
    /// What is a row: `json:…` or `css:…`; default: the whole page.
    pub rows: Set<String>,
    /// Field name to source: `css:…`, `json:…`, `meta:…`, `re:…`, `links:`; a final `[]` takes every match.
    pub fields: Set<Pairs>,
    /// Field name to type: text, number, integer, bool, time or json.
    pub types: Set<OrOff<Pairs>>,
    /// Fields that must not be empty.
    pub required: Set<OrOff<Texts>>,
}

/// `[output]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Output {
    /// Result rows: .csv or .jsonl, each also .gz or .zst; `-` is stdout.
    pub results: Set<String>,
    /// Skipped records, in the same formats.
    pub skipped: Set<String>,
    /// Meta columns of a row.
    pub meta: Set<Texts>,
    /// Whether text from the network that a spreadsheet would run as a formula is prefixed.
    pub csv_safe: Set<bool>,
    /// How often a compressed output gets a member.
    pub flush: Set<Wait>,
}

/// `[network]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Network {
    /// Private addresses: where the job names the host, never, or everywhere.
    pub allow: Set<AllowNetwork>,
}

/// `[stop]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Stop {
    /// Time of this run.
    pub time: Set<OrOff<Wait>>,
    /// Requests of this run.
    pub requests: Set<OrOff<Count<1, MAX_COUNT>>>,
    /// Body bytes of this run.
    pub bytes: Set<OrOff<Size>>,
    /// Results of the job's life; 0 is off.
    pub results: Set<OrOff<Count<0, MAX_COUNT>>>,
    /// Share of the last 200 finished entries that were skipped.
    pub errors: Set<OrOff<Share>>,
}

/// `[crawl]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Crawl {
    /// Links that are followed, as `selector[attribute]`; default: a, area, frame, iframe and meta refresh.
    pub follow: Set<Texts>,
    /// Links from a seed at most.
    pub depth: Set<OrOff<Count<0, 4_294_967_295>>>,
    /// How far from the seeds.
    pub scope: Set<Scope>,
    /// Globs or `/regexes/` over the address; empty: everything.
    pub include: Set<Texts>,
    /// Globs or `/regexes/` over the address.
    pub exclude: Set<Texts>,
    /// Whether links to files whose names say that they are no pages (images, archives, media) are left alone.
    pub extensions: Set<Extensions>,
    /// robots.txt.
    pub robots: Set<Robots>,
    /// Pages of the job's life at most.
    pub max_pages: Set<OrOff<Count<1, MAX_COUNT>>>,
}

/// `[pages]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pages {
    /// Where the next page is: `link`, `json:…`, `header:…`, `page` or `offset`.
    pub next: Set<String>,
    /// Where the token or number goes: a query name, `header:…`, or `json:.path` in the body.
    pub param: Set<String>,
    /// Number of the first page, or first offset; default: page 1, offset 0.
    pub first: Set<Count<0, MAX_COUNT>>,
    /// Page size.
    pub size: PageSize,
    /// What ends the paging: `empty`, `total:…`, `has_more:…`, `max:N`; default: `empty` for page and offset styles.
    pub stop: Set<Texts>,
}

/// `[pages] size`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PageSize {
    /// Query name.
    pub param: Set<String>,
    /// Rows of a page.
    pub value: Set<Count<1, MAX_COUNT>>,
}

/// The JSON Schema (2020-12) of a job file, for editors; object of sections, every description from the types here.
#[must_use]
pub fn schema_value() -> serde_json::Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Job>().to_value();
    close(&mut schema);
    let sections = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut).into_iter().flatten();
    for (_, section) in sections.filter(|(name, _)| SWITCHABLE.contains(&name.as_str())) {
        let description = section.get("description").cloned();
        *section = serde_json::json!({ "anyOf": [section.take(), { "const": "off" }] });
        if let (Some(description), Some(section)) = (description, section.as_object_mut()) {
            section.insert("description".into(), description);
        }
    }
    schema
}

/// [`schema_value`] as text.
#[must_use]
pub fn schema() -> String {
    serde_json::to_string_pretty(&schema_value()).unwrap_or_default()
}

/// Sections that `"off"` switches off.
pub(super) const SWITCHABLE: &[&str] = &["auth", "crawl", "pages", "limit", "host", "response"];

/// Editors shall mark unknown keys, in the tables of lists too.
fn close(schema: &mut serde_json::Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(properties) = object.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        properties.values_mut().for_each(close);
        object.insert("additionalProperties".into(), false.into());
    }
    if let Some(items) = object.get_mut("items") {
        close(items);
    }
    object.remove("default");
}
