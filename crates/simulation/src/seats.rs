//! The seats of the license: each process runs the real `SeatHolder`, and the store's model shares them out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ctedge_license::seats::{ASK_AGAIN, SeatHolder, Share, Wish};
use ctedge_ownership::{LeaseId, SeatShare, SeatWish, StoreFailure};
use ctedge_wire::Key;

use crate::balancer::Request;
use crate::client::Client;
use crate::event::{Event, StoreWay};
use crate::fault::Fault;
use crate::promise::Promise;
use crate::world::World;

/// How long somebody who finds no seat waits for one, as on a node.
pub(crate) const WAITS_FOR: Duration = Duration::from_millis(2_500);
/// How long a seat that is free may remain unfound while nothing is wrong: its holder keeps it for some seconds, and several may
/// want it.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// One process's seats.
#[derive(Debug)]
pub(crate) struct Seats {
    holder: SeatHolder,
    /// Until when somebody waits.
    waits_until: Option<Instant>,
    /// Whether it will look again soon.
    will_look: bool,
    /// Which question is open. Answers to others come too late.
    asked: u64,
}

/// A question for seats on its way.
#[derive(Debug, Clone)]
pub(crate) struct SeatQuestion {
    pub(crate) process: usize,
    /// Which of the process's questions it is: of one lease after the other.
    pub(crate) serial: u64,
    lease: LeaseId,
    wish: Wish,
}

impl Seats {
    pub(crate) fn new(licensed: u32) -> Self {
        Self { holder: SeatHolder::new(licensed), waits_until: None, will_look: false, asked: 0 }
    }
}

impl World {
    /// A peer that joins needs a seat. `false` if it gets none.
    pub(crate) fn take_seat(&mut self, process: usize, key: &Key, client: usize) -> bool {
        let taken = self.processes[process].seats.holder.take();
        if taken && !self.is_astray(process) {
            self.seat(key, client);
        } else if !taken {
            self.seen.seatless += 1;
            self.processes[process].seats.waits_until = Some(self.now + 2 * ASK_AGAIN);
        }
        self.note_fullness();
        self.look_for_seats(process);
        taken
    }

    /// A request has waited for a seat. Its session may be another process's by now, or over; and where the process has ended, so
    /// has the connection on which it waited.
    pub(crate) fn awaits_seat(&mut self, process: usize, request: &Request, until: Instant) {
        let serves = |key: &Key| {
            let node = &self.processes[process];
            let is_here = node.is_open(self.now) && node.rooms.get(key).is_some_and(|live| !live.moving);
            is_here && !self.has_hung_up(node.ownership.lease(), request)
        };
        match request.key().cloned().filter(serves) {
            Some(key) => self.attach(process, &key, request, until),
            None => self.soon(Event::Refused { client: request.client, attempt: request.attempt, missing: false }),
        }
    }

    /// Whether nobody is in the session because there was no seat for its host.
    pub(crate) fn lacked_seats(&self, key: &Key) -> bool {
        let host = self.room_of(key).map(|room| self.rooms[room].host);
        let is_seatless = host.is_some_and(|host| self.clients[host].seatless_at.is_some());
        is_seatless && self.seated.get(key).is_none_or(BTreeSet::is_empty)
    }

    /// Somebody sits: with a seat that was free, or with one that was kept.
    pub(crate) fn seat(&mut self, key: &Key, client: usize) {
        self.seated.entry(key.clone()).or_default().insert(client);
        let (sitting, licensed) = (self.sitting(), self.licensed as usize);
        self.check(Promise::SeatsAreNotOversold, sitting <= licensed, || {
            format!("{sitting} sit on {licensed} seats, {client} the last of them")
        });
    }

    /// A peer was refused for want of a seat.
    pub(crate) fn check_seatless(&mut self, client: usize) {
        let Client { away_since, refused_at, .. } = self.clients[client];
        let since = away_since.unwrap_or(self.now).max(refused_at.unwrap_or(self.start));
        let since = since.max(self.calm_since).max(self.full_at);
        let waited = self.now - since;
        let finds = waited <= FOUND_WITHIN || self.is_troubled();
        self.check(Promise::SeatsAreNotOversold, finds, || {
            format!("client {client} finds no seat for {waited:?}, and some are free")
        });
    }

    /// Peers are gone. Their seats are free on this process when that is written.
    pub(crate) fn leave_seats(&mut self, process: usize, key: &Key, clients: &[usize]) {
        self.note_fullness();
        if let Some(seated) = self.seated.get_mut(key) {
            seated.retain(|client| !clients.contains(client));
        }
        self.look_for_seats(process);
    }

    /// It is written that a peer is gone.
    pub(crate) fn free_seat(&mut self, process: usize) {
        self.note_fullness();
        self.processes[process].seats.holder.leave(1);
        self.look_for_seats(process);
    }

    /// Peers have come with their session. Who had left just before a crash may be among them, and sits for nobody.
    pub(crate) fn bring_seats(&mut self, process: usize, key: &Key, clients: impl Iterator<Item = usize>) {
        self.note_fullness();
        let clients: BTreeSet<usize> = clients.collect();
        self.processes[process].seats.holder.sit(clients.len() as u32);
        if let Some(seated) = self.seated.get_mut(key) {
            seated.retain(|client| clients.contains(client));
        }
        self.look_for_seats(process);
    }

    /// Peers are another process's from here on.
    pub(crate) fn hand_seats_over(&mut self, process: usize, peers: usize) {
        self.processes[process].seats.holder.hand_over(peers as u32);
        self.look_for_seats(process);
    }

    /// Those who sit.
    fn sitting(&self) -> usize {
        self.seated.values().map(BTreeSet::len).sum()
    }

    /// Whether all seats are taken or kept. The store keeps those of peers of whom it has not heard that they left.
    pub(crate) fn is_full(&self) -> bool {
        let kept = |key: &Key| self.store.legacy(key).map_or(0, |legacy| legacy.peers.len());
        let keys: BTreeSet<&Key> = self.seated.keys().chain(self.store.keys()).collect();
        let sits = |key: &Key| self.seated.get(key).map_or(0, BTreeSet::len);
        keys.into_iter().map(|key| sits(key).max(kept(key))).sum::<usize>() >= self.licensed as usize
    }

    fn note_fullness(&mut self) {
        if self.is_full() {
            self.full_at = self.now;
        }
    }

    /// The lease is over: who is not written down has no seat any more.
    pub(crate) fn unseat_unwritten(&mut self, lease: &LeaseId) {
        self.note_fullness();
        for (key, seated) in &mut self.seated {
            if self.store.record(key).is_some_and(|record| record.owner == *lease) {
                let legacy = self.store.legacy(key);
                let is_written = |client: &usize| {
                    legacy.is_some_and(|legacy| legacy.peers.iter().any(|peer| peer.clock == *client as u64))
                };
                seated.retain(is_written);
            }
        }
    }

    fn look_for_seats(&mut self, process: usize) {
        if !std::mem::replace(&mut self.processes[process].seats.will_look, true) {
            self.after(ASK_AGAIN, Event::Seats { process });
        }
    }

    /// Asks the store for seats, if it is time.
    pub(crate) fn ask_for_seats(&mut self, process: usize) {
        let now = self.now;
        let node = &mut self.processes[process];
        let seats = &mut node.seats;
        seats.will_look = false;
        let waiting = u32::from(seats.waits_until.is_some_and(|until| now < until));
        let Some(wish) = seats.holder.ask(waiting, now) else {
            return;
        };
        seats.asked += 1;
        let (serial, lease) = (seats.asked, node.ownership.lease().clone());
        self.send_seats(SeatQuestion { process, serial, lease, wish });
    }

    /// The lease is over, and everything is let go.
    pub(crate) fn lose_seats(&mut self, process: usize) {
        self.holds_nothing(process);
        // What the next lease is told is the answer to a question of its own.
        self.processes[process].seats.asked += 1;
        self.look_for_seats(process);
    }

    /// What is yet to be written under the lease frees no seat of the next one.
    fn holds_nothing(&mut self, process: usize) {
        let node = &mut self.processes[process];
        for left in &mut node.journal {
            node.seats.holder.leave(u32::from(std::mem::take(&mut left.holds_seat)));
        }
        node.seats.holder.lost();
    }

    pub(crate) fn seats_arrive(&mut self, question: SeatQuestion, way: StoreWay) {
        if !self.may_write(question.process) {
            if way == StoreWay::Good {
                self.fail_seats(question);
            }
            return;
        }
        let SeatQuestion { process, serial, ref lease, wish } = question;
        let Wish { want, sat, exported, number } = wish;
        let wish = SeatWish { want: want.into(), sat, exported, number };
        let share = self.store.hold_seats(lease, wish, self.licensed.into());
        if way == StoreWay::Good {
            self.soon(Event::SeatsAnswer { process, serial, answer: Ok(share) });
        }
    }

    pub(crate) fn seats_answer(
        &mut self,
        process: usize,
        serial: u64,
        answer: Result<Option<SeatShare>, StoreFailure>,
    ) {
        let (now, oversells) = (self.now, self.breaks(Fault::OversellsSeats));
        let seats = &mut self.processes[process].seats;
        if seats.asked != serial {
            return;
        }
        match answer {
            Ok(Some(SeatShare { held, others, wanted_elsewhere })) => {
                let held = if oversells { held + 1 } else { held };
                let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                let (held, others, wanted_elsewhere) = (number(held), number(others), number(wanted_elsewhere));
                seats.holder.answered(Share { held, others, wanted_elsewhere }, now);
            }
            Ok(None) => self.holds_nothing(process),
            Err(_) => seats.holder.unanswered(),
        }
        if self.processes[process].seats.waits_until.is_some_and(|until| now < until) {
            self.look_for_seats(process);
        }
    }
}
