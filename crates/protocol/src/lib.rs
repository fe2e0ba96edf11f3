//! The Open Collaboration Protocol: its messages, tokens and JSON bodies.
