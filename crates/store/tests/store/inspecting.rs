//! Looking at a store without changing it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ctedge_ownership::{Command, LeaseEnd};
use ctedge_store::{StoreUrl, inspect};

use crate::support::{Place, lease, on_both, settings};

on_both!(an_empty_store_has_no_schema_and_is_left_empty, empty);

async fn empty(place: Place) {
    for _ in 0..2 {
        let found = inspect(&place.settings).await.unwrap();
        assert_eq!((found.schema, found.writes), (0, Ok(())));
        assert!(found.known > 0);
    }
}

on_both!(a_store_in_use_tells_its_schema_and_takes_writes, in_use);

async fn in_use(place: Place) {
    let store = place.open().await;
    for _ in 0..2 {
        let found = inspect(&place.settings).await.unwrap();
        assert_eq!((found.schema, found.writes), (found.known, Ok(())));
    }
    let clock = inspect(&place.settings).await.unwrap().clock;
    assert_eq!(clock.is_some(), place.postgres.is_some());
    if let Some(clock) = clock {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let apart = ours.abs_diff(Duration::from_millis(clock.0));
        assert!(apart < Duration::from_secs(60), "{apart:?}");
    }
    assert!(store.leases().await.unwrap().is_empty());
    if let Some(postgres) = &place.postgres {
        assert_eq!(postgres.sql("SELECT COUNT(*) FROM ctedge_schema WHERE version = 0").trim(), "0");
        postgres.sql("ALTER ROLE ctedge SET default_transaction_read_only = on");
        let writes = inspect(&place.settings).await.unwrap().writes.unwrap_err();
        assert!(writes.contains("read-only"), "{writes}");
    }
}

on_both!(nodes_that_live_with_one_address_are_told, shared_address);

async fn shared_address(place: Place) {
    let store = place.open().await;
    let register = async |node: &str, incarnation, port| {
        let lease = lease(node, incarnation);
        let address = ([127, 0, 0, 1], port).into();
        store.execute(Command::Register { lease: lease.clone(), address, pid: 1 }).await.unwrap();
        lease
    };
    let addresses = async || inspect(&place.settings).await.unwrap().shared_addresses;
    // One node that was started again, and two with addresses of their own.
    for (node, incarnation, port) in [("a", 1, 3001), ("a", 2, 3001), ("b", 1, 3002)] {
        register(node, incarnation, port).await;
    }
    assert_eq!(addresses().await, []);
    let second = register("c", 1, 3002).await;
    assert_eq!(addresses().await, [("127.0.0.1:3002".to_owned(), vec!["b".to_owned(), "c".to_owned()])]);
    store.execute(Command::EndLease { lease: second, beat: None, why: LeaseEnd::Exited }).await.unwrap();
    assert_eq!(addresses().await, []);
}

#[tokio::test]
async fn a_store_that_is_away_is_said_to_be_without_its_password() {
    let mut settings = settings(StoreUrl::parse("postgres://ct:geheim@127.0.0.1:1/ct").unwrap());
    settings.timeout = Duration::from_millis(300);
    let text = inspect(&settings).await.unwrap_err().to_string();
    assert!(text.contains("postgres://127.0.0.1:1/ct cannot be used") && !text.contains("geheim"), "{text}");
}
