//! The job file: what is refused and how, what wins, what `check` and `schema` tell.

use crate::support::{Gleaner, Job, Origin, Reply, page};

fn echo() -> Origin {
    Origin::start(|r| Reply::ok(page(r.path())))
}

fn check(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(dir.path().join("in.txt"), "http://127.0.0.1:9/x\n").unwrap();
    let run = Gleaner::new(["check"]).arg(file).home(dir.path()).expect(65);
    (dir, run.err)
}

#[test]
fn every_error_comes_at_once_with_line_column_and_the_nearest_key() {
    let text = r#"[input]
file = "in.txt"

[request]
timeot = { connect = "1s" }
method = 7

[limits]
workers = "many"
rate = "5000 per hour"
per_hosts = 3

[retry]
backoff = "soon"

[extrct]
fields = { a = "css:h1" }
"#;
    let (_dir, err) = check(text);
    for (place, words) in [
        ("5:1", "timeout"),
        ("6:10", "method"),
        ("9:11", "workers"),
        ("10:8", "5000/hour"),
        ("11:1", "per_host"),
        ("14:11", "backoff"),
        ("16:2", "extract"),
    ] {
        assert!(err.contains(&format!("wrong.toml:{place}")), "no error at {place}:\n{err}");
        assert!(err.contains(words), "{words} is not named:\n{err}");
    }
}

#[test]
fn wrong_values_inside_their_types_are_errors_too() {
    for (text, words) in [
        ("[input]\nfile = \"in.txt\"\n[extract]\nfields = { a = \"css:h1[\" }\n", "extract.fields.a"),
        ("[input]\nfile = \"in.txt\"\n[extract]\nfields = { a = \"json:.a |\" }\n", "extract.fields.a"),
        ("[input]\nfile = \"in.txt\"\n[extract]\nfields = { a = \"re:(\" }\n", "extract.fields.a"),
        ("[input]\nfile = \"in.txt\"\n[extract]\nrequired = [\"absent\"]\n", "absent"),
        ("[input]\nfile = \"in.txt\"\nurls = [\"http://a/\"]\n", "urls"),
        ("[job]\nname = \"x\"\n", "input"),
        ("[input]\nfile = \"in.txt\"\n[limits]\nrate = \"10/second\"\nburst = 10\n", "burst"),
        ("[input]\nfile = \"in.txt\"\n[request]\nheaders = { \"bad header\" = \"x\" }\n", "bad header"),
        ("[input]\nfile = \"in.txt\"\n[output]\nresults = \"out.xlsx\"\n", "out.xlsx"),
        ("[input]\nfile = \"in.txt\"\n[output]\nmeta = [\"_nope\"]\n", "_nope"),
        ("[input\nfile = 1\n", "wrong.toml:1"),
        ("[input]\nfile = \"in.txt\"\nfile = \"b.txt\"\n", "wrong.toml:3"),
    ] {
        let (_dir, err) = check(text);
        assert!(err.contains(words), "{words} is not named for\n{text}\n{err}");
        assert!(err.contains("wrong.toml:"), "no place for\n{text}\n{err}");
    }
}

#[test]
fn a_key_that_a_later_version_brings_says_not_yet() {
    for text in [
        "[input]\nfile = \"in.txt\"\non_change = \"merge\"\n",
        "[input]\nfile = \"in.txt\"\n[store]\nbodies = \"files\"\n",
        "[input]\nfile = \"in.txt\"\n[request]\ncookies = \"host\"\n",
        "[input]\nfile = \"in.txt\"\n[pages]\nnext = \"page\"\nparam = \"p\"\nparallel = 4\n",
        "[input]\nfile = \"in.txt\"\n[extract]\nmin_fill = { a = \"80%\" }\n",
        "[input]\nfile = \"in.txt\"\n[[host]]\nmatch = \"a.example\"\nauth = { bearer = \"x\" }\n",
        "[input]\nfile = \"in.txt\"\n[stop]\ndisk_free = \"1GiB\"\n",
        "[input]\nfile = \"in.txt\"\n[crawl]\nsitemaps = true\n",
    ] {
        let (_dir, err) = check(text);
        assert!(err.contains("not yet"), "{text}\n{err}");
    }
}

#[test]
fn a_wrong_job_sends_nothing_and_leaves_nothing() {
    let job = Job::over(["http://127.0.0.1:9/"]).set("limits.wrokers", "3");
    job.run().expect(65);
    let mut names: Vec<String> =
        std::fs::read_dir(job.dir()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["in.txt", "job.toml"]);
    let run = Gleaner::new(["run", "absent.toml"]).home(job.dir()).expect(65);
    assert!(run.err.contains("absent.toml"), "{}", run.err);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let job = Job::over(["http://127.0.0.1:9/"]).set("limits.per_host", "3").set("limits.workers", "5");
    let path = job.write();
    let explain = |extra: &[&str]| {
        Gleaner::new(["check", "--explain"]).arg(&path).args(extra).env("GLEANER_LIMITS__WORKERS", "7").home(job.dir()).expect(0).out
    };
    let line = |text: &str, key: &str| text.lines().find(|l| l.contains(key)).unwrap_or_else(|| panic!("{key} in\n{text}")).to_owned();
    let out = explain(&[]);
    let workers = line(&out, "limits.workers");
    assert!(workers.contains('7') && workers.contains("GLEANER_LIMITS__WORKERS"), "{workers}");
    let per_host = line(&out, "limits.per_host");
    assert!(per_host.contains('3') && per_host.contains("job.toml"), "{per_host}");
    let redirects = line(&out, "request.redirects");
    assert!(redirects.contains("10") && redirects.contains("default"), "{redirects}");
    let workers = line(&explain(&["--set", "limits.workers=9"]), "limits.workers");
    assert!(workers.contains('9') && workers.contains("--set"), "{workers}");
}

#[test]
fn check_of_a_right_job_is_quiet_about_errors_and_sends_nothing() {
    let origin = echo();
    let job = Job::over([origin.url("/a")]);
    Gleaner::new(["check"]).arg(job.write()).home(job.dir()).expect(0);
    assert_eq!(origin.arrivals(), 0);
    let wrong_env = Gleaner::new(["check"]).arg(job.write()).env("GLEANER_LIMITS__WORKRS", "7").home(job.dir()).expect(65);
    assert!(wrong_env.err.contains("GLEANER_LIMITS__WORKRS"), "{}", wrong_env.err);
}

#[test]
fn the_schema_is_json_and_names_the_sections() {
    let run = Gleaner::new(["schema"]).expect(0);
    let schema: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    for section in ["job", "input", "request", "limits", "retry", "crawl", "pages", "extract", "output", "network", "auth", "stop"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}
