//! `ctedge balancer`: one balancer, its reloads and its signals.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use ctedge_balancer::{Addresses, Balancer, BindError, Handle, Listening, SettingsSource};
use ctedge_logs::Logs;
use ctedge_settings::{BalancerSettings, Listeners};
use ctedge_supervisor::{Sockets, announce, control};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::BalancerOptions;
use crate::process::{StopSignal, raise_open_files, start_log};
use crate::settings_file::{SettingsFile, WATCH, processors, read_secret};

/// Runs until a signal stops it.
pub(crate) fn run(options: BalancerOptions) -> anyhow::Result<ExitCode> {
    if let Some(supervisor) = options.supervisor {
        ctedge_supervisor::die_with_parent(supervisor)?;
    }
    let source = Arc::new(Source(SettingsFile::new(Some(options.config), vec![])));
    let settings = source.0.load(vec![])?;
    let logs = start_log(&settings)?;
    raise_open_files();
    let data = settings.data().to_owned();
    let settings = source.settle()?;

    // Requests run on threads of the balancer's own; this runtime carries health checks, reloads and the admin API.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the threads of the balancer")?;
    runtime.block_on(async {
        let stop = StopSignal::listen()?;
        let listening = if options.inherit { inherited()? } else { Listening::default() };
        let reloads = Arc::clone(&source) as Arc<dyn SettingsSource>;
        let balancer = Balancer::bind_on(listening, settings, reloads).map_err(advise)?;
        let addresses = balancer.addresses();
        tracing::info!(http = ?addresses.http, https = ?addresses.https, admin = %addresses.admin, "the balancer serves");
        let handle = balancer.handle();
        if options.inherit {
            handle.supervised_by(control::socket_of(&data));
        } else {
            let Addresses { http, https, admin } = addresses;
            tokio::spawn(async move {
                handle.available().await;
                announce(Listeners { http, https, admin });
            });
        }
        tokio::spawn(obey_signals(balancer.handle(), source, logs)?);
        balancer.run(stop.received()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The sockets of the supervisor that started this balancer.
fn inherited() -> anyhow::Result<Listening> {
    let Sockets { http, https, admin } = Sockets::inherited()?;
    Ok(Listening { http, https, admin })
}

/// Says which settings stand behind a port that is taken.
fn advise(error: BindError) -> anyhow::Error {
    let is_taken = matches!(&error, BindError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
    let error = anyhow::Error::from(error);
    if is_taken {
        return error.context("a port is taken: stop the other program, or change balancer.http, .https or .admin");
    }
    error
}

struct Source(SettingsFile);

impl Source {
    fn settle(&self) -> anyhow::Result<BalancerSettings> {
        let settings = self.0.load(vec![])?;
        let secret = read_secret(&settings)?;
        settings.balancer(secret, processors()).map_err(|faults| anyhow::anyhow!(self.0.describe(&faults)))
    }
}

impl SettingsSource for Source {
    fn load(&self) -> Result<BalancerSettings, String> {
        self.settle().map_err(|error| format!("{error:#}"))
    }
}

/// Reloads at SIGHUP and when the file changes, opens the log files again at SIGUSR1, makes way for a successor at SIGUSR2.
/// Listens from the call on.
fn obey_signals(handle: Handle, source: Arc<Source>, logs: Logs) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut rotated = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    let mut succeeded = signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?;
    Ok(async move {
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hang_up.recv() => {}
                _ = rotated.recv() => {
                    handle.reopen_access_log();
                    logs.reopen();
                    continue;
                }
                _ = succeeded.recv() => {
                    handle.retire();
                    continue;
                }
                _ = watch.tick() => if !source.0.has_changed() { continue },
            }
            // The balancer itself logs what a reload changed, or why it changed nothing.
            let _ = handle.reload().await;
        }
    })
}
