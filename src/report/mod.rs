//! What a run looks like from outside: the live line, the lines that stay, the end's summary, `--events`, `--stats`.
//!
//! Draws events and decides nothing. [`Output`] is the one type that writes to standard output and standard error (but
//! for the stdout sink of `store`): it never panics, and a terminal or pipe that went away silences it.

mod budgets;
mod files;
mod forecast;
mod live;
mod output;
mod status;
mod summary;
mod tally;
mod terminal;
mod text;
mod verbose;

pub use budgets::{BudgetKey, BudgetProcess, BudgetReport, BudgetWindow, budget_text, budgets_text};
pub use files::{EventsFile, check_writable, is_stdout, write_stats};
pub use forecast::forecast_text;
pub use output::{Look, Output};
pub use status::{StatusFile, StatusReport, status_text};
pub use summary::{Ending, Places, summary, waits};
pub use tally::Tally;
pub use terminal::Terminal;
pub use text::{quoted_for_shell, table};
