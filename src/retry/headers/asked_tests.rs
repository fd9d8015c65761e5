use super::super::LONGEST;
use super::*;

/// Wed, 21 Oct 2015 07:28:00 GMT.
const NOW: Wall = Wall(1_445_412_480_000);

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut h = HeaderMap::new();
    for (n, v) in lines {
        h.append(*n, v.parse().unwrap());
    }
    h
}

fn wait(lines: &[(&'static str, &str)]) -> Option<f64> {
    asked(&map(lines), NOW).map(|a| a.wait.as_secs_f64())
}

#[test]
fn retry_after_is_read_in_every_dress() {
    for (text, secs) in [
        ("120", 120.0),
        (" 2.0 ", 2.0),
        ("0", 0.0),
        ("6m0s", 360.0),
        ("500ms", 0.5),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),
        ("Wed Oct 21 07:29:00 2015", 60.0),
        ("Wed, 21 Oct 2015 07:29:00 +0000", 60.0),
        ("2015-10-21T07:29:00Z", 60.0),
        ("1445412490", 10.0),
        ("1445412490000", 10.0),
        ("5, 7, x", 7.0),
        ("Wed, 21 Oct 2015 07:29:00 GMT, 5", 60.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("1300000000", 0.0),
    ] {
        assert_eq!(wait(&[("retry-after", text)]), Some(secs), "{text}");
    }
    assert_eq!(wait(&[("retry-after-ms", "1500")]), Some(1.5));
    assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "1500")]), Some(1.5));
    assert_eq!(wait(&[("retry-after", "3"), ("retry-after", "9")]), Some(9.0));
}

#[test]
fn junk_is_no_header_and_absurd_is_ten_years() {
    for text in ["", "inf", "-inf", "NaN", "nan", "-5", "soon", "1e400", "1e5", "+5", ".", "1.2.3", "0x10", ",", "12 apples", ":"] {
        assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
    }
    for text in ["99999999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "999999999d", "999999999"] {
        assert_eq!(wait(&[("retry-after", text)]), Some(LONGEST.as_secs_f64()), "{text}");
    }
}

#[test]
fn dates_and_epochs_are_read_by_the_servers_own_clock() {
    let ahead = ("date", "Wed, 21 Oct 2015 08:28:00 GMT");
    assert_eq!(wait(&[ahead, ("retry-after", "Wed, 21 Oct 2015 08:28:30 GMT")]), Some(30.0));
    assert_eq!(wait(&[ahead, ("x-ratelimit-reset", "1445416090")]), Some(10.0));
    assert_eq!(wait(&[ahead, ("retry-after", "30")]), Some(30.0));
    assert_eq!(wait(&[("date", "yesterday"), ("retry-after", "1445412490")]), Some(10.0));
}

#[test]
fn resets_count_where_there_is_no_retry_after() {
    let reset = asked(&map(&[("x-ratelimit-reset", "1445412540")]), NOW).unwrap();
    assert_eq!((reset.wait.as_secs(), reset.from), (60, WaitFrom::Reset));
    let both = asked(&map(&[("x-ratelimit-reset", "1445412540"), ("retry-after", "5")]), NOW).unwrap();
    assert_eq!((both.wait.as_secs(), both.from.as_str()), (5, "retry-after"));
    for (name, text, secs) in [
        ("x-rate-limit-reset", "1445412490", 10.0),
        ("ratelimit-reset", "30", 30.0),
        ("x-ratelimit-reset", "583.5", 583.5),
        ("x-ratelimit-reset-after", "64.57", 64.57),
        ("x-ratelimit-reset-requests", "6m0s", 360.0),
        ("ratelimit", "\"burst\";r=0;t=5, \"daily\";r=900;t=80000", 5.0),
        ("ratelimit", "\"burst\";r=3;t=5, \"daily\";r=9;t=80000", 5.0),
        ("ratelimit", "limit=100, remaining=0, reset=7", 7.0),
    ] {
        assert_eq!(wait(&[(name, text)]), Some(secs), "{name}: {text}");
    }
    assert_eq!(wait(&[("x-ratelimit-reset", "1445412490"), ("x-ratelimit-reset-after", "64")]), Some(64.0));
    for past in ["1445412470", "0", "1300000000000", "never"] {
        assert_eq!(wait(&[("x-ratelimit-reset", past)]), None, "{past}");
    }
}

#[test]
fn nothing_left_is_told_in_three_spellings() {
    for (name, text, yes) in [
        ("x-ratelimit-remaining", "0", true),
        ("x-ratelimit-remaining", "0.0", true),
        ("ratelimit-remaining", "0", true),
        ("x-rate-limit-remaining", "1", false),
        ("x-ratelimit-remaining", "none", false),
    ] {
        assert_eq!(exhausted(&map(&[(name, text)])), yes, "{name}: {text}");
    }
}

/// GitHub docs, *Rate limits for the REST API*, "Exceeding the rate limit": `retry-after` first; with nothing left the reset;
/// "otherwise, wait for at least one minute".
#[test]
fn githubs_secondary_limit_waits_a_minute_and_holds_the_key() {
    let github = |left: &'static str, more: &[(&'static str, &str)]| {
        let mut lines = vec![
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", left),
            ("x-ratelimit-used", "1"),
            ("x-ratelimit-reset", "1445414280"),
            ("x-ratelimit-resource", "core"),
        ];
        lines.extend_from_slice(more);
        map(&lines)
    };
    let said = |h: &HeaderMap| asked(h, NOW).map(|a| (a.wait.as_secs(), a.from.as_str()));
    assert_eq!(said(&github("4999", &[])), Some((60, "backoff")));
    assert_eq!(said(&github("4999", &[("retry-after", "7")])), Some((7, "retry-after")));
    assert_eq!(said(&github("0", &[])), Some((1800, "reset")));
    assert_eq!(said(&map(&[("x-github-request-id", "C0DE:1"), ("x-ratelimit-remaining", "3")])), Some((60, "backoff")));
    assert_eq!(said(&map(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "9")])), Some((9, "reset")), "not GitHub");
    assert_eq!((scope(&github("4999", &[])), scope(&github("0", &[]))), (Scope::Key, Scope::Shared));
    assert_eq!(scope(&map(&[("retry-after", "3")])), Scope::Key);
}

/// Discord docs, *Rate Limits*, "Rate Limit Response Structure" and its examples.
#[test]
fn a_bodys_retry_after_is_seconds_as_a_number_in_an_object() {
    let read = |text: &str| asked_in_body(text.as_bytes()).map(|d| d.as_secs_f64());
    let user = "{\n  \"message\": \"You are being rate limited.\",\n  \"retry_after\": 64.57,\n  \"global\": false\n}";
    assert_eq!(read(user), Some(64.57));
    assert_eq!(read("{\"message\": \"The resource is being rate limited.\", \"retry_after\": 1336.57, \"global\": false}"), Some(1336.57));
    assert_eq!(read("{\"retry_after\": 0}"), Some(0.0));
    assert_eq!(read("{\"retry_after\": 1e300}"), Some(LONGEST.as_secs_f64()));
    for none in [
        "",
        "{}",
        "[{\"retry_after\": 1}]",
        "{\"error\": {\"retry_after\": 1}}",
        "{\"retry_after\": \"64\"}",
        "{\"retry_after\": null}",
        "{\"retry_after\": -1}",
        "{\"retry_after\": 1e999}",
        "{\"retry_after\": NaN}",
        "{\"retry_after\": 5",
    ] {
        assert_eq!(read(none), None, "{none}");
    }
    assert_eq!(read(&format!("{{\"retry_after\": 5, \"x\": \"{}\"}}", "x".repeat(LONGEST_BODY))), None);
    assert_eq!(read(&format!("{{\"retry_after\": {}", "[".repeat(10_000))), None);
}

/// stripe-node pull request 692 and its kin: the header overrides any guess from the status.
#[test]
fn stripe_says_whether_to_retry() {
    for (text, want) in [("true", Some(true)), ("false", Some(false)), (" True", Some(true)), ("yes", None), ("", None)] {
        assert_eq!(should_retry(&map(&[("stripe-should-retry", text)])), want, "{text}");
    }
    assert_eq!(should_retry(&map(&[])), None);
}

#[test]
fn of_the_limits_with_nothing_left_the_longest_reset_counts() {
    let lines = [("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", "3000"), ("ratelimit", "\"burst\";r=0;t=5, \"b\";r=0;t=9")];
    assert_eq!(wait(&lines), Some(9.0));
    assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0"), ("ratelimit", "\"day\";r=3;t=900")]), None);
    assert_eq!(wait(&[("ratelimit-remaining", "0;w=60"), ("ratelimit-reset", "7")]), Some(7.0));
}
