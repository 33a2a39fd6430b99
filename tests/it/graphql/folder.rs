//! Folders: paths, titles, moves.

use serde_json::{Value, json};

use crate::support::{HOPPER, TestServer, text};

const CREATE: &str = "mutation($path: String!) { createFolder(input: { path: $path }) {
    created folder { id path name title revision } changes { type path } } }";
const TITLED: &str = "mutation($parent: String!, $title: String!) {
    createFolder(input: { titled: { parent: { path: $parent }, title: $title } }) { folder { path title } } }";
const MOVE: &str = "mutation($from: String!, $to: String!, $dry: Boolean! = false, $if: Int) {
    moveFolder(input: { folder: { path: $from }, toPath: $to, dryRun: $dry, ifRevision: $if }) {
        folder { id path revision } oldPath movedFolders movedAssets changes { type path oldPath } } }";

async fn create(server: &TestServer, path: &str) -> Value {
    server.gql(CREATE, json!({ "path": path })).await["createFolder"].take()
}

#[tokio::test]
async fn creating_makes_what_is_missing_and_is_idempotent() {
    let server = TestServer::start().await;
    let first = create(&server, " /a//b/c/ ").await;
    assert_eq!(first["created"], true);
    assert_eq!(first["folder"]["path"], "a/b/c");
    assert_eq!(first["folder"]["title"], "c");
    assert_eq!(first["changes"].as_array().expect("changes").len(), 3);
    let again = create(&server, "a/b/c").await;
    assert_eq!((&again["created"], &again["folder"]["id"]), (&json!(false), &first["folder"]["id"]));
    assert_eq!(again["changes"], json!([]));
    assert_eq!(create(&server, "").await["created"], false, "the root is there");
}

#[tokio::test]
async fn names_that_a_tree_can_have_go_in_and_come_out() {
    let server = TestServer::start().await;
    let names = [
        "with space",
        "100%",
        "a#b?c",
        "a+b",
        "🦊",
        "עברית",
        "v",
        "constructor",
        "con",
        "cafe\u{301}",
        "A",
        "a",
    ];
    for name in names {
        let path = format!("names/{name}");
        server.upload(json!({ "path": path }), name.as_bytes()).await;
    }
    let query = "{ folder(path: \"names\") { assets(first: 200) { totalCount nodes { name url } } } }";
    let listed = server.gql(query, json!({})).await;
    let nodes = listed["folder"]["assets"]["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), names.len());
    for node in nodes {
        let response = server.get(text(&node["url"]), &[]).await;
        assert_eq!(response.status(), 200, "{node}");
        let body = response.text().await.expect("a text");
        let name = if body == "cafe\u{301}" { "caf\u{e9}".to_owned() } else { body };
        assert_eq!(node["name"], name);
    }
}

#[tokio::test]
async fn what_is_no_path_is_refused_by_name() {
    let server = TestServer::start().await;
    let deep = "a/".repeat(33);
    let long = "x".repeat(256);
    for path in ["a/../b", "..", "a\\b", "a\u{1}b", "a /b", &deep, &long, &"y".repeat(100_000)] {
        server.refuses(CREATE, json!({ "path": path }), "BAD_USER_INPUT", Some("input.path")).await;
    }
    assert!(server.history().await.is_empty(), "nothing was made on the way");
}

#[tokio::test]
async fn titles_become_names_that_are_free() {
    let server = TestServer::start().await;
    let titled = |title: &'static str| server.gql(TITLED, json!({ "parent": "", "title": title }));
    assert_eq!(titled("Summer Photos").await["createFolder"]["folder"]["path"], "summer-photos");
    assert_eq!(titled("Summer photos!").await["createFolder"]["folder"]["path"], "summer-photos-2");
    assert_eq!(titled("summer--photos").await["createFolder"]["folder"]["path"], "summer-photos-3");
    assert_eq!(titled("Лето").await["createFolder"]["folder"]["path"], "leto");
    server.refuses(TITLED, json!({ "parent": "", "title": "Summer Photos" }), "ALREADY_EXISTS", None).await;
    server
        .refuses(TITLED, json!({ "parent": "", "title": "  " }), "BAD_USER_INPUT", Some("input.titled.title"))
        .await;
    server.refuses(TITLED, json!({ "parent": "nowhere", "title": "X" }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn a_title_is_set_once_and_repeating_writes_nothing() {
    let server = TestServer::start().await;
    create(&server, "a").await;
    let update = "mutation($title: String!, $if: Int) { updateFolder(input: { folder: { path: \"a\" }, title: $title, ifRevision: $if }) {
        folder { title revision } changes { type } } }";
    let done = server.gql(update, json!({ "title": "First", "if": 1 })).await;
    assert_eq!(
        done["updateFolder"],
        json!({ "folder": { "title": "First", "revision": 2 }, "changes": [{ "type": "FOLDER_UPDATE" }] })
    );
    let again = server.gql(update, json!({ "title": "First", "if": 1 })).await;
    assert_eq!(again["updateFolder"]["changes"], json!([]));
    let stale =
        server.refuses(update, json!({ "title": "Second", "if": 1 }), "REVISION_CONFLICT", None).await;
    assert_eq!(stale["extensions"]["currentRevision"], 2);
}

#[tokio::test]
async fn a_folder_moves_with_everything_below_in_one_entry() {
    let server = TestServer::start().await;
    let asset = server.upload(json!({ "path": "a/b/c/photo" }), HOPPER).await;
    server.upload(json!({ "path": "ab/other" }), HOPPER).await;
    let before = server.history().await.len();
    let moved = server.gql(MOVE, json!({ "from": "a", "to": "x/y/a2" })).await["moveFolder"].take();
    assert_eq!((&moved["movedFolders"], &moved["movedAssets"]), (&json!(3), &json!(1)));
    assert_eq!(moved["oldPath"], "a");
    let history = server.history().await;
    assert_eq!(history[before..], ["FOLDER_CREATE x", "FOLDER_CREATE x/y", "FOLDER_MOVE x/y/a2"]);
    let query = "{ asset(path: \"x/y/a2/b/c/photo\") { id url revision createdAt publishedVersion { id url } }
        gone: asset(path: \"a/b/c/photo\") { id } oldFolder: folder(path: \"a/b\") { id } other: asset(path: \"ab/other\") { id } }";
    let after = server.gql(query, json!({})).await;
    assert_eq!(after["asset"]["id"], asset["asset"]["id"]);
    assert_eq!(after["asset"]["revision"], asset["asset"]["revision"]);
    assert_eq!(after["asset"]["publishedVersion"]["url"], asset["version"]["url"]);
    assert!(after["gone"].is_null() && after["oldFolder"].is_null() && !after["other"].is_null());
    assert_eq!(server.get(text(&after["asset"]["url"]), &[]).await.status(), 200);
    let old = server.get("/assets/a/b/c/photo", &[]).await;
    assert_eq!(old.headers()["location"], server.url("/assets/x/y/a2/b/c/photo"), "the old path leads on");
    let again = server.gql(MOVE, json!({ "from": "x/y/a2", "to": "x/y/a2" })).await;
    assert_eq!(again["moveFolder"]["changes"], json!([]), "it holds already");
}

#[tokio::test]
async fn moves_that_cannot_be_are_refused_and_change_nothing() {
    let server = TestServer::start().await;
    create(&server, "a/b").await;
    create(&server, "taken").await;
    server.upload(json!({ "path": "file" }), HOPPER).await;
    let before = server.history().await;
    for (from, to, code, field) in [
        ("a", "a/b/c", "BAD_USER_INPUT", Some("input.toPath")),
        ("a", "", "BAD_USER_INPUT", Some("input.toPath")),
        ("", "x", "BAD_USER_INPUT", Some("input.folder")),
        ("a", "taken", "ALREADY_EXISTS", None),
        ("a", "file", "ALREADY_EXISTS", None),
        ("a", "file/x", "ALREADY_EXISTS", None),
        ("nowhere", "x", "NOT_FOUND", None),
    ] {
        server.refuses(MOVE, json!({ "from": from, "to": to }), code, field).await;
    }
    server.refuses(MOVE, json!({ "from": "a", "to": "x", "if": 9 }), "REVISION_CONFLICT", None).await;
    let deep = "d/".repeat(31) + "d";
    server.refuses(MOVE, json!({ "from": "a", "to": deep }), "BAD_USER_INPUT", Some("input.toPath")).await;
    assert_eq!(server.history().await, before);
}

#[tokio::test]
async fn an_asset_below_that_would_not_fit_stops_a_move() {
    let server = TestServer::start().await;
    let name = "n".repeat(254);
    server.upload(json!({ "path": format!("a/{name}") }), HOPPER).await;
    let long = ["m".repeat(255), "m".repeat(255), "m".repeat(255)].join("/");
    server.gql(CREATE, json!({ "path": long })).await;
    server
        .refuses(
            MOVE,
            json!({ "from": "a", "to": format!("{long}/aaaa") }),
            "BAD_USER_INPUT",
            Some("input.toPath"),
        )
        .await;
    let fits = server.gql(MOVE, json!({ "from": "a", "to": format!("{long}/a") })).await;
    assert_eq!(fits["moveFolder"]["movedAssets"], 1, "1,024 bytes are allowed: {}", long.len() + 2 + 255);
}

#[tokio::test]
async fn a_dry_run_tells_and_does_not() {
    let server = TestServer::start().await;
    create(&server, "a/b").await;
    let before = server.history().await;
    let told =
        server.gql(MOVE, json!({ "from": "a", "to": "new/a", "dry": true })).await["moveFolder"].take();
    assert_eq!(told["folder"]["path"], "new/a");
    assert_eq!(told["movedFolders"], 2);
    let kinds: Vec<_> =
        told["changes"].as_array().expect("changes").iter().map(|change| text(&change["type"])).collect();
    assert_eq!(kinds, ["FOLDER_CREATE", "FOLDER_MOVE"]);
    assert_eq!(server.history().await, before);
    let query = "{ a: folder(path: \"a\") { id } new: folder(path: \"new\") { id } }";
    let now = server.gql(query, json!({})).await;
    assert!(now["a"].is_object() && now["new"].is_null());
}

#[tokio::test]
async fn pages_stay_in_place_when_names_come_and_go() {
    let server = TestServer::start().await;
    for name in ["b", "d", "f", "h"] {
        create(&server, name).await;
    }
    let query = "query($first: Int, $after: String, $last: Int, $before: String, $dir: OrderDirection! = ASC) {
        root { folders(first: $first, after: $after, last: $last, before: $before, orderBy: { field: NAME, direction: $dir }) {
            nodes { name } totalCount pageInfo { hasNextPage hasPreviousPage endCursor startCursor } } } }";
    let names = |page: &Value| -> String {
        page["root"]["folders"]["nodes"]
            .as_array()
            .expect("nodes")
            .iter()
            .map(|node| text(&node["name"]))
            .collect()
    };
    let first = server.gql(query, json!({ "first": 2 })).await;
    assert_eq!(names(&first), "bd");
    for name in ["a", "c", "e"] {
        create(&server, name).await;
    }
    server.gql(MOVE, json!({ "from": "d", "to": "z" })).await;
    let end = &first["root"]["folders"]["pageInfo"]["endCursor"];
    let second = server.gql(query, json!({ "first": 2, "after": end })).await;
    assert_eq!(names(&second), "ef", "behind d, though d is gone");
    assert_eq!(second["root"]["folders"]["pageInfo"]["hasPreviousPage"], true);
    assert_eq!(second["root"]["folders"]["totalCount"], 7);
    let last = server.gql(query, json!({ "last": 2 })).await;
    assert_eq!(names(&last), "hz");
    let start = &last["root"]["folders"]["pageInfo"]["startCursor"];
    let before = server.gql(query, json!({ "last": 3, "before": start })).await;
    assert_eq!(names(&before), "cef");
    assert_eq!(names(&server.gql(query, json!({ "first": 3, "dir": "DESC" })).await), "zhf");
    server.refuses(query, json!({ "first": 201 }), "BAD_USER_INPUT", Some("first")).await;
    server.refuses(query, json!({ "first": -1 }), "BAD_USER_INPUT", Some("first")).await;
    server.refuses(query, json!({ "first": 1, "after": "nonsense" }), "BAD_USER_INPUT", Some("after")).await;
    let made_up = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        r#"["NAME",5,"00000000-0000-0000-0000-000000000000"]"#,
    );
    server.refuses(query, json!({ "first": 1, "after": made_up }), "BAD_USER_INPUT", Some("after")).await;
}
