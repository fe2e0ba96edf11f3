//! Accounts for every message that one peer must get from one other peer.

use std::collections::HashSet;

/// What an arriving message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one.
    InOrder,
    /// One that was overtaken by a later one.
    OutOfOrder,
    /// One that had arrived before.
    Duplicate,
}

/// The messages of one sender to one receiver, numbered from 0.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The number after the highest that arrived.
    next: u64,
    /// Numbers below `next` that have not arrived.
    missing: HashSet<u64>,
}

impl Account {
    pub(crate) fn arrived(&mut self, number: u64) -> Verdict {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            Verdict::InOrder
        } else if self.missing.remove(&number) {
            Verdict::OutOfOrder
        } else {
            Verdict::Duplicate
        }
    }

    /// Which of the messages numbered `from..to` never came, by their count.
    pub(crate) fn lost_between(&self, from: u64, to: u64) -> u64 {
        let missing = self.missing.iter().filter(|number| (from..to).contains(number)).count() as u64;
        missing + to.saturating_sub(from.max(self.next))
    }

    /// How many of the first `sent` messages never came.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrivals: &[u64], sent: u64, out_of_order: usize, duplicates: usize, lost: u64) {
        let mut account = Account::default();
        let verdicts: Vec<Verdict> = arrivals.iter().map(|number| account.arrived(*number)).collect();
        let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
        assert_eq!(
            (count(Verdict::OutOfOrder), count(Verdict::Duplicate), account.lost(sent)),
            (out_of_order, duplicates, lost),
            "{arrivals:?}"
        );
    }

    #[test]
    fn every_message_is_in_order_late_double_or_lost() {
        check(&[0, 1, 2], 3, 0, 0, 0);
        check(&[], 3, 0, 0, 3);
        check(&[0, 2], 3, 0, 0, 1);
        check(&[0, 1], 3, 0, 0, 1);
        check(&[0, 2, 1], 3, 1, 0, 0);
        check(&[0, 1, 1, 2], 3, 0, 1, 0);
        check(&[0, 2, 1, 1], 3, 1, 1, 0);
        check(&[2, 2], 4, 0, 1, 3);
    }
}
