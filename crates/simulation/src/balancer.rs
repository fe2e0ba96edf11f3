//! A balancer: the real router, the real placement and the real route of each request. Only how a node is asked is the
//! simulation's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_ownership::{LeaseId, NodeId, Verdict, Wants};
use ctedge_placement::Rendezvous;
use ctedge_routing::{
    Answer, ConnectFailure, Finding, Found, KeySource, Node, NodeSpec, NodeState, Retry, Route, Router, RouterSettings,
    StateChange, Step, Then, Thresholds,
};
use ctedge_wire::{HealthReport, Key, LeaseOver, Redirect};

use crate::event::Event;
use crate::fault::Fault;
use crate::process::Process;
use crate::promise::Promise;
use crate::random::Random;
use crate::world::World;

/// What all balancers and nodes of the cluster rank with.
pub(crate) const PLACEMENT_SEED: u64 = 11;
/// Fewer than there are sessions now and then.
const PINS_MAX: usize = 4;
/// How many nodes outside of its list a balancer knows at most.
const UNLISTED_MAX: usize = 64;

/// A balancer process, replaced by its next generation when it restarts.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) generation: u32,
    pub(crate) router: Router,
    /// The leases that it has heard to be over while their nodes went on with them, and when. One that drops a node, because it
    /// left the list and is down, has to hear of it again when the node is listed again.
    pub(crate) over: BTreeMap<LeaseId, Instant>,
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
    /// What the client knows of its key.
    named: Option<Key>,
    pub(crate) wants: Wants,
    /// What the client has of which stream, so that it gets the rest.
    pub(crate) stream: u64,
    pub(crate) received: u64,
    /// Whether it brings more than can be sent again.
    is_large: bool,
    /// Whether the node is only asked whether it is its own.
    pub(crate) is_question: bool,
    /// What the node said that was asked before it was sent: since when it owns the key, if anybody does.
    cleared: Option<Option<u64>>,
    /// Its way, from when the balancer took it.
    route: Option<Route>,
    /// The nodes that cannot be reached, as the node is told that is asked.
    pub(crate) unreachable: Vec<NodeId>,
    /// When the node was chosen that is asked: when it was sent there, or the question before it, or when a pause before that
    /// began.
    pub(crate) chosen: Option<Instant>,
    /// When it was sent there.
    sent: Option<Instant>,
    /// Whether it paused before it is sent to the node that was chosen.
    has_paused: bool,
    /// Whether it was answered by a node whose lease was over, and which could not know.
    pub(crate) by_stray: bool,
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
        let Self { client, attempt, balancer, wants, unreachable, .. } = self;
        let target = self.route.as_ref().and_then(|route| route.node()).map(|node| node.id().as_str());
        write!(formatter, "client {client} attempt {attempt} balancer {balancer} {wants:?} {:?} ", self.key())?;
        write!(formatter, "→ {target:?} unreachable {unreachable:?}")
    }
}

impl Request {
    pub(crate) fn new(client: usize, attempt: u64, balancer: usize, named: Option<Key>, wants: Wants) -> Self {
        let (stream, received, generation) = (0, 0, 0);
        Self {
            client,
            attempt,
            balancer,
            generation,
            named,
            wants,
            stream,
            received,
            is_large: false,
            is_question: false,
            cleared: None,
            route: None,
            unreachable: Vec::new(),
            chosen: None,
            sent: None,
            has_paused: false,
            by_stray: false,
        }
    }

    /// The key that it belongs to, once the balancer has found or minted it.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.route.as_ref().map(Route::key)
    }

    /// Whether a node could not take it, so that it does not go where its balancer would bring it.
    pub(crate) fn is_led_astray(&self) -> bool {
        self.route.as_ref().is_some_and(Route::has_tried)
    }

    /// Its key as the balancer's finder finds it: in a room's token, if there is a room.
    fn finding(&self) -> Finding {
        let found = self.named.clone().map(|key| Found { key, source: KeySource::RoomToken });
        Finding { found, cookie: None, malformed: 0, wants_fresh: self.wants == Wants::New }
    }
}

impl Balancer {
    pub(crate) fn new(seed: u64, generation: u32, fault: Option<Fault>) -> Self {
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let pin_idle_max = Duration::from_secs(300);
        let pins_max = if fault == Some(Fault::PinsWithoutBound) { usize::MAX } else { PINS_MAX };
        let settings = RouterSettings { seed, pins_max, pin_idle_max, load_bound: 0.25, thresholds };
        let seed = if fault == Some(Fault::RanksApart) { seed } else { PLACEMENT_SEED };
        Self { generation, router: Router::new(&settings), over: BTreeMap::new(), seed }
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

    /// What it has heard of a node is gone with the node, and with the lease.
    fn forget_leases(&mut self) {
        let Self { router, over, .. } = self;
        over.retain(|lease, _| has_met(router, lease));
    }

    fn is_down(&self, address: SocketAddr) -> bool {
        self.router.nodes().iter().any(|node| node.address() == address && node.state() == NodeState::Down)
    }
}

impl World {
    /// A request comes to its balancer, or goes on there after a pause.
    pub(crate) fn at_balancer(&mut self, mut request: Box<Request>) {
        let Some(balancer) = self.balancers.get(request.balancer) else {
            return;
        };
        if request.route.is_none() {
            request.generation = balancer.generation;
            let random = &mut self.random;
            let mint = || mint(random);
            let rank = |key: &Key| balancer.ranked(key);
            let Ok(route) = Route::begin(&balancer.router, request.finding(), mint, rank, self.now) else {
                self.refuse(&request, false);
                return;
            };
            request.is_large = self.random.chance(25);
            let asks_first = request.is_large && !self.breaks(Fault::SendsUnasked);
            request.route = Some(if asks_first { route.ask_first() } else { route });
        }
        self.go_on(request);
    }

    /// The request takes its next step, unless its balancer is gone.
    fn go_on(&mut self, mut request: Box<Request>) {
        let balancer = &self.balancers[request.balancer];
        let Some(route) = request.route.as_mut().filter(|_| balancer.generation == request.generation) else {
            return;
        };
        let step = route.next(&balancer.router, |key| balancer.ranked(key), self.now);
        match step {
            Step::Try(ref placed) | Step::Ask(ref placed) => {
                let follows_question = std::mem::replace(&mut request.is_question, matches!(step, Step::Ask(_)));
                let was_chosen = follows_question && !request.is_question;
                if !(std::mem::take(&mut request.has_paused) || was_chosen) {
                    request.chosen = Some(self.now);
                }
                request.sent = Some(self.now);
                request.unreachable =
                    route.unreachable(&balancer.router).iter().map(|name| NodeId::new(name)).collect();
                self.forward(request, placed.node.address());
            }
            Step::Pause(pause) => {
                self.seen.pauses += 1;
                if route.node().is_some() {
                    (request.chosen, request.has_paused) = (Some(self.now), true);
                }
                self.after(pause, Event::AtBalancer(request));
            }
            Step::Refuse(_) => self.refuse(&request, false),
        }
    }

    fn forward(&mut self, request: Box<Request>, address: SocketAddr) {
        self.check_forward(&request, address);
        match self.listener(address) {
            Some(process)
                if self.processes[process].deaf || self.processes[process].frozen && self.random.chance(50) =>
            {
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
        if self.balancers[request.balancer].generation != request.generation {
            return;
        }
        let asked = request.route.as_ref().and_then(Route::node).filter(|_| request.is_question);
        let is_late = asked.and_then(|node| lease_of(node)).is_some_and(|lease| self.has_hung_up(&lease, &request));
        let reply = if is_late { Reply::Died } else { reply };
        let asked = request.route.as_ref().and_then(|route| Some((route.node()?.address(), route.key().clone())));
        // A yes to the question says nothing of epochs.
        let is_yes = request.is_question && matches!(reply, Reply::Verdict(Verdict::Serve { .. }));
        if let Some((address, key)) = asked.filter(|_| !is_yes) {
            self.hear(&request, address, &key, &reply);
        }
        match &reply {
            Reply::Verdict(verdict) if request.is_question => return self.told(request, verdict),
            Reply::Verdict(Verdict::Redirect { epoch, .. }) if request.is_large => {
                // It came to the wrong node, and is lost, only if its session went on between question and request.
                let is_excused = request.cleared.is_some_and(|known| known < Some(epoch.0));
                self.check(Promise::BalancersHoldNothing, is_excused, || {
                    format!("{request:?} was sent to a node that does not own its key")
                });
            }
            _ => {}
        }
        let fault = self.fault;
        let balancer = &self.balancers[request.balancer];
        let Some(route) = request.route.as_mut() else { return };
        let then = match reply {
            Reply::ConnectRefused | Reply::ConnectTimeout => {
                let refused = matches!(reply, Reply::ConnectRefused);
                let failure = if refused { ConnectFailure::Refused } else { ConnectFailure::Other };
                let change = route.could_not_connect(&balancer.router, failure, now);
                self.note_state(change.map(|(_, change)| change));
                Then::Again(Retry::Connect)
            }
            Reply::Died => route.died(true),
            Reply::Verdict(ref verdict) => {
                let answer = answer(verdict, !request.is_large, || mint(&mut self.random));
                let answer = as_heard(answer, fault, &balancer.router);
                route.heard(answer, &balancer.router, |key| balancer.ranked(key), now)
            }
        };
        let goes_to = route.node().map(|node| node.address());
        match then {
            Then::Again(reason) => {
                self.seen.redirects += u64::from(reason == Retry::RedirectOwner);
                if let Reply::Verdict(Verdict::Redirect { address, .. }) = &reply {
                    self.seen.stale_redirects += u64::from(goes_to.is_some_and(|there| there != *address));
                }
                self.seen.elsewhere += u64::from(reason == Retry::Unavailable);
                self.go_on(request);
            }
            Then::Refuse(_) => self.refuse(&request, false),
            Then::PassOn { fault } => {
                self.check(Promise::OneOwner, fault.is_none() || request.by_stray, || {
                    format!("two owners answer for {:?}: {fault:?}", request.key())
                });
                match reply {
                    Reply::Verdict(Verdict::Serve { .. }) => {}
                    Reply::Verdict(Verdict::Missing) => self.refuse(&request, true),
                    _ => self.refuse(&request, false),
                }
            }
        }
    }

    /// A node answered whether the request is its own.
    fn told(&mut self, mut request: Box<Request>, verdict: &Verdict) {
        let balancer = &self.balancers[request.balancer];
        let Some(route) = request.route.as_mut() else { return };
        self.seen.asked += 1;
        let answer = answer(verdict, true, || mint(&mut self.random));
        let answer = as_heard(answer, self.fault, &balancer.router);
        request.cleared = answer.redirect.is_none().then_some(answer.epoch);
        match route.told(answer, &balancer.router, |key| balancer.ranked(key), self.now) {
            Ok(_) => self.go_on(request),
            Err(_) => self.refuse(&request, false),
        }
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
            let is_lost = self.loses();
            let answers = |process: &usize| {
                let process = &self.processes[*process];
                !process.frozen && !process.deaf && !is_lost
            };
            let process = self.listener(node.address()).filter(answers);
            let router = &self.balancers[index].router;
            let change = match process {
                Some(process) => {
                    let report = report(&self.processes[process]);
                    let over = report.over.clone();
                    let change = router.check_succeeded(node, Some(report), now, now);
                    self.hear_of_leases(index, &over);
                    change
                }
                None => router.check_failed(node, "no answer", now),
            };
            self.note_state(change);
        }
        self.refresh(index);
        self.end_tunnels_to_down(index);
        self.balancers[index].router.expire(now);
        self.balancers[index].forget_leases();
        let counts = self.balancers[index].router.pin_counts();
        let unlisted = self.balancers[index].router.nodes().iter().filter(|node| !node.is_listed()).count();
        let is_bounded = counts.total() <= PINS_MAX && unlisted <= UNLISTED_MAX;
        self.check(Promise::EverythingIsBounded, is_bounded, || {
            format!("balancer {index} has {} pins and knows {unlisted} unlisted nodes", counts.total())
        });
        self.after(Duration::from_secs(1), Event::Checks { balancer: index, generation });
    }

    /// A node told a balancer which leases are over.
    fn hear_of_leases(&mut self, index: usize, over: &[LeaseOver]) {
        let (now, ignores) = (self.now, self.breaks(Fault::IgnoresOver));
        let Balancer { router, over: known, .. } = &mut self.balancers[index];
        for LeaseOver { node, incarnation } in over {
            let lease = LeaseId::new(NodeId::new(node), *incarnation);
            if has_met(router, &lease) {
                known.entry(lease).or_insert(now);
            }
        }
        let changes = if ignores { Vec::new() } else { router.leases_over(over, now) };
        self.seen.state_changes += changes.len() as u64;
    }

    /// Whether the balancer has given a request up, since it heard while the node had it that the node's lease is over.
    pub(crate) fn has_hung_up(&self, lease: &LeaseId, request: &Request) -> bool {
        let over = self.balancers[request.balancer].over.get(lease);
        over.is_some_and(|heard| request.sent.is_some_and(|sent| sent <= *heard))
    }

    fn note_state(&mut self, change: Option<StateChange>) {
        self.seen.state_changes += u64::from(change.is_some());
    }

    /// The tunnels to nodes that are down are ended, so that their clients go where the session goes.
    fn end_tunnels_to_down(&mut self, balancer: usize) {
        if self.breaks(Fault::KeepsTunnels) {
            return;
        }
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
        self.balancers[index].forget_leases();
    }
}

/// Whether a node has told that it goes on with the lease.
fn has_met(router: &Router, lease: &LeaseId) -> bool {
    router.nodes().iter().any(|node| lease_of(node).as_ref() == Some(lease))
}

/// The lease that the node has told of.
fn lease_of(node: &Node) -> Option<LeaseId> {
    let report = node.report()?;
    Some(LeaseId::new(NodeId::new(&report.node), report.incarnation))
}

/// What a node says of itself and of others.
fn report(process: &Process) -> HealthReport {
    let (lease, status) = (process.ownership.lease(), process.ownership.status());
    let over = process.ownership.ended_by_silence();
    let over = over.map(|lease| LeaseOver { node: lease.node.as_str().to_owned(), incarnation: lease.incarnation });
    HealthReport {
        status,
        node: lease.node.as_str().to_owned(),
        incarnation: lease.incarnation,
        sessions: process.rooms.len() as u64,
        shares_ownership: true,
        over: over.collect(),
        ..HealthReport::default()
    }
}

fn mint(random: &mut Random) -> Key {
    Key::mint(&std::array::from_fn(|_| (random.next() % 248) as u8))
}

/// What a node of that mind answers over HTTP. Opening a connection is safe.
fn answer(verdict: &Verdict, can_replay: bool, fresh_key: impl FnOnce() -> Key) -> Answer {
    let answer = |status| Answer { status, redirect: None, epoch: None, can_replay, is_safe: true };
    let redirect = |redirect| Answer { redirect: Some(redirect), ..answer(421) };
    match verdict {
        Verdict::Serve { epoch } => Answer { epoch: Some(epoch.0), ..answer(200) },
        Verdict::Redirect { owner, epoch, address } => {
            redirect(Redirect::Owner { node: owner.node.as_str().to_owned(), epoch: epoch.0, address: Some(*address) })
        }
        Verdict::Taken => redirect(Redirect::Key(fresh_key())),
        Verdict::Missing => answer(404),
        Verdict::Unavailable { .. } => answer(503),
    }
}

/// An answer as it reaches the route.
fn as_heard(mut answer: Answer, fault: Option<Fault>, router: &Router) -> Answer {
    if let Some(Redirect::Owner { address, .. }) = &mut answer.redirect
        && fault == Some(Fault::NeverLearns)
    {
        let is_listed = |address| router.nodes().iter().any(|node| node.address() == address && node.is_listed());
        *address = address.filter(|address| is_listed(*address));
    }
    answer
}
