//! From a judgement and what an entry has been through to what happens next.

use super::headers::WaitFrom;
use super::location::Follow;
use super::table::{Judgement, Repeat, Trouble};
use crate::clock::Wall;
use crate::model::plan::RetryPlan;
use crate::model::{AttemptRecord, Class, Reason};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use url::Url;

/// Uncharged repeats of an entry in all: dead reused connections, GOAWAY, identity coding.
pub const FREE_REPEATS: u32 = 3;
/// Refusals known by their text alone that are believed.
pub const BY_TEXT: u32 = 3;
/// Refusals of an entry's own after which it is skipped.
pub const OWN_REFUSALS: u32 = 5;
/// Attempts that a skipped record lists.
pub const RECORDS: usize = 50;

/// What an entry (of a paged one: its current page) has been through. Durable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tries {
    /// Tries in all, uncharged ones included, redirect hops left out.
    pub made: u32,
    /// Tries that count against `attempts`; `_attempts` of a result.
    pub charged: u32,
    /// Free repeats used, the one with identity coding included.
    pub free: u32,
    /// Waits for this machine, a proxy or an outage.
    pub local: u32,
    /// Asked with identity coding from now on.
    pub identity: bool,
    /// Codes of what is tried once more only, and was.
    pub once: Vec<String>,
    /// Refusals in all.
    pub refused: u32,
    /// Refusals by text alone.
    pub by_text: u32,
    /// Refusals in a row that were its own.
    pub own: u32,
    /// The last [`RECORDS`] tries.
    pub records: Vec<AttemptRecord>,
}

/// One try as the engine saw it.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// When it started.
    pub start: Wall,
    /// How long it took, its hops included.
    pub took: Duration,
    /// Since the try before it ended.
    pub waited: Duration,
    /// Status, where headers came.
    pub status: Option<u16>,
    /// Uniform in `0.0..1.0`: `clock::unit(seed, key, tries.made)`.
    pub unit: f64,
    /// Of a refusal: whose it was ([`super::Neighbours::refused`]).
    pub whose: Whose,
}

/// Whose refusal it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// The key's, as far as is known.
    #[default]
    Key,
    /// The key's for certain, others were refused too: the count of own ones falls to nothing.
    Others,
    /// The entry's: others were sent and succeeded meanwhile.
    Own,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is a result.
    Take,
    /// The next hop of the same try.
    Follow {
        /// http or https, without fragment.
        to: Url,
        /// What becomes of method and body.
        follow: Follow,
    },
    /// The entry is sent again, from its listed address.
    Again {
        /// Not before this long from now.
        after: Duration,
        /// Kept for the end of the run.
        sweep: bool,
        /// Whether the try that just ended was charged.
        charged: bool,
        /// With `Accept-Encoding: identity`.
        identity: bool,
        /// On a new connection.
        fresh: bool,
    },
    /// The entry goes back to its queue, uncharged, and its key is held.
    Hold {
        /// How long the server asked for; `None`: the key's own backoff.
        asked: Option<Duration>,
        /// Who chose it.
        from: WaitFrom,
    },
    /// The entry is skipped.
    GiveUp {
        /// Stable code.
        reason: Reason,
        /// Its class.
        class: Class,
        /// For people.
        message: String,
        /// The server named a time before which asking again is in vain (`next_at` of the record).
        not_before: Option<Duration>,
    },
}

/// Decides, and writes the try into `tries`. A redirect hop is no try and is not written.
pub fn decide(tries: &mut Tries, judgement: Judgement, plan: &RetryPlan, told: &Tried) -> Verdict {
    match judgement {
        Judgement::Redirect { to, follow } => Verdict::Follow { to, follow },
        Judgement::Accept => {
            tries.write("ok", true, told);
            Verdict::Take
        }
        Judgement::Refused { reason, asked, from, by_text, message } => {
            tries.refused += 1;
            match told.whose {
                Whose::Key => {}
                Whose::Others => tries.own = 0,
                Whose::Own => tries.own += 1,
            }
            tries.by_text += u32::from(by_text);
            let disbelieved = tries.by_text > BY_TEXT && by_text;
            if disbelieved || tries.own >= OWN_REFUSALS {
                tries.write(&reason.code(), disbelieved, told);
                let class = if disbelieved { reason.class() } else { Class::Throttled };
                let message = if disbelieved { message } else { format!("{message} to this address, while others succeeded") };
                return Verdict::GiveUp { reason, class, message, not_before: asked };
            }
            tries.write(&reason.code(), false, told);
            Verdict::Hold { asked, from }
        }
        Judgement::Trouble(t) => trouble(tries, t, plan, told),
    }
}

fn trouble(tries: &mut Tries, t: Trouble, plan: &RetryPlan, told: &Tried) -> Verdict {
    let code = t.reason.code();
    let can_free = t.resend && tries.free < FREE_REPEATS;
    match t.repeat {
        Repeat::Free if can_free => {
            tries.free += 1;
            tries.write(&code, false, told);
            return tries.again(Duration::ZERO, false, false, true);
        }
        Repeat::Identity if can_free && !tries.identity => {
            tries.free += 1;
            tries.identity = true;
            tries.write(&code, false, told);
            return tries.again(Duration::ZERO, false, false, t.fresh);
        }
        Repeat::Local if t.resend => {
            tries.local += 1;
            tries.write(&code, false, told);
            // Half of it for certain: a shortage is not asked again at once.
            let most = backoff(plan, tries.local, 1.0);
            let wait = most.mul_f64(0.5 + 0.5 * told.unit.clamp(0.0, 1.0));
            return tries.again(above(t.floor, wait, told.unit), false, false, t.fresh);
        }
        _ => {}
    }
    tries.write(&code, true, told);
    let left = t.resend && tries.charged < plan.attempts;
    let sweep = match t.repeat {
        Repeat::Backoff | Repeat::Free if left => plan.final_sweep && tries.charged + 1 == plan.attempts,
        Repeat::Once if left && !tries.once.iter().any(|o| *o == code) => {
            tries.once.push(code.into_owned());
            false
        }
        _ => return Verdict::GiveUp { reason: t.reason, class: t.class, message: t.message, not_before: t.floor },
    };
    let wait = above(t.floor, backoff(plan, tries.charged, told.unit), told.unit);
    tries.again(wait, sweep, true, t.fresh)
}

impl Tries {
    /// Writes a try that counts for nothing and is followed by none: the run ends by it.
    pub fn uncharged(&mut self, reason: &Reason, told: &Tried) {
        self.write(&reason.code(), false, told);
    }

    fn write(&mut self, outcome: &str, charged: bool, told: &Tried) {
        self.made += 1;
        self.charged += u32::from(charged);
        if self.records.len() >= RECORDS {
            self.records.drain(..=self.records.len() - RECORDS);
        }
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        self.records.push(AttemptRecord {
            n: self.made,
            start: told.start.to_string(),
            ms: ms(told.took),
            outcome: outcome.to_owned(),
            status: told.status,
            wait_ms: ms(told.waited),
            charged,
        });
    }

    fn again(&self, after: Duration, sweep: bool, charged: bool, fresh: bool) -> Verdict {
        Verdict::Again { after, sweep, charged, identity: self.identity, fresh }
    }
}

/// Full jitter: uniform in `0..=min(max_backoff, backoff * 2^(retry - 1))`, `retry` from 1, `unit` in `0.0..=1.0` (AWS Architecture
/// Blog, *Exponential Backoff And Jitter*).
#[must_use]
pub fn backoff(plan: &RetryPlan, retry: u32, unit: f64) -> Duration {
    let doubled = plan.backoff.as_secs_f64() * f64::from(retry.saturating_sub(1).min(1000)).exp2();
    let most = Duration::try_from_secs_f64(doubled).unwrap_or(Duration::MAX).min(plan.max_backoff);
    Duration::try_from_secs_f64(most.as_secs_f64() * unit.clamp(0.0, 1.0)).unwrap_or(most)
}

/// Never before what the server asked for; a little after it, so that not all come at once.
fn above(floor: Option<Duration>, wait: Duration, unit: f64) -> Duration {
    let Some(floor) = floor else { return wait };
    let spread = (floor / 10).min(Duration::from_secs(5)).mul_f64(unit.clamp(0.0, 1.0));
    wait.max(floor.saturating_add(spread))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
