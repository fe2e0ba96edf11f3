//! Client downloads as whoever downloads them sees them, and what is counted of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use ctedge_portal::{Download, Portal, Surroundings, router};
use ctedge_settings::parse;
use ctedge_store::Store;
use ctedge_wire::HealthReport;
use tower::ServiceExt;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Notes downloads and knows nothing else.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Vec<Download>>>);

impl Surroundings for Counting {
    fn health(&self) -> HealthReport {
        HealthReport::default()
    }

    fn store(&self) -> Option<Store> {
        None
    }

    fn is_control_token(&self, given: &[u8]) -> bool {
        given == b"control"
    }

    fn visitor_key(&self) -> [u8; 32] {
        [7; 32]
    }

    fn downloaded(&self, download: &Download) {
        self.0.lock().unwrap().push(download.clone());
    }
}

/// The pages over a folder of their own.
struct Fixture {
    folder: tempfile::TempDir,
    counting: Counting,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Fixture {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = parse(&format!("data = {:?}\n{settings}", folder.path()), &|_| None).unwrap();
        let counting = Counting::default();
        let router = router(Portal::new(settings.portal(), counting.clone()));
        Self { folder, counting, router }
    }

    /// A folder with a client for each editor, and some that only seem to be.
    fn filled() -> Self {
        let fixture = Self::new("server_url = \"https://edge.example/ct\"\n");
        let package = r#"{"name":"together","publisher":"us","version":"1.2.3","displayName":"Together"}"#;
        fixture.put(
            "vscode/codetogether-onpremises-1.2.3.vsix",
            &zipped(&[("extension/package.json", package.as_bytes())]),
        );
        fixture.put("vscode/broken.vsix", b"not an archive");
        let descriptor = "<idea-plugin><id>us.together</id><version>4.5</version></idea-plugin>";
        let jar = zipped(&[("META-INF/plugin.xml", descriptor.as_bytes())]);
        let plugin = zipped(&[("together/lib/other.jar", &zipped(&[])), ("together/lib/together-4.5.jar", &jar)]);
        fixture.put("intellij/codetogether-onpremises-4.5.zip", &plugin);
        fixture.put("eclipse/plugins/com.genuitec.eclipse.codetogether.core_7.8.jar", &zipped(&[]));
        fixture.put("eclipse/plugins/other_1.0.jar", &zipped(&[]));
        fixture.put("eclipse/content.jar", &zipped(&[]));
        fixture
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join("clients").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let request = Request::builder().method(method).uri(path).header("host", "asked.example");
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(Body::empty())
            .unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.router.clone().oneshot(Self::request(method, path, headers)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    /// What was counted since the last time: editor and version.
    fn counted(&self) -> Vec<(&'static str, String)> {
        let downloads = std::mem::take(&mut *self.counting.0.lock().unwrap());
        downloads.into_iter().map(|download| (download.ide.as_str(), download.version)).collect()
    }
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const VSIX: &str = "/clients/vscode/codetogether-onpremises-1.2.3.vsix";

#[tokio::test]
async fn the_page_shows_what_there_is_and_needs_no_script() {
    let fixture = Fixture::filled();
    let page = fixture.get("/clients/").await;
    assert_eq!(page.status, StatusCode::OK);
    let html = page.text();
    for part in [
        "Together",
        "1.2.3",
        "4.5",
        "7.8",
        "vscode/codetogether-onpremises-1.2.3.vsix",
        "https://edge.example/ct/clients/eclipse/",
        "https://edge.example/ct/clients/intellij/updatePlugins.xml",
    ] {
        assert!(html.contains(part), "{part} is missing in\n{html}");
    }
    assert!(!html.contains("broken.vsix") && !html.contains("<script"), "{html}");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
    let again = fixture.ask("GET", "/clients/", &[("if-none-match", page.header("etag"))]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(fixture.get("/clients").await.header("location"), "clients/");
    assert_eq!(fixture.get("/clients/vscode/").await.header("location"), "../#vscode");
    assert_eq!(fixture.counted(), []);
}

#[tokio::test]
async fn intellij_finds_the_plugins_in_its_list() {
    let fixture = Fixture::filled();
    let list = fixture.get("/clients/intellij/updatePlugins.xml").await;
    assert_eq!(list.header("content-type"), "application/xml");
    let plugin = r#"<plugin id="us.together" url="https://edge.example/ct/clients/intellij/codetogether-onpremises-4.5.zip" version="4.5">"#;
    assert!(list.text().contains(plugin), "{}", list.text());
}

#[tokio::test]
async fn a_whole_download_of_a_client_counts_once() {
    let fixture = Fixture::filled();
    let vsix = fixture.get(VSIX).await;
    assert_eq!((vsix.status, vsix.header("content-type")), (StatusCode::OK, "application/vsix"));
    assert_eq!(vsix.body, fs::read(fixture.folder.path().join(&VSIX[1..])).unwrap());
    assert_eq!(fixture.counted(), [("vscode", "1.2.3".to_owned())]);
    fixture.get("/clients/intellij/codetogether-onpremises-4.5.zip").await;
    fixture.get("/clients/eclipse/plugins/com.genuitec.eclipse.codetogether.core_7.8.jar").await;
    assert_eq!(fixture.counted(), [("intellij", "4.5".to_owned()), ("eclipse", "7.8".to_owned())]);
}

#[tokio::test]
async fn what_is_no_whole_download_of_a_client_does_not_count() {
    let fixture = Fixture::filled();
    let tag = fixture.ask("HEAD", VSIX, &[]).await.header("etag").to_owned();
    let (status, part) = (StatusCode::PARTIAL_CONTENT, |range| [("range", range)]);
    assert_eq!(fixture.ask("GET", VSIX, &[("if-none-match", &tag)]).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(fixture.ask("GET", VSIX, &part("bytes=0-9")).await.status, status);
    assert_eq!(fixture.ask("GET", VSIX, &part("bytes=-22")).await.status, status);
    for path in
        ["/clients/vscode/broken.vsix", "/clients/eclipse/plugins/other_1.0.jar", "/clients/eclipse/content.jar"]
    {
        assert_eq!(fixture.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(fixture.get("/clients/vscode/codetogether-onpremises-9.vsix").await.status, StatusCode::NOT_FOUND);
    assert_eq!(fixture.counted(), []);

    // The rest of a download that was broken off completes it.
    let rest = fixture.ask("GET", VSIX, &part("bytes=10-")).await;
    assert_eq!((rest.status, fixture.counted().len()), (status, 1));
    // A condition on another state of the file makes it a whole answer.
    let whole = fixture.ask("GET", VSIX, &[("range", "bytes=10-"), ("if-range", "\"other\"")]).await;
    assert_eq!((whole.status, fixture.counted().len()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn a_download_that_is_broken_off_does_not_count() {
    let fixture = Fixture::filled();
    let package = br#"{"name":"n","publisher":"p","version":"1"}"#;
    fixture.put("vscode/large.vsix", &zipped(&[("extension/package.json", package), ("zeros", &vec![0; 1 << 20])]));
    let response =
        fixture.router.clone().oneshot(Fixture::request("GET", "/clients/vscode/large.vsix", &[])).await.unwrap();
    let mut body = response.into_body();
    let first =
        std::future::poll_fn(|context| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context)).await;
    assert!(first.unwrap().unwrap().into_data().unwrap().len() > 1000);
    drop(body);
    assert_eq!(fixture.counted(), []);
}

#[tokio::test]
async fn a_download_that_a_balancer_looks_after_counts_by_its_word_alone() {
    let fixture = Fixture::filled();
    let told = fixture.ask("GET", VSIX, &[("x-ctedge-download", "told")]).await;
    assert_eq!((told.status, fixture.counted().len()), (StatusCode::OK, 0));
    let download = told.header("x-ctedge-download");
    let word = async |token, download| {
        let headers = [("x-ctedge-control", token), ("x-ctedge-download", download)];
        fixture.ask("POST", "/ct-control/downloaded", &headers).await.status
    };
    assert_eq!(word("stranger", download).await, StatusCode::FORBIDDEN);
    assert_eq!(word("control", "told").await, StatusCode::BAD_REQUEST);
    assert_eq!(fixture.counted(), []);
    // A node that has been started anew, or another, can count it as well.
    fs::remove_file(fixture.folder.path().join(&VSIX[1..])).unwrap();
    assert_eq!(word("control", download).await, StatusCode::NO_CONTENT);
    assert_eq!(fixture.counted(), [("vscode", "1.2.3".to_owned())]);
    // What is no download says nothing of one.
    let part = [("x-ctedge-download", "told"), ("range", "bytes=0-9")];
    assert_eq!(fixture.ask("GET", "/clients/eclipse/content.jar", &part).await.header("x-ctedge-download"), "");
}

#[tokio::test]
async fn a_version_too_long_for_a_header_counts_when_it_has_been_handed_over() {
    let fixture = Fixture::filled();
    let package = format!(r#"{{"name":"n","publisher":"p","version":"{}"}}"#, "9".repeat(3000));
    fixture.put("vscode/long.vsix", &zipped(&[("extension/package.json", package.as_bytes())]));
    let answer = fixture.ask("GET", "/clients/vscode/long.vsix", &[("x-ctedge-download", "told")]).await;
    assert_eq!((answer.header("x-ctedge-download"), fixture.counted().len()), ("", 1));
}

#[tokio::test]
async fn a_client_that_was_just_put_there_counts_too() {
    let fixture = Fixture::filled();
    fixture.get("/clients/").await;
    let package = br#"{"name":"n","publisher":"p","version":"2"}"#;
    fixture.put("vscode/late.vsix", &zipped(&[("extension/package.json", package)]));
    fixture.get("/clients/vscode/late.vsix").await;
    assert_eq!(fixture.counted(), [("vscode", "2".to_owned())]);
}

#[tokio::test]
async fn nothing_outside_the_folder_is_ever_served() {
    let fixture = Fixture::filled();
    fs::write(fixture.folder.path().join("cluster.secret"), "a secret").unwrap();
    std::os::unix::fs::symlink(fixture.folder.path(), fixture.folder.path().join("clients/up")).unwrap();
    let link = Path::new("clients/vscode/link.vsix");
    std::os::unix::fs::symlink("../../cluster.secret", fixture.folder.path().join(link)).unwrap();
    for path in [
        "/clients/../cluster.secret",
        "/clients/%2e%2e/cluster.secret",
        "/clients/vscode/..%2f..%2fcluster.secret",
        "/clients/vscode/%2e%2e/%2e%2e/cluster.secret",
        "/clients/..%5ccluster.secret",
        "/clients/up/cluster.secret",
        "/clients/vscode/link.vsix",
        "/clients//cluster.secret",
    ] {
        let answer = fixture.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.text().contains("a secret"), "{path}");
    }
}

#[tokio::test]
async fn downloads_that_are_switched_off_say_so() {
    let fixture = Fixture::new("[portal]\nclients = false\n");
    fixture.put("vscode/a.vsix", b"x");
    for path in ["/clients", "/clients/", "/clients/vscode/a.vsix"] {
        let answer = fixture.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text().contains("switched off"), "{}", answer.text());
    }
}
