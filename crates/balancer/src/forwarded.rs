//! Who the client is, and what a node is told of it.
//!
//! `X-Forwarded-For`, `-Proto`, `-Host` and `X-Real-IP` of a client are believed only when the connection comes from a
//! proxy of the settings; from anybody else they are replaced. The chain of `X-Forwarded-For` is read from its end:
//! the client is the last address that is no trusted proxy, because everything before it may be made up.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use ctedge_settings::Network;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// What is believed of a request's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client's own address.
    pub(crate) client: IpAddr,
    /// Whether the client speaks TLS, to us or to the trusted proxy in front of us.
    pub(crate) secure: bool,
}

/// The networks whose word is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether this address is a proxy whose headers are believed.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network_contains(network, address))
    }
}

/// Replaces the headers that tell of the origin by what is true, and returns it.
pub(crate) fn tell_origin(
    headers: &mut HeaderMap,
    peer: SocketAddr,
    secure: bool,
    authority: Option<&str>,
    trusted: &TrustedProxies,
) -> Origin {
    let peer_address = peer.ip().to_canonical();
    // RFC 7239's header says the same in another form. Nobody behind us reads it, so a stranger's is only a trap.
    headers.remove(FORWARDED);
    let origin = if trusted.contains(peer_address) {
        believe(headers, peer_address, secure, trusted)
    } else {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(X_FORWARDED_HOST);
        Origin { client: peer_address, secure }
    };
    extend_chain(headers, peer_address);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if origin.secure { "https" } else { "http" }));
    headers.insert(X_REAL_IP, address_value(origin.client));
    if !headers.contains_key(X_FORWARDED_HOST) {
        let host = headers.get(HOST).cloned().or_else(|| HeaderValue::from_str(authority?).ok());
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }
    origin
}

fn believe(headers: &HeaderMap, peer: IpAddr, secure: bool, trusted: &TrustedProxies) -> Origin {
    let chain = headers.get_all(X_FORWARDED_FOR);
    let mut client = peer;
    // `get_all` keeps the order of the lines, and each line is in the order of the hops.
    let hops: Vec<&str> =
        chain.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Some(address) = parse_hop(hop) else { break };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    let secure = match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(scheme) => scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss"),
        None => secure,
    };
    Origin { client, secure }
}

/// Some proxies append the port, as `192.0.2.1:4711` or `[2001:db8::1]:4711`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn extend_chain(headers: &mut HeaderMap, peer: IpAddr) {
    let before: Vec<HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().cloned().collect();
    let value = if before.is_empty() {
        address_value(peer)
    } else {
        let mut chain = BytesMut::new();
        for line in &before {
            chain.put_slice(line.as_bytes());
            chain.put_slice(b", ");
        }
        chain.put_slice(address_value(peer).as_bytes());
        HeaderValue::from_maybe_shared(chain.freeze()).unwrap_or_else(|_| address_value(peer))
    };
    headers.insert(X_FORWARDED_FOR, value);
}

fn address_value(address: IpAddr) -> HeaderValue {
    let text = Bytes::from(address.to_string());
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn network_contains(network: &Network, address: IpAddr) -> bool {
    match (network.address.to_canonical(), address) {
        (IpAddr::V4(network_address), IpAddr::V4(address)) => {
            let bits = 32_u32.saturating_sub(u32::from(network.prefix_bits));
            u32::from(network_address).checked_shr(bits) == u32::from(address).checked_shr(bits)
        }
        (IpAddr::V6(network_address), IpAddr::V6(address)) => {
            let bits = 128_u32.saturating_sub(u32::from(network.prefix_bits));
            u128::from(network_address).checked_shr(bits) == u128::from(address).checked_shr(bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), prefix_bits: bits.parse().unwrap() }
    }

    /// Sends a request from `peer` with these `X-Forwarded-For` lines through a balancer that trusts 10.0.0.0/8.
    fn check(peer: &str, lines: &[&str], client: &str, chain: &str) {
        let trusted = TrustedProxies::new(vec![network("10.0.0.0/8")]);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        let origin = tell_origin(&mut headers, peer, false, None, &trusted);
        assert_eq!(origin.client, client.parse::<IpAddr>().unwrap());
        assert_eq!(headers.get(X_REAL_IP).unwrap(), client);
        assert_eq!(headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>(), [chain]);
    }

    #[test]
    fn a_strangers_word_is_replaced() {
        check("192.0.2.7", &["198.51.100.1"], "192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", &[], "192.0.2.7", "192.0.2.7");
    }

    #[test]
    fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1");
        check(
            "10.0.0.1",
            &["203.0.113.9, 198.51.100.1, 10.0.0.2"],
            "198.51.100.1",
            "203.0.113.9, 198.51.100.1, 10.0.0.2, 10.0.0.1",
        );
        check(
            "10.0.0.1",
            &["203.0.113.9", "198.51.100.1:80"],
            "198.51.100.1",
            "203.0.113.9, 198.51.100.1:80, 10.0.0.1",
        );
        check("10.0.0.1", &["nonsense"], "10.0.0.1", "nonsense, 10.0.0.1");
        check("10.0.0.1", &[], "10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn the_scheme_and_the_host_come_from_a_trusted_proxy_or_from_the_connection() {
        let trusted = TrustedProxies::new(vec![network("10.0.0.0/8")]);
        let lies = || {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "edge.test".parse().unwrap());
            headers.insert(X_FORWARDED_PROTO, "https".parse().unwrap());
            headers.insert(X_FORWARDED_HOST, "public.test".parse().unwrap());
            headers.insert(FORWARDED, "for=1.2.3.4".parse().unwrap());
            headers
        };
        let mut headers = lies();
        let origin = tell_origin(&mut headers, "192.0.2.1:1".parse().unwrap(), false, None, &trusted);
        assert!(!origin.secure);
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[X_FORWARDED_HOST], "edge.test");
        assert!(!headers.contains_key(FORWARDED));

        let mut headers = lies();
        let origin = tell_origin(&mut headers, "10.0.0.1:1".parse().unwrap(), false, None, &trusted);
        assert!(origin.secure);
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "public.test");
    }

    #[test]
    fn networks_of_every_length_contain_what_they_should() {
        let contains = |text: &str, address: &str| network_contains(&network(text), address.parse().unwrap());
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("192.0.2.1/32", "192.0.2.1"));
        assert!(!contains("192.0.2.1/32", "192.0.2.2"));
        assert!(contains("192.0.2.128/25", "192.0.2.200"));
        assert!(!contains("192.0.2.128/25", "192.0.2.100"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
    }
}
