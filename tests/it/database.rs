//! What the database keeps by itself: constraints that hold whatever the code does, and tables up and down.

use migration::{Migrator, MigratorTrait as _};
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::support::{HOPPER, ROCKET, TestServer};

/// Whether the database refuses a statement.
async fn refuses(server: &TestServer, sql: &str) -> bool {
    server.app.database().write().execute_unprepared(sql).await.is_err()
}

#[tokio::test]
async fn the_database_refuses_what_must_never_be() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    let before = server.changelog(200).await;
    for (what, sql) in [
        ("a second published version", "UPDATE versions SET state = 'PUBLISHED'"),
        ("a state that is none", "UPDATE versions SET state = 'GONE'"),
        ("a number twice", "UPDATE versions SET number = 1"),
        ("an asset without its folder", "DELETE FROM folders WHERE path = 'a'"),
        ("a version without its asset", "DELETE FROM assets"),
        ("a version without its bytes", "DELETE FROM stored_files"),
        ("a second folder at a path", "UPDATE folders SET path = 'a' WHERE path = ''"),
        ("a folder without a parent", "UPDATE folders SET parent_id = NULL WHERE path = 'a'"),
        ("a hash that is none", "UPDATE stored_files SET sha256 = 'x'"),
        ("a name held twice", "INSERT INTO names SELECT folder_id, name, 'FOLDER' FROM names"),
        ("a visibility that is none", "UPDATE assets SET visibility = 'SECRET'"),
        ("a finished upload without a version", "UPDATE upload_intents SET version_id = NULL"),
        ("a second head of the changelog", "UPDATE changelog_head SET id = 2"),
    ] {
        assert!(refuses(&server, sql).await, "{what}: {sql}");
    }
    assert_eq!(server.changelog(200).await, before);
    assert_eq!(server.get("/assets/a/photo", &[]).await.bytes().await.expect("bytes"), ROCKET);
}

#[tokio::test]
async fn a_library_of_the_first_tables_comes_up_whole() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo", "label": "first" }), HOPPER).await;
    server.upload(json!({ "path": "a/photo" }), ROCKET).await;
    server.upload(json!({ "path": "a/same" }), HOPPER).await;
    server.upload(json!({ "path": "gone" }), HOPPER).await;
    server
        .gql("mutation { deleteAsset(input: { asset: { path: \"gone\" } }) { deletedVersions } }", json!({}))
        .await;
    let query = "{ assets { nodes { id path publishedVersion { id number sha256 } } } root { folders { nodes { path } } } }";
    let before = server.gql(query, json!({})).await;
    let database = server.app.database().write();
    // Back to the tables of the first release, and up again.
    let since = u32::try_from(Migrator::migrations().len()).expect("they are few") - 3;
    Migrator::down(database, Some(since)).await.expect("down");
    Migrator::up(database, None).await.expect("up");
    let server = server.restart().await;
    vellum::domain::search::fill(&server.app).await.expect("indexed");
    assert_eq!(server.gql(query, json!({})).await, before, "but for the trash, which there was none of");
    assert_eq!(server.get("/assets/a/photo", &[]).await.bytes().await.expect("bytes"), ROCKET);
    assert_eq!(server.get("/assets/a/same", &[]).await.bytes().await.expect("bytes"), HOPPER);
    let found = server.gql("{ assets(filter: { search: \"PHOT\" }) { nodes { path } } }", json!({})).await;
    assert_eq!(found["assets"]["nodes"], json!([{ "path": "a/photo" }]));
    server.upload(json!({ "path": "a/third" }), HOPPER).await;
    vellum::domain::gc::collect(&server.app).await.expect("collected");
    assert_eq!(server.stored("blobs").len(), 2, "the same bytes are kept once");
}

#[tokio::test]
async fn folders_that_lead_to_what_is_shown_are_known_after_an_upgrade() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/c/photo" }), HOPPER).await;
    server.upload(json!({ "path": "private/photo", "visibility": "PRIVATE" }), HOPPER).await;
    server.upload(json!({ "path": "gone/b/c/photo" }), HOPPER).await;
    let gone = server.gql("{ folder(path: \"gone\") { id } }", json!({})).await["folder"]["id"].take();
    let delete = "mutation($id: ID!) { deleteFolder(input: { folder: { id: $id }, recursive: true }) { deletedFolders } }";
    server.gql(delete, json!({ "id": gone })).await;
    let database = server.app.database().write();
    let since = u32::try_from(Migrator::migrations().len()).expect("they are few") - 10;
    Migrator::down(database, Some(since)).await.expect("down");
    let led = "SELECT 1 FROM folders WHERE has_open AND path IN ('', 'a', 'a/b', 'gone', 'gone/b')";
    assert!(!server.finds(led).await, "before, only of those that have one right in them");
    Migrator::up(database, None).await.expect("up");
    assert_eq!(server.wrongly_shown_after_sweep().await, None);
    let restore = "mutation($id: ID!) { restoreFromTrash(input: { id: $id }) { changes { id } } }";
    server.gql(restore, json!({ "id": gone })).await;
    assert_eq!(server.wrongly_shown_after_sweep().await, None);
}

#[tokio::test]
async fn the_tables_go_down_and_up_again() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/photo" }), HOPPER).await;
    let database = server.app.database().write();
    Migrator::down(database, None).await.expect("down");
    assert!(refuses(&server, "SELECT * FROM folders").await, "nothing is left");
    Migrator::up(database, None).await.expect("up");
    let root = server.gql("{ root { path folders { totalCount } } }", json!({})).await;
    assert_eq!(root["root"], json!({ "path": "", "folders": { "totalCount": 0 } }));
}
