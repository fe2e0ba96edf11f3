//! Scenario `tunnel`: WebSocket echo round trips over many tunnels, or tunnels that are merely open.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use crate::arguments::{Common, seconds};
use crate::channel::{Channel, Event};
use crate::endpoint::{Alpn, Endpoint};
use crate::frame::Opcode;
use crate::keys::{KeyArguments, Stickiness};
use crate::measure::Window;
use crate::pace::Pacer;
use crate::report::{self, Latency, MemoryReport, Report};

/// Tunnels × size × rate.
#[derive(Debug, Clone, Args)]
pub(crate) struct TunnelArguments {
    /// A URL that echoes WebSocket messages
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    keys: KeyArguments,
    /// How many tunnels
    #[arg(long, default_value_t = 200)]
    tunnels: usize,
    /// Bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    size: usize,
    /// Messages of each tunnel that are on their way at the same time
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages per second of each tunnel by a schedule; 0 sends the next when the echo has come
    #[arg(long, default_value_t = 0.0, conflicts_with = "in_flight")]
    rate: f64,
    /// Send nothing until the end, when every tunnel must still echo
    #[arg(long, conflicts_with_all = ["rate", "in_flight"])]
    idle: bool,
    /// How long to send before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// How many tunnels are opened at the same time
    #[arg(long, default_value_t = 32)]
    setup_concurrency: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// How long open tunnels rest before their memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// How long an echo may take at the end.
const DRAIN: Duration = Duration::from_secs(5);
/// How long opening all tunnels may take.
const OPEN_MAX: Duration = Duration::from_secs(120);

/// One tunnel and what it waits for.
struct Tunnel {
    channel: Channel,
    /// Number and due time of the messages whose echo has not come, oldest first.
    awaited: RefCell<VecDeque<(u64, Instant)>>,
    sent: Cell<u64>,
    failure: RefCell<Option<String>>,
}

/// What all tunnels share.
struct Shared {
    arguments: TunnelArguments,
    filling: Vec<u8>,
    echoed: Cell<u64>,
    is_sending: Cell<bool>,
    measured_from: Cell<Option<Instant>>,
    latencies: RefCell<Histogram<u64>>,
    send_lags: RefCell<Histogram<u64>>,
    report: RefCell<Report>,
}

/// Bytes of a message's number, before its filling.
const NUMBER_BYTES: usize = 8;

/// Runs the scenario.
pub(crate) async fn run(arguments: TunnelArguments) -> Result<Report> {
    ensure!(arguments.tunnels > 0 && arguments.in_flight > 0, "there must be tunnels and messages");
    let server = arguments.common.server.clone();
    let endpoint = Endpoint::resolve(&arguments.url, arguments.common.insecure, Alpn::Http1)?;
    let shared = Rc::new(Shared::new(arguments));
    let mut books = shared.arguments.keys.books();

    let memory_before = if server.is_known() { Some(server.memory()?) } else { None };
    let tunnels = tokio::time::timeout(OPEN_MAX, open_all(&shared, &endpoint, &mut books))
        .await
        .context("the tunnels were not opened in time")??;
    tokio::time::sleep(SETTLE).await;
    if let Some(before) = memory_before {
        shared.report.borrow_mut().memory = Some(MemoryReport::of(before, server.memory()?, tunnels.len() as u64));
    }
    shared.drive(&tunnels).await?;
    Ok(shared.finish(&tunnels, &books))
}

/// Opens every tunnel with a key of its own; tunnels whose keys are equal must get to one node.
async fn open_all(shared: &Rc<Shared>, endpoint: &Endpoint, books: &mut Stickiness) -> Result<Vec<Rc<Tunnel>>> {
    let permits = Rc::new(Semaphore::new(shared.arguments.setup_concurrency.max(1)));
    let headers = shared.arguments.common.header_lines()?;
    let mut opening = Vec::new();
    for index in 0..shared.arguments.tunnels {
        let (path, key_line) = shared.arguments.keys.carry(&endpoint.path, index % shared.arguments.keys.keys.max(1));
        let (permits, endpoint, shared) = (permits.clone(), endpoint.clone(), shared.clone());
        let headers = format!("{key_line}{headers}");
        opening.push(tokio::task::spawn_local(async move {
            let _permit = permits.acquire().await?;
            let node_header = &shared.arguments.common.node_header;
            let channel = Channel::open(&endpoint, &path, &headers, node_header)
                .await
                .with_context(|| format!("tunnel {index}"))?;
            let tunnel =
                Tunnel { channel, awaited: RefCell::default(), sent: Cell::new(0), failure: RefCell::default() };
            let tunnel = Rc::new(tunnel);
            let reader = tunnel.clone();
            tokio::task::spawn_local(async move { shared.read(&reader).await });
            anyhow::Ok(tunnel)
        }));
    }
    let mut tunnels = Vec::new();
    for (index, tunnel) in opening.into_iter().enumerate() {
        let tunnel = tunnel.await??;
        let key = index % shared.arguments.keys.keys.max(1);
        books.answered(key, &tunnel.channel.node, &mut shared.report.borrow_mut());
        tunnels.push(tunnel);
    }
    Ok(tunnels)
}

impl Shared {
    fn new(arguments: TunnelArguments) -> Self {
        // The filling differs from byte to byte, so that an echo that is shifted or cut shows.
        let filling = (0..arguments.size.saturating_sub(NUMBER_BYTES)).map(|at| (at * 31 % 251) as u8).collect();
        Self {
            arguments,
            filling,
            echoed: Cell::new(0),
            is_sending: Cell::new(false),
            measured_from: Cell::new(None),
            latencies: RefCell::new(report::histogram()),
            send_lags: RefCell::new(report::histogram()),
            report: RefCell::default(),
        }
    }

    /// Sends one message that was due at `due`.
    fn send(&self, tunnel: &Tunnel, due: Instant) {
        let number = tunnel.sent.get();
        tunnel.sent.set(number + 1);
        tunnel.awaited.borrow_mut().push_back((number, due));
        let mut message = Vec::with_capacity(NUMBER_BYTES + self.filling.len());
        message.extend_from_slice(&number.to_be_bytes());
        message.extend_from_slice(&self.filling);
        tunnel.channel.queue(Opcode::Binary, &message);
    }

    async fn read(&self, tunnel: &Tunnel) {
        let result = tunnel
            .channel
            .run(|event| {
                if let Event::Binary(echo) = event {
                    self.receive(tunnel, echo);
                }
            })
            .await;
        let reason = result.map_or_else(|error| format!("{error:#}"), |()| "closed by the server".into());
        *tunnel.failure.borrow_mut() = Some(reason);
    }

    fn receive(&self, tunnel: &Tunnel, echo: &[u8]) {
        let now = Instant::now();
        let Some((number, due)) = tunnel.awaited.borrow_mut().pop_front() else {
            return self.report.borrow_mut().fault("duplicated", || "an echo came that nobody waits for".into());
        };
        if echo.split_at_checked(NUMBER_BYTES) != Some((&number.to_be_bytes()[..], &self.filling[..])) {
            self.report
                .borrow_mut()
                .fault("corrupted", || format!("the echo of message {number} has {} other bytes", echo.len()));
        }
        self.echoed.set(self.echoed.get() + 1);
        if self.measured_from.get().is_some_and(|from| due >= from) {
            report::record(&mut self.latencies.borrow_mut(), now.saturating_duration_since(due));
        }
        if self.is_sending.get() {
            // The channel flushes by itself at the end of the batch.
            self.send(tunnel, now);
        }
    }

    async fn drive(self: &Rc<Self>, tunnels: &[Rc<Tunnel>]) -> Result<()> {
        let server = &self.arguments.common.server;
        let schedule = (self.arguments.rate > 0.0)
            .then(|| tokio::task::spawn_local(keep_schedule(self.clone(), tunnels.to_vec())));
        if !self.arguments.idle && schedule.is_none() {
            self.is_sending.set(true);
            self.send_to_all(tunnels, self.arguments.in_flight);
        }
        tokio::time::sleep(self.arguments.warmup).await;
        let window = Window::open(server, self.echoed.get())?;
        self.measured_from.set(Some(Instant::now()));
        tokio::time::sleep(self.arguments.common.duration).await;
        window.close(server, self.echoed.get(), &mut self.report.borrow_mut())?;
        self.is_sending.set(false);
        if let Some(schedule) = schedule {
            schedule.abort();
        }
        if self.arguments.idle {
            self.send_to_all(tunnels, 1);
        }
        let give_up = Instant::now() + DRAIN;
        while tunnels.iter().any(|tunnel| !tunnel.awaited.borrow().is_empty()) && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn send_to_all(&self, tunnels: &[Rc<Tunnel>], count: usize) {
        for tunnel in tunnels {
            for _ in 0..count {
                self.send(tunnel, Instant::now());
            }
            tunnel.channel.flush();
        }
    }

    fn finish(&self, tunnels: &[Rc<Tunnel>], books: &Stickiness) -> Report {
        let mut report = std::mem::take(&mut *self.report.borrow_mut());
        for (index, tunnel) in tunnels.iter().enumerate() {
            let lost = tunnel.awaited.borrow().len();
            for _ in 0..lost {
                report.fault("lost", || format!("tunnel {index} waits for {lost} echoes"));
            }
            if let Some(failure) = &*tunnel.failure.borrow() {
                report.fault("disconnected", || format!("tunnel {index}: {failure}"));
            }
        }
        for name in ["lost", "duplicated", "corrupted", "disconnected"] {
            report.faults.entry(name).or_default();
        }
        books.close(&mut report);
        report.scenario = "tunnel";
        report.operation = "round trip";
        report.target.clone_from(&self.arguments.url);
        report.counts.insert("tunnels", tunnels.len() as u64);
        report.counts.insert("message bytes", self.arguments.size as u64);
        report.counts.insert("echoed", self.echoed.get());
        let by_schedule = self.arguments.rate > 0.0;
        let lags = self.send_lags.borrow();
        report.latency = Latency::of(&self.latencies.borrow(), by_schedule, by_schedule.then_some(&*lags));
        report
    }
}

/// Sends by a schedule, the tunnels in turn, until the task is aborted.
async fn keep_schedule(shared: Rc<Shared>, tunnels: Vec<Rc<Tunnel>>) -> Result<()> {
    let pacer = Pacer::new()?;
    let begin = Instant::now();
    let per_second = shared.arguments.rate * tunnels.len() as f64;
    for (sequence, tunnel) in tunnels.iter().cycle().enumerate() {
        let due = begin + Duration::from_secs_f64(sequence as f64 / per_second);
        pacer.until(due).await?;
        shared.send(tunnel, due);
        tunnel.channel.flush();
        if shared.measured_from.get().is_some_and(|from| due >= from) {
            report::record(&mut shared.send_lags.borrow_mut(), due.elapsed());
        }
    }
    Ok(())
}
