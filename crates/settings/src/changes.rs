//! Which settings differ from others, and what brings a changed one into force.

use std::collections::BTreeSet;

use crate::document::Document;
use crate::settings::{Override, Settings};

/// What brings a changed setting into force in an edge that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Reading it: whoever uses it takes it over while it runs.
    Reading,
    /// A restart of the nodes.
    NodeRestart,
    /// A restart of the balancer.
    BalancerRestart,
    /// A restart of the nodes and of the balancer.
    Restart,
    /// A stop and a start of everything: parts of one edge that differ in it would not work together, or it is the
    /// supervisor's own.
    Start,
}

/// What brings a change of `setting`, a full name, into force.
///
/// A setting that no line here names takes a restart of the nodes: they are the ones that read most of their settings once.
#[must_use]
pub fn takes(setting: &str) -> Takes {
    match setting {
        // A node's database, and what it proves to others that it is one of them by, are the whole edge's.
        "data" | "secret_file" | "store.url" | "up.node_base_port" => Takes::Start,
        // The supervisor holds these sockets.
        "balancer.http" | "balancer.https" | "balancer.admin" => Takes::Start,
        "balancer.threads" => Takes::BalancerRestart,
        "metrics.prometheus" | "metrics.token" | "up.nodes" | "up.machine" | "nodes" | "dns" | "certificates" => {
            Takes::Reading
        }
        _ => match setting.split('.').next().unwrap_or_default() {
            "log" => Takes::Restart,
            // Under which path nodes and balancer serve, and whose nodes a balancer prefers.
            "server_url" | "region" => Takes::Restart,
            "balancer" | "license" | "portal" | "restart" => Takes::Reading,
            _ => Takes::NodeRestart,
        },
    }
}

impl Settings {
    /// Full names of the settings that are others than in `before`, in the order of the alphabet. Their values are not told:
    /// some are passwords.
    #[must_use]
    pub fn changed_since(&self, before: &Settings) -> Vec<String> {
        let (values, others) = (&self.understood.values, &before.understood.values);
        // A list of sections that the file does not have has no value.
        let names: BTreeSet<_> = values.keys().chain(others.keys()).collect();
        names.into_iter().filter(|name| values.get(*name) != others.get(*name)).cloned().collect()
    }

    /// The value of `setting` as one that counts more than a file's. `None` where there is no such setting, or it is a list
    /// of sections.
    #[must_use]
    pub fn held(&self, setting: &str, origin: &str) -> Option<Override> {
        let value = self.understood.values.get(setting).filter(|value| !value.contains('\n'))?;
        let mut document = Document::parse(&format!("held = {value}"), &mut Vec::new());
        Some(Override::new(setting, document.items.remove("held")?.value, origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{default_config, parse_with};

    fn settings(text: &str) -> Settings {
        parse_with(text, []).unwrap()
    }

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[&str]) {
        assert_eq!(settings(after).changed_since(&settings(before)), expected);
        assert_eq!(settings(before).changed_since(&settings(after)), expected);
    }

    #[test]
    fn every_setting_that_differs_is_named_and_no_other() {
        let node = |weight| format!("[[nodes]]\nid = \"a\"\naddress = \"10.0.0.1:80\"\nweight = {weight}\n");
        check("", &default_config(), &[]);
        check("[log]\nlevel = \"warn\"", "[log]\nlevel = 'warn' # the same\n[up]", &[]);
        check("", "[node]\nowner = \"x\"\n[log]\nlevel = \"warn\"", &["log.level", "node.owner"]);
        check(&node(7), &node(8), &["nodes"]);
        check("", &node(8), &["nodes"]);
        check(&node(8), &format!("\n\n{}", node(8)), &[]);
    }

    #[test]
    fn a_setting_that_is_held_keeps_its_value_whatever_the_file_says() {
        let before =
            settings("secret_file = \"a \\\"b\"\n[up]\nnodes = 5\n[balancer]\ntrusted_proxies = [\"10.0.0.0/8\"]");
        for setting in
            ["secret_file", "up.nodes", "balancer.trusted_proxies", "balancer.timeouts.stop", "portal.clients"]
        {
            let held = before.held(setting, "test").unwrap();
            let after = parse_with("secret_file = \"c\"\n[up]\nnodes = 6\n[portal]\nclients = false", [held]).unwrap();
            assert!(!after.changed_since(&before).iter().any(|changed| changed == setting), "{setting}");
        }
        assert_eq!(before.held("nodes", "test"), None);
    }

    #[test]
    fn what_the_parts_of_an_edge_must_agree_on_takes_a_start_of_all_of_them() {
        for (setting, expected) in [
            ("secret_file", Takes::Start),
            ("store.url", Takes::Start),
            ("store.timeout", Takes::NodeRestart),
            ("balancer.https", Takes::Start),
            ("balancer.threads", Takes::BalancerRestart),
            ("balancer.limits.tunnels_max", Takes::Reading),
            ("log.level", Takes::Restart),
            ("server_url", Takes::Restart),
            ("region", Takes::Restart),
            ("node.drain.deadline", Takes::NodeRestart),
            ("metrics.prometheus", Takes::Reading),
            ("metrics.token", Takes::Reading),
            ("metrics.statsd_host", Takes::NodeRestart),
            ("portal.dashboard_password", Takes::Reading),
            ("a.section.to.come", Takes::NodeRestart),
        ] {
            assert_eq!(takes(setting), expected, "{setting}");
        }
    }
}
