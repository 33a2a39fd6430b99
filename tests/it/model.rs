//! No sequence of operations breaks the library: a state machine against a plain model.
//!
//! Each case works in a folder of its own of one server that all of them share. `VELLUM_TEST_CASES` says how many,
//! and `VELLUM_TEST_SEED` (a number) which: the same seed makes the same cases.

mod check;
pub mod client;
pub mod library;
pub mod operation;
mod replay;
mod request;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use proptest::strategy::{BoxedStrategy, Just, Strategy as _};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use serde_json::json;
use tokio::runtime::Runtime;

use vellum::config::Flags;

use crate::support::{TestServer, digests, text};
use client::{Checked, Client, Failure};
use library::Library;
use operation::{Operation, Time};

/// Steps between two looks at everything.
const STEPS_BETWEEN_CHECKS: usize = 4;

/// The model as proptest drives it.
struct Machine;

impl ReferenceStateMachine for Machine {
    type State = Library;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Library> {
        Just(Library::new()).boxed()
    }

    fn transitions(library: &Library) -> BoxedStrategy<Operation> {
        operation::any(library, Time::Movable)
    }

    fn apply(mut library: Library, operation: &Operation) -> Library {
        library.step(operation);
        library
    }
}

/// The server that all cases share.
struct World {
    runtime: Runtime,
    server: TestServer,
    cases: std::cell::Cell<usize>,
}

impl World {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let mut server = runtime.block_on(TestServer::with(Flags::default(), ""));
        server.token = Some(server.admin_token());
        Self { runtime, server, cases: std::cell::Cell::new(0) }
    }

    /// A client in a folder that no case had.
    async fn client(&self) -> Checked<Client> {
        let case = self.cases.get();
        self.cases.set(case + 1);
        let top = format!("case-{case}");
        let base = format!("http://{}", self.server.address);
        let client = Client::open_with(&base, &top, &top, self.server.token.as_deref()).await?;
        Ok(Client { clock: Some(self.server.clock.clone()), ..client })
    }

    /// Runs one case, and cleans up behind it.
    async fn run(&self, operations: &[Operation], seen: impl Fn()) -> Checked {
        let mut client = self.client().await?;
        let mut library = Library::new();
        for (index, operation) in operations.iter().enumerate() {
            seen();
            library.step(operation);
            client.step(&library).await?;
            if index % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1 {
                client.check(&library).await?;
                self.check_shown().await?;
            }
        }
        client.check(&library).await?;
        self.check_shown().await?;
        client.check_urls(&library).await?;
        client.check_past(&library).await?;
        client.leave(&library).await
    }

    async fn check_shown(&self) -> Checked {
        let wrong = self.server.wrongly_shown().await;
        wrong.map_or(Ok(()), |wrong| Err(Failure::Differs(format!("found by {wrong}"))))
    }
}

#[expect(clippy::disallowed_methods, reason = "the rule is for the product; this is for tests alone")]
pub fn count(variable: &str, default: u32) -> u32 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |count| count.parse().expect("a number"))
}

#[test]
fn every_sequence_of_operations_does_what_the_model_says() {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let lanes = u32::try_from(lanes).expect("it is small");
    let cases = count("VELLUM_TEST_CASES", 64).div_ceil(lanes);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|lane| scope.spawn(move || run_cases(lane, cases))).collect();
        for lane in lanes {
            if let Err(problem) = lane.join().expect("no other panic") {
                panic!("{problem}");
            }
        }
    });
}

/// Runs cases one after the other, on a server of their own; answers the shortest that fails.
fn run_cases(lane: u32, cases: u32) -> Result<(), String> {
    let world = World::start();
    let mut start = [0; 32];
    start[..4].copy_from_slice(&count("VELLUM_TEST_SEED", 1).to_le_bytes());
    start[4..8].copy_from_slice(&lane.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &start);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let sequences = Machine::sequential_strategy(5..=30);
    let result = TestRunner::new_with_rng(config, rng).run(&sequences, |(_, operations, seen)| {
        let seen = || {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        world.runtime.block_on(world.run(&operations, seen)).map_err(|failure| match failure {
            Failure::Differs(difference) => TestCaseError::fail(difference),
            Failure::Away(problem) => TestCaseError::fail(format!("no answer: {problem}")),
        })
    });
    result.map_err(|error| match error {
        TestError::Abort(reason) => format!("aborted: {reason}"),
        TestError::Fail(reason, (_, operations, _)) => readable(reason.message(), &operations),
    })?;
    world.runtime.block_on(nothing_is_left(&world.server, &BTreeSet::new()));
    Ok(())
}

/// What failed, and the steps to it, a line each.
fn readable(reason: &str, operations: &[Operation]) -> String {
    let mut said = format!("{reason}\nafter the steps\n");
    for (index, operation) in operations.iter().enumerate() {
        let _ = writeln!(said, "{:>4}. {operation:?}", index + 1);
    }
    said
}

/// Every case let go of all that it had, so no bytes are needed any more but those whose digests are given.
pub async fn nothing_is_left(server: &TestServer, but: &BTreeSet<String>) {
    server.clock.advance(3_600_000);
    assert_eq!(server.wrongly_shown_after_sweep().await, None);
    assert_eq!(server.stored("staging"), [""; 0]);
    let left = digests(&server.data().join("blobs"));
    let once: BTreeSet<_> = left.iter().cloned().collect();
    assert!(once.len() == left.len() && once.is_subset(but), "{left:?} is left");
    let empty = server.gql("{ assets { totalCount } trash { nodes { __typename } } }", json!({})).await;
    assert_eq!(empty, json!({ "assets": { "totalCount": 0 }, "trash": { "nodes": [] } }));
    let entries = server.changelog(200).await;
    assert!(entries.iter().all(|entry| text(&entry["path"]).starts_with("case-")), "each in its case");
}
