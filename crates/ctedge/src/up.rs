//! `ctedge up`: everything on one machine, supervised.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use ctedge_node::license::Licensing;
use ctedge_settings::{LicenseSettings, Override, Settings, Value};
use ctedge_supervisor::{Load, Stopped, Supervisor, Surroundings};
use tokio::runtime::Handle;

use crate::arguments::UpOptions;
use crate::leases::StoredLeases;
use crate::license;
use crate::portal;
use crate::process::start_log;
use crate::settings_file::{SettingsFile, path_text};

/// Runs until a signal or an operator's command stops it.
pub(crate) fn run(options: UpOptions) -> anyhow::Result<ExitCode> {
    let file = SettingsFile::new(options.config.clone(), overrides(&options)?);
    let settings = file.load(vec![])?;
    let logs = start_log(&settings)?;

    let license = settings_of_license(&settings)?;
    let licensing = Arc::default();
    let supervisor = Supervisor::prepare(Surroundings {
        load: Box::new(Source { file, licensing: Arc::clone(&licensing) }),
        say: Box::new(say),
        executable: Arc::new(executable()?),
        leases: Arc::new(StoredLeases::new(settings.store())),
        reopen_logs: Box::new(move || logs.reopen()),
    })?;
    // One thread: children are told when the thread ends that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    license::warn_of_others(&settings.license().config);
    portal::warn_of_clients_folder(&settings.portal(), settings.data());
    let said = licensing.get_or_init(|| Licensing::begin(license, true));
    let stopped = runtime.block_on(async {
        tokio::spawn(Arc::clone(said).watch(|_| {}));
        supervisor.run().await
    });
    match stopped? {
        Stopped::InOrder => Ok(ExitCode::SUCCESS),
        Stopped::AtOnce => Ok(ExitCode::FAILURE),
    }
}

/// The settings of the edge, and who says for all of its nodes what the license is worth.
struct Source {
    file: SettingsFile,
    licensing: Arc<OnceLock<Arc<Licensing>>>,
}

impl Load for Source {
    fn load(&self, overrides: Vec<Override>) -> anyhow::Result<Settings> {
        let is_as_written = overrides.is_empty();
        let settings = self.file.load(overrides)?;
        if let (true, Some(licensing), Ok(runtime)) = (is_as_written, self.licensing.get(), Handle::try_current()) {
            let (licensing, license) = (Arc::clone(licensing), settings_of_license(&settings)?);
            runtime.spawn(async move { licensing.take_over(license).await });
        }
        Ok(settings)
    }

    fn has_changed(&self) -> bool {
        self.file.has_changed()
    }
}

/// Where the license is looked for, with the key that counts.
fn settings_of_license(settings: &Settings) -> anyhow::Result<LicenseSettings> {
    let mut license = settings.license();
    license.public_key = license::public_key(license.public_key)?;
    Ok(license)
}

/// Each option as the setting that it stands for.
fn overrides(options: &UpOptions) -> anyhow::Result<Vec<Override>> {
    let text = |setting, value: String, origin| Override::new(setting, Value::Text(value), origin);
    let number = |setting, value: u16, origin| Override::new(setting, Value::Integer(value.into()), origin);
    let data = options.data.as_deref().map(path_text).transpose()?;
    let all = [
        options.nodes.map(|count| number("up.nodes", count, "--nodes")),
        data.map(|data| text("data", data, "--data")),
        options.http.map(|address| text("balancer.http", address.to_string(), "--http")),
        options.https.map(|address| text("balancer.https", address.to_string(), "--https")),
        options.admin.map(|address| text("balancer.admin", address.to_string(), "--admin")),
        options.node_base_port.map(|port| number("up.node_base_port", port, "--node-base-port")),
        options.expose_node.then(|| Override::new("balancer.expose_node", Value::Switch(true), "--expose-node")),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// Finds this program, for each start of a child anew. A newer one may have taken its place, under the path that it was called
/// by: also where that is a link, as upgrades like to switch one.
fn executable() -> anyhow::Result<impl Fn() -> PathBuf> {
    let running = std::env::current_exe().context("cannot find this program")?;
    // The kernel's name for a program whose file was replaced while it runs.
    let replaced = running.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    let running = replaced.unwrap_or(running);
    let called = called().filter(|called| called.canonicalize().ok().as_ref() == Some(&running));
    Ok(move || called.clone().filter(|called| called.is_file()).unwrap_or_else(|| running.clone()))
}

/// The path that this program was called by, with its links.
fn called() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(&name)).find(|path| path.is_file())
}

/// One line for the operator. Nobody may be listening any more; that is no reason to end.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
