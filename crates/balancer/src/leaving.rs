//! How everybody leaves a balancer that ends and has no successor, so that nobody loses a word.
//!
//! What a client says to a closed port is lost, and so is what crosses a close frame. Only the node can send a client away:
//! it knows what the client has. So it is asked to, in the client's own stream: a tunnel by a word between two frames
//! (`tunnel::pump`), a client that polls by a header of its next request. The ports stay open for those until all have
//! left; newcomers are told to come again, which they do until there is a balancer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::shared::Shared;

/// A client that polls and has not been heard of for so long has left: it is told so in the answer to one request, and says
/// its last words in the next.
const QUIET: Duration = Duration::from_millis(500);

/// How often the end looks whether anybody is still there.
const LOOK: Duration = Duration::from_millis(20);

/// What a request has to do with the transport of an Engine.IO session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// It begins one, or another one for a session that has one.
    Begins,
    /// It belongs to one.
    GoesOn,
}

impl Transport {
    /// Reads the query of a request, as Engine.IO has it: a handshake has no `sid`.
    pub(crate) fn of(query: Option<&str>, wants_tunnel: bool) -> Option<Self> {
        let query = query?;
        let has =
            |name: &str| query.split('&').any(|pair| pair.split_once('=').is_some_and(|(found, _)| found == name));
        has("EIO").then(|| if has("sid") && !wants_tunnel { Self::GoesOn } else { Self::Begins })
    }
}

/// When a client that polls was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    /// Milliseconds since the balancer's start, and one more: 0 stands for never.
    last: AtomicU64,
}

impl Polls {
    pub(crate) fn heard(&self, started: Instant) {
        self.last.store(millis_since(started) + 1, Ordering::Relaxed);
    }

    fn are_over(&self, started: Instant) -> bool {
        match self.last.load(Ordering::Relaxed) {
            0 => true,
            last => millis_since(started) + 1 - last >= QUIET.as_millis() as u64,
        }
    }
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
}

/// Waits until everybody has left, for `time_max` at most.
pub(crate) async fn all_left(shared: &Shared, time_max: Duration) {
    let begun = Instant::now();
    let is_empty = || {
        let requests = shared.metrics.in_flight.get();
        shared.limits.tunnels() == 0 && requests == 0 && shared.polls.are_over(shared.started)
    };
    while !is_empty() && begun.elapsed() < time_max {
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_begins_without_a_session_or_with_a_socket() {
        use Transport::{Begins, GoesOn};
        for (query, wants_tunnel, expected) in [
            (Some("EIO=4&transport=polling&t=1"), false, Some(Begins)),
            (Some("EIO=4&transport=polling&sid=k.r"), false, Some(GoesOn)),
            (Some("EIO=4&transport=websocket&sid=k.r"), true, Some(Begins)),
            (Some("EIO=4&transport=websocket"), true, Some(Begins)),
            (Some("sid=k.r"), false, None),
            (Some("EIOU&inside=sid"), false, None),
            (None, true, None),
        ] {
            assert_eq!(Transport::of(query, wants_tunnel), expected, "{query:?}");
        }
    }

    #[test]
    fn polls_are_over_some_time_after_the_last() {
        let (polls, started) = (Polls::default(), Instant::now());
        assert!(polls.are_over(started));
        polls.heard(started);
        assert!(!polls.are_over(started));
        let earlier = started.checked_sub(QUIET).unwrap();
        assert!(polls.are_over(earlier), "by a clock that is that much further");
    }
}
