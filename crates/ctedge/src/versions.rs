//! `ctedge versions`: which versions of this program there are.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use ctedge_portal::versions::{Version, versions};
use ctedge_settings::{Override, Value};
use ctedge_supervisor::AdminClient;
use serde_json::json;

use crate::operator::succeeded;
use crate::place::{EdgeOptions, Place, Presence};
use crate::settings_file::path_text;

/// How long the balancer may take to say which versions run.
const ANSWER: Duration = Duration::from_secs(30);

/// Each of the first four options counts more than the same setting of the edge.
#[derive(Debug, Args)]
pub(crate) struct VersionsOptions {
    /// The OCI registry, like https://ghcr.io [default: portal.registry]
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// The repository in the registry [default: portal.repository]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Who asks [default: portal.registry_user]
    #[arg(long, value_name = "USER")]
    username: Option<String>,
    /// The file of that user's password or token [default: portal.registry_password_file]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    edge: EdgeOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the tags, the newest first, with a mark at those that the edge runs; where none answers, at the version of this
/// program.
pub(crate) fn run(options: VersionsOptions) -> anyhow::Result<ExitCode> {
    let Place { settings, presence } = options.edge.find_with(&overrides(&options)?)?;
    let registry = match (settings.portal().registry, presence) {
        (Some(registry), _) => registry,
        (None, Presence::Hidden(reason)) => return Err(reason),
        (None, _) => bail!("which registry? Name it with --registry and --repository, or in the settings"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let asked = running(&options.edge.admin_api(&settings, ANSWER));
    let running = asked.as_deref().unwrap_or(&[]);
    let own = [env!("CARGO_PKG_VERSION")];
    let running: Vec<_> = if running.is_empty() { own.to_vec() } else { running.iter().map(String::as_str).collect() };
    let versions = runtime.block_on(versions(&registry, &running))?;
    if let Err(unanswered) = &asked
        && versions.iter().any(|version| version.runs)
    {
        eprintln!("marked is the version of this program: {unanswered:#}");
    }
    let text = if options.json { format!("{:#}\n", json!(versions)) } else { listed(&versions) };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The versions of the balancer that answers, and of its nodes.
fn running(admin: &AdminClient) -> anyhow::Result<Vec<String>> {
    let status = succeeded(admin.get("/status")?)?;
    let nodes = status["nodes"].as_array().into_iter().flatten();
    let told = nodes.chain([&status["balancer"]]).filter_map(|process| process["version"].as_str());
    Ok(told.map(str::to_owned).collect())
}

fn overrides(options: &VersionsOptions) -> anyhow::Result<Vec<Override>> {
    // The file is one of whoever calls, not one below the data folder.
    let password_file = options.password_file.as_ref().map(std::path::absolute).transpose()?;
    let all = [
        ("portal.registry", "--registry", options.registry.clone()),
        ("portal.repository", "--repository", options.repository.clone()),
        ("portal.registry_user", "--username", options.username.clone()),
        ("portal.registry_password_file", "--password-file", password_file.as_deref().map(path_text).transpose()?),
    ];
    let given = all.into_iter().filter_map(|(setting, option, value)| Some((setting, option, value?)));
    Ok(given.map(|(setting, option, value)| Override::new(setting, Value::Text(value), option)).collect())
}

fn listed(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "the repository has no tags\n".to_owned();
    }
    let line = |version: &Version| {
        let mark = if version.runs { "*" } else { " " };
        format!("{mark} {}\n", version.tag)
    };
    versions.iter().map(line).collect()
}
