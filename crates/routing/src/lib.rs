//! Decides which node a request goes to: key sources, node states, pins.
