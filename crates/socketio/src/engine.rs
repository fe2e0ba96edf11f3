//! One Engine.IO session with one Socket.IO namespace in it.
//!
//! The transport hands in what it reads ([`Engine::receive_text`], [`Engine::receive_binary`]) and acts on the
//! [`Event`]; it fetches what is to be written with [`Engine::flush`] and writes messages with [`Engine::message`].
//! After every call it asks [`Engine::poll_timeout`] when [`Engine::handle_timeout`] is due. An `Err` from any of them
//! ends the session: the transport writes what [`Engine::flush`] still has, and closes.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::close::{CloseReason, Fault};
use crate::connect::{self, ConnectRequest, Mark};
use crate::event::{self, MESSAGE_ARGUMENTS};
use crate::heartbeat::{Beat, Heartbeat};
use crate::packet::{self, Kind, Packet};
use crate::sink::{Decimal, Sink};
use crate::upgrade::{ProbeStep, Upgrade, UpgradeRefusal};

/// A packet of no type that Engine.IO 4 knows, or is ever likely to.
const AWAY: &str = "9";

/// A message whose Socket.IO packet is of no type that Socket.IO 5 knows.
const POLLING_AWAY: &str = "49";

/// How many packets besides messages may wait to be fetched when another namespace has to be refused. The refusals are all
/// that a client can ask for any number of: one that posts and never polls would have us keep one for each of its packets.
const CONTROLS_MAX: usize = 8;

/// What all sessions of a server have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long a pong may take.
    pub ping_timeout: Duration,
    /// How long a client may take to its CONNECT.
    pub connect_timeout: Duration,
    /// The largest polling body that a client may send, as it is told.
    pub payload_bytes_max: usize,
    /// How many bytes of messages may be unproven before a ping goes out at once.
    pub unproven_bytes_max: usize,
    /// How long a message may be unproven before a ping goes out.
    pub unproven_max: Duration,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// What a packet of the client means to the transport.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The client wants in: answer with [`Engine::accept`] or [`Engine::refuse`].
    Connect(Box<ConnectRequest>),
    /// The binary packet just handed in is a message of the peer.
    Message,
    /// Receipt is proven of every message up to this offset.
    Acknowledged(u64),
}

/// One Engine.IO session with one Socket.IO namespace in it.
#[derive(Debug)]
pub struct Engine {
    settings: Arc<EngineSettings>,
    transport: Transport,
    state: State,
    is_closing: bool,
    /// Whether the client is to be sent away as soon as it has everything that was written.
    is_leaving: bool,
    /// `/prefix,` as it stands in packets; empty for the default namespace.
    namespace: Box<str>,
    mark: Mark,
    attachments: Option<Attachments>,
    heartbeat: Heartbeat,
    upgrade: Option<Upgrade>,
    poll_waits: bool,
    controls: Vec<Control>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No CONNECT yet.
    Fresh {
        connect_by: Instant,
    },
    /// The CONNECT was handed out.
    Asked,
    Connected,
    Refused,
}

/// The binary packets that still belong to the last event.
#[derive(Debug)]
struct Attachments {
    next: u8,
    count: u8,
    /// Which of them is the message, if one is.
    message: Option<u64>,
}

/// An owed packet that is no message.
#[derive(Debug)]
enum Control {
    Ping,
    Text(Cow<'static, str>),
}

impl Engine {
    /// A session whose client has just come.
    #[must_use]
    pub fn new(settings: Arc<EngineSettings>, transport: Transport, now: Instant) -> Self {
        let heartbeat = Heartbeat::new(settings.ping_interval, now);
        let state = State::Fresh { connect_by: now + settings.connect_timeout };
        Self {
            settings,
            transport,
            state,
            is_closing: false,
            is_leaving: false,
            namespace: Box::default(),
            mark: Mark::default(),
            attachments: None,
            heartbeat,
            upgrade: None,
            poll_waits: false,
            controls: Vec::new(),
        }
    }

    /// Writes the handshake's answer, the first packet of the session. `sid` names the session in later requests.
    pub fn open(&self, sid: &str, sink: &mut dyn Sink) {
        let upgrades: &[&str] = match self.transport {
            Transport::Polling => &["websocket"],
            Transport::WebSocket => &[],
        };
        let handshake = json!({
            "sid": sid,
            "upgrades": upgrades,
            "pingInterval": self.settings.ping_interval.as_millis() as u64,
            "pingTimeout": self.settings.ping_timeout.as_millis() as u64,
            "maxPayload": self.settings.payload_bytes_max,
        });
        sink.text(&[b"0", handshake.to_string().as_bytes()]);
    }

    /// What carries the session.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether messages may be written.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected && !self.is_closing
    }

    /// A text packet of the client.
    pub fn receive_text(&mut self, packet: &[u8], now: Instant) -> Result<Option<Event>, CloseReason> {
        let (kind, data) = packet.split_first().ok_or(Fault::EngineType)?;
        if *kind == b'3' {
            let proven = self.heartbeat.pong(self.settings.ping_interval, now);
            self.go_on_leaving(now);
            return Ok(proven.map(Event::Acknowledged));
        }
        self.heartbeat.heard(self.settings.ping_timeout, now);
        match kind {
            b'4' if self.announces_message(data) => {
                self.attachments = Some(Attachments { next: 0, count: 1, message: Some(0) });
                Ok(None)
            }
            b'4' => self.receive_packet(data),
            b'1' => Err(CloseReason::ClosedByPeer),
            b'6' => Ok(None),
            b'2' => Err(Fault::Heartbeat.into()),
            _ => Err(Fault::EngineType.into()),
        }
    }

    /// A binary packet of the client. Its content does not matter here; [`Event::Message`] tells whether it is one.
    pub fn receive_binary(&mut self, now: Instant) -> Result<Option<Event>, CloseReason> {
        self.heartbeat.heard(self.settings.ping_timeout, now);
        let attachments = self.attachments.as_mut().ok_or(Fault::AttachmentUnannounced)?;
        let is_message = attachments.message == Some(u64::from(attachments.next));
        attachments.next += 1;
        if attachments.next == attachments.count {
            self.attachments = None;
        }
        Ok(is_message.then_some(Event::Message))
    }

    /// Lets the client in. `sid` names it on this connection. `pid` names the life of the session that the offsets of
    /// messages count in: a returning client brings it back with the last offset.
    pub fn accept(&mut self, sid: &str, pid: &str) {
        if self.state == State::Asked {
            self.state = State::Connected;
            self.mark = Mark::of(pid);
            let ids = json!({ "sid": sid, "pid": pid });
            self.owe(format!("40{}{ids}", self.namespace));
        }
    }

    /// Refuses the client for good: it will not try again. Close the transport after it.
    pub fn refuse(&mut self, message: &str) {
        if self.state == State::Asked {
            self.state = State::Refused;
            let error = json!({ "message": message });
            self.owe(format!("44{}{error}", self.namespace));
        }
    }

    /// Tells the client not to come back, if it is connected. Close the transport after it.
    pub fn disconnect(&mut self) {
        if self.state == State::Connected {
            self.owe(format!("41{}", self.namespace));
        }
    }

    /// Asks the client to close and to come again. A transport that the client has not closed soon after is closed from
    /// our side.
    ///
    /// The packet is of a type that does not exist. The stock clients take it for a server error: they close at once,
    /// in the same turn in which they read it, keep what is sent from then on for their next connection, and connect
    /// again. A close frame would be answered below them, and what they send before they hear of that is lost.
    ///
    /// It follows when receipt of every message is proven. A stock client handles messages a turn after it read them: one
    /// read together with the packet would reach it disconnected, which hands the message on but does not count it, and so
    /// asks for it once more.
    pub fn send_away(&mut self, now: Instant) {
        self.is_leaving = true;
        self.go_on_leaving(now);
    }

    fn go_on_leaving(&mut self, now: Instant) {
        if !self.is_leaving {
            return;
        }
        if self.heartbeat.is_proven() {
            self.is_leaving = false;
            self.owe(AWAY);
        } else if self.heartbeat.demands(self.settings.ping_timeout, now) {
            self.controls.push(Control::Ping);
        }
    }

    /// Ends the session on our side: no messages follow. The transport writes what [`Self::flush`] still has, and then
    /// closes, a WebSocket by its own close frame and polling by [`Self::say_closed`]. What the client had sent before it
    /// hears of that is still accepted.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// Writes a message of the server to a connected client.
    pub fn message(&mut self, offset: u64, data: &Bytes, sink: &mut dyn Sink) {
        debug_assert!(self.is_connected(), "messages follow the CONNECT answer");
        self.write_controls(sink);
        let arguments = MESSAGE_ARGUMENTS.strip_suffix(b"]").unwrap_or(MESSAGE_ARGUMENTS);
        let digits = Decimal::new(offset);
        let mark = self.mark.as_bytes();
        sink.text(&[b"451-", self.namespace.as_bytes(), arguments, b",\"", digits.as_bytes(), mark, b"\"]"]);
        sink.binary(data);
        self.heartbeat.message_written(offset, data.len());
    }

    /// Writes what is owed besides messages. Call it after them: what is unproven hastens a ping.
    pub fn flush(&mut self, sink: &mut dyn Sink, now: Instant) {
        let EngineSettings { unproven_bytes_max, unproven_max, ping_timeout, .. } = *self.settings;
        if self.heartbeat.hastens(unproven_bytes_max, unproven_max, ping_timeout, now) {
            self.controls.push(Control::Ping);
        }
        self.write_controls(sink);
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let mut deadline = self.heartbeat.deadline();
        if let State::Fresh { connect_by } = self.state {
            deadline = deadline.min(connect_by);
        }
        if let Some(upgrade) = &self.upgrade {
            deadline = deadline.min(upgrade.deadline(self.poll_waits));
        }
        deadline
    }

    /// Acts on the time. Then look for output, and whether a waiting poll or an upgrade is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        if matches!(self.state, State::Fresh { connect_by } if now >= connect_by) {
            return Err(CloseReason::ConnectTimeout);
        }
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_over(now)) {
            self.upgrade = None;
        }
        match self.heartbeat.handle_timeout(self.settings.ping_timeout, now) {
            Beat::Nothing => {}
            Beat::Ping => self.controls.push(Control::Ping),
            Beat::Dead => return Err(CloseReason::PingTimeout),
        }
        Ok(())
    }

    fn announces_message(&self, data: &[u8]) -> bool {
        self.attachments.is_none()
            && self.state == State::Connected
            && data.strip_prefix(b"51-").and_then(|rest| rest.strip_prefix(self.namespace.as_bytes()))
                == Some(MESSAGE_ARGUMENTS)
    }

    fn receive_packet(&mut self, data: &[u8]) -> Result<Option<Event>, CloseReason> {
        if self.attachments.is_some() {
            return Err(Fault::AttachmentMissing.into());
        }
        let packet = packet::parse(data)?;
        if packet.kind == Kind::Connect {
            return self.receive_connect(&packet);
        }
        if self.state != State::Connected || packet.namespace != self.namespace() {
            return Err(Fault::NotConnected.into());
        }
        let message = match packet.kind {
            Kind::Connect => None,
            Kind::Disconnect if packet.json.is_empty() => return Err(CloseReason::Disconnected),
            Kind::Disconnect => return Err(Fault::Json.into()),
            Kind::Event | Kind::BinaryEvent => event::parse(packet.json)?.message_attachment,
            Kind::Ack | Kind::BinaryAck => {
                event::parse_array(packet.json)?;
                None
            }
        };
        if packet.attachments > 0 {
            if message.is_some_and(|number| number >= u64::from(packet.attachments)) {
                return Err(Fault::Attachments.into());
            }
            self.attachments = Some(Attachments { next: 0, count: packet.attachments, message });
        }
        Ok(None)
    }

    fn receive_connect(&mut self, packet: &Packet<'_>) -> Result<Option<Event>, CloseReason> {
        let request = connect::parse(packet.namespace, packet.json)?;
        match self.state {
            State::Fresh { .. } => {
                self.state = State::Asked;
                self.namespace = written_namespace(packet.namespace).into();
                Ok(Some(Event::Connect(Box::new(request))))
            }
            State::Connected if packet.namespace != self.namespace() => {
                if self.controls.len() >= CONTROLS_MAX {
                    return Err(Fault::TooManyConnects.into());
                }
                let error = json!({ "message": "a connection serves one namespace" });
                self.owe(format!("44{}{error}", written_namespace(packet.namespace)));
                Ok(None)
            }
            _ => Err(Fault::SocketType.into()),
        }
    }

    fn namespace(&self) -> &str {
        self.namespace.strip_suffix(',').unwrap_or("/")
    }

    fn owe(&mut self, text: impl Into<Cow<'static, str>>) {
        self.controls.push(Control::Text(text.into()));
    }

    fn write_controls(&mut self, sink: &mut dyn Sink) {
        for control in mem::take(&mut self.controls) {
            match control {
                Control::Text(text) => sink.text(&[text.as_bytes()]),
                Control::Ping => {
                    sink.text(&[b"2"]);
                    self.heartbeat.ping_written();
                }
            }
        }
    }
}

/// A namespace as it stands in packets: the default one does not.
fn written_namespace(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

/// The parts of a session that concern polling and the upgrade from it.
impl Engine {
    /// A GET has begun to wait for packets. Two at once end the session.
    pub fn begin_poll(&mut self) -> Result<(), CloseReason> {
        if mem::replace(&mut self.poll_waits, true) { Err(CloseReason::Overlap) } else { Ok(()) }
    }

    /// The waiting GET was answered, or given up by the client.
    pub fn end_poll(&mut self, now: Instant) {
        self.poll_waits = false;
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.poll_answered(now);
        }
    }

    /// Writes a no-op if that is what the waiting poll should be answered with.
    pub fn noop(&self, sink: &mut dyn Sink, now: Instant) {
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.noop_is_due(now)) {
            sink.text(&[b"6"]);
        }
    }

    /// Tells a polling client that the session is closed. It must stand alone in its payload: the stock client acts on
    /// it before it looks at the messages beside it, and then does not count them as received.
    pub fn say_closed(&self, sink: &mut dyn Sink) {
        sink.text(&[b"1"]);
    }

    /// Asks a polling client to close and to come again.
    ///
    /// The packet is of a Socket.IO type that does not exist. The stock client counts itself disconnected in the same turn,
    /// keeps what is sent from then on for its next connection, and connects again; but before it closes it posts what it
    /// had gathered behind the body that it was posting, which any end of the transport would make it forget. Until then it
    /// polls, which must go unanswered.
    pub fn say_away(&self, sink: &mut dyn Sink) {
        sink.text(&[POLLING_AWAY.as_bytes()]);
    }

    /// A WebSocket for this session was opened and will probe.
    pub fn begin_upgrade(&mut self, now: Instant) -> Result<(), UpgradeRefusal> {
        if self.transport == Transport::WebSocket {
            return Err(UpgradeRefusal::Upgraded);
        }
        if self.upgrade.is_some() {
            return Err(UpgradeRefusal::UnderWay);
        }
        self.upgrade = Some(Upgrade::begin(now));
        Ok(())
    }

    /// A text packet on the probing WebSocket. An `Err` ends that WebSocket, not the session: call
    /// [`Self::abandon_upgrade`] with it.
    pub fn receive_probe(&mut self, packet: &[u8], now: Instant) -> Result<ProbeStep, CloseReason> {
        let step = self.upgrade.as_mut().ok_or(Fault::EngineType)?.receive(packet, now)?;
        if step == ProbeStep::Upgraded {
            self.upgrade = None;
            self.transport = Transport::WebSocket;
        }
        Ok(step)
    }

    /// Whether a WebSocket is probing. The time for it may have run out.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.upgrade.is_some()
    }

    /// The probing WebSocket is gone: polling goes on.
    pub fn abandon_upgrade(&mut self) {
        self.upgrade = None;
    }
}
