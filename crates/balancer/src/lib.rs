//! The public endpoint: it pins every session to one node.
