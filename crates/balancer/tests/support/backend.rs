//! A backend: a small HTTP/1.1 server whose every answer the test decides.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ctedge_wire::{HealthReport, NodeStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// What a backend got.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn key(&self) -> &str {
        self.header("ctstickiness").expect("every request to a node has a key")
    }
}

/// What a backend does.
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Closes the connection without a word.
    Die,
    /// Never answers.
    Hang,
    /// Answers when it is told to.
    Later(Arc<Notify>),
    /// Switches protocols and echoes, after these first bytes; ends its direction when the client ends its own.
    Echo(Vec<u8>),
    /// Switches protocols, says these bytes at the end of the client's direction, and ends.
    AnswerAtEnd(Vec<u8>),
}

impl Reply {
    pub fn text(body: impl Into<String>) -> Self {
        Self::Answer(200, Vec::new(), body.into().into_bytes())
    }

    pub fn status(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::Answer(status, headers.collect(), b"{}".to_vec())
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on a port of its own.
pub struct Backend {
    pub id: String,
    pub address: SocketAddr,
    /// Every request but health checks.
    pub seen: Arc<Mutex<Vec<Request>>>,
    /// What its health checks say; `None` answers like a server that is not ours.
    pub health: Arc<Mutex<Option<NodeStatus>>>,
    /// Whether its health checks say that it knows the other nodes.
    pub shares_ownership: Arc<AtomicBool>,
    /// What its health checks say besides.
    pub report: Arc<Mutex<HealthReport>>,
    /// Whether it accepts and answers nothing, as a process that was stopped.
    pub is_frozen: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    serving: Option<JoinHandle<()>>,
    handler: Arc<Handler>,
}

impl Backend {
    /// A server that answers with what `handler` decides.
    pub async fn new(number: usize, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut backend = Self {
            id: format!("node-{number}"),
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            health: Arc::default(),
            shares_ownership: Arc::default(),
            report: Arc::default(),
            is_frozen: Arc::default(),
            connections: Arc::default(),
            serving: None,
            handler: Arc::new(handler),
        };
        backend.serve(listener);
        backend
    }

    /// A server that answers with its own id.
    pub async fn named(number: usize) -> Self {
        Self::new(number, move |_| Reply::text(format!("node-{number}"))).await
    }

    /// Ends at once, as `kill -9` does: nobody listens any more and every connection is cut.
    pub async fn kill(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    /// Listens again at the same address.
    pub async fn revive(&mut self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections were accepted, those of health checks included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn serve(&mut self, listener: TcpListener) {
        let server = Server {
            id: self.id.clone(),
            seen: self.seen.clone(),
            health: self.health.clone(),
            shares_ownership: self.shares_ownership.clone(),
            report: self.report.clone(),
            is_frozen: self.is_frozen.clone(),
            handler: self.handler.clone(),
        };
        let connections = self.connections.clone();
        self.serving = Some(tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let server = server.clone();
                tasks.spawn(async move { server.run(stream).await });
            }
        }));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

#[derive(Clone)]
struct Server {
    id: String,
    seen: Arc<Mutex<Vec<Request>>>,
    health: Arc<Mutex<Option<NodeStatus>>>,
    shares_ownership: Arc<AtomicBool>,
    report: Arc<Mutex<HealthReport>>,
    is_frozen: Arc<AtomicBool>,
    handler: Arc<Handler>,
}

impl Server {
    async fn run(&self, mut stream: TcpStream) -> Option<()> {
        let mut read = Vec::new();
        loop {
            let request = read_request(&mut stream, &mut read).await?;
            if self.is_frozen.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let reply = if request.path == "/ct-health/" {
                self.health()
            } else {
                self.seen.lock().unwrap().push(request.clone());
                (self.handler)(&request)
            };
            match reply {
                Reply::Answer(status, headers, body) => {
                    let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                    for (name, value) in headers {
                        answer.push_str(&format!("{name}: {value}\r\n"));
                    }
                    answer.push_str("\r\n");
                    stream.write_all(&[answer.as_bytes(), &body].concat()).await.ok()?;
                }
                Reply::Die => return None,
                Reply::Hang => std::future::pending().await,
                Reply::Later(told) => {
                    told.notified().await;
                    stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\nlater").await.ok()?;
                }
                Reply::Echo(first) => {
                    switch_protocols(&mut stream, &first).await?;
                    stream.write_all(&read).await.ok()?;
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok()?;
                    return None;
                }
                Reply::AnswerAtEnd(last) => {
                    switch_protocols(&mut stream, b"").await?;
                    stream.read_to_end(&mut read).await.ok()?;
                    stream.write_all(&last).await.ok()?;
                    return None;
                }
            }
        }
    }

    fn health(&self) -> Reply {
        let Some(status) = *self.health.lock().unwrap() else { return Reply::text("ok") };
        let report = HealthReport {
            status,
            node: self.id.clone(),
            pid: 1,
            version: "0".into(),
            uptime_s: 1,
            shares_ownership: self.shares_ownership.load(Ordering::SeqCst),
            ..self.report.lock().unwrap().clone()
        };
        Reply::text(serde_json::to_string(&report).unwrap())
    }
}

async fn switch_protocols(stream: &mut TcpStream, first: &[u8]) -> Option<()> {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    stream.write_all(&[head, first].concat()).await.ok()
}

async fn read_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read.drain(..head_end).collect()).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, path, headers, body: Vec::new() };
    if request.header("transfer-encoding").is_some() {
        // Kept as it came; nobody sends anything behind it before it is answered.
        while !read.ends_with(b"0\r\n\r\n") {
            if stream.read_buf(read).await.ok()? == 0 {
                return None;
            }
        }
        request.body = std::mem::take(read);
        return Some(request);
    }
    let length: usize = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while read.len() < length {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    request.body = read.drain(..length).collect();
    Some(request)
}
