//! One child process, started again with back-off when it dies.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::child_log;
use crate::lease::Lease;
use crate::leftovers::PidFile;
use crate::sockets::PublicSockets;

/// What a child is and where it leaves its traces.
#[derive(Clone)]
pub(crate) struct Spec {
    /// Its name in logs and commands, and of its pid file.
    pub(crate) name: String,
    /// Finds the program, at each start anew: a newer one may have taken its place.
    pub(crate) executable: Arc<dyn Fn() -> PathBuf + Send + Sync>,
    pub(crate) arguments: Vec<String>,
    /// Where its pid file goes.
    pub(crate) run: PathBuf,
    /// Where what it says goes, as `name.log`.
    pub(crate) logs: PathBuf,
    /// The sockets that it accepts from; it finds them at its standard input.
    pub(crate) sockets: Option<Arc<PublicSockets>>,
    /// For a node: what it owns its sessions by. A child with a lease that ends with exit code 0 has given its sessions up and
    /// is done; any other end of a child that was not ordered to end is a death.
    pub(crate) leases: Option<Arc<dyn crate::Leases>>,
}

/// What a child shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    /// Run on, but leave the name to a successor that is about to start.
    MakeWay,
    /// Finish what it has, then end.
    Retire,
    /// Stop in order; by force after this time.
    Stop(Duration),
    /// Stop at once.
    Kill,
}

/// How far a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// It runs, or is about to.
    #[default]
    Running,
    /// It died and is started again soon.
    Waiting,
    /// A successor has taken its place; it ends with what it still has.
    Retired,
    /// It was told to stop.
    Stopping,
    /// It has stopped, as it was told.
    Stopped,
    /// It was drained, and has ended by itself.
    Drained,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retired => "retired",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Drained => "drained",
        }
    }

    /// Whether nothing of the child is left.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Drained)
    }
}

/// A child at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    /// `None` while no process runs. Written by the task that reaps the process, on the thread that all tasks share: a process
    /// id read here, and used before anything is awaited, is never that of a stranger.
    pub(crate) pid: Option<Pid>,
    /// When that process was started.
    pub(crate) started: Option<Instant>,
    /// How often it has died by itself.
    pub(crate) deaths: u32,
}

/// A child that is kept running. Dropping it kills the process.
pub(crate) struct Child {
    spec: Spec,
    order: watch::Sender<Order>,
    status: watch::Receiver<Status>,
}

impl Child {
    /// Starts the child and keeps it running. Call it within the supervisor's runtime.
    pub(crate) fn start(spec: Spec) -> Self {
        let (order, orders) = watch::channel(Order::Run);
        let (sender, status) = watch::channel(Status::default());
        let keeper = Keeper { spec: spec.clone(), orders, status: sender };
        tokio::spawn(keeper.keep_running());
        Self { spec, order, status }
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How it is.
    pub(crate) fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Learns how it is from here on.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Sends `signal`, if the child runs at this moment.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.status().pid {
            // The child may be dead and not yet reaped; then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// Lets a successor of the same name start beside it. [`Self::keep_name`] takes this back, [`Self::retire`] completes it.
    pub(crate) fn make_way(&self) {
        self.order.send_replace(Order::MakeWay);
    }

    /// The successor did not get up: goes on as before.
    pub(crate) fn keep_name(&self) {
        self.order.send_replace(Order::Run);
    }

    /// Tells the child, by SIGUSR2, to take nothing more and to end with what it has.
    pub(crate) fn retire(&self) {
        self.order.send_replace(Order::Retire);
    }

    /// Tells the child to stop in order, and by force after `within`. Returns at once.
    pub(crate) fn stop(&self, within: Duration) {
        self.order.send_replace(Order::Stop(within));
    }

    /// Stops the child at once.
    pub(crate) fn kill(&self) {
        self.order.send_replace(Order::Kill);
    }

    /// Returns a future that completes when nothing is left of the child: it has stopped as it was told, or has ended by
    /// itself for good.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let order = self.order.clone();
        async move { order.closed().await }
    }
}

/// How a process came to its end.
enum End {
    /// By itself.
    Alone(Option<ExitStatus>),
    /// By an order, and so for good.
    Ordered,
}

/// The task behind a child.
struct Keeper {
    spec: Spec,
    orders: watch::Receiver<Order>,
    status: watch::Sender<Status>,
}

impl Keeper {
    /// The life of a child: start, wait for its death, wait a little, start again; until an order or the child itself ends it.
    async fn keep_running(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let started = Instant::now();
            let reason = match self.run_once(started).await {
                Ok(End::Ordered) => return self.enter(Phase::Stopped),
                Ok(End::Alone(status)) => {
                    let is_well = status.is_some_and(|status| status.success());
                    if is_well && self.spec.leases.is_some() {
                        tracing::info!(child = self.spec.name, "{} was drained and has ended", self.spec.name);
                        return self.enter(Phase::Drained);
                    }
                    // Its successor does its work.
                    if *self.orders.borrow() != Order::Run {
                        return self.enter(Phase::Stopped);
                    }
                    status.map_or_else(|| "ended".to_owned(), how_it_ended)
                }
                Err(error) => format!("cannot be started: {error}"),
            };
            let wait = backoff.died(started, Instant::now());
            self.status.send_modify(|status| {
                status.phase = Phase::Waiting;
                status.deaths += 1;
            });
            tracing::warn!(
                child = self.spec.name,
                log = %self.spec.log_file().display(),
                "{} {reason}; it is started again in {} ms",
                self.spec.name,
                wait.as_millis()
            );
            let ordered = self.orders.wait_for(|order| *order != Order::Run);
            if tokio::time::timeout(wait, ordered).await.is_ok() {
                return self.enter(Phase::Stopped);
            }
        }
    }

    /// Runs the child's process once, to its end.
    async fn run_once(&mut self, started: Instant) -> io::Result<End> {
        let lease = self.spec.leases.as_ref().map(|leases| Lease::draw(&self.spec.name, leases)).transpose()?;
        let mut process = self.spec.spawn(lease.as_ref())?;
        let pid = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let raw_pid = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
        let mut pid_file = PidFile::write(&self.spec.run, &self.spec.name, raw_pid)
            .inspect_err(|error| {
                tracing::warn!(child = self.spec.name, "{error:#}; a later supervisor cannot clean it up");
            })
            .ok();
        self.status.send_modify(|status| {
            *status = Status { phase: Phase::Running, pid, started: Some(started), deaths: status.deaths };
        });
        let end = self.attend(&mut process, raw_pid, &mut pid_file).await;
        drop(pid_file);
        self.status.send_modify(|status| (status.pid, status.started) = (None, None));
        if let Some(lease) = lease {
            lease.end().await;
        }
        Ok(end)
    }

    /// Waits for the process's own end, and carries orders out meanwhile.
    async fn attend(&mut self, process: &mut Process, pid: i32, pid_file: &mut Option<PidFile>) -> End {
        loop {
            // The sender is dropped with the supervisor, which then wants no child either.
            let order = if self.orders.has_changed().is_ok() { *self.orders.borrow_and_update() } else { Order::Kill };
            let own_name = format!("{}-{pid}", self.spec.name);
            match order {
                Order::Run => rename(pid_file, &self.spec.name),
                Order::MakeWay => rename(pid_file, &own_name),
                Order::Retire => {
                    self.enter(Phase::Retired);
                    signal(process, Signal::USR2);
                }
                Order::Stop(within) => {
                    self.enter(Phase::Stopping);
                    self.stop(process, within).await;
                    return End::Ordered;
                }
                Order::Kill => {
                    let _ = process.kill().await;
                    return End::Ordered;
                }
            }
            tokio::select! {
                status = process.wait() => return End::Alone(status.ok()),
                _ = self.orders.changed() => {}
            }
        }
    }

    /// Tells the process to stop, and kills it when it does not within this time.
    async fn stop(&mut self, process: &mut Process, within: Duration) {
        signal(process, Signal::TERM);
        tokio::select! {
            _ = process.wait() => return,
            () = tokio::time::sleep(within) => {
                tracing::warn!(child = self.spec.name, "{} did not stop in {within:?} and is killed", self.spec.name);
            }
            _ = self.orders.wait_for(|order| *order == Order::Kill) => {}
        }
        let _ = process.kill().await;
    }

    fn enter(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }
}

fn rename(pid_file: &mut Option<PidFile>, name: &str) {
    if let Some(file) = pid_file
        && let Err(error) = file.rename(name)
    {
        tracing::warn!("{error:#}; a later supervisor cannot clean {name} up");
    }
}

fn signal(process: &Process, signal: Signal) {
    if let Some(pid) = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, signal);
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

impl Spec {
    pub(crate) fn log_file(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    /// The program that the next start runs, and its arguments, as an operator reads them.
    pub(crate) fn command(&self) -> String {
        let program = (self.executable)();
        let words = program.file_name().map(|name| name.to_string_lossy().into_owned());
        let role = self.arguments.first().cloned();
        words.into_iter().chain(role).collect::<Vec<_>>().join(" ")
    }

    fn spawn(&self, lease: Option<&Lease>) -> io::Result<Process> {
        let log = child_log::open(&self.log_file())?;
        let mut command = Command::new((self.executable)());
        command.args(&self.arguments).arg("--supervisor").arg(std::process::id().to_string());
        if let Some(lease) = lease {
            command.arg("--incarnation").arg(lease.incarnation().to_string());
        }
        let stdin = match &self.sockets {
            Some(sockets) => sockets.hand_over()?.into(),
            None => Stdio::null(),
        };
        command.stdin(stdin).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        // Ctrl-C reaches the terminal's whole process group, but the order of a stop is the supervisor's to keep.
        command.as_std_mut().process_group(0);
        command.spawn()
    }
}

/// For the start of a child: it is told to stop when its supervisor dies. Fails where the supervisor `pid` is dead
/// already. Call it on the main thread.
///
/// The kernel sends the signal when the *thread* ends that started the child; the supervisor starts its children on its
/// main thread, whose end is that of the process.
pub fn die_with_parent(pid: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    anyhow::ensure!(parent == Some(pid), "the supervisor, process {pid}, is dead");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn spec(folder: &Path, script: &str) -> Spec {
        Spec {
            name: "child".into(),
            executable: Arc::new(|| "/bin/sh".into()),
            arguments: vec!["-c".into(), script.into()],
            run: folder.into(),
            logs: folder.into(),
            sockets: None,
            leases: None,
        }
    }

    async fn wait_for_text(path: &Path, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(path).unwrap_or_default().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} never stood in {}", path.display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_child_that_dies_is_started_again_and_what_it_says_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let child = Child::start(spec(folder.path(), "echo born; exit 3"));
        wait_for_text(&folder.path().join("child.log"), "born\nborn\n").await;
        assert!(child.status().deaths >= 1);
        child.stop(Duration::from_secs(5));
        child.gone().await;
        assert!(!folder.path().join("child.pid").exists());
    }

    #[tokio::test]
    async fn a_child_may_say_goodbye_before_it_stops() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo goodbye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let child = Child::start(spec(folder.path(), script));
        let log = folder.path().join("child.log");
        wait_for_text(&log, "up").await;
        child.stop(Duration::from_secs(20));
        child.gone().await;
        assert!(fs::read_to_string(&log).unwrap().contains("goodbye"));
        assert_eq!(child.status().deaths, 0);
    }

    #[tokio::test]
    async fn a_child_that_does_not_stop_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let child = Child::start(spec(folder.path(), "trap '' TERM; echo up; while :; do sleep 0.05; done"));
        wait_for_text(&folder.path().join("child.log"), "up").await;
        child.stop(Duration::from_millis(100));
        tokio::time::timeout(Duration::from_secs(20), child.gone()).await.expect("the child is killed");
    }
}
