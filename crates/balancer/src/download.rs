//! Tells a node when a client has the whole of what it downloads: the balancer alone sees the client's socket.
//!
//! A node's answer that is a download says so in a header. When all of it has been written, the kernel still has some of it,
//! and what the client's own end has acknowledged is not the balancer's any more. So the request is not over before nothing is
//! left unacknowledged, or the connection has ended.

use std::time::Duration;

use ctedge_wire::headers::{CONTROL_TOKEN, DOWNLOAD, DOWNLOADED_PATH};
use http::HeaderValue;
use pingora::protocols::SocketDigest;
use pingora_proxy::Session;
use tokio::time::{Instant, sleep};

use crate::client::{Reply, request};
use crate::route::Route;
use crate::shared::Shared;
use crate::tunnel::dial::DialError;

/// The first wait for the client, doubled up to the longest.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_millis(200);

/// A node takes the word at once; the time is for a machine that is busy.
const TELLING_TIME_MAX: Duration = Duration::from_secs(2);

/// The state of a connection that a reset has ended, or that gave up (`TCP_CLOSE` of Linux's `tcp_states.h`).
const CLOSED: u8 = 7;

/// A download that a client is being sent.
pub(crate) struct Download {
    /// What the node said of it.
    value: HeaderValue,
    /// Tells the client's socket from another that has its number later: a connection of HTTP/2 may end before its requests.
    socket: Option<u64>,
}

impl Download {
    pub(crate) fn begin(value: HeaderValue, session: &Session) -> Self {
        Self { value, socket: socket(session).and_then(|socket| socket.socket_cookie().ok()) }
    }

    /// Waits until the client has all that was written to it, and tells the node. Without progress for `patience` the client
    /// does not have it.
    pub(crate) async fn finish(self, shared: &Shared, session: &Session, route: &Route, patience: Duration) {
        if self.has_arrived(session, patience).await {
            self.tell(shared, route).await;
        }
    }

    async fn has_arrived(&self, session: &Session, patience: Duration) -> bool {
        let (mut wait, mut last) = (WAIT_MIN, None);
        let mut deadline = Instant::now() + patience;
        loop {
            // An HTTP/2 connection has a task of its own that writes, and a client takes its time.
            sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
            let same = socket(session).filter(|socket| socket.socket_cookie().ok() == self.socket);
            let Some(tcp) = same.and_then(SocketDigest::tcp_info) else { return false };
            if tcp.tcpi_state == CLOSED {
                return false;
            }
            if tcp.tcpi_unacked == 0 && tcp.tcpi_notsent_bytes == 0 {
                return true;
            }
            if last.replace(tcp.tcpi_bytes_acked) != Some(tcp.tcpi_bytes_acked) {
                deadline = Instant::now() + patience;
            } else if Instant::now() >= deadline {
                return false;
            }
        }
    }

    /// Tells the node that served it, or another where that one has gone: any node can count it.
    async fn tell(&self, shared: &Shared, route: &Route) {
        let token = shared.live.load().settings.secret.control_token();
        // It came out of a header, where it was plain.
        let headers = [(CONTROL_TOKEN, token.as_str()), (DOWNLOAD, self.value.to_str().unwrap_or_default())];
        let served = route.target.as_ref().map(|target| target.node.address());
        let others = shared.router.nodes();
        let others = others.iter().map(|node| node.address()).filter(|address| Some(*address) != served);
        for address in served.into_iter().chain(others) {
            match request(address, "POST", DOWNLOADED_PATH, &headers, TELLING_TIME_MAX).await {
                Ok(Reply { status: 200..=299, .. }) => return,
                // One that was asked may have counted it.
                Ok(_) | Err(DialError::Answer(_) | DialError::Timeout) => break,
                Err(DialError::Connect(_)) => {}
            }
        }
        tracing::warn!("a download could not be counted: no node took the word");
    }
}

fn socket(session: &Session) -> Option<&SocketDigest> {
    session.digest()?.socket_digest.as_deref()
}
