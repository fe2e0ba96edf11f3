//! The other end of the control socket: an operator's command.
//!
//! It blocks; on a Tokio runtime, call it where blocking is allowed.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Command, Line, short_path, socket_of};
use crate::processes::Process;
use crate::reload::Reloaded;

/// The supervisor says every few seconds that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long the supervisor itself may take to end when nothing is left that it would have to wait for.
const END_MAX: Duration = Duration::from_secs(10);

/// Gives `command` to the supervisor of the data folder `data`. `progress` is told how far it is. Returns the processes after it.
pub fn give(data: &Path, command: &Command, progress: impl FnMut(&str)) -> anyhow::Result<Vec<Process>> {
    ask(connect(data)?, command, progress).map(|(processes, _)| processes)
}

/// Lets the supervisor of the data folder `data` stop everything and end. `progress` is told how far it is. Returns when no
/// process is left, the supervisor's included, so that another one may be started; fails where that does not come about.
pub fn stop(data: &Path, progress: impl FnMut(&str)) -> anyhow::Result<Vec<Process>> {
    let stream = connect(data)?;
    let supervisor = Supervisor::behind(&stream);
    let (processes, _) = ask(stream, &Command::Stop { name: None }, progress)?;
    if let Some(supervisor) = supervisor {
        supervisor.wait_for_end(END_MAX)?;
    }
    Ok(processes)
}

/// The process at the other end of a control socket.
struct Supervisor {
    pid: Pid,
    process: OwnedFd,
}

impl Supervisor {
    /// `None` where the kernel does not tell, as across containers that do not see each other's processes.
    fn behind(stream: &UnixStream) -> Option<Self> {
        let pid = socket_peercred(stream).ok()?.pid;
        Some(Self { pid, process: pidfd_open(pid, PidfdFlags::empty()).ok()? })
    }

    fn wait_for_end(&self, within: Duration) -> anyhow::Result<()> {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        if poll(&mut ended, Some(&Timespec::try_from(within)?)).context("cannot wait for the supervisor")? == 0 {
            let pid = self.pid.as_raw_nonzero();
            bail!(
                "everything has stopped but `ctedge up` itself, process {pid}, which did not end within {within:?}; `kill -9 {pid}` ends it"
            );
        }
        Ok(())
    }
}

/// Lets the supervisor of the data folder `data` read its settings again.
pub fn reload(data: &Path) -> anyhow::Result<Reloaded> {
    let (_, reloaded) = ask(connect(data)?, &Command::Reload, |_| {})?;
    reloaded.context("the supervisor does not say what it read")
}

/// What an operator does where nothing runs that could take a command.
pub const HOW_TO_START: &str = "`ctedge up`, with the options it was started with before, starts an edge; under systemd \
                                `systemctl start ctedge` does, and where it is a container, the start of the container";

/// There is no supervisor to give a command to.
#[derive(Debug)]
pub struct NoEdge {
    data: PathBuf,
}

impl fmt::Display for NoEdge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.display();
        write!(
            formatter,
            "no edge runs on the data folder {data} of this machine; --data names another folder. {HOW_TO_START}"
        )
    }
}

impl std::error::Error for NoEdge {}

type Done = (Vec<Process>, Option<Reloaded>);

fn ask(mut stream: UnixStream, command: &Command, mut progress: impl FnMut(&str)) -> anyhow::Result<Done> {
    let mut text = serde_json::to_string(command)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).context("the supervisor hung up")?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("the supervisor gives no answer")?;
        match serde_json::from_str(&line).context("the supervisor is of another version than this command")? {
            Line::Alive => {}
            Line::Progress(text) => progress(&text),
            Line::Done { processes, reloaded } => return Ok((processes, reloaded)),
            Line::Error(reason) => bail!("{reason}"),
        }
    }
    bail!("the supervisor stopped before this was done")
}

pub(super) fn connect(data: &Path) -> anyhow::Result<UnixStream> {
    let socket = socket_of(data);
    let connected = short_path(&socket).and_then(|(_folder, path)| UnixStream::connect(path));
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(NoEdge { data: data.to_owned() }.into());
            }
            io::ErrorKind::PermissionDenied => {
                bail!("only the user who runs the edge may use {}; run this command as that user", socket.display())
            }
            _ => return Err(error).with_context(|| format!("cannot connect to {}", socket.display())),
        },
    };
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_an_edge_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for error in [give(folder.path(), &Command::List, |_| {}), stop(folder.path(), |_| {})].map(Result::unwrap_err)
        {
            let error = error.to_string();
            assert!(error.contains(&folder.path().display().to_string()) && error.contains("ctedge up"), "{error}");
        }
    }

    #[test]
    fn a_supervisor_that_does_not_end_is_named_and_one_that_has_is_not_waited_for() {
        let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&sleeper);
        let supervisor = Supervisor { pid, process: pidfd_open(pid, PidfdFlags::empty()).unwrap() };
        let error = supervisor.wait_for_end(Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&format!("kill -9 {}", sleeper.id())), "{error}");
        sleeper.kill().unwrap();
        supervisor.wait_for_end(Duration::from_secs(60)).unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn the_process_behind_a_socket_is_found() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let supervisor = Supervisor::behind(&ours).expect("the kernel knows");
        assert_eq!(supervisor.pid, rustix::process::getpid());
    }
}
