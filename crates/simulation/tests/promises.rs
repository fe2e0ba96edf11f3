//! The promises of the design, over many seeds.
//!
//! A run that fails or panics prints its seed. `CTEDGE_SEED=n` runs that one alone and tells what happens; `CTEDGE_SEEDS=n` runs so
//! many.

mod support;

use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use ctedge_simulation::{Seen, World};
use support::{each, number, outcome, profile, push};

const SEEDS: u64 = 10_000;

fn run(seed: u64, tells: bool) -> Result<Seen, String> {
    let tell: fn(f64, &dyn fmt::Debug) = |seconds, event| println!("{seconds:>12.6} {event:?}");
    outcome(seed, || {
        let mut world = World::new(seed, profile(seed), Instant::now(), tells.then_some(tell));
        world.run().map(|()| world.seen.clone())
    })
}

#[test]
fn the_promises_hold_over_every_interleaving_that_the_seeds_draw() {
    if let Some(seed) = number("CTEDGE_SEED") {
        let seen = run(seed, true).unwrap_or_else(|violation| panic!("{violation}"));
        println!("{seen:?}");
        return;
    }
    let seeds = number("CTEDGE_SEEDS").unwrap_or(SEEDS);
    let (seen, failures) = (Mutex::new(Seen::default()), Mutex::new(Vec::new()));
    each(seeds, |seed| match run(seed, false) {
        Ok(run) => {
            seen.lock().unwrap().add(&run);
            false
        }
        Err(violation) => push(&failures, violation) >= 5,
    });
    let (seen, failures) = (seen.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("{seen:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A simulation in which nothing happens proves nothing.
    let rarest =
        [seen.takeovers, seen.handoffs, seen.estates_adopted, seen.estates_taken_over, seen.parked, seen.fenced];
    let rarest = rarest
        .into_iter()
        .chain([seen.ended_silent, seen.cut_off, seen.leases_lost, seen.redirects, seen.elsewhere, seen.asked])
        .chain([seen.gone_for_good, seen.packets_lost, seen.guests_left, seen.reconnects])
        .chain([seen.writes_refused, seen.parted, seen.astray])
        .min();
    assert!(seeds < SEEDS || rarest >= Some(seeds / 4), "{seen:?}");
    assert!(
        seeds < SEEDS
            || [seen.reaped, seen.ended_by_grace, seen.given_up, seen.pauses, seen.kept, seen.deaf]
                .iter()
                .all(|seen| *seen > 0),
        "{seen:?}"
    );
}

#[test]
fn a_run_that_panics_says_its_seed_and_how_to_see_it_again() {
    let said = outcome(41, || -> Result<(), String> { panic!("index out of bounds") }).unwrap_err();
    assert!(said.contains("seed 41 (OneFault): a panic: index out of bounds"), "{said}");
    assert!(said.contains("CTEDGE_SEED=41 cargo nextest run -p ctedge-simulation --no-capture"), "{said}");
}
