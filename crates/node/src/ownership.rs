//! A node's part in what the nodes share: which of them owns which session.
//!
//! The decisions are [`ctedge_ownership::Ownership`]'s. A driver in a thread of its own feeds it and carries out what it
//! decides, so that neither a busy relay nor a slow store keeps a heartbeat waiting. Everything else in the node asks
//! [`Owners`], and only for keys that are not in memory.
//!
//! - [`gate`]: the fence as one number.
//! - `driver`: the thread; `begin`, `giving`: how it makes sessions and gives them away.
//! - `questions`: who waits for which answer.
//! - `keeper`: the store, as it comes and goes; `journal`: what is written there behind the messages.
//! - `probe`: asks another node whether it lives. `target`: who gets a session.
//! - `logins`: logins that wait, at the end of a node.
//! - `tidy`: what the store keeps for how long. `counts`: what is counted of all this.

mod begin;
pub mod counts;
mod driver;
pub mod gate;
mod giving;
pub(crate) mod journal;
mod keeper;
mod logins;
mod probe;
mod questions;
mod target;
mod tidy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ctedge_ownership::{Ask, Drain, DrainProgress, Epoch, LeaseId, NodeId, Ticket, Unavailable, Verdict, Wants};
use ctedge_session::Beginning;
use ctedge_wire::{DrainPlan, Key, NodeStatus, StoreState};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use begin::session_peer;
pub(crate) use driver::{DriverThread, Inbox, Shared};
pub use gate::Gate;
pub(crate) use journal::Journal;
pub(crate) use keeper::Keeper;

/// When somebody may come again whose request this node could not even ask about.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Where the rest of the node asks about ownership. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owners(Arc<Handle>);

struct Handle {
    /// Not bounded itself: what it holds is bounded by open requests and by sessions.
    inbox: mpsc::UnboundedSender<Input>,
    tickets: AtomicU64,
    gate: Arc<Gate>,
    view: Mutex<View>,
    /// Set when a drain is complete that ends the process.
    finished: watch::Sender<Option<Ending>>,
}

/// Why the process ends when it has nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was ordered.
    Drained,
    /// Nobody reaches it.
    Deaf,
}

/// What the driver last said of itself.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) lease: LeaseId,
    pub(crate) status: NodeStatus,
    pub(crate) drain: Option<DrainProgress>,
    pub(crate) store: StoreState,
    /// Leases of other nodes that ended because they were silent.
    pub(crate) over: Vec<LeaseId>,
    /// What an operator has to set right.
    pub(crate) trouble: Option<String>,
    /// How many requests wait for the owner of a key.
    pub(crate) waiting: usize,
}

/// What the driver is told.
enum Input {
    Asked(Box<Asked>),
    GaveUp(Ticket),
    SessionEnded(Key, Epoch),
    Ordered(Order, oneshot::Sender<bool>),
    Foresee(oneshot::Sender<DrainPlan>),
    /// Serve nothing, write what is left, and end; with the lease, if the node leaves.
    Close {
        leaves: bool,
    },
}

/// A request that needs the owner of a key.
struct Asked {
    ask: Ask,
    /// How the session begins if the key is free.
    beginning: Option<Beginning>,
    answer: oneshot::Sender<Answer>,
}

/// What an operator wants of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Drain(Drain),
    /// Gives everything away at once and ends, within that time.
    Leave {
        within: Duration,
    },
    Suspend,
    Resume,
}

/// What a request is told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// Whether it was this request that the session was begun for.
    pub(crate) began: bool,
}

impl Owners {
    /// The handle, and what the driver listens to.
    pub(crate) fn new(lease: LeaseId) -> (Self, Inbox) {
        let (inbox, inputs) = mpsc::unbounded_channel();
        let view = View {
            lease,
            status: NodeStatus::Ready,
            drain: None,
            store: StoreState::Unreachable,
            over: Vec::new(),
            trouble: None,
            waiting: 0,
        };
        let handle = Handle {
            inbox,
            tickets: AtomicU64::new(0),
            gate: Arc::new(Gate::closed()),
            view: Mutex::new(view),
            finished: watch::Sender::new(None),
        };
        (Self(Arc::new(handle)), Inbox(inputs))
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }

    /// Who owns `key`? A session that may begin does so with `beginning`. Giving the future up takes the question back.
    pub(crate) async fn ask(
        &self,
        key: &Key,
        wants: Wants,
        unreachable: &[NodeId],
        beginning: Option<Beginning>,
    ) -> Answer {
        let ticket = self.next_ticket();
        let ask = Ask { ticket, key: key.clone(), wants, unreachable: unreachable.to_vec() };
        let (answer, answered) = oneshot::channel();
        self.tell(Input::Asked(Box::new(Asked { ask, beginning, answer })));
        let mut question = Question { owners: self, ticket, is_open: true };
        let answered = answered.await;
        question.is_open = false;
        // The driver is gone only when the node is about to be.
        answered.unwrap_or(Answer {
            verdict: Verdict::Unavailable { retry_after: RETRY_AFTER, why: Unavailable::NoLease },
            began: false,
        })
    }

    /// The session that this node owns since `epoch` is over here.
    pub(crate) fn session_ended(&self, key: &Key, epoch: u64) {
        self.tell(Input::SessionEnded(key.clone(), Epoch(epoch)));
    }

    /// Gives an order. `false` when the node cannot follow it any more.
    pub(crate) async fn order(&self, order: Order) -> bool {
        let (done, is_done) = oneshot::channel();
        self.tell(Input::Ordered(order, done));
        is_done.await.unwrap_or(false)
    }

    /// What a drain would move at this moment. `None` when the node is about to end.
    pub(crate) async fn foresee(&self) -> Option<DrainPlan> {
        let (plan, planned) = oneshot::channel();
        self.tell(Input::Foresee(plan));
        planned.await.ok()
    }

    /// Completes when a drain is complete that ends the process.
    pub(crate) async fn finished(&self) -> Ending {
        let mut finished = self.0.finished.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let ending = finished.wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
        ending.unwrap_or(Ending::Drained)
    }

    /// What the driver last said of itself.
    pub(crate) fn view(&self) -> View {
        self.0.view.lock().clone()
    }

    /// A ticket that nobody has had.
    fn next_ticket(&self) -> Ticket {
        Ticket(self.0.tickets.fetch_add(1, Ordering::Relaxed))
    }

    fn tell(&self, input: Input) {
        // Fails when the driver is gone, and then nobody needs to know.
        let _ = self.0.inbox.send(input);
    }
}

/// An open question. A client that goes away takes it back.
struct Question<'a> {
    owners: &'a Owners,
    ticket: Ticket,
    is_open: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.owners.tell(Input::GaveUp(self.ticket));
        }
    }
}
