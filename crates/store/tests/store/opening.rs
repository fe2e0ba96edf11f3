//! Opening: many at once, wrong URLs, and stores of another version.

use std::time::Duration;

use ctedge_store::{Command, Outcome, Store, StoreFailure, StoreUrl};
use tokio::task::JoinSet;

use crate::support::{Place, created, key, lease, on_both, registered, settings};

on_both!(many_processes_may_open_an_empty_store_at_once, at_once);

async fn at_once(place: Place) {
    let mut opening = JoinSet::new();
    for number in 0..8 {
        let settings = place.settings.clone();
        opening.spawn(async move {
            let store = Store::open(&settings).await.unwrap();
            registered(&store, "node", number).await;
        });
    }
    opening.join_all().await;
    assert_eq!(place.open().await.leases().await.unwrap().len(), 8);
}

on_both!(what_was_stored_is_there_when_the_store_is_opened_again, again);

async fn again(place: Place) {
    let store = place.open().await;
    let by = registered(&store, "node", 7).await;
    let epoch = created(&store, "room", &by).await;
    drop(store);
    let found = place.open().await.execute(Command::Look { key: key("room") }).await;
    assert!(matches!(found, Ok(Outcome::Found(record)) if record.owner == by && record.epoch == epoch));
}

on_both!(a_store_of_a_later_version_is_refused, newer);

async fn newer(place: Place) {
    drop(place.open().await);
    match &place.postgres {
        Some(postgres) => drop(postgres.sql("INSERT INTO ctedge_schema (version) VALUES (99)")),
        None => {
            let mut file = crate::support::connection(&place).await;
            sqlx::query("INSERT INTO ctedge_schema (version) VALUES (99)").execute(&mut file).await.unwrap();
        }
    }
    let refusal = Store::open(&place.settings).await.err().unwrap().to_string();
    assert!(refusal.contains("has the schema 99, which is newer than"), "{refusal}");
}

/// What opening says of a URL. Never the password.
async fn refused(url: &str) -> String {
    let mut settings = settings(StoreUrl::parse(url).unwrap());
    settings.timeout = Duration::from_millis(300);
    let refusal = Store::open(&settings).await.err().unwrap_or_else(|| panic!("{url} was opened"));
    let text = format!("{refusal} {refusal:?}");
    assert!(!text.contains("geheim"), "{text}");
    refusal.to_string()
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_which_and_why() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are notes, and no database at all. ".repeat(50)).unwrap();
    let text = refused(&format!("sqlite:{}", path.display())).await;
    assert!(text.contains("notes.txt cannot be used") && text.contains("not a database"), "{text}");

    let text = refused(&format!("sqlite:{}/below/x.db", path.display())).await;
    assert!(text.starts_with("store.url: the folder ") && text.contains("notes.txt/below cannot be made"), "{text}");

    let text = refused("postgres://ct:geheim@127.0.0.1:1/ct").await;
    assert!(text.contains("postgres://127.0.0.1:1/ct cannot be used"), "{text}");

    let text = refused("postgres://ct:geheim@127.0.0.1:1/ct?sslmode=perhaps").await;
    assert!(text.contains("cannot be used"), "{text}");
}

#[tokio::test]
async fn a_server_that_refuses_says_so() {
    let Some(place) = Place::postgres() else { return };
    let port = place.postgres.as_ref().unwrap().port();
    let text = refused(&format!("postgres://ctedge:geheim@127.0.0.1:{port}/nowhere")).await;
    assert!(text.contains("database \"nowhere\" does not exist"), "{text}");
    let text = refused(&format!("postgres://nobody:geheim@127.0.0.1:{port}/postgres")).await;
    assert!(text.contains("nobody"), "{text}");
}

on_both!(a_command_by_a_lease_that_nobody_knows_changes_nothing, unknown_lease);

async fn unknown_lease(place: Place) {
    let store = place.open().await;
    let create = Command::Create { key: key("room"), by: lease("nobody", 1) };
    let outcome: Result<Outcome, StoreFailure> = store.execute(create).await;
    assert_eq!(outcome, Ok(Outcome::LeaseEnded));
    assert!(store.sessions(None, 10).await.unwrap().is_empty());
}
