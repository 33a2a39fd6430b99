//! What versions ask of the database when one is added or chosen, the work that a busy library does most: asked of a
//! transaction of the pool, or on SQLite by statements that run on the thread that asks, or on PostgreSQL of rows that
//! were read ahead.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use entity::{
    Actor as Stamp, FolderId, StoredFileId, Timestamp, VersionId, asset as asset_row, stored_file, version,
};
use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _, QuerySelect as _, StatementBuilder};
use uuid::Uuid;

use super::actor::Actor;
use super::asset::{self, Asset, AssetRef, NewAsset};
use super::error::{Error, Result};
use super::path::TreePath;
use super::scope::{self, Turn};
use super::{Committed, Edit, Ending, Work, folder, quick, submit, version as versions};
use crate::app::{Ahead, App, Inline, Tx, Wants};
use crate::feed::Draft;

/// The inside of an operation on versions.
pub(super) trait Rows: Copy + Send + Sync {
    /// The inside of the job.
    fn tx(&self) -> &Tx;

    /// Who does it.
    fn stamp(&self) -> &Stamp;

    /// The time of everything that the operation writes.
    fn now(&self) -> Timestamp {
        self.tx().now
    }

    /// Who does it, for a row.
    fn by(&self) -> Stamp {
        self.stamp().clone()
    }

    /// A new id.
    fn new_id(&self) -> Uuid {
        self.tx().new_id()
    }

    /// Adds an entry to the changelog.
    fn record(&self, draft: Draft) {
        self.tx().record(draft);
    }

    /// The asset that `target` names, held against other writers.
    fn asset(&self, target: &AssetRef) -> impl Future<Output = Result<Asset>> + Send;

    /// A new asset at a path.
    fn new_asset(&self, path: &TreePath) -> impl Future<Output = Result<Asset>> + Send;

    /// A version and its asset, held against other writers.
    fn version(&self, id: VersionId) -> impl Future<Output = Result<(version::Model, Asset)>> + Send;

    /// A stored file, held against its deletion.
    fn file(&self, id: StoredFileId) -> impl Future<Output = Result<Option<stored_file::Model>>> + Send;

    /// Ids of the folder at a path and of those above it, without the root, nearest first.
    fn lineage(&self, path: &str) -> impl Future<Output = Result<Vec<FolderId>>> + Send;

    /// Adds a version.
    fn insert_version(&self, version: &version::Model) -> impl Future<Output = Result<()>> + Send;

    /// Sets a version aside.
    fn archive_version(&self, id: VersionId) -> impl Future<Output = Result<()>> + Send;

    /// Writes the state of a version, and the stamps of its publishing and archiving.
    fn update_version(&self, version: &version::Model) -> impl Future<Output = Result<()>> + Send;

    /// Lets what strangers see follow a change of an asset's row.
    fn turn(&self, turn: &Turn) -> impl Future<Output = Result<()>> + Send;

    /// Writes what `now` has other than `before`: its number, its revision and stamp, what is published.
    fn update_asset(
        &self,
        before: &asset_row::Model,
        now: &asset_row::Model,
    ) -> impl Future<Output = Result<()>> + Send;
}

impl Rows for Edit<'_> {
    fn tx(&self) -> &Tx {
        self.tx
    }

    fn stamp(&self) -> &Stamp {
        self.by
    }

    async fn asset(&self, target: &AssetRef) -> Result<Asset> {
        asset::lock(self.conn(), target).await
    }

    async fn new_asset(&self, path: &TreePath) -> Result<Asset> {
        asset::insert(*self, path, NewAsset::default()).await
    }

    async fn version(&self, id: VersionId) -> Result<(version::Model, Asset)> {
        versions::lock(self.conn(), id).await
    }

    async fn file(&self, id: StoredFileId) -> Result<Option<stored_file::Model>> {
        Ok(stored_file::Entity::find_by_id(id).lock_shared().one(self.conn()).await?)
    }

    async fn lineage(&self, path: &str) -> Result<Vec<FolderId>> {
        folder::lineage(self.conn(), path).await
    }

    async fn insert_version(&self, version: &version::Model) -> Result<()> {
        self.write(&statement::insert_version(version)).await
    }

    async fn archive_version(&self, id: VersionId) -> Result<()> {
        self.write(&statement::archive_version(id, self.now(), self.by())).await
    }

    async fn update_version(&self, version: &version::Model) -> Result<()> {
        self.write(&statement::update_version(version)?).await
    }

    async fn turn(&self, turn: &Turn) -> Result<()> {
        scope::turn(*self, turn).await
    }

    async fn update_asset(&self, before: &asset_row::Model, now: &asset_row::Model) -> Result<()> {
        self.write(&statement::update_asset(before, now)?).await
    }
}

impl Edit<'_> {
    async fn write(&self, statement: &impl StatementBuilder) -> Result<()> {
        self.conn().execute(statement).await?;
        Ok(())
    }
}

/// As [`Edit`], for statements that run on the thread that asks. There is one writer, so nothing has to be held.
#[derive(Clone, Copy)]
pub(super) struct InlineEdit<'a> {
    tx: &'a Tx,
    inline: &'a Inline,
    by: &'a Stamp,
    declined: &'a AtomicBool,
}

impl Rows for InlineEdit<'_> {
    fn tx(&self) -> &Tx {
        self.tx
    }

    fn stamp(&self) -> &Stamp {
        self.by
    }

    async fn asset(&self, target: &AssetRef) -> Result<Asset> {
        let found = self.inline.read(|connection| quick::live_asset(connection, target))?;
        found.ok_or_else(|| target.not_found())
    }

    async fn new_asset(&self, _: &TreePath) -> Result<Asset> {
        // That takes folders, names and the search index.
        self.declined.store(true, Ordering::Relaxed);
        Err(Error::internal("to be made in a transaction of the pool"))
    }

    async fn version(&self, id: VersionId) -> Result<(version::Model, Asset)> {
        let found = self.inline.read(|connection| quick::version(connection, id))?;
        let version = found.ok_or_else(|| versions::not_found(id))?;
        let asset = self.asset(&AssetRef::Id(version.asset_id)).await?;
        Ok((version, asset))
    }

    async fn file(&self, id: StoredFileId) -> Result<Option<stored_file::Model>> {
        Ok(self.inline.read(|connection| quick::stored_file(connection, id))?)
    }

    async fn lineage(&self, path: &str) -> Result<Vec<FolderId>> {
        Ok(self.inline.read(|connection| quick::lineage(connection, path))?)
    }

    async fn insert_version(&self, version: &version::Model) -> Result<()> {
        self.write(&statement::insert_version(version))
    }

    async fn archive_version(&self, id: VersionId) -> Result<()> {
        self.write(&statement::archive_version(id, self.now(), self.by()))
    }

    async fn update_version(&self, version: &version::Model) -> Result<()> {
        self.write(&statement::update_version(version)?)
    }

    async fn turn(&self, turn: &Turn) -> Result<()> {
        scope::turn_inline(self.inline, turn)
    }

    async fn update_asset(&self, before: &asset_row::Model, now: &asset_row::Model) -> Result<()> {
        self.write(&statement::update_asset(before, now)?)
    }
}

impl InlineEdit<'_> {
    fn write(&self, statement: &impl StatementBuilder) -> Result<()> {
        Ok(self.inline.write(&DbBackend::Sqlite.build(statement))?)
    }
}

/// As [`Edit`], with rows that were read ahead and are written at the end.
#[derive(Clone, Copy)]
pub(super) struct AheadEdit<'a> {
    tx: &'a Tx,
    ahead: &'a Ahead,
    by: &'a Stamp,
    declined: &'a AtomicBool,
}

impl Rows for AheadEdit<'_> {
    fn tx(&self) -> &Tx {
        self.tx
    }

    fn stamp(&self) -> &Stamp {
        self.by
    }

    async fn asset(&self, target: &AssetRef) -> Result<Asset> {
        let found = match target {
            AssetRef::Id(id) => self.ahead.asset(*id),
            AssetRef::Path(path) => self.ahead.asset_at(path.parent().as_str(), path.name()),
        };
        let (row, folder) = found.ok_or_else(|| target.not_found())?;
        Ok(Asset { row, folder, published: None, deleted_from: None, as_of: None })
    }

    async fn new_asset(&self, _: &TreePath) -> Result<Asset> {
        self.declined.store(true, Ordering::Relaxed);
        Err(Error::internal("to be made in a transaction of the pool"))
    }

    async fn version(&self, id: VersionId) -> Result<(version::Model, Asset)> {
        let version = self.ahead.version(id).ok_or_else(|| versions::not_found(id))?;
        let asset = self.asset(&AssetRef::Id(version.asset_id)).await?;
        Ok((version, asset))
    }

    async fn file(&self, id: StoredFileId) -> Result<Option<stored_file::Model>> {
        Ok(self.ahead.file(id))
    }

    async fn lineage(&self, path: &str) -> Result<Vec<FolderId>> {
        Ok(self.ahead.lineage(path))
    }

    async fn insert_version(&self, version: &version::Model) -> Result<()> {
        self.ahead.insert_version(version.clone());
        Ok(())
    }

    async fn archive_version(&self, id: VersionId) -> Result<()> {
        self.ahead.archive_version(id, self.now(), self.by());
        Ok(())
    }

    async fn update_version(&self, version: &version::Model) -> Result<()> {
        self.ahead.update_version(version.clone());
        Ok(())
    }

    async fn turn(&self, _: &Turn) -> Result<()> {
        // That takes the folder, which was not read for writing.
        self.declined.store(true, Ordering::Relaxed);
        Err(Error::internal("to be shown in a transaction of the pool"))
    }

    async fn update_asset(&self, _: &asset_row::Model, now: &asset_row::Model) -> Result<()> {
        self.ahead.update_asset(now.clone());
        Ok(())
    }
}

/// The same for all that run statements.
mod statement {
    use entity::{Actor, Timestamp, VersionId, asset, version};
    use sea_orm::sea_query::{InsertStatement, UpdateStatement};
    use sea_orm::{
        ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
        Iterable as _, ModelTrait as _, QueryFilter as _, QueryTrait as _, Update,
    };

    use crate::domain::error::Result;

    pub(super) fn insert_version(version: &version::Model) -> InsertStatement {
        version::Entity::insert(version.clone().into_active_model().reset_all()).into_query()
    }

    pub(super) fn archive_version(id: VersionId, at: Timestamp, by: Actor) -> UpdateStatement {
        let row = version::ActiveModel {
            state: Set(version::State::Archived),
            archived_at: Set(Some(at)),
            archived_by: Set(Some(by)),
            ..Default::default()
        };
        version::Entity::update_many().set(row).filter(version::Column::Id.eq(id)).into_query()
    }

    pub(super) fn update_version(version: &version::Model) -> Result<UpdateStatement> {
        let mut row = version.clone().into_active_model();
        row.state = Set(version.state);
        row.published_at = Set(version.published_at);
        row.published_by = Set(version.published_by.clone());
        row.archived_at = Set(version.archived_at);
        row.archived_by = Set(version.archived_by.clone());
        Ok(Update::one(row).validate()?.into_query())
    }

    /// Only what differs: indexes of columns that stay the same are left alone.
    pub(super) fn update_asset(before: &asset::Model, now: &asset::Model) -> Result<UpdateStatement> {
        let mut row = now.clone().into_active_model();
        for column in asset::Column::iter() {
            let value = now.get(column);
            if value != before.get(column) {
                row.set(column, value);
            }
        }
        Ok(Update::one(row).validate()?.into_query())
    }
}

/// An operation that asks no more of the database than [`Rows`] can.
pub(super) trait OnRows: Clone + Send + Sync + 'static {
    /// What it answers.
    type Outcome: Send + 'static;

    /// What it will ask for.
    fn wants(&self) -> Wants;

    /// Does it.
    fn run<R: Rows>(self, rows: R) -> impl Future<Output = Result<Self::Outcome>> + Send;
}

/// As [`commit`](super::commit), of an operation on rows.
///
/// # Errors
/// What the operation answers, or that the commit failed.
pub(super) async fn commit<O: OnRows>(
    app: &App,
    actor: &Actor,
    operation: O,
) -> Result<Committed<O::Outcome>> {
    submit(app, actor, Ending::Keep, Either(operation)).await
}

/// An operation that runs wherever it may.
struct Either<O>(O);

#[async_trait]
impl<O: OnRows> Work for Either<O> {
    type Outcome = O::Outcome;

    fn wants(&self) -> Option<Wants> {
        Some(self.0.wants())
    }

    async fn run(&mut self, tx: &Tx, by: &Stamp) -> Option<Result<O::Outcome>> {
        let operation = self.0.clone();
        let declined = AtomicBool::new(false);
        if let Some(inline) = tx.inline() {
            let outcome = operation.run(InlineEdit { tx, inline, by, declined: &declined }).await;
            return (!declined.into_inner()).then_some(outcome);
        }
        if let Some(ahead) = tx.ahead() {
            let outcome = operation.run(AheadEdit { tx, ahead, by, declined: &declined }).await;
            return (!declined.into_inner()).then_some(outcome);
        }
        Some(operation.run(Edit::new(tx, by)?).await)
    }
}
