//! A node process: the real `Ownership`, driven as the node drives it, and as much of a session as the promises need.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_ownership::{
    Action, Ask, Command, CommandId, Epoch, Event as Counted, Lease, LeaseId, Ownership, OwnershipSettings, Ranking,
    Ticket, Verdict, Wants,
};
use ctedge_placement::Rendezvous;
use ctedge_wire::Key;

use crate::balancer::{PLACEMENT_SEED, Reply, Request};
use crate::event::{Event, Frame};
use crate::fault::Fault;
use crate::journal::Entry;
use crate::orders::Order;
use crate::promise::Promise;
use crate::seats::{Seats, WAITS_FOR};
use crate::session::Live;
use crate::world::World;

/// A node process, from its start to its end.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) slot: usize,
    pub(crate) address: SocketAddr,
    pub(crate) ownership: Ownership,
    pub(crate) rooms: BTreeMap<Key, Live>,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    /// When others last could reach it again.
    pub(crate) returned: Option<Instant>,
    pub(crate) has_store: bool,
    /// Whether it is cut off from the store and from all nodes that are not cut off with it. Balancers reach it, and the others
    /// as well: one that is cut off together with it could not hear of anything.
    pub(crate) apart: bool,
    /// Whether nobody gets a connection to it any more. Those that it has go on, and so do its beats.
    pub(crate) deaf: bool,
    /// The lease under which it was out of reach of the others last.
    pub(crate) unreached_as: Option<LeaseId>,
    /// When a beat of it was last executed.
    pub(crate) beaten_at: Instant,
    /// The lease that the others had to end since it gave no sign of life: nobody got a connection to it, and its beats
    /// were lost.
    pub(crate) mute_as: Option<LeaseId>,
    /// Since when it runs and reaches the store, if it does.
    pub(crate) able_since: Instant,
    /// What its operator ordered.
    pub(crate) order: Option<Order>,
    /// When it last began to hand a session off under that order.
    pub(crate) started_moving: Option<Instant>,
    /// The keys whose handoff it has begun.
    pub(crate) given: BTreeSet<Key>,
    /// Whom it chose for which handoff.
    pub(crate) choices: BTreeMap<Key, (Epoch, LeaseId)>,
    /// The keys that it has begun to create.
    pub(crate) creating: BTreeSet<Key>,
    /// The keys that it was asked for.
    asked: BTreeSet<Key>,
    /// The estates that it reads or takes up at this moment.
    adopting: BTreeMap<CommandId, Key>,
    /// When it is killed if it has not ended by then.
    pub(crate) stops: Option<Instant>,
    /// What came while the process was stopped.
    pub(crate) inbox: Vec<Event>,
    pub(crate) seats: Seats,
    /// All leases that it ever had.
    pub(crate) leases: Vec<LeaseId>,
    ignores_fence: bool,
    timer: Option<Instant>,
    asking: BTreeMap<Ticket, Box<Request>>,
    probes: BTreeMap<u64, LeaseId>,
    /// Frames that came while the fence was closed.
    pub(crate) held: VecDeque<(usize, Frame)>,
    pub(crate) journal: VecDeque<Entry>,
    /// What may not be written down yet.
    pub(crate) unsure: Vec<Entry>,
}

/// Ranks as the balancers do.
#[derive(Debug)]
struct Placement;

impl Ranking for Placement {
    fn best(&mut self, key: &Key, ready: &[&Lease]) -> usize {
        let nodes: Vec<_> = ready.iter().map(|lease| (lease.address.to_string(), 1)).collect();
        Rendezvous::new(PLACEMENT_SEED, &nodes).rank(key.as_str().as_bytes()).next().unwrap_or(0)
    }
}

impl Process {
    pub(crate) fn new(
        slot: usize,
        address: SocketAddr,
        lease: LeaseId,
        settings: OwnershipSettings,
        licensed: u32,
        fault: Option<Fault>,
        now: Instant,
    ) -> Self {
        let ownership = Ownership::new(settings, lease.clone(), address, 1, Box::new(Placement), now);
        Self {
            slot,
            address,
            ownership,
            rooms: BTreeMap::new(),
            alive: true,
            frozen: false,
            returned: None,
            has_store: true,
            apart: false,
            deaf: false,
            unreached_as: None,
            beaten_at: now,
            mute_as: None,
            able_since: now,
            order: None,
            started_moving: None,
            given: BTreeSet::new(),
            choices: BTreeMap::new(),
            creating: BTreeSet::new(),
            asked: BTreeSet::new(),
            adopting: BTreeMap::new(),
            stops: None,
            inbox: Vec::new(),
            seats: Seats::new(licensed),
            leases: vec![lease],
            ignores_fence: fault == Some(Fault::IgnoresItsFence),
            timer: None,
            asking: BTreeMap::new(),
            probes: BTreeMap::new(),
            held: VecDeque::new(),
            journal: VecDeque::new(),
            unsure: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.ignores_fence || self.ownership.fence().is_open(now)
    }
}

impl World {
    /// Carries out what the process's ownership decided, and sets its timer.
    pub(crate) fn carry_out(&mut self, process: usize) {
        while let Some(action) = self.processes[process].ownership.next_action() {
            self.act(process, action);
        }
        if self.processes[process].is_open(self.now) {
            for (connection, frame) in std::mem::take(&mut self.processes[process].held) {
                self.at_node(connection, frame);
            }
        }
        let (asks_max, moving_max) = (self.settings.asks_max, self.settings.moving_max);
        let ownership = &self.processes[process].ownership;
        let waiting = ownership.waiting();
        let moving = ownership.drain_progress(self.now).map_or(0, |progress| progress.moving);
        let node = &self.processes[process];
        let is_unasked = |key: &&Key| !node.asked.contains(*key);
        let adopting = node.adopting.values().filter(is_unasked).count();
        self.check(Promise::EverythingIsBounded, waiting <= asks_max, || format!("{waiting} requests wait"));
        self.check(Promise::EverythingIsBounded, moving <= moving_max, || format!("{moving} sessions move"));
        self.check(Promise::EverythingIsBounded, adopting <= moving_max, || format!("{adopting} sessions are adopted"));
        let due = self.processes[process].ownership.poll_timeout();
        if let Some(at) = due.filter(|at| self.processes[process].timer.is_none_or(|timer| *at < timer)) {
            self.processes[process].timer = Some(at);
            self.at(at, Event::Timer { process, at });
        }
    }

    pub(crate) fn timer(&mut self, process: usize, at: Instant) {
        if self.processes[process].timer == Some(at) {
            self.processes[process].timer = None;
        }
        self.processes[process].ownership.timeout(self.now);
        self.carry_out(process);
    }

    fn act(&mut self, process: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Store(id, command) => self.give_command(process, id, command),
            Action::Probe(lease, address) => self.probe(process, lease, address),
            Action::ProbeOneself if self.processes[process].deaf && !self.breaks(Fault::GoesOnDeaf) => {
                self.after(self.settings.probe_timeout, Event::Unheard { process });
            }
            Action::ProbeOneself => self.processes[process].ownership.listener_answered(true, now),
            Action::RenewGraces => self.renew_graces(process),
            Action::Drain(drain) => self.drain(process, drain),
            Action::Answer(ticket, verdict) => self.answer(process, ticket, verdict),
            Action::Begin { key, epoch, origin } => self.begin(process, key, epoch, origin),
            Action::StartMoving { key, .. } => {
                self.check_giving(process, &key);
                self.start_moving(process, &key);
            }
            Action::LetGo { .. } if self.breaks(Fault::KeepsWhatItLost) => {}
            Action::LetGo { which, .. } => self.let_go(process, which),
            Action::RegisterAnew => {
                let incarnation = self.random.next();
                let node = &mut self.processes[process];
                node.ownership.registers_anew(incarnation, now);
                node.leases.push(node.ownership.lease().clone());
                if node.deaf {
                    node.unreached_as = Some(node.ownership.lease().clone());
                }
            }
            // What was held is let go on after all actions are done.
            Action::Fence(_) => {}
            Action::Reaped(keys) => self.seen.reaped += keys.len() as u64,
            Action::DrainFinished { exit } => {
                if exit {
                    self.exit(process);
                }
            }
            Action::Count(event) => self.count(event),
        }
    }

    /// Nothing that the process sent to its own listener was answered.
    pub(crate) fn unheard(&mut self, process: usize) {
        self.processes[process].ownership.listener_answered(false, self.now);
        self.carry_out(process);
    }

    fn give_command(&mut self, process: usize, id: CommandId, command: Command) {
        self.check_command(process, &command);
        if let Command::Read { key, .. } | Command::Adopt { key, .. } = &command {
            self.processes[process].adopting.insert(id, key.clone());
        }
        let command = self.command_as_given(command);
        self.send_to_store(process, id, command);
    }

    fn count(&mut self, event: Counted) {
        let seen = &mut self.seen;
        match event {
            Counted::TakenOver(_) => seen.takeovers += 1,
            Counted::EstateTakenOver(_) => seen.estates_taken_over += 1,
            Counted::EstateAdopted(_) => seen.estates_adopted += 1,
            Counted::HandedOff(_) => seen.handoffs += 1,
            Counted::Parked(_) => seen.parked += 1,
            Counted::Fenced(_) => seen.fenced += 1,
            Counted::EndedSilentLease => seen.ended_silent += 1,
            Counted::CutOff => seen.cut_off += 1,
            Counted::Deaf => seen.deaf += 1,
            Counted::LeaseLost => seen.leases_lost += 1,
            _ => {}
        }
    }

    fn probe(&mut self, from: usize, lease: LeaseId, address: SocketAddr) {
        self.probes += 1;
        let probe = self.probes;
        self.processes[from].probes.insert(probe, lease.clone());
        let timeout = self.settings.probe_timeout;
        self.after(timeout, Event::ProbeEnds { process: from, probe, alive: false });
        let reaches = |target: &usize| {
            let target = &self.processes[*target];
            target.apart == self.processes[from].apart && !target.deaf
        };
        match self.listener(address) {
            Some(target) if !reaches(&target) => {
                // Be it that it is the prober that is cut off. A probe of a former lease says nothing of this one.
                let target = &mut self.processes[target];
                if *target.ownership.lease() == lease {
                    (target.returned, target.unreached_as) = (Some(self.now), Some(lease));
                }
            }
            Some(target) => {
                // A lost packet is sent again within the time.
                let again = Duration::from_millis(300);
                let lost = u32::from(self.loses()) + u32::from(self.loses());
                let delay = self.network_delay() + again * lost;
                self.after(delay, Event::ProbeArrives { from, probe, lease, target });
            }
            None => self.soon(Event::ProbeEnds { process: from, probe, alive: false }),
        }
    }

    pub(crate) fn probe_arrives(&mut self, from: usize, probe: u64, lease: &LeaseId, target: usize) {
        let alive = *self.processes[target].ownership.lease() == *lease && !self.breaks(Fault::EndsWithoutProbe);
        self.soon(Event::ProbeEnds { process: from, probe, alive });
    }

    pub(crate) fn probe_ends(&mut self, process: usize, probe: u64, alive: bool) {
        if let Some(lease) = self.processes[process].probes.remove(&probe) {
            self.processes[process].ownership.probe_answered(&lease, alive, self.now);
            self.carry_out(process);
        }
    }

    /// A request has come.
    pub(crate) fn at_process(&mut self, process: usize, request: Box<Request>) {
        if !self.processes[process].alive {
            self.soon(Event::Answered { request, reply: Reply::ConnectRefused });
            return;
        }
        let Some(key) = request.key().cloned() else {
            return;
        };
        if self.loses() {
            self.after(Duration::from_secs(1), Event::Answered { request, reply: Reply::ConnectTimeout });
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let wants = if request.is_question { Wants::Existing } else { request.wants };
        let ask = Ask { ticket, key, wants, unreachable: request.unreachable.clone() };
        let ask = self.ask_as_given(ask);
        let node = &mut self.processes[process];
        node.asked.insert(ask.key.clone());
        node.asking.insert(ticket, request);
        node.ownership.asked(ask, self.now);
        self.carry_out(process);
    }

    fn answer(&mut self, process: usize, ticket: Ticket, verdict: Verdict) {
        let Some(mut request) = self.processes[process].asking.remove(&ticket) else {
            self.check(Promise::OneOwner, false, || format!("{ticket:?} is answered twice"));
            return;
        };
        let verdict = self.verdict_as_given(process, verdict);
        self.check_verdict(process, &request, &verdict);
        let is_left = self.has_hung_up(self.processes[process].ownership.lease(), &request);
        if let (Verdict::Serve { epoch }, Some(key), false) = (&verdict, request.key().cloned(), is_left) {
            request.by_stray = !self.check_serving(process, &key, *epoch, request.balancer, false);
            if !request.is_question {
                self.attach(process, &key, &request, self.now + WAITS_FOR);
            }
        }
        let is_held_up = self.random.chance(if matches!(verdict, Verdict::Redirect { .. }) { 10 } else { 2 });
        let delay = if is_held_up { self.random.millis(300, 5_000) } else { self.network_delay() };
        let reply = if self.loses() || is_left { Reply::Died } else { Reply::Verdict(verdict) };
        self.after(delay, Event::Answered { request, reply });
    }

    /// Who joins a session gets in where it is served, and nobody is sent to an owner that was out of reach just now.
    fn check_verdict(&mut self, process: usize, request: &Request, verdict: &Verdict) {
        let now = self.now;
        let node = &self.processes[process];
        let live = request.key().and_then(|key| node.rooms.get(key));
        let serves = live.is_some_and(|live| !live.moving) && node.is_open(now) && request.wants != Wants::New;
        let is_refused = matches!(verdict, Verdict::Missing | Verdict::Unavailable { .. });
        self.check(Promise::OrdersEndNothing, !(serves && is_refused), || {
            format!("{process} serves {:?} and answers {verdict:?}", request.key())
        });
        if let Verdict::Redirect { owner, .. } = verdict {
            self.check(Promise::DeathsEndNothing, !request.unreachable.contains(&owner.node), || {
                format!("a request is sent to {owner}, which it could not reach")
            });
        }
    }

    pub(crate) fn store_answers(
        &mut self,
        process: usize,
        id: CommandId,
        answer: Result<ctedge_ownership::Outcome, ctedge_ownership::StoreFailure>,
    ) {
        let answer = answer.map(|outcome| self.outcome_as_given(outcome));
        self.processes[process].adopting.remove(&id);
        self.processes[process].ownership.store_answered(id, answer, self.now);
        self.carry_out(process);
    }

    /// The process ends: by itself, or killed.
    pub(crate) fn end_process(&mut self, process: usize) {
        let node = &self.processes[process];
        if node.frozen || node.apart || node.deaf || !node.has_store {
            // What was wrong ends with it: whoever could not get to its sessions has yet to find their next owner.
            self.disturbed();
        }
        let node = &mut self.processes[process];
        node.alive = false;
        node.frozen = false;
        node.rooms.clear();
        let inbox = std::mem::take(&mut node.inbox);
        for (_, request) in std::mem::take(&mut node.asking) {
            self.soon(Event::Answered { request, reply: Reply::Died });
        }
        for event in inbox {
            self.soon(event);
        }
        let open: Vec<usize> = self.open_connections.iter().copied().collect();
        for connection in open {
            if self.connections[connection].process == process {
                self.cut(connection);
                self.connections[connection].node_open = false;
            }
        }
    }
}
