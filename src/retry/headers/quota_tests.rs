//! Each dialect by its own documentation's examples, then what is common to all.

use super::super::{LONGEST, asked, asked_in_body, exhausted, reset, resource, retry_after, scope, should_retry};
use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

/// Thu, 15 Jan 2026 12:00:00 GMT: the answer's arrival.
const NOW: Wall = Wall(1_768_478_400_000);

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut h = HeaderMap::new();
    for (n, v) in lines {
        h.append(*n, v.parse().unwrap());
    }
    h
}

/// `resource remaining/limit t=reset w=window`, in seconds; what is not told is `-`; `other` marks the unit.
fn line(q: &Quota) -> String {
    let secs = |d: Option<Duration>| d.map_or("-".into(), |d| d.as_secs_f64().to_string());
    let limit = q.limit.map_or("-".into(), |n| n.to_string());
    let unit = if q.unit == QuotaUnit::Other { " other" } else { "" };
    let resource = q.resource.as_deref().unwrap_or("-");
    format!("{resource} {}/{limit} t={} w={}{unit}", q.remaining, secs(q.reset), secs(q.window))
}

fn said(status: u16, lines: &[(&'static str, &str)]) -> Vec<String> {
    quotas(status, &map(lines), NOW).iter().map(line).collect()
}

fn told(lines: &[(&'static str, &str)]) -> Vec<String> {
    said(200, lines)
}

/// GitHub docs, *Rate limits for the REST API*, "Checking the status of your rate limit": the five fields; the values and the Date are
/// those of the older *Resources in the REST API*, "Rate limiting", so that the epoch is read by GitHub's clock and not by ours.
#[test]
fn github() {
    let primary = [
        ("date", "Mon, 01 Jul 2013 17:27:06 GMT"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "56"),
        ("x-ratelimit-used", "4"),
        ("x-ratelimit-reset", "1372700873"),
        ("x-ratelimit-resource", "core"),
    ];
    assert_eq!(told(&primary), ["core 56/60 t=1247 w=-"]);
    assert_eq!(resource(&map(&primary)).as_deref(), Some("core"));
}

/// X docs, *Rate limits*, "Checking your limits".
#[test]
fn x_twitter() {
    let lines = [
        ("date", "Tue, 16 Jan 2024 15:50:00 GMT"),
        ("x-rate-limit-limit", "900"),
        ("x-rate-limit-remaining", "847"),
        ("x-rate-limit-reset", "1705420800"),
    ];
    assert_eq!(told(&lines), ["- 847/900 t=600 w=-"]);
}

/// r/redditdev, *Formal ratelimiting headers*: "X-Ratelimit-Reset: Approximate number of seconds to end of period"; remaining has
/// had a fraction for years. "Requests that are served cached via our CDN will not include headers."
#[test]
fn reddit() {
    let lines = [("x-ratelimit-used", "2"), ("x-ratelimit-remaining", "98.5"), ("x-ratelimit-reset", "583")];
    assert_eq!(told(&lines), ["- 98.5/- t=583 w=-"]);
    assert_eq!(scope(&map(&lines)), super::super::Scope::Key);
}

/// Shopify docs, *REST Admin API rate limits*: `X-Shopify-Shop-Api-Call-Limit: 32/40`; on a 429 `40/40` and `Retry-After: 2.0`.
#[test]
fn shopify() {
    assert_eq!(told(&[("x-shopify-shop-api-call-limit", "32/40")]), ["- 8/40 t=- w=-"]);
    assert_eq!(told(&[("x-shopify-shop-api-call-limit", "39/40")]), ["- 1/40 t=- w=-"]);
    let full = [("x-shopify-shop-api-call-limit", "40/40"), ("retry-after", "2.0")];
    assert_eq!(said(429, &full), ["- 0/40 t=- w=-"]);
    assert_eq!(asked(&map(&full), NOW).map(|a| a.wait), Some(Duration::from_secs(2)));
    for bad in ["40", "/40", "39/", "a/b", "-1/40", "1/0", "1/2/3"] {
        assert_eq!(told(&[("x-shopify-shop-api-call-limit", bad)]).len(), 0, "{bad}");
    }
    assert_eq!(told(&[("x-shopify-shop-api-call-limit", "41/40")]), ["- 0/40 t=- w=-"]);
}

/// GitLab docs, *User and IP rate limits*, "Response headers", with the epoch under the IETF draft's name.
#[test]
fn gitlab() {
    let lines = [
        ("date", "Tue, 05 Jan 2021 10:59:30 GMT"),
        ("ratelimit-limit", "60"),
        ("ratelimit-name", "throttle_authenticated_web"),
        ("ratelimit-observed", "67"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "1609844400"),
        ("ratelimit-resettime", "Tue, 05 Jan 2021 11:00:00 GMT"),
    ];
    assert_eq!(told(&lines), ["throttle_authenticated_web 0/60 t=30 w=-"]);
    assert_eq!(resource(&map(&lines)).as_deref(), Some("throttle_authenticated_web"));
    let no_epoch: Vec<_> = lines.iter().filter(|(n, _)| *n != "ratelimit-reset").copied().collect();
    assert_eq!(told(&no_epoch), ["throttle_authenticated_web 0/60 t=30 w=-"]);
    // Merge request 209485: remaining above the limit is cut to it. Issue 217312: real refusals say that 595 are left.
    assert_eq!(told(&[("ratelimit-limit", "1"), ("ratelimit-remaining", "2"), ("ratelimit-reset", "1768478460")]), ["- 1/1 t=60 w=-"]);
    assert_eq!(said(429, &[("ratelimit-limit", "600"), ("ratelimit-remaining", "595"), ("ratelimit-reset", "1768478460")]).len(), 0);
}

/// Discord docs, *Rate Limits*: "Rate Limit Header Examples" and the three "Example Exceeded … Response".
#[test]
fn discord() {
    let plain = [
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1470173023"),
        ("x-ratelimit-reset-after", "1"),
        ("x-ratelimit-bucket", "abcd1234"),
    ];
    assert_eq!(told(&plain), ["abcd1234 0/5 t=1 w=-"], "Reset-After, whatever the clocks say");
    let exceeded = |retry: &'static str, left: &'static str, scope: &'static str| {
        map(&[
            ("retry-after", retry),
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", left),
            ("x-ratelimit-reset", "1470173023.123"),
            ("x-ratelimit-reset-after", "64.57"),
            ("x-ratelimit-bucket", "abcd1234"),
            ("x-ratelimit-scope", scope),
        ])
    };
    let user = exceeded("65", "0", "user");
    assert_eq!(quotas(429, &user, NOW).iter().map(line).collect::<Vec<_>>(), ["abcd1234 0/10 t=64.57 w=-"]);
    assert_eq!((scope(&user), resource(&user).as_deref()), (super::super::Scope::Shared, Some("abcd1234")));
    let shared = exceeded("1337", "9", "shared");
    assert_eq!(quotas(429, &shared, NOW), [], "9 left on a refusal is not trusted");
    assert_eq!(scope(&shared), super::super::Scope::Shared);
    assert_eq!(asked(&shared, NOW).map(|a| a.wait), Some(Duration::from_secs(1337)));
    for global in
        [&[("x-ratelimit-global", "true"), ("x-ratelimit-scope", "global"), ("retry-after", "65")][..], &[("x-ratelimit-global", "true")]]
    {
        assert_eq!(scope(&map(global)), super::super::Scope::Global);
    }
}

/// Draft 10 of the IETF: the examples of *RateLimit Field*, *RateLimit-Policy Field* and of the appendix *Examples*.
#[test]
fn ietf_newest() {
    assert_eq!(told(&[("ratelimit", "\"default\";r=50;t=30")]), ["default 50/- t=30 w=-"]);
    assert_eq!(told(&[("ratelimit", "\"default\";r=999;pk=:dHJpYWwxMjEzMjM=:")]), ["default;pk=:dHJpYWwxMjEzMjM=: 999/- t=- w=-"]);
    // *Throttling window specified via parameter*.
    let fixed = [("ratelimit", "\"fixedwindow\";r=99;t=50"), ("ratelimit-policy", "\"fixedwindow\";q=100;w=60")];
    assert_eq!(told(&fixed), ["fixedwindow 99/100 t=50 w=60"]);
    // *Multiple policies in response*: the hourly one is not told of in `RateLimit`.
    let two = [("ratelimit-policy", "\"hour\";q=1000;w=3600, \"day\";q=5000;w=86400"), ("ratelimit", "\"day\";r=100;t=36000")];
    assert_eq!(told(&two), ["day 100/5000 t=36000 w=86400", "hour 1000/1000 t=- w=3600"]);
    // *Reliability of the reset parameter*: r=10000;t=10 is no licence for 1,000 a second; the window says what it is worth.
    let trap = [("ratelimit-policy", "\"somepolicy\";q=10000;w=1000"), ("ratelimit", "\"somepolicy\";r=10000;t=10")];
    assert_eq!(told(&trap), ["somepolicy 10000/10000 t=10 w=1000"]);
    // *Missing Remaining information*.
    assert_eq!(told(&[("ratelimit-policy", "quota;q=100;w=1"), ("ratelimit", "quota;t=1")]), ["quota 100/100 t=1 w=1"]);
    // Several lines, policies and partitions.
    let lines = [
        ("ratelimit-policy", "\"sliding\";q=100;w=60;burst=1000"),
        ("ratelimit-policy", "\"fixed\";q=5000;w=3600;burst=0"),
        ("ratelimit", "\"sliding\";r=50;t=44, \"fixed\";r=7;pk=:QQ==:"),
        ("ratelimit", "\"fixed\";r=9;pk=:Qg==:"),
    ];
    assert_eq!(told(&lines), ["sliding 50/100 t=44 w=60", "fixed;pk=:QQ==: 7/5000 t=- w=3600", "fixed;pk=:Qg==: 9/5000 t=- w=3600"]);
    // *Quota Unit Parameter*: what is no requests is not ours to pace.
    let bytes = [
        ("ratelimit-policy", "\"default\";q=500000000;qu=\"content-bytes\";w=60, \"many\";q=10;qu=\"concurrent-requests\""),
        ("ratelimit", "\"default\";r=300000000;t=60, \"many\";r=3, \"calls\";r=4;t=5"),
        ("ratelimit-policy", "\"calls\";q=9;qu=\"requests\""),
    ];
    assert_eq!(told(&bytes), ["default 300000000/500000000 t=60 w=60 other", "many 3/10 t=- w=- other", "calls 4/9 t=5 w=-"]);
    // *Use in throttled responses*.
    let refused =
        [("date", "Mon, 05 Aug 2019 09:27:00 GMT"), ("retry-after", "Mon, 05 Aug 2019 09:27:05 GMT"), ("ratelimit", "\"default\";r=0;t=5")];
    assert_eq!(said(429, &refused), ["default 0/- t=5 w=-"]);
    assert_eq!(resource(&map(&refused)).as_deref(), Some("default"));
    assert_eq!(asked(&map(&refused), NOW).map(|a| (a.wait.as_secs(), a.from.as_str())), Some((5, "retry-after")));
    let which = map(&[("ratelimit", "\"burst\";r=0;t=5, \"daily\";r=0;t=80000, \"hourly\";r=3;t=90000")]);
    assert_eq!(resource(&which).as_deref(), Some("daily"));
    assert_eq!(reset(&which, NOW), Some(Duration::from_secs(80_000)));
    assert_eq!(resource(&map(&[("ratelimit", "\"burst\";r=1;t=5")])), None);
    // "Malformed RateLimit header fields MUST be ignored."
    for bad in ["\"default\";r=50;t=30,", "\"default;r=50", "50;t", "\"default\";r=-1;t=3", "\"default\";r=x", "default r=50"] {
        assert_eq!(told(&[("ratelimit", bad)]).len(), 0, "{bad}");
    }
    assert_eq!(told(&[("ratelimit", "\"a\";r=1"), ("ratelimit-policy", "\"a\";;q=9")]), ["a 1/- t=- w=-"]);
}

/// Drafts 03 to 05 (*RateLimit-Limit*, *Examples*).
#[test]
fn ietf_drafts_03_to_05() {
    let three = |limit, left, reset| [("ratelimit-limit", limit), ("ratelimit-remaining", left), ("ratelimit-reset", reset)];
    assert_eq!(told(&three("100", "50", "50")), ["- 50/100 t=50 w=-"]);
    assert_eq!(told(&three("100, 100;w=60", "60", "58")), ["- 60/100 t=58 w=60"]);
    assert_eq!(told(&three("10, 10;w=1;burst=1000, 1000;w=3600", "1", "1")), ["- 1/10 t=1 w=1", "- 1000/1000 t=- w=3600"]);
    // Dynamic limits: the server lowered the one policy that it has.
    assert_eq!(told(&three("10, 100;w=60", "9", "50")), ["- 9/10 t=50 w=60"]);
    assert_eq!(told(&three("500, 100;w=60", "9", "50")), ["- 9/500 t=50 w=-", "- 100/100 t=- w=60"]);
    assert_eq!(told(&three("0, 15;w=20", "0", "20")), ["- 0/- t=20 w=20"]);
    assert_eq!(told(&three("5000, 1000;w=3600, 5000;w=86400", "100", "36000")), ["- 100/5000 t=36000 w=86400", "- 1000/1000 t=- w=3600"]);
    // Not structured, read all the same.
    assert_eq!(told(&three("100,", "50", "50")), ["- 50/100 t=50 w=-"]);
}

/// Drafts 06 (three fields, policies in a fourth) and 07 (one dictionary).
#[test]
fn ietf_drafts_06_and_07() {
    let six = [("ratelimit-limit", "100"), ("ratelimit-policy", "100;w=60"), ("ratelimit-remaining", "99"), ("ratelimit-reset", "50")];
    assert_eq!(told(&six), ["- 99/100 t=50 w=60"]);
    let seven = [("ratelimit", "limit=100, remaining=50, reset=5"), ("ratelimit-policy", "100;w=10")];
    assert_eq!(told(&seven), ["- 50/100 t=5 w=10"]);
    let dynamic = [("ratelimit", "limit=10, remaining=9, reset=50"), ("ratelimit-policy", "100;w=60")];
    assert_eq!(told(&dynamic), ["- 9/10 t=50 w=60"]);
    let two = [("ratelimit", "limit=5000, remaining=100, reset=36000"), ("ratelimit-policy", "1000;w=3600, 5000;w=86400")];
    assert_eq!(told(&two), ["- 100/5000 t=36000 w=86400", "- 1000/1000 t=- w=3600"]);
    // *Missing Remaining information*.
    assert_eq!(told(&[("ratelimit", "limit=10, reset=1")]), ["- 10/10 t=1 w=-"]);
    let lines = [
        ("ratelimit-policy", "100;w=60, 10000;w=86400"),
        ("ratelimit", "limit=100, remaining=50, reset=30"),
        ("ratelimit", "limit=10000, remaining=90, reset=200"),
    ];
    assert_eq!(told(&lines), ["- 50/100 t=30 w=60", "- 90/10000 t=200 w=86400"]);
    assert_eq!(told(&[("ratelimit-policy", "10;w=1, 10;w=60")]), ["- 10/10 t=- w=1", "- 10/10 t=- w=60"]);
    assert_eq!(said(429, &[("ratelimit", "limit=100, remaining=0, reset=5")]), ["- 0/100 t=5 w=-"]);
}

/// OpenAI docs, *Rate limits*, "Rate limits in headers": the column of sample values.
#[test]
fn openai() {
    let lines = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    assert_eq!(told(&lines), ["- 59/60 t=1 w=-", "- 149984/150000 t=360 w=- other"]);
    assert_eq!(told(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "12ms")]), ["- 0/- t=0.012 w=-"]);
    // A refusal for want of requests does not wait for the tokens.
    let refused = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    assert_eq!(reset(&map(&refused), NOW), Some(Duration::from_secs(1)));
    // Microsoft Q&A 5625878: Azure OpenAI where it knows nothing.
    let nothing = [("x-ratelimit-limit-tokens", "-1"), ("x-ratelimit-remaining-tokens", "-1"), ("x-ratelimit-reset-tokens", "0")];
    assert_eq!(told(&nothing).len(), 0);
}

/// Azure docs, *Understand how Azure Resource Manager throttles requests* and *Troubleshooting API throttling errors* (the sample
/// answer to the deletion of a scale set, and the 429).
#[test]
fn azure() {
    assert_eq!(told(&[("x-ms-ratelimit-remaining-subscription-reads", "11999")]), ["subscription-reads 11999/- t=- w=-"]);
    let entities = [("x-ms-ratelimit-remaining-subscription-resource-entities-read", "8")];
    assert_eq!(told(&entities), ["subscription-resource-entities-read 8/- t=- w=- other"]);
    let lines = [
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/DeleteVMScaleSet3Min;107"),
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/DeleteVMScaleSet30Min;587"),
    ];
    let want = ["Microsoft.Compute/DeleteVMScaleSet3Min 107/- t=- w=-", "Microsoft.Compute/DeleteVMScaleSet30Min 587/- t=- w=-"];
    assert_eq!(told(&lines), want);
    let joined = "Microsoft.Compute/DeleteVMScaleSet3Min;107,Microsoft.Compute/DeleteVMScaleSet30Min;587";
    assert_eq!(told(&[("x-ms-ratelimit-remaining-resource", joined)]), want);
    let refused = [
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/HighCostGet3Min;46"),
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/HighCostGet30Min;0"),
        ("retry-after", "1200"),
    ];
    assert_eq!(said(429, &refused), ["Microsoft.Compute/HighCostGet30Min 0/- t=- w=-"]);
    assert_eq!(resource(&map(&refused)).as_deref(), Some("Microsoft.Compute/HighCostGet30Min"));
}

/// Docker docs, *Docker Hub pull usage and limits*, "View pull rate and limit"; a sliding window.
#[test]
fn docker_hub() {
    let lines = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "20;w=21600"), ("docker-ratelimit-source", "192.0.2.1")];
    assert_eq!(told(&lines), ["- 20/100 t=- w=21600"]);
    assert!(exhausted(&map(&[("ratelimit-remaining", "0;w=21600")])));
}

/// Kong docs, *Rate Limiting*, "Headers sent to the client"; WHOOP docs, *API Rate Limiting* (a list under the older name).
#[test]
fn kong_and_lists_under_the_older_name() {
    let lines = [
        ("ratelimit-limit", "6"),
        ("ratelimit-remaining", "4"),
        ("ratelimit-reset", "47"),
        ("x-ratelimit-limit-second", "5"),
        ("x-ratelimit-remaining-second", "4"),
        ("x-ratelimit-limit-minute", "10"),
        ("x-ratelimit-remaining-minute", "9"),
    ];
    assert_eq!(told(&lines), ["- 4/6 t=47 w=-", "- 4/5 t=- w=1", "- 9/10 t=- w=60"]);
    let whoop =
        [("x-ratelimit-limit", "100, 100;window=60, 10000;window=86400"), ("x-ratelimit-remaining", "98"), ("x-ratelimit-reset", "3")];
    assert_eq!(told(&whoop), ["- 98/100 t=3 w=60", "- 10000/10000 t=- w=86400"]);
}

/// The draft, *Caching*; RFC 9111 5.1.
#[test]
fn a_cached_answer_tells_no_quota() {
    let with_age = |age| told(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "5"), ("age", age)]);
    assert_eq!(with_age("1").len(), 0);
    for fresh in ["0", "junk", "-5", ""] {
        assert_eq!(with_age(fresh), ["- 3/- t=5 w=-"], "{fresh}");
    }
}

#[test]
fn absurd_values_are_ignored_or_capped() {
    let with = |limit, left, reset| told(&[("x-ratelimit-limit", limit), ("x-ratelimit-remaining", left), ("x-ratelimit-reset", reset)]);
    assert_eq!(with("100", "99999999999999999999999999", "5"), ["- 100/100 t=5 w=-"]);
    assert_eq!(with("1e9", "99999999999999999999999999", "5"), ["- 1000000000000000/- t=5 w=-"]);
    assert_eq!(with("99999999999999999999999999", "7", "5"), ["- 7/1000000000000000 t=5 w=-"]);
    for none in ["-1", "inf", "NaN", "", "never", "31708800", "9999999999999"] {
        assert_eq!(with("100", "7", none), ["- 7/100 t=- w=-"], "{none}");
    }
    assert_eq!(with("100", "7", "1300000000"), ["- 7/100 t=0 w=-"], "a time that has passed");
    assert_eq!(with("100", "-7", "junk").len(), 0, "a limit without window or reset says nothing");
    assert_eq!(with("0", "0", "junk").len(), 0, "as some write no limit");
    assert_eq!(told(&[("ratelimit-policy", "\"a\";q=5;w=0, \"b\";q=5;w=99999999999")]).len(), 0);
    assert_eq!(with("0", "7", "5"), ["- 7/- t=5 w=-"], "a limit that contradicts what is left");
    assert_eq!(with("60, 5000", "59, 4999", "3, 7"), ["- 59/60 t=7 w=-"], "the tightest of several");
    let long = "x".repeat(101);
    for odd in ["caf\u{e9}", " ", long.as_str()] {
        assert_eq!(told(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-resource", odd)]), ["- 1/- t=- w=-"], "{odd}");
    }
    let many = (0..100).map(|i| format!("\"p{i}\";r={i}")).collect::<Vec<_>>().join(",");
    assert_eq!(told(&[("ratelimit", &many)]).len(), MOST_QUOTAS);
    let twice = [("x-ratelimit-remaining", "3"), ("ratelimit-remaining", "3")];
    assert_eq!(told(&twice), ["- 3/- t=- w=-"], "told twice is told once");
}

const FIELDS: [&str; 33] = [
    "date",
    "age",
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "stripe-should-retry",
    "x-github-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-used",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-resource",
    "x-ratelimit-bucket",
    "x-ratelimit-scope",
    "x-ratelimit-global",
    "x-rate-limit-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "ratelimit-resettime",
    "ratelimit-name",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-tokens",
    "x-ms-ratelimit-remaining-resource",
    "x-ms-ratelimit-remaining-subscription-reads",
    "x-shopify-shop-api-call-limit",
    "x-ratelimit-remaining-minute",
];

/// Any bytes that a header may have, and texts close to what the dialects read.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let near = "[-0-9.,;:/=\"a-z ()?@%\\\\]{0,40}";
    let number =
        prop_oneof!["[0-9]{1,400}", "[0-9]{1,20}[.][0-9]{1,20}", "-?[0-9]{1,16}", "[0-9]{1,20}(ms|s|m|h|d)", "[0-9]{1,9}/[0-9]{1,9}"];
    let item = "(\"[a-z]{0,4}\"|[a-z]{1,4}|[0-9]{1,15})(;(q|qu|w|pk|r|t|window)(=(-?[0-9]{1,15}|[0-9]{1,12}[.][0-9]{1,3}|\"[a-z]{1,9}\"|:[A-Za-z0-9]{0,8}=?=?:))?){0,4}";
    let triple = "(limit|remaining|reset)=[0-9]{1,15}(, ?(limit|remaining|reset)=-?[0-9]{1,15}){0,2}";
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        near.prop_map(String::into_bytes),
        number.prop_map(String::into_bytes),
        proptest::collection::vec(item, 1..5).prop_map(|items| items.join(", ").into_bytes()),
        triple.prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a server sends: no panic, and every value within its bounds.
    #[test]
    fn any_bytes_are_read_without_panic_and_within_bounds(
        lines in proptest::collection::vec((0..FIELDS.len(), text()), 0..12),
        body in proptest::collection::vec(any::<u8>(), 0..80),
        status in prop_oneof![Just(200u16), Just(403), Just(429)],
        wall in prop_oneof![any::<i64>(), Just(NOW.0)],
    ) {
        let mut h = HeaderMap::new();
        for (field, bytes) in &lines {
            if let Ok(v) = HeaderValue::from_bytes(bytes) {
                h.append(HeaderName::from_static(FIELDS[*field]), v);
            }
        }
        let wall = Wall(wall);
        let all = quotas(status, &h, wall);
        prop_assert!(all.len() <= MOST_QUOTAS);
        for q in &all {
            prop_assert!(q.remaining.is_finite() && (0.0..=MOST).contains(&q.remaining), "{q:?}");
            prop_assert!(q.limit != Some(0), "{q:?}");
            #[allow(clippy::cast_precision_loss, reason = "at most 10^15")]
            let within = q.limit.is_none_or(|limit| q.remaining <= limit as f64);
            prop_assert!(within, "{q:?}");
            prop_assert!(q.reset.is_none_or(|d| d <= LONGEST_WINDOW), "{q:?}");
            prop_assert!(q.window.is_none_or(|d| !d.is_zero() && d <= LONGEST_WINDOW), "{q:?}");
            prop_assert!(status != 429 || q.remaining < 1.0, "{q:?}");
            prop_assert!(q.resource.as_ref().is_none_or(|r| (1..=100).contains(&r.len()) && r.is_ascii()), "{q:?}");
        }
        let waits = [asked(&h, wall).map(|a| a.wait), retry_after(&h, wall), reset(&h, wall), asked_in_body(&body)];
        prop_assert!(waits.into_iter().flatten().all(|w| w <= LONGEST));
        let _ = (exhausted(&h), scope(&h), resource(&h), should_retry(&h));
    }
}
