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

/// The order in which requests take keys: each once, and then at random. Taken in turn, an even number of keys would look
/// sticky to a balancer that merely alternates between two nodes.
pub(crate) struct KeyOrder {
    keys: usize,
    taken: usize,
    state: u64,
}

impl KeyOrder {
    pub(crate) fn new(keys: usize) -> Self {
        Self { keys, taken: 0, state: 0x9E37_79B9_7F4A_7C15 }
    }

    pub(crate) fn next(&mut self) -> usize {
        if self.taken < self.keys {
            self.taken += 1;
            return self.taken - 1;
        }
        // xorshift64: the same order in every run, so that runs compare.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize % self.keys
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

    fn arguments(key_via: KeyVia, keys: usize) -> KeyArguments {
        KeyArguments { keys, key_prefix: "p".into(), key_via, key_name: "ct".into(), allow_moves: false }
    }

    #[test]
    fn a_key_is_carried_where_it_is_asked_for() {
        let carried = |via, path| arguments(via, 3).carry(path, 2);
        assert_eq!(carried(KeyVia::Header, "/x"), ("/x".into(), "ct: p-2\r\n".into()));
        assert_eq!(carried(KeyVia::Cookie, "/x"), ("/x".into(), "cookie: ct=p-2\r\n".into()));
        assert_eq!(carried(KeyVia::Query, "/x"), ("/x?ct=p-2".into(), String::new()));
        assert_eq!(carried(KeyVia::Query, "/x?a=1"), ("/x?a=1&ct=p-2".into(), String::new()));
    }

    #[test]
    fn every_key_is_taken_once_before_any_is_taken_twice() {
        let mut order = KeyOrder::new(50);
        assert!((0..50).all(|key| order.next() == key));
        assert!((0..1000).all(|_| order.next() < 50));
    }

    #[test]
    fn a_balancer_that_alternates_between_two_nodes_does_not_look_sticky() {
        let (mut order, mut report) = (KeyOrder::new(50), Report::default());
        let mut books = arguments(KeyVia::Header, 50).books();
        for request in 0..200 {
            books.answered(order.next(), ["a", "b"][request % 2], &mut report);
        }
        assert!(!report.is_clean());
    }

    #[test]
    fn a_key_that_two_nodes_answer_is_a_fault() {
        let mut report = Report::default();
        let mut books = arguments(KeyVia::Header, 3).books();
        for (key, node) in [(0, "a"), (1, "b"), (0, "a"), (2, "")] {
            books.answered(key, node, &mut report);
        }
        assert!(report.is_clean());
        books.answered(1, "a", &mut report);
        books.close(&mut report);
        assert_eq!((report.faults["misrouted"], report.nodes["a"]), (1, 2));
    }
}
