//! What the nodes share: reachable, writable, of a fit version and in a fit place.

use std::time::Duration;

use ctedge_wire::StoreState;

use super::{Findings, nodes};
use crate::facts::{Disk, Facts, StoreFacts, StoreKind, StoreProbe};
use crate::finding::{Cause, Check, Finding};

const STORE: Check = Check::Store;

/// An answer takes a few milliseconds; above this every start of a session is felt.
const LATENCY_MAX: Duration = Duration::from_millis(100);

/// With less than this the file cannot take a handoff of large sessions, nor its own log of changes.
const FREE_BYTES_MIN: u64 = 64 << 20;
const FREE_BYTES_LOW: u64 = 1 << 30;

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    let before = findings.len();
    if let Some(store) = &facts.store {
        place(store, findings);
    }
    for report in nodes::reports(facts) {
        if !matches!(report.store, StoreState::Ok | StoreState::None) {
            let sentence = format!("For the node {} the store is {}.", report.node, report.store.as_str());
            let remedy = "The node serves its sessions and begins none until the store is well: look at the store, and at the way \
                          from that node to it.";
            findings.push(Finding::error(STORE, "store.node-trouble", sentence, remedy).because(Cause::StoreOrClock));
        }
    }
    if findings.len() == before && facts.store.is_none() && !facts.reports.is_empty() {
        let sentence = "The nodes that answered get along with their store.";
        findings.push(Finding::ok(STORE, "store.ok", sentence));
    }
}

fn place(store: &StoreFacts, findings: &mut Findings) {
    let error = |code, sentence: String, remedy: &str| {
        Finding::error(STORE, code, sentence, remedy).because(Cause::StoreOrClock)
    };
    let use_postgres = "Use PostgreSQL: store.url = \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\".";
    match &store.kind {
        StoreKind::None if store.nodes > 1 => findings.push(Finding::warning(
            STORE,
            "store.none",
            format!(
                "The {} nodes share no store: when one of them dies, its sessions lose what was undelivered.",
                store.nodes
            ),
            "Set store.url: \"sqlite:ctedge.db\" on one machine, PostgreSQL for several.",
        )),
        StoreKind::None => findings.push(Finding::ok(STORE, "store.ok", "The one node needs no store.")),
        StoreKind::Sqlite { path, disk, probe: answer } => {
            let before = findings.len();
            if store.hosts > 1 {
                findings.push(error(
                    "store.hosts",
                    format!("The nodes are on {} hosts, but the store is a file of one machine ({path}).", store.hosts),
                    use_postgres,
                ));
            }
            if let Some(Disk { network, free_bytes }) = disk {
                if let Some(network) = network {
                    findings.push(error(
                        "store.network-fs",
                        format!("The store {path} lies on a network file system ({network}), which loses its locks."),
                        &format!("Put it on a disk of this machine (data, or store.url). {use_postgres}"),
                    ));
                }
                findings.extend(room(path, *free_bytes));
            }
            probe(path, answer, before, findings);
        }
        StoreKind::Postgres { place, probe: answer } => probe(place, answer, findings.len(), findings),
    }
}

fn room(path: &str, free_bytes: u64) -> Option<Finding> {
    let sentence = format!("The disk of the store {path} has {} MB left.", free_bytes >> 20);
    let remedy = "Make room: without it no session can begin or move, and audit is lost.";
    if free_bytes < FREE_BYTES_MIN {
        return Some(Finding::error(STORE, "store.disk-full", sentence, remedy).because(Cause::StoreOrClock));
    }
    (free_bytes < FREE_BYTES_LOW).then(|| Finding::warning(STORE, "store.disk-nearly-full", sentence, remedy))
}

/// Judges an answer; says that all is well only if nothing was found since the finding number `before`.
fn probe(place: &str, probe: &StoreProbe, before: usize, findings: &mut Findings) {
    let error = |code, sentence: String, remedy: &str| {
        Finding::error(STORE, code, sentence, remedy).because(Cause::StoreOrClock)
    };
    match probe {
        StoreProbe::Absent(Ok(())) => {
            let sentence = format!("There is no store {place} yet; the first start makes it.");
            findings.push(Finding::ok(STORE, "store.absent", sentence));
        }
        StoreProbe::Absent(Err(problem)) => findings.push(error(
            "store.folder",
            format!("There is no store {place} yet, and none can be made: {problem}."),
            "Let the user who runs the edge write to that folder (data, store.url).",
        )),
        StoreProbe::Failed(problem) => findings.push(error(
            "store.unreachable",
            format!("The store {place} does not answer: {problem}."),
            "Nodes serve the sessions that they have and begin none: start the database, or correct store.url, its password and \
             the way there.",
        )),
        StoreProbe::Answered { schema, known, writes, latency } => {
            if schema > known {
                findings.push(error(
                    "store.schema-newer",
                    format!("The store {place} has the schema {schema}, newer than {known}, the newest that this version knows."),
                    "Run the newer version, or restore the backup from before its first start.",
                ));
            } else if schema < known {
                let sentence = format!("The store {place} has the schema {schema}; the next start of a node brings it to {known}.");
                let remedy = "Make a backup before: an older version cannot read it afterwards.";
                findings.push(Finding::warning(STORE, "store.schema-older", sentence, remedy));
            }
            if let Err(problem) = writes {
                findings.push(error(
                    "store.read-only",
                    format!("The store {place} answers, but takes no writes: {problem}."),
                    "Look for a full disk, a standby in the place of its primary, or rights that this user lacks.",
                ));
            }
            let milliseconds = latency.as_millis();
            if *latency > LATENCY_MAX {
                let sentence = format!("The store {place} takes {milliseconds} ms for an answer.");
                let remedy = "Every start of a session waits for it: put it nearer to the nodes, or see what keeps it busy.";
                findings.push(Finding::warning(STORE, "store.slow", sentence, remedy));
            }
            if findings.len() == before {
                let sentence = format!("The store {place} answers and takes writes, in {milliseconds} ms, with the schema {schema}.");
                findings.push(Finding::ok(STORE, "store.ok", sentence));
            }
        }
    }
}
