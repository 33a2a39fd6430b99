//! Taking and releasing names, which the folders and assets of a folder share.

use entity::name::{self, Holder};
use entity::{FolderId, folder};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait as _, QueryTrait as _};

use super::error::{Error, Result};
use super::path::join;

/// Takes `name` in `parent`.
///
/// # Errors
/// `ALREADY_EXISTS` when something has it.
pub async fn take(
    conn: &impl ConnectionTrait,
    parent: &folder::Model,
    name: &str,
    holder: Holder,
) -> Result<()> {
    if let Some(taken) = holder_of(conn, parent.id, name).await? {
        return Err(taken_error(&join(&parent.path, name), taken));
    }
    let row =
        name::ActiveModel { folder_id: Set(parent.id), name: Set(name.to_owned()), holder: Set(holder) };
    let columns = [name::Column::FolderId, name::Column::Name];
    let insert = name::Entity::insert(row).on_conflict(OnConflict::columns(columns).do_nothing().to_owned());
    if conn.execute(&insert.into_query()).await?.rows_affected() == 0 {
        // Another server was faster, and has committed it.
        let taken = holder_of(conn, parent.id, name).await?.unwrap_or(holder);
        return Err(taken_error(&join(&parent.path, name), taken));
    }
    Ok(())
}

/// What has `name` in a folder.
///
/// # Errors
/// What the database says.
pub async fn holder_of(conn: &impl ConnectionTrait, parent: FolderId, name: &str) -> Result<Option<Holder>> {
    let row = name::Entity::find_by_id((parent, name.to_owned())).one(conn).await?;
    Ok(row.map(|row| row.holder))
}

/// Lets go of `name` in a folder.
///
/// # Errors
/// What the database says.
pub async fn release(conn: &impl ConnectionTrait, parent: FolderId, name: &str) -> Result<()> {
    name::Entity::delete_by_id((parent, name.to_owned())).exec(conn).await?;
    Ok(())
}

/// The refusal of a path that something has.
pub fn taken_error(path: &str, holder: Holder) -> Error {
    let what = match holder {
        Holder::Folder => "a folder",
        Holder::Asset => "an asset",
    };
    Error::AlreadyExists(format!("{path} is taken by {what}"))
}
