//! What was there then.

use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer, text};

const ASSET: &str = "query($path: String!, $at: AsOf!) { asset(path: $path, at: $at) {
    id path name url folder { path } publishedVersion { number sha256 url } } }";
const FOLDER: &str = "query($path: String!, $at: AsOf!, $first: Int, $after: String) { folder(path: $path, at: $at) {
    id path assets(first: $first, after: $after) { totalCount nodes { path publishedVersion { number } } pageInfo { hasNextPage endCursor } } } }";

async fn head(server: &TestServer) -> Value {
    json!({ "cursor": server.gql("{ headCursor }", json!({})).await["headCursor"] })
}

/// The number published at a path then: 0 when nothing was, none when there was no asset.
async fn then(server: &TestServer, path: &str, at: &Value) -> Option<i64> {
    let asset = server.gql(ASSET, json!({ "path": path, "at": at })).await["asset"].take();
    (!asset.is_null()).then(|| asset["publishedVersion"]["number"].as_i64().unwrap_or(0))
}

async fn run(server: &TestServer, mutation: &str) {
    server.gql(&format!("mutation {{ {mutation} }}"), json!({})).await;
}

#[tokio::test]
async fn an_asset_is_found_where_it_was_with_what_was_published() {
    let server = TestServer::start().await;
    let start = head(&server).await;
    let first = server.upload(json!({ "path": "a/b/photo" }), HOPPER).await;
    let one = head(&server).await;
    server.upload(json!({ "path": "a/b/photo" }), ROCKET).await;
    let two = head(&server).await;
    run(&server, "moveFolder(input: { folder: { path: \"a\" }, toPath: \"x/y\" }) { oldPath }").await;
    let moved = head(&server).await;
    run(
        &server,
        "renameAsset(input: { asset: { path: \"x/y/b/photo\" }, newName: \"picture\" }) { oldPath }",
    )
    .await;
    let renamed = head(&server).await;
    run(&server, "deleteFolder(input: { folder: { path: \"x\" }, recursive: true }) { deletedFolders }")
        .await;
    let deleted = head(&server).await;
    let folder = server.gql("{ trash { nodes { ... on Folder { id } } } }", json!({})).await;
    let id = text(&folder["trash"]["nodes"][0]["id"]).to_owned();
    run(
        &server,
        &format!("restoreFromTrash(input: {{ id: \"{id}\", toPath: \"back\" }}) {{ changes {{ id }} }}"),
    )
    .await;
    let restored = head(&server).await;
    run(
        &server,
        &format!("archiveVersion(input: {{ versionId: {} }}) {{ version {{ id }} }}", first["version"]["id"]),
    )
    .await;
    let now = head(&server).await;
    for (at, path, number) in [
        (&start, "a/b/photo", None),
        (&one, "a/b/photo", Some(1)),
        (&two, "a/b/photo", Some(2)),
        (&moved, "a/b/photo", None),
        (&moved, "x/y/b/photo", Some(2)),
        (&renamed, "x/y/b/photo", None),
        (&renamed, "x/y/b/picture", Some(2)),
        (&deleted, "x/y/b/picture", None),
        (&restored, "x/y/b/picture", None),
        (&restored, "back/y/b/picture", Some(2)),
        (&now, "back/y/b/picture", Some(2)),
        (&one, "never", None),
    ] {
        assert_eq!(then(&server, path, at).await, number, "{path}");
    }
    let asset = server.gql(ASSET, json!({ "path": "a/b/photo", "at": one })).await["asset"].take();
    assert_eq!(asset["id"], first["asset"]["id"]);
    assert_eq!(
        (&asset["path"], &asset["name"], &asset["folder"]["path"]),
        (&json!("a/b/photo"), &json!("photo"), &json!("a/b"))
    );
    assert_eq!(
        server.get(text(&asset["publishedVersion"]["url"]), &[]).await.bytes().await.expect("bytes"),
        HOPPER
    );
    assert!(asset["url"].is_null(), "the stable URL has what is published now");
}

#[tokio::test]
async fn archiving_and_publishing_again_are_told() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "photo" }), HOPPER).await;
    let id = &done["version"]["id"];
    let draft = server.upload(json!({ "path": "photo", "publish": false }), ROCKET).await;
    run(
        &server,
        &format!("archiveVersion(input: {{ versionId: {} }}) {{ version {{ id }} }}", draft["version"]["id"]),
    )
    .await;
    let aside = head(&server).await;
    run(&server, &format!("archiveVersion(input: {{ versionId: {id} }}) {{ version {{ id }} }}")).await;
    let none = head(&server).await;
    run(&server, &format!("publishVersion(input: {{ versionId: {id} }}) {{ version {{ id }} }}")).await;
    let again = head(&server).await;
    assert_eq!(then(&server, "photo", &aside).await, Some(1), "a draft set aside takes nothing from readers");
    assert_eq!(then(&server, "photo", &none).await, Some(0));
    assert_eq!(then(&server, "photo", &again).await, Some(1));
}

#[tokio::test]
async fn a_folder_lists_what_was_right_in_it() {
    let server = TestServer::start().await;
    for name in ["one", "two", "three", "inner/four"] {
        server.upload(json!({ "path": format!("a/{name}") }), HOPPER).await;
    }
    let full = head(&server).await;
    run(&server, "deleteAsset(input: { asset: { path: \"a/one\" } }) { deletedVersions }").await;
    run(&server, "moveAsset(input: { asset: { path: \"a/two\" }, toFolder: { path: \"b\" } }) { oldPath }")
        .await;
    run(&server, "renameAsset(input: { asset: { path: \"a/three\" }, newName: \"drei\" }) { oldPath }").await;
    server.upload(json!({ "path": "a/drei" }), ROCKET).await;
    let less = head(&server).await;
    run(&server, "moveFolder(input: { folder: { path: \"a\" }, toPath: \"z\" }) { oldPath }").await;
    server.upload(json!({ "path": "z/later" }), HOPPER).await;
    let paths = |folder: &Value| -> Vec<String> {
        let nodes = folder["assets"]["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .map(|node| format!("{} {}", text(&node["path"]), node["publishedVersion"]["number"]))
            .collect()
    };
    let then = server.gql(FOLDER, json!({ "path": "a", "at": full })).await["folder"].take();
    assert_eq!(paths(&then), ["a/one 1", "a/three 1", "a/two 1"]);
    assert_eq!(then["assets"]["totalCount"], 3);
    let later = server.gql(FOLDER, json!({ "path": "a", "at": less })).await["folder"].take();
    assert_eq!(paths(&later), ["a/drei 2"]);
    assert!(server.gql(FOLDER, json!({ "path": "a", "at": head(&server).await })).await["folder"].is_null());
    let page = server.gql(FOLDER, json!({ "path": "a", "at": full, "first": 2 })).await["folder"].take();
    assert_eq!(page["assets"]["pageInfo"]["hasNextPage"], true);
    let after = &page["assets"]["pageInfo"]["endCursor"];
    let rest =
        server.gql(FOLDER, json!({ "path": "a", "at": full, "first": 2, "after": after })).await["folder"]
            .take();
    assert_eq!(paths(&rest), ["a/two 1"]);
    let filtered =
        "query($at: AsOf!) { folder(path: \"a\", at: $at) { assets(recursive: true) { totalCount } } }";
    server.refuses(filtered, json!({ "at": full }), "BAD_USER_INPUT", None).await;
}

#[tokio::test]
async fn an_instant_is_a_moment_too() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let entries = server.gql("{ changes { nodes { at } } }", json!({})).await;
    let at = entries["changes"]["nodes"].as_array().expect("entries").last().expect("an entry")["at"].clone();
    server.clock.advance(60_000);
    server.upload(json!({ "path": "photo" }), ROCKET).await;
    for (time, number) in
        [("2000-01-01T00:00:00Z", None), (text(&at), Some(1)), ("2100-01-01T00:00:00Z", Some(2))]
    {
        assert_eq!(then(&server, "photo", &json!({ "time": time })).await, number, "{time}");
    }
    server
        .refuses(
            ASSET,
            json!({ "path": "photo", "at": { "cursor": "nonsense" } }),
            "BAD_USER_INPUT",
            Some("at.cursor"),
        )
        .await;
    let elsewhere = TestServer::start().await;
    let foreign = json!({ "path": "photo", "at": head(&elsewhere).await });
    server.refuses(ASSET, foreign, "CURSOR_EXPIRED", None).await;
}

#[tokio::test]
async fn the_folder_of_an_asset_as_of_then_is_as_of_then() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "t/one" }), HOPPER).await;
    let then = head(&server).await;
    run(&server, "moveFolder(input: { folder: { path: \"t\" }, toPath: \"t2\" }) { oldPath }").await;
    server.upload(json!({ "path": "t2/later" }), HOPPER).await;
    server.upload(json!({ "path": "t/other" }), HOPPER).await;
    let query =
        "query($at: AsOf!) { asset(path: \"t/one\", at: $at) { folder { path assets { nodes { path } } } } }";
    let seen = server.gql(query, json!({ "at": then })).await;
    assert_eq!(seen["asset"]["folder"], json!({ "path": "t", "assets": { "nodes": [{ "path": "t/one" }] } }));
}
