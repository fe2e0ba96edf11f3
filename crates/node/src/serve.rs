//! The HTTP/1.1 server of a node: accepting, bounding and ending its TCP connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use ctedge_logs::Spell;
use ctedge_wire::headers;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep_until;

use crate::metrics::Metrics;
use crate::stop::{StopSignal, StopSwitch};

/// How long a connection may wait for the next request, and how long the head of a request may take. Longer than the
/// balancer keeps an idle connection (4 s) and than nginx does (60 s), so that it is never the node that closes one as a
/// request is on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// The head of a request: tokens and public keys stand in it, a flood does not.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait after a failed accept. It fails for want of file descriptors, which come back as connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the kernel takes of an answer before it can send it. It would take megabytes, and a download whose client has long
/// gone away would count as complete. A balancer is never further away than this bridges.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// How long the other end may acknowledge nothing of an answer. The kernel would wait for a quarter of an hour. What waits
/// for a request, or for a pong, has shorter times of its own.
const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(120);

/// The connections of a node's HTTP server.
pub(crate) struct Server {
    router: Router,
    permits: Arc<Semaphore>,
    permits_max: usize,
    /// Ends the connections: idle ones at once, others after their request.
    closing: StopSwitch,
    metrics: Metrics,
    turned_away: TurnedAway,
}

/// Hears of a connection for which there is no room. Gives the lease of the node, as [`headers::LEASE`] has it.
pub(crate) type TurnedAway = Box<dyn Fn() -> String + Send + Sync>;

impl Server {
    pub(crate) fn new(
        router: Router,
        permits: Arc<Semaphore>,
        permits_max: usize,
        metrics: Metrics,
        turned_away: TurnedAway,
    ) -> Arc<Self> {
        Arc::new(Self { router, permits, permits_max, closing: StopSwitch::new(), metrics, turned_away })
    }

    /// Accepts connections until it is dropped.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let shortage = Spell::default();
        loop {
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
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if shortage.comes(Instant::now()) {
                        tracing::warn!(%error, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            prepare(&stream);
            match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(Arc::clone(&self).serve(stream, permit))),
                Err(_) => {
                    self.metrics.refused("http_connections_full");
                    drop(tokio::spawn(refuse(stream, (self.turned_away)())));
                }
            }
        }
    }

    /// Ends the connections, and waits until they have ended.
    pub(crate) async fn close(&self) {
        self.closing.stop();
        let all = u32::try_from(self.permits_max).unwrap_or(u32::MAX);
        // Fails only for a closed semaphore; this one never is.
        let _ = self.permits.acquire_many(all).await;
    }

    /// An upgraded connection takes its stream along: what it is from then on counts among the transports.
    async fn serve(self: Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(KEEP_ALIVE)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut closing: StopSignal = self.closing.signal();
        // A broken connection is its peer's business; requests that failed are counted where they are answered.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = closing.stopped() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
        drop(permit);
    }
}

/// Nothing breaks where an option is refused.
fn prepare(stream: &TcpStream) {
    // Answers are written in one piece; waiting for more to send with them only adds latency.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME_MAX));
}

async fn refuse(mut stream: TcpStream, lease: String) {
    let refusal = format!(
        "HTTP/1.1 503 Service Unavailable\r\n{}: {lease}\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        headers::LEASE
    );
    let _ = stream.write_all(refusal.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_nobody_acknowledges_is_given_up_before_the_kernel_would() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        prepare(&accepted);
        assert_eq!(SockRef::from(&accepted).tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_TIME_MAX));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_maximum_is_told_when_to_come_again_and_counted() {
        let metrics = Metrics::new();
        let server = Server::new(Router::new(), Arc::new(Semaphore::new(0)), 0, metrics.clone(), Box::new(String::new));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepting = tokio::spawn(server.accept(listener));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        accepting.abort();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5\r\n"), "{answer}");
        assert_eq!(metrics.refusals.with_label_values(&["http_connections_full"]).get(), 1);
    }
}
