//! What one peer has been sent and has not yet proven to have.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a message costs besides its bytes: its place in the queue and the allocator's share. Without it, a flood of tiny
/// messages would take many times the bound.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// No session lives to see it: what is read from elsewhere may not come near the end of the numbers.
const OFFSET_MAX: u64 = u64::MAX / 2;

/// What one peer has been sent and has not yet proven to have: messages numbered by rising offsets, kept until
/// acknowledged, bounded in bytes.
///
/// A cursor is the offset of the last message that a reader has; it reads on with [`Outbox::after`].
#[derive(Debug, Clone)]
pub struct Outbox {
    messages: VecDeque<Bytes>,
    /// The offset before the first message.
    start: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Outbox {
    /// Nothing yet; the first message will have the offset after `start`.
    pub(crate) fn new(start: u64, bytes_max: usize) -> Self {
        Self { messages: VecDeque::new(), start, bytes: 0, bytes_max }
    }

    /// Messages that were kept elsewhere after `start`, over the bound if they are. `None` if offsets would run out.
    pub(crate) fn restored(start: u64, messages: Vec<Bytes>, bytes_max: usize) -> Option<Self> {
        let end = start.checked_add(messages.len() as u64)?;
        let bytes = messages.iter().map(cost).sum();
        (end <= OFFSET_MAX).then(|| Self { messages: messages.into(), start, bytes, bytes_max })
    }

    /// The messages that are kept.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Bytes> {
        self.messages.iter()
    }

    /// Adds a message. `false`, and nothing is added, if it would go over the bound.
    #[must_use]
    pub(crate) fn push(&mut self, message: Bytes) -> bool {
        let cost = cost(&message);
        if self.bytes + cost > self.bytes_max {
            return false;
        }
        self.bytes += cost;
        self.messages.push_back(message);
        true
    }

    /// Forgets what is up to `offset`, whose receipt is proven. Offsets that were never given acknowledge nothing.
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        if offset > self.end() {
            return;
        }
        while self.start < offset {
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= cost(&message);
            }
            self.start += 1;
        }
        // A burst should not keep its memory for the hours that follow.
        if self.messages.is_empty() && self.messages.capacity() > 64 {
            self.messages = VecDeque::new();
        }
    }

    /// Forgets everything, as if it were acknowledged.
    pub(crate) fn clear(&mut self) {
        self.acknowledge(self.end());
    }

    /// The messages after `cursor`, with their offsets. A cursor from before the first kept message starts there.
    pub fn after(&self, cursor: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let skipped = usize::try_from(cursor.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.messages.len());
        let first = self.start + 1 + skipped as u64;
        (first..).zip(self.messages.range(skipped..))
    }

    /// The offset before the first kept message: the cursor of a reader that has none of them.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the last message: the cursor of a reader that has everything.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.messages.len() as u64
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What is kept, in bytes, the cost of keeping it included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(message: &Bytes) -> usize {
    message.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(messages: &[&'static str]) -> Outbox {
        let mut outbox = Outbox::new(10, 1000);
        for message in messages {
            assert!(outbox.push(Bytes::from_static(message.as_bytes())));
        }
        outbox
    }

    fn check(outbox: &Outbox, cursor: u64, expected: &[(u64, &str)]) {
        let found: Vec<_> =
            outbox.after(cursor).map(|(offset, message)| (offset, std::str::from_utf8(message).unwrap())).collect();
        assert_eq!(found, expected, "after {cursor}");
    }

    #[test]
    fn a_reader_goes_on_after_its_cursor() {
        let outbox = outbox(&["a", "b", "c"]);
        check(&outbox, 10, &[(11, "a"), (12, "b"), (13, "c")]);
        check(&outbox, 12, &[(13, "c")]);
        check(&outbox, 13, &[]);
        check(&outbox, 0, &[(11, "a"), (12, "b"), (13, "c")]);
        check(&outbox, u64::MAX, &[]);
    }

    #[test]
    fn what_is_acknowledged_is_gone_and_the_rest_keeps_its_offsets() {
        let mut outbox = outbox(&["a", "b", "c"]);
        outbox.acknowledge(12);
        check(&outbox, 0, &[(13, "c")]);
        outbox.acknowledge(11);
        outbox.acknowledge(14);
        outbox.acknowledge(u64::MAX);
        check(&outbox, 0, &[(13, "c")]);
        outbox.acknowledge(13);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
        assert!(outbox.push(Bytes::from_static(b"d")));
        check(&outbox, 13, &[(14, "d")]);
    }

    #[test]
    fn an_outbox_is_bounded_by_what_it_costs_to_keep() {
        let mut outbox = Outbox::new(0, 2 * (ENTRY_OVERHEAD_BYTES + 1));
        assert!(outbox.push(Bytes::from_static(b"a")) && outbox.push(Bytes::from_static(b"b")));
        assert!(!outbox.push(Bytes::new()));
        outbox.acknowledge(1);
        assert!(outbox.push(Bytes::from_static(b"c")));
    }
}
