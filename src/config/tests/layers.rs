use super::{Job, job};
use crate::config::{AuthKind, Origin, Overrides, ProxyPlan, SinkPlace, assemble, explain_text};
use std::time::Duration;

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let text = "[limits]\nworkers = 10\nper_host = 3\ndelay = \"2s\"\n";
    let job = job(text)
        .env("GLEANER_LIMITS__PER_HOST", "4")
        .env("GLEANER_LIMITS__DELAY", "3s")
        .env("GLEANER_REQUEST__TIMEOUT__CONNECT", "5s")
        .env("GLEANER_BIN", "/x")
        .env("GLEANER_OTHER__THING", "1")
        .flag("limits.delay", "4s", "--delay");
    let loaded = job.ok();
    let (limits, request) = (&loaded.plan.limits, &loaded.plan.request);
    assert_eq!((limits.workers, limits.per_host, limits.delay), (10, 4, Duration::from_secs(4)));
    assert_eq!((request.connect_timeout, request.idle_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    let who = |key: &str| loaded.explain.iter().find(|s| s.key == key).map(|s| (s.value.as_str(), s.origin.clone())).unwrap();
    assert_eq!(who("limits.workers"), ("10", Origin::File { line: 3, column: 11 }));
    assert_eq!(who("limits.per_host"), ("4", Origin::Env("GLEANER_LIMITS__PER_HOST".into())));
    assert_eq!(who("limits.delay"), ("\"4s\"", Origin::Flag("--delay".into())));
    assert_eq!(who("limits.max_wait"), ("\"24h\"", Origin::Default));
    assert_eq!(who("limits.rate"), ("\"off\"", Origin::Default));
    let text = explain_text(&loaded.explain, Some(&job.path()));
    let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(line("limits.workers"), "limits.workers = 10 # x.toml:3");
    assert_eq!(line("limits.delay"), "limits.delay = \"4s\" # --delay");
}

#[test]
fn typed_values_are_toml_where_the_key_takes_it_and_text_where_it_wants_text() {
    let job = job("")
        .env("GLEANER_JOB__NAME", "2024")
        .env("GLEANER_LIMITS__RATE", "[\"10/s\", \"100/m\"]")
        .env("GLEANER_REQUEST__HEADERS__X_API_VERSION", "3")
        .env("GLEANER_REQUEST__HEADERS__ACCEPT", "a\nb = 1")
        .flag("retry.final_sweep", "false", "--no-final-sweep");
    let errors = job.errors();
    assert_eq!(errors, ["GLEANER_REQUEST__HEADERS__ACCEPT: request.headers.accept: holds a line break or a NUL, which no header may"]);
    let mut job = job;
    job.env.pop();
    let plan = job.ok().plan;
    assert_eq!((plan.name.as_str(), plan.limits.rates.len(), plan.retry.final_sweep), ("2024", 2, false));
    assert_eq!(plan.request.headers[0].0, "x-api-version");
}

#[test]
fn off_switches_a_set_key_off() {
    let text = "limits.rate = \"1/s\"\nlimits.burst = \"off\"\nstop.time = \"8h\"\nstop.results = 0\nretry.budget = \"off\"\nrequest.proxy = \"http://p\"\nauth = { bearer = \"x\" }\ncrawl = \"off\"\npages.next = \"link\"\n";
    let plan = job(text)
        .flag("limits.rate", "[\"off\"]", "--rate")
        .flag("auth", "off", "--no-auth")
        .flag("stop.time", "off", "--stop-time")
        .flag("request.proxy", "off", "--proxy")
        .flag("pages", "off", "--no-pages")
        .ok()
        .plan;
    assert!(plan.limits.rates.is_empty() && plan.limits.burst.is_none() && plan.retry.budget.is_none());
    assert!(plan.stop.time.is_none() && plan.stop.results.is_none());
    assert!(plan.auth.is_none() && plan.crawl.is_none() && plan.pages.is_none());
    assert_eq!(plan.request.proxy, ProxyPlan::Off);
    assert_eq!(plan.limits.per_host, 8);
}

#[test]
fn a_higher_layer_chooses_anew_among_keys_that_exclude_each_other() {
    let mut job = Job::new("input.file = \"a.csv\"\nrequest.body = \"x\"\nauth = { hosts = [\"h\"], bearer = \"x\" }\n");
    job.overrides.set_list("input.urls", ["https://h/"], "URL");
    job.overrides.set("request.json", "{ a = 1.5, b = [true] }", "--json");
    job.overrides.set("auth.basic", "{ user = \"u\", password = \"p\" }", "--user");
    let plan = job.ok().plan;
    assert_eq!(plan.input.source, crate::config::InputSource::Urls(vec!["https://h/".into()]));
    let Some(crate::config::BodyPlan::Json(json)) = &plan.request.body else { panic!("{:?}", plan.request.body) };
    assert_eq!(json.source(), "{\"a\":1.5,\"b\":[true]}");
    assert!(matches!(plan.auth.unwrap().kind, AuthKind::Basic { .. }));
}

#[test]
fn tables_of_names_merge_name_by_name_and_headers_without_letter_case() {
    let mut job = job("request.headers = { Accept = \"a\", B = \"b\" }\nextract.fields = { z = \"css:z\", a = \"css:a\" }\n");
    job.overrides.set_pair("request.headers", "accept", "c", "--header");
    job.overrides.set_pair("extract.fields", "m", "css:m", "--field");
    let plan = job.ok().plan;
    assert_eq!(plan.request.headers.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["accept", "B"]);
    assert_eq!(plan.extract.fields.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
    job.overrides.set_pair("extract.fields", "m", "css:n", "--field");
    assert_eq!(job.errors(), ["--field: extract.fields.m: given twice"]);
}

#[test]
fn a_job_without_a_file_writes_to_stdout_and_keeps_nothing() {
    let mut flags = Overrides::default();
    flags.set_list("input.urls", ["https://h/"], "URL");
    let plan = assemble(&flags, []).unwrap().plan;
    assert_eq!((plan.output.results.place, plan.output.skipped), (SinkPlace::Stdout, None));
    assert_eq!(plan.state, crate::config::StatePlace::Throwaway);
    flags.set_text("output.results", "out/a.csv.gz", "-o");
    let plan = assemble(&flags, []).unwrap().plan;
    assert_eq!(plan.state, crate::config::StatePlace::Folder("out/a.csv.gz.gleaner".into()));
    assert_eq!(plan.output.skipped.unwrap().place, SinkPlace::File("out/a.skipped.jsonl".into()));
    assert_eq!(plan.name, "a");
    let none = assemble(&Overrides::default(), []).unwrap_err().to_string();
    assert_eq!(none, "input: there is no input: set [input] file or urls, or [request] url for a single address");
}
