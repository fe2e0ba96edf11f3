//! The figures as Prometheus text.
//!
//! A node's own figures have `node` in their names and as a label, so that nobody who sums up a metric counts anything
//! twice.

use std::collections::BTreeMap;

use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::figures::Figures;

/// The figures of every node, and `sum`, what they have together, where that is known.
#[must_use]
pub fn render(of_nodes: &BTreeMap<String, Figures>, sum: Option<&Figures>) -> String {
    let registry = Registry::new();
    let nodes = of_nodes.iter().map(|(node, figures)| (Some(node.as_str()), figures));
    register(&registry, &OF_NODE, nodes);
    register(&registry, &OF_ALL, sum.into_iter().map(|sum| (None, sum)));
    let mut text = Vec::new();
    // Writing into memory fails only for metrics without a name, which the registry does not take.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// How figures are named.
struct Naming {
    prefix: &'static str,
    labels: &'static [&'static str],
    /// Whose figures they are, as the end of a sentence.
    whose: &'static str,
    /// Since when totals are counted.
    since: &'static str,
}

const OF_NODE: Naming =
    Naming { prefix: "codetogether_node", labels: &["node"], whose: "of one node", since: "since its start" };

const OF_ALL: Naming =
    Naming { prefix: "codetogether", labels: &[], whose: "of all nodes", since: "since the store was made" };

fn register<'a>(registry: &Registry, naming: &Naming, all: impl Iterator<Item = (Option<&'a str>, &'a Figures)>) {
    let Naming { prefix, labels, whose, since } = naming;
    let opts = |name: &str, help: String| Opts::new(format!("{prefix}_{name}"), help);
    let gauge =
        |name: &str, help: &str| take(registry, IntGaugeVec::new(opts(name, format!("{help}, {whose}.")), labels));
    let users = gauge("unique_users_online", "Different users with an open connection");
    let sessions = gauge("active_sessions", "Sessions that have not ended");
    let connections = gauge("active_session_connections", "Open connections of peers to sessions");
    let help = format!("How late the event loop runs its timers, averaged, {whose}.");
    let lag = take(registry, GaugeVec::new(opts("server_lag_seconds", help), labels));
    let help = format!("Sessions hosted, {whose}, {since}.");
    let hosted = take(registry, IntCounterVec::new(opts("sessions_hosted_total", help), labels));
    let help = format!("Plugins and extensions downloaded whole, by IDE, {whose}, {since}.");
    let by_ide: Vec<_> = labels.iter().copied().chain(["ide"]).collect();
    let downloads = take(registry, IntCounterVec::new(opts("downloads_total", help), &by_ide));

    for (node, figures) in all {
        let values: Vec<_> = node.into_iter().collect();
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        users.with_label_values(&values).set(whole(figures.users_online.count()));
        sessions.with_label_values(&values).set(whole(figures.sessions));
        connections.with_label_values(&values).set(whole(figures.connections));
        lag.with_label_values(&values).set(figures.lag_seconds);
        let Some(totals) = &figures.totals else { continue };
        hosted.with_label_values(&values).inc_by(totals.sessions_hosted);
        for (ide, count) in &totals.downloads {
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
    use crate::figures::Totals;

    fn totals(hosted: u64, downloads: u64) -> Totals {
        Totals::new(hosted, BTreeMap::from([("eclipse".to_owned(), downloads)]))
    }

    fn nodes() -> BTreeMap<String, Figures> {
        let figures =
            |sessions| Figures { sessions, lag_seconds: 0.5, totals: Some(totals(1, 2)), ..Figures::default() };
        BTreeMap::from([("node-1".to_owned(), figures(2)), ("node-2".to_owned(), figures(3))])
    }

    #[test]
    fn each_node_and_the_sum_have_names_of_their_own() {
        let nodes = nodes();
        let text = render(&nodes, Some(&Figures::sum(nodes.values(), Some(totals(90, 40)))));
        for line in [
            "# HELP codetogether_active_sessions Sessions that have not ended, of all nodes.",
            "# TYPE codetogether_active_sessions gauge",
            "codetogether_active_sessions 5",
            "codetogether_node_active_sessions{node=\"node-2\"} 3",
            "# TYPE codetogether_sessions_hosted_total counter",
            "codetogether_sessions_hosted_total 90",
            "codetogether_node_sessions_hosted_total{node=\"node-1\"} 1",
            "codetogether_server_lag_seconds 0.5",
            "codetogether_downloads_total{ide=\"eclipse\"} 40",
            "codetogether_downloads_total{ide=\"vscode\"} 0",
            "codetogether_node_downloads_total{ide=\"eclipse\",node=\"node-1\"} 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let nodes = nodes();
        let text = render(&nodes, None);
        assert!(!text.contains("codetogether_active_sessions ") && text.contains("codetogether_node_active_sessions{"));
        let text = render(&nodes, Some(&Figures::sum(nodes.values(), None)));
        assert!(text.contains("\ncodetogether_active_sessions 5\n"), "{text}");
        assert!(!text.contains("codetogether_sessions_hosted_total"), "{text}");
    }
}
