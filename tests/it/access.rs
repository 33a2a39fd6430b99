//! Without `dev`: the admin token, and what strangers may do.

use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{HOPPER, Socket, TestServer, text};

async fn start() -> (TestServer, String) {
    let server = TestServer::with(Flags::default(), "").await;
    let token = std::fs::read_to_string(server.data().join("admin-token")).expect("a token");
    (server, token.trim().to_owned())
}

#[tokio::test]
async fn the_first_start_makes_an_admin_token_that_only_its_owner_can_read() {
    let (server, token) = start().await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(server.data().join("admin-token")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mut server = server.restart().await;
    server.token = Some(token);
    let viewer = server.gql("{ viewer { role actor { id kind } } }", json!({})).await;
    assert_eq!(
        viewer["viewer"],
        json!({ "role": "ADMIN", "actor": { "id": "admin-token", "kind": "TOKEN" } })
    );
}

#[tokio::test]
async fn strangers_read_public_bytes_and_nothing_else() {
    let (mut server, token) = start().await;
    server.token = Some(token.clone());
    let public = server.upload(json!({ "path": "a/public" }), HOPPER).await;
    let private = server.upload(json!({ "path": "a/private", "visibility": "PRIVATE" }), HOPPER).await;
    let draft = server.upload(json!({ "path": "a/public", "publish": false }), HOPPER).await;
    let aside = server.upload(json!({ "path": "a/aside", "publish": false }), HOPPER).await;
    let archive = "mutation($id: ID!) { archiveVersion(input: { versionId: $id }) { version { state } } }";
    server.gql(archive, json!({ "id": aside["version"]["id"] })).await;
    let intent = server.start_upload(json!({ "path": "a/later" })).await;
    server.token = None;

    assert_eq!(server.get("/assets/a/public", &[]).await.status(), 200);
    assert_eq!(server.get(text(&public["version"]["url"]), &[]).await.status(), 200);
    for url in
        [text(&private["asset"]["url"]), text(&private["version"]["url"]), text(&draft["version"]["url"])]
    {
        assert_eq!(server.get(url, &[]).await.status(), 404, "{url}");
        let bearer = format!("Bearer {token}");
        let response = server.get(url, &[("authorization", &bearer)]).await;
        assert_eq!(response.status(), 200, "{url}");
        assert!(
            response.headers()["cache-control"].to_str().expect("a text").starts_with("private, "),
            "{url}"
        );
        assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
    }

    assert_eq!(server.gql("{ viewer { role } }", json!({})).await["viewer"]["role"], "ANONYMOUS");
    let asset = format!("asset(path: {:?}) {{ id }}", "a/public");
    for query in [
        "{ root { id } }".to_owned(),
        "{ folder(path: \"a\") { id } }".to_owned(),
        format!("{{ {asset} }}"),
        "{ assets { totalCount } }".to_owned(),
        "{ changes { nextCursor } }".to_owned(),
        "{ headCursor }".to_owned(),
        format!("{{ node(id: {}) {{ id }} }}", public["asset"]["id"]),
        format!("{{ nodes(ids: [{}]) {{ id }} }}", public["asset"]["id"]),
        format!("{{ version(id: {}) {{ id }} }}", public["version"]["id"]),
        format!("{{ uploadIntent(id: {}) {{ id }} }}", intent["id"]),
        "{ trash { nodes { __typename } } }".to_owned(),
        "{ storedFile(id: \"file_01jd3aaaaaaaaaaaaaaaaaaaaa\") { id } }".to_owned(),
        "{ asset(path: \"a/public\", at: { time: \"2030-01-01T00:00:00Z\" }) { id } }".to_owned(),
        "{ folder(path: \"a\", at: { time: \"2030-01-01T00:00:00Z\" }) { id } }".to_owned(),
        "{ storage { default { name } } }".to_owned(),
        "{ tokens { totalCount } }".to_owned(),
        "mutation { createToken(input: { name: \"x\", role: VIEWER }) { secret } }".to_owned(),
        "mutation { revokeToken(input: { id: \"token_01jd3aaaaaaaaaaaaaaaaaaaaa\" }) { token { id } } }".to_owned(),
        "mutation { setDefaultStorage(input: { backend: \"local\" }) { storage { default { name } } } }".to_owned(),
        "mutation { generateUploadUrl { url } }".to_owned(),
        "mutation { createVersion(input: { path: \"x\", storedFileId: \"file_01jd3aaaaaaaaaaaaaaaaaaaaa\" }) { version { id } } }".to_owned(),
        "mutation { deleteStoredFile(input: { id: \"file_01jd3aaaaaaaaaaaaaaaaaaaaa\" }) { deletedId } }".to_owned(),
        "mutation { deleteFolder(input: { folder: { path: \"a\" }, recursive: true }) { deletedFolders } }".to_owned(),
        "mutation { deleteAsset(input: { asset: { path: \"a/public\" } }) { deletedVersions } }".to_owned(),
        "mutation { deleteAssets(input: { folder: { path: \"a\" } }) { deletedAssets } }".to_owned(),
        format!("mutation {{ restoreFromTrash(input: {{ id: {} }}) {{ changes {{ id }} }} }}", public["asset"]["id"]),
        "mutation { purgeTrash(input: {}) { purgedAssets } }".to_owned(),
        "mutation { applyChanges(input: { operations: [{ createFolder: { path: \"x\" } }] }) { changes { id } } }".to_owned(),
        "mutation { applyChanges(input: { operations: [{ createFolder: { path: \"x\" } }], dryRun: true }) { changes { id } } }".to_owned(),
        "mutation { createFolder(input: { path: \"x\" }) { created } }".to_owned(),
        "mutation { createAsset(input: { path: \"x\" }) { asset { id } } }".to_owned(),
        "mutation { updateFolder(input: { folder: { path: \"a\" }, title: \"x\" }) { folder { id } } }".to_owned(),
        "mutation { moveFolder(input: { folder: { path: \"a\" }, toPath: \"x\" }) { oldPath } }".to_owned(),
        "mutation { moveFolder(input: { folder: { path: \"a\" }, toPath: \"x\", dryRun: true }) { oldPath } }".to_owned(),
        "mutation { updateAsset(input: { asset: { path: \"a/public\" }, title: \"x\" }) { asset { id } } }".to_owned(),
        "mutation { moveAsset(input: { asset: { path: \"a/public\" }, toFolder: { path: \"x\" } }) { oldPath } }".to_owned(),
        "mutation { renameAsset(input: { asset: { path: \"a/public\" }, newName: \"x\" }) { oldPath } }".to_owned(),
        "mutation { startUpload(input: { path: \"x\" }) { intent { id } } }".to_owned(),
        format!("mutation {{ finishUpload(input: {{ intentId: {} }}) {{ version {{ id }} }} }}", intent["id"]),
        format!("mutation {{ cancelUpload(input: {{ intentId: {} }}) {{ intent {{ id }} }} }}", intent["id"]),
        format!("mutation {{ publishVersion(input: {{ versionId: {} }}) {{ version {{ id }} }} }}", public["version"]["id"]),
        format!("mutation {{ archiveVersion(input: {{ versionId: {} }}) {{ version {{ id }} }} }}", public["version"]["id"]),
        format!("mutation {{ restoreVersion(input: {{ versionId: {} }}) {{ version {{ id }} }} }}", public["version"]["id"]),
        format!("mutation {{ updateVersion(input: {{ versionId: {}, label: \"x\" }}) {{ version {{ id }} }} }}", public["version"]["id"]),
    ] {
        server.refuses(&query, json!({}), "UNAUTHENTICATED", None).await;
    }
    let mut socket = server.socket().await;
    for query in [
        "changes { cursor }",
        &asset,
        "folder(path: \"a\") { id }",
        &format!("uploadIntent(id: {}) {{ id }}", intent["id"]),
    ] {
        socket.subscribe(query, &format!("subscription {{ {query} }}"), json!({})).await;
        let refused = socket.next().await;
        assert_eq!(refused["payload"][0]["extensions"]["code"], "UNAUTHENTICATED", "{query}: {refused}");
    }
}

#[tokio::test]
async fn the_access_test_above_names_every_field_of_the_schema() {
    // The queries of the test above, and nothing else of this file.
    let source = include_str!("access.rs");
    let source = source
        .split("for query in [")
        .skip(1)
        .map(|rest| rest.split("] {").next().unwrap_or_default())
        .collect::<String>();
    let source = format!("{source} asset(");
    let sdl = vellum::graphql::sdl();
    for root in ["type Query {", "type Mutation {", "type Subscription {"] {
        let body = sdl.split(root).nth(1).and_then(|rest| rest.split("\n}").next()).expect("a root type");
        for line in body
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   ") && !line.contains("\"\"\""))
        {
            let name: String = line.trim().chars().take_while(char::is_ascii_alphanumeric).collect();
            let declares = line.contains(&format!("{name}(")) || line.contains(&format!("{name}:"));
            assert!(
                !declares || name == "viewer" || source.contains(&name),
                "{name} is not among the refusals tested"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_not_taken_for_nobody() {
    let (server, token) = start().await;
    let wrong = ("authorization", "Bearer wrong");
    let body = br#"{"query":"{ viewer { role } }"}"#;
    let response = server
        .send(reqwest::Method::POST, "/graphql", &[wrong, ("content-type", "application/json")], body)
        .await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    assert_eq!(
        response.json::<Value>().await.expect("JSON")["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    assert_eq!(server.get("/assets/x", &[wrong]).await.status(), 401);

    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket.send(json!({ "type": "connection_init", "payload": { "Authorization": "Bearer wrong" } })).await;
    assert_eq!(socket.close_code().await, 4403);
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket
        .send(json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } }))
        .await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", "{ viewer { role } }", json!({})).await;
    assert_eq!(socket.event().await["viewer"]["role"], "ADMIN");
}
