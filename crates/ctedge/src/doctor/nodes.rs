//! The nodes that the settings list, and what they, and the balancer, say of them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ctedge_doctor::facts::{ClockFact, NodeFact};
use ctedge_settings::{ClusterSecret, DnsNodes, NodeAddress, Settings};
use ctedge_supervisor::AdminClient;
use ctedge_wire::HealthReport;
use ctedge_wire::headers::{CONTROL_PATH, CONTROL_TOKEN};
use serde_json::Value;

use super::endpoint::Endpoint;
use super::http::{Client, Response};

/// A node of the settings.
pub(super) struct ListedNode {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    pub(super) listen: SocketAddr,
}

/// The nodes that the settings list; those of `ctedge up` where they list none.
pub(super) fn listed(settings: &Settings) -> Vec<ListedNode> {
    let (source, up) = (settings.nodes(), settings.up());
    if source.fixed.is_empty() && source.dns.is_empty() {
        let ports = (up.node_base_port..=u16::MAX).take(up.nodes).filter(|port| *port != 0);
        let node = |(index, port)| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            ListedNode { id: format!("node-{}", index + 1), address, listen: address }
        };
        return ports.enumerate().map(node).collect();
    }
    let fixed = source.fixed.iter().filter(|node| node.address.port() != 0);
    let fixed = fixed.map(|NodeAddress { id, address, listen, .. }| ListedNode {
        id: id.clone(),
        address: *address,
        listen: *listen,
    });
    // A name without an address has no nodes at the moment.
    let named = source.dns.iter().flat_map(|DnsNodes { name, port, .. }| (name.as_str(), *port).to_socket_addrs());
    let named = named.flatten().map(|address| ListedNode { id: address.to_string(), address, listen: address });
    fixed.chain(named).collect()
}

/// What the balancer says of itself and its nodes, if one answers.
pub(super) fn balancer_status(admin: &AdminClient) -> Option<Value> {
    let answer = admin.get("/status").ok()?;
    let status: Value = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)?;
    status["balancer"].is_object().then_some(status)
}

/// Asks nodes how they are.
pub(super) struct Questions<'q> {
    /// Where nodes tell their health.
    pub(super) path: &'q str,
    /// What every node of the cluster shares.
    pub(super) secret: Option<&'q ClusterSecret>,
    /// What a balancer says of them.
    pub(super) status: Option<&'q Value>,
    pub(super) timeout: Duration,
}

impl Questions<'_> {
    /// What each node says of itself, and their clocks.
    pub(super) fn ask(&self, nodes: &[ListedNode]) -> (Vec<NodeFact>, Vec<ClockFact>) {
        let seen: BTreeMap<_, _> = self
            .status
            .and_then(|status| status["nodes"].as_array())
            .into_iter()
            .flatten()
            .filter_map(|node| {
                let state = node["state"].as_str()?.to_owned();
                Some((node["id"].as_str()?, (state, node["trouble"].as_str().map(str::to_owned))))
            })
            .collect();
        let mut clocks = Vec::new();
        let facts = nodes.iter().map(|node| {
            let asked = self.get(node, self.path, None);
            if let Ok(response) = &asked {
                clocks.extend(response.clock(&node.id));
            }
            NodeFact {
                id: node.id.clone(),
                address: node.address.to_string(),
                report: asked.map_err(|error| format!("{error:#}")).and_then(|response| report(&response)),
                shares_secret: self.shares_secret(node),
                seen: seen.get(node.id.as_str()).cloned(),
            }
        });
        (facts.collect(), clocks)
    }

    /// Whether the node takes what only those can say who know the secret.
    fn shares_secret(&self, node: &ListedNode) -> Option<bool> {
        let plan = format!("{CONTROL_PATH}plan");
        let answer = self.get(node, &plan, Some(&self.secret?.control_token())).ok()?;
        match answer.status {
            200 => Some(true),
            403 => Some(false),
            // A server that is none of ours.
            _ => None,
        }
    }

    fn get(&self, node: &ListedNode, path: &str, token: Option<&str>) -> anyhow::Result<Response> {
        let endpoint = Endpoint::at(node.address, false, "", self.timeout)?;
        let client = Client::new(&endpoint);
        token.map_or(client.clone(), |token| client.with(CONTROL_TOKEN, token)).get(path)
    }
}

fn report(response: &Response) -> Result<HealthReport, String> {
    match serde_json::from_value(response.json()) {
        Ok(report) => Ok(report),
        // Any other server is well when it says so.
        Err(_) if (200..300).contains(&response.status) => Ok(HealthReport::default()),
        Err(_) => Err(format!("it answered {}", response.status)),
    }
}
