//! The limit decider: when a request may be sent.
//!
//! A request counts in one limit or several (`claims`: `[limits]`, `[[limit]]`, `[[host]]`), in each under a key: a host, a
//! domain, a token, or the whole job. Of each key all must agree ([`Limits::take`] takes of all or of none): the *guard* of each
//! window, which is promise P2 (`window`, with its proof), *pacing*, which spreads a quota over its window (`pace`, governor's
//! GCRA), the *hold* after a server's refusal, which is promise P3 (`hold`), the rate that was *learned* from refusals
//! (`adapt`), and the *quota* that the server tells (`quota`). `save` carries windows across restarts; `hours` says when
//! anything may be sent at all.
//!
//! Deciders: told the time and the jitter, they return a decision; [`Limits`] is `Send` and wants one owner.

mod adapt;
mod claims;
mod hold;
mod hours;
mod limits;
mod pace;
mod quota;
mod save;
#[cfg(test)]
mod sim;
mod sustain;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_claims;
mod window;

pub use claims::{About, Claim, LimitId};
pub use hold::{HoldChange, Refusal};
pub use hours::Hours;
pub use limits::{LimitView, Limits, Permit, Verdict, Why};
pub use quota::Told;
pub use save::{SaveMark, SavedKey, SavedWindow, Unsaved};
pub use sustain::Sustained;
