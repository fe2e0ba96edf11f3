//! What runs on this machine: the plan and the children, shared by everything that acts on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use ctedge_settings::Settings;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::admin::{AdminClient, Answer};
use crate::child::{Child, Spec};
use crate::child_log;
use crate::data::DataFolder;
use crate::lease::Leases;
use crate::plan::{Load, Plan, Settler};
use crate::reload::History;
use crate::sockets::PublicSockets;

/// The balancer's name among the children.
pub(crate) const BALANCER: &str = "balancer";

/// How often something that is waited for is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long one question to a child may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What a child gets beyond its own bound before it is killed, so that it is its own bound that counts.
pub(crate) const SPARE: Duration = Duration::from_secs(2);

/// A child that dies this often while somebody waits for it will not get better by itself.
pub(crate) const DEATHS_MAX: u32 = 3;

/// Balancers that were replaced and still have tunnels. With one more the oldest is told to stop: it sends its clients away.
const RETIRED_MAX: usize = 4;

/// Lines of a log that a failure shows.
const LOG_LINES_SHOWN: usize = 5;

/// What the supervisor needs from outside.
pub struct Surroundings {
    /// Where the settings come from.
    pub load: Box<dyn Load>,
    /// Tells the operator one line.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
    /// Finds the program that children run; asked at each start.
    pub executable: Arc<dyn Fn() -> PathBuf + Send + Sync>,
    /// Ends the leases of dead nodes.
    pub leases: Arc<dyn Leases>,
    /// Opens the supervisor's own log files again, after they were rotated.
    pub reopen_logs: Box<dyn Fn() + Send + Sync>,
}

/// One balancer and its nodes.
pub(crate) struct Edge {
    pub(crate) around: Surroundings,
    pub(crate) data: DataFolder,
    pub(crate) settler: Mutex<Settler>,
    plan: Mutex<Plan>,
    /// What the operator wrote at the start.
    pub(crate) begun_with: Settings,
    /// What children were started with.
    pub(crate) history: Mutex<History>,
    children: Mutex<BTreeMap<String, Child>>,
    /// Balancers that were replaced and still have tunnels.
    retired: Mutex<Vec<Child>>,
    sockets: Arc<PublicSockets>,
    /// Held by whoever changes what runs: a reload, a restart, an order to start or stop.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// The changes of this moment, to be given up when everything stops.
    pub(crate) changes: Mutex<Vec<AbortHandle>>,
}

/// A node as the balancer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state: String,
    pub(crate) pid: Option<i64>,
    pub(crate) sessions: u64,
    pub(crate) peers: u64,
}

/// The balancer's view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The process that answered.
    pub(crate) balancer_pid: Option<i64>,
    pub(crate) nodes: BTreeMap<String, Seen>,
}

impl Edge {
    pub(crate) fn new(around: Surroundings, data: DataFolder, settler: Settler, plan: Plan) -> Self {
        let mut history = History::default();
        history.push(Instant::now(), plan.wanted.clone(), &[]);
        Self {
            around,
            data,
            settler: Mutex::new(settler),
            begun_with: plan.wanted.clone(),
            history: Mutex::new(history),
            plan: Mutex::new(plan),
            children: Mutex::default(),
            retired: Mutex::default(),
            sockets: Arc::default(),
            changing: tokio::sync::Mutex::default(),
            changes: Mutex::default(),
        }
    }

    pub(crate) fn say(&self, line: &str) {
        (self.around.say)(line);
    }

    pub(crate) fn plan(&self) -> Plan {
        self.plan.lock().clone()
    }

    /// Goes on with `plan`, which children that are started from here on read.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let started: Vec<_> = self.each(|child, _| child.status().started).into_iter().flatten().collect();
        self.history.lock().push(Instant::now(), plan.wanted.clone(), &started);
        *self.plan.lock() = plan;
    }

    /// Names of everything that belongs to this edge: the nodes by number, then the balancer. A restart goes in this order, so
    /// that the balancer goes last.
    pub(crate) fn names(&self) -> Vec<String> {
        let plan = self.plan.lock();
        let mut nodes: Vec<_> = plan.nodes.keys().cloned().collect();
        // `node-10` comes after `node-9`.
        nodes.sort_by_key(|name| (name.len(), name.clone()));
        nodes.into_iter().chain([BALANCER.to_owned()]).collect()
    }

    /// Fails for a name that is none of [`Self::names`].
    pub(crate) fn check_name(&self, name: &str) -> anyhow::Result<()> {
        let names = self.names();
        if !names.iter().any(|known| known == name) {
            bail!("there is no process {name:?} on this machine; there are: {}", names.join(", "));
        }
        Ok(())
    }

    /// Starts the child `name`, in the place of one that is over.
    pub(crate) fn start(&self, name: &str) -> anyhow::Result<()> {
        let child = Child::start(self.spec(name)?);
        self.children.lock().insert(name.to_owned(), child);
        Ok(())
    }

    fn spec(&self, name: &str) -> anyhow::Result<Spec> {
        let config = self.data.effective_file().to_string_lossy().into_owned();
        let (arguments, sockets, leases) = if name == BALANCER {
            self.sockets.open(&self.plan.lock().listeners)?;
            (
                vec!["balancer".into(), "--config".into(), config, "--inherit".into()],
                Some(Arc::clone(&self.sockets)),
                None,
            )
        } else {
            let arguments = vec!["node".into(), "--config".into(), config, "--id".into(), name.to_owned()];
            (arguments, None, Some(Arc::clone(&self.around.leases)))
        };
        Ok(Spec {
            name: name.to_owned(),
            executable: Arc::clone(&self.around.executable),
            arguments,
            run: self.data.run(),
            logs: self.data.logs(),
            sockets,
            leases,
        })
    }

    /// Lets go of the public sockets, so that clients are refused as soon as the balancer closes its own.
    pub(crate) fn close_sockets(&self) {
        self.sockets.close();
    }

    /// Looks at the child `name`, if there ever was one.
    pub(crate) fn with<T>(&self, name: &str, look: impl FnOnce(&Child) -> T) -> Option<T> {
        self.children.lock().get(name).map(look)
    }

    /// Looks at every child, those of names first.
    pub(crate) fn each<T>(&self, mut look: impl FnMut(&Child, bool) -> T) -> Vec<T> {
        let children = self.children.lock();
        let retired = self.retired.lock();
        let current = children.values().map(|child| (child, false));
        current.chain(retired.iter().map(|child| (child, true))).map(|(child, retired)| look(child, retired)).collect()
    }

    /// Puts a second child of the name `name` in the place of the first, and returns the first.
    pub(crate) fn succeed(&self, name: &str) -> anyhow::Result<Option<Child>> {
        let child = Child::start(self.spec(name)?);
        Ok(self.children.lock().insert(name.to_owned(), child))
    }

    /// Puts `child` into its place, and returns the one that had it.
    pub(crate) fn put_back(&self, child: Child) -> Option<Child> {
        let name = child.spec().name.clone();
        self.children.lock().insert(name, child)
    }

    /// Keeps `child` for as long as it has something left, and no more such children than [`RETIRED_MAX`].
    pub(crate) fn retire(&self, child: Child) {
        let (of_balancer, _) = self.plan().stop_max();
        let mut retired = self.retired.lock();
        retired.retain(|child| !child.status().phase.is_over());
        child.retire();
        retired.push(child);
        for oldest in retired.iter().take(retired.len().saturating_sub(RETIRED_MAX)) {
            oldest.stop(of_balancer + SPARE);
        }
    }

    /// Forgets the child `name`.
    pub(crate) fn remove(&self, name: &str) {
        self.children.lock().remove(name);
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        self.with(name, |child| child.signal(signal));
    }

    pub(crate) fn pid(&self, name: &str) -> Option<Pid> {
        self.with(name, |child| child.status().pid).flatten()
    }

    /// Fails when the child `name` does not get up, with the end of what it said.
    pub(crate) fn check_deaths(&self, name: &str) -> anyhow::Result<()> {
        if self.with(name, |child| child.status().deaths).unwrap_or(0) < DEATHS_MAX {
            return Ok(());
        }
        bail!("{name} does not stay up; {}", self.log_end(name))
    }

    /// The end of what the child `name` said.
    pub(crate) fn log_end(&self, name: &str) -> String {
        let log = self.data.logs().join(format!("{name}.log"));
        let lines = child_log::last_lines(&log, LOG_LINES_SHOWN);
        let end = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
        format!("the end of its log {}:{end}", log.display())
    }

    /// Sets the logs of children aside that have grown too long.
    pub(crate) async fn bound_logs(&self) {
        let mut logs = self.each(|child, _| child.spec().log_file());
        logs.retain(|log| child_log::is_too_long(log));
        if !logs.is_empty() {
            // The files may be slow to copy; signals are not to wait for them longer than this one does.
            let _ = tokio::task::spawn_blocking(move || child_log::bound_all(&logs)).await;
        }
    }

    /// The balancer's view. `None` while it gives no answer.
    pub(crate) async fn view(&self) -> Option<View> {
        let answer = self.ask("GET", "/status".to_owned()).await.ok()?;
        View::read(&serde_json::from_str(&answer.body).ok()?)
    }

    /// Asks the balancer's admin API.
    pub(crate) async fn ask(&self, method: &'static str, path: String) -> anyhow::Result<Answer> {
        let (address, token) = {
            let plan = self.plan.lock();
            (plan.listeners.admin, plan.settings.admin_token().map(str::to_owned))
        };
        ask(AdminClient::new(reachable(address), token, ANSWER), method, path).await
    }

    /// Completes when nobody can connect to the public endpoint.
    pub(crate) async fn wait_until_closed(&self) {
        let listeners = self.plan.lock().listeners;
        let Some(address) = listeners.http.or(listeners.https) else { return };
        while tokio::net::TcpStream::connect(reachable(address)).await.is_ok() {
            sleep(LOOK).await;
        }
    }
}

impl Seen {
    /// Whether the node does all that it is to do: one that an operator has suspended is not waited for to take sessions.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "suspended")
    }
}

impl View {
    fn read(status: &Value) -> Option<Self> {
        // A node that is not listed keeps its sessions until they are gone.
        let listed = status.get("nodes")?.as_array()?.iter().filter(|node| node["listed"] != false);
        let number = |node: &Value, name: &str| node[name].as_u64().unwrap_or(0);
        let seen = |node: &Value| {
            let state = node["state"].as_str()?.to_owned();
            let (sessions, peers) = (number(node, "sessions"), number(node, "peers"));
            Some((node["id"].as_str()?.to_owned(), Seen { state, pid: node["pid"].as_i64(), sessions, peers }))
        };
        Some(Self { balancer_pid: status["balancer"]["pid"].as_i64(), nodes: listed.filter_map(seen).collect() })
    }

    /// Whether any node takes sessions.
    pub(crate) fn has_ready(&self) -> bool {
        self.nodes.values().any(|node| node.state == "ready")
    }

    /// Whether the node `id` does all that it is to do.
    pub(crate) fn is_serving(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(Seen::is_serving)
    }
}

/// Asks without holding up the thread of the supervisor.
pub(crate) async fn ask(client: AdminClient, method: &'static str, path: String) -> anyhow::Result<Answer> {
    let asked = move || if method == "GET" { client.get(&path) } else { client.post(&path) };
    tokio::task::spawn_blocking(asked).await?
}

/// The address that somebody on this machine connects to.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        reachable.set_ip(loopback);
    }
    reachable
}

/// The process id as the balancer writes it.
pub(crate) fn number(pid: Pid) -> i64 {
    pid.as_raw_nonzero().get().into()
}
