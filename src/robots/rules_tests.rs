use super::*;
use proptest::prelude::*;

/// Whether `agent` may fetch an address, as google's `robots_test.cc` asks.
fn allowed(robots: &str, agent: &str, url: &str) -> bool {
    Rules::parse_for(robots.as_bytes(), agent).allows(&Url::parse(url).unwrap())
}

fn foo(robots: &str, path: &str) -> bool {
    allowed(robots, "FooBot", &format!("http://foo.bar{path}"))
}

fn delay(value: &str) -> (Option<f64>, bool) {
    let r = Rules::parse(format!("user-agent: *\ncrawl-delay: {value}\n").as_bytes());
    (r.crawl_delay().map(|d| d.as_secs_f64()), r.oddities().delay_cut)
}

#[test]
fn simple_cases_and_line_syntax() {
    let robots = "user-agent: FooBot\ndisallow: /\n";
    assert!(allowed("", "FooBot", "http://foo.bar/x/y"));
    assert!(!foo(robots, "/x/y"));
    assert!(allowed(robots, "BarBot", "http://foo.bar/x/y"));
    assert!(foo("foo: FooBot\nbar: /\n", "/x/y"), "unknown keys");
    assert!(foo("user-agent FooBot\ndisallow\n", "/x/y"), "a key without a value");
    assert!(!foo("user-agent FooBot\ndisallow /\n", "/x/y"), "missing colons");
    assert!(foo("user-agent FooBot\ndisallow / x\n", "/x/y"), "missing colon and more than two words");
    for typo in ["dissallow", "dissalow", "disalow", "diasllow", "disallaw", "DISALLOW"] {
        assert!(!foo(&format!("USERAGENT: FooBot\n{typo}: /\n"), "/x"), "{typo}");
        assert!(!foo(&format!("user agent: FooBot\n{typo}\t/\n"), "/x"), "{typo}");
    }
    assert!(foo("disallow: /\nuser-agent: FooBot\n", "/x"), "rules before any group");
}

#[test]
fn groups_share_and_merge_and_other_lines_do_not_end_them() {
    let robots = "allow: /foo/bar/\n\nuser-agent: FooBot\ndisallow: /\nallow: /x/\nuser-agent: BarBot\ndisallow: /\nallow: /y/\n\n\nallow: /w/\nuser-agent: BazBot\n\nuser-agent: FooBot\nallow: /z/\ndisallow: /\n";
    for (agent, path, want) in [
        ("FooBot", "/x/b", true),
        ("FooBot", "/z/d", true),
        ("FooBot", "/y/c", false),
        ("BarBot", "/y/c", true),
        ("BarBot", "/w/a", true),
        ("BarBot", "/z/d", false),
        ("BazBot", "/z/d", true),
        ("FooBot", "/foo/bar/", false),
        ("BarBot", "/foo/bar/", false),
        ("BazBot", "/foo/bar/", false),
    ] {
        assert_eq!(allowed(robots, agent, &format!("http://foo.bar{path}")), want, "{agent} {path}");
    }
    for other in ["Sitemap: https://foo.bar/sitemap", "Invalid-Unknown-Line: unknown", "Crawl-delay: 3"] {
        for (second, foo_allowed) in [("", false), ("\nuser-agent: *", false)] {
            let robots = format!("User-agent: BarBot\n{other}\nUser-agent: FooBot{second}\nDisallow: /\n");
            assert!(!allowed(&robots, "BarBot", "http://foo.bar/"), "{robots}");
            assert_eq!(foo(&robots, "/"), foo_allowed, "{robots}");
        }
    }
}

#[test]
fn agents_are_compared_by_their_token_in_any_case() {
    for agent in ["foobot", "FOO", "FooBot/1.2", "foobot *", "FooBot Images", "FooBot\t#x", "FooBot2"] {
        assert_eq!(foo(&format!("User-Agent: {agent}\nDisallow: /\n"), "/x"), agent == "FOO", "{agent}");
    }
    assert!(!allowed("user-agent: Gleaner/0.1 (+https://x)\ndisallow: /", TOKEN, "http://h/x"));
    assert!(allowed("user-agent: gleaner-news\ndisallow: /", TOKEN, "http://h/x"), "another product");
}

#[test]
fn a_group_of_our_own_replaces_the_one_for_everybody() {
    let robots = "user-agent: *\ndisallow: /\nuser-agent: FooBot\nallow: /\n";
    assert!(foo(robots, "/x/y"));
    assert!(!allowed(robots, "QuxBot", "http://foo.bar/x"));
    assert!(foo("user-agent: FooBot\n\nuser-agent: BarBot\ndisallow: /z\n\nuser-agent: *\ndisallow: /\n", "/x"));
    assert!(!foo("user-agent: * baz\ndisallow: /\n", "/x"), "`*` with words after it");
    assert!(!foo("user-agent: *\nallow: /x\nuser-agent: FooBot\ndisallow: /\nuser-agent: *\nallow: /x", "/x"));
    assert!(foo("user-agent: FooBot\nuser-agent: *\ndisallow: /a\nuser-agent: *\ndisallow: /\n", "/x"));
}

#[test]
fn the_longest_pattern_wins_and_a_tie_allows() {
    for (rules, path, want) in [
        ("disallow: /x/page.html\nallow: /x/", "/x/page.html", false),
        ("allow: /x/page.html\ndisallow: /x/", "/x/page.html", true),
        ("allow: /x/page.html\ndisallow: /x/", "/x/", false),
        ("disallow:\nallow:", "/x", true),
        ("disallow: /\nallow: /", "/x", true),
        ("disallow: /x\nallow: /x/", "/x", false),
        ("disallow: /x\nallow: /x/", "/x/", true),
        ("disallow: /x/page.html\nallow: /x/page.html", "/x/page.html", true),
        ("allow: /page\ndisallow: /*.html", "/page.html", false),
        ("allow: /page\ndisallow: /*.html", "/page", true),
        ("allow: /x/page.\ndisallow: /*.html", "/x/page.html", true),
        ("allow: /x/page.\ndisallow: /*.html", "/x/y.html", false),
        ("allow: /p\ndisallow: /", "/page", true),
        ("allow: /folder\ndisallow: /folder", "/folder/page", true),
        ("allow: /page\ndisallow: /*.htm", "/page.htm", false),
        ("allow: /$\ndisallow: /", "/", true),
        ("allow: /$\ndisallow: /", "/page.html", false),
        ("allow: /aaa\ndisallow: /bbb\ndisallow: /*b", "/bbb", false),
        ("disallow: /ab\nallow: /*b", "/ab", true),
    ] {
        assert_eq!(foo(&format!("user-agent: FooBot\n{rules}\n"), path), want, "{rules} {path}");
    }
}

#[test]
fn paths_are_case_sensitive_and_wildcards_special() {
    for (pattern, yes, no) in [
        (
            "/fish",
            &["/fish", "/fish.html", "/fish/salmon.html", "/fishheads", "/fish.php?id=x"][..],
            &["/Fish.asp", "/catfish", "/?id=fish"][..],
        ),
        ("/fish*", &["/fish", "/fishheads/yummy.html"], &["/Fish.bar", "/catfish"]),
        ("/fish/", &["/fish/", "/fish/salmon", "/fish/?salmon"], &["/fish", "/fish.html"]),
        ("/*.php", &["/index.php", "/f/filename.php?parameters", "/f/filename.php5.html", "/filename.php/"], &["/", "/windows.PHP"]),
        ("/*.php$", &["/filename.php", "/folder/filename.php"], &["/filename.php?parameters", "/filename.php/", "/filename.php5", "/php/"]),
        ("/fish*.php", &["/fish.php", "/fishheads/catfish.php?parameters"], &["/Fish.PHP"]),
        ("*/private", &["/private", "/a/private/x"], &["/Private"]),
        ("/a*b*c$", &["/abc", "/aXbXc", "/abcbc"], &["/abcd", "/acb"]),
        ("/a*$", &["/a", "/abc"], &["/b"]),
        ("/foo-$", &["/foo-"], &["/foo-bar", "/foo-$"]),
        ("/**x***y", &["/xy", "/axby"], &["/yx"]),
        ("/a$b", &["/a$b", "/a%24bc"], &["/a"]),
        ("/x*aa$", &["/xaa", "/xaaa"], &["/xa"]),
        ("/aa*aa$", &["/aaaa", "/aabaa"], &["/aaa", "/aa"]),
    ] {
        let robots = format!("user-agent: FooBot\ndisallow: {pattern}\n");
        for path in yes {
            assert!(!foo(&robots, path), "{pattern} {path}");
        }
        for path in no {
            assert!(foo(&robots, path), "{pattern} {path}");
        }
    }
}

#[test]
fn escapes_are_compared_in_one_form() {
    for (pattern, path) in [
        ("/foo/bar?qux=taz&baz=http://foo.bar?tar&par", "/foo/bar?qux=taz&baz=http://foo.bar?tar&par"),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84"),
        ("/foo/bar/ツ", "/foo/bar/%e3%83%84"),
        ("/foo/bar/%e3%83%84", "/foo/bar/%E3%83%84"),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz"),
        ("/foo/bar/baz", "/foo/bar/%62%61%7A"),
        ("/a|b", "/a%7Cb"),
        ("/a b", "/a%20b"),
        ("/%7ejoe/", "/~joe/index.html"),
        ("/a%3cd.html", "/a%3Cd.html"),
        ("/100%", "/100%"),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html"),
        ("/path/foo-%24", "/path/foo-$"),
        ("/q?x=%2a", "/q?x=*"),
    ] {
        assert!(!foo(&format!("user-agent: FooBot\ndisallow: {pattern}\n"), path), "{pattern} {path}");
    }
    for (pattern, path) in [("/a%2fb", "/a/b"), ("/a%2Ab", "/axb"), ("/a%24", "/a"), ("/A", "/a")] {
        assert!(foo(&format!("user-agent: FooBot\ndisallow: {pattern}\n"), path), "{pattern} {path}");
    }
}

#[test]
fn robots_txt_itself_is_always_allowed_and_the_fragment_does_not_count() {
    let robots = "user-agent: *\ndisallow: /\n";
    assert!(allowed(robots, TOKEN, "http://h/robots.txt"));
    assert!(!allowed(robots, TOKEN, "http://h/a/robots.txt"));
    let r = Rules::parse(b"user-agent: *\ndisallow: /*x$\ndisallow: /*y");
    assert!(!r.allows(&Url::parse("http://h/x#y").unwrap()));
    assert_eq!(r.forbidden_by(&Url::parse("http://h/ay").unwrap()), Some("/*y"));
}

#[test]
fn any_line_end_any_bom_and_bytes_of_any_kind_are_read() {
    for end in ["\n", "\r", "\r\n", "\n\r\n"] {
        for bom in [&b""[..], b"\xef\xbb\xbf", b"\xef\xbb"] {
            let body = [bom, ["user-agent: *", "disallow: /x # why", "allow: /x/y", "", "sitemap: /s.xml"].join(end).as_bytes()].concat();
            let r = Rules::parse(&body);
            assert_eq!(r.len(), 2, "{end:?} {bom:?}");
            assert_eq!(r.sitemaps().collect::<Vec<_>>(), ["/s.xml"]);
        }
    }
    let r = Rules::parse(b"\0\xff\nuser-agent:*\ndisallow:/\xe9t\xe9\n\xff: \xff");
    assert!(!r.allows(&Url::parse("http://h/%E9t%e9").unwrap()));
}

#[test]
fn sitemaps_belong_to_no_group_and_keep_their_text() {
    let r = Rules::parse(b"Sitemap: https://h/a.xml\nuser-agent: other\ndisallow: /\nSITE-MAP: b.xml\nsitemap:\n");
    assert_eq!(r.sitemaps().collect::<Vec<_>>(), ["https://h/a.xml", "b.xml"]);
    assert!(r.is_empty());
}

#[test]
fn crawl_delay_is_a_number_of_seconds_and_sixty_at_most() {
    for (text, want) in [
        ("10", (Some(10.0), false)),
        ("0.5", (Some(0.5), false)),
        ("60", (Some(60.0), false)),
        ("61", (Some(60.0), true)),
        ("99999999999999999999999", (Some(60.0), true)),
        ("3 # slow", (Some(3.0), false)),
    ] {
        assert_eq!(delay(text), want, "{text}");
    }
    for text in ["inf", "NaN", "-1", "", "0", "soon", "1,5", "1e9", "+5", "."] {
        assert_eq!(delay(text), (None, false), "{text}");
    }
    let of = |agent| {
        Rules::parse_for(b"user-agent: *\ncrawl-delay: 9\nuser-agent: a\nuser-agent: b\ncrawl-delay: 2\ndisallow: /x", agent).crawl_delay()
    };
    assert_eq!([of("b"), of("a"), of("c")].map(|d| d.map(|d| d.as_secs())), [Some(9), Some(9), Some(9)], "one group by RFC 9309");
    let of = |agent| {
        Rules::parse_for(b"user-agent: *\ncrawl-delay: 9\ndisallow:\nuser-agent: a\ncrawl-delay: 2\ndisallow: /x", agent).crawl_delay()
    };
    assert_eq!([of("a"), of("c")].map(|d| d.map(|d| d.as_secs())), [Some(2), Some(9)]);
}

#[test]
fn a_page_of_html_forbids_nothing() {
    let r = Rules::parse(b"<html>\n<body>\nuser-agent: *\ndisallow: /\n</body></html>");
    assert!(r.is_empty() && r.oddities().html);
    assert!(!Rules::parse(b"user-agent: *\ndisallow: /\n# <3\n").is_empty());
}

#[test]
fn what_passes_the_cap_is_dropped_with_its_partial_line() {
    let filler = "# ".to_owned() + &"x".repeat(1000) + "\n";
    let mut body = "user-agent: *\ndisallow: /early\n".to_owned();
    while body.len() + filler.len() < MAX_BYTES - 20 {
        body.push_str(&filler);
    }
    body.push_str(&"\n".repeat(MAX_BYTES - 12 - body.len()));
    body.push_str("disallow: /partial\ndisallow: /late\n");
    for text in [body.as_bytes(), &body.as_bytes()[..MAX_BYTES]] {
        let r = Rules::parse(text);
        assert!(r.oddities().cut);
        assert_eq!(r.len(), 1);
        assert!(!r.allows(&Url::parse("http://h/early").unwrap()));
    }
}

#[test]
fn long_lines_are_cut_and_too_many_rules_left_out() {
    let long = format!("user-agent: *\ndisallow: /{}\n", "a".repeat(20_000));
    assert!(!Rules::parse(long.as_bytes()).allows(&Url::parse(&format!("http://h/{}", "a".repeat(17_000))).unwrap()));
    let many: String = (0..12_000).map(|i| format!("disallow: /{i}x\n")).collect::<Vec<_>>().concat();
    let r = Rules::parse(format!("user-agent: *\n{many}").as_bytes());
    assert_eq!(r.len(), MAX_RULES);
    assert!(r.oddities().too_many);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "measures how long a match takes")]
fn a_bomb_of_wildcards_costs_little() {
    let same = "Disallow: /*a*a*a*\n".repeat(26_000);
    let mut varied = String::new();
    for i in 0.. {
        let line = format!("Disallow: /*a{}*b*ab*a{i}*a*\n", "*a".repeat(i % 7));
        if varied.len() + line.len() > 500_000 {
            break;
        }
        varied.push_str(&line);
    }
    let one: String = (0..31).map(|i| format!("Disallow: /{}b$\n", "*a".repeat(8_000 + i))).collect::<Vec<_>>().concat();
    for (name, rules) in [("same", same), ("varied", varied), ("one", one)] {
        let r = Rules::parse(format!("user-agent: *\n{rules}").as_bytes());
        assert!(!r.is_empty());
        for path in ["a".repeat(2_000), "ab".repeat(1_000), "b".repeat(2_000)] {
            let url = Url::parse(&format!("http://h/{path}")).unwrap();
            let start = std::time::Instant::now();
            let _ = r.allows(&url);
            let took = start.elapsed();
            eprintln!("{name} {}: {} rules, {took:?}", &path[..2], r.len());
            // The bound is 100 ms; a debug build on a busy machine gets more.
            assert!(took < Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 }), "{name}: {took:?}");
        }
    }
}

/// Google's walk over the set of positions (`robots.cc`, `RobotsMatchStrategy::Matches`), to compare with.
fn positions(path: &str, pattern: &str) -> bool {
    let (path, pattern) = (path.as_bytes(), pattern.as_bytes());
    let mut at = vec![0];
    for (i, b) in pattern.iter().enumerate() {
        if *b == b'$' && i + 1 == pattern.len() {
            return at.last() == Some(&path.len());
        }
        at = if *b == b'*' {
            (at[0]..=path.len()).collect()
        } else {
            at.iter().filter(|p| path.get(**p) == Some(b)).map(|p| p + 1).collect()
        };
        if at.is_empty() {
            return false;
        }
    }
    true
}

proptest! {
    #[test]
    fn matching_agrees_with_googles_walk(path in "/[ab/]{0,12}", pattern in "[/*][ab/*]{0,10}[$]?") {
        prop_assert_eq!(matches(&path, &pattern), positions(&path, &pattern));
    }

    #[test]
    fn any_bytes_are_a_robots_txt(body in proptest::collection::vec(any::<u8>(), 0..400), path in "/\\PC{0,20}") {
        if let Ok(url) = Url::parse(&format!("http://h{path}")) {
            let _ = Rules::parse(&body).allows(&url);
        }
    }
}
