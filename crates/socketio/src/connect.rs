//! What a CONNECT packet asks for.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::CONNECT_BYTES_MAX;
use crate::close::Fault;

/// A client wants into a namespace. Answer it with [`crate::Engine::accept`] or [`crate::Engine::refuse`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectRequest {
    /// The namespace, with its leading `/`.
    pub namespace: String,
    /// What a returning client says of its earlier connection.
    pub recovery: Option<Recovery>,
    /// The members of the client's `auth` option.
    pub auth: Map<String, Value>,
}

/// A returning client: connection state recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The `pid` that the earlier CONNECT answer gave.
    pub pid: String,
    /// The offset of the last message that the client handled, if there was one that we could have given.
    pub offset: Option<u64>,
}

/// Marks an offset as one of its `pid`: `.` and the last characters of that.
///
/// A client keeps its last offset until a message brings another, even when it comes to a new life of its session, with
/// a new `pid`. Cut off again before any message, it would bring the old offset with the new `pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    bytes: [u8; MARK_BYTES],
    length: usize,
}

/// One of 15 million marks of letters and digits for each life, and five bytes of each message.
const MARK_BYTES: usize = 5;

impl Mark {
    pub(crate) fn of(pid: &str) -> Self {
        let mut mark = Self::default();
        mark.bytes[0] = b'.';
        mark.length = 1;
        // A `pid` of ours has letters and digits; anything else would need escapes in JSON.
        for byte in pid.bytes().rev().filter(u8::is_ascii_alphanumeric).take(MARK_BYTES - 1) {
            mark.bytes[mark.length] = byte;
            mark.length += 1;
        }
        mark
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads an offset as [`crate::Engine::message`] writes it.
fn parse_offset(text: &str, pid: &str) -> Option<u64> {
    let digits = text.as_bytes().strip_suffix(Mark::of(pid).as_bytes())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[derive(Deserialize, Default)]
struct Payload {
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    offset: Value,
    #[serde(flatten)]
    auth: Map<String, Value>,
}

/// Reads the JSON of a CONNECT packet, which may be missing.
pub(crate) fn parse(namespace: &str, json: &str) -> Result<ConnectRequest, Fault> {
    if json.len() > CONNECT_BYTES_MAX {
        return Err(Fault::ConnectTooLarge);
    }
    let payload: Payload = match json {
        "" => Payload::default(),
        // A derived reader takes an array for an object; no client writes one.
        json if !json.starts_with('{') => return Err(Fault::Json),
        json => serde_json::from_str(json).map_err(|_| Fault::Json)?,
    };
    let recovery = match payload.pid {
        Value::String(pid) => {
            let offset = payload.offset.as_str().and_then(|offset| parse_offset(offset, &pid));
            Some(Recovery { pid, offset })
        }
        _ => None,
    };
    Ok(ConnectRequest { namespace: namespace.to_owned(), recovery, auth: payload.auth })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(json: &str) -> Option<Recovery> {
        parse("/", json).unwrap().recovery
    }

    #[test]
    fn a_returning_client_names_its_pid_and_offset() {
        let pid = || "p".to_owned();
        assert_eq!(recovery(r#"{"pid":"p","offset":"12.p"}"#), Some(Recovery { pid: pid(), offset: Some(12) }));
        assert_eq!(recovery(r#"{"pid":"p","offset":"12"}"#), Some(Recovery { pid: pid(), offset: None }));
        assert_eq!(recovery(r#"{"pid":"p"}"#), Some(Recovery { pid: pid(), offset: None }));
        assert_eq!(recovery(r#"{"pid":"p","offset":"other"}"#), Some(Recovery { pid: pid(), offset: None }));
        assert_eq!(recovery(r#"{"pid":7,"offset":"12.p"}"#), None);
        assert_eq!(recovery(""), None);
    }

    #[test]
    fn an_offset_of_another_life_of_the_session_is_none() {
        let mark = |pid: &str| String::from_utf8(Mark::of(pid).as_bytes().to_vec()).unwrap();
        assert_eq!(mark("a1b2-c3d4"), ".4d3c");
        assert_eq!(parse_offset(&format!("7{}", mark("first-life")), "first-life"), Some(7));
        assert_eq!(parse_offset(&format!("7{}", mark("first-life")), "second-one"), None);
    }

    #[test]
    fn the_rest_of_the_payload_is_the_clients_auth() {
        let request = parse("/prefix", r#"{"pid":"p","offset":"1","x-oct-jwt":"t"}"#).unwrap();
        assert_eq!(request.namespace, "/prefix");
        assert_eq!(Value::Object(request.auth), serde_json::json!({"x-oct-jwt": "t"}));
    }

    #[test]
    fn an_unreadable_payload_is_refused() {
        assert_eq!(parse("/", "[]"), Err(Fault::Json));
        assert_eq!(parse("/", "{"), Err(Fault::Json));
        assert_eq!(
            parse("/", &format!("{{\"a\":\"{}\"}}", "x".repeat(CONNECT_BYTES_MAX))),
            Err(Fault::ConnectTooLarge)
        );
    }
}
