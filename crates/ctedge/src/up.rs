//! `ctedge up`: everything on one machine, supervised.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use ctedge_settings::{Override, Settings, Value};
use ctedge_supervisor::{Load, Stopped, Supervisor};

use crate::arguments::UpOptions;
use crate::process::start_log;
use crate::settings_file::{SettingsFile, path_text, warn_of_variables};

/// Runs until a signal stops it.
pub(crate) fn run(options: UpOptions) -> anyhow::Result<ExitCode> {
    let file = SettingsFile::new(options.config.clone(), overrides(&options)?);
    start_log(&file.load(vec![])?.log())?;
    warn_of_variables();

    let supervisor = Supervisor::prepare(Box::new(Source(file)), executable()?, Box::new(say))?;
    // One thread: children are told when the thread ends that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    match runtime.block_on(supervisor.run())? {
        Stopped::InOrder => Ok(ExitCode::SUCCESS),
        Stopped::AtOnce => Ok(ExitCode::FAILURE),
    }
}

struct Source(SettingsFile);

impl Load for Source {
    fn load(&self, overrides: Vec<Override>) -> anyhow::Result<Settings> {
        self.0.load(overrides)
    }

    fn has_changed(&self) -> bool {
        self.0.has_changed()
    }
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

/// This program, for its children. A binary that was replaced while it runs is still there under its name.
fn executable() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("cannot find this program")?;
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(path))
}

/// One line for the operator. Nobody may be listening any more; that is no reason to end.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
