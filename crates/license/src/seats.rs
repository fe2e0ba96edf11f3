//! One node's share of the seats.
//!
//! A seat is one simultaneous connection that the license allows: one peer of one session, its host included, from its
//! joining to the end of its grace period. All nodes share the seats through a store. So that a join costs no round trip
//! as a rule, a node holds a few more than it needs, its reserve. When seats run short, the store tells every node that
//! somebody waits, and reserves are given back: the last licensed seat can be taken on any node.
//!
//! What makes it impossible to sell a seat twice:
//!
//! - A node takes seats only out of those that the store said it holds. Before it asks to hold fewer it stops using them, so
//!   that it does not matter whether the answer arrives.
//! - A session that moves to another node brings its seats along: [`SeatHolder::hand_over`] there, [`SeatHolder::sit`]
//!   here. Between the two they are on top of what either node holds: the store counts the peers that a node says it has
//!   exported, until the session changes its owner, and from then on those that came to the next, until that one says
//!   that they have sat down. The counts change in the transaction that changes the owner. So what a node has in reserve
//!   is its own all the time, and the peers under way sit on nobody else's seats.
//! - The peers of sessions whose node died keep their seats until they are taken over or given up: all that are written down in
//!   the store. So the seat of somebody who leaves is free when that is written down there, and no sooner.
//! - Whoever gets no answer has what it had, and a question that the store hears late changes nothing.

use std::time::{Duration, Instant};

/// A reserve of one seat in so many, so that twenty nodes still leave most seats to whoever needs them.
const SEATS_PER_RESERVE_SEAT: u32 = 16;

/// The largest reserve. A store answers in a few milliseconds, in which no node gets more joins than this.
const RESERVE_MAX: u32 = 64;

/// How often the store is asked at least, to hear of those who wait elsewhere.
pub const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often it is asked while somebody waits here.
pub const ASK_AGAIN: Duration = Duration::from_millis(150);

/// How long no reserve is held after somebody has waited elsewhere.
const SCARCE_FOR: Duration = Duration::from_secs(10);

/// How long a node keeps seats that it does not need: people who leave often come back.
const KEEP_SURPLUS: Duration = Duration::from_secs(5);

/// What a node asks of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How many seats it wants to hold in all.
    pub want: u32,
    /// How many peers that came with their sessions have sat down since the lease began. The store has kept seats for
    /// them, which are in `want`.
    pub sat: u64,
    /// How many peers were exported with their sessions since the lease began: their seats are not in `want` any more.
    pub exported: u64,
    /// Rises with each wish, so that the store can tell a late one.
    pub number: u64,
}

/// What the store answers to whoever asks for seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What this node holds.
    pub held: u32,
    /// What all others have together.
    pub others: u32,
    /// What others want and did not get.
    pub wanted_elsewhere: u32,
}

/// One node's seats: which are taken, and how many to hold in the store. It only decides; whoever owns it carries
/// what [`Self::ask`] says to the store and brings the answer to [`Self::answered`].
#[derive(Debug, Clone)]
pub struct SeatHolder {
    /// Whether there is no other node, and so no store.
    is_alone: bool,
    licensed: u32,
    taken: u32,
    /// Peers that came with their sessions since the lease began.
    sat: u64,
    /// Peers that were exported with their sessions since then.
    exported: u64,
    /// The last question's.
    number: u64,
    /// Held for certain: the least of what the store may have noted.
    held: u32,
    asking: Option<Asking>,
    /// Whether the store notes more for this node than it may use: what is not taken goes back first.
    must_shed: bool,
    asked_at: Option<Instant>,
    scarce_until: Option<Instant>,
    surplus_since: Option<Instant>,
}

/// A question that has no answer yet.
#[derive(Debug, Clone, Copy)]
struct Asking {
    /// Whether it gives back everything that is not taken.
    sheds: bool,
    /// Seats that went to other nodes since: what it is answered counts them still.
    handed_over: u32,
    /// Seats that came with sessions since: what it is answered does not count them yet.
    sat: u32,
}

impl SeatHolder {
    /// A node that holds nothing yet.
    #[must_use]
    pub fn new(licensed: u32) -> Self {
        Self {
            is_alone: false,
            licensed,
            taken: 0,
            sat: 0,
            exported: 0,
            number: 0,
            held: 0,
            asking: None,
            must_shed: false,
            asked_at: None,
            scarce_until: None,
            surplus_since: None,
        }
    }

    /// A node that shares the license with nobody: all seats are its own, and it asks for none.
    #[must_use]
    pub fn alone(licensed: u32) -> Self {
        Self { is_alone: true, ..Self::new(licensed) }
    }

    /// Takes a seat for a peer that joins. `false` when none is free here: [`Self::ask`] with one more who waits.
    pub fn take(&mut self) -> bool {
        let is_free = self.has_free();
        self.taken += u32::from(is_free);
        is_free
    }

    /// Peers are here whose seats come with them, because their session was taken over or handed over. Also those of them
    /// who could not be brought back: they [`Self::leave`] then.
    pub fn sit(&mut self, peers: u32) {
        self.taken = self.taken.saturating_add(peers);
        self.held = self.held.saturating_add(peers);
        self.sat += u64::from(peers);
        if let Some(asking) = &mut self.asking {
            asking.sat = asking.sat.saturating_add(peers);
        }
    }

    /// So many peers are gone, and nobody takes them for present any more, not even should this node die.
    pub fn leave(&mut self, peers: u32) {
        self.taken = self.taken.saturating_sub(peers);
    }

    /// So many peers are exported with their session: they are another node's from here on, and their seats with them.
    pub fn hand_over(&mut self, peers: u32) {
        self.taken = self.taken.saturating_sub(peers);
        self.held = self.held.saturating_sub(peers);
        self.exported += u64::from(peers);
        self.must_shed |= peers > 0;
        if let Some(asking) = &mut self.asking {
            asking.handed_over = asking.handed_over.saturating_add(peers);
            asking.sheds = false;
        }
    }

    /// The license says another number. Nobody who sits loses a seat.
    pub fn set_licensed(&mut self, licensed: u32) {
        if licensed < self.licensed {
            // Everything that is held beyond those who sit is as if handed over.
            self.hand_over_reserve();
        }
        self.licensed = licensed;
    }

    fn hand_over_reserve(&mut self) {
        let reserve = self.held.saturating_sub(self.taken);
        self.held -= reserve;
        self.must_shed = true;
        if let Some(asking) = &mut self.asking {
            // What it is answered was reckoned by the old number.
            asking.handed_over = u32::MAX;
            asking.sheds = false;
        }
    }

    /// Seats that are taken here.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Seats that this node holds.
    #[must_use]
    pub fn held(&self) -> u32 {
        if self.is_alone { self.licensed } else { self.held }
    }

    /// Seats that the license gives.
    #[must_use]
    pub fn licensed(&self) -> u32 {
        self.licensed
    }

    /// Whether a seat is free here.
    #[must_use]
    pub fn has_free(&self) -> bool {
        self.taken < self.held()
    }

    /// What to ask of the store, if it is to be asked at this moment, while `waiting` peers wait for one. Of
    /// two calls the second gives nothing until the first had its [`Self::answered`] or [`Self::unanswered`].
    pub fn ask(&mut self, waiting: u32, now: Instant) -> Option<Wish> {
        if self.is_alone || self.asking.is_some() || !self.is_due(waiting, now) {
            return None;
        }
        let want = self.want(waiting, now);
        self.asking = Some(Asking { sheds: self.must_shed, handed_over: 0, sat: 0 });
        self.asked_at = Some(now);
        self.number += 1;
        // From here on the store may have noted it.
        self.held = self.held.min(want);
        Some(Wish { want, sat: self.sat, exported: self.exported, number: self.number })
    }

    /// The store has answered.
    pub fn answered(&mut self, share: Share, now: Instant) {
        let Some(asking) = self.asking.take() else { return };
        let held = share.held.saturating_add(asking.sat);
        self.held = match asking.handed_over {
            0 => held,
            handed_over => self.held.min(held.saturating_sub(handed_over)),
        };
        self.must_shed &= !asking.sheds;
        if share.wanted_elsewhere > 0 {
            self.scarce_until = Some(now + SCARCE_FOR);
        }
    }

    /// The store has not answered. What is held can be used, no more.
    pub fn unanswered(&mut self) {
        self.asking = None;
    }

    /// The node's lease is over, and with it everything that it held. To be said before anybody sits down under the next.
    pub fn lost(&mut self) {
        *self = Self { taken: self.taken, ..Self::new(self.licensed) };
    }

    fn is_due(&self, waiting: u32, now: Instant) -> bool {
        let Some(asked_at) = self.asked_at else { return true };
        let age = now.saturating_duration_since(asked_at);
        let is_short = waiting > 0 || self.taken >= self.held || self.must_shed;
        let reserve_is_low = (self.held.saturating_sub(self.taken)) * 2 < self.reserve(now);
        age >= ASK_EVERY || (age >= ASK_AGAIN && (is_short || reserve_is_low))
    }

    fn want(&mut self, waiting: u32, now: Instant) -> u32 {
        if self.must_shed {
            return self.taken;
        }
        let reserve = self.reserve(now);
        let need = self.taken.saturating_add(waiting);
        let target = need.saturating_add(reserve);
        if target >= self.held {
            self.surplus_since = None;
            return target;
        }
        let since = *self.surplus_since.get_or_insert(now);
        if reserve > 0 && now.saturating_duration_since(since) < KEEP_SURPLUS {
            return self.held;
        }
        self.surplus_since = None;
        target
    }

    /// What to hold beyond what is taken.
    fn reserve(&self, now: Instant) -> u32 {
        match self.scarce_until {
            Some(until) if now < until => 0,
            _ => (self.licensed / SEATS_PER_RESERVE_SEAT).clamp(1, RESERVE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(held: u32, others: u32, wanted_elsewhere: u32) -> Share {
        Share { held, others, wanted_elsewhere }
    }

    fn want(holder: &mut SeatHolder, waiting: u32, now: Instant) -> Option<u32> {
        holder.ask(waiting, now).map(|wish| wish.want)
    }

    /// A holder of a license of 160 seats, whose reserve is 10, that has asked once and holds `held`.
    fn holder(held: u32, now: Instant) -> SeatHolder {
        let mut holder = SeatHolder::new(160);
        assert_eq!(want(&mut holder, 0, now), Some(10));
        holder.answered(share(held, 0, 0), now);
        holder
    }

    #[test]
    fn a_join_takes_from_the_reserve_without_asking() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        (0..5).for_each(|_| assert!(holder.take()));
        assert_eq!(want(&mut holder, 0, start + ASK_AGAIN), None, "half of the reserve is left");
        assert!(holder.take());
        assert_eq!(want(&mut holder, 0, start + ASK_AGAIN), Some(16));
        assert_eq!(want(&mut holder, 0, start + ASK_EVERY), None, "one question at a time");
    }

    #[test]
    fn without_an_answer_a_node_uses_what_it_holds_and_no_more() {
        let start = Instant::now();
        let mut holder = holder(2, start);
        assert!(holder.take() && holder.take() && !holder.take());
        assert_eq!(want(&mut holder, 1, start + ASK_AGAIN), Some(13));
        holder.unanswered();
        assert!(!holder.take());
        holder.leave(1);
        assert!(holder.take());
    }

    #[test]
    fn what_is_given_back_is_not_used_while_the_answer_is_out() {
        let start = Instant::now();
        let mut holder = holder(50, start);
        let mut now = start;
        let given_back = loop {
            now += ASK_EVERY;
            match want(&mut holder, 0, now).unwrap() {
                50 => holder.answered(share(50, 0, 0), now),
                want => break want,
            }
        };
        assert_eq!(given_back, 10, "people who leave often come back, but not for ever");
        assert!(now >= start + KEEP_SURPLUS);
        holder.unanswered();
        (0..10).for_each(|_| assert!(holder.take()));
        assert!(!holder.take(), "the store may have given the others away");
    }

    #[test]
    fn a_reserve_is_given_back_when_somebody_waits_elsewhere() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        assert!(holder.take());
        assert_eq!(want(&mut holder, 0, start + ASK_EVERY), Some(11));
        holder.answered(share(10, 150, 1), start + ASK_EVERY);
        assert_eq!(want(&mut holder, 0, start + 2 * ASK_EVERY), Some(1));
        holder.answered(share(1, 150, 0), start + 2 * ASK_EVERY);
        assert_eq!(want(&mut holder, 0, start + 2 * SCARCE_FOR), Some(11));
    }

    #[test]
    fn who_waits_is_asked_for_often_and_a_quiet_node_rarely() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        assert_eq!(want(&mut holder, 0, start + ASK_AGAIN), None);
        assert_eq!(want(&mut holder, 0, start + ASK_EVERY), Some(10));
        holder.answered(share(0, 160, 0), start + ASK_EVERY);
        assert_eq!(want(&mut holder, 1, start + ASK_EVERY + ASK_AGAIN / 2), None);
        assert_eq!(want(&mut holder, 1, start + ASK_EVERY + ASK_AGAIN), Some(11));
    }

    #[test]
    fn a_license_that_shrinks_takes_no_seat_from_anybody_and_gives_none() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        (0..4).for_each(|_| assert!(holder.take()));
        holder.set_licensed(3);
        assert!(!holder.take() && !holder.has_free());
        assert_eq!(want(&mut holder, 1, start + ASK_AGAIN), Some(4), "what is not taken goes back first");
        holder.answered(share(4, 0, 0), start + ASK_AGAIN);
        assert_eq!((holder.taken(), holder.take()), (4, false));
    }

    #[test]
    fn peers_that_come_with_their_session_bring_their_seats() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        assert!(holder.take());
        holder.sit(25);
        assert_eq!((holder.taken(), holder.held()), (26, 35), "the reserve is as large as before");
        assert_eq!(holder.ask(0, start + ASK_EVERY), Some(Wish { want: 36, sat: 25, exported: 0, number: 2 }));
    }

    #[test]
    fn peers_that_come_while_a_question_is_out_are_not_in_its_answer() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        assert_eq!(holder.ask(0, start + ASK_EVERY), Some(Wish { want: 10, sat: 0, exported: 0, number: 2 }));
        holder.sit(25);
        holder.answered(share(10, 0, 0), start + ASK_EVERY);
        assert_eq!((holder.taken(), holder.held()), (25, 35));
    }

    #[test]
    fn a_node_that_is_alone_has_all_seats_and_asks_for_none() {
        let mut holder = SeatHolder::alone(2);
        assert!(holder.take() && holder.take() && !holder.take());
        holder.set_licensed(3);
        assert!(holder.take() && !holder.take());
        assert_eq!((holder.held(), want(&mut holder, 1, Instant::now())), (3, None));
    }

    #[test]
    fn a_lease_that_is_over_holds_nothing() {
        let start = Instant::now();
        let mut holder = holder(10, start);
        assert!(holder.take());
        holder.lost();
        assert_eq!((holder.held(), holder.taken(), holder.take()), (0, 1, false));
        assert_eq!(want(&mut holder, 0, start), Some(11), "the next lease asks at once");
    }
}
