//! The messages of the scripts, as words.
//!
//! `broadcast TEXT`, `broadcast TEXT for A,B` (keys for these only), `notification TEXT to A`, `request ID to A`,
//! `response ID`, `error ID`, `agree ID`, `refuse ID`; `plain` before one of them leaves its content unencrypted,
//! `version X` before it changes its version.

use rmpv::Value;

fn map(fields: Vec<(&str, Value)>) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

fn keys(names: &[&str]) -> Value {
    let entry = |name: &&str| {
        map(vec![("target", (*name).into()), ("key", format!("key of {name}").into()), ("iv", "iv".into())])
    };
    Value::Array(names.iter().map(entry).collect())
}

fn message(kind: &str, more: Vec<(&str, Value)>, receivers: &[&str]) -> Value {
    let metadata = map(vec![
        ("encryption", map(vec![("keys", keys(receivers))])),
        ("compression", map(vec![("algorithm", "none".into())])),
    ]);
    let mut fields = vec![("version", "0.3.1".into()), ("kind", kind.into()), ("metadata", metadata)];
    fields.extend(more);
    map(fields)
}

fn bytes(text: &str) -> Value {
    Value::Binary(text.as_bytes().to_vec())
}

/// Ids of one digit are numbers, as requesters write them; `#N` is the text `N`, as the server writes them.
fn id(word: &str) -> Value {
    word.strip_prefix('#').map_or_else(|| word.parse::<u64>().unwrap().into(), Value::from)
}

/// `room/leave`.
pub fn leave() -> Vec<u8> {
    let content = map(vec![("method", "room/leave".into()), ("params", Value::Array(Vec::new()))]);
    encode(&message("notification", vec![("origin", "".into()), ("target", "".into()), ("content", content)], &[]))
}

/// A broadcast of `size` bytes for `receivers`.
pub fn broadcast(content: &[u8], receivers: &[&str]) -> Vec<u8> {
    let more = vec![("origin", "forged".into()), ("content", Value::Binary(content.to_vec()))];
    encode(&message("broadcast", more, receivers))
}

/// A message as words say it; `everybody` are the names that a broadcast has keys for unless it names others.
pub fn parse(words: &[&str], everybody: &[String]) -> Vec<u8> {
    encode(&parse_value(words, everybody))
}

fn parse_value(words: &[&str], everybody: &[String]) -> Value {
    let everybody: Vec<&str> = everybody.iter().map(String::as_str).collect();
    let origin = || ("origin", Value::from("forged"));
    match words {
        ["plain", rest @ ..] => {
            with(parse_value(rest, &to_strings(&everybody)), "content", map(vec![("method", "x".into())]))
        }
        ["version", version, rest @ ..] => {
            with(parse_value(rest, &to_strings(&everybody)), "version", (*version).into())
        }
        ["broadcast", text] => message("broadcast", vec![origin(), ("content", bytes(text))], &everybody),
        ["broadcast", text, "for", names] => {
            let names: Vec<&str> = names.split(',').collect();
            message("broadcast", vec![origin(), ("content", bytes(text))], &names)
        }
        ["notification", text, "to", target] => {
            message("notification", vec![origin(), ("target", (*target).into()), ("content", bytes(text))], &[target])
        }
        ["request", number, "to", target] => {
            let more = vec![("id", id(number)), ("target", (*target).into()), ("content", bytes("question"))];
            message("request", more, &[target])
        }
        ["response", number] => message("response", vec![("id", id(number)), ("content", bytes("answer"))], &["?"]),
        ["error", number] => message("response-error", vec![("id", id(number)), ("content", bytes("error"))], &["?"]),
        ["agree", number] => {
            let workspace = map(vec![("name", "demo".into()), ("folders", Value::Array(vec!["src".into()]))]);
            let content = map(vec![("response", map(vec![("workspace", workspace)]))]);
            message("response", vec![("id", id(number)), ("content", content)], &[])
        }
        ["refuse", number] => {
            let content = map(vec![("response", Value::Ext(0, vec![0]))]);
            message("response", vec![("id", id(number)), ("content", content)], &[])
        }
        ["nonsense"] => Value::Array(Vec::new()),
        ["something", "new"] => message("gossip", vec![], &[]),
        _ => panic!("{words:?} is no message"),
    }
}

fn to_strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn with(message: Value, name: &str, value: Value) -> Value {
    let Value::Map(mut fields) = message else { panic!("no map") };
    fields.iter_mut().find(|(found, _)| found.as_str() == Some(name)).unwrap().1 = value;
    Value::Map(fields)
}

/// A message in words: kind or method, `#id`, origin, content, and whose keys it has.
pub fn describe(message: &[u8]) -> String {
    let mut rest = message;
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "bytes follow a message");
    let field = |name: &str| find(&value, name);
    let mut words = vec![field("kind").unwrap().as_str().unwrap().to_owned()];
    match field("id") {
        Some(Value::String(id)) => words.push(format!("#{}", id.as_str().unwrap())),
        Some(number) => words.push(number.to_string()),
        None => {}
    }
    match field("content").unwrap() {
        Value::Binary(content) => words.push(String::from_utf8_lossy(&content).into_owned()),
        plain => words.push(describe_plain(&plain)),
    }
    match field("origin") {
        Some(origin) if origin.as_str() != Some("") => words.push(format!("from {}", origin.as_str().unwrap())),
        _ => {}
    }
    let keys = find(&find(&field("metadata").unwrap(), "encryption").unwrap(), "keys").unwrap();
    let keys: Vec<String> =
        keys.as_array().unwrap().iter().map(|key| find(key, "target").unwrap().as_str().unwrap().to_owned()).collect();
    if !keys.is_empty() {
        words.push(format!("with the key of {}", keys.join(",")));
    }
    words.join(" ")
}

fn describe_plain(content: &Value) -> String {
    if let Some(error) = find(content, "message") {
        return format!("{:?}", error.as_str().unwrap().rsplit(": ").next().unwrap());
    }
    let method = find(content, "method").unwrap();
    let about = find(content, "params").unwrap().as_array().unwrap().first().and_then(|peer| find(peer, "name"));
    let about = about.map(|name| format!(" {}", name.as_str().unwrap())).unwrap_or_default();
    format!("{}{about}", method.as_str().unwrap())
}

fn find(map: &Value, name: &str) -> Option<Value> {
    map.as_map()?.iter().find(|(found, _)| found.as_str() == Some(name)).map(|(_, value)| value.clone())
}
