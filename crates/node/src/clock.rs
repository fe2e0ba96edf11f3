//! What pure crates must be told: the time, on clocks that suit what it is for, and random bytes.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use ctedge_wire::Random;
use rustix::time::{ClockId, clock_gettime};

/// The time for whatever depends on what others do meanwhile: leases, and the fence that follows from them.
///
/// The clock of [`Instant::now`] stands still while the machine is suspended, and the sessions of a node that wakes up may
/// be another's by then. So these instants are ahead of that clock by the time for which the machine slept: compare them with
/// each other alone, and hand no timer more than a difference of two.
pub(crate) fn awake_or_not() -> Instant {
    static START: LazyLock<Start> = LazyLock::new(|| Start { at: Instant::now(), since_boot: since_boot() });
    START.after(since_boot())
}

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Start {
    at: Instant,
    since_boot: Duration,
}

impl Start {
    fn after(self, since_boot: Duration) -> Instant {
        self.at + since_boot.saturating_sub(self.since_boot)
    }
}

/// The time since the machine was started, suspended or not.
fn since_boot() -> Duration {
    // Never negative, by what it means.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_which_a_machine_sleeps_counts() {
        let start = Start { at: Instant::now(), since_boot: Duration::from_secs(1000) };
        // It ran for 2 s and slept for 60 s.
        assert_eq!(start.after(Duration::from_secs(1062)), start.at + Duration::from_secs(62));
        let (before, since_boot_before) = (awake_or_not(), since_boot());
        std::thread::sleep(Duration::from_millis(20));
        assert!(awake_or_not().duration_since(before) >= Duration::from_millis(20));
        assert!(since_boot() - since_boot_before >= Duration::from_millis(20));
    }
}
