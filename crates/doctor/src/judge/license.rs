//! The license and its seats, by the settings of this machine and by what nodes say.

use std::collections::BTreeSet;

use ctedge_wire::{HealthReport, LicenseReport};

use super::{Findings, nodes};
use crate::facts::Facts;
use crate::finding::{Cause, Check, Finding};

const LICENSE: Check = Check::License;

/// From which share of the seats on an operator is warned, in percent.
const SEATS_WARNING_PERCENT: u64 = 90;

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    let reports = nodes::reports(facts);
    let of_nodes: Vec<_> = reports.iter().filter_map(|report| Some((report, report.license.as_ref()?))).collect();
    // What nodes go by counts more than what this machine would say: it is what people meet.
    let Some(license) = of_nodes.first().map(|(_, license)| *license).or(facts.license.as_ref()) else { return };
    findings.push(verdict(license));
    let words: BTreeSet<_> = of_nodes.iter().map(|(_, license)| license.verdict.as_str()).collect();
    let own = facts.license.as_ref().map(|license| license.verdict.as_str());
    if words.len() > 1 || own.is_some_and(|own| words.iter().any(|word| *word != own)) {
        let said = of_nodes.iter().map(|(report, license)| format!("{} says {}", report.node, license.verdict));
        let said: Vec<_> = said.chain(own.map(|own| format!("by these settings it is {own}"))).collect();
        findings.push(Finding::warning(
            LICENSE,
            "license.nodes-differ",
            format!("Not everybody goes by the same license: {}.", said.join(", ")),
            "Put the same license, the same public key and the same CT_SERVER_URL on every machine. Nodes read a license file and \
             the settings again within seconds, and variables only when the edge is stopped and started.",
        ));
    }
    findings.extend(seats(&reports));
}

fn verdict(license: &LicenseReport) -> Finding {
    let mut sentence = license.message.clone();
    if let Some(first) = sentence.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    sentence.push('.');
    match license.verdict.as_str() {
        "valid" if license.ends_soon => {
            Finding::warning(LICENSE, "license.ends-soon", sentence, "Renew it: from its end on no session can begin.")
        }
        "valid" => Finding::ok(LICENSE, "license.valid", sentence),
        "evaluation" => Finding::warning(
            LICENSE,
            "license.evaluation",
            sentence,
            "For more people, install a license: `ctedge license show` names the files that it is looked for in.",
        ),
        _ => Finding::error(
            LICENSE,
            "license.refused",
            sentence,
            "No session can begin until there is a good one; `ctedge license show` shows what was read, and from where.",
        )
        .because(Cause::LicenseOut),
    }
}

fn seats(reports: &[&HealthReport]) -> Option<Finding> {
    let seats: Vec<_> = reports.iter().filter_map(|report| report.seats).collect();
    let licensed = u64::from(seats.iter().map(|seats| seats.licensed).max()?);
    let taken: u64 = seats.iter().map(|seats| u64::from(seats.taken)).sum();
    let sentence = format!("{taken} of {licensed} licensed seats are taken.");
    if taken >= licensed {
        let remedy = "Nobody more gets in: wait until some leave, or get a license for more connections.";
        return Some(Finding::error(LICENSE, "license.seats-out", sentence, remedy).because(Cause::LicenseOut));
    }
    Some(if taken * 100 >= licensed * SEATS_WARNING_PERCENT {
        Finding::warning(LICENSE, "license.seats-nearly-out", sentence, "Get a license for more connections in time.")
    } else {
        Finding::ok(LICENSE, "license.seats", sentence)
    })
}
