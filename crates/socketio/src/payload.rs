//! The body of a polling request or answer: packets separated by `0x1e`, binary ones as `b` and Base64.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use bytes::Bytes;

use crate::close::Fault;
use crate::sink::Sink;

/// Separates the packets of a payload.
const SEPARATOR: u8 = 0x1e;

/// Clients write padding; one that does not is understood as well.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One packet of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadPacket<'a> {
    /// A text packet.
    Text(&'a [u8]),
    /// A binary packet, decoded.
    Binary(Bytes),
}

/// Splits the body of a POST into its packets.
pub fn packets(body: &[u8]) -> impl Iterator<Item = Result<PayloadPacket<'_>, Fault>> {
    body.split(|byte| *byte == SEPARATOR).map(|packet| match packet.strip_prefix(b"b") {
        Some(encoded) => match LENIENT.decode(encoded) {
            Ok(data) => Ok(PayloadPacket::Binary(data.into())),
            Err(_) => Err(Fault::Base64),
        },
        None => Ok(PayloadPacket::Text(packet)),
    })
}

/// Builds the body of the answer to a GET.
#[derive(Debug, Default)]
pub struct PayloadSink {
    body: Vec<u8>,
}

impl PayloadSink {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The length so far in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether no packet went in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The finished body.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    fn separate(&mut self) {
        if !self.body.is_empty() {
            self.body.push(SEPARATOR);
        }
    }
}

impl Sink for PayloadSink {
    fn text(&mut self, parts: &[&[u8]]) {
        self.separate();
        for part in parts {
            self.body.extend_from_slice(part);
        }
    }

    fn binary(&mut self, data: &Bytes) {
        self.separate();
        self.body.push(b'b');
        let start = self.body.len();
        let encoded_length = data.len().div_ceil(3) * 4;
        self.body.resize(start + encoded_length, 0);
        let written = STANDARD.encode_slice(data, &mut self.body[start..]);
        debug_assert_eq!(written, Ok(encoded_length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[Result<PayloadPacket<'_>, Fault>]) {
        assert_eq!(packets(body.as_bytes()).collect::<Vec<_>>(), expected, "{body:?}");
    }

    fn text(packet: &str) -> Result<PayloadPacket<'_>, Fault> {
        Ok(PayloadPacket::Text(packet.as_bytes()))
    }

    fn binary(data: &'static [u8]) -> Result<PayloadPacket<'static>, Fault> {
        Ok(PayloadPacket::Binary(Bytes::from_static(data)))
    }

    #[test]
    fn a_payload_is_split_at_its_separators() {
        check("3", &[text("3")]);
        check("42[\"a\"]\u{1e}3", &[text("42[\"a\"]"), text("3")]);
        check("", &[text("")]);
        check("3\u{1e}", &[text("3"), text("")]);
    }

    #[test]
    fn binary_packets_are_base64_with_or_without_padding() {
        check("bAQIDBA==", &[binary(&[1, 2, 3, 4])]);
        check("bAQIDBA", &[binary(&[1, 2, 3, 4])]);
        check("b", &[binary(&[])]);
        check("bAQ!DBA==\u{1e}3", &[Err(Fault::Base64), text("3")]);
    }

    #[test]
    fn what_the_sink_writes_is_read_back() {
        let mut sink = PayloadSink::new();
        sink.text(&[b"451-", b"[]"]);
        sink.binary(&Bytes::from_static(b"\x00\xff\x1e"));
        sink.binary(&Bytes::new());
        sink.text(&[b"2"]);
        let body = sink.into_body();
        let read: Vec<_> = packets(&body).collect();
        assert_eq!(read, [text("451-[]"), binary(b"\x00\xff\x1e"), binary(b""), text("2")]);
    }
}
