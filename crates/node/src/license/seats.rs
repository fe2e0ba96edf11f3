//! The seats of a node: who gets one, who waits for one, and the task that asks the store for more.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_license::seats::{ASK_AGAIN, SeatHolder, Share, Wish};
use ctedge_ownership::{LeaseId, StoreFailure};
use ctedge_store::{JournalMark, Seats};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ownership::Journal;

/// How long somebody waits for a seat. Long enough for every other node to hear of it, at [`ctedge_license::seats::ASK_EVERY`],
/// and give its reserve back; short enough for a person who is refused in the end.
const WAIT_MAX: Duration = Duration::from_millis(2_500);

/// What gives and takes seats for all nodes.
pub(crate) trait SeatStore: Send {
    /// The lease that the node has at the moment.
    fn lease(&self) -> LeaseId;

    /// Holds the seats that are wished for in all for `lease`, or as many as there are. `None` if the lease is over.
    fn hold(
        &self,
        lease: &LeaseId,
        wish: Wish,
        licensed: u32,
    ) -> impl Future<Output = Result<Option<Seats>, StoreFailure>> + Send;
}

/// Why somebody gets no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    /// As many people are connected as the license allows.
    #[error(
        "All {licensed} connections that this server is licensed for are in use. Please try again when somebody has left"
    )]
    AllTaken {
        /// How many the license allows.
        licensed: u32,
    },
    /// All seats that this node holds are taken, and the store does not answer, which knows of more.
    #[error("The server cannot let in more people at the moment. Please try again later")]
    StoreAway,
}

/// How many seats there are, and how many of them are whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatCounts {
    /// Those of the license, for all nodes together.
    pub licensed: u32,
    /// Those that this node may use.
    pub held: u32,
    /// Those that are taken on this node.
    pub taken: u32,
}

/// The seats of a node.
pub(crate) struct NodeSeats {
    /// How long somebody waits for a seat that another node may give back.
    wait_max: Duration,
    state: Mutex<State>,
    /// Wakes the task that asks.
    wanted: Notify,
    /// Wakes those who wait.
    changed: Notify,
    /// Wakes the task that frees the seats of those who left.
    left: Notify,
}

struct State {
    holder: SeatHolder,
    waiting: u32,
    is_store_away: bool,
    /// Those who left, and how far the journal is when the store knows.
    leaving: VecDeque<(JournalMark, u32)>,
}

impl State {
    /// What was written down under the lease is another's to say.
    fn lost(&mut self) {
        for (_, peers) in self.leaving.drain(..) {
            self.holder.leave(peers);
        }
        self.holder.lost();
    }
}

impl NodeSeats {
    /// The seats of a node that shares the license with others through a store, and must [`Self::run`] for that.
    pub(crate) fn shared(licensed: u32) -> Arc<Self> {
        Self::new(SeatHolder::new(licensed), WAIT_MAX)
    }

    /// The seats of a node that is alone.
    pub(crate) fn alone(licensed: u32) -> Arc<Self> {
        Self::new(SeatHolder::alone(licensed), Duration::ZERO)
    }

    fn new(holder: SeatHolder, wait_max: Duration) -> Arc<Self> {
        let state = State { holder, waiting: 0, is_store_away: false, leaving: VecDeque::new() };
        let [wanted, changed, left] = std::array::from_fn(|_| Notify::new());
        Arc::new(Self { wait_max, state: Mutex::new(state), wanted, changed, left })
    }

    /// Takes a seat for a peer that joins, if one is free at this moment.
    pub(crate) fn take(&self) -> bool {
        let is_taken = self.state.lock().holder.take();
        self.wanted.notify_one();
        is_taken
    }

    /// So many peers left. Their seats are free when the store has what is in the journal by now, as `journaled` says: until
    /// then they are written down there, and may come back if this node dies. At once if nobody wrote them down.
    pub(crate) fn leave(&self, peers: usize, journaled: Option<JournalMark>) {
        let mut state = self.state.lock();
        match journaled {
            Some(mark) => {
                state.leaving.push_back((mark, number(peers)));
                self.left.notify_one();
            }
            None => {
                state.holder.leave(number(peers));
                self.changed.notify_waiters();
            }
        }
    }

    /// Frees the seats of those who left as `journal` gets written, until it is dropped.
    pub(crate) async fn free_left(self: Arc<Self>, journal: Journal) {
        loop {
            let next = self.state.lock().leaving.front().map(|(mark, _)| *mark);
            match next {
                Some(mark) => {
                    journal.written(mark).await;
                    self.written(mark);
                }
                None => self.left.notified().await,
            }
        }
    }

    fn written(&self, reached: JournalMark) {
        let state = &mut *self.state.lock();
        while let Some((_, peers)) = state.leaving.pop_front_if(|(mark, _)| reached.reaches(*mark)) {
            state.holder.leave(peers);
        }
        self.changed.notify_waiters();
    }

    /// So many peers came with their session from another node.
    pub(crate) fn sit(&self, peers: usize) {
        self.state.lock().holder.sit(number(peers));
        self.wanted.notify_one();
    }

    /// So many peers went with their session to another node.
    pub(crate) fn hand_over(&self, peers: usize) {
        self.state.lock().holder.hand_over(number(peers));
        self.wanted.notify_one();
    }

    /// The lease is over, and everything is let go.
    pub(crate) fn lost(&self) {
        self.state.lock().lost();
        self.wanted.notify_one();
    }

    /// The license says another number.
    pub(crate) fn set_licensed(&self, licensed: u32) {
        self.state.lock().holder.set_licensed(licensed);
        self.wanted.notify_one();
        self.changed.notify_waiters();
    }

    pub(crate) fn counts(&self) -> SeatCounts {
        let holder = &self.state.lock().holder;
        SeatCounts { licensed: holder.licensed(), held: holder.held(), taken: holder.taken() }
    }

    /// How many wait for a seat.
    pub(crate) fn waiting(&self) -> u32 {
        self.state.lock().waiting
    }

    /// Until when somebody waits who begins at this moment.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.wait_max
    }

    /// Waits until a seat is free here, but no longer than `deadline`. It is not taken: somebody else may be faster, and
    /// then one waits again.
    pub(crate) async fn free(&self, deadline: Instant) -> Result<(), NoSeat> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that no change between the look and the wait is missed.
            changed.as_mut().enable();
            let Some(_waiter) = self.wait() else { return Ok(()) };
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return self.refusal().map_or(Ok(()), Err);
            }
        }
    }

    /// `None` if a seat is free; otherwise counts somebody who waits.
    fn wait(&self) -> Option<Waiter<'_>> {
        let mut state = self.state.lock();
        if state.holder.has_free() {
            return None;
        }
        state.waiting += 1;
        drop(state);
        self.wanted.notify_one();
        Some(Waiter(self))
    }

    fn refusal(&self) -> Option<NoSeat> {
        let state = self.state.lock();
        match state.is_store_away {
            _ if state.holder.has_free() => None,
            true => Some(NoSeat::StoreAway),
            false => Some(NoSeat::AllTaken { licensed: state.holder.licensed() }),
        }
    }

    /// Asks the store for seats as they are needed, until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, store: impl SeatStore) {
        loop {
            // Before the question, so that none of one lease is asked for the next.
            let lease = store.lease();
            let question = self.question();
            if let Some((wish, licensed)) = question {
                let answer = store.hold(&lease, wish, licensed).await;
                let is_current = store.lease() == lease;
                self.answered(if is_current { answer } else { Err(StoreFailure::Unreachable) });
            }
            let pause = if question.is_some() { Duration::ZERO } else { ASK_AGAIN };
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
        }
    }

    fn question(&self) -> Option<(Wish, u32)> {
        let state = &mut *self.state.lock();
        let wish = state.holder.ask(state.waiting, Instant::now())?;
        Some((wish, state.holder.licensed()))
    }

    fn answered(&self, answer: Result<Option<Seats>, StoreFailure>) {
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let mut state = self.state.lock();
        state.is_store_away = answer.is_err();
        match answer {
            Ok(Some(Seats { held, others, wanted_elsewhere, .. })) => {
                let share =
                    Share { held: number(held), others: number(others), wanted_elsewhere: number(wanted_elsewhere) };
                state.holder.answered(share, Instant::now());
            }
            Ok(None) => state.lost(),
            Err(_) => state.holder.unanswered(),
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Somebody who waits for a seat, as long as it lives.
struct Waiter<'a>(&'a NodeSeats);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

/// No license speaks of more.
fn number(peers: usize) -> u32 {
    u32::try_from(peers).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::NodeId;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A store of two nodes, by the rule of `ctedge-store`.
    #[derive(Default)]
    struct Both {
        notes: Mutex<[(u32, u32); 2]>,
        is_away: AtomicBool,
    }

    struct Side(Arc<Both>, usize);

    impl SeatStore for Side {
        fn lease(&self) -> LeaseId {
            LeaseId::new(NodeId::new("node"), self.1 as u64)
        }

        async fn hold(&self, _: &LeaseId, wish: Wish, licensed: u32) -> Result<Option<Seats>, StoreFailure> {
            let want = wish.want;
            if self.0.is_away.load(Ordering::Relaxed) {
                return Err(StoreFailure::Unreachable);
            }
            let mut notes = self.0.notes.lock();
            let ((own, _), (others, other_wants)) = (notes[self.1], notes[1 - self.1]);
            let held = if want <= own { want } else { own.max(want.min(licensed.saturating_sub(others))) };
            notes[self.1] = (held, want);
            let wanted_elsewhere = u64::from(other_wants.saturating_sub(others));
            let (held, others, licensed) = (held.into(), others.into(), licensed.into());
            Ok(Some(Seats { held, others, licensed, wanted_elsewhere }))
        }
    }

    fn both(licensed: u32) -> (Arc<Both>, [Arc<NodeSeats>; 2]) {
        let store = Arc::new(Both::default());
        let nodes = [0, 1].map(|side| {
            let seats = NodeSeats::shared(licensed);
            tokio::spawn(Arc::clone(&seats).run(Side(Arc::clone(&store), side)));
            seats
        });
        (store, nodes)
    }

    async fn join(seats: &NodeSeats) -> Result<(), NoSeat> {
        let deadline = seats.deadline();
        while !seats.take() {
            seats.free(deadline).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn every_seat_can_be_taken_on_one_node_and_none_twice() {
        let (_store, [one, other]) = both(25);
        for peer in 0..25 {
            assert_eq!(join(&one).await, Ok(()), "peer {peer}");
        }
        assert_eq!(join(&one).await, Err(NoSeat::AllTaken { licensed: 25 }));
        assert_eq!(join(&other).await, Err(NoSeat::AllTaken { licensed: 25 }));
        one.leave(1, None);
        assert_eq!(join(&other).await, Ok(()));
        assert_eq!((one.counts().taken, other.counts().taken), (24, 1));
    }

    #[tokio::test]
    async fn a_node_without_its_store_uses_what_it_holds_and_says_why_it_gives_no_more() {
        let (store, [one, _other]) = both(160);
        assert_eq!(join(&one).await, Ok(()));
        store.is_away.store(true, Ordering::Relaxed);
        let mut more = 0;
        let refusal = loop {
            match join(&one).await {
                Ok(()) => more += 1,
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((more, refusal), (one.counts().held - 1, NoSeat::StoreAway));
        store.is_away.store(false, Ordering::Relaxed);
        assert_eq!(join(&one).await, Ok(()));
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_seat_of_somebody_who_leaves() {
        let (_store, [one, other]) = both(2);
        assert_eq!((join(&one).await, join(&one).await), (Ok(()), Ok(())));
        let waiting = tokio::spawn(async move { join(&other).await });
        // Until it has said that it needs one, and long before it gives up.
        tokio::time::sleep(Duration::from_millis(500)).await;
        one.leave(1, None);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_node_that_is_alone_refuses_at_once() {
        let seats = NodeSeats::alone(1);
        assert_eq!(join(&seats).await, Ok(()));
        assert_eq!(join(&seats).await, Err(NoSeat::AllTaken { licensed: 1 }));
        seats.set_licensed(2);
        assert_eq!(join(&seats).await, Ok(()));
    }
}
