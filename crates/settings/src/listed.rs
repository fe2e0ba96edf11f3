//! What a settings file lists: nodes, names of nodes, certificates, networks.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::file::not_empty;
use crate::reader::{Reader, Row};
use crate::settled::{CertificateFiles, DnsNodes, Network, NodeAddress, WEIGHT_DEFAULT};
use crate::value::{Value, Written};

pub(crate) fn fixed_nodes(reader: &mut Reader) -> Vec<NodeAddress> {
    let doc = "Nodes by address, one section each. `id` names the node in logs, metrics and commands; `weight`, 1 to \
               1000, is its share of the keys relative to the others. A node that is started by its id listens on \
               `listen`, which is its `address` unless told otherwise.";
    let example = "[[nodes]]\nid = \"node-1\"\naddress = \"10.0.0.11:3001\"\nlisten = \"0.0.0.0:3001\"\nweight = 100";
    reader.rows("nodes", doc, example, |row| {
        let id = row.required("id", |id: &String| node_id(id));
        let address = row.required("address", specific);
        // Read whatever became of the address, so that a row with a wrong one is not told that it may not have this.
        let otherwise = address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let listen = row.optional("listen", otherwise, |_| Ok(()));
        let weight = weight(row);
        Some(NodeAddress { id: id?, address: address?, listen: listen?, weight: weight? })
    })
}

pub(crate) fn dns_nodes(reader: &mut Reader) -> Vec<DnsNodes> {
    let doc = "Nodes by name. The name is resolved again by its records' time to live; each address is a node.";
    let example = "[[dns]]\nname = \"nodes.edge.internal\"\nport = 3001\nweight = 100";
    reader.rows("dns", doc, example, |row| {
        let name = row.required("name", |name: &String| {
            let fits = !name.is_empty()
                && name.len() <= 253
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
            if fits { Ok(()) } else { Err(format!("{name:?} is no host name")) }
        });
        let port =
            row.required("port", |port: &u16| if *port == 0 { Err("port 0 is no node's port".into()) } else { Ok(()) });
        let weight = weight(row);
        Some(DnsNodes { name: name?, port: port?, weight: weight? })
    })
}

pub(crate) fn certificates(reader: &mut Reader) -> Vec<CertificateFiles> {
    let doc = "Certificates of HTTPS, PEM files, chosen by the name that a client asks for; the first is for all other \
               names. They are read again when they change. Without any, `ctedge up` makes a self-signed one.";
    let example = "[[certificates]]\nchain = \"/etc/ssl/edge/fullchain.pem\"\nkey = \"/etc/ssl/edge/privkey.pem\"";
    reader.rows("certificates", doc, example, |row| {
        let chain = row.required("chain", |path: &PathBuf| not_empty(path));
        let key = row.required("key", |path: &PathBuf| not_empty(path));
        Some(CertificateFiles { chain: chain?, key: key? })
    })
}

fn weight(row: &mut Row<'_>) -> Option<u16> {
    row.optional("weight", WEIGHT_DEFAULT, |weight| {
        if (1..=1000).contains(weight) { Ok(()) } else { Err(format!("{weight} is not from 1 to 1000")) }
    })
}

fn node_id(id: &str) -> Result<(), String> {
    let fits = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if fits { Ok(()) } else { Err(format!("{id:?} is no id: up to 64 letters, digits and . - _")) }
}

fn specific(address: &SocketAddr) -> Result<(), String> {
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(format!("{address} is no address that a balancer can connect to"));
    }
    Ok(())
}

impl Written for Network {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        let parsed = match text.split_once('/') {
            Some((address, bits)) => address.parse().ok().zip(bits.parse().ok()),
            None => text.parse().ok().map(|address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 })),
        };
        match parsed {
            Some((address, prefix_bits)) if prefix_bits <= if address.is_ipv4() { 32 } else { 128 } => {
                Ok(Self { address, prefix_bits })
            }
            _ => Err(format!("{text:?} is no network; write it like \"10.0.0.0/8\" or \"fd00::/8\"")),
        }
    }

    fn write(&self) -> String {
        format!("\"{}/{}\"", self.address, self.prefix_bits)
    }
}
