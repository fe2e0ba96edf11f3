//! The clocks of everybody who takes part.
//!
//! Leases, epochs and grace periods use no wall clock. Room tokens do: a node refuses one that another node issued more than a
//! minute in its future. So do the license's last day, the days of the statistics, certificates, and the order of request
//! ids and room clocks in a session that came to another node.

use super::Findings;
use crate::facts::{ClockFact, Facts};
use crate::finding::{Cause, Check, Finding};

const CLOCK: Check = Check::Clock;

/// Machines that keep their time are far closer; from here on logs of two machines cannot be read together.
const APART_MS: u64 = 5_000;

/// From here on a node refuses tokens that another one has just issued.
const FAR_APART_MS: u64 = 60_000;

const KEEP_TIME: &str =
    "Let every machine keep its time (`timedatectl set-ntp true`, chrony); containers take it from their host.";

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    if facts.is_clock_kept == Some(false) {
        let sentence = "Nothing keeps the clock of this machine right: its system says that it is not synchronized.";
        findings.push(Finding::warning(CLOCK, "clock.not-kept", sentence, KEEP_TIME));
    }
    if facts.clocks.is_empty() {
        return;
    }
    let before = findings.len();
    for ClockFact { whose, ahead_ms, uncertain_ms } in &facts.clocks {
        let apart_ms = ahead_ms.unsigned_abs().saturating_sub(*uncertain_ms);
        let direction = if *ahead_ms > 0 { "ahead of" } else { "behind" };
        let sentence =
            format!("The clock of {whose} is {} s {direction} that of this machine.", ahead_ms.unsigned_abs() / 1000);
        if apart_ms >= FAR_APART_MS {
            let remedy = format!("Nodes refuse each other's tokens. {KEEP_TIME}");
            findings.push(Finding::error(CLOCK, "clock.far-apart", sentence, remedy).because(Cause::StoreOrClock));
        } else if apart_ms >= APART_MS {
            findings.push(Finding::warning(CLOCK, "clock.apart", sentence, KEEP_TIME));
        }
    }
    if findings.len() == before {
        let names: Vec<_> = facts.clocks.iter().map(|clock| clock.whose.as_str()).collect();
        let sentence = format!("The clocks of this machine and of {} agree to within seconds.", names.join(", "));
        findings.push(Finding::ok(CLOCK, "clock.together", sentence));
    }
}
