//! The limit decider: when a key's next request may be sent.
//!
//! A key is a host name or the whole job. Three things speak about it, and all must agree ([`Limits::take`] takes of all or
//! of none): the *guard* of each window, which is promise P2 (`window`, with its proof), *pacing*, which spreads a quota over
//! its window (`pace`, governor's GCRA), and the *hold* after a server's refusal, which is promise P3 (`hold`). `save` carries
//! windows across restarts.
//!
//! Deciders: told the time and the jitter, they return a decision; [`Limits`] is `Send` and wants one owner.

mod hold;
mod limits;
mod pace;
mod save;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod window;

pub use hold::HoldChange;
pub use limits::{Limits, Permit, Verdict, Why};
pub use save::{SaveMark, SavedKey, SavedWindow};
