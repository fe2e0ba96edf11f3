//! What holds for any bytes that claim to be a session. The fuzz target and the test command call the same function.

use std::time::Instant;

use bytes::Bytes;
use ctedge_protocol::User;
use ctedge_wire::KeyedToken;

use crate::{Session, SessionLimits};

/// More turns than it takes until nothing of a session waits for a time.
const TURNS: usize = 20;

/// A written session is refused, or lives to its end and can be written again at any time.
pub fn estate(bytes: &[u8], start: Instant) {
    let limits = SessionLimits::default();
    let Ok((mut session, luggage)) = Session::from_estate(bytes, limits.clone(), start) else { return };
    assert!(luggage.len() <= bytes.len() && session.outbox_bytes() <= bytes.len());
    let mut now = start;
    for _ in 0..TURNS {
        let _ = (session.peer_count(), session.in_flight_bytes(), session.stored_peers());
        let user: User = serde_json::from_str(r#"{"id":"u","name":"u"}"#).expect("a user");
        let _ = session.request_join(&user, KeyedToken::mint(session.key(), &[1; 32]), now);
        while session.next_action().is_some() {}
        let again = session.export(luggage.clone(), now);
        let (copy, carried) = Session::from_estate(&again, limits.clone(), now).expect("what we write we can read");
        assert_eq!((copy.key(), &carried), (session.key(), &luggage));
        assert_eq!(copy.export(carried, now), again);
        let Some(due) = session.poll_timeout() else { break };
        now = now.max(due);
        session.handle_timeout(now);
    }
    let _ = session.export(Bytes::new(), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;

    #[test]
    fn no_bytes_make_a_session_that_breaks() {
        hostile::check("estate", |bytes| estate(bytes, Instant::now()));
    }
}
