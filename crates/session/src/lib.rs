//! One collaboration room: its host, its guests, and what is undelivered between them.
