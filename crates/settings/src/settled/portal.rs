//! What the portal receives: the pages for people beside the sessions.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::server_url::ServerUrl;

/// The user whose password is generated where no login is set.
pub const GENERATED_USER: &str = "ctuser";

/// What the portal needs to run: client downloads, logs and dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalSettings {
    /// The public URL that links are built on; without one, links are built on what the client asked for.
    pub server_url: Option<ServerUrl>,
    /// Whether `/clients` is served.
    pub clients: bool,
    /// The folder of the client downloads, with a folder for each IDE.
    pub clients_folder: PathBuf,
    /// Whether editors do not know the authority of the certificate by themselves.
    pub private_certificate: bool,
    /// The folder of the logs that `/logs` shows.
    pub logs_folder: PathBuf,
    /// The log files themselves, which may lie elsewhere; `/logs` shows them and their rotated ones too.
    pub log_files: Vec<PathBuf>,
    /// Who may see `/dashboard`. `None`: whoever may see `/logs`, or else the generated password's bearer.
    pub dashboard: Option<Login>,
    /// Who may see `/logs`. `None`: whoever may see `/dashboard`.
    pub logs: Option<Login>,
    /// Where a generated password is kept, so that all nodes of a machine share it.
    pub password_file: PathBuf,
    /// Ids of the nodes that the settings list: the dashboard tells which of them do not run. Empty where nodes are found
    /// by name.
    pub nodes: Vec<String>,
    /// Where this program's versions are published.
    pub registry: Option<RegistrySettings>,
    /// What strangers may try and operators may add.
    pub limits: PortalLimits,
    /// The zone in which days are counted.
    pub time_zone: String,
}

/// A repository of an OCI registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The registry: `https://ghcr.io`, with a path if it has one.
    pub url: String,
    /// The repository: `example/codetogether-edge`.
    pub repository: String,
    /// A user, and the file of the user's password or token. It is read each time, so that it may be changed.
    pub login: Option<(String, PathBuf)>,
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// A password. Debug output does not show it, so that it reaches no log with the settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password itself, to compare it or to write it to the file that keeps it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Password {
    fn from(password: T) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

/// What strangers may try and operators may add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalLimits {
    /// Wrong passwords of one address in a row, over all nodes together, until it has to pause.
    pub wrong_tries_max: u32,
    /// How long an address has to pause; after this long without a wrong password, its tries are forgotten.
    pub wrong_tries_pause: Duration,
    /// Addresses whose wrong passwords are remembered.
    pub addresses_max: usize,
    /// Bytes of one file that is added to the client downloads, packed and unpacked.
    pub client_bytes_max: u64,
    /// Files of one update site that is added to the client downloads.
    pub client_files_max: usize,
}
