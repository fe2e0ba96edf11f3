//! What a session asks for, carried out after its lock is released.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use ctedge_protocol::InfoCode;
use ctedge_protocol::http::JoinPoll;
use ctedge_session::{AuditEvent, AuditKind, JoinDecision, Warning};
use ctedge_wire::KeyedToken;
use smallvec::SmallVec;

use super::cell::SessionCell;
use super::{Hub, JOIN_ANSWER_KEPT};
use crate::clock::unix_now;

/// Most sessions have fewer peers: their wakers need no allocation.
const WAKERS_INLINE: usize = 8;

/// What is to be done for a session once its lock is released. Nothing for most messages but to wake transports.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) wakers: SmallVec<[Waker; WAKERS_INLINE]>,
    pub(super) rare: Vec<Rare>,
}

/// What happens far less often than messages do.
pub(super) enum Rare {
    JoinDecided(KeyedToken, JoinDecision),
    Audit(AuditEvent),
    Warning(String),
    Finished,
}

/// What all sessions of a node have together.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) sessions: AtomicUsize,
    pub(super) peers: AtomicUsize,
}

/// What one session has of the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) sessions: usize,
    pub(super) peers: usize,
}

impl Totals {
    /// Replaces what a session had by what it has.
    pub(super) fn update(&self, before: Share, after: Share) {
        // Wrapping: each counter is a sum of shares, whatever the order in which threads come by.
        self.sessions.fetch_add(after.sessions.wrapping_sub(before.sessions), Ordering::Relaxed);
        self.peers.fetch_add(after.peers.wrapping_sub(before.peers), Ordering::Relaxed);
    }
}

impl Effects {
    pub(super) fn carry_out(self, hub: &Hub, cell: &Arc<SessionCell>) {
        self.wakers.into_iter().for_each(Waker::wake);
        for rare in self.rare {
            match rare {
                Rare::JoinDecided(token, decision) => answer_join(hub, &token, decision),
                Rare::Audit(event) => {
                    audit(&event);
                    hub.journal(|journal| journal.audit(&event));
                }
                Rare::Warning(text) => tracing::warn!(session = %cell.key(), "{text}"),
                Rare::Finished => hub.finished(cell),
            }
        }
    }
}

pub(super) fn warning_text(peer: &impl std::fmt::Display, warning: Warning) -> String {
    format!("dropped a message of peer {peer}: {warning:?}; further ones like it are only counted")
}

fn answer_join(hub: &Hub, token: &KeyedToken, decision: JoinDecision) {
    let now = Instant::now();
    let answer = match decision {
        JoinDecision::Accepted(acceptance) => JoinPoll::Joined {
            room_id: acceptance.claim.room.clone(),
            room_token: hub.tokens.sign_room(&acceptance.claim, unix_now()),
            workspace: acceptance.workspace,
            host: acceptance.host,
        },
        JoinDecision::Rejected => JoinPoll::failed(InfoCode::JoinRejected),
        JoinDecision::TimedOut => JoinPoll::failed(InfoCode::JoinTimeout),
        JoinDecision::SessionEnded => JoinPoll::failed(InfoCode::RoomNotFound),
    };
    hub.joins.decide(token, answer, now);
    hub.joins.end_by(token, now + answer_kept(hub));
}

/// A decided request is still polled, at most one poll later; then it makes room.
fn answer_kept(hub: &Hub) -> Duration {
    hub.settings.timeouts.poll + JOIN_ANSWER_KEPT
}

/// One line of the session audit.
pub(super) fn audit(event: &AuditEvent) {
    let (kind, reason) = match event.kind {
        AuditKind::Created => ("created", None),
        AuditKind::Joined => ("joined", None),
        AuditKind::Left => ("left", None),
        AuditKind::Ended(reason) => ("ended", Some(reason.as_str())),
    };
    // Names and clients are what strangers wrote: their debug form is of one line.
    tracing::info!(
        target: "sessions",
        event = kind,
        reason,
        session = %event.session,
        peer = %event.peer,
        user_id = ?event.user.id,
        user = ?event.user.name,
        email = event.user.email.as_ref().map(tracing::field::debug),
        provider = ?event.user.auth_provider,
        client = ?event.client,
    );
}
