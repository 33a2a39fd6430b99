//! Tailers and followers of several servers on a clock that jumps, all from one seed: reads that are slow or fail,
//! hints that are lost, late or come twice, old entries that are forgotten, followers that are dropped at any await,
//! servers that die at any await. Each follower has to see each entry that it wants once, in order.
//!
//! The log is a list in memory, since a real database knows no other clock; what is on trial is the code that reads
//! it. `VELLUM_TEST_CASES` says how many cases, `VELLUM_TEST_SEED` which.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use entity::change::{self, ChangeType};
use entity::{Actor, ActorKind, Timestamp, changelog_head};
use sea_orm::DbErr;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use vellum::feed::{Batch, Feed, Follow, FollowError, Log, Span};

use crate::model::count;

const SERVERS: usize = 3;
const FOLLOWERS: usize = 8;
const KINDS: [ChangeType; 3] = [ChangeType::AssetPublish, ChangeType::FolderMove, ChangeType::AssetDelete];
/// Longest time, on that clock, until all followers have all once nothing goes astray any more: shorter than until the
/// next checkpoint, which would hide that one was not woken.
const PATIENCE: Duration = Duration::from_secs(15);

/// Numbers that follow from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// Mostly short, sometimes long.
    fn pause(&mut self) -> Duration {
        let longest = [1, 20, 200, 3_000][usize::try_from(self.below(4)).expect("small")];
        Duration::from_millis(self.below(longest))
    }

    fn fork(&mut self) -> Self {
        Self(self.number())
    }
}

/// What stands for the tables.
struct List(Mutex<Contents>);

struct Contents {
    random: Random,
    entries: Vec<Arc<change::Model>>,
    floor: i64,
    calm: bool,
}

impl List {
    fn head(&self) -> i64 {
        self.0.lock().expect("no panic").entries.last().map_or(0, |entry| entry.seq)
    }

    fn floor(&self) -> i64 {
        self.0.lock().expect("no panic").floor
    }

    /// How a read goes: how long before and after it sees the rows, and whether it fails.
    fn fate(&self) -> (Duration, Duration, bool) {
        let mut contents = self.0.lock().expect("no panic");
        if contents.calm {
            return (Duration::ZERO, Duration::ZERO, false);
        }
        (contents.random.pause(), contents.random.pause(), contents.random.one_in(12))
    }

    async fn slowly<T>(&self, look: impl FnOnce(&Contents) -> T + Send) -> Result<T, DbErr>
    where
        T: Send,
    {
        let (before, after, fails) = self.fate();
        sleep(before).await;
        if fails {
            return Err(DbErr::Custom("the database is away".to_owned()));
        }
        let seen = look(&self.0.lock().expect("no panic"));
        sleep(after).await;
        Ok(seen)
    }
}

#[async_trait]
impl Log for List {
    async fn head(&self) -> Result<changelog_head::Model, DbErr> {
        self.slowly(|contents| changelog_head::Model {
            id: 1,
            epoch: uuid::Uuid::from_u128(1),
            last_seq: contents.entries.last().map_or(0, |entry| entry.seq),
            floor_seq: contents.floor,
        })
        .await
    }

    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr> {
        self.slowly(|contents| {
            let kept = contents.entries.iter().filter(|entry| entry.seq > after.max(contents.floor));
            kept.take(limit).cloned().collect()
        })
        .await
    }
}

fn entry(seq: i64, batch_end_seq: i64, kind: ChangeType) -> Arc<change::Model> {
    Arc::new(change::Model {
        seq,
        batch_end_seq,
        kind,
        at: Timestamp(seq),
        actor: Actor { kind: ActorKind::System, id: "writer".to_owned(), name: None },
        path: String::new(),
        old_path: None,
        folder_id: None,
        asset_id: None,
        version_id: None,
        version_number: None,
        content_type: None,
        size_bytes: None,
        sha256: None,
        folder_ids: Vec::new(),
        direct_folders: 0,
    })
}

/// A server: its feed, and the task that reads for it. It may be none for a while.
#[derive(Default)]
struct Server {
    feed: Option<Feed>,
    tailer: Option<JoinHandle<()>>,
    /// Ends with the process.
    alive: CancellationToken,
}

impl Server {
    /// Its feed, with what tells that it is no more.
    fn there(&self) -> Option<(Feed, CancellationToken)> {
        Some((self.feed.clone()?, self.alive.clone()))
    }
}

/// All that a case consists of.
struct World {
    log: Arc<List>,
    servers: [RefCell<Server>; SERVERS],
    trace: RefCell<DefaultHasher>,
}

impl World {
    fn note(&self, what: &impl std::hash::Hash) {
        what.hash(&mut *self.trace.borrow_mut());
    }

    async fn start(&self, index: usize) {
        loop {
            let log: Arc<dyn Log> = Arc::clone(&self.log) as _;
            let Ok(feed) = Feed::open(log).await else { continue };
            let alive = CancellationToken::new();
            let tailer = Some(spawn_local(feed.clone().tail(alive.clone())));
            *self.servers[index].borrow_mut() = Server { feed: Some(feed), tailer, alive };
            return;
        }
    }

    fn kill(&self, index: usize) {
        let mut server = self.servers[index].borrow_mut();
        server.feed = None;
        server.alive.cancel();
        if let Some(tailer) = server.tailer.take() {
            tailer.abort();
        }
    }

    /// A server that is there, with what tells that it is no more.
    async fn connect(&self, random: &mut Random) -> (Feed, CancellationToken) {
        loop {
            let index = usize::try_from(random.below(SERVERS as u64)).expect("small");
            if let Some(found) = self.servers[index].borrow().there() {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Commits mutations of any length, and lets hints of them go astray.
async fn write(world: Rc<World>, mut random: Random, mutations: u64) {
    for _ in 0..mutations {
        sleep(random.pause()).await;
        let length = match random.below(40) {
            0 => 1_000 + random.below(1_500),
            1..6 => 200,
            _ => 1 + random.below(6),
        };
        let newest = {
            let mut contents = world.log.0.lock().expect("no panic");
            let first = contents.entries.last().map_or(0, |entry| entry.seq) + 1;
            let end = first + i64::try_from(length).expect("small") - 1;
            for seq in first..=end {
                let kind = KINDS[usize::try_from(random.below(3)).expect("small")];
                contents.entries.push(entry(seq, end, kind));
            }
            end
        };
        world.note(&newest);
        for index in 0..SERVERS {
            for _ in 0..random.below(3) {
                let (world, late) = (Rc::clone(&world), random.pause());
                spawn_local(async move {
                    sleep(late).await;
                    let feed = world.servers[index].borrow().feed.clone();
                    if let Some(feed) = feed {
                        feed.committed(newest);
                    }
                });
            }
        }
    }
}

/// Kills servers and starts them anew, and forgets old entries.
async fn disturb(world: Rc<World>, mut random: Random) {
    loop {
        sleep(random.pause() * 3).await;
        let index = usize::try_from(random.below(SERVERS as u64)).expect("small");
        if random.one_in(3) {
            world.kill(index);
            sleep(random.pause()).await;
            world.start(index).await;
        } else if random.one_in(8) {
            let mut contents = world.log.0.lock().expect("no panic");
            let ends = contents.entries.iter().filter(|entry| entry.seq == entry.batch_end_seq);
            let ends: Vec<i64> = ends.map(|entry| entry.seq).filter(|seq| *seq > contents.floor).collect();
            let some = random.below(ends.len().max(1) as u64 / 2 + 1);
            if let Some(floor) = ends.get(usize::try_from(some).expect("small")) {
                contents.floor = *floor;
            }
        }
    }
}

/// Follows until `end`; answers with what it saw, and with what it was told that it cannot see.
async fn follow(
    world: Rc<World>,
    mut random: Random,
    wants: fn(&change::Model) -> bool,
    end: Rc<RefCell<Option<i64>>>,
) -> (Vec<i64>, Vec<(i64, i64)>) {
    let (mut cursor, mut seen, mut forgotten) = (0, Vec::new(), Vec::new());
    loop {
        let (feed, alive) = world.connect(&mut random).await;
        let until = (random.one_in(3) && feed.head() > cursor).then(|| feed.head());
        let mut follow = Follow::new(&feed, Span { after: cursor, until }, Box::new(wants));
        loop {
            if (*end.borrow()).is_some_and(|end| cursor >= end) {
                return (seen, forgotten);
            }
            let patience = random.pause();
            let next = tokio::select! {
                biased;
                () = alive.cancelled() => break,
                next = timeout(patience, follow.next()) => next,
            };
            match next {
                // Dropped while it waited: asked again, or left for another one.
                Err(_) if random.one_in(4) => break,
                Err(_) => continue,
                Ok(Ok(None)) => {
                    // All that the leg wanted was handed out.
                    cursor = until.expect("only a leg ends");
                    break;
                }
                Ok(Ok(Some(batch))) => {
                    check(&batch, cursor);
                    cursor = batch.seq;
                    seen.extend(batch.entries.iter().map(|entry| entry.seq));
                    world.note(&(cursor, batch.entries.len()));
                }
                Ok(Err(FollowError::Database(_))) => break,
                Ok(Err(FollowError::Expired)) => {
                    let floor = world.log.floor();
                    assert!(cursor < floor, "entry {cursor} is still followed by all, from {floor} on");
                    forgotten.push((cursor, floor));
                    cursor = floor;
                    break;
                }
            }
            if end.borrow().is_none() && random.one_in(5) {
                sleep(random.pause() * 2).await;
            }
        }
    }
}

fn check(batch: &Batch, cursor: i64) {
    assert_eq!(batch.after, cursor, "a batch begins where the one before ended");
    assert!(batch.seq >= cursor);
    let numbers: Vec<i64> = batch.entries.iter().map(|entry| entry.seq).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "in order: {numbers:?}");
    assert!(numbers.iter().all(|seq| (cursor + 1..=batch.seq).contains(seq)), "what the batch covers");
    assert!(batch.entries.iter().all(|entry| entry.batch_end_seq <= batch.seq), "no mutation is split");
}

fn wants_all(_: &change::Model) -> bool {
    true
}

fn wants_some(entry: &change::Model) -> bool {
    entry.kind == ChangeType::FolderMove
}

fn wants_few(entry: &change::Model) -> bool {
    entry.seq % 997 == 0
}

/// Plays one case; answers with a digest of all that happened.
fn play(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut random = Random(seed);
        let contents = Contents { random: random.fork(), entries: Vec::new(), floor: 0, calm: false };
        let log = Arc::new(List(Mutex::new(contents)));
        let world =
            Rc::new(World { log, servers: Default::default(), trace: RefCell::new(DefaultHasher::new()) });
        for index in 0..SERVERS {
            world.start(index).await;
        }
        let end = Rc::new(RefCell::new(None));
        let followers: Vec<_> = (0..FOLLOWERS)
            .map(|index| {
                let wants = [wants_all, wants_some, wants_few][index % 3];
                (wants, spawn_local(follow(Rc::clone(&world), random.fork(), wants, Rc::clone(&end))))
            })
            .collect();
        let disturbing = spawn_local(disturb(Rc::clone(&world), random.fork()));
        let mutations = 20 + random.below(60);
        write(Rc::clone(&world), random.fork(), mutations).await;
        disturbing.abort();
        for index in 0..SERVERS {
            world.kill(index);
            world.start(index).await;
        }
        world.log.0.lock().expect("no panic").calm = true;
        *end.borrow_mut() = Some(world.log.head());
        let log = world.log.0.lock().expect("no panic").entries.clone();
        let calm = Instant::now();
        for (index, (wants, follower)) in followers.into_iter().enumerate() {
            // Who wants all needs no checkpoint to get there.
            let patience = if index % 3 == 0 { PATIENCE } else { 4 * PATIENCE };
            let ended = timeout_at(calm + patience, follower).await.expect("it has all in time");
            let (got, forgotten) = ended.expect("no panic");
            let missed =
                |seq: i64| forgotten.iter().any(|(after, until)| (after + 1..=*until).contains(&seq));
            let wanted = log.iter().filter(|entry| wants(entry) && !missed(entry.seq));
            let wanted: Vec<i64> = wanted.map(|entry| entry.seq).collect();
            assert_eq!(got, wanted, "each entry once, in order, but for {forgotten:?}");
        }
        world.trace.borrow().finish()
    })
}

#[test]
fn whatever_goes_astray_each_follower_sees_each_entry_once() {
    let cases = u64::from(count("VELLUM_TEST_CASES", 64));
    let start = u64::from(count("VELLUM_TEST_SEED", 1));
    for case in 0..cases {
        let seed = start.wrapping_mul(1_000_003).wrapping_add(case);
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(played.is_ok(), "case {case} of VELLUM_TEST_SEED={start} fails");
    }
}

#[test]
fn a_case_follows_from_its_seed() {
    assert_eq!(play(7), play(7));
    assert_ne!(play(7), play(8));
}
