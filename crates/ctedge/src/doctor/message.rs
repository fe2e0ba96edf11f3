//! The few messages of the Open Collaboration Protocol that a session of two needs.

use ctedge_protocol::version::PROTOCOL_VERSION;
use rmpv::Value;

/// What stands for a public key: nobody encrypts anything with it.
pub(super) const PUBLIC_KEY: &str = "Y3RlZGdlIGRvY3Rvcg==";

/// What stands for a wrapped key and its vector: nobody decrypts anything with them.
const NO_KEY: &str = "AAAA";

/// A message that arrived.
pub(super) struct Message(Value);

impl Message {
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        rmpv::decode::read_value(&mut bytes).ok().map(Self)
    }

    /// The id that the server tells a peer that it is.
    pub(super) fn peer_info(&self) -> Option<String> {
        let peer = self.params("peer/info")?.as_array()?.first()?;
        field(peer, "id")?.as_str().map(str::to_owned)
    }

    /// The id of the request to let somebody in.
    pub(super) fn join_request(&self) -> Option<Value> {
        self.params("peer/join")?;
        field(&self.0, "id").cloned()
    }

    /// What another peer said.
    pub(super) fn content(&self) -> Option<&[u8]> {
        match field(&self.0, "content")? {
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The parameters, if the server calls this method.
    fn params(&self, method: &str) -> Option<&Value> {
        let content = field(&self.0, "content")?;
        (field(content, "method")?.as_str()? == method).then(|| field(content, "params"))?
    }
}

/// A host's word that somebody may come in.
pub(super) fn consent(request: Value) -> anyhow::Result<Vec<u8>> {
    let workspace = map([("name", "ctedge doctor".into()), ("folders", Value::Array(vec![]))]);
    let content = map([("response", map([("workspace", workspace)]))]);
    written([("kind", "response".into()), ("id", request), ("metadata", metadata(vec![])), ("content", content)])
}

/// Says something to a peer.
pub(super) fn broadcast(target: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let key = map([("target", target.into()), ("key", NO_KEY.into()), ("iv", NO_KEY.into())]);
    let content = Value::Binary(content.to_vec());
    written([
        ("kind", "broadcast".into()),
        ("origin", "".into()),
        ("metadata", metadata(vec![key])),
        ("content", content),
    ])
}

/// A peer's word that it does not come back.
pub(super) fn leave() -> anyhow::Result<Vec<u8>> {
    let content = map([("method", "room/leave".into()), ("params", Value::Array(vec![]))]);
    let (kind, none) = ("notification".into(), Value::from(""));
    written([
        ("kind", kind),
        ("origin", none.clone()),
        ("target", none),
        ("metadata", metadata(vec![])),
        ("content", content),
    ])
}

fn metadata(keys: Vec<Value>) -> Value {
    let encryption = map([("keys", Value::Array(keys))]);
    map([("encryption", encryption), ("compression", map([("algorithm", "none".into())]))])
}

fn written<const N: usize>(fields: [(&str, Value); N]) -> anyhow::Result<Vec<u8>> {
    let version = [("version", PROTOCOL_VERSION.into())];
    let fields = version.into_iter().chain(fields).map(|(name, value)| (name.into(), value)).collect();
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(fields))?;
    Ok(bytes)
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let said = Message::read(&broadcast("host", b"hello").unwrap()).unwrap();
        assert_eq!(said.content(), Some(b"hello".as_slice()));
        assert_eq!((said.peer_info(), said.join_request()), (None, None));
    }

    #[test]
    fn the_servers_words_are_understood() {
        let call = |method: &str, params| {
            let content = map([("method", method.into()), ("params", Value::Array(params))]);
            Message(map([("id", 7.into()), ("content", content)]))
        };
        let peer = map([("id", "peer-1".into())]);
        assert_eq!(call("peer/info", vec![peer]).peer_info().as_deref(), Some("peer-1"));
        assert_eq!(call("peer/join", vec![]).join_request(), Some(7.into()));
        assert_eq!(call("room/joined", vec![]).join_request(), None);
    }
}
