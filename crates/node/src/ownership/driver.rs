//! The thread that drives the node's ownership.
//!
//! It has a runtime of its own, so that its heartbeats wait for nothing that the node does. What takes time (the store, a
//! probe, a session that moves) runs in tasks there; the machine itself is called from one place, one input at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ctedge_license::seats::Wish;
use ctedge_ownership::{
    Action, Command, CommandId, Drain, DrainProgress, Epoch, Event, Fence, HandoffReason, LeaseEnd, LeaseId, LetGo,
    Outcome, Ownership, OwnershipSettings, StoreFailure, Ticket, Verdict,
};
use ctedge_settings::NodeSettings;
use ctedge_store::Seats;
use ctedge_wire::Key;
use ctedge_wire::health::NodeStatus;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::giving::Given;
use super::keeper::Keeper;
use super::logins::LoginKeys;
use super::questions::Questions;
use super::target::Placement;
use super::{Ending, Input, Journal, Order, Owners, View, logins, probe, tidy};
use crate::app::App;
use crate::clock;
use crate::license::SeatStore;

/// How often the driver looks at what nobody tells it: logins that are over, what its view shows.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How much of the time in which a session must be given away its connections may take to close.
const CLOSING_SHARE: f64 = 0.75;

/// How many leases that are over are told in health reports. More at one time would be the store's trouble, not the nodes'.
const OVER_TOLD_MAX: usize = 64;

/// What the driver listens to.
pub(crate) struct Inbox(pub(super) mpsc::UnboundedReceiver<Input>);

/// What a node shares its ownership with.
pub(crate) struct Shared {
    pub(crate) owners: Owners,
    pub(crate) journal: Journal,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) inbox: Inbox,
}

/// The driver's thread. Dropping it lets the thread end by itself; the lease is left to be found silent.
pub(crate) struct DriverThread {
    owners: Owners,
    /// Closed when the thread has ended.
    running: watch::Receiver<()>,
}

impl DriverThread {
    /// Starts to share ownership. The node must have bound the address at which others reach it: `app` serves there.
    pub(crate) fn start(app: Arc<App>, shared: Shared) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime of the node's heartbeats")?;
        let (runs, running) = watch::channel(());
        let owners = shared.owners.clone();
        let run = move || {
            runtime.block_on(async move {
                let keeper = Arc::clone(&shared.keeper);
                let opening = tokio::spawn(Arc::clone(&keeper).open());
                let Shared { owners, journal, inbox, .. } = shared;
                let leaving = Arc::clone(&app);
                let tidying = tokio::spawn(tidy::run(Arc::clone(&keeper), journal.clone()));
                let pool = SharedSeats { owners: owners.clone(), keeper: Arc::clone(&keeper) };
                let seating = tokio::spawn(Arc::clone(&app.hub.seats).run(pool));
                let freeing = tokio::spawn(Arc::clone(&app.hub.seats).free_left(journal.clone()));
                let leaves = Driver::new(app, owners, journal, Arc::clone(&keeper)).run(inbox).await;
                [opening, tidying, seating, freeing].iter().for_each(JoinHandle::abort);
                keeper.flush().await;
                if let Some(lease) = leaves {
                    // Whatever the answer is: if the store does not hear it, others will find the lease silent.
                    let _ = take_leave(&keeper, lease, report_of(&leaving, Vec::new())).await;
                }
            });
            drop(runs);
        };
        std::thread::Builder::new().name("ownership".into()).spawn(run).context("cannot start a thread")?;
        Ok(Self { owners, running })
    }

    /// Writes what is left into the store, ends the lease if the node still has it, and ends the thread.
    pub(crate) async fn close(&mut self) {
        self.owners.tell(Input::Close { leaves: true });
        // An error is what is waited for: the thread has dropped its end.
        let _ = self.running.changed().await;
    }

    /// Completes when a drain is complete that was to end the process. An error when the thread has ended by itself,
    /// which it does only by a panic. Cancel safe.
    pub(crate) async fn over(&mut self) -> anyhow::Result<Ending> {
        tokio::select! {
            ending = self.owners.finished() => Ok(ending),
            _ = self.running.changed() => anyhow::bail!("the thread of the node's heartbeats has ended"),
        }
    }
}

impl Drop for DriverThread {
    fn drop(&mut self) {
        self.owners.tell(Input::Close { leaves: false });
    }
}

/// Ends the own lease, with a last word that the node leaves: whoever finds it ended without that takes the node for dead.
async fn take_leave(keeper: &Keeper, lease: LeaseId, report: String) -> Result<Outcome, StoreFailure> {
    keeper.execute(Command::Beat { lease: lease.clone(), status: NodeStatus::Draining, report }).await?;
    keeper.execute(Command::EndLease { lease, beat: None, why: LeaseEnd::Left }).await
}

/// What the node says of itself beside its lease.
fn report_of(app: &App, awaited: Vec<String>) -> String {
    serde_json::to_string(&app.lease_report(awaited)).unwrap_or_default()
}

/// The seats that all nodes share, as the lease that this node has at the moment sees them.
struct SharedSeats {
    owners: Owners,
    keeper: Arc<Keeper>,
}

impl SeatStore for SharedSeats {
    fn lease(&self) -> LeaseId {
        self.owners.view().lease
    }

    async fn hold(&self, lease: &LeaseId, wish: Wish, licensed: u32) -> Result<Option<Seats>, StoreFailure> {
        self.keeper.hold_seats(lease, wish, licensed).await
    }
}

/// What a task of the driver has found out.
pub(super) enum Done {
    Stored(CommandId, Result<Outcome, StoreFailure>),
    Probed(LeaseId, bool),
    Heard { is_served: bool, is_reached: bool },
    Given(Given),
    Settled,
}

pub(super) struct Driver {
    pub(super) app: Arc<App>,
    owners: Owners,
    journal: Journal,
    keeper: Arc<Keeper>,
    pub(super) machine: Ownership,
    pub(super) tasks: JoinSet<Done>,
    pub(super) questions: Questions,
    /// Keys that are owned for the logins that wait under them.
    pub(super) login_keys: LoginKeys,
    /// How many questions the store is asked about without a lease.
    settling: usize,
    probe_timeout: Duration,
    /// Whether the node's own listener answered when it was last asked.
    is_served: bool,
    /// When everything must be given away, if that is ordered.
    leave_by: Option<Instant>,
}

impl Driver {
    fn new(app: Arc<App>, owners: Owners, journal: Journal, keeper: Arc<Keeper>) -> Self {
        let settings = app.settings();
        let ownership = ownership_settings(settings);
        let lease = owners.view().lease;
        let ranking = Box::new(Placement::new(settings.secret.placement_seed(), app.changeable.weights.clone()));
        let mut machine =
            Ownership::new(ownership, lease, app.address, std::process::id(), ranking, clock::awake_or_not());
        if app.hub.status().current() == NodeStatus::Suspended {
            machine.suspend();
        }
        Self {
            app,
            owners,
            journal,
            keeper,
            machine,
            tasks: JoinSet::new(),
            questions: Questions::default(),
            login_keys: LoginKeys::default(),
            settling: 0,
            probe_timeout: ownership.probe_timeout,
            is_served: true,
            leave_by: None,
        }
    }

    /// Drives until it is told to close. Gives the lease that the node still has then and is to end.
    async fn run(mut self, Inbox(mut inputs): Inbox) -> Option<LeaseId> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let keeper = Arc::clone(&self.keeper);
        loop {
            self.carry_out_all();
            let now = clock::awake_or_not();
            let due = self.machine.poll_timeout().map_or(HOUSEKEEPING, |at| at.saturating_duration_since(now));
            tokio::select! {
                // What is due comes first: it is the heartbeat, and the least of all.
                biased;
                () = tokio::time::sleep(due) => {
                    self.report();
                    self.machine.timeout(clock::awake_or_not());
                }
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.done(done),
                lost = keeper.lost_sessions() => self.lost(lost),
                _ = housekeeping.tick() => self.keep_house(),
                input = inputs.recv() => match input {
                    Some(Input::Close { leaves }) => return self.close(leaves),
                    None => return None,
                    Some(input) => self.told(input),
                },
            }
        }
    }

    /// Nothing is served any more.
    fn close(&mut self, leaves: bool) -> Option<LeaseId> {
        self.owners.gate().publish(Fence::Closed, clock::awake_or_not());
        (leaves && !self.machine.is_gone()).then(|| self.machine.lease().clone())
    }

    fn told(&mut self, input: Input) {
        let now = clock::awake_or_not();
        match input {
            Input::Asked(asked) => {
                let ask = self.questions.open(*asked);
                self.machine.asked(ask, now);
            }
            Input::GaveUp(ticket) => {
                self.machine.gave_up(ticket);
                self.questions.forget(ticket);
            }
            Input::SessionEnded(key, epoch) => self.machine.session_ended(&key, epoch, now),
            Input::Ordered(order, done) => {
                let obeyed = self.ordered(order, now);
                self.carry_out_all();
                let _ = done.send(obeyed);
            }
            Input::Foresee(plan) => {
                // Fails when whoever asked is gone.
                let _ = plan.send(self.foresee());
            }
            Input::Close { .. } => {}
        }
    }

    fn ordered(&mut self, order: Order, now: Instant) -> bool {
        tracing::info!(?order, "the node is ordered");
        match order {
            Order::Drain(drain) => {
                self.drain(drain, now);
                true
            }
            Order::Leave { within } => {
                self.leave_by = Some(now + within);
                // Half of the time for beginning, the other half for the last ones to move.
                let per_second = self.machine.sessions() as f64 / (within.as_secs_f64() / 2.0).max(f64::MIN_POSITIVE);
                // A float turns into the nearest number that there is.
                self.machine.hurry(per_second.ceil() as u32);
                self.app.hub.hasten_moves(Instant::now() + self.move_within());
                self.drain(Drain { deadline: Some(Duration::ZERO), exit: true, reason: HandoffReason::Stop }, now);
                true
            }
            Order::Suspend => self.machine.suspend(),
            Order::Resume => self.machine.resume(),
        }
    }

    fn drain(&mut self, drain: Drain, now: Instant) {
        self.own_logins(drain, now);
        self.machine.drain(drain, now);
    }

    /// How long the connections of a session that is given away may take to close. What is not read by then is lost, but the
    /// session is not: the last part of the time is for writing it into the store.
    pub(super) fn move_within(&self) -> Duration {
        let close = self.app.settings().drain.close;
        self.leave_by
            .map_or(close, |by| close.min(by.saturating_duration_since(clock::awake_or_not()).mul_f64(CLOSING_SHARE)))
    }

    /// Logins that wait are no sessions, but they go where the sessions go. They need an owner for that; under the key of a
    /// session they have it.
    fn own_logins(&mut self, drain: Drain, now: Instant) {
        // Without the store they cannot be owned, and the node would not end before they are.
        if drain.exit && matches!(self.machine.fence(), Fence::OpenUntil(_)) {
            for key in logins::keys(&self.app.logins) {
                let is_owned = self.machine.epoch(&key).is_some();
                if !is_owned && self.login_keys.ask(key.clone()) {
                    self.machine.asked(logins::ask_for(key, self.owners.next_ticket()), now);
                }
            }
        }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = clock::awake_or_not();
        match done {
            Ok(Done::Stored(id, answer)) => {
                let has_beaten = matches!(answer, Ok(Outcome::Beaten { .. }));
                self.machine.store_answered(id, answer, now);
                if has_beaten {
                    self.app.figures.learn(self.machine.lease(), self.machine.beating(), Instant::now());
                    self.app.reach.learn(&self.machine.lease().node, self.machine.beating(), Instant::now());
                }
            }
            Ok(Done::Probed(lease, alive)) => self.machine.probe_answered(&lease, alive, now),
            Ok(Done::Heard { is_served, is_reached }) => {
                self.is_served = is_served;
                self.machine.listener_answered(is_served && is_reached, now);
            }
            Ok(Done::Given(given)) => self.given(given, now),
            Ok(Done::Settled) => self.settling -= 1,
            // Nothing in these tasks panics, and nothing aborts them before the driver's end.
            Err(error) => tracing::error!(%error, "a task of the node's ownership failed"),
        }
    }

    /// The store says that these sessions have other owners or epochs than the journal wrote.
    fn lost(&mut self, sessions: BTreeSet<(Key, Epoch)>) {
        for (key, epoch) in sessions {
            self.machine.fenced(&key, epoch, clock::awake_or_not());
        }
    }

    /// Takes and carries out everything that the machine has decided, and shows what has come of it.
    fn carry_out_all(&mut self) {
        while let Some(action) = self.machine.next_action() {
            self.carry_out(action);
        }
        // Keys that are owned for logins are no sessions.
        let login_keys = self.login_keys.owned(|key| self.machine.has_session(key));
        let drain = self.machine.drain_progress(clock::awake_or_not());
        let view = View {
            lease: self.machine.lease().clone(),
            status: self.machine.status(),
            drain: drain.map(|drain| DrainProgress { sessions: drain.sessions.saturating_sub(login_keys), ..drain }),
            store: self.keeper.state(),
            over: self.machine.ended_by_silence().take(OVER_TOLD_MAX).cloned().collect(),
            trouble: self.trouble(),
            waiting: self.machine.waiting(),
        };
        self.app.hub.status().follow(view.status);
        let before = std::mem::replace(&mut *self.owners.0.view.lock(), view.clone()).trouble;
        match view.trouble {
            Some(trouble) if before.as_ref() != Some(&trouble) => tracing::error!("{trouble}"),
            None if before.is_some() => tracing::info!("what was wrong is right again"),
            _ => {}
        }
    }

    /// What an operator has to set right.
    fn trouble(&self) -> Option<String> {
        let (own, address) = (&self.machine.lease().node, self.app.address);
        let namesake = self.machine.namesake().map(|other| {
            format!(
                "the nodes {own} and {} both say that they are reached at {address}: requests for the one come to the other. give \
                 each an address of its own in [[nodes]]",
                other.id.node
            )
        });
        self.keeper.trouble().or(namesake)
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Store(id, Command::EndLease { lease, .. }) if lease == *self.machine.lease() => {
                let (keeper, report) = (Arc::clone(&self.keeper), report_of(&self.app, Vec::new()));
                self.tasks.spawn(async move { Done::Stored(id, take_leave(&keeper, lease, report).await) });
            }
            Action::Store(id, command) => {
                let keeper = Arc::clone(&self.keeper);
                self.tasks.spawn(async move { Done::Stored(id, keeper.execute(command).await) });
            }
            Action::Probe(lease, address) => {
                let timeout = self.probe_timeout;
                self.tasks.spawn(async move {
                    let alive = probe::answers(&lease, address, timeout).await;
                    Done::Probed(lease, alive)
                });
            }
            Action::ProbeOneself => {
                let (listener, timeout) = (self.app.listener, self.probe_timeout);
                // Before it asks: whoever asks is here.
                let is_reached = self.app.is_reached();
                self.tasks.spawn(async move {
                    Done::Heard { is_served: probe::is_served(listener, timeout).await, is_reached }
                });
            }
            Action::RenewGraces => self.app.hub.renew_graces(),
            Action::Drain(drain) => self.drain(drain, clock::awake_or_not()),
            Action::Answer(ticket, verdict) => self.answer(ticket, verdict),
            Action::Begin { key, epoch, origin } => self.begin(&key, epoch, origin),
            Action::StartMoving { key, epoch } => self.start_moving(key, epoch),
            Action::LetGo { which, why } => {
                tracing::warn!(?which, ?why, "the node lets go of sessions that may be another's");
                match which {
                    LetGo::All => {
                        self.login_keys.clear();
                        self.app.hub.let_go_all();
                    }
                    LetGo::One(key) => {
                        self.login_keys.leave(&key);
                        self.app.hub.let_go(&key);
                    }
                }
            }
            Action::RegisterAnew => {
                let incarnation = clock::random_incarnation();
                self.journal.registered(incarnation);
                self.machine.registers_anew(incarnation, clock::awake_or_not());
            }
            Action::Fence(fence) => {
                let now = clock::awake_or_not();
                self.owners.gate().publish(fence, now);
                if fence.is_open(now) {
                    self.app.hub.release_held();
                }
            }
            Action::Reaped(keys) => keys.iter().for_each(|key| self.tell_lost(key, "nobody_came")),
            Action::DrainFinished { exit } => {
                tracing::info!(exit, "the drain is complete");
                if exit {
                    let drain = self.machine.drain_progress(clock::awake_or_not());
                    let is_deaf = drain.is_some_and(|progress| progress.drain.reason == HandoffReason::Deaf);
                    self.owners.0.finished.send_replace(Some(if is_deaf { Ending::Deaf } else { Ending::Drained }));
                }
            }
            Action::Count(event) => self.count(event),
        }
    }

    fn answer(&mut self, ticket: Ticket, verdict: Verdict) {
        self.app.hub.metrics().ownership.answered(&verdict);
        if let Some(left) = self.questions.answer(ticket, verdict) {
            if self.settling >= self.app.settings().limits.pending_max {
                return left.give_up();
            }
            self.settling += 1;
            let (keeper, own) = (Arc::clone(&self.keeper), self.machine.lease().clone());
            self.tasks.spawn(async move {
                left.settle(keeper, own).await;
                Done::Settled
            });
        }
    }

    /// Tells operators that nobody can go on with the session.
    pub(super) fn tell_lost(&self, key: &Key, why: &str) {
        tracing::info!(target: "sessions", event = "ended", reason = "lost", session = %key);
        self.journal.lost(key);
        self.app.hub.metrics().ownership.lost(why);
    }

    fn count(&self, event: Event) {
        self.app.hub.metrics().ownership.happened(event);
        match event {
            Event::Deaf if self.is_served => tracing::error!(
                address = %self.app.address,
                "nobody reaches this node: people look for its sessions elsewhere, and nobody asks it for anything. It gives them away \
                 and ends, to be started again; look at the way to its address, a firewall or a route"
            ),
            Event::Deaf => tracing::error!(
                listener = %self.app.listener,
                "nobody reaches this node: its own listener does not answer. It gives its sessions away and ends, to be started \
                 again; look for \"cannot accept a connection\" above, and at the limit of open files"
            ),
            Event::LeaseSilent | Event::EndedSilentLease | Event::LeaseLost | Event::CutOff => {
                tracing::warn!(?event, "a lease is in question");
            }
            _ => tracing::debug!(?event, "ownership"),
        }
    }

    /// What the next heartbeat tells the others.
    fn report(&mut self) {
        let awaited = self.machine.awaited().into_iter().map(|node| node.as_str().to_owned()).collect();
        self.machine.report(report_of(&self.app, awaited));
    }

    fn keep_house(&mut self) {
        let now = clock::awake_or_not();
        for key in self.login_keys.take_idle(&self.app.logins) {
            if let Some(epoch) = self.machine.epoch(&key) {
                self.machine.session_ended(&key, epoch, now);
            }
        }
    }
}

fn ownership_settings(settings: &NodeSettings) -> OwnershipSettings {
    let defaults = OwnershipSettings::default();
    let lease = &settings.lease;
    OwnershipSettings {
        beat_every: lease.beat,
        lost_after: lease.lost_after,
        probe_timeout: defaults.probe_timeout.min(lease.lost_after),
        asks_max: settings.limits.pending_max,
        handoffs_per_second: settings.drain.handoffs_per_second,
        // The grace period, within which peers may come back, and as much again for whoever is slow to find out.
        reap_after: settings.timeouts.grace + defaults.reap_after / 2,
        ..defaults
    }
}
