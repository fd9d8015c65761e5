use super::*;
use crate::clock::Moment;
use crate::model::plan::{ProxyPlan, UserAgent};
use crate::model::{Answer, REASONS};
use std::fmt::Write as _;

pub(crate) fn retry_plan() -> RetryPlan {
    RetryPlan {
        attempts: 5,
        backoff: Duration::from_secs(1),
        max_backoff: Duration::from_mins(1),
        statuses: vec![408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 598, 599],
        methods: ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"].map(String::from).to_vec(),
        budget: Some(0.2),
        final_sweep: true,
        host_give_up: Duration::from_mins(5),
    }
}

fn request_plan() -> RequestPlan {
    let t = Duration::from_secs(30);
    RequestPlan {
        method: "GET".into(),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        user_agent: UserAgent::Browser,
        proxy: ProxyPlan::Off,
        connect_timeout: t,
        first_byte_timeout: t,
        idle_timeout: t,
        total_timeout: t,
        max_body: 1 << 20,
        accept: vec![(200, 299)],
        may_accept: Vec::new(),
        redirects: 10,
        robots: false,
        ca_file: None,
        idempotent: false,
    }
}

pub(crate) fn ans(status: u16, headers: &[(&'static str, &str)], body: &str) -> Outcome {
    let mut h = HeaderMap::new();
    for (n, v) in headers {
        h.append(*n, v.parse().unwrap());
    }
    Outcome::Answer(Answer {
        status,
        headers: h,
        body: body.into(),
        headers_at: Moment::ZERO,
        remote: None,
        reused: false,
        wire_bytes: 0,
        warnings: Vec::new(),
    })
}

fn broke(reason: Reason, sent: Sent, reused: bool) -> Outcome {
    Outcome::Failure(Failure { sent, reused, ..Failure::unsent(reason, "it broke") })
}

pub(crate) struct Case {
    retry: RetryPlan,
    request: RequestPlan,
    listed: Method,
    pub(crate) method: Method,
}

impl Case {
    pub(crate) fn of(method: Method) -> Self {
        Self { retry: retry_plan(), request: request_plan(), listed: method.clone(), method }
    }

    pub(crate) fn ctx<T>(&self, then: impl FnOnce(&Ctx<'_>) -> T) -> T {
        let url = Url::parse("https://h/a/b").unwrap();
        then(&Ctx {
            retry: &self.retry,
            request: &self.request,
            wall: Wall(1_445_412_480_000),
            listed: &self.listed,
            method: &self.method,
            url: &url,
        })
    }

    fn judge(&self, outcome: &Outcome) -> Judgement {
        self.ctx(|ctx| classify(outcome, ctx))
    }

    fn trouble(&self, outcome: &Outcome) -> Trouble {
        match self.judge(outcome) {
            Judgement::Trouble(t) => t,
            other => panic!("{other:?}"),
        }
    }
}

fn get() -> Case {
    Case::of(Method::GET)
}

fn post() -> Case {
    Case::of(Method::POST)
}

fn line(j: &Judgement) -> String {
    match j {
        Judgement::Accept => "accept".into(),
        Judgement::Redirect { to, follow } => format!("redirect {follow:?} {to}"),
        Judgement::Refused { reason, asked, from, by_text, .. } => {
            let text = if *by_text { " by text" } else { "" };
            format!("refused {reason} {} {}{text}", asked.map_or(-1.0, |d| d.as_secs_f64()), from.as_str())
        }
        Judgement::Trouble(t) => {
            let resend = if t.resend { "" } else { " no-resend" };
            let fresh = if t.fresh { " fresh" } else { "" };
            format!("{} {} {:?}{resend}{fresh}", t.reason, t.class.as_str(), t.repeat)
        }
    }
}

/// Every status there is, in the runs that mean the same: the table itself.
#[test]
fn table_of_statuses() {
    let mut got = String::new();
    let (mut first, mut last, mut before) = (200, 200, String::new());
    for status in 200..=1000 {
        let this = if status == 1000 { String::new() } else { line(&get().judge(&ans(status, &[], ""))).replace(&status.to_string(), "N") };
        if this != before {
            if !before.is_empty() {
                let _ = writeln!(got, "{first}-{last} {before}");
            }
            (first, before) = (status, this);
        }
        last = status;
    }
    let permanent = "http-N permanent Never";
    let again = "http-N transient Backoff";
    let again_fresh = "http-N transient Backoff fresh";
    let nowhere = "redirect-invalid permanent Never";
    let want = [
        "200-205 accept",
        "206-206 body-truncated transient Backoff",
        "207-299 accept",
        &format!("300-300 {permanent}"),
        &format!("301-303 {nowhere}"),
        &format!("304-306 {permanent}"),
        &format!("307-308 {nowhere}"),
        &format!("309-400 {permanent}"),
        "401-401 auth-required permanent Never",
        &format!("402-402 {permanent}"),
        "403-403 forbidden blocked Never",
        &format!("404-406 {permanent}"),
        "407-407 proxy-auth permanent Never",
        &format!("408-408 {again_fresh}"),
        &format!("409-420 {permanent}"),
        &format!("421-421 {again_fresh}"),
        &format!("422-424 {permanent}"),
        &format!("425-425 {again_fresh}"),
        &format!("426-428 {permanent}"),
        "429-429 refused http-N -1 backoff",
        &format!("430-499 {permanent}"),
        &format!("500-500 {again}"),
        &format!("501-501 {permanent}"),
        &format!("502-504 {again}"),
        &format!("505-519 {permanent}"),
        &format!("520-524 {again}"),
        &format!("525-528 {permanent}"),
        &format!("529-529 {again}"),
        &format!("530-597 {permanent}"),
        &format!("598-599 {again}"),
        "600-999 http-N blocked Never",
        "",
    ]
    .join("\n");
    assert_eq!(got, want, "\n{got}");
}

/// Every fixed reason as a failure, sent and not sent, for a GET and for a POST.
#[test]
fn table_of_failures() {
    let mut got = String::new();
    for doc in REASONS {
        let r = Reason::from_code(doc.code);
        let [a, b] = [get(), post()].map(|c| line(&c.judge(&broke(r.clone(), Sent::Maybe, false))));
        let c = line(&post().judge(&broke(r, Sent::No, false)));
        let _ = writeln!(got, "{a} | {} | {}", b.replace(" no-resend", ""), if c == a { "same" } else { &c });
    }
    let sent_break =
        |code: &str, fresh: &str, unsent: &str| format!("{code} transient Backoff{fresh} | maybe-sent permanent Never{fresh} | {unsent}");
    let same = |line: &str| format!("{line} | {line} | same");
    let want = [
        same("bad-input input Never"),
        same("duplicate input Never"),
        same("auth-required permanent Never"),
        same("forbidden blocked Never"),
        same("proxy-auth permanent Local"),
        same("proxy-unreachable local Local"),
        same("proxy-refused transient Backoff"),
        same("waf-challenge blocked Never"),
        same("connect-refused transient Backoff"),
        same("connect-timeout transient Backoff"),
        same("net-unreachable transient Backoff"),
        "local-resource local Local | maybe-sent permanent Never | same".into(),
        same("dns-nxdomain permanent Once"),
        same("dns-nodata permanent Once"),
        same("dns-servfail transient Backoff"),
        same("dns-timeout transient Backoff"),
        same("tls-cert permanent Never"),
        same("tls-handshake permanent Once"),
        sent_break("conn-closed", " fresh", "conn-closed transient Free fresh"),
        sent_break("conn-reset", " fresh", "conn-reset transient Free fresh"),
        "protocol-error permanent Once fresh | protocol-error permanent Once fresh | protocol-error permanent Free fresh".into(),
        sent_break("first-byte-timeout", "", "same"),
        sent_break("body-truncated", "", "same"),
        sent_break("body-timeout", "", "same"),
        sent_break("slow-body", "", "same"),
        same("decode-error permanent Identity"),
        same("too-large permanent Never"),
        same("too-deep permanent Never"),
        same("parse-timeout permanent Never"),
        same("too-many-redirects permanent Never"),
        same("redirect-loop permanent Never"),
        same("redirect-invalid permanent Never"),
        same("robots-disallowed permanent Never"),
        same("blocked-address permanent Never"),
        same("out-of-scope permanent Never"),
        same("host-unreachable transient Never"),
        same("maybe-sent permanent Never"),
        same("bad-json permanent Never"),
        same("rows-missing permanent Never"),
        same("missing-field permanent Never"),
        same("internal-error permanent Never"),
        String::new(),
    ]
    .join("\n");
    assert_eq!(got, want, "\n{got}");
}

#[test]
fn redirects_are_followed_unless_the_job_accepts_their_status() {
    let to = [("location", "/c#f")];
    assert_eq!(line(&post().judge(&ans(302, &to, ""))), "redirect Get https://h/c");
    assert_eq!(line(&post().judge(&ans(307, &to, ""))), "redirect Keep https://h/c");
    assert_eq!(line(&get().judge(&ans(300, &to, ""))), "http-300 permanent Never");
    assert_eq!(line(&get().judge(&ans(301, &[("location", "ftp://h/")], ""))), "redirect-invalid permanent Never");
    let mut c = get();
    c.request.accept = vec![(200, 399)];
    assert_eq!(line(&c.judge(&ans(302, &to, ""))), "accept");
    assert_eq!(line(&c.judge(&ans(304, &[], ""))), "accept");
}

#[test]
fn refusals_are_429_and_what_asks_to_come_back() {
    for (status, headers, body, want) in [
        (429, &[][..], "", "refused http-429 -1 backoff"),
        (429, &[("retry-after", "7")], "", "refused http-429 7 retry-after"),
        (429, &[("retry-after", "0")], "", "refused http-429 -1 backoff"),
        (429, &[("retry-after", "junk"), ("x-ratelimit-reset", "9")], "", "refused http-429 9 reset"),
        (429, &[("x-ratelimit-remaining", "595"), ("ratelimit-reset", "9")], "", "refused http-429 9 reset"),
        (503, &[("retry-after", "7")], "", "refused http-503 7 retry-after"),
        (503, &[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")], "", "refused http-503 -1 backoff"),
        (413, &[("retry-after", "7")], "", "refused http-413 7 retry-after"),
        (503, &[("retry-after", "NaN")], "", "http-503 transient Backoff"),
        (503, &[("x-ratelimit-reset", "9")], "", "http-503 transient Backoff"),
        (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "60")], "", "refused forbidden 60 reset"),
        (403, &[("x-ratelimit-remaining", "10"), ("x-ratelimit-reset", "60")], "", "forbidden blocked Never"),
        (403, &[("retry-after", "30")], "", "refused forbidden 30 retry-after"),
        (403, &[], "{\"message\":\"API Rate Limit Exceeded for 1.2.3.4\"}", "refused forbidden -1 backoff by text"),
        (403, &[], "Too many requests", "refused forbidden -1 backoff by text"),
        (
            403,
            &[("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", "3000")],
            "You have exceeded a secondary rate limit",
            "refused forbidden 60 backoff by text",
        ),
        (429, &[], "You have exceeded a secondary rate limit", "refused http-429 60 backoff"),
        (
            429,
            &[("x-github-request-id", "1"), ("x-ratelimit-remaining", "40"), ("x-ratelimit-reset", "9")],
            "",
            "refused http-429 60 backoff",
        ),
        (403, &[("x-github-request-id", "1"), ("x-ratelimit-remaining", "40")], "Must have admin rights", "forbidden blocked Never"),
        (429, &[("retry-after", "65")], "{\"retry_after\": 64.57, \"global\": false}", "refused http-429 65 retry-after"),
        (429, &[("retry-after", "3")], "{\"retry_after\": 1336.57}", "refused http-429 1336.57 retry-after"),
        (429, &[("retry-after", "0")], "{\"retry_after\": 0.25}", "refused http-429 0.25 retry-after"),
        (429, &[("x-ratelimit-reset", "9")], "{\"retry_after\": 4}", "refused http-429 4 retry-after"),
        (429, &[("x-ratelimit-reset", "9")], "{\"retry_after\": 0}", "refused http-429 9 reset"),
        (503, &[], "{\"retry_after\": 4}", "http-503 transient Backoff"),
        (404, &[("retry-after", "7")], "rate limit exceeded", "http-404 permanent Never"),
    ] {
        assert_eq!(line(&get().judge(&ans(status, headers, body))), want, "{status} {headers:?} {body}");
        let sent_again = post().judge(&ans(status, headers, body));
        assert_eq!(matches!(sent_again, Judgement::Refused { .. }), want.starts_with("refused"), "POST {status}");
    }
}

#[test]
fn a_429_is_a_refusal_even_where_it_is_accepted_or_its_body_broke() {
    let mut c = get();
    c.request.accept = vec![(200, 599)];
    assert!(line(&c.judge(&ans(429, &[], ""))).starts_with("refused"));
    let Outcome::Answer(a) = ans(429, &[("retry-after", "5")], "") else { unreachable!() };
    let f =
        Failure { status: Some(429), headers: Some(Box::new(a.headers)), sent: Sent::Maybe, ..Failure::unsent(Reason::BodyTruncated, "x") };
    assert_eq!(line(&c.judge(&Outcome::Failure(f.clone()))), "refused http-429 5 retry-after");
    let gone = Outcome::Failure(Failure { status: Some(404), ..f.clone() });
    assert_eq!(line(&get().judge(&gone)), "http-404 permanent Never");
    let cut = Outcome::Failure(Failure { status: Some(200), ..f });
    assert_eq!(get().trouble(&cut).floor, Some(Duration::from_secs(5)));
    assert_eq!(line(&get().judge(&cut)), "body-truncated transient Backoff");
}

#[test]
fn a_broken_body_is_trouble_of_its_own_where_a_rule_may_accept_the_status() {
    let broken = |status| {
        let headers = HeaderMap::from_iter([("retry-after".parse().unwrap(), "5".parse().unwrap())]);
        let Outcome::Failure(f) = broke(Reason::BodyTruncated, Sent::Maybe, false) else { unreachable!() };
        Outcome::Failure(Failure { status: Some(status), headers: Some(Box::new(headers)), ..f })
    };
    let mut c = get();
    assert_eq!(line(&c.judge(&broken(404))), "http-404 permanent Never");
    c.request.may_accept = vec![(404, 404), (429, 429)];
    assert_eq!(line(&c.judge(&broken(404))), "body-truncated transient Backoff");
    assert!(matches!(c.judge(&broken(429)), Judgement::Refused { .. }), "a 429 holds its key");
    assert_eq!(line(&c.judge(&ans(404, &[], ""))), "http-404 permanent Never", "the table makes it no result");
}

#[test]
fn a_challenge_comes_before_a_refusal_and_before_a_result() {
    for status in [200, 403, 429, 503] {
        let j = get().judge(&ans(status, &[("cf-mitigated", "challenge"), ("retry-after", "5")], ""));
        assert_eq!(line(&j), "waf-challenge blocked Never", "{status}");
    }
}

#[test]
fn a_part_is_a_result_only_where_it_is_the_whole() {
    for (range, want) in
        [("bytes 0-9/10", "accept"), ("bytes 0-8/10", "body"), ("bytes 1-9/10", "body"), ("bytes 0-9/*", "body"), ("x", "body")]
    {
        let got = line(&get().judge(&ans(206, &[("content-range", range)], "")));
        assert!(got.starts_with(want), "{range}: {got}");
    }
}

#[test]
fn a_break_on_a_reused_connection_is_free_before_any_answer_byte() {
    for r in [Reason::ConnClosed, Reason::ConnReset] {
        assert_eq!(get().trouble(&broke(r.clone(), Sent::Maybe, true)).repeat, Repeat::Free);
        assert_eq!(get().trouble(&broke(r.clone(), Sent::Maybe, false)).repeat, Repeat::Backoff);
        let Outcome::Failure(f) = broke(r.clone(), Sent::Maybe, true) else { unreachable!() };
        let begun = Outcome::Failure(Failure { headers_at: Some(Moment(1)), ..f });
        assert_eq!(get().trouble(&begun).repeat, Repeat::Backoff);
        assert_eq!(post().trouble(&broke(r, Sent::Maybe, true)).reason, Reason::MaybeSent);
    }
}

#[test]
fn a_post_is_repeated_where_the_job_or_the_status_allows_it() {
    assert!(!post().trouble(&ans(503, &[], "")).resend);
    assert_eq!(post().trouble(&ans(503, &[], "")).reason, Reason::Http(503));
    let mut c = post();
    c.request.idempotent = true;
    assert!(c.trouble(&ans(503, &[], "")).resend);
    assert_eq!(c.trouble(&broke(Reason::ConnReset, Sent::Maybe, false)).repeat, Repeat::Backoff);
    let mut c = post();
    c.retry.methods.push("POST".into());
    assert!(c.trouble(&ans(503, &[], "")).resend);
    assert!(post().trouble(&ans(421, &[], "")).resend && post().trouble(&ans(425, &[], "")).resend);
    assert!(!post().trouble(&ans(408, &[], "")).resend);
}

#[test]
fn a_post_that_a_redirect_turned_into_get_is_not_posted_again() {
    let c = Case { method: Method::GET, ..post() };
    assert_eq!(line(&c.judge(&broke(Reason::ConnectRefused, Sent::No, false))), "connect-refused transient Backoff no-resend");
    assert_eq!(c.trouble(&ans(429, &[], "")).reason, Reason::MaybeSent);
    assert!(!c.trouble(&ans(421, &[], "")).resend);
    assert_eq!(line(&c.judge(&ans(200, &[], ""))), "accept");
}

#[test]
fn the_job_and_stripe_override_the_statuses() {
    let mut c = get();
    c.retry.statuses = vec![404];
    assert_eq!(line(&c.judge(&ans(404, &[], ""))), "http-404 transient Backoff");
    assert_eq!(line(&c.judge(&ans(500, &[], ""))), "http-500 transient Never");
    assert_eq!(line(&c.judge(&ans(429, &[], ""))), "refused http-429 -1 backoff");
    assert_eq!(line(&get().judge(&ans(409, &[("stripe-should-retry", "true")], ""))), "http-409 transient Backoff");
    assert_eq!(line(&get().judge(&ans(500, &[("stripe-should-retry", "false")], ""))), "http-500 transient Never");
}

#[test]
fn a_proxys_own_trouble_is_not_charged_and_a_way_that_it_does_not_open_is() {
    for (reason, repeat) in
        [(Reason::ProxyUnreachable, Repeat::Local), (Reason::ProxyAuth, Repeat::Local), (Reason::ProxyRefused, Repeat::Backoff)]
    {
        let t = post().trouble(&broke(reason, Sent::No, false));
        assert_eq!((t.repeat, t.resend), (repeat, true), "{}: the proxy passed nothing on", t.reason);
    }
}

#[test]
fn an_outage_excuses_what_would_be_tried_again() {
    let j = get().judge(&broke(Reason::ConnectTimeout, Sent::No, false)).excused();
    assert!(matches!(j, Judgement::Trouble(Trouble { repeat: Repeat::Local, .. })));
    let j = get().judge(&ans(404, &[], "")).excused();
    assert!(matches!(j, Judgement::Trouble(Trouble { repeat: Repeat::Never, .. })));
}

#[test]
fn statuses_speak_for_a_host_and_silence_against_it() {
    assert_eq!(reach(&ans(503, &[], "")), Reach::Yes);
    for (r, want) in [
        (Reason::ConnectRefused, Reach::No),
        (Reason::DnsServfail, Reach::No),
        (Reason::FirstByteTimeout, Reach::No),
        (Reason::DnsNxdomain, Reach::Neither),
        (Reason::ConnReset, Reach::Neither),
        (Reason::LocalResource, Reach::Neither),
        (Reason::ProxyUnreachable, Reach::Neither),
        (Reason::ProxyRefused, Reach::No),
    ] {
        assert_eq!(reach(&broke(r, Sent::Maybe, false)), want);
    }
}
