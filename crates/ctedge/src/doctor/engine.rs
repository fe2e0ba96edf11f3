//! Engine.IO as far as it is looked at: long polls and WebSockets, opened and closed.

use std::time::Instant;

use anyhow::{Context, bail};
use ctedge_doctor::facts::{Polling, WebSocket as WebSocketFact};
use serde_json::Value;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::endpoint::Stream;
use super::http::{Client, Response};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// A long poll that was opened, or the answer that was none.
pub(super) type Opened = Result<String, Response>;

/// Opens a session of long polls; its id.
pub(super) fn open_poll(client: &Client<'_>) -> anyhow::Result<Opened> {
    let response = client.get(POLLING)?;
    Ok(match hello(&response.text()) {
        Some(sid) if response.status == 200 => Ok(sid),
        _ => Err(response),
    })
}

/// What became of closing a session of long polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Whoever was asked knew it.
    Known,
    /// Whoever was asked did not.
    Unknown,
    /// A node said that it is another's.
    Misdirected,
}

/// Closes a session of long polls, whoever opened it.
pub(super) fn close_poll(client: &Client<'_>, sid: &str) -> anyhow::Result<Closed> {
    // Engine.IO's packet "close".
    let response = client.post(&format!("{POLLING}&sid={sid}"), "1")?;
    let code = response.json()["code"].as_u64();
    match (response.status, code) {
        (200, _) => Ok(Closed::Known),
        // Engine.IO's number for a session that is not known.
        (400, Some(1)) => Ok(Closed::Unknown),
        (421, _) => Ok(Closed::Misdirected),
        (status, _) => bail!("a long poll was answered with {status}"),
    }
}

/// Whether long polls open.
pub(super) fn look_at_polling(client: &Client<'_>) -> Polling {
    match open_poll(client) {
        Ok(Ok(sid)) => {
            // It would end by itself; whether this one comes to its node is another check's matter.
            let _ = close_poll(client, &sid);
            Polling::Opened
        }
        Ok(Err(response)) => Polling::Answered(response.answer(false)),
        Err(error) => Polling::Failed(format!("{error:#}")),
    }
}

/// Whether WebSockets open.
pub(super) fn look_at_websocket(client: &Client<'_>) -> WebSocketFact {
    match Channel::open(client) {
        Ok(Ok(mut channel)) => match channel.hello() {
            Ok(()) => {
                channel.close();
                WebSocketFact::Opened
            }
            Err(error) => WebSocketFact::Silent(format!("{error:#}")),
        },
        Ok(Err(response)) => WebSocketFact::Answered(response.answer(false)),
        Err(error) => WebSocketFact::Failed(format!("{error:#}")),
    }
}

/// The id in Engine.IO's packet "open".
fn hello(packet: &str) -> Option<String> {
    let open: Value = serde_json::from_str(packet.strip_prefix('0')?).ok()?;
    open["sid"].as_str().map(str::to_owned)
}

/// A packet of Socket.IO.
#[derive(Debug)]
pub(super) enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

/// An open WebSocket that speaks Engine.IO.
pub(super) struct Channel(WebSocket<Stream>);

impl Channel {
    /// Opens a WebSocket; the answer, if it is not 101.
    pub(super) fn open(client: &Client<'_>) -> anyhow::Result<Result<Self, Response>> {
        let upgraded = client.upgrade(WEBSOCKET)?;
        Ok(upgraded.map(|(stream, early)| Self(WebSocket::from_partially_read(stream, early, Role::Client, None))))
    }

    /// Waits for Engine.IO's packet "open".
    pub(super) fn hello(&mut self) -> anyhow::Result<()> {
        match self.next()? {
            Packet::Text(text) if hello(&text).is_some() => Ok(()),
            _ => bail!("what came first is no hello of a node"),
        }
    }

    pub(super) fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.send(Message::text(text)).context("cannot send")
    }

    pub(super) fn send_binary(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.0.send(Message::binary(bytes)).context("cannot send")
    }

    /// The next packet; Engine.IO's pings are answered. Each wait ends with the connection's timeout.
    pub(super) fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            match self.0.read().context("nothing came in time")? {
                Message::Text(text) if text.as_str() == "2" => self.send("3")?,
                Message::Text(text) => return Ok(Packet::Text(text.as_str().to_owned())),
                Message::Binary(bytes) => return Ok(Packet::Binary(bytes.to_vec())),
                Message::Close(_) => bail!("the connection was closed"),
                _ => {}
            }
        }
    }

    /// The next packet for which `wanted` gives something, until `deadline`.
    pub(super) fn until<T>(
        &mut self,
        deadline: Instant,
        mut wanted: impl FnMut(Packet) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        while Instant::now() < deadline {
            let packet = self.next()?;
            if let Some(found) = wanted(packet)? {
                return Ok(found);
            }
        }
        bail!("nothing of the kind came in time")
    }

    /// Answers the server's pings and does nothing else until the first one after `deadline`; an error when it is ended before.
    pub(super) fn rest(&mut self, deadline: Instant) -> anyhow::Result<()> {
        while Instant::now() < deadline {
            match self.0.read()? {
                Message::Text(text) if text.as_str() == "2" => self.send("3")?,
                Message::Close(_) => bail!("it was closed"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Closes it; whoever is gone need not hear of it.
    pub(super) fn close(&mut self) {
        let _ = self.0.close(None);
        let _ = self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_names_the_id_of_its_session() {
        assert_eq!(hello(r#"0{"sid":"key.random","upgrades":["websocket"]}"#).as_deref(), Some("key.random"));
        for wrong in ["", "0", "0{}", "1{\"sid\":\"a\"}", "<html>"] {
            assert_eq!(hello(wrong), None, "{wrong}");
        }
    }
}
