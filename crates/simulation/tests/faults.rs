//! Each promise can fail: with every fault, some seed breaks the promise that the fault is about.

mod support;

use std::sync::Mutex;
use std::time::Instant;

use ctedge_simulation::{Fault, World};
use support::{each, outcome, profile, push};

/// Within how many seeds a fault must be found.
const SEEDS: u64 = 1_000;

/// The first seed that breaks the fault's promise, with what it says.
fn first(fault: Fault) -> Option<(u64, String)> {
    let found = Mutex::new(Vec::new());
    let run = |seed| -> Result<_, String> { Ok(World::broken(seed, profile(seed), Instant::now(), fault).run()) };
    each(SEEDS, |seed| match outcome(seed, || run(seed)).unwrap_or_else(|panic| panic!("{fault:?}: {panic}")) {
        Err(violation) if violation.promise == fault.promise() => {
            push(&found, (seed, violation.to_string()));
            true
        }
        _ => false,
    });
    found.into_inner().expect("no run panicked").into_iter().min()
}

#[test]
fn each_fault_breaks_its_promise() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        match first(*fault) {
            Some((seed, violation)) => println!("{fault:?}: seed {seed}: {violation}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "no seed below {SEEDS} notices {missed:?}");
}

#[test]
fn faults_are_in_the_order_of_their_promises() {
    assert!(Fault::ALL.iter().map(|fault| fault.promise()).is_sorted());
}
