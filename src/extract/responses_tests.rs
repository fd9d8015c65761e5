use super::*;
use http::{HeaderName, HeaderValue};
use url::Url;

/// An answer under construction.
struct Case {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn answer(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Case {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert("content-type", kind.parse().unwrap());
    }
    Case { status, headers, body: body.into() }
}

impl Case {
    fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn find(&self, rules: &[ResponsePlan]) -> Option<usize> {
        self.within(rules, &|| false).unwrap()
    }

    fn within(&self, rules: &[ResponsePlan], late: &dyn Fn() -> bool) -> Result<Option<usize>, Late> {
        let url = Url::parse("https://example.com/x").unwrap();
        let rules = Responses::compile(rules).unwrap();
        let by_head = rules.by_head(self.status, &self.headers);
        let found = rules.find(&Page { deadline: late, ..Page::new(&url, self.status, &self.headers, &self.body) });
        if let (ByHead::Rule(by_head), Ok(found)) = (by_head, found) {
            assert_eq!(by_head, found, "the head alone says otherwise");
        }
        found
    }

    fn fits(&self, rule: ResponsePlan) -> bool {
        self.find(&[rule]).is_some()
    }
}

fn any() -> ResponsePlan {
    ResponsePlan::default()
}

fn status(from: u16, to: u16) -> ResponsePlan {
    ResponsePlan { statuses: vec![(from, to)], ..any() }
}

fn header(name: &str, pattern: Option<&str>) -> ResponsePlan {
    ResponsePlan { header: Some((name.into(), pattern.map(str::to_owned))), ..any() }
}

fn body(pattern: &str) -> ResponsePlan {
    ResponsePlan { body: Some(pattern.into()), ..any() }
}

fn selector(css: &str) -> ResponsePlan {
    ResponsePlan { selector: Some(css.into()), ..any() }
}

fn json(filter: &str) -> ResponsePlan {
    ResponsePlan { json: Some(filter.into()), ..any() }
}

#[test]
fn statuses_match_by_their_ranges() {
    let rule = || ResponsePlan { statuses: vec![(200, 200), (500, 599)], ..any() };
    for (n, fits) in [(200, true), (201, false), (499, false), (500, true), (599, true), (600, false)] {
        assert_eq!(answer(n, "", "").fits(rule()), fits, "{n}");
    }
}

#[test]
fn headers_match_by_being_there_or_by_any_of_their_lines() {
    let a = answer(200, "", "").with("x-error", b"fine").with("x-error", b"Quota exceeded \xe4");
    assert!(a.fits(header("x-error", None)) && a.fits(header("x-error", Some("^Quota"))) && a.fits(header("x-error", Some("fin"))));
    assert!(!a.fits(header("x-error", Some("^exceeded"))) && !a.fits(header("x-errors", None)));
    assert!(answer(200, "", "").with("x-empty", b"").fits(header("x-empty", None)), "an empty one is there");
}

#[test]
fn patterns_see_the_text_that_extraction_sees() {
    let latin = || answer(200, "text/html; charset=iso-8859-1", b"<p>zu sp\xe4t</p>".to_vec());
    assert!(latin().fits(body("zu spät")) && !latin().fits(body("^zu")));
    assert!(answer(200, "text/html", b"<meta charset=windows-1251>\xef".to_vec()).fits(body("п")), "the page's own label");
    assert!(answer(200, "application/json", b"\xff\xfe{\0}\0".to_vec()).fits(body(r"^\{\}$")), "UTF-16 by its BOM");
    assert!(answer(503, "", " \n").fits(body("^$")), "white space alone is an empty text");
}

#[test]
fn selectors_see_markup_alone() {
    let page = "<!doctype html><title>x</title><div class='a captcha'>";
    assert!(answer(200, "text/html", page).fits(selector("div.captcha")));
    assert!(answer(200, "", page).fits(selector("div.captcha")), "no type, and looks like it");
    assert!(!answer(200, "text/html", page).fits(selector("p.captcha")));
    assert!(!answer(200, "application/json", "{\"a\":\"<div class=captcha>\"}").fits(selector("div.captcha")));
    assert!(!answer(200, "text/html", "").fits(selector(":root")), "an empty body has no root");
    assert!(answer(200, "text/html", "<body><noscript><b>on</b></noscript>").fits(selector("noscript > b")), "scripting is off");
    let deep = "<div>".repeat(600);
    assert!(!answer(200, "text/html", deep).fits(selector("div")), "too deep to be parsed is no match");
}

#[test]
fn filters_match_where_one_of_their_outputs_is_neither_false_nor_null() {
    let a = || answer(200, "application/json", r#"{"ok":false,"error":{"code":"rate_limited"},"all":[{"n":1},{"n":2}],"zero":0}"#);
    for (filter, fits) in [
        (".error.code == \"rate_limited\"", true),
        (".error.code == \"other\"", false),
        (".error", true),
        (".ok", false),
        (".nothing", false),
        (".zero", true),
        (".all[].n == 2", true),
        (".all[].n == 3", false),
        ("empty", false),
        (".ok | not", true),
    ] {
        assert_eq!(a().fits(json(filter)), fits, "{filter}");
    }
}

#[test]
fn a_filter_that_errs_is_no_match() {
    let a = || answer(200, "application/json", r#"{"a":"text","n":[1]}"#);
    for filter in [".a.b", ".a[]", ".a | error", ".n[] , error", "repeat(1)", ".n | test(\"x\")"] {
        assert!(!a().fits(json(filter)), "{filter}");
    }
    assert_eq!(a().find(&[json(".a.b"), json(".a")]), Some(1), "the next rule has its turn");
}

#[test]
fn json_is_read_whatever_its_type_is_and_nothing_else_is_json() {
    for kind in ["application/json", "text/plain", "application/octet-stream", ""] {
        assert!(answer(200, kind, "\u{feff} {\"e\":1}").fits(json(".e")), "{kind}");
    }
    assert!(answer(200, "text/plain", "\"late\"").fits(json(". == \"late\"")), "a bare text");
    assert!(!answer(200, "text/html", "<p>{}</p>").fits(json("true")));
    assert!(!answer(200, "application/json", "{\"a\":").fits(json("true")), "cut off");
    assert!(!answer(204, "application/json", "").fits(json("true")), "no body at all");
}

#[test]
fn everything_that_a_rule_says_has_to_match() {
    let whole = |n: u16| ResponsePlan {
        statuses: vec![(n, n)],
        header: Some(("x-a".into(), None)),
        body: Some("b".into()),
        selector: Some("b".into()),
        json: None,
        ..any()
    };
    let a = || answer(200, "text/html", "<b>b</b>").with("x-a", b"1");
    assert!(a().fits(whole(200)) && !a().fits(whole(201)));
    assert!(!answer(200, "text/html", "<b>b</b>").fits(whole(200)));
    assert!(!answer(200, "text/html", "<i>b</i>").with("x-a", b"1").fits(whole(200)));
    assert!(!answer(200, "text/html", "<b>c</b>").with("x-a", b"1").fits(ResponsePlan { body: Some("d".into()), ..whole(200) }));
    assert!(!answer(200, "text/html", "<b>b</b>").with("x-a", b"1").fits(ResponsePlan { json: Some("true".into()), ..whole(200) }));
}

#[test]
fn the_first_match_wins() {
    let rules = [status(500, 599), ResponsePlan { body: Some("again".into()), ..status(200, 200) }, status(200, 299), any()];
    for (a, want) in [
        (answer(503, "", "again"), 0),
        (answer(200, "", "try again"), 1),
        (answer(200, "", "fine"), 2),
        (answer(201, "", "again"), 2),
        (answer(404, "", ""), 3),
    ] {
        assert_eq!(a.find(&rules), Some(want));
    }
    assert_eq!(answer(404, "", "").find(&rules[..3]), None);
    assert_eq!(answer(404, "", "").find(&[]), None);
}

#[test]
fn the_body_is_asked_for_only_where_a_rule_that_may_be_first_sees_it() {
    let rules = Responses::compile(&[ResponsePlan { body: Some("x".into()), ..status(200, 299) }, status(200, 599)]).unwrap();
    let none = HeaderMap::new();
    assert_eq!(rules.by_head(200, &none), ByHead::Body);
    assert_eq!(rules.by_head(404, &none), ByHead::Rule(Some(1)));
    assert_eq!(rules.by_head(600, &none), ByHead::Rule(None));
}

#[test]
fn a_page_that_takes_too_long_says_so() {
    let late = || true;
    let page = answer(200, "text/html", "<p>".to_owned() + &"x".repeat(20_000));
    assert_eq!(page.within(&[selector("b")], &late), Err(Late));
    let values = answer(200, "application/json", "1");
    assert_eq!(values.within(&[json("repeat(1)")], &late), Err(Late));
    assert_eq!(values.within(&[body("2"), body("1")], &late), Err(Late), "between two rules");
    assert_eq!(values.within(&[body("1")], &late), Ok(Some(0)), "found in time");
}

#[test]
fn rules_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Responses>();
}
