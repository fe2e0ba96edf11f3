//! The commands that ask or change a running balancer through its admin API.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ctedge_supervisor::AdminClient;
use ctedge_supervisor::admin::Answer;
use serde_json::Value;

use crate::arguments::AdminOptions;
use crate::table::{age, table};

/// A reload may read certificates and resolve names; everything else answers at once.
const ANSWER: Duration = Duration::from_secs(30);

/// `ctedge status`
pub(crate) fn status(options: &AdminOptions) -> anyhow::Result<ExitCode> {
    print(options, &succeeded(client(options).get("/status")?)?, status_text)
}

/// `ctedge explain KEY`
pub(crate) fn explain(key: &str, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    // A key has no character that a query would have to escape; anything else is no key, and is not sent.
    ctedge_wire::Key::parse(key).context("this is no key")?;
    print(options, &succeeded(client(options).get(&format!("/explain?key={key}"))?)?, explain_text)
}

/// `ctedge drain`, `suspend` and `resume`.
pub(crate) fn change(node: &str, what: &str, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    if node.is_empty() || !node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)) {
        bail!("{node:?} is no node's id; `ctedge status` shows them");
    }
    let answer = succeeded(client(options).post(&format!("/nodes/{node}/{what}"))?)?;
    print(options, &answer, |answer| {
        let state = answer.get("state").or_else(|| answer.get("status")).and_then(Value::as_str);
        format!("{node} is {}\n", state.unwrap_or("told to"))
    })
}

/// `ctedge reload`
pub(crate) fn reload(options: &AdminOptions) -> anyhow::Result<ExitCode> {
    let answer = succeeded(client(options).post("/reload")?)?;
    print(options, &answer, |answer| {
        let mut text = "the settings were read again\n".to_owned();
        let lists = [("nodes_added", "added"), ("nodes_removed", "removed"), ("needs_restart", "needs a restart")];
        for (field, word) in lists {
            let items: Vec<_> = answer.get(field).and_then(Value::as_array).into_iter().flatten().map(cell).collect();
            if !items.is_empty() {
                writeln!(text, "{word}: {}", items.join(", ")).expect("writing to a String cannot fail");
            }
        }
        text
    })
}

fn client(options: &AdminOptions) -> AdminClient {
    AdminClient::new(options.admin, options.admin_token.clone(), ANSWER)
}

/// The body of a good answer; the reason of any other.
fn succeeded(answer: Answer) -> anyhow::Result<Value> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let reason = body.get("error").and_then(Value::as_str);
    match (answer.status, reason) {
        (200..300, _) if !body.is_null() => Ok(body),
        (401 | 403, _) => bail!("the admin API asks for its token: give --admin-token or set CTEDGE_ADMIN_TOKEN"),
        (_, Some(reason)) => bail!("{reason}"),
        (status, None) => bail!("what listens there is no admin API of a balancer: it answered {status}"),
    }
}

fn print(options: &AdminOptions, answer: &Value, text: impl FnOnce(&Value) -> String) -> anyhow::Result<ExitCode> {
    let text = if options.json { format!("{answer:#}\n") } else { text(answer) };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// One cell of a table; what is absent is a dash.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(fraction) => format!("{fraction:.1}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn status_text(status: &Value) -> String {
    let head =
        ["NODE", "STATE", "ADDRESS", "PID", "SESSIONS", "PEERS", "CONNECTIONS", "PINS", "TUNNELS", "LAG MS", "UP"];
    let names = ["id", "state", "address", "pid", "sessions", "peers", "connections", "pins", "tunnels", "lag_ms"];
    let nodes = status.get("nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            let up = node.get("uptime_s").and_then(Value::as_u64).map_or("-".to_owned(), age);
            names.iter().map(|name| cell(&node[*name])).chain([up]).collect()
        })
        .collect();
    let mut text = table(&head, &rows);
    if let Some(balancer) = status.get("balancer").and_then(Value::as_object) {
        let parts: Vec<_> = balancer
            .iter()
            .filter(|(_, value)| !value.is_object() && !value.is_array())
            .map(|(name, value)| format!("{} {}", name.replace('_', " "), cell(value)))
            .collect();
        writeln!(text, "\nbalancer: {}", parts.join(", ")).expect("writing to a String cannot fail");
    }
    text
}

fn explain_text(explanation: &Value) -> String {
    let part = |name: &str| cell(&explanation[name]);
    let mut text = String::new();
    let sentence = match explanation["node"].as_str() {
        Some(node) => format!("{} goes to {node} ({}): {}", part("key"), part("state"), part("reason")),
        None => format!("{} goes nowhere: {}", part("key"), part("reason")),
    };
    writeln!(text, "{sentence}").expect("writing to a String cannot fail");
    if let Some(pin) = explanation["pin"].as_object() {
        let parts: Vec<_> =
            pin.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), cell(value))).collect();
        writeln!(text, "pin: {}", parts.join(", ")).expect("writing to a String cannot fail");
    }
    let ranked = explanation["ranked"].as_array().map_or(&[][..], Vec::as_slice);
    if !ranked.is_empty() {
        let order: Vec<_> = ranked
            .iter()
            .map(|node| match node.as_object() {
                Some(_) => format!("{} ({})", cell(node.get("id").unwrap_or(&node["node"])), cell(&node["state"])),
                None => cell(node),
            })
            .collect();
        writeln!(text, "placement order: {}", order.join(", ")).expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_is_a_table_with_a_row_a_node() {
        let status = json!({
            "balancer": {"version": "0.1.0", "tunnels": 4},
            "nodes": [
                {"id": "node-1", "state": "ready", "address": "127.0.0.1:3001", "pid": 7, "sessions": 2, "peers": 5,
                 "connections": 4, "pins": 2, "tunnels": 4, "lag_ms": 0.25, "uptime_s": 61},
                {"id": "node-2", "state": "down", "address": "127.0.0.1:3002", "pid": null}
            ]
        });
        let text = status_text(&status);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("node-1  ready  127.0.0.1:3001"), "{text}");
        assert!(lines[1].ends_with("1m01s"), "{text}");
        assert!(lines[2].contains(" - "), "{text}");
        assert_eq!(lines[4], "balancer: tunnels 4, version 0.1.0");
    }

    #[test]
    fn an_explanation_is_a_sentence() {
        let explanation = json!({"key": "room", "node": "node-2", "state": "ready", "reason": "placed", "ranked": ["node-2", "node-1"]});
        assert_eq!(
            explain_text(&explanation),
            "room goes to node-2 (ready): placed\nplacement order: node-2, node-1\n"
        );
        let nowhere = json!({"key": "room", "node": null, "reason": "no node is up"});
        assert_eq!(explain_text(&nowhere), "room goes nowhere: no node is up\n");
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let answer = |status, body: &str| Answer { status, body: body.into() };
        let unknown = succeeded(answer(404, r#"{"error": "no node x; there are node-1, node-2"}"#)).unwrap_err();
        assert_eq!(unknown.to_string(), "no node x; there are node-1, node-2");
        assert!(succeeded(answer(401, "{}")).unwrap_err().to_string().contains("--admin-token"));
        assert!(succeeded(answer(404, "<html>")).unwrap_err().to_string().contains("no admin API"));
        assert!(succeeded(answer(200, "hello")).is_err());
    }
}
