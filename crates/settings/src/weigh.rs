//! Faults that no single setting has: settings that contradict each other.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::file::File;
use crate::reader::Reader;

/// Reports every contradiction in `file`.
pub(crate) fn weigh(file: &File, reader: &mut Reader) {
    listeners(file, reader);
    nodes(file, reader);
    sizes_and_times(file, reader);
}

fn listeners(file: &File, reader: &mut Reader) {
    let balancer = &file.balancer;
    if balancer.http.is_none() && balancer.https.is_none() {
        reader.fault("balancer.http", "this and balancer.https are both switched off; clients need one of them");
    }
    let mut taken = HashSet::new();
    let listeners = [
        ("balancer.http", balancer.http),
        ("balancer.https", balancer.https),
        ("balancer.admin", Some(balancer.admin)),
    ];
    for (setting, address) in listeners {
        if let Some(address) = address.filter(|address| address.port() != 0 && !taken.insert(address.port())) {
            reader.fault(setting, format!("port {} is taken by another setting of [balancer]", address.port()));
        }
    }
    if !balancer.admin.ip().is_loopback() && balancer.admin_token.is_none() {
        let problem =
            format!("{} can be reached from other machines: set balancer.admin_token as well", balancer.admin);
        reader.fault("balancer.admin", problem);
    }
}

fn nodes(file: &File, reader: &mut Reader) {
    let (mut ids, mut addresses) = (HashSet::new(), HashSet::new());
    for node in &file.nodes.fixed {
        if !ids.insert(&node.id) {
            reader.fault("nodes", format!("two nodes have the id {:?}", node.id));
        }
        if !addresses.insert(node.address) {
            reader.fault("nodes", format!("two nodes have the address {}", node.address));
        }
    }
    let last_port = usize::from(file.up.node_base_port) + file.up.nodes.saturating_sub(1);
    if file.up.node_base_port != 0 && last_port > usize::from(u16::MAX) {
        let problem = format!("{} nodes from this port on end above port 65535", file.up.nodes);
        reader.fault("up.node_base_port", problem);
    }
    if let Some(machine) = file.up.machine {
        this_machine(file, machine, reader);
    }
}

/// The nodes that `ctedge up` starts on one of several machines.
fn this_machine(file: &File, machine: IpAddr, reader: &mut Reader) {
    if machine.is_unspecified() {
        reader.fault("up.machine", format!("{machine} is no address that other machines can connect to"));
    } else if !file.nodes.fixed.iter().any(|node| node.address.ip() == machine) {
        reader.fault("up.machine", format!("no node of [[nodes]] has the address {machine}"));
    }
    if file.up.nodes > 0 {
        let problem = "has to be 0 where up.machine says which of [[nodes]] this machine starts";
        reader.fault("up.nodes", problem);
    }
    // The supervisor's name for its other process.
    if file.nodes.fixed.iter().any(|node| node.id == "balancer") {
        reader.fault("nodes", "the id \"balancer\" is the balancer's, where up.machine starts nodes");
    }
}

fn sizes_and_times(file: &File, reader: &mut Reader) {
    let (balancer, node) = (&file.balancer, &file.node);
    if node.limits.outbox_bytes_max < node.limits.message_bytes_max {
        reader.fault("node.limits.outbox_bytes_max", "holds less than one message of node.limits.message_bytes_max");
    }
    // A poll carries binary messages in base64, four bytes for three.
    if balancer.limits.body_bytes_max < node.limits.message_bytes_max as u64 / 3 * 4 {
        let problem = "is too small for a message of node.limits.message_bytes_max, which is a third larger on its way";
        reader.fault("balancer.limits.body_bytes_max", problem);
    }
    if balancer.timeouts.response <= node.timeouts.poll {
        reader.fault("balancer.timeouts.response", "is not longer than node.timeouts.poll: every poll would fail");
    }
    if node.lease.lost_after < 2 * node.lease.beat {
        let problem = "is not twice as long as node.lease.beat: one late heartbeat would cost a node its sessions";
        reader.fault("node.lease.lost_after", problem);
    }
    if balancer.timeouts.tunnel_idle <= node.timeouts.ping_interval {
        reader.fault(
            "balancer.timeouts.tunnel_idle",
            "is not longer than node.timeouts.ping_interval: idle tunnels would be cut between two pings",
        );
    }
}
