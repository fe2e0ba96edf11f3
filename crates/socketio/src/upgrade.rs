//! How polling hands over to a WebSocket.
//!
//! The client opens the WebSocket and sends `2probe`; we answer `3probe`. Then it lets its running poll and post come
//! to their ends, starts no others, and sends `5`: from there on everything goes over the WebSocket. So that its poll
//! ends soon, we answer it with a no-op. The client may have begun another poll before it read our `3probe`; that one
//! gets a no-op as well, but only after a pause, or the two of us would spin.

use std::time::{Duration, Instant};

use crate::close::{CloseReason, Fault};

/// How long a client may take from opening its WebSocket to the upgrade. The stock server has the same bound.
pub(crate) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two no-ops. The stock server looks as often.
const NOOP_PAUSE: Duration = Duration::from_millis(100);

/// What a packet on the probing WebSocket leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// Send this text packet on the probing WebSocket.
    Answer(&'static str),
    /// The session is the WebSocket's.
    Upgraded,
}

/// Why a session cannot be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRefusal {
    /// Another WebSocket is trying.
    #[error("an upgrade is under way")]
    UnderWay,
    /// It already has a WebSocket.
    #[error("the session is upgraded")]
    Upgraded,
}

/// An upgrade under way.
#[derive(Debug)]
pub(crate) struct Upgrade {
    until: Instant,
    /// When a waiting poll is to be ended with a no-op; `None` before the probe is answered.
    noop_at: Option<Instant>,
}

impl Upgrade {
    pub(crate) fn begin(now: Instant) -> Self {
        Self { until: now + UPGRADE_TIMEOUT, noop_at: None }
    }

    pub(crate) fn receive(&mut self, packet: &[u8], now: Instant) -> Result<ProbeStep, CloseReason> {
        match (packet, self.noop_at) {
            (b"2probe", None) => {
                self.noop_at = Some(now);
                Ok(ProbeStep::Answer("3probe"))
            }
            (b"5", Some(_)) => Ok(ProbeStep::Upgraded),
            _ => Err(Fault::EngineType.into()),
        }
    }

    /// Whether a waiting poll is to be ended.
    pub(crate) fn noop_is_due(&self, now: Instant) -> bool {
        self.noop_at.is_some_and(|at| now >= at)
    }

    /// A poll was answered.
    pub(crate) fn poll_answered(&mut self, now: Instant) {
        if let Some(at) = &mut self.noop_at {
            *at = now + NOOP_PAUSE;
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    pub(crate) fn deadline(&self, poll_waits: bool) -> Instant {
        match self.noop_at {
            Some(at) if poll_waits => at.min(self.until),
            _ => self.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_answered_and_then_upgraded() {
        let now = Instant::now();
        let mut upgrade = Upgrade::begin(now);
        assert_eq!(upgrade.receive(b"2probe", now), Ok(ProbeStep::Answer("3probe")));
        assert_eq!(upgrade.receive(b"5", now), Ok(ProbeStep::Upgraded));
    }

    #[test]
    fn anything_else_on_a_probing_websocket_is_refused() {
        let now = Instant::now();
        for packets in [&["5"][..], &["2"], &["2probe", "2probe"], &["2probe", "42[]"], &["3probe"], &[""]] {
            let mut upgrade = Upgrade::begin(now);
            let last = packets.iter().map(|packet| upgrade.receive(packet.as_bytes(), now)).last();
            assert_eq!(last, Some(Err(Fault::EngineType.into())), "{packets:?}");
        }
    }

    #[test]
    fn waiting_polls_are_ended_at_once_and_then_with_pauses() {
        let now = Instant::now();
        let mut upgrade = Upgrade::begin(now);
        assert!(!upgrade.noop_is_due(now));
        upgrade.receive(b"2probe", now).unwrap();
        assert!(upgrade.noop_is_due(now));
        assert_eq!(upgrade.deadline(true), now);
        assert_eq!(upgrade.deadline(false), now + UPGRADE_TIMEOUT);
        upgrade.poll_answered(now);
        assert!(!upgrade.noop_is_due(now));
        assert_eq!(upgrade.deadline(true), now + NOOP_PAUSE);
        assert!(upgrade.noop_is_due(now + NOOP_PAUSE));
    }
}
