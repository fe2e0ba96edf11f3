//! The ports of this machine, and who has each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use ctedge_doctor::facts::{PortFact, PortState};
use ctedge_settings::Settings;

use super::endpoint::Endpoint;
use super::http::{Client, Response};
use super::nodes::ListedNode;

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

/// Whether something keeps the clock of this machine right: what the kernel knows of it, as systemd tells. Nothing where it does not.
pub(super) fn is_clock_kept() -> Option<bool> {
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match asked.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
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
