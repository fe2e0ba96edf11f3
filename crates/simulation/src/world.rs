//! The world: everything that is there, and the order in which things happen.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_ownership::{Drain, Epoch, HandoffReason, LeaseId, NodeId, OwnershipSettings, StoreFailure, StoreModel};
use ctedge_wire::Key;

use crate::agree::{Birth, Heard};
use crate::balancer::Balancer;
use crate::client::{Client, Connection};
use crate::disturb::Disturbance;
use crate::event::{Event, Scheduled};
use crate::fault::Fault;
use crate::process::Process;
use crate::profile::Profile;
use crate::promise::{Accepted, Change, Promise, Violation};
use crate::random::Random;
use crate::seen::Seen;
use crate::session::Live;
use crate::store::StoreRoom;

/// Many times what a run takes.
const STEPS_MAX: u64 = 300_000;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(crate) profile: Profile,
    pub(crate) settings: OwnershipSettings,
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    tell: Option<fn(f64, &dyn fmt::Debug)>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) processes: Vec<Process>,
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) clients: Vec<Client>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) open_connections: BTreeSet<usize>,
    pub(crate) store: StoreModel,
    pub(crate) store_is_up: bool,
    pub(crate) store_room: StoreRoom,
    /// How it says that it has none.
    pub(crate) refusal: StoreFailure,
    /// How many commands of a hundred have no outcome.
    pub(crate) store_loss: usize,
    /// How many packets of a hundred are lost between balancers and nodes, and among nodes.
    pub(crate) net_loss: usize,
    pub(crate) has_supervisor: bool,
    pub(crate) disturbance: Disturbance,
    /// Nobody sends any more.
    pub(crate) quiet: bool,
    pub(crate) mended: Option<Instant>,
    pub(crate) tickets: u64,
    pub(crate) probes: u64,
    pub(crate) streams: u64,
    estates: Vec<Option<Live>>,
    pub(crate) last_epoch: BTreeMap<Key, Epoch>,
    pub(crate) served: BTreeMap<Key, (Epoch, usize)>,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) violation: Option<Violation>,
    pub(crate) fault: Option<Fault>,
    /// When the last thing went wrong, or was mended.
    pub(crate) calm_since: Instant,
    /// What the license gives.
    pub(crate) licensed: u32,
    /// Who sits where.
    pub(crate) seated: BTreeMap<Key, BTreeSet<usize>>,
    /// When all seats were taken last.
    pub(crate) full_at: Instant,
    /// What each balancer must know.
    pub(crate) heard: Vec<Heard>,
    /// What was seen.
    pub seen: Seen,
}

/// A node's place: its processes come and go.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) address: SocketAddr,
    pub(crate) listed: bool,
    /// Nothing will ever be started there again.
    pub(crate) gone: bool,
    pub(crate) process: Option<usize>,
}

/// What people call a session: who meets there.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) key: Option<Key>,
    pub(crate) host: usize,
    /// Whose peers the session has for certain: what happens to its owner, they are there.
    pub(crate) members: BTreeSet<usize>,
    /// Who has left it for certain.
    pub(crate) gone: BTreeSet<usize>,
    /// Who was in it when it was last exported.
    pub(crate) exported: Vec<usize>,
    pub(crate) change: Change,
    /// Whether it was taken from an owner that gave no sign of life, and is yet to begin where it went.
    pub(crate) orphaned: bool,
    pub(crate) birth: Option<Birth>,
    /// The host has ended it.
    pub(crate) over: bool,
    /// When something was last lost that is not kept anywhere: messages accepted before may be gone.
    pub(crate) lossy: Option<Instant>,
}

impl World {
    /// A small cluster that has just been started, at a `start` that the run does not depend on. `tell` hears of each event
    /// with the seconds since then.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, start: Instant, tell: Option<fn(f64, &dyn fmt::Debug)>) -> Self {
        Self::with(seed, profile, start, tell, None)
    }

    /// The same, with something that it does wrong.
    #[must_use]
    pub fn broken(seed: u64, profile: Profile, start: Instant, fault: Fault) -> Self {
        Self::with(seed, profile, start, None, Some(fault))
    }

    fn with(
        seed: u64,
        profile: Profile,
        start: Instant,
        tell: Option<fn(f64, &dyn fmt::Debug)>,
        fault: Option<Fault>,
    ) -> Self {
        let mut random = Random::new(seed);
        let settings =
            OwnershipSettings { asks_max: 6, moving_max: 2, handoffs_per_second: 5, ..OwnershipSettings::default() };
        let (has_supervisor, store_loss) = (random.chance(50), [0, 0, 1, 4][random.below(4)]);
        let net_loss = if profile == Profile::Operated { 0 } else { [0, 0, 1, 3][random.below(4)] };
        let licensed = if random.chance(30) { 4 + random.below(8) as u32 } else { 100 };
        let mut world = Self {
            profile,
            settings,
            random,
            now: start,
            start,
            queue: BinaryHeap::new(),
            scheduled: 0,
            tell,
            slots: Vec::new(),
            processes: Vec::new(),
            balancers: Vec::new(),
            rooms: Vec::new(),
            clients: Vec::new(),
            connections: Vec::new(),
            open_connections: BTreeSet::new(),
            store: StoreModel::default(),
            store_is_up: true,
            store_room: StoreRoom::Ample,
            refusal: StoreFailure::Full,
            store_loss,
            net_loss,
            has_supervisor,
            disturbance: Disturbance::default(),
            quiet: false,
            mended: None,
            tickets: 0,
            probes: 0,
            streams: 0,
            estates: Vec::new(),
            last_epoch: BTreeMap::new(),
            served: BTreeMap::new(),
            accepted: Vec::new(),
            violation: None,
            fault,
            calm_since: start,
            licensed,
            seated: BTreeMap::new(),
            full_at: start,
            heard: Vec::new(),
            seen: Seen::default(),
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            self.add_slot();
        }
        for balancer in 0..1 + self.random.below(3) {
            self.add_balancer(balancer);
        }
        for _ in 0..1 + self.random.below(5) {
            self.add_room();
        }
        self.after(Duration::from_secs(3), Event::Disturb);
        let end = self.profile.end(&mut self.random);
        self.after(end, Event::Mend);
    }

    /// Runs to the end. `Err` says which promise was broken.
    ///
    /// # Errors
    ///
    /// The first violation, with its time.
    pub fn run(&mut self) -> Result<(), Violation> {
        while let Some(Scheduled { at, event, .. }) = self.queue.pop() {
            self.now = at;
            self.seen.steps += 1;
            let rests = self.seen.steps <= STEPS_MAX;
            self.check(Promise::EverythingIsBounded, rests, || format!("the world does not rest: {event:?}"));
            let is_over = matches!(event, Event::Settled) && self.settled();
            if !matches!(event, Event::Settled) {
                self.deliver(event);
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if is_over {
                break;
            }
        }
        Ok(())
    }

    /// Gives an event to whom it is for. Who is stopped gets it later; who is gone, never: clients only notice that.
    fn deliver(&mut self, event: Event) {
        if let Some(process) = self.recipient(&event) {
            if self.processes[process].frozen {
                self.processes[process].inbox.push(event);
                return;
            }
            let is_of_client = matches!(event, Event::AtProcess { .. } | Event::AwaitsSeat { .. });
            if !self.processes[process].alive && !is_of_client {
                return;
            }
        }
        if let Some(tell) = self.tell {
            tell((self.now - self.start).as_secs_f64(), &event);
        }
        match event {
            Event::StoreArrives { process, id, command, answer } => self.store_arrives(process, id, &command, answer),
            Event::StoreAnswers { process, id, answer } => self.store_answers(process, id, answer),
            Event::Seats { process } => self.ask_for_seats(process),
            Event::SeatsArrive { question, answer } => self.seats_arrive(question, answer),
            Event::SeatsAnswer { process, serial, answer } => self.seats_answer(process, serial, answer),
            Event::AwaitsSeat { process, request, until } => self.awaits_seat(process, &request, until),
            Event::NoSeat { client, attempt } => self.no_seat(client, attempt),
            Event::SupervisorEnds(lease) => self.supervisor_ends(lease),
            Event::ProbeArrives { from, probe, lease, target } => self.probe_arrives(from, probe, &lease, target),
            Event::ProbeEnds { process, probe, alive } => self.probe_ends(process, probe, alive),
            Event::Unheard { process } => self.unheard(process),
            Event::Timer { process, at } => self.timer(process, at),
            Event::Tick { process } => self.tick(process),
            Event::Journal { process } => self.write_journal(process),
            Event::MoveTimeout { process, room } => self.move_timeout(process, room),
            Event::StopTimeout { process } => self.stop_timeout(process),
            Event::AtBalancer(request) => self.at_balancer(request),
            Event::AtProcess { process, request } => self.at_process(process, request),
            Event::Answered { request, reply } => self.answered(request, reply),
            Event::Refused { client, attempt, missing } => self.refused(client, attempt, missing),
            Event::Try { client, attempt } => self.try_connect(client, attempt),
            Event::TryTimeout { client, attempt } => self.try_timeout(client, attempt),
            Event::Send { client } => self.send(client),
            Event::ToNode { connection, frame } => self.at_node(connection, frame),
            Event::ToClient { connection, frame } => self.at_client(connection, frame),
            Event::Checks { balancer, generation } => self.checks(balancer, generation),
            Event::Listed { balancer } => self.listed(balancer),
            Event::Thaw { process } => self.thaw(process),
            Event::Rejoined { process } => self.rejoined(process),
            Event::StoreMended { process } => self.store_mended(process),
            Event::Hears { process } => self.hears(process),
            Event::RoomMade => self.room_made(),
            Event::Start { slot } => self.start_process(slot),
            Event::Resume { process } => self.resume(process),
            Event::Drain { process, drain } => self.drain(process, drain),
            Event::Disturb => self.disturb(),
            Event::Mend => self.mend(),
            Event::Settled => {}
        }
    }

    fn recipient(&self, event: &Event) -> Option<usize> {
        match event {
            Event::StoreAnswers { process, .. }
            | Event::Seats { process }
            | Event::AwaitsSeat { process, .. }
            | Event::SeatsAnswer { process, .. }
            | Event::ProbeEnds { process, .. }
            | Event::Unheard { process }
            | Event::Timer { process, .. }
            | Event::Tick { process }
            | Event::Journal { process }
            | Event::MoveTimeout { process, .. }
            | Event::Resume { process }
            | Event::Drain { process, .. }
            | Event::AtProcess { process, .. } => Some(*process),
            Event::ProbeArrives { target, .. } => Some(*target),
            Event::ToNode { connection, .. } => Some(self.connections[*connection].process),
            _ => None,
        }
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at: at.max(self.now), serial: self.scheduled, event });
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Over the network.
    pub(crate) fn soon(&mut self, event: Event) {
        let delay = self.network_delay();
        self.after(delay, event);
    }

    /// Mostly short, sometimes not: things overtake each other.
    pub(crate) fn network_delay(&mut self) -> Duration {
        if self.random.chance(3) { self.random.millis(20, 300) } else { self.random.millis(0, 8) }
    }

    /// Whether a packet between balancers and nodes, or among nodes, is lost.
    pub(crate) fn loses(&mut self) -> bool {
        let is_lost = self.net_loss > 0 && self.random.below(100) < self.net_loss;
        if is_lost {
            self.seen.packets_lost += 1;
            self.disturbed();
        }
        is_lost
    }

    pub(crate) fn network_floor(&self) -> Duration {
        Duration::from_millis(1)
    }

    pub(crate) fn add_slot(&mut self) {
        let index = self.slots.len();
        let address = SocketAddr::from(([127, 0, 0, 1], 3_000 + index as u16));
        self.slots.push(Slot { address, listed: true, gone: false, process: None });
        self.start_process(index);
        self.relist();
    }

    /// The list of nodes has changed; balancers hear of it sooner or later.
    pub(crate) fn relist(&mut self) {
        for balancer in 0..self.balancers.len() {
            let delay = self.random.millis(0, 6_000);
            self.after(delay, Event::Listed { balancer });
        }
        if self.breaks(Fault::FollowsTheList)
            && let Some(process) = self.processes.iter().rposition(|process| process.alive)
        {
            let drain = Drain { deadline: Some(Duration::ZERO), exit: false, reason: HandoffReason::DrainNow };
            self.processes[process].ownership.drain(drain, self.now);
            self.carry_out(process);
            self.after(Duration::from_secs(2), Event::Resume { process });
        }
    }

    pub(crate) fn add_balancer(&mut self, index: usize) {
        let generation = self.balancers.get(index).map_or(0, |balancer| balancer.generation + 1);
        let balancer = Balancer::new(self.random.next(), generation, self.fault);
        if index < self.balancers.len() {
            self.balancers[index] = balancer;
        } else {
            self.balancers.push(balancer);
        }
        self.listed(index);
        self.checks(index, generation);
    }

    pub(crate) fn add_room(&mut self) {
        let room = self.rooms.len();
        let host = self.clients.len();
        self.rooms.push(Room {
            key: None,
            host,
            members: BTreeSet::new(),
            gone: BTreeSet::new(),
            exported: Vec::new(),
            change: Change::Begun,
            orphaned: false,
            birth: None,
            over: false,
            lossy: None,
        });
        for _ in 0..2 + self.random.below(3) {
            self.add_client(room);
        }
    }

    pub(crate) fn add_client(&mut self, room: usize) {
        let client = self.clients.len();
        self.clients.push(Client::new(room));
        let (first, sends) = (self.random.millis(0, 2_000), self.random.millis(0, 2_000));
        self.after(first, Event::Try { client, attempt: 0 });
        self.after(sends, Event::Send { client });
    }

    pub(crate) fn start_process(&mut self, slot: usize) {
        if self.slots[slot].gone || self.slots[slot].process.is_some_and(|process| self.processes[process].alive) {
            return;
        }
        let lease = LeaseId::new(NodeId::new(&format!("node-{slot}")), self.random.next());
        let address = self.slots[slot].address;
        let process = self.processes.len();
        self.processes.push(Process::new(
            slot,
            address,
            lease,
            self.settings_of_node(),
            self.licensed,
            self.fault,
            self.now,
        ));
        self.slots[slot].process = Some(process);
        self.exchanged(process);
        self.carry_out(process);
        self.after(Duration::from_secs(1), Event::Tick { process });
    }

    /// The process that listens at the address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<usize> {
        let slot = self.slots.iter().find(|slot| slot.address == address)?;
        slot.process.filter(|process| self.processes[*process].alive)
    }

    pub(crate) fn process_of(&self, lease: &LeaseId) -> Option<usize> {
        self.processes.iter().position(|process| process.leases.contains(lease))
    }

    pub(crate) fn room_of(&self, key: &Key) -> Option<usize> {
        self.rooms.iter().position(|room| room.key.as_ref() == Some(key))
    }

    /// Keeps a session that is handed off, and returns what stands for it.
    pub(crate) fn keep_estate(&mut self, live: Live) -> bytes::Bytes {
        self.estates.push(Some(live));
        bytes::Bytes::copy_from_slice(&(self.estates.len() - 1).to_le_bytes())
    }

    /// Promise 3: what is handed off goes on exactly once.
    pub(crate) fn use_estate(&mut self, bytes: &[u8]) -> Live {
        let index = bytes.try_into().map_or(usize::MAX, usize::from_le_bytes);
        let live = self.estates.get_mut(index).and_then(Option::take);
        self.check(Promise::OrdersEndNothing, live.is_some(), || format!("estate {index} is used twice"));
        live.unwrap_or_else(|| Live::empty(self.now))
    }
}
