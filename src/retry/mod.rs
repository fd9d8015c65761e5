//! Decider: what an attempt's outcome means and what happens next.
//!
//! [`classify`] is the one table from [`crate::model::Outcome`] to [`Judgement`], [`rule()`] what stands in its place where a rule of
//! `[[response]]` matches; [`decide`] goes from a judgement and what the
//! entry has been through ([`Tries`], durable) to a [`Verdict`]. [`Neighbours`] tells whose a refusal is, [`Budget`] and [`Breaker`]
//! keep a host's retries in bounds. Nothing here reads a clock, draws a number or sends a byte: times and `unit` are told.
//!
//! A worker's turn: `rule` or `classify` → (`Neighbours::refused` where it is a refusal) → `decide` → follow the hop, or settle.

mod breaker;
mod budget;
mod challenge;
pub mod headers;
mod location;
mod neighbours;
mod policy;
mod rule;
mod table;

pub use breaker::{Breaker, Change, FIRST_WAIT, LAST_WAIT, OPENS_AFTER, State};
pub use budget::{Budget, FREE as BUDGET_FREE};
pub use headers::{Asked, Quota, QuotaUnit, Scope, WaitFrom};
pub use location::{Follow, redirect_target};
pub use neighbours::Neighbours;
pub use policy::{BY_TEXT, FREE_REPEATS, OWN_REFUSALS, RECORDS, Tried, Tries, Verdict, Whose, backoff, decide};
pub use rule::{Ruling, rule};
pub use table::{Ctx, Judgement, Reach, Repeat, Trouble, classify, reach};
