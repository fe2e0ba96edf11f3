//! One edge node: it relays the sessions it owns.
