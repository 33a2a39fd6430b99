//! A bucket for tests: a Garage where `VELLUM_TEST_GARAGE` names the program, else s3s-fs in this process, which is
//! quick and knows the protocol, but neither refuses damaged bytes nor keeps races out.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleError;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;

const KEY: &str = "GK000000000000000000000000";
const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000001";

/// A store with a bucket `vellum`.
#[derive(Clone)]
pub struct Bucket {
    pub endpoint: String,
    region: &'static str,
    /// Each test has its own.
    prefix: String,
    /// Whether it refuses what a good store refuses.
    pub strict: bool,
    /// What goes wrong; of a Garage nothing does.
    pub faults: Faults,
    _folder: Option<Arc<TempDir>>,
}

impl Bucket {
    /// A store of its own, or a corner of its own in the one that all tests share.
    pub async fn open() -> Self {
        match garage() {
            Some(endpoint) => {
                let prefix = uuid::Uuid::new_v4().simple().to_string();
                let faults = Faults::default();
                Self { endpoint, region: "garage", prefix, strict: true, faults, _folder: None }
            }
            None => Self::in_process().await,
        }
    }

    /// s3s-fs, with faults on demand.
    pub async fn in_process() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("vellum")).expect("a bucket");
        let files = s3s_fs::FileSystem::new(folder.path()).expect("a store");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let refuse = |error: s3s::HttpError| async move {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")).into_response()
        };
        let faults = Faults::default();
        let routes = Router::new()
            .fallback_service(HandleError::new(service.build(), refuse))
            .layer(from_fn_with_state(faults.clone(), Faults::apply));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let folder = Some(Arc::new(folder));
        Self { endpoint, region: "us-east-1", prefix: "p".to_owned(), strict: false, faults, _folder: folder }
    }

    /// A settings section for a backend of this name.
    pub fn settings(&self, name: &str, more: &str) -> String {
        let Self { endpoint, region, prefix, .. } = self;
        format!(
            "[storage.{name}]\nkind = \"s3\"\nbucket = \"vellum\"\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\n\
             prefix = \"{prefix}\"\naccess_key_id = \"{KEY}\"\nsecret_access_key = \"{SECRET}\"\n{more}\n"
        )
    }
}

/// Looking into the bucket, and meddling with it.
impl Bucket {
    fn client(&self) -> Client {
        let credentials = Credentials::new(KEY, SECRET, None, None, "tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(self.region))
            .credentials_provider(credentials)
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        Client::from_conf(config)
    }

    /// Every key below a part of the prefix.
    pub async fn keys(&self, part: &str) -> Vec<String> {
        let prefix = format!("{}/{part}", self.prefix);
        let listed = self.client().list_objects_v2().bucket("vellum").prefix(prefix).send().await;
        let listed = listed.expect("a list");
        listed.contents().iter().map(|object| object.key().expect("a key").to_owned()).collect()
    }

    /// What an object tells who reads it.
    pub async fn head(&self, key: &str) -> HeadObjectOutput {
        self.client().head_object().bucket("vellum").key(key).send().await.expect("an object")
    }

    /// Puts other bytes in the place of an object, or none.
    pub async fn replace(&self, key: &str, bytes: Option<&[u8]>) {
        let (client, bucket) = (self.client(), "vellum");
        match bytes {
            Some(bytes) => {
                let body = ByteStream::from(bytes.to_vec());
                client.put_object().bucket(bucket).key(key).body(body).send().await.expect("written");
            }
            None => {
                client.delete_object().bucket(bucket).key(key).send().await.expect("removed");
            }
        }
    }

    /// Ends all uploads in parts that are under way.
    pub async fn end_uploads(&self) {
        let client = self.client();
        let listed = client.list_multipart_uploads().bucket("vellum").prefix(&self.prefix).send().await;
        for upload in listed.expect("a list").uploads() {
            let (key, id) = (upload.key().expect("a key"), upload.upload_id().expect("an id"));
            let ended = client.abort_multipart_upload().bucket("vellum").key(key).upload_id(id).send().await;
            ended.expect("it ends");
        }
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Lets pages of an origin send bytes.
    pub async fn allow_pages_of(&self, origin: &str) {
        let rule = CorsRule::builder()
            .allowed_origins(origin)
            .allowed_methods("PUT")
            .allowed_methods("GET")
            .allowed_headers("*")
            .expose_headers("ETag");
        let rules = CorsConfiguration::builder().cors_rules(rule.build().expect("a rule"));
        let request = self.client().put_bucket_cors().bucket("vellum");
        request.cors_configuration(rules.build().expect("rules")).send().await.expect("they are taken");
    }

    /// Bytes of objects that the store sent so far.
    pub fn bytes_read(&self) -> usize {
        self.faults.1.load(Ordering::Relaxed)
    }
}

/// What goes wrong with the next requests of some kind.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Planned>>>, Arc<AtomicUsize>);

#[derive(Clone)]
struct Planned {
    method: Method,
    part_of_url: &'static str,
    fault: Fault,
    times: u32,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused before anything happens.
    Before,
    /// It happens, and the answer is a failure.
    After,
    /// It takes so long.
    Slow(Duration),
    /// The answer breaks off in its middle.
    CutShort,
    /// It is said to have happened, and did not.
    Lost,
}

impl Faults {
    /// Lets `fault` befall the next `times` requests by `method` with `part_of_url` in their URL.
    pub fn plan(&self, method: Method, part_of_url: &'static str, fault: Fault, times: u32) {
        let planned = Planned { method, part_of_url, fault, times };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(planned);
    }

    /// How many requests are still to be befallen.
    pub fn left(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|planned| planned.times).sum()
    }

    /// All is well again.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn next(&self, request: &Request) -> Option<Fault> {
        let url = request.uri().to_string();
        let mut planned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |plan: &&mut Planned| {
            plan.times > 0 && plan.method == request.method() && url.contains(plan.part_of_url)
        };
        let plan = planned.iter_mut().find(fits)?;
        plan.times -= 1;
        Some(plan.fault)
    }

    async fn apply(State(faults): State<Self>, request: Request, next: Next) -> Response {
        let reads = request.method() == Method::GET;
        match faults.next(&request) {
            None => {
                let response = next.run(request).await;
                let length = response
                    .headers()
                    .get("content-length")
                    .and_then(|text| text.to_str().ok()?.parse().ok());
                faults.1.fetch_add(length.filter(|_| reads).unwrap_or(0), Ordering::Relaxed);
                response
            }
            Some(Fault::Before) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Some(Fault::After) => {
                next.run(request).await;
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                next.run(request).await
            }
            Some(Fault::CutShort) => cut_short(next.run(request).await).await,
            Some(Fault::Lost) => StatusCode::NO_CONTENT.into_response(),
        }
    }
}

/// The first half of a body under the length of the whole.
async fn cut_short(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let half = bytes.slice(..bytes.len() / 2);
    let broken = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("cut short"))]);
    Response::from_parts(parts, Body::from_stream(broken))
}

/// The program that `VELLUM_TEST_GARAGE` names.
#[expect(clippy::disallowed_methods, reason = "the rule is for the product; this is for tests alone")]
fn program() -> Option<String> {
    std::env::var("VELLUM_TEST_GARAGE").ok()
}

/// The Garage that all tests of this process share; none without `VELLUM_TEST_GARAGE`.
fn garage() -> Option<String> {
    static GARAGE: OnceLock<Option<Garage>> = OnceLock::new();
    let garage = GARAGE.get_or_init(|| program().map(|_| Garage::start()));
    garage.as_ref().map(|garage| garage.endpoint.clone())
}

/// A script of the project, which ends when the thread does that starts it.
fn script(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name));
    command
}

/// A Garage of three nodes that keeps everything three times.
pub struct Nodes {
    port: u16,
    processes: Vec<String>,
    script: Child,
    _folder: TempDir,
}

impl Nodes {
    /// Starts it; none without `VELLUM_TEST_GARAGE`.
    pub fn start() -> Option<Self> {
        program()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports(30);
        let mut script = script("s3-cluster")
            .arg(folder.path())
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let output = script.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let processes: Vec<String> = line.split_whitespace().skip(1).map(ToOwned::to_owned).collect();
        assert_eq!(processes.len(), 3, "{line}");
        Some(Self { port, processes, script, _folder: folder })
    }

    /// Its bucket, by way of the first node.
    pub fn bucket(&self) -> Bucket {
        Bucket {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: "garage",
            prefix: "cluster".to_owned(),
            strict: true,
            faults: Faults::default(),
            _folder: None,
        }
    }

    /// Kills the last node.
    pub fn kill_one(&mut self) {
        let node = self.processes.pop().expect("a node");
        let killed = Command::new("kill").args(["-KILL", &node]).status().expect("it runs");
        assert!(killed.success());
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // The nodes end with it.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// A Garage of one node. It ends with this process.
struct Garage {
    endpoint: String,
    _folder: TempDir,
}

impl Garage {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports(3);
        let log = folder.path().join("log");
        let mut command = script("s3");
        command
            .arg(folder.path().join("garage"))
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"));
        // The signal comes when the thread ends that started it.
        std::thread::spawn(move || {
            let ended = command.status().expect("Garage starts");
            panic!("Garage ended: {ended}");
        });
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Self { endpoint: format!("http://127.0.0.1:{port}"), _folder: folder };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("Garage does not answer: {}", std::fs::read_to_string(log).expect("a log"));
    }
}

/// The first of so many ports that nobody has.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = 20_000 + (std::process::id() % 300) * 100;
    loop {
        let first = own + NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let first = u16::try_from(first).expect("a port");
        if (first..first + count).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}
