//! The list of nodes: those of the settings, and those that DNS names stand for, resolved again by their records' time
//! to live.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{NodeChanges, NodeId, NodeSpec};
use ctedge_settings::{DnsNodes, NodeSource};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::health::Checks;
use crate::shared::Shared;

/// The shortest time between two look-ups of a name, for records that ask to be forgotten at once.
const LOOKUP_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The longest: a record that says "a day" was not made for nodes that come and go.
const LOOKUP_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// When a look-up that failed is tried again.
const LOOKUP_RETRY: Duration = Duration::from_secs(5);

/// Keeps the list of nodes.
pub(crate) struct Membership {
    shared: Arc<Shared>,
    checks: Checks,
    state: Mutex<State>,
}

struct State {
    source: NodeSource,
    /// What each name stood for when it was last known. A name that cannot be resolved keeps its nodes.
    resolved: HashMap<String, Vec<IpAddr>>,
    lookups: HashMap<String, AbortHandle>,
}

impl Default for State {
    fn default() -> Self {
        let source = NodeSource { fixed: Vec::new(), dns: Vec::new() };
        Self { source, resolved: HashMap::new(), lookups: HashMap::new() }
    }
}

impl Membership {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, checks: Checks::default(), state: Mutex::new(State::default()) })
    }

    /// Takes the nodes of other settings. Must be called on a runtime, which then carries checks and look-ups.
    pub(crate) async fn set_source(self: &Arc<Self>, source: NodeSource) -> NodeChanges {
        let mut state = self.state.lock().await;
        let names: HashSet<&str> = source.dns.iter().map(|dns| dns.name.as_str()).collect();
        state.resolved.retain(|name, _| names.contains(name.as_str()));
        state.lookups.retain(|name, lookup| {
            let is_wanted = names.contains(name.as_str());
            if !is_wanted {
                lookup.abort();
            }
            is_wanted
        });
        for name in names {
            if !state.lookups.contains_key(name) {
                let lookup = tokio::spawn(look_up_until_forgotten(Arc::clone(self), name.to_owned()));
                state.lookups.insert(name.to_owned(), lookup.abort_handle());
            }
        }
        state.source = source;
        self.publish(&state).await
    }

    async fn resolved(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut state = self.state.lock().await;
        // A balancer behind a resolver that rotates its answers must not see a change each time.
        let mut addresses = addresses;
        addresses.sort_unstable();
        addresses.dedup();
        if state.resolved.get(name) != Some(&addresses) {
            tracing::info!(name, ?addresses, "a DNS name stands for these nodes");
            state.resolved.insert(name.to_owned(), addresses);
            self.publish(&state).await;
        }
    }

    async fn publish(&self, state: &State) -> NodeChanges {
        let changes = match self.shared.set_nodes(&specs(&state.source, &state.resolved)).await {
            Ok(changes) => changes,
            Err(error) => {
                // Our discovery cannot fail; should it ever, the router knows the nodes and placement the old ones.
                tracing::error!(%error, "the list of nodes could not be placed");
                NodeChanges::default()
            }
        };
        self.checks.begin(&self.shared);
        changes
    }

    /// Begins to check nodes that others told of. Must be called on the runtime that carries checks.
    pub(crate) fn check_learned(&self) {
        self.checks.begin(&self.shared);
    }

    /// Ends checks and look-ups.
    pub(crate) async fn end(&self) {
        for (_, lookup) in self.state.lock().await.lookups.drain() {
            lookup.abort();
        }
        self.checks.end();
    }
}

/// All nodes. An address that is named twice is one node: the first name counts.
fn specs(source: &NodeSource, resolved: &HashMap<String, Vec<IpAddr>>) -> Vec<NodeSpec> {
    let fixed = source.fixed.iter().map(|node| NodeSpec {
        id: NodeId::new(&node.id),
        address: node.address,
        weight: node.weight,
    });
    let of_dns = source.dns.iter().flat_map(|dns| {
        let addresses = resolved.get(&dns.name).into_iter().flatten();
        addresses.map(|address| of_dns(dns, *address))
    });
    let mut seen = HashSet::new();
    fixed.chain(of_dns).filter(|node| seen.insert(node.address)).collect()
}

fn of_dns(dns: &DnsNodes, address: IpAddr) -> NodeSpec {
    let address = SocketAddr::new(address, dns.port);
    NodeSpec { id: NodeId::new(&address.to_string()), address, weight: dns.weight }
}

async fn look_up_until_forgotten(membership: Arc<Membership>, name: String) {
    let resolver = match TokioResolver::builder_tokio().and_then(ResolverBuilder::build) {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!(name, %error, "DNS cannot be used: the system's resolver settings are not readable");
            return;
        }
    };
    loop {
        let pause = match resolver.lookup_ip(name.as_str()).await {
            Ok(found) => {
                let valid = found.valid_until().saturating_duration_since(Instant::now());
                membership.resolved(&name, found.iter().collect()).await;
                valid.clamp(LOOKUP_INTERVAL_MIN, LOOKUP_INTERVAL_MAX)
            }
            Err(error) => {
                tracing::warn!(name, %error, "a DNS name cannot be resolved; its nodes stay as they are");
                LOOKUP_RETRY
            }
        };
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use ctedge_settings::NodeAddress;

    use super::*;

    #[test]
    fn an_address_that_is_named_twice_is_one_node() {
        let fixed = NodeAddress {
            id: "node-1".into(),
            address: "10.0.0.1:3001".parse().unwrap(),
            listen: "10.0.0.1:3001".parse().unwrap(),
            weight: 2,
        };
        let dns = DnsNodes { name: "nodes.test".into(), port: 3001, weight: 1 };
        let source = NodeSource { fixed: vec![fixed], dns: vec![dns] };
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let resolved = HashMap::from([("nodes.test".to_owned(), addresses.to_vec())]);
        let ids: Vec<_> = specs(&source, &resolved).iter().map(|node| node.id.to_string()).collect();
        assert_eq!(ids, ["node-1", "10.0.0.2:3001"]);
    }
}
