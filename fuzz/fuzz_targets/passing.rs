//! WebSocket frames of nodes, as the balancer counts them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_balancer::fuzzing::passing(bytes));
