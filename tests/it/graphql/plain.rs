//! Nodes of a page are written row by row where they can be; edges never are. Both say the same.

use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer};

const ACTOR: [&str; 3] = ["id", "name", "__typename"];
const VERSION: [&str; 20] = [
    "id",
    "number",
    "state",
    "label",
    "filename",
    "contentType",
    "size",
    "sha256",
    "url",
    "createdAt",
    "publishedAt",
    "archivedAt",
    "createdBy { ACTOR }",
    "publishedBy { ACTOR kind }",
    "archivedBy { ACTOR }",
    "__typename",
    "renamed: number",
    "asset { path }",
    "signed: signedUrl { expiresAt }",
    "number @include(if: true)",
];
const ASSET: [&str; 22] = [
    "id",
    "path",
    "name",
    "title",
    "altText",
    "tags",
    "metadata",
    "revision",
    "createdAt",
    "updatedAt",
    "createdBy { ACTOR }",
    "updatedBy { ACTOR }",
    "url",
    "__typename",
    "publishedVersion { VERSION }",
    "again: publishedVersion { VERSION }",
    "visibility",
    "latestVersion { number }",
    "title @skip(if: true)",
    "...Part",
    "... on Asset { path title }",
    "formerPaths",
];
const CHANGE: [&str; 17] = [
    "id",
    "cursor",
    "type",
    "at",
    "actor { ACTOR }",
    "who: actor { kind ACTOR }",
    "path",
    "oldPath",
    "folderPath",
    "name",
    "versionNumber",
    "contentType",
    "size",
    "sha256",
    "__typename",
    "again: type",
    "asset { path }",
];
const FOLDER: [&str; 10] = [
    "id",
    "path",
    "name",
    "title",
    "revision",
    "createdAt",
    "updatedAt",
    "createdBy { ACTOR }",
    "parent { path }",
    "__typename",
];

fn some<const N: usize>(fields: [&'static str; N], most: usize) -> impl Strategy<Value = String> {
    subsequence(fields.to_vec(), 1..=most).prop_shuffle().prop_map(|fields| fields.join(" "))
}

/// A selection of assets, versions, folders and entries.
fn selection() -> impl Strategy<Value = [String; 4]> {
    (some(ASSET, 8), some(VERSION, 8), some(FOLDER, 6), some(CHANGE, 8), some(ACTOR, 3)).prop_map(
        |(asset, version, folder, change, actor)| {
            // A signed URL is another one each time.
            let version = version.replace("ACTOR", &actor);
            let plain = |text: String| text.replace("signed: signedUrl { expiresAt }", "number");
            [
                asset.replace("VERSION", &version).replace("ACTOR", &actor),
                version.clone(),
                folder.replace("ACTOR", &actor),
                change.replace("ACTOR", &actor),
            ]
            .map(plain)
        },
    )
}

#[tokio::test]
async fn nodes_say_what_edges_say() {
    let server = TestServer::start().await;
    for (path, bytes, publish) in [
        ("a/one", HOPPER, true),
        ("a/one", ROCKET, true),
        ("a/two", ROCKET, false),
        ("a/b/three", HOPPER, true),
    ] {
        server.upload(json!({ "path": path, "label": "l", "publish": publish }), bytes).await;
    }
    let create = "mutation { createAsset(input: { path: \"a/none\", title: \"t\", tags: [\"x\"], metadata: { a: [1, null] } }) { asset { id } } }";
    server.gql(create, json!({})).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let [asset, version, folder, change] =
            selection().new_tree(&mut runner).expect("a selection").current();
        let part = if asset.contains("...Part") { "fragment Part on Asset { id name }" } else { "" };
        let both = |selection: &str| format!("nodes {{ {selection} }} edges {{ node {{ {selection} }} }}");
        let query = format!(
            "{{ folder(path: \"a\") {{ assets {{ {} }} folders {{ {} }} }} asset(path: \"a/one\") {{ versions {{ {} }} }} changes {{ {} }} }} {part}",
            both(&asset),
            both(&folder),
            both(&version),
            both(&change),
        );
        let seen = server.gql(&query, json!({})).await;
        let folder = &seen["folder"];
        for page in [&folder["assets"], &folder["folders"], &seen["asset"]["versions"], &seen["changes"]] {
            let edges = page["edges"].as_array().expect("edges").iter().map(|edge| edge["node"].clone());
            // As text, since the order of the fields is part of the answer.
            assert_eq!(page["nodes"].to_string(), Value::Array(edges.collect()).to_string(), "{query}");
        }
    }
}
