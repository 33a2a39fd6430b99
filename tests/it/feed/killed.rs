//! Servers and their database are killed while clients write and follow. What was acknowledged is in the changelog,
//! once; who followed, here and there, saw each entry once and in order.
//!
//! On PostgreSQL there are two servers and the database is killed as well; on SQLite one server. The other clients do
//! not wait for the one that is down. `VELLUM_TEST_CRASH_ROUNDS` says how often.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reqwest::Client;
use serde_json::{Value, json};

use crate::model::count;
use crate::support::{Cluster, Process, Socket, on_postgres, text};

const WRITERS: usize = 6;
const FOLLOWERS: usize = 4;
/// Longest time from one kill to the next.
const LONGEST_LIFE_MS: usize = 600;

const FOLLOW: &str = "subscription($after: String) { changes(after: $after) { cursor changes { id } } }";
const VERSION: &str = "mutation($path: String!, $file: ID!) {
    createVersion(input: { path: $path, storedFileId: $file }) { version { number } changes { id } } }";
const FOLDER: &str = "mutation($path: String!) { createFolder(input: { path: $path }) { changes { id } } }";

/// Where the servers are at the moment.
struct Addresses(Mutex<Vec<String>>);

impl Addresses {
    fn any(&self) -> String {
        let addresses = self.0.lock().expect("no panic");
        let index = pick(0..addresses.len());
        addresses[index].clone()
    }
}

/// A number that nobody foresees.
fn pick(range: std::ops::Range<usize>) -> usize {
    range.new_tree(&mut TestRunner::default()).expect("a number").current()
}

fn pause(longest_ms: usize) -> Duration {
    Duration::from_millis(u64::try_from(pick(0..longest_ms)).expect("small"))
}

/// What was acknowledged: what each entry has to be about, by its id.
type Journal = HashMap<String, String>;

async fn ask(client: &Client, base: &str, query: &str, variables: Value) -> Option<Value> {
    let body = json!({ "query": query, "variables": variables });
    let request = client.post(format!("{base}/graphql")).json(&body).timeout(Duration::from_secs(20));
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    if let Some(error) = answer["errors"].get(0) {
        let code = &error["extensions"]["code"];
        // What a client sends again.
        assert_eq!(code, "STORAGE_UNAVAILABLE", "{answer}");
        return None;
    }
    Some(answer["data"].clone())
}

/// Writes until it is told to stop.
async fn write(servers: Arc<Addresses>, file: String, writer: usize, stop: Arc<AtomicBool>) -> Journal {
    let client = Client::new();
    let mut journal = Journal::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let base = servers.any();
        let (path, done) = if number % 4 == 0 {
            let path = format!("folder-{writer}-{number}");
            let answer = ask(&client, &base, FOLDER, json!({ "path": path })).await;
            (path, answer.map(|mut answer| answer["createFolder"].take()))
        } else {
            // Assets that several write to, and one that is its own.
            let path = if number % 4 == 1 { "shared".to_owned() } else { format!("own-{writer}") };
            let answer = ask(&client, &base, VERSION, json!({ "path": path, "file": file })).await;
            (path, answer.map(|mut answer| answer["createVersion"].take()))
        };
        match done {
            Some(answer) => {
                for change in answer["changes"].as_array().expect("changes") {
                    let what = format!("{path} {}", answer["version"]["number"]);
                    let twice = journal.insert(text(&change["id"]).to_owned(), what);
                    assert!(twice.is_none(), "an entry was acknowledged twice");
                }
            }
            // It is down, or its database is.
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    journal
}

/// Follows from the beginning until it saw `end`, going elsewhere whenever it is cut off.
async fn follow(servers: Arc<Addresses>, start: String, end: Arc<Mutex<Option<String>>>) -> Vec<String> {
    let (mut cursor, mut seen) = (start, Vec::new());
    let over = |cursor: &str| end.lock().expect("no panic").as_deref() == Some(cursor);
    while !over(&cursor) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let base = servers.any();
        let address = base.trim_start_matches("http://");
        let Some(mut socket) = Socket::try_connect(address).await else { continue };
        let payload = json!({ "query": FOLLOW, "variables": { "after": cursor } });
        let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
        if socket.try_send(subscribe).await.is_none() {
            continue;
        }
        // Sometimes it leaves by itself.
        let batches = pick(1..60);
        for _ in 0..batches {
            if over(&cursor) {
                break;
            }
            let waiting = tokio::time::timeout(Duration::from_millis(300), socket.try_next());
            let Ok(next) = waiting.await else { break };
            let Some(batch) =
                next.filter(|next| next["type"] == "next" && next["payload"]["errors"].is_null())
            else {
                break;
            };
            let batch = &batch["payload"]["data"]["changes"];
            let entries = batch["changes"].as_array().expect("changes").iter();
            seen.extend(entries.map(|entry| text(&entry["id"]).to_owned()));
            text(&batch["cursor"]).clone_into(&mut cursor);
        }
    }
    seen
}

/// The whole changelog, with what each entry is about.
async fn changelog(base: &str) -> (Vec<(String, String)>, String) {
    let client = Client::new();
    let query = "query($after: String) { changes(first: 200, after: $after) {
        nodes { id path versionNumber } nextCursor pageInfo { hasNextPage } } }";
    let (mut entries, mut after) = (Vec::new(), Value::Null);
    loop {
        let answer = ask(&client, base, query, json!({ "after": after })).await.expect("a page");
        let page = &answer["changes"];
        entries.extend(page["nodes"].as_array().expect("nodes").iter().map(|node| {
            (text(&node["id"]).to_owned(), format!("{} {}", text(&node["path"]), node["versionNumber"]))
        }));
        after = page["nextCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            return (entries, text(&after).to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_told_once_whatever_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let cluster = if on_postgres() { Some(Cluster::start().await) } else { None };
    let url = cluster.as_ref().map(Cluster::url);
    let settings: Vec<(&str, &str)> = url.iter().map(|url| ("VELLUM_DATABASE_URL", url.as_str())).collect();
    let start = || Process::serve_with(&data, &settings);
    let mut processes: Vec<Process> = (0..if cluster.is_some() { 2 } else { 1 }).map(|_| start()).collect();
    let bases = processes.iter().map(|process| process.base.clone()).collect();
    let servers = Arc::new(Addresses(Mutex::new(bases)));

    let client = Client::new();
    let base = servers.any();
    let target = ask(&client, &base, "mutation { generateUploadUrl { url } }", json!({})).await.expect("up");
    let sent = client.post(text(&target["generateUploadUrl"]["url"])).body("the same for all").send().await;
    let file: Value = sent.expect("sent").json().await.expect("JSON");
    let file = text(&file["storageId"]).to_owned();
    let head = ask(&client, &base, "{ headCursor }", json!({})).await.expect("up");
    let beginning = text(&head["headCursor"]).to_owned();

    let stop = Arc::new(AtomicBool::new(false));
    let end = Arc::new(Mutex::new(None));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(Arc::clone(&servers), file.clone(), writer, Arc::clone(&stop))))
        .collect();
    let followers: Vec<_> = (0..FOLLOWERS)
        .map(|_| tokio::spawn(follow(Arc::clone(&servers), beginning.clone(), Arc::clone(&end))))
        .collect();
    for _ in 0..count("VELLUM_TEST_CRASH_ROUNDS", 3) {
        tokio::time::sleep(pause(LONGEST_LIFE_MS)).await;
        let victim = pick(0..processes.len() + usize::from(cluster.is_some()));
        match (processes.get_mut(victim), &cluster) {
            (Some(process), _) => {
                process.kill();
                *process = tokio::task::block_in_place(start);
                servers.0.lock().expect("no panic")[victim].clone_from(&process.base);
            }
            (None, Some(cluster)) => {
                tokio::task::block_in_place(|| cluster.kill());
                tokio::time::sleep(pause(LONGEST_LIFE_MS / 2)).await;
                cluster.begin().await;
            }
            (None, None) => unreachable!("there are no others"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Journal::new();
    for writer in writers {
        for (id, what) in writer.await.expect("a writer") {
            assert!(acknowledged.insert(id, what).is_none(), "an entry was acknowledged to two");
        }
    }
    let (log, newest) = changelog(&servers.any()).await;
    *end.lock().expect("no panic") = Some(newest);
    let dense: Vec<String> = (1..=log.len()).map(|seq| format!("change_{seq}")).collect();
    let ids: Vec<String> = log.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, dense, "without a hole");
    let told: HashMap<_, _> = log.into_iter().collect();
    assert!(!acknowledged.is_empty(), "something was done");
    for (id, what) in &acknowledged {
        let told = told.get(id).unwrap_or_else(|| panic!("{id}, which tells of {what}, is missing"));
        // An asset that is made has an entry without a version beside the one with it.
        let path = what.split(' ').next().expect("a path");
        assert!(told == what || *told == format!("{path} null"), "{id} tells of {told}, not of {what}");
    }
    for follower in followers {
        assert_eq!(follower.await.expect("a follower"), ids, "each entry once, in order");
    }
}
