//! The job reader: a thread that reads records and hands them on in batches, as fast as they are taken.
//!
//! A batch and the input's position behind it travel together and are one transaction of the store, so that a record is
//! never read twice. Batches grow from one to [`BATCH`], so that the first request does not wait for the second record.

use crate::engine::RunError;
use crate::engine::request::Builder;
use crate::input::{self, InputError, Position, Reader};
use crate::model::plan::{InputPlan, InputSource, OnBad};
use crate::model::{HostKey, mask_url, normalise, printable};
use crate::store::{BadRecord, InputMark, Offer, OfferUrl, Origin};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Most records of a batch.
const BATCH: usize = 256;
/// If all of the first records are bad, the job is wrong, not the list.
const FIRST: u64 = 100;

/// What the feeder tells.
pub(crate) enum Fed {
    /// The columns that are carried; comes first. `sampled`: those of the first records.
    Columns { names: Vec<String>, sampled: bool },
    /// Records with the position behind them.
    Batch(Vec<Offer>, InputMark),
    /// For the person.
    Notice(String),
    /// Counted by code.
    Warning(&'static str, String),
    /// The input cannot be read further; what came before stands.
    Failed(FeedError),
}

/// Why reading ended early.
pub(crate) enum FeedError {
    /// The reader's own.
    Input(InputError),
    /// `on_bad = "stop"`, or nothing but bad records.
    Bad { message: String, hint: Option<String> },
}

/// A feeder at work: what it tells, and its thread.
pub(crate) type Feeding = (Receiver<Fed>, JoinHandle<()>);

/// What the thread needs.
pub(crate) struct Feeder {
    plan: InputPlan,
    builder: Arc<Builder>,
    resume: Option<Position>,
    /// Nothing was taken from the list before.
    first_run: bool,
    to: Sender<Fed>,
}

impl Feeder {
    /// Starts the thread where `mark` says that an earlier run left the input.
    ///
    /// # Errors
    /// A mark that cannot be read, or no thread.
    pub(crate) fn start(plan: &InputPlan, builder: &Arc<Builder>, mark: Option<&InputMark>) -> Result<Feeding, RunError> {
        let resume = mark.map(|m| serde_json::from_str(&m.position)).transpose().map_err(|e| RunError::State {
            message: format!("the state's position in the input cannot be read: {e}"),
            hint: Some("start over with --fresh".into()),
        })?;
        let (to, fed) = mpsc::channel(4);
        let feeder = Self { plan: plan.clone(), builder: builder.clone(), first_run: mark.is_none(), resume, to };
        let thread = std::thread::Builder::new()
            .name("feeder".into())
            .spawn(move || feeder.run())
            .map_err(|e| RunError::Io { message: format!("no thread for the input: {e}"), hint: None })?;
        Ok((fed, thread))
    }

    /// Reads to the end, to an error, or until nobody listens.
    fn run(self) {
        if let Err(Some(e)) = self.read() {
            let _ = self.to.blocking_send(Fed::Failed(e));
        }
    }

    /// `Err(None)`: nobody listens any more.
    fn read(&self) -> Result<(), Option<FeedError>> {
        let mut reader = input::open(&self.plan, self.resume.as_ref()).map_err(|e| Some(FeedError::Input(e)))?;
        let columns = Fed::Columns { names: reader.columns().to_vec(), sampled: reader.is_sampled() };
        self.tell(&mut reader)?;
        self.send(columns)?;
        let is_stdin = self.plan.source == InputSource::Stdin;
        let (mut batch, mut size) = (Vec::new(), 1);
        let (mut good, mut bad) = (0u64, 0u64);
        // While only bad records came, they are kept back: the cured job is to start clean.
        let mut kept = Vec::new();
        let mut first_bad = None;
        loop {
            if is_stdin && !batch.is_empty() && !stdin_is_ready() {
                self.flush(&mut reader, &mut batch, false)?;
            }
            let before = (self.plan.on_bad == OnBad::Stop).then(|| reader.position());
            let record = match reader.next() {
                Ok(Some(r)) => r,
                Ok(None) => break,
                Err(e) => {
                    batch.splice(0..0, kept);
                    self.flush(&mut reader, &mut batch, false)?;
                    return Err(Some(FeedError::Input(e)));
                }
            };
            let body = match record.body {
                Ok(listed) => self.offer(&listed, &record.columns).map_err(|m| {
                    let shown: String = listed.chars().take(200).collect();
                    BadRecord { message: format!("{}: {m}: \"{}\"", self.place(record.line), printable(&shown)), url: listed }
                }),
                Err(message) => Err(BadRecord { url: record.shown, message }),
            };
            if let Err(bad_record) = &body {
                bad += 1;
                if self.plan.on_bad == OnBad::Stop {
                    let message = mask_url(&bad_record.message);
                    // The bad record itself is read again next time, mended or not.
                    self.tell(&mut reader)?;
                    if !batch.is_empty() {
                        let position = serde_json::to_string(&before).unwrap_or_default();
                        self.send(Fed::Batch(std::mem::take(&mut batch), InputMark { position, done: false }))?;
                    }
                    return Err(Some(FeedError::Bad { message, hint: Some("mend the record, or set [input] on_bad = \"skip\"".into()) }));
                }
                first_bad.get_or_insert_with(|| mask_url(&bad_record.message));
            } else {
                good += 1;
            }
            let offer = Offer { row: record.row, origin: Origin::Seed, body, columns: record.columns, hand: false };
            if self.first_run && good == 0 && bad <= FIRST {
                kept.push(offer);
                if bad == FIRST {
                    return Err(Some(self.all_bad(bad, first_bad)));
                }
                continue;
            }
            if !kept.is_empty() {
                batch.append(&mut kept);
            }
            batch.push(offer);
            if batch.len() >= size {
                size = (size * 2).min(BATCH);
                self.flush(&mut reader, &mut batch, false)?;
            }
        }
        if self.first_run && good == 0 && bad > 0 {
            return Err(Some(self.all_bad(bad, first_bad)));
        }
        self.flush(&mut reader, &mut batch, true)
    }

    fn offer(&self, listed: &str, columns: &crate::model::Columns) -> Result<OfferUrl, String> {
        let url = normalise(listed)?;
        let target = self.builder.target(&url, columns)?;
        let key = self.builder.key(&target, columns)?;
        Ok(OfferUrl { url: listed.trim().to_owned(), key, host: HostKey::of(&target), fetch_duplicates: self.plan.fetch_duplicates })
    }

    /// Where a record stands, for its message.
    fn place(&self, line: u64) -> String {
        match &self.plan.source {
            InputSource::File(path) => format!("{}:{line}", path.display()),
            InputSource::Stdin => format!("stdin:{line}"),
            InputSource::Urls(_) => format!("address {line}"),
            InputSource::Request => "request.url".into(),
        }
    }

    fn tell(&self, reader: &mut Reader) -> Result<(), Option<FeedError>> {
        for n in reader.notices() {
            self.send(Fed::Notice(n))?;
        }
        for (code, message) in reader.warnings() {
            self.send(Fed::Warning(code, message))?;
        }
        Ok(())
    }

    /// A mark without records says nothing new, and a job that took none has to stay without one: its cure starts clean.
    fn flush(&self, reader: &mut Reader, batch: &mut Vec<Offer>, done: bool) -> Result<(), Option<FeedError>> {
        self.tell(reader)?;
        if batch.is_empty() && !done {
            return Ok(());
        }
        let position = serde_json::to_string(&reader.position()).unwrap_or_default();
        self.send(Fed::Batch(std::mem::take(batch), InputMark { position, done }))
    }

    fn send(&self, fed: Fed) -> Result<(), Option<FeedError>> {
        self.to.blocking_send(fed).map_err(|_| None)
    }

    fn all_bad(&self, n: u64, first: Option<String>) -> FeedError {
        let first = first.unwrap_or_default();
        let typed = matches!(self.plan.source, InputSource::Urls(_) | InputSource::Request);
        let hint = if typed {
            "mend the address"
        } else if first.contains("no scheme") {
            "set [input] url = \"https://{{url}}\" (with `fetch`: --url 'https://{{url}}')"
        } else {
            "check that the list and [input] url fit each other"
        };
        let message = if n == 1 {
            format!("the only record is no address that can be asked for: {first}")
        } else {
            format!("none of the first {n} records is an address that can be asked for; the first: {first}")
        };
        FeedError::Bad { message, hint: Some(hint.into()) }
    }
}

/// Whether a read of standard input would return at once.
fn stdin_is_ready() -> bool {
    let stdin = std::io::stdin();
    let mut fds = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
}
