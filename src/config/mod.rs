//! From the text of a job file to a [`Plan`].
//!
//! Layers (defaults, job file, environment, flags) are trees of values that know where they came from. Each is walked
//! against the schema of the raw types, laid over the one below, and the result is read leaf by leaf into [`raw::Job`];
//! the plan is built from that. Mistakes of all steps are gathered and told at once, with line and column.
//!
//! Never: a key that is silently ignored; a secret in a message, in [`explain_text`] or in a plan's `Debug`.

mod build;
mod errors;
mod explain;
mod flags;
mod hours;
pub mod leaf;
mod load;
pub mod raw;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

pub use crate::model::plan::*;
pub use errors::{ConfigError, ConfigErrors, Origin};
pub use explain::{Setting, explain_text};
pub use flags::{Overrides, parse_allow_net, parse_dns_server, parse_resolve};
pub use load::{DEFAULTS, Loaded, assemble, load, state_place};
pub use raw::schema;
