//! Drives a session by a script and writes down what comes of each step.
//!
//! [`check`] takes a transcript: lines that are not indented are steps, the indented ones below a step are what peers
//! receive and what the session asks its owner to do. Peers have names of one word; `h` is the host.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers. Not every test file
// uses all of this.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod messages;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctedge_protocol::{Handshake, PeerId, RoomClaim, User};
use ctedge_session::{Action, Attached, AuditKind, Beginning, JoinDecision, Session, SessionLimits};
use ctedge_wire::{Key, KeyedToken};

/// The room clock of the host's token.
pub const HOST_CLOCK: u64 = 1000;

/// A session, its peers, and the time.
pub struct World {
    pub session: Session,
    pub now: Instant,
    pub clients: BTreeMap<String, Client>,
    joins: Vec<KeyedToken>,
    /// Transports that a newer one has replaced and whose end the session has not been told.
    older: Vec<Attached>,
}

/// What the test knows of one peer.
pub struct Client {
    pub claim: RoomClaim,
    pub attached: Option<Attached>,
    pub cursor: u64,
}

/// Plays the steps of a transcript and compares what comes of them.
pub fn check(transcript: &str) {
    check_with(SessionLimits::default(), transcript);
}

/// As [`check`], with other bounds.
pub fn check_with(limits: SessionLimits, transcript: &str) {
    let indent =
        transcript.lines().find(|line| !line.trim().is_empty()).map_or(0, |line| line.len() - line.trim_start().len());
    let lines: Vec<&str> =
        transcript.lines().filter(|line| !line.trim().is_empty()).map(|line| &line[indent..]).collect();
    let mut world = World::new(limits);
    let mut actual = Vec::new();
    for step in lines.iter().filter(|line| !line.starts_with(' ')) {
        actual.push((*step).to_owned());
        actual.extend(world.step(step).into_iter().map(|outcome| format!("  {outcome}")));
    }
    assert_eq!(actual.join("\n"), lines.join("\n"));
}

impl World {
    pub fn new(limits: SessionLimits) -> Self {
        let now = Instant::now();
        let beginning = Beginning::created(Duration::from_millis(HOST_CLOCK));
        let session = Session::new(Key::parse("room").unwrap(), limits, beginning, &[7; 32], now);
        Self { session, now, clients: BTreeMap::new(), joins: Vec::new(), older: Vec::new() }
    }

    /// A world in which these peers, the host first, have joined and read everything.
    pub fn with_peers(limits: SessionLimits, names: &[&str]) -> Self {
        let mut world = Self::new(limits);
        for name in names {
            world.step(&format!("{name} attaches"));
        }
        world
    }

    /// The same world with its session at another owner, whose clock runs `ahead`; everybody is cut.
    pub fn handed_over(&self, ahead: Duration) -> Self {
        let now = self.now + ahead;
        let estate = self.session.export(bytes::Bytes::new(), self.now);
        let (session, _) = Session::from_estate(&estate, SessionLimits::default(), now).unwrap();
        let clients = self.clients.iter().map(|(name, client)| {
            (name.clone(), Client { claim: client.claim.clone(), attached: None, cursor: client.cursor })
        });
        Self { session, now, clients: clients.collect(), joins: self.joins.clone(), older: Vec::new() }
    }

    /// Plays one step and says what comes of it.
    pub fn step(&mut self, step: &str) -> Vec<String> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let mut outcome = Vec::new();
        match words[..] {
            [seconds, "s", "pass"] => self.pass(Duration::from_secs(seconds.parse().unwrap())),
            ["the", "node", "ends", "the", "session"] => self.session.end(ctedge_session::EndReason::Closed, self.now),
            ["nobody", "gets", "in"] => self.session.renew_graces(self.now),
            [name, "attaches"] => outcome.extend(self.attach(name, "key")),
            [name, "attaches", "anew"] => outcome.extend(self.attach(name, "another key")),
            [name, "is", "cut"] => self.cut(name),
            [name, "leaves"] => self.send(name, messages::leave()),
            [name, "asks", "to", "join"] => outcome.extend(self.ask(name)),
            [name, "says", ref message @ ..] => self.send(name, messages::parse(message, &self.names())),
            _ => panic!("{step:?} is no step"),
        }
        outcome.extend(self.read());
        outcome.extend(self.act());
        outcome
    }

    fn names(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    /// Time passes; the session is asked at each moment that it named.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.session.handle_timeout(due);
            assert!(
                self.session.poll_timeout().is_none_or(|next| next > due),
                "a timeout that was handled is due again"
            );
        }
        self.now = end;
    }

    pub fn claim(&self, name: &str) -> RoomClaim {
        let user = User { id: name.into(), name: name.into(), email: None, auth_provider: "Unverified".into() };
        if name == "h" {
            return self.session.host_claim(user);
        }
        let clock = HOST_CLOCK + u64::from(name.as_bytes()[0] - b'a') + 1;
        RoomClaim { room: self.session.key().clone(), room_clock: clock, user, host: false }
    }

    pub fn attach(&mut self, name: &str, public_key: &str) -> Option<String> {
        let claim = self.claim(name);
        let handshake = Handshake::new(public_key, Some("test"), None);
        match self.session.attach(&claim, PeerId::new(name), handshake, self.now) {
            Err(refusal) => Some(format!("refused: {refusal}")),
            Ok(attached) => {
                let cursor = self.session.cursor_after(attached.peer, None);
                let client = Client { claim, attached: Some(attached), cursor };
                let former = self.clients.insert(name.into(), client);
                self.older.extend(former.and_then(|former| former.attached));
                attached.returned.then(|| format!("{name} is back"))
            }
        }
    }

    pub fn cut(&mut self, name: &str) {
        if let Some(attached) = self.clients.get_mut(name).and_then(|client| client.attached.take()) {
            self.session.detach(attached.peer, attached.attachment, self.now);
        }
    }

    /// The session is told of the end of all transports.
    pub fn cut_all(&mut self) {
        let attached = self.clients.values_mut().filter_map(|client| client.attached.take());
        for gone in self.older.drain(..).chain(attached) {
            self.session.detach(gone.peer, gone.attachment, self.now);
        }
        self.act();
    }

    fn ask(&mut self, name: &str) -> Option<String> {
        let number = u8::try_from(self.joins.len()).unwrap();
        let token = KeyedToken::mint(self.session.key(), &[number; 32]);
        match self.session.request_join(&self.claim(name).user, token.clone(), self.now) {
            Err(refusal) => Some(format!("refused: {refusal}")),
            Ok(()) => {
                self.joins.push(token);
                None
            }
        }
    }

    pub fn send(&mut self, name: &str, message: Vec<u8>) {
        let peer = self.clients[name].attached.expect("only who is there can send").peer;
        self.session.receive(peer, &message, self.now);
    }

    /// Every peer that has a transport reads and acknowledges.
    fn read(&mut self) -> Vec<String> {
        let mut read = Vec::new();
        for (name, client) in &mut self.clients {
            let Some(peer) = client.attached.map(|attached| attached.peer) else { continue };
            let Some(outbox) = self.session.outbox(peer) else { continue };
            for (offset, message) in outbox.after(client.cursor) {
                client.cursor = offset;
                read.push(format!("{name} gets {}", messages::describe(message)));
            }
            self.session.acknowledge(peer, client.cursor);
        }
        read
    }

    /// Takes the session's actions; transports that are to be closed are closed.
    fn act(&mut self) -> Vec<String> {
        let mut acted = Vec::new();
        while let Some(action) = self.session.next_action() {
            match action {
                // What is to be stored is looked at by tests of its own.
                Action::Wake(_)
                | Action::PeerJoined(_)
                | Action::PeerLeft { .. }
                | Action::InFlightChanged
                | Action::Requested(_) => {}
                Action::MoveReady => acted.push("ready to move".to_owned()),
                Action::ClosePeer { peer, reason } => {
                    let name = self.name_at(|attached| attached.peer == peer);
                    acted.push(format!("close {} ({})", name.as_deref().unwrap_or("?"), reason.as_str()));
                    if let Some(name) = name {
                        self.cut(&name);
                    }
                }
                Action::Displaced { .. } => acted.push("close an older transport".to_owned()),
                Action::JoinDecided { token, decision } => {
                    let number = self.joins.iter().position(|asked| *asked == token).unwrap() + 1;
                    acted.push(format!("join {number} {}", describe_decision(&decision)));
                }
                Action::Audit(event) => {
                    acted.push(format!("audit: {} {}", describe_audit(event.kind), event.user.name));
                }
                Action::Warning { peer, warning } => acted.push(format!("warning: {peer} {warning:?}")),
                Action::Ended { reason } => acted.push(format!("ended ({})", reason.as_str())),
                Action::Finished => acted.push("finished".to_owned()),
            }
        }
        acted
    }

    fn name_at(&self, matches: impl Fn(Attached) -> bool) -> Option<String> {
        self.clients.iter().find(|(_, client)| client.attached.is_some_and(&matches)).map(|(name, _)| name.clone())
    }
}

fn describe_decision(decision: &JoinDecision) -> String {
    match decision {
        JoinDecision::Accepted(acceptance) => format!(
            "accepted: {} with clock +{} to {} {:?} of {}",
            acceptance.claim.user.name,
            acceptance.claim.room_clock - HOST_CLOCK,
            acceptance.workspace.name,
            acceptance.workspace.folders,
            acceptance.host.name,
        ),
        JoinDecision::Rejected => "rejected".into(),
        JoinDecision::TimedOut => "timed out".into(),
        JoinDecision::SessionEnded => "failed: the session has ended".into(),
    }
}

fn describe_audit(kind: AuditKind) -> String {
    match kind {
        AuditKind::Created => "created by".into(),
        AuditKind::Joined => "joined:".into(),
        AuditKind::Left => "left:".into(),
        AuditKind::Ended(reason) => format!("ended ({}):", reason.as_str()),
    }
}
