//! The nodes, and what they say of themselves.

use std::collections::BTreeSet;

use ctedge_wire::{HealthReport, NodeStatus};

use super::{Findings, count};
use crate::facts::{Facts, NodeFact};
use crate::finding::{Cause, Check, Finding};

const NODES: Check = Check::Nodes;

/// How late a node's timers may run. A person notices twice this in what a colleague types.
const LAG_MS_MAX: f64 = 100.0;

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    if facts.nodes.is_empty() && facts.reports.is_empty() {
        if facts.has_settings {
            let sentence = "The settings list no nodes by address, so none could be asked itself.";
            findings.push(Finding::skipped(NODES, "nodes.unknown", sentence));
        } else if facts.url.as_ref().is_some_and(|url| !url.stickiness.is_empty()) {
            let sentence =
                "Nodes, store and license do not show at this URL; on a machine of the edge, run this without --url.";
            findings.push(Finding::skipped(NODES, "nodes.hidden", sentence));
        }
        return;
    }
    if !facts.nodes.is_empty() && !facts.is_running && facts.nodes.iter().all(|node| node.report.is_err()) {
        let sentence = "No node runs, and no balancer on this machine.";
        findings.push(
            Finding::error(NODES, "nodes.down", sentence, "Start the edge: `ctedge up`.").because(Cause::NodeDown),
        );
        return;
    }
    let before = findings.len();
    findings.extend(facts.shared_addresses.iter().map(|(address, nodes)| shared(address, nodes)));
    findings.extend(facts.nodes.iter().filter_map(trouble));
    let reports = reports(facts);
    together(&reports, findings);
    if findings.len() == before {
        let sentence = format!("{} ready.", count(reports.len(), "node is", "nodes are"));
        findings.push(Finding::ok(NODES, "nodes.ready", sentence));
    }
}

/// What nodes said, through whatever way.
pub(super) fn reports(facts: &Facts) -> Vec<&HealthReport> {
    if facts.nodes.is_empty() {
        return facts.reports.iter().collect();
    }
    facts.nodes.iter().filter_map(|node| node.report.as_ref().ok()).collect()
}

fn trouble(node: &NodeFact) -> Option<Finding> {
    let NodeFact { id, address, .. } = node;
    let report = match &node.report {
        Err(problem) if is_ready(node) => {
            let sentence = format!("The balancer reaches the node {id}, but this machine does not: {problem}.");
            let remedy = format!(
                "People notice nothing of it, and nothing more can be said of the node; {address} is private there."
            );
            return Some(Finding::warning(NODES, "nodes.not-from-here", sentence, remedy));
        }
        Err(problem) => {
            let sentence = format!("The node {id} at {address} does not answer: {problem}.");
            let remedy = format!(
                "`ctedge list` shows whether its process runs, `ctedge start {id}` starts it, and server.log says why it ended; \
                 on another machine look at its firewall."
            );
            return Some(Finding::error(NODES, "nodes.down", sentence, remedy).because(Cause::NodeDown));
        }
        Ok(report) => report,
    };
    // A server that is none of ours says no name.
    if report.node != *id && id != address && !report.node.is_empty() {
        let sentence = format!("At the address {address} of the node {id} the node {} answers.", report.node);
        let remedy = "Two nodes of the settings have been mixed up: compare [[nodes]] with what each machine runs.";
        return Some(Finding::error(NODES, "nodes.other", sentence, remedy).because(Cause::NodeDown));
    }
    if node.shares_secret == Some(false) {
        let sentence = format!(
            "The node {id} has another cluster secret than these settings: it takes nobody's token but its own."
        );
        let remedy = "Give every balancer and node the same file (secret_file), and restart the ones that had another.";
        return Some(Finding::error(NODES, "nodes.secret", sentence, remedy));
    }
    if let Some(trouble) = &report.trouble {
        let remedy = "It says so until that is set right; server.log has it too.";
        return Some(Finding::error(NODES, "nodes.trouble", format!("The node {id} says: {trouble}."), remedy));
    }
    let (state, trouble) = node.seen.as_ref()?;
    if state == "down" {
        let trouble = trouble.as_deref().map_or(String::new(), |trouble| format!(" ({trouble})"));
        let sentence = format!("The node {id} answers this command, but the balancer takes it for down{trouble}.");
        let remedy = format!("If that does not pass within seconds, the balancer's machine cannot reach {address}.");
        return Some(Finding::error(NODES, "nodes.unseen", sentence, remedy).because(Cause::NodeDown));
    }
    (report.lag_ms > LAG_MS_MAX).then(|| {
        let sentence =
            format!("The node {id} is {:.0} ms late: its machine has more to do than it can.", report.lag_ms);
        let remedy = "Look at what else runs there, give it more processors, or add a node on another machine.";
        Finding::warning(NODES, "nodes.lag", sentence, remedy)
    })
}

fn shared(address: &str, nodes: &[String]) -> Finding {
    let sentence = format!("The nodes {} are all entered in the store with the address {address}.", nodes.join(", "));
    let remedy = "What is sent to one of them comes to another: give each an address of its own in [[nodes]] (address), as all \
                  balancers and nodes reach it, and restart them.";
    Finding::error(NODES, "nodes.same-address", sentence, remedy).because(Cause::NotSticky)
}

/// Whether a balancer says so.
fn is_ready(node: &NodeFact) -> bool {
    node.seen.as_ref().is_some_and(|(state, _)| state != "down")
}

fn together(reports: &[&HealthReport], findings: &mut Findings) {
    let resting: Vec<_> = reports.iter().filter(|report| report.status != NodeStatus::Ready).collect();
    if !resting.is_empty() {
        let names: Vec<_> =
            resting.iter().map(|report| format!("{} ({})", report.node, report.status.as_str())).collect();
        let names = names.join(", ");
        let remedy = "`ctedge resume NODE` lets a node take new sessions again.";
        findings.push(if resting.len() == reports.len() {
            let sentence = format!("No node takes new sessions: {names}.");
            Finding::error(NODES, "nodes.none-accepting", sentence, remedy).because(Cause::NodeDown)
        } else {
            Finding::warning(NODES, "nodes.not-accepting", format!("Some nodes take no new sessions: {names}."), remedy)
        });
    }
    // Servers that are none of ours say no version.
    let versions = reports.iter().map(|report| report.version.as_str()).filter(|version| !version.is_empty());
    let versions: BTreeSet<_> = versions.collect();
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        findings.push(Finding::warning(
            NODES,
            "nodes.versions",
            format!("The nodes have different versions: {}.", versions.join(", ")),
            "That is fine during an upgrade; finish it with `ctedge restart` on each machine.",
        ));
    }
}
