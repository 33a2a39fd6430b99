//! GraphQL over WebSocket, beyond what the conformance suite asks.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vellum::config::Flags;

use crate::support::{Process, Socket, TestServer};

#[tokio::test]
async fn the_older_protocol_is_spoken() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(&server.address, "graphql-ws").await;
    let start = |id: &str, query: &str| json!({ "type": "start", "id": id, "payload": { "query": query } });
    socket.send(start("1", "subscription { changes { changes { path } } }")).await;
    socket.send(start("2", "{ viewer { role } }")).await;
    let data = socket.next().await;
    assert_eq!(
        data,
        json!({ "type": "data", "id": "2", "payload": { "data": { "viewer": { "role": "ADMIN" } } } })
    );
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "2" }));
    server.gql("mutation { createFolder(input: { path: \"a\" }) { created } }", json!({})).await;
    let event = socket.next().await;
    assert_eq!(
        (&event["type"], &event["payload"]["data"]["changes"]["changes"]),
        (&json!("data"), &json!([{ "path": "a" }]))
    );
    socket.send(json!({ "type": "stop", "id": "1" })).await;
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "1" }));
    socket.send(start("3", "{ nope }")).await;
    assert_eq!(socket.next().await["type"], "error");
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let server = TestServer::start().await;
    let open = async |origin: &str| {
        Socket::open(&server.address, "graphql-transport-ws", &[("origin", origin)]).await
    };
    let refused = open("https://evil.example").await.err().expect("refused");
    assert!(refused.contains("403"), "{refused}");
    assert!(open(&format!("http://{}", server.address)).await.is_ok(), "our own page");
    assert!(open("http://localhost:5173").await.is_ok(), "a front end in development");
}

#[tokio::test]
async fn one_connection_has_a_bounded_number_of_operations() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let quiet = "subscription { changes(filter: { types: [] }) { cursor } }";
    for id in 0..=1_000 {
        socket.subscribe(&id.to_string(), quiet, json!({})).await;
    }
    let refused = socket.next().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("1000")));
    assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    socket.send(json!({ "type": "complete", "id": "7" })).await;
    socket.subscribe("again", "{ viewer { role } }", json!({})).await;
    assert_eq!(socket.event().await["viewer"]["role"], "ADMIN", "there is room again");
}

#[tokio::test]
async fn a_closing_handshake_is_finished() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    socket.close().await;
    assert_eq!(socket.close_code().await, 1000);
    let mut socket = Socket::connect(&server.address, "graphql-ws").await;
    socket.send(json!({ "type": "connection_terminate" })).await;
    assert_eq!(socket.close_code().await, 1000);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let server = TestServer::start().await;
    let mut deaf = server.socket().await;
    for id in 0..20 {
        deaf.subscribe(&id.to_string(), "subscription { changes { cursor changes { path } } }", json!({}))
            .await;
    }
    let mut other = server.socket().await;
    other.subscribe("1", "subscription { changes { changes { path } } }", json!({})).await;
    for number in 0..300 {
        let create = "mutation($path: String!) { createFolder(input: { path: $path }) { created } }";
        server.gql(create, json!({ "path": format!("{}/{number}", "x".repeat(200)) })).await;
    }
    let last = format!("{}/299", "x".repeat(200));
    loop {
        let mut event = other.event().await;
        let changes = event["changes"]["changes"].take();
        if changes.as_array().expect("changes").iter().any(|change| change["path"] == last) {
            break;
        }
    }
}

#[tokio::test]
async fn subscribers_are_told_to_go_when_the_server_stops() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    socket.subscribe("1", "subscription { changes { cursor } }", Value::Null).await;
    server.app.close(Duration::from_secs(5)).await;
    assert_eq!(socket.close_code().await, 1001);
}

#[tokio::test]
async fn the_process_has_a_bounded_number_of_subscribers() {
    let dev = Flags { dev: true, ..Flags::default() };
    let server = TestServer::with(dev, "max_connections = 2\nmax_operations = 3").await;
    let (mut one, mut two) = (server.socket().await, server.socket().await);
    let refused = Socket::open(&server.address, "graphql-transport-ws", &[]).await.err().expect("refused");
    assert!(refused.contains("503"), "{refused}");
    let quiet = "subscription { changes { cursor } }";
    let stream = server
        .client
        .post(server.url("/graphql"))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": quiet }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["retry-after"]),
        (503, &"5".parse().expect("a value"))
    );
    let body: Value = stream.json().await.expect("JSON");
    assert_eq!(body["errors"][0]["extensions"]["code"], "RATE_LIMITED");

    one.subscribe("1", quiet, json!({})).await;
    one.subscribe("2", quiet, json!({})).await;
    // An answer to each message comes in its turn.
    one.send(json!({ "type": "ping" })).await;
    assert_eq!(one.next().await["type"], "pong");
    two.subscribe("1", quiet, json!({})).await;
    two.subscribe("2", quiet, json!({})).await;
    let refused = two.next().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("2")));
    assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    two.send(json!({ "type": "complete", "id": "1" })).await;
    two.subscribe("2", "{ viewer { role } }", json!({})).await;
    assert_eq!(two.event().await["viewer"]["role"], "ADMIN", "there is room again");
    drop(one);
    // It has to notice that the other one left.
    while Socket::open(&server.address, "graphql-transport-ws", &[]).await.is_err() {}
}

#[tokio::test]
async fn a_flood_of_messages_is_ended() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for _ in 0..=50_000 {
        if socket.try_send(json!({ "type": "pong" })).await.is_none() {
            break;
        }
    }
    assert_eq!(socket.close_code().await, 4429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_subscriber_is_told_to_go_before_the_process_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::serve(&folder.path().join("data"));
    let address = process.base.trim_start_matches("http://").to_owned();
    let mut sockets = Vec::new();
    for _ in 0..200 {
        let mut socket = Socket::connect(&address, "graphql-transport-ws").await;
        socket.subscribe("1", "subscription { changes { cursor } }", json!({})).await;
        sockets.push(socket);
    }
    process.terminate();
    for mut socket in sockets {
        assert_eq!(socket.close_code().await, 1001);
    }
    assert!(process.ended().await.success());
}

/// What the server says when a client sends this after the handshake: the code of its close frame.
async fn close_code_after(server: &TestServer, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(&server.address).await.expect("a connection");
    let handshake = "GET /graphql HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
        sec-websocket-protocol: graphql-transport-ws\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let accepted = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(accepted.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{accepted}");
    stream.write_all(bytes).await.expect("it is sent");
    let mut told = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut told));
    let _ = reading.await.expect("it is closed");
    match told.as_slice() {
        [0x88, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_how() {
    let server = TestServer::start().await;
    for (what, bytes, code) in [
        ("a frame without a mask", &[0x81, 0x01, b'a'][..], 1002),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("a control frame in fragments", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        (
            "a control frame that is too long",
            &[[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0].as_slice(), &[7; 256]].concat(),
            1002,
        ),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("a text that is no UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
        ("a message that is too long", &[0x81, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0], 1009),
    ] {
        assert_eq!(close_code_after(&server, bytes).await, Some(code), "{what}");
    }
}

#[tokio::test]
async fn subscribers_who_leave_are_no_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let process = Process::serve_logging(&folder.path().join("data"), &log);
    let address = process.base.trim_start_matches("http://").to_owned();
    for _ in 0..5 {
        let mut socket = Socket::connect(&address, "graphql-transport-ws").await;
        socket.subscribe("1", "subscription { changes { cursor } }", json!({})).await;
        socket.subscribe("2", "subscription { asset(path: \"a\") { id } }", json!({})).await;
        socket.subscribe("3", "subscription { folder(path: \"\") { id } }", json!({})).await;
        let told: std::collections::BTreeSet<String> =
            [socket.next().await, socket.next().await].iter().map(|event| event["id"].to_string()).collect();
        assert!(told.contains("\"2\"") || told.contains("\"3\""), "{told:?}");
        drop(socket);
    }
    process.terminate();
    let mut process = process;
    process.ended().await;
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("INFO") && !log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
