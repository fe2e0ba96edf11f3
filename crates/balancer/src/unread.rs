//! Requests that are refused before they could be read, and connections that are refused before there is one. Of these nothing
//! is known but an address, and a stranger can make many of them: their lines in the access log are bounded in rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ctedge_logs::AccessLine;
use parking_lot::Mutex;

use crate::shared::Shared;

/// How many lines a second tell of them. Enough to see what goes on; the metrics count all.
const LINES_PER_SECOND: u32 = 50;

/// What was written of them.
#[derive(Default)]
pub(crate) struct Unread {
    rate: Mutex<Rate>,
    lines_dropped: AtomicU64,
}

impl Unread {
    /// Lines that there was no room for.
    pub(crate) fn lines_dropped(&self) -> u64 {
        self.lines_dropped.load(Ordering::Relaxed)
    }
}

/// How many lines the second that began last has had.
#[derive(Default)]
struct Rate {
    began: Option<Instant>,
    lines: u32,
}

impl Rate {
    fn admits(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            *self = Self { began: Some(now), lines: 0 };
        }
        self.lines += 1;
        self.lines <= LINES_PER_SECOND
    }
}

/// Logs that `peer` was refused with `status`.
pub(crate) fn log(shared: &Shared, peer: SocketAddr, status: u16) {
    let Some(log) = &shared.access_log else { return };
    if !shared.unread.rate.lock().admits(Instant::now()) {
        shared.unread.lines_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    log.record(&AccessLine {
        client: peer.ip().to_canonical(),
        authorization: None,
        time: SystemTime::now(),
        method: "",
        path: "",
        version: "",
        status,
        bytes: 0,
        referer: None,
        user_agent: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_so_many_lines() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let admitted = |rate: &mut Rate, after| (0..1000).filter(|_| rate.admits(start + after)).count();
        assert_eq!(admitted(&mut rate, Duration::ZERO), 50);
        assert_eq!(admitted(&mut rate, Duration::from_millis(999)), 0);
        assert_eq!(admitted(&mut rate, Duration::from_secs(1)), 50);
    }
}
