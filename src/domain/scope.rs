//! What an actor sees of the library, decided here and nowhere else: all of it, or what is shown to strangers.
//!
//! An asset is *shown* while it is public, something of it is published, and it is not in the trash. Of a shown asset, each
//! version that was ever published is; of folders, the root and those with a shown asset in them or below. Who did
//! something, and what something was called before, strangers are not told.
//!
//! `assets.open` (public and published) and `folders.has_open` (one such is right in it, or was) keep that cheap: a folder
//! is looked for by indexes that have only these, however much else there is. The first is exact. The second is set in the
//! commit that shows an asset, and may be left standing; whoever asks looks at the assets themselves.

use std::sync::Arc;

use entity::asset::Visibility;
use entity::{Actor as Stamp, asset, folder, version};
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};

use super::Edit;
use super::actor::{Actor, Role};
use super::asset::Asset;
use super::error::Result;
use crate::app::Inline;

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
        (self == Self::Shown).then(|| Expr::cust(FOLDER))
    }
}

const VERSION_OF_ANY: &str = r#""versions"."published_at" IS NOT NULL AND EXISTS (
    SELECT 1 FROM assets AS a JOIN folders AS f ON f.id = a.folder_id
    WHERE a.id = "versions"."asset_id" AND a.open AND a.deletion_id IS NULL AND f.deletion_id IS NULL)"#;

/// Two probes of an index that has only folders with something open.
const FOLDER: &str = r#""folders"."deletion_id" IS NULL AND ("folders"."path" = ''
    OR EXISTS (SELECT 1 FROM assets AS a WHERE a.folder_id = "folders"."id" AND a.open AND a.deletion_id IS NULL)
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
    /// The folder in which it was shown.
    leaves: Option<entity::FolderId>,
    /// The folder in which it is shown.
    enters: Option<entity::FolderId>,
}

impl Turn {
    /// What a change means; none when nothing, as mostly.
    pub(super) fn of(before: &asset::Model, now: &asset::Model) -> Option<Self> {
        let shown_in =
            |row: &asset::Model| (is_open(row) && row.deletion_id.is_none()).then_some(row.folder_id);
        let (was, is) = (shown_in(before), shown_in(now));
        let open = (is_open(before) != is_open(now)).then(|| is_open(now));
        if was == is && open.is_none() {
            return None;
        }
        let moved = was != is;
        Some(Self { asset: now.id, open, leaves: was.filter(|_| moved), enters: is.filter(|_| moved) })
    }

    /// The statements that follow the change of the row, each with whether it takes the one after it along: where it finds
    /// nothing, that one is left out.
    fn statements(&self, backend: DbBackend) -> Vec<Step> {
        let postgres = backend == DbBackend::Postgres;
        let statement = |sql: &str, values: Vec<Value>| {
            // SQLite numbers parameters in the same way, by another sign.
            let sql = if postgres { sql.to_owned() } else { sql.replace('$', "?") };
            Statement::from_sql_and_values(backend, sql, values)
        };
        let mut steps = Vec::new();
        if let Some(open) = self.open {
            let values = vec![open.into(), self.asset.0.into()];
            steps.push(Step::Run(statement("UPDATE assets SET open = $1 WHERE id = $2", values)));
        }
        if let Some(folder) = self.leaves {
            let free = statement(FREE, vec![folder.0.into()]);
            let clear = statement(CLEAR, vec![folder.0.into()]);
            // Who shows something there holds the folder; then it is left as it is.
            steps.push(if postgres { Step::RunIfFound(free, clear) } else { Step::Run(clear) });
        }
        if let Some(folder) = self.enters {
            if postgres {
                // So that nobody clears it meanwhile.
                let held = "SELECT 1 FROM folders WHERE id = $1 FOR KEY SHARE";
                steps.push(Step::Run(statement(held, vec![folder.0.into()])));
            }
            let set = "UPDATE folders SET has_open = TRUE WHERE id = $1 AND NOT has_open";
            steps.push(Step::Run(statement(set, vec![folder.0.into()])));
        }
        steps
    }
}

const FREE: &str = "SELECT 1 FROM folders WHERE id = $1 FOR UPDATE SKIP LOCKED";
const CLEAR: &str = "UPDATE folders SET has_open = FALSE WHERE id = $1 AND has_open AND NOT EXISTS \
    (SELECT 1 FROM assets WHERE folder_id = folders.id AND open AND deletion_id IS NULL)";

enum Step {
    Run(Statement),
    /// The second, if the first finds something.
    RunIfFound(Statement, Statement),
}

/// Lets what strangers see follow a change, by statements of the pool.
pub(super) async fn turn(edit: Edit<'_>, turn: &Turn) -> Result<()> {
    for step in turn.statements(edit.conn().get_database_backend()) {
        match step {
            Step::Run(statement) => {
                edit.conn().execute_raw(statement).await?;
            }
            Step::RunIfFound(first, second) => {
                if edit.conn().query_one_raw(first).await?.is_some() {
                    edit.conn().execute_raw(second).await?;
                }
            }
        }
    }
    Ok(())
}

/// The same, on SQLite by statements that run on the thread that asks.
pub(super) fn turn_inline(inline: &Inline, turn: &Turn) -> Result<()> {
    for step in turn.statements(DbBackend::Sqlite) {
        let (Step::Run(statement) | Step::RunIfFound(_, statement)) = step;
        inline.write(&statement)?;
    }
    Ok(())
}

/// After many assets of a folder went to the trash by one statement.
pub(super) async fn left(edit: Edit<'_>, folder: entity::FolderId, any: entity::AssetId) -> Result<()> {
    turn(edit, &Turn { asset: any, open: None, leaves: Some(folder), enters: None }).await
}
