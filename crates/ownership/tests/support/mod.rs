//! A node, and a store that answers at once.

// Not every test needs all of it.
#![allow(dead_code)]

use std::time::Instant;

use ctedge_ownership::{
    Action, Ask, Command, Epoch, Estate, HandoffReason, Lease, LeaseEnd, LeaseId, NodeId, Outcome, Ownership,
    OwnershipSettings, Ranking, StoreFailure, StoreModel, Ticket, Verdict, Wants,
};
use ctedge_wire::Key;

/// There is never more than one to choose from.
#[derive(Debug)]
struct First;

impl Ranking for First {
    fn best(&mut self, _: &Key, _: &[&Lease]) -> usize {
        0
    }
}

/// A node, and a store that answers at once.
pub(crate) struct Node {
    pub(crate) ownership: Ownership,
    pub(crate) store: StoreModel,
    pub(crate) now: Instant,
    pub(crate) tickets: u64,
    /// What it decided besides commands.
    pub(crate) decided: Vec<Action>,
}

pub(crate) fn lease(node: &str) -> LeaseId {
    LeaseId::new(NodeId::new(node), 1)
}

pub(crate) fn key() -> Key {
    Key::parse("room").expect("a key")
}

impl Node {
    /// A node that knows another one, which is ready.
    pub(crate) fn beside_another() -> Self {
        let (now, mut store) = (Instant::now(), StoreModel::default());
        store.execute(&Command::Register { lease: lease("b"), address: ([127, 0, 0, 1], 2).into(), pid: 2 });
        let (settings, address) = (OwnershipSettings::default(), ([127, 0, 0, 1], 1).into());
        let ownership = Ownership::new(settings, lease("a"), address, 1, Box::new(First), now);
        let mut node = Self { ownership, store, now, tickets: 0, decided: Vec::new() };
        node.carry_out();
        node
    }

    pub(crate) fn carry_out(&mut self) {
        while self.carry_out_one_command() {}
    }

    /// The store cannot be reached for any command.
    pub(crate) fn fail(&mut self) {
        while let Some(action) = self.ownership.next_action() {
            match action {
                Action::Store(id, _) => self.ownership.store_answered(id, Err(StoreFailure::Unreachable), self.now),
                other => self.decided.push(other),
            }
        }
    }

    /// Carries out everything up to the next command, and that. `false` if there is none.
    pub(crate) fn carry_out_one_command(&mut self) -> bool {
        while let Some(action) = self.ownership.next_action() {
            match action {
                Action::Store(id, command) => {
                    let outcome = self.store.execute(&command);
                    self.ownership.store_answered(id, Ok(outcome), self.now);
                    return true;
                }
                Action::Drain(drain) => self.ownership.drain(drain, self.now),
                other => self.decided.push(other),
            }
        }
        false
    }

    /// Asks for the session.
    pub(crate) fn asks(&mut self, wants: Wants) {
        self.tickets += 1;
        let ask = Ask { ticket: Ticket(self.tickets), key: key(), wants, unreachable: Vec::new() };
        self.ownership.asked(ask, self.now);
    }

    /// Asks for the session. The epoch at which the node has it.
    pub(crate) fn serve(&mut self, wants: Wants) -> Epoch {
        self.asks(wants);
        self.carry_out();
        let answer = self.decided.iter().rev().find_map(|action| match action {
            Action::Answer(ticket, verdict) if *ticket == Ticket(self.tickets) => Some(verdict),
            _ => None,
        });
        let Some(Verdict::Serve { epoch }) = answer else { panic!("{answer:?}") };
        *epoch
    }

    /// Loses the session of `epoch` to another node, which dies, and takes it over. Since when it has it again.
    pub(crate) fn loses_and_takes_over(&mut self, epoch: Epoch) -> Epoch {
        let (by, to) = (lease("a"), Some(lease("b")));
        let (estate, reason) = (Estate::default(), HandoffReason::DrainNow);
        let handed = Command::HandOff { key: key(), epoch, by, to, estate, reason };
        assert!(matches!(self.store.execute(&handed), Outcome::HandedOff { .. }));
        self.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Exited });
        self.ownership.fenced(&key(), epoch, self.now);
        self.carry_out();
        self.serve(Wants::Existing)
    }

    pub(crate) fn owner(&self) -> Option<(LeaseId, Epoch)> {
        self.store.record(&key()).map(|record| (record.owner, record.epoch))
    }
}
