//! Vellum's tables, up and down. One set of statements runs on SQLite and PostgreSQL alike.

pub use sea_orm_migration::prelude::*;

mod m20261121_000001_library;
mod m20261121_000002_uploads;
mod m20261121_000003_changelog;
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
        ]
    }
}
