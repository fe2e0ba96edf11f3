//! The figures as lines of the StatsD protocol, <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>.
//!
//! Everything is a gauge with the whole value, totals too, so that a lost line costs one point and no count is wrong
//! from then on.

use std::fmt::Write as _;

use crate::figures::Figures;

/// How the lines are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Stands before every name, without the dot between.
    pub prefix: String,
    /// Whether node and IDE are DogStatsD tags and not parts of the name.
    pub tags: bool,
}

impl Naming {
    /// The lines of one node's figures, each without a line break.
    ///
    /// ```text
    /// codetogether.nodes.node-1.active_sessions:3|g
    /// codetogether.nodes.active_sessions:3|g|#node:node-1
    /// ```
    #[must_use]
    pub fn of_node(&self, node: &str, figures: &Figures) -> Vec<String> {
        let node = name_part(node);
        if self.tags {
            self.lines(&format!("{}.nodes", self.prefix), &[format!("node:{node}")], figures)
        } else {
            self.lines(&format!("{}.nodes.{node}", self.prefix), &[], figures)
        }
    }

    /// The lines of what all nodes have together.
    ///
    /// ```text
    /// codetogether.active_sessions:12|g
    /// codetogether.total_downloads.vscode:4|g
    /// ```
    #[must_use]
    pub fn of_all(&self, sum: &Figures) -> Vec<String> {
        self.lines(&self.prefix, &[], sum)
    }

    fn lines(&self, place: &str, tags: &[String], figures: &Figures) -> Vec<String> {
        let mut lines: Vec<String> = [
            ("unique_users_online", figures.users_online.count() as f64),
            ("active_sessions", figures.sessions as f64),
            ("active_session_connections", figures.connections as f64),
            ("average_server_lag_ms", figures.lag_seconds * 1000.0),
        ]
        .iter()
        .map(|(name, value)| gauge(&format!("{place}.{name}"), *value, tags))
        .collect();
        let Some(totals) = &figures.totals else { return lines };
        lines.push(gauge(&format!("{place}.total_sessions_hosted"), totals.sessions_hosted as f64, tags));
        for (ide, count) in &totals.downloads {
            let ide = name_part(ide);
            lines.push(if self.tags {
                let tags: Vec<_> = tags.iter().cloned().chain([format!("ide:{ide}")]).collect();
                gauge(&format!("{place}.total_downloads"), *count as f64, &tags)
            } else {
                gauge(&format!("{place}.total_downloads.{ide}"), *count as f64, tags)
            });
        }
        lines
    }
}

/// A gauge. No value of ours is below zero, which would mean a change and not a value.
fn gauge(name: &str, value: f64, tags: &[String]) -> String {
    // Thousandths are enough for the one value that is no count.
    let mut line = format!("{name}:{}|g", (value * 1000.0).round() / 1000.0);
    if !tags.is_empty() {
        let _ = write!(line, "|#{}", tags.join(","));
    }
    line
}

/// `text` as a part of a name or tag: dots, colons, bars and the like would be read as something else.
fn name_part(text: &str) -> String {
    let keeps = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    text.chars().map(|character| if keeps(character) { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Totals, Users};
    use std::collections::BTreeMap;

    fn figures() -> Figures {
        let mut users_online = Users::default();
        (1..=3).for_each(|hash| users_online.add(hash));
        let downloads = BTreeMap::from([("vscode".to_owned(), 7)]);
        let totals = Some(Totals { sessions_hosted: 90, downloads });
        Figures { users_online, sessions: 2, connections: 5, lag_seconds: 0.001_25, totals, ..Figures::default() }
    }

    #[test]
    fn what_is_not_known_is_not_sent() {
        let naming = Naming { prefix: "codetogether".into(), tags: false };
        let lines = naming.of_all(&Figures { totals: None, ..figures() });
        assert_eq!(lines.len(), 4);
        assert!(!lines.iter().any(|line| line.contains("total_")), "{lines:?}");
    }

    #[test]
    fn the_sum_has_the_plain_names() {
        let naming = Naming { prefix: "codetogether".into(), tags: false };
        assert_eq!(
            naming.of_all(&figures()),
            [
                "codetogether.unique_users_online:3|g",
                "codetogether.active_sessions:2|g",
                "codetogether.active_session_connections:5|g",
                "codetogether.average_server_lag_ms:1.25|g",
                "codetogether.total_sessions_hosted:90|g",
                "codetogether.total_downloads.vscode:7|g",
            ]
        );
    }

    #[test]
    fn no_name_of_a_node_or_an_ide_breaks_a_line() {
        let odd = "a|b,c#d:e\nf@g.h i\u{e9}\0";
        let downloads = BTreeMap::from([(odd.to_owned(), 7)]);
        let figures = Figures { totals: Some(Totals { sessions_hosted: 90, downloads }), ..figures() };
        for tags in [false, true] {
            let naming = Naming { prefix: "edge".into(), tags };
            for line in naming.of_node(odd, &figures).iter().chain(&naming.of_all(&figures)) {
                let (name, rest) = line.split_once(':').unwrap();
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{line:?}");
                let mut parts = rest.split('|');
                assert!(parts.next().unwrap().parse::<f64>().is_ok(), "{line:?}");
                assert_eq!(parts.next(), Some("g"), "{line:?}");
                let written = parts.next().map(|tags| tags.strip_prefix('#').unwrap().split(',').collect::<Vec<_>>());
                let is_plain = |tag: &str| {
                    tag.matches(':').count() == 1 && tag.is_ascii() && !tag.contains(['\n', '\0', ' ', '.'])
                };
                assert!(written.is_none_or(|tags| tags.iter().all(|tag| is_plain(tag))), "{line:?}");
                assert_eq!(parts.next(), None, "{line:?}");
            }
        }
    }

    #[test]
    fn a_node_is_a_part_of_the_name_or_a_tag() {
        let plain = Naming { prefix: "edge".into(), tags: false };
        assert_eq!(plain.of_node("10.0.0.1:80", &figures())[1], "edge.nodes.10_0_0_1_80.active_sessions:2|g");
        let tagged = Naming { prefix: "edge".into(), tags: true };
        let lines = tagged.of_node("node-1", &figures());
        assert_eq!(lines[1], "edge.nodes.active_sessions:2|g|#node:node-1");
        assert_eq!(lines[5], "edge.nodes.total_downloads:7|g|#node:node-1,ide:vscode");
    }
}
