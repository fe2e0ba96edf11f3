//! Long polls and WebSockets through the public URL.

use super::{Findings, described, reaches_no_node};
use crate::facts::{Answer, Idle, Polling, UrlFacts, WebSocket};
use crate::finding::{Cause, Check, Finding};

/// What a proxy needs to pass a WebSocket on, in the words of the most common one.
const PASS_UPGRADES: &str = "Let the proxy speak HTTP/1.1 to the edge and pass Upgrade and Connection on; in nginx: \
    `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; \
    proxy_read_timeout 1h;`";

/// Engine.IO's number for a request that is no handshake of its transport, as our nodes answer it to a WebSocket whose
/// `Upgrade` header was lost.
const BAD_REQUEST: &str = "3";

pub(super) fn judge(url: &UrlFacts, findings: &mut Findings) {
    findings.extend(url.polling.as_ref().map(polling));
    findings.extend(url.websocket.as_ref().map(websocket));
    findings.extend(url.idle.as_ref().map(idle));
}

fn polling(polling: &Polling) -> Finding {
    let remedy = "Every proxy must pass /socket.io/ on with its query, unbuffered and uncached.";
    match polling {
        Polling::Opened => Finding::ok(Check::Polling, "polling.ok", "A long poll opens through the public URL."),
        Polling::Answered(answer) if answer.status == 200 => {
            let sentence =
                "A long poll is answered, but not with what a node sends: it is rewritten or served by another.";
            Finding::error(Check::Polling, "polling.rewritten", sentence, remedy)
        }
        Polling::Answered(answer) => {
            let sentence = format!("A long poll is refused: {}.", described(answer));
            let finding = Finding::error(Check::Polling, "polling.refused", sentence, remedy);
            if reaches_no_node(answer) { finding.because(Cause::NodeDown) } else { finding }
        }
        Polling::Failed(problem) => {
            let sentence = format!("A long poll does not open: {problem}.");
            Finding::error(Check::Polling, "polling.refused", sentence, remedy)
        }
    }
}

fn websocket(websocket: &WebSocket) -> Finding {
    let error = |code, sentence: String, remedy: &str| {
        Finding::error(Check::WebSocket, code, sentence, remedy).because(Cause::NoWebSocket)
    };
    match websocket {
        WebSocket::Opened => Finding::ok(Check::WebSocket, "websocket.ok", "A WebSocket opens through the public URL."),
        WebSocket::Answered(answer) if reaches_no_node(answer) => Finding::error(
            Check::WebSocket,
            "websocket.no-node",
            format!("A WebSocket finds no node: {}.", described(answer)),
            "The findings about nodes and HTTP say more.",
        )
        .because(Cause::NodeDown),
        WebSocket::Answered(answer) if has_lost_its_upgrade(answer) => error(
            "websocket.upgrade-lost",
            "A proxy passes WebSockets on as plain requests: the node got one without its Upgrade header.".to_owned(),
            PASS_UPGRADES,
        ),
        WebSocket::Answered(answer) => {
            error("websocket.refused", format!("A WebSocket is refused: {}.", described(answer)), PASS_UPGRADES)
        }
        WebSocket::Silent(problem) => error(
            "websocket.silent",
            format!("A WebSocket opens, but nothing comes through it: {problem}."),
            "A proxy or a firewall holds back what it should pass on at once: switch off its inspection or buffering for \
             /socket.io/.",
        ),
        WebSocket::Failed(problem) => {
            error("websocket.refused", format!("A WebSocket does not open: {problem}."), PASS_UPGRADES)
        }
    }
}

fn idle(idle: &Idle) -> Finding {
    match idle {
        Idle::Stayed(time) => {
            let sentence = format!("A WebSocket on which nobody says anything stays open for {} s.", time.as_secs());
            Finding::ok(Check::WebSocket, "websocket.stays", sentence)
        }
        Idle::Ended(time, problem) => Finding::error(
            Check::WebSocket,
            "websocket.cut",
            format!("A WebSocket on which nobody says anything is cut after {} s: {problem}.", time.as_secs()),
            "A proxy or a firewall on the way has an idle timeout: raise it above 60 s; in nginx: `proxy_read_timeout 1h; \
             proxy_send_timeout 1h;`. The edge itself pings every 25 s (node.timeouts.ping_interval).",
        )
        .because(Cause::NoWebSocket),
    }
}

fn has_lost_its_upgrade(answer: &Answer) -> bool {
    answer.status == 400 && answer.code.as_deref() == Some(BAD_REQUEST)
}
