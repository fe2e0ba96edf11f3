//! What operators take away in files: the figures of each day, and the audit.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use ctedge_ownership::NodeId;
use ctedge_portal::{Download, Portal, Surroundings, export};
use ctedge_settings::parse;
use ctedge_store::{
    Audit, AuditEvent, AuditUser, Day, Download as Downloaded, Entry, Store, StoreState, UnixMillis, UsageSample,
};
use ctedge_wire::{HealthReport, Key};
use tower::ServiceExt;

/// The beginning of 2026-11-24, UTC.
const DAY_BEGINS: u64 = 1_795_478_400_000;
const DAY: Day = Day { year: 2026, month: 11, day: 24 };

/// A node with this store, in this state.
struct Node(Option<Store>, StoreState);

impl Surroundings for Node {
    fn health(&self) -> HealthReport {
        HealthReport { store: self.1, ..HealthReport::default() }
    }

    fn store(&self) -> Option<Store> {
        self.0.clone()
    }

    fn is_control_token(&self, _: &[u8]) -> bool {
        false
    }

    fn visitor_key(&self) -> [u8; 32] {
        [7; 32]
    }

    fn downloaded(&self, _: &Download) {}
}

async fn store_in(folder: &Path) -> Store {
    let settings = parse(&format!("data = {folder:?}\n"), &|_| None).unwrap();
    Store::open(&settings.store().unwrap()).await.unwrap()
}

async fn write(store: &Store, entries: impl IntoIterator<Item = Entry>) {
    entries.into_iter().for_each(|entry| store.journal(entry));
    assert!(store.flush(Duration::from_secs(10)).await);
}

fn audit(milliseconds: u64, event: AuditEvent, name: &str) -> Entry {
    Entry::Audit(Audit {
        at: UnixMillis(DAY_BEGINS + milliseconds),
        day: DAY,
        event,
        key: Key::parse("room").unwrap(),
        node: NodeId::new("node-1"),
        peer: Some("peer".into()),
        user: Some(AuditUser { id: None, name: name.into(), email: None, provider: Some("simple".into()) }),
        client: Some("IntelliJ".into()),
        reason: None,
    })
}

async fn get(node: Node, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let settings = parse("", &|_| None).unwrap();
    let router = export::router(Portal::new(settings.portal(), node));
    let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, 1 << 24).await.unwrap().to_vec())
}

async fn text(node: Node, path: &str) -> (StatusCode, String) {
    let (status, _, body) = get(node, path).await;
    (status, String::from_utf8(body).unwrap())
}

fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    files.collect()
}

#[tokio::test]
async fn the_archive_holds_the_figures_of_each_day() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let download = Downloaded { day: DAY, ide: "vscode".into(), version: "1.2".into(), artifact: "a,b.vsix".into() };
    let sample = UsageSample {
        at: UnixMillis(DAY_BEGINS),
        day: DAY,
        node: None,
        users_online: 5,
        users_in_sessions: 4,
        sessions: 3,
        connections: 6,
    };
    write(&store, [audit(1, AuditEvent::Created, "Ada"), audit(2, AuditEvent::Joined, "Grace")]).await;
    write(&store, [Entry::Usage(sample), Entry::Download(download.clone()), Entry::Download(download)]).await;
    let node = || Node(Some(store.clone()), StoreState::Ok);

    let (status, headers, archive) = get(node(), "/dashboard/metrics.tar.gz").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/gzip");
    assert_eq!(headers["content-disposition"], "attachment; filename=\"metrics.tar.gz\"");
    assert_eq!(headers["cache-control"], "no-store");
    let sessions = "day,sessions,largest_concurrent_sessions,unique_users,joins,average_session_size,most_users_online,\
                    most_users_in_sessions\r\n2026-11-24,1,3,2,1,2.00,5,4\r\n";
    let downloads = "day,ide,version,artifact,downloads\r\n2026-11-24,vscode,1.2,\"a,b.vsix\",2\r\n";
    let expected = [("session-metrics.csv", sessions), ("download-metrics.csv", downloads)];
    let expected: BTreeMap<_, _> = expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    assert_eq!(unpacked(&archive), expected);

    let (_, _, archive) = get(node(), "/dashboard/metrics.tar.gz?from=2026-11-25").await;
    let lines = unpacked(&archive).into_values().map(|text| text.lines().count());
    assert_eq!(lines.collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn the_audit_is_whole_whatever_its_length_and_the_latest_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let many = 2_500;
    write(&store, (0..many).map(|number| audit(number, AuditEvent::Left, &format!("=user-{number}, \"x\"")))).await;
    write(&store, [audit(86_400_000, AuditEvent::Ended, "Ada")]).await;
    let node = || Node(Some(store.clone()), StoreState::Ok);

    let (status, headers, body) = get(node(), "/dashboard/audit.csv?to=2026-11-24").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8; header=present");
    let mut table = csv::Reader::from_reader(body.as_slice());
    assert_eq!(table.headers().unwrap().iter().next(), Some("time_utc"));
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len() as u64, many);
    assert_eq!((&rows[0][0], &rows[0][6]), ("2026-11-24T00:00:02.499Z", "'=user-2499, \"x\""));
    let last: Vec<_> = rows[2_499].iter().collect();
    assert_eq!(
        last,
        [
            "2026-11-24T00:00:00.000Z",
            "left",
            "room",
            "node-1",
            "peer",
            "",
            "'=user-0, \"x\"",
            "",
            "simple",
            "IntelliJ",
            ""
        ]
    );

    let (_, later) = text(node(), "/dashboard/audit.csv?from=2026-11-25&to=2026-11-25").await;
    let lines: Vec<_> = later.lines().skip(1).collect();
    assert_eq!(lines, ["2026-11-25T00:00:00.000Z,ended,room,node-1,peer,,Ada,,simple,IntelliJ,"]);
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_with_the_reason() {
    for path in ["/dashboard/metrics.tar.gz", "/dashboard/audit.csv"] {
        let (status, why) = text(Node(None, StoreState::None), path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(why.contains("store.url"), "{why}");
        let (status, headers, _) = get(Node(None, StoreState::Unreachable), path).await;
        assert_eq!((status, &headers["retry-after"] == "5"), (StatusCode::SERVICE_UNAVAILABLE, true));
        let (status, why) = text(Node(None, StoreState::Ok), &format!("{path}?from=2026-13-01")).await;
        assert_eq!(
            (status, why.as_str()),
            (StatusCode::BAD_REQUEST, "from is no day: \"2026-13-01\"; write one like 2026-11-24\n")
        );
        let (status, _) = text(Node(None, StoreState::Ok), &format!("{path}?form=2026-11-01")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
