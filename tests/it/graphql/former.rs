//! Old paths lead on while nothing else took them.

use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer, text};

async fn move_folder(server: &TestServer, from: &str, to: &str) {
    let query = "mutation($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { oldPath } }";
    server.gql(query, json!({ "from": from, "to": to })).await;
}

async fn rename(server: &TestServer, from: &str, name: &str) {
    let query = "mutation($from: String!, $name: String!) { renameAsset(input: { asset: { path: $from }, newName: $name }) { oldPath } }";
    server.gql(query, json!({ "from": from, "name": name })).await;
}

async fn delete(server: &TestServer, path: &str) -> Value {
    let query =
        "mutation($path: String!) { deleteAsset(input: { asset: { path: $path } }) { asset { id } } }";
    server.gql(query, json!({ "path": path })).await["deleteAsset"]["asset"]["id"].take()
}

/// Where a URL leads: a path, or a status.
async fn leads(server: &TestServer, path: &str) -> String {
    let response = server.get(&format!("/assets/{path}"), &[]).await;
    match response.headers().get("location") {
        Some(location) => {
            assert_eq!(response.status(), 308);
            let location = location.to_str().expect("a text");
            location.split_once("/assets/").expect("a stable URL").1.to_owned()
        }
        None => response.status().as_u16().to_string(),
    }
}

async fn former(server: &TestServer, path: &str) -> Value {
    let query = "query($path: String!) { asset(path: $path) { formerPaths } }";
    server.gql(query, json!({ "path": path })).await["asset"]["formerPaths"].take()
}

#[tokio::test]
async fn every_path_that_it_had_leads_to_where_it_is() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/photo" }), HOPPER).await;
    move_folder(&server, "a", "x").await;
    rename(&server, "x/b/photo", "picture").await;
    move_folder(&server, "x/b", "y").await;
    move_folder(&server, "y", "z/deep").await;
    for path in ["a/b/photo", "x/b/photo", "x/b/picture", "y/picture"] {
        assert_eq!(leads(&server, path).await, "z/deep/picture", "{path}");
    }
    for path in ["a/photo", "y/photo", "a/b", "a/b/picture", "z/deep/photo"] {
        assert_eq!(leads(&server, path).await, "404", "{path}");
    }
    assert_eq!(
        former(&server, "z/deep/picture").await,
        json!(["y/picture", "x/b/picture", "x/b/photo", "a/b/photo"])
    );
    let found =
        server.gql("{ asset(path: \"a/b/photo\") { id } folder(path: \"a/b\") { id } }", json!({})).await;
    assert_eq!(found, json!({ "asset": null, "folder": null }), "only current paths are found");
}

#[tokio::test]
async fn what_takes_a_path_ends_the_way() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    server.upload(json!({ "path": "a/other" }), HOPPER).await;
    rename(&server, "a/photo", "picture").await;
    move_folder(&server, "a", "b").await;
    assert_eq!(leads(&server, "a/photo").await, "b/picture");
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    assert_eq!(leads(&server, "a/photo").await, "200");
    assert_eq!(former(&server, "b/picture").await, json!(["a/picture"]));
    assert_eq!(leads(&server, "a/other").await, "b/other", "a new folder there takes only what is in it");
    delete(&server, "a/photo").await;
    assert_eq!(
        leads(&server, "a/photo").await,
        "404",
        "a deleted thing's URL leads nowhere, whoever was there before"
    );
    assert_eq!(former(&server, "b/picture").await, json!(["a/picture"]));
    let create = "mutation { createFolder(input: { path: \"a/other\" }) { created } }";
    server.gql(create, json!({})).await;
    assert_eq!(leads(&server, "a/other").await, "404", "a folder is there");
    assert_eq!(former(&server, "b/other").await, json!([]));
    move_folder(&server, "a/other", "elsewhere").await;
    assert_eq!(leads(&server, "a/other").await, "b/other", "the folder went on");
}

#[tokio::test]
async fn what_went_with_a_folder_is_remembered_where_it_was() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    rename(&server, "a/photo", "picture").await;
    move_folder(&server, "a", "b").await;
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    move_folder(&server, "a", "c").await;
    assert_eq!(former(&server, "b/picture").await, json!(["a/picture"]), "another was at a/photo since");
    assert_eq!(leads(&server, "a/photo").await, "c/photo");
    let folder = server.gql("{ folder(path: \"c\") { id } }", json!({})).await["folder"]["id"].take();
    let delete =
        "mutation($id: ID!) { deleteFolder(input: { folder: { id: $id }, recursive: true }) { __typename } }";
    server.gql(delete, json!({ "id": folder })).await;
    assert_eq!(leads(&server, "a/photo").await, "404", "it is in the trash");
    let purge = "mutation($id: ID!) { purgeTrash(input: { id: $id }) { __typename } }";
    server.gql(purge, json!({ "id": folder })).await;
    assert_eq!(leads(&server, "a/photo").await, "404", "it is gone");
    assert_eq!(leads(&server, "a/picture").await, "b/picture");
}

#[tokio::test]
async fn what_was_purged_with_a_folder_leads_to_nobody_who_was_there_before() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/x" }), HOPPER).await;
    move_folder(&server, "a", "b").await;
    server.upload(json!({ "path": "a/x" }), ROCKET).await;
    let folder = server.gql("{ folder(path: \"a\") { id } }", json!({})).await["folder"]["id"].take();
    let delete =
        "mutation($id: ID!) { deleteFolder(input: { folder: { id: $id }, recursive: true }) { __typename } }";
    server.gql(delete, json!({ "id": folder })).await;
    assert_eq!(leads(&server, "a/x").await, "404");
    let purge = "mutation($id: ID!) { purgeTrash(input: { id: $id }) { __typename } }";
    server.gql(purge, json!({ "id": folder })).await;
    assert_eq!(leads(&server, "a/x").await, "404");
    assert_eq!(former(&server, "b/x").await, json!([]));
    delete_asset_keeps_its_paths_to_itself(&server).await;
}

async fn delete_asset_keeps_its_paths_to_itself(server: &TestServer) {
    let id = delete(server, "b/x").await;
    let trashed = server
        .gql("query($id: ID!) { node(id: $id) { ... on Asset { formerPaths } } }", json!({ "id": id }))
        .await;
    assert_eq!(trashed["node"]["formerPaths"], json!([]), "nothing leads to the trash");
}

#[tokio::test]
async fn nobody_is_led_to_what_is_gone_hidden_or_unpublished() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    rename(&server, "photo", "picture").await;
    let archive = "mutation($id: ID!) { archiveVersion(input: { versionId: $id }) { version { id } } }";
    let publish = "mutation($id: ID!) { publishVersion(input: { versionId: $id }) { version { id } } }";
    let version = server.gql("{ asset(path: \"picture\") { latestVersion { id } } }", json!({})).await;
    let version = json!({ "id": version["asset"]["latestVersion"]["id"] });
    server.gql(archive, version.clone()).await;
    assert_eq!(leads(&server, "photo").await, "404");
    server.gql(publish, version).await;
    assert_eq!(leads(&server, "photo").await, "picture");
    let id = delete(&server, "picture").await;
    assert_eq!(leads(&server, "photo").await, "404");
    let restore = "mutation($id: ID!) { restoreFromTrash(input: { id: $id }) { changes { id } } }";
    server.gql(restore, json!({ "id": id })).await;
    assert_eq!(leads(&server, "photo").await, "picture");
    let head = server.send(reqwest::Method::HEAD, "/assets/photo", &[], b"").await;
    assert_eq!((head.status().as_u16(), head.headers()["cache-control"].as_bytes()), (308, &b"no-cache"[..]));
}

#[tokio::test]
async fn a_path_that_it_comes_back_to_is_no_former_one() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    rename(&server, "photo", "other").await;
    rename(&server, "other", "photo").await;
    assert_eq!(former(&server, "photo").await, json!(["other"]));
    assert_eq!(leads(&server, "photo").await, "200");
    assert_eq!(leads(&server, "other").await, "photo");
    server.upload(json!({ "path": "second" }), ROCKET).await;
    rename(&server, "second", "other").await;
    rename(&server, "other", "third").await;
    assert_eq!(leads(&server, "other").await, "third", "the last one that had it");
    assert_eq!(former(&server, "photo").await, json!([]));
    assert_eq!(former(&server, "third").await, json!(["other", "second"]));
    let listed = server.gql("{ assets { nodes { path formerPaths } } }", json!({})).await;
    assert_eq!(text(&listed["assets"]["nodes"][1]["formerPaths"][0]), "other");
}
