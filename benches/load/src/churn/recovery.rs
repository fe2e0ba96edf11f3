//! What a client remembers so that a server can go on where a transport was cut: Socket.IO's connection state recovery.

use serde_json::{Value as Json, json};

/// The life of a session that a client knows, and how much of it the client has seen.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    life: Option<String>,
    /// The offset of the last event that counts as seen.
    seen: Option<String>,
    /// The offset of the event whose attachment is still to come.
    begun: Option<String>,
    /// The offset of the last event that was read in this turn.
    read: Option<String>,
}

/// How a server takes a client in that shows what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    First,
    Recovered,
    IntoAnotherLife,
}

impl Recovery {
    /// The packet that asks to be let in.
    pub(super) fn connect(&self) -> String {
        match (&self.life, &self.seen) {
            (Some(pid), Some(offset)) => format!("40{}", json!({ "pid": pid, "offset": offset })),
            (Some(pid), None) => format!("40{}", json!({ "pid": pid })),
            (None, _) => "40".to_owned(),
        }
    }

    pub(super) fn let_in(&mut self, life: Option<String>) -> Return {
        let before = std::mem::replace(&mut self.life, life);
        match before {
            None => Return::First,
            before if before == self.life => Return::Recovered,
            Some(_) => Return::IntoAnotherLife,
        }
    }

    /// An event begins with a packet that names its offset, as the server's last argument.
    pub(super) fn event_begins(&mut self, packet: &[u8]) {
        self.begun = offset(packet);
    }

    /// Its attachment has come.
    pub(super) fn event_read(&mut self) {
        if let Some(offset) = self.begun.take() {
            self.read = Some(offset);
        }
    }

    /// The stock client hands events on a turn after it read them, and counts them only then.
    pub(super) fn turn_over(&mut self) {
        if let Some(offset) = self.read.take() {
            self.seen = Some(offset);
        }
    }

    /// The client has closed in this very turn: what it read in it is handed on, but does not count as seen.
    pub(super) fn closed(&mut self) {
        (self.begun, self.read) = (None, None);
    }
}

/// The further argument of an event, when the server has appended one.
fn offset(packet: &[u8]) -> Option<String> {
    let json = &packet[packet.iter().position(|byte| *byte == b'[')?..];
    let arguments: Vec<Json> = serde_json::from_slice(json).ok()?;
    arguments.get(2)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[u8] = br#"451-["message",{"_placeholder":true,"num":0},"7.ab"]"#;

    #[test]
    fn the_offset_of_an_event_is_its_last_argument() {
        assert_eq!(offset(EVENT), Some("7.ab".to_owned()));
        assert_eq!(offset(br#"451-["message",{"_placeholder":true,"num":0}]"#), None);
    }

    #[test]
    fn what_is_read_counts_as_seen_once_its_turn_is_over() {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.connect(), "40");
        assert_eq!(recovery.let_in(Some("life".into())), Return::First);
        assert_eq!(recovery.connect(), r#"40{"pid":"life"}"#);
        recovery.event_begins(EVENT);
        recovery.turn_over();
        assert_eq!(recovery.connect(), r#"40{"pid":"life"}"#, "its attachment has not come");
        recovery.event_read();
        recovery.closed();
        recovery.turn_over();
        assert_eq!(recovery.connect(), r#"40{"pid":"life"}"#, "the client closed in the turn in which it read it");
        recovery.event_begins(EVENT);
        recovery.event_read();
        recovery.turn_over();
        assert_eq!(recovery.connect(), r#"40{"offset":"7.ab","pid":"life"}"#);
        assert_eq!(recovery.let_in(Some("life".into())), Return::Recovered);
        assert_eq!(recovery.let_in(Some("other".into())), Return::IntoAnotherLife);
    }
}
