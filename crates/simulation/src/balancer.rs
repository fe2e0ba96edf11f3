//! A balancer: the real router and the real placement, and a request's way as the balancer crate goes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_ownership::{NodeId, Unavailable, Verdict, Wants};
use ctedge_placement::Rendezvous;
use ctedge_routing::{
    Choice, ConnectFailure, Node, NodeSpec, NodeState, Owner, Placed, Redirected, Router, RouterSettings, Standing,
    StateChange, Thresholds,
};
use ctedge_wire::{HealthReport, Key};

use crate::event::Event;
use crate::fault::Fault;
use crate::promise::Promise;
use crate::world::World;

/// What all balancers and nodes of the cluster rank with.
pub(crate) const PLACEMENT_SEED: u64 = 11;
/// Fewer than there are sessions now and then.
const PINS_MAX: usize = 4;
/// How many nodes outside of its list a balancer knows at most.
const UNLISTED_MAX: usize = 64;
const TRIES_MAX: u32 = 16;
const REDIRECTS_MAX: u32 = 4;

/// A balancer process, replaced by its next generation when it restarts.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) generation: u32,
    pub(crate) router: Router,
    /// What it ranks with.
    seed: u64,
}

/// A client's request for a connection to its session.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) attempt: u64,
    pub(crate) balancer: usize,
    pub(crate) generation: u32,
    /// `None` until the balancer has minted it.
    pub(crate) key: Option<Key>,
    pub(crate) wants: Wants,
    /// What the client has of which stream, so that it gets the rest.
    pub(crate) stream: u64,
    pub(crate) received: u64,
    /// Where it was sent. A node that only a redirect named is no node of the router's.
    target: Option<(SocketAddr, Option<Arc<Node>>)>,
    /// When it was sent there.
    pub(crate) sent: Option<Instant>,
    /// Nodes that the request could not reach, or that refused it.
    pub(crate) tried: Vec<Arc<Node>>,
    pub(crate) unreachable: Vec<NodeId>,
    /// The epoch that the balancer knew when it sent the request.
    known: u64,
    tries: u32,
    redirects: u32,
}

/// What a request meets at a node.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer.
    Verdict(Verdict),
    /// Nobody listens there.
    ConnectRefused,
    /// The connection could not be made in time.
    ConnectTimeout,
    /// The process ended before it answered.
    Died,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, attempt, balancer, key, wants, unreachable, tries, redirects, .. } = self;
        let target = self.target.as_ref().map(|(address, _)| address);
        write!(formatter, "client {client} attempt {attempt} balancer {balancer} {wants:?} {key:?} → {target:?} ")?;
        write!(formatter, "unreachable {unreachable:?} tries {tries} redirects {redirects}")
    }
}

impl Request {
    pub(crate) fn new(client: usize, attempt: u64, balancer: usize, key: Option<Key>, wants: Wants) -> Self {
        let (stream, received, generation, tries, redirects) = (0, 0, 0, 0, 0);
        let (target, tried, unreachable) = (None, Vec::new(), Vec::new());
        Self {
            client,
            attempt,
            balancer,
            generation,
            key,
            wants,
            stream,
            received,
            target,
            sent: None,
            tried,
            unreachable,
            known: 0,
            tries,
            redirects,
        }
    }

    fn exclude(&mut self, node: Arc<Node>) {
        if !self.tried.iter().any(|tried| Arc::ptr_eq(tried, &node)) {
            self.tried.push(node);
        }
    }
}

impl Balancer {
    pub(crate) fn new(seed: u64, generation: u32, fault: Option<Fault>) -> Self {
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let pin_idle_max = Duration::from_secs(300);
        let pins_max = if fault == Some(Fault::PinsWithoutBound) { usize::MAX } else { PINS_MAX };
        let settings = RouterSettings { seed, pins_max, pin_idle_max, load_bound: 0.25, thresholds };
        let seed = if fault == Some(Fault::RanksApart) { seed } else { PLACEMENT_SEED };
        Self { generation, router: Router::new(&settings), seed }
    }

    fn placement(&self) -> (Rendezvous, Vec<SocketAddr>) {
        let nodes = self.router.nodes();
        let listed = nodes.iter().filter(|node| node.is_listed());
        let weighted: Vec<_> = listed.clone().map(|node| (node.address().to_string(), node.weight())).collect();
        (Rendezvous::new(self.seed, &weighted), listed.map(|node| node.address()).collect())
    }

    pub(crate) fn ranked(&self, key: &Key) -> Vec<SocketAddr> {
        let (placement, addresses) = self.placement();
        placement.rank(key.as_str().as_bytes()).map(|index| addresses[index]).collect()
    }

    /// Any node that was not tried yet, the best of those that take new keys first: it knows or finds out the owner.
    fn another(&self, key: &Key, tried: &[Arc<Node>]) -> Option<Arc<Node>> {
        let nodes = self.router.nodes();
        let untried = |node: &&Arc<Node>| !tried.iter().any(|tried| Arc::ptr_eq(tried, node));
        let ranked = self.ranked(key);
        let in_order = ranked.iter().filter_map(|address| nodes.iter().find(|node| node.address() == *address));
        let mut up = in_order.filter(untried).filter(|node| node.state().serves_own());
        up.clone().find(|node| node.accepts_new()).or_else(|| up.next()).cloned()
    }

    fn is_down(&self, address: SocketAddr) -> bool {
        self.router.nodes().iter().any(|node| node.address() == address && node.state() == NodeState::Down)
    }
}

impl World {
    /// A request comes to its balancer, or comes back to it, and is sent to a node.
    pub(crate) fn at_balancer(&mut self, mut request: Box<Request>) {
        let now = self.now;
        let Some(balancer) = self.balancers.get(request.balancer) else {
            return;
        };
        request.generation = balancer.generation;
        request.tries += 1;
        if request.tries > TRIES_MAX {
            self.refuse(&request, false);
            return;
        }
        let choice = match request.key.clone() {
            Some(key) => {
                let fresh = request.wants == Wants::New;
                let standing = if fresh { Standing::Fresh } else { Standing::Issued };
                balancer.router.choose(&key, standing, balancer.ranked(&key), &request.tried, now)
            }
            None => {
                let random = &mut self.random;
                let mint = || Key::mint(&std::array::from_fn(|_| (random.next() % 248) as u8));
                let (key, choice) = balancer.router.choose_fresh(mint, |key| balancer.ranked(key), now);
                request.key = Some(key);
                choice
            }
        };
        let Some(key) = request.key.clone() else {
            return;
        };
        let node = match choice {
            Choice::Node(Placed { node, epoch, .. }) => {
                request.known = epoch;
                Some(node)
            }
            // A pin is no more than a memory where nodes know the owner: another node is asked.
            Choice::Unreachable(_) => balancer.another(&key, &request.tried),
            Choice::NoneUp => None,
        };
        match node {
            Some(node) => self.forward(request, node.address(), Some(node)),
            None => self.refuse(&request, false),
        }
    }

    fn forward(&mut self, mut request: Box<Request>, address: SocketAddr, node: Option<Arc<Node>>) {
        self.check_forward(&request, address);
        request.sent = Some(self.now);
        let balancer = &self.balancers[request.balancer];
        for down in balancer.router.nodes().iter().filter(|node| node.state() == NodeState::Down) {
            let id = NodeId::new(down.id().as_str());
            if !request.unreachable.contains(&id) {
                request.unreachable.push(id);
            }
        }
        request.target = Some((address, node));
        match self.listener(address) {
            Some(process) if self.processes[process].frozen && self.random.chance(50) => {
                let reply = Reply::ConnectTimeout;
                self.after(Duration::from_secs(1), Event::Answered { request, reply });
            }
            Some(process) => self.soon(Event::AtProcess { process, request }),
            None => self.soon(Event::Answered { request, reply: Reply::ConnectRefused }),
        }
    }

    /// A node answered, or did not.
    pub(crate) fn answered(&mut self, mut request: Box<Request>, reply: Reply) {
        let now = self.now;
        let (Some((address, node)), Some(key)) = (request.target.take(), request.key.clone()) else {
            return;
        };
        if self.balancers[request.balancer].generation != request.generation {
            return;
        }
        self.hear(&request, address, &key, &reply);
        let balancer = &self.balancers[request.balancer];
        let router = &balancer.router;
        let mut change = None;
        match reply {
            Reply::ConnectRefused | Reply::ConnectTimeout | Reply::Died => {
                let refused = matches!(reply, Reply::ConnectRefused);
                let failure = if refused { ConnectFailure::Refused } else { ConnectFailure::Other };
                if let Some(node) = node {
                    change = router.connect_failed(&node, failure, now);
                    request.unreachable.push(NodeId::new(node.id().as_str()));
                    request.exclude(node);
                } else if let Some(slot) = self.slots.iter().position(|slot| slot.address == address) {
                    request.unreachable.push(NodeId::new(&format!("node-{slot}")));
                }
                self.soon(Event::AtBalancer(request));
            }
            Reply::Verdict(Verdict::Serve { epoch }) => {
                if let Some(node) = node {
                    router.answered(&key, &node, now);
                    let fault = router.served(&key, &node, epoch.0, request.known, now);
                    self.check(Promise::OneOwner, fault.is_none(), || {
                        format!("two owners answer for {key}: {fault:?}")
                    });
                }
            }
            Reply::Verdict(Verdict::Redirect { owner, epoch, address }) => {
                request.redirects += 1;
                self.seen.redirects += 1;
                let Some(by) = node else { return };
                let is_listed = router.nodes().iter().any(|node| node.address() == address && node.is_listed());
                let named = Owner { name: owner.node.as_str(), epoch: epoch.0, address: Some(address) };
                let redirected = match self.fault {
                    Some(Fault::NeverLearns) if !is_listed => Redirected::UnknownNode,
                    _ => router.redirected(&key, named, &by, now),
                };
                self.seen.stale_redirects += u64::from(matches!(redirected, Redirected::Stale(_)));
                match redirected {
                    _ if request.redirects > REDIRECTS_MAX => self.refuse(&request, false),
                    Redirected::Stale(_) if self.breaks(Fault::BelievesStaleRedirects) => {
                        self.forward(request, address, None);
                    }
                    Redirected::Owner(placed) | Redirected::Stale(placed) => {
                        request.known = placed.epoch;
                        self.forward(request, placed.node.address(), Some(placed.node));
                    }
                    // A stale list of nodes keeps nobody from an owner whose address is known.
                    Redirected::UnknownNode => self.forward(request, address, None),
                }
            }
            Reply::Verdict(Verdict::Missing) => self.refuse(&request, true),
            Reply::Verdict(Verdict::Taken) => {
                request.key = None;
                self.soon(Event::AtBalancer(request));
            }
            Reply::Verdict(Verdict::Unavailable { why, .. }) => {
                node.into_iter().for_each(|node| request.exclude(node));
                let elsewhere = balancer.another(&key, &request.tried);
                let helps = matches!(why, Unavailable::NotReady | Unavailable::NoLease);
                match elsewhere.filter(|_| helps) {
                    Some(node) => self.forward(request, node.address(), Some(node)),
                    None => self.refuse(&request, false),
                }
            }
        }
        self.note_state(change);
    }

    fn refuse(&mut self, request: &Request, missing: bool) {
        let (client, attempt) = (request.client, request.attempt);
        self.soon(Event::Refused { client, attempt, missing });
    }

    /// A balancer checks all nodes that it knows.
    pub(crate) fn checks(&mut self, index: usize, generation: u32) {
        if self.balancers[index].generation != generation {
            return;
        }
        let now = self.now;
        let nodes = self.balancers[index].router.nodes();
        for node in nodes.iter() {
            let process = self.listener(node.address()).filter(|process| !self.processes[*process].frozen);
            let router = &self.balancers[index].router;
            let change = match process {
                Some(process) => {
                    let process = &self.processes[process];
                    let (status, sessions) = (process.ownership.status(), process.rooms.len() as u64);
                    let report = HealthReport { status, sessions, shares_ownership: true, ..HealthReport::default() };
                    router.check_succeeded(node, Some(report), now, now)
                }
                None => router.check_failed(node, "no answer", now),
            };
            self.note_state(change);
        }
        self.refresh(index);
        self.end_tunnels_to_down(index);
        self.balancers[index].router.expire(now);
        let counts = self.balancers[index].router.pin_counts();
        let unlisted = self.balancers[index].router.nodes().iter().filter(|node| !node.is_listed()).count();
        let is_bounded = counts.total() <= PINS_MAX && unlisted <= UNLISTED_MAX;
        self.check(Promise::EverythingIsBounded, is_bounded, || {
            format!("balancer {index} has {} pins and knows {unlisted} unlisted nodes", counts.total())
        });
        self.after(Duration::from_secs(1), Event::Checks { balancer: index, generation });
    }

    fn note_state(&mut self, change: Option<StateChange>) {
        self.seen.state_changes += u64::from(change.is_some());
    }

    /// The tunnels to nodes that are down are ended, so that their clients go where the session goes.
    fn end_tunnels_to_down(&mut self, balancer: usize) {
        let through = |world: &Self, connection: usize| {
            let connection = &world.connections[connection];
            let address = world.processes[connection.process].address;
            connection.balancer == balancer && world.balancers[balancer].is_down(address)
        };
        let open: Vec<usize> = self.open_connections.iter().copied().collect();
        for connection in open {
            if through(self, connection) {
                self.cut(connection);
            }
        }
    }

    /// The balancer takes the list of nodes as it is at this moment.
    pub(crate) fn listed(&mut self, index: usize) {
        let id = |slot: usize| ctedge_routing::NodeId::new(&format!("node-{slot}"));
        let listed = self.slots.iter().enumerate().filter(|(_, slot)| slot.listed);
        let specs: Vec<_> =
            listed.map(|(index, slot)| NodeSpec { id: id(index), address: slot.address, weight: 1 }).collect();
        self.balancers[index].router.set_nodes(&specs, self.now);
    }
}
