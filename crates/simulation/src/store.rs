//! The way to the store and back, and what must hold of everything that the store executes.

use std::time::Duration;

use ctedge_ownership::{Command, CommandId, LeaseEnd, LeaseId, Outcome, Record, StoreFailure};

use crate::event::{Event, StoreWay};
use crate::promise::Promise;
use crate::seats::SeatQuestion;
use crate::world::World;

/// When the lack of an answer is an answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a store that answers has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreRoom {
    /// Everything.
    Ample,
    /// What is small. A disk that is nearly full takes heartbeats, and refuses estates.
    Scarce,
    /// Nothing: a disk that is full, and a database that became read-only, still let everybody read.
    None,
}

impl World {
    pub(crate) fn reaches_store(&self, process: usize) -> bool {
        let node = &self.processes[process];
        self.store_is_up && node.has_store && !node.apart
    }

    /// Whether what the process writes is written, if it is no estate.
    pub(crate) fn may_write(&self, process: usize) -> bool {
        self.reaches_store(process) && self.store_room != StoreRoom::None
    }

    fn has_room_for(&self, command: &Command) -> bool {
        match (self.store_room, command) {
            (StoreRoom::Ample, _) | (_, Command::Look { .. } | Command::Read { .. }) => true,
            (StoreRoom::Scarce, command) => !matches!(command, Command::HandOff { .. }),
            (StoreRoom::None, _) => false,
        }
    }

    pub(crate) fn send_to_store(&mut self, process: usize, id: CommandId, command: Command) {
        if !self.reaches_store(process) {
            let fails_fast = self.random.chance(50);
            self.fail(process, id, if fails_fast { self.network_floor() } else { STORE_TIMEOUT });
            return;
        }
        let way = self.way_to_store();
        if !matches!(way, Some((_, StoreWay::Good))) {
            self.fail(process, id, STORE_TIMEOUT);
        }
        if let Some((delay, answer)) = way {
            self.after(delay, Event::StoreArrives { process, id, command, answer });
        }
    }

    /// How long something takes to the store, and whether an answer comes back. `None`: it is lost.
    fn way_to_store(&mut self) -> Option<(Duration, StoreWay)> {
        let way = self.random.below(100);
        if way >= self.store_loss {
            return Some((self.network_delay(), StoreWay::Good));
        }
        match way % 3 {
            // Lost on the way there.
            0 => None,
            // Executed, and the answer lost.
            1 => Some((self.network_delay(), StoreWay::Mute)),
            // Executed when nobody expects it any more.
            _ => Some((self.random.millis(500, 6_000), StoreWay::Mute)),
        }
    }

    pub(crate) fn send_seats(&mut self, question: SeatQuestion) {
        if !self.reaches_store(question.process) {
            self.fail_seats(question);
            return;
        }
        let way = self.way_to_store();
        if !matches!(way, Some((_, StoreWay::Good))) {
            self.fail_seats(question.clone());
        }
        if let Some((delay, answer)) = way {
            self.after(delay, Event::SeatsArrive { question, answer });
        }
    }

    pub(crate) fn fail_seats(&mut self, question: SeatQuestion) {
        let SeatQuestion { process, serial, .. } = question;
        self.after(STORE_TIMEOUT, Event::SeatsAnswer { process, serial, answer: Err(StoreFailure::Slow) });
    }

    fn fail(&mut self, process: usize, id: CommandId, after: Duration) {
        let answer = Err(if after < STORE_TIMEOUT { StoreFailure::Unreachable } else { StoreFailure::Slow });
        self.seen.store_failures += 1;
        self.after(after, Event::StoreAnswers { process, id, answer });
    }

    pub(crate) fn store_arrives(&mut self, process: usize, id: CommandId, command: &Command, way: StoreWay) {
        if !self.reaches_store(process) {
            if way == StoreWay::Good {
                self.fail(process, id, STORE_TIMEOUT);
            }
            return;
        }
        let answer = if self.has_room_for(command) {
            Ok(self.feigned(command).unwrap_or_else(|| self.execute(command)))
        } else {
            self.seen.writes_refused += 1;
            Err(self.refusal)
        };
        if way == StoreWay::Good {
            self.soon(Event::StoreAnswers { process, id, answer });
        }
    }

    /// The supervisor saw the process exit.
    pub(crate) fn supervisor_ends(&mut self, lease: LeaseId) {
        if self.store_is_up && self.store_room != StoreRoom::None {
            self.bring_in_notes(&lease);
            self.execute(&Command::EndLease { lease, beat: None, why: LeaseEnd::Exited });
        } else {
            self.after(Duration::from_millis(500), Event::SupervisorEnds(lease));
        }
    }

    /// Executes a command and checks what it changed.
    fn execute(&mut self, command: &Command) -> Outcome {
        let key = key_of(command);
        let before = key.and_then(|key| self.store.record(key));
        let living: Vec<LeaseId> = self.living_leases();
        let outcome = self.store.execute(command);
        let after = key.and_then(|key| self.store.record(key));
        self.check_record(command, before, after);
        match (command, &outcome) {
            (Command::HandOff { key, .. }, Outcome::HandedOff { .. }) => self.note_handed(key),
            (Command::Keep { .. }, Outcome::Kept { .. }) => self.seen.kept += 1,
            (Command::Beat { lease, .. }, Outcome::Beaten { .. }) => self.note_beaten(lease),
            (Command::Create { key, .. }, Outcome::Owned { .. }) => self.note_empty(key),
            (Command::Delete { key, .. }, Outcome::Deleted) => self.note_empty(key),
            (_, Outcome::Reaped { keys, .. }) => keys.iter().for_each(|key| self.note_empty(key)),
            _ => {}
        }
        for lease in living {
            if !self.store.lives(&lease) {
                self.check_ended(command, &lease);
                self.unseat_unwritten(&lease);
            }
        }
        outcome
    }

    fn note_beaten(&mut self, lease: &LeaseId) {
        if let Some(process) = self.process_of(lease) {
            self.processes[process].beaten_at = self.now;
        }
    }

    fn living_leases(&self) -> Vec<LeaseId> {
        self.store.leases().filter(|lease| lease.ended.is_none()).map(|lease| lease.id.clone()).collect()
    }

    /// An owner changes for three reasons: there is none, its lease is over, or it gives the key away while it drains.
    fn check_record(&mut self, command: &Command, before: Option<Record>, after: Option<Record>) {
        let (Some(after), false) = (after.clone(), before == after) else {
            return;
        };
        let key = after.key.clone();
        if before.as_ref().map(|record| record.epoch) != Some(after.epoch) {
            let last = self.last_epoch.insert(key.clone(), after.epoch);
            self.check(Promise::OneOwner, last.is_none_or(|last| last < after.epoch), || {
                format!("an epoch of {key} fell")
            });
        }
        let Some(before) = before.filter(|before| before.owner != after.owner) else {
            return;
        };
        match command {
            Command::TakeOver { .. } => {
                self.check(Promise::OneOwner, before.owner_ended.is_some(), || {
                    format!("{key} is taken from {} that lives", before.owner)
                });
                let is_mute = |process: usize| self.processes[process].mute_as.as_ref() == Some(&before.owner);
                if self.process_of(&before.owner).is_some_and(is_mute) {
                    self.note_orphaned(&key);
                }
            }
            Command::HandOff { .. } => {
                let giver = self.process_of(&before.owner);
                let gives = giver.is_none_or(|giver| self.processes[giver].given.contains(&key));
                self.check(Promise::ListsMoveNothing, gives, || format!("{} gives {key} away by itself", before.owner));
            }
            _ => self.check(Promise::OneOwner, false, || format!("{command:?} moves {key}")),
        }
    }

    /// A lease is ended only if its process is gone, or is away, or ends it itself.
    fn check_ended(&mut self, command: &Command, lease: &LeaseId) {
        let Some(process) = self.process_of(lease) else {
            return;
        };
        let node = &self.processes[process];
        let is_current = node.ownership.lease() == lease;
        let was_away = node.returned.is_some_and(|at| self.now.saturating_duration_since(at) < Duration::from_secs(8));
        let is_gone = !node.alive
            || node.frozen
            || node.apart
            || node.deaf
            || was_away
            || !node.ownership.fence().is_open(self.now);
        let leaves = matches!(command, Command::EndLease { beat: None, .. }) && node.rooms.is_empty();
        self.check(Promise::OneOwner, is_gone || leaves || !is_current, || {
            format!("{lease} serves, and is ended by {command:?}")
        });
        let node = &mut self.processes[process];
        let is_silent = self.now.saturating_duration_since(node.beaten_at) >= self.settings.lost_after;
        if matches!(command, Command::EndLease { why: LeaseEnd::Silent, .. }) && is_silent && (node.deaf || was_away) {
            // Whatever became of its beats, it did not reach the store until this moment.
            (node.mute_as, node.able_since) = (Some(lease.clone()), self.now);
        }
    }
}

fn key_of(command: &Command) -> Option<&ctedge_wire::Key> {
    match command {
        Command::Look { key } | Command::Create { key, .. } | Command::TakeOver { key, .. } => Some(key),
        Command::Read { key, .. } | Command::Adopt { key, .. } | Command::HandOff { key, .. } => Some(key),
        Command::Keep { key, .. } | Command::Delete { key, .. } => Some(key),
        Command::Register { .. } | Command::Beat { .. } | Command::EndLease { .. } | Command::Reap { .. } => None,
    }
}
