//! The two things that pure crates must be told: the time, and random bytes.

use std::time::{Duration, SystemTime};

use ctedge_wire::Random;

/// The time since 1970, for what tokens claim.
pub(crate) fn unix_now() -> Duration {
    // A clock before 1970 is broken; tokens signed by it will not be believed elsewhere, which is the safe side.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A number that no other start of a node has. It fits into what JSON readers take numbers for.
pub(crate) fn random_incarnation() -> u64 {
    let random = random();
    let drawn = u64::from_le_bytes(std::array::from_fn(|index| random[index])) >> 12;
    // 0 stands for a node that shares nothing.
    drawn.max(1)
}

/// 32 bytes of the operating system's random source.
pub(crate) fn random() -> Random {
    let mut bytes = [0; 32];
    // Without randomness no token may be issued. Linux cannot fail here once it has booted.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
