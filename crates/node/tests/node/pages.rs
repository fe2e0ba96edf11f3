//! The pages that people see, and which other pages may call the server.

use crate::support::{TestNode, info};

#[tokio::test]
async fn the_login_page_has_the_form_and_keeps_its_token_to_itself() {
    let node = TestNode::start().await;
    let token = node.poll_token().await;
    let page = node.get(&format!("/login.html?token={token}")).send().await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for part in [
        r#"<form method="post" action="api/login/simple">"#,
        &*format!(r#"name="token" value="{token}""#),
        r#"<label for="user">Username</label>"#,
        r#"role="alert""#,
        r#"role="status""#,
        "The &lt;Testers&gt;",
    ] {
        assert!(page.body.contains(part), "{part} is missing in\n{}", page.body);
    }
    assert_eq!(page.header("referrer-policy"), Some("strict-origin"), "the origin alone, never the query");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "nothing from elsewhere");
    assert!(!page.body.contains("{{"), "no placeholder is left");
}

#[tokio::test]
async fn the_pages_policy_allows_its_own_script_and_style_only() {
    let node = TestNode::start().await;
    let page = node.get("/").send().await;
    let policy = page.header("content-security-policy").unwrap();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(page.body.contains(&format!(r#"<script nonce="{nonce}">"#)));
    assert!(page.body.contains(&format!(r#"<style nonce="{nonce}">"#)));
    let again = node.get("/").send().await;
    assert!(!again.body.contains(nonce), "a nonce is used once");
}

#[tokio::test]
async fn a_login_link_without_its_token_says_what_to_do() {
    let node = TestNode::start().await;
    for path in ["/login.html", "/login.html?token=%22%3E%3Cscript%3E"] {
        let page = node.get(path).send().await;
        assert!(page.body.contains("This login link is incomplete"), "{path}");
        assert!(!page.body.contains("\"><script>"), "{path}");
    }
}

#[tokio::test]
async fn the_landing_page_names_the_public_url() {
    let node = TestNode::start().await;
    let page =
        node.get("/").header("x-forwarded-proto", "https").header("x-forwarded-host", "edge.example").send().await;
    assert!(page.body.contains("https://edge.example"), "{}", page.body);
    let hostile = node.get("/").header("host", "x<script>").send().await;
    assert!(!hostile.body.contains("x<script>"));
}

#[tokio::test]
async fn a_page_of_another_origin_may_call_with_credentials() {
    let node = TestNode::start().await;
    let answer = node.get("/api/meta").header("origin", "https://ide.example").send().await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://ide.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("vary"), Some("origin"));
    let plain = node.get("/api/meta").send().await;
    assert_eq!(plain.header("access-control-allow-origin"), None);
    let refused = node.post("/api/session/create").header("origin", "https://ide.example").send().await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://ide.example"), "refusals are readable too");
}

#[tokio::test]
async fn preflights_are_answered_on_every_path() {
    let node = TestNode::start().await;
    for path in ["/api/session/create", "/api/login/poll/k.000000000000000000000000", "/team/socket.io/?EIO=4"] {
        let answer = node
            .ask("OPTIONS", path)
            .header("origin", "https://ide.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-oct-jwt")
            .send()
            .await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://ide.example"), "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-oct-jwt"), "{path}");
        assert!(
            answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_page_that_is_not_listed_may_not_call() {
    let node = TestNode::start_with(|settings| settings.cors_origins = vec!["https://ide.example".into()]).await;
    let from = |origin| node.get("/api/meta").header("origin", origin).send();
    assert_eq!(from("https://ide.example").await.status, 200);
    let refused = from("https://other.example").await;
    assert_eq!(refused.info(), info(403, "Forbidden"));
    assert_eq!(refused.header("access-control-allow-origin"), None);
    let own = node.get("/api/meta").header("host", "edge.example").header("origin", "https://edge.example");
    assert_eq!(own.send().await.status, 200, "the login page of this server");
}
