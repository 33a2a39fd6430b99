//! Clients that hold what they can: memory, connections, places of uploads. Each test drives the real program.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{FINISH, HOPPER, Process, text};

/// Memory that all attackers together may add, in KiB.
const MOST_KIB: u64 = 256 * 1024;

/// A server that is attacked, and a client that it knows.
struct Attacked {
    process: Process,
    _folder: tempfile::TempDir,
    token: String,
    client: Client,
}

impl Attacked {
    async fn open(environment: &[(&str, &str)], descriptors: Option<u32>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let process = Process::serve_openly(&data, environment, descriptors);
        let token = std::fs::read_to_string(data.join("admin-token")).expect("a token").trim().to_owned();
        let attacked = Self { process, _folder: folder, token, client: Client::new() };
        attacked.upload("photo", HOPPER).await;
        attacked
    }

    fn address(&self) -> &str {
        self.process.base.trim_start_matches("http://")
    }

    async fn ask(&self, query: &str, variables: Value) -> Value {
        let request = self.client.post(format!("{}/graphql", self.process.base)).bearer_auth(&self.token);
        let answer = request.json(&json!({ "query": query, "variables": variables })).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    async fn start_upload(&self, path: &str) -> Value {
        let query = "mutation($path: String!) { startUpload(input: { path: $path }) { intent { id target { url } } } }";
        self.ask(query, json!({ "path": path })).await["data"]["startUpload"]["intent"].take()
    }

    async fn upload(&self, path: &str, bytes: &[u8]) {
        let intent = self.start_upload(path).await;
        let url = text(&intent["target"]["url"]);
        let sent = self.client.put(url).body(bytes.to_vec()).send().await.expect("an answer");
        assert_eq!(sent.status(), StatusCode::OK, "{}", sent.text().await.expect("a text"));
        let finished = self.ask(FINISH, json!({ "id": intent["id"] })).await;
        assert!(finished.get("errors").is_none(), "{finished}");
    }

    /// A client with a token notices nothing.
    async fn serves_who_is_known(&self) {
        let answer = self.ask("{ asset(path: \"photo\") { publishedVersion { number } } }", json!({})).await;
        assert_eq!(answer["data"]["asset"]["publishedVersion"]["number"], 1, "{answer}");
        let photo = self.client.get(format!("{}/assets/photo", self.process.base)).send().await;
        assert_eq!(photo.expect("an answer").bytes().await.expect("bytes"), HOPPER);
    }

    /// A connection of one of forty addresses.
    async fn connect(&self, number: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = format!("127.0.0.{}:0", 10 + number % 40).parse().expect("an address");
        socket.bind(from).expect("it is of this machine");
        socket.connect(self.address().parse().expect("an address")).await.expect("a connection")
    }

    fn post(body: &str) -> String {
        format!(
            "POST /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// What comes on a connection until a moment passes without anything.
async fn told(stream: &mut TcpStream, patience: Duration) -> String {
    let mut answer = Vec::new();
    let mut space = vec![0; 64 * 1024];
    while let Ok(Ok(count)) = tokio::time::timeout(patience, stream.read(&mut space)).await {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&space[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A body of about a megabyte whose variables nobody declared, with many searches.
fn bomb() -> String {
    let searches: String = (0..40)
        .map(|n| format!("s{n}: assets(first: 1, filter: {{ search: \\\"x{n}\\\" }}) {{ nodes {{ id }} }} "))
        .collect();
    let values = vec![r#"{"a":1}"#; 120_000].join(",");
    format!(r#"{{"query":"{{ {searches} }}","variables":{{"x":[{values}]}}}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_with_many_values_take_little_memory_whoever_waits() {
    let attacked = Attacked::open(&[], None).await;
    let request = Attacked::post(&bomb());
    let before = attacked.process.begin_peak();
    let mut streams = Vec::new();
    for number in 0..80 {
        let mut stream = attacked.connect(number).await;
        // Some are refused before they have sent it all.
        let _ = stream.write_all(request.as_bytes()).await;
        streams.push(stream);
    }
    attacked.serves_who_is_known().await;
    let mut statuses = std::collections::BTreeMap::<String, usize>::new();
    for stream in &mut streams {
        let answer = told(stream, Duration::from_secs(60)).await;
        let status = answer.split(' ').nth(1).unwrap_or("none").to_owned();
        if status == "429" {
            assert!(answer.to_ascii_lowercase().contains("retry-after: 5"), "{answer}");
        }
        *statuses.entry(status).or_default() += 1;
    }
    let rose = attacked.process.peak_kib() - before;
    assert!(rose < MOST_KIB, "it rose by {rose} KiB: {statuses:?}");
    assert!(statuses.keys().all(|status| ["200", "429"].contains(&status.as_str())), "{statuses:?}");
    assert!(statuses.get("200").is_some_and(|count| *count >= 20), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_heads_that_do_not_end_take_little_memory() {
    let attacked = Attacked::open(&[], None).await;
    let request = Attacked::post(&bomb());
    let before = attacked.process.begin_peak();
    let mut streams = Vec::new();
    for number in 0..200 {
        let mut stream = attacked.connect(number).await;
        let unfinished = &request.as_bytes()[..request.len() - 100];
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.write_all(unfinished)).await;
        streams.push(stream);
        let mut stream = attacked.connect(number).await;
        let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}", "x: y\r\n".repeat(20_000));
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.write_all(head.as_bytes())).await;
        streams.push(stream);
    }
    attacked.serves_who_is_known().await;
    let rose = attacked.process.peak_kib() - before;
    assert!(rose < MOST_KIB, "it rose by {rose} KiB");
}

/// A masked frame, of which the mask changes nothing.
fn frame(opcode: u8, payload: &[u8], claimed: usize) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if claimed < 126 {
        frame.push(0x80 | u8::try_from(claimed).expect("short"));
    } else {
        frame.push(0x80 | 127);
        frame.extend_from_slice(&(claimed as u64).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

async fn websocket(attacked: &Attacked, number: usize) -> TcpStream {
    let mut stream = attacked.connect(number).await;
    let handshake = "GET /graphql HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
        sec-websocket-protocol: graphql-transport-ws\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.expect("it is sent");
    let init = br#"{"type":"connection_init"}"#;
    stream.write_all(&frame(1, init, init.len())).await.expect("it is sent");
    let mut answer = String::new();
    while !answer.contains("connection_ack") {
        let more = told(&mut stream, Duration::from_millis(50)).await;
        answer += &more;
        assert!(!more.contains("HTTP/1.1 4") && !more.contains("HTTP/1.1 5"), "{answer}");
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_with_long_messages_take_little_memory() {
    let attacked = Attacked::open(&[], None).await;
    let mut streams = Vec::new();
    for number in 0..200 {
        streams.push(websocket(&attacked, number).await);
    }
    let before = attacked.process.begin_peak();
    let filler = "y".repeat(1_000_000);
    let ping = format!(r#"{{"type":"ping","payload":{{"x":"{filler}"}}}}"#);
    for (number, stream) in streams.iter_mut().enumerate() {
        // A whole message, and one that never ends.
        let message = match number % 2 {
            0 => frame(1, ping.as_bytes(), ping.len()),
            _ => frame(1, &ping.as_bytes()[..ping.len() - 10], ping.len()),
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&message)).await;
    }
    attacked.serves_who_is_known().await;
    let rose = attacked.process.peak_kib() - before;
    assert!(rose < MOST_KIB, "it rose by {rose} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_a_known_client_does_not_read_take_little_memory() {
    let attacked = Attacked::open(&[], None).await;
    attacked.upload("words", &vec![b'a'; 16 << 20]).await;
    let made = "mutation { createToken(input: { name: \"reader\", role: VIEWER }) { secret } }";
    let made = attacked.ask(made, json!({})).await;
    let viewer = text(&made["data"]["createToken"]["secret"]);
    let body =
        json!({ "query": "{ asset(path: \"words\") { publishedVersion { text(maxBytes: 16777216) } } }" });
    let body = body.to_string();
    let request =
        Attacked::post(&body).replacen("host:", &format!("authorization: Bearer {viewer}\r\nhost:"), 1);
    let before = attacked.process.begin_peak();
    let mut streams = Vec::new();
    for number in 0..60 {
        let mut stream = attacked.connect(number).await;
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        streams.push(stream);
    }
    // Each has been answered once its first byte is there.
    for stream in &mut streams {
        let mut first = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut first)).await;
        assert_eq!(read.expect("in time").expect("an answer"), 1);
    }
    attacked.serves_who_is_known().await;
    let rose = attacked.process.peak_kib() - before;
    assert!(rose < MOST_KIB, "it rose by {rose} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_leave_descriptors_to_others() {
    let mut attacked = Attacked::open(&[], Some(256)).await;
    let mut silent = Vec::new();
    for number in 0..360 {
        // All of one address; some say the beginning of something.
        let mut stream = TcpStream::connect(attacked.address()).await.expect("the system takes it");
        if number % 3 == 0 {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
        }
        silent.push(stream);
    }
    for number in 0..5 {
        attacked.serves_who_is_known().await;
        attacked.upload(&format!("other-{number}"), HOPPER).await;
        // Also on a new connection.
        attacked.client = Client::new();
        attacked.serves_who_is_known().await;
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_uploads_keep_nobody_from_uploading() {
    let attacked = Attacked::open(&[], None).await;
    let head = |intent: &Value| {
        let path = text(&intent["target"]["url"]).trim_start_matches(&attacked.process.base).to_owned();
        format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\na")
    };
    let mut slow = Vec::new();
    // Many bodies for one intent, and one for each of others.
    let one = attacked.start_upload("slow").await;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(attacked.address()).await.expect("a connection");
        stream.write_all(head(&one).as_bytes()).await.expect("it is sent");
        slow.push(stream);
    }
    for number in 0..100 {
        let intent = attacked.start_upload(&format!("slow-{number}")).await;
        let mut stream = TcpStream::connect(attacked.address()).await.expect("a connection");
        stream.write_all(head(&intent).as_bytes()).await.expect("it is sent");
        slow.push(stream);
    }
    let began = Instant::now();
    attacked.upload("fast", HOPPER).await;
    assert!(began.elapsed() < Duration::from_secs(5), "it had to wait for {:?}", began.elapsed());
    // Of the bodies for one intent the last is left.
    let mut left = Vec::new();
    for mut stream in slow.drain(..40) {
        let answer = told(&mut stream, Duration::from_secs(1)).await;
        if !answer.contains("UPLOAD_INCOMPLETE") {
            left.push(stream);
        }
    }
    let [mut last] = <[TcpStream; 1]>::try_from(left).expect("one is left");
    let cancel = "mutation($id: ID!) { cancelUpload(input: { intentId: $id }) { intent { status } } }";
    let cancelled = attacked.ask(cancel, json!({ "id": one["id"] })).await;
    assert!(cancelled.get("errors").is_none(), "{cancelled}");
    let answer = told(&mut last, Duration::from_secs(5)).await;
    assert!(answer.contains("UPLOAD_CANCELLED"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_for_which_there_is_no_place_is_told_when_to_come_again() {
    let attacked = Attacked::open(&[("VELLUM_MAX_CONCURRENT_UPLOADS", "1")], None).await;
    let (first, second) = (attacked.start_upload("first").await, attacked.start_upload("second").await);
    let path = text(&first["target"]["url"]).trim_start_matches(&attacked.process.base).to_owned();
    let mut slow = TcpStream::connect(attacked.address()).await.expect("a connection");
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\na");
    slow.write_all(head.as_bytes()).await.expect("it is sent");
    let send = || attacked.client.put(text(&second["target"]["url"])).body(HOPPER).send();
    let refused = loop {
        let answer = send().await.expect("an answer");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
    };
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(refused.json::<Value>().await.expect("JSON")["code"], "RATE_LIMITED");
}
