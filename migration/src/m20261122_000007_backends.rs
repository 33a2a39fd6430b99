//! Several storage backends: garbage is known by its backend too, blobs know what a bucket tells readers of them, and
//! uploads know their multipart upload, and a key for their bytes that nobody else can guess.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, integer, text, text_null, uuid, uuid_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Blobs {
    Table,
    ContentType,
    Filename,
}

/// The table of garbage under two names: SQLite cannot change a primary key, so the rows move.
#[derive(DeriveIden)]
enum Garbage {
    Table,
    #[sea_orm(iden = "garbage_before")]
    Before,
    Id,
    Backend,
    Since,
    Attempts,
    TryAt,
}

#[derive(DeriveIden)]
enum UploadIntents {
    Table,
    UploadRef,
    BlobId,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in [Blobs::ContentType.into_iden(), Blobs::Filename.into_iden()] {
            let table = Table::alter().table(Blobs::Table).add_column(text_null(column)).take();
            manager.alter_table(table).await?;
        }
        for column in [text_null(UploadIntents::UploadRef), uuid_null(UploadIntents::BlobId)] {
            let table = Table::alter().table(UploadIntents::Table).add_column(column).take();
            manager.alter_table(table).await?;
        }
        let by_blob = Index::create()
            .name("upload_intents_blob")
            .table(UploadIntents::Table)
            .col(UploadIntents::BlobId)
            .take();
        manager.create_index(by_blob).await?;
        let key = Index::create().col(Garbage::Id).col(Garbage::Backend).take();
        rebuild_garbage(manager, key, "").await
    }

    /// Of bytes that are garbage on several backends one stays known.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let key = Index::create().col(Garbage::Id).take();
        let once = " WHERE backend = (SELECT min(b.backend) FROM garbage_before AS b WHERE b.id = garbage_before.id)";
        rebuild_garbage(manager, key, once).await?;
        manager
            .drop_index(Index::drop().name("upload_intents_blob").table(UploadIntents::Table).to_owned())
            .await?;
        for column in [UploadIntents::UploadRef.into_iden(), UploadIntents::BlobId.into_iden()] {
            manager
                .alter_table(Table::alter().table(UploadIntents::Table).drop_column(column).take())
                .await?;
        }
        for column in [Blobs::ContentType.into_iden(), Blobs::Filename.into_iden()] {
            manager.alter_table(Table::alter().table(Blobs::Table).drop_column(column).take()).await?;
        }
        Ok(())
    }
}

async fn rebuild_garbage(
    manager: &SchemaManager<'_>,
    mut key: IndexCreateStatement,
    which: &str,
) -> Result<(), DbErr> {
    let drop = Index::drop().name("garbage_due").table(Garbage::Table).to_owned();
    manager.drop_index(drop).await?;
    manager.rename_table(Table::rename().table(Garbage::Table, Garbage::Before).take()).await?;
    let table = Table::create()
        .table(Garbage::Table)
        .col(uuid(Garbage::Id))
        .col(text(Garbage::Backend))
        .col(big_integer(Garbage::Since))
        .col(integer(Garbage::Attempts))
        .col(big_integer(Garbage::TryAt))
        .primary_key(&mut key)
        .take();
    manager.create_table(table).await?;
    let copy = format!(
        "INSERT INTO garbage (id, backend, since, attempts, try_at) \
         SELECT id, backend, since, attempts, try_at FROM garbage_before{which}"
    );
    manager.get_connection().execute_unprepared(&copy).await?;
    manager.drop_table(Table::drop().table(Garbage::Before).take()).await?;
    let due = Index::create().name("garbage_due").table(Garbage::Table).col(Garbage::TryAt).take();
    manager.create_index(due).await
}
