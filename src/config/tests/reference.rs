use super::{Job, job};
use crate::config::walk::{NOT_YET, items, properties};
use crate::config::{DEFAULTS, raw, tree};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// `config/default.toml` with its examples switched on: a `#` with a key or a section right behind it.
fn uncommented() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULTS.lines().map(on).collect::<Vec<_>>().join("\n")
}

fn reference() -> tree::Node {
    tree::parse(&uncommented()).unwrap_or_else(|e| panic!("{e}"))
}

fn keys_of_schema(path: &str, schema: &Json, out: &mut BTreeSet<String>) {
    match (items(schema), properties(schema)) {
        (Some(item), _) => keys_of_schema(&format!("{path}[0]"), item, out),
        (None, Some(known)) => known.iter().for_each(|(name, s)| keys_of_schema(&[path, name].join("."), s, out)),
        (None, None) => drop(out.insert(path.trim_start_matches('.').to_owned())),
    }
}

#[test]
fn every_key_of_the_reference_is_in_the_schema_and_the_other_way_round() {
    let mut schema = BTreeSet::new();
    keys_of_schema("", &raw::schema_value(), &mut schema);
    let reference = reference();
    for key in &schema {
        assert!(reference.get(key).is_some(), "{key} is not in config/default.toml");
    }
    let mut errors = Vec::new();
    let mut layer = reference.clone();
    crate::config::walk::check(&mut layer, &raw::schema_value(), &mut errors);
    assert_eq!(errors, []);
}

#[test]
fn the_reference_itself_loads_and_changes_nothing() {
    let with_input = DEFAULTS.replacen("\n#urls = [\"https://example.com/\"]", "\nurls = [\"https://h.example/\"]", 1);
    let (whole, bare) = (Job::new(&with_input).ok().plan, job("").ok().plan);
    let text = |mut plan: crate::config::Plan, folder: &std::path::Path| {
        plan.job_file = None;
        format!("{plan:#?}").replace(&folder.display().to_string(), "")
    };
    let (a, b) = (Job::new(&with_input), job(""));
    assert_eq!(text(a.ok().plan, a.folder.path()), text(b.ok().plan, b.folder.path()));
    assert_eq!(whole.frozen.keys().collect::<Vec<_>>(), bare.frozen.keys().collect::<Vec<_>>());
}

#[test]
fn defaults_of_absent_sections_are_as_the_reference_says() {
    let shown = reference();
    let crawl = job("[crawl]\n").ok();
    for key in ["scope", "include", "exclude", "extensions", "robots"] {
        let key = format!("crawl.{key}");
        let setting = crawl.explain.iter().find(|s| s.key == key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(setting.value.replace(", ", ","), shown.get(&key).map(|n| n.json().to_string()).unwrap(), "{key}");
    }
}

#[test]
fn every_key_is_explained_set_or_not() {
    let mut schema = BTreeSet::new();
    keys_of_schema("", &raw::schema_value(), &mut schema);
    let told: BTreeSet<String> = job("").ok().explain.into_iter().map(|s| s.key).collect();
    // Of a list of tables there are as many as the job has.
    assert_eq!(schema.difference(&told).filter(|key| !key.contains('[')).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn each_key_of_a_later_version_is_an_error_that_says_not_yet() {
    for key in NOT_YET.iter().filter(|key| !key.starts_with("host.")) {
        let errors = job(&format!("{key} = \"off\"\n")).errors();
        assert_eq!(
            errors,
            [format!(
                "x.toml:2:{}: {key}: not yet: this version of gleaner does not have it",
                key.len() - key.rsplit('.').next().unwrap().len() + 1
            )]
        );
        assert!(reference().get(key).is_none(), "{key}");
    }
    for key in NOT_YET.iter().filter_map(|key| key.strip_prefix("host.")) {
        let errors = job(&format!("[[host]]\nmatch = \"a\"\n{key} = {{ bearer = \"x\" }}\n")).errors();
        assert_eq!(errors, [format!("x.toml:4:1: host[0].{key}: not yet: this version of gleaner does not have it")]);
    }
    let errors = job("[[step]]\nname = \"a\"\n[[step]]\nname = \"b\"\n").errors();
    assert!(errors.len() == 1 && errors[0].contains("step: not yet"), "{errors:?}");
}

#[test]
fn each_value_of_a_later_version_says_not_yet() {
    for more in [
        "input.on_change = \"merge\"",
        "response = [{ when.status = 401, then = \"refresh-auth\" }]",
        "pages.next = \"auto\"",
        "pages.next = \"json:.n\"\npages.param = \"path\"",
        "extract.fields = { a = \"markdown:\" }",
        "output.results = \"a.parquet\"",
        "output.results = \"a.db\"",
        "output.results = \"{{date}}.csv\"",
    ] {
        let errors = job(more).errors();
        assert!(errors.len() == 1 && errors[0].contains("not yet"), "{more}: {errors:?}");
    }
    assert!(Job::new("input.file = \"sitemap.xml.gz\"").errors()[0].contains("not yet"));
}

/// `job-file.toml` is the whole design's job file: what it has, this version has or refuses.
#[test]
fn every_key_of_the_whole_design_is_known_or_not_yet() {
    fn walk(path: &str, node: &tree::Node, schema: Option<&Json>, seen: &mut usize) {
        for (name, node) in node.entries() {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let Some(schema) = schema.and_then(properties).and_then(|known| known.get(name)) else {
                assert!(crate::config::walk::is_not_yet(&key), "{key} is neither known nor not yet");
                *seen += 1;
                continue;
            };
            assert!(!crate::config::walk::is_not_yet(&key), "{key} is both known and not yet");
            if properties(schema).is_some() {
                walk(&key, node, Some(schema), seen);
            }
            for (i, node) in node.items().iter().enumerate().filter(|_| items(schema).is_some()) {
                walk(&format!("{key}[{i}]"), node, items(schema), seen);
            }
        }
    }
    let mut seen = 0;
    let design = tree::parse(include_str!("job-file.toml")).unwrap_or_else(|e| panic!("{e}"));
    walk("", &design, Some(&raw::schema_value()), &mut seen);
    assert!(seen >= 20, "{seen}");
    let errors = Job::new(include_str!("job-file.toml")).errors();
    assert_eq!(errors.iter().filter(|e| e.contains(": not yet:")).count(), seen, "{errors:#?}");
}

#[test]
fn the_schema_is_closed_and_described() {
    /// The table itself where a table is one of several choices.
    fn closed(schema: &Json) -> &Json {
        let choices = schema.get("anyOf").and_then(Json::as_array);
        choices.and_then(|any| any.iter().find(|s| s.get("properties").is_some())).unwrap_or(schema)
    }
    fn walk(path: &str, schema: &Json) {
        if let Some(item) = items(schema) {
            return walk(path, item);
        }
        let Some(known) = properties(schema) else { return };
        assert_eq!(closed(schema)["additionalProperties"], false, "{path}");
        for (name, s) in known {
            assert!(s.get("description").is_some(), "{path}.{name} has no description");
            walk(&format!("{path}.{name}"), s);
        }
    }
    let schema = raw::schema_value();
    walk("", &schema);
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$schema"].as_str().is_some_and(|s| s.contains("2020-12")));
    assert_eq!(schema["properties"]["limits"]["properties"]["workers"]["maximum"], 10_000);
    assert_eq!(schema["properties"]["input"]["properties"]["on_bad"]["enum"], serde_json::json!(["skip", "stop"]));
}
