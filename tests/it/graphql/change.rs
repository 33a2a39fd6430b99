//! The changelog by query: cursors, filters, what entries tell.

use serde_json::{Value, json};

use crate::support::{HOPPER, TestServer, text};

const PAGE: &str = "query($after: String, $first: Int, $filter: ChangeFilter) {
    changes(after: $after, first: $first, filter: $filter) {
        nodes { type path oldPath } nextCursor pageInfo { hasNextPage hasPreviousPage } } }";

async fn paths(server: &TestServer, filter: Value) -> Vec<String> {
    let page = server.gql(PAGE, json!({ "filter": filter, "first": 200 })).await;
    let nodes = page["changes"]["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| format!("{} {}", text(&node["type"]), text(&node["path"]))).collect()
}

#[tokio::test]
async fn every_page_size_gives_the_same_entries_in_the_same_order() {
    let server = TestServer::start().await;
    for number in 0..7 {
        server.upload(json!({ "path": format!("f{number}/a") }), format!("{number}").as_bytes()).await;
    }
    let all = server.changelog(200).await;
    assert_eq!(all.len(), 21);
    for page in [1, 2, 3, 5, 20] {
        assert_eq!(server.changelog(page).await, all, "{page}");
    }
    let head = server.gql("{ headCursor }", json!({})).await["headCursor"].take();
    assert_eq!(head, all[20]["cursor"]);
    let empty = server.gql(PAGE, json!({ "after": head })).await["changes"].take();
    assert_eq!((&empty["nodes"], &empty["nextCursor"]), (&json!([]), &head));
    assert_eq!(empty["pageInfo"], json!({ "hasNextPage": false, "hasPreviousPage": true }));
    let zero = server.gql(PAGE, json!({ "first": 0 })).await["changes"].take();
    assert_eq!((&zero["nodes"], &zero["pageInfo"]["hasNextPage"]), (&json!([]), &json!(true)));
}

#[tokio::test]
async fn cursors_that_are_none_or_from_elsewhere_are_refused() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let foreign = other.gql("{ headCursor }", json!({})).await["headCursor"].take();
    server.refuses(PAGE, json!({ "after": "garbage" }), "BAD_USER_INPUT", Some("after")).await;
    server.refuses(PAGE, json!({ "after": foreign }), "CURSOR_EXPIRED", None).await;
    let ahead = server.app.feed().encode(1_000);
    server.refuses(PAGE, json!({ "after": ahead }), "CURSOR_EXPIRED", None).await;
    server.refuses(PAGE, json!({ "first": 201 }), "BAD_USER_INPUT", Some("first")).await;
    let mut socket = server.socket().await;
    let follow = "subscription($after: String) { changes(after: $after) { cursor } }";
    for (after, code) in [(foreign, "CURSOR_EXPIRED"), (json!("garbage"), "BAD_USER_INPUT")] {
        socket.subscribe("1", follow, json!({ "after": after })).await;
        let refused = socket.next().await;
        assert_eq!(
            (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
            (&json!("error"), &json!(code))
        );
    }
}

#[tokio::test]
async fn filters_follow_a_folder_by_id_and_a_place_by_path() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/photo" }), HOPPER).await;
    server.upload(json!({ "path": "c/other" }), HOPPER).await;
    let a = server.gql("{ folder(path: \"a\") { id } }", json!({})).await["folder"]["id"].take();
    let by_id = json!({ "folder": { "id": a } });
    let by_path = json!({ "folder": { "path": "a" } });
    let in_a = ["FOLDER_CREATE a", "FOLDER_CREATE a/b", "ASSET_CREATE a/b/photo", "ASSET_PUBLISH a/b/photo"];
    assert_eq!(paths(&server, by_id.clone()).await, in_a);
    assert_eq!(paths(&server, by_path.clone()).await, in_a);
    let not_below = json!({ "folder": { "path": "a" }, "recursive": false });
    assert_eq!(paths(&server, not_below).await, in_a[..2]);
    let not_below = json!({ "folder": { "id": a }, "recursive": false });
    assert_eq!(paths(&server, not_below).await, in_a[..2]);

    let move_asset = "mutation($from: String!, $to: String!) { moveAsset(input: { asset: { path: $from }, toFolder: { path: $to } }) { oldPath } }";
    server.gql(move_asset, json!({ "from": "a/b/photo", "to": "c" })).await;
    server.gql(move_asset, json!({ "from": "c/other", "to": "a" })).await;
    let mut expected = in_a.map(ToOwned::to_owned).to_vec();
    expected.extend(["ASSET_MOVE c/photo", "ASSET_MOVE a/other"].map(ToOwned::to_owned));
    assert_eq!(paths(&server, by_id.clone()).await, expected, "out and in both show");
    assert_eq!(paths(&server, by_path.clone()).await, expected);

    server
        .gql(
            "mutation { moveFolder(input: { folder: { path: \"a\" }, toPath: \"z\" }) { oldPath } }",
            json!({}),
        )
        .await;
    server.upload(json!({ "path": "z/new" }), HOPPER).await;
    expected.push("FOLDER_MOVE z".to_owned());
    assert_eq!(paths(&server, by_path).await, expected, "the place is empty since");
    expected.extend(["ASSET_CREATE z/new", "ASSET_PUBLISH z/new"].map(ToOwned::to_owned));
    assert_eq!(paths(&server, by_id).await, expected, "the folder is followed");
    let above = json!({ "folder": { "path": "a/b" } });
    assert!(paths(&server, above).await.contains(&"FOLDER_MOVE z".to_owned()), "it moved with the one above");
}

#[tokio::test]
async fn filters_by_asset_and_type_and_of_nothing() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    server.upload(json!({ "path": "a/other" }), HOPPER).await;
    let id = &done["asset"]["id"];
    let own = ["ASSET_CREATE a/photo", "ASSET_PUBLISH a/photo"];
    assert_eq!(paths(&server, json!({ "asset": { "id": id } })).await, own);
    assert_eq!(paths(&server, json!({ "asset": { "path": "a/photo" } })).await, own);
    let published = json!({ "types": ["ASSET_PUBLISH"] });
    assert_eq!(paths(&server, published).await, ["ASSET_PUBLISH a/photo", "ASSET_PUBLISH a/other"]);
    let both = json!({ "asset": { "id": id }, "types": ["ASSET_PUBLISH"] });
    assert_eq!(paths(&server, both).await, ["ASSET_PUBLISH a/photo"]);
    assert!(paths(&server, json!({ "asset": { "path": "nowhere" } })).await.is_empty());
    assert!(paths(&server, json!({ "folder": { "path": "nowhere" } })).await.is_empty());
    assert!(paths(&server, json!({ "types": [] })).await.is_empty());
}

#[tokio::test]
async fn an_entry_tells_what_was_true_and_leads_to_what_is() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "a/photo", "contentType": "image/jpeg" }), HOPPER).await;
    server.gql("mutation { renameAsset(input: { asset: { path: \"a/photo\" }, newName: \"renamed\" }) { oldPath } }", json!({})).await;
    let query = "query($id: ID!) { asset(path: \"a/renamed\") { changes {
        nodes { id type path oldPath folderPath name versionNumber contentType size sha256 at actor { id kind }
            asset { path } folder { path } version { id } } nextCursor pageInfo { hasNextPage } } }
        node(id: $id) { ... on Change { type } } }";
    let answer = server.gql(query, json!({ "id": "change_3" })).await;
    let nodes = answer["asset"]["changes"]["nodes"].as_array().expect("nodes");
    let publish = &nodes[1];
    assert_eq!((&publish["type"], &publish["path"]), (&json!("ASSET_PUBLISH"), &json!("a/photo")));
    assert_eq!((&publish["size"], &publish["versionNumber"]), (&json!(HOPPER.len()), &json!(1)));
    assert_eq!(
        (&publish["asset"]["path"], &publish["version"]["id"]),
        (&json!("a/renamed"), &done["version"]["id"])
    );
    assert_eq!((&nodes[2]["oldPath"], &nodes[2]["name"]), (&json!("a/photo"), &json!("renamed")));
    assert_eq!(answer["node"]["type"], "ASSET_PUBLISH");
    assert!(text(&publish["at"]).ends_with('Z'));
}
