//! Packets of Engine.IO and Socket.IO, a session long.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ctedge_socketio::fuzzing::engine(bytes, Instant::now()));
