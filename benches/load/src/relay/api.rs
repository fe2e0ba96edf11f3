//! The protocol's HTTP calls, the way an IDE client makes them: log in, create a room, ask to join one.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::http1::Http1;

/// Polls end after 30 s on the server's side; a join is refused after this many.
const POLLS_MAX: usize = 10;

/// One user's HTTP connection.
pub(crate) struct Api<'a> {
    endpoint: &'a Endpoint,
    node_header: &'a str,
    extra_headers: &'a str,
    connection: Option<Http1>,
    login_token: String,
    /// Which node gave the last answer, when it says so.
    pub(crate) node: String,
    /// The status of the last answer.
    pub(crate) status: u16,
}

/// A room as its creator gets it.
pub(crate) struct CreatedRoom {
    pub(crate) room_id: String,
    pub(crate) room_token: String,
}

impl<'a> Api<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, node_header: &'a str, extra_headers: &'a str) -> Self {
        Self {
            endpoint,
            node_header,
            extra_headers,
            connection: None,
            login_token: String::new(),
            node: String::new(),
            status: 0,
        }
    }

    /// Logs in with a name alone, which the server must allow.
    pub(crate) async fn log_in(&mut self, name: &str) -> Result<()> {
        let initial = self.post_ok("/api/login/initial", None).await?;
        let poll_token = text(&initial, "pollToken")?;
        let form = serde_json::json!({ "token": poll_token, "user": name, "email": format!("{name}@load.example") });
        let (status, body) = self.call("POST", "/api/login/simple", Some(form.to_string())).await?;
        ensure!(status == 200, "the simple login was answered with {status} {body}: is it activated?");
        let login = self.post_ok(&format!("/api/login/poll/{poll_token}"), None).await?;
        self.login_token = text(&login, "loginToken")?;
        Ok(())
    }

    pub(crate) async fn create_room(&mut self) -> Result<CreatedRoom> {
        let room = self.post_ok("/api/session/create", None).await?;
        Ok(CreatedRoom { room_id: text(&room, "roomId")?, room_token: text(&room, "roomToken")? })
    }

    /// Asks to join and waits for the host's consent; gives the room token.
    pub(crate) async fn join_room(&mut self, room_id: &str) -> Result<String> {
        let request = self.post_ok(&format!("/api/session/join/{room_id}"), None).await?;
        let path = format!("/api/session/poll/{}", text(&request, "pollToken")?);
        for _ in 0..POLLS_MAX {
            let (status, body) = self.call("POST", &path, None).await?;
            if status == 204 {
                continue;
            }
            ensure!(status == 200, "{path} was answered with {status} {body}");
            let answer: Value = serde_json::from_str(&body)?;
            if let Ok(token) = text(&answer, "roomToken") {
                return Ok(token);
            }
            ensure!(answer["failure"] == false, "the join was refused: {body}");
            // A server may say `WaitingForHost` at once; asking again without a pause would be a load of its own.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        bail!("the host did not answer the join request")
    }

    async fn post_ok(&mut self, path: &str, body: Option<String>) -> Result<Value> {
        let (status, body) = self.call("POST", path, body).await?;
        ensure!(status == 200, "POST {path} was answered with {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("POST {path} was answered with {body}, which is not JSON"))
    }

    async fn call(&mut self, method: &str, path: &str, body: Option<String>) -> Result<(u16, String)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Http1::new(self.endpoint.connect().await?, self.node_header),
        };
        let mut head =
            format!("{method} {} HTTP/1.1\r\nhost: {}\r\n", self.endpoint.below(path), self.endpoint.authority);
        head.push_str(self.extra_headers);
        if !self.login_token.is_empty() {
            head.push_str(&format!("x-oct-jwt: {}\r\n", self.login_token));
        }
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut answer_body = Vec::new();
        let answer = connection
            .exchange(head.as_bytes(), Some(&mut answer_body))
            .await
            .with_context(|| format!("{method} {path}"))?;
        self.node.clone_from(&connection.node);
        self.status = answer.status;
        if answer.reusable {
            self.connection = Some(connection);
        }
        Ok((answer.status, String::from_utf8_lossy(&answer_body).into_owned()))
    }
}

fn text(object: &Value, name: &str) -> Result<String> {
    object[name].as_str().map(str::to_owned).with_context(|| format!("the answer has no {name}: {object}"))
}
