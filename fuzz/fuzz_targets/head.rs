//! Heads of messages of the protocol, also against a full decoder.

#![no_main]

#[path = "../../crates/protocol/tests/reference/mod.rs"]
mod reference;

use ctedge_protocol::Head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ctedge_protocol::fuzzing::head(bytes);
    let mut keys = Vec::new();
    if let Ok(head) = Head::walk(bytes, &mut keys) {
        reference::check_walk(bytes, &head, &keys);
    }
});
