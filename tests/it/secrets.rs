//! Nothing secret comes into the logs, however much is logged.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::support::{Collector, HOPPER, Socket, contains, text};

/// Secrets of the settings, which would be known again.
const JWT_SECRET: &str = "canary-jwt-secret-canary-jwt-secret";
const PARENT: &str = "00-abababababababababababababababab-b7ad6b7169203331-01";
const TRACES_SECRET: &str = "canary-traces-key";
const S3_SECRET: &str = "canary-s3-secret-access-key";

struct Logged {
    child: Child,
    base: String,
    http: Client,
    admin: String,
    folder: tempfile::TempDir,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logged {
    /// Logs all, and sends all traces to `collector`.
    fn start(collector: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_vellum"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--data-dir"])
            .arg(folder.path().join("data"))
            .env_clear()
            .env("VELLUM_JWT__SECRET", JWT_SECRET)
            .env("VELLUM_TRACES__ENDPOINT", collector)
            .env("VELLUM_TRACES__HEADERS__KEY", TRACES_SECRET)
            .env("VELLUM_STORAGE__AWAY__KIND", "s3")
            .env("VELLUM_STORAGE__AWAY__BUCKET", "canary")
            .env("VELLUM_STORAGE__AWAY__ENDPOINT", "http://127.0.0.1:9")
            .env("VELLUM_STORAGE__AWAY__ACCESS_KEY_ID", "id")
            .env("VELLUM_STORAGE__AWAY__SECRET_ACCESS_KEY", S3_SECRET)
            .env("VELLUM_STORAGE__AWAY__TIMEOUT_SECONDS", "1")
            .env("VELLUM_GRAPHQL__TIMEOUT_SECONDS", "3")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let explore = lines.map(|line| line.expect("text")).find(|line| line.contains("/graphql"));
        let explore = explore.expect("it says where it is");
        let base = explore.split_whitespace().last().expect("a URL").trim_end_matches("/graphql").to_owned();
        let admin = std::fs::read_to_string(folder.path().join("data/admin-token")).expect("a token");
        Self { child, base, http: Client::new(), admin: admin.trim().to_owned(), folder }
    }

    async fn ask(&self, token: &str, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(format!("{}/graphql", self.base)).bearer_auth(token).json(&body);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn get(&self, url: &str) -> Response {
        self.http.get(url).send().await.expect("an answer")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a text")
    }
}

/// What follows `signature=` in a URL.
fn signature(url: &str) -> String {
    let found = url.split("ignature=").nth(1).expect("a signature");
    found.split('&').next().unwrap_or(found).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_traced_whatever_happens() {
    let (collector, address) = Collector::start().await;
    let mut server = Logged::start(&address);
    let mut secrets = [JWT_SECRET, S3_SECRET, TRACES_SECRET, &server.admin].map(ToOwned::to_owned).to_vec();
    let create = "mutation { createToken(input: { name: \"x\", role: ADMIN }) { secret } }";
    let made = server.ask(&server.admin, create, json!({})).await;
    let token = text(&made["data"]["createToken"]["secret"]).to_owned();
    secrets.push(token.clone());
    for (number, guess) in
        ["vellum_canaryguess", "canary.jwt.guess", &format!("{token}canary")].iter().enumerate()
    {
        assert!(server.ask(guess, "{ viewer { role } }", json!({})).await["errors"].is_array(), "{number}");
        secrets.push((*guess).to_owned());
    }

    let start = "mutation { startUpload(input: { path: \"a\", visibility: PRIVATE }) { intent { id target { url } } } }";
    let started = server.ask(&token, start, json!({})).await["data"]["startUpload"]["intent"].take();
    let url = text(&started["target"]["url"]);
    secrets.push(signature(url));
    assert!(server.http.put(url).body(HOPPER).send().await.expect("an answer").status().is_success());
    let finish =
        "mutation($id: ID!) { finishUpload(input: { intentId: $id }) { version { signedUrl { url } } } }";
    let finished = server.ask(&token, finish, json!({ "id": started["id"] })).await;
    let url = text(&finished["data"]["finishUpload"]["version"]["signedUrl"]["url"]);
    secrets.push(signature(url));
    assert_eq!(server.get(url).await.status(), 200);
    assert_eq!(server.get(&url.replace("inline", "attachment")).await.status(), 403);
    let file = server.ask(&token, "mutation { generateUploadUrl { url } }", json!({})).await;
    secrets.push(signature(text(&file["data"]["generateUploadUrl"]["url"])));

    // A stranger does not say to which trace a request belongs.
    let ask = server.http.get(format!("{}/assets/none", server.base)).header("traceparent", PARENT);
    assert_eq!(ask.send().await.expect("an answer").status(), 404);

    let address = server.base.trim_start_matches("http://");
    let mut socket = Socket::open(address, "graphql-transport-ws", &[]).await.expect("a socket");
    let payload = json!({ "Authorization": format!("Bearer {token}") });
    socket.send(json!({ "type": "connection_init", "payload": payload })).await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", create, json!({})).await;
    secrets.push(text(&socket.event().await["createToken"]["secret"]).to_owned());
    // A store that does not answer, with all that is said of why.
    let away =
        "mutation { setDefaultStorage(input: { backend: \"away\" }) { storage { default { name } } } }";
    let refused = server.ask(&token, away, json!({})).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "STORAGE_UNAVAILABLE", "{refused}");

    // The last traces are sent.
    let id = server.child.id().to_string();
    assert!(Command::new("kill").arg(id).status().expect("it runs").success());
    server.child.wait().expect("it ends");
    let (_, traces) = collector.sent();
    assert!(contains(&traces, b"POST /graphql") && contains(&traces, b"/assets/none"), "there are traces");
    assert!(!contains(&traces, &[0xab; 16]), "a trace that a stranger made up");
    let log = server.log();
    assert!(log.len() > 10_000 && log.contains("TRACE"), "much is logged: {}", log.len());
    for secret in secrets {
        let at = log.find(&secret).map(|at| log[..at].rfind('\n').map_or(0, |start| start + 1));
        let line = at.map(|start| log[start..].lines().next().unwrap_or_default().to_owned());
        assert_eq!(line, None, "a line with {secret}");
        assert!(!contains(&traces, secret.as_bytes()), "a trace with {secret}");
    }
}

#[test]
fn the_password_of_a_database_is_not_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_vellum"))
        .args([
            "migrate",
            "--log",
            "trace",
            "--database-url",
            "postgres://user:canary-password@127.0.0.1:9/none",
        ])
        .args(["--data-dir", tempfile::tempdir().expect("a folder").path().to_str().expect("a text")])
        .env_clear()
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot connect"), "{said}");
    assert!(!said.contains("canary-password"), "{said}");
}
