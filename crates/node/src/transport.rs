//! The transports between clients and the hub: Engine.IO over polling and WebSocket.
//!
//! - [`link`]: what a session is whichever transport carries it: its engine, its attachment to the hub, its cursor.
//! - [`handshake`]: what the first request of a session says: who comes, with which token.
//! - [`pacing`]: how many handshakes a second.
//! - [`polling`]: sessions whose client polls, by GET and POST.
//! - [`table`]: the polling sessions of a node, by `sid`.
//! - [`upgrade`]: HTTP to WebSocket, and the raw socket out of the HTTP server's hands.
//! - [`socket`]: one WebSocket connection as one future.
//! - [`frames`], [`outgoing`]: RFC 6455 frames in and out.
//! - [`stopping`]: wakes every connection when the node stops.
//! - [`answer`]: HTTP answers in the words of Engine.IO.

mod answer;
mod frames;
mod handshake;
mod link;
mod outgoing;
mod pacing;
mod polling;
mod socket;
mod stopping;
mod table;
mod upgrade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use ctedge_socketio::{Engine, EngineSettings, PayloadSink, Transport};
use ctedge_wire::headers;

use crate::hub::{AttachRefusal, Hub, NotHere};
use answer::EngineError;
pub(crate) use answer::{owned, unreachable};
#[cfg(fuzzing)]
pub(crate) use frames::hold_for as frames_hold_for;
use handshake::{ClientHello, Query};
use link::Link;
use pacing::Pace;
use polling::PollingSession;
use stopping::Stopping;
use table::Table;

/// How long a client may take from the handshake to its CONNECT. The stock client sends it at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How many bytes of messages may be unproven before a ping goes out early: few enough that an outbox stays far from
/// its bound while its peer keeps up, enough that a ping is rare beside its messages.
const UNPROVEN_BYTES_MAX: usize = 64 * 1024;

/// How long a message may be unproven before a ping goes out: a peer that rests should not hold what it has long had.
/// A ping every so often is little beside the messages that bring it about.
const UNPROVEN_MAX: Duration = Duration::from_secs(2);

/// What a polling body has besides its messages' Base64: packet heads, and a CONNECT with its tokens.
const PAYLOAD_OVERHEAD_BYTES: usize = 72 * 1024;

/// All transports of a node.
pub(crate) struct Transports {
    hub: Arc<Hub>,
    engine: Arc<EngineSettings>,
    table: Table,
    stopping: Arc<Stopping>,
    pace: Arc<Pace>,
}

impl Transports {
    /// The transports to `hub`. Call it within a Tokio runtime.
    #[must_use]
    pub(crate) fn new(hub: Arc<Hub>) -> Arc<Self> {
        let settings = hub.settings();
        let engine = Arc::new(EngineSettings {
            ping_interval: settings.timeouts.ping_interval,
            ping_timeout: settings.timeouts.ping_timeout,
            connect_timeout: CONNECT_TIMEOUT,
            payload_bytes_max: settings.limits.message_bytes_max.div_ceil(3) * 4 + PAYLOAD_OVERHEAD_BYTES,
            unproven_bytes_max: UNPROVEN_BYTES_MAX.min(settings.limits.outbox_bytes_max / 4),
            unproven_max: UNPROVEN_MAX,
        });
        let stopping = Stopping::watch(hub.connections().stop_signal());
        let pace = Pace::new(hub.settings().limits.handshakes_per_second);
        Arc::new(Self { hub, engine, table: Table::default(), stopping, pace })
    }

    /// Answers a request whose path ends in `/socket.io/`.
    pub(crate) async fn serve(self: Arc<Self>, request: Request) -> Response {
        let query = Query::of(request.uri());
        if request.method() == Method::OPTIONS {
            return answer::options();
        }
        if query.engine_version() != Some("4") {
            return EngineError::UnsupportedVersion.into();
        }
        match (query.transport(), query.sid()) {
            (Some("polling"), None) if request.method() == Method::GET => {
                self.open_polling(ClientHello::of(request.headers(), &query)).await
            }
            (Some("polling"), None) => EngineError::BadHandshakeMethod.into(),
            (Some("polling"), Some(sid)) => match self.table.find(sid) {
                Some(session) => {
                    if request.headers().contains_key(headers::LEAVING) {
                        session.leave(Instant::now());
                    }
                    // What a POST brings may be relayed only by the session's owner.
                    self.hub.gate().opened().await;
                    let epoch = session.epoch();
                    let response =
                        polling::serve(session, request, self.engine.payload_bytes_max, self.hub.connections()).await;
                    self.owned(response, epoch)
                }
                None => self.unknown_sid(sid, request.headers()).await,
            },
            (Some("websocket"), sid) => self.open_socket(request, &query, sid).await,
            _ => EngineError::UnknownTransport.into(),
        }
    }

    /// How many handshakes wait for their turn.
    pub(crate) fn handshakes_waiting(&self) -> usize {
        self.pace.waiting()
    }

    async fn open_polling(self: &Arc<Self>, hello: ClientHello) -> Response {
        let sid = hello.mint_sid(&self.hub);
        let link = match self.link(hello, Transport::Polling).await {
            Ok(link) => link,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let (mut body, epoch) = (PayloadSink::new(), link.epoch());
        link.open(sid.as_str(), &mut body);
        let session = PollingSession::new(sid, link);
        self.table.insert(&session);
        polling::keep(session, Arc::clone(self));
        self.owned(answer::payload(body), epoch)
    }

    async fn open_socket(self: &Arc<Self>, mut request: Request, query: &Query, sid: Option<&str>) -> Response {
        let Some(upgrade) = upgrade::Upgrade::of(&mut request) else {
            return EngineError::BadRequest.into();
        };
        let (carried, epoch) = match sid {
            None => {
                let hello = ClientHello::of(request.headers(), query);
                let sid = hello.mint_sid(&self.hub);
                match self.link(hello, Transport::WebSocket).await {
                    Ok(link) => {
                        let epoch = link.epoch();
                        (socket::Carried::own(link, sid.as_str()), epoch)
                    }
                    Err(refusal) => return answer::refusal(&refusal),
                }
            }
            Some(sid) => match self.table.find(sid) {
                None => return self.unknown_sid(sid, request.headers()).await,
                Some(session) => match session.begin_upgrade() {
                    Ok(()) => {
                        let epoch = session.epoch();
                        (socket::Carried::probing(session), epoch)
                    }
                    Err(_) => return EngineError::BadRequest.into(),
                },
            },
        };
        let limits = &self.hub.settings().limits;
        let response = upgrade.accept(
            carried,
            limits.message_bytes_max,
            Arc::clone(&self.stopping),
            self.hub.connections().come(),
        );
        self.owned(response, epoch)
    }

    /// The client that polls with this query is to be sent away. One that is not here has left.
    pub(crate) fn leave(&self, uri: &Uri) {
        if let Some(session) = Query::of(uri).sid().and_then(|sid| self.table.find(sid)) {
            session.leave(Instant::now());
        }
    }

    /// What a request with this query and head would be answered that belongs elsewhere, or of which nobody can say where it
    /// belongs. `None` if it is to come.
    pub(crate) async fn elsewhere(&self, uri: &Uri, request: &HeaderMap) -> Option<Response> {
        let query = Query::of(uri);
        let routed = answer::routed_key(request)?;
        if let Some(sid) = query.sid() {
            if self.table.find(sid).is_some() {
                return None;
            }
            if let Some(misplaced) = answer::misplaced(sid, Some(&routed)) {
                return Some(answer::refusal(&misplaced));
            }
        }
        match self.hub.locate(Some(&routed), &answer::unreachable(request), &routed).await {
            Ok(()) | Err(NotHere::Missing) => None,
            Err(not_here) => Some(answer::refusal(&not_here.into())),
        }
    }

    /// A `sid` that this node does not know. A balancer without the session's pin may have brought it to the wrong node,
    /// which must not end it.
    async fn unknown_sid(&self, sid: &str, request: &HeaderMap) -> Response {
        let routed = answer::routed_key(request);
        let refusal = match answer::misplaced(sid, routed.as_ref()) {
            Some(misplaced) => Some(misplaced),
            None => self.hub.elsewhere(routed.as_ref(), &answer::unreachable(request)).await,
        };
        refusal.map_or_else(|| EngineError::UnknownSid.into(), |refusal| answer::refusal(&refusal))
    }

    fn owned(&self, response: Response, epoch: u64) -> Response {
        answer::owned(response, &self.hub.settings().id, epoch)
    }

    /// Waits for the handshake's turn, takes a connection's slot and, if the client showed its token, attaches it.
    async fn link(&self, hello: ClientHello, transport: Transport) -> Result<Link, AttachRefusal> {
        let turn = self.pace.turn(|| hello.is_host(&self.hub)).await;
        turn.map_err(|crowded| {
            self.hub.metrics().refused("handshake_pace");
            AttachRefusal::Unavailable { retry_after: crowded.retry_after }
        })?;
        let slot = self.hub.connections().open().ok_or_else(|| {
            self.hub.metrics().refused(if self.hub.status().is_stopping() { "stopping" } else { "connections_full" });
            AttachRefusal::unavailable()
        })?;
        let engine = Engine::new(Arc::clone(&self.engine), transport, Instant::now());
        Link::new(Arc::clone(&self.hub), slot, engine, hello).await
    }
}
