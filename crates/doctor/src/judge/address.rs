//! Whether the public URL leads to a port that answers.

use super::Findings;
use crate::facts::{Facts, Reach, UrlFacts};
use crate::finding::{Check, Finding};

const ADDRESS: Check = Check::Address;

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    let set_it = "Set CT_SERVER_URL (server_url) to the URL that clients use, or give it with --url.";
    let Some(url) = &facts.url else {
        let sentence = "There is no public URL to look at: none is set, and no public port is known.";
        findings.push(Finding::warning(ADDRESS, "address.unknown", sentence, set_it));
        return;
    };
    if url.is_stand_in {
        let sentence = format!("No public URL is set; {} is looked at in its place.", url.url);
        findings.push(Finding::warning(ADDRESS, "address.stand-in", sentence, set_it));
    }
    findings.push(reached(url, facts.is_running));
}

fn reached(url: &UrlFacts, is_running: bool) -> Finding {
    let UrlFacts { url: name, host, .. } = url;
    let start = if is_running {
        "The edge runs, so look at what publishes the port: a firewall, a container's port mapping, another proxy."
    } else {
        "Start the edge (`ctedge up`), or what stands before it."
    };
    match &url.reach {
        Reach::Reached(within) => {
            let sentence = format!("{name} can be reached, in {} ms.", within.as_millis());
            Finding::ok(ADDRESS, "address.reached", sentence)
        }
        Reach::Unresolved(problem) => Finding::error(
            ADDRESS,
            "address.unresolved",
            format!("The name {host} of the public URL has no address here ({problem})."),
            "Add it to the DNS, or correct CT_SERVER_URL (server_url).",
        ),
        Reach::Refused => {
            let sentence = format!("Nobody listens where {name} leads to.");
            Finding::error(ADDRESS, "address.refused", sentence, start)
        }
        Reach::TimedOut => Finding::error(
            ADDRESS,
            "address.timeout",
            format!("{name} does not answer at all."),
            "A firewall drops what comes, or the name leads to a machine that is off; some networks also hide a public \
             address from their own inside.",
        ),
        Reach::Failed(problem) => {
            let sentence = format!("{name} cannot be reached: {problem}.");
            Finding::error(ADDRESS, "address.failed", sentence, start)
        }
    }
}
