//! `gleaner plan`: what a run would do, in exact numbers, without a request and without a file written.

use crate::support::origin::wait_until;
use crate::support::{Gleaner, Job, Origin, Reply, page};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;
use std::time::Duration;

fn plan(job: &Job) -> Gleaner {
    Gleaner::new(["plan"]).arg(job.write()).home(job.dir())
}

fn told(run: Gleaner) -> Value {
    serde_json::from_str(&run.arg("--json").expect(0).out).unwrap()
}

/// Every file below a folder with a hash of its bytes.
fn files(dir: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            all.insert(format!("{}/", entry.display()), 0);
            all.extend(files(&entry));
        } else {
            let mut hash = DefaultHasher::new();
            hash.write(&std::fs::read(&entry).unwrap());
            all.insert(entry.display().to_string(), hash.finish());
        }
    }
    all
}

#[test]
fn a_list_is_counted_to_its_end_and_nothing_is_sent_or_written() {
    let origin = Origin::start(|r| Reply::ok(page(r.path())));
    let mut urls: Vec<String> = (0..12_000).map(|i| origin.url(&format!("/{i}"))).collect();
    urls.extend(["nonsense".into(), origin.url("/1"), origin.url("/1#x")]);
    let job = Job::over(&urls).set("limits.rate", "\"5000/hour\"");
    job.write();
    let before = files(job.dir());
    let p = told(plan(&job));
    assert_eq!(files(job.dir()), before, "no state folder, no output");
    assert_eq!(origin.arrivals(), 0);
    assert_eq!(p["requests"], json!({ "total": 12_000, "addresses": 12_000, "robots": 0, "more": [] }));
    let input = &p["input"];
    assert_eq!((&input["records"], &input["bad"], &input["repeated"]), (&json!(12_003), &json!(1), &json!(2)));
    assert!(input["first_bad"].as_str().unwrap().contains("in.txt:12001"), "{input}");
    assert_eq!((&p["time"]["first_minute"], &p["time"]["first_hour"]), (&json!(103), &json!(5000)));
    let lasts = p["time"]["lasts_s"].as_f64().unwrap();
    assert!((8640.0..8720.0).contains(&lasts), "2 h 24 min: {lasts}");
    let held = &p["held"][0];
    assert_eq!(held["by"], json!({ "kind": "rate", "limit": null, "count": 5000, "per_s": 3600.0 }));
    assert_eq!((&held["key"], &p["state"], &p["growth"]), (&json!("127.0.0.1"), &Value::Null, &Value::Null));

    let text = plan(&job).env("TZ", "Europe/Berlin").expect(0).out;
    for words in ["5,000 in the first hour", "about 2h 24m", " CE", "held by", "5,000/hour at 127.0.0.1", "in.txt", "duplicate", "retries"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert_eq!(files(job.dir()), before);
}

#[test]
fn a_template_over_two_hosts_counts_each_with_its_robots_txt() {
    let job = Job::new().set("input.file", "\"in.csv\"").set("input.url", "\"https://{{host}}/x/{{n}}\"").unset("request.robots");
    let rows: String = (0..300).map(|i| format!("{},{i}\n", if i % 3 == 0 { "b.example" } else { "a.example" })).collect();
    job.file("in.csv", format!("host,n\n{rows}"));
    let job = job.set("limits.delay", "\"1s\"");
    let p = told(plan(&job));
    assert_eq!(p["requests"], json!({ "total": 302, "addresses": 300, "robots": 2, "more": [] }));
    assert_eq!(
        p["hosts"]["top"],
        json!([
            { "host": "https://a.example", "addresses": 200, "robots": true },
            { "host": "https://b.example", "addresses": 100, "robots": true },
        ])
    );
    // 201 to one of them, a second apart.
    assert_eq!((&p["time"]["first_minute"], &p["time"]["lasts_s"]), (&json!(120), &json!(200.2)));
    assert_eq!(p["held"][0]["by"], json!({ "kind": "delay", "delay_ms": 1000 }));
    assert_eq!((&p["held"][0]["requests"], &p["held"][0]["keys"]), (&json!(300), &json!(2)));
    // Slower answers hold nothing here, more workers neither: but one worker does.
    let p = told(plan(&job).args(["--answer", "2s", "--set", "limits.workers=1"]));
    assert_eq!((&p["time"]["lasts_s"], &p["assumed"]["answer_ms"]), (&json!(604.0), &json!(2000)));
}

#[test]
fn of_a_crawl_the_least_is_told_and_the_most_where_a_cap_says_so() {
    let job = Job::crawl("https://site.example/").unset("request.robots").set("limits.delay", "\"1s\"");
    let p = told(plan(&job));
    assert_eq!((&p["requests"]["total"], &p["requests"]["more"]), (&json!(2), &json!(["links"])));
    assert_eq!((&p["growth"]["at_most"], &p["growth"]["thousand_more_s"]), (&Value::Null, &json!(1000.0)));
    let capped = job.set("crawl.max_pages", "500");
    let p = told(plan(&capped));
    assert_eq!((&p["growth"]["at_most"], &p["growth"]["at_most_lasts_s"]), (&json!(501), &json!(500.2)));
    let text = plan(&capped).expect(0).out;
    assert!(text.contains("at least 2") && text.contains("at most 501 by [crawl] max_pages"), "{text}");
    assert!(text.contains("1,000 requests take about 16m 40s"), "{text}");
}

#[test]
fn the_pages_of_an_api_come_one_after_the_other() {
    let job = Job::pages("https://api.example/items", "page")
        .set("pages.param", "\"page\"")
        .set("pages.size", "{ param = \"per_page\", value = 100 }")
        .set("pages.stop", "[\"max:5000\"]")
        .set("extract.rows", "\"json:.items[]\"");
    let p = told(plan(&job));
    assert_eq!((&p["requests"]["total"], &p["requests"]["more"]), (&json!(1), &json!(["pages"])), "{p}");
    assert_eq!((&p["growth"]["at_most"], &p["growth"]["at_most_lasts_s"]), (&json!(50), &json!(10.0)), "50 pages of 200 ms");
    assert_eq!(p["growth"]["thousand_more_s"], json!(200.0));
}

#[test]
fn of_a_job_that_is_half_done_the_rest_is_counted_also_while_it_runs() {
    let origin = Origin::start(|r| if r.path().len() == 4 { Reply::ok(page(r.path())) } else { Reply::hang() });
    let urls: Vec<String> = (100..120).chain(1000..1030).map(|i| origin.url(&format!("/{i}"))).collect();
    let job = Job::over(&urls).set("limits.rate", "\"100/hour\"").set("limits.burst", "50");
    let live = job.run().spawn();
    assert!(origin.wait_for(28, Duration::from_secs(30)));
    let status = || told(Gleaner::new(["status"]).arg(job.path("job.toml")).home(job.dir()));
    assert!(wait_until(Duration::from_secs(20), || status()["account"]["results"] == json!(20)));
    let p = told(plan(&job));
    assert_eq!(p["state"], json!({ "results": 20, "skipped": 0, "pending": 30, "finished": false, "pid": live.pid(), "running": true }));
    assert_eq!((&p["requests"]["total"], &p["input"]["records"]), (&json!(30), &json!(0)));
    let spent = p["spent"][0]["spent"].as_u64().unwrap();
    assert!(spent >= 20, "what the run has sent counts in its limits: {p}");
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(15)).assert_code(130);

    // More lines, one of them known; a run would send what is pending and what is new.
    let more = ["/100", "/2000", "/2001"].map(|path| origin.url(path));
    job.list(urls.iter().chain(&more));
    let (before, asked) = (files(job.dir()), origin.arrivals());
    let p = told(plan(&job));
    assert_eq!((&p["requests"]["total"], &p["input"]["records"], &p["input"]["repeated"]), (&json!(32), &json!(3), &json!(1)), "{p}");
    let text = plan(&job).expect(0).out;
    assert!(text.contains("20 entries done, 30 pending"), "{text}");
    assert_eq!((files(job.dir()), origin.arrivals()), (before, asked));
}

#[test]
fn a_hold_that_stands_is_told_and_a_finished_job_sends_nothing() {
    let origin = Origin::start(|r| if r.path() == "/no" { Reply::status(429).header("Retry-After", "7200") } else { Reply::ok("x") });
    let job = Job::over([origin.url("/no")]).set("limits.max_wait", "\"1h\"");
    job.run().expect(75);
    let p = told(plan(&job));
    assert_eq!((&p["holds"][0]["key"], &p["holds"][0]["beyond_max_wait"]), (&json!("127.0.0.1"), &json!(true)));
    assert_eq!((&p["time"]["first_hour"], &p["held"][0]["by"]["kind"]), (&json!(0), &json!("hold")));
    assert!(p["time"]["lasts_s"].as_f64().unwrap() > 7000.0, "{p}");
    let text = plan(&job).expect(0).out;
    assert!(text.contains("nothing is sent before") && text.contains("75"), "{text}");

    let job = Job::over([origin.url("/a")]);
    job.run().expect(0);
    let p = told(plan(&job));
    assert_eq!((&p["requests"]["total"], &p["state"]["finished"]), (&json!(0), &json!(true)));
    assert!(plan(&job).expect(0).out.contains("a run would send nothing"));
}

#[test]
fn caps_and_slow_answers_are_part_of_it() {
    let job =
        Job::over((0..1000).map(|i| format!("https://api.example/{i}"))).set("limits.rate", "\"10/second\"").set("stop.requests", "600");
    let p = told(plan(&job));
    assert_eq!((&p["time"]["requests"], &p["time"]["ends"], &p["time"]["first_minute"]), (&json!(600), &json!("requests"), &json!(500)));
    assert!(plan(&job).expect(0).out.contains("[stop] requests ends the run then, after 600 requests"));
    let slow = told(plan(&job).args(["--answer", "3s"]));
    let (usable, with) = (slow["quotas"][0]["usable"].as_f64().unwrap(), slow["quotas"][0]["with_arrival_1s"].as_f64().unwrap());
    assert!((usable - 1.0 / 4.001).abs() < 1e-6 && (with - 1.0 / 2.001).abs() < 1e-6, "{slow}");
    let text = plan(&job).args(["--answer", "3s"]).expect(0).out;
    assert!(text.contains("24% of 10/second can be used at answers of 3s; 49% with [limits] arrival"), "{text}");
}

#[test]
fn a_wrong_job_input_or_state_is_65_and_a_wrong_flag_2() {
    let job = Job::over(["https://a.example/"]);
    plan(&job).args(["--answer", "soon"]).expect(2);
    plan(&job).args(["--set", "limits.rate=fast"]).expect(2);
    let wrong = job.file("wrong.toml", "[input]\nfil = \"in.txt\"\n");
    Gleaner::new(["plan"]).arg(wrong).home(job.dir()).expect(65);
    Gleaner::new(["plan", "absent.toml"]).home(job.dir()).expect(65);
    let none = Job::new();
    assert!(plan(&none).expect(65).err.contains("in.txt"));
    let bare = Job::over(["a.example", "b.example"]);
    assert!(plan(&bare).expect(65).err.contains("https://{{url}}"), "the cure that a run would tell");
    // A state that the job does not fit any more.
    let origin = Origin::start(|_| Reply::ok("x"));
    let job = Job::over([origin.url("/a")]);
    job.run().expect(0);
    assert!(plan(&job.set("request.method", "\"POST\"")).expect(65).err.contains("request.method"));
}

#[test]
fn a_list_may_come_from_a_pipe() {
    let job = Job::new().set("input.file", "\"-\"");
    let p = told(plan(&job).stdin("https://a.example/1\nhttps://a.example/2\n"));
    assert_eq!(p["requests"]["total"], json!(2));
}

#[test]
fn what_is_told_comes_true() {
    let origin = Origin::start(|_| Reply::ok("x").after(Duration::from_millis(100)));
    for (key, value) in [("limits.rate", "\"10/second\""), ("limits.per_host", "2"), ("limits.delay", "\"60ms\"")] {
        let job = Job::over((0..40).map(|i| origin.url(&format!("/{i}")))).set(key, value);
        let told = told(plan(&job).args(["--answer", "100ms"]))["time"]["lasts_s"].as_f64().unwrap();
        job.run().expect(0);
        let took = job.stats()["elapsed_s"].as_f64().unwrap();
        assert!(took > 0.9 * told && took < 1.5 * told + 1.0, "{key} = {value}: told {told} s, took {took} s");
    }
}
