//! Commands reach the store, and their answers the nodes, or not.

use ctedge_ownership::{Command, Epoch, Outcome, Record};

use super::{Broken, Cluster, Sent, Session, key};

impl Cluster {
    pub(super) fn execute(&mut self, index: usize) {
        let was_there = self.store.record(&key()).is_some();
        let outcome = self.store.execute(&self.commands[index].command);
        let is_there = self.store.record(&key()).is_some();
        match self.commands[index].command {
            Command::Create { .. } if is_there && !was_there => self.created = true,
            Command::Delete { .. } | Command::Reap { .. } if was_there && !is_there => self.deleted(),
            _ => {}
        }
        if self.commands[index].expected {
            self.commands[index].answer = Some(outcome);
        } else {
            self.commands.remove(index);
        }
    }

    /// The session is over, and there may be another under its key.
    fn deleted(&mut self) {
        self.deleted_under_somebody |= self.serving() > 0;
        self.created = false;
        (self.estates, self.adopted, self.kept) = (0, Vec::new(), false);
    }

    /// The answer does not come. The command may be executed yet, or was.
    pub(super) fn fail(&mut self, index: usize) -> Sent {
        self.left.failures -= 1;
        let sent = self.commands[index].clone();
        if sent.answer.is_some() {
            self.commands.remove(index);
        } else {
            self.commands[index].expected = false;
        }
        sent
    }

    pub(super) fn without_answer(&mut self, index: usize, command: Command) {
        let node = &mut self.nodes[index];
        match command {
            Command::Beat { .. } | Command::Register { .. } => (node.failed, node.beating) = (true, None),
            Command::Look { .. } => {}
            Command::HandOff { .. } if self.left.broken == Some(Broken::ForgetsFirst) => node.session = Session::None,
            Command::Delete { key, .. } if self.left.broken == Some(Broken::DeletesBlindly) => {
                if let Some(Record { owner: by, epoch, .. }) = self.store.record(&key) {
                    self.send(index, Command::Delete { key, epoch, by }, true);
                }
            }
            again => self.send(index, again, true),
        }
    }

    pub(super) fn withdraw(&mut self, node: usize, command: Command) {
        let Command::HandOff { key, epoch, by, .. } = command else {
            return;
        };
        if self.breaks(Broken::KeepsUnasked) {
            return self.kept(node, epoch);
        }
        self.send(node, Command::Keep { key, epoch, by, peers: Vec::new(), in_flight: None }, true);
    }

    fn kept(&mut self, node: usize, epoch: Epoch) {
        if let Session::Leaving(estate) = self.nodes[node].session {
            self.kept = true;
            self.adopted(node, epoch, estate);
        }
    }

    pub(super) fn answer(&mut self, index: usize) {
        let Sent { node, command, answer: Some(outcome), .. } = self.commands.remove(index) else {
            return;
        };
        let by = self.lease(node);
        match outcome {
            Outcome::LeaseEnded => self.let_go(node),
            Outcome::Registered | Outcome::Beaten { .. } => {
                let proves_late = self.breaks(Broken::LateProof);
                let node = &mut self.nodes[node];
                node.lives = true;
                if node.beating == Some(true) || proves_late {
                    (node.lapsed, node.silent_at, node.away) = (false, None, false);
                }
                (node.beating, node.failed) = (None, false);
            }
            Outcome::Found(record) | Outcome::Taken(record) => self.found(node, record),
            Outcome::Kept { epoch } => self.kept(node, epoch),
            // An earlier try to keep it was executed.
            Outcome::Lost(Some(record))
                if matches!(command, Command::Keep { .. }) && record.owner == by && !record.has_estate =>
            {
                self.kept(node, record.epoch);
            }
            Outcome::Lost(Some(record)) => {
                self.nodes[node].session = Session::None;
                self.found(node, record);
            }
            Outcome::Missing if matches!(command, Command::Look { .. }) && !self.created => {
                self.send(node, Command::Create { key: key(), by }, true);
            }
            Outcome::Owned { epoch, legacy } => match legacy.estate {
                Some(estate) if self.breaks(Broken::AdoptsUnasked) => self.adopted(node, epoch, estate[0]),
                Some(estate) => {
                    self.nodes[node].session = Session::Adopting(epoch, estate[0]);
                    self.send(node, Command::Adopt { key: key(), epoch, by }, true);
                }
                None => self.nodes[node].session = Session::Serving(epoch),
            },
            Outcome::Adopted => {
                if let Session::Adopting(epoch, estate) = self.nodes[node].session {
                    self.adopted(node, epoch, estate);
                }
            }
            Outcome::HandedOff { .. } | Outcome::Deleted | Outcome::Lost(None) => {
                self.nodes[node].session = Session::None;
            }
            Outcome::TargetEnded => {
                if let Command::HandOff { key, epoch, by, estate, reason, .. } = command {
                    self.send(node, Command::HandOff { key, epoch, by, to: None, estate, reason }, true);
                }
            }
            _ => {}
        }
    }

    fn adopted(&mut self, node: usize, epoch: Epoch, estate: u8) {
        self.nodes[node].session = Session::Serving(epoch);
        self.adopted_twice |= self.adopted.contains(&estate);
        self.adopted.push(estate);
    }

    fn found(&mut self, node: usize, record: Record) {
        let (key, by) = (record.key, self.lease(node));
        if record.owner == by {
            self.send(node, Command::Read { key, epoch: record.epoch, by }, true);
        } else if record.owner_ended.is_some() {
            self.send(node, Command::TakeOver { key, from: record.epoch, by }, true);
        }
    }
}
