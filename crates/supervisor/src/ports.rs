//! Free ports in the place of port 0, and ports that are taken.
//!
//! Port 0 is settled before any child starts, because the balancer must know the nodes' ports and the operator the
//! balancer's. The ports lie below the range that the kernel gives to outgoing connections (32768 and up), so that no
//! connection takes one between its choice and its use.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::{Context, bail};

const CHOICE: Range<u16> = 20_000..32_000;

/// Chooses ports, none of them twice.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    chosen: HashSet<u16>,
}

impl Ports {
    /// `address`, with a free port where it has port 0.
    pub(crate) fn settle(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        if address.port() != 0 {
            return Ok(address);
        }
        Ok(SocketAddr::new(address.ip(), self.choose(address.ip())?))
    }

    /// A free port of `ip`. Begins at a random place, so that supervisors that start together rarely meet.
    fn choose(&mut self, ip: IpAddr) -> anyhow::Result<u16> {
        let count = CHOICE.end - CHOICE.start;
        let offset = (getrandom::u32().context("the system has no random numbers")? % u32::from(count)) as u16;
        for step in 0..count {
            let port = CHOICE.start + (offset + step) % count;
            if !self.chosen.contains(&port) && can_listen(SocketAddr::new(ip, port)).is_ok() {
                self.chosen.insert(port);
                return Ok(port);
            }
        }
        bail!("no port from {} to {} is free on {ip}", CHOICE.start, CHOICE.end - 1)
    }
}

/// Fails where `address` cannot be listened on, and names the setting to change.
pub(crate) fn check(address: SocketAddr, setting: &str) -> anyhow::Result<()> {
    let Err(error) = can_listen(address) else { return Ok(()) };
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
        io::ErrorKind::PermissionDenied => "ports below 1024 need the right to bind them (CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        _ => "choose another address",
    };
    bail!("cannot listen on {address} ({setting}): {error}; {advice}")
}

fn can_listen(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_becomes_a_free_port_and_none_is_chosen_twice() {
        let mut ports = Ports::default();
        let zero: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let settled: HashSet<_> = (0..20).map(|_| ports.settle(zero).unwrap().port()).collect();
        assert_eq!(settled.len(), 20);
        assert!(settled.iter().all(|port| CHOICE.contains(port)), "{settled:?}");
        let fixed: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        assert_eq!(ports.settle(fixed).unwrap(), fixed);
    }

    #[test]
    fn a_taken_port_is_named_with_its_setting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = check(address, "balancer.http, --http").unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("balancer.http, --http"), "{error}");
        drop(listener);
        assert!(check(address, "balancer.http").is_ok());
    }
}
