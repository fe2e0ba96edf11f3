//! One peer of a session, whose client comes back after every cut of its transport the way the stock npm client does.
//!
//! After a cut it waits 1 s ± 50 %, doubled up to 5 s as long as it is refused; it shows the same token, and in its
//! CONNECT the `pid` and the offset of the last event it has seen. What is due meanwhile is kept and sent at its return.
//! It takes a Socket.IO disconnect, or a refused CONNECT, for an end, as that client does, and a packet of an unknown type
//! for a reason to close at once and to come back.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use tokio::sync::Notify;

use super::books::Books;
use super::recovery::{Recovery, Return};
use crate::channel::{Channel, Event};
use crate::endpoint::Endpoint;
use crate::frame::Opcode;
use crate::http1::Refused;
use crate::relay::account::{Account, Verdict};
use crate::relay::envelope::{self, Stamp, Template};

const EVENT_HEAD: &[u8] = br#"451-["message",{"_placeholder":true,"num":0}]"#;

/// `reconnectionDelay`, `reconnectionDelayMax`, `timeout` of the stock client.
const RETURN_AFTER: Duration = Duration::from_secs(1);
const RETURN_AFTER_MAX: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// How long what is queued may take to be written after a polite goodbye.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// What a client is connected with.
pub(crate) struct Entrance {
    pub(crate) endpoint: Endpoint,
    pub(crate) node_header: String,
    pub(crate) headers: String,
}

pub(crate) struct Participant {
    pub(crate) index: usize,
    pub(crate) session: usize,
    /// The index of the session's first peer, its host.
    pub(crate) session_start: usize,
    pub(crate) id: OnceCell<String>,
    entrance: Entrance,
    /// The channel, while the server has let this peer in.
    channel: RefCell<Option<Rc<Channel>>>,
    /// Whether the client has closed the channel that still runs, and so hears nothing of it.
    is_deaf: Cell<bool>,
    recovery: RefCell<Recovery>,
    /// No word from the server for this long means a dead transport.
    silence_max: Cell<Duration>,
    last_packet: Cell<Instant>,
    pub(crate) template: RefCell<Option<Template>>,
    /// What was due without a transport.
    waiting: RefCell<VecDeque<Stamp>>,
    /// How many messages were due, and how many at the beginning of each phase.
    due: Cell<u64>,
    due_at_phase: RefCell<Vec<u64>>,
    /// What must come from each peer of the session, by position.
    pub(crate) accounts: RefCell<Vec<Account>>,
    last_heard: Cell<Option<Instant>>,
    longest_silence: Cell<Duration>,
    /// Why it does not come back.
    gone: RefCell<Option<String>>,
    changed: Notify,
}

impl Participant {
    pub(crate) fn new(index: usize, (session, session_start): (usize, usize), entrance: Entrance) -> Self {
        Self {
            index,
            session,
            session_start,
            id: OnceCell::new(),
            entrance,
            channel: RefCell::default(),
            is_deaf: Cell::new(false),
            recovery: RefCell::default(),
            silence_max: Cell::new(Duration::from_secs(45)),
            last_packet: Cell::new(Instant::now()),
            template: RefCell::default(),
            waiting: RefCell::default(),
            due: Cell::new(0),
            due_at_phase: RefCell::new(vec![0]),
            accounts: RefCell::default(),
            last_heard: Cell::new(None),
            longest_silence: Cell::new(Duration::ZERO),
            gone: RefCell::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.channel.borrow().is_some()
    }

    /// Waits until the server has told this peer its id.
    pub(crate) async fn identified(&self) -> Result<&str> {
        while self.id.get().is_none() {
            if let Some(reason) = &*self.gone.borrow() {
                bail!("the peer was refused: {reason}");
            }
            self.changed.notified().await;
        }
        self.id.get().map(String::as_str).context("it has an id")
    }

    pub(crate) fn begin_phase(&self) {
        self.due_at_phase.borrow_mut().push(self.due.get());
        self.longest_silence.set(Duration::ZERO);
    }

    /// Which of its messages were due in each phase.
    pub(crate) fn phases(&self) -> Vec<(u64, u64)> {
        let starts = self.due_at_phase.borrow();
        let ends = starts.iter().skip(1).copied().chain([self.due.get()]);
        starts.iter().copied().zip(ends).collect()
    }

    fn phase_of(&self, number: u64) -> usize {
        self.due_at_phase.borrow().partition_point(|start| *start <= number).saturating_sub(1)
    }

    /// The longest silence since the phase began, the one that lasts included.
    pub(crate) fn longest_silence(&self, now: Instant) -> Duration {
        let lasting = self.last_heard.get().map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        self.longest_silence.get().max(lasting)
    }

    /// The silence at a run's end is no server's.
    pub(crate) fn stop_listening(&self) {
        self.last_heard.set(None);
    }

    pub(crate) fn sent(&self) -> u64 {
        self.due.get()
    }

    /// Connects again and again until it is told not to.
    pub(crate) async fn live(self: Rc<Self>, books: Rc<Books>) {
        let mut refusals = 0;
        loop {
            match tokio::time::timeout(CONNECT_WITHIN, self.open()).await {
                Ok(Ok(channel)) => {
                    refusals = 0;
                    self.attend(Rc::new(channel), &books).await;
                }
                Ok(Err(error)) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 421) => {
                    books.sent_to_wrong_node(self.session);
                }
                Ok(Err(_)) => books.count("handshakes refused otherwise"),
                Err(_) => books.count("handshakes timed out"),
            }
            self.changed.notify_one();
            if self.gone.borrow().is_some() || books.is_over.get() {
                return;
            }
            tokio::time::sleep(self.pause_before_return(refusals)).await;
            refusals += 1;
        }
    }

    /// Between half and one and a half of the delay, at random: many clients must not come back at once.
    fn pause_before_return(&self, refusals: u32) -> Duration {
        use std::hash::{BuildHasher as _, RandomState};
        let delay = (RETURN_AFTER * 2_u32.pow(refusals.min(8))).min(RETURN_AFTER_MAX);
        let random = (RandomState::new().hash_one(self.index) % 1001) as f64 / 1000.0;
        delay.mul_f64(0.5 + random)
    }

    async fn open(&self) -> Result<Channel> {
        let Entrance { endpoint, node_header, headers } = &self.entrance;
        let path = endpoint.below("/socket.io/?EIO=4&transport=websocket");
        Channel::open(endpoint, &path, headers, node_header).await
    }

    /// Uses a channel until it ends.
    async fn attend(&self, channel: Rc<Channel>, books: &Books) {
        self.is_deaf.set(false);
        let connect = self.recovery.borrow().connect();
        channel.queue(Opcode::Text, connect.as_bytes());
        self.last_packet.set(Instant::now());
        let reading = channel.run(|event| self.hear(event, &channel, books));
        tokio::select! {
            _ = reading => {
                let _ = tokio::time::timeout(FINISH_WITHIN, channel.finish()).await;
            }
            () = self.silent_for_too_long() => books.count("transports given up as dead"),
        }
        *self.channel.borrow_mut() = None;
        if !books.is_over.get() {
            books.transport_cut(self.session);
        }
    }

    async fn silent_for_too_long(&self) {
        while self.last_packet.get().elapsed() < self.silence_max.get() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn hear(&self, event: Event<'_>, channel: &Rc<Channel>, books: &Books) {
        if self.is_deaf.get() {
            return;
        }
        self.last_packet.set(Instant::now());
        match event {
            Event::Text(packet) => self.hear_packet(packet, channel, books),
            Event::Binary(message) => {
                if let Err(error) = self.hear_message(message, books) {
                    books.report.borrow_mut().fault("corrupted", || format!("peer {}: {error:#}", self.index));
                }
                self.recovery.borrow_mut().event_read();
            }
            Event::BatchEnd => self.recovery.borrow_mut().turn_over(),
        }
    }

    fn hear_packet(&self, packet: &[u8], channel: &Rc<Channel>, books: &Books) {
        match packet {
            b"2" => channel.queue(Opcode::Text, b"3"),
            [b'0', json @ ..] => {
                let open: Json = serde_json::from_slice(json).unwrap_or_default();
                if let (Some(interval), Some(timeout)) = (open["pingInterval"].as_u64(), open["pingTimeout"].as_u64()) {
                    self.silence_max.set(Duration::from_millis(interval + timeout));
                }
            }
            [b'4', b'0', json @ ..] => self.let_in(json, channel, books),
            // A Socket.IO disconnect, or a refused CONNECT with its reason.
            [b'4', b'1' | b'4', ..] => {
                let reason = String::from_utf8_lossy(packet).into_owned();
                books.lose(self.session, || format!("peer {} was told {reason}", self.index));
                self.gone.borrow_mut().get_or_insert(reason);
            }
            [b'4', b'5', ..] => self.recovery.borrow_mut().event_begins(packet),
            [b'7'..=b'9', ..] => self.close_at_once(channel),
            _ => {}
        }
    }

    fn let_in(&self, json: &[u8], channel: &Rc<Channel>, books: &Books) {
        let answer: Json = serde_json::from_slice(json).unwrap_or_default();
        match self.recovery.borrow_mut().let_in(answer["pid"].as_str().map(str::to_owned)) {
            Return::First => {}
            Return::Recovered => books.count("returns recovered"),
            Return::IntoAnotherLife => books.count("returns into another life of the session"),
        }
        books.served_by(self.session, &channel.node);
        *self.channel.borrow_mut() = Some(channel.clone());
        for stamp in std::mem::take(&mut *self.waiting.borrow_mut()) {
            self.write(channel, stamp);
        }
        self.changed.notify_one();
    }

    fn hear_message(&self, message: &[u8], books: &Books) -> Result<()> {
        let arrival = envelope::read(message)?;
        let Some(content) = arrival.content else { return self.hear_server(message, books) };
        let stamp = Stamp::read(content).context("a content is too short")?;
        let position = (stamp.sender as usize).wrapping_sub(self.session_start);
        let participants = books.participants.borrow();
        let mut accounts = self.accounts.borrow_mut();
        let (Some(sender), Some(account)) = (participants.get(stamp.sender as usize), accounts.get_mut(position))
        else {
            bail!("a message of peer {} of another session arrived", stamp.sender);
        };
        let now = Instant::now();
        let silence = self.last_heard.replace(Some(now)).map_or(Duration::ZERO, |heard| now - heard);
        self.longest_silence.set(self.longest_silence.get().max(silence));
        let what = match account.arrived(stamp.number) {
            Verdict::InOrder => None,
            Verdict::OutOfOrder => Some("messages reordered"),
            Verdict::Duplicate => Some("messages duplicated"),
        };
        if let Some(what) = what {
            books.misdelivered(what, sender.phase_of(stamp.number), || {
                format!("message {} of peer {} to peer {}, at {}", stamp.number, sender.index, self.index, self.place())
            });
        }
        if what != Some("messages duplicated") {
            books.deliveries.set(books.deliveries.get() + 1);
        }
        Ok(())
    }

    /// Where this peer is connected, for people who look for the cause of a fault.
    fn place(&self) -> String {
        self.channel.borrow().as_ref().map_or_else(|| "no node yet".to_owned(), |channel| channel.node.clone())
    }

    /// The server's own messages: who we are, who wants to join, and what must not happen to anybody of the session.
    fn hear_server(&self, message: &[u8], books: &Books) -> Result<()> {
        let message = rmpv::decode::read_value(&mut &*message)?;
        let content = envelope::field(&message, "content");
        let param = content.and_then(|content| envelope::field(content, "params")?.as_array()?.first());
        let id = param.and_then(|peer| envelope::field(peer, "id")?.as_str());
        let lose = |reason: String| books.lose(self.session, || reason);
        match content.and_then(|content| envelope::field(content, "method")?.as_str()) {
            Some("peer/info") => {
                let id = id.context("peer/info has no id")?;
                let known = self.id.get_or_init(|| id.to_owned());
                if known != id {
                    lose(format!("peer {} is {id} and was {known}", self.index));
                }
                self.changed.notify_one();
            }
            Some("peer/join") => {
                let request = envelope::field(&message, "id").context("peer/join has no id")?;
                if let Some(channel) = &*self.channel.borrow() {
                    channel.queue(Opcode::Text, EVENT_HEAD);
                    channel.queue(Opcode::Binary, &envelope::consent(request.clone())?);
                }
            }
            Some("room/left") => {
                let participants = books.participants.borrow();
                let member = participants.iter().find(|peer| peer.id.get().map(String::as_str) == id);
                if let Some(member) = member.filter(|_| id.is_some()) {
                    lose(format!("peer {} was told that peer {} has left", self.index, member.index));
                }
            }
            Some("room/closed") => lose(format!("peer {} was told that the room is closed", self.index)),
            _ => {}
        }
        Ok(())
    }

    /// Another message is due: it is sent, or kept until there is a transport.
    pub(crate) fn say(&self, due_ns: u64) {
        let stamp = Stamp { sender: self.index as u32, number: self.due.get(), due_ns };
        self.due.set(stamp.number + 1);
        match &*self.channel.borrow() {
            Some(channel) if channel.is_open() => {
                self.write(channel, stamp);
                channel.flush();
            }
            _ => self.waiting.borrow_mut().push_back(stamp),
        }
    }

    fn write(&self, channel: &Channel, stamp: Stamp) {
        if let Some(template) = &mut *self.template.borrow_mut() {
            channel.queue(Opcode::Text, EVENT_HEAD);
            channel.queue(Opcode::Binary, template.stamped(stamp));
        }
    }

    /// What is due from here on is kept for the next transport.
    fn close_at_once(&self, channel: &Channel) {
        self.recovery.borrow_mut().closed();
        self.is_deaf.set(true);
        *self.channel.borrow_mut() = None;
        channel.close();
    }

    /// Closes the transport politely; the client comes back by itself.
    pub(crate) fn hang_up(&self) {
        if let Some(channel) = self.channel.take() {
            channel.close();
        }
    }

    /// Leaves the session for good.
    pub(crate) fn leave(&self, farewell: &[u8]) {
        if let Some(channel) = &*self.channel.borrow() {
            channel.queue(Opcode::Text, EVENT_HEAD);
            channel.queue(Opcode::Binary, farewell);
            channel.flush();
        }
    }
}
