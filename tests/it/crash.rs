//! A crash at any moment loses nothing that was acknowledged and leaves nothing behind.
//!
//! Several clients do what comes to their minds, each in a folder of its own beside its model, until the server is
//! killed. Started again, it has what each model has, with or without the one operation that was under way.
//! `VELLUM_TEST_CRASH_ROUNDS` says how often.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::json;
use tempfile::TempDir;

use crate::model::client::{Client, Failure};
use crate::model::library::{Library, Status};
use crate::model::operation::{self, At, If, Operation, Thing, Time};
use crate::model::{count, nothing_is_left};
use crate::support::{Process, TestServer, digests, text};

const CLIENTS: usize = 4;
const LONGEST_LIFE_MS: u64 = 300;

/// A client, and what it knows of its folder.
struct Journal {
    client: Client,
    /// After everything that was acknowledged.
    library: Library,
    /// With what was under way as well.
    attempted: Option<Library>,
}

impl Journal {
    async fn open(base: &str, top: &str) -> Self {
        let mut client = Client::open(base, top, "the same for all").await.expect("a folder");
        client.alone = false;
        Self { client, library: Library::new(), attempted: None }
    }

    /// Does one operation. False when the server went away meanwhile.
    async fn perform(&mut self, operation: &Operation) -> bool {
        for part in self.library.parts(operation) {
            let mut library = self.library.clone();
            library.step(&part);
            match self.client.step(&library).await {
                Ok(()) => self.library = library,
                Err(Failure::Away(_)) => {
                    self.attempted = Some(library);
                    return false;
                }
                Err(Failure::Differs(difference)) => panic!("{}: {difference}", self.client.ids.top),
            }
        }
        true
    }

    /// Does one thing after the other until the server is gone.
    async fn work(mut self) -> Self {
        let mut runner = TestRunner::default();
        loop {
            let operation = choose(&operation::any(&self.library, Time::Real), &mut runner);
            if !self.perform(&operation).await {
                return self;
            }
        }
    }

    /// Digest of a stored file that may be there, and whose id nobody was told.
    fn lost_file(&self) -> Option<String> {
        match self.attempted.as_ref()?.exchanges[0].operation {
            Operation::StoreFile { content } => Some(self.client.digest(content)),
            _ => None,
        }
    }

    /// Looks at what the server has now, and goes on from it.
    async fn settle(mut self, base: &str) -> Self {
        base.clone_into(&mut self.client.base);
        let mut before = self.client.clone();
        let without = before.check(&self.library).await;
        match (without, self.attempted.take()) {
            (Ok(()), _) => self.client = before,
            (Err(failure), None) => panic!("what was acknowledged is not there: {failure:?}"),
            (Err(without), Some(attempted)) => {
                self.client.expect_what_was_under_way(&attempted);
                if let Err(with) = self.client.check(&attempted).await {
                    let operation = &attempted.exchanges[0].operation;
                    panic!("half of {operation:?} is there.\nWithout it: {without:?}\nWith it: {with:?}");
                }
                self.library = attempted;
            }
        }
        self.client.check_urls(&self.library).await.expect("every URL answers right");
        self
    }

    /// No upload is stuck: each can be sent and finished, unless it is over.
    async fn finish_uploads(&mut self) {
        for upload in self.library.open_uploads() {
            if self.library.uploads[upload].status == Status::Created {
                let content = self.library.uploads[upload].declared.unwrap_or(0);
                assert!(self.perform(&Operation::SendBytes { upload, content }).await);
            }
            assert!(self.perform(&Operation::FinishUpload { upload }).await);
        }
        self.client.check(&self.library).await.expect("the model holds");
        self.client.check_urls(&self.library).await.expect("every URL answers right");
    }
}

fn choose<T: std::fmt::Debug>(strategy: &proptest::strategy::BoxedStrategy<T>, runner: &mut TestRunner) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

/// Works with several clients until the kill.
async fn work_until_killed(process: &mut Process, journals: Vec<Journal>, life: Duration) -> Vec<Journal> {
    let working: Vec<_> = journals.into_iter().map(|journal| tokio::spawn(journal.work())).collect();
    tokio::time::sleep(life).await;
    process.kill();
    let mut journals = Vec::new();
    for journal in working {
        journals.push(journal.await.expect("nothing differed"));
    }
    journals
}

/// Numbers of the changelog follow each other without a hole, from the first on.
struct Density {
    cursor: Option<String>,
    seq: u64,
}

impl Density {
    async fn check(&mut self, client: &Client) {
        let query = "query($after: String) { changes(first: 200, after: $after) {
            nodes { id } nextCursor pageInfo { hasNextPage } } }";
        loop {
            let page = client.gql(query, json!({ "after": self.cursor })).await.expect("a page");
            let page = &page["changes"];
            for node in page["nodes"].as_array().expect("nodes") {
                self.seq += 1;
                assert_eq!(text(&node["id"]), format!("change_{}", self.seq));
            }
            self.cursor = page["nextCursor"].as_str().map(ToOwned::to_owned);
            if page["pageInfo"]["hasNextPage"] == false {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_has_all_that_was_acknowledged_and_nothing_by_half() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut runner = TestRunner::default();
    let mut density = Density { cursor: None, seq: 0 };
    let mut lost = BTreeSet::new();
    for round in 0..count("VELLUM_TEST_CRASH_ROUNDS", 3) {
        let mut process = Process::serve(&data);
        let mut journals = Vec::new();
        for number in 0..CLIENTS {
            journals.push(Journal::open(&process.base, &format!("case-{round}-{number}")).await);
        }
        let life = Duration::from_millis(choose(&(0..LONGEST_LIFE_MS).boxed(), &mut runner));
        let journals = work_until_killed(&mut process, journals, life).await;
        let mut process = Process::serve(&data);
        for journal in journals {
            lost.extend(journal.lost_file());
            let mut journal = journal.settle(&process.base).await;
            density.check(&journal.client).await;
            journal.finish_uploads().await;
            journal.client.leave(&journal.library).await.expect("it lets go of all");
        }
        process.kill();
    }
    nothing_is_left(&TestServer::adopt(folder).await, &lost).await;
}

/// Does some things, starts the server anew so that it dies at `point`, does others until it is dead, and looks.
async fn dies_at(point: &str, before: &[Operation], until_dead: &[Operation]) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut process = Process::serve(&data);
    let mut journal = Journal::open(&process.base, "case").await;
    for operation in before {
        assert!(journal.perform(operation).await);
    }
    process.kill();
    let mut process = Process::serve_with(&data, &[("VELLUM_TEST_CRASH_AT", point)]);
    process.base.clone_into(&mut journal.client.base);
    for operation in until_dead {
        if !journal.perform(operation).await {
            break;
        }
    }
    assert!(!process.ended().await.success(), "it died");
    let mut process = Process::serve(&data);
    let mut journal = journal.settle(&process.base).await;
    Density { cursor: None, seq: 0 }.check(&journal.client).await;
    journal.finish_uploads().await;
    process.kill();
    nothing_but_what_is_needed(folder, &journal).await;
}

/// After a sweep the bytes in the data folder are those that versions and stored files have, each once.
async fn nothing_but_what_is_needed(folder: TempDir, journal: &Journal) {
    let server = TestServer::adopt(folder).await;
    server.clock.advance(3_600_000);
    server.sweep().await;
    let needed: BTreeSet<String> =
        journal.library.needed().into_iter().map(|content| journal.client.digest(content)).collect();
    assert_eq!(digests(&server.data().join("blobs")), needed.into_iter().collect::<Vec<_>>());
    assert_eq!(server.stored("staging"), [""; 0]);
}

fn upload(path: &str, content: usize) -> Operation {
    Operation::Upload { path: path.to_owned(), content, publish: true }
}

fn delete(asset: usize) -> Operation {
    Operation::DeleteAsset { asset: At::Id(asset), revision: If::Any }
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_after_the_row_of_an_upload_leaves_one_that_can_be_sent_or_expires() {
    dies_at("intent-row", &[upload("kept", 0)], &[upload("a/b", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_with_bytes_in_place_and_no_row_leaves_an_upload_that_can_be_finished() {
    dies_at("bytes-in-place", &[upload("kept", 0)], &[upload("a/b", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_with_bytes_in_place_that_were_there_before_takes_nothing_from_others() {
    dies_at("bytes-in-place", &[upload("kept", 1)], &[upload("a/b", 1), upload("a/c", 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_after_a_commit_that_nobody_heard_of_keeps_it() {
    let create = Operation::CreateFolder { path: "a/b".to_owned() };
    dies_at("after-commit", &[upload("kept", 0)], &[create]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_between_the_rows_and_the_bytes_of_a_purge_leaks_nothing() {
    let before = [upload("kept", 0), upload("a/b", 0), upload("a/b", 1), delete(1)];
    dies_at("purge-rows", &before, &[Operation::PurgeTrash { thing: Thing::Asset(1) }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_after_bytes_are_removed_and_before_that_is_noted_leaks_nothing() {
    let before = [upload("kept", 0), upload("a/b", 0), upload("a/b", 1), delete(1)];
    dies_at("gc-bytes", &before, &[Operation::PurgeTrash { thing: Thing::Asset(1) }]).await;
}
