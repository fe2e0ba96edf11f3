//! Accepts client connections and runs the requests on them.
//!
//! The accept loop is our own, not Pingora's: it counts connections from their first byte to their last, also those
//! that become tunnels, and it knows its port when that was 0. Each thread has a runtime and a Pingora proxy of its
//! own, with its own pool of connections to the nodes, so that a request never leaves the thread that accepted it; all
//! threads accept from the same sockets.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctedge_routing::TRIES_MAX;
use pingora::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, sleep_until, timeout};

use crate::handshake::{self, Failure};
use crate::http2::Http2;
use crate::limits::Refused;
use crate::proxy::Edge;
use crate::shared::Shared;
use crate::stop::Phase;
use crate::stream::{ClientStream, Connection};
use crate::unread;

/// Idle connections to nodes that a thread keeps. A busy thread needs as many as it serves requests at once.
const NODE_CONNECTIONS_KEPT: usize = 1024;

/// How long accepting pauses when the process has no file descriptor left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Refused connections of a port that are told so at once; more are closed without a word.
const GOODBYES_MAX: usize = 128;

/// How long a refused connection lasts at most.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// What the kernel takes for a client before it can send it. It would take megabytes, which cost memory. What is on its way to the client is
/// not bounded by this, so that no client is slowed down by it.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// The kernel counts the times of keep-alive in whole seconds, and refuses 0.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(1);

/// How long what is left of a request's body is read after its answer, so that the connection can go on.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a connection that was accepted just before the stop may take to its first request.
const FIRST_REQUEST_TIME_MAX: Duration = Duration::from_millis(200);

/// A public port.
pub(crate) struct Port {
    pub(crate) listener: StdListener,
    /// Set where the port speaks TLS.
    pub(crate) acceptor: Option<Arc<Acceptor>>,
}

/// A thread that serves requests until the last phase.
pub(crate) fn spawn_thread(
    number: usize,
    shared: &Arc<Shared>,
    ports: &[Port],
    ended: tokio::sync::mpsc::Sender<()>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ports = ports
        .iter()
        .map(|port| Ok(Port { listener: port.listener.try_clone()?, acceptor: port.acceptor.clone() }))
        .collect::<io::Result<Vec<_>>>()?;
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
        if let Err(error) = runtime.block_on(serve(shared, ports)) {
            tracing::error!(%error, "a thread that serves requests ended");
        }
        drop(ended);
    })
}

/// What the tasks of one thread share.
struct Server {
    shared: Arc<Shared>,
    proxy: Arc<HttpProxy<Edge>>,
    /// Pingora's own word for the end: connections are not kept alive any more.
    ending: watch::Receiver<bool>,
}

async fn serve(shared: Arc<Shared>, ports: Vec<Port>) -> io::Result<()> {
    let mut phase = shared.stop.subscribe();
    let (end, ending) = watch::channel(false);
    let proxy = Arc::new(make_proxy(&shared));
    let server = Arc::new(Server { shared, proxy, ending });
    let mut loops = Vec::new();
    for port in ports {
        // Converted here because it belongs to this thread's runtime from now on.
        let listener = TcpListener::from_std(port.listener)?;
        loops.push(tokio::spawn(accept(Arc::clone(&server), listener, port.acceptor)));
    }
    // An error of the channel means that the balancer is gone.
    let _ = phase.wait_for(|phase| *phase > Phase::Serving).await;
    end.send_replace(true);
    let shared = Arc::clone(&server.shared);
    let _ = phase.wait_for(|phase| !phase.accepts() || shared.has_successor()).await;
    for accepting in loops {
        accepting.abort();
    }
    let _ = phase.wait_for(|phase| *phase > Phase::Leaving).await;
    sleep(FIRST_REQUEST_TIME_MAX).await;
    // Connections that wait for a request are let go; those in the middle of one finish it.
    server.proxy.http_cleanup().await;
    let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
    Ok(())
}

fn make_proxy(shared: &Arc<Shared>) -> HttpProxy<Edge> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: NODE_CONNECTIONS_KEPT,
        max_retries: TRIES_MAX as usize,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Edge(Arc::clone(shared)), Arc::new(conf));
    proxy.handle_init_modules();
    // Refused like any other request of which nothing is served, and logged like it.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    proxy
}

async fn accept(server: Arc<Server>, listener: TcpListener, acceptor: Option<Arc<Acceptor>>) {
    let goodbyes = Arc::new(Semaphore::new(GOODBYES_MAX));
    loop {
        let shortage = &server.shared.shortage;
        let over_at = shortage.over_at();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sleep_until(over_at.unwrap_or_else(Instant::now).into()), if over_at.is_some() => {
                if let Some(failures) = shortage.ends(Instant::now()) {
                    tracing::info!(failures, "connections are accepted again");
                }
                continue;
            }
        };
        match accepted {
            Ok((tcp, peer)) => {
                match admit(&server.shared, &tcp, peer, acceptor.is_some()) {
                    Ok(connection) => {
                        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                        tokio::spawn(async move { server.run_connection(tcp, connection, acceptor).await });
                    }
                    Err(refused) => {
                        unread::log(&server.shared, peer, 503);
                        turn_away(tcp, refused, acceptor.is_some(), &goodbyes);
                    }
                }
                // Lets other threads have their share of a burst.
                tokio::task::yield_now().await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if shortage.comes(Instant::now()) {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                sleep(PAUSE_WITHOUT_DESCRIPTORS).await;
            }
        }
    }
}

/// Errors that `accept` reports for a connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn admit(shared: &Arc<Shared>, tcp: &TcpStream, peer: SocketAddr, secure: bool) -> Result<Arc<Connection>, Refused> {
    let live = shared.live.load();
    let limits = &live.settings.limits;
    // A trusted proxy speaks for many clients.
    let counted = (!live.trusted.contains(peer.ip())).then(|| peer.ip());
    let slot = shared.limits.admit_connection(counted, limits.connections_max, limits.connections_per_address_max);
    let slot = slot.inspect_err(|refused| shared.metrics.refused.with_label_values(&[refused.as_str()]).inc())?;
    // What is written is gathered here, so that Nagle's algorithm could only delay it.
    let _ = tcp.set_nodelay(true);
    // Nothing breaks without it.
    let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    notice_loss(tcp, live.settings.timeouts.unacknowledged);
    let head_time_max = live.settings.timeouts.header;
    Ok(Arc::new(Connection::new(peer, secure, limits.header_bytes_max, head_time_max, slot)))
}

/// Lets the kernel end a connection whose client has gone without a word: a lost network, a machine without power. By itself it
/// would go on for a quarter of an hour with bytes that nobody acknowledges, and for ever without any.
fn notice_loss(tcp: &TcpStream, unacknowledged_max: Duration) {
    let socket = SockRef::from(tcp);
    // Counts from the first byte that is not acknowledged. The node's pings see to it that there soon is one.
    let _ = socket.set_tcp_user_timeout(Some(unacknowledged_max));
    // Where nothing is under way, as before a server without pings, these ask. They end with the time above as well.
    let (first, next) = (unacknowledged_max / 2, unacknowledged_max / 8);
    let whole = |time: Duration| time.max(KEEPALIVE_TIME_MIN);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(whole(first)).with_interval(whole(next)));
}

/// Tells a client that there is no room, where it can understand that, and lets it read the answer before the
/// connection ends.
fn turn_away(mut tcp: TcpStream, refused: Refused, secure: bool, goodbyes: &Arc<Semaphore>) {
    let Ok(permit) = Arc::clone(goodbyes).try_acquire_owned() else { return };
    if secure {
        return;
    }
    let message = match refused {
        Refused::ConnectionsOfAddress => "Too many connections from this address.",
        Refused::Connections | Refused::Tunnels => "The server has no room for another connection.",
    };
    let body = format!("{{\"code\":\"TooManyConnections\",\"params\":[],\"message\":\"{message}\"}}");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    tokio::spawn(async move {
        let goodbye = async {
            tcp.write_all(answer.as_bytes()).await?;
            tcp.shutdown().await?;
            // Closing with unread bytes would reset the connection and take the answer back.
            tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await
        };
        // Whoever does not listen by then never will.
        let _ = timeout(GOODBYE_TIME_MAX, goodbye).await;
        drop(permit);
    });
}

impl Server {
    async fn run_connection(&self, tcp: TcpStream, connection: Arc<Connection>, acceptor: Option<Arc<Acceptor>>) {
        let stream = ClientStream::new(tcp, Arc::clone(&connection));
        let stream: Stream = match acceptor {
            None => Box::new(stream),
            Some(acceptor) => {
                let handshake = acceptor.tls_handshake(stream);
                let time_max = self.shared.live.load().settings.timeouts.header;
                match timeout(time_max, handshake).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => {
                        return handshake::failed(&self.shared, connection.peer, Failure::of(&error), Some(&error));
                    }
                    Err(_) => return handshake::failed(&self.shared, connection.peer, Failure::Timeout, None),
                }
            }
        };
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            let live = self.shared.live.load_full();
            Arc::new(Http2::new(Arc::clone(&self.proxy), &live.settings)).process_new(stream, &self.ending).await;
        } else {
            self.run_http1(stream, connection).await;
        }
    }

    /// Runs the requests of an HTTP/1 connection, one after the other.
    async fn run_http1(&self, stream: Stream, connection: Arc<Connection>) {
        let mut session = ServerSession::new_http1(stream);
        loop {
            let timeouts = self.shared.live.load().settings.timeouts.clone();
            // Pingora counts whole seconds, and takes 0 for ever.
            session.set_keepalive(Some(timeouts.keep_alive.as_secs().max(1)));
            session.set_read_timeout(Some(timeouts.body));
            session.set_write_timeout(Some(timeouts.body));
            session.set_total_drain_timeout(Some(DRAIN_TIME_MAX));
            session.set_pipelining_enabled(true);
            session.set_connection_user_context(Some(Box::new(Arc::clone(&connection))));
            connection.head_begins();
            let Some(reused) = self.proxy.process_new_http(session, &self.ending).await else {
                if let Some(status) = connection.refused_unread() {
                    unread::log(&self.shared, connection.peer, status);
                }
                return;
            };
            let (stream, settings) = reused.consume();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
        }
    }
}
