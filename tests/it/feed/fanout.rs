//! Many who subscribe to the same: one execution for all of them, and for each what it would have got alone.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{FOLLOW, head, read_until};
use crate::support::{Socket, TestServer, text};

const CREATE: &str = "mutation($path: String!) { createFolder(input: { path: $path }) { created } }";
const SUBSCRIBERS: usize = 40;

/// Statements that the server ran while `subscribers`, who all get it, were told of one entry.
async fn statements_of_an_entry(server: &TestServer, subscribers: &mut [Socket], path: &str) -> u64 {
    let before = server.app.database().statements();
    server.gql(CREATE, json!({ "path": path })).await;
    for subscriber in subscribers {
        // Who began earlier has some more to read at first.
        let is_it = |batch: &Value| {
            let entries = batch["changes"]["changes"].as_array().expect("entries");
            entries.iter().any(|entry| entry["path"] == path)
        };
        while !is_it(&subscriber.event().await) {}
    }
    server.app.database().statements() - before
}

#[tokio::test]
async fn those_who_subscribe_to_the_same_share_one_execution_wherever_they_began() {
    let server = TestServer::start().await;
    server.gql(CREATE, json!({ "path": "before" })).await;
    let early = head(&server).await;
    server.gql(CREATE, json!({ "path": "between" })).await;
    let start = head(&server).await;
    // What is asked of an entry has to be fetched. Documents that differ in where they begin alone are the same.
    let fields = "{ cursor changes { path folder { title revision createdAt } } }";
    let by_variable =
        format!("subscription S($from: String) {{ changes(after: $from, filter: {{}}) {fields} }}");
    let by_text = format!("subscription S {{ changes(after: {start}, filter: {{}}) {fields} }}");
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let mut socket = server.socket().await;
        let (query, from) = match number % 3 {
            0 => (&by_variable, json!({ "from": start })),
            1 => (&by_variable, json!({ "from": early })),
            _ => (&by_text, json!({})),
        };
        socket.subscribe("1", query, from).await;
        subscribers.push(socket);
    }
    // All have begun once they are told of something.
    statements_of_an_entry(&server, &mut subscribers, "first").await;
    let (mut one, mut all) = (u64::MAX, u64::MAX);
    for round in 0..5 {
        let path = format!("all-{round}");
        all = all.min(statements_of_an_entry(&server, &mut subscribers, &path).await);
    }
    subscribers.truncate(1);
    for round in 0..5 {
        let path = format!("one-{round}");
        one = one.min(statements_of_an_entry(&server, &mut subscribers, &path).await);
    }
    // The tailer may look once more meanwhile; forty executions would be forty statements more.
    assert!(all <= one + 4, "{all} statements for {SUBSCRIBERS} subscribers, {one} for one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_who_come_and_go_at_any_cursor_each_get_every_entry_once() {
    let server = Arc::new(TestServer::start().await);
    let start = head(&server).await;
    let mut runner = TestRunner::deterministic();
    let mut pick = move |end: usize| (0..end).new_tree(&mut runner).expect("a number").current();
    let writing = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for number in 0..150 {
                // Four entries each, so that a batch that is cut shows.
                let path = format!("n{number}/a/b/c");
                server.gql(CREATE, json!({ "path": path })).await;
            }
        })
    };
    let mut known = vec![start];
    let mut members = Vec::new();
    while !writing.is_finished() {
        let from = known[pick(known.len())].clone();
        let mut socket = server.socket().await;
        socket.subscribe("1", FOLLOW, json!({ "after": from })).await;
        known.push(head(&server).await);
        members.push((from, socket));
        if members.len() > 12 {
            members.swap_remove(pick(members.len()));
        }
    }
    writing.await.expect("all is written");
    let end = head(&server).await;
    let log = server.changelog(200).await;
    for (from, mut socket) in members {
        let seen = read_until(&mut socket, &end).await;
        let position = log.iter().position(|entry| entry["cursor"] == from).map_or(0, |index| index + 1);
        assert_eq!(seen, log[position..], "from {from}");
    }
}

#[tokio::test]
async fn a_live_query_shows_who_comes_late_the_present_and_all_what_follows() {
    let server = TestServer::start().await;
    let live = "subscription { asset(path: \"a/hero\") { path publishedVersion { number } } }";
    let number = |event: &Value| event["asset"]["publishedVersion"]["number"].clone();
    let mut early = server.socket().await;
    early.subscribe("1", live, json!({})).await;
    assert!(early.event().await["asset"].is_null());
    let upload = async || server.upload(json!({ "path": "a/hero" }), b"x").await;
    upload().await;
    assert_eq!(number(&early.event().await), 1);
    let mut late = server.socket().await;
    late.subscribe("1", live, json!({})).await;
    assert_eq!(number(&late.event().await), 1);
    for expected in 2..5 {
        upload().await;
        assert_eq!(number(&early.event().await), expected);
        assert_eq!(number(&late.event().await), expected);
    }
    let rename = "mutation { renameAsset(input: { asset: { path: \"a/hero\" }, newName: \"old\" }) { asset { path } } }";
    server.gql(rename, json!({})).await;
    for socket in [&mut early, &mut late] {
        assert!(socket.event().await["asset"].is_null());
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_used_ends_the_subscription_with_its_code() {
    let server = TestServer::start().await;
    let elsewhere = TestServer::start().await;
    server.gql(CREATE, json!({ "path": "a" })).await;
    let foreign = head(&elsewhere).await;
    let ahead = server.app.feed().encode(99);
    let mut member = server.socket().await;
    member.subscribe("1", FOLLOW, json!({})).await;
    let mut socket = server.socket().await;
    for (after, code) in [
        ("nonsense", "BAD_USER_INPUT"),
        (text(&foreign), "CURSOR_EXPIRED"),
        (ahead.as_str(), "CURSOR_EXPIRED"),
    ] {
        socket.subscribe("1", FOLLOW, json!({ "after": after })).await;
        let answer = socket.next().await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!("1")));
        assert_eq!(answer["payload"][0]["extensions"]["code"], code, "{answer}");
        assert_eq!(answer["payload"][0]["path"], json!(["changes"]), "{answer}");
    }
    // A filter that names nothing gets nothing, and no error.
    let nothing = json!({ "filter": { "asset": { "path": "no/such" } } });
    socket.subscribe("2", FOLLOW, nothing).await;
    server.gql(CREATE, json!({ "path": "b" })).await;
    assert_eq!(member.event().await["changes"]["changes"][0]["path"], "b", "nobody else notices");
}
