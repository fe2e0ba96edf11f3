//! Waiting for points in time to within tens of microseconds.
//!
//! Tokio's timers have a resolution of one millisecond, which is as much as the latencies to be measured; a `timerfd` of
//! the kernel has none of that.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

/// A timer of its own for one task.
pub(crate) struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    pub(crate) fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is open and owned; nothing closes or replaces it before the `AsyncFd` is dropped.
        #[expect(unsafe_code, reason = "registering a descriptor with tokio has no safe form")]
        let timer = unsafe { AsyncFd::register(timer) }?;
        Ok(Self { timer })
    }

    /// Returns at `due`. When that has passed, other tasks still get their turn: a schedule that cannot be kept must not
    /// keep the tool from reading.
    pub(crate) async fn until(&self, due: Instant) -> Result<()> {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
        rustix::time::timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.timer.readable().await?;
        let mut expirations = [0; 8];
        // The count of expirations is of no interest; reading it arms the readiness for the next wait.
        let _ = rustix::io::read(self.timer.get_ref(), &mut expirations);
        ready.clear_ready();
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}
