//! Which host is next: queues by host, a heap of not-befores, fair turns.
//!
//! A decider. Waiting is data: a host that may not be asked yet lies in a heap under its not-before and holds no worker,
//! no permit and no connection, so one slow or paused host never slows another (P4). Hosts that may be asked stand in
//! one ring and get a turn each.

use crate::clock::{Moment, unit};
use crate::model::HostKey;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Number of a host within one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

/// What the gate says of a host's first item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Send it.
    Go,
    /// Not before this instant; the host waits.
    At(Moment),
    /// Not until [`Schedule::wake`]; the host waits.
    Blocked,
    /// Do not send it: hand it out as [`Turn::Dropped`].
    Drop,
    /// Something else takes this turn of the host (its robots.txt); the item stays.
    Instead,
    /// Behind the others of its host.
    Back,
}

/// What a turn gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// An item to send; it counts as in flight until [`Schedule::landed`].
    Send(Slot, T),
    /// An item that the gate dropped; it does not count.
    Dropped(Slot, T),
    /// The gate wants the turn for something else; it counts as in flight.
    Instead(Slot),
    /// Nothing may be sent before this instant ([`Moment::FAR`]: before something happens).
    Wait(Moment),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no list: empty, full, or blocked.
    Out,
    /// In the ring.
    Ring,
    /// In the heap under this instant.
    Heap(Moment),
}

struct Host<T> {
    key: HostKey,
    queue: VecDeque<T>,
    in_flight: usize,
    most: usize,
    delay: Duration,
    /// Between two starts whatever the jitter.
    least: Duration,
    starts: u32,
    next_start: Moment,
    blocked: bool,
    place: Place,
}

impl<T> Host<T> {
    /// An attempt starts; the next one not before its delay has passed.
    fn started(&mut self, slot: Slot, jitter: Option<u64>, now: Moment) {
        self.in_flight += 1;
        self.starts = self.starts.wrapping_add(1);
        let spread = |seed| self.delay.as_secs_f64() * (0.5 + unit(seed, u64::from(slot.0), self.starts));
        let delay = jitter.and_then(|seed| Duration::try_from_secs_f64(spread(seed)).ok()).unwrap_or(self.delay);
        self.next_start = now + delay.max(self.least);
    }
}

/// The queues of all hosts that have work in memory. `T` is the unit of work.
pub struct Schedule<T> {
    hosts: HashMap<Slot, Host<T>>,
    by_key: HashMap<HostKey, Slot>,
    ring: VecDeque<Slot>,
    heap: BinaryHeap<Reverse<(Moment, Slot)>>,
    next_slot: u32,
    queued: usize,
    /// Hosts with something queued.
    busy: usize,
    /// Hosts that the gate blocked.
    blocked: HashSet<Slot>,
    per_host: usize,
    delay: Duration,
    /// Seed of the jitter, where delays are spread.
    jitter: Option<u64>,
}

impl<T> Schedule<T> {
    /// `per_host` attempts in flight to one host, `delay` between their starts.
    #[must_use]
    pub fn new(per_host: usize, delay: Duration) -> Self {
        Self {
            hosts: HashMap::new(),
            by_key: HashMap::new(),
            ring: VecDeque::new(),
            heap: BinaryHeap::new(),
            next_slot: 0,
            queued: 0,
            busy: 0,
            blocked: HashSet::new(),
            per_host: per_host.max(1),
            delay,
            jitter: None,
        }
    }

    /// Spreads each delay from now on: uniform between half and one and a half of it, a function of seed, host and start.
    #[must_use]
    pub fn with_jitter(self, seed: u64) -> Self {
        Self { jitter: Some(seed), ..self }
    }

    /// The host's slot, made where there is none.
    pub fn slot(&mut self, key: &HostKey) -> Slot {
        if let Some(slot) = self.by_key.get(key) {
            return *slot;
        }
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.by_key.insert(key.clone(), slot);
        self.hosts.insert(
            slot,
            Host {
                key: key.clone(),
                queue: VecDeque::new(),
                in_flight: 0,
                most: self.per_host,
                delay: self.delay,
                least: Duration::ZERO,
                starts: 0,
                next_start: Moment::ZERO,
                blocked: false,
                place: Place::Out,
            },
        );
        slot
    }

    /// The host of a slot.
    #[must_use]
    pub fn key(&self, slot: Slot) -> Option<&HostKey> {
        self.hosts.get(&slot).map(|h| &h.key)
    }

    /// The slot of a host that has one.
    #[must_use]
    pub fn find(&self, key: &HostKey) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    /// Forgets a host that has nothing queued and nothing in flight and whose delay has passed. False where it has.
    pub fn forget(&mut self, slot: Slot, now: Moment) -> bool {
        let idle = self.hosts.get(&slot).is_some_and(|h| h.queue.is_empty() && h.in_flight == 0 && h.next_start <= now);
        if idle && let Some(h) = self.hosts.remove(&slot) {
            self.by_key.remove(&h.key);
            self.blocked.remove(&slot);
        }
        idle
    }

    /// Adds an item behind the host's others.
    pub fn push(&mut self, slot: Slot, item: T) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            self.busy += usize::from(h.queue.is_empty());
            h.queue.push_back(item);
            self.queued += 1;
            self.place(slot);
        }
    }

    /// Adds an item before the host's others.
    pub fn push_front(&mut self, slot: Slot, item: T) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            self.busy += usize::from(h.queue.is_empty());
            h.queue.push_front(item);
            self.queued += 1;
            self.place(slot);
        }
    }

    /// An attempt to the host ended.
    pub fn landed(&mut self, slot: Slot) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.in_flight = h.in_flight.saturating_sub(1);
            self.place(slot);
        }
    }

    /// A host that the gate had blocked, or that waits, may be asked again (the gate is asked anew).
    pub fn wake(&mut self, slot: Slot) {
        self.blocked.remove(&slot);
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.blocked = false;
            if matches!(h.place, Place::Heap(_)) {
                h.place = Place::Out;
            }
            self.place(slot);
        }
    }

    /// Wakes every blocked host: something freed what they all wait for.
    pub fn wake_blocked(&mut self) {
        for slot in std::mem::take(&mut self.blocked) {
            self.wake(slot);
        }
    }

    /// At most `most` attempts in flight to this host from now on, `delay` between starts, and never less than `least` (its
    /// Crawl-delay).
    pub fn tune(&mut self, slot: Slot, most: usize, delay: Duration, least: Duration) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.most = most.max(1);
            h.delay = delay;
            h.least = least;
            self.place(slot);
        }
    }

    /// Takes the host's items that `wanted` likes.
    pub fn take_where(&mut self, slot: Slot, wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let Some(h) = self.hosts.get_mut(&slot) else { return Vec::new() };
        let had = !h.queue.is_empty();
        let (taken, kept): (Vec<_>, Vec<_>) = h.queue.drain(..).partition(wanted);
        h.queue = kept.into();
        self.queued -= taken.len();
        self.busy -= usize::from(had && h.queue.is_empty());
        taken
    }

    /// Takes the host's first item that `wanted` likes.
    pub fn take_first(&mut self, slot: Slot, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let h = self.hosts.get_mut(&slot)?;
        let i = h.queue.iter().position(wanted)?;
        let item = h.queue.remove(i);
        self.queued -= 1;
        self.busy -= usize::from(h.queue.is_empty());
        item
    }

    /// Items queued for a host that `wanted` likes.
    #[must_use]
    pub fn count_at(&self, slot: Slot, wanted: impl Fn(&T) -> bool) -> usize {
        self.hosts.get(&slot).map_or(0, |h| h.queue.iter().filter(|i| wanted(i)).count())
    }

    /// Items queued for a host.
    #[must_use]
    pub fn queued_at(&self, slot: Slot) -> usize {
        self.hosts.get(&slot).map_or(0, |h| h.queue.len())
    }

    /// Attempts in flight to a host.
    #[must_use]
    pub fn in_flight_at(&self, slot: Slot) -> usize {
        self.hosts.get(&slot).map_or(0, |h| h.in_flight)
    }

    /// Items queued in all.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Hosts that may be asked now, as far as is known without the gate.
    #[must_use]
    pub fn ready_hosts(&self) -> usize {
        self.ring.len()
    }

    /// Hosts with something queued.
    #[must_use]
    pub fn busy_hosts(&self) -> usize {
        self.busy
    }

    /// Hosts that have something queued and wait, with their not-before as far as it is known.
    pub fn waiting(&self) -> impl Iterator<Item = (Slot, &HostKey, Moment)> {
        self.hosts.iter().filter(|(_, h)| !h.queue.is_empty()).filter_map(|(s, h)| match h.place {
            Place::Heap(at) => Some((*s, &h.key, at)),
            Place::Out if h.blocked => Some((*s, &h.key, Moment::FAR)),
            _ => None,
        })
    }

    /// The next turn at `now`. The gate is asked about the first item of a host whose own conditions hold; it has to be
    /// ready to be asked about the same item again. Its last argument is true where it sent every other item of the host
    /// [`Gate::Back`]: there is nothing to be behind of.
    pub fn turn(&mut self, now: Moment, mut gate: impl FnMut(Slot, &HostKey, &T, bool) -> Gate) -> Turn<T> {
        while let Some(Reverse((at, slot))) = self.heap.peek().copied() {
            if at > now {
                break;
            }
            self.heap.pop();
            if let Some(h) = self.hosts.get_mut(&slot)
                && h.place == Place::Heap(at)
            {
                h.place = Place::Out;
                self.place(slot);
            }
        }
        let mut turned = 0;
        while let Some(slot) = self.ring.pop_front() {
            let Some(h) = self.hosts.get_mut(&slot) else { continue };
            if h.place != Place::Ring {
                continue;
            }
            h.place = Place::Out;
            if h.queue.is_empty() || h.in_flight >= h.most || h.blocked {
                continue;
            }
            if h.next_start > now {
                let at = h.next_start;
                self.wait(slot, at);
                continue;
            }
            let Some(item) = h.queue.front() else { continue };
            match gate(slot, &h.key, item, turned >= h.queue.len()) {
                Gate::Go => {
                    let Some(item) = h.queue.pop_front() else { continue };
                    self.queued -= 1;
                    self.busy -= usize::from(h.queue.is_empty());
                    h.started(slot, self.jitter, now);
                    self.place(slot);
                    return Turn::Send(slot, item);
                }
                Gate::Instead => {
                    h.started(slot, self.jitter, now);
                    self.place(slot);
                    return Turn::Instead(slot);
                }
                Gate::Drop => {
                    let Some(item) = h.queue.pop_front() else { continue };
                    self.queued -= 1;
                    self.busy -= usize::from(h.queue.is_empty());
                    self.place(slot);
                    return Turn::Dropped(slot, item);
                }
                Gate::Back => {
                    turned += 1;
                    if turned > h.queue.len() {
                        self.wait(slot, now + Duration::from_millis(200));
                        turned = 0;
                        continue;
                    }
                    h.queue.rotate_left(1);
                    h.place = Place::Ring;
                    self.ring.push_front(slot);
                    continue;
                }
                Gate::At(at) if at < Moment::FAR => self.wait(slot, at.max(Moment(now.0 + 1))),
                Gate::At(_) | Gate::Blocked => {
                    h.blocked = true;
                    self.blocked.insert(slot);
                }
            }
            turned = 0;
        }
        Turn::Wait(self.heap.peek().map_or(Moment::FAR, |Reverse((at, _))| *at))
    }

    fn wait(&mut self, slot: Slot, at: Moment) {
        if let Some(h) = self.hosts.get_mut(&slot) {
            h.place = Place::Heap(at);
            self.heap.push(Reverse((at, slot)));
        }
    }

    fn place(&mut self, slot: Slot) {
        if let Some(h) = self.hosts.get_mut(&slot)
            && h.place == Place::Out
            && !h.queue.is_empty()
            && h.in_flight < h.most
            && !h.blocked
        {
            h.place = Place::Ring;
            self.ring.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> HostKey {
        HostKey::from_stored(&format!("http://h{n}"))
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the gate's shape")]
    fn go(_: Slot, _: &HostKey, _: &u32, _: bool) -> Gate {
        Gate::Go
    }

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    #[test]
    fn hosts_get_turns_in_a_ring_whatever_their_queues() {
        let mut s = Schedule::new(10, Duration::ZERO);
        let (a, b) = (s.slot(&key(1)), s.slot(&key(2)));
        for i in 0..4 {
            s.push(a, i);
        }
        s.push(b, 100);
        s.push(b, 101);
        let order: Vec<u32> = std::iter::from_fn(|| match s.turn(at(0), go) {
            Turn::Send(_, i) => Some(i),
            _ => None,
        })
        .collect();
        assert_eq!(order, [0, 100, 1, 101, 2, 3]);
    }

    #[test]
    fn a_waiting_host_holds_nothing_back_and_comes_when_due() {
        let mut s = Schedule::new(1, Duration::from_millis(50));
        let (a, b) = (s.slot(&key(1)), s.slot(&key(2)));
        s.push(a, 1);
        s.push(a, 2);
        s.push(b, 3);
        let held = |slot, _: &HostKey, _: &u32, _| if slot == a { Gate::At(at(1000)) } else { Gate::Go };
        assert_eq!(s.turn(at(0), held), Turn::Send(b, 3));
        assert_eq!(s.turn(at(0), held), Turn::Wait(at(1000)));
        assert_eq!(s.turn(at(1000), go), Turn::Send(a, 1));
        assert_eq!(s.turn(at(1000), go), Turn::Wait(Moment::FAR));
        s.landed(a);
        assert_eq!(s.turn(at(1001), go), Turn::Wait(at(1050)), "the politeness delay counts from the start");
        assert_eq!(s.turn(at(1050), go), Turn::Send(a, 2));
    }

    #[test]
    fn the_gate_can_wait_block_drop_and_turn_items() {
        let mut s = Schedule::new(4, Duration::ZERO);
        let a = s.slot(&key(1));
        for i in 1..=3 {
            s.push(a, i);
        }
        assert_eq!(s.turn(at(0), |_, _, _, _| Gate::At(at(5))), Turn::Wait(at(5)));
        assert_eq!(s.turn(at(4), go), Turn::Wait(at(5)));
        assert_eq!(s.turn(at(5), |_, _, i, _| if *i == 1 { Gate::Back } else { Gate::Go }), Turn::Send(a, 2));
        assert_eq!(s.turn(at(5), |_, _, _, _| Gate::Blocked), Turn::Wait(Moment::FAR));
        assert_eq!(s.turn(at(9), go), Turn::Wait(Moment::FAR));
        s.wake_blocked();
        assert_eq!(s.turn(at(9), |_, _, _, _| Gate::Drop), Turn::Dropped(a, 3));
        assert_eq!(s.turn(at(9), |_, _, _, _| Gate::Back), Turn::Wait(at(209)), "a queue of nothing but turned items waits");
        assert_eq!(s.turn(at(209), |_, _, _, alone| if alone { Gate::At(at(300)) } else { Gate::Back }), Turn::Wait(at(300)));
        assert_eq!((s.queued(), s.in_flight_at(a)), (1, 1));
        assert_eq!(s.turn(at(300), |_, _, _, _| Gate::Instead), Turn::Instead(a));
        assert_eq!((s.queued(), s.in_flight_at(a)), (1, 2));
    }

    #[test]
    fn items_can_be_taken_out_of_a_queue_and_hosts_with_work_are_counted() {
        let mut s = Schedule::new(2, Duration::ZERO);
        let (a, b) = (s.slot(&key(1)), s.slot(&key(2)));
        for i in 0..6 {
            s.push(a, i);
        }
        s.push_front(b, 9);
        assert_eq!((s.queued(), s.busy_hosts()), (7, 2));
        assert_eq!(s.take_where(a, |i| i % 2 == 1), [1, 3, 5]);
        assert_eq!(s.take_first(a, |i| *i == 2), Some(2));
        assert_eq!((s.queued(), s.queued_at(a), s.busy_hosts()), (3, 2, 2));
        assert_eq!(s.turn(at(0), go), Turn::Send(a, 0));
        assert_eq!(s.turn(at(0), |_, _, _, _| Gate::Drop), Turn::Dropped(b, 9));
        assert_eq!((s.queued(), s.busy_hosts()), (1, 1));
        assert_eq!(s.take_where(a, |_| true), [4]);
        assert_eq!((s.queued(), s.busy_hosts(), s.turn(at(1), go)), (0, 0, Turn::Wait(Moment::FAR)));
    }

    #[test]
    fn jitter_spreads_the_delay_by_half_around_it_and_never_below_the_least() {
        let gaps = |seed: u64, least: u64| -> Vec<u64> {
            let mut s = Schedule::new(100, Duration::from_millis(100)).with_jitter(seed);
            let a = s.slot(&key(1));
            s.tune(a, 100, Duration::from_millis(100), Duration::from_millis(least));
            (0..65).for_each(|i| s.push(a, i));
            let (mut now, mut starts) = (at(0), Vec::new());
            while s.queued() > 0 {
                match s.turn(now, go) {
                    Turn::Send(..) => starts.push(now.0 / 1_000_000),
                    Turn::Wait(at) => now = at,
                    other => panic!("{other:?}"),
                }
            }
            starts.windows(2).map(|w| w[1] - w[0]).collect()
        };
        let free = gaps(7, 0);
        assert!(free.iter().all(|g| (49..=150).contains(g)), "{free:?}");
        assert!(free.iter().any(|g| *g < 75) && free.iter().any(|g| *g > 125), "{free:?}");
        let mean = free.iter().sum::<u64>() / 64;
        assert!((85..=115).contains(&mean), "{mean}");
        assert_eq!(free, gaps(7, 0));
        assert_ne!(free, gaps(8, 0));
        assert!(gaps(7, 100).iter().all(|g| (99..=150).contains(g)));
    }

    #[test]
    fn concurrency_binds_and_a_landing_frees_it() {
        let mut s = Schedule::new(2, Duration::ZERO);
        let a = s.slot(&key(1));
        for i in 0..5 {
            s.push(a, i);
        }
        assert!(matches!(s.turn(at(0), go), Turn::Send(..)));
        assert!(matches!(s.turn(at(0), go), Turn::Send(..)));
        assert_eq!(s.turn(at(0), go), Turn::Wait(Moment::FAR));
        s.landed(a);
        assert!(matches!(s.turn(at(0), go), Turn::Send(..)));
        s.tune(a, 1, Duration::ZERO, Duration::ZERO);
        s.landed(a);
        assert_eq!(s.turn(at(0), go), Turn::Wait(Moment::FAR));
        assert!(!s.forget(a, at(0)));
    }
}
