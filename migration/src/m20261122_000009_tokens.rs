//! API tokens.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, json_binary, text, uuid};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Tokens {
    Table,
    Id,
    Name,
    Role,
    #[sea_orm(iden = "secret_sha256")]
    SecretSha256,
    CreatedAt,
    CreatedBy,
    ExpiresAt,
    LastUsedAt,
    RevokedAt,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let role = Expr::col(Tokens::Role).is_in(["VIEWER", "EDITOR", "ADMIN"]);
        let table = Table::create()
            .table(Tokens::Table)
            .col(uuid(Tokens::Id).primary_key())
            .col(text(Tokens::Name))
            .col(text(Tokens::Role).check(role))
            .col(text(Tokens::SecretSha256))
            .col(big_integer(Tokens::CreatedAt))
            .col(json_binary(Tokens::CreatedBy))
            .col(big_integer_null(Tokens::ExpiresAt))
            .col(big_integer_null(Tokens::LastUsedAt))
            .col(big_integer_null(Tokens::RevokedAt))
            .take();
        manager.create_table(table).await?;
        let newest =
            Index::create().name("tokens_created_at").table(Tokens::Table).col(Tokens::CreatedAt).take();
        manager.create_index(newest).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Tokens::Table).take()).await
    }
}
