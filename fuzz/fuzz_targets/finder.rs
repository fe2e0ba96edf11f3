//! Requests, as far as their key goes.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_routing::fuzzing::finder(bytes));
