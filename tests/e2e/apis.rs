//! The jobs of `docs/limits.md`, "How to say what an API's page says": each as it stands there, against a server that enforces the rule
//! by arrivals, with that API's headers and refusals. Time runs faster: each rate is replaced by the one beside it in the table.

use crate::support::origin::Setup;
use crate::support::process::Run;
use crate::support::reply::Act;
use crate::support::{Gleaner, Origin, Record, Reply, Req, ms, read};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a server enforces.
#[derive(Clone, Copy)]
enum Rule {
    /// So much in any such time; what a request weighs, 0 where the rule is not about it.
    Window(u32, Duration, fn(&Req) -> u32),
    /// A bucket of so many that leaks so many a second.
    Leaky(u32, f64),
    /// So many between their arrival and their answer.
    AtOnce(u32),
}

fn every(_: &Req) -> u32 {
    1
}

/// A request that came: when, when it is answered, and its weight by rule.
struct Came {
    at: Instant,
    until: Instant,
    weights: Vec<u32>,
}

/// How a request stands to the rules.
struct Stand {
    /// The first rule that it breaks.
    refused: Option<usize>,
    /// By rule: left of it after this one, and in what time all that counts has left.
    left: Vec<u32>,
    reset: Vec<Duration>,
}

struct Server {
    rules: &'static [Rule],
    came: Mutex<Vec<Came>>,
    /// Of each leaky bucket, and when that was.
    levels: Mutex<Vec<(f64, Option<Instant>)>>,
    refusals: Mutex<Vec<Instant>>,
}

impl Server {
    /// Counts the request. What is refused counts too.
    fn judge(&self, r: &Req, delay: Duration) -> Stand {
        let mut came = self.came.lock().unwrap();
        let mut levels = self.levels.lock().unwrap();
        levels.resize(self.rules.len(), (0.0, None));
        let mut stand = Stand { refused: None, left: Vec::new(), reset: Vec::new() };
        let mut weights = Vec::new();
        for (k, rule) in self.rules.iter().enumerate() {
            let (weight, left, reset) = match *rule {
                Rule::Window(most, per, weight) => {
                    let counts = came.iter().filter(|c| c.weights[k] > 0 && r.at.saturating_duration_since(c.at) < per);
                    let used: u32 = counts.clone().map(|c| c.weights[k]).sum();
                    let first = counts.map(|c| c.at).min().unwrap_or(r.at);
                    (weight(r), i64::from(most) - i64::from(used), first + per - r.at)
                }
                Rule::Leaky(size, rate) => {
                    let (level, at) = &mut levels[k];
                    let passed = at.map_or(Duration::ZERO, |at| r.at.saturating_duration_since(at));
                    *level = rate.mul_add(-passed.as_secs_f64(), *level).max(0.0);
                    *at = Some(r.at);
                    let left = f64::from(size) - *level;
                    *level += if left >= 1.0 { 1.0 } else { 0.0 };
                    (1, left.floor() as i64, Duration::from_secs_f64(*level / rate))
                }
                Rule::AtOnce(most) => {
                    let there = came.iter().filter(|c| c.until > r.at).map(|_| 1).sum::<u32>();
                    (1, i64::from(most) - i64::from(there), ms(0))
                }
            };
            if i64::from(weight) > left && stand.refused.is_none() {
                stand.refused = Some(k);
            }
            weights.push(weight);
            stand.left.push(u32::try_from(left - i64::from(weight)).unwrap_or(0));
            stand.reset.push(reset);
        }
        came.push(Came { at: r.at, until: r.at + delay, weights });
        if stand.refused.is_some() {
            self.refusals.lock().unwrap().push(r.at);
        }
        stand
    }
}

struct Api {
    /// The heading in the docs.
    name: &'static str,
    /// Rates as the page has them, and as the test has them.
    faster: &'static [(&'static str, &'static str)],
    /// The rules, by the faster clock.
    rules: &'static [Rule],
    /// The list's name, and its content of so many entries.
    list: (&'static str, fn(usize) -> String),
    entries: usize,
    answer: fn(&Req, &Stand) -> Reply,
}

/// The toml block below a heading of the docs.
fn snippet(name: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md")).unwrap();
    let below = page.split_once(&format!("\n### {name}\n")).unwrap_or_else(|| panic!("no {name} in docs/limits.md")).1;
    let block = below.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    block.to_owned()
}

struct Ended {
    run: Run,
    rows: Vec<Record>,
    refusals: Vec<Instant>,
    events: String,
    arrivals: Vec<Arc<Req>>,
}

/// Runs the job; `edit` has the last word on its text. A `silent` server does not tell what is left.
fn run(api: &'static Api, edit: impl FnOnce(String) -> String, entries: usize, silent: bool) -> Ended {
    let server = Arc::new(Server { rules: api.rules, came: Mutex::default(), levels: Mutex::default(), refusals: Mutex::default() });
    let judge = Arc::clone(&server);
    let site = Origin::with(Setup { tls: true, ..Setup::default() }, move |r| {
        let delay = ms(5 + 17 * (r.n as u64 % 5));
        let mut reply = (api.answer)(r, &judge.judge(r, delay)).after(delay);
        if let (true, Act::Answer { headers, .. }) = (silent, &mut reply.act) {
            headers.retain(|(name, _)| !name.to_lowercase().contains("rate"));
        }
        reply
    });
    let to = site.addr();
    let proxy = Origin::start(move |r| if r.method == "CONNECT" { Reply::tunnel(to) } else { Reply::status(400) });
    let dir = tempfile::tempdir().unwrap();
    let mut job = snippet(api.name);
    for (slow, fast) in api.faster {
        let slow = format!("\"{slow}\"");
        assert!(job.contains(&slow), "{}: no {slow}", api.name);
        job = job.replace(&slow, &format!("\"{fast}\""));
    }
    let rates = job.lines().filter_map(|l| l.strip_prefix("rate = ")).map(|l| l.split('"').nth(1).unwrap());
    let strange: Vec<&str> = rates.filter(|r| api.faster.iter().all(|(_, fast)| fast != r)).collect();
    assert!(strange.is_empty(), "{}: {strange:?} is not in the table", api.name);
    std::fs::write(dir.path().join("job.toml"), edit(job)).unwrap();
    std::fs::write(dir.path().join(api.list.0), (api.list.1)(entries)).unwrap();
    let run = Gleaner::new(["run", "job.toml", "--quiet", "--events", "events.jsonl", "--ca-file"])
        .arg(site.ca_file())
        .home(dir.path())
        .env("https_proxy", proxy.url(""))
        .env("API_TOKEN", "token-of-the-test")
        .expect(0);
    let rows = read(&dir.path().join("job.results.csv"));
    let events = std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
    let refusals = server.refusals.lock().unwrap().clone();
    Ended { run, rows, refusals, events, arrivals: site.log() }
}

/// All entries are there, at one try each.
fn delivered(api: &Api, ended: &Ended, entries: usize) {
    let mut rows: Vec<u64> = ended.rows.iter().map(|r| r.number("_row")).collect();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!((rows.len(), ended.rows.len()), (entries, entries), "{}: {}", api.name, ended.run.err);
    assert!(ended.rows.iter().all(|r| r.number("_attempts") == 1), "{}: an attempt was charged", api.name);
}

/// As the docs have it: nothing is refused, all is delivered.
fn keeps(api: &'static Api, silent: bool) -> String {
    let name = api.name;
    let ended = run(api, |job| job, api.entries, silent);
    assert!(ended.refusals.is_empty(), "{name}: {} of {} refused", ended.refusals.len(), ended.arrivals.len());
    delivered(api, &ended, api.entries);
    format!("{name}: {} requests in {:?}", ended.arrivals.len(), ended.run.took)
}

fn lines(n: usize, line: impl Fn(usize) -> String) -> String {
    (0..n).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "{}", line(i));
        text
    })
}

fn epoch(after: Duration) -> String {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + after).as_secs().saturating_add(1).to_string()
}

fn whole(t: Duration) -> String {
    (t.as_secs() + 1).to_string()
}

fn found() -> Reply {
    Reply::json(&json!({ "id": 1 }))
}

fn github(r: &Req, s: &Stand) -> Reply {
    let search = r.path().starts_with("/search/");
    let (k, resource, limit) = if search { (3, "search", "6") } else { (0, "core", "40") };
    let reply = match s.refused {
        Some(1 | 2) => Reply::status(403)
            .header("Content-Type", "application/json")
            .header("Retry-After", "2")
            .body(json!({ "message": "You have exceeded a secondary rate limit." }).to_string()),
        Some(_) => Reply::status(403),
        None => found(),
    };
    reply
        .header("x-ratelimit-limit", limit)
        .header("x-ratelimit-remaining", &s.left[k].to_string())
        .header("x-ratelimit-reset", &epoch(s.reset[k]))
        .header("x-ratelimit-resource", resource)
}

fn x(r: &Req, s: &Stand) -> Reply {
    let k = usize::from(r.path() == "/2/tweets/search/recent");
    let reply = if s.refused.is_some() { Reply::status(429) } else { found() };
    reply
        .header("x-rate-limit-limit", ["30", "10"][k])
        .header("x-rate-limit-remaining", &s.left[k].to_string())
        .header("x-rate-limit-reset", &epoch(s.reset[k]))
}

fn reddit(r: &Req, s: &Stand) -> Reply {
    assert!(r.header("user-agent").unwrap().contains("(by /u/"));
    let reply = if s.refused.is_some() { Reply::status(429) } else { found() };
    let (left, used) = (s.left[0], 25 - s.left[0]);
    reply
        .header("x-ratelimit-used", &used.to_string())
        .header("x-ratelimit-remaining", &format!("{left}.0"))
        .header("x-ratelimit-reset", &whole(s.reset[0]))
}

fn shopify(_: &Req, s: &Stand) -> Reply {
    let reply = if s.refused.is_some() { Reply::status(429).header("Retry-After", "2.0") } else { found() };
    reply.header("X-Shopify-Shop-Api-Call-Limit", &format!("{}/40", 40 - s.left[0]))
}

fn stripe(_: &Req, s: &Stand) -> Reply {
    match s.refused {
        None => found(),
        Some(k) => Reply::status(429)
            .header("Stripe-Rate-Limited-Reason", ["global-rate", "endpoint-rate", "endpoint-rate", "global-concurrency"][k]),
    }
}

fn gitlab(_: &Req, s: &Stand) -> Reply {
    let reply = if s.refused.is_some() {
        Reply::status(429).header("Retry-After", "2").header("Content-Type", "text/plain").body("Retry later\n")
    } else {
        found()
    };
    reply
        .header("RateLimit-Limit", "40")
        .header("RateLimit-Name", "throttle_authenticated_api")
        .header("RateLimit-Observed", &(40 - s.left[0]).to_string())
        .header("RateLimit-Remaining", &s.left[0].to_string())
        .header("RateLimit-Reset", &epoch(s.reset[0]))
}

fn discord(_: &Req, s: &Stand) -> Reply {
    let after = format!("{:.3}", s.reset[1].as_secs_f64());
    let reply = match s.refused {
        None => found(),
        Some(k) => {
            let body = json!({ "message": "You are being rate limited.", "retry_after": s.reset[k].as_secs_f64(), "global": k == 0 });
            let reply = Reply::status(429).header("Retry-After", &whole(s.reset[k])).header("Content-Type", "application/json");
            let reply = reply.header("X-RateLimit-Scope", if k == 0 { "global" } else { "user" });
            if k == 0 { reply.header("X-RateLimit-Global", "true").body(body.to_string()) } else { reply.body(body.to_string()) }
        }
    };
    reply
        .header("X-RateLimit-Limit", "10")
        .header("X-RateLimit-Remaining", &s.left[1].to_string())
        .header("X-RateLimit-Reset-After", &after)
        .header("X-RateLimit-Bucket", "abcd1234")
}

fn openai(r: &Req, s: &Stand) -> Reply {
    assert!(r.method == "POST" && String::from_utf8_lossy(&r.body).contains("text-embedding-3-small"));
    let reply = if s.refused.is_some() { Reply::status(429) } else { found() };
    reply
        .header("x-ratelimit-limit-requests", "25")
        .header("x-ratelimit-remaining-requests", &s.left[0].to_string())
        .header("x-ratelimit-reset-requests", &format!("{}ms", s.reset[0].as_millis() + 1))
        .header("x-ratelimit-limit-tokens", "150000")
        .header("x-ratelimit-remaining-tokens", "149984")
        .header("x-ratelimit-reset-tokens", "6m0s")
}

fn wikipedia(r: &Req, s: &Stand) -> Reply {
    assert_eq!(r.query("maxlag"), Some("5"));
    if s.refused.is_some() {
        return Reply::json(&json!({ "error": { "code": "ratelimited", "info": "You've exceeded your rate limit." } }));
    }
    if r.n == 7 {
        let lag = json!({ "error": { "code": "maxlag", "info": "Waiting for db1: 5.4 seconds lagged" } });
        return Reply::json(&lag).header("Retry-After", "1").header("X-Database-Lag", "5");
    }
    Reply::json(&json!({ "query": { "pages": {} } }))
}

fn notion(r: &Req, s: &Stand) -> Reply {
    assert_eq!(r.header("notion-version"), Some("2022-06-28"));
    match s.refused {
        None => found(),
        Some(_) => Reply::status(429)
            .header("Retry-After", &whole(s.reset[0]))
            .header("Content-Type", "application/json")
            .body(json!({ "object": "error", "status": 429, "code": "rate_limited" }).to_string()),
    }
}

const APIS: &[Api] = &[
    Api {
        name: "GitHub REST",
        faster: &[("5000/hour", "40/3s"), ("900/minute", "30/2s"), ("30/minute", "6/2s")],
        rules: &[
            Rule::Window(40, ms(3000), |r| u32::from(!r.path().starts_with("/search/"))),
            Rule::Window(30, ms(2000), |r| if r.method == "GET" { 1 } else { 5 }),
            Rule::AtOnce(100),
            Rule::Window(6, ms(2000), |r| u32::from(r.path().starts_with("/search/"))),
        ],
        list: ("addresses.txt", |n| {
            lines(n, |i| match i % 9 {
                0 => format!("https://api.github.com/search/code?q={i}"),
                _ => format!("https://api.github.com/repos/o/{i}"),
            })
        }),
        entries: 90,
        answer: github,
    },
    Api {
        name: "X",
        faster: &[("900/15m", "30/3s"), ("300/15m", "10/3s")],
        rules: &[
            Rule::Window(30, ms(3000), |r| u32::from(r.path() != "/2/tweets/search/recent")),
            Rule::Window(10, ms(3000), |r| u32::from(r.path() == "/2/tweets/search/recent")),
        ],
        list: ("addresses.txt", |n| {
            lines(n, |i| match i % 4 {
                0 => format!("https://api.x.com/2/tweets/search/recent?query={i}"),
                _ => format!("https://api.x.com/2/tweets/{i}"),
            })
        }),
        entries: 45,
        answer: x,
    },
    Api {
        name: "Reddit",
        faster: &[("100/minute", "25/3s")],
        rules: &[Rule::Window(25, ms(3000), every)],
        list: ("addresses.txt", |n| lines(n, |i| format!("https://oauth.reddit.com/r/r{i}/about"))),
        entries: 60,
        answer: reddit,
    },
    Api {
        name: "Shopify REST Admin",
        faster: &[("40/20s", "40/4s")],
        rules: &[Rule::Leaky(40, 10.0)],
        list: ("addresses.txt", |n| lines(n, |i| format!("https://example.myshopify.com/admin/api/2024-10/products/{i}.json"))),
        entries: 120,
        answer: shopify,
    },
    Api {
        name: "Stripe",
        faster: &[("100/second", "40/1s"), ("25/second", "25/1s")],
        rules: &[
            Rule::Window(40, ms(1000), every),
            Rule::Window(25, ms(1000), |r| u32::from(r.path().starts_with("/v1/customers/"))),
            Rule::Window(25, ms(1000), |r| u32::from(r.path().starts_with("/v1/charges/"))),
            Rule::AtOnce(4),
        ],
        list: ("addresses.txt", |n| {
            lines(n, |i| format!("https://api.stripe.com/v1/{}/{i}", if i % 4 == 0 { "charges" } else { "customers" }))
        }),
        entries: 160,
        answer: stripe,
    },
    Api {
        name: "GitLab.com",
        faster: &[("2000/minute", "40/3s")],
        rules: &[Rule::Window(40, ms(3000), every)],
        list: ("addresses.txt", |n| lines(n, |i| format!("https://gitlab.com/api/v4/projects/{i}/issues"))),
        entries: 100,
        answer: gitlab,
    },
    Api {
        name: "Discord",
        faster: &[("50/second", "50/1s")],
        rules: &[Rule::Window(50, ms(1000), every), Rule::Window(10, ms(2000), every)],
        list: ("addresses.txt", |n| lines(n, |i| format!("https://discord.com/api/v10/guilds/1/members/{i}"))),
        entries: 35,
        answer: discord,
    },
    Api {
        name: "OpenAI",
        faster: &[("500/minute", "25/3s")],
        rules: &[Rule::Window(25, ms(3000), every)],
        list: ("texts.csv", |n| format!("text\n{}", lines(n, |i| format!("the text number {i}")))),
        entries: 60,
        answer: openai,
    },
    Api {
        name: "Wikipedia",
        faster: &[],
        rules: &[Rule::AtOnce(1)],
        list: ("titles.csv", |n| format!("title\n{}", lines(n, |i| format!("Title {i}")))),
        entries: 60,
        answer: wikipedia,
    },
    Api {
        name: "Notion",
        faster: &[("3/second", "3/1s")],
        rules: &[Rule::Window(3, ms(1000), every)],
        list: ("addresses.txt", |n| lines(n, |i| format!("https://api.notion.com/v1/pages/{i}"))),
        entries: 24,
        answer: notion,
    },
];

#[test]
fn the_docs_have_these_apis_and_no_other() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md")).unwrap();
    let headings: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    assert_eq!(headings, APIS.iter().map(|a| a.name).collect::<Vec<_>>());
}

/// In one test, so that they run side by side however few threads the tests have. Those whose headers alone would keep gleaner within the
/// rule run once more without them.
#[test]
fn as_the_docs_say_it_no_request_is_refused_and_all_are_delivered() {
    const TELL: &[&str] = &["GitHub REST", "X", "Reddit", "GitLab.com", "OpenAI"];
    let silent = APIS.iter().filter(|a| TELL.contains(&a.name)).map(|a| (a, true));
    let all: Vec<(&'static Api, bool)> = APIS.iter().map(|a| (a, false)).chain(silent).collect();
    let began = Instant::now();
    std::thread::scope(|s| {
        let runs: Vec<_> = all.into_iter().map(|(api, silent)| (api.name, s.spawn(move || keeps(api, silent)))).collect();
        let mut wrong = Vec::new();
        for (name, run) in runs {
            match run.join() {
                Ok(told) => eprintln!("{told}"),
                Err(_) => wrong.push(name),
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}, see above");
    });
    eprintln!("all in {:?}", began.elapsed());
}

#[test]
fn githubs_changes_weigh_five() {
    let api = &APIS[0];
    let to = "[request]\nmethod = \"PATCH\"\njson = { archived = true }\n";
    let ended = run(api, |job| job.replacen("[request]\n", to, 1), 36, false);
    eprintln!("{} changes in {:?}", ended.arrivals.len(), ended.run.took);
    assert!(ended.refusals.is_empty(), "{} of {} refused", ended.refusals.len(), ended.arrivals.len());
    delivered(api, &ended, 36);
}

#[test]
fn without_a_rate_each_refusal_is_one_hold_and_costs_nothing() {
    let api = APIS.iter().find(|a| a.name == "Notion").unwrap();
    let ended = run(api, |job| job.replace("rate = \"3/1s\"", ""), api.entries, false);
    delivered(api, &ended, api.entries);
    let holds = ended.events.lines().filter(|l| l.contains("\"hold-began\"")).count();
    // Answers to what was on its way when the hold began belong to it.
    let mut began: Vec<Instant> = Vec::new();
    for at in &ended.refusals {
        if began.last().is_none_or(|b| *at - *b > ms(700)) {
            began.push(*at);
        }
    }
    eprintln!("{} refusals of {}, {holds} holds, {:?}", ended.refusals.len(), ended.arrivals.len(), ended.run.took);
    assert!(!began.is_empty() && holds <= began.len(), "{holds} holds told, {} times refused", began.len());
    for b in began {
        let early = ended.arrivals.iter().filter(|r| r.at > b + ms(500) && r.at < b + ms(999)).count();
        assert_eq!(early, 0, "requests inside the hold");
    }
}
