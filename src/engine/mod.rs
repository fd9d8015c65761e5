//! The engine: owns every task and channel, and is the only one that knows deciders and doers both.
//!
//! [`run()`] reads like the data flow of the README: a feeder reads records, the store makes them entries, the dispatcher
//! asks schedule, limits and robots whose turn it is, workers send one attempt each, extraction turns answers into rows,
//! and the store settles rows, fates and discovered addresses together.

mod counting;
mod dispatcher;
mod error;
mod extraction;
mod feeder;
pub mod forecast;
mod frontier;
mod hosts;
mod keep;
#[cfg(test)]
mod keep_tests;
mod purse;
mod request;
mod robots;
mod rules;
mod run;
mod scope;
mod settle;
mod shown;
mod tally;
mod turns;
mod work;
mod worker;

pub use error::{RunError, exit_code};
pub use forecast::forecast;
pub use run::{Interrupt, RunOptions, Signals, check, run};
