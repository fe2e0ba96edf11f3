//! Reading the settings again while everything runs, and telling what of them is in force.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use ctedge_settings::{Settings, Takes, takes};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::admin::AdminClient;
use crate::edge::{BALANCER, Edge, LOOK, ask, reachable};
use crate::plan::{Plan, carry_out};

/// How long a reload waits for a child that was started, for the balancer to let go of a node, and for a node to say that it
/// has taken the settings over.
const RELOAD_MAX: Duration = Duration::from_secs(10);

/// How long the balancer may take: it reads certificates and resolves names.
const BALANCER_MAX: Duration = Duration::from_secs(30);

/// How long a node may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// What a reload did, by the names of settings and processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Nodes that were started.
    pub nodes_added: Vec<String>,
    /// Nodes that gave their sessions up and ended.
    pub nodes_removed: Vec<String>,
    /// Settings that have changed since they were last read, and are in force.
    pub in_force: Vec<String>,
    /// Settings that differ from those that a process was started with, and that a restart brings into force.
    pub needs_restart: Vec<String>,
    /// Settings that differ from those that everything was started with, and that only a stop and a start of everything
    /// brings into force.
    pub needs_start: Vec<String>,
    /// Processes that did not take the settings over, with the reason.
    pub not_taken: Vec<String>,
}

impl Edge {
    /// Reads the settings again. Wrong ones change nothing, and are the error.
    pub(crate) async fn reload(&self) -> anyhow::Result<Reloaded> {
        let plan = self.settler.lock().plan(self.around.load.as_ref(), &self.data)?;
        carry_out(&plan, &self.data)?;
        let before = self.plan();
        let missing = |of: &Plan, from: &Plan| -> Vec<_> {
            of.nodes.keys().filter(|id| !from.nodes.contains_key(*id)).cloned().collect()
        };
        let (added, removed) = (missing(&plan, &before), missing(&before, &plan));
        let kept: BTreeMap<_, _> = before.nodes.iter().filter(|(id, _)| plan.nodes.contains_key(*id)).collect();
        self.set_plan(plan.clone());

        for id in &added {
            if let Err(error) = self.start(id) {
                tracing::error!("{id} cannot be started: {error:#}");
                continue;
            }
            let _ = timeout(RELOAD_MAX, async {
                while tokio::net::TcpStream::connect(plan.nodes[id]).await.is_err() {
                    sleep(LOOK).await;
                }
            })
            .await;
        }
        let refusal = self.reload_balancer(&before).await.err().map(|reason| format!("{BALANCER}: {reason:#}"));
        for id in &removed {
            // The balancer lets go first, so that no request finds the node gone.
            let _ = timeout(RELOAD_MAX, async {
                while self.view().await.is_none_or(|view| view.nodes.contains_key(id)) {
                    sleep(LOOK).await;
                }
            })
            .await;
            self.stop_child(id).await;
            self.remove(id);
            self.data.forget_suspension(id);
        }
        let silent = self.reload_nodes(&kept).await;

        let changed = plan.wanted.changed_since(&before.wanted).into_iter();
        let is_in_force =
            |setting: &String| takes(setting) == Takes::Reading && (refusal.is_none() || !is_of_balancer(setting));
        let reloaded = Reloaded {
            nodes_added: added,
            nodes_removed: removed,
            in_force: changed.filter(is_in_force).collect(),
            needs_restart: self.needs_restart(&plan.wanted),
            needs_start: self.needs_start(&plan.wanted),
            not_taken: refusal.into_iter().chain(silent).collect(),
        };
        reloaded.log();
        Ok(reloaded)
    }

    /// Lets the balancer read its settings again. One that does not run reads them at its start.
    async fn reload_balancer(&self, before: &Plan) -> anyhow::Result<()> {
        if self.pid(BALANCER).is_none() {
            return Ok(());
        }
        // It asks for the token of the settings that it has.
        let token = before.settings.admin_token().map(str::to_owned);
        let client = AdminClient::new(reachable(before.listeners.admin), token, BALANCER_MAX);
        match ask(client, "POST", "/reload".to_owned()).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => {
                let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                bail!("{}", body["error"].as_str().unwrap_or("it does not say why"))
            }
            Err(error) => {
                self.hang_up(BALANCER);
                Err(error)
            }
        }
    }

    /// Lets the nodes read their settings again. Returns what is to say of those that did not say that they did.
    async fn reload_nodes(&self, nodes: &BTreeMap<&String, &SocketAddr>) -> Vec<String> {
        let mut told = Vec::new();
        for (id, address) in nodes {
            // One that does not run reads them at its start.
            if let Some(pid) = self.pid(id) {
                let before = settings_read(**address).await;
                self.hang_up(id);
                told.push((*id, **address, pid, before.unwrap_or(0)));
            }
        }
        let deadline = Instant::now() + RELOAD_MAX;
        let mut silent = Vec::new();
        for (id, address, pid, before) in told {
            loop {
                if self.pid(id) != Some(pid) || settings_read(address).await.is_some_and(|read| read > before) {
                    break;
                }
                if Instant::now() >= deadline {
                    silent.push(format!(
                        "{id}: it does not say that it read them; `ctedge restart {id}` lets it, and ends no session"
                    ));
                    break;
                }
                sleep(LOOK).await;
            }
        }
        silent
    }

    /// Sends SIGHUP to the child `name` if it knows what that means: one that has just been started, or is of an earlier
    /// version, would end by it. It looks at the file by itself.
    fn hang_up(&self, name: &str) {
        if self.pid(name).is_some_and(|pid| catches(pid, Signal::HUP)) {
            self.signal(name, Signal::HUP);
        }
    }

    /// The settings that are others than those that a running child was started with, and that a restart brings into force.
    fn needs_restart(&self, wanted: &Settings) -> Vec<String> {
        let history = self.history.lock();
        let mut names: Vec<_> = self
            .each(|child, is_retired| {
                let begun_with = child.status().started.and_then(|started| history.at(started))?;
                let is_balancer = child.spec().name == BALANCER;
                let is_its = move |setting: &String| match takes(setting) {
                    Takes::NodeRestart => !is_balancer,
                    Takes::BalancerRestart => is_balancer,
                    Takes::Restart => true,
                    Takes::Reading | Takes::Start => false,
                };
                (!is_retired).then(|| wanted.changed_since(begun_with).into_iter().filter(is_its).collect::<Vec<_>>())
            })
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn needs_start(&self, wanted: &Settings) -> Vec<String> {
        let changed = wanted.changed_since(&self.begun_with);
        changed.into_iter().filter(|setting| takes(setting) == Takes::Start).collect()
    }
}

impl Reloaded {
    fn log(&self) {
        let Self { nodes_added, nodes_removed, in_force, needs_restart, needs_start, not_taken } = self;
        tracing::info!(
            added = ?nodes_added,
            removed = ?nodes_removed,
            ?in_force,
            ?needs_restart,
            ?needs_start,
            "the settings were read again"
        );
        if !needs_restart.is_empty() {
            let names = needs_restart.join(", ");
            tracing::warn!("changed, but not in force before a restart: {names}; `ctedge restart` ends no session");
        }
        if !needs_start.is_empty() {
            let names = needs_start.join(", ");
            tracing::warn!("changed, but not in force before everything is stopped and started again: {names}");
        }
        for process in not_taken {
            tracing::error!("the changed settings were not taken over by {process}");
        }
    }
}

/// Whether it is the balancer that uses the setting.
fn is_of_balancer(setting: &str) -> bool {
    ["balancer", "certificates", "dns", "nodes"].contains(&setting.split('.').next().unwrap_or_default())
}

/// How often the node at `address` has read its settings.
async fn settings_read(address: SocketAddr) -> Option<u64> {
    let answer = ask(AdminClient::new(address, None, ANSWER), "GET", "/ct-health/".to_owned()).await.ok()?;
    serde_json::from_str::<Value>(&answer.body).ok()?["settings_read"].as_u64()
}

/// Whether the process has a handler for the signal (`SigCgt` of proc_pid_status(5)).
fn catches(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught >> (signal.as_raw() - 1) & 1 == 1
}

/// The settings of the last plans, by the time from which on children read them.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<(Instant, Settings)>);

impl History {
    /// Notes what children that are started from here on read, and forgets what no child was started with: `started` is
    /// when those were that run.
    pub(crate) fn push(&mut self, now: Instant, settings: Settings, started: &[Instant]) {
        self.0.push((now, settings));
        let used: Vec<_> = started.iter().filter_map(|started| self.index_at(*started)).collect();
        let last = self.0.len() - 1;
        let mut index = 0;
        self.0.retain(|_| {
            index += 1;
            index - 1 == last || used.contains(&(index - 1))
        });
    }

    /// What a child read that was started at that time.
    fn at(&self, started: Instant) -> Option<&Settings> {
        self.index_at(started).map(|index| &self.0[index].1)
    }

    fn index_at(&self, started: Instant) -> Option<usize> {
        self.0.iter().rposition(|(from, _)| *from <= started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_was_started_with_is_remembered_for_as_long_as_it_runs() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let settings = |nodes| ctedge_settings::parse_with(&format!("[up]\nnodes = {nodes}"), []).unwrap();
        let mut history = History::default();
        for second in 0..10 {
            history.push(at(10 * second), settings(second), &[at(25), at(59)]);
        }
        let nodes = |second| history.at(at(second)).map(|settings| settings.up().nodes);
        assert_eq!((nodes(25), nodes(59), nodes(95)), (Some(2), Some(5), Some(9)));
        assert_eq!(history.0.len(), 3);
    }

    #[test]
    fn a_process_that_does_not_expect_a_signal_is_told_from_one_that_does() {
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&sleeper);
        assert!(!catches(pid, Signal::HUP));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        // The standard library ignores SIGPIPE and catches SIGSEGV.
        assert!(catches(rustix::process::getpid(), Signal::SEGV));
        assert!(!catches(rustix::process::getpid(), Signal::PIPE));
    }
}
