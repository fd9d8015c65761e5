//! [`Ledger`]: one process's hand on a budget.

use super::call::Me;
use super::error::BudgetError;
use super::file;
use super::types::{Answer, BudgetConfig, End, Grant, Want};
use crate::clock::Clock;
use rusqlite::Connection;
use std::sync::Arc;
use std::time::Duration;

/// One process's hand on a budget: every call is one transaction, blocks for some 50 us and, while others write, longer
/// (5 s at most, see [`Ledger::set_patience`]). Dropped, it tells of what is in flight as [`End::Lost`].
#[derive(Debug)]
pub struct Ledger {
    conn: Connection,
    me: Me,
}

impl Ledger {
    /// Opens or makes a budget and enters this process as one of its owners. Blocks.
    ///
    /// # Errors
    /// A name or folder that will not do, a database that is damaged or newer, another machine's processes, or a refusing system.
    pub fn open(config: &BudgetConfig<'_>, clock: Arc<dyn Clock>) -> Result<Self, BudgetError> {
        file::check_name(config.name)?;
        file::make_folder(config.folder)?;
        let me = Me::new(config, clock)?;
        let conn = file::connect(&me.path, true)?;
        let mut ledger = Self { conn, me };
        ledger.sync(&mut Vec::new(), &[])?;
        Ok(ledger)
    }

    /// Tells what became of grants and asks for new ones, in one transaction; the answers are in the order of `wants`.
    ///
    /// # Errors
    /// Nothing was done, and `ended` is as it was; it is empty otherwise.
    pub fn sync(&mut self, ended: &mut Vec<(Grant, End)>, wants: &[Want<'_>]) -> Result<Vec<Answer>, BudgetError> {
        let tx = file::begin(&mut self.conn).map_err(BudgetError::db(&self.me.path))?;
        let done = self.me.work(&tx, ended, wants)?;
        tx.commit().map_err(BudgetError::db(&self.me.path))?;
        ended.clear();
        Ok(self.me.take_over(done))
    }

    /// Lets nothing of `key` be granted for `wait` from now on, to any process; never shortens a hold.
    ///
    /// # Errors
    /// Nothing was done.
    pub fn hold(&mut self, key: &str, wait: Duration) -> Result<(), BudgetError> {
        let tx = file::begin(&mut self.conn).map_err(BudgetError::db(&self.me.path))?;
        let mut done = self.me.enter(&tx)?;
        let now = done.now;
        let sheet = self.me.sheet(&tx, &mut done, key)?;
        if now + wait > sheet.held {
            (sheet.held, sheet.held_at) = (now + wait, now);
        }
        self.me.store(&tx, &mut done)?;
        tx.commit().map_err(BudgetError::db(&self.me.path))?;
        self.me.take_over(done);
        Ok(())
    }

    /// Tells what became of the last grants, what is in flight beside as [`End::Lost`], and leaves the budget.
    ///
    /// # Errors
    /// The next process that looks finds this one dead, with the same result.
    pub fn close(mut self, mut ended: Vec<(Grant, End)>) -> Result<(), BudgetError> {
        self.sync(&mut ended, &[])?;
        self.leave()
    }

    /// How long a call waits for the others' transactions before it is refused as busy; 5 s where nothing is said.
    ///
    /// # Errors
    /// SQLite refused.
    pub fn set_patience(&self, patience: Duration) -> Result<(), BudgetError> {
        self.conn.busy_timeout(patience).map_err(BudgetError::db(&self.me.path))
    }

    /// Leaves without a word, where the budget is busy: the next process that looks finds this one dead, and what is in flight is
    /// [`End::Lost`] then.
    pub fn abandon(mut self) {
        self.me.owner = None;
    }

    fn leave(&mut self) -> Result<(), BudgetError> {
        let Some(owner) = self.me.owner.take() else { return Ok(()) };
        let db = BudgetError::db(&self.me.path);
        let tx = file::begin(&mut self.conn).map_err(&db)?;
        let mut done = self.me.read(&tx)?;
        self.me.bury(&tx, &mut done, &[owner.id])?;
        self.me.open.clear();
        self.me.store(&tx, &mut done)?;
        tx.commit().map_err(&db)?;
        self.me.remove_locks(&done.dead);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn me(&mut self) -> (&Connection, &mut bool) {
        (&self.conn, &mut self.me.frees_dead)
    }

    /// What SIGKILL does, but for the memory. Another test that forks has the lock too, until its exec.
    #[cfg(test)]
    pub(super) fn kill(mut self) {
        let id = self.me.owner.take().map_or(0, |o| o.id);
        while self.me.is_alive(id) {
            std::thread::yield_now();
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}
