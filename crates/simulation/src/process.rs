//! A node process: the real `Ownership`, driven as the node drives it, and as much of a session as the promises need.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::{
    Action, Ask, CommandId, Drain, Epoch, Estate, Event as Counted, Lease, LeaseId, LetGo, Origin, Ownership,
    OwnershipSettings, Ranking, StoredPeer, Ticket, Verdict,
};
use ctedge_placement::Rendezvous;
use ctedge_wire::Key;

use crate::balancer::{PLACEMENT_SEED, Reply, Request};
use crate::event::{Event, Frame};
use crate::world::World;

/// How long a peer may be away.
const GRACE: Duration = Duration::from_secs(30);
/// How long a session that moves waits for its peers to close.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node that was told to stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// A node process, from its start to its end.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) slot: usize,
    pub(crate) address: SocketAddr,
    pub(crate) ownership: Ownership,
    pub(crate) rooms: BTreeMap<Key, Live>,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    /// When it last went on after having been stopped.
    pub(crate) thawed: Option<Instant>,
    pub(crate) has_store: bool,
    /// Whether it was ever told to give its sessions away.
    pub(crate) gives: bool,
    /// When it is killed if it has not ended by then.
    pub(crate) stops: Option<Instant>,
    /// What came while the process was stopped.
    pub(crate) inbox: Vec<Event>,
    /// All leases that it ever had.
    pub(crate) leases: Vec<LeaseId>,
    timer: Option<Instant>,
    asking: BTreeMap<Ticket, Box<Request>>,
    probes: BTreeMap<u64, LeaseId>,
    /// Frames that came while the fence was closed.
    held: VecDeque<(usize, Frame)>,
    journal: VecDeque<Joined>,
}

/// A journal entry.
#[derive(Debug, Clone)]
struct Joined {
    key: Key,
    epoch: Epoch,
    by: LeaseId,
    client: usize,
}

/// A session in memory.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) epoch: Epoch,
    pub(crate) room: Option<usize>,
    since: Instant,
    /// Which sequence of deliveries this is. An estate continues it; a takeover begins another.
    stream: u64,
    pub(crate) peers: BTreeMap<usize, Peer>,
    pub(crate) moving: bool,
}

/// A peer of a session.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// All that was ever sent to it in this stream: sender and number.
    log: Vec<(usize, u64)>,
    pub(crate) connection: Option<usize>,
    away_since: Instant,
}

/// Ranks as the balancers do.
#[derive(Debug)]
struct Placement;

impl Ranking for Placement {
    fn best(&mut self, key: &Key, ready: &[&Lease]) -> usize {
        let nodes: Vec<_> = ready.iter().map(|lease| (lease.address.to_string(), 1)).collect();
        Rendezvous::new(PLACEMENT_SEED, &nodes).rank(key.as_str().as_bytes()).next().unwrap_or(0)
    }
}

impl Live {
    pub(crate) fn empty(now: Instant) -> Self {
        Self { epoch: Epoch(0), room: None, since: now, stream: 0, peers: BTreeMap::new(), moving: false }
    }
}

impl Process {
    pub(crate) fn new(
        slot: usize,
        address: SocketAddr,
        lease: LeaseId,
        settings: OwnershipSettings,
        now: Instant,
    ) -> Self {
        let ownership = Ownership::new(settings, lease.clone(), address, 1, Box::new(Placement), now);
        Self {
            slot,
            address,
            ownership,
            rooms: BTreeMap::new(),
            alive: true,
            frozen: false,
            thawed: None,
            has_store: true,
            gives: false,
            stops: None,
            inbox: Vec::new(),
            leases: vec![lease],
            timer: None,
            asking: BTreeMap::new(),
            probes: BTreeMap::new(),
            held: VecDeque::new(),
            journal: VecDeque::new(),
        }
    }

    fn is_open(&self, now: Instant) -> bool {
        self.ownership.fence().is_open(now)
    }
}

impl World {
    /// Carries out what the process's ownership decided, and sets its timer.
    pub(crate) fn carry_out(&mut self, process: usize) {
        while let Some(action) = self.processes[process].ownership.next_action() {
            self.act(process, action);
        }
        if self.processes[process].is_open(self.now) {
            for (connection, frame) in std::mem::take(&mut self.processes[process].held) {
                self.at_node(connection, frame);
            }
        }
        let (asks_max, moving_max) = (self.settings.asks_max, self.settings.moving_max);
        let ownership = &self.processes[process].ownership;
        let waiting = ownership.waiting();
        let moving = ownership.drain_progress(self.now).map_or(0, |progress| progress.moving);
        self.check(waiting <= asks_max, || format!("{waiting} requests wait"));
        self.check(moving <= moving_max, || format!("{moving} sessions move"));
        let due = self.processes[process].ownership.poll_timeout();
        if let Some(at) = due.filter(|at| self.processes[process].timer.is_none_or(|timer| *at < timer)) {
            self.processes[process].timer = Some(at);
            self.at(at, Event::Timer { process, at });
        }
    }

    pub(crate) fn timer(&mut self, process: usize, at: Instant) {
        if self.processes[process].timer == Some(at) {
            self.processes[process].timer = None;
        }
        self.processes[process].ownership.timeout(self.now);
        self.carry_out(process);
    }

    fn act(&mut self, process: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Store(id, command) => self.send_to_store(process, id, command),
            Action::Probe(lease, address) => self.probe(process, lease, address),
            Action::Answer(ticket, verdict) => self.answer(process, ticket, verdict),
            Action::Begin { key, epoch, origin } => self.begin(process, key, epoch, origin),
            Action::StartMoving { key, .. } => self.start_moving(process, &key),
            Action::LetGo { which, .. } => self.let_go(process, which),
            Action::RegisterAnew => {
                let incarnation = self.random.next();
                let node = &mut self.processes[process];
                node.ownership.registers_anew(incarnation, now);
                node.leases.push(node.ownership.lease().clone());
            }
            // What was held is let go on after all actions are done.
            Action::Fence(_) => {}
            Action::Reaped(keys) => self.seen.reaped += keys.len() as u64,
            Action::DrainFinished { exit } => {
                if exit {
                    self.exit(process);
                }
            }
            Action::Count(event) => self.count(event),
        }
    }

    fn count(&mut self, event: Counted) {
        let seen = &mut self.seen;
        match event {
            Counted::TakenOver => seen.takeovers += 1,
            Counted::EstateTakenOver => seen.estates_taken_over += 1,
            Counted::EstateAdopted => seen.estates_adopted += 1,
            Counted::HandedOff => seen.handoffs += 1,
            Counted::Parked => seen.parked += 1,
            Counted::Fenced => seen.fenced += 1,
            Counted::EndedSilentLease => seen.ended_silent += 1,
            Counted::CutOff => seen.cut_off += 1,
            Counted::LeaseLost => seen.leases_lost += 1,
            _ => {}
        }
    }

    fn probe(&mut self, from: usize, lease: LeaseId, address: SocketAddr) {
        self.probes += 1;
        let probe = self.probes;
        self.processes[from].probes.insert(probe, lease.clone());
        let timeout = self.settings.probe_timeout;
        self.after(timeout, Event::ProbeEnds { process: from, probe, alive: false });
        match self.listener(address) {
            Some(target) => self.soon(Event::ProbeArrives { from, probe, lease, target }),
            None => self.soon(Event::ProbeEnds { process: from, probe, alive: false }),
        }
    }

    pub(crate) fn probe_arrives(&mut self, from: usize, probe: u64, lease: &LeaseId, target: usize) {
        let alive = *self.processes[target].ownership.lease() == *lease;
        self.soon(Event::ProbeEnds { process: from, probe, alive });
    }

    pub(crate) fn probe_ends(&mut self, process: usize, probe: u64, alive: bool) {
        if let Some(lease) = self.processes[process].probes.remove(&probe) {
            self.processes[process].ownership.probe_answered(&lease, alive, self.now);
            self.carry_out(process);
        }
    }

    /// A request has come.
    pub(crate) fn at_process(&mut self, process: usize, request: Box<Request>) {
        if !self.processes[process].alive {
            self.soon(Event::Answered { request, reply: Reply::ConnectRefused });
            return;
        }
        let Some(key) = request.key.clone() else {
            return;
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let ask = Ask { ticket, key, wants: request.wants, unreachable: request.unreachable.clone() };
        self.processes[process].asking.insert(ticket, request);
        self.processes[process].ownership.asked(ask, self.now);
        self.carry_out(process);
    }

    fn answer(&mut self, process: usize, ticket: Ticket, verdict: Verdict) {
        let Some(request) = self.processes[process].asking.remove(&ticket) else {
            self.check(false, || format!("{ticket:?} is answered twice"));
            return;
        };
        if let (Verdict::Serve { epoch }, Some(key)) = (&verdict, &request.key) {
            self.check_serving(process, key, *epoch);
            self.attach(process, key, &request);
        }
        self.soon(Event::Answered { request, reply: Reply::Verdict(verdict) });
    }

    /// Makes the connection that the request is for.
    fn attach(&mut self, process: usize, key: &Key, request: &Request) {
        let now = self.now;
        let (client, attempt) = (request.client, request.attempt);
        if !self.clients[client].waits_for(attempt) {
            return;
        }
        let connection = self.connect(client, request.balancer, process, key);
        self.clients_room(client, key);
        let room = self.clients[client].room;
        let Some(live) = self.processes[process].rooms.get_mut(key) else {
            self.check(false, || format!("{key} is to be served where it is not"));
            return;
        };
        live.room = Some(room);
        let stream = live.stream;
        let joins = !live.peers.contains_key(&client);
        let epoch = live.epoch;
        let peer = live.peers.entry(client).or_insert(Peer { log: Vec::new(), connection: None, away_since: now });
        let replaced = peer.connection.replace(connection);
        let from = if request.stream == stream { request.received } else { 0 };
        let rest: Vec<_> = (from..).zip(peer.log[from as usize..].iter().copied()).collect();
        if let Some(replaced) = replaced {
            self.close_from_node(replaced);
        }
        self.down(connection, Frame::Welcome { attempt, stream });
        for (offset, (sender, number)) in rest {
            self.down(connection, Frame::Data { offset, sender, number });
        }
        if joins {
            let by = self.processes[process].ownership.lease().clone();
            let entry = Joined { key: key.clone(), epoch, by, client };
            self.processes[process].journal.push_back(entry);
            self.after(Duration::from_millis(20), Event::Journal { process });
        }
    }

    /// The node owns the key: there is a session from here on.
    fn begin(&mut self, process: usize, key: Key, epoch: Epoch, origin: Origin) {
        let now = self.now;
        self.streams += 1;
        let stream = self.streams;
        let peer = || Peer { log: Vec::new(), connection: None, away_since: now };
        let live = match origin {
            Origin::Created => {
                self.check_lost(&key, "created anew");
                Live { epoch, room: None, since: now, stream, peers: BTreeMap::new(), moving: false }
            }
            Origin::Takeover(legacy) => {
                self.check_lost(&key, "taken over without its estate");
                let peers = legacy.peers.iter().map(|stored| (stored.clock as usize, peer())).collect();
                Live { epoch, room: self.room_of(&key), since: now, stream, peers, moving: false }
            }
            Origin::Estate(estate) => {
                let mut live = self.use_estate(&estate.bytes);
                (live.epoch, live.moving) = (epoch, false);
                for peer in live.peers.values_mut() {
                    peer.away_since = now;
                }
                live
            }
        };
        let is_new = self.processes[process].rooms.insert(key.clone(), live).is_none();
        self.check(is_new, || format!("{key} begins where it is already"));
    }

    /// A frame has come to the node's end of a connection.
    pub(crate) fn at_node(&mut self, connection: usize, frame: Frame) {
        let process = self.connections[connection].process;
        if !self.processes[process].alive {
            return;
        }
        if !self.processes[process].is_open(self.now) {
            self.processes[process].held.push_back((connection, frame));
            return;
        }
        match frame {
            Frame::Message { number } => self.relay(connection, number),
            Frame::Leave => self.leave(connection),
            Frame::Close => self.closed_by_client(connection),
            Frame::Welcome { .. } | Frame::Data { .. } | Frame::Over => {}
        }
    }

    fn relay(&mut self, connection: usize, number: u64) {
        let now = self.now;
        let end = &self.connections[connection];
        let (sender, key, process) = (end.client, end.key.clone(), end.process);
        if !end.node_open {
            self.lose_message(connection);
            return;
        }
        let Some(live) = self.processes[process].rooms.get_mut(&key) else {
            self.lose_message(connection);
            return;
        };
        let (epoch, mut out, mut to) = (live.epoch, Vec::new(), Vec::new());
        for (client, peer) in live.peers.iter_mut().filter(|(client, _)| **client != sender) {
            let offset = peer.log.len() as u64;
            peer.log.push((sender, number));
            to.push(*client);
            out.extend(peer.connection.map(|connection| (connection, Frame::Data { offset, sender, number })));
        }
        self.check_serving(process, &key, epoch);
        self.connections[connection].accepted += 1;
        self.accept(&key, sender, number, to, now);
        for (connection, frame) in out {
            self.down(connection, frame);
        }
    }

    /// The host ends its session.
    fn leave(&mut self, connection: usize) {
        let (process, key) = (self.connections[connection].process, self.connections[connection].key.clone());
        if self.connections[connection].node_open {
            self.end_session(process, &key);
        }
    }

    fn end_session(&mut self, process: usize, key: &Key) {
        let Some(live) = self.processes[process].rooms.remove(key) else {
            return;
        };
        for connection in live.peers.values().filter_map(|peer| peer.connection) {
            self.down(connection, Frame::Over);
            (self.connections[connection].node_open, self.connections[connection].let_go) = (false, true);
        }
        self.processes[process].ownership.session_ended(key, live.epoch, self.now);
        self.carry_out(process);
    }

    fn closed_by_client(&mut self, connection: usize) {
        let now = self.now;
        let end = &mut self.connections[connection];
        end.node_open = false;
        let (client, process, key) = (end.client, end.process, end.key.clone());
        let lost = end.sent - end.accepted;
        let is_polite = !end.cut && !end.let_go;
        self.check(!is_polite || lost == 0, || format!("{lost} messages of client {client} were not read"));
        self.open_connections.remove(&connection);
        let Some(live) = self.processes[process].rooms.get_mut(&key) else {
            return;
        };
        if let Some(peer) = live.peers.get_mut(&client).filter(|peer| peer.connection == Some(connection)) {
            (peer.connection, peer.away_since) = (None, now);
        }
        if live.moving && live.peers.values().all(|peer| peer.connection.is_none()) {
            self.export(process, &key);
        }
    }

    fn start_moving(&mut self, process: usize, key: &Key) {
        let Some(live) = self.processes[process].rooms.get_mut(key) else {
            self.check(false, || format!("{key} is to move and is not there"));
            return;
        };
        live.moving = true;
        let (room, open): (_, Vec<_>) = (live.room, live.peers.values().filter_map(|peer| peer.connection).collect());
        for connection in &open {
            self.down(*connection, Frame::Close);
        }
        if open.is_empty() {
            self.export(process, key);
        } else if let Some(room) = room {
            self.after(MOVE_TIMEOUT, Event::MoveTimeout { process, room });
        }
    }

    pub(crate) fn move_timeout(&mut self, process: usize, room: usize) {
        let Some(key) = self.rooms[room].key.clone() else {
            return;
        };
        let Some(live) = self.processes[process].rooms.get(&key).filter(|live| live.moving) else {
            return;
        };
        for connection in live.peers.values().filter_map(|peer| peer.connection).collect::<Vec<_>>() {
            self.cut(connection);
            self.connections[connection].node_open = false;
        }
        self.export(process, &key);
    }

    fn export(&mut self, process: usize, key: &Key) {
        let Some(mut live) = self.processes[process].rooms.remove(key) else {
            return;
        };
        for peer in live.peers.values_mut() {
            peer.connection = None;
        }
        let stored = |client: &usize| StoredPeer {
            clock: *client as u64,
            host: false,
            user: String::new(),
            handshake: Bytes::new(),
        };
        let peers = live.peers.keys().map(stored).collect();
        let epoch = live.epoch;
        let estate = Estate { bytes: self.keep_estate(live), peers, in_flight: None };
        let is_taken = self.processes[process].ownership.moved(key, epoch, estate, self.now);
        self.check(is_taken, || format!("{key} is exported and was not to move"));
        self.carry_out(process);
    }

    /// The node closes its connections and forgets the sessions: they may be another's.
    fn let_go(&mut self, process: usize, which: LetGo) {
        let rooms = &mut self.processes[process].rooms;
        let gone: Vec<Live> = match which {
            LetGo::All => std::mem::take(rooms).into_values().collect(),
            LetGo::One(key) => rooms.remove(&key).into_iter().collect(),
        };
        for connection in gone.iter().flat_map(|live| live.peers.values()).filter_map(|peer| peer.connection) {
            self.connections[connection].let_go = true;
            self.close_from_node(connection);
        }
    }

    fn close_from_node(&mut self, connection: usize) {
        self.connections[connection].node_open = false;
        self.connections[connection].let_go = true;
        self.down(connection, Frame::Close);
    }

    /// Looks after the graces, once a second.
    pub(crate) fn tick(&mut self, process: usize) {
        let now = self.now;
        if !self.processes[process].alive {
            return;
        }
        self.after(Duration::from_secs(1), Event::Tick { process });
        if !self.processes[process].is_open(now) {
            return;
        }
        let is_over = |since: Instant| now.saturating_duration_since(since) >= GRACE;
        let is_away = |peer: &Peer| peer.connection.is_none() && is_over(peer.away_since);
        let rooms = self.processes[process].rooms.iter();
        let over = rooms.filter(|(_, live)| !live.moving && is_over(live.since) && live.peers.values().all(is_away));
        let ended: Vec<Key> = over.map(|(key, _)| key.clone()).collect();
        for key in ended {
            self.check_lost(&key, "ended though its peers wanted it");
            self.seen.ended_by_grace += 1;
            self.end_session(process, &key);
        }
    }

    /// Writes who has joined.
    pub(crate) fn write_journal(&mut self, process: usize) {
        let Some(Joined { key, epoch, by, client }) = self.processes[process].journal.front().cloned() else {
            return;
        };
        if !self.reaches_store(process) {
            self.after(Duration::from_millis(500), Event::Journal { process });
            return;
        }
        self.processes[process].journal.pop_front();
        let (user, handshake) = (String::new(), Bytes::new());
        let peer = StoredPeer { clock: client as u64, host: false, user, handshake };
        let is_owner = self.store.journal(&key, epoch, &by, |legacy| {
            if legacy.peers.iter().all(|known| known.clock != peer.clock) {
                legacy.peers.push(peer);
                legacy.peers.sort_by_key(|peer| peer.clock);
            }
        });
        if !is_owner && self.store.lives(&by) {
            self.processes[process].ownership.fenced(&key, epoch, self.now);
            self.carry_out(process);
        }
    }

    pub(crate) fn store_answers(
        &mut self,
        process: usize,
        id: CommandId,
        answer: Result<ctedge_ownership::Outcome, ctedge_ownership::StoreFailure>,
    ) {
        self.processes[process].ownership.store_answered(id, answer, self.now);
        self.carry_out(process);
    }

    pub(crate) fn drain(&mut self, process: usize, drain: Drain) {
        self.processes[process].ownership.drain(drain, self.now);
        if drain.exit {
            let stops = self.now + STOP_TIMEOUT + drain.deadline.unwrap_or_default();
            self.processes[process].stops = Some(stops);
            self.at(stops, Event::StopTimeout { process });
        }
        self.carry_out(process);
    }

    pub(crate) fn resume(&mut self, process: usize) {
        if self.processes[process].ownership.resume() {
            self.processes[process].stops = None;
        }
        self.carry_out(process);
    }

    /// The process ends: by itself, or killed.
    pub(crate) fn end_process(&mut self, process: usize) {
        let node = &mut self.processes[process];
        node.alive = false;
        node.frozen = false;
        node.rooms.clear();
        let inbox = std::mem::take(&mut node.inbox);
        for (_, request) in std::mem::take(&mut node.asking) {
            self.soon(Event::Answered { request, reply: Reply::Died });
        }
        for event in inbox {
            self.soon(event);
        }
        let open: Vec<usize> = self.open_connections.iter().copied().collect();
        for connection in open {
            if self.connections[connection].process == process {
                self.cut(connection);
                self.connections[connection].node_open = false;
            }
        }
    }
}
