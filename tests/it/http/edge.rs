//! What every request passes: ids, limits of how often, headers; and what the server counts.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{HOPPER, Socket, TestServer, text};

#[tokio::test]
async fn every_answer_has_an_id_and_tells_browsers_to_be_careful() {
    let server = TestServer::start().await;
    let uploaded = server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    for url in [
        "/",
        "/graphql?query=%7B__typename%7D",
        "/healthz",
        "/nothing",
        "/assets/nothing",
        text(&uploaded["asset"]["url"]),
    ] {
        let response = server.get(url, &[]).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("a text"));
        assert_eq!(header("x-request-id").map(str::len), Some(32), "{url}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{url}");
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{url}");
        let policy = header("content-security-policy");
        if url.contains("/assets/a") {
            assert_eq!(policy, None, "an image may stand in any page");
        } else {
            assert!(
                policy.is_some_and(|policy| policy.contains("frame-ancestors 'none'")),
                "{url}: {policy:?}"
            );
        }
        assert_eq!(header("strict-transport-security"), None, "it is no https");
    }
    let url = text(&uploaded["asset"]["url"]);
    let tag = server.get(url, &[]).await.headers()["etag"].to_str().expect("a text").to_owned();
    let unchanged = server.get(url, &[("if-none-match", &tag)]).await;
    assert_eq!(unchanged.status(), 304);
    let policies = ["content-security-policy", "x-frame-options"];
    assert!(policies.iter().all(|name| !unchanged.headers().contains_key(*name)), "a cache would keep them");
    let response = server.get("/healthz", &[("x-request-id", "from-the-proxy.1")]).await;
    assert_eq!(response.headers()["x-request-id"], "from-the-proxy.1");
}

/// A server that lets an address ask three times, and a token five times.
async fn limited() -> TestServer {
    let settings = "trusted_proxies = [\"127.0.0.1\"]\n[rate_limit]\naddress_per_second = 1\naddress_burst = 3\n\
        token_per_second = 1\ntoken_burst = 5\n";
    TestServer::with(Flags::default(), settings).await
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_others_notice_nothing() {
    let server = limited().await;
    let body = br#"{"query":"{ viewer { role } }"}"#;
    let ask = async |address: &str| {
        let headers = [("x-forwarded-for", address), ("content-type", "application/json")];
        server.send(Method::POST, "/graphql", &headers, body).await
    };
    for _ in 0..3 {
        assert_eq!(ask("198.51.100.1").await.status(), 200);
    }
    // On a machine that is slow, it may ask once more in the meantime.
    let refused = until_refused(async || ask("198.51.100.1").await).await;
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("a text").parse().expect("seconds");
    assert!((1..=5).contains(&wait), "{wait}");
    let answer: Value = refused.json().await.expect("JSON");
    assert_eq!(answer["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    let problem =
        until_refused(async || server.get("/assets/x", &[("x-forwarded-for", "198.51.100.1")]).await).await;
    assert_eq!(
        (problem.status().as_u16(), &problem.headers()["content-type"]),
        (429, &"application/problem+json".parse().expect("a value"))
    );
    assert_eq!(ask("198.51.100.2").await.status(), 200, "another address");
    // What a client says of itself before the proxy's word makes it no other one.
    until_refused(async || ask("203.0.113.9, 198.51.100.1").await).await;
    for _ in 0..20 {
        assert_eq!(server.get("/healthz", &[("x-forwarded-for", "198.51.100.1")]).await.status(), 200);
    }
    let bearer = format!("Bearer {}", server.admin_token());
    let known = [("authorization", bearer.as_str()), ("x-forwarded-for", "198.51.100.1")];
    // The first time it proves itself.
    for _ in 0..6 {
        assert_eq!(server.get("/assets/x", &known).await.status(), 404, "a token is counted by itself");
    }
    until_refused(async || server.get("/assets/x", &known).await).await;
}

/// The first answer that it is too often; it has to come soon.
async fn until_refused(ask: impl AsyncFn() -> Response) -> Response {
    for _ in 0..20 {
        let response = ask().await;
        if response.status() == 429 {
            return response;
        }
    }
    panic!("it is never too often");
}

#[tokio::test]
async fn a_page_can_read_that_it_asks_too_often() {
    let settings = "allowed_origins = [\"https://app.example\"]\n[rate_limit]\naddress_per_second = 1\naddress_burst = 1\n";
    let server = TestServer::with(Flags::default(), settings).await;
    let page = [("origin", "https://app.example"), ("content-type", "application/json")];
    let asks = [("access-control-request-method", "POST"), page[0]];
    for (method, url, allowed) in [
        (Method::POST, "/graphql", "https://app.example"),
        (Method::GET, "/assets/x", "*"),
        (Method::PUT, "/uploads/x", "*"),
    ] {
        let refused = until_refused(async || server.send(method.clone(), url, &page, b"{}").await).await;
        assert_eq!(refused.headers()["access-control-allow-origin"], allowed, "{url}");
        let exposed = refused.headers()["access-control-expose-headers"].to_str().expect("a text");
        assert!(exposed.to_ascii_lowercase().contains("retry-after"), "{url}: {exposed}");
        let preflight = server.send(Method::OPTIONS, url, &asks, b"").await;
        assert!(preflight.status().is_success(), "{url}: who asks whether it may is not counted");
    }
}

#[tokio::test]
async fn what_is_asked_on_a_socket_counts_as_what_is_asked_by_requests() {
    let server = limited().await;
    let open = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        let socket = Socket::open(&server.address, "graphql-transport-ws", &headers).await;
        let mut socket = socket.expect("a socket");
        socket.send(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.next().await["type"], "connection_ack");
        socket
    };
    // The handshake is the first of three.
    let mut socket = open("198.51.100.1").await;
    let mut refused = 0;
    for id in 0..12 {
        socket.subscribe(&id.to_string(), "{ viewer { role } }", json!({})).await;
        let answer = socket.next().await;
        if answer["type"] == "error" {
            assert_eq!(answer["payload"][0]["extensions"]["code"], "RATE_LIMITED");
            refused += 1;
        } else {
            assert_eq!(socket.next().await["type"], "complete");
        }
    }
    assert!((1..=10).contains(&refused), "{refused}");
    let mut another = open("198.51.100.2").await;
    another.subscribe("1", "{ viewer { role } }", json!({})).await;
    assert_eq!(another.event().await["viewer"]["role"], "ANONYMOUS", "another address");
}

#[tokio::test]
async fn an_address_that_guesses_tokens_by_sockets_is_soon_heard_no_more() {
    let settings = "[rate_limit]\naddress_per_second = 0\nunproven_per_second = 1\nunproven_burst = 5\n";
    let server = TestServer::with(Flags::default(), settings).await;
    for number in 0..100 {
        let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
        let guess = format!("Bearer vellum_guess_{number}");
        socket.send(json!({ "type": "connection_init", "payload": { "authorization": guess } })).await;
        match socket.close_code().await {
            4403 => {}
            1013 => {
                assert!(number >= 5, "{number}");
                return;
            }
            other => panic!("{other}"),
        }
    }
    panic!("it is heard for ever");
}

#[tokio::test]
async fn one_address_does_not_take_the_connections_of_all() {
    let server = TestServer::with(
        Flags::default(),
        "trusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_address = 2\n",
    )
    .await;
    let open = async |address: &str, payload: Value| {
        let headers = [("x-forwarded-for", address)];
        let mut socket = Socket::open(&server.address, "graphql-transport-ws", &headers).await.ok()?;
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.next().await["type"], "connection_ack");
        Some(socket)
    };
    let known = json!({ "authorization": format!("Bearer {}", server.admin_token()) });
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(open("198.51.100.1", known.clone()).await.expect("who is known is not counted"));
    }
    let first = open("198.51.100.1", json!({})).await.expect("the first");
    held.push(open("198.51.100.1", json!({})).await.expect("the second"));
    assert!(open("198.51.100.1", json!({})).await.is_none());
    let stream = server
        .client
        .post(server.url("/graphql"))
        .header("accept", "text/event-stream")
        .header("x-forwarded-for", "198.51.100.1")
        .json(&json!({ "query": "subscription { folder(path: \"\") { path } }" }));
    assert_eq!(stream.send().await.expect("an answer").status(), 503, "an event stream is one, too");
    held.push(open("198.51.100.2", json!({})).await.expect("another address"));
    drop(first);
    // It has to notice that one left.
    for _ in 0..1000 {
        if open("198.51.100.1", json!({})).await.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of who left is not given again");
}

#[tokio::test]
async fn an_address_that_guesses_tokens_is_soon_heard_no_more() {
    let settings =
        "trusted_proxies = [\"127.0.0.1\"]\n[rate_limit]\nunproven_per_second = 1\nunproven_burst = 5\n";
    let server = TestServer::with(Flags::default(), settings).await;
    let guess = async |number: usize, address: &str| {
        let bearer = format!("Bearer vellum_guess_{number}");
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", address)];
        server.get("/assets/x", &headers).await.status().as_u16()
    };
    let mut heard = 0;
    while guess(heard, "198.51.100.1").await == 401 {
        heard += 1;
        assert!(heard < 100, "it is heard for ever");
    }
    assert!(heard >= 5, "{heard}");
    assert_eq!(guess(0, "198.51.100.2").await, 401, "another address");
    assert_eq!(
        server.get("/assets/x", &[("x-forwarded-for", "198.51.100.1")]).await.status(),
        404,
        "without a token"
    );
}

#[tokio::test]
async fn what_happens_is_counted() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let rejected = server.start_upload(json!({ "path": "b", "size": 1 })).await;
    assert_eq!(server.send_bytes(&rejected, HOPPER).await.status(), 422);
    server.gql("query Named { __typename }", json!({})).await;
    server.ask("{ nothing }", json!({})).await;
    let mut socket = server.socket().await;
    socket.subscribe("1", "subscription Watch { asset(path: \"a/photo\") { path } }", json!({})).await;
    socket.event().await;
    let response = server.get("/metrics", &[]).await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .expect("a text")
            .starts_with("application/openmetrics-text")
    );
    let metrics = response.text().await.expect("a text");
    for line in [
        "vellum_build_info{version=",
        "vellum_http_requests_total{route=\"/graphql\",method=\"POST\",status=\"200\"}",
        "vellum_http_request_seconds_bucket{le=\"0.001\",route=\"/uploads/{id}\"}",
        "vellum_graphql_operations_total{name=\"Named\",kind=\"query\",outcome=\"ok\"} 1",
        "vellum_graphql_operations_total{name=\"Watch\",kind=\"subscription\",outcome=\"ok\"} 1",
        "vellum_graphql_operations_total{name=\"\",kind=\"none\",outcome=\"refused\"} 1",
        "vellum_uploads_total{outcome=\"finished\"} 1",
        "vellum_uploads_total{outcome=\"rejected\"} 1",
        "vellum_subscribers 1",
        "vellum_websocket_operations 1",
        "vellum_feed_lag_entries 0",
        "vellum_database_connections{pool=\"read\",state=\"idle\"}",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
