//! Vellum's tables, up and down. One set of statements runs on SQLite and PostgreSQL alike.

pub use sea_orm_migration::prelude::*;

mod m20261121_000001_library;
mod m20261121_000002_uploads;
mod m20261121_000003_changelog;
mod m20261122_000004_trash;
mod m20261122_000005_storage;
mod m20261122_000006_search;
mod m20261122_000007_backends;
mod m20261122_000008_sweep;
mod m20261122_000009_tokens;
mod m20261122_000010_open;
mod m20261123_000011_leads;
mod text;

/// Every migration, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_library::Migration),
            Box::new(m20261121_000002_uploads::Migration),
            Box::new(m20261121_000003_changelog::Migration),
            Box::new(m20261122_000004_trash::Migration),
            Box::new(m20261122_000005_storage::Migration),
            Box::new(m20261122_000006_search::Migration),
            Box::new(m20261122_000007_backends::Migration),
            Box::new(m20261122_000008_sweep::Migration),
            Box::new(m20261122_000009_tokens::Migration),
            Box::new(m20261122_000010_open::Migration),
            Box::new(m20261123_000011_leads::Migration),
        ]
    }
}
