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
            let offset = payload.offset.as_str().and_then(|offset| offset.parse().ok());
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
        assert_eq!(recovery(r#"{"pid":"p","offset":"12"}"#), Some(Recovery { pid: pid(), offset: Some(12) }));
        assert_eq!(recovery(r#"{"pid":"p"}"#), Some(Recovery { pid: pid(), offset: None }));
        assert_eq!(recovery(r#"{"pid":"p","offset":"other"}"#), Some(Recovery { pid: pid(), offset: None }));
        assert_eq!(recovery(r#"{"pid":7,"offset":"12"}"#), None);
        assert_eq!(recovery(""), None);
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
