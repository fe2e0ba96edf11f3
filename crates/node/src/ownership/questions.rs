//! Who waits for the answer to which question, and how the sessions would begin that they ask for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ctedge_ownership::{Ask, Command, LeaseId, Outcome, Ticket, Unavailable, Verdict};
use ctedge_session::Beginning;
use ctedge_wire::Key;
use tokio::sync::oneshot;

use super::keeper::Keeper;
use super::{Answer, Asked};

/// The open questions. As many as there are requests.
#[derive(Default)]
pub(super) struct Questions {
    open: HashMap<Ticket, Question>,
    /// How sessions begin, if their keys are free; those who asked first come first.
    beginnings: HashMap<Key, Vec<(Ticket, Beginning)>>,
    /// The questions whose sessions were begun for them.
    begun: HashSet<Ticket>,
}

struct Question {
    key: Key,
    answer: oneshot::Sender<Answer>,
}

/// A question that only the store can answer any more: this node has no lease.
pub(super) struct Left {
    question: Question,
    verdict: Verdict,
}

impl Questions {
    /// Takes note of a question. What is to be asked.
    pub(super) fn open(&mut self, asked: Asked) -> Ask {
        let Asked { ask, beginning, answer } = asked;
        if let Some(beginning) = beginning {
            self.beginnings.entry(ask.key.clone()).or_default().push((ask.ticket, beginning));
        }
        self.open.insert(ask.ticket, Question { key: ask.key.clone(), answer });
        ask
    }

    /// How a session begins under the key: for the first one who wanted it to.
    pub(super) fn beginning(&self, key: &Key) -> Option<(Ticket, Beginning)> {
        self.beginnings.get(key)?.first().copied()
    }

    /// The session was begun for this question.
    pub(super) fn begun(&mut self, ticket: Ticket) {
        self.begun.insert(ticket);
    }

    /// Answers a question, unless it is left to the store.
    pub(super) fn answer(&mut self, ticket: Ticket, verdict: Verdict) -> Option<Left> {
        let (question, began) = self.take(ticket)?;
        if matches!(verdict, Verdict::Unavailable { why: Unavailable::NoLease, .. }) {
            return Some(Left { question, verdict });
        }
        question.answer(verdict, began);
        None
    }

    /// Nobody waits for the answer.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.take(ticket);
    }

    /// Forgets a question. Gives it, and whether a session was begun for it.
    fn take(&mut self, ticket: Ticket) -> Option<(Question, bool)> {
        let question = self.open.remove(&ticket)?;
        if let Some(beginnings) = self.beginnings.get_mut(&question.key) {
            beginnings.retain(|(asked, _)| *asked != ticket);
            if beginnings.is_empty() {
                self.beginnings.remove(&question.key);
            }
        }
        let began = self.begun.remove(&ticket);
        Some((question, began))
    }
}

impl Question {
    fn answer(self, verdict: Verdict, began: bool) {
        // Fails when the client has gone away.
        let _ = self.answer.send(Answer { verdict, began });
    }
}

impl Left {
    /// Answers as far as this node knows: too many ask the store.
    pub(super) fn give_up(self) {
        self.question.answer(self.verdict, false);
    }

    /// Sends the request to where the store says that the key is. Reading takes no lease.
    pub(super) async fn settle(self, keeper: Arc<Keeper>, own: LeaseId) {
        let Self { question, verdict } = self;
        let found = keeper.execute(Command::Look { key: question.key.clone() }).await;
        let verdict = match found {
            Ok(Outcome::Found(record)) if record.owner != own && record.owner_ended.is_none() => record
                .owner_address
                .map_or(verdict, |address| Verdict::Redirect { owner: record.owner, epoch: record.epoch, address }),
            _ => verdict,
        };
        question.answer(verdict, false);
    }
}
