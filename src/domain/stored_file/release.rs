//! Letting go of bytes: what nothing needs any more becomes garbage, by the commit that lets go of it.

use entity::{BlobId, StoredFileId, Timestamp, blob, garbage, stored_file, version};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};

use crate::domain::Edit;
use crate::domain::error::Result;

/// Removes those of `files` that nothing needs; answers how many bytes nothing needs any more.
pub(in crate::domain) async fn release(edit: Edit<'_>, files: &[StoredFileId]) -> Result<i64> {
    let conn = edit.conn();
    let mut bytes = 0;
    for some in files.chunks(1000) {
        let used = version::Entity::find()
            .select_only()
            .column(version::Column::StoredFileId)
            .filter(version::Column::StoredFileId.is_in(some.iter().copied()));
        let unused = stored_file::Entity::find()
            .filter(stored_file::Column::Id.is_in(some.iter().copied()))
            .filter(stored_file::Column::Kept.eq(false))
            .filter(stored_file::Column::Id.not_in_subquery(used.into_query()))
            .all(conn)
            .await?;
        let ids = unused.iter().map(|file| file.id);
        stored_file::Entity::delete_many().filter(stored_file::Column::Id.is_in(ids)).exec(conn).await?;
        bytes += release_blobs(edit, unused.iter().filter_map(|file| file.blob_id).collect()).await?;
    }
    Ok(bytes)
}

/// Makes garbage of those of `blobs` that no file has; answers how many bytes they are.
pub(super) async fn release_blobs(edit: Edit<'_>, blobs: Vec<BlobId>) -> Result<i64> {
    let conn = edit.conn();
    let used = stored_file::Entity::find()
        .select_only()
        .column(stored_file::Column::BlobId)
        .filter(stored_file::Column::BlobId.is_in(blobs.iter().copied()));
    // Held first, asked for second: whoever adopts one holds it too, and is seen by a statement that begins later.
    let held = blob::Entity::find()
        .filter(blob::Column::Id.is_in(blobs.iter().copied()))
        .order_by_asc(blob::Column::Id)
        .lock_exclusive()
        .all(conn)
        .await?;
    let used: Vec<Option<BlobId>> = used.into_tuple().all(conn).await?;
    let unused: Vec<blob::Model> = held.into_iter().filter(|blob| !used.contains(&Some(blob.id))).collect();
    let ids: Vec<BlobId> = unused.iter().map(|blob| blob.id).collect();
    blob::Entity::delete_many().filter(blob::Column::Id.is_in(ids)).exec(conn).await?;
    let gone: Vec<(BlobId, &str)> = unused.iter().map(|blob| (blob.id, blob.backend.as_str())).collect();
    discard(edit, &gone).await?;
    Ok(unused.iter().map(|blob| blob.size_bytes).sum())
}

/// Remembers bytes that no row names, until they are removed.
pub(in crate::domain) async fn discard(edit: Edit<'_>, blobs: &[(BlobId, &str)]) -> Result<()> {
    discard_at(edit, blobs, edit.now()).await
}

/// The same, and lets them lie until then at least.
pub(in crate::domain) async fn discard_at(
    edit: Edit<'_>,
    blobs: &[(BlobId, &str)],
    at: Timestamp,
) -> Result<()> {
    let row = |(id, backend): &(BlobId, &str)| garbage::ActiveModel {
        id: Set(*id),
        backend: Set((*backend).to_owned()),
        since: Set(edit.now()),
        attempts: Set(0),
        try_at: Set(at),
    };
    if blobs.is_empty() {
        return Ok(());
    }
    let again = OnConflict::columns([garbage::Column::Id, garbage::Column::Backend])
        .value(garbage::Column::TryAt, Expr::value(at))
        .to_owned();
    garbage::Entity::insert_many(blobs.iter().map(row))
        .on_conflict(again)
        .exec_without_returning(edit.conn())
        .await?;
    Ok(())
}
