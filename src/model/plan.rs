//! The validated job: every unit typed, every default filled in, nothing left to interpret.
//!
//! Plain data, in the lowest layer so that each decider and doer takes its own section as it is; `config` makes it.

use crate::model::{Rate, Secret, Template, mask_url};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One job, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[job] name`, default the file's stem.
    pub name: String,
    /// The job file, where there is one.
    pub job_file: Option<PathBuf>,
    /// Folder of state.
    pub state: StatePlace,
    /// `[input]`.
    pub input: InputPlan,
    /// `[request]`.
    pub request: RequestPlan,
    /// `[auth]`.
    pub auth: Option<AuthPlan>,
    /// Who may see the credentials of `[auth]` and the secrets of headers; not empty where there are any. Origins as WHATWG writes
    /// them, `host:port` of either scheme, or a host name alone: its https origin and the origins of it that the list names.
    pub secret_hosts: Vec<String>,
    /// `[limits]` and `[[limit]]`.
    pub limits: LimitsPlan,
    /// `[[host]]`, in order.
    pub hosts: Vec<HostPlan>,
    /// `[[response]]`, in order.
    pub responses: Vec<ResponsePlan>,
    /// `[retry]`.
    pub retry: RetryPlan,
    /// `[crawl]`; links are followed where it is set.
    pub crawl: Option<CrawlPlan>,
    /// `[pages]`.
    pub pages: Option<PagesPlan>,
    /// `[extract]`.
    pub extract: ExtractPlan,
    /// `[output]`.
    pub output: OutputPlan,
    /// `[network]` and its flags.
    pub network: NetworkPlan,
    /// `[stop]`.
    pub stop: StopPlan,
    /// What a job may not change between its runs: key to its text (contract, *Crawl*: input, the request's method, url,
    /// query and body, extract, paths and columns of output). Compared with the state's at open.
    pub frozen: BTreeMap<String, String>,
}

/// Where the state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePlace {
    /// A folder with `LOCK` and `state.db`.
    Folder(PathBuf),
    /// Thrown away at the end: a temporary folder (`fetch` with results on stdout).
    Throwaway,
}

/// `[input]`.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// Exactly one source.
    pub source: InputSource,
    /// Template of the address over a record's columns.
    pub url: Template,
    /// Whether `url` was set by the job; else it is the column `url`.
    pub url_set: bool,
    /// What a record that cannot be read does.
    pub on_bad: OnBad,
    /// Whether a repeated fetch key is fetched again.
    pub fetch_duplicates: bool,
    /// Whether the request itself names `{{url}}`: of a list without columns that is the address as listed, which is kept for it.
    pub keeps_listed: bool,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// A file, absolute or relative to the working folder.
    File(PathBuf),
    /// `-`: one address a line.
    Stdin,
    /// Addresses in the job or on the command line.
    Urls(Vec<String>),
    /// The single `[request] url`; one record without columns.
    Request,
}

/// `[input] on_bad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    /// A skipped record `bad-input`.
    Skip,
    /// The run ends with 65.
    Stop,
}

/// `[request]`.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    /// Upper case.
    pub method: String,
    /// Query parameters added to the address, in order.
    pub query: Vec<(String, Template)>,
    /// Headers, in order; names valid, values without CR, LF, NUL.
    pub headers: Vec<(String, HeaderValue)>,
    /// Body.
    pub body: Option<BodyPlan>,
    /// `User-Agent`.
    pub user_agent: UserAgent,
    /// Ways out.
    pub proxy: ProxyPlan,
    /// `timeout.connect`.
    pub connect_timeout: Duration,
    /// `timeout.first_byte`, from the start of the attempt, connect included.
    pub first_byte_timeout: Duration,
    /// `timeout.idle`: longest silence within a body.
    pub idle_timeout: Duration,
    /// `timeout.total` of one attempt.
    pub total_timeout: Duration,
    /// Decoded bytes.
    pub max_body: u64,
    /// Statuses that are results: inclusive ranges.
    pub accept: Vec<(u16, u16)>,
    /// Those that a rule of `[[response]]` may accept besides, so that their bodies are wanted whole.
    pub may_accept: Vec<(u16, u16)>,
    /// Hops.
    pub redirects: u32,
    /// Whether robots.txt is obeyed.
    pub robots: bool,
    /// PEM file of extra roots (`tls.ca_file`, `--ca-file`).
    pub ca_file: Option<PathBuf>,
    /// `idempotent = true`, or the method is safe to repeat by `[retry] methods`.
    pub idempotent: bool,
}

impl RequestPlan {
    /// Whether a status is a result.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        self.accept.iter().any(|(a, b)| (*a..=*b).contains(&status))
    }

    /// `timeout`.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts { connect: self.connect_timeout, first_byte: self.first_byte_timeout, idle: self.idle_timeout, total: self.total_timeout }
    }

    /// Whether a status is a result, or a rule of the job may make it one: its body is then read whole or not at all.
    #[must_use]
    pub fn may_accept(&self, status: u16) -> bool {
        self.accepts(status) || self.may_accept.iter().any(|(a, b)| (*a..=*b).contains(&status))
    }
}

/// The time-outs of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the attempt's start to its headers, connect included.
    pub first_byte: Duration,
    /// Longest silence within a body.
    pub idle: Duration,
    /// The whole attempt.
    pub total: Duration,
}

/// A header's value: a template over columns, or a secret.
#[derive(Clone, Debug)]
pub enum HeaderValue {
    /// Text with `{{column}}` places.
    Text(Template),
    /// Holds `${env:…}`: resolved, never shown.
    Secret(Secret),
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum BodyPlan {
    /// `body = "…"`.
    Text(Template),
    /// `json = {…}`: a JSON text with places inside its strings; sets `Content-Type: application/json`.
    Json(Template),
    /// `form = {…}`.
    Form(Vec<(String, Template)>),
}

/// `[request] user_agent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserAgent {
    /// `gleaner/<version>` with the project's address, or any text.
    Text(String),
    /// `"browser"`: the plain headers a desktop browser sends.
    Browser,
}

/// Ways out. Its `Debug` leaves out userinfo.
#[derive(Clone, PartialEq, Eq)]
pub enum ProxyPlan {
    /// `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.
    Environment,
    /// None at all.
    Off,
    /// These, in turn (userinfo inside is secret).
    List(Vec<String>),
}

impl std::fmt::Debug for ProxyPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Off => f.write_str("Off"),
            Self::List(list) => f.debug_tuple("List").field(&list.iter().map(|p| mask_url(p)).collect::<Vec<_>>()).finish(),
        }
    }
}

/// `[auth]`, bound to [`Plan::secret_hosts`].
#[derive(Clone, Debug)]
pub struct AuthPlan {
    /// What is sent.
    pub kind: AuthKind,
}

/// Kinds of `[auth]`.
#[derive(Clone, Debug)]
pub enum AuthKind {
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// May be plain text.
        user: Secret,
        /// The password.
        password: Secret,
    },
    /// Own headers.
    Header(Vec<(String, Secret)>),
    /// Bearer tokens, each with its own limits; the one with most quota left goes next. At least two.
    Tokens(Vec<Secret>),
}

/// `[limits]`.
#[derive(Clone, Debug)]
pub struct LimitsPlan {
    /// All hold at once, in any window; empty: none.
    pub rates: Vec<Rate>,
    /// What a limit and a hold belong to.
    pub key: LimitKeyKind,
    /// At once, for all windows; default L/100 of each, 1 to 20.
    pub burst: Option<u32>,
    /// Attempts in flight.
    pub workers: usize,
    /// Attempts in flight to one host key.
    pub per_host: usize,
    /// Between starts to one host key.
    pub delay: Duration,
    /// Longest hold that is waited for.
    pub max_wait: Duration,
    /// Whether `delay` is spread, by half to one and a half of it.
    pub jitter: bool,
    /// Whether the rate goes down where the server refuses, and comes back.
    pub adapt: bool,
    /// Share of each quota that is left for others, 0.0 to below 1.0.
    pub reserve: f64,
    /// Name of the budget that `rates` are, shared by every gleaner of this user on this machine.
    pub budget: Option<String>,
    /// An answer that comes later than this still counts as arrived then.
    pub arrival: Option<Duration>,
    /// When requests may be sent; `None`: always.
    pub hours: Option<Hours>,
    /// `[[limit]]`, in order.
    pub more: Vec<LimitPlan>,
}

impl Default for LimitsPlan {
    /// As `config/default.toml` has them, for a list.
    fn default() -> Self {
        Self {
            rates: Vec::new(),
            key: LimitKeyKind::Host,
            burst: None,
            workers: 64,
            per_host: 8,
            delay: Duration::ZERO,
            max_wait: Duration::from_hours(24),
            jitter: false,
            adapt: true,
            reserve: 0.0,
            budget: None,
            arrival: None,
            hours: None,
            more: Vec::new(),
        }
    }
}

/// `key` of `[limits]` and of `[[limit]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKeyKind {
    /// One limit for each host name; hosts of one `[[host]] group` are one.
    Host,
    /// One limit for each registrable domain.
    Domain,
    /// One limit for each token of `[auth]`, whatever the host.
    Credential,
    /// One limit for the whole job.
    Job,
}

/// `[[limit]]`: a limit besides `[limits]` for the requests that it matches. Tables of one name are one limit: the first of
/// them that matches says how much the request weighs, and the first of all has its rates, key, burst and concurrency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPlan {
    /// What it is called where it is shown; also what a server's rate headers call it (`x-ratelimit-resource`).
    pub name: String,
    /// Methods, upper case; empty: every one.
    pub methods: Vec<String>,
    /// Glob over the host name; `None`: every one.
    pub host: Option<String>,
    /// Glob over the path, `*` within a segment, `**` across; `None`: every one.
    pub path: Option<String>,
    /// All hold at once; may be empty where `concurrency` is set.
    pub rates: Vec<Rate>,
    /// What it belongs to.
    pub key: LimitKeyKind,
    /// As in `[limits]`.
    pub burst: Option<u32>,
    /// What one request takes of the quota, at least 1.
    pub weight: u32,
    /// Requests of one key between their start and the end of their body at most.
    pub concurrency: Option<u32>,
}

/// `[limits] hours`, like `22:00-06:00 Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minutes from midnight, inclusive.
    pub from: u16,
    /// Minutes from midnight, exclusive; at or before `from`: of the next day.
    pub until: u16,
    /// IANA name; `None`: this machine's own.
    pub zone: Option<String>,
}

/// `[[host]]`: what differs for some hosts. Of several that match the most specific counts for each key.
#[derive(Clone, Debug, Default)]
pub struct HostPlan {
    /// A host name, or a glob like `*.example.org`.
    pub pattern: String,
    /// As `[limits] rate`; `Some(empty)`: none.
    pub rates: Option<Vec<Rate>>,
    /// As `[limits] burst`.
    pub burst: Option<u32>,
    /// As `[limits] per_host`.
    pub per_host: Option<usize>,
    /// As `[limits] delay`.
    pub delay: Option<Duration>,
    /// Hosts of one group are one host to limits, holds, `per_host` and `delay`.
    pub group: Option<String>,
    /// Set besides those of `[request]`, or in their place.
    pub headers: Vec<(String, HeaderValue)>,
    /// As `[request] user_agent`.
    pub user_agent: Option<UserAgent>,
    /// As `[request] proxy`.
    pub proxy: Option<ProxyPlan>,
    /// As `[request] robots` and `[crawl] robots`.
    pub robots: Option<bool>,
    /// As `[retry] attempts`.
    pub attempts: Option<u32>,
    /// As `[retry] backoff`.
    pub backoff: Option<Duration>,
    /// As `[retry] max_backoff`.
    pub max_backoff: Option<Duration>,
    /// As `[request] timeout`: connect, first byte, idle, total.
    pub timeouts: [Option<Duration>; 4],
}

/// `[[response]]`: what an answer means that the built-in table would read otherwise. The first that matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponsePlan {
    /// Inclusive ranges; empty: every status.
    pub statuses: Vec<(u16, u16)>,
    /// Header name (lower case) and a regex over its value; no regex: it is there.
    pub header: Option<(String, Option<String>)>,
    /// Regex over the decoded body.
    pub body: Option<String>,
    /// CSS selector that finds something.
    pub selector: Option<String>,
    /// jq filter that gives neither `false` nor `null`.
    pub json: Option<String>,
    /// What it means.
    pub then: Then,
    /// Its reason where it is skipped or tried again.
    pub reason: Option<String>,
}

/// `[[response]] then`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// A result, whatever the status.
    #[default]
    Accept,
    /// A failure that is worth another try.
    Retry,
    /// A refusal: holds the key, costs no attempt.
    Limited,
    /// Skipped at once.
    Skip,
    /// The run ends, this entry stays pending.
    Stop,
    /// The entry has no more pages; this one is not delivered.
    EndOfPages,
    /// The entry's pages are asked for from the first again.
    RestartPages,
}

impl Then {
    /// The word of the job file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Retry => "retry",
            Self::Limited => "limited",
            Self::Skip => "skip",
            Self::Stop => "stop",
            Self::EndOfPages => "end-of-pages",
            Self::RestartPages => "restart-pages",
        }
    }
}

/// `[retry]`.
#[derive(Clone, Debug)]
pub struct RetryPlan {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// First backoff's ceiling.
    pub backoff: Duration,
    /// Largest backoff.
    pub max_backoff: Duration,
    /// Statuses tried again; 429 holds whatever stands here.
    pub statuses: Vec<u16>,
    /// Methods that may be sent again after they were sent.
    pub methods: Vec<String>,
    /// Share of a host's requests that may be retries; `None` is off.
    pub budget: Option<f64>,
    /// Whether the last try is kept for the end of the run.
    pub final_sweep: bool,
    /// Without a success for this long, the rest of a host is given up.
    pub host_give_up: Duration,
}

/// `[crawl]`.
#[derive(Clone, Debug)]
pub struct CrawlPlan {
    /// `selector[attribute]` of links; empty: a, area, frame, iframe and meta refresh.
    pub follow: Vec<String>,
    /// Links from a seed; `None`: no end.
    pub depth: Option<u32>,
    /// How far.
    pub scope: Scope,
    /// Globs or `/regexes/` over the address; empty: everything.
    pub include: Vec<String>,
    /// Globs or `/regexes/`.
    pub exclude: Vec<String>,
    /// What of the links' file names is followed.
    pub extensions: Extensions,
    /// Entries fetched to an end over the job's life; `None`: no end.
    pub max_pages: Option<u64>,
}

/// `[crawl] scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The seed alone.
    Page,
    /// Its host name.
    Host,
    /// Its registrable domain.
    Domain,
    /// Its host and its path up to the last slash.
    Prefix,
    /// Everywhere.
    Any,
}

/// `[crawl] extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// Not those of images, archives, media, fonts, programs, office documents, styles and scripts.
    Pages,
    /// Every one.
    Any,
}

/// `[pages]`.
#[derive(Clone, Debug)]
pub struct PagesPlan {
    /// How the next page is found.
    pub next: NextPage,
    /// Where its token goes, or which query name counts.
    pub param: Option<PageParam>,
    /// Number of the first page, or first offset.
    pub first: u64,
    /// Query name of the page size and the size.
    pub size: Option<(String, u64)>,
    /// End rules.
    pub stop: Vec<StopRule>,
}

/// `[pages] next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// RFC 8288 `rel=next` of the Link header lines.
    Link,
    /// jq filter over the answer.
    Json(String),
    /// A header's value.
    Header(String),
    /// `?param=1, 2, 3…`.
    Page,
    /// `?param=0, 100, 200…`, moved by the rows received.
    Offset,
}

/// `[pages] param`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageParam {
    /// A query name.
    Query(String),
    /// `header:X`.
    Header(String),
    /// `json:.path` into the body, as object keys.
    Json(Vec<String>),
}

/// `[pages] stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopRule {
    /// A page without rows.
    Empty,
    /// jq filter that gives the number of rows in all.
    Total(String),
    /// jq filter that gives whether there is more.
    HasMore(String),
    /// Rows in all at most.
    Max(u64),
}

/// `[extract]`, as text that `extract` compiles.
#[derive(Clone, Debug, Default)]
pub struct ExtractPlan {
    /// `json:…` or `css:…`; `None`: the page is one row.
    pub rows: Option<String>,
    /// Name and source text (`css:h1`, `json:.id`, `meta:title`, `re:…`, `links:`), in order.
    pub fields: Vec<(String, String)>,
    /// Field to type.
    pub types: BTreeMap<String, FieldType>,
    /// Fields that must not be empty.
    pub required: Vec<String>,
}

/// `[extract] types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// As it stands.
    Text,
    /// Digits, sign, fraction, exponent.
    Number,
    /// A whole number.
    Integer,
    /// `true`/`false`, `yes`/`no`, `1`/`0`.
    Bool,
    /// RFC 3339, RFC 9110 date or `YYYY-MM-DD`: written as RFC 3339.
    Time,
    /// Parsed JSON.
    Json,
}

/// `[output]`.
#[derive(Clone, Debug)]
pub struct OutputPlan {
    /// Result rows.
    pub results: SinkPlan,
    /// Skipped records; `None`: summarised on stderr only (`fetch` to stdout).
    pub skipped: Option<SinkPlan>,
    /// Meta columns, in order.
    pub meta: Vec<String>,
    /// Prefix text cells from the network that a spreadsheet would run.
    pub csv_safe: bool,
    /// Longest time between members of a compressed sink.
    pub flush: Duration,
}

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkPlan {
    /// Where.
    pub place: SinkPlace,
    /// Rows' form.
    pub format: SinkFormat,
    /// Around it.
    pub codec: Codec,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkPlace {
    /// A file.
    File(PathBuf),
    /// At-least-once.
    Stdout,
}

/// The form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFormat {
    /// RFC 4180 with LF, one header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Compression around a sink or an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// None.
    Plain,
    /// RFC 1952 members.
    Gzip,
    /// RFC 8878 frames.
    Zstd,
}

/// `[network]` and the flags for tests and odd networks.
#[derive(Clone, Debug, Default)]
pub struct NetworkPlan {
    /// Which addresses may be dialled.
    pub allow: AllowNetwork,
    /// `--allow-net`: address and prefix length.
    pub allow_net: Vec<(IpAddr, u8)>,
    /// `--resolve`: host (`*`: every host), port, address.
    pub resolve: Vec<(String, u16, IpAddr)>,
    /// `--dns-server`.
    pub dns_servers: Vec<SocketAddr>,
}

/// `[network] allow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowNetwork {
    /// Private addresses only where the operator names the host.
    #[default]
    Named,
    /// No private address at all.
    Public,
    /// No check.
    Any,
}

/// `[stop]`.
#[derive(Clone, Debug, Default)]
pub struct StopPlan {
    /// Run time.
    pub time: Option<Duration>,
    /// Requests of this run.
    pub requests: Option<u64>,
    /// Body bytes of this run.
    pub bytes: Option<u64>,
    /// Results of the job's life.
    pub results: Option<u64>,
    /// Share of the last 200 finished entries.
    pub errors: Option<f64>,
}
