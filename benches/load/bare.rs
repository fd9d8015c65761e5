//! The bare loop: what a careful person writes in an hour. One thread, 64 requests in flight, title and links into one
//! JSON line; it retries nothing, remembers nothing and syncs nothing.

use crate::Workload;
use anyhow::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use scraper::{Html, Selector};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

#[derive(Serialize)]
struct PageRow<'a> {
    url: &'a str,
    status: u16,
    title: Option<String>,
    links: Vec<&'a str>,
}

#[derive(Serialize)]
struct ItemRow<'a> {
    url: &'a str,
    status: u16,
    #[serde(flatten)]
    item: Item,
}

#[derive(Serialize, Deserialize)]
struct Item {
    id: u64,
    name: String,
    price: f64,
}

pub(crate) fn run(workload: Workload, list: &Path, out: &Path) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let title = Selector::parse("title").map_err(|e| anyhow::anyhow!("{e}"))?;
    let link = Selector::parse("a[href]").map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut out = BufWriter::new(File::create(out)?);
    let fetch = async |url: std::io::Result<String>| -> Result<_> {
        let url = url?;
        let answer = client.get(&url).send().await?.error_for_status()?;
        Ok((url, answer.status().as_u16(), answer.bytes().await?))
    };
    let all = async {
        let mut answers = stream::iter(BufReader::new(File::open(list)?).lines()).map(fetch).buffer_unordered(64);
        while let Some((url, status, body)) = answers.try_next().await? {
            match workload {
                Workload::Html => {
                    let page = Html::parse_document(&String::from_utf8_lossy(&body));
                    let title = page.select(&title).next().map(|e| e.text().collect());
                    let links = page.select(&link).filter_map(|e| e.attr("href")).collect();
                    serde_json::to_writer(&mut out, &PageRow { url: &url, status, title, links })?;
                }
                Workload::Json => {
                    let item = serde_json::from_slice(&body)?;
                    serde_json::to_writer(&mut out, &ItemRow { url: &url, status, item })?;
                }
            }
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(all)
}
