//! Who may read what a node counts for itself.
//!
//! Our balancer names the client of every request in `X-Forwarded-For`. Other balancers do not always, and pass the rest on as it
//! came. So an ask is taken for one of the private network only where nothing names a proxy *and* the `Host` has the node's own
//! port, as scrapes have it; a public name has another port, or none. A proxy that writes the node's address into `Host` looks
//! like a scrape all the same: before those, `metrics.token` is what tells.

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

use crate::app::App;

/// What proxies add to the requests that they pass on.
const OF_PROXIES: [&str; 9] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "cf-connecting-ip",
    "true-client-ip",
];

/// Whether whoever sent this request may read what the node counts.
pub(super) fn may_read(app: &App, headers: &HeaderMap) -> bool {
    match app.changeable.metrics_token.lock().as_deref() {
        Some(token) => bears(headers, token),
        None => is_direct(headers, &[app.listener.port(), app.address.port()]),
    }
}

/// Compares in a time that tells nothing of where the two differ.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

fn is_direct(headers: &HeaderMap, ports: &[u16]) -> bool {
    let is_passed_on = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    let port = headers.get(HOST).and_then(|host| host.to_str().ok()?.rsplit_once(':')?.1.parse().ok());
    !is_passed_on && port.is_some_and(|port: u16| ports.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], expected: bool) {
        let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(is_direct(&map, &[3001, 13001]), expected, "{headers:?}");
    }

    #[test]
    fn a_scrape_asks_the_nodes_own_port_and_names_no_proxy() {
        for host in ["127.0.0.1:3001", "[::1]:3001", "localhost:3001", "node-1.internal:3001", "10.0.0.5:13001"] {
            check(&[("host", host)], true);
            check(&[("host", host), ("user-agent", "Prometheus/2"), ("accept-encoding", "gzip")], true);
            for name in OF_PROXIES {
                check(&[("host", host), (name, "192.0.2.1")], false);
            }
        }
    }

    #[test]
    fn a_request_for_a_public_name_is_none_whatever_passed_it_on() {
        for host in ["edge.example.com", "edge.example.com:443", "127.0.0.1", "nodes", "[::1]", ":", "3001"] {
            check(&[("host", host)], false);
        }
        check(&[], false);
    }
}
