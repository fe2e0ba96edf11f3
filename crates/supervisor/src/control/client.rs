//! The other end of the control socket: an operator's command.
//!
//! It blocks; on a Tokio runtime, call it where blocking is allowed.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Command, Line, short_path, socket_of};
use crate::processes::Process;
use crate::reload::Reloaded;

/// The supervisor says every few seconds that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Gives `command` to the supervisor of the data folder `data`. `progress` is told how far it is. Returns the processes after it.
pub fn give(data: &Path, command: &Command, progress: impl FnMut(&str)) -> anyhow::Result<Vec<Process>> {
    ask(data, command, progress).map(|(processes, _)| processes)
}

/// Lets the supervisor of the data folder `data` read its settings again.
pub fn reload(data: &Path) -> anyhow::Result<Reloaded> {
    let (_, reloaded) = ask(data, &Command::Reload, |_| {})?;
    reloaded.context("the supervisor does not say what it read")
}

type Done = (Vec<Process>, Option<Reloaded>);

fn ask(data: &Path, command: &Command, mut progress: impl FnMut(&str)) -> anyhow::Result<Done> {
    let mut stream = connect(data)?;
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
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => bail!(
                "no edge runs on the data folder {} of this machine; `ctedge up` starts one, --data names another folder",
                data.display()
            ),
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
        let error = give(folder.path(), &Command::List, |_| {}).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()) && error.contains("ctedge up"), "{error}");
    }
}
