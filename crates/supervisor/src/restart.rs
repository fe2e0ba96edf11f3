//! Starting, stopping and restarting one child after the other, without ending a session.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Pid;
use tokio::time::{Instant, sleep};

use crate::child::Phase;
use crate::edge::{BALANCER, Edge, LOOK, SPARE, View, number};

/// How often a long wait tells how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Who is told how far it is.
pub(crate) type Tell<'t> = &'t (dyn Fn(String) + Send + Sync);

impl Edge {
    /// Starts `name`, or everything that is over. Completes when it serves.
    pub(crate) async fn start_named(&self, name: Option<&str>, tell: Tell<'_>) -> anyhow::Result<()> {
        let over: Vec<_> = self.named(name)?.into_iter().filter(|name| self.is_over(name)).collect();
        if over.is_empty() {
            tell(name.map_or("everything runs".to_owned(), |name| format!("{name} runs")));
        }
        for name in &over {
            self.start(name)?;
        }
        for name in &over {
            self.wait_until_serving(name).await?;
            tell(format!("{name} serves"));
        }
        Ok(())
    }

    /// Stops `name` in order. It stays stopped until it is told to start.
    pub(crate) async fn stop_named(&self, name: &str, tell: Tell<'_>) -> anyhow::Result<()> {
        self.check_name(name)?;
        if self.is_over(name) {
            tell(format!("{name} was stopped already"));
            return Ok(());
        }
        if name == BALANCER {
            // Clients shall be refused while there is no balancer, not wait for one.
            self.close_sockets();
        }
        self.stop_child(name).await;
        tell(format!("{name} has stopped"));
        Ok(())
    }

    /// Restarts `name`, or everything that is neither stopped nor drained nor being drained, one after the other. Fails at the
    /// first that does not come back; what comes after it is left alone.
    pub(crate) async fn restart_named(&self, name: Option<&str>, tell: Tell<'_>) -> anyhow::Result<()> {
        let names = self.named(name)?;
        let is_everything = name.is_none();
        for (index, name) in names.iter().enumerate() {
            if is_everything && self.is_let_be(name, tell).await? {
                continue;
            }
            let restarted = match name.as_str() {
                BALANCER => self.replace_balancer(tell).await,
                node => self.restart_node(node, tell).await,
            };
            restarted.with_context(|| match names[index + 1..].join(", ") {
                untouched if untouched.is_empty() => format!("{name} was not restarted"),
                untouched => format!("{name} was not restarted, and these were left alone: {untouched}"),
            })?;
        }
        Ok(())
    }

    fn named(&self, name: Option<&str>) -> anyhow::Result<Vec<String>> {
        name.map_or_else(|| Ok(self.names()), |name| self.check_name(name).map(|()| vec![name.to_owned()]))
    }

    /// What an operator has stopped or drained, or is draining at this moment, stays so until it is told to start.
    async fn is_let_be(&self, name: &str, tell: Tell<'_>) -> anyhow::Result<bool> {
        if name == BALANCER || self.is_over(name) {
            return Ok(self.is_over(name));
        }
        let ready_max = self.plan().settings.restart().ready;
        let seeing = async {
            loop {
                match self.view().await {
                    Some(view) => return view,
                    None => sleep(LOOK).await,
                }
            }
        };
        let view = tokio::time::timeout(ready_max, seeing).await;
        let view = view.context("the balancer does not answer: nobody knows what is being drained")?;
        let is_draining = view.nodes.get(name).is_some_and(|seen| seen.state == "draining");
        if is_draining {
            tell(format!("{name} is being drained and is left alone"));
        }
        Ok(is_draining)
    }

    fn is_over(&self, name: &str) -> bool {
        self.with(name, |child| child.status().phase.is_over()).unwrap_or(true)
    }

    /// Tells the child to stop, and waits until it has.
    pub(crate) async fn stop_child(&self, name: &str) {
        let (of_balancer, of_node) = self.plan().stop_max();
        let within = if name == BALANCER { of_balancer } else { of_node } + SPARE;
        let gone = self.with(name, |child| {
            child.stop(within);
            child.gone()
        });
        if let Some(gone) = gone {
            gone.await;
        }
    }

    /// The node gives its sessions to the others, ends, and is started again.
    async fn restart_node(&self, name: &str, tell: Tell<'_>) -> anyhow::Result<()> {
        if let Some(pid) = self.pid(name) {
            tell(format!("{name} hands its sessions over"));
            match self.hand_over(name, pid, tell).await {
                Ok(()) => {}
                Err(error) => {
                    tell(format!("{name} is stopped: {error:#}"));
                    self.stop_child(name).await;
                }
            }
        }
        // A node that died meanwhile comes back by itself.
        if self.is_over(name) {
            self.start(name)?;
        }
        self.wait_until_serving(name).await?;
        tell(format!("{name} serves"));
        Ok(())
    }

    /// Lets the node's process `pid` hand over what it has, and waits for its end. Fails where it cannot be told, or has handed
    /// nothing over for too long.
    async fn hand_over(&self, name: &str, pid: Pid, tell: Tell<'_>) -> anyhow::Result<()> {
        let answer = self.ask("POST", format!("/nodes/{name}/drain?now=true&exit=true&restart=true")).await?;
        anyhow::ensure!(
            answer.status == 200,
            "it cannot be told to hand over: the balancer answered {}",
            answer.status
        );
        let handoff_max = self.plan().settings.restart().handoff;
        let ended = async {
            let Some(mut status) = self.with(name, crate::child::Child::watch) else { return };
            // An error means that the child is over.
            let _ = status.wait_for(|status| status.pid != Some(pid)).await;
            // Its lease is being ended; the child's task says how it went on only after that.
            let _ = status.wait_for(|status| status.phase != Phase::Running || status.pid.is_some()).await;
        };
        let mut progress = Progress::begin(Instant::now());
        let sticking = async {
            while !progress.sticks(handoff_max, Instant::now()) {
                sleep(TOLD_EVERY.min(handoff_max)).await;
                if let Some(seen) = self.view().await.and_then(|view| view.nodes.get(name).cloned()) {
                    tell(format!("{name} has {} sessions and {} peers left", seen.sessions, seen.peers));
                    progress.left(seen.sessions, Instant::now());
                }
            }
        };
        tokio::select! {
            () = ended => Ok(()),
            () = sticking => bail!("it has handed nothing over for {}", written(handoff_max)),
        }
    }

    /// The balancer is replaced by a second one that accepts from the same sockets; the first keeps the tunnels that it has.
    async fn replace_balancer(&self, tell: Tell<'_>) -> anyhow::Result<()> {
        let Some(old_pid) = self.pid(BALANCER) else {
            if self.is_over(BALANCER) {
                self.start(BALANCER)?;
            }
            self.wait_until_serving(BALANCER).await?;
            tell(format!("{BALANCER} serves"));
            return Ok(());
        };
        self.with(BALANCER, crate::child::Child::make_way);
        tell("a second balancer starts".to_owned());
        let old = self.succeed(BALANCER)?.context("there is no balancer")?;
        let serving = self.wait_until_serving(BALANCER).await;
        if let Err(error) = serving {
            return self.keep_balancer(old, error).await;
        }
        self.retire(old);
        let time_max = self.plan().settings.retire_max();
        tell(format!(
            "{BALANCER} serves; the one before, process {}, keeps its tunnels until they end, at most for {}",
            number(old_pid),
            written(time_max)
        ));
        Ok(())
    }

    /// The second balancer did not get up: the first goes on.
    async fn keep_balancer(&self, old: crate::child::Child, error: anyhow::Error) -> anyhow::Result<()> {
        if old.status().phase.is_over() {
            bail!("{error:#}\nThe balancer before has ended meanwhile; starting another goes on");
        }
        self.stop_child(BALANCER).await;
        old.keep_name();
        self.put_back(old);
        Err(error.context("the balancer before goes on"))
    }

    /// Completes when the balancer says so of the process that runs as `name` at that moment.
    async fn wait_until_serving(&self, name: &str) -> anyhow::Result<()> {
        let ready_max = self.plan().settings.restart().ready;
        let begun = Instant::now();
        loop {
            if let (Some(pid), Some(view)) = (self.pid(name).map(number), self.view().await) {
                let is_serving = match name {
                    BALANCER => view.balancer_pid == Some(pid) && self.all_seen(&view),
                    node => view.nodes.get(node).is_some_and(|seen| seen.is_serving() && seen.pid == Some(pid)),
                };
                if is_serving {
                    return Ok(());
                }
            }
            self.check_deaths(name)?;
            if begun.elapsed() >= ready_max {
                bail!("{name} does not serve after {} s; {}", ready_max.as_secs(), self.log_end(name));
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the view knows of every node of ours that runs that it does.
    fn all_seen(&self, view: &View) -> bool {
        let runs = |name: &String| self.pid(name).is_some();
        let is_up = |name: &String| view.nodes.get(name).is_some_and(|seen| seen.state != "down");
        self.names().iter().filter(|name| *name != BALANCER && runs(name)).all(is_up)
    }
}

/// Whether a node that hands its sessions over gets on with it. Many sessions take their time, at the pace of
/// `node.drain.handoffs_per_second`; whoever stopped the node meanwhile would end what could have been handed over.
struct Progress {
    fewest: u64,
    since: Instant,
}

impl Progress {
    fn begin(now: Instant) -> Self {
        Self { fewest: u64::MAX, since: now }
    }

    fn left(&mut self, sessions: u64, now: Instant) {
        if sessions < self.fewest {
            (self.fewest, self.since) = (sessions, now);
        }
    }

    fn sticks(&self, time_max: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= time_max
    }
}

fn written(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 3600 && seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_take_as_long_as_it_hands_sessions_over() {
        let (begun, time_max) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut progress = Progress::begin(begun);
        for seconds in 1..60 {
            progress.left(100 - seconds, at(seconds));
            assert!(!progress.sticks(time_max, at(seconds)));
        }
        // What comes and goes is no progress.
        for seconds in 60..69 {
            progress.left(41 + seconds % 2, at(seconds));
        }
        assert!(!progress.sticks(time_max, at(68)));
        assert!(progress.sticks(time_max, at(69)));
    }

    #[test]
    fn a_node_of_which_nothing_is_seen_gets_no_more_time() {
        let begun = Instant::now();
        let progress = Progress::begin(begun);
        assert!(!progress.sticks(Duration::from_secs(1), begun));
        assert!(progress.sticks(Duration::from_secs(1), begun + Duration::from_secs(1)));
        assert!(progress.sticks(Duration::ZERO, begun));
    }
}
