//! The one stream of facts about a run. Logs, counters, the live line and `--events` all read it; nothing else reports.

use crate::clock::Wall;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A past-tense fact. Serialised as one JSON object with `event` naming it, in kebab-case. Addresses are masked.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The job is open; the figures are what an earlier run left.
    RunStarted {
        /// The job's name.
        job: String,
        /// Whether an earlier run left anything.
        resumed: bool,
        /// Entries with results.
        results: u64,
        /// Entries skipped.
        skipped: u64,
        /// Entries that wait.
        pending: u64,
    },
    /// Something the person should know and that costs nothing (a header that was guessed, a column that was dropped).
    Notice {
        /// Lowercase sentence.
        message: String,
    },
    /// An oddity that is counted under its code; the first of a code is shown.
    Warned {
        /// Stable kebab-case code.
        code: String,
        /// Lowercase sentence.
        message: String,
    },
    /// A new connection was made for an attempt.
    Connected {
        /// Scheme, host and port.
        host: String,
        /// Who answered.
        remote: Option<String>,
    },
    /// An attempt ended (detail: only where someone listens).
    Attempted {
        /// Number of the input record.
        row: u64,
        /// Masked address of this hop.
        url: String,
        /// From 1.
        attempt: u32,
        /// `ok`, `redirect`, or a reason.
        outcome: String,
        /// Status where headers came.
        status: Option<u16>,
        /// Duration in milliseconds.
        ms: u64,
        /// Decoded bytes.
        bytes: u64,
        /// Who answered, where known.
        remote: Option<String>,
        /// What failed, for people.
        message: Option<String>,
    },
    /// An entry will be tried again (detail).
    RetryScheduled {
        /// Number of the input record.
        row: u64,
        /// Masked address.
        url: String,
        /// Why.
        reason: String,
        /// In how many milliseconds at the earliest.
        wait_ms: u64,
        /// Whether the failed try was charged.
        charged: bool,
    },
    /// A server asked for less: its whole key is held.
    HoldBegan {
        /// Limit key (a host name, or `job`).
        key: String,
        /// Until when.
        until: Wall,
        /// In how many milliseconds.
        wait_ms: u64,
        /// The status that asked.
        status: u16,
        /// `retry-after`, `reset` or `backoff`.
        from: &'static str,
    },
    /// A limit lets nothing of its key go for a while (detail): told once for each wait, and once a second for a key at most.
    Waiting {
        /// Limit key (a host name, `job`, a domain, a token's number).
        key: String,
        /// Which rate, and at what.
        why: String,
        /// In how many milliseconds the next request may go.
        wait_ms: u64,
    },
    /// A host's entries wait for its breaker or its robots.txt.
    HostParked {
        /// Scheme, host and port.
        host: String,
        /// `breaker` or `robots`.
        why: &'static str,
        /// In how many milliseconds it is asked again.
        wait_ms: u64,
    },
    /// A parked host answered again.
    HostBack {
        /// Scheme, host and port.
        host: String,
    },
    /// An entry found its fate (detail).
    Settled {
        /// Number of the input record.
        row: u64,
        /// Masked address.
        url: String,
        /// `result` or the reason.
        fate: String,
        /// Rows written.
        rows: u64,
        /// Of a skipped record: what happened, for people.
        message: Option<String>,
    },
    /// A commit made everything up to here durable.
    Committed {
        /// The account at this commit.
        account: Account,
    },
    /// Something ends the run before everything is done.
    Stopping {
        /// `interrupt`, `terminate`, `hang-up`, a `[stop]` key, `failure`; `deferred: …` and `response: …` with more words.
        why: String,
    },
    /// The run is over.
    RunEnded {
        /// The end's figures.
        stats: Box<Stats>,
    },
}

/// The account: `inputs + discovered = results + skipped + pending`, at every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Account {
    /// Input records read, bad and repeated ones included.
    pub inputs: u64,
    /// Entries found while crawling.
    pub discovered: u64,
    /// Entries that ended as results.
    pub results: u64,
    /// Result rows written.
    pub rows: u64,
    /// Entries that ended as skipped, duplicates included.
    pub skipped: u64,
    /// Repeated input records, and entries that a redirect led to another's address; a part of `skipped`.
    pub duplicates: u64,
    /// Entries without a fate.
    pub pending: u64,
}

impl Account {
    /// Whether both sides are equal.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.inputs + self.discovered == self.results + self.skipped + self.pending
    }
}

impl std::fmt::Display for Account {
    /// The account line of the contract.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "inputs {} + discovered {} = {} results + {} skipped + {} pending",
            thousands(self.inputs),
            thousands(self.discovered),
            thousands(self.results),
            thousands(self.skipped),
            thousands(self.pending)
        )
    }
}

/// `12345` as `12,345`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// What `--stats` writes: one JSON object. The account is of the job's life; requests, retries and time are of this run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// The job's name.
    pub job: String,
    /// The account, its keys at the top level.
    pub inputs: u64,
    /// See [`Account`].
    pub discovered: u64,
    /// See [`Account`].
    pub results: u64,
    /// See [`Account`].
    pub rows: u64,
    /// See [`Account`].
    pub skipped: u64,
    /// See [`Account`].
    pub duplicates: u64,
    /// See [`Account`].
    pub pending: u64,
    /// What was on the wire in this run, robots.txt and redirect hops included.
    pub requests: u64,
    /// Tries of an entry after its first in this run, hops left out.
    pub retries: u64,
    /// Live skipped records by reason, of the job's life.
    pub by_reason: BTreeMap<String, u64>,
    /// The 1,000 largest hosts and `other`.
    pub by_host: BTreeMap<String, HostStats>,
    /// Oddities by code.
    pub warnings: BTreeMap<String, u64>,
    /// Links that scope rules left out, by rule.
    pub out_of_scope: BTreeMap<String, u64>,
    /// Bytes of bodies on the wire in this run.
    pub bytes: u64,
    /// Seconds of this run.
    pub elapsed_s: f64,
    /// What was waited for in this run: seconds by cause (`hold`, `backoff`, `limit`), summed over keys.
    pub waited_s: BTreeMap<String, f64>,
    /// Seconds that workers were idle in this run, by cause (`limit`, `hold`, `delay`, `disk`, `nothing to do`, …), summed over
    /// workers; `busy` is the rest.
    pub workers_s: BTreeMap<String, f64>,
    /// `done`, `stopped:<why>` or `deferred`.
    pub finish: String,
}

impl Stats {
    /// The account within.
    #[must_use]
    pub fn account(&self) -> Account {
        Account {
            inputs: self.inputs,
            discovered: self.discovered,
            results: self.results,
            rows: self.rows,
            skipped: self.skipped,
            duplicates: self.duplicates,
            pending: self.pending,
        }
    }
}

/// One host in `by_host`; requests and retries are of this run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct HostStats {
    /// On the wire.
    pub requests: u64,
    /// Entries that became results in this run.
    pub results: u64,
    /// Entries that became skipped in this run.
    pub skipped: u64,
    /// Tries after the first.
    pub retries: u64,
}

/// What the live line and `status` show; renewed a few times a second.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// The account, uncommitted work included.
    pub account: Account,
    /// Requests on the wire in this run.
    pub requests: u64,
    /// Tries after the first in this run.
    pub retries: u64,
    /// Attempts in flight now.
    pub in_flight: u64,
    /// Entries that ended a second, over the last 10 s.
    pub rate: f64,
    /// Seconds to the end at that rate; `None` while the end is unknown (input not read, crawl).
    pub eta_s: Option<f64>,
    /// Whether the input was read to its end.
    pub input_done: bool,
    /// Seconds since this run began.
    pub elapsed_s: f64,
    /// What holds the run back most, in the words that people see (`waiting: 5,000/hour at api.example.com, next in 0.7 s`).
    pub waiting: Option<String>,
    /// What single hosts wait for, at most 20: host, cause, milliseconds.
    pub hosts: Vec<HostWait>,
    /// The limits that are busiest or held, at most 20.
    #[serde(default)]
    pub limits: Vec<LimitShown>,
    /// Why the run ended with 75: what holds, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<String>,
}

/// How one key of a limit stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct LimitShown {
    /// Name of the `[[limit]]`; `None`: `[limits]`.
    pub limit: Option<String>,
    /// A host, a domain, a token's number, or `job`.
    pub key: String,
    /// Its rates and what is spent of them or under way.
    pub rates: Vec<RateShown>,
    /// Milliseconds left of a hold.
    pub held_ms: Option<u64>,
    /// Requests left, as the server told last.
    pub left: Option<u64>,
    /// Of so many, where the server told.
    pub of: Option<u64>,
    /// Milliseconds to the server's reset.
    pub reset_ms: Option<u64>,
    /// The rate that was learned from refusals, in per cent of the ceiling.
    pub learned_percent: Option<u32>,
}

/// One rate of a [`LimitShown`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RateShown {
    /// As the job says it.
    pub rate: String,
    /// Requests, or what they weigh, within the window.
    pub used: u32,
    /// The rate's count.
    pub of: u32,
}

/// What one host waits for.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub struct HostWait {
    /// Host or limit key.
    pub host: String,
    /// In words: `hold (429)`, `limit 5,000/hour`, `delay`, `breaker`, `robots.txt`.
    pub cause: String,
    /// Milliseconds left.
    pub wait_ms: u64,
}

/// Someone who wants to know.
pub trait Listener: Send + Sync {
    /// A fact. Called on the engine's tasks: be quick, never block on the network.
    fn event(&self, event: &Event);
    /// The state of things, a few times a second.
    fn snapshot(&self, snapshot: &Snapshot) {
        let _ = snapshot;
    }
}

/// The stream's entry: cheap to clone, cheap to call.
#[derive(Clone, Default)]
pub struct Events {
    listeners: Arc<Vec<Box<dyn Listener>>>,
    detail: bool,
    warned: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Events {
    /// `detail` asks for the facts of single attempts too (`--verbose`, `--events`).
    #[must_use]
    pub fn new(listeners: Vec<Box<dyn Listener>>, detail: bool) -> Self {
        Self { listeners: Arc::new(listeners), detail, warned: Arc::default() }
    }

    /// Whether single attempts are wanted; building their events is skipped where not.
    #[must_use]
    pub fn detail(&self) -> bool {
        self.detail
    }

    /// Tells everyone.
    pub fn emit(&self, event: &Event) {
        for l in self.listeners.iter() {
            l.event(event);
        }
    }

    /// Tells everyone where detail is wanted.
    pub fn emit_detail(&self, event: impl FnOnce() -> Event) {
        if self.detail {
            self.emit(&event());
        }
    }

    /// Counts an oddity; the first of a code is told.
    pub fn warn(&self, code: &str, message: impl FnOnce() -> String) {
        let first = {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            let n = warned.entry(code.to_owned()).or_insert(0);
            *n += 1;
            *n == 1
        };
        if first || self.detail {
            self.emit(&Event::Warned { code: code.to_owned(), message: message() });
        }
    }

    /// Tells a notice.
    pub fn notice(&self, message: impl Into<String>) {
        self.emit(&Event::Notice { message: message.into() });
    }

    /// Shows the state of things.
    pub fn snapshot(&self, snapshot: &Snapshot) {
        for l in self.listeners.iter() {
            l.snapshot(snapshot);
        }
    }

    /// Counts by code so far.
    #[must_use]
    pub fn warnings(&self) -> BTreeMap<String, u64> {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
