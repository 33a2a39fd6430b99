//! Fills a library: the rows that the product itself would have written, in large transactions.
//!
//! The rows of the search index are left out: the server makes them when it first starts on such a library.

mod rows;

use anyhow::Context as _;
use entity::{blob, changelog_head, stored_file};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter as _, TransactionTrait as _,
};

use crate::plan::{Asset, Folder, Plan};
use rows::Batch;

/// Rows in one INSERT; SQLite takes 32,766 parameters, and a row has 20 at most.
const CHUNK: usize = 1000;
/// Assets whose rows are gathered before they are inserted.
const GATHERED: usize = 1000;
/// Assets in one transaction.
const TRANSACTION: usize = 20_000;

/// Writes all rows of `plan` into a database that was just migrated.
///
/// # Errors
/// What the database says.
pub async fn write(database: &DatabaseConnection, plan: &Plan) -> anyhow::Result<()> {
    let tx = database.begin().await?;
    insert::<blob::Entity>(&tx, rows::blobs(plan)).await.context("cannot insert blobs")?;
    insert::<stored_file::Entity>(&tx, rows::stored_files(plan))
        .await
        .context("cannot insert stored files")?;
    let mut batch = Batch::default();
    let numbered = (0..plan.folders()).map(Folder::Numbered);
    for folder in [Folder::Library, Folder::Versions].into_iter().chain(numbered) {
        batch.add_folder(plan, folder);
    }
    batch.write(&tx).await.context("cannot insert folders")?;
    tx.commit().await?;

    let assets: Vec<Asset> = (0..plan.assets).map(Asset::Numbered).chain([Asset::Many]).collect();
    for part in assets.chunks(TRANSACTION) {
        let tx = database.begin().await?;
        for gathered in part.chunks(GATHERED) {
            let mut batch = Batch::default();
            for asset in gathered {
                batch.add_asset(plan, *asset);
            }
            batch.write(&tx).await.context("cannot insert assets")?;
        }
        tx.commit().await?;
    }
    for statement in SHOWN {
        database.execute_unprepared(statement).await.context("cannot tell what is shown")?;
    }
    set_head(database, plan.last_seq()).await.context("cannot set the head of the changelog")
}

/// What the server keeps of what strangers see.
const SHOWN: [&str; 3] = [
    "UPDATE assets SET open = (visibility = 'PUBLIC' AND published_version_id IS NOT NULL)",
    "UPDATE folders SET has_open = EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = folders.id AND a.open)",
    "UPDATE folders SET has_open = TRUE WHERE NOT has_open AND EXISTS (SELECT 1 FROM folders AS o WHERE o.has_open \
        AND (folders.path = '' OR (o.path > folders.path || '/' AND o.path < folders.path || '0')))",
];

async fn set_head(conn: &impl ConnectionTrait, last_seq: i64) -> anyhow::Result<()> {
    let updated = changelog_head::Entity::update_many()
        .col_expr(changelog_head::Column::LastSeq, Expr::value(last_seq))
        .filter(changelog_head::Column::Id.eq(1))
        .exec(conn)
        .await?;
    anyhow::ensure!(updated.rows_affected == 1, "the row is missing");
    Ok(())
}

async fn insert<E>(conn: &impl ConnectionTrait, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: Send,
{
    let mut rows = rows.into_iter().map(IntoActiveModel::into_active_model);
    loop {
        let chunk: Vec<E::ActiveModel> = rows.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        E::insert_many(chunk).exec_without_returning(conn).await?;
    }
}
