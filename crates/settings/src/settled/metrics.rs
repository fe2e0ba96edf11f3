//! Where figures go.

use std::time::Duration;

use super::BearerToken;

/// Where figures go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsSettings {
    /// The StatsD server that figures are sent to. `None` sends nothing.
    pub statsd: Option<StatsdSettings>,
    /// Whether `/metrics` is served to everybody.
    pub prometheus: bool,
    /// What asks for a node's own figures must bear. `None` shows them to whoever asks the node itself.
    pub token: Option<BearerToken>,
}

/// A StatsD server, and how figures are sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How lines travel.
    pub protocol: StatsdProtocol,
    /// What every name begins with, without the dot behind it.
    pub prefix: String,
    /// Whether node and IDE are DogStatsD tags and not parts of the name.
    pub tags: bool,
    /// The pause between two points.
    pub interval: Duration,
}

/// How StatsD lines travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsdProtocol {
    /// In datagrams.
    Udp,
    /// On one connection.
    Tcp,
}
