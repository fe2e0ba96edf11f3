//! The settings file: every setting with its meaning, its default and its range, in the order of the written file.

mod balancer;
mod license;
mod log;
mod metrics;
mod node;
mod ownership;
mod portal;
mod restart;
mod sign_on;
mod store;
mod units;

use std::path::{Path, PathBuf};

pub(crate) use self::balancer::Balancer;
use self::balancer::balancer;
use self::license::license;
use self::log::log;
use self::metrics::metrics;
pub(crate) use self::node::Node;
use self::node::node;
pub(crate) use self::portal::Portal;
use self::portal::portal;
use self::restart::restart;
use self::sign_on::sign_on;
use self::store::store;
use crate::listed::{certificates, dns_nodes, fixed_nodes};
use crate::reader::Reader;
use crate::server_url::ServerUrl;
use crate::settled::{
    CertificateFiles, LicenseSettings, LogSettings, MetricsSettings, NodeSource, RestartSettings, SignOnSettings,
    StoreSettings, UpSettings,
};
use crate::weigh::weigh;

/// Everything that a file says, before it is cut to what one role needs.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) server_url: Option<ServerUrl>,
    pub(crate) data: PathBuf,
    pub(crate) secret_file: PathBuf,
    pub(crate) region: Option<String>,
    pub(crate) up: UpSettings,
    pub(crate) restart: RestartSettings,
    pub(crate) license: LicenseSettings,
    pub(crate) log: LogSettings,
    pub(crate) metrics: MetricsSettings,
    pub(crate) balancer: Balancer,
    pub(crate) node: Node,
    pub(crate) portal: Portal,
    pub(crate) sign_on: Option<SignOnSettings>,
    pub(crate) store: Option<StoreSettings>,
    pub(crate) nodes: NodeSource,
    pub(crate) certificates: Vec<CertificateFiles>,
}

/// Reads every setting there is.
pub(crate) fn read(reader: &mut Reader) -> File {
    let General { server_url, data, secret_file, region } = general(reader);
    let file = File {
        server_url: server_url.clone(),
        data,
        secret_file,
        region,
        up: up(reader),
        restart: restart(reader),
        license: license(reader),
        log: log(reader),
        metrics: metrics(reader),
        balancer: balancer(reader),
        node: node(reader),
        portal: portal(reader),
        sign_on: sign_on(reader, server_url.as_ref()),
        store: store(reader),
        nodes: NodeSource { fixed: fixed_nodes(reader), dns: dns_nodes(reader) },
        certificates: certificates(reader),
    };
    weigh(&file, reader);
    file
}

/// The settings of no section.
struct General {
    server_url: Option<ServerUrl>,
    data: PathBuf,
    secret_file: PathBuf,
    region: Option<String>,
}

fn general(reader: &mut Reader) -> General {
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
    let region = section.read(
        "region",
        "\nThe region of this machine, like \"eu-west\": its nodes tell it, and its balancer lets new sessions begin on nodes \
         of the same region as long as one of them takes new ones. CT_REGION overrides it.",
        None,
        |region: &Option<String>| region.as_deref().map_or(Ok(()), check_region),
    );
    General { server_url, data, secret_file, region }
}

/// A region is a label of metrics and a column of tables.
fn check_region(region: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if region.len() <= 64 && region.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(format!("{region:?} is no region; write one like \"eu-west\", of letters, digits, -, _ and ."))
    }
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
        machine: section.any(
            "machine",
            "The IP address of this machine where an edge has several: of the nodes that [[nodes]] lists for all of them, \
             `ctedge up` starts those with this address, and `nodes` is 0.",
            None,
        ),
    }
}

/// Accepts a path that names something.
pub(crate) fn not_empty(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() { Err("a path is needed here".into()) } else { Ok(()) }
}
