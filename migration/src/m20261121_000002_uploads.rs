//! Upload intents.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, json_binary, text, text_null, uuid, uuid_null,
};

use crate::m20261121_000001_library::Versions;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum UploadIntents {
    Table,
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

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(UploadIntents::Table)
            .col(uuid(UploadIntents::Id).primary_key())
            .col(text(UploadIntents::Path))
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
            .check(
                Expr::col(UploadIntents::Status)
                    .eq("FINISHED")
                    .eq(Expr::col(UploadIntents::VersionId).is_not_null()),
            )
            .take();
        manager.create_table(table).await?;
        // What the sweeper looks for: all that has not been swept, soonest to expire first.
        let unswept = Index::create()
            .name("upload_intents_unswept")
            .table(UploadIntents::Table)
            .col(UploadIntents::ExpiresAt)
            .and_where(Expr::col(UploadIntents::SweptAt).is_null())
            .take();
        manager.create_index(unswept).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(UploadIntents::Table).take()).await
    }
}
