//! Assets: creating, updating, moving, renaming, listing.

use serde_json::{Value, json};

use crate::support::{HOPPER, TestServer, text};

const CREATE: &str = "mutation($input: CreateAssetInput!) { createAsset(input: $input) {
    asset { id path name title altText tags metadata visibility revision url publishedVersion { id } folder { path } }
    changes { type path } } }";
const UPDATE: &str = "mutation($input: UpdateAssetInput!) { updateAsset(input: $input) {
    asset { title altText tags metadata visibility revision } changes { type } } }";
const MOVE: &str = "mutation($from: String!, $to: FolderRef!, $if: Int) {
    moveAsset(input: { asset: { path: $from }, toFolder: $to, ifRevision: $if }) {
        asset { id path revision } oldPath changes { type path oldPath } } }";
const RENAME: &str = "mutation($from: String!, $name: String!) {
    renameAsset(input: { asset: { path: $from }, newName: $name }) { asset { path } oldPath changes { type oldPath } } }";

async fn create(server: &TestServer, path: &str) -> Value {
    server.gql(CREATE, json!({ "input": { "path": path } })).await["createAsset"].take()
}

#[tokio::test]
async fn a_new_asset_has_what_it_was_given_and_nothing_published() {
    let server = TestServer::start().await;
    let input = json!({ "path": "images/hero", "title": " Hero ", "altText": "A person", "tags": ["a", "b", "a"],
        "metadata": { "focus": [0.5, 1] }, "visibility": "PRIVATE" });
    let done = server.gql(CREATE, json!({ "input": input })).await["createAsset"].take();
    let asset = &done["asset"];
    assert_eq!((&asset["title"], &asset["tags"]), (&json!("Hero"), &json!(["a", "b"])));
    assert_eq!(
        (&asset["metadata"], &asset["visibility"]),
        (&json!({ "focus": [0.5, 1] }), &json!("PRIVATE"))
    );
    assert!(asset["url"].is_null() && asset["publishedVersion"].is_null());
    assert_eq!(asset["folder"]["path"], "images");
    assert_eq!(server.history().await, ["FOLDER_CREATE images", "ASSET_CREATE images/hero"]);
    assert_eq!(server.get("/assets/images/hero", &[]).await.status(), 404);
}

#[tokio::test]
async fn a_name_is_taken_once_by_a_folder_or_an_asset() {
    let server = TestServer::start().await;
    create(&server, "a/x").await;
    let folder = "mutation($path: String!) { createFolder(input: { path: $path }) { folder { id } } }";
    server.gql(folder, json!({ "path": "a/dir" })).await;
    server.refuses(CREATE, json!({ "input": { "path": "a/x" } }), "ALREADY_EXISTS", None).await;
    server.refuses(CREATE, json!({ "input": { "path": "a/dir" } }), "ALREADY_EXISTS", None).await;
    server.refuses(CREATE, json!({ "input": { "path": "a/x/y" } }), "ALREADY_EXISTS", None).await;
    server.refuses(folder, json!({ "path": "a/x" }), "ALREADY_EXISTS", None).await;
    server.refuses(CREATE, json!({ "input": { "path": "" } }), "BAD_USER_INPUT", Some("input.path")).await;
    let upload = "mutation { startUpload(input: { path: \"a/dir\" }) { intent { id } } }";
    server.refuses(upload, json!({}), "ALREADY_EXISTS", None).await;
}

#[tokio::test]
async fn updating_changes_what_is_given_clears_null_and_keeps_the_rest() {
    let server = TestServer::start().await;
    let input =
        json!({ "path": "hero", "title": "T", "altText": "A", "tags": ["x"], "metadata": { "k": 1 } });
    server.gql(CREATE, json!({ "input": input })).await;
    let update = |input: Value| server.gql(UPDATE, json!({ "input": input }));
    let done =
        update(json!({ "asset": { "path": "hero" }, "title": "New", "altText": null })).await["updateAsset"]
            .take();
    assert_eq!(
        done["asset"],
        json!({ "title": "New", "altText": null, "tags": ["x"], "metadata": { "k": 1 },
        "visibility": "PUBLIC", "revision": 2 })
    );
    assert_eq!(done["changes"], json!([{ "type": "ASSET_UPDATE" }]));
    let again = update(json!({ "asset": { "path": "hero" }, "title": "New" })).await;
    assert_eq!(again["updateAsset"]["changes"], json!([]), "it holds already");
    let cleared = update(json!({ "asset": { "path": "hero" }, "tags": null, "metadata": null })).await;
    assert_eq!(
        (&cleared["updateAsset"]["asset"]["tags"], &cleared["updateAsset"]["asset"]["metadata"]),
        (&json!([]), &json!({}))
    );
    let stale = json!({ "asset": { "path": "hero" }, "title": "X", "ifRevision": 1 });
    let error = server.refuses(UPDATE, json!({ "input": stale }), "REVISION_CONFLICT", None).await;
    assert_eq!(error["extensions"]["currentRevision"], 3);
    for (input, field) in [
        (json!({ "asset": { "path": "hero" }, "visibility": null }), "input.visibility"),
        (json!({ "asset": { "path": "hero" }, "metadata": [1] }), "input.metadata"),
        (json!({ "asset": { "path": "hero" }, "metadata": { "big": "x".repeat(70_000) } }), "input.metadata"),
        (json!({ "asset": { "path": "hero" }, "tags": [""] }), "input.tags"),
        (json!({ "asset": { "path": "hero" }, "title": "nul\0" }), "input.title"),
        (json!({ "asset": { "id": "asset_nonsense" }, "title": "x" }), "input.asset.id"),
    ] {
        server.refuses(UPDATE, json!({ "input": input }), "BAD_USER_INPUT", Some(field)).await;
    }
    let nowhere = json!({ "asset": { "path": "nowhere" }, "title": "x" });
    server.refuses(UPDATE, json!({ "input": nowhere }), "NOT_FOUND", None).await;
}

#[tokio::test]
async fn moving_and_renaming_change_the_path_alone() {
    let server = TestServer::start().await;
    let done = server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let moved =
        server.gql(MOVE, json!({ "from": "a/photo", "to": { "path": "b/c" } })).await["moveAsset"].take();
    assert_eq!((&moved["asset"]["id"], &moved["oldPath"]), (&done["asset"]["id"], &json!("a/photo")));
    assert_eq!(moved["asset"]["path"], "b/c/photo");
    let renamed =
        server.gql(RENAME, json!({ "from": "b/c/photo", "name": "picture" })).await["renameAsset"].take();
    assert_eq!(renamed["asset"]["path"], "b/c/picture");
    assert_eq!(renamed["changes"], json!([{ "type": "ASSET_RENAME", "oldPath": "b/c/photo" }]));
    assert_eq!(server.get("/assets/b/c/picture", &[]).await.bytes().await.expect("bytes"), HOPPER);
    assert_eq!(server.get(text(&done["version"]["url"]), &[]).await.status(), 200, "version URLs stay");
    let old = server.get("/assets/a/photo", &[]).await;
    assert_eq!(old.status(), 308, "the old path leads on");
    assert_eq!(old.headers()["location"], server.url("/assets/b/c/picture"));
    let again = server.gql(RENAME, json!({ "from": "b/c/picture", "name": "picture" })).await;
    assert_eq!(again["renameAsset"]["changes"], json!([]));
    create(&server, "b/taken").await;
    server
        .refuses(MOVE, json!({ "from": "b/taken", "to": { "path": "b/c/picture" } }), "ALREADY_EXISTS", None)
        .await;
    server
        .refuses(
            MOVE,
            json!({ "from": "b/taken", "to": { "id": "folder_01jd3sya5hfrvvr4b2xgn3fcke" } }),
            "NOT_FOUND",
            None,
        )
        .await;
    server.refuses(RENAME, json!({ "from": "b/taken", "name": "c" }), "ALREADY_EXISTS", None).await;
    for name in ["", "a/b", "..", " . "] {
        server
            .refuses(
                RENAME,
                json!({ "from": "b/taken", "name": name }),
                "BAD_USER_INPUT",
                Some("input.newName"),
            )
            .await;
    }
}

#[tokio::test]
async fn listings_cover_a_folder_or_the_tree_below_in_each_order() {
    let server = TestServer::start().await;
    for path in ["z", "a/y", "a/b/x", "ab/w"] {
        create(&server, path).await;
    }
    let query = "query($path: String!, $rec: Boolean!, $order: AssetOrder) { folder(path: $path) {
        assets(recursive: $rec, orderBy: $order) { totalCount nodes { path } edges { cursor } } } }";
    let list = async |path: &str, recursive: bool, order: Value| -> (Vec<String>, Value) {
        let mut answer = server.gql(query, json!({ "path": path, "rec": recursive, "order": order })).await;
        let nodes = answer["folder"]["assets"]["nodes"].as_array().expect("nodes").iter();
        let paths = nodes.map(|node| text(&node["path"]).to_owned()).collect();
        (paths, answer["folder"]["assets"]["totalCount"].take())
    };
    assert_eq!(list("a", false, Value::Null).await, (vec!["a/y".to_owned()], json!(1)));
    assert_eq!(list("a", true, Value::Null).await, (vec!["a/b/x".to_owned(), "a/y".to_owned()], json!(2)));
    let (newest, total) = list("", true, json!({ "field": "CREATED_AT", "direction": "DESC" })).await;
    assert_eq!((newest, total), (["ab/w", "a/b/x", "a/y", "z"].map(ToOwned::to_owned).to_vec(), json!(4)));
    let all = server
        .gql("{ assets(first: 2) { totalCount nodes { name } pageInfo { hasNextPage } } }", json!({}))
        .await;
    assert_eq!(all["assets"]["totalCount"], 4);
    assert_eq!(all["assets"]["pageInfo"]["hasNextPage"], true);
}

#[tokio::test]
async fn a_watched_asset_tells_of_every_way_that_it_changes() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let watch = "subscription { asset(path: \"a/b/photo\") { title publishedVersion { number } } }";
    socket.subscribe("1", watch, json!({})).await;
    assert_eq!(socket.event().await, json!({ "asset": null }));
    server.upload(json!({ "path": "a/b/photo" }), HOPPER).await;
    assert_eq!(
        socket.event().await,
        json!({ "asset": { "title": null, "publishedVersion": { "number": 1 } } })
    );
    server.gql(UPDATE, json!({ "input": { "asset": { "path": "a/b/photo" }, "title": "T" } })).await;
    assert_eq!(socket.event().await["asset"]["title"], "T");
    let move_folder = "mutation($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { oldPath } }";
    server.gql(move_folder, json!({ "from": "a", "to": "elsewhere" })).await;
    assert_eq!(socket.event().await, json!({ "asset": null }), "it went with its folder");
    server.gql(move_folder, json!({ "from": "elsewhere", "to": "a" })).await;
    assert_eq!(socket.event().await["asset"]["title"], "T");
}

#[tokio::test]
async fn a_watched_folder_tells_of_itself_and_of_what_is_right_in_it() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let watch = "subscription { folder(path: \"a\") { title assets { nodes { name } } } }";
    socket.subscribe("1", watch, json!({})).await;
    assert_eq!(socket.event().await, json!({ "folder": null }));
    create(&server, "a/one").await;
    assert_eq!(socket.event().await["folder"]["assets"]["nodes"], json!([{ "name": "one" }]));
    create(&server, "elsewhere/x").await;
    server.gql(MOVE, json!({ "from": "elsewhere/x", "to": { "path": "a" } })).await;
    assert_eq!(
        socket.event().await["folder"]["assets"]["nodes"],
        json!([{ "name": "one" }, { "name": "x" }])
    );
}

#[tokio::test]
async fn a_move_or_rename_by_path_that_is_sent_again_answers_the_same() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let folder = "mutation { moveFolder(input: { folder: { path: \"b\" }, toPath: \"c/d\" }) { folder { path } oldPath changes { type } } }";
    let count = |done: &Value| done["changes"].as_array().expect("changes").len();
    let variables = json!({ "from": "a/photo", "to": { "path": "b" } });
    let first = server.gql(MOVE, variables.clone()).await["moveAsset"].take();
    let again = server.gql(MOVE, variables).await["moveAsset"].take();
    assert_eq!((&again["asset"], &again["oldPath"], count(&again)), (&first["asset"], &first["oldPath"], 0));
    let variables = json!({ "from": "b/photo", "name": "picture" });
    let first = server.gql(RENAME, variables.clone()).await["renameAsset"].take();
    let again = server.gql(RENAME, variables).await["renameAsset"].take();
    assert_eq!((&again["asset"], &again["oldPath"], count(&again)), (&first["asset"], &first["oldPath"], 0));
    let first = server.gql(folder, json!({})).await["moveFolder"].take();
    let again = server.gql(folder, json!({})).await["moveFolder"].take();
    assert_eq!(
        (&again["folder"], &again["oldPath"], count(&again)),
        (&first["folder"], &first["oldPath"], 0)
    );
    let unrelated = json!({ "from": "never", "to": { "path": "c/d" } });
    server.refuses(MOVE, unrelated, "NOT_FOUND", None).await;
}
