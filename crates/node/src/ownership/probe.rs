//! Asks another node whether it lives.

use std::net::SocketAddr;
use std::time::Duration;

use ctedge_ownership::LeaseId;
use ctedge_wire::{HealthReport, headers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many times a node is asked within the time that it has: a lost packet must not end a lease.
const TRIES: u32 = 3;

/// More than any health report has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Whether that very lease answers at `address` within `time_max`.
pub(super) async fn answers(lease: &LeaseId, address: SocketAddr, time_max: Duration) -> bool {
    let asking = async {
        for _ in 0..TRIES {
            let asked = tokio::time::timeout(time_max / TRIES, health(address)).await;
            if let Ok(Ok(answer)) = asked {
                return is_of(lease, &answer);
            }
        }
        false
    };
    // A node that refuses at once may be about to listen: all of the tries together may take the whole time, not less.
    tokio::time::timeout(time_max, asking).await.unwrap_or(false)
}

/// Whether somebody accepts connections at `address` and answers within `time_max`, be it that it is full.
pub(super) async fn is_served(address: SocketAddr, time_max: Duration) -> bool {
    let asked = tokio::time::timeout(time_max, health(address)).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 ")))
}

async fn health(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n", headers::HEALTH_PATH);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Whether an HTTP answer is the report of this lease. Another process at the address is not it, whatever it says.
fn is_of(lease: &LeaseId, answer: &[u8]) -> bool {
    let Some(end_of_head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    serde_json::from_slice::<HealthReport>(&answer[end_of_head + 4..])
        .is_ok_and(|report| report.node == lease.node.as_str() && report.incarnation == lease.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::NodeId;
    use tokio::net::TcpListener;

    const TIME_MAX: Duration = Duration::from_millis(300);

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
    async fn a_node_that_accepts_and_says_nothing_is_not_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lease = lease(7);
        let asked = answers(&lease, address, TIME_MAX);
        assert!(!tokio::time::timeout(2 * TIME_MAX, asked).await.expect("a probe has an end"));
    }
}
