//! Runs the real server on a free port, with a database and a folder of its own, and talks to it as clients do.

mod bucket;
mod cluster;
mod collector;
mod logs;
mod process;
mod shown;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use vellum::app::{App, Clock};
use vellum::config::{Config, Flags};
use vellum::domain::{gc, scope, upload};
use vellum::http::{Auth, Server, serve};

pub use bucket::{Bucket, Fault, Nodes};
pub use cluster::Cluster;
pub use collector::{Collector, contains};
pub use process::Process;
pub use socket::Socket;

/// A photo as a camera made it.
pub const HOPPER: &[u8] = include_bytes!("../../../examples/photos/hopper.jpg");
/// Another one.
pub const ROCKET: &[u8] = include_bytes!("../../../examples/photos/rocket.jpg");

/// A server with a library of its own. It goes away with this.
pub struct TestServer {
    pub app: App,
    pub clock: Clock,
    pub address: String,
    pub client: Client,
    pub folder: TempDir,
    /// Sent as `Authorization` when set.
    pub token: Option<String>,
    database: Option<PostgresDatabase>,
}

impl TestServer {
    /// A server in dev mode: everyone is admin.
    pub async fn start() -> Self {
        Self::with(Flags { dev: true, ..Flags::default() }, "").await
    }

    /// A server with settings of its own: flags, and a settings file.
    pub async fn with(flags: Flags, file: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = PostgresDatabase::create().await;
        let settings = folder.path().join("vellum.toml");
        std::fs::write(&settings, file).expect("a settings file");
        let flags = Flags {
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(folder.path().join("data")),
            database_url: database.as_ref().map(|database| database.url.clone()),
            ..flags
        };
        let config = Config::load(Some(&settings), &flags).expect("settings");
        Self::open(config, folder, database).await
    }

    /// A server in this process on what another one left in `folder`, in a folder `data`, on SQLite.
    pub async fn adopt(folder: TempDir) -> Self {
        Self::adopt_as(folder, None).await
    }

    /// The same, with a settings file.
    pub async fn adopt_with(folder: TempDir, settings: &Path) -> Self {
        Self::adopt_as(folder, Some(settings)).await
    }

    async fn adopt_as(folder: TempDir, settings: Option<&Path>) -> Self {
        let flags = Flags {
            dev: true,
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(folder.path().join("data")),
            ..Flags::default()
        };
        let config = Config::load(settings, &flags).expect("settings");
        Self::open(config, folder, None).await
    }

    /// Another server on the same database and bytes; none where the database is SQLite, which is one server's.
    pub async fn beside(&self) -> Option<Self> {
        self.database.as_ref()?;
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self::open(self.app.config().clone(), folder, None).await)
    }

    /// Stops the server, as a restart would, and starts another one on what it left.
    pub async fn restart(self) -> Self {
        self.restart_after(|| {}).await
    }

    /// The same, with work while no server runs.
    pub async fn restart_after(mut self, work: impl FnOnce()) -> Self {
        let config = self.app.config().clone();
        self.app.close(std::time::Duration::from_secs(10)).await;
        work();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        let database = self.database.take();
        Self::open(config, folder, database).await
    }

    async fn open(config: Config, folder: TempDir, database: Option<PostgresDatabase>) -> Self {
        logs::read_along();
        let listener = TcpListener::bind(config.listen).await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let clock = Clock::system();
        let public_url = format!("http://{address}");
        let app = App::open(config, public_url.clone(), clock.clone()).await.expect("a library");
        let auth = Auth::open(&app).expect("a token");
        tokio::spawn(serve(Server::new(app.clone(), auth).expect("a server"), listener));
        // Redirects are told, not followed.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        Self { app, clock, address, client, folder, token: None, database }
    }

    /// The path of the library's folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The token that the first start made.
    pub fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin-token")).expect("a token").trim().to_owned()
    }

    /// An absolute URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request to a path or an absolute URL.
    pub async fn send(&self, method: Method, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let url = if url.starts_with("http") { url.to_owned() } else { self.url(url) };
        let mut request = self.client.request(method, url).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Response {
        self.send(Method::GET, url, headers, b"").await
    }

    /// What `/readyz` answers once it has this status: what was so a moment ago is told for a second.
    pub async fn readiness(&self, status: u16) -> Response {
        loop {
            let ready = self.get("/readyz", &[]).await;
            if ready.status() == status {
                return ready;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// The whole answer to a GraphQL request.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let mut request = self.client.post(self.url("/graphql")).json(&body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The data of a GraphQL request that has no errors.
    pub async fn gql(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        answer["data"].take()
    }

    /// The first error of a GraphQL request.
    pub async fn error(&self, query: &str, variables: Value) -> Value {
        let answer = self.ask(query, variables).await;
        let error = answer["errors"][0].clone();
        assert!(error["extensions"]["code"].is_string(), "{query}: {answer}");
        error
    }

    /// Asserts that a request is refused with a code, and with a field where it is the caller's mistake.
    pub async fn refuses(&self, query: &str, variables: Value, code: &str, field: Option<&str>) -> Value {
        let error = self.error(query, variables.clone()).await;
        assert_eq!(error["extensions"]["code"], code, "{query} {variables}: {error}");
        if let Some(field) = field {
            assert_eq!(error["extensions"]["field"], field, "{query} {variables}: {error}");
        }
        error
    }

    /// Starts an upload; answers its intent.
    pub async fn start_upload(&self, input: Value) -> Value {
        let query = "mutation($input: StartUploadInput!) { startUpload(input: $input) { intent {
            id status expiresAt target { method url headers { name value } } } } }";
        self.gql(query, json!({ "input": input })).await["startUpload"]["intent"].take()
    }

    /// Sends bytes to the target of an intent, exactly as it says.
    pub async fn send_bytes(&self, intent: &Value, bytes: &[u8]) -> Response {
        let target = &intent["target"];
        let method: Method = target["method"].as_str().expect("a method").parse().expect("a method");
        let headers = target["headers"].as_array().expect("headers").iter();
        let headers: Vec<_> = headers
            .map(|header| {
                (header["name"].as_str().expect("a name"), header["value"].as_str().expect("a value"))
            })
            .collect();
        self.send(method, target["url"].as_str().expect("a URL"), &headers, bytes).await
    }

    /// Finishes an upload; answers the payload.
    pub async fn finish_upload(&self, intent: &Value) -> Value {
        self.gql(FINISH, json!({ "id": intent["id"] })).await["finishUpload"].take()
    }

    /// A whole upload; answers what finishing it answered.
    pub async fn upload(&self, input: Value, bytes: &[u8]) -> Value {
        let intent = self.start_upload(input).await;
        let response = self.send_bytes(&intent, bytes).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.expect("a text"));
        self.finish_upload(&intent).await
    }

    /// Every entry of the changelog, page by page.
    pub async fn changelog(&self, page: usize) -> Vec<Value> {
        let query = "query($first: Int, $after: String) { changes(first: $first, after: $after) {
            nodes { cursor type path oldPath versionNumber sha256 } nextCursor pageInfo { hasNextPage } } }";
        let (mut entries, mut after) = (Vec::new(), Value::Null);
        loop {
            let mut answer =
                self.gql(query, json!({ "first": page, "after": after })).await["changes"].take();
            entries.extend(answer["nodes"].as_array().expect("nodes").iter().cloned());
            after = answer["nextCursor"].take();
            if answer["pageInfo"]["hasNextPage"] == false {
                return entries;
            }
        }
    }

    /// Types and paths of the entries, to compare with.
    pub async fn history(&self) -> Vec<String> {
        let entries = self.changelog(200).await;
        entries.iter().map(|entry| format!("{} {}", text(&entry["type"]), text(&entry["path"]))).collect()
    }

    /// Names of the files in a part of the data folder.
    pub fn stored(&self, part: &str) -> Vec<String> {
        let paths = files(&self.data().join(part));
        paths.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    /// Removes what nobody needs, as the server does from time to time.
    pub async fn sweep(&self) {
        while upload::sweep(&self.app).await.expect("swept") > 0 {}
        upload::tidy(&self.app).await;
        scope::tidy(&self.app).await.expect("tidied up");
        while gc::collect(&self.app).await.expect("collected") > 0 {}
    }

    /// A WebSocket that is ready for operations.
    pub async fn socket(&self) -> Socket {
        Socket::connect(&self.address, "graphql-transport-ws").await
    }
}

pub const FINISH: &str = "mutation($id: ID!) { finishUpload(input: { intentId: $id }) {
    version { id number state label filename contentType size sha256 url }
    asset { id path url revision publishedVersion { number } }
    changes { type path cursor versionNumber } } }";

/// Every file in a folder and below it.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// SHA-256 of every file in a folder and below it, sorted.
pub fn digests(folder: &Path) -> Vec<String> {
    let bytes = files(folder).into_iter().map(|path| std::fs::read(path).expect("bytes"));
    let mut digests: Vec<_> = bytes.map(|bytes| sha256(&bytes)).collect();
    digests.sort();
    digests
}

/// A text in an answer.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Waits until a condition holds, and fails when it never does.
pub async fn eventually(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), holds)
        .await
        .expect("the condition holds in time");
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the tests run on PostgreSQL.
pub fn on_postgres() -> bool {
    std::env::var_os("VELLUM_TEST_POSTGRES_URL").is_some()
}

/// A database on the PostgreSQL server that `VELLUM_TEST_POSTGRES_URL` names; without it tests use SQLite.
struct PostgresDatabase {
    url: String,
    admin_url: String,
    name: String,
}

impl PostgresDatabase {
    #[expect(clippy::disallowed_methods, reason = "the rule is for the product; this is for tests alone")]
    async fn create() -> Option<Self> {
        static ADMIN_URL: OnceLock<Option<String>> = OnceLock::new();
        let admin_url = ADMIN_URL.get_or_init(|| std::env::var("VELLUM_TEST_POSTGRES_URL").ok()).clone()?;
        let name = format!("vellum_test_{}", uuid::Uuid::new_v4().simple());
        execute(&admin_url, &format!("CREATE DATABASE {name}")).await;
        let (server, _) = admin_url.rsplit_once('/').expect("postgres://server/database");
        Some(Self { url: format!("{server}/{name}"), admin_url, name })
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        // A runtime of its own: the test's is going down.
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(execute(&admin_url, &format!("DROP DATABASE {name} WITH (FORCE)")));
        });
        let _ = dropping.join();
    }
}

async fn execute(url: &str, sql: &str) {
    use sea_orm::ConnectionTrait as _;
    let connection = sea_orm::Database::connect(url).await.expect("PostgreSQL answers");
    connection.execute_unprepared(sql).await.expect("the statement runs");
    connection.close().await.expect("closes");
}
