//! Refetching by id.

use serde_json::{Value, json};

use crate::support::{HOPPER, TestServer};

#[tokio::test]
async fn everything_with_an_id_can_be_fetched_by_it() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "a/photo" })).await;
    server.send_bytes(&intent, HOPPER).await;
    let done = server.finish_upload(&intent).await;
    let folder = server.gql("{ folder(path: \"a\") { id } }", json!({})).await["folder"]["id"].take();
    let ids = json!([
        folder,
        done["asset"]["id"],
        done["version"]["id"],
        intent["id"],
        "change_1",
        "asset_01jd3sya5hfrvvr4b2xgn3fcke",
        "nonsense",
        "asset_x",
        ""
    ]);
    let answer =
        server.gql("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", json!({ "ids": ids })).await;
    let found: Vec<Value> =
        answer["nodes"].as_array().expect("nodes").iter().map(|node| node["__typename"].clone()).collect();
    let expected = json!(["Folder", "Asset", "Version", "UploadIntent", "Change", null, null, null, null]);
    assert_eq!(Value::Array(found), expected);
    assert_eq!(answer["nodes"][1]["id"], done["asset"]["id"]);
    let many = vec!["x"; 201];
    server
        .refuses(
            "query($ids: [ID!]!) { nodes(ids: $ids) { id } }",
            json!({ "ids": many }),
            "BAD_USER_INPUT",
            Some("ids"),
        )
        .await;
}
