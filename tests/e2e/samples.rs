//! Each file of `sample-jobs/` as it is: copied, pointed at an origin by the proxy variables, and run.

use crate::support::origin::Setup;
use crate::support::{Gleaner, Origin, Record, Reply, Req, read};
use serde_json::json;
use std::path::{Path, PathBuf};

fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-jobs");
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// Every name leads here: http by absolute form, https by a tunnel.
struct World {
    proxy: Origin,
    site: Origin,
    dir: tempfile::TempDir,
}

fn world(answer: fn(&Req) -> Reply) -> World {
    let site = Origin::with(Setup { tls: true, ..Setup::default() }, answer);
    let to = site.addr();
    let proxy = Origin::start(move |r| if r.method == "CONNECT" { Reply::tunnel(to) } else { answer(r) });
    World { proxy, site, dir: copied() }
}

impl World {
    fn run(&self, job: &str, results: &str) -> Vec<Record> {
        let proxy = self.proxy.url("");
        Gleaner::new(["run", job, "--ca-file"])
            .arg(self.site.ca_file())
            .home(self.dir.path())
            .env("http_proxy", &proxy)
            .env("https_proxy", &proxy)
            .env("API_TOKEN", "sample-token")
            .expect(0);
        read(&self.dir.path().join(results))
    }
}

#[test]
fn the_list_of_pages_runs() {
    let world = world(|r| match r.path() {
        "/robots.txt" => Reply::status(404),
        p => Reply::ok(format!("<meta name=description content=d><h1>Item {p}</h1><b class=price data-value=\"9.90\">9,90</b>")),
    });
    let mut rows = world.run("urls.toml", "urls.results.csv");
    rows.sort_by_key(|r| r.number("_row"));
    assert_eq!(rows.len(), 5);
    assert_eq!((rows[0].text("title").as_str(), rows[0].text("price").as_str()), ("Item /item/1", "9.90"));
}

#[test]
fn the_table_of_parameters_runs() {
    let world = world(|r| Reply::json(&json!({ "stargazers_count": r.path().len(), "language": "Rust" })));
    let mut rows = world.run("repos.toml", "repos.results.jsonl");
    rows.sort_by_key(|r| r.number("_row"));
    let seen: Vec<(String, String)> = rows.iter().map(|r| (r.text("owner"), r.text("note"))).collect();
    let want = [("rust-lang", "the compiler"), ("tokio-rs", "the runtime"), ("serde-rs", "data, in and out")];
    assert_eq!(seen, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(rows[0].number("stars"), "/repos/rust-lang/rust".len() as u64);
    let log = world.site.log();
    assert!(log.iter().filter(|r| r.path() != "/robots.txt").all(|r| r.header("authorization") == Some("Bearer sample-token")));
}

#[test]
fn the_crawl_runs() {
    let world = world(|r| match r.path() {
        "/robots.txt" => Reply::status(200).body("User-agent: *\nDisallow: /guide/drafts\n"),
        "/guide/" => Reply::ok("<title>Guide</title><h1>Guide</h1><a href=one>1</a><a href=print/one>p</a><a href=/blog/>b</a>"),
        _ => Reply::ok("<title>One</title><h1>One</h1><a href=./>up</a>"),
    });
    let rows = world.run("crawl.toml", "crawl.results.jsonl");
    let mut urls: Vec<String> = rows.iter().map(|r| r.text("_url")).collect();
    urls.sort();
    assert_eq!(urls, ["http://docs.example.com/guide/", "http://docs.example.com/guide/one"]);
}

#[test]
fn the_paged_api_runs() {
    let world = world(|r| {
        let page: usize = r.query("page").and_then(|p| p.parse().ok()).unwrap_or(1);
        let rows: Vec<_> = (0..3).map(|k| json!({ "id": page * 10 + k, "title": "t", "labels": [{ "name": "bug" }] })).collect();
        let reply = Reply::json(&json!(rows));
        if page < 4 {
            reply.header("Link", &format!("<https://api.example.com/issues?state=all&per_page=100&page={}>; rel=\"next\"", page + 1))
        } else {
            reply
        }
    });
    let rows = world.run("api.toml", "api.results.csv");
    assert_eq!(rows.len(), 12);
    assert_eq!(rows[0].text("labels"), r#"["bug"]"#);
    assert_eq!(world.site.log()[0].query("per_page"), Some("100"));
    assert!(world.site.log().iter().all(|r| r.header("authorization") == Some("Bearer sample-token")));
}
