//! End to end: the real binary against a scripted loopback origin. One binary, so that the tests share a build and run
//! side by side; each has an origin and a folder of its own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::duration_suboptimal_units,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "tests: they may fail loudly, ask the clock and sleep, and do not use every helper"
)]

mod support;

mod apis;
mod budgets;
mod commands;
mod corners;
mod crash;
mod crawl;
mod extract;
mod holds;
mod inputs;
mod jobs;
mod limits;
mod network;
mod pages;
mod plan;
mod redirects;
mod responses;
mod resume;
mod retry_table;
mod samples;
mod special;
mod told;
