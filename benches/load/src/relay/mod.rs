//! Scenario `relay`: rooms of peers that broadcast to each other through any server of the Open Collaboration Protocol.
//!
//! Every message is accounted for at every peer that must get it. Contents only look encrypted; the server cannot tell.

pub(crate) mod account;
pub(crate) mod api;
pub(crate) mod envelope;
mod peer;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::sync::Semaphore;

use self::api::Api;
use self::envelope::Template;
use self::peer::Peer;
use self::traffic::Traffic;
use crate::arguments::{Common, seconds};
use crate::endpoint::{Alpn, Endpoint};
use crate::measure::Window;
use crate::report::{Latency, MemoryReport, Report};

/// Rooms × peers × rate × size.
#[derive(Debug, Clone, Args)]
pub(crate) struct RelayArguments {
    /// The server's URL, with its path prefix if it has one
    #[arg(long, value_name = "URL")]
    url: String,
    /// How many rooms
    #[arg(long, default_value_t = 20)]
    rooms: usize,
    /// How many peers each room has, its host included
    #[arg(long, default_value_t = 5)]
    peers: usize,
    /// How many broadcasts each peer sends in a second; 0 keeps all of them idle
    #[arg(long, default_value_t = 12.0, conflicts_with = "window")]
    rate: f64,
    /// Instead of a rate: as fast as possible, with this many broadcasts of each peer on their way
    #[arg(long, value_name = "BROADCASTS")]
    window: Option<u64>,
    /// Bytes of each message's content
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    size: usize,
    /// Bytes of each wrapped key; 684 is what RSA-4096 gives
    #[arg(long, value_name = "BYTES", default_value_t = 684)]
    key_bytes: usize,
    /// How long to send before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    warmup: Duration,
    /// How long to wait at most for what is still on its way at the end, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    drain: Duration,
    /// How many rooms are set up at the same time
    #[arg(long, default_value_t = 8)]
    setup_concurrency: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// How long idle connections rest before their memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the server may take to let everybody go.
const LEAVE: Duration = Duration::from_secs(5);

/// How long the set-up may take for each peer; a stuck server must not hang the run.
const SETUP_PER_PEER: Duration = Duration::from_millis(200);
const SETUP_AT_LEAST: Duration = Duration::from_secs(60);

/// Runs the scenario.
pub(crate) async fn run(arguments: RelayArguments) -> Result<Report> {
    ensure!(arguments.rooms > 0 && arguments.peers > 0, "there must be rooms with peers");
    let server = arguments.common.server.clone();
    let endpoint = Endpoint::resolve(&arguments.url, arguments.common.insecure, Alpn::Http1)?;
    let traffic = Rc::new(Traffic::new(arguments.size, arguments.peers, arguments.window.unwrap_or(0)));

    let memory_before = if server.is_known() { Some(server.memory()?) } else { None };
    let limit = SETUP_AT_LEAST.max(SETUP_PER_PEER * (arguments.rooms * arguments.peers) as u32);
    tokio::time::timeout(limit, open_rooms(&arguments, &endpoint, &traffic))
        .await
        .context("the rooms were not set up in time")??;
    tokio::time::sleep(SETTLE).await;
    if let Some(before) = memory_before {
        let connections = traffic.peers().len() as u64;
        traffic.report.borrow_mut().memory = Some(MemoryReport::of(before, server.memory()?, connections));
    }
    drive(&arguments, &traffic).await?;
    let report = settle_accounts(&arguments, &endpoint, &traffic)?;
    leave(&traffic).await?;
    Ok(report)
}

/// Sets up all rooms, some at a time.
async fn open_rooms(arguments: &RelayArguments, endpoint: &Endpoint, traffic: &Rc<Traffic>) -> Result<()> {
    let permits = Rc::new(Semaphore::new(arguments.setup_concurrency.max(1)));
    let mut rooms = Vec::new();
    for room in 0..arguments.rooms {
        let (permits, arguments, endpoint, traffic) =
            (permits.clone(), arguments.clone(), endpoint.clone(), traffic.clone());
        rooms.push(tokio::task::spawn_local(async move {
            let _permit = permits.acquire().await?;
            open_room(&arguments, &endpoint, &traffic, room).await.with_context(|| format!("cannot set up room {room}"))
        }));
    }
    let mut peers = Vec::new();
    for room in rooms {
        peers.extend(room.await??);
    }
    traffic.set_peers(peers);
    Ok(())
}

/// One room: its host creates it, its guests join it one after the other.
async fn open_room(
    arguments: &RelayArguments,
    endpoint: &Endpoint,
    traffic: &Rc<Traffic>,
    room: usize,
) -> Result<Vec<Rc<Peer>>> {
    let (node_header, extra_headers) = (arguments.common.node_header.as_str(), arguments.common.header_lines()?);
    let room_start = room * arguments.peers;
    let mut nodes = BTreeSet::new();
    let mut peers: Vec<Rc<Peer>> = Vec::new();
    let mut room_id = String::new();
    for position in 0..arguments.peers {
        let mut api = Api::new(endpoint, node_header, &extra_headers);
        api.log_in(&format!("user-{room}-{position}")).await?;
        let token = if position == 0 {
            let created = api.create_room().await?;
            room_id = created.room_id;
            created.room_token
        } else {
            api.join_room(&room_id).await?
        };
        nodes.insert(api.node.clone());
        let indices = (room_start + position, room_start);
        let peer = Rc::new(Peer::connect(endpoint, &token, indices, (node_header, &extra_headers)).await?);
        nodes.insert(peer.channel.node.clone());
        let (reader, books) = (peer.clone(), traffic.clone());
        tokio::task::spawn_local(async move { reader.run(&books).await });
        peer.identified().await?;
        peers.push(peer);
    }
    note_nodes(traffic, room, nodes);
    introduce(&peers, arguments.key_bytes, traffic.content())?;
    Ok(peers)
}

/// One room must be served by one node.
fn note_nodes(traffic: &Traffic, room: usize, mut nodes: BTreeSet<String>) {
    nodes.remove("");
    if nodes.len() > 1 {
        traffic.fault("misrouted", || format!("room {room} was served by {nodes:?}"));
    }
    for node in nodes {
        *traffic.report.borrow_mut().nodes.entry(node).or_default() += 1;
    }
}

/// Everyone in the room knows whom to send keys to, and from whom messages must come.
fn introduce(peers: &[Rc<Peer>], key_bytes: usize, content: &[u8]) -> Result<()> {
    let ids: Vec<&str> = peers.iter().filter_map(|peer| peer.id.get().map(String::as_str)).collect();
    for (position, peer) in peers.iter().enumerate() {
        let others: Vec<&str> =
            ids.iter().enumerate().filter(|(other, _)| *other != position).map(|(_, id)| *id).collect();
        *peer.template.borrow_mut() = Some(Template::new(&others, key_bytes, content)?);
        peer.accounts.borrow_mut().resize_with(peers.len(), Default::default);
    }
    Ok(())
}

/// Warms up, measures, and waits for what is still on its way.
async fn drive(arguments: &RelayArguments, traffic: &Rc<Traffic>) -> Result<()> {
    let server = &arguments.common.server;
    let begin = Instant::now();
    let measured_from = begin + arguments.warmup;
    let end = measured_from + arguments.common.duration;
    traffic.measure_from(measured_from);

    let sender = {
        let (traffic, rate, window) = (traffic.clone(), arguments.rate, arguments.window);
        tokio::task::spawn_local(async move {
            match window {
                Some(_) => traffic.send_in_window(end).await,
                None if rate > 0.0 => traffic.send_on_schedule(begin, end, rate).await?,
                None => tokio::time::sleep_until(end.into()).await,
            }
            anyhow::Ok(())
        })
    };
    tokio::time::sleep_until(measured_from.into()).await;
    let window = Window::open(server, traffic.deliveries.get())?;
    sender.await??;
    window.close(server, traffic.deliveries.get(), &mut traffic.report.borrow_mut())?;
    let give_up = Instant::now() + arguments.drain;
    while traffic.deliveries.get() < traffic.expected_deliveries() && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The sums, and what must be zero.
fn settle_accounts(arguments: &RelayArguments, endpoint: &Endpoint, traffic: &Rc<Traffic>) -> Result<Report> {
    let lost = traffic.lost();
    if lost > 0 {
        traffic.fault("lost", || format!("{lost} deliveries never came"));
    }
    for peer in traffic.peers() {
        if !peer.channel.is_open() || peer.failure.borrow().is_some() {
            let failure = peer.failure.borrow().clone().unwrap_or_default();
            traffic.fault("disconnected", || format!("peer {}: {failure}", peer.index));
        }
    }
    let mut report = std::mem::take(&mut *traffic.report.borrow_mut());
    report.faults.entry("lost").and_modify(|count| *count = lost).or_default();
    for name in ["duplicated", "out of order", "misrouted", "corrupted", "disconnected"] {
        report.faults.entry(name).or_default();
    }
    report.scenario = "relay";
    report.operation = "delivery";
    report.target.clone_from(&endpoint.authority);
    report.counts = BTreeMap::from([
        ("rooms", arguments.rooms as u64),
        ("peers", traffic.peers().len() as u64),
        ("message bytes", arguments.size as u64),
        ("key bytes", arguments.key_bytes as u64),
        ("sent", traffic.peers().iter().map(|peer| peer.sent.get()).sum()),
        ("due", traffic.expected_deliveries()),
        ("delivered", traffic.deliveries.get()),
    ]);
    let send_lags = traffic.send_lags.borrow();
    let lags = arguments.window.is_none().then_some(&*send_lags);
    report.latency = Latency::of(&traffic.latencies.borrow(), arguments.window.is_none(), lags);
    Ok(report)
}

/// Everybody leaves, guests first. Whoever merely hangs up stays a peer for as long as the server waits for a return, and
/// keeps a licensed seat.
async fn leave(traffic: &Traffic) -> Result<()> {
    let farewell = envelope::leave()?;
    let (hosts, guests): (Vec<_>, Vec<_>) = traffic.peers().iter().partition(|peer| peer.index == peer.room_start);
    let give_up = Instant::now() + LEAVE;
    for leaving in [guests, hosts] {
        for peer in &leaving {
            peer.send(&farewell);
            peer.channel.flush();
        }
        while leaving.iter().any(|peer| peer.channel.is_open()) && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}
