//! One WebSocket connection as one future.
//!
//! The future owns the socket. Woken by whatever reason, it reads what has come, hands it on, and writes everything that
//! is owed in one system call; one wake serves any number of messages. Between wakes it has no buffers: those for
//! reading and writing belong to the thread.
//!
//! A close is polite: the close frame goes out after what is owed, and the socket is read until the peer has closed too,
//! so that what the peer had sent by then is still relayed. `closing` has that.

mod closing;

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ctedge_socketio::{CloseReason, Fault, Sink};
use ctedge_wire::SEND_AWAY;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::hub;

use closing::Closing;

use super::frames::{FrameFault, FrameReader, Incoming};
use super::link::{Link, Owed};
use super::outgoing::{Batch, Unwritten};
use super::polling::{PollingSession, Probe};
use super::stopping::{Registration, SETTLE, Stopping};

/// What one read takes at most. A burst of small messages fits; a large one takes several reads.
const READ_BYTES: usize = 64 * 1024;

/// How many bytes of messages one write collects, about.
const WRITE_BYTES: usize = 64 * 1024;

/// How many reads and writes a connection may do before others have their turn.
const TURNS_MAX: usize = 4;

/// How often a connection whose peer does not read looks whether its session is still here.
const STALLED_PAUSE: Duration = Duration::from_secs(1);

/// How long a probing client may take to its upgrade; its session has the same bound.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

thread_local! {
    /// Buffers that are in use only while a connection is polled.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

struct Scratch {
    read: Vec<u8>,
    batch: Batch,
}

/// A WebSocket that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// What a WebSocket carries.
pub(super) enum Carried {
    /// A session of its own. The handshake is written first, with this `sid`.
    Own { link: Box<Link>, handshake: Option<Box<str>> },
    /// Not yet anything: it probes whether it may take over a polling session.
    Probing { session: Arc<PollingSession>, until: Instant },
}

impl Carried {
    pub(super) fn own(link: Link, sid: &str) -> Self {
        Self::Own { link: Box::new(link), handshake: Some(sid.into()) }
    }

    /// The session must have begun its upgrade.
    pub(super) fn probing(session: Arc<PollingSession>) -> Self {
        Self::Probing { session, until: Instant::now() + PROBE_TIMEOUT }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Self::Probing { session, .. } = self {
            session.abandon_upgrade();
        }
    }
}

/// One WebSocket connection.
pub(super) struct Connection {
    stream: TcpStream,
    carried: Carried,
    phase: Phase,
    reader: FrameReader,
    /// What the HTTP server had read past the request.
    early: Vec<u8>,
    unwritten: Unwritten,
    /// Replies that the reading half owes. Of several pings the last one is answered (RFC 6455, section 5.5.3).
    pong: Option<Box<[u8]>>,
    probe_answer: Option<&'static str>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to: the next deadline, or an earlier one that has moved on since.
    timer_at: Instant,
    stopping: Arc<Stopping>,
    registration: Option<Registration>,
    message_bytes_max: usize,
}

enum Phase {
    Open,
    /// The node stops, or the balancer before it: from then on, it closes when nothing is owed.
    Leaving(Instant),
    Closing(Closing),
}

/// Whether the connection goes on. It breaks when nothing is left to be read or written.
type Flow = ControlFlow<()>;

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        early: Vec<u8>,
        carried: Carried,
        message_bytes_max: usize,
        stopping: Arc<Stopping>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            carried,
            phase: Phase::Open,
            reader: FrameReader::default(),
            early,
            unwritten: Unwritten::default(),
            pong: None,
            probe_answer: None,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            timer_at: now,
            stopping,
            registration: None,
            message_bytes_max,
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Flow {
        let now = Instant::now();
        if self.registration.is_none() {
            self.registration = Some(self.stopping.register(cx.waker()));
        }
        if self.stopping.is_stopping() {
            self.leave(now);
        }
        if matches!(&self.carried, Carried::Own { link, .. } if link.is_cut()) {
            self.close(CloseCode::Restart, hub::CloseReason::Moved.as_str(), false, now);
            let _ = self.write(cx, now, &mut scratch.batch);
            return ControlFlow::Break(());
        }
        if now >= self.timer_at {
            self.handle_timeout(now)?;
        }
        let has_more_to_read = self.read(cx, now, &mut scratch.read)?;
        let has_more_to_write = self.write(cx, now, &mut scratch.batch)?;
        let is_late = self.set_timer(cx, now);
        if has_more_to_read || has_more_to_write || is_late {
            cx.waker().wake_by_ref();
        }
        ControlFlow::Continue(())
    }

    /// Sends the client away soon.
    fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Leaving(now + SETTLE);
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let deadline = match (&self.phase, &self.carried) {
            (Phase::Closing(closing), _) if closing.frame.is_some() && now < closing.frame_at => {
                return closing.frame_at.min(closing.by);
            }
            (Phase::Closing(closing), _) => return closing.by,
            (_, Carried::Own { link, .. }) => link.engine.poll_timeout(),
            (_, Carried::Probing { until, .. }) => *until,
        };
        let deadline = if self.unwritten.is_empty() { deadline } else { deadline.min(now + STALLED_PAUSE) };
        match self.phase {
            Phase::Leaving(close_at) if now < close_at => deadline.min(close_at),
            _ => deadline,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Flow {
        match (&mut self.phase, &mut self.carried) {
            (Phase::Closing(closing), carried) if now >= closing.by => {
                if let (Some(_), Carried::Own { link, .. }) = (&closing.away, carried) {
                    link.note_silent();
                }
                return ControlFlow::Break(());
            }
            (Phase::Closing(_), _) => {}
            (_, Carried::Own { link, .. }) => {
                if let Err(reason) = link.engine.handle_timeout(now) {
                    self.close_for(reason, now);
                }
            }
            (_, Carried::Probing { until, .. }) if now >= *until => {
                self.close(CloseCode::Normal, "the upgrade took too long", true, now);
            }
            (_, Carried::Probing { .. }) => {}
        }
        ControlFlow::Continue(())
    }

    /// Sets the timer if the next deadline is earlier than what it is set to, or that time has come. Whether the
    /// deadline has passed already.
    fn set_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let deadline = self.deadline(now);
        if deadline >= self.timer_at && now < self.timer_at {
            return false;
        }
        self.timer_at = deadline;
        self.timer.as_mut().reset(deadline.into());
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Reads what has come. Whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant, buffer: &mut [u8]) -> ControlFlow<(), bool> {
        if let Carried::Own { link, .. } = &self.carried
            && link.poll_may_read(cx).is_pending()
        {
            return ControlFlow::Continue(false);
        }
        if !self.early.is_empty() {
            let mut early = mem::take(&mut self.early);
            self.receive(&mut early, now);
        }
        for _ in 0..TURNS_MAX {
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => return ControlFlow::Continue(false),
                Poll::Ready(Err(_)) => return ControlFlow::Break(()),
                Poll::Ready(Ok(())) if read.filled().is_empty() => return ControlFlow::Break(()),
                Poll::Ready(Ok(())) => {
                    self.heard(now);
                    self.receive(read.filled_mut(), now);
                }
            }
        }
        ControlFlow::Continue(true)
    }

    /// Something has come, be it a part of a message.
    fn heard(&mut self, now: Instant) {
        if let Carried::Own { link, .. } = &mut self.carried {
            link.heard(now);
        }
        if let Phase::Closing(closing) = &mut self.phase {
            closing.heard(now);
        }
    }

    fn receive(&mut self, mut chunk: &mut [u8], now: Instant) {
        loop {
            match self.reader.next(&mut chunk, self.message_bytes_max) {
                Ok(None) => return,
                Ok(Some(incoming)) => self.handle(incoming, now),
                Err(fault) => {
                    let code = match fault {
                        FrameFault::TooLarge => CloseCode::Size,
                        FrameFault::Malformed | FrameFault::Unmasked => CloseCode::Protocol,
                    };
                    self.close(code, fault.to_string(), false, now);
                    // Where the next frame would begin is unknown.
                    return;
                }
            }
        }
    }

    fn handle(&mut self, incoming: Incoming<'_>, now: Instant) {
        let heeds = !matches!(self.phase, Phase::Closing(Closing { heeds: false, .. }));
        let received = match incoming {
            Incoming::Text(packet) if heeds => self.receive_text(&packet, now),
            Incoming::Binary(data) if heeds => match &mut self.carried {
                Carried::Own { link, .. } => link.receive_binary(&data, now),
                Carried::Probing { .. } => Err(Fault::AttachmentUnannounced.into()),
            },
            Incoming::Ping(payload) if *payload == *SEND_AWAY => {
                self.leave(now);
                Ok(())
            }
            Incoming::Ping(payload) => {
                self.pong = Some(payload.into());
                Ok(())
            }
            Incoming::Close => {
                self.answered_close(now);
                Ok(())
            }
            Incoming::Text(_) | Incoming::Binary(_) | Incoming::Pong => Ok(()),
        };
        if let Err(reason) = received {
            self.close_for(reason, now);
        }
    }

    fn receive_text(&mut self, packet: &[u8], now: Instant) -> Result<(), CloseReason> {
        let session = match &mut self.carried {
            Carried::Own { link, .. } => return link.receive_text(packet, now),
            Carried::Probing { session, .. } => session,
        };
        match session.receive_probe(packet, now)? {
            Probe::Answer(answer) => self.probe_answer = Some(answer),
            Probe::Upgraded(link) => self.carried = Carried::Own { link, handshake: None },
        }
        Ok(())
    }

    /// Writes what is owed. Whether there may be more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant, batch: &mut Batch) -> ControlFlow<(), bool> {
        for _ in 0..TURNS_MAX {
            match self.unwritten.poll_write(cx, Pin::new(&mut self.stream)) {
                Poll::Pending => return ControlFlow::Continue(false),
                Poll::Ready(Err(_)) => return ControlFlow::Break(()),
                Poll::Ready(Ok(())) => {}
            }
            batch.clear();
            self.collect(cx, now, batch);
            if batch.is_empty() {
                return match &self.phase {
                    Phase::Closing(closing) if closing.is_answered => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(false),
                };
            }
            match self.unwritten.poll_write_batch(cx, Pin::new(&mut self.stream), batch) {
                Poll::Pending => return ControlFlow::Continue(false),
                Poll::Ready(Err(_)) => return ControlFlow::Break(()),
                Poll::Ready(Ok(())) => {}
            }
        }
        ControlFlow::Continue(true)
    }

    /// Puts into the batch what is to be written next.
    fn collect(&mut self, cx: &mut Context<'_>, now: Instant, batch: &mut Batch) {
        if let Some(payload) = self.pong.take() {
            batch.pong(&payload);
        }
        if let Some(answer) = self.probe_answer.take() {
            batch.text(&[answer.as_bytes()]);
        }
        if !matches!(self.phase, Phase::Closing(_)) {
            self.collect_owed(cx, now, batch);
        }
        let Phase::Closing(closing) = &mut self.phase else { return };
        if now < closing.frame_at && !closing.is_answered {
            if let Carried::Own { link, .. } = &mut self.carried {
                link.engine.flush(batch, now);
            }
            return;
        }
        if let Some((code, reason)) = closing.frame.take() {
            if let Carried::Own { link, .. } = &mut self.carried {
                link.engine.close();
                link.engine.flush(batch, now);
            }
            batch.close(code, &reason);
        }
    }

    fn collect_owed(&mut self, cx: &mut Context<'_>, now: Instant, batch: &mut Batch) {
        let is_leaving = matches!(self.phase, Phase::Leaving(close_at) if now >= close_at);
        let owed = match &mut self.carried {
            Carried::Probing { .. } => Owed::Nothing,
            Carried::Own { link, handshake } => {
                if let Some(sid) = handshake.take() {
                    link.open(&sid, batch);
                }
                link.write_owed(cx, WRITE_BYTES, now, batch)
            }
        };
        match owed {
            Owed::Nothing if is_leaving => self.send_away(CloseCode::Away, "this server stops", now, batch),
            Owed::Nothing | Owed::More => {}
            Owed::Refused(reason) => self.close_for(reason, now),
            Owed::Close(reason @ hub::CloseReason::Moved) => {
                self.send_away(CloseCode::Restart, reason.as_str(), now, batch);
            }
            Owed::Close(reason) => {
                if let Carried::Own { link, .. } = &mut self.carried
                    && reason.is_final()
                {
                    link.engine.disconnect();
                }
                self.close(CloseCode::Normal, reason.as_str(), true, now);
            }
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch =
            SCRATCH.take().unwrap_or_else(|| Box::new(Scratch { read: vec![0; READ_BYTES], batch: Batch::default() }));
        let flow = self.get_mut().advance(cx, &mut scratch);
        SCRATCH.set(Some(scratch));
        match flow {
            ControlFlow::Continue(()) => Poll::Pending,
            ControlFlow::Break(()) => Poll::Ready(()),
        }
    }
}
