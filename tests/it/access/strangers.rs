//! What strangers see: what is shown, and nothing around it.

use std::time::Duration;

use entity::{FolderId, folder};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _, Select,
};
use serde_json::{Value, json};
use vellum::domain::actor::Actor;
use vellum::domain::change::{Leg, Watch};
use vellum::domain::path::TreePath;
use vellum::domain::scope::{self, Scope};

use super::Library;
use crate::support::{HOPPER, TestServer, text};

#[tokio::test]
async fn strangers_see_what_is_shown_and_nothing_around_it() {
    let mut library = Library::open().await;
    let ask = async |library: &Library, query: &str| {
        let answer = library.server.ask(query, json!({})).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        answer["data"].clone()
    };
    let lists = "{ root { folders { totalCount nodes { path } edges { node { path } } }
            assets(recursive: true) { totalCount nodes { path } } }
        folder(path: \"a\") { createdBy { id kind name } assets { totalCount nodes { path createdBy { id } } } }
        all: assets { totalCount nodes { path } }
        found: assets(filter: { search: \"pr\" }) { totalCount nodes { path } }
        private: assets(filter: { visibility: PRIVATE }) { totalCount }
        unpublished: assets(filter: { published: false }) { totalCount }
        bySize: assets(orderBy: { field: SIZE, direction: DESC }, last: 10) { nodes { path } } }";
    let seen = ask(&library, lists).await;
    let public = json!([{ "path": "a/PUBLIC" }, { "path": "a/public" }]);
    assert_eq!(
        seen["root"]["folders"],
        json!({ "totalCount": 1, "nodes": [{ "path": "a" }], "edges": [{ "node": { "path": "a" } }] })
    );
    assert_eq!(seen["root"]["assets"], json!({ "totalCount": 2, "nodes": public }));
    assert_eq!(seen["all"], json!({ "totalCount": 2, "nodes": public }));
    assert_eq!(seen["folder"]["assets"]["totalCount"], 2);
    assert_eq!(seen["folder"]["createdBy"], json!({ "id": "anonymous", "kind": "ANONYMOUS", "name": null }));
    assert_eq!(seen["folder"]["assets"]["nodes"][0]["createdBy"]["id"], "anonymous");
    assert_eq!(seen["found"], json!({ "totalCount": 0, "nodes": [] }));
    assert_eq!((&seen["private"]["totalCount"], &seen["unpublished"]["totalCount"]), (&json!(0), &json!(0)));
    assert_eq!(seen["bySize"]["nodes"].as_array().map(Vec::len), Some(2));

    let versions = "{ asset(path: \"a/public\") { formerPaths latestVersion { number createdBy { id } publishedBy { id } }
        version(number: 2) { number } versions { totalCount nodes { number } }
        drafts: versions(states: [DRAFT]) { totalCount } folder { path } } }";
    let seen = ask(&library, versions).await["asset"].take();
    assert_eq!(
        seen["latestVersion"],
        json!({ "number": 1, "createdBy": { "id": "anonymous" }, "publishedBy": { "id": "anonymous" } })
    );
    assert_eq!(seen["versions"], json!({ "totalCount": 1, "nodes": [{ "number": 1 }] }));
    assert_eq!(
        (&seen["version"], &seen["drafts"]["totalCount"], &seen["formerPaths"]),
        (&Value::Null, &json!(0), &json!([]))
    );

    library.server.token = library.tokens[1].clone();
    let seen = ask(&library, lists).await;
    assert_eq!(seen["all"]["totalCount"], 6);
    assert_eq!(seen["root"]["folders"]["totalCount"], 2);
    assert_eq!(ask(&library, versions).await["asset"]["versions"]["totalCount"], 2);
}

#[tokio::test]
async fn what_strangers_see_follows_every_change() {
    let mut library = Library::open().await;
    let admin = library.tokens[3].clone();
    let mut socket = library.socket(None).await;
    socket.subscribe("1", "subscription { asset(path: \"p/hidden\") { path title } }", json!({})).await;
    assert_eq!(socket.event().await["asset"], Value::Null);
    let set = "mutation($input: UpdateAssetInput!) { updateAsset(input: $input) { asset { id } } }";
    let folders = async |library: &mut Library| {
        library.server.token = None;
        let seen = library.server.gql("{ root { folders { nodes { path } totalCount } } }", json!({})).await;
        library.server.token = admin.clone();
        let nodes = seen["root"]["folders"]["nodes"].as_array().expect("nodes");
        assert_eq!(seen["root"]["folders"]["totalCount"], nodes.len());
        nodes.iter().map(|node| text(&node["path"]).to_owned()).collect::<Vec<_>>()
    };
    library.server.token = admin.clone();
    // What happens to a thing that strangers do not see, they do not hear of, neither of it nor of its folder.
    let mut folder = library.socket(None).await;
    let watching = "subscription { folder(path: \"a\") { title assets { totalCount } } }";
    folder.subscribe("1", watching, json!({})).await;
    assert_eq!(folder.event().await["folder"], json!({ "title": "a", "assets": { "totalCount": 2 } }));
    let hidden = library
        .server
        .gql(
            "{ folder(path: \"a\") { assets(filter: { visibility: PRIVATE }) { nodes { path } } } }",
            json!({}),
        )
        .await;
    let hidden = hidden["folder"]["assets"]["nodes"][0]["path"].clone();
    library.server.gql(set, json!({ "input": { "asset": { "path": hidden }, "title": "secret" } })).await;
    let naming =
        "mutation { updateFolder(input: { folder: { path: \"a\" }, title: \"Anew\" }) { folder { id } } }";
    library.server.gql(naming, json!({})).await;
    assert_eq!(folder.event().await["folder"], json!({ "title": "Anew", "assets": { "totalCount": 2 } }));
    library.server.gql(set, json!({ "input": { "asset": { "path": "p/hidden" }, "title": "secret" } })).await;
    assert_eq!(folders(&mut library).await, ["a"]);
    library
        .server
        .gql(set, json!({ "input": { "asset": { "path": "p/hidden" }, "visibility": "PUBLIC" } }))
        .await;
    assert_eq!(
        socket.event().await["asset"],
        json!({ "path": "p/hidden", "title": "secret" }),
        "and no null before"
    );
    assert_eq!(folders(&mut library).await, ["a", "p"]);
    let moving = "mutation { moveFolder(input: { folder: { path: \"p\" }, toPath: \"q/r\" }) { oldPath } }";
    library.server.gql(moving, json!({})).await;
    assert_eq!(socket.event().await["asset"], Value::Null);
    assert_eq!(folders(&mut library).await, ["a", "q"]);
    let leaving = "mutation { moveAsset(input: { asset: { path: \"q/r/hidden\" }, toFolder: { path: \"s\" } }) { oldPath } }";
    library.server.gql(leaving, json!({})).await;
    assert_eq!(folders(&mut library).await, ["a", "s"]);
    let deleting = "mutation { deleteAssets(input: { folder: { path: \"s\" } }) { deletedAssets } }";
    library.server.gql(deleting, json!({})).await;
    assert_eq!(folders(&mut library).await, ["a"]);
    let trash = library.server.gql("{ trash { nodes { ... on Asset { id } } } }", json!({})).await;
    let back = format!(
        "mutation {{ restoreFromTrash(input: {{ id: {} }}) {{ changes {{ id }} }} }}",
        trash["trash"]["nodes"][0]["id"]
    );
    library.server.gql(&back, json!({})).await;
    assert_eq!(folders(&mut library).await, ["a", "s"]);
    let archiving = "mutation($id: ID!) { archiveVersion(input: { versionId: $id }) { version { id } } }";
    let published =
        library.server.gql("{ asset(path: \"s/hidden\") { publishedVersion { id } } }", json!({})).await;
    let id = published["asset"]["publishedVersion"]["id"].clone();
    library.server.gql(archiving, json!({ "id": id })).await;
    assert_eq!(folders(&mut library).await, ["a"]);
    let publishing = "mutation($id: ID!) { publishVersion(input: { versionId: $id }) { version { id } } }";
    library.server.gql(publishing, json!({ "id": id })).await;
    assert_eq!(folders(&mut library).await, ["a", "s"]);
    let deleting =
        "mutation { deleteFolder(input: { folder: { path: \"s\" }, recursive: true }) { deletedFolders } }";
    library.server.gql(deleting, json!({})).await;
    assert_eq!(folders(&mut library).await, ["a"]);
    // The columns that keep this cheap, against what they stand for.
    assert_eq!(library.server.wrongly_shown_after_sweep().await, None);
}

#[tokio::test]
async fn a_folder_that_goes_while_it_is_tidied_up_comes_back_as_it_was() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "x/y/photo" }), HOPPER).await;
    let folder = server.gql("{ folder(path: \"x\") { id } }", json!({})).await["folder"]["id"].take();
    let delete = "mutation($id: ID!) { deleteFolder(input: { folder: { id: $id }, recursive: true }) { deletedFolders } }";
    server.gql(delete, json!({ "id": folder })).await;
    // As when it led to nothing shown a moment ago.
    let id: FolderId = text(&folder).parse().expect("an id");
    assert_eq!(scope::clear(&server.app, vec![id]).await.expect("it is looked at"), 0);
    let restore = "mutation($id: ID!) { restoreFromTrash(input: { id: $id }) { changes { id } } }";
    server.gql(restore, json!({ "id": folder })).await;
    assert_eq!(server.wrongly_shown().await, None);
    assert_eq!(scope::clear(&server.app, vec![id]).await.expect("it is looked at"), 0, "it leads there");
}

#[tokio::test]
async fn lists_for_strangers_take_the_indexes_that_have_only_what_they_see() {
    let server = TestServer::start().await;
    let read = server.app.read();
    if read.get_database_backend() != DbBackend::Sqlite {
        // PostgreSQL takes no index where there is nothing to find.
        return;
    }
    let all = || {
        folder::Entity::find()
            .filter(folder::Column::ParentId.eq(FolderId::ROOT))
            .filter(folder::Column::DeletionId.is_null())
    };
    let shown = || all().filter(Scope::Shown.subfolders().expect("not all"));
    for (column, index) in [
        (folder::Column::Name, "folders_open_name"),
        (folder::Column::CreatedAt, "folders_open_created"),
        (folder::Column::UpdatedAt, "folders_open_updated"),
    ] {
        for direction in [Order::Asc, Order::Desc] {
            let page = |rows: Select<folder::Entity>| {
                let page = rows.order_by(column, direction.clone());
                page.order_by(folder::Column::Id, direction.clone()).limit(21).build(DbBackend::Sqlite)
            };
            let plan = async |statement: sea_orm::Statement| {
                let asked = format!("EXPLAIN QUERY PLAN {}", statement.sql);
                let values = statement.values.expect("values");
                let rows = read.query_all_raw(sea_orm::Statement::from_sql_and_values(
                    DbBackend::Sqlite,
                    asked,
                    values,
                ));
                let rows = rows.await.expect("a plan");
                let steps = rows.iter().map(|row| row.try_get::<String>("", "detail").expect("a step"));
                steps.collect::<Vec<_>>().join("\n")
            };
            let found = plan(page(shown())).await;
            assert!(found.starts_with(&format!("SEARCH folders USING INDEX {index} ")), "{found}");
            assert!(!found.contains("TEMP B-TREE") && !found.contains("SCAN"), "{found}");
            assert!(!plan(page(all())).await.contains(index), "those who see all");
        }
    }
}

#[tokio::test]
async fn who_goes_on_from_an_entry_is_told_that_a_thing_is_shown_no_more() {
    let mut library = Library::open().await;
    library.server.token = library.tokens[3].clone();
    let app = library.server.app.clone();
    let shown_at = app.feed().head();
    let hide = "mutation { updateAsset(input: { asset: { path: \"a/public\" }, visibility: PRIVATE }) { asset { id } } }";
    library.server.gql(hide, json!({})).await;
    while app.feed().head() == shown_at {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As a subscriber does that read nothing meanwhile.
    let leg = Leg { from: Some(shown_at), until: None };
    let path = TreePath::parse("a/public", "path").expect("a path");
    let mut watch = Watch::asset(&app, &Actor::anonymous(), path, leg).await.expect("it begins");
    assert!(watch.next().await.expect("it goes on").is_some());
    assert!(watch.asset_now().await.expect("it is looked up").is_none());
}
