//! What the user of this command may not look at: nothing is known of it, so that it is neither well nor wrong.

use super::Findings;
use crate::facts::{Denied, Facts};
use crate::finding::{Check, Finding};

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    findings.extend(facts.denied.iter().map(|Denied { check, what }| {
        let code = match check {
            Check::Ports => "ports.not-allowed",
            Check::Store => "store.not-allowed",
            Check::License => "license.not-allowed",
            _ => "nodes.not-allowed",
        };
        let sentence = format!(
            "This user may not look at {what}, so nothing is said of it; run this as the user who runs the edge."
        );
        Finding::skipped(*check, code, sentence)
    }));
}
