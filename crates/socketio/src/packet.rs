//! The head of a Socket.IO packet: `TYPE [ATTACHMENTS "-"] ["/" NAMESPACE ","] [ID] [JSON]`.

use crate::close::Fault;
use crate::{ATTACHMENTS_MAX, NAMESPACE_BYTES_MAX};

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    BinaryEvent,
    BinaryAck,
}

/// A Socket.IO packet, its JSON unread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: Kind,
    /// How many binary frames follow.
    pub(crate) attachments: u8,
    /// With its leading `/`; the default namespace is `/`.
    pub(crate) namespace: &'a str,
    /// Whatever follows; empty when nothing does.
    pub(crate) json: &'a str,
}

/// Reads a packet as a stranger wrote it. Acknowledgement ids are skipped: nobody here answers them.
pub(crate) fn parse(text: &[u8]) -> Result<Packet<'_>, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Utf8)?;
    let (first, rest) = text.split_at_checked(1).ok_or(Fault::SocketType)?;
    let kind = match first {
        "0" => Kind::Connect,
        "1" => Kind::Disconnect,
        "2" => Kind::Event,
        "3" => Kind::Ack,
        "5" => Kind::BinaryEvent,
        "6" => Kind::BinaryAck,
        _ => return Err(Fault::SocketType),
    };
    let (attachments, rest) = match kind {
        Kind::BinaryEvent | Kind::BinaryAck => parse_attachments(rest)?,
        _ => (0, rest),
    };
    let (namespace, rest) = parse_namespace(rest)?;
    let json = rest.trim_start_matches(|character: char| character.is_ascii_digit());
    Ok(Packet { kind, attachments, namespace, json })
}

fn parse_attachments(text: &str) -> Result<(u8, &str), Fault> {
    let (count, rest) = text.split_once('-').ok_or(Fault::Attachments)?;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Attachments);
    }
    match count.parse::<u8>() {
        Ok(0) => Err(Fault::Attachments),
        Ok(count) if count <= ATTACHMENTS_MAX => Ok((count, rest)),
        _ => Err(Fault::TooManyAttachments),
    }
}

fn parse_namespace(text: &str) -> Result<(&str, &str), Fault> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace.len() > NAMESPACE_BYTES_MAX || namespace.chars().any(char::is_control) {
        return Err(Fault::Namespace);
    }
    Ok((namespace, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(Kind, u8, &str, &str), Fault>) {
        let parsed = parse(text.as_bytes());
        assert_eq!(parsed.map(|p| (p.kind, p.attachments, p.namespace, p.json)), expected, "{text:?}");
    }

    #[test]
    fn packets_of_every_type_are_read() {
        check("0", Ok((Kind::Connect, 0, "/", "")));
        check("0/prefix,{\"pid\":\"a\"}", Ok((Kind::Connect, 0, "/prefix", "{\"pid\":\"a\"}")));
        check("0/prefix", Ok((Kind::Connect, 0, "/prefix", "")));
        check("1/prefix,", Ok((Kind::Disconnect, 0, "/prefix", "")));
        check("2[\"a\"]", Ok((Kind::Event, 0, "/", "[\"a\"]")));
        check("213[\"a\"]", Ok((Kind::Event, 0, "/", "[\"a\"]")));
        check("2/a/b,7[\"a\"]", Ok((Kind::Event, 0, "/a/b", "[\"a\"]")));
        check("37[]", Ok((Kind::Ack, 0, "/", "[]")));
        check("51-[\"a\"]", Ok((Kind::BinaryEvent, 1, "/", "[\"a\"]")));
        check("510-/n,12[\"a\"]", Ok((Kind::BinaryEvent, 10, "/n", "[\"a\"]")));
        check("62-5[]", Ok((Kind::BinaryAck, 2, "/", "[]")));
    }

    #[test]
    fn packets_that_no_client_may_send_are_refused() {
        check("", Err(Fault::SocketType));
        check("4{}", Err(Fault::SocketType));
        check("7", Err(Fault::SocketType));
        check("ü", Err(Fault::SocketType));
        assert_eq!(parse(b"2[\"\xff\"]"), Err(Fault::Utf8));
    }

    #[test]
    fn the_number_of_attachments_is_bounded() {
        check("5", Err(Fault::Attachments));
        check("5[\"a\"]", Err(Fault::Attachments));
        check("5-[]", Err(Fault::Attachments));
        check("50-[]", Err(Fault::Attachments));
        check("5+1-[]", Err(Fault::Attachments));
        check("511-[]", Err(Fault::TooManyAttachments));
        check("599999999999-[]", Err(Fault::TooManyAttachments));
    }

    #[test]
    fn a_namespace_is_bounded_in_length_and_characters() {
        check(&format!("0/{},", "n".repeat(512)), Err(Fault::Namespace));
        check("0/a\u{7}b,", Err(Fault::Namespace));
    }
}
