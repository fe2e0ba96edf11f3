//! The logs that operators read: server log and access log.
