//! How a connection closes: politely, and within a bounded time.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use ctedge_socketio::{CloseReason, Fault};
use tungstenite::protocol::frame::coding::CloseCode;

use super::{Batch, Carried, Connection, Phase};

/// How long the peer may take to answer a close. One that is sent away, and goes on sending what it had under way, may take
/// as long after each byte.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that is sent away may take to prove what it has and to close by itself before it is sent a close
/// frame: a few round trips. What it still has under way comes before its answer, so it may take as long after each byte,
/// within half of the time that there is: a client that knows no such word only closes by the frame.
const AWAY_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Closing {
    /// The close frame that is still to be written.
    pub(super) frame: Option<(CloseCode, Cow<'static, str>)>,
    /// When it is to be written, unless the peer closes before: one that was sent away does.
    pub(super) frame_at: Instant,
    /// Whether what the peer still sends counts.
    pub(super) heeds: bool,
    /// Whether the peer has closed too.
    pub(super) is_answered: bool,
    pub(super) by: Instant,
    /// For a peer that is sent away.
    pub(super) away: Option<Away>,
}

/// How long a peer that is sent away is waited for while it goes on sending.
pub(super) struct Away {
    frame_at_most: Instant,
    by_most: Instant,
}

impl Closing {
    /// Something has come from the peer, be it a part of a message.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(away) = &self.away {
            self.frame_at = self.frame_at.max((now + AWAY_TIMEOUT).min(away.frame_at_most));
            self.by = self.by.max((now + CLOSE_TIMEOUT).min(away.by_most));
        }
    }
}

impl Connection {
    /// The peer closed. If that answers our close, it has read all that was written before.
    pub(super) fn answered_close(&mut self, now: Instant) {
        if let (Phase::Closing(Closing { frame: None, .. }), Carried::Own { link, .. }) = (&self.phase, &self.carried)
            && self.unwritten.is_empty()
        {
            link.acknowledge_written();
        }
        self.close(CloseCode::Normal, "", false, now);
        if let Phase::Closing(closing) = &mut self.phase {
            closing.is_answered = true;
        }
    }

    pub(super) fn close_for(&mut self, reason: CloseReason, now: Instant) {
        let code = match reason {
            CloseReason::ClosedByPeer | CloseReason::Disconnected | CloseReason::Refused => CloseCode::Normal,
            CloseReason::PingTimeout | CloseReason::ConnectTimeout => CloseCode::Policy,
            CloseReason::Malformed(Fault::Utf8) => CloseCode::Invalid,
            CloseReason::Overlap | CloseReason::Malformed(_) => CloseCode::Protocol,
        };
        // A peer that was only slow may have sent messages before it reads the close.
        self.close(code, reason.to_string(), reason == CloseReason::PingTimeout, now);
    }

    /// Asks the client to close and to come again, and closes if it does not. What it still sends counts.
    pub(super) fn send_away(&mut self, code: CloseCode, reason: &'static str, now: Instant, batch: &mut Batch) {
        self.close(code, reason, true, now);
        if let (Phase::Closing(closing), Carried::Own { link, .. }) = (&mut self.phase, &mut self.carried) {
            let by_most = link.away_ends(now);
            closing.away = Some(Away { frame_at_most: now + by_most.saturating_duration_since(now) / 2, by_most });
            if link.engine.is_connected() {
                link.engine.send_away(now);
                link.engine.flush(batch, now);
                closing.frame_at = now + AWAY_TIMEOUT;
            }
        }
    }

    /// Begins to close. `heeds` says whether what the peer still sends counts.
    pub(super) fn close(&mut self, code: CloseCode, reason: impl Into<Cow<'static, str>>, heeds: bool, now: Instant) {
        match &mut self.phase {
            Phase::Closing(closing) => closing.heeds &= heeds,
            _ => {
                let frame = Some((code, reason.into()));
                let by = now + CLOSE_TIMEOUT;
                self.phase =
                    Phase::Closing(Closing { frame, frame_at: now, heeds, is_answered: false, by, away: None });
            }
        }
    }
}
