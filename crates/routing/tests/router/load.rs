//! How new keys are spread.

use ctedge_routing::{PinReason, Standing};
use ctedge_wire::{HealthReport, Key, NodeStatus};

use crate::support::{Bench, addresses, key, placed, port};

#[test]
fn a_new_session_skips_a_node_above_its_share_and_an_old_one_does_not() {
    let bench = Bench::new(&[1, 2]);
    bench.says(1, Some((NodeStatus::Ready, 60)));
    bench.says(2, Some((NodeStatus::Ready, 20)));
    assert_eq!(bench.asks("new", Standing::Fresh, &[1, 2]), (2, PinReason::LoadBound));
    assert_eq!(bench.named("old", &[1, 2]), (1, PinReason::Placed));
}

#[test]
fn a_node_that_reports_counts_its_sessions_and_what_was_placed_since() {
    let bench = Bench::new(&[1, 2]);
    bench.says(1, Some((NodeStatus::Ready, 30)));
    bench.named("a", &[1, 2]);
    bench.named("a", &[1, 2]);
    bench.named("b", &[1, 2]);
    assert_eq!(bench.node(1).load(), 32);
    bench.says(1, Some((NodeStatus::Ready, 31)));
    assert_eq!(bench.node(1).load(), 31);
}

#[test]
fn a_node_that_does_not_report_counts_its_pins() {
    let bench = Bench::new(&[1, 2]);
    for name in ["a", "b", "a"] {
        bench.named(name, &[1, 2]);
    }
    bench.says(1, None);
    assert_eq!(bench.node(1).load(), 2);
    bench.pass(61);
    bench.router.expire(bench.now());
    assert_eq!(bench.node(1).load(), 0);
}

#[test]
fn the_load_bound_spreads_keys_that_placement_would_heap() {
    let bench = Bench::new(&[1, 2, 3]);
    for name in 0..300 {
        bench.asks(&format!("k{name}"), Standing::Fresh, &[1, 2, 3]);
    }
    let loads = [1, 2, 3].map(|number| bench.node(number).load());
    assert_eq!(loads, [125, 125, 50]);
}

#[test]
fn a_fresh_key_is_minted_so_that_its_first_rank_takes_it() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.drains(1);
    bench.says(2, Some((NodeStatus::Ready, 60)));
    bench.says(3, Some((NodeStatus::Ready, 20)));
    let mut minted = 0;
    let mint = || {
        minted += 1;
        key(&format!("k{minted}"))
    };
    let rank = |key: &Key| match key.as_str() {
        "k1" => addresses(&[1, 2, 3]),
        "k2" => addresses(&[2, 3, 1]),
        _ => addresses(&[3, 2, 1]),
    };
    let (minted, choice) = bench.router.choose_fresh(mint, rank, bench.now());
    assert_eq!((minted, port(choice)), (key("k3"), 3));
    assert_eq!(bench.router.pin_counts().total(), 1, "keys that were not taken leave nothing");
}

#[test]
fn a_fresh_key_is_minted_for_the_balancers_own_region_as_long_as_a_node_there_takes_it() {
    let bench = Bench::new(&[1, 2, 3]);
    let says = |number: u16, status, region: Option<&str>| {
        let (node, region) = (format!("n{number}"), region.map(str::to_owned));
        let report = HealthReport { status, node, region, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(number), Some(report), bench.now(), bench.now());
    };
    bench.router.prefer_region(Some("eu"));
    says(1, NodeStatus::Ready, Some("us"));
    says(2, NodeStatus::Ready, None);
    says(3, NodeStatus::Ready, Some("eu"));
    let fresh = || {
        let mut minted = 0;
        let mint = || {
            minted += 1;
            key(&format!("k{minted}"))
        };
        // The third of three keys ranks the third node first, and so on.
        let rank = |key: &Key| {
            let first = key.as_str()[1..].parse::<u16>().unwrap() % 3;
            addresses(&[[3, 1, 2], [1, 2, 3], [2, 3, 1]][usize::from(first)])
        };
        let (key, choice) = bench.router.choose_fresh(mint, rank, bench.now());
        (key.as_str().to_owned(), port(choice))
    };
    assert_eq!(fresh(), ("k3".into(), 3));
    // Nobody near takes new keys: the first key that anybody takes will do.
    says(3, NodeStatus::Draining, Some("eu"));
    assert_eq!(fresh(), ("k1".into(), 1));
    bench.router.prefer_region(None);
    says(3, NodeStatus::Ready, Some("eu"));
    says(1, NodeStatus::Ready, Some("us"));
    assert_eq!(fresh(), ("k1".into(), 1), "without a region all nodes are near");
}

#[test]
fn a_fresh_key_takes_a_worse_rank_when_minting_does_not_help() {
    let bench = Bench::new(&[1, 2]);
    bench.drains(1);
    let (_, choice) = bench.router.choose_fresh(|| key("k"), |_| addresses(&[1, 2]), bench.now());
    let placed = placed(choice);
    assert_eq!((placed.node.address().port(), placed.reason), (2, PinReason::NextRank));
}
