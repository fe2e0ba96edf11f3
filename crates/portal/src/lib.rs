//! The pages for people beside the sessions.
