//! The life of `ctedge up`: start, ready, reload, and at last the stop.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use ctedge_logs::Zone;
use ctedge_settings::Listeners;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::control;
use crate::data::DataFolder;
pub use crate::edge::Surroundings;
use crate::edge::{BALANCER, Edge, LOOK, View, reachable};
use crate::leftovers;
pub use crate::plan::Load;
use crate::plan::{Settler, carry_out};
use crate::schedule::Schedule;
pub use crate::stop::Stopped;
use crate::stop::{Stop, StopSignals};

/// How often a file is looked at for a change, and the clock for a restart that is due.
const WATCH: Duration = Duration::from_secs(1);

/// After this time the operator is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// One balancer and its nodes on this machine.
pub struct Supervisor {
    edge: Arc<Edge>,
    /// The last periodic restart.
    restarting: Mutex<Option<AbortHandle>>,
}

impl Supervisor {
    /// Takes the data folder, cleans up after a dead supervisor, settles what the settings leave open, and makes what
    /// is missing. Starts nothing yet.
    pub fn prepare(around: Surroundings) -> anyhow::Result<Self> {
        let data = DataFolder::take(around.load.load(vec![])?.data())?;
        for name in leftovers::clean_up(&data.run())? {
            (around.say)(&format!("Stopped {name}, which a supervisor that died had left behind"));
        }
        let mut settler = Settler::default();
        let plan = settler.plan(around.load.as_ref(), &data)?;
        if plan.nodes.is_empty() && plan.settings.nodes().fixed.is_empty() && plan.settings.nodes().dns.is_empty() {
            bail!("there is no node: set up.nodes (--nodes) above 0, or list nodes below [[nodes]] or [[dns]]");
        }
        for made in carry_out(&plan, &data)? {
            (around.say)(&made);
        }
        Ok(Self { edge: Arc::new(Edge::new(around, data, settler, plan)), restarting: Mutex::default() })
    }

    /// Runs until a signal or an operator's command stops it. Call it on the main thread, in a runtime of that one thread:
    /// children are told when the thread ends that started them.
    pub async fn run(self) -> anyhow::Result<Stopped> {
        let mut signals = StopSignals::listen()?;
        let control = control::listen(self.edge.data.root())?;
        for name in self.edge.names() {
            self.edge.start(&name)?;
        }
        self.introduce();
        let (orders, mut ordered) = mpsc::channel(1);
        let serving = tokio::spawn(control::serve(control, Arc::clone(&self.edge), orders));
        let mut stop = Stop::of(&self.edge);
        let lived = tokio::select! {
            lived = self.live() => lived,
            () = signals.next() => Ok(()),
            Some(lines) = ordered.recv() => {
                stop.tell_also(lines);
                Ok(())
            }
        };
        let stopped = stop.run(&mut signals, &mut ordered).await;
        serving.abort();
        lived.map(|()| stopped)
    }

    /// Waits until everything serves, and then does what is due, for ever.
    async fn live(&self) -> anyhow::Result<()> {
        let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let mut rotated = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut schedule = Schedule::default();

        let mut available = {
            let _held = self.edge.changing.lock().await;
            self.wait_until_ready().await?
        };
        if available {
            self.edge.say("ready");
        }
        loop {
            tokio::select! {
                _ = hang_up.recv() => {}
                _ = rotated.recv() => {
                    (self.edge.around.reopen_logs)();
                    self.edge.each(|child, _| child.signal(Signal::USR1));
                    continue;
                }
                _ = watch.tick() => {
                    if !available && self.edge.view().await.is_some_and(|view| view.has_ready()) {
                        available = true;
                        announce(self.edge.plan().listeners);
                        self.edge.say("ready");
                    }
                    self.restart_if_due(&mut schedule);
                    self.edge.bound_logs().await;
                    if !self.edge.around.load.has_changed() {
                        continue;
                    }
                }
            }
            let _held = self.edge.changing.lock().await;
            if let Err(error) = self.edge.reload().await {
                tracing::error!("the changed settings are not taken over, what runs goes on: {error:#}");
            }
        }
    }

    /// Begins the periodic restart when its time has come.
    fn restart_if_due(&self, schedule: &mut Schedule) {
        let settings = self.edge.plan().settings;
        // The settings have made sure that there is such a zone.
        let zone = Zone::named(&settings.log().time_zone).unwrap_or_default();
        if !schedule.is_due(settings.restart().schedule.as_ref(), &zone, SystemTime::now()) {
            return;
        }
        if self.restarting.lock().as_ref().is_some_and(|restarting| !restarting.is_finished()) {
            tracing::warn!("the periodic restart is left out: the one before is not done yet");
            return;
        }
        let edge = Arc::clone(&self.edge);
        let restarting = tokio::spawn(async move {
            let _held = match edge.changing.try_lock() {
                Ok(held) => held,
                Err(_) => {
                    tracing::info!("the periodic restart waits: a command, a restart or a reload is under way");
                    edge.changing.lock().await
                }
            };
            tracing::info!("the periodic restart begins (restart.schedule, CT_AUTO_RESTART_CRON_PATTERN)");
            match edge.restart_named(None, &|text| tracing::info!("{text}")).await {
                Ok(()) => tracing::info!("the periodic restart is done"),
                Err(error) => tracing::error!("the periodic restart failed: {error:#}"),
            }
        });
        let restarting = restarting.abort_handle();
        self.edge.changes.lock().push(restarting.clone());
        *self.restarting.lock() = Some(restarting);
    }

    /// Says where everything is.
    fn introduce(&self) {
        let say = |line: String| self.edge.say(&line);
        let plan = self.edge.plan();
        let count = plan.nodes.len();
        say(format!("Starting the CodeTogether edge: one balancer, {count} node{}", if count == 1 { "" } else { "s" }));
        let listeners = &plan.listeners;
        for (word, address) in [("http ", listeners.http), ("https", listeners.https), ("admin", Some(listeners.admin))]
        {
            if let Some(address) = address {
                let scheme = if word == "https" { "https" } else { "http" };
                say(format!("  {word}  {scheme}://{}", reachable(address)));
            }
        }
        if let Some(url) = plan.settings.server_url() {
            say(format!("  public URL {}", url.as_str()));
        }
        say(format!("  data   {}", self.edge.data.root().display()));
        say(format!("  logs   {}", self.edge.data.logs().display()));
    }

    /// Completes when the balancer says that every node of ours serves. Announces the services with the first node that
    /// takes sessions, and returns whether there was one: none may be ours.
    async fn wait_until_ready(&self) -> anyhow::Result<bool> {
        let started = Instant::now();
        let mut told = started;
        let mut available = false;
        loop {
            let names = self.edge.names();
            let nodes = names.iter().filter(|name| *name != BALANCER).cloned();
            let view = self.edge.view().await;
            if !available && view.as_ref().is_some_and(View::has_ready) {
                available = true;
                announce(self.edge.plan().listeners);
            }
            let waiting: Vec<_> = match view {
                Some(view) => nodes.filter(|name| !view.is_serving(name)).collect(),
                None => vec![BALANCER.to_owned()],
            };
            if waiting.is_empty() {
                if !available {
                    self.edge.say("No node takes new sessions: `ctedge status` shows which are suspended, `ctedge resume NODE` lets one");
                }
                return Ok(available);
            }
            for name in &names {
                self.edge.check_deaths(name)?;
            }
            if told.elapsed() >= PATIENCE {
                told = Instant::now();
                self.edge.say(&format!(
                    "Still waiting for {} after {} s; see {}",
                    waiting.join(", "),
                    started.elapsed().as_secs(),
                    self.edge.data.logs().display()
                ));
            }
            sleep(LOOK).await;
        }
    }
}

/// Says where the edge is, in the words that operators' scripts look for. It is said once for each start of an edge, when the
/// first node takes sessions; a balancer that nobody supervises says it for itself.
pub fn announce(listeners: Listeners) {
    let ports = [(listeners.http, "HTTP"), (listeners.https, "SSL")];
    let ports = ports.map(|(address, word)| address.map(|address| format!("port {} ({word})", address.port())));
    let ports = match ports {
        // The word "port" stands once in the original's line.
        [Some(http), Some(https)] => format!("{http} and {}", https.trim_start_matches("port ")),
        [http, https] => http.or(https).unwrap_or_else(|| "no port".into()),
    };
    tracing::info!(target: "server", "CodeTogether On-Premises services now available on {ports}");
}
