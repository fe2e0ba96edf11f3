//! What is known of one request from its head to its log line.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ctedge_logs::AccessLine;
use http::{HeaderMap, HeaderName, Version, header};
use pingora_proxy::Session;
use prometheus::IntGauge;

use crate::answer::Refusal;
use crate::download::Download;
use crate::forwarded::Origin;
use crate::leaving::Poll;
use crate::route::Route;
use crate::shared::{Live, Shared};
use crate::stream::Connection;
use crate::wait::Wait;

/// A request, as Pingora carries it from filter to filter.
pub(crate) struct RequestContext {
    pub(crate) live: Arc<Live>,
    pub(crate) started: Instant,
    /// The client's connection; HTTP/2 has none of ours.
    pub(crate) connection: Option<Arc<Connection>>,
    pub(crate) origin: Option<Origin>,
    pub(crate) route: Option<Route>,
    /// Bytes of the request's body so far.
    pub(crate) body_bytes: u64,
    /// What the client is told if it gets no answer from a node.
    pub(crate) refusal: Option<Refusal>,
    /// Whether the error that ended this try was made here to send the request elsewhere.
    pub(crate) is_replaying: bool,
    /// The wait for the head of a node's answer.
    pub(crate) wait: Option<Wait>,
    /// Whether a node has begun to answer.
    pub(crate) is_answered: bool,
    /// Whether a connection died under the request: the next try takes a new one.
    pub(crate) wants_new_connection: bool,
    /// Whether the request became a tunnel, which is logged when it ends.
    pub(crate) is_tunnel: bool,
    /// What the client downloads, by the node's word.
    pub(crate) download: Option<Download>,
    /// Set for a request of a client that polls. It ends before the request is none in flight any more.
    pub(crate) poll: Option<Poll>,
    _in_flight: InFlight,
}

/// Counts a request while it exists, also when it is cancelled.
struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RequestContext {
    pub(crate) fn new(shared: &Shared) -> Self {
        shared.metrics.in_flight.inc();
        Self {
            live: shared.live.load_full(),
            started: Instant::now(),
            connection: None,
            origin: None,
            route: None,
            body_bytes: 0,
            refusal: None,
            is_replaying: false,
            wait: None,
            is_answered: false,
            wants_new_connection: false,
            is_tunnel: false,
            download: None,
            poll: None,
            _in_flight: InFlight(shared.metrics.in_flight.clone()),
        }
    }

    /// Counts and logs the answer.
    pub(crate) fn finish(&self, shared: &Shared, session: &Session) {
        let status = session.response_written().map(|answer| answer.status.as_u16());
        let target = self.route.as_ref().and_then(|route| route.target.as_ref());
        let metrics = match target {
            Some(target) if self.is_answered => &target.metrics,
            _ => &shared.own_answers,
        };
        metrics.answered(status, self.started.elapsed());
        let (Some(log), Some(origin)) = (&shared.access_log, self.origin) else { return };
        let request = session.req_header();
        let path = String::from_utf8_lossy(request.raw_path());
        log.record(&AccessLine {
            client: origin.client,
            authorization: text(&request.headers, &header::AUTHORIZATION),
            time: SystemTime::now(),
            method: request.method.as_str(),
            path: &path,
            version: version(request.version),
            // nginx's word for a client that went away before it was answered.
            status: status.unwrap_or(499),
            bytes: session.body_bytes_sent() as u64,
            referer: text(&request.headers, &header::REFERER),
            user_agent: text(&request.headers, &header::USER_AGENT),
        });
    }
}

/// A header's value, if it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The version as nginx logs it.
pub(crate) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_09 => "HTTP/0.9",
        _ => "HTTP/1.1",
    }
}
