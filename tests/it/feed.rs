//! The changelog under concurrency, and subscribers that come and go.

mod fanout;
mod killed;
mod silent;
mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use vellum::config::Flags;
use vellum::domain::change::{self, Leg};

use crate::support::{Socket, TestServer, text};

const FOLLOW: &str =
    "subscription($after: String, $filter: ChangeFilter) { changes(after: $after, filter: $filter) {
    cursor changes { cursor type path oldPath versionNumber sha256 } } }";

/// Reads a subscription until it has seen `cursor`; answers the entries.
async fn read_until(socket: &mut Socket, cursor: &Value) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let mut batch = socket.event().await["changes"].take();
        seen.extend(batch["changes"].as_array().expect("changes").iter().cloned());
        if batch["cursor"] == *cursor || seen.last().is_some_and(|entry| entry["cursor"] == *cursor) {
            return seen;
        }
        let _ = batch.take();
    }
}

async fn head(server: &TestServer) -> Value {
    server.gql("{ headCursor }", json!({})).await["headCursor"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_leave_numbers_without_holes_and_one_feed_for_all() {
    let server = Arc::new(TestServer::start().await);
    let start = head(&server).await;
    let mut live = server.socket().await;
    live.subscribe("live", FOLLOW, json!({ "after": start })).await;
    let writers = (0..32).map(|writer| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { write(&server, writer).await })
    });
    for writer in writers {
        writer.await.expect("a writer");
    }
    let end = head(&server).await;
    let pages = server.changelog(7).await;
    let seen = read_until(&mut live, &end).await;
    assert_eq!(seen, pages, "the subscription and the pages are one log");
    let mut replay = server.socket().await;
    replay.subscribe("replay", FOLLOW, json!({ "after": start })).await;
    assert_eq!(read_until(&mut replay, &end).await, pages, "a replay is the same");

    let mut next: BTreeMap<String, i64> = BTreeMap::new();
    for entry in pages.iter().filter(|entry| entry["type"] == "ASSET_PUBLISH") {
        // Paths move, contents do not: the shared asset is the one whose versions are counted.
        if text(&entry["path"]).ends_with("/shared") {
            let number = next.entry("shared".to_owned()).or_default();
            *number += 1;
            assert_eq!(entry["versionNumber"], *number, "in order and without a hole");
        }
    }
    assert_eq!(next["shared"], 32);
    let query = "{ assets(first: 200) { nodes { path latestVersion { number } versions(first: 200) { nodes { number state } } } } }";
    let assets = server.gql(query, json!({})).await;
    for asset in assets["assets"]["nodes"].as_array().expect("assets") {
        let versions = asset["versions"]["nodes"].as_array().expect("versions");
        let mut numbers: Vec<i64> =
            versions.iter().map(|version| version["number"].as_i64().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..).take(numbers.len()).collect::<Vec<_>>(), "{asset}");
        let published = versions.iter().filter(|version| version["state"] == "PUBLISHED").count();
        assert_eq!(published, 1, "{asset}");
        assert_eq!(versions[0]["state"], "PUBLISHED", "the highest one");
    }
    assert_eq!(server.stored("staging").len(), 0);
}

/// One writer's work on a tree that all of them change.
async fn write(server: &TestServer, writer: usize) {
    let own = format!("tree/w{writer}/photo");
    let bytes = format!("by writer {writer}");
    server.upload(json!({ "path": own }), bytes.as_bytes()).await;
    server.upload(json!({ "path": "tree/shared" }), bytes.as_bytes()).await;
    let move_folder = "mutation($from: String!, $to: String!) {
        moveFolder(input: { folder: { path: $from }, toPath: $to }) { folder { path } } }";
    let to = format!("tree/g{}/w{writer}", writer % 4);
    server.gql(move_folder, json!({ "from": format!("tree/w{writer}"), "to": to })).await;
    server.upload(json!({ "path": format!("{to}/photo") }), format!("{bytes} again").as_bytes()).await;
    let url = format!("/assets/{to}/photo");
    let response = server.get(&url, &[]).await;
    assert_eq!(
        response.text().await.expect("a text"),
        format!("{bytes} again"),
        "what was answered is there"
    );
}

#[tokio::test]
async fn a_subscriber_that_drops_and_resumes_gets_exactly_what_it_missed() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    socket.subscribe("1", FOLLOW, json!({})).await;
    server.upload(json!({ "path": "before" }), b"x").await;
    let last = read_until(&mut socket, &head(&server).await).await.pop().expect("an entry")["cursor"].take();
    drop(socket);
    for number in 0..50 {
        server.upload(json!({ "path": format!("missed/{number}") }), b"x").await;
    }
    let mut socket = server.socket().await;
    socket.subscribe("2", FOLLOW, json!({ "after": last })).await;
    let missed = read_until(&mut socket, &head(&server).await).await;
    let expected: Vec<Value> = server.changelog(200).await.into_iter().skip(2).collect();
    assert_eq!(missed, expected);
    server.upload(json!({ "path": "live" }), b"x").await;
    let live = read_until(&mut socket, &head(&server).await).await;
    assert_eq!(live.len(), 2);
    assert_eq!(live[0]["path"], "live");
}

#[tokio::test]
async fn a_cursor_inside_what_one_mutation_wrote_resumes_inside_it() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/photo" }), b"x").await;
    let entries = server.changelog(200).await;
    let mut socket = server.socket().await;
    socket.subscribe("1", FOLLOW, json!({ "after": entries[1]["cursor"] })).await;
    let batch = socket.event().await["changes"].take();
    assert_eq!(batch["changes"].as_array().expect("changes").len(), 2);
    assert_eq!(batch["cursor"], entries[3]["cursor"]);
}

#[tokio::test]
async fn a_log_longer_than_memory_and_chunk_is_replayed_whole() {
    let server = TestServer::start().await;
    let app = server.app.clone();
    let actor = vellum::domain::actor::Actor::dev();
    let mut creating = Vec::new();
    for number in 0..5_000 {
        let (app, actor) = (app.clone(), actor.clone());
        creating.push(async move {
            let path = vellum::domain::path::TreePath::parse(&format!("n{number}"), "path").expect("a path");
            vellum::domain::folder::create(&app, &actor, vellum::domain::folder::NewFolder::At(path))
                .await
                .expect("made")
        });
    }
    futures_util::future::join_all(creating).await;
    let mut socket = server.socket().await;
    socket.subscribe("1", FOLLOW, json!({ "after": app.feed().encode(0) })).await;
    let seen = read_until(&mut socket, &head(&server).await).await;
    let cursors: Vec<String> = (1..=5_000).map(|seq| app.feed().encode(seq)).collect();
    let got: Vec<&str> = seen.iter().map(|entry| text(&entry["cursor"])).collect();
    assert_eq!(got, cursors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_mutation_wrote_is_never_split() {
    let server = TestServer::start().await;
    let mut live = server.socket().await;
    live.subscribe("live", FOLLOW, json!({ "after": server.app.feed().encode(0) })).await;
    let actor = vellum::domain::actor::Actor::dev();
    let creating = (0..200).map(|number| {
        let (app, actor) = (server.app.clone(), actor.clone());
        // 31 entries each, so that no power of ten ends where a mutation does.
        let path = format!("n{number}{}", "/d".repeat(30));
        async move {
            let path = vellum::domain::path::TreePath::parse(&path, "path").expect("a path");
            vellum::domain::folder::create(&app, &actor, vellum::domain::folder::NewFolder::At(path))
                .await
                .expect("made")
        }
    });
    let creating = futures_util::future::join_all(creating);
    let reading = async {
        let mut seen = 0;
        while seen < 200 * 31 {
            let batch = live.event().await["changes"].take();
            let entries = batch["changes"].as_array().expect("changes");
            assert_eq!(
                entries.len() % 31,
                0,
                "a batch of {} ends at {}",
                entries.len(),
                entries[entries.len() - 1]
            );
            seen += entries.len();
        }
    };
    tokio::join!(creating, reading);
}

#[tokio::test]
async fn an_entry_is_told_at_once_whatever_else_shares_its_commit() {
    let server = TestServer::start().await;
    let (app, actor) = (&server.app, vellum::domain::actor::Actor::dev());
    let everything = Box::new(|_: &_| true);
    let mut follow = change::follow(app, &actor, None, everything, Leg::default()).await.expect("a follower");
    for number in 0..20 {
        let path = vellum::domain::path::TreePath::parse(&format!("n{number}"), "path").expect("a path");
        let folder =
            vellum::domain::folder::create(app, &actor, vellum::domain::folder::NewFolder::At(path.clone()));
        // Done already when it runs, so it writes nothing; and it is the last of the commit.
        let nothing =
            vellum::domain::folder::create(app, &actor, vellum::domain::folder::NewFolder::At(path));
        let (made, again) = tokio::join!(folder, nothing);
        let seq = made.expect("made").changes[0].seq;
        assert!(again.expect("answered").changes.is_empty());
        let mut bell = app.feed().bell();
        assert!(*bell.borrow_and_update() >= seq, "the bell was rung for entry {seq}");
        assert_eq!(follow.next().await.expect("a batch").expect("more").seq, seq);
    }
}

#[tokio::test]
async fn a_live_filter_passes_what_the_same_filter_pages() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a/b/photo" }), b"x").await;
    let folder = server.gql("{ folder(path: \"a/b\") { id } }", json!({})).await["folder"]["id"].take();
    let start = server.app.feed().encode(0);
    let filters = [
        json!({ "folder": { "path": "a" } }),
        json!({ "folder": { "path": "a/b" } }),
        json!({ "folder": { "path": "a" }, "recursive": false }),
        json!({ "folder": { "path": "" }, "recursive": false }),
        json!({ "folder": { "path": "" } }),
        json!({ "folder": { "id": folder } }),
        json!({ "folder": { "id": folder }, "recursive": false }),
        json!({ "folder": { "id": "folder_00000000000000000000000000" }, "recursive": false }),
        json!({ "asset": { "path": "a/b/photo" } }),
        json!({ "types": ["ASSET_PUBLISH", "FOLDER_MOVE"] }),
    ];
    let move_folder = "mutation($from: String!, $to: String!) { moveFolder(input: { folder: { path: $from }, toPath: $to }) { oldPath } }";
    server.gql(move_folder, json!({ "from": "a", "to": "z/a" })).await;
    server.upload(json!({ "path": "a/b/photo" }), b"y").await;
    server.upload(json!({ "path": "z/a/b/photo" }), b"z").await;
    server.upload(json!({ "path": "top" }), b"t").await;
    for path in ["", "z", "z/a"] {
        let update = "mutation($path: String!) { updateFolder(input: { folder: { path: $path }, title: \"T\" }) { folder { title } } }";
        server.gql(update, json!({ "path": path })).await;
    }
    let page = "query($filter: ChangeFilter) { changes(first: 200, filter: $filter) { nodes { cursor } } }";
    for filter in filters {
        let pages = server.gql(page, json!({ "filter": filter })).await["changes"]["nodes"].take();
        let last = pages.as_array().and_then(|nodes| nodes.last()).expect("some")["cursor"].clone();
        let mut socket = server.socket().await;
        socket.subscribe("1", FOLLOW, json!({ "after": start, "filter": filter })).await;
        let live = read_until(&mut socket, &last).await;
        let live: Vec<Value> = live.into_iter().map(|entry| json!({ "cursor": entry["cursor"] })).collect();
        assert_eq!(Value::Array(live), pages, "{filter}");
    }
}

#[tokio::test]
async fn old_entries_are_forgotten_and_those_who_ask_for_them_are_told() {
    let server =
        TestServer::with(Flags { dev: true, ..Flags::default() }, "changelog_ttl_seconds = 3600").await;
    let create = "mutation($path: String!) { createFolder(input: { path: $path }) { folder { id } } }";
    let start = head(&server).await;
    for number in 0..700 {
        server.gql(create, json!({ "path": format!("old/{number}") })).await;
    }
    let old = head(&server).await;
    let then =
        server.gql("{ changes(first: 1) { nodes { at } } }", json!({})).await["changes"]["nodes"][0]["at"]
            .take();
    server.clock.advance(3_601_000);
    server.gql(create, json!({ "path": "new" })).await;
    assert_eq!(change::forget_old(&server.app).await.expect("forgotten"), 701);
    assert_eq!(change::forget_old(&server.app).await.expect("forgotten"), 0, "it is done");
    let kept = server.changelog(7).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["path"], "new");
    let query = "query($after: String) { changes(after: $after) { nodes { path } } }";
    server.refuses(query, json!({ "after": start }), "CURSOR_EXPIRED", None).await;
    assert_eq!(server.gql(query, json!({ "after": old })).await["changes"]["nodes"][0]["path"], "new");
    let at = "query($at: DateTime!) { folder(path: \"old\", at: { time: $at }) { id } }";
    server.refuses(at, json!({ "at": then }), "CURSOR_EXPIRED", None).await;
    let mut socket = server.socket().await;
    socket.subscribe("late", FOLLOW, json!({ "after": start })).await;
    let answer = socket.next().await;
    assert_eq!(
        (&answer["type"], &answer["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("CURSOR_EXPIRED"))
    );
    socket.subscribe("resumed", FOLLOW, json!({ "after": old })).await;
    assert_eq!(socket.event().await["changes"]["changes"][0]["path"], "new");
    let left = "query { folder(path: \"old\") { changes(first: 5) { nodes { path } } } }";
    assert_eq!(server.gql(left, json!({})).await["folder"]["changes"]["nodes"], json!([]));
}
