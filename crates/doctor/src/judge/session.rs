//! Whether two clients meet in one session.

use super::{Findings, described, reaches_no_node};
use crate::facts::{Answer, SessionFacts, Step, UrlFacts};
use crate::finding::{Cause, Check, Finding};

const SESSION: Check = Check::Session;

pub(super) fn judge(url: &UrlFacts, findings: &mut Findings) {
    findings.extend(url.session.as_ref().map(|facts| match facts {
        SessionFacts::Met(within) => {
            let within = within.as_millis();
            let sentence = format!(
                "An IDE client (header) and a browser (cookie) met in one session and heard each other, in {within} ms."
            );
            Finding::ok(SESSION, "session.met", sentence)
        }
        SessionFacts::Untried(why) => {
            Finding::skipped(SESSION, "session.untried", format!("No session was tried: {why}."))
        }
        SessionFacts::Refused(step, answer) => refused(*step, answer),
        SessionFacts::Failed(step, problem) => Finding::error(
            SESSION,
            "session.failed",
            format!("Two clients do not meet in a session, because {} failed: {problem}.", step.name()),
            "The other findings may say why; sessions.log and server.log of the nodes have the rest.",
        ),
    }));
}

fn refused(step: Step, answer: &Answer) -> Finding {
    let said = described(answer);
    let error =
        |code, sentence: String, remedy: &str, cause| Finding::error(SESSION, code, sentence, remedy).because(cause);
    let name = step.name();
    match answer.code.as_deref() {
        Some("LicenseExpired" | "LicenseInvalid") => error(
            "session.license",
            format!("No session can begin, because of the license: {said}."),
            "`ctedge license show` says what it is worth, and why.",
            Cause::LicenseOut,
        ),
        Some("SeatsTaken") => error(
            "session.seats",
            format!("No session can begin, because every licensed seat is taken: {said}."),
            "Wait until some leave, or get a license for more connections.",
            Cause::LicenseOut,
        ),
        Some("Forbidden") if [Step::Create, Step::Join].contains(&step) => Finding::error(
            SESSION,
            "session.token-refused",
            format!("A node refuses the login that the edge has just given, at {name}: {said}."),
            "Let every proxy pass the header x-oct-jwt on; and see that every node has the same cluster secret (secret_file).",
        ),
        _ if answer.status == 421 || is_lost(step, answer) => error(
            "session.misdirected",
            format!("A node got a request of a session that is another's, at {name}: {said}."),
            "The balancer does not bring everybody of a session to the same node: see the finding about stickiness.",
            Cause::NotSticky,
        ),
        Some("ServerFull" | "ServerDraining") => error(
            "session.no-node",
            format!("No node takes sessions, at {name}: {said}."),
            "`ctedge status` shows what drains, is suspended or full; `ctedge resume NODE` brings one back.",
            Cause::NodeDown,
        ),
        Some("Unavailable") => error(
            "session.unavailable",
            format!("The node cannot tell whose the session is, at {name}: {said}."),
            "Its store is away or slow, or it cannot begin a session now: see the finding about the store, and `ctedge status`.",
            Cause::StoreOrClock,
        ),
        _ if reaches_no_node(answer) => error(
            "session.no-node",
            format!("The node of the session cannot be reached, at {name}: {said}."),
            "See `ctedge status`, or for another balancer its list of servers.",
            Cause::NodeDown,
        ),
        _ if [Step::HostConnect, Step::GuestConnect].contains(&step) => error(
            "session.websocket",
            format!("A client of a session gets no WebSocket, at {name}: {said}."),
            "See the finding about WebSockets: a proxy does not pass the upgrade on.",
            Cause::NoWebSocket,
        ),
        _ => Finding::error(
            SESSION,
            "session.failed",
            format!("Two clients do not meet in a session, because {name} was answered with {said}."),
            "The other findings may say why; sessions.log and server.log of the nodes have the rest.",
        ),
    }
}

/// Whether a node does not know what another one has just issued.
fn is_lost(step: Step, answer: &Answer) -> bool {
    match answer.code.as_deref() {
        Some("AuthTimeout") => step == Step::LogIn,
        Some("RoomNotFound" | "JoinRequestNotFound") => step == Step::Join,
        _ => false,
    }
}

impl Step {
    /// What was done, as the subject of a sentence.
    fn name(self) -> &'static str {
        match self {
            Self::LogIn => "the login",
            Self::Create => "creating the session",
            Self::HostConnect => "the host's connection",
            Self::Join => "joining",
            Self::GuestConnect => "the guest's connection",
            Self::Meet => "hearing of each other",
        }
    }
}
