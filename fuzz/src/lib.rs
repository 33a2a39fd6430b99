//! A library with a public and a private file in it, asked in this process as by HTTP.

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use vellum::app::{App, Clock};
use vellum::config::{Config, Flags};
use vellum::http::{Auth, Server, router, token_path};

/// What the files hold.
pub const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Where the public one is.
pub const PUBLIC: &str = "photos/one";
const PRIVATE: &str = "photos/two";

/// A server with a library of its own.
pub struct Library {
    runtime: Runtime,
    routes: Router,
    admin: String,
    /// The path of the URL of the public file's version.
    pub version_url: String,
    /// The path of a signed URL of the private one's, and its query string.
    pub signed_url: (String, String),
    _folder: TempDir,
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Library {
    /// The one of this process.
    pub fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(Self::open)
    }

    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = folder.path().join("vellum.toml");
        std::fs::write(&settings, "[rate_limit]\naddress_per_second = 0\ntoken_per_second = 0\n").expect("a file");
        let data_dir = folder.path().join("data");
        let flags = Flags { data_dir: Some(data_dir.clone()), ..Flags::default() };
        let config = Config::load(Some(&settings), &flags).expect("settings");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let routes = runtime.block_on(async {
            let app = App::open(config, "http://vellum.test".to_owned(), Clock::system()).await.expect("a library");
            let auth = Auth::open(&app).expect("a token");
            router(Server::new(app, auth).expect("a server"))
        });
        let admin = std::fs::read_to_string(token_path(&data_dir)).expect("a token").trim().to_owned();
        let mut library = Self {
            runtime,
            routes,
            admin,
            version_url: String::new(),
            signed_url: Default::default(),
            _folder: folder,
        };
        library.version_url = path_of(&library.upload(PUBLIC, "PUBLIC")["url"]).0;
        library.signed_url = path_of(&library.upload(PRIVATE, "PRIVATE")["signedUrl"]["url"]);
        library
    }

    fn upload(&self, path: &str, visibility: &str) -> Value {
        let start = "mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id target { url } } } }";
        let input = json!({ "input": { "path": path, "visibility": visibility } });
        let intent = self.graphql(start, &input)["data"]["startUpload"]["intent"].take();
        let (path, query) = path_of(&intent["target"]["url"]);
        let put = Request::put(format!("{path}?{query}")).body(Body::from(CONTENT)).expect("a request");
        assert!(self.send(put).status.is_success());
        let finish = "mutation($id: ID!) { finishUpload(input: { intentId: $id }) { version { url signedUrl { url } } } }";
        self.graphql(finish, &json!({ "id": intent["id"] }))["data"]["finishUpload"]["version"].take()
    }

    /// Asks, and takes in the whole answer. No answer tells of a fault of the server's.
    pub fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let response = self.routes.clone().oneshot(request).await.expect("an answer");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a body").to_bytes().to_vec();
            assert!(!parts.status.is_server_error(), "{} {}", parts.status, String::from_utf8_lossy(&body));
            Answer { status: parts.status, headers: parts.headers, body }
        })
    }

    /// Asks for a file as a stranger; none where no HTTP library would let such a request through.
    pub fn read(&self, path: &[u8], headers: &[(&str, &[u8])]) -> Option<Answer> {
        let mut request = Request::builder().method(Method::GET).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Some(self.send(request.body(Body::empty()).ok()?))
    }

    /// Asks by GraphQL as an admin. No error tells of a fault of the server's.
    pub fn graphql(&self, query: &str, variables: &Value) -> Value {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let request = Request::post("/graphql")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.admin));
        let answer = self.send(request.body(Body::from(body)).expect("a request"));
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        for error in answer["errors"].as_array().into_iter().flatten() {
            let code = &error["extensions"]["code"];
            assert!(code != "INTERNAL_SERVER_ERROR" && code != "STORAGE_UNAVAILABLE", "{answer}");
        }
        answer
    }
}

/// The path and the query string of a URL.
fn path_of(url: &Value) -> (String, String) {
    let url = url::Url::parse(url.as_str().expect("a text")).expect("a URL");
    (url.path().to_owned(), url.query().unwrap_or_default().to_owned())
}
