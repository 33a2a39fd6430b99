//! Identical bytes once: stored files point at blobs. What nothing needs any more waits as garbage. Upload
//! intents can also be for bytes without an asset, and can be sent in parts.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, json_binary, text, text_null, uuid, uuid_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Blobs {
    Table,
    Id,
    Backend,
    Sha256,
    SizeBytes,
    CreatedAt,
}

#[derive(DeriveIden)]
enum Garbage {
    Table,
    Id,
    Backend,
    Since,
    Attempts,
    TryAt,
}

#[derive(DeriveIden)]
enum StoredFiles {
    Table,
    BlobId,
    Kept,
    DeletedAt,
}

#[derive(DeriveIden)]
enum UploadParts {
    Table,
    IntentId,
    Number,
    SizeBytes,
    Sha256,
    StagingKey,
}

/// The table of upload intents under two names: SQLite cannot change a constraint, so the rows move.
#[derive(DeriveIden)]
enum UploadIntents {
    Table,
    #[sea_orm(iden = "upload_intents_before")]
    Before,
    Id,
    Path,
    Filename,
    DeclaredContentType,
    DeclaredSizeBytes,
    DeclaredSha256,
    Label,
    Publish,
    Visibility,
    IfRevision,
    PartSizeBytes,
    Status,
    RejectionCode,
    Rejection,
    StoredFileId,
    Backend,
    StagingKey,
    ContentType,
    ReceivedBytes,
    Sha256,
    VersionId,
    CreatedAt,
    CreatedBy,
    ExpiresAt,
    SweptAt,
}

#[derive(DeriveIden)]
enum Versions {
    Table,
    Id,
}

/// Columns that the table had before.
const KEPT_COLUMNS: &str = "id, path, filename, declared_content_type, declared_size_bytes, declared_sha256, label, \
    publish, visibility, if_revision, status, rejection_code, rejection, stored_file_id, backend, staging_key, \
    content_type, received_bytes, sha256, version_id, created_at, created_by, expires_at, swept_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        blobs(manager).await?;
        garbage(manager).await?;
        for column in [
            uuid_null(StoredFiles::BlobId),
            boolean(StoredFiles::Kept).default(false).take(),
            big_integer_null(StoredFiles::DeletedAt),
        ] {
            manager.alter_table(Table::alter().table(StoredFiles::Table).add_column(column).take()).await?;
        }
        let by_blob = Index::create()
            .name("stored_files_blob")
            .table(StoredFiles::Table)
            .col(StoredFiles::BlobId)
            .take();
        manager.create_index(by_blob).await?;
        // Of files with the same bytes the first one's stay; the others' are garbage.
        let connection = manager.get_connection();
        for sql in [
            "INSERT INTO blobs (id, backend, sha256, size_bytes, created_at) \
             SELECT id, backend, sha256, size_bytes, created_at FROM (SELECT stored_files.*, \
             row_number() OVER (PARTITION BY backend, sha256 ORDER BY id) AS n FROM stored_files) AS f \
             WHERE n = 1",
            "UPDATE stored_files SET blob_id = (SELECT b.id FROM blobs AS b \
             WHERE b.backend = stored_files.backend AND b.sha256 = stored_files.sha256)",
            "INSERT INTO garbage (id, backend, since, attempts, try_at) \
             SELECT id, backend, created_at, 0, created_at FROM stored_files WHERE id <> blob_id",
        ] {
            connection.execute_unprepared(sql).await?;
        }
        parts(manager).await?;
        rebuild_intents(manager, Shape::WithParts).await
    }

    /// Uploads without a path go, since the table before had no place for them. So do files that share bytes
    /// with another: each had its own place.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        connection.execute_unprepared("DELETE FROM upload_intents WHERE path IS NULL").await?;
        manager.drop_table(Table::drop().table(UploadParts::Table).take()).await?;
        rebuild_intents(manager, Shape::Whole).await?;
        for sql in [
            "INSERT INTO stored_files (id, backend, content_type, size_bytes, sha256, created_at, created_by) \
             SELECT b.id, b.backend, f.content_type, b.size_bytes, b.sha256, b.created_at, f.created_by \
             FROM blobs AS b JOIN stored_files AS f ON f.id = (SELECT max_id.id FROM stored_files AS max_id \
             WHERE max_id.blob_id = b.id ORDER BY max_id.id DESC LIMIT 1) \
             WHERE NOT EXISTS (SELECT 1 FROM stored_files AS same WHERE same.id = b.id)",
            "UPDATE versions SET stored_file_id = (SELECT f.blob_id FROM stored_files AS f \
             WHERE f.id = versions.stored_file_id)",
            "DELETE FROM stored_files WHERE blob_id <> id OR (blob_id IS NULL AND deleted_at IS NOT NULL)",
        ] {
            connection.execute_unprepared(sql).await?;
        }
        let drop = Index::drop().name("stored_files_blob").table(StoredFiles::Table).to_owned();
        manager.drop_index(drop).await?;
        for column in [StoredFiles::BlobId, StoredFiles::Kept, StoredFiles::DeletedAt] {
            manager.alter_table(Table::alter().table(StoredFiles::Table).drop_column(column).take()).await?;
        }
        for table in [Garbage::Table.into_iden(), Blobs::Table.into_iden()] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }
}

async fn blobs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Blobs::Table)
        .col(uuid(Blobs::Id).primary_key())
        .col(text(Blobs::Backend))
        .col(text(Blobs::Sha256))
        .col(big_integer(Blobs::SizeBytes))
        .col(big_integer(Blobs::CreatedAt))
        .check(Expr::col(Blobs::SizeBytes).gte(0))
        .take();
    manager.create_table(table).await?;
    let once = Index::create()
        .name("blobs_content")
        .table(Blobs::Table)
        .col(Blobs::Sha256)
        .col(Blobs::Backend)
        .unique()
        .take();
    manager.create_index(once).await
}

async fn garbage(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Garbage::Table)
        .col(uuid(Garbage::Id).primary_key())
        .col(text(Garbage::Backend))
        .col(big_integer(Garbage::Since))
        .col(integer(Garbage::Attempts))
        .col(big_integer(Garbage::TryAt))
        .take();
    manager.create_table(table).await?;
    let due = Index::create().name("garbage_due").table(Garbage::Table).col(Garbage::TryAt).take();
    manager.create_index(due).await
}

async fn parts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(UploadParts::Table)
        .col(uuid(UploadParts::IntentId))
        .col(integer(UploadParts::Number))
        .col(big_integer(UploadParts::SizeBytes))
        .col(text(UploadParts::Sha256))
        .col(text(UploadParts::StagingKey))
        .primary_key(Index::create().col(UploadParts::IntentId).col(UploadParts::Number))
        .take();
    manager.create_table(table).await
}

/// What the table of intents looks like.
#[derive(PartialEq, Eq)]
enum Shape {
    /// A path always, one request.
    Whole,
    /// A path or none, one request or parts.
    WithParts,
}

async fn rebuild_intents(manager: &SchemaManager<'_>, shape: Shape) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    manager
        .drop_index(Index::drop().name("upload_intents_unswept").table(UploadIntents::Table).to_owned())
        .await?;
    if shape == Shape::Whole {
        let drop = Index::drop().name("upload_intents_version").table(UploadIntents::Table).to_owned();
        manager.drop_index(drop).await?;
    }
    manager.rename_table(Table::rename().table(UploadIntents::Table, UploadIntents::Before).take()).await?;
    manager.create_table(intents(&shape)).await?;
    let copy = format!(
        "INSERT INTO upload_intents ({KEPT_COLUMNS}) SELECT {KEPT_COLUMNS} FROM upload_intents_before"
    );
    connection.execute_unprepared(&copy).await?;
    manager.drop_table(Table::drop().table(UploadIntents::Before).take()).await?;
    // What the sweeper looks for: all that has not been swept, soonest to expire first.
    let unswept = Index::create()
        .name("upload_intents_unswept")
        .table(UploadIntents::Table)
        .col(UploadIntents::ExpiresAt)
        .and_where(Expr::col(UploadIntents::SweptAt).is_null())
        .take();
    manager.create_index(unswept).await?;
    if shape == Shape::WithParts {
        let by_version = Index::create()
            .name("upload_intents_version")
            .table(UploadIntents::Table)
            .col(UploadIntents::VersionId)
            .and_where(Expr::col(UploadIntents::VersionId).is_not_null())
            .take();
        manager.create_index(by_version).await?;
    }
    Ok(())
}

fn intents(shape: &Shape) -> TableCreateStatement {
    let (path, ends_in_version) = match shape {
        Shape::Whole => (text(UploadIntents::Path), Expr::col(UploadIntents::VersionId).is_not_null().into()),
        Shape::WithParts => (
            text_null(UploadIntents::Path),
            Cond::any()
                .add(Expr::col(UploadIntents::VersionId).is_not_null())
                .add(Expr::col(UploadIntents::Path).is_null()),
        ),
    };
    let mut table = Table::create()
        .table(UploadIntents::Table)
        .col(uuid(UploadIntents::Id).primary_key())
        .col(path)
        .col(text(UploadIntents::Filename))
        .col(text_null(UploadIntents::DeclaredContentType))
        .col(big_integer_null(UploadIntents::DeclaredSizeBytes))
        .col(text_null(UploadIntents::DeclaredSha256))
        .col(text_null(UploadIntents::Label))
        .col(boolean(UploadIntents::Publish))
        .col(text_null(UploadIntents::Visibility))
        .col(big_integer_null(UploadIntents::IfRevision))
        .col(text(UploadIntents::Status))
        .col(text_null(UploadIntents::RejectionCode))
        .col(text_null(UploadIntents::Rejection))
        .col(uuid(UploadIntents::StoredFileId).unique_key())
        .col(text(UploadIntents::Backend))
        .col(text_null(UploadIntents::StagingKey))
        .col(text_null(UploadIntents::ContentType))
        .col(big_integer(UploadIntents::ReceivedBytes))
        .col(text_null(UploadIntents::Sha256))
        .col(uuid_null(UploadIntents::VersionId))
        .col(big_integer(UploadIntents::CreatedAt))
        .col(json_binary(UploadIntents::CreatedBy))
        .col(big_integer(UploadIntents::ExpiresAt))
        .col(big_integer_null(UploadIntents::SweptAt))
        .foreign_key(
            ForeignKey::create()
                .from(UploadIntents::Table, UploadIntents::VersionId)
                .to(Versions::Table, Versions::Id),
        )
        .check(Expr::col(UploadIntents::Status).is_in([
            "CREATED",
            "RECEIVED",
            "FINISHED",
            "REJECTED",
            "CANCELLED",
            "EXPIRED",
        ]))
        .take();
    // Only a finished upload has a version; of bytes without an asset none has.
    table.check(
        Cond::any()
            .add(Expr::col(UploadIntents::Status).eq("FINISHED"))
            .add(Expr::col(UploadIntents::VersionId).is_null()),
    );
    table.check(Cond::any().add(Expr::col(UploadIntents::Status).ne("FINISHED")).add(ends_in_version));
    if *shape == Shape::WithParts {
        table.col(big_integer_null(UploadIntents::PartSizeBytes));
    }
    table
}
