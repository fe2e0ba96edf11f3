//! The file of a SQLite store is taken away, put back, or replaced while processes use it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ctedge_ownership::LeaseId;
use ctedge_store::{Command, Outcome, Store, StoreFailure, StoreState, StoreUrl};

use crate::support::{Place, beaten, created, key, lease, registered};

fn path(place: &Place) -> PathBuf {
    match &place.settings.url {
        StoreUrl::Sqlite(path) => path.clone(),
        StoreUrl::Postgres(_) => panic!("no file"),
    }
}

async fn registers(store: &Store, lease: &LeaseId) -> Result<Outcome, StoreFailure> {
    let address = ([127, 0, 0, 1], 3001).into();
    store.execute(Command::Register { lease: lease.clone(), address, pid: 1 }).await
}

#[tokio::test]
async fn a_store_whose_file_is_gone_is_away_until_it_is_back() {
    let place = Place::sqlite();
    let store = place.open().await;
    let one = registered(&store, "a", 1).await;
    created(&store, "room", &one).await;
    let kept = place.folder.path().join("kept.db");
    std::fs::rename(path(&place), &kept).unwrap();

    for command in [Command::Look { key: key("room") }, Command::Create { key: key("other"), by: one.clone() }] {
        assert_eq!(store.execute(command).await, Err(StoreFailure::Unreachable));
    }
    assert!(store.leases().await.is_err());
    assert_eq!(store.state(), StoreState::Unreachable);
    assert!(store.trouble().unwrap().contains("is gone"), "{:?}", store.trouble());
    assert!(!path(&place).exists(), "nobody has made another");

    std::fs::rename(&kept, path(&place)).unwrap();
    assert!(matches!(beaten(&store, &one).await, Outcome::Beaten { .. }));
    assert_eq!((store.state(), store.trouble()), (StoreState::Ok, None));
    assert!(matches!(store.execute(Command::Look { key: key("room") }).await, Ok(Outcome::Found(_))));
}

#[tokio::test]
async fn every_lease_is_over_when_the_file_is_another_even_one_that_knows_it() {
    let place = Place::sqlite();
    let store = place.open().await;
    let one = registered(&store, "a", 1).await;
    // A backup, in which the lease lives and owns a session.
    let before = created(&store, "room", &one).await;
    let backup = place.folder.path().join("backup.db");
    let text = format!("VACUUM INTO '{}'", backup.display());
    sqlx::Executor::execute(&mut crate::support::connection(&place).await, sqlx::AssertSqlSafe(text)).await.unwrap();
    std::fs::rename(&backup, path(&place)).unwrap();

    assert_eq!(beaten(&store, &one).await, Outcome::LeaseEnded);
    assert_eq!(beaten(&store, &one).await, Outcome::LeaseEnded);
    assert!(store.trouble().unwrap().contains("was replaced"), "{:?}", store.trouble());
    // Others may not have noticed yet.
    let two = lease("a", 2);
    assert_eq!(registers(&store, &two).await, Err(StoreFailure::Unreachable));
    let deadline = Instant::now() + Duration::from_secs(30);
    while registers(&store, &two).await != Ok(Outcome::Registered) {
        assert!(Instant::now() < deadline, "{:?}", store.trouble());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((store.state(), store.trouble()), (StoreState::Ok, None));
    let Ok(Outcome::Found(record)) = store.execute(Command::Look { key: key("room") }).await else {
        panic!("the file has the session")
    };
    assert_eq!((record.owner, record.epoch), (one, before));
    assert!(created(&store, "other", &two).await > before);
}

#[tokio::test]
async fn epochs_of_an_empty_store_are_above_those_of_one_that_was_lost() {
    let place = Place::sqlite();
    let store = place.open().await;
    let one = registered(&store, "a", 1).await;
    let mut before = created(&store, "0", &one).await;
    for number in 1..20 {
        before = created(&store, &number.to_string(), &one).await;
    }
    std::fs::remove_file(path(&place)).unwrap();
    let afresh = place.open().await;
    let one = registered(&afresh, "a", 2).await;
    assert!(created(&afresh, "0", &one).await > before);
}
