//! The books of a run: what each event did to the sessions, and what became of every message.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::event::Kind;
use super::participant::Participant;
use crate::report::{self, EventReport, Latency, Report};

/// The time from one event to the next. The first begins with the first message.
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
    at_s: f64,
    counts: BTreeMap<&'static str, u64>,
    /// Sessions with a peer that was without a transport at any time.
    cut: BTreeSet<usize>,
    /// Sessions that another node answered for than before.
    moved: BTreeSet<usize>,
    /// Sessions of which a client's handshake was brought to a node that does not serve them.
    wrong_node: BTreeSet<usize>,
    pauses: Histogram<u64>,
}

/// One session as its clients see it.
#[derive(Default)]
struct Session {
    node: String,
    /// The phase in which a transport of it was cut last.
    cut_in: Option<usize>,
    /// The phase that did it, and why.
    lost: Option<(usize, String)>,
}

/// The shared state of a run.
pub(crate) struct Books {
    begun: Instant,
    phases: RefCell<Vec<Phase>>,
    sessions: RefCell<Vec<Session>>,
    /// By index; the peers of a session are neighbours, the host first.
    pub(crate) participants: RefCell<Vec<Rc<Participant>>>,
    pub(crate) deliveries: Cell<u64>,
    /// Whether a return is expected of whoever is cut off.
    pub(crate) is_over: Cell<bool>,
    pub(crate) report: RefCell<Report>,
}

impl Books {
    pub(crate) fn new(sessions: usize) -> Self {
        let books = Self {
            begun: Instant::now(),
            phases: RefCell::default(),
            sessions: RefCell::new((0..sessions).map(|_| Session::default()).collect()),
            participants: RefCell::default(),
            deliveries: Cell::new(0),
            is_over: Cell::new(false),
            report: RefCell::default(),
        };
        books.push_phase("set up", None);
        books
    }

    /// Closes the phase that runs and begins another.
    pub(crate) fn begin_phase(&self, name: &str, kind: Option<Kind>) {
        self.close_phase();
        self.push_phase(name, kind);
        for participant in &*self.participants.borrow() {
            participant.begin_phase();
            if !participant.is_connected() {
                self.phase(|phase| phase.cut.insert(participant.session));
            }
        }
    }

    fn push_phase(&self, name: &str, kind: Option<Kind>) {
        self.phases.borrow_mut().push(Phase {
            name: name.to_owned(),
            kind,
            at_s: self.begun.elapsed().as_secs_f64(),
            counts: BTreeMap::new(),
            cut: BTreeSet::new(),
            moved: BTreeSet::new(),
            wrong_node: BTreeSet::new(),
            pauses: report::histogram(),
        });
    }

    /// Takes the longest silence of everybody whose session was cut and who is there at the end of the phase. Where no
    /// session was cut, that of everybody.
    pub(crate) fn close_phase(&self) {
        let now = Instant::now();
        let participants = self.participants.borrow();
        self.phase(|phase| {
            let concerns = |peer: &Participant| phase.cut.is_empty() || phase.cut.contains(&peer.session);
            for participant in participants.iter().filter(|peer| concerns(peer)) {
                if participant.is_connected() {
                    report::record(&mut phase.pauses, participant.longest_silence(now));
                } else {
                    *phase.counts.entry("peers away at its end").or_default() += 1;
                }
            }
        });
    }

    /// Whether somebody is away whose session is not lost.
    pub(crate) fn is_awaited(&self) -> bool {
        let sessions = self.sessions.borrow();
        let participants = self.participants.borrow();
        participants.iter().any(|peer| !peer.is_connected() && sessions[peer.session].lost.is_none())
    }

    /// The phase that runs.
    fn phase<T>(&self, change: impl FnOnce(&mut Phase) -> T) -> T {
        let mut phases = self.phases.borrow_mut();
        let last = phases.len() - 1;
        change(&mut phases[last])
    }

    pub(crate) fn phase_index(&self) -> usize {
        self.phases.borrow().len() - 1
    }

    pub(crate) fn count(&self, name: &'static str) {
        self.phase(|phase| *phase.counts.entry(name).or_default() += 1);
    }

    /// A transport of the session ended.
    pub(crate) fn transport_cut(&self, session: usize) {
        self.count("transports cut");
        self.phase(|phase| phase.cut.insert(session));
        self.sessions.borrow_mut()[session].cut_in = Some(self.phase_index());
    }

    /// A handshake of the session was answered with 421.
    pub(crate) fn sent_to_wrong_node(&self, session: usize) {
        self.count("handshakes answered 421");
        self.phase(|phase| phase.wrong_node.insert(session));
    }

    /// `node` answered for the session.
    pub(crate) fn served_by(&self, session: usize, node: &str) {
        let known = std::mem::replace(&mut self.sessions.borrow_mut()[session].node, node.to_owned());
        if !known.is_empty() && known != node {
            self.phase(|phase| phase.moved.insert(session));
        }
    }

    /// The session did not survive, for the first reason that is told. The grace period of a peer ends long after its cut,
    /// so that it is the cut's phase that did it.
    pub(crate) fn lose(&self, session: usize, reason: impl FnOnce() -> String) {
        let mut sessions = self.sessions.borrow_mut();
        let phase = sessions[session].cut_in.unwrap_or_else(|| self.phase_index());
        if sessions[session].lost.is_none() && !self.is_over.get() {
            let reason = reason();
            sessions[session].lost = Some((phase, reason.clone()));
            let name = self.phases.borrow()[phase].name.clone();
            self.report.borrow_mut().fault("sessions lost", || format!("{name}: session {session}: {reason}"));
        }
    }

    /// A message arrived as it must not: it counts for the phase in which it was due.
    pub(crate) fn misdelivered(&self, what: &'static str, phase: usize, description: impl FnOnce() -> String) {
        let name = {
            let phase = &mut self.phases.borrow_mut()[phase];
            *phase.counts.entry(what).or_default() += 1;
            phase.name.clone()
        };
        self.report.borrow_mut().fault(what, || format!("{name}: {}", description()));
    }

    /// What was due and never came goes to the phase in which it was due. A kill may lose what was on its way.
    pub(crate) fn find_lost(&self) {
        let participants = self.participants.borrow();
        for receiver in &*participants {
            let is_session_lost = self.sessions.borrow()[receiver.session].lost.is_some();
            for (position, account) in receiver.accounts.borrow().iter().enumerate() {
                let sender = &participants[receiver.session_start + position];
                if sender.index == receiver.index {
                    continue;
                }
                for (phase, (from, to)) in sender.phases().into_iter().enumerate() {
                    let lost = account.lost_between(from, to);
                    if lost > 0 {
                        self.lost(phase, is_session_lost, lost, (sender.index, receiver.index));
                    }
                }
            }
        }
    }

    fn lost(&self, phase: usize, is_session_lost: bool, lost: u64, (sender, receiver): (usize, usize)) {
        let mut phases = self.phases.borrow_mut();
        let phase = &mut phases[phase];
        let what = if is_session_lost { "messages lost with their session" } else { "messages lost" };
        *phase.counts.entry(what).or_default() += lost;
        if !is_session_lost && phase.kind != Some(Kind::Kill) {
            let mut report = self.report.borrow_mut();
            report.fault("messages lost", || format!("{}: {lost} of peer {sender} to peer {receiver}", phase.name));
            *report.faults.entry("messages lost").or_default() += lost - 1;
        }
    }

    /// Writes everything into the report.
    pub(crate) fn settle(&self, report: &mut Report) {
        let sessions = self.sessions.borrow();
        for (index, phase) in self.phases.borrow_mut().iter_mut().enumerate() {
            let lost = sessions.iter().filter(|session| matches!(session.lost, Some((at, _)) if at == index)).count();
            let mut counts = std::mem::take(&mut phase.counts);
            counts.insert("sessions cut", phase.cut.len() as u64);
            counts.insert("sessions moved", phase.moved.len() as u64);
            counts.insert("sessions brought to a wrong node", phase.wrong_node.len() as u64);
            counts.insert("sessions lost", lost as u64);
            for name in ["messages lost", "messages duplicated", "messages reordered"] {
                counts.entry(name).or_default();
            }
            report.events.push(EventReport {
                event: phase.name.clone(),
                at_s: phase.at_s,
                counts,
                pause: Latency::of(&phase.pauses, false, None),
            });
        }
        for session in sessions.iter().filter(|session| !session.node.is_empty()) {
            *report.nodes.entry(session.node.clone()).or_default() += 1;
        }
        for name in ["sessions lost", "messages lost", "messages duplicated", "messages reordered", "joins refused"] {
            report.faults.entry(name).or_default();
        }
    }
}
