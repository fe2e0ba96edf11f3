//! `[balancer]` and the sections below it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::units::{hours, kib, mib, milliseconds, minutes, seconds, size};
use crate::reader::Reader;
use crate::settled::{
    BalancerLimits, BalancerTimeouts, BearerToken, HealthSettings, KeySettings, Network, PinSettings,
    PlacementAlgorithm, PlacementSettings,
};

/// `[balancer]` and the sections below it.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) admin_token: Option<BearerToken>,
    pub(crate) expose_node: bool,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) threads: usize,
    pub(crate) key: KeySettings,
    pub(crate) placement: PlacementSettings,
    pub(crate) pins: PinSettings,
    pub(crate) health: HealthSettings,
    pub(crate) limits: BalancerLimits,
    pub(crate) timeouts: BalancerTimeouts,
}

pub(super) fn balancer(reader: &mut Reader) -> Balancer {
    let mut section = reader.section("balancer", "The public endpoint.");
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let http = section.any("http", "Plain HTTP. \"\" switches it off, port 0 takes a free one.", Some(any(1080)));
    let https = section.any("https", "HTTPS, with [[certificates]]. \"\" switches it off.", Some(any(1443)));
    let admin = section.any(
        "admin",
        "The admin API, which the operator's commands use.",
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1090)),
    );
    let admin_token = section.read(
        "admin_token",
        "The bearer token of the admin API, at least 16 characters. Needed where `admin` is not a loopback address.",
        None,
        BearerToken::check,
    );
    let expose_node =
        section.any("expose_node", "Whether answers say in a header `x-ctedge-node` which node gave them.", false);
    let trusted_proxies = section.any(
        "trusted_proxies",
        "Networks of proxies in front of this balancer, like [\"10.0.0.0/8\"]. Only they are believed when they say \
         in X-Forwarded-For whom they speak for.",
        Vec::<Network>::new(),
    );
    let threads = section.within("threads", "Threads that serve requests; 0 stands for one a processor.", 0, 0..=256);
    Balancer {
        http,
        https,
        admin,
        admin_token,
        expose_node,
        trusted_proxies,
        threads,
        key: key(reader),
        placement: placement(reader),
        pins: pins(reader),
        health: health(reader),
        limits: balancer_limits(reader),
        timeouts: balancer_timeouts(reader),
    }
}

fn key(reader: &mut Reader) -> KeySettings {
    let mut section = reader.section(
        "balancer.key",
        "Where a request's key is looked for, the value that names its session. The first that is found counts, in \
         this order; \"\" switches one off. A client without any gets a cookie.",
    );
    KeySettings {
        header: section
            .read("header", "The request header.", "ctstickiness".to_owned(), |name: &String| name_or_nothing(name)),
        query: section
            .read("query", "The query parameter.", "ctstickiness".to_owned(), |name: &String| name_or_nothing(name)),
        protocol: section.any(
            "protocol",
            "What the Open Collaboration Protocol carries: tokens, room ids in paths, poll tokens, Engine.IO ids.",
            true,
        ),
        cookie: section.read("cookie", "The cookie.", "ctstickiness".to_owned(), |name: &String| name_or_nothing(name)),
    }
}

fn placement(reader: &mut Reader) -> PlacementSettings {
    let mut section = reader.section("balancer.placement", "Which node a key goes to that is not pinned yet.");
    PlacementSettings {
        algorithm: section.one_of(
            "algorithm",
            "The hash. Every balancer of a cluster needs the same.",
            &[("rendezvous", PlacementAlgorithm::Rendezvous), ("ketama", PlacementAlgorithm::Ketama)],
        ),
        load_bound: section.within(
            "load_bound",
            "A node with this much more than its fair share of the sessions gets no new one: 0.25 stands for 25 % more.",
            0.25,
            0.01..=100.0,
        ),
    }
}

fn pins(reader: &mut Reader) -> PinSettings {
    let mut section = reader
        .section("balancer.pins", "What the balancer remembers of keys, so that no change of the nodes moves one.");
    PinSettings {
        count_max: section.within("count_max", "How many keys; about 200 bytes each.", 100_000, 100..=100_000_000),
        idle_max: section.within(
            "idle_max",
            "How long a key is remembered that nobody uses. A key with an open tunnel is in use.",
            hours(1),
            seconds(1)..=hours(24 * 30),
        ),
    }
}

fn health(reader: &mut Reader) -> HealthSettings {
    let mut section = reader.section("balancer.health", "How the nodes are watched.");
    HealthSettings {
        path: section.read(
            "path",
            "The path that is asked for. A node of ours says how it is; of any other server each 2xx counts as ready.",
            ctedge_wire::headers::HEALTH_PATH.to_owned(),
            |path| {
                let fits = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
                if fits { Ok(()) } else { Err(format!("{path:?} is no path; it begins with a slash")) }
            },
        ),
        interval: section.within(
            "interval",
            "Time between two checks of one node; each is up to 20 % earlier or later, so that balancers do not march.",
            seconds(1),
            milliseconds(50)..=minutes(10),
        ),
        timeout: section.within("timeout", "How long one check may take.", seconds(1), milliseconds(10)..=minutes(1)),
        rise: section.within("rise", "How many checks in a row must succeed to bring a node up.", 2, 1..=100),
        fall: section.within("fall", "How many in a row must fail to take it down.", 3, 1..=100),
    }
}

fn balancer_limits(reader: &mut Reader) -> BalancerLimits {
    let mut section = reader.section("balancer.limits", "What one client, and all of them, may take.");
    BalancerLimits {
        connections_max: section.within(
            "connections_max",
            "Open connections of clients. Each takes a file descriptor, each tunnel two.",
            16_384,
            1..=10_000_000,
        ),
        connections_per_address_max: section.within(
            "connections_per_address_max",
            "Open connections of one client address. An office behind one address has many.",
            4_096,
            1..=10_000_000,
        ),
        tunnels_max: section.within("tunnels_max", "Open tunnels (WebSockets).", 8_192, 1..=10_000_000),
        header_bytes_max: size(section.within("header_bytes_max", "A request's head.", kib(32), kib(4)..=kib(1024))),
        body_bytes_max: section.within("body_bytes_max", "A request's body.", mib(32), kib(1)..=mib(4096)).0,
    }
}

fn balancer_timeouts(reader: &mut Reader) -> BalancerTimeouts {
    let mut section = reader.section("balancer.timeouts", "How long anything may take.");
    let short = milliseconds(10)..=minutes(10);
    BalancerTimeouts {
        header: section.within("header", "A request's head, from its first byte.", seconds(10), short.clone()),
        keep_alive: section.within("keep_alive", "The pause between two requests.", seconds(75), seconds(1)..=hours(1)),
        body: section.within("body", "The pause within a request's body.", seconds(60), short.clone()),
        connect: section.within("connect", "Connecting to a node.", seconds(2), short),
        response: section.within(
            "response",
            "A node's answer, from the end of the request. Longer than node.timeouts.poll.",
            seconds(60),
            seconds(1)..=hours(1),
        ),
        tunnel_idle: section.within(
            "tunnel_idle",
            "A tunnel in which neither side says anything; pings count as something.",
            hours(1),
            seconds(1)..=hours(24 * 7),
        ),
        unacknowledged: section.within(
            "unacknowledged",
            "How long a client's machine may acknowledge or take nothing until its connection counts as lost. One that \
             is sent nothing is asked for a sign of life.",
            minutes(2),
            seconds(1)..=hours(1),
        ),
        retire: section.within(
            "retire",
            "How long a balancer that a restart has replaced keeps the tunnels that it has.",
            hours(1),
            Duration::ZERO..=hours(24 * 7),
        ),
        stop: section.within(
            "stop",
            "What still runs after the signal to stop, until it is cut.",
            seconds(15),
            Duration::ZERO..=hours(1),
        ),
    }
}

fn name_or_nothing(name: &str) -> Result<(), String> {
    // The characters of a header's name (RFC 9110, section 5.6.2), which suit a cookie and a query as well.
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if fits {
        Ok(())
    } else {
        Err(format!("{name:?} is no name of a header or cookie; write one like \"ctstickiness\""))
    }
}
