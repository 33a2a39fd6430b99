//! A store of three nodes, of which one is killed.

use serde_json::json;
use vellum::domain::actor::Actor;
use vellum::domain::storage::fsck::{self, Depth, Remedy};

use super::{Lab, noise, read, send_part, slice, start_parts, status};
use crate::support::{FINISH, HOPPER, Nodes, ROCKET, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_and_readers_notice_nothing_when_one_of_three_nodes_is_killed() {
    // Only a Garage has nodes; CI has one.
    let Some(mut nodes) = Nodes::start() else { return };
    let lab = Lab::on(nodes.bucket(), "").await;
    lab.server.upload(json!({ "path": "before" }), HOPPER).await;
    let sent = lab.server.start_upload(json!({ "path": "sent" })).await;
    assert_eq!(lab.server.send_bytes(&sent, ROCKET).await.status(), 200);
    let bytes = noise(6 * super::MIB);
    let in_parts = start_parts(&lab, &bytes, 5 * super::MIB).await;
    let parts = status(&lab, &in_parts).await["parts"].as_array().expect("parts").clone();
    assert_eq!(send_part(&lab, &parts[0], slice(&bytes, &parts[0])).await.0, 200);

    nodes.kill_one();

    assert_eq!(send_part(&lab, &parts[1], slice(&bytes, &parts[1])).await.0, 200);
    let done = lab.server.gql(FINISH, json!({ "id": in_parts["id"] })).await;
    assert!(read(&lab, text(&done["finishUpload"]["version"]["url"])).await == (200, bytes));
    lab.server.finish_upload(&sent).await;
    lab.server.upload(json!({ "path": "after" }), b"after").await;
    for (path, bytes) in [("before", HOPPER), ("sent", ROCKET), ("after", b"after")] {
        assert!(read(&lab, &format!("/assets/{path}")).await == (200, bytes.to_vec()), "{path}");
    }
    lab.server.sweep().await;
    assert_eq!(lab.staged().await, 0);
    let mut found = Vec::new();
    let (app, tell) = (&lab.server.app, |finding| found.push(finding));
    fsck::check(app, &Actor::system(), Depth::Content, Remedy::None, tell, |_, _| ()).await.expect("it runs");
    assert_eq!(found, []);
}
