//! Versions: drafts, publishing, archiving, restoring, labels.

use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer, text};

const PUBLISH: &str = "mutation($id: ID!, $if: Int) { publishVersion(input: { versionId: $id, ifRevision: $if }) {
    version { number state publishedAt archivedAt } asset { revision publishedVersion { number } } changes { type versionNumber } } }";
const ARCHIVE: &str = "mutation($id: ID!) { archiveVersion(input: { versionId: $id }) {
    version { number state archivedAt } asset { publishedVersion { number } url } changes { type } } }";
const LABEL: &str = "mutation($input: UpdateVersionInput!) { updateVersion(input: $input) {
    version { label state number } changes { type versionNumber } } }";

async fn states(server: &TestServer, path: &str) -> Vec<String> {
    let query = "query($path: String!) { asset(path: $path) {
        versions(orderBy: { direction: ASC }) { nodes { number state } } latestVersion { number } } }";
    let answer = server.gql(query, json!({ "path": path })).await;
    let nodes = answer["asset"]["versions"]["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| format!("{} {}", node["number"], text(&node["state"]))).collect()
}

async fn published(server: &TestServer) -> Vec<u8> {
    server.get("/assets/photo", &[]).await.bytes().await.expect("bytes").to_vec()
}

#[tokio::test]
async fn a_draft_changes_nothing_for_readers_until_it_is_published() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let draft = server.upload(json!({ "path": "photo", "publish": false }), ROCKET).await;
    assert_eq!(draft["version"]["state"], "DRAFT");
    assert_eq!(draft["changes"][0]["type"], "VERSION_CREATE");
    assert_eq!(published(&server).await, HOPPER);
    let done = server.gql(PUBLISH, json!({ "id": draft["version"]["id"] })).await["publishVersion"].take();
    assert_eq!(done["changes"], json!([{ "type": "ASSET_PUBLISH", "versionNumber": 2 }]));
    assert_eq!(states(&server, "photo").await, ["1 ARCHIVED", "2 PUBLISHED"]);
    assert_eq!(published(&server).await, ROCKET);
    let again =
        server.gql(PUBLISH, json!({ "id": draft["version"]["id"], "if": 1 })).await["publishVersion"].take();
    assert_eq!(again["changes"], json!([]), "it holds already");
    assert_eq!(again["asset"]["revision"], done["asset"]["revision"]);
}

#[tokio::test]
async fn an_archived_version_can_be_published_again_with_one_call() {
    let server = TestServer::start().await;
    let first = server.upload(json!({ "path": "photo" }), HOPPER).await;
    server.upload(json!({ "path": "photo" }), ROCKET).await;
    let back = server.gql(PUBLISH, json!({ "id": first["version"]["id"] })).await["publishVersion"].take();
    assert_eq!(back["version"]["state"], "PUBLISHED");
    assert!(back["version"]["archivedAt"].is_null());
    assert_eq!(states(&server, "photo").await, ["1 PUBLISHED", "2 ARCHIVED"]);
    assert_eq!(published(&server).await, HOPPER);
    server
        .refuses(PUBLISH, json!({ "id": "version_nonsense" }), "BAD_USER_INPUT", Some("input.versionId"))
        .await;
    server.refuses(PUBLISH, json!({ "id": "version_01jd3sya5hfrvvr4b2xgn3fcke" }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn archiving_the_published_version_leaves_nothing_published() {
    let server = TestServer::start().await;
    let first = server.upload(json!({ "path": "photo" }), HOPPER).await;
    let id = &first["version"]["id"];
    let done = server.gql(ARCHIVE, json!({ "id": id })).await["archiveVersion"].take();
    assert_eq!(done["asset"], json!({ "publishedVersion": null, "url": null }));
    assert_eq!(done["changes"], json!([{ "type": "ASSET_ARCHIVE" }]));
    assert_eq!(server.get("/assets/photo", &[]).await.status(), 404);
    assert_eq!(server.get(text(&first["version"]["url"]), &[]).await.status(), 200, "its own URL stays");
    assert_eq!(server.gql(ARCHIVE, json!({ "id": id })).await["archiveVersion"]["changes"], json!([]));
    server.gql(PUBLISH, json!({ "id": id })).await;
    assert_eq!(published(&server).await, HOPPER);
}

#[tokio::test]
async fn restoring_adds_a_version_and_with_a_stale_revision_does_not() {
    let server = TestServer::start().await;
    let first = server.upload(json!({ "path": "photo", "label": "the first" }), HOPPER).await;
    server.upload(json!({ "path": "photo" }), ROCKET).await;
    let restore = "mutation($id: ID!, $label: String, $if: Int) {
        restoreVersion(input: { versionId: $id, label: $label, ifRevision: $if }) {
            version { number label filename restoredFrom { number } } } }";
    let id = &first["version"]["id"];
    server.refuses(restore, json!({ "id": id, "if": 1 }), "REVISION_CONFLICT", None).await;
    let done = server.gql(restore, json!({ "id": id, "label": "again" })).await;
    let expected =
        json!({ "number": 3, "label": "again", "filename": "photo", "restoredFrom": { "number": 1 } });
    assert_eq!(done["restoreVersion"]["version"], expected);
    assert_eq!(states(&server, "photo").await, ["1 ARCHIVED", "2 ARCHIVED", "3 PUBLISHED"]);
}

#[tokio::test]
async fn labels_are_set_kept_and_cleared() {
    let server = TestServer::start().await;
    let first = server.upload(json!({ "path": "photo", "label": "one" }), HOPPER).await;
    let label = |fields: Value| {
        let mut input = json!({ "versionId": first["version"]["id"] });
        input.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        server.gql(LABEL, json!({ "input": input }))
    };
    let done = label(json!({ "label": "two" })).await["updateVersion"].take();
    assert_eq!(done["version"]["label"], "two");
    assert_eq!(done["changes"], json!([{ "type": "ASSET_UPDATE", "versionNumber": 1 }]));
    assert_eq!(label(json!({})).await["updateVersion"]["changes"], json!([]), "left out, it stays");
    assert!(label(json!({ "label": null })).await["updateVersion"]["version"]["label"].is_null());
    let long = json!({ "input": { "versionId": first["version"]["id"], "label": "x".repeat(5000) } });
    server.refuses(LABEL, long, "BAD_USER_INPUT", Some("input.label")).await;
}

#[tokio::test]
async fn versions_are_paged_filtered_and_counted() {
    let server = TestServer::start().await;
    for number in 0..5 {
        server
            .upload(json!({ "path": "photo", "publish": number != 3 }), format!("text {number}").as_bytes())
            .await;
    }
    let query = "query($states: [VersionState!], $first: Int, $after: String) { asset(path: \"photo\") {
        versions(states: $states, first: $first, after: $after) { totalCount nodes { number } pageInfo { endCursor hasNextPage } }
        version(number: 2) { number } missing: version(number: 9) { number } } }";
    let page = server.gql(query, json!({ "first": 2 })).await;
    assert_eq!(page["asset"]["versions"]["nodes"], json!([{ "number": 5 }, { "number": 4 }]));
    assert_eq!(page["asset"]["versions"]["totalCount"], 5);
    assert_eq!((&page["asset"]["version"]["number"], &page["asset"]["missing"]), (&json!(2), &Value::Null));
    let end = &page["asset"]["versions"]["pageInfo"]["endCursor"];
    let rest = server.gql(query, json!({ "first": 10, "after": end })).await;
    assert_eq!(
        rest["asset"]["versions"]["nodes"],
        json!([{ "number": 3 }, { "number": 2 }, { "number": 1 }])
    );
    let drafts = server.gql(query, json!({ "states": ["DRAFT"] })).await;
    assert_eq!(drafts["asset"]["versions"]["nodes"], json!([{ "number": 4 }]));
    assert_eq!(drafts["asset"]["versions"]["totalCount"], 1);
}

const SIGNED: &str =
    "query($id: ID!, $for: Int! = 300, $as: ContentDisposition! = INLINE) { version(id: $id) {
    signedUrl(expiresInSeconds: $for, disposition: $as) { url expiresAt } } }";

#[tokio::test]
async fn a_signed_url_opens_a_private_draft_until_it_expires() {
    let mut server = TestServer::with(vellum::config::Flags::default(), "").await;
    let token = std::fs::read_to_string(server.data().join("admin-token")).expect("a token");
    server.token = Some(token.trim().to_owned());
    let input =
        json!({ "path": "secret", "publish": false, "visibility": "PRIVATE", "filename": "plan.jpg" });
    let draft = server.upload(input, HOPPER).await;
    let id = &draft["version"]["id"];
    assert_eq!(server.get(text(&draft["version"]["url"]), &[]).await.status(), 404, "without a role");
    let signed = server.gql(SIGNED, json!({ "id": id, "for": 60, "as": "ATTACHMENT" })).await;
    let url = text(&signed["version"]["signedUrl"]["url"]).to_owned();
    let response = server.get(&url, &[]).await;
    let disposition = response.headers()["content-disposition"].to_str().expect("a text").to_owned();
    assert!(disposition.starts_with("attachment; filename=\"plan.jpg\""), "{disposition}");
    assert!(response.headers()["cache-control"].to_str().expect("a text").starts_with("private"));
    assert_eq!(response.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.send(reqwest::Method::HEAD, &url, &[], b"").await.status(), 200);
    assert_eq!(server.get(&url, &[("range", "bytes=0-9")]).await.status(), 206);
    for method in [reqwest::Method::POST, reqwest::Method::PUT, reqwest::Method::DELETE] {
        assert_eq!(server.send(method, &url, &[], b"").await.status(), 403);
    }
    let (base, query) = url.split_once('?').expect("a query");
    for at in 0..query.len() {
        let mut bytes = query.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        let status = server.get(&format!("{base}?{changed}"), &[]).await.status();
        assert!(matches!(status.as_u16(), 403 | 404), "{changed}: {status}");
    }
    let other = server.upload(json!({ "path": "other", "visibility": "PRIVATE" }), ROCKET).await;
    let other = text(&other["version"]["url"]);
    assert_eq!(server.get(&format!("{other}?{query}"), &[]).await.status(), 403, "it is for one version");
    server.clock.advance(62_000);
    assert_eq!(server.get(&url, &[]).await.status(), 403);
    for life in [0, -1, 604_801] {
        server
            .refuses(SIGNED, json!({ "id": id, "for": life }), "BAD_USER_INPUT", Some("expiresInSeconds"))
            .await;
    }
    let fresh = server.gql(SIGNED, json!({ "id": id })).await;
    let delete = "mutation { deleteAsset(input: { asset: { path: \"secret\" } }) { deletedVersions } }";
    server.gql(delete, json!({})).await;
    assert_eq!(
        server.get(text(&fresh["version"]["signedUrl"]["url"]), &[]).await.status(),
        404,
        "in the trash"
    );
}

#[tokio::test]
async fn a_text_is_read_where_it_is_one() {
    let server = TestServer::start().await;
    let query = "query($path: String!, $max: Int! = 1048576) { asset(path: $path) { latestVersion { text(maxBytes: $max) } } }";
    for (path, content_type, bytes, expected) in [
        ("notes", "text/plain", "grüße".as_bytes(), json!("grüße")),
        ("data", "application/json; charset=utf-8", b"{}", json!("{}")),
        ("icon", "image/svg+xml", b"<svg/>", json!("<svg/>")),
        ("latin", "text/plain", b"gr\xfc\xdfe", json!(null)),
        ("photo", "image/jpeg", HOPPER, json!(null)),
        ("empty", "text/plain", b"", json!("")),
    ] {
        server.upload(json!({ "path": path, "contentType": content_type }), bytes).await;
        let seen = server.gql(query, json!({ "path": path })).await;
        assert_eq!(seen["asset"]["latestVersion"]["text"], expected, "{path}");
    }
    let seen = server.gql(query, json!({ "path": "notes", "max": 6 })).await;
    assert!(seen["asset"]["latestVersion"]["text"].is_null(), "7 bytes are more than 6");
    server.refuses(query, json!({ "path": "notes", "max": -1 }), "BAD_USER_INPUT", Some("maxBytes")).await;
    server.upload(json!({ "path": "long" }), &vec![b'x'; 1_000_000]).await;
    let many: String =
        (0..17).map(|n| format!("a{n}: asset(path: \"long\") {{ latestVersion {{ text }} }} ")).collect();
    server.refuses(&format!("{{ {many} }}"), json!({}), "BAD_USER_INPUT", Some("maxBytes")).await;
}
