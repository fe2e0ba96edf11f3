//! Login and room tokens, and what a signed one claims.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_protocol::fuzzing::token(bytes));
