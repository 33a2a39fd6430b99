//! Liveness and readiness.

use serde_json::{Value, json};

use crate::support::TestServer;

#[tokio::test]
async fn a_server_tells_whether_it_lives_and_whether_it_can_serve() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/healthz", &[]).await.status(), 200);
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(ready.status(), 200);
    assert_eq!(
        ready.json::<Value>().await.expect("JSON"),
        json!({ "database": "ok", "storage": "ok", "server": "ok" })
    );
    std::fs::remove_dir_all(server.data().join("staging")).expect("removed");
    let ready = server.readiness(503).await;
    assert_eq!(ready.json::<Value>().await.expect("JSON")["storage"], "unavailable");
    assert_eq!(server.get("/healthz", &[]).await.status(), 200, "it lives all the same");
    std::fs::create_dir(server.data().join("staging")).expect("made");
    server.readiness(200).await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_readably() {
    let server = TestServer::start().await;
    let response = server.get("/nothing", &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (404, &"application/problem+json".parse().expect("a value"))
    );
    assert_eq!(server.send(reqwest::Method::DELETE, "/assets/x", &[], b"").await.status(), 405);
}
