//! WebSockets, which the balancer carries itself.
//!
//! Pingora's own way keeps a read buffer of 64 KiB for each direction of a tunnel, cuts it after a minute of silence,
//! knows no half-close and no goodbye, and may lose the tunnel under load. So a node is asked over a connection of ours,
//! as often and as many as it takes; nothing has gone to the client until one answered. Then the client's connection is
//! taken out of Pingora's session, a ghost with the same head takes its place there, and [`pump`] carries the bytes.

pub(crate) mod dial;
mod frames;
mod pump;

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use ctedge_logs::AccessLine;
use ctedge_routing::{NodeState, TunnelTicket};
use ctedge_wire::headers;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::sync::watch;

use self::dial::{DialError, Dialed};
use self::pump::{Carried, Client, Ends};
use crate::answer::{Refusal, refuse};
use crate::client::was_refused;
use crate::context::{RequestContext, text};
use crate::limits::TunnelSlot;
use crate::prepare::cookie_due;
use crate::request::{KEY, is_internal, target_below_prefix};
use crate::shared::{Shared, Target};

#[cfg(fuzzing)]
pub(crate) use self::frames::hold_for as frames_hold_for;

/// Headers of a node's answer that are not passed on, since they belong to its connection.
const KEPT_BACK: [HeaderName; 4] =
    [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")];

/// Opens a tunnel, or answers why there is none. Returns `true`, as Pingora wants it: the request is answered.
pub(crate) async fn open(shared: &Arc<Shared>, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
    let opened = match shared.limits.admit_tunnel(context.live.settings.limits.tunnels_max) {
        Ok(slot) => find_node(shared, session, context).await.map(|dialed| (slot, dialed)),
        Err(_) => Err(Refusal::TooManyTunnels),
    };
    let (slot, dialed) = match opened {
        Ok(opened) => opened,
        Err(refusal) => return turn_away(shared, session, refusal).await,
    };
    if dialed.status != StatusCode::SWITCHING_PROTOCOLS {
        context.is_answered = true;
        return pass_answer_on(shared, session, context, dialed).await;
    }
    match register(shared, context, slot) {
        Some(tunnel) => begin(session, context, tunnel, dialed).await,
        // The key has found another place meanwhile: the client comes back and gets there.
        None => turn_away(shared, session, Refusal::NoNode).await,
    }
}

async fn turn_away(shared: &Shared, session: &mut Session, refusal: Refusal) -> Result<bool> {
    shared.metrics.refused.with_label_values(&[refusal.code()]).inc();
    refuse(session, refusal).await?;
    Ok(true)
}

/// Asks nodes until one gives an answer that is for the client.
async fn find_node(shared: &Shared, session: &Session, context: &mut RequestContext) -> Result<Dialed, Refusal> {
    let timeouts = &context.live.settings.timeouts;
    let prefix = &context.live.settings.path_prefix;
    let request = session.req_header();
    let target = target_below_prefix(&request.uri, prefix).ok_or(Refusal::NotFound)?;
    let path = target.path_and_query().map_or("/", |target| target.as_str());
    let route = context.route.as_mut().ok_or(Refusal::Internal)?;
    loop {
        let node = Arc::clone(route.next_target(shared).await?);
        let head = upgrade_head(path, &request.headers, &route.key_value(), route.unreachable_value(shared));
        match node.ask(&head, timeouts.connect, timeouts.response).await {
            Err(DialError::Connect(error)) => route.could_not_connect(shared, was_refused(&error)),
            // An upgrade that was not answered has done nothing that another one could not undo.
            Err(DialError::Answer(_)) if route.died(shared, true) => {}
            Err(DialError::Answer(_)) => return Err(Refusal::NodeFailed),
            Err(DialError::Timeout) => return Err(Refusal::NodeTimeout),
            Ok(dialed) => {
                if !route.heard(shared, dialed.status, &dialed.headers, true, true)? {
                    return Ok(dialed);
                }
            }
        }
    }
}

/// The head of the upgrade for a node: the client's, which has been prepared, with the connection's own headers anew.
fn upgrade_head(path: &str, of_client: &HeaderMap, key: &HeaderValue, unreachable: Option<HeaderValue>) -> BytesMut {
    let mut head = BytesMut::with_capacity(1024);
    head.put_slice(b"GET ");
    head.put_slice(path.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in of_client {
        let is_of_connection = [header::CONNECTION, header::UPGRADE, header::CONTENT_LENGTH].contains(name);
        if !is_of_connection && *name != KEY {
            put_header(&mut head, name, value);
        }
    }
    put_header(&mut head, &KEY, key);
    if let Some(unreachable) = unreachable {
        put_header(&mut head, &HeaderName::from_static(headers::UNREACHABLE), &unreachable);
    }
    head.put_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    head
}

fn put_header(head: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    head.put_slice(name.as_str().as_bytes());
    head.put_slice(b": ");
    head.put_slice(value.as_bytes());
    head.put_slice(b"\r\n");
}

/// What the client gets besides the node's own headers.
fn own_headers(context: &RequestContext) -> Vec<(HeaderName, HeaderValue)> {
    let cookie = cookie_due(context).and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    let target = context.route.as_ref().and_then(|route| route.target.as_ref());
    let node = target.filter(|_| context.live.settings.expose_node).map(|target| target.name.clone());
    let cookie = cookie.map(|cookie| (header::SET_COOKIE, cookie));
    let node = node.map(|node| (HeaderName::from_static(headers::NODE), node));
    cookie.into_iter().chain(node).collect()
}

fn is_kept_back(name: &HeaderName) -> bool {
    KEPT_BACK.contains(name) || is_internal(name)
}

/// Passes a node's refusal of the tunnel on. The client's connection goes on.
async fn pass_answer_on(
    shared: &Shared,
    session: &mut Session,
    context: &RequestContext,
    dialed: Dialed,
) -> Result<bool> {
    let mut answer = ResponseHeader::build_no_case(dialed.status, Some(dialed.headers.len() + 2))?;
    for (name, value) in &dialed.headers {
        if !is_kept_back(name) && name != header::CONTENT_LENGTH {
            answer.append_header(name, value.clone())?;
        }
    }
    for (name, value) in own_headers(context) {
        answer.append_header(name, value)?;
    }
    let deadline = tokio::time::Instant::now() + context.live.settings.timeouts.response;
    let Ok(body) = dialed.read_body(deadline).await else {
        return turn_away(shared, session, Refusal::NodeFailed).await;
    };
    answer.insert_header(header::CONTENT_LENGTH, body.len())?;
    session.write_response_header(Box::new(answer), false).await?;
    session.write_response_body(Some(body.freeze()), true).await?;
    Ok(true)
}

/// A tunnel that counts. What it holds is given back when it is dropped, however it ends.
struct Tunnel {
    shared: Arc<Shared>,
    target: Arc<Target>,
    ticket: Option<TunnelTicket>,
    went_down: watch::Receiver<()>,
    started: Instant,
    _slot: TunnelSlot,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.router.tunnel_closed(ticket, Instant::now());
        }
    }
}

fn register(shared: &Arc<Shared>, context: &RequestContext, slot: TunnelSlot) -> Option<Tunnel> {
    let route = context.route.as_ref()?;
    let target = Arc::clone(route.target.as_ref()?);
    // Subscribed before the look at the state, so that a node that goes down meanwhile is not missed.
    let went_down = target.went_down.subscribe();
    if target.node.state() == NodeState::Down {
        return None;
    }
    let ticket = shared.router.tunnel_opened(route.key(), &target.node, Instant::now())?;
    let (shared, started) = (Arc::clone(shared), context.started);
    Some(Tunnel { shared, target, ticket: Some(ticket), went_down, started, _slot: slot })
}

/// Takes the client's connection and lets the bytes flow.
async fn begin(
    session: &mut Session,
    context: &mut RequestContext,
    mut tunnel: Tunnel,
    dialed: Dialed,
) -> Result<bool> {
    let line = tunnel.shared.access_log.is_some().then(|| Line::new(session, context)).flatten();
    let (stream, early) = take_stream(session).await?;
    context.is_tunnel = true;
    let head = switching_head(&dialed.headers, own_headers(context));
    let ends = Ends::new(Client::new(stream), dialed.stream, &head, &dialed.rest, early);
    let idle_time_max = context.live.settings.timeouts.tunnel_idle;
    // Subscribed before the spawn, so that no phase is missed by a tunnel that is being born.
    let phase = tunnel.shared.stop.subscribe();
    tokio::spawn(async move {
        let carried = ends.pump(idle_time_max, phase, &mut tunnel.went_down).await;
        tunnel.end(carried, line);
    });
    Ok(true)
}

/// The client's stream out of Pingora's session, and what the client sent after its head.
async fn take_stream(session: &mut Session) -> Result<(Stream, Bytes)> {
    // Pingora looks at the request once more after this, for which the ghost is there.
    let head = session.to_h1_raw();
    let mut ghost = ServerSession::new_http1(Box::new(Cursor::new(head.to_vec())));
    ghost.read_request().await?;
    ghost.set_keepalive(None);
    let mut session = std::mem::replace(session.as_downstream_mut(), ghost);
    session.set_keepalive(Some(0));
    session.set_keepalive_reuses_remaining(None);
    session.set_pipelining_enabled(true);
    let reusable = session.finish().await?;
    let reusable = reusable.ok_or_else(|| Error::explain(ErrorType::InternalError, "the client's stream is lost"))?;
    let (stream, early) = reusable.into_parts();
    Ok((stream, early.map(BytesMut::freeze).unwrap_or_default()))
}

fn switching_head(of_node: &HeaderMap, own: Vec<(HeaderName, HeaderValue)>) -> BytesMut {
    let mut head = BytesMut::with_capacity(256);
    head.put_slice(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n");
    for (name, value) in of_node.iter().filter(|(name, _)| !is_kept_back(name)) {
        put_header(&mut head, name, value);
    }
    for (name, value) in &own {
        put_header(&mut head, name, value);
    }
    head.put_slice(b"\r\n");
    head
}

/// The access line of a tunnel, kept until its end.
struct Line {
    client: std::net::IpAddr,
    authorization: Option<Box<str>>,
    path: Box<str>,
    referer: Option<Box<str>>,
    user_agent: Option<Box<str>>,
}

impl Line {
    fn new(session: &Session, context: &RequestContext) -> Option<Self> {
        let request = session.req_header();
        Some(Self {
            client: context.origin?.client,
            authorization: text(&request.headers, &header::AUTHORIZATION).map(Into::into),
            path: String::from_utf8_lossy(request.raw_path()).into(),
            referer: text(&request.headers, &header::REFERER).map(Into::into),
            user_agent: text(&request.headers, &header::USER_AGENT).map(Into::into),
        })
    }
}

impl Tunnel {
    /// Counts and logs what the tunnel carried.
    fn end(self, carried: Carried, line: Option<Line>) {
        let Carried { to_node, to_client, end } = carried;
        let metrics = &self.shared.metrics;
        let node = self.target.node.id().as_str();
        metrics.tunnels_ended.with_label_values(&[node, end.as_str()]).inc();
        metrics.tunnel_bytes.with_label_values(&["to_node"]).inc_by(to_node);
        metrics.tunnel_bytes.with_label_values(&["to_client"]).inc_by(to_client);
        let seconds = round(self.started.elapsed());
        tracing::debug!(node, seconds, to_node, to_client, end = end.as_str(), "a tunnel ended");
        if let (Some(log), Some(line)) = (&self.shared.access_log, line) {
            log.record(&AccessLine {
                client: line.client,
                authorization: line.authorization.as_deref(),
                time: SystemTime::now(),
                method: "GET",
                path: &line.path,
                version: "HTTP/1.1",
                status: 101,
                bytes: to_client,
                referer: line.referer.as_deref(),
                user_agent: line.user_agent.as_deref(),
            });
        }
    }
}

fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
