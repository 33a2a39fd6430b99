//! A store that is slow, refuses, answers by half or is gone. Faults befall s3s-fs, whatever else is there.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Lab, noise, read, status};
use crate::support::{Bucket, FINISH, Fault, HOPPER, ROCKET, sha256};

async fn lab() -> Lab {
    Lab::on(Bucket::in_process().await, "reads = \"stream\"").await
}

fn plan(lab: &Lab, method: Method, part_of_url: &'static str, fault: Fault, times: u32) {
    lab.bucket.as_ref().expect("a bucket").faults.plan(method, part_of_url, fault, times);
}

#[tokio::test]
async fn a_request_that_fails_once_is_tried_again_and_nobody_notices() {
    for fault in [Fault::Before, Fault::After, Fault::CutShort, Fault::Slow(Duration::from_millis(200))] {
        for method in [Method::HEAD, Method::GET, Method::PUT, Method::DELETE] {
            let lab = lab().await;
            let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
            assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
            plan(&lab, method.clone(), "", fault, 1);
            let done = lab.server.finish_upload(&intent).await;
            assert_eq!(done["version"]["sha256"], sha256(HOPPER), "{fault:?} of {method}");
            assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()), "{fault:?} of {method}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_and_comes_back_by_itself() {
    let lab = lab().await;
    lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    let intent = lab.server.start_upload(json!({ "path": "later" })).await;
    assert_eq!(lab.server.send_bytes(&intent, ROCKET).await.status(), 200);
    for method in [Method::HEAD, Method::GET, Method::PUT, Method::POST, Method::DELETE] {
        plan(&lab, method, "", Fault::Before, u32::MAX);
    }
    assert_eq!(lab.server.get("/assets/photo", &[]).await.status(), 503);
    lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "STORAGE_UNAVAILABLE", None).await;
    let parts = "mutation { startUpload(input: { path: \"p\", size: 6000000, partSize: 5242880 }) { intent { id } } }";
    lab.server.refuses(parts, json!({}), "STORAGE_UNAVAILABLE", None).await;
    lab.server.readiness(503).await;
    assert_eq!(lab.server.get("/healthz", &[]).await.status(), 200);
    // What needs no bytes goes on.
    let folder = "mutation { createFolder(input: { path: \"a\" }) { created } }";
    assert_eq!(lab.server.gql(folder, json!({})).await["createFolder"]["created"], true);
    assert_eq!(status(&lab, &intent).await["status"], "CREATED", "nothing is half-published");
    lab.bucket.as_ref().expect("a bucket").faults.end();
    lab.server.readiness(200).await;
    assert_eq!(lab.server.finish_upload(&intent).await["version"]["sha256"], sha256(ROCKET));
    for (path, bytes) in [("/assets/photo", HOPPER), ("/assets/later", ROCKET)] {
        assert!(read(&lab, path).await == (200, bytes.to_vec()));
    }
}

#[tokio::test]
async fn reading_that_breaks_off_goes_on_where_it_did() {
    let lab = lab().await;
    let bytes = noise(3 * super::MIB);
    lab.server.upload(json!({ "path": "noise" }), &bytes).await;
    plan(&lab, Method::GET, "/blobs/", Fault::CutShort, 2);
    assert!(read(&lab, "/assets/noise").await == (200, bytes), "all of it, in one answer");
}

#[tokio::test]
async fn an_object_that_cannot_be_removed_blocks_no_other() {
    let lab = lab().await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    for (path, bytes) in [("a", HOPPER), ("b", ROCKET)] {
        lab.server.upload(json!({ "path": path }), bytes).await;
        let delete =
            "mutation($path: String!) { deleteAsset(input: { asset: { path: $path } }) { asset { id } } }";
        lab.server.gql(delete, json!({ "path": path })).await;
    }
    let keys = bucket.keys("blobs/").await;
    assert_eq!(keys.len(), 2);
    let stuck: &'static str = keys[0].clone().leak();
    plan(&lab, Method::DELETE, stuck, Fault::Before, u32::MAX);
    lab.server.clock.advance(31 * 24 * super::HOUR_MS);
    lab.server.gql("mutation { purgeTrash(input: {}) { purgedAssets } }", json!({})).await;
    // They are removed in the background.
    let one_left = async {
        while bucket.keys("blobs/").await != [stuck] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), one_left).await.expect("the other one is removed");
    bucket.faults.end();
    lab.server.clock.advance(super::HOUR_MS);
    lab.server.sweep().await;
    assert_eq!(bucket.keys("blobs/").await, [""; 0], "it is tried again");
}

#[tokio::test]
async fn a_removal_that_is_lost_is_made_up_for() {
    let lab = lab().await;
    plan(&lab, Method::DELETE, "/staging/", Fault::Lost, 2);
    lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    assert!(lab.staged().await > 0, "it is said to be gone");
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
    assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
}

/// Less than the 30 seconds after which GraphQL gives up by itself, and more than any of our own waits.
const IN_TIME: Duration = Duration::from_secs(28);

#[tokio::test]
async fn a_store_that_never_answers_is_told_in_time() {
    let forever = Fault::Slow(Duration::from_secs(600));
    let lab = Lab::on(Bucket::in_process().await, "reads = \"stream\"\ntimeout_seconds = 4").await;
    let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    let refused = async || {
        let finish = lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "STORAGE_UNAVAILABLE", None);
        tokio::time::timeout(IN_TIME, finish).await.expect("it is told in time");
        lab.bucket.as_ref().expect("a bucket").faults.end();
    };
    // All of it hangs, or only what lets the store work.
    for methods in
        [&[Method::HEAD, Method::GET, Method::PUT, Method::POST, Method::DELETE][..], &[Method::PUT]]
    {
        for method in methods {
            plan(&lab, method.clone(), "", forever, u32::MAX);
        }
        refused().await;
    }
    assert_eq!(lab.server.finish_upload(&intent).await["version"]["sha256"], sha256(HOPPER));
    for method in [Method::HEAD, Method::GET] {
        plan(&lab, method, "", forever, u32::MAX);
    }
    let read = tokio::time::timeout(IN_TIME, lab.server.get("/assets/photo", &[]))
        .await
        .expect("it is told in time");
    assert_eq!(read.status(), 503);
    lab.server.readiness(503).await;
}

#[tokio::test]
async fn long_bytes_survive_a_fault_of_any_of_their_requests() {
    let bytes = noise(9 * super::MIB);
    for fault in [Fault::Before, Fault::After, Fault::CutShort] {
        for (method, part_of_url) in
            [(Method::POST, "?uploads"), (Method::PUT, "partNumber=2"), (Method::POST, "uploadId=")]
        {
            let lab = lab().await;
            plan(&lab, method, part_of_url, fault, 1);
            let url = lab.server.gql("mutation { generateUploadUrl { url } }", json!({})).await;
            let url = url["generateUploadUrl"]["url"].as_str().expect("a URL").to_owned();
            let mut sent = lab.server.send(Method::POST, &url, &[], &bytes).await;
            if sent.status() == 503 {
                // The bucket may have put them together, and its answer was lost: the same bytes are sent again.
                sent = lab.server.send(Method::POST, &url, &[], &bytes).await;
            }
            assert_eq!(sent.status(), 200, "{fault:?} of {part_of_url}");
            let id = sent.json::<serde_json::Value>().await.expect("JSON")["storageId"].clone();
            let file = lab
                .server
                .gql("query($id: ID!) { storedFile(id: $id) { sha256 url } }", json!({ "id": id }))
                .await;
            assert_eq!(file["storedFile"]["sha256"], sha256(&bytes), "{fault:?} of {part_of_url}");
            let url = file["storedFile"]["url"].as_str().expect("a URL");
            assert!(
                lab.server.client.get(url).send().await.expect("an answer").bytes().await.expect("bytes")
                    == bytes
            );
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_away_holds_up_no_other() {
    const COUNT: u32 = 30;
    let lab = lab().await;
    let start = |number: u32| lab.server.start_upload(json!({ "path": format!("p{number}") }));
    for number in 0..COUNT {
        let intent = start(number).await;
        assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    }
    super::care::choose(&lab, "local").await;
    let intent = start(COUNT).await;
    assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    let bucket = lab.bucket.as_ref().expect("a bucket");
    plan(&lab, Method::DELETE, "", Fault::Before, 1000);
    lab.server.clock.advance(2 * super::HOUR_MS);
    lab.server.sweep().await;
    assert_eq!(lab.server.stored("staging"), [""; 0], "the folder is swept");
    let asked = 1000 - bucket.faults.left();
    // Each request is tried three times, and there are two that would remove each object.
    assert!((1..3 * COUNT).contains(&asked), "the bucket was asked {asked} times");
    bucket.faults.end();
    assert_eq!(bucket.keys("staging/").await.len(), 30);
    lab.server.clock.advance(super::HOUR_MS);
    lab.server.sweep().await;
    assert_eq!(bucket.keys("staging/").await, [""; 0], "the bucket is, once it is back");
}

#[tokio::test]
async fn bytes_that_are_gone_before_they_are_finished_are_told() {
    let lab = Lab::s3("").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    for declared in [json!({ "path": "photo" }), json!({ "path": "photo", "sha256": sha256(HOPPER) })] {
        let intent = lab.server.start_upload(declared).await;
        assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
        for key in bucket.keys("staging/").await {
            bucket.replace(&key, None).await;
        }
        lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
        assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200, "they can be sent again");
        assert_eq!(lab.server.finish_upload(&intent).await["version"]["sha256"], sha256(HOPPER));
    }
}

#[tokio::test]
async fn parts_that_are_gone_before_they_are_finished_are_told() {
    let lab = Lab::s3("").await;
    if !lab.is_strict() {
        return;
    }
    let bytes = noise(6 * super::MIB);
    let intent = super::start_parts(&lab, &bytes, 5 * super::MIB).await;
    for part in status(&lab, &intent).await["parts"].as_array().expect("parts") {
        assert_eq!(super::send_part(&lab, part, super::slice(&bytes, part)).await.0, 200);
    }
    lab.bucket.as_ref().expect("a bucket").end_uploads().await;
    lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
    let parts = status(&lab, &intent).await["parts"].take();
    assert!(parts.as_array().expect("parts").iter().all(|part| part["received"] == false));
}
