//! Trouble with the disk: a clear answer for what cannot be done, service for everything else.

use std::path::{Path, PathBuf};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{FINISH, HOPPER, Process, ROCKET, TestServer, files, sha256, text};

const START: &str =
    "mutation($path: String!) { startUpload(input: { path: $path }) { intent { id target { url } } } }";

/// The file that has these bytes.
fn blob(server: &TestServer, bytes: &[u8]) -> PathBuf {
    let has = |path: &PathBuf| std::fs::read(path).is_ok_and(|is| is == bytes);
    files(&server.data().join("blobs")).into_iter().find(has).expect("a file has them")
}

/// An answer that says that the storage does not do what it should.
async fn is_unavailable(response: Response) {
    assert!(response.status().is_server_error(), "{}", response.status());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "STORAGE_UNAVAILABLE", "{problem}");
}

async fn gives(server: &TestServer, url: &str, bytes: &[u8]) {
    let response = server.get(url, &[]).await;
    assert_eq!(response.status(), StatusCode::OK, "{url}");
    assert!(response.bytes().await.expect("bytes") == bytes, "{url} gives what it should");
}

/// Damages one of two files, and expects an error for it, service for the other, and healing by another upload.
async fn is_refused_and_healed(damage: fn(&Path)) {
    let server = TestServer::start().await;
    let damaged = server.upload(json!({ "path": "damaged" }), HOPPER).await;
    server.upload(json!({ "path": "whole" }), ROCKET).await;
    damage(&blob(&server, HOPPER));
    is_unavailable(server.get("/assets/damaged", &[]).await).await;
    is_unavailable(server.get(text(&damaged["version"]["url"]), &[]).await).await;
    gives(&server, "/assets/whole", ROCKET).await;
    let told = server.gql("{ asset(path: \"damaged\") { publishedVersion { sha256 } } }", json!({})).await;
    assert_eq!(told["asset"]["publishedVersion"]["sha256"], sha256(HOPPER));
    server.upload(json!({ "path": "again" }), HOPPER).await;
    gives(&server, "/assets/again", HOPPER).await;
    gives(&server, "/assets/damaged", HOPPER).await;
    gives(&server, text(&damaged["version"]["url"]), HOPPER).await;
}

#[tokio::test]
async fn changed_bytes_are_never_sent_and_another_upload_heals_them() {
    is_refused_and_healed(|path| {
        let mut bytes = std::fs::read(path).expect("bytes");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_never_sent_and_another_upload_heals_it() {
    is_refused_and_healed(|path| {
        let file = std::fs::File::options().write(true).open(path).expect("a file");
        file.set_len(100).expect("cut off");
    })
    .await;
}

#[tokio::test]
async fn a_missing_file_is_an_error_and_another_upload_heals_it() {
    is_refused_and_healed(|path| std::fs::remove_file(path).expect("removed")).await;
}

/// Puts a file in the place of a folder, which no right helps against.
fn replace_by_a_file(folder: &Path) {
    std::fs::rename(folder, folder.with_extension("away")).expect("renamed");
    std::fs::write(folder, b"in the way").expect("written");
}

fn put_back(folder: &Path) {
    std::fs::remove_file(folder).expect("removed");
    std::fs::rename(folder.with_extension("away"), folder).expect("renamed");
}

#[tokio::test]
async fn without_a_place_for_bytes_that_come_in_the_rest_goes_on() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let waiting = server.start_upload(json!({ "path": "later" })).await;
    let staging = server.data().join("staging");
    replace_by_a_file(&staging);
    is_unavailable(server.send_bytes(&waiting, ROCKET).await).await;
    gives(&server, "/assets/photo", HOPPER).await;
    server.gql("mutation { createFolder(input: { path: \"a\" }) { created } }", json!({})).await;
    put_back(&staging);
    assert_eq!(server.send_bytes(&waiting, ROCKET).await.status(), StatusCode::OK);
    server.finish_upload(&waiting).await;
    gives(&server, "/assets/later", ROCKET).await;
}

#[tokio::test]
async fn without_a_place_for_bytes_that_stay_the_rest_goes_on() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let waiting = server.start_upload(json!({ "path": "later" })).await;
    assert_eq!(server.send_bytes(&waiting, ROCKET).await.status(), StatusCode::OK);
    let blobs = server.data().join("blobs");
    replace_by_a_file(&blobs);
    server.refuses(FINISH, json!({ "id": waiting["id"] }), "STORAGE_UNAVAILABLE", None).await;
    is_unavailable(server.get("/assets/photo", &[]).await).await;
    let told = server.gql("{ asset(path: \"photo\") { publishedVersion { size } } }", json!({})).await;
    assert_eq!(told["asset"]["publishedVersion"]["size"], HOPPER.len());
    assert_eq!(server.get("/healthz", &[]).await.status(), StatusCode::OK);
    put_back(&blobs);
    gives(&server, "/assets/photo", HOPPER).await;
    server.finish_upload(&waiting).await;
    gives(&server, "/assets/later", ROCKET).await;
}

/// A client of a server in another process, whose files may be limited.
struct Limited {
    process: Process,
    client: reqwest::Client,
}

impl Limited {
    async fn ask(&self, query: &str, variables: Value) -> Value {
        let request = self.client.post(format!("{}/graphql", self.process.base));
        let response = request.json(&json!({ "query": query, "variables": variables })).send().await;
        response.expect("an answer").json().await.expect("JSON")
    }

    async fn start_upload(&self, path: &str) -> Value {
        self.ask(START, json!({ "path": path })).await["data"]["startUpload"]["intent"].take()
    }

    async fn send(&self, intent: &Value, bytes: Vec<u8>) -> Response {
        let request = self.client.put(text(&intent["target"]["url"])).body(bytes);
        request.send().await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.process.base)).send().await.expect("an answer")
    }

    /// A whole upload.
    async fn upload(&self, path: &str, bytes: Vec<u8>) {
        let intent = self.start_upload(path).await;
        assert_eq!(self.send(&intent, bytes).await.status(), StatusCode::OK);
        let finished = self.ask(FINISH, json!({ "id": intent["id"] })).await;
        assert!(finished.get("errors").is_none(), "{finished}");
    }
}

#[tokio::test]
async fn a_file_for_which_there_is_no_room_is_refused_and_smaller_ones_go_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Limited {
        process: Process::serve_limited(&folder.path().join("data")),
        client: reqwest::Client::new(),
    };
    server.upload("small", HOPPER.to_vec()).await;
    server.process.limit_files(Some(8 << 20));
    let large = vec![7; 9 << 20];
    let intent = server.start_upload("large").await;
    is_unavailable(server.send(&intent, large.clone()).await).await;
    let staging = folder.path().join("data/staging");
    assert_eq!(files(&staging), [""; 0].map(PathBuf::from), "what came of it is removed");
    server.upload("other", ROCKET.to_vec()).await;
    assert_eq!(server.get("/assets/small").await.bytes().await.expect("bytes"), HOPPER);
    server.process.limit_files(None);
    assert_eq!(server.send(&intent, large.clone()).await.status(), StatusCode::OK, "the same upload goes on");
    server.ask(FINISH, json!({ "id": intent["id"] })).await;
    assert_eq!(server.get("/assets/large").await.bytes().await.expect("bytes"), large);
}

#[tokio::test]
async fn where_nothing_can_be_written_reading_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Limited {
        process: Process::serve_limited(&folder.path().join("data")),
        client: reqwest::Client::new(),
    };
    server.upload("photo", HOPPER.to_vec()).await;
    let waiting = server.start_upload("waiting").await;
    server.process.limit_files(Some(0));
    is_unavailable(server.send(&waiting, ROCKET.to_vec()).await).await;
    let create = "mutation { createFolder(input: { path: \"a\" }) { created } }";
    for query in [create, "mutation { startUpload(input: { path: \"b\" }) { intent { id } } }"] {
        let refused = server.ask(query, json!({})).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "STORAGE_UNAVAILABLE", "{refused}");
    }
    assert_eq!(server.get("/assets/photo").await.bytes().await.expect("bytes"), HOPPER);
    let read = server.ask("{ asset(path: \"photo\") { path } folder(path: \"a\") { id } }", json!({})).await;
    assert_eq!(read["data"], json!({ "asset": { "path": "photo" }, "folder": null }));
    server.process.limit_files(None);
    assert_eq!(server.send(&waiting, ROCKET.to_vec()).await.status(), StatusCode::OK);
    let created = server.ask(create, json!({})).await;
    assert_eq!(created["data"]["createFolder"]["created"], true, "it recovers by itself: {created}");
    let version = server.upload("photo", ROCKET.to_vec()).await;
    let read = "{ asset(path: \"photo\") { versions { totalCount } } folder(path: \"a\") { path } }";
    let all = json!({ "asset": { "versions": { "totalCount": 2 } }, "folder": { "path": "a" } });
    assert_eq!(server.ask(read, json!({})).await["data"], all, "{version:?}");
    server.process.kill();
    let again = TestServer::adopt(folder).await;
    assert_eq!(again.gql(read, json!({})).await, all, "what was acknowledged is there after a restart");
}

#[cfg(unix)]
#[tokio::test]
async fn files_of_a_folder_that_others_could_read_are_closed_to_them() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    std::fs::create_dir(&data).expect("a folder");
    set(&data, 0o755);
    let loose = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o077;
    let check = |what: &str| {
        let tops = std::fs::read_dir(&data).expect("a folder").map(|entry| entry.expect("an entry").path());
        for path in tops.chain(files(&data)) {
            assert_eq!(loose(&path), 0, "{what}: {}", path.display());
        }
    };
    let mut process = Process::serve(&data);
    let server = Limited { process, client: reqwest::Client::new() };
    server.upload("photo", HOPPER.to_vec()).await;
    check("a new library");
    process = server.process;
    process.kill();
    // As an earlier release left them.
    for part in ["vellum.db", "vellum.db-wal", "vellum.db-shm", "admin-token"] {
        let path = data.join(part);
        if path.exists() {
            set(&path, 0o644);
        }
    }
    set(&data.join("blobs"), 0o755);
    set(&data.join("staging"), 0o755);
    // What somebody put there to have it written to.
    let victim = folder.path().join("victim");
    std::fs::write(&victim, b"precious").expect("written");
    symlink(&victim, data.join("staging/.probe")).expect("a link");
    let mut process = Process::serve(&data);
    for part in ["vellum.db", "vellum.db-wal", "blobs", "staging"] {
        assert_eq!(loose(&data.join(part)), 0, "{part}");
    }
    assert_eq!(std::fs::read(&victim).expect("bytes"), b"precious");
    process.kill();
}

/// On a small disk of its own, which `VELLUM_TEST_SMALL_DISK` names; CI always makes one.
#[tokio::test]
async fn on_a_full_disk_the_server_starts_and_deleting_makes_room() {
    let Some(disk) = std::env::var_os("VELLUM_TEST_SMALL_DISK").map(PathBuf::from) else { return };
    // Also when an earlier run broke off.
    for left in std::fs::read_dir(&disk).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let _ = std::fs::remove_dir_all(&left).or_else(|_| std::fs::remove_file(&left));
    }
    let (data, filler) = (disk.join("data"), disk.join("filler"));
    let fill = || {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(&filler).expect("a file");
        // Piece by piece, until not a byte more goes in.
        for piece in [vec![7; 1 << 16], vec![7; 512], vec![7; 1]] {
            while file.write_all(&piece).is_ok() {}
        }
    };
    let serve = || Limited { process: Process::serve(&data), client: reqwest::Client::new() };
    let server = serve();
    server.upload("kept", HOPPER.to_vec()).await;
    server.upload("large", vec![7; 6 << 20]).await;
    let waiting = server.start_upload("waiting").await;
    fill();
    is_unavailable(server.send(&waiting, ROCKET.to_vec()).await).await;
    let delete =
        "mutation($path: String!) { deleteAsset(input: { asset: { path: $path } }) { changes { type } } }";
    let create = "mutation { createFolder(input: { path: \"a\" }) { created } }";
    assert!(server.ask(create, json!({})).await.get("errors").is_none(), "what is small goes on");
    let mut process = server.process;
    process.kill();
    fill();

    let server = serve();
    let at = text(&waiting["target"]["url"]).find("/uploads/").expect("a path");
    let path = text(&waiting["target"]["url"])[at..].to_owned();
    let waiting =
        json!({ "id": waiting["id"], "target": { "url": format!("{}{path}", server.process.base) } });
    assert_eq!(server.get("/assets/kept").await.bytes().await.expect("bytes"), HOPPER);
    let deleted = server.ask(delete, json!({ "path": "large" })).await;
    assert_eq!(deleted["data"]["deleteAsset"]["changes"][0]["type"], "ASSET_DELETE", "{deleted}");
    is_unavailable(server.send(&waiting, ROCKET.to_vec()).await).await;
    let trash = "{ trash { nodes { ... on Asset { id } } } }";
    let id = server.ask(trash, json!({})).await["data"]["trash"]["nodes"][0]["id"].take();
    let purge = "mutation($id: ID!) { purgeTrash(input: { id: $id }) { purgedAssets } }";
    let purged = server.ask(purge, json!({ "id": id })).await;
    assert_eq!(purged["data"]["purgeTrash"]["purgedAssets"], 1, "{purged}");
    std::fs::remove_file(&filler).expect("removed");
    // It notices that there is room.
    for _ in 0..200 {
        let sent = server.send(&waiting, ROCKET.to_vec()).await;
        if sent.status() == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let finished = server.ask(FINISH, json!({ "id": waiting["id"] })).await;
    assert!(finished.get("errors").is_none(), "{finished}");
    drop(server);
    std::fs::remove_dir_all(&data).expect("removed");
}
