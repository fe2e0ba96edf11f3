//! What an operator has to do something about, and what that is.

use ctedge_wire::health::StoreState;

use super::state::{Node, NodeState, Problem, Seats, Severity, State};

/// An event loop this late is felt by those who type, in milliseconds.
const LAG_MS_MAX: f64 = 100.0;

/// The worst first.
pub(super) fn problems(state: &State) -> Vec<Problem> {
    let mut problems = Vec::new();
    // One of which nothing is known may take them.
    if !state.nodes.iter().any(|node| matches!(node.state, NodeState::Ready | NodeState::Unknown)) {
        problems.push(problem(
            Severity::Critical,
            "No node takes new sessions.",
            "Start one with `ctedge start NODE`, or let a suspended one go on with `ctedge resume NODE`.",
        ));
    }
    problems.extend(state.store_failure.as_deref().map(|failure| of_reading(&state.node, failure)));
    problems.extend(state.nodes.iter().flat_map(of_node));
    problems.extend(of_license(state));
    problems.extend(state.seats.and_then(of_seats));
    problems.extend(of_versions(state));
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn problem(severity: Severity, what: impl Into<String>, advice: impl Into<String>) -> Problem {
    Problem { severity, node: None, what: what.into(), advice: advice.into() }
}

fn of_node(node: &Node) -> Vec<Problem> {
    let id = &node.id;
    let mut problems = vec![match node.state {
        NodeState::Ready | NodeState::Draining | NodeState::Unknown => None,
        NodeState::Suspended => Some(problem(
            Severity::Note,
            format!("{id} is suspended: it takes no new sessions."),
            format!("When you are done, `ctedge resume {id}`."),
        )),
        // The settings do not ask for it.
        NodeState::Down if !node.listed => None,
        NodeState::Down if node.stopped => Some(problem(
            Severity::Note,
            format!("{id} was stopped."),
            format!("To have it back, `ctedge start {id}`."),
        )),
        NodeState::Down => Some(problem(
            Severity::Warning,
            format!("{id} does not run; others serve its sessions."),
            format!("`ctedge list` names its log, which tells why; `ctedge start {id}` starts it again."),
        )),
    }];
    if let Some(report) = node.alive() {
        problems.push(of_store(id, report.store));
        problems.push((report.lag_ms > LAG_MS_MAX).then(|| {
            problem(
                Severity::Warning,
                format!("{id} is late by {:.0} ms: its machine has too much to do.", report.lag_ms),
                "Add a node on another machine; sessions move to it by themselves when this one is drained.",
            )
        }));
    }
    let named = |problem| Problem { node: Some(id.clone()), ..problem };
    problems.into_iter().flatten().map(named).collect()
}

/// What this page lacks itself.
fn of_reading(node: &str, failure: &str) -> Problem {
    problem(
        Severity::Warning,
        format!("{}: all that is shown here is of {node} alone.", sentence(failure).trim_end_matches('.')),
        "Look at the database and at the network to it, `ctedge doctor` asks it from this machine; meanwhile \
         `ctedge status` shows all nodes without it.",
    )
}

fn of_store(id: &str, store: StoreState) -> Option<Problem> {
    match store {
        StoreState::Ok | StoreState::None => None,
        StoreState::Slow => Some(problem(
            Severity::Warning,
            format!("The store answers {id} late: logins and new sessions wait for it."),
            "Look at the load of the database and at the network to it.",
        )),
        StoreState::Unreachable => Some(problem(
            Severity::Critical,
            format!("{id} cannot reach the store: it serves the sessions that it has and takes no new ones."),
            "Bring the database back, or check store.url; `ctedge doctor` asks it from this machine.",
        )),
        StoreState::Full => Some(problem(
            Severity::Critical,
            format!("The store takes no more writes from {id}: new sessions are refused."),
            "Free space on the store's disk.",
        )),
    }
}

fn of_license(state: &State) -> Option<Problem> {
    let license = state.license.as_ref()?;
    let severity = match license.verdict.as_str() {
        _ if !license.allows_sessions => Severity::Critical,
        "evaluation" => Severity::Note,
        _ if license.ends_soon => Severity::Warning,
        _ => return None,
    };
    Some(problem(severity, sentence(&license.message), "`ctedge license show` tells what is read, and from where."))
}

/// What a log says in half a sentence.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn of_seats(seats: Seats) -> Option<Problem> {
    let Seats { licensed, taken, .. } = seats;
    let (severity, what) = match taken {
        taken if taken >= licensed => {
            (Severity::Critical, format!("All {licensed} licensed seats are taken: nobody else can join."))
        }
        // Nine of ten.
        taken if taken * 10 >= licensed * 9 => {
            (Severity::Warning, format!("{taken} of {licensed} licensed seats are taken."))
        }
        _ => return None,
    };
    Some(problem(severity, what, "A license for more connections is read without a restart."))
}

fn of_versions(state: &State) -> Vec<Problem> {
    let mut running: Vec<_> =
        state.nodes.iter().filter_map(Node::alive).map(|report| report.version.as_str()).collect();
    running.sort_unstable();
    running.dedup();
    let mut problems = Vec::new();
    if running.len() > 1 {
        problems.push(problem(
            Severity::Note,
            format!("Nodes run different versions: {}.", running.join(", ")),
            "That is well during an upgrade; `ctedge restart` brings all to the installed one.",
        ));
    }
    if let Some(why) = state.versions.as_ref().and_then(|versions| versions.problem.as_ref()) {
        problems.push(problem(
            Severity::Note,
            format!("The published versions are not known: {why}."),
            "Check portal.registry and portal.repository with `ctedge versions`.",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::state::Versions;
    use super::*;
    use ctedge_wire::HealthReport;
    use ctedge_wire::health::LicenseReport;

    fn node(id: &str, state: NodeState) -> Node {
        let report = HealthReport { node: id.into(), version: "1.0.0".into(), ..HealthReport::default() };
        Node { id: id.into(), state, listed: true, report: Some(report), ..Node::default() }
    }

    /// Two nodes that are well, and what `change` does to all.
    fn state(change: impl FnOnce(&mut State)) -> State {
        let nodes = ["node-1", "node-2"].map(|id| node(id, NodeState::Ready)).to_vec();
        let mut state = State { nodes, ..State::default() };
        change(&mut state);
        state
    }

    fn report(state: &mut State) -> &mut HealthReport {
        state.nodes[1].report.as_mut().unwrap()
    }

    fn license(verdict: &str, allows_sessions: bool, ends_soon: bool) -> Option<LicenseReport> {
        let message = format!("the license is {verdict}");
        let verdict = verdict.to_owned();
        Some(LicenseReport {
            verdict,
            message,
            allows_sessions,
            ends_soon,
            days_left: None,
            licensee: None,
            expiration: None,
        })
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut State), expected: &[(Severity, &str)]) {
        let problems = problems(&state(change));
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (severity, words)) in problems.iter().zip(expected) {
            assert_eq!(problem.severity, *severity, "{problem:?}");
            assert!(problem.what.contains(words), "{words:?} is not in {problem:?}");
            assert!(!problem.advice.is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_do() {
        check(|_| {}, &[]);
        check(|state| state.license = license("valid", true, false), &[]);
        check(|state| state.seats = Some(Seats { licensed: 25, taken: 22, held: 25 }), &[]);
        check(|state| state.nodes[1].state = NodeState::Draining, &[]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_one_problem() {
        use Severity::{Critical, Note, Warning};
        check(|state| state.nodes[1].state = NodeState::Suspended, &[(Note, "node-2 is suspended")]);
        check(|state| state.nodes[1].state = NodeState::Down, &[(Warning, "node-2 does not run")]);
        check(
            |state| (state.nodes[1].state, state.nodes[1].stopped) = (NodeState::Down, true),
            &[(Note, "was stopped")],
        );
        check(|state| (state.nodes[1].state, state.nodes[1].listed) = (NodeState::Down, false), &[]);
        check(
            |state| state.store_failure = Some("the store is too slow".into()),
            &[(Warning, "The store is too slow: all")],
        );
        check(|state| state.nodes.iter_mut().for_each(|node| node.state = NodeState::Unknown), &[]);
        check(|state| report(state).store = StoreState::Slow, &[(Warning, "late")]);
        check(|state| report(state).store = StoreState::Unreachable, &[(Critical, "node-2 cannot reach the store")]);
        check(|state| report(state).store = StoreState::Full, &[(Critical, "no more writes from node-2")]);
        check(|state| report(state).lag_ms = 250.0, &[(Warning, "node-2 is late by 250 ms")]);
        check(|state| report(state).version = "1.1.0".into(), &[(Note, "1.0.0, 1.1.0")]);
        check(|state| state.license = license("evaluation", true, false), &[(Note, "The license is evaluation.")]);
        check(|state| state.license = license("valid", true, true), &[(Warning, "valid")]);
        check(|state| state.license = license("expired", false, false), &[(Critical, "expired")]);
        check(|state| state.seats = Some(Seats { licensed: 25, taken: 23, held: 25 }), &[(Warning, "23 of 25")]);
        check(|state| state.seats = Some(Seats { licensed: 25, taken: 25, held: 25 }), &[(Critical, "All 25")]);
        let unknown = Versions { problem: Some("the registry said no".into()), ..Versions::default() };
        check(|state| state.versions = Some(unknown), &[(Note, "the registry said no")]);
    }

    #[test]
    fn the_worst_is_first() {
        check(
            |state| {
                state.nodes[0].state = NodeState::Suspended;
                state.nodes[1].state = NodeState::Down;
            },
            &[
                (Severity::Critical, "No node takes new sessions"),
                (Severity::Warning, "node-2 does not run"),
                (Severity::Note, "node-1 is suspended"),
            ],
        );
    }
}
