//! The JSON arguments of an event, read without building them: only the event's name and the place of its attachment
//! matter, and a stranger's megabyte of JSON shall not become many megabytes of tree.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::close::Fault;

/// The one event there is.
const EVENT_NAME: &str = "message";

/// What an event's arguments say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The number of the attachment that is the first argument of a `message`. `None` for any other event.
    pub(crate) message_attachment: Option<u64>,
}

/// Reads the JSON array of an event: its name, and where its binary argument is.
pub(crate) fn parse(json: &str) -> Result<Arguments, Fault> {
    serde_json::from_str(json).map_err(|_| Fault::Json)
}

/// Checks that the JSON of an acknowledgement is an array.
pub(crate) fn parse_array(json: &str) -> Result<(), Fault> {
    serde_json::from_str::<Vec<IgnoredAny>>(json).map(drop).map_err(|_| Fault::Json)
}

/// The head of the packet that announces a `message` with one attachment, as every client writes it.
pub(crate) const MESSAGE_ARGUMENTS: &[u8] = br#"["message",{"_placeholder":true,"num":0}]"#;

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ArgumentsVisitor)
    }
}

struct ArgumentsVisitor;

impl<'de> Visitor<'de> for ArgumentsVisitor {
    type Value = Arguments;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array that starts with an event's name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut arguments: A) -> Result<Arguments, A::Error> {
        let name = arguments.next_element::<Argument>()?;
        let first = arguments.next_element::<Argument>()?;
        while arguments.next_element::<IgnoredAny>()?.is_some() {}
        let message_attachment = match (name, first) {
            (Some(Argument::EventName), Some(Argument::Placeholder(number))) => Some(number),
            (Some(Argument::EventName | Argument::Text | Argument::Number), _) => None,
            _ => return Err(serde::de::Error::custom("an event has a name")),
        };
        Ok(Arguments { message_attachment })
    }
}

/// One argument, as far as it matters.
enum Argument {
    EventName,
    Text,
    Number,
    Placeholder(u64),
    Other,
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgumentVisitor)
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Argument, E> {
        Ok(if text == EVENT_NAME { Argument::EventName } else { Argument::Text })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Argument, E> {
        Ok(Argument::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Argument, E> {
        Ok(Argument::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Argument, E> {
        Ok(Argument::Number)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Argument, E> {
        Ok(Argument::Other)
    }

    fn visit_unit<E>(self) -> Result<Argument, E> {
        Ok(Argument::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Argument, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Argument::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Argument, A::Error> {
        let mut is_placeholder = false;
        let mut number = None;
        while let Some(name) = members.next_key::<Member>()? {
            match name {
                Member::Placeholder => is_placeholder = members.next_value::<Scalar>()?.is_true,
                Member::Number => number = members.next_value::<Scalar>()?.number,
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(match number {
            Some(number) if is_placeholder => Argument::Placeholder(number),
            _ => Argument::Other,
        })
    }
}

/// The members of a placeholder.
#[derive(Deserialize)]
enum Member {
    #[serde(rename = "_placeholder")]
    Placeholder,
    #[serde(rename = "num")]
    Number,
    #[serde(other)]
    Other,
}

/// The value of a placeholder's member. Anything may stand there; only `true` and whole numbers mean something.
#[derive(Default)]
struct Scalar {
    is_true: bool,
    number: Option<u64>,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, is_true: bool) -> Result<Scalar, E> {
        Ok(Scalar { is_true, number: None })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar { is_true: false, number: Some(number) })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Scalar, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<Option<u64>, Fault>) {
        assert_eq!(parse(json).map(|arguments| arguments.message_attachment), expected, "{json}");
    }

    #[test]
    fn the_attachment_of_a_message_is_found() {
        check(std::str::from_utf8(MESSAGE_ARGUMENTS).unwrap(), Ok(Some(0)));
        check(r#"[ "message", { "num" : 1, "_placeholder" : true, "more": [{}] }, "offset", 7 ]"#, Ok(Some(1)));
    }

    #[test]
    fn other_events_have_no_message() {
        check(r#"["hello",{"_placeholder":true,"num":0}]"#, Ok(None));
        check(r#"[7,{"_placeholder":true,"num":0}]"#, Ok(None));
        check(r#"["message"]"#, Ok(None));
        check(r#"["message","text"]"#, Ok(None));
        check(r#"["message",{"_placeholder":false,"num":0}]"#, Ok(None));
        check(r#"["message",{"_placeholder":true,"num":-1}]"#, Ok(None));
        check(r#"["message",{"_placeholder":{},"num":[1]}]"#, Ok(None));
        check(r#"["message",[{"_placeholder":true,"num":0}]]"#, Ok(None));
        check(r#"["message",null]"#, Ok(None));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        check("", Err(Fault::Json));
        check("{}", Err(Fault::Json));
        check("[]", Err(Fault::Json));
        check("[true]", Err(Fault::Json));
        check(r#"["message""#, Err(Fault::Json));
        check(r#"["message"]x"#, Err(Fault::Json));
    }
}
