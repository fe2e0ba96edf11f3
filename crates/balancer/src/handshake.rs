//! TLS handshakes that fail. They are counted by reason, and now and then told: a stranger can make many of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::Error;

use crate::shared::Shared;

/// How often a line of the log tells of them.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client took too long.
    Timeout,
    /// The client went away in the middle: a look whether the port is open does no more.
    Gone,
    /// The client does not take what it was offered, as a certificate of an authority that it does not know.
    Declined,
    /// The client can do nothing that may be done here, as TLS 1.1.
    Incompatible,
    /// What came is no TLS, as plain HTTP.
    NotTls,
    /// Something else.
    Other,
}

impl Failure {
    /// Reads what the TLS library said, of which Pingora leaves the words alone.
    pub(crate) fn of(error: &Error) -> Self {
        let words = error.context.as_ref().map_or("", |context| context.as_str());
        let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
        if says(&["received fatal alert"]) {
            Self::Declined
        } else if says(&["peer is incompatible"]) {
            Self::Incompatible
        } else if says(&["corrupt message"]) {
            Self::NotTls
        } else if says(&["eof", "reset by peer", "Broken pipe"]) {
            Self::Gone
        } else {
            Self::Other
        }
    }

    /// The word of the metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "tls_timeout",
            Self::Gone => "tls_gone",
            Self::Declined => "tls_declined",
            Self::Incompatible => "tls_incompatible",
            Self::NotTls => "tls_not",
            Self::Other => "tls_other",
        }
    }
}

/// What was told of them.
#[derive(Default)]
pub(crate) struct Told(Mutex<Rate>);

#[derive(Default)]
struct Rate {
    last: Option<Instant>,
    untold: u64,
}

impl Rate {
    /// How many failures before this one were not told, if it is to be told.
    fn tells(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < TOLD_EVERY) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Counts a handshake with `peer` that failed, and tells of it if it is time.
pub(crate) fn failed(shared: &Shared, peer: SocketAddr, failure: Failure, error: Option<&Error>) {
    shared.metrics.refused.with_label_values(&[failure.as_str()]).inc();
    if failure == Failure::Gone {
        return;
    }
    if let Some(untold) = shared.handshakes.0.lock().tells(Instant::now()) {
        let problem = error.and_then(|error| error.context.as_ref()).map_or("", |context| context.as_str());
        let client = peer.ip().to_canonical();
        tracing::warn!(%client, reason = failure.as_str(), problem, untold, "a TLS handshake failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_many_came_before_it() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        assert_eq!(rate.tells(start), Some(0));
        for milliseconds in 0..100 {
            assert_eq!(rate.tells(start + Duration::from_millis(milliseconds)), None);
        }
        assert_eq!(rate.tells(start + TOLD_EVERY), Some(100));
        assert_eq!(rate.tells(start + 3 * TOLD_EVERY), Some(0));
    }
}
