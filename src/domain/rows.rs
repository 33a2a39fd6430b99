//! What versions ask of the database when one is added or chosen, the work that a busy library does most: asked of a
//! transaction of the pool, or on SQLite by statements that run on the thread that asks.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use entity::{Actor as Stamp, FolderId, StoredFileId, Timestamp, VersionId, stored_file, version};
use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _, QuerySelect as _, StatementBuilder};
use uuid::Uuid;

use super::actor::Actor;
use super::asset::{self, Asset, AssetRef, NewAsset};
use super::error::{Error, Result};
use super::path::TreePath;
use super::{Committed, Edit, Ending, Work, folder, quick, submit, version as versions};
use crate::app::{App, Inline, Tx};
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

    /// Runs a statement that writes.
    fn write(&self, statement: &impl StatementBuilder) -> impl Future<Output = Result<()>> + Send;
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

    async fn write(&self, statement: &impl StatementBuilder) -> Result<()> {
        Ok(self.inline.write(&DbBackend::Sqlite.build(statement))?)
    }
}

/// An operation that asks no more of the database than [`Rows`] can.
pub(super) trait OnRows: Clone + Send + Sync + 'static {
    /// What it answers.
    type Outcome: Send + 'static;

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

    fn runs_inline(&self) -> bool {
        true
    }

    async fn run(&mut self, tx: &Tx, by: &Stamp) -> Option<Result<O::Outcome>> {
        let operation = self.0.clone();
        if let Some(inline) = tx.inline() {
            let declined = AtomicBool::new(false);
            let outcome = operation.run(InlineEdit { tx, inline, by, declined: &declined }).await;
            return (!declined.into_inner()).then_some(outcome);
        }
        Some(operation.run(Edit::new(tx, by)?).await)
    }
}
