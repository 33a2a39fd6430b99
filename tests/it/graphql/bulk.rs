//! Several operations as one.

use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer, text};

const APPLY: &str = "mutation($operations: [Operation!]!, $dry: Boolean! = false) {
    applyChanges(input: { operations: $operations, dryRun: $dry }) { changes { type path oldPath versionNumber } } }";

fn types(payload: &Value) -> Vec<String> {
    let changes = payload["applyChanges"]["changes"].as_array().expect("changes");
    changes.iter().map(|entry| format!("{} {}", text(&entry["type"]), text(&entry["path"]))).collect()
}

#[tokio::test]
async fn operations_happen_together_in_one_batch_of_entries() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let intent = server.start_upload(json!({ "path": "a/second" })).await;
    server.send_bytes(&intent, ROCKET).await;
    let mut socket = server.socket().await;
    socket.subscribe("1", "subscription { changes { changes { type } } }", json!({})).await;
    let operations = json!([
        { "createFolder": { "path": "b" } },
        { "createFolder": { "titled": { "parent": { "path": "b" }, "title": "Über uns" } } },
        { "updateFolder": { "folder": { "path": "b" }, "title": "B" } },
        { "moveAsset": { "asset": { "path": "a/photo" }, "toFolder": { "path": "b" } } },
        { "renameAsset": { "asset": { "path": "b/photo" }, "newName": "picture" } },
        { "updateAsset": { "asset": { "path": "b/picture" }, "title": "Picture" } },
        { "archiveVersion": { "versionId": done["version"]["id"] } },
        { "publishVersion": { "versionId": done["version"]["id"] } },
        { "restoreVersion": { "versionId": done["version"]["id"] } },
        { "updateVersion": { "versionId": done["version"]["id"], "label": "first" } },
        { "finishUpload": { "intentId": intent["id"] } },
        { "createAsset": { "path": "c/new" } },
        { "deleteAsset": { "asset": { "path": "c/new" } } },
        { "moveFolder": { "folder": { "path": "b" }, "toPath": "moved" } },
        { "deleteFolder": { "folder": { "path": "c" } } }
    ]);
    let rehearsed = server.gql(APPLY, json!({ "operations": operations, "dry": true })).await;
    let before = server.history().await;
    let applied = server.gql(APPLY, json!({ "operations": operations })).await;
    assert_eq!(types(&applied), types(&rehearsed), "a rehearsal tells what then happens");
    let history = server.history().await;
    assert_eq!(history[..before.len()], before, "a rehearsal changes nothing");
    assert_eq!(history[before.len()..], types(&applied));
    let event = socket.event().await;
    assert_eq!(
        event["changes"]["changes"].as_array().expect("changes").len(),
        types(&applied).len(),
        "one batch"
    );
    assert_eq!(server.get("/assets/moved/picture", &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.get("/assets/a/second", &[]).await.bytes().await.expect("bytes"), ROCKET);
}

#[tokio::test]
async fn one_that_is_refused_takes_all_back_and_is_named() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let before = server.history().await;
    for (operation, code, field) in [
        (json!({ "createAsset": { "path": "a/photo" } }), "ALREADY_EXISTS", None),
        (
            json!({ "createAsset": { "path": "../x" } }),
            "BAD_USER_INPUT",
            Some("input.operations.1.createAsset.path"),
        ),
        (
            json!({ "moveFolder": { "folder": { "path": "a" }, "toPath": "a/b" } }),
            "BAD_USER_INPUT",
            Some("input.operations.1.moveFolder.toPath"),
        ),
        (
            json!({ "moveFolder": { "folder": { "path": "a" }, "toPath": "b", "dryRun": true } }),
            "BAD_USER_INPUT",
            Some("input.operations.1.moveFolder.dryRun"),
        ),
        (
            json!({ "deleteAsset": { "asset": { "path": "a/photo" }, "ifRevision": 9 } }),
            "REVISION_CONFLICT",
            None,
        ),
        (
            json!({ "publishVersion": { "versionId": "version_01jd3sya5hfrvvr4b2xgn3fcke" } }),
            "NOT_FOUND",
            None,
        ),
        (json!({ "finishUpload": { "intentId": "upload_01jd3sya5hfrvvr4b2xgn3fcke" } }), "NOT_FOUND", None),
    ] {
        let operations = json!([{ "createFolder": { "path": "new/folder" } }, operation]);
        for dry in [true, false] {
            let variables = json!({ "operations": operations, "dry": dry });
            let error = server.refuses(APPLY, variables, code, field).await;
            assert_eq!(error["extensions"]["operation"], 1, "{error}");
        }
    }
    assert_eq!(server.history().await, before);
}

#[tokio::test]
async fn each_sees_what_those_before_it_did_also_by_revision() {
    let server = TestServer::start().await;
    let operations = json!([
        { "createAsset": { "path": "x" } },
        { "updateAsset": { "asset": { "path": "x" }, "title": "one", "ifRevision": 1 } },
        { "updateAsset": { "asset": { "path": "x" }, "title": "two", "ifRevision": 2 } },
        { "renameAsset": { "asset": { "path": "x" }, "newName": "y", "ifRevision": 3 } }
    ]);
    server.gql(APPLY, json!({ "operations": operations })).await;
    let asset = server.gql("{ asset(path: \"y\") { title revision } }", json!({})).await;
    assert_eq!(asset["asset"], json!({ "title": "two", "revision": 4 }));
}

#[tokio::test]
async fn a_thousand_operations_are_taken_and_one_more_is_not() {
    let server = TestServer::start().await;
    let operations = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({ "createAsset": { "path": format!("many/{n}") } })).collect()
    };
    for count in [0, 1001] {
        let variables = json!({ "operations": operations(count) });
        server.refuses(APPLY, variables, "BAD_USER_INPUT", Some("input.operations")).await;
    }
    let applied = server.gql(APPLY, json!({ "operations": operations(1000) })).await;
    assert_eq!(types(&applied).len(), 1001);
    let deep = json!({ "operations": [{ "createFolder": { "path": "a/".repeat(10_000) } }] });
    server.refuses(APPLY, deep, "BAD_USER_INPUT", Some("input.operations.0.createFolder.path")).await;
}
