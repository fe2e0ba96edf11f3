//! `ctedge reload`: what the supervisor, or a balancer that nobody supervises, read again.

use std::process::ExitCode;

use ctedge_supervisor::Reloaded;
use ctedge_supervisor::control::client;
use serde_json::{Value, json};

use crate::arguments::AdminOptions;
use crate::operator::{self, ask_status, cell, list, succeeded};
use crate::processes::named_by;

/// `ctedge reload`
pub(crate) fn reload(options: &AdminOptions) -> anyhow::Result<ExitCode> {
    let status = ask_status(options)?;
    if status["balancer"]["control_socket"].is_null() {
        return of_balancer(options, BALANCER_ALONE);
    }
    // The balancer of a supervised edge reads what the supervisor has settled: that one has to read first.
    match named_by(&status, options) {
        Ok(data) => of_edge(options, &client::reload(&data)?),
        Err(_) => of_balancer(options, SUPERVISOR_AWAY),
    }
}

const BALANCER_ALONE: &str = "the balancer read its settings again; each node looks at its own file once a second, and its log \
                              says what it took over\n";

const SUPERVISOR_AWAY: &str = "the balancer was told; the supervisor, which reads the operator's file, cannot be reached from here: \
                               it looks at the file once a second, and server.log says what it took over\n";

fn of_edge(options: &AdminOptions, reloaded: &Reloaded) -> anyhow::Result<ExitCode> {
    let is_taken = reloaded.not_taken.is_empty();
    let mut answer = json!(reloaded);
    answer["ok"] = json!(is_taken);
    operator::print(options, &answer, edge_text)?;
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_balancer(options: &AdminOptions, said: &str) -> anyhow::Result<ExitCode> {
    let answer = succeeded(operator::client(options).post("/reload")?)?;
    operator::print(options, &answer, |answer| said.to_owned() + &changes_text(answer))
}

fn edge_text(answer: &Value) -> String {
    let changes = changes_text(answer);
    let nothing = if changes.is_empty() { "; nothing has changed" } else { "" };
    format!("the settings were read again{nothing}\n{changes}")
}

fn changes_text(answer: &Value) -> String {
    let lists = [
        ("nodes_added", "added"),
        ("nodes_removed", "removed"),
        ("in_force", "in force"),
        ("needs_restart", "needs `ctedge restart`, which ends no session"),
        ("needs_start", "needs `ctedge stop` and another start"),
        ("not_taken", "NOT TAKEN OVER"),
    ];
    let mut text = String::new();
    for (field, word) in lists {
        let items: Vec<_> = list(&answer[field]).iter().map(cell).collect();
        if !items.is_empty() {
            text.push_str(&format!("{word}: {}\n", items.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_and_what_is_not_is_told_apart() {
        let reloaded = Reloaded {
            in_force: vec!["portal.clients".into(), "portal.dashboard_password".into()],
            needs_restart: vec!["node.owner".into()],
            needs_start: vec!["store.url".into()],
            not_taken: vec!["balancer: no such certificate".into()],
            ..Reloaded::default()
        };
        let text = edge_text(&json!(reloaded));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "the settings were read again",
                "in force: portal.clients, portal.dashboard_password",
                "needs `ctedge restart`, which ends no session: node.owner",
                "needs `ctedge stop` and another start: store.url",
                "NOT TAKEN OVER: balancer: no such certificate",
            ]
        );
        assert_eq!(edge_text(&json!(Reloaded::default())), "the settings were read again; nothing has changed\n");
    }
}
