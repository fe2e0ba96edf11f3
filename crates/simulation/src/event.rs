//! What happens, and when.

use std::cmp::Ordering;
use std::time::Instant;

use ctedge_ownership::{Command, CommandId, Drain, LeaseId, Outcome, SeatShare, StoreFailure};

use crate::balancer::{Reply, Request};
use crate::seats::SeatQuestion;

/// One thing that happens. Numbers name balancers, processes, clients and connections by their place in the world.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A command reaches the store.
    StoreArrives { process: usize, id: CommandId, command: Command, answer: StoreWay },
    /// The store's answer, or the lack of one, reaches a process.
    StoreAnswers { process: usize, id: CommandId, answer: Result<Outcome, StoreFailure> },
    /// A process looks after its seats.
    Seats { process: usize },
    /// A question for seats reaches the store.
    SeatsArrive { question: SeatQuestion, answer: StoreWay },
    /// The answer to it, or the lack of one, reaches the process.
    SeatsAnswer { process: usize, serial: u64, answer: Result<Option<SeatShare>, StoreFailure> },
    /// A request that waits at a process for a seat looks again; `until` then nobody waits longer.
    AwaitsSeat { process: usize, request: Box<Request>, until: Instant },
    /// A client finds no seat.
    NoSeat { client: usize, attempt: u64 },
    /// The supervisor, which saw a child exit, ends its lease.
    SupervisorEnds(LeaseId),
    /// A probe reaches whoever listens at the lease's address.
    ProbeArrives { from: usize, probe: u64, lease: LeaseId, target: usize },
    /// A probe has an answer, or no more time for one.
    ProbeEnds { process: usize, probe: u64, alive: bool },
    /// A process that asked its own listener has no answer.
    Unheard { process: usize },
    /// A process's timer.
    Timer { process: usize, at: Instant },
    /// A process looks after its sessions' graces.
    Tick { process: usize },
    /// A process writes its journal.
    Journal { process: usize },
    /// A process that moves a session waits no longer for its peers to close.
    MoveTimeout { process: usize, room: usize },
    /// A process is killed if it is still there: its time to stop is over.
    StopTimeout { process: usize },
    /// A request reaches its balancer.
    AtBalancer(Box<Request>),
    /// A request reaches a process.
    AtProcess { process: usize, request: Box<Request> },
    /// A process's answer reaches the balancer.
    Answered { request: Box<Request>, reply: Reply },
    /// A final answer other than a connection reaches the client.
    Refused { client: usize, attempt: u64, missing: bool },
    /// A client that has no connection tries to get one.
    Try { client: usize, attempt: u64 },
    /// A client has waited long enough for an answer.
    TryTimeout { client: usize, attempt: u64 },
    /// A client sends a message, if it can.
    Send { client: usize },
    /// A frame reaches the node's end of a connection.
    ToNode { connection: usize, frame: Frame },
    /// A frame reaches the client's end.
    ToClient { connection: usize, frame: Frame },
    /// A balancer checks all nodes.
    Checks { balancer: usize, generation: u32 },
    /// A balancer learns the list of nodes.
    Listed { balancer: usize },
    /// A stopped process goes on.
    Thaw { process: usize },
    /// A process that was cut off from the store and other nodes reaches them again.
    Rejoined { process: usize },
    /// The way between a process (or all) and the store is mended.
    StoreMended { process: Option<usize> },
    /// A process accepts connections again.
    Hears { process: usize },
    /// The store has room again.
    RoomMade,
    /// A node is started.
    Start { slot: usize },
    /// A process is told to drain.
    Drain { process: usize, drain: Drain },
    /// A drain ends by the operator's resuming.
    Resume { process: usize },
    /// Something goes wrong, or an operator does something.
    Disturb,
    /// Everything is mended, and nothing goes wrong any more.
    Mend,
    /// Is everything as it should be after a time without disturbance?
    Settled,
}

/// What becomes of a command and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreWay {
    /// It is executed and answered.
    Good,
    /// It is executed, and the answer is lost. That it is missing is noticed elsewhere.
    Mute,
}

/// What travels on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// To the client, first: the stream that its data belongs to.
    Welcome { attempt: u64, stream: u64 },
    /// To the client: a message of `sender` at `offset` of the stream.
    Data { offset: u64, sender: usize, number: u64 },
    /// To the node: the client's message of that number.
    Message { number: u64 },
    /// To the node: the host ends the session.
    Leave,
    /// To the client: the session is over.
    Over,
    /// The other end has closed: nothing more comes from there.
    Close,
}

/// An event and its time. Of two at one time the first scheduled comes first.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) at: Instant,
    pub(crate) serial: u64,
    pub(crate) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}
