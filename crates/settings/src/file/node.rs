//! `[node]` and the sections below it.

use std::time::Duration;

use super::ownership::{drain, lease};
use super::units::{hours, kib, mib, milliseconds, minutes, seconds, size};
use crate::reader::Reader;
use crate::settled::{DrainSettings, LeaseSettings, NodeLimits, NodeTimeouts};

/// `[node]` and the sections below it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) owner: String,
    pub(crate) threads: usize,
    pub(crate) simple_login: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) limits: NodeLimits,
    pub(crate) timeouts: NodeTimeouts,
    pub(crate) lease: LeaseSettings,
    pub(crate) drain: DrainSettings,
}

pub(super) fn node(reader: &mut Reader) -> Node {
    let mut section = reader.section("node", "Every node.");
    Node {
        owner: section.any("owner", "Who runs this server, as clients are told.", "CodeTogether".to_owned()),
        threads: section.within(
            "threads",
            "Threads that relay; 0 stands for one a processor. More nodes scale better than more threads.",
            1,
            0..=256,
        ),
        simple_login: section.any(
            "simple_login",
            "Whether people may log in by just giving a name. With a provider in [sign_on] they may not.",
            true,
        ),
        cors_origins: section.any(
            "cors_origins",
            "Origins of web pages that may call, like [\"https://editor.example.com\"]; [] allows all.",
            Vec::new(),
        ),
        limits: node_limits(reader),
        timeouts: node_timeouts(reader),
        lease: lease(reader),
        drain: drain(reader),
    }
}

fn node_limits(reader: &mut Reader) -> NodeLimits {
    let mut section = reader.section("node.limits", "What a node holds at most.");
    NodeLimits {
        sessions_max: section.within("sessions_max", "Sessions.", 10_000, 1..=10_000_000),
        peers_per_session_max: section.within("peers_per_session_max", "Peers of one session.", 256, 1..=100_000),
        connections_max: section.within("connections_max", "Connections of peers.", 16_384, 1..=10_000_000),
        message_bytes_max: size(section.within("message_bytes_max", "One message.", mib(16), kib(64)..=mib(1024))),
        outbox_bytes_max: size(section.within(
            "outbox_bytes_max",
            "What is kept for one peer until it has proven receipt. A peer that falls further behind is closed.",
            mib(32),
            kib(64)..=mib(4096),
        )),
        requests_in_flight_max: section.within(
            "requests_in_flight_max",
            "Requests of one session that wait for a response.",
            1_024,
            1..=1_000_000,
        ),
        pending_max: section.within(
            "pending_max",
            "Logins and requests to join that wait for a decision.",
            10_000,
            1..=10_000_000,
        ),
        handshakes_per_second: section.within(
            "handshakes_per_second",
            "Connections of peers that begin in one second. Further ones wait, hosts before guests.",
            1_000,
            1..=100_000,
        ),
    }
}

fn node_timeouts(reader: &mut Reader) -> NodeTimeouts {
    let mut section = reader.section("node.timeouts", "How long anything on a node may take.");
    let short = milliseconds(10)..=minutes(10);
    NodeTimeouts {
        grace: section.within(
            "grace",
            "How long a peer without a connection stays a peer.",
            seconds(30),
            short.clone(),
        ),
        request: section.within("request", "A request between peers.", seconds(30), short.clone()),
        decision: section.within(
            "decision",
            "The wait for a login, for the host's consent, and for the host itself.",
            minutes(5),
            seconds(1)..=hours(1),
        ),
        poll: section.within(
            "poll",
            "One poll, until it answers that there is nothing yet.",
            seconds(30),
            short.clone(),
        ),
        ping_interval: section.within("ping_interval", "The pause between two pings.", seconds(25), short.clone()),
        ping_timeout: section.within("ping_timeout", "The answer to a ping.", seconds(20), short),
        stop: section.within(
            "stop",
            "What still runs after the signal to stop, until it is cut.",
            seconds(10),
            Duration::ZERO..=hours(1),
        ),
    }
}
