//! Sessions that change their node: handed over, taken over, let go.

mod fencing;
mod frozen;
mod handing_over;
mod taking_over;

use std::path::Path;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};

use crate::client::{Client, Frame, content, soon};
use crate::room::Room;

const SOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Two nodes that share, `a` and `b`. The first one knows the second.
async fn two(folder: &Path) -> (Room, Room) {
    let second = Room::sharing(folder, "b").await;
    let first = Room::sharing(folder, "a").await;
    soon(first.until_metric("ctedge_node_store_commands_total{result=\"ok\"}", |commands| commands >= 2)).await;
    (first, second)
}

/// Reads what is left until the connection ends. Gives the broadcasts.
async fn ends(client: &mut Client) -> Vec<Vec<u8>> {
    let mut broadcasts = Vec::new();
    loop {
        match client.frame().await {
            Frame::End => return broadcasts,
            Frame::Binary(data) => broadcasts.extend(content(&rmpv::decode::read_value(&mut &*data).unwrap())),
            _ => {}
        }
    }
}

/// Comes back to whichever node has the session, as a balancer would bring it there.
async fn back(room: &Room, token: &str) -> Client {
    let mut client = Client::websocket(room, token).await;
    client.connect("/").await;
    client
}

/// Asks until the node lets the bearer of the token in.
async fn let_in(room: &Room, token: &str) -> Client {
    let knocking = async {
        loop {
            if let Ok(client) = Client::upgrade(room, SOCKET, &room.headers(token)).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut client = soon(knocking).await;
    let Frame::Text(_) = client.frame().await else { panic!("the first frame is the handshake") };
    client.connect("/").await;
    client
}

/// The answer of a node that does not let somebody in.
async fn refused(room: &Room, headers: &str) -> String {
    match soon(Client::upgrade(room, SOCKET, headers)).await {
        Ok(_) => panic!("the session is not here"),
        Err(answer) => answer,
    }
}

fn ids(clients: [&Client; 2]) -> [String; 2] {
    clients.map(|client| client.peer_id.clone())
}

/// Waits until the store knows of a host and a guest.
async fn pair_written(folder: &Path) {
    until_true(folder, "SELECT COUNT(*) = 2 FROM peers WHERE session_key = 'room'").await;
}

/// Waits until the store says that it is so.
async fn until_true(folder: &Path, question: &'static str) {
    let url = format!("sqlite:{}", folder.join("ctedge.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    let becomes_true = async {
        while !sqlx::query_scalar::<_, bool>(question).fetch_one(&mut store).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(becomes_true).await;
}

/// What is noted in files whose names begin so.
fn notes(folder: &Path, name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder.join("notes")).unwrap().map(|entry| entry.unwrap().path());
    let of_it = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    files.filter(of_it).map(|path| std::fs::read(path).unwrap()).collect()
}

/// A message of a peer, with whatever content.
fn message(kind: &str, more: &[(&str, rmpv::Value)]) -> Vec<u8> {
    let mut fields: Vec<(rmpv::Value, rmpv::Value)> =
        vec![("version".into(), "0.3.1".into()), ("kind".into(), kind.into()), ("origin".into(), "".into())];
    fields.extend(more.iter().map(|(name, value)| ((*name).into(), value.clone())));
    let no_keys = rmpv::Value::Map(vec![("keys".into(), rmpv::Value::Array(Vec::new()))]);
    let no_compression = rmpv::Value::Map(vec![("algorithm".into(), "none".into())]);
    let metadata = vec![("encryption".into(), no_keys), ("compression".into(), no_compression)];
    fields.push(("metadata".into(), rmpv::Value::Map(metadata)));
    if !more.iter().any(|(name, _)| *name == "content") {
        fields.push(("content".into(), rmpv::Value::Binary(b"encrypted".to_vec())));
    }
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(fields)).unwrap();
    bytes
}

/// A field of a message.
fn field<'m>(message: &'m rmpv::Value, name: &str) -> &'m rmpv::Value {
    let (_, value) = message.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some(name)).unwrap();
    value
}
