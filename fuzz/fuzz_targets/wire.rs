//! What balancer and node say to each other.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_wire::fuzzing::wire(bytes));
