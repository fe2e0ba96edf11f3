//! From a poll token, through the form, to a login token.

use std::time::Duration;

use crate::support::{TestNode, info};
use serde_json::json;

#[tokio::test]
async fn a_login_goes_from_the_poll_token_through_the_form_to_a_login_token() {
    let node = TestNode::start().await;
    let begun = node.post("/api/login/initial").key("some-key").send().await.json();
    let token = begun["pollToken"].as_str().unwrap();
    assert!(token.starts_with("some-key."), "{token}");
    assert_eq!(begun["auth"]["loginPageUrl"], format!("/login.html?token={token}"));
    assert_eq!(begun["auth"]["providers"][0]["endpoint"], "/api/login/simple");

    let path = format!("/api/login/poll/{token}");
    let form = json!({"token": token, "user": "Ada", "email": "ada@example.org"});
    let (polled, posted) = tokio::join!(node.post(&path).send(), node.post("/api/login/simple").json(&form).send());
    assert_eq!((posted.status, &*posted.body), (200, "Ok"));
    assert_eq!(polled.status, 200);
    assert_eq!(polled.header("set-cookie"), None);
    let login = polled.json()["loginToken"].as_str().unwrap().to_owned();
    assert_eq!(node.post("/api/login/validate").token(&login).send().await.json(), json!({"valid": true}));
    assert_eq!(node.post("/api/login/validate").token("x.y.z").send().await.json(), json!({"valid": false}));
    assert_eq!(node.post("/api/login/validate").send().await.json(), json!({"valid": false}));
}

#[tokio::test]
async fn a_login_token_can_be_taken_as_a_cookie_and_the_cookie_cleared() {
    let node = TestNode::start().await;
    let token = node.poll_token().await;
    node.post("/api/login/simple").json(&json!({"token": token, "user": "Ada"})).send().await;
    let polled = node.post(&format!("/api/login/poll/{token}?useCookie=true")).send().await;
    let cookie = polled.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "Secure", "SameSite=None", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(pair, format!("oct-jwt={}", polled.json()["loginToken"].as_str().unwrap()));
    let validated = node.post("/api/login/validate").header("cookie", &format!("a=b; {pair}")).send().await;
    assert_eq!(validated.json(), json!({"valid": true}));
    let cleared = node.get("/api/logout").header("cookie", pair).send().await;
    assert_eq!(cleared.status, 200);
    assert!(
        cleared
            .header("set-cookie")
            .is_some_and(|cookie| cookie.starts_with("oct-jwt=;") && cookie.contains("Max-Age=0"))
    );
}

#[tokio::test]
async fn a_poll_without_a_decision_answers_204() {
    let node = TestNode::start_with(|settings| settings.timeouts.poll = Duration::from_millis(20)).await;
    let token = node.poll_token().await;
    let polled = node.post(&format!("/api/login/poll/{token}")).send().await;
    assert_eq!((polled.status, &*polled.body), (204, ""));
}

#[tokio::test]
async fn a_login_that_nobody_knows_or_that_took_too_long_has_timed_out() {
    let node = TestNode::start_with(|settings| settings.timeouts.decision = Duration::from_millis(50)).await;
    let unknown = "k.000000000000000000000000";
    for token in [unknown, "no token"] {
        let path = format!("/api/login/poll/{}", token.replace(' ', "%20"));
        assert_eq!(node.post(&path).send().await.info(), info(400, "AuthTimeout"));
        let form = json!({"token": token, "user": "Ada"});
        assert_eq!(node.post("/api/login/simple").json(&form).send().await.info(), info(400, "AuthTimeout"));
    }
    let token = node.poll_token().await;
    // The poll itself is told when the login ends.
    assert_eq!(node.post(&format!("/api/login/poll/{token}")).send().await.info(), info(400, "AuthTimeout"));
    let form = json!({"token": token, "user": "Ada"});
    assert_eq!(node.post("/api/login/simple").json(&form).send().await.info(), info(400, "AuthTimeout"));
}

#[tokio::test]
async fn the_first_form_that_is_sent_decides_the_login() {
    let node = TestNode::start().await;
    let token = node.poll_token().await;
    for user in ["Ada", "Eve"] {
        assert_eq!(
            node.post("/api/login/simple").json(&json!({"token": token, "user": user})).send().await.status,
            200
        );
    }
    let login = node.post(&format!("/api/login/poll/{token}")).send().await.json();
    let claims = login["loginToken"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["name"], "Ada");
}

#[tokio::test]
async fn a_form_without_a_name_is_refused_and_leaves_the_login_open() {
    let node = TestNode::start().await;
    let token = node.poll_token().await;
    let refused = node.post("/api/login/simple").json(&json!({"token": token, "user": " "})).send().await;
    assert_eq!(refused.info(), info(400, "BadRequest"));
    assert_eq!(node.post("/api/login/simple").body("{").send().await.info(), info(400, "BadRequest"));
    let long = format!("{{\"token\": \"{}\"}}", "x".repeat(70_000));
    assert_eq!(node.post("/api/login/simple").body(&long).send().await.info(), info(413, "BadRequest"));
    let accepted = node.post("/api/login/simple").json(&json!({"token": token, "user": "Ada"})).send().await;
    assert_eq!(accepted.status, 200);
}

#[tokio::test]
async fn a_browser_without_scripts_posts_the_form_and_sees_a_page() {
    let node = TestNode::start().await;
    let token = node.poll_token().await;
    let form = format!("token={token}&user=Ada+L&email=");
    let posted = node.post("/api/login/simple").form(&form).header("accept", "text/html").send().await;
    assert_eq!((posted.status, posted.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(posted.body.contains("You are logged in"), "{posted:?}");
    let failed = node.post("/api/login/simple").form("token=x&user=A").header("accept", "text/html").send().await;
    assert_eq!((failed.status, failed.header("content-type")), (400, Some("text/html; charset=utf-8")));
    assert!(failed.body.contains("Authentication timed out"), "{failed:?}");
}

#[tokio::test]
async fn a_login_by_a_way_that_is_switched_off_is_none() {
    let on = TestNode::start().await;
    let login = on.login("Ada").await;
    let off = TestNode::start_with(|settings| settings.simple_login = false).await;
    assert_eq!(off.post("/api/login/validate").token(&login).send().await.json(), json!({"valid": false}));
    assert_eq!(off.post("/api/login/initial").send().await.json()["auth"]["providers"], json!([]));
    assert_eq!(off.post("/api/login/simple").json(&json!({"token": "x", "user": "Ada"})).send().await.status, 404);
}
