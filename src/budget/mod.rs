//! Budgets: one limit for every gleaner of a user on a machine (`[limits] budget = "github"`).
//!
//! A budget is one SQLite file in the user's state folder ([`folder()`]). Each process that spends from it has a [`Ledger`], asks it
//! for [`Grant`]s and tells what became of them ([`End`]); a call is one transaction. Keys within a budget are limits of their own,
//! as in `limit`: a host, a domain, a token's label, the job.
//!
//! # The guarantee
//!
//! A grant of weight w is given only if `in flight + arrived within W + w <= L`, over all processes, for each window of the process
//! that asks; it is in flight from the transaction that grants it to the one that tells its end, and an arrival counts for 1.001 W
//! after it. *Proof:* transactions are in one order, and their instants, which are read inside of them from one clock
//! (`CLOCK_BOOTTIME`), are in the same. Let more than L units arrive in `[x, x + W)`, k the last granted of them. Every other i has
//! an arrival `a_i >= x`, and is told with `u_i >= a_i` or not yet: so it counts until `x + W > a_k >= grant_k` at least, and was
//! granted before k: more than L with k, which is refused. No bound on the time of a request is used.
//!
//! *A killed process* tells nothing. Its `flock` dies with it; whoever calls next finds that (within 100 ms of its own last look),
//! and its open grants become arrivals 5 s from that instant: what it had sent has arrived by then, `limit`'s own assumption. Until
//! it is found they are in flight. So a kill costs what was in flight for W + 5 s and nothing else; a process asks for what it
//! sends at once, and no more. A commit is in the page cache before a grant is used, which outlives the process.
//!
//! *A loss of power*, or any new start of the machine, changes the boot id: then all of each window counts as spent from that
//! first call on, for W + 5 s. Calendars are not read at all. `clear` is the one way around.
//!
//! *Processes with different rates* spend from the same account, each guarded by its own: a window in which the last granted is of
//! process P has at most P's limit, so a stricter one never passes its own limit by anything that it sends, and others may beside
//! it. A window that is set later knows what the next longer one remembers (a day is always kept), so it is as exact; for windows
//! longer than a day everything before what is remembered counts as the whole quota, where there was anything.
//!
//! What the proof leaves: as in `limit::window`, the server's clock; a process that is stopped (SIGSTOP) between its grant and its
//! write counts as in flight and is safe; lock files that someone removes make a living process look dead.
//!
//! # Beside the guarantee
//!
//! Grants are paced (GCRA), with the theoretical arrival time in the ledger, so that two processes together do not burst.
//! [`Ledger::hold`] moves a key's hold later for all. Keys about which nothing is to be remembered are deleted; a key takes some
//! 0.1 KB, and 1 KB more for each large window that is busy. `docs/budgets.md` has the format.

mod book;
mod call;
mod error;
mod file;
mod ledger;
mod owner;
#[cfg(test)]
mod tests;
mod types;
mod view;

pub use error::BudgetError;
pub use file::{check_name, folder};
pub use ledger::Ledger;
pub use types::{Answer, BudgetConfig, End, Grant, Want};
pub use view::{BudgetView, KeyView, ProcessView, clear, list, show};
