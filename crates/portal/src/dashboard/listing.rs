//! The page of the dashboard: one document, top to bottom in the order in which somebody asks at three in the morning.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::state::{DAYS, Node, NodeState, Problem, Severity, State, Versions};
use crate::page::{ago, escape};

/// Most versions that are shown.
const VERSIONS_MAX: usize = 10;

/// Most clients and downloaded versions that are shown.
const ROWS_MAX: usize = 50;

/// The title says at a glance, in a row of tabs, whether there is something to do.
pub(super) fn title(state: &State) -> String {
    let urgent = state.problems.iter().filter(|problem| problem.severity != Severity::Note).count();
    match urgent {
        0 => "CodeTogether edge".to_owned(),
        1 => "1 problem · CodeTogether edge".to_owned(),
        many => format!("{many} problems · CodeTogether edge"),
    }
}

/// The body of the page, which reads itself again every `refresh_seconds`. `offers_clients`: whether there are client
/// downloads to link to.
pub(super) fn body(state: &State, refresh_seconds: u16, offers_clients: bool) -> String {
    let mut html = String::from("<main>\n<h1>CodeTogether edge</h1>\n");
    let _ = writeln!(
        html,
        "<p class=\"quiet\">{at} · told by {node}, version {version} · read again every {refresh_seconds} s</p>",
        at = escape(&state.at),
        node = escape(&state.node),
        version = escape(&state.version),
    );
    let to_clients = if offers_clients { "<a href=\"clients\">Client downloads</a> · " } else { "" };
    let _ = writeln!(
        html,
        "<p><a href=\"logs/\">Logs</a> · {to_clients}<a href=\"dashboard/metrics.tar.gz\">metrics.tar.gz</a> · \
         <a href=\"dashboard/audit.csv\">audit.csv</a> · <a href=\"dashboard/api/state\">JSON</a></p>",
    );
    if !state.of_all_nodes {
        let why = state.store_failure.as_deref().unwrap_or("it shares no store with others");
        let _ = writeln!(html, "<p>These are the figures of {} alone: {}.</p>", escape(&state.node), escape(why));
    }
    html.push_str("</main>\n");
    problems(&mut html, &state.problems);
    figures(&mut html, state);
    nodes(&mut html, state);
    license(&mut html, state);
    days(&mut html, state);
    clients(&mut html, state);
    downloads(&mut html, state);
    if let Some(published) = &state.versions {
        versions(&mut html, published);
    }
    html
}

/// A section with one table. A column whose name begins with `#` holds numbers, one with `=` words that are never broken.
fn table(html: &mut String, title: &str, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>, none: &str) {
    let _ = writeln!(html, "<section>\n<h2>{title}</h2>");
    let class = |column: &str| match column.chars().next() {
        Some('#') => " class=\"number\"",
        Some('=') => " class=\"word\"",
        _ => "",
    };
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        let _ = writeln!(html, "<p class=\"quiet\">{none}</p>\n</section>");
        return;
    }
    html.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for column in columns {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), column.trim_start_matches(['#', '=']));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in columns.iter().zip(row) {
            let _ = write!(html, "<td{}>{cell}</td>", class(column));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n</section>\n");
}

fn problems(html: &mut String, problems: &[Problem]) {
    html.push_str("<section>\n<h2>What to do</h2>\n");
    if problems.is_empty() {
        html.push_str("<p class=\"good\">Nothing. All is well.</p>\n");
    }
    for Problem { severity, what, advice, .. } in problems {
        let (class, word) = match severity {
            Severity::Critical => ("bad", "Critical"),
            Severity::Warning => ("bad", "Warning"),
            Severity::Note => ("quiet", "Note"),
        };
        let (what, advice) = (with_code(what), with_code(advice));
        let _ = writeln!(html, "<p><strong class=\"{class}\">{word}</strong> {what}<br>{advice}</p>");
    }
    html.push_str("</section>\n");
}

/// Each figure with its name below it.
fn figures(html: &mut String, state: &State) {
    let (users, sessions) = (&state.users, &state.sessions);
    let mut figures = vec![
        ("users connected", users.online.to_string()),
        ("users in sessions", users.in_sessions.to_string()),
        ("unique users in 30 days", known(users.unique)),
        ("sessions", sessions.open.to_string()),
        ("connections", sessions.connections.to_string()),
        ("sessions ever", known(sessions.total)),
        ("people in a session, on average", known(sessions.average_size.map(|size| format!("{size:.1}")))),
    ];
    if let Some(seats) = state.seats {
        figures.push(("licensed seats taken", format!("{} of {}", seats.taken, seats.licensed)));
    }
    html.push_str("<section>\n<h2>At this moment</h2>\n<dl class=\"figures\">\n");
    for (name, figure) in figures {
        let _ = writeln!(html, "<div><dd>{figure}</dd><dt>{name}</dt></div>");
    }
    html.push_str("</dl>\n</section>\n");
}

fn nodes(html: &mut String, state: &State) {
    let mut columns = vec![
        "=Node",
        "=State",
        "#Sessions",
        "#Users",
        "#In sessions",
        "#Connections",
        "#Lag",
        "#Running for",
        "=Version",
        "=Address",
    ];
    let region = |node: &Node| node.report.as_ref().and_then(|report| report.region.clone());
    let has_regions = state.nodes.iter().any(|node| region(node).is_some());
    if has_regions {
        columns.insert(1, "=Region");
    }
    let rows = state.nodes.iter().map(|node| {
        let (class, word) = match node.state {
            NodeState::Ready => ("good", "ready"),
            NodeState::Draining => ("", "draining"),
            NodeState::Suspended => ("", "suspended"),
            NodeState::Down if node.stopped => ("quiet", "stopped"),
            NodeState::Down => ("bad", "down"),
            NodeState::Unknown => ("quiet", "unknown"),
        };
        let report = node.alive();
        let mut cells = vec![
            escape(&node.id),
            format!("<span class=\"{class}\">{word}</span>"),
            known(report.map(|report| report.sessions)),
            known(report.map(|report| report.users_online)),
            known(report.map(|report| report.users_in_sessions)),
            known(report.map(|report| report.connections)),
            known(report.map(|report| format!("{:.1} ms", report.lag_ms))),
            known(report.map(|report| ago(Duration::from_secs(report.uptime_s)))),
            known(report.map(|report| escape(&report.version))),
            known(node.address.as_deref().map(escape)),
        ];
        if has_regions {
            cells.insert(1, known(region(node).as_deref().map(escape)));
        }
        cells
    });
    table(html, "Nodes", &columns, rows, "There are none.");
}

fn license(html: &mut String, state: &State) {
    html.push_str("<section>\n<h2>License</h2>\n");
    match &state.license {
        None => html.push_str("<p class=\"quiet\">This node has not read its license yet.</p>\n"),
        Some(license) => {
            let class = if license.allows_sessions { "good" } else { "bad" };
            let _ = writeln!(
                html,
                "<p><strong class=\"{class}\">{}</strong> {}</p>",
                escape(&license.verdict),
                escape(&license.message)
            );
            if let Some(licensee) = &license.licensee {
                let until =
                    license.expiration.as_deref().map_or(String::new(), |day| format!(", until {}", escape(day)));
                let _ = writeln!(html, "<p>Given to {}{until}</p>", escape(licensee));
            }
        }
    }
    if let Some(seats) = state.seats {
        let _ = writeln!(
            html,
            "<p>{} of {} seats are taken; nodes hold {} of them for those and the next to come.</p>",
            seats.taken, seats.licensed, seats.held
        );
    }
    html.push_str("</section>\n");
}

fn days(html: &mut String, state: &State) {
    let Some(days) = &state.days else { return };
    let columns =
        ["=Day", "#Sessions", "#Joins", "#Most sessions at once", "#Most users at once", "#Unique users", "#Downloads"];
    // The latest is what somebody looks for.
    let rows = days.iter().rev().map(|day| {
        let figures = [day.sessions, day.joins, day.sessions_most, day.users_online_most, day.users, day.downloads]
            .map(|figure| figure.to_string());
        [vec![escape(&day.day)], figures.to_vec()].concat()
    });
    table(html, &format!("The last {DAYS} days"), &columns, rows, "Nothing has happened yet.");
}

fn clients(html: &mut String, state: &State) {
    let Some(clients) = &state.clients else { return };
    let rows = clients
        .iter()
        .take(ROWS_MAX)
        .map(|client| vec![escape(&client.name), client.hosted.to_string(), client.joined.to_string()]);
    let title = format!("Who hosted and joined in {DAYS} days");
    table(html, &title, &["Client", "#Sessions hosted", "#Sessions joined"], rows, "Nobody yet.");
}

fn downloads(html: &mut String, state: &State) {
    let Some(downloads) = &state.downloads else { return };
    let rows = downloads
        .iter()
        .take(ROWS_MAX)
        .map(|download| vec![escape(&download.ide), escape(&download.version), download.downloads.to_string()]);
    let title = format!("Client downloads in {DAYS} days");
    table(html, &title, &["Editor", "Version", "#Downloads"], rows, "None yet.");
}

fn versions(html: &mut String, versions: &Versions) {
    if let Some(problem) = &versions.problem {
        let _ =
            writeln!(html, "<section>\n<h2>Versions</h2>\n<p>They are not known: {}.</p>\n</section>", escape(problem));
        return;
    }
    let rows = versions.published.iter().take(VERSIONS_MAX).map(|version| {
        let mark = if version.runs { "<strong class=\"good\">runs here</strong>" } else { "" };
        vec![escape(&version.tag), mark.to_owned()]
    });
    table(html, "Versions", &["Published", ""], rows, "None is published.");
    let more = versions.published.len().saturating_sub(VERSIONS_MAX);
    if more > 0 {
        let _ = writeln!(
            html,
            "<p class=\"quiet\">{more} older ones are left out; <code>ctedge versions</code> lists all.</p>"
        );
    }
}

/// Text whose commands stand between backticks.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.map(part).collect()
}

/// A figure that may not be known.
fn known(figure: Option<impl Display>) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| figure.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::state::{Client, Download};
    use super::*;
    use crate::versions::Version;
    use ctedge_wire::HealthReport;

    #[test]
    fn what_others_call_themselves_stays_text() {
        let evil = || "<script>alert(1)</script>".to_owned();
        let state = State {
            node: evil(),
            of_all_nodes: true,
            nodes: vec![Node { id: evil(), address: Some(evil()), ..Node::default() }],
            clients: Some(vec![Client { name: evil(), hosted: 1, joined: 0 }]),
            downloads: Some(vec![Download { ide: evil(), version: evil(), downloads: 1 }]),
            versions: Some(Versions { published: vec![Version { tag: evil(), runs: false }], problem: None }),
            ..State::default()
        };
        let html = body(&state, 30, true);
        assert!(!html.contains("<script") && html.matches("&lt;script&gt;").count() >= 7, "{html}");
    }

    #[test]
    fn regions_are_shown_where_a_node_has_one() {
        let node = |region: Option<&str>| Node {
            report: Some(HealthReport { region: region.map(str::to_owned), ..HealthReport::default() }),
            ..Node::default()
        };
        let page = |nodes: Vec<Node>| body(&State { nodes, ..State::default() }, 30, true);
        let html = page(vec![node(Some("north & east")), node(None)]);
        assert!(html.contains(">Region</th>") && html.contains(">north &amp; east</td>"), "{html}");
        assert!(!page(vec![node(None)]).contains("Region"));
    }

    #[test]
    fn commands_are_set_apart() {
        assert_eq!(with_code("Try `ctedge list` & look."), "Try <code>ctedge list</code> &amp; look.");
    }

    #[test]
    fn the_title_tells_of_problems_but_not_of_notes() {
        let of = |severities: &[Severity]| {
            let problem = |severity: &Severity| Problem {
                severity: *severity,
                node: None,
                what: String::new(),
                advice: String::new(),
            };
            title(&State { problems: severities.iter().map(problem).collect(), ..State::default() })
        };
        assert_eq!(of(&[Severity::Note]), "CodeTogether edge");
        assert_eq!(of(&[Severity::Warning, Severity::Note]), "1 problem · CodeTogether edge");
        assert_eq!(of(&[Severity::Critical, Severity::Warning]), "2 problems · CodeTogether edge");
    }
}
