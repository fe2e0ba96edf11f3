//! What is counted of sessions that come, go and change hands.

use ctedge_ownership::{Event, Verdict};
use ctedge_wire::StoreState;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::metrics::{register, rise, show};

/// The buckets of the store's answers, in seconds: from what memory takes to what is given up.
const LATENCY_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// Why sessions are lost.
const LOST: [&str; 4] = ["nobody_came", "estate_unreadable", "no_host", "no_store"];

/// What is counted of ownership.
#[derive(Debug, Clone)]
pub struct OwnershipCounts {
    /// What happened to sessions and leases, and why.
    pub events: IntCounterVec,
    /// Requests that asked who owns a key, by what they were told.
    pub verdicts: IntCounterVec,
    /// Sessions that are lost, by reason.
    pub lost: IntCounterVec,
    /// Times that a message or a request had to wait until the node had verified its lease.
    pub fence_holds: IntCounter,
    /// Commands to the store, by how they ended.
    pub store_commands: IntCounterVec,
    /// How long the store takes to answer.
    pub store_seconds: Histogram,
    store_state: IntGaugeVec,
    journal_entries: IntGauge,
    journal_written: IntCounter,
    journal_lost: IntCounter,
    notes_bytes: IntGauge,
    notes_dropped: IntCounter,
    drain_sessions: IntGauge,
    drain_seconds_left: IntGaugeVec,
}

impl OwnershipCounts {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let labelled = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counters = |name: &str, help: &str, label: &str| labelled(name, help, &[label]);
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let lost = counters("ctedge_node_sessions_lost_total", "Sessions that nobody can go on with.", "reason");
        let help = "What happened to sessions and leases, and why.";
        let events = labelled("ctedge_node_ownership_total", help, &["event", "reason"]);
        // A counter that is not there before the first time shows no rise at it.
        LOST.iter().for_each(|reason| drop(lost.with_label_values(&[reason])));
        Event::all().for_each(|event| drop(events.with_label_values(&[event.as_str(), event.reason()])));
        let latency = HistogramOpts::new("ctedge_node_store_seconds", "How long the store takes to answer.");
        Self {
            events,
            verdicts: counters("ctedge_node_asked_total", "Requests that asked who owns a key.", "verdict"),
            lost,
            fence_holds: counter("ctedge_node_fence_holds_total", "What had to wait until the lease was verified."),
            store_commands: counters("ctedge_node_store_commands_total", "Commands to the store.", "result"),
            store_seconds: register(registry, Histogram::with_opts(latency.buckets(LATENCY_BUCKETS.to_vec()))),
            store_state: register(
                registry,
                IntGaugeVec::new(Opts::new("ctedge_node_store", "1 for the state of the store."), &["state"]),
            ),
            journal_entries: gauge("ctedge_node_journal_entries", "Entries that wait to be written into the store."),
            journal_written: counter("ctedge_node_journal_written_entries_total", "Entries written into the store."),
            journal_lost: counter("ctedge_node_journal_lost_entries_total", "Entries that found no room to wait."),
            notes_bytes: gauge("ctedge_node_notes_bytes", "Bytes noted on this machine until the store has them."),
            notes_dropped: counter(
                "ctedge_node_notes_dropped_total",
                "Times that notes were given up which the store may not have had.",
            ),
            drain_sessions: gauge("ctedge_node_drain_sessions", "Sessions that a draining node still has."),
            drain_seconds_left: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "ctedge_node_drain_seconds_left",
                        "Seconds until a draining node gives its sessions away; nothing without a drain or a deadline.",
                    ),
                    &[],
                ),
            ),
        }
    }

    /// One more of these.
    pub(crate) fn happened(&self, event: Event) {
        self.events.with_label_values(&[event.as_str(), event.reason()]).inc();
    }

    /// One more answer to a question.
    pub(crate) fn answered(&self, verdict: &Verdict) {
        let word = match verdict {
            Verdict::Serve { .. } => "serve",
            Verdict::Redirect { .. } => "redirect",
            Verdict::Missing => "missing",
            Verdict::Taken => "taken",
            Verdict::Unavailable { why, .. } => why.as_str(),
        };
        self.verdicts.with_label_values(&[word]).inc();
    }

    /// One more session that nobody can go on with.
    pub(crate) fn lost(&self, reason: &str) {
        self.lost.with_label_values(&[reason]).inc();
    }

    /// So many more.
    pub(crate) fn lost_all(&self, sessions: usize, reason: &str) {
        self.lost.with_label_values(&[reason]).inc_by(sessions as u64);
    }

    /// What is measured when somebody asks.
    pub(crate) fn set(&self, measured: &Measured) {
        for state in StoreState::ALL {
            self.store_state.with_label_values(&[state.as_str()]).set(i64::from(state == measured.store));
        }
        self.journal_entries.set(measured.journal_entries);
        rise(&self.journal_written, measured.journal_written);
        rise(&self.journal_lost, measured.journal_lost);
        self.notes_bytes.set(measured.notes_bytes);
        rise(&self.notes_dropped, measured.notes_dropped);
        self.drain_sessions.set(measured.drain_sessions);
        show(&self.drain_seconds_left, measured.drain_seconds_left);
    }
}

/// What is measured when somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// How the store is.
    pub store: StoreState,
    /// Entries that wait to be written.
    pub journal_entries: i64,
    /// Entries that were written.
    pub journal_written: u64,
    /// Entries that found no room.
    pub journal_lost: u64,
    /// Bytes that are noted on this machine.
    pub notes_bytes: i64,
    /// How often notes were given up.
    pub notes_dropped: u64,
    /// Sessions that a drain has left.
    pub drain_sessions: i64,
    /// Seconds until they are given away.
    pub drain_seconds_left: Option<i64>,
}
