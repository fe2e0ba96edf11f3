//! A key leads to one node, wherever a request carries it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::collections::HashSet;

use support::{Backend, Edge, Reply, nodes};

async fn three() -> [Backend; 3] {
    [Backend::named(1).await, Backend::named(2).await, Backend::named(3).await]
}

fn refs(backends: &[Backend]) -> Vec<&Backend> {
    backends.iter().collect()
}

#[tokio::test]
async fn one_key_leads_to_one_node_from_every_source() {
    let backends = three().await;
    let edge = Edge::with(&refs(&backends)).await;
    for number in 0..12 {
        let key = format!("room-{number}");
        let token = format!("{key}.0123456789ABCDEFGHIJKLMN");
        let home = edge.get("/", &[("ctstickiness", &key)]).await;
        assert_eq!(home.text(), home.node());
        let cookie = format!("other=1; ctstickiness={key}");
        let answers = [
            edge.get("/", &[("CTStickiness", &key)]).await,
            edge.get(&format!("/?a=b&ctstickiness={key}"), &[]).await,
            edge.get("/", &[("Cookie", &cookie)]).await,
            edge.post(&format!("/api/session/join/{key}"), &[], b"").await,
            edge.post(&format!("/api/session/poll/{token}"), &[], b"").await,
            edge.get(&format!("/x/socket.io/?EIO=4&transport=polling&sid={token}"), &[]).await,
        ];
        for answer in answers {
            assert_eq!(answer.node(), home.node(), "{key}");
        }
        let backend = backends.iter().find(|backend| backend.id == home.node()).unwrap();
        assert!(backend.seen().iter().any(|request| request.key() == key));
    }
}

#[tokio::test]
async fn keys_spread_over_all_nodes() {
    let backends = three().await;
    let edge = Edge::with(&refs(&backends)).await;
    let mut client = edge.client().await;
    let mut used = HashSet::new();
    for number in 0..40 {
        let key = format!("k{number}");
        used.insert(client.request("GET", "/", &[("ctstickiness", &key)], b"").await.node().to_owned());
    }
    assert_eq!(used.len(), 3);
}

#[tokio::test]
async fn a_client_without_a_key_gets_one_and_comes_back_by_its_cookie() {
    let backends = three().await;
    let edge = Edge::with(&refs(&backends)).await;
    let first = edge.get("/", &[]).await;
    let key = first.cookie().expect("a cookie").to_owned();
    let attributes = first.header("set-cookie").unwrap();
    assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax") && attributes.contains("Path=/"));
    assert!(!attributes.contains("Secure"), "plain HTTP: {attributes}");
    for _ in 0..5 {
        let again = edge.get("/", &[("Cookie", &format!("ctstickiness={key}"))]).await;
        assert_eq!((again.node(), again.cookie()), (first.node(), None));
    }
    assert!(edge.get("/", &[("ctstickiness", "of-an-ide")]).await.cookie().is_none(), "IDEs carry the key themselves");
}

#[tokio::test]
async fn an_answer_that_many_may_share_sets_no_cookie() {
    let backend = Backend::new(1, |request| {
        Reply::status(200, &[("cache-control", request.path.strip_prefix("/?").unwrap_or_default())])
    })
    .await;
    let edge = Edge::with(&[&backend]).await;
    for (cache_control, is_set) in
        [("public", false), ("max-age=9,Public", false), ("no-cache", true), ("private", true), ("", true)]
    {
        let answer = edge.get(&format!("/?{cache_control}"), &[]).await;
        assert_eq!(answer.cookie().is_some(), is_set, "{cache_control:?}");
        let another = edge.get(&format!("/?{cache_control}"), &[("Cookie", "ctstickiness=nonsense!")]).await;
        assert_eq!(another.cookie().is_some(), is_set, "{cache_control:?}");
    }
}

#[tokio::test]
async fn a_header_beats_the_cookie_and_nonsense_is_no_key() {
    let backends = three().await;
    let edge = Edge::with(&refs(&backends)).await;
    let home = edge.get("/", &[("ctstickiness", "a")]).await;
    let both = edge.get("/", &[("ctstickiness", "a"), ("Cookie", "ctstickiness=b")]).await;
    assert_eq!((both.node(), both.cookie()), (home.node(), Some("a")));
    let nonsense = edge.get("/", &[("ctstickiness", "no key at all")]).await;
    assert_eq!(nonsense.status, 200);
    assert!(nonsense.cookie().is_some());
}

#[tokio::test]
async fn what_a_node_is_told_is_true_and_nothing_else() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    let lies = [
        ("ctstickiness", "room"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Real-IP", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "mine"),
        ("x-ctedge-control", "stolen"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
    ];
    edge.get("/a/b?c=d", &lies).await;
    let seen = backend.seen().remove(0);
    assert_eq!(seen.path, "/a/b?c=d");
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("edge.test"));
    assert_eq!(seen.header("host"), Some("edge.test"));
    assert_eq!(seen.header("x-request-id").unwrap().len(), 32);
    for gone in ["x-ctedge-control", "x-hop", "keep-alive"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn what_a_node_says_to_the_balancer_goes_to_no_client() {
    let backend = Backend::new(1, |request| match request.header("upgrade") {
        Some(_) => Reply::status(401, &[("x-ctedge-anything", "1"), ("x-ctedg", "1")]),
        None => Reply::status(200, &[("x-ctedge-epoch", "1"), ("x-ctedge-anything", "1"), ("x-ctedg", "1")]),
    })
    .await;
    let edge = Edge::with(&[&backend]).await;
    for answer in [edge.get("/", &[]).await, edge.client().await.upgrade("/ws", &[], b"").await] {
        for (name, expected) in [("x-ctedge-epoch", None), ("x-ctedge-anything", None), ("x-ctedg", Some("1"))] {
            assert_eq!(answer.header(name), expected, "{name} on {}", answer.status);
        }
    }
}

#[tokio::test]
async fn the_public_path_prefix_ends_at_the_balancer() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.path_prefix = "/edge".into();
    let edge = Edge::start(settings).await;
    assert!(edge.get("/edge/api/meta?x=1", &[]).await.header("set-cookie").unwrap().contains("Path=/edge;"));
    assert_eq!(backend.seen()[0].path, "/api/meta?x=1");
    assert_eq!(edge.get("/api/meta", &[]).await.status, 404);
    assert_eq!(edge.get("/edges", &[]).await.status, 404);
    for path in ["/ct-health/", "/edge/ct-health/"] {
        assert_eq!(edge.get(path, &[]).await.json()["nodes_up"], 1, "{path}");
    }
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn the_nodes_control_paths_are_not_reachable() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    let answer = edge.post("/ct-control/drain", &[("x-ctedge-control", &support::secret().control_token())], b"").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["code"], "NotFound");
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn a_session_is_created_under_a_fresh_key_whatever_the_cookie_says() {
    let backend = Backend::new(1, |request| Reply::text(request.key())).await;
    let edge = Edge::with(&[&backend]).await;
    let created = edge.post("/api/session/create", &[("Cookie", "ctstickiness=old")], b"{}").await;
    assert_ne!(created.text(), "old");
    assert_eq!(created.cookie(), Some(created.text()), "the browser follows its new session");
}

#[tokio::test]
async fn a_redirect_to_a_key_replays_the_request_with_its_body() {
    let handler = |number: usize| {
        move |request: &support::backend::Request| {
            if request.key() == "home" {
                Reply::text(format!("{number}:{}:{}", request.method, String::from_utf8_lossy(&request.body)))
            } else {
                Reply::status(421, &[("x-ctedge-key", "home")])
            }
        }
    };
    let backends = [Backend::new(1, handler(1)).await, Backend::new(2, handler(2)).await];
    let edge = Edge::with(&refs(&backends)).await;
    let body = "x".repeat(50_000);
    for key in ["one", "two", "three", "four"] {
        let answer = edge.post("/api/login/simple", &[("ctstickiness", key)], body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text().ends_with(&format!(":POST:{body}")));
        assert_eq!(answer.header("x-ctedge-key"), None);
    }
}

#[tokio::test]
async fn a_redirect_to_the_owner_is_followed_and_remembered() {
    let handler = |number: usize| {
        move |_: &support::backend::Request| match number {
            2 => Reply::text("node-2"),
            _ => Reply::status(421, &[("x-ctedge-owner", "node-2"), ("x-ctedge-epoch", "3")]),
        }
    };
    let backends = [Backend::new(1, handler(1)).await, Backend::new(2, handler(2)).await];
    let edge = Edge::with(&refs(&backends)).await;
    for number in 0..30 {
        for _ in 0..3 {
            let key = format!("k{number}");
            assert_eq!(edge.post("/x", &[("ctstickiness", &key)], b"body").await.text(), "node-2");
        }
    }
    let asked_in_vain = backends[0].seen().len();
    assert!((1..=30).contains(&asked_in_vain), "{asked_in_vain} redirects for 30 keys");
}

/// Two nodes that know each other; every key is the second one's.
async fn two_that_share() -> [Backend; 2] {
    let handler = |number: usize| {
        move |request: &support::backend::Request| match (number, request.path.starts_with("/ct-control/owner?")) {
            (2, true) => Reply::status(204, &[]),
            (2, false) => Reply::text(format!("node-2 got {}", request.body.len())),
            _ => Reply::status(421, &[("x-ctedge-owner", "node-2"), ("x-ctedge-epoch", "3")]),
        }
    };
    let backends = [Backend::new(1, handler(1)).await, Backend::new(2, handler(2)).await];
    for backend in &backends {
        *backend.health.lock().unwrap() = Some(ctedge_wire::NodeStatus::Ready);
        backend.shares_ownership.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    backends
}

#[tokio::test]
async fn a_body_too_large_to_be_sent_twice_goes_to_the_owner_at_once() {
    let backends = two_that_share().await;
    let edge = Edge::with(&refs(&backends)).await;
    let body = vec![b'x'; 200_000];
    for number in 0..10 {
        let key = format!("k{number}");
        let headers = [("ctstickiness", key.as_str()), ("x-ctedge-control", "forged")];
        assert_eq!(edge.post("/p?sid=s", &headers, &body).await.text(), "node-2 got 200000");
    }
    let questions = |backend: &Backend| {
        let seen = backend.seen();
        let questions: Vec<_> = seen.into_iter().filter(|request| request.path == "/ct-control/owner?sid=s").collect();
        for question in &questions {
            assert_eq!(question.header("x-ctedge-control"), Some(support::secret().control_token().as_str()));
            assert!(question.key().starts_with('k') && question.header("x-request-id").is_some(), "{question:?}");
        }
        questions.len()
    };
    assert_eq!(questions(&backends[1]), 10);
    assert!(questions(&backends[0]) > 0, "some of ten keys were looked for at the other node");
    assert_eq!(questions(&backends[0]), backends[0].seen().len(), "no body came to a node that does not own the key");
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_to_the_owner_at_once() {
    let backends = two_that_share().await;
    let edge = Edge::with(&refs(&backends)).await;
    for number in 0..10 {
        let mut client = edge.client().await;
        let head = format!("POST /p HTTP/1.1\r\nHost: edge.test\r\nctstickiness: k{number}\r\n");
        client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.unwrap().text(), "node-2 got 15");
    }
    assert!(backends[0].seen().iter().all(|request| request.path == "/ct-control/owner?"));
}

#[tokio::test]
async fn nothing_is_asked_about_small_bodies_or_of_servers_that_know_no_others() {
    let backends = two_that_share().await;
    let edge = Edge::with(&refs(&backends)).await;
    let asked = |backends: &[Backend]| {
        let seen = backends.iter().flat_map(Backend::seen);
        seen.filter(|request| request.path.starts_with("/ct-control/")).count()
    };
    for number in 0..10 {
        let key = format!("k{number}");
        let body = vec![b'x'; 64 * 1024];
        assert_eq!(edge.post("/p", &[("ctstickiness", &key)], &body).await.text(), "node-2 got 65536");
        assert_eq!(edge.get("/p", &[("ctstickiness", &key)]).await.text(), "node-2 got 0");
    }
    assert_eq!(asked(&backends), 0);
    let strangers = three().await;
    let edge = Edge::with(&refs(&strangers)).await;
    assert_eq!(edge.post("/p", &[("ctstickiness", "k")], &[b'x'; 200_000]).await.status, 200);
    assert_eq!(asked(&strangers), 0);
}

#[tokio::test]
async fn nodes_that_redirect_in_a_circle_are_given_up() {
    let handler = |_: &support::backend::Request| Reply::status(421, &[("x-ctedge-key", "elsewhere")]);
    let backends = [Backend::new(1, handler).await, Backend::new(2, handler).await];
    let edge = Edge::with(&refs(&backends)).await;
    assert_eq!(edge.get("/", &[("ctstickiness", "a")]).await.status, 502);
    let asked: usize = backends.iter().map(|backend| backend.seen().len()).sum();
    assert!(asked <= 6, "asked {asked} times");
}

#[tokio::test]
async fn an_added_node_moves_no_pinned_key_and_gets_others() {
    let backends = three().await;
    let edge = Edge::with(&refs(&backends[..2])).await;
    let mut homes = Vec::new();
    for number in 0..30 {
        let key = format!("k{number}");
        homes.push((key.clone(), edge.get("/", &[("ctstickiness", &key)]).await.node().to_owned()));
    }
    let mut changed = support::settings(&refs(&backends));
    changed.nodes = nodes(&refs(&backends));
    *edge.source.0.lock().unwrap() = Ok(changed);
    let reloaded = edge.handle.reload().await.unwrap();
    assert_eq!(reloaded.nodes_added, ["node-3"]);
    edge.wait_for_state("node-3", "ready").await;
    for (key, home) in homes {
        assert_eq!(edge.get("/", &[("ctstickiness", &key)]).await.node(), home, "{key}");
    }
    let mut used = HashSet::new();
    for number in 0..30 {
        used.insert(edge.get("/", &[("ctstickiness", &format!("n{number}"))]).await.node().to_owned());
    }
    assert!(used.contains("node-3"));
}
