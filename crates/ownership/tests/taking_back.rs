//! A session that the store fails to give away goes on where it is, and is never at two nodes for that.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ctedge_ownership::{
    Action, Command, Drain, Epoch, Estate, Event, HandoffReason, Origin, Outcome, StoreFailure, StoreModel, Verdict,
    Wants,
};
use support::{Node, key, lease};

/// What becomes of a command to give the session away or to keep it.
type Store = fn(&mut StoreModel, &Command) -> Result<Outcome, StoreFailure>;

/// It is refused, as by a disk without room for it.
fn refuses(_: &mut StoreModel, _: &Command) -> Result<Outcome, StoreFailure> {
    Err(StoreFailure::Full)
}

/// It is executed, and the answer is lost.
fn executes_mutely(store: &mut StoreModel, command: &Command) -> Result<Outcome, StoreFailure> {
    store.execute(command);
    Err(StoreFailure::Slow)
}

fn is_unreachable(_: &mut StoreModel, _: &Command) -> Result<Outcome, StoreFailure> {
    Err(StoreFailure::Unreachable)
}

fn executes(store: &mut StoreModel, command: &Command) -> Result<Outcome, StoreFailure> {
    Ok(store.execute(command))
}

/// A node that is told to give its session away, which is ready to go.
struct Giving {
    node: Node,
    epoch: Epoch,
    handoffs: Vec<Command>,
    keeps: usize,
}

fn estate() -> Estate {
    Estate { bytes: "everything".into(), ..Estate::default() }
}

impl Giving {
    fn begin(exit: bool) -> Self {
        let mut node = Node::beside_another();
        let epoch = node.serve(Wants::New);
        let drain = Drain { deadline: Some(Duration::ZERO), exit, reason: HandoffReason::DrainNow };
        node.ownership.drain(drain, node.now);
        node.carry_out();
        node.decided.clear();
        assert!(node.ownership.moved(&key(), epoch, estate(), node.now));
        Self { node, epoch, handoffs: Vec::new(), keeps: 0 }
    }

    /// Lets so many seconds pass, while the store does so with commands to give away and to keep.
    fn pass(&mut self, seconds: usize, give: Store, keep: Store) {
        for _ in 0..seconds {
            self.carry_out(give, keep);
            // The other node beats too.
            let (lease, status) = (lease("b"), ctedge_wire::NodeStatus::Ready);
            self.node.store.execute(&Command::Beat { lease, status, report: String::new() });
            self.node.now += Duration::from_secs(1);
            self.node.ownership.timeout(self.node.now);
        }
        self.carry_out(give, keep);
    }

    fn carry_out(&mut self, give: Store, keep: Store) {
        let Self { node, handoffs, keeps, .. } = self;
        while let Some(action) = node.ownership.next_action() {
            let Action::Store(id, command) = action else {
                node.decided.push(action);
                continue;
            };
            let answer = match &command {
                Command::HandOff { .. } => {
                    handoffs.push(command.clone());
                    give(&mut node.store, &command)
                }
                Command::Keep { .. } => {
                    *keeps += 1;
                    keep(&mut node.store, &command)
                }
                _ => Ok(node.store.execute(&command)),
            };
            node.ownership.store_answered(id, answer, node.now);
        }
    }

    /// The epochs at which the session goes on here from its estate.
    fn begun(&self) -> Vec<Epoch> {
        let begun = self.node.decided.iter().filter_map(|action| match action {
            Action::Begin { epoch, origin: Origin::Estate(origin), .. } if *origin == estate() => Some(*epoch),
            _ => None,
        });
        begun.collect()
    }

    fn starts_to_move(&self) -> usize {
        self.node.decided.iter().filter(|action| matches!(action, Action::StartMoving { .. })).count()
    }
}

#[test]
fn a_session_that_the_store_refuses_to_give_away_goes_on_and_is_tried_again_later() {
    let mut giving = Giving::begin(false);
    giving.pass(9, refuses, executes);
    assert_eq!((giving.begun(), giving.keeps), (vec![], 0), "it may be given away yet");
    giving.pass(3, refuses, executes);
    let (owner, kept) = giving.node.owner().unwrap();
    assert_eq!((owner, giving.begun()), (lease("a"), vec![kept]));
    assert!(kept > giving.epoch);
    assert!(giving.node.decided.contains(&Action::Count(Event::TakenBack(HandoffReason::DrainNow))));
    assert_eq!(giving.node.serve(Wants::Existing), kept);

    giving.node.decided.clear();
    giving.pass(25, refuses, executes);
    assert_eq!(giving.starts_to_move(), 0, "it has its pause");
    giving.pass(10, refuses, executes);
    assert_eq!(giving.starts_to_move(), 1);
    assert!(giving.node.ownership.moved(&key(), kept, estate(), giving.node.now));
    giving.pass(1, executes, refuses);
    assert_eq!(giving.node.owner().map(|(owner, _)| owner), Some(lease("b")));
}

#[test]
fn a_session_that_a_node_takes_back_which_is_to_end_is_tried_again_soon() {
    let mut giving = Giving::begin(true);
    giving.pass(12, refuses, executes);
    let begun = giving.begun();
    assert_eq!((begun.len(), giving.starts_to_move()), (1, 0));
    giving.pass(6, refuses, executes);
    assert_eq!(giving.starts_to_move(), 1);
    assert!(giving.node.ownership.moved(&key(), begun[0], estate(), giving.node.now));
    giving.pass(1, executes, executes);
    assert_eq!(giving.node.owner().map(|(owner, _)| owner), Some(lease("b")));
    assert!(giving.node.decided.contains(&Action::DrainFinished { exit: true }));
}

#[test]
fn a_session_that_was_given_away_unheard_is_not_taken_back() {
    let mut giving = Giving::begin(false);
    giving.pass(
        15,
        |store, command| {
            // The first try alone; the others are lost on their way.
            if store.record(&key()).is_some_and(|record| record.owner == lease("a")) {
                store.execute(command);
            }
            Err(StoreFailure::Slow)
        },
        executes,
    );
    assert_eq!((giving.keeps, giving.begun()), (1, vec![]));
    let (owner, epoch) = giving.node.owner().unwrap();
    assert_eq!(owner, lease("b"));
    giving.node.asks(Wants::Existing);
    giving.carry_out(executes, executes);
    let redirect =
        |action: &Action| matches!(action, Action::Answer(_, Verdict::Redirect { epoch: at, .. }) if *at == epoch);
    assert!(giving.node.decided.iter().any(redirect), "{:?}", giving.node.decided);
}

#[test]
fn a_handoff_that_the_store_executes_late_moves_no_session_that_was_taken_back() {
    let mut giving = Giving::begin(false);
    giving.pass(12, refuses, executes_mutely);
    assert!(giving.keeps > 1, "its first answer was lost");
    let (owner, kept) = giving.node.owner().unwrap();
    assert_eq!((owner, giving.begun()), (lease("a"), vec![]), "nobody has heard that it was kept");
    giving.pass(1, refuses, executes);
    assert_eq!(giving.begun(), [kept]);
    assert!(!giving.handoffs.is_empty());
    for late in giving.handoffs.clone() {
        giving.node.store.execute(&late);
    }
    assert_eq!(giving.node.owner(), Some((lease("a"), kept)));
    giving.pass(1, refuses, executes);
    assert_eq!(giving.begun(), [kept]);
}

#[test]
fn a_store_that_cannot_be_reached_is_waited_for() {
    let mut giving = Giving::begin(false);
    giving.pass(60, is_unreachable, executes);
    assert_eq!((giving.keeps, giving.begun()), (0, vec![]));
    giving.pass(2, executes, executes);
    assert_eq!(giving.node.owner().map(|(owner, _)| owner), Some(lease("b")));
}
