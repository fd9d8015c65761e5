//! `[[response]]`.

use super::job;
use crate::config::{ResponsePlan, Then, explain_text};

#[test]
fn rules_over_answers_are_read() {
    let text = "[[response]]\nwhen = { status = [200, \"500..599\"], header = { name = \"X-Error\", match = \"^quota\" }, body = \"(?i)again\", selector = \"div.captcha\", json = \".error | test(\\\"x\\\")\" }\nthen = \"limited\"\nreason = \"quota-2\"\n[[response]]\nwhen = { status = 404 }\nthen = \"skip\"\n[[response]]\nwhen.header = \"X-Gone\"\nthen = \"retry\"\n";
    let rules = job(text).ok().plan.responses;
    assert_eq!(
        rules[0],
        ResponsePlan {
            statuses: vec![(200, 200), (500, 599)],
            header: Some(("x-error".into(), Some("^quota".into()))),
            body: Some("(?i)again".into()),
            selector: Some("div.captcha".into()),
            json: Some(".error | test(\"x\")".into()),
            then: Then::Limited,
            reason: Some("quota-2".into()),
        }
    );
    assert_eq!(rules[1], ResponsePlan { statuses: vec![(404, 404)], then: Then::Skip, ..ResponsePlan::default() });
    assert_eq!(rules[2], ResponsePlan { header: Some(("x-gone".into(), None)), then: Then::Retry, ..ResponsePlan::default() });
    assert!(job("response = \"off\"").ok().plan.responses.is_empty());
}

#[test]
fn each_word_of_then_is_its_own() {
    for (word, then) in [
        ("accept", Then::Accept),
        ("retry", Then::Retry),
        ("limited", Then::Limited),
        ("skip", Then::Skip),
        ("stop", Then::Stop),
        ("end-of-pages", Then::EndOfPages),
        ("restart-pages", Then::RestartPages),
    ] {
        let text = format!("[pages]\nnext = \"link\"\n[[response]]\nwhen.status = 410\nthen = \"{word}\"\n");
        assert_eq!(job(&text).ok().plan.responses[0].then, then);
    }
}

#[test]
fn what_a_rule_may_accept_is_wanted_whole() {
    let rule = |when: &str, then: &str| format!("[[response]]\nwhen = {{ {when} }}\nthen = \"{then}\"\n");
    let text = rule("status = [404, \"410..411\"], body = \"x\"", "accept") + &rule("status = 500", "skip");
    let request = job(&text).ok().plan.request;
    assert_eq!(request.may_accept, [(404, 404), (410, 411)]);
    assert!(request.may_accept(200) && request.may_accept(411) && !request.may_accept(500) && !request.accepts(411));
    assert_eq!(job(&rule("body = \"x\"", "accept")).ok().plan.request.may_accept, [(200, 999)], "any status");
}

#[test]
fn rules_are_explained_key_by_key() {
    let job = job(
        "[[response]]\nwhen = { status = 200, header = { name = \"a\", match = \"b\" } }\nthen = \"skip\"\n[[response]]\nwhen = { header = \"c\" }\nthen = \"stop\"\n",
    );
    let text = explain_text(&job.ok().explain, Some(&job.path()));
    for line in [
        "response[0].when.status = 200",
        "response[0].when.header.name = \"a\"",
        "response[0].when.header.match = \"b\"",
        "response[0].then = \"skip\"",
        "response[1].when.header = \"c\"",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line) && l.contains("# x.toml:")), "{line}\n{text}");
    }
}

#[test]
fn wrong_rules_are_told_with_their_line() {
    let rest = "then = \"skip\"";
    let when = "when.status = 404";
    let kebab = "is no reason: up to 64 small letters and digits with dashes between, like \"quota-used-up\"";
    for (more, wanted) in [
        (rest.to_owned(), "x.toml:2:1: response[0].when: matches nothing: say status, header, body, selector or json".to_owned()),
        (
            format!("when = {{}}\n{rest}"),
            "x.toml:3:1: response[0].when: matches nothing: say status, header, body, selector or json".into(),
        ),
        (
            format!("when = 404\n{rest}"),
            "x.toml:3:8: response[0].when: wants a table with some of status, header, body, selector, json, not a number".into(),
        ),
        (format!("when = {{ stats = 404 }}\n{rest}"), "x.toml:3:10: response[0].when.stats: unknown key; did you mean `status`?".into()),
        (
            format!("when.status = []\n{rest}"),
            "x.toml:3:15: response[0].when.status: is an empty list: leave it out for every status".into(),
        ),
        (
            format!("when.status = 99\n{rest}"),
            "x.toml:3:15: response[0].when.status: \"99\" is no status from 200 to 999: write 404, \"404\" or \"200..299\"".into(),
        ),
        (
            format!("when.header = \"a b\"\n{rest}"),
            "x.toml:3:15: response[0].when.header: is no header name: letters, digits and `-`".into(),
        ),
        (
            format!("when.header = {{ name = \"a b\" }}\n{rest}"),
            "x.toml:3:24: response[0].when.header.name: is no header name: letters, digits and `-`".into(),
        ),
        (
            format!("when.header = 5\n{rest}"),
            "x.toml:3:15: response[0].when.header: wants a header's name, or { name = \"x-foo\", match = \"…\" }, not a number".into(),
        ),
        (
            format!("when.header = {{ match = \"a\" }}\n{rest}"),
            "x.toml:3:6: response[0].when.header: names no header: write { name = \"x-foo\", match = \"…\" }".into(),
        ),
        (
            format!("when.header = {{ name = 5 }}\n{rest}"),
            "x.toml:3:6: response[0].when.header: name wants text in quotes, not a number".into(),
        ),
        (
            format!("when.header = {{ name = \"a\", mtch = \"b\" }}\n{rest}"),
            "x.toml:3:29: response[0].when.header.mtch: unknown key; did you mean `match`?".into(),
        ),
        (
            format!("when.header = {{ name = \"a\", match = \"\" }}\n{rest}"),
            "x.toml:3:37: response[0].when.header.match: is empty: leave it out where the header only has to be there".into(),
        ),
        (
            format!("when.header = {{ name = \"a\", match = \"(\" }}\n{rest}"),
            "x.toml:3:37: response[0].when.header.match: \"(\" is no regular expression that can be used: unclosed group".into(),
        ),
        (format!("when.body = \"\"\n{rest}"), "x.toml:3:13: response[0].when.body: is empty: leave it out where it does not count".into()),
        (
            format!("when.body = \"[z\"\n{rest}"),
            "x.toml:3:13: response[0].when.body: \"[z\" is no regular expression that can be used: unclosed character class".into(),
        ),
        (
            format!("when.selector = \" \"\n{rest}"),
            "x.toml:3:17: response[0].when.selector: is empty: leave it out where it does not count".into(),
        ),
        (
            format!("when.selector = \"div >\"\n{rest}"),
            "x.toml:3:17: response[0].when.selector: \"div >\" is no CSS selector that is known here: dangling combinator".into(),
        ),
        (format!("when.json = \"\"\n{rest}"), "x.toml:3:13: response[0].when.json: is empty: leave it out where it does not count".into()),
        (format!("when.json = \".a | nosuch\"\n{rest}"), "x.toml:3:13: response[0].when.json: the function `nosuch` is not known".into()),
        (
            when.to_owned(),
            "x.toml:2:1: response[0]: does not say what the answer means: set then = \"retry\", \"limited\", \"skip\" or another".into(),
        ),
        (format!("{when}\nthen = \"skp\""), "x.toml:4:8: response[0].then: \"skp\" is not known; did you mean \"skip\"?".into()),
        (format!("{when}\nthen = \"end-of-pages\""), "x.toml:4:8: response[0].then: is about pages, and the job has no [pages]".into()),
        (format!("{when}\nthen = \"restart-pages\""), "x.toml:4:8: response[0].then: is about pages, and the job has no [pages]".into()),
        (
            format!("{when}\nthen = \"accept\"\nreason = \"a\""),
            "x.toml:5:10: response[0].reason: is for answers that are skipped, tried again or held, and this rule does nothing of it"
                .into(),
        ),
        (
            format!("{when}\n{rest}\nreason = \"duplicate\""),
            "x.toml:5:10: response[0].reason: \"duplicate\" is gleaner's own, for records of the input".into(),
        ),
        (format!("{when}\n{rest}\nreason = 5"), "x.toml:5:10: response[0].reason: wants text in quotes, not a number".into()),
        (format!("{when}\n{rest}\nreson = \"a\""), "x.toml:5:1: response[0].reson: unknown key; did you mean `reason`?".into()),
    ] {
        assert_eq!(job(&format!("[[response]]\n{more}\n")).errors(), [wanted], "{more}");
    }
    for reason in ["", "Quota", "a_b", "-a", "a-", "a--b", "1a", "a b", &"a".repeat(65)] {
        let errors = job(&format!("[[response]]\n{when}\n{rest}\nreason = \"{reason}\"\n")).errors();
        assert_eq!(errors, [format!("x.toml:5:10: response[0].reason: {reason:?} {kebab}")]);
    }
}
