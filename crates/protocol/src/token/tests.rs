use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn tokens(secret: &str) -> Tokens {
    Tokens::new(&ClusterSecret::new(&secret.repeat(32)).unwrap())
}

fn user() -> User {
    User {
        id: "u-1".into(),
        name: "Ada".into(),
        email: Some("ada@example.org".into()),
        auth_provider: "Unverified".into(),
    }
}

fn claim() -> RoomClaim {
    RoomClaim { room: Key::parse("room").unwrap(), room_clock: 3, user: user(), host: false }
}

/// A token with this header and payload, signed with the secret `s`.
fn signed(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
    let mut mac = tokens("s").signing;
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn check_login(token: &str, at: Duration, expected: Result<(), TokenRefusal>) {
    assert_eq!(tokens("s").verify_login(token, at).map(|_| ()), expected, "{token}");
}

#[test]
fn the_example_of_rfc_7515_is_read_as_signed() {
    // RFC 7515, appendix A.1.
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let tokens = Tokens::with_keys(&BASE64.decode(key).unwrap(), b"");
    let before = Duration::from_secs(1_300_819_379);
    assert!(tokens.verify(token, before).is_ok());
    assert_eq!(tokens.verify(token, before + Duration::from_secs(1)).err(), Some(TokenRefusal::Expired));
}

#[test]
fn a_token_gives_back_what_was_signed() {
    let login = tokens("s").sign_login(&user(), NOW);
    assert_eq!(tokens("s").verify_login(login.as_str(), NOW), Ok(user()));
    for host in [true, false] {
        let claim = RoomClaim { host, ..claim() };
        let room = tokens("s").sign_room(&claim, NOW);
        assert_eq!(tokens("s").verify_room(room.as_str(), NOW), Ok(claim));
    }
}

#[test]
fn a_token_of_another_secret_or_changed_in_any_byte_is_forged() {
    let token = tokens("s").sign_login(&user(), NOW).as_str().to_owned();
    assert_eq!(tokens("t").verify_login(&token, NOW), Err(TokenRefusal::Forged));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(tokens("s").verify_login(&changed, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn a_token_without_hs256_is_refused_whatever_its_signature() {
    let payload = r#"{"id":"u","name":"n"}"#;
    check_login(&signed(r#"{"alg":"HS256"}"#, payload), NOW, Ok(()));
    for alg in ["none", "None", "HS384", "RS256", "hs256", ""] {
        check_login(&signed(&format!(r#"{{"alg":"{alg}"}}"#), payload), NOW, Err(TokenRefusal::WrongAlgorithm));
    }
    let unsigned = format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), BASE64.encode(payload));
    check_login(&unsigned, NOW, Err(TokenRefusal::WrongAlgorithm));
}

#[test]
fn a_token_is_good_from_its_issue_to_its_end() {
    let token = tokens("s").sign_login(&user(), NOW).as_str().to_owned();
    let second = Duration::from_secs(1);
    check_login(&token, NOW - CLOCK_LEEWAY, Ok(()));
    check_login(&token, NOW - CLOCK_LEEWAY - second, Err(TokenRefusal::NotYetValid));
    check_login(&token, NOW + LOGIN_LIFETIME - second, Ok(()));
    check_login(&token, NOW + LOGIN_LIFETIME, Err(TokenRefusal::Expired));
    let room = tokens("s").sign_room(&claim(), NOW);
    assert_eq!(tokens("s").verify_room(room.as_str(), NOW + ROOM_LIFETIME), Err(TokenRefusal::Expired));
}

#[test]
fn a_token_of_the_other_kind_is_told_apart() {
    let login = tokens("s").sign_login(&user(), NOW);
    assert_eq!(tokens("s").verify_room(login.as_str(), NOW), Err(TokenRefusal::WrongKind));
    let room = tokens("s").sign_room(&claim(), NOW);
    assert_eq!(tokens("s").verify_login(room.as_str(), NOW), Err(TokenRefusal::WrongKind));
}

#[test]
fn what_is_no_token_is_malformed() {
    for text in ["", ".", "..", "a.b", "a.b.c", "é.é.é", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
        check_login(text, NOW, Err(TokenRefusal::Malformed));
    }
    for payload in
        ["", "[]", "7", "{}", r#"{"id":"u"}"#, r#"{"id":1,"name":"n"}"#, r#"{"id":"u","name":"n","exp":"x"}"#]
    {
        check_login(&signed(HEADER, payload), NOW, Err(TokenRefusal::Malformed));
    }
    let odd_room = signed(HEADER, r#"{"room":"a b","roomClock":1,"user":{"id":"u","name":"n"}}"#);
    assert_eq!(tokens("s").verify_room(&odd_room, NOW), Err(TokenRefusal::Malformed));
}

#[test]
fn every_join_has_a_peer_id_of_its_own_that_all_nodes_agree_on() {
    let id = |secret: &str, room: &str, room_clock| {
        tokens(secret).peer_id(&RoomClaim { room: Key::parse(room).unwrap(), room_clock, ..claim() })
    };
    // Frozen: another derivation would give live peers other ids after an upgrade.
    assert_eq!(id("s", "room", 1).as_str(), "xnPbJYyHggTGDdKan7X55iJp");
    assert_eq!(id("s", "room", 1), id("s", "room", 1));
    assert_ne!(id("s", "room", 1), id("s", "room", 2));
    assert_ne!(id("s", "room", 1), id("s", "moor", 1));
    assert_ne!(id("s", "room", 1), id("t", "room", 1));
}

#[test]
fn debug_output_of_a_token_hides_it() {
    let login = tokens("s").sign_login(&user(), NOW);
    assert_eq!(format!("{login:?}"), "LoginToken(…)");
    assert_eq!(format!("{:?}", tokens("s").sign_room(&claim(), NOW)), "RoomToken(…)");
    assert_eq!(format!("{:?}", tokens("s")), "Tokens(…)");
}
