//! At most so many handshakes a second: a node to which the clients of another one return takes them in at a pace that
//! it can keep, instead of refusing them.
//!
//! [`Pacer`] decides, and knows neither clock nor task; [`Pace`] lets the handshakes wait. Hosts go before guests: a
//! session without its host lets nobody join.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// The longest queue, in time. A client that waits longer has given up its request; it is better told when to come.
const QUEUE: Duration = Duration::from_secs(10);

/// Who may begin a handshake now, and who waits for it.
#[derive(Debug)]
struct Pacer<T> {
    /// Between two handshakes on average.
    interval: Duration,
    /// How far ahead of the average a burst may run: a second's worth, so that a rare crowd does not wait.
    ahead_max: Duration,
    /// When the next handshake would be due if all kept to the average.
    average: Instant,
    queue_max: usize,
    hosts: VecDeque<T>,
    guests: VecDeque<T>,
}

impl<T> Pacer<T> {
    fn new(per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let queue_max = QUEUE.as_secs() as usize * per_second as usize;
        let ahead_max = Duration::from_secs(1).saturating_sub(interval);
        Self { interval, ahead_max, average: now, queue_max, hosts: VecDeque::new(), guests: VecDeque::new() }
    }

    /// Whether one may begin at once. Nobody overtakes those who wait.
    fn enters(&mut self, now: Instant) -> bool {
        let enters = self.waiting() == 0 && now >= self.next_at();
        if enters {
            self.count_one(now);
        }
        enters
    }

    /// Lets one wait, if there is room. Otherwise it comes back as it is.
    fn wait(&mut self, waiter: T, is_host: bool) -> Result<(), T> {
        if self.waiting() >= self.queue_max {
            return Err(waiter);
        }
        if is_host {
            self.hosts.push_back(waiter);
        } else {
            self.guests.push_back(waiter);
        }
        Ok(())
    }

    /// The next one whose turn it is. Ask until there is none.
    fn next_due(&mut self, now: Instant) -> Option<T> {
        if now < self.next_at() {
            return None;
        }
        let waiter = self.hosts.pop_front().or_else(|| self.guests.pop_front())?;
        self.count_one(now);
        Some(waiter)
    }

    /// The last one whose turn it was has given up; its turn is the next one's.
    fn give_back(&mut self) {
        self.average = self.average.checked_sub(self.interval).unwrap_or(self.average);
    }

    /// When it is somebody's turn.
    fn poll_timeout(&self) -> Option<Instant> {
        (self.waiting() > 0).then(|| self.next_at())
    }

    fn waiting(&self) -> usize {
        self.hosts.len() + self.guests.len()
    }

    fn next_at(&self) -> Instant {
        self.average.checked_sub(self.ahead_max).unwrap_or(self.average)
    }

    fn count_one(&mut self, now: Instant) {
        self.average = self.average.max(now) + self.interval;
    }
}

/// Lets handshakes wait for their turns.
pub(super) struct Pace {
    pacer: Mutex<Pacer<oneshot::Sender<()>>>,
    /// Somebody waits where nobody did.
    waits: Notify,
}

/// As many handshakes wait as may: come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded {
    pub(super) retry_after: Duration,
}

impl Pace {
    /// Call it within a Tokio runtime.
    pub(super) fn new(per_second: u32) -> Arc<Self> {
        let pace = Arc::new(Self { pacer: Mutex::new(Pacer::new(per_second, Instant::now())), waits: Notify::new() });
        tokio::spawn(keep(Arc::downgrade(&pace)));
        pace
    }

    /// Waits until one more handshake may begin. Cancel safe.
    pub(super) async fn turn(&self, is_host: impl FnOnce() -> bool) -> Result<(), Crowded> {
        let (waiter, turn) = oneshot::channel();
        {
            let mut pacer = self.pacer.lock();
            if pacer.enters(Instant::now()) {
                return Ok(());
            }
            pacer.wait(waiter, is_host()).map_err(|_| Crowded { retry_after: QUEUE })?;
        }
        self.waits.notify_one();
        // An error means that the node's transports are gone, and with them what the handshake would begin.
        turn.await.map_err(|_| Crowded { retry_after: QUEUE })
    }

    /// How many wait, those included that have given up since.
    pub(super) fn waiting(&self) -> usize {
        self.pacer.lock().waiting()
    }

    /// Tells everybody whose turn it is, and says when to look again.
    fn call(&self) -> Option<Instant> {
        let mut pacer = self.pacer.lock();
        while let Some(waiter) = pacer.next_due(Instant::now()) {
            if waiter.send(()).is_err() {
                pacer.give_back();
            }
        }
        pacer.poll_timeout()
    }
}

/// Calls those who wait until the pace is gone.
async fn keep(pace: Weak<Pace>) {
    // Looks by itself now and then, so that it ends when nobody comes any more.
    while let Some(pace) = pace.upgrade() {
        let next = pace.call().unwrap_or_else(|| Instant::now() + QUEUE);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = pace.waits.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A pacer of ten a second whose burst is used up.
    fn busy(now: Instant) -> Pacer<&'static str> {
        let mut pacer = Pacer::new(10, now);
        assert_eq!((0..20).filter(|_| pacer.enters(now)).count(), 10);
        pacer
    }

    #[test]
    fn a_burst_enters_at_once_and_the_rest_at_the_average() {
        let start = Instant::now();
        let mut pacer = busy(start);
        for waiter in ["a", "b", "c"] {
            pacer.wait(waiter, false).unwrap();
        }
        assert_eq!(pacer.next_due(start + ms(99)), None);
        assert_eq!(pacer.poll_timeout(), Some(start + ms(100)));
        assert_eq!(pacer.next_due(start + ms(100)), Some("a"));
        assert_eq!(pacer.next_due(start + ms(100)), None);
        assert_eq!(pacer.next_due(start + ms(300)), Some("b"));
        assert_eq!(pacer.next_due(start + ms(300)), Some("c"));
        assert_eq!(pacer.poll_timeout(), None);
    }

    #[test]
    fn hosts_go_before_guests_and_nobody_overtakes_those_who_wait() {
        let start = Instant::now();
        let mut pacer = busy(start);
        pacer.wait("guest", false).unwrap();
        pacer.wait("host", true).unwrap();
        assert!(!pacer.enters(start + ms(150)), "others wait");
        assert_eq!(pacer.next_due(start + ms(150)), Some("host"));
        assert_eq!(pacer.next_due(start + ms(200)), Some("guest"));
        assert!(pacer.enters(start + ms(1000)));
    }

    #[test]
    fn the_queue_is_bounded_in_time() {
        let start = Instant::now();
        let mut pacer = busy(start);
        assert_eq!((0..150).filter(|_| pacer.wait("waiter", false).is_ok()).count(), 100);
    }

    #[test]
    fn the_turn_of_somebody_who_gave_up_is_the_next_ones() {
        let start = Instant::now();
        let mut pacer = busy(start);
        pacer.wait("gone", false).unwrap();
        pacer.wait("patient", false).unwrap();
        assert_eq!(pacer.next_due(start + ms(100)), Some("gone"));
        pacer.give_back();
        assert_eq!(pacer.next_due(start + ms(100)), Some("patient"));
    }

    #[tokio::test]
    async fn those_who_wait_are_called_one_after_the_other() {
        let pace = Pace::new(50);
        let begun = Instant::now();
        for _ in 0..60 {
            pace.turn(|| false).await.unwrap();
        }
        assert!(begun.elapsed() >= ms(180), "ten beyond the burst of fifty take a fifth of a second");
    }
}
