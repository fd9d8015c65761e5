//! gleaner: a concurrent bulk scraper, crawler and rate-limited API harvester that accounts for every input.

pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod engine;
pub mod events;
pub mod extract;
pub mod fetch;
pub mod input;
pub mod limit;
pub mod model;
pub mod report;
pub mod retry;
pub mod robots;
pub mod schedule;
pub mod store;
