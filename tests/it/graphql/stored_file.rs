//! The Convex-style storage API, and identical bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use vellum::domain::gc;

use crate::support::{HOPPER, ROCKET, TestServer, sha256, text};

const FILE: &str = "query($id: ID!) { storedFile(id: $id) { id url contentType size sha256 } }";
const CREATE: &str = "mutation($path: String!, $file: ID!, $publish: Boolean! = true, $if: Int) {
    createVersion(input: { path: $path, storedFileId: $file, publish: $publish, ifRevision: $if }) {
        version { number contentType sha256 filename } asset { id path revision } changes { type path } } }";
const DELETE: &str = "mutation($id: ID!) { deleteStoredFile(input: { id: $id }) { deletedId } }";

async fn url(server: &TestServer) -> String {
    let target =
        server.gql("mutation { generateUploadUrl { method url headers { name } } }", json!({})).await;
    assert_eq!(target["generateUploadUrl"]["method"], "POST");
    text(&target["generateUploadUrl"]["url"]).to_owned()
}

async fn store(server: &TestServer, bytes: &[u8], content_type: &str) -> Value {
    let url = url(server).await;
    let response = server.send(Method::POST, &url, &[("content-type", content_type)], bytes).await;
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.expect("JSON")["storageId"].take()
}

#[tokio::test]
async fn bytes_without_an_asset_are_kept_until_they_are_deleted() {
    let server = TestServer::start().await;
    let id = store(&server, HOPPER, "image/jpeg").await;
    let file = server.gql(FILE, json!({ "id": id })).await["storedFile"].take();
    assert_eq!(file["contentType"], "image/jpeg");
    assert_eq!((&file["size"], &file["sha256"]), (&json!(HOPPER.len()), &json!(sha256(HOPPER))));
    let url = text(&file["url"]).to_owned();
    let response = server.get(&url, &[]).await;
    let digest = format!("sha-256={}", STANDARD.encode(unhex(&sha256(HOPPER))));
    assert_eq!(response.headers()["digest"], digest.as_str());
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    assert_eq!(response.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.get(&format!("{url}x"), &[]).await.status(), 403);
    server.gql(DELETE, json!({ "id": id })).await;
    assert_eq!(server.get(&url, &[]).await.status(), 404);
    assert!(server.gql(FILE, json!({ "id": id })).await["storedFile"]["url"].is_null());
    assert_eq!(
        server.gql(DELETE, json!({ "id": id })).await["deleteStoredFile"]["deletedId"],
        id,
        "it holds already"
    );
    server.refuses(CREATE, json!({ "path": "x", "file": id }), "NOT_FOUND", None).await;
    gc::collect(&server.app).await.expect("collected");
    assert!(server.stored("blobs").is_empty());
}

#[tokio::test]
async fn a_stored_file_becomes_versions_and_is_in_use_then() {
    let server = TestServer::start().await;
    let id = store(&server, HOPPER, "image/jpeg").await;
    let first =
        server.gql(CREATE, json!({ "path": "a/photo", "file": id, "if": 0 })).await["createVersion"].take();
    assert_eq!(
        first["version"],
        json!({ "number": 1, "contentType": "image/jpeg", "sha256": sha256(HOPPER), "filename": "photo" })
    );
    let types: Vec<&str> =
        first["changes"].as_array().expect("changes").iter().map(|entry| text(&entry["type"])).collect();
    assert_eq!(types, ["FOLDER_CREATE", "ASSET_CREATE", "ASSET_PUBLISH"]);
    let draft =
        server.gql(CREATE, json!({ "path": "a/photo", "file": id, "publish": false })).await["createVersion"]
            .take();
    assert_eq!(
        (&draft["version"]["number"], &draft["changes"][0]["type"]),
        (&json!(2), &json!("VERSION_CREATE"))
    );
    server
        .refuses(CREATE, json!({ "path": "a/photo", "file": id, "if": 0 }), "REVISION_CONFLICT", None)
        .await;
    server.refuses(CREATE, json!({ "path": "a", "file": id }), "ALREADY_EXISTS", None).await;
    server.refuses(DELETE, json!({ "id": id }), "FILE_IN_USE", None).await;
    let gone = "mutation { deleteAsset(input: { asset: { path: \"a/photo\" } }) { asset { id } } }";
    let asset = server.gql(gone, json!({})).await["deleteAsset"]["asset"]["id"].take();
    server.refuses(DELETE, json!({ "id": id }), "FILE_IN_USE", None).await;
    server
        .gql("mutation($id: ID) { purgeTrash(input: { id: $id }) { purgedAssets } }", json!({ "id": asset }))
        .await;
    assert_eq!(server.stored("blobs").len(), 1, "the file itself stays");
    server.gql(DELETE, json!({ "id": id })).await;
    server.refuses(FILE, json!({ "id": "file_x" }), "BAD_USER_INPUT", Some("id")).await;
}

#[tokio::test]
async fn a_digest_is_verified_on_the_way_in() {
    let server = TestServer::start().await;
    let url = url(&server).await;
    let right = format!("sha-256={}", STANDARD.encode(unhex(&sha256(HOPPER))));
    let wrong = format!("sha-256={}", STANDARD.encode(unhex(&sha256(ROCKET))));
    for (digest, status) in [
        (wrong.as_str(), 422),
        ("sha-256=nonsense", 400),
        ("SHA-256=", 400),
        (right.as_str(), 200),
        (right.as_str(), 200),
        (wrong.as_str(), 422),
    ] {
        let response = server.send(Method::POST, &url, &[("digest", digest)], HOPPER).await;
        assert_eq!(response.status(), status, "{digest}: {}", response.text().await.expect("a text"));
    }
    assert_eq!(server.stored("blobs").len(), 1);
    assert!(server.stored("staging").iter().all(|name| name == ".probe"), "{:?}", server.stored("staging"));
    let intent = server.start_upload(json!({ "path": "photo" })).await;
    let target = text(&intent["target"]["url"]);
    let response =
        server.send(Method::PUT, target, &[("repr-digest", &wrong.replacen('=', "=:", 1))], HOPPER).await;
    assert!(response.status().is_client_error());
    assert_eq!(
        server.send(Method::PUT, target, &[("digest", &right)], HOPPER).await.status(),
        200,
        "it can be sent again"
    );
}

#[tokio::test]
async fn an_upload_url_is_good_for_its_request_alone() {
    let server = TestServer::start().await;
    let url = url(&server).await;
    assert_eq!(server.send(Method::PUT, &url, &[], HOPPER).await.status(), 403, "it is to be POSTed to");
    assert_eq!(
        server.send(Method::POST, &url.replace("signature=", "signature=x"), &[], HOPPER).await.status(),
        403
    );
    let id = url.split("/uploads/").nth(1).and_then(|rest| rest.split('?').next()).expect("an id");
    let seen = server
        .gql("query($id: ID!) { uploadIntent(id: $id) { id } node(id: $id) { id } }", json!({ "id": id }))
        .await;
    assert_eq!(seen, json!({ "uploadIntent": null, "node": null }), "it is no upload to a path");
    server
        .refuses(
            "mutation($id: ID!) { finishUpload(input: { intentId: $id }) { version { id } } }",
            json!({ "id": id }),
            "NOT_FOUND",
            None,
        )
        .await;
    server.clock.advance(3_600_001);
    assert_eq!(server.send(Method::POST, &url, &[], HOPPER).await.status(), 410);
}

#[tokio::test]
async fn whoever_lost_the_answer_sends_the_same_again() {
    let server = TestServer::start().await;
    let url = url(&server).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = server.send(Method::POST, &url, &[("content-type", "image/jpeg")], HOPPER).await;
        assert_eq!(response.status(), 200);
        ids.push(response.json::<Value>().await.expect("JSON")["storageId"].take());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(server.send(Method::POST, &url, &[], ROCKET).await.status(), 409, "other bytes");
    assert_eq!(server.send(Method::POST, &url, &[], &[HOPPER, b"x"].concat()).await.status(), 409);
    assert!(server.stored("staging").is_empty());
    server.gql(DELETE, json!({ "id": ids[0] })).await;
    assert_eq!(server.send(Method::POST, &url, &[], HOPPER).await.status(), 409, "it is deleted");
}

#[tokio::test]
async fn identical_bytes_are_stored_once_whoever_sends_them() {
    let server = TestServer::start().await;
    let (one, two) = (store(&server, HOPPER, "image/jpeg").await, store(&server, HOPPER, "image/jpeg").await);
    assert_ne!(one, two, "each has an id of its own");
    let upload = server.upload(json!({ "path": "a" }), HOPPER).await;
    server.upload(json!({ "path": "b" }), HOPPER).await;
    assert_eq!(server.stored("blobs").len(), 1);
    server.gql(DELETE, json!({ "id": one })).await;
    server.gql(DELETE, json!({ "id": two })).await;
    gc::collect(&server.app).await.expect("collected");
    assert_eq!(server.get(text(&upload["version"]["url"]), &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert!(server.stored("staging").iter().all(|name| name == ".probe"), "nothing is left of the copies");
}

#[tokio::test]
async fn many_uploads_of_the_same_bytes_at_once_are_one_blob() {
    let server = TestServer::start().await;
    let uploads = (0..12).map(|number| server.upload(json!({ "path": format!("same/{number}") }), ROCKET));
    futures_util::future::join_all(uploads).await;
    gc::collect(&server.app).await.expect("collected");
    assert_eq!(server.stored("blobs").len(), 1);
    for number in 0..12 {
        assert_eq!(
            server.get(&format!("/assets/same/{number}"), &[]).await.bytes().await.expect("bytes"),
            ROCKET
        );
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}
