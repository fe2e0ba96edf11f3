//! Asks another node whether it lives.

use std::net::SocketAddr;
use std::time::Duration;

use ctedge_ownership::LeaseId;
use ctedge_wire::{HealthReport, headers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::reach::OWN_QUESTION;

/// How many times a node is asked within the time that it has: a lost packet must not end a lease.
const TRIES: u32 = 3;

/// More than any health report has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Whether that very lease answers at `address` within `time_max`. The tries begin one after the other, and each may take what
/// is left of the time: an answer from far away counts as well as one from near by.
pub(super) async fn answers(lease: &LeaseId, address: SocketAddr, time_max: Duration) -> bool {
    let mut tries = JoinSet::new();
    for number in 0..TRIES {
        tries.spawn(async move {
            tokio::time::sleep(time_max / TRIES * number).await;
            health(address, headers::HEALTH_PATH).await
        });
    }
    let answered = async {
        while let Some(tried) = tries.join_next().await {
            // A node that refuses at once may be about to listen.
            if let Ok(Ok(answer)) = tried
                && let Some(is_alive) = reading(lease, &answer)
            {
                return is_alive;
            }
        }
        false
    };
    tokio::time::timeout(time_max, answered).await.unwrap_or(false)
}

/// Whether somebody accepts connections at the node's own `address` and answers within `time_max`, be it that it is full.
pub(super) async fn is_served(address: SocketAddr, time_max: Duration) -> bool {
    let path = format!("{}?{OWN_QUESTION}", headers::HEALTH_PATH);
    let asked = tokio::time::timeout(time_max, health(address, &path)).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 ")))
}

async fn health(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Whether an HTTP answer comes from this lease; `None` if it is none. Another process at the address is not it, whatever it
/// says. A node that has no room for a request says so with its lease.
fn reading(lease: &LeaseId, answer: &[u8]) -> Option<bool> {
    let end_of_head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let refusal = format!("{}: {}\r\n", headers::LEASE, lease);
    if answer[..end_of_head + 2].windows(refusal.len()).any(|line| line == refusal.as_bytes()) {
        return Some(true);
    }
    let report = serde_json::from_slice::<HealthReport>(&answer[end_of_head + 4..]);
    Some(report.is_ok_and(|report| report.node == lease.node.as_str() && report.incarnation == lease.incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::NodeId;
    use tokio::net::TcpListener;

    const TIME_MAX: Duration = Duration::from_secs(2);

    fn lease(incarnation: u64) -> LeaseId {
        LeaseId::new(NodeId::new("node-1"), incarnation)
    }

    async fn serve(listener: TcpListener, body: String) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    }

    #[tokio::test]
    async fn only_the_very_process_that_has_the_lease_answers_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let report = HealthReport { node: "node-1".into(), incarnation: 7, ..HealthReport::default() };
        let serving = tokio::spawn(serve(listener, serde_json::to_string(&report).unwrap()));
        assert!(answers(&lease(7), address, TIME_MAX).await);
        assert!(!answers(&lease(8), address, TIME_MAX).await);
        serving.abort();
        drop(serving.await);
        assert!(!answers(&lease(7), address, TIME_MAX).await);
    }

    #[tokio::test]
    async fn a_node_that_is_slow_or_full_is_alive() {
        let slow = Duration::from_secs(3);
        let report = HealthReport { node: "node-1".into(), incarnation: 7, ..HealthReport::default() };
        let report = serde_json::to_string(&report).unwrap();
        for (pause, answer) in [
            // Longer than it takes to the next try.
            (slow * 2 / 5, format!("HTTP/1.1 200 OK\r\n\r\n{report}")),
            (
                Duration::ZERO,
                "HTTP/1.1 503 Service Unavailable\r\nx-ctedge-lease: node-1#0000000000000007\r\n\r\n".into(),
            ),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        let _ = stream.read(&mut [0; 512]).await;
                        tokio::time::sleep(pause).await;
                        let _ = stream.write_all(answer.as_bytes()).await;
                    });
                }
            });
            assert!(answers(&lease(7), address, slow).await);
            assert!(!answers(&lease(8), address, slow).await);
        }
    }

    #[tokio::test]
    async fn a_node_that_accepts_and_says_nothing_is_not_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lease = lease(7);
        let asked = answers(&lease, address, TIME_MAX);
        assert!(!tokio::time::timeout(2 * TIME_MAX, asked).await.expect("a probe has an end"));
    }
}
