//! Traces of requests and operations reach a collector of OpenTelemetry.

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::{Collector, Process, contains};

/// `traceparent` of a trace that began elsewhere, and its id.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];

/// Has a server with these settings answer three requests, two of them of this trace, and stop; answers with what the
/// collector was sent.
async fn traced(parent: &str, settings: &[(&str, &str)]) -> (Vec<axum::http::HeaderMap>, Vec<u8>) {
    let (collector, address) = Collector::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = vec![("VELLUM_TRACES__ENDPOINT", address.as_str())];
    environment.extend(settings);
    let mut server = Process::serve_with(&folder.path().join("data"), &environment);
    let (client, url) = (Client::new(), format!("{}/graphql", server.base));
    for query in [
        "query Who($word: String) { viewer { role } assets(filter: { search: $word }) { totalCount } }",
        "mutation Make { createFolder(input: { path: \"a\" }) { folder { path } } }",
    ] {
        let body = json!({ "query": query, "variables": { "word": "canary" } });
        let answer =
            client.post(&url).header("traceparent", parent).json(&body).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert!(answer.get("errors").is_none(), "{answer}");
    }
    let missing = client.get(format!("{}/assets/none?signature=canary", server.base)).send().await;
    assert_eq!(missing.expect("an answer").status(), 404);
    server.terminate();
    assert!(server.ended().await.success());
    collector.sent()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_operations_and_commits_are_traced_and_go_on_what_began_elsewhere() {
    let (headers, sent) = traced(PARENT, &[("VELLUM_TRACES__HEADERS__KEY", "open sesame")]).await;
    assert!(!headers.is_empty() && headers.iter().all(|headers| headers["key"] == "open sesame"));
    for part in [
        "vellum",
        "POST /graphql",
        "query Who",
        "mutation Make",
        "commit",
        "GET /assets/{*path}",
        "/assets/none",
        "http.response.status_code",
        "graphql.operation.name",
    ] {
        assert!(contains(&sent, part.as_bytes()), "{part}");
    }
    assert!(contains(&sent, &TRACE), "it is part of that trace");
    assert!(!contains(&sent, b"canary"), "values of variables and signatures are nobody's business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_nothing_is_nothing() {
    let (headers, _) = traced("none", &[("VELLUM_TRACES__SHARE", "0.0")]).await;
    assert_eq!(headers.len(), 0);
}
