//! What all peers share while messages flow: the schedule or the window that sends them, and the books.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::envelope::{self, STAMP_BYTES, Stamp};
use super::peer::Peer;
use crate::pace::Pacer;
use crate::report::{self, Report};

/// At most this many sends between two turns of the readers, when the schedule has fallen behind.
const BURST_MAX: u64 = 64;

/// The shared state of a run.
pub(crate) struct Traffic {
    /// What due times are relative to.
    start: Instant,
    content: Vec<u8>,
    peers: OnceCell<Vec<Rc<Peer>>>,
    /// Deliveries to each peer but the sender.
    peers_per_room: usize,
    pub(crate) deliveries: Cell<u64>,
    pub(crate) latencies: RefCell<Histogram<u64>>,
    pub(crate) send_lags: RefCell<Histogram<u64>>,
    /// Latencies count for messages that are due from here on.
    measured_from_ns: Cell<u64>,
    /// Broadcasts that each peer keeps on their way; 0 when a schedule sends.
    window: u64,
    is_sending: Cell<bool>,
    /// Senders that may send again, or that have queued frames.
    touched: RefCell<Vec<usize>>,
    pub(crate) report: RefCell<Report>,
}

impl Traffic {
    pub(crate) fn new(message_bytes: usize, peers_per_room: usize, window: u64) -> Self {
        Self {
            start: Instant::now(),
            content: envelope::random_bytes("content", message_bytes.max(STAMP_BYTES)),
            peers: OnceCell::new(),
            peers_per_room,
            deliveries: Cell::new(0),
            latencies: RefCell::new(report::histogram()),
            send_lags: RefCell::new(report::histogram()),
            measured_from_ns: Cell::new(u64::MAX),
            window,
            is_sending: Cell::new(false),
            touched: RefCell::default(),
            report: RefCell::default(),
        }
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(crate) fn filling(&self) -> &[u8] {
        envelope::filling(&self.content)
    }

    pub(crate) fn peer(&self, index: usize) -> Option<&Rc<Peer>> {
        self.peers.get()?.get(index)
    }

    /// All peers, before anything is sent.
    pub(crate) fn set_peers(&self, peers: Vec<Rc<Peer>>) {
        let _ = self.peers.set(peers);
    }

    pub(crate) fn peers(&self) -> &[Rc<Peer>] {
        self.peers.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn fault(&self, name: &'static str, description: impl FnOnce() -> String) {
        self.report.borrow_mut().fault(name, description);
    }

    /// A message has arrived where it should.
    pub(crate) fn delivered(&self, sender: &Peer, stamp: Stamp, now: Instant) {
        self.deliveries.set(self.deliveries.get() + 1);
        sender.sent_delivered.set(sender.sent_delivered.get() + 1);
        if stamp.due_ns >= self.measured_from_ns.get() {
            let due = self.start + Duration::from_nanos(stamp.due_ns);
            report::record(&mut self.latencies.borrow_mut(), now.saturating_duration_since(due));
        }
        if self.window > 0 {
            self.touched.borrow_mut().push(sender.index);
        }
    }

    /// A reader has handled all that one read brought: senders whose window has opened send on.
    pub(crate) fn batch_ended(&self) {
        if self.window == 0 || !self.is_sending.get() {
            return;
        }
        let mut touched = std::mem::take(&mut *self.touched.borrow_mut());
        touched.sort_unstable();
        touched.dedup();
        let now = Instant::now();
        for index in touched.drain(..) {
            if let Some(peer) = self.peer(index) {
                self.fill_window(peer, now);
            }
        }
        // The list itself is kept for its memory.
        *self.touched.borrow_mut() = touched;
    }

    fn fill_window(&self, peer: &Peer, now: Instant) {
        let arrived = peer.sent_delivered.get() / (self.peers_per_room as u64 - 1).max(1);
        while peer.sent.get() < arrived + self.window {
            self.send(peer, now);
        }
        peer.channel.flush();
    }

    fn send(&self, peer: &Peer, due: Instant) {
        let due_ns = due.saturating_duration_since(self.start).as_nanos() as u64;
        let stamp = Stamp { sender: peer.index as u32, number: peer.sent.get(), due_ns };
        if let Some(template) = &mut *peer.template.borrow_mut() {
            peer.send(template.stamped(stamp));
            peer.sent.set(peer.sent.get() + 1);
        }
    }

    /// From this moment on, latencies count.
    pub(crate) fn measure_from(&self, moment: Instant) {
        self.measured_from_ns.set(moment.saturating_duration_since(self.start).as_nanos() as u64);
    }

    /// Sends by a schedule until `end`: every peer `per_second` times, evenly spread over all peers.
    pub(crate) async fn send_on_schedule(&self, begin: Instant, end: Instant, per_second: f64) -> Result<()> {
        let pacer = Pacer::new()?;
        let order = self.interleaved_order();
        let spacing = Duration::from_secs_f64(1.0 / (per_second * order.len() as f64));
        let due_at =
            |sequence: u64| begin + Duration::from_nanos((spacing.as_secs_f64() * 1e9 * sequence as f64) as u64);
        let mut sequence = 0;
        loop {
            let due = due_at(sequence);
            if due >= end {
                return Ok(());
            }
            pacer.until(due).await?;
            let now = Instant::now();
            let mut burst = 0;
            while due_at(sequence) <= now && due_at(sequence) < end && burst < BURST_MAX {
                let due = due_at(sequence);
                let peer = &self.peers()[order[(sequence % order.len() as u64) as usize]];
                self.send(peer, due);
                peer.channel.flush();
                if due >= self.start + Duration::from_nanos(self.measured_from_ns.get().min(i64::MAX as u64)) {
                    report::record(&mut self.send_lags.borrow_mut(), now.saturating_duration_since(due));
                }
                sequence += 1;
                burst += 1;
            }
        }
    }

    /// Keeps every peer's window full until `end`.
    pub(crate) async fn send_in_window(&self, end: Instant) {
        self.is_sending.set(true);
        for peer in self.peers() {
            self.fill_window(peer, Instant::now());
        }
        tokio::time::sleep_until(end.into()).await;
        self.is_sending.set(false);
    }

    /// Neighbours in the schedule belong to different rooms, as they would among strangers.
    fn interleaved_order(&self) -> Vec<usize> {
        let rooms = self.peers().len() / self.peers_per_room;
        (0..self.peers().len()).map(|turn| (turn % rooms) * self.peers_per_room + turn / rooms).collect()
    }

    /// Deliveries that are due for what has been sent.
    pub(crate) fn expected_deliveries(&self) -> u64 {
        self.peers().iter().map(|peer| peer.sent.get()).sum::<u64>() * (self.peers_per_room as u64 - 1)
    }

    /// What has been sent and never arrived.
    pub(crate) fn lost(&self) -> u64 {
        let mut lost = 0;
        for receiver in self.peers() {
            for (position, account) in receiver.accounts.borrow().iter().enumerate() {
                let sender = receiver.room_start + position;
                if sender != receiver.index {
                    lost += account.lost(self.peers()[sender].sent.get());
                }
            }
        }
        lost
    }
}
