//! The number of SQL statements of a query does not grow with its rows.

use serde_json::json;
use vellum::config::Flags;

use crate::support::{TestServer, eventually};

const WIDE: &str = "{
    root { folders(first: 50) { totalCount nodes {
        path parent { path } ancestors { path }
        folders(first: 5) { totalCount nodes { path } }
        assets(first: 5, recursive: true) { totalCount nodes { path url folder { path }
            publishedVersion { number asset { path } restoredFrom { id } } latestVersion { number } version(number: 1) { id }
            versions(first: 3) { totalCount nodes { number } }
            changes(first: 3) { nodes { type asset { path } folder { path } version { number } } } } }
        changes(first: 3) { nodes { type } pageInfo { hasNextPage } } } } }
    changes(first: 50) { nodes { type asset { path } folder { path } version { id } } }
    assets(first: 50) { totalCount nodes { path } }
}";

/// What strangers may ask of that.
const SHOWN: &str = "{
    root { folders(first: 50) { totalCount nodes {
        path parent { path } ancestors { path }
        folders(first: 5) { totalCount nodes { path } }
        assets(first: 5, recursive: true) { totalCount nodes { path url folder { path } createdBy { id } formerPaths
            publishedVersion { number asset { path } restoredFrom { id } } latestVersion { number } version(number: 1) { id }
            versions(first: 3) { totalCount nodes { number } } } } } } }
    assets(first: 50) { totalCount nodes { path } }
}";

async fn statements(server: &TestServer, query: &str) -> u64 {
    // The tailer reads after a commit; the query starts when it has.
    let head = async || server.app.feed().bounds().await.expect("the bounds").1;
    let newest = head().await;
    eventually(|| server.app.feed().head() >= newest).await;
    let before = server.app.database().statements();
    server.gql(query, json!({})).await;
    server.app.database().statements() - before
}

async fn fill(server: &TestServer, folders: std::ops::Range<usize>) {
    for folder in folders {
        for asset in 0..2 {
            server.upload(json!({ "path": format!("f{folder}/sub/a{asset}") }), b"text").await;
        }
    }
}

#[tokio::test]
async fn a_wide_query_costs_the_same_for_two_folders_and_for_twenty() {
    let server = TestServer::start().await;
    fill(&server, 0..2).await;
    let few = statements(&server, WIDE).await;
    fill(&server, 2..20).await;
    let many = statements(&server, WIDE).await;
    // The tailer's polls may fall into either; a statement a row would be eighteen more.
    assert!(many < few + 10, "{few} statements, then {many}");
}

#[tokio::test]
async fn what_strangers_may_see_is_not_asked_row_by_row() {
    let mut server = TestServer::with(Flags::default(), "[graphql]\nstranger_max_cost = 200000\n").await;
    let admin = Some(server.admin_token());
    let mut counts = Vec::new();
    for folders in [0..2, 2..20] {
        server.token.clone_from(&admin);
        fill(&server, folders).await;
        server.token = None;
        counts.push(statements(&server, SHOWN).await);
    }
    assert!(counts[1] < counts[0] + 10, "{counts:?}");
}

#[tokio::test]
async fn a_folder_page_with_published_versions_takes_four_statements() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let query = "{ folder(path: \"f1/sub\") { assets(first: 50) { nodes { path publishedVersion { size contentType sha256 url } } } } }";
    let mut least = u64::MAX;
    for _ in 0..3 {
        least = least.min(statements(&server, query).await);
    }
    assert!(least <= 4, "{least} statements");
}

#[tokio::test]
async fn a_thousand_lists_and_versions_in_one_query_are_answered() {
    let server = TestServer::start().await;
    for number in 0..200 {
        let create = "mutation($path: String!) { createAsset(input: { path: $path }) { asset { id } } }";
        server.gql(create, json!({ "path": format!("big/{number}") })).await;
    }
    server.upload(json!({ "path": "big/0" }), b"text").await;
    let query = "{ folder(path: \"big\") { assets(first: 200) { nodes {
        a: versions(first: 1) { nodes { id } } b: versions(first: 2) { nodes { id } } c: versions(first: 3) { nodes { id } }
        d: version(number: 1) { id } e: version(number: 2) { id } f: version(number: 3) { id }
        g: version(number: 4) { id } h: version(number: 5) { id } } } } }";
    let answer = server.gql(query, json!({})).await;
    let nodes = answer["folder"]["assets"]["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 200);
    assert!(nodes[0]["d"]["id"].is_string() && nodes[0]["e"].is_null() && nodes[1]["d"].is_null());
}
