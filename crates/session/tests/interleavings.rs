//! Random interleavings of peers that attach, are cut, return, send, read slowly and leave, in virtual time.
//!
//! Beside the session runs a model that knows only the order of events: who was in the session when something was sent.
//! Now and then the session is handed to another owner as bytes. From the model follows what each peer is owed, and each
//! peer must get exactly that, once and in order, over however many transports and owners it takes, or be closed. A
//! failure names its seed.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::{Handshake, PeerId, RoomClaim, User};
use ctedge_session::{Action, Attached, AuditKind, Beginning, Session, SessionLimits};
use ctedge_wire::Key;
use support::messages;

const NAMES: [&str; 5] = ["h", "a", "b", "c", "d"];
const STEPS: u32 = 400;

/// A generator of numbers that look random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// One client: what it has, and its transport.
#[derive(Default)]
struct Client {
    transport: Option<Transport>,
    /// The offset of the last message it has, which it brings along when it returns.
    offset: u64,
    /// How many of what it is owed it has.
    received: usize,
    /// What it is owed in this life, in order. Answers to requests are counted apart.
    owed: Vec<String>,
    /// Whether the model has it in the session.
    present: bool,
    /// Requests that it was asked and has not answered.
    asked: Vec<String>,
    /// Its requests of this life, and how many answers each got.
    requests: BTreeMap<u64, u32>,
}

struct Transport {
    attached: Attached,
    cursor: u64,
    /// What the session's owner has written and the client has not read.
    wire: VecDeque<(u64, Bytes)>,
}

struct Simulation {
    seed: u64,
    dice: Dice,
    now: Instant,
    session: Session,
    limits: SessionLimits,
    clients: BTreeMap<&'static str, Client>,
    /// Transports whose end the session has not noticed.
    lost: Vec<Attached>,
    sent: u64,
    ended: bool,
}

/// How often the rarer things happened, so that the test can tell that they did.
#[derive(Debug, Default)]
struct Coverage {
    closed_full: u64,
    ended: u64,
    left: u64,
    handed_over: u64,
    returned: u64,
    delivered: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let now = Instant::now();
        let limits = SessionLimits {
            outbox_bytes_max: 4000 + dice.below(40_000),
            requests_in_flight_max: 1 + dice.below(20),
            ..SessionLimits::default()
        };
        let beginning = Beginning::created(Duration::from_millis(1000));
        let session = Session::new(Key::parse("room").unwrap(), limits.clone(), beginning, &[1; 32], now);
        let clients = NAMES.iter().map(|name| (*name, Client::default())).collect();
        Self { seed, dice, now, session, limits, clients, lost: Vec::new(), sent: 0, ended: false }
    }

    fn run(&mut self, coverage: &mut Coverage) {
        self.attach("h", coverage);
        for _ in 0..STEPS {
            let name = self.dice.name();
            match self.dice.below(100) {
                0..12 => self.attach(name, coverage),
                12..20 => self.cut(name),
                20..25 => self.notice_a_loss(),
                25..45 => self.say(name),
                45..55 => self.ask(name),
                55..62 => self.answer(name),
                62..77 => self.write(name),
                77..90 => self.read(name),
                90..94 => self.pong(name),
                94 => self.hand_over(coverage),
                95 => self.leave(name),
                _ => {
                    let time = Duration::from_secs(self.dice.below(12) as u64);
                    self.pass(time);
                }
            }
            self.act(coverage);
        }
        self.come_to_rest(coverage);
        coverage.delivered += self.session.take_counters().delivered;
    }

    fn attach(&mut self, name: &'static str, coverage: &mut Coverage) {
        let client = &self.clients[name];
        // Most of the time it is there already; now and then it comes a second time before the first is noticed lost.
        if client.transport.is_some() && self.dice.below(4) > 0 {
            return;
        }
        let host = name == "h";
        let user = User { id: name.into(), name: name.into(), email: None, auth_provider: String::new() };
        let clock = 1000 + NAMES.iter().position(|found| *found == name).unwrap() as u64;
        let claim = RoomClaim { room: self.session.key().clone(), room_clock: clock, user, host };
        let handshake = Handshake::new("key", None, None);
        let Ok(attached) = self.session.attach(&claim, PeerId::new(name), handshake, self.now) else { return };
        self.act(coverage);
        let cursor = self.session.cursor_after(attached.peer, Some(self.clients[name].offset));
        let client = self.clients.get_mut(name).unwrap();
        coverage.returned += u64::from(attached.returned);
        if let Some(older) = client.transport.replace(Transport { attached, cursor, wire: VecDeque::new() }) {
            self.lost.push(older.attached);
        }
    }

    /// The client's end of the transport is gone, with all that was on the wire.
    fn cut(&mut self, name: &str) {
        if let Some(transport) = self.clients.get_mut(name).unwrap().transport.take() {
            self.lost.push(transport.attached);
        }
    }

    fn notice_a_loss(&mut self) {
        if !self.lost.is_empty() {
            let lost = self.dice.below(self.lost.len());
            let attached = self.lost.swap_remove(lost);
            self.session.detach(attached.peer, attached.attachment, self.now);
        }
    }

    /// A broadcast or a notification. The model owes it to whoever is in the session.
    fn say(&mut self, name: &'static str) {
        let Some(attached) = self.speaker(name) else { return };
        self.sent += 1;
        let text = format!("{}{}", self.sent, "x".repeat(self.dice.below(200)));
        let others: Vec<&str> = self.others(name);
        let (message, receivers) = if self.dice.below(2) == 0 {
            (messages::broadcast(text.as_bytes(), &others), others)
        } else {
            let target = self.dice.name();
            let receivers = if self.clients[target].present { vec![target] } else { Vec::new() };
            (messages::parse(&["notification", &text, "to", target], &[]), receivers)
        };
        let kind = if message.windows(12).any(|bytes| bytes == b"notification") { "notification" } else { "broadcast" };
        for receiver in receivers {
            let owed = format!("{kind} {text} from {name} with the key of {receiver}");
            self.clients.get_mut(receiver).unwrap().owed.push(owed);
        }
        self.session.receive(attached.peer, &message, self.now);
    }

    /// A request. It may fail for many reasons, but it gets one answer.
    fn ask(&mut self, name: &'static str) {
        let Some(attached) = self.speaker(name) else { return };
        let target = self.dice.name();
        self.sent += 1;
        let message = messages::parse(&["request", &self.sent.to_string(), "to", target], &[]);
        let in_flight = self.session.requests_in_flight();
        self.clients.get_mut(name).unwrap().requests.insert(self.sent, 0);
        self.session.receive(attached.peer, &message, self.now);
        let is_passed_on = self.session.requests_in_flight() > in_flight;
        if is_passed_on {
            let owed = format!("request question from {name} with the key of {target}");
            self.clients.get_mut(target).unwrap().owed.push(owed);
        }
    }

    fn answer(&mut self, name: &'static str) {
        let Some(attached) = self.speaker(name) else { return };
        if let Some(id) = self.clients.get_mut(name).unwrap().asked.pop() {
            let message = messages::parse(&["response", &id], &[]);
            self.session.receive(attached.peer, &message, self.now);
        }
    }

    /// The session gets another owner. Its transports are gone with all that was on their wires.
    fn hand_over(&mut self, coverage: &mut Coverage) {
        for name in NAMES {
            self.cut(name);
        }
        for attached in std::mem::take(&mut self.lost) {
            self.session.detach(attached.peer, attached.attachment, self.now);
        }
        self.act(coverage);
        coverage.delivered += self.session.take_counters().delivered;
        let estate = self.session.export(Bytes::from_static(b"luggage"), self.now);
        // Another machine has another clock.
        self.now += Duration::from_secs(1000);
        let (session, luggage) = Session::from_estate(&estate, self.limits.clone(), self.now).unwrap();
        assert_eq!(luggage, "luggage");
        self.session = session;
        coverage.handed_over += 1;
    }

    fn leave(&mut self, name: &'static str) {
        // A host that leaves ends everything, so it does so rarely.
        if name == "h" && self.dice.below(10) > 0 {
            return;
        }
        if let Some(attached) = self.speaker(name) {
            self.session.receive(attached.peer, &messages::leave(), self.now);
        }
    }

    /// A client that is in the session and has a transport.
    fn speaker(&self, name: &str) -> Option<Attached> {
        let client = &self.clients[name];
        client.transport.as_ref().filter(|_| client.present).map(|transport| transport.attached)
    }

    fn others(&self, name: &str) -> Vec<&'static str> {
        self.clients
            .iter()
            .filter(|(other, client)| **other != name && client.present)
            .map(|(other, _)| *other)
            .collect()
    }

    /// The owner of the session writes some of what the outbox holds.
    fn write(&mut self, name: &str) {
        let count = 1 + self.dice.below(8);
        let Some(transport) = &mut self.clients.get_mut(name).unwrap().transport else { return };
        if let Some(outbox) = self.session.outbox(transport.attached.peer) {
            let more = outbox.after(transport.cursor).take(count).map(|(offset, message)| (offset, message.clone()));
            transport.wire.extend(more);
            transport.cursor = transport.wire.back().map_or(transport.cursor, |(offset, _)| *offset);
        }
    }

    /// The client reads some of what is on the wire.
    fn read(&mut self, name: &str) {
        let count = 1 + self.dice.below(8);
        for _ in 0..count {
            let client = self.clients.get_mut(name).unwrap();
            let Some((offset, message)) = client.transport.as_mut().and_then(|transport| transport.wire.pop_front())
            else {
                return;
            };
            assert!(offset > client.offset, "seed {}: {name} got offset {offset} after {}", self.seed, client.offset);
            client.offset = offset;
            self.got(name, &messages::describe(&message));
        }
    }

    fn got(&mut self, name: &str, message: &str) {
        let seed = self.seed;
        let client = self.clients.get_mut(name).unwrap();
        let words: Vec<&str> = message.split(' ').collect();
        if let ["response" | "response-error", id, ..] = words[..] {
            let answers = client.requests.get_mut(&id.parse().unwrap()).unwrap();
            *answers += 1;
            assert_eq!(*answers, 1, "seed {seed}: {name} got a second answer to its request {id}");
            return;
        }
        if let ["request", id, ..] = words[..] {
            client.asked.push(id.to_owned());
        }
        let message = words.into_iter().filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
        let owed = client.owed.get(client.received).map(String::as_str);
        assert_eq!(Some(&*message), owed, "seed {seed}: {name} got something else than it is owed");
        client.received += 1;
    }

    fn pong(&mut self, name: &str) {
        let client = &self.clients[name];
        if let Some(transport) = &client.transport {
            self.session.acknowledge(transport.attached.peer, client.offset);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.session.handle_timeout(due);
        }
        self.now = end;
    }

    /// The model follows who comes and goes, in the order in which the session says so.
    fn act(&mut self, coverage: &mut Coverage) {
        let mut leaves_alone = false;
        while let Some(action) = self.session.next_action() {
            match action {
                Action::PeerLeft { .. } => leaves_alone = true,
                Action::Audit(event) => {
                    let name = *NAMES.iter().find(|name| **name == event.user.name).unwrap();
                    match event.kind {
                        AuditKind::Created | AuditKind::Joined => self.model_joined(name),
                        AuditKind::Left if std::mem::take(&mut leaves_alone) => self.model_left(name, coverage),
                        // It leaves with the session, whose end follows.
                        AuditKind::Left => {}
                        AuditKind::Ended(_) => self.model_ended(coverage),
                    }
                }
                Action::ClosePeer { peer, reason: ctedge_session::CloseReason::OutboxFull } => {
                    coverage.closed_full += 1;
                    let full = self
                        .clients
                        .values_mut()
                        .find(|client| client.is_at(peer))
                        .and_then(|client| client.transport.take());
                    self.lost.extend(full.map(|transport| transport.attached));
                }
                _ => {}
            }
        }
    }

    fn model_joined(&mut self, name: &'static str) {
        for other in self.others(name) {
            self.clients.get_mut(other).unwrap().owed.push(format!("broadcast room/joined {name}"));
        }
        let client = self.clients.get_mut(name).unwrap();
        let (offset, transport) = (client.offset, client.transport.take());
        self.lost.extend(transport.map(|transport| transport.attached));
        *client = Client { offset, present: true, ..Client::default() };
        client.owed.push(format!("notification peer/info {name}"));
    }

    fn model_left(&mut self, name: &'static str, coverage: &mut Coverage) {
        coverage.left += 1;
        self.clients.get_mut(name).unwrap().present = false;
        for other in self.others(name) {
            self.clients.get_mut(other).unwrap().owed.push(format!("broadcast room/left {name}"));
        }
    }

    fn model_ended(&mut self, coverage: &mut Coverage) {
        coverage.ended += 1;
        self.ended = true;
        for other in self.others("h") {
            self.clients.get_mut(other).unwrap().owed.push("broadcast room/closed".into());
        }
        for client in self.clients.values_mut() {
            client.present = false;
        }
    }

    /// Whoever is in the session returns and reads all; then nobody may be owed anything.
    fn come_to_rest(&mut self, coverage: &mut Coverage) {
        self.pass(Duration::from_secs(1));
        self.act(coverage);
        for round in 0..3 {
            for name in NAMES {
                if self.clients[name].present && self.clients[name].transport.is_none() {
                    self.attach(name, coverage);
                }
            }
            for _ in 0..200 {
                for name in NAMES {
                    self.write(name);
                    self.read(name);
                    self.pong(name);
                }
            }
            if round == 0 {
                // Every request that was never answered fails by then.
                self.pass(Duration::from_secs(31));
            }
            self.act(coverage);
        }
        assert_eq!(self.session.is_ended(), self.ended, "seed {}", self.seed);
        assert_eq!(self.session.requests_in_flight(), 0, "seed {}", self.seed);
        for (name, client) in self.clients.iter().filter(|(_, client)| client.present) {
            assert_eq!(client.received, client.owed.len(), "seed {}: {name} is still owed something", self.seed);
            assert!(client.requests.values().all(|answers| *answers == 1), "seed {}: {:?}", self.seed, client.requests);
            let transport = client.transport.as_ref().unwrap();
            assert!(self.session.outbox(transport.attached.peer).unwrap().is_empty(), "seed {}", self.seed);
        }
    }
}

impl Client {
    fn is_at(&self, peer: ctedge_session::PeerSlot) -> bool {
        self.transport.as_ref().is_some_and(|transport| transport.attached.peer == peer)
    }
}

#[test]
fn every_message_arrives_once_and_in_order_or_the_peer_is_closed() {
    let mut coverage = Coverage::default();
    for seed in 0..600 {
        Simulation::new(seed).run(&mut coverage);
    }
    // A simulation in which nothing happens proves nothing.
    let Coverage { closed_full, ended, left, handed_over, returned, delivered } = coverage;
    assert!(
        handed_over > 1000 && closed_full > 50 && ended > 50 && left > 500 && returned > 2000 && delivered > 50_000,
        "{closed_full} closed for a full outbox, {ended} sessions ended, {left} left, {handed_over} handed over, {returned} returned, {delivered} delivered"
    );
}
