//! Answers that nobody reads.

use std::time::Duration;

use reqwest::Response;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use vellum::config::Flags;

use crate::support::{HOPPER, Socket, TestServer, text};

/// Characters of the asset's metadata, and how often they are asked for: more than the system keeps for a connection.
const CHARACTERS: usize = 60_000;
const TIMES: usize = 250;
const LENGTH: usize = 16 << 20;
const ADDRESS: &str = "198.51.100.1";

fn query() -> String {
    let fields: String = (0..TIMES).map(|number| format!("m{number}: metadata ")).collect();
    format!("{{ asset(path: \"words\") {{ {fields} }} }}")
}

struct Asking {
    server: TestServer,
}

impl Asking {
    /// An asset of 16 MiB that has much to tell, and a photo.
    async fn open() -> Self {
        let settings = "trusted_proxies = [\"127.0.0.1\"]\nmax_buffered_bytes_per_client = 1048576\n";
        let mut server = TestServer::with(Flags::default(), settings).await;
        server.token = Some(server.admin_token());
        server.upload(json!({ "path": "words", "filename": "words.txt" }), &vec![b'a'; LENGTH]).await;
        let set = "mutation($metadata: JSON) { updateAsset(input: { asset: { path: \"words\" }, metadata: $metadata }) { asset { id } } }";
        server.gql(set, json!({ "metadata": { "x": "a".repeat(CHARACTERS) } })).await;
        server.upload(json!({ "path": "photo" }), HOPPER).await;
        server.token = None;
        Self { server }
    }

    async fn ask(&self, headers: &[(&str, &str)]) -> Response {
        self.ask_for(&query(), headers).await
    }

    async fn ask_for(&self, query: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.server.client.post(self.server.url("/graphql")).json(&json!({ "query": query }));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer")
    }

    /// A connection that asks and does not read what it is answered.
    async fn stalled(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let mut stream =
            socket.connect(self.server.address.parse().expect("an address")).await.expect("a connection");
        let body = json!({ "query": query() }).to_string();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {ADDRESS}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.expect("it is sent");
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        stream
    }

    /// Asks until it is answered with this status.
    async fn until(&self, status: u16) -> Response {
        for _ in 0..500 {
            let answer = self.ask(&[("x-forwarded-for", ADDRESS)]).await;
            if answer.status() == status {
                return answer;
            }
            drop(answer.bytes().await.expect("it is read"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it is never {status}");
    }
}

#[tokio::test]
async fn texts_for_strangers_are_shorter() {
    let asking = Asking::open().await;
    let query = "{ asset(path: \"words\") { publishedVersion { text(maxBytes: 16777216) } } }";
    let refused = asking.ask_for(query, &[]).await.json::<serde_json::Value>().await.expect("JSON");
    assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    let known = format!("Bearer {}", asking.server.admin_token());
    let whole = asking.ask_for(query, &[("authorization", &known)]).await;
    let whole = whole.json::<serde_json::Value>().await.expect("JSON");
    assert_eq!(text(&whole["data"]["asset"]["publishedVersion"]["text"]).len(), LENGTH);
}

#[tokio::test]
async fn an_address_that_does_not_read_has_so_much_in_memory_and_others_notice_nothing() {
    let asking = Asking::open().await;
    let server = &asking.server;
    let stalled = asking.stalled().await;
    let refused = asking.until(429).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    let refused: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(refused["errors"][0]["extensions"]["code"], "RATE_LIMITED");

    // Files that are short enough to be in memory as a whole are answers like others; longer ones are read as they are taken.
    let from = [("x-forwarded-for", ADDRESS)];
    assert_eq!(server.get("/assets/photo", &from).await.status(), 429);
    let words = server.get("/assets/words", &from).await;
    assert_eq!((words.status().as_u16(), words.bytes().await.expect("bytes").len()), (200, LENGTH));
    let stream = asking.ask(&[("x-forwarded-for", ADDRESS), ("accept", "text/event-stream")]).await;
    let told = stream.text().await.expect("a text");
    assert!(told.contains("RATE_LIMITED") && told.ends_with("event: complete\ndata:\n\n"), "{told}");
    let watching = query().replacen('{', "subscription {", 1);
    let stream =
        asking.ask_for(&watching, &[("x-forwarded-for", ADDRESS), ("accept", "text/event-stream")]).await;
    let told = stream.text().await.expect("a text");
    assert!(
        !told.contains("event:"),
        "it ends, and is not said to be complete: the client comes again: {told}"
    );
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &from).await.expect("a socket");
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.send(json!({ "type": "subscribe", "id": "1", "payload": { "query": query() } })).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("RATE_LIMITED"))
    );

    let short = server.get("/graphql?query=%7Bviewer%7Brole%7D%7D", &from).await;
    assert_eq!(short.status(), 200, "what is short costs nothing");
    assert_eq!(asking.ask(&[("x-forwarded-for", "198.51.100.2")]).await.status(), 200, "another address");
    let known = format!("Bearer {}", server.admin_token());
    let known = [("x-forwarded-for", ADDRESS), ("authorization", known.as_str())];
    let known = asking.ask(&known).await;
    let answer: serde_json::Value = known.json().await.expect("JSON");
    let told = &answer["data"]["asset"][format!("m{}", TIMES - 1)]["x"];
    assert_eq!(text(told).len(), CHARACTERS, "who is known");

    drop(stalled);
    asking.until(200).await;
}
