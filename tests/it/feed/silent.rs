//! A subscriber that reads nothing while much happens costs the server no memory, and gets all of it afterwards.
//! `VELLUM_TEST_SILENT_ENTRIES` says how much happens.

use reqwest::Client;
use serde_json::{Value, json};

use crate::model::count;
use crate::support::{Process, Socket};

/// Operations in one request.
const AT_ONCE: u32 = 500;
/// How often each path is asked for, and how long it is: an entry comes to 10 KB.
const TIMES: usize = 40;
const LENGTH: usize = 250;
/// What memory may grow by, in KiB, from the first third on, when the caches of the database are full: far less than
/// what passes then.
const ROOM_KIB: u64 = 24 * 1024;

async fn ask(client: &Client, process: &Process, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let answer = client.post(format!("{}/graphql", process.base)).json(&body).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("JSON");
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"].clone()
}

/// Reads until it saw so many entries, each in its turn.
async fn read(socket: &mut Socket, entries: u32) {
    let mut seen = 0;
    while seen < entries {
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
    let mut memory = 0;
    for batch in 0..batches {
        let operations: Vec<Value> = (0..AT_ONCE)
            .map(|number| {
                let name = format!("{batch}-{number}-");
                json!({ "createFolder": { "path": format!("{name}{}", "x".repeat(LENGTH - name.len())) } })
            })
            .collect();
        ask(&client, &process, apply, json!({ "operations": operations })).await;
        if batch == batches / 3 {
            memory = process.memory_kib();
        }
    }
    let _live = reading.await.expect("it reads all while the other one reads nothing");
    let grown = process.memory_kib().saturating_sub(memory);
    assert!(grown < ROOM_KIB, "memory grew by {grown} KiB while {entries} entries passed");
    read(&mut silent, entries).await;
}
