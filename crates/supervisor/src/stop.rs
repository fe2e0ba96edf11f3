//! The end of `ctedge up`: everything stops in order, or at once at the next signal, and whoever ordered it is told how far it is.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, interval_at, timeout};

use crate::child::Child;
use crate::control::{Line, Lines};
use crate::edge::{Edge, SPARE};

/// Some tools signal a process and then its whole group: what comes this soon after the first signal is the same order.
const ECHO: Duration = Duration::from_millis(500);

/// How often whoever ordered the stop is told what it waits for.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// How a supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything stopped in order.
    InOrder,
    /// A second signal stopped everything at once.
    AtOnce,
}

/// A stop of everything.
pub(crate) struct Stop<'e> {
    edge: &'e Edge,
    /// The commands that ordered it.
    told: Vec<Lines>,
}

impl<'e> Stop<'e> {
    pub(crate) fn of(edge: &'e Edge) -> Self {
        Self { edge, told: Vec::new() }
    }

    /// Lets one more command know how far it is.
    pub(crate) fn tell_also(&mut self, lines: Lines) {
        let (of_balancer, of_node) = self.edge.plan().stop_max();
        // Nodes are given their time after the public endpoint was, and the balancers outlive them by theirs.
        let longest = SPARE + of_balancer.max(of_node) + SPARE;
        let _ = lines.send(Line::Progress(format!(
            "everything stops, and what has not stopped by itself is killed: at most {} s",
            longest.as_secs()
        )));
        self.told.push(lines);
    }

    /// Stops everything. Completes when no process is left and everybody who ordered it has been told so.
    pub(crate) async fn run(mut self, signals: &mut StopSignals, orders: &mut Receiver<Lines>) -> Stopped {
        for change in self.edge.changes.lock().drain(..) {
            change.abort();
        }
        self.edge.say("Stopping; a second signal stops everything at once");
        // Nothing is started from here on.
        let changing = self.edge.changing.lock();
        let in_order = async {
            let _held = changing.await;
            stop_in_order(self.edge).await;
            Stopped::InOrder
        };
        tokio::pin!(in_order);
        let mut telling = interval_at(Instant::now() + TOLD_EVERY, TOLD_EVERY);
        let stopped = loop {
            tokio::select! {
                stopped = &mut in_order => break stopped,
                () = signals.next() => {
                    self.edge.each(|child, _| child.kill());
                    for gone in self.edge.each(|child, _| child.gone()) {
                        gone.await;
                    }
                    break Stopped::AtOnce;
                }
                Some(lines) = orders.recv() => self.tell_also(lines),
                _ = telling.tick() => self.tell(&format!("waiting for {}", left(self.edge).join(", "))),
            }
        };
        let last = match stopped {
            Stopped::InOrder => "stopped",
            Stopped::AtOnce => "stopped at once",
        };
        self.edge.say(last);
        self.tell(last);
        let processes = self.edge.processes();
        for lines in &self.told {
            let _ = lines.send(Line::Done { processes: processes.clone(), reloaded: None });
        }
        for lines in self.told {
            // It is written, or nobody reads it.
            let _ = timeout(SPARE, lines.closed()).await;
        }
        stopped
    }

    fn tell(&self, text: &str) {
        for lines in &self.told {
            // Whoever asked may be gone.
            let _ = lines.send(Line::Progress(text.to_owned()));
        }
    }
}

/// The processes that still run.
fn left(edge: &Edge) -> Vec<String> {
    edge.processes().into_iter().filter(|process| process.pid.is_some()).map(|process| process.uid).collect()
}

/// The balancers stop accepting, then the nodes say goodbye through the tunnels that are still open, then the balancers end.
async fn stop_in_order(edge: &Edge) {
    let (of_balancer, of_node) = edge.plan().stop_max();
    let is_node = |child: &Child| child.spec().leases.is_some();
    let gone = |of_nodes: bool| edge.each(|child, _| (is_node(child) == of_nodes).then(|| child.gone()));

    edge.close_sockets();
    edge.each(|child, _| {
        if !is_node(child) {
            // It ends when the nodes have; whatever they still have to say passes through it.
            child.stop(of_balancer.max(of_node) + SPARE);
        }
    });
    let _ = timeout(SPARE, edge.wait_until_closed()).await;
    edge.each(|child, _| {
        if is_node(child) {
            child.stop(of_node + SPARE);
        }
    });
    for of_nodes in [true, false] {
        for gone in gone(of_nodes).into_iter().flatten() {
            gone.await;
        }
    }
}

/// SIGTERM and SIGINT.
pub(crate) struct StopSignals {
    terminate: Signals,
    interrupt: Signals,
    last: Option<Instant>,
}

impl StopSignals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt, last: None })
    }

    /// Completes at the next signal that is not an echo of the last one.
    pub(crate) async fn next(&mut self) {
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
