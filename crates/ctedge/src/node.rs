//! `ctedge node`: one node and its signals.

use std::process::ExitCode;

use anyhow::Context;
use ctedge_node::Node;

use crate::arguments::NodeOptions;
use crate::license;
use crate::portal;
use crate::process::{StopSignal, raise_open_files, reopen_when_rotated, start_log};
use crate::settings_file::{SettingsFile, processors, read_secret};

/// Runs until a signal stops it.
pub(crate) fn run(options: NodeOptions) -> anyhow::Result<ExitCode> {
    if let Some(supervisor) = options.supervisor {
        ctedge_supervisor::die_with_parent(supervisor)?;
    }
    let file = SettingsFile::new(Some(options.config), vec![]);
    let settings = file.load(vec![])?;
    let logs = start_log(&settings.log())?;
    raise_open_files();
    let secret = read_secret(&settings)?;
    let portal = settings.portal();
    let mut settings =
        settings.node(&options.id, secret, processors()).map_err(|faults| anyhow::anyhow!(file.describe(&faults)))?;

    settings.incarnation = options.incarnation;
    settings.license.public_key = license::public_key(settings.license.public_key)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()
        .context("cannot start the threads of the node")?;
    runtime.block_on(async {
        let stop = StopSignal::listen()?;
        tokio::spawn(reopen_when_rotated(logs)?);
        let mut node = Node::bind(settings).await?;
        portal::mount(&mut node, portal);
        node.run(stop.received()).await?;
        Ok(ExitCode::SUCCESS)
    })
}
