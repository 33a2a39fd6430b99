//! Bytes: caching, conditions, ranges, digests, safe headers.

use std::time::{Duration, Instant};

use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{HOPPER, ROCKET, TestServer, sha256, text};

#[tokio::test]
async fn stable_urls_revalidate_and_version_urls_are_immutable() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "images/hero", "filename": "Grüße 1.jpg" }), HOPPER).await;
    let stable = server.get(text(&done["asset"]["url"]), &[]).await;
    let etag = format!("\"{}\"", sha256(HOPPER));
    let headers = stable.headers().clone();
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["etag"], etag);
    assert_eq!(headers["content-length"], HOPPER.len().to_string());
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
    assert_eq!(
        headers["content-disposition"],
        "inline; filename=\"Gr__e 1.jpg\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.jpg"
    );
    let digest =
        headers["digest"].to_str().expect("a text").strip_prefix("sha-256=").expect("a digest").to_owned();
    assert_eq!(headers["repr-digest"], format!("sha-256=:{digest}:"));
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, digest).expect("base64");
    assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), sha256(HOPPER));
    assert!(headers.get("content-security-policy").is_none());
    for url in
        [text(&done["version"]["url"]).to_owned(), format!("/assets/v/{}", text(&done["version"]["id"]))]
    {
        let response = server.get(&url, &[]).await;
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable", "{url}");
        assert_eq!(response.headers()["etag"], etag);
        assert_eq!(response.bytes().await.expect("bytes"), HOPPER);
    }
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let etag = format!("\"{}\"", sha256(HOPPER));
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let response = server.get("/assets/photo", &[("if-none-match", &known)]).await;
        assert_eq!(response.status(), 304, "{known}");
        assert_eq!(response.headers()["etag"], etag);
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert!(response.bytes().await.expect("bytes").is_empty());
    }
    let first = server.get("/assets/photo", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(first.status(), 200);
    let modified = first.headers()["last-modified"].to_str().expect("a date").to_owned();
    assert_eq!(server.get("/assets/photo", &[("if-modified-since", &modified)]).await.status(), 304);
    let long_ago = [("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")];
    assert_eq!(server.get("/assets/photo", &long_ago).await.status(), 200);
    server.upload(json!({ "path": "photo" }), ROCKET).await;
    assert_eq!(
        server.get("/assets/photo", &[("if-none-match", &etag)]).await.status(),
        200,
        "it is another one now"
    );
}

#[tokio::test]
async fn other_bytes_than_a_client_means_are_not_sent() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let etag = format!("\"{}\"", sha256(HOPPER));
    assert_eq!(server.get("/assets/photo", &[("if-match", &etag)]).await.status(), 200);
    let other = server.get("/assets/photo", &[("if-match", "\"other\"")]).await;
    assert_eq!(other.status(), 412);
    assert_eq!(other.json::<Value>().await.expect("JSON")["status"], 412);
    let long_ago = [("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT")];
    assert_eq!(server.get("/assets/photo", &long_ago).await.status(), 412);
}

#[tokio::test]
async fn parts_are_sent_as_asked() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let size = HOPPER.len();
    let etag = format!("\"{}\"", sha256(HOPPER));
    for (range, from, to) in [
        ("bytes=0-9".to_owned(), 0, 9),
        ("bytes=100-".to_owned(), 100, size - 1),
        ("bytes=-5".to_owned(), size - 5, size - 1),
        (format!("bytes=10-{}", size * 2), 10, size - 1),
    ] {
        let response = server.get("/assets/photo", &[("range", &range)]).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(response.headers()["content-range"], format!("bytes {from}-{to}/{size}"), "{range}");
        assert_eq!(response.bytes().await.expect("bytes"), HOPPER[from..=to], "{range}");
    }
    for range in
        [format!("bytes={size}-"), "bytes=9-2".to_owned(), "bytes=x".to_owned(), "bytes=-0".to_owned()]
    {
        let response = server.get("/assets/photo", &[("range", &range)]).await;
        assert_eq!(response.status(), 416, "{range}");
        assert_eq!(response.headers()["content-range"], format!("bytes */{size}"));
    }
    assert_eq!(server.get("/assets/photo", &[("range", "lines=1-2")]).await.status(), 200, "another unit");
    let fresh = [("range", "bytes=0-9"), ("if-range", etag.as_str())];
    assert_eq!(server.get("/assets/photo", &fresh).await.status(), 206);
    let stale = [("range", "bytes=0-9"), ("if-range", "\"other\"")];
    assert_eq!(server.get("/assets/photo", &stale).await.status(), 200);
    let head = server.send(Method::HEAD, "/assets/photo", &[("range", "bytes=0-9")], b"").await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &size.to_string().parse().expect("a value"))
    );
}

#[tokio::test]
async fn several_parts_come_in_one_answer() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let response = server.get("/assets/photo", &[("range", "bytes=0-3, 10-19")]).await;
    assert_eq!(response.status(), 206);
    let content_type = response.headers()["content-type"].to_str().expect("a text").to_owned();
    let length: usize =
        response.headers()["content-length"].to_str().expect("a text").parse().expect("a number");
    let boundary =
        content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary").to_owned();
    let body = response.bytes().await.expect("bytes");
    assert_eq!(body.len(), length);
    let part = |from: usize, to: usize| {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: image/jpeg\r\nContent-Range: bytes {from}-{to}/{}\r\n\r\n",
            HOPPER.len()
        );
        [head.as_bytes(), &HOPPER[from..=to]].concat()
    };
    let end = format!("\r\n--{boundary}--\r\n");
    assert_eq!(body, [part(0, 3), part(10, 19), end.into_bytes()].concat());
    let many: String = (0..40).map(|n| format!("{}-{},", n * 10, n * 10 + 1)).collect();
    let response =
        server.get("/assets/photo", &[("range", &format!("bytes={}", many.trim_end_matches(',')))]).await;
    assert_eq!(response.status(), 200, "too many parts are not worth it");
}

#[tokio::test]
async fn large_files_are_streamed_whole_and_in_parts() {
    let server = TestServer::start().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    server.upload(json!({ "path": "large" }), &bytes).await;
    let whole = server.get("/assets/large", &[]).await.bytes().await.expect("bytes");
    assert!(whole == bytes, "12 MB as they were sent");
    let part = server.get("/assets/large", &[("range", "bytes=1000000-9000000")]).await;
    assert!(part.bytes().await.expect("bytes") == bytes[1_000_000..=9_000_000]);
}

#[tokio::test]
async fn what_could_run_script_is_sandboxed() {
    let server = TestServer::start().await;
    for (path, content_type, body, sandboxed) in [
        (
            "a.svg",
            "image/svg+xml",
            "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            true,
        ),
        ("a.html", "text/html", "<script>alert(1)</script>", true),
        ("a.xml", "application/xml", "<a/>", true),
        ("a.unheard-of", "application/x-unheard-of", "<script>", true),
        ("a.pdf", "application/pdf", "%PDF-1.4", false),
        ("a.txt", "text/plain", "hello", false),
        ("a.json", "application/json", "{}", false),
    ] {
        server.upload(json!({ "path": path, "contentType": content_type }), body.as_bytes()).await;
        let response = server.get(&format!("/assets/{path}"), &[]).await;
        assert!(
            response.headers()["content-type"].to_str().expect("a text").starts_with(content_type),
            "{path}"
        );
        let policy = response
            .headers()
            .get("content-security-policy")
            .map(|policy| policy.to_str().expect("a text").to_owned());
        assert_eq!(policy.is_some_and(|policy| policy.contains("sandbox")), sandboxed, "{path}");
    }
}

const SCRIPT: &[u8] = b"alert(1)";
/// Texts that some browsers take for HTML, and that are no media types.
const HTML_IN_DISGUISE: [&str; 6] = [
    "text/plain;,text/html",
    "text/plain,text/html",
    "text/plain; x=y,text/html",
    "text/plain;text/html",
    "text/html(",
    "text/html;x=\"",
];

#[tokio::test]
async fn a_declared_type_that_browsers_could_read_differently_is_refused_or_not_kept() {
    let server = TestServer::start().await;
    let start = "mutation($type: String) { startUpload(input: { path: \"a\", contentType: $type }) { intent { id } } }";
    for disguise in HTML_IN_DISGUISE {
        server.refuses(start, json!({ "type": disguise }), "BAD_USER_INPUT", Some("input.contentType")).await;
        let made = server.gql("mutation { generateUploadUrl { url } }", json!({})).await;
        let url = text(&made["generateUploadUrl"]["url"]);
        let sent = server.send(Method::POST, url, &[("content-type", disguise)], SCRIPT).await;
        let sent: Value = sent.json().await.expect("JSON");
        let query = "query($id: ID!) { storedFile(id: $id) { contentType url } }";
        let file = server.gql(query, json!({ "id": sent["storageId"] })).await["storedFile"].take();
        assert_eq!(file["contentType"], "text/plain", "{disguise}");
        let response = server.get(text(&file["url"]), &[]).await;
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8", "{disguise}");
    }
}

#[tokio::test]
async fn a_type_that_an_earlier_release_let_in_is_not_served() {
    let server = TestServer::start().await;
    for (number, disguise) in HTML_IN_DISGUISE.into_iter().enumerate() {
        let path = format!("old-{number}");
        let uploaded = server.upload(json!({ "path": path, "contentType": "text/plain" }), SCRIPT).await;
        let kept = disguise.replace('\'', "''");
        for sql in [
            format!("UPDATE versions SET content_type = '{kept}'"),
            format!("UPDATE stored_files SET content_type = '{kept}'"),
            format!("UPDATE assets SET published_media_type = '{kept}'"),
        ] {
            let written = server.app.database().write().execute_unprepared(&sql).await;
            written.expect("it is written");
        }
        let signed =
            "query($path: String!) { asset(path: $path) { publishedVersion { signedUrl { url } } } }";
        let signed = server.gql(signed, json!({ "path": path })).await["asset"]["publishedVersion"].take();
        for url in
            [&format!("/assets/{path}"), text(&uploaded["version"]["url"]), text(&signed["signedUrl"]["url"])]
        {
            let response = server.get(url, &[]).await;
            assert_eq!(response.status(), 200, "{url}");
            assert_eq!(response.headers()["content-type"], "application/octet-stream", "{url} {disguise}");
        }
    }
}

#[tokio::test]
async fn a_file_is_no_service_worker() {
    let server = TestServer::start().await;
    let script = json!({ "path": "sw.js", "contentType": "text/javascript" });
    let version = server.upload(script, b"onfetch = () => {}").await["version"].take();
    for url in ["/assets/sw.js", text(&version["url"]), "/explorer/app.js"] {
        assert_eq!(server.get(url, &[]).await.status(), 200);
        let response = server.get(url, &[("service-worker", "script")]).await;
        assert_eq!(response.status(), 403, "{url}");
        assert_eq!(response.json::<Value>().await.expect("JSON")["code"], "FORBIDDEN");
    }
}

#[tokio::test]
async fn any_page_may_read_public_bytes_and_only_trusted_ones_private_bytes() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    server.upload(json!({ "path": "private", "visibility": "PRIVATE" }), HOPPER).await;
    for (origin, allowed) in [("https://elsewhere.example", false), ("http://localhost:5173", true)] {
        let response = server.get("/assets/private", &[("origin", origin)]).await;
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
    let response = server.get("/assets/photo", &[("origin", "https://elsewhere.example")]).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let intent = server.start_upload(json!({ "path": "other", "contentType": "image/jpeg" })).await;
    let preflight = [
        ("origin", "https://elsewhere.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type"),
    ];
    let response = server.send(Method::OPTIONS, text(&intent["target"]["url"]), &preflight, b"").await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.headers()["access-control-allow-methods"].to_str().expect("a text").contains("PUT"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    let draft = server.upload(json!({ "path": "draft", "publish": false }), HOPPER).await;
    for url in [
        "/assets/nowhere",
        "/assets/draft",
        "/assets/",
        "/assets/..%2f..%2fetc",
        "/assets/a%00b",
        "/assets/v/version_01jd3sya5hfrvvr4b2xgn3fcke",
        "/v/nonsense/x",
        "/assets/%FF",
        "/v/version_01jd3sya5hfrvvr4b2xgn3fcke/x",
    ] {
        let response = server.get(url, &[]).await;
        assert_eq!(response.status(), 404, "{url}");
    }
    let problem: Value = server.get("/assets/nowhere", &[]).await.json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["status"]), (&json!("NOT_FOUND"), &json!(404)));
    let private = server.get(text(&draft["version"]["url"]), &[]).await;
    assert_eq!(
        private.headers()["cache-control"],
        "private, max-age=31536000, immutable",
        "an admin sees drafts"
    );
    server.upload(json!({ "path": "v/version_x" }), ROCKET).await;
    assert_eq!(server.get("/assets/v/version_x", &[]).await.status(), 200, "a folder may be called v");
}

#[tokio::test]
async fn bytes_that_are_gone_from_the_disk_are_told_and_hurt_no_other() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "lost" }), HOPPER).await;
    let lost = server.stored("blobs");
    server.upload(json!({ "path": "kept" }), ROCKET).await;
    for shard in std::fs::read_dir(server.data().join("blobs")).expect("shards") {
        let path = shard.expect("a shard").path().join(&lost[0]);
        if path.exists() {
            std::fs::remove_file(path).expect("removed");
        }
    }
    let response = server.get("/assets/lost", &[]).await;
    assert_eq!(response.status(), 503);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "STORAGE_UNAVAILABLE");
    assert!(!problem["detail"].as_str().expect("a text").contains('/'), "no path of the server's: {problem}");
    assert_eq!(server.get("/assets/kept", &[]).await.status(), 200);
}

/// The status line and headers that a request gets which is sent as it is, byte by byte.
async fn raw(server: &TestServer, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(&server.address).await.expect("it connects");
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_the_library() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    std::fs::write(server.data().join("secret"), "canary").expect("written");
    let traps = [
        "/assets/../secret",
        "/assets/a/../../secret",
        "/assets/%2e%2e/secret",
        "/assets/%2e%2e%2fsecret",
        "/assets/a/%2e%2e/%2e%2e/secret",
        "/assets/..%5csecret",
        "/assets/%252e%252e/secret",
        "/assets//etc/passwd",
        "/assets/%00/secret",
        "/assets/a/photo%00.txt",
        "/assets/%ff%fe",
        "/assets/a/photo/..",
        "/storage/..%2fsecret",
        "/v/..%2f..%2fsecret/x",
        "/uploads/..%2fsecret?signature=x",
        "/explorer/..%2f..%2fCargo.toml",
        "/explorer/%2e%2e/%2e%2e/Cargo.toml",
        "//secret",
        "/./secret",
    ];
    for trap in traps {
        let answer = raw(&server, &format!("GET {trap}")).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "404" | "405"), "{trap}: {answer}");
        assert!(!answer.contains("canary") && !answer.contains("root:"), "{trap}: {answer}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_link_in_the_data_folder_that_somebody_else_put_there_is_not_followed_out_of_it() {
    let server = TestServer::with(Flags { dev: true, ..Flags::default() }, "file_cache_bytes = 0\n").await;
    // Too long to be read at once and compared with its digest.
    let bytes = vec![b'a'; 300 * 1024];
    let uploaded = server.upload(json!({ "path": "letters" }), &bytes).await;
    let outside = server.folder.path().join("outside");
    std::fs::write(&outside, vec![b'x'; bytes.len()]).expect("written");
    let blob = crate::support::files(&server.data().join("blobs")).pop().expect("one blob");
    std::fs::remove_file(&blob).expect("removed");
    std::os::unix::fs::symlink(&outside, &blob).expect("a link");
    let url = text(&uploaded["version"]["url"]);
    let answer = server.get(url, &[]).await;
    assert_eq!(answer.status(), 503, "the bytes that were there are not there");
    assert!(!answer.text().await.expect("a text").contains("xxxx"));
}

#[tokio::test]
async fn what_may_not_be_seen_is_looked_up_like_what_is_not_there() {
    let mut server = TestServer::with(Flags::default(), "").await;
    server.token = Some(server.admin_token());
    for (path, visibility) in [("a/private", "PRIVATE"), ("a/archived", "PUBLIC")] {
        let done = server.upload(json!({ "path": path, "visibility": visibility }), HOPPER).await;
        if visibility == "PUBLIC" {
            let archive =
                "mutation($id: ID!) { archiveVersion(input: { versionId: $id }) { version { id } } }";
            server.gql(archive, json!({ "id": done["version"]["id"] })).await;
        }
    }
    // The least of some: the tailer's polls may fall into any of them.
    let looked_up = async |path: &str| {
        let mut least = u64::MAX;
        for _ in 0..5 {
            let before = server.app.database().statements();
            assert_eq!(server.get(&format!("/assets/{path}"), &[]).await.status(), 404, "{path}");
            least = least.min(server.app.database().statements() - before);
        }
        least
    };
    let nothing = looked_up("a/nothing").await;
    assert!(nothing > 0);
    for path in ["a/private", "a/archived", "a", "b/nothing"] {
        assert_eq!(looked_up(path).await, nothing, "{path}");
    }
    let began = Instant::now();
    looked_up("a/nothing").await;
    assert!(
        began.elapsed() >= Duration::from_millis(2),
        "an answer before its time tells what was not looked up"
    );
}
