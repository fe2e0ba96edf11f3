//! The pure function from a key and the nodes to ranked nodes.
