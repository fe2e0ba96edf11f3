//! Scenario `http`: requests with many keys over HTTP/1.1 or HTTP/2, on kept or new connections; every answer is checked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use crate::arguments::{Common, seconds};
use crate::endpoint::{Alpn, Endpoint, parse_header};
use crate::http1::Http1;
use crate::http2;
use crate::keys::{KeyArguments, KeyOrder, Stickiness};
use crate::measure::Window;
use crate::pace::Pacer;
use crate::report::{self, Latency, Report};

/// Requests × keys × connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct HttpArguments {
    /// What to ask for
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    keys: KeyArguments,
    /// How many requests are on their way at the same time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Open a new connection for every request
    #[arg(long)]
    new_connections: bool,
    /// Speak HTTP/2 over TLS
    #[arg(long, conflicts_with = "new_connections")]
    h2: bool,
    /// How many requests share one HTTP/2 connection
    #[arg(long, value_name = "REQUESTS", default_value_t = 8)]
    pub(crate) h2_streams: usize,
    /// Requests per second by a schedule; 0 sends the next request when the answer has come
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Stop after this many requests, even before the time is over
    #[arg(long, value_name = "COUNT")]
    requests: Option<u64>,
    /// The status that every answer must have
    #[arg(long, value_name = "STATUS", default_value_t = 200)]
    expect_status: u16,
    /// How long every answer's body must be
    #[arg(long, value_name = "BYTES")]
    expect_bytes: Option<u64>,
    /// How long to send before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// A request that takes longer has failed: servers' own limits are at a minute.
const ANSWER_MAX: Duration = Duration::from_secs(65);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) arguments: HttpArguments,
    pub(crate) endpoint: Endpoint,
    /// One whole HTTP/1.1 request for each key.
    requests: Vec<Vec<u8>>,
    key_order: RefCell<KeyOrder>,
    taken: Cell<u64>,
    pub(crate) completed: Cell<u64>,
    stop: Cell<bool>,
    measured_from: Cell<Option<Instant>>,
    latencies: RefCell<Histogram<u64>>,
    send_lags: RefCell<Histogram<u64>>,
    books: RefCell<Stickiness>,
    report: RefCell<Report>,
    /// Requests that a schedule has made due and nobody has sent.
    due: RefCell<VecDeque<Instant>>,
    due_count: Semaphore,
}

/// Runs the scenario.
pub(crate) async fn run(arguments: HttpArguments) -> Result<Report> {
    ensure!(arguments.connections > 0 && arguments.keys.keys > 0, "there must be connections and keys");
    let alpn = if arguments.h2 { Alpn::Http2 } else { Alpn::Http1 };
    let endpoint = Endpoint::resolve(&arguments.url, arguments.common.insecure, alpn)?;
    ensure!(!arguments.h2 || endpoint.is_tls, "HTTP/2 needs an https:// URL");
    let shared = Rc::new(Shared::new(arguments, endpoint)?);

    let mut workers = Vec::new();
    if shared.arguments.h2 {
        for _ in 0..shared.arguments.connections.div_ceil(shared.arguments.h2_streams.max(1)) {
            workers.push(tokio::task::spawn_local(http2::connection(shared.clone())));
        }
    } else {
        for _ in 0..shared.arguments.connections {
            workers.push(tokio::task::spawn_local(connection(shared.clone())));
        }
    }
    let pacer = (shared.arguments.rate > 0.0).then(|| tokio::task::spawn_local(keep_schedule(shared.clone())));

    let server = &shared.arguments.common.server;
    tokio::time::sleep(shared.arguments.warmup).await;
    let window = Window::open(server, shared.completed.get())?;
    shared.measured_from.set(Some(Instant::now()));
    let end = Instant::now() + shared.arguments.common.duration;
    while Instant::now() < end && !shared.is_exhausted() {
        let pause = Duration::from_millis(10).min(end.saturating_duration_since(Instant::now()));
        tokio::time::sleep(pause).await;
    }
    window.close(server, shared.completed.get(), &mut shared.report.borrow_mut())?;

    shared.stop.set(true);
    shared.due_count.close();
    for worker in workers {
        worker.await?;
    }
    if let Some(pacer) = pacer {
        pacer.abort();
    }
    Ok(shared.finish())
}

impl Shared {
    fn new(arguments: HttpArguments, endpoint: Endpoint) -> Result<Self> {
        let headers = arguments.common.header_lines()?;
        let connection = if arguments.new_connections { "connection: close\r\n" } else { "" };
        let request = |key| {
            let (path, key_line) = arguments.keys.carry(&endpoint.path, key);
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{key_line}{connection}{headers}\r\n", endpoint.authority)
                .into_bytes()
        };
        Ok(Self {
            requests: (0..arguments.keys.keys).map(request).collect(),
            key_order: RefCell::new(KeyOrder::new(arguments.keys.keys)),
            taken: Cell::new(0),
            completed: Cell::new(0),
            stop: Cell::new(false),
            measured_from: Cell::new(None),
            latencies: RefCell::new(report::histogram()),
            send_lags: RefCell::new(report::histogram()),
            books: RefCell::new(arguments.keys.books()),
            report: RefCell::default(),
            due: RefCell::default(),
            due_count: Semaphore::new(0),
            arguments,
            endpoint,
        })
    }

    /// The request of a key as HTTP/2 has it.
    pub(crate) fn h2_request(&self, key: usize) -> Result<http::Request<()>> {
        let (path, key_line) = self.arguments.keys.carry(&self.endpoint.path, key);
        let mut request =
            http::Request::get(format!("https://{}{path}", self.endpoint.authority)).version(http::Version::HTTP_2);
        let further = self.arguments.common.header_lines()?;
        for line in key_line.lines().chain(further.lines()) {
            let (name, value) = parse_header(line)?;
            request = request.header(name, value);
        }
        Ok(request.body(())?)
    }

    fn is_exhausted(&self) -> bool {
        self.arguments.requests.is_some_and(|count| self.completed.get() >= count)
    }

    /// The key of the next request and when it is due, or `None` when the run is over.
    pub(crate) async fn next(&self) -> Option<(usize, Instant)> {
        if self.stop.get() || self.arguments.requests.is_some_and(|count| self.taken.get() >= count) {
            return None;
        }
        self.taken.set(self.taken.get() + 1);
        let key = self.key_order.borrow_mut().next();
        if self.arguments.rate <= 0.0 {
            return Some((key, Instant::now()));
        }
        self.due_count.acquire().await.ok()?.forget();
        let due = self.due.borrow_mut().pop_front()?;
        if self.measured_from.get().is_some_and(|from| due >= from) {
            report::record(&mut self.send_lags.borrow_mut(), due.elapsed());
        }
        Some((key, due))
    }

    /// Checks an answer and counts it.
    pub(crate) fn answered(&self, key: usize, due: Instant, status: u16, body_bytes: u64, node: &str) {
        self.completed.set(self.completed.get() + 1);
        if self.measured_from.get().is_some_and(|from| due >= from) {
            report::record(&mut self.latencies.borrow_mut(), due.elapsed());
        }
        let mut report = self.report.borrow_mut();
        if status != self.arguments.expect_status {
            report.fault("wrong status", || format!("key {key} was answered with {status}"));
        } else if self.arguments.expect_bytes.is_some_and(|expected| expected != body_bytes) {
            report.fault("wrong length", || format!("key {key} was answered with {body_bytes} bytes"));
        }
        self.books.borrow_mut().answered(key, node, &mut report);
    }

    /// A request without an answer.
    pub(crate) fn failed(&self, key: usize, error: &anyhow::Error) {
        self.completed.set(self.completed.get() + 1);
        self.report.borrow_mut().fault("failed", || format!("key {key}: {error:#}"));
    }

    fn finish(&self) -> Report {
        let mut report = std::mem::take(&mut *self.report.borrow_mut());
        for name in ["failed", "wrong status", "wrong length"] {
            report.faults.entry(name).or_default();
        }
        self.books.borrow().close(&mut report);
        report.scenario = "http";
        report.operation = "request";
        report.target.clone_from(&self.arguments.url);
        report.counts.insert("connections", self.arguments.connections as u64);
        report.counts.insert("keys", self.arguments.keys.keys as u64);
        report.counts.insert("answered", self.completed.get());
        let by_schedule = self.arguments.rate > 0.0;
        let lags = self.send_lags.borrow();
        report.latency = Latency::of(&self.latencies.borrow(), by_schedule, by_schedule.then_some(&*lags));
        report
    }
}

/// One request after the other over HTTP/1.1.
async fn connection(shared: Rc<Shared>) {
    let node_header = shared.arguments.common.node_header.clone();
    let mut kept: Option<Http1> = None;
    while let Some((key, due)) = shared.next().await {
        let exchange = async {
            let mut http = match kept.take() {
                Some(http) => http,
                None => Http1::new(shared.endpoint.connect().await?, &node_header),
            };
            let answer = http.exchange(&shared.requests[key], None).await?;
            anyhow::Ok((http, answer))
        };
        match tokio::time::timeout(ANSWER_MAX, exchange).await {
            Ok(Ok((http, answer))) => {
                shared.answered(key, due, answer.status, answer.body_bytes, &http.node);
                if answer.reusable && !shared.arguments.new_connections {
                    kept = Some(http);
                }
            }
            Ok(Err(error)) => {
                shared.failed(key, &error);
                // A server that refuses connections must not make this a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => shared.failed(key, &anyhow::anyhow!("no answer within {ANSWER_MAX:?}")),
        }
    }
}

/// Makes requests due, whether or not anybody is free to send them.
async fn keep_schedule(shared: Rc<Shared>) -> Result<()> {
    let pacer = Pacer::new()?;
    let begin = Instant::now();
    for sequence in 0_u64.. {
        let due = begin + Duration::from_secs_f64(sequence as f64 / shared.arguments.rate);
        pacer.until(due).await?;
        if shared.stop.get() {
            break;
        }
        shared.due.borrow_mut().push_back(due);
        shared.due_count.add_permits(1);
    }
    Ok(())
}
