//! One child process, started again with back-off when it dies.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::leftovers::PidFile;

/// A child's log is set aside when it is this long at the child's start.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a child is and where it leaves its traces.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Its name in logs and commands, and of its pid file.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Where its pid file goes.
    pub(crate) run: PathBuf,
    /// Where what it says goes, as `name.log`.
    pub(crate) logs: PathBuf,
}

/// What a child shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    /// Stop in order; by force after this time.
    Stop(Duration),
    /// Stop at once.
    Kill,
}

/// A child that is kept running. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    order: watch::Sender<Order>,
    /// 0 while none runs. Written by the task that reaps the process, on the thread that all tasks share: a process id
    /// read here is never that of a stranger.
    pid: Arc<AtomicI32>,
    deaths: Arc<AtomicU32>,
}

impl Child {
    /// Starts the child and keeps it running. Call it within the supervisor's runtime.
    pub(crate) fn start(spec: Spec) -> Self {
        let (order, orders) = watch::channel(Order::Run);
        let (pid, deaths) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicU32::new(0)));
        tokio::spawn(keep_running(spec, orders, Arc::clone(&pid), Arc::clone(&deaths)));
        Self { order, pid, deaths }
    }

    /// How often it has died by itself.
    pub(crate) fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Sends `signal`, if the child runs at this moment.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid.load(Ordering::Relaxed)).filter(|pid| !pid.is_init()) {
            // The child may be dead and not yet reaped; then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// Tells the child to stop in order, and by force after `within`. Returns at once.
    pub(crate) fn stop(&self, within: Duration) {
        self.order.send_replace(Order::Stop(within));
    }

    /// Stops the child at once.
    pub(crate) fn kill(&self) {
        self.order.send_replace(Order::Kill);
    }

    /// Completes when the child has stopped after [`Self::stop`] or [`Self::kill`].
    pub(crate) async fn gone(&self) {
        self.order.closed().await;
    }
}

/// The life of a child: start, wait for its death, wait a little, start again; until the order to stop.
async fn keep_running(
    spec: Spec,
    mut orders: watch::Receiver<Order>,
    running_pid: Arc<AtomicI32>,
    deaths: Arc<AtomicU32>,
) {
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let reason = match spec.spawn() {
            Ok(mut process) => {
                let pid = process.id().map_or(0, u32::cast_signed);
                running_pid.store(pid, Ordering::Relaxed);
                let pid_file = PidFile::write(&spec.run, &spec.name, pid);
                if let Err(error) = &pid_file {
                    tracing::warn!(child = spec.name, "{error:#}; a later supervisor cannot clean it up");
                }
                let status = run(&mut process, &mut orders).await;
                running_pid.store(0, Ordering::Relaxed);
                match status {
                    Some(status) => how_it_ended(status),
                    None => return,
                }
            }
            Err(error) => format!("cannot be started: {error}"),
        };
        deaths.fetch_add(1, Ordering::Relaxed);
        let wait = backoff.died(started, Instant::now());
        tracing::warn!(
            child = spec.name,
            log = %spec.log_file().display(),
            "{} {reason}; it is started again in {} ms",
            spec.name,
            wait.as_millis()
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = orders.wait_for(|order| *order != Order::Run) => return,
        }
    }
}

/// Waits for the process's own end and returns its status; or stops it when ordered to, and returns `None`.
async fn run(process: &mut Process, orders: &mut watch::Receiver<Order>) -> Option<ExitStatus> {
    tokio::select! {
        status = process.wait() => return status.ok(),
        // The sender is dropped with the supervisor, which then wants no child either.
        _ = orders.wait_for(|order| *order != Order::Run) => {}
    }
    let order = *orders.borrow_and_update();
    if let Order::Stop(within) = order {
        if let Some(pid) = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            _ = process.wait() => return None,
            () = tokio::time::sleep(within) => tracing::warn!("a child did not stop in {within:?} and is killed"),
            _ = orders.wait_for(|order| *order == Order::Kill) => {}
        }
    }
    let _ = process.kill().await;
    None
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

    fn spawn(&self) -> io::Result<Process> {
        let log = self.log_file();
        set_aside(&log)?;
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).arg("--supervisor").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        // Ctrl-C reaches the terminal's whole process group, but the order of a stop is the supervisor's to keep.
        command.as_std_mut().process_group(0);
        command.spawn()
    }
}

/// Keeps one older log, so that a child that dies often cannot fill the disk.
fn set_aside(log: &Path) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(metadata) if metadata.len() > LOG_BYTES_MAX => fs::rename(log, log.with_added_extension("1")),
        _ => Ok(()),
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

    fn spec(folder: &Path, script: &str) -> Spec {
        Spec {
            name: "child".into(),
            executable: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            run: folder.into(),
            logs: folder.into(),
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
        assert!(child.deaths() >= 1);
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
        assert_eq!(child.deaths(), 0);
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
