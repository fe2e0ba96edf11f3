//! Whether requests of one key meet, whoever sends them.

use std::collections::BTreeSet;

use super::{Findings, count};
use crate::facts::{Carrier, CarrierFacts, UrlFacts};
use crate::finding::{Cause, Check, Finding};

const STICKINESS: Check = Check::Stickiness;

/// Fewer keys than this may well all lie on one of two nodes by chance; of so many, one time in eight million.
const KEYS_TELLING: usize = 24;

pub(super) fn judge(url: &UrlFacts, nodes_known: usize, findings: &mut Findings) {
    findings.extend(url.stickiness.iter().map(|facts| carrier(facts, nodes_known)));
}

/// All keys of a carrier together.
struct Sum {
    keys: usize,
    lost_keys: usize,
    met: u32,
    lost: u32,
    misdirected: u32,
    failed: Vec<String>,
    nodes: BTreeSet<String>,
    dropped: bool,
}

impl Sum {
    fn of(facts: &CarrierFacts) -> Self {
        let lost = |key: &crate::facts::KeyFacts| key.missed + key.misdirected;
        Self {
            keys: facts.keys.len(),
            lost_keys: facts.keys.iter().filter(|key| lost(key) > 0).count(),
            met: facts.keys.iter().map(|key| key.met).sum(),
            lost: facts.keys.iter().map(lost).sum(),
            misdirected: facts.keys.iter().map(|key| key.misdirected).sum(),
            failed: facts.keys.iter().flat_map(|key| key.failed.clone()).collect(),
            nodes: facts.keys.iter().flat_map(|key| key.nodes.clone()).collect(),
            dropped: facts.carrier == Carrier::Header && facts.keys.iter().any(|key| key.arrived == Some(false)),
        }
    }
}

fn carrier(facts: &CarrierFacts, nodes_known: usize) -> Finding {
    let sum = Sum::of(facts);
    let (place, who) = match facts.carrier {
        Carrier::Header => ("header", "IDE clients"),
        Carrier::Cookie => ("cookie", "browsers"),
    };
    if sum.met == 0 && sum.lost == 0 {
        let why = sum.failed.first().map_or("nothing was asked", String::as_str);
        let sentence = format!("Keys in the {place} ({who}) could not be followed: {why}.");
        return Finding::skipped(STICKINESS, "stickiness.untried", sentence);
    }
    if sum.lost > 0 {
        return lost(&sum, facts.carrier, place, who);
    }
    let keys = count(sum.keys, "key", "keys");
    if !sum.failed.is_empty() {
        let sentence = format!(
            "{} in the {place} ({who}) came to their nodes, but {} failed, first because of this: {}.",
            keys,
            count(sum.failed.len(), "request", "requests"),
            sum.failed[0]
        );
        let remedy =
            "Nothing was lost by it, and something is not well: see `ctedge status` and the log of the balancer.";
        return Finding::warning(STICKINESS, "stickiness.unstable", sentence, remedy);
    }
    if sum.dropped {
        return Finding::warning(
            STICKINESS,
            "stickiness.header-lost",
            "Requests of one key meet, but the header ctstickiness does not get to the node: a proxy takes it off.",
            "Let every proxy pass the header ctstickiness on, and the balancer go by it (balancer.key.header): otherwise it must find \
             each key in what else a request carries.",
        );
    }
    if sum.nodes.len() == 1 && nodes_known > 1 && sum.keys >= KEYS_TELLING {
        let sentence = format!(
            "All {keys} in the {place} ({who}) came to the same node of {nodes_known}: the balancer may go by the client's address \
             instead of the key."
        );
        return Finding::warning(STICKINESS, "stickiness.one-node", sentence, remedy(facts.carrier))
            .because(Cause::NotSticky);
    }
    let nodes = match sum.nodes.len() {
        0 => String::new(),
        1 => format!(", all of them to {}", sum.nodes.iter().next().map_or("", String::as_str)),
        several => format!(", over {several} nodes"),
    };
    let sentence = format!("{keys} in the {place} ({who}), each used by two clients, came to one node each{nodes}.");
    Finding::ok(STICKINESS, "stickiness.ok", sentence)
}

fn lost(sum: &Sum, carrier: Carrier, place: &str, who: &str) -> Finding {
    let tries = sum.lost + sum.met;
    let misdirected = match sum.misdirected {
        0 => "",
        _ => "; nodes answered 421, which our balancer follows and others hand to the client",
    };
    let sentence = format!(
        "The balancer is not sticky for keys in the {place} ({who}): with {} of {} keys two clients came to different nodes, \
         {} of {tries} times{misdirected}.",
        sum.lost_keys, sum.keys, sum.lost
    );
    Finding::error(STICKINESS, "stickiness.lost", sentence, remedy(carrier)).because(Cause::NotSticky)
}

/// What to write, in the words of the most common balancer.
fn remedy(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Header => {
            "Choose the node by the header ctstickiness, never by the client's address; in nginx: \
             `upstream nodes { hash $http_ctstickiness consistent; … }`. Our balancer does it by itself."
        }
        Carrier::Cookie => {
            "Choose the node by the cookie ctstickiness where the header is absent; in nginx: \
             `map $http_ctstickiness $key { default $http_ctstickiness; \"\" $cookie_ctstickiness; }` and \
             `upstream nodes { hash $key consistent; … }`. Our balancer does it by itself."
        }
    }
}
