//! Members and groups on a clock that jumps, all from one seed: executions that take their time or fail, members that
//! are slow, come and go. The feed is the real one; what executes is a stand-in that answers with numbers.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_graphql::{Response, ServerError, Value, value};
use entity::change;
use futures_util::{StreamExt as _, stream};
use serde_json::Value as Json;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::group::Groups;
use super::{Events, Execute, Member, Payload, Place, Progress};
use crate::domain::actor::{Actor, Role};
use crate::domain::change::Leg;
use crate::domain::error::Error;
use crate::domain::scope::Scope;
use crate::domain::version::{Memory, TextBudget};
use crate::feed::{Feed, Follow, List, Log, Span};
use crate::graphql::{Operation, Params, document::Documents, sdl};

const CASES: u64 = 300;
const MEMBERS: usize = 8;
/// Longest silence that a subscriber has to bear.
const SILENCE: Duration = Duration::from_secs(30);

struct Uncounted;

impl Memory for Uncounted {
    fn hold(&self, _: u64) -> Result<Box<dyn Send + Sync>, Error> {
        Ok(Box::new(()))
    }
}

/// Numbers that follow from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Mostly short, sometimes long.
    fn pause(&mut self) -> Duration {
        let longest = [1, 10, 100, 2_000][usize::try_from(self.below(4)).expect("small")];
        Duration::from_millis(self.below(longest))
    }
}

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Entries whose numbers can be divided by it.
    Entries(i64),
    /// How far the log is, whenever such an entry is written.
    State(i64),
}

struct World {
    log: Arc<List>,
    feed: Feed,
    groups: Groups,
    subject: Subject,
    random: Mutex<Random>,
    calm: Mutex<bool>,
}

impl World {
    fn pause(&self) -> Duration {
        self.random.lock().expect("no panic").pause()
    }

    fn fails(&self) -> bool {
        let calm = *self.calm.lock().expect("no panic");
        self.random.lock().expect("no panic").below(40) == 0 && !calm
    }
}

/// A subscriber's way to executions: it began behind this number, or now.
#[derive(Clone)]
struct From {
    world: Arc<World>,
    after: Option<i64>,
}

impl Execute for From {
    fn events(&self, _: &Actor, _: &Operation, leg: Leg) -> Events {
        let world = Arc::clone(&self.world);
        let progress = Progress::new(leg);
        let start = leg.from.or(self.after).unwrap_or_else(|| world.log.newest());
        progress.begin(start);
        let (Subject::Entries(of) | Subject::State(of)) = world.subject;
        let wants = Box::new(move |entry: &change::Model| entry.seq % of == 0);
        let follow = Follow::new(&world.feed, Span { after: start, until: leg.until }, wants);
        let tell = leg.from.is_none() && matches!(world.subject, Subject::State(_));
        let execution = Execution { world, follow, progress: progress.clone(), seen: start, tell };
        let responses =
            stream::unfold(execution, |mut execution| async { Some((execution.next().await?, execution)) });
        Events::new(responses.boxed(), progress, TextBudget::of(Scope::All))
    }

    fn head(&self) -> i64 {
        self.world.feed.head()
    }

    fn groups(&self) -> &Groups {
        &self.world.groups
    }
}

struct Execution {
    world: Arc<World>,
    follow: Follow,
    progress: Progress,
    seen: i64,
    /// Whether the state is to be told at first.
    tell: bool,
}

impl Execution {
    async fn next(&mut self) -> Option<Response> {
        if std::mem::replace(&mut self.tell, false) {
            let place = Place { after: self.seen, first: None, seq: self.seen, as_of: Some(Instant::now()) };
            return Some(self.state(place).await);
        }
        loop {
            let batch = self.follow.next().await.expect("it can be read")?;
            let first = batch.entries.first().map(|entry| entry.seq);
            if let Subject::State(_) = self.world.subject {
                let Some(first) = first else { continue };
                let after = std::mem::replace(&mut self.seen, batch.seq);
                let as_of = Some(Instant::now());
                return Some(self.state(Place { after, first: Some(first), seq: batch.seq, as_of }).await);
            }
            self.progress.reach(Place { after: batch.after, first, seq: batch.seq, as_of: None });
            sleep(self.world.pause()).await;
            let seqs: Vec<Value> = batch.entries.iter().map(|entry| entry.seq.into()).collect();
            return Some(self.answer(value!({ "seqs": seqs, "cursor": (batch.seq) })));
        }
    }

    /// Reading and rendering take their time.
    async fn state(&self, place: Place) -> Response {
        self.progress.reach(place);
        sleep(self.world.pause()).await;
        let newest = self.world.log.newest();
        sleep(self.world.pause()).await;
        self.answer(value!({ "state": newest }))
    }

    fn answer(&self, data: Value) -> Response {
        let mut response = Response::new(data);
        if self.world.fails() {
            // Sometimes with what there is all the same.
            if self.world.pause() > Duration::from_millis(3) {
                response.data = Value::Null;
            }
            response.errors.push(ServerError::new("it failed", None));
        }
        response
    }
}

/// What a subscriber has seen.
#[derive(Default)]
struct Seen {
    seqs: Vec<i64>,
    cursor: Option<i64>,
    state: i64,
}

impl Seen {
    fn take(&mut self, payload: &Payload) {
        let answer: Json = serde_json::from_str(&payload.json).expect("JSON");
        let data = &answer["data"];
        if let Some(seqs) = data["seqs"].as_array() {
            self.seqs.extend(seqs.iter().map(|seq| seq.as_i64().expect("a number")));
            let cursor = data["cursor"].as_i64().expect("a cursor");
            assert!(self.cursor.is_none_or(|before| before <= cursor), "a cursor goes on");
            self.cursor = Some(cursor);
        }
        if let Some(state) = data["state"].as_i64() {
            assert!(self.state <= state, "a state goes back from {} to {state}", self.state);
            self.state = state;
        }
    }
}

/// Subscribes, again and again when it fails, until it has been quiet for long after the end.
async fn subscribe(world: Arc<World>, documents: Documents, after: Option<i64>, mut random: Random) -> Seen {
    let actor = Actor::subscribers(Role::Viewer);
    let mut seen = Seen { cursor: after, ..Seen::default() };
    loop {
        let from = From { world: Arc::clone(&world), after: seen.cursor };
        let params =
            Params { query: Some("subscription { changes { cursor } }".to_owned()), ..Params::default() };
        let Ok(operation) = documents.prepare(&params, &Uncounted) else { panic!("the document is valid") };
        let shared = operation.shared.clone().expect("it can be shared");
        let mut member = Member::new(from, &actor, operation, shared);
        loop {
            let calm = || *world.calm.lock().expect("no panic");
            let next = timeout(SILENCE, member.next()).await;
            let Ok(next) = next else {
                assert!(matches!(world.subject, Subject::State(_)), "nothing came for too long");
                if calm() {
                    return seen;
                }
                continue;
            };
            // It failed, or ended: subscribe again.
            let Some(payload) = next else { break };
            let quiet = seen.cursor.is_some_and(|cursor| cursor == world.log.newest());
            seen.take(&payload);
            if quiet && calm() {
                // A checkpoint after all was seen.
                return seen;
            }
            if random.below(6) == 0 {
                sleep(random.pause() * 4).await;
            }
            if random.below(12) == 0 && matches!(world.subject, Subject::Entries(_)) {
                break;
            }
        }
    }
}

fn play(seed: u64, documents: &Documents) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut random = Random(seed);
        let log = Arc::new(List::default());
        let subject = [Subject::Entries(1), Subject::Entries(7), Subject::State(1), Subject::State(5)]
            [usize::try_from(random.below(4)).expect("small")];
        let world = Arc::new(World {
            feed: Feed::open(Arc::clone(&log) as Arc<dyn Log>).await.expect("a feed"),
            log,
            groups: Groups::default(),
            subject,
            random: Mutex::new(Random(random.below(u64::MAX))),
            calm: Mutex::new(false),
        });
        let stop = CancellationToken::new();
        let tailer = spawn_local(world.feed.clone().tail(stop.clone()));
        let members: RefCell<Vec<(i64, JoinHandle<Seen>)>> = RefCell::default();
        for _ in 0..20 + random.below(40) {
            sleep(random.pause()).await;
            let end = world.log.commit(i64::try_from(1 + random.below(5)).expect("small"));
            world.feed.committed(end);
            if members.borrow().len() < MEMBERS && random.below(3) == 0 {
                let after = random.below(u64::try_from(end).expect("positive") + 1);
                let after = i64::try_from(after).expect("small");
                let own = Random(random.below(u64::MAX));
                let task = subscribe(Arc::clone(&world), documents.clone(), Some(after), own);
                members.borrow_mut().push((after, spawn_local(task)));
            }
        }
        *world.calm.lock().expect("no panic") = true;
        let newest = world.log.newest();
        let (Subject::Entries(of) | Subject::State(of)) = subject;
        for (after, member) in members.into_inner() {
            let Seen { seqs, state, .. } = member.await.expect("no panic");
            match subject {
                Subject::Entries(_) => {
                    let wanted: Vec<i64> = (after + 1..=newest).filter(|seq| seq % of == 0).collect();
                    assert_eq!(seqs, wanted, "each once, in order: {subject:?} after {after}");
                }
                Subject::State(_) => assert!(state >= newest - newest % of, "the last state is seen"),
            }
        }
        stop.cancel();
        tailer.await.expect("no panic");
    });
}

#[test]
fn members_of_a_group_see_what_they_would_have_seen_alone() {
    let limits =
        crate::config::Config::load(None, &crate::config::Flags::default()).expect("defaults").graphql;
    let documents = Documents::new(&sdl(), limits, None);
    for case in 0..CASES {
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(case, &documents)));
        assert!(played.is_ok(), "case {case} fails");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_noticed_and_waiting_for_one_is_not() {
    const LIMIT: Duration = Duration::from_secs(30);
    let place = Place { after: 0, first: None, seq: 1, as_of: None };
    let progress = Progress::new(Leg::default());
    progress.begin(1);
    assert!(timeout(LIMIT * 100, progress.overdue(LIMIT)).await.is_err(), "nothing happens");
    progress.reach(place);
    progress.answered();
    assert!(timeout(LIMIT * 100, progress.overdue(LIMIT)).await.is_err(), "it was answered");
    progress.reach(place);
    assert!(timeout(LIMIT / 2, progress.overdue(LIMIT)).await.is_err(), "there is time left");
    assert!(timeout(LIMIT * 2, progress.overdue(LIMIT)).await.is_ok());
}
