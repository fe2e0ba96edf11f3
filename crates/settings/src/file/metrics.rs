//! `[metrics]`: where figures go.

use std::net::{IpAddr, Ipv6Addr};

use super::units::{hours, seconds};
use crate::reader::Reader;
use crate::settled::{BearerToken, MetricsSettings, StatsdProtocol, StatsdSettings};
use crate::value::{Value, Written, quoted};

/// A StatsD server as operators write it: a name or an address, with or without a port, or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    written: String,
    host: String,
    port: Option<u16>,
    protocol: Option<StatsdProtocol>,
}

pub(super) fn metrics(reader: &mut Reader) -> MetricsSettings {
    let mut section = reader.section(
        "metrics",
        "Where the figures go: users online, active sessions and their connections, lag, sessions hosted, downloads. Each \
         node's own, and with a store the sums over all.",
    );
    let place: Option<Place> = section.any(
        "statsd_host",
        "A StatsD server that they are sent to: its name or address, or a URL like \"udp://statsd.example.com:8125\", \
         whose scheme and port count more than the two settings below. \"\" sends nothing. CT_METRICS_STATSD_HOST \
         overrides it.",
        None,
    );
    let port = section.within("statsd_port", "Its port. CT_METRICS_STATSD_PORT overrides it.", 8125, 1..=u16::MAX);
    let protocol = section.any(
        "statsd_protocol",
        "\"UDP\" or \"TCP\". CT_METRICS_STATSD_PROTOCOL overrides it.",
        StatsdProtocol::Udp,
    );
    let prefix =
        section.read("statsd_prefix", "What every name begins with.", "codetogether".to_owned(), |prefix: &String| {
            if is_prefix(prefix) { Ok(()) } else { Err(no_prefix(prefix)) }
        });
    let tags = section.any(
        "statsd_tags",
        "Whether node and IDE are sent as DogStatsD tags. Otherwise they are parts of the names.",
        false,
    );
    let interval =
        section.within("statsd_interval", "The pause between two points.", seconds(10), seconds(1)..=hours(1));
    let prometheus = section.any(
        "prometheus",
        "Whether everybody may read them at /metrics of the public address, for Prometheus. CT_PROMETHEUS_ENABLED \
         overrides it.",
        false,
    );
    let token = section.read(
        "token",
        "A bearer token, at least 16 characters, for what a node counts for itself at /metrics of its private port. Without one \
         whoever asks the node itself may read it: no proxy is named in the request, and its Host has the node's port. Set one \
         where another balancer than this one stands before the nodes.",
        None,
        BearerToken::check,
    );
    let statsd = place.map(|Place { host, port: own_port, protocol: own_protocol, .. }| StatsdSettings {
        host,
        port: own_port.unwrap_or(port),
        protocol: own_protocol.unwrap_or(protocol),
        prefix,
        tags,
        interval,
    });
    MetricsSettings { statsd, prometheus, token }
}

/// Whether names may begin with it: parts of letters, digits, `-` and `_`, with dots between them.
fn is_prefix(text: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    text.split('.').all(|part| !part.is_empty() && part.chars().all(is_plain))
}

fn no_prefix(text: &str) -> String {
    format!("{text:?} is no beginning of a name; write it like \"codetogether\" or \"company.codetogether\"")
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let protocol = match scheme.as_deref() {
            Some("tcp") => Some(StatsdProtocol::Tcp),
            Some("udp") => Some(StatsdProtocol::Udp),
            // The others say that this is a URL, and nothing about the way.
            None | Some("http" | "https" | "statsd") => None,
            Some(_) => return None,
        };
        // A URL may end in a path of nothing.
        let rest = if scheme.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        let (host, port) = host_and_port(rest)?;
        Some(Self { written: text.to_owned(), host, port, protocol })
    }
}

/// `name`, `name:8125`, `192.0.2.1:8125`, `::1` and `[::1]:8125`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_string(), None));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((address.to_string(), Some(port_of(port)?))),
            None => rest.is_empty().then(|| (address.to_string(), None)),
        };
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port_of(port)?)),
        None => (text, None),
    };
    is_host_name(name).then(|| (name.to_owned(), port))
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn is_host_name(name: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(is_plain)
}

impl Written for Place {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        let refusal = || {
            format!("{text:?} names no host; write it like \"statsd.example.com\" or \"udp://statsd.example.com:8125\"")
        };
        Self::parse(text.trim()).ok_or_else(refusal)
    }

    fn write(&self) -> String {
        quoted(&self.written)
    }
}

impl Written for StatsdProtocol {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        match text.to_ascii_uppercase().as_str() {
            "UDP" => Ok(Self::Udp),
            "TCP" => Ok(Self::Tcp),
            _ => Err(format!("{text:?} is none of \"UDP\", \"TCP\"")),
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: Option<u16>, protocol: Option<StatsdProtocol>) {
        let place = Place::parse(text).unwrap_or_else(|| panic!("{text} names a host"));
        assert_eq!((place.host.as_str(), place.port, place.protocol), (host, port, protocol), "{text}");
    }

    #[test]
    fn a_host_is_a_name_an_address_or_a_url() {
        check("statsd.example.com", "statsd.example.com", None, None);
        check("statsd.example.com:9125", "statsd.example.com", Some(9125), None);
        check("http://statsd.example.com", "statsd.example.com", None, None);
        check("https://statsd.example.com:9125/", "statsd.example.com", Some(9125), None);
        check("udp://192.0.2.1:9125", "192.0.2.1", Some(9125), Some(StatsdProtocol::Udp));
        check("TCP://statsd", "statsd", None, Some(StatsdProtocol::Tcp));
        check("::1", "::1", None, None);
        check("udp://[::1]:9125", "::1", Some(9125), Some(StatsdProtocol::Udp));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for wrong in [
            "",
            "://",
            "http://",
            "ftp://statsd",
            "statsd:",
            "statsd:0",
            "statsd:65536",
            "a b",
            "http://a/path",
            "[::1",
            "[a]",
        ] {
            assert_eq!(Place::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_prefix_is_made_of_plain_parts() {
        for right in ["codetogether", "company.edge-1", "A_b"] {
            assert!(is_prefix(right), "{right}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "a:b", "a b", "a|g", "ü"] {
            assert!(!is_prefix(wrong), "{wrong}");
        }
    }
}
