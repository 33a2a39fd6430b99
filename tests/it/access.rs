//! Who may do what: a table of every query, mutation, subscription and route, with what each role gets.

mod fields;
mod strangers;

use std::collections::{BTreeSet, HashMap};

use reqwest::Method;
use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{HOPPER, Socket, TestServer, text};

const ROLES: [&str; 4] = ["ANONYMOUS", "VIEWER", "EDITOR", "ADMIN"];

/// What everyone gets.
const ALL: [&str; 4] = ["data"; 4];
/// What is for those who have a role.
const VIEWERS: [&str; 4] = ["UNAUTHENTICATED", "data", "data", "data"];
/// What is for those who may write, of things that are not there.
const EDITORS: [&str; 4] = ["UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "NOT_FOUND"];
/// The same, of things that can be made.
const MAKERS: [&str; 4] = ["UNAUTHENTICATED", "FORBIDDEN", "data", "data"];
const ADMINS: [&str; 4] = ["UNAUTHENTICATED", "FORBIDDEN", "FORBIDDEN", "data"];
/// What strangers do not see.
const HIDDEN: [&str; 4] = ["null", "data", "data", "data"];

/// Documents, with what each role gets: data, null, or the code of an error. `$name` stands for an id of the library below.
const OPERATIONS: [(&str, [&str; 4]); 73] = [
    ("{ root { path } }", ALL),
    ("{ folder(path: \"a\") { path } }", ALL),
    ("{ folder(path: \"p\") { path } }", HIDDEN),
    ("{ folder(path: \"a\", at: { time: \"2100-01-01T00:00:00Z\" }) { path } }", VIEWERS),
    ("{ folder(path: \"a\") { changes { nextCursor } } }", VIEWERS),
    ("{ asset(path: \"a/public\") { path } }", ALL),
    ("{ asset(path: \"a/private\") { path } }", HIDDEN),
    ("{ asset(path: \"a/draft\") { path } }", HIDDEN),
    ("{ asset(path: \"a/public\", at: { time: \"2100-01-01T00:00:00Z\" }) { path } }", VIEWERS),
    ("{ asset(path: \"a/public\") { changes { nextCursor } } }", VIEWERS),
    ("{ asset(path: \"a/public\") { publishedVersion { signedUrl { url } } } }", VIEWERS),
    ("{ asset(path: \"a/public\") { version(number: 1) { number } } }", ALL),
    ("{ version(id: \"$public\") { number } }", ALL),
    ("{ version(id: \"$private\") { number } }", HIDDEN),
    ("{ version(id: \"$draft\") { number } }", HIDDEN),
    ("{ version(id: \"$later\") { number } }", HIDDEN),
    ("{ assets { totalCount } }", ALL),
    ("{ node(id: \"$publicAsset\") { id } }", ALL),
    ("{ node(id: \"$privateAsset\") { id } }", HIDDEN),
    ("{ node(id: \"$public\") { id } }", ALL),
    ("{ node(id: \"$private\") { id } }", HIDDEN),
    ("{ node(id: \"$folder\") { id } }", ALL),
    ("{ node(id: \"$hidden\") { id } }", HIDDEN),
    ("{ node(id: \"$intent\") { id } }", HIDDEN),
    ("{ node(id: \"$file\") { id } }", HIDDEN),
    ("{ node(id: \"change_1\") { id } }", HIDDEN),
    ("{ node(id: \"$token\") { id } }", ["null", "null", "null", "data"]),
    ("{ nodes(ids: [\"$publicAsset\"]) { id } }", ALL),
    ("{ changes { nextCursor } }", VIEWERS),
    ("{ headCursor }", VIEWERS),
    ("{ uploadIntent(id: \"$intent\") { id } }", VIEWERS),
    ("{ storedFile(id: \"$file\") { id } }", VIEWERS),
    ("{ trash { nodes { __typename } } }", VIEWERS),
    ("{ storage { default { name } } }", ADMINS),
    ("{ tokens { totalCount } }", ADMINS),
    ("{ viewer { role } }", ALL),
    ("mutation { startUpload(input: { path: \"new/$role\" }) { intent { id } } }", MAKERS),
    ("mutation { finishUpload(input: { intentId: \"$noIntent\" }) { version { id } } }", EDITORS),
    ("mutation { cancelUpload(input: { intentId: \"$noIntent\" }) { intent { id } } }", EDITORS),
    ("mutation { generateUploadUrl { url } }", MAKERS),
    (
        "mutation { createVersion(input: { path: \"x\", storedFileId: \"$noFile\" }) { version { id } } }",
        EDITORS,
    ),
    ("mutation { deleteStoredFile(input: { id: \"$noFile\" }) { deletedId } }", EDITORS),
    ("mutation { publishVersion(input: { versionId: \"$noVersion\" }) { version { id } } }", EDITORS),
    ("mutation { archiveVersion(input: { versionId: \"$noVersion\" }) { version { id } } }", EDITORS),
    ("mutation { restoreVersion(input: { versionId: \"$noVersion\" }) { version { id } } }", EDITORS),
    (
        "mutation { updateVersion(input: { versionId: \"$noVersion\", label: \"x\" }) { version { id } } }",
        EDITORS,
    ),
    ("mutation { createFolder(input: { path: \"new/folder\" }) { created } }", MAKERS),
    (
        "mutation { updateFolder(input: { folder: { path: \"no\" }, title: \"x\" }) { folder { id } } }",
        EDITORS,
    ),
    ("mutation { moveFolder(input: { folder: { path: \"no\" }, toPath: \"x\" }) { oldPath } }", EDITORS),
    (
        "mutation { moveFolder(input: { folder: { path: \"a\" }, toPath: \"x\", dryRun: true }) { oldPath } }",
        MAKERS,
    ),
    ("mutation { deleteFolder(input: { folder: { path: \"no\" } }) { deletedFolders } }", EDITORS),
    ("mutation { createAsset(input: { path: \"new/$role\" }) { asset { id } } }", MAKERS),
    ("mutation { updateAsset(input: { asset: { path: \"no\" }, title: \"x\" }) { asset { id } } }", EDITORS),
    (
        "mutation { moveAsset(input: { asset: { path: \"no\" }, toFolder: { path: \"x\" } }) { oldPath } }",
        EDITORS,
    ),
    ("mutation { renameAsset(input: { asset: { path: \"no\" }, newName: \"x\" }) { oldPath } }", EDITORS),
    ("mutation { deleteAsset(input: { asset: { path: \"no\" } }) { deletedVersions } }", EDITORS),
    ("mutation { deleteAssets(input: { folder: { path: \"no\" } }) { deletedAssets } }", EDITORS),
    ("mutation { restoreFromTrash(input: { id: \"$publicAsset\" }) { changes { id } } }", EDITORS),
    ("mutation { purgeTrash(input: {}) { purgedAssets } }", ADMINS),
    (
        "mutation { applyChanges(input: { operations: [{ createFolder: { path: \"new/b\" } }] }) { changes { id } } }",
        MAKERS,
    ),
    (
        "mutation { applyChanges(input: { operations: [{ createFolder: { path: \"c\" } }], dryRun: true }) { changes { id } } }",
        MAKERS,
    ),
    (
        "mutation { setDefaultStorage(input: { backend: \"local\" }) { storage { default { name } } } }",
        ADMINS,
    ),
    ("mutation { createToken(input: { name: \"x\", role: VIEWER }) { secret } }", ADMINS),
    (
        "mutation { revokeToken(input: { id: \"$noToken\" }) { token { id } } }",
        ["UNAUTHENTICATED", "FORBIDDEN", "FORBIDDEN", "NOT_FOUND"],
    ),
    ("subscription { changes { cursor } }", ["UNAUTHENTICATED", "quiet", "quiet", "quiet"]),
    ("subscription { asset(path: \"a/public\") { path } }", ALL),
    ("subscription { asset(path: \"a/private\") { path } }", HIDDEN),
    ("subscription { asset(path: \"a/draft\") { path } }", HIDDEN),
    ("subscription { folder(path: \"a\") { path } }", ALL),
    ("subscription { folder(path: \"p\") { path } }", HIDDEN),
    ("subscription { uploadIntent(id: \"$intent\") { id } }", VIEWERS),
    ("{ __schema { queryType { name } } }", ALL),
    ("{ __type(name: \"Asset\") { name } }", ALL),
];

/// Methods, routes and URLs, with the status that each role gets.
const ROUTES: [(&str, &str, &str, [u16; 4]); 32] = [
    ("GET", "/", "/", [303; 4]),
    ("GET", "/explorer/{file}", "/explorer/app.js", [200; 4]),
    ("GET", "/healthz", "/healthz", [200; 4]),
    ("GET", "/readyz", "/readyz", [200; 4]),
    ("GET", "/metrics", "/metrics", [401, 200, 200, 200]),
    ("GET", "/assets/{*path}", "/assets/a/public", [200; 4]),
    ("HEAD", "/assets/{*path}", "/assets/a/public", [200; 4]),
    ("GET", "/assets/{*path}", "/assets/a/private", [404, 200, 200, 200]),
    ("HEAD", "/assets/{*path}", "/assets/a/private", [404, 200, 200, 200]),
    ("GET", "/assets/{*path}", "/assets/a/draft", [404; 4]),
    ("GET", "/assets/{*path}", "/assets/a/was-public", [308; 4]),
    ("GET", "/assets/{*path}", "/assets/a/was-private", [404, 308, 308, 308]),
    ("GET", "/assets/{*path}", "/assets/v/$public", [200; 4]),
    ("GET", "/assets/{*path}", "/assets/v/$private", [404, 200, 200, 200]),
    ("GET", "/v/{id}/{filename}", "/v/$public/x", [200; 4]),
    ("GET", "/v/{id}/{filename}", "/v/$private/x", [404, 200, 200, 200]),
    ("HEAD", "/v/{id}/{filename}", "/v/$private/x", [404, 200, 200, 200]),
    ("GET", "/v/{id}/{filename}", "/v/$draft/x", [404, 200, 200, 200]),
    ("GET", "/v/{id}/{filename}", "/v/$later/x", [404, 200, 200, 200]),
    ("GET", "/v/{id}/{filename}", "/v/$private/x?expires=1&disposition=inline&signature=x", [403; 4]),
    ("GET", "/v/{id}/{filename}", "$signed", [200; 4]),
    ("HEAD", "/v/{id}/{filename}", "$signed", [200; 4]),
    ("GET", "/v/{id}/{filename}", "$signed0", [403; 4]),
    ("GET", "/v/{id}/{filename}", "$expired", [403; 4]),
    ("GET", "/storage/{id}", "/storage/$file", [404, 200, 200, 200]),
    ("GET", "/storage/{id}", "/storage/$file?signature=x", [403; 4]),
    // The signature says who may send bytes, and nothing else does.
    ("PUT", "/uploads/{id}", "/uploads/$intent?signature=x", [403; 4]),
    ("POST", "/uploads/{id}", "/uploads/$intent?signature=x", [403; 4]),
    ("PUT", "/uploads/{id}/parts/{number}", "/uploads/$intent/parts/1?signature=x", [403; 4]),
    ("GET", "/graphql", "/graphql?query=%7Bviewer%7Brole%7D%7D", [200; 4]),
    ("GET", "/graphql", "/graphql?query=%7BheadCursor%7D", [200; 4]),
    ("POST", "/graphql", "/graphql", [415; 4]),
];

/// A library with something of each kind, and a token for each role.
struct Library {
    server: TestServer,
    ids: HashMap<&'static str, String>,
    tokens: [Option<String>; 4],
}

impl Library {
    async fn open() -> Self {
        let mut server = TestServer::with(Flags::default(), "").await;
        server.token = Some(server.admin_token());
        let sign = "query($id: ID!) { version(id: $id) { signedUrl(expiresInSeconds: 60) { url } } }";
        let signed = async |server: &TestServer, id: &str| {
            let url = server.gql(sign, json!({ "id": id })).await["version"]["signedUrl"]["url"].take();
            text(&url).to_owned()
        };
        let mut ids = HashMap::from([
            ("noIntent", "upload_01jd3aaaaaaaaaaaaaaaaaaaaa".to_owned()),
            ("noFile", "file_01jd3aaaaaaaaaaaaaaaaaaaaa".to_owned()),
            ("noVersion", "version_01jd3aaaaaaaaaaaaaaaaaaaaa".to_owned()),
            ("noToken", "token_01jd3aaaaaaaaaaaaaaaaaaaaa".to_owned()),
        ]);
        let id = |value: &Value| text(&value["id"]).to_owned();
        let public = server.upload(json!({ "path": "a/public" }), HOPPER).await;
        ids.extend([("public", id(&public["version"])), ("publicAsset", id(&public["asset"]))]);
        let private = server.upload(json!({ "path": "a/private", "visibility": "PRIVATE" }), HOPPER).await;
        ids.extend([("private", id(&private["version"])), ("privateAsset", id(&private["asset"]))]);
        let draft = server.upload(json!({ "path": "a/draft", "publish": false }), HOPPER).await;
        ids.insert("expired", signed(&server, &ids["private"]).await);
        server.clock.advance(61_000);
        ids.insert("signed", signed(&server, &ids["private"]).await);
        let later = server.upload(json!({ "path": "a/public", "publish": false }), HOPPER).await;
        ids.extend([("draft", id(&draft["version"])), ("later", id(&later["version"]))]);
        server.upload(json!({ "path": "p/hidden", "visibility": "PRIVATE" }), HOPPER).await;
        ids.insert("intent", id(&server.start_upload(json!({ "path": "a/coming" })).await));
        let folders = "{ a: folder(path: \"a\") { id } p: folder(path: \"p\") { id } }";
        let folders = server.gql(folders, json!({})).await;
        ids.extend([("folder", id(&folders["a"])), ("hidden", id(&folders["p"]))]);
        for (path, visibility) in [("a/was-public", "PUBLIC"), ("a/was-private", "PRIVATE")] {
            server.upload(json!({ "path": path, "visibility": visibility }), HOPPER).await;
            let moving = "mutation($path: String!, $name: String!) {
                renameAsset(input: { asset: { path: $path }, newName: $name }) { oldPath } }";
            server.gql(moving, json!({ "path": path, "name": visibility })).await;
        }
        let target = "mutation { generateUploadUrl { url } }";
        let url = server.gql(target, json!({})).await["generateUploadUrl"]["url"].take();
        let stored = server.send(Method::POST, text(&url), &[("content-type", "image/jpeg")], HOPPER).await;
        ids.insert("file", text(&stored.json::<Value>().await.expect("JSON")["storageId"]).to_owned());
        let mut tokens = [const { None }; 4];
        for (token, role) in tokens.iter_mut().zip(ROLES).skip(1) {
            let create = "mutation($role: Role!) { createToken(input: { name: \"x\", role: $role }) { secret token { id } } }";
            let made = server.gql(create, json!({ "role": role })).await["createToken"].take();
            ids.insert("token", id(&made["token"]));
            *token = Some(text(&made["secret"]).to_owned());
        }
        server.token = None;
        Self { server, ids, tokens }
    }

    fn fill(&self, template: &str, role: &str) -> String {
        let mut names: Vec<_> = self.ids.iter().collect();
        // The longer first: `$publicAsset` begins as `$public` does.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let filled = template.replace("$role", role);
        names.into_iter().fold(filled, |text, (name, id)| text.replace(&format!("${name}"), id))
    }

    async fn socket(&self, token: Option<&str>) -> Socket {
        let mut socket =
            Socket::open(&self.server.address, "graphql-transport-ws", &[]).await.expect("a socket");
        let payload = token.map_or(json!({}), |token| json!({ "Authorization": format!("Bearer {token}") }));
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.next().await["type"], "connection_ack");
        socket
    }
}

/// What an answer comes to: data, null, or a code.
fn outcome(answer: &Value) -> String {
    if let Some(error) = answer["errors"].get(0) {
        return text(&error["extensions"]["code"]).to_owned();
    }
    let fields = answer["data"].as_object().expect("data");
    if fields.values().all(Value::is_null) { "null".to_owned() } else { "data".to_owned() }
}

#[tokio::test]
async fn every_operation_does_for_each_role_what_the_table_says() {
    let mut library = Library::open().await;
    for (index, role) in ROLES.into_iter().enumerate() {
        let token = library.tokens[index].clone();
        let mut socket = library.socket(token.as_deref()).await;
        library.server.token = token;
        for (number, (document, should)) in OPERATIONS.iter().enumerate() {
            let document = library.fill(document, role);
            let is = if should[index] == "quiet" {
                // Nothing is told before something happens, but that nothing went wrong.
                socket.subscribe("quiet", &document, json!({})).await;
                socket.subscribe("then", "{ viewer { role } }", json!({})).await;
                let next = socket.next().await;
                assert_eq!(
                    (&next["id"], socket.next().await["type"].take()),
                    (&json!("then"), json!("complete"))
                );
                "quiet".to_owned()
            } else if document.starts_with("subscription") {
                let id = number.to_string();
                socket.subscribe(&id, &document, json!({})).await;
                let next = socket.next().await;
                assert_eq!(next["id"], id, "{document}: {next}");
                socket.send(json!({ "type": "complete", "id": id })).await;
                match text(&next["type"]) {
                    "error" => text(&next["payload"][0]["extensions"]["code"]).to_owned(),
                    _ => outcome(&next["payload"]),
                }
            } else {
                outcome(&library.server.ask(&document, json!({})).await)
            };
            assert_eq!(is, should[index], "{role}: {document}");
        }
        assert_eq!(library.server.gql("{ viewer { role } }", json!({})).await["viewer"]["role"], role);
    }
}

#[tokio::test]
async fn every_route_does_for_each_role_what_the_table_says() {
    let library = Library::open().await;
    for (index, role) in ROLES.into_iter().enumerate() {
        let bearer = library.tokens[index].as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        for (method, _, url, should) in &ROUTES {
            let method: Method = method.parse().expect("a method");
            let url = library.fill(url, role);
            let response = library.server.send(method.clone(), &url, &headers, b"").await;
            assert_eq!(response.status(), should[index], "{role}: {method} {url}");
        }
        let by_get = "/graphql?query=%7BheadCursor%7D";
        let answer = library.server.get(by_get, &headers).await.json::<Value>().await.expect("JSON");
        assert_eq!(outcome(&answer), VIEWERS[index], "{role}: {by_get}");
        // What may be read in no way may not be in parts either, nor told to be unchanged.
        for (url, seen) in [("/assets/a/public", true), ("/assets/a/private", index > 0)] {
            let with = |name, value| [headers.clone(), vec![(name, value)]].concat();
            let whole = library.server.get(url, &headers).await;
            let tag = whole.headers().get("etag").map(|tag| tag.to_str().expect("a text").to_owned());
            assert_eq!(tag.is_some(), seen, "{role}: {url}");
            let of_public = library.server.get("/assets/a/public", &headers).await.headers()["etag"].clone();
            let known = with("if-none-match", of_public.to_str().expect("a text"));
            let unchanged = library.server.get(url, &known).await;
            assert_eq!(unchanged.status(), if seen { 304 } else { 404 }, "{role}: {url}, the same bytes");
            let part = library.server.get(url, &with("range", "bytes=0-9")).await;
            assert_eq!(part.status(), if seen { 206 } else { 404 }, "{role}: {url}, in part");
        }
    }
}

#[tokio::test]
async fn the_tables_name_every_field_of_the_schema_and_every_route() {
    let server = TestServer::start().await;
    let roots = "{ __schema { query: queryType { fields { name } } mutation: mutationType { fields { name } }
        subscription: subscriptionType { fields { name } } } }";
    let schema = server.gql(roots, json!({})).await["__schema"].take();
    for (root, keyword) in [("query", "{ "), ("mutation", "mutation { "), ("subscription", "subscription { ")]
    {
        let fields = schema[root]["fields"].as_array().expect("fields");
        assert!(fields.len() > 3, "{root}");
        for field in fields {
            let name = text(&field["name"]);
            let begins = |document: &str| {
                document.strip_prefix(keyword).and_then(|rest| rest.split([' ', '(']).next()) == Some(name)
            };
            assert!(OPERATIONS.iter().any(|(document, _)| begins(document)), "{keyword}{name} has no row");
        }
    }
    let routes = include_str!("../../src/http/mod.rs");
    let routes = routes.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
    let routes: BTreeSet<&str> = routes.collect();
    assert!(routes.len() >= 10, "{routes:?}");
    for route in routes {
        assert!(ROUTES.iter().any(|(_, known, ..)| *known == route), "{route} has no row");
    }
}

#[tokio::test]
async fn the_first_start_makes_an_admin_token_that_only_its_owner_can_read() {
    let server = TestServer::with(Flags::default(), "").await;
    let token = server.admin_token();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(server.data().join("admin-token")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mut server = server.restart().await;
    server.token = Some(token);
    let viewer = server.gql("{ viewer { role actor { id kind } } }", json!({})).await;
    assert_eq!(
        viewer["viewer"],
        json!({ "role": "ADMIN", "actor": { "id": "admin-token", "kind": "TOKEN" } })
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_not_taken_for_nobody() {
    let server = TestServer::with(Flags::default(), "").await;
    let token = server.admin_token();
    let wrong = ("authorization", "Bearer wrong");
    let body = br#"{"query":"{ viewer { role } }"}"#;
    let response =
        server.send(Method::POST, "/graphql", &[wrong, ("content-type", "application/json")], body).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    assert_eq!(
        response.json::<Value>().await.expect("JSON")["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    assert_eq!(server.get("/assets/x", &[wrong]).await.status(), 401);

    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket.send(json!({ "type": "connection_init", "payload": { "Authorization": "Bearer wrong" } })).await;
    assert_eq!(socket.close_code().await, 4403);
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket
        .send(json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } }))
        .await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", "{ viewer { role } }", json!({})).await;
    assert_eq!(socket.event().await["viewer"]["role"], "ADMIN");
}
