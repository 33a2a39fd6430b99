//! Columns whose text compares byte by byte on every database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// A text column for names and paths. SQLite compares bytes as it is; PostgreSQL has to be told, since its
/// locale would sort `a/b` and `a0` by another rule than the range scans below a path use.
pub fn ordered_text(manager: &SchemaManager<'_>, column: impl IntoIden) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    match manager.get_database_backend() {
        DbBackend::Postgres => definition.custom(Alias::new("text COLLATE \"C\"")),
        _ => definition.text(),
    };
    definition
}
