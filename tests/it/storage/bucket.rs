//! What only a bucket does: readers and senders are sent there, and it refuses what it was not asked for.

use reqwest::Response;
use serde_json::{Value, json};
use vellum::config::Flags;

use super::{Lab, read, status};
use crate::support::{Bucket, FINISH, HOPPER, ROCKET, TestServer, sha256, text};

const SIGNED: &str = "query($path: String!, $seconds: Int!, $as: ContentDisposition!) { asset(path: $path) {
    publishedVersion { signedUrl(expiresInSeconds: $seconds, disposition: $as) { url expiresAt } } } }";

async fn signed(lab: &Lab, path: &str, seconds: i32, disposition: &str) -> String {
    let variables = json!({ "path": path, "seconds": seconds, "as": disposition });
    let answer = lab.server.gql(SIGNED, variables).await;
    text(&answer["asset"]["publishedVersion"]["signedUrl"]["url"]).to_owned()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("a text"))
}

#[tokio::test]
async fn readers_are_sent_to_the_public_url_with_the_right_caching() {
    let lab = Lab::s3("public_url = \"https://cdn.example.com/files/\"").await;
    let input = json!({ "path": "images/hero.jpg", "contentType": "image/jpeg" });
    let done = lab.server.upload(input, HOPPER).await;
    let stable = lab.server.get("/assets/images/hero.jpg", &[]).await;
    let fixed = lab.server.get(text(&done["version"]["url"]), &[]).await;
    for (response, cache) in [(&stable, "no-cache"), (&fixed, "public, max-age=31536000, immutable")] {
        assert_eq!(response.status(), 302);
        assert_eq!(header(response, "cache-control"), cache);
        assert!(header(response, "location").starts_with("https://cdn.example.com/files/"));
        assert_eq!(header(response, "access-control-allow-origin"), "*");
    }
    assert_eq!(header(&stable, "location"), header(&fixed, "location"), "the same object");
    // What the object tells its readers, as the bucket has it.
    let key = header(&stable, "location").trim_start_matches("https://cdn.example.com/files/");
    let bucket = lab.bucket.as_ref().expect("a bucket");
    let object = bucket.head(key).await;
    assert_eq!(object.content_type(), Some("image/jpeg"));
    assert_eq!(object.cache_control(), Some("public, max-age=31536000, immutable"));
    let disposition = object.content_disposition().expect("a disposition");
    assert_eq!(disposition, "inline; filename=\"hero.jpg\"; filename*=UTF-8''hero.jpg");
    // The same bytes under another name are kept once, and their object tells of the first.
    let other = lab.server.upload(json!({ "path": "copy.jpg" }), HOPPER).await;
    assert_eq!(read(&lab, text(&other["version"]["url"])).await, (200, HOPPER.to_vec()));
    // Nobody else learns a key: what is private comes through the server.
    let private = json!({ "path": "private.jpg", "visibility": "PRIVATE" });
    lab.server.upload(private, ROCKET).await;
    assert_eq!(lab.server.get("/assets/private.jpg", &[]).await.status(), 200);
    assert!(signed(&lab, "private.jpg", 60, "INLINE").await.starts_with(&lab.server.url("/v/")));
}

#[tokio::test]
async fn without_a_public_url_readers_get_one_that_expires() {
    let lab = Lab::s3("").await;
    let private = json!({ "path": "p/photo.jpg", "visibility": "PRIVATE" });
    lab.server.upload(private, HOPPER).await;
    let response = lab.server.get("/assets/p/photo.jpg", &[]).await;
    assert_eq!((response.status().as_u16(), header(&response, "cache-control")), (302, "private, no-store"));
    let url = signed(&lab, "p/photo.jpg", 300, "ATTACHMENT").await;
    assert!(url.starts_with(&lab.bucket.as_ref().expect("a bucket").endpoint));
    let got = lab.server.client.get(&url).send().await.expect("an answer");
    assert_eq!(got.status(), 200);
    if lab.is_strict() {
        assert_eq!(header(&got, "content-type"), "image/jpeg");
        assert!(header(&got, "content-disposition").starts_with("attachment; filename=\"photo.jpg\""));
    }
    assert_eq!(got.bytes().await.expect("bytes"), HOPPER);
    for tampered in [
        url.replace("X-Amz-Expires=300", "X-Amz-Expires=3000"),
        url.replace("attachment", "inline"),
        url.replace("/blobs/", "/staging/"),
    ] {
        assert_ne!(tampered, url);
        let refused = lab.server.client.get(&tampered).send().await.expect("an answer");
        assert_eq!(refused.status(), 403, "{tampered}");
    }
    assert_eq!(lab.server.client.delete(&url).send().await.expect("an answer").status(), 403);
    let short = signed(&lab, "p/photo.jpg", 1, "INLINE").await;
    let expired = async {
        while lab.server.client.get(&short).send().await.expect("an answer").status() == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), expired).await.expect("it expires");
}

#[tokio::test]
async fn what_could_run_script_never_comes_without_its_headers() {
    for more in ["", "public_url = \"https://cdn.example.com\"", "reads = \"stream\""] {
        let lab = Lab::s3(more).await;
        let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
        lab.server.upload(json!({ "path": "x.svg", "contentType": "image/svg+xml" }), svg).await;
        let response = lab.server.get("/assets/x.svg", &[]).await;
        assert_eq!(response.status(), 200, "{more}");
        assert!(header(&response, "content-security-policy").starts_with("sandbox"), "{more}");
        assert!(signed(&lab, "x.svg", 60, "INLINE").await.starts_with(&lab.server.url("/v/")), "{more}");
    }
}

#[tokio::test]
async fn bytes_can_go_through_the_server_by_choice() {
    let lab = Lab::s3("reads = \"stream\"").await;
    lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    let response = lab.server.get("/assets/photo", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "etag"), format!("\"{}\"", sha256(HOPPER)));
    assert_eq!(response.bytes().await.expect("bytes"), HOPPER);
    let parts = lab.server.get("/assets/photo", &[("range", "bytes=0-1,5-7")]).await;
    assert_eq!(parts.status(), 206);
    let part = lab.server.get("/assets/photo", &[("range", "bytes=-4")]).await;
    assert_eq!(part.bytes().await.expect("bytes"), &HOPPER[HOPPER.len() - 4..]);
}

/// Sends what a target says, changed by `change`.
async fn send(intent: &Value, bytes: &[u8], change: impl Fn(&mut String, &mut Vec<(String, String)>)) -> u16 {
    let target = &intent["target"];
    let mut url = text(&target["url"]).to_owned();
    let headers = target["headers"].as_array().expect("headers").iter();
    let mut headers: Vec<_> =
        headers.map(|header| (text(&header["name"]).to_owned(), text(&header["value"]).to_owned())).collect();
    change(&mut url, &mut headers);
    // A store may close the connection of what it refuses.
    let mut request = reqwest::Client::new().put(url).body(bytes.to_vec());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_bucket_takes_exactly_what_was_declared() {
    let lab = Lab::s3("").await;
    let input = json!({ "path": "photo", "contentType": "image/jpeg", "size": HOPPER.len(), "sha256": sha256(HOPPER) });
    let intent = lab.server.start_upload(input).await;
    let refused = |status: u16| assert!((400..500).contains(&status), "{status}");
    refused(send(&intent, HOPPER, |_, headers| headers.clear()).await);
    refused(send(&intent, HOPPER, |_, headers| headers.retain(|header| header.0 != "content-type")).await);
    refused(send(&intent, &HOPPER[1..], |_, _| ()).await);
    refused(send(&intent, HOPPER, |url, _| *url = url.replace("X-Amz-Expires=", "X-Amz-Expires=1")).await);
    refused(send(&intent, HOPPER, |url, _| *url = url.replace("/staging/", "/blobs/")).await);
    if lab.is_strict() {
        let mut other = HOPPER.to_vec();
        other[100] ^= 1;
        refused(send(&intent, &other, |_, _| ()).await);
        lab.server.refuses(FINISH, json!({ "id": intent["id"] }), "UPLOAD_INCOMPLETE", None).await;
    }
    assert_eq!(send(&intent, HOPPER, |_, _| ()).await, 200);
    assert_eq!(lab.server.finish_upload(&intent).await["version"]["sha256"], sha256(HOPPER));
}

#[tokio::test]
async fn what_the_bucket_verified_is_not_read_again() {
    let lab = Lab::on(Bucket::in_process().await, "").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    let bytes = super::noise(2 * super::MIB);
    for (declared, read) in [(true, 8192), (false, 2 * super::MIB)] {
        let input = json!({ "path": "file", "sha256": declared.then(|| sha256(&bytes)) });
        let intent = lab.server.start_upload(input).await;
        assert_eq!(lab.server.send_bytes(&intent, &bytes).await.status(), 200);
        let before = bucket.bytes_read();
        lab.server.finish_upload(&intent).await;
        assert_eq!(bucket.bytes_read() - before, read, "declared: {declared}");
    }
}

#[tokio::test]
async fn an_admin_chooses_where_new_bytes_go_and_old_ones_stay() {
    let lab = Lab::s3("reads = \"stream\"").await;
    let query = "{ storage { default { name kind publicUrl } backends { name kind } } }";
    let storage = lab.server.gql(query, json!({})).await["storage"].take();
    assert_eq!(storage["default"], json!({ "name": "media", "kind": "S3", "publicUrl": null }));
    let both = json!([{ "name": "local", "kind": "LOCAL" }, { "name": "media", "kind": "S3" }]);
    assert_eq!(storage["backends"], both);
    lab.server.upload(json!({ "path": "old" }), HOPPER).await;
    let waiting = lab.server.start_upload(json!({ "path": "waiting" })).await;
    let choose = "mutation($name: String!) { setDefaultStorage(input: { backend: $name }) { storage { default { name } } } }";
    lab.server.refuses(choose, json!({ "name": "nowhere" }), "BAD_USER_INPUT", Some("input.backend")).await;
    let chosen = lab.server.gql(choose, json!({ "name": "local" })).await;
    assert_eq!(chosen["setDefaultStorage"]["storage"]["default"]["name"], "local");
    lab.server.upload(json!({ "path": "new" }), HOPPER).await;
    assert_eq!(lab.server.stored("blobs").len(), 1, "the same bytes, once on each backend");
    assert_eq!(lab.server.send_bytes(&waiting, ROCKET).await.status(), 200);
    lab.server.finish_upload(&waiting).await;
    assert_eq!(lab.server.stored("blobs").len(), 1, "an upload stays where it began");
    for (path, bytes) in [("old", HOPPER), ("new", HOPPER), ("waiting", ROCKET)] {
        assert!(read(&lab, &format!("/assets/{path}")).await == (200, bytes.to_vec()), "{path}");
    }
    let server = lab.server.restart().await;
    assert_eq!(server.gql(query, json!({})).await["storage"]["default"]["name"], "local", "it is remembered");
}

#[tokio::test]
async fn objects_that_are_gone_or_changed_are_refused_and_healed_by_the_same_bytes() {
    let lab = Lab::s3("reads = \"stream\"").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    for damage in [None, Some(&HOPPER[1..])] {
        for key in bucket.keys("blobs/").await {
            bucket.replace(&key, damage).await;
        }
        let gone = lab.server.get("/assets/photo", &[]).await;
        assert_eq!(gone.status(), 503);
        assert_eq!(gone.json::<Value>().await.expect("JSON")["code"], "STORAGE_UNAVAILABLE");
        lab.server.upload(json!({ "path": "again" }), HOPPER).await;
        assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_by_name() {
    for (section, expected) in [
        ("[storage.media]\nkind = \"s3\"", "media: has no bucket"),
        ("[storage.media]\nkind = \"s3\"\nbucket = \"b\"", "media: has no region"),
        (
            "[storage.media]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"\naccess_key_id = \"k\"",
            "half of its credentials",
        ),
        ("[storage.media]\nkind = \"local\"", "media: has no folder"),
        ("[storage.media]\nkind = \"tape\"", "tape"),
        ("[storage.local]\nkind = \"local\"\nfolder = \"/x\"", "local: cannot be its name"),
        ("default_storage = \"media\"", "no backend \"media\" is configured"),
        (
            "[storage.media]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"\nprefix = \"a b\"",
            "prefix cannot be used",
        ),
        ("[storage.media]\nkind = \"s3\"\nbucket = \"b\"\nendpoint = \"ftp://x\"", "endpoint"),
        (
            "[storage.a]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"\n[storage.c]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"\nprefix = \"p\"",
            "c: is the place of \"a\", or within it",
        ),
        (
            "data_dir = \"/tmp\"\n[storage.a]\nkind = \"local\"\nfolder = \"/tmp/../tmp\"",
            "a: is the place of \"local\"",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vellum.toml");
        std::fs::write(&path, section).expect("written");
        let error = vellum::config::Config::load(Some(&path), &Flags::default()).expect_err(section);
        assert!(error.to_string().contains(expected), "{section}: {error}");
    }
}

#[tokio::test]
async fn uploads_tell_where_they_stand() {
    let lab = Lab::s3("").await;
    let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    let before = status(&lab, &intent).await;
    assert_eq!((&before["status"], &before["receivedBytes"]), (&json!("CREATED"), &json!(0)));
    lab.server.finish_upload(&intent).await;
    let after = status(&lab, &intent).await;
    assert_eq!((&after["status"], &after["receivedBytes"]), (&json!("FINISHED"), &json!(HOPPER.len())));
    assert!(after["target"].is_null());
    let server: &TestServer = &lab.server;
    server.readiness(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_finish_one_upload_make_one_version() {
    let lab = Lab::s3("reads = \"stream\"").await;
    let other = lab.server.beside().await;
    let other = other.as_ref().unwrap_or(&lab.server);
    for round in 0..10 {
        let bytes = format!("round {round}").into_bytes();
        let declared = (round % 2 == 0).then(|| sha256(&bytes));
        let intent = lab.server.start_upload(json!({ "path": "one", "sha256": declared })).await;
        assert_eq!(lab.server.send_bytes(&intent, &bytes).await.status(), 200);
        let (here, there) = tokio::join!(lab.server.finish_upload(&intent), other.finish_upload(&intent));
        assert_eq!(here["version"]["id"], there["version"]["id"]);
        assert_eq!(here["version"]["number"], round + 1);
        assert!(read(&lab, "/assets/one").await == (200, bytes));
    }
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
}

#[tokio::test]
async fn short_files_are_read_from_the_store_once_and_only_for_who_may() {
    let bucket = Bucket::in_process().await;
    let lab = Lab::with(bucket, "", "reads = \"stream\"").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    let version = lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
    let before = bucket.bytes_read();
    assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
    let url = text(&version["version"]["url"]).to_owned();
    let path = url.strip_prefix(&lab.server.url("")).expect("our URL").to_owned();
    let part = lab.server.get(&path, &[("range", "bytes=2-5")]).await;
    assert_eq!(part.bytes().await.expect("bytes"), &HOPPER[2..=5]);
    assert_eq!(bucket.bytes_read(), before);
    let delete = "mutation { deleteAsset(input: { asset: { path: \"photo\" } }) { asset { id } } }";
    lab.server.gql(delete, json!({})).await;
    assert_eq!(lab.server.get(&path, &[]).await.status(), 404);
    assert_eq!(lab.server.get("/assets/photo", &[]).await.status(), 404);
}

#[tokio::test]
async fn the_keys_that_clients_write_to_tell_nobody_else() {
    let lab = Lab::s3("").await;
    let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    let keys = lab.bucket.as_ref().expect("a bucket").keys("staging/").await;
    let (_, attempt) = keys[0].rsplit_once('.').expect("a key of an attempt");
    let attempt = uuid::Uuid::parse_str(attempt).expect("an id");
    assert!(attempt.get_version_num() == 4, "it is random to who does not know the library's key");
    let other = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert!(!text(&other["target"]["url"]).contains(&attempt.simple().to_string()));
}
