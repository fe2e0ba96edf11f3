//! A peer that polls: enough of Engine.IO and Socket.IO to host a session.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmpv::Value;
use serde_json::json;

use super::TestNode;

/// A peer with a transport.
pub(crate) struct Peer<'a> {
    node: &'a TestNode,
    path: String,
    /// Packets that came together with others.
    read: Vec<String>,
}

impl<'a> Peer<'a> {
    /// Connects with a room token.
    pub(crate) async fn connect(node: &'a TestNode, key: &str, room_token: &str) -> Self {
        let (peer, answer) = Self::knock(node, key, room_token).await;
        assert!(answer.starts_with("40{"), "{answer}");
        peer
    }

    /// Opens a transport and gives what comes after its CONNECT.
    pub(crate) async fn knock(node: &'a TestNode, key: &str, room_token: &str) -> (Self, String) {
        let opened = node
            .get("/socket.io/?EIO=4&transport=polling")
            .key(key)
            .token(room_token)
            .header("x-oct-public-key", "a public key")
            .header("x-oct-client", "test 1.0")
            .send()
            .await;
        assert_eq!(opened.status, 200, "{opened:?}");
        let opened: serde_json::Value = serde_json::from_str(&opened.body[1..]).unwrap();
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", opened["sid"].as_str().unwrap());
        let mut peer = Self { node, path, read: Vec::new() };
        peer.send("40").await;
        let answer = peer.packet().await;
        (peer, answer)
    }

    /// Polls until the server sends the peer away.
    pub(crate) async fn leave(&mut self) {
        loop {
            let polled = self.node.get(&self.path).send().await;
            if polled.status != 200 || polled.body.split('\u{1e}').any(|packet| ["1", "9", "49"].contains(&packet)) {
                return;
            }
        }
    }

    /// Closes the transport. The peer's grace period begins.
    pub(crate) async fn hang_up(&self) {
        self.send("1").await;
    }

    pub(crate) async fn send(&self, packets: &str) {
        let answer = self.node.post(&self.path).body(packets).send().await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
    }

    /// The next packet that is neither a ping nor a noop.
    pub(crate) async fn packet(&mut self) -> String {
        loop {
            if self.read.is_empty() {
                let polled = self.node.get(&self.path).send().await;
                assert_eq!(polled.status, 200, "{polled:?}");
                self.read = polled.body.split('\u{1e}').map(str::to_owned).collect();
            }
            match &*self.read.remove(0) {
                "2" => self.send("3").await,
                "6" => {}
                packet => return packet.to_owned(),
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let packet = self.packet().await;
            if let Some(attachment) = packet.strip_prefix('b') {
                let bytes = STANDARD.decode(attachment).unwrap();
                return rmpv::decode::read_value(&mut &*bytes).unwrap();
            }
            assert!(packet.starts_with("451-"), "{packet}");
        }
    }

    /// The next `peer/join` request; answers it with the workspace, or refuses.
    pub(crate) async fn answer_join(&mut self, workspace: Option<&str>) -> Value {
        loop {
            let message = self.message().await;
            if field(&message, "kind").as_str() != Some("request") {
                continue;
            }
            let content = field(&message, "content");
            assert_eq!(field(content, "method").as_str(), Some("peer/join"));
            let response = workspace.map(|name| json!({"workspace": {"name": name, "folders": ["src"]}}));
            let answer = json!({
                "version": "0.3.1", "kind": "response", "id": field(&message, "id").as_str(),
                "metadata": {"encryption": {"keys": []}, "compression": {"algorithm": "none"}},
                "content": {"response": response},
            });
            self.send_message(&answer).await;
            return field(content, "params").clone();
        }
    }

    pub(crate) async fn send_message(&self, message: &serde_json::Value) {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &to_msgpack(message)).unwrap();
        let head = r#"451-["message",{"_placeholder":true,"num":0}]"#;
        self.send(&format!("{head}\u{1e}b{}", STANDARD.encode(bytes))).await;
    }
}

/// A field of a MessagePack map.
#[track_caller]
pub(crate) fn field<'a>(map: &'a Value, name: &str) -> &'a Value {
    let pairs = map.as_map().unwrap_or_else(|| panic!("{map} is a map"));
    pairs
        .iter()
        .find(|(key, _)| key.as_str() == Some(name))
        .map_or_else(|| panic!("{map} has {name}"), |(_, value)| value)
}

fn to_msgpack(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Nil,
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(number) => Value::from(number.as_u64().unwrap()),
        Json::String(text) => Value::from(&**text),
        Json::Array(items) => Value::Array(items.iter().map(to_msgpack).collect()),
        Json::Object(fields) => {
            Value::Map(fields.iter().map(|(key, value)| (Value::from(&**key), to_msgpack(value))).collect())
        }
    }
}
