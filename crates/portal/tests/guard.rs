//! Who may see the dashboard and the logs, and what they see.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctedge_portal::{Download, LivePages, Portal, Surroundings, router};
use ctedge_settings::parse;
use ctedge_store::Store;
use ctedge_wire::HealthReport;
use tower::ServiceExt;

const PAGES: [&str; 7] = [
    "/dashboard",
    "/dashboard/api/state",
    "/dashboard/metrics.tar.gz",
    "/dashboard/audit.csv",
    "/logs",
    "/logs/",
    "/logs/server.log",
];

/// A node without a store.
struct Node;

impl Surroundings for Node {
    fn health(&self) -> HealthReport {
        HealthReport { node: "node-1".into(), ..HealthReport::default() }
    }

    fn store(&self) -> Option<Store> {
        None
    }

    fn is_control_token(&self, _: &[u8]) -> bool {
        false
    }

    fn visitor_key(&self) -> [u8; 32] {
        [7; 32]
    }

    fn downloaded(&self, _: &Download) {}
}

fn pages(folder: &Path, logins: &str) -> Router {
    fs::create_dir_all(folder.join("logs")).unwrap();
    fs::write(folder.join("logs/server.log"), "a line\n").unwrap();
    let settings = parse(&format!("data = {folder:?}\n[portal]\n{logins}"), &|_| None).unwrap();
    router(Portal::new(settings.portal(), Node))
}

fn dashboard(password: &str) -> String {
    format!("dashboard_user = \"ada\"\ndashboard_password = \"{password}\"\n")
}

fn logs(password: &str) -> String {
    format!("logs_user = \"ada\"\nlogs_password = \"{password}\"\n")
}

struct Asked {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn ask(router: &Router, method: Method, path: &str, login: Option<&str>, headers: &[(&str, &str)]) -> Asked {
    let mut request = Request::builder().method(method).uri(path).header("host", "edge.example");
    if let Some(login) = login {
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(login)));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Asked { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

async fn status(router: &Router, path: &str, login: &str) -> u16 {
    ask(router, Method::GET, path, Some(login), &[]).await.status.as_u16()
}

#[tokio::test]
async fn nobody_sees_anything_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let router = pages(folder.path(), &dashboard("right"));
    for path in PAGES {
        for login in [None, Some("ada:wrong"), Some("eve:right")] {
            let asked = ask(&router, Method::GET, path, login, &[("x-real-ip", path_address(path))]).await;
            assert_eq!(asked.status, 401, "{path}");
            let challenge = asked.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Basic realm=") && challenge.contains("UTF-8"), "{challenge}");
            assert!(!asked.body.contains("a line"), "{path}");
        }
        let asked = ask(&router, Method::GET, path, Some("ada:right"), &[]).await;
        assert!(![401, 403, 429].contains(&asked.status.as_u16()), "{path}: {}", asked.status);
        assert_eq!(asked.headers["cache-control"], "no-store", "{path}");
    }
}

/// An address for each page, so that wrong tries at one do not count at the next.
fn path_address(path: &str) -> &'static str {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"];
    addresses[PAGES.iter().position(|page| *page == path).unwrap()]
}

#[tokio::test]
async fn each_login_stands_in_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    for logins in [dashboard("one"), logs("one")] {
        let router = pages(folder.path(), &logins);
        assert_eq!(status(&router, "/dashboard", "ada:one").await, 200);
        assert_eq!(status(&router, "/logs/", "ada:one").await, 200);
    }
    let router = pages(folder.path(), &(dashboard("one") + &logs("two")));
    assert_eq!(status(&router, "/dashboard", "ada:one").await, 200);
    assert_eq!(status(&router, "/logs/", "ada:one").await, 401);
    assert_eq!(status(&router, "/logs/", "ada:two").await, 200);
    assert_eq!(status(&router, "/dashboard", "ada:two").await, 401);
}

#[tokio::test]
async fn without_logins_the_generated_password_counts_and_without_that_nobody_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let router = pages(folder.path(), "");
    let file = folder.path().join("dashboard.password");
    for login in ["ctuser:", "ctuser:generated"] {
        let asked = ask(&router, Method::GET, "/dashboard", Some(login), &[]).await;
        assert_eq!(asked.status, 403);
        assert!(asked.body.contains("CT_DASHBOARD_PASSWORD"), "{}", asked.body);
    }
    fs::write(&file, "\n").unwrap();
    assert_eq!(status(&router, "/dashboard", "ctuser:").await, 403);
    fs::write(&file, "generated\n").unwrap();
    assert_eq!(status(&router, "/dashboard", "ctuser:generated").await, 200);
    assert_eq!(status(&router, "/logs/", "ctuser:generated").await, 200);
    assert_eq!(status(&router, "/dashboard", "ctuser:other").await, 401);
}

#[tokio::test]
async fn whoever_guesses_has_to_pause_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let text = dashboard("right") + "[portal.limits]\nwrong_tries_max = 3\nwrong_tries_pause = \"1m\"\n";
    let router = pages(folder.path(), &text);
    let from = |address: &'static str| [("x-real-ip", address)];
    for _ in 0..2 {
        assert_eq!(ask(&router, Method::GET, "/dashboard", Some("ada:x"), &from("192.0.2.1")).await.status, 401);
    }
    for login in [Some("ada:x"), Some("ada:right"), None] {
        let asked = ask(&router, Method::GET, "/dashboard/api/state", login, &from("192.0.2.1")).await;
        assert_eq!(asked.status, 429);
        let pause: u64 = asked.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&pause), "{pause}");
    }
    let other = ask(&router, Method::GET, "/dashboard", Some("ada:right"), &from("192.0.2.2")).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn strangers_at_the_same_address_lock_nobody_out_who_was_let_in_before() {
    let folder = tempfile::tempdir().unwrap();
    let text = dashboard("right") + "[portal.limits]\nwrong_tries_max = 3\nwrong_tries_pause = \"1m\"\n";
    let router = pages(folder.path(), &text);
    let get = async |path, login, cookie: &str| {
        ask(&router, Method::GET, path, Some(login), &[("x-real-ip", "192.0.2.1"), ("cookie", cookie)]).await
    };
    let cookie_of = |asked: &Asked| {
        let set = asked.headers.get("set-cookie")?.to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        set.split(';').next().map(str::to_owned)
    };
    let cookie = cookie_of(&get("/dashboard", "ada:right", "").await).unwrap();
    while get("/dashboard", "ada:guess", "").await.status != 429 {}
    assert_eq!(get("/dashboard", "ada:right", "").await.status, 429);
    assert_eq!(get("/dashboard", "ada:right", "ctvisitor=AAAAAAAAAAAAAAAAAAAAAAAA").await.status, 429);
    let again = get("/dashboard", "ada:right", &cookie).await;
    assert_eq!((again.status.as_u16(), cookie_of(&again)), (200, None));
    // One login for both: the cookie counts at the logs too.
    while get("/logs/", "ada:guess", "").await.status != 429 {}
    assert_eq!(get("/logs/", "ada:right", &cookie).await.status, 200);
    // It lets nobody in, and its bearer may not guess without end either.
    let statuses = [get("/dashboard", "ada:x", &cookie).await, get("/dashboard", "ada:y", &cookie).await]
        .map(|asked| asked.status);
    assert_eq!(statuses.map(|status| status.as_u16()), [401, 401]);
    assert_eq!(get("/dashboard", "ada:z", &cookie).await.status, 429);
    assert_eq!(get("/dashboard", "ada:right", &cookie).await.status, 429);
}

#[tokio::test]
async fn a_page_of_another_origin_reads_nothing_with_the_login_of_its_visitor() {
    let folder = tempfile::tempdir().unwrap();
    let router = pages(folder.path(), &dashboard("right"));
    for path in PAGES {
        let asked = ask(&router, Method::GET, path, Some("ada:right"), &[("origin", "https://evil.example")]).await;
        assert_eq!(asked.status, 403, "{path}");
        assert!(!asked.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let own = ask(&router, Method::GET, "/dashboard", Some("ada:right"), &[("origin", "https://edge.example")]).await;
    assert_eq!(own.status, 200);
    assert_eq!(ask(&router, Method::POST, "/dashboard", Some("ada:right"), &[]).await.status, 405);
}

#[tokio::test]
async fn a_node_without_a_store_tells_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let router = pages(folder.path(), &dashboard("right"));
    let page = ask(&router, Method::GET, "/dashboard", Some("ada:right"), &[]).await;
    assert!(page.body.contains("the figures of node-1 alone"), "{}", page.body);
    let json = ask(&router, Method::GET, "/dashboard/api/state", Some("ada:right"), &[]).await;
    let state: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(state["nodes"][0]["id"], "node-1");
    assert_eq!(state["nodes"][0]["state"], "ready");
    assert_eq!(state["of_all_nodes"], false);
    assert_eq!(state["days"], serde_json::Value::Null);
}

#[tokio::test]
async fn no_path_leads_out_of_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    let router = pages(folder.path(), &dashboard("right"));
    fs::write(folder.path().join("cluster.secret"), "a line that is secret\n").unwrap();
    std::os::unix::fs::symlink(folder.path().join("cluster.secret"), folder.path().join("logs/link.log")).unwrap();
    for path in [
        "/logs/../cluster.secret",
        "/logs/..%2fcluster.secret",
        "/logs/%2e%2e/cluster.secret",
        "/logs/logs/../../cluster.secret",
        "/logs//etc/passwd",
        "/logs/%2fetc%2fpasswd",
        "/logs/link.log",
        "/logs/server.log%00",
        "/logs/server.log/",
    ] {
        let asked = ask(&router, Method::GET, path, Some("ada:right"), &[]).await;
        assert!([400, 404].contains(&asked.status.as_u16()), "{path}: {}", asked.status);
        assert!(!asked.body.contains("a line"), "{path}: {}", asked.body);
    }
    let list = ask(&router, Method::GET, "/logs/", Some("ada:right"), &[]).await;
    assert!(list.body.contains("server.log") && !list.body.contains("link.log"), "{}", list.body);
    let log = ask(&router, Method::GET, "/logs/server.log", Some("ada:right"), &[]).await;
    assert_eq!((log.status.as_u16(), log.body.as_str()), (200, "a line\n"));
    assert_eq!(log.headers["content-type"], "text/plain; charset=utf-8");
    let tail = ask(&router, Method::GET, "/logs/server.log?lines=1", Some("ada:right"), &[]).await;
    assert_eq!(tail.body, "a line\n");
    let none = ask(&router, Method::GET, "/logs/server.log?lines=0", Some("ada:right"), &[]).await;
    assert_eq!(none.status, 400);
}

#[tokio::test]
async fn another_password_counts_from_the_moment_at_which_the_pages_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let portal = |text: &str| {
        let settings = parse(&format!("data = {:?}\n[portal]\n{text}", folder.path()), &|_| None).unwrap();
        Portal::new(settings.portal(), Node)
    };
    let pages = LivePages::new(portal(&dashboard("first")));
    let router = pages.router();
    for path in ["/dashboard", "/dashboard/api/state", "/logs/"] {
        assert_eq!(status(&router, path, "ada:first").await, 200, "{path}");
    }
    pages.replace(portal(&dashboard("second")));
    for path in ["/dashboard", "/dashboard/api/state", "/logs/"] {
        assert_eq!(status(&router, path, "ada:first").await, 401, "{path}");
        assert_eq!(status(&router, path, "ada:second").await, 200, "{path}");
    }
    assert_eq!(status(&router, "/clients/", "").await, 200);
    assert_eq!(status(&router, "/clients/nothing", "").await, 404);
    assert_eq!(status(&router, "/dashboard/nothing", "ada:second").await, 404);
}
