//! Sessions whose client polls: one GET waits for packets, POSTs bring them.

mod turn;

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ctedge_socketio::payload::{self, PayloadPacket};
use ctedge_socketio::{CloseReason, PayloadSink, ProbeStep, Sink};
use ctedge_wire::KeyedToken;
use parking_lot::Mutex;
use tokio::sync::Notify;

use turn::Turn;

use crate::connections::{Connections, Presence};

use super::answer::{self, EngineError};
use super::link::{Link, Owed};
use super::stopping::SETTLE;
use super::{Transports, socket};
use crate::hub;

/// How many bytes of messages one GET is answered with at most, unless a single message is larger: enough to catch up
/// quickly, little enough to build in memory.
const POLL_BYTES: usize = 256 * 1024;

/// How long a session that is over still knows its client: it may have to fetch the close packet, and a POST of it may
/// be on its way.
const LINGER: Duration = Duration::from_secs(2);

/// How long a client that is sent away is waited for after each piece of a POST.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// The least time between two looks at a session's deadlines. A deadline that a waiting poll must act on is in the past
/// until that poll has run.
const TEND_PAUSE: Duration = Duration::from_millis(10);

/// A session whose client polls.
pub(super) struct PollingSession {
    sid: KeyedToken,
    state: Mutex<State>,
    /// A deadline came closer, or the session is over.
    changed: Notify,
}

struct State {
    phase: Phase,
    /// The GET that waits.
    poll: Option<Waker>,
    is_posting: bool,
    /// The node stops, or the balancer before it: what is owed is written, then the client is sent away.
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy)]
struct Stop {
    /// From here on the client is sent away when nothing is owed.
    close_at: Instant,
    /// It had its time to fetch what it is owed, and to post what it had.
    by: Instant,
    by_most: Instant,
}

enum Phase {
    Open(Link),
    /// The client is told that it is over. What it had sent before is read, if it still counts.
    Closing {
        link: Link,
        heeds: bool,
        until: Instant,
    },
    /// The client was asked to close and to come again. It posts what it still has, while its next poll waits.
    Leaving {
        link: Link,
        until: Instant,
        /// How long it is waited for at most while it goes on posting.
        until_most: Instant,
    },
    /// A WebSocket has the link.
    Upgraded,
    Over,
}

/// How a session ends whose client polls for what it is owed.
enum Ending {
    NotYet,
    /// It is to come again, maybe elsewhere.
    Away,
    Close,
}

/// What a packet on the probing WebSocket leads to.
pub(super) enum Probe {
    /// Send this text packet.
    Answer(&'static str),
    /// The session is the WebSocket's.
    Upgraded(Box<Link>),
}

/// Keeps the session's time in a task of its own, until it is over or upgraded.
pub(super) fn keep(session: Arc<PollingSession>, transports: Arc<Transports>) {
    tokio::spawn(async move {
        let mut stop = transports.hub.connections().stop_signal();
        while let Some(deadline) = session.tend(Instant::now(), stop.is_stopping()) {
            let is_stopping = stop.is_stopping();
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = session.changed.notified() => {}
                () = stop.stopped(), if !is_stopping => {}
            }
        }
        transports.table.remove(&session.sid);
    });
}

/// Answers a request of the session's client.
pub(super) async fn serve(
    session: Arc<PollingSession>,
    request: Request,
    body_bytes_max: usize,
    connections: &Arc<Connections>,
) -> Response {
    match *request.method() {
        Method::GET => get(session, connections.come()).await,
        Method::POST => post(session, request, body_bytes_max).await,
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

async fn get(session: Arc<PollingSession>, _presence: Presence) -> Response {
    let Some(mut turn) = Turn::poll(&session) else { return EngineError::BadRequest.into() };
    let body = poll_fn(|cx| session.poll_payload(cx)).await;
    turn.is_done = true;
    answer::payload(body)
}

async fn post(session: Arc<PollingSession>, request: Request, body_bytes_max: usize) -> Response {
    let Some(mut turn) = Turn::post(&session) else { return EngineError::BadRequest.into() };
    if announced_length(request.headers()).is_some_and(|length| length > body_bytes_max as u64) {
        return answer::too_large();
    }
    // The only other error is a client that went away, which no answer reaches.
    let Some(body) = read(&session, request.into_body(), body_bytes_max).await else { return answer::too_large() };
    turn.is_done = true;
    match session.receive(&body, Instant::now()) {
        Ok(()) => answer::taken(),
        Err(_) => EngineError::BadRequest.into(),
    }
}

/// Reads a body, and tells the session of each piece. `None` if it is too long or broken.
async fn read(session: &PollingSession, mut body: Body, bytes_max: usize) -> Option<Vec<u8>> {
    let mut taken = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        session.heard(Instant::now());
        let Ok(piece) = frame.ok()?.into_data() else { continue };
        if taken.len() + piece.len() > bytes_max {
            return None;
        }
        taken.extend_from_slice(&piece);
    }
    Some(taken)
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl PollingSession {
    pub(super) fn new(sid: KeyedToken, link: Link) -> Arc<Self> {
        let state = State { phase: Phase::Open(link), poll: None, is_posting: false, stop: None };
        Arc::new(Self { sid, state: Mutex::new(state), changed: Notify::new() })
    }

    pub(super) fn sid(&self) -> &KeyedToken {
        &self.sid
    }

    /// Since when this node owns what the session is in; 0 where ownership is not shared, or nobody was let in yet.
    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().link().map_or(0, |link| link.epoch())
    }

    /// A WebSocket of the client wants to take over.
    pub(super) fn begin_upgrade(&self) -> Result<(), socket::Refused> {
        let mut state = self.state.lock();
        let Phase::Open(link) = &mut state.phase else { return Err(socket::Refused) };
        link.engine.begin_upgrade(Instant::now()).map_err(|_| socket::Refused)?;
        self.changed.notify_one();
        Ok(())
    }

    /// A text packet on the probing WebSocket.
    pub(super) fn receive_probe(&self, packet: &[u8], now: Instant) -> Result<Probe, CloseReason> {
        let mut state = self.state.lock();
        let Phase::Open(link) = &mut state.phase else { return Err(CloseReason::ClosedByPeer) };
        let step = link.engine.receive_probe(packet, now)?;
        self.changed.notify_one();
        if let ProbeStep::Answer(answer) = step {
            return Ok(Probe::Answer(answer));
        }
        let upgraded = mem::replace(&mut state.phase, Phase::Upgraded);
        state.wake_poll();
        match upgraded {
            Phase::Open(link) => Ok(Probe::Upgraded(Box::new(link))),
            _ => Err(CloseReason::ClosedByPeer),
        }
    }

    /// The probing WebSocket is gone.
    pub(super) fn abandon_upgrade(&self) {
        let mut state = self.state.lock();
        if let Phase::Open(link) = &mut state.phase {
            link.engine.abandon_upgrade();
            // It may have been all that kept the client from being sent away.
            state.wake_poll();
        }
    }

    /// The client is to be sent away soon.
    pub(super) fn leave(&self, now: Instant) {
        self.state.lock().leave(now);
        self.changed.notify_one();
    }

    /// What a GET waits for.
    fn poll_payload(&self, cx: &mut Context<'_>) -> Poll<PayloadSink> {
        let mut body = PayloadSink::new();
        let mut state = self.state.lock();
        let now = Instant::now();
        let is_stopping = state.stop.is_some_and(|stop| now >= stop.close_at);
        let ending = match &mut state.phase {
            Phase::Open(link) if link.is_cut() => Ending::Close,
            Phase::Open(link) => {
                let owed = link.write_owed(cx, POLL_BYTES, now, &mut body);
                if body.is_empty() {
                    link.engine.noop(&mut body, now);
                }
                match owed {
                    Owed::Close(hub::CloseReason::Moved) => Ending::Away,
                    Owed::Nothing if is_stopping => Ending::Away,
                    Owed::Close(reason) => {
                        if reason.is_final() {
                            link.engine.disconnect();
                        }
                        Ending::Close
                    }
                    Owed::Refused(_) => Ending::Close,
                    Owed::Nothing | Owed::More => Ending::NotYet,
                }
            }
            Phase::Closing { link, .. } => {
                link.engine.flush(&mut body, now);
                if body.is_empty() {
                    link.engine.say_closed(&mut body);
                }
                Ending::NotYet
            }
            Phase::Leaving { .. } => Ending::NotYet,
            Phase::Upgraded => {
                body.text(&[b"6"]);
                Ending::NotYet
            }
            Phase::Over => {
                body.text(&[b"1"]);
                Ending::NotYet
            }
        };
        match ending {
            Ending::NotYet => {}
            Ending::Away => {
                if body.is_empty() && state.send_away(&mut body, now) {
                    self.changed.notify_one();
                }
            }
            Ending::Close => {
                state.close(true, now);
                self.changed.notify_one();
                if let Some(link) = state.link() {
                    link.engine.flush(&mut body, now);
                    if body.is_empty() {
                        link.engine.say_closed(&mut body);
                    }
                }
            }
        }
        if body.is_empty() {
            state.poll = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(body)
    }

    /// A piece of a POST has come: a client that is sent away may take its time as long as more comes.
    fn heard(&self, now: Instant) {
        let mut state = self.state.lock();
        if let Some(link) = state.link() {
            link.heard(now);
        }
        if let Phase::Leaving { until, until_most, .. } = &mut state.phase {
            *until = (*until).max((now + SILENT_AFTER).min(*until_most));
        }
        if let Some(stop) = &mut state.stop {
            stop.by = stop.by.max((now + SILENT_AFTER).min(stop.by_most));
        }
    }

    /// The body of a POST.
    fn receive(&self, body: &[u8], now: Instant) -> Result<(), CloseReason> {
        let mut state = self.state.lock();
        if state.link().is_some_and(|link| link.is_cut()) {
            // The session is elsewhere; the client learns that its messages were not taken.
            state.end(CloseReason::ClosedByPeer, now);
            self.changed.notify_one();
            return Err(CloseReason::ClosedByPeer);
        }
        let received = match &mut state.phase {
            Phase::Open(link) | Phase::Closing { link, heeds: true, .. } | Phase::Leaving { link, .. } => {
                receive(link, body, now)
            }
            _ => Ok(()),
        };
        if let Err(reason) = received {
            state.end(reason, now);
        }
        state.wake_poll();
        self.changed.notify_one();
        match received {
            // The client said its goodbye; nothing is wrong with that.
            Err(CloseReason::ClosedByPeer | CloseReason::Disconnected | CloseReason::Refused) => Ok(()),
            other => other,
        }
    }

    /// Acts on the time. Gives the next deadline; `None` when nothing is left to be kept.
    fn tend(&self, now: Instant, is_stopping: bool) -> Option<Instant> {
        let mut state = self.state.lock();
        if is_stopping {
            state.leave(now);
        }
        if state.stop.is_some_and(|stop| now >= stop.by) {
            state.phase = Phase::Over;
        }
        if state.link().is_some_and(|link| link.is_cut()) {
            state.phase = Phase::Over;
        }
        if let Phase::Open(link) = &mut state.phase
            && let Err(reason) = link.engine.handle_timeout(now)
        {
            state.end(reason, now);
        }
        if matches!(state.phase, Phase::Closing { until, .. } | Phase::Leaving { until, .. } if now >= until) {
            if let Phase::Leaving { link, .. } = &state.phase {
                link.note_silent();
            }
            state.phase = Phase::Over;
        }
        state.wake_poll();
        let deadline = match &state.phase {
            Phase::Open(link) => link.engine.poll_timeout().max(now + TEND_PAUSE),
            Phase::Closing { until, .. } | Phase::Leaving { until, .. } => *until,
            Phase::Upgraded | Phase::Over => return None,
        };
        Some(match state.stop {
            Some(stop) if now < stop.close_at => deadline.min(stop.close_at),
            Some(stop) => deadline.min(stop.by),
            None => deadline,
        })
    }
}

impl State {
    fn link(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Open(link) | Phase::Closing { link, .. } | Phase::Leaving { link, .. } => Some(link),
            Phase::Upgraded | Phase::Over => None,
        }
    }

    fn leave(&mut self, now: Instant) {
        if self.stop.is_none() {
            let by_most = self.link().map_or(now + LINGER, |link| link.away_ends(now));
            self.stop = Some(Stop { close_at: now + SETTLE, by: now + LINGER, by_most });
        }
    }

    /// Asks a client that is owed nothing to close and to come again. One in the middle of its upgrade could not post what
    /// it has; it is sent away when that has come to an end, by whatever carries it then. Whether it was asked.
    fn send_away(&mut self, body: &mut PayloadSink, now: Instant) -> bool {
        if !matches!(&self.phase, Phase::Open(link) if !link.engine.is_upgrading()) {
            return false;
        }
        if let Phase::Open(mut link) = mem::replace(&mut self.phase, Phase::Over) {
            link.engine.close();
            link.engine.say_away(body);
            let until_most = link.away_ends(now);
            self.phase = Phase::Leaving { link, until: now + LINGER, until_most };
        }
        true
    }

    /// Ends the session for a reason that came from the client.
    fn end(&mut self, reason: CloseReason, now: Instant) {
        if reason == CloseReason::ClosedByPeer {
            if !matches!(self.phase, Phase::Upgraded) {
                self.phase = Phase::Over;
            }
        } else {
            self.close(false, now);
        }
        self.wake_poll();
    }

    /// Tells the client that the session is over, and lingers.
    fn close(&mut self, heeds: bool, now: Instant) {
        match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Open(mut link) => {
                link.engine.close();
                self.phase = Phase::Closing { link, heeds, until: now + LINGER };
            }
            Phase::Closing { link, until, .. } | Phase::Leaving { link, until, .. } => {
                self.phase = Phase::Closing { link, heeds: false, until };
            }
            other => self.phase = other,
        }
    }

    fn wake_poll(&mut self) {
        if let Some(waker) = self.poll.take() {
            waker.wake();
        }
    }
}

fn receive(link: &mut Link, body: &[u8], now: Instant) -> Result<(), CloseReason> {
    for packet in payload::packets(body) {
        match packet? {
            PayloadPacket::Text(text) => link.receive_text(text, now)?,
            PayloadPacket::Binary(data) => link.receive_binary(&data, now)?,
        }
    }
    Ok(())
}
