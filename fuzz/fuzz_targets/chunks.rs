//! Chunked bodies of what nodes answer to a tunnel.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_balancer::fuzzing::chunks(bytes));
