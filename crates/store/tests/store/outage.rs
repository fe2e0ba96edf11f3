//! A store that is away, slow, locked or full: what callers are told, and that all is well again by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctedge_ownership::LeaseId;
use ctedge_store::{Command, Entry, LeaseEnd, Outcome, Store, StoreFailure, StoreState, StoreUrl};
use ctedge_testing::Proxy;
use ctedge_wire::NodeStatus;

use crate::support::{Place, connection, created, key, peer, registered};

const TIMEOUT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

async fn beat(store: &Store, lease: &LeaseId) -> Result<Outcome, StoreFailure> {
    let beat = Command::Beat { lease: lease.clone(), status: NodeStatus::Ready, report: "{}".into() };
    tokio::time::timeout(PATIENCE, store.execute(beat)).await.expect("a call ends")
}

/// Everything is well, without anybody having done anything about it.
async fn recovers(store: &Store, lease: &LeaseId) {
    let deadline = Instant::now() + PATIENCE;
    while !matches!(beat(store, lease).await, Ok(Outcome::Beaten { .. }))
        || store.health().journal.entries > 0
        || store.state() != StoreState::Ok
    {
        assert!(Instant::now() < deadline, "no recovery: {:?}", store.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn peers_of(store: &Store, name: &str) -> u64 {
    let sessions = store.sessions(None, 100).await.unwrap();
    sessions.into_iter().find(|session| session.key == key(name)).unwrap().peers
}

/// A store over a network that can be cut, with a lease and a session.
async fn over_a_proxy(place: &mut Place) -> (Store, Proxy, LeaseId, Entry) {
    // Making the schema may take longer than what follows.
    let patient = place.open().await;
    let by = registered(&patient, "node", 1).await;
    let epoch = created(&patient, "room", &by).await;
    drop(patient);
    let postgres = place.postgres.as_ref().unwrap();
    let proxy = Proxy::before(SocketAddr::from(([127, 0, 0, 1], postgres.port())));
    place.settings.url = StoreUrl::parse(&postgres.url_over(proxy.port())).unwrap();
    place.settings.timeout = TIMEOUT;
    let store = place.open().await;
    let entry = Entry::PeerJoined { key: key("room"), epoch, by: by.clone(), peer: peer(1, "x") };
    (store, proxy, by, entry)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_reached_is_reported_and_found_again() {
    let Some(mut place) = Place::postgres() else { return };
    let (store, proxy, by, entry) = over_a_proxy(&mut place).await;
    proxy.cut();
    assert_eq!(beat(&store, &by).await, Err(StoreFailure::Unreachable));
    assert_eq!(store.state(), StoreState::Unreachable);
    store.journal(entry);
    assert!(!store.flush(TIMEOUT).await);
    assert_eq!(store.health().journal.entries, 1);
    proxy.restore();
    recovers(&store, &by).await;
    assert_eq!(peers_of(&store, "room").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_costs_no_more_than_the_timeout() {
    let Some(mut place) = Place::postgres() else { return };
    let (store, proxy, by, entry) = over_a_proxy(&mut place).await;
    proxy.stall();
    for _ in 0..3 {
        assert_eq!(beat(&store, &by).await, Err(StoreFailure::Slow));
    }
    assert_eq!(store.state(), StoreState::Slow);
    store.journal(entry);
    assert!(!store.flush(TIMEOUT).await);
    proxy.restore();
    recovers(&store, &by).await;
    assert_eq!(peers_of(&store, "room").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_is_used_without_a_failure() {
    let Some(mut place) = Place::postgres() else { return };
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let postgres = place.postgres.as_mut().unwrap();
    postgres.stop();
    assert_eq!(store.execute(Command::Look { key: key("x") }).await, Err(StoreFailure::Unreachable));
    postgres.begin();
    assert!(matches!(beat(&store, &by).await, Ok(Outcome::Beaten { .. })));
    // The connections of the pool died without a word while nobody looked.
    postgres.stop();
    postgres.begin();
    assert!(matches!(beat(&store, &by).await, Ok(Outcome::Beaten { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_process_holds_is_let_go_by_the_server() {
    let Some(mut place) = Place::postgres() else { return };
    place.settings.timeout = TIMEOUT;
    let (store, stopped) = (place.open().await, place.open().await);
    let by = registered(&store, "node", 1).await;
    // The answers to a third process stall in the middle of its transaction, while it holds the lease.
    let postgres = place.postgres.as_ref().unwrap();
    let proxy = Proxy::before(SocketAddr::from(([127, 0, 0, 1], postgres.port())));
    let mut settings = place.settings.clone();
    settings.url = StoreUrl::parse(&postgres.url_over(proxy.port())).unwrap();
    let third = Store::open(&settings).await.unwrap();
    let is_stalled = Arc::new(AtomicBool::new(false));
    let creating = tokio::spawn({
        let (by, is_stalled) = (by.clone(), Arc::clone(&is_stalled));
        async move {
            for number in 0.. {
                let create = Command::Create { key: key(&format!("s{number}")), by: by.clone() };
                // On a busy machine an answer may be late before that.
                if third.execute(create).await.is_err() && is_stalled.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    while stopped.sessions(None, 100).await.unwrap().len() < 5 {
        tokio::task::yield_now().await;
    }
    proxy.stall();
    is_stalled.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    let end = || Command::EndLease { lease: by.clone(), beat: None, why: LeaseEnd::Exited };
    while store.execute(end()).await != Ok(Outcome::Ended) {
        assert!(Instant::now() < deadline, "the lease cannot be ended");
    }
    creating.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_has_locked_is_slow_and_no_more() {
    let mut place = Place::sqlite();
    place.settings.timeout = TIMEOUT;
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let mut file = connection(&place).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut file).await.unwrap();
    assert_eq!(beat(&store, &by).await, Err(StoreFailure::Slow));
    assert_eq!(store.state(), StoreState::Slow);
    // Reading goes on.
    assert_eq!(store.execute(Command::Look { key: key("x") }).await, Ok(Outcome::Missing));
    sqlx::query("ROLLBACK").execute(&mut file).await.unwrap();
    recovers(&store, &by).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_reported_and_found_to_have_room_again() {
    let mut place = Place::sqlite();
    let Some(disk) = SmallDisk::mount(place.folder.path()) else {
        eprintln!("skipped: a small tmpfs cannot be mounted (needs root)");
        return;
    };
    place.settings.url = StoreUrl::Sqlite(disk.0.join("ctedge.db"));
    place.settings.timeout = TIMEOUT;
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let epoch = created(&store, "room", &by).await;
    let filler = disk.0.join("filler");
    // Whatever is left, to the last byte.
    let _ = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler).unwrap());
    for clock in 0..2000 {
        let peer = peer(clock, &"x".repeat(500));
        store.journal(Entry::PeerJoined { key: key("room"), epoch, by: by.clone(), peer });
    }
    assert!(!store.flush(TIMEOUT).await);
    assert_eq!(store.state(), StoreState::Full);
    assert!(
        matches!(store.execute(Command::Look { key: key("room") }).await, Ok(Outcome::Found(_))),
        "reading goes on"
    );
    assert_eq!(store.state(), StoreState::Full);
    std::fs::remove_file(filler).unwrap();
    recovers(&store, &by).await;
    assert_eq!(peers_of(&store, "room").await, 2000);
}

/// A file system of 8 MiB.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<Self> {
        let at = folder.join("disk");
        std::fs::create_dir(&at).unwrap();
        let mut mount = Program::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&at);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the store may still have its file open.
        let _ = Program::new("umount").arg("-l").arg(&self.0).status();
    }
}
