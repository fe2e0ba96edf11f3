//! The two things that pure crates must be told: the time, and random bytes.

use std::time::{Duration, SystemTime};

use ctedge_wire::Random;

/// The time since 1970, for what tokens claim.
pub(crate) fn unix_now() -> Duration {
    // A clock before 1970 is broken; tokens signed by it will not be believed elsewhere, which is the safe side.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// 32 bytes of the operating system's random source.
pub(crate) fn random() -> Random {
    let mut bytes = [0; 32];
    // Without randomness no token may be issued. Linux cannot fail here once it has booted.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
