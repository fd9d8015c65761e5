//! The way out: network policy, proxies, name servers, TLS, HTTP/2.

use crate::support::origin::Setup;
use crate::support::{Gleaner, Job, Origin, Reply, Req, ms, page};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn echo() -> Origin {
    Origin::start(|r| Reply::ok(page(r.path())))
}

#[test]
fn a_public_name_does_not_lead_into_a_private_network() {
    let origin = Origin::on(1, |r| match r.path() {
        "/to-literal" => Reply::redirect(302, &format!("http://127.0.1.1:{}/secret", r.host().rsplit(':').next().unwrap())),
        "/to-name" => Reply::redirect(302, &format!("http://good.example.com:{}/secret", r.host().rsplit(':').next().unwrap())),
        "/to-metadata" => Reply::redirect(302, "http://169.254.169.254/latest/meta-data"),
        _ => Reply::ok("secret"),
    });
    let port = origin.port;
    let url = |p: &str| format!("http://public.test:{port}{p}");
    let job = Job::over(["/to-literal", "/to-name", "/to-metadata", "/plain"].map(url));
    let (server, _) = name_server();
    let resolve = |g: Gleaner| g.args(["--resolve", &format!("public.test:{port}:127.0.0.1"), "--dns-server", &server]);
    resolve(job.run()).expect(1);
    job.exactly_once(4);
    let fates = job.fates();
    for p in ["/to-literal", "/to-name", "/to-metadata"] {
        assert_eq!(fates.get(&url(p)).map(|f| f.0.as_str()), Some("blocked-address"), "{p}");
    }
    assert_eq!(origin.at_path("/secret").len(), 0);
    // named by a flag, it may
    let job = Job::over([url("/to-literal")]);
    resolve(job.run()).args(["--allow-net", "127.0.0.0/8"]).expect(0);
    assert_eq!(origin.at_path("/secret").len(), 1);
}

#[test]
fn public_only_refuses_what_a_list_from_strangers_names() {
    let origin = echo();
    let job = Job::over([origin.url("/x"), "http://[::1]:9/x".into(), "http://169.254.169.254/x".into(), "http://2130706433/x".into()])
        .set("network.allow", "\"public\"");
    job.run().expect(1);
    assert!(job.exactly_once(4).1.iter().all(|r| r.text("reason") == "blocked-address"), "{:?}", job.fates());
    assert_eq!(origin.arrivals(), 0);
    // link-local is refused even where it is named
    let job = Job::over(["http://169.254.169.254/latest/", &origin.url("/y")]);
    job.run().expect(1);
    assert_eq!(job.fates()["http://169.254.169.254/latest/"].0, "blocked-address");
}

#[test]
fn links_of_a_public_site_to_private_hosts_are_blocked() {
    let origin = Origin::on(1, |r| {
        if r.path() == "/robots.txt" {
            return Reply::status(404);
        }
        Reply::ok(format!("<a href=\"http://127.0.1.1:{}/inner\">x</a><a href=\"/b\">b</a>", r.host().rsplit(':').next().unwrap()))
    });
    let job = Job::crawl(&format!("http://public.test:{}/", origin.port)).set("crawl.scope", "\"any\"").set("crawl.depth", "1");
    job.run().args(["--resolve", &format!("public.test:{}:127.0.0.1", origin.port)]).expect(1);
    assert!(job.skipped().iter().any(|r| r.text("reason") == "blocked-address"), "{:?}", job.fates());
    assert_eq!(origin.at_path("/inner").len(), 0);
}

#[test]
fn proxies_come_from_the_environment_the_job_and_the_flag() {
    let proxy = echo();
    let way = proxy.url("");
    let way = way.trim_end_matches('/');
    let seen = |p: &str| proxy.log().iter().any(|r| r.target == format!("http://site.example.com{p}"));
    let job = |p: &str| Job::over([format!("http://site.example.com{p}")]);
    job("/env").run().env("http_proxy", way).expect(0);
    job("/bare").run().env("http_proxy", way.trim_start_matches("http://")).expect(0);
    job("/all").run().env("all_proxy", way).expect(0);
    job("/job").set("request.proxy", &format!("{way:?}")).run().expect(0);
    job("/flag").run().args(["--set", &format!("request.proxy={way}")]).expect(0);
    for p in ["/env", "/bare", "/all", "/job", "/flag"] {
        assert!(seen(p), "{p}: {:?}", proxy.log().iter().map(|r| r.target.clone()).collect::<Vec<_>>());
    }
    let direct = echo();
    Job::over([direct.url("/direct")]).run().env("http_proxy", way).env("no_proxy", "127.0.0.0/8").expect(0);
    assert_eq!((direct.arrivals(), proxy.arrivals()), (1, 5));
    // credentials go to the proxy, and nowhere else
    let user = way.replace("http://", "http://user:p%40ss@");
    let run = job("/auth").run().env("http_proxy", &user).arg("--verbose").expect(0);
    let sent = proxy.log().last().unwrap().header("proxy-authorization").map(str::to_owned);
    assert_eq!(sent.as_deref(), Some("Basic dXNlcjpwQHNz"));
    assert!(!run.err.contains("p%40ss") && !run.err.contains("p@ss"), "{}", run.err);
}

#[test]
fn https_goes_through_a_tunnel_of_an_http_proxy() {
    let site = Origin::with(Setup { tls: true, ..Setup::default() }, |r| Reply::ok(page(r.host())));
    let to = site.addr();
    let proxy = Origin::start(move |r: &Req| if r.method == "CONNECT" { Reply::tunnel(to) } else { Reply::status(500) });
    let job = Job::over(["https://shop.example.com/x"]).set("extract.fields", r#"{ t = "css:h1" }"#);
    job.run().env("https_proxy", proxy.url("")).arg("--ca-file").arg(site.ca_file()).expect(0);
    assert_eq!(job.results()[0].text("t"), "shop.example.com");
    assert_eq!(proxy.log()[0].target, "shop.example.com:443");
}

/// A SOCKS5 proxy that sends every connection to one place and remembers the names it was asked for.
fn socks5(to: std::net::SocketAddr) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&names);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || socks_connection(client, to, &kept));
        }
    });
    (port, names)
}

fn socks_connection(mut client: TcpStream, to: std::net::SocketAddr, names: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = [0; 2];
    client.read_exact(&mut head).ok()?;
    client.read_exact(&mut vec![0; head[1] as usize]).ok()?;
    client.write_all(&[5, 0]).ok()?;
    let mut request = [0; 4];
    client.read_exact(&mut request).ok()?;
    let mut length = [4];
    if request[3] == 3 {
        client.read_exact(&mut length).ok()?;
    } else if request[3] == 4 {
        length = [16];
    }
    let mut host = vec![0; length[0] as usize];
    client.read_exact(&mut host).ok()?;
    client.read_exact(&mut [0; 2]).ok()?;
    names.lock().unwrap().push(String::from_utf8_lossy(&host).into_owned());
    let mut onward = TcpStream::connect(to).ok()?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    let (mut back, mut client2) = (onward.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut back, &mut client2));
    std::io::copy(&mut client, &mut onward).ok()?;
    Some(())
}

#[test]
fn socks5h_resolves_at_the_proxy() {
    let origin = echo();
    let (port, names) = socks5(origin.addr());
    let job = Job::over(["http://far.example.com/x"]).set("request.proxy", &format!("\"socks5h://127.0.0.1:{port}\""));
    job.run().expect(0);
    assert_eq!(names.lock().unwrap().as_slice(), ["far.example.com"]);
    assert_eq!(origin.log()[0].host(), "far.example.com");
}

#[test]
fn a_dead_proxy_charges_nothing_and_is_never_gone_around() {
    let origin = echo();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let job = Job::over([origin.url("/a")]).set("request.proxy", &format!("\"http://u:pw@{dead}\"")).set("limits.max_wait", "\"1s\"");
    let run = job.run().expect(75);
    assert_eq!(origin.arrivals(), 0);
    assert_eq!(job.stats()["pending"], 1);
    assert!(run.err.contains(&dead.to_string()) && !run.err.contains("pw@"), "{}", run.err);
    assert_eq!(run.err.matches("warning:").count(), 1, "told once: {}", run.err);
    assert!(job.stats()["finish"] == "deferred" && run.err.contains("[request] proxy"), "{}", run.err);
    // mended, the same command goes on
    job.run().args(["--set", "request.proxy=off"]).expect(0);
    assert_eq!(job.results()[0].number("_attempts"), 1, "nothing was charged");
}

#[test]
fn a_dead_proxy_does_not_stop_what_goes_around_it() {
    let origin = echo();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = (0..100).map(|i| format!("http://far.example.com/{i}")).chain((0..100).map(|i| origin.url(&format!("/{i}"))));
    let job = Job::over(urls).set("limits.max_wait", "\"1s\"");
    let run = job.run().env("http_proxy", format!("http://{dead}")).env("no_proxy", "127.0.0.1").expect(75);
    assert!(run.err.contains("no proxy is left"), "{}", run.err);
    let stats = job.stats();
    assert_eq!((stats["results"].as_u64(), stats["pending"].as_u64()), (Some(100), Some(100)));
}

#[test]
fn a_proxy_that_rests_is_not_asked_and_another_one_takes_over() {
    let proxy = echo();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let list = format!("[\"http://u:pw@{dead}\", {:?}]", proxy.url(""));
    let job = Job::over((0..40).map(|i| format!("http://site.example.com/{i}"))).set("request.proxy", &list);
    let run = job.run().arg("--verbose").expect(0);
    job.exactly_once(40);
    assert_eq!(proxy.arrivals(), 40);
    let failed = run.err.lines().filter(|l| l.contains(" attempt ") && l.contains("proxy-unreachable")).count();
    assert!((1..=8).contains(&failed), "only what was under way: {failed}\n{}", run.err);
    assert!(run.err.contains(&format!("proxy {dead}")) && run.err.contains("rests for 30s") && !run.err.contains("pw@"), "{}", run.err);
    assert!(job.results().iter().all(|r| r.number("_attempts") == 1), "nothing was charged");
}

#[test]
fn a_407_is_the_proxys_and_five_in_a_row_end_it() {
    let proxy = Origin::start(|_| Reply::status(407).after(ms(500)));
    let job = Job::over((0..8).map(|i| format!("http://site.example.com/{i}"))).set("request.proxy", &format!("{:?}", proxy.url("")));
    let run = job.run().expect(75);
    assert!((5..=8).contains(&proxy.arrivals()), "{} requests\n{}", proxy.arrivals(), run.err);
    let stats = job.stats();
    assert_eq!((stats["pending"].as_u64(), stats["skipped"].as_u64(), stats["finish"].as_str()), (Some(8), Some(0), Some("deferred")));
    assert_eq!(stats["requests"].as_u64(), Some(proxy.arrivals() as u64), "each was written to the proxy: {stats}");
    assert!(run.err.contains(&format!("127.0.0.1:{}", proxy.port)) && run.err.contains("not asked again"), "{}", run.err);
}

#[test]
fn a_way_that_a_proxy_does_not_open_costs_that_host_only() {
    let site = Origin::with(Setup { tls: true, ..Setup::default() }, |r| Reply::ok(page(r.host())));
    let to = site.addr();
    let proxy = Origin::start(move |r: &Req| if r.target.starts_with("dead") { Reply::status(502) } else { Reply::tunnel(to) });
    let job = Job::over(["https://dead.example.com/x", "https://shop.example.com/x"])
        .set("retry.attempts", "2")
        .set("retry.backoff", "\"100ms\"");
    job.run().env("https_proxy", proxy.url("")).arg("--ca-file").arg(site.ca_file()).expect(1);
    assert_eq!(job.fates()["https://dead.example.com/x"], ("proxy-refused".to_owned(), 2));
    assert_eq!(job.exactly_once(2).0.len(), 1);
}

/// A name server: `good*` has an address, `servfail*` fails, `nodata*` is empty, `silent*` is silence, all else is no name.
fn name_server() -> (String, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let query = &buffer[..n];
            let mut end = 12;
            let mut name = String::new();
            while query[end] != 0 {
                let len = query[end] as usize;
                name.push_str(&String::from_utf8_lossy(&query[end + 1..=end + len]).to_lowercase());
                name.push('.');
                end += len + 1;
            }
            let kind = query[end + 2];
            let question = &query[12..end + 5];
            let (code, answer) = match name.split('.').next().unwrap_or("") {
                n if n.starts_with("good") => (0, kind == 1),
                n if n.starts_with("servfail") => (2, false),
                n if n.starts_with("nodata") => (0, false),
                n if n.starts_with("silent") => continue,
                _ => (3, false),
            };
            let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, u8::from(answer), 0, 0, 0, 0];
            reply.extend_from_slice(question);
            if answer {
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    (addr, asked)
}

#[test]
fn names_that_do_not_exist_are_told_from_servers_that_fail() {
    let (server, _) = name_server();
    let origin = echo();
    let url = |host: &str| format!("http://{host}.example.com:{}/x", origin.port);
    let names = ["good", "good-_odd", "nothere", "servfail", "nodata"];
    let job = Job::over(names.map(url)).set("retry.attempts", "2");
    job.run().args(["--dns-server", &server]).expect(1);
    job.exactly_once(names.len());
    let fates = job.fates();
    let reason = |n: &str| fates.get(&url(n)).map_or("ok", |f| f.0.as_str());
    assert_eq!(names.map(reason), ["ok", "ok", "dns-nxdomain", "dns-servfail", "dns-nodata"]);
    assert_eq!(fates[&url("servfail")].1, 2, "a failing name server is tried again");
}

#[test]
fn a_silent_name_server_is_a_time_out() {
    let (server, _) = name_server();
    let job = Job::over(["http://silent.example.com/x"])
        .set("retry.attempts", "1")
        .set("request.timeout", r#"{ connect = "1500ms", first_byte = "2s", total = "5s" }"#);
    let run = job.run().args(["--dns-server", &server]).expect(1);
    let (reason, _) = &job.fates()["http://silent.example.com/x"];
    assert!(matches!(reason.as_str(), "dns-timeout" | "connect-timeout"), "{reason}: {}", run.err);
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    let origin = Origin::with(Setup { tls: true, ..Setup::default() }, |r| Reply::ok(page(r.path())));
    let url = format!("https://127.0.0.1:{}/x", origin.port);
    let job = Job::over([&url]);
    job.run().expect(1);
    assert_eq!(job.fates()[&url], ("tls-cert".to_owned(), 1));
    assert_eq!(origin.arrivals(), 0);
    Job::over([&url]).run().arg("--ca-file").arg(origin.ca_file()).expect(0);
    Job::over([&url]).set("request.tls", &format!("{{ ca_file = {:?} }}", origin.ca_file())).run().expect(0);
    // the right authority and the wrong name
    let wrong = format!("https://wrong.invalid:{}/x", origin.port);
    let job = Job::over([&wrong]);
    let resolve = format!("wrong.invalid:{}:127.0.0.1", origin.port);
    job.run().args(["--resolve", &resolve, "--ca-file"]).arg(origin.ca_file()).expect(1);
    assert_eq!(job.fates()[&wrong].0, "tls-cert");
}

#[test]
fn http2_is_spoken_where_it_is_offered_on_few_connections() {
    let origin = Origin::with(Setup { tls: true, h2: true, ..Setup::default() }, |r| Reply::ok(page(r.path())));
    let job = Job::over((0..300).map(|i| format!("https://127.0.0.1:{}/{i}", origin.port))).set("extract.fields", r#"{ t = "css:h1" }"#);
    job.run().arg("--ca-file").arg(origin.ca_file()).expect(0);
    let (results, _) = job.exactly_once(300);
    assert!(results.iter().all(|r| r.text("t") == format!("/{}", r.number("_row") - 1)));
    assert!(origin.log().iter().all(|r| r.h2));
    assert!(origin.connections() <= 8, "{} connections", origin.connections());
}

#[test]
fn connections_are_reused_and_bounded() {
    let origin = echo();
    let job = Job::over((0..500).map(|i| origin.url(&format!("/{i}")))).set("limits.per_host", "4");
    job.run().expect(0);
    assert!(origin.max_open() <= 8, "{} connections at one time", origin.max_open());
    assert!(origin.connections() <= 20, "{} connections for 500 pages", origin.connections());
}

#[test]
fn odd_heads_are_read_as_browsers_read_them() {
    let origin = Origin::start(|r| match r.path() {
        "/no-phrase" => Reply::raw("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        "/bare-lf" => Reply::raw("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        "/http-1.0" => Reply::raw("HTTP/1.0 200 OK\r\n\r\nok"),
        "/non-ascii" => Reply::raw("HTTP/1.1 200 OK\r\nX-N: caf\u{e9}\r\nContent-Length: 2\r\n\r\nok"),
        "/folded" => Reply::raw("HTTP/1.1 200 OK\r\nX-F: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
        "/blank-before-colon" => Reply::raw("HTTP/1.1 200 OK\r\nX-B : a\r\nContent-Length: 2\r\n\r\nok"),
        "/no-colon" => Reply::raw("HTTP/1.1 200 OK\r\nwhat is this\r\nContent-Length: 2\r\n\r\nok"),
        "/too-much" => Reply::script([crate::support::Step::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nBAD".to_vec(),
        )]),
        _ => Reply::ok("ok"),
    });
    let names = ["/no-phrase", "/bare-lf", "/http-1.0", "/non-ascii", "/folded", "/blank-before-colon", "/no-colon", "/too-much", "/after"];
    let job = Job::over(names.map(|p| origin.url(p))).set("limits.per_host", "1").set("extract.fields", r#"{ t = "re:\\w+" }"#);
    job.run().expect(0);
    for r in job.exactly_once(names.len()).0 {
        assert_eq!(r.text("t"), "ok", "{}", r.text("_url"));
    }
}

/// The shell line that goes on in a network of its own, with loopback alone and set up by `more`; `None` where this machine does
/// not let the tests have one.
fn own_network(more: &str) -> Option<String> {
    let set_up = format!("set -e; ip link set lo up; {more}");
    let works = std::process::Command::new("unshare").args(["-rn", "sh", "-c", &set_up]).output().is_ok_and(|o| o.status.success());
    works.then(|| format!("exec unshare -rn sh -c '{set_up}; exec \"$0\" \"$@\"' \"$0\" \"$@\""))
}

#[test]
fn a_name_with_ipv6_alone_costs_its_entry_where_there_is_no_ipv6() {
    let Some(network) = own_network("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6") else { return };
    let job = Job::over(["http://six.test:9/x"]).set("retry.attempts", "2");
    let run = job.run().shell(&network).args(["--resolve", "six.test:9:::1"]).expect(1);
    assert_eq!(job.fates()["http://six.test:9/x"], ("net-unreachable".to_owned(), 2), "{}", run.err);
    assert!(!run.err.contains("this machine is short"), "{}", run.err);
}

#[test]
fn a_shortage_of_ports_that_does_not_pass_ends_the_run_with_the_rest_pending() {
    let ports =
        "cd /proc/sys/net/ipv4; echo 60000 60001 > ip_local_port_range; echo 60000-60001 > ip_local_reserved_ports; cd - > /dev/null";
    let Some(network) = own_network(ports) else { return };
    let job = Job::over(["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]).set("limits.max_wait", "\"1s\"");
    let run = job.run().shell(&network).expect(75);
    let stats = job.stats();
    assert_eq!((stats["pending"].as_u64(), stats["finish"].as_str()), (Some(2), Some("deferred")), "{stats}");
    assert!(run.err.contains("short of open files, ports or buffers for"), "{}", run.err);
}
