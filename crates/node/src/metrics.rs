//! What a node counts. Served as Prometheus text on its private port.

use std::sync::Arc;

use ctedge_license::Verdict;
use ctedge_session::{Counters, CutReason};
use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::hub::KeptBytes;
use crate::license::{LicenseGauges, SeatCounts};
use crate::ownership::counts::{Measured, OwnershipCounts};

/// The counters and gauges of one node. Each node has a registry of its own, so that tests can run several in a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Messages that peers sent.
    pub messages_in: IntCounter,
    /// Messages put into outboxes, each delivery counted.
    pub messages_out: IntCounter,
    /// Bytes of the messages that peers sent.
    pub bytes_in: IntCounter,
    /// Bytes of the messages put into outboxes.
    pub bytes_out: IntCounter,
    /// Requests between peers that the server answered itself, with an error.
    pub requests_failed: IntCounter,
    /// Messages that were not relayed, by reason.
    pub dropped: IntCounterVec,
    /// What was refused, by reason.
    pub refusals: IntCounterVec,
    /// Transports that were cut before their clients had closed them, by reason: what was under way on them is lost.
    pub transports_cut: IntCounterVec,
    /// Sessions created, brought back ones included.
    pub sessions_created: IntCounter,
    /// HTTP requests by route and status.
    pub http_requests: IntCounterVec,
    /// Clients downloaded completely, by IDE and version.
    pub downloads: IntCounterVec,
    /// Lines that a StatsD server did not take.
    pub statsd_lines_dropped: IntCounter,
    log_lines_dropped: IntCounterVec,
    /// What is counted of sessions that change hands.
    pub ownership: OwnershipCounts,
    license: LicenseGauges,
    gauges: Gauges,
}

#[derive(Debug, Clone)]
struct Gauges {
    sessions: IntGauge,
    peers: IntGauge,
    connections: IntGauge,
    http_connections: IntGauge,
    outbox_bytes: IntGauge,
    held_bytes: IntGauge,
    pending: IntGaugeVec,
    waiting: IntGaugeVec,
    lag_seconds: Gauge,
    status: GaugeVec,
}

/// What is measured when somebody asks, not counted along the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Sessions that the node has.
    pub sessions: usize,
    /// Their peers, those within their grace period included.
    pub peers: usize,
    /// Open transport connections.
    pub connections: usize,
    /// Open TCP connections of the HTTP server.
    pub http_connections: usize,
    /// Bytes of messages that are kept.
    pub kept: KeptBytes,
    /// Logins that wait for a decision.
    pub pending_logins: usize,
    /// Join requests that wait for a decision.
    pub pending_joins: usize,
    /// Requests that wait.
    pub waiting: Waiting,
    /// How late the event loop runs its timers, in seconds.
    pub lag_seconds: f64,
    /// The word of the node's status.
    pub status: &'static str,
    /// How sharing ownership goes; none without a shared store.
    pub ownership: Option<Measured>,
    /// What the license is worth, and its seats.
    pub license: (Arc<Verdict>, SeatCounts),
}

/// Requests that wait for something else than a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Handshakes, for their turn.
    pub handshakes: usize,
    /// Whatever is about a session, for the word whose it is.
    pub owners: usize,
    /// People, for a licensed seat.
    pub seats: usize,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let transports_cut = counters(
            "ctedge_node_transports_cut_total",
            "Connections that were cut before their clients had closed them, as their sessions moved.",
            &["reason"],
        );
        // A counter that is not there before the first cut shows no rise at it.
        for reason in [CutReason::Silent, CutReason::Time] {
            transports_cut.with_label_values(&[reason.as_str()]);
        }
        Self {
            messages_in: counter("ctedge_node_messages_received_total", "Messages that peers sent."),
            messages_out: counter("ctedge_node_messages_delivered_total", "Messages put into outboxes."),
            bytes_in: counter("ctedge_node_message_bytes_received_total", "Bytes of the messages that peers sent."),
            bytes_out: counter("ctedge_node_message_bytes_delivered_total", "Bytes of messages put into outboxes."),
            requests_failed: counter("ctedge_node_requests_failed_total", "Requests that the server answered itself."),
            dropped: counters("ctedge_node_messages_dropped_total", "Messages that were not relayed.", &["reason"]),
            refusals: counters("ctedge_node_refusals_total", "What was refused.", &["reason"]),
            transports_cut,
            sessions_created: counter("ctedge_node_sessions_created_total", "Sessions created."),
            http_requests: counters("ctedge_node_http_requests_total", "HTTP requests.", &["route", "status"]),
            downloads: counters("ctedge_node_downloads_total", "Clients downloaded completely.", &["ide", "version"]),
            statsd_lines_dropped: counter(
                "ctedge_node_statsd_lines_dropped_total",
                "Lines that a StatsD server did not take.",
            ),
            log_lines_dropped: counters(
                "ctedge_node_log_lines_dropped_total",
                "Lines that could not be written, by log file.",
                &["file"],
            ),
            ownership: OwnershipCounts::new(&registry),
            license: LicenseGauges::new(&registry),
            gauges: Gauges {
                sessions: gauge("ctedge_node_sessions", "Sessions that the node has."),
                peers: gauge("ctedge_node_peers", "Peers of the sessions."),
                connections: gauge("ctedge_node_connections", "Open transport connections."),
                http_connections: gauge("ctedge_node_http_connections", "Open TCP connections of the HTTP server."),
                outbox_bytes: gauge("ctedge_node_outbox_bytes", "Bytes kept until their receipt is proven."),
                held_bytes: gauge("ctedge_node_held_bytes", "Bytes of messages that wait until the lease is verified."),
                pending: register(
                    &registry,
                    IntGaugeVec::new(Opts::new("ctedge_node_pending", "What waits for a decision."), &["what"]),
                ),
                waiting: register(
                    &registry,
                    IntGaugeVec::new(
                        Opts::new("ctedge_node_waiting", "Requests that wait for their turn, their owner or a seat."),
                        &["what"],
                    ),
                ),
                lag_seconds: register(
                    &registry,
                    Gauge::new("ctedge_node_lag_seconds", "How late the event loop runs its timers."),
                ),
                status: register(
                    &registry,
                    GaugeVec::new(Opts::new("ctedge_node_status", "1 for what the node accepts."), &["status"]),
                ),
            },
            registry,
        }
    }

    /// Adds what a session counted.
    pub(crate) fn add(&self, counters: &Counters, received_bytes: u64) {
        self.messages_in.inc_by(counters.received);
        self.messages_out.inc_by(counters.delivered);
        self.bytes_in.inc_by(received_bytes);
        self.bytes_out.inc_by(counters.delivered_bytes);
        self.requests_failed.inc_by(counters.requests_failed);
        let dropped = [
            ("malformed", counters.malformed),
            ("too_large", counters.too_large),
            ("incompatible", counters.incompatible),
            ("unencrypted", counters.unencrypted),
            ("stray_response", counters.stray_responses),
            ("unknown_target", counters.unknown_targets),
            ("key_missing", counters.keys_missing),
            ("unknown", counters.unknown),
        ];
        for (reason, count) in dropped {
            self.dropped.with_label_values(&[reason]).inc_by(count);
        }
    }

    /// One more message for which there was no room to wait until the node had verified its lease.
    pub(crate) fn lost_held(&self) {
        self.dropped.with_label_values(&["held_full"]).inc();
    }

    /// One more refusal for `reason`.
    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// The metrics as Prometheus text.
    pub(crate) fn render(&self, snapshot: &Snapshot) -> Vec<u8> {
        self.gauges.set(snapshot);
        for (file, lines) in ctedge_logs::lines_dropped() {
            rise(&self.log_lines_dropped.with_label_values(&[&file]), lines);
        }
        let (verdict, seats) = &snapshot.license;
        self.license.set(verdict, *seats);
        if let Some(measured) = &snapshot.ownership {
            self.ownership.set(measured);
        }
        let mut text = Vec::with_capacity(4096);
        // Writing into memory fails only for metrics without a name, which the registry does not take.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

impl Gauges {
    fn set(&self, snapshot: &Snapshot) {
        let set = |gauge: &IntGauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, snapshot.sessions);
        set(&self.peers, snapshot.peers);
        set(&self.connections, snapshot.connections);
        set(&self.http_connections, snapshot.http_connections);
        set(&self.outbox_bytes, snapshot.kept.outboxes);
        set(&self.held_bytes, snapshot.kept.held);
        set(&self.pending.with_label_values(&["login"]), snapshot.pending_logins);
        set(&self.pending.with_label_values(&["join"]), snapshot.pending_joins);
        let Waiting { handshakes, owners, seats } = snapshot.waiting;
        for (what, count) in [("handshake", handshakes), ("owner", owners), ("seat", seats)] {
            set(&self.waiting.with_label_values(&[what]), count);
        }
        self.lag_seconds.set(snapshot.lag_seconds);
        for status in ["ready", "draining", "suspended"] {
            self.status.with_label_values(&[status]).set(f64::from(u8::from(status == snapshot.status)));
        }
    }
}

/// Lets a counter show what is counted elsewhere.
pub(crate) fn rise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// Lets a gauge without labels show a value, or nothing where there is none: a number that stands for nothing would be taken for one.
pub(crate) fn show(gauge: &IntGaugeVec, value: Option<i64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}

/// Takes a metric into the registry. Names and labels are constants of this file, so that a failure is a bug of ours
/// that every test meets.
pub(crate) fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("the metric's name and labels are well-formed");
    registry.register(Box::new(metric.clone())).expect("no two metrics have one name");
    metric
}
