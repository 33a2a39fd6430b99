//! What holds on every backend.

use reqwest::Method;
use serde_json::{Value, json};

use super::{HOUR_MS, Lab, MIB, noise, read, send_part, slice, start_parts, status};
use crate::support::{FINISH, HOPPER, ROCKET, sha256, text};

/// Each test on the local folder and on a bucket.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Lab::local().await).await })*
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Lab::s3("").await).await })*
        }
    };
}

on_every_backend!(
    an_upload_is_verified_published_and_read_back,
    what_differs_from_what_was_declared_never_becomes_a_version,
    bytes_that_come_again_change_nothing_that_was_published,
    parts_come_in_any_order_and_again,
    parts_that_are_missing_or_of_another_size_are_not_put_together,
    what_nobody_finished_leaves_nothing,
    identical_bytes_are_kept_once_and_go_with_the_last_that_needs_them,
    bytes_without_an_asset_are_taken_and_told_by_their_id,
    ranges_and_conditions_are_answered,
    a_file_without_bytes_is_a_file,
);

const CANCEL: &str = "mutation($id: ID!) { cancelUpload(input: { intentId: $id }) { intent { status } } }";

async fn an_upload_is_verified_published_and_read_back(lab: Lab) {
    let all = json!({ "path": "images/hero", "contentType": "image/jpeg", "size": HOPPER.len(), "sha256": sha256(HOPPER) });
    for input in [json!({ "path": "images/hero" }), all] {
        let intent = lab.server.start_upload(input).await;
        lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
        assert_eq!(status(&lab, &intent).await["status"], "CREATED");
        let sent = lab.server.send_bytes(&intent, HOPPER).await;
        assert_eq!(sent.status(), 200, "{}", sent.text().await.expect("a text"));
        let done = lab.server.finish_upload(&intent).await;
        assert_eq!(done["version"]["sha256"], sha256(HOPPER));
        assert_eq!(done["version"]["size"], HOPPER.len());
        assert_eq!(done["version"]["contentType"], "image/jpeg");
        let again = lab.server.finish_upload(&intent).await;
        assert_eq!(again["version"]["id"], done["version"]["id"]);
        assert_eq!(again["changes"], json!([]));
        for url in [text(&done["version"]["url"]), "/assets/images/hero"] {
            assert!(read(&lab, url).await == (200, HOPPER.to_vec()), "{url}");
        }
    }
    assert_eq!(lab.staged().await, 0, "nothing is left of what was sent");
}

async fn what_differs_from_what_was_declared_never_becomes_a_version(lab: Lab) {
    let cases = [
        (json!({ "path": "p", "size": 5 }), "SIZE_MISMATCH"),
        (json!({ "path": "p", "sha256": sha256(ROCKET) }), "CHECKSUM_MISMATCH"),
        (json!({ "path": "p", "contentType": "image/png" }), "CONTENT_TYPE_MISMATCH"),
    ];
    for (input, code) in cases {
        let intent = lab.server.start_upload(input.clone()).await;
        let sent = lab.server.send_bytes(&intent, HOPPER).await.status();
        let error = lab.server.error(FINISH, json!({ "id": intent["id"] })).await;
        let told = text(&error["extensions"]["code"]);
        // A bucket refuses by itself what was signed, and then nothing came.
        let refused = lab.is_direct() && !sent.is_success() && told == "UPLOAD_INCOMPLETE";
        assert!(told == code || refused, "{input}: {sent} {error}");
    }
    assert!(lab.server.history().await.is_empty());
    lab.server.clock.advance(HOUR_MS + 1);
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
}

async fn bytes_that_come_again_change_nothing_that_was_published(lab: Lab) {
    let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert_eq!(lab.server.send_bytes(&intent, ROCKET).await.status(), 200);
    // In a bucket the last bytes count until the upload is finished; a folder takes the first.
    let again = lab.server.send_bytes(&intent, HOPPER).await.status();
    let (expected, refused) = if lab.is_direct() { (HOPPER, 200) } else { (ROCKET, 409) };
    assert_eq!(again, refused);
    let done = lab.server.finish_upload(&intent).await;
    assert_eq!(done["version"]["sha256"], sha256(expected));
    assert_eq!(lab.server.send_bytes(&intent, b"something else").await.status(), refused);
    assert_eq!(lab.server.finish_upload(&intent).await["version"]["id"], done["version"]["id"]);
    for url in [text(&done["version"]["url"]), "/assets/photo"] {
        assert!(read(&lab, url).await == (200, expected.to_vec()), "{url}");
    }
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0, "what came late is removed");
    assert!(read(&lab, "/assets/photo").await == (200, expected.to_vec()));
}

async fn parts_come_in_any_order_and_again(lab: Lab) {
    if !lab.is_strict() {
        // It lists parts without their tags; a Garage stands in for it in CI.
        return;
    }
    let bytes = noise(11 * MIB);
    let intent = start_parts(&lab, &bytes, 5 * MIB).await;
    assert!(intent["target"].is_null());
    let parts = status(&lab, &intent).await["parts"].as_array().expect("parts").clone();
    assert_eq!(parts.len(), 3);
    assert_eq!(send_part(&lab, &parts[2], slice(&bytes, &parts[2])).await.0, 200);
    assert_eq!(send_part(&lab, &parts[0], &vec![7; 5 * MIB]).await.0, 200, "other bytes than it will have");
    let now = status(&lab, &intent).await;
    let parts = now["parts"].as_array().expect("parts");
    let received: Vec<bool> = parts.iter().map(|part| part["received"] == true).collect();
    assert_eq!(received, [true, false, true], "another client can go on from here");
    assert_eq!(now["receivedBytes"], 6 * MIB);
    let error = lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
    assert!(text(&error["message"]).contains("parts did not come yet: 2;"), "{error}");
    let mut tags = Vec::new();
    for part in &parts[..2] {
        let (sent, tag) = send_part(&lab, part, slice(&bytes, part)).await;
        assert_eq!(sent, 200);
        tags.push(json!({ "number": part["number"], "etag": tag }));
    }
    let finish = "mutation($id: ID!, $parts: [FinishedPartInput!]) {
        finishUpload(input: { intentId: $id, parts: $parts }) { version { id number sha256 url } } }";
    let wrong = json!({ "id": intent["id"], "parts": [{ "number": 1, "etag": "\"x\"" }] });
    lab.server.refuses(finish, wrong, "BAD_USER_INPUT", Some("input.parts")).await;
    let done = lab.server.gql(finish, json!({ "id": intent["id"], "parts": tags })).await;
    let done = &done["finishUpload"]["version"];
    assert_eq!(done["sha256"], sha256(&bytes));
    let again = lab.server.gql(finish, json!({ "id": intent["id"] })).await;
    assert_eq!(again["finishUpload"]["version"], *done, "completing twice answers the same");
    let late = send_part(&lab, &parts[1], slice(&bytes, &parts[0])).await.0;
    assert!((400..500).contains(&late), "a part that comes late is refused: {late}");
    assert!(read(&lab, text(&done["url"])).await == (200, bytes), "the bytes are what was sent");
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
}

async fn parts_that_are_missing_or_of_another_size_are_not_put_together(lab: Lab) {
    let bytes = noise(6 * MIB);
    let intent = start_parts(&lab, &bytes, 5 * MIB).await;
    let parts = status(&lab, &intent).await["parts"].as_array().expect("parts").clone();
    assert_eq!(send_part(&lab, &parts[0], &bytes[..5 * MIB]).await.0, 200);
    let (short, _) = send_part(&lab, &parts[1], &bytes[..MIB / 2]).await;
    assert!((400..500).contains(&short), "{short}");
    lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
    lab.server.gql(CANCEL, json!({ "id": intent["id"] })).await;
    let (late, _) = send_part(&lab, &parts[1], b"late").await;
    assert!((400..500).contains(&late), "it was cancelled: {late}");
    lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_CANCELLED", None).await;
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
}

async fn what_nobody_finished_leaves_nothing(lab: Lab) {
    let abandoned = lab.server.start_upload(json!({ "path": "a" })).await;
    assert_eq!(lab.server.send_bytes(&abandoned, HOPPER).await.status(), 200);
    let cancelled = lab.server.start_upload(json!({ "path": "b" })).await;
    assert_eq!(lab.server.send_bytes(&cancelled, ROCKET).await.status(), 200);
    lab.server.gql(CANCEL, json!({ "id": cancelled["id"] })).await;
    assert_eq!(lab.staged().await, 1, "what was cancelled is gone at once");
    lab.server.clock.advance(HOUR_MS + 1);
    lab.server.refuses(FINISH, json!({ "id": abandoned["id"] }), "UPLOAD_EXPIRED", None).await;
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
    if lab.is_direct() {
        // Its request was accepted before the end, and ends after the sweep.
        assert_eq!(lab.server.send_bytes(&abandoned, HOPPER).await.status(), 200);
        lab.server.sweep().await;
        assert_eq!(lab.staged().await, 0);
    }
}

async fn identical_bytes_are_kept_once_and_go_with_the_last_that_needs_them(lab: Lab) {
    let first = lab.server.upload(json!({ "path": "a.jpg" }), HOPPER).await;
    let second = lab.server.upload(json!({ "path": "b.jpg", "sha256": sha256(HOPPER) }), HOPPER).await;
    let delete =
        "mutation($path: String!) { deleteAsset(input: { asset: { path: $path } }) { deletedVersions } }";
    for (path, other, there) in [("a.jpg", &second, true), ("b.jpg", &first, false)] {
        lab.server.gql(delete, json!({ "path": path })).await;
        lab.server.clock.advance(31 * 24 * HOUR_MS);
        let purged = lab.server.gql("mutation { purgeTrash(input: {}) { freedBytes } }", json!({})).await;
        let bytes = if there { 0 } else { HOPPER.len() };
        assert_eq!(purged["purgeTrash"]["freedBytes"], bytes, "{path}");
        lab.server.sweep().await;
        let (status, _) = read(&lab, text(&other["version"]["url"])).await;
        assert_eq!(status, if there { 200 } else { 404 }, "{path}");
    }
    assert_eq!(lab.staged().await, 0);
}

async fn bytes_without_an_asset_are_taken_and_told_by_their_id(lab: Lab) {
    let mut ids = Vec::new();
    let large = noise(9 * MIB);
    for bytes in [HOPPER, &large] {
        let target = lab.server.gql("mutation { generateUploadUrl { url method } }", json!({})).await;
        let url = text(&target["generateUploadUrl"]["url"]);
        assert_eq!(target["generateUploadUrl"]["method"], "POST");
        let headers = [("content-type", "application/octet-stream")];
        let sent = lab.server.send(Method::POST, url, &headers, bytes).await;
        let sent: Value = sent.json().await.expect("JSON");
        let id = text(&sent["storageId"]).to_owned();
        let query = "query($id: ID!) { storedFile(id: $id) { sha256 size url } }";
        let file = lab.server.gql(query, json!({ "id": id })).await["storedFile"].take();
        assert_eq!(file["sha256"], sha256(bytes));
        assert!(read(&lab, text(&file["url"])).await == (200, bytes.to_vec()));
        ids.push(id);
    }
    let create = "mutation($id: ID!) { createVersion(input: { path: \"from-file\", storedFileId: $id }) {
        version { sha256 } } }";
    lab.server.gql(create, json!({ "id": ids[0] })).await;
    assert!(read(&lab, "/assets/from-file").await == (200, HOPPER.to_vec()));
    let delete = "mutation($id: ID!) { deleteStoredFile(input: { id: $id }) { deletedId } }";
    lab.server.refuses(delete, json!({ "id": ids[0] }), "FILE_IN_USE", None).await;
    lab.server.gql(delete, json!({ "id": ids[1] })).await;
    assert_eq!(lab.staged().await, 0);
}

async fn ranges_and_conditions_are_answered(lab: Lab) {
    let bytes = noise(600 * 1024);
    let done = lab.server.upload(json!({ "path": "noise" }), &bytes).await;
    let url = text(&done["version"]["url"]);
    let tag = format!("\"{}\"", sha256(&bytes));
    assert_eq!(lab.server.get(url, &[("if-none-match", &tag)]).await.status(), 304);
    let head = lab.server.send(Method::HEAD, url, &[], b"").await;
    assert_eq!(
        (head.status().as_u16(), head.headers()["etag"].to_str().expect("a tag")),
        (200, tag.as_str())
    );
    let mut part = lab.server.get(url, &[("range", "bytes=100-199")]).await;
    if part.status() == 302 {
        let to = part.headers()["location"].to_str().expect("a URL").to_owned();
        part = lab.server.client.get(to).header("range", "bytes=100-199").send().await.expect("an answer");
    }
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.expect("bytes"), &bytes[100..200]);
}

async fn a_file_without_bytes_is_a_file(lab: Lab) {
    let done = lab.server.upload(json!({ "path": "empty.txt" }), b"").await;
    assert_eq!(done["version"]["size"], 0);
    assert_eq!(done["version"]["sha256"], sha256(b""));
    assert_eq!(read(&lab, "/assets/empty.txt").await, (200, Vec::new()));
}
