//! Pings, pongs, and what a pong proves.
//!
//! A transport delivers in order, and a client answers a ping only after it handled what came before. So a pong proves
//! the receipt of every message written before its ping. What is proven need not be kept: a ping goes out early when
//! much is unproven, and soon after the first message that is.

use std::time::{Duration, Instant};

/// Pings, pongs, and the offsets between them.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    phase: Phase,
    /// The offset of the last message written.
    written: Option<u64>,
    /// The offset up to which receipt is proven.
    proven: Option<u64>,
    /// Bytes of messages written since the last ping.
    unproven_bytes: usize,
}

#[derive(Debug)]
enum Phase {
    Resting { ping_at: Instant },
    Waiting { pong_by: Instant, ping: Ping, extended: bool },
}

#[derive(Debug)]
enum Ping {
    /// Due, but not yet written: a polling client has to fetch it.
    Owed,
    /// Written after the message of this offset.
    Written(Option<u64>),
}

/// What [`Heartbeat::handle_timeout`] asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    /// A ping is owed.
    Ping,
    /// The peer is gone.
    Dead,
}

impl Heartbeat {
    pub(crate) fn new(ping_interval: Duration, now: Instant) -> Self {
        Self { phase: Phase::Resting { ping_at: now + ping_interval }, written: None, proven: None, unproven_bytes: 0 }
    }

    /// A message was written.
    pub(crate) fn message_written(&mut self, offset: u64, bytes: usize) {
        self.written = Some(offset);
        self.unproven_bytes = self.unproven_bytes.saturating_add(bytes);
    }

    /// Sees to it that messages are proven soon: at the latest after `unproven_max`, or at once if more than
    /// `unproven_bytes_max` are not. Whether a ping is owed by that.
    pub(crate) fn hastens(
        &mut self,
        unproven_bytes_max: usize,
        unproven_max: Duration,
        ping_timeout: Duration,
        now: Instant,
    ) -> bool {
        let Phase::Resting { ping_at } = &mut self.phase else { return false };
        if self.unproven_bytes >= unproven_bytes_max {
            self.owe(ping_timeout, now);
            return true;
        }
        if self.unproven_bytes > 0 {
            *ping_at = (*ping_at).min(now + unproven_max);
        }
        false
    }

    /// Whether receipt is proven of everything that was written.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven == self.written
    }

    /// Sees to it that a ping is under way. Whether one is owed by that.
    pub(crate) fn demands(&mut self, ping_timeout: Duration, now: Instant) -> bool {
        let rests = matches!(self.phase, Phase::Resting { .. });
        if rests {
            self.owe(ping_timeout, now);
        }
        rests
    }

    /// The owed ping was written.
    pub(crate) fn ping_written(&mut self) {
        if let Phase::Waiting { ping: ping @ Ping::Owed, .. } = &mut self.phase {
            *ping = Ping::Written(self.written);
            self.unproven_bytes = 0;
        }
    }

    /// The peer sent something that is no pong: it lives, so its pong may take as long once more.
    pub(crate) fn heard(&mut self, ping_timeout: Duration, now: Instant) {
        if let Phase::Waiting { pong_by, extended: extended @ false, .. } = &mut self.phase {
            *pong_by = now + ping_timeout;
            *extended = true;
        }
    }

    /// The peer sent a pong. Gives the offset up to which receipt is proven. A pong that no ping asked for proves
    /// nothing.
    pub(crate) fn pong(&mut self, ping_interval: Duration, now: Instant) -> Option<u64> {
        let Phase::Waiting { ping: Ping::Written(proven), .. } = self.phase else { return None };
        self.phase = Phase::Resting { ping_at: now + ping_interval };
        self.proven = proven;
        proven
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Resting { ping_at } => ping_at,
            Phase::Waiting { pong_by, .. } => pong_by,
        }
    }

    pub(crate) fn handle_timeout(&mut self, ping_timeout: Duration, now: Instant) -> Beat {
        match self.phase {
            Phase::Resting { ping_at } if now >= ping_at => {
                self.owe(ping_timeout, now);
                Beat::Ping
            }
            Phase::Waiting { pong_by, .. } if now >= pong_by => Beat::Dead,
            _ => Beat::Nothing,
        }
    }

    fn owe(&mut self, ping_timeout: Duration, now: Instant) {
        self.phase = Phase::Waiting { pong_by: now + ping_timeout, ping: Ping::Owed, extended: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn second(second: u64, start: Instant) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn a_ping_goes_out_at_its_time_and_rests_after_its_pong() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(24, start)), Beat::Nothing);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(25, start)), Beat::Ping);
        heartbeat.ping_written();
        assert_eq!(heartbeat.deadline(), second(45, start));
        assert_eq!(heartbeat.pong(INTERVAL, second(30, start)), None);
        assert_eq!(heartbeat.deadline(), second(55, start));
    }

    #[test]
    fn a_missing_pong_is_the_end_even_if_the_ping_could_not_be_written() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(25, start)), Beat::Ping);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(45, start)), Beat::Dead);
    }

    #[test]
    fn other_packets_extend_the_wait_for_a_pong_once() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.handle_timeout(TIMEOUT, second(25, start));
        heartbeat.heard(TIMEOUT, second(40, start));
        heartbeat.heard(TIMEOUT, second(50, start));
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(59, start)), Beat::Nothing);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(60, start)), Beat::Dead);
    }

    #[test]
    fn a_pong_proves_what_was_written_before_its_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.message_written(7, 10);
        heartbeat.handle_timeout(TIMEOUT, second(25, start));
        heartbeat.message_written(8, 10);
        heartbeat.ping_written();
        heartbeat.message_written(9, 10);
        assert_eq!(heartbeat.pong(INTERVAL, second(26, start)), Some(8));
        assert_eq!(heartbeat.pong(INTERVAL, second(27, start)), None);
    }

    #[test]
    fn a_pong_before_its_ping_was_written_proves_nothing() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.message_written(7, 10);
        heartbeat.handle_timeout(TIMEOUT, second(25, start));
        assert_eq!(heartbeat.pong(INTERVAL, second(26, start)), None);
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(45, start)), Beat::Dead);
    }

    fn hastens(heartbeat: &mut Heartbeat, now: Instant) -> bool {
        heartbeat.hastens(100, Duration::from_secs(2), TIMEOUT, now)
    }

    #[test]
    fn many_unproven_bytes_hasten_one_ping_at_a_time() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.message_written(1, 60);
        assert!(!hastens(&mut heartbeat, start));
        heartbeat.message_written(2, 60);
        assert!(hastens(&mut heartbeat, start));
        heartbeat.message_written(3, 200);
        assert!(!hastens(&mut heartbeat, start));
        heartbeat.ping_written();
        assert_eq!(heartbeat.pong(INTERVAL, start), Some(3));
        assert!(!hastens(&mut heartbeat, start));
    }

    #[test]
    fn a_message_is_proven_soon_after_the_first_that_is_not() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        assert!(!hastens(&mut heartbeat, start));
        assert_eq!(heartbeat.deadline(), start + INTERVAL);
        for at in [10, 11] {
            heartbeat.message_written(at, 1);
            assert!(!hastens(&mut heartbeat, second(at, start)));
            assert_eq!(heartbeat.deadline(), second(12, start));
        }
        assert_eq!(heartbeat.handle_timeout(TIMEOUT, second(12, start)), Beat::Ping);
        heartbeat.ping_written();
        assert_eq!(heartbeat.pong(INTERVAL, second(13, start)), Some(11));
        assert_eq!(heartbeat.deadline(), second(13, start) + INTERVAL);
    }
}
