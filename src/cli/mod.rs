//! The command line: arguments, commands, exit codes.
//!
//! [`main`] reads the arguments (`args`), turns flags into settings above the job file (`settings`), and runs the
//! command. Everything that is said goes through [`crate::report::Output`]; every call into the other parts is in
//! `wire`.

mod args;
mod commands;
mod demo;
mod exit;
mod fetch;
mod save;
mod session;
mod settings;
mod signals;
mod values;
mod wire;

pub use exit::Exit;

use crate::report::{Look, Output};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process was started with, and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(run() as u8)
}

fn run() -> Exit {
    let args = match args::Cli::try_parse() {
        Ok(args) => args,
        Err(e) => return usage(&e),
    };
    let out = Output::new(Look::detect(args.global.quiet, args.global.verbose));
    match commands::run(args, &out) {
        Ok(exit) => exit,
        Err(failure) => {
            out.clear();
            out.error(&failure.message, failure.hint.as_deref());
            failure.exit
        }
    }
}

/// Help and version go to standard output and are a success; anything else is a wrong flag or argument.
fn usage(e: &clap::Error) -> Exit {
    let out = Output::new(Look::detect(false, false));
    if e.use_stderr() {
        let text = e.render().to_string();
        let text = text.trim_end();
        match text.strip_prefix("error: ") {
            Some(text) => out.error(text, None),
            None => out.line(text),
        }
        return Exit::Usage;
    }
    exit::printed(out.data(&e.render().to_string())).unwrap_or(Exit::Io)
}
