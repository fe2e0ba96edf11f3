//! A trouble that comes many times in a row is told twice: when it begins, and with its count when it is over.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long it stays away until it is over. One that comes and goes would be told each time.
const CALM: Duration = Duration::from_secs(10);

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Spell(Mutex<Times>);

#[derive(Debug, Default)]
struct Times {
    count: u64,
    last: Option<Instant>,
}

impl Spell {
    /// The trouble is there, again or for the first time. Whether it is to be told.
    pub fn comes(&self, now: Instant) -> bool {
        let mut times = self.0.lock();
        (times.count, times.last) = (times.count + 1, Some(now));
        times.count == 1
    }

    /// When it will be over, if it does not come again. `None` while there is none.
    #[must_use]
    pub fn over_at(&self) -> Option<Instant> {
        self.0.lock().last.map(|last| last + CALM)
    }

    /// How often it has come, if it is over by `now`. Told once.
    pub fn ends(&self, now: Instant) -> Option<u64> {
        let mut times = self.0.lock();
        times.last.filter(|last| now.saturating_duration_since(*last) >= CALM)?;
        Some(std::mem::take(&mut *times).count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_begins_and_when_it_is_over() {
        let (spell, start) = (Spell::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!((spell.over_at(), spell.ends(start)), (None, None));
        for twentieth in 0..100 {
            assert_eq!(spell.comes(at(50 * twentieth)), twentieth == 0);
        }
        // It goes on after a pause.
        assert_eq!(spell.ends(at(4_950 + 9_999)), None);
        assert!(!spell.comes(at(14_949)));
        assert_eq!(spell.over_at(), Some(at(24_949)));
        assert_eq!(spell.ends(at(24_949)), Some(101));
        assert_eq!((spell.over_at(), spell.ends(at(90_000))), (None, None));
        assert!(spell.comes(at(90_000)));
    }
}
