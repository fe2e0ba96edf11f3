//! The figures as Prometheus text.
//!
//! A node's own figures have `node` in their names and as a label, so that nobody who sums up a metric counts anything
//! twice.

use std::collections::BTreeMap;

use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::figures::Figures;

/// The figures of every node, and `total`, what they have together.
#[must_use]
pub fn render(of_nodes: &BTreeMap<String, Figures>, total: &Figures) -> String {
    let registry = Registry::new();
    let nodes = of_nodes.iter().map(|(node, figures)| (Some(node.as_str()), figures));
    register(&registry, "codetogether_node", &["node"], nodes);
    register(&registry, "codetogether", &[], [(None, total)].into_iter());
    let mut text = Vec::new();
    // Writing into memory fails only for metrics without a name, which the registry does not take.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn register<'a>(
    registry: &Registry,
    prefix: &str,
    labels: &[&str],
    all: impl Iterator<Item = (Option<&'a str>, &'a Figures)>,
) {
    let gauge = |name: &str, help: &str| {
        let metric = IntGaugeVec::new(Opts::new(format!("{prefix}_{name}"), help), labels);
        take(registry, metric)
    };
    let users = gauge("unique_users_online", "Different users with an open connection.");
    let sessions = gauge("active_sessions", "Sessions that have not ended.");
    let connections = gauge("active_session_connections", "Connections of peers to sessions.");
    let lag = GaugeVec::new(
        Opts::new(format!("{prefix}_server_lag_seconds"), "How late the event loop runs its timers, on average."),
        labels,
    );
    let lag = take(registry, lag);
    let hosted = IntCounterVec::new(Opts::new(format!("{prefix}_sessions_hosted_total"), "Sessions hosted."), labels);
    let hosted = take(registry, hosted);
    let labels: Vec<_> = labels.iter().copied().chain(["ide"]).collect();
    let opts = Opts::new(format!("{prefix}_downloads_total"), "Plugins and extensions downloaded, by IDE.");
    let downloads = take(registry, IntCounterVec::new(opts, &labels));

    for (node, figures) in all {
        let values: Vec<_> = node.into_iter().collect();
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        users.with_label_values(&values).set(whole(figures.users_online));
        sessions.with_label_values(&values).set(whole(figures.sessions));
        connections.with_label_values(&values).set(whole(figures.connections));
        lag.with_label_values(&values).set(figures.lag_seconds);
        hosted.with_label_values(&values).inc_by(figures.sessions_hosted);
        for (ide, count) in &figures.downloads {
            let values: Vec<_> = values.iter().copied().chain([ide.as_str()]).collect();
            downloads.with_label_values(&values).inc_by(*count);
        }
    }
}

/// Takes a metric into the registry. Names and labels are constants of this file, so that a failure is a bug of ours
/// that every test meets.
fn take<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("the metric's name and labels are well-formed");
    registry.register(Box::new(metric.clone())).expect("no two metrics have one name");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_and_the_sum_have_names_of_their_own() {
        let figures = |sessions| Figures {
            sessions,
            lag_seconds: 0.5,
            downloads: BTreeMap::from([("eclipse".to_owned(), 2)]),
            ..Figures::default()
        };
        let nodes = BTreeMap::from([("node-1".to_owned(), figures(2)), ("node-2".to_owned(), figures(3))]);
        let text = render(&nodes, &Figures::sum(nodes.values()));
        for line in [
            "# HELP codetogether_active_sessions Sessions that have not ended.",
            "# TYPE codetogether_active_sessions gauge",
            "codetogether_active_sessions 5",
            "codetogether_node_active_sessions{node=\"node-2\"} 3",
            "# TYPE codetogether_sessions_hosted_total counter",
            "codetogether_server_lag_seconds 0.5",
            "codetogether_downloads_total{ide=\"eclipse\"} 4",
            "codetogether_node_downloads_total{ide=\"eclipse\",node=\"node-1\"} 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
