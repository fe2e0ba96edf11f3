//! Every finding, from facts that differ from healthy ones in one thing.

use std::collections::BTreeSet;
use std::time::Duration;

use ctedge_wire::{HealthReport, LicenseReport, NodeStatus, SeatsReport, StoreState};

use super::examine;
use crate::facts::*;
use crate::finding::{CODES, Cause, Check, Severity};

const DAY_S: i64 = 86_400;

fn license(verdict: &str) -> LicenseReport {
    LicenseReport {
        verdict: verdict.into(),
        message: format!("the license is {verdict}"),
        allows_sessions: verdict == "valid",
        ends_soon: false,
        days_left: None,
        licensee: None,
        expiration: None,
    }
}

fn report(node: &str) -> HealthReport {
    HealthReport {
        node: node.into(),
        version: "0.1.0".into(),
        store: StoreState::Ok,
        license: Some(license("valid")),
        seats: Some(SeatsReport { licensed: 100, held: 4, taken: 2 }),
        ..HealthReport::default()
    }
}

fn node(id: &str) -> NodeFact {
    NodeFact {
        id: id.into(),
        address: "127.0.0.1:3001".into(),
        report: Ok(report(id)),
        shares_secret: Some(true),
        seen: Some(("ready".into(), None)),
    }
}

fn key(met: u32, missed: u32, node: &str) -> KeyFacts {
    KeyFacts { met, missed, nodes: [node.to_owned()].into(), arrived: Some(true), ..KeyFacts::default() }
}

fn carrier(carrier: Carrier) -> CarrierFacts {
    let keys = (0..24).map(|number| key(4, 0, if number % 2 == 0 { "node-1" } else { "node-2" })).collect();
    CarrierFacts { carrier, keys }
}

fn certificate() -> CertificateFacts {
    CertificateFacts {
        file: None,
        names: vec!["edge.example.com".into()],
        names_host: true,
        issuer: "CN=Example CA".into(),
        is_self_signed: false,
        chain_length: 2,
        trust: Trust::Rooted,
        begins_in_s: -DAY_S,
        ends_in_s: 60 * DAY_S,
    }
}

fn url() -> UrlFacts {
    UrlFacts {
        url: "https://edge.example.com".into(),
        is_stand_in: false,
        host: "edge.example.com".into(),
        is_https: true,
        prefix: String::new(),
        reach: Reach::Reached(Duration::from_millis(3)),
        certificate: Some(Ok(certificate())),
        meta: Some(Ok(Answer { status: 200, is_ours: true, ..Answer::default() })),
        cookie_secure: Some(true),
        shows_private_figures: false,
        polling: Some(Polling::Opened),
        websocket: Some(WebSocket::Opened),
        idle: None,
        stickiness: vec![carrier(Carrier::Header), carrier(Carrier::Cookie)],
        session: Some(SessionFacts::Met(Duration::from_millis(90))),
    }
}

fn sqlite(disk: Option<Disk>, probe: StoreProbe) -> StoreKind {
    StoreKind::Sqlite { path: "/data/ctedge.db".into(), disk, probe }
}

fn answered() -> StoreProbe {
    StoreProbe::Answered { schema: 1, known: 1, writes: Ok(()), latency: Duration::from_millis(2) }
}

fn healthy() -> Facts {
    let port = |setting: &str, port: u16| PortFact {
        setting: setting.into(),
        process: "balancer".into(),
        address: ([0, 0, 0, 0], port).into(),
        state: PortState::Ours,
    };
    Facts {
        has_settings: true,
        is_running: true,
        serves_others: false,
        is_private_certificate: false,
        ports: vec![port("balancer.http", 1080), port("balancer.admin", 1090)],
        url: Some(url()),
        nodes: vec![node("node-1"), node("node-2")],
        store: Some(StoreFacts {
            kind: sqlite(Some(Disk { network: None, free_bytes: 1 << 40 }), answered()),
            nodes: 2,
            hosts: 1,
        }),
        license: Some(license("valid")),
        reports: vec![],
        clocks: vec![ClockFact { whose: "node-1".into(), ahead_ms: -400, uncertain_ms: 1000 }],
        is_clock_kept: Some(true),
        denied: vec![],
        shared_addresses: vec![],
    }
}

/// A change of healthy facts, and the codes beside `ok` ones that come of it.
type Case = (&'static str, fn(&mut Facts), &'static [&'static str]);

fn of_url(change: impl FnOnce(&mut UrlFacts)) -> impl FnOnce(&mut Facts) {
    |facts| change(facts.url.as_mut().unwrap())
}

fn in_certificate(facts: &mut Facts) -> &mut CertificateFacts {
    facts.url.as_mut().unwrap().certificate.as_mut().unwrap().as_mut().unwrap()
}

fn in_node(facts: &mut Facts) -> &mut HealthReport {
    facts.nodes[0].report.as_mut().unwrap()
}

fn in_both(facts: &mut Facts, change: fn(&mut HealthReport)) {
    facts.nodes.iter_mut().for_each(|node| change(node.report.as_mut().unwrap()));
}

fn set_store(facts: &mut Facts, kind: StoreKind) {
    facts.store.as_mut().unwrap().kind = kind;
}

fn set_meta(facts: &mut Facts, status: u16, code: Option<&str>) {
    let answer = Answer { status, code: code.map(Into::into), ..Answer::default() };
    of_url(|url| url.meta = Some(Ok(answer)))(facts);
}

fn set_websocket(facts: &mut Facts, status: u16, code: Option<&str>) {
    let answer = Answer { status, code: code.map(Into::into), ..Answer::default() };
    of_url(|url| url.websocket = Some(WebSocket::Answered(answer)))(facts);
}

fn set_session(facts: &mut Facts, step: Step, status: u16, code: Option<&str>) {
    let answer = Answer { status, code: code.map(Into::into), ..Answer::default() };
    of_url(|url| url.session = Some(SessionFacts::Refused(step, answer)))(facts);
}

fn set_port(facts: &mut Facts, state: PortState) {
    facts.ports[0].state = state;
}

fn set_verdict(facts: &mut Facts, verdict: &str) {
    let license = license(verdict);
    facts.license = Some(license.clone());
    facts.nodes.iter_mut().for_each(|node| node.report.as_mut().unwrap().license = Some(license.clone()));
}

fn sets(facts: &mut Facts, change: impl Fn(&mut KeyFacts)) {
    facts.url.as_mut().unwrap().stickiness[0].keys.iter_mut().for_each(change);
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("healthy", |_| {}, &[]),
    ("a clock of which nothing is known", |facts| facts.is_clock_kept = None, &[]),
    ("a clock that nothing keeps", |facts| facts.is_clock_kept = Some(false), &["clock.not-kept"]),
    ("one address of two nodes", |facts| {
        facts.shared_addresses = vec![("10.0.0.1:3001".into(), vec!["a".into(), "b".into()])];
    }, &["nodes.same-address"]),
    ("a user who may look at little", |facts| {
        (facts.store, facts.license) = (None, None);
        let denied = |check, what: &str| Denied { check, what: what.into() };
        facts.denied = vec![
            denied(Check::Ports, "the port 0.0.0.0:443 (balancer.https)"),
            denied(Check::Nodes, "the cluster secret /data/cluster.secret"),
            denied(Check::Store, "the store /data/ctedge.db"),
            denied(Check::License, "/data/licensing.properties"),
        ];
    }, &["ports.not-allowed", "nodes.not-allowed", "store.not-allowed", "license.not-allowed"]),
    ("ports of an edge that is off are free", |facts| {
        facts.is_running = false;
        facts.ports.iter_mut().for_each(|port| port.state = PortState::Free);
    }, &[]),
    ("a machine without a balancer", |facts| {
        facts.ports.iter_mut().for_each(|port| port.state = PortState::Free);
        facts.ports[1].process = "node node-1".into();
        facts.ports[1].state = PortState::Ours;
    }, &[]),
    ("a port that is taken", |facts| set_port(facts, PortState::Foreign), &["ports.taken"]),
    ("a port that nobody has", |facts| set_port(facts, PortState::Free), &["ports.silent"]),
    ("an address of another machine", |facts| set_port(facts, PortState::NotHere), &["ports.no-such-address"]),
    ("a port of root's", |facts| set_port(facts, PortState::Forbidden), &["ports.forbidden"]),

    ("no URL", |facts| facts.url = None, &["address.unknown"]),
    ("a stand-in", |facts| of_url(|url| url.is_stand_in = true)(facts), &["address.stand-in"]),
    ("no such name", |facts| of_url(|url| url.reach = Reach::Unresolved("no such name".into()))(facts), &["address.unresolved"]),
    ("nobody there", |facts| of_url(|url| url.reach = Reach::Refused)(facts), &["address.refused"]),
    ("a firewall", |facts| of_url(|url| url.reach = Reach::TimedOut)(facts), &["address.timeout"]),
    ("no route", |facts| of_url(|url| url.reach = Reach::Failed("no route".into()))(facts), &["address.failed"]),

    ("no TLS", |facts| of_url(|url| url.certificate = Some(Err("no TLS".into())))(facts), &["certificate.no-tls"]),
    ("plain HTTP", |facts| of_url(|url| (url.is_https, url.certificate) = (false, None))(facts), &["certificate.plain-http"]),
    ("plain HTTP on this machine", |facts| of_url(|url| {
        (url.is_https, url.certificate, url.host) = (false, None, "127.0.0.1".into());
    })(facts), &[]),
    ("another name", |facts| in_certificate(facts).names_host = false, &["certificate.wrong-name"]),
    ("expired", |facts| in_certificate(facts).ends_in_s = -DAY_S, &["certificate.expired"]),
    ("from the future", |facts| in_certificate(facts).begins_in_s = 60, &["certificate.not-yet-valid"]),
    ("nearly over", |facts| in_certificate(facts).ends_in_s = 14 * DAY_S, &["certificate.ends-soon"]),
    ("a file that is expired", |facts| {
        let certificate = in_certificate(facts);
        (certificate.file, certificate.ends_in_s) = (Some("/data/edge.pem".into()), -DAY_S);
    }, &["certificate.expired"]),
    ("self-signed", |facts| {
        let certificate = in_certificate(facts);
        (certificate.is_self_signed, certificate.chain_length, certificate.trust) = (true, 1, Trust::UnknownIssuer);
    }, &["certificate.self-signed"]),
    ("without its chain", |facts| {
        let certificate = in_certificate(facts);
        (certificate.chain_length, certificate.trust) = (1, Trust::UnknownIssuer);
    }, &["certificate.chain"]),
    ("a private issuer whose users are told", |facts| {
        facts.is_private_certificate = true;
        let certificate = in_certificate(facts);
        (certificate.chain_length, certificate.trust) = (1, Trust::UnknownIssuer);
    }, &[]),
    ("a private issuer of a certificate that ends", |facts| {
        facts.is_private_certificate = true;
        let certificate = in_certificate(facts);
        (certificate.ends_in_s, certificate.trust) = (DAY_S, Trust::UnknownIssuer);
    }, &["certificate.ends-soon"]),
    ("a private issuer", |facts| in_certificate(facts).trust = Trust::UnknownIssuer, &["certificate.unknown-issuer"]),
    ("a broken chain", |facts| in_certificate(facts).trust = Trust::Broken("bad".into()), &["certificate.broken"]),

    ("no answer", |facts| of_url(|url| url.meta = Some(Err("it closed".into())))(facts), &["http.no-answer"]),
    ("a redirect", |facts| of_url(|url| {
        url.meta = Some(Ok(Answer { status: 301, location: Some("https://www.example.com/".into()), ..Answer::default() }));
    })(facts), &["http.redirect"]),
    ("our balancer without nodes", |facts| set_meta(facts, 503, Some("NoNodeAvailable")), &["http.no-node"]),
    ("another one without nodes", |facts| set_meta(facts, 502, None), &["http.gateway"]),
    ("a wrong prefix", |facts| set_meta(facts, 404, None), &["http.not-found"]),
    ("a login of the proxy's", |facts| set_meta(facts, 401, None), &["http.forbidden"]),
    ("another site", |facts| set_meta(facts, 200, None), &["http.foreign"]),
    ("a fault", |facts| set_meta(facts, 500, None), &["http.status"]),
    ("figures for everybody", |facts| of_url(|url| url.shows_private_figures = true)(facts), &["http.private-figures"]),
    ("a cookie for everybody", |facts| of_url(|url| url.cookie_secure = Some(false))(facts), &["http.cookie-not-secure"]),

    ("polls that are refused", |facts| of_url(|url| {
        url.polling = Some(Polling::Answered(Answer { status: 404, ..Answer::default() }));
    })(facts), &["polling.refused"]),
    ("polls without an answer", |facts| of_url(|url| url.polling = Some(Polling::Failed("late".into())))(facts), &["polling.refused"]),
    ("polls that are rewritten", |facts| of_url(|url| {
        url.polling = Some(Polling::Answered(Answer { status: 200, ..Answer::default() }));
    })(facts), &["polling.rewritten"]),
    ("an upgrade that was lost", |facts| set_websocket(facts, 400, Some("3")), &["websocket.upgrade-lost"]),
    ("a refused upgrade", |facts| set_websocket(facts, 403, None), &["websocket.refused"]),
    ("an upgrade without a node", |facts| set_websocket(facts, 502, None), &["websocket.no-node"]),
    ("an upgrade without an answer", |facts| of_url(|url| url.websocket = Some(WebSocket::Failed("late".into())))(facts), &["websocket.refused"]),
    ("a silent WebSocket", |facts| of_url(|url| url.websocket = Some(WebSocket::Silent("late".into())))(facts), &["websocket.silent"]),

    ("keys that come apart", |facts| sets(facts, |key| key.missed = 2), &["stickiness.lost"]),
    ("one key that comes apart once", |facts| facts.url.as_mut().unwrap().stickiness[1].keys[3].missed = 1, &["stickiness.lost"]),
    ("a 421 for the client", |facts| sets(facts, |key| key.misdirected = 1), &["stickiness.lost"]),
    ("eight keys on one node, by chance", |facts| {
        of_url(|url| url.stickiness[0].keys.truncate(8))(facts);
        sets(facts, |key| key.nodes = ["node-1".to_owned()].into());
    }, &[]),
    ("a WebSocket that stays", |facts| of_url(|url| url.idle = Some(Idle::Stayed(Duration::from_secs(70))))(facts), &[]),
    ("a WebSocket that is cut", |facts| {
        of_url(|url| url.idle = Some(Idle::Ended(Duration::from_secs(20), "it was closed".into())))(facts);
    }, &["websocket.cut"]),
    ("other servers behind our balancer", |facts| {
        facts.serves_others = true;
        set_meta(facts, 404, None);
        of_url(|url| (url.polling, url.websocket, url.session) = (None, None, None))(facts);
        in_both(facts, |report| *report = HealthReport::default());
        (facts.store, facts.license) = (None, None);
    }, &[]),
    ("other servers that cannot be reached", |facts| {
        facts.serves_others = true;
        set_meta(facts, 502, None);
        of_url(|url| (url.polling, url.websocket, url.session) = (None, None, None))(facts);
        in_both(facts, |report| *report = HealthReport::default());
    }, &["http.gateway"]),
    ("all on one node", |facts| sets(facts, |key| key.nodes = ["node-1".to_owned()].into()), &["stickiness.one-node"]),
    ("a header that is taken off", |facts| sets(facts, |key| key.arrived = Some(false)), &["stickiness.header-lost"]),
    ("a request that failed", |facts| sets(facts, |key| key.failed = vec!["late".into()]), &["stickiness.unstable"]),
    ("requests that all failed", |facts| sets(facts, |key| {
        *key = KeyFacts { failed: vec!["late".into()], ..KeyFacts::default() };
    }), &["stickiness.untried"]),

    ("no session tried", |facts| of_url(|url| url.session = Some(SessionFacts::Untried("sign-on".into())))(facts), &["session.untried"]),
    ("a license that ended", |facts| set_session(facts, Step::Create, 403, Some("LicenseExpired")), &["session.license"]),
    ("no seat", |facts| set_session(facts, Step::Join, 503, Some("SeatsTaken")), &["session.seats"]),
    ("a login elsewhere", |facts| set_session(facts, Step::LogIn, 400, Some("AuthTimeout")), &["session.misdirected"]),
    ("a session elsewhere", |facts| set_session(facts, Step::Join, 404, Some("RoomNotFound")), &["session.misdirected"]),
    ("a 421", |facts| set_session(facts, Step::GuestConnect, 421, None), &["session.misdirected"]),
    ("no node for a session", |facts| set_session(facts, Step::Create, 502, Some("NodeFailed")), &["session.no-node"]),
    ("a full node", |facts| set_session(facts, Step::Create, 503, Some("ServerDraining")), &["session.no-node"]),
    ("a node without its store", |facts| set_session(facts, Step::Create, 503, Some("Unavailable")), &["session.unavailable"]),
    ("a session without a WebSocket", |facts| set_session(facts, Step::HostConnect, 400, Some("3")), &["session.websocket"]),
    ("a token that is lost", |facts| set_session(facts, Step::Create, 403, Some("Forbidden")), &["session.token-refused"]),
    ("a session that is refused", |facts| set_session(facts, Step::Create, 400, Some("BadRequest")), &["session.failed"]),
    ("a session that breaks", |facts| of_url(|url| {
        url.session = Some(SessionFacts::Failed(Step::Meet, "late".into()));
    })(facts), &["session.failed"]),

    ("no list of nodes", |facts| facts.nodes.clear(), &["nodes.unknown"]),
    ("a dead node", |facts| {
        facts.nodes[0].report = Err("refused".into());
        facts.nodes[0].seen = Some(("down".into(), None));
    }, &["nodes.down"]),
    ("nothing runs", |facts| {
        facts.is_running = false;
        facts.ports.iter_mut().for_each(|port| port.state = PortState::Free);
        facts.nodes.iter_mut().for_each(|node| node.report = Err("refused".into()));
    }, &["nodes.down"]),
    ("a node that only the balancer reaches", |facts| {
        facts.nodes[0].report = Err("no route".into());
    }, &["nodes.not-from-here"]),
    ("a URL that shows no nodes", |facts| {
        *facts = Facts { url: Some(url()), ..Facts::default() };
    }, &["nodes.hidden"]),
    ("another node's address", |facts| in_node(facts).node = "node-9".into(), &["nodes.other"]),
    ("a node that is found by a name", |facts| facts.nodes[0].id = facts.nodes[0].address.clone(), &[]),
    ("a node with another secret", |facts| facts.nodes[0].shares_secret = Some(false), &["nodes.secret"]),
    ("a node that an operator must help", |facts| in_node(facts).trouble = Some("the file is gone".into()), &["nodes.trouble"]),
    ("a node that the balancer does not see", |facts| facts.nodes[0].seen = Some(("down".into(), Some("refused".into()))), &["nodes.unseen"]),
    ("a busy node", |facts| in_node(facts).lag_ms = 250.0, &["nodes.lag"]),
    ("a draining node", |facts| in_node(facts).status = NodeStatus::Draining, &["nodes.not-accepting"]),
    ("suspended nodes", |facts| in_both(facts, |report| report.status = NodeStatus::Suspended), &["nodes.none-accepting"]),
    ("two versions", |facts| in_node(facts).version = "0.0.9".into(), &["nodes.versions"]),

    ("nothing shared", |facts| set_store(facts, StoreKind::None), &["store.none"]),
    ("nothing to share", |facts| {
        set_store(facts, StoreKind::None);
        facts.store.as_mut().unwrap().nodes = 1;
    }, &[]),
    ("a file for several hosts", |facts| facts.store.as_mut().unwrap().hosts = 2, &["store.hosts"]),
    ("a file on a network", |facts| {
        set_store(facts, sqlite(Some(Disk { network: Some("NFS".into()), free_bytes: 1 << 40 }), answered()));
    }, &["store.network-fs"]),
    ("a full disk", |facts| set_store(facts, sqlite(Some(Disk { network: None, free_bytes: 1 << 20 }), answered())), &["store.disk-full"]),
    ("a nearly full disk", |facts| set_store(facts, sqlite(Some(Disk { network: None, free_bytes: 1 << 29 }), answered())), &["store.disk-nearly-full"]),
    ("no store yet", |facts| set_store(facts, sqlite(None, StoreProbe::Absent(Ok(())))), &[]),
    ("no store and no folder", |facts| set_store(facts, sqlite(None, StoreProbe::Absent(Err("denied".into())))), &["store.folder"]),
    ("no database", |facts| {
        set_store(facts, StoreKind::Postgres { place: "postgres://db/ct".into(), probe: StoreProbe::Failed("refused".into()) });
    }, &["store.unreachable"]),
    ("a newer store", |facts| {
        set_store(facts, sqlite(None, StoreProbe::Answered { schema: 2, known: 1, writes: Ok(()), latency: Duration::ZERO }));
    }, &["store.schema-newer"]),
    ("an older store", |facts| {
        set_store(facts, sqlite(None, StoreProbe::Answered { schema: 0, known: 1, writes: Ok(()), latency: Duration::ZERO }));
    }, &["store.schema-older"]),
    ("a standby", |facts| {
        let writes = Err("read-only".into());
        set_store(facts, sqlite(None, StoreProbe::Answered { schema: 1, known: 1, writes, latency: Duration::ZERO }));
    }, &["store.read-only"]),
    ("a far store", |facts| {
        let latency = Duration::from_millis(300);
        set_store(facts, sqlite(None, StoreProbe::Answered { schema: 1, known: 1, writes: Ok(()), latency }));
    }, &["store.slow"]),
    ("a node without its store", |facts| in_node(facts).store = StoreState::Unreachable, &["store.node-trouble"]),

    ("an evaluation", |facts| set_verdict(facts, "evaluation"), &["license.evaluation"]),
    ("an expired license", |facts| set_verdict(facts, "expired"), &["license.refused"]),
    ("a license of another server", |facts| set_verdict(facts, "other-locator"), &["license.refused"]),
    ("a license that nodes see otherwise", |facts| facts.license = Some(license("expired")), &["license.nodes-differ"]),
    ("a license that ends", |facts| in_both(facts, |report| report.license.as_mut().unwrap().ends_soon = true), &["license.ends-soon"]),
    ("no seat left", |facts| in_both(facts, |report| report.seats.as_mut().unwrap().taken = 50), &["license.seats-out"]),
    ("few seats left", |facts| in_both(facts, |report| report.seats.as_mut().unwrap().taken = 45), &["license.seats-nearly-out"]),

    ("a clock that is off", |facts| facts.clocks[0].ahead_ms = 7_000, &["clock.apart"]),
    ("a clock that is a little off", |facts| facts.clocks[0].ahead_ms = 5_900, &[]),
    ("a clock that is far off", |facts| facts.clocks[0].ahead_ms = -90_000, &["clock.far-apart"]),
];

/// The causes that stand behind a case's findings.
const CAUSES: &[(&str, Cause)] = &[
    ("keys that come apart", Cause::NotSticky),
    ("a session elsewhere", Cause::NotSticky),
    ("a dead node", Cause::NodeDown),
    ("another one without nodes", Cause::NodeDown),
    ("suspended nodes", Cause::NodeDown),
    ("an expired license", Cause::LicenseOut),
    ("no seat left", Cause::LicenseOut),
    ("an upgrade that was lost", Cause::NoWebSocket),
    ("no database", Cause::StoreOrClock),
    ("a clock that is far off", Cause::StoreOrClock),
];

#[test]
fn each_trouble_has_its_finding_and_no_other() {
    for (name, change, expected) in CASES {
        let mut facts = healthy();
        change(&mut facts);
        let findings = examine(&facts).findings;
        let codes: Vec<_> =
            findings.iter().filter(|finding| finding.severity != Severity::Ok).map(|finding| finding.code).collect();
        assert_eq!(codes, *expected, "{name}: {findings:#?}");
    }
}

#[test]
fn each_finding_comes_of_some_facts_and_says_what_to_do() {
    let mut found = BTreeSet::new();
    for (name, change, _) in CASES {
        let mut facts = healthy();
        change(&mut facts);
        for finding in examine(&facts).findings {
            let is_trouble = finding.severity > Severity::Skipped;
            assert_eq!(finding.remedy.is_some(), is_trouble, "{name}: {finding:#?}");
            assert!(finding.code.starts_with(&format!("{}.", finding.check.as_str())), "{finding:#?}");
            assert!(finding.sentence.ends_with('.') && !finding.sentence.ends_with(".."), "{}", finding.sentence);
            found.insert(finding.code);
        }
    }
    assert_eq!(found, CODES.into_iter().collect());
}

#[test]
fn each_cause_of_an_unavailable_session_is_named_by_what_shows_it() {
    for (name, cause) in CAUSES {
        let (_, change, _) = CASES.iter().find(|(case, ..)| case == name).unwrap();
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(examine(&facts).causes, [*cause].into(), "{name}");
    }
    let named: BTreeSet<_> = CAUSES.iter().map(|(_, cause)| *cause).collect();
    assert_eq!(named.len(), 5);
    assert!(examine(&healthy()).causes.is_empty());
}

#[test]
fn a_public_url_alone_is_judged_by_what_comes_through_it() {
    let reports = vec![report("node-1"), HealthReport { store: StoreState::Full, ..report("node-2") }];
    let facts = Facts { url: Some(url()), reports, ..Facts::default() };
    let diagnosis = examine(&facts);
    let codes: BTreeSet<_> = diagnosis.findings.iter().map(|finding| finding.code).collect();
    for code in ["session.met", "nodes.ready", "store.node-trouble", "license.valid"] {
        assert!(codes.contains(code), "{code}: {diagnosis}");
    }
    assert!(!codes.contains("nodes.unknown") && diagnosis.has_error(), "{diagnosis}");
}
