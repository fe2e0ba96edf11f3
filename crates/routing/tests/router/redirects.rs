//! Nodes that name the owner of a key.

use std::net::SocketAddr;

use ctedge_routing::{Owner, PinReason, RedirectReason, Redirected};
use ctedge_wire::{HealthReport, LeaseOver};

use crate::support::{Bench, key};

fn redirect(bench: &Bench, owner: &str, epoch: u64) -> (&'static str, u16) {
    redirect_to(bench, owner, epoch, None)
}

fn redirect_to(bench: &Bench, name: &str, epoch: u64, address: Option<SocketAddr>) -> (&'static str, u16) {
    let owner = Owner { name, epoch, address };
    match bench.router.redirected(&key("k"), owner, &bench.node(1), bench.now()) {
        Redirected::Owner(placed) => ("owner", placed.node.address().port()),
        Redirected::Stale(placed) => ("stale", placed.node.address().port()),
        Redirected::UnknownNode => ("unknown", 0),
    }
}

/// The redirects by why they were needed, those that were not left out.
fn redirects(bench: &Bench) -> Vec<(RedirectReason, u64)> {
    let counts = RedirectReason::ALL.into_iter().zip(bench.router.pin_counts().redirects);
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_node_that_names_the_owner_is_believed_and_the_higher_epoch_wins() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    assert_eq!(redirect(&bench, "n2", 4), ("owner", 2));
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Redirect));
    assert_eq!(redirect(&bench, "n3", 3), ("stale", 2));
    assert_eq!(redirect(&bench, "n3", 4), ("stale", 2), "one epoch has one owner");
    assert_eq!(redirect(&bench, "n2", 4), ("owner", 2));
    assert_eq!(redirect(&bench, "n3", 5), ("owner", 3));
    assert_eq!(redirect(&bench, "elsewhere", 6), ("unknown", 0));
    assert_eq!(bench.named("k", &[1, 2, 3]), (3, PinReason::Redirect));
    use RedirectReason::{Meanwhile, Moved, NotBelieved, Unknown, UnknownNode};
    assert_eq!(redirects(&bench), [(Unknown, 1), (Moved, 1), (Meanwhile, 1), (NotBelieved, 2), (UnknownNode, 1)]);
}

#[test]
fn a_redirect_pins_a_key_that_was_not_known() {
    let bench = Bench::new(&[1, 2]);
    assert_eq!(redirect(&bench, "n2", 1), ("owner", 2));
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Redirect));
}

#[test]
fn after_a_failover_an_owner_that_is_alive_after_all_gets_the_key_back() {
    let bench = Bench::new(&[1, 2]);
    redirect(&bench, "n1", 4);
    bench.dies(1);
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Failover));
    bench.says(1, None);
    assert_eq!(redirect(&bench, "n1", 3), ("stale", 2));
    assert_eq!(redirect(&bench, "n1", 4), ("owner", 1));
    use RedirectReason::{Failover, NotBelieved, Unknown};
    assert_eq!(redirects(&bench), [(Unknown, 1), (Failover, 1), (NotBelieved, 1)]);
}

#[test]
fn a_redirect_to_a_node_whose_lease_is_over_comes_back_to_whoever_said_it_until_the_node_has_another() {
    let bench = Bench::new(&[1, 2]);
    let checked = |incarnation| {
        let report = HealthReport { node: "n2".into(), incarnation, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(2), Some(report), bench.now(), bench.now());
    };
    checked(7);
    bench.router.leases_over(&[LeaseOver { node: "n2".into(), incarnation: 7 }], bench.now());
    assert_eq!(redirect(&bench, "n2", 4), ("stale", 1));
    assert_eq!(bench.named("k", &[1, 2]), (1, PinReason::Placed));
    checked(8);
    assert_eq!(redirect(&bench, "n2", 5), ("owner", 2));
}

#[test]
fn a_redirect_by_the_node_that_had_the_key_is_a_handoff() {
    let bench = Bench::new(&[1, 2]);
    redirect(&bench, "n1", 4);
    assert_eq!(redirect(&bench, "n2", 5), ("owner", 2));
    assert_eq!(redirects(&bench), [(RedirectReason::Unknown, 1), (RedirectReason::Handoff, 1)]);
}
