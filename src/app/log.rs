//! The changelog's tables on SQLite, read without the driver: a thousand rows in a fraction of the time.

use std::sync::Arc;

use async_trait::async_trait;
use entity::change::{self, ChangeType};
use entity::{Actor, AssetId, FolderId, Timestamp, VersionId, changelog_head};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, Row};
use sea_orm::{ActiveEnum as _, DbErr};
use uuid::Uuid;

use super::Quick;
use crate::feed::{Log, Tables};

/// Rows that are read on the thread that asks, at most; more are read on one of those that may wait.
const SHORT: usize = 64;

const READ: &str = "SELECT seq, batch_end_seq, type, at, actor, path, old_path, folder_id, asset_id, version_id, \
    version_number, content_type, size_bytes, sha256, folder_ids, direct_folders \
    FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const HEAD: &str = "SELECT id, epoch, last_seq, floor_seq FROM changelog_head WHERE id = 1";

/// The tables, with the ordinary way for when a read fails, which tells why.
pub struct QuickLog {
    quick: Arc<Quick>,
    tables: Tables,
}

impl QuickLog {
    /// Reads by `quick`.
    pub const fn new(quick: Arc<Quick>, tables: Tables) -> Self {
        Self { quick, tables }
    }
}

#[async_trait]
impl Log for QuickLog {
    async fn head(&self) -> Result<changelog_head::Model, DbErr> {
        let head = self.quick.read(|connection| connection.prepare_cached(HEAD)?.query_row([], head));
        match head {
            Ok(head) => Ok(head),
            Err(_) => self.tables.head().await,
        }
    }

    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr> {
        let read = if limit <= SHORT {
            self.quick.read(|connection| entries(connection, after, limit)).ok()
        } else {
            let quick = Arc::clone(&self.quick);
            let reading = move || quick.read(|connection| entries(connection, after, limit));
            tokio::task::spawn_blocking(reading).await.ok().and_then(Result::ok)
        };
        match read {
            Some(entries) => Ok(entries),
            None => self.tables.read(after, limit).await,
        }
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<changelog_head::Model> {
    Ok(changelog_head::Model {
        id: row.get(0)?,
        epoch: id(row, 1)?.ok_or(FromSqlError::InvalidType)?,
        last_seq: row.get(2)?,
        floor_seq: row.get(3)?,
    })
}

fn entries(connection: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<Arc<change::Model>>> {
    let mut statement = connection.prepare_cached(READ)?;
    let mut rows = statement.query((after, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut entries: Vec<Arc<change::Model>> = Vec::with_capacity(limit.min(1024));
    // Who did the one before mostly did the next.
    let mut last_actor = (String::new(), None);
    while let Some(row) = rows.next()? {
        let text = row.get_ref(4)?.as_str()?;
        if last_actor.1.is_none() || last_actor.0 != text {
            let actor: Actor =
                serde_json::from_str(text).map_err(|error| FromSqlError::Other(Box::new(error)))?;
            last_actor = (text.to_owned(), Some(actor));
        }
        let actor = last_actor.1.clone().ok_or(FromSqlError::InvalidType)?;
        entries.push(Arc::new(entry(row, actor)?));
    }
    Ok(entries)
}

fn entry(row: &Row<'_>, actor: Actor) -> rusqlite::Result<change::Model> {
    Ok(change::Model {
        seq: row.get(0)?,
        batch_end_seq: row.get(1)?,
        kind: kind(row.get_ref(2)?.as_str()?)?,
        at: Timestamp(row.get(3)?),
        actor,
        path: row.get(5)?,
        old_path: row.get(6)?,
        folder_id: id(row, 7)?.map(FolderId),
        asset_id: id(row, 8)?.map(AssetId),
        version_id: id(row, 9)?.map(VersionId),
        version_number: row.get(10)?,
        content_type: row.get(11)?,
        size_bytes: row.get(12)?,
        sha256: row.get(13)?,
        folder_ids: row.get(14)?,
        direct_folders: row.get(15)?,
    })
}

fn kind(text: &str) -> rusqlite::Result<ChangeType> {
    ChangeType::try_from_value(&text.to_owned()).map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    let bytes = row.get_ref(at)?.as_blob_or_null()?;
    let id = bytes.map(Uuid::from_slice).transpose();
    id.map_err(|error| FromSqlError::Other(Box::new(error)).into())
}
