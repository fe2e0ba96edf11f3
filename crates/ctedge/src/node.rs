//! `ctedge node`: one node, its signals, and other settings while it runs.

use std::process::ExitCode;

use anyhow::Context;
use ctedge_logs::UsageLog;
use ctedge_node::{Node, NodeHandle};
use ctedge_settings::{ClusterSecret, Settings, Takes, takes};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::NodeOptions;
use crate::license;
use crate::portal::{self, Mounted};
use crate::process::{RotationSignal, StopSignal, raise_open_files, start_log};
use crate::settings_file::{SettingsFile, WATCH, processors, read_secret};

/// Runs until a signal stops it.
pub(crate) fn run(options: NodeOptions) -> anyhow::Result<ExitCode> {
    if let Some(supervisor) = options.supervisor {
        ctedge_supervisor::die_with_parent(supervisor)?;
    }
    let file = SettingsFile::new(Some(options.config), vec![]);
    let settings = file.load(vec![])?;
    let logs = start_log(&settings)?;
    raise_open_files();
    let secret = read_secret(&settings)?;
    let portal = settings.portal();
    portal::ensure_login(&portal, &secret);
    if options.supervisor.is_none() {
        license::warn_of_others(&settings.license().config);
        portal::warn_of_clients_folder(&portal, settings.data());
    }
    let read = settings.clone();
    let mut settings = settings
        .node(&options.id, secret.clone(), processors())
        .map_err(|faults| anyhow::anyhow!(file.describe(&faults)))?;

    settings.incarnation = options.incarnation;
    settings.says_license = options.supervisor.is_none();
    settings.license.public_key = license::public_key(settings.license.public_key)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()
        .context("cannot start the threads of the node")?;
    runtime.block_on(async {
        let stop = StopSignal::listen()?;
        let rotation = RotationSignal::listen()?;
        let mut node = Node::bind(settings).await?;
        let usage_log = node.usage_log();
        tokio::spawn(rotation.obey(move || {
            logs.reopen();
            usage_log.iter().for_each(UsageLog::reopen);
        }));
        let pages = portal::mount(&mut node, portal);
        tokio::spawn(Changes { file, secret, begun_with: read.clone(), read, pages, node: node.handle() }.take_over()?);
        node.run(stop.received()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Takes over what can change while the node runs.
struct Changes {
    file: SettingsFile,
    secret: ClusterSecret,
    /// What the node was started with.
    begun_with: Settings,
    /// What was read last.
    read: Settings,
    pages: Mounted,
    node: NodeHandle,
}

impl Changes {
    /// Reads the settings again at SIGHUP and when the file changes, for ever. Listens from the call on.
    fn take_over(mut self) -> anyhow::Result<impl Future<Output = ()> + Send> {
        let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(async move {
            let mut watch = interval(WATCH);
            watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = hang_up.recv() => {}
                    _ = watch.tick() => if !self.file.has_changed() { continue },
                }
                if let Err(error) = self.read_again().await {
                    tracing::error!("the changed settings are not taken over, the node goes on: {error:#}");
                }
            }
        })
    }

    async fn read_again(&mut self) -> anyhow::Result<()> {
        let settings = self.file.load(vec![])?;
        let mut license = settings.license();
        license.public_key = license::public_key(license.public_key)?;
        portal::ensure_login(&settings.portal(), &self.secret);
        self.pages.take_over(settings.portal());
        self.node.take_over(settings.metrics(), license, settings.weights(), settings.health().interval).await;

        let in_force = |setting: &String| takes(setting) == Takes::Reading;
        let changed = |before| settings.changed_since(before).into_iter().filter(|setting| is_of_nodes(setting));
        let read: Vec<_> = changed(&self.read).filter(in_force).collect();
        let waiting: Vec<_> = changed(&self.begun_with).filter(|setting| !in_force(setting)).collect();
        if !read.is_empty() || !waiting.is_empty() {
            let node = self.node.health().node;
            tracing::info!(node, in_force = ?read, needs_restart = ?waiting, "the node read its settings again");
        }
        self.read = settings;
        Ok(())
    }
}

/// Whether a node reads the setting at all.
fn is_of_nodes(setting: &str) -> bool {
    let section = setting.split('.').next().unwrap_or_default();
    !["balancer", "up", "restart", "certificates", "dns"].contains(&section)
}
