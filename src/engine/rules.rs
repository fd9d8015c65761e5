//! What a rule of `[[response]]` asks for that is no fate of a single try: the run's end, the pages from the first again.

use crate::clock::{Moment, Wall};
use crate::engine::dispatcher::Dispatcher;
use crate::engine::work::{Flight, Item};
use crate::engine::worker::Facts;
use crate::events::Event;
use crate::extract::RESTARTS;
use crate::model::mask_url;
use crate::retry::{Judgement, Tries, Trouble, Whose};
use crate::store::{EncodedRows, Settle};

impl Dispatcher {
    /// The run winds down as by a rule of `[stop]`; the entry is pending again, its try not charged.
    pub(super) fn stop_by_rule(&mut self, flight: Flight, trouble: &Trouble, facts: &Facts) {
        self.tell(&flight, &trouble.reason.code(), facts);
        self.not_refused(&flight);
        let Flight { item: Item::Entry(mut work), started, started_wall, url, .. } = flight else { return };
        let tried = self.tried(&work, started, started_wall, facts, Whose::Key);
        work.tries.uncharged(&trouble.reason, &tried);
        self.settles.push(Settle::Later { entry: work.lease.entry, due: Wall(0), state: work.state(), sweep: false });
        if self.stopping.is_none() {
            let why = format!("response: {} ({}): {}", trouble.reason, mask_url(url.as_str()), trouble.message);
            self.events.emit(&Event::Stopping { why });
            self.stopping = Some("response".into());
        }
    }

    /// The entry's pages are asked for from the first again. Those whose rows are delivered are counted, durable with the new
    /// place, and their rows are not delivered again. A crash before that is durable finds the old place, and asks there again.
    pub(super) fn restart_pages(&mut self, mut flight: Flight, trouble: Trouble, facts: &Facts, now: Moment) {
        if let Item::Entry(work) = &mut flight.item
            && let (Some(pager), Some(page)) = (self.kit.extractor.pager(), &work.page)
        {
            let often = page.restarts >= RESTARTS;
            let mut again = pager.restart(&work.target, page);
            if often {
                // What asks for the skipped entry anew begins with the first page, too.
                again.restarts = 0;
            }
            work.page = Some(again);
            if often {
                let message = format!("{}, after {RESTARTS} restarts", trouble.message);
                self.judged(flight, Judgement::Trouble(Trouble { message, ..trouble }), facts, now);
                return;
            }
        }
        self.tell(&flight, &trouble.reason.code(), facts);
        self.not_refused(&flight);
        let Flight { item: Item::Entry(mut work), .. } = flight else { return };
        self.events.warn("pages-restarted", || {
            format!("the pages of {} are asked for from the first again: {}", mask_url(&work.lease.url), trouble.message)
        });
        work.tries = Tries::default();
        work.hop = None;
        let (entry, state) = (work.lease.entry, work.state());
        self.settles.push(Settle::Page { entry, rows: EncodedRows::default(), state, discovered: Vec::new() });
        self.requeue(work);
    }
}
