//! Request lines on their way into a log.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_logs::fuzzing::redaction(bytes));
