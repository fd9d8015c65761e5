//! Paging by behaviour: styles, stops, circles.

use super::*;

fn plan(next: NextPage, param: Option<&str>, stop: Vec<StopRule>) -> PagesPlan {
    PagesPlan { next, param: param.map(|p| PageParam::Query(p.into())), first: 1, size: None, stop }
}

struct Run {
    pager: Pager,
    entry: Url,
    state: PageState,
}

impl Run {
    fn new(plan: &PagesPlan) -> Self {
        let (pager, entry) = (Pager::new(plan).unwrap(), Url::parse("http://h/items?q=a+b&x=%2f").unwrap());
        let state = pager.first(&entry);
        Self { pager, entry, state }
    }

    fn url(&self) -> String {
        self.pager.request(&self.entry, &self.state).url.into()
    }

    /// One page: JSON body, Link header, items. The end's reason and rows kept, or "more".
    fn page(&mut self, body: &str, headers: &[(&'static str, &str)], items: &[&str]) -> (&'static str, u64) {
        let doc = json::read(body).unwrap();
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.append(*k, v.parse().unwrap());
        }
        let url = Url::parse(&self.url()).unwrap();
        let facts = PageFacts {
            url: &url,
            headers: &map,
            json: Some(&doc.value),
            rows: items.len() as u64,
            empty: items.is_empty(),
            fingerprint: items.join("|"),
        };
        let paged = self.pager.step(&self.state, &facts).unwrap();
        let why = match paged.step {
            PageStep::More(state) => {
                // What a kill leaves is what a resume reads.
                self.state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
                assert_eq!(self.state, state);
                "more"
            }
            PageStep::End { why, warning, drop_rows } => {
                assert_eq!(drop_rows, why == "repeated-page");
                assert_eq!(warning.is_some(), why.starts_with("repeated") || why == "bad-next");
                why
            }
        };
        (why, paged.keep)
    }
}

#[test]
fn page_numbers_count_up_and_an_empty_page_ends() {
    let mut r = Run::new(&PagesPlan { size: Some(("n".into(), 2)), ..plan(NextPage::Page, Some("p"), vec![]) });
    assert_eq!(r.url(), "http://h/items?q=a+b&x=%2f&n=2&p=1");
    assert_eq!(r.page("1", &[], &["a", "b"]), ("more", 2));
    assert_eq!(r.url(), "http://h/items?q=a+b&x=%2f&n=2&p=2");
    assert_eq!(r.page("1", &[], &["c"]), ("more", 1));
    assert_eq!(r.page("1", &[], &[]), ("empty", 0));
    let zero = Run::new(&PagesPlan { first: 0, ..plan(NextPage::Page, None, vec![]) });
    assert_eq!(zero.url(), "http://h/items?q=a+b&x=%2f&page=0");
}

#[test]
fn offsets_move_by_the_rows_received() {
    let mut r = Run::new(&PagesPlan { first: 0, size: Some(("limit".into(), 100)), ..plan(NextPage::Offset, None, vec![]) });
    assert!(r.url().ends_with("&limit=100&offset=0"));
    assert_eq!(r.page("1", &[], &["a", "b", "c"]), ("more", 3));
    assert!(r.url().ends_with("&offset=3"));
    assert_eq!(r.page("1", &[], &[]), ("empty", 0));
    let mut stuck = Run::new(&PagesPlan { first: 0, ..plan(NextPage::Offset, None, vec![StopRule::Total(".t".into())]) });
    assert_eq!(stuck.page("{\"t\": 9}", &[], &[]).0, "repeated-cursor");
}

#[test]
fn the_newest_total_counts_also_as_text() {
    let mut r = Run::new(&PagesPlan { first: 0, ..plan(NextPage::Offset, None, vec![StopRule::Total(".t".into())]) });
    assert_eq!(r.page("{\"t\": 100}", &[], &["a", "b"]).0, "more");
    assert_eq!(r.page("{\"t\": \"4\"}", &[], &["c", "d"]).0, "total");
    let mut p = Run::new(&plan(NextPage::Page, None, vec![StopRule::Total(".t".into())]));
    assert_eq!(p.page("{\"t\": 2}", &[], &[]).0, "more");
    assert_eq!(p.page("{}", &[], &["a", "b"]).0, "total");
}

#[test]
fn has_more_ends_on_false_null_and_absence() {
    for (body, why) in [
        ("{\"m\":true}", "more"),
        ("{\"m\":1}", "more"),
        ("{\"m\":false}", "has-more"),
        ("{}", "has-more"),
        ("{\"m\":\"false\"}", "has-more"),
        ("{\"m\":0}", "has-more"),
    ] {
        let mut r = Run::new(&plan(NextPage::Page, None, vec![StopRule::HasMore(".m".into())]));
        assert_eq!(r.page(body, &[], &["a"]).0, why, "{body}");
    }
}

#[test]
fn max_cuts_the_surplus_rows_of_the_last_page() {
    let mut r = Run::new(&plan(NextPage::Page, None, vec![StopRule::Max(5)]));
    assert_eq!(r.page("1", &[], &["a", "b", "c"]), ("more", 3));
    assert_eq!(r.page("1", &[], &["d", "e", "f"]), ("max", 2));
    let mut short = Run::new(&plan(NextPage::Page, None, vec![StopRule::Max(5)]));
    assert_eq!(short.page("1", &[], &[]).0, "empty");
}

#[test]
fn link_headers_are_followed_as_given() {
    let mut r = Run::new(&PagesPlan { size: Some(("n".into(), 2)), ..plan(NextPage::Link, None, vec![]) });
    assert_eq!(r.url(), "http://h/items?q=a+b&x=%2f&n=2");
    let link = "<?page=2&y=%2f>; rel=\"next\", <z>; rel=last";
    assert_eq!(r.page("1", &[("link", link)], &["a"]).0, "more");
    assert_eq!(r.url(), "http://h/items?page=2&y=%2f");
    assert_eq!(r.page("1", &[("link", "<z>; rel=last")], &["b"]).0, "no-next");
}

#[test]
fn json_gives_a_token_with_param_and_an_address_without() {
    let mut token = Run::new(&PagesPlan { size: Some(("n".into(), 2)), ..plan(NextPage::Json(".next".into()), Some("cursor"), vec![]) });
    assert_eq!(token.page("{\"next\":\"a b/+=\"}", &[], &["a"]).0, "more");
    assert_eq!(token.url(), "http://h/items?q=a+b&x=%2f&n=2&cursor=a%20b%2F%2B%3D");
    assert_eq!(token.page("{\"next\":123456789012345678901234567890}", &[], &[]).0, "more");
    assert!(token.url().ends_with("cursor=123456789012345678901234567890"));
    for end in ["{\"next\":null}", "{}", "{\"next\":false}", "{\"next\":\"\"}"] {
        let mut r = Run::new(&plan(NextPage::Json(".next".into()), Some("c"), vec![]));
        assert_eq!(r.page(end, &[], &["a"]).0, "no-next", "{end}");
    }
    let mut address = Run::new(&plan(NextPage::Json(".next".into()), None, vec![]));
    assert_eq!(address.page("{\"next\":\"/p2?a=%41#f\"}", &[], &["a"]).0, "more");
    assert_eq!(address.url(), "http://h/p2?a=%41");
    for bad in ["{\"next\":\"ftp://h/\"}", "{\"next\":\"http://\"}", "{\"next\":{}}"] {
        let mut r = Run::new(&plan(NextPage::Json(".next".into()), None, vec![]));
        assert_eq!(r.page(bad, &[], &["a"]).0, "bad-next", "{bad}");
    }
}

#[test]
fn tokens_go_into_headers_and_bodies() {
    let mut r =
        Run::new(&PagesPlan { param: Some(PageParam::Header("X-Cursor".into())), ..plan(NextPage::Header("X-Next".into()), None, vec![]) });
    assert_eq!(r.page("1", &[("x-next", " t ")], &["a"]).0, "more");
    assert_eq!(r.pager.request(&r.entry, &r.state).headers, [("X-Cursor".to_owned(), "t".to_owned())]);
    assert_eq!(r.url(), "http://h/items?q=a+b&x=%2f");
    let body = PageParam::Json(vec!["variables".into(), "after".into()]);
    let mut r = Run::new(&PagesPlan { param: Some(body), ..plan(NextPage::Json(".end".into()), None, vec![]) });
    assert_eq!(r.page("{\"end\":{\"k\":1}}", &[], &["a"]).0, "more");
    assert_eq!(r.pager.request(&r.entry, &r.state).body_set, Some((vec!["variables".into(), "after".into()], serde_json::json!({"k": 1}))));
}

#[test]
fn a_repeated_page_or_cursor_ends_the_paging() {
    let mut page = Run::new(&plan(NextPage::Page, None, vec![]));
    assert_eq!(page.page("1", &[], &["a", "b"]), ("more", 2));
    assert_eq!(page.page("1", &[], &["a", "b"]), ("repeated-page", 0));
    let mut cursor = Run::new(&plan(NextPage::Json(".n".into()), Some("c"), vec![]));
    assert_eq!(cursor.page("{\"n\":\"x\"}", &[], &["a"]).0, "more");
    assert_eq!(cursor.page("{\"n\":\"y\"}", &[], &["b"]).0, "more");
    assert_eq!(cursor.page("{\"n\":\"x\"}", &[], &["c"]), ("repeated-cursor", 1));
    let mut home = Run::new(&plan(NextPage::Link, None, vec![]));
    assert_eq!(home.page("1", &[("link", "</items?q=a+b&x=%2f>; rel=next")], &["a"]), ("repeated-cursor", 1));
}

#[test]
fn empty_pages_repeat_only_if_the_cursor_does() {
    let mut r = Run::new(&plan(NextPage::Json(".n".into()), Some("c"), vec![]));
    assert_eq!(r.page("{\"n\":\"x\"}", &[], &[]).0, "more");
    assert_eq!(r.page("{\"n\":\"y\"}", &[], &[]).0, "more");
    assert_eq!(r.page("{\"n\":\"y\"}", &[], &[]).0, "repeated-page");
    let mut named = Run::new(&plan(NextPage::Json(".n".into()), Some("c"), vec![StopRule::Empty]));
    assert_eq!(named.page("{\"n\":\"x\"}", &[], &[]).0, "empty");
}

#[test]
fn the_state_stays_small() {
    let mut r = Run::new(&plan(NextPage::Json(".n".into()), Some("c"), vec![]));
    for i in 0..200 {
        assert_eq!(r.page(&format!("{{\"n\":\"c{i}\"}}"), &[], &[&i.to_string()]).0, "more");
    }
    assert!(serde_json::to_string(&r.state).unwrap().len() < 2_000);
    assert_eq!((r.state.pages, r.state.rows), (200, 200));
}

#[test]
fn wrong_filters_are_all_named_and_failing_ones_fail_the_page() {
    let bad = PagesPlan {
        param: Some(PageParam::Header("a b".into())),
        ..plan(NextPage::Json("(".into()), None, vec![StopRule::Empty, StopRule::Total("nosuch".into()), StopRule::HasMore("[".into())])
    };
    let keys: Vec<String> = Pager::new(&bad).err().unwrap().into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["pages.next", "pages.stop[1]", "pages.stop[2]", "pages.param"]);
    let pager = Pager::new(&plan(NextPage::Json(".a.b".into()), Some("c"), vec![])).unwrap();
    let (url, headers, doc) = (Url::parse("http://h/").unwrap(), HeaderMap::new(), json::read("{\"a\":1}").unwrap());
    let facts = PageFacts { url: &url, headers: &headers, json: Some(&doc.value), rows: 1, empty: false, fingerprint: "x".into() };
    assert_eq!(pager.step(&PageState::default(), &facts).err().unwrap().reason, Reason::BadJson);
}

#[test]
fn a_query_parameter_is_set_and_the_rest_left_as_written() {
    for (before, after) in [
        ("http://h/?p=1&x=%2f&p=2", "http://h/?p=9&x=%2f"),
        ("http://h/", "http://h/?p=9"),
        ("http://h/?", "http://h/?p=9"),
        ("http://h/?%70=1&p+p=3", "http://h/?p=9&p+p=3"),
    ] {
        let mut url = Url::parse(before).unwrap();
        set_query(&mut url, "p", "9");
        assert_eq!(url.as_str(), after);
    }
}

#[test]
fn a_restart_begins_anew_and_knows_what_was_delivered() {
    let mut r = Run::new(&PagesPlan { stop: vec![StopRule::Max(5)], ..plan(NextPage::Json(".next".into()), Some("c"), vec![]) });
    assert_eq!(r.page("{\"next\":\"t1\"}", &[], &["a", "b"]), ("more", 2));
    assert_eq!(r.page("{\"next\":\"t2\"}", &[], &["c"]), ("more", 1));
    assert!(r.url().ends_with("c=t2") && !r.state.is_delivered());
    r.state = r.pager.restart(&r.entry, &r.state);
    assert_eq!((r.url(), r.state.delivered, r.state.restarts), (r.entry.to_string(), 2, 1));
    // The tokens that were seen, and the page before, are no circle now.
    assert!(r.state.is_delivered());
    assert_eq!(r.page("{\"next\":\"t1\"}", &[], &["a", "b"]), ("more", 2));
    assert!(r.state.is_delivered());
    // One that comes before all of that is seen again does not forget it.
    r.state = r.pager.restart(&r.entry, &r.state);
    assert_eq!((r.state.pages, r.state.delivered, r.state.restarts), (0, 2, 2));
    assert_eq!(r.page("{\"next\":\"u1\"}", &[], &["a", "b"]), ("more", 2));
    assert_eq!(r.page("{\"next\":\"u2\"}", &[], &["c"]), ("more", 1));
    assert!(!r.state.is_delivered());
    assert_eq!(r.page("{\"next\":\"u3\"}", &[], &["d", "e", "f"]), ("max", 2), "rows count from the first page");
    // A state of an earlier version.
    let old: PageState = serde_json::from_str("{\"pages\":2}").unwrap();
    assert_eq!((old.delivered, old.restarts), (0, 0));
}
