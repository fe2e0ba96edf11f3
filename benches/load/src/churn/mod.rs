//! Scenario `churn`: sessions whose peers say numbered messages all the time, while nodes are added, drained and killed by
//! commands, and while clients reconnect the way the stock client does. Every message is accounted for at every peer.

mod books;
mod event;
mod participant;
mod recovery;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::sync::Semaphore;

use self::books::Books;
use self::event::{Event, Kind};
use self::participant::{Entrance, Participant};
use crate::arguments::{Common, seconds};
use crate::endpoint::{Alpn, Endpoint};
use crate::pace::Pacer;
use crate::relay::api::Api;
use crate::relay::envelope::{self, Template};
use crate::report::Report;

/// Sessions × peers × rate, and what happens to the servers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChurnArguments {
    /// The server's URL, with its path prefix if it has one
    #[arg(long, value_name = "URL")]
    url: String,
    /// How many sessions
    #[arg(long, default_value_t = 60)]
    sessions: usize,
    /// How many peers each session has, its host included
    #[arg(long, default_value_t = 3)]
    peers: usize,
    /// How many messages each peer sends in a second, to all others of its session
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
    /// What happens, as "SECONDS KIND COMMAND": add, drain and kill run the shell command; "SECONDS blip" lets the last guest
    /// of every session reconnect, "SECONDS join" lets somebody else join every session; a kind may have a name, like
    /// drain/restart; an event waits until everybody is back; may be repeated
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<Event>,
    /// How long peers may take to come back at the end, in seconds: the grace period of a session and a little more
    #[arg(long = "return", value_name = "SECONDS", default_value = "40", value_parser = seconds)]
    return_within: Duration,
    /// The header that carries a session's key in all requests of its clients; "" for none
    #[arg(long, value_name = "NAME", default_value = "ctstickiness")]
    key_name: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Bytes of each message's content and of each wrapped key.
const CONTENT_BYTES: usize = 256;
const KEY_BYTES: usize = 684;

/// How many sessions are set up, or joined, at the same time.
const CONCURRENCY: usize = 8;

/// How long a set-up and a join may take.
const JOIN_WITHIN: Duration = Duration::from_secs(15);

/// Deliveries have ended when none has come for this long.
const QUIET: Duration = Duration::from_secs(2);

/// Runs the scenario.
pub(crate) async fn run(arguments: ChurnArguments) -> Result<Report> {
    ensure!(arguments.sessions > 0 && arguments.peers > 1 && arguments.rate > 0.0, "somebody must speak to somebody");
    let endpoint = Endpoint::resolve(&arguments.url, arguments.common.insecure, Alpn::Http1)?;
    let books = Rc::new(Books::new(arguments.sessions));
    let plan = Rc::new(Plan { endpoint, headers: arguments.common.header_lines()?, arguments });
    let rooms = open_sessions(&plan, &books).await?;
    books.begin_phase("undisturbed", None);
    let begun = Instant::now();
    let speaking = tokio::task::spawn_local(speak(plan.clone(), books.clone(), begun));
    for event in &plan.arguments.events {
        tokio::time::sleep_until((begun + event.at).into()).await;
        connected(&plan, &books).await;
        books.begin_phase(&event.name, Some(event.kind));
        match event.kind {
            Kind::Add | Kind::Drain | Kind::Kill => event.run_command().await?,
            Kind::Blip => hang_up_last_guests(&plan, &books),
            Kind::Join => join_all(&plan, &books, &rooms).await?,
        }
    }
    tokio::time::sleep(plan.arguments.common.duration).await;
    speaking.abort();
    let measured = begun.elapsed();
    everybody_back(&plan, &books).await;
    let mut report = settle(&plan, &books, measured);
    leave(&books).await?;
    report.target.clone_from(&plan.endpoint.authority);
    Ok(report)
}

struct Plan {
    arguments: ChurnArguments,
    endpoint: Endpoint,
    headers: String,
}

impl Plan {
    /// The lines of the head in every request of a session.
    fn lines(&self, key: &str) -> String {
        match self.arguments.key_name.as_str() {
            "" => self.headers.clone(),
            name => format!("{}{name}: {key}\r\n", self.headers),
        }
    }

    fn participant(&self, index: usize, session: usize, token: &str, lines: &str) -> Participant {
        use base64::Engine as _;
        let key =
            base64::engine::general_purpose::STANDARD.encode(envelope::random_bytes(&format!("public {index}"), 552));
        let headers = format!(
            "x-oct-jwt: {token}\r\nx-oct-public-key: {key}\r\nx-oct-client: ctedge-load\r\nx-oct-compression: none\r\n{lines}"
        );
        let entrance = Entrance {
            endpoint: self.endpoint.clone(),
            node_header: self.arguments.common.node_header.clone(),
            headers,
        };
        Participant::new(index, (session, session * self.arguments.peers), entrance)
    }
}

/// Sets up all sessions, some at a time; gives their room ids.
async fn open_sessions(plan: &Rc<Plan>, books: &Rc<Books>) -> Result<Vec<String>> {
    let permits = Rc::new(Semaphore::new(CONCURRENCY));
    let mut opening = Vec::new();
    for session in 0..plan.arguments.sessions {
        let (permits, plan, books) = (permits.clone(), plan.clone(), books.clone());
        opening.push(tokio::task::spawn_local(async move {
            let _permit = permits.acquire().await?;
            let limit = JOIN_WITHIN * plan.arguments.peers as u32;
            let opened = tokio::time::timeout(limit, open_session(&plan, &books, session)).await;
            opened.context("it took too long")?.with_context(|| format!("cannot set up session {session}"))
        }));
    }
    let mut rooms = Vec::new();
    for session in opening {
        let (room, participants) = session.await??;
        rooms.push(room);
        books.participants.borrow_mut().extend(participants);
    }
    Ok(rooms)
}

/// One session: its host creates it under a key of its own, its guests join it one after the other.
async fn open_session(plan: &Plan, books: &Rc<Books>, session: usize) -> Result<(String, Vec<Rc<Participant>>)> {
    // Two runs must not meet in one session.
    let mut key = format!("churn-{}-{session}", std::process::id());
    let mut participants: Vec<Rc<Participant>> = Vec::new();
    for position in 0..plan.arguments.peers {
        let lines = plan.lines(&key);
        let mut api = Api::new(&plan.endpoint, &plan.arguments.common.node_header, &lines);
        api.log_in(&format!("user-{session}-{position}")).await?;
        let token = if position == 0 {
            let room = api.create_room().await?;
            key = room.room_id;
            room.room_token
        } else {
            api.join_room(&key).await?
        };
        let index = session * plan.arguments.peers + position;
        let participant = Rc::new(plan.participant(index, session, &token, &plan.lines(&key)));
        tokio::task::spawn_local(participant.clone().live(books.clone()));
        participant.identified().await?;
        participants.push(participant);
    }
    let ids: Vec<&str> = participants.iter().filter_map(|peer| peer.id.get().map(String::as_str)).collect();
    let content = envelope::random_bytes("content", CONTENT_BYTES);
    for (position, participant) in participants.iter().enumerate() {
        let mut others = ids.clone();
        others.remove(position);
        *participant.template.borrow_mut() = Some(Template::new(&others, KEY_BYTES, &content)?);
        participant.accounts.borrow_mut().resize_with(ids.len(), Default::default);
    }
    Ok((key, participants))
}

/// Lets everybody speak by a schedule, evenly spread.
async fn speak(plan: Rc<Plan>, books: Rc<Books>, begun: Instant) -> Result<()> {
    let pacer = Pacer::new()?;
    let speakers = books.participants.borrow().clone();
    let spacing = Duration::from_secs_f64(1.0 / (plan.arguments.rate * speakers.len() as f64));
    for turn in 0_u64.. {
        let since = Duration::from_secs_f64(spacing.as_secs_f64() * turn as f64);
        pacer.until(begun + since).await?;
        // Neighbours in time belong to different sessions.
        let turn = turn as usize % speakers.len();
        let (sessions, peers) = (plan.arguments.sessions, plan.arguments.peers);
        speakers[turn % sessions * peers + turn / sessions].say(since.as_nanos() as u64);
    }
    Ok(())
}

fn hang_up_last_guests(plan: &Plan, books: &Books) {
    let peers = plan.arguments.peers;
    for participant in books.participants.borrow().iter().filter(|peer| peer.index % peers == peers - 1) {
        participant.hang_up();
    }
}

/// Somebody else joins every session and leaves it again.
async fn join_all(plan: &Rc<Plan>, books: &Rc<Books>, rooms: &[String]) -> Result<()> {
    let permits = Rc::new(Semaphore::new(CONCURRENCY));
    let mut joining = Vec::new();
    for (session, room) in rooms.iter().enumerate() {
        let (permits, plan, books, room) = (permits.clone(), plan.clone(), books.clone(), room.clone());
        joining.push(tokio::task::spawn_local(async move {
            let _permit = permits.acquire().await?;
            let lines = plan.lines(&room);
            let mut api = Api::new(&plan.endpoint, &plan.arguments.common.node_header, &lines);
            let join = async {
                api.log_in(&format!("newcomer-{session}")).await?;
                api.join_room(&room).await
            };
            match tokio::time::timeout(JOIN_WITHIN, join).await.context("it took too long").flatten() {
                Ok(_) => books.count("joins let in"),
                Err(error) => {
                    books.count(if api.status == 421 { "joins answered 421" } else { "joins refused otherwise" });
                    let mut report = books.report.borrow_mut();
                    report.fault("joins refused", || format!("join: session {session}: {error:#}"));
                }
            }
            anyhow::Ok(())
        }));
    }
    for join in joining {
        join.await??;
    }
    Ok(())
}

/// Waits until everybody is back whom the event before has cut off, or will not come back, so that what it did is not taken
/// for the next one's.
async fn connected(plan: &Plan, books: &Books) {
    let give_up = Instant::now() + plan.arguments.return_within;
    while Instant::now() < give_up && books.is_awaited() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until everybody is back and has heard everything, or nothing more comes.
async fn everybody_back(plan: &Plan, books: &Books) {
    let give_up = Instant::now() + plan.arguments.return_within;
    let (mut deliveries, mut changed) = (books.deliveries.get(), Instant::now());
    while Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if books.deliveries.get() != deliveries {
            (deliveries, changed) = (books.deliveries.get(), Instant::now());
        }
        let is_complete = books.participants.borrow().iter().all(|peer| peer.is_connected());
        if is_complete && changed.elapsed() >= QUIET {
            break;
        }
    }
    for participant in books.participants.borrow().iter().filter(|peer| !peer.is_connected()) {
        let reason = || format!("peer {} did not get back", participant.index);
        books.lose(participant.session, reason);
    }
}

/// The sums, and what must be zero.
fn settle(plan: &Plan, books: &Books, measured: Duration) -> Report {
    books.find_lost();
    for participant in &*books.participants.borrow() {
        participant.stop_listening();
    }
    books.close_phase();
    books.is_over.set(true);
    let mut report = std::mem::take(&mut *books.report.borrow_mut());
    books.settle(&mut report);
    report.scenario = "churn";
    report.operation = "delivery";
    report.set_operations(books.deliveries.get(), measured);
    let participants = books.participants.borrow();
    report.counts = BTreeMap::from([
        ("sessions", plan.arguments.sessions as u64),
        ("peers", participants.len() as u64),
        ("due", participants.iter().map(|peer| peer.sent()).sum::<u64>() * (plan.arguments.peers as u64 - 1)),
        ("delivered", books.deliveries.get()),
    ]);
    report
}

/// Everybody leaves, the hosts last, so that no seat stays taken.
async fn leave(books: &Books) -> Result<()> {
    let farewell = envelope::leave()?;
    let participants = books.participants.borrow().clone();
    let (hosts, guests): (Vec<_>, Vec<_>) = participants.iter().partition(|peer| peer.index == peer.session_start);
    let give_up = Instant::now() + Duration::from_secs(5);
    for leaving in [guests, hosts] {
        leaving.iter().for_each(|peer| peer.leave(&farewell));
        while leaving.iter().any(|peer| peer.is_connected()) && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}
