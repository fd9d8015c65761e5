//! Decider: what a host's robots.txt means and which addresses it allows.
//!
//! [`decide`] reads the outcome of the request for `/robots.txt`; [`Rules`] holds what its lines say to `gleaner` (RFC 9309, with
//! google's tolerance for typos) and matches addresses in time that no pattern can blow up.

mod outcome;
mod parse;
mod rules;

pub use outcome::{MAX_HOPS, RobotsVerdict, decide, reask};
pub use rules::{MAX_BYTES, MAX_DELAY, MAX_RULES, Oddities, Rules, TOKEN};
