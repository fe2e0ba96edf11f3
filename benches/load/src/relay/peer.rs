//! One participant: its Socket.IO connection, who it is, and what it must get.

use std::cell::{Cell, OnceCell, RefCell};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rmpv::Value;
use tokio::sync::Notify;

use super::account::{Account, Verdict};
use super::envelope::{self, Stamp, Template, field};
use super::traffic::Traffic;
use crate::channel::{Channel, Event};
use crate::endpoint::Endpoint;
use crate::frame::Opcode;

/// The text frame before an event's attachment begins with this; a server may append an offset as a further argument.
const EVENT_HEAD: &[u8] = br#"451-["message",{"_placeholder":true,"num":0}]"#;

/// A public key of the size of the clients' RSA-4096 keys. Nobody decrypts anything here.
const PUBLIC_KEY_BYTES: usize = 736;

/// A participant.
pub(crate) struct Peer {
    /// Its index in the run.
    pub(crate) index: usize,
    pub(crate) channel: Channel,
    /// Its id, once the server has told it.
    pub(crate) id: OnceCell<String>,
    identified: Notify,
    /// The index of the first peer of its room; the peers of a room are neighbours.
    pub(crate) room_start: usize,
    /// What it must get from each peer of the room, by position.
    pub(crate) accounts: RefCell<Vec<Account>>,
    pub(crate) template: RefCell<Option<Template>>,
    /// Messages that it has sent, and how many deliveries of them have arrived anywhere.
    pub(crate) sent: Cell<u64>,
    pub(crate) sent_delivered: Cell<u64>,
    /// Why its connection ended, when it did.
    pub(crate) failure: RefCell<Option<String>>,
}

impl Peer {
    /// Connects the transport: WebSocket at once, then the default namespace, both without waiting for the answers.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        room_token: &str,
        (index, room_start): (usize, usize),
        (node_header, extra_headers): (&str, &str),
    ) -> Result<Self> {
        use base64::Engine as _;
        let key = envelope::random_bytes(&format!("public {index}"), PUBLIC_KEY_BYTES / 4 * 3);
        let headers = format!(
            "x-oct-jwt: {room_token}\r\nx-oct-public-key: {}\r\nx-oct-client: ctedge-load\r\nx-oct-compression: none\r\n{extra_headers}",
            base64::engine::general_purpose::STANDARD.encode(key)
        );
        let path = endpoint.below("/socket.io/?EIO=4&transport=websocket");
        let channel =
            Channel::open(endpoint, &path, &headers, node_header).await.context("the transport was refused")?;
        channel.queue(Opcode::Text, b"40");
        Ok(Self {
            index,
            channel,
            id: OnceCell::new(),
            identified: Notify::new(),
            room_start,
            accounts: RefCell::default(),
            template: RefCell::default(),
            sent: Cell::new(0),
            sent_delivered: Cell::new(0),
            failure: RefCell::default(),
        })
    }

    /// Waits until the server has told this peer its id.
    pub(crate) async fn identified(&self) -> Result<&str> {
        loop {
            if let Some(id) = self.id.get() {
                return Ok(id);
            }
            if let Some(failure) = &*self.failure.borrow() {
                bail!("the connection ended before the peer had an id: {failure}");
            }
            self.identified.notified().await;
        }
    }

    /// Reads until the connection ends. Deliveries go to `traffic`.
    pub(crate) async fn run(&self, traffic: &Traffic) {
        let mut now = None;
        let result = self
            .channel
            .run(|event| match event {
                Event::Binary(message) => {
                    let now = *now.get_or_insert_with(Instant::now);
                    if let Err(error) = self.receive(message, now, traffic) {
                        traffic.fault("corrupted", || format!("peer {}: {error:#}", self.index));
                    }
                }
                Event::Text(packet) => self.receive_packet(packet),
                Event::BatchEnd => {
                    now = None;
                    traffic.batch_ended();
                }
            })
            .await;
        let reason = result.map_or_else(|error| format!("{error:#}"), |()| "closed by the server".into());
        self.failure.borrow_mut().get_or_insert(reason);
        self.identified.notify_one();
    }

    fn receive_packet(&self, packet: &[u8]) {
        match packet {
            b"2" => self.channel.queue(Opcode::Text, b"3"),
            // A Socket.IO disconnect, or a refused CONNECT with its reason.
            [b'4', b'1' | b'4', ..] => {
                let reason = format!("the server said {}", String::from_utf8_lossy(packet));
                self.failure.borrow_mut().get_or_insert(reason);
                self.identified.notify_one();
            }
            _ => {}
        }
    }

    fn receive(&self, message: &[u8], now: Instant, traffic: &Traffic) -> Result<()> {
        let arrival = envelope::read(message)?;
        let Some(content) = arrival.content else { return self.receive_from_server(message) };
        let stamp = Stamp::read(content).context("a content is too short")?;
        if envelope::filling(content) != traffic.filling() {
            bail!("the content of message {} of peer {} has changed", stamp.number, stamp.sender);
        }
        let position = (stamp.sender as usize).wrapping_sub(self.room_start);
        let sender = traffic.peer(stamp.sender as usize);
        let mut accounts = self.accounts.borrow_mut();
        let (Some(sender), Some(account)) = (sender, accounts.get_mut(position)) else {
            traffic.fault("misrouted", || {
                format!("peer {} got a message of peer {} of another room", self.index, stamp.sender)
            });
            return Ok(());
        };
        if arrival.keys != 1 || Some(arrival.key_target) != self.id.get().map(String::as_str) {
            traffic.fault("misrouted", || {
                format!("peer {} got {} keys, the first for {:?}", self.index, arrival.keys, arrival.key_target)
            });
        }
        if Some(arrival.origin) != sender.id.get().map(String::as_str) {
            bail!("a message of peer {} has the origin {:?}", stamp.sender, arrival.origin);
        }
        match account.arrived(stamp.number) {
            Verdict::InOrder => {}
            Verdict::OutOfOrder => traffic.fault("out of order", || describe(self.index, stamp)),
            Verdict::Duplicate => {
                traffic.fault("duplicated", || describe(self.index, stamp));
                return Ok(());
            }
        }
        traffic.delivered(sender, stamp, now);
        Ok(())
    }

    /// The few messages of the server itself: our own identity, and guests that ask this host to join.
    fn receive_from_server(&self, message: &[u8]) -> Result<()> {
        let message = rmpv::decode::read_value(&mut &*message)?;
        let content = field(&message, "content");
        match content.and_then(|content| field(content, "method")).and_then(Value::as_str) {
            Some("peer/info") => {
                let peer =
                    content.and_then(|content| field(content, "params")).and_then(|params| params.as_array()?.first());
                let id =
                    peer.and_then(|peer| field(peer, "id")).and_then(Value::as_str).context("peer/info has no id")?;
                let _ = self.id.set(id.to_owned());
                self.identified.notify_one();
            }
            Some("peer/join") => {
                let id = field(&message, "id").context("peer/join has no id")?;
                self.send(&envelope::consent(id.clone())?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Queues one protocol message.
    pub(crate) fn send(&self, message: &[u8]) {
        self.channel.queue(Opcode::Text, EVENT_HEAD);
        self.channel.queue(Opcode::Binary, message);
    }
}

fn describe(receiver: usize, stamp: Stamp) -> String {
    format!("message {} of peer {} to peer {receiver}", stamp.number, stamp.sender)
}
