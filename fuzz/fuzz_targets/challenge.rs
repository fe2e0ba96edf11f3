//! What a registry wants to know of whoever asks.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_portal::fuzzing::challenge(bytes));
