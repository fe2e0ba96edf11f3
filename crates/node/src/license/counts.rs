//! What is measured of the license and its seats.

use ctedge_license::Verdict;
use ctedge_wire::health::{LicenseReport, SeatsReport};
use prometheus::{IntGaugeVec, Opts, Registry};

use super::SeatCounts;
use crate::metrics::{register, show};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The gauges of the license and its seats.
#[derive(Debug, Clone)]
pub struct LicenseGauges {
    verdict: IntGaugeVec,
    seconds_left: IntGaugeVec,
    seats: IntGaugeVec,
}

impl LicenseGauges {
    pub(crate) fn new(registry: &Registry) -> Self {
        let gauges =
            |name: &str, help: &str, label: &str| register(registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
        Self {
            verdict: gauges("ctedge_node_license", "1 for what the license is worth.", "verdict"),
            seconds_left: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "ctedge_node_license_seconds_left",
                        "Seconds of the whole days that the license goes on after this one; nothing without a license.",
                    ),
                    &[],
                ),
            ),
            seats: gauges(
                "ctedge_node_seats",
                "Seats: licensed for all nodes, held by this one, taken on it.",
                "seats",
            ),
        }
    }

    pub(crate) fn set(&self, verdict: &Verdict, counts: SeatCounts) {
        for word in Verdict::WORDS {
            self.verdict.with_label_values(&[word]).set(i64::from(word == verdict.as_str()));
        }
        show(&self.seconds_left, days_left(verdict).map(|days| i64::from(days) * DAY_SECONDS));
        let SeatCounts { licensed, held, taken } = counts;
        for (word, seats) in [("licensed", licensed), ("held", held), ("taken", taken)] {
            self.seats.with_label_values(&[word]).set(i64::from(seats));
        }
    }
}

/// What the health report says of the license.
#[must_use]
pub fn license_report(verdict: &Verdict) -> LicenseReport {
    LicenseReport {
        verdict: verdict.as_str().to_owned(),
        message: verdict.to_string(),
        allows_sessions: verdict.allows_sessions(),
        ends_soon: verdict.ends_soon(),
        days_left: days_left(verdict),
        licensee: verdict.terms().map(|terms| terms.licensee().to_owned()),
        expiration: verdict.terms().map(|terms| terms.expiration().to_string()),
    }
}

/// What the health report says of the seats.
pub(crate) fn seats_report(counts: SeatCounts) -> SeatsReport {
    let SeatCounts { licensed, held, taken } = counts;
    SeatsReport { licensed, held, taken }
}

fn days_left(verdict: &Verdict) -> Option<u32> {
    match verdict {
        Verdict::Valid { days_left, .. } => Some(*days_left),
        _ => None,
    }
}
