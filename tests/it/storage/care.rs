//! Looking after bytes: moving them to another backend, comparing rows with them, trying a backend.

use std::sync::Mutex;

use entity::BlobId;
use reqwest::Method;
use serde_json::json;
use vellum::blob::{BlobKey, Verdict};
use vellum::domain::actor::Actor;
use vellum::domain::storage::fsck::{self, Depth, Finding, Problem, Remedy};
use vellum::domain::storage::migrate::{Migrated, Old, migrate};
use vellum::domain::storage::{Owner, Progress, owner};

use super::{HOUR_MS, Lab, noise, read};
use crate::support::{Bucket, Fault, HOPPER, ROCKET, files, sha256, text};

const DAY_MS: i64 = 24 * HOUR_MS;

/// Lets new bytes go to a backend.
pub async fn choose(lab: &Lab, name: &str) {
    let choose = "mutation($name: String!) { setDefaultStorage(input: { backend: $name }) { storage { default { name } } } }";
    lab.server.gql(choose, json!({ "name": name })).await;
}

async fn move_all(lab: &Lab, from: &str, to: &str) -> Migrated {
    migrate(&lab.server.app, &Actor::system(), from, to, Old::Remove, |_, _| ()).await.expect("it runs")
}

async fn look(lab: &Lab, depth: Depth, remedy: Remedy) -> Vec<Finding> {
    let mut found = Vec::new();
    let tell = |finding| found.push(finding);
    fsck::check(&lab.server.app, &Actor::system(), depth, remedy, tell, |_, _| ()).await.expect("it runs");
    found
}

/// Assets with bytes of several kinds; answers their stable URLs with what they give.
async fn fill(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let large = noise(9 * super::MIB);
    let mut all = Vec::new();
    for (path, bytes) in
        [("a/photo.jpg", HOPPER), ("a/rocket.jpg", ROCKET), ("large", &large), ("empty", b"")]
    {
        lab.server.upload(json!({ "path": path }), bytes).await;
        all.push((format!("/assets/{path}"), bytes.to_vec()));
    }
    let draft = lab.server.upload(json!({ "path": "a/photo.jpg", "publish": false }), b"a draft").await;
    all.push((text(&draft["version"]["url"]).to_owned(), b"a draft".to_vec()));
    all
}

async fn all_read(lab: &Lab, all: &[(String, Vec<u8>)]) {
    for (url, bytes) in all {
        assert!(read(lab, url).await == (200, bytes.clone()), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_bytes_move_and_everything_is_read_as_before() {
    let lab = Lab::s3("").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    choose(&lab, "local").await;
    let all = fill(&lab).await;
    choose(&lab, "media").await;
    // The same bytes are there already, under a key of their own.
    lab.server.upload(json!({ "path": "again" }), HOPPER).await;
    let done = move_all(&lab, "local", "media").await;
    assert_eq!((done.moved.files, done.failed), (5, 0));
    assert_eq!(move_all(&lab, "local", "media").await, Migrated::default(), "nothing is left to move");
    all_read(&lab, &all).await;
    lab.server.clock.advance(7 * DAY_MS);
    lab.server.sweep().await;
    assert_eq!(lab.server.stored("blobs").len(), 5, "signed URLs to them still work");
    lab.server.clock.advance(DAY_MS + 1);
    lab.server.sweep().await;
    assert_eq!(lab.server.stored("blobs"), [""; 0]);
    assert_eq!(bucket.keys("blobs/").await.len(), 5, "identical bytes are kept once");
    all_read(&lab, &all).await;
    assert_eq!(look(&lab, Depth::Content, Remedy::None).await, []);
    // And back, where gc has cleared their places.
    assert_eq!(move_all(&lab, "media", "local").await.moved.files, 5);
    lab.server.clock.advance(9 * DAY_MS);
    lab.server.sweep().await;
    all_read(&lab, &all).await;
    assert_eq!((lab.server.stored("blobs").len(), bucket.keys("blobs/").await.len()), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_go_on_while_bytes_move() {
    let lab = Lab::s3("reads = \"stream\"").await;
    choose(&lab, "local").await;
    for number in 0..30 {
        lab.server
            .upload(json!({ "path": format!("old/{number}") }), format!("old {number}").as_bytes())
            .await;
    }
    let moving = async {
        let mut moved = 0;
        loop {
            let done = move_all(&lab, "local", "media").await;
            assert_eq!(done.failed, 0);
            moved += done.moved.files;
            if done.moved.files == 0 && moved >= 30 {
                return;
            }
        }
    };
    let uploading = async {
        for number in 0..30 {
            // Every other one has bytes that are just being moved.
            let bytes = if number % 2 == 0 { format!("old {number}") } else { format!("new {number}") };
            lab.server.upload(json!({ "path": format!("new/{number}") }), bytes.as_bytes()).await;
        }
    };
    tokio::join!(moving, uploading);
    lab.server.clock.advance(9 * DAY_MS);
    lab.server.sweep().await;
    for number in 0..30 {
        let bytes = if number % 2 == 0 { format!("old {number}") } else { format!("new {number}") };
        assert!(
            read(&lab, &format!("/assets/old/{number}")).await == (200, format!("old {number}").into_bytes())
        );
        assert!(read(&lab, &format!("/assets/new/{number}")).await == (200, bytes.into_bytes()));
    }
    assert_eq!(look(&lab, Depth::Content, Remedy::None).await, []);
}

#[tokio::test]
async fn what_cannot_be_moved_stays_and_is_told_and_moves_the_next_time() {
    let lab = Lab::on(Bucket::in_process().await, "reads = \"stream\"").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    choose(&lab, "local").await;
    let all = fill(&lab).await;
    bucket.faults.plan(Method::PUT, "/blobs/", Fault::Before, u32::MAX);
    let first = move_all(&lab, "local", "media").await;
    assert_eq!((first.moved.files, first.failed), (0, 5));
    all_read(&lab, &all).await;
    bucket.faults.end();
    let second = move_all(&lab, "local", "media").await;
    assert_eq!((second.moved.files, second.failed), (first.failed, 0));
    all_read(&lab, &all).await;
}

#[tokio::test]
async fn damaged_bytes_are_not_moved() {
    let lab = Lab::s3("reads = \"stream\"").await;
    choose(&lab, "local").await;
    lab.server.upload(json!({ "path": "whole" }), ROCKET).await;
    lab.server.upload(json!({ "path": "damaged" }), HOPPER).await;
    let of = |bytes: &'static [u8]| {
        let has = move |path: &std::path::PathBuf| std::fs::read(path).is_ok_and(|is| is == bytes);
        files(&lab.server.data().join("blobs")).into_iter().find(has).expect("a file")
    };
    let mut bytes = HOPPER.to_vec();
    bytes[9] ^= 1;
    std::fs::write(of(HOPPER), &bytes).expect("written");
    let done = move_all(&lab, "local", "media").await;
    assert_eq!((done.moved.files, done.failed), (1, 1));
    assert!(read(&lab, "/assets/whole").await == (200, ROCKET.to_vec()));
    lab.server.clock.advance(DAY_MS + 1);
    lab.server.sweep().await;
    assert_eq!(
        lab.bucket.as_ref().expect("a bucket").keys("blobs/").await.len(),
        1,
        "nothing half-good is left"
    );
    let found = look(&lab, Depth::Content, Remedy::None).await;
    assert!(matches!(found[..], [Finding { problem: Problem::Damaged(_), .. }]), "{found:?}");
    assert_eq!(found[0].versions, [("damaged".to_owned(), 1)]);
}

#[tokio::test]
async fn what_does_not_fit_together_is_found_and_put_right() {
    let lab = Lab::s3("reads = \"stream\"").await;
    let bucket = lab.bucket.as_ref().expect("a bucket");
    // The same bytes on both, and others on one.
    lab.server.upload(json!({ "path": "a/both" }), HOPPER).await;
    lab.server.upload(json!({ "path": "a/one" }), ROCKET).await;
    choose(&lab, "local").await;
    lab.server.upload(json!({ "path": "local" }), HOPPER).await;
    assert_eq!(look(&lab, Depth::Size, Remedy::None).await, []);
    for key in bucket.keys("blobs/").await {
        bucket.replace(&key, None).await;
    }
    let stray = BlobKey::new(BlobId(uuid::Uuid::from_u128(1)));
    let stray = format!("{}/blobs/{}/{stray}", bucket.prefix(), stray.shard());
    bucket.replace(&stray, Some(b"needed by nothing")).await;
    let found = look(&lab, Depth::Size, Remedy::None).await;
    let problems = |problem: &Problem| found.iter().filter(|finding| finding.problem == *problem).count();
    assert_eq!(
        (found.len(), problems(&Problem::Missing), problems(&Problem::Orphan(17))),
        (3, 2, 1),
        "{found:?}"
    );
    assert!(found.iter().all(|finding| !finding.repaired));
    let repaired = look(&lab, Depth::Size, Remedy::Repair).await;
    let left: Vec<_> = repaired.iter().filter(|finding| !finding.repaired).collect();
    assert_eq!(left.len(), 1, "{repaired:?}");
    assert_eq!(left[0].versions, [("a/one".to_owned(), 1)], "nobody else has these bytes");
    assert!(read(&lab, "/assets/a/both").await == (200, HOPPER.to_vec()));
    assert_eq!(bucket.keys("blobs/").await.len(), 1);
    choose(&lab, "media").await;
    lab.server.upload(json!({ "path": "healed" }), ROCKET).await;
    assert_eq!(look(&lab, Depth::Content, Remedy::None).await, []);
}

#[tokio::test]
async fn bytes_on_their_way_are_no_orphans() {
    let lab = Lab::s3("").await;
    for size in [true, false] {
        let input = json!({ "path": "photo", "sha256": size.then(|| sha256(HOPPER)) });
        let intent = lab.server.start_upload(input).await;
        assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
        assert_eq!(look(&lab, Depth::Content, Remedy::Repair).await, []);
        lab.server.finish_upload(&intent).await;
        assert_eq!(look(&lab, Depth::Content, Remedy::Repair).await, []);
    }
    assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
}

#[tokio::test]
async fn a_move_tells_how_far_it_is() {
    let lab = Lab::s3("").await;
    choose(&lab, "local").await;
    fill(&lab).await;
    let seen = Mutex::new(Vec::new());
    let watch = |done: Progress, all: Progress| seen.lock().expect("a list").push((done, all));
    migrate(&lab.server.app, &Actor::system(), "local", "media", Old::Keep, watch).await.expect("it runs");
    let seen = seen.into_inner().expect("a list");
    let (done, all) = *seen.last().expect("news");
    assert_eq!((seen.len(), done), (6, all));
    assert!(seen.is_sorted_by_key(|(done, _)| done.files));
    lab.server.clock.advance(9 * DAY_MS);
    lab.server.sweep().await;
    assert_eq!(lab.server.stored("blobs").len(), 5, "the old ones are kept");
}

#[tokio::test]
async fn backends_that_cannot_be_are_refused() {
    let lab = Lab::s3("").await;
    for (from, to) in [("nowhere", "media"), ("local", "nowhere"), ("media", "media")] {
        let refused = migrate(&lab.server.app, &Actor::system(), from, to, Old::Remove, |_, _| ()).await;
        assert_eq!(refused.expect_err("refused").code(), "BAD_USER_INPUT", "{from} {to}");
    }
}

#[tokio::test]
async fn a_backend_is_tried_and_what_is_wrong_is_told_with_what_to_change() {
    let lab = Lab::s3("").await;
    let store = lab.server.app.store("media").expect("a store");
    let origin = "https://app.example.com";
    let probed = store.probe(origin, uuid::Uuid::new_v4()).await;
    if lab.is_strict() {
        lab.bucket.as_ref().expect("a bucket").allow_pages_of(origin).await;
        for probed in store.probe(origin, uuid::Uuid::new_v4()).await {
            assert!(!matches!(probed.verdict, Verdict::Bad { .. }), "{probed:?}");
        }
        let other = store.probe("https://other.example.com", uuid::Uuid::new_v4()).await;
        let bad: Vec<_> =
            other.iter().filter(|probed| matches!(probed.verdict, Verdict::Bad { .. })).collect();
        let [cors] = bad[..] else { panic!("{other:?}") };
        let Verdict::Bad { remedy, .. } = &cors.verdict else { panic!("{cors:?}") };
        assert!(remedy.contains("\"AllowedOrigins\":[\"https://other.example.com\"]"), "{remedy}");
    } else {
        // It takes bytes with another SHA-256, and must be told.
        let found = probed.iter().find(|probed| probed.what == "bytes with another SHA-256 are refused");
        assert!(found.is_some() && probed.len() > 5, "{probed:?}");
    }
    assert_eq!(lab.staged().await, 0, "nothing is left of it");
    let away = Lab::on(Bucket::in_process().await, "").await;
    let gone = away.bucket.as_ref().expect("a bucket");
    gone.faults.plan(Method::HEAD, "", Fault::Before, u32::MAX);
    let probed = away.server.app.store("media").expect("a store").probe(origin, uuid::Uuid::new_v4()).await;
    assert!(matches!(&probed[..], [only] if matches!(only.verdict, Verdict::Bad { .. })), "{probed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_goes_on_where_it_was() {
    let bucket = Bucket::open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("vellum.toml");
    let section = bucket.settings("media", "reads = \"stream\"");
    std::fs::write(&settings, section).expect("written");
    let lab = Lab { server: crate::support::TestServer::adopt_with(folder, &settings).await, bucket: None };
    let all = fill(&lab).await;
    let run = |crash: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vellum"));
        command.args(["storage", "migrate", "--from", "local", "--to", "media", "--config"]).arg(&settings);
        command.arg("--data-dir").arg(lab.server.data());
        if let Some(point) = crash {
            command.env("VELLUM_TEST_CRASH_AT", point);
        }
        command.output().expect("it runs")
    };
    let killed = run(Some("migrate-copied"));
    assert!(!killed.status.success());
    all_read(&lab, &all).await;
    let done = run(None);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("Moved 5 files"), "{done:?}");
    all_read(&lab, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_moves_at_once_lose_nothing() {
    let lab = Lab::s3("reads = \"stream\"").await;
    choose(&lab, "local").await;
    let all = fill(&lab).await;
    for (from, to) in [("local", "media"), ("media", "local"), ("local", "media")] {
        let (one, other) = tokio::join!(move_all(&lab, from, to), move_all(&lab, from, to));
        assert!(one.moved.files + other.moved.files >= 5, "{one:?} {other:?}");
        lab.server.clock.advance(9 * DAY_MS);
        lab.server.sweep().await;
        all_read(&lab, &all).await;
        assert_eq!(look(&lab, Depth::Content, Remedy::None).await, []);
    }
}

#[tokio::test]
async fn a_place_of_another_library_is_left_alone() {
    let lab = Lab::s3("").await;
    let intent = lab.server.start_upload(json!({ "path": "photo" })).await;
    assert_eq!(lab.server.send_bytes(&intent, HOPPER).await.status(), 200);
    // Another library by the same settings, such as of a test of the real thing.
    let bucket = lab.bucket.clone().expect("a bucket");
    let other = Lab::on(bucket.clone(), "").await;
    vellum::domain::upload::tidy(&other.server.app).await;
    let start = "mutation { startUpload(input: { path: \"theirs\" }) { intent { id } } }";
    let choose =
        "mutation { setDefaultStorage(input: { backend: \"media\" }) { storage { default { name } } } }";
    for query in [start, choose] {
        other.server.refuses(query, json!({}), "STORAGE_UNAVAILABLE", None).await;
    }
    other.server.readiness(503).await;
    for remedy in [Remedy::None, Remedy::Repair] {
        let checked =
            fsck::check(&other.server.app, &Actor::system(), Depth::Size, remedy, |_| (), |_, _| ()).await;
        assert_eq!(checked.expect_err("refused").code(), "STORAGE_UNAVAILABLE");
    }
    assert_eq!(lab.server.finish_upload(&intent).await["version"]["sha256"], sha256(HOPPER));
    // A place with files and without a mark is somebody's, too, but for who knows of them.
    let mark = format!("{}/vellum-library", bucket.prefix());
    bucket.replace(&mark, None).await;
    other.server.refuses(start, json!({}), "STORAGE_UNAVAILABLE", None).await;
    assert_eq!(owner(&lab.server.app, "media").await.expect("told"), Owner::Us);
    assert!(matches!(owner(&other.server.app, "media").await.expect("told"), Owner::Another(_)));
    assert_eq!(
        bucket.keys("vellum-library").await,
        [""; 0],
        "neither looking nor being refused leaves a mark"
    );
}

#[tokio::test]
async fn one_place_under_two_names_is_found_out_before_it_is_moved_to_itself() {
    let bucket = Bucket::open().await;
    // The same machine by another name.
    let alias = bucket.settings("alias", "").replace("127.0.0.1", "localhost");
    let lab = Lab::on(bucket, &alias).await;
    lab.server.upload(json!({ "path": "photo" }), HOPPER).await;
    let moved = migrate(&lab.server.app, &Actor::system(), "media", "alias", Old::Remove, |_, _| ()).await;
    assert_eq!(moved.expect_err("refused").code(), "STORAGE_UNAVAILABLE");
    assert!(read(&lab, "/assets/photo").await == (200, HOPPER.to_vec()));
}

#[tokio::test]
async fn rows_that_no_backend_can_answer_for_are_found() {
    let lab = Lab::local().await;
    for (path, bytes) in [("away", HOPPER), ("lost", ROCKET)] {
        lab.server.upload(json!({ "path": path }), bytes).await;
    }
    for sql in [
        format!("UPDATE blobs SET backend = 'gone' WHERE sha256 = '{}'", sha256(HOPPER)),
        format!("UPDATE stored_files SET backend = 'gone' WHERE sha256 = '{}'", sha256(HOPPER)),
        format!("DELETE FROM blobs WHERE sha256 = '{}'", sha256(ROCKET)),
    ] {
        sea_orm::ConnectionTrait::execute_unprepared(lab.server.app.database().write(), &sql)
            .await
            .expect("written");
    }
    let found = look(&lab, Depth::Size, Remedy::None).await;
    let versions = |problem: &Problem| -> Vec<_> {
        found
            .iter()
            .filter(|finding| finding.problem == *problem)
            .map(|finding| finding.versions.clone())
            .collect()
    };
    assert_eq!(versions(&Problem::Unreachable), [[("away".to_owned(), 1)]], "{found:?}");
    assert_eq!(versions(&Problem::Unknown), [[("lost".to_owned(), 1)]], "{found:?}");
}
