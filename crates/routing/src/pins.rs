//! The bounded memory of where keys live.
//!
//! A pin is made before its key's first request leaves, and whoever inserts first decides for all: two first requests
//! of one key that race each other meet here and go to the same node. After that a pin changes its node only when the
//! node is down, when the nodes say that the owner is another one, or when nothing can live under the key yet. Where the
//! nodes share ownership a pin is a cache only, and also yields when its node cannot be reached.
//!
//! Under pressure the pin goes whose loss hurts least. Keys that were asked for once (scanners, health probes, clients
//! that keep no cookie) have a quarter of the room and cannot push out those that were asked for again; a key with an
//! open tunnel goes last of all. Within a shard the order is that of the last use; between shards it is not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ctedge_wire::Key;
use parking_lot::Mutex;
use serde::Serialize;

use crate::lru::{KeyHashing, Lru};
use crate::node::Node;

/// More shards than cores that serve, so that two requests rarely want one lock.
const SHARDS_MAX: usize = 64;

/// A shard for less would only make the order of eviction worse.
const PINS_PER_SHARD_MIN: usize = 256;

/// Keys that were asked for once keep one of this many places.
const ONCE_SHARE: usize = 4;

/// Why a key lives where it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinReason {
    /// Placement ranks the node first.
    Placed,
    /// Nodes of better ranks took no new keys or could not be reached.
    NextRank,
    /// Nodes of better ranks had more than their share.
    LoadBound,
    /// The node where the key lived is down.
    Failover,
    /// A node answered 421 and named the owner.
    Redirect,
    /// A tunnel was open to the node when nothing else was known of the key.
    Tunnel,
    /// The node where the key lived gave it to this one.
    Handoff,
    /// The node where the key lived could not be reached, and this one has become the owner.
    Takeover,
}

impl PinReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Placed,
        Self::NextRank,
        Self::LoadBound,
        Self::Failover,
        Self::Redirect,
        Self::Tunnel,
        Self::Handoff,
        Self::Takeover,
    ];

    /// The word of logs, metrics and the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::NextRank => "next_rank",
            Self::LoadBound => "load_bound",
            Self::Failover => "failover",
            Self::Redirect => "redirect",
            Self::Tunnel => "tunnel",
            Self::Handoff => "handoff",
            Self::Takeover => "takeover",
        }
    }
}

/// Why a request had to be redirected: what was known of its key when a node said that it is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RedirectReason {
    /// Nobody had answered as its owner: placement alone had a say.
    Unknown,
    /// The node that is asked was its owner, and has given it to another.
    Handoff,
    /// The node where the key lived could not be reached, and another was asked instead.
    Failover,
    /// Another node was its owner, and that has changed.
    Moved,
    /// Another request has found the owner since this one was sent.
    Meanwhile,
    /// A fresher answer names another owner: this one is not believed.
    NotBelieved,
    /// The request belongs to another key, which only its body says.
    OtherKey,
    /// The owner is no node that is known here, and cannot become one.
    UnknownNode,
}

impl RedirectReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Handoff,
        Self::Failover,
        Self::Moved,
        Self::Meanwhile,
        Self::NotBelieved,
        Self::OtherKey,
        Self::UnknownNode,
    ];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Handoff => "handoff",
            Self::Failover => "failover",
            Self::Moved => "moved",
            Self::Meanwhile => "meanwhile",
            Self::NotBelieved => "not_believed",
            Self::OtherKey => "other_key",
            Self::UnknownNode => "unknown_node",
        }
    }
}

/// A remembered answer: this key lives on that node.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    pub(crate) node: Arc<Node>,
    pub(crate) reason: PinReason,
    /// The highest ownership epoch that a redirect named or an owner answered with, 0 before any.
    pub(crate) epoch: u64,
    /// Who owns the key at that epoch.
    pub(crate) owner: Option<Arc<Node>>,
    /// Whether it was logged that the key had two owners.
    pub(crate) told: bool,
    /// When the key came to the node.
    pub(crate) since: Instant,
    pub(crate) last_seen: Instant,
    pub(crate) tunnels: u32,
    /// Whether the key was asked for more than once.
    pub(crate) again: bool,
    /// Whether the node has answered for the key, so that something may live there.
    pub(crate) settled: bool,
    /// Tells this pin's tunnels from those to another node, or of an evicted pin of the same key.
    pub(crate) serial: u64,
}

/// Which pins are given up before which, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    Once,
    Again,
    Tunnel,
}

impl Rank {
    pub(crate) const COUNT: usize = 3;
}

impl Pin {
    pub(crate) fn rank(&self) -> Rank {
        match (self.tunnels, self.again) {
            (0, false) => Rank::Once,
            (0, true) => Rank::Again,
            _ => Rank::Tunnel,
        }
    }

    /// Takes the key to another node. Tunnels to the node that it leaves do not count for it any more.
    pub(crate) fn move_to(&mut self, node: &Arc<Node>, reason: PinReason, serial: u64, now: Instant) {
        node.pin_added();
        std::mem::replace(&mut self.node, node.clone()).pin_removed();
        (self.reason, self.serial, self.since) = (reason, serial, now);
        (self.tunnels, self.settled) = (0, false);
    }

    /// Whether something may live under the key where it is.
    pub(crate) fn holds(&self) -> bool {
        self.settled || self.tunnels > 0
    }

    /// Whether moving the key could take it away from what lives under it. Nodes that share ownership prevent that
    /// themselves: for them a pin is a cache, and whoever is asked instead finds out who owns the key.
    pub(crate) fn binds(&self) -> bool {
        self.holds() && !self.node.shares_ownership()
    }

    /// Takes note of who owns the key since `epoch`.
    pub(crate) fn learn(&mut self, owner: &Arc<Node>, epoch: u64) {
        (self.epoch, self.owner) = (epoch, Some(owner.clone()));
    }

    /// Whether the key is known to be owned by another node at this very epoch.
    pub(crate) fn contradicts(&self, node: &Node, epoch: u64) -> bool {
        let is_other = |owner: &Arc<Node>| owner.address() != node.address();
        epoch == self.epoch && self.owner.as_ref().is_some_and(is_other)
    }
}

/// How many pins there are, and what became of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PinCounts {
    /// Pins by the order of [`PinReason::ALL`].
    pub by_reason: [usize; PinReason::ALL.len()],
    /// How often keys were given a place for each reason, by the order of [`PinReason::ALL`], ever.
    pub places: [u64; PinReason::ALL.len()],
    /// Pins given up for want of room, ever.
    pub evicted: u64,
    /// Those of them that had an open tunnel: the bound on pins is too low.
    pub evicted_with_tunnel: u64,
    /// Pins that were not used for too long, ever.
    pub expired: u64,
    /// Keys that moved because their node was down, ever.
    pub failovers: u64,
    /// Redirects that nodes answered with, by the order of [`RedirectReason::ALL`], ever.
    pub redirects: [u64; RedirectReason::ALL.len()],
}

impl PinCounts {
    /// How many pins there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.by_reason.iter().sum()
    }
}

/// The pins of one balancer. All methods may be called from any thread.
#[derive(Debug)]
pub(crate) struct Pins {
    shards: Box<[Mutex<Lru>]>,
    hashing: KeyHashing,
    count_max: AtomicUsize,
    /// In milliseconds.
    idle_max: AtomicU64,
    /// Pins that are in a shard or about to be inserted.
    count: AtomicUsize,
    serial: AtomicU64,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    by_reason: [AtomicUsize; PinReason::ALL.len()],
    places: [AtomicU64; PinReason::ALL.len()],
    evicted: AtomicU64,
    evicted_with_tunnel: AtomicU64,
    expired: AtomicU64,
    failovers: AtomicU64,
    redirects: [AtomicU64; RedirectReason::ALL.len()],
}

impl Pins {
    /// Room for `count_max` pins, which expire when they are not used for `idle_max`.
    pub(crate) fn new(seed: u64, count_max: usize, idle_max: Duration) -> Self {
        let shards = (count_max / PINS_PER_SHARD_MIN).clamp(1, SHARDS_MAX);
        let hashing = KeyHashing { seed };
        Self {
            shards: (0..shards).map(|_| Mutex::new(Lru::new(hashing))).collect(),
            hashing,
            count_max: AtomicUsize::new(count_max.max(1)),
            idle_max: AtomicU64::new(milliseconds(idle_max)),
            count: AtomicUsize::new(0),
            serial: AtomicU64::new(0),
            tally: Tally::default(),
        }
    }

    /// Takes other bounds, after a reload. A lower bound is reached by evictions as keys come in, and by
    /// [`Self::expire`].
    pub(crate) fn set_bounds(&self, count_max: usize, idle_max: Duration) {
        self.count_max.store(count_max.max(1), Ordering::Relaxed);
        self.idle_max.store(milliseconds(idle_max), Ordering::Relaxed);
    }

    /// Runs `change` on the key's pin, if it has one, and marks it as used.
    pub(crate) fn update<R>(&self, key: &Key, now: Instant, change: impl FnOnce(&mut Pin) -> R) -> Option<R> {
        let mut shard = self.shard(key).lock();
        let slot = self.find_fresh(&mut shard, key, now)?;
        Some(self.change(&mut shard, slot, now, change))
    }

    /// Runs `change` on the key's pin; without one, the pin of `make` is inserted first.
    pub(crate) fn update_or_insert<R>(
        &self,
        key: &Key,
        now: Instant,
        make: impl FnOnce() -> (Arc<Node>, PinReason),
        change: impl FnOnce(&mut Pin) -> R,
    ) -> R {
        {
            let mut shard = self.shard(key).lock();
            if let Some(slot) = self.find_fresh(&mut shard, key, now) {
                return self.change(&mut shard, slot, now, change);
            }
        }
        // The room is made while no shard is locked, because it may be another shard that has to give it.
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.count_max.load(Ordering::Relaxed) {
            self.evict(self.shard_of(key));
        }
        let mut shard = self.shard(key).lock();
        let slot = match self.find_fresh(&mut shard, key, now) {
            Some(slot) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                slot
            }
            None => {
                let (node, reason) = make();
                self.insert(&mut shard, key, node, reason, now)
            }
        };
        self.change(&mut shard, slot, now, change)
    }

    /// The key's pin as it is, without marking it as used.
    pub(crate) fn peek(&self, key: &Key, now: Instant) -> Option<Pin> {
        let shard = self.shard(key).lock();
        let pin = shard.pin(shard.find(key)?);
        (!self.is_expired(pin, now)).then(|| pin.clone())
    }

    /// Removes what was not used for too long, and what is above the bound. Returns how many pins went.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let expired = self.shards.iter().map(|shard| self.expire_shard(&mut shard.lock(), now)).sum::<usize>();
        let mut evicted = 0;
        while self.count.load(Ordering::Relaxed) > self.count_max.load(Ordering::Relaxed) && self.evict(evicted) {
            evicted += 1;
        }
        expired + evicted
    }

    pub(crate) fn counts(&self) -> PinCounts {
        PinCounts {
            by_reason: std::array::from_fn(|reason| self.tally.by_reason[reason].load(Ordering::Relaxed)),
            places: std::array::from_fn(|reason| self.tally.places[reason].load(Ordering::Relaxed)),
            evicted: self.tally.evicted.load(Ordering::Relaxed),
            evicted_with_tunnel: self.tally.evicted_with_tunnel.load(Ordering::Relaxed),
            expired: self.tally.expired.load(Ordering::Relaxed),
            failovers: self.tally.failovers.load(Ordering::Relaxed),
            redirects: std::array::from_fn(|reason| self.tally.redirects[reason].load(Ordering::Relaxed)),
        }
    }

    /// A serial for a pin that moves.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn count_redirect(&self, reason: RedirectReason) {
        self.tally.redirects[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failover(&self) {
        self.tally.failovers.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes a pin, keeps the counts by reason, and marks it as used.
    fn change<R>(&self, shard: &mut Lru, slot: u32, now: Instant, change: impl FnOnce(&mut Pin) -> R) -> R {
        let pin = shard.pin_mut(slot);
        let (reason, serial) = (pin.reason, pin.serial);
        let result = change(pin);
        pin.last_seen = pin.last_seen.max(now);
        // A serial stands for one stay at one node.
        if pin.reason != reason || pin.serial != serial {
            self.tally.places[pin.reason as usize].fetch_add(1, Ordering::Relaxed);
        }
        if pin.reason != reason {
            self.tally.by_reason[reason as usize].fetch_sub(1, Ordering::Relaxed);
            self.tally.by_reason[pin.reason as usize].fetch_add(1, Ordering::Relaxed);
        }
        shard.touch(slot);
        result
    }

    fn insert(&self, shard: &mut Lru, key: &Key, node: Arc<Node>, reason: PinReason, now: Instant) -> u32 {
        node.pin_added();
        self.tally.by_reason[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.tally.places[reason as usize].fetch_add(1, Ordering::Relaxed);
        let serial = self.next_serial();
        let pin = Pin {
            node,
            reason,
            epoch: 0,
            owner: None,
            told: false,
            since: now,
            last_seen: now,
            tunnels: 0,
            again: false,
            settled: false,
            serial,
        };
        shard.insert(key.clone(), pin)
    }

    fn find_fresh(&self, shard: &mut Lru, key: &Key, now: Instant) -> Option<u32> {
        let slot = shard.find(key)?;
        if self.is_expired(shard.pin(slot), now) {
            self.remove(shard, slot);
            self.tally.expired.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(slot)
    }

    fn is_expired(&self, pin: &Pin, now: Instant) -> bool {
        let idle = now.saturating_duration_since(pin.last_seen);
        pin.tunnels == 0 && idle > Duration::from_millis(self.idle_max.load(Ordering::Relaxed))
    }

    fn remove(&self, shard: &mut Lru, slot: u32) -> Pin {
        let pin = shard.remove(slot);
        pin.node.pin_removed();
        self.tally.by_reason[pin.reason as usize].fetch_sub(1, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
        pin
    }

    fn expire_shard(&self, shard: &mut Lru, now: Instant) -> usize {
        let mut expired = 0;
        for rank in [Rank::Once, Rank::Again] {
            while let Some(slot) = shard.oldest(rank).filter(|slot| self.is_expired(shard.pin(*slot), now)) {
                self.remove(shard, slot);
                expired += 1;
            }
        }
        self.tally.expired.fetch_add(expired as u64, Ordering::Relaxed);
        expired
    }

    /// Gives up one pin, of the shard `first` if it has one without a tunnel. No lock is held while another is taken.
    fn evict(&self, first: usize) -> bool {
        let shards = self.shards.len();
        let in_turn = |offset: usize| &self.shards[(first + offset) % shards];
        let given_up = (0..shards).find_map(|offset| self.evict_from(&mut in_turn(offset).lock(), expendable));
        let given_up = given_up.or_else(|| {
            (0..shards)
                .find_map(|offset| self.evict_from(&mut in_turn(offset).lock(), |shard| shard.oldest(Rank::Tunnel)))
        });
        given_up.is_some()
    }

    fn evict_from(&self, shard: &mut Lru, which: impl FnOnce(&Lru) -> Option<u32>) -> Option<Pin> {
        let slot = which(shard)?;
        let pin = self.remove(shard, slot);
        self.tally.evicted.fetch_add(1, Ordering::Relaxed);
        if pin.tunnels > 0 {
            self.tally.evicted_with_tunnel.fetch_add(1, Ordering::Relaxed);
        }
        Some(pin)
    }

    fn shard_of(&self, key: &Key) -> usize {
        // The low bits choose the place in the shard's table; the high ones are as good and independent of them.
        (self.hashing.hash(key) >> 32) as usize % self.shards.len()
    }

    fn shard(&self, key: &Key) -> &Mutex<Lru> {
        &self.shards[self.shard_of(key)]
    }
}

/// The pin without a tunnel that is given up first.
fn expendable(shard: &Lru) -> Option<u32> {
    let [once, again] = [Rank::Once, Rank::Again].map(|rank| shard.oldest(rank));
    let once_has_its_share = shard.len(Rank::Once) * ONCE_SHARE > shard.len(Rank::Once) + shard.len(Rank::Again);
    if once_has_its_share { once } else { again.or(once) }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
