//! Clients: each belongs to one room, wants a connection to its session, and sends numbered messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctedge_ownership::Wants;
use ctedge_wire::Key;

use crate::balancer::Request;
use crate::event::{Event, Frame};
use crate::promise::Promise;
use crate::world::World;

/// One peer's program.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) room: usize,
    pub(crate) phase: Phase,
    /// Since when it has no connection.
    pub(crate) away_since: Option<Instant>,
    /// When it last stood before its session without a seat, if it has not had a connection since.
    pub(crate) seatless_at: Option<Instant>,
    /// When its session last went on without it: what was under way to it until then is lost.
    pub(crate) given_up_at: Option<Instant>,
    /// When it last got no further than its balancer, or was refused for another reason.
    pub(crate) refused_at: Option<Instant>,
    attempt: u64,
    stream: u64,
    received: u64,
    /// Whether it has had to do with a node whose lease was over. The owner gives it once more what it missed there.
    pub(crate) strayed: bool,
    /// The last message of each sender.
    pub(crate) last_of: BTreeMap<usize, u64>,
    /// All messages that came.
    pub(crate) got: std::collections::BTreeSet<(usize, u64)>,
    numbers: u64,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It will try to get a connection.
    Away,
    /// It has asked for one.
    Asking,
    /// It has one.
    Attached(usize),
    /// Its session is over.
    Done,
}

/// A connection between a client and a session, through a balancer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) balancer: usize,
    pub(crate) process: usize,
    pub(crate) key: Key,
    pub(crate) client_open: bool,
    pub(crate) node_open: bool,
    /// It broke: what was under way is lost.
    pub(crate) cut: bool,
    /// The node does not read any more what is under way.
    pub(crate) let_go: bool,
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    up_at: Option<Instant>,
    down_at: Option<Instant>,
}

impl Client {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            phase: Phase::Away,
            away_since: None,
            seatless_at: None,
            given_up_at: None,
            refused_at: None,
            attempt: 0,
            stream: 0,
            received: 0,
            strayed: false,
            last_of: BTreeMap::new(),
            got: std::collections::BTreeSet::new(),
            numbers: 0,
        }
    }
}

impl Client {
    /// Whether the client still wants an answer to its request. Without that, nobody would use the connection.
    pub(crate) fn waits_for(&self, attempt: u64) -> bool {
        self.phase == Phase::Asking && self.attempt == attempt
    }
}

impl World {
    /// A client that has no connection asks for one.
    pub(crate) fn try_connect(&mut self, index: usize, attempt: u64) {
        let (client, balancers) = (&self.clients[index], self.balancers.len());
        if client.phase != Phase::Away || client.attempt != attempt {
            return;
        }
        let room = &self.rooms[client.room];
        if room.over {
            self.clients[index].phase = Phase::Done;
            return;
        }
        let is_host = room.host == index;
        let wants = match (is_host, &room.key) {
            (true, None) => Wants::New,
            (true, Some(_)) => Wants::ExistingOrNew,
            (false, Some(_)) => Wants::Existing,
            // There is nothing to join yet.
            (false, None) => {
                self.after(Duration::from_secs(1), Event::Try { client: index, attempt });
                return;
            }
        };
        let (key, balancer) = (room.key.clone(), self.random.below(balancers));
        let client = &mut self.clients[index];
        client.attempt += 1;
        client.phase = Phase::Asking;
        client.away_since.get_or_insert(self.now);
        let mut request = Request::new(index, client.attempt, balancer, key, wants);
        (request.stream, request.received) = (client.stream, client.received);
        let attempt = client.attempt;
        self.soon(Event::AtBalancer(Box::new(request)));
        self.after(Duration::from_secs(8), Event::TryTimeout { client: index, attempt });
    }

    pub(crate) fn refused(&mut self, client: usize, attempt: u64, missing: bool) {
        if self.clients[client].waits_for(attempt) {
            let room = &self.rooms[self.clients[client].room];
            if let Some(key) = room.key.clone().filter(|_| missing && !room.over) {
                self.check_lost(&key, "missing to a client that wants it");
            }
            self.check_available(client);
            self.clients[client].refused_at = Some(self.now);
            self.try_again(client);
        }
    }

    /// All seats are taken, or those that are free are held elsewhere.
    pub(crate) fn no_seat(&mut self, client: usize, attempt: u64) {
        if self.clients[client].waits_for(attempt) {
            self.check_seatless(client);
            self.try_again(client);
        }
    }

    pub(crate) fn try_timeout(&mut self, client: usize, attempt: u64) {
        if self.clients[client].waits_for(attempt) {
            self.check_available(client);
            self.clients[client].refused_at = Some(self.now);
            self.try_again(client);
        }
    }

    /// About a second later, as the stock client does.
    fn try_again(&mut self, index: usize) {
        let pause = self.random.millis(500, 1_500);
        self.clients[index].phase = Phase::Away;
        let attempt = self.clients[index].attempt;
        self.after(pause, Event::Try { client: index, attempt });
    }

    /// A host that is let in for the first time learns the key, and tells its guests.
    fn learn_key(&mut self, connection: usize) {
        let Connection { client, ref key, .. } = self.connections[connection];
        let room = &mut self.rooms[self.clients[client].room];
        if room.host == client && room.key.is_none() {
            room.key = Some(key.clone());
        }
    }

    pub(crate) fn connect(&mut self, client: usize, balancer: usize, process: usize, key: &Key) -> usize {
        self.connections.push(Connection {
            client,
            balancer,
            process,
            key: key.clone(),
            client_open: true,
            node_open: true,
            cut: false,
            let_go: false,
            sent: 0,
            accepted: 0,
            up_at: None,
            down_at: None,
        });
        let connection = self.connections.len() - 1;
        self.open_connections.insert(connection);
        connection
    }

    /// A frame to the client: it comes after all before it.
    pub(crate) fn down(&mut self, connection: usize, frame: Frame) {
        let at = self.now + self.network_delay();
        let end = &mut self.connections[connection];
        let at = end.down_at.map_or(at, |last| at.max(last));
        end.down_at = Some(at);
        self.at(at, Event::ToClient { connection, frame });
    }

    fn up(&mut self, connection: usize, frame: Frame) {
        let at = self.now + self.network_delay();
        let end = &mut self.connections[connection];
        let at = end.up_at.map_or(at, |last| at.max(last));
        end.up_at = Some(at);
        self.at(at, Event::ToNode { connection, frame });
    }

    /// The connection breaks. What is under way is lost; the client notices first, and the node whenever it runs.
    pub(crate) fn cut(&mut self, connection: usize) {
        if !self.open_connections.remove(&connection) {
            return;
        }
        self.seen.cuts += 1;
        self.connections[connection].cut = true;
        self.down(connection, Frame::Close);
        self.up(connection, Frame::Close);
    }

    pub(crate) fn at_client(&mut self, connection: usize, frame: Frame) {
        let end = &self.connections[connection];
        let (index, broken) = (end.client, end.cut);
        let client = &mut self.clients[index];
        let is_current = client.phase == Phase::Attached(connection);
        match frame {
            Frame::Welcome { attempt, stream } => {
                if !client.waits_for(attempt) {
                    self.hang_up(connection);
                    return;
                }
                client.phase = Phase::Attached(connection);
                (client.away_since, client.seatless_at) = (None, None);
                if client.stream != stream {
                    (client.stream, client.received) = (stream, 0);
                    if client.strayed {
                        client.last_of.clear();
                    }
                }
                self.learn_key(connection);
            }
            Frame::Data { offset, sender, number } if is_current && !broken => {
                let expected = client.received;
                client.received += 1;
                let last = client.last_of.insert(sender, number);
                client.got.insert((sender, number));
                self.seen.delivered += 1;
                self.check(Promise::OrdersEndNothing, offset == expected, || {
                    format!("client {index} got offset {offset} and not {expected}")
                });
                self.check(Promise::OrdersEndNothing, last.is_none_or(|last| last < number), || {
                    format!("client {index} got message {number} of {sender} after {last:?}")
                });
            }
            Frame::Over => {
                if is_current {
                    client.phase = Phase::Away;
                    self.try_again(index);
                }
                self.hang_up(connection);
            }
            Frame::Close => {
                self.hang_up(connection);
                if is_current {
                    self.try_again(index);
                }
            }
            Frame::Data { .. } | Frame::Message { .. } | Frame::Leave => {}
        }
    }

    fn hang_up(&mut self, connection: usize) {
        if std::mem::take(&mut self.connections[connection].client_open) {
            self.up(connection, Frame::Close);
        }
    }

    /// A client sends its next message, if it has a connection.
    pub(crate) fn send(&mut self, index: usize) {
        if self.quiet || self.clients[index].phase == Phase::Done {
            return;
        }
        let pause = self.random.millis(200, 3_000);
        self.after(pause, Event::Send { client: index });
        let Phase::Attached(connection) = self.clients[index].phase else {
            return;
        };
        let client = &mut self.clients[index];
        client.numbers += 1;
        let number = client.numbers;
        self.connections[connection].sent += 1;
        self.seen.sent += 1;
        self.up(connection, Frame::Message { number });
    }

    /// The host of a room ends its session, if it is connected.
    pub(crate) fn host_leaves(&mut self, room: usize) -> bool {
        let host = self.rooms[room].host;
        let Phase::Attached(connection) = self.clients[host].phase else {
            return false;
        };
        self.rooms[room].over = true;
        self.clients[host].phase = Phase::Done;
        self.up(connection, Frame::Leave);
        true
    }

    /// A guest leaves its session for good, if it is connected.
    pub(crate) fn guest_leaves(&mut self, client: usize) {
        let is_host = self.rooms[self.clients[client].room].host == client;
        if let (Phase::Attached(connection), false) = (self.clients[client].phase, is_host) {
            self.seen.guests_left += 1;
            self.clients[client].phase = Phase::Done;
            self.up(connection, Frame::Leave);
        }
    }

    /// A client closes its connection in order, and comes back.
    pub(crate) fn reconnects(&mut self, client: usize) {
        if let Phase::Attached(connection) = self.clients[client].phase {
            self.seen.reconnects += 1;
            self.clients[client].phase = Phase::Away;
            self.hang_up(connection);
            let (pause, attempt) = (self.random.millis(0, 3_000), self.clients[client].attempt);
            self.after(pause, Event::Try { client, attempt });
        }
    }
}
