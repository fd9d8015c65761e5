//! The store against its promises, over real files.

#![allow(
    clippy::cast_precision_loss,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    clippy::redundant_pub_crate,
    reason = "helpers read better where they are used"
)]

mod contract;
mod crash;
mod cut;
mod limiter;
mod model;
mod recovery;
mod speed;

use super::encode::{EncoderSpec, SKIPPED_KEYS};
use super::writer::Stage;
use super::*;
use crate::clock::{SystemClock, Wall};
use crate::model::plan::{Codec, SinkFormat, SinkPlace, SinkPlan};
use crate::model::{Class, Columns, EntryId, FetchKey, HostKey, Reason, ResultRow, SkippedRecord};
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use url::Url;

pub(super) struct Bed {
    pub(super) root: tempfile::TempDir,
    pub(super) format: SinkFormat,
    pub(super) codec: Codec,
    pub(super) flush: Duration,
    pub(super) depth: Option<u32>,
}

impl Bed {
    pub(super) fn new(format: SinkFormat, codec: Codec) -> Self {
        Self { root: tempfile::tempdir().unwrap(), format, codec, flush: Duration::from_secs(5), depth: None }
    }

    pub(super) fn jsonl() -> Self {
        Self::new(SinkFormat::Jsonl, Codec::Plain)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.root.path().join("state/deep")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("out").join(name)
    }

    fn plan(&self, name: &str) -> SinkPlan {
        SinkPlan { place: SinkPlace::File(self.path(name)), format: self.format, codec: self.codec }
    }

    pub(super) fn config(&self) -> StoreConfig {
        StoreConfig {
            dir: Some(self.dir()),
            job: "job".into(),
            results: self.plan("results"),
            skipped: Some(self.plan("skipped")),
            flush: self.flush,
            frozen: [("input.file".to_owned(), "a.csv".to_owned())].into(),
            encoder: spec(),
            depth: self.depth,
            fresh: false,
            reserved: None,
            stdout: None,
        }
    }

    pub(super) fn open(&self) -> (Store, Opened) {
        open(self.config(), Arc::new(SystemClock::new())).unwrap()
    }

    pub(super) fn refused(&self) -> OpenError {
        self.refuse(self.config())
    }

    pub(super) fn refuse(&self, config: StoreConfig) -> OpenError {
        match open(config, Arc::new(SystemClock::new())) {
            Ok(_) => panic!("the store opened"),
            Err(e) => e,
        }
    }

    /// The sink's text, whole members decoded.
    pub(super) fn text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        let mut text = String::new();
        match self.codec {
            Codec::Plain => text = String::from_utf8(bytes).unwrap(),
            Codec::Gzip => drop(flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
            Codec::Zstd => drop(zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap()),
        }
        text
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).map_or(0, |m| m.len())
    }

    /// A member of every row of a JSONL sink.
    pub(super) fn values(&self, name: &str, key: &str) -> Vec<Value> {
        self.text(name).lines().map(|l| serde_json::from_str::<Value>(l).unwrap()[key].clone()).collect()
    }

    pub(super) fn verified(&self) {
        assert_eq!(read::verify(&self.dir()).unwrap(), Some(Vec::new()));
    }
}

pub(super) fn spec() -> EncoderSpec {
    EncoderSpec { fields: vec!["title".into()], meta: vec!["_row".into(), "_url".into()], csv_safe: false }
}

pub(super) fn url_offer(url: &str) -> OfferUrl {
    let parsed = Url::parse(url).unwrap();
    OfferUrl { url: url.to_owned(), key: FetchKey::new("GET", parsed.as_str(), b""), host: HostKey::of(&parsed), fetch_duplicates: false }
}

pub(super) fn seed(row: u64, url: &str) -> Offer {
    let columns = [("id".to_owned(), Value::from(row))].into_iter().collect();
    Offer { row, origin: Origin::Seed, body: Ok(url_offer(url)), columns, hand: false }
}

pub(super) fn link(via: EntryId, depth: u32, url: &str) -> Offer {
    Offer { row: 0, origin: Origin::Discovered { via, depth }, body: Ok(url_offer(url)), columns: Columns::new(), hand: false }
}

pub(super) fn bad(row: u64, message: &str) -> Offer {
    let body = Err(BadRecord { url: "nope".into(), message: message.into() });
    Offer { row, origin: Origin::Seed, body, columns: Columns::new(), hand: false }
}

pub(super) fn seeds(n: u64) -> Vec<Offer> {
    (1..=n).map(|i| seed(i, &format!("http://h{}/p{i}", i % 3))).collect()
}

pub(super) fn mark(position: &str, done: bool) -> Option<InputMark> {
    Some(InputMark { position: position.into(), done })
}

pub(super) fn now() -> Wall {
    Wall(1_700_000_000_000)
}

pub(super) fn want(new_hosts: usize, per_host: usize) -> LeaseRequest {
    LeaseRequest { new_hosts, per_host, per_new: per_host, now: now(), ..LeaseRequest::default() }
}

pub(super) async fn lease_all(store: &Store) -> Vec<Lease> {
    let leased = store.lease(want(1000, 100_000)).await.unwrap();
    leased.hosts.into_iter().flat_map(|h| h.entries).collect()
}

pub(super) fn rows_of(encoder: &encode::Encoder, lease: &Lease, titles: &[&str]) -> EncodedRows {
    let mut rows = EncodedRows::default();
    for title in titles {
        let row = ResultRow {
            columns: &lease.columns,
            fields: &[("title".to_owned(), Value::from(*title))],
            row: lease.row,
            url: &lease.url,
            final_url: &lease.url,
            status: 200,
            fetched_at: now(),
            attempts: 1,
            via: lease.via.as_deref(),
            depth: lease.depth,
        };
        encoder.encode_result(&row, &mut rows.bytes);
        rows.count += 1;
    }
    rows
}

pub(super) fn result(encoder: &encode::Encoder, lease: &Lease) -> Settle {
    Settle::Result { entry: lease.entry, rows: rows_of(encoder, lease, &["t"]), discovered: Vec::new() }
}

pub(super) fn skip(encoder: &encode::Encoder, lease: &Lease, reason: Reason) -> Settle {
    let mut record = Vec::new();
    let skipped = SkippedRecord {
        columns: &lease.columns,
        row: lease.row,
        url: &lease.url,
        reason: reason.clone(),
        class: Class::Permanent,
        status: Some(404),
        message: "gone",
        attempts: &[],
        next_at: None,
        first_row: None,
    };
    encoder.encode_skipped(&skipped, &mut record);
    Settle::Skipped { entry: lease.entry, record, reason, state: Some("{\"cursor\":1}".into()) }
}

pub(super) async fn columns(store: &Store) -> Arc<encode::Encoder> {
    store.columns(vec!["id".into()]).await.unwrap()
}

/// Lets the writer die at the next commit's `stage`, then asks for that commit.
pub(super) async fn die_at(store: &Store, stage: Stage) {
    store.shared.die_at.store(stage as u8, Ordering::SeqCst);
    assert!(store.commit().await.is_err());
    gone(store).await;
}

/// Waits until the writer has let go of everything.
pub(super) async fn gone(store: &Store) {
    while store.crash_done().await {}
}

pub(super) fn exists(path: &Path) -> bool {
    path.exists()
}

#[test]
fn skipped_keys_are_those_of_the_contract() {
    assert_eq!(SKIPPED_KEYS.join(","), "_row,_url,reason,class,status,message,attempts,next_at,first_row");
}
