//! Letting go for good: rows first, in commits of bounded size, then the bytes that nothing else needs.
//!
//! The first commit marks the deletion, after which there is no way back. One that breaks off is gone on with by
//! the next round.

use std::collections::HashMap;
use std::sync::Arc;

use entity::change::ChangeType;
use entity::{
    AssetId, DeletionId, FolderId, StoredFileId, asset, deletion, folder, name, upload_intent, version,
};
use uuid::Uuid;

use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};

use super::{Item, restore};
use crate::app::App;
use crate::domain::actor::{Actor, Role};
use crate::domain::asset::{self as assets, Asset};
use crate::domain::error::{Error, Result};
use crate::domain::folder as folders;
use crate::domain::path::join;
use crate::domain::{Edit, commit, former, gc, search, stored_file};

/// Assets that one commit lets go of.
const BATCH: u64 = 500;
/// Deletions that one round begins with, at most.
const ROUND: u64 = 100;

/// What is gone for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Folders.
    pub folders: i64,
    /// Assets.
    pub assets: i64,
    /// Bytes that nothing needs any more.
    pub bytes: i64,
}

/// Lets go of one trashed thing, or of all whose time is over.
///
/// # Errors
/// `NOT_FOUND` for what is not in the trash, `BAD_USER_INPUT` for what went with a folder.
pub async fn purge(app: &App, actor: &Actor, item: Option<Item>) -> Result<Purged> {
    actor.require(Role::Admin)?;
    let purged = match item {
        Some(item) => {
            let deletion = restore::find(app.read(), item).await?;
            purge_one(app, actor, deletion.id).await?
        }
        None => purge_due(app, actor).await?,
    };
    if purged.bytes > 0 {
        gc::collect_soon(app);
    }
    Ok(purged)
}

/// Lets go of all whose time is over, and of what an earlier round did not finish.
///
/// # Errors
/// What the database says; what is gone until then stays gone.
pub async fn purge_due(app: &App, actor: &Actor) -> Result<Purged> {
    let (mut all, mut failure) = (Purged::default(), None);
    let mut last = DeletionId(Uuid::nil());
    loop {
        let due = Condition::any()
            .add(deletion::Column::Purging.eq(true))
            .add(deletion::Column::PurgeAt.lte(app.clock().now()));
        let due = deletion::Entity::find().filter(due).filter(deletion::Column::Id.gt(last));
        let due = due.order_by_asc(deletion::Column::Id).limit(ROUND).all(app.read()).await?;
        let Some(end) = due.last() else {
            return failure.map_or(Ok(all), Err);
        };
        last = end.id;
        for deletion in due {
            // One that cannot be let go of is tried again next time, and blocks no other.
            let purged = match purge_one(app, actor, deletion.id).await {
                Ok(purged) => purged,
                Err(error) => {
                    tracing::error!(%error, cause = ?error.cause(), deletion = %deletion.id, "cannot purge");
                    failure = Some(error);
                    continue;
                }
            };
            all.folders += purged.folders;
            all.assets += purged.assets;
            all.bytes += purged.bytes;
        }
    }
}

async fn purge_one(app: &App, actor: &Actor, id: DeletionId) -> Result<Purged> {
    let mut all = Purged::default();
    loop {
        let step = commit(app, actor, move |edit| Box::pin(step(edit, id))).await?.value;
        crate::app::crash_point("purge-rows");
        all.folders += step.purged.folders;
        all.assets += step.purged.assets;
        all.bytes += step.purged.bytes;
        if step.over {
            return Ok(all);
        }
    }
}

struct Step {
    purged: Purged,
    over: bool,
}

/// One commit on the way.
async fn step(edit: Edit<'_>, id: DeletionId) -> Result<Step> {
    let conn = edit.conn();
    let Some(deletion) = deletion::Entity::find_by_id(id).lock_exclusive().one(conn).await? else {
        // Somebody else came to its end, or brought it back.
        return Ok(Step { purged: Purged::default(), over: true });
    };
    let rows = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(taken_by(id))
        .order_by_asc(asset::Column::Id)
        .limit(BATCH)
        .all(conn)
        .await?;
    let mut purged = Purged { assets: i64::try_from(rows.len()).unwrap_or(0), ..Purged::default() };
    let over = rows.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
    let gone = rows.into_iter().filter_map(|(row, folder)| {
        let folder = Arc::new(folder?);
        let own = row.deletion_id.is_some();
        let path = if own { deletion.path.clone() } else { join(&folder.path, &row.name) };
        Some(Asset { row, folder, published: None, deleted_from: Some(path), as_of: None })
    });
    let gone: Vec<Asset> = gone.collect();
    let ids: Vec<AssetId> = gone.iter().map(|asset| asset.row.id).collect();
    let mut parents = HashMap::new();
    for asset in &gone {
        let above = folders::chain(conn, asset.folder.id, &mut parents).await?;
        assets::record_in(edit, ChangeType::AssetPurge, asset, None, above);
    }
    let went_along: Vec<&Asset> = gone.iter().filter(|asset| asset.row.deletion_id.is_none()).collect();
    former::forget(edit, id, &went_along).await?;
    purged.bytes = remove_assets(edit, &ids).await?;
    if over {
        purged.folders = remove_folders(edit, id).await?;
        deletion::Entity::delete_by_id(id).exec(conn).await?;
    } else if !deletion.purging {
        let mut row = deletion.into_active_model();
        row.purging = Set(true);
        row.update(conn).await?;
    }
    Ok(Step { purged, over })
}

/// Assets that a deletion took, by themselves or with their folders.
fn taken_by(id: DeletionId) -> Condition {
    let with_folder = Condition::all()
        .add(asset::Column::DeletionId.is_null())
        .add(asset::Column::FolderId.in_subquery(folders_of(id)));
    Condition::any().add(asset::Column::DeletionId.eq(id)).add(with_folder)
}

fn folders_of(id: DeletionId) -> SelectStatement {
    let folders = folder::Entity::find().select_only().column(folder::Column::Id);
    folders.filter(folder::Column::DeletionId.eq(id)).into_query()
}

/// Removes the rows of assets; answers how many bytes nothing needs any more.
async fn remove_assets(edit: Edit<'_>, ids: &[AssetId]) -> Result<i64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let conn = edit.conn();
    let of_assets = version::Column::AssetId.is_in(ids.iter().copied());
    let versions =
        version::Entity::find().select_only().column(version::Column::Id).filter(of_assets.clone());
    upload_intent::Entity::delete_many()
        .filter(upload_intent::Column::VersionId.in_subquery(versions.into_query()))
        .exec(conn)
        .await?;
    let files: Vec<StoredFileId> = version::Entity::find()
        .select_only()
        .column(version::Column::StoredFileId)
        .distinct()
        .filter(of_assets.clone())
        .into_tuple()
        .all(conn)
        .await?;
    version::Entity::delete_many().filter(of_assets).exec(conn).await?;
    search::forget_assets(conn, ids).await?;
    asset::Entity::delete_many().filter(asset::Column::Id.is_in(ids.iter().copied())).exec(conn).await?;
    stored_file::release(edit, &files).await
}

/// Removes the folders of a deletion, which hold nothing of it any more. What lies in them by a deletion of its
/// own is kept: it knows its path, and goes to the root until it comes back.
async fn remove_folders(edit: Edit<'_>, id: DeletionId) -> Result<i64> {
    let conn = edit.conn();
    asset::Entity::update_many()
        .col_expr(asset::Column::FolderId, Expr::value(FolderId::ROOT))
        .filter(asset::Column::FolderId.in_subquery(folders_of(id)))
        .exec(conn)
        .await?;
    let others = Query::update()
        .table(folder::Entity)
        .value(folder::Column::ParentId, FolderId::ROOT)
        .and_where(folder::Column::ParentId.in_subquery(folders_of(id)))
        .and_where(folder::Column::DeletionId.is_not_null())
        .and_where(folder::Column::DeletionId.ne(id))
        .to_owned();
    conn.execute(&others).await?;
    name::Entity::delete_many().filter(name::Column::FolderId.in_subquery(folders_of(id))).exec(conn).await?;
    search::forget_folders(conn, id).await?;
    let gone = folder::Entity::delete_many().filter(folder::Column::DeletionId.eq(id)).exec(conn).await?;
    i64::try_from(gone.rows_affected).map_err(Error::internal)
}
