//! Reads single values out of queries, cookies, paths and tokens. Everything in here is a stranger's: nothing is
//! trusted, everything is bounded, and what needs no decoding is borrowed.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctedge_wire::key::KEY_BYTES_MAX;
use ctedge_wire::{Key, KeyedToken};
use serde::Deserialize;

/// The longest token whose payload is read. A room claim with names and addresses of usual length stays far below.
const JWT_BYTES_MAX: usize = 8 * 1024;

/// Payloads up to this size are decoded on the stack: those of nearly all tokens.
const PAYLOAD_BYTES_ON_STACK: usize = 1024;

/// The longest escaped form of a value of `bytes`: each byte as `%XX`.
const fn escaped_bytes_max(bytes: usize) -> usize {
    3 * bytes
}

/// What a carrier was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carried {
    /// A key.
    Key(Key),
    /// Nothing that names a key, and nothing wrong with that.
    Nothing,
    /// Something that should have been a key, or carry one, and does not.
    Malformed,
}

impl Carried {
    pub(crate) fn key(text: &str) -> Self {
        Key::parse(text).map_or(Self::Malformed, Self::Key)
    }

    /// A key as it stands in a query or a path. A text too long for any escaped key is not decoded.
    pub(crate) fn escaped_key(text: &str, form: Escapes) -> Self {
        if text.len() > escaped_bytes_max(KEY_BYTES_MAX) { Self::Malformed } else { Self::key(&unescape(text, form)) }
    }

    /// The key part of a poll token or an Engine.IO `sid`.
    pub(crate) fn keyed_token(text: &str, form: Escapes) -> Self {
        // A token has its random part and a dot besides the key; twice the longest key has room for both.
        if text.len() > escaped_bytes_max(2 * KEY_BYTES_MAX) {
            return Self::Malformed;
        }
        KeyedToken::parse(&unescape(text, form)).map_or(Self::Malformed, |token| Self::Key(token.key()))
    }

    /// The `room` claim of a JWT (RFC 7519). The signature is not looked at: routing needs no trust, and the node
    /// verifies. A token without that claim is a login token and names no room.
    pub(crate) fn room_claim(token: &str) -> Self {
        if token.len() > JWT_BYTES_MAX {
            return Self::Malformed;
        }
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Self::Malformed;
        };
        let mut on_stack = [0; PAYLOAD_BYTES_ON_STACK];
        let mut on_heap = Vec::new();
        let buffer = if base64::decoded_len_estimate(payload.len()) <= on_stack.len() {
            &mut on_stack[..]
        } else {
            on_heap.resize(base64::decoded_len_estimate(payload.len()), 0);
            &mut on_heap[..]
        };
        match URL_SAFE_NO_PAD.decode_slice(payload, buffer) {
            Ok(bytes) => Self::room_of_claims(&buffer[..bytes]),
            Err(_) => Self::Malformed,
        }
    }

    fn room_of_claims(json: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Claims<'a> {
            #[serde(borrow, default)]
            room: Option<Cow<'a, str>>,
        }
        // Serde would read a struct from an array as well, but the claims of a token are an object.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Self::Malformed;
        }
        match serde_json::from_slice::<Claims<'_>>(json) {
            Ok(Claims { room: Some(room) }) => Self::key(&room),
            Ok(Claims { room: None }) => Self::Nothing,
            Err(_) => Self::Malformed,
        }
    }
}

/// How a text is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// `%XX` (RFC 3986).
    Path,
    /// `%XX`, and `+` for a space (the form encoding of the URL standard).
    Query,
}

/// Takes the escapes out of a text. An incomplete escape stays as it is, and what is no UTF-8 afterwards is replaced:
/// neither can be part of a key.
pub(crate) fn unescape(text: &str, form: Escapes) -> Cow<'_, str> {
    let is_escape = |byte: &u8| *byte == b'%' || (*byte == b'+' && form == Escapes::Query);
    let Some(first) = text.bytes().position(|byte| is_escape(&byte)) else {
        return Cow::Borrowed(text);
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut bytes = plain.to_vec();
    while let [byte, tail @ ..] = rest {
        let (plain, after) = match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            (b'+', _) if form == Escapes::Query => (b' ', tail),
            _ => (*byte, tail),
        };
        bytes.push(plain);
        rest = after;
    }
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// The values, still escaped, of all parameters called `name` in a query.
pub(crate) fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (called, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_called_so = called == name
            || (called.contains(['%', '+'])
                && called.len() <= escaped_bytes_max(name.len())
                && unescape(called, Escapes::Query) == name);
        is_called_so.then_some(value)
    })
}

/// The values of all cookies called `name` in all `Cookie` headers (RFC 6265, section 5.4; HTTP/2 sends several).
pub(crate) fn cookies<'a>(headers: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.iter().flat_map(|header| header.split(';'));
    pairs.filter_map(move |pair| {
        let (called, value) = pair.split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (called.trim_matches([' ', '\t']) == name).then_some(unquoted.unwrap_or(value))
    })
}

/// The one segment that follows `prefix` in a path. A slash at the end is let pass, as the reference server does.
pub(crate) fn last_segment<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    let segment = rest.strip_suffix('/').unwrap_or(rest);
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_out_and_broken_ones_stay() {
        let cases = [
            ("plain", "plain"),
            ("a%2Db%2d", "a-b-"),
            ("a+b%20c", "a b c"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("%C3%BC", "ü"),
            ("%FF", "\u{FFFD}"),
            ("%25%34%31", "%41"),
        ];
        for (escaped, plain) in cases {
            assert_eq!(unescape(escaped, Escapes::Query), plain, "{escaped}");
        }
        assert_eq!(unescape("a+b", Escapes::Path), "a+b");
    }

    #[test]
    fn a_parameter_is_found_by_its_whole_name_escaped_or_not() {
        let found = |query| parameters(query, "sid").collect::<Vec<_>>();
        assert_eq!(found("EIO=4&transport=polling&sid=x.y"), ["x.y"]);
        assert_eq!(found("s%69d=1&xsid=2&sid2=3&sid&sid=4=5"), ["1", "", "4=5"]);
        assert_eq!(found(""), [""; 0]);
    }

    #[test]
    fn cookies_are_found_in_every_header_and_unquoted() {
        let headers = ["a=1; k=2;k =3", "k=\"4\"", "xk=5; kx=6; k", " k = 7 ; k=\""];
        assert_eq!(cookies(&headers, "k").collect::<Vec<_>>(), ["2", "3", "4", "7", "\""]);
    }

    #[test]
    fn a_path_ends_in_one_segment() {
        let segment = |path| last_segment(path, "/join/");
        assert_eq!(segment("/join/room"), Some("room"));
        assert_eq!(segment("/join/room/"), Some("room"));
        for path in ["/join/", "/join", "/join//", "/join/a/b", "/x/join/a", "/join/a//"] {
            assert_eq!(segment(path), None, "{path}");
        }
    }

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_room_of_a_token_is_read_whatever_else_it_claims() {
        let room = Carried::key("room-1");
        let claims = r#"{"user":{"id":"1","room":"x","list":[1,{}]},"room":"room-1","roomClock":3,"host":true}"#;
        assert_eq!(Carried::room_claim(&jwt(claims)), room);
        assert_eq!(Carried::room_claim(&jwt(r#"{"room":"\u0072oom-1"}"#)), room);
        let long = format!(r#"{{"name":"{}","room":"room-1"}}"#, "n".repeat(4_000));
        assert_eq!(Carried::room_claim(&jwt(&long)), room);
        // What is skipped is skipped without recursion.
        let deep = format!(r#"{{"deep":{}1{},"room":"room-1"}}"#, "[".repeat(2_500), "]".repeat(2_500));
        assert_eq!(Carried::room_claim(&jwt(&deep)), room);
    }

    #[test]
    fn a_login_token_names_no_room_and_is_not_malformed() {
        assert_eq!(Carried::room_claim(&jwt(r#"{"id":"1","name":"Ada"}"#)), Carried::Nothing);
    }

    #[test]
    fn what_is_no_token_or_names_no_sound_room_is_malformed() {
        let long = format!(r#"{{"room":"room-1","name":"{}"}}"#, "n".repeat(JWT_BYTES_MAX));
        let mut tokens =
            vec![String::new(), "a.b".into(), "a.b.c.d".into(), "e30.e30=.c2ln".into(), "e30.ä.c2ln".into()];
        tokens.extend(
            [r#"{"room":7}"#, r#"{"room":""}"#, r#"{"room":"a b"}"#, r#"["room-1"]"#, "7", "{", &long].map(jwt),
        );
        for token in tokens {
            assert_eq!(Carried::room_claim(&token), Carried::Malformed, "{token}");
        }
    }

    #[test]
    fn an_overlong_value_is_malformed_before_it_is_decoded() {
        let long = format!("k{}", "%41".repeat(KEY_BYTES_MAX));
        assert_eq!(Carried::escaped_key(&long, Escapes::Query), Carried::Malformed);
        let longest = "%41".repeat(KEY_BYTES_MAX);
        assert_eq!(Carried::escaped_key(&longest, Escapes::Query), Carried::key(&"A".repeat(KEY_BYTES_MAX)));
        let token = KeyedToken::mint(&Key::parse(&"A".repeat(KEY_BYTES_MAX)).unwrap(), &[7; 32]);
        assert_eq!(Carried::keyed_token(token.as_str(), Escapes::Path), Carried::key(&"A".repeat(KEY_BYTES_MAX)));
    }
}
