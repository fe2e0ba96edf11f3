//! What happens to the servers during a run: at which second, of which kind, and by which command.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arguments::seconds;

/// What an event may do to the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A node comes: nothing may be lost.
    Add,
    /// A node goes in order: nothing may be lost.
    Drain,
    /// A node dies: sessions must go on, and what was in its hands at that moment may be lost.
    Kill,
    /// The last guest of every session closes its transport and comes back, as after a change of its network.
    Blip,
    /// Somebody else joins every session, and leaves again.
    Join,
}

/// One event, as `SECONDS KIND[/NAME] [COMMAND]`.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// After the first message, at the earliest; an event waits for the end of the one before.
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// What the report calls it: its kind, or that and a name.
    pub(crate) name: String,
    /// For a shell.
    command: Option<String>,
}

impl FromStr for Event {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.trim().splitn(3, ' ');
        let at = seconds(words.next().unwrap_or_default()).context("an event begins with its second")?;
        let name = words.next().unwrap_or_default();
        let kind = match name.split_once('/').map_or(name, |(kind, _)| kind) {
            "add" => Kind::Add,
            "drain" => Kind::Drain,
            "kill" => Kind::Kill,
            "blip" => Kind::Blip,
            "join" => Kind::Join,
            other => bail!("{other:?} is no event: add, drain, kill, blip or join"),
        };
        let command = words.next().map(str::to_owned);
        let needs_command = matches!(kind, Kind::Add | Kind::Drain | Kind::Kill);
        ensure!(needs_command == command.is_some(), "add, drain and kill take a command; blip and join take none");
        Ok(Self { at, kind, name: name.to_owned(), command })
    }
}

impl Event {
    /// Runs the command to its end. Its output goes to stderr, because stdout is the report's.
    pub(crate) async fn run_command(&self) -> Result<()> {
        let Some(command) = &self.command else { return Ok(()) };
        let output = tokio::process::Command::new("sh").args(["-c", command]).output().await?;
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_time_a_kind_and_for_servers_a_command() {
        let event: Event = "2.5 drain ctedge drain node-1 --now".parse().unwrap();
        assert_eq!((event.at, event.kind), (Duration::from_millis(2500), Kind::Drain));
        assert_eq!(event.command.as_deref(), Some("ctedge drain node-1 --now"));
        let restart: Event = "3 drain/rolling restart".parse().unwrap();
        assert_eq!(
            (restart.kind, &*restart.name, restart.command.as_deref()),
            (Kind::Drain, "drain/rolling", Some("restart"))
        );
        assert_eq!("3 blip".parse::<Event>().unwrap().kind, Kind::Blip);
        for wrong in ["", "drain x", "1 drain", "1 blip x", "1 reboot x"] {
            assert!(wrong.parse::<Event>().is_err(), "{wrong:?}");
        }
    }
}
