//! A subscriber that reads nothing while much happens costs the server no memory, and gets all of it afterwards.
//! `VELLUM_TEST_SILENT_ENTRIES` says how much happens.

use reqwest::Client;
use serde_json::{Value, json};

use crate::model::count;
use crate::support::{Process, Socket};

/// Operations in one request.
const AT_ONCE: u32 = 250;
/// How often each path is asked for, and how long its four segments are: an entry comes to 10 KB.
const TIMES: usize = 10;
const LENGTH: usize = 250;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// What memory may grow by, in KiB, between the median of the first third and that of the last. Nearly twice that
/// passes meanwhile.
const ROOM_KIB: u64 = 24 * 1024;

async fn ask(client: &Client, process: &Process, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let answer = client.post(format!("{}/graphql", process.base)).json(&body).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("JSON");
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"].clone()
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Reads until it saw so many entries, each in its turn.
async fn read(socket: &mut Socket, entries: u32) {
    // The folder's own entries came before.
    let mut seen = NAMES.len();
    let last = seen + entries as usize;
    while seen < last {
        let batch = socket.text().await;
        for entry in batch.split("\"id\":\"change_").skip(1) {
            seen += 1;
            let number = entry.split('"').next().expect("a number");
            assert_eq!(number, seen.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_reads_nothing_holds_up_nobody_and_gets_all() {
    let entries = count("VELLUM_TEST_SILENT_ENTRIES", 6_000).next_multiple_of(3 * AT_ONCE);
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(&folder.path().join("data"));
    let address = process.base.trim_start_matches("http://").to_owned();
    let client = Client::new();
    let path = NAMES.map(|name| name.repeat(LENGTH)).join("/");
    let create = "mutation($path: String!) { createFolder(input: { path: $path }) { changes { id } } }";
    ask(&client, &process, create, json!({ "path": path })).await;
    let head = ask(&client, &process, "{ headCursor }", json!({})).await["headCursor"].take();

    // Both are members of one group.
    let paths: Vec<String> = (0..TIMES).map(|number| format!("p{number}: path")).collect();
    let follow = format!(
        "subscription($after: String) {{ changes(after: $after) {{ changes {{ id {} }} }} }}",
        paths.join(" ")
    );
    let mut silent = Socket::connect(&address, "graphql-transport-ws").await;
    silent.subscribe("1", &follow, json!({ "after": head })).await;
    let mut live = Socket::connect(&address, "graphql-transport-ws").await;
    live.subscribe("1", &follow, json!({ "after": head })).await;
    let apply = "mutation($operations: [Operation!]!) { applyChanges(input: { operations: $operations }) { changes { id } } }";
    let batches = entries / AT_ONCE;
    let reading = tokio::spawn(async move {
        read(&mut live, entries).await;
        live
    });
    let mut memory = Vec::new();
    for batch in 0..batches {
        let operations: Vec<Value> = (0..AT_ONCE)
            .map(|number| {
                let title = format!("{batch}-{number}");
                json!({ "updateFolder": { "folder": { "path": path }, "title": title } })
            })
            .collect();
        ask(&client, &process, apply, json!({ "operations": operations })).await;
        memory.push(process.memory_kib());
    }
    let _live = reading.await.expect("it reads all while the other one reads nothing");
    let third = memory.len() / 3;
    let first = median(&memory[..third]);
    let last = median(&memory[memory.len() - third..]);
    let grown = last.saturating_sub(first);
    assert!(grown < ROOM_KIB, "memory grew by {grown} KiB while {entries} entries passed: {memory:?}");
    read(&mut silent, entries).await;
}
