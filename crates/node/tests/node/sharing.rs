//! Several nodes with one store: who owns a session, and who gets it.

use std::path::Path;
use std::time::Duration;

use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::{Answer, DEADLINE, TestNode, info, store_in};
use ctedge_ownership::{Command, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome, StoredPeer};
use ctedge_store::{AuditEvent, AuditFilter, SeatWish, Store};
use ctedge_wire::Key;
use serde_json::json;
use tempfile::TempDir;

/// Two nodes that share, `a` and `b`. The first one knows the second.
async fn two(folder: &Path) -> (TestNode, TestNode) {
    let second = TestNode::sharing(folder, "b").await;
    let first = TestNode::sharing(folder, "a").await;
    let has_beaten = |answer: &Answer| {
        answer.body.contains(r#"ctedge_node_store_commands_total{result="ok"} "#)
            && !answer.body.contains("ctedge_node_store_commands_total{result=\"ok\"} 1\n")
    };
    first.until(|| first.get("/metrics"), has_beaten).await;
    (first, second)
}

/// Creates a session and gives its host's room token.
async fn create(node: &TestNode, key: &str) -> String {
    let login = node.login("Host").await;
    let created = node.post("/api/session/create").key(key).token(&login).send().await;
    created.json()["roomToken"].as_str().unwrap().to_owned()
}

/// Asks a node for the session as a host who returns does.
async fn knock(node: &TestNode, key: &str, room_token: &str) -> Answer {
    let handshake = node.get("/socket.io/?EIO=4&transport=polling").key(key).token(room_token);
    handshake.header("x-oct-public-key", "a public key").send().await
}

#[tokio::test]
async fn a_session_of_another_node_is_found_at_its_owner() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let login = first.login("Host").await;
    let created = first.post("/api/session/create").key("room").token(&login).send().await;
    let (node, epoch) = created.owned();
    assert_eq!(node, "a");
    let room_token = created.json()["roomToken"].as_str().unwrap().to_owned();

    let address = first.address.to_string();
    let join = || second.post("/api/session/join/room").key("room").token(&login);
    let redirected = join().send().await;
    assert_eq!(redirected.owner(), (421, Some("a"), Some(&*address)));
    assert_eq!(redirected.header("x-ctedge-epoch"), Some(&*epoch.to_string()));
    assert_eq!(knock(&second, "room", &room_token).await.owner(), (421, Some("a"), Some(&*address)));
    assert_eq!(second.get("/ct-health/").send().await.json()["sessions"], 0);

    let opened = knock(&first, "room", &room_token).await;
    assert_eq!((opened.status, opened.owned()), (200, ("a", epoch)));
    // Under the same key nobody else can begin a session, on neither node.
    for node in [&first, &second] {
        let taken = node.post("/api/session/create").key("room").token(&login).send().await;
        assert_eq!(taken.status, 421);
        assert!(taken.header("x-ctedge-key").is_some(), "{taken:?}");
    }
    assert_eq!(
        second.post("/api/session/join/none").key("none").token(&login).send().await.info(),
        info(404, "RoomNotFound")
    );
}

#[tokio::test]
async fn who_waits_at_a_node_that_ends_finds_the_answer_at_the_next_one() {
    let folder = TempDir::new().unwrap();
    let (mut first, second) = two(folder.path()).await;
    let room_token = create(&first, "room").await;
    let mut host = Peer::connect(&first, "room", &room_token).await;
    let guest = first.login("Guest").await;
    let asked = first.post("/api/session/join/room").key("room").token(&guest).send().await.json();
    let join = format!("/api/session/poll/{}", asked["pollToken"].as_str().unwrap());
    first.post(&join).key("room").token(&guest).send().await;
    let begun = first.post("/api/login/initial").key("login").send().await.json();
    let login = begun["pollToken"].as_str().unwrap();

    // Both wait here as their sessions leave.
    let waits_for_login = first.post(&format!("/api/login/poll/{login}")).key("login").send();
    let waits_for_host = first.post(&join).key("room").token(&guest).send();
    let leaves = async {
        first.order("drain?now=true&exit=true").await;
        host.leave().await;
    };
    let (waited_for_login, waited_for_host, ()) = tokio::join!(waits_for_login, waits_for_host, leaves);
    let address = second.address.to_string();
    assert_eq!(waited_for_login.owner(), (421, Some("b"), Some(&*address)));
    assert_eq!(waited_for_host.owner(), (421, Some("b"), Some(&*address)));
    first.stopped().await;

    let mut host = Peer::connect(&second, "room", &room_token).await;
    let polls = second.until(
        || second.post(&join).key("room").token(&guest),
        |answer| answer.status == 200 && answer.json().get("roomToken").is_some(),
    );
    let (joined, _) = tokio::join!(polls, host.answer_join(Some("workspace")));
    assert_eq!(joined.json()["roomId"], "room");
    let form = json!({"token": login, "user": "Late"});
    assert_eq!(second.post("/api/login/simple").key("login").json(&form).send().await.status, 200);
    let polled = second.post(&format!("/api/login/poll/{login}")).key("login").send().await;
    assert!(polled.json()["loginToken"].is_string());
}

#[tokio::test]
async fn a_session_whose_key_was_named_at_a_login_is_handed_over_and_the_login_with_it() {
    let folder = TempDir::new().unwrap();
    let (mut first, second) = two(folder.path()).await;
    let room_token = create(&first, "room").await;
    let mut host = Peer::connect(&first, "room", &room_token).await;
    let begun = first.post("/api/login/initial").key("room").send().await.json();
    let login = begun["pollToken"].as_str().unwrap();
    first.order("drain?now=true&exit=true").await;
    host.leave().await;
    first.stopped().await;

    let form = json!({"token": login, "user": "Late"});
    assert_eq!(second.post("/api/login/simple").key("room").json(&form).send().await.status, 200);
    let polled = second.post(&format!("/api/login/poll/{login}")).key("room").send().await;
    assert!(polled.json()["loginToken"].is_string());
    assert_eq!(second.get("/ct-health/").send().await.json()["sessions"], 1);
    let knocked = knock(&second, "room", &room_token).await;
    assert_eq!((knocked.status, knocked.owned().0), (200, "b"));
}

#[tokio::test]
async fn a_drain_with_a_deadline_waits_and_can_be_taken_back() {
    let folder = TempDir::new().unwrap();
    let node = TestNode::sharing(folder.path(), "a").await;
    let room_token = create(&node, "room").await;
    let _host = Peer::connect(&node, "room", &room_token).await;
    let drained = node.order("drain?deadline_s=600&exit=true").await.json();
    assert_eq!(drained["status"], "draining");
    let progress = &drained["drain"];
    assert_eq!(
        (&progress["phase"], &progress["sessions"], &progress["exit"]),
        (&json!("waiting"), &json!(1), &json!(true))
    );
    assert!((590..=600).contains(&progress["deadline_s"].as_u64().unwrap()), "{progress}");
    // Joiners of a session that lives still get in.
    let login = node.login("Guest").await;
    assert_eq!(node.post("/api/session/join/room").key("room").token(&login).send().await.status, 200);
    let refused = node.post("/api/session/create").key("other").token(&login).send().await;
    assert_eq!(refused.info(), info(503, "ServerDraining"));
    for wrong in ["soon", "-1", "864001", "18446744073709551615"] {
        let refused = node.order(&format!("drain?deadline_s={wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
        let told = refused.json()["message"].to_string();
        assert!(told.contains("from 0 to 864000, or none"), "{told}");
    }

    let resumed = node.order("resume").await.json();
    assert_eq!((&resumed["status"], resumed.get("drain")), (&json!("ready"), None));
    assert_eq!(node.post("/api/session/create").key("other").token(&login).send().await.status, 200);
}

#[tokio::test]
async fn metrics_say_how_ownership_is_shared() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    create(&first, "room").await;
    let login = second.login("Guest").await;
    second.post("/api/session/join/room").key("room").token(&login).send().await;
    for (node, line) in [
        (&first, r#"ctedge_node_ownership_total{event="created",reason=""} 1"#),
        (&first, r#"ctedge_node_asked_total{verdict="serve"} 1"#),
        (&second, r#"ctedge_node_asked_total{verdict="redirect"} 1"#),
    ] {
        let text = node.get("/metrics").send().await.body;
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        for unknown in ["ctedge_node_drain_seconds_left", "ctedge_node_license_seconds_left"] {
            assert!(!text.contains(unknown), "nothing is known of {unknown}\n{text}");
        }
    }
    // It counts as slow for a moment now and then on a busy machine.
    second.until(|| second.get("/metrics"), |answer| answer.body.contains("ctedge_node_store{state=\"ok\"} 1\n")).await;
    second.order("drain?deadline_s=600").await;
    let text = second.get("/metrics").send().await.body;
    let left = text.lines().find_map(|line| line.strip_prefix("ctedge_node_drain_seconds_left "));
    assert!(left.is_some_and(|left| (1..=600).contains(&left.parse::<i64>().unwrap())), "{text}");
}

#[tokio::test]
async fn the_store_knows_who_did_what_with_which_client() {
    let folder = TempDir::new().unwrap();
    let node = TestNode::sharing(folder.path(), "a").await;
    let room_token = create(&node, "room").await;
    let _host = Peer::connect(&node, "room", &room_token).await;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    let audited = async {
        loop {
            let (entries, _) = store.audit(&AuditFilter::default(), None, 10).await.unwrap();
            if let [created] = &*entries {
                return created.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let created = tokio::time::timeout(DEADLINE, audited).await.unwrap();
    assert_eq!((created.event, created.key.as_str(), created.node.as_str()), (AuditEvent::Created, "room", "a"));
    let user = created.user.unwrap();
    assert_eq!((&*user.name, user.email.as_deref()), ("Host", Some("Host@example.org")));
    assert_eq!(created.client.as_deref(), Some("test 1.0"));
}

/// A session of the lease `by`, of which there is a guest in the store and no host: with an estate, which is not readable,
/// or without one.
async fn without_host(store: &Store, by: &LeaseId, key: &str, with_estate: bool) {
    let key = Key::parse(key).unwrap();
    let created = store.execute(Command::Create { key: key.clone(), by: by.clone() }).await.unwrap();
    let Outcome::Owned { epoch, .. } = created else { panic!("{created:?}") };
    let peers = vec![StoredPeer { clock: 2, host: false, user: "{}".to_owned(), handshake: b"none"[..].into() }];
    let by = by.clone();
    let given = if with_estate {
        let estate = Estate { bytes: b"nothing that can be read"[..].into(), peers, in_flight: None };
        Command::HandOff { key, epoch, by, to: None, estate, reason: HandoffReason::Stop }
    } else {
        Command::Keep { key, epoch, by, peers, in_flight: None }
    };
    let given = store.execute(given).await.unwrap();
    assert!(matches!(given, Outcome::HandedOff { .. } | Outcome::Kept { .. }), "{given:?}");
}

#[tokio::test]
async fn a_session_whose_host_is_not_in_the_store_has_ended_for_the_log_and_for_the_audit() {
    let log = Log::of_process();
    let folder = TempDir::new().unwrap();
    let node = TestNode::sharing(folder.path(), "a").await;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    let lease = LeaseId::new(NodeId::new("dead"), 7);
    let register = Command::Register { lease: lease.clone(), address: ([127, 0, 0, 1], 1).into(), pid: 1 };
    assert_eq!(store.execute(register).await.unwrap(), Outcome::Registered);
    let keys = ["hostless-crashed", "hostless-parked"];
    without_host(&store, &lease, keys[0], false).await;
    without_host(&store, &lease, keys[1], true).await;
    store.execute(Command::EndLease { lease, beat: None, why: LeaseEnd::Exited }).await.unwrap();

    let login = node.login("Guest").await;
    for key in keys {
        let joined = node.post(&format!("/api/session/join/{key}")).key(key).token(&login).send().await;
        assert_eq!(joined.info(), info(404, "RoomNotFound"), "{key}");
        let ended = async {
            let filter = AuditFilter { key: Some(Key::parse(key).unwrap()), ..AuditFilter::default() };
            loop {
                let (entries, _) = store.audit(&filter, None, 10).await.unwrap();
                if let [entry] = &*entries {
                    return entry.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(DEADLINE, ended).await.expect("the audit has one entry of the session");
        assert_eq!((ended.event, ended.reason.as_deref()), (AuditEvent::Ended, Some("lost")), "{key}");
        let line = format!("sessions: event=\"ended\" reason=\"lost\" session={key}");
        assert!(log.text().contains(&line), "{line} is missing in\n{}", log.text());
    }
    let metrics = node.get("/metrics").send().await.body;
    for (reason, sessions) in [("no_host", 2), ("estate_unreadable", 1), ("nobody_came", 0)] {
        let line = format!("ctedge_node_sessions_lost_total{{reason=\"{reason}\"}} {sessions}\n");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }

    // The seats of their guests, which came with them, are free: the node has one in reserve.
    let freed = async {
        for number in 1.. {
            // The node soon ends the lease of somebody who does not beat.
            let lease = LeaseId::new(NodeId::new("observer"), number);
            let register = Command::Register { lease: lease.clone(), address: ([127, 0, 0, 1], 2).into(), pid: 1 };
            store.execute(register).await.unwrap();
            let seats = store.hold_seats(&lease, SeatWish { want: 0, sat: 0, exported: 0, number }, 25).await.unwrap();
            if seats.is_some_and(|seats| seats.others == 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, freed).await.expect("the seats are free");
}

#[tokio::test]
async fn a_node_tells_which_leases_ended_because_they_were_silent() {
    let folder = TempDir::new().unwrap();
    let node = TestNode::sharing(folder.path(), "a").await;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    // It never beats, and nobody listens at its address.
    let lease = LeaseId::new(NodeId::new("silent"), 7);
    let silent = Command::Register { lease, address: ([127, 0, 0, 1], 1).into(), pid: 1 };
    assert_eq!(store.execute(silent).await.unwrap(), Outcome::Registered);
    let over = json!([{ "node": "silent", "incarnation": 7 }]);
    node.until(|| node.get("/ct-health/"), |answer| answer.json()["over"] == over).await;
}
