//! How fast the machine is at the moment: the time of a fixed piece of work, of the kind that the server does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Rounds, of which the median counts.
const ROUNDS: usize = 400;

/// The time to read 50 nodes from JSON into a tree and to write them again, on one thread. On the machine on which the
/// figures of docs/speed.md were taken it is told beside them.
#[must_use]
pub fn take() -> Duration {
    let node = |index: u32| {
        json!({
            "path": format!("images/folder-{}/asset-{index}", index % 7),
            "publishedVersion": {
                "size": index * 1013,
                "contentType": "image/jpeg",
                "sha256": format!("{:064x}", u64::from(index) * 0x9e37_79b9),
                "url": format!("http://127.0.0.1:4000/assets/images/asset-{index}"),
            },
        })
    };
    let text = Value::from((0..50).map(node).collect::<Vec<_>>()).to_string();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let tree: Value = serde_json::from_str(black_box(&text)).unwrap_or_default();
            black_box(tree.to_string());
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
