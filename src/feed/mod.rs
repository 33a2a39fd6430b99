//! The changelog: appended inside the commit it tells of, numbered without holes in the order of commits.
//!
//! Guarantee: whoever reads from a cursor gets every later entry once, in one order, whatever is written
//! meanwhile. It holds because the number is taken from one counter row as the last lock of a transaction:
//! nobody can take the next number before this commit is done or undone. So when an entry can be read, all with
//! smaller numbers can be read too.

mod cursor;
mod filter;
mod follow;
mod interest;
#[cfg(test)]
mod list;
mod log;
mod page;
mod relay;
mod tailer;

use std::collections::HashSet;

use entity::change::{self, ChangeType};
use entity::{Actor, AssetId, FolderId, Timestamp, VersionId, change_folder, changelog_head};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DbBackend, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, RuntimeErr,
    Statement,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::domain::path::parent_of;

pub use cursor::{Cursor, CursorError};
pub use filter::{AssetScope, Filter, FolderScope, takes_along};
pub use follow::{Batch, Follow, FollowError, Span};
pub use interest::Wanted;
#[cfg(test)]
pub use list::List;
pub use log::{Log, Tables};
pub use page::{Index, IndexPage, Page, by_index, page};
pub use tailer::Feed;

/// Counts the folders that are where they are said to be.
const CONFIRM: &str = "SELECT count(*) AS held FROM jsonb_to_recordset($1) AS x(id uuid, path text) \
    JOIN folders AS f ON f.id = x.id AND f.path = x.path AND f.deletion_id IS NULL";
/// Old entries that one commit removes.
const REMOVED_AT_ONCE: u64 = 500;

/// An entry that has no number yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What happened.
    pub kind: ChangeType,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// Path of the folder or asset after the change.
    pub path: String,
    /// Path before a move or rename.
    pub old_path: Option<String>,
    /// The folder that changed, or that the asset is in.
    pub folder_id: Option<FolderId>,
    /// The asset that changed.
    pub asset_id: Option<AssetId>,
    /// The version that it is about, as it was then.
    pub version: Option<VersionFacts>,
    /// The folder itself and those that it lies in directly, before and after.
    pub direct: Vec<FolderId>,
    /// The folders above those, without the root.
    pub above: Vec<FolderId>,
}

/// What an entry tells of a version.
#[derive(Debug, Clone)]
pub struct VersionFacts {
    /// Which.
    pub id: VersionId,
    /// Its number.
    pub number: i32,
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub size_bytes: i64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A transaction that entries are appended in.
pub trait Append: Sync {
    /// The dialect of its statements.
    fn backend(&self) -> DbBackend;

    /// How many rows one statement is to insert, at most. Where a statement costs no way to the database, the same
    /// short one again and again costs least.
    fn rows_at_once(&self) -> usize;

    /// Runs a statement that writes.
    fn write(&self, statement: Statement) -> impl Future<Output = Result<(), DbErr>> + Send;

    /// Runs a statement that writes and answers with a number in its only column, `column`.
    fn write_for_number(
        &self,
        statement: Statement,
        column: &str,
    ) -> impl Future<Output = Result<Option<i64>, DbErr>> + Send;
}

/// Writes the entries of several mutations that share a commit; answers with them, numbered. Has to be the
/// last that a transaction does: from here on it holds the counter that every other commit needs.
///
/// # Errors
/// What the database says.
pub async fn append(to: &impl Append, mutations: Vec<Vec<Draft>>) -> Result<Vec<Vec<change::Model>>, DbErr> {
    let count: usize = mutations.iter().map(Vec::len).sum();
    if count == 0 {
        return Ok(mutations.into_iter().map(|_| Vec::new()).collect());
    }
    let count = i64::try_from(count).map_err(|error| DbErr::Custom(error.to_string()))?;
    let mut seq = take_numbers(to, count).await? - count;
    let mut entries = Vec::with_capacity(mutations.len());
    for drafts in mutations {
        let end = seq + i64::try_from(drafts.len()).unwrap_or(0);
        let number = |draft| {
            seq += 1;
            numbered(draft, seq, end)
        };
        entries.push(drafts.into_iter().map(number).collect::<Vec<_>>());
    }
    insert(to, &entries.concat()).await?;
    Ok(entries)
}

/// Looks, once the counter is held, whether folders still lie where entries say that assets in them are: on PostgreSQL
/// another server may have moved one since it was read here. If so, that is told before these entries.
///
/// # Errors
/// What the database says, or that a folder has moved: nothing of this may be committed then.
pub async fn confirm(to: &impl Append, mutations: &[Vec<change::Model>]) -> Result<(), DbErr> {
    let mut entries = mutations.iter().flatten();
    // One that moves folders itself has them locked.
    let moves = |entry: &change::Model| entry.asset_id.is_none();
    if to.backend() != DbBackend::Postgres || entries.clone().any(moves) {
        return Ok(());
    }
    let stays =
        |entry: &&change::Model| !matches!(entry.kind, ChangeType::AssetDelete | ChangeType::AssetPurge);
    let places: HashSet<(FolderId, &str)> = entries
        .by_ref()
        .filter(stays)
        .filter_map(|entry| Some((entry.folder_id?, parent_of(&entry.path))))
        .collect();
    let expected = i64::try_from(places.len()).unwrap_or(i64::MAX);
    let places = places.into_iter().map(|(id, path)| json!({ "id": id.0, "path": path })).collect();
    let places = Statement::from_sql_and_values(DbBackend::Postgres, CONFIRM, [Json::Array(places).into()]);
    match to.write_for_number(places, "held").await? {
        Some(held) if held == expected => Ok(()),
        _ => Err(DbErr::Conn(RuntimeErr::Internal("a folder was moved by another server".to_owned()))),
    }
}

/// Takes the next `count` numbers; answers with the last of them.
async fn take_numbers(to: &impl Append, count: i64) -> Result<i64, DbErr> {
    let bump = Query::update()
        .table(changelog_head::Entity)
        .value(changelog_head::Column::LastSeq, Expr::col(changelog_head::Column::LastSeq).add(count))
        .and_where(Expr::col(changelog_head::Column::Id).eq(1))
        .returning_col(changelog_head::Column::LastSeq)
        .to_owned();
    let last = to.write_for_number(to.backend().build(&bump), "last_seq").await?;
    last.ok_or_else(|| DbErr::RecordNotFound("the head of the changelog".to_owned()))
}

async fn insert(to: &impl Append, entries: &[change::Model]) -> Result<(), DbErr> {
    for chunk in entries.chunks(to.rows_at_once()) {
        let rows = chunk.iter().map(|entry| entry.clone().into_active_model());
        to.write(to.backend().build(&change::Entity::insert_many(rows).into_query())).await?;
    }
    let places: Vec<_> = entries.iter().flat_map(places).collect();
    for chunk in places.chunks(to.rows_at_once()) {
        let insert = change_folder::Entity::insert_many(chunk.to_vec()).into_query();
        to.write(to.backend().build(&insert)).await?;
    }
    Ok(())
}

fn places(entry: &change::Model) -> impl Iterator<Item = change_folder::ActiveModel> {
    folders_of(entry).map(|(folder_id, direct)| change_folder::ActiveModel {
        folder_id: Set(folder_id),
        seq: Set(entry.seq),
        direct: Set(direct),
    })
}

/// Lets the changelog begin behind the entry `seq`, where what one mutation wrote ends. Readers of what was before are
/// told so from then on.
///
/// # Errors
/// What the database says.
pub async fn raise_floor(conn: &impl ConnectionTrait, seq: i64) -> Result<(), DbErr> {
    let raise = changelog_head::Entity::update_many()
        .col_expr(changelog_head::Column::FloorSeq, Expr::value(seq))
        .filter(changelog_head::Column::FloorSeq.lt(seq))
        .filter(changelog_head::Column::LastSeq.gte(seq));
    raise.exec(conn).await.map(drop)
}

/// Lets cursors carry another epoch.
///
/// # Errors
/// What the database says.
pub async fn set_epoch(conn: &impl ConnectionTrait, epoch: Uuid) -> Result<(), DbErr> {
    let set = changelog_head::Entity::update_many()
        .col_expr(changelog_head::Column::Epoch, Expr::value(epoch))
        .filter(changelog_head::Column::Id.eq(1));
    set.exec(conn).await.map(drop)
}

/// Removes some of the entries that the changelog no longer begins with; answers how many.
///
/// # Errors
/// What the database says.
pub async fn remove_below_floor(conn: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let floor = page::head(conn).await?.floor_seq;
    let rows = change::Entity::find()
        .filter(change::Column::Seq.lte(floor))
        .order_by_asc(change::Column::Seq)
        .limit(REMOVED_AT_ONCE)
        .all(conn)
        .await?;
    let Some(last) = rows.last().map(|row| row.seq) else { return Ok(0) };
    let folders: HashSet<FolderId> = rows.iter().flat_map(folders_of).map(|(folder, _)| folder).collect();
    for folder in folders {
        change_folder::Entity::delete_many()
            .filter(change_folder::Column::FolderId.eq(folder))
            .filter(change_folder::Column::Seq.lte(last))
            .exec(conn)
            .await?;
    }
    let removed = change::Entity::delete_many().filter(change::Column::Seq.lte(last)).exec(conn).await?;
    Ok(removed.rows_affected)
}

/// The folders that an entry happened in, and whether directly.
pub(crate) fn folders_of(entry: &change::Model) -> impl Iterator<Item = (FolderId, bool)> {
    let direct = usize::try_from(entry.direct_folders).unwrap_or(0);
    let ids = entry.folder_ids.as_chunks::<16>().0.iter();
    ids.enumerate().map(move |(index, bytes)| (FolderId(Uuid::from_bytes(*bytes)), index < direct))
}

/// The entries of a rehearsal, as they would be; their numbers are negative, since they have none.
#[must_use]
pub fn unnumbered(drafts: Vec<Draft>) -> Vec<change::Model> {
    (1..).zip(drafts).map(|(number, draft)| numbered(draft, -number, -number)).collect()
}

fn numbered(draft: Draft, seq: i64, batch_end_seq: i64) -> change::Model {
    let Draft { kind, at, actor, path, old_path, folder_id, asset_id, version, direct, above } = draft;
    let mut folders: Vec<FolderId> = Vec::with_capacity(direct.len() + above.len());
    for id in direct {
        if !folders.contains(&id) {
            folders.push(id);
        }
    }
    let direct_folders = i32::try_from(folders.len()).unwrap_or(i32::MAX);
    for id in above {
        if !folders.contains(&id) {
            folders.push(id);
        }
    }
    let facts = version.as_ref();
    change::Model {
        seq,
        batch_end_seq,
        kind,
        at,
        actor,
        path,
        old_path,
        folder_id,
        asset_id,
        version_id: facts.map(|version| version.id),
        version_number: facts.map(|version| version.number),
        content_type: facts.map(|version| version.content_type.clone()),
        size_bytes: facts.map(|version| version.size_bytes),
        sha256: facts.map(|version| version.sha256.clone()),
        folder_ids: folders.iter().flat_map(|id| id.0.into_bytes()).collect(),
        direct_folders,
    }
}
