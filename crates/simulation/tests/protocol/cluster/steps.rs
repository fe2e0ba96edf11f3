//! What can happen next, and what then is different.

use std::hash::{DefaultHasher, Hash, Hasher};

use ctedge_ownership::{Command, LeaseId};
use ctedge_wire::NodeStatus;

use super::{Broken, Cluster, ENDED, Node, Runs, Sent, Session, address, key};

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Register(usize),
    Beat(usize),
    /// The node's last proof of its lease is too old.
    Lapse(usize),
    Ask(usize),
    HandOff(usize, Option<usize>),
    /// Nobody needs the session any more.
    End(usize),
    /// A node that has nothing ends its lease and exits.
    Leave(usize),
    /// The keys of a lease that is over are deleted.
    Reap(usize, LeaseId),
    /// One node finds another silent, and its probe gets no answer.
    FindSilent(usize, usize),
    /// A node ends the lease that had its address before.
    EndFormer(usize),
    Freeze(usize),
    Thaw(usize),
    Crash(usize),
    Restart(usize),
    Execute(usize),
    Answer(usize),
    Fail(usize),
    /// The answer to a handoff does not come, and the node wants to keep the session.
    Withdraw(usize),
}

impl Cluster {
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        for (index, node) in self.nodes.iter().enumerate() {
            match node.runs {
                Runs::Frozen => steps.push(Step::Thaw(index)),
                Runs::Dead => steps.push(Step::Restart(index)),
                Runs::Yes => self.steps_of(index, node, steps),
            }
            if node.lives && (!node.lapsed || node.silent_at != self.beat_of(index)) {
                steps.push(Step::Lapse(index));
            }
            if node.runs == Runs::Yes && self.left.freezes > 0 {
                steps.push(Step::Freeze(index));
            }
            if node.runs != Runs::Dead && self.left.crashes > 0 {
                steps.push(Step::Crash(index));
            }
        }
        for (index, sent) in self.commands.iter().enumerate() {
            match sent.answer {
                None => steps.push(Step::Execute(index)),
                Some(_) if self.nodes[sent.node].runs == Runs::Yes => steps.push(Step::Answer(index)),
                Some(_) => {}
            }
            if sent.expected && self.left.failures > 0 && self.nodes[sent.node].runs == Runs::Yes {
                steps.push(Step::Fail(index));
                if matches!(sent.command, Command::HandOff { .. }) {
                    steps.push(Step::Withdraw(index));
                }
            }
        }
    }

    fn steps_of(&self, index: usize, node: &Node, steps: &mut Vec<Step>) {
        if node.beating.is_none() && !node.lives {
            steps.push(Step::Register(index));
        }
        if node.beating.is_none() && node.lives && self.left.beats > 0 {
            steps.push(Step::Beat(index));
        }
        if node.lives && node.session == Session::None && !self.is_busy(index) {
            steps.push(Step::Ask(index));
        }
        let serves_fresh = self.serves(node) && !node.lapsed;
        if serves_fresh && !self.is_busy(index) && self.left.handoffs > 0 {
            steps.push(Step::HandOff(index, None));
            let others = (0..self.nodes.len()).filter(|other| *other != index);
            steps.extend(others.map(|other| Step::HandOff(index, Some(other))));
        }
        if serves_fresh && !self.is_busy(index) && self.left.ends > 0 {
            steps.push(Step::End(index));
        }
        if node.lives && node.session == Session::None && !self.is_busy(index) && self.left.leaves > 0 {
            steps.push(Step::Leave(index));
        }
        if node.lives && self.left.reaps > 0 {
            let over = self.store.leases().filter(|lease| lease.ended.is_some());
            steps.extend(over.map(|lease| Step::Reap(index, lease.id.clone())));
        }
        for other in (0..self.nodes.len()).filter(|other| *other != index && node.lives) {
            let is_silent = self.nodes[other].silent_at.is_some() && self.nodes[other].silent_at == self.beat_of(other);
            let may_be_ended = self.nodes[other].runs != Runs::Yes || self.breaks(Broken::NoProbe);
            if is_silent && may_be_ended && self.store.lives(&self.lease(other)) {
                steps.push(Step::FindSilent(index, other));
            }
        }
        if node.lives && self.former(index).is_some() {
            steps.push(Step::EndFormer(index));
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Register(node) => {
                self.nodes[node].beating = Some(true);
                let (lease, address) = (self.lease(node), address(node));
                self.send(node, Command::Register { lease, address, pid: 0 }, true);
            }
            Step::Beat(node) => {
                self.left.beats -= 1;
                self.nodes[node].beating = Some(true);
                let (lease, status, report) = (self.lease(node), NodeStatus::Ready, String::new());
                self.send(node, Command::Beat { lease, status, report }, true);
            }
            Step::Lapse(node) => {
                let silent_at = self.beat_of(node);
                let node = &mut self.nodes[node];
                (node.lapsed, node.silent_at) = (true, silent_at);
                // What was asked for before proves nothing any more.
                node.beating = node.beating.map(|_| false);
            }
            Step::Ask(node) => self.send(node, Command::Look { key: key() }, true),
            Step::HandOff(node, to) => self.hand_off(node, to),
            Step::End(node) => {
                if let Session::Serving(epoch) = self.nodes[node].session {
                    self.left.ends -= 1;
                    self.nodes[node].session = Session::Ending;
                    self.send(node, Command::Delete { key: key(), epoch, by: self.lease(node) }, true);
                }
            }
            Step::Leave(node) => {
                self.left.leaves -= 1;
                self.send(node, Command::EndLease { lease: self.lease(node), beat: None, why: ENDED }, false);
                self.exit(node);
            }
            Step::Reap(node, lease) => {
                self.left.reaps -= 1;
                self.send(node, Command::Reap { lease }, false);
            }
            Step::FindSilent(finder, silent) => {
                self.nodes[silent].away |= !self.breaks(Broken::NoProbe);
                let (lease, beat) = (self.lease(silent), self.beat_of(silent));
                self.send(finder, Command::EndLease { lease, beat, why: ENDED }, false);
            }
            Step::EndFormer(node) => {
                if let Some((lease, beat)) = self.former(node) {
                    self.send(node, Command::EndLease { lease, beat: Some(beat), why: ENDED }, false);
                }
            }
            Step::Freeze(node) => {
                (self.left.freezes, self.undisturbed) = (self.left.freezes - 1, false);
                self.nodes[node].runs = Runs::Frozen;
            }
            Step::Thaw(node) => self.nodes[node].runs = Runs::Yes,
            Step::Crash(node) => {
                (self.left.crashes, self.undisturbed) = (self.left.crashes - 1, false);
                self.exit(node);
            }
            Step::Restart(node) => {
                let incarnation = self.nodes[node].incarnation + 1;
                self.nodes[node] = Node { incarnation, ..Node::new() };
            }
            Step::Execute(index) => self.execute(index),
            Step::Answer(index) => self.answer(index),
            Step::Fail(index) => {
                let Sent { node, command, .. } = self.fail(index);
                self.without_answer(node, command);
            }
            Step::Withdraw(index) => {
                let Sent { node, command, .. } = self.fail(index);
                self.withdraw(node, command);
            }
        }
        self.commands.sort_by_cached_key(fingerprint);
        self.commands.dedup();
    }
}

/// An order of commands that does not depend on which was sent first.
fn fingerprint(sent: &Sent) -> u64 {
    let mut hasher = DefaultHasher::new();
    sent.hash(&mut hasher);
    hasher.finish()
}
