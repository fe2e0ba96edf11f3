//! The commands that ask or change a running balancer through its admin API.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ctedge_supervisor::AdminClient;
use ctedge_supervisor::admin::Answer;
use serde_json::Value;

use crate::arguments::AdminOptions;
use crate::drain;
use crate::table::{age, table};

/// A reload may read certificates and resolve names; everything else answers at once.
const ANSWER: Duration = Duration::from_secs(30);

/// `ctedge status`
pub(crate) fn status(options: &AdminOptions) -> anyhow::Result<ExitCode> {
    print(options, &ask_status(options)?, status_text)
}

/// The balancer's status.
pub(crate) fn ask_status(options: &AdminOptions) -> anyhow::Result<Value> {
    succeeded(client(options).get("/status")?)
}

/// `ctedge explain KEY`
pub(crate) fn explain(key: &str, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    // A key has no character that a query would have to escape; anything else is no key, and is not sent.
    ctedge_wire::Key::parse(key).context("this is no key")?;
    print(options, &succeeded(client(options).get(&format!("/explain?key={key}"))?)?, explain_text)
}

/// `ctedge suspend` and `resume`.
pub(crate) fn change(node: &str, what: &str, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    check_node(node)?;
    let answer = succeeded(client(options).post(&format!("/nodes/{node}/{what}"))?)?;
    print(options, &answer, |answer| {
        let mut text = format!("{node} is {}\n", cell(&answer["node"]["state"]));
        if answer["told"] == false {
            text.push_str("It could not be told so itself: only this balancer acts on it.\n");
        }
        text
    })
}

/// Fails for what is no node's id, and could not stand in a path.
pub(crate) fn check_node(node: &str) -> anyhow::Result<()> {
    if node.is_empty() || !node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)) {
        bail!("{node:?} is no node's id; `ctedge status` shows them");
    }
    Ok(())
}

pub(crate) fn client(options: &AdminOptions) -> AdminClient {
    AdminClient::new(options.admin, options.admin_token.clone(), ANSWER)
}

/// The body of a good answer; the reason of any other.
pub(crate) fn succeeded(answer: Answer) -> anyhow::Result<Value> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let reason = body.get("error").and_then(Value::as_str);
    match (answer.status, reason) {
        (200..300, _) if !body.is_null() => Ok(body),
        (401 | 403, _) => bail!("the admin API asks for its token: give --admin-token or set CTEDGE_ADMIN_TOKEN"),
        (_, Some(reason)) => bail!("{reason}"),
        (status, None) => bail!("what listens there is no admin API of a balancer: it answered {status}"),
    }
}

pub(crate) fn print(
    options: &AdminOptions,
    answer: &Value,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let text = if options.json { format!("{answer:#}\n") } else { text(answer) };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// One cell of a table; what is absent is a dash.
pub(crate) fn cell(value: &Value) -> String {
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
    let mut head =
        vec!["NODE", "STATE", "ADDRESS", "PID", "SESSIONS", "PEERS", "CONNECTIONS", "PINS", "TUNNELS", "LAG MS", "UP"];
    let mut names = vec!["address", "pid", "sessions", "peers", "connections", "pins", "tunnels", "lag_ms"];
    let nodes = list(&status["nodes"]);
    if nodes.iter().any(|node| node["region"].is_string()) {
        head.insert(2, "REGION");
        names.insert(0, "region");
    }
    let row = |node: &Value| {
        let state = cell(&node["state"]);
        let state = if node["listed"] == false { format!("{state}, unlisted") } else { state };
        let up = node["uptime_s"].as_u64().map_or("-".to_owned(), age);
        [cell(&node["id"]), state].into_iter().chain(names.iter().map(|name| cell(&node[*name]))).chain([up]).collect()
    };
    let mut text = table(&head, &nodes.iter().map(row).collect::<Vec<_>>());
    for node in nodes {
        if let Some(trouble) = node["trouble"].as_str() {
            text.push_str(&format!("{}: {trouble}\n", cell(&node["id"])));
        }
    }
    for node in nodes {
        // Without a shared store there is none to get along with.
        if let Some(store) = node["store"].as_str().filter(|store| !["ok", "none"].contains(store)) {
            text.push_str(&format!("{}: its store is {store}\n", cell(&node["id"])));
        }
        if let Some(progress) = drain::progress(node) {
            text.push_str(&format!("{}: {progress}\n", cell(&node["id"])));
        }
    }
    let balancer = &status["balancer"];
    if balancer.is_object() {
        let part = |name: &str| cell(&balancer[name]);
        text.push_str(&format!(
            "\nThe balancer is {}, up {}, version {}: {} connections, {} tunnels, {} requests in flight, {} of {} pins.\n",
            part("status"),
            balancer["uptime_s"].as_u64().map_or("-".to_owned(), age),
            part("version"),
            part("connections"),
            part("tunnels"),
            part("requests_in_flight"),
            part("pins"),
            part("pins_max"),
        ));
    }
    text
}

fn explain_text(explanation: &Value) -> String {
    let part = |name: &str| cell(&explanation[name]);
    let mut text = match explanation["node"].as_str() {
        Some(node) => format!("{} goes to {node} ({}, {})\n", part("key"), part("state"), part("reason")),
        None => format!("{} goes nowhere ({})\n", part("key"), part("reason")),
    };
    if let Some(why) = explanation["why"].as_str() {
        text.push_str(&format!("{why}\n"));
    }
    let pin = &explanation["pin"];
    if pin.is_object() {
        let ago = |name: &str| pin[name].as_u64().map_or("-".to_owned(), age);
        text.push_str(&format!(
            "Pinned to {} for {}, last used {} ago, open tunnels: {}\n",
            cell(&pin["node"]),
            ago("age_s"),
            ago("idle_s"),
            cell(&pin["tunnels"])
        ));
    }
    let ranked = list(&explanation["ranked"]);
    if !ranked.is_empty() {
        let names = ["node", "state", "address", "weight", "load"];
        let row = |(rank, node): (usize, &Value)| {
            let bound = if node["within_bound"] == false { "full" } else { "" };
            let cells = names.iter().map(|name| cell(&node[*name]));
            [(rank + 1).to_string()].into_iter().chain(cells).chain([bound.to_owned()]).collect()
        };
        let rows: Vec<Vec<String>> = ranked.iter().enumerate().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["RANK", "NODE", "STATE", "ADDRESS", "WEIGHT", "SESSIONS", "FOR NEW KEYS"], &rows));
    }
    text
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_is_a_table_with_a_row_a_node() {
        let status = json!({
            "balancer": {"version": "0.1.0", "status": "ready", "uptime_s": 4, "connections": 3, "tunnels": 4,
                         "requests_in_flight": 1, "pins": 2, "pins_max": 100},
            "nodes": [
                {"id": "node-1", "state": "ready", "listed": true, "address": "127.0.0.1:3001", "pid": 7, "sessions": 2,
                 "peers": 5, "connections": 4, "pins": 2, "tunnels": 4, "lag_ms": 0.25, "uptime_s": 61, "store": "ok"},
                {"id": "node-2", "state": "down", "listed": false, "address": "127.0.0.1:3002", "pid": null,
                 "trouble": "cannot connect"},
                {"id": "node-3", "state": "draining", "listed": true, "address": "127.0.0.1:3003", "pid": 9, "store": "slow",
                 "drain": {"phase": "handing-off", "deadline_s": 0, "sessions": 3, "peers": 7, "exit": true}}
            ]
        });
        let text = status_text(&status);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("node-1  ready           127.0.0.1:3001"), "{text}");
        assert!(lines[1].ends_with("1m01s"), "{text}");
        assert!(lines[2].starts_with("node-2  down, unlisted  127.0.0.1:3002    -"), "{text}");
        assert_eq!(lines[4], "node-2: cannot connect");
        assert_eq!(lines[5], "node-3: its store is slow");
        assert_eq!(lines[6], "node-3: handing over, 3 sessions and 7 peers left");
        assert!(
            lines[8].starts_with("The balancer is ready, up 4s, version 0.1.0: 3 connections, 4 tunnels"),
            "{text}"
        );
    }

    #[test]
    fn an_explanation_begins_with_the_answer() {
        let explanation = json!({
            "key": "room", "node": "node-2", "state": "ready", "reason": "placed", "why": "Placement ranks it first.",
            "ranked": [{"node": "node-2", "state": "ready", "address": "127.0.0.1:3002", "weight": 100, "load": 7,
                        "within_bound": true}],
            "pin": {"node": "node-2", "age_s": 61, "idle_s": 2, "tunnels": 3}
        });
        let text = explain_text(&explanation);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "room goes to node-2 (ready, placed)");
        assert_eq!(lines[1], "Placement ranks it first.");
        assert_eq!(lines[2], "Pinned to node-2 for 1m01s, last used 2s ago, open tunnels: 3");
        assert!(lines[5].contains("node-2  ready  127.0.0.1:3002"), "{text}");
        let nowhere = json!({"key": "room", "node": null, "reason": "none_up", "why": "No node is up."});
        assert_eq!(explain_text(&nowhere), "room goes nowhere (none_up)\nNo node is up.\n");
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
