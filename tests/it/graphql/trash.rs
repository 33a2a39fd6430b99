//! The trash: deleting, what one deletion took, coming back, letting go.

use serde_json::{Value, json};
use vellum::config::Flags;
use vellum::domain::{gc, upload};

use crate::support::{HOPPER, ROCKET, TestServer, text};

const DELETE_FOLDER: &str = "mutation($folder: FolderRef!, $recursive: Boolean! = false, $if: Int) {
    deleteFolder(input: { folder: $folder, recursive: $recursive, ifRevision: $if }) {
        deletedFolders deletedAssets changes { type path } } }";
const DELETE_ASSET: &str = "mutation($asset: AssetRef!, $if: Int) {
    deleteAsset(input: { asset: $asset, ifRevision: $if }) {
        asset { id path revision url deletedAt purgeAt deletedBy { id } } deletedVersions changes { type path } } }";
const DELETE_ASSETS: &str = "mutation($folder: String!, $names: [String!]) {
    deleteAssets(input: { folder: { path: $folder }, names: $names }) {
        deletedAssets deletedVersions changes { type path } } }";
const RESTORE: &str = "mutation($id: ID!, $to: String) { restoreFromTrash(input: { id: $id, toPath: $to }) {
    node { __typename ... on Asset { id path revision publishedVersion { number } versions { totalCount } }
        ... on Folder { id path revision } } changes { type path oldPath } } }";
const PURGE: &str =
    "mutation($id: ID) { purgeTrash(input: { id: $id }) { purgedFolders purgedAssets freedBytes } }";
const TRASH: &str = "query($first: Int, $after: String) { trash(first: $first, after: $after) {
    edges { cursor } pageInfo { hasNextPage endCursor }
    nodes { __typename ... on Asset { id path deletedAt } ... on Folder { id path deletedAt purgeAt } } } }";

async fn delete_folder(server: &TestServer, path: &str) -> Value {
    let variables = json!({ "folder": { "path": path }, "recursive": true });
    server.gql(DELETE_FOLDER, variables).await["deleteFolder"].take()
}

async fn delete_asset(server: &TestServer, path: &str) -> Value {
    server.gql(DELETE_ASSET, json!({ "asset": { "path": path } })).await["deleteAsset"].take()
}

async fn id_of(server: &TestServer, path: &str) -> Value {
    let query = "query($path: String!) { folder(path: $path) { id } asset(path: $path) { id } }";
    let mut found = server.gql(query, json!({ "path": path })).await;
    let kind = if found["folder"].is_null() { "asset" } else { "folder" };
    found[kind]["id"].take()
}

async fn trashed(server: &TestServer) -> Vec<String> {
    let trash = server.gql(TRASH, json!({})).await;
    let nodes = trash["trash"]["nodes"].as_array().expect("nodes");
    nodes.iter().map(|node| text(&node["path"]).to_owned()).collect()
}

#[tokio::test]
async fn a_deleted_asset_is_gone_from_every_place_at_once_and_comes_back_whole() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo", "label": "first" }), HOPPER).await;
    let done = server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    let deleted = delete_asset(&server, "a/photo").await;
    assert_eq!(deleted["changes"], json!([{ "type": "ASSET_DELETE", "path": "a/photo" }]));
    assert_eq!(deleted["deletedVersions"], 2);
    let asset = &deleted["asset"];
    assert_eq!((&asset["path"], &asset["url"]), (&json!("a/photo"), &Value::Null));
    assert!(
        asset["deletedAt"].is_string() && asset["purgeAt"].is_string() && asset["deletedBy"]["id"] == "dev"
    );
    for url in ["/assets/a/photo", text(&done["version"]["url"])] {
        assert_eq!(server.get(url, &[]).await.status(), 404, "{url}");
    }
    let query = "query($id: ID!) { asset(path: \"a/photo\") { id } folder(path: \"a\") { assets { totalCount nodes { id } } }
        assets(filter: { search: \"photo\" }) { totalCount nodes { id } }
        node(id: $id) { ... on Asset { path deletedAt publishedVersion { number } } } }";
    let seen = server.gql(query, json!({ "id": asset["id"] })).await;
    assert!(seen["asset"].is_null());
    for list in [&seen["folder"]["assets"], &seen["assets"]] {
        assert_eq!(*list, json!({ "totalCount": 0, "nodes": [] }));
    }
    assert_eq!(
        (&seen["node"]["path"], &seen["node"]["publishedVersion"]["number"]),
        (&json!("a/photo"), &json!(2))
    );
    let publish = "mutation($id: ID!) { publishVersion(input: { versionId: $id }) { version { id } } }";
    server.refuses(publish, json!({ "id": done["version"]["id"] }), "NOT_FOUND", None).await;

    let restored = server.gql(RESTORE, json!({ "id": asset["id"] })).await["restoreFromTrash"].take();
    assert_eq!(restored["changes"], json!([{ "type": "ASSET_RESTORE", "path": "a/photo", "oldPath": null }]));
    assert_eq!(restored["node"]["publishedVersion"]["number"], 2);
    assert_eq!(restored["node"]["versions"]["totalCount"], 2);
    assert_eq!(server.get("/assets/a/photo", &[]).await.bytes().await.expect("bytes"), ROCKET);
    assert_eq!(server.get(text(&done["version"]["url"]), &[]).await.status(), 200);
    assert!(trashed(&server).await.is_empty());
    server.refuses(RESTORE, json!({ "id": asset["id"] }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn a_folder_goes_with_all_below_in_one_entry_and_exactly_that_comes_back() {
    let server = TestServer::start().await;
    for path in ["a/b/one", "a/b/two", "a/three", "ab/other"] {
        server.upload(json!({ "path": path }), HOPPER).await;
    }
    delete_asset(&server, "a/b/two").await;
    let before = server.history().await.len();
    let folder = id_of(&server, "a").await;
    let inner = id_of(&server, "a/b/one").await;
    server
        .refuses(
            DELETE_FOLDER,
            json!({ "folder": { "path": "a" } }),
            "BAD_USER_INPUT",
            Some("input.recursive"),
        )
        .await;
    let root = json!({ "folder": { "path": "" }, "recursive": true });
    server.refuses(DELETE_FOLDER, root, "BAD_USER_INPUT", Some("input.folder")).await;
    let deleted = delete_folder(&server, "a").await;
    assert_eq!(
        deleted,
        json!({ "deletedFolders": 2, "deletedAssets": 2, "changes": [{ "type": "FOLDER_DELETE", "path": "a" }] })
    );
    assert_eq!(server.history().await.len(), before + 1);
    for path in ["a/b/one", "a/three"] {
        assert_eq!(server.get(&format!("/assets/{path}"), &[]).await.status(), 404, "{path}");
    }
    assert_eq!(server.get("/assets/ab/other", &[]).await.status(), 200);
    let seen =
        server.gql("{ folder(path: \"a/b\") { id } assets { nodes { path } totalCount } }", json!({})).await;
    assert!(seen["folder"].is_null());
    assert_eq!(seen["assets"], json!({ "nodes": [{ "path": "ab/other" }], "totalCount": 1 }));
    assert_eq!(trashed(&server).await, ["a", "a/b/two"], "newest first; what went along is not beside it");
    let inside = "query($id: ID!) { node(id: $id) { ... on Folder { path deletedAt folders { totalCount nodes { path deletedAt } } } } }";
    let inside = server.gql(inside, json!({ "id": folder })).await["node"].take();
    assert_eq!((&inside["path"], &inside["folders"]["totalCount"]), (&json!("a"), &json!(1)));
    assert!(inside["folders"]["nodes"][0]["deletedAt"].is_string());
    server.refuses(RESTORE, json!({ "id": inner }), "BAD_USER_INPUT", Some("input.id")).await;

    let restored = server.gql(RESTORE, json!({ "id": folder })).await["restoreFromTrash"].take();
    assert_eq!(restored["changes"], json!([{ "type": "FOLDER_RESTORE", "path": "a", "oldPath": null }]));
    let seen = server.gql("{ folder(path: \"a/b\") { assets { nodes { path url } } } }", json!({})).await;
    let nodes = seen["folder"]["assets"]["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 1, "what was deleted before stays deleted: {nodes:?}");
    assert_eq!(server.get(text(&nodes[0]["url"]), &[]).await.status(), 200);
    assert_eq!(trashed(&server).await, ["a/b/two"]);
}

#[tokio::test]
async fn the_name_is_free_at_once_and_another_place_helps() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let (folder, asset) = (id_of(&server, "a").await, id_of(&server, "a/photo").await);
    delete_folder(&server, "a").await;
    server.upload(json!({ "path": "a" }), ROCKET).await;
    server.refuses(RESTORE, json!({ "id": folder }), "ALREADY_EXISTS", None).await;
    server.refuses(RESTORE, json!({ "id": folder, "to": "a/b" }), "ALREADY_EXISTS", None).await;
    server
        .refuses(RESTORE, json!({ "id": folder, "to": "../x" }), "BAD_USER_INPUT", Some("input.toPath"))
        .await;
    server
        .refuses(
            RESTORE,
            json!({ "id": folder, "to": "x/".repeat(31) + "y" }),
            "BAD_USER_INPUT",
            Some("input.toPath"),
        )
        .await;
    let restored = server.gql(RESTORE, json!({ "id": folder, "to": "x/y" })).await["restoreFromTrash"].take();
    assert_eq!(
        restored["changes"],
        json!([{ "type": "FOLDER_CREATE", "path": "x", "oldPath": null }, { "type": "FOLDER_RESTORE", "path": "x/y", "oldPath": "a" }])
    );
    assert_eq!(id_of(&server, "x/y/photo").await, asset);
    assert_eq!(server.get("/assets/x/y/photo", &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.get("/assets/a", &[]).await.bytes().await.expect("bytes"), ROCKET);
    let found = server.gql("{ assets(filter: { search: \"X/Y/ph\" }) { nodes { path } } }", json!({})).await;
    assert_eq!(found["assets"]["nodes"], json!([{ "path": "x/y/photo" }]));
}

#[tokio::test]
async fn an_asset_whose_folder_is_gone_comes_back_with_it() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/photo" }), HOPPER).await;
    let asset = delete_asset(&server, "a/b/photo").await["asset"]["id"].take();
    let folder = id_of(&server, "a").await;
    delete_folder(&server, "a").await;
    assert_eq!(server.gql(PURGE, json!({ "id": folder })).await["purgeTrash"]["purgedFolders"], 2);
    let seen = server
        .gql(
            "query($id: ID!) { node(id: $id) { ... on Asset { path folder { path } } } }",
            json!({ "id": asset }),
        )
        .await;
    assert_eq!(seen["node"]["path"], "a/b/photo", "it still knows where it was");
    let restored = server.gql(RESTORE, json!({ "id": asset })).await["restoreFromTrash"].take();
    let types: Vec<&str> =
        restored["changes"].as_array().expect("changes").iter().map(|entry| text(&entry["type"])).collect();
    assert_eq!(types, ["FOLDER_CREATE", "FOLDER_CREATE", "ASSET_RESTORE"]);
    assert_eq!(server.get("/assets/a/b/photo", &[]).await.status(), 200);
}

#[tokio::test]
async fn deleting_again_answers_the_same_and_writes_nothing() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let first = delete_asset(&server, "a/photo").await;
    for target in [json!({ "path": "a/photo" }), json!({ "id": first["asset"]["id"] })] {
        let again = server.gql(DELETE_ASSET, json!({ "asset": target })).await["deleteAsset"].take();
        assert_eq!(again["asset"], first["asset"]);
        assert_eq!(again["changes"], json!([]));
    }
    let folder = id_of(&server, "a").await;
    let first = delete_folder(&server, "a").await;
    for target in [json!({ "path": "a" }), json!({ "id": folder })] {
        let again = server.gql(DELETE_FOLDER, json!({ "folder": target, "recursive": true })).await;
        assert_eq!(again["deleteFolder"]["deletedFolders"], first["deletedFolders"]);
        assert_eq!(again["deleteFolder"]["changes"], json!([]));
    }
    server.refuses(DELETE_ASSET, json!({ "asset": { "path": "never" } }), "NOT_FOUND", None).await;
    server.refuses(DELETE_FOLDER, json!({ "folder": { "path": "never" } }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn a_stale_revision_deletes_nothing() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    server
        .refuses(DELETE_ASSET, json!({ "asset": { "path": "a/photo" }, "if": 9 }), "REVISION_CONFLICT", None)
        .await;
    let stale = json!({ "folder": { "path": "a" }, "recursive": true, "if": 9 });
    server.refuses(DELETE_FOLDER, stale, "REVISION_CONFLICT", None).await;
    assert_eq!(server.get("/assets/a/photo", &[]).await.status(), 200);
}

#[tokio::test]
async fn many_assets_go_in_one_commit_and_come_back_one_by_one() {
    let server = TestServer::start().await;
    for name in ["one", "two", "three", "inner/four"] {
        server.upload(json!({ "path": format!("a/{name}") }), HOPPER).await;
    }
    server
        .refuses(DELETE_ASSETS, json!({ "folder": "a", "names": ["one", "nine"] }), "NOT_FOUND", None)
        .await;
    server
        .refuses(
            DELETE_ASSETS,
            json!({ "folder": "a", "names": ["x/y"] }),
            "BAD_USER_INPUT",
            Some("input.names"),
        )
        .await;
    let some =
        server.gql(DELETE_ASSETS, json!({ "folder": "a", "names": ["one", "one"] })).await["deleteAssets"]
            .take();
    assert_eq!(
        some,
        json!({ "deletedAssets": 1, "deletedVersions": 1, "changes": [{ "type": "ASSET_DELETE", "path": "a/one" }] })
    );
    let all = server.gql(DELETE_ASSETS, json!({ "folder": "a", "names": null })).await["deleteAssets"].take();
    assert_eq!((&all["deletedAssets"], all["changes"].as_array().expect("changes").len()), (&json!(2), 2));
    let again =
        server.gql(DELETE_ASSETS, json!({ "folder": "a", "names": ["one"] })).await["deleteAssets"].take();
    assert_eq!((&again["deletedAssets"], &again["changes"]), (&json!(0), &json!([])), "it holds already");
    assert_eq!(server.get("/assets/a/inner/four", &[]).await.status(), 200, "only those right in the folder");
    let page = server.gql(TRASH, json!({ "first": 2 })).await["trash"].take();
    assert_eq!(page["pageInfo"]["hasNextPage"], true);
    let rest =
        server.gql(TRASH, json!({ "first": 2, "after": page["pageInfo"]["endCursor"] })).await["trash"]
            .take();
    assert_eq!(rest["nodes"].as_array().expect("nodes").len(), 1);
    server.gql(RESTORE, json!({ "id": rest["nodes"][0]["id"] })).await;
    assert_eq!(server.get("/assets/a/one", &[]).await.status(), 200);
    assert_eq!(server.get("/assets/a/two", &[]).await.status(), 404);
}

#[tokio::test]
async fn purging_lets_go_of_rows_and_then_of_bytes_that_nothing_else_needs() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    let other = server.upload(json!({ "path": "other" }), HOPPER).await;
    assert_eq!(server.stored("blobs").len(), 2, "the same bytes are kept once");
    let asset = id_of(&server, "a/photo").await;
    server.refuses(PURGE, json!({ "id": asset }), "NOT_FOUND", None).await;
    delete_folder(&server, "a").await;
    server.refuses(PURGE, json!({ "id": asset }), "BAD_USER_INPUT", Some("input.id")).await;
    let folder = server.gql(TRASH, json!({})).await["trash"]["nodes"][0]["id"].take();
    let purged = server.gql(PURGE, json!({ "id": folder })).await["purgeTrash"].take();
    assert_eq!(purged, json!({ "purgedFolders": 1, "purgedAssets": 1, "freedBytes": ROCKET.len() }));
    gc::collect(&server.app).await.expect("collected");
    assert_eq!(server.stored("blobs").len(), 1);
    assert_eq!(server.get(text(&other["version"]["url"]), &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.history().await.last().map(String::as_str), Some("ASSET_PURGE a/photo"));
    let seen = server
        .gql(
            "query($id: ID!) { node(id: $id) { id } changes { nodes { type asset { id } } } }",
            json!({ "id": asset }),
        )
        .await;
    assert!(seen["node"].is_null());
    let entries = seen["changes"]["nodes"].as_array().expect("entries");
    let purge = entries.iter().find(|entry| entry["type"] == "ASSET_PURGE").expect("the entry");
    assert!(purge["asset"].is_null(), "what is purged cannot be reached");
    server.refuses(RESTORE, json!({ "id": folder }), "NOT_FOUND", None).await;
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    assert_eq!(server.get("/assets/a/photo", &[]).await.bytes().await.expect("bytes"), ROCKET);
}

#[tokio::test]
async fn the_trash_lets_go_when_the_time_is_over() {
    let server = TestServer::with(Flags { dev: true, ..Flags::default() }, "trash_ttl_seconds = 3600").await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    delete_folder(&server, "a").await;
    let nothing = json!({ "purgedFolders": 0, "purgedAssets": 0, "freedBytes": 0 });
    assert_eq!(server.gql(PURGE, json!({})).await["purgeTrash"], nothing);
    server.clock.advance(3_600_001);
    assert_eq!(server.gql(PURGE, json!({})).await["purgeTrash"]["purgedAssets"], 1);
    assert!(trashed(&server).await.is_empty());
    gc::collect(&server.app).await.expect("collected");
    upload::sweep(&server.app).await.expect("swept");
    assert!(server.stored("blobs").is_empty());
}

#[tokio::test]
async fn a_large_folder_is_purged_in_several_commits() {
    let server = TestServer::start().await;
    let operations = |from: usize| -> Vec<Value> {
        (from..from + 600).map(|number| json!({ "createAsset": { "path": format!("a/{number}") } })).collect()
    };
    let apply = "mutation($operations: [Operation!]!) { applyChanges(input: { operations: $operations }) { changes { id } } }";
    server.gql(apply, json!({ "operations": operations(0) })).await;
    server.gql(apply, json!({ "operations": operations(600) })).await;
    let deleted = delete_folder(&server, "a").await;
    assert_eq!(deleted["deletedAssets"], 1200);
    let folder = server.gql(TRASH, json!({})).await["trash"]["nodes"][0]["id"].take();
    let purged = server.gql(PURGE, json!({ "id": folder })).await["purgeTrash"].take();
    assert_eq!((&purged["purgedFolders"], &purged["purgedAssets"]), (&json!(1), &json!(1200)));
    let count = server.history().await.iter().filter(|entry| entry.starts_with("ASSET_PURGE")).count();
    assert_eq!(count, 1200);
}

#[tokio::test]
async fn bytes_that_cannot_be_removed_block_no_others() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/one" }), HOPPER).await;
    server.upload(json!({ "path": "a/two" }), ROCKET).await;
    // A folder with something in it where the file was: removing it fails for everybody, root too.
    let one = find(&server, HOPPER);
    std::fs::remove_file(&one).expect("removed");
    std::fs::create_dir(&one).expect("a folder");
    std::fs::write(one.join("x"), b"x").expect("a file");
    delete_folder(&server, "a").await;
    server.clock.advance(31 * 24 * 3_600_000);
    assert_eq!(server.gql(PURGE, json!({})).await["purgeTrash"]["purgedAssets"], 2);
    gc::collect(&server.app).await.expect("collected");
    assert_eq!(server.stored("blobs"), ["x"], "the other one is gone");
    std::fs::remove_dir_all(&one).expect("removed");
    server.clock.advance(3_600_000);
    gc::collect(&server.app).await.expect("collected");
    server.clock.advance(3_600_000);
    assert_eq!(gc::collect(&server.app).await.expect("collected"), 0, "nothing is left to try");
}

fn find(server: &TestServer, bytes: &[u8]) -> std::path::PathBuf {
    let shards = std::fs::read_dir(server.data().join("blobs")).expect("a folder");
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.expect("a shard").path()).expect("a folder"));
    let mut paths = files.map(|file| file.expect("a file").path());
    paths.find(|path| std::fs::read(path).is_ok_and(|found| found == bytes)).expect("the bytes")
}
