//! Chooses the node of each request, and keeps the promise that a key with something alive under it stays where it is.
//!
//! The rules, in order:
//!
//! 1. A key that is pinned goes to its node, whatever has become of the list of nodes, as long as the node is not down.
//! 2. A key whose node is down goes on to the best node that takes new keys, and stays there when the other returns.
//! 3. A key that could not be reached on a node that is not down does not move once the node has answered for it: two
//!    nodes would serve one session. The request waits a moment and asks that node again, until it answers or is down.
//!    Where nodes share ownership, the key goes on to its next rank at once: that node finds out who owns it.
//! 4. A key without a pin goes where placement says. New keys go to ready nodes only, and obey the load bound; a key
//!    that a node issued goes to its first rank even if that one is draining or suspended.
//! 5. A node that says who owns a key is believed, unless a fresher answer is known, or that owner is known to go on with a
//!    lease that is over; the owner may be a node outside of the list. An owner that answers is held against what is known:
//!    one epoch has one owner, and epochs only rise.
//!
//! Choosing reads the pin, ranks, and writes the pin without a lock around all three. The write decides: it finds out
//! whether another request has placed or moved the key meanwhile, and then follows that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_placement::LoadBound;
use ctedge_wire::{HealthReport, Key, LeaseOver, NodeStatus};
use parking_lot::RwLock;

use crate::health::{ConnectFailure, StateChange, Thresholds};
use crate::node::{Node, NodeSpec};
use crate::pins::{Pin, PinCounts, PinReason, Pins, RedirectReason};
use crate::source::Standing;
use crate::table::NodeTable;

pub use crate::table::NodeChanges;

/// How often a key is minted in search of one whose first rank takes it. With one of three nodes ready, 32 tries miss
/// once in 400,000 keys; a miss costs nothing but the agreement of the first rank.
const MINT_TRIES_MAX: usize = 32;

/// What a router needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouterSettings {
    /// Keys the table of pins against strangers who choose keys.
    pub seed: u64,
    /// How many pins are kept.
    pub pins_max: usize,
    /// How long a key that nobody uses stays pinned.
    pub pin_idle_max: Duration,
    /// ε of the load bound.
    pub load_bound: f64,
    /// How many checks change a node's state.
    pub thresholds: Thresholds,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Choice {
    /// There.
    Node(Placed),
    /// Nowhere for now: its key lives on this node, which did not take the request and is not known to be down. It may be
    /// ending, or have come back since: ask it again in a moment, without it among the tried ones.
    Unreachable(Arc<Node>),
    /// Nowhere: no node takes it.
    NoneUp,
}

/// A key's place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The node.
    pub node: Arc<Node>,
    /// Why that one.
    pub reason: PinReason,
    /// Whether the node has answered for the key before. If not, [`Router::answered`] is due when it does.
    pub settled: bool,
    /// The ownership epoch that was known when the place was chosen, 0 without any.
    pub epoch: u64,
}

/// The owner of a key, as another node names it.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The name by which nodes know it.
    pub name: &'a str,
    /// Since when it owns the key.
    pub epoch: u64,
    /// Where it listens, if the other node knows.
    pub address: Option<SocketAddr>,
}

/// An owner's answer that must not be: another node has answered as the owner, or the ownership had passed on.
#[derive(Debug, Clone)]
pub struct TwoOwners {
    /// Who is known to be the owner.
    pub other: Option<Arc<Node>>,
    /// Since when.
    pub epoch: u64,
    /// Whether this is the first time that it is seen of this key.
    pub is_first: bool,
}

/// What to do after a redirect.
#[derive(Debug, Clone)]
pub enum Redirected {
    /// Go there: it is the owner.
    Owner(Placed),
    /// Go there: the answer was older than what is known.
    Stale(Placed),
    /// The owner is no node that this balancer knows, and cannot become one.
    UnknownNode,
}

/// An open tunnel of a key. It goes back through [`Router::tunnel_closed`].
#[derive(Debug)]
#[must_use = "the tunnel counts as open until the ticket is handed back"]
pub struct TunnelTicket {
    key: Key,
    node: Arc<Node>,
    serial: u64,
}

impl TunnelTicket {
    /// The node at the other end.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The key that the tunnel belongs to.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// The nodes, the pins, and the rules above. All methods may be called from any thread.
#[derive(Debug)]
pub struct Router {
    pub(crate) nodes: NodeTable,
    pub(crate) pins: Pins,
    load_bound: RwLock<LoadBound>,
    region: RwLock<Option<String>>,
}

impl Router {
    /// A router without nodes.
    #[must_use]
    pub fn new(settings: &RouterSettings) -> Self {
        Self {
            nodes: NodeTable::new(settings.thresholds),
            pins: Pins::new(settings.seed, settings.pins_max, settings.pin_idle_max),
            load_bound: RwLock::new(LoadBound::new(settings.load_bound)),
            region: RwLock::default(),
        }
    }

    /// Takes other settings, after a reload. The seed stays.
    pub fn set_settings(&self, settings: &RouterSettings) {
        self.nodes.set_thresholds(settings.thresholds);
        self.pins.set_bounds(settings.pins_max, settings.pin_idle_max);
        *self.load_bound.write() = LoadBound::new(settings.load_bound);
    }

    /// From the next checks of the nodes on, fresh keys go to nodes of this region as long as one of them takes new keys.
    pub fn prefer_region(&self, region: Option<&str>) {
        *self.region.write() = region.map(str::to_owned);
    }

    /// Takes another list of nodes. No pinned key moves: a node that is not in the list takes no new keys, keeps its
    /// own until it is down, and is found in [`Self::nodes`] as long as it must be checked.
    pub fn set_nodes(&self, specs: &[NodeSpec], now: Instant) -> NodeChanges {
        self.nodes.set(specs, now)
    }

    /// All nodes: those of the list, and those that still keep keys.
    #[must_use]
    pub fn nodes(&self) -> Arc<[Arc<Node>]> {
        self.nodes.all()
    }

    /// The node of that name. One of the list comes before one that is not.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<Arc<Node>> {
        self.nodes.by_id(id)
    }

    /// A check that was sent at `asked` found the node serving; `report` is what it said of itself, if it is one that
    /// does.
    pub fn check_succeeded(
        &self,
        node: &Node,
        report: Option<HealthReport>,
        asked: Instant,
        now: Instant,
    ) -> Option<StateChange> {
        node.reported(report.as_ref(), self.region.read().as_deref());
        node.with_health(|health| health.check_succeeded(report, asked, now))
    }

    /// A node said which leases are over. The nodes that go on with one of them all the same, and are down from now on.
    pub fn leases_over(&self, over: &[LeaseOver], now: Instant) -> Vec<(Arc<Node>, StateChange)> {
        let nodes = self.nodes();
        let named = over.iter().flat_map(|over| {
            let is_meant = |node: &&Arc<Node>| node.own_name() == over.node;
            nodes.iter().filter(is_meant).map(|node| (node, over.incarnation))
        });
        let change = |(node, incarnation): (&Arc<Node>, u64)| {
            let change = node.with_health(|health| health.lease_over(incarnation, now))?;
            Some((Arc::clone(node), change))
        };
        named.filter_map(change).collect()
    }

    /// A check of the node failed.
    pub fn check_failed(&self, node: &Node, reason: &str, now: Instant) -> Option<StateChange> {
        node.with_health(|health| health.check_failed(reason, now))
    }

    /// A request could not connect to the node.
    pub fn connect_failed(&self, node: &Node, failure: ConnectFailure, now: Instant) -> Option<StateChange> {
        node.with_health(|health| health.connect_failed(failure, now))
    }

    /// The operator wants the node to take so much, whatever it says itself: for servers that know no drain.
    pub fn order(&self, node: &Node, status: NodeStatus, now: Instant) -> Option<StateChange> {
        node.with_health(|health| health.ordered(status, now))
    }

    /// Chooses the node of a request.
    ///
    /// `ranked` yields the addresses of nodes as placement ranks them; it is only asked when the key has no pin that
    /// decides. `tried` are the nodes that this request could not reach, or that refused it without having done
    /// anything.
    pub fn choose(
        &self,
        key: &Key,
        standing: Standing,
        ranked: impl IntoIterator<Item = SocketAddr>,
        tried: &[Arc<Node>],
        now: Instant,
    ) -> Choice {
        let first_try = tried.is_empty();
        let pinned = self.pins.update(key, now, |pin| {
            pin.again |= first_try;
            (Placed::of(pin), pin.binds(), pin.holds())
        });
        let leaving = match pinned {
            Some((placed, ..)) if placed.is_open_to(tried) => return Choice::Node(placed),
            Some((placed, true, _)) if placed.node.state().serves_own() => return Choice::Unreachable(placed.node),
            pinned => pinned.map(|(placed, _, held)| Leaving { node: placed.node, held }),
        };
        self.place(key, standing, leaving, ranked, tried, now)
    }

    /// Mints a key and chooses its node. Minting goes on until the first rank takes the key, so that every balancer
    /// finds it by placement alone, without a pin or a redirect; only if that fails, a worse rank is taken. Where the
    /// balancer has a region, it goes on until that first rank is near as well, or no near one is found.
    pub fn choose_fresh<I: IntoIterator<Item = SocketAddr>>(
        &self,
        mut mint: impl FnMut() -> Key,
        mut rank: impl FnMut(&Key) -> I,
        now: Instant,
    ) -> (Key, Choice) {
        let key = self.mint(&mut mint, &mut rank);
        let choice = self.choose(&key, Standing::Fresh, rank(&key), &[], now);
        (key, choice)
    }

    fn mint<I: IntoIterator<Item = SocketAddr>>(
        &self,
        mut mint: impl FnMut() -> Key,
        mut rank: impl FnMut(&Key) -> I,
    ) -> Key {
        let eligible = self.eligible();
        let mut far = None;
        let mut key = mint();
        for _ in 1..MINT_TRIES_MAX {
            let first = rank(&key).into_iter().find_map(|address| self.nodes.by_address(address));
            let Some(first) = first.filter(|_| eligible.all.weight > 0) else { return key };
            let is_taken = first.accepts_new() && eligible.admits(&first);
            if is_taken && (first.is_near() || eligible.near.weight == 0) {
                return key;
            }
            let passed = std::mem::replace(&mut key, mint());
            if is_taken {
                far.get_or_insert(passed);
            }
        }
        far.unwrap_or(key)
    }

    /// The node answered for the key, with anything but "not mine" (421) and "not now" (503): what lives under the key
    /// lives there from here on. Returns whether the key's place is there; it is not when another node was faster.
    pub fn answered(&self, key: &Key, node: &Arc<Node>, now: Instant) -> bool {
        let serial = self.pins.next_serial();
        let settle = |pin: &mut Pin| {
            let home = pin.settle_at(node, serial, now);
            pin.settled |= home;
            home
        };
        self.pins.update(key, now, settle).unwrap_or(true)
    }

    /// Whether the key is known to live on the node.
    pub(crate) fn is_settled_at(&self, key: &Key, node: &Arc<Node>, now: Instant) -> bool {
        self.pins.peek(key, now).is_some_and(|pin| pin.settled && Arc::ptr_eq(&pin.node, node))
    }

    /// The node answered as the owner of the key since `epoch`; `known` is the epoch of the [`Placed`] by which it was
    /// asked. Tells when that cannot be, which is a fault of the nodes or of their store.
    pub fn served(&self, key: &Key, node: &Arc<Node>, epoch: u64, known: u64, now: Instant) -> Option<TwoOwners> {
        let serial = self.pins.next_serial();
        let compare = |pin: &mut Pin| {
            let is_fault = epoch < known || pin.contradicts(node, epoch);
            let fault = is_fault.then(|| TwoOwners {
                other: pin.owner.clone(),
                epoch: pin.epoch,
                is_first: !std::mem::replace(&mut pin.told, true),
            });
            if epoch > pin.epoch {
                let is_there = Arc::ptr_eq(&pin.node, node);
                if !is_there {
                    pin.move_to(node, PinReason::Redirect, serial, now);
                } else if pin.reason == PinReason::Failover {
                    pin.reason = PinReason::Takeover;
                }
                pin.settled = true;
                pin.learn(node, epoch);
            }
            fault
        };
        self.pins.update_or_insert(key, now, || (node.clone(), PinReason::Redirect), compare)
    }

    /// The node `by` answered 421 and named the owner of the key. An owner outside of the list is taken up if `by` is a
    /// node of ours.
    pub fn redirected(&self, key: &Key, owner: Owner<'_>, by: &Arc<Node>, now: Instant) -> Redirected {
        let epoch = owner.epoch;
        let learn = || {
            let address = owner.address.filter(|_| by.shares_ownership())?;
            self.nodes.learn(owner.name, address, now)
        };
        let Some(owner) = self.nodes.owner(owner.name, owner.address).or_else(learn) else {
            self.pins.count_redirect(RedirectReason::UnknownNode);
            return Redirected::UnknownNode;
        };
        let is_fresher = |pin: &Pin| epoch < pin.epoch && !pin.node.is_over();
        let knows_better = self.pins.peek(key, now).is_some_and(|pin| is_fresher(&pin));
        if owner.is_over() && !knows_better {
            // It was said before that lease ended, or is about one that no check has told of yet. Whoever said it looks again.
            self.pins.count_redirect(RedirectReason::NotBelieved);
            let epoch = self.pins.peek(key, now).map_or(0, |pin| pin.epoch);
            let (node, reason) = (by.clone(), PinReason::Redirect);
            return Redirected::Stale(Placed { node, reason, settled: false, epoch });
        }
        let serial = self.pins.next_serial();
        let believe = |pin: &mut Pin| {
            if epoch < pin.epoch || pin.contradicts(&owner, epoch) {
                return (RedirectReason::NotBelieved, Redirected::Stale(Placed::of(pin)));
            }
            let was_given_away = Arc::ptr_eq(&pin.node, by) && pin.settled && pin.epoch > 0 && epoch > pin.epoch;
            let why = match pin.epoch {
                _ if was_given_away => RedirectReason::Handoff,
                _ if pin.reason == PinReason::Failover => RedirectReason::Failover,
                0 => RedirectReason::Unknown,
                _ if Arc::ptr_eq(&pin.node, &owner) => RedirectReason::Meanwhile,
                _ => RedirectReason::Moved,
            };
            if !Arc::ptr_eq(&pin.node, &owner) {
                let reason = if was_given_away { PinReason::Handoff } else { PinReason::Redirect };
                pin.move_to(&owner, reason, serial, now);
            }
            pin.settled = true;
            pin.learn(&owner, epoch);
            (why, Redirected::Owner(Placed::of(pin)))
        };
        let (why, outcome) = self.pins.update_or_insert(key, now, || (owner.clone(), PinReason::Redirect), believe);
        self.pins.count_redirect(why);
        outcome
    }

    /// A tunnel of the key was opened to the node. `None` says that the key has found another place while the tunnel
    /// was being opened: it must be given up, so that its client comes back to the right node. Nodes that share ownership
    /// end such tunnels themselves.
    pub fn tunnel_opened(&self, key: &Key, node: &Arc<Node>, now: Instant) -> Option<TunnelTicket> {
        let serial = self.pins.next_serial();
        let open = |pin: &mut Pin| {
            if !pin.settle_at(node, serial, now) {
                return node.shares_ownership().then_some(serial);
            }
            (pin.tunnels, pin.settled) = (pin.tunnels.saturating_add(1), true);
            Some(pin.serial)
        };
        let serial = self.pins.update_or_insert(key, now, || (node.clone(), PinReason::Tunnel), open)?;
        node.tunnel_added();
        Some(TunnelTicket { key: key.clone(), node: node.clone(), serial })
    }

    /// The tunnel is closed. The time that the key may be idle begins.
    pub fn tunnel_closed(&self, ticket: TunnelTicket, now: Instant) {
        ticket.node.tunnel_removed();
        self.pins.update(&ticket.key, now, |pin| {
            if pin.serial == ticket.serial {
                pin.tunnels = pin.tunnels.saturating_sub(1);
            }
        });
    }

    /// Forgets keys that nobody uses, and nodes that nothing needs. To be called every few seconds.
    pub fn expire(&self, now: Instant) {
        self.pins.expire(now);
        self.nodes.sweep(now);
    }

    /// How many pins there are, and what became of others.
    #[must_use]
    pub fn pin_counts(&self) -> PinCounts {
        self.pins.counts()
    }

    /// Finds a place for a key that has none or must leave it, and pins it there unless another request was faster.
    fn place(
        &self,
        key: &Key,
        standing: Standing,
        leaving: Option<Leaving>,
        ranked: impl IntoIterator<Item = SocketAddr>,
        tried: &[Arc<Node>],
        now: Instant,
    ) -> Choice {
        // What lived on a node that is gone goes on elsewhere, which must be a node that takes new keys; but it is no new
        // session, so that the load bound has no say.
        let fails_over = leaving.as_ref().is_some_and(|leaving| leaving.held);
        let standing = if fails_over { Standing::Named } else { standing };
        let Some((node, reason)) = self.pick(standing, ranked, tried) else {
            let left = leaving.map(|leaving| leaving.node).filter(|node| node.state().serves_own());
            return left.map_or(Choice::NoneUp, Choice::Unreachable);
        };
        let reason = if fails_over { PinReason::Failover } else { reason };
        let serial = self.pins.next_serial();
        let mut moved = false;
        let mut inserted = false;
        let make = || {
            inserted = true;
            (node.clone(), reason)
        };
        let placed = self.pins.update_or_insert(key, now, make, |pin| {
            let is_still_there = leaving.as_ref().is_some_and(|leaving| Arc::ptr_eq(&leaving.node, &pin.node));
            // The node may have come back, or have answered another request, since this one looked.
            let is_up = pin.node.state().serves_own();
            let stays = is_up && (pin.binds() || (pin.holds() && !is_among(&pin.node, tried)));
            if is_still_there && !stays && !Arc::ptr_eq(&pin.node, &node) {
                pin.move_to(&node, reason, serial, now);
                moved = true;
            }
            Placed::of(pin)
        });
        if inserted || moved {
            node.key_placed();
        }
        if moved && fails_over {
            self.pins.count_failover();
        }
        if placed.is_open_to(tried) { Choice::Node(placed) } else { Choice::Unreachable(placed.node) }
    }

    /// The best node for a key that lives nowhere that is known.
    pub(crate) fn pick(
        &self,
        standing: Standing,
        ranked: impl IntoIterator<Item = SocketAddr>,
        tried: &[Arc<Node>],
    ) -> Option<(Arc<Node>, PinReason)> {
        let eligible = (standing == Standing::Fresh).then(|| self.eligible());
        let mut over_bound = None;
        let mut knows_owner = None;
        let mut reason = PinReason::Placed;
        let known = ranked.into_iter().filter_map(|address| self.nodes.by_address(address));
        for (rank, node) in known.enumerate() {
            // Only on the first rank can a key have lived since before the node was drained or suspended.
            let may_live_there = standing == Standing::Issued && rank == 0;
            let takes = node.accepts_new() || (may_live_there && node.is_listed() && node.state().serves_own());
            let was_tried = is_among(&node, tried);
            if !takes || was_tried {
                // The load bound explains a place better than a node that took no new keys.
                reason = if reason == PinReason::LoadBound { reason } else { PinReason::NextRank };
                let is_asked = standing != Standing::Fresh && node.is_listed() && node.state().serves_own();
                if is_asked && !was_tried && node.shares_ownership() {
                    knows_owner.get_or_insert((node, reason));
                }
            } else if eligible.as_ref().is_none_or(|eligible| eligible.admits(&node)) {
                return Some((node, reason));
            } else {
                over_bound.get_or_insert((node, reason));
                reason = PinReason::LoadBound;
            }
        }
        // Where nobody takes new keys, a node that only serves its own still knows whose an old one is.
        over_bound.or(knows_owner)
    }

    /// What the nodes that take new keys have to share.
    pub(crate) fn eligible(&self) -> Eligible {
        let nodes = self.nodes.all();
        let mut eligible = Eligible { bound: *self.load_bound.read(), near: Share::default(), all: Share::default() };
        for node in nodes.iter().filter(|node| node.accepts_new()) {
            eligible.all.add(node);
            if node.is_near() {
                eligible.near.add(node);
            }
        }
        eligible
    }
}

/// The place that a key must leave.
struct Leaving {
    node: Arc<Node>,
    /// Whether something may live under the key there.
    held: bool,
}

/// What the nodes that take new keys have to share: those of the balancer's own region among themselves.
pub(crate) struct Eligible {
    bound: LoadBound,
    near: Share,
    all: Share,
}

/// The load and the weight of some nodes together.
#[derive(Default)]
struct Share {
    load: u64,
    weight: u64,
}

impl Eligible {
    pub(crate) fn admits(&self, node: &Node) -> bool {
        let share = if node.is_near() { &self.near } else { &self.all };
        self.bound.admits(node.load(), share.load, node.weight(), share.weight)
    }
}

impl Share {
    fn add(&mut self, node: &Node) {
        self.load = self.load.saturating_add(node.load());
        self.weight += u64::from(node.weight());
    }
}

impl Placed {
    pub(crate) fn of(pin: &Pin) -> Self {
        Self { node: pin.node.clone(), reason: pin.reason, settled: pin.settled, epoch: pin.epoch }
    }

    fn is_open_to(&self, tried: &[Arc<Node>]) -> bool {
        self.node.state().serves_own() && !is_among(&self.node, tried)
    }
}

impl Pin {
    /// Whether the key's place is at `node`. A pin that holds nothing yet follows whoever answers first.
    fn settle_at(&mut self, node: &Arc<Node>, serial: u64, now: Instant) -> bool {
        let is_there = Arc::ptr_eq(&self.node, node);
        if !is_there && !self.holds() && node.state().serves_own() {
            self.move_to(node, PinReason::NextRank, serial, now);
            return true;
        }
        is_there
    }
}

fn is_among(node: &Arc<Node>, tried: &[Arc<Node>]) -> bool {
    tried.iter().any(|tried| Arc::ptr_eq(tried, node))
}
