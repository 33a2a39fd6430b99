//! The documents that are sent, and the requests that carry them.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::http::Answer;

/// One asset by path, with its published version.
pub const ASSET: &str = "query Asset($path: String!) { asset(path: $path) { path publishedVersion { size contentType sha256 url } } }";
/// The first fifty assets of a folder, with the same.
pub const PAGE: &str = "query Page($path: String!) { folder(path: $path) { assets(first: 50) { nodes { path publishedVersion { size contentType sha256 url } } } } }";
/// The versions of an asset.
pub const VERSIONS: &str = "query Versions($path: String!) { asset(path: $path) { versions(first: 19) { nodes { number state size contentType sha256 url createdAt } } } }";
/// Assets anywhere that have a word.
pub const SEARCH: &str =
    "query Search($search: String!) { assets(first: 20, filter: { search: $search }) { nodes { path } } }";
/// A new published version of bytes that are stored.
pub const PUBLISH: &str = "mutation Publish($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { version { number state sha256 } changes { type path versionNumber } } }";
/// A move of a folder.
pub const MOVE: &str = "mutation Move($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { movedFolders movedAssets changes { type path oldPath } } }";

/// A document, ready to be sent with variables.
#[derive(Debug, Clone)]
pub struct Query {
    body_starts: String,
}

impl Query {
    /// A document. None that is sent here has a character that JSON escapes.
    #[must_use]
    pub fn new(document: &str) -> Self {
        Self { body_starts: format!("{{\"query\":\"{document}\",\"variables\":") }
    }

    /// Puts a whole request into `request`; `variables` are a JSON object.
    pub fn write(&self, variables: &str, request: &mut Vec<u8>) {
        request.clear();
        let length = self.body_starts.len() + variables.len() + 1;
        let _ = write!(
            request,
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{}{variables}}}",
            self.body_starts
        );
    }
}

/// Variables with a path.
#[must_use]
pub fn path_variable(path: &str) -> String {
    format!("{{\"path\":\"{path}\"}}")
}

/// Refuses an answer that tells of an error, or lacks something: nothing that is asked for is null in a seeded
/// library.
///
/// # Errors
/// When it does.
pub fn check<'a>(answer: &Answer<'a>) -> anyhow::Result<&'a str> {
    let text = std::str::from_utf8(answer.body).context("an answer is not text")?;
    let whole = answer.status == 200
        && text.starts_with("{\"data\":{")
        && !text.contains("\"errors\":")
        && !text.contains(":null");
    ensure!(whole, "a wrong answer, status {}: {}", answer.status, shortened(text));
    Ok(text)
}

/// Refuses an answer that is not exactly what was seeded.
///
/// # Errors
/// When it is not.
pub fn check_equal(answer: &Value, expected: &Value) -> anyhow::Result<()> {
    ensure!(
        answer == expected,
        "a wrong answer: {}\nexpected: {}",
        shortened(&answer.to_string()),
        shortened(&expected.to_string())
    );
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(1000).collect()
}
