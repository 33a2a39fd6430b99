//! One contract for all storage backends: what clients and readers see is the same, wherever the bytes lie.

mod bucket;
mod care;
mod cluster;
mod contract;
mod failure;

use reqwest::Method;
use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{Bucket, TestServer, sha256, text};

const HOUR_MS: i64 = 3_600_000;
const MIB: usize = 1024 * 1024;

/// A server whose new bytes go to a backend.
struct Lab {
    server: TestServer,
    /// None when the backend is the local folder.
    bucket: Option<Bucket>,
}

impl Lab {
    async fn local() -> Self {
        Self { server: TestServer::start().await, bucket: None }
    }

    /// A server whose new bytes go to a bucket.
    async fn s3(more: &str) -> Self {
        Self::on(Bucket::open().await, more).await
    }

    /// Without short files in memory: what tests do to the store is to be seen.
    async fn on(bucket: Bucket, more: &str) -> Self {
        Self::with(bucket, "file_cache_bytes = 0", more).await
    }

    async fn with(bucket: Bucket, settings: &str, more: &str) -> Self {
        let settings = format!("default_storage = \"media\"\n{settings}\n{}", bucket.settings("media", more));
        let server = TestServer::with(Flags { dev: true, ..Flags::default() }, &settings).await;
        Self { server, bucket: Some(bucket) }
    }

    /// Whether the backend refuses what it should; s3s-fs lets some of it pass.
    fn is_strict(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.strict)
    }

    /// Whether clients send bytes past the server.
    fn is_direct(&self) -> bool {
        self.bucket.is_some()
    }

    /// Keys in the parts of the backend: what is staged, and what is kept.
    async fn staged(&self) -> usize {
        let backend = if self.is_direct() { "media" } else { "local" };
        let store = self.server.app.store(backend).expect("a store");
        store.staged().await.expect("a list").len()
    }
}

/// Bytes that are no text and no known format.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] | 0x80
    };
    (0..count).map(next).collect()
}

/// What readers get at a URL, wherever it sends them.
async fn read(lab: &Lab, url: &str) -> (u16, Vec<u8>) {
    let mut response = lab.server.get(url, &[]).await;
    if response.status() == 302 {
        let to = response.headers()["location"].to_str().expect("a URL").to_owned();
        response = lab.server.client.get(to).send().await.expect("an answer");
    }
    (response.status().as_u16(), response.bytes().await.expect("bytes").to_vec())
}

async fn status(lab: &Lab, intent: &Value) -> Value {
    let query = "query($id: ID!) { uploadIntent(id: $id) { status receivedBytes target { url }
        parts { number offset size received target { method url headers { name value } } } } }";
    lab.server.gql(query, json!({ "id": intent["id"] })).await["uploadIntent"].take()
}

/// Starts an upload in parts.
async fn start_parts(lab: &Lab, bytes: &[u8], part: usize) -> Value {
    let input =
        json!({ "path": "large.bin", "size": bytes.len(), "partSize": part, "sha256": sha256(bytes) });
    lab.server.start_upload(input).await
}

/// Sends a part as its target says; answers the status and its tag.
async fn send_part(lab: &Lab, part: &Value, bytes: &[u8]) -> (u16, String) {
    let target = &part["target"];
    let headers = target["headers"].as_array().expect("headers").iter();
    let headers: Vec<_> = headers.map(|header| (text(&header["name"]), text(&header["value"]))).collect();
    let sent = lab.server.send(Method::PUT, text(&target["url"]), &headers, bytes).await;
    let tag = sent.headers().get("etag").map(|tag| tag.to_str().expect("a tag").to_owned());
    (sent.status().as_u16(), tag.unwrap_or_default())
}

/// The bytes of a part.
fn slice<'a>(bytes: &'a [u8], part: &Value) -> &'a [u8] {
    let number = |name: &str| usize::try_from(part[name].as_u64().expect("a number")).expect("it fits");
    &bytes[number("offset")..number("offset") + number("size")]
}
