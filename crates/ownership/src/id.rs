//! Names of nodes, of their leases, and of the epochs of an ownership.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A node's name, the same in all its incarnations. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// One process of a node, from its registration in the store to its end.
///
/// The incarnation is drawn at random for each registration, so that nothing a former process of the node left behind
/// is taken for this one's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId {
    /// The node.
    pub node: NodeId,
    /// Which process of it.
    pub incarnation: u64,
}

/// One period in which one lease owns one key.
///
/// The store issues each number once and in rising order, whatever the key: a key that is created again after its
/// session ended gets a higher epoch than it ever had, so that whoever remembers an older one can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl NodeId {
    /// Takes the name as it is.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LeaseId {
    /// The lease of that process of that node.
    #[must_use]
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self { node, incarnation }
    }
}

impl From<String> for NodeId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<NodeId> for String {
    fn from(node: NodeId) -> Self {
        node.as_str().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeId({})", self.0)
    }
}

/// `node-1#0000000000000007`, for logs.
impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{:016x}", self.node, self.incarnation)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LeaseId({self})")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
