//! GraphQL over HTTP, beyond what the conformance suite asks.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestServer;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_browser_gets_the_explorer_and_all_that_it_loads_from_here() {
    let server = TestServer::start().await;
    let page = server.get("/graphql", &[("accept", "text/html,application/xhtml+xml")]).await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().expect("a text").to_owned();
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next());
    let nonce = nonce.expect("scripts are taken by a nonce").to_owned();
    let again = server.get("/graphql", &[("accept", "text/html")]).await;
    assert!(
        !again.headers()["content-security-policy"].to_str().expect("a text").contains(&nonce),
        "each has its own"
    );
    let page = page.text().await.expect("a text");
    assert!(page.contains(&format!("<script nonce=\"{nonce}\" ")), "{page}");
    let loaded: Vec<&str> = page.split('"').filter(|part| part.starts_with("/explorer/")).collect();
    assert_eq!(loaded.len(), 2, "{page}");
    for url in loaded.into_iter().chain(["/explorer/worker.js", "/explorer/LICENSES.txt"]) {
        let response = server.get(url, &[]).await;
        assert_eq!(response.status(), 200, "{url}");
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert!(response.bytes().await.expect("bytes").starts_with(&[0x1f, 0x8b]), "{url}");
    }
    assert_eq!(server.get("/explorer/nothing", &[]).await.status(), 404);
    let no_redirects =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let root = no_redirects.get(server.url("/")).send().await.expect("an answer");
    assert_eq!(root.headers()["location"], "/graphql");
}

#[tokio::test]
async fn a_get_queries_and_never_writes() {
    let server = TestServer::start().await;
    let query = server.get("/graphql?query=%7Bviewer%7Brole%7D%7D", &[]).await;
    assert_eq!(
        query.json::<Value>().await.expect("JSON"),
        json!({ "data": { "viewer": { "role": "ADMIN" } } })
    );
    let mutation = "/graphql?query=mutation%7BcreateFolder(input%3A%7Bpath%3A%22a%22%7D)%7Bcreated%7D%7D";
    let response = server.get(mutation, &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().expect("a value"))
    );
    let cross_site = [("sec-fetch-site", "cross-site")];
    assert_eq!(server.get("/graphql?query=%7B__typename%7D", &cross_site).await.status(), 403);
    assert!(server.history().await.is_empty());
}

#[tokio::test]
async fn what_a_browser_sends_without_asking_is_refused() {
    let server = TestServer::start().await;
    let body = br#"{"query":"mutation{createFolder(input:{path:\"a\"}){created}}"}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let response = server.send(Method::POST, "/graphql", &[("content-type", content_type)], body).await;
        assert_eq!(response.status(), 415, "{content_type}");
    }
    let preflight = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ]
    };
    let evil = server.send(Method::OPTIONS, "/graphql", &preflight("https://evil.example"), b"").await;
    assert!(evil.headers().get("access-control-allow-origin").is_none());
    let local = server.send(Method::OPTIONS, "/graphql", &preflight("http://localhost:5173"), b"").await;
    assert_eq!(
        local.headers()["access-control-allow-origin"],
        "http://localhost:5173",
        "a front end in development"
    );
    let rebound = server.send(Method::POST, "/graphql", &[JSON, ("host", "evil.example")], body).await;
    assert_eq!(rebound.status(), 403, "a name that somebody points at this machine");
    assert!(server.history().await.is_empty());
}

#[tokio::test]
async fn documents_that_would_cost_too_much_are_refused_at_once() {
    let server = TestServer::start().await;
    let mut bomb = String::from("{ ...f0 }");
    for level in 0..7 {
        let spreads = format!("...f{} ", level + 1).repeat(10);
        bomb = format!("{bomb} fragment f{level} on Query {{ {spreads} }}");
    }
    bomb += " fragment f7 on Query { __typename }";
    for query in
        [bomb, "{a".repeat(5_000), format!("{{ {} }}", "a: __typename ".repeat(200)), " ".repeat(70_000)]
    {
        server.refuses(&query, json!({}), "GRAPHQL_VALIDATION_FAILED", None).await;
    }
    let long = format!(r#"{{"query":"{{__typename}}","x":"{}"}}"#, "y".repeat(2 << 20));
    let response = server.send(Method::POST, "/graphql", &[JSON], long.as_bytes()).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn a_field_that_is_selected_twice_runs_once() {
    let server = TestServer::start().await;
    let query = "mutation {
        m: createFolder(input: { titled: { parent: { path: \"\" }, title: \"once\" } }) { created }
        ...F
    } fragment F on Mutation {
        m: createFolder(input: { titled: { parent: { path: \"\" }, title: \"once\" } }) { folder { path } } }";
    let answer = server.gql(query, json!({})).await;
    assert_eq!(answer, json!({ "m": { "created": true, "folder": { "path": "once" } } }));
    assert_eq!(server.history().await.len(), 1);
}

#[tokio::test]
async fn answers_to_requests_that_cannot_be_read_say_what_is_wrong() {
    let server = TestServer::start().await;
    for (body, said) in [
        ("", "JSON object"),
        ("[]", "batches"),
        ("{}", "query is missing"),
        (r#"{"query":1}"#, "query has to be a string"),
        (r#"{"query":"{a}","variables":[]}"#, "variables has to be an object"),
        (r#"{"query":"{a}","operationName":1}"#, "operationName has to be a string"),
    ] {
        let response = server.send(Method::POST, "/graphql", &[JSON], body.as_bytes()).await;
        assert_eq!(response.status(), 400, "{body}");
        let answer: Value = response.json().await.expect("JSON");
        assert!(
            answer["errors"][0]["message"].as_str().is_some_and(|message| message.contains(said)),
            "{body}: {answer}"
        );
        assert!(answer.get("data").is_none());
    }
    let subscription = r#"{"query":"subscription { changes { cursor } }"}"#;
    assert_eq!(server.send(Method::POST, "/graphql", &[JSON], subscription.as_bytes()).await.status(), 405);
}
