//! The control socket: how an operator's command reaches the supervisor.
//!
//! A Unix socket in the data folder, for the user alone who runs the edge. A command is one line of JSON, the answer are
//! lines of JSON: progress while there is any, and at last `done` or `error`. A command goes on when the one who gave
//! it goes away.

pub mod client;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::edge::Edge;
use crate::processes::Process;
use crate::reload::Reloaded;

/// The socket's name in the folder `run` of the data folder.
const NAME: &str = "control.sock";

/// A command is a few words.
const COMMAND_BYTES_MAX: u64 = 4096;

/// How long somebody who connects may take to say what they want.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a command that takes long is said to be under way still.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// What an operator may ask of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// The table of processes.
    List,
    /// Start what has stopped or was drained.
    Start {
        /// One process; without it, all.
        name: Option<String>,
    },
    /// Stop in order.
    Stop {
        /// One process; without it, everything, and the supervisor too.
        name: Option<String>,
    },
    /// Restart without ending a session.
    Restart {
        /// One process; without it, one after the other.
        name: Option<String>,
    },
    /// Read the settings again.
    Reload,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The command is under way still.
    Alive,
    /// How far it is, for people.
    Progress(String),
    /// It is done. The last line.
    Done {
        /// The processes after it.
        processes: Vec<Process>,
        /// What a reload did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reloaded: Option<Reloaded>,
    },
    /// It failed, and why. The last line.
    Error(String),
}

/// Where the lines of one answer go.
pub(crate) type Lines = mpsc::UnboundedSender<Line>;

impl Line {
    fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Error(_))
    }
}

/// Where the control socket of the data folder `data` is.
#[must_use]
pub fn socket_of(data: &Path) -> PathBuf {
    data.join("run").join(NAME)
}

/// The path of a socket by an open descriptor of its folder. An address of a Unix socket holds 108 bytes, which paths of data
/// folders may exceed.
fn short_path(socket: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(NAME);
    Ok((folder, path))
}

/// Listens in the data folder `data`, which must be this supervisor's alone.
pub(crate) fn listen(data: &Path) -> anyhow::Result<UnixListener> {
    let socket = socket_of(data);
    let context = || format!("cannot listen on the control socket {}", socket.display());
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(context),
        _ => {}
    }
    let (_folder, path) = short_path(&socket).with_context(context)?;
    let listener = UnixListener::bind(path).with_context(context)?;
    // Nobody else can reach into the folder either; this is for those who widen its rights.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).with_context(context)?;
    Ok(listener)
}

/// Serves commands until it is dropped. A command to stop everything is passed to `stop`, which then answers it.
pub(crate) async fn serve(listener: UnixListener, edge: Arc<Edge>, stop: mpsc::Sender<Lines>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, Arc::clone(&edge), stop.clone()))),
            Err(error) => {
                tracing::warn!("a command cannot be accepted: {error}");
                tokio::time::sleep(ALIVE_EVERY).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, edge: Arc<Edge>, stop: mpsc::Sender<Lines>) {
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    let mut reader = BufReader::new(read.take(COMMAND_BYTES_MAX));
    let read = timeout(COMMAND_TIME_MAX, reader.read_line(&mut text)).await;
    if !matches!(read, Ok(Ok(length)) if length > 0) {
        return;
    }
    let (lines, mut answers) = mpsc::unbounded_channel();
    match serde_json::from_str(&text) {
        Ok(command) => {
            let carried_out = tokio::spawn(carry_out(Arc::clone(&edge), command, stop, lines));
            let mut changes = edge.changes.lock();
            changes.retain(|change| !change.is_finished());
            changes.push(carried_out.abort_handle());
        }
        Err(error) => drop(lines.send(Line::Error(format!("this supervisor does not know the command: {error}")))),
    }
    loop {
        let line = match timeout(ALIVE_EVERY, answers.recv()).await {
            Ok(Some(line)) => line,
            // Nobody is left who could say more.
            Ok(None) => return,
            Err(_) => Line::Alive,
        };
        let is_last = line.is_last();
        let Ok(mut line) = serde_json::to_string(&line) else { return };
        line.push('\n');
        if write.write_all(line.as_bytes()).await.is_err() || is_last {
            return;
        }
    }
}

async fn carry_out(edge: Arc<Edge>, command: Command, stop: mpsc::Sender<Lines>, lines: Lines) {
    if command == (Command::Stop { name: None }) {
        // It answers by itself, at the end.
        let _ = stop.send(lines).await;
        return;
    }
    // Whoever asked may be gone.
    let say = |line| drop(lines.send(line));
    let tell = |text: String| {
        tracing::info!("{text}");
        say(Line::Progress(text));
    };
    let done = match command {
        Command::List => Ok(None),
        Command::Reload => {
            // It may be under way already, since the file has changed.
            let _held = edge.changing.lock().await;
            edge.reload().await.map(Some)
        }
        change => match edge.changing.try_lock() {
            Ok(_held) => match change {
                Command::Start { name } => edge.start_named(name.as_deref(), &tell).await,
                Command::Stop { name } => edge.stop_named(&name.unwrap_or_default(), &tell).await,
                Command::Restart { name } => edge.restart_named(name.as_deref(), &tell).await,
                Command::List | Command::Reload => Ok(()),
            }
            .map(|()| None),
            Err(_) => Err(anyhow::anyhow!(
                "another command, a restart, a reload or the stop of everything is under way; ask again when it is done"
            )),
        },
    };
    say(match done {
        Ok(reloaded) => Line::Done { processes: edge.processes(), reloaded },
        Err(error) => {
            tracing::error!("an operator's command failed: {error:#}");
            Line::Error(format!("{error:#}"))
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_of_json() {
        let check = |command: Command, text: &str| {
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
            assert_eq!(serde_json::from_str::<Command>(text).unwrap(), command);
        };
        check(Command::Reload, r#"{"order":"reload"}"#);
        check(Command::List, r#"{"order":"list"}"#);
        check(Command::Restart { name: Some("node-1".into()) }, r#"{"order":"restart","name":"node-1"}"#);
        check(Command::Stop { name: None }, r#"{"order":"stop","name":null}"#);
        assert!(serde_json::from_str::<Command>(r#"{"order":"explode"}"#).is_err());
    }

    #[tokio::test]
    async fn a_data_folder_of_any_depth_has_a_socket_that_only_its_owner_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("d".repeat(120));
        fs::create_dir_all(data.join("run")).unwrap();
        // The second takes the place of one that a dead supervisor left behind.
        drop(listen(&data).unwrap());
        let _listener = listen(&data).unwrap();
        assert_eq!(fs::metadata(socket_of(&data)).unwrap().permissions().mode() & 0o777, 0o600);
        client::connect(&data).unwrap();
    }
}
