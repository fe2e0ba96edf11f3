//! `ctedge drain` and `ctedge plan drain`.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::arguments::{AdminOptions, Deadline, DrainOptions};
use crate::operator::{ask_status, cell, check_node, client, list, print, succeeded};
use crate::table::age;

/// How often `--wait` looks how far the drain is.
const LOOK: Duration = Duration::from_millis(500);

/// A node that is seen down so often in a row has ended. A single look may meet it between two health checks, and one that died
/// is back sooner.
const DOWN_LOOKS: u32 = 10;

/// The same for one that was just handing its last sessions over.
const DOWN_LOOKS_AT_THE_END: u32 = 2;

/// Why sessions end that would move elsewhere.
const NO_STORE: &str = "nodes share no store (store.url), so that none can move; each comes back with its host";

/// `ctedge drain NODE`
pub(crate) fn drain(node: &str, drain: &DrainOptions, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    check_node(node)?;
    let when = match drain.deadline {
        _ if drain.now => "&now=true".to_owned(),
        Some(Deadline::Seconds(seconds)) => format!("&deadline_s={seconds}"),
        Some(Deadline::None) => "&deadline_s=none".to_owned(),
        None => String::new(),
    };
    let pid = node_of(&ask_status(options)?, node).and_then(|node| node["pid"].as_i64());
    let answer = succeeded(client(options).post(&format!("/nodes/{node}/drain?exit=true{when}"))?)?;
    if !drain.wait {
        return print(options, &answer, |answer| ordered(node, answer));
    }
    wait(node, pid, options)
}

/// What is said at once.
fn ordered(node: &str, answer: &Value) -> String {
    let mut text = format!("{node} is {}\n", cell(&answer["node"]["state"]));
    if answer["told"] == false {
        text.push_str("It could not be told so itself: only this balancer acts on it, and it does not end.\n");
    } else {
        if answer["node"]["store"] == "none" {
            text.push_str(&format!("The sessions that are left at the deadline end: {NO_STORE}\n"));
        }
        text.push_str(&progress(&answer["node"]).map_or_else(String::new, |progress| format!("{progress}\n")));
    }
    text
}

/// How far a drain is: `handing over, 3 sessions and 7 peers left`.
pub(crate) fn progress(node: &Value) -> Option<String> {
    let drain = node.get("drain").filter(|drain| drain.is_object())?;
    let left = format!("{} sessions and {} peers left", cell(&drain["sessions"]), cell(&drain["peers"]));
    Some(match (drain["phase"].as_str(), drain["deadline_s"].as_u64()) {
        (Some("done"), _) => "drained".to_owned(),
        (Some("handing-off"), _) => format!("handing over, {left}"),
        (_, Some(seconds)) => format!("{left}, handing over in {}", age(seconds)),
        (_, None) => format!("{left}, until they end by themselves"),
    })
}

/// Shows how far the drain is until the node's process `pid` has ended.
fn wait(node: &str, pid: Option<i64>, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    let (mut said, mut looks_down, mut at_the_end) = (String::new(), 0, false);
    loop {
        // The balancer itself may be restarted meanwhile.
        if let Ok(status) = ask_status(options) {
            let Some(seen) = node_of(&status, node) else { bail!("{node} is not listed") };
            looks_down = if seen["state"] == "down" { looks_down + 1 } else { 0 };
            if looks_down == 0 && seen["pid"].as_i64().is_some_and(|now| Some(now) != pid) {
                let state = cell(&seen["state"]);
                bail!(
                    "{node} died in its drain, or somebody started it again, and is {state} now. If it is to end, drain it once more; \
                     `ctedge resume {node}` lets it take sessions again"
                );
            }
            if looks_down >= if at_the_end { DOWN_LOOKS_AT_THE_END } else { DOWN_LOOKS } {
                println!("{node} has ended");
                return Ok(ExitCode::SUCCESS);
            }
            if looks_down == 0 && seen["state"] != "draining" {
                bail!("{node} is {}: somebody took the order back", cell(&seen["state"]));
            }
            if looks_down == 0 {
                at_the_end = seen["drain"]["phase"] != "waiting";
            }
            let line = progress(seen).unwrap_or_else(|| format!("{node} is {}", cell(&seen["state"])));
            if line != said {
                eprintln!("{line}");
                said = line;
            }
        }
        sleep(LOOK);
    }
}

fn node_of<'s>(status: &'s Value, node: &str) -> Option<&'s Value> {
    list(&status["nodes"]).iter().find(|shown| shown["id"] == node)
}

/// `ctedge plan drain NODE`
pub(crate) fn plan(node: &str, options: &AdminOptions) -> anyhow::Result<ExitCode> {
    check_node(node)?;
    let answer = client(options).get(&format!("/plan/drain/{node}"));
    let answer = succeeded(answer?).with_context(|| format!("a drain of {node} cannot be foreseen"))?;
    print(options, &answer, |plan| planned(node, plan))
}

fn planned(node: &str, plan: &Value) -> String {
    let count = |name: &str| cell(&plan[name]);
    if plan["ends_sessions"] == true {
        let (sessions, peers) = (count("sessions"), count("peers"));
        return format!("A drain of {node} ends {sessions} sessions with {peers} peers: {NO_STORE}\n");
    }
    let mut text = format!("A drain of {node} moves {} sessions and {} peers\n", count("sessions"), count("peers"));
    for target in list(&plan["targets"]) {
        text.push_str(&format!("  {} get {}\n", cell(&target["node"]), cell(&target["sessions"])));
    }
    let sessions = plan["sessions"].as_u64().unwrap_or_default();
    if sessions > 0 && list(&plan["targets"]).is_empty() {
        text.push_str(&format!(
            "No other node is ready: {sessions} sessions have nowhere to go, and wait in the store for the first node that is\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_says_where_sessions_go_and_when_they_go_nowhere() {
        let target = json!([{"node": "node-2", "sessions": 3, "peers": 7}]);
        let moves = planned("node-1", &json!({"sessions": 3, "peers": 7, "targets": target}));
        assert_eq!(moves, "A drain of node-1 moves 3 sessions and 7 peers\n  node-2 get 3\n");
        let nowhere = planned("node-1", &json!({"sessions": 3, "peers": 7, "targets": []}));
        assert!(nowhere.contains("3 sessions have nowhere to go"), "{nowhere}");
        let ends = planned("node-1", &json!({"sessions": 3, "peers": 7, "targets": [], "ends_sessions": true}));
        assert!(ends.contains("ends 3 sessions with 7 peers") && ends.contains("store.url"), "{ends}");
        let none = planned("node-1", &json!({"sessions": 0, "peers": 0, "targets": []}));
        assert_eq!(none, "A drain of node-1 moves 0 sessions and 0 peers\n");
    }

    #[test]
    fn progress_says_what_is_left_and_until_when() {
        let check = |drain: Value, expected| assert_eq!(progress(&json!({"drain": drain})).as_deref(), expected);
        let waiting = json!({"phase": "waiting", "deadline_s": 600, "sessions": 3, "peers": 7});
        check(waiting, Some("3 sessions and 7 peers left, handing over in 10m00s"));
        let patient = json!({"phase": "waiting", "deadline_s": null, "sessions": 3, "peers": 7});
        check(patient, Some("3 sessions and 7 peers left, until they end by themselves"));
        let moving = json!({"phase": "handing-off", "deadline_s": 0, "sessions": 1, "peers": 2});
        check(moving, Some("handing over, 1 sessions and 2 peers left"));
        check(json!({"phase": "done"}), Some("drained"));
        check(Value::Null, None);
    }
}
