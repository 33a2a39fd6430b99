//! Uploads: what is declared is enforced, what is finished stays, what is not leaves nothing.

use futures_util::stream;
use serde_json::{Value, json};
use vellum::domain::upload::sweep;

use crate::support::{FINISH, HOPPER, ROCKET, TestServer, eventually, sha256, text};

const STATUS: &str = "query($id: ID!) { uploadIntent(id: $id) { status receivedBytes rejection target { url } version { number } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelUpload(input: { intentId: $id }) { intent { status } } }";
const HOUR_MS: i64 = 3_600_000;

async fn status(server: &TestServer, intent: &Value) -> Value {
    server.gql(STATUS, json!({ "id": intent["id"] })).await["uploadIntent"].take()
}

#[tokio::test]
async fn what_differs_from_what_was_declared_is_rejected_and_nothing_shows() {
    let server = TestServer::start().await;
    let cases = [
        (json!({ "path": "p", "size": 5 }), HOPPER, "SIZE_MISMATCH"),
        (json!({ "path": "p", "size": HOPPER.len() + 1 }), HOPPER, "SIZE_MISMATCH"),
        (json!({ "path": "p", "sha256": sha256(ROCKET) }), HOPPER, "CHECKSUM_MISMATCH"),
        (json!({ "path": "p", "contentType": "image/png" }), HOPPER, "CONTENT_TYPE_MISMATCH"),
        (json!({ "path": "p", "contentType": "video/mp4" }), b"just text", "CONTENT_TYPE_MISMATCH"),
    ];
    for (input, bytes, code) in cases {
        let intent = server.start_upload(input.clone()).await;
        let response = server.send_bytes(&intent, bytes).await;
        assert_eq!(response.status(), 422, "{input}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["code"], code, "{input}");
        let now = status(&server, &intent).await;
        assert_eq!((&now["status"], now["rejection"].is_string()), (&json!("REJECTED"), true), "{input}");
        server.refuses(FINISH, json!({ "id": intent["id"] }), code, None).await;
        assert_eq!(server.send_bytes(&intent, bytes).await.status(), 422, "it stays rejected");
    }
    assert!(server.history().await.is_empty());
    assert!(server.stored("staging").is_empty() && server.stored("blobs").is_empty());
}

#[tokio::test]
async fn the_type_is_what_the_bytes_are() {
    let server = TestServer::start().await;
    for (input, bytes, content_type) in [
        (json!({ "path": "a" }), HOPPER, "image/jpeg"),
        (json!({ "path": "b", "contentType": "application/octet-stream" }), HOPPER, "image/jpeg"),
        (json!({ "path": "c", "filename": "style.css" }), b"body {}".as_slice(), "text/css"),
        (json!({ "path": "d", "filename": "photo.jpg" }), b"hello", "text/plain"),
        (json!({ "path": "e", "contentType": "application/json" }), b"{}", "application/json"),
        (json!({ "path": "f" }), b"", "text/plain"),
    ] {
        let done = server.upload(input.clone(), bytes).await;
        assert_eq!(done["version"]["contentType"], content_type, "{input}");
        assert_eq!(done["version"]["size"], bytes.len(), "{input}");
        assert_eq!(done["version"]["sha256"], sha256(bytes), "{input}");
    }
}

#[tokio::test]
async fn declarations_that_cannot_be_are_refused_by_name() {
    let server = TestServer::start().await;
    let start = "mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id } } }";
    for (input, field) in [
        (json!({ "path": "" }), "input.path"),
        (json!({ "path": "a/../b" }), "input.path"),
        (json!({ "path": "p", "size": 6_000_000_000_i64 }), "input.size"),
        (json!({ "path": "p", "sha256": "abc" }), "input.sha256"),
        (json!({ "path": "p", "contentType": "photo" }), "input.contentType"),
        (json!({ "path": "p", "contentType": "a/b\r\nX: y" }), "input.contentType"),
        (json!({ "path": "p", "filename": "a/b" }), "input.filename"),
        (json!({ "path": "p", "ifRevision": -1 }), "input.ifRevision"),
    ] {
        server.refuses(start, json!({ "input": input }), "BAD_USER_INPUT", Some(field)).await;
    }
    server.refuses(start, json!({ "input": { "path": "p", "size": -1 } }), "BAD_USER_INPUT", None).await;
    server
        .refuses(FINISH, json!({ "id": "upload_nonsense" }), "BAD_USER_INPUT", Some("input.intentId"))
        .await;
    server.refuses(FINISH, json!({ "id": "upload_01jd3sya5hfrvvr4b2xgn3fcke" }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn finishing_early_waits_and_finishing_twice_returns_the_same_version() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "photo" })).await;
    server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
    assert_eq!(status(&server, &intent).await["status"], "CREATED");
    assert_eq!(server.send_bytes(&intent, HOPPER).await.status(), 200);
    let received = status(&server, &intent).await;
    assert_eq!((&received["status"], &received["receivedBytes"]), (&json!("RECEIVED"), &json!(HOPPER.len())));
    assert!(received["target"].is_null());
    let first = server.finish_upload(&intent).await;
    let second = server.finish_upload(&intent).await;
    assert_eq!(first["version"]["id"], second["version"]["id"]);
    assert_eq!(second["changes"], json!([]));
    let again = server.send_bytes(&intent, ROCKET).await;
    assert_eq!(again.status(), 409);
    assert_eq!(again.json::<Value>().await.expect("JSON")["code"], "UPLOAD_ALREADY_RECEIVED");
    assert_eq!(server.get("/assets/photo", &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(status(&server, &intent).await["version"]["number"], 1);
    server.refuses(CANCEL, json!({ "id": intent["id"] }), "BAD_USER_INPUT", Some("input.intentId")).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_intent_waiting() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "photo" })).await;
    let pieces = [Ok(bytes::Bytes::from_static(b"half of it")), Err(std::io::Error::other("gone"))];
    let body = reqwest::Body::wrap_stream(stream::iter(pieces));
    let broken = server.client.put(text(&intent["target"]["url"])).body(body).send().await;
    assert!(broken.is_err() || broken.is_ok_and(|response| response.status() == 400));
    assert_eq!(status(&server, &intent).await["status"], "CREATED");
    eventually(|| server.stored("staging").is_empty()).await;
    assert_eq!(server.send_bytes(&intent, HOPPER).await.status(), 200);
    assert_eq!(server.finish_upload(&intent).await["version"]["sha256"], sha256(HOPPER));
}

#[tokio::test]
async fn a_part_of_a_file_is_not_taken_for_the_whole() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "photo" })).await;
    for header in [("content-range", "bytes 0-10/20"), ("content-encoding", "gzip")] {
        let url = text(&intent["target"]["url"]);
        let response = server.send(reqwest::Method::PUT, url, &[header], HOPPER).await;
        assert_eq!(response.status(), 400, "{header:?}");
    }
    assert_eq!(status(&server, &intent).await["status"], "CREATED");
}

#[tokio::test]
async fn a_tampered_url_is_refused() {
    let server = TestServer::start().await;
    let mut intent = server.start_upload(json!({ "path": "photo" })).await;
    let url = text(&intent["target"]["url"]).to_owned();
    let other = server.start_upload(json!({ "path": "other" })).await;
    let (_, signature) = text(&other["target"]["url"]).split_once("signature=").expect("a signature");
    let (base, _) = url.split_once("signature=").expect("a signature");
    for wrong in [
        format!("{base}signature={signature}"),
        format!("{base}signature="),
        base.trim_end_matches('?').to_owned(),
    ] {
        intent["target"]["url"] = wrong.into();
        let response = server.send_bytes(&intent, HOPPER).await;
        assert_eq!(response.status(), 403);
    }
    let wrong_method = server.send(reqwest::Method::POST, &url, &[], HOPPER).await;
    assert_eq!(wrong_method.status(), 403);
    assert_eq!(status(&server, &intent).await["status"], "CREATED");
}

#[tokio::test]
async fn what_nobody_finishes_expires_and_leaves_no_bytes() {
    let server = TestServer::start().await;
    let created = server.start_upload(json!({ "path": "created" })).await;
    let received = server.start_upload(json!({ "path": "received" })).await;
    let cancelled = server.start_upload(json!({ "path": "cancelled" })).await;
    let finished = server.upload(json!({ "path": "finished" }), HOPPER).await;
    for intent in [&received, &cancelled] {
        assert_eq!(server.send_bytes(intent, ROCKET).await.status(), 200);
    }
    assert_eq!(
        server.gql(CANCEL, json!({ "id": cancelled["id"] })).await["cancelUpload"]["intent"]["status"],
        "CANCELLED"
    );
    assert_eq!(
        server.gql(CANCEL, json!({ "id": cancelled["id"] })).await["cancelUpload"]["intent"]["status"],
        "CANCELLED"
    );
    server.refuses(FINISH, json!({ "id": cancelled["id"] }), "UPLOAD_CANCELLED", None).await;
    assert_eq!(server.send_bytes(&cancelled, ROCKET).await.status(), 410);
    server.clock.advance(HOUR_MS - 60_000);
    assert_eq!(status(&server, &created).await["status"], "CREATED");
    server.clock.advance(60_000);
    for intent in [&created, &received] {
        assert_eq!(status(&server, intent).await["status"], "EXPIRED", "whether swept or not");
        server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_EXPIRED", None).await;
    }
    assert_eq!(server.send_bytes(&created, ROCKET).await.status(), 410);
    assert_eq!(sweep(&server.app).await.expect("swept"), 3);
    assert!(server.stored("staging").is_empty());
    assert_eq!(server.stored("blobs").len(), 1);
    assert_eq!(sweep(&server.app).await.expect("swept"), 0);
    assert_eq!(server.get(text(&finished["asset"]["url"]), &[]).await.status(), 200);
}

#[tokio::test]
async fn a_body_that_ends_after_the_sweep_leaves_nothing() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "late" })).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let sending = tokio::spawn(server.client.put(text(&intent["target"]["url"])).body(body).send());
    sender.send(Ok(bytes::Bytes::from_static(HOPPER))).await.expect("sent");
    eventually(|| !server.stored("staging").is_empty()).await;
    server.clock.advance(HOUR_MS);
    sweep(&server.app).await.expect("swept");
    drop(sender);
    let response = sending.await.expect("joined").expect("an answer");
    assert_eq!(response.status(), 410);
    assert!(server.stored("staging").is_empty() && server.stored("blobs").is_empty());
}

#[tokio::test]
async fn staging_files_of_a_crash_are_swept() {
    let server = TestServer::start().await;
    let open = server.start_upload(json!({ "path": "open" })).await;
    let stray =
        server.data().join("staging/upload_01jd3sya5hfrvvr4b2xgn3fcke.00000000000000000000000000000001");
    std::fs::write(&stray, b"left by a crash").expect("written");
    server.send_bytes(&open, HOPPER).await;
    sweep(&server.app).await.expect("swept");
    assert!(!stray.exists());
    assert_eq!(server.finish_upload(&open).await["version"]["number"], 1, "an open upload is left alone");
}

#[tokio::test]
async fn a_crash_between_bytes_and_row_is_taken_up_by_finishing_again() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "a/photo", "ifRevision": 7 })).await;
    server.send_bytes(&intent, HOPPER).await;
    // The bytes are moved, then the commit is refused: what a crash between the two leaves.
    server.refuses(FINISH, json!({ "id": intent["id"] }), "REVISION_CONFLICT", None).await;
    assert_eq!(server.stored("blobs").len(), 1);
    assert_eq!(status(&server, &intent).await["status"], "RECEIVED");
    server.clock.advance(HOUR_MS);
    sweep(&server.app).await.expect("swept");
    assert!(server.stored("blobs").is_empty(), "nothing is left of it for ever");
    assert!(server.history().await.is_empty());
}

#[tokio::test]
async fn of_two_uploads_with_one_revision_exactly_one_finishes() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let revision =
        server.gql("{ asset(path: \"photo\") { revision } }", json!({})).await["asset"]["revision"].take();
    let mut intents = Vec::new();
    for bytes in [HOPPER, ROCKET] {
        let intent = server.start_upload(json!({ "path": "photo", "ifRevision": revision })).await;
        server.send_bytes(&intent, bytes).await;
        intents.push(intent);
    }
    let finish = |intent: &Value| server.ask(FINISH, json!({ "id": intent["id"] }));
    let (one, two) = tokio::join!(finish(&intents[0]), finish(&intents[1]));
    let errors: Vec<_> = [&one, &two].into_iter().filter_map(|answer| answer.get("errors")).collect();
    assert_eq!(errors.len(), 1, "{one} {two}");
    assert_eq!(errors[0][0]["extensions"]["code"], "REVISION_CONFLICT");
    assert_eq!(
        errors[0][0]["extensions"]["currentRevision"],
        json!(revision.as_i64().expect("a number") + 1)
    );
    let none_yet = server.start_upload(json!({ "path": "photo", "ifRevision": 0 })).await;
    server.send_bytes(&none_yet, HOPPER).await;
    server.refuses(FINISH, json!({ "id": none_yet["id"] }), "REVISION_CONFLICT", None).await;
}

#[tokio::test]
async fn a_folder_that_took_the_path_meanwhile_stops_the_upload() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "a/b" })).await;
    server.send_bytes(&intent, HOPPER).await;
    server.gql("mutation { createFolder(input: { path: \"a/b\" }) { created } }", json!({})).await;
    server.refuses(FINISH, json!({ "id": intent["id"] }), "ALREADY_EXISTS", None).await;
}

#[tokio::test]
async fn visibility_given_with_an_upload_holds_for_the_asset() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let done = server.upload(json!({ "path": "photo", "visibility": "PRIVATE" }), ROCKET).await;
    let kinds: Vec<_> =
        done["changes"].as_array().expect("changes").iter().map(|change| text(&change["type"])).collect();
    assert_eq!(kinds, ["ASSET_UPDATE", "ASSET_PUBLISH"]);
    let asset = server.gql("{ asset(path: \"photo\") { visibility } }", json!({})).await;
    assert_eq!(asset["asset"]["visibility"], "PRIVATE");
}

#[tokio::test]
async fn a_watched_upload_tells_each_step_and_ends() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "photo" })).await;
    let mut socket = server.socket().await;
    let watch = "subscription($id: ID!) { uploadIntent(id: $id) { status version { number } } }";
    socket.subscribe("1", watch, json!({ "id": intent["id"] })).await;
    assert_eq!(socket.event().await["uploadIntent"]["status"], "CREATED");
    server.send_bytes(&intent, HOPPER).await;
    assert_eq!(socket.event().await["uploadIntent"]["status"], "RECEIVED");
    server.finish_upload(&intent).await;
    assert_eq!(
        socket.event().await["uploadIntent"],
        json!({ "status": "FINISHED", "version": { "number": 1 } })
    );
    assert_eq!(socket.next().await["type"], "complete");
    socket.subscribe("2", watch, json!({ "id": "upload_01jd3sya5hfrvvr4b2xgn3fcke" })).await;
    assert_eq!(socket.next().await["payload"][0]["extensions"]["code"], "NOT_FOUND");
}

const PARTS: &str = "query($id: ID!) { uploadIntent(id: $id) { status receivedBytes target { url }
    parts { number offset size received target { method url } } } }";
const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_large_file_comes_in_parts_in_any_order_and_again() {
    let server = TestServer::start().await;
    let whole: Vec<u8> = (0..12 * MIB + 7).map(|at| u8::try_from(at % 251).expect("small")).collect();
    let input = json!({ "path": "big", "size": whole.len(), "partSize": 5 * MIB, "sha256": sha256(&whole) });
    let intent = server.start_upload(input).await;
    let id = json!({ "id": intent["id"] });
    assert!(intent["target"].is_null(), "it is sent in parts");
    let state = server.gql(PARTS, id.clone()).await["uploadIntent"].take();
    let parts = state["parts"].as_array().expect("parts").clone();
    let sizes: Vec<u64> = parts.iter().map(|part| part["size"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [5 * MIB as u64, 5 * MIB as u64, 2 * MIB as u64 + 7]);
    let slice = |part: &Value| {
        let offset = usize::try_from(part["offset"].as_u64().expect("an offset")).expect("small");
        let size = usize::try_from(part["size"].as_u64().expect("a size")).expect("small");
        &whole[offset..offset + size]
    };
    let url = |part: &Value| text(&part["target"]["url"]).to_owned();
    assert_eq!(server.send(reqwest::Method::PUT, &url(&parts[0]), &[], b"short").await.status(), 422);
    assert_eq!(
        server.send(reqwest::Method::PUT, &url(&parts[2]), &[], slice(&parts[0])).await.status(),
        422,
        "too long"
    );
    let wrong = url(&parts[0]).replace("/parts/1", "/parts/2");
    assert_eq!(server.send(reqwest::Method::PUT, &wrong, &[], slice(&parts[1])).await.status(), 403);
    let mut etags = vec![String::new(); 3];
    for index in [2, 0, 2] {
        let response =
            server.send(reqwest::Method::PUT, &url(&parts[index]), &[], slice(&parts[index])).await;
        assert_eq!(response.status(), 200);
        response.headers()["etag"].to_str().expect("a text").clone_into(&mut etags[index]);
    }
    let state = server.gql(PARTS, id.clone()).await["uploadIntent"].take();
    let received: Vec<bool> =
        state["parts"].as_array().expect("parts").iter().map(|part| part["received"] == true).collect();
    assert_eq!((received, &state["receivedBytes"]), (vec![true, false, true], &json!(7 * MIB + 7)));
    let finish = "mutation($id: ID!, $parts: [FinishedPartInput!]) { finishUpload(input: { intentId: $id, parts: $parts }) {
        version { number size sha256 } } }";
    let error = server.refuses(finish, id.clone(), "UPLOAD_INCOMPLETE", None).await;
    assert!(text(&error["message"]).contains('2'), "{error}");
    let response = server.send(reqwest::Method::PUT, &url(&parts[1]), &[], slice(&parts[1])).await;
    response.headers()["etag"].to_str().expect("a text").clone_into(&mut etags[1]);
    let wrong = json!({ "id": intent["id"], "parts": [{ "number": 1, "etag": etags[1] }] });
    server.refuses(finish, wrong, "BAD_USER_INPUT", Some("input.parts")).await;
    let parts: Vec<_> =
        etags.iter().zip(1..).map(|(etag, number)| json!({ "number": number, "etag": etag })).collect();
    let right = json!({ "id": intent["id"], "parts": parts });
    for _ in 0..2 {
        let done = server.gql(finish, right.clone()).await;
        let version = &done["finishUpload"]["version"];
        assert_eq!(*version, json!({ "number": 1, "size": whole.len(), "sha256": sha256(&whole) }));
    }
    assert_eq!(server.get("/assets/big", &[]).await.bytes().await.expect("bytes"), whole);
    assert!(server.stored("staging").iter().all(|name| name == ".probe"), "{:?}", server.stored("staging"));
}

#[tokio::test]
async fn parts_that_make_another_file_are_rejected_and_leave_nothing() {
    let server = TestServer::start().await;
    for (input, field) in [
        (json!({ "path": "x", "partSize": 5 * MIB }), "input.partSize"),
        (json!({ "path": "x", "size": 10, "partSize": 1024 }), "input.partSize"),
    ] {
        let start = "mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id } } }";
        server.refuses(start, json!({ "input": input }), "BAD_USER_INPUT", Some(field)).await;
    }
    let bytes = vec![7; 6 * MIB];
    let input = json!({ "path": "big", "size": bytes.len(), "partSize": 5 * MIB, "sha256": sha256(HOPPER) });
    let intent = server.start_upload(input).await;
    let state = server.gql(PARTS, json!({ "id": intent["id"] })).await["uploadIntent"].take();
    for (part, slice) in state["parts"].as_array().expect("parts").iter().zip(bytes.chunks(5 * MIB)) {
        let url = text(&part["target"]["url"]);
        assert_eq!(server.send(reqwest::Method::PUT, url, &[], slice).await.status(), 200);
    }
    let finish = "mutation($id: ID!) { finishUpload(input: { intentId: $id }) { version { id } } }";
    server.refuses(finish, json!({ "id": intent["id"] }), "CHECKSUM_MISMATCH", None).await;
    assert_eq!(status(&server, &intent).await["status"], "REJECTED");
    server.clock.advance(3_600_001);
    sweep(&server.app).await.expect("swept");
    assert!(server.stored("blobs").is_empty());
    assert!(server.stored("staging").iter().all(|name| name == ".probe"));
}

#[tokio::test]
async fn an_upload_that_could_never_be_finished_is_refused_at_once() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/file" }), HOPPER).await;
    let start = "mutation($input: StartUploadInput!) { startUpload(input: $input) { intent { id } } }";
    for path in ["a", "a/file/x", "a/file/x/y"] {
        server.refuses(start, json!({ "input": { "path": path } }), "ALREADY_EXISTS", None).await;
    }
}

#[tokio::test]
async fn finishing_again_answers_the_same_when_the_asset_is_in_the_trash() {
    let server = TestServer::start().await;
    let intent = server.start_upload(json!({ "path": "a/photo" })).await;
    server.send_bytes(&intent, HOPPER).await;
    let first = server.finish_upload(&intent).await;
    let delete =
        "mutation { deleteFolder(input: { folder: { path: \"a\" }, recursive: true }) { deletedAssets } }";
    server.gql(delete, json!({})).await;
    let again = server.finish_upload(&intent).await;
    assert_eq!((&again["version"]["id"], &again["changes"]), (&first["version"]["id"], &json!([])));
}

#[tokio::test]
async fn parts_that_are_finished_by_many_at_once_become_one_version() {
    let server = TestServer::start().await;
    let whole = vec![3; 6 * MIB];
    let intent =
        server.start_upload(json!({ "path": "big", "size": whole.len(), "partSize": 5 * MIB })).await;
    let state = server.gql(PARTS, json!({ "id": intent["id"] })).await["uploadIntent"].take();
    for (part, slice) in state["parts"].as_array().expect("parts").iter().zip(whole.chunks(5 * MIB)) {
        let url = text(&part["target"]["url"]);
        assert_eq!(server.send(reqwest::Method::PUT, url, &[], slice).await.status(), 200);
    }
    let finishes = (0..5).map(|_| server.finish_upload(&intent));
    for done in futures_util::future::join_all(finishes).await {
        assert_eq!(done["version"]["number"], 1);
    }
    let staged = server.stored("staging");
    assert!(staged.iter().all(|name| name == ".probe"), "{staged:?}");
}
