//! What this machine and this edge's own addresses say: ports, nodes, the balancer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ctedge_doctor::facts::{ClockFact, NodeFact, PortFact, PortState};
use ctedge_settings::Settings;
use ctedge_supervisor::AdminClient;
use ctedge_wire::HealthReport;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::http::{Client, Response};

/// A node of the settings.
pub(super) struct ListedNode {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    listen: SocketAddr,
}

/// The nodes that the settings list; those of `ctedge up` where they list none.
pub(super) fn listed_nodes(settings: &Settings) -> Vec<ListedNode> {
    let (fixed, up) = (&settings.nodes().fixed, settings.up());
    if fixed.is_empty() && settings.nodes().dns.is_empty() {
        let ports = (up.node_base_port..=u16::MAX).take(up.nodes).filter(|port| *port != 0);
        let node = |(index, port)| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            ListedNode { id: format!("node-{}", index + 1), address, listen: address }
        };
        return ports.enumerate().map(node).collect();
    }
    let node = |node: &ctedge_settings::NodeAddress| ListedNode {
        id: node.id.clone(),
        address: node.address,
        listen: node.listen,
    };
    fixed.iter().filter(|node| node.address.port() != 0).map(node).collect()
}

/// What the balancer of these settings says of itself and its nodes, if one answers.
pub(super) fn balancer_status(settings: &Settings, timeout: Duration) -> Option<Value> {
    let token = settings.admin_token().map(str::to_owned);
    let answer = AdminClient::new(reachable(settings.listeners().admin), token, timeout).get("/status").ok()?;
    let status: Value = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)?;
    status["balancer"].is_object().then_some(status)
}

/// The ports that the settings name, and who has each.
pub(super) fn ports(settings: &Settings, nodes: &[ListedNode], timeout: Duration) -> Vec<PortFact> {
    let listeners = settings.listeners();
    let prefix = settings.server_url().map_or("", |url| url.path_prefix());
    let balancer = |response: &Response| response.json()["nodes_up"].is_number();
    let fact = |setting: &str, address: SocketAddr, is_tls, prefix, is_ours: &dyn Fn(&Response) -> bool| PortFact {
        setting: setting.to_owned(),
        process: setting.split('.').next().unwrap_or(setting).to_owned(),
        address,
        state: state(address, is_tls, prefix, is_ours, timeout),
    };
    let public = [("balancer.http", listeners.http, false), ("balancer.https", listeners.https, true)];
    let mut facts: Vec<_> = public
        .into_iter()
        .filter_map(|(setting, address, is_tls)| {
            Some((setting, address.filter(|address| address.port() != 0)?, is_tls))
        })
        .map(|(setting, address, is_tls)| fact(setting, address, is_tls, prefix, &balancer))
        .collect();
    if listeners.admin.port() != 0 {
        facts.push(fact("balancer.admin", listeners.admin, false, "", &balancer));
    }
    for node in nodes {
        let is_ours = |response: &Response| response.json()["node"] == node.id.as_str();
        let fact = fact(&format!("node {}", node.id), node.listen, false, "", &is_ours);
        // Nodes of other machines stand in the same file.
        if fact.state != PortState::NotHere {
            facts.push(fact);
        }
    }
    facts
}

fn state(
    address: SocketAddr,
    is_tls: bool,
    prefix: &str,
    is_ours: &dyn Fn(&Response) -> bool,
    timeout: Duration,
) -> PortState {
    // A firewall of the machine may swallow what comes to an address that is not its own.
    if TcpListener::bind((address.ip(), 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable) {
        return PortState::NotHere;
    }
    let reachable = reachable(address);
    if TcpStream::connect_timeout(&reachable, timeout).is_err() {
        return match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => PortState::Forbidden,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => PortState::Foreign,
            _ => PortState::Free,
        };
    }
    let response =
        Endpoint::at(reachable, is_tls, prefix, timeout).and_then(|endpoint| Client::new(&endpoint).get("/ct-health/"));
    if response.is_ok_and(|response| is_ours(&response)) { PortState::Ours } else { PortState::Foreign }
}

/// An address at which a program of this machine reaches what listens on `address`.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What each node says of itself, as the balancer whose `status` is given sees it too; and their clocks.
pub(super) fn ask_nodes(
    nodes: &[ListedNode],
    status: Option<&Value>,
    timeout: Duration,
) -> (Vec<NodeFact>, Vec<ClockFact>) {
    let seen: BTreeMap<_, _> = status
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
        let asked = Endpoint::at(node.address, false, "", timeout)
            .and_then(|endpoint| Client::new(&endpoint).get("/ct-health/"));
        if let Ok(response) = &asked {
            clocks.extend(response.clock(&node.id));
        }
        NodeFact {
            id: node.id.clone(),
            address: node.address.to_string(),
            report: asked.map_err(|error| format!("{error:#}")).and_then(|response| report(&response)),
            seen: seen.get(node.id.as_str()).cloned(),
        }
    });
    (facts.collect(), clocks)
}

fn report(response: &Response) -> Result<HealthReport, String> {
    match serde_json::from_value(response.json()) {
        Ok(report) => Ok(report),
        // Any other server is well when it says so.
        Err(_) if (200..300).contains(&response.status) => Ok(HealthReport::default()),
        Err(_) => Err(format!("it answered {}", response.status)),
    }
}
