//! A small session through the public URL: a host as an IDE client, a guest as a browser, and one message between them.

use std::time::{Duration, Instant};

use anyhow::Context;
use ctedge_doctor::facts::{Carrier, Idle, SessionFacts, Step};
use ctedge_wire::Key;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::engine::{Channel, Packet};
use super::http::{Client, Response};
use super::message::{self, Message};
use super::random_key;

/// A poll is answered within half a minute, and both logins are decided before they are polled for.
const POLLS_MAX: usize = 4;

/// The text frame before a message.
const EVENT_HEAD: &str = r#"451-["message",{"_placeholder":true,"num":0}]"#;

/// Why a session did not come to its end.
enum Stop {
    Untried(String),
    Refused(Step, Response),
    Failed(Step, anyhow::Error),
}

/// Lets two clients meet.
pub(super) fn meet(endpoint: &Endpoint) -> anyhow::Result<SessionFacts> {
    let key = random_key()?;
    let began = Instant::now();
    Ok(match run(endpoint, &key) {
        Ok(()) => SessionFacts::Met(began.elapsed()),
        Err(Stop::Untried(why)) => SessionFacts::Untried(why),
        Err(Stop::Refused(step, response)) => SessionFacts::Refused(step, response.answer(false)),
        Err(Stop::Failed(step, error)) => SessionFacts::Failed(step, format!("{error:#}")),
    })
}

fn run(endpoint: &Endpoint, key: &Key) -> Result<(), Stop> {
    let deadline = Instant::now() + endpoint.timeout * 4;
    let host = log_in(&Client::carrying(endpoint, Carrier::Header, key.as_str()), "host")?;
    let created = ok(Step::Create, host.post("/api/session/create", ""))?;
    let room = text(Step::Create, &created, "roomId")?;
    let mut host = Peer::connect(Step::HostConnect, &host, &text(Step::Create, &created, "roomToken")?, deadline)?;
    // From here on the host must be told the end, so that nothing of this is left.
    let met = let_in(endpoint, key, &room, &mut host, deadline);
    host.leave();
    met
}

/// Lets a host be alone in its session for `time`, and tells whether its WebSocket is cut. `None` where there can be no such
/// session, which another finding says.
///
/// The timeout of `endpoint` must be longer than the pause between two pings of a node.
pub(super) fn stay(endpoint: &Endpoint, time: Duration) -> anyhow::Result<Option<Idle>> {
    let key = random_key()?;
    let connect = || {
        let host = log_in(&Client::carrying(endpoint, Carrier::Header, key.as_str()), "host")?;
        let created = ok(Step::Create, host.post("/api/session/create", ""))?;
        let token = text(Step::Create, &created, "roomToken")?;
        Peer::connect(Step::HostConnect, &host, &token, Instant::now() + endpoint.timeout)
    };
    let Ok::<_, Stop>(mut host) = connect() else { return Ok(None) };
    let began = Instant::now();
    let rested = host.channel.rest(began + time);
    host.leave();
    Ok(Some(match rested {
        Ok(()) => Idle::Stayed(began.elapsed()),
        Err(error) => Idle::Ended(began.elapsed(), format!("{error:#}")),
    }))
}

/// Lets a guest in, and has it say something.
fn let_in(endpoint: &Endpoint, key: &Key, room: &str, host: &mut Peer, deadline: Instant) -> Result<(), Stop> {
    let guest = log_in(&Client::carrying(endpoint, Carrier::Cookie, key.as_str()), "guest")?;
    let asked = ok(Step::Join, guest.post(&format!("/api/session/join/{room}"), ""))?;
    let poll = text(Step::Join, &asked, "pollToken")?;
    host.consent(deadline).map_err(|error| Stop::Failed(Step::Join, error))?;
    let token = polled(Step::Join, &guest, &format!("/api/session/poll/{poll}"), "roomToken")?;
    let mut guest = Peer::connect(Step::GuestConnect, &guest, &token, deadline)?;
    let said = key.as_str().as_bytes();
    let heard = guest.say(&host.id, said).and_then(|()| host.hear(said, deadline));
    guest.leave();
    heard.map_err(|error| Stop::Failed(Step::Meet, error))
}

/// Logs in by the form, and gives the client with its token.
fn log_in<'e>(client: &Client<'e>, role: &str) -> Result<Client<'e>, Stop> {
    let initial = ok(Step::LogIn, client.post("/api/login/initial", ""))?;
    let poll = text(Step::LogIn, &initial, "pollToken")?;
    let form = json!({ "token": poll, "user": format!("ctedge doctor ({role})") });
    let answered = asked(Step::LogIn, client.post("/api/login/simple", &form.to_string()))?;
    match answered.status {
        200 => {}
        // The endpoint of a form that is switched off.
        404 => return Err(Stop::Untried("nobody can log in with a name alone at this server".to_owned())),
        _ => return Err(Stop::Refused(Step::LogIn, answered)),
    }
    let token = polled(Step::LogIn, client, &format!("/api/login/poll/{poll}"), "loginToken")?;
    Ok(client.with("x-oct-jwt", &token))
}

/// Polls until the answer has the field `name`.
fn polled(step: Step, client: &Client<'_>, path: &str, name: &str) -> Result<String, Stop> {
    for _ in 0..POLLS_MAX {
        let response = asked(step, client.post(path, ""))?;
        match (response.status, response.json()) {
            (204, _) => {}
            (200, body) if body[name].is_string() => return text(step, &body, name),
            (200, body) if body["failure"] == json!(false) => {}
            _ => return Err(Stop::Refused(step, response)),
        }
    }
    Err(Stop::Failed(step, anyhow::anyhow!("it was never decided")))
}

fn asked(step: Step, response: anyhow::Result<Response>) -> Result<Response, Stop> {
    response.map_err(|error| Stop::Failed(step, error))
}

/// The body of a good answer.
fn ok(step: Step, response: anyhow::Result<Response>) -> Result<Value, Stop> {
    let response = asked(step, response)?;
    if response.status == 200 { Ok(response.json()) } else { Err(Stop::Refused(step, response)) }
}

fn text(step: Step, body: &Value, name: &str) -> Result<String, Stop> {
    let missing = || Stop::Failed(step, anyhow::anyhow!("the answer has no {name}"));
    body[name].as_str().map(str::to_owned).ok_or_else(missing)
}

/// One of the two, connected.
struct Peer {
    channel: Channel,
    id: String,
}

impl Peer {
    /// Connects with a room token, and learns who it is.
    fn connect(step: Step, client: &Client<'_>, token: &str, deadline: Instant) -> Result<Self, Stop> {
        let failed = |error| Stop::Failed(step, error);
        let client = client.instead("x-oct-jwt", token);
        let client = client.with("x-oct-public-key", message::PUBLIC_KEY).with("x-oct-client", "ctedge-doctor");
        let mut channel = match Channel::open(&client).map_err(failed)? {
            Ok(channel) => channel,
            Err(response) => return Err(Stop::Refused(step, response)),
        };
        channel.hello().and_then(|()| channel.send("40")).map_err(failed)?;
        let mut peer = Self { channel, id: String::new() };
        let id = peer.until(deadline, Message::peer_info);
        peer.id = id.map_err(failed)?;
        Ok(peer)
    }

    /// Waits for somebody who asks to join, and agrees.
    fn consent(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let request = self.until(deadline, Message::join_request).context("the host is not asked")?;
        self.send(message::consent(request)?)
    }

    fn say(&mut self, to: &str, content: &[u8]) -> anyhow::Result<()> {
        self.send(message::broadcast(to, content)?)
    }

    fn hear(&mut self, content: &[u8], deadline: Instant) -> anyhow::Result<()> {
        let heard = self.until(deadline, |message| message.content().filter(|found| *found == content).map(|_| ()));
        heard.context("the host does not hear the guest")
    }

    /// Tells the server that nothing more comes, and goes.
    fn leave(&mut self) {
        // Without this word the server waits for it to come back, and ends the session by itself then.
        let _ = message::leave().and_then(|leave| self.send(leave));
        self.channel.close();
    }

    fn send(&mut self, message: Vec<u8>) -> anyhow::Result<()> {
        self.channel.send(EVENT_HEAD)?;
        self.channel.send_binary(message)
    }

    fn until<T>(&mut self, deadline: Instant, wanted: impl Fn(&Message) -> Option<T>) -> anyhow::Result<T> {
        self.channel.until(deadline, |packet| match packet {
            Packet::Binary(bytes) => Ok(Message::read(&bytes).and_then(|message| wanted(&message))),
            // Socket.IO's packets "disconnect" and "connect error".
            Packet::Text(text) if text.starts_with("41") || text.starts_with("44") => {
                let reason: Option<Value> = text.get(2..).and_then(|reason| serde_json::from_str(reason).ok());
                let reason = reason.and_then(|reason| reason["message"].as_str().map(str::to_owned));
                anyhow::bail!("the server sent it away: {}", reason.unwrap_or_else(|| "without a reason".to_owned()))
            }
            Packet::Text(_) => Ok(None),
        })
    }
}
