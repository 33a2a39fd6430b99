//! Several servers on one PostgreSQL database. On SQLite, which is one server's, there is nothing to test.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::{Value, json};
use vellum::domain::gc;

use crate::support::{Socket, TestServer, text};

const FOLLOW: &str =
    "subscription($after: String) { changes(after: $after) { cursor changes { cursor type path } } }";
/// Rounds of each race.
const ROUNDS: usize = 12;

async fn pair() -> Option<(TestServer, TestServer)> {
    let one = TestServer::start().await;
    let other = one.beside().await?;
    Some((one, other))
}

/// The entries of a subscription up to `cursor`.
async fn read_until(socket: &mut Socket, cursor: &Value) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let batch = socket.event().await["changes"].take();
        seen.extend(batch["changes"].as_array().expect("changes").iter().cloned());
        if batch["cursor"] == *cursor {
            return seen;
        }
    }
}

async fn post_bytes(server: &TestServer, bytes: &[u8]) -> Value {
    let target = server.gql("mutation { generateUploadUrl { url } }", json!({})).await;
    let url = text(&target["generateUploadUrl"]["url"]).to_owned();
    let response = server.send(Method::POST, &url, &[], bytes).await;
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.expect("JSON")["storageId"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_two_servers_make_one_log_that_both_tell() {
    let Some((one, other)) = pair().await else { return };
    let (one, other) = (Arc::new(one), Arc::new(other));
    let start = one.gql("{ headCursor }", json!({})).await["headCursor"].take();
    let mut readers = Vec::new();
    for server in [&one, &other] {
        let mut socket = server.socket().await;
        socket.subscribe("live", FOLLOW, json!({ "after": start })).await;
        readers.push(socket);
    }
    let create = "mutation($path: String!) { createFolder(input: { path: $path }) { created } }";
    let writers = (0..8).map(|writer| {
        let server = Arc::clone(if writer % 2 == 0 { &one } else { &other });
        tokio::spawn(async move {
            for number in 0..25 {
                // Half of the folders above are the others' as well.
                let path = format!("shared-{}/writer-{writer}/{number}", number % 5);
                // Of two commits that wait for each other's names one is refused, to be sent again.
                loop {
                    let answer = server.ask(create, json!({ "path": path })).await;
                    match answer["errors"][0]["extensions"]["code"].as_str() {
                        None => break,
                        Some("STORAGE_UNAVAILABLE") => {}
                        Some(_) => panic!("{answer}"),
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    let end = other.gql("{ headCursor }", json!({})).await["headCursor"].take();
    let pages = one.changelog(7).await;
    assert_eq!(pages.len(), 8 * 25 + 8 * 5 + 5, "each folder once");
    let cursors = |entries: &[Value]| entries.iter().map(|entry| entry["cursor"].clone()).collect::<Vec<_>>();
    for mut reader in readers {
        assert_eq!(cursors(&read_until(&mut reader, &end).await), cursors(&pages));
    }
    // Resuming at any cursor, at either server, gives exactly what follows.
    for (index, from) in pages.iter().enumerate().step_by(37) {
        let server = if index % 2 == 0 { &other } else { &one };
        let mut socket = server.socket().await;
        socket.subscribe("again", FOLLOW, json!({ "after": from["cursor"] })).await;
        assert_eq!(cursors(&read_until(&mut socket, &end).await), cursors(&pages[index + 1..]));
    }
}

/// A number that nobody foresees.
fn pick(range: std::ops::Range<usize>) -> usize {
    range.new_tree(&mut TestRunner::default()).expect("a number").current()
}

/// Reads page by page, of any size and from any of the servers, until it saw `last` entries.
async fn page_through(servers: [Arc<TestServer>; 2], start: Value, last: Arc<OnceLock<usize>>) -> Vec<Value> {
    let query = "query($first: Int!, $after: String!) { changes(first: $first, after: $after) { nodes { cursor } nextCursor } }";
    let (mut after, mut seen) = (start, Vec::new());
    while last.get().is_none_or(|last| seen.len() < *last) {
        let server = &servers[pick(0..2)];
        let mut page =
            server.gql(query, json!({ "first": pick(1..60), "after": after })).await["changes"].take();
        seen.extend(page["nodes"].as_array().expect("nodes").iter().map(|node| node["cursor"].clone()));
        after = page["nextCursor"].take();
    }
    seen
}

/// Follows, leaves at any moment, and resumes at any of the servers, until it saw `last` entries.
async fn follow_around(
    servers: [Arc<TestServer>; 2],
    start: Value,
    last: Arc<OnceLock<usize>>,
) -> Vec<Value> {
    let (mut after, mut seen) = (start, Vec::new());
    let over = |seen: &[Value]| last.get().is_some_and(|last| seen.len() >= *last);
    while !over(&seen) {
        let mut socket = servers[pick(0..2)].socket().await;
        socket.subscribe("1", FOLLOW, json!({ "after": after })).await;
        for _ in 0..pick(1..20) {
            let next = tokio::time::timeout(Duration::from_millis(200), socket.event()).await;
            let Ok(mut batch) = next else { break };
            let entries = batch["changes"]["changes"].as_array().expect("changes").iter();
            seen.extend(entries.map(|entry| entry["cursor"].clone()));
            after = batch["changes"]["cursor"].take();
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_while_two_servers_write_sees_each_entry_once_in_one_order() {
    let Some((one, other)) = pair().await else { return };
    let servers = [Arc::new(one), Arc::new(other)];
    let file = post_bytes(&servers[0], b"the same").await;
    let start = servers[0].gql("{ headCursor }", json!({})).await["headCursor"].take();
    let last = Arc::new(OnceLock::new());
    let pagers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(page_through(servers.clone(), start.clone(), Arc::clone(&last))))
        .collect();
    let followers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(follow_around(servers.clone(), start.clone(), Arc::clone(&last))))
        .collect();
    let writers = (0..8).map(|writer| {
        let (server, file) = (Arc::clone(&servers[writer % 2]), file.clone());
        tokio::spawn(async move {
            let version = "mutation($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { version { number } } }";
            let folder = "mutation($path: String!) { createFolder(input: { path: $path }) { created } }";
            for number in 0..40 {
                // Assets of all writers, one of its own, and folders that lie deep, which are several entries.
                let (query, path) = match number % 4 {
                    0 => (folder, format!("writer-{writer}/{number}/a/b")),
                    1 => (version, "shared/one".to_owned()),
                    2 => (version, "shared/two".to_owned()),
                    _ => (version, format!("own-{writer}/asset")),
                };
                // Of two commits that wait for each other one is refused, to be sent again.
                while let Some(error) =
                    server.ask(query, json!({ "path": path, "file": file })).await["errors"].get(0)
                {
                    assert_eq!(error["extensions"]["code"], "STORAGE_UNAVAILABLE", "{error}");
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    let log: Vec<Value> =
        servers[1].changelog(200).await.into_iter().map(|mut entry| entry["cursor"].take()).collect();
    last.set(log.len()).expect("once");
    for reader in pagers.into_iter().chain(followers) {
        assert_eq!(reader.await.expect("a reader"), log);
    }
    // The versions of one asset, which both servers added, stand in the order of their numbers.
    for path in ["shared/one", "shared/two"] {
        let query = "query($path: String!) { asset(path: $path) { changes(first: 200, types: [ASSET_PUBLISH]) { nodes { versionNumber } } } }";
        let told = servers[0].gql(query, json!({ "path": path })).await;
        let nodes = told["asset"]["changes"]["nodes"].as_array().expect("nodes").iter();
        let numbers: Vec<i64> = nodes.map(|node| node["versionNumber"].as_i64().expect("a number")).collect();
        assert_eq!(numbers, (1..=80).collect::<Vec<_>>(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_commits_the_other_hears_of() {
    let Some((one, other)) = pair().await else { return };
    // The bell is rung by hints alone; the poll, which would find the entries as well, does not ring it.
    let mut bell = other.app.feed().bell();
    for number in 0.. {
        let create = "mutation($path: String!) { createFolder(input: { path: $path }) { created } }";
        one.gql(create, json!({ "path": format!("folder-{number}") })).await;
        let (_, newest) = one.app.feed().bounds().await.expect("the database");
        let heard = tokio::time::timeout(Duration::from_secs(1), bell.wait_for(|seq| *seq >= newest)).await;
        if heard.is_ok() {
            return;
        }
        // It may not listen yet.
        assert!(number < 20, "no hint came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_at_a_time_has_the_turn_and_another_takes_it_over() {
    let Some((one, other)) = pair().await else { return };
    let turn = one.app.turn().await.expect("the database").expect("nobody else has it");
    assert!(other.app.turn().await.expect("the database").is_none());
    assert!(one.app.turn().await.expect("the database").is_none(), "nor twice");
    drop(turn);
    let mut taken = false;
    for _ in 0..50 {
        taken = other.app.turn().await.expect("the database").is_some();
        if taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_migrate_once() {
    let one = TestServer::start().await;
    // Both have to find out that there is nothing to do, one after the other.
    let (second, third) = tokio::join!(one.beside(), one.beside());
    assert_eq!(second.is_some(), third.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_not_filled_while_another_server_deletes_it() {
    let Some((one, other)) = pair().await else { return };
    for round in 0..ROUNDS {
        let (top, below) = (format!("top-{round}"), format!("top-{round}/below"));
        let create = "mutation($path: String!) { createFolder(input: { path: $path }) { folder { id } } }";
        let delete = "mutation($path: String!) { deleteFolder(input: { folder: { path: $path }, recursive: true }) { folder { id } } }";
        one.gql(create, json!({ "path": top })).await;
        tokio::join!(one.ask(delete, json!({ "path": top })), other.ask(create, json!({ "path": below })));
        let query = "query($top: String!, $below: String!) { top: folder(path: $top) { id } below: folder(path: $below) { id } }";
        let left = one.gql(query, json!({ "top": top, "below": below })).await;
        assert!(
            left["below"].is_null() || !left["top"].is_null(),
            "round {round}: {below} lies in a folder that is in the trash"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_another_server_moves_it_is_told_where_it_lay_then() {
    let Some((one, other)) = pair().await else { return };
    let file = post_bytes(&one, b"the same").await;
    let make = "mutation($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { version { id } } }";
    let publish = "mutation($id: ID!) { publishVersion(input: { versionId: $id }) { version { state } } }";
    let move_folder = "mutation($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { oldPath } }";
    let move_asset = "mutation($asset: String!, $to: String!) { moveAsset(input: { asset: { path: $asset }, toFolder: { path: $to } }) { asset { path } } }";
    let variables = |path: &str| json!({ "path": path, "file": file });
    let old = one.gql(make, variables("f0/a")).await["createVersion"]["version"]["id"].take();
    let mut newer = one.gql(make, variables("f0/a")).await["createVersion"]["version"]["id"].take();
    let mut older = old;
    let mut folder = "f0".to_owned();
    for round in 1..=ROUNDS {
        let to = format!("f{round}");
        // The older one is published anew, while its folder, or it alone, goes elsewhere.
        let relocated = async {
            if round % 2 == 0 {
                other.ask(move_folder, json!({ "from": folder, "to": to })).await
            } else {
                other.ask(move_asset, json!({ "asset": format!("{folder}/a"), "to": to })).await
            }
        };
        let (published, relocated) = tokio::join!(one.ask(publish, json!({ "id": older })), relocated);
        assert!(relocated.get("errors").is_none(), "round {round}: {relocated}");
        assert!(published.get("errors").is_none(), "round {round}: {published}");
        (older, newer) = (newer, older);
        folder = to;
    }
    // Replayed, each entry of the asset is where the entries before it say that it lies.
    let mut at = String::new();
    for entry in one.changelog(200).await {
        let (kind, path) = (text(&entry["type"]), text(&entry["path"]));
        match kind {
            "ASSET_CREATE" | "ASSET_MOVE" => path.clone_into(&mut at),
            "FOLDER_MOVE" => at = at.replacen(text(&entry["oldPath"]), path, 1),
            "ASSET_PUBLISH" => assert_eq!(path, at, "{entry}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_show_the_first_assets_of_a_folder_at_once() {
    let Some((one, other)) = pair().await else { return };
    let file = post_bytes(&one, b"the same").await;
    let make = "mutation($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { asset { path } } }";
    for round in 0..ROUNDS {
        let folder = format!("shown-{round}");
        let create = "mutation($path: String!) { createFolder(input: { path: $path }) { folder { id } } }";
        one.gql(create, json!({ "path": folder })).await;
        let variables = |name: usize| json!({ "path": format!("{folder}/{name}"), "file": file });
        let answers = (0..6).map(|name| [&one, &other][name % 2].ask(make, variables(name)));
        for answer in join_all(answers).await {
            assert!(answer.get("errors").is_none(), "round {round}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_first_shown_in_a_folder_that_moves_is_found_where_it_is() {
    let Some((one, other)) = pair().await else { return };
    let file = post_bytes(&one, b"the same").await;
    let make = "mutation($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { asset { id } } }";
    let show = "mutation($id: ID!) { updateAsset(input: { asset: { id: $id }, visibility: PUBLIC }) { asset { path } } }";
    let relocate = "mutation($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { folder { path } } }";
    for round in 0..ROUNDS {
        let (from, to) = (format!("a-{round}/b"), format!("c-{round}/d/e"));
        let path = format!("{from}/f/g/asset");
        let asset = one.gql(make, json!({ "path": path, "file": file })).await;
        let id = asset["createVersion"]["asset"]["id"].clone();
        let hide = "mutation($id: ID!) { updateAsset(input: { asset: { id: $id }, visibility: PRIVATE }) { asset { path } } }";
        one.gql(hide, json!({ "id": id })).await;
        assert_eq!(one.wrongly_shown_after_sweep().await, None);
        let showing = async {
            let mut answer = one.ask(show, json!({ "id": id })).await;
            // Where another server moved the folder meanwhile, the client is told to try again: there is one such move.
            if answer["errors"][0]["extensions"]["code"] == "STORAGE_UNAVAILABLE" {
                answer = one.ask(show, json!({ "id": id })).await;
            }
            answer
        };
        let (shown, moved) = tokio::join!(showing, other.ask(relocate, json!({ "from": from, "to": to })));
        assert!(shown.get("errors").is_none(), "round {round}: {shown}");
        assert!(moved.get("errors").is_none(), "round {round}: {moved}");
        assert_eq!(one.wrongly_shown().await, None, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_is_moved_or_deleted_and_never_both() {
    let Some((one, other)) = pair().await else { return };
    let file = post_bytes(&one, b"the same").await;
    for round in 0..ROUNDS {
        let (from, to) = (format!("from-{round}"), format!("to-{round}"));
        let make = "mutation($path: String!, $file: ID!) { createVersion(input: { path: $path, storedFileId: $file }) { asset { id } } }";
        one.gql(make, json!({ "path": format!("{from}/a"), "file": file })).await;
        let delete =
            "mutation($path: String!) { deleteAssets(input: { folder: { path: $path } }) { deletedAssets } }";
        let relocate = "mutation($asset: String!, $to: String!) { moveAsset(input: { asset: { path: $asset }, toFolder: { path: $to } }) { asset { path } } }";
        let asset = format!("{from}/a");
        tokio::join!(
            one.ask(delete, json!({ "path": from })),
            other.ask(relocate, json!({ "asset": asset, "to": to }))
        );
        let query = "query($from: String!, $to: String!) { from: asset(path: $from) { id } to: asset(path: $to) { id deletedAt } }";
        let left = one.gql(query, json!({ "from": asset, "to": format!("{to}/a") })).await;
        assert!(left["from"].is_null(), "round {round}: it is gone from where it was");
        let moved = !left["to"].is_null();
        let trash = one.gql("{ trash(first: 200) { nodes { ... on Asset { path } } } }", json!({})).await;
        let trashed = trash["trash"]["nodes"].as_array().expect("nodes").iter();
        let trashed = trashed.filter(|node| text(&node["path"]).contains(&format!("-{round}/"))).count();
        assert_eq!(trashed, usize::from(!moved), "round {round}: {left} {trash}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_another_server_adopts_are_not_removed() {
    let Some((one, other)) = pair().await else { return };
    for round in 0..ROUNDS {
        let bytes = format!("the bytes of round {round}");
        let first = post_bytes(&one, bytes.as_bytes()).await;
        let delete = "mutation($id: ID!) { deleteStoredFile(input: { id: $id }) { deletedId } }";
        let (_, second) =
            tokio::join!(one.gql(delete, json!({ "id": first })), post_bytes(&other, bytes.as_bytes()));
        for server in [&one, &other] {
            gc::collect(&server.app).await.expect("collected");
        }
        let file =
            other.gql("query($id: ID!) { storedFile(id: $id) { url } }", json!({ "id": second })).await;
        let answer = other.get(text(&file["storedFile"]["url"]), &[]).await;
        assert_eq!(answer.status(), 200, "round {round}");
        assert_eq!(answer.text().await.expect("a text"), bytes);
    }
}
