//! The main job, from an empty library to the right bytes at the stable URL.

use serde_json::json;

use crate::support::{HOPPER, ROCKET, TestServer, sha256, text};

#[tokio::test]
async fn a_photo_is_uploaded_published_announced_replaced_and_rolled_back() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let watch = "subscription { changes { cursor changes { type path versionNumber sha256 actor { id } } } }";
    socket.subscribe("log", watch, json!({})).await;
    socket
        .subscribe(
            "hero",
            "subscription { asset(path: \"images/hero\") { url publishedVersion { number } } }",
            json!({}),
        )
        .await;
    assert_eq!(socket.event().await["asset"], json!(null));

    let input = json!({ "path": "images/hero", "filename": "hopper.jpg", "contentType": "image/jpeg",
        "size": HOPPER.len(), "sha256": sha256(HOPPER) });
    let first = server.upload(input, HOPPER).await;
    assert_eq!(first["version"]["number"], 1);
    assert_eq!(first["version"]["state"], "PUBLISHED");
    assert_eq!(first["version"]["sha256"], sha256(HOPPER));

    // One commit, one batch; and when an entry says published, its bytes are there.
    let (mut batch, mut hero) = (None, None);
    while batch.is_none() || hero.is_none() {
        let mut message = socket.next().await;
        let data = message["payload"]["data"].take();
        if message["id"] == "log" { batch = Some(data) } else { hero = Some(data) }
    }
    let batch = batch.expect("seen");
    let entries = batch["changes"]["changes"].as_array().expect("entries");
    let kinds: Vec<_> = entries.iter().map(|entry| text(&entry["type"])).collect();
    assert_eq!(kinds, ["FOLDER_CREATE", "ASSET_CREATE", "ASSET_PUBLISH"]);
    assert_eq!(entries[2]["sha256"], sha256(HOPPER));
    assert_eq!(entries[2]["actor"]["id"], "dev");
    assert_eq!(hero.expect("seen")["asset"]["publishedVersion"]["number"], 1);

    let stable = text(&first["asset"]["url"]).to_owned();
    let response = server.get(&stable, &[]).await;
    assert_eq!(response.headers()["content-type"], "image/jpeg");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    assert_eq!(response.bytes().await.expect("bytes"), HOPPER);

    let second = server.upload(json!({ "path": "images/hero", "filename": "rocket.jpg" }), ROCKET).await;
    assert_eq!(second["version"]["number"], 2);
    assert_eq!(server.get(&stable, &[]).await.bytes().await.expect("bytes"), ROCKET);
    let immutable = text(&first["version"]["url"]);
    assert_eq!(server.get(immutable, &[]).await.bytes().await.expect("bytes"), HOPPER);

    let query = "mutation($id: ID!) { restoreVersion(input: { versionId: $id }) {
        version { number label state sha256 } restoredFrom { number } asset { publishedVersion { number } }
        changes { type versionNumber } } }";
    let restored = &server.gql(query, json!({ "id": first["version"]["id"] })).await["restoreVersion"];
    assert_eq!(restored["version"]["number"], 3);
    assert_eq!(restored["version"]["label"], "Restored from v1");
    assert_eq!(restored["restoredFrom"]["number"], 1);
    assert_eq!(restored["asset"]["publishedVersion"]["number"], 3);
    assert_eq!(restored["changes"], json!([{ "type": "ASSET_PUBLISH", "versionNumber": 3 }]));
    assert_eq!(server.get(&stable, &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.stored("blobs").len(), 2, "restoring copies no bytes");
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let waiting = server.start_upload(json!({ "path": "a/later" })).await;
    let history = server.history().await;
    let server = server.restart().await;
    assert_eq!(server.history().await, history);
    let photo = server.get("/assets/a/photo", &[]).await;
    assert_eq!(photo.bytes().await.expect("bytes"), HOPPER);
    let later = server
        .gql(
            "query($id: ID!) { uploadIntent(id: $id) { status target { url } } }",
            json!({ "id": waiting["id"] }),
        )
        .await;
    assert_eq!(later["uploadIntent"]["status"], "CREATED");
    let mut intent = waiting.clone();
    intent["target"]["url"] = later["uploadIntent"]["target"]["url"].clone();
    assert_eq!(server.send_bytes(&intent, ROCKET).await.status(), 200);
    assert_eq!(server.finish_upload(&intent).await["version"]["number"], 1);
    let version = format!("/assets/v/{}", text(&done["version"]["id"]));
    assert_eq!(server.get(&version, &[]).await.status(), 200);
}
