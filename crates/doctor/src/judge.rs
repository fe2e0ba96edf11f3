//! Facts in, findings out: one file for each check.

mod address;
mod certificate;
mod clock;
mod denied;
mod http;
mod license;
mod nodes;
mod ports;
mod session;
mod stickiness;
mod store;
#[cfg(test)]
mod tests;
mod transport;

use crate::diagnosis::Diagnosis;
use crate::facts::{Answer, Facts};
use crate::finding::Finding;

/// Judges all that was found out.
#[must_use]
pub fn examine(facts: &Facts) -> Diagnosis {
    let mut findings = Vec::new();
    ports::judge(facts, &mut findings);
    address::judge(facts, &mut findings);
    if let Some(url) = &facts.url {
        certificate::judge(url, facts.is_private_certificate, &mut findings);
        http::judge(url, facts.serves_others, &mut findings);
        transport::judge(url, &mut findings);
        stickiness::judge(url, facts.nodes.len().max(facts.reports.len()), &mut findings);
        session::judge(url, &mut findings);
    }
    nodes::judge(facts, &mut findings);
    if !facts.serves_others {
        store::judge(facts, &mut findings);
        license::judge(facts, &mut findings);
    }
    clock::judge(facts, &mut findings);
    denied::judge(facts, &mut findings);
    Diagnosis::new(facts.url.as_ref().map(|url| url.url.clone()), findings)
}

/// Findings of one check after the other.
type Findings = Vec<Finding>;

/// The words for one and for several.
fn count(number: usize, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}

/// Who answered what, for the middle of a sentence.
fn described(answer: &Answer) -> String {
    let who = answer.server.as_deref().map_or(String::new(), |server| format!(" by {server}"));
    match (&answer.code, &answer.message) {
        (_, Some(message)) => format!("{}{who}: {message}", answer.status),
        (Some(code), None) => format!("{}{who}: {code}", answer.status),
        (None, None) => format!("{}{who}", answer.status),
    }
}

/// Whether a balancer, ours or another, says that it reaches no node.
fn reaches_no_node(answer: &Answer) -> bool {
    let ours = ["NoNodeAvailable", "NodeFailed", "NodeTimeout"];
    answer.code.as_deref().is_some_and(|code| ours.contains(&code))
        || answer.code.is_none() && [502, 503, 504].contains(&answer.status)
}
