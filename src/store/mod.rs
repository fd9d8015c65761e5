//! Frontier and sinks as one atomic thing: every address known and who holds it, rows appended, made durable, cut back to
//! their marks.
//!
//! One writer thread owns the SQLite connection and the sink files; [`Store`] is its async handle. The engine
//!
//! 1. calls [`open()`] (blocking), which answers with what an earlier run left ([`Opened`]);
//! 2. fixes the carried columns with [`Store::columns`], which gives the [`encode::Encoder`] that workers encode rows with;
//! 3. gives addresses with [`Store::offer`], the input's mark beside them; with `hand` a new address comes back leased, so
//!    that its first request waits for no commit;
//! 4. takes hosts with entries with [`Store::lease`] (nothing is written; an entry is handed out once until it is settled);
//! 5. tells fates with [`Store::settle`], rows encoded; [`Settle::Page`] keeps a paged entry leased and moves its durable
//!    place on with the page's rows;
//! 6. ends with [`Store::close`]. Dropping every handle commits too, but the end does not count as clean.
//!
//! A commit comes by itself 200 ms after the first change, or at 1,000 settled entries or 4 MiB of rows, and at once with
//! [`Store::limits`]: sinks are appended and synced first, then one transaction holds fates, discovered addresses, marks,
//! counters, the input's place, holds, limits and robots. *The database says done, so the bytes below the mark are durable; bytes above it are garbage.* Settles whose rows
//! go to a compressed sink wait, in memory and leased, for its next member (1 MiB, [`StoreConfig::flush`],
//! [`Store::commit`]); everything else does not wait for them. `docs/delivery.md` has format, cases and limits.
//!
//! Links deeper than [`StoreConfig::depth`] are kept beside the entries and become entries when a run goes deeper.
//!
//! [`read`] is for other processes: `status`, `verify`.

mod apply;
mod aside;
pub mod backlog;
mod cut;
pub mod encode;
mod error;
mod frontier;
mod handle;
mod limiter;
mod lock;
mod open;
pub mod read;
mod schema;
mod sink;
#[cfg(test)]
mod tests;
mod types;
mod writer;

pub use error::{OpenError, StoreError};
pub use handle::{PutBack, Store};
pub use limiter::keep_greater;
pub use lock::Holder;
pub use open::open;
pub use types::{
    BadRecord, Claim, EncodedRows, HostId, HostLease, InputMark, KeptLimit, Lease, LeaseRequest, Leased, LimitRow, LimitsSave, Offer,
    OfferUrl, Offered, Opened, Origin, Settle, Settled, StoreConfig, StoredRobots,
};
