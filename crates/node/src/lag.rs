//! How late the event loop runs its timers: the one figure that says whether a node keeps up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two samples. Often enough that a short stall is seen, rare enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(100);

/// Tokio's timers fire at whole milliseconds, rounded up: up to this much is no lag.
const TIMER_GRANULARITY: Duration = Duration::from_millis(1);

/// The weight of one sample in the average: the last two seconds make up most of it.
const SAMPLE_WEIGHT: f64 = 0.1;

/// The average lag of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// The bits of an `f64`, in milliseconds.
    average_ms: AtomicU64,
}

impl Lag {
    /// The average in milliseconds, to the microsecond.
    #[must_use]
    pub(crate) fn average_ms(&self) -> f64 {
        (f64::from_bits(self.average_ms.load(Ordering::Relaxed)) * 1000.0).round() / 1000.0
    }

    fn add(&self, late: Duration) {
        let sample_ms = late.saturating_sub(TIMER_GRANULARITY).as_secs_f64() * 1000.0;
        let average_ms = f64::from_bits(self.average_ms.load(Ordering::Relaxed));
        let average_ms = average_ms + SAMPLE_WEIGHT * (sample_ms - average_ms);
        self.average_ms.store(average_ms.to_bits(), Ordering::Relaxed);
    }

    /// Samples until it is dropped.
    pub(crate) async fn sample(self: Arc<Self>) {
        loop {
            let due = Instant::now() + INTERVAL;
            tokio::time::sleep_until(due).await;
            self.add(due.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_the_samples_and_ignores_the_timers_own_rounding() {
        let lag = Lag::default();
        lag.add(Duration::from_micros(900));
        assert_eq!(lag.average_ms(), 0.0);
        for _ in 0..100 {
            lag.add(Duration::from_millis(11));
        }
        assert!((9.9..=10.0).contains(&lag.average_ms()), "{}", lag.average_ms());
    }
}
