//! The `ctedge` command.

fn main() {}
