//! One attempt: send, judge, and hand an accepted answer to extraction. Holds a place among the workers for just as long
//! as it is on the wire.

use crate::clock::{Clock, Moment, Wall};
use crate::engine::extraction::{Kit, PARSE_TIME, Parsed, Task};
use crate::engine::purse::Given;
use crate::extract::{ByHead, ExtractFailure, Late, Page, PageState, Responses};
use crate::fetch::{Fetcher, Request};
use crate::input::InputError;
use crate::model::plan::Plan;
use crate::model::{Answer, Failure, Outcome, Reason, Sent};
use crate::retry::{self, Judgement, Quota, Reach, Ruling, Trouble, headers};
use crate::store::Lease;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use url::Url;

/// A body up to this size is parsed where it arrived, in well under a millisecond and with its bytes still in the cache; a
/// larger one goes to the extraction threads, so that it stops no other attempt.
const AT_ONCE: usize = 32 << 10;

/// A small one that takes longer all the same goes there too and begins anew.
const AT_ONCE_TIME: Duration = Duration::from_millis(50);

/// What an attempt tells the dispatcher.
pub(crate) enum Landing {
    /// The final response headers are in: what limits count from.
    Headers(u64, Moment),
    /// What a shared budget gave.
    Given(Given),
    /// An accepted answer and what extraction made of it.
    Done(u64, Facts, Box<Result<Parsed, ExtractFailure>>),
    /// An accepted answer went to the extraction threads; `Parsed` follows.
    Fetched(u64, Facts),
    /// Anything but an accepted answer.
    Judged(u64, Judgement, Facts),
    /// A rule of the job asks for the entry's pages from the first again; trouble where that was done often enough.
    RestartPages(u64, Trouble, Facts),
    /// A rule of the job ends the run, the entry stays pending.
    Stop(u64, Trouble, Facts),
    /// What extraction gave.
    Parsed(u64, Result<Parsed, ExtractFailure>),
    /// A robots.txt came, or did not.
    Robots(u64, Outcome, Facts),
    /// Every seed was read for the scope of the crawl, or could not be.
    SeedsRead(Result<(), InputError>),
}

/// The plain facts of an attempt.
#[derive(Debug)]
pub(crate) struct Facts {
    pub status: Option<u16>,
    pub headers_at: Option<Moment>,
    /// No byte can have reached a server.
    pub unsent: bool,
    pub remote: Option<SocketAddr>,
    /// A connection was made for it.
    pub connected: bool,
    pub wire_bytes: u64,
    pub body_bytes: u64,
    pub ended: Moment,
    pub warnings: Vec<&'static str>,
    pub message: Option<String>,
    /// What it says of the host's being in reach.
    pub reach: Reach,
    /// What the server says is left.
    pub quotas: Vec<Quota>,
    /// What the server calls that which it refused.
    pub resource: Option<String>,
    /// A rule of the job said what it means, so that nothing else does.
    pub ruled: bool,
}

impl Facts {
    fn of(outcome: &Outcome, ended: Moment, wall: Wall) -> Self {
        let reach = retry::reach(outcome);
        // Every dialect has the word in the names of its headers; most answers have none.
        let told = matches!(outcome, Outcome::Answer(a) if a.headers.keys().any(|name| name.as_str().contains("limit")));
        match outcome {
            Outcome::Answer(a) => Self {
                status: Some(a.status),
                headers_at: Some(a.headers_at),
                unsent: false,
                remote: a.remote,
                connected: !a.reused,
                wire_bytes: a.wire_bytes,
                body_bytes: a.body.len() as u64,
                ended,
                warnings: a.warnings.clone(),
                message: None,
                reach,
                quotas: if told { headers::quotas(a.status, &a.headers, wall) } else { Vec::new() },
                resource: (told && headers::scope(&a.headers) == headers::Scope::Shared).then(|| headers::resource(&a.headers)).flatten(),
                ruled: false,
            },
            Outcome::Failure(f) => Self {
                status: f.status,
                headers_at: f.headers_at,
                unsent: f.sent == Sent::No,
                remote: f.remote,
                connected: f.sent == Sent::Maybe && !f.reused,
                ended,
                wire_bytes: 0,
                body_bytes: 0,
                warnings: Vec::new(),
                message: Some(f.message.clone()),
                reach,
                quotas: Vec::new(),
                resource: None,
                ruled: false,
            },
        }
    }
}

/// What every attempt shares.
pub(crate) struct Shop {
    pub plan: Arc<Plan>,
    /// Of an entry's first request.
    pub method: http::Method,
    pub fetcher: Fetcher,
    pub clock: Arc<dyn Clock>,
    pub to: Sender<Landing>,
    pub extraction: SyncSender<Task>,
    pub kit: Arc<Kit>,
    /// `[[response]]`.
    pub rules: Responses,
    /// Places for rules that look into large bodies.
    pub looks: Semaphore,
    /// Whether limits want to know of headers before the body is in.
    pub early: bool,
    /// Attempts in flight that this machine has room for.
    pub most: usize,
}

/// What extraction will need of the entry.
pub(crate) struct ForParse {
    pub lease: Arc<Lease>,
    pub attempts: u32,
    pub page: Option<PageState>,
    pub links: bool,
}

impl Shop {
    /// Sends an entry's request and tells the dispatcher how it ended. On the heap, since a task is moved several times.
    pub(crate) fn entry(self: Arc<Self>, flight: u64, request: Request, parse: ForParse) -> BoxFuture<'static, ()> {
        Box::pin(self.send_entry(flight, request, parse))
    }

    async fn send_entry(self: Arc<Self>, flight: u64, request: Request, parse: ForParse) {
        let (url, method) = (request.url.clone(), request.method.clone());
        let outcome = self.send(flight, request).await;
        let mut facts = Facts::of(&outcome, self.clock.now(), self.clock.wall());
        let wall = self.clock.wall();
        let (outcome, rule) = self.rule_of(outcome, &url).await;
        facts.ruled = rule.is_some();
        let ctx = self.ctx(wall, &url, &method);
        let ruling = match (&outcome, rule.and_then(|i| Some((i, self.plan.responses.get(i)?)))) {
            (Outcome::Answer(answer), Some((i, rule))) => retry::rule(i, rule, answer, &ctx),
            _ => Ruling::Judged(retry::classify(&outcome, &ctx)),
        };
        let landing = match (ruling, outcome) {
            (Ruling::Judged(Judgement::Accept), Outcome::Answer(answer)) => {
                let task = Task {
                    flight,
                    lease: parse.lease,
                    answer,
                    url,
                    fetched_at: wall,
                    attempts: parse.attempts,
                    page: parse.page,
                    links: parse.links,
                };
                if task.answer.body.len() <= AT_ONCE {
                    let parsed = self.kit.parse(&task, AT_ONCE_TIME);
                    if !matches!(&parsed, Err(e) if e.reason == Reason::ParseTimeout) {
                        let _ = self.to.send(Landing::Done(flight, facts, Box::new(parsed))).await;
                        return;
                    }
                }
                self.kit.bodies.fetch_add(task.answer.body.len(), Ordering::Relaxed);
                // `Fetched` has to arrive before `Parsed`.
                if self.to.send(Landing::Fetched(flight, facts)).await.is_err() {
                    return;
                }
                match self.extraction.try_send(task) {
                    Ok(()) => return,
                    Err(_) => Landing::Parsed(
                        flight,
                        Err(ExtractFailure { reason: Reason::InternalError, message: "extraction has ended".into() }),
                    ),
                }
            }
            (Ruling::Judged(judgement), _) => Landing::Judged(flight, judgement, facts),
            (Ruling::EndOfPages, _) => Landing::Done(flight, facts, Box::new(Ok(Parsed::default()))),
            (Ruling::RestartPages(trouble), _) => Landing::RestartPages(flight, trouble, facts),
            (Ruling::Stop(trouble), _) => Landing::Stop(flight, trouble, facts),
        };
        let _ = self.to.send(landing).await;
    }

    /// The first rule of the job that an answer matches, and the answer again. What would hold up the wire is looked at on a
    /// thread beside it, a few at a time.
    async fn rule_of(self: &Arc<Self>, outcome: Outcome, url: &Url) -> (Outcome, Option<usize>) {
        let Outcome::Answer(answer) = outcome else { return (outcome, None) };
        if let ByHead::Rule(rule) = self.rules.by_head(answer.status, &answer.headers) {
            return (Outcome::Answer(answer), rule);
        }
        if answer.body.len() <= AT_ONCE
            && let Ok(rule) = self.look(&answer, url, AT_ONCE_TIME)
        {
            return (Outcome::Answer(answer), rule);
        }
        let _place = self.looks.acquire().await;
        let (shop, url) = (self.clone(), url.clone());
        let look = move || {
            // One that takes too long is no match.
            let rule = shop.look(&answer, &url, PARSE_TIME).unwrap_or(None);
            (Outcome::Answer(answer), rule)
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| {
            let message = "the run ended while a rule was looking at the answer";
            (Outcome::Failure(Failure { sent: Sent::Maybe, ..Failure::unsent(Reason::InternalError, message) }), None)
        })
    }

    /// A panic within it is no match.
    fn look(&self, answer: &Answer, url: &Url, within: Duration) -> Result<Option<usize>, Late> {
        let end = self.clock.now() + within;
        let late = || self.clock.now() > end || self.to.is_closed();
        let page = Page { deadline: &late, ..Page::new(url, answer.status, &answer.headers, &answer.body) };
        catch_unwind(AssertUnwindSafe(|| self.rules.find(&page))).unwrap_or(Ok(None))
    }

    /// Asks for a robots.txt. No rule of the job looks at it.
    pub(crate) async fn robots(self: Arc<Self>, flight: u64, request: Request) {
        let outcome = self.send(flight, request).await;
        let facts = Facts::of(&outcome, self.clock.now(), self.clock.wall());
        let _ = self.to.send(Landing::Robots(flight, outcome, facts)).await;
    }

    /// What the retry table has to know of a hop.
    pub(crate) fn ctx<'a>(&'a self, wall: crate::clock::Wall, url: &'a Url, method: &'a http::Method) -> retry::Ctx<'a> {
        retry::Ctx { retry: &self.plan.retry, request: &self.plan.request, wall, listed: &self.method, method, url }
    }

    /// One attempt. A panic within it costs this attempt and nothing else.
    async fn send(&self, flight: u64, request: Request) -> Outcome {
        AssertUnwindSafe(self.attempt(flight, request)).catch_unwind().await.unwrap_or_else(|_| {
            let message = "the attempt failed in a way that it should not";
            Outcome::Failure(Failure { sent: Sent::Maybe, ..Failure::unsent(Reason::InternalError, message) })
        })
    }

    async fn attempt(&self, flight: u64, request: Request) -> Outcome {
        if !self.early {
            return self.fetcher.attempt(request, |_| ()).await;
        }
        self.fetcher
            .attempt(request, |at| {
                // A full channel only means that the permit is given back with the outcome instead.
                let _ = self.to.try_send(Landing::Headers(flight, at));
            })
            .await
    }
}

/// The address of the robots.txt that rules over `url`.
pub(crate) fn robots_url(url: &Url) -> Url {
    let mut robots = url.clone();
    robots.set_path("/robots.txt");
    robots.set_query(None);
    robots.set_fragment(None);
    let _ = robots.set_username("");
    let _ = robots.set_password(None);
    robots
}
