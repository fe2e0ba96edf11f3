//! How everybody leaves a balancer that ends and has no successor, so that nobody loses a word.
//!
//! What a client says to a closed port is lost, and so is what crosses a close frame. Only the node can send a client away:
//! it knows what the client has. So it is asked to: in a tunnel by a word between two frames of the client (`tunnel::pump`),
//! for a client that polls by a header of its next request, or by a request of the balancer's own where one waits at the
//! node. The ports stay open for those until all have left; newcomers are told to come again, which they do until there is a
//! balancer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ctedge_wire::headers;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client;
use crate::shared::{Shared, Target};

/// A client that polls, has no request under way and has not been heard of for so long has left: it is told so in the answer
/// to one request, and says its last words in the next.
const QUIET: Duration = Duration::from_secs(1);

/// How often the end looks whether anybody is still there.
const LOOK: Duration = Duration::from_millis(20);

/// How many nodes' answers to [`headers::LEAVE_PATH`] are waited for at a time.
const ASKED_AT_ONCE_MAX: usize = 64;

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

/// The clients that poll.
pub(crate) struct Polls {
    started: Instant,
    /// When one was last heard of: milliseconds since the start, and one more. 0 stands for never.
    last: AtomicU64,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// A request of a client that polls, which a node has.
#[derive(Clone)]
struct Waiting {
    target: Arc<Target>,
    query: Box<str>,
}

/// One request of a client that polls, until its answer has been sent.
pub(crate) struct Poll {
    polls: Arc<Polls>,
    number: u64,
}

impl Default for Polls {
    fn default() -> Self {
        let (last, next, waiting) = Default::default();
        Self { started: Instant::now(), last, next, waiting }
    }
}

impl Polls {
    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Poll {
        self.heard();
        Poll { polls: Arc::clone(self), number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    fn heard(&self) {
        self.last.store(self.now() + 1, Ordering::Relaxed);
    }

    fn are_over(&self) -> bool {
        match self.last.load(Ordering::Relaxed) {
            0 => true,
            last => self.now() + 1 - last >= QUIET.as_millis() as u64,
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Poll {
    /// The request goes to `target`. Whoever asks for the phase after this hears of the end, or else the end finds the request.
    pub(crate) fn goes_to(&self, target: &Arc<Target>, query: &str) {
        let waiting = Waiting { target: Arc::clone(target), query: query.into() };
        self.polls.waiting.lock().insert(self.number, waiting);
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.polls.waiting.lock().remove(&self.number);
        self.polls.heard();
    }
}

/// Has everybody sent away whom a request of theirs does not tell, and waits until all have left, for `time_max` at most.
pub(crate) async fn all_left(shared: &Arc<Shared>, time_max: Duration) {
    let begun = Instant::now();
    let asking = tokio::spawn(send_away(Arc::clone(shared)));
    let is_empty = || {
        let requests = shared.metrics.in_flight.get();
        shared.limits.tunnels() == 0 && requests == 0 && shared.polls.are_over()
    };
    while !is_empty() && begun.elapsed() < time_max {
        sleep(LOOK).await;
    }
    asking.abort();
}

/// Asks the nodes to send those away whose requests wait there. A node that does not know how to leaves them waiting.
async fn send_away(shared: Arc<Shared>) {
    let waiting: Vec<_> = shared.polls.waiting.lock().values().cloned().collect();
    let live = shared.live.load_full();
    let token: Arc<str> = live.settings.secret.control_token().into();
    let timeouts = &live.settings.timeouts;
    let (connect, response) = (timeouts.connect, timeouts.response);
    let mut asked = JoinSet::new();
    for Waiting { target, query } in waiting {
        if asked.len() >= ASKED_AT_ONCE_MAX {
            asked.join_next().await;
        }
        let token = Arc::clone(&token);
        asked.spawn(async move {
            let path = format!("{}?{query}", headers::LEAVE_PATH);
            let head = client::head(target.node.address(), "POST", &path, &[(headers::CONTROL_TOKEN, &token)]);
            target.ask(head.as_bytes(), connect, response).await
        });
    }
    asked.join_all().await;
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
    fn polls_are_over_some_time_after_the_end_of_the_last() {
        let started = Instant::now().checked_sub(2 * QUIET).unwrap();
        let polls = Arc::new(Polls { started, ..Polls::default() });
        assert!(polls.are_over());
        let poll = polls.begin();
        assert!(!polls.are_over());
        let time_passes = || polls.last.store(1, Ordering::Relaxed);
        time_passes();
        assert!(polls.are_over());
        drop(poll);
        assert!(!polls.are_over());
        time_passes();
        assert!(polls.are_over());
    }
}
