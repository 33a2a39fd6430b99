//! A log in memory, for tests of those who follow on a clock that jumps: a database knows no other clock.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use entity::change::{self, ChangeType};
use entity::{Actor as Stamp, ActorKind, Timestamp, changelog_head};
use sea_orm::DbErr;
use uuid::Uuid;

use super::Log;

/// Entries, always there.
#[derive(Default)]
pub struct List(Mutex<Vec<Arc<change::Model>>>);

impl List {
    /// The number of the newest one.
    pub fn newest(&self) -> i64 {
        self.0.lock().expect("no panic").last().map_or(0, |entry| entry.seq)
    }

    /// Adds what one mutation writes; answers with the number of its last entry.
    pub fn commit(&self, count: i64) -> i64 {
        let mut entries = self.0.lock().expect("no panic");
        let first = entries.last().map_or(0, |entry| entry.seq) + 1;
        let end = first + count - 1;
        entries.extend((first..=end).map(|seq| Arc::new(entry(seq, end))));
        end
    }
}

#[async_trait]
impl Log for List {
    async fn head(&self) -> Result<changelog_head::Model, DbErr> {
        let epoch = Uuid::from_u128(1);
        Ok(changelog_head::Model { id: 1, epoch, last_seq: self.newest(), floor_seq: 0 })
    }

    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr> {
        let entries = self.0.lock().expect("no panic");
        Ok(entries.iter().filter(|entry| entry.seq > after).take(limit).cloned().collect())
    }
}

fn entry(seq: i64, batch_end_seq: i64) -> change::Model {
    change::Model {
        seq,
        batch_end_seq,
        kind: ChangeType::FolderCreate,
        at: Timestamp(seq),
        actor: Stamp { kind: ActorKind::System, id: "writer".to_owned(), name: None },
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
    }
}
