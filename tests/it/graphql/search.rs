//! Finding assets: filters, orders, search in any script, stable pages.

use serde_json::{Value, json};

use crate::support::{HOPPER, ROCKET, TestServer, text};

const FIND: &str = "query($filter: AssetFilter, $order: AssetOrder, $first: Int, $after: String) {
    assets(filter: $filter, orderBy: $order, first: $first, after: $after) {
        totalCount nodes { path } pageInfo { hasNextPage endCursor } } }";

async fn found(server: &TestServer, filter: Value) -> Vec<String> {
    let answer = server.gql(FIND, json!({ "filter": filter })).await["assets"].take();
    let nodes = answer["nodes"].as_array().expect("nodes");
    assert_eq!(answer["totalCount"], nodes.len());
    let mut paths: Vec<String> = nodes.iter().map(|node| text(&node["path"]).to_owned()).collect();
    paths.sort_unstable();
    paths
}

async fn create(server: &TestServer, input: Value) {
    let query = "mutation($input: CreateAssetInput!) { createAsset(input: $input) { asset { id } } }";
    server.gql(query, json!({ "input": input })).await;
}

#[tokio::test]
async fn a_part_of_any_text_finds_it_in_any_script() {
    let server = TestServer::start().await;
    create(&server, json!({ "path": "images/Hero-Banner", "title": "Ein großes Bild", "altText": "A lighthouse at dusk", "tags": ["Sommer", "東京タワー"] })).await;
    create(&server, json!({ "path": "images/summer/猫の写真", "title": "50% off_now" })).await;
    create(&server, json!({ "path": "docs/Ünïcode", "altText": "two\nlines" })).await;
    let (hero, cat, umlaut) = ("images/Hero-Banner", "images/summer/猫の写真", "docs/Ünïcode");
    for (search, paths) in [
        ("hero", vec![hero]),
        ("HERO-B", vec![hero]),
        ("GROSSES", vec![hero]),
        ("GROßES", vec![hero]),
        ("lighthouse at", vec![hero]),
        ("somm", vec![hero]),
        ("京タ", vec![hero]),
        ("猫", vec![cat]),
        ("の写", vec![cat]),
        ("ünï", vec![umlaut]),
        ("U\u{308}NI\u{308}", vec![umlaut]),
        ("%", vec![cat]),
        ("f_n", vec![cat]),
        ("images", vec![hero, cat]),
        ("IMAGES/HE", vec![hero]),
        ("images/summer", vec![cat]),
        ("mages/su", vec![cat]),
        ("summer/猫", vec![cat]),
        ("images/", vec![hero, cat]),
        ("/hero", vec![hero]),
        ("/summer/", vec![cat]),
        ("docs/hero", vec![]),
        ("two lines", vec![umlaut]),
        ("herobanner", vec![]),
        ("bannerein", vec![]),
        ("  hero ", vec![hero]),
        ("", vec![umlaut, hero, cat]),
        ("e", vec![umlaut, hero, cat]),
        ("\" OR \"", vec![]),
        ("' & '", vec![]),
    ] {
        assert_eq!(found(&server, json!({ "search": search })).await, paths, "{search:?}");
    }
    let too_long = json!({ "filter": { "search": "x".repeat(201) } });
    server.refuses(FIND, too_long, "BAD_USER_INPUT", Some("filter.search")).await;
}

#[tokio::test]
async fn what_changes_is_found_as_it_is_now() {
    let server = TestServer::start().await;
    create(&server, json!({ "path": "old/first", "tags": ["red"] })).await;
    let update = "mutation($input: UpdateAssetInput!) { updateAsset(input: $input) { asset { id } } }";
    server
        .gql(
            update,
            json!({ "input": { "asset": { "path": "old/first" }, "title": "Kingfisher", "tags": ["blue"] } }),
        )
        .await;
    let rename = "mutation { renameAsset(input: { asset: { path: \"old/first\" }, newName: \"second\" }) { oldPath } }";
    server.gql(rename, json!({})).await;
    let moving =
        "mutation { moveFolder(input: { folder: { path: \"old\" }, toPath: \"new/place\" }) { oldPath } }";
    server.gql(moving, json!({})).await;
    let there = ["new/place/second"];
    for (search, paths) in [
        ("kingfisher", &there[..]),
        ("second", &there[..]),
        ("first", &[]),
        ("new/place", &there[..]),
        ("w/place/sec", &there[..]),
        ("old", &[]),
        ("blue", &there[..]),
        ("red", &[]),
    ] {
        assert_eq!(found(&server, json!({ "search": search })).await, paths, "{search}");
    }
    assert_eq!(found(&server, json!({ "tags": ["blue"] })).await, there);
    assert!(found(&server, json!({ "tags": ["red"] })).await.is_empty());
}

#[tokio::test]
async fn filters_hold_together() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/hopper", "contentType": "image/jpeg" }), HOPPER).await;
    server.upload(json!({ "path": "a/rocket", "visibility": "PRIVATE" }), ROCKET).await;
    server.upload(json!({ "path": "b/notes", "contentType": "text/plain; charset=utf-8" }), b"notes").await;
    server.upload(json!({ "path": "b/draft", "publish": false }), b"draft").await;
    create(&server, json!({ "path": "b/empty", "tags": ["one", "two"] })).await;
    for (filter, paths) in [
        (json!({ "contentTypes": ["image/*"] }), vec!["a/hopper", "a/rocket"]),
        (json!({ "contentTypes": ["IMAGE/JPEG", "text/plain"] }), vec!["a/hopper", "a/rocket", "b/notes"]),
        (json!({ "contentTypes": [] }), vec![]),
        (json!({ "published": true, "visibility": "PUBLIC" }), vec!["a/hopper", "b/notes"]),
        (json!({ "published": false }), vec!["b/draft", "b/empty"]),
        (json!({ "visibility": "PRIVATE" }), vec!["a/rocket"]),
        (json!({ "tags": ["two", "one"] }), vec!["b/empty"]),
        (json!({ "tags": ["one", "three"] }), vec![]),
        (json!({ "minSize": 5, "maxSize": 5 }), vec!["b/notes"]),
        (
            json!({ "minSize": HOPPER.len(), "search": "a/" }),
            if ROCKET.len() >= HOPPER.len() { vec!["a/hopper", "a/rocket"] } else { vec!["a/hopper"] },
        ),
        (
            json!({ "updatedAfter": "2000-01-01T00:00:00Z", "published": true, "contentTypes": ["text/*"] }),
            vec!["b/notes"],
        ),
        (json!({ "updatedBefore": "2000-01-01T00:00:00Z" }), vec![]),
    ] {
        assert_eq!(found(&server, filter.clone()).await, paths, "{filter}");
    }
    server
        .refuses(
            FIND,
            json!({ "filter": { "contentTypes": ["image"] } }),
            "BAD_USER_INPUT",
            Some("filter.contentTypes"),
        )
        .await;
    let inside =
        "query($filter: AssetFilter) { root { assets(recursive: true, filter: $filter) { nodes { path } } }
        folder(path: \"b\") { assets(filter: $filter) { totalCount nodes { path } } } }";
    let inside = server.gql(inside, json!({ "filter": { "published": true } })).await;
    assert_eq!(inside["root"]["assets"]["nodes"].as_array().expect("nodes").len(), 3);
    assert_eq!(inside["folder"]["assets"], json!({ "totalCount": 1, "nodes": [{ "path": "b/notes" }] }));
}

#[tokio::test]
async fn assets_are_sorted_by_size_with_those_that_have_none_at_the_start() {
    let server = TestServer::start().await;
    for (path, bytes) in [("three", &b"123"[..]), ("one", b"1"), ("two", b"12"), ("also-two", b"ab")] {
        server.upload(json!({ "path": path }), bytes).await;
    }
    create(&server, json!({ "path": "none" })).await;
    let order = json!({ "field": "SIZE", "direction": "DESC" });
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let page =
            server.gql(FIND, json!({ "order": order, "first": 2, "after": after })).await["assets"].take();
        seen.extend(
            page["nodes"].as_array().expect("nodes").iter().map(|node| text(&node["path"]).to_owned()),
        );
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
        // What comes and goes elsewhere moves nothing.
        server.upload(json!({ "path": format!("big/{}", seen.len()) }), b"1234567").await;
    }
    assert_eq!(seen, ["three", "also-two", "two", "one", "none"]);
}

#[tokio::test]
async fn a_search_goes_page_by_page_over_what_comes_and_goes() {
    let server = TestServer::start().await;
    for number in 0..9 {
        create(&server, json!({ "path": format!("s/find-{number}") })).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables = json!({ "filter": { "search": "find" }, "first": 3, "after": after });
        let page = server.gql(FIND, variables).await["assets"].take();
        seen.extend(
            page["nodes"].as_array().expect("nodes").iter().map(|node| text(&node["path"]).to_owned()),
        );
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
        let gone = format!(
            "mutation {{ deleteAsset(input: {{ asset: {{ path: {:?} }} }}) {{ deletedVersions }} }}",
            seen[0]
        );
        server.gql(&gone, json!({})).await;
        create(&server, json!({ "path": format!("s/a-find-{}", seen.len()) })).await;
    }
    let expected: Vec<String> = (0..9).map(|number| format!("s/find-{number}")).collect();
    assert_eq!(seen, expected);
}
