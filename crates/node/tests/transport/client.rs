//! The smallest client that speaks RFC 6455, Engine.IO 4 and Socket.IO 5.

use std::future::Future;

use rmpv::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::room::{DEADLINE, Room};

/// What asks a client to close and to come again.
pub(crate) const AWAY: &str = "9";

/// What asks a polling one.
pub(crate) const POLLING_AWAY: &str = "49";

pub(crate) const PUBLIC_KEY: &str = "a-public-key";

/// What a frame carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The connection is closed.
    End,
}

/// A client on a WebSocket.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// The head of the answer to the upgrade.
    pub(crate) head: String,
    namespace: String,
    /// The peer's own id, once connected.
    pub(crate) peer_id: String,
    pub(crate) pid: String,
    /// The offset of the last message.
    pub(crate) offset: Option<String>,
}

/// Waits with the suite's deadline.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens in time")
}

impl Client {
    /// Opens a WebSocket and reads the handshake.
    pub(crate) async fn websocket(room: &Room, token: &str) -> Self {
        let mut client =
            Self::upgrade(room, "/socket.io/?EIO=4&transport=websocket", &room.headers(token)).await.unwrap();
        let Frame::Text(open) = client.frame().await else { panic!("the first frame is the handshake") };
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    /// Opens a WebSocket; the head of the answer if that is not 101.
    pub(crate) async fn upgrade(room: &Room, path: &str, headers: &str) -> Result<Self, String> {
        Self::upgrade_at_once(room, path, headers, &[]).await
    }

    /// As [`Self::upgrade`], with frames that do not wait for the answer.
    pub(crate) async fn upgrade_at_once(room: &Room, path: &str, headers: &str, early: &[u8]) -> Result<Self, String> {
        let mut stream = TcpStream::connect(room.address).await.unwrap();
        // The example of RFC 6455, section 1.3.
        let request = format!(
            "GET {path} HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(&[request.as_bytes(), early].concat()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Ok(Self { stream, head, namespace: String::new(), peer_id: String::new(), pid: String::new(), offset: None })
    }

    /// Connects to a namespace and reads the answer.
    pub(crate) async fn connect(&mut self, namespace: &str) {
        self.namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        self.text(&format!("40{}", self.namespace)).await;
        self.connected().await;
    }

    /// Comes back as the client that `former` was.
    pub(crate) async fn recover(&mut self, former: &Self) {
        let offset = former.offset.as_ref().map_or(String::new(), |offset| format!(r#","offset":"{offset}""#));
        self.text(&format!(r#"40{{"pid":"{}"{offset}}}"#, former.pid)).await;
        self.connected().await;
    }

    /// Reads the answer to a CONNECT.
    pub(crate) async fn connected(&mut self) {
        let answer = self.packet().await;
        let ids = answer.strip_prefix(&format!("40{}", self.namespace)).unwrap_or_else(|| panic!("{answer}"));
        let ids: serde_json::Value = serde_json::from_str(ids).unwrap();
        self.peer_id = ids["sid"].as_str().unwrap().to_owned();
        self.pid = ids["pid"].as_str().unwrap().to_owned();
    }

    /// The next text packet that is no ping; pings are answered.
    pub(crate) async fn packet(&mut self) -> String {
        loop {
            match self.frame().await {
                Frame::Text(text) if text == "2" => self.text("3").await,
                Frame::Text(text) => return text,
                other => panic!("{other:?} is no text packet"),
            }
        }
    }

    /// The next message: its decoded map.
    pub(crate) async fn message(&mut self) -> Value {
        let head = self.packet().await;
        let arguments = head.strip_prefix(&format!("451-{}", self.namespace)).unwrap_or_else(|| panic!("{head}"));
        let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(
            (&arguments[0], &arguments[1]),
            (&"message".into(), &serde_json::json!({"_placeholder": true, "num": 0}))
        );
        self.offset = Some(arguments[2].as_str().unwrap().to_owned());
        let Frame::Binary(data) = self.frame().await else { panic!("an attachment follows its packet") };
        rmpv::decode::read_value(&mut &*data).unwrap()
    }

    /// The content of the next broadcast of a peer.
    pub(crate) async fn broadcast(&mut self) -> Vec<u8> {
        loop {
            if let Some(content) = content(&self.message().await) {
                return content;
            }
        }
    }

    /// The contents of as many broadcasts.
    pub(crate) async fn broadcasts(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut contents = Vec::with_capacity(count);
        while contents.len() < count {
            contents.push(self.broadcast().await);
        }
        contents
    }

    /// Sends a broadcast for `targets`.
    pub(crate) async fn send(&mut self, content: &[u8], targets: &[&str]) {
        let frames = self.message_frames(content, targets);
        self.write(&frames).await;
    }

    /// Sends a MessagePack map.
    pub(crate) async fn say(&mut self, message: &[u8]) {
        let frames = self.frames_of(message);
        self.write(&frames).await;
    }

    /// The frames of a broadcast.
    pub(crate) fn message_frames(&self, content: &[u8], targets: &[&str]) -> Vec<u8> {
        self.frames_of(&broadcast(content, targets))
    }

    fn frames_of(&self, message: &[u8]) -> Vec<u8> {
        let head = format!(r#"451-{}["message",{{"_placeholder":true,"num":0}}]"#, self.namespace);
        [frame(0x81, head.as_bytes()), frame(0x82, message)].concat()
    }

    pub(crate) async fn text(&mut self, packet: &str) {
        self.write(&frame(0x81, packet.as_bytes())).await;
    }

    /// Reads on until it is sent away, and answers pings, as it is sent away when it has everything. Gives the broadcasts.
    pub(crate) async fn sent_away(&mut self) -> Vec<Vec<u8>> {
        let mut broadcasts = Vec::new();
        loop {
            match self.frame().await {
                Frame::Text(text) if text == AWAY => return broadcasts,
                Frame::Text(text) if text == "2" => self.text("3").await,
                Frame::Text(_) => {}
                Frame::Binary(data) => {
                    broadcasts.extend(content(&rmpv::decode::read_value(&mut &*data).unwrap()));
                }
                other => panic!("{other:?} before the client is sent away"),
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        self.write(&frame(0x88, &1000u16.to_be_bytes())).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next frame of the server, which must be whole and unmasked.
    pub(crate) async fn frame(&mut self) -> Frame {
        soon(self.read_frame()).await
    }

    async fn read_frame(&mut self) -> Frame {
        let Ok(first) = self.stream.read_u8().await else { return Frame::End };
        let length = match self.stream.read_u8().await.unwrap() {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        match first {
            0x81 => Frame::Text(String::from_utf8(payload).unwrap()),
            0x82 => Frame::Binary(payload),
            0x8a => Frame::Pong(payload),
            0x88 => {
                let (code, reason) = payload.split_at(2);
                Frame::Close(u16::from_be_bytes([code[0], code[1]]), String::from_utf8(reason.to_vec()).unwrap())
            }
            other => panic!("a frame of type {other:#x}"),
        }
    }
}

/// The MessagePack map of a broadcast.
pub(crate) fn broadcast(content: &[u8], targets: &[&str]) -> Vec<u8> {
    let map =
        |pairs: Vec<(&str, Value)>| Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect());
    let keys = targets
        .iter()
        .map(|target| map(vec![("target", (*target).into()), ("key", "k".into()), ("iv", "i".into())]))
        .collect();
    let message = map(vec![
        ("version", "0.3.1".into()),
        ("kind", "broadcast".into()),
        ("origin", "".into()),
        (
            "metadata",
            map(vec![
                ("encryption", map(vec![("keys", Value::Array(keys))])),
                ("compression", map(vec![("algorithm", "none".into())])),
            ]),
        ),
        ("content", Value::Binary(content.to_vec())),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &message).unwrap();
    bytes
}

/// The encrypted content of a peer's message; `None` for the server's own.
pub(crate) fn content(message: &Value) -> Option<Vec<u8>> {
    let (_, content) = message.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some("content")).unwrap();
    match content {
        Value::Binary(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

/// A masked frame.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first_byte];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
