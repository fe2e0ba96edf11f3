//! The settings file: every setting with its meaning, its default and its range, in the order of the written file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::listed::{certificates, dns_nodes, fixed_nodes};
use crate::reader::Reader;
use crate::server_url::ServerUrl;
use crate::settled::{
    BalancerLimits, BalancerTimeouts, CertificateFiles, HealthSettings, KeySettings, LogFormat, LogLevel, LogSettings,
    Network, NodeLimits, NodeSource, NodeTimeouts, PinSettings, PlacementAlgorithm, PlacementSettings, UpSettings,
};
use crate::value::Size;
use crate::weigh::weigh;

/// Everything that a file says, before it is cut to what one role needs.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) server_url: Option<ServerUrl>,
    pub(crate) data: PathBuf,
    pub(crate) secret_file: PathBuf,
    pub(crate) up: UpSettings,
    pub(crate) log: LogSettings,
    pub(crate) balancer: Balancer,
    pub(crate) node: Node,
    pub(crate) nodes: NodeSource,
    pub(crate) certificates: Vec<CertificateFiles>,
}

/// `[balancer]` and the sections below it.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) admin_token: Option<String>,
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

/// `[node]` and the sections below it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) owner: String,
    pub(crate) threads: usize,
    pub(crate) simple_login: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) limits: NodeLimits,
    pub(crate) timeouts: NodeTimeouts,
}

/// Reads every setting there is.
pub(crate) fn read(reader: &mut Reader) -> File {
    let (server_url, data, secret_file) = general(reader);
    let file = File {
        server_url,
        data,
        secret_file,
        up: up(reader),
        log: log(reader),
        balancer: balancer(reader),
        node: node(reader),
        nodes: NodeSource { fixed: fixed_nodes(reader), dns: dns_nodes(reader) },
        certificates: certificates(reader),
    };
    weigh(&file, reader);
    file
}

fn general(reader: &mut Reader) -> (Option<ServerUrl>, PathBuf, PathBuf) {
    let mut section = reader.section(
        "",
        "The settings of a CodeTogether edge. Every setting is listed with its default.\n\
         Times are written like \"500ms\", \"30s\", \"10m\", \"1h\", sizes like \"64KiB\", \"16MiB\".",
    );
    let server_url = section.any(
        "server_url",
        "\nThe public URL that clients use, like \"https://edge.example.com\". Its path is the path prefix that is \
         removed before a node sees a request; \"\" stands for any host without a prefix. CT_SERVER_URL overrides it.",
        None,
    );
    let data = section.read(
        "data",
        "\nThe folder of everything that is written. It is relative to the folder that the command is started in; all \
         other relative paths of this file are below it.",
        PathBuf::from("ctedge-data"),
        |path: &PathBuf| not_empty(path),
    );
    let secret_file = section.read(
        "secret_file",
        "\nThe secret that all balancers and nodes of one cluster share: a file of at least 32 random characters that \
         nobody else may read. `ctedge up` creates it.",
        PathBuf::from("cluster.secret"),
        |path: &PathBuf| not_empty(path),
    );
    (server_url, data, secret_file)
}

fn up(reader: &mut Reader) -> UpSettings {
    let mut section = reader.section("up", "What `ctedge up` runs on this machine.");
    UpSettings {
        nodes: section.within("nodes", "How many nodes it starts, beside those listed below [[nodes]].", 3, 0..=64),
        node_base_port: section.any(
            "node_base_port",
            "The port of the first node on 127.0.0.1; the others follow. 0 takes free ports.",
            3001,
        ),
    }
}

fn log(reader: &mut Reader) -> LogSettings {
    let mut section = reader.section("log", "The logs. No token and no password is ever in one.");
    LogSettings {
        format: section.one_of(
            "format",
            "How the server log is written, for people or for collectors.",
            &[("human", LogFormat::Human), ("json", LogFormat::Json)],
        ),
        level: section.one_of(
            "level",
            "The least severe events that are written.",
            &[
                ("info", LogLevel::Info),
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ],
        ),
        access: section.any(
            "access",
            "One line a request in nginx's combined format; opened again on SIGUSR1. \"\" switches it off.",
            Some(PathBuf::from("logs/access.log")),
        ),
    }
}

fn balancer(reader: &mut Reader) -> Balancer {
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
        |token: &Option<String>| match token {
            Some(token) if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("a token has at least 16 characters, all of them printable ASCII without spaces".into())
            }
            _ => Ok(()),
        },
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
        stop: section.within(
            "stop",
            "What still runs after the signal to stop, until it is cut.",
            seconds(15),
            Duration::ZERO..=hours(1),
        ),
    }
}

fn node(reader: &mut Reader) -> Node {
    let mut section = reader.section("node", "Every node.");
    Node {
        owner: section.any("owner", "Who runs this server, as clients are told.", "CodeTogether".to_owned()),
        threads: section.within(
            "threads",
            "Threads that relay; 0 stands for one a processor. More nodes scale better than more threads.",
            1,
            0..=256,
        ),
        simple_login: section.any("simple_login", "Whether people may sign in by just giving a name.", true),
        cors_origins: section.any(
            "cors_origins",
            "Origins of web pages that may call, like [\"https://editor.example.com\"]; [] allows all.",
            Vec::new(),
        ),
        limits: node_limits(reader),
        timeouts: node_timeouts(reader),
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

fn name_or_nothing(name: &str) -> Result<(), String> {
    // The characters of a header's name (RFC 9110, section 5.6.2), which suit a cookie and a query as well.
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if fits { Ok(()) } else { Err(format!("{name:?} is no name of a header or cookie")) }
}

/// Accepts a path that names something.
pub(crate) fn not_empty(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() { Err("a path is needed here".into()) } else { Ok(()) }
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn kib(kib: u64) -> Size {
    Size(kib << 10)
}

fn mib(mib: u64) -> Size {
    Size(mib << 20)
}

/// A size that memory holds. The ranges above keep it within any address space of 64 bits.
fn size(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
