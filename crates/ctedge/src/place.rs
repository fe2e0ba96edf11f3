//! Which edge of this machine a command is about: its data folder, and the settings that it runs with.
//!
//! An operator stands in any folder, and the edge was started with a settings file, options and variables that the operator's
//! shell does not have. So the edge itself is asked: its balancer names the socket of its supervisor, which lies in the
//! data folder, and beside that is the file that the edge reads, with every option and variable of its start in it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use ctedge_settings::{Override, Settings, Value};
use ctedge_supervisor::AdminClient;
use ctedge_supervisor::control::{Command, client};

use crate::operator::succeeded;
use crate::processes::data_of;
use crate::settings_file::{SettingsFile, config_of_environment, path_text};

/// Where a balancer listens for operators unless it is told otherwise.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1090);

/// How long the balancer may take to say where it is.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct EdgeOptions {
    /// The settings file that the edge was started with [default: CTEDGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data folder of the edge [default: that of the edge that runs, or else what the settings say]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The admin API of its balancer [default: balancer.admin of the settings, or else 127.0.0.1:1090]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// The admin API's token, where it asks for one [default: that of the settings]
    #[arg(long, value_name = "TOKEN", env = "CTEDGE_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
}

/// An edge of this machine.
pub(crate) struct Place {
    /// What it runs with; where none runs, what one would.
    pub(crate) settings: Settings,
    /// Whether it runs.
    pub(crate) presence: Presence,
}

/// Whether an edge runs.
pub(crate) enum Presence {
    /// `ctedge up` runs on the data folder.
    Runs,
    /// It does not.
    Absent,
    /// One runs, but not where this command can look; the reason.
    Hidden(anyhow::Error),
}

impl EdgeOptions {
    /// Finds the edge. Fails where the settings have faults.
    pub(crate) fn find(&self) -> anyhow::Result<Place> {
        self.find_with(&[])
    }

    /// As [`Self::find`], with options of the command that count more than what the edge runs with.
    pub(crate) fn find_with(&self, options: &[Override]) -> anyhow::Result<Place> {
        let config = self.config.clone().or_else(config_of_environment);
        let data = self.data.as_deref().map(path_text).transpose()?;
        let data = data.map(|data| Override::new("data", Value::Text(data), "--data"));
        let settings = SettingsFile::new(config, data.into_iter().collect()).load(options.to_vec())?;
        let running_on = |data: &Path| running_on(data, options);
        if let Some(settings) = running_on(settings.data()) {
            return Ok(Place { settings: settings?, presence: Presence::Runs });
        }
        // A folder that is named is meant, whatever runs elsewhere.
        if self.data.is_some() || settings.data().is_absolute() {
            return Ok(Place { settings, presence: Presence::Absent });
        }
        match self.ask(&settings) {
            Ok(Some(data)) => match running_on(&data) {
                Some(running) => Ok(Place { settings: running?, presence: Presence::Runs }),
                None => Ok(Place { settings, presence: Presence::Absent }),
            },
            Ok(None) => Ok(Place { settings, presence: Presence::Absent }),
            Err(reason) => Ok(Place { settings, presence: Presence::Hidden(reason) }),
        }
    }

    /// The data folder that the balancer names, if there is a balancer, and one of a supervisor.
    fn ask(&self, settings: &Settings) -> anyhow::Result<Option<PathBuf>> {
        let Ok(answer) = self.admin_api(settings, ANSWER).get("/status") else {
            return Ok(None);
        };
        // Whatever else answers there knows nothing of an edge.
        let is_admin = matches!(answer.status, 200 | 401 | 403);
        if is_admin { data_of(&succeeded(answer)?) } else { Ok(None) }
    }

    /// The admin API of the balancer of an edge with these settings.
    pub(crate) fn admin_api(&self, settings: &Settings, timeout: Duration) -> AdminClient {
        let written = settings.listeners().admin;
        let address = self.admin.unwrap_or(if written.port() == 0 { ADMIN } else { written });
        let token = self.admin_token.as_deref().or(settings.admin_token());
        AdminClient::new(address, token.map(str::to_owned), timeout)
    }
}

impl Place {
    /// Fails for an edge that this command cannot look at.
    pub(crate) fn expect_visible(self) -> anyhow::Result<Settings> {
        match self.presence {
            Presence::Hidden(reason) => Err(reason),
            Presence::Runs | Presence::Absent => Ok(self.settings),
        }
    }

    /// Fails for an edge that this command cannot look at, and where there is no data folder at all. Says on stderr when no
    /// edge runs on it.
    pub(crate) fn expect_folder(self) -> anyhow::Result<Settings> {
        let Self { settings, presence } = self;
        let folder = std::path::absolute(settings.data())?;
        match presence {
            Presence::Runs => {}
            Presence::Hidden(reason) => return Err(reason),
            Presence::Absent if !folder.is_dir() => bail!(
                "no edge runs here, and there is no data folder {}: start the edge first, or name its settings file with --config \
                 (CTEDGE_CONFIG) or its data folder with --data",
                folder.display()
            ),
            Presence::Absent => eprintln!(
                "note: `ctedge up` does not run on the data folder {}; this is about whatever uses that folder, now or later",
                folder.display()
            ),
        }
        Ok(settings)
    }
}

/// The settings of the edge that runs on the data folder `data`, if one does, with `options` that count more.
fn running_on(data: &Path, options: &[Override]) -> Option<anyhow::Result<Settings>> {
    let file = data.join("run").join("ctedge.toml");
    let runs = file.exists() && client::give(data, &Command::List, |_| {}).is_ok();
    runs.then(|| SettingsFile::new(Some(file), vec![]).load(options.to_vec()))
}
