//! What an OpenID Connect provider answers.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_sign_on::fuzzing::provider(bytes));
