//! The sessions of a node process: as much of a session as the promises need.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_license::seats::ASK_AGAIN;
use ctedge_ownership::{Epoch, Estate, LetGo, Origin, StoredPeer};
use ctedge_wire::Key;

use crate::balancer::Request;
use crate::event::{Event, Frame};
use crate::fault::Fault;
use crate::promise::{Change, Promise};
use crate::world::World;

/// How long a peer may be away.
const GRACE: Duration = Duration::from_secs(30);
/// How long a session that moves waits for its peers to close.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A session in memory.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) epoch: Epoch,
    pub(crate) room: Option<usize>,
    since: Instant,
    pub(crate) peers: BTreeMap<usize, Peer>,
    pub(crate) moving: bool,
}

/// A peer of a session.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Which sequence of deliveries this is. An estate continues it; a takeover begins another, and so does a new join.
    stream: u64,
    /// All that was ever sent to it in this stream: sender and number.
    log: Vec<(usize, u64)>,
    pub(crate) connection: Option<usize>,
    away_since: Instant,
}

impl Peer {
    fn new(streams: &mut u64, now: Instant) -> Self {
        *streams += 1;
        Self { stream: *streams, log: Vec::new(), connection: None, away_since: now }
    }
}

impl Live {
    pub(crate) fn empty(now: Instant) -> Self {
        Self { epoch: Epoch(0), room: None, since: now, peers: BTreeMap::new(), moving: false }
    }
}

impl World {
    /// Makes the connection that the request is for. Whoever finds no seat waits for one, `until` then.
    pub(crate) fn attach(&mut self, process: usize, key: &Key, request: &Request, until: Instant) {
        let now = self.now;
        let (client, attempt) = (request.client, request.attempt);
        if !self.clients[client].waits_for(attempt) {
            return;
        }
        let joins = self.processes[process].rooms.get(key).is_some_and(|live| !live.peers.contains_key(&client));
        let is_astray = self.is_astray(process);
        if joins && !self.take_seat(process, key, client) {
            self.clients[client].seatless_at = Some(now);
            if now < until {
                self.after(ASK_AGAIN, Event::AwaitsSeat { process, request: Box::new(request.clone()), until });
            } else {
                self.soon(Event::NoSeat { client, attempt });
            }
            return;
        }
        if is_astray {
            self.clients[client].strayed = true;
        } else if !joins {
            self.seat(key, client);
        }
        let connection = self.connect(client, request.balancer, process, key);
        let room = self.clients[client].room;
        let Some(live) = self.processes[process].rooms.get_mut(key) else {
            self.check(Promise::OneOwner, false, || format!("{key} is to be served where it is not"));
            return;
        };
        live.room = Some(room);
        let epoch = live.epoch;
        let streams = &mut self.streams;
        let peer = live.peers.entry(client).or_insert_with(|| Peer::new(streams, now));
        let stream = peer.stream;
        let replaced = peer.connection.replace(connection);
        let from = if request.stream == stream { request.received } else { 0 };
        let known = peer.log.get(from as usize..).unwrap_or_default();
        let rest: Vec<_> = (from..).zip(known.iter().copied()).collect();
        if let Some(replaced) = replaced {
            self.close_from_node(replaced);
        }
        self.down(connection, Frame::Welcome { attempt, stream });
        for (offset, (sender, number)) in rest {
            self.down(connection, Frame::Data { offset, sender, number });
        }
        if joins && !is_astray {
            self.check_member(room, client);
            self.joined(process, key, epoch, client);
        }
    }

    /// The node owns the key: there is a session from here on.
    pub(crate) fn begin(&mut self, process: usize, key: Key, epoch: Epoch, origin: Origin) {
        let now = self.now;
        let live = match origin {
            Origin::Created => {
                self.check_lost(&key, "created anew");
                self.note_change(&key, Change::Begun);
                Live { epoch, room: None, since: now, peers: BTreeMap::new(), moving: false }
            }
            Origin::Takeover(legacy) => {
                self.check_lost(&key, "taken over without its estate");
                self.check_gone(&key, &legacy.peers);
                self.note_change(&key, Change::TakenOver);
                let streams = &mut self.streams;
                let peers =
                    legacy.peers.iter().map(|stored| (stored.clock as usize, Peer::new(streams, now))).collect();
                Live { epoch, room: self.room_of(&key), since: now, peers, moving: false }
            }
            Origin::Estate(estate) => {
                let mut live = self.use_estate(&estate.bytes);
                self.note_change(&key, Change::HandedOff);
                (live.epoch, live.moving) = (epoch, false);
                for peer in live.peers.values_mut() {
                    peer.away_since = now;
                }
                live
            }
        };
        self.bring_seats(process, &key, live.peers.keys().copied());
        let is_new = self.processes[process].rooms.insert(key.clone(), live).is_none();
        self.check(Promise::OneOwner, is_new, || format!("{key} begins where it is already"));
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
        let (balancer, is_cut) = (self.connections[connection].balancer, self.connections[connection].cut);
        self.connections[connection].accepted += 1;
        if self.check_serving(process, &key, epoch, balancer, is_cut) {
            self.accept(&key, sender, number, to, now);
        } else {
            to.iter().for_each(|client| self.clients[*client].strayed = true);
        }
        for (connection, frame) in out {
            self.down(connection, frame);
        }
    }

    /// A peer leaves. With its host, a session ends.
    fn leave(&mut self, connection: usize) {
        let end = &self.connections[connection];
        if !end.node_open {
            return;
        }
        let (client, process, key) = (end.client, end.process, end.key.clone());
        if self.rooms[self.clients[client].room].host == client {
            self.end_session(process, &key);
        } else {
            self.remove_peer(process, &key, client);
        }
    }

    fn remove_peer(&mut self, process: usize, key: &Key, client: usize) {
        let Some(live) = self.processes[process].rooms.get_mut(key) else {
            return;
        };
        let epoch = live.epoch;
        let Some(peer) = live.peers.remove(&client) else {
            return;
        };
        if let Some(connection) = peer.connection {
            self.down(connection, Frame::Over);
            (self.connections[connection].node_open, self.connections[connection].let_go) = (false, true);
        }
        self.leave_seats(process, key, &[client]);
        self.left(process, key, epoch, client);
        self.export_closed(process, key);
    }

    /// A session that moves is exported when the last of its peers has closed.
    fn export_closed(&mut self, process: usize, key: &Key) {
        let live = self.processes[process].rooms.get(key);
        if live.is_some_and(|live| live.moving && live.peers.values().all(|peer| peer.connection.is_none())) {
            self.export(process, key);
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
        let clients: Vec<usize> = live.peers.keys().copied().collect();
        for client in &clients {
            self.left(process, key, live.epoch, *client);
        }
        self.leave_seats(process, key, &clients);
        self.processes[process].ownership.session_ended(key, live.epoch, self.now);
        self.carry_out(process);
    }

    fn closed_by_client(&mut self, connection: usize) {
        let now = self.now;
        let end = &mut self.connections[connection];
        end.node_open = false;
        let (client, process, key) = (end.client, end.process, end.key.clone());
        let lost = end.sent - end.accepted;
        let (end_is_cut, is_polite) = (end.cut, !end.cut && !end.let_go);
        self.check(Promise::OrdersEndNothing, !is_polite || lost == 0, || {
            format!("{lost} messages of client {client} were not read")
        });
        self.open_connections.remove(&connection);
        let drops = end_is_cut && self.breaks(Fault::DropsPeersWithSockets);
        let Some(live) = self.processes[process].rooms.get_mut(&key) else {
            return;
        };
        if let Some(peer) = live.peers.get_mut(&client).filter(|peer| peer.connection == Some(connection)) {
            (peer.connection, peer.away_since) = (None, now);
            if drops {
                live.peers.remove(&client);
                self.leave_seats(process, &key, &[client]);
                return;
            }
        }
        self.export_closed(process, &key);
    }

    pub(crate) fn start_moving(&mut self, process: usize, key: &Key) {
        let Some(live) = self.processes[process].rooms.get_mut(key) else {
            self.check(Promise::OneOwner, false, || format!("{key} is to move and is not there"));
            return;
        };
        live.moving = true;
        let (room, open): (_, Vec<_>) = (live.room, live.peers.values().filter_map(|peer| peer.connection).collect());
        for connection in &open {
            self.down(*connection, Frame::Close);
            if self.breaks(Fault::ClosesWithoutReading) {
                self.connections[*connection].node_open = false;
            }
        }
        if open.is_empty() || self.breaks(Fault::ClosesWithoutReading) {
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
        self.hand_seats_over(process, live.peers.len());
        if let Some(room) = self.room_of(key) {
            self.rooms[room].exported = live.peers.keys().copied().collect();
        }
        if self.breaks(Fault::ForgetsPeerInEstate) {
            live.peers.pop_last();
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
        self.check(Promise::OneOwner, is_taken, || format!("{key} is exported and was not to move"));
        self.carry_out(process);
    }

    /// The node closes its connections and forgets the sessions: they may be another's.
    pub(crate) fn let_go(&mut self, process: usize, which: LetGo) {
        let is_all = which == LetGo::All;
        let rooms = &mut self.processes[process].rooms;
        let gone: Vec<Live> = match which {
            LetGo::All => std::mem::take(rooms).into_values().collect(),
            LetGo::One(key) => rooms.remove(&key).into_iter().collect(),
        };
        self.hand_seats_over(process, gone.iter().map(|live| live.peers.len()).sum());
        if is_all {
            self.lose_seats(process);
        }
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

    /// Whoever is away has a whole grace from now on.
    pub(crate) fn renew_graces(&mut self, process: usize) {
        for peer in self.processes[process].rooms.values_mut().flat_map(|live| live.peers.values_mut()) {
            peer.away_since = self.now;
        }
    }

    /// Looks after the graces, once a second.
    pub(crate) fn tick(&mut self, process: usize) {
        let now = self.now;
        if !self.processes[process].alive {
            return;
        }
        self.after(Duration::from_secs(1), Event::Tick { process });
        self.note_written(process);
        self.ask_for_seats(process);
        if !self.processes[process].is_open(now) {
            return;
        }
        let is_over = |since: Instant| now.saturating_duration_since(since) >= GRACE;
        let (mut ended, mut given_up) = (Vec::new(), Vec::new());
        for (key, live) in self.processes[process].rooms.iter().filter(|(_, live)| !live.moving && is_over(live.since))
        {
            let is_away = |peer: &Peer| peer.connection.is_none() && is_over(peer.away_since);
            let away: Vec<usize> =
                live.peers.iter().filter(|(_, peer)| is_away(peer)).map(|(client, _)| *client).collect();
            let is_hostless = live.room.is_some_and(|room| away.contains(&self.rooms[room].host));
            if is_hostless || away.len() == live.peers.len() {
                ended.push(key.clone());
            } else {
                given_up.extend(away.into_iter().map(|client| (key.clone(), client)));
            }
        }
        for (key, client) in given_up {
            self.check_given_up(&key, client);
            self.remove_peer(process, &key, client);
        }
        for key in ended {
            self.check_lost(&key, "ended though its peers wanted it");
            self.seen.ended_by_grace += 1;
            self.end_session(process, &key);
        }
    }
}
