//! What an actor sees of the library, decided here and nowhere else: all of it, or what is shown to strangers.
//!
//! An asset is *shown* while it is public, something of it is published, and it is not in the trash. Of a shown asset, each
//! version that was ever published is; of folders, the root and those with a shown asset in them or below. Who did
//! something, and what something was called before, strangers are not told.
//!
//! `assets.open` (public and published) and `folders.has_open` (one such is in it or below, or was) keep that cheap: what is
//! shown is looked for by indexes that have only these, however much else there is. The first is exact. The second is set
//! in the commit that shows an asset, or moves a folder, and cleared some time after the last one is hidden; whoever asks
//! looks at the assets themselves.

use std::collections::HashMap;
use std::sync::Arc;

use entity::asset::Visibility;
use entity::{Actor as Stamp, FolderId, asset, folder, version};
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement, Value};
use uuid::Uuid;

use super::actor::{Actor, Role};
use super::asset::Asset;
use super::error::{Error, Result};
use super::{Edit, commit_alone, writes_alone};
use crate::app::{App, Inline};

/// How much of the library somebody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What is shown to strangers.
    Shown,
}

/// A row that names who made and changed it.
trait Stamped {
    fn forget_who(&mut self);
}

impl Actor {
    /// What the actor sees.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.role >= Role::Viewer { Scope::All } else { Scope::Shown }
    }
}

impl Scope {
    /// An asset as it is seen, if it is.
    #[must_use]
    pub fn asset(self, mut asset: Asset) -> Option<Asset> {
        if self == Self::All {
            return Some(asset);
        }
        if !is_open(&asset.row) || asset.deletion_id().is_some() {
            return None;
        }
        asset.row.forget_who();
        Arc::make_mut(&mut asset.folder).forget_who();
        if let Some(published) = &mut asset.published {
            Arc::make_mut(published).forget_who();
        }
        Some(asset)
    }

    /// A version of an asset that is seen, if the version is.
    #[must_use]
    pub fn version(self, mut version: version::Model) -> Option<version::Model> {
        if self == Self::All {
            return Some(version);
        }
        version.published_at?;
        version.forget_who();
        Some(version)
    }

    /// A folder that was found by [`Scope::folders`], as it is seen.
    #[must_use]
    pub fn folder(self, mut folder: folder::Model) -> folder::Model {
        if self == Self::Shown {
            folder.forget_who();
        }
        folder
    }

    /// Which rows of `assets` are seen, besides those that all are kept from; none when all are.
    #[must_use]
    pub fn assets(self) -> Option<SimpleExpr> {
        (self == Self::Shown).then(|| Expr::cust(r#""assets"."open""#))
    }

    /// Which rows of `versions` of an asset that is seen are; none when all are.
    #[must_use]
    pub fn versions(self) -> Option<SimpleExpr> {
        (self == Self::Shown).then(|| Expr::cust(r#""versions"."published_at" IS NOT NULL"#))
    }

    /// Which rows of `versions` are seen, whatever the asset; none when all are.
    #[must_use]
    pub fn versions_of_any(self) -> Option<SimpleExpr> {
        (self == Self::Shown).then(|| Expr::cust(VERSION_OF_ANY))
    }

    /// Which rows of `folders` are seen; none when all are.
    #[must_use]
    pub fn folders(self) -> Option<SimpleExpr> {
        (self == Self::Shown).then(|| Expr::cust(format!(r#"("folders"."path" = '' OR ({SUBFOLDER}))"#)))
    }

    /// The same, where the root is not among them: so indexes serve that have only folders with something open.
    #[must_use]
    pub fn subfolders(self) -> Option<SimpleExpr> {
        (self == Self::Shown).then(|| Expr::cust(SUBFOLDER))
    }
}

const VERSION_OF_ANY: &str = r#""versions"."published_at" IS NOT NULL AND EXISTS (
    SELECT 1 FROM assets AS a JOIN folders AS f ON f.id = a.folder_id
    WHERE a.id = "versions"."asset_id" AND a.open AND a.deletion_id IS NULL AND f.deletion_id IS NULL)"#;

/// `has_open = TRUE`, as the indexes have it: a comparison with their second column, so that they are preferred to those of
/// all folders.
const SUBFOLDER: &str = r#""folders"."deletion_id" IS NULL AND "folders"."has_open" = TRUE AND (
    EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = "folders"."id" AND a.open AND a.deletion_id IS NULL)
    OR EXISTS (SELECT 1 FROM folders AS o WHERE o.has_open AND o.deletion_id IS NULL
        AND o.path > "folders"."path" || '/' AND o.path < "folders"."path" || '0'
        AND EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = o.id AND a.open AND a.deletion_id IS NULL)))"#;

impl Stamped for asset::Model {
    fn forget_who(&mut self) {
        self.created_by = nobody();
        self.updated_by = nobody();
    }
}

impl Stamped for folder::Model {
    fn forget_who(&mut self) {
        self.created_by = nobody();
        self.updated_by = nobody();
    }
}

impl Stamped for version::Model {
    fn forget_who(&mut self) {
        self.created_by = nobody();
        self.published_by = self.published_by.as_ref().map(|_| nobody());
        self.archived_by = self.archived_by.as_ref().map(|_| nobody());
    }
}

/// Who did something, as strangers are told.
fn nobody() -> Stamp {
    Actor::anonymous().stamp
}

/// Whether an asset is public, and something of it is published.
fn is_open(row: &asset::Model) -> bool {
    row.visibility == Visibility::Public && row.published_version_id.is_some()
}

/// What a change of an asset's row means for what strangers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    asset: entity::AssetId,
    /// It is open from now on, or not any more.
    open: Option<bool>,
    /// The folder in which it is shown from now on.
    enters: Option<FolderId>,
}

impl Turn {
    /// What a change means; none when nothing, as mostly.
    pub(super) fn of(before: &asset::Model, now: &asset::Model) -> Option<Self> {
        let shown_in =
            |row: &asset::Model| (is_open(row) && row.deletion_id.is_none()).then_some(row.folder_id);
        let (was, is) = (shown_in(before), shown_in(now));
        let turn = Self {
            asset: now.id,
            open: (is_open(before) != is_open(now)).then(|| is_open(now)),
            enters: is.filter(|_| was != is),
        };
        (turn.open.is_some() || turn.enters.is_some()).then_some(turn)
    }

    /// The statement that keeps `assets.open` exact; none when that stays.
    fn open(&self, backend: DbBackend) -> Option<Statement> {
        let values = vec![self.open?.into(), self.asset.0.into()];
        Some(statement(backend, "UPDATE assets SET open = $1 WHERE id = $2", values))
    }
}

fn statement(backend: DbBackend, sql: &str, values: Vec<Value>) -> Statement {
    // SQLite numbers parameters in the same way, by another sign.
    let sql = if backend == DbBackend::Postgres { sql.to_owned() } else { sql.replace('$', "?") };
    Statement::from_sql_and_values(backend, sql, values)
}

/// Lets what strangers see follow a change, by statements of the pool.
pub(super) async fn turn(edit: Edit<'_>, turn: &Turn) -> Result<()> {
    let conn = edit.conn();
    if let Some(open) = turn.open(conn.get_database_backend()) {
        conn.execute_raw(open).await?;
    }
    match turn.enters {
        Some(folder) => lead_to(conn, folder).await,
        None => Ok(()),
    }
}

/// The same, on SQLite by statements that run on the thread that asks.
pub(super) fn turn_inline(inline: &Inline, turn: &Turn) -> Result<()> {
    if let Some(open) = turn.open(DbBackend::Sqlite) {
        inline.write(&open)?;
    }
    if let Some(folder) = turn.enters {
        inline.write(&statement(DbBackend::Sqlite, LEAD, vec![folder.0.into()]))?;
    }
    Ok(())
}

/// The same for a folder that is at another place, held as it is: those above lead to what it leads to.
pub(super) async fn carry(edit: Edit<'_>, folder: &folder::Model) -> Result<()> {
    let (conn, Some(parent)) = (edit.conn(), folder.parent_id) else { return Ok(()) };
    let leads = "SELECT 1 FROM folders WHERE id = $1 AND has_open";
    let leads = statement(conn.get_database_backend(), leads, vec![folder.id.0.into()]);
    match conn.query_one_raw(leads).await? {
        Some(_) => lead_to(conn, parent).await,
        None => Ok(()),
    }
}

/// A statement about a folder and those above it.
macro_rules! lineage {
    ($statement:literal) => {
        concat!(
            "WITH RECURSIVE up(id, parent_id) AS (SELECT id, parent_id FROM folders WHERE id = $1 \
                UNION ALL SELECT f.id, f.parent_id FROM folders AS f JOIN up ON f.id = up.parent_id)",
            $statement
        )
    };
}

const LEAD: &str =
    lineage!(" UPDATE folders SET has_open = TRUE WHERE id IN (SELECT id FROM up) AND NOT has_open");
/// On PostgreSQL, where others may do the same: from the root down, so that two that lead to one folder each never wait in a
/// circle. (Those that do more in a transaction may, as with all rows: then one of them is told to try again.)
const LEAD_IN_TURN: &str = lineage!(
    ", found AS (SELECT id FROM folders WHERE id IN (SELECT id FROM up) AND NOT has_open ORDER BY depth \
        FOR NO KEY UPDATE) UPDATE folders SET has_open = TRUE WHERE id IN (SELECT id FROM found)"
);
const HOLD: &str = lineage!(
    " SELECT id, parent_id, has_open FROM folders WHERE id IN (SELECT id FROM up) ORDER BY depth FOR KEY SHARE"
);

/// Looks for a folder's place; each after the first is for a move that was committed meanwhile.
const MOST_LOOKS: usize = 10;

/// Says that something is shown in a folder or below: of it, and of those above.
async fn lead_to(conn: &DatabaseTransaction, folder: FolderId) -> Result<()> {
    let backend = conn.get_database_backend();
    let values = || vec![folder.0.into()];
    if writes_alone(conn) {
        conn.execute_raw(statement(backend, LEAD, values())).await?;
        return Ok(());
    }
    // Held where they are, and so that nobody clears them meanwhile. Those that have moved while this waited for it are at
    // another place, which is looked for again.
    for _ in 0..MOST_LOOKS {
        let rows = conn.query_all_raw(statement(backend, HOLD, values())).await?;
        let held = rows.iter().map(Held::of).collect::<std::result::Result<HashMap<_, _>, DbErr>>()?;
        if !reaches_root(&held, folder) {
            continue;
        }
        if held.values().any(|held| !held.has_open) {
            conn.execute_raw(statement(backend, LEAD_IN_TURN, values())).await?;
        }
        return Ok(());
    }
    Err(Error::unavailable(
        "the folders above are being moved; try again later",
        "their places changed each time",
    ))
}

/// A folder that is held.
struct Held {
    parent: Option<Uuid>,
    has_open: bool,
}

impl Held {
    fn of(row: &QueryResult) -> std::result::Result<(Uuid, Self), DbErr> {
        let held = Self { parent: row.try_get_by_index(1)?, has_open: row.try_get_by_index(2)? };
        Ok((row.try_get_by_index(0)?, held))
    }
}

/// Whether those that are held are all from a folder up to the root.
fn reaches_root(held: &HashMap<Uuid, Held>, folder: FolderId) -> bool {
    let mut next = Some(folder.0);
    while let Some(id) = next {
        let Some(found) = held.get(&id) else { return false };
        next = found.parent;
    }
    true
}

/// Folders that one commit clears, at most.
const ROUND: u64 = 200;
const STALE: &str = "SELECT id, path FROM folders AS f WHERE f.has_open AND f.deletion_id IS NULL AND f.path >= $1 \
    AND NOT EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = f.id AND a.open AND a.deletion_id IS NULL) \
    AND NOT EXISTS (SELECT 1 FROM folders AS o WHERE o.parent_id = f.id AND o.has_open = TRUE AND o.deletion_id IS NULL) \
    ORDER BY path LIMIT $2";
/// Nothing for whoever shows something there at this moment.
const FREE: &str = "SELECT 1 FROM folders WHERE id = $1 AND deletion_id IS NULL FOR UPDATE SKIP LOCKED";
/// What is in the trash stays as it is: its folders went with it, and come back with it.
const CLEAR: &str = "UPDATE folders SET has_open = FALSE WHERE id = $1 AND has_open AND deletion_id IS NULL \
    AND NOT EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = folders.id AND a.open AND a.deletion_id IS NULL) \
    AND NOT EXISTS (SELECT 1 FROM folders AS o WHERE o.parent_id = folders.id AND o.has_open = TRUE \
        AND o.deletion_id IS NULL)";

/// Clears `has_open` of folders that lead to nothing shown any more: it does no harm, but costs a look each time. Not in
/// the commits that hide something: two servers that hold folders for it could wait for each other.
///
/// # Errors
/// What the database says.
pub async fn tidy(app: &App) -> Result<()> {
    let backend = app.read().get_database_backend();
    // From the bottom up, a level each time. Those that are left in the end are held by others at this moment.
    let mut cleared = 1;
    while cleared > 0 {
        cleared = 0;
        let mut from = String::new();
        loop {
            let stale = statement(backend, STALE, vec![from.as_str().into(), ROUND.into()]);
            let stale = app.read().query_all_raw(stale).await?;
            let Some(last) = stale.last() else { break };
            // No path has anything between it and this.
            from = last.try_get_by_index::<String>(1)? + "\u{1}";
            let ids = stale.iter().map(|row| row.try_get_by_index(0).map(FolderId));
            cleared += clear(app, ids.collect::<std::result::Result<_, DbErr>>()?).await?;
        }
    }
    Ok(())
}

/// Clears those that are free, and lead to nothing shown; answers with how many that were.
///
/// # Errors
/// What the database says.
pub async fn clear(app: &App, folders: Vec<FolderId>) -> Result<u64> {
    let system = Actor::system();
    let cleared = commit_alone(app, &system, move |edit| {
        Box::pin(async move {
            let (conn, mut cleared) = (edit.conn(), 0);
            let backend = conn.get_database_backend();
            for FolderId(id) in folders {
                let free = statement(backend, FREE, vec![id.into()]);
                if backend == DbBackend::Postgres && conn.query_one_raw(free).await?.is_none() {
                    continue;
                }
                let done = conn.execute_raw(statement(backend, CLEAR, vec![id.into()])).await?;
                cleared += done.rows_affected();
            }
            Ok(cleared)
        })
    });
    Ok(cleared.await?.value)
}
