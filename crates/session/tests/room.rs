//! Who is in a session: joining, returning, leaving, and the session's end.

mod support;

use support::check;

#[test]
fn a_guest_that_joins_is_told_who_it_is_and_the_others_are_told_of_it() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        b attaches
          a gets broadcast room/joined b
          b gets notification peer/info b
          h gets broadcast room/joined b
          audit: joined: b
        ",
    );
}

#[test]
fn a_guest_cannot_come_before_the_host_nor_ask_to() {
    check(
        "
        a attaches
          refused: the session's host is not there
        b asks to join
          refused: the session's host is not there
        ",
    );
}

#[test]
fn a_session_whose_host_never_comes_ends() {
    check(
        "
        299 s pass
        1 s pass
          ended (host-never-came)
          finished
        h attaches
          refused: the session has ended
        ",
    );
}

#[test]
fn a_peer_that_returns_in_time_gets_what_it_missed_and_nobody_hears_of_it() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        h says broadcast one
        h says notification two to a
        29 s pass
        a attaches
          a is back
          a gets broadcast one from h with the key of a
          a gets notification two from h with the key of a
        h is cut
        a says broadcast three
        29 s pass
        h attaches
          h is back
          h gets broadcast three from a with the key of h
        60 s pass
        ",
    );
}

#[test]
fn a_guest_that_stays_away_has_left_and_may_join_anew() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        29 s pass
        1 s pass
          h gets broadcast room/left a
          audit: left: a
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        ",
    );
}

#[test]
fn a_guest_that_leaves_is_closed_and_the_others_are_told() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        b attaches
          a gets broadcast room/joined b
          b gets notification peer/info b
          h gets broadcast room/joined b
          audit: joined: b
        a leaves
          b gets broadcast room/left a
          h gets broadcast room/left a
          audit: left: a
          close a (left)
        ",
    );
}

#[test]
fn a_host_that_leaves_ends_the_session() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        h leaves
          a gets broadcast room/closed
          audit: left: a
          audit: ended (host-left): h
          close h (left)
          close a (session-ended)
          ended (host-left)
          finished
        a attaches
          refused: the session has ended
        b asks to join
          refused: the session has ended
        ",
    );
}

#[test]
fn a_host_that_stays_away_ends_the_session_and_an_absent_guest_still_hears_of_it() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        b attaches
          a gets broadcast room/joined b
          b gets notification peer/info b
          h gets broadcast room/joined b
          audit: joined: b
        h is cut
        20 s pass
        a is cut
        10 s pass
          b gets broadcast room/closed
          audit: left: a
          audit: left: b
          audit: ended (host-lost): h
          close b (session-ended)
          ended (host-lost)
        a attaches
          a is back
          a gets broadcast room/closed
        a is cut
          finished
        ",
    );
}

#[test]
fn an_ended_session_does_not_wait_for_absent_guests_longer_than_their_grace() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        20 s pass
        the node ends the session
          h gets broadcast room/closed
          audit: left: a
          audit: ended (closed): h
          close h (session-ended)
          ended (closed)
        9 s pass
        1 s pass
          finished
        ",
    );
}

#[test]
fn the_grace_of_who_is_away_begins_anew_while_nobody_gets_in() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        29 s pass
        nobody gets in
        29 s pass
        a attaches
          a is back
        nobody gets in
        a is cut
        29 s pass
        nobody gets in
        29 s pass
        1 s pass
          h gets broadcast room/left a
          audit: left: a
        ",
    );
}

#[test]
fn when_all_are_lost_at_once_the_session_ends_without_a_farewell_for_each() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        h is cut
        30 s pass
          audit: left: a
          audit: ended (host-lost): h
          ended (host-lost)
          finished
        ",
    );
}

#[test]
fn a_newer_transport_of_the_same_peer_displaces_the_older() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        h attaches
          h is back
          close an older transport
        60 s pass
        ",
    );
}

#[test]
fn a_guest_whose_client_was_started_anew_leaves_and_joins() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        a is cut
        a attaches anew
          a gets notification peer/info a
          h gets broadcast room/left a
          h gets broadcast room/joined a
          audit: left: a
          audit: joined: a
        ",
    );
}

#[test]
fn a_host_whose_client_was_started_anew_ends_the_session() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        h is cut
        h attaches anew
          refused: the session has ended
          a gets broadcast room/closed
          audit: left: a
          audit: ended (host-replaced): h
          close a (session-ended)
          ended (host-replaced)
          finished
        ",
    );
}

#[test]
fn the_host_lets_a_guest_in_or_not() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        x asks to join
          h gets request #1 peer/join x
        y asks to join
          h gets request #2 peer/join y
        z asks to join
          h gets request #3 peer/join z
        h says refuse #2
          join 2 rejected
        h says agree #1
          join 1 accepted: x with clock +1 to demo [\"src\"] of h
        h says agree #1
        h says plain error #3
          join 3 rejected
        v asks to join
          h gets request #4 peer/join v
        h says agree #4
          join 4 accepted: v with clock +2 to demo [\"src\"] of h
        ",
    );
}

#[test]
fn only_the_host_lets_guests_in() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        a attaches
          a gets notification peer/info a
          h gets broadcast room/joined a
          audit: joined: a
        x asks to join
          h gets request #1 peer/join x
        a says agree #1
        h says agree #1
          join 1 accepted: x with clock +2 to demo [\"src\"] of h
        ",
    );
}

#[test]
fn a_join_request_waits_for_an_absent_host_and_then_for_its_answer() {
    check(
        "
        h attaches
          h gets notification peer/info h
          audit: created by h
        h is cut
        x asks to join
        10 s pass
        h attaches
          h is back
          h gets request #1 peer/join x
        289 s pass
        1 s pass
          join 1 timed out
        h says agree #1
        y asks to join
          h gets request #2 peer/join y
        h leaves
          join 2 failed: the session has ended
          audit: ended (host-left): h
          close h (left)
          ended (host-left)
          finished
        ",
    );
}
