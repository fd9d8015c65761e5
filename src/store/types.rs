//! The words between the engine and the store: plain data.

use super::encode::EncoderSpec;
use crate::clock::{Steady, Wall};
use crate::events::Account;
use crate::model::plan::SinkPlan;
use crate::model::{Columns, EntryId, FetchKey, HostKey, Reason};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// What [`super::open()`] needs to know.
#[derive(Debug)]
pub struct StoreConfig {
    /// The state folder, made with its parents. `None`: a throwaway folder, removed at the end and not synced.
    pub dir: Option<PathBuf>,
    /// The job's name, for `status`.
    pub job: String,
    /// Where result rows go.
    pub results: SinkPlan,
    /// Where skipped records go; `None`: they are counted only.
    pub skipped: Option<SinkPlan>,
    /// Longest time between members of a compressed sink.
    pub flush: Duration,
    /// What a job may not change between its runs; compared with the state's.
    pub frozen: BTreeMap<String, String>,
    /// How rows are encoded.
    pub encoder: EncoderSpec,
    /// How deep the crawl goes; deeper links are kept for a later run. `None`: all the way.
    pub depth: Option<u32>,
    /// Start over: earlier outputs and state are renamed, never deleted.
    pub fresh: bool,
    /// What the next start has to assume if this run is killed before it saves, by limit; durable when [`super::open()`] is
    /// through. `None`: the job has no rates, and what is kept of earlier ones stays as it is.
    pub reserved: Option<BTreeMap<String, u32>>,
    /// What takes the place of the process's stdout in tests and embedders; `None`: stdout itself.
    pub stdout: Option<File>,
}

/// What an earlier run left.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Whether there was a state.
    pub resumed: bool,
    /// The account as last committed.
    pub account: Account,
    /// Skipped records that count, by reason code.
    pub by_reason: BTreeMap<String, u64>,
    /// Exit code that the job ended with, where it was done and nothing was added since.
    pub finished: Option<u8>,
    /// How far the input was read.
    pub input: Option<InputMark>,
    /// Carried columns that an earlier run froze.
    pub columns: Option<Vec<String>>,
    /// Stored times are times of this calendar, and what is stored in this run has to be.
    pub calendar: Steady,
    /// Holds by limit key.
    pub holds: Vec<(String, Wall)>,
    /// What limits have counted and still count; none where the job has no rates.
    pub limiter: Vec<KeptLimit>,
    /// How much may have been sent of each key and is in no row of `limiter`, by limit.
    pub unsaved: BTreeMap<String, u32>,
    /// Since when that is to be assumed: the first start after the run that may have sent it.
    pub unsaved_at: Wall,
    /// How long ago that was, at least.
    pub unsaved_for: Duration,
    /// Lowercase sentences for people (what was cut, what was renamed).
    pub notices: Vec<String>,
    /// What the engine kept with [`super::Store::put`].
    pub extra: BTreeMap<String, String>,
}

/// A row of the limiter as an earlier run left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLimit {
    /// As it was given.
    pub row: String,
    /// How long ago that was, at least.
    pub down: Duration,
}

/// What limits have counted since their last save; one commit, made at once, holds it and everything else that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsSave {
    /// When it was taken, by [`Opened::calendar`].
    pub at: Wall,
    /// One for each key that changed.
    pub rows: Vec<LimitRow>,
    /// What the next start has to assume beside them, by limit.
    pub unsaved: BTreeMap<String, u32>,
    /// Since when; `None`: from that start on.
    pub unsaved_at: Option<Wall>,
}

/// One key of a [`LimitsSave`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// Which.
    pub key: String,
    /// What is to be kept (opaque).
    pub row: String,
    /// How long it counts; after that it is deleted, at once where it is zero. `None`: for as long as nothing else is said.
    pub counts_for: Option<Duration>,
}

/// How far the input was read, in the same transaction as the offers made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputMark {
    /// Opaque JSON of the reader.
    pub position: String,
    /// Whether its end was reached.
    pub done: bool,
}

/// The number of a host in this state, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub i64);

/// One address given to the frontier.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Number of the input record; of a discovered address ignored (it is its parent's).
    pub row: u64,
    /// From the input or from a page.
    pub origin: Origin,
    /// The request, or why the record has none (seeds only).
    pub body: Result<OfferUrl, BadRecord>,
    /// Carried columns of a seed; empty for discovered ones, which carry those of their seed.
    pub columns: Columns,
    /// Whether the lease is wanted straight back where the address is new ([`Offered::New`]); not heeded within a settle.
    pub hand: bool,
}

/// Where an offer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user's input.
    Seed,
    /// A page.
    Discovered {
        /// The entry whose page it was.
        via: EntryId,
        /// Links from the seed.
        depth: u32,
    },
}

/// An address that can be asked for.
#[derive(Clone, Debug)]
pub struct OfferUrl {
    /// As listed, trimmed, its template filled in; of a discovered one the absolute WHATWG form.
    pub url: String,
    /// What it is compared by.
    pub key: FetchKey,
    /// Its server.
    pub host: HostKey,
    /// `duplicates = "fetch"`: a known key makes a new entry all the same.
    pub fetch_duplicates: bool,
}

/// An input record without an address.
#[derive(Clone, Debug)]
pub struct BadRecord {
    /// As much of the address as could be read.
    pub url: String,
    /// Lowercase, names file and line.
    pub message: String,
}

/// The fate of an offer.
#[derive(Clone, Debug)]
pub enum Offered {
    /// Was not known; leased to the caller where it asked for that.
    New(Option<Box<Lease>>),
    /// Is known. A seed became a skipped record `duplicate`, a discovered one is not counted.
    Known {
        /// Number of the record that came first.
        first_row: u64,
        /// A seed whose columns are not those of that record.
        differs: bool,
    },
    /// Is deeper than [`StoreConfig::depth`]: kept, and no entry before the job goes deeper.
    Cut,
    /// Became a skipped record `bad-input`.
    Bad,
}

/// A temporary right to fetch one entry. It lives in memory only: after a crash the entry is simply pending.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Which.
    pub entry: EntryId,
    /// Its host.
    pub host: HostId,
    /// Number of the input record.
    pub row: u64,
    /// Address as listed.
    pub url: String,
    /// Carried columns.
    pub columns: Columns,
    /// Address of the page that linked here.
    pub via: Option<String>,
    /// Links from the seed.
    pub depth: u32,
    /// What [`Settle::Later`], [`Settle::Page`] or [`Settle::Skipped`] kept (opaque JSON).
    pub state: Option<String>,
}

/// What [`super::Store::lease`] is asked for.
#[derive(Clone, Debug, Default)]
pub struct LeaseRequest {
    /// Hosts to refill; each is answered, with no entries where it has none.
    pub hosts: Vec<HostId>,
    /// The same of those that are to have ready entries alone, none that became due.
    pub first_tries: Vec<HostId>,
    /// Hosts that nothing is handed out of before the time told, whatever this and later requests name.
    pub park: Vec<(HostId, Wall)>,
    /// How many hosts more, beside those and those with leased entries.
    pub new_hosts: usize,
    /// Entries for each of `hosts` and `first_tries` at most.
    pub per_host: usize,
    /// Entries for each further host at most.
    pub per_new: usize,
    /// Whether entries that wait for the final sweep may be handed out.
    pub sweep: bool,
    /// Now: entries due by then are handed out.
    pub now: Wall,
}

/// What [`super::Store::lease`] gives.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The hosts asked for first, then new ones.
    pub hosts: Vec<HostLease>,
    /// No entry waits on disk besides those that are leased.
    pub drained: bool,
    /// Entries that wait for the final sweep (leased ones included).
    pub sweep_waiting: u64,
    /// The next lease may find more: kept links that are not too deep any more are still becoming entries, or more hosts wait
    /// than one lease looks at.
    pub unfinished: bool,
    /// When the next entry of any host becomes due, or a parked host; one of the final sweep where that was asked for.
    pub next_due: Option<Wall>,
}

/// One host with entries.
#[derive(Clone, Debug)]
pub struct HostLease {
    /// Which.
    pub id: HostId,
    /// Scheme, host and port.
    pub key: HostKey,
    /// Whether the operator's input named it.
    pub named: bool,
    /// Its robots.txt as last stored.
    pub robots: Option<StoredRobots>,
    /// In the order of serving: those that became due (half at most while ready ones wait), then ready ones by depth and age, then those of the final sweep that
    /// are due.
    pub entries: Vec<Lease>,
    /// Whether more wait on disk, ready or later (the final sweep's included).
    pub more: bool,
    /// Whether ready ones do.
    pub ready_left: bool,
    /// Whether some do that are due.
    pub due_left: bool,
    /// When its next waiting entry becomes due; `None` where more are ready now or none waits.
    pub next_due: Option<Wall>,
}

/// A host's robots.txt; the store only keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRobots {
    /// The engine's own word for how the request for it ended.
    pub verdict: String,
    /// What came.
    pub body: Vec<u8>,
    /// Good until then.
    pub until: Wall,
}

/// Rows that are encoded for the results sink: whole records with their line ends.
#[derive(Clone, Debug, Default)]
pub struct EncodedRows {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u64,
}

/// The fate of a leased entry, or a step of it.
#[derive(Clone, Debug)]
pub enum Settle {
    /// Done: a result.
    Result {
        /// Which.
        entry: EntryId,
        /// Its rows, or those of its last page.
        rows: EncodedRows,
        /// Links of its page.
        discovered: Vec<Offer>,
    },
    /// One page of several is in; the entry stays leased.
    Page {
        /// Which.
        entry: EntryId,
        /// Rows of this page.
        rows: EncodedRows,
        /// Where to go on after a crash (opaque JSON).
        state: String,
        /// Links of this page.
        discovered: Vec<Offer>,
    },
    /// Done: a skipped record.
    Skipped {
        /// Which.
        entry: EntryId,
        /// The record, encoded for the skipped sink.
        record: Vec<u8>,
        /// Why.
        reason: Reason,
        /// Kept for `retry` (a cursor to go on from).
        state: Option<String>,
    },
    /// Back to the frontier, to be tried again.
    Later {
        /// Which.
        entry: EntryId,
        /// Not before this; `Wall(0)`: ready now.
        due: Wall,
        /// What the next lease is told (opaque JSON).
        state: String,
        /// Not before the final sweep either.
        sweep: bool,
    },
    /// Handed back unchanged.
    Release {
        /// Which.
        entry: EntryId,
    },
}

impl Settle {
    /// The entry that is settled.
    #[must_use]
    pub fn entry(&self) -> EntryId {
        match self {
            Self::Result { entry, .. }
            | Self::Page { entry, .. }
            | Self::Skipped { entry, .. }
            | Self::Later { entry, .. }
            | Self::Release { entry } => *entry,
        }
    }
}

/// What a batch of settles did with its discovered addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// New entries.
    pub new: u64,
    /// Addresses that were known.
    pub known: u64,
    /// Links that are too deep for now.
    pub cut: u64,
}

/// What became of [`super::Store::claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The key is the entry's now (or was already).
    Yours,
    /// The key is another entry's.
    Known {
        /// Number of its input record.
        first_row: u64,
    },
}
