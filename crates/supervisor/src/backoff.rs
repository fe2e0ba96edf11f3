//! How long a child that died stays down: longer each time, so that a child that cannot run does not eat the machine,
//! and short again once it has run for a while.

use std::time::{Duration, Instant};

/// A child that dies once is back before a client's second retry.
const FIRST: Duration = Duration::from_millis(250);

/// Long enough to cost nothing, short enough that a repaired cause shows.
const LONGEST: Duration = Duration::from_secs(30);

/// A child that ran this long had no trouble to start; its next death is a first one.
const HEALTHY: Duration = Duration::from_secs(30);

/// The waits of one child.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The child, started at `started`, died `now`: how long to wait before it is started again.
    pub(crate) fn died(&mut self, started: Instant, now: Instant) -> Duration {
        if now.duration_since(started) >= HEALTHY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_doubles_the_wait_until_it_is_long_enough() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        let waits: Vec<_> = (0..9).map(|_| backoff.died(now, now).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn a_child_that_ran_well_starts_at_the_shortest_wait_again() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        backoff.died(now, now);
        backoff.died(now, now);
        assert_eq!(backoff.died(now, now + HEALTHY), FIRST);
        assert_eq!(backoff.died(now, now), FIRST * 2);
    }
}
