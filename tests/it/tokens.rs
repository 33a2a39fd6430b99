//! API tokens: made, used, revoked, expired; by the API and by the command line.

use std::process::Command;

use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{HOPPER, Socket, TestServer, text};

const CREATE: &str = "mutation($input: CreateTokenInput!) { createToken(input: $input) { secret
    token { id name role createdAt createdBy { id } expiresAt lastUsedAt revokedAt } } }";
const REVOKE: &str = "mutation($id: ID!) { revokeToken(input: { id: $id }) { token { id revokedAt } } }";
const VIEWER: &str = "{ viewer { role actor { id name kind } } }";

/// A server whose admin asks.
async fn start() -> TestServer {
    let mut server = TestServer::with(Flags::default(), "").await;
    let token = std::fs::read_to_string(server.data().join("admin-token")).expect("a token");
    server.token = Some(token.trim().to_owned());
    server
}

/// Makes a token; answers it with its secret.
async fn create(server: &TestServer, role: &str) -> (Value, String) {
    let mut made = server.gql(CREATE, json!({ "input": { "name": "ci", "role": role } })).await;
    let secret = text(&made["createToken"]["secret"]).to_owned();
    (made["createToken"]["token"].take(), secret)
}

/// The data of what the holder of a secret asks.
async fn ask(server: &TestServer, secret: &str, query: &str) -> Value {
    let request = server.client.post(server.url("/graphql")).bearer_auth(secret);
    let response = request.json(&json!({ "query": query })).send().await.expect("an answer");
    response.json().await.expect("JSON")
}

async fn code(server: &TestServer, secret: &str, query: &str) -> Value {
    ask(server, secret, query).await["errors"][0]["extensions"]["code"].take()
}

#[tokio::test]
async fn a_token_does_what_its_role_may_and_is_told_as_the_actor() {
    let server = start().await;
    let (token, secret) = create(&server, "EDITOR").await;
    assert_eq!((&token["name"], &token["role"]), (&json!("ci"), &json!("EDITOR")));
    assert_eq!(token["createdBy"]["id"], "admin-token");
    let me = ask(&server, &secret, VIEWER).await["data"]["viewer"].take();
    let actor = json!({ "id": token["id"], "name": "ci", "kind": "TOKEN" });
    assert_eq!(me, json!({ "role": "EDITOR", "actor": actor }));

    let made = "mutation { createFolder(input: { path: \"a\" }) { folder { createdBy { id name } } } }";
    let made = ask(&server, &secret, made).await;
    assert_eq!(made["data"]["createFolder"]["folder"]["createdBy"]["name"], "ci");
    assert_eq!(code(&server, &secret, "{ tokens { totalCount } }").await, "FORBIDDEN");
    assert_eq!(
        code(&server, &secret, "mutation { purgeTrash(input: {}) { purgedAssets } }").await,
        "FORBIDDEN"
    );

    let (_, viewer) = create(&server, "VIEWER").await;
    assert_eq!(
        ask(&server, &viewer, "{ folder(path: \"a\") { path } }").await["data"]["folder"]["path"],
        "a"
    );
    let refused = "mutation { createFolder(input: { path: \"b\" }) { created } }";
    assert_eq!(code(&server, &viewer, refused).await, "FORBIDDEN");
    let (_, admin) = create(&server, "ADMIN").await;
    assert_eq!(ask(&server, &admin, "{ tokens { totalCount } }").await["data"]["tokens"]["totalCount"], 3);
}

#[tokio::test]
async fn only_the_hash_of_a_secret_is_kept_and_its_last_use() {
    let server = start().await;
    let (token, secret) = create(&server, "VIEWER").await;
    let query = "{ tokens { nodes { id lastUsedAt } edges { cursor node { name } } totalCount pageInfo { hasNextPage } } }";
    let listed = server.gql(query, json!({})).await;
    assert_eq!(listed["tokens"]["nodes"], json!([{ "id": token["id"], "lastUsedAt": null }]));
    ask(&server, &secret, VIEWER).await;
    // It is written beside the answer.
    let used = async {
        loop {
            let node = format!("{{ node(id: {}) {{ ... on Token {{ lastUsedAt role }} }} }}", token["id"]);
            let node = server.gql(&node, json!({})).await["node"].take();
            if node["lastUsedAt"].is_string() {
                return node;
            }
        }
    };
    let node = tokio::time::timeout(std::time::Duration::from_secs(20), used).await.expect("in time");
    assert_eq!(node["role"], "VIEWER");
    let me = format!("{{ node(id: {}) {{ id }} }}", token["id"]);
    assert_eq!(ask(&server, &secret, &me).await["data"]["node"], Value::Null, "a viewer sees no tokens");
    for file in crate::support::files(&server.data()) {
        let bytes = std::fs::read(&file).expect("bytes");
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} has the secret", file.display());
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_by_its_field() {
    let server = start().await;
    for (input, field) in [
        (json!({ "name": " ", "role": "VIEWER" }), "input.name"),
        (json!({ "name": "x", "role": "ANONYMOUS" }), "input.role"),
        (json!({ "name": "x", "role": "VIEWER", "expiresAt": "2020-01-01T00:00:00Z" }), "input.expiresAt"),
    ] {
        server.refuses(CREATE, json!({ "input": input }), "BAD_USER_INPUT", Some(field)).await;
    }
    server.refuses(REVOKE, json!({ "id": "x" }), "BAD_USER_INPUT", Some("input.id")).await;
    let unknown = "token_01jd3aaaaaaaaaaaaaaaaaaaaa";
    server.refuses(REVOKE, json!({ "id": unknown }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn every_changed_character_of_a_secret_is_refused() {
    let server = start().await;
    let (_, secret) = create(&server, "EDITOR").await;
    for at in 0..secret.len() {
        let mut wrong = secret.clone().into_bytes();
        wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
        let wrong = String::from_utf8(wrong).expect("ASCII");
        assert_eq!(code(&server, &wrong, VIEWER).await, "UNAUTHENTICATED", "{at}");
    }
    for wrong in [&secret[..secret.len() - 1], &format!("{secret}0"), "", "vellum_"] {
        assert_eq!(code(&server, wrong, VIEWER).await, "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_its_subscriptions_end() {
    let server = start().await;
    let (token, secret) = create(&server, "VIEWER").await;
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    let bearer = format!("Bearer {secret}");
    socket.send(json!({ "type": "connection_init", "payload": { "Authorization": bearer } })).await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", "subscription { changes { cursor } }", json!({})).await;
    let events = server.client.post(server.url("/graphql")).bearer_auth(&secret);
    let events = events.header("accept", "text/event-stream");
    let events = events.json(&json!({ "query": "subscription { changes { cursor } }" }));
    let mut events = events.send().await.expect("an answer");
    assert_eq!(events.status(), 200);
    let (_, other) = create(&server, "VIEWER").await;
    let mut still = Socket::open(
        &server.address,
        "graphql-transport-ws",
        &[("authorization", &format!("Bearer {other}"))],
    )
    .await
    .expect("a socket");
    still.send(json!({ "type": "connection_init" })).await;
    assert_eq!(still.next().await["type"], "connection_ack");

    let first = server.gql(REVOKE, json!({ "id": token["id"] })).await;
    assert_eq!(code(&server, &secret, VIEWER).await, "UNAUTHENTICATED");
    assert_eq!(server.get("/assets/x", &[("authorization", &bearer)]).await.status(), 401);
    let began = std::time::Instant::now();
    assert_eq!(socket.close_code().await, 4403);
    let mut body = String::new();
    while let Some(piece) = events.chunk().await.expect("a whole answer") {
        body.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(body.contains("UNAUTHENTICATED") && body.contains("event: complete"), "{body}");
    still.subscribe("1", VIEWER, json!({})).await;
    assert_eq!(still.event().await["viewer"]["role"], "VIEWER", "another token's connection stays");
    let again = server.gql(REVOKE, json!({ "id": token["id"] })).await;
    assert_eq!(again, first, "revoking again changes nothing");
}

#[tokio::test]
async fn a_token_that_expires_is_refused_and_ends_its_subscriptions() {
    let server = start().await;
    let input = json!({ "name": "short", "role": "VIEWER", "expiresAt": "2100-01-01T00:00:00Z" });
    let made = server.gql(CREATE, json!({ "input": input })).await;
    let secret = text(&made["createToken"]["secret"]);
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket
        .send(
            json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {secret}") } }),
        )
        .await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", "subscription { changes { cursor } }", json!({})).await;
    // Eighty years.
    server.clock.advance(80 * 365 * 24 * 3600 * 1000);
    assert_eq!(socket.close_code().await, 4403);
    assert_eq!(code(&server, secret, VIEWER).await, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_token_that_another_server_revokes_is_refused_here_too() {
    let mut server = start().await;
    let Some(mut other) = server.beside().await else { return };
    other.token =
        Some(std::fs::read_to_string(server.data().join("admin-token")).expect("a token").trim().to_owned());
    let (token, secret) = create(&server, "VIEWER").await;
    assert!(ask(&other, &secret, VIEWER).await["errors"].is_null(), "known to both");
    let bearer = format!("Bearer {secret}");
    let mut socket = Socket::open(&other.address, "graphql-transport-ws", &[("authorization", &bearer)])
        .await
        .expect("a socket");
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    server.gql(REVOKE, json!({ "id": token["id"] })).await;
    assert_eq!(socket.close_code().await, 4403);
    server.token = None;
    assert_eq!(code(&other, &secret, VIEWER).await, "UNAUTHENTICATED");
}

// The server goes on while the program runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_makes_lists_and_revokes_tokens() {
    let mut server = start().await;
    server.upload(json!({ "path": "a" }), HOPPER).await;
    let settings = [
        ("VELLUM_DATA_DIR", server.data().display().to_string()),
        ("VELLUM_DATABASE_URL", server.app.config().database_url.clone()),
    ];
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
        command.env_clear().envs(settings.clone()).arg("token").args(arguments);
        let output = command.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (made, secret, said) = run(&["create", "nightly build", "--role", "editor", "--expires-in", "90d"]);
    assert!(made && said.contains("nightly build") && said.contains("expires"), "{said}");
    assert!(!said.contains(secret.trim()));
    server.token = Some(secret.trim().to_owned());
    assert_eq!(server.gql("{ viewer { role } }", json!({})).await["viewer"]["role"], "EDITOR");
    let (_, listed, said) = run(&["list"]);
    let id = listed.split_whitespace().next().unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(listed.contains("nightly build") && !listed.contains(secret.trim()), "{listed}");
    assert!(run(&["revoke", &id]).1.contains("revoked"));
    let refused =
        async { while server.ask("{ viewer { role } }", json!({})).await.get("errors").is_none() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.expect("refused in time");
    let (done, _, said) = run(&["revoke", "token_x"]);
    assert!(!done && said.contains("token_ and 26"), "{said}");
}
