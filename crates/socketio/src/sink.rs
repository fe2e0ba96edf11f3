//! Where outgoing packets go.

use bytes::Bytes;

/// Takes outgoing Engine.IO packets in order: a WebSocket makes a frame of each, polling makes a payload of many.
pub trait Sink {
    /// A text packet, given in parts that belong together.
    fn text(&mut self, parts: &[&[u8]]);

    /// A binary packet.
    fn binary(&mut self, data: &Bytes);
}

/// Formats a decimal number without an allocation.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, start };
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_as_the_formatter_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
