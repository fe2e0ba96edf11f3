//! What the balancer counts, for Prometheus.
//!
//! What happens per request is counted in handles that were looked up before. What already stands somewhere (pins,
//! states, loads) is read when Prometheus asks.

mod gone;

use std::path::PathBuf;
use std::time::Duration;

use ctedge_routing::{KeySource, Node, NodeState, PinCounts, PinReason, RedirectReason, Retry};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// From a node on the same machine to the protocol's long poll of 30 s.
const LATENCY_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0, 35.0];

/// The classes of status codes, as labels. What has no status (the client went away) is the last.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The label of answers that no node gave.
pub(crate) const NO_NODE: &str = "-";

/// Every metric of one balancer.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    sources: Vec<IntCounter>,
    retries: Vec<IntCounter>,
    /// Keys that were present but no keys.
    pub(crate) malformed_keys: IntCounter,
    /// Requests that are being served.
    pub(crate) in_flight: IntGauge,
    /// Requests and connections that were refused, by reason.
    pub(crate) refused: IntCounterVec,
    /// Tunnels that ended, by node and reason.
    pub(crate) tunnels_ended: IntCounterVec,
    /// Answers of a node as the owner of a key that another one owns.
    pub(crate) two_owners: IntCounter,
    /// Bytes that tunnels carried, by direction.
    pub(crate) tunnel_bytes: IntCounterVec,
    /// Changes of nodes' states, by node and the state entered.
    pub(crate) state_changes: IntCounterVec,
    /// Reloads, by result.
    pub(crate) reloads: IntCounterVec,
    /// Lines that the access log dropped.
    access_lines_dropped: IntCounter,
    /// Lines that could not be written, by log file.
    log_lines_dropped: IntCounterVec,
    scraped: Scraped,
    /// One scrape at a time: what one has read, another must not add again, nor see half of.
    turn: Mutex<()>,
}

/// What is read when Prometheus asks.
struct Scraped {
    connections: IntGauge,
    tunnels: IntGaugeVec,
    pins: IntGaugeVec,
    places: IntCounterVec,
    redirects: IntCounterVec,
    pins_lost: IntCounterVec,
    states: IntGaugeVec,
    sessions: IntGaugeVec,
    peers: IntGaugeVec,
    lag: GaugeVec,
    up: Gauge,
    certificate_ends: IntGaugeVec,
}

/// What is counted per request of one node.
pub(crate) struct NodeMetrics {
    requests: [IntCounter; CLASSES.len()],
    seconds: [Histogram; CLASSES.len()],
}

impl NodeMetrics {
    /// Counts an answer that took `time` from the request's head to the answer's end.
    pub(crate) fn answered(&self, status: Option<u16>, time: Duration) {
        let class = class(status);
        self.requests[class].inc();
        self.seconds[class].observe(time.as_secs_f64());
    }
}

fn class(status: Option<u16>) -> usize {
    status.and_then(|status| usize::from(status / 100).checked_sub(1)).filter(|class| *class < 5).unwrap_or(5)
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters =
            |name, help, labels: &[&str]| register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?);
        let gauges =
            |name, help, labels: &[&str]| register(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let latency =
            HistogramOpts::new("ctedge_balancer_request_seconds", "Seconds from a request to its answer's end")
                .buckets(LATENCY_SECONDS.to_vec());
        let sources = counters("ctedge_balancer_keys_total", "Requests by the source of their key", &["source"])?;
        let retries =
            counters("ctedge_balancer_retries_total", "Requests sent to another node, by reason", &["reason"])?;
        Ok(Self {
            requests: counters("ctedge_balancer_requests_total", "Requests answered", &["node", "status"])?,
            seconds: register(&registry, HistogramVec::new(latency, &["node", "status"])?)?,
            sources: KeySource::ALL.iter().map(|source| sources.with_label_values(&[source.as_str()])).collect(),
            retries: Retry::ALL.iter().map(|reason| retries.with_label_values(&[reason.as_str()])).collect(),
            malformed_keys: register(
                &registry,
                IntCounter::new("ctedge_balancer_malformed_keys_total", "Values that should be keys and are none")?,
            )?,
            in_flight: register(
                &registry,
                IntGauge::new("ctedge_balancer_requests_in_flight", "Requests that are being served")?,
            )?,
            refused: counters("ctedge_balancer_refused_total", "Refusals of the balancer, by reason", &["reason"])?,
            tunnels_ended: counters("ctedge_balancer_tunnels_ended_total", "Tunnels that ended", &["node", "reason"])?,
            two_owners: register(
                &registry,
                IntCounter::new(
                    "ctedge_balancer_two_owners_total",
                    "Answers of a node as the owner of a key that another one owns; anything but 0 is a fault",
                )?,
            )?,
            tunnel_bytes: counters("ctedge_balancer_tunnel_bytes_total", "Bytes that tunnels carried", &["direction"])?,
            state_changes: counters(
                "ctedge_balancer_node_state_changes_total",
                "Changes of nodes' states, by the state entered",
                &["node", "state"],
            )?,
            reloads: counters("ctedge_balancer_reloads_total", "Reloads of the settings, by result", &["result"])?,
            access_lines_dropped: register(
                &registry,
                IntCounter::new(
                    "ctedge_balancer_access_lines_dropped_total",
                    "Access log lines that the disk was too slow for",
                )?,
            )?,
            log_lines_dropped: counters(
                "ctedge_balancer_log_lines_dropped_total",
                "Lines that could not be written, by log file",
                &["file"],
            )?,
            scraped: Scraped {
                connections: register(
                    &registry,
                    IntGauge::new("ctedge_balancer_connections", "Client connections that are open")?,
                )?,
                tunnels: gauges("ctedge_balancer_tunnels", "Tunnels that are open", &["node"])?,
                pins: gauges("ctedge_balancer_pins", "Keys whose node is remembered, by reason", &["reason"])?,
                places: counters(
                    "ctedge_balancer_places_total",
                    "Places given to keys, first ones and moves, by reason",
                    &["reason"],
                )?,
                redirects: counters(
                    "ctedge_balancer_redirects_total",
                    "Redirects that nodes answered with, by what was known of the key",
                    &["reason"],
                )?,
                pins_lost: counters("ctedge_balancer_pins_lost_total", "Pins given up, by reason", &["reason"])?,
                states: gauges("ctedge_balancer_node_state", "1 for the state that a node is in", &["node", "state"])?,
                sessions: gauges("ctedge_balancer_node_sessions", "Sessions, as the node reports them", &["node"])?,
                peers: gauges("ctedge_balancer_node_peers", "Peers, as the node reports them", &["node"])?,
                lag: register(
                    &registry,
                    GaugeVec::new(
                        Opts::new(
                            "ctedge_balancer_node_lag_seconds",
                            "How late a node's event loop runs, as it reports",
                        ),
                        &["node"],
                    )?,
                )?,
                up: register(&registry, Gauge::new("ctedge_balancer_nodes_up", "Nodes that are not down")?)?,
                certificate_ends: gauges(
                    "ctedge_balancer_certificate_end_timestamp_seconds",
                    "When a certificate in use ends, or the first of its chain",
                    &["certificate"],
                )?,
            },
            turn: Mutex::new(()),
            registry,
        })
    }

    /// The handles of one node.
    pub(crate) fn of_node(&self, node: &str) -> NodeMetrics {
        NodeMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[node, class])),
            seconds: CLASSES.map(|class| self.seconds.with_label_values(&[node, class])),
        }
    }

    /// Counts where a key came from.
    pub(crate) fn key_from(&self, source: KeySource) {
        if let Some(position) = KeySource::ALL.iter().position(|known| *known == source) {
            self.sources[position].inc();
        }
    }

    /// Counts a request that is sent again.
    pub(crate) fn retried(&self, reason: Retry) {
        if let Some(position) = Retry::ALL.iter().position(|known| *known == reason) {
            self.retries[position].inc();
        }
    }

    /// Everything as Prometheus reads it.
    pub(crate) fn render<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node>,
        pins: &PinCounts,
        connections: usize,
        access_lines_dropped: u64,
        certificate_ends: &[(PathBuf, i64)],
    ) -> Result<String, prometheus::Error> {
        let _turn = self.turn.lock();
        rise(&self.access_lines_dropped, access_lines_dropped);
        for (file, lines) in ctedge_logs::lines_dropped() {
            rise(&self.log_lines_dropped.with_label_values(&[&file]), lines);
        }
        self.scraped.refresh(nodes, pins, connections);
        self.scraped.certificate_ends.reset();
        for (chain, end) in certificate_ends {
            self.scraped.certificate_ends.with_label_values(&[&chain.to_string_lossy()]).set(*end);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

impl Scraped {
    fn refresh<'a>(&self, nodes: impl Iterator<Item = &'a Node>, pins: &PinCounts, connections: usize) {
        // Nodes come and go: those that are gone must not stay in the metrics.
        for gauges in [&self.tunnels, &self.states, &self.sessions, &self.peers] {
            gauges.reset();
        }
        self.lag.reset();
        let mut up = 0.0;
        for node in nodes {
            let id = node.id().as_str();
            self.tunnels.with_label_values(&[id]).set(count(node.tunnels()));
            for state in NodeState::ALL {
                let is_in = i64::from(node.state() == state);
                self.states.with_label_values(&[id, state.as_str()]).set(is_in);
            }
            up += f64::from(u8::from(node.state() != NodeState::Down));
            if let Some(report) = node.report() {
                self.sessions.with_label_values(&[id]).set(count(report.sessions));
                self.peers.with_label_values(&[id]).set(count(report.peers));
                self.lag.with_label_values(&[id]).set(report.lag_ms / 1000.0);
            }
        }
        self.up.set(up);
        self.connections.set(count(connections as u64));
        for (reason, pinned) in PinReason::ALL.iter().zip(pins.by_reason) {
            self.pins.with_label_values(&[reason.as_str()]).set(count(pinned as u64));
        }
        for (reason, places) in PinReason::ALL.iter().zip(pins.places) {
            rise(&self.places.with_label_values(&[reason.as_str()]), places);
        }
        for (reason, redirects) in RedirectReason::ALL.iter().zip(pins.redirects) {
            rise(&self.redirects.with_label_values(&[reason.as_str()]), redirects);
        }
        let without_tunnel = pins.evicted.saturating_sub(pins.evicted_with_tunnel);
        for (reason, lost) in [
            ("evicted", without_tunnel),
            ("evicted_with_tunnel", pins.evicted_with_tunnel),
            ("expired", pins.expired),
            ("failover", pins.failovers),
        ] {
            rise(&self.pins_lost.with_label_values(&[reason]), lost);
        }
    }
}

/// Lets a counter show what is counted elsewhere.
fn rise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn register<Metric: Collector + Clone + 'static>(
    registry: &Registry,
    metric: Metric,
) -> Result<Metric, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ctedge_routing::{NodeId, NodeSpec, Router, RouterSettings, Thresholds};

    use super::*;

    #[test]
    fn scrapes_at_the_same_time_count_nothing_twice_and_miss_no_node() {
        let metrics = Metrics::new().unwrap();
        let spec = |port: u16| NodeSpec {
            id: NodeId::new(&format!("node-{port}")),
            address: ([127, 0, 0, 1], port).into(),
            weight: 1,
        };
        let thresholds = Thresholds { rise: 1, fall: 1 };
        let pin_idle_max = Duration::from_secs(1);
        let router = Router::new(&RouterSettings { seed: 1, pins_max: 1, pin_idle_max, load_bound: 1.0, thresholds });
        router.set_nodes(&(1..=200).map(spec).collect::<Vec<_>>(), Instant::now());
        let nodes = router.nodes();
        let render = |places| {
            let pins = PinCounts { places: [places; PinReason::ALL.len()], ..PinCounts::default() };
            let text = metrics.render(nodes.iter().map(|node| &**node), &pins, 0, 0, &[]).unwrap();
            let states = text.lines().filter(|line| line.starts_with("ctedge_balancer_node_state{"));
            assert_eq!(states.count(), 200 * NodeState::ALL.len());
            text
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (1..=50).for_each(|places| drop(render(places))));
            }
        });
        let text = render(50);
        let places = text.lines().filter(|line| line.starts_with("ctedge_balancer_places_total{"));
        let places: Vec<&str> = places.filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(places, ["50"; PinReason::ALL.len()]);
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        assert_eq!(CLASSES[class(Some(101))], "1xx");
        assert_eq!(CLASSES[class(Some(204))], "2xx");
        assert_eq!(CLASSES[class(Some(599))], "5xx");
        assert_eq!(CLASSES[class(Some(999))], "none");
        assert_eq!(CLASSES[class(Some(0))], "none");
        assert_eq!(CLASSES[class(None)], "none");
    }
}
