//! The command line: forms of `fetch`, exit codes, signals, what stands on which stream, what no file may hold.

use crate::support::origin::wait_until;
use crate::support::{Gleaner, Job, Origin, Reply, ms, page};
use rustix::process::Signal;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

fn echo() -> Origin {
    Origin::start(|r| Reply::ok(page(r.path())))
}

#[test]
fn wrong_flags_end_with_2_and_help_with_0() {
    for args in [&["run"][..], &["run", "--no-such-flag", "x"], &["nonsense"], &["run", "x.toml", "--seed", "x"]] {
        Gleaner::new(args).expect(2);
    }
    let help = Gleaner::new(["--help"]).expect(0);
    for command in ["run", "fetch", "crawl", "check", "status", "budget", "schema", "demo"] {
        assert!(help.out.contains(command), "{command}");
    }
    Gleaner::new(["--version"]).expect(0);
}

#[test]
fn fetch_takes_addresses_a_file_or_stdin_and_gives_rows_on_stdout() {
    let origin = echo();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list.txt"), format!("{}\n{}\n", origin.url("/a"), origin.url("/b"))).unwrap();
    let titles = |out: &str| {
        let mut t: Vec<String> = crate::support::sinks::parse_jsonl(out).iter().map(|r| r.text("title")).collect();
        t.sort();
        t
    };
    let fetch = || Gleaner::new(["fetch", "--field", "title=css:h1"]).home(dir.path());
    let run = fetch().args([origin.url("/x"), origin.url("/y")]).expect(0);
    assert_eq!(titles(&run.out), ["/x", "/y"]);
    assert!(run.err.contains("-o"), "a notice says which flag makes it resumable: {}", run.err);
    assert!(run.err.contains("warning:") && run.err.contains("at least once"), "{}", run.err);
    assert_eq!(fetch().arg("--quiet").arg(origin.url("/q")).expect(0).err, "");
    assert_eq!(titles(&fetch().arg("list.txt").expect(0).out), ["/a", "/b"]);
    let run = fetch().arg("-").stdin(format!("{}\n", origin.url("/s"))).expect(0);
    assert_eq!(titles(&run.out), ["/s"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the state of a fetch to stdout is thrown away");
    // each call starts anew
    let before = origin.arrivals();
    fetch().arg("list.txt").expect(0);
    assert!(origin.arrivals() >= before + 2);
}

#[test]
fn fetch_into_a_file_resumes_with_the_same_command() {
    let origin = Origin::start(|r| if r.path() == "/hang" && r.nth == 1 { Reply::hang() } else { Reply::ok(page(r.path())) });
    let dir = tempfile::tempdir().unwrap();
    let urls: Vec<String> = ["/a", "/b", "/hang"].map(|p| origin.url(p)).to_vec();
    let fetch = || Gleaner::new(["fetch", "-o", "out.csv"]).args(&urls).home(dir.path());
    let live = fetch().spawn();
    assert!(wait_until(Duration::from_secs(20), || ["/a", "/b", "/hang"].iter().all(|p| !origin.at_path(p).is_empty())));
    std::thread::sleep(ms(800));
    live.signal(Signal::INT);
    live.wait(Duration::from_secs(10)).assert_code(130);
    assert!(dir.path().join("out.csv.gleaner").is_dir());
    fetch().expect(0);
    assert_eq!(crate::support::read(&dir.path().join("out.csv")).len(), 3);
    assert_eq!((origin.at_path("/a").len(), origin.at_path("/hang").len()), (1, 2));
}

#[test]
fn fetch_tells_skipped_records_on_stderr() {
    let origin = Origin::start(|r| if r.path() == "/gone" { Reply::status(404) } else { Reply::ok("x") });
    let run = Gleaner::new(["fetch", &origin.url("/gone"), &origin.url("/ok")]).expect(1);
    assert!(run.err.contains("http-404"), "{}", run.err);
    assert_eq!(run.out.lines().count(), 1);
    // with --verbose each of them, those without a request too
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("l.txt"), format!("{0}\n{0}\nnonsense\n{1}\n", origin.url("/gone"), origin.url("/ok"))).unwrap();
    let run = Gleaner::new(["fetch", "l.txt", "--verbose"]).home(dir.path()).expect(1);
    let told = |fate: &str| run.err.lines().any(|l| l.contains(" settle ") && l.contains(fate));
    assert!(told("http-404") && told("duplicate") && told("bad-input"), "{}", run.err);
    assert!(run.err.lines().any(|l| l.contains("bad-input") && l.contains("l.txt:3")), "why: {}", run.err);
}

#[test]
fn status_needs_the_state_and_nothing_else_of_the_job() {
    let origin = echo();
    let job =
        Job::over([origin.url("/a")]).set("request.headers", "{ X-Token = \"${env:STATUS_TOKEN}\" }").set("auth.hosts", "[\"127.0.0.1\"]");
    job.run().env("STATUS_TOKEN", "x").expect(0);
    let status = Gleaner::new(["status"]).arg(job.path("job.toml")).home(job.dir()).expect(0);
    assert!(status.out.contains("1 results + 0 skipped"), "{}", status.out);
    let dir = tempfile::tempdir().unwrap();
    Gleaner::new(["fetch", "-o", "out.csv", &origin.url("/b")]).home(dir.path()).expect(0);
    let status = Gleaner::new(["status", "out.csv"]).home(dir.path()).expect(0);
    assert!(status.out.contains("1 results + 0 skipped"), "{}", status.out);
    let none = Gleaner::new(["status", "other.csv"]).home(dir.path()).expect(65);
    assert!(none.err.contains("other.csv.gleaner"), "{}", none.err);
}

#[test]
fn exit_code_0_also_where_only_duplicates_were_skipped_and_1_where_something_was() {
    let origin = Origin::start(|r| if r.path() == "/gone" { Reply::status(404) } else { Reply::ok("x") });
    Job::over([origin.url("/a"), origin.url("/a")]).run().expect(0);
    let job = Job::over([origin.url("/a"), origin.url("/gone")]);
    job.run().expect(1);
    // a finished job run again sends nothing, says so, and gives the code it ended with
    let before = origin.arrivals();
    let again = job.run().expect(1);
    assert_eq!(origin.arrivals(), before);
    assert!(again.err.to_lowercase().contains("finished") || again.err.contains("done") || again.err.contains("nothing"), "{}", again.err);
}

#[test]
fn an_output_that_cannot_be_written_is_74_before_any_request() {
    let origin = echo();
    let job = Job::over([origin.url("/a")]).outputs("/proc/nowhere/results.csv", "skipped.jsonl");
    job.run().expect(74);
    assert_eq!(origin.arrivals(), 0);
    let job = Job::over([origin.url("/a")]).outputs("deep/er/results.csv", "other/skipped.jsonl");
    job.run().expect(0);
    assert_eq!(job.results().len(), 1, "missing folders are made");
}

#[test]
fn a_file_size_limit_is_74_and_not_a_signal() {
    let origin = Origin::start(|r| Reply::ok(format!("<h1>{}{}</h1>", r.path(), "x".repeat(2000))));
    let job = Job::over((0..3000).map(|i| origin.url(&format!("/{i}")))).set("extract.fields", r#"{ t = "css:h1" }"#);
    let run = job.run().shell("ulimit -f 2000").go();
    assert_eq!(run.code, Some(74), "{}", run.err);
    job.run().expect(0);
    job.exactly_once(3000);
}

#[test]
fn the_account_is_the_last_line_but_for_hints_and_stats_have_every_key() {
    let origin = Origin::start(|r| if r.path() == "/gone" { Reply::status(404) } else { Reply::ok("x") });
    let mut urls: Vec<String> = (0..1200).map(|i| origin.url(&format!("/{i}"))).collect();
    urls.push(origin.url("/gone"));
    let job = Job::over(&urls);
    let run = job.run().expect(1);
    assert_eq!(run.account(), Some("inputs 1,201 + discovered 0 = 1,200 results + 1 skipped + 0 pending"));
    let lines: Vec<&str> = run.err.lines().collect();
    let at = lines.iter().position(|l| Some(*l) == run.account()).unwrap();
    assert!(lines.len() - at <= 5, "only hints follow the account: {:?}", &lines[at..]);
    let before = lines[..at].join("\n");
    assert!(before.contains("http-404") && before.contains("results.jsonl"), "{before}");
    let stats = job.stats();
    for key in [
        "inputs",
        "discovered",
        "results",
        "rows",
        "skipped",
        "duplicates",
        "pending",
        "requests",
        "retries",
        "by_reason",
        "by_host",
        "warnings",
        "elapsed_s",
        "finish",
        "out_of_scope",
    ] {
        assert!(stats.get(key).is_some(), "{key}: {stats}");
    }
    assert_eq!(stats["by_reason"], serde_json::json!({ "http-404": 1 }));
    assert_eq!(stats["finish"], "done");
}

#[test]
fn quiet_prints_errors_only() {
    let origin = echo();
    let run = Job::over([origin.url("/a")]).run().arg("--quiet").expect(0);
    assert_eq!((run.err.as_str(), run.out.as_str()), ("", ""));
    let run = Job::over([origin.url("/a")]).set("input.file", "\"absent.txt\"").run().arg("--quiet").expect(65);
    assert!(run.err.contains("absent.txt"), "{}", run.err);
}

#[test]
fn pipes_get_no_escape_codes_and_stdout_stays_clean() {
    let origin = echo();
    for extra in [&[][..], &["--verbose"]] {
        let run = Job::over((0..50).map(|i| origin.url(&format!("/{i}")))).run().args(extra).env("TERM", "xterm").expect(0);
        assert!(!run.err.contains('\x1b') && !run.err.contains('\r'), "{:?}", run.err);
        assert_eq!(run.out, "");
    }
}

#[test]
fn verbose_shows_each_attempt_and_each_wait() {
    let origin = Origin::start(|r| if r.nth == 1 { Reply::status(503) } else { Reply::ok("x") });
    let run = Job::over([origin.url("/flaky")]).run().arg("--verbose").expect(0);
    assert!(run.err.contains("/flaky") && run.err.contains("503") && run.err.contains("200"), "{}", run.err);
    for word in ["connect", "attempt", "retry", "settle"] {
        assert!(run.err.lines().any(|l| l.contains(&format!("s {word} "))), "{word}: {}", run.err);
    }
}

#[test]
fn events_are_json_lines_of_past_tense_facts() {
    let origin = Origin::start(|r| if r.nth == 1 { Reply::status(500) } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a")]);
    let events = job.path("events.jsonl");
    job.run().arg("--events").arg(&events).expect(0);
    let text = std::fs::read_to_string(events).unwrap();
    let kinds: Vec<String> =
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["event"].as_str().unwrap().to_owned()).collect();
    for kind in ["run-started", "attempted", "retry-scheduled", "settled", "committed", "run-ended"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind} in {kinds:?}");
    }
    assert_eq!((kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()), ("run-started", "run-ended"));
}

#[test]
fn a_closed_stdout_ends_a_stdout_sink_with_74_and_no_panic() {
    let origin = echo();
    let list: String = (0..5000).map(|i| format!("{}\n", origin.url(&format!("/{i}")))).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list.txt"), list).unwrap();
    let bin = env!("CARGO_BIN_EXE_gleaner");
    let script = format!("{{ {bin} fetch list.txt; echo \"code $?\" >&2; }} | head -n 3");
    let out = std::process::Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 3);
    assert!(err.contains("code 74") && !err.contains("panicked"), "{err}");
    assert!(origin.arrivals() < 5000, "it went on for a reader who had left");
    // a command that only prints ends quietly
    let script = format!("{{ {bin} schema; echo \"code $?\" >&2; }} | head -n 1");
    let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(!err.contains("panicked") && !err.to_lowercase().contains("broken pipe"), "{err}");
}

#[test]
fn rows_for_a_standard_output_that_is_not_there_end_with_74_before_any_request() {
    let origin = echo();
    let fetch = |args: &[&str]| Gleaner::new(["fetch", &origin.url("/a"), "--robots", "ignore"]).args(args);
    let run = fetch(&[]).shell("exec >&-").expect(74);
    assert!(run.err.contains("standard output is closed"), "{}", run.err);
    assert_eq!(origin.arrivals(), 0);
    let dir = tempfile::tempdir().unwrap();
    fetch(&["-o", "rows.jsonl"]).home(dir.path()).shell("exec >&-").expect(0);
    fetch(&[]).shell("exec > /dev/null").expect(0);
}

#[test]
fn stats_and_events_at_a_dash_go_to_standard_output_if_nothing_else_does() {
    let origin = echo();
    let job = Job::over([origin.url("/a")]);
    let go = |args: &[&str]| Gleaner::new(["run"]).arg(job.write()).args(args).home(job.dir());
    let run = go(&["--stats", "-"]).expect(0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run.out).unwrap()["results"], 1, "{}", run.out);
    let run = go(&["--events", "-"]).expect(0);
    let events: Vec<serde_json::Value> = run.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events.last().unwrap()["event"]), (&"run-started".into(), &"run-ended".into()));
    assert!(!job.path("-").exists());
    let asked = origin.arrivals();
    go(&["--events", "-", "--stats", "-"]).expect(2);
    for flag in ["--stats", "--events"] {
        let run = Gleaner::new(["fetch", &origin.url("/b"), flag, "-"]).home(job.dir()).expect(2);
        assert!(run.err.contains(&format!("the rows and {flag} - cannot share standard output")), "{}", run.err);
    }
    assert_eq!((origin.arrivals(), job.path("-").exists()), (asked, false));
}

#[test]
fn closed_stderr_and_an_empty_environment_do_not_matter() {
    let origin = echo();
    let job = Job::over([origin.url("/a")]);
    let file = job.write();
    let script = format!("exec 2>&- 0<&-; exec env -i {} run {}", env!("CARGO_BIN_EXE_gleaner"), file.display());
    let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(job.results().len(), 1);
}

#[test]
fn ctrl_c_and_sigterm_and_sighup_have_their_codes() {
    // Under `nohup` SIGHUP is ignored from the start, and stays so.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        if signal == Signal::HUP && ignored & 1 == 1 {
            continue;
        }
        let origin = Origin::start(|r| if r.path() == "/hang" { Reply::hang() } else { Reply::ok("x") });
        let job = Job::over([origin.url("/a"), origin.url("/hang")]);
        let live = job.run().spawn();
        assert!(origin.wait_for(2, Duration::from_secs(20)));
        std::thread::sleep(ms(300));
        live.signal(signal);
        let run = live.wait(Duration::from_secs(15));
        run.assert_code(code);
        let stats = job.stats();
        assert_eq!((stats["results"].as_u64(), stats["pending"].as_u64()), (Some(1), Some(1)), "stats are written at every end: {stats}");
        assert!(run.account().is_some_and(|a| a.ends_with("1 pending")), "{}", run.err);
        assert!(run.err.contains("gleaner run"), "the resume command is shown: {}", run.err);
    }
}

#[test]
fn a_ctrl_c_that_a_wrapper_passes_on_is_one() {
    let origin = Origin::start(|r| if r.path() == "/hang" { Reply::hang() } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a"), origin.url("/hang")]);
    let live = job.run().spawn();
    assert!(origin.wait_for(2, Duration::from_secs(20)));
    std::thread::sleep(ms(300));
    live.signal(Signal::INT);
    std::thread::sleep(ms(5));
    live.signal(Signal::INT);
    let run = live.wait(Duration::from_secs(15));
    run.assert_code(130);
    assert!(run.account().is_some(), "the end is told: {}", run.err);
}

#[test]
fn nohup_stays_in_force() {
    let origin = Origin::start(|_| Reply::ok("x").after(ms(1500)));
    let job = Job::over([origin.url("/a")]);
    let live = job.run().shell("trap '' HUP").spawn();
    assert!(origin.wait_for(1, Duration::from_secs(20)));
    live.signal(Signal::HUP);
    live.wait(Duration::from_secs(30)).assert_code(0);
}

#[test]
fn status_works_from_another_terminal_while_the_run_is_alive() {
    let origin = Origin::start(|r| if r.path() == "/hang" { Reply::hang() } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a"), origin.url("/b"), origin.url("/hang")]);
    let live = job.run().spawn();
    assert!(origin.wait_for(3, Duration::from_secs(20)));
    std::thread::sleep(ms(1500));
    let out = Gleaner::new(["status", "--json"]).arg(job.path("job.toml")).home(job.dir()).expect(0).out;
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(status.to_string().contains("\"results\":2"), "{status}");
    let text = Gleaner::new(["status"]).arg(job.path("job.toml")).home(job.dir()).expect(0).out;
    assert!(text.contains('2'), "{text}");
    live.kill9();
    Gleaner::new(["status"]).arg(job.path("job.toml")).home(job.dir()).expect(0);
}

#[test]
fn stop_conditions_end_cleanly_and_say_which() {
    let origin = echo();
    for (key, value, why) in [("stop.results", "10", "results"), ("stop.requests", "10", "requests"), ("stop.time", "\"1s\"", "time")] {
        let delayed = Origin::start(|_| Reply::ok("x").after(ms(60)));
        let job = Job::over((0..400).map(|i| delayed.url(&format!("/{i}")))).set(key, value).set("limits.per_host", "2");
        let run = job.run().expect(1);
        let stats = job.stats();
        assert!(stats["finish"].as_str().unwrap().contains(why), "{stats}");
        assert!(stats["pending"].as_u64().unwrap() > 0 && run.err.contains(why), "{}", run.err);
    }
    let failing = Origin::start(|r| Reply::status(if r.path().len() % 2 == 0 { 404 } else { 410 }));
    let job = Job::over((0..2000).map(|i| failing.url(&format!("/{i}")))).set("stop.errors", "\"50%\"").set("limits.per_host", "2");
    job.run().expect(1);
    assert!(job.stats()["finish"].as_str().unwrap().contains("errors"), "{}", job.stats());
    drop(origin);
}

#[test]
fn no_secret_is_written_anywhere() {
    const CANARY: &str = "canary-7f3a9c-do-not-leak";
    let origin = Origin::start(|r| match r.path() {
        "/echo" => Reply::status(401),
        "/away" => Reply::redirect(302, &format!("http://127.0.1.1:{}/other", r.host().rsplit(':').next().unwrap())),
        "/flaky" if r.nth == 1 => Reply::status(500),
        "/broken" => Reply::reset(),
        _ => Reply::ok(page("x")),
    });
    let kinds = [
        ("auth.bearer", "\"${env:CANARY}\""),
        ("auth.basic", "{ user = \"u\", password = \"${env:CANARY}\" }"),
        ("auth.header", "{ X-Api-Key = \"${env:CANARY}\" }"),
        ("request.headers", "{ X-Token = \"t ${env:CANARY}\" }"),
    ];
    for (key, value) in kinds {
        let job = Job::over(["/echo", "/away", "/flaky", "/broken", "/ok"].map(|p| origin.url(p)))
            .set(key, value)
            .set("network.allow", "\"any\"");
        let job = job.set("auth.hosts", "[\"127.0.0.1\"]");
        let events = job.path("events.jsonl");
        let run = job.run().arg("--verbose").arg("--events").arg(events).env("CANARY", CANARY).expect(1);
        let explain = Gleaner::new(["check", "--explain"]).arg(job.path("job.toml")).env("CANARY", CANARY).home(job.dir()).expect(0);
        let encoded = "dTpjYW5hcnktN2YzYTljLWRvLW5vdC1sZWFr"; // base64 of u:canary…
        let sent = origin.log().iter().any(|r| r.headers.iter().any(|(_, v)| v.contains(CANARY) || v.contains(encoded)));
        assert!(sent, "{key}: the server saw it");
        for text in [&run.err, &run.out, &explain.out, &explain.err] {
            assert!(!text.contains(CANARY) && !text.contains(encoded), "{key} leaks to the terminal: {text}");
        }
        no_file_holds(job.dir(), &[CANARY.as_bytes(), encoded.as_bytes()]);
    }
    let missing = Job::over([origin.url("/a")]).set("auth.bearer", "\"${env:CANARY}\"").run().expect(65);
    assert!(missing.err.contains("CANARY"), "a variable that is not set is named: {}", missing.err);
}

fn no_file_holds(dir: &Path, needles: &[&[u8]]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_file_holds(&path, needles);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|w| w == *needle), "{} holds a secret", path.display());
        }
    }
}

#[test]
fn addresses_are_whole_in_files_and_masked_on_the_terminal() {
    let origin = Origin::start(|r| if r.path() == "/bad" { Reply::status(500) } else { Reply::ok("x") });
    let listed = origin.url("/bad?api_key=visible-in-files&x=1").replace("http://", "http://user:pw-in-files@");
    let job = Job::over([listed.clone(), origin.url("/ok")]);
    let events = job.path("events.jsonl");
    let run = job.run().arg("--verbose").arg("--events").arg(&events).expect(1);
    assert_eq!(job.skipped()[0].text("_url"), listed);
    let events = std::fs::read_to_string(events).unwrap();
    for text in [&run.err, &events] {
        assert!(!text.contains("visible-in-files") && !text.contains("pw-in-files"), "{text}");
    }
}

#[test]
fn the_state_and_outputs_go_where_the_contract_says() {
    let origin = Origin::start(|r| if r.path() == "/gone" { Reply::status(404) } else { Reply::ok("x") });
    let job = Job::over([origin.url("/a"), origin.url("/gone")]);
    std::fs::write(job.path("shop.toml"), "[input]\nfile = \"in.txt\"\n[request]\nrobots = \"ignore\"\n").unwrap();
    Gleaner::new(["run"]).arg(job.path("shop.toml")).expect(1);
    for name in ["shop.results.csv", "shop.skipped.jsonl", ".gleaner/shop/LOCK", ".gleaner/shop/state.db"] {
        assert!(job.path(name).exists(), "{name}");
    }
    assert!(File::open(job.path("shop.results.csv")).is_ok());
}

#[test]
fn the_honest_default_user_agent_and_the_browser_one() {
    let origin = echo();
    Job::over([origin.url("/honest")]).run().expect(0);
    Job::over([origin.url("/browser")]).set("request.user_agent", "\"browser\"").run().expect(0);
    Job::over([origin.url("/own")])
        .set("request.user_agent", "\"my-bot/2 (+https://example.com)\"")
        .set("request.headers", "{ Accept = \"text/plain\", X-Row = \"r\" }")
        .run()
        .expect(0);
    let agent = |p: &str| origin.at_path(p)[0].header("user-agent").unwrap_or("").to_owned();
    assert!(agent("/honest").starts_with("gleaner/"), "{}", agent("/honest"));
    assert!(agent("/browser").starts_with("Mozilla/5.0"), "{}", agent("/browser"));
    assert_eq!(agent("/own"), "my-bot/2 (+https://example.com)");
    let own = &origin.at_path("/own")[0];
    assert_eq!((own.header("accept"), own.header("x-row")), (Some("text/plain"), Some("r")));
}
