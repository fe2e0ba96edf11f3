//! Sessions as another node wrote them down.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_session::fuzzing::estate(bytes, Instant::now()));
