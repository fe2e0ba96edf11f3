//! Whether requests of one key come to one node: each key is used by two clients, and each of these then closes what the other one
//! has opened. Only the node where it was opened knows it, so that nobody has to say which node it is.

use std::collections::BTreeMap;

use ctedge_doctor::facts::{Carrier, CarrierFacts, KeyFacts};
use ctedge_wire::headers::NODE;
use ctedge_wire::{HealthReport, Key, KeyedToken};
use parking_lot::Mutex;

use super::endpoint::Endpoint;
use super::engine::{Closed, close_poll, open_poll};
use super::http::Client;
use super::random_key;

/// Of two nodes, so many keys all lie on one of them one time in eight million.
const KEYS: usize = 24;

/// Follows keys in one way to carry them. Reports of nodes that answer themselves, without a balancer of ours before them, are
/// added to `reports`.
pub(super) fn follow(
    endpoint: &Endpoint,
    carrier: Carrier,
    reports: &Mutex<BTreeMap<String, HealthReport>>,
) -> anyhow::Result<CarrierFacts> {
    let keys = (0..KEYS).map(|_| random_key()).collect::<anyhow::Result<Vec<_>>>()?;
    // All at once: a far server answers each of them late.
    let facts = std::thread::scope(|scope| {
        let tries: Vec<_> =
            keys.iter().map(|key| scope.spawn(move || follow_key(endpoint, carrier, key, reports))).collect();
        tries.into_iter().filter_map(|key| key.join().ok()).collect()
    });
    Ok(CarrierFacts { carrier, keys: facts })
}

/// Compares who answers two clients of each key, where the servers behind are none of ours. Only a balancer that says who
/// answered can be looked at so.
pub(super) fn compare(endpoint: &Endpoint, carrier: Carrier) -> anyhow::Result<CarrierFacts> {
    let keys = (0..KEYS).map(|_| random_key()).collect::<anyhow::Result<Vec<_>>>()?;
    let facts = keys.iter().map(|key| compare_key(endpoint, carrier, key)).collect();
    Ok(CarrierFacts { carrier, keys: facts })
}

fn compare_key(endpoint: &Endpoint, carrier: Carrier, key: &Key) -> KeyFacts {
    let mut facts = KeyFacts::default();
    let clients = [(); 2].map(|()| Client::carrying(endpoint, carrier, key.as_str()));
    for client in &clients {
        let answered = client.get("/").map(|response| response.headers(NODE).next().map(str::to_owned));
        match answered {
            Ok(Some(node)) => {
                facts.nodes.insert(node);
                facts.met += 1;
            }
            Ok(None) => facts.failed.push("answers do not name their node (balancer.expose_node)".to_owned()),
            Err(error) => facts.failed.push(format!("{error:#}")),
        }
    }
    if facts.nodes.len() > 1 {
        (facts.met, facts.missed) = (0, 2);
    }
    facts
}

fn follow_key(
    endpoint: &Endpoint,
    carrier: Carrier,
    key: &Key,
    reports: &Mutex<BTreeMap<String, HealthReport>>,
) -> KeyFacts {
    let mut facts = KeyFacts::default();
    let clients = [(); 2].map(|()| Client::carrying(endpoint, carrier, key.as_str()));
    let opened = clients.each_ref().map(|client| match open_poll(client) {
        Ok(Ok(sid)) => Some(sid),
        Ok(Err(response)) if response.status == 421 => {
            facts.misdirected += 1;
            None
        }
        Ok(Err(response)) => {
            facts.failed.push(format!("a long poll was answered with {}", response.status));
            None
        }
        Err(error) => {
            facts.failed.push(format!("{error:#}"));
            None
        }
    });
    facts.arrived = opened[0].as_ref().map(|sid| KeyedToken::parse(sid).is_some_and(|sid| sid.key() == *key));
    for (client, sid) in clients.iter().zip(opened.iter().rev()) {
        let Some(sid) = sid else { continue };
        match close_poll(client, sid) {
            Ok(Closed::Known) => facts.met += 1,
            Ok(Closed::Unknown) => facts.missed += 1,
            Ok(Closed::Misdirected) => facts.misdirected += 1,
            Err(error) => facts.failed.push(format!("{error:#}")),
        }
    }
    for client in &clients {
        // Our balancer answers this itself, and does not say which node is behind it.
        let report = client.get("/ct-health/").ok().and_then(|response| serde_json::from_value(response.json()).ok());
        if let Some(report) = report.filter(|report: &HealthReport| !report.node.is_empty()) {
            facts.nodes.insert(report.node.clone());
            reports.lock().insert(report.node.clone(), report);
        }
    }
    facts
}
