//! Connections: what is left of a refused body, and by which names the server is asked.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vellum::config::Flags;

use crate::support::{TestServer, text};

/// Sends this, and reads the head and the body of one answer.
async fn answer(stream: &mut TcpStream, request: &[u8]) -> Option<String> {
    stream.write_all(request).await.ok()?;
    let mut told = Vec::new();
    let mut space = [0; 4096];
    loop {
        let count =
            tokio::time::timeout(Duration::from_secs(20), stream.read(&mut space)).await.ok()?.ok()?;
        told.extend_from_slice(&space[..count]);
        let text = String::from_utf8_lossy(&told).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return None;
            }
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}

#[tokio::test]
async fn what_is_refused_early_does_not_reset_the_next_request() {
    let server =
        TestServer::with(Flags::default(), "[rate_limit]\naddress_per_second = 1\naddress_burst = 4\n").await;
    let made = {
        let mut server = server;
        server.token = Some(server.admin_token());
        let made = server.gql("mutation { generateUploadUrl { url } }", json!({})).await;
        (server, text(&made["generateUploadUrl"]["url"]).to_owned())
    };
    let (server, url) = made;
    let upload = url.trim_start_matches(&server.url("")).replace("signature=", "signature=x");
    let host = "host: localhost\r\n";
    // Longer than what the system keeps for a connection.
    let long = "x".repeat(3 << 20);
    let cases = [
        (
            415,
            format!(
                "POST /graphql HTTP/1.1\r\n{host}content-type: text/plain\r\ncontent-length: {}\r\n\r\n{long}",
                long.len()
            ),
        ),
        (
            413,
            format!(
                "POST /graphql HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: {}\r\n\r\n{long}",
                long.len()
            ),
        ),
        (
            403,
            format!("POST /{upload} HTTP/1.1\r\n{host}content-length: {}\r\n\r\n{long}", long.len())
                .replace("//", "/"),
        ),
        (405, format!("DELETE /assets/x HTTP/1.1\r\n{host}content-length: {}\r\n\r\n{long}", long.len())),
        (
            429,
            format!(
                "POST /graphql HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: {}\r\n\r\n{long}",
                long.len()
            ),
        ),
        (
            429,
            format!(
                "POST /graphql HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
                long.len()
            ),
        ),
    ];
    for (status, request) in cases {
        let mut stream = TcpStream::connect(&server.address).await.expect("a connection");
        let refused = answer(&mut stream, request.as_bytes()).await.expect("it is told why");
        assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{refused}");
        if refused.to_ascii_lowercase().contains("connection: close") {
            continue;
        }
        let next = format!("GET /healthz HTTP/1.1\r\n{host}\r\n");
        let next = answer(&mut stream, next.as_bytes()).await.expect("the next request is answered");
        assert!(next.starts_with("HTTP/1.1 200 "), "after {status}: {next}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = TestServer::start().await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut stream = TcpStream::connect(&server.address).await.expect("a connection");
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: localhost\r\n{expect}content-type: text/plain\r\ncontent-length: 100000000\r\n\r\n"
        );
        let refused = answer(&mut stream, head.as_bytes()).await.expect("it is told why");
        assert!(refused.starts_with("HTTP/1.1 415 "), "{refused}");
        assert!(refused.to_ascii_lowercase().contains("connection: close"), "{refused}");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        ended.expect("it is closed").expect("in order");
    }
}

#[tokio::test]
async fn in_dev_mode_requests_name_this_machine() {
    let server = TestServer::start().await;
    for (head, allowed) in [
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", true),
        ("GET http://localhost/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", true),
        ("GET /healthz HTTP/1.1\r\n\r\n", false),
        ("GET /healthz HTTP/1.0\r\n\r\n", false),
        ("GET /healthz HTTP/1.1\r\nhost: evil.example\r\n\r\n", false),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n", false),
        ("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", false),
    ] {
        let mut stream = TcpStream::connect(&server.address).await.expect("a connection");
        let told = answer(&mut stream, head.as_bytes()).await.unwrap_or_default();
        assert_eq!(told.contains(" 200 OK"), allowed, "{head}: {told}");
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let port = server.address.rsplit(':').next().expect("a port");
    let resolved = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve("evil.example", server.address.parse().expect("an address"))
        .build()
        .expect("a client");
    assert_eq!(client.get(server.url("/healthz")).send().await.expect("an answer").status(), 200);
    let foreign = resolved.get(format!("http://evil.example:{port}/healthz")).send().await;
    assert_eq!(foreign.expect("an answer").status(), 403, "the authority of HTTP/2 is looked at, too");
}

#[tokio::test]
async fn in_dev_mode_a_token_counts_for_what_it_is() {
    let server = TestServer::start().await;
    let role = "{ viewer { role } }";
    let ask = async |token: &str| {
        let request =
            server.client.post(server.url("/graphql")).bearer_auth(token).json(&json!({ "query": role }));
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    assert_eq!(server.gql(role, json!({})).await["viewer"]["role"], "ADMIN");
    let (status, refused) = ask("vellum_unknown").await;
    assert_eq!(
        (status, &refused["errors"][0]["extensions"]["code"]),
        (StatusCode::UNAUTHORIZED, &json!("UNAUTHENTICATED"))
    );
    let made = "mutation { createToken(input: { name: \"reader\", role: VIEWER }) { secret } }";
    let made = server.gql(made, json!({})).await;
    let (_, viewer) = ask(text(&made["createToken"]["secret"])).await;
    assert_eq!(viewer["data"]["viewer"]["role"], "VIEWER");
    let bytes = server.send(Method::GET, "/assets/x", &[("authorization", "Bearer nonsense")], b"").await;
    assert_eq!(bytes.status(), StatusCode::UNAUTHORIZED);
}
