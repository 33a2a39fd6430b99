//! Deletions, former paths, and what the assets' table tells of the published version.
//!
//! What a deletion took keeps its rows and names its deletion; unique indexes hold for what is not in the trash.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, binary, boolean, integer, json_binary, text_null, uuid, uuid_null,
};

use crate::text::ordered_text;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Deletions {
    Table,
    Id,
    FolderId,
    AssetId,
    Path,
    Folders,
    Assets,
    DeletedAt,
    DeletedBy,
    PurgeAt,
    Purging,
}

#[derive(DeriveIden)]
enum FormerPaths {
    Table,
    Id,
    Path,
    FolderId,
    AssetId,
    Above,
    NextPath,
    BackId,
}

#[derive(DeriveIden)]
enum Folders {
    Table,
    ParentId,
    Name,
    Path,
    DeletionId,
}

#[derive(DeriveIden)]
enum Assets {
    Table,
    Id,
    FolderId,
    Name,
    CreatedAt,
    UpdatedAt,
    DeletionId,
    PublishedVersionId,
    PublishedContentType,
    PublishedSizeBytes,
    PublishedMediaType,
    PublishedFilename,
    PublishedSha256,
}

#[derive(DeriveIden)]
enum Versions {
    Table,
    RestoredFromId,
}

#[derive(DeriveIden)]
enum Changes {
    Table,
    Path,
    OldPath,
    Seq,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        deletions(manager).await?;
        former_paths(manager).await?;
        for column in [uuid_null(Folders::DeletionId)] {
            manager.alter_table(Table::alter().table(Folders::Table).add_column(column).take()).await?;
        }
        for column in [
            uuid_null(Assets::DeletionId),
            uuid_null(Assets::PublishedVersionId),
            text_null(Assets::PublishedContentType),
            big_integer(Assets::PublishedSizeBytes).default(0).take(),
            text_null(Assets::PublishedMediaType),
            text_null(Assets::PublishedFilename),
            text_null(Assets::PublishedSha256),
        ] {
            manager.alter_table(Table::alter().table(Assets::Table).add_column(column).take()).await?;
        }
        let published = |column: &str| {
            format!(
                "(SELECT v.{column} FROM versions AS v WHERE v.asset_id = assets.id AND v.state = 'PUBLISHED')"
            )
        };
        let sql = format!(
            "UPDATE assets SET published_version_id = {}, published_content_type = {}, \
             published_size_bytes = coalesce({}, 0), published_media_type = {}, published_filename = {}, \
             published_sha256 = {}",
            published("id"),
            published("content_type"),
            published("size_bytes"),
            published("content_type"),
            published("filename"),
            published("sha256"),
        );
        manager.get_connection().execute_unprepared(&sql).await?;
        indexes(manager).await
    }

    /// What is in the trash goes: the tables before had no place for it.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for sql in [
            "DELETE FROM upload_intents WHERE version_id IN (SELECT v.id FROM versions AS v JOIN assets AS a \
             ON a.id = v.asset_id JOIN folders AS f ON f.id = a.folder_id \
             WHERE a.deletion_id IS NOT NULL OR f.deletion_id IS NOT NULL)",
            "DELETE FROM versions WHERE asset_id IN (SELECT a.id FROM assets AS a JOIN folders AS f \
             ON f.id = a.folder_id WHERE a.deletion_id IS NOT NULL OR f.deletion_id IS NOT NULL)",
            "DELETE FROM assets WHERE deletion_id IS NOT NULL \
             OR folder_id IN (SELECT id FROM folders WHERE deletion_id IS NOT NULL)",
            "DELETE FROM names WHERE folder_id IN (SELECT id FROM folders WHERE deletion_id IS NOT NULL)",
            "DELETE FROM folders WHERE deletion_id IS NOT NULL",
        ] {
            connection.execute_unprepared(sql).await?;
        }
        for (index, table) in dropped_with_down() {
            manager.drop_index(Index::drop().name(index).table(table).to_owned()).await?;
        }
        for index in earlier_indexes() {
            manager.create_index(index).await?;
        }
        let drop = Table::alter().table(Folders::Table).drop_column(Folders::DeletionId).take();
        manager.alter_table(drop).await?;
        for column in [
            Assets::DeletionId,
            Assets::PublishedVersionId,
            Assets::PublishedContentType,
            Assets::PublishedSizeBytes,
            Assets::PublishedMediaType,
            Assets::PublishedFilename,
            Assets::PublishedSha256,
        ] {
            manager.alter_table(Table::alter().table(Assets::Table).drop_column(column).take()).await?;
        }
        for table in [FormerPaths::Table.into_iden(), Deletions::Table.into_iden()] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }
}

async fn deletions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Deletions::Table)
        .col(uuid(Deletions::Id).primary_key())
        .col(uuid_null(Deletions::FolderId))
        .col(uuid_null(Deletions::AssetId))
        .col(ordered_text(manager, Deletions::Path).not_null())
        .col(integer(Deletions::Folders))
        .col(integer(Deletions::Assets))
        .col(big_integer(Deletions::DeletedAt))
        .col(json_binary(Deletions::DeletedBy))
        .col(big_integer(Deletions::PurgeAt))
        .col(boolean(Deletions::Purging).default(false))
        .check(Expr::col(Deletions::FolderId).is_null().ne(Expr::col(Deletions::AssetId).is_null()))
        .take();
    manager.create_table(table).await?;
    for index in [
        Index::create()
            .name("deletions_deleted")
            .table(Deletions::Table)
            .col(Deletions::DeletedAt)
            .col(Deletions::Id)
            .take(),
        Index::create()
            .name("deletions_purge")
            .table(Deletions::Table)
            .col(Deletions::Purging)
            .col(Deletions::PurgeAt)
            .take(),
        Index::create().name("deletions_path").table(Deletions::Table).col(Deletions::Path).take(),
        Index::create()
            .name("deletions_folder")
            .table(Deletions::Table)
            .col(Deletions::FolderId)
            .unique()
            .and_where(Expr::col(Deletions::FolderId).is_not_null())
            .take(),
        Index::create()
            .name("deletions_asset")
            .table(Deletions::Table)
            .col(Deletions::AssetId)
            .unique()
            .and_where(Expr::col(Deletions::AssetId).is_not_null())
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn former_paths(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(FormerPaths::Table)
        .col(uuid(FormerPaths::Id).primary_key())
        .col(ordered_text(manager, FormerPaths::Path).not_null())
        .col(uuid_null(FormerPaths::FolderId))
        .col(uuid_null(FormerPaths::AssetId))
        .col(binary(FormerPaths::Above))
        .col(text_null(FormerPaths::NextPath))
        .col(uuid_null(FormerPaths::BackId))
        .take();
    manager.create_table(table).await?;
    for index in [
        Index::create()
            .name("former_paths_path")
            .table(FormerPaths::Table)
            .col(FormerPaths::Path)
            .col(FormerPaths::Id)
            .take(),
        Index::create()
            .name("former_paths_folder")
            .table(FormerPaths::Table)
            .col(FormerPaths::FolderId)
            .and_where(Expr::col(FormerPaths::FolderId).is_not_null())
            .take(),
        Index::create()
            .name("former_paths_asset")
            .table(FormerPaths::Table)
            .col(FormerPaths::AssetId)
            .and_where(Expr::col(FormerPaths::AssetId).is_not_null())
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn indexes(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for index in earlier_indexes() {
        let name = index.get_index_spec().get_name().unwrap_or_default().to_owned();
        manager.drop_index(Index::drop().name(name).table(table_of(&index)).to_owned()).await?;
    }
    let kept = || Expr::col(Assets::DeletionId).is_null();
    let folder_index = |name: &str| Index::create().name(name).table(Folders::Table).take();
    let asset_index = |name: &str| Index::create().name(name).table(Assets::Table).take();
    let live = || Expr::col(Folders::DeletionId).is_null();
    for index in [
        folder_index("folders_path").col(Folders::Path).unique().and_where(live()).take(),
        folder_index("folders_parent_name")
            .col(Folders::ParentId)
            .col(Folders::Name)
            .unique()
            .and_where(live())
            .take(),
        folder_index("folders_deletion")
            .col(Folders::DeletionId)
            .and_where(Expr::col(Folders::DeletionId).is_not_null())
            .take(),
        asset_index("assets_folder_name")
            .col(Assets::FolderId)
            .col(Assets::Name)
            .unique()
            .and_where(kept())
            .take(),
        asset_index("assets_folder_created")
            .col(Assets::FolderId)
            .col(Assets::CreatedAt)
            .col(Assets::Id)
            .and_where(kept())
            .take(),
        asset_index("assets_folder_updated")
            .col(Assets::FolderId)
            .col(Assets::UpdatedAt)
            .col(Assets::Id)
            .and_where(kept())
            .take(),
        asset_index("assets_folder_size")
            .col(Assets::FolderId)
            .col(Assets::PublishedSizeBytes)
            .col(Assets::Id)
            .and_where(kept())
            .take(),
        asset_index("assets_name").col(Assets::Name).col(Assets::Id).and_where(kept()).take(),
        asset_index("assets_created").col(Assets::CreatedAt).col(Assets::Id).and_where(kept()).take(),
        asset_index("assets_updated").col(Assets::UpdatedAt).col(Assets::Id).and_where(kept()).take(),
        asset_index("assets_size").col(Assets::PublishedSizeBytes).col(Assets::Id).and_where(kept()).take(),
        // What a folder holds, also in the trash: for purging, and for the foreign key.
        asset_index("assets_folder").col(Assets::FolderId).col(Assets::DeletionId).take(),
        asset_index("assets_deletion")
            .col(Assets::DeletionId)
            .and_where(Expr::col(Assets::DeletionId).is_not_null())
            .take(),
        // Removing a version looks for those that were restored from it.
        Index::create()
            .name("versions_restored_from")
            .table(Versions::Table)
            .col(Versions::RestoredFromId)
            .and_where(Expr::col(Versions::RestoredFromId).is_not_null())
            .take(),
        Index::create()
            .name("changes_path")
            .table(Changes::Table)
            .col(Changes::Path)
            .col(Changes::Seq)
            .take(),
        Index::create()
            .name("changes_old_path")
            .table(Changes::Table)
            .col(Changes::OldPath)
            .col(Changes::Seq)
            .and_where(Expr::col(Changes::OldPath).is_not_null())
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

/// Indexes that held for all rows and now hold for those that are not in the trash.
fn earlier_indexes() -> Vec<IndexCreateStatement> {
    let folder_index = |name: &str| Index::create().name(name).table(Folders::Table).take();
    let asset_index = |name: &str| Index::create().name(name).table(Assets::Table).take();
    vec![
        folder_index("folders_path").col(Folders::Path).unique().take(),
        folder_index("folders_parent_name").col(Folders::ParentId).col(Folders::Name).unique().take(),
        asset_index("assets_folder_name").col(Assets::FolderId).col(Assets::Name).unique().take(),
        asset_index("assets_folder_created")
            .col(Assets::FolderId)
            .col(Assets::CreatedAt)
            .col(Assets::Id)
            .take(),
        asset_index("assets_folder_updated")
            .col(Assets::FolderId)
            .col(Assets::UpdatedAt)
            .col(Assets::Id)
            .take(),
    ]
}

fn table_of(index: &IndexCreateStatement) -> TableRef {
    let name = index.get_index_spec().get_name().unwrap_or_default();
    if name.starts_with("folders") { Folders::Table.into_table_ref() } else { Assets::Table.into_table_ref() }
}

fn dropped_with_down() -> Vec<(&'static str, TableRef)> {
    let folders = ["folders_path", "folders_parent_name", "folders_deletion"];
    let assets = [
        "assets_folder_name",
        "assets_folder_created",
        "assets_folder_updated",
        "assets_folder_size",
        "assets_name",
        "assets_created",
        "assets_updated",
        "assets_size",
        "assets_folder",
        "assets_deletion",
    ];
    let mut all: Vec<(&'static str, TableRef)> =
        folders.into_iter().map(|name| (name, Folders::Table.into_table_ref())).collect();
    all.extend(assets.into_iter().map(|name| (name, Assets::Table.into_table_ref())));
    all.push(("versions_restored_from", Versions::Table.into_table_ref()));
    all.push(("changes_path", Changes::Table.into_table_ref()));
    all.push(("changes_old_path", Changes::Table.into_table_ref()));
    all
}
