//! Somebody asks to come in, and the host decides.

use std::time::Instant;

use ctedge_protocol::server::{EncodedId, join_request};
use ctedge_protocol::{Content, Head, JoinAnswer, Kind, RoomClaim, User, Workspace};
use ctedge_wire::KeyedToken;

use super::Session;
use crate::action::{Acceptance, Action, JoinDecision, Refusal};

/// A request to join that waits for the host.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) user: User,
    /// What the asker polls with.
    pub(super) token: KeyedToken,
}

impl Session {
    /// Asks the host whether `user` may come in. The answer is an [`Action::JoinDecided`] with this `token`, after
    /// [`crate::SessionLimits::decision`] at the latest. A host in its grace period is asked when it returns.
    pub fn request_join(&mut self, user: &User, token: KeyedToken, now: Instant) -> Result<(), Refusal> {
        if self.is_ended() {
            return Err(Refusal::Ended);
        }
        if self.moving.is_some() {
            return Err(Refusal::Moving);
        }
        let Some((slot, host)) = self.host.and_then(|slot| Some((slot, self.peers.present_member(slot)?.id.clone())))
        else {
            return Err(Refusal::HostAbsent);
        };
        // A host should not be asked for somebody who could not come in then.
        if self.peers.present() + self.joins.len() >= self.limits.peers_max || self.joins.len() >= self.limits.joins_max
        {
            return Err(Refusal::Full);
        }
        let id = self.next_request_id();
        self.joins.insert(id, now + self.limits.decision, Join { user: user.clone(), token });
        self.send(slot, join_request(&EncodedId::new(id), &host, user));
        self.settle(now);
        Ok(())
    }

    /// The tokens of the join requests that wait for the host, and when each is given up.
    pub fn waiting_joins(&self) -> impl Iterator<Item = (&KeyedToken, Instant)> {
        self.joins.iter().map(|(_, until, join)| (&join.token, until))
    }

    /// The host has answered something under `id`.
    pub(super) fn join_answered(&mut self, id: u64, head: &Head<'_>) {
        let Some(join) = self.joins.take(id) else {
            self.counters.stray_responses += 1;
            return;
        };
        let token = join.token.clone();
        let decision = match agreed_workspace(head) {
            Some(workspace) => self.accept(join, workspace),
            None => JoinDecision::Rejected,
        };
        self.actions.push_back(Action::JoinDecided { token, decision });
    }

    fn accept(&mut self, join: Join, workspace: Workspace) -> JoinDecision {
        let Some(host) = self.host() else { return JoinDecision::SessionEnded };
        self.clock += 1;
        let claim = RoomClaim { room: self.key.clone(), room_clock: self.clock, user: join.user, host: false };
        JoinDecision::Accepted(Box::new(Acceptance { claim, workspace, host }))
    }

    /// Gives up every join request whose time is over.
    pub(super) fn expire_joins(&mut self, now: Instant) {
        while let Some((_, join)) = self.joins.take_expired(now) {
            self.actions.push_back(Action::JoinDecided { token: join.token, decision: JoinDecision::TimedOut });
        }
    }
}

/// What the host shares, if its response agrees. An error, or what cannot be read, refuses.
fn agreed_workspace(head: &Head<'_>) -> Option<Workspace> {
    let (Kind::Response, Content::Plain(content)) = (head.kind, head.content) else { return None };
    match JoinAnswer::read(content.of(head.message)) {
        Ok(JoinAnswer::Agreed(workspace)) => Some(workspace),
        Ok(JoinAnswer::Refused) | Err(_) => None,
    }
}
