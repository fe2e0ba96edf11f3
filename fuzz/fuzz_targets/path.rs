//! Paths below a folder that is served.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_portal::fuzzing::path(bytes));
