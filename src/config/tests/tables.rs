//! Lists of tables: how they are walked, layered and shown, and what is in each of them.

use super::{Job, job};
use crate::config::explain_text;

#[test]
fn mistakes_within_lists_of_tables_have_line_column_and_nearest_key() {
    let text = "[[limit]]\nname = \"a\"\nrat = \"1/s\"\nrate = \"5/s\"\n  weight = 0\n[limits]\nweight = 2\nworkers = 0\n[[limit]]\nname = \"b\"\nrate = \"1/fortnight\"\nworkers = 3\nmatch = { pth = \"/x\", method = [\"G T\"] }\n[[limit]]\n";
    assert_eq!(
        job(text).errors(),
        [
            "x.toml:4:1: limit[0].rat: unknown key; did you mean `rate`?",
            "x.toml:6:12: limit[0].weight: 0 is not between 1 and 4294967295",
            "x.toml:8:1: limits.weight: unknown key; `weight` belongs into [[limit]]",
            "x.toml:9:11: limits.workers: 0 is not between 1 and 10000",
            "x.toml:12:8: limit[1].rate: \"1/fortnight\" is no rate: write a number and a window, like \"5000/hour\", \"10/second\", \"100/15m\" or \"1/2s\"",
            "x.toml:13:1: limit[1].workers: unknown key; `workers` belongs into [limits]",
            "x.toml:14:11: limit[1].match.pth: unknown key; did you mean `path`?",
            "x.toml:14:32: limit[1].match.method: \"G T\" is no HTTP method",
            "x.toml:15:1: limit[2]: has no name: set name = \"…\", by which it is shown",
            "x.toml:15:1: limit[2]: limits nothing: set rate = \"30/minute\" or concurrency = 4",
        ]
    );
}

#[test]
fn a_list_of_tables_is_nothing_else() {
    let keys = "name, match, rate, key, burst, weight, concurrency";
    for (text, wanted) in [
        ("[limit]\nname = \"a\"", "x.toml:2:2: limit: is a list of tables: write [[limit]], not [limit]".to_owned()),
        ("limit = 5", format!("x.toml:2:9: limit: wants tables [[limit]] with some of {keys}, not a number")),
        ("limit = \"of\"", format!("x.toml:2:9: limit: wants tables [[limit]] with some of {keys}, not text")),
        ("limit = [{ name = \"a\", rate = \"1/s\" }, 7]", format!("x.toml:2:40: limit: wants tables with some of {keys}, not a number")),
        (
            "[[limit]]\nname = \"a\"\nrate = \"9/s\"\nmatch = \"/x\"",
            "x.toml:5:9: limit[0].match: wants a table with some of method, host, path, not text".into(),
        ),
    ] {
        assert_eq!(job(text).errors(), [wanted], "{text}");
    }
    assert!(job("limit = \"off\"").ok().plan.limits.more.is_empty());
    assert!(job("limit = []").ok().plan.limits.more.is_empty());
}

#[test]
fn no_variable_sets_a_list_of_tables_and_a_flag_replaces_it_whole() {
    let text = "[[limit]]\nname = \"a\"\nrate = \"5/s\"\n";
    let wanted =
        |who: &str| format!("{who}: limit: is a list of tables, which has no keys of its own here: write [[limit]] in the job file");
    assert_eq!(job(text).env("GLEANER_LIMIT__RATE", "1/s").errors(), [wanted("GLEANER_LIMIT__RATE")]);
    assert_eq!(job(text).flag("limit.rate", "1/s", "--set").errors(), [wanted("--set")]);
    let more = job(text).flag("limit", "[{ name = \"b\", concurrency = 2 }]", "--set").ok().plan.limits.more;
    assert_eq!(more.iter().map(|l| (l.name.as_str(), l.concurrency)).collect::<Vec<_>>(), [("b", Some(2))]);
    assert!(job(text).flag("limit", "off", "--set").ok().plan.limits.more.is_empty());
    assert_eq!(
        job(text).flag("limit", "[{ name = \"b\", concurrncy = 2 }]", "--set").errors()[0],
        "--set: limit[0].concurrncy: unknown key; did you mean `concurrency`?"
    );
}

#[test]
fn each_table_of_a_list_is_explained() {
    let job =
        job("[[limit]]\nname = \"a\"\nrate = [\"5/s\", \"60/m\"]\nmatch = { path = \"/x/**\" }\n[[limit]]\nname = \"a\"\nweight = 2\n");
    let text = explain_text(&job.ok().explain, Some(&job.path()));
    let lines: Vec<String> =
        text.lines().filter(|l| l.starts_with("limit[")).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "limit[0].name = \"a\" # x.toml:3",
            "limit[0].match.path = \"/x/**\" # x.toml:5",
            "limit[0].rate = [\"5/s\", \"60/m\"] # x.toml:4",
            "limit[0].key = \"host\" # default",
            "limit[0].weight = 1 # default",
            "limit[1].name = \"a\" # x.toml:7",
            "limit[1].weight = 2 # x.toml:8",
        ]
    );
    let none = super::job("");
    assert!(explain_text(&none.ok().explain, None).contains("limit = \"off\""));
}

#[test]
fn the_schema_of_a_list_of_tables_is_a_closed_list_or_off() {
    let schema = crate::config::raw::schema_value();
    let limit = &schema["properties"]["limit"];
    assert_eq!(limit["anyOf"][1], serde_json::json!({ "const": "off" }));
    let item = &limit["anyOf"][0]["items"];
    assert_eq!((&item["additionalProperties"], &limit["anyOf"][0]["type"]), (&false.into(), &"array".into()));
    assert_eq!(item["properties"]["match"]["additionalProperties"], false);
    // Only the section may be "off", not a key that has its name.
    assert!(item["properties"]["match"]["properties"]["host"].get("anyOf").is_none());
}

#[test]
fn a_stray_secret_within_a_table_of_a_list_names_its_place() {
    let errors = Job::new("input.urls = [\"https://h/\"]\n[[limit]]\nname = \"a\"\nrate = \"${env:X}\"\n").env("X", "1/s").errors();
    assert!(errors.iter().any(|e| e.starts_with("x.toml:4:8: limit[0].rate: `${env:…}` has its place in")), "{errors:?}");
}
