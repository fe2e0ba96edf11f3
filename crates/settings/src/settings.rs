//! From a file's text to what the roles receive.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctedge_wire::ClusterSecret;

use crate::document::Document;
use crate::environment::overrides_of;
use crate::fault::{Fault, Origin};
use crate::file::{self, File};
use crate::reader::{Reader, Understood};
use crate::server_url::ServerUrl;
use crate::settled::{
    BalancerSettings, CertificateFiles, HealthSettings, LicenseSettings, LogSettings, MetricsSettings, NodeAddress,
    NodeSettings, NodeSource, NodeWeights, PortalSettings, RegistrySettings, RestartSettings, StoreSettings,
    UpSettings,
};
use crate::value::{Item, Value};

/// A value that takes the place of the file's: an option of the command line, an environment variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    setting: String,
    item: Item,
}

impl Override {
    /// `value` for the setting with this full name; `origin` names it in faults, like `--http`.
    pub fn new(setting: impl Into<String>, value: Value, origin: impl Into<String>) -> Self {
        Self { setting: setting.into(), item: Item { value, origin: Origin::Named(origin.into()) } }
    }

    /// `rows` for the list of sections `setting`, in the place of the file's.
    pub fn rows(
        setting: impl Into<String>,
        rows: impl IntoIterator<Item = Vec<(&'static str, Value)>>,
        origin: &str,
    ) -> Self {
        let item = |value| Item { value, origin: Origin::Named(origin.to_owned()) };
        let table = |row: Vec<(&'static str, Value)>| {
            Value::Table(
                row.into_iter().map(|(name, value)| (name.to_owned(), item(value))).collect::<BTreeMap<_, _>>(),
            )
        };
        let rows = rows.into_iter().map(|row| item(table(row))).collect();
        Self { setting: setting.into(), item: item(Value::List(rows)) }
    }
}

/// A whole file, valid. Its debug output says nothing, because it may hold the token of the admin API.
#[derive(Clone)]
pub struct Settings {
    file: File,
    pub(crate) understood: Understood,
}

/// Settles `text`, with the `CT_*` variables that `environment` knows in the place of the file's settings.
pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Vec<Fault>> {
    parse_with(text, overrides_of(environment))
}

/// Settles `text` with `overrides`; of two for one setting the later counts.
pub fn parse_with(text: &str, overrides: impl IntoIterator<Item = Override>) -> Result<Settings, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut document = Document::parse(text, &mut faults);
    for Override { setting, item } in overrides {
        document.items.insert(setting, item);
    }
    let mut reader = Reader::new(document, faults);
    let file = file::read(&mut reader);
    let (understood, faults) = reader.finish();
    if faults.is_empty() { Ok(Settings { file, understood }) } else { Err(faults) }
}

/// A settings file with every setting, its meaning and its default.
#[must_use]
pub fn default_config() -> String {
    parse_with("", []).expect("the defaults have no fault").understood.written
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    /// The public URL that clients use, where one is set.
    #[must_use]
    pub fn server_url(&self) -> Option<&ServerUrl> {
        self.file.server_url.as_ref()
    }

    /// The folder of everything that is written.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.file.data
    }

    /// The file of the cluster secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.file.data.join(&self.file.secret_file)
    }

    /// What `ctedge up` runs.
    #[must_use]
    pub fn up(&self) -> &UpSettings {
        &self.file.up
    }

    /// How the processes of a machine are restarted.
    #[must_use]
    pub fn restart(&self) -> &RestartSettings {
        &self.file.restart
    }

    /// Where the license is, and what it is held against.
    #[must_use]
    pub fn license(&self) -> LicenseSettings {
        let license = self.file.license.clone();
        LicenseSettings {
            file: self.file.data.join(&license.file),
            config: self.file.data.join(&license.config),
            host: self.server_url().map(|url| url.host().to_owned()),
            ..license
        }
    }

    /// The store that nodes share. `None` where they share nothing.
    #[must_use]
    pub fn store(&self) -> Option<StoreSettings> {
        let store = self.file.store.clone()?;
        let notes = Some(self.file.data.join("notes"));
        Some(StoreSettings { url: store.url.below(&self.file.data), notes, ..store })
    }

    /// The logs.
    #[must_use]
    pub fn log(&self) -> LogSettings {
        let mut log = self.file.log.clone();
        for file in [&mut log.server, &mut log.sessions, &mut log.usage, &mut log.access, &mut log.error] {
            *file = file.take().map(|path| self.file.data.join(path));
        }
        log
    }

    /// Where figures go.
    #[must_use]
    pub fn metrics(&self) -> &MetricsSettings {
        &self.file.metrics
    }

    /// The pages for people: downloads, logs, dashboard.
    #[must_use]
    pub fn portal(&self) -> PortalSettings {
        let portal = self.file.portal.clone();
        let log = self.log();
        let log_files = [log.server, log.sessions, log.usage, log.access, log.error];
        PortalSettings {
            server_url: self.file.server_url.clone(),
            clients: portal.clients,
            clients_folder: self.file.data.join(portal.clients_folder),
            private_certificate: portal.private_certificate,
            logs_folder: self.file.data.join("logs"),
            log_files: log_files.into_iter().flatten().collect(),
            dashboard: portal.dashboard,
            logs: portal.logs,
            password_file: self.file.data.join(portal.password_file),
            registry: portal.registry.map(|registry| RegistrySettings {
                login: registry.login.map(|(user, password_file)| (user, self.file.data.join(password_file))),
                ..registry
            }),
            nodes: self.file.nodes.fixed.iter().map(|node| node.id.clone()).collect(),
            limits: portal.limits,
            time_zone: log.time_zone,
        }
    }

    /// Where the balancer listens: plain HTTP, HTTPS, the admin API.
    #[must_use]
    pub fn listeners(&self) -> crate::Listeners {
        let balancer = &self.file.balancer;
        crate::Listeners { http: balancer.http, https: balancer.https, admin: balancer.admin }
    }

    /// The nodes that the file lists.
    #[must_use]
    pub fn nodes(&self) -> &NodeSource {
        &self.file.nodes
    }

    /// The weights of those nodes.
    #[must_use]
    pub fn weights(&self) -> NodeWeights {
        NodeWeights::new(&self.file.nodes)
    }

    /// How nodes are watched.
    #[must_use]
    pub fn health(&self) -> &HealthSettings {
        &self.file.balancer.health
    }

    /// The certificates that the file lists.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateFiles> {
        let below_data = |path: &PathBuf| self.file.data.join(path);
        self.file
            .certificates
            .iter()
            .map(|files| CertificateFiles { chain: below_data(&files.chain), key: below_data(&files.key) })
            .collect()
    }

    /// The bearer token of the admin API, where one is set.
    #[must_use]
    pub fn admin_token(&self) -> Option<&str> {
        self.file.balancer.admin_token.as_deref()
    }

    /// The whole file with every setting as it counts, overrides included. It may hold a token: keep it private.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.understood.written
    }

    /// What a balancer of this file runs with, on a machine with `processors`.
    pub fn balancer(&self, secret: ClusterSecret, processors: usize) -> Result<BalancerSettings, Vec<Fault>> {
        self.check_balancer()?;
        let balancer = self.file.balancer.clone();
        Ok(BalancerSettings {
            http: balancer.http,
            https: balancer.https,
            admin: balancer.admin,
            admin_token: balancer.admin_token,
            certificates: self.certificates(),
            expose_node: balancer.expose_node,
            path_prefix: self.server_url().map_or(String::new(), |url| url.path_prefix().to_owned()),
            trusted_proxies: balancer.trusted_proxies,
            threads: threads(balancer.threads, processors),
            key: balancer.key,
            nodes: self.file.nodes.clone(),
            placement: balancer.placement,
            pins: balancer.pins,
            health: balancer.health,
            limits: balancer.limits,
            timeouts: balancer.timeouts,
            region: self.file.region.clone(),
            secret,
            log: self.log(),
        })
    }

    /// What a file must say that a balancer runs with, beyond what every file must say.
    fn check_balancer(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |setting: &str, problem: &str| {
            faults.push(Fault { origin: Origin::Default, setting: setting.into(), problem: problem.into() });
        };
        if self.file.balancer.https.is_some() && self.file.certificates.is_empty() {
            fault(
                "certificates",
                "HTTPS is on, but there is no [[certificates]]: add one or set balancer.https = \"\"",
            );
        }
        if self.file.nodes.fixed.is_empty() && self.file.nodes.dns.is_empty() {
            fault("nodes", "a balancer needs nodes: list them below [[nodes]] or name them below [[dns]]");
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What the node `id` of this file runs with, on a machine with `processors`.
    pub fn node(&self, id: &str, secret: ClusterSecret, processors: usize) -> Result<NodeSettings, Vec<Fault>> {
        let Some(NodeAddress { listen, address, .. }) = self.file.nodes.fixed.iter().find(|node| node.id == id) else {
            let known = self.file.nodes.fixed.iter().map(|node| node.id.as_str()).collect::<Vec<_>>();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!("no node has the id {id:?}; listed: {known}");
            return Err(vec![Fault { origin: Origin::Default, setting: "nodes".into(), problem }]);
        };
        let node = self.file.node.clone();
        Ok(NodeSettings {
            id: id.to_owned(),
            incarnation: None,
            says_license: true,
            listen: *listen,
            address: Some(*address).filter(|address| address.port() != 0),
            threads: threads(node.threads, processors),
            owner: node.owner,
            // Whoever has a provider does not want people to be whoever they say.
            simple_login: node.simple_login && self.file.sign_on.is_none(),
            sign_on: self.file.sign_on.clone(),
            region: self.file.region.clone(),
            cors_origins: node.cors_origins,
            secret,
            limits: node.limits,
            timeouts: node.timeouts,
            lease: node.lease,
            store: self.store(),
            log: self.log(),
            drain: node.drain,
            weights: self.weights(),
            watched_every: self.file.balancer.health.interval,
            suspension: Some(self.file.data.join("suspended").join(id)),
            license: self.license(),
            metrics: self.file.metrics.clone(),
        })
    }

    /// How long a balancer that was replaced keeps its tunnels.
    #[must_use]
    pub fn retire_max(&self) -> Duration {
        self.file.balancer.timeouts.retire
    }

    /// The longest that a balancer, and that a node, may take to stop in order.
    #[must_use]
    pub fn stop_max(&self) -> (Duration, Duration) {
        (self.file.balancer.timeouts.stop, self.file.node.timeouts.stop)
    }
}

fn threads(written: usize, processors: usize) -> usize {
    if written == 0 { processors.max(1) } else { written }
}
