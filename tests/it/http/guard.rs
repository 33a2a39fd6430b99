//! Bounds of requests: small inputs that would cost much, documents by their hash, documents that are trusted.

use serde_json::{Value, json};
use vellum::config::Flags;

use crate::support::{TestServer, sha256};

#[path = "../../../bench/src/bombs.rs"]
mod bombs;

use bombs::bombs;

/// A server in dev mode with settings of its own.
async fn with(settings: &str) -> TestServer {
    TestServer::with(Flags { dev: true, ..Flags::default() }, settings).await
}

async fn post(server: &TestServer, body: &Value) -> (u16, Value) {
    let response = server.client.post(server.url("/graphql")).json(body).send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn each_bound_is_a_setting_and_says_what_is_too_much() {
    let wide: String = (0..6).map(|n| format!("a{n}: __typename ")).collect();
    for (setting, query, said) in [
        ("max_depth = 3", "{ root { folders { nodes { id } } } }".to_owned(), "more than 3 levels"),
        ("max_root_fields = 5", format!("{{ {wide} }}"), "more than 5 fields at its root"),
        ("max_aliases = 5", format!("{{ root {{ {wide} }} }}"), "more than 5 aliases"),
        ("max_fields = 5", format!("{{ root {{ {wide} }} }}"), "more than 5 fields"),
        (
            "max_directives = 2",
            "{ root { id @skip(if: false) path @include(if: true) name @skip(if: true) } }".to_owned(),
            "more than 2 directives",
        ),
        ("max_tokens = 8", "{ root { id path name } }".to_owned(), "more than 8 tokens"),
        ("max_document_bytes = 20", "{ root { id path name } }".to_owned(), "longer than 20 bytes"),
        (
            "max_definitions = 1",
            "query A { __typename } query B { __typename }".to_owned(),
            "more than 1 definitions",
        ),
        ("max_cost = 100", "{ assets(first: 51) { nodes { id path } } }".to_owned(), "cost more than 100"),
        (
            "introspection = false",
            "{ __schema { queryType { name } } }".to_owned(),
            "does not tell its schema",
        ),
        (
            "introspection = false",
            "query { ...F } fragment F on Query { t: __type(name: \"Asset\") { name } }".to_owned(),
            "does not tell its schema",
        ),
    ] {
        let server = with(&format!("[graphql]\n{setting}\n")).await;
        let (_, answer) = post(&server, &json!({ "query": query })).await;
        assert_eq!(code(&answer), "GRAPHQL_VALIDATION_FAILED", "{setting}: {answer}");
        assert!(
            answer["errors"][0]["message"].as_str().is_some_and(|it| it.contains(said)),
            "{setting}: {answer}"
        );
        let (_, fine) = post(&server, &json!({ "query": "{ __typename }" })).await;
        assert_eq!(fine["data"]["__typename"], "Query", "{setting}: {fine}");
    }
    let server = with("[graphql]\nmax_body_bytes = 100\n").await;
    let (status, _) =
        post(&server, &json!({ "query": "{ __typename }", "variables": { "x": "x".repeat(100) } })).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn what_an_operation_costs_depends_on_its_variables() {
    let server = with("[graphql]\nmax_cost = 1000\n").await;
    let query = "query($n: Int) { assets(first: $n) { nodes { versions(first: $n) { nodes { id } } } } }";
    let (_, answer) = post(&server, &json!({ "query": query, "variables": { "n": 5 } })).await;
    assert!(answer["data"].is_object(), "{answer}");
    let (_, answer) = post(&server, &json!({ "query": query, "variables": { "n": 100 } })).await;
    assert_eq!(code(&answer), "GRAPHQL_VALIDATION_FAILED", "{answer}");
}

#[tokio::test]
async fn strangers_have_less_to_spend() {
    let mut server = TestServer::with(Flags::default(), "[graphql]\nstranger_max_cost = 1500\n").await;
    let twice = "{ a: assets { totalCount } b: assets { totalCount } }";
    server.refuses(twice, json!({}), "GRAPHQL_VALIDATION_FAILED", None).await;
    server.gql("{ assets { totalCount } }", json!({})).await;
    server.token = Some(server.admin_token());
    server.gql(twice, json!({})).await;
}

#[tokio::test]
async fn documents_that_would_cost_much_are_refused_and_others_notice_nothing() {
    let server = TestServer::start().await;
    for (what, bomb) in bombs() {
        assert!(bomb.len() <= 65_536, "{what}: {}", bomb.len());
        let (_, answer) = post(&server, &json!({ "query": bomb })).await;
        let code = code(&answer);
        let known = [
            "GRAPHQL_PARSE_FAILED",
            "GRAPHQL_VALIDATION_FAILED",
            "BAD_USER_INPUT",
            "OPERATION_RESOLUTION_FAILURE",
        ];
        assert!(known.contains(&code) || what == "a string", "{what}: {answer}");
        assert!(answer.to_string().len() < 20_000, "{what}: the answer is long");
    }
    assert_eq!(server.gql("{ __typename }", json!({})).await["__typename"], "Query");
}

#[tokio::test]
async fn a_document_that_was_sent_once_is_known_by_its_hash() {
    let server = TestServer::start().await;
    let query = "query Role($x: Boolean = true) { viewer { role @include(if: $x) } }";
    let hash = sha256(query.as_bytes());
    let extensions = |hash: &str| json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let cold = json!({ "extensions": extensions(&hash) });
    let (_, answer) = post(&server, &cold).await;
    assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_FOUND");
    assert_eq!(answer["errors"][0]["message"], "PersistedQueryNotFound");
    let wrong = json!({ "query": "{ __typename }", "extensions": extensions(&hash) });
    assert_eq!(code(&post(&server, &wrong).await.1), "BAD_USER_INPUT");
    let invalid = "{ nothing }";
    let sent = json!({ "query": invalid, "extensions": extensions(&sha256(invalid.as_bytes())) });
    assert_eq!(code(&post(&server, &sent).await.1), "GRAPHQL_VALIDATION_FAILED");
    let again = json!({ "extensions": extensions(&sha256(invalid.as_bytes())) });
    assert_eq!(
        code(&post(&server, &again).await.1),
        "PERSISTED_QUERY_NOT_FOUND",
        "what is not valid is not kept"
    );

    let (_, sent) = post(&server, &json!({ "query": query, "extensions": extensions(&hash) })).await;
    assert_eq!(sent["data"]["viewer"]["role"], "ADMIN");
    let (_, warm) =
        post(&server, &json!({ "extensions": extensions(&hash), "variables": { "x": false } })).await;
    assert_eq!(warm["data"]["viewer"], json!({}));
    let url = format!(
        "/graphql?extensions={}",
        percent_encoding::utf8_percent_encode(
            &extensions(&hash).to_string(),
            percent_encoding::NON_ALPHANUMERIC
        )
    );
    let got: Value = server.get(&url, &[]).await.json().await.expect("JSON");
    assert_eq!(got["data"]["viewer"]["role"], "ADMIN");
    for bad in [json!({ "version": 2, "sha256Hash": hash }), json!({ "version": 1 }), json!("x")] {
        let (status, _) = post(&server, &json!({ "extensions": { "persistedQuery": bad } })).await;
        assert_eq!(status, 400);
    }
    let off = with("[graphql]\npersisted_queries = false\n").await;
    assert_eq!(code(&post(&off, &cold).await.1), "PERSISTED_QUERY_NOT_SUPPORTED");
}

#[tokio::test]
async fn where_documents_are_trusted_no_others_are_executed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (role, kind) = ("query Role { viewer { role } }", "{ viewer { actor { kind } } }");
    std::fs::create_dir(folder.path().join("inner")).expect("made");
    std::fs::write(folder.path().join("role.graphql"), role).expect("written");
    std::fs::write(folder.path().join("inner/kind.gql"), kind).expect("written");
    let manifest = folder.path().join("manifest.json");
    let operations = json!([{ "id": "role", "name": "Role", "type": "query", "body": role }, { "id": "kind", "body": kind }]);
    std::fs::write(
        &manifest,
        json!({ "format": "apollo-persisted-query-manifest", "version": 1, "operations": operations })
            .to_string(),
    )
    .expect("written");
    let plain = folder.path().join("plain.json");
    std::fs::write(&plain, json!({ "role": role, "kind": kind }).to_string()).expect("written");
    for path in [folder.path(), &manifest, &plain] {
        let server =
            with(&format!("[graphql]\ntrusted_documents = {:?}\n", path.display().to_string())).await;
        assert_eq!(post(&server, &json!({ "query": role })).await.1["data"]["viewer"]["role"], "ADMIN");
        let hash = json!({ "persistedQuery": { "version": 1, "sha256Hash": sha256(kind.as_bytes()) } });
        assert_eq!(
            post(&server, &json!({ "extensions": hash })).await.1["data"]["viewer"]["actor"]["kind"],
            "USER"
        );
        let id =
            if path.is_dir() { format!("sha256:{}", sha256(role.as_bytes())) } else { "role".to_owned() };
        assert_eq!(post(&server, &json!({ "documentId": id })).await.1["data"]["viewer"]["role"], "ADMIN");
        assert_eq!(
            code(&post(&server, &json!({ "documentId": "other" })).await.1),
            "PERSISTED_QUERY_NOT_FOUND"
        );
        for other in
            ["{ viewer { role } }", "query Role { viewer { role } } ", "{ __schema { queryType { name } } }"]
        {
            let hash = json!({ "persistedQuery": { "version": 1, "sha256Hash": sha256(other.as_bytes()) } });
            assert_eq!(
                code(&post(&server, &json!({ "query": other, "extensions": hash })).await.1),
                "FORBIDDEN",
                "{other}"
            );
        }
        let mut socket = server.socket().await;
        socket.subscribe("1", "{ viewer { role } }", json!({})).await;
        assert_eq!(socket.next().await["payload"][0]["extensions"]["code"], "FORBIDDEN");
        socket.subscribe("2", role, json!({})).await;
        assert_eq!(socket.event().await["viewer"]["role"], "ADMIN");
    }
}

#[tokio::test]
async fn the_explorer_can_be_switched_off() {
    let html = [("accept", "text/html")];
    assert_eq!(TestServer::start().await.get("/graphql", &html).await.status(), 200);
    let server = with("[graphql]\nexplorer = false\n").await;
    assert_eq!(server.get("/graphql", &html).await.status(), 406);
    assert_eq!(server.get("/explorer/app.js", &[]).await.status(), 404);
}

#[tokio::test]
async fn values_of_variables_are_bounded_and_keys_stand_once() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a" }), b"a").await;
    let update = "mutation($metadata: JSON) { updateAsset(input: { asset: { path: \"a\" }, metadata: $metadata }) { asset { metadata } } }";
    server.refuses(update, json!({ "metadata": vec![1; 20_001] }), "BAD_USER_INPUT", None).await;
    let mut deep = json!(1);
    for _ in 0..65 {
        deep = json!([deep]);
    }
    server.refuses(update, json!({ "metadata": deep }), "BAD_USER_INPUT", None).await;
    let undeclared =
        json!({ "metadata": { "b": 1 }, "other": vec![json!({ "a": 1 }); 50_000], "deep": deep });
    assert_eq!(server.gql(update, undeclared).await["updateAsset"]["asset"]["metadata"], json!({ "b": 1 }));
    let twice = "mutation { updateAsset(input: { asset: { path: \"a\" }, metadata: { b: 1, c: { d: 1, d: 2 } } }) { asset { id } } }";
    let error = server.refuses(twice, json!({}), "GRAPHQL_VALIDATION_FAILED", None).await;
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("key d stands twice")),
        "{error}"
    );
    let body = format!("{{\"query\":{},\"variables\":{{\"metadata\":{{\"x\":1,\"x\":2}}}}}}", json!(update));
    let answer = server
        .send(reqwest::Method::POST, "/graphql", &[("content-type", "application/json")], body.as_bytes())
        .await;
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
    let kept = server.gql("{ asset(path: \"a\") { metadata } }", json!({})).await;
    assert_eq!(kept["asset"]["metadata"], json!({ "b": 1 }), "nothing of what was refused counts");
}
