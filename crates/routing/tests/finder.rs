//! Which key a request carries, and which cookie its answer sets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctedge_routing::{Finding, KeyFinder, KeyNames, KeySource, RequestView, Standing};
use ctedge_wire::{Key, KeyedToken};
use proptest::prelude::*;

fn names() -> KeyNames {
    let name = || Some("ctstickiness".to_owned());
    KeyNames { header: name(), query: name(), cookie: name(), protocol: true }
}

/// Finds the key of a request that is written as `METHOD path?query`, and a `name: value` line for each header.
fn find_with(names: KeyNames, request: &str) -> Finding {
    let mut lines = request.lines().map(str::trim);
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("METHOD path?query");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |name: &str| headers.iter().find(|(called, _)| *called == name).map(|(_, value)| *value);
    let cookies: Vec<&str> = headers.iter().filter(|(name, _)| *name == "cookie").map(|(_, value)| *value).collect();
    KeyFinder::new(names).find(&RequestView { method, path, query, header: &header, cookies: &cookies })
}

fn find(request: &str) -> Finding {
    find_with(names(), request)
}

/// `expected` is `source key`, or `minted`, followed by ` !n` if n sources were malformed.
fn check(request: &str, expected: &str) {
    assert_eq!(summary(&find(request)), expected, "{request}");
}

fn summary(finding: &Finding) -> String {
    let key = finding.found.as_ref().map_or(String::new(), |found| format!(" {}", found.key));
    let malformed = if finding.malformed > 0 { format!(" !{}", finding.malformed) } else { String::new() };
    format!("{}{key}{malformed}", finding.source().as_str())
}

fn key(text: &str) -> Key {
    Key::parse(text).expect("a sound key")
}

fn token_of(name: &str) -> String {
    KeyedToken::mint(&key(name), &[7; 32]).as_str().to_owned()
}

fn jwt(payload: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

fn room_token(room: &str) -> String {
    jwt(&format!(r#"{{"room":"{room}","roomClock":1,"user":{{"id":"1","name":"Ada"}}}}"#))
}

fn login_token() -> String {
    jwt(r#"{"id":"1","name":"Ada","authProvider":"simple"}"#)
}

#[test]
fn each_source_alone_gives_its_key() {
    let (room, token) = (room_token("k"), token_of("k"));
    check("GET /\nctstickiness: k", "header k");
    check("GET /?a=b&ctstickiness=k&c", "query k");
    check(&format!("GET /socket.io/?EIO=4\nx-oct-jwt: {room}"), "room_token k");
    check(&format!("GET /websocket?x-oct-jwt={room}&x-oct-client=c"), "room_token k");
    check(&format!("GET /\ncookie: oct-jwt={room}"), "room_token k");
    check("POST /api/session/join/k", "join_path k");
    check(&format!("POST /api/session/poll/{token}"), "poll_token k");
    check(&format!("POST /api/login/poll/{token}?useCookie=true"), "poll_token k");
    check(&format!("GET /socket.io/?EIO=4&transport=websocket&sid={token}"), "engine_sid k");
    check(&format!("POST /namespace/socket.io/?sid={token}"), "engine_sid k");
    check("GET /\ncookie: a=b; ctstickiness=k", "cookie k");
    check("GET /", "minted");
}

#[test]
fn the_first_source_in_order_wins() {
    let (room, sid) = (room_token("room"), token_of("sid"));
    let mut request = format!("GET /a/socket.io/?sid={sid}&ctstickiness=query");
    let mut lines =
        vec!["ctstickiness: header".to_owned(), format!("x-oct-jwt: {room}"), "cookie: ctstickiness=cookie".into()];
    let ask = |request: &str, lines: &[String]| format!("{request}\n{}", lines.join("\n"));
    check(&ask(&request, &lines), "header header");
    lines.remove(0);
    check(&ask(&request, &lines), "query query");
    request = request.replace("&ctstickiness=query", "");
    check(&ask(&request, &lines), "room_token room");
    lines.remove(0);
    check(&ask(&request, &lines), "engine_sid sid");
    check(&ask("GET /a/socket.io/", &lines), "cookie cookie");
}

#[test]
fn a_token_in_the_header_comes_before_query_and_cookie_and_a_login_token_names_nothing() {
    let (a, b, c, login) = (room_token("a"), room_token("b"), room_token("c"), login_token());
    check(&format!("GET /?x-oct-jwt={b}\nx-oct-jwt: {a}\ncookie: oct-jwt={c}"), "room_token a");
    check(&format!("GET /?x-oct-jwt={b}\nx-oct-jwt: {login}\ncookie: oct-jwt={c}"), "room_token b");
    check(&format!("GET /\nx-oct-jwt: {login}\ncookie: oct-jwt={c}"), "room_token c");
    check(&format!("POST /api/session/join/k\nx-oct-jwt: {login}"), "join_path k");
}

#[test]
fn a_malformed_source_is_absent_and_counted() {
    check("GET /?ctstickiness=k\nctstickiness: not a key", "query k !1");
    check("GET /?ctstickiness=%zz&ctstickiness=k", "query k !1");
    check("GET /?ctstickiness=\nctstickiness: ü\ncookie: ctstickiness=a/b", "minted !3");
    check("GET /\nx-oct-jwt: nonsense\ncookie: ctstickiness=k", "cookie k !1");
    check(&format!("GET /?ctstickiness={}", "k".repeat(129)), "minted !1");
    check("GET /socket.io/?sid=lv_VI97HAXpY6yYWAAAC\ncookie: ctstickiness=k", "cookie k !1");
    check("POST /api/session/poll/someone-elses", "minted !1");
    check("GET /\ncookie: ctstickiness=a b; ctstickiness=k", "cookie k !1");
}

#[test]
fn what_only_looks_like_a_source_is_none() {
    let token = token_of("k");
    check(&format!("GET /api/meta?sid={token}"), "minted");
    check(&format!("GET /socket.ioo/?sid={token}"), "minted");
    check("POST /api/session/join/", "minted");
    check("POST /api/session/join/a/b", "minted");
    check("GET /\ncookie: xctstickiness=k; ctstickinessx=k; ctstickiness", "minted");
}

#[test]
fn escapes_are_read_where_clients_write_them() {
    check("GET /?ct%73tickiness=a%2Db", "query a-b");
    check("POST /api/session/join/a%2Eb/", "join_path a.b");
    check(&format!("GET /x/socket.io/?sid={}", token_of("k").replace('.', "%2e")), "engine_sid k");
    check("GET /?ctstickiness=a+b", "minted !1");
}

#[test]
fn http2_cookies_in_several_headers_are_one() {
    check("GET /\ncookie: a=1\ncookie: ctstickiness=k\ncookie: b=2", "cookie k");
    check("GET /\ncookie: ctstickiness=\"k\"", "cookie k");
}

#[test]
fn creating_a_session_looks_at_header_and_query_only() {
    let room = room_token("old");
    let request = format!("POST /api/session/create\nx-oct-jwt: {room}\ncookie: ctstickiness=old");
    let finding = find(&request);
    assert_eq!((finding.found.as_ref(), finding.wants_fresh, finding.standing()), (None, true, Standing::Fresh));
    assert_eq!(finding.cookie, Some(key("old")));
    assert_eq!(finding.malformed, 0);
    let named = find("POST /api/session/create/?ctstickiness=mine\ncookie: ctstickiness=old");
    assert_eq!(summary(&named), "query mine");
    assert_eq!((named.wants_fresh, named.standing()), (true, Standing::Fresh));
    assert!(!find("GET /api/session/create\nctstickiness: k").wants_fresh);
}

#[test]
fn the_standing_of_a_key_follows_from_who_wrote_it() {
    let standing = |request: &str| find(request).standing();
    assert_eq!(standing("GET /"), Standing::Fresh);
    assert_eq!(standing("GET /\nctstickiness: k"), Standing::Named);
    assert_eq!(standing("GET /\ncookie: ctstickiness=k"), Standing::Named);
    assert_eq!(standing("POST /api/session/join/k"), Standing::Issued);
    assert_eq!(standing(&format!("GET /socket.io/?sid={}", token_of("k"))), Standing::Issued);
}

#[test]
fn every_source_can_be_switched_off() {
    let all = format!(
        "GET /socket.io/?ctstickiness=query&sid={}\nctstickiness: header\nx-oct-jwt: {}\ncookie: ctstickiness=cookie",
        token_of("sid"),
        room_token("room"),
    );
    let mut names = names();
    let mut expect = |change: &dyn Fn(&mut KeyNames), expected| {
        change(&mut names);
        assert_eq!(summary(&find_with(names.clone(), &all)), expected);
    };
    expect(&|_| {}, "header header");
    expect(&|names| names.header = None, "query query");
    expect(&|names| names.query = Some(String::new()), "room_token room");
    expect(&|names| names.protocol = false, "cookie cookie");
    expect(&|names| names.cookie = None, "minted");
}

#[test]
fn without_the_protocol_its_paths_mean_nothing() {
    let names = KeyNames { protocol: false, ..names() };
    let created = find_with(names.clone(), "POST /api/session/create\ncookie: ctstickiness=k");
    assert_eq!((summary(&created).as_str(), created.wants_fresh), ("cookie k", false));
    assert_eq!(summary(&find_with(names, "POST /api/session/join/k")), "minted");
}

#[test]
fn every_source_can_be_renamed() {
    let name = |name: &str| Some(name.to_owned());
    let names = KeyNames { header: name("X-Room"), query: name("room"), cookie: name("Room"), protocol: false };
    let found = |request| summary(&find_with(names.clone(), request));
    assert_eq!(found("GET /?room=q\nx-room: h"), "header h");
    assert_eq!(found("GET /?room=q&ctstickiness=x\ncookie: Room=c"), "query q");
    assert_eq!(found("GET /\ncookie: room=x; Room=c\nctstickiness: x"), "cookie c");
}

/// Whether an answer to `request` that belongs to `belongs_to` sets the cookie.
fn sets_cookie(request: &str, belongs_to: &str) -> bool {
    let finder = KeyFinder::new(names());
    finder.cookie_to_set(&find(request), &key(belongs_to), false, "").is_some()
}

#[test]
fn the_cookie_is_set_when_the_client_could_not_come_back_without_it() {
    assert!(sets_cookie("GET /", "minted"));
    assert!(sets_cookie("GET /?ctstickiness=k", "k"));
    assert!(sets_cookie("POST /api/session/create", "minted"));
}

#[test]
fn the_cookie_is_set_anew_when_the_answer_belongs_to_another_key() {
    assert!(sets_cookie("POST /api/session/join/b\ncookie: ctstickiness=a", "b"));
    assert!(sets_cookie("GET /\nctstickiness: b\ncookie: ctstickiness=a", "b"));
    assert!(sets_cookie("POST /api/login/simple\ncookie: ctstickiness=a", "b"), "replayed after a redirect");
    assert!(!sets_cookie("POST /api/session/join/a\ncookie: ctstickiness=a", "a"));
    assert!(!sets_cookie("GET /?ctstickiness=a\ncookie: ctstickiness=a", "a"));
}

#[test]
fn a_client_that_carries_the_key_itself_gets_no_cookie() {
    assert!(!sets_cookie("GET /\nctstickiness: k", "k"));
    assert!(!sets_cookie("POST /api/session/join/k", "k"));
    assert!(!sets_cookie(&format!("GET /socket.io/\nx-oct-jwt: {}", room_token("k")), "k"));
}

#[test]
fn the_cookie_is_written_as_browsers_must_keep_it() {
    let finding = find("GET /");
    let set = |names, secure, prefix| KeyFinder::new(names).cookie_to_set(&finding, &key("k"), secure, prefix);
    assert_eq!(set(names(), false, "").unwrap(), "ctstickiness=k; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(set(names(), true, "/ct").unwrap(), "ctstickiness=k; Path=/ct; HttpOnly; SameSite=Lax; Secure");
    assert_eq!(set(KeyNames { cookie: None, ..names() }, true, ""), None);
}

/// Text that is as close to a request as chance gets: pieces that mean something, broken and mixed with anything.
fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "ctstickiness",
        "x-oct-jwt",
        "oct-jwt",
        "sid",
        "=",
        "&",
        ";",
        "; ",
        "%",
        "%2",
        "%2D",
        "%ff",
        "+",
        "\"",
        ".",
        "..",
        "/api/session/join/",
        "/api/session/poll/",
        "/api/login/poll/",
        "/api/session/create",
        "/socket.io/",
        "/",
        "e30",
        "eyJyb29tIjoiayJ9",
        "e30.eyJyb29tIjoiayJ9.c2ln",
        "room",
        "0123456789ABCDEFGHIJKLMN",
        "ü",
        "\u{0}",
        "\u{FFFD}",
    ]);
    let piece = prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[a-zA-Z0-9._~-]{0,140}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_bytes_of_a_stranger_make_the_finder_panic_or_find_what_is_no_key(
        method in prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), hostile_text()],
        path in hostile_text(),
        query in prop::option::of(hostile_text()),
        values in prop::collection::vec(prop::option::of(hostile_text()), 2),
        cookies in prop::collection::vec(hostile_text(), 0..4),
    ) {
        let header = |name: &str| match name {
            "ctstickiness" => values[0].as_deref(),
            "x-oct-jwt" => values[1].as_deref(),
            _ => None,
        };
        let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
        let view = RequestView { method: &method, path: &path, query: query.as_deref(), header: &header, cookies: &cookies };
        let finder = KeyFinder::new(names());
        let finding = finder.find(&view);
        for key in finding.found.iter().map(|found| &found.key).chain(&finding.cookie) {
            prop_assert!(Key::parse(key.as_str()).is_ok());
        }
        prop_assert_eq!(finding.found.is_none(), finding.source() == KeySource::Minted);
        let set = finder.cookie_to_set(&finding, &Key::mint(&[1; 32]), true, "");
        prop_assert_eq!(set.is_some(), finding.cookie_is_due(&Key::mint(&[1; 32])));
    }

    #[test]
    fn a_key_survives_every_carrier(name in "[A-Za-z0-9._~-]{1,100}") {
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(summary(&find(&format!("GET /?ctstickiness={escaped}"))), format!("query {name}"));
        prop_assert_eq!(summary(&find(&format!("POST /api/session/join/{escaped}"))), format!("join_path {name}"));
        let expected = format!("engine_sid {name}");
        prop_assert_eq!(summary(&find(&format!("GET /socket.io/?sid={}", token_of(&name)))), expected);
        let expected = format!("room_token {name}");
        prop_assert_eq!(summary(&find(&format!("GET /\nx-oct-jwt: {}", room_token(&name)))), expected);
    }
}
