//! What dashboards and exports read, and what is deleted.

use std::time::Duration;

use ctedge_ownership::NodeId;
use ctedge_store::{
    Audit, AuditEvent, AuditFilter, AuditUser, ClientFigures, Download, Entry, Forgotten, Lifetime, Store, Totals,
    UnixMillis, UsageSample,
};

use crate::support::{Place, day, key, on_both};

const DAY_MILLIS: u64 = 86_400_000;
/// The beginning of 2026-11-01, UTC.
const MONTH: u64 = 1_793_491_200_000;

fn audit(day_of_month: u8, event: AuditEvent, session: &str, name: &str, client: &str) -> Audit {
    Audit {
        at: UnixMillis(MONTH + u64::from(day_of_month - 1) * DAY_MILLIS + 5),
        day: day(day_of_month),
        event,
        key: key(session),
        node: NodeId::new("node-1"),
        peer: Some(format!("peer of {name}")),
        user: Some(AuditUser {
            name: name.into(),
            email: Some(format!("{name}@Example.org")),
            id: None,
            provider: None,
        }),
        client: Some(client.into()),
        reason: None,
    }
}

/// A sample of `node`, or with "" of all nodes.
fn sample(minute: u64, node: &str, sessions: u64) -> Entry {
    Entry::Usage(UsageSample {
        at: UnixMillis(MONTH + minute * 60_000),
        day: day(1),
        node: Some(node).filter(|node| !node.is_empty()).map(NodeId::new),
        users_online: sessions * 3,
        users_in_sessions: sessions * 2,
        sessions,
        connections: sessions * 2,
    })
}

fn download(day_of_month: u8, ide: &str) -> Entry {
    let (version, artifact) = ("1.2".to_owned(), format!("{ide}, \"all\".zip"));
    Entry::Download(Download { day: day(day_of_month), ide: ide.into(), version, artifact })
}

async fn write(store: &Store, entries: impl IntoIterator<Item = Entry>) {
    entries.into_iter().for_each(|entry| store.journal(entry));
    assert!(store.flush(Duration::from_secs(10)).await);
}

fn some_days() -> Vec<Audit> {
    vec![
        audit(1, AuditEvent::Created, "a", "ada", "IntelliJ"),
        audit(1, AuditEvent::Joined, "a", "bob", "VS Code"),
        audit(1, AuditEvent::Joined, "a", "ADA", "VS Code"),
        audit(1, AuditEvent::Left, "a", "bob", "VS Code"),
        audit(1, AuditEvent::Ended, "a", "ada", "IntelliJ"),
        audit(3, AuditEvent::Created, "b", "bob", "VS Code"),
        audit(3, AuditEvent::Joined, "b", "eve", "IntelliJ"),
    ]
}

on_both!(the_audit_is_read_page_by_page_from_its_end, pages);

async fn pages(place: Place) {
    let store = place.open().await;
    let written = some_days();
    write(&store, written.iter().cloned().map(Entry::Audit)).await;
    let (mut read, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = store.audit(&AuditFilter::default(), cursor, 3).await.unwrap();
        read.extend(page);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    read.reverse();
    assert_eq!(read, written);

    let filtered = async |filter| store.audit(&filter, None, 100).await.unwrap().0.len();
    let any = AuditFilter::default;
    assert_eq!(filtered(AuditFilter { from: Some(UnixMillis(MONTH + DAY_MILLIS)), ..any() }).await, 2);
    assert_eq!(filtered(AuditFilter { until: Some(UnixMillis(MONTH + DAY_MILLIS)), ..any() }).await, 5);
    assert_eq!(filtered(AuditFilter { key: Some(key("b")), ..any() }).await, 2);
    let event = Some(AuditEvent::Joined);
    assert_eq!(filtered(AuditFilter { event, ..any() }).await, 3);
    assert_eq!(
        filtered(AuditFilter { event, key: Some(key("a")), until: Some(UnixMillis(MONTH)), from: None }).await,
        0
    );
}

on_both!(figures_of_a_day_follow_from_audit_samples_and_downloads, figures);

async fn figures(place: Place) {
    let store = place.open().await;
    write(&store, some_days().into_iter().map(Entry::Audit)).await;
    // Two nodes in one slot count together, two slots do not, and one node's largest counts.
    let samples = [sample(0, "n1", 2), sample(4, "n1", 5), sample(3, "n2", 4), sample(4, "n1", 1), sample(5, "n1", 7)];
    write(&store, samples).await;
    // What is of all nodes is not added to what is of one.
    write(&store, [sample(2, "", 8), sample(5, "", 6)]).await;
    write(&store, [download(1, "vscode"), download(1, "vscode"), download(3, "=eclipse")]).await;

    let days = store.days(day(1), day(30)).await.unwrap();
    let seen: Vec<_> = days.iter().map(|day| (day.day.day, day.sessions, day.joins, day.ended, day.users)).collect();
    assert_eq!(seen, [(1, 1, 2, 1, 2), (3, 1, 1, 0, 2)]);
    assert_eq!((days[0].sessions_most, days[0].users_online_most, days[0].users_in_sessions_most), (9, 27, 18));
    assert_eq!(store.days(day(2), day(3)).await.unwrap().len(), 1);
    assert_eq!(store.unique_users(day(1), day(30)).await, Ok(3));
    assert_eq!(store.unique_users(day(1), day(2)).await, Ok(2));
    assert_eq!(store.totals().await, Ok(Totals { sessions: 2, joins: 3, downloads: 3 }));
    let downloads = [("vscode".to_owned(), 2), ("=eclipse".to_owned(), 1)].into();
    assert_eq!(store.lifetime().await, Ok(Lifetime { sessions: 2, downloads }));
    let client = |client: &str, hosted, joined| ClientFigures { client: client.into(), hosted, joined };
    assert_eq!(store.clients(day(1), day(30)).await.unwrap(), [client("IntelliJ", 1, 1), client("VS Code", 1, 2)]);
    let downloads = store.downloads(day(1), day(30)).await.unwrap();
    let seen: Vec<_> = downloads.iter().map(|row| (row.day.day, row.ide.as_str(), row.downloads)).collect();
    assert_eq!(seen, [(1, "vscode", 2), (3, "=eclipse", 1)]);
}

on_both!(what_is_older_than_it_may_be_is_deleted_and_the_sums_stay, forget);

async fn forget(place: Place) {
    let store = place.open().await;
    write(&store, some_days().into_iter().map(Entry::Audit)).await;
    write(&store, [sample(0, "n1", 2)]).await;
    let many = (0..2500).map(|number| Entry::Audit(audit(1, AuditEvent::Left, &format!("s{number}"), "x", "y")));
    write(&store, many).await;
    let before = UnixMillis(MONTH + DAY_MILLIS);
    assert_eq!(store.forget(before, day(3)).await, Ok(Forgotten { audit: 2505, usage: 5 }));
    assert_eq!(store.forget(before, day(3)).await, Ok(Forgotten::default()));
    assert_eq!(store.audit(&AuditFilter::default(), None, 100).await.unwrap().0.len(), 2);
    assert_eq!(store.clients(day(1), day(2)).await.unwrap(), []);
    assert_eq!(store.clients(day(1), day(30)).await.unwrap().len(), 2);
    let days = store.days(day(1), day(30)).await.unwrap();
    let seen: Vec<_> = days.iter().map(|day| (day.sessions, day.sessions_most, day.users)).collect();
    assert_eq!(seen, [(1, 2, 0), (1, 0, 2)]);
}

on_both!(clients_that_name_themselves_anew_each_time_count_as_others, many_clients);

async fn many_clients(place: Place) {
    let store = place.open().await;
    let joined = |number: u32| {
        Entry::Audit(audit(1, AuditEvent::Joined, &format!("s{number}"), "eve", &format!("client {number:03}")))
    };
    write(&store, (0..199).map(joined)).await;
    // One that is known, the last one that is told apart, two more, and one of another day.
    write(&store, [joined(7), joined(900)]).await;
    write(&store, [joined(901), joined(7), joined(902), Entry::Audit(audit(2, AuditEvent::Joined, "x", "eve", "new"))])
        .await;
    let of_day = store.clients(day(1), day(1)).await.unwrap();
    let uses = |name: &str| of_day.iter().find(|client| client.client == name).map(|client| client.joined);
    assert_eq!((of_day.len(), uses("client 007"), uses("client 900")), (201, Some(3), Some(1)));
    assert_eq!((uses("client 901"), uses("other")), (None, Some(2)));
    assert_eq!(store.clients(day(2), day(2)).await.unwrap().len(), 1);
}
