//! All findings, as people and programs read them.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::finding::{Cause, Finding, Severity};

/// All findings of one examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The public URL that was asked.
    pub url: Option<String>,
    /// The worst severity among the findings.
    pub verdict: Severity,
    /// Which causes of "session unavailable" are among the findings.
    pub causes: BTreeSet<Cause>,
    /// The findings, in the order in which a request meets what they are about.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    pub(crate) fn new(url: Option<String>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.check);
        let verdict = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        let causes = findings.iter().filter_map(|finding| finding.cause).collect();
        Self { url, verdict, causes, findings }
    }

    /// Whether something is wrong by which people cannot work.
    #[must_use]
    pub fn has_error(&self) -> bool {
        self.verdict == Severity::Error
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.as_str().len()).max().unwrap_or(0);
        for Finding { check, severity, sentence, remedy, .. } in &self.findings {
            writeln!(formatter, "{:<7}  {:<width$}  {sentence}", severity.as_str(), check.as_str())?;
            if let Some(remedy) = remedy {
                writeln!(formatter, "{:indent$}{remedy}", "", indent = 7 + 2 + width + 4)?;
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<_> = self.causes.iter().map(|cause| cause.sentence()).collect();
            writeln!(formatter, "\nPeople may be told that their session is unavailable: {}.", causes.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Check;

    #[test]
    fn each_finding_is_a_line_with_its_remedy_below() {
        let findings = vec![
            Finding::error(Check::Stickiness, "stickiness.lost", "They do not meet.", "Hash the key.")
                .because(Cause::NotSticky),
            Finding::ok(Check::Http, "http.ok", "It answers."),
        ];
        let diagnosis = Diagnosis::new(None, findings);
        let expected = "ok       http        It answers.\n\
                        error    stickiness  They do not meet.\n                       Hash the key.\n\n\
                        People may be told that their session is unavailable: the balancer is not sticky.\n";
        assert_eq!(diagnosis.to_string(), expected);
        assert!(diagnosis.has_error());
    }

    #[test]
    fn a_warning_is_no_error() {
        let warning = Finding::warning(Check::Clock, "clock.apart", "a", "b");
        assert!(!Diagnosis::new(None, vec![warning]).has_error());
        assert!(!Diagnosis::new(None, vec![]).has_error());
    }
}
