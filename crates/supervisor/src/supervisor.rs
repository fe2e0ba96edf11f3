//! The life of `ctedge up`: start, ready, reload, stop.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::admin::AdminClient;
use crate::child::{Child, Spec};
use crate::data::DataFolder;
use crate::leftovers;
pub use crate::plan::Load;
use crate::plan::{Plan, Settler, carry_out};

/// The balancer's name among the children.
const BALANCER: &str = "balancer";

/// A child that ends this often before the edge was ready even once will not get better by itself.
const DEATHS_BEFORE_READY_MAX: u32 = 3;

/// How often the edge is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(50);

/// How often a file is looked at for a change.
const WATCH: Duration = Duration::from_secs(1);

/// How long one question to a child may take.
const ANSWER: Duration = Duration::from_secs(2);

/// After this time the operator is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a reload waits for a child that was started, or for the balancer to let go of a node.
const RELOAD_MAX: Duration = Duration::from_secs(10);

/// Some tools signal a process and then its whole group: what comes this soon after the first signal is the same order.
const ECHO: Duration = Duration::from_millis(500);

/// What a child gets beyond its own bound before it is killed, so that it is its own bound that counts.
const SPARE: Duration = Duration::from_secs(2);

/// How a supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything stopped in order.
    InOrder,
    /// A second signal stopped everything at once.
    AtOnce,
}

/// One balancer and its nodes on this machine.
pub struct Supervisor {
    load: Box<dyn Load>,
    say: Box<dyn Fn(&str)>,
    executable: PathBuf,
    data: DataFolder,
    settler: Settler,
    plan: Plan,
    children: BTreeMap<String, Child>,
}

impl Supervisor {
    /// Takes the data folder, cleans up after a dead supervisor, settles what the settings leave open, and makes what
    /// is missing. Starts nothing yet. `say` tells the operator one line.
    pub fn prepare(load: Box<dyn Load>, executable: PathBuf, say: Box<dyn Fn(&str)>) -> anyhow::Result<Self> {
        let data = DataFolder::take(load.load(vec![])?.data())?;
        for name in leftovers::clean_up(&data.run())? {
            say(&format!("Stopped {name}, which a supervisor that died had left behind"));
        }
        let mut settler = Settler::default();
        let plan = settler.plan(load.as_ref(), &data)?;
        if plan.nodes.is_empty() && plan.settings.nodes().fixed.is_empty() && plan.settings.nodes().dns.is_empty() {
            bail!("there is no node: set up.nodes (--nodes) above 0, or list nodes below [[nodes]] or [[dns]]");
        }
        for made in carry_out(&plan, &data)? {
            say(&made);
        }
        Ok(Self { load, say, executable, data, settler, plan, children: BTreeMap::new() })
    }

    /// Runs until a signal stops it. Call it on the main thread, in a runtime of that one thread: children are told
    /// when the thread ends that started them.
    pub async fn run(mut self) -> anyhow::Result<Stopped> {
        let mut stop = StopSignals::listen()?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let mut rotated = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);

        self.start_all();
        self.introduce();
        tokio::select! {
            ready = self.wait_until_ready() => {
                if let Err(error) = ready {
                    self.stop(&mut stop).await;
                    return Err(error);
                }
                (self.say)("ready");
            }
            () = stop.next() => return Ok(self.stop(&mut stop).await),
        }
        loop {
            tokio::select! {
                () = stop.next() => return Ok(self.stop(&mut stop).await),
                _ = hang_up.recv() => {}
                _ = rotated.recv() => {
                    self.signal_balancer(Signal::USR1);
                    continue;
                }
                _ = watch.tick() => if !self.load.has_changed() { continue },
            }
            tokio::select! {
                () = self.reload() => {}
                () = stop.next() => return Ok(self.stop(&mut stop).await),
            }
        }
    }

    fn start_all(&mut self) {
        let names: Vec<_> = self.plan.nodes.keys().cloned().chain([BALANCER.to_owned()]).collect();
        for name in names {
            self.start(&name);
        }
    }

    fn start(&mut self, name: &str) {
        let mut arguments = vec!["--config".to_owned(), self.data.effective_file().to_string_lossy().into_owned()];
        if name == BALANCER {
            arguments.insert(0, "balancer".into());
        } else {
            arguments.insert(0, "node".into());
            arguments.extend(["--id".into(), name.to_owned()]);
        }
        let spec = Spec {
            name: name.to_owned(),
            executable: self.executable.clone(),
            arguments,
            run: self.data.run(),
            logs: self.data.logs(),
        };
        self.children.insert(name.to_owned(), Child::start(spec));
    }

    /// Says where everything is.
    fn introduce(&self) {
        let say = &self.say;
        let count = self.plan.nodes.len();
        say(&format!(
            "Starting the CodeTogether edge: one balancer, {count} node{}",
            if count == 1 { "" } else { "s" }
        ));
        let listeners = &self.plan.listeners;
        for (word, address) in [("http ", listeners.http), ("https", listeners.https), ("admin", Some(listeners.admin))]
        {
            if let Some(address) = address {
                let scheme = if word == "https" { "https" } else { "http" };
                say(&format!("  {word}  {scheme}://{}", reachable(address)));
            }
        }
        if let Some(url) = self.plan.settings.server_url() {
            say(&format!("  public URL {}", url.as_str()));
        }
        say(&format!("  data   {}", self.data.root().display()));
        say(&format!("  logs   {}", self.data.logs().display()));
    }

    /// Completes when the balancer says that every node of ours takes sessions.
    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut told = started;
        loop {
            let states = self.node_states().await;
            let waiting = match &states {
                Some(states) => {
                    let is_ready = |id: &&String| states.get(*id).is_some_and(|state| state == "ready");
                    self.plan.nodes.keys().filter(|id| !is_ready(id)).cloned().collect::<Vec<_>>()
                }
                None => vec![BALANCER.to_owned()],
            };
            if waiting.is_empty() {
                return Ok(());
            }
            self.check_deaths()?;
            if told.elapsed() >= PATIENCE {
                told = Instant::now();
                (self.say)(&format!(
                    "Still waiting for {} after {} s; see {}",
                    waiting.join(", "),
                    started.elapsed().as_secs(),
                    self.data.logs().display()
                ));
            }
            sleep(LOOK).await;
        }
    }

    /// Fails when a child does not get up, with the end of what it said.
    fn check_deaths(&self) -> anyhow::Result<()> {
        for (name, child) in &self.children {
            if child.deaths() >= DEATHS_BEFORE_READY_MAX {
                let log = self.data.logs().join(format!("{name}.log"));
                let text = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(5).collect();
                let end = lines.into_iter().rev().map(|line| format!("\n  {line}")).collect::<String>();
                bail!("{name} does not stay up; the end of its log {}:{end}", log.display());
            }
        }
        Ok(())
    }

    /// The states of all listed nodes, as the balancer sees them. `None` while it gives no answer.
    async fn node_states(&self) -> Option<BTreeMap<String, String>> {
        let client = self.client(self.plan.listeners.admin);
        let answer = tokio::task::spawn_blocking(move || client.get("/status")).await.ok()?.ok()?;
        let status: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        let nodes = status.get("nodes")?.as_array()?;
        let text = |node: &serde_json::Value, name: &str| Some(node.get(name)?.as_str()?.to_owned());
        // A node that is no longer listed keeps its sessions until they are gone.
        let listed = nodes.iter().filter(|node| node["listed"] != false);
        Some(listed.filter_map(|node| Some((text(node, "id")?, text(node, "state")?))).collect())
    }

    fn client(&self, address: SocketAddr) -> AdminClient {
        let token = self.plan.settings.admin_token().map(str::to_owned);
        AdminClient::new(reachable(address), token, ANSWER)
    }

    /// Reads the settings again. Wrong ones change nothing.
    async fn reload(&mut self) {
        let planned = self.settler.plan(self.load.as_ref(), &self.data);
        let plan = match planned.and_then(|plan| carry_out(&plan, &self.data).map(|_| plan)) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!("the changed settings are not taken over, what runs goes on: {error:#}");
                return;
            }
        };
        let added: Vec<_> = plan.nodes.keys().filter(|id| !self.plan.nodes.contains_key(*id)).cloned().collect();
        let removed: Vec<_> = self.plan.nodes.keys().filter(|id| !plan.nodes.contains_key(*id)).cloned().collect();
        self.plan = plan;

        for id in &added {
            self.start(id);
            let address = self.plan.nodes[id];
            let _ = timeout(RELOAD_MAX, self.wait_until_listening(address)).await;
        }
        self.signal_balancer(Signal::HUP);
        for id in &removed {
            // The balancer lets go first, so that no request finds the node gone.
            let _ = timeout(RELOAD_MAX, self.wait_until_unlisted(id)).await;
            self.stop_node(id).await;
        }
        tracing::info!(?added, ?removed, "the settings were read again");
    }

    fn signal_balancer(&self, signal: Signal) {
        if let Some(balancer) = self.children.get(BALANCER) {
            balancer.signal(signal);
        }
    }

    async fn wait_until_listening(&self, address: SocketAddr) {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            sleep(LOOK).await;
        }
    }

    async fn wait_until_unlisted(&self, id: &str) {
        while self.node_states().await.is_none_or(|states| states.contains_key(id)) {
            sleep(LOOK).await;
        }
    }

    async fn stop_node(&mut self, id: &str) {
        let (_, of_node) = self.plan.stop_max();
        if let Some(child) = self.children.remove(id) {
            child.stop(of_node + SPARE);
            child.gone().await;
        }
    }

    /// Stops everything in order, or at once at the next signal.
    async fn stop(&self, signals: &mut StopSignals) -> Stopped {
        (self.say)("Stopping; a second signal stops everything at once");
        tokio::select! {
            () = self.stop_in_order() => {
                (self.say)("stopped");
                Stopped::InOrder
            }
            () = signals.next() => {
                for child in self.children.values() {
                    child.kill();
                }
                for child in self.children.values() {
                    child.gone().await;
                }
                (self.say)("stopped at once");
                Stopped::AtOnce
            }
        }
    }

    /// The balancer stops accepting, then the nodes say goodbye through the tunnels that are still open, then the
    /// balancer ends.
    async fn stop_in_order(&self) {
        let (of_balancer, of_node) = self.plan.stop_max();
        let balancer = self.children.get(BALANCER);
        if let Some(balancer) = balancer {
            // It ends when the nodes have; whatever they still have to say passes through it.
            balancer.stop(of_balancer.max(of_node) + SPARE);
            let _ = timeout(SPARE, self.wait_until_closed(balancer)).await;
        }
        let nodes = || self.children.iter().filter(|(name, _)| *name != BALANCER).map(|(_, child)| child);
        for node in nodes() {
            node.stop(of_node + SPARE);
        }
        for node in nodes() {
            node.gone().await;
        }
        if let Some(balancer) = balancer {
            balancer.gone().await;
        }
    }

    /// Completes when nobody can connect to the public endpoint.
    async fn wait_until_closed(&self, balancer: &Child) {
        let Some(address) = self.plan.listeners.http.or(self.plan.listeners.https) else { return };
        let closed = async {
            while tokio::net::TcpStream::connect(reachable(address)).await.is_ok() {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = closed => {}
            () = balancer.gone() => {}
        }
    }
}

/// The address that somebody on this machine connects to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        reachable.set_ip(loopback);
    }
    reachable
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signals,
    interrupt: Signals,
    last: Option<Instant>,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt, last: None })
    }

    /// Completes at the next signal that is not an echo of the last one.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            let is_echo = self.last.is_some_and(|last| last.elapsed() < ECHO);
            self.last.get_or_insert_with(Instant::now);
            if !is_echo {
                return;
            }
        }
    }
}
