//! The keys that requests carry, and the check that one key is always answered by one node.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use crate::report::Report;

/// How a request carries its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyVia {
    Header,
    Cookie,
    Query,
    /// Requests carry none.
    None,
}

/// Which keys, and how they are carried.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArguments {
    /// How many different keys the requests carry
    #[arg(long, default_value_t = 1000)]
    pub(crate) keys: usize,
    /// What the keys begin with; two runs with different ones share no key
    #[arg(long, value_name = "TEXT", default_value = "load")]
    key_prefix: String,
    /// How a request carries its key
    #[arg(long, value_enum, default_value_t = KeyVia::Header)]
    key_via: KeyVia,
    /// The name of the header, cookie or query parameter
    #[arg(long, value_name = "NAME", default_value = "ctstickiness")]
    key_name: String,
    /// Keys may change their node, as they must when a node dies: it is counted, not a fault
    #[arg(long)]
    allow_moves: bool,
}

impl KeyArguments {
    /// The path and the lines of the head that carry key number `index`.
    pub(crate) fn carry(&self, path: &str, index: usize) -> (String, String) {
        let (name, value) = (&self.key_name, format!("{}-{index}", self.key_prefix));
        match self.key_via {
            KeyVia::Header => (path.into(), format!("{name}: {value}\r\n")),
            KeyVia::Cookie => (path.into(), format!("cookie: {name}={value}\r\n")),
            KeyVia::Query => {
                let separator = if path.contains('?') { '&' } else { '?' };
                (format!("{path}{separator}{name}={value}"), String::new())
            }
            KeyVia::None => (path.into(), String::new()),
        }
    }

    /// Books for these keys. Requests without a key have no node to stay on.
    pub(crate) fn books(&self) -> Stickiness {
        let is_checked = self.key_via != KeyVia::None;
        Stickiness {
            node_of: vec![None; self.keys.max(1)],
            names: Vec::new(),
            moves: 0,
            allow_moves: self.allow_moves,
            is_checked,
        }
    }
}

/// Which node answered each key.
pub(crate) struct Stickiness {
    node_of: Vec<Option<usize>>,
    names: Vec<String>,
    moves: u64,
    allow_moves: bool,
    is_checked: bool,
}

impl Stickiness {
    /// Key number `key` was answered by `node`; a server that does not say is believed.
    pub(crate) fn answered(&mut self, key: usize, node: &str, report: &mut Report) {
        if node.is_empty() || !self.is_checked {
            return;
        }
        let index = match self.names.iter().position(|name| name == node) {
            Some(index) => index,
            None => {
                self.names.push(node.to_owned());
                self.names.len() - 1
            }
        };
        let earlier = self.node_of[key].replace(index);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != index) {
            self.moves += 1;
            if !self.allow_moves {
                report.fault("misrouted", || {
                    format!("key {key} was answered by {} and then by {node}", self.names[earlier])
                });
            }
        }
    }

    /// Writes the sums into the report.
    pub(crate) fn close(&self, report: &mut Report) {
        report.faults.entry("misrouted").or_default();
        report.counts.insert("moves", self.moves);
        let mut nodes = BTreeMap::new();
        for node in self.node_of.iter().flatten() {
            *nodes.entry(self.names[*node].clone()).or_default() += 1;
        }
        report.nodes = nodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(key_via: KeyVia) -> KeyArguments {
        KeyArguments { keys: 3, key_prefix: "p".into(), key_via, key_name: "ct".into(), allow_moves: false }
    }

    #[test]
    fn a_key_is_carried_where_it_is_asked_for() {
        let carried = |via, path| arguments(via).carry(path, 2);
        assert_eq!(carried(KeyVia::Header, "/x"), ("/x".into(), "ct: p-2\r\n".into()));
        assert_eq!(carried(KeyVia::Cookie, "/x"), ("/x".into(), "cookie: ct=p-2\r\n".into()));
        assert_eq!(carried(KeyVia::Query, "/x"), ("/x?ct=p-2".into(), String::new()));
        assert_eq!(carried(KeyVia::Query, "/x?a=1"), ("/x?a=1&ct=p-2".into(), String::new()));
    }

    #[test]
    fn a_key_that_two_nodes_answer_is_a_fault() {
        let mut report = Report::default();
        let mut books = arguments(KeyVia::Header).books();
        for (key, node) in [(0, "a"), (1, "b"), (0, "a"), (2, "")] {
            books.answered(key, node, &mut report);
        }
        assert!(report.is_clean());
        books.answered(1, "a", &mut report);
        books.close(&mut report);
        assert_eq!((report.faults["misrouted"], report.nodes["a"]), (1, 2));
    }
}
