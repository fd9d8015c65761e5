use super::{Job, job};
use crate::config::*;
use std::time::Duration;

#[test]
fn defaults_are_those_of_the_contract() {
    let job = job("");
    let folder = job.folder.path();
    let plan = job.ok().plan;
    let r = &plan.request;
    let secs = Duration::from_secs;
    assert_eq!((r.method.as_str(), r.max_body, r.redirects, r.robots, r.idempotent), ("GET", 32 << 20, 10, true, true));
    assert_eq!((r.connect_timeout, r.first_byte_timeout, r.idle_timeout, r.total_timeout), (secs(10), secs(30), secs(30), secs(120)));
    assert_eq!((r.accept.as_slice(), r.body.is_none(), r.headers.len()), ([(200, 299)].as_slice(), true, 0));
    assert_eq!(r.user_agent, UserAgent::Text(format!("gleaner/{}", env!("CARGO_PKG_VERSION"))));
    assert_eq!(r.proxy, ProxyPlan::Environment);
    let l = &plan.limits;
    assert_eq!(
        (l.workers, l.per_host, l.delay, l.max_wait, l.burst, l.key),
        (64, 8, Duration::ZERO, secs(86_400), None, LimitKeyKind::Host)
    );
    let t = &plan.retry;
    assert_eq!(
        (t.attempts, t.backoff, t.max_backoff, t.budget, t.final_sweep, t.host_give_up),
        (5, secs(1), secs(60), Some(0.2), true, secs(300))
    );
    assert_eq!(t.statuses, [408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 598, 599]);
    assert_eq!(t.methods, ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]);
    let o = &plan.output;
    assert_eq!(o.results, SinkPlan { place: SinkPlace::File(folder.join("x.results.csv")), format: SinkFormat::Csv, codec: Codec::Plain });
    assert_eq!(o.skipped.as_ref().unwrap().place, SinkPlace::File(folder.join("x.skipped.jsonl")));
    assert_eq!(o.meta, &crate::model::META_COLUMNS[..6]);
    assert_eq!((o.csv_safe, o.flush), (true, secs(5)));
    assert_eq!((plan.name.as_str(), plan.state), ("x", StatePlace::Folder(folder.join(".gleaner/x"))));
    assert_eq!(plan.network.allow, AllowNetwork::Named);
    assert!(plan.auth.is_none() && plan.crawl.is_none() && plan.pages.is_none());
    assert!(!plan.input.url_set && !plan.input.fetch_duplicates);
}

#[test]
fn apis_and_crawls_have_defaults_of_their_own_that_a_job_may_set() {
    let api = Job::new("request.url = \"https://h/\"").ok().plan;
    assert_eq!((api.request.robots, api.limits.per_host, api.input.source), (false, 8, InputSource::Request));
    assert!(!job("pages.next = \"link\"").ok().plan.request.robots);
    assert!(job("pages.next = \"link\"\nrequest.robots = \"obey\"").ok().plan.request.robots);

    let crawl = Job::new("request.url = \"https://h/\"\n[crawl]\n").ok().plan;
    let (secs, c) = (Duration::from_secs, crawl.crawl.unwrap());
    assert_eq!((crawl.limits.per_host, crawl.limits.delay, crawl.retry.host_give_up, crawl.request.robots), (2, secs(1), secs(7200), true));
    assert_eq!((c.scope, c.depth, c.max_pages, c.follow.len()), (Scope::Host, None, None, 0));
    let set = job("[crawl]\nrobots = \"ignore\"\ndepth = 3\n[limits]\nper_host = 9\ndelay = \"0s\"\n").ok().plan;
    assert_eq!((set.limits.per_host, set.limits.delay, set.request.robots), (9, Duration::ZERO, false));
    assert!(!job("request.robots = \"ignore\"\n[crawl]\n").ok().plan.request.robots);
}

#[test]
fn paths_are_relative_to_the_job_file_and_those_of_flags_to_the_working_folder() {
    let mut job = Job::new(
        "[input]\nfile = \"in.csv\"\n[request]\ntls = { ca_file = \"ca.pem\" }\n[output]\nresults = \"/abs/r.jsonl.zst\"\n[job]\nstate = \"s\"\n",
    );
    job.overrides.set_text("output.skipped", "sk.csv", "--skipped");
    let (folder, plan) = (job.folder.path(), job.ok().plan);
    assert_eq!(plan.input.source, InputSource::File(folder.join("in.csv")));
    assert_eq!(plan.request.ca_file, Some(folder.join("ca.pem")));
    assert_eq!(plan.state, StatePlace::Folder(folder.join("s")));
    assert_eq!(
        plan.output.results,
        SinkPlan { place: SinkPlace::File("/abs/r.jsonl.zst".into()), format: SinkFormat::Jsonl, codec: Codec::Zstd }
    );
    assert_eq!(plan.output.skipped.unwrap().place, SinkPlace::File("sk.csv".into()));
    assert_eq!(Job::new("input.file = \"-\"").ok().plan.input.source, InputSource::Stdin);
}

#[test]
fn a_request_is_read_in_its_order() {
    let plan = job("[request]\nmethod = \"post\"\nquery = { z = 1, a = true, m = \"{{url}}\" }\naccept = [404, \"200..204\", \"410\"]\njson = { z = 1, a = [\"x\"] }\nproxy = [\"p:1\", \"socks5h://q\"]\nuser_agent = \"browser\"\n").ok().plan.request;
    assert_eq!((plan.method.as_str(), plan.idempotent), ("POST", false));
    assert_eq!(plan.query.iter().map(|(n, t)| (n.as_str(), t.source())).collect::<Vec<_>>(), [("z", "1"), ("a", "true"), ("m", "{{url}}")]);
    assert_eq!(plan.accept, [(404, 404), (200, 204), (410, 410)]);
    assert!(matches!(&plan.body, Some(BodyPlan::Json(t)) if t.source() == "{\"z\":1,\"a\":[\"x\"]}"));
    assert_eq!(plan.proxy, ProxyPlan::List(vec!["http://p:1".into(), "socks5h://q".into()]));
    assert_eq!(plan.user_agent, UserAgent::Browser);
    assert!(job("request.method = \"POST\"\nrequest.idempotent = true").ok().plan.request.idempotent);
}

#[test]
fn pages_are_read() {
    let pages = |more: &str| job(&format!("request.json = {{}}\n[pages]\n{more}\n")).ok().plan.pages.unwrap();
    let p = pages("next = \"page\"\nparam = \"page\"\nsize = { param = \"per_page\", value = 100 }");
    assert_eq!(
        (p.next, p.param, p.first, p.size, p.stop),
        (NextPage::Page, Some(PageParam::Query("page".into())), 1, Some(("per_page".into(), 100)), vec![StopRule::Empty])
    );
    let p = pages("next = \"offset\"\nparam = \"start\"\nstop = [\"total:.total\", \"has_more:.more\", \"max:1000\"]");
    assert_eq!((p.first, p.stop), (0, vec![StopRule::Total(".total".into()), StopRule::HasMore(".more".into()), StopRule::Max(1000)]));
    let p = pages("next = \"json:.data.next\"\nparam = \"json:.variables.after\"");
    assert_eq!(
        (p.next, p.param, p.stop),
        (NextPage::Json(".data.next".into()), Some(PageParam::Json(vec!["variables".into(), "after".into()])), vec![])
    );
    let p = pages("next = \"header:X-Next\"\nparam = \"header:X-After\"");
    assert_eq!((p.next, p.param), (NextPage::Header("X-Next".into()), Some(PageParam::Header("X-After".into()))));
}

#[test]
fn what_is_frozen_is_as_written_and_what_may_change_is_not_in_it() {
    let text = "[input]\nfile = \"in.csv\"\n[request]\nmethod = \"POST\"\nform = { a = \"b\" }\nmax_body = \"1MiB\"\n[extract]\nfields = { z = \"css:z\", a = \"css:a\" }\n[crawl]\ndepth = 2\n";
    let job = Job::new(text);
    let frozen = job.ok().plan.frozen;
    let shown: Vec<String> = frozen.iter().map(|(k, v)| format!("{k} {v}")).collect();
    assert_eq!(
        shown,
        [
            "extract.fields {\"z\":\"css:z\",\"a\":\"css:a\"}",
            "input.file \"in.csv\"",
            "output.meta [\"_row\",\"_url\",\"_final_url\",\"_status\",\"_fetched_at\",\"_attempts\"]",
            "output.results \"x.results.csv\"",
            "output.skipped \"x.skipped.jsonl\"",
            "request.form {\"a\":\"b\"}",
            "request.method \"POST\"",
        ]
    );
}

#[test]
fn switches_of_the_network_are_read_or_refused_with_their_form() {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    assert_eq!(parse_allow_net("10.0.0.0/8"), Ok((ip("10.0.0.0"), 8)));
    assert_eq!(parse_allow_net("::1"), Ok((ip("::1"), 128)));
    assert_eq!(parse_allow_net("[fd00::]/8"), Ok((ip("fd00::"), 8)));
    for bad in ["", "10.0.0.0/33", "h/8", "10.0.0.0/", "10.0.0.0/-1"] {
        assert!(parse_allow_net(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_resolve("Ex.com.:443:127.0.0.1"), Ok(("ex.com".into(), 443, ip("127.0.0.1"))));
    assert_eq!(parse_resolve("*:80:[::1]"), Ok(("*".into(), 80, ip("::1"))));
    assert_eq!(parse_resolve("h:80:::1"), Ok(("h".into(), 80, ip("::1"))));
    assert_eq!(parse_resolve("[::2]:80:[::1]"), Ok(("::2".into(), 80, ip("::1"))));
    for bad in ["", "h", "h:80", "h:x:127.0.0.1", "h:0:127.0.0.1", ":80:127.0.0.1", "h:80:k"] {
        assert!(parse_resolve(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_dns_server("[::1]:53").map(|s| s.port()), Ok(53));
    for bad in ["", "127.0.0.1", "::1:53", "h:53", "127.0.0.1:0"] {
        assert!(parse_dns_server(bad).is_err(), "{bad}");
    }
    assert!(parse_dns_server("9.9.9.9").unwrap_err().ends_with("like \"9.9.9.9:53\""));
    assert!(parse_dns_server("2620:fe::fe").unwrap_err().ends_with("like \"[2620:fe::fe]:53\""));
    let mut job = job("network.allow = \"public\"");
    job.overrides.network.allow_net.push((ip("127.0.0.0"), 8));
    let network = job.ok().plan.network;
    assert_eq!((network.allow, network.allow_net.len()), (AllowNetwork::Public, 1));
}

#[test]
fn the_states_place_is_known_where_the_rest_of_the_job_is_wrong() {
    let job = Job::new("job.state = \"s\"\nauth.bearer = \"${env:UNSET}\"\nlimits.workers = \"many\"\nnonsense = 1\n");
    assert!(job.load().is_err());
    let place = |job: &Job| crate::config::state_place(&job.path(), &job.overrides, job.env.clone());
    assert_eq!(place(&job).unwrap(), StatePlace::Folder(job.folder.path().join("s")));
    let plain = Job::new("");
    assert_eq!(place(&plain).unwrap(), StatePlace::Folder(plain.folder.path().join(".gleaner/x")));
    assert!(place(&Job::new("job.name = \"a/b\"")).is_err());
    assert!(place(&Job::new("job.state = 3")).is_err());
    assert!(place(&Job::new("= =")).is_err());
}
