//! The ports of this machine that the settings name.

use super::{Findings, count};
use crate::facts::{Facts, PortFact, PortState};
use crate::finding::{Check, Finding};

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    if facts.ports.is_empty() {
        return;
    }
    let before = findings.len();
    findings.extend(facts.ports.iter().filter_map(|port| trouble(port, &facts.ports)));
    if findings.len() > before {
        return;
    }
    let held = facts.ports.iter().filter(|port| port.state == PortState::Ours).count();
    findings.push(if held > 0 {
        let ports = count(held, "port", "ports");
        Finding::ok(Check::Ports, "ports.held", format!("The edge holds {ports} of its settings on this machine."))
    } else {
        let ports = count(facts.ports.len(), "port", "ports");
        let sentence = format!("The edge does not run on this machine, and the {ports} of its settings are free.");
        Finding::ok(Check::Ports, "ports.free", sentence)
    });
}

fn trouble(PortFact { setting, process, address, state }: &PortFact, all: &[PortFact]) -> Option<Finding> {
    let port = address.port();
    // A process that is not meant to run here has none of its ports.
    let runs = || all.iter().any(|other| other.process == *process && other.state == PortState::Ours);
    match state {
        PortState::Ours => None,
        PortState::Free if !runs() => None,
        PortState::Free => Some(Finding::error(
            Check::Ports,
            "ports.silent",
            format!("The {process} runs, but nobody listens on {address} ({setting})."),
            "server.log says why; after a change of the settings, `ctedge restart` takes the port.",
        )),
        PortState::Foreign => Some(Finding::error(
            Check::Ports,
            "ports.taken",
            format!("Another program has {address} ({setting})."),
            format!("`ss -ltnp 'sport = :{port}'` names it: stop it, or change {setting}."),
        )),
        PortState::NotHere => Some(Finding::error(
            Check::Ports,
            "ports.no-such-address",
            format!("{} ({setting}) is no address of this machine.", address.ip()),
            format!("`ip address` shows those that are; 0.0.0.0:{port} takes all of them."),
        )),
        PortState::Forbidden => Some(Finding::error(
            Check::Ports,
            "ports.forbidden",
            format!("This user may not listen on {address} ({setting})."),
            "Ports below 1024 need CAP_NET_BIND_SERVICE: give it to the service, or publish a higher port as this one.",
        )),
    }
}
